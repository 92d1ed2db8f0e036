package socket_test

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
)

// scene is a state to bring a socket into, with what belongs to it, and the
// transcript of what was seen on the way.
type scene struct {
	sys      berkeley
	typ      int
	domain   int
	lo, any  netip.Addr // of the family
	ports    []uint16   // fresh for each scene
	listener berkeleySocket
	s        berkeleySocket // the one that is examined
	peer     berkeleySocket
	log      []string
}

func (x *scene) at(port int) netip.AddrPort { return netip.AddrPortFrom(x.lo, x.ports[port]) }

// note writes down a step; those that should have worked are part of the
// comparison too.
func (x *scene) note(what string, values ...any) {
	for i, v := range values {
		switch v := v.(type) {
		case nil:
			values[i] = "ok"
		case error:
			values[i] = errname(v)
		case netip.AddrPort:
			values[i] = x.show(v)
		}
	}
	x.log = append(x.log, what+" = "+strings.TrimSuffix(fmt.Sprintln(values...), "\n"))
}

// show names an address by the scene's ports, since the numbers differ.
func (x *scene) show(a netip.AddrPort) string {
	if !a.IsValid() {
		return "none"
	}
	for i, p := range x.ports {
		if a.Port() == p {
			return fmt.Sprintf("%v P%d", a.Addr(), i)
		}
	}
	if a.Port() != 0 {
		return fmt.Sprintf("%v ephemeral", a.Addr())
	}
	return fmt.Sprintf("%v 0", a.Addr())
}

func (x *scene) socket() berkeleySocket {
	s, err := x.sys.socket(x.domain, x.typ, 0)
	if err != nil {
		panic(err)
	}
	return s
}

func (x *scene) recv(what string, s berkeleySocket, n, flags int) {
	b := make([]byte, n)
	got, from, err := s.recv(b, flags)
	if flags&socket.MSG_TRUNC != 0 && x.typ == socket.SOCK_STREAM {
		b = nil // unspecified
	}
	x.note(what, got, string(b[:min(max(got, 0), len(b))]), from, err)
}

func (x *scene) send(what string, s berkeleySocket, data string, flags int, to netip.AddrPort) {
	n, err := s.send([]byte(data), flags, to)
	x.note(what, max(n, 0), err)
}

// connectPair makes s and peer a connection to port 0.
func (x *scene) connectPair() {
	x.listener = x.socket()
	x.note("listener bind", x.listener.bind(x.at(0)))
	x.note("listen", x.listener.listen(5))
	x.s = x.socket()
	x.note("connect", x.s.connect(x.at(0)))
	x.sys.settle()
	peer, from, err := x.listener.accept()
	x.note("accept", from, err)
	x.peer = peer
}

// step is a call on the socket in its state, and what can be seen after it.
type step struct {
	name string
	call func(x *scene)
}

var none = netip.AddrPort{}

// otherFamily is loopback in the family that the socket is not of.
func (x *scene) otherFamily(port int) netip.AddrPort {
	if x.domain == socket.AF_INET {
		return netip.AddrPortFrom(netip.IPv6Loopback(), x.ports[port])
	}
	return netip.AddrPortFrom(loopback4, x.ports[port])
}

var loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})

func (x *scene) names() {
	a, err := x.s.sockname()
	x.note("then getsockname", a, err)
	a, err = x.s.peername()
	x.note("then getpeername", a, err)
}

