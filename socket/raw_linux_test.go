package socket_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
)

// rawProto is a protocol that nobody speaks (RFC 3692).
const rawProto = 253

// raw makes a raw socket.
func (x *scene) raw(proto int) berkeleySocket {
	s, err := x.sys.socket(x.domain, socket.SOCK_RAW, proto)
	if err != nil {
		panic(err)
	}
	return s
}

func (x *scene) host() netip.AddrPort { return netip.AddrPortFrom(x.lo, 0) }

// packet receives with the identifier and the checksum of IPv4's header blotted
// out, which the two systems count differently.
func (x *scene) packet(what string, s berkeleySocket) {
	b := make([]byte, 70000)
	n, from, err := s.recv(b, 0)
	b = b[:max(n, 0)]
	if x.domain == socket.AF_INET && len(b) >= 20 {
		copy(b[4:6], "ID")
		copy(b[6:8], "DF") // Linux sets it with the identifier 0, and so do we
		copy(b[10:12], "CK")
	}
	if len(b) > 60 {
		b = append(b[:60:60], byte(n>>8), byte(n))
	}
	x.note(what, b, from.Addr(), from.Port(), err)
}

func (x *scene) rawNames(s berkeleySocket) {
	a, err := s.sockname()
	x.note("getsockname", a.Addr(), a.Port(), err)
	a, err = s.peername()
	x.note("getpeername", a.Addr(), a.Port(), err)
}

// rawHeader is an IP header of the family for rawProto.
func (x *scene) rawHeader(payload string, change func(h []byte)) string {
	h := make([]byte, 20, 40)
	lo := x.lo.AsSlice()
	if x.domain == socket.AF_INET {
		h[0], h[8], h[9] = 0x45, 64, rawProto
		copy(h[16:], lo)
	} else {
		h = h[:40]
		h[0], h[6], h[7] = 0x60, rawProto, 64
		binary.BigEndian.PutUint16(h[4:], uint16(len(payload)))
		copy(h[8:], lo)
		copy(h[24:], lo)
	}
	if change != nil {
		change(h)
	}
	return string(h) + payload
}

