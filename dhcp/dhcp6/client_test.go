package dhcp6

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

var (
	testDUID = []byte{0, 3, 0, 1, 2, 0, 0, 0, 0, 9}
	serverA  = []byte{0, 3, 0, 1, 2, 0, 0, 0, 0, 0xa}
	serverB  = []byte{0, 3, 0, 1, 2, 0, 0, 0, 0, 0xb}
	ourLL    = netip.MustParseAddr("fe80::9")
	addr1    = netip.MustParsePrefix("fd00::1:1/128")
	addr2    = netip.MustParsePrefix("fd00::1:2/128")
	prefix1  = netip.MustParsePrefix("fd00:1::/56")
)

const testIAID = 7

// rig drives a client by hand.
type rig struct {
	*testing.T
	c    *Client
	now  mono.Time
	last *Message // that was sent
	// fresh: it was sent after the last answer, and nobody has looked for it.
	fresh bool
	said  []string // messages since the last call of took
}

func newRig(t *testing.T, edit func(*Config)) *rig {
	c := Config{DUID: testDUID, IAID: testIAID, NoRapidCommit: true, Rand: rand.New(rand.NewPCG(1, 2))}
	if edit != nil {
		edit(&c)
	}
	return &rig{T: t, c: NewClient(c), now: mono.Time(time.Hour)}
}

// flush takes what the client sends now.
func (r *rig) flush() {
	r.Helper()
	for {
		b, ok := r.c.Output(r.now)
		if !ok {
			return
		}
		m, d := ParseMessage(b)
		if d != DropNone {
			r.Fatal(d)
		}
		r.last, r.fresh = m, true
		r.said = append(r.said, m.Type.String())
	}
}

// run lets d pass, in which nobody answers, and returns the events.
func (r *rig) run(d time.Duration) (events []Event) {
	r.Helper()
	end := r.now.Add(d)
	r.flush()
	for n := 0; ; n++ {
		next := r.c.Deadline()
		if next == 0 || next > end {
			break
		}
		if n > 100000 {
			r.Fatal("the client does not rest")
		}
		r.now = max(r.now, next)
		if e := r.c.Expire(r.now); e != EventNone {
			events = append(events, e)
		}
		r.flush()
	}
	r.now, r.fresh = end, false
	return events
}

// until runs until the client has sent a message of that type.
func (r *rig) until(t MessageType) *Message {
	r.Helper()
	r.flush()
	for range 1000 {
		if r.fresh && r.last.Type == t {
			r.fresh = false
			return r.last
		}
		if next := r.c.Deadline(); next != 0 {
			r.now = max(r.now, next)
			r.c.Expire(r.now)
		}
		r.flush()
	}
	r.Fatalf("no %v is sent; the client is %v", t, r.c.State())
	return nil
}

func (r *rig) took() string {
	s := strings.Join(r.said, " ")
	r.said = nil
	return s
}

// answer makes an answer to the last message.
func (r *rig) answer(t MessageType, server []byte, more ...Option) *Message {
	m := &Message{Type: t, XID: r.last.XID}
	m.Options.Add(OptClientID, testDUID...)
	if server != nil {
		m.Options.Add(OptServerID, server...)
	}
	m.Options = append(m.Options, more...)
	return m
}

func (r *rig) input(m *Message, want Drop) Event {
	r.Helper()
	r.fresh = false
	e, d := r.c.Input(r.now, m.Append(nil), ourLL)
	if d != want {
		r.Errorf("%v: %v, want %v", m.Type, d, want)
	}
	r.flush()
	return e
}

// ia is an IA with T1 and T2, a status, and leases of an hour preferred and two
// hours valid; or, with life, of that.
func ia(code OptionCode, t1, t2 uint32, s StatusCode, life []uint32, leases ...netip.Prefix) Option {
	b := binary.BigEndian.AppendUint32(nil, testIAID)
	b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, t1), t2)
	if life == nil {
		life = []uint32{3600, 7200}
	}
	for _, p := range leases {
		times := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, life[0]), life[1])
		a := p.Addr().As16()
		if code == OptIANA {
			b = appendOption(b, OptIAAddr, append(a[:], times...))
		} else {
			b = appendOption(b, OptIAPrefix, append(append(times, byte(p.Bits())), a[:]...))
		}
	}
	if s != Success {
		b = appendOption(b, OptStatus, []byte{0, byte(s)})
	}
	return Option{code, b}
}

