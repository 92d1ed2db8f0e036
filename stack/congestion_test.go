package stack_test

import (
	"math"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp/cc"
)

// bulkNet is two hosts and flows from a to b that send as fast as they may. The
// line of a is what they share.
type bulkNet struct {
	*pair
	flows []*bulkFlow
	sink  map[uint16]*bulkFlow // by the sender's port
}

type bulkFlow struct {
	conn *stack.TCPConn
	got  int
	mark int // got when measuring began
	// The longest time without news, since measuring began.
	last    mono.Time
	longest time.Duration
}

const bulkMSS = 1448

func newBulkNet(t *testing.T, seed uint64, o wire.Options) *bulkNet {
	if raceEnabled {
		t.Skip("all of it is one goroutine")
	}
	n := &bulkNet{sink: make(map[uint16]*bulkFlow)}
	n.pair = newPairOf(t, seed, stack.Config{Limits: stack.Limits{TCPReceive: 16 << 20, TCPSend: 16 << 20}}, o)
	l, err := n.b.BindTCP(addrPort("10.77.0.2:9"), false, false)
	if err != nil {
		t.Fatal(err)
	}
	l.Listen(100)
	buf := make([]byte, 1<<18)
	onReady(l.Waiters(), stack.ReadyIn, func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			onReady(c.Waiters(), stack.ReadyIn, func() {
				for {
					k, err := c.Read(buf)
					if f := n.sink[c.RemoteAddr().Port()]; f != nil && k > 0 {
						f.got += k
						f.longest = max(f.longest, n.net.Now().Sub(f.last))
						f.last = n.net.Now()
					}
					if err != nil {
						return
					}
				}
			})
		}
	})
	return n
}

// start begins a flow with the congestion control of that name.
func (n *bulkNet) start(name string) *bulkFlow {
	n.t.Helper()
	c, err := n.a.DialTCP(addrPort("0.0.0.0:0"), addrPort("10.77.0.2:9"))
	if err == nil {
		err = c.SetCongestion(name)
	}
	if err != nil {
		n.t.Fatal(err)
	}
	f := &bulkFlow{conn: c}
	n.flows = append(n.flows, f)
	n.sink[c.LocalAddr().Port()] = f
	data := make([]byte, 1<<17)
	onReady(c.Waiters(), stack.ReadyOut, func() {
		for {
			if _, err := c.Write(data); err != nil {
				return
			}
		}
	})
	return f
}

// measure lets d go by and returns each flow's goodput in bytes per second.
func (n *bulkNet) measure(d time.Duration) (rates []float64) {
	for _, f := range n.flows {
		f.mark, f.longest, f.last = f.got, 0, n.net.Now()
	}
	n.net.RunFor(d)
	for _, f := range n.flows {
		rates = append(rates, float64(f.got-f.mark)/d.Seconds())
	}
	return rates
}

func (n *bulkNet) stop() {
	for _, f := range n.flows {
		f.conn.Abort()
	}
	n.net.RunFor(time.Second)
}

// line is a link of some rate in Mbit/s and round trip, with a buffer of so many
// of its bandwidth-delay products.
func line(mbit float64, rtt time.Duration, buffers, loss float64) wire.Options {
	bdp := mbit * 1e6 / 8 * rtt.Seconds()
	return wire.Options{Rate: int64(mbit * 1e6), Delay: rtt / 2, Queue: max(int(bdp*buffers/1514), 4), Loss: loss}
}

// payload is what part of a line's rate is payload.
func payload(mbit float64) float64 { return mbit * 1e6 / 8 * bulkMSS / 1514 }

// An undisturbed flow fills its line, whatever its congestion control.
func TestBulkFillsTheLine(t *testing.T) {
	for _, name := range cc.Names() {
		for _, c := range []struct {
			mbit    float64
			rtt     time.Duration
			buffers float64
			want    float64
			time    time.Duration
		}{
			{1000, 2 * time.Millisecond, 1, 0.93, 200 * time.Millisecond},
			{100, 40 * time.Millisecond, 1, 0.93, 1500 * time.Millisecond},
			{50, 100 * time.Millisecond, 0.25, 0.65, 3 * time.Second},
			{10, 20 * time.Millisecond, 1, 0.93, 4 * time.Second},
			{1, 100 * time.Millisecond, 4, 0.9, 20 * time.Second},
		} {
			n := newBulkNet(t, 3, line(c.mbit, c.rtt, c.buffers, 0))
			f := n.start(name)
			n.net.RunFor(c.time)
			share := n.measure(c.time)[0] / payload(c.mbit)
			i := f.conn.Info()
			// Where the first window alone takes longer than the time-out, one is
			// too early.
			if share < c.want || share > 1.03 || i.Timeouts > 1 || i.Timeouts > 0 && c.mbit > 1 {
				t.Errorf("%s, %v Mbit/s, %v, %v buffers: %.3f of the rate, %+v", name, c.mbit, c.rtt, c.buffers, share, i)
			}
			t.Logf("%s, %v Mbit/s, %v, %v buffers: %.3f, %d sent again", name, c.mbit, c.rtt, c.buffers, share, i.Retransmits)
			n.stop()
		}
	}
}

