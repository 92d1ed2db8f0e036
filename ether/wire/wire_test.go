package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/pkt"
)

func TestMain(m *testing.M) {
	status := m.Run()
	if n := pkt.Live(); n != 0 && status == 0 {
		fmt.Printf("%d buffers leaked\n", n)
		status = 1
	}
	os.Exit(status)
}

// clock is virtual time for one owner.
type clock struct {
	now mono.Time
	t   mono.Time
	f   func()
}

func newClock() *clock { return &clock{now: mono.Time(time.Second)} }

func (c *clock) Now() mono.Time                 { return c.now }
func (c *clock) Wake(t mono.Time, f func())     { c.t, c.f = t, f }
func (c *clock) since() time.Duration           { return c.now.Sub(mono.Time(time.Second)) }
func (c *clock) advance(d time.Duration) *clock { return c.runTo(c.now.Add(d)) }

func (c *clock) runTo(end mono.Time) *clock {
	for c.t != 0 && c.t <= end {
		c.now = max(c.now, c.t)
		f := c.f
		c.t = 0
		f()
	}
	c.now = end
	return c
}

func mac(i int) ether.Addr { return ether.Addr{2, 0, 0, 0, byte(i >> 8), byte(i)} }

// frame carries its number behind the header.
func frame(dst, src ether.Addr, n, size int) *pkt.Buf {
	b := pkt.Get(size)
	f := b.Append(size)
	clear(f)
	ether.Put(f, dst, src, 0x88b5)
	binary.BigEndian.PutUint32(f[14:], uint32(n))
	return b
}

func number(b *pkt.Buf) int { return int(binary.BigEndian.Uint32(b.Bytes()[14:])) }

type arrival struct {
	at     time.Duration
	number int
}

func (a arrival) String() string { return fmt.Sprint(a.at, ":", a.number) }

// pair is two ports of a segment in virtual time; what b gets is logged.
type pair struct {
	c    *clock
	s    *Segment
	a, b *Port
	got  []arrival
	raw  bytes.Buffer
	idle int
}

func newPair(t *testing.T, o Options) *pair {
	p := &pair{c: newClock()}
	p.s = New(p.c, o)
	p.a, p.b = p.s.Attach("a", mac(1)), p.s.Attach("b", mac(2))
	if !p.b.Attach(func(b *pkt.Buf) {
		p.got = append(p.got, arrival{p.c.since(), number(b)})
		fmt.Fprintf(&p.raw, "%v %x\n", p.c.since(), b.Bytes())
		if b.At != p.c.now {
			t.Errorf("At is %v, not %v", b.At, p.c.now)
		}
		b.Put()
	}, func() { p.idle++ }) {
		t.Fatal("Attach refused")
	}
	t.Cleanup(p.s.Close)
	return p
}

func (p *pair) send(t *testing.T, n, size int) {
	t.Helper()
	if sent, err := p.a.Send(0, []*pkt.Buf{frame(mac(2), mac(1), n, size)}); sent != 1 || err != nil {
		t.Fatalf("frame %d: sent %d, %v", n, sent, err)
	}
}

func TestPushIsNeverSynchronous(t *testing.T) {
	p := newPair(t, Options{})
	for i := range 100 {
		p.send(t, i, 60)
	}
	if len(p.got) != 0 {
		t.Fatal("Send called deliver")
	}
	p.c.advance(0)
	if len(p.got) != 100 || p.idle != 2 {
		t.Fatalf("%d frames in %d batches, want 100 in 2", len(p.got), p.idle)
	}
	for i, g := range p.got {
		if g.number != i || g.at != 0 {
			t.Fatalf("arrival %d is %+v", i, g)
		}
	}
}

