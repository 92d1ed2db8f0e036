package ipv6

import (
	"bytes"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/tapstack/tapstack/ether"
)

// header returns a fixed header as neighbour discovery wants it.
func header(src, dst netip.Addr) Header {
	b := packet(src, dst, ProtoICMPv6, nil)
	b[7] = NDHopLimit
	return Header(b)
}

// ndCase is one bullet of a validation section: what is done to a valid
// message, and how the receiver must take it.
type ndCase struct {
	name     string
	src, dst netip.Addr // zero: the valid ones
	edit     func(h Header, body []byte) []byte
	want     Drop
}

// runND runs cases against a message that is valid as it is; all messages obey
// some rules in common, which are added here.
func runND(t *testing.T, src, dst netip.Addr, valid []byte, parse func(Header, []byte) Drop, cases []ndCase) {
	t.Helper()
	common := []ndCase{
		{name: "valid"},
		{name: "hop limit 254", edit: func(h Header, b []byte) []byte { h[7] = 254; return b }, want: DropHopLimit},
		{name: "hop limit 0", edit: func(h Header, b []byte) []byte { h[7] = 0; return b }, want: DropHopLimit},
		{name: "code 1", edit: func(h Header, b []byte) []byte { b[1] = 1; return b }, want: DropCode},
		{name: "reserved bits", edit: func(h Header, b []byte) []byte { b[7] = 0xff; return b }},
		{name: "option of length zero", edit: func(h Header, b []byte) []byte { return append(b, 200, 0, 0, 0, 0, 0, 0, 0) }, want: DropOption},
		{name: "option longer than the message", edit: func(h Header, b []byte) []byte { return append(b, 200, 2, 0, 0, 0, 0, 0, 0) }, want: DropOption},
		{name: "one byte left over (PyTCP crash 11)", edit: func(h Header, b []byte) []byte { return append(b, 1) }, want: DropOption},
		{name: "seven bytes left over", edit: func(h Header, b []byte) []byte { return append(b, 1, 1, 2, 0, 0, 0, 0) }, want: DropOption},
		{name: "unknown option is skipped", edit: func(h Header, b []byte) []byte { return append(b, 200, 1, 1, 2, 3, 4, 5, 6) }},
		{name: "empty", edit: func(h Header, b []byte) []byte { return nil }, want: DropShort},
	}
	for _, c := range append(common, cases...) {
		if !c.src.IsValid() {
			c.src = src
		}
		if !c.dst.IsValid() {
			c.dst = dst
		}
		h, body := header(c.src, c.dst), bytes.Clone(valid)
		if c.edit != nil {
			body = c.edit(h, body)
		}
		if got := parse(h, body); got != c.want {
			t.Errorf("%s: got %v want %v", c.name, got, c.want)
		}
	}
}

func cut(n int) func(Header, []byte) []byte {
	return func(_ Header, b []byte) []byte { return b[:n] }
}

func add(opt ...byte) func(Header, []byte) []byte {
	return func(_ Header, b []byte) []byte { return append(b, opt...) }
}

// badLinkAddresses are the ways in which option typ can be wrong.
func badLinkAddresses(typ byte) []ndCase {
	return []ndCase{
		{name: "link-layer address of 14 bytes", edit: add(typ, 2, 2, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0), want: DropLinkAddress},
		{name: "group as link-layer address", edit: add(typ, 1, 1, 0, 0, 0, 0, 7), want: DropLinkAddress},
		{name: "broadcast as link-layer address", edit: add(typ, 1, 255, 255, 255, 255, 255, 255), want: DropLinkAddress},
		{name: "zero link-layer address", edit: add(typ, 1, 0, 0, 0, 0, 0, 0), want: DropLinkAddress},
	}
}

