package dhcp

import (
	"bytes"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/tapstack/tapstack/ether"
)

var testMAC = ether.Addr{2, 0, 0, 0, 0, 7}

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// raw returns a reply with the bytes given as its options field.
func raw(options ...byte) []byte {
	m := Message{Op: OpReply, CHAddr: testMAC}
	return append(m.Append(nil)[:offOptions], options...)
}

func parse(t *testing.T, b []byte) *Message {
	t.Helper()
	m, d := ParseMessage(b)
	if d != DropNone {
		t.Fatal(d)
	}
	return m
}

// A message of PADs alone made PyTCP 2.7 loop for ever, and one cut short made
// it fail. Here one is a message without options and the other is dropped.
func TestPadAndTruncation(t *testing.T) {
	for n := range 400 {
		if m := parse(t, raw(make([]byte, n)...)); len(m.Options) != 0 {
			t.Fatal(m.Options)
		}
	}
	full := raw(0, 0, OptMessageType, 1, byte(ACK), 0, OptSubnetMask, 4, 255, 255, 255, 0, 0, 0, OptEnd, OptRouters, 200)
	if m := parse(t, full); len(m.Options) != 2 || m.Options.Type() != ACK {
		t.Error("PAD between options, or what follows END, was misread")
	}
	full = full[:len(full)-3]
	for n := range len(full) + 1 {
		m, d := ParseMessage(full[:n])
		want := DropNone
		switch at := n - offOptions; {
		case at < 0:
			want = DropShort
		case 3 <= at && at < 5 || 7 <= at && at < 12:
			want = DropOption
		}
		if d != want || (m == nil) != (d != DropNone) {
			t.Errorf("%d bytes: %v, want %v", n, d, want)
		}
	}
}

func TestParseDrops(t *testing.T) {
	edit := func(at int, v byte) []byte {
		b := raw(OptEnd)
		b[at] = v
		return b
	}
	for _, c := range []struct {
		name string
		b    []byte
		want Drop
	}{
		{"empty", nil, DropShort},
		{"htype", edit(1, 6), DropHardware},
		{"hlen 0", edit(2, 0), DropHardware},
		{"hlen 255", edit(2, 255), DropHardware},
		{"cookie", edit(236, 0), DropCookie},
		{"option without length", raw(OptRouters), DropOption},
		{"option too long", raw(OptRouters, 5, 1, 2, 3, 4), DropOption},
		{"overload 0", raw(OptOverload, 1, 0), DropOverload},
		{"overload 4", raw(OptOverload, 1, 4), DropOverload},
		{"overload empty", raw(OptOverload, 0), DropOverload},
		{"overload twice", raw(OptOverload, 1, 1, OptOverload, 1, 1), DropOverload},
	} {
		if _, d := ParseMessage(c.b); d != c.want {
			t.Errorf("%s: %v, want %v", c.name, d, c.want)
		}
	}
	for _, c := range []struct{ field, end int }{{1, offCookie}, {2, offFile}} {
		b := raw(OptOverload, 1, byte(c.field), OptEnd)
		b[c.end-1] = OptRouters // a code without length as its last byte
		if _, d := ParseMessage(b); d != DropOption {
			t.Errorf("overload %d: %v", c.field, d)
		}
	}
	names := map[string]bool{}
	for d := range NumDrops {
		names[d.Error()] = true
	}
	if len(names) != int(NumDrops) || names["dhcp: "] {
		t.Error("drops without a name of their own")
	}
}

