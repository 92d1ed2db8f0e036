package ipv6

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/tapstack/tapstack/internal/mono"
)

var (
	group1 = netip.MustParseAddr("ff02::1:ff00:1")
	group2 = netip.MustParseAddr("ff05::2")
	other  = netip.MustParseAddr("2001:db8::5")
)

// mldNet is a host that writes down the reports, with the virtual time.
type mldNet struct {
	*MLD
	now   mono.Time
	log   []string
	times []time.Duration
	sizes []int
}

func newMLD() *mldNet {
	n := &mldNet{now: slaacEpoch}
	n.MLD = NewMLD(n, rand.New(rand.NewPCG(3, 4)))
	return n
}

var recordNames = [...]string{1: "is-in", 2: "is-ex", 3: "to-in", 4: "to-ex"}

func (n *mldNet) SendReport(records []MLDRecord) {
	var w []string
	for _, r := range records {
		s := recordNames[r.Type] + " " + r.Group.String()
		if len(r.Sources) > 0 {
			s += fmt.Sprint(r.Sources)
		}
		w = append(w, s)
	}
	n.note(strings.Join(w, ", "))
	n.sizes = append(n.sizes, len(AppendMLDReport(nil, records)))
}

func (n *mldNet) SendV1(typ uint8, g netip.Addr) {
	n.note(map[uint8]string{MLDv1Report: "v1 report ", MLDv1Done: "v1 done "}[typ] + g.String())
}

func (n *mldNet) note(s string) {
	n.log = append(n.log, s)
	n.times = append(n.times, n.now.Sub(slaacEpoch))
}

func (n *mldNet) runTo(t *testing.T, at time.Duration) {
	t.Helper()
	end := slaacEpoch.Add(at)
	for d := n.Deadline(); d != 0 && d <= end; d = n.Deadline() {
		n.now = max(n.now, d)
		n.Expire(n.now)
		if n.Deadline() != 0 && n.Deadline() <= n.now {
			t.Fatalf("deadline %v not passed by Expire at %v", n.Deadline(), n.now)
		}
	}
	n.now = end
}

func (n *mldNet) expect(t *testing.T, want ...string) {
	t.Helper()
	if !reflect.DeepEqual(n.log, want) && len(n.log)+len(want) > 0 {
		t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(n.log, "\n\t"), strings.Join(want, "\n\t"))
	}
	n.log, n.times = nil, nil
}

func TestJoinAndLeaveReportTwice(t *testing.T) {
	n := newMLD()
	if !n.Join(n.now, group1) || n.Join(n.now, group1) || !n.Joined(group1) {
		t.Error("Join counts wrong")
	}
	n.runTo(t, time.Minute)
	if n.times[1] <= 0 || n.times[1] > time.Second {
		t.Errorf("second report after %v", n.times[1])
	}
	n.expect(t, "to-ex "+group1.String(), "to-ex "+group1.String())
	if n.Leave(n.now, group1) || !n.Joined(group1) {
		t.Error("first Leave was the last")
	}
	n.expect(t)
	if !n.Leave(n.now, group1) || n.Joined(group1) || n.Leave(n.now, group1) || n.Leave(n.now, other) {
		t.Error("Leave counts wrong")
	}
	n.runTo(t, 2*time.Minute)
	n.expect(t, "to-in "+group1.String(), "to-in "+group1.String())
	if n.Deadline() != 0 || len(n.groups) != 0 || len(n.byAddr) != 0 {
		t.Error("a group that was left is not forgotten")
	}
}

func TestNewerChangeReplacesTheOlder(t *testing.T) {
	n := newMLD()
	g := group1.String()
	n.Join(n.now, group1)
	n.Leave(n.now, group1)
	n.Join(n.now, group1)
	n.Join(n.now, group2)
	n.runTo(t, time.Minute)
	// Each change at once, then one repetition of the latest state.
	n.expect(t, "to-ex "+g, "to-in "+g, "to-ex "+g, "to-ex ff05::2", "to-ex "+g+", to-ex ff05::2")
}

func TestSilentGroups(t *testing.T) {
	n := newMLD()
	for _, a := range []string{"ff02::1", "ff01::1", "ff00::5", "ff11::5"} {
		g := netip.MustParseAddr(a)
		if !n.Join(n.now, g) || !n.Joined(g) {
			t.Errorf("%s not joined", a)
		}
		n.Query(n.now, MLDQuery{Group: g})
	}
	n.Query(n.now, MLDQuery{Group: nobody, MaxDelay: time.Second})
	n.runTo(t, time.Minute)
	if !n.Leave(n.now, AllNodes) {
		t.Error("not left")
	}
	n.expect(t)
}

