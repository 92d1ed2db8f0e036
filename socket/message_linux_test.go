package socket_test

// This file compares messages, control messages, the queue of errors and the
// options of datagram sockets with the kernel's: each case is one function that
// runs on both, over loopback, the kernel in a network namespace of its own.

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"unsafe"

	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// messenger is what a socket of either system has beside berkeleySocket.
type messenger interface {
	berkeleySocket
	sendmsg(buffers [][]byte, control []byte, flags int, to netip.AddrPort) (int, error)
	recvmsg(buffers [][]byte, control []byte, flags int) (n, cn, rflags int, from netip.AddrPort, err error)
	setRaw(level, name int, b []byte) error
	getRaw(level, name int, b []byte) (int, error)
	pollErr() bool // POLLERR
}

func (s *kernelSocket) sendmsg(buffers [][]byte, control []byte, flags int, to netip.AddrPort) (int, error) {
	var sa unix.Sockaddr
	if to.IsValid() {
		sa = sockaddr(to)
	}
	return unix.SendmsgBuffers(s.fd, buffers, control, sa, flags|unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
}

func (s *kernelSocket) recvmsg(buffers [][]byte, control []byte, flags int) (int, int, int, netip.AddrPort, error) {
	n, cn, rflags, sa, err := unix.RecvmsgBuffers(s.fd, buffers, control, flags|unix.MSG_DONTWAIT)
	return n, cn, rflags, fromSockaddr(sa), err
}

func (s *kernelSocket) setRaw(level, name int, b []byte) error {
	_, _, e := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(s.fd), uintptr(level), uintptr(name), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0)
	if e != 0 {
		return e
	}
	return nil
}

func (s *kernelSocket) getRaw(level, name int, b []byte) (int, error) {
	n := uint32(len(b))
	_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), uintptr(level), uintptr(name), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(unsafe.Pointer(&n)), 0)
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

func (s *kernelSocket) pollErr() bool {
	p := []unix.PollFd{{Fd: int32(s.fd)}}
	unix.Poll(p, 0)
	return p[0].Revents&unix.POLLERR != 0
}

func (s *stackSocket) sendmsg(buffers [][]byte, control []byte, flags int, to netip.AddrPort) (int, error) {
	return s.f.Sendmsg(&socket.Msg{Name: to, Buffers: buffers, Control: control}, flags|socket.MSG_DONTWAIT)
}

func (s *stackSocket) recvmsg(buffers [][]byte, control []byte, flags int) (int, int, int, netip.AddrPort, error) {
	m := socket.Msg{Buffers: buffers, Control: control}
	n, err := s.f.Recvmsg(&m, flags|socket.MSG_DONTWAIT)
	if err == io.EOF {
		err = nil // C cannot tell
	}
	return n, m.ControlLen, m.Flags, m.Name, err
}

func (s *stackSocket) setRaw(level, name int, b []byte) error { return s.f.Setsockopt(level, name, b) }
func (s *stackSocket) getRaw(level, name int, b []byte) (int, error) {
	return s.f.Getsockopt(level, name, b)
}
func (s *stackSocket) pollErr() bool { return s.f.Ready()&stack.ReadyErr != 0 }

// privately runs f in a network namespace that ends with it, in which loopback
// is up and has the stack's MTU.
func privately(t *testing.T, f func()) {
	t.Helper()
	problem := make(chan error)
	go func() {
		runtime.LockOSThread() // for ever: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = loopbackUp()
		}
		if err == nil {
			f()
		}
		problem <- err
	}()
	if err := <-problem; err != nil {
		lab.Lacks(t, fmt.Errorf("a network namespace for the kernel: %w", err))
	}
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	r.SetUint32(65535)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFMTU, r); err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r); err != nil {
		return err
	}
	// Every other interface has this route.
	return netlink.RouteAdd(&netlink.Route{LinkIndex: 1, Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_MULTICAST,
		Dst: &net.IPNet{IP: net.ParseIP("ff00::"), Mask: net.CIDRMask(8, 128)}})
}

