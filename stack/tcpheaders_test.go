package stack_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/csum"
	"github.com/tapstack/tapstack/internal/seq"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// optioned is a segment of the peer's with IPv4 options.
func optioned(seg tcp.Segment, opts []byte) []byte {
	b := make([]byte, seg.HeaderLen())
	seg.PutHeader(b)
	transport(ipv4.ProtoTCP, b, peerIP4, hostIP4)
	return ip4(ipv4.ProtoTCP, b, func(f *ipv4.Fields) { f.DF, f.Options = true, opts })
}

// onWire is a segment that the host has sent, with what is below it.
type onWire struct {
	tcp.Segment
	size  int    // of the IP packet
	below []byte // options, or all extension headers
	next  uint8  // of the fixed header of IPv6
	to    netip.Addr
	label uint32
}

// segmentsOf are the TCP segments among frames, whose checksums are verified:
// over IPv6 with final in the place of the destination.
func segmentsOf(t *testing.T, frames [][]byte, final netip.Addr) (list []onWire) {
	t.Helper()
	for _, f := range frames {
		var w onWire
		var b []byte
		p := f[14:]
		w.size = len(p)
		switch {
		case p[0]>>4 == 4 && p[9] == ipv4.ProtoTCP:
			h := ipv4.Header(p[:int(p[0]&15)*4])
			if h.MF() || h.Offset() != 0 || !h.DF() {
				t.Errorf("a fragment, or may become one: %x", p)
			}
			b, w.below, w.to = p[h.Len():], h.Options(), h.Dst()
			if csum.Sum(b, csum.Pseudo(h.Src(), h.Dst(), ipv4.ProtoTCP, len(b))) != 0xffff {
				t.Errorf("checksum: %x", p)
			}
		case p[0]>>4 == 6:
			h := ipv6.Header(p)
			proto, at, _, ok := ipv6.Skip(p)
			if !ok || proto != ipv4.ProtoTCP {
				continue
			}
			b, w.below, w.next, w.to, w.label = p[at:], p[ipv6.HeaderLen:at], h.NextHeader(), h.Dst(), h.FlowLabel()
			if csum.Sum(b, csum.Pseudo(h.Src(), final, ipv4.ProtoTCP, len(b))) != 0xffff {
				t.Errorf("checksum with %v: %x", final, p)
			}
		default:
			continue
		}
		if d := tcp.Parse(&w.Segment, b); d != tcp.DropNone {
			t.Errorf("%v: %x", d, p)
		}
		list = append(list, w)
	}
	return list
}