func status(s StatusCode) Option { return Option{OptStatus, []byte{0, byte(s), 'x'}} }

func seconds(code OptionCode, s uint32) Option {
	return Option{code, binary.BigEndian.AppendUint32(nil, s)}
}

// bound brings a rig to a lease of server A.
func bound(t *testing.T, edit func(*Config), ias ...Option) *rig {
	t.Helper()
	r := newRig(t, edit)
	if ias == nil {
		ias = []Option{ia(OptIANA, 1000, 1600, 0, nil, addr1)}
	}
	r.c.Start(r.now)
	r.until(Solicit)
	r.input(r.answer(Advertise, serverA, append([]Option{{OptPreference, []byte{255}}}, ias...)...), DropNone)
	if r.last.Type != Request || r.input(r.answer(Reply, serverA, ias...), DropNone) != EventLease || r.c.State() != Bound {
		t.Fatalf("%v after %v", r.c.State(), r.took())
	}
	r.took()
	return r
}

// TestFourMessages: what is in them (RFC 8415 §18.2.1, §18.2.2).
func TestFourMessages(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Hostname, c.Delegate = "host", 56 })
	r.c.Start(r.now)
	if r.flush(); r.last != nil {
		t.Error("no delay before the first SOLICIT")
	}
	m := r.until(Solicit)
	if d := r.now.Sub(mono.Time(time.Hour)); d > solMaxDelay {
		t.Errorf("delayed for %v", d)
	}
	o := m.Options
	if !bytes.Equal(o.Get(OptClientID), testDUID) || o.Has(OptServerID) || !bytes.Equal(o.Get(OptElapsed), []byte{0, 0}) || o.Has(OptRapidCommit) || o.Has(20) {
		t.Errorf("%v", o)
	}
	if fqdn := o.Get(OptFQDN); string(fqdn) != "\x01\x04host" {
		t.Errorf("FQDN %q", fqdn)
	}
	if na := o.association(OptIANA, testIAID); !na.there || len(na.grants) != 0 || na.t1 != 0 {
		t.Errorf("IA_NA %+v", na)
	}
	if pd := o.Get(OptIAPD); len(pd) != 12+4+25 || pd[12+4+8] != 56 {
		t.Errorf("IA_PD %v", pd)
	}
	for _, code := range append(asked, OptFQDN) {
		if !bytes.Contains(o.Get(OptRequest), binary.BigEndian.AppendUint16(nil, uint16(code))) {
			t.Errorf("%v is not asked for", code)
		}
	}
	first := m.XID
	ias := []Option{ia(OptIANA, 0, 0, 0, nil, addr1), ia(OptIAPD, 0, 0, 0, nil, prefix1)}
	r.input(r.answer(Advertise, serverA, ias...), DropNone)
	if r.last.Type != Solicit {
		t.Error("nobody else had time to answer")
	}
	m = r.until(Request)
	if m.XID == first || !bytes.Equal(m.Options.Get(OptServerID), serverA) || !bytes.Contains(m.Append(nil), addr1.Addr().AsSlice()) {
		t.Errorf("%v", m)
	}
	e := r.input(r.answer(Reply, serverA, append(ias, Option{OptDNS, addr2.Addr().AsSlice()}, Option{OptSearch, []byte("\x03lab\x07example\x00")},
		Option{OptFQDN, []byte("\x03\x04host\x03lab\x00")}, Option{OptSNTP, addr1.Addr().AsSlice()},
		Option{OptNTP, append([]byte{0, 1, 0, 16}, addr1.Addr().AsSlice()...)}, Option{OptNTP, []byte("\x00\x03\x00\x05\x03ntp\x00")},
		Option{OptCaptivePortal, []byte("https://p")})...), DropNone)
	l, ok := r.c.Lease()
	if e != EventLease || !ok || l.Addrs[0].Prefix != addr1 || l.Prefixes[0].Prefix != prefix1 {
		t.Fatalf("%v %+v", e, l)
	}
	// T1 and T2 of 0: half and four fifths (§14.2).
	if l.T1 != 1800*time.Second || l.T2 != 2880*time.Second || l.Addrs[0].Valid != r.now.Add(2*time.Hour) || l.Addrs[0].Preferred != r.now.Add(time.Hour) {
		t.Errorf("%v %v %+v", l.T1, l.T2, l.Addrs)
	}
	if len(l.DNS) != 1 || !slices.Equal(l.Search, []string{"lab.example"}) || l.FQDN != "host.lab" || len(l.SNTP) != 1 ||
		!slices.Equal(l.NTP, []string{"fd00::1:1", "ntp"}) || l.Portal != "https://p" {
		t.Errorf("%+v", l)
	}
}

