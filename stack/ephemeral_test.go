package stack_test

import (
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// portHost is a host with a range of ports to try.
func portHost(t *testing.T, c stack.Config) *testHost {
	t.Helper()
	h := newTestHost(t, c, stack.InterfaceConfig{}).meet()
	h.answers()
	h.d.mute = true
	return h
}

// dial opens a connection that nobody answers and returns its port.
func (h *testHost) dial(to string) (uint16, error) {
	c, err := h.s.DialTCP(netip.AddrPort{}, addrPort(to))
	if err != nil {
		return 0, err
	}
	return c.LocalAddr().Port(), nil
}

// ports are the local ports of a few connections to two destinations.
func ports(t *testing.T, seed uint64) (list []uint16) {
	t.Helper()
	n := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}) // for its clock
	s := stack.New(stack.Config{Clock: n.n.Clock(), Seed: seed})
	defer s.Close()
	i, err := s.AddInterface(stack.InterfaceConfig{Name: "eth0", Device: &injector{mtu: 1500}, MAC: hostMAC, NoDAD: true})
	if err == nil {
		err = i.AddAddr(netip.MustParsePrefix("10.77.0.7/24"))
	}
	if err != nil {
		t.Fatal(err)
	}
	for k := range 20 {
		c, err := s.DialTCP(netip.AddrPort{}, addrPort(fmt.Sprintf("10.77.0.%d:80", 1+k%2)))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, c.LocalAddr().Port())
	}
	for range 5 {
		u, _ := s.NewUDP(false)
		u.Bind(addrPort("0.0.0.0:0"))
		list = append(list, u.LocalAddr().Port())
		u.Close()
	}
	return list
}

// TestEphemeralPorts: RFC 6056 algorithm 4; in range, different per
// destination and seed, the same for the same seed.
func TestEphemeralPorts(t *testing.T) {
	a, b, c := ports(t, 1), ports(t, 1), ports(t, 2)
	if fmt.Sprint(a) != fmt.Sprint(b) {
		t.Errorf("equal seeds: %v and %v", a, b)
	}
	same, gaps := 0, 0
	for k, p := range a {
		if p < 32768 || p > 60999 || k < 20 && p%2 != 0 {
			t.Errorf("port %d", p)
		}
		if p == c[k] {
			same++
		}
		if k > 0 && k < 20 && max(p, a[k-1])-min(p, a[k-1]) > 200 {
			gaps++
		}
		// Towards one destination the next port is near, but not next.
		if k > 1 && k < 20 && (p <= a[k-2] || p > a[k-2]+16) {
			t.Errorf("towards one destination: %d after %d", p, a[k-2])
		}
	}
	if same > 2 || gaps < 19 {
		t.Errorf("%d ports equal with another seed; of neighbouring ones %d far apart: %v %v", same, gaps, a, c)
	}
}

// TestPortsMoveOn: after ten seconds one destination says nothing about where
// the ports of others are.
func TestPortsMoveOn(t *testing.T) {
	h := portHost(t, stack.Config{})
	far := 0
	last, _ := h.dial("10.77.0.1:80")
	for range 10 {
		h.run(10 * time.Second)
		p, err := h.dial("10.77.0.1:80")
		if err != nil {
			t.Fatal(err)
		}
		if max(p, last)-min(p, last) > 200 {
			far++
		}
		last = p
	}
	if far < 8 {
		t.Errorf("%d of 10 ports are elsewhere", far)
	}
}

