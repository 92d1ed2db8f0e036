package mcast

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/tapstack/tapstack/internal/csum"
)

var (
	linkLocal = netip.MustParseAddr("fe80::1")
	router4   = netip.MustParseAddr("192.0.2.1")
)

// igmp makes a message with its checksum.
func igmp(typ, code uint8, group netip.Addr, rest ...byte) []byte {
	b := append(append([]byte{typ, code, 0, 0}, group.AsSlice()...), rest...)
	binary.BigEndian.PutUint16(b[2:], csum.Checksum(b, 0))
	return b
}

func mld(typ uint8, code uint16, group netip.Addr, rest ...byte) []byte {
	b := binary.BigEndian.AppendUint16([]byte{typ, 0, 0, 0}, code)
	return append(append(append(b, 0, 0), group.AsSlice()...), rest...)
}

// envelope is one as a router's query has it.
func envelope(f Family) *Envelope {
	if f == IGMP {
		return &Envelope{Src: router4, Dst: allSystems, Hops: 1, RouterAlert: true}
	}
	return &Envelope{Src: linkLocal, Dst: allNodes, Hops: 1, RouterAlert: true}
}

func join(b []byte, list ...netip.Addr) []byte {
	for _, a := range list {
		b = append(b, a.AsSlice()...)
	}
	return b
}

