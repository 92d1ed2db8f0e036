package socket_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
)

func raw(t testing.TB, f *socket.FD, level, opt int, parts ...[]byte) {
	t.Helper()
	must(t, f.Setsockopt(level, opt, bytes.Join(parts, nil)))
}

func num(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

func addr(s string) []byte { return netip.MustParseAddr(s).AsSlice() }

// TestGroupsHeard: a multicast reaches those who joined, on this host and on
// others, unless sources, IP_MULTICAST_LOOP, the TTL or IP_MULTICAST_ALL are in
// the way.
func TestGroupsHeard(t *testing.T) {
	for _, c := range []struct {
		domain                 int
		group, self            string
		level, join, loop, ttl int
		all, block             int
	}{
		{socket.AF_INET, "239.1.1.1", "10.77.0.1", socket.IPPROTO_IP, socket.MCAST_JOIN_GROUP, socket.IP_MULTICAST_LOOP, socket.IP_MULTICAST_TTL,
			socket.IP_MULTICAST_ALL, socket.MCAST_BLOCK_SOURCE},
		{socket.AF_INET6, "ff15::1", "fd77::1", socket.IPPROTO_IPV6, socket.MCAST_JOIN_GROUP, socket.IPV6_MULTICAST_LOOP, socket.IPV6_MULTICAST_HOPS,
			socket.IPV6_MULTICAST_ALL, socket.MCAST_BLOCK_SOURCE},
	} {
		t.Run(c.group, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := newPair(t, wire.Options{})
				sockaddr := func(a string) []byte {
					b := make([]byte, 128)
					at := 4
					b[0] = byte(c.domain)
					if c.domain == socket.AF_INET6 {
						at = 8
					}
					copy(b[at:], addr(a))
					return b
				}
				to := netip.AddrPortFrom(netip.MustParseAddr(c.group), 5)
				near, far, deaf := sock(t, p.a, c.domain, socket.SOCK_DGRAM, 0), sock(t, p.b, c.domain, socket.SOCK_DGRAM, 0), sock(t, p.a, c.domain, socket.SOCK_DGRAM, 0)
				from := sock(t, p.a, c.domain, socket.SOCK_DGRAM, 0)
				for i, f := range []*socket.FD{near, far} {
					must(t, f.Bind(netip.AddrPortFrom(to.Addr(), 5)))
					index := []*stack.Interface{p.ia, p.ib}[i].Index()
					raw(t, f, c.level, c.join, num(uint32(index)), num(0), sockaddr(c.group))
				}
				must(t, deaf.SetsockoptInt(c.level, c.all, 0))
				must(t, deaf.Bind(netip.AddrPortFrom(netip.MustParseAddr(map[int]string{2: "0.0.0.0", 10: "::"}[c.domain]), 6)))
				check := func(what string, wantNear, wantFar bool) {
					t.Helper()
					for port := range uint16(2) {
						_, err := from.SendTo([]byte("x"), 0, netip.AddrPortFrom(to.Addr(), 5+port))
						must(t, err)
					}
					time.Sleep(time.Second)
					for f, want := range map[*socket.FD]bool{near: wantNear, far: wantFar, deaf: false} {
						n, _, err := f.RecvFrom(make([]byte, 9), socket.MSG_DONTWAIT)
						if (n == 1) != want {
							t.Errorf("%s: %d bytes, %v, wanted %v (near %v far %v)", what, n, err, want, f == near, f == far)
						}
					}
				}
				check("joined", true, true)
				must(t, from.SetsockoptInt(c.level, c.loop, 0))
				check("no loop", false, true)
				must(t, from.SetsockoptInt(c.level, c.loop, 1))
				must(t, from.SetsockoptInt(c.level, c.ttl, 0))
				check("this host only", true, false)
				must(t, from.SetsockoptInt(c.level, c.ttl, 5))
				raw(t, near, c.level, c.block, num(uint32(p.ia.Index())), num(0), sockaddr(c.group), sockaddr(c.self))
				check("blocked", false, true)
				if got := counter(p.b, "ipv4.input") + counter(p.b, "ipv6.input"); got == 0 {
					t.Error("the other host received nothing")
				}
				near.Close()
				check("left by closing", false, true)
			})
		})
	}
}