// TestPortRange: all of the range is used, the even ports first, none that is
// reserved or held, and every one again for another destination.
func TestPortRange(t *testing.T) {
	for _, c := range []struct {
		first, last uint16
		reserved    []stack.PortRange
		want        int
	}{
		{5000, 5099, nil, 100}, {5001, 5099, nil, 99}, {5000, 5000, nil, 1}, {65534, 65535, nil, 2},
		{5000, 5099, []stack.PortRange{{First: 5010, Last: 5019}, {First: 5050, Last: 5050}}, 89},
		{1, 65535, []stack.PortRange{{First: 20, Last: 65535}}, 19},
	} {
		name := fmt.Sprint(c.first, "-", c.last, c.reserved)
		h := portHost(t, stack.Config{LocalPorts: stack.PortRange{First: c.first, Last: c.last}, ReservedPorts: c.reserved})
		held := uint16(5003)
		h.s.BindTCP(netip.AddrPortFrom(hostIP4, held), false, false)
		want := c.want
		if c.first <= held && held <= c.last && want > 20 {
			want--
		}
		for _, to := range []string{"10.77.0.1:80", "10.77.0.1:81", "[fd77::1]:80"} {
			seen := map[uint16]bool{}
			for n := 0; ; n++ {
				p, err := h.dial(to)
				if err == syscall.EADDRNOTAVAIL {
					break
				}
				if err != nil || seen[p] || p < c.first || p > c.last || p == held {
					t.Fatalf("%s: port %d after %d, %v", name, p, n, err)
				}
				for _, r := range c.reserved {
					if r.First <= p && p <= r.Last {
						t.Fatalf("%s: %d is reserved", name, p)
					}
				}
				if n < 40 && want >= 89 && (p-c.first)%2 != 0 {
					t.Errorf("%s: port %d as the %dth", name, p, n)
				}
				seen[p] = true
			}
			if len(seen) != want {
				t.Errorf("%s: %d ports to %s, want %d", name, len(seen), to, want)
			}
		}
	}
	// What is no range means the default.
	h := portHost(t, stack.Config{LocalPorts: stack.PortRange{First: 9, Last: 8}})
	if p, err := h.dial("10.77.0.1:80"); p < 32768 || err != nil {
		t.Errorf("port %d, %v", p, err)
	}
}

// TestPortsOfSockets: sockets that bind to no port get odd ones first, which
// connections take last; datagram sockets get any.
func TestPortsOfSockets(t *testing.T) {
	h := portHost(t, stack.Config{LocalPorts: stack.PortRange{First: 5000, Last: 5019}})
	for k := range 20 {
		l, err := h.s.BindTCP(netip.AddrPortFrom(hostIP4, 0), false, false)
		if err != nil || k < 10 != (l.Addr().Port()%2 == 1) {
			t.Fatalf("%dth: %v, %v", k, l.Addr(), err)
		}
	}
	if _, err := h.s.BindTCP(netip.AddrPortFrom(hostIP4, 0), false, false); err != syscall.EADDRINUSE {
		t.Error(err)
	}
	even := 0
	for range 20 {
		u, err := h.s.NewUDP(false)
		if err == nil {
			err = u.Bind(netip.AddrPortFrom(hostIP4, 0))
		}
		if err != nil {
			t.Fatal(err)
		}
		if u.LocalAddr().Port()%2 == 0 {
			even++
		}
	}
	if even != 10 {
		t.Errorf("%d even ports", even)
	}
}

// TestPortSearchIsShort: with 28000 connections to one destination a port is
// still found within a few tries, since each search begins where the last one
// ended.
func TestPortSearchIsShort(t *testing.T) {
	s := stack.New(stack.Config{Seed: 1})
	defer s.Close()
	taken := map[uint16]bool{}
	tries, worst := 0, 0
	for n := range 28000 {
		k := 0
		err := s.TryPorts(netip.MustParseAddr("10.0.0.1"), addrPort("10.0.0.2:80"), func(port uint16) error {
			k++
			if taken[port] {
				return syscall.EADDRINUSE
			}
			taken[port] = true
			return nil
		})
		if err != nil {
			t.Fatalf("%d: %v", n, err)
		}
		tries += k
		if n < 25000 {
			worst = max(worst, k)
		}
	}
	// All must look once at what is taken when they come round, no more.
	if tries > 28000*12 {
		t.Errorf("%.1f tries on average, %d at worst", float64(tries)/28000, worst)
	}
}

