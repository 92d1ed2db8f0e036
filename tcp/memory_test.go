package tcp

import (
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/budget"
	"github.com/tapstack/tapstack/internal/seq"
)

// newShort is a path whose receiver has the budget b.
func newShort(t *testing.T, b *budget.Budget) (*path, *Conn) {
	p := newPath(t, 10*time.Millisecond, false, func(_, rcv *Config) { rcv.Memory = b })
	return p, p.a[1]
}

// text is a segment of n bytes for the receiver, off numbers beyond rcvNxt.
func (p *path) text(off, n int) *Segment {
	c := p.a[1]
	s := &Segment{SrcPort: 1, DstPort: 2, Seq: c.rcvNxt.Add(off), Ack: c.sndNxt, Flags: FlagACK, Window: 1000, Segs: 1}
	s.Options.HasTS, s.Options.TSVal = true, c.tsRecent
	s.Payload[0] = make([]byte, n)
	return s
}

// TestNoMemoryForText: text that cannot be stored is dropped with a reason, all
// but the first 4 KB; the peer is told to wait, without the promise being
// forgotten; and everything arrives once the application reads.
func TestNoMemoryForText(t *testing.T) {
	b := budget.New(64<<10, nil)
	p, c := newShort(t, b)
	edge := c.rcvAdv
	b.Charge(60 << 10)
	s := p.text(0, 20_000)
	if _, d := c.Input(p.now, s); d != DropMemory {
		t.Fatalf("dropped for %v", d)
	}
	acks := p.take(1)
	if n := len(acks); n != 1 || acks[0].Window != 0 || acks[0].Ack != s.Seq.Add(4096) {
		t.Fatalf("%d answers, first %v", n, acks[0].String())
	}
	if c.rcvAdv != edge {
		t.Error("the promise was forgotten")
	}
	// Again, as the peer would: the rest does not fit either.
	if _, d := c.Input(p.now, p.text(0, 5000)); d != DropMemory || c.Readable() != 4096 {
		t.Fatalf("%v, %d readable", d, c.Readable())
	}
	if acks = p.take(1); len(acks) != 1 || acks[0].Window != 0 {
		t.Fatalf("%d answers", len(acks))
	}
	// Reading half opens the window by as much, and says so at once.
	c.Read(p.buf[:3000])
	if acks = p.take(1); len(acks) != 1 || acks[0].Window == 0 {
		t.Fatalf("after Read: %d answers", len(acks))
	}
	if _, d := c.Input(p.now, p.text(0, 3000)); d != DropNone || c.Readable() != 4096 {
		t.Fatalf("into the room: %v, %d readable", d, c.Readable())
	}
	p.take(1)
	// When there is memory again all of it is taken.
	b.Return(60 << 10)
	if _, d := c.Input(p.now, p.text(0, 20_000)); d != DropNone || c.Readable() != 24_096 {
		t.Fatalf("with memory: %v, %d readable", d, c.Readable())
	}
	if c.Close(p.now); b.Used() != 0 {
		t.Errorf("%d charged to a closed connection", b.Used())
	}
}

// TestFinBehindRefusedText: the FIN is not taken before the text it ends.
func TestFinBehindRefusedText(t *testing.T) {
	b := budget.New(64<<10, nil)
	p, c := newShort(t, b)
	b.Charge(60 << 10)
	s := p.text(0, 6000)
	s.Flags |= FlagFIN
	if _, d := c.Input(p.now, s); d != DropMemory || c.EOF() || c.State() != Established {
		t.Fatalf("%v in %v", d, c.State())
	}
	c.Read(p.buf)
	p.take(1)
	if _, d := c.Input(p.now, p.text(0, 6000-4096)); d != DropNone || c.Readable() != 6000-4096 || c.State() != CloseWait {
		t.Errorf("%v, %d readable in %v", d, c.Readable(), c.State())
	}
}