// joined returns a listener of two groups whose joining is over.
func joined(t *testing.T) *mldNet {
	n := newMLD()
	n.Join(n.now, group1)
	n.Join(n.now, group2)
	n.Join(n.now, AllNodes)
	n.runTo(t, time.Minute)
	n.log, n.times = nil, nil
	return n
}

func TestGeneralQuery(t *testing.T) {
	n := joined(t)
	n.Query(n.now, MLDQuery{Group: nobody, MaxDelay: 10 * time.Second, QRV: 2})
	// A second one while the answer is pending does not ask for two.
	n.Query(n.now, MLDQuery{Group: nobody, MaxDelay: 10 * time.Second, QRV: 2})
	n.runTo(t, 2*time.Minute)
	if at := n.times[0]; at <= time.Minute || at > 70*time.Second {
		t.Errorf("answered at %v", at)
	}
	n.expect(t, "is-ex "+group1.String()+", is-ex ff05::2")
}

func TestGroupQueries(t *testing.T) {
	third := netip.MustParseAddr("ff02::3")
	src := func(last byte) netip.Addr { a := other.As16(); a[15] = last; return netip.AddrFrom16(a) }
	specific := func(sources ...netip.Addr) MLDQuery {
		return MLDQuery{Group: group2, MaxDelay: time.Second, Sources: sources}
	}
	var many []netip.Addr
	for i := range maxQuerySources {
		many = append(many, src(byte(i)))
	}
	for _, c := range []struct {
		name    string
		queries []MLDQuery
		want    []string
	}{
		{"a group", []MLDQuery{specific()}, []string{"is-ex ff05::2"}},
		{"not ours", []MLDQuery{{Group: third, MaxDelay: time.Second}}, nil},
		{"all nodes", []MLDQuery{{Group: AllNodes, MaxDelay: time.Second}}, nil},
		{"twice the same", []MLDQuery{specific(), specific()}, []string{"is-ex ff05::2"}},
		{"sources", []MLDQuery{specific(src(1), src(2), src(1))}, []string{"is-in ff05::2[2001:db8::1 2001:db8::2]"}},
		{"sources add up", []MLDQuery{specific(src(1)), specific(src(2), src(1))}, []string{"is-in ff05::2[2001:db8::1 2001:db8::2]"}},
		{"sources, then all of the group", []MLDQuery{specific(src(1)), specific()}, []string{"is-ex ff05::2"}},
		{"all of the group, then sources", []MLDQuery{specific(), specific(src(1))}, []string{"is-ex ff05::2"}},
		{"more sources than are kept", []MLDQuery{specific(many...), specific(src(200))}, []string{"is-ex ff05::2"}},
		{"sources cut", []MLDQuery{{Group: group2, MaxDelay: time.Second, Sources: many, SourcesCut: true}}, []string{"is-ex ff05::2"}},
		{"a sooner general answer covers it", []MLDQuery{{Group: nobody, MaxDelay: 1}, specific()}, []string{"is-ex " + group1.String() + ", is-ex ff05::2"}},
	} {
		n := joined(t)
		for _, q := range c.queries {
			n.Query(n.now, q)
		}
		n.runTo(t, 2*time.Minute)
		t.Run(c.name, func(t *testing.T) { n.expect(t, c.want...) })
		if n.Deadline() != 0 {
			t.Errorf("%s: deadline %v", c.name, n.Deadline())
		}
	}
}

func TestLeavingCancelsTheAnswer(t *testing.T) {
	n := joined(t)
	n.Query(n.now, MLDQuery{Group: group2, MaxDelay: 10 * time.Second, QRV: 1})
	n.Leave(n.now, group2)
	n.runTo(t, 2*time.Minute)
	n.expect(t, "to-in ff05::2") // robustness 1: once
}

func TestRobustnessOfTheQuerier(t *testing.T) {
	n := joined(t)
	n.Query(n.now, MLDQuery{Group: nobody, QRV: 4})
	n.runTo(t, 61*time.Second)
	n.log = nil
	n.Join(n.now, netip.MustParseAddr("ff02::3"))
	n.runTo(t, 2*time.Minute)
	n.expect(t, "to-ex ff02::3", "to-ex ff02::3", "to-ex ff02::3", "to-ex ff02::3")
}

func TestAnnounceRepeatsTheJoins(t *testing.T) {
	n := joined(t)
	n.Announce(n.now)
	n.runTo(t, 2*time.Minute)
	g := group1.String()
	n.expect(t, "to-ex "+g, "to-ex ff05::2", "to-ex "+g+", to-ex ff05::2")
}

