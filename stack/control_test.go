package stack_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/stack"
)

// changes reads all that a watch has.
func changes(w *stack.Watch) (list []string) {
	for {
		c, err := w.TryNext()
		if err != nil {
			if err != syscall.EAGAIN {
				list = append(list, err.Error())
			}
			return list
		}
		list = append(list, c.String())
	}
}

func same(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestChanges: every change of links, addresses, routes and neighbours is told,
// in order; who does not read is told that something is missing.
func TestChanges(t *testing.T) {
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	h := newBare(t, stack.Config{}, stack.InterfaceConfig{DisableIPv6: true})
	w := h.s.Watch(stack.AllChanges, 0)
	h.add("10.77.0.7/24")
	h.add("10.77.0.8/24")
	h.s.AddRoute(stack.Route{Dst: p("0.0.0.0/0"), Gateway: a("10.77.0.1"), Metric: 5, Origin: stack.OriginDHCP})
	h.s.AddRoute(stack.Route{Dst: p("192.0.2.0/24"), Type: stack.RouteProhibit})
	same(t, "made", changes(w), "address added: 10.77.0.7/24 dev eth0", "address added: 10.77.0.8/24 dev eth0 secondary",
		"route added: default via 10.77.0.1 dev eth0 proto dhcp metric 5", "route added: prohibit 192.0.2.0/24")
	if err := h.i.DelAddr(a("10.77.0.7")); err != nil {
		t.Fatal(err)
	}
	same(t, "promoted", changes(w), "address removed: 10.77.0.7/24 dev eth0", "address changed: 10.77.0.8/24 dev eth0")

	n := h.s.Neighbours()
	n.Set(h.i, a("10.77.0.1"), ether.Addr{2, 0, 0, 0, 0, 1})
	n.Set(h.i, a("10.77.0.1"), ether.Addr{2, 0, 0, 0, 0, 2})
	if list := n.List(); len(list) != 1 || list[0].State != stack.NeighbourStatic || list[0].MAC != (ether.Addr{2, 0, 0, 0, 0, 2}) {
		t.Errorf("neighbours %v", list)
	}
	n.Flush(h.i)
	if err := n.Remove(h.i, a("10.77.0.1")); err != nil {
		t.Error(err)
	}
	same(t, "neighbours", changes(w), "neighbour added: 10.77.0.1 dev eth0 lladdr 02:00:00:00:00:01 static",
		"neighbour changed: 10.77.0.1 dev eth0 lladdr 02:00:00:00:00:02 static", "neighbour removed: 10.77.0.1 dev eth0 lladdr 02:00:00:00:00:02 static")
	for _, x := range []error{n.Set(h.i, a("10.77.0.255"), hostMAC), n.Set(h.i, a("224.0.0.1"), hostMAC), n.Set(h.i, a("10.77.0.1"), ether.Broadcast)} {
		if !errors.Is(x, syscall.EINVAL) {
			t.Errorf("impossible neighbour: %v", x)
		}
	}
	if err := n.Remove(h.i, a("10.77.0.1")); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("twice: %v", err)
	}

	small := h.s.Watch(stack.RouteChange, 2)
	for i := range 5 {
		h.s.AddRoute(stack.Route{Dst: p(fmt.Sprintf("10.%d.0.0/16", i)), Gateway: a("10.77.0.1")})
	}
	same(t, "not read", changes(small), "route added: 10.0.0.0/16 via 10.77.0.1 dev eth0", "route added: 10.1.0.0/16 via 10.77.0.1 dev eth0",
		"changes were lost: "+syscall.ENOBUFS.Error())
	h.s.DelRoute(stack.Route{Dst: p("10.2.0.0/16")})
	same(t, "read", changes(small), "route removed: 10.2.0.0/16 via 10.77.0.1 dev eth0")
	small.Close()
	if _, err := small.Next(context.Background()); err != net.ErrClosed {
		t.Errorf("closed: %v", err)
	}
	changes(w)
	h.s.Close()
	if _, err := w.Next(context.Background()); err != net.ErrClosed {
		t.Errorf("closed with the stack: %v", err)
	}
	if _, err := h.s.Watch(stack.AllChanges, 0).Next(context.Background()); err != net.ErrClosed {
		t.Errorf("of a closed stack: %v", err)
	}
}