// TestDontFragment: IP_MTU_DISCOVER on a link of 1500 bytes, and what the queue
// of errors says.
func TestDontFragment(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		must(t, sock(t, p.b, socket.AF_INET6, socket.SOCK_DGRAM, 0).Bind(ap("[::]:5")))
		for _, to := range []string{"10.77.0.2:5", "[fd77::2]:5"} {
			level, discover, recvErr, v4 := socket.IPPROTO_IP, socket.IP_MTU_DISCOVER, socket.IP_RECVERR, ap(to).Addr().Is4()
			hl := 28
			if !v4 {
				level, discover, recvErr, hl = socket.IPPROTO_IPV6, socket.IPV6_MTU_DISCOVER, socket.IPV6_RECVERR, 48
			}
			for mode, want := range []error{nil, nil, syscall.EMSGSIZE, syscall.EMSGSIZE, syscall.EMSGSIZE, nil} {
				f := sock(t, p.a, domainOf(ap(to).Addr()), socket.SOCK_DGRAM, 0)
				must(t, f.SetsockoptInt(level, discover, mode))
				must(t, f.SetsockoptInt(level, recvErr, 1))
				must(t, f.Connect(bg, ap(to)))
				if mtu, err := f.GetsockoptInt(level, map[bool]int{true: socket.IP_MTU, false: socket.IPV6_MTU}[v4]); mtu != 1500 || err != nil {
					t.Errorf("%s: MTU %d, %v", to, mtu, err)
				}
				_, err := f.Send(make([]byte, 1500-hl), 0)
				wantErr(t, "what fits", err, nil)
				_, err = f.Send(make([]byte, 1501-hl), 0)
				wantErr(t, to, err, want)
				m := socket.Msg{Buffers: [][]byte{make([]byte, 10)}, Control: make([]byte, 100)}
				_, err = f.Recvmsg(&m, socket.MSG_ERRQUEUE)
				if want == nil {
					wantErr(t, "no error queued", err, syscall.EAGAIN)
					continue
				}
				must(t, err)
				info, err := socket.ParseControl(m.Control[:m.ControlLen])
				must(t, err)
				if e := info.Err; e == nil || e.Errno != syscall.EMSGSIZE || e.Info != 1500 || e.Origin != stack.ErrorLocal || m.Name != ap(to) {
					t.Errorf("%s: queued %+v about %v", to, e, m.Name)
				}
			}
		}
	})
}

// TestErrorQueueBounded: errors that nobody reads do not grow without end, are
// counted, and hold up nobody who waits for a datagram.
func TestErrorQueueBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		f := udp4(t, p.a)
		must(t, f.SetReceiveBuffer(5000))
		must(t, f.SetsockoptInt(socket.IPPROTO_IP, socket.IP_RECVERR, 1))
		for range 40 {
			f.SendTo(make([]byte, 100), 0, ap("10.77.0.2:9"))
			time.Sleep(time.Second)
			f.TakeError()
		}
		n := 0
		for m := (socket.Msg{Control: make([]byte, 100)}); ; n++ {
			if _, err := f.Recvmsg(&m, socket.MSG_ERRQUEUE); err != nil {
				break
			}
		}
		if dropped := counter(p.a, "udp.drop.error-queue-full"); n == 0 || n > 20 || dropped != uint64(40-n) {
			t.Errorf("%d errors, %d dropped", n, dropped)
		}
		f.SendTo([]byte("x"), 0, ap("10.77.0.2:9"))
		time.Sleep(time.Second)
		f.TakeError()
		_, _, err := recvOne(f, 10)
		wantErr(t, "waits beside an error", err, os.ErrDeadlineExceeded)
	})
}

// TestTimestampAndLoss: SO_TIMESTAMPNS is when the frame came, SO_RXQ_OVFL how
// many were lost.
func TestTimestampAndLoss(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		a, b := udp4(t, p.a), udp4(t, p.b)
		must(t, b.Bind(ap("0.0.0.0:5")))
		must(t, b.SetReceiveBuffer(2000))
		for _, o := range []int{socket.SO_TIMESTAMPNS, socket.SO_RXQ_OVFL} {
			must(t, b.SetsockoptInt(socket.SOL_SOCKET, o, 1))
		}
		recv := func() socket.ControlInfo {
			t.Helper()
			m := socket.Msg{Buffers: [][]byte{make([]byte, 10)}, Control: make([]byte, 100)}
			_, err := b.Recvmsg(&m, socket.MSG_DONTWAIT)
			must(t, err)
			i, err := socket.ParseControl(m.Control[:m.ControlLen])
			must(t, err)
			return i
		}
		for range 20 {
			a.SendTo([]byte("x"), 0, ap("10.77.0.2:5"))
		}
		time.Sleep(time.Second)
		sent := time.Now()
		time.Sleep(time.Hour)
		if i := recv(); i.Time.After(sent) || sent.Sub(i.Time) > 2*time.Second || i.Lost != 0 {
			t.Errorf("%v before, %d lost", sent.Sub(i.Time), i.Lost)
		}
		a.SendTo([]byte("y"), 0, ap("10.77.0.2:5"))
		time.Sleep(time.Second)
		dropped := counter(p.b, "udp.drop.receive-queue-full")
		for {
			i := recv()
			if i.Lost != 0 {
				if uint64(i.Lost) != dropped || dropped == 0 {
					t.Errorf("%d lost, %d dropped", i.Lost, dropped)
				}
				return
			}
		}
	})
}