func TestOverload(t *testing.T) {
	b := raw(OptDomainName, 2, 'a', 'b', OptOverload, 1, 3, OptMessageType, 1, byte(Offer), OptEnd)
	copy(b[offFile:], []byte{OptDomainName, 2, 'c', 'd', 0, OptMTU, 2, 5, 220, OptEnd, 9, 200})
	copy(b[offSName:], []byte{OptDomainName, 2, 'e', 'f'})
	m := parse(t, b)
	// RFC 3396 §5: options, then file, then sname.
	if got := m.Options.Domain(); got != "abcdef" {
		t.Errorf("%q", got)
	}
	if m.Options.MTU() != 1500 || m.File != "" || m.SName != "" || m.Options.Has(9) || m.Options.Has(OptOverload) {
		t.Errorf("%+v", m)
	}
	// Not overloaded, the fields are text.
	b = raw(OptEnd)
	copy(b[offFile:], "pxe.0\x00junk")
	copy(b[offSName:], strings.Repeat("s", 64))
	if m = parse(t, b); m.File != "pxe.0" || m.SName != strings.Repeat("s", 64) {
		t.Errorf("%q %q", m.File, m.SName)
	}
}

func TestLongOption(t *testing.T) {
	long := bytes.Repeat([]byte("0123456789"), 60)
	m := &Message{Op: OpReply, CHAddr: testMAC}
	m.Options.Set(OptMessage, long...)
	m.Options.Set(80)
	b := m.Append(nil)
	if n := bytes.Count(b, []byte{OptMessage, 255}); n != 2 {
		t.Errorf("%d parts of 255 bytes (RFC 3396 §4)", n)
	}
	got := parse(t, b)
	if !bytes.Equal(got.Options.Get(OptMessage), long) || !got.Options.Has(80) || len(got.Options) != 2 {
		t.Error("parts were not joined")
	}
	if got.Options.Text(OptMessage) != string(long) {
		t.Error("text")
	}
}