// TestWatchLoses: once something is lost nothing follows until the reader knows, be
// there room again or not.
func TestWatchLoses(t *testing.T) {
	h := newBare(t, stack.Config{}, stack.InterfaceConfig{DisableIPv6: true})
	h.add("10.77.0.7/24")
	w := h.s.Watch(stack.RouteChange, 2)
	defer w.Close()
	add := func(n int) {
		h.s.AddRoute(stack.Route{Dst: netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/16", n)), Gateway: peerIP4})
	}
	for n := range 3 {
		add(n)
	}
	if c, err := w.TryNext(); err != nil || c.Route.Dst.String() != "10.0.0.0/16" {
		t.Errorf("%v: %v", c, err)
	}
	add(3)
	same(t, "read late", changes(w), "route added: 10.1.0.0/16 via 10.77.0.1 dev eth0", "changes were lost: "+syscall.ENOBUFS.Error())
	add(4)
	same(t, "and on", changes(w), "route added: 10.4.0.0/16 via 10.77.0.1 dev eth0")
}

// TestLinkRemoved: all that goes with an interface is told before it has gone
// itself, and nothing after that.
func TestLinkRemoved(t *testing.T) {
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	h := newBare(t, stack.Config{}, stack.InterfaceConfig{DisableIPv6: true})
	h.add("10.77.0.7/24")
	h.s.AddRoute(stack.Route{Dst: p("0.0.0.0/0"), Gateway: a("10.77.0.1")})
	h.s.Neighbours().Set(h.i, a("10.77.0.1"), peerMAC)
	u := newUDP(t, h.s)
	if err := u.Connect(addrPort("10.77.0.2:9")); err != nil {
		t.Fatal(err)
	}
	u.SendTo([]byte("waits for its neighbour"), netip.AddrPort{})
	w := h.s.Watch(stack.AllChanges, 0)
	if err := h.s.Links().Remove(h.i); err != nil {
		t.Fatal(err)
	}
	same(t, "removed", changes(w), "neighbour removed: 10.77.0.2 dev eth0 incomplete",
		"neighbour removed: 10.77.0.1 dev eth0 lladdr 02:00:00:00:00:01 static", "route removed: default via 10.77.0.1 dev eth0",
		"address removed: 10.77.0.7/24 dev eth0", "link removed: 2: eth0 02:00:00:00:00:07 mtu 1500 down")
	if err := u.TakeError(); err != syscall.EHOSTUNREACH {
		t.Errorf("who waited for a neighbour: %v", err)
	}
	if err := h.s.Neighbours().Set(h.i, a("10.77.0.1"), peerMAC); !errors.Is(err, syscall.ENODEV) {
		t.Errorf("a neighbour of an interface that is gone: %v", err)
	}
	if err := u.Join(stack.Membership{Group: a("239.1.2.3"), Interface: h.i}); err != syscall.ENODEV {
		t.Errorf("a group there: %v", err)
	}
	same(t, "afterwards", changes(w))
	w.Close()
}

// TestPrimaryAndSecondary is Linux's order with promote_secondaries.
func TestPrimaryAndSecondary(t *testing.T) {
	h := newBare(t, stack.Config{}, stack.InterfaceConfig{DisableIPv6: true})
	for _, x := range []string{"10.77.0.7/24", "10.77.0.8/24", "10.77.0.9/24", "10.77.0.10/25", "10.88.0.7/24"} {
		h.add(x)
	}
	flags := func() (list []string) {
		for _, x := range h.s.Addrs().List() {
			if x.Interface == h.i {
				list = append(list, strings.TrimSuffix(x.String()[6:], " dev eth0"))
			}
		}
		return list
	}
	same(t, "at first", flags(), "0.7/24", "0.8/24 dev eth0 secondary", "0.9/24 dev eth0 secondary", "0.10/25", "0.7/24")
	src := func(dst, want string) {
		t.Helper()
		if got := sourceTo(t, h.s, dst); got != want {
			t.Errorf("to %s from %s, want %s", dst, got, want)
		}
	}
	src("10.77.0.200", "10.77.0.7")
	src("10.77.0.100", "10.77.0.10")
	h.i.DelAddr(netip.MustParseAddr("10.77.0.7"))
	same(t, "the primary is gone", flags(), "0.9/24 dev eth0 secondary", "0.10/25", "0.7/24", "0.8/24")
	src("10.77.0.200", "10.77.0.8")
	h.s.AddRoute(stack.Route{Dst: netip.MustParsePrefix("192.0.2.0/24"), Interface: h.i})
	src("192.0.2.1", "10.77.0.10") // the first primary one
	h.s.AddRoute(stack.Route{Dst: netip.MustParsePrefix("192.0.2.0/25"), Interface: h.i, Source: netip.MustParseAddr("10.77.0.9")})
	src("192.0.2.1", "10.77.0.9")
	h.i.DelAddr(netip.MustParseAddr("10.77.0.9"))
	if n := len(h.s.Routes().List()); n != 1 {
		t.Errorf("%d routes, one of them from an address that is gone", n)
	}
	for _, x := range []string{"10.77.0.8", "10.77.0.10", "10.88.0.7"} {
		h.i.DelAddr(netip.MustParseAddr(x))
	}
	if n := len(h.s.Routes().List()); n != 0 {
		t.Errorf("%d routes without an address", n)
	}
}

// TestRouteTypes: what senders are told, and that one in the way of a shorter
// prefix is not passed by.
func TestRouteTypes(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{})
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	for _, r := range []stack.Route{
		{Dst: p("0.0.0.0/0"), Gateway: peerIP4}, {Dst: p("::/0"), Gateway: peerIP6},
		{Dst: p("192.0.2.0/26"), Type: stack.RouteBlackhole}, {Dst: p("192.0.2.64/26"), Type: stack.RouteUnreachable},
		{Dst: p("192.0.2.128/26"), Type: stack.RouteProhibit}, {Dst: p("192.0.2.130/32"), Gateway: peerIP4},
		{Dst: p("2001:db8::/34"), Type: stack.RouteBlackhole}, {Dst: p("2001:db8:4000::/34"), Type: stack.RouteUnreachable},
		{Dst: p("2001:db8:8000::/34"), Type: stack.RouteProhibit}, {Dst: p("198.51.100.0/24"), Gateway: peerIP4, MTU: 1300},
	} {
		if err := h.s.AddRoute(r); err != nil {
			t.Fatal(r, err)
		}
	}
	for dst, want := range map[string]error{
		"192.0.2.1": syscall.EINVAL, "192.0.2.65": syscall.EHOSTUNREACH, "192.0.2.129": syscall.EACCES, "192.0.2.130": nil, "192.0.2.200": nil,
		"2001:db8::1": syscall.EINVAL, "2001:db8:4000::1": syscall.EHOSTUNREACH, "2001:db8:8000::1": syscall.EACCES, "2001:db8:c000::1": nil,
	} {
		if err := newUDP(t, h.s).SendTo([]byte("x"), netip.AddrPortFrom(a(dst), 9)); err != want {
			t.Errorf("%s: %v, want %v", dst, err, want)
		}
	}
	if w, err := h.s.Routes().Get(a("198.51.100.1"), netip.Addr{}, nil); err != nil || w.MTU != 1300 || w.NextHop != peerIP4 || w.Source != hostIP4 {
		t.Errorf("%+v %v", w, err)
	}
	// Equal but for the metric: two routes, removed one by one.
	spare := stack.Route{Dst: p("0.0.0.0/0"), Gateway: peerIP4, Metric: 7, Origin: stack.OriginDHCP}
	n := len(h.s.Routes().List())
	if err := h.s.AddRoute(spare); err != nil {
		t.Error(err)
	}
	if err := h.s.AddRoute(spare); !errors.Is(err, syscall.EEXIST) {
		t.Errorf("twice: %v", err)
	}
	if err := h.s.DelRoute(spare); err != nil || len(h.s.Routes().List()) != n {
		t.Errorf("%v, %d routes of %d", err, len(h.s.Routes().List()), n)
	}
	for _, r := range []stack.Route{
		{Dst: p("203.0.113.0/24"), Type: stack.RouteBlackhole, Gateway: peerIP4}, {Dst: p("203.0.113.0/24"), Type: 9},
		{Dst: p("203.0.113.0/24"), Gateway: peerIP4, Source: a("10.99.0.1")}, {Dst: p("203.0.113.0/24"), Gateway: peerIP4, MTU: 60},
		{Dst: p("203.0.113.0/24"), Gateway: a("10.77.0.255")}, {Dst: p("203.0.113.0/24"), Gateway: a("255.255.255.255"), Interface: h.i, OnLink: true},
		{Dst: p("203.0.113.0/24"), Gateway: a("127.0.0.9"), Interface: h.i, OnLink: true}, {Dst: p("2001:db8:1::/48"), Gateway: peerIP6, MTU: 1279},
		{Dst: p("203.0.113.0/24"), Gateway: peerIP4, Source: hostIP6}, {Dst: p("203.0.113.0/24"), Gateway: peerIP4, Metric: -1},
	} {
		if err := h.s.AddRoute(r); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%v: %v", r, err)
		}
	}
}

