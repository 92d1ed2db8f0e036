package stack_test

import (
	"errors"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
)

// between is the device of a link between two.
type between struct{ *injector }

func (between) Caps() ether.Caps { return ether.Caps{MTU: 1500, Queues: 1, PointToPoint: true} }

// TestPointToPointSLAAC: routers are solicited on a link between two, without a
// link-layer address (RFC 4861 §4.1), and their advertisements believed, though
// they have none either; nothing is probed and nobody asked.
func TestPointToPointSLAAC(t *testing.T) {
	d := &injector{mtu: 1500}
	h := newBare(t, stack.Config{}, stack.InterfaceConfig{SLAAC: true, Device: between{d}})
	h.d = d
	all := strings.Join(h.said(10*time.Second), "\n")
	if !strings.Contains(all, "hops 255 RS options 0") || strings.Contains(all, "NS ") || strings.Contains(all, ">ff02::2 ") && !strings.Contains(all, "fe80::") {
		t.Errorf("says\n%s", all)
	}
	router := netip.MustParseAddr("fe80::1")
	ra := ipv6.RouterAdvert{Lifetime: 30 * time.Minute, Prefixes: autoPrefix("2001:db8:a::/64", 6*time.Hour, 3*time.Hour)}
	f := icmp6(255, router, ipv6.AllNodes, ra.Append(nil))
	clear(f[:12])
	h.d.inject(f)
	h.run(time.Second)
	var got []string
	for _, a := range h.i.Addrs() {
		got = append(got, a.Addr().String())
	}
	if len(got) != 2 || !strings.HasPrefix(got[1], "2001:db8:a::") {
		t.Errorf("addresses %v", got)
	}
	if w, err := h.s.Routes().Get(netip.MustParseAddr("2001:db8:9::1"), netip.Addr{}, nil); err != nil || w.NextHop != router {
		t.Errorf("%+v, %v", w, err)
	}
	// The address is of use at once, by whatever router.
	h.d.take()
	u := newUDP(t, h.s)
	if err := u.SendTo([]byte("x"), addrPort("[2001:db8:9::1]:9")); err != nil || len(h.d.take()) != 1 {
		t.Errorf("not sent at once: %v", err)
	}
	n := h.s.Neighbours()
	for _, err := range []error{n.Set(h.i, router, rogueMAC), n.Remove(h.i, router)} {
		if !errors.Is(err, syscall.EOPNOTSUPP) || !strings.Contains(err.Error(), "eth0 is a link between two") {
			t.Errorf("neighbours: %v", err)
		}
	}
	if l := n.List(); len(l) != 0 {
		t.Errorf("neighbours: %v", l)
	}
}
