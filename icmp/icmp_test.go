package icmp

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/ipv6"
)

var (
	v4a = netip.MustParseAddr("10.0.0.1")
	v4b = netip.MustParseAddr("10.0.0.2")
	v6a = netip.MustParseAddr("2001:db8::1")
	v6b = netip.MustParseAddr("2001:db8::2")
)

func packet4(src, dst netip.Addr, proto uint8, payload []byte) []byte {
	b := make([]byte, 20, 20+len(payload))
	b[0], b[8], b[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(payload)))
	copy(b[12:], src.AsSlice())
	copy(b[16:], dst.AsSlice())
	return append(b, payload...)
}

func packet6(src, dst netip.Addr, proto uint8, payload []byte) []byte {
	b := make([]byte, ipv6.HeaderLen, ipv6.HeaderLen+len(payload))
	f := ipv6.Fields{NextHeader: proto, HopLimit: 64, Src: src, Dst: dst, PayloadLen: len(payload)}
	f.Put(b)
	return append(b, payload...)
}

func TestMessageRoundTrip(t *testing.T) {
	for _, body := range []string{"", "x", "odd length!"} {
		b := append(make([]byte, HeaderLen), body...)
		Put(b, TypeEcho4, 0, [4]byte{0x12, 0x34, 0, 7})
		SetChecksum4(b)
		m, d := Parse4(b)
		if d != DropNone || m.Type != TypeEcho4 || m.EchoID() != 0x1234 || m.EchoSeq() != 7 || string(m.Body) != body {
			t.Errorf("%q: %v %+v", body, d, m)
		}
		Put(b, TypeEcho6, 0, m.Rest)
		SetChecksum6(b, v6a, v6b)
		if m, d = Parse6(b, v6a, v6b); d != DropNone || m.Type != TypeEcho6 {
			t.Errorf("%q: %v %+v", body, d, m)
		}
		// The pseudo-header counts (RFC 4443 §2.3).
		if _, d = Parse6(b, v6a, v6a); d != DropChecksum {
			t.Errorf("other destination: %v", d)
		}
		b[4] ^= 1
		if _, d = Parse6(b, v6a, v6b); d != DropChecksum {
			t.Errorf("changed: %v", d)
		}
	}
	for n := range HeaderLen {
		if _, d := Parse4(make([]byte, n)); d != DropShort {
			t.Errorf("%d bytes: %v", n, d)
		}
	}
	if DropChecksum.String() != "bad-checksum" || DropShort.Error() != "icmp: short" || NumDrops.String() != "unknown" {
		t.Error("names")
	}
}

// gopacket builds, we read; we build, gopacket reads.
func TestAgainstGopacket(t *testing.T) {
	buf := gopacket.NewSerializeBuffer()
	opts := gopacket.SerializeOptions{ComputeChecksums: true}
	ip := &layers.IPv6{SrcIP: v6a.AsSlice(), DstIP: v6b.AsSlice()}
	l6 := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(TypeEcho6, 0)}
	if err := l6.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	if err := gopacket.SerializeLayers(buf, opts, l6, &layers.ICMPv6Echo{Identifier: 5, SeqNumber: 6}, gopacket.Payload("hello")); err != nil {
		t.Fatal(err)
	}
	if m, d := Parse6(buf.Bytes(), v6a, v6b); d != DropNone || m.EchoID() != 5 || m.EchoSeq() != 6 || string(m.Body) != "hello" {
		t.Errorf("%v %+v", d, m)
	}
	if err := gopacket.SerializeLayers(buf, opts, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(TypeEcho4, 0), Id: 5, Seq: 6}, gopacket.Payload("hello")); err != nil {
		t.Fatal(err)
	}
	want := bytes.Clone(buf.Bytes())
	got := append(make([]byte, HeaderLen), "hello"...)
	Put(got, TypeEcho4, 0, [4]byte{0, 5, 0, 6})
	SetChecksum4(got)
	if !bytes.Equal(got, want) {
		t.Errorf("got %x want %x", got, want)
	}
}

