package socket_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/socket/kernel"
)

// This file runs the same calls of the Go surface on package net, over the
// kernel's loopback, and on the stack, over its own, and compares addresses and
// errors: text, place in the call, type, and what errors.Is says of them.

// netScene is one of the two systems, and what it said.
type netScene struct {
	t     *testing.T
	sys   socket.System
	ports []uint16
	log   []string
	open  []io.Closer
}

func (x *netScene) note(format string, a ...any) { x.log = append(x.log, fmt.Sprintf(format, a...)) }

func (x *netScene) at(host string, port int) string {
	return net.JoinHostPort(host, fmt.Sprint(x.ports[port]))
}

// closes remembers what is to be closed at the end.
func (x *netScene) closes(c io.Closer) { x.open = append(x.open, c) }

// sentinels are what programs ask of errors.
var sentinels = []error{os.ErrDeadlineExceeded, context.Canceled, context.DeadlineExceeded, net.ErrClosed, net.ErrWriteToConnected, io.EOF,
	errors.ErrUnsupported, syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, syscall.EADDRINUSE, syscall.EADDRNOTAVAIL,
	syscall.EINVAL, syscall.EMSGSIZE, syscall.ENOTCONN, syscall.ENETUNREACH, syscall.EDESTADDRREQ}

// err writes an error down, ephemeral ports left out.
func (x *netScene) err(what string, err error) {
	if err == nil {
		x.note("%s: ok", what)
		return
	}
	var as []string
	add := func(name string, ok bool) {
		if ok {
			as = append(as, name)
		}
	}
	op, isOp := errors.AsType[*net.OpError](err)
	add("OpError", isOp)
	_, ok := errors.AsType[*os.SyscallError](err)
	add("SyscallError", ok)
	_, ok = errors.AsType[*net.AddrError](err)
	add("AddrError", ok)
	_, ok = errors.AsType[*net.DNSError](err)
	add("DNSError", ok)
	_, ok = errors.AsType[net.UnknownNetworkError](err)
	add("UnknownNetworkError", ok)
	ne, ok := errors.AsType[net.Error](err)
	add("timeout", ok && ne.Timeout())
	te, ok := err.(interface{ Temporary() bool }) // which programs still ask
	add("temporary", ok && te.Temporary())
	for _, s := range sentinels {
		// A dial of ours that takes too long is os.ErrDeadlineExceeded too.
		add(s.Error(), errors.Is(err, s) && !(isOp && op.Op == "dial" && s == os.ErrDeadlineExceeded))
	}
	x.note("%s: %s; %s", what, x.ephemeral(err.Error()), strings.Join(as, ", "))
}

var portRE = regexp.MustCompile(`:\d+`)

func (x *netScene) ephemeral(s string) string {
	return portRE.ReplaceAllStringFunc(s, func(p string) string {
		for _, known := range x.ports {
			if p == fmt.Sprintf(":%d", known) {
				return p
			}
		}
		if len(p) < 4 || p == ":99999" {
			return p // part of an address, or a port that the case names
		}
		return ":PORT"
	})
}

func (x *netScene) dial(ctx context.Context, network, address string) net.Conn {
	c, err := x.sys.DialContext(ctx, network, address)
	x.err("dial "+network+" "+address, err)
	if err != nil {
		if !isNil(c) {
			x.note("a connection all the same: %v", c)
		}
		return nil
	}
	x.closes(c)
	return c
}

func isNil(c any) bool { return c == nil }

func (x *netScene) listen(network, address string) net.Listener {
	l, err := x.sys.Listen(network, address)
	x.err("listen "+network+" "+address, err)
	if err != nil {
		if !isNil(l) {
			x.note("a listener all the same: %v", l)
		}
		return nil
	}
	x.closes(l)
	x.note("at %s %s", l.Addr().Network(), x.ephemeral(l.Addr().String()))
	return l
}