var rawSteps = []step{
	{"protocols", func(x *scene) {
		for _, p := range []int{0, 1, 6, 17, 58, 253, 255, -1, 300} {
			if p < 0 {
				continue // the two systems check in another order
			}
			x.trySocket(x.domain, socket.SOCK_RAW, p)
		}
	}},
	{"names", func(x *scene) {
		s := x.raw(rawProto)
		x.rawNames(s)
		x.note("bind", s.bind(netip.AddrPortFrom(x.lo, 99)))
		x.rawNames(s)
		x.note("bind again", s.bind(netip.AddrPortFrom(x.any, 0)))
		x.note("connect", s.connect(netip.AddrPortFrom(x.lo, 77)))
		x.rawNames(s)
		x.note("connect to port 0", s.connect(x.host()))
		x.rawNames(s)
		// Linux no longer shows the protocol then, nor receives anything.
		x.note("connect to nobody", s.connect(netip.AddrPort{}))
		_, err := s.peername()
		x.note("getpeername", err)
	}},
	{"send and receive", func(x *scene) {
		a, b, other, peer := x.raw(rawProto), x.raw(rawProto), x.raw(rawProto-1), x.raw(rawProto)
		x.note("connect", peer.connect(x.host()))
		for _, data := range []string{"hello", "", strings.Repeat("x", 3000)} {
			x.send("send", a, data, 0, x.host())
			x.sys.settle()
			x.packet("sender", a)
			x.packet("another", b)
			x.packet("connected", peer)
			x.packet("another protocol", other)
		}
	}},
	{"send errors", func(x *scene) {
		s := x.raw(rawProto)
		x.send("nowhere", s, "x", 0, none)
		x.send("out of band", s, "x", socket.MSG_OOB, x.host())
		x.recv("out of band", s, 1, socket.MSG_OOB)
		x.send("too long", s, strings.Repeat("x", 65536), 0, x.host())
		x.send("other family", s, "x", 0, x.otherFamily(0))
		for _, p := range []uint16{rawProto, 1, 300} {
			x.send("port", s, "x", 0, netip.AddrPortFrom(x.lo, p))
		}
		x.note("listen", s.listen(1))
		_, _, err := s.accept()
		x.note("accept", err)
	}},
	{"options", func(x *scene) {
		for _, p := range []int{1, 58, rawProto, 255} {
			s := x.raw(p)
			for _, o := range [][2]int{{0, 3}, {41, 36}, {41, 7}, {255, 7}} {
				v, err := s.getInt(o[0], o[1])
				x.note("get", p, o, v, err)
				for _, v := range []int{2, 3, -5, 1, 0} {
					x.note("set", p, o, v, s.setInt(o[0], o[1], v))
					v, err := s.getInt(o[0], o[1])
					x.note("get", v, err)
				}
			}
		}
		u, _ := x.sys.socket(x.domain, socket.SOCK_DGRAM, 0)
		for _, o := range [][2]int{{0, 3}, {41, 36}, {41, 7}, {255, 7}} {
			v, err := u.getInt(o[0], o[1])
			x.note("of UDP", o, v, err, u.setInt(o[0], o[1], 1))
		}
	}},
	{"checksum", func(x *scene) {
		s, r := x.raw(rawProto), x.raw(rawProto)
		x.note("IPV6_CHECKSUM", s.setInt(41, 7, 4))
		for _, n := range []int{3, 5, 6, 7, 20} {
			x.send("send", s, strings.Repeat("x", n), 0, x.host())
			x.sys.settle()
			x.packet("receive", r)
			x.packet("own", s)
		}
		x.send("wrong", r, "0123456789", 0, x.host())
		x.sys.settle()
		x.packet("not verified", r)
		x.packet("verified", s)
	}},
	{"header included", func(x *scene) {
		s, r := x.raw(socket.IPPROTO_RAW), x.raw(rawProto)
		whole := x.rawHeader("payload", nil)
		for _, n := range []int{0, 1, 19, 20, 39, 40, len(whole)} {
			x.send("send", s, whole[:min(n, len(whole))], 0, x.host())
			x.sys.settle()
			if n == len(whole) || n >= 20 && x.domain == socket.AF_INET {
				x.packet("receive", r)
			}
		}
		if x.domain == socket.AF_INET {
			for i, change := range []func(h []byte){
				func(h []byte) { copy(h[12:], []byte{127, 0, 0, 5}) },
				func(h []byte) { h[4], h[1], h[8] = 9, 0x10, 3 },
				func(h []byte) { h[0] = 0x4f },
				func(h []byte) { h[0] = 0x44 },
				func(h []byte) { h[2], h[10] = 0xff, 0xff },
			} {
				x.send("changed", s, x.rawHeader("payload", change), 0, x.host())
				x.sys.settle()
				if i != 3 {
					x.packet("receive", r)
				}
			}
		}
		x.note("not included", s.setInt(map[int]int{2: 0, 10: 41}[x.domain], map[int]int{2: 3, 10: 36}[x.domain], 0))
		x.send("send", s, "payload", 0, x.host())
		x.sys.settle()
		x.packet("own", s)
	}},
	{"protocol unreachable", func(x *scene) {
		s := x.raw(rawProto)
		x.note("connect", s.connect(x.host()))
		x.send("to itself", s, "x", 0, none)
		x.sys.settle()
		x.packet("own", s)
		x.send("again", s, "x", 0, none)
	}},
}

// TestRawLikeKernel runs raw sockets on both systems' loopback.
func TestRawLikeKernel(t *testing.T) {
	watch(t)
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, rawProto)
	if err != nil || !kernelHasIPv6() {
		lab.Lacks(t, fmt.Errorf("the kernel has no raw sockets for us: %w", err))
	}
	unix.Close(fd)
	for _, domain := range []int{socket.AF_INET, socket.AF_INET6} {
		for _, step := range rawSteps {
			kernel := &kernelSystem{}
			x := newScene(t, kernel, domain, socket.SOCK_RAW)
			step.call(x)
			kernel.end()
			var y *scene
			synctest.Test(t, func(t *testing.T) {
				s := stack.New(stack.Config{})
				t.Cleanup(func() { s.Close() })
				y = newScene(t, stackSystem{t, s}, domain, socket.SOCK_RAW)
				y.ports = x.ports
				step.call(y)
			})
			if d := diff(x.log, y.log); d != "" {
				t.Errorf("%d/%s:%s", domain, step.name, d)
			}
		}
	}
}
