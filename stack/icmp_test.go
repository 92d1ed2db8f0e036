package stack_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// icmpError is an error from the peer about a packet of the host's, quoting
// all of it that fits.
func icmpError(typ, code uint8, rest uint32, quoted []byte) []byte {
	quoted = quoted[14:]
	v6 := quoted[0]>>4 == 6
	quoted = quoted[:min(len(quoted), 548)]
	b := make([]byte, icmp.HeaderLen, icmp.HeaderLen+len(quoted))
	var r [4]byte
	binary.BigEndian.PutUint32(r[:], rest)
	icmp.Put(b, typ, code, r)
	b = append(b, quoted...)
	if v6 {
		return icmp6(64, peerIP6, hostIP6, b)
	}
	icmp.SetChecksum4(b)
	return ip4(ipv4.ProtoICMP, b, nil)
}

// quotes reports whether the one frame is an ICMP message of a type and code
// that ends in the packet given, or its beginning.
func quotes(t testing.TB, frames [][]byte, typ, code uint8, packet []byte) {
	t.Helper()
	if len(frames) != 1 {
		t.Fatalf("%d frames, want an ICMP error", len(frames))
	}
	parse(t, frames[0])
	b := payloadOf(frames[0])
	if b[0] != typ || b[1] != code || len(b) < 36 || !bytes.HasPrefix(packet, b[8:]) {
		t.Errorf("got type %d code %d quoting\n%x, want type %d code %d quoting\n%x", b[0], b[1], b[8:], typ, code, packet)
	}
}

// TestErrorsSent: what is reported, how much of it is quoted, and where the
// pointer points.
func TestErrorsSent(t *testing.T) {
	h := newTestHost(t, stack.Config{Limits: stack.Limits{ICMPErrorInterval: -1}}, stack.InterfaceConfig{}).meet()
	long4, long6 := datagram(false, 1, 99, pattern(1400)), datagram(true, 1, 99, pattern(1400))
	quotes(t, h.send(bytes.Clone(long4)), 3, 3, long4[14:])
	quotes(t, h.send(bytes.Clone(long6)), 1, 4, long6[14:])
	if got := h.send(ip4(ipv4.ProtoUDP, payloadOf(long4), func(f *ipv4.Fields) { f.TOS = 0x29 }))[0][15]; got != 0xc8 {
		t.Errorf("type of service %#x", got)
	}
	// RFC 1812 §4.3.2.3: no larger than 576 bytes; RFC 4443 §2.4 (c): no
	// larger than 1280.
	n4, n6 := len(h.send(bytes.Clone(long4))[0]), len(h.send(bytes.Clone(long6))[0])
	if n4 != 14+576 || n6 != 14+1280 {
		t.Errorf("errors of %d and %d bytes", n4-14, n6-14)
	}

	proto := ip4(200, []byte("12345678"), nil)
	quotes(t, h.send(bytes.Clone(proto)), 3, 2, proto[14:])
	proto6 := ip6(200, []byte("12345678"), nil)
	out := h.send(bytes.Clone(proto6))
	quotes(t, out, 4, 1, proto6[14:])
	if p := binary.BigEndian.Uint32(payloadOf(out[0])[4:]); p != 6 {
		t.Errorf("pointer %d, want 6: the next header field", p)
	}
	// Behind a destination options header with padding the field is at 40.
	behind := ip6(ipv6.ProtoDestOpts, append([]byte{200, 0, 1, 4, 0, 0, 0, 0}, "12345678"...), nil)
	out = h.send(bytes.Clone(behind))
	quotes(t, out, 4, 1, behind[14:])
	if p := binary.BigEndian.Uint32(payloadOf(out[0])[4:]); p != 40 {
		t.Errorf("pointer %d, want 40", p)
	}
	// Unknown options, by the two highest bits of their type (RFC 8200 §4.2).
	for _, c := range []struct {
		typ    byte
		group  bool
		report bool
	}{{0x1e, false, false}, {0x5e, false, false}, {0x9e, false, true}, {0x9e, true, true}, {0xde, false, true}, {0xde, true, false}} {
		f := ip6(ipv6.ProtoDestOpts, []byte{ipv6.ProtoNone, 0, c.typ, 4, 0, 0, 0, 0}, func(f *ipv6.Fields) {
			if c.group {
				f.Dst = ipv6.AllNodes
			}
		})
		out := h.send(bytes.Clone(f))
		if (len(out) == 1) != c.report {
			t.Errorf("option %#x to a group %v: %d answers", c.typ, c.group, len(out))
		} else if c.report {
			if p := binary.BigEndian.Uint32(payloadOf(out[0])[4:]); payloadOf(out[0])[1] != 2 || p != 42 {
				t.Errorf("option %#x: code %d pointer %d", c.typ, payloadOf(out[0])[1], p)
			}
		}
	}
}