func (x *netScene) packet(network, address string) net.PacketConn {
	c, err := x.sys.ListenPacket(network, address)
	x.err("listen packet "+network+" "+address, err)
	if err != nil {
		if !isNil(c) {
			x.note("a connection all the same: %v", c)
		}
		return nil
	}
	x.closes(c)
	x.note("at %s %s", c.LocalAddr().Network(), x.ephemeral(c.LocalAddr().String()))
	return c
}

// tcpConn is what net.TCPConn and ours have in common.
type tcpConn interface {
	net.Conn
	io.ReaderFrom
	io.WriterTo
	CloseRead() error
	CloseWrite() error
	SetLinger(int) error
	SetNoDelay(bool) error
	SetKeepAlive(bool) error
	SetKeepAlivePeriod(time.Duration) error
	SetKeepAliveConfig(net.KeepAliveConfig) error
	SetReadBuffer(int) error
	SetWriteBuffer(int) error
	MultipathTCP() (bool, error)
}

// udpConn is likewise of net.UDPConn.
type udpConn interface {
	net.Conn
	net.PacketConn
	ReadFromUDP([]byte) (int, *net.UDPAddr, error)
	ReadFromUDPAddrPort([]byte) (int, netip.AddrPort, error)
	ReadMsgUDP(b, oob []byte) (n, oobn, flags int, addr *net.UDPAddr, err error)
	ReadMsgUDPAddrPort(b, oob []byte) (n, oobn, flags int, addr netip.AddrPort, err error)
	WriteToUDP([]byte, *net.UDPAddr) (int, error)
	WriteToUDPAddrPort([]byte, netip.AddrPort) (int, error)
	WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error)
	WriteMsgUDPAddrPort(b, oob []byte, addr netip.AddrPort) (n, oobn int, err error)
	SetReadBuffer(int) error
	SetWriteBuffer(int) error
}

// pair makes a connection to port 0 of a host.
func (x *netScene) pair(network, host string) (client, server tcpConn) {
	l := x.listen(network, x.at(host, 0))
	c := x.dial(bg, network, x.at(host, 0))
	s, err := l.Accept()
	x.err("accept", err)
	x.closes(s)
	for _, e := range []net.Conn{c, s} {
		x.note("%s %s -> %s %s", e.LocalAddr().Network(), x.ephemeral(e.LocalAddr().String()),
			e.RemoteAddr().Network(), x.ephemeral(e.RemoteAddr().String()))
	}
	return c.(tcpConn), s.(tcpConn)
}

func (x *netScene) io(what string, n int, err error) {
	x.note("%s: %d bytes", what, n)
	x.err(what, err)
}