// TestBatches: Sendmmsg and Recvmmsg move as many as they can.
func TestBatches(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		a, b := udp4(t, p.a), udp4(t, p.b)
		must(t, b.Bind(ap("0.0.0.0:5")))
		out := make([]socket.Msg, 5)
		for i := range out {
			out[i] = socket.Msg{Name: ap("10.77.0.2:5"), Buffers: [][]byte{[]byte("m"), make([]byte, i)}}
		}
		out[3].Name = ap("10.77.0.2:0")
		n, err := a.Sendmmsg(out, 0)
		if n != 3 || err != nil || out[2].N != 3 {
			t.Errorf("sent %d, %v", n, err)
		}
		_, err = a.Sendmmsg(out[3:], 0)
		wantErr(t, "the first fails", err, syscall.EINVAL)
		time.Sleep(time.Second)
		in := make([]socket.Msg, 9)
		for i := range in {
			in[i].Buffers = [][]byte{make([]byte, 2), make([]byte, 9)}
		}
		n, err = b.Recvmmsg(in, socket.MSG_WAITFORONE)
		if n != 3 || err != nil || in[1].N != 2 || in[2].N != 3 || in[0].Buffers[0][0] != 'm' {
			t.Errorf("received %d, %v", n, err)
		}
		_, err = b.Recvmmsg(in, socket.MSG_DONTWAIT)
		wantErr(t, "none", err, syscall.EAGAIN)
	})
}

// TestBatchError: an error that ends a batch is that of the next call.
func TestBatchError(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		a, b := udp4(t, p.a), udp4(t, p.b)
		must(t, b.Bind(ap("0.0.0.0:5")))
		must(t, a.Connect(bg, ap("10.77.0.2:5")))
		at, err := a.Getsockname()
		must(t, err)
		_, err = b.SendTo([]byte("x"), 0, at)
		must(t, err)
		time.Sleep(time.Second)
		b.Close()
		in := make([]socket.Msg, 2)
		time.AfterFunc(time.Second, func() { a.Send([]byte("to nobody"), 0) })
		n, err := a.Recvmmsg(in, 0)
		if n != 1 || err != nil {
			t.Errorf("received %d, %v", n, err)
		}
		n, err = a.Recvmmsg(in, socket.MSG_DONTWAIT)
		if n != 0 || err != syscall.ECONNREFUSED {
			t.Errorf("then %d, %v", n, err)
		}

		l := listen(t, p.b, "0.0.0.0:5", 1)
		c := tcp4(t, p.a)
		must(t, c.Connect(bg, ap("10.77.0.2:5")))
		server, _, err := l.Accept(bg)
		must(t, err)
		_, err = server.Send([]byte("x"), 0)
		must(t, err)
		must(t, server.SetLinger(0))
		time.AfterFunc(time.Second, func() { server.Close() })
		for i := range in {
			in[i].Buffers = [][]byte{make([]byte, 1)}
		}
		n, err = c.Recvmmsg(in, 0)
		if n != 1 || err != nil {
			t.Errorf("received %d of a stream, %v", n, err)
		}
		n, err = c.Recvmmsg(in, 0)
		if n != 0 || err != syscall.ECONNRESET {
			t.Errorf("then %d, %v", n, err)
		}
	})
}