// TestErrorsNotSent: never about errors, groups, fragments but the first, or
// packets from nowhere (RFC 1122 §3.2.2, RFC 4443 §2.4 (e)).
func TestErrorsNotSent(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
	h.i.JoinGroup(netip.MustParseAddr("ff02::fb"))
	h.i.JoinGroup(netip.MustParseAddr("224.0.0.251"))
	h.run(5 * time.Second)
	any := datagram(false, 1, 99, []byte("x"))
	group4 := ip4(ipv4.ProtoUDP, payloadOf(any), func(f *ipv4.Fields) { f.Dst = netip.MustParseAddr("224.0.0.251") })
	copy(group4, []byte{1, 0, 0x5e, 0, 0, 0xfb})
	repair(group4)
	from := func(src string) []byte {
		f := ip4(ipv4.ProtoUDP, payloadOf(any), func(f *ipv4.Fields) { f.Src = netip.MustParseAddr(src) })
		repair(f)
		return f
	}
	for name, f := range map[string][]byte{
		"group":                   group4,
		"group IPv6":              udpTo(netip.MustParseAddr("ff02::fb"), 99),
		"error about an error":    ip4(ipv4.ProtoICMP, icmpError(3, 3, 0, any)[34:], nil),
		"unknown ICMP type":       ip4(ipv4.ProtoICMP, []byte{40, 0, 0xd7, 0xff, 0, 0, 0, 0}, nil),
		"source 0.0.0.0":          from("0.0.0.0"),
		"source broadcast":        from("10.77.0.255"),
		"source group":            from("224.0.0.5"),
		"source loopback":         from("127.0.0.1"),
		"wrong UDP checksum":      append(bytes.Clone(datagram(false, 1, 99, pattern(11))[:44]), make([]byte, 9)...),
		"broadcast as unicast":    withMAC(hostMAC, ip4(200, []byte("12345678"), func(f *ipv4.Fields) { f.Dst = netip.MustParseAddr("10.77.0.255") })),
		"no next header":          ip6(ipv6.ProtoNone, nil, nil),
		"later fragment":          ip4(200, []byte("12345678"), func(f *ipv4.Fields) { f.ID, f.Offset = 5, 8 }),
		"unspecified IPv6 source": ip6(ipv6.ProtoUDP, payloadOf(datagram(true, 1, 99, nil)), func(f *ipv6.Fields) { f.Src = netip.IPv6Unspecified() }),
	} {
		if out := h.send(f); len(out) != 0 {
			t.Errorf("%s: answered by %s", name, describe(out[0]))
		}
	}
	if n := h.count("icmp.error-out"); n != 0 {
		t.Errorf("%d errors counted", n)
	}
}