// TestRapidCommit: two messages, for who asked for that (§18.2.1).
func TestRapidCommit(t *testing.T) {
	r := newRig(t, func(c *Config) { c.NoRapidCommit = false })
	r.c.Start(r.now)
	if m := r.until(Solicit); !m.Options.Has(OptRapidCommit) {
		t.Error("not offered")
	}
	lease := ia(OptIANA, 0, 0, 0, nil, addr1)
	r.input(r.answer(Reply, serverA, lease), DropRapidCommit)
	r.input(r.answer(Reply, serverA, Option{OptRapidCommit, nil}, ia(OptIANA, 0, 0, NoAddrsAvail, nil)), DropLease)
	if e := r.input(r.answer(Reply, serverA, Option{OptRapidCommit, nil}, lease), DropNone); e != EventLease || r.c.State() != Bound {
		t.Error(e, r.c.State())
	}
	r = newRig(t, nil)
	r.c.Start(r.now)
	r.until(Solicit)
	r.input(r.answer(Reply, serverA, Option{OptRapidCommit, nil}, lease), DropRapidCommit)
}

// TestChoice: preference counts first, then what there is (§18.2.9); and the
// next is asked when one has nothing after all, or is silent (§18.2.2).
func TestChoice(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Delegate = 56 })
	r.c.Start(r.now)
	r.until(Solicit)
	serverC := append(slices.Clone(serverA), 1)
	na, pd := ia(OptIANA, 0, 0, 0, nil, addr1), ia(OptIAPD, 0, 0, 0, nil, prefix1)
	r.input(r.answer(Advertise, serverA, na), DropNone)
	r.input(r.answer(Advertise, serverB, Option{OptPreference, []byte{9}}, na), DropNone)
	r.input(r.answer(Advertise, serverC, na, pd), DropNone)
	for _, want := range [][]byte{serverB, serverC, serverA} {
		m := r.until(Request)
		if !bytes.Equal(m.Options.Get(OptServerID), want) {
			t.Errorf("asks %x, want %x", m.Options.Get(OptServerID), want)
		}
		if bytes.Equal(want, serverC) { // silent
			r.took()
			at := r.now
			for r.c.State() == Requesting && bytes.Equal(r.last.Options.Get(OptServerID), serverC) {
				r.now = r.c.Deadline()
				r.c.Expire(r.now)
				r.flush()
			}
			if n := strings.Count(r.took(), "REQUEST"); n != reqMaxRC || r.now.Sub(at) < 150*time.Second {
				t.Errorf("%d times in %v", n, r.now.Sub(at))
			}
			continue
		}
		r.input(r.answer(Reply, want, ia(OptIANA, 0, 0, NoAddrsAvail, nil), ia(OptIAPD, 0, 0, NoPrefixAvail, nil)), DropStatus)
	}
	if r.c.State() != Soliciting {
		t.Error(r.c.State())
	}
	// The first to answer a later SOLICIT is taken at once.
	r.took()
	r.run(3 * time.Second)
	r.input(r.answer(Advertise, serverA, na), DropNone)
	if r.last.Type != Request {
		t.Error(r.took())
	}
	// Not more than are kept.
	r = newRig(t, nil)
	r.c.Start(r.now)
	r.until(Solicit)
	for i := range maxAdverts + 1 {
		want := DropNone
		if i == maxAdverts {
			want = DropBound
		}
		r.input(r.answer(Advertise, append(slices.Clone(serverA), byte(i)), na), want)
	}
}

