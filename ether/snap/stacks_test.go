package snap_test

import (
	"context"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/snap"
	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
)

// TestIntermixed: two stacks that speak SNAP exchange data,
// and one without the decorator counts what
// it does not take.
func TestIntermixed(t *testing.T) {
	s := wire.New(nil, wire.Options{Pull: true})
	t.Cleanup(func() { s.Close() })
	a := host(t, s, 1, true)
	b := host(t, s, 2, true)
	c := host(t, s, 3, false)
	ln, err := b.Listen("tcp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		c, err := ln.Accept()
		if err == nil {
			io.Copy(c, c)
			c.Close()
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conn, err := a.DialContext(ctx, "tcp", "10.0.0.2:7")
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	text := make([]byte, 100000)
	go conn.Write(text)
	if _, err := io.ReadFull(conn, text); err != nil {
		t.Error(err)
	}
	conn.Close()
	if n := c.Stack().Counters()["ether.drop.snap"]; n == 0 {
		t.Error("nothing counted where SNAP is not spoken")
	}
	if n := b.Stack().Counters()["arp.drop.bad-hardware-type"]; n != 0 {
		t.Errorf("%d questions refused", n)
	}
}

func host(t *testing.T, segment *wire.Segment, n byte, speaks bool) *socket.Network {
	mac := ether.Addr{2, 0, 0, 0, 0, n}
	var dev ether.Device = segment.Attach("p", mac)
	if speaks {
		d, err := snap.New(dev)
		if err != nil {
			t.Fatal(err)
		}
		dev = d
	}
	s := stack.New(stack.Config{})
	t.Cleanup(func() { s.Close() })
	nic, err := s.AddInterface(stack.InterfaceConfig{Name: "p", Device: dev, MAC: mac, DisableIPv6: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := nic.AddAddr(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, n}), 24)); err != nil {
		t.Fatal(err)
	}
	return socket.Net(s)
}