func TestErrorRateLimit(t *testing.T) {
	h := newTestHost(t, stack.Config{Limits: stack.Limits{ICMPErrorsPerSecond: 10, ICMPErrorBurst: 5}}, stack.InterfaceConfig{}).meet()
	var sent int
	for range 100 {
		sent += len(h.send(datagram(false, 1, 99, []byte("x"))))
	}
	if sent != 5 || h.count("icmp.drop.rate-limited") != 95 || h.count("icmp.error-out") != 5 {
		t.Errorf("%d errors at once, want 5: %v", sent, h.s.Counters())
	}
	h.run(300 * time.Millisecond)
	for range 100 {
		sent += len(h.send(datagram(true, 1, 99, []byte("x"))))
	}
	if sent < 7 || sent > 8 {
		t.Errorf("%d errors after 300 ms, want 3 more", sent-5)
	}
	// Echo replies are not errors.
	if out := h.send(echo4(1, 1, nil, nil)); len(out) != 1 {
		t.Error("echo reply held back")
	}
}

// TestReassemblyTimeout reports a datagram whose first fragment came but not
// the rest, quoting that fragment as it was.
func TestReassemblyTimeout(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
	f4, f6 := cut4(9, ipv4.ProtoUDP, pattern(1000), 400), cut6(9, ipv6.ProtoUDP, pattern(1000), 400)
	first4, first6 := bytes.Clone(f4[0][14:]), bytes.Clone(f6[0][14:])
	h.send(f4[0], f4[1], f6[1], f6[0])
	var at4, at6 time.Duration
	h.answers()
	for at := time.Second; at <= 61*time.Second; at += time.Second {
		for _, f := range h.run(time.Second) {
			b := payloadOf(f)
			switch {
			case f[12] == 8 && f[13] == 0 && b[0] == 11:
				quotes(t, [][]byte{f}, 11, 1, first4)
				at4 = at
			case f[12] == 0x86 && b[0] == 3:
				quotes(t, [][]byte{f}, 3, 1, first6)
				at6 = at
			}
		}
	}
	if at4 != 30*time.Second || at6 != 60*time.Second {
		t.Errorf("reported after %v and %v, want 30 s and 60 s", at4, at6)
	}
	if h.count("ipv4.reassembly-timeout") != 1 || h.count("ipv6.reassembly-timeout") != 1 {
		t.Errorf("%v", h.s.Counters())
	}
	// Without the first fragment nothing may be said.
	h.send(cut4(10, ipv4.ProtoUDP, pattern(1000), 400)[1], cut6(10, ipv6.ProtoUDP, pattern(1000), 400)[2])
	for _, f := range h.run(2 * time.Minute) {
		if b := payloadOf(f); b != nil && (b[0] == 11 || b[0] == 3) {
			t.Errorf("reported without the first fragment: %s", describe(f))
		}
	}
}