// RFC 4861 §7.1.1, bullet by bullet.
func TestNeighborSolicitValidation(t *testing.T) {
	m := NeighborSolicit{Target: globalA}
	parse := func(h Header, b []byte) Drop { _, d := ParseNeighborSolicit(h, b); return d }
	runND(t, hostB, SolicitedNode(globalA), m.Append(nil), parse, append(badLinkAddresses(optSourceLink),
		ndCase{name: "23 bytes", edit: cut(23), want: DropShort},
		ndCase{name: "multicast target", edit: func(_ Header, b []byte) []byte { b[8] = 0xff; return b }, want: DropTarget},
		ndCase{name: "DAD", src: nobody},
		ndCase{name: "DAD to unicast", src: nobody, dst: globalA, want: DropDestination},
		ndCase{name: "DAD to all nodes", src: nobody, dst: AllNodes, want: DropDestination},
		ndCase{name: "DAD with link-layer address", src: nobody, edit: add(optSourceLink, 1, 2, 0, 0, 0, 0, 7), want: DropLinkAddress},
		ndCase{name: "DAD with nonce", src: nobody, edit: add(optNonce, 1, 1, 2, 3, 4, 5, 6)},
		ndCase{name: "unicast probe", dst: globalA},
	))
}

// RFC 4861 §7.1.2, bullet by bullet.
func TestNeighborAdvertValidation(t *testing.T) {
	m := NeighborAdvert{Target: globalA, Solicited: true}
	parse := func(h Header, b []byte) Drop { _, d := ParseNeighborAdvert(h, b); return d }
	runND(t, hostB, hostA, m.Append(nil), parse, append(badLinkAddresses(optTargetLink),
		ndCase{name: "23 bytes", edit: cut(23), want: DropShort},
		ndCase{name: "multicast target", edit: func(_ Header, b []byte) []byte { b[8] = 0xff; return b }, want: DropTarget},
		ndCase{name: "solicited, to all nodes", dst: AllNodes, want: DropFlags},
		ndCase{name: "unsolicited, to all nodes", dst: AllNodes, edit: func(_ Header, b []byte) []byte { b[4] &^= 0x40; return b }},
	))
}

// RFC 4861 §6.1.1, bullet by bullet.
func TestRouterSolicitValidation(t *testing.T) {
	var m RouterSolicit
	parse := func(h Header, b []byte) Drop { _, d := ParseRouterSolicit(h, b); return d }
	runND(t, hostB, AllRouters, m.Append(nil), parse, append(badLinkAddresses(optSourceLink),
		ndCase{name: "7 bytes", edit: cut(7), want: DropShort},
		ndCase{name: "unspecified source", src: nobody},
		ndCase{name: "unspecified source with link-layer address", src: nobody, edit: add(optSourceLink, 1, 2, 0, 0, 0, 0, 7), want: DropLinkAddress},
	))
}

// RFC 4861 §6.1.2, bullet by bullet.
func TestRouterAdvertValidation(t *testing.T) {
	m := RouterAdvert{Lifetime: 30 * time.Minute}
	parse := func(h Header, b []byte) Drop { _, d := ParseRouterAdvert(h, b); return d }
	runND(t, hostB, AllNodes, m.Append(nil), parse, append(badLinkAddresses(optSourceLink),
		ndCase{name: "15 bytes", edit: cut(15), want: DropShort},
		ndCase{name: "global source", src: globalA, want: DropSource},
		ndCase{name: "unspecified source", src: nobody, want: DropSource},
	))
}

// RFC 4861 §8.1, bullet by bullet.
func TestRedirectValidation(t *testing.T) {
	m := Redirect{Target: hostA, Destination: globalA}
	parse := func(h Header, b []byte) Drop { _, d := ParseRedirect(h, b); return d }
	runND(t, hostB, globalA, m.Append(nil), parse, append(badLinkAddresses(optTargetLink),
		ndCase{name: "39 bytes", edit: cut(39), want: DropShort},
		ndCase{name: "global source", src: globalA, want: DropSource},
		ndCase{name: "multicast destination", edit: func(_ Header, b []byte) []byte { b[24] = 0xff; return b }, want: DropTarget},
		ndCase{name: "target neither link-local nor the destination", edit: func(_ Header, b []byte) []byte { b[8] = 0x20; return b }, want: DropTarget},
		ndCase{name: "target is the destination", edit: func(_ Header, b []byte) []byte { copy(b[8:24], b[24:40]); return b }},
	))
}