// TestTimeWaitTakenOver: RFC 6191 from this side, as Linux's tcp_tw_reuse.
func TestTimeWaitTakenOver(t *testing.T) {
	for _, c := range []struct {
		name   string
		mode   stack.TimeWaitReuse
		loop   bool
		wait   time.Duration
		chosen bool
		want   error
	}{
		{"loopback, after a second", stack.TimeWaitReuseLoopback, true, time.Second, false, nil},
		{"loopback, at once", stack.TimeWaitReuseLoopback, true, 900 * time.Millisecond, false, syscall.EADDRNOTAVAIL},
		{"loopback, off", stack.TimeWaitReuseOff, true, time.Minute / 2, false, syscall.EADDRNOTAVAIL},
		{"link", stack.TimeWaitReuseLoopback, false, time.Minute / 2, false, syscall.EADDRNOTAVAIL},
		{"link, always", stack.TimeWaitReuseAlways, false, time.Second, false, nil},
		{"link, always, at once", stack.TimeWaitReuseAlways, false, 900 * time.Millisecond, false, syscall.EADDRNOTAVAIL},
		{"link, chosen by the program", stack.TimeWaitReuseOff, false, 0, true, nil},
	} {
		p := newPairOf(t, 1, stack.Config{LocalPorts: stack.PortRange{First: 5000, Last: 5000}, TCP: stack.TCPConfig{TimeWaitReuse: c.mode}}, wire.Options{})
		p.listenEcho(p.b, 7)
		p.listenEcho(p.a, 7)
		to := "10.77.0.2:7"
		if c.loop {
			to = "127.0.0.1:7"
		}
		p.exchange(to)
		p.net.RunFor(c.wait)
		wantTable(t, p.a, 1, 1)
		var local netip.AddrPort
		if c.chosen {
			local = addrPort("0.0.0.0:5000")
		}
		conn, err := p.a.DialTCP(local, addrPort(to))
		if err != c.want {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if err != nil {
			continue
		}
		if !p.net.Until(time.Second, func() bool { return conn.State() == tcp.Established }) {
			t.Errorf("%s: state %v", c.name, conn.State())
		}
		if n := p.a.Counters()["tcp.time-wait-reused"]; n != 1 {
			t.Errorf("%s: %d counted", c.name, n)
		}
	}
}

// TestTimeWaitWithoutTimestamps is never taken over from this side, as on
// Linux: nothing tells old segments from new ones.
func TestTimeWaitWithoutTimestamps(t *testing.T) {
	h := newTestHost(t, stack.Config{TCP: stack.TCPConfig{TimeWaitReuse: stack.TimeWaitReuseAlways}}, stack.InterfaceConfig{}).meet()
	h.answers()
	l := h.listen(80, 5)
	p := h.connect(l, false, 4000) // without timestamps
	p.closeFirst()
	h.run(10 * time.Second)
	wantTable(t, h.s, 1, 1)
	if _, err := h.s.DialTCP(netip.AddrPortFrom(hostIP4, 80), netip.AddrPortFrom(peerIP4, 4000)); err != syscall.EADDRNOTAVAIL {
		t.Error(err)
	}
	wantTable(t, h.s, 1, 1)
}

// TestTimeWaitAssassination: RFC 1337 §3, F1.
func TestTimeWaitAssassination(t *testing.T) {
	for _, keep := range []bool{false, true} {
		h := newTestHost(t, stack.Config{TCP: stack.TCPConfig{RFC1337: keep}}, stack.InterfaceConfig{}).meet()
		h.answers()
		l := h.listen(80, 5)
		p := h.connect(l, false, 4000)
		p.closeFirst()
		wantTable(t, h.s, 1, 1)
		p.input(tcp.FlagRST, "")
		left := 0
		if keep {
			left = 1
		}
		wantTable(t, h.s, left, left)
		if n := h.count("tcp.drop.rst-time-wait"); n != uint64(left) {
			t.Errorf("RFC 1337 %v: %d counted", keep, n)
		}
		h.run(61 * time.Second)
		wantTable(t, h.s, 0, 0)
	}
}
