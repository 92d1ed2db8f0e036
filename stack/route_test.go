package stack_test

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// second attaches another interface, eth1, without addresses but its
// link-local one.
func (h *testHost) second() (*stack.Interface, *injector) {
	h.Helper()
	d := &injector{mtu: 1500}
	i, err := h.s.AddInterface(stack.InterfaceConfig{Name: "eth1", Device: d, MAC: ether.Addr{2, 0, 0, 0, 1, 7}, NoDAD: true, IID: ipv6.IIDEUI64})
	if err != nil {
		h.Fatal(err)
	}
	return i, d
}

func TestRouteErrors(t *testing.T) {
	h := newTestHost(t, stack.Config{Limits: stack.Limits{Routes: 3}}, stack.InterfaceConfig{})
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	for _, c := range []struct {
		r   stack.Route
		err error
	}{
		{stack.Route{}, syscall.EINVAL},
		{stack.Route{Dst: p("0.0.0.0/0")}, syscall.EINVAL},
		{stack.Route{Dst: p("0.0.0.0/0"), Gateway: a("fd77::1")}, syscall.EINVAL},
		{stack.Route{Dst: p("0.0.0.0/0"), Gateway: a("0.0.0.0"), Interface: h.i}, syscall.EINVAL},
		{stack.Route{Dst: p("0.0.0.0/0"), Gateway: a("224.0.0.1"), Interface: h.i}, syscall.EINVAL},
		{stack.Route{Dst: p("0.0.0.0/0"), Gateway: hostIP4}, syscall.EINVAL},
		{stack.Route{Dst: p("0.0.0.0/0"), Gateway: a("192.0.2.1")}, syscall.ENETUNREACH},
		{stack.Route{Dst: p("::/0"), Gateway: a("fe80::1%nowhere")}, syscall.ENETUNREACH},
		{stack.Route{Dst: p("0.0.0.0/0"), Gateway: peerIP4}, nil},
		{stack.Route{Dst: p("10.1.2.3/0"), Gateway: peerIP4}, syscall.EEXIST},
		{stack.Route{Dst: p("192.0.2.0/24"), Interface: h.i}, nil},
		{stack.Route{Dst: p("::/0"), Gateway: a("fe80::1%eth0")}, nil},
		{stack.Route{Dst: p("2001:db8::/32"), Gateway: peerIP6}, syscall.ENOSPC},
	} {
		if err := h.s.AddRoute(c.r); !errors.Is(err, c.err) {
			t.Errorf("add %v via %v: %v, want %v", c.r.Dst, c.r.Gateway, err, c.err)
		}
	}
	if n := len(h.s.Routes().List()); n != 3 {
		t.Errorf("%d routes", n)
	}
	for _, c := range []struct {
		r   stack.Route
		err error
	}{
		{stack.Route{}, syscall.ESRCH},
		{stack.Route{Dst: p("198.51.100.0/24")}, syscall.ESRCH},
		{stack.Route{Dst: p("0.0.0.0/0"), Gateway: a("10.77.0.2")}, syscall.ESRCH},
		{stack.Route{Dst: p("0.0.0.0/0"), Gateway: peerIP4}, nil},
		{stack.Route{Dst: p("192.0.2.99/24")}, nil},
		{stack.Route{Dst: p("::/0"), Gateway: a("fe80::1%eth0")}, nil},
	} {
		if err := h.s.DelRoute(c.r); !errors.Is(err, c.err) {
			t.Errorf("delete %v via %v: %v, want %v", c.r.Dst, c.r.Gateway, err, c.err)
		}
	}
	if n := len(h.s.Routes().List()); n != 0 {
		t.Errorf("%d routes left", n)
	}
}

