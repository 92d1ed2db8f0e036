package stack_test

import (
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/stack/simnet"
)

// TestSameLinkLocal: a neighbour on one link may have the link-local address
// that is ours on another (RFC 4007 §6): it is spoken with, and may be a router.
func TestSameLinkLocal(t *testing.T) {
	n := simnet.New(3)
	s, _ := n.Host(n.Segment(wire.Options{}), stack.Config{}, nil, "fe80::1/64")
	far := n.Segment(wire.Options{})
	second, err := s.AddInterface(stack.InterfaceConfig{Name: "eth1", Device: far.Attach("second", [6]byte{2, 0, 0, 0, 1, 7}), NoDAD: true, IID: ipv6.IIDEUI64})
	if err != nil {
		t.Fatal(err)
	}
	peer, _ := n.Host(far, stack.Config{}, nil, "fe80::1/64", "2001:db8::1/64")
	t.Cleanup(func() { s.Close(); peer.Close() })
	n.RunFor(2 * time.Second)
	server := newUDP(t, peer)
	if err := server.Bind(addrPort("[::]:7")); err != nil {
		t.Fatal(err)
	}
	if err := s.AddRoute(stack.Route{Dst: netip.MustParsePrefix("2001:db8::/64"), Gateway: netip.MustParseAddr("fe80::1%eth1")}); err != nil {
		t.Errorf("a router with our address on another link: %v", err)
	}
	if err := s.AddRoute(stack.Route{Dst: netip.MustParsePrefix("2001:db8:9::/64"), Gateway: netip.MustParseAddr("fe80::1%eth0")}); err == nil {
		t.Error("we are a router of ours")
	}
	b := make([]byte, 10)
	for _, to := range []string{"[fe80::1%eth1]:7", "[2001:db8::1]:7"} {
		u := newUDP(t, s)
		u.SetInterface(second)
		if err := u.SendTo([]byte("x"), addrPort(to)); err != nil {
			t.Fatalf("%s: %v", to, err)
		}
		n.RunFor(time.Second)
		_, _, from, err := server.RecvFrom(b)
		if err != nil {
			t.Fatalf("%s: nothing has come: %v", to, err)
		}
		if err := server.SendTo([]byte("y"), from); err != nil {
			t.Fatal(err)
		}
		n.RunFor(time.Second)
		if _, _, _, err := u.RecvFrom(b); err != nil {
			t.Errorf("%s: no answer: %v", to, err)
		}
	}
	// On its own link it is we.
	u := newUDP(t, s)
	if err := u.Bind(addrPort("[fe80::1%eth0]:9")); err != nil {
		t.Fatal(err)
	}
	if err := u.SendTo([]byte("z"), addrPort("[fe80::1%eth0]:9")); err != nil {
		t.Fatal(err)
	}
	n.RunFor(time.Second)
	if _, _, _, err := u.RecvFrom(b); err != nil {
		t.Errorf("to ourselves: %v", err)
	}
	if _, _, _, err := server.RecvFrom(b); err != syscall.EAGAIN {
		t.Errorf("the neighbour heard it: %v", err)
	}
}
