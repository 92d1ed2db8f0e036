package socket_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
)

// The link-local addresses of the hosts of a test: LA is on both links.
const (
	zoneOwn, zonePeer, zoneFar = "fe80::ff:fe00:1", "fe80::ff:fe00:2", "fe80::ff:fe00:3"
)

// twoLinks makes a host with two interfaces of one MAC address, eth0 (number 2) and
// eth1 (3), so that its link-local address is on both links, and a peer on each.
func twoLinks(t *testing.T) (host, near, far *stack.Stack) {
	t.Helper()
	p := newPair(t, wire.Options{})
	seg := wire.New(nil, wire.Options{Pull: true})
	mac := ether.Addr{2, 0, 0, 0, 0, 1}
	if _, err := p.a.AddInterface(stack.InterfaceConfig{Name: "eth1", Device: seg.Attach("second", mac), MAC: mac, NoDAD: true, IID: ipv6.IIDEUI64}); err != nil {
		t.Fatal(err)
	}
	far, _, _ = newHost(t, seg, 3, stack.Config{})
	t.Cleanup(func() {
		far.Close()
		seg.Close()
	})
	return p.a, p.b, far
}

func inZone(a, z string) string {
	if z != "" {
		a += "%" + z
	}
	return a
}

// TestZonesOfCalls: what bind and connect make of zones, for streams and
// datagrams: as Linux 6.18, where it has an answer for a name.
func TestZonesOfCalls(t *testing.T) {
	bubble(t, func(t *testing.T) {
		host, _, _ := twoLinks(t)
		for _, typ := range []int{socket.SOCK_STREAM, socket.SOCK_DGRAM} {
			for _, c := range []struct {
				addr, zone string
				want       error
				name       string // what Getsockname shows, "": the address
			}{
				{zoneOwn, "eth0", nil, ""},
				{zoneOwn, "eth1", nil, ""},
				{zoneOwn, "2", nil, zoneOwn + "%eth0"},
				{zoneOwn, "3", nil, zoneOwn + "%eth1"},
				{zoneOwn, "", syscall.EINVAL, ""}, // on which link?
				{zoneOwn, "eth9", syscall.ENODEV, ""},
				{zoneOwn, "99", syscall.ENODEV, ""},
				{zoneOwn, "lo", syscall.EADDRNOTAVAIL, ""},
				{zonePeer, "eth0", syscall.EADDRNOTAVAIL, ""},
				{"fd77::1", "eth0", nil, "fd77::1"},
				{"fd77::1", "eth1", nil, "fd77::1"}, // it says nothing
				{"fd77::1", "eth9", nil, "fd77::1"},
				{"::", "eth0", nil, "::"},
			} {
				f := sock(t, host, socket.AF_INET6, typ, 0)
				err := f.Bind(netip.AddrPortFrom(netip.MustParseAddr(inZone(c.addr, c.zone)), 4000))
				if !errors.Is(err, c.want) {
					t.Errorf("type %d: bind %s%%%s: %v, want %v", typ, c.addr, c.zone, err, c.want)
				}
				want := c.name
				if want == "" {
					want = inZone(c.addr, c.zone)
				}
				if err == nil {
					if got, _ := f.Getsockname(); got.Addr().String() != want {
						t.Errorf("type %d: bound to %v, want %s", typ, got, want)
					}
					dev, _ := f.Device()
					_, zone, _ := strings.Cut(want, "%")
					if zone == "" && dev != nil || zone != "" && (dev == nil || dev.Name() != zone) {
						t.Errorf("type %d: bind to %s pins to %v", typ, want, dev)
					}
				}
				f.Close()
			}
			// connect, from sockets that are bound to a zone or a device before
			for _, c := range []struct {
				bound, device, to string
				want              error
			}{
				{"", "", zonePeer + "%eth0", nil},
				{"", "", zonePeer + "%2", nil},
				{"", "", zonePeer, syscall.EINVAL},
				{"", "", zonePeer + "%eth9", syscall.ENODEV},
				{"", "", zonePeer + "%99", syscall.ENETUNREACH},
				{"", "", "fd77::2%eth9", nil},
				{"", "", "fd77::2%eth1", nil},
				{zoneOwn + "%eth0", "", zonePeer, nil},
				{zoneOwn + "%eth0", "", zonePeer + "%eth0", nil},
				{zoneOwn + "%eth0", "", zonePeer + "%eth1", syscall.EINVAL},
				{"", "eth0", zonePeer, nil},
				{"", "eth0", zonePeer + "%eth1", syscall.EINVAL},
			} {
				f := sock(t, host, socket.AF_INET6, typ, 0)
				f.SetNonblock(true)
				if c.bound != "" {
					wantErr(t, "bind "+c.bound, f.Bind(netip.AddrPortFrom(netip.MustParseAddr(c.bound), 0)), nil)
				}
				if c.device != "" {
					wantErr(t, "device", f.Setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, []byte(c.device)), nil)
				}
				err := f.Connect(t.Context(), netip.AddrPortFrom(netip.MustParseAddr(c.to), 9))
				if err == syscall.EINPROGRESS {
					err = nil
				}
				if !errors.Is(err, c.want) || c.want == nil && err != nil {
					t.Errorf("type %d: %+v: %v", typ, c, err)
				}
				if err == nil && typ == socket.SOCK_DGRAM {
					got, err := f.Getpeername()
					want := netip.MustParseAddr(c.to)
					if want.IsLinkLocalUnicast() {
						want = want.WithZone("eth0")
					} else {
						want = want.WithZone("")
					}
					if err != nil || got.Addr() != want {
						t.Errorf("%+v: the peer is %v, %v", c, got, err)
					}
					// As bytes: sin6_scope_id is the interface's number.
					raw, scope := make([]byte, 28), uint32(0)
					if want.Zone() != "" {
						scope = 2
					}
					if n, err := f.Getsockopt(socket.SOL_SOCKET, socket.SO_PEERNAME, raw); err != nil || n != 28 || binary.NativeEndian.Uint32(raw[24:]) != scope {
						t.Errorf("%+v: SO_PEERNAME is %x, %v", c, raw[:n], err)
					}
				}
				f.Close()
			}
		}
	})
}