// TestInputChecks: RFC 8415 §16, with a reason for each.
func TestInputChecks(t *testing.T) {
	r := newRig(t, nil)
	lease := ia(OptIANA, 0, 0, 0, nil, addr1)
	r.last = &Message{XID: 1}
	r.input(r.answer(Advertise, serverA, lease), DropXID) // nothing was asked
	r.c.Start(r.now)
	r.until(Solicit)
	without := func(m *Message, code OptionCode) *Message {
		m.Options = slices.DeleteFunc(m.Options, func(o Option) bool { return o.Code == code })
		return m
	}
	bad := func(m *Message, code OptionCode, data []byte) *Message {
		m = without(m, code)
		m.Options.Add(code, data...)
		return m
	}
	other := r.answer(Advertise, serverA, lease)
	other.XID ^= 1
	for _, c := range []struct {
		m    *Message
		want Drop
	}{
		{other, DropXID},
		{r.answer(Advertise, nil, lease), DropServerID},
		{r.answer(Advertise, []byte{1}, lease), DropServerID},
		{r.answer(Advertise, make([]byte, maxDUID+1), lease), DropServerID},
		{without(r.answer(Advertise, serverA, lease), OptClientID), DropClientID},
		{bad(r.answer(Advertise, serverA, lease), OptClientID, serverB), DropClientID},
		{r.answer(Advertise, serverA), DropLease},
		{r.answer(Advertise, serverA, ia(OptIANA, 0, 0, NoAddrsAvail, nil)), DropLease},
		{r.answer(Advertise, serverA, status(NoAddrsAvail), lease), DropStatus},
		{r.answer(Advertise, serverA, ia(OptIANA, 9, 8, 0, nil, addr1)), DropLease},            // §21.4
		{r.answer(Advertise, serverA, ia(OptIANA, 0, 0, 0, []uint32{9, 8}, addr1)), DropLease}, // §21.6
		{r.answer(Advertise, serverA, ia(OptIANA, 0, 0, 0, []uint32{0, 0}, addr1)), DropLease}, // of no time
		{r.answer(Advertise, serverA, ia(OptIANA, 0, 0, 0, nil, netip.PrefixFrom(ourLL, 128))), DropLease},
		{r.answer(Advertise, serverA, ia(OptIANA, 0, 0, 0, nil, netip.PrefixFrom(AllServers, 128))), DropLease},
		{r.answer(Reconfigure, serverA), DropReconfigure},
		{r.answer(RelayReply, serverA), DropType},
		{r.answer(Solicit, serverA), DropType},
		{r.answer(Renew, serverA), DropType},
		{r.answer(99, serverA), DropType},
	} {
		r.input(c.m, c.want)
	}
	if _, d := r.c.Input(r.now, r.answer(Advertise, serverA, lease).Append(nil), addr1.Addr()); d != DropDestination {
		t.Error(d)
	}
	for _, b := range [][]byte{nil, {2, 0, 0}, {2, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 1, 0, 2, 1}} {
		if _, d := r.c.Input(r.now, b, ourLL); d != DropShort && d != DropOption {
			t.Error(d)
		}
	}
	if r.c.State() != Soliciting || r.took() != "SOLICIT" {
		t.Error("something was believed")
	}
	// In other states.
	r = bound(t, nil)
	r.until(Renew)
	r.input(r.answer(Reply, serverB, lease), DropServer)
	r.input(r.answer(Advertise, serverA, lease), DropState)
	for _, s := range []StatusCode{UnspecFail, UseMulticast, 77} {
		r.input(r.answer(Reply, serverA, status(s), lease), DropStatus)
	}
	r.input(r.answer(Reply, serverA), DropLease)
	if r.c.State() != Renewing {
		t.Error(r.c.State())
	}
	for d := range NumDrops {
		if d.String() == "" || d.Error() == "" {
			t.Errorf("reason %d has no name", d)
		}
	}
}