func TestTypedOptions(t *testing.T) {
	opt := func(code uint8, d ...byte) Options { return Options{{code, d}} }
	name := func(labels ...string) (b []byte) {
		for _, l := range labels {
			b = append(append(b, byte(len(l))), l...)
		}
		return b
	}
	long := strings.Repeat("x", 63)
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"mask /24", at(opt(1, 255, 255, 255, 0).PrefixLen()), "24 true"},
		{"mask /32", at(opt(1, 255, 255, 255, 255).PrefixLen()), "32 true"},
		{"mask /1", at(opt(1, 128, 0, 0, 0).PrefixLen()), "1 true"},
		{"mask /0", at(opt(1, 0, 0, 0, 0).PrefixLen()), "0 false"},
		{"mask with hole", at(opt(1, 255, 0, 255, 0).PrefixLen()), "8 false"},
		{"mask long", at(opt(1, 255, 0, 255, 0, 0).PrefixLen()), "0 false"},
		{"addr", opt(54, 10, 0, 0, 1).Addr(54), ip("10.0.0.1")},
		{"addr zero", opt(54, 0, 0, 0, 0).Addr(54), netip.Addr{}},
		{"addr group", opt(54, 224, 0, 0, 1).Addr(54), netip.Addr{}},
		{"addr loopback", opt(54, 127, 0, 0, 1).Addr(54), netip.Addr{}},
		{"addr broadcast", opt(54, 255, 255, 255, 255).Addr(54), netip.Addr{}},
		{"addr short", opt(54, 10, 0, 0).Addr(54), netip.Addr{}},
		{"addr empty", opt(54).Addr(54), netip.Addr{}},
		{"addrs", opt(6, 1, 1, 1, 1, 0, 0, 0, 0, 8, 8, 8, 8).Addrs(6), []netip.Addr{ip("1.1.1.1"), ip("8.8.8.8")}},
		{"addrs ragged", opt(6, 1, 1, 1, 1, 8).Addrs(6), []netip.Addr(nil)},
		{"addrs empty", opt(6).Addrs(6), []netip.Addr(nil)},
		{"seconds", at(opt(51, 0, 0, 14, 16).Seconds(51)), "1h0m0s true"},
		{"seconds max", at(opt(51, 255, 255, 255, 254).Seconds(51)), at(time.Duration(4294967294)*time.Second, true)},
		{"seconds infinite", at(opt(51, 255, 255, 255, 255).Seconds(51)), at(Infinite, true)},
		{"seconds short", at(opt(51, 1, 2).Seconds(51)), "0s false"},
		{"mtu", opt(26, 5, 220).MTU(), 1500},
		{"mtu 67", opt(26, 0, 67).MTU(), 0},
		{"mtu short", opt(26, 5).MTU(), 0},
		{"text with NULs", opt(12, 'h', 'i', 0, 0).Text(12), "hi"},
		{"text with control", opt(12, 'h', '\n').Text(12), ""},
		{"domain", opt(15, []byte("lab.example.\x00")...).Domain(), "lab.example"},
		{"domain injection", opt(15, []byte("a;rm -rf")...).Domain(), ""},
		{"domain empty label", opt(15, []byte("a..b")...).Domain(), ""},
		{"domain long", opt(15, []byte(strings.Repeat("a.", 130))...).Domain(), ""},
		{"type", opt(53, 2).Type(), Offer},
		{"type long", opt(53, 2, 2).Type(), MessageType(0)},
		{"type string", fmt.Sprint(NAK, MessageType(10)), "NAK unknown"},

		// RFC 3397's example in small: compression across names.
		{"search", opt(119, slices.Concat(name("eng", "apple", "com", ""), name("marketing"), []byte{0xc0, 4})...).Search(),
			[]string{"eng.apple.com", "marketing.apple.com"}},
		{"search to itself", opt(119, 0xc0, 0).Search(), []string(nil)},
		{"search loop", opt(119, slices.Concat(name("a"), []byte{0xc0, 0})...).Search(), []string(nil)},
		{"search two pointers", opt(119, slices.Concat(name("a", "b", ""), name("c"), []byte{0xc0, 0}, name("d"), []byte{0xc0, 5})...).Search(),
			[]string{"a.b", "c.a.b", "d.c.a.b"}},
		{"search forward", opt(119, slices.Concat(name("a"), []byte{0xc0, 4}, name("b", ""))...).Search(), []string(nil)},
		{"search cut pointer", opt(119, 1, 'a', 0xc0).Search(), []string(nil)},
		{"search cut label", opt(119, 5, 'a').Search(), []string(nil)},
		{"search unended", opt(119, 1, 'a').Search(), []string(nil)},
		{"search reserved", opt(119, 0x80, 'a', 0).Search(), []string(nil)},
		{"search too long", opt(119, name(long, long, long, long, "")...).Search(), []string(nil)},
		{"search bad label", opt(119, name("a b", "")...).Search(), []string(nil)},
		{"search root", opt(119, 0).Search(), []string(nil)},

		{"routes", opt(121, 0, 10, 0, 0, 1, 8, 10, 10, 0, 0, 2, 25, 192, 168, 1, 128, 0, 0, 0, 0, 32, 1, 2, 3, 4, 10, 0, 0, 3).Routes(),
			[]Route{{netip.MustParsePrefix("0.0.0.0/0"), ip("10.0.0.1")}, {netip.MustParsePrefix("10.0.0.0/8"), ip("10.0.0.2")},
				{netip.MustParsePrefix("192.168.1.128/25"), ip("0.0.0.0")}, {netip.MustParsePrefix("1.2.3.4/32"), ip("10.0.0.3")}}},
		{"routes unmasked", opt(121, 4, 255, 10, 0, 0, 1).Routes(), []Route{{netip.MustParsePrefix("240.0.0.0/4"), ip("10.0.0.1")}}},
		{"routes wide", opt(121, 33, 1, 2, 3, 4, 5, 10, 0, 0, 1).Routes(), []Route(nil)},
		{"routes cut", opt(121, 24, 1, 2, 3, 10, 0, 0).Routes(), []Route(nil)},
		{"routes bad gateway", opt(121, 0, 224, 0, 0, 1).Routes(), []Route(nil)},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s: %v, want %v", c.what, c.got, c.want)
		}
	}

	var o Options
	o.SetAddr(OptDNS, ip("1.1.1.1"), ip("8.8.8.8"))
	o.SetSeconds(OptT1, 90*time.Second)
	o.SetSeconds(OptT1, time.Hour)
	o.SetSeconds(OptT2, Infinite)
	t1, _ := o.Seconds(OptT1)
	t2, _ := o.Seconds(OptT2)
	if len(o) != 3 || len(o.Addrs(OptDNS)) != 2 || t1 != time.Hour || t2 != Infinite {
		t.Error(o)
	}
}