// Two flows of CUBIC that begin one after the other come to share the line.
func TestFairness(t *testing.T) {
	for _, c := range []struct {
		a, b string
		low  float64 // of the second flow's share
		high float64
	}{
		{"cubic", "cubic", 0.3, 0.7},
		{"reno", "reno", 0.3, 0.7},
		{"bbr", "bbr", 0.3, 0.7},
		// RFC 9438 §4.3 and §5.1: on a short path CUBIC is as Reno.
		{"cubic", "reno", 0.3, 0.7},
	} {
		n := newBulkNet(t, 11, line(10, 40*time.Millisecond, 1, 0))
		n.start(c.a)
		n.net.RunFor(5 * time.Second)
		n.start(c.b)
		n.net.RunFor(15 * time.Second)
		r := n.measure(40 * time.Second)
		if sum := (r[0] + r[1]) / payload(10); sum < 0.9 {
			t.Errorf("%s and %s: together %.2f of the line", c.a, c.b, sum)
		}
		share := r[1] / (r[0] + r[1])
		if share < c.low || share > c.high {
			t.Errorf("%s and %s: the second has %.2f", c.a, c.b, share)
		}
		t.Logf("%s and %s: the second has %.2f", c.a, c.b, share)
		n.stop()
	}
}

// RFC 9406: slow start ends by the round trip, before the buffer overflows, where
// there is a buffer to overflow slowly; and without it it does not.
func TestHyStartOnALine(t *testing.T) {
	for _, name := range []string{"reno", "cubic"} {
		n := newBulkNet(t, 3, line(50, 40*time.Millisecond, 12, 0))
		f := n.start(name)
		n.net.Until(3*time.Second, func() bool { return f.conn.Info().Ssthresh < cc.MaxWindow })
		i := f.conn.Info()
		if i.Ssthresh == cc.MaxWindow || i.Retransmits > 0 {
			t.Errorf("%s: threshold %d, %d segments sent again", name, i.Ssthresh, i.Retransmits)
		}
		n.net.RunFor(2 * time.Second)
		if i := f.conn.Info(); i.Retransmits > 0 || i.Cwnd < 50e6/8*4/100 {
			t.Errorf("%s: window %d, %d segments sent again", name, i.Cwnd, i.Retransmits)
		}
		n.stop()
	}
}

// One segment in a hundred lost at random, 40 ms away: Reno and CUBIC, which is
// in its Reno-friendly region there, reach what equation 3 of RFC 9438 §4.3
// allows; BBR fills most of the line with a buffer of one pipe.
func TestBulkWithLoss(t *testing.T) {
	const p, rtt = 0.01, 40 * time.Millisecond
	model := math.Sqrt(1.5/p) * bulkMSS / rtt.Seconds()
	for _, c := range []struct {
		name string
		want float64
	}{
		// A round trip of each cycle of eight is spent on the recovery.
		{"reno", 0.85 * model}, {"cubic", 1.0 * model},
	} {
		sum, longest := 0.0, time.Duration(0)
		for seed := range uint64(3) {
			n := newBulkNet(t, seed+1, wire.Options{Delay: rtt / 2, Loss: p})
			f := n.start(c.name)
			n.net.RunFor(2 * time.Second)
			sum += n.measure(40 * time.Second)[0] / 3
			longest = max(longest, f.longest)
			if i := f.conn.Info(); i.Timeouts > 2 {
				t.Errorf("%s: %d time-outs for %d losses", c.name, i.Timeouts, i.FastRetransmits)
			}
			n.stop()
		}
		if sum < c.want || sum > 1.4*model {
			t.Errorf("%s: %.0f kB/s, the model has %.0f", c.name, sum/1e3, model/1e3)
		}
		t.Logf("%s: %.0f kB/s, the model has %.0f; longest standstill %v", c.name, sum/1e3, model/1e3, longest)
	}
	n := newBulkNet(t, 1, line(100, rtt, 1, p))
	f := n.start("bbr")
	n.net.RunFor(2 * time.Second)
	share := n.measure(6 * time.Second)[0] / payload(100)
	if share < 0.72 {
		t.Errorf("BBR: %.2f of the line", share)
	}
	t.Logf("BBR: %.2f of the line, %+v", share, f.conn.Info())
	n.stop()
}