func TestSwitch(t *testing.T) {
	c := newClock()
	s := New(c, Options{})
	defer s.Close()
	var ports [4]*Port
	var log []string
	for i := range ports {
		addr := mac(i)
		if i == 3 {
			addr = ether.Addr{} // has to be learned
		}
		ports[i] = s.Attach(fmt.Sprint(i), addr)
		ports[i].Attach(func(b *pkt.Buf) {
			log = append(log, fmt.Sprintf("%d:%d", i, number(b)))
			b.Put()
		}, func() {})
	}
	group := ether.Addr{0x33, 0x33, 0, 0, 0, 1}
	for i, step := range []struct {
		from     int
		dst, src ether.Addr
		want     string
	}{
		{0, mac(1), mac(0), "[1:0]"},
		{0, ether.Broadcast, mac(0), "[1:1 2:1 3:1]"},
		{2, group, mac(2), "[0:2 1:2 3:2]"},
		{0, mac(9), mac(0), "[1:3 2:3 3:3]"}, // unknown
		{3, mac(0), mac(9), "[0:4]"},         // learned
		{0, mac(9), mac(0), "[3:5]"},
		{3, mac(9), mac(9), "[]"},    // its own port
		{1, mac(2), mac(9), "[2:7]"}, // the station has moved
		{0, mac(9), mac(0), "[1:8]"},
	} {
		log = nil
		if _, err := ports[step.from].Send(0, []*pkt.Buf{frame(step.dst, step.src, i, 60)}); err != nil {
			t.Fatal(err)
		}
		c.advance(0)
		if got := fmt.Sprint(log); got != step.want {
			t.Errorf("step %d: %s, want %s", i, got, step.want)
		}
	}
	if err := ports[1].Close(); err != nil {
		t.Fatal(err)
	}
	log = nil
	if _, err := ports[0].Send(0, []*pkt.Buf{frame(mac(1), mac(0), 9, 60)}); err != nil {
		t.Fatal(err)
	}
	c.advance(0)
	if got := fmt.Sprint(log); got != "[2:9 3:9]" {
		t.Errorf("a closed port's address is flooded: %s", got)
	}
}

// TestHub: a frame with another's source address draws nothing away.
func TestHub(t *testing.T) {
	c := newClock()
	s := New(c, Options{Hub: true})
	defer s.Close()
	var ports [3]*Port
	var log []string
	for i := range ports {
		ports[i] = s.Attach(fmt.Sprint(i), mac(i))
		ports[i].Attach(func(b *pkt.Buf) {
			log = append(log, fmt.Sprintf("%d:%d", i, number(b)))
			b.Put()
		}, func() {})
	}
	for i, dst := range []ether.Addr{mac(1), mac(0)} {
		if _, err := ports[0].Send(0, []*pkt.Buf{frame(dst, mac(1), i, 60)}); err != nil {
			t.Fatal(err)
		}
	}
	c.advance(0)
	if got := fmt.Sprint(log); got != "[1:0 2:0 1:1 2:1]" {
		t.Error(got)
	}
}

func TestStationsAreBounded(t *testing.T) {
	p := newPair(t, Options{})
	for i := range 3 * MaxStations {
		if _, err := p.a.Send(0, []*pkt.Buf{frame(mac(2), mac(i+10), i, 60)}); err != nil {
			t.Fatal(err)
		}
	}
	p.c.advance(0)
	if n := len(p.s.stations); n != MaxStations {
		t.Errorf("%d stations, limit %d", n, MaxStations)
	}
}

func TestInFlightIsBounded(t *testing.T) {
	p := newPair(t, Options{Delay: time.Second})
	for i := range MaxInFlight + 5 {
		p.send(t, i, 60)
	}
	if st := p.a.Stats(); st.QueueDrops != 5 {
		t.Errorf("%+v", st)
	}
}

func TestFaultRates(t *testing.T) {
	const n = 20000
	p := newPair(t, Options{Seed: 1, Loss: .02, Duplicate: .03, Reorder: .05, Corrupt: .01, Delay: time.Millisecond})
	for i := range n {
		p.send(t, i, 60)
		p.c.advance(100 * time.Microsecond)
	}
	p.c.advance(time.Second)
	st := p.a.Stats()
	for _, c := range []struct {
		name string
		got  uint64
		want float64
	}{{"lost", st.Lost, .02}, {"duplicated", st.Duplicated, .03}, {"reordered", st.Reordered, .05}, {"corrupted", st.Corrupted, .01}} {
		if r := float64(c.got) / n; r < .8*c.want || r > 1.2*c.want {
			t.Errorf("%s: %.4f of the frames, want %.2f", c.name, r, c.want)
		}
	}
	if got, want := p.b.Stats().Delivered, st.Sent-st.Lost+st.Duplicated; got != want || int(got) != len(p.got) {
		t.Errorf("delivered %d, logged %d, want %d", got, len(p.got), want)
	}
}