func at(v any, ok bool) string { return fmt.Sprint(v, " ", ok) }

func decodeOther(b []byte) (*layers.DHCPv4, error) {
	d := new(layers.DHCPv4)
	return d, d.DecodeFromBytes(b, gopacket.NilDecodeFeedback)
}

// compare checks a message against gopacket's reading of the same bytes.
func compare(t *testing.T, m *Message, b []byte) {
	t.Helper()
	d, err := decodeOther(b)
	if err != nil {
		t.Fatalf("gopacket: %v", err)
	}
	addr := func(b []byte) netip.Addr { a, _ := netip.AddrFromSlice(b); return a }
	if uint8(d.Operation) != m.Op || d.Xid != m.XID || d.Secs != m.Secs || (d.Flags&0x8000 != 0) != m.Broadcast || d.HardwareOpts != m.Hops ||
		addr(d.ClientIP) != m.CIAddr || addr(d.YourClientIP) != m.YIAddr || addr(d.NextServerIP) != m.SIAddr ||
		addr(d.RelayAgentIP) != m.GIAddr || !bytes.Equal(d.ClientHWAddr, m.CHAddr[:]) ||
		cString(d.File) != m.File || cString(d.ServerName) != m.SName {
		t.Fatalf("gopacket reads %+v, we %+v", d, m)
	}
	joined := map[uint8][]byte{}
	for _, o := range d.Options {
		if o.Type != layers.DHCPOptPad {
			joined[uint8(o.Type)] = append(joined[uint8(o.Type)], o.Data...)
		}
	}
	if len(joined) != len(m.Options) {
		t.Fatalf("gopacket reads options %v, we %v", d.Options, m.Options)
	}
	for _, o := range m.Options {
		if !bytes.Equal(joined[o.Code], o.Data) {
			t.Fatalf("option %d: gopacket %v, we %v", o.Code, joined[o.Code], o.Data)
		}
	}
}

func TestAgainstGopacket(t *testing.T) {
	m := &Message{Op: OpReply, Hops: 3, XID: 0xdeadbeef, Secs: 513, Broadcast: true, CIAddr: ip("10.0.0.1"), YIAddr: ip("10.0.0.2"),
		SIAddr: ip("10.0.0.3"), GIAddr: ip("10.0.0.4"), CHAddr: testMAC, SName: "server", File: "boot/file"}
	m.Options.Set(OptMessageType, byte(Offer))
	m.Options.SetAddr(OptRouters, ip("10.0.0.1"), ip("10.0.0.9"))
	m.Options.Set(OptMessage, bytes.Repeat([]byte{'m'}, 300)...)
	m.Options.Set(222)
	b := m.Append([]byte("before"))[6:]
	compare(t, m, b)
	if got := parse(t, b); !reflect.DeepEqual(got, m) {
		t.Errorf("%+v\n%+v", got, m)
	}
	if n := len((&Message{}).Append(nil)); n != 300 {
		t.Errorf("an empty message has %d bytes", n)
	}

	// And the other way round.
	d := &layers.DHCPv4{Operation: layers.DHCPOpReply, HardwareType: layers.LinkTypeEthernet, Xid: 7, Secs: 1, Flags: 0x8000,
		ClientIP: []byte{1, 2, 3, 4}, YourClientIP: []byte{5, 6, 7, 8}, NextServerIP: []byte{9, 9, 9, 9}, RelayAgentIP: []byte{8, 8, 8, 8},
		ClientHWAddr: testMAC[:], Options: layers.DHCPOptions{
			layers.NewDHCPOption(layers.DHCPOptMessageType, []byte{5}), layers.NewDHCPOption(layers.DHCPOptPad, nil),
			layers.NewDHCPOption(layers.DHCPOptDNS, []byte{1, 1, 1, 1}), layers.NewDHCPOption(layers.DHCPOptDNS, []byte{2, 2, 2, 2})}}
	buf := gopacket.NewSerializeBuffer()
	if err := d.SerializeTo(buf, gopacket.SerializeOptions{FixLengths: true}); err != nil {
		t.Fatal(err)
	}
	got := parse(t, buf.Bytes())
	compare(t, got, buf.Bytes())
	if got.Options.Type() != ACK || len(got.Options.Addrs(OptDNS)) != 2 {
		t.Error(got.Options)
	}
}

