package stack_test

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// cable is an injector that can be pulled out.
type cable struct {
	*injector
	link ether.LinkState
}

func (c *cable) Watch(f func(ether.Link)) func() { return c.link.Watch(f) }
func (c *cable) up(up bool)                      { c.link.Set(ether.Link{Up: up, MTU: c.mtu}) }

func newCabled(t *testing.T, ic stack.InterfaceConfig, up bool) (*testHost, *cable) {
	t.Helper()
	c := &cable{injector: &injector{mtu: 1500}}
	c.up(up)
	ic.Device = c
	h := newBare(t, stack.Config{}, ic)
	h.d = c.injector
	return h, c
}

// said lists what a host says within d, each thing once.
func (h *testHost) said(d time.Duration) (list []string) {
	h.Helper()
	for _, e := range h.watch(h.n.Now(), d) {
		if !slices.Contains(list, e.what) {
			list = append(list, e.what)
		}
	}
	slices.Sort(list)
	return list
}

// TestSetDown: an interface that the user sets down has no routes and no
// neighbours, and says nothing; set up again it claims all its addresses.
func TestSetDown(t *testing.T) {
	h := newBare(t, stack.Config{}, stack.InterfaceConfig{SLAAC: true})
	h.add("10.77.0.7/24")
	h.add("fd77::7/64")
	a := netip.MustParseAddr
	for _, r := range []stack.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: a("10.77.0.1")}, {Dst: netip.MustParsePrefix("2001:db8::/32"), Gateway: a("fd77::1")}} {
		if err := h.s.AddRoute(r); err != nil {
			t.Fatal(err)
		}
	}
	first := h.said(10 * time.Second)
	links, w := h.s.Links(), h.s.Watch(stack.LinkChange|stack.NeighbourChange, 0)
	h.s.Neighbours().Set(h.i, a("10.77.0.9"), rogueMAC)
	u, p := newUDP(t, h.s), newPacket(t, h.s, false, stack.EtherAll)
	p.Bind(h.i, 0)
	if err := u.SendTo([]byte("waits"), addrPort("10.77.0.1:9")); err != nil {
		t.Fatal(err)
	}
	h.said(time.Millisecond)
	changes(w)
	if err := links.SetUp(h.i, false); err != nil {
		t.Fatal(err)
	}
	same(t, "down", changes(w), "link changed: 2: eth0 "+hostMAC.String()+" mtu 1500 down", "neighbour removed: 10.77.0.1 dev eth0 incomplete")
	for _, to := range []string{"10.77.0.1:9", "192.0.2.1:9", "[fd77::1]:9", "[2001:db8::1]:9"} {
		u := newUDP(t, h.s)
		if err := u.SendTo([]byte("x"), addrPort(to)); err != syscall.ENETUNREACH {
			t.Errorf("to %s: %v", to, err)
		}
		if _, err := h.s.DialTCP(netip.AddrPort{}, addrPort(to)); err != syscall.ENETUNREACH {
			t.Errorf("dial %s: %v", to, err)
		}
	}
	if _, err := h.s.Routes().Get(a("10.77.0.1"), netip.Addr{}, h.i); !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("by the interface: %v", err)
	}
	if d := drops(h.s); !slices.Contains(d, "ipv4.drop.no-neighbour=1") {
		t.Errorf("what waited for the neighbour: %v", d)
	}
	if err := p.TakeError(); err != syscall.ENETDOWN {
		t.Errorf("packet socket: %v", err)
	}
	if err := p.Send(make([]byte, 60), nil, 0, nil); err != syscall.ENETDOWN {
		t.Errorf("packet socket: %v", err)
	}
	// What comes is not looked at, and nothing is said, whatever time goes by.
	h.send(arpProbeFrom(rogueMAC, a("10.77.0.7")))
	h.n.RunFor(time.Hour)
	if s := h.d.take(); len(s) != 0 {
		t.Errorf("says while it is down: %q", s)
	}
	if n := h.s.Counters()["ether.drop.link-down"]; n == 0 {
		t.Error("what came was not counted")
	}
	if n := len(h.s.Routes().List()); n != 2 {
		t.Errorf("%d routes", n)
	}
	if l := h.s.Neighbours().List(); len(l) != 1 || l[0].State != stack.NeighbourStatic {
		t.Errorf("neighbours %v", l)
	}

	if err := links.SetUp(h.i, true); err != nil {
		t.Fatal(err)
	}
	for _, x := range h.s.Addrs().List() {
		if x.Interface == h.i && x.Tentative != x.Prefix.Addr().Is6() {
			t.Errorf("at once: %v", x)
		}
	}
	if again := h.said(10 * time.Second); !slices.Equal(again, first) {
		t.Errorf("said again:\n%s\nat first:\n%s", strings.Join(again, "\n"), strings.Join(first, "\n"))
	}
	same(t, "up", changes(w), "link changed: 2: eth0 "+hostMAC.String()+" mtu 1500 up")
	if err := h.i.Ready(atOnce); err != nil || len(h.i.Addrs()) != 3 {
		t.Errorf("%v, %v", h.i.Addrs(), err)
	}
	if _, err := h.s.Routes().Get(a("192.0.2.1"), netip.Addr{}, nil); err != nil {
		t.Error(err)
	}
	if err := links.SetUp(h.i, true); err != nil || len(changes(w)) != 0 {
		t.Errorf("nothing to do: %v", err)
	}
	if err := links.SetUp(links.Named("lo"), false); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("loopback: %v", err)
	}
	links.Remove(h.i)
	if err := links.SetUp(h.i, false); !errors.Is(err, syscall.ENODEV) {
		t.Errorf("removed: %v", err)
	}
}