// TestRouteChoice asks for the next hop: the longest prefix, then the lowest
// metric, connected prefixes among them; and follows changes at once.
func TestRouteChoice(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{})
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	gw := func(n byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 0, n}) }
	routes := []stack.Route{
		{Dst: p("0.0.0.0/0"), Gateway: gw(101), Metric: 10}, {Dst: p("0.0.0.0/0"), Gateway: gw(102), Metric: 5},
		{Dst: p("192.0.2.0/24"), Gateway: gw(103)}, {Dst: p("192.0.2.128/25"), Gateway: gw(104)},
		{Dst: p("192.0.2.200/32"), Gateway: gw(105)}, {Dst: p("192.0.2.64/26"), Interface: h.i},
		{Dst: p("10.77.0.64/26"), Gateway: gw(106)}, {Dst: p("10.0.0.0/8"), Gateway: gw(107)},
	}
	for _, r := range routes {
		if err := h.s.AddRoute(r); err != nil {
			t.Fatal(err)
		}
	}
	u := newUDP(t, h.s)
	asked := map[string]bool{}
	nextHop := func(dst string) string {
		h.d.take()
		h.run(30 * time.Second) // earlier neighbours have failed and been forgotten
		h.d.take()
		if err := u.SendTo([]byte("x"), netip.AddrPortFrom(a(dst), 9)); err != nil {
			return err.Error()
		}
		q := questions(t, h.d.take())
		if len(q) != 1 {
			return ""
		}
		asked[q[0]] = true
		return q[0]
	}
	for _, c := range [][2]string{
		{"198.51.100.1", "10.77.0.102"}, {"192.0.2.1", "10.77.0.103"}, {"192.0.2.129", "10.77.0.104"}, {"192.0.2.200", "10.77.0.105"},
		{"192.0.2.65", "192.0.2.65"}, {"10.77.0.65", "10.77.0.106"}, {"10.77.0.2", "10.77.0.2"}, {"10.78.0.1", "10.77.0.107"},
	} {
		if got := nextHop(c[0]); got != c[1] {
			t.Errorf("%s goes to %s, want %s", c[0], got, c[1])
		}
	}
	// A connected socket's kept route follows changes.
	if err := u.Connect(addrPort("198.51.100.1:9")); err != nil {
		t.Fatal(err)
	}
	follow := func() string {
		h.run(30 * time.Second)
		h.d.take()
		u.TakeError()
		if err := u.SendTo([]byte("x"), netip.AddrPort{}); err != nil {
			return err.Error()
		}
		return questions(t, h.d.take())[0]
	}
	if got := follow(); got != "10.77.0.102" {
		t.Errorf("connected: %s", got)
	}
	h.s.DelRoute(stack.Route{Dst: p("0.0.0.0/0"), Gateway: gw(102)})
	if got := follow(); got != "10.77.0.101" {
		t.Errorf("after the better route went: %s", got)
	}
	h.s.AddRoute(stack.Route{Dst: p("198.51.100.1/32"), Gateway: gw(108)})
	if got := follow(); got != "10.77.0.108" {
		t.Errorf("after a longer prefix came: %s", got)
	}
	h.s.DelRoute(stack.Route{Dst: p("198.51.100.1/32")})
	h.s.DelRoute(stack.Route{Dst: p("0.0.0.0/0")})
	if got := follow(); got != syscall.ENETUNREACH.Error() {
		t.Errorf("after all went: %s", got)
	}
}