func FuzzParseMessage(f *testing.F) {
	f.Add(raw(OptMessageType, 1, 5, OptSubnetMask, 4, 255, 255, 255, 0, OptDNS, 4, 1, 1, 1, 1, OptEnd))
	f.Add(raw(OptOverload, 1, 3, OptRoutes, 5, 0, 1, 2, 3, 4, OptRoutes, 6, 8, 10, 1, 2, 3, 4))
	f.Add(raw(OptDomainSearch, 9, 3, 'e', 'n', 'g', 1, 'a', 0, 0xc0, 4, OptEnd))
	f.Add(raw(make([]byte, 60)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, d := ParseMessage(b)
		if (m == nil) != (d != DropNone) {
			t.Fatal("a message or a reason, not both")
		}
		other, err := decodeOtherSafely(b)
		overloaded := other != nil && slices.ContainsFunc(other.Options, func(o layers.DHCPOption) bool { return o.Type == OptOverload })
		if m == nil {
			if err == nil && d != DropHardware && !overloaded {
				t.Fatalf("%v, but gopacket reads %v", d, other)
			}
			return
		}
		if !overloaded {
			compare(t, m, b)
		}
		seen := map[uint8]bool{}
		size := 0
		for _, o := range m.Options {
			if o.Code == OptPad || o.Code == OptEnd || seen[o.Code] {
				t.Fatalf("option %d", o.Code)
			}
			seen[o.Code] = true
			size += len(o.Data)
		}
		if size > len(b) {
			t.Fatal("options grew")
		}
		for _, n := range m.Options.Search() {
			if n == "" || len(n) > 253 {
				t.Fatalf("name %q", n)
			}
		}
		for _, r := range m.Options.Routes() {
			if !r.Dst.IsValid() || r.Dst != r.Dst.Masked() || !r.Gateway.Is4() {
				t.Fatal(r)
			}
		}
		if l, d := newLease(m); d == DropNone {
			if !l.Addr.IsValid() || l.Lease <= 0 || l.T1 > l.T2 || l.T2 > l.Lease || l.T1 <= 0 || !l.Server.IsValid() ||
				len(l.Routers) > maxList || len(l.Routes) > maxList || len(l.Search) > maxList {
				t.Fatalf("%+v", l)
			}
		}
		again, d := ParseMessage(m.Append(nil))
		if d != DropNone || !reflect.DeepEqual(again, m) {
			t.Fatalf("%v: %+v, then %+v", d, m, again)
		}
	})
}

// decodeOtherSafely guards against gopacket's use of hlen as a length.
func decodeOtherSafely(b []byte) (d *layers.DHCPv4, err error) {
	if len(b) > 2 && b[2] != 6 {
		return nil, fmt.Errorf("hlen")
	}
	return decodeOther(b)
}
