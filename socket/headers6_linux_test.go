package socket_test

// This file compares what RFC 3542 has of extension headers with the kernel's.

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"github.com/tapstack/tapstack/socket"
)

// optionsOf is a header with one option of n bytes of data.
func optionsOf(typ byte, n int) []byte {
	return socket.AppendOption(nil, typ, bytes.Repeat([]byte{9}, n), 1)
}

// TestExtensionHeadersLikeKernel sends and receives extension headers, and asks
// for what is too long.
func TestExtensionHeadersLikeKernel(t *testing.T) {
	watch(t)
	c := socket.AppendControl
	for _, typ := range []struct {
		typ   int
		proto string
	}{{socket.SOCK_DGRAM, "UDP"}} {
		d := comparePrivately(t, socket.AF_INET6, typ.typ, func(x *scene) {
			x.live()
			s, peer := x.s.(messenger), x.peer.(messenger)
			for _, o := range []int{socket.IPV6_RECVHOPOPTS, socket.IPV6_RECVDSTOPTS, socket.IPV6_RECVRTHDR, socket.IPV6_RECVHOPLIMIT} {
				x.note("ask", peer.setInt(41, o, 1))
			}
			send := func(what string, control []byte, room int) {
				x.sendMsg(what, s, "hello", control, 0, x.at(0))
				x.sys.settle()
				x.noteMsg(what, peer, []int{10}, room, 0)
			}
			get := func(opt int) {
				for _, n := range []int{0, 1, 8, 300} {
					b := make([]byte, n)
					n, err := s.getRaw(41, opt, b)
					x.note("get", n, err, fmt.Sprintf("%x", b))
				}
			}
			send("none", nil, 400)
			for _, opt := range []int{socket.IPV6_HOPOPTS, socket.IPV6_DSTOPTS} {
				get(opt)
				for _, b := range [][]byte{optionsOf(0x1e, 3), optionsOf(0x3e, 100), nil, {1}, make([]byte, 7), make([]byte, 9),
					{0, 1, 0, 0, 0, 0, 0, 0}, append(optionsOf(0x1e, 4), make([]byte, 8)...), optionsOf(0x1e, 4), make([]byte, 8*256)} {
					x.note(fmt.Sprintf("%d: %d bytes", opt, len(b)), s.setRaw(41, opt, b))
					get(opt)
					send("with it", nil, 400)
				}
			}
			send("both", nil, 400)
			for _, room := range []int{16, 24, 30, 40, 48, 60} {
				send(fmt.Sprint("room for ", room), nil, room)
			}
			send("hop-by-hop of its own", c(nil, 41, socket.IPV6_HOPOPTS, optionsOf(0x1f, 12)), 400)
			send("destination of its own", c(nil, 41, socket.IPV6_DSTOPTS, optionsOf(0x1d, 12)), 400)
			send("both of its own", c(c(nil, 41, socket.IPV6_DSTOPTS, optionsOf(0x1d, 12)), 41, socket.IPV6_HOPOPTS, optionsOf(0x1b, 1)), 400)
			send("hop-by-hop twice", c(c(nil, 41, socket.IPV6_HOPOPTS, optionsOf(0x1d, 12)), 41, socket.IPV6_HOPOPTS, optionsOf(0x1b, 1)), 400)
			send("destination twice", c(c(nil, 41, socket.IPV6_DSTOPTS, optionsOf(0x1d, 12)), 41, socket.IPV6_DSTOPTS, optionsOf(0x1b, 1)), 400)
			send("with a hop limit", c(c(nil, 41, socket.IPV6_DSTOPTS, optionsOf(0x1d, 12)), 41, socket.IPV6_HOPLIMIT, ints(7)), 400)
			send("short", c(nil, 41, socket.IPV6_HOPOPTS, []byte{0, 0}), 400)
			send("shorter than it says", c(nil, 41, socket.IPV6_DSTOPTS, []byte{0, 1, 0, 0, 0, 0, 0, 0}), 400)
			send("longer than it says", c(nil, 41, socket.IPV6_DSTOPTS, append(optionsOf(0x1e, 4), make([]byte, 8)...)), 400)
			send("empty", c(nil, 41, socket.IPV6_DSTOPTS, nil), 400)
			send("routing type 0", c(nil, 41, socket.IPV6_RTHDR, []byte{0, 2, 0, 1, 23: 0}), 400)
			send("flow info, short", c(nil, 41, socket.IPV6_FLOWINFO, []byte{0, 0}), 400)
			send("refused by the receiver", c(nil, 41, socket.IPV6_DSTOPTS, optionsOf(0x9d, 4)), 400)
			send("after that", nil, 400)
			send("once more", nil, 400)

			x.note("connect", s.connect(x.at(0)))
			b := make([]byte, 40)
			for _, n := range []int{31, 32, 40} {
				k, err := s.getRaw(41, socket.IPV6_PATHMTU, b[:n])
				x.note("path MTU", k, err, fmt.Sprintf("%x", b))
			}
			x.note("tell", s.setInt(41, socket.IPV6_RECVPATHMTU, 1), s.setInt(41, socket.IPV6_DONTFRAG, 1))
			// Of the sizes between, Linux counts destination options twice.
			for _, size := range []int{65500, 65479, 65472, 65463, 65400} {
				n, err := s.sendmsg([][]byte{make([]byte, size)}, nil, 0, netip.AddrPort{})
				x.note(fmt.Sprint("send ", size), max(n, 0), err)
				x.sys.settle()
				x.noteMsg("told", s, []int{10}, 200, 0)
				x.recv("received", peer, 3, 0)
			}
			other := x.socket().(messenger)
			k, err := other.getRaw(41, socket.IPV6_PATHMTU, b)
			x.note("path MTU of nobody", k, err)
			x.note("set", other.setRaw(41, socket.IPV6_PATHMTU, b))
		})
		if d != "" {
			t.Errorf("%s:%s", typ.proto, d)
		}
	}
}