// netCases are the calls. What they do to one of the two systems they do to the
// other.
var netCases = []struct {
	name string
	run  func(x *netScene)
}{
	{"wrong networks", func(x *netScene) {
		for _, n := range []string{"", "tcp7", "TCP", "udp5", "sctp"} {
			x.dial(bg, n, x.at("127.0.0.1", 0))
			x.listen(n, x.at("127.0.0.1", 0))
			x.packet(n, x.at("127.0.0.1", 0))
		}
		x.listen("udp", x.at("127.0.0.1", 0))
		x.listen("udp4", ":0")
		x.packet("tcp", x.at("127.0.0.1", 0))
		x.packet("tcp6", x.at("::1", 0))
	}},
	{"wrong addresses", func(x *netScene) {
		for _, network := range []string{"tcp", "tcp4", "udp", "udp6"} {
			for _, a := range []string{"", "127.0.0.1", "127.0.0.1:99999", "127.0.0.1:-1", "127.0.0.1:no-such-service", "[::1:80", "::1:80", "[::1]80",
				"]:80", "127.0.0.1:80:80", "[::1]:99999"} {
				if !strings.HasPrefix(network, "udp") || strings.ContainsAny(a, "9-]") {
					x.dial(bg, network, a)
				}
				if a != "" && !strings.HasPrefix(network, "udp") {
					x.listen(network, a)
				}
			}
		}
	}},
	{"wrong families", func(x *netScene) {
		for _, c := range [][2]string{{"tcp4", "::1"}, {"tcp6", "127.0.0.1"}, {"udp4", "::1"}, {"udp6", "127.0.0.1"}, {"tcp6", "::ffff:127.0.0.1"}} {
			x.dial(bg, c[0], x.at(c[1], 0))
			if strings.HasPrefix(c[0], "tcp") {
				x.listen(c[0], x.at(c[1], 0))
			} else {
				x.packet(c[0], x.at(c[1], 0))
			}
		}
	}},
	{"refused", func(x *netScene) {
		for _, host := range []string{"127.0.0.1", "::1", "", "0.0.0.0", "::", "::ffff:127.0.0.1"} {
			for _, network := range []string{"tcp", "tcp4", "tcp6"} {
				x.dial(bg, network, x.at(host, 0))
			}
		}
	}},
	{"port 0", func(x *netScene) {
		for _, host := range []string{"127.0.0.1", "[::1]", "", "0.0.0.0", "[::]"} {
			for _, network := range []string{"tcp", "tcp4", "tcp6"} {
				x.dial(bg, network, host+":0")
			}
		}
	}},
	{"contexts", func(x *netScene) {
		cancelled, cancel := context.WithCancel(bg)
		cancel()
		late, cancel := context.WithDeadline(bg, time.Unix(1, 0))
		defer cancel()
		for _, ctx := range []context.Context{cancelled, late} {
			x.dial(ctx, "tcp", x.at("127.0.0.1", 0))
			x.dial(ctx, "tcp", x.at("", 0))
			x.dial(ctx, "udp", x.at("::1", 0))
		}
	}},
	{"listeners", func(x *netScene) {
		for _, host := range []string{"", "0.0.0.0", "::", "127.0.0.1", "::1", "127.0.0.2", "192.0.2.1", "2001:db8::1", "::ffff:127.0.0.1"} {
			for _, network := range []string{"tcp", "tcp4", "tcp6", "udp", "udp4", "udp6"} {
				if strings.HasPrefix(network, "udp") {
					if c := x.packet(network, x.at(host, 0)); c != nil {
						x.packet(network, x.at(host, 0))
						c.Close()
					}
				} else if l := x.listen(network, x.at(host, 0)); l != nil {
					x.listen(network, x.at(host, 0))
					l.Close()
				}
			}
		}
		x.listen("tcp", "")
		x.listen("tcp4", "")
		x.packet("udp", "")
		x.packet("udp6", ":0")
	}},
	{"accept", func(x *netScene) {
		l := x.listen("tcp", x.at("127.0.0.1", 0))
		d := l.(interface{ SetDeadline(time.Time) error })
		x.err("set", d.SetDeadline(past))
		_, err := l.Accept()
		x.err("too late", err)
		x.err("set", d.SetDeadline(time.Time{}))
		done := make(chan error)
		go func() { _, err := l.Accept(); done <- err }()
		x.err("close", l.Close())
		x.err("while waiting", <-done)
		_, err = l.Accept()
		x.err("closed", err)
		x.err("close", l.Close())
		x.err("set", d.SetDeadline(past))
		x.note("%s", l.Addr())
	}},
	{"addresses", func(x *netScene) {
		for _, c := range [][2]string{{"tcp", "127.0.0.1"}, {"tcp4", "127.0.0.1"}, {"tcp6", "::1"}, {"tcp", "::1"}} {
			x.pair(c[0], c[1])
			for _, o := range x.open {
				o.Close()
			}
			x.ports = append(x.ports[1:], x.ports[0])
		}
	}},
	{"both families", func(x *netScene) {
		l := x.listen("tcp", x.at("", 0))
		for _, host := range []string{"127.0.0.1", "::1", "", "0.0.0.0", "::"} {
			c := x.dial(bg, "tcp", x.at(host, 0))
			s, err := l.Accept()
			x.err("accept", err)
			x.closes(s)
			x.note("%s, %s from %s", c.RemoteAddr(), s.LocalAddr(), x.ephemeral(s.RemoteAddr().String()))
		}
	}},
	{"a closed connection", func(x *netScene) {
		c, s := x.pair("tcp", "127.0.0.1")
		waiting := make(chan error)
		go func() { _, err := c.Read(make([]byte, 1)); waiting <- err }()
		x.err("close", c.Close())
		x.err("while reading", <-waiting)
		x.everything(c)
		x.note("%s %s", x.ephemeral(c.LocalAddr().String()), c.RemoteAddr())
		n, err := s.Read(make([]byte, 1))
		x.io("the other end", n, err)
	}},
	{"deadlines", func(x *netScene) {
		c, _ := x.pair("tcp", "127.0.0.1")
		x.err("set", c.SetDeadline(past))
		x.transfers(c)
		x.err("set", c.SetDeadline(time.Now().Add(time.Millisecond)))
		n, err := c.Read(make([]byte, 1))
		x.io("read", n, err)
		x.err("set", c.SetDeadline(time.Time{}))
		n, err = c.Write([]byte("x"))
		x.io("write", n, err)
	}},
	{"half-close", func(x *netScene) {
		c, s := x.pair("tcp", "::1")
		x.err("close write", c.CloseWrite())
		n, err := c.Write([]byte("x"))
		x.io("write", n, err)
		n, err = s.Read(make([]byte, 1))
		x.io("read", n, err)
		n, err = s.Read(nil)
		x.io("read nothing", n, err)
		x.err("again", c.CloseWrite())
		x.err("close read", s.CloseRead())
		n, err = s.Read(make([]byte, 1))
		x.io("read", n, err)
		x.err("close read", c.CloseRead())
	}},
	{"reset", func(x *netScene) {
		c, s := x.pair("tcp", "127.0.0.1")
		x.err("linger", s.SetLinger(0))
		x.err("close", s.Close())
		n, err := c.Read(make([]byte, 1))
		x.io("read", n, err)
		n, err = c.Read(make([]byte, 1))
		x.io("read again", n, err)
		n, err = c.Write([]byte("x"))
		x.io("write", n, err)
		x.err("close write", c.CloseWrite())
	}},
	{"copies that end", func(x *netScene) {
		c, s := x.pair("tcp", "127.0.0.1")
		x.err("close write", s.CloseWrite())
		n, err := c.WriteTo(io.Discard)
		x.io("write to", int(n), err)
		n, err = c.ReadFrom(strings.NewReader("hello"))
		x.io("read from", int(n), err)
		b := make([]byte, 5)
		k, err := io.ReadFull(s, b)
		x.io("read", k, err)
		x.note("%s", b)
		x.err("close write", c.CloseWrite())
		n, err = c.ReadFrom(strings.NewReader("hello"))
		x.io("read from", int(n), err)
	}},
	{"options", func(x *netScene) {
		c, _ := x.pair("tcp", "127.0.0.1")
		x.options(c)
	}},
	{"datagrams", func(x *netScene) {
		a := x.packet("udp4", x.at("127.0.0.1", 0)).(udpConn)
		b := x.packet("udp", x.at("", 1)).(udpConn)
		to := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(x.ports[1])}
		buf := make([]byte, 10)
		for _, send := range []func() (int, error){
			func() (int, error) { return a.WriteTo([]byte("hello"), to) },
			func() (int, error) { return a.WriteToUDP(nil, to) },
			func() (int, error) { return a.WriteToUDPAddrPort([]byte("hello"), to.AddrPort()) },
			func() (int, error) { n, _, err := a.WriteMsgUDP([]byte("more than ten bytes"), nil, to); return n, err },
			func() (int, error) {
				n, _, err := a.WriteMsgUDPAddrPort([]byte("hello"), nil, to.AddrPort())
				return n, err
			},
		} {
			n, err := send()
			x.io("write", n, err)
		}
		n, from, err := b.ReadFrom(buf)
		x.note("%d %v %v", n, from, err)
		n, ufrom, err := b.ReadFromUDP(buf)
		x.note("%d %v %v", n, ufrom, err)
		n, ap, err := b.ReadFromUDPAddrPort(buf)
		x.note("%d %v %v", n, ap, err)
		n, oobn, flags, ufrom, err := b.ReadMsgUDP(buf, nil)
		x.note("%d %d %#x %v %v", n, oobn, flags, ufrom, err)
		n, oobn, flags, ap, err = b.ReadMsgUDPAddrPort(buf, nil)
		x.note("%d %d %#x %v %v", n, oobn, flags, ap, err)
		n, err = b.WriteToUDPAddrPort([]byte("x"), ap)
		x.io("to a mapped address", n, err)
		n, ap, err = a.ReadFromUDPAddrPort(buf)
		x.note("%d %v %v", n, ap, err)

		n, err = a.Write([]byte("x"))
		x.io("no peer", n, err)
		n, err = a.WriteTo([]byte("x"), &net.TCPAddr{IP: to.IP, Port: to.Port})
		x.io("a TCP address", n, err)
		n, err = a.WriteTo([]byte("x"), nil)
		x.io("no address", n, err)
		n, err = a.WriteToUDP([]byte("x"), nil)
		x.io("no UDP address", n, err)
		n, _, err = a.WriteMsgUDP([]byte("x"), nil, nil)
		x.io("no address for a message", n, err)
		n, err = a.WriteTo(make([]byte, 70000), to)
		x.io("too long", n, err)
		n, _, err = a.WriteMsgUDP(make([]byte, 70000), nil, to)
		x.io("too long", n, err)
		n, err = a.WriteToUDPAddrPort([]byte("x"), netip.MustParseAddrPort("[::1]:9"))
		x.io("another family", n, err)
		x.err("set", a.SetReadDeadline(past))
		n, _, err = a.ReadFrom(buf)
		x.io("too late", n, err)
		n, _, _, _, err = a.ReadMsgUDP(buf, nil)
		x.io("too late", n, err)
		x.err("close", a.Close())
		n, _, err = a.ReadFrom(buf)
		x.io("closed", n, err)
		n, err = a.WriteTo(buf, to)
		x.io("closed", n, err)
		n, _, err = a.WriteMsgUDP(buf, nil, to)
		x.io("closed", n, err)
		n, _, _, _, err = a.ReadMsgUDPAddrPort(buf, nil)
		x.io("closed", n, err)
		x.err("close", a.Close())
	}},
	{"a peer for datagrams", func(x *netScene) {
		c := x.dial(bg, "udp", x.at("127.0.0.1", 0)).(udpConn)
		x.note("%s -> %s", x.ephemeral(c.LocalAddr().String()), c.RemoteAddr())
		n, err := c.Write([]byte("x"))
		x.io("write", n, err)
		n, err = c.Read(make([]byte, 1))
		x.io("refused", n, err)
		to := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(x.ports[1])}
		n, err = c.WriteTo([]byte("x"), to)
		x.io("elsewhere", n, err)
		n, err = c.WriteToUDPAddrPort([]byte("x"), to.AddrPort())
		x.io("elsewhere", n, err)
		n, _, err = c.WriteMsgUDP([]byte("x"), nil, to)
		x.io("elsewhere", n, err)
		n, _, err = c.WriteMsgUDP(make([]byte, 70000), nil, nil)
		x.io("too long", n, err)
		x.err("set", c.SetDeadline(past))
		n, err = c.Read(make([]byte, 1))
		x.io("read", n, err)
		x.err("close", c.Close())
		n, err = c.Write([]byte("x"))
		x.io("closed", n, err)
		x.err("buffer", c.SetReadBuffer(4096))
		x.err("buffer", c.SetWriteBuffer(4096))
	}},
	{"typed dials", func(x *netScene) {
		tcp := func(host string, port int) *net.TCPAddr {
			return &net.TCPAddr{IP: net.ParseIP(host), Port: port}
		}
		udp := func(host string, port int) *net.UDPAddr {
			return &net.UDPAddr{IP: net.ParseIP(host), Port: port}
		}
		p, q := int(x.ports[0]), int(x.ports[1])
		for _, network := range []string{"tcp", "tcp4", "tcp6", "udp", "x"} {
			for _, c := range [][2]*net.TCPAddr{
				{nil, nil}, {tcp("127.0.0.1", q), nil}, {nil, tcp("127.0.0.1", p)}, {tcp("127.0.0.1", q), tcp("127.0.0.1", p)},
				{nil, tcp("::1", p)}, {tcp("", q), tcp("127.0.0.1", p)}, {tcp("192.0.2.1", 0), tcp("127.0.0.1", p)}, {nil, tcp("", p)},
			} {
				_, err := x.dialTCP(network, c[0], c[1])
				x.err(fmt.Sprintf("dial %s %v %v", network, c[0], c[1]), err)
			}
		}
		for _, network := range []string{"udp", "udp4", "udp6", "tcp", "x"} {
			for _, c := range [][2]*net.UDPAddr{
				{nil, nil}, {udp("127.0.0.1", q), nil}, {nil, udp("127.0.0.1", p)}, {udp("127.0.0.1", q), udp("127.0.0.1", p)},
				{udp("", q), udp("::1", p)}, {udp("192.0.2.1", 0), udp("127.0.0.1", p)},
			} {
				conn, err := x.dialUDP(network, c[0], c[1])
				x.err(fmt.Sprintf("dial %s %v %v", network, c[0], c[1]), err)
				if err == nil {
					x.note("%s -> %s", x.ephemeral(conn.LocalAddr().String()), conn.RemoteAddr())
					conn.Close()
				}
			}
		}
	}},
}