// TestErrorsToSockets: an error reaches the socket that sent the packet and no
// other, and only if it is about something sent.
func TestErrorsToSockets(t *testing.T) {
	eachFamily(t, func(t *testing.T, c familyCase) {
		h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
		peer, unreachable, port, noroute := peerIP4, uint8(3), uint8(3), uint8(1)
		const refused = syscall.ECONNREFUSED
		if c.v6 {
			peer, unreachable, port, noroute = peerIP6, 1, 4, 3
		}
		a, b, lone := newUDP(t, h.s), newUDP(t, h.s), newUDP(t, h.s)
		a.Connect(netip.AddrPortFrom(peer, 9))
		b.Connect(netip.AddrPortFrom(peer, 10))
		lone.SendTo([]byte("lone"), netip.AddrPortFrom(peer, 9))
		quotedLone := h.d.take()[0]
		a.SendTo([]byte("hello"), netip.AddrPort{})
		quoted := h.d.take()[0]
		h.send(icmpError(unreachable, port, 0, quoted), icmpError(unreachable, port, 0, quotedLone))
		if err := b.TakeError(); err != nil {
			t.Errorf("the other socket got %v", err)
		}
		if err := lone.TakeError(); err != nil {
			t.Errorf("an unconnected socket got %v", err)
		}
		if a.Ready()&stack.ReadyErr == 0 {
			t.Error("not ready for an error")
		}
		if err := a.SendTo([]byte("x"), netip.AddrPort{}); err != refused {
			t.Errorf("next call: %v, want ECONNREFUSED", err)
		}
		if err := a.SendTo([]byte("x"), netip.AddrPort{}); err != nil {
			t.Errorf("the call after it: %v", err)
		}
		h.d.take()

		// A ping socket.
		p, _ := h.s.NewPing()
		defer p.Close()
		if err := p.Connect(netip.AddrPortFrom(peer, 0)); err != nil {
			t.Fatal(err)
		}
		echo := make([]byte, 12)
		echo[0] = icmp.TypeEcho4
		if c.v6 {
			echo[0] = icmp.TypeEcho6
		}
		if err := p.SendTo(echo, netip.AddrPort{}); err != nil {
			t.Fatal(err)
		}
		out := h.d.take()
		h.send(icmpError(unreachable, noroute, 0, out[0]))
		if err := p.TakeError(); err != nil {
			t.Errorf("ping: %v for a soft error", err) // as Linux without IP_RECVERR
		}
		h.send(icmpError(unreachable, port, 0, out[0]))
		if err := p.TakeError(); err != refused {
			t.Errorf("ping: %v, want ECONNREFUSED", err)
		}

		// TCP: in SYN-SENT fatal, later not; and only about what is in flight.
		conn, _ := h.s.DialTCP(netip.AddrPort{}, netip.AddrPortFrom(peer, 80))
		syn := h.d.take()[0]
		forged := bytes.Clone(syn)
		forged[len(forged)-len(payloadOf(forged))+5]++ // the sequence number
		h.send(icmpError(unreachable, port, 0, forged))
		if conn.Err() != nil {
			t.Errorf("forged error was believed: %v", conn.Err())
		}
		h.send(icmpError(unreachable, port, 0, syn))
		if conn.Err() != refused || conn.State() != tcp.Closed {
			t.Errorf("connect: %v in %v", conn.Err(), conn.State())
		}
		if h.count("tcp.drop.out-of-window") != 1 {
			t.Errorf("drops %v", drops(h.s))
		}
		pc := h.connect(h.listen(81, 1), c.v6, 4000)
		pc.conn.Write([]byte("data"))
		data := h.d.take()[0]
		h.send(icmpError(unreachable, port, 0, data))
		if pc.conn.State() != tcp.Established {
			t.Errorf("an established connection went to %v: RFC 5927 §5.2 has it stay", pc.conn.State())
		}
	})
}

// TestErrorsOfNobody: an error that concerns no socket, or says nothing known,
// is counted.
func TestErrorsOfNobody(t *testing.T) {
	eachFamily(t, func(t *testing.T, c familyCase) {
		h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
		peer, unreachable, port := peerIP4, uint8(3), uint8(3)
		if c.v6 {
			peer, unreachable, port = peerIP6, 1, 4
		}
		u, _ := h.s.NewUDP(true)
		u.SendTo([]byte("x"), netip.AddrPortFrom(peer, 9))
		ofUDP := h.d.take()[0]
		u.Close()
		conn, _ := h.s.DialTCP(netip.AddrPort{}, netip.AddrPortFrom(peer, 80))
		ofTCP := h.d.take()[0]
		conn.Abort()
		h.d.take()
		h.send(icmpError(unreachable, port, 0, ofUDP), icmpError(unreachable, port, 0, ofTCP))
		wantDrops(t, h.s, "icmp.drop.no-socket=2")
		if !c.v6 { // ICMPv6 has a meaning for every code
			h.send(icmpError(unreachable, 99, 0, ofTCP))
			wantDrops(t, h.s, "icmp.drop.no-socket=2", "icmp.drop.not-for-host=1")
		}
	})
}

// tooBig is an error about a packet that does not fit.
func tooBig(v6 bool, mtu uint32, quoted []byte) []byte {
	if v6 {
		return icmpError(icmp.TypeTooBig6, 0, mtu, quoted)
	}
	return icmpError(icmp.TypeUnreachable4, icmp.CodeFragNeeded4, mtu, quoted)
}