// BBR keeps queues short where CUBIC fills them, and looks at the round trip
// every five seconds.
func TestBBROnALine(t *testing.T) {
	n := newBulkNet(t, 5, line(100, 40*time.Millisecond, 4, 0))
	f := n.start("bbr")
	n.net.RunFor(5 * time.Second)
	worst, sum, low, probes := time.Duration(0), time.Duration(0), false, 0
	for range 1200 { // 12 s
		n.net.RunFor(10 * time.Millisecond)
		i := f.conn.Info()
		worst = max(worst, i.RTT)
		sum += i.RTT
		if now := i.Cwnd < 100e6/8*4/100*3/4; now != low {
			if low = now; low {
				probes++
			}
		}
	}
	if mean := sum / 1200; mean > 48*time.Millisecond || worst > 80*time.Millisecond { // at the end of UP, for a moment
		t.Errorf("round trip %v, up to %v on a path of 40 ms", mean, worst)
	}
	if probes < 2 || probes > 3 {
		t.Errorf("%d times in ProbeRTT in 12 s", probes)
	}
	i := f.conn.Info()
	if r := float64(i.DeliveryRate); r < 0.95*payload(100) || r > 1.05*payload(100) {
		t.Errorf("delivery rate %.0f, the line has %.0f", r, payload(100))
	}
	if i.Retransmits > 300 { // Startup's
		t.Errorf("%d segments sent again", i.Retransmits)
	}
	n.stop()
}

// What a paced flow sends over a wire with segmentation offload are super-frames
// of about a millisecond, and it keeps its rate.
func TestPacedSuperFrames(t *testing.T) {
	o := wire.Options{Delay: 10 * time.Millisecond, GSO: true, Rate: 1e9}
	frames, large := 0, 0
	o.Drop = func(f []byte) bool {
		if len(f) > 200 {
			frames++
			if len(f) > 10*bulkMSS {
				large++
			}
		}
		return false
	}
	n := newBulkNet(t, 7, o)
	f := n.start("bbr")
	n.net.RunFor(time.Second)
	frames, large = 0, 0
	share := n.measure(2 * time.Second)[0] / 125e6
	if share < 0.9 {
		t.Errorf("%.2f of the line, %+v", share, f.conn.Info())
	}
	if frames > 2*2500 || large < frames*9/10 {
		t.Errorf("%d frames, %d of them large", frames, large)
	}
	t.Logf("%.3f of the line in %d frames, %d large", share, frames, large)
	n.stop()
}

// The choice of a listener goes to the connections it accepts, that of the stack
// to all others, and each connection can change its own.
func TestChoiceOfCongestion(t *testing.T) {
	reno, _ := cc.ByName("reno")
	p := newPairOf(t, 1, stack.Config{TCP: stack.TCPConfig{NewController: reno}}, wire.Options{})
	if got := p.a.Congestion(); got != "reno" {
		t.Errorf("the stack's is %s", got)
	}
	l, err := p.b.BindTCP(addrPort("10.77.0.2:80"), false, false)
	if err != nil {
		t.Fatal(err)
	}
	l.Listen(5)
	if err := l.SetCongestion("vegas"); err != syscall.ENOENT {
		t.Errorf("vegas: %v", err)
	}
	connect := func() (c, s *stack.TCPConn) {
		c, err := p.a.DialTCP(addrPort("0.0.0.0:0"), addrPort("10.77.0.2:80"))
		if err != nil {
			t.Fatal(err)
		}
		p.net.Until(time.Second, func() bool { s, err = l.Accept(); return err == nil })
		if s == nil {
			t.Fatal("not accepted")
		}
		return c, s
	}
	c, s := connect()
	if c.Congestion() != "reno" || s.Congestion() != "reno" || l.Congestion() != "reno" {
		t.Errorf("%s and %s by default", c.Congestion(), s.Congestion())
	}
	if err := l.SetCongestion("bbr"); err != nil || l.Congestion() != "bbr" {
		t.Errorf("%v, %s", err, l.Congestion())
	}
	c2, s2 := connect()
	if c2.Congestion() != "reno" || s2.Congestion() != "bbr" || s.Congestion() != "reno" {
		t.Errorf("%s, %s and %s", c2.Congestion(), s2.Congestion(), s.Congestion())
	}
	if err := c2.SetCongestion("cubic"); err != nil || c2.Congestion() != "cubic" {
		t.Errorf("%v, %s", err, c2.Congestion())
	}
	if err := c2.SetCongestion(""); err != syscall.ENOENT {
		t.Errorf("no name: %v", err)
	}
	for _, x := range []*stack.TCPConn{c, s, c2, s2} {
		x.Abort()
	}
	l.Close()
	p.net.RunFor(time.Second)
	if s := stack.New(stack.Config{}); s.Congestion() != cc.Default {
		t.Errorf("without a choice it is %s", s.Congestion())
	} else {
		s.Close()
	}
}