// TestFlowInfo: IPV6_FLOWINFO tells the traffic class, and is silent of 0.
func TestFlowInfo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		a, b := sock(t, p.a, socket.AF_INET6, socket.SOCK_DGRAM, 0), sock(t, p.b, socket.AF_INET6, socket.SOCK_DGRAM, 0)
		must(t, b.Bind(ap("[::]:5")))
		must(t, a.SetsockoptInt(socket.IPPROTO_IPV6, socket.IPV6_AUTOFLOWLABEL, 0))
		must(t, b.SetsockoptInt(socket.IPPROTO_IPV6, socket.IPV6_FLOWINFO, 1))
		for class, want := range []int{0, controlOf(4)} {
			must(t, a.SetsockoptInt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, 8*class))
			a.SendTo([]byte("x"), 0, ap("[fd77::2]:5"))
			time.Sleep(time.Second)
			m := socket.Msg{Buffers: [][]byte{make([]byte, 10)}, Control: make([]byte, 100)}
			_, err := b.Recvmsg(&m, socket.MSG_DONTWAIT)
			must(t, err)
			info, err := socket.ParseControl(m.Control[:m.ControlLen])
			if m.ControlLen != want || info.FlowInfo != uint32(8*class)<<20 || err != nil {
				t.Errorf("class %d: %d bytes, %+v, %v", 8*class, m.ControlLen, info, err)
			}
		}
	})
}

func controlOf(n int) int { return socket.ControlSpace(n) }

// TestGROControl: UDP_GRO tells the size of the datagrams that come together.
func TestGROControl(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		a, b := udp4(t, p.a), udp4(t, p.b)
		must(t, b.Bind(ap("0.0.0.0:5")))
		must(t, b.SetsockoptInt(socket.SOL_UDP, socket.UDP_GRO, 1))
		_, err := a.Sendmsg(&socket.Msg{Name: ap("10.77.0.2:5"), Buffers: [][]byte{make([]byte, 250)}, Control: socket.AppendSegmentSize(nil, 100)}, 0)
		must(t, err)
		time.Sleep(time.Second)
		m := socket.Msg{Buffers: [][]byte{make([]byte, 1000)}, Control: make([]byte, 100)}
		n, err := b.Recvmsg(&m, socket.MSG_DONTWAIT)
		must(t, err)
		info, err := socket.ParseControl(m.Control[:m.ControlLen])
		if n != 250 || info.Segment != 100 || err != nil {
			t.Errorf("%d bytes, %+v, %v", n, info, err)
		}
	})
}

// TestLingerBytes: SO_LINGER as a struct is what SetLinger sets.
func TestLingerBytes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := tcp4(t, lone(t))
		for _, c := range []struct{ on, sec, want int }{{1, 7, 7}, {1, 0, 0}, {0, 5, -1}} {
			must(t, f.Setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, append(num(uint32(c.on)), num(uint32(c.sec))...)))
			b := make([]byte, 8)
			n, err := f.Getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b)
			got, _ := f.Linger()
			if want := append(num(uint32(c.on)), num(uint32(max(c.want, 0)))...); n != 8 || err != nil || got != c.want || !bytes.Equal(b, want) {
				t.Errorf("%+v: %d, %x, %v", c, got, b[:n], err)
			}
		}
		wantErr(t, "short", f.Setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, make([]byte, 7)), syscall.EINVAL)
	})
}

// TestDontRoute: what would need a gateway is refused, by option and by flag.
func TestDontRoute(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		must(t, p.a.AddRoute(stack.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("10.77.0.2")}))
		f := udp4(t, p.a)
		send := func(flags int, to string) error { _, err := f.SendTo([]byte("x"), flags, ap(to)); return err }
		wantErr(t, "by the gateway", send(0, "192.0.2.1:9"), nil)
		wantErr(t, "flag", send(socket.MSG_DONTROUTE, "192.0.2.1:9"), syscall.ENETUNREACH)
		wantErr(t, "flag, on the link", send(socket.MSG_DONTROUTE, "10.77.0.2:9"), nil)
		must(t, f.SetsockoptInt(socket.SOL_SOCKET, socket.SO_DONTROUTE, 1))
		wantErr(t, "option", send(0, "192.0.2.1:9"), syscall.ENETUNREACH)
		wantErr(t, "option, on the link", send(0, "10.77.0.2:9"), nil)
	})
}

// TestControlAllocations: to receive with control messages costs no memory.
func TestControlAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates, and makes pools forget")
	}
	watch(t)
	p := newPair(t, wire.Options{})
	a, b := udp4(t, p.a), udp4(t, p.b)
	must(t, b.Bind(ap("0.0.0.0:5")))
	for _, o := range []int{socket.IP_PKTINFO, socket.IP_RECVTTL, socket.IP_RECVTOS, socket.IP_RECVORIGDSTADDR} {
		must(t, b.SetsockoptInt(socket.IPPROTO_IP, o, 1))
	}
	must(t, b.SetsockoptInt(socket.SOL_SOCKET, socket.SO_TIMESTAMPNS, 1))
	out := socket.Msg{Name: ap("10.77.0.2:5"), Buffers: [][]byte{[]byte("hello")}, Control: socket.AppendControlInt(nil, 0, socket.IP_TTL, 9)}
	in := socket.Msg{Buffers: [][]byte{make([]byte, 3), make([]byte, 9)}, Control: make([]byte, 200)}
	noAllocs(t, func() {
		if _, err := a.Sendmsg(&out, 0); err != nil {
			t.Fatal(err)
		}
		if n, err := b.Recvmsg(&in, 0); n != 5 || err != nil {
			t.Fatal(n, err)
		}
	})
}

