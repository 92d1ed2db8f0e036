package socket_test

// This file holds the states in which TestLikeKernel makes its calls.

import (
	"net/netip"

	"github.com/tapstack/tapstack/socket"
)

// state brings x.s somewhere.
type state struct {
	name string
	make func(x *scene)
}

var streamStates = []state{
	{"fresh", func(x *scene) { x.s = x.socket() }},
	{"bound", func(x *scene) { x.s = x.socket(); x.note("bind", x.s.bind(x.at(0))) }},
	{"bound to any", func(x *scene) {
		x.s = x.socket()
		x.note("bind", x.s.bind(netip.AddrPortFrom(x.any, 0)))
	}},
	{"listening", func(x *scene) {
		x.s = x.socket()
		x.note("bind", x.s.bind(x.at(0)))
		x.note("listen", x.s.listen(5))
	}},
	{"listening with a client", func(x *scene) {
		x.s = x.socket()
		x.note("bind", x.s.bind(x.at(0)))
		x.note("listen", x.s.listen(5))
		x.peer = x.socket()
		x.note("connect", x.peer.connect(x.at(0)))
		x.sys.settle()
	}},
	{"connected", func(x *scene) { x.connectPair() }},
	{"connected, bound before", func(x *scene) {
		x.connectPair()
		x.s = x.socket()
		x.note("bind", x.s.bind(x.at(1)))
		x.note("connect", x.s.connect(x.at(0)))
		x.sys.settle()
	}},
	{"accepted", func(x *scene) { x.connectPair(); x.s, x.peer = x.peer, x.s }},
	{"data waiting", func(x *scene) {
		x.connectPair()
		x.send("peer sends", x.peer, "0123456789", 0, netip.AddrPort{})
		x.sys.settle()
	}},
	{"read side shut", func(x *scene) { x.connectPair(); x.note("shut", x.s.shutdown(socket.SHUT_RD)) }},
	{"read side shut, data waiting", func(x *scene) {
		x.connectPair()
		x.send("peer sends", x.peer, "0123456789", 0, netip.AddrPort{})
		x.sys.settle()
		x.note("shut", x.s.shutdown(socket.SHUT_RD))
	}},
	{"write side shut", func(x *scene) {
		x.connectPair()
		x.note("shut", x.s.shutdown(socket.SHUT_WR))
		x.sys.settle()
	}},
	{"both sides shut", func(x *scene) {
		x.connectPair()
		x.note("shut", x.s.shutdown(socket.SHUT_RDWR))
		x.sys.settle()
	}},
	{"peer shut its write side", func(x *scene) {
		x.connectPair()
		x.note("shut", x.peer.shutdown(socket.SHUT_WR))
		x.sys.settle()
	}},
	{"peer closed, data waiting", func(x *scene) {
		x.connectPair()
		x.send("peer sends", x.peer, "0123456789", 0, netip.AddrPort{})
		x.note("close", x.peer.close())
		x.sys.settle()
	}},
	{"peer closed", func(x *scene) {
		x.connectPair()
		x.note("close", x.peer.close())
		x.sys.settle()
	}},
	{"peer closed, written to since", func(x *scene) {
		x.connectPair()
		x.note("close", x.peer.close())
		x.sys.settle()
		x.send("send", x.s, "x", 0, netip.AddrPort{})
		x.sys.settle()
	}},
	{"peer reset", func(x *scene) {
		x.connectPair()
		x.send("send", x.s, "unread", 0, netip.AddrPort{})
		x.sys.settle()
		x.note("close", x.peer.close())
		x.sys.settle()
	}},
	{"peer reset, data waiting", func(x *scene) {
		x.connectPair()
		x.send("peer sends", x.peer, "0123456789", 0, netip.AddrPort{})
		x.send("send", x.s, "unread", 0, netip.AddrPort{})
		x.sys.settle()
		x.note("close", x.peer.close())
		x.sys.settle()
	}},
	{"peer reset and it was read", func(x *scene) {
		x.connectPair()
		x.send("send", x.s, "unread", 0, netip.AddrPort{})
		x.sys.settle()
		x.note("close", x.peer.close())
		x.sys.settle()
		x.recv("recv", x.s, 1, 0)
	}},
	{"over, we first", func(x *scene) {
		x.connectPair()
		x.note("shut", x.s.shutdown(socket.SHUT_WR))
		x.sys.settle()
		x.note("shut", x.peer.shutdown(socket.SHUT_WR))
		x.sys.settle()
	}},
	{"over, the peer first", func(x *scene) {
		x.connectPair()
		x.note("shut", x.peer.shutdown(socket.SHUT_WR))
		x.sys.settle()
		x.note("shut", x.s.shutdown(socket.SHUT_WR))
		x.sys.settle()
	}},
	{"refused", func(x *scene) {
		x.s = x.socket()
		x.note("connect", x.s.connect(x.at(2)))
	}},
	{"refused, bound before", func(x *scene) {
		x.s = x.socket()
		x.note("bind", x.s.bind(x.at(1)))
		x.note("connect", x.s.connect(x.at(2)))
	}},
	{"closed", func(x *scene) { x.s = x.socket(); x.note("close", x.s.close()) }},
}