// TestSourceSelection is RFC 6724 §5 as far as a host with these addresses can
// tell, and the corresponding choice for IPv4.
func TestSourceSelection(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{})
	i1, _ := h.second()
	for _, a := range []string{"2001:db8:1::7/64", "2001:db8:1:1::7/64", "10.77.0.8/24", "172.16.0.7/16"} {
		if err := h.i.AddAddr(netip.MustParsePrefix(a)); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range []string{"2001:db8:2::7/64", "192.168.1.7/24"} {
		if err := i1.AddAddr(netip.MustParsePrefix(a)); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range []stack.Route{{Dst: netip.MustParsePrefix("::/0"), Gateway: netip.MustParseAddr("2001:db8:1::1")},
		{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("172.16.0.1")},
		{Dst: netip.MustParsePrefix("198.51.100.0/24"), Gateway: netip.MustParseAddr("192.168.1.1")}} {
		if err := h.s.AddRoute(r); err != nil {
			t.Fatal(err)
		}
	}
	ll0, ll1 := ipv6.LinkLocal(hostMAC).String(), ipv6.LinkLocal(ether.Addr{2, 0, 0, 0, 1, 7}).String()
	for _, c := range []struct{ name, dst, src string }{
		{"rule 1: itself", "2001:db8:1:1::7", "2001:db8:1:1::7"},
		{"rule 1: itself, IPv4", "172.16.0.7", "172.16.0.7"},
		{"rule 2: link-local", "fe80::1%eth0", ll0},
		{"rule 2: link-local of the other link", "fe80::1%eth1", ll1},
		{"rule 2: link-local group", "ff02::1%eth1", ll1},
		{"rule 2: global group", "ff0e::1%eth1", "2001:db8:2::7"},
		{"rule 2: global", "2001:db8:99::1", "2001:db8:1::7"},
		{"rule 5: outgoing interface", "2001:db8:2::1", "2001:db8:2::7"},
		{"rule 8: longest prefix", "2001:db8:1:1::99", "2001:db8:1:1::7"},
		{"rule 8: longest prefix, unique local", "fd77::99", "fd77::7"},
		{"loopback", "::1", "::1"},
		{"IPv4: in the next hop's prefix, the first", "10.77.0.99", "10.77.0.7"},
		{"IPv4: gateway's prefix", "203.0.113.1", "172.16.0.7"},
		{"IPv4: outgoing interface", "198.51.100.1", "192.168.1.7"},
		{"IPv4: loopback", "127.0.0.1", "127.0.0.1"},
		{"IPv4: any of loopback", "127.9.9.9", "127.0.0.1"},
		{"IPv4: own broadcast needs permission", "10.77.0.255", syscall.EACCES.Error()},
		{"unknown zone", "fe80::1%eth9", syscall.ENODEV.Error()},
	} {
		if got := sourceTo(t, h.s, c.dst); got != c.src && got != c.src+"%eth0" && got != c.src+"%eth1" {
			t.Errorf("%s: %s is sent from %s, want %s", c.name, c.dst, got, c.src)
		}
	}
	// RFC 6724 §4: an address of another link is no candidate.
	for _, a := range []string{ll1, "2001:db8:2::7"} {
		if err := i1.DelAddr(netip.MustParseAddr(a)); err != nil {
			t.Fatal(err)
		}
	}
	if got := sourceTo(t, h.s, "ff02::1%eth1"); got != syscall.EADDRNOTAVAIL.Error() {
		t.Errorf("to a group of a link without addresses from %s", got)
	}
}

// TestLoopback: 127/8, ::1 and our own addresses never touch the device.
func TestLoopback(t *testing.T) {
	for _, dst := range []string{"127.0.0.1", "127.1.2.3", "::1", "10.77.0.7", "fd77::7"} {
		t.Run(dst, func(t *testing.T) {
			h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{})
			h.second()
			h.run(10 * time.Second)
			echoUDP(t, h.s, 7)
			serveEcho(t, h.listen(7, 5))
			to := netip.AddrPortFrom(netip.MustParseAddr(dst), 7)
			u := newUDP(t, h.s)
			data := pattern(60000)
			if err := u.SendTo(data, to); err != nil {
				t.Fatal(err)
			}
			h.n.RunFor(0)
			buf := make([]byte, 65536)
			if n, _, from, err := u.RecvFrom(buf); err != nil || !bytes.Equal(buf[:n], data) || from != to && dst != "127.1.2.3" {
				// A socket on the wildcard answers 127.1.2.3 from 127.0.0.1, as in Linux.
				t.Errorf("UDP: %d bytes from %v, %v", n, from, err)
			}
			if err := u.SendTo(data, netip.AddrPortFrom(to.Addr(), 8)); err != nil {
				t.Fatal(err)
			}
			h.n.RunFor(0)
			c, err := h.s.DialTCP(netip.AddrPort{}, to)
			if err != nil {
				t.Fatal(err)
			}
			var got []byte
			var end error
			rest := pattern(200000)
			onReady(c.Waiters(), stack.ReadyIn|stack.ReadyOut, func() {
				for len(rest) > 0 {
					n, err := c.Write(rest)
					if rest = rest[n:]; err != nil {
						break
					}
					if len(rest) == 0 {
						c.CloseWrite()
					}
				}
				for end == nil {
					n, err := c.Read(buf)
					got = append(got, buf[:n]...)
					if err == syscall.EAGAIN {
						return
					}
					end = err
				}
			})
			h.n.RunFor(time.Second)
			if end != io.EOF || !bytes.Equal(got, pattern(200000)) {
				t.Errorf("TCP: %d bytes, %v", len(got), end)
			}
			c.Close()
			if _, err := h.s.DialTCP(netip.AddrPort{}, netip.AddrPortFrom(to.Addr(), 8)); err != nil {
				t.Errorf("dial to a closed port: %v", err)
			}
			if out := h.run(time.Minute); len(out) != 0 {
				t.Errorf("%d frames left the host: %s", len(out), describe(out[0]))
			}
		})
	}
}

