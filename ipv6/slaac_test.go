package ipv6

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// slaacNet is a host that writes down what the core tells it, with the virtual
// time in seconds since the start.
type slaacNet struct {
	*SLAAC
	now mono.Time
	log []string
	// flags is what SetAdvertisers told: apart from log, as each router is told of.
	flags   []string
	refused [NumDrops]int
}

const slaacEpoch = mono.Time(1_000_000)

func newSLAAC() *slaacNet {
	n := &slaacNet{now: slaacEpoch}
	n.SLAAC = NewSLAAC(n, SLAACConfig{IID: IIDConfig{Mode: IIDEUI64, MAC: mac}}, rand.New(rand.NewPCG(1, 2)))
	return n
}

func (n *slaacNet) note(format string, args ...any) {
	n.log = append(n.log, fmt.Sprintf("%v ", n.now.Sub(slaacEpoch))+fmt.Sprintf(format, args...))
}

func (n *slaacNet) left(t mono.Time) any {
	if t == 0 {
		return "for ever"
	}
	return t.Sub(n.now)
}

func (n *slaacNet) SendRouterSolicit() { n.note("solicit") }
func (n *slaacNet) AddAddress(p netip.Prefix, i AddressInfo) {
	n.note("add %v preferred %v valid %v", p, n.left(i.Preferred), n.left(i.Valid))
}
func (n *slaacNet) UpdateAddress(p netip.Prefix, i AddressInfo) {
	n.note("update %v preferred %v valid %v", p, n.left(i.Preferred), n.left(i.Valid))
}
func (n *slaacNet) Deprecate(p netip.Prefix, d bool) { n.note("deprecate %v %v", p, d) }
func (n *slaacNet) RemoveAddress(p netip.Prefix)     { n.note("remove %v", p) }
func (n *slaacNet) SetRoute(dst netip.Prefix, a netip.Addr, p Preference) {
	if dst == defaultRoute && p == PreferMedium {
		n.note("router %v", a)
		return
	}
	n.note("route %v by %v %d", dst, a, p)
}
func (n *slaacNet) RemoveRoute(dst netip.Prefix, a netip.Addr) {
	if dst == defaultRoute {
		n.note("no router %v", a)
		return
	}
	n.note("no route %v by %v", dst, a)
}
func (n *slaacNet) SetNames(s []netip.Addr, d []string) { n.note("names %v %v", s, d) }
func (n *slaacNet) SetDHCP(managed, other bool)         { n.note("dhcp %v %v", managed, other) }
func (n *slaacNet) SetAdvertisers(list []Advertiser) {
	var s []string
	for _, a := range list {
		s = append(s, fmt.Sprintf("%v(%v)", a.Router, a.Flags))
	}
	n.flags = append(n.flags, strings.Join(s, ", "))
}
func (n *slaacNet) SetPortal(uri string)                   { n.note("portal %s", uri) }
func (n *slaacNet) AddOnLink(p netip.Prefix)               { n.note("on-link %v", p) }
func (n *slaacNet) RemoveOnLink(p netip.Prefix)            { n.note("off-link %v", p) }
func (n *slaacNet) Refused(why Drop)                       { n.refused[why]++ }
func (n *slaacNet) SetMTU(mtu int)                         { n.note("mtu %d", mtu) }
func (n *slaacNet) SetHopLimit(h uint8)                    { n.note("hop limit %d", h) }
func (n *slaacNet) SetTimers(reach, retrans time.Duration) { n.note("timers %v %v", reach, retrans) }