func largest(frames [][]byte) (n int) {
	for _, f := range frames {
		n = max(n, len(f)-14)
	}
	return n
}

func TestPathMTUForTCP(t *testing.T) {
	eachFamily(t, func(t *testing.T, c familyCase) {
		for _, x := range []struct{ says, want4, want6 uint32 }{
			{1400, 1400, 1400}, {1000, 1000, 1280}, {68, 552, 1280}, {0, 552, 1280}, {1500, 1500, 1500}, {65535, 1500, 1500},
		} {
			// No time-out makes segments small here, only routers do.
			h := newTestHost(t, stack.Config{TCP: stack.TCPConfig{MTUProbing: tcp.MTUProbeOff}}, stack.InterfaceConfig{}).meet()
			h.answers()
			p := h.connect(h.listen(80, 5), c.v6, 4000)
			p.conn.Write(pattern(1400))
			p.conn.Write(pattern(20000))
			out := h.d.take()
			if largest(out) != 1500 {
				t.Fatalf("segments of %d bytes at first", largest(out))
			}
			want := int(x.want4)
			if c.v6 {
				want = int(x.want6)
			}
			// Forged first: its sequence number is not in flight.
			forged := bytes.Clone(out[0])
			forged[len(forged)-len(payloadOf(forged))+4] ^= 0x80
			h.send(tooBig(c.v6, 600, forged))
			if out := h.run(10 * time.Second); largest(out) != 1500 {
				t.Errorf("forged: segments of %d bytes", largest(out))
			}
			again := h.send(tooBig(c.v6, x.says, out[0]))
			if want < 1500 && (len(again) == 0 || largest(again) > want) {
				t.Errorf("MTU %d: resent %d packets of up to %d bytes", x.says, len(again), largest(again))
			}
			again = append(again, h.run(time.Minute)...)
			if got := largest(again); got != want {
				t.Errorf("MTU %d: packets of %d bytes, want %d", x.says, got, want)
			}
			// Other connections to the same peer know it too.
			p.conn.Abort()
			q := h.connect(h.listen(81, 5), c.v6, 4001)
			h.d.take()
			q.conn.Write(pattern(5000))
			if got := largest(h.run(5 * time.Millisecond)); got != want {
				t.Errorf("MTU %d: packets of a new connection of %d bytes, want %d", x.says, got, want)
			}
			// For ten minutes.
			q.conn.Abort()
			h.run(10 * time.Minute)
			q = h.connect(h.listen(82, 5), c.v6, 4002)
			h.d.take()
			q.conn.Write(pattern(5000))
			if got := largest(h.run(5 * time.Millisecond)); got != 1500 {
				t.Errorf("MTU %d: packets of %d bytes after ten minutes", x.says, got)
			}
		}
	})
}

// TestDefaultMSS is RFC 9293 §3.7.1 (MUST-15): a peer that names no segment
// size gets small segments, over IPv6 larger ones.
func TestDefaultMSS(t *testing.T) {
	eachFamily(t, func(t *testing.T, c familyCase) {
		h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
		p := h.connectMSS(h.listen(80, 5), c.v6, 4000, 0)
		p.conn.Write(pattern(5000))
		want := 576
		if c.v6 {
			want = 1280
		}
		if got := largest(h.d.take()); got != want {
			t.Errorf("packets of %d bytes, want %d", got, want)
		}
	})
}