// TestCarrier: without carrier nothing leaves and nobody is told; with it IPv4
// addresses are announced, or probed with ACD, groups reported and routers
// asked, while IPv6 addresses stay in use.
func TestCarrier(t *testing.T) {
	a := netip.MustParseAddr
	h, c := newCabled(t, stack.InterfaceConfig{SLAAC: true}, true)
	h.add("10.77.0.7/24")
	h.add("fd77::7/64")
	h.said(10 * time.Second)
	w := h.s.Watch(stack.LinkChange, 0)
	c.up(false)
	u := newUDP(t, h.s)
	for _, to := range []string{"10.77.0.1:9", "255.255.255.255:9", "[ff02::1%eth0]:9"} {
		u := newUDP(t, h.s)
		u.Set(stack.DatagramBroadcast, 1)
		if err := u.SendTo([]byte("lost"), addrPort(to)); err != nil {
			t.Errorf("to %s: %v", to, err)
		}
	}
	if s := h.said(time.Minute); len(s) != 0 {
		t.Errorf("says without carrier: %q", s)
	}
	if n := len(h.i.Addrs()); n != 3 {
		t.Errorf("%d addresses", n)
	}
	c.up(true)
	s := h.said(10 * time.Second)
	if err := u.SendTo([]byte("arrives"), addrPort("10.77.0.1:9")); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"ARP 10.77.0.7 asks for 10.77.0.7", "RS options 1", "MLD 4:ff02::1:ff00:7"} {
		if !slices.ContainsFunc(s, func(x string) bool { return strings.Contains(x, want) }) {
			t.Errorf("no %q in\n%s", want, strings.Join(s, "\n"))
		}
	}
	if slices.ContainsFunc(s, func(x string) bool { return strings.Contains(x, " NS ") }) {
		t.Errorf("probes again:\n%s", strings.Join(s, "\n"))
	}
	same(t, "changes", changes(w), "link changed: 2: eth0 "+hostMAC.String()+" mtu 1500 up no-carrier", "link changed: 2: eth0 "+hostMAC.String()+" mtu 1500 up")
	if d := drops(h.s); !slices.Contains(d, "ipv4.drop.link-down=2") {
		t.Errorf("drops %v", d)
	}

	// An address that is probed waits for the carrier, and so again.
	h, c = newCabled(t, stack.InterfaceConfig{ACD: true}, false)
	h.add("10.77.0.7/24")
	if s := h.said(time.Minute); len(s) != 0 || len(h.i.Addrs()) != 0 {
		t.Errorf("never had a carrier: %q, %v", s, h.i.Addrs())
	}
	for range 2 {
		c.up(true)
		if s := h.said(100 * time.Millisecond); len(h.i.Addrs()) > 1 {
			t.Errorf("used unprobed: %v %q", h.i.Addrs(), s)
		}
		h.run(20 * time.Second)
		if len(h.i.Addrs()) != 2 {
			t.Errorf("probed: %v", h.i.Addrs())
		}
		c.up(false)
	}
	c.up(true)
	h.send(arpReplyFrom(rogueMAC, a("10.77.0.7")))
	h.run(20 * time.Second)
	if len(h.i.Addrs()) != 1 {
		t.Errorf("somebody else's by now: %v", h.i.Addrs())
	}
}