// Equal seeds give equal output to the byte, other seeds do not, and a knob
// changes only what it is for.
func TestDeterminism(t *testing.T) {
	play := func(o Options) *pair {
		p := newPair(t, o)
		for i := range 500 {
			p.send(t, i, 60+i)
			p.c.advance(time.Duration(i%7) * 50 * time.Microsecond)
		}
		p.c.advance(3 * time.Second)
		return p
	}
	o := Options{Seed: 42, Loss: .1, Duplicate: .1, Reorder: .1, Corrupt: .1, Delay: time.Millisecond, Jitter: time.Millisecond, Rate: 100e6}
	first, second := play(o), play(o)
	if !bytes.Equal(first.raw.Bytes(), second.raw.Bytes()) {
		t.Error("two runs with one seed differ")
	}
	o.Seed = 43
	if bytes.Equal(first.raw.Bytes(), play(o).raw.Bytes()) {
		t.Error("two seeds give the same run")
	}
	lost := func(o Options) (l []int) {
		seen := make(map[int]bool)
		for _, g := range play(o).got {
			seen[g.number] = true
		}
		for i := range 500 {
			if !seen[i] {
				l = append(l, i)
			}
		}
		return l
	}
	plain, busy := Options{Seed: 7, Loss: .1}, Options{Seed: 7, Loss: .1, Duplicate: .5, Reorder: .3, Delay: time.Second, Jitter: time.Millisecond}
	a, b := lost(plain), lost(busy)
	if len(a) < 20 || len(b) < len(a) {
		t.Fatalf("lost %d and %d", len(a), len(b))
	}
	// A duplicate does not save a frame that is lost.
	if fmt.Sprint(a) != fmt.Sprint(b) {
		t.Errorf("other knobs changed which frames are lost:\n%v\n%v", a, b)
	}
}

func TestOrder(t *testing.T) {
	p := newPair(t, Options{Seed: 3, Delay: 5 * time.Millisecond, Jitter: 20 * time.Millisecond})
	for i := range 300 {
		p.send(t, i, 60)
		p.c.advance(time.Millisecond)
	}
	p.c.advance(time.Second)
	for i, g := range p.got {
		if g.number != i {
			t.Fatalf("jitter has reordered: %d arrived as %d", g.number, i)
		}
		if early := g.at - time.Duration(i)*time.Millisecond; early < 5*time.Millisecond {
			t.Fatalf("frame %d was under way for %v", i, early)
		}
	}
	p = newPair(t, Options{})
	p.a.SetImpairment(Impairment{Reorder: 1, ReorderBy: 3 * time.Millisecond})
	p.send(t, 0, 60)
	p.a.SetImpairment(Impairment{})
	p.send(t, 1, 60)
	p.c.advance(time.Second)
	if got := fmt.Sprint(p.got); got != "[0s:1 3ms:0]" {
		t.Errorf("held back: %s", got)
	}
}

func TestRateAndQueue(t *testing.T) {
	// 1250 bytes at 10 Mbit/s take a millisecond.
	p := newPair(t, Options{Rate: 10e6, Queue: 3, Delay: 10 * time.Millisecond})
	for i := range 6 {
		p.send(t, i, 1250) // one is being sent, three wait, two are dropped
	}
	p.c.advance(2500 * time.Microsecond)
	p.send(t, 6, 625)
	p.c.advance(time.Second)
	want := "[11ms:0 12ms:1 13ms:2 14ms:3 14.5ms:6]"
	if got := fmt.Sprint(p.got); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if st := p.a.Stats(); st.QueueDrops != 2 || st.Sent != 7 {
		t.Errorf("%+v", st)
	}
}

