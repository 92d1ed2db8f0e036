package stack_test

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// metricFrame is a frame of IPv4 as it left, of the first host's.
type metricFrame struct {
	at      time.Duration
	ttl     byte
	df      bool
	size    int // of the packet
	syn     bool
	mss     int // of a SYN
	window  int // as it stands there
	payload int // of TCP
}

// metricPair are two hosts, of which the first has a route with metrics to the
// other, and what it sends.
func metricPair(t *testing.T, r stack.Route, delay time.Duration, lose func(n int) bool) (*pair, *[]metricFrame) {
	t.Helper()
	var list []metricFrame
	var p *pair
	data := 0
	p = newPairOf(t, 1, stack.Config{}, wire.Options{Delay: delay, Drop: func(f []byte) bool {
		if p == nil || f[12] != 8 || f[13] != 0 || f[29] != 1 {
			return false
		}
		s := metricFrame{at: p.net.Now().Sub(0), ttl: f[22], df: f[20]&0x40 != 0, size: int(binary.BigEndian.Uint16(f[16:]))}
		if f[23] == 6 {
			h := f[34:]
			s.syn, s.window = h[13]&2 != 0, int(binary.BigEndian.Uint16(h[14:]))
			s.payload = s.size - 20 - int(h[12]>>4)*4
			if s.syn {
				s.mss = int(binary.BigEndian.Uint16(h[22:]))
			}
		}
		list = append(list, s)
		if s.payload > 0 {
			data++
			return lose != nil && lose(data)
		}
		return false
	}})
	r.Dst, r.Interface = netip.MustParsePrefix("10.77.0.2/32"), p.ia
	if err := p.a.AddRoute(r); err != nil {
		t.Fatal(err)
	}
	return p, &list
}

// TestRouteMetrics: each metric in what is on the wire.
func TestRouteMetrics(t *testing.T) {
	const delay = 50 * time.Millisecond
	connect := func(p *pair) *stack.TCPConn {
		t.Helper()
		p.listenEcho(p.b, 7)
		c, err := p.a.DialTCP(netip.AddrPort{}, addrPort("10.77.0.2:7"))
		if err != nil {
			t.Fatal(err)
		}
		p.net.RunFor(4 * delay)
		if c.State() != tcp.Established {
			t.Fatalf("%v, %v", c.State(), c.Err())
		}
		return c
	}
	t.Run("hoplimit", func(t *testing.T) {
		p, list := metricPair(t, stack.Route{Metrics: stack.RouteMetrics{HopLimit: 5}}, delay, nil)
		connect(p)
		u := newUDP(t, p.a)
		u.SendTo([]byte("x"), addrPort("10.77.0.2:9"))
		u.Set(stack.DatagramTTL, 9)
		u.SendTo([]byte("x"), addrPort("10.77.0.2:9"))
		for i, s := range *list {
			want := byte(5)
			if i == len(*list)-1 {
				want = 9 // the user's own
			}
			if s.ttl != want {
				t.Errorf("frame %d has TTL %d", i, s.ttl)
			}
		}
	})
	t.Run("advmss", func(t *testing.T) {
		p, list := metricPair(t, stack.Route{Metrics: stack.RouteMetrics{AdvMSS: 700}}, delay, nil)
		c := connect(p)
		if s := (*list)[0]; !s.syn || s.mss != 700 || c.Info().AdvMSS != 700 || c.Info().PeerMSS != 1460 {
			t.Errorf("%+v, %+v", s, c.Info())
		}
		// And of a connection that the other side has begun.
		p.listenEcho(p.a, 8)
		d, err := p.b.DialTCP(netip.AddrPort{}, addrPort("10.77.0.1:8"))
		if err != nil {
			t.Fatal(err)
		}
		p.net.RunFor(4 * delay)
		if d.Info().PeerMSS != 700 {
			t.Errorf("%+v", d.Info())
		}
	})
	for _, n := range []int{1, 4, 10, 30} {
		p, list := metricPair(t, stack.Route{Metrics: stack.RouteMetrics{InitCwnd: n}}, delay, nil)
		c := connect(p)
		before := len(*list)
		c.Write(pattern(60000)) // the peer's first window
		p.net.RunFor(delay)
		if got := len(*list) - before; got != n {
			t.Errorf("initcwnd %d: %d segments", n, got)
		}
	}
	for _, n := range []int{2, 20} {
		p, list := metricPair(t, stack.Route{Metrics: stack.RouteMetrics{InitRwnd: n}}, delay, nil)
		connect(p)
		if s := (*list)[0]; !s.syn || s.window != n*1460 {
			t.Errorf("initrwnd %d: %+v", n, s)
		}
	}
	t.Run("window", func(t *testing.T) {
		p, list := metricPair(t, stack.Route{Metrics: stack.RouteMetrics{Window: 9000}}, delay, nil)
		c := connect(p)
		c.Write(pattern(50000))
		for range 1000 {
			c.Read(make([]byte, 1000))
			p.net.RunFor(5 * time.Millisecond)
		}
		scale, most := 0, 0
		for _, s := range *list {
			most = max(most, s.window)
		}
		if scale = most; scale > 9000 || scale < 8000 { // such a window needs no scale
			t.Errorf("a window of %d was offered", most)
		}
	})
	t.Run("rto_min", func(t *testing.T) {
		for _, rto := range []time.Duration{0, 20 * time.Millisecond, time.Second} {
			want := rto
			if rto == 0 {
				want = 200 * time.Millisecond
			}
			p, list := metricPair(t, stack.Route{Metrics: stack.RouteMetrics{MinRTO: rto}}, time.Millisecond, func(n int) bool { return n >= 50 })
			c := connect(p)
			for range 49 { // the estimate needs a few measurements
				c.Write([]byte("x"))
				p.net.RunFor(300 * time.Millisecond)
				c.Read(make([]byte, 10))
			}
			began := len(*list)
			c.Write([]byte("lost"))
			p.net.RunFor(4 * time.Second)
			var sent []time.Duration
			for _, s := range (*list)[began:] {
				if s.payload > 0 {
					sent = append(sent, s.at)
				}
			}
			// The first repetition may be a probe of the tail (RFC 8985 §7).
			got := time.Duration(0)
			for i := 1; i < len(sent) && got < want; i++ {
				got = sent[i] - sent[0]
			}
			if got < want || got > want+want/2+20*time.Millisecond {
				t.Errorf("rto_min %v: sent again after %v (%v)", rto, got, sent)
			}
		}
	})
	t.Run("mtu lock", func(t *testing.T) {
		p, list := metricPair(t, stack.Route{MTU: 1000, Metrics: stack.RouteMetrics{LockMTU: true}}, time.Millisecond, nil)
		u := newUDP(t, p.a)
		u.SendTo(make([]byte, 900), addrPort("10.77.0.2:9"))
		u.SendTo(make([]byte, 1900), addrPort("10.77.0.2:9"))
		p.net.RunFor(time.Second)
		for _, s := range *list {
			if s.df || s.size > 1000 {
				t.Errorf("%+v", s)
			}
		}
		if len(*list) != 3 {
			t.Errorf("%+v", *list)
		}
		w, err := p.a.Routes().Get(netip.MustParseAddr("10.77.0.2"), netip.Addr{}, nil)
		if err != nil || w.MTU != 1000 {
			t.Errorf("%+v, %v", w, err)
		}
		if r := p.a.Routes().List()[0].String(); r != "10.77.0.2/32 dev eth0 mtu lock 1000" {
			t.Error(r)
		}
	})
	t.Run("impossible", func(t *testing.T) {
		p := newPair(t, wire.Options{})
		for _, m := range []stack.RouteMetrics{{LockMTU: true}, {HopLimit: 256}, {HopLimit: -1}, {AdvMSS: 47}, {InitCwnd: 1001}, {InitRwnd: -1},
			{Window: 1<<30 + 1}, {MinRTO: -1}, {MinRTO: 121 * time.Second}} {
			if err := p.a.AddRoute(stack.Route{Dst: netip.MustParsePrefix("192.0.2.0/24"), Interface: p.ia, Metrics: m}); !errors.Is(err, syscall.EINVAL) {
				t.Errorf("%+v: %v", m, err)
			}
		}
	})
}

