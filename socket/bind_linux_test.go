package socket_test

// This file compares who may bind beside whom with the kernel, case by case.

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/tapstack/tapstack/socket"
)

// sharing names combinations of SO_REUSEADDR and SO_REUSEPORT.
var sharing = []string{"", "addr", "port", "addr port"}

func (x *scene) shares(s berkeleySocket, how string) {
	for name, opt := range map[string]int{"addr": socket.SO_REUSEADDR, "port": socket.SO_REUSEPORT} {
		if strings.Contains(how, name) {
			if err := s.setInt(socket.SOL_SOCKET, opt, 1); err != nil {
				x.note("set "+name, err)
			}
		}
	}
}

// holders bring the first socket, which is x.s, into the state in which it
// holds port 0 of address a.
var holders = []struct {
	name string
	typ  int
	hold func(x *scene, a netip.Addr, how string)
}{
	{"bound", socket.SOCK_STREAM, func(x *scene, a netip.Addr, how string) { x.holder(a, how) }},
	{"listening", socket.SOCK_STREAM, func(x *scene, a netip.Addr, how string) {
		x.holder(a, how)
		x.note("listen", x.s.listen(5))
	}},
	{"shared later", socket.SOCK_STREAM, func(x *scene, a netip.Addr, how string) {
		x.holder(a, "")
		x.shares(x.s, how)
	}},
	{"accepted", socket.SOCK_STREAM, func(x *scene, a netip.Addr, how string) {
		x.holder(a, how)
		x.pairUp()
		x.s.close()
	}},
	{"TIME-WAIT", socket.SOCK_STREAM, func(x *scene, a netip.Addr, how string) {
		x.holder(a, how)
		c := x.pairUp()
		x.s.close()
		x.peer.shutdown(socket.SHUT_WR)
		x.sys.settle()
		c.close()
		x.sys.settle()
		x.peer.close()
	}},
	{"shut", socket.SOCK_STREAM, func(x *scene, a netip.Addr, how string) {
		x.holder(a, how)
		x.note("listen", x.s.listen(5))
		x.note("shutdown", x.s.shutdown(socket.SHUT_RD))
	}},
	{"connected", socket.SOCK_STREAM, func(x *scene, a netip.Addr, how string) {
		l := x.socket()
		x.note("bind", l.bind(x.at(1)))
		x.note("listen", l.listen(1))
		x.holder(a, how)
		x.note("connect", x.s.connect(x.at(1)))
		x.sys.settle()
	}},
	{"bound", socket.SOCK_DGRAM, func(x *scene, a netip.Addr, how string) { x.holder(a, how) }},
	{"connected", socket.SOCK_DGRAM, func(x *scene, a netip.Addr, how string) {
		x.holder(a, how)
		x.note("connect", x.s.connect(x.at(1)))
	}},
}

func (x *scene) holder(a netip.Addr, how string) {
	x.s = x.family(a)
	x.shares(x.s, how)
	x.note("first bind", x.s.bind(netip.AddrPortFrom(a, x.ports[0])))
}

func (x *scene) family(a netip.Addr) berkeleySocket {
	s, err := x.sys.socket(domainOf(a), x.typ, 0)
	if err != nil {
		panic(err)
	}
	return s
}

// pairUp makes x.peer what x.s accepts, and returns the client.
func (x *scene) pairUp() berkeleySocket {
	x.note("listen", x.s.listen(5))
	c := x.socket()
	x.note("connect", c.connect(x.at(0)))
	x.sys.settle()
	peer, from, err := x.s.accept()
	x.note("accept", from, err)
	x.peer = peer
	return c
}

func TestBindConflictsLikeKernel(t *testing.T) {
	watch(t)
	if !kernelHasIPv6() {
		t.Skip("the kernel has no IPv6 loopback to compare with")
	}
	lo2 := netip.MustParseAddr("127.0.0.2")
	pairs := [][2]netip.Addr{
		{loopback4, loopback4}, {loopback4, netip.IPv4Unspecified()}, {netip.IPv4Unspecified(), loopback4},
		{loopback4, lo2}, {netip.IPv4Unspecified(), lo2}, {netip.IPv4Unspecified(), netip.IPv6Unspecified()}, {netip.IPv6Unspecified(), loopback4},
	}
	cases := 0
	for _, h := range holders {
		for _, a := range pairs {
			for _, first := range sharing {
				for _, second := range sharing {
					cases++
					d := compare(t, socket.AF_INET, h.typ, func(x *scene) {
						h.hold(x, a[0], first)
						y := x.family(a[1])
						x.shares(y, second)
						x.note("second bind", y.bind(netip.AddrPortFrom(a[1], x.ports[0])))
						if x.typ == socket.SOCK_STREAM {
							x.note("second listen", y.listen(5))
							z := x.family(a[1])
							x.shares(z, second)
							x.note("third bind", z.bind(netip.AddrPortFrom(a[1], x.ports[0])))
						}
					})
					if d != "" {
						t.Errorf("%s, %v then %v, %q then %q:%s", h.name, a[0], a[1], first, second, d)
					}
				}
			}
		}
	}
	t.Logf("%d cases", cases)
}

// TestBindToDeviceLikeKernel: another device is another port.
func TestBindToDeviceLikeKernel(t *testing.T) {
	watch(t)
	for _, typ := range []int{socket.SOCK_STREAM, socket.SOCK_DGRAM} {
		for _, dev := range [][2]int{{0, 0}, {1, 0}, {0, 1}, {1, 1}} {
			d := compare(t, socket.AF_INET, typ, func(x *scene) {
				x.s = x.socket()
				for _, v := range []int{-1, dev[0]} {
					x.note("first device", x.s.setInt(socket.SOL_SOCKET, socket.SO_BINDTOIFINDEX, v))
					v, err := x.s.getInt(socket.SOL_SOCKET, socket.SO_BINDTOIFINDEX)
					x.note("is", v, err)
				}
				x.note("bind", x.s.bind(x.at(0)))
				y := x.socket()
				x.note("second device", y.setInt(socket.SOL_SOCKET, socket.SO_BINDTOIFINDEX, dev[1]))
				x.note("bind", y.bind(x.at(0)))
				if x.typ == socket.SOCK_STREAM {
					x.note("listen", x.s.listen(1))
				}
				c := x.socket()
				x.note("connect", c.connect(x.at(0)))
				x.send("send", c, "x", 0, none)
			})
			if d != "" {
				t.Errorf("%d, devices %v:%s", typ, dev, d)
			}
		}
	}
}

// TestSharingNumbers: what was set is what is read.
func TestSharingOptionsLikeKernel(t *testing.T) {
	watch(t)
	for _, typ := range []int{socket.SOCK_STREAM, socket.SOCK_DGRAM} {
		d := compare(t, socket.AF_INET, typ, func(x *scene) {
			x.s = x.socket()
			for _, opt := range []int{socket.SO_REUSEADDR, socket.SO_REUSEPORT} {
				for _, v := range []int{0, 1, 7, -1, 0} {
					x.note(fmt.Sprint("set ", opt, " to ", v), x.s.setInt(socket.SOL_SOCKET, opt, v))
					v, err := x.s.getInt(socket.SOL_SOCKET, opt)
					x.note("is", v, err)
				}
			}
		})
		if d != "" {
			t.Errorf("%d:%s", typ, d)
		}
	}
}