// TestConnOptions: a connection that was accepted answers with the options of its
// SYN that record, in the SYN-ACK, in each segment and in the resets; its segments
// are as much smaller as they are long, and no two have one record.
func TestConnOptions(t *testing.T) {
	own, far := hostIP4.As4(), [4]byte{10, 1, 1, 1}
	route := append([]byte{ipv4.OptRecordRoute, 15, 8}, flat([][4]byte{far, {}, {}})...)
	sent := append(append([]byte{1}, ipv4.RouterAlert[:]...), route...)
	sent = append(sent, make([]byte, -len(sent)&3)...)
	received := append([]byte{ipv4.OptRecordRoute, 15, 12}, append(flat([][4]byte{far, own, {}}), 0)...)
	want := append([]byte{ipv4.OptRecordRoute, 15, 16}, append(flat([][4]byte{far, own, own}), 0)...)
	for _, cookies := range []stack.SynCookies{stack.SynCookiesAuto, stack.SynCookiesAlways} {
		h := newTestHost(t, stack.Config{TCP: stack.TCPConfig{SynCookies: cookies}}, stack.InterfaceConfig{}).meet()
		l := h.listen(80, 5)
		s := tcp.Segment{SrcPort: 4000, DstPort: 80, Seq: 1000, Flags: tcp.FlagSYN, Window: 65535}
		s.Options.MSS = 1460
		check := func(what string, list []onWire) {
			t.Helper()
			if len(list) == 0 {
				t.Errorf("%s: nothing", what)
			}
			for _, w := range list {
				if !bytes.Equal(w.below, want) || w.size > 1500 {
					t.Errorf("%s: %d bytes with %x, want %x", what, w.size, w.below, want)
				}
			}
		}
		out := segmentsOf(t, h.send(optioned(s, sent)), peerIP6)
		check("SYN-ACK", out)
		if out[0].Options.MSS != 1460 {
			t.Errorf("announced %d: options do not count there", out[0].Options.MSS)
		}
		if cookies == stack.SynCookiesAuto {
			check("SYN-ACK again", segmentsOf(t, h.run(1500*time.Millisecond), peerIP6))
		}
		s = tcp.Segment{SrcPort: 4000, DstPort: 80, Seq: 1001, Ack: out[0].Seq + 1, Flags: tcp.FlagACK, Window: 65535}
		h.send(optioned(s, sent))
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		prober, err := h.s.NewProber(new(heard))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := prober.Within(c); err != syscall.EOPNOTSUPP {
			t.Errorf("probes within a connection with options: %v", err)
		}
		prober.Close()
		set := c.HeaderOptions()
		if got := set.IPOptions(); !bytes.Equal(got, received) {
			t.Errorf("the connection has %x, want %x", got, received)
		}
		if _, err := c.Write(make([]byte, 9000)); err != nil {
			t.Fatal(err)
		}
		out = segmentsOf(t, h.send(), peerIP6)
		check("data", out)
		if n := out[0].PayloadLen(); n != 1460-16 || out[0].size != 1500 {
			t.Errorf("segments of %d bytes, packets of %d", n, out[0].size)
		}
		// Other options, while it lasts, and none.
		var o stack.HeaderOptions
		if err := o.SetIPOptions([]byte{1, 1, 1}); err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			o    stack.HeaderOptions
			size int
			opts []byte
		}{{o, 1456, []byte{1, 1, 1, 0}}, {stack.HeaderOptions{}, 1460, nil}} {
			s.Ack = out[len(out)-1].Seq + seq.Num(out[len(out)-1].PayloadLen())
			h.send(optioned(s, nil))
			c.SetHeaderOptions(step.o)
			c.Write(make([]byte, 9000))
			out = segmentsOf(t, h.send(), peerIP6)
			if len(out) == 0 || out[0].PayloadLen() != step.size || !bytes.Equal(out[0].below, step.opts) {
				t.Errorf("with %x: %d segments, the first of %d with %x", step.opts, len(out), out[0].PayloadLen(), out[0].below)
			}
		}
		// A reset, and an error, to who has options of his own.
		s = tcp.Segment{SrcPort: 4001, DstPort: 81, Seq: 1000, Flags: tcp.FlagSYN, Window: 65535}
		check("reset", segmentsOf(t, h.send(optioned(s, sent)), peerIP6))
		frames := h.send(ip4(ipv4.ProtoUDP, datagram(false, 9, 9, make([]byte, 600))[34:], func(f *ipv4.Fields) { f.Options = sent }))
		if len(frames) != 1 || !bytes.Equal(header4(frames[0]).Options(), want) || len(frames[0]) != 14+576 {
			t.Errorf("unreachable: %x", frames)
		}
		c.Abort()
		l.Close()
	}
}

// TestConnHeaders: a connection over IPv6 has the headers that were set in all of
// its segments, and one that was accepted those of its listener.
func TestConnHeaders(t *testing.T) {
	hop := []byte{0, 0, 0x1e, 4, 1, 2, 3, 4}
	dst := append([]byte{0, 2, 0x1f, 20}, make([]byte, 20)...)
	var o stack.HeaderOptions
	for k, b := range map[stack.HeaderKind][]byte{stack.HeaderHopByHop: hop, stack.HeaderDestination: dst, stack.HeaderBeforeRouting: hop} {
		if err := o.SetHeader(k, b); err != nil {
			t.Fatal(err)
		}
	}
	want := append([]byte{ipv6.ProtoDestOpts}, hop[1:]...)
	want = append(append(want, ipv4.ProtoTCP), dst[1:]...)
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
	check := func(what string, list []onWire) {
		t.Helper()
		if len(list) == 0 {
			t.Errorf("%s: nothing", what)
		}
		for _, w := range list {
			if !bytes.Equal(w.below, want) || w.next != ipv6.ProtoHopByHop || w.size > 1500 {
				t.Errorf("%s: %d bytes, %d first: %x, want %x", what, w.size, w.next, w.below, want)
			}
		}
	}
	full := func(what string, c *stack.TCPConn, n int) {
		t.Helper()
		c.Write(make([]byte, 9000))
		list := segmentsOf(t, h.send(), peerIP6)
		check(what, list)
		if len(list) > 0 && list[0].PayloadLen() != n {
			t.Errorf("%s: segments of %d bytes, want %d", what, list[0].PayloadLen(), n)
		}
	}
	c, err := h.s.DialTCPWith(netip.AddrPort{}, netip.AddrPortFrom(peerIP6, 80), stack.DialOptions{Headers: o})
	if err != nil {
		t.Fatal(err)
	}
	out := segmentsOf(t, h.send(), peerIP6)
	check("SYN", out)
	if out[0].Options.MSS != 1440 {
		t.Errorf("announced %d", out[0].Options.MSS)
	}
	s := tcp.Segment{SrcPort: 80, DstPort: out[0].SrcPort, Seq: 1, Ack: out[0].Seq + 1, Flags: tcp.FlagSYN | tcp.FlagACK, Window: 65535}
	s.Options.MSS = 1400
	h.send(segmentOf(true, s, nil))
	full("data", c, 1400-len(want))
	c.Abort()
	h.send()

	l := h.listen(80, 5)
	l.SetHeaderOptions(o)
	out = segmentsOf(t, h.send(syn(true, 4000, 80, 1000, 1440)), peerIP6)
	check("SYN-ACK", out)
	h.send(segment(true, 4000, 80, 1001, uint32(out[0].Seq)+1, tcp.FlagACK, nil))
	if c, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	full("data of an accepted one", c, 1440-len(want))
	c.Abort()
	l.Close()
}