// TestLifeOfALease: T1, T2, and the end when nobody answers (§18.2.4, §18.2.5).
func TestLifeOfALease(t *testing.T) {
	r := bound(t, nil)
	start := r.now
	m := r.until(Renew)
	if r.now != start.Add(1000*time.Second) || !bytes.Equal(m.Options.Get(OptServerID), serverA) || m.Options.association(OptIANA, testIAID).t1 != 0 {
		t.Errorf("RENEW after %v: %v", r.now.Sub(start), m)
	}
	if !bytes.Contains(m.Append(nil), append(addr1.Addr().AsSlice(), make([]byte, 8)...)) {
		t.Error("the lifetimes are the server's business")
	}
	m = r.until(Rebind)
	if r.now != start.Add(1600*time.Second) || m.Options.Has(OptServerID) {
		t.Errorf("REBIND after %v: %v", r.now.Sub(start), m)
	}
	if e := r.run(2001 * time.Second); !slices.Equal(e, []Event{EventLease}) { // no longer preferred
		t.Error(e)
	}
	if l, ok := r.c.Lease(); !ok || !l.Addrs[0].Preferred.Due(r.now) {
		t.Error(l)
	}
	if e := r.run(3600 * time.Second); !slices.Equal(e, []Event{EventLost}) || r.c.State() != Soliciting {
		t.Error(e, r.c.State())
	}
	if _, ok := r.c.Lease(); ok {
		t.Error("a lease that is over")
	}
	if !bytes.Contains(r.last.Append(nil), addr1.Addr().AsSlice()) {
		t.Error("what it was is not asked for")
	}
	// Another server answers the REBIND.
	r = bound(t, nil)
	r.until(Rebind)
	if e := r.input(r.answer(Reply, serverB, ia(OptIANA, 0, 0, 0, []uint32{100, 200}, addr1)), DropNone); e != EventLease || r.c.State() != Bound {
		t.Error(e)
	}
	if l, _ := r.c.Lease(); !bytes.Equal(l.Server, serverB) || l.T1 != 50*time.Second {
		t.Errorf("%+v", l)
	}
}

// TestTimes: T1, T2 and lifetimes of 0 and for ever (§14.2, §21.4).
func TestTimes(t *testing.T) {
	const inf = 0xffffffff
	for _, c := range []struct {
		t1, t2, preferred, valid uint32
		want1, want2             time.Duration
	}{
		{0, 0, 100, 200, 50 * time.Second, 80 * time.Second},
		{10, 0, 100, 200, 10 * time.Second, 80 * time.Second},
		{90, 0, 100, 200, 90 * time.Second, 90 * time.Second},
		{0, 20, 100, 200, 20 * time.Second, 20 * time.Second},
		{inf, inf, 100, 200, Infinite, Infinite},
		{0, 0, inf, inf, Infinite, Infinite},
		{0, 0, 0, 200, 100 * time.Second, 160 * time.Second},
		{5, 6, inf, inf, 5 * time.Second, 6 * time.Second},
	} {
		r := bound(t, nil, ia(OptIANA, c.t1, c.t2, 0, []uint32{c.preferred, c.valid}, addr1))
		l, _ := r.c.Lease()
		if l.T1 != c.want1 || l.T2 != c.want2 || (l.Addrs[0].Valid == 0) != (c.valid == inf) {
			t.Errorf("%+v: %v %v %+v", c, l.T1, l.T2, l.Addrs)
		}
		if c.want1 == Infinite && c.valid == inf {
			if r.run(10000 * time.Hour); r.took() != "" {
				t.Error("a lease for ever is renewed")
			}
		}
	}
	// Of several the earliest (§18.2.4).
	r := bound(t, func(c *Config) { c.Delegate = 56 }, ia(OptIANA, 100, 500, 0, nil, addr1), ia(OptIAPD, 300, 400, 0, nil, prefix1))
	if l, _ := r.c.Lease(); l.T1 != 100*time.Second || l.T2 != 400*time.Second {
		t.Errorf("%+v", l)
	}
}

// TestRenewed: new ones come, named ones go, others stay (§18.2.10.1).
func TestRenewed(t *testing.T) {
	r := bound(t, nil)
	r.until(Renew)
	r.input(r.answer(Reply, serverA, ia(OptIANA, 0, 0, 0, nil, addr2)), DropNone)
	if l, _ := r.c.Lease(); !slices.Equal(prefixes(l.Addrs), []netip.Prefix{addr1, addr2}) {
		t.Errorf("%+v", l)
	}
	r.until(Renew)
	r.input(r.answer(Reply, serverA, ia(OptIANA, 0, 0, 0, []uint32{0, 0}, addr1)), DropNone)
	l, _ := r.c.Lease()
	if !slices.Equal(prefixes(l.Addrs), []netip.Prefix{addr2}) || l.T1 == Infinite || l.T1 == 0 {
		t.Errorf("%+v", l)
	}
	r.until(Renew)
	if e := r.input(r.answer(Reply, serverA, ia(OptIANA, 0, 0, 0, []uint32{0, 0}, addr2)), DropNone); e != EventLost || r.c.State() != Soliciting {
		t.Error(e, r.c.State())
	}
	// A server that has forgotten is asked anew, and addresses are used on.
	r = bound(t, nil)
	r.until(Renew)
	r.input(r.answer(Reply, serverA, ia(OptIANA, 0, 0, NoBinding, nil)), DropNone)
	if _, ok := r.c.Lease(); r.last.Type != Request || !ok || !bytes.Contains(r.last.Append(nil), addr1.Addr().AsSlice()) {
		t.Errorf("%v", r.last)
	}
	if e := r.input(r.answer(Reply, serverA, ia(OptIANA, 0, 0, 0, nil, addr2)), DropNone); e != EventLease || r.c.State() != Bound {
		t.Error(e)
	}
	// And if it has none: others are looked for.
	r.until(Renew)
	r.input(r.answer(Reply, serverA, ia(OptIANA, 0, 0, NoBinding, nil)), DropNone)
	r.input(r.answer(Reply, serverA, ia(OptIANA, 0, 0, NotOnLink, nil)), DropStatus)
	if _, ok := r.c.Lease(); !ok || r.c.State() != Soliciting {
		t.Error(r.c.State())
	}
}