var steps = []step{
	{"bind", func(x *scene) { x.note("bind", x.s.bind(x.at(3))); x.names() }},
	{"bind 0", func(x *scene) { x.note("bind", x.s.bind(netip.AddrPortFrom(x.lo, 0))); x.names() }},
	{"bind foreign", func(x *scene) {
		a := netip.MustParseAddr("192.0.2.1")
		if x.domain == socket.AF_INET6 {
			a = netip.MustParseAddr("2001:db8::1")
		}
		x.note("bind", x.s.bind(netip.AddrPortFrom(a, x.ports[3])))
	}},
	{"bind other family", func(x *scene) { x.note("bind", x.s.bind(x.otherFamily(3))) }},
	{"listen", func(x *scene) { x.note("listen", x.s.listen(1)); x.names() }},
	{"accept", func(x *scene) {
		_, from, err := x.s.accept()
		x.note("accept", from, err)
		_, from, err = x.s.accept()
		x.note("again", from, err)
	}},
	{"connect", func(x *scene) {
		l := x.socket()
		l.bind(x.at(4))
		l.listen(1)
		x.note("connect", x.s.connect(x.at(4)))
		x.names()
	}},
	{"connect dead port", func(x *scene) { x.note("connect", x.s.connect(x.at(3))); x.names() }},
	{"connect other family", func(x *scene) { x.note("connect", x.s.connect(x.otherFamily(3))) }},
	{"connect any", func(x *scene) {
		x.note("connect", x.s.connect(netip.AddrPortFrom(x.any, x.ports[3])))
	}},
	{"send", func(x *scene) {
		x.send("send", x.s, "hello", 0, none)
		x.sys.settle()
		if x.peer != nil {
			x.recv("peer receives", x.peer, 10, 0)
		}
		x.sys.settle()
		x.send("again", x.s, "hello", 0, none)
	}},
	{"send nothing", func(x *scene) {
		x.send("send", x.s, "", 0, none)
		x.sys.settle()
		if x.peer != nil {
			x.recv("peer receives", x.peer, 10, 0)
		}
	}},
	{"sendto", func(x *scene) {
		x.send("sendto", x.s, "hello", 0, x.at(0))
		x.sys.settle()
		if x.peer != nil {
			x.recv("peer receives", x.peer, 10, 0)
		}
		x.names()
	}},
	{"sendto other family", func(x *scene) { x.send("sendto", x.s, "hello", 0, x.otherFamily(3)) }},
	{"recv", func(x *scene) {
		x.recv("recv", x.s, 4, 0)
		x.recv("again", x.s, 10, 0)
		x.recv("and again", x.s, 10, 0)
	}},
	{"recv nothing", func(x *scene) { x.recv("recv", x.s, 0, 0); x.recv("again", x.s, 20, 0) }},
	{"recv MSG_TRUNC", func(x *scene) {
		x.recv("recv", x.s, 4, socket.MSG_TRUNC)
		x.recv("again", x.s, 20, 0)
	}},
	{"shutdown SHUT_RD", func(x *scene) {
		x.note("shutdown", x.s.shutdown(socket.SHUT_RD))
		x.sys.settle()
		x.recv("recv", x.s, 20, 0)
		x.recv("again", x.s, 20, 0)
		x.send("send", x.s, "hello", 0, none)
	}},
	{"shutdown SHUT_WR", func(x *scene) {
		x.note("shutdown", x.s.shutdown(socket.SHUT_WR))
		x.recv("recv", x.s, 20, 0)
		x.send("send", x.s, "hello", 0, none)
		x.sys.settle()
		if x.peer != nil {
			x.recv("peer receives", x.peer, 10, 0)
		}
		x.note("again", x.s.shutdown(socket.SHUT_WR))
	}},
	{"shutdown SHUT_RDWR", func(x *scene) {
		x.note("shutdown", x.s.shutdown(socket.SHUT_RDWR))
		x.sys.settle()
		x.note("again", x.s.shutdown(socket.SHUT_RDWR))
		x.names()
	}},
	{"shutdown 7", func(x *scene) { x.note("shutdown", x.s.shutdown(7)) }},
	{"names", func(x *scene) { x.names() }},
	{"set options", func(x *scene) {
		x.note("SO_BROADCAST", x.s.set(optBroadcast, true))
		x.note("TCP_NODELAY", x.s.set(optNoDelay, true))
	}},
	{"set v6only", func(x *scene) { x.note("IPV6_V6ONLY", x.s.set(optV6Only, true)) }},
	{"close", func(x *scene) {
		x.note("close", x.s.close())
		x.sys.settle()
		if x.peer != nil {
			x.recv("peer receives", x.peer, 10, 0)
			x.recv("again", x.peer, 10, 0)
			x.send("peer sends", x.peer, "x", 0, none)
			x.sys.settle()
			x.send("again", x.peer, "x", 0, none)
			x.recv("peer receives", x.peer, 10, 0)
		}
		x.note("again", x.s.close())
	}},
}