// TestRoutingHeaderSent: with a routing header a packet goes to its first segment,
// the last one is the peer's, and the checksum is made with that (RFC 8200 §8.1).
// What routers say of such a packet comes to who sent it.
func TestRoutingHeaderSent(t *testing.T) {
	far := netip.MustParseAddr("2001:db8:99::9")
	a := peerIP6.As16()
	f := far.As16()
	two := append([]byte{0, 2, 2, 1, 0, 0, 0, 0}, a[:]...)
	four := append(append([]byte{0, 4, 4, 1, 1, 0, 0, 0}, make([]byte, 16)...), a[:]...)
	before := []byte{0, 0, 0x1e, 4, 1, 2, 3, 4}
	for _, rh := range [][]byte{two, four} {
		var o stack.HeaderOptions
		if o.SetHeader(stack.HeaderRouting, rh) != nil || o.SetHeader(stack.HeaderBeforeRouting, before) != nil {
			t.Fatal("refused")
		}
		filled := append([]byte(nil), rh...)
		copy(filled[8:], f[:])
		filled[0] = ipv4.ProtoTCP
		want := append(append([]byte{ipv6.ProtoRouting}, before[1:]...), filled...)
		h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
		c, err := h.s.DialTCPWith(netip.AddrPort{}, netip.AddrPortFrom(far, 80), stack.DialOptions{Headers: o})
		if err != nil {
			t.Fatal(err)
		}
		if c.RemoteAddr() != netip.AddrPortFrom(far, 80) {
			t.Errorf("connected to %v", c.RemoteAddr())
		}
		frames := h.send()
		out := segmentsOf(t, frames, far)
		if len(out) != 1 || out[0].to != peerIP6 || !bytes.Equal(out[0].below, want) || out[0].next != ipv6.ProtoDestOpts {
			t.Fatalf("%+v, want %x", out, want)
		}
		// A router on the way does not know the port's host.
		m := make([]byte, icmp.HeaderLen)
		icmp.Put(m, icmp.TypeUnreachable6, icmp.CodeAddress6, [4]byte{})
		m = append(m, frames[len(frames)-1][14:]...)
		icmp.SetChecksum6(m, peerIP6, hostIP6)
		h.send(ip6(ipv6.ProtoICMPv6, m, nil))
		if c.Err() == nil {
			t.Error("the error did not come to the connection")
		}

		// A datagram, and an error about it.
		u := newUDP(t, h.s)
		u.SetHeaderOptions(o)
		if err := u.Connect(netip.AddrPortFrom(far, 7)); err != nil {
			t.Fatal(err)
		}
		if u.RemoteAddr() != netip.AddrPortFrom(far, 7) {
			t.Errorf("connected to %v", u.RemoteAddr())
		}
		if err := u.SendTo([]byte("x"), netip.AddrPort{}); err != nil {
			t.Fatal(err)
		}
		frame := h.send()[0]
		p := frame[14:]
		proto, at, _, _ := ipv6.Skip(p)
		if b := p[at:]; proto != ipv4.ProtoUDP || ipv6.Header(p).Dst() != peerIP6 || csum.Sum(b, csum.Pseudo(hostIP6, far, ipv4.ProtoUDP, len(b))) != 0xffff {
			t.Errorf("datagram: %x", p)
		}
		m = append(m[:icmp.HeaderLen], p...)
		icmp.Put(m, icmp.TypeUnreachable6, icmp.CodePort6, [4]byte{})
		icmp.SetChecksum6(m, peerIP6, hostIP6)
		h.send(ip6(ipv6.ProtoICMPv6, m, nil))
		if err := u.TakeError(); err == nil {
			t.Error("the error did not come to the socket")
		}
	}
}