// runTo lets time pass, stopping at each deadline. Every stop must bring the
// core further.
func (n *slaacNet) runTo(t *testing.T, at time.Duration) {
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

// take returns what was noted and forgets it.
func (n *slaacNet) take() []string {
	l := n.log
	n.log = nil
	return l
}

func (n *slaacNet) expect(t *testing.T, want ...string) {
	t.Helper()
	if got := n.take(); !reflect.DeepEqual(got, want) && len(got)+len(want) > 0 {
		t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func prefixInfo(p string, valid, preferred time.Duration) PrefixInfo {
	return PrefixInfo{Prefix: netip.MustParsePrefix(p), OnLink: true, Autonomous: true, Valid: valid, Preferred: preferred}
}

// quiet starts a core whose solicitations are over.
func quiet(t *testing.T) *slaacNet {
	n := newSLAAC()
	n.Start(n.now)
	n.runTo(t, time.Minute)
	n.now = slaacEpoch
	n.answered()
	n.updateDeadline()
	n.take()
	return n
}

const address = "2001:db8::ff:fe00:7/64"

// TestSolicitations: RFC 4861 §6.3.7 says when the first goes out, RFC 7559 §2
// how far apart the others are.
func TestSolicitations(t *testing.T) {
	n := newSLAAC()
	n.Start(n.now)
	var sent []time.Duration
	at := func() {
		for _, l := range n.take() {
			when, err := time.ParseDuration(strings.Fields(l)[0])
			if err != nil || !strings.HasSuffix(l, " solicit") {
				t.Fatal(l)
			}
			sent = append(sent, when)
		}
	}
	n.runTo(t, 12*time.Hour)
	at()
	if len(sent) < 15 || sent[0] > time.Second {
		t.Fatalf("%v", sent)
	}
	last := 2 * time.Second
	for i := 1; i < len(sent); i++ {
		rt := sent[i] - sent[i-1]
		low, high := last*19/10, last*21/10
		if i == 1 {
			low, high = 3600*time.Millisecond, 4400*time.Millisecond
		}
		if low, high = min(low, 3240*time.Second), min(high, 3960*time.Second); rt < low || rt > high {
			t.Errorf("%v after the one before, not %v to %v", rt, low, high)
		}
		last = rt
	}
	// Who is no default router does not end them, one ends them.
	count := len(sent)
	n.Input(n.now, hostA, &RouterAdvert{})
	n.runTo(t, 24*time.Hour)
	at()
	if len(sent) == count {
		t.Error("no more after an advertisement without lifetime")
	}
	n.Input(n.now, hostA, &RouterAdvert{Lifetime: time.Hour})
	n.runTo(t, 100*time.Hour)
	n.expect(t, "24h0m0s router "+hostA.String(), "25h0m0s no router "+hostA.String())
}

// TestSolicitationAfterAdvertisement: one goes out all the same.
func TestSolicitationAfterAdvertisement(t *testing.T) {
	n := newSLAAC()
	n.Start(n.now)
	n.Input(n.now, hostA, &RouterAdvert{Lifetime: 3 * time.Hour})
	n.take()
	n.runTo(t, time.Hour)
	if got := n.take(); len(got) != 1 || !strings.HasSuffix(got[0], "solicit") {
		t.Errorf("%v", got)
	}
}

func TestSolicitationsEndWithARouter(t *testing.T) {
	n := newSLAAC()
	n.Start(n.now)
	n.runTo(t, 2*time.Second)
	if len(n.take()) != 1 {
		t.Fatal("not one solicitation")
	}
	// An advertisement that offers no default router does not end them.
	n.Input(n.now, hostB, &RouterAdvert{})
	n.runTo(t, 6*time.Second)
	if len(n.take()) != 1 {
		t.Fatal("no second solicitation")
	}
	n.Input(n.now, hostB, &RouterAdvert{Lifetime: time.Hour})
	n.runTo(t, 30*time.Second)
	n.expect(t, "6s router fe80::b")
}

func TestOneSolicitationAfterAnEarlyAdvertisement(t *testing.T) {
	n := newSLAAC()
	n.Start(n.now)
	n.Input(n.now, hostB, &RouterAdvert{Lifetime: time.Hour})
	n.take()
	n.runTo(t, 30*time.Second)
	if got := n.take(); len(got) != 1 || !strings.HasSuffix(got[0], "solicit") {
		t.Errorf("%q", got)
	}
}

func TestNothingIsSentBeforeStartNorLearntAfterStop(t *testing.T) {
	n := newSLAAC()
	ra := &RouterAdvert{Lifetime: time.Hour, Prefixes: []PrefixInfo{prefixInfo("2001:db8::/64", time.Hour, time.Hour)}}
	n.Input(n.now, hostB, ra)
	n.expect(t, "0s router fe80::b", "0s on-link 2001:db8::/64", "0s add "+address+" preferred 1h0m0s valid 1h0m0s")
	n.Start(n.now)
	n.Stop()
	n.expect(t, "0s remove "+address, "0s off-link 2001:db8::/64", "0s no router fe80::b")
	n.Input(n.now, hostB, ra)
	if n.expect(t); n.Deadline() != 0 {
		t.Error("deadline after Stop")
	}
	n.Start(n.now)
	if n.Deadline() == 0 {
		t.Error("does not start again")
	}
}

func TestLinkParameters(t *testing.T) {
	n := quiet(t)
	n.Input(n.now, hostB, &RouterAdvert{HopLimit: 31, MTU: 1400, Reachable: 30 * time.Second, Retrans: 2 * time.Second})
	n.expect(t, "0s hop limit 31", "0s timers 30s 2s", "0s mtu 1400")
	// RFC 4861 §6.3.4: zero says nothing. An MTU below the minimum is void.
	n.Input(n.now, hostB, &RouterAdvert{MTU: 1279})
	n.Input(n.now, hostB, &RouterAdvert{MTU: 1 << 31})
	n.expect(t)
	// No advertisement may turn a host into a flood.
	n.Input(n.now, hostB, &RouterAdvert{Reachable: time.Millisecond, Retrans: time.Millisecond})
	n.Input(n.now, hostB, &RouterAdvert{Reachable: 1000 * time.Hour})
	n.expect(t, "0s timers 100ms 10ms", "0s timers 1h0m0s 0s")
	// Nor one that asks nothing more, whose addresses stay tentative.
	n.Input(n.now, hostB, &RouterAdvert{Retrans: 49 * 24 * time.Hour})
	n.expect(t, "0s timers 0s 1m0s")
}

func TestDefaultRouters(t *testing.T) {
	n := quiet(t)
	n.Input(n.now, hostA, &RouterAdvert{Lifetime: 10 * time.Second})
	n.Input(n.now, hostB, &RouterAdvert{Lifetime: time.Minute})
	n.Input(n.now, hostB, &RouterAdvert{Lifetime: 30 * time.Second})
	n.runTo(t, time.Hour)
	n.expect(t, "0s router fe80::a", "0s router fe80::b", "10s no router fe80::a", "30s no router fe80::b")
	n.Input(n.now, hostA, &RouterAdvert{Lifetime: 10 * time.Second})
	n.Input(n.now, hostA, &RouterAdvert{})
	n.Input(n.now, hostA, &RouterAdvert{})
	n.expect(t, "1h0m0s router fe80::a", "1h0m0s no router fe80::a")
}

func TestOnLinkPrefixes(t *testing.T) {
	n := quiet(t)
	on := func(valid time.Duration) *RouterAdvert {
		p := prefixInfo("2001:db8:5::/48", valid, 0)
		p.Autonomous = false
		return &RouterAdvert{Prefixes: []PrefixInfo{p}}
	}
	n.Input(n.now, hostB, on(0)) // unknown and over: nothing
	n.Input(n.now, hostB, on(time.Minute))
	n.Input(n.now, hostB, on(time.Hour))
	n.runTo(t, 2*time.Hour)
	n.expect(t, "0s on-link 2001:db8:5::/48", "1h0m0s off-link 2001:db8:5::/48")
	n.Input(n.now, hostB, on(Infinite))
	n.runTo(t, 2*time.Hour+advDefaultLifetime) // then its router was not heard for long
	if n.Deadline() != 0 {
		t.Error("an infinite prefix has a deadline")
	}
	n.Input(n.now, hostB, on(0)) // times out at once
	n.expect(t, "2h0m0s on-link 2001:db8:5::/48", "2h30m0s off-link 2001:db8:5::/48")
	// Without L the prefix says nothing about the link, not even with a
	// lifetime of zero.
	n.Input(n.now, hostB, on(time.Hour))
	off := on(0)
	off.Prefixes[0].OnLink = false
	n.Input(n.now, hostB, off)
	n.expect(t, "2h30m0s on-link 2001:db8:5::/48")
}

// RFC 4862 §5.5.3 (a) to (d): which prefixes make an address.
func TestWhichPrefixesMakeAnAddress(t *testing.T) {
	for _, c := range []struct {
		name string
		p    PrefixInfo
		want []string
	}{
		{"ordinary", prefixInfo("2001:db8::/64", 2*time.Hour, time.Hour), []string{"0s add " + address + " preferred 1h0m0s valid 2h0m0s"}},
		{"for ever", prefixInfo("2001:db8::/64", Infinite, Infinite), []string{"0s add " + address + " preferred for ever valid for ever"}},
		{"deprecated from the start", prefixInfo("2001:db8::/64", time.Hour, 0), []string{"0s add " + address + " preferred 0s valid 1h0m0s", "0s deprecate " + address + " true"}},
		{"(b) link-local", prefixInfo("fe80::/64", time.Hour, time.Hour), nil},
		{"multicast", prefixInfo("ff02::/64", time.Hour, time.Hour), nil},
		{"(c) preferred longer than valid", prefixInfo("2001:db8::/64", time.Hour, 2*time.Hour), nil},
		{"(d) valid lifetime zero", prefixInfo("2001:db8::/64", 0, 0), nil},
		{"(d) 63 bits", prefixInfo("2001:db8::/63", time.Hour, time.Hour), nil},
		{"(d) 65 bits", prefixInfo("2001:db8::/65", time.Hour, time.Hour), nil},
	} {
		n := quiet(t)
		c.p.OnLink = false
		n.Input(n.now, hostB, &RouterAdvert{Prefixes: []PrefixInfo{c.p}})
		c.p.Autonomous = false // (a)
		c.p.Prefix = netip.MustParsePrefix("2001:db8:9::/64")
		n.Input(n.now, hostB, &RouterAdvert{Prefixes: []PrefixInfo{c.p}})
		t.Run(c.name, func(t *testing.T) { n.expect(t, c.want...) })
	}
}

// RFC 4862 §5.5.3 (e): what an advertisement makes of the lifetime an address
// has left.
func TestTwoHourRule(t *testing.T) {
	const h, m = time.Hour, time.Minute
	for _, c := range []struct{ left, received, want time.Duration }{
		{3 * h, 4 * h, 4 * h}, // 1: longer than two hours
		{5 * h, 4 * h, 4 * h}, // 1: even though less than what is left
		{5 * h, 2*h + 1*time.Second, 2*h + 1*time.Second},
		{30 * m, 40 * m, 40 * m},           // 1: longer than what is left
		{30 * m, 30 * m, 30 * m},           // 2: not longer: keep
		{30 * m, 10 * m, 30 * m},           // 2: keep
		{30 * m, 0, 30 * m},                // 2: keep
		{2 * h, 10 * m, 2 * h},             // 2: exactly two hours left: keep
		{2*h + time.Second, 10 * m, 2 * h}, // 3: cut to two hours
		{5 * h, 0, 2 * h},                  // 3
		{5 * h, 2 * h, 2 * h},              // 3
		{Infinite, 10 * m, 2 * h},          // 3
		{Infinite, 3 * h, 3 * h},           // 1
		{30 * m, Infinite, Infinite},       // 1
		{Infinite, Infinite, Infinite},     // 1
	} {
		n := quiet(t)
		ra := &RouterAdvert{Prefixes: []PrefixInfo{prefixInfo("2001:db8::/64", c.left, 10*m)}}
		ra.Prefixes[0].OnLink = false
		n.Input(n.now, hostB, ra)
		n.take()
		ra.Prefixes[0].Valid, ra.Prefixes[0].Preferred = c.received, min(c.received, 5*m)
		n.Input(n.now, hostB, ra)
		want := any(c.want)
		if c.want == Infinite {
			want = "for ever"
		}
		// The preferred lifetime is taken in every case.
		lines := []string{fmt.Sprintf("0s update %s preferred %v valid %v", address, min(c.received, 5*m), want)}
		if c.received == 0 {
			lines = append(lines, "0s deprecate "+address+" true")
		}
		t.Run(fmt.Sprintf("%v left, %v received", c.left, c.received), func(t *testing.T) { n.expect(t, lines...) })
	}
}

func TestDeprecationEndsWithANewLifetime(t *testing.T) {
	n := quiet(t)
	ra := &RouterAdvert{Prefixes: []PrefixInfo{prefixInfo("2001:db8::/64", time.Hour, time.Minute)}}
	ra.Prefixes[0].OnLink = false
	n.Input(n.now, hostB, ra)
	n.runTo(t, 2*time.Minute)
	n.Input(n.now, hostB, ra)
	n.expect(t, "0s add "+address+" preferred 1m0s valid 1h0m0s", "1m0s deprecate "+address+" true",
		"2m0s update "+address+" preferred 1m0s valid 1h0m0s", "2m0s deprecate "+address+" false")
}

// A day: a router advertises every ten minutes for six hours and then falls
// silent.
func TestSLAACOverADay(t *testing.T) {
	n := newSLAAC()
	n.Start(n.now)
	n.runTo(t, time.Second)
	n.take()
	ra := &RouterAdvert{Lifetime: 30 * time.Minute, Prefixes: []PrefixInfo{prefixInfo("2001:db8::/64", 12*time.Hour, 2*time.Hour)}}
	updates := 0
	var rest []string
	for at := 10 * time.Minute; at <= 6*time.Hour; at += 10 * time.Minute {
		// Late solicitations are over before the first advertisement.
		n.runTo(t, at)
		if at == 10*time.Minute {
			n.take()
		}
		n.Input(n.now, hostB, ra)
		for _, l := range n.take() {
			if strings.Contains(l, " update ") {
				updates++
			} else {
				rest = append(rest, l)
			}
		}
	}
	n.runTo(t, 24*time.Hour)
	n.log = append(rest, n.log...)
	n.expect(t,
		"10m0s router fe80::b",
		"10m0s on-link 2001:db8::/64",
		"10m0s add "+address+" preferred 2h0m0s valid 12h0m0s",
		"6h30m0s no router fe80::b",
		"8h0m0s deprecate "+address+" true",
		"18h0m0s off-link 2001:db8::/64",
		"18h0m0s remove "+address,
	)
	if updates != 35 || n.Deadline() != 0 {
		t.Errorf("%d updates, deadline %v", updates, n.Deadline())
	}
}

func TestAdvertisementFloodIsBounded(t *testing.T) {
	n := quiet(t)
	for i := range 1000 {
		a, p := hostA.As16(), globalA.As16()
		a[14], a[15] = byte(i>>8), byte(i)
		p[6], p[7] = byte(i>>8), byte(i)
		n.Input(n.now, netip.AddrFrom16(a), &RouterAdvert{Lifetime: time.Hour, Prefixes: []PrefixInfo{{
			Prefix: netip.PrefixFrom(netip.AddrFrom16(p), 64).Masked(), OnLink: true, Autonomous: true, Valid: time.Hour, Preferred: time.Hour}}})
	}
	count := map[string]int{}
	for _, l := range n.take() {
		count[strings.Fields(l)[1]]++
	}
	if want := map[string]int{"router": MaxRouters, "on-link": MaxOnLink, "add": MaxAddresses}; !reflect.DeepEqual(count, want) {
		t.Errorf("%v", count)
	}
	if a, r := n.refused[DropAddressLimit], n.refused[DropRouteLimit]; a != 1000-MaxAddresses || r != 2000-MaxRouters-MaxOnLink {
		t.Errorf("refused %d addresses, %d routes", a, r)
	}
}

// FuzzSLAAC plays any advertisements at any times and checks that the host is
// told a consistent story: nothing is added twice, and what was added ends.
func FuzzSLAAC(f *testing.F) {
	ra := RouterAdvert{Lifetime: time.Hour, Prefixes: []PrefixInfo{prefixInfo("2001:db8::/64", time.Hour, time.Minute)}}
	f.Add(ra.Append(nil), uint32(30), ra.Append(nil), uint32(7200))
	f.Fuzz(func(t *testing.T, one []byte, wait1 uint32, two []byte, wait2 uint32) {
		n := quiet(t)
		at := time.Duration(0)
		for i := range 4 {
			body, wait := one, wait1
			if i%2 == 1 {
				body, wait = two, wait2
			}
			if ra, d := ParseRouterAdvert(header(hostB, AllNodes), body); d == DropNone {
				n.Input(n.now, hostB, &ra)
			}
			at += time.Duration(wait) * time.Second
			n.runTo(t, at)
		}
		n.Stop()
		have := map[string]int{}
		for _, l := range n.log {
			w := strings.Fields(l)
			switch key := w[len(w)-1]; w[1] {
			case "add":
				have[w[2]]++
			case "on-link":
				have["on "+key]++
			case "router":
				have["::/0 via "+key] = 1 // again with another preference
			case "route":
				have[w[2]+" via "+w[4]] = 1
			case "remove":
				have[key]--
			case "off-link":
				have["on "+key]--
			case "no":
				if w[2] == "route" {
					have[w[3]+" via "+key]--
				} else {
					have["::/0 via "+key]--
				}
			case "update", "deprecate":
				if have[w[2]] != 1 {
					t.Fatalf("%s of an address that is not there", l)
				}
			}
			for k, v := range have {
				if v < 0 || v > 1 {
					t.Fatalf("%s: %s counted %d", l, k, v)
				}
			}
		}
		for k, v := range have {
			if v != 0 {
				t.Fatalf("%s never ends", k)
			}
		}
	})
}