func TestNDRoundTrip(t *testing.T) {
	ns := NeighborSolicit{Target: globalA, SourceMAC: mac, HasMAC: true, Nonce: [6]byte{1, 2, 3, 4, 5, 6}, HasNonce: true}
	if got, d := ParseNeighborSolicit(header(hostB, hostA), ns.Append(nil)); d != DropNone || got != ns {
		t.Errorf("%v %+v", d, got)
	}
	for _, na := range []NeighborAdvert{
		{Target: globalA, Router: true, TargetMAC: mac, HasMAC: true}, {Target: globalA, Solicited: true}, {Target: globalA, Override: true},
	} {
		if got, d := ParseNeighborAdvert(header(hostB, hostA), na.Append(nil)); d != DropNone || got != na {
			t.Errorf("%v %+v", d, got)
		}
	}
	rs := RouterSolicit{SourceMAC: mac, HasMAC: true}
	if got, d := ParseRouterSolicit(header(hostB, AllRouters), rs.Append(nil)); d != DropNone || got != rs {
		t.Errorf("%v %+v", d, got)
	}
	for _, quoted := range [][]byte{nil, bytes.Repeat([]byte{1}, 64)} {
		rd := Redirect{Target: hostA, Destination: globalA, TargetMAC: mac, HasMAC: true, Quoted: quoted}
		if got, d := ParseRedirect(header(hostB, hostA), rd.Append(nil)); d != DropNone || !reflect.DeepEqual(got, rd) {
			t.Errorf("%v %+v", d, got)
		}
	}
	ra := RouterAdvert{
		HopLimit: 64, Managed: true, Other: true, Lifetime: 1800 * time.Second,
		Reachable: 30 * time.Second, Retrans: time.Second, SourceMAC: mac, HasMAC: true, MTU: 1480,
		Prefixes: []PrefixInfo{
			{Prefix: netip.MustParsePrefix("2001:db8:1::/64"), OnLink: true, Autonomous: true, Valid: 2592000 * time.Second, Preferred: 604800 * time.Second},
			{Prefix: netip.MustParsePrefix("2001:db8:2::/48"), OnLink: true, Valid: Infinite, Preferred: Infinite},
		},
		RDNSS: []DNSServer{{Addr: globalA, Lifetime: 20 * time.Minute}, {Addr: hostB, Lifetime: Infinite}},
		Flags: RAManaged | RAOther | RAProxy | RAFlag(8) | RAFlag(55),
	}
	if got, d := ParseRouterAdvert(header(hostB, AllNodes), ra.Append(nil)); d != DropNone || !reflect.DeepEqual(got, ra) {
		t.Errorf("%v\n got %+v\nwant %+v", d, got, ra)
	}
}

// Options of an advertisement that are understood but malformed are skipped
// and the rest counts.
func TestRouterAdvertSkipsMalformedOptions(t *testing.T) {
	base := RouterAdvert{Lifetime: time.Minute}
	good := PrefixInfo{Prefix: netip.MustParsePrefix("2001:db8::/64"), Autonomous: true, Valid: time.Hour, Preferred: time.Hour}
	prefixOption := (&RouterAdvert{Prefixes: []PrefixInfo{good}}).Append(nil)[routerAdvertLen:]
	long := bytes.Clone(prefixOption)
	long[2] = 129
	for _, c := range []struct {
		name string
		opt  []byte
	}{
		{"prefix length 129 (PyTCP crash 9)", long},
		{"prefix information of length 1 (PyTCP crash 10)", []byte{optPrefixInfo, 1, 64, 0xc0, 0, 0, 0, 1}},
		{"prefix information of length 5", append(bytes.Clone(prefixOption[:1]), append([]byte{5}, make([]byte, 38)...)...)},
		{"MTU of length 2", append([]byte{optMTU, 2}, make([]byte, 14)...)},
		{"name servers of length 1", []byte{optRDNSS, 1, 0, 0, 0, 0, 0, 1}},
		{"name servers of even length", append([]byte{optRDNSS, 4}, make([]byte, 30)...)},
		{"unspecified name server", append([]byte{optRDNSS, 3}, make([]byte, 22)...)},
	} {
		body := append(append(base.Append(nil), c.opt...), prefixOption...)
		ra, d := ParseRouterAdvert(header(hostB, AllNodes), body)
		if d != DropNone || ra.Ignored != 1 || len(ra.Prefixes) != 1 || ra.Prefixes[0] != good || ra.MTU != 0 || ra.RDNSS != nil {
			t.Errorf("%s: %v %+v", c.name, d, ra)
		}
	}
	// Host bits behind the prefix are ignored.
	prefixOption[31] = 0xff
	if ra, _ := ParseRouterAdvert(header(hostB, AllNodes), append(base.Append(nil), prefixOption...)); ra.Prefixes[0] != good {
		t.Errorf("host bits: %+v", ra.Prefixes[0])
	}
}