// TestReflectedLabels: answers have the label of what they answer if that is wished,
// kind by kind.
func TestReflectedLabels(t *testing.T) {
	labelled := func(b []byte, l uint32) []byte {
		binary.BigEndian.PutUint32(b[14:], 6<<28|l)
		return b
	}
	for which := range stack.FlowLabelReflection(4) {
		h := newTestHost(t, stack.Config{IPv6: stack.IPv6Config{ReflectFlowLabel: which}}, stack.InterfaceConfig{}).meet()
		l := h.listen(80, 5)
		labels := func(what string, reflected bool, want uint32, frames [][]byte) {
			t.Helper()
			list := segmentsOf(t, frames, peerIP6)
			if len(list) == 0 {
				t.Errorf("%s: nothing", what)
			}
			for _, w := range list {
				if (w.label == want) != reflected {
					t.Errorf("reflecting %d, %s: label %x, came with %x", which, what, w.label, want)
				}
			}
		}
		conn := which&stack.ReflectConnections != 0
		frames := h.send(labelled(syn(true, 4000, 80, 1000, 1440), 0xaaaaa))
		labels("SYN-ACK", conn, 0xaaaaa, frames)
		ack := uint32(segmentsOf(t, frames, peerIP6)[0].Seq) + 1
		h.send(labelled(segment(true, 4000, 80, 1001, ack, tcp.FlagACK, nil), 0xbbbbb))
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte("hello"))
		labels("data", conn, 0xbbbbb, h.send())
		frames = h.send(labelled(segment(true, 4001, 81, 1000, 0, tcp.FlagSYN, nil), 0xccccc))
		labels("reset", which&stack.ReflectResets != 0, 0xccccc, frames)
		c.Abort()
		l.Close()
	}
}

// TestSynOptionsKept: what a half-open connection has to answer with is kept as
// long as it is one, and charged to the memory budget; without memory the answers
// go without.
func TestSynOptionsKept(t *testing.T) {
	route := append([]byte{ipv4.OptRecordRoute, 7, 4, 0, 0, 0, 0}, 0)
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
	if err := h.s.Neighbours().Set(h.i, peerIP4, peerMAC); err != nil {
		t.Fatal(err)
	}
	l := h.listen(80, 5)
	open := func(sport uint16) []onWire {
		s := tcp.Segment{SrcPort: sport, DstPort: 80, Seq: 1000, Flags: tcp.FlagSYN, Window: 65535}
		return segmentsOf(t, h.send(optioned(s, route)), peerIP6)
	}
	want := func(n int, what string) {
		t.Helper()
		if got := h.s.SynOptions(); got != n {
			t.Errorf("%s: %d, want %d", what, got, n)
		}
	}
	open(4000)
	open(4001)
	out := open(4002)
	want(3, "half-open")
	h.send(segment(false, 4000, 80, 1001, 0, tcp.FlagRST, nil))
	want(2, "one was reset")
	h.send(segment(false, 4002, 80, 1001, uint32(out[0].Seq)+1, tcp.FlagACK, nil))
	want(1, "one is a connection")
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	h.run(5 * time.Minute)
	want(0, "the last has timed out")
	open(4003)
	want(1, "half-open again")

	// A FIN that comes again in TIME-WAIT is answered with its record.
	c.Close()
	out = segmentsOf(t, h.send(), peerIP6)
	fin := tcp.Segment{SrcPort: 4002, DstPort: 80, Seq: 1001, Ack: out[0].Seq + 1, Flags: tcp.FlagACK | tcp.FlagFIN, Window: 65535}
	h.send(optioned(fin, nil))
	if c.State() != tcp.Closed && c.State() != tcp.TimeWait {
		t.Fatalf("in %v", c.State())
	}
	stamps := append([]byte{ipv4.OptTimestamp, 12, 5, 0}, make([]byte, 8)...)
	out = segmentsOf(t, h.send(optioned(fin, stamps)), peerIP6)
	if len(out) != 1 || len(out[0].below) != 12 || out[0].below[2] != 13 {
		t.Errorf("answered in TIME-WAIT: %+v", out)
	}
	l.Close()
	want(0, "the listener is closed")
}