// TestZonesOfSend: a datagram leaves by the zone of its destination, and one that
// came says where from.
func TestZonesOfSend(t *testing.T) {
	bubble(t, func(t *testing.T) {
		host, near, far := twoLinks(t)
		a, b := sock(t, near, socket.AF_INET6, socket.SOCK_DGRAM, 0), sock(t, far, socket.AF_INET6, socket.SOCK_DGRAM, 0)
		for _, f := range []*socket.FD{a, b} {
			wantErr(t, "bind", f.Bind(ap("[::]:4000")), nil)
		}
		f := sock(t, host, socket.AF_INET6, socket.SOCK_DGRAM, 0)
		wantErr(t, "bind", f.Bind(ap("[::]:5000")), nil)
		buf := make([]byte, 99)
		for _, c := range []struct {
			to   string
			want error
			hear *socket.FD
			zone string
		}{
			{zonePeer + "%eth0", nil, a, "eth0"},
			{zonePeer + "%2", nil, a, "eth0"},
			{zoneFar + "%eth1", nil, b, "eth1"},
			{zoneFar + "%3", nil, b, "eth1"},
			{"ff02::1%eth1", nil, b, "eth1"},
			{zonePeer + "%eth9", syscall.ENODEV, nil, ""},
			{zonePeer + "%99", syscall.ENETUNREACH, nil, ""},
			{"ff02::1%eth9", syscall.ENODEV, nil, ""},
		} {
			_, err := f.SendTo([]byte(c.to), 0, netip.AddrPortFrom(netip.MustParseAddr(c.to), 4000))
			if wantErr(t, c.to, err, c.want); c.hear == nil {
				continue
			}
			n, from, err := c.hear.RecvFrom(buf, 0)
			if err != nil || string(buf[:n]) != c.to || from.Addr().String() != zoneOwn+"%eth0" {
				t.Errorf("%s: %q from %v, %v", c.to, buf[:n], from, err)
			}
			if _, err := c.hear.SendTo([]byte("back"), 0, from); err != nil {
				t.Fatal(err)
			}
			n, from, err = f.RecvFrom(buf, 0)
			if err != nil || string(buf[:n]) != "back" || from.Addr().Zone() != c.zone {
				t.Errorf("%s: %q from %v, %v", c.to, buf[:n], from, err)
			}
		}
		// Only who is bound to the link hears what comes by it.
		one, two := sock(t, host, socket.AF_INET6, socket.SOCK_DGRAM, 0), sock(t, host, socket.AF_INET6, socket.SOCK_DGRAM, 0)
		wantErr(t, "bind", one.Bind(ap("["+zoneOwn+"%eth0]:6000")), nil)
		wantErr(t, "the same address and port on the other link", two.Bind(ap("["+zoneOwn+"%eth1]:6000")), nil)
		if _, err := b.SendTo([]byte("to two"), 0, ap("["+zoneOwn+"%eth0]:6000")); err != nil {
			t.Fatal(err)
		}
		if n, _, err := two.RecvFrom(buf, 0); err != nil || string(buf[:n]) != "to two" {
			t.Errorf("%q %v", buf[:n], err)
		}
		if _, _, err := one.RecvFrom(buf, socket.MSG_DONTWAIT); err != syscall.EAGAIN {
			t.Errorf("the other one: %v", err)
		}
	})
}