// TestLoop: a server that refuses at once, again and again, is asked at a bounded
// rate (§14.1).
func TestLoop(t *testing.T) {
	r := bound(t, nil)
	r.until(Renew)
	n := 0
	for end := r.now.Add(100 * time.Second); r.now < end; {
		switch r.last.Type {
		case Renew:
			r.c.Input(r.now, r.answer(Reply, serverA, ia(OptIANA, 0, 0, NoBinding, nil)).Append(nil), ourLL)
		case Request:
			r.c.Input(r.now, r.answer(Reply, serverA, ia(OptIANA, 1, 1, 0, []uint32{1, 1}, addr2)).Append(nil), ourLL)
		case Solicit:
			r.c.Input(r.now, r.answer(Advertise, serverA, Option{OptPreference, []byte{255}}, ia(OptIANA, 1, 1, 0, []uint32{1, 1}, addr2)).Append(nil), ourLL)
		}
		r.flush()
		n += len(r.said)
		r.said = nil
		r.now = max(r.now+1, r.c.Deadline())
		r.c.Expire(r.now)
		r.flush()
	}
	if n > 20+101 {
		t.Errorf("%d messages in 100 s", n)
	}
}

// TestRate: 20 messages in 20 seconds, the default that §14.1 suggests, of which
// all may go at once after a rest.
func TestRate(t *testing.T) {
	var b bucket
	now := mono.Time(time.Hour)
	most := func(n int) {
		t.Helper()
		for i := range n {
			if at := b.take(now); at != 0 {
				t.Fatalf("message %d of %d has to wait for %v", i+1, n, at.Sub(now))
			}
		}
		if at := b.take(now); at == 0 || at > now.Add(time.Second) {
			t.Fatalf("after %d: the next at %v", n, at)
		}
	}
	most(20)
	now = now.Add(time.Second)
	most(1)
	now = now.Add(5*time.Second + time.Second/2)
	most(5)
	now = now.Add(time.Second / 2) // no part of a second is lost
	most(1)
	now = now.Add(time.Hour)
	most(20)
}

// TestConfirm: after the link was away (§18.2.3, §18.2.12).
func TestConfirm(t *testing.T) {
	r := bound(t, nil)
	r.c.Start(r.now)
	m := r.until(Confirm)
	if m.Options.Has(OptServerID) || m.Options.Has(OptRequest) || !m.Options.Has(OptIANA) {
		t.Errorf("%v", m)
	}
	if e := r.input(r.answer(Reply, serverB, status(Success)), DropNone); e != EventNone || r.c.State() != Bound {
		t.Error(e, r.c.State())
	}
	r.c.Start(r.now)
	r.until(Confirm)
	r.took()
	r.input(r.answer(Reply, serverB, status(UnspecFail)), DropStatus)
	if e := r.run(cnfMaxRD + time.Second); len(e) != 0 || r.c.State() != Bound || strings.Count(r.took(), "CONFIRM") != 3 {
		t.Error(e, r.c.State())
	}
	r.c.Start(r.now)
	r.until(Confirm)
	if e := r.input(r.answer(Reply, serverB, status(NotOnLink)), DropNone); e != EventLost || r.c.State() != Soliciting {
		t.Error(e, r.c.State())
	}
	// Prefixes are verified by REBIND.
	r = bound(t, func(c *Config) { c.Delegate = 56 }, ia(OptIANA, 0, 0, 0, nil, addr1), ia(OptIAPD, 0, 0, 0, nil, prefix1))
	r.c.Start(r.now)
	if r.until(Rebind); r.c.State() != Verifying {
		t.Error(r.c.State())
	}
	if e := r.run(cnfMaxRD + time.Second); len(e) != 0 || r.c.State() != Bound {
		t.Error(e, r.c.State())
	}
	// What was held before is not used until it is verified.
	l, _ := r.c.Lease()
	l.Prefixes = nil
	c := newRig(t, func(c *Config) { c.Previous = l })
	c.now = r.now
	c.c.Start(c.now)
	c.until(Confirm)
	if _, ok := c.c.Lease(); ok {
		t.Error("used unverified")
	}
	if e := c.input(c.answer(Reply, serverA), DropNone); e != EventLease || c.c.State() != Bound {
		t.Error(e, c.c.State())
	}
	c = newRig(t, func(c *Config) { c.Previous = l })
	c.now = r.now.Add(3 * time.Hour)
	c.c.Start(c.now)
	if c.until(Solicit); c.took() != "SOLICIT" {
		t.Error("what is over is verified")
	}
}