func TestParse(t *testing.T) {
	none4, none6, g4, g6, s4, s6 := IGMP.any(), MLD.any(), IGMP.g(1), MLD.g(1), IGMP.s(1), MLD.s(1)
	v3 := []byte{0x0a, 125, 0, 0}
	ok := func(q Query) Message { return Message{Kind: IsQuery, Query: q} }
	for _, c := range []struct {
		name string
		f    Family
		edit func(*Envelope)
		b    []byte
		want Drop
		msg  Message
	}{
		{"version 1", IGMP, func(e *Envelope) { e.RouterAlert = false }, igmp(0x11, 0, g4), DropNone, ok(Query{Version: 1, MaxDelay: 10 * time.Second, Group: none4})},
		{"version 2", IGMP, nil, igmp(0x11, 25, g4), DropNone, ok(Query{Version: 2, MaxDelay: 2500 * time.Millisecond, Group: g4})},
		{"version 2 has no exponent", IGMP, nil, igmp(0x11, 0xff, none4), DropNone, ok(Query{Version: 2, MaxDelay: 25500 * time.Millisecond, Group: none4})},
		{"version 3", IGMP, nil, igmp(0x11, 100, none4, v3...), DropNone,
			ok(Query{Version: 3, MaxDelay: 10 * time.Second, Group: none4, Suppress: true, QRV: 2, QQI: 125 * time.Second})},
		{"a source and additional data", IGMP, nil, igmp(0x11, 0x80, g4, append(join([]byte{2, 0xff, 0, 1}, s4), 1, 2, 3)...), DropNone,
			ok(Query{Version: 3, MaxDelay: 12800 * time.Millisecond, Group: g4, QRV: 2, QQI: 31744 * time.Second, Sources: []netip.Addr{s4}})},
		{"to this host alone", IGMP, func(e *Envelope) { e.Dst = s4 }, igmp(0x11, 100, none4, v3...), DropNone,
			ok(Query{Version: 3, MaxDelay: 10 * time.Second, Group: none4, Suppress: true, QRV: 2, QQI: 125 * time.Second})},
		{"to another group", IGMP, func(e *Envelope) { e.Dst = g4 }, igmp(0x11, 100, none4, v3...), DropDestination, Message{}},
		{"version 1 to another group", IGMP, func(e *Envelope) { e.Dst = g4 }, igmp(0x11, 0, none4), DropDestination, Message{}},
		{"no router alert", IGMP, func(e *Envelope) { e.RouterAlert = false }, igmp(0x11, 100, none4, v3...), DropRouterAlert, Message{}},
		{"version 2, no router alert", IGMP, func(e *Envelope) { e.RouterAlert = false }, igmp(0x11, 100, none4), DropRouterAlert, Message{}},
		{"TTL 2", IGMP, func(e *Envelope) { e.Hops = 2 }, igmp(0x11, 100, none4, v3...), DropHopLimit, Message{}},
		{"7 bytes", IGMP, nil, igmp(0x11, 0, none4)[:7], DropShort, Message{}},
		{"9 bytes", IGMP, nil, igmp(0x11, 0, none4, 0), DropShort, Message{}},
		{"11 bytes", IGMP, nil, igmp(0x11, 0, none4, 0, 0, 0), DropShort, Message{}},
		{"checksum", IGMP, nil, append(igmp(0x11, 0, none4)[:7], 1), DropChecksum, Message{}},
		{"unicast group", IGMP, nil, igmp(0x11, 10, s4), DropGroup, Message{}},
		{"sources missing", IGMP, nil, igmp(0x11, 10, g4, 2, 125, 0, 1, 1, 2, 3), DropShort, Message{}},
		{"general with sources", IGMP, nil, igmp(0x11, 10, none4, join([]byte{2, 125, 0, 1}, s4)...), DropGroup, Message{}},
		{"report of version 1", IGMP, func(e *Envelope) { e.Dst = g4 }, igmp(0x12, 0, g4), DropNone, Message{Kind: IsReport, Group: g4}},
		{"report of version 2", IGMP, func(e *Envelope) { e.Dst = g4 }, igmp(0x16, 0, g4), DropNone, Message{Kind: IsReport, Group: g4}},
		{"report to somebody else", IGMP, nil, igmp(0x16, 0, g4), DropDestination, Message{}},
		{"report of no group", IGMP, func(e *Envelope) { e.Dst = s4 }, igmp(0x16, 0, s4), DropGroup, Message{}},
		{"leave", IGMP, nil, igmp(0x17, 0, g4), DropNone, Message{Kind: ForRouters}},
		{"report of version 3", IGMP, nil, igmp(0x22, 0, none4), DropNone, Message{Kind: ForRouters}},
		{"DVMRP", IGMP, nil, igmp(0x13, 0, none4), DropType, Message{}},

		{"version 1", MLD, nil, mld(130, 10000, g6), DropNone, ok(Query{Version: 2, MaxDelay: 10 * time.Second, Group: g6})},
		{"version 1 has no exponent", MLD, nil, mld(130, 0xffff, none6), DropNone, ok(Query{Version: 2, MaxDelay: 65535 * time.Millisecond, Group: none6})},
		{"version 2", MLD, nil, mld(130, 10000, none6, v3...), DropNone,
			ok(Query{Version: 3, MaxDelay: 10 * time.Second, Group: none6, Suppress: true, QRV: 2, QQI: 125 * time.Second})},
		{"a source and additional data", MLD, nil, mld(130, 0x8000, g6, append(join([]byte{2, 0xff, 0, 1}, s6), 1, 2, 3)...), DropNone,
			ok(Query{Version: 3, MaxDelay: 32768 * time.Millisecond, Group: g6, QRV: 2, QQI: 31744 * time.Second, Sources: []netip.Addr{s6}})},
		{"hop limit 2", MLD, func(e *Envelope) { e.Hops = 2 }, mld(130, 1, none6, v3...), DropHopLimit, Message{}},
		{"global source", MLD, func(e *Envelope) { e.Src = s6 }, mld(130, 1, none6, v3...), DropSource, Message{}},
		{"unspecified source", MLD, func(e *Envelope) { e.Src = none6 }, mld(130, 1, none6, v3...), DropSource, Message{}},
		{"no router alert", MLD, func(e *Envelope) { e.RouterAlert = false }, mld(130, 1, none6, v3...), DropRouterAlert, Message{}},
		{"7 bytes", MLD, nil, mld(130, 1, none6)[:7], DropShort, Message{}},
		{"23 bytes", MLD, nil, mld(130, 1, none6)[:23], DropShort, Message{}},
		{"25 bytes", MLD, nil, mld(130, 1, none6, 0), DropShort, Message{}},
		{"27 bytes", MLD, nil, mld(130, 1, none6, 0, 0, 0), DropShort, Message{}},
		{"unicast group", MLD, nil, mld(130, 1, s6, v3...), DropGroup, Message{}},
		{"sources missing", MLD, nil, mld(130, 1, g6, 2, 125, 0, 1), DropShort, Message{}},
		{"general with sources", MLD, nil, mld(130, 1, none6, join([]byte{2, 125, 0, 1}, s6)...), DropGroup, Message{}},
		{"report of version 1", MLD, func(e *Envelope) { e.Dst = g6 }, mld(131, 0, g6), DropNone, Message{Kind: IsReport, Group: g6}},
		{"report from nobody", MLD, func(e *Envelope) { e.Dst, e.Src = g6, none6 }, mld(131, 0, g6), DropSource, Message{}},
		{"report to somebody else", MLD, nil, mld(131, 0, g6), DropDestination, Message{}},
		{"done", MLD, nil, mld(132, 0, g6), DropNone, Message{Kind: ForRouters}},
		{"report of version 2", MLD, func(e *Envelope) { e.Src = none6 }, []byte{143, 0, 0, 0, 0, 0, 0, 0}, DropNone, Message{Kind: ForRouters}},
		{"another type", MLD, nil, mld(133, 0, g6), DropType, Message{}},
	} {
		e := envelope(c.f)
		if c.edit != nil {
			c.edit(e)
		}
		m, d := c.f.Parse(e, c.b)
		if d == DropNone && m.Kind != IsReport {
			m.Group = netip.Addr{}
		}
		if d != c.want || d == DropNone && !reflect.DeepEqual(m, c.msg) {
			t.Errorf("%s: %v %+v", c.name, d, m)
		}
	}
	each(t, func(t *testing.T, f Family) {
		b := igmp(0x11, 1, f.g(1), append([]byte{2, 125, 0, 100}, make([]byte, 400)...)...)
		if f == MLD {
			b = mld(130, 1, f.g(1), append([]byte{2, 125, 0, 100}, make([]byte, 1600)...)...)
		}
		m, d := f.Parse(envelope(f), b)
		if d != DropNone || len(m.Query.Sources) != maxAsked || !m.Query.SourcesCut {
			t.Errorf("100 sources: %v, %d kept", d, len(m.Query.Sources))
		}
	})
}