func TestPathMTUForDatagrams(t *testing.T) {
	eachFamily(t, func(t *testing.T, c familyCase) {
		h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
		u := newUDP(t, h.s)
		peer, hl := peerIP4, 28
		if c.v6 {
			peer, hl = peerIP6, 48
		}
		u.Connect(netip.AddrPortFrom(peer, 9))
		p, _ := h.s.NewPing()
		defer p.Close()
		p.Connect(netip.AddrPortFrom(peer, 0))
		send := func() int {
			t.Helper()
			if err := u.SendTo(pattern(1500-hl), netip.AddrPort{}); err != nil {
				t.Fatal(err)
			}
			out := h.d.take()
			return largest(out)
		}
		ping := func() [][]byte {
			echo := make([]byte, 1500-hl+8)
			echo[0] = icmp.TypeEcho4
			if c.v6 {
				echo[0] = icmp.TypeEcho6
			}
			if err := p.SendTo(echo, netip.AddrPort{}); err != nil {
				t.Fatal(err)
			}
			return h.d.take()
		}
		if n := send(); n != 1500 {
			t.Fatalf("%d bytes at first", n)
		}
		u.SendTo(pattern(1500-hl), netip.AddrPort{})
		quoted := h.d.take()[0]
		// About a datagram that no socket of ours can have sent.
		forged := bytes.Clone(quoted)
		forged[len(forged)-len(payloadOf(forged))]++ // source port
		h.send(tooBig(c.v6, 1300, forged))
		if n := send(); n != 1500 {
			t.Errorf("forged: %d bytes", n)
		}
		told := func(d *stack.Datagram) {
			t.Helper()
			if err := d.TakeError(); err != syscall.EMSGSIZE {
				t.Errorf("a connected socket was told %v", err)
			}
		}
		h.send(tooBig(c.v6, 1400, quoted))
		told(u)
		if n := send(); n != 1400 && n != 1396 && n != 1392 {
			t.Errorf("after 1400: %d bytes", n)
		}
		h.send(tooBig(c.v6, 1450, quoted)) // never raises it (RFC 8201 §4)
		told(u)
		if n := send(); n > 1400 {
			t.Errorf("after 1450: %d bytes", n)
		}
		h.run(10*time.Minute + time.Second)
		h.meet()
		if n := send(); n != 1500 {
			t.Errorf("after ten minutes: %d bytes", n)
		}
		// Echo requests learn as well, or large pings never get through.
		out := ping()
		if largest(out) != 1500 {
			t.Fatalf("ping of %d bytes", largest(out))
		}
		h.send(tooBig(c.v6, 1300, out[0]))
		told(p)
		if out := ping(); len(out) != 2 || largest(out) > 1300 {
			t.Errorf("ping afterwards: %d frames of up to %d bytes", len(out), largest(out))
		}
	})
}

// TestPing sends echo requests from a ping socket.
func TestPing(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
	p, _ := h.s.NewPing()
	q, _ := h.s.NewPing()
	defer p.Close()
	defer q.Close()
	echo := append([]byte{8, 0, 0, 0, 0xff, 0xff, 0, 3}, "abcdefgh"...)
	for _, s := range []*stack.Datagram{p, q} {
		if err := s.SendTo(echo, netip.AddrPortFrom(peerIP4, 0)); err != nil {
			t.Fatal(err)
		}
	}
	out := h.d.take()
	m, ok := layerOf[*layers.ICMPv4](t, out)
	if !ok || m.Id != p.LocalAddr().Port() || m.Seq != 3 || p.LocalAddr().Port() == q.LocalAddr().Port() {
		t.Fatalf("sent %+v; identifiers %d and %d", m, p.LocalAddr().Port(), q.LocalAddr().Port())
	}
	reply := bytes.Clone(payloadOf(out[0]))
	reply[0] = 0
	icmp.SetChecksum4(reply)
	h.send(ip4(ipv4.ProtoICMP, reply, nil))
	buf := make([]byte, 100)
	n, _, from, err := p.RecvFrom(buf)
	if err != nil || from.Addr() != peerIP4 || !bytes.Equal(buf[:n], reply) {
		t.Errorf("received %x from %v, %v", buf[:n], from, err)
	}
	if _, _, _, err := q.RecvFrom(buf); err != syscall.EAGAIN {
		t.Errorf("the other socket: %v", err)
	}
	if err := p.SendTo([]byte{0, 0, 0, 0, 0, 0, 0, 0}, netip.AddrPortFrom(peerIP4, 0)); err != syscall.EINVAL {
		t.Errorf("sending an echo reply: %v", err)
	}
}
