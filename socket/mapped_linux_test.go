package socket_test

// This file compares sockets of AF_INET6 that speak IPv4 with the kernel: mapped
// addresses in every call, and IPV6_V6ONLY before and after (RFC 3493 §3.7, §5.3).

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/tapstack/tapstack/socket"
)

func mappedAddr(a string) netip.Addr { return netip.AddrFrom16(netip.MustParseAddr(a).As16()) }

// mappedScenes are what is compared, each for streams and datagrams.
var mappedScenes = []struct {
	name string
	play func(x *scene)
}{
	{"bind to each, with and without IPV6_V6ONLY", func(x *scene) {
		for _, only := range []int{0, 1} {
			for _, a := range []netip.Addr{netip.IPv6Unspecified(), netip.IPv6Loopback(), mappedAddr("0.0.0.0"), mappedAddr("127.0.0.1"), mappedAddr("127.0.0.9"), mappedAddr("192.0.2.1"), mappedAddr("239.1.2.3"), mappedAddr("255.255.255.255")} {
				if x.typ == socket.SOCK_STREAM && a.Unmap().AsSlice()[0] >= 224 {
					continue // Linux lets a stream be bound to a group, for nothing
				}
				s := x.socket()
				x.note("v6only", s.setInt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only))
				x.note(fmt.Sprint("bind ", a), s.bind(netip.AddrPortFrom(a, x.ports[0])))
				n, err := s.sockname()
				x.note("name", n, err)
				v, err := s.getInt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
				x.note("v6only is", v, err)
				x.note("v6only afterwards", s.setInt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1-only))
				s.close()
			}
		}
	}},
	{"who binds beside whom", func(x *scene) {
		type who struct {
			domain int
			addr   netip.Addr
			only   int
		}
		all := []who{
			{socket.AF_INET6, netip.IPv6Unspecified(), 0}, {socket.AF_INET6, netip.IPv6Unspecified(), 1}, {socket.AF_INET6, netip.IPv6Loopback(), 0},
			{socket.AF_INET6, mappedAddr("0.0.0.0"), 0}, {socket.AF_INET6, mappedAddr("127.0.0.1"), 0},
			{socket.AF_INET, netip.IPv4Unspecified(), 0}, {socket.AF_INET, loopback4, 0}, {socket.AF_INET, netip.MustParseAddr("127.0.0.2"), 0},
		}
		open := func(w who) berkeleySocket {
			s, err := x.sys.socket(w.domain, x.typ, 0)
			if err != nil {
				panic(err)
			}
			if w.only != 0 {
				x.note("v6only", s.setInt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1))
			}
			return s
		}
		for _, a := range all {
			for _, b := range all {
				s, u := open(a), open(b)
				x.note(fmt.Sprint(a), s.bind(netip.AddrPortFrom(a.addr, x.ports[0])))
				x.note(fmt.Sprint(a, " beside ", b), u.bind(netip.AddrPortFrom(b.addr, x.ports[0])))
				s.close()
				u.close()
			}
		}
	}},
	{"IPv4 reaches the wildcard", func(x *scene) {
		for _, only := range []int{0, 1} {
			l := x.socket()
			x.note("v6only", l.setInt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only))
			x.note("bind", l.bind(netip.AddrPortFrom(netip.IPv6Unspecified(), x.ports[only])))
			c, err := x.sys.socket(socket.AF_INET, x.typ, 0)
			x.note("socket", err)
			if x.typ == socket.SOCK_STREAM {
				x.note("listen", l.listen(3))
			}
			x.note("connect", c.connect(netip.AddrPortFrom(loopback4, x.ports[only])))
			x.send("send", c, "hello", 0, none)
			x.sys.settle()
			x.s = l
			if x.typ == socket.SOCK_STREAM {
				s, from, err := l.accept()
				if x.note("accept", from, err); err != nil {
					continue
				}
				x.s = s
				x.names()
			}
			x.recv("receive", x.s, 9, 0)
		}
	}},
	{"connect, again, and back", func(x *scene) {
		l := x.socket()
		x.note("bind", l.bind(netip.AddrPortFrom(netip.IPv6Unspecified(), x.ports[0])))
		if x.typ == socket.SOCK_STREAM {
			x.note("listen", l.listen(9))
		}
		for _, first := range []netip.Addr{mappedAddr("127.0.0.1"), netip.IPv6Loopback(), mappedAddr("0.0.0.0"), netip.IPv6Unspecified()} {
			for _, second := range []netip.Addr{mappedAddr("127.0.0.1"), netip.IPv6Loopback()} {
				if x.typ == socket.SOCK_DGRAM && !first.Is4In6() && second.Is4In6() {
					continue // Linux goes on showing the IPv6 address it had
				}
				s := x.socket()
				x.note(fmt.Sprint("connect ", first), s.connect(netip.AddrPortFrom(first, x.ports[0])))
				x.s = s
				x.names()
				x.note("v6only", s.setInt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1))
				x.note(fmt.Sprint("then ", second), s.connect(netip.AddrPortFrom(second, x.ports[0])))
				x.names()
				x.note("nowhere", s.connect(netip.AddrPort{}))
				if x.typ == socket.SOCK_DGRAM {
					x.names() // of a stream Linux goes on showing a port that it has given back
				}
				s.close()
			}
		}
	}},
	{"from a bound socket", func(x *scene) {
		l := x.socket()
		x.note("bind", l.bind(netip.AddrPortFrom(netip.IPv6Unspecified(), x.ports[0])))
		if x.typ == socket.SOCK_STREAM {
			x.note("listen", l.listen(9))
		}
		for _, own := range []netip.Addr{mappedAddr("127.0.0.1"), mappedAddr("0.0.0.0"), netip.IPv6Loopback()} {
			for _, to := range []netip.Addr{mappedAddr("127.0.0.1"), netip.IPv6Loopback()} {
				if x.typ == socket.SOCK_DGRAM && own == netip.IPv6Loopback() && to.Is4In6() {
					continue // among the differences of TestLikeKernel
				}
				s := x.socket()
				x.note(fmt.Sprint("bind ", own), s.bind(netip.AddrPortFrom(own, x.ports[1])))
				x.note(fmt.Sprint(own, " connect ", to), s.connect(netip.AddrPortFrom(to, x.ports[0])))
				x.s = s
				x.names()
				s.close()
			}
		}
	}},
}

