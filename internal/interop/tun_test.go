package interop

// A link without Ethernet: a TUN, whose other end is the kernel.

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/tap"
	"github.com/tapstack/tapstack/ether/tun"
	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/stack"
)

// newTUN moves the kernel's addresses from the bridge to a TUN and starts a
// host at its other end.
func newTUN(t *testing.T, o hostOptions) *host {
	l := newLab(t)
	ctx := within(t, patience)
	o.open = func() (ether.Device, error) {
		d, err := tun.Open(tun.Options{Name: "tun9", Offload: o.offload, Queues: o.queues})
		if err != nil {
			return nil, err
		}
		return d, nil
	}
	run(t, ctx, l, "ip", "addr", "flush", "dev", lab.Bridge)
	h := newHost(t, l, hostOptions{open: o.open, wrap: o.wrap, nic: o.nic, services: true, bare: true})
	for _, p := range []netip.Prefix{lab.Kernel4, lab.Kernel6} {
		run(t, ctx, l, "ip", "addr", "add", p.String(), "dev", "tun9")
	}
	run(t, ctx, l, "ip", "link", "set", "tun9", "up")
	eventually(t, patience, "the link is up", func() bool { return h.stack.Links().Of(h.nic).Carrier })
	for _, p := range []netip.Prefix{our4, our6} {
		if err := h.nic.AddAddr(p); err != nil {
			t.Fatal(err)
		}
	}
	h.expect("the link-local address announces itself before the kernel's end is up", "ether.drop.link-down")
	h.expect("the kernel's own multicast, which no MAC address filters", "ipv6.drop.foreign-ip")
	// Nothing is probed: they can be used at once.
	if got := h.nic.Addrs(); len(got) != 3 {
		t.Fatalf("usable at once: %v", got)
	}
	return h
}

// TestTUN talks with the kernel over a TUN, with and without super-frames.
func TestTUN(t *testing.T) {
	for _, o := range []tap.Offload{tap.OffloadOff, tap.OffloadRequire} {
		t.Run(o.String(), func(t *testing.T) {
			h := newTUN(t, hostOptions{offload: o})
			h.serveKernel()
			if c := h.nic.MAC(); !c.IsZero() || !h.nic.PointToPoint() {
				t.Errorf("MAC address %v, point to point %v", c, h.nic.PointToPoint())
			}
			eachFamily(t, func(t *testing.T, fam family) {
				for _, size := range []int{0, 1500 - fam.overhead, 1501 - fam.overhead, 20000} {
					h.ping(t, fam.ours.Addr().String(), fam.ping, size, 2)
				}
			})
			h.ping(t, linkLocal(h)+"%tun9", "-6", 56, 2)
			a := amounts{discard: 20 << 20, chargen: 20 << 20, echo: 8 << 20, sequential: 20, parallel: 20, limit: endurance}
			t.Run("udp", func(t *testing.T) { h.testUDP(t, a) })
			t.Run("connections", func(t *testing.T) { h.testConnections(t, a) })
			t.Run("transfers", func(t *testing.T) { h.testTransfers(t, a) })
			for name, n := range h.stack.Counters() {
				if strings.HasPrefix(name, "arp.") || name == "nd.solicit" || name == "nd.advert" || name == "nd.advert-in" {
					t.Errorf("%s is %d where nobody is to be asked", name, n)
				}
			}
		})
	}
}

// TestTUNRoutes: routes by device, to the kernel's addresses elsewhere, the
// MTU of the interface, and who stands on the way.
func TestTUNRoutes(t *testing.T) {
	h := newTUN(t, hostOptions{})
	ctx := within(t, patience)
	run(t, ctx, h.lab, "ip", "addr", "add", "192.0.2.9/32", "dev", lab.Bridge)
	run(t, ctx, h.lab, "ip", "addr", "add", "2001:db8::9/128", "dev", lab.Bridge, "nodad")
	h.serveKernel()
	for _, p := range []string{"0.0.0.0/0", "::/0"} {
		if err := h.stack.AddRoute(stack.Route{Dst: netip.MustParsePrefix(p), Interface: h.nic}); err != nil {
			t.Fatal(err)
		}
	}
	for _, far := range []string{"192.0.2.9", "2001:db8::9"} {
		c := dial(t, h.ourSide(), "tcp", addr(netip.MustParseAddr(far), 7), patience)
		echo(t, c, 100000)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	// Who looks for the way to us finds one step.
	for _, fam := range families {
		h.expect("what tracepath sends to no socket", "udp.drop.no-socket")
		out := run(t, ctx, h.lab, "tracepath", fam.ping, "-n", fam.ours.Addr().String())
		if !strings.Contains(out, "pmtu 1500 hops 1 back 1") {
			t.Errorf("tracepath:\n%s", out)
		}
	}
}

// TestTUNQueues: a TUN of two queues, with transfers that the kernel shares out
// between them.
func TestTUNQueues(t *testing.T) {
	h := newTUN(t, hostOptions{offload: tap.OffloadRequire, queues: 2})
	h.hangingUp("a segment may be read from one queue after the end of its connection from the other")
	h.serveKernel()
	a := amounts{discard: 20 << 20, chargen: 20 << 20, echo: 8 << 20, sequential: 20, parallel: 40, limit: endurance}
	t.Run("connections", func(t *testing.T) { h.testConnections(t, a) })
	t.Run("transfers", func(t *testing.T) { h.testTransfers(t, a) })
	if out := run(t, within(t, patience), h.lab, "ip", "-d", "link", "show", "tun9"); !strings.Contains(out, "numqueues 2 ") {
		t.Errorf("not two queues:\n%s", out)
	}
}

// TestTUNSLAAC: radvd at the kernel's end of a TUN: the stack asks for routers,
// makes itself an address, and is reached there.
func TestTUNSLAAC(t *testing.T) {
	h := newTUN(t, hostOptions{offload: tap.OffloadRequire, nic: stack.InterfaceConfig{SLAAC: true}})
	ctx := within(t, 3*patience)
	run(t, ctx, h.lab, "ip", "addr", "add", "2001:db8:a::1/64", "dev", "tun9", "nodad")
	a := newAdvertiser(t, h.lab, "tun9")
	a.start("\tprefix 2001:db8:a::/64 { };\n")
	h.expect("multicasts that no MAC address filters", "ipv6.drop.foreign-ip")
	got, err := h.nic.WaitAddr(ctx, func(p netip.Prefix) bool { return netip.MustParsePrefix("2001:db8:a::/64").Contains(p.Addr()) })
	if err != nil {
		t.Fatal(err)
	}
	h.ping(t, got.Addr().String(), "-6", 2000, 2)
	w, err := h.stack.Routes().Get(netip.MustParseAddr("2001:db8:9::1"), netip.Addr{}, nil)
	if err != nil || w.Source != got.Addr() || !w.NextHop.IsLinkLocalUnicast() {
		t.Errorf("%+v, %v", w, err)
	}
	// One goes out though the advertisement came first (RFC 4861 §6.3.7).
	eventually(t, patience, "a router solicitation", func() bool { return h.count("nd.router-solicit") != 0 })
	if h.count("nd.solicit") != 0 {
		t.Errorf("%d neighbour solicitations", h.count("nd.solicit"))
	}
}
