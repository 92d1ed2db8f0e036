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

// TestMemoryIsUsedUp: at the limit new connections, datagrams, fragments and
// packets to ourselves are refused and counted; what exists goes on, and when
// memory is given back everything is taken again.
func TestMemoryIsUsedUp(t *testing.T) {
	h := newTestHost(t, stack.Config{Limits: stack.Limits{Memory: 1 << 20, DatagramReceive: 8 << 20}}, stack.InterfaceConfig{}).meet()
	h.answers()
	l := h.listen(80, 100)
	old := h.connect(l, false, 4000)
	half, _ := tcpOf(h.send(syn(false, 4001, 80, 1000, 1460)))
	u := newUDP(t, h.s)
	if err := u.Bind(addrPort("0.0.0.0:7")); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		h.send(datagram(false, 1234, 7, pattern(1000)))
	}
	used, limit := h.s.Memory()
	if n := h.count("udp.drop.memory"); n < 400 || used > limit || used < limit-4096 {
		t.Fatalf("%d datagrams refused, %d of %d used", n, used, limit)
	}
	// The last few bytes.
	for port := uint16(5000); port < 5050; port++ {
		h.send(syn(false, port, 80, 1000, 1460))
	}
	if n := h.count("tcp.drop.memory"); n < 20 {
		t.Fatalf("%d SYNs refused", n)
	}
	if _, err := h.s.DialTCP(netip.AddrPort{}, netip.AddrPortFrom(peerIP4, 80)); err != syscall.ENOBUFS {
		t.Errorf("dial: %v", err)
	}
	if _, err := h.s.DialTCP(netip.AddrPort{}, addrPort("127.0.0.1:80")); err != syscall.ENOBUFS {
		t.Errorf("dial to ourselves: %v", err)
	}
	v := newUDP(t, h.s)
	v.SendTo([]byte("x"), addrPort("127.0.0.1:9"))
	if n := h.count("loop.drop.memory"); n != 1 {
		t.Errorf("%d packets to ourselves refused", n)
	}
	// A connection and its buffers are there already.
	old.input(tcp.FlagACK|tcp.FlagPSH, "still here")
	buf := make([]byte, 100)
	if n, err := old.conn.Read(buf); n != 10 || err != nil {
		t.Errorf("read %d, %v", n, err)
	}
	if n, err := old.conn.Write(buf[:10]); n != 10 || err != nil {
		t.Errorf("wrote %d, %v", n, err)
	}
	for {
		if _, _, _, err := u.RecvFrom(buf); err != nil {
			break
		}
	}
	// The half-open connection may end its handshake, and others begin one.
	h.send(segment(false, 4001, 80, 1001, uint32(half.Seq)+1, tcp.FlagACK, nil))
	if _, err := l.Accept(); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if out := h.send(syn(false, 4002, 80, 1000, 1460)); len(out) != 1 {
		t.Errorf("afterwards a SYN has %d answers", len(out))
	}
	if used, _ := h.s.Memory(); used > 64<<10 {
		t.Errorf("%d used afterwards", used)
	}
}

// TestFarBytesAreGivenUp: peers that send the last byte of the first window and
// nothing else make each connection hold 64 KB. Once three quarters of the
// budget are held like that, all of it is given back, at once and without a
// word to the peers; their connections go on.
func TestFarBytesAreGivenUp(t *testing.T) {
	const conns = 100
	h := newTestHost(t, stack.Config{Limits: stack.Limits{Memory: 8 << 20}}, stack.InterfaceConfig{}).meet()
	h.answers()
	l := h.listen(80, conns)
	var list []*peerConn
	for k := range uint16(conns) {
		list = append(list, h.connect(l, false, 4000+k))
	}
	far := func(p *peerConn) {
		h.send(segment(false, p.sport, 80, p.snd+65_000, p.rcv, tcp.FlagACK, []byte("x")))
	}
	k, most := 0, 0
	for ; k < conns && h.count("memory.pressure") == 0; k++ {
		far(list[k])
		most = max(most, h.s.RingMemory())
	}
	if k < 80 || k == conns || most < 5<<20 {
		t.Fatalf("pressure after %d far bytes, %d held", k, most)
	}
	if n := h.s.RingMemory(); n != 0 || h.count("memory.relief") != 1 {
		t.Errorf("%d bytes held afterwards", n)
	}
	for _, p := range list {
		p.input(tcp.FlagACK|tcp.FlagPSH, "hello")
		if n, err := p.conn.Read(make([]byte, 10)); n != 5 || err != nil {
			t.Fatalf("read %d, %v", n, err)
		}
	}
	h.run(time.Minute)
	if n := h.count("memory.relief"); n != 1 {
		t.Errorf("memory was collected %d times", n)
	}
}