// TestNarrowPrefixes: the two addresses of a /31 are hosts (RFC 3021), a /32 has
// no neighbours but those of its routes, and neither has a broadcast address.
func TestNarrowPrefixes(t *testing.T) {
	h := newBare(t, stack.Config{}, stack.InterfaceConfig{DisableIPv6: true})
	a := netip.MustParseAddr
	h.add("192.0.2.8/31")
	h.add("198.51.100.1/32")
	if w, err := h.s.Routes().Get(a("192.0.2.9"), netip.Addr{}, nil); err != nil || w.Broadcast || w.NextHop != a("192.0.2.9") || w.Source != a("192.0.2.8") {
		t.Errorf("the other end of a /31: %+v %v", w, err)
	}
	if w, err := h.s.Routes().Get(a("255.255.255.255"), netip.Addr{}, nil); err != nil || !w.Broadcast {
		t.Errorf("limited broadcast: %+v %v", w, err)
	}
	if _, err := h.s.Routes().Get(a("198.51.100.2"), netip.Addr{}, nil); !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("beside a /32: %v", err)
	}
	gw := stack.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: a("203.0.113.1")}
	if err := h.s.AddRoute(gw); !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("gateway on no link: %v", err)
	}
	gw.Interface = h.i
	if err := h.s.AddRoute(gw); !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("gateway on no link, interface given: %v", err)
	}
	gw.OnLink = true
	if err := h.s.AddRoute(gw); err != nil {
		t.Error(err)
	}
	if w, err := h.s.Routes().Get(a("8.8.8.8"), netip.Addr{}, nil); err != nil || w.NextHop != gw.Gateway || w.Source != a("192.0.2.8") {
		t.Errorf("by a gateway on the link: %+v %v", w, err)
	}
}

