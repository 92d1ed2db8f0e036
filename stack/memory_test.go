package stack_test

import (
	"bytes"
	"io"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// TestLongFatPath: at 1 Gbit/s and 100 ms the buffers of both ends open to what
// the path holds, 12.5 MB, as fast as slow start lets the sender use them.
func TestLongFatPath(t *testing.T) {
	limits := stack.Limits{TCPReceive: 64 << 20, TCPSend: 64 << 20}
	const rate = 1e9
	p := newPairOf(t, 1, stack.Config{Limits: limits}, wire.Options{Delay: 50 * time.Millisecond, Rate: rate, Queue: 20_000, GSO: true})
	l, err := p.b.BindTCP(addrPort("0.0.0.0:9"), false, false)
	if err != nil || l.Listen(1) != nil {
		t.Fatal(err)
	}
	c, err := p.a.DialTCP(netip.AddrPort{}, addrPort("10.77.0.2:9"))
	if err != nil {
		t.Fatal(err)
	}
	text := make([]byte, 256<<10)
	onReady(c.Waiters(), stack.ReadyOut, func() {
		for {
			if n, err := c.Write(text); n == 0 || err != nil {
				return
			}
		}
	})
	var s *stack.TCPConn
	if !p.net.Until(time.Second, func() bool { s, err = l.Accept(); return err == nil }) {
		t.Fatal(err)
	}
	got, buf := 0, make([]byte, 256<<10)
	onReady(s.Waiters(), stack.ReadyIn, func() {
		for {
			n, err := s.Read(buf)
			if got += n; err != nil {
				return
			}
		}
	})
	// Ten round trips of slow start take IW10 to 14 MB.
	p.net.RunFor(1200 * time.Millisecond)
	before := got
	p.net.RunFor(500 * time.Millisecond)
	goodput := float64(got-before) * 8 / 0.5
	if goodput < 0.95*rate || goodput > rate {
		t.Errorf("goodput %.0f Mbit/s", goodput/1e6)
	}
	if i, o := s.Info(), c.Info(); i.RcvBuf < 25e6 || o.SndBuf < 25e6 || i.RcvBuf > limits.TCPReceive || o.SndBuf > limits.TCPSend {
		t.Errorf("buffers of %d and %d bytes", i.RcvBuf, o.SndBuf)
	}
	c.Abort()
	s.Abort()
}

// crowd is many connections from p.a to p.b, whose writers write all they can.
type crowd struct {
	out, in []*stack.TCPConn
	wrote   []int
	got     []int
	over    bool // the test is: resets are no surprise any more
}

// end resets all connections.
func (w *crowd) end() {
	w.over = true
	for k := range w.out {
		w.out[k].Abort()
		w.in[k].Abort()
	}
}

func (p *pair) crowd(n int) *crowd {
	p.t.Helper()
	l, err := p.b.BindTCP(addrPort("0.0.0.0:9"), false, false)
	if err != nil || l.Listen(n) != nil {
		p.t.Fatal(err)
	}
	w := &crowd{wrote: make([]int, n), got: make([]int, n)}
	for range n {
		c, err := p.a.DialTCP(netip.AddrPort{}, addrPort("10.77.0.2:9"))
		if err != nil {
			p.t.Fatal(err)
		}
		w.out = append(w.out, c)
		p.net.RunFor(time.Millisecond)
	}
	p.net.RunFor(time.Second)
	for {
		c, err := l.Accept()
		if err != nil {
			break
		}
		w.in = append(w.in, c)
	}
	if len(w.in) != n {
		p.t.Fatalf("%d of %d accepted", len(w.in), n)
	}
	return w
}

// write lets connection k write, now and whenever it can, up to most bytes.
func (w *crowd) write(k, most int) {
	text := pattern(8192)
	onReady(w.out[k].Waiters(), stack.ReadyOut, func() {
		for w.wrote[k] < most {
			at := w.wrote[k] % len(text)
			n, err := w.out[k].Write(text[at:min(len(text), at+most-w.wrote[k])])
			w.wrote[k] += n
			if err != nil {
				return
			}
		}
	})
}

// read lets connection k read, now and whenever it can, and compares.
func (w *crowd) read(t *testing.T, k int) {
	text, buf := pattern(8192), make([]byte, 8192)
	onReady(w.in[k].Waiters(), stack.ReadyIn, func() {
		for {
			at := w.got[k] % len(text)
			n, err := w.in[k].Read(buf[:len(text)-at])
			if !bytes.Equal(buf[:n], text[at:at+n]) {
				t.Fatalf("connection %d: text differs near byte %d", k, w.got[k])
			}
			w.got[k] += n
			if err != nil {
				if err != syscall.EAGAIN && err != io.EOF && !w.over {
					t.Errorf("connection %d: %v", k, err)
				}
				return
			}
		}
	})
}

// TestManyWhoDoNotRead: 1000 connections send to readers who do not read, under
// a budget of 16 MB, for an hour. The memory of the rings stays within it, a
// connection whose reader reads goes on meanwhile, nobody is given up, and when
// all read everything arrives.
func TestManyWhoDoNotRead(t *testing.T) {
	const (
		conns  = 1000
		budget = 16 << 20
		each   = 100_000
	)
	p := newPairAt(t, 1, stack.Config{}, wire.Options{Delay: time.Millisecond, Rate: 1e9, GSO: true, Queue: 4000}, []string{"10.77.0.1/24"}, nil)
	p.b.Close() // a poorer one in its place
	p.b, p.ib = p.net.Host(p.seg, stack.Config{Limits: stack.Limits{Memory: budget}}, nil, "10.77.0.2/24")
	w := p.crowd(conns)

	most := int64(0)
	check := func(when string) {
		t.Helper()
		used, limit := p.b.Memory()
		rings := int64(p.b.RingMemory())
		if limit != budget || rings > used || used > budget+8192*conns {
			t.Fatalf("%s: rings take %d, %d charged of %d", when, rings, used, limit)
		}
		most = max(most, rings)
	}
	for k := range conns {
		w.write(k, each)
		p.net.RunFor(time.Millisecond)
		check("writing")
	}
	for range 60 {
		p.net.RunFor(time.Minute)
		check("waiting")
	}
	if most < budget/2 || most > budget {
		t.Errorf("rings took %d at most", most)
	}
	if n := p.b.Counters()["tcp.drop.memory"]; n == 0 {
		t.Error("nothing was refused: not a test")
	}
	for k := range conns {
		if w.out[k].State() != tcp.Established || w.in[k].State() != tcp.Established {
			t.Fatalf("connection %d: %v and %v", k, w.out[k].State(), w.in[k].State())
		}
	}
	// One of them reads: it gets on, if slowly, though no other does.
	w.read(t, 7)
	begin := p.net.Now()
	if !p.net.Until(10*time.Minute, func() bool { return w.got[7] == each }) {
		t.Fatalf("the one who reads got %d bytes in 10 minutes", w.got[7])
	}
	t.Logf("rings %d KB at most; %d refused; alone %v", most>>10, p.b.Counters()["tcp.drop.memory"], p.net.Now().Sub(begin))
	check("one reads")

	for k := range conns {
		if k != 7 {
			w.read(t, k)
		}
	}
	done := func() bool {
		for k := range conns {
			if w.got[k] != each {
				return false
			}
		}
		return true
	}
	begin = p.net.Now()
	if !p.net.Until(5*time.Minute, done) {
		t.Fatal("not all recovered")
	}
	t.Logf("all after %v", p.net.Now().Sub(begin))
	check("all read")
	p.net.RunFor(time.Minute)
	if used, _ := p.b.Memory(); used > conns*4096 {
		t.Errorf("%d bytes in use when all is read", used)
	}
	w.end()
}