// TestWithoutCarrier: routes of links without carrier are the last resort.
func TestWithoutCarrier(t *testing.T) {
	h, c := newCabled(t, stack.InterfaceConfig{DisableIPv6: true}, true)
	h.add("10.77.0.7/24")
	other, err := h.s.AddInterface(stack.InterfaceConfig{Name: "eth1", Device: &injector{mtu: 1500}, DisableIPv6: true})
	if err == nil {
		err = other.AddAddr(netip.MustParsePrefix("10.88.0.7/24"))
	}
	if err != nil {
		t.Fatal(err)
	}
	a := netip.MustParseAddr
	h.s.AddRoute(stack.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: a("10.77.0.1")})
	h.s.AddRoute(stack.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: a("10.88.0.1"), Metric: 100})
	by := func(dst, want string) {
		t.Helper()
		r, err := h.s.Routes().Get(a(dst), netip.Addr{}, nil)
		if got := ""; err != nil && want != "" || err == nil && r.NextHop.String() != want {
			t.Errorf("to %s by %v, %v; want %s%s", dst, r.NextHop, err, want, got)
		}
	}
	by("192.0.2.1", "10.77.0.1")
	c.up(false)
	by("192.0.2.1", "10.88.0.1")
	by("10.77.0.9", "10.88.0.1")
	h.s.Links().SetUp(other, false)
	by("192.0.2.1", "10.77.0.1")
	by("10.77.0.9", "10.77.0.9")
	h.s.Links().SetUp(h.i, false)
	by("192.0.2.1", "")
	h.s.Links().SetUp(h.i, true)
	c.up(true)
	by("192.0.2.1", "10.77.0.1")
}

// TestFlap: TCP goes on after the link was away, however that came.
func TestFlap(t *testing.T) {
	for name, flap := range map[string]func(p *pair, port *wire.Port, up bool){
		"set down":   func(p *pair, _ *wire.Port, up bool) { p.a.Links().SetUp(p.ia, up) },
		"no carrier": func(_ *pair, port *wire.Port, up bool) { port.SetUp(up) },
		"both": func(p *pair, port *wire.Port, up bool) {
			port.SetUp(up)
			p.a.Links().SetUp(p.ia, up)
		},
	} {
		for _, to := range []string{"10.77.0.2:7", "[fd77::2]:7"} {
			t.Run(name+" "+to, func(t *testing.T) {
				p := newPair(t, wire.Options{Delay: 5 * time.Millisecond, Rate: 20e6})
				p.listenEcho(p.b, 7)
				port := p.seg.Port("host1")
				for n, away := range []time.Duration{100 * time.Millisecond, 3 * time.Second, 20 * time.Second} {
					p.net.After(time.Duration(n)*40*time.Second+300*time.Millisecond, func() { flap(p, port, false) })
					p.net.After(time.Duration(n)*40*time.Second+300*time.Millisecond+away, func() { flap(p, port, true) })
				}
				for range 3 {
					data := pattern(2 << 20)
					start := p.net.Now()
					if got := p.echoTransfer(to, data, 3*time.Minute); !bytes.Equal(got, data) {
						t.Fatalf("%d bytes came back", len(got))
					}
					if took := p.net.Now().Sub(start); took < 800*time.Millisecond {
						t.Errorf("took %v, so no flap can have met it", took)
					}
					p.net.RunFor(40*time.Second - p.net.Now().Sub(start))
				}
				p.net.RunFor(5 * time.Minute)
				wantTable(t, p.a, 0, 0)
				wantTable(t, p.b, 0, 0)
				p.wantDrops("tcp.drop.out-of-window", "tcp.drop.old-ack", "tcp.drop.no-connection", "ether.drop.device", "ether.drop.link-down",
					"ipv4.drop.link-down", "ipv6.drop.link-down", "ipv4.drop.no-neighbour", "ipv6.drop.no-neighbour", "ipv4.drop.no-route", "ipv6.drop.no-route")
			})
		}
	}
}