// TestZonesOfNet: the addresses of package net's calls.
func TestZonesOfNet(t *testing.T) {
	bubble(t, func(t *testing.T) {
		host, near, far := twoLinks(t)
		n := socket.Net(host)
		ln, err := n.Listen("tcp", "["+zoneOwn+"%3]:80")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		if got := ln.Addr().String(); got != "["+zoneOwn+"%eth1]:80" {
			t.Errorf("listens at %s", got)
		}
		for _, c := range []struct {
			from *stack.Stack
			to   string
			ok   bool
		}{{far, zoneOwn + "%eth0", true}, {near, zoneOwn + "%eth0", false}, {host, zoneOwn + "%eth1", true}} {
			d, err := socket.Net(c.from).Dial("tcp", "["+c.to+"]:80")
			if (err == nil) != c.ok {
				t.Errorf("%s: %v", c.to, err)
			}
			if err != nil {
				continue
			}
			if got := d.RemoteAddr().String(); got != "["+c.to+"]:80" {
				t.Errorf("connected to %s, not to %s", got, c.to)
			}
			_, zone, _ := strings.Cut(c.to, "%")
			if got := d.LocalAddr().String(); !strings.Contains(got, "%"+zone+"]") {
				t.Errorf("connected from %s", got)
			}
			s, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			for what, got := range map[string]string{"peer": s.RemoteAddr().String(), "own end": s.LocalAddr().String()} {
				if !strings.Contains(got, "%eth1]") {
					t.Errorf("accepted: %s is %s", what, got)
				}
			}
			s.Close()
			d.Close()
		}
		for _, network := range []string{"udp", "udp6"} {
			p, err := n.ListenPacket(network, "["+zoneOwn+"%eth0]:0")
			if err != nil {
				t.Fatal(err)
			}
			if got := p.LocalAddr().String(); !strings.HasPrefix(got, "["+zoneOwn+"%eth0]") {
				t.Errorf("%s: listens at %s", network, got)
			}
			p.Close()
			d, err := n.Dial(network, "["+zoneFar+"%eth1]:9")
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(d.LocalAddr(), " ", d.RemoteAddr()); !strings.HasPrefix(got, "["+zoneOwn+"%eth1]") || !strings.HasSuffix(got, " ["+zoneFar+"%eth1]:9") {
				t.Errorf("%s: %s", network, got)
			}
			d.Close()
		}
		for _, network := range []string{"tcp", "udp"} {
			if _, err := n.Dial(network, "["+zoneFar+"%eth9]:9"); !errors.Is(err, syscall.ENODEV) {
				t.Errorf("%s: a zone that is not there: %v", network, err)
			}
			if _, err := n.Dial(network, "["+zoneFar+"]:9"); !errors.Is(err, syscall.EINVAL) {
				t.Errorf("%s: no zone: %v", network, err)
			}
		}
		// With one link there is no choice.
		if p, err := socket.Net(near).Dial("udp", "["+zoneOwn+"]:9"); err != nil || p.RemoteAddr().String() != "["+zoneOwn+"%eth0]:9" {
			t.Errorf("%v, %v", p, err)
		}
		if a, err := n.LookupNetIP(t.Context(), "ip", zoneFar+"%eth1"); err != nil || len(a) != 1 || a[0].Zone() != "eth1" {
			t.Errorf("%v %v", a, err)
		}
	})
}