// TestRemoveLink: an interface goes with all that hangs on it, and its number
// is not given again.
func TestRemoveLink(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{})
	a := netip.MustParseAddr
	i1, _ := h.second()
	i1.AddAddr(netip.MustParsePrefix("10.99.0.7/24"))
	h.s.AddRoute(stack.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: a("10.99.0.1")})
	u := newUDP(t, h.s)
	if err := u.Connect(addrPort("10.99.0.2:9")); err != nil {
		t.Fatal(err)
	}
	if err := u.SendTo([]byte("waits for its neighbour"), netip.AddrPort{}); err != nil {
		t.Fatal(err)
	}
	i1.JoinGroup(a("239.1.2.3"))
	w := h.s.Watch(stack.LinkChange|stack.RouteChange, 0)
	if err := h.s.Links().Remove(i1); err != nil {
		t.Fatal(err)
	}
	same(t, "told", changes(w), "route removed: default via 10.99.0.1 dev eth1", "link removed: 3: eth1 02:00:00:00:01:07 mtu 1500 down")
	if list := h.s.Links().List(); len(list) != 2 || h.s.InterfaceByIndex(3) != nil || h.s.InterfaceOf(a("10.99.0.7")) != nil {
		t.Errorf("left: %v", list)
	}
	if err := u.SendTo([]byte("x"), netip.AddrPort{}); !errors.Is(err, syscall.EHOSTUNREACH) && !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("sent: %v", err)
	}
	u.TakeError()
	v := newUDP(t, h.s)
	v.SetInterface(i1)
	if err := v.SendTo([]byte("x"), addrPort("10.99.0.2:9")); err != syscall.ENODEV {
		t.Errorf("bound to it: %v", err)
	}
	for what, err := range map[string]error{"twice": h.s.Links().Remove(i1), "address": i1.AddAddr(netip.MustParsePrefix("10.98.0.7/24")),
		"route": h.s.AddRoute(stack.Route{Dst: netip.MustParsePrefix("10.97.0.0/16"), Interface: i1})} {
		if !errors.Is(err, syscall.ENODEV) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := h.s.Links().Remove(h.s.InterfaceByIndex(1)); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("loopback: %v", err)
	}
	i2, _ := h.second()
	if i2.Index() != 4 || h.s.Links().Named("eth1") != i2 {
		t.Errorf("the next one has number %d", i2.Index())
	}
	if len(h.send(echo4(1, 1, nil, nil))) != 0 { // asks for the peer's address first
		h.run(time.Second)
	}
}