// FuzzControl gives any bytes to those who read control messages.
func FuzzControl(f *testing.F) {
	f.Add(socket.AppendPktInfo(nil, netip.MustParseAddr("127.0.0.1"), 1), true)
	f.Add(socket.AppendPktInfo(nil, netip.IPv6Loopback(), 1), false)
	f.Add(socket.AppendSegmentSize(socket.AppendControlInt(nil, 0, socket.IP_TTL, 3), 1), true)
	f.Add(socket.AppendControl(nil, 0, socket.IP_RECVERR, make([]byte, 32)), true)
	f.Add(bytes.Repeat([]byte{0xff}, 40), true)
	two := append([]byte{0, 2, 2, 1}, make([]byte, 20)...)
	for typ, b := range map[int][]byte{socket.IPV6_HOPOPTS: {0, 0, 5, 2, 0, 0, 0, 0}, socket.IPV6_DSTOPTS: {0, 0, 1, 4, 0, 0, 0, 0},
		socket.IPV6_RTHDR: two, socket.IPV6_RTHDRDSTOPTS: {0, 0, 1, 4, 0, 0, 0, 0}} {
		f.Add(socket.AppendControl(nil, socket.IPPROTO_IPV6, typ, b), false)
	}
	f.Add(socket.AppendControl(nil, socket.IPPROTO_IP, socket.IP_RETOPTS, []byte{7, 7, 4, 0, 0, 0, 0}), true)
	f.Fuzz(func(t *testing.T, b []byte, v4 bool) {
		s := stack.New(stack.Config{})
		defer s.Close()
		domain, to := socket.AF_INET6, ap("[::1]:5")
		if v4 {
			domain, to = socket.AF_INET, ap("127.0.0.1:5")
		}
		u, err := socket.Socket(s, domain, socket.SOCK_DGRAM, 0)
		must(t, err)
		defer u.Close()
		u.Sendmsg(&socket.Msg{Name: to, Buffers: [][]byte{[]byte("hello")}, Control: b}, 0)
		if v4 {
			u.Sendmsg(&socket.Msg{Name: netip.AddrPortFrom(netip.MustParseAddr("::ffff:127.0.0.1"), 5), Control: b}, 0)
		}
		socket.ParseControl(b)
		for n, rest := 0, b; ; n++ {
			c, more, ok, err := socket.NextControl(rest)
			if !ok || err != nil {
				break
			}
			if n > len(b)/16 {
				t.Fatal("more messages than headers fit")
			}
			// What was written by AppendControl reads the same.
			d, _, ok, err := socket.NextControl(socket.AppendControl(nil, c.Level, c.Type, c.Data))
			if !ok || err != nil || d.Level != c.Level || d.Type != c.Type || !bytes.Equal(d.Data, c.Data) {
				t.Fatalf("%+v became %+v", c, d)
			}
			rest = more
		}
		for _, level := range []int{socket.IPPROTO_IP, socket.IPPROTO_IPV6, socket.SOL_UDP, socket.SOL_SOCKET} {
			if len(b) > 0 {
				u.Setsockopt(level, int(b[0]), b[1:])
			}
		}
	})
}

// TestOptionsDocumented: every option that is known stands in docs/sockets.md,
// and every test that is named there exists.
func TestOptionsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/sockets.md")
	must(t, err)
	for _, name := range socket.OptionNames(t.Output()) {
		if !strings.Contains(string(doc), "`"+name+"`") {
			t.Errorf("%s is not in docs/sockets.md", name)
		}
	}
	var tests []byte
	files, err := os.ReadDir(".")
	must(t, err)
	for _, f := range files {
		if strings.HasSuffix(f.Name(), "_test.go") {
			b, err := os.ReadFile(f.Name())
			must(t, err)
			tests = append(tests, b...)
		}
	}
	named := regexp.MustCompile(`\bTest\w+`).FindAllString(string(doc), -1)
	if len(named) == 0 {
		t.Error("no tests are named")
	}
	for _, n := range named {
		if !bytes.Contains(tests, []byte("func "+n+"(t ")) {
			t.Errorf("there is no %s", n)
		}
	}
}