// TestFlapTimesOut: who waits for longer than TCP bears is told that the
// network was not reachable, as on Linux.
func TestFlapTimesOut(t *testing.T) {
	p := newPair(t, wire.Options{})
	p.listenEcho(p.b, 7)
	c, err := p.a.DialTCP(netip.AddrPort{}, addrPort("10.77.0.2:7"))
	if err != nil {
		t.Fatal(err)
	}
	p.net.RunFor(time.Second)
	p.a.Links().SetUp(p.ia, false)
	c.Write([]byte("text"))
	p.net.RunFor(time.Minute)
	if err := c.Err(); err != nil || c.State() != tcp.Established {
		t.Fatalf("after a minute: %v, %v", err, c.State())
	}
	p.net.RunFor(time.Hour)
	if err := c.Err(); err != syscall.ENETUNREACH {
		t.Errorf("in the end: %v", err)
	}
}

// TestSetDownSLAAC: what routers have taught is forgotten, learnt again, and
// connections from such addresses go on.
func TestSetDownSLAAC(t *testing.T) {
	l := newLink(t, stack.InterfaceConfig{IID: ipv6.IIDEUI64})
	r := l.router(1)
	ra := ipv6.RouterAdvert{Lifetime: 30 * time.Minute, HopLimit: 64, MTU: 1400, Prefixes: autoPrefix("2001:db8:a::/64", 6*time.Hour, 3*time.Hour)}
	r.advertise(ra)
	if len(l.addrs("2001:db8:a::/64")) != 1 || len(l.s.Routes().List()) != 2 {
		t.Fatalf("at first: %v, %v", l.addrs("::/0"), l.s.Routes().List())
	}
	c, err := l.s.DialTCP(netip.AddrPort{}, addrPort("[2001:db8:9::1]:80"))
	if err != nil {
		t.Fatal(err)
	}
	l.n.RunFor(time.Second)
	l.s.Links().SetUp(l.i, false)
	if len(l.addrs("::/0")) != 1+1 || len(l.s.Routes().List()) != 0 { // ::1 and the link-local one
		t.Errorf("down: %v, %v", l.addrs("::/0"), l.s.Routes().List())
	}
	if mtu, _ := l.i.Link6(); mtu != 1500 {
		t.Errorf("MTU %d", mtu)
	}
	r.advertise(ra)
	if len(l.addrs("2001:db8:a::/64")) != 0 {
		t.Error("learns while it is down")
	}
	l.s.Links().SetUp(l.i, true)
	l.n.RunFor(3 * time.Second)
	if n := l.s.Counters()["nd.router-solicit"]; n < 2 {
		t.Errorf("%d solicitations", n)
	}
	r.advertise(ra)
	if len(l.addrs("2001:db8:a::/64")) != 1 || len(l.s.Routes().List()) != 2 {
		t.Errorf("again: %v, %v", l.addrs("::/0"), l.s.Routes().List())
	}
	before := r.got
	l.n.RunFor(time.Minute)
	if r.got == before || c.Err() != nil {
		t.Errorf("the connection does not go on: %d packets, %v", r.got-before, c.Err())
	}
}