// TestReleaseAndDecline (§18.2.7, §18.2.8).
func TestReleaseAndDecline(t *testing.T) {
	r := bound(t, nil)
	r.c.Release(r.now)
	m := r.until(Release)
	if _, ok := r.c.Lease(); ok || !bytes.Equal(m.Options.Get(OptServerID), serverA) || !m.Options.Has(OptIANA) || m.Options.Has(OptRequest) {
		t.Errorf("%v", m)
	}
	if r.run(time.Minute); r.took() != "RELEASE RELEASE RELEASE RELEASE" || r.c.State() != Stopped {
		t.Error(r.c.State())
	}
	r = bound(t, nil)
	r.c.Release(r.now)
	r.until(Release)
	if r.input(r.answer(Reply, serverA, status(NoBinding)), DropNone); r.c.State() != Stopped {
		t.Error(r.c.State())
	}
	r.c.Release(r.now)
	if r.flush(); r.took() != "RELEASE" {
		t.Error("there is nothing to release")
	}
	// Of two addresses one is in use.
	r = bound(t, nil, ia(OptIANA, 0, 0, 0, nil, addr1, addr2))
	r.c.Decline(r.now, ourLL)
	r.c.Decline(r.now, addr1.Addr())
	m = r.until(Decline)
	if !bytes.Contains(m.Append(nil), addr1.Addr().AsSlice()) || bytes.Contains(m.Append(nil), addr2.Addr().AsSlice()) {
		t.Errorf("%v", m)
	}
	r.input(r.answer(Reply, serverA), DropNone)
	if l, ok := r.c.Lease(); !ok || len(l.Addrs) != 1 || r.c.State() != Bound {
		t.Errorf("%+v", l)
	}
	r.c.Decline(r.now, addr2.Addr())
	r.took()
	r.until(Solicit)
	if got := r.took(); got != "DECLINE DECLINE DECLINE DECLINE SOLICIT" || bytes.Contains(r.last.Append(nil), addr2.Addr().AsSlice()) {
		t.Error(got)
	}
	// Again and again: slower.
	for n := range maxDeclines {
		at := r.now
		r.input(r.answer(Advertise, serverA, Option{OptPreference, []byte{255}}, ia(OptIANA, 0, 0, 0, nil, addr1)), DropNone)
		r.until(Request) // the rate may have to be kept
		r.input(r.answer(Reply, serverA, ia(OptIANA, 0, 0, 0, nil, addr1)), DropNone)
		r.c.Decline(r.now, addr1.Addr())
		r.until(Decline)
		r.input(r.answer(Reply, serverA), DropNone)
		r.until(Solicit)
		if d := r.now.Sub(at); (d > conflictWait) != (n >= maxDeclines-3) {
			t.Errorf("%d: after %v", n, d)
		}
	}
}