func TestReportsFitTheSmallestMTU(t *testing.T) {
	n := newMLD()
	for i := range 200 {
		a := group2.As16()
		a[14] = byte(i)
		n.Join(n.now, netip.AddrFrom16(a))
	}
	n.runTo(t, time.Minute)
	n.sizes = nil
	n.Query(n.now, MLDQuery{Group: nobody, MaxDelay: time.Second})
	n.runTo(t, 2*time.Minute)
	records := 0
	for _, s := range n.sizes {
		if s+RouterAlertLen+HeaderLen > MinMTU {
			t.Errorf("report of %d bytes", s)
		}
		records += (s - mldReportLen) / mldRecordLen
	}
	if len(n.sizes) != 4 || records != 200 {
		t.Errorf("%d records in %d reports", records, len(n.sizes))
	}
}

// RFC 3810 §8.2: beside an MLDv1 querier the host speaks MLDv1, until none was
// heard for 2*125 s and the response time.
func TestVersion1Querier(t *testing.T) {
	n := joined(t)
	n.Query(n.now, MLDQuery{V1: true, Group: nobody, MaxDelay: 10 * time.Second})
	n.runTo(t, 2*time.Minute)
	if n.times[0] == n.times[1] || n.times[1] > 70*time.Second {
		t.Errorf("answers at %v", n.times)
	}
	n.log = sorted(n.log)
	n.expect(t, "v1 report "+group1.String(), "v1 report ff05::2")
	third := netip.MustParseAddr("ff02::3")
	n.Join(n.now, third)
	n.runTo(t, 150*time.Second)
	n.Leave(n.now, third)
	n.Query(n.now, MLDQuery{Group: group2, MaxDelay: time.Second, QRV: 2}) // version 2 is answered in version 1
	n.runTo(t, 200*time.Second)
	n.expect(t, "v1 report ff02::3", "v1 report ff02::3", "v1 done ff02::3", "v1 report ff05::2")
	n.runTo(t, 60*time.Second+260*time.Second)
	n.Query(n.now, MLDQuery{Group: group2, MaxDelay: time.Second, QRV: 2})
	n.runTo(t, 400*time.Second)
	n.expect(t, "is-ex ff05::2")
}

func sorted(s []string) []string {
	if len(s) == 2 && s[0] > s[1] {
		s[0], s[1] = s[1], s[0]
	}
	return s
}

func query(code uint16, group netip.Addr, rest ...byte) []byte {
	b := binary.BigEndian.AppendUint16([]byte{typeMLDQuery, 0, 0, 0}, code)
	return append(appendAddr(append(b, 0, 0), group), rest...)
}

func TestQueryValidation(t *testing.T) {
	v2 := []byte{0x0a, 125, 0, 0}
	for _, c := range []struct {
		name  string
		src   netip.Addr
		hops  uint8
		alert bool
		body  []byte
		want  Drop
		query MLDQuery
	}{
		{"version 2", hostB, 1, true, query(10000, nobody, v2...), DropNone,
			MLDQuery{MaxDelay: 10 * time.Second, Group: nobody, Suppress: true, QRV: 2, QQI: 125 * time.Second}},
		{"version 1", hostB, 1, true, query(10000, group1), DropNone, MLDQuery{V1: true, MaxDelay: 10 * time.Second, Group: group1}},
		{"version 1 has no exponent", hostB, 1, true, query(0xffff, nobody), DropNone, MLDQuery{V1: true, MaxDelay: 65535 * time.Millisecond, Group: nobody}},
		{"hop limit 2", hostB, 2, true, query(1, nobody, v2...), DropHopLimit, MLDQuery{}},
		{"global source", globalA, 1, true, query(1, nobody, v2...), DropSource, MLDQuery{}},
		{"unspecified source", nobody, 1, true, query(1, nobody, v2...), DropSource, MLDQuery{}},
		{"no router alert", hostB, 1, false, query(1, nobody, v2...), DropRouterAlert, MLDQuery{}},
		{"23 bytes", hostB, 1, true, query(1, nobody)[:23], DropShort, MLDQuery{}},
		{"25 bytes", hostB, 1, true, query(1, nobody, 0), DropShort, MLDQuery{}},
		{"27 bytes", hostB, 1, true, query(1, nobody, 0, 0, 0), DropShort, MLDQuery{}},
		{"unicast group", hostB, 1, true, query(1, globalA, v2...), DropGroup, MLDQuery{}},
		{"sources missing", hostB, 1, true, query(1, group1, 2, 125, 0, 1), DropShort, MLDQuery{}},
		{"general with sources", hostB, 1, true, append(query(1, nobody, 2, 125, 0, 1), make([]byte, 16)...), DropGroup, MLDQuery{}},
		{"a source and additional data", hostB, 1, true, append(appendAddr(query(0x8000, group1, 2, 0xff, 0, 1), other), 1, 2, 3), DropNone,
			MLDQuery{MaxDelay: 32768 * time.Millisecond, Group: group1, QRV: 2, QQI: 31744 * time.Second, Sources: []netip.Addr{other}}},
	} {
		h := header(c.src, AllNodes)
		h[7] = c.hops
		q, d := ParseMLDQuery(h, c.body, c.alert)
		if d != c.want || d == DropNone && !reflect.DeepEqual(q, c.query) {
			t.Errorf("%s: %v %+v", c.name, d, q)
		}
	}
	h := header(hostB, AllNodes)
	h[7] = 1
	q, d := ParseMLDQuery(h, append(query(1, group1, 2, 125, 0, 100), make([]byte, 1600)...), true)
	if d != DropNone || len(q.Sources) != maxQuerySources || !q.SourcesCut {
		t.Errorf("100 sources: %v, %d kept", d, len(q.Sources))
	}
}