// live makes peer a socket on port 0.
func (x *scene) live() {
	x.peer = x.socket()
	x.note("peer bind", x.peer.bind(x.at(0)))
	x.s = x.socket()
}

var datagramStates = []state{
	{"fresh", func(x *scene) { x.live() }},
	{"bound", func(x *scene) { x.live(); x.note("bind", x.s.bind(x.at(1))) }},
	{"bound to any", func(x *scene) {
		x.live()
		x.note("bind", x.s.bind(netip.AddrPortFrom(x.any, x.ports[1])))
	}},
	{"data waiting", func(x *scene) {
		x.live()
		x.note("bind", x.s.bind(x.at(1)))
		x.send("peer sends", x.peer, "0123456789", 0, x.at(1))
		x.send("peer sends", x.peer, "", 0, x.at(1))
		x.sys.settle()
	}},
	{"an empty datagram waits", func(x *scene) {
		x.live()
		x.note("bind", x.s.bind(x.at(1)))
		x.send("peer sends", x.peer, "", 0, x.at(1))
		x.sys.settle()
	}},
	{"connected", func(x *scene) { x.live(); x.note("connect", x.s.connect(x.at(0))) }},
	{"bound and connected", func(x *scene) {
		x.live()
		x.note("bind", x.s.bind(x.at(1)))
		x.note("connect", x.s.connect(x.at(0)))
	}},
	{"connected, a stranger sends", func(x *scene) {
		x.live()
		x.note("bind", x.s.bind(x.at(1)))
		x.note("connect", x.s.connect(x.at(0)))
		stranger := x.socket()
		x.send("stranger sends", stranger, "strange", 0, x.at(1))
		x.send("peer sends", x.peer, "known", 0, x.at(1))
		x.sys.settle()
	}},
	{"connected to a dead port", func(x *scene) { x.live(); x.note("connect", x.s.connect(x.at(2))) }},
	{"refused", func(x *scene) {
		x.live()
		x.note("connect", x.s.connect(x.at(2)))
		x.send("send", x.s, "x", 0, netip.AddrPort{})
		x.sys.settle()
	}},
	{"refused without connect", func(x *scene) {
		x.live()
		x.send("send", x.s, "x", 0, x.at(2))
		x.sys.settle()
	}},
	{"refused, data waiting", func(x *scene) {
		x.live()
		x.note("bind", x.s.bind(x.at(1)))
		x.send("peer sends", x.peer, "0123456789", 0, x.at(1))
		x.sys.settle()
		x.note("connect", x.s.connect(x.at(2)))
		x.send("send", x.s, "x", 0, netip.AddrPort{})
		x.sys.settle()
	}},
	{"disconnected", func(x *scene) {
		x.live()
		x.note("connect", x.s.connect(x.at(0)))
		x.note("disconnect", x.s.connect(netip.AddrPort{}))
	}},
	{"bound and disconnected", func(x *scene) {
		x.live()
		x.note("bind", x.s.bind(x.at(1)))
		x.note("connect", x.s.connect(x.at(0)))
		x.note("disconnect", x.s.connect(netip.AddrPort{}))
	}},
	{"read side shut", func(x *scene) {
		x.live()
		x.note("connect", x.s.connect(x.at(0)))
		x.note("shut", x.s.shutdown(socket.SHUT_RD))
	}},
	{"write side shut", func(x *scene) {
		x.live()
		x.note("connect", x.s.connect(x.at(0)))
		x.note("shut", x.s.shutdown(socket.SHUT_WR))
	}},
	{"both sides shut, data waiting", func(x *scene) {
		x.live()
		x.note("bind", x.s.bind(x.at(1)))
		x.note("connect", x.s.connect(x.at(0)))
		x.send("peer sends", x.peer, "0123456789", 0, x.at(1))
		x.sys.settle()
		x.note("shut", x.s.shutdown(socket.SHUT_RDWR))
	}},
	{"shut without a peer", func(x *scene) {
		x.live()
		x.note("bind", x.s.bind(x.at(1)))
		x.note("shut", x.s.shutdown(socket.SHUT_RDWR))
	}},
	{"closed", func(x *scene) { x.live(); x.note("close", x.s.close()) }},
}