// comparePrivately is compare with a kernel that nobody else uses.
func comparePrivately(t *testing.T, domain, typ int, f func(x *scene)) string {
	t.Helper()
	x := &scene{sys: &kernelSystem{}, domain: domain, typ: typ, ports: []uint16{7001, 7002, 7003, 7004, 7005}}
	y := &scene{domain: domain, typ: typ, ports: x.ports}
	for _, z := range []*scene{x, y} {
		z.lo, z.any = loopback4, netip.IPv4Unspecified()
		if domain == socket.AF_INET6 {
			z.lo, z.any = netip.IPv6Loopback(), netip.IPv6Unspecified()
		}
	}
	privately(t, func() { f(x) })
	privatelyEnd(x)
	synctest.Test(t, func(t *testing.T) {
		s := stack.New(stack.Config{})
		t.Cleanup(func() { s.Close() })
		y.sys = stackSystem{t, s}
		f(y)
	})
	return diff(x.log, y.log)
}

func privatelyEnd(x *scene) { x.sys.(*kernelSystem).end() }

// cmsgNames are the control messages by name, to be read in a failure.
var cmsgNames = map[[2]int32]string{
	{0, 8}: "IP_PKTINFO", {0, 2}: "IP_TTL", {0, 1}: "IP_TOS", {0, 20}: "IP_ORIGDSTADDR", {0, 11}: "IP_RECVERR",
	{41, 50}: "IPV6_PKTINFO", {41, 52}: "IPV6_HOPLIMIT", {41, 67}: "IPV6_TCLASS", {41, 11}: "IPV6_FLOWINFO", {41, 25}: "IPV6_RECVERR",
	{41, 54}: "IPV6_HOPOPTS", {41, 59}: "IPV6_DSTOPTS", {41, 57}: "IPV6_RTHDR", {41, 61}: "IPV6_PATHMTU",
	{41, 74}: "IPV6_ORIGDSTADDR", {1, 29}: "SO_TIMESTAMP", {1, 35}: "SO_TIMESTAMPNS", {17, 104}: "UDP_GRO", {1, 40}: "SO_RXQ_OVFL",
}

// noteMsg receives a message and writes down everything about it.
func (x *scene) noteMsg(what string, s berkeleySocket, sizes []int, control, flags int) {
	var buffers [][]byte
	for _, n := range sizes {
		buffers = append(buffers, make([]byte, n))
	}
	oob := make([]byte, control)
	n, cn, rflags, from, err := s.(messenger).recvmsg(buffers, oob, flags)
	var data []byte
	for _, b := range buffers {
		data = append(data, b...)
	}
	if err != nil {
		x.note(what, err)
		return
	}
	x.note(what, n, string(data[:min(n, len(data))]), cn, fmt.Sprintf("flags %x", rflags), from, err)
	// The kernel's own reader of control messages has to understand ours.
	msgs, err := unix.ParseSocketControlMessage(oob[:cn])
	x.note("control messages", len(msgs), err)
	for _, m := range msgs {
		name := cmsgNames[[2]int32{m.Header.Level, m.Header.Type}]
		value := fmt.Sprintf("%x", m.Data)
		if strings.HasPrefix(name, "SO_TIMESTAMP") {
			value = fmt.Sprint(len(m.Data))
		}
		x.note(fmt.Sprintf("%s %d.%d", name, m.Header.Level, m.Header.Type), m.Header.Len, value)
	}
}

func (x *scene) sendMsg(what string, s berkeleySocket, data string, control []byte, flags int, to netip.AddrPort) {
	n, err := s.(messenger).sendmsg([][]byte{[]byte(data)}, control, flags, to)
	x.note(what, max(n, 0), err)
}

func ints(v ...int32) (b []byte) {
	for _, v := range v {
		b = binary.NativeEndian.AppendUint32(b, uint32(v))
	}
	return b
}