func TestCodes(t *testing.T) {
	for code, want := range map[uint16]int{0: 0, 0x7fff: 32767, 0x8000: 32768, 0x8001: 32776, 0xffff: 8387584} {
		if got := decode16(code); got != want {
			t.Errorf("%#x: %d ms, want %d", code, got, want)
		}
	}
	for code, want := range map[uint8]int{0: 0, 0x7f: 127, 0x80: 128, 0x8f: 248, 0xff: 31744} {
		if got := decode8(code); got != want {
			t.Errorf("%#x: %d, want %d", code, got, want)
		}
	}
}

// TestAppend: reports are what gopacket understands, and the older messages are
// these bytes.
func TestAppend(t *testing.T) {
	each(t, func(t *testing.T, f Family) {
		b := f.AppendReport(nil, []Record{{Type: ChangeToExclude, Group: f.g(1)}, {Type: ModeIsInclude, Group: f.g(2), Sources: f.list(1, 2)}})
		if f == IGMP {
			p := gopacket.NewPacket(b, layers.LayerTypeIGMP, gopacket.Default)
			m, ok := p.Layer(layers.LayerTypeIGMP).(*layers.IGMP)
			if !ok || csum.Sum(b, 0) != 0xffff || len(m.GroupRecords) != 2 || m.GroupRecords[0].Type != ChangeToExclude ||
				m.GroupRecords[1].NumberOfSources != 2 || m.GroupRecords[1].SourceAddresses[1].String() != f.s(2).String() {
				t.Errorf("%x: %+v", b, m)
			}
			return
		}
		var m layers.MLDv2MulticastListenerReportMessage
		if err := m.DecodeFromBytes(b[4:], gopacket.NilDecodeFeedback); err != nil || len(m.MulticastAddressRecords) != 2 ||
			m.MulticastAddressRecords[0].RecordType != ChangeToExclude || m.MulticastAddressRecords[1].SourceAddresses[1].String() != f.s(2).String() {
			t.Errorf("%x: %v %+v", b, err, m)
		}
	})
	for _, c := range []struct {
		f       Family
		version int
		leave   bool
		want    string
	}{
		{IGMP, 1, false, "1200fefcef010001"},
		{IGMP, 2, false, "1600fafcef010001"},
		{IGMP, 2, true, "1700f9fcef010001"},
		{MLD, 2, false, "8300000000000000ff050000000000000000000000000001"},
		{MLD, 2, true, "8400000000000000ff050000000000000000000000000001"},
	} {
		if got := hex.EncodeToString(c.f.AppendOld(nil, c.version, c.leave, c.f.g(1))); got != c.want {
			t.Errorf("%v %d %v: %s, want %s", c.f, c.version, c.leave, got, c.want)
		}
	}
}

