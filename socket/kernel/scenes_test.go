package kernel_test

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
)

// The tests run each function on the kernel and on a stack, over the loopback
// of each, and compare what it noted. Addresses are given by the systems, so
// that only what is said of them is noted.
var scenes = []struct {
	name string
	run  func(s *scene)
}{
	{"stream", func(s *scene) {
		c, p := s.pair()
		n, err := c.Send([]byte("hello"), 0)
		s.note("send", n, err)
		b := make([]byte, 10)
		n, err = p.Recv(b[:2], socket.MSG_PEEK)
		s.note("peek", string(b[:n]), err)
		n, err = p.Recv(b[:4], socket.MSG_WAITALL)
		s.note("receive", string(b[:n]), err)
		go func() {
			c.Send([]byte("a"), 0)
			c.Send([]byte("bc"), 0)
		}()
		n, err = p.Recv(b[:4], socket.MSG_WAITALL)
		s.note("all", string(b[:n]), err)
		n, err = p.Recv(b, socket.MSG_DONTWAIT)
		s.note("nothing there", n, err)
		s.note("shut", c.Shutdown(socket.SHUT_WR))
		n, err = p.Recv(b, 0)
		s.note("end", n, err)
		s.note("ready", p.Ready()&stack.ReadyIn != 0)
		n, err = c.Send([]byte("x"), 0)
		s.note("after the end", n, err)
		s.note("wrong", c.Shutdown(9))
	}},
	{"disconnected", func(s *scene) {
		c, p := s.pair()
		to, err := c.Getpeername()
		s.note("peer", err)
		none := netip.AddrPort{}
		s.note("disconnect", c.Connect(context.Background(), none))
		_, err = c.Getpeername()
		s.note("no peer", err)
		n, err := p.Recv(make([]byte, 1), 0)
		s.note("the other end", n, err)
		s.note("again", c.Connect(context.Background(), to))
		s.note("and again", c.Connect(context.Background(), none), c.Connect(context.Background(), none))
	}},
	{"much", func(s *scene) {
		c, p := s.pair()
		data := bytes.Repeat([]byte("0123456789"), 1<<20)
		go func() {
			c.Send(data, 0)
			c.Shutdown(socket.SHUT_WR)
		}()
		var got []byte
		b := make([]byte, 1<<16)
		for {
			n, err := p.Recv(b, 0)
			got = append(got, b[:n]...)
			if err != nil {
				s.note("end", err)
				break
			}
		}
		s.note("the same", bytes.Equal(got, data))
	}},
	{"send without waiting", func(s *scene) {
		c, _ := s.pair()
		data := make([]byte, 64<<20)
		n, err := c.Send(data, socket.MSG_DONTWAIT)
		s.note("some", n > 0 && n < len(data), err)
		for err == nil {
			_, err = c.Send(data, socket.MSG_DONTWAIT)
		}
		s.note("full", err)
		c.SetWriteDeadline(time.Now().Add(time.Millisecond))
		_, err = c.Send(data, 0)
		s.note("in time", err)
	}},
	{"deadlines", func(s *scene) {
		c, _ := s.pair()
		b := make([]byte, 1)
		for _, at := range []time.Time{time.Unix(1, 0), time.Now().Add(time.Millisecond)} {
			s.note("set", c.SetReadDeadline(at))
			n, err := c.Recv(b, 0)
			s.note("receive", n, err)
		}
		s.note("set", c.SetDeadline(time.Time{}))
		n, err := c.Send(b, 0)
		s.note("send", n, err)
	}},
	{"contexts", func(s *scene) {
		l := s.listener()
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(time.Millisecond, cancel)
		_, _, err := l.Accept(ctx)
		s.note("accept", err)
		_, _, err = l.Accept(ctx)
		s.note("accept", err)
		short, stop := context.WithTimeout(context.Background(), time.Millisecond)
		defer stop()
		_, _, err = l.Accept(short)
		s.note("accept", err)
		// One that is cancelled leaves the other waiting, and the deadline.
		l.SetReadDeadline(time.Now().Add(time.Hour))
		done := make(chan error)
		go func() {
			a, _, err := l.Accept(context.Background())
			if err == nil {
				s.closes(a)
			}
			done <- err
		}()
		again, cancel := context.WithCancel(context.Background())
		time.AfterFunc(time.Millisecond, cancel)
		_, _, err = l.Accept(again)
		s.note("cancelled", err)
		c := s.socket(socket.SOCK_STREAM)
		at, _ := l.Getsockname()
		s.note("connect", c.Connect(context.Background(), at))
		s.note("the other", <-done)
		s.note("connect", s.socket(socket.SOCK_STREAM).Connect(ctx, at))
	}},
	{"close", func(s *scene) {
		c, p := s.pair()
		done := make(chan error)
		go func() { _, err := c.Recv(make([]byte, 1), 0); done <- err }()
		s.note("close", c.Close())
		s.note("receive", <-done)
		s.note("close", c.Close())
		_, err := c.Send([]byte("x"), 0)
		s.note("send", err)
		_, err = c.Getsockname()
		s.note("name", err)
		_, err = c.GetsockoptInt(socket.SOL_SOCKET, socket.SO_RCVBUF)
		s.note("option", err)
		s.note("set", c.SetDeadline(time.Now()), c.SetNonblock(true), c.TakeError(), c.Bind(netip.AddrPort{}))
		_, err = p.Recv(make([]byte, 1), 0)
		s.note("the other end", err)
	}},
	{"refused", func(s *scene) {
		l := s.listener()
		at, _ := l.Getsockname()
		l.Close()
		c := s.socket(socket.SOCK_STREAM)
		s.note("connect", c.Connect(context.Background(), at))
		_, err := c.Getpeername()
		s.note("peer", err)
		s.note("bind elsewhere", s.socket(socket.SOCK_STREAM).Bind(netip.MustParseAddrPort("192.0.2.1:0")))
	}},
	{"without waiting", func(s *scene) {
		l := s.listener()
		s.note("mode", l.SetNonblock(true))
		_, _, err := l.Accept(context.Background())
		s.note("accept", err)
		at, _ := l.Getsockname()
		c := s.socket(socket.SOCK_STREAM)
		c.SetNonblock(true)
		_, err = c.Recv(make([]byte, 1), 0)
		s.note("not connected", err)
		if err := c.Connect(context.Background(), at); err != nil && err != syscall.EINPROGRESS {
			s.note("connect", err)
		}
		for c.Ready()&stack.ReadyOut == 0 {
			time.Sleep(time.Millisecond)
		}
		s.note("result", c.TakeError())
		_, err = c.Recv(make([]byte, 1), 0)
		s.note("nothing there", err)
	}},
	{"datagrams", func(s *scene) {
		a, b := s.socket(socket.SOCK_DGRAM), s.socket(socket.SOCK_DGRAM)
		s.note("bind", a.Bind(netip.AddrPortFrom(s.lo, 0)), b.Bind(netip.AddrPortFrom(s.lo, 0)))
		to, _ := b.Getsockname()
		me, _ := a.Getsockname()
		n, err := a.SendTo([]byte("hello"), 0, to)
		s.note("send", n, err)
		buf := make([]byte, 3)
		n, from, err := b.RecvFrom(buf, socket.MSG_TRUNC)
		s.note("receive", n, from == me, err)
		n, err = a.Send(buf, 0)
		s.note("no peer", n, err)
		s.note("connect", a.Connect(context.Background(), to))
		peer, err := a.Getpeername()
		s.note("peer", peer == to, err)
		n, err = a.Send(nil, 0)
		s.note("nothing", n, err)
		n, _, err = b.RecvFrom(buf, 0)
		s.note("nothing", n, err)
		s.note("disconnect", a.Connect(context.Background(), netip.AddrPort{}))
		_, err = a.Getpeername()
		s.note("peer", err)
		n, err = a.SendTo(make([]byte, 70000), 0, to)
		s.note("too long", n, err)
	}},
	{"names of datagram sockets", func(s *scene) {
		to := s.socket(socket.SOCK_DGRAM)
		to.Bind(netip.AddrPortFrom(s.lo, 0))
		at, _ := to.Getsockname()
		any := netip.IPv4Unspecified()
		if s.lo.Is6() {
			any = netip.IPv6Unspecified()
		}
		name := func(what string, f socket.Berkeley) {
			a, err := f.Getsockname()
			s.note(what, a.Addr(), a.Port() != 0, err)
		}
		for _, how := range []string{"unbound", "any port", "any address", "bound"} {
			f := s.socket(socket.SOCK_DGRAM)
			switch how {
			case "any port":
				s.note("bind", f.Bind(netip.AddrPortFrom(s.lo, 0)))
			case "any address":
				s.note("bind", f.Bind(netip.AddrPortFrom(any, 41234)))
			case "bound":
				s.note("bind", f.Bind(netip.AddrPortFrom(s.lo, 41234)))
			}
			name(how, f)
			for range 2 {
				s.note("connect", f.Connect(context.Background(), at))
				name("connected", f)
				s.note("option", f.SetsockoptInt(socket.SOL_SOCKET, socket.SO_DONTROUTE, 1))
				name("still", f)
				s.note("disconnect", f.Connect(context.Background(), netip.AddrPort{}))
				name("disconnected", f)
				_, err := f.SendTo([]byte("x"), 0, at)
				s.note("send", err)
				name("sent", f)
			}
			f.Close()
		}
	}},
	{"device of a datagram socket", func(s *scene) {
		to, f := s.socket(socket.SOCK_DGRAM), s.socket(socket.SOCK_DGRAM)
		to.Bind(netip.AddrPortFrom(s.lo, 0))
		at, _ := to.Getsockname()
		s.note("pin", f.SetsockoptInt(socket.SOL_SOCKET, socket.SO_BINDTOIFINDEX, 1))
		for _, to := range []netip.AddrPort{at, {}, at} {
			s.note("connect", f.Connect(context.Background(), to))
			n, err := f.GetsockoptInt(socket.SOL_SOCKET, socket.SO_BINDTOIFINDEX)
			s.note("device", n, err)
		}
	}},
	{"one address of many", func(s *scene) {
		if s.lo.Is6() {
			return // which has one loopback address
		}
		a, b := s.socket(socket.SOCK_DGRAM), s.socket(socket.SOCK_DGRAM)
		a.Bind(netip.AddrPortFrom(s.lo, 0))
		at, _ := a.Getsockname()
		s.note("connect", b.Connect(context.Background(), at))
		me, _ := b.Getsockname()
		other := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), me.Port())
		for _, to := range []netip.AddrPort{other, me} {
			_, err := a.SendTo([]byte("to "+to.Addr().String()), 0, to)
			s.note("send", err)
		}
		buf := make([]byte, 99)
		n, err := b.Recv(buf, 0)
		s.note("connected", string(buf[:n]), err)
		s.note("disconnect", b.Connect(context.Background(), netip.AddrPort{}))
		n, err = b.Recv(buf, socket.MSG_DONTWAIT)
		s.note("nothing there", n, err)
	}},
	{"messages", func(s *scene) {
		a, b := s.socket(socket.SOCK_DGRAM), s.socket(socket.SOCK_DGRAM)
		s.note("bind", a.Bind(netip.AddrPortFrom(s.lo, 0)), b.Bind(netip.AddrPortFrom(s.lo, 0)))
		to, _ := b.Getsockname()
		me, _ := a.Getsockname()
		level, info, hops, hopsOf, errs := socket.IPPROTO_IP, socket.IP_PKTINFO, socket.IP_RECVTTL, socket.IP_TTL, socket.IP_RECVERR
		if s.lo.Is6() {
			level, info, hops, hopsOf, errs = socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, socket.IPV6_RECVHOPLIMIT, socket.IPV6_HOPLIMIT, socket.IPV6_RECVERR
		}
		s.note("ask", b.SetsockoptInt(level, info, 1), b.SetsockoptInt(level, hops, 1), a.SetsockoptInt(level, errs, 1))
		send := func(what string, control []byte, pieces ...string) {
			m := socket.Msg{Name: to, Control: control}
			for _, p := range pieces {
				m.Buffers = append(m.Buffers, []byte(p))
			}
			n, err := a.Sendmsg(&m, 0)
			s.note(what, n, err)
		}
		receive := func(what string, f socket.Berkeley, flags int, room ...int) {
			m := socket.Msg{Control: make([]byte, 200)}
			for _, n := range room {
				m.Buffers = append(m.Buffers, make([]byte, n))
			}
			n, err := f.Recvmsg(&m, flags)
			info, bad := socket.ParseControl(m.Control[:m.ControlLen])
			s.note(what, n, err, fmt.Sprintf("%q", m.Buffers), m.Name == me, m.Name == to, m.Flags, m.ControlLen)
			if e := info.Err; e != nil {
				s.note("error", *e)
				info.Err = nil
			}
			s.note("control", info, bad)
		}
		send("pieces", socket.AppendControlInt(nil, level, hopsOf, 9), "he", "", "llo")
		receive("peek", b, socket.MSG_PEEK, 3)
		receive("all", b, 0, 1, 0, 2, 9)
		send("from here", socket.AppendPktInfo(nil, s.lo, 1), "x")
		receive("a byte", b, 0, 1)
		send("nothing", nil)
		receive("nothing", b, 0)
		send("wrong", socket.AppendControlInt(nil, level, hopsOf, 999), "x")
		receive("nothing there", b, socket.MSG_DONTWAIT, 9)
		receive("no error", a, socket.MSG_ERRQUEUE, 9)
		b.Close()
		send("to nobody", nil, "lost")
		receive("refused", a, 0, 9)
		receive("why", a, socket.MSG_ERRQUEUE, 2)
	}},
	{"messages of a stream", func(s *scene) {
		c, p := s.pair()
		n, err := c.Sendmsg(&socket.Msg{Buffers: [][]byte{[]byte("he"), nil, []byte("llo, "), []byte("world")}}, 0)
		s.note("send", n, err)
		m := socket.Msg{Buffers: [][]byte{make([]byte, 1), nil, make([]byte, 3), make([]byte, 8)}, Control: make([]byte, 64)}
		n, err = p.Recvmsg(&m, socket.MSG_WAITALL)
		s.note("receive", n, err, fmt.Sprintf("%q", m.Buffers), m.Name, m.Flags, m.ControlLen)
		go func() {
			c.Send([]byte("a"), 0)
			c.Sendmsg(&socket.Msg{Buffers: [][]byte{[]byte("b"), []byte("c")}}, 0)
			c.Shutdown(socket.SHUT_WR)
		}()
		m = socket.Msg{Buffers: [][]byte{make([]byte, 2), make([]byte, 2)}}
		n, err = p.Recvmsg(&m, socket.MSG_WAITALL)
		s.note("until the end", n, err, fmt.Sprintf("%q", m.Buffers))
		n, err = p.Recvmsg(&m, 0)
		s.note("end", n, err)
		n, err = p.Recvmsg(&m, socket.MSG_ERRQUEUE)
		s.note("no error", n, err)
		big := bytes.Repeat([]byte("0123456789"), 1<<17)
		sent := make(chan error)
		go func() {
			_, err := p.Sendmsg(&socket.Msg{Buffers: [][]byte{big[:1], big[1:70000], big[70000:]}}, 0)
			sent <- err
		}()
		b := make([]byte, len(big))
		n, err = c.Recv(b, socket.MSG_WAITALL)
		s.note("much", bytes.Equal(b[:n], big), err, <-sent)
	}},
	{"types with flags", func(s *scene) {
		l, c := s.socket(socket.SOCK_STREAM|socket.SOCK_NONBLOCK), s.socket(socket.SOCK_STREAM|socket.SOCK_CLOEXEC)
		s.note("listen", l.Bind(netip.AddrPortFrom(s.lo, 0)), l.Listen(5))
		_, _, err := l.Accept(context.Background())
		s.note("accept", err)
		at, _ := l.Getsockname()
		s.note("connect", c.Connect(context.Background(), at))
		s.note("mode", l.SetNonblock(false))
		p, _, err := l.Accept(context.Background())
		s.note("accept", err)
		s.closes(p)
		s.note("shut", p.Shutdown(socket.SHUT_WR))
		n, err := c.Recv(make([]byte, 1), 0)
		s.note("end", n, err)
		s.note("ready", c.Ready())
	}},
	{"options", func(s *scene) {
		c := s.socket(socket.SOCK_STREAM)
		s.note("set", c.SetsockoptInt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1))
		v, err := c.GetsockoptInt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
		s.note("get", v, err)
		_, err = c.GetsockoptInt(socket.IPPROTO_TCP, 9999)
		s.note("unknown", err)
		_, err = s.sys.Socket(99, socket.SOCK_STREAM, 0)
		s.note("family", err)
	}},
}