// TestOutOfOrderTextGoesFirst: when memory is short, text beyond a hole is not
// stored if that takes memory, and what was stored is given up; text in order
// still is.
func TestOutOfOrderTextGoesFirst(t *testing.T) {
	b := budget.New(1<<20, nil)
	p, c := newShort(t, b)
	c.Input(p.now, p.text(0, 100))
	c.Input(p.now, p.text(30_000, 1000))
	p.take(1)
	if c.rcv.Cap() != 32<<10 {
		t.Fatalf("%d bytes of memory", c.rcv.Cap())
	}
	b.Charge(800 << 10) // pressure
	if _, d := c.Input(p.now, p.text(40_000, 1000)); d != DropMemory {
		t.Errorf("far text: %v", d)
	}
	if acks := p.take(1); len(acks) != 1 || acks[0].Options.NumSACK != 1 || acks[0].Window == 0 {
		t.Errorf("answer to far text: %v", acks)
	}
	if _, d := c.Input(p.now, p.text(20_000, 1000)); d != DropNone {
		t.Errorf("text that costs nothing: %v", d)
	}
	edge := c.rcvAdv
	c.Relieve()
	if c.rcv.Cap() != 4<<10 || c.ooo.bytes() != 0 || c.Readable() != 100 || c.rcvAdv != edge {
		t.Errorf("relieved: %d bytes of memory, %d out of order, %d readable", c.rcv.Cap(), c.ooo.bytes(), c.Readable())
	}
	if err := c.invariants(); err != nil {
		t.Error(err)
	}
	if _, d := c.Input(p.now, p.text(0, 31_000)); d != DropNone || c.Readable() != 31_100 {
		t.Errorf("in order: %v, %d readable", d, c.Readable())
	}
	// Text out of order whose memory is needed anyway is kept.
	c.Input(p.now, p.text(100, 100))
	if c.Relieve(); c.ooo.bytes() != 100 {
		t.Error("dropped although that gains nothing")
	}
}

// TestWindowNarrowsAndGrowsAgain: under pressure the window goes back to its
// first size without moving its edge left, and a lagging reader is offered less
// still; afterwards it grows as before.
func TestWindowNarrowsAndGrowsAgain(t *testing.T) {
	b := budget.New(256<<20, nil)
	p, c := newShort(t, b)
	for range 9 {
		p.round()
	}
	if n := c.Info().RcvBuf; n < 4<<20 {
		t.Fatalf("buffer of %d", n)
	}
	b.Charge(200 << 20)
	edge := c.rcvAdv
	var seen seq.Num
	for k := range 300 {
		p.fill()
		p.there(k > 200)
		for _, s := range p.acks {
			if at := s.Ack.Add(int(s.Window) << c.rcvWScale); seen.Sub(at) >= 1<<c.rcvWScale && seen != 0 {
				t.Fatal("the right edge moved left")
			} else {
				seen = at
			}
		}
		p.back()
		if k == 200 {
			// Nobody has read: a few segments at a time until it was full.
			if i := c.Info(); i.Unread > edge.Sub(c.irs) || i.RcvWnd > 4*1460 {
				t.Errorf("unread %d, window %d", i.Unread, i.RcvWnd)
			}
			c.Relieve() // as the stack does
			for c.Readable() > 0 {
				p.read()
			}
		}
	}
	if i := c.Info(); i.RcvBuf != 65408 || i.RcvWnd > 64<<10 {
		t.Errorf("under pressure: buffer %d, window %d", i.RcvBuf, i.RcvWnd)
	}
	b.Return(200 << 20)
	for range 10 {
		p.round()
	}
	if n := c.Info().RcvBuf; n < 4<<20 {
		t.Errorf("afterwards: buffer of %d", n)
	}
}

// TestWriterWithoutMemory: what Write cannot store it does not take, Writable
// says so, and the writer is told when there is room.
func TestWriterWithoutMemory(t *testing.T) {
	b := budget.New(64<<10, nil)
	p := newPath(t, 10*time.Millisecond, false, func(snd, _ *Config) { snd.Memory = b })
	c := p.a[0]
	b.Charge(60 << 10)
	if n, err := c.Write(p.buf); n != 4096 || err != nil || c.Writable() != 0 {
		t.Fatalf("wrote %d, %v; %d writable", n, err, c.Writable())
	}
	if n, err := c.Write(p.buf); n != 0 || err == nil {
		t.Fatalf("wrote %d more, %v", n, err)
	}
	p.there(true)
	if ev := p.back(); ev&EvWritable == 0 || c.Writable() == 0 {
		t.Errorf("events %b, %d writable", ev, c.Writable())
	}
	if c.snd.Cap() != 0 {
		t.Error("an empty buffer keeps memory that is short")
	}
	b.Return(60 << 10)
	if n, _ := c.Write(p.buf); n < 32<<10 {
		t.Errorf("with memory: wrote %d", n)
	}
}

