package stack_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/stack"
)

// withOptions is an echo request with IPv4 options.
func withOptions(opts ...byte) []byte {
	return echo4(1, 1, []byte("data"), func(f *ipv4.Fields) { f.Options = opts })
}

func header4(frame []byte) ipv4.Header {
	h, _ := ipv4.Parse(frame[14:])
	return h
}

// TestEchoWithOptions: an echo request's record route and timestamp come back in
// the reply, with this host in them twice, as Linux has it: as who received and
// as who sends (RFC 1122 §3.2.2.6). Others do not come back.
func TestEchoWithOptions(t *testing.T) {
	h := newTestHost(t, stack.Config{Limits: stack.Limits{ICMPErrorInterval: -1}}, stack.InterfaceConfig{}).meet()
	own := hostIP4.As4()
	route := func(ptr byte, size int, entries ...[4]byte) []byte {
		o := append([]byte{ipv4.OptRecordRoute, byte(size), ptr}, bytes.Join([][]byte{flat(entries), make([]byte, size)}, nil)[:size-3]...)
		return o
	}
	pad := func(b []byte) []byte { return append(b, make([]byte, -len(b)&3)...) }
	for _, c := range []struct {
		name string
		in   []byte
		want []byte
	}{
		{"record route", route(4, 39), pad(route(12, 39, own, own))},
		{"record route, one place", route(4, 7), pad(route(8, 7, own))},
		{"record route, full", route(8, 7, [4]byte{1, 2, 3, 4}), pad(route(8, 7, [4]byte{1, 2, 3, 4}))},
		{"no-operations before and behind", append([]byte{1, 1}, append(route(4, 11), 1)...), pad(route(12, 11, own, own))},
		{"router alert", ipv4.RouterAlert[:], nil},
		{"security", []byte{ipv4.OptSecurity, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, nil},
		{"unknown", []byte{0x5e, 4, 1, 2}, nil},
	} {
		out := h.send(withOptions(c.in...))
		if len(out) != 1 {
			t.Errorf("%s: %d answers", c.name, len(out))
			continue
		}
		parse(t, out[0])
		if got := header4(out[0]).Options(); !bytes.Equal(got, c.want) {
			t.Errorf("%s: answered with\n%x, want\n%x", c.name, got, c.want)
		}
	}

	// Timestamps: alone, with addresses, of given addresses, and too many.
	stamps := func(b []byte) (times []uint32, addrs []netip.Addr, over byte) {
		out := h.send(withOptions(b...))
		if len(out) != 1 {
			t.Fatalf("%x: %d answers", b, len(out))
		}
		for o := range ipv4.Walk(header4(out[0]).Options()) {
			for s := range o.Timestamps() {
				times, addrs = append(times, s.Time), append(addrs, s.Addr)
			}
			over = o.Data[1] >> 4
		}
		return times, addrs, over
	}
	times, _, _ := stamps(append([]byte{ipv4.OptTimestamp, 12, 5, 0}, make([]byte, 8)...))
	if len(times) != 2 || times[0] != times[1] || times[0] >= 86400_000 {
		t.Errorf("times %v", times)
	}
	times, addrs, _ := stamps(append([]byte{ipv4.OptTimestamp, 36, 5, 1}, make([]byte, 32)...))
	if len(times) != 2 || addrs[0] != hostIP4 || addrs[1] != hostIP4 {
		t.Errorf("times %v of %v", times, addrs)
	}
	given := append([]byte{ipv4.OptTimestamp, 20, 5, 3}, flat([][4]byte{own, {}, {10, 9, 9, 9}, {}})...)
	times, addrs, _ = stamps(given)
	if len(times) != 1 || addrs[0] != hostIP4 || times[0] == 0 {
		t.Errorf("given: times %v of %v", times, addrs)
	}
	if _, _, over := stamps(append([]byte{ipv4.OptTimestamp, 8, 9, 0x10}, 1, 2, 3, 4)); over != 2 {
		t.Errorf("overflow %d, want 2", over)
	}

	// Source routes are dropped without a word (RFC 7126 §4.3, §4.4), what cannot
	// be read is answered with where (RFC 1122 §3.2.2.5).
	for _, kind := range []byte{ipv4.OptLooseSourceRoute, ipv4.OptStrictSourceRoute} {
		if out := h.send(withOptions(kind, 7, 4, 10, 77, 0, 1, 0)); len(out) != 0 {
			t.Errorf("source route answered")
		}
	}
	if h.count("ipv4.drop.source-route") != 2 {
		t.Errorf("%v", drops(h.s))
	}
	for _, c := range []struct {
		opts []byte
		at   byte
	}{
		{[]byte{ipv4.OptRecordRoute, 7, 3, 0, 0, 0, 0, 0}, 22}, {[]byte{ipv4.OptRecordRoute, 8, 6, 0, 0, 0, 0, 0}, 22},
		{[]byte{1, ipv4.OptRecordRoute, 2, 0}, 22}, {[]byte{ipv4.OptTimestamp, 8, 4, 0, 0, 0, 0, 0}, 22},
		{[]byte{ipv4.OptTimestamp, 8, 5, 2, 0, 0, 0, 0}, 23}, {[]byte{ipv4.OptTimestamp, 8, 5, 1, 0, 0, 0, 0}, 22},
		{[]byte{ipv4.OptTimestamp, 4, 5, 0xf0}, 23}, {[]byte{ipv4.OptRouterAlert, 3, 0, 0}, 21},
		{[]byte{ipv4.OptRecordRoute, 3, 4, ipv4.OptRecordRoute, 3, 4, 0, 0}, 23},
		{[]byte{1, 1, 0x5e, 3}, 22}, {[]byte{0x5e, 1, 0, 0}, 20},
	} {
		f := withOptions(c.opts...)
		out := h.send(bytes.Clone(f))
		quotes(t, out, icmp.TypeParamProblem4, 0, f[14:])
		if len(out) == 1 && payloadOf(out[0])[4] != c.at {
			t.Errorf("options %x: pointer %d, want %d", c.opts, payloadOf(out[0])[4], c.at)
		}
	}
	group := echo4(1, 1, nil, func(f *ipv4.Fields) { f.Options, f.Dst = []byte{1, 1, 0x5e, 3}, netip.MustParseAddr("224.0.0.1") })
	copy(group, []byte{1, 0, 0x5e, 0, 0, 1})
	if out := h.send(group); len(out) != 0 {
		t.Error("a problem with what went to a group was reported")
	}
}

func flat(a [][4]byte) (b []byte) {
	for _, x := range a {
		b = append(b, x[:]...)
	}
	return b
}

// TestSocketOptionsOfIP: what a socket sets is in its datagrams, this host in
// what records, fragments have what they are to have, and what arrives is told.
func TestSocketOptionsOfIP(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
	u := newUDP(t, h.s)
	if err := u.Bind(netip.AddrPortFrom(hostIP4, 7)); err != nil {
		t.Fatal(err)
	}
	var set stack.HeaderOptions
	for _, bad := range [][]byte{{7, 3}, {1, 68, 8, 4, 0, 0, 0, 0, 0}, make([]byte, 41), {131, 7, 4, 1, 2, 3, 4}, {137, 3, 4}} {
		if err := set.SetIPOptions(bad); err == nil {
			t.Errorf("%x is taken", bad)
		}
	}
	// Router alert is copied to all fragments, record route is not.
	opts := append(ipv4.RouterAlert[:4:4], ipv4.OptRecordRoute, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0)
	if err := set.SetIPOptions(opts); err != nil {
		t.Fatal(err)
	}
	u.SetHeaderOptions(set)
	set = u.HeaderOptions()
	if got := set.IPOptions(); !bytes.Equal(got, append(opts, 0)) {
		t.Errorf("set %x", got)
	}
	peer := netip.AddrPortFrom(peerIP4, 7)
	if err := u.SendTo(make([]byte, 1500), peer); err != nil {
		t.Fatal(err)
	}
	out := h.d.take()
	if len(out) != 2 {
		t.Fatalf("%d fragments", len(out))
	}
	own := hostIP4.As4()
	want := append(append(ipv4.RouterAlert[:4:4], ipv4.OptRecordRoute, 11, 8), own[:]...)
	if got := header4(out[0]).Options(); !bytes.HasPrefix(got, want) || len(got) != 16 {
		t.Errorf("first fragment: %x, want %x", got, want)
	}
	if got := header4(out[1]).Options(); !bytes.Equal(got, ipv4.RouterAlert[:]) {
		t.Errorf("second fragment: %x", got)
	}
	if n := len(out[0]) - 14; n > 1500 {
		t.Errorf("fragment of %d bytes", n)
	}
	m := stack.NewSendInfo()
	m.Options = []byte{1, 1, 1}
	if err := u.SendMsg([]byte("x"), peer, &m); err != nil {
		t.Fatal(err)
	}
	if got := header4(h.d.take()[0]).Options(); !bytes.Equal(got, []byte{1, 1, 1, 0}) {
		t.Errorf("of the message: %x", got)
	}
	m.Options = []byte{7, 1}
	if err := u.SendMsg([]byte("x"), peer, &m); err == nil {
		t.Error("impossible options sent")
	}
	u.SetHeaderOptions(stack.HeaderOptions{})
	u.SendTo([]byte("x"), peer)
	if got := header4(h.d.take()[0]); got.Len() != 20 {
		t.Errorf("options stay: %x", got.Options())
	}

	// Received: recorded by us already, and once more in an answer.
	b := payloadOf(datagram(false, 7, 7, []byte("hello")))
	h.send(ip4(ipv4.ProtoUDP, b, func(f *ipv4.Fields) { f.Options = []byte{ipv4.OptRecordRoute, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0} }))
	var a stack.Arrival
	if _, err := u.RecvMsg(make([]byte, 9), false, &a); err != nil {
		t.Fatal(err)
	}
	if want := append(append([]byte{ipv4.OptRecordRoute, 11, 8}, own[:]...), 0, 0, 0, 0, 0); !bytes.Equal(a.Options, want) {
		t.Errorf("told %x, want %x", a.Options, want)
	}
	if want := append(append(append([]byte{ipv4.OptRecordRoute, 11, 12}, own[:]...), own[:]...), 0); !bytes.Equal(a.ReplyOptions(), want) {
		t.Errorf("to answer with %x, want %x", a.ReplyOptions(), want)
	}
}

// TestTimestampMessage is RFC 792's timestamp, by RFC 1122 §3.2.2.8.
func TestTimestampMessage(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
	ask := func(n int, change func(*ipv4.Fields), code byte) []byte {
		b := make([]byte, n)
		icmp.Put(b, icmp.TypeTimestamp4, code, [4]byte{0, 1, 0, 2})
		copy(b[8:], []byte{1, 2, 3, 4})
		icmp.SetChecksum4(b)
		return ip4(ipv4.ProtoICMP, b, change)
	}
	out := h.send(ask(20, nil, 0))
	if len(out) != 1 {
		t.Fatalf("%d answers", len(out))
	}
	b := payloadOf(out[0])
	got := binary.BigEndian.Uint32(b[12:])
	if b[0] != icmp.TypeTimestampReply4 || !bytes.Equal(b[4:12], []byte{0, 1, 0, 2, 1, 2, 3, 4}) || got != binary.BigEndian.Uint32(b[16:]) || got >= 86400_000 {
		t.Errorf("answered %x", b)
	}
	for name, f := range map[string][]byte{"short": ask(19, nil, 0), "code": ask(20, nil, 1),
		"broadcast": ask(20, func(f *ipv4.Fields) { f.Dst = netip.MustParseAddr("10.77.0.255") }, 0)} {
		if out := h.send(f); len(out) != 0 {
			t.Errorf("%s: answered", name)
		}
	}
	// RFC 6633, RFC 6918: what nobody uses is counted, and nothing happens.
	for _, typ := range []byte{4, 6, 15, 16, 17, 18, 30, 31, 37, 39} {
		b := make([]byte, 36)
		icmp.Put(b, typ, 0, [4]byte{})
		icmp.SetChecksum4(b)
		if out := h.send(ip4(ipv4.ProtoICMP, b, nil)); len(out) != 0 {
			t.Errorf("type %d answered", typ)
		}
	}
	if n := h.count("icmp.drop.deprecated"); n != 10 {
		t.Errorf("%d deprecated messages counted", n)
	}
}

// TestIdentifiers: what may be fragmented has a number that does not repeat soon
// for its destination, differs from one destination to another, and cannot be
// told from those of others (RFC 6864 §4, RFC 7739 §5.3); what may not has 0.
func TestIdentifiers(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
	for _, x := range []string{"10.77.0.1", "10.77.0.2"} {
		h.s.Neighbours().Set(h.i, netip.MustParseAddr(x), peerMAC)
	}
	u := newUDP(t, h.s)
	id := func(to string) uint16 {
		if err := u.SendTo([]byte("x"), addrPort(to)); err != nil {
			t.Fatal(err)
		}
		for _, f := range h.d.take() {
			if x, _, ok := ip4Of(f); ok && x.Protocol() == ipv4.ProtoUDP {
				if x.DF() != (x.ID() == 0) {
					t.Errorf("DF %v with identifier %d", x.DF(), x.ID())
				}
				return x.ID()
			}
		}
		t.Fatalf("nothing to %s", to)
		return 0
	}
	if n := id("10.77.0.1:9"); n != 0 {
		t.Errorf("atomic datagram with identifier %d", n)
	}
	u.Set(stack.DatagramMTUDiscover, stack.PMTUDont)
	seen := map[uint16]bool{}
	first := id("10.77.0.1:9")
	for range 1000 {
		n := id("10.77.0.1:9")
		if seen[n] {
			t.Fatalf("%d again", n)
		}
		seen[n] = true
	}
	// A pause adds a number at random, so that others who share the counter do
	// not see how much was sent.
	h.run(1e9)
	after := id("10.77.0.1:9")
	if d := after - first; d < 1002 || d > 2500 {
		t.Errorf("%d numbers on after 1000 datagrams and a second", d)
	}
	if n := id("10.77.0.2:9"); n-after < 100 || after-n < 100 {
		t.Errorf("to another host %d follows %d", n, after)
	}
}