func TestLengths(t *testing.T) {
	p := newPair(t, Options{MTU: 1000})
	for _, c := range []struct {
		size int
		ok   bool
	}{{13, false}, {14 + 4, true}, {1014, true}, {1015, false}, {5000, false}} {
		b := pkt.From(make([]byte, c.size))
		n, err := p.a.Send(0, []*pkt.Buf{b})
		if (n == 1) != c.ok || errors.Is(err, syscall.EMSGSIZE) == c.ok {
			t.Errorf("%d bytes: sent %d, %v", c.size, n, err)
		}
	}
	if st := p.a.Stats(); st.BadLength != 3 {
		t.Errorf("%+v", st)
	}
	if c := p.a.Caps(); c.MTU != 1000 || c.GSOMax != 0 || c.TxCsum {
		t.Errorf("caps %+v", c)
	}
}

// Metadata passes with GSO and only then.
func TestGSO(t *testing.T) {
	for _, gso := range []bool{false, true} {
		c := newClock()
		s := New(c, Options{GSO: gso})
		a, b := s.Attach("a", mac(1)), s.Attach("b", mac(2))
		if (a.Caps().GSOMax > 0) != gso {
			t.Errorf("caps %+v", a.Caps())
		}
		size := 1000
		if gso {
			size = 60000
		}
		f := frame(mac(2), mac(1), 1, size)
		f.GSO = pkt.GSO{Type: pkt.GSOTCPv4, SegSize: 1448}
		f.Csum = pkt.CsumPartial
		f.Group = true
		if n, err := a.Send(0, []*pkt.Buf{f}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		g, _ := b.take()
		if g == nil {
			t.Fatal("nothing arrived")
		}
		if (g.GSO.SegSize == 1448) != gso || (g.Csum == pkt.CsumPartial) != gso || g.Group || g.Len() != size {
			t.Errorf("gso %v: arrived as %+v %v %v, %d bytes", gso, g.GSO, g.Csum, g.Group, g.Len())
		}
		g.Put()
		s.Close()
	}
}

func TestDropHook(t *testing.T) {
	n := 0
	p := newPair(t, Options{Drop: func(f []byte) bool { n++; return n == 3 }})
	for i := range 5 {
		p.send(t, i, 60)
	}
	p.c.advance(0)
	if len(p.got) != 4 || p.got[2].number != 3 || p.a.Stats().Lost != 1 {
		t.Errorf("%v %+v", p.got, p.a.Stats())
	}
	// The other direction is asked by a hook of its own.
	n = 0
	p.b.SetImpairment(Impairment{Drop: func([]byte) bool { return true }})
	if _, err := p.b.Send(0, []*pkt.Buf{frame(mac(1), mac(2), 0, 60)}); err != nil {
		t.Fatal(err)
	}
	if p.b.Stats().Lost != 1 || n != 0 {
		t.Errorf("%+v, first hook asked %d times", p.b.Stats(), n)
	}
}

func TestCorruptionSparesTheHeader(t *testing.T) {
	p := newPair(t, Options{Corrupt: 1})
	want := frame(mac(2), mac(1), 5, 60)
	defer want.Put()
	p.b.Attach(func(b *pkt.Buf) {
		diff := 0
		for i, c := range b.Bytes() {
			for x := c ^ want.Bytes()[i]; x != 0; x &= x - 1 {
				diff++
				if i < ether.HeaderLen {
					t.Error("the header was damaged")
				}
			}
		}
		if diff != 1 {
			t.Errorf("%d bits differ", diff)
		}
		p.got = append(p.got, arrival{})
		b.Put()
	}, func() {})
	for range 200 {
		p.send(t, 5, 60)
	}
	p.c.advance(0)
	p.c.advance(0)
	if len(p.got) != 200 {
		t.Errorf("%d frames arrived", len(p.got))
	}
}

func TestAttachAndDetach(t *testing.T) {
	p := newPair(t, Options{})
	p.b.Attach(nil, nil)
	p.send(t, 0, 60)
	p.c.advance(0)
	if len(p.got) != 0 {
		t.Fatal("delivered after detaching")
	}
	order := ""
	p.b.Attach(func(b *pkt.Buf) { order += fmt.Sprint(number(b)); b.Put() }, func() { order += "." })
	p.send(t, 1, 60)
	p.c.advance(0)
	if order != "01." {
		t.Errorf("delivered %q", order)
	}
	pull := New(newClock(), Options{Pull: true})
	if pull.Attach("x", mac(1)).Attach(func(*pkt.Buf) {}, func() {}) {
		t.Error("a pull segment has callbacks")
	}
}