// TestSourceGone: a connected socket whose address goes takes another one, and
// hears what comes there; one bound to it says that it cannot.
func TestSourceGone(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{})
	h.i.AddAddr(netip.MustParsePrefix("10.77.0.8/24"))
	u, bound := newUDP(t, h.s), newUDP(t, h.s)
	if err := bound.Bind(netip.AddrPortFrom(hostIP4, 0)); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*stack.Datagram{u, bound} {
		if err := s.Connect(netip.AddrPortFrom(peerIP4, 9)); err != nil {
			t.Fatal(err)
		}
	}
	if got := u.LocalAddr().Addr(); got != hostIP4 {
		t.Fatal(got)
	}
	h.i.DelAddr(hostIP4)
	if err := u.SendTo([]byte("x"), netip.AddrPort{}); err != nil {
		t.Error(err)
	}
	if got := u.LocalAddr().Addr().String(); got != "10.77.0.8" {
		t.Errorf("from %s", got)
	}
	if err := bound.SendTo([]byte("x"), netip.AddrPort{}); err != syscall.EADDRNOTAVAIL {
		t.Errorf("bound: %v", err)
	}
}

// TestReversePath is rp_filter: whose source would be answered elsewhere is not
// believed.
func TestReversePath(t *testing.T) {
	for _, c := range []struct {
		mode              stack.RPFilter
		onLink, elsewhere bool
		nowhere           bool
	}{{stack.RPFilterOff, true, true, true}, {stack.RPFilterStrict, true, false, false}, {stack.RPFilterLoose, true, true, false}} {
		h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{RPFilter: c.mode})
		i1, _ := h.second()
		i1.AddAddr(netip.MustParsePrefix("10.99.0.7/24"))
		for src, want := range map[string]bool{"10.77.0.1": c.onLink, "10.99.0.1": c.elsewhere, "192.0.2.1": c.nowhere} {
			before := h.s.Counters()["icmp.input"]
			h.send(echo4(1, 1, nil, func(f *ipv4.Fields) { f.Src = netip.MustParseAddr(src) }))
			if got := h.s.Counters()["icmp.input"] > before; got != want {
				t.Errorf("mode %d: from %s taken %v", c.mode, src, got)
			}
		}
	}
}