// askAll turns on whatever makes control messages of the family.
func (x *scene) askAll(s berkeleySocket, v6 bool) {
	for _, o := range []int{socket.IP_PKTINFO, socket.IP_RECVTTL, socket.IP_RECVTOS, socket.IP_RECVORIGDSTADDR} {
		x.note("ask", s.setInt(socket.IPPROTO_IP, o, 1))
	}
	if v6 {
		for _, o := range []int{socket.IPV6_RECVPKTINFO, socket.IPV6_RECVHOPLIMIT, socket.IPV6_RECVTCLASS, socket.IPV6_RECVORIGDSTADDR} {
			x.note("ask", s.setInt(socket.IPPROTO_IPV6, o, 1))
		}
	}
}

// sent are the control messages to send with, good and bad ones.
func sent(lo netip.Addr) (list []struct {
	name string
	b    []byte
}) {
	add := func(name string, b []byte) {
		list = append(list, struct {
			name string
			b    []byte
		}{name, b})
	}
	c := socket.AppendControl
	for _, v := range []int32{-2, -1, 0, 1, 5, 255, 256} {
		add(fmt.Sprint("IP_TTL ", v), c(nil, 0, socket.IP_TTL, ints(v)))
		add(fmt.Sprint("IP_TOS ", v), c(nil, 0, socket.IP_TOS, ints(v)))
		if v != -1 { // RFC 3542 §6.5: the default, which is 0; Linux sends 255
			add(fmt.Sprint("IPV6_TCLASS ", v), c(nil, 41, socket.IPV6_TCLASS, ints(v)))
		}
		add(fmt.Sprint("IPV6_DONTFRAG ", v), c(nil, 41, socket.IPV6_DONTFRAG, ints(v)))
		if v != 0 {
			add(fmt.Sprint("IPV6_HOPLIMIT ", v), c(nil, 41, socket.IPV6_HOPLIMIT, ints(v)))
		}
	}
	add("IP_TOS byte", c(nil, 0, socket.IP_TOS, []byte{0x30}))
	add("IP_TTL byte", c(nil, 0, socket.IP_TTL, []byte{3}))
	add("IP_TTL of 8 bytes", c(nil, 0, socket.IP_TTL, ints(3, 0)))
	for _, index := range []int32{0, 1, 99} {
		for _, a := range []string{"127.0.0.1", "127.0.0.9", "0.0.0.0", "192.0.2.7"} {
			b := netip.MustParseAddr(a).As4()
			add(fmt.Sprint("IP_PKTINFO ", a, index), c(nil, 0, socket.IP_PKTINFO, append(append(ints(index), b[:]...), 0, 0, 0, 0)))
		}
		for _, a := range []string{"::1", "::", "2001:db8::9", "fe80::1", "::ffff:127.0.0.1", "::ffff:127.0.0.9"} {
			b := netip.MustParseAddr(a).As16()
			add(fmt.Sprint("IPV6_PKTINFO ", a, index), c(nil, 41, socket.IPV6_PKTINFO, append(b[:], ints(index)...)))
		}
	}
	add("IP_PKTINFO short", c(nil, 0, socket.IP_PKTINFO, ints(0, 0)))
	add("IP_PKTINFO long", c(nil, 0, socket.IP_PKTINFO, ints(0, 0, 0, 0)))
	add("IPV6_PKTINFO short", c(nil, 41, socket.IPV6_PKTINFO, ints(0, 0)))
	add("two", c(c(nil, 0, socket.IP_TTL, ints(9)), 41, socket.IPV6_HOPLIMIT, ints(8)))
	add("unknown IP", c(nil, 0, 200, ints(1)))
	add("unknown IPv6", c(nil, 41, 200, ints(1)))
	add("unknown UDP", c(nil, 17, 200, ints(1)))
	add("unknown level", c(nil, 77, 1, ints(1)))
	add("unknown of SOL_SOCKET", c(nil, 1, 200, ints(1)))
	add("UDP_SEGMENT", socket.AppendSegmentSize(nil, 2))
	add("UDP_SEGMENT of an int", c(nil, 17, socket.UDP_SEGMENT, ints(2)))
	add("UDP_SEGMENT 0", socket.AppendSegmentSize(nil, 0))
	add("length 0", make([]byte, 16))
	add("no header", make([]byte, 15))
	add("too long", binary.NativeEndian.AppendUint64(nil, 100)[:8:8])
	add("length 17 of 16", append(binary.NativeEndian.AppendUint64(nil, 17), ints(0, 2)...))
	add("length 2^63", append(binary.NativeEndian.AppendUint64(nil, 1<<63), ints(0, 2, 0, 0)...))
	add("rest of 8", append(c(nil, 0, socket.IP_TTL, ints(7)), make([]byte, 8)...))
	add("rest of 16", append(c(nil, 0, socket.IP_TTL, ints(7)), make([]byte, 16)...))
	return list
}