// mappedDatagrams are those of datagrams alone.
var mappedDatagrams = []struct {
	name string
	play func(x *scene)
}{
	{"sendto", func(x *scene) {
		six, four := x.socket(), x.socket()
		x.note("bind", six.bind(netip.AddrPortFrom(netip.IPv6Unspecified(), x.ports[0])))
		x.note("bind", four.bind(netip.AddrPortFrom(mappedAddr("127.0.0.1"), x.ports[1])))
		for _, only := range []int{0, 1} {
			for _, own := range []netip.Addr{{}, netip.IPv6Loopback(), netip.IPv6Unspecified(), mappedAddr("127.0.0.1"), mappedAddr("0.0.0.0")} {
				for _, to := range []netip.AddrPort{
					netip.AddrPortFrom(mappedAddr("127.0.0.1"), x.ports[0]), netip.AddrPortFrom(mappedAddr("127.0.0.1"), x.ports[1]), netip.AddrPortFrom(mappedAddr("0.0.0.0"), x.ports[0]),
					netip.AddrPortFrom(netip.IPv6Loopback(), x.ports[0]),
				} {
					s := x.socket()
					x.note("v6only", s.setInt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only))
					if own.IsValid() {
						x.note(fmt.Sprint("bind ", own), s.bind(netip.AddrPortFrom(own, x.ports[2])))
					}
					x.send(fmt.Sprint("from ", own, " to ", x.show(to)), s, "hello", 0, to)
					if n, err := s.sockname(); only == 0 {
						x.note("name", n, err) // Linux binds even who cannot send
					}
					x.sys.settle()
					x.recv("six hears", six, 9, socket.MSG_DONTWAIT)
					x.recv("four hears", four, 9, socket.MSG_DONTWAIT)
					s.close()
				}
			}
		}
	}},
	{"groups", func(x *scene) {
		s := x.socket()
		x.note("bind", s.bind(netip.AddrPortFrom(netip.IPv6Unspecified(), x.ports[0])))
		mapped := mappedAddr("239.1.1.1").AsSlice()
		ifindex := append(append([]byte(nil), mapped...), 1, 0, 0, 0)
		mreq := []byte{239, 1, 1, 1, 127, 0, 0, 1}
		m := s.(messenger)
		x.note("IPV6_JOIN_GROUP of a mapped group", m.setRaw(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, ifindex))
		x.note("IPV6_LEAVE_GROUP of a mapped group", m.setRaw(socket.IPPROTO_IPV6, socket.IPV6_LEAVE_GROUP, ifindex))
		for _, o := range []groupOption{
			{"MCAST_JOIN_GROUP of a mapped group", socket.MCAST_JOIN_GROUP, []any{1, mappedAddr("239.1.1.1")}, 0},
			{"MCAST_JOIN_GROUP of IPv4", socket.MCAST_JOIN_GROUP, []any{1, netip.MustParseAddr("239.1.1.1")}, 0},
		} {
			x.note(o.name, m.setRaw(socket.IPPROTO_IPV6, o.opt, o.bytes(true)))
			x.note(o.name+" of IP", m.setRaw(socket.IPPROTO_IP, o.opt, o.bytes(true)))
		}
		for _, at := range []int{0, 1, 99} {
			o := groupOption{fmt.Sprint("MCAST_MSFILTER of a mapped group at ", at), socket.MCAST_MSFILTER,
				[]any{at, mappedAddr("239.1.1.1"), socket.MCAST_EXCLUDE, 1, netip.MustParseAddr("2001:db8::1")}, 0}
			x.note(o.name, m.setRaw(socket.IPPROTO_IPV6, o.opt, o.bytes(true)))
			_, err := m.getRaw(socket.IPPROTO_IPV6, o.opt, o.bytes(true))
			x.note(o.name+", read", err)
		}
		x.note("IP_ADD_MEMBERSHIP", m.setRaw(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, mreq))
		x.note("twice", m.setRaw(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, mreq))
		c, err := x.sys.socket(socket.AF_INET, x.typ, 0)
		x.note("socket", err)
		x.note("interface", c.(messenger).setRaw(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, []byte{127, 0, 0, 1}))
		x.send("to the group", c, "hello", 0, netip.AddrPortFrom(netip.MustParseAddr("239.1.1.1"), x.ports[0]))
		x.sys.settle()
		x.recv("hears", s, 9, socket.MSG_DONTWAIT)
		x.note("IP_DROP_MEMBERSHIP", m.setRaw(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, mreq))
		x.note("again", m.setRaw(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, mreq))
		x.note("interface", m.setRaw(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, []byte{127, 0, 0, 1}))
		x.send("to a mapped group", s, "hello", 0, netip.AddrPortFrom(mappedAddr("239.1.1.1"), x.ports[0]))
		x.note("bind to a mapped group", x.socket().bind(netip.AddrPortFrom(mappedAddr("239.1.1.1"), x.ports[1])))
	}},
}

// TestMappedLikeKernel plays all of it on both systems.
func TestMappedLikeKernel(t *testing.T) {
	watch(t)
	for _, typ := range []int{socket.SOCK_STREAM, socket.SOCK_DGRAM} {
		for _, c := range mappedScenes {
			if d := comparePrivately(t, socket.AF_INET6, typ, c.play); d != "" {
				t.Errorf("type %d: %s:%s", typ, c.name, d)
			}
		}
	}
	for _, c := range mappedDatagrams {
		if d := comparePrivately(t, socket.AF_INET6, socket.SOCK_DGRAM, c.play); d != "" {
			t.Errorf("%s:%s", c.name, d)
		}
	}
}
