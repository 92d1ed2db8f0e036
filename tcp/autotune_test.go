package tcp

import (
	"fmt"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// path is two cores, a[0] the sender, with half a round trip between them.
type path struct {
	*pair
	rtt   time.Duration
	noTS  bool // a box on the way takes the offer of timestamps out
	queue bool // what arrives stands in the receiver's device first
	buf   []byte
	acks  []Segment // of the receiver, on their way
}

// newPath connects two cores; both begin with the default buffers.
func newPath(t *testing.T, rtt time.Duration, noTS bool, change func(snd, rcv *Config)) *path {
	t.Helper()
	p := &path{pair: &pair{now: mono.Time(time.Second)}, rtt: rtt, noTS: noTS, buf: make([]byte, 1<<20)}
	snd := &Config{LocalPort: 1, RemotePort: 2, MSS: 1460, RcvBuf: 6 << 20, SndBuf: 8 << 20}
	rcv := &Config{LocalPort: 2, RemotePort: 1, MSS: 1460, RcvBuf: 6 << 20, SndBuf: 8 << 20, ISS: 1 << 31}
	if change != nil {
		change(snd, rcv)
	}
	var s Segment
	c := NewActive(snd, p.now)
	c.Output(p.now, &s, 0)
	s.Options.HasTS = s.Options.HasTS && !noTS
	p.now = p.now.Add(rtt / 2)
	r := NewSynRequest(rcv, p.now, &s)
	r.Output(p.now, &s)
	p.now = p.now.Add(rtt / 2)
	c.Input(p.now, &s)
	c.Output(p.now, &s, 0)
	if v, _ := r.Input(p.now, &s); v != VerdictEstablish {
		t.Fatal("not established")
	}
	p.a[0], p.a[1] = c, r.Conn(rcv, p.now)
	p.a[1].Input(p.now, &s)
	return p
}

// take returns what end i has to send.
func (p *path) take(i int) (list []Segment) {
	for {
		var s Segment
		if !p.a[i].Output(p.now, &s, 16*1448) {
			return list
		}
		text := append(append([]byte(nil), s.Payload[0]...), s.Payload[1]...)
		s.Payload = [2][]byte{text, nil}
		s.Segs = segments(len(text), max(s.SegSize, 1))
		list = append(list, s)
	}
}

// there moves the sender's text to the receiver, who answers each frame, and
// returns how many bytes it was.
func (p *path) there(read bool) (n int) {
	flying := p.take(0)
	p.now = p.now.Add(p.rtt / 2)
	for k := range flying {
		n += flying[k].PayloadLen()
		if !p.queue {
			p.a[1].QueueDry()
		}
		p.a[1].Input(p.now, &flying[k])
		p.acks = append(p.acks, p.take(1)...)
		for read && p.a[1].Readable() > 0 {
			p.read()
		}
	}
	return n
}

// back moves the answers to the sender, and returns what they brought about.
func (p *path) back() (ev Events) {
	flying := append(p.acks, p.take(1)...)
	p.acks = nil
	p.now = p.now.Add(p.rtt / 2)
	for k := range flying {
		e, _ := p.a[0].Input(p.now, &flying[k])
		ev |= e
	}
	return ev
}

func (p *path) read() { p.a[1].Read(p.buf) }

// fill writes all that fits.
func (p *path) fill() {
	for {
		if n, _ := p.a[0].Write(p.buf); n == 0 {
			return
		}
	}
}

// round is one round trip of a writer and a reader who both do all they can.
func (p *path) round() int {
	p.fill()
	n := p.there(true)
	p.back()
	return n
}

// TestReceiveBufferGrows: with what is read in a round trip, ahead of a sender
// in slow start, up to the limit; the scale of the window allows for that from
// the beginning. The send buffer keeps pace with the congestion window.
func TestReceiveBufferGrows(t *testing.T) {
	for _, rtt := range []time.Duration{2 * time.Millisecond, 100 * time.Millisecond} {
		for _, noTS := range []bool{false, true} {
			t.Run(fmt.Sprint(rtt, " without timestamps: ", noTS), func(t *testing.T) {
				p := newPath(t, rtt, noTS, nil)
				first := p.a[1].Info()
				if first.RcvBuf > 64<<10 || first.RcvWScale != 7 || first.RcvWnd > 64<<10 || first.Timestamps == noTS {
					t.Fatalf("at first: %+v", first)
				}
				last, held := 0, 0
				for k := range 11 {
					n := p.round()
					snd, rcv := p.a[0].Info(), p.a[1].Info()
					t.Logf("round %2d: %7d bytes; cwnd %7d, buffer %7d; window %7d of %7d, round trip %v", k, n, snd.Cwnd, snd.SndBuf, rcv.RcvWnd, rcv.RcvBuf, rcv.RcvRTT)
					if k > 0 && n < 2*last*9/10 && n < 6<<20*9/10 {
						held++
					}
					if rcv.RcvBuf > 6<<20 || snd.SndBuf > 8<<20 {
						t.Fatalf("beyond the limits: %d, %d", rcv.RcvBuf, snd.SndBuf)
					}
					last = n
				}
				// Without timestamps the round trip is not known until the
				// first window is full.
				if held > 2 || held > 0 && !noTS {
					t.Errorf("the sender was held back in %d rounds", held)
				}
				i := p.a[1].Info()
				if i.RcvBuf != 6<<20 {
					t.Errorf("buffer of %d at the end", i.RcvBuf)
				}
				if d := i.RcvRTT - rtt; d < 0 || d > rtt/10+time.Millisecond {
					t.Errorf("round trip of %v measured as %v", rtt, i.RcvRTT)
				}
			})
		}
	}
}

// TestStandingQueue: the window is not widened beyond enoughWindow while half
// of a round trip's text stands in the receiver's own queue, and again when it no longer does.
func TestStandingQueue(t *testing.T) {
	p := newPath(t, 2*time.Millisecond, false, nil)
	p.queue = true
	for range 12 {
		p.a[1].QueueDry()
		p.round()
	}
	if n := p.a[1].Info().RcvBuf; n != enoughWindow {
		t.Errorf("buffer of %d with a standing queue", n)
	}
	p.queue = false
	for range 8 {
		p.round()
	}
	if n := p.a[1].Info().RcvBuf; n != 6<<20 {
		t.Errorf("buffer of %d without", n)
	}
}

// TestReceiveSpace: TCP_INFO tells what is read in a round trip, also once the
// buffer has grown to its limit.
func TestReceiveSpace(t *testing.T) {
	p := newPath(t, 10*time.Millisecond, false, nil)
	n := 0
	for range 40 {
		n = p.round()
	}
	if i := p.a[1].Info(); i.RcvBuf != 6<<20 || i.RcvSpace < n/2 {
		t.Errorf("a buffer of %d, %d of %d bytes read in a round trip", i.RcvBuf, i.RcvSpace, n)
	}
}

// TestReaderWhoDoesNotRead gets no more than the first window.
func TestReaderWhoDoesNotRead(t *testing.T) {
	p := newPath(t, 10*time.Millisecond, false, nil)
	p.a[0].Write(p.buf)
	for range 20 {
		p.there(false)
		p.back()
	}
	i := p.a[1].Info()
	if i.Unread < 60<<10 || i.Unread > 64<<10 || i.RcvWnd > i.RcvBuf-i.Unread+128 || p.a[1].rcv.Cap() > 64<<10 {
		t.Errorf("%d unread in %d bytes of memory, window %d", i.Unread, p.a[1].rcv.Cap(), i.RcvWnd)
	}
}

// TestFarEdge: one byte at the end of a new connection's window costs as much
// as the window, and what lies beyond costs nothing.
func TestFarEdge(t *testing.T) {
	p := newPath(t, 10*time.Millisecond, false, nil)
	c := p.a[1]
	byteAt := func(off int) Drop {
		s := Segment{SrcPort: 1, DstPort: 2, Seq: c.rcvNxt.Add(off), Ack: c.sndNxt, Flags: FlagACK, Window: 1000, Segs: 1}
		s.Options.HasTS, s.Options.TSVal = true, c.tsRecent
		s.Payload[0] = []byte("x")
		_, d := c.Input(p.now, &s)
		for c.Output(p.now, &s, 0) {
		}
		return d
	}
	byteAt(0)
	byteAt(0) // unread, so that the window has moved on
	edge := c.rcvAdv.Sub(c.rcvNxt)
	if d := byteAt(edge - 1); d != DropNone || c.ooo.bytes() != 1 {
		t.Fatalf("at the edge: %v", d)
	}
	for _, off := range []int{edge, 1 << 20, 6<<20 - 1} {
		if d := byteAt(off); d != DropOutOfWindow {
			t.Errorf("%d bytes on: %v", off, d)
		}
	}
	if n := c.rcv.Cap(); n != 64<<10 {
		t.Errorf("%d bytes of memory for a window of %d", n, edge)
	}
}

// TestExplicitBuffers: a size that was set stays, within the limits, and what
// the peer was promised is kept.
func TestExplicitBuffers(t *testing.T) {
	p := newPath(t, 10*time.Millisecond, false, nil)
	snd, rcv := p.a[0], p.a[1]
	snd.SetKnob(p.now, KnobSndBuf, 100_000)
	rcv.SetKnob(p.now, KnobRcvBuf, 50_000)
	edge := rcv.rcvAdv
	for range 10 {
		p.round()
		if edge.Sub(rcv.rcvAdv) > 0 {
			t.Fatal("the right edge moved left")
		}
		edge = rcv.rcvAdv
	}
	if s, r := snd.Info(), rcv.Info(); s.SndBuf != 100_000 || r.RcvBuf != 50_000 || r.RcvWnd > 50_000+128 {
		t.Errorf("send buffer %d, receive buffer %d, window %d", s.SndBuf, r.RcvBuf, r.RcvWnd)
	}
	for _, c := range []struct{ set, snd, rcv int }{{0, 2304, 1152}, {5000, 5000, 5000}, {1 << 30, 8 << 20, 6 << 20}, {-1, 8 << 20, 6 << 20}} {
		snd.SetKnob(p.now, KnobSndBuf, c.set)
		rcv.SetKnob(p.now, KnobRcvBuf, c.set)
		if s, r := snd.Info().SndBuf, rcv.Info().RcvBuf; s != c.snd || r != c.rcv || snd.Knob(KnobSndBuf) != 2*s || rcv.Knob(KnobRcvBuf) != 2*r {
			t.Errorf("set %d: %d and %d, want %d and %d", c.set, s, r, c.snd, c.rcv)
		}
	}
	// A larger one is offered at once.
	p.back()
	if w := snd.Info().SndWnd; w < 6<<20-1460 {
		t.Errorf("window of %d after KnobRcvBuf", w)
	}
	// With more in it than it may hold it takes nothing, and then goes on.
	snd.Write(make([]byte, 20_000))
	if snd.SetKnob(p.now, KnobSndBuf, 5000); snd.Writable() != 0 {
		t.Errorf("%d writable", snd.Writable())
	}
	for range 3 {
		p.there(true)
		p.back()
	}
	if snd.Writable() != 5000 {
		t.Errorf("%d writable when all is acknowledged", snd.Writable())
	}
}

// TestSendBufferWaitsForTheWindow: a writer who finds the buffer full is told
// when the congestion window, and with it the buffer, has grown.
func TestSendBufferWaitsForTheWindow(t *testing.T) {
	p := newPath(t, 10*time.Millisecond, false, func(snd, _ *Config) { snd.SndInit = 20_000 })
	c := p.a[0]
	if n, err := c.Write(p.buf); n != 20_000 || err != nil {
		t.Fatalf("wrote %d, %v", n, err)
	}
	if n, _ := c.Write(p.buf); n != 0 {
		t.Fatalf("wrote %d more", n)
	}
	p.there(true)
	ev := p.back()
	if i := c.Info(); ev&EvWritable == 0 || i.SndBuf > 2*i.Cwnd || i.SndBuf <= 20_000 {
		t.Errorf("events %b, buffer %d, cwnd %d", ev, i.SndBuf, i.Cwnd)
	}
	// One that never fills the buffer has no use for a larger one.
	p = newPath(t, 10*time.Millisecond, false, func(snd, _ *Config) { snd.SndInit = 20_000 })
	for range 10 {
		p.a[0].Write(p.buf[:10_000])
		p.there(true)
		p.back()
	}
	if n := p.a[0].Info().SndBuf; n != 20_000 {
		t.Errorf("buffer of %d for writes of 10000", n)
	}
}
