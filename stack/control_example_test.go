package stack_test

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/stack/simnet"
)

// A running stack is changed, and tells who watches.
func ExampleStack_Watch() {
	n := simnet.New(1)
	s := stack.New(stack.Config{Clock: n.Clock(), Seed: 1})
	defer s.Close()
	changes := s.Watch(stack.LinkChange|stack.AddrChange|stack.RouteChange, 0)

	mac := ether.Addr{2, 0, 0, 0, 0, 7}
	nic, err := s.Links().Add(stack.InterfaceConfig{Name: "eth0", MAC: mac, Device: n.Segment(wire.Options{}).Attach("eth0", mac), DisableIPv6: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	s.Addrs().Add(stack.Addr{Interface: nic, Prefix: netip.MustParsePrefix("192.0.2.7/24")})
	s.Routes().Add(stack.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("192.0.2.1")})
	s.Routes().Add(stack.Route{Dst: netip.MustParsePrefix("10.0.0.0/8"), Type: stack.RouteUnreachable})
	way, err := s.Routes().Get(netip.MustParseAddr("198.51.100.1"), netip.Addr{}, nil)
	fmt.Println(way.NextHop, way.Source, way.MTU, err)
	_, err = s.Routes().Get(netip.MustParseAddr("10.1.1.1"), netip.Addr{}, nil)
	fmt.Println(err)
	s.Links().Remove(nic)

	changes.Close()
	for {
		c, err := changes.Next(context.Background())
		if err != nil {
			return // net.ErrClosed; ENOBUFS would mean: list everything anew
		}
		fmt.Println(c)
	}
	// Output:
	// 192.0.2.1 192.0.2.7 1500 <nil>
	// route to 10.1.1.1: no route to host
	// link added: 2: eth0 02:00:00:00:00:07 mtu 1500 up
	// address added: 192.0.2.7/24 dev eth0
	// route added: default via 192.0.2.1 dev eth0
	// route added: unreachable 10.0.0.0/8
	// route removed: default via 192.0.2.1 dev eth0
	// address removed: 192.0.2.7/24 dev eth0
	// link removed: 2: eth0 02:00:00:00:00:07 mtu 1500 down
}