// TestSetMTU: everything follows, connections that are open too.
func TestSetMTU(t *testing.T) {
	longest := 0
	p := newPairOf(t, 1, stack.Config{}, wire.Options{MTU: 9000, Delay: 5 * time.Millisecond, Rate: 20e6,
		Drop: func(f []byte) bool { longest = max(longest, len(f)); return false }})
	p.listenEcho(p.b, 7)
	set := func(i *stack.Interface, mtu int) {
		if err := i.Stack().Links().SetMTU(i, mtu); err != nil {
			t.Errorf("MTU %d: %v", mtu, err)
		}
	}
	w := p.a.Watch(stack.LinkChange, 0)
	var seen []int
	for n, mtu := range []int{1500, 1280, 4000, 0} {
		p.net.After(time.Duration(n+1)*500*time.Millisecond, func() {
			p.net.After(100*time.Millisecond, func() { longest = 0 }) // what was under way
			set(p.ia, mtu)
			set(p.ib, mtu)
		})
		p.net.After(time.Duration(n+2)*500*time.Millisecond-time.Millisecond, func() { seen = append(seen, longest-ether.HeaderLen) })
	}
	data := pattern(8 << 20)
	if got := p.echoTransfer("[fd77::2]:7", data, time.Minute); !bytes.Equal(got, data) {
		t.Fatalf("%d bytes came back", len(got))
	}
	if want := []int{1500, 1280, 4000, 9000}; !slices.Equal(seen, want) {
		t.Errorf("the longest packets: %v, want %v", seen, want)
	}
	if list := changes(w); len(list) != 4 || !strings.Contains(list[1], "mtu 1280 up") || !strings.Contains(list[3], "mtu 9000 up") {
		t.Errorf("told: %q", list)
	}
	p.wantDrops("tcp.drop.out-of-window", "tcp.drop.old-ack")
	for _, mtu := range []int{-1, 67, 9001} {
		if err := p.a.Links().SetMTU(p.ia, mtu); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("MTU %d: %v", mtu, err)
		}
	}
	// The device's own, which the interface follows; and not, when the user has
	// set another.
	port := p.seg.Port("host1")
	port.SetMTU(2000)
	if p.ia.MTU() != 2000 {
		t.Errorf("MTU %d", p.ia.MTU())
	}
	set(p.ia, 1600)
	port.SetMTU(9000)
	if p.ia.MTU() != 1600 {
		t.Errorf("MTU %d", p.ia.MTU())
	}
	port.SetMTU(1400)
	if p.ia.MTU() != 1400 {
		t.Errorf("MTU %d", p.ia.MTU())
	}
	u := newUDP(t, p.a)
	u.Set(stack.DatagramMTUDiscover, stack.PMTUDo)
	if err := u.SendTo(make([]byte, 1401-28), addrPort("10.77.0.2:9")); err != syscall.EMSGSIZE {
		t.Errorf("datagram: %v", err)
	}
}

// TestMTUBelowIPv6: a link of less than 1280 bytes has no IPv6 (RFC 8200 §5),
// and one of 68 still has IPv4.
func TestMTUBelowIPv6(t *testing.T) {
	l := newLink(t, stack.InterfaceConfig{IID: ipv6.IIDEUI64})
	r := l.router(1)
	if err := l.i.AddAddr(netip.MustParsePrefix("10.77.0.7/24")); err != nil {
		t.Fatal(err)
	}
	ra := ipv6.RouterAdvert{Lifetime: 30 * time.Minute, Prefixes: autoPrefix("2001:db8:a::/64", 6*time.Hour, 3*time.Hour)}
	r.advertise(ra)
	l.s.AddRoute(stack.Route{Dst: netip.MustParsePrefix("2001:db8:7::/48"), Gateway: r.ll, Interface: l.i})
	c, err := l.s.DialTCP(netip.AddrPort{}, addrPort("[2001:db8:9::1]:80"))
	if err != nil {
		t.Fatal(err)
	}
	l.n.RunFor(time.Second)
	if err := l.s.Links().SetMTU(l.i, 68); err != nil {
		t.Fatal(err)
	}
	if a := l.addrs("::/0"); len(a) != 1 || len(l.s.Routes().List()) != 0 {
		t.Errorf("%v, %v", a, l.s.Routes().List())
	}
	if c.Err() != syscall.EADDRNOTAVAIL {
		t.Errorf("connection: %v", c.Err())
	}
	if err := l.i.AddAddr(netip.MustParsePrefix("fd77::7/64")); !errors.Is(err, syscall.EAFNOSUPPORT) {
		t.Errorf("address: %v", err)
	}
	heard := len(l.heard)
	r.advertise(ra)
	l.n.RunFor(time.Hour)
	for _, f := range l.heard[heard:] {
		if h := ether.Header(f); h.Type() == ether.TypeIPv6 && h.Src() == hostMAC {
			t.Fatalf("speaks IPv6: % x", f)
		}
	}
	if w, err := l.s.Routes().Get(netip.MustParseAddr("10.77.0.1"), netip.Addr{}, nil); err != nil || w.MTU != 68 {
		t.Errorf("IPv4: %v, %v", w, err)
	}
	if err := l.s.Links().SetMTU(l.i, 1280); err != nil {
		t.Fatal(err)
	}
	l.n.RunFor(5 * time.Second)
	r.advertise(ra)
	if a := l.addrs("::/0"); len(a) != 3 {
		t.Errorf("again: %v", a)
	}
}