// TestMTULocked: no router is believed about a route whose MTU is locked.
func TestMTULocked(t *testing.T) {
	for _, lock := range []bool{false, true} {
		h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{})
		far := netip.MustParsePrefix("192.0.2.0/24")
		if err := h.s.AddRoute(stack.Route{Dst: far, Gateway: peerIP4, MTU: 1400, Metrics: stack.RouteMetrics{LockMTU: lock}}); err != nil {
			t.Fatal(err)
		}
		dst := netip.MustParseAddr("192.0.2.9")
		u := newUDP(t, h.s)
		if err := u.SendTo(make([]byte, 1300), netip.AddrPortFrom(dst, 9)); err != nil {
			t.Fatal(err)
		}
		h.n.RunFor(time.Second)
		h.send(arpReply(peerMAC, peerIP4))
		sent := h.d.take()
		u.SendTo(make([]byte, 1300), netip.AddrPortFrom(dst, 9))
		sent = append(sent, h.d.take()...)
		if len(sent) == 0 {
			t.Fatal("nothing was sent")
		}
		packet := sent[len(sent)-1][14:]
		m := []byte{3, 4, 0, 0, 0, 0, 1000 >> 8, 1000 & 0xff}
		m = append(m, packet[:200]...)
		binary.BigEndian.PutUint16(m[2:], rfc1071(m))
		h.send(ip4(1, m, nil))
		w, err := h.s.Routes().Get(dst, netip.Addr{}, nil)
		if want := map[bool]int{false: 1000, true: 1400}[lock]; err != nil || w.MTU != want {
			t.Errorf("lock %v: MTU %d, %v", lock, w.MTU, err)
		}
	}
}

func rfc1071(b []byte) uint16 {
	var n uint32
	for i := 0; i+1 < len(b); i += 2 {
		n += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for n>>16 != 0 {
		n = n&0xffff + n>>16
	}
	return ^uint16(n)
}