// RFC 1122 §3.2.2 and RFC 1812 §4.3.2.7, bullet by bullet.
func TestMayReport4(t *testing.T) {
	udp := make([]byte, 8)
	icmp := func(typ uint8) []byte { return packet4(v4a, v4b, Proto4, []byte{typ, 0, 0, 0, 0, 0, 0, 0}) }
	edit := func(f func(b []byte)) []byte { b := packet4(v4a, v4b, 17, udp); f(b); return b }
	ip := netip.MustParseAddr
	for _, c := range []struct {
		name   string
		packet []byte
		group  bool
		want   bool
	}{
		{"udp", packet4(v4a, v4b, 17, udp), false, true},
		{"first fragment", edit(func(b []byte) { b[6] = 0x20 }), false, true},
		{"link-layer group", packet4(v4a, v4b, 17, udp), true, false},
		{"later fragment", edit(func(b []byte) { b[7] = 1 }), false, false},
		{"to multicast", packet4(v4a, ip("224.0.0.1"), 17, udp), false, false},
		{"to broadcast", packet4(v4a, ip("255.255.255.255"), 17, udp), false, false},
		{"from zero", packet4(ip("0.0.0.0"), v4b, 17, udp), false, false},
		{"from loopback", packet4(ip("127.0.0.1"), v4b, 17, udp), false, true},
		{"from multicast", packet4(ip("224.0.0.1"), v4b, 17, udp), false, false},
		{"from class E", packet4(ip("240.0.0.1"), v4b, 17, udp), false, false},
		{"from broadcast", packet4(ip("255.255.255.255"), v4b, 17, udp), false, false},
		{"echo request", icmp(TypeEcho4), false, true},
		{"echo reply", icmp(TypeEchoReply4), false, true},
		{"unreachable", icmp(TypeUnreachable4), false, false},
		{"source quench", icmp(TypeSourceQuench4), false, false},
		{"redirect", icmp(TypeRedirect4), false, false},
		{"time exceeded", icmp(TypeTimeExceeded4), false, false},
		{"parameter problem", icmp(TypeParamProblem4), false, false},
		{"unknown ICMP type", icmp(41), false, false},
		{"ICMP without a type", packet4(v4a, v4b, Proto4, nil), false, false},
		{"short", make([]byte, 19), false, false},
		{"header length 4", edit(func(b []byte) { b[0] = 0x41 }), false, false},
		{"header longer than the packet", edit(func(b []byte) { b[0] = 0x4f }), false, false},
	} {
		if got := MayReport4(c.packet, c.group); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// RFC 4443 §2.4(e), bullet by bullet.
func TestMayReport6(t *testing.T) {
	udp := make([]byte, 8)
	icmp := func(typ uint8) []byte { return packet6(v6a, v6b, Proto6, []byte{typ, 0, 0, 0, 0, 0, 0, 0}) }
	group := netip.MustParseAddr("ff02::1")
	hidden := packet6(v6a, v6b, ipv6.ProtoDestOpts, append([]byte{Proto6, 0, 1, 4, 0, 0, 0, 0}, 1, 0, 0, 0, 0, 0, 0, 0))
	later := packet6(v6a, v6b, ipv6.ProtoFragment, []byte{Proto6, 0, 0, 8, 0, 0, 0, 1, 128, 0})
	first := packet6(v6a, v6b, ipv6.ProtoFragment, []byte{Proto6, 0, 0, 1, 0, 0, 0, 1})
	badOption := packet6(v6a, group, ipv6.ProtoDestOpts, append([]byte{17, 0, 0x9e, 4, 0, 0, 0, 0}, udp...))
	for _, c := range []struct {
		name                  string
		packet                []byte
		group, tooBigOrOption bool
		want                  bool
	}{
		{"udp", packet6(v6a, v6b, 17, udp), false, false, true},
		{"(e.1) unreachable", icmp(TypeUnreachable6), false, false, false},
		{"(e.1) unknown error", icmp(100), false, false, false},
		{"(e.1) behind extension headers", hidden, false, false, false},
		{"(e.1) too big about an error", icmp(TypeTooBig6), false, true, false},
		{"(e.2) redirect", icmp(TypeRedirect6), false, false, false},
		{"echo request", icmp(TypeEcho6), false, false, true},
		{"unknown informational", icmp(200), false, false, true},
		{"(e.3) to a group", packet6(v6a, group, 17, udp), false, false, false},
		{"(e.3) too big to a group", packet6(v6a, group, 17, udp), false, true, true},
		{"(e.3) option to a group", badOption, false, true, true},
		{"(e.4) link-layer group", packet6(v6a, v6b, 17, udp), true, false, false},
		{"(e.4) too big by a link-layer group", packet6(v6a, v6b, 17, udp), true, true, true},
		{"(e.6) unspecified source", packet6(netip.IPv6Unspecified(), v6b, 17, udp), false, false, false},
		{"(e.6) multicast source", packet6(group, v6b, 17, udp), false, true, false},
		// Errors are never so long that they come in fragments.
		{"later fragment of ICMPv6", later, false, false, true},
		{"first fragment of ICMPv6 without a type", first, false, false, true},
		{"first fragment of an error", packet6(v6a, v6b, ipv6.ProtoFragment, []byte{Proto6, 0, 0, 1, 0, 0, 0, 1, TypeUnreachable6, 0, 0, 0, 0, 0, 0, 0}), false, false, false},
		{"ICMPv6 without a type", packet6(v6a, v6b, Proto6, nil), false, false, false},
		{"chain cut", packet6(v6a, v6b, ipv6.ProtoDestOpts, nil), false, false, true},
		{"short", make([]byte, 39), false, true, false},
	} {
		if got := MayReport6(c.packet, c.group, c.tooBigOrOption); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestQuoteLengths(t *testing.T) {
	for _, n := range []int{0, 28, 548, 549, 1232, 1233, 9000} {
		b := make([]byte, n)
		if got := QuoteLen4(b); got != min(n, 548) {
			t.Errorf("IPv4 packet of %d: %d", n, got)
		}
		if got := QuoteLen6(b); got != min(n, 1232) {
			t.Errorf("IPv6 packet of %d: %d", n, got)
		}
	}
}

func TestParseQuoted(t *testing.T) {
	data := []byte("transport")
	p4 := packet4(v4a, v4b, 6, data)
	options := append(append(bytes.Clone(p4[:20]), 1, 1, 1, 0), data...)
	options[0], options[3] = 0x46, 33
	later4 := bytes.Clone(p4)
	later4[7] = 5
	p6 := packet6(v6a, v6b, ipv6.ProtoDestOpts, append([]byte{6, 0, 1, 4, 0, 0, 0, 0}, data...))
	later6 := packet6(v6a, v6b, ipv6.ProtoFragment, append([]byte{17, 0, 0, 80, 0, 0, 0, 1}, data...))
	huge := bytes.Clone(p4)
	huge[2] = 0xff // as sent; cut short in the quotation
	for _, c := range []struct {
		name      string
		body      []byte
		v6, ok    bool
		proto     uint8
		header    int
		transport string
		frag      int
	}{
		{"IPv4", p4, false, true, 6, 20, "transport", 0},
		{"IPv4 with options", options, false, true, 6, 24, "transport", 0},
		{"IPv4 and an extension behind", append(bytes.Clone(p4), 0x20, 0, 0, 0), false, true, 6, 20, "transport", 0},
		{"IPv4, cut", huge, false, true, 6, 20, "transport", 0},
		{"IPv4, header only", p4[:20], false, true, 6, 20, "", 0},
		{"IPv4, later fragment", later4, false, true, 6, 20, "", 40},
		{"IPv4, header cut", p4[:19], false, false, 0, 0, "", 0},
		{"IPv4, options cut", options[:23], false, false, 0, 0, "", 0},
		{"IPv4, header length 16", append([]byte{0x44}, p4[1:]...), false, false, 0, 0, "", 0},
		{"IPv6 in an ICMPv4 error", p6, false, false, 0, 0, "", 0},
		{"IPv6", p6, true, true, 6, 48, "transport", 0},
		{"IPv6, transport cut", p6[:50], true, true, 6, 48, "tr", 0},
		{"IPv6 and something behind", append(bytes.Clone(p6), 1), true, true, 6, 48, "transport", 0},
		{"IPv6, headers cut", p6[:47], true, false, 0, 0, "", 0},
		{"IPv6, later fragment", later6, true, true, 17, 48, "", 80},
		{"IPv6, header cut", p6[:39], true, false, 0, 0, "", 0},
		{"IPv4 in an ICMPv6 error", append(bytes.Clone(p4), make([]byte, 40)...), true, false, 0, 0, "", 0},
	} {
		q, ok := ParseQuoted(c.body, c.v6)
		if ok != c.ok {
			t.Errorf("%s: %v", c.name, ok)
			continue
		}
		if !ok {
			continue
		}
		src, dst := v4a, v4b
		if c.v6 {
			src, dst = v6a, v6b
		}
		if q.V6 != c.v6 || q.Src != src || q.Dst != dst || q.Protocol != c.proto || len(q.Header) != c.header || string(q.Transport) != c.transport || q.FragOffset != c.frag {
			t.Errorf("%s: %+v", c.name, q)
		}
	}
}

func TestErrno(t *testing.T) {
	for _, c := range []struct {
		v6        bool
		typ, code uint8
		errno     syscall.Errno
		hard, ok  bool
	}{
		{false, TypeUnreachable4, CodeNet4, syscall.ENETUNREACH, false, true},
		{false, TypeUnreachable4, CodeHost4, syscall.EHOSTUNREACH, false, true},
		{false, TypeUnreachable4, CodeProtocol4, syscall.ENOPROTOOPT, true, true},
		{false, TypeUnreachable4, CodePort4, syscall.ECONNREFUSED, true, true},
		{false, TypeUnreachable4, CodeFragNeeded4, syscall.EMSGSIZE, false, true},
		{false, TypeUnreachable4, CodeHostIsolated4, errNoNet, true, true},
		{false, TypeUnreachable4, CodeFiltered4, syscall.EHOSTUNREACH, true, true},
		{false, TypeUnreachable4, CodePrecCutoff4, syscall.EHOSTUNREACH, true, true},
		{false, TypeUnreachable4, 16, 0, false, false},
		{false, TypeTimeExceeded4, CodeHopLimit, syscall.EHOSTUNREACH, false, true},
		{false, TypeParamProblem4, 0, syscall.EPROTO, true, true},
		{false, TypeSourceQuench4, 0, 0, false, false},
		{false, TypeRedirect4, 0, 0, false, false},
		{false, TypeEcho4, 0, 0, false, false},
		{true, TypeUnreachable6, CodeNoRoute6, syscall.ENETUNREACH, false, true},
		{true, TypeUnreachable6, CodeProhibited6, syscall.EACCES, true, true},
		{true, TypeUnreachable6, CodeScope6, syscall.EHOSTUNREACH, false, true},
		{true, TypeUnreachable6, CodeAddress6, syscall.EHOSTUNREACH, false, true},
		{true, TypeUnreachable6, CodePort6, syscall.ECONNREFUSED, true, true},
		{true, TypeUnreachable6, CodeRejectRoute6, syscall.EACCES, true, true},
		{true, TypeUnreachable6, 7, syscall.EPROTO, true, true},
		{true, TypeTooBig6, 0, syscall.EMSGSIZE, false, true},
		{true, TypeTimeExceeded6, 0, syscall.EHOSTUNREACH, false, true},
		{true, TypeParamProblem6, 1, syscall.EPROTO, true, true},
		{true, TypeEcho6, 0, 0, false, false},
	} {
		errno, hard, ok := Errno(c.v6, c.typ, c.code)
		if errno != c.errno || hard != c.hard || ok != c.ok {
			t.Errorf("v6 %v type %d code %d: %v %v %v", c.v6, c.typ, c.code, errno, hard, ok)
		}
	}
}

func TestLimiter(t *testing.T) {
	l := NewLimiter(DefaultRate, DefaultBurst)
	now := mono.Time(time.Hour)
	burst := func() (n int) {
		for l.Allow(now) {
			n++
		}
		return n
	}
	if n := burst(); n != 50 {
		t.Errorf("burst of %d", n)
	}
	now = now.Add(999 * time.Microsecond)
	if n := burst(); n != 0 {
		t.Errorf("%d after 999 us", n)
	}
	now = now.Add(time.Microsecond)
	if n := burst(); n != 1 {
		t.Errorf("%d after 1 ms", n)
	}
	// Over ten seconds it is the rate, whatever the rhythm.
	n := 0
	for range 10_000 {
		now = now.Add(time.Millisecond)
		n += burst()
	}
	if n != 10_000 {
		t.Errorf("%d in 10 s", n)
	}
	now = now.Add(1 << 62)
	if n := burst(); n != 50 {
		t.Errorf("%d after a long time", n)
	}
	l = NewLimiter(0, 0)
	for range 1000 {
		if !l.Allow(now) {
			t.Fatal("unlimited limiter refuses")
		}
	}
	if l = NewLimiter(1, 0); !l.Allow(now) || l.Allow(now) {
		t.Error("smallest bucket")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0})
	f.Add([]byte{128, 0, 0, 0, 0, 1, 0, 2, 'x'})
	f.Fuzz(func(t *testing.T, b []byte) {
		b = bytes.Clone(b)
		if m, d := Parse4(b); d == DropNone {
			var g layers.ICMPv4
			if err := g.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil || uint16(g.Id) != m.EchoID() || g.TypeCode.Type() != m.Type || !bytes.Equal(g.Payload, m.Body) {
				t.Fatalf("gopacket %+v (%v), we %+v", g, err, m)
			}
		}
		if len(b) < HeaderLen {
			return
		}
		// Whatever the bytes, the checksum we set is the one we accept, and
		// gopacket's for ICMPv6.
		SetChecksum4(b)
		if _, d := Parse4(b); d != DropNone {
			t.Fatal(d)
		}
		SetChecksum6(b, v6a, v6b)
		m, d := Parse6(b, v6a, v6b)
		if d != DropNone {
			t.Fatal(d)
		}
		var g layers.ICMPv6
		if err := g.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil || g.TypeCode.Type() != m.Type || g.TypeCode.Code() != m.Code {
			t.Fatalf("gopacket %+v (%v), we %+v", g, err, m)
		}
	})
}

func FuzzQuoted(f *testing.F) {
	f.Add(packet4(v4a, v4b, 6, make([]byte, 8)), false, false)
	f.Add(packet6(v6a, v6b, ipv6.ProtoDestOpts, append([]byte{6, 0, 1, 4, 0, 0, 0, 0}, 1, 2, 3)), true, true)
	f.Add(packet6(v6a, v6b, Proto6, make([]byte, 8)), true, false)
	f.Fuzz(func(t *testing.T, b []byte, v6, flag bool) {
		if q, ok := ParseQuoted(b, v6); ok {
			if q.Src.Is4() == v6 || len(q.Header)+len(q.Transport) > len(b) || q.FragOffset != 0 && q.Transport != nil {
				t.Fatalf("%+v of %d bytes", q, len(b))
			}
		}
		if MayReport4(b, flag) && (len(b) < 20 || b[9] == Proto4 && isError4(b[int(b[0]&15)*4])) {
			t.Fatal("reports about an error")
		}
		if MayReport6(b, flag, v6) && b[6] == Proto6 && b[40] < 128 {
			t.Fatal("reports about an error")
		}
		if QuoteLen4(b) > len(b) || QuoteLen6(b) > len(b) {
			t.Fatal("quotes more than there is")
		}
	})
}