func TestRouterAdvertIsBounded(t *testing.T) {
	var m RouterAdvert
	for i := range 2 * MaxPrefixes {
		a := globalA.As16()
		a[7] = byte(i)
		m.Prefixes = append(m.Prefixes, PrefixInfo{Prefix: netip.PrefixFrom(netip.AddrFrom16(a), 64).Masked()})
		m.RDNSS = append(m.RDNSS, DNSServer{Addr: netip.AddrFrom16(a)})
	}
	got, d := ParseRouterAdvert(header(hostB, AllNodes), m.Append(nil))
	if d != DropNone || len(got.Prefixes) != MaxPrefixes || len(got.RDNSS) != MaxDNSServers || got.Ignored != 3*MaxPrefixes-MaxDNSServers {
		t.Errorf("%v: %d prefixes, %d servers, %d ignored", d, len(got.Prefixes), len(got.RDNSS), got.Ignored)
	}
}

func TestNeighborMessagesDoNotAllocate(t *testing.T) {
	ns := NeighborSolicit{Target: globalA, SourceMAC: mac, HasMAC: true}
	na := NeighborAdvert{Target: globalA, TargetMAC: mac, HasMAC: true}
	h, b := header(hostB, hostA), make([]byte, 0, 64)
	if n := testing.AllocsPerRun(100, func() {
		if _, d := ParseNeighborSolicit(h, ns.Append(b)); d != DropNone {
			panic(d)
		}
		if _, d := ParseNeighborAdvert(h, na.Append(b)); d != DropNone {
			panic(d)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzND parses any of the five messages, writes what was understood, and
// parses that again; gopacket has to read the same from the original.
func FuzzND(f *testing.F) {
	ns := NeighborSolicit{Target: globalA, SourceMAC: mac, HasMAC: true, HasNonce: true}
	na := NeighborAdvert{Target: globalA, Override: true, TargetMAC: mac, HasMAC: true}
	rs := RouterSolicit{SourceMAC: mac, HasMAC: true}
	ra := RouterAdvert{MTU: 1500, Prefixes: []PrefixInfo{{Prefix: netip.MustParsePrefix("2001:db8::/64"), Valid: Infinite}}, RDNSS: []DNSServer{{Addr: globalA}}, Flags: RAHomeAgent | RAFlag(20)}
	rd := Redirect{Target: hostA, Destination: globalA}
	for _, b := range [][]byte{ns.Append(nil), na.Append(nil), rs.Append(nil), ra.Append(nil), rd.Append(nil)} {
		f.Add(b)
	}
	h := header(hostB, AllNodes)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		switch b[0] {
		case typeNeighborSolicit:
			if m, d := ParseNeighborSolicit(h, b); d == DropNone {
				again, _ := ParseNeighborSolicit(h, m.Append(nil))
				mustEqual(t, m, again)
				var g layers.ICMPv6NeighborSolicitation
				if g.DecodeFromBytes(b[4:], gopacket.NilDecodeFeedback) == nil {
					mustEqual(t, m.Target.AsSlice(), []byte(g.TargetAddress))
					mustEqualLink(t, layers.ICMPv6OptSourceAddress, g.Options, m.SourceMAC, m.HasMAC)
				}
			}
		case typeNeighborAdvert:
			if m, d := ParseNeighborAdvert(h, b); d == DropNone {
				again, _ := ParseNeighborAdvert(h, m.Append(nil))
				mustEqual(t, m, again)
				var g layers.ICMPv6NeighborAdvertisement
				if g.DecodeFromBytes(b[4:], gopacket.NilDecodeFeedback) == nil {
					mustEqual(t, m.Target.AsSlice(), []byte(g.TargetAddress))
					mustEqual(t, [3]bool{m.Router, m.Solicited, m.Override}, [3]bool{g.Router(), g.Solicited(), g.Override()})
					mustEqualLink(t, layers.ICMPv6OptTargetAddress, g.Options, m.TargetMAC, m.HasMAC)
				}
			}
		case typeRouterSolicit:
			if m, d := ParseRouterSolicit(h, b); d == DropNone {
				again, _ := ParseRouterSolicit(h, m.Append(nil))
				mustEqual(t, m, again)
				var g layers.ICMPv6RouterSolicitation
				if g.DecodeFromBytes(b[4:], gopacket.NilDecodeFeedback) == nil {
					mustEqualLink(t, layers.ICMPv6OptSourceAddress, g.Options, m.SourceMAC, m.HasMAC)
				}
			}
		case typeRouterAdvert:
			if m, d := ParseRouterAdvert(h, b); d == DropNone {
				again, _ := ParseRouterAdvert(h, m.Append(nil))
				if len(m.Prefixes) > MaxPrefixes || len(m.RDNSS) > MaxDNSServers {
					t.Fatal("unbounded")
				}
				for _, p := range m.Prefixes {
					if !p.Prefix.IsValid() || p.Prefix != p.Prefix.Masked() {
						t.Fatalf("prefix %v", p.Prefix)
					}
				}
				m.Ignored = 0
				mustEqual(t, m, again)
				var g layers.ICMPv6RouterAdvertisement
				if g.DecodeFromBytes(b[4:], gopacket.NilDecodeFeedback) == nil {
					mustEqual(t, m.HopLimit, g.HopLimit)
					mustEqual(t, m.Lifetime, time.Duration(g.RouterLifetime)*time.Second)
					mustEqual(t, m.Retrans, time.Duration(g.RetransTimer)*time.Millisecond)
					mustEqual(t, [2]bool{m.Managed, m.Other}, [2]bool{g.ManagedAddressConfig(), g.OtherConfig()})
					mustEqualLink(t, layers.ICMPv6OptSourceAddress, g.Options, m.SourceMAC, m.HasMAC)
				}
			}
		case typeRedirect:
			if m, d := ParseRedirect(h, b); d == DropNone {
				again, _ := ParseRedirect(h, m.Append(nil))
				mustEqual(t, m, again)
				var g layers.ICMPv6Redirect
				if g.DecodeFromBytes(b[4:], gopacket.NilDecodeFeedback) == nil {
					mustEqual(t, m.Destination.AsSlice(), []byte(g.DestinationAddress))
					mustEqualLink(t, layers.ICMPv6OptTargetAddress, g.Options, m.TargetMAC, m.HasMAC)
				}
			}
		}
	})
}

func mustEqual[T any](t *testing.T, a, b T) {
	t.Helper()
	if !reflect.DeepEqual(a, b) {
		t.Fatalf("\n%+v\n%+v", a, b)
	}
}

// mustEqualLink compares with the last link-layer address option gopacket saw.
func mustEqualLink(t *testing.T, typ layers.ICMPv6Opt, opts layers.ICMPv6Options, m ether.Addr, has bool) {
	t.Helper()
	var theirs ether.Addr
	theyHave := false
	for _, o := range opts {
		if o.Type == typ {
			theirs, theyHave = ether.Addr(o.Data), true
		}
	}
	if theyHave != has || theirs != m {
		t.Fatalf("gopacket %v %v, we %v %v", theirs, theyHave, m, has)
	}
}