// TestInform: without leases, refreshed in time (§18.2.6, §21.23).
func TestInform(t *testing.T) {
	for _, c := range []struct {
		say  []Option
		want time.Duration
	}{{nil, irtDefault}, {[]Option{seconds(OptRefreshTime, 10)}, irtMinimum}, {[]Option{seconds(OptRefreshTime, 7000)}, 7000 * time.Second},
		{[]Option{seconds(OptRefreshTime, 0xffffffff)}, Infinite}} {
		r := newRig(t, nil)
		r.c.Inform(r.now)
		m := r.until(InformationRequest)
		if m.Options.Has(OptIANA) || !bytes.Equal(m.Options.Get(OptClientID), testDUID) || !bytes.Contains(m.Options.Get(OptRequest), []byte{0, byte(OptRefreshTime), 0, byte(OptInfMaxRT)}) {
			t.Errorf("%v", m)
		}
		r.input(r.answer(Reply, serverA, status(UnspecFail)), DropStatus)
		if e := r.input(r.answer(Reply, serverA, append(c.say, Option{OptDNS, addr1.Addr().AsSlice()})...), DropNone); e != EventInformed {
			t.Error(e)
		}
		l, ok := r.c.Parameters()
		if !ok || l.Refresh != c.want || len(l.DNS) != 1 || r.c.State() != Informed {
			t.Errorf("%+v", l)
		}
		r.took()
		r.run(min(c.want, 1000*time.Hour) + 2*time.Second)
		if got := r.took(); (got == "") != (c.want == Infinite) {
			t.Errorf("%v: %q", c.want, got)
		}
	}
}

// TestMaxRT: servers may slow clients down (§21.24, §21.25), within limits, and
// by what is ignored otherwise.
func TestMaxRT(t *testing.T) {
	r := newRig(t, nil)
	r.c.Start(r.now)
	r.until(Solicit)
	for _, s := range []uint32{59, 86401, 0, 0xffffffff} {
		r.input(r.answer(Advertise, serverA, seconds(OptSolMaxRT, s)), DropLease)
	}
	if r.c.solMaxRT != solMaxRT {
		t.Error(r.c.solMaxRT)
	}
	r.input(r.answer(Advertise, serverA, seconds(OptSolMaxRT, 60), seconds(OptInfMaxRT, 86400)), DropLease)
	if r.c.solMaxRT != time.Minute || r.c.infMaxRT != mostMaxRT {
		t.Error(r.c.solMaxRT, r.c.infMaxRT)
	}
	r.run(time.Hour)
	if n := strings.Count(r.took(), "SOLICIT"); n < 50 || n > 75 {
		t.Errorf("%d in an hour", n)
	}
}

// TestRetransmission: RFC 8415 §15, number by number.
func TestRetransmission(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	near := func(d, want time.Duration) bool { return d >= want-want/10 && d <= want+want/10 }
	for range 200 {
		x := exchange{irt: time.Second, mrt: 30 * time.Second, mrc: 10}
		now := mono.Time(1)
		if x.elapsed(now) != 0 {
			t.Error("not 0 in the first")
		}
		last := time.Duration(0)
		for n := 1; ; n++ {
			x.transmit(now, rnd)
			want := 2*last + 0
			switch {
			case n == 1:
				want = time.Second
			case want > 33*time.Second:
				want = 30 * time.Second
			}
			ok := near(x.rt, want)
			if n > 1 && want != 30*time.Second { // RAND is of the time before
				ok = x.rt >= 2*last-last/10-1 && x.rt <= 2*last+last/10+1 || near(x.rt, 30*time.Second)
			}
			if !ok || x.rt > 33*time.Second {
				t.Fatalf("%d: %v after %v", n, x.rt, last)
			}
			last = x.rt
			if now = x.next; x.failed(now) {
				if n != 10 {
					t.Errorf("gave up after %d", n)
				}
				break
			}
		}
		x = exchange{irt: time.Second, mrt: time.Hour, positive: true}
		if x.transmit(1, rnd); x.rt <= time.Second || x.rt > 1100*time.Millisecond {
			t.Errorf("the first SOLICIT: %v", x.rt)
		}
		x = exchange{irt: time.Second, mrt: 4 * time.Second, mrd: 10 * time.Second}
		for now = 1; ; now = x.next {
			if x.transmit(now, rnd); x.failed(x.next) {
				break
			}
		}
		if x.next != mono.Time(1).Add(10*time.Second) {
			t.Errorf("ends after %v", x.next)
		}
	}
	x := exchange{sent: 1, first: 1}
	if x.elapsed(mono.Time(1).Add(1500*time.Millisecond)) != 150 || x.elapsed(mono.Time(time.Hour)) != 0xffff {
		t.Error("elapsed time")
	}
}