// single are cases that fit no state.
var single = []step{
	{"socket AF_UNIX", func(x *scene) { x.trySocket(77, socket.SOCK_STREAM, 0) }},
	{"socket type", func(x *scene) { x.trySocket(x.domain, 77, 0) }},
	{"stream UDP", func(x *scene) { x.trySocket(x.domain, socket.SOCK_STREAM, socket.IPPROTO_UDP) }},
	{"dgram TCP", func(x *scene) { x.trySocket(x.domain, socket.SOCK_DGRAM, socket.IPPROTO_TCP) }},
	{"stream TCP", func(x *scene) { x.trySocket(x.domain, socket.SOCK_STREAM, socket.IPPROTO_TCP) }},
	{"dgram UDP", func(x *scene) { x.trySocket(x.domain, socket.SOCK_DGRAM, socket.IPPROTO_UDP) }},
	{"stream 77", func(x *scene) { x.trySocket(x.domain, socket.SOCK_STREAM, 77) }},
	{"dgram sizes", func(x *scene) {
		x.typ = socket.SOCK_DGRAM
		x.live()
		for _, n := range []int{0, 1, 1472, 1473, 16384, 65000, 65506, 65507, 65508, 65527, 65528, 65535, 65536, 100000} {
			x.send(fmt.Sprint("send ", n), x.s, strings.Repeat("x", n), 0, x.at(0))
			x.sys.settle()
			b := make([]byte, 100000)
			got, from, err := x.peer.recv(b, 0)
			x.note("receive", got, from, err)
		}
	}},
	{"dgram port 0", func(x *scene) {
		x.typ = socket.SOCK_DGRAM
		x.live()
		x.send("sendto", x.s, "x", 0, netip.AddrPortFrom(x.lo, 0))
		x.note("connect", x.s.connect(netip.AddrPortFrom(x.lo, 0)))
		x.names()
	}},
	{"dgram to broadcast", func(x *scene) {
		x.typ = socket.SOCK_DGRAM
		x.live()
		to := netip.AddrPortFrom(netip.MustParseAddr("127.255.255.255"), x.ports[0])
		if x.domain == socket.AF_INET6 {
			to = netip.AddrPortFrom(netip.AddrFrom16(to.Addr().As16()), to.Port())
		}
		x.send("sendto", x.s, "x", 0, to)
		x.note("connect", x.s.connect(to))
		x.note("SO_BROADCAST", x.s.set(optBroadcast, true))
		x.send("sendto", x.s, "x", 0, to)
		x.note("connect", x.s.connect(to))
	}},
	{"stream to broadcast", func(x *scene) {
		x.s = x.socket()
		to := netip.AddrPortFrom(netip.MustParseAddr("127.255.255.255"), x.ports[0])
		if x.domain == socket.AF_INET6 {
			to = netip.AddrPortFrom(netip.AddrFrom16(to.Addr().As16()), to.Port())
		}
		x.note("connect", x.s.connect(to))
	}},
	{"dgram reconnects", func(x *scene) {
		x.typ = socket.SOCK_DGRAM
		x.live()
		x.note("connect", x.s.connect(x.at(2)))
		x.note("connect", x.s.connect(x.at(0)))
		x.send("send", x.s, "hello", 0, none)
		x.sys.settle()
		x.recv("peer receives", x.peer, 10, 0)
		x.names()
	}},
	{"v6only refuses mapped", func(x *scene) {
		if x.domain != socket.AF_INET6 {
			return
		}
		mapped := netip.AddrPortFrom(netip.AddrFrom16(loopback4.As16()), x.ports[0])
		for _, x.typ = range []int{socket.SOCK_STREAM, socket.SOCK_DGRAM} {
			s := x.socket()
			x.note("v6only", s.set(optV6Only, true))
			x.note("bind mapped", s.bind(mapped))
			x.note("connect mapped", s.connect(mapped))
			x.send("send mapped", s, "x", 0, mapped)
		}
	}},
	{"mapped", func(x *scene) {
		if x.domain != socket.AF_INET6 {
			return
		}
		mapped := netip.AddrPortFrom(netip.AddrFrom16(loopback4.As16()), x.ports[0])
		for _, x.typ = range []int{socket.SOCK_STREAM, socket.SOCK_DGRAM} {
			l := x.socket()
			x.note("bind mapped", l.bind(mapped))
			if x.typ == socket.SOCK_STREAM {
				x.note("listen", l.listen(1))
			}
			x.s = x.socket()
			x.note("connect mapped", x.s.connect(mapped))
			x.send("send", x.s, "hello", 0, none)
			x.names()
			x.sys.settle()
			if x.typ == socket.SOCK_DGRAM {
				x.recv("recv", l, 9, 0)
			}
		}
	}},
	{"listen twice", func(x *scene) {
		x.s = x.socket()
		x.note("listen", x.s.listen(0))
		x.note("listen", x.s.listen(-1))
		a, err := x.s.sockname()
		x.note("getsockname", a, err)
	}},
	{"bind conflicts", func(x *scene) {
		addrs := []netip.Addr{x.any, x.lo, netip.IPv4Unspecified(), loopback4, netip.IPv6Unspecified(), netip.IPv6Loopback()}
		for _, x.typ = range []int{socket.SOCK_STREAM, socket.SOCK_DGRAM} {
			for i, a := range addrs {
				for j, b := range addrs {
					s, _ := x.sys.socket(domainOf(a), x.typ, 0)
					u, _ := x.sys.socket(domainOf(b), x.typ, 0)
					x.note(fmt.Sprint(i), s.bind(netip.AddrPortFrom(a, x.ports[0])))
					x.note(fmt.Sprint(i, j), u.bind(netip.AddrPortFrom(b, x.ports[0])))
					s.close()
					u.close()
				}
			}
		}
	}},
}