// FuzzMessage lets any messages meet a member of some groups: nothing is said of
// others, in time, and it becomes quiet.
func FuzzMessage(f *testing.F) {
	f.Add(false, igmp(0x11, 100, IGMP.any(), 2, 125, 0, 0))
	f.Add(false, igmp(0x11, 0, IGMP.g(1)))
	f.Add(false, igmp(0x16, 0, IGMP.g(2)))
	f.Add(true, mld(130, 10000, MLD.any(), 2, 125, 0, 0))
	f.Add(true, mld(130, 10000, MLD.g(1)))
	f.Add(true, mld(130, 0xffff, MLD.g(2), join([]byte{7, 255, 0, 1}, MLD.s(1))...))
	f.Fuzz(func(t *testing.T, v6 bool, b []byte) {
		fam := IGMP
		if v6 {
			fam = MLD
		} else if len(b) >= 4 {
			b[2], b[3] = 0, 0
			binary.BigEndian.PutUint16(b[2:], csum.Checksum(b, 0))
		}
		n := joined(t, fam)
		m, d := fam.Parse(envelope(fam), b)
		if d != DropNone {
			return
		}
		switch m.Kind {
		case IsQuery:
			n.Query(n.now, &m.Query)
		case IsReport:
			n.Heard(m.Group)
		}
		// An answer may lie behind the maximum by the nanosecond that keeps delays
		// above zero.
		n.run(m.Query.MaxDelay + 1)
		most := 0
		switch {
		case m.Kind != IsQuery:
		case m.Query.General() && m.Query.Version < 3:
			most = 2
		case m.Query.General(), m.Query.Group == fam.g(1), m.Query.Group == fam.g(2):
			most = 1
		}
		if len(n.log) != most {
			t.Fatalf("%+v: %q, want %d", m, n.log, most)
		}
		n.run(1e6 * time.Second)
		if n.Deadline() != 0 || n.Version() != 3 {
			t.Fatalf("never quiet: %v, version %d", n.Deadline(), n.Version())
		}
	})
}

// FuzzMachine lets listeners come, change and go between queries, reports and
// time. The interface's filter is always the union of what they want, and when
// all have left and everything was said nothing is remembered.
func FuzzMachine(f *testing.F) {
	f.Add(false, []byte{0, 1, 2, 3, 0x40, 0x81, 0x10, 0xc2, 0x22, 0x05})
	f.Add(true, []byte{0x11, 0x22, 0x93, 0xd4, 0x55, 0xe6, 0x17, 0x08, 0x59, 0xca})
	f.Fuzz(func(t *testing.T, v6 bool, ops []byte) {
		fam := IGMP
		if v6 {
			fam = MLD
		}
		n := newLink(t, fam, Config{MaxReport: 64})
		var has [3][2]Filter // of three listeners, in two groups
		check := func() {
			for g := range 2 {
				heard, ok := n.Filter(fam.g(g))
				for s := range 5 {
					want, any := false, false
					for l := range has {
						want = want || has[l][g].Passes(fam.s(s))
						any = any || !has[l][g].Empty()
					}
					if any != ok || ok && heard.Passes(fam.s(s)) != want {
						t.Fatalf("g%d s%d: %v %v, want %v %v", g, s, heard, ok, want, any)
					}
				}
			}
		}
		for i := 0; i+1 < len(ops) && i < 200; i += 2 {
			op, x := ops[i], ops[i+1]
			switch op % 8 {
			case 0, 1, 2, 3, 4:
				l, g := int(op>>3)%3, int(op>>6)%2
				f := Filter{Exclude: x&0x80 != 0}
				for s := range 5 {
					if x>>s&1 != 0 {
						f.Sources = append(f.Sources, fam.s(s))
					}
				}
				n.listen(g, has[l][g], f)
				has[l][g] = f
				check()
			case 5:
				q := Query{Version: 1 + int(x)%3, MaxDelay: time.Duration(op) * time.Second / 10, QRV: x >> 5}
				if q.Version == 1 && v6 {
					q.Version = 2
				}
				if x&0x10 != 0 {
					q.Group = fam.g(int(x>>3) & 1)
					if q.Version == 3 {
						q.Sources = fam.list(1, 2)[:x>>6%3]
					}
				}
				n.query(q)
			case 6:
				n.Heard(fam.g(int(x) & 1))
			case 7:
				n.run(time.Duration(x) * 500 * time.Millisecond)
			}
		}
		for l := range has {
			for g := range 2 {
				n.listen(g, has[l][g], Filter{})
				has[l][g] = Filter{}
			}
		}
		check()
		n.run(1e6 * time.Second)
		n.quiet()
	})
}