func (x *netScene) dialTCP(network string, local, remote *net.TCPAddr) (net.Conn, error) {
	if n, ok := x.sys.(*socket.Network); ok {
		return n.DialTCP(network, local, remote)
	}
	return net.DialTCP(network, local, remote)
}

func (x *netScene) dialUDP(network string, local, remote *net.UDPAddr) (net.Conn, error) {
	if n, ok := x.sys.(*socket.Network); ok {
		return n.DialUDP(network, local, remote)
	}
	return net.DialUDP(network, local, remote)
}

// transfers calls what moves bytes.
func (x *netScene) transfers(c tcpConn) {
	n, err := c.Read(make([]byte, 1))
	x.io("read", n, err)
	n, err = c.Read(nil)
	x.io("read nothing", n, err)
	n, err = c.Write([]byte("x"))
	x.io("write", n, err)
	n, err = c.Write(nil)
	x.io("write nothing", n, err)
	k, err := c.WriteTo(io.Discard)
	x.io("write to", int(k), err)
	k, err = c.ReadFrom(strings.NewReader("hello"))
	x.io("read from", int(k), err)
}

func (x *netScene) options(c tcpConn) {
	x.err("linger", c.SetLinger(-1))
	x.err("no delay", c.SetNoDelay(false))
	x.err("keep-alive", c.SetKeepAlive(true))
	x.err("period", c.SetKeepAlivePeriod(time.Minute))
	x.err("config", c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true}))
	x.err("read buffer", c.SetReadBuffer(4096))
	x.err("write buffer", c.SetWriteBuffer(4096))
}

// everything calls all methods.
func (x *netScene) everything(c tcpConn) {
	x.transfers(c)
	x.options(c)
	x.err("close read", c.CloseRead())
	x.err("close write", c.CloseWrite())
	x.err("deadline", c.SetDeadline(past))
	x.err("deadline", c.SetReadDeadline(past))
	x.err("deadline", c.SetWriteDeadline(past))
	x.err("close", c.Close())
}

func TestLikePackageNet(t *testing.T) {
	watch(t)
	if !kernelHasIPv6() {
		t.Skip("the kernel has no IPv6 loopback to compare with")
	}
	for _, c := range netCases {
		t.Run(c.name, func(t *testing.T) {
			ports := freePorts(t, 3)
			slices.Sort(ports)
			var logs [2][]string
			for i, sys := range []socket.System{&kernel.Network{}, socket.Net(lone(t))} {
				x := &netScene{t: t, sys: sys, ports: slices.Clone(ports)}
				c.run(x)
				for _, o := range x.open {
					o.Close()
				}
				logs[i] = x.log
			}
			if d := diff(logs[0], logs[1]); d != "" {
				t.Error(d)
			}
		})
	}
}