func (x *scene) trySocket(domain, typ, proto int) {
	_, err := x.sys.socket(domain, typ, proto)
	x.note("socket", err)
}

// differences are the cases where the stack's answer is another than the
// kernel's, by their names, with the reason. Every other difference is an
// error, and so is an entry here that makes none.
var differences = []struct {
	cases  string // a regular expression
	reason string
}{
	{"(bound.*|listening.*|.*connected.*|accepted|.*data waiting|.*side.? shut.*|an empty.*|refused.*|.*reset.*|peer .*|over.*|shut without.*|disconnected)/bind foreign",
		"of two mistakes, bound already and a foreign address, Linux names the latter"},
	{"stream/(fresh|bound|bound to any|refused.*)/shutdown SHUT_RD",
		"a stream without a connection refuses shutdown and then forgets it; Linux refuses and remembers"},
	{"stream/(fresh|refused)/(connect dead port|sendto|shutdown SHUT_RDWR|names)",
		"a failed connect gives its port back; Linux keeps it until the next one"},
	{"stream/(over.*|peer reset.*|peer closed, written to since)/(bind|bind 0|set v6only)",
		"a stream socket lives once; Linux lets one whose connection is over be bound again"},
	{"v6/dgram/(bound.*|.*data waiting|an empty datagram waits|connected, a stranger sends|shut without a peer)/connect other family",
		"an IPv6 address cannot send IPv4: ENETUNREACH from connect as from sendto; Linux has EAFNOSUPPORT for connect alone"},
	{"stream/(refused.*|peer closed, written to since)/queues",
		"a connection that has failed has nothing queued; Linux goes on showing what it had"},
}

// TestLikeKernel runs every call in every state on both systems.
func TestLikeKernel(t *testing.T) {
	watch(t)
	if !kernelHasIPv6() {
		t.Skip("the kernel has no IPv6 loopback to compare with")
	}
	cases, differing, met := 0, 0, make(map[int]int)
	run := func(name string, domain, typ int, f func(x *scene)) {
		cases++
		kernel := &kernelSystem{}
		x := newScene(t, kernel, domain, typ)
		f(x)
		kernel.end()
		var y *scene
		synctest.Test(t, func(t *testing.T) {
			s := stack.New(stack.Config{})
			t.Cleanup(func() { s.Close() })
			y = newScene(t, stackSystem{t, s}, domain, typ)
			y.ports = x.ports
			f(y)
		})
		if d := diff(x.log, y.log); d != "" {
			differing++
			if i := explained(name); i >= 0 {
				met[i]++
			} else {
				t.Errorf("%s:%s", name, d)
			}
		}
	}
	for _, family := range []struct {
		name   string
		domain int
	}{{"v4", socket.AF_INET}, {"v6", socket.AF_INET6}} {
		for _, typ := range []struct {
			name   string
			typ    int
			states []state
		}{{"stream", socket.SOCK_STREAM, streamStates}, {"dgram", socket.SOCK_DGRAM, datagramStates}} {
			for _, state := range typ.states {
				for _, step := range steps {
					name := strings.Join([]string{family.name, typ.name, state.name, step.name}, "/")
					run(name, family.domain, typ.typ, func(x *scene) { state.make(x); step.call(x) })
				}
			}
		}
		for _, step := range single {
			run(family.name+"/"+step.name, family.domain, socket.SOCK_STREAM, step.call)
		}
	}
	t.Logf("%d cases, %d of them differ from the kernel", cases, differing)
	for i, d := range differences {
		if met[i] == 0 {
			t.Errorf("no longer differs: %s (%s)", d.cases, d.reason)
		}
	}
}

func newScene(t *testing.T, sys berkeley, domain, typ int) *scene {
	x := &scene{sys: sys, domain: domain, typ: typ, lo: loopback4, any: netip.IPv4Unspecified()}
	if domain == socket.AF_INET6 {
		x.lo, x.any = netip.IPv6Loopback(), netip.IPv6Unspecified()
	}
	if _, ok := sys.(*kernelSystem); ok {
		x.ports = freePorts(t, 5)
	}
	return x
}

// explained returns the number of the difference that a case falls under, or
// -1.
func explained(name string) int {
	for i, d := range differences {
		if ok, _ := regexp.MatchString("^(.*/)?("+d.cases+")$", name); ok {
			return i
		}
	}
	return -1
}

// diff shows where two transcripts are not the same.
func diff(kernel, ours []string) string {
	var b strings.Builder
	line := func(l []string, i int) string {
		if i < len(l) {
			return l[i]
		}
		return "-"
	}
	for i := range max(len(kernel), len(ours)) {
		if k, o := line(kernel, i), line(ours, i); k != o {
			fmt.Fprintf(&b, "\n  kernel: %s\n  stack:  %s", k, o)
		}
	}
	return b.String()
}