// TestListsAreCharged: ranges out of order and in flight, whose number the peer
// decides, count and are bounded.
func TestListsAreCharged(t *testing.T) {
	b := budget.New(256<<20, nil)
	p := newPath(t, 10*time.Millisecond, false, func(snd, rcv *Config) {
		snd.Memory, rcv.Memory, snd.SndInit = b, b, 1<<20
	})
	c := p.a[1]
	for k := range 2 * maxRanges {
		c.Input(p.now, p.text(2+2*k, 1))
		p.take(1)
	}
	const other = int64(flightSize) // the peer's
	n := b.Used() - int64(c.rcv.Cap()) - other
	if n < other+maxRanges*oooRangeSize || n > other+2*maxRanges*oooRangeSize || int64(c.lists) != n {
		t.Errorf("%d bytes charged for ranges out of order", n)
	}
	c.Close(p.now)
	if n := b.Used() - 2*other; n != 0 { // its FIN is to be sent
		t.Errorf("%d charged after Close", n)
	}
	b = budget.New(256<<20, nil)
	// A peer that has every other byte, and then a new first one each time.
	p = newPath(t, 10*time.Millisecond, false, func(snd, _ *Config) { snd.Memory = b })
	c = p.a[0]
	c.Write(p.buf)
	p.there(false)
	most := 0
	for k := range 3 * maxSplitRanges {
		at := c.sndUna.Add(1 + 2*k)
		if !at.Add(1).LessEq(c.sndNxt) {
			break
		}
		s := Segment{SrcPort: 2, DstPort: 1, Seq: c.rcvNxt, Ack: c.sndUna, Flags: FlagACK, Window: 500}
		s.Options.HasTS, s.Options.TSVal = true, c.tsRecent
		s.Options.SACK[0], s.Options.NumSACK = SACKBlock{at, at.Add(1)}, 1
		if k%5 == 4 {
			s.Ack++
		}
		c.Input(p.now, &s)
		p.take(0)
		most = max(most, c.board.count())
		if err := c.invariants(); err != nil {
			t.Fatal(err)
		}
	}
	n = other + int64(cap(c.board.buf)*sentRangeSize)
	t.Logf("%d ranges at most, %d bytes", most, n)
	if most < maxSplitRanges || n > 256<<10 || n+int64(c.snd.Cap()) != b.Used() {
		t.Errorf("%d ranges, %d bytes, %d charged", most, n, b.Used())
	}
}

// TestBothEndsWithoutMemory: two ends that refuse each other's text do not also
// refuse each other's acknowledgements.
func TestBothEndsWithoutMemory(t *testing.T) {
	b := budget.New(64<<10, nil)
	p := newPath(t, 10*time.Millisecond, false, func(snd, rcv *Config) { snd.Memory, rcv.Memory = b, b })
	var got, wrote [2]int
	for i, c := range p.a {
		wrote[i], _ = c.Write(p.buf[:60_000])
	}
	b.Charge(60 << 10)
	for range 4000 {
		for i, c := range p.a {
			for _, s := range p.take(i) {
				if s.Window == 0 && c.sndUna != c.sndNxt && c.starved {
					t.Fatal("a window was shrunk with text in flight")
				}
				p.a[1-i].Input(p.now, &s)
			}
		}
		p.now = p.now.Add(5 * time.Millisecond)
		for i, c := range p.a {
			c.Expire(p.now)
			n, _ := c.Read(p.buf[:1000])
			got[1-i] += n
		}
	}
	if got != wrote || wrote[0] < 30_000 {
		t.Errorf("%d of %d bytes arrived", got, wrote)
	}
}