// messageCases are the cases, run for both families.
var messageCases = []step{
	{"control messages in", func(x *scene) {
		x.live()
		x.askAll(x.peer, x.domain == socket.AF_INET6)
		x.note("stamps", x.peer.setInt(socket.SOL_SOCKET, socket.SO_TIMESTAMP, 1))
		for _, size := range []int{0, 1, 15, 16, 17, 20, 24, 28, 31, 32, 33, 40, 48, 64, 100, 200, 300} {
			x.sendMsg("send", x.s, "hello", nil, 0, x.at(0))
			x.sys.settle()
			x.noteMsg(fmt.Sprint("with room for ", size), x.peer, []int{10}, size, 0)
		}
		x.note("stamps", x.peer.setInt(socket.SOL_SOCKET, socket.SO_TIMESTAMPNS, 1))
		x.sendMsg("send", x.s, "hello", nil, 0, x.at(0))
		x.sys.settle()
		x.noteMsg("peek", x.peer, []int{10}, 300, socket.MSG_PEEK)
		x.noteMsg("recvmsg", x.peer, []int{10}, 300, 0)
	}},
	{"control messages out", func(x *scene) {
		x.live()
		x.askAll(x.peer, x.domain == socket.AF_INET6)
		for _, c := range sent(x.lo) {
			x.sendMsg(c.name, x.s, "hello", c.b, 0, x.at(0))
			x.sys.settle()
			for range 4 {
				x.noteMsg("received", x.peer, []int{10}, 300, 0)
			}
		}
		x.sendMsg("without a peer", x.s, "hello", make([]byte, 16), 0, none)
		x.note("connect", x.s.connect(x.at(0)))
		x.sendMsg("connected", x.s, "hello", socket.AppendControlInt(nil, 0, socket.IP_TTL, 3), 0, none)
		x.sendMsg("connected", x.s, "hello", socket.AppendControlInt(nil, 41, socket.IPV6_HOPLIMIT, 3), 0, none)
		x.sys.settle()
		x.noteMsg("received", x.peer, []int{10}, 300, 0)
		x.noteMsg("received", x.peer, []int{10}, 300, 0)
	}},
	{"mapped", func(x *scene) {
		if x.domain != socket.AF_INET6 {
			return
		}
		x.peer = x.socket()
		x.note("bind", x.peer.bind(netip.AddrPortFrom(x.any, x.ports[0])))
		x.askAll(x.peer, true)
		x.s = x.socket()
		to := netip.AddrPortFrom(netip.AddrFrom16(loopback4.As16()), x.ports[0])
		for _, c := range sent(x.lo) {
			x.sendMsg(c.name, x.s, "hello", c.b, 0, to)
			x.sys.settle()
			x.noteMsg("received", x.peer, []int{10}, 300, 0)
			x.recv("rest", x.peer, 10, 0)
			x.recv("rest", x.peer, 10, 0)
		}
	}},
	{"truncated", func(x *scene) {
		x.live()
		for _, sizes := range [][]int{{0}, {4}, {5}, {6}, {2, 2}, {2, 3}, {0, 9}, {3, 0, 9}, {1, 1, 1, 1, 1, 1}, {}} {
			for _, flags := range []int{0, socket.MSG_TRUNC, socket.MSG_PEEK, socket.MSG_PEEK | socket.MSG_TRUNC, socket.MSG_WAITALL} {
				x.send("send", x.peer, "", 0, none)
				x.send("send", x.s, "hello", 0, x.at(0))
				x.sys.settle()
				x.noteMsg(fmt.Sprint(sizes, " flags ", flags), x.peer, sizes, 100, flags)
				for range 2 {
					x.recv("rest", x.peer, 10, 0)
				}
			}
		}
		n, err := x.s.(messenger).sendmsg([][]byte{[]byte("a"), nil, []byte("bcd"), []byte("e")}, nil, 0, x.at(0))
		x.note("send four pieces", n, err)
		x.sys.settle()
		x.recv("one datagram", x.peer, 10, 0)
	}},
	{"errors", func(x *scene) {
		level, opt := socket.IPPROTO_IP, socket.IP_RECVERR
		if x.domain == socket.AF_INET6 {
			level, opt = socket.IPPROTO_IPV6, socket.IPV6_RECVERR
		}
		look := func(what string) {
			x.sys.settle()
			x.note(what+": poll", x.s.(messenger).pollErr())
			for _, size := range []int{200, 30, 200} {
				x.noteMsg("queue", x.s, []int{3}, size, socket.MSG_ERRQUEUE)
				x.note("poll", x.s.(messenger).pollErr())
			}
			x.recv("recv", x.s, 10, 0)
			v, err := x.s.getInt(socket.SOL_SOCKET, socket.SO_ERROR)
			x.note("SO_ERROR", v, err)
		}
		x.live()
		x.noteMsg("empty", x.s, []int{3}, 100, socket.MSG_ERRQUEUE)
		x.send("without the option", x.s, "hello", 0, x.at(2))
		look("without")
		x.note("on", x.s.setInt(level, opt, 1))
		x.note("bind", x.s.bind(x.at(1)))
		x.send("send", x.s, "hello", 0, x.at(2))
		look("not connected")
		for range 2 {
			x.send("send", x.s, "hello", 0, x.at(2))
			x.sys.settle()
			v, err := x.s.getInt(socket.SOL_SOCKET, socket.SO_ERROR)
			x.note("SO_ERROR", v, err)
		}
		look("two")
		x.note("connect", x.s.connect(x.at(2)))
		x.send("send", x.s, "", 0, none)
		look("connected")
		x.send("send", x.s, strings.Repeat("x", 65530), 0, none)
		look("too long")
		x.send("send", x.s, strings.Repeat("x", 65530), 0, x.at(3))
		look("too long, with an address")
		x.send("send", x.s, strings.Repeat("x", 65536), 0, none)
		look("much too long")
		x.send("send", x.s, "hello", 0, none)
		x.sys.settle()
		x.note("off", x.s.setInt(level, opt, 0))
		look("off")
	}},
	{"cork", func(x *scene) {
		x.live()
		x.note("cork", x.s.setInt(socket.SOL_UDP, socket.UDP_CORK, 1))
		x.send("no peer", x.s, "x", 0, none)
		x.send("a", x.s, "a", 0, x.at(0))
		x.send("b", x.s, "bc", 0, x.at(1))
		x.send("nothing", x.s, "", 0, x.at(0))
		x.sys.settle()
		x.recv("corked", x.peer, 10, 0)
		x.note("uncork", x.s.setInt(socket.SOL_UDP, socket.UDP_CORK, 0))
		x.sys.settle()
		x.recv("uncorked", x.peer, 10, 0)
		x.recv("no more", x.peer, 10, 0)
		x.send("more", x.s, "d", socket.MSG_MORE, x.at(0))
		x.send("and the rest", x.s, "e", 0, x.at(0))
		x.sys.settle()
		x.recv("one datagram", x.peer, 10, 0)
		x.send("more", x.s, strings.Repeat("x", 40000), socket.MSG_MORE, x.at(0))
		x.send("too much", x.s, strings.Repeat("x", 40000), socket.MSG_MORE, x.at(0))
		x.send("again", x.s, "f", 0, x.at(0))
		x.sys.settle()
		x.recv("only the last", x.peer, 10, 0)
	}},
	{"bind", func(x *scene) {
		foreign := netip.MustParseAddr("192.0.2.1")
		level, free, through := socket.IPPROTO_IP, socket.IP_FREEBIND, socket.IP_TRANSPARENT
		if x.domain == socket.AF_INET6 {
			foreign = netip.MustParseAddr("2001:db8::1")
			level, free, through = socket.IPPROTO_IPV6, socket.IPV6_FREEBIND, socket.IPV6_TRANSPARENT
		}
		for _, o := range []int{free, through} {
			x.live()
			x.note("bind", x.s.bind(netip.AddrPortFrom(foreign, x.ports[1])))
			x.note("set", x.s.setInt(level, o, 1))
			x.note("bind", x.s.bind(netip.AddrPortFrom(foreign, x.ports[1])))
			x.names()
			x.send("send from there", x.s, "x", 0, x.at(0))
			x.sys.settle()
			x.recv("received", x.peer, 10, 0)
			x.s.close()
			x.peer.close()
		}
		x.live()
		x.note("no port", x.s.setInt(socket.IPPROTO_IP, socket.IP_BIND_ADDRESS_NO_PORT, 1))
		x.note("bind", x.s.bind(netip.AddrPortFrom(x.lo, 0)))
		x.names()
		x.note("bind again", x.s.bind(netip.AddrPortFrom(x.lo, 0)))
		x.send("send", x.s, "x", 0, x.at(0))
		x.sys.settle()
		x.recv("received", x.peer, 10, 0)
		x.names()
	}},
	{"pieces of a stream", func(x *scene) {
		x.typ = socket.SOCK_STREAM
		x.connectPair()
		n, err := x.s.(messenger).sendmsg([][]byte{[]byte("ab"), []byte("cdef")}, nil, 0, none)
		x.note("send", n, err)
		x.sendMsg("with IP_TTL", x.s, "gh", socket.AppendControlInt(nil, 0, socket.IP_TTL, 3), 0, none)
		x.sendMsg("with a bad length", x.s, "x", make([]byte, 16), 0, none)
		x.sendMsg("of SOL_SOCKET", x.s, "x", socket.AppendControlInt(nil, 1, 200, 3), 0, none)
		x.sys.settle()
		x.noteMsg("peek", x.peer, []int{1, 2}, 100, socket.MSG_PEEK)
		x.noteMsg("recv", x.peer, []int{1, 2, 1}, 100, 0)
		x.noteMsg("recv", x.peer, []int{100}, 100, 0)
		x.noteMsg("recv", x.peer, []int{100}, 100, 0)
		x.noteMsg("queue", x.peer, []int{100}, 100, socket.MSG_ERRQUEUE)
		x.send("urgent", x.s, "u", socket.MSG_OOB, none)
		x.sys.settle()
		x.noteMsg("recv", x.peer, []int{10}, 100, socket.MSG_OOB)
		x.note("shut", x.s.shutdown(socket.SHUT_WR))
		x.sys.settle()
		x.noteMsg("end", x.peer, []int{10}, 100, 0)
	}},
}

// TestMessagesLikeKernel runs the cases on both systems.
func TestMessagesLikeKernel(t *testing.T) {
	watch(t)
	for _, domain := range []int{socket.AF_INET, socket.AF_INET6} {
		for _, c := range messageCases {
			if d := comparePrivately(t, domain, socket.SOCK_DGRAM, c.call); d != "" {
				t.Errorf("%d/%s:%s", domain, c.name, d)
			}
		}
	}
}