func TestResponseCode(t *testing.T) {
	for code, want := range map[uint16]int{0: 0, 0x7fff: 32767, 0x8000: 32768, 0x8001: 32776, 0xffff: 8387584} {
		if got := maxResponse(code); got != want {
			t.Errorf("%#x: %d ms, want %d", code, got, want)
		}
	}
}

// A report as it goes out is what gopacket understands, router alert included,
// and what our own walk lets pass.
func TestReportPacket(t *testing.T) {
	var alert [RouterAlertLen]byte
	PutRouterAlertHBH(alert[:])
	body := AppendMLDReport(nil, []MLDRecord{{Type: ChangeToExclude, Group: group1}, {Type: ModeIsInclude, Group: group2, Sources: []netip.Addr{other, globalA}}})
	b := packet(hostA, MLDv2Routers, ProtoHopByHop, join(alert[:], body))
	if c, _, d := Walk(b); d != DropNone || !c.RouterAlert || c.Proto != ProtoICMPv6 || c.Offset != 48 {
		t.Fatalf("%v %+v", d, c)
	}
	p := gopacket.NewPacket(b, layers.LayerTypeIPv6, gopacket.Default)
	m, ok := p.Layer(layers.LayerTypeMLDv2MulticastListenerReport).(*layers.MLDv2MulticastListenerReportMessage)
	if !ok || len(m.MulticastAddressRecords) != 2 {
		t.Fatalf("gopacket: %v", p)
	}
	one, two := m.MulticastAddressRecords[0], m.MulticastAddressRecords[1]
	if one.RecordType != ChangeToExclude || one.MulticastAddress.String() != group1.String() || one.N != 0 ||
		two.RecordType != ModeIsInclude || two.N != 2 || two.SourceAddresses[1].String() != globalA.String() {
		t.Errorf("gopacket: %+v", m)
	}
	v1 := AppendMLDv1(nil, MLDv1Done, group2)
	if len(v1) != mldV1Len || v1[0] != 132 || netip.AddrFrom16([16]byte(v1[8:])) != group2 {
		t.Errorf("version 1: %x", v1)
	}
}

// FuzzMLD lets any query meet a listener: what it answers is about groups that
// were joined, in time, and it becomes quiet.
func FuzzMLD(f *testing.F) {
	f.Add(query(10000, nobody, 2, 125, 0, 0))
	f.Add(query(10000, group1))
	f.Add(append(query(0xffff, group2, 7, 255, 0, 1), make([]byte, 16)...))
	h := header(hostB, AllNodes)
	h[7] = 1
	f.Fuzz(func(t *testing.T, b []byte) {
		q, d := ParseMLDQuery(h, b, true)
		if d != DropNone {
			return
		}
		if !q.V1 {
			var g layers.MLDv2MulticastListenerQueryMessage
			if g.DecodeFromBytes(b[4:], gopacket.NilDecodeFeedback) == nil {
				addr, _ := netip.AddrFromSlice(g.MulticastAddress)
				mustEqual(t, q.Group, addr)
				mustEqual(t, [2]any{q.QRV, q.Suppress}, [2]any{g.QueriersRobustnessVariable, g.SuppressRoutersideProcessing})
				if !q.SourcesCut {
					mustEqual(t, len(q.Sources), int(g.NumberOfSources))
				}
			}
		}
		n := joined(t)
		n.Query(n.now, q)
		n.runTo(t, 60*time.Second+q.MaxDelay)
		for _, l := range n.log {
			if strings.Contains(l, AllNodes.String()+",") || strings.HasSuffix(l, " ff02::1") {
				t.Fatal(l)
			}
		}
		want := 1 // report
		if q.Group.IsUnspecified() && q.V1 {
			want = 2
		} else if !q.Group.IsUnspecified() && q.Group != group1 && q.Group != group2 {
			want = 0
		}
		// An answer that lies just behind the maximum by the one nanosecond
		// that keeps delays above zero is allowed.
		n.runTo(t, 60*time.Second+q.MaxDelay+1)
		if len(n.log) != want {
			t.Fatalf("%+v: %q", q, n.log)
		}
		n.runTo(t, 1e6*time.Second)
		if n.Deadline() != 0 {
			t.Fatalf("never quiet: %v", n.Deadline())
		}
	})
}