// TestMartians: addresses that cannot be on a wire.
func TestMartians(t *testing.T) {
	a := netip.MustParseAddr
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
	before := h.s.Counters()
	n4, n6 := 0, 0
	for _, x := range []struct{ src, dst string }{
		{"127.0.0.1", "10.77.0.7"}, {"10.77.0.1", "127.0.0.1"}, {"10.77.0.7", "10.77.0.7"}, {"0.0.0.0", "10.77.0.7"},
		{"10.77.0.255", "10.77.0.7"}, {"255.255.255.255", "10.77.0.7"}, {"224.0.0.1", "10.77.0.7"}, {"240.0.0.1", "10.77.0.7"},
		{"0.1.2.3", "10.77.0.7"}, {"10.77.0.1", "0.0.0.0"}, {"10.77.0.1", "0.1.2.3"},
		{"::1", "fd77::7"}, {"fd77::1", "::1"}, {"fd77::7", "fd77::7"}, {"ff02::1", "fd77::7"},
		{"::ffff:10.77.0.1", "fd77::7"}, {"::ffff:127.0.0.1", "fd77::7"}, {"fd77::1", "ff01::1"},
	} {
		src, dst := a(x.src), a(x.dst)
		var f []byte
		if src.Is4() {
			n4++
			f = echo4(1, 1, nil, func(f *ipv4.Fields) { f.Src, f.Dst = src, dst })
		} else {
			n6++
			b := make([]byte, icmp.HeaderLen)
			icmp.Put(b, icmp.TypeEcho6, 0, [4]byte{})
			f = withMAC(hostMAC, icmp6(64, src, dst, b))
		}
		if out := h.send(f); len(out) != 0 {
			t.Errorf("%s > %s answered: %s", x.src, x.dst, describe(out[0]))
		}
	}
	c := h.s.Counters()
	if got := c["ipv4.drop.martian"] + c["ipv4.drop.martian-destination"] + c["ipv4.drop.bad-source"] - before["ipv4.drop.martian"]; got != uint64(n4) {
		t.Errorf("%d IPv4 martians, want %d: %v", got, n4, drops(h.s))
	}
	if c["ipv4.drop.martian-destination"] != 3 || c["ipv6.drop.martian-destination"] != 2 {
		t.Errorf("martian destinations: %v", drops(h.s))
	}
	if got := c["ipv6.drop.martian"] + c["ipv6.drop.martian-destination"] + c["ipv6.drop.bad-source"]; got != uint64(n6) {
		t.Errorf("%d IPv6 martians, want %d: %v", got, n6, drops(h.s))
	}
}

// TestBroadcast: who gets broadcasts, and that nothing is said about them.
func TestBroadcast(t *testing.T) {
	for _, dst := range []string{"255.255.255.255", "10.77.0.255"} {
		t.Run(dst, func(t *testing.T) {
			h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
			bc := netip.MustParseAddr(dst)
			to := func(f *ipv4.Fields) { f.Dst = bc }
			var socks []*stack.Datagram
			for _, local := range []string{"0.0.0.0:68", "[::]:68", dst + ":68", "10.77.0.7:68"} {
				u, _ := h.s.NewUDP(true)
				u.SetShare(true)
				if err := u.Bind(addrPort(local)); err != nil {
					t.Fatalf("%s: %v", local, err)
				}
				defer u.Close()
				socks = append(socks, u)
			}
			frame := func(port uint16) []byte {
				f := ip4(ipv4.ProtoUDP, datagram(false, 67, port, []byte("all"))[34:], to)
				repair(f)
				return f
			}
			if out := h.send(frame(68), frame(99), echo4(1, 1, nil, to), ip4(200, []byte("12345678"), to),
				ip4(ipv4.ProtoTCP, segment(false, 1, 80, 1, 0, tcp.FlagSYN, nil)[34:], to)); len(out) != 0 {
				t.Errorf("a broadcast was answered: %s", describe(out[0]))
			}
			var got []bool
			for _, u := range socks {
				_, _, _, err := u.RecvFrom(make([]byte, 10))
				got = append(got, err == nil)
			}
			if !slices.Equal(got, []bool{true, true, true, false}) {
				t.Errorf("received by %v: want all but the one on the host's address", got)
			}
			wantDrops(t, h.s, "icmp.drop.foreign-group=1", "ipv4.drop.unknown-protocol=1", "tcp.drop.group-destination=1", "udp.drop.no-socket=1")
			// The other way needs permission, and TCP never does it.
			if _, err := h.s.DialTCP(netip.AddrPort{}, netip.AddrPortFrom(bc, 80)); err != syscall.EACCES && err != syscall.ENETUNREACH {
				t.Errorf("connect to broadcast: %v", err)
			}
		})
	}
}

// TestUnicastInBroadcastFrame: a unicast packet in a broadcast frame is taken
// but no error is sent about it (RFC 1122 §3.3.6, §4.1.3.1).
func TestUnicastInBroadcastFrame(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
	u, _ := h.s.NewUDP(true)
	defer u.Close()
	u.Bind(addrPort("0.0.0.0:68"))
	if out := h.send(withMAC(ether.Broadcast, datagram(false, 67, 68, []byte("offer"))), withMAC(ether.Broadcast, datagram(false, 67, 99, nil)),
		withMAC(ether.Broadcast, segment(false, 1, 99, 1, 0, tcp.FlagSYN, nil)), withMAC(ether.Broadcast, echo4(1, 1, nil, nil))); len(out) != 0 {
		t.Errorf("answered: %s", describe(out[0]))
	}
	if n, _, _, err := u.RecvFrom(make([]byte, 10)); err != nil || n != 5 {
		t.Errorf("a DHCP offer: %d bytes, %v", n, err)
	}
}
