package ipv6

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestStableIID: RFC 7217 §4: the same on one network each time, another for
// each prefix, interface and secret, and never one that is reserved.
func TestStableIID(t *testing.T) {
	c := IIDConfig{MAC: mac, Name: "tap7", Secret: [16]byte{1}}
	p, q := netip.MustParsePrefix("2001:db8:1::/64"), netip.MustParsePrefix("2001:db8:2::/64")
	first := c.Stable(p, 0)
	if c.Stable(p, 0) != first || c.Stable(netip.MustParsePrefix("2001:db8:1::99/64"), 0) != first {
		t.Error("not stable")
	}
	seen := map[[8]byte]string{first: "the first"}
	other := func(name string, c IIDConfig, p netip.Prefix, tries uint8) {
		iid := c.Stable(p, tries)
		if was, ok := seen[iid]; ok {
			t.Errorf("%s gives that of %s", name, was)
		}
		seen[iid] = name
	}
	other("another prefix", c, q, 0)
	other("another try", c, p, 1)
	d := c
	d.Name = "tap8"
	other("another interface", d, p, 0)
	d = c
	d.Secret[15] = 1
	other("another secret", d, p, 0)
	d = c
	d.MAC[5]++
	other("another MAC address", d, p, 0)
	d = c
	d.Mode = IIDEUI64
	if d.Stable(p, 0) != InterfaceID(mac) || d.Stable(q, 3) != InterfaceID(mac) {
		t.Error("EUI-64 is not the MAC address")
	}
	for iid, want := range map[[8]byte]bool{
		{}: true, {7: 1}: false,
		{0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x80}: true, {0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}: true,
		{0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}: false,
		{2, 0, 0x5e, 0xff, 0xfe, 0, 0, 0}:                true, {2, 0, 0x5e, 0xff, 0xfe, 0xff, 0xff, 0xff}: true, {2, 0, 0x5e, 0xff, 0xff}: false,
	} {
		if ReservedIID(iid) != want {
			t.Errorf("%x reserved: %v", iid, !want)
		}
	}
}

// privacyNet is a core with opaque and temporary addresses.
func privacyNet(t *testing.T, temporary bool) *slaacNet {
	n := &slaacNet{now: slaacEpoch}
	n.SLAAC = NewSLAAC(n, SLAACConfig{IID: IIDConfig{MAC: mac, Name: "tap7", Secret: [16]byte{1}}, Temporary: temporary}, rand.New(rand.NewPCG(1, 2)))
	n.Start(n.now)
	n.answered()
	n.solicitAt = 0
	n.updateDeadline()
	return n
}

// added are the addresses that the host was told to add, in order; the log is
// forgotten.
func (n *slaacNet) added(t *testing.T) (list []netip.Addr) {
	for _, l := range n.take() {
		if w := strings.Fields(l); w[1] == "add" {
			list = append(list, netip.MustParsePrefix(w[2]).Addr())
		}
	}
	return list
}

// TestDuplicateOpaque: RFC 7217 §6: another identifier, after a second, three
// times.
func TestDuplicateOpaque(t *testing.T) {
	n := privacyNet(t, false)
	n.Input(n.now, hostA, &RouterAdvert{Prefixes: []PrefixInfo{prefixInfo("2001:db8::/64", 24*time.Hour, 24*time.Hour)}})
	seen := map[netip.Addr]bool{}
	for i := range 4 {
		a := n.added(t)
		if len(a) != 1 || seen[a[0]] {
			t.Fatalf("address %d: %v", i, a)
		}
		seen[a[0]] = true
		n.Duplicate(n.now, a[0])
		n.runTo(t, n.now.Sub(slaacEpoch)+IDGenDelay-time.Millisecond)
		if a := n.added(t); len(a) > 0 {
			t.Fatalf("%v at once", a)
		}
		n.runTo(t, n.now.Sub(slaacEpoch)+time.Millisecond)
	}
	n.Input(n.now, hostA, &RouterAdvert{Prefixes: []PrefixInfo{prefixInfo("2001:db8::/64", 24*time.Hour, 24*time.Hour)}})
	n.runTo(t, 48*time.Hour)
	for _, l := range n.take() {
		if w := strings.Fields(l)[1]; w == "add" || w == "remove" || w == "update" || w == "deprecate" {
			t.Errorf("after four: %s", l)
		}
	}
}

// TestDuplicateEUI64: there is no other identifier.
func TestDuplicateEUI64(t *testing.T) {
	n := quiet(t)
	for range 3 {
		n.Input(n.now, hostA, &RouterAdvert{Prefixes: []PrefixInfo{prefixInfo("2001:db8::/64", time.Hour, time.Hour)}})
		for _, a := range n.added(t) {
			n.Duplicate(n.now, a)
		}
	}
	n.runTo(t, 2*time.Hour)
	if a := n.added(t); len(a) > 0 {
		t.Errorf("%v again", a)
	}
	n.Duplicate(n.now, hostB) // not ours
}

// life is what the host was told of one address.
type life struct {
	from, deprecated, to, valid time.Duration
}

// TestTemporary follows the temporary addresses of a week, with an
// advertisement each ten minutes (RFC 8981 §3.4, §3.5).
func TestTemporary(t *testing.T) {
	n := privacyNet(t, true)
	lives := map[string]*life{}
	var order []string
	note := func() {
		for _, l := range n.take() {
			w := strings.Fields(l)
			at, _ := time.ParseDuration(w[0])
			switch {
			case w[1] == "add":
				valid, _ := time.ParseDuration(w[6])
				lives[w[2]] = &life{from: at, valid: valid}
				order = append(order, w[2])
			case w[1] == "update":
				valid, _ := time.ParseDuration(w[6])
				lives[w[2]].valid = at + valid - lives[w[2]].from
			case w[1] == "deprecate" && w[3] == "true":
				lives[w[2]].deprecated = at
			case w[1] == "deprecate":
				t.Fatalf("%s", l)
			case w[1] == "remove":
				lives[w[2]].to = at
			}
		}
	}
	const end = 7 * 24 * time.Hour
	for at := time.Duration(0); at < end; at += 10 * time.Minute {
		n.runTo(t, at)
		n.Input(n.now, hostA, &RouterAdvert{Prefixes: []PrefixInfo{prefixInfo("2001:db8::/64", 30*24*time.Hour, 7*24*time.Hour)}})
		note()
	}
	temporary := slices.DeleteFunc(order, func(a string) bool { return lives[a].deprecated == 0 && lives[a].from == 0 && a == order[0] })
	if len(temporary) < 8 {
		t.Fatalf("%d addresses in a week", len(temporary))
	}
	for i, a := range temporary[:len(temporary)-3] {
		l := lives[a]
		if used := l.deprecated - l.from; used > tempPreferredLifetime || used < tempPreferredLifetime-maxDesyncFactor {
			t.Errorf("%s preferred for %v", a, used)
		}
		if l.to-l.from != tempValidLifetime {
			t.Errorf("%s there for %v", a, l.to-l.from)
		}
		// The next one is there before this one is deprecated.
		if next := lives[temporary[i+1]]; l.deprecated-next.from != regenAdvance {
			t.Errorf("%s: the next came %v before", a, l.deprecated-next.from)
		}
	}
	if len(n.addresses) > 5 {
		t.Errorf("%d addresses at once", len(n.addresses))
	}

	// The prefix is withdrawn: all of them are deprecated, none is made, and
	// they end with their own lifetimes at the latest.
	n.Input(n.now, hostA, &RouterAdvert{Prefixes: []PrefixInfo{prefixInfo("2001:db8::/64", 3*time.Hour, 0)}})
	n.take()
	for _, a := range n.addresses {
		if !a.deprecated || a.Valid == 0 || a.Valid.Sub(n.now) > 3*time.Hour {
			t.Errorf("%v: %+v", a.prefix, a)
		}
	}
	n.runTo(t, end+4*time.Hour)
	if a := n.added(t); len(a) > 0 || len(n.addresses) > 0 || n.Deadline() != 0 {
		t.Errorf("%v, %v", a, n.addresses)
	}
}

// TestDuplicateTemporary: three are tried, RFC 8981 §3.4 step 6.
func TestDuplicateTemporary(t *testing.T) {
	n := privacyNet(t, true)
	ra := &RouterAdvert{Prefixes: []PrefixInfo{prefixInfo("2001:db8::/64", 48*time.Hour, 48*time.Hour)}}
	n.Input(n.now, hostA, ra)
	a := n.added(t)
	if len(a) != 2 {
		t.Fatalf("%v", a)
	}
	for i := range 3 {
		n.Duplicate(n.now, a[len(a)-1])
		n.Input(n.now, hostA, ra)
		if a = n.added(t); len(a) != 1 && i < 2 || i == 2 && len(a) != 0 {
			t.Fatalf("after %d: %v", i, a)
		}
	}
	n.runTo(t, 12*time.Hour)
	n.Input(n.now, hostA, ra)
	if a = n.added(t); len(a) > 0 {
		t.Errorf("%v", a)
	}
}

// TestNoTemporaryForShortLives: RFC 8981 §3.4 step 4.
func TestNoTemporaryForShortLives(t *testing.T) {
	n := privacyNet(t, true)
	n.Input(n.now, hostA, &RouterAdvert{Prefixes: []PrefixInfo{prefixInfo("2001:db8::/64", time.Hour, regenAdvance)}})
	if a := n.added(t); len(a) != 1 {
		t.Errorf("%v", a)
	}
	n.Input(n.now, hostA, &RouterAdvert{Prefixes: []PrefixInfo{prefixInfo("2001:db8::/64", time.Hour, time.Minute)}})
	if a := n.added(t); len(a) != 1 {
		t.Errorf("%v after it grew", a)
	}
}

// TestTemporaryOfShortLives: a prefix that each advertisement prefers for a few
// seconds more has one temporary address, not one more with each.
func TestTemporaryOfShortLives(t *testing.T) {
	n := privacyNet(t, true)
	short := &RouterAdvert{Prefixes: []PrefixInfo{prefixInfo("2001:db8::/64", time.Hour, regenAdvance+3*time.Second)}}
	n.Input(n.now, hostA, short)
	if a := n.added(t); len(a) != 2 {
		t.Fatalf("%v", a)
	}
	for at := 4 * time.Second; at < 2*time.Minute; at += 4 * time.Second {
		n.runTo(t, at)
		n.Input(n.now, hostA, short)
		if a := n.added(t); len(a) > 0 {
			t.Fatalf("%v more after %v", a, at)
		}
	}
	// It has a successor when its own time is over.
	long := &RouterAdvert{Prefixes: []PrefixInfo{prefixInfo("2001:db8::/64", 48*time.Hour, 48*time.Hour)}}
	n.Input(n.now, hostA, long)
	n.runTo(t, tempPreferredLifetime)
	if a := n.added(t); len(a) != 1 {
		t.Errorf("%v after a day", a)
	}
}

// TestRouterPreferences: RFC 4191 §2.2, §2.3, §3.1.
func TestRouterPreferences(t *testing.T) {
	n := quiet(t)
	route := netip.MustParsePrefix("2001:db8:5::/48")
	n.Input(n.now, hostA, &RouterAdvert{Lifetime: time.Hour, Preference: PreferHigh, Routes: []RouteInfo{{route, PreferLow, time.Minute}}})
	n.Input(n.now, hostB, &RouterAdvert{Lifetime: time.Hour, Routes: []RouteInfo{{defaultRoute, PreferLow, 2 * time.Hour}, {route, PreferMedium, Infinite}}})
	n.expect(t, "0s route ::/0 by fe80::a 1", "0s route 2001:db8:5::/48 by fe80::a -1", "0s route ::/0 by fe80::b -1", "0s route 2001:db8:5::/48 by fe80::b 0")
	n.Input(n.now, hostA, &RouterAdvert{Lifetime: time.Hour, Preference: PreferHigh})
	n.Input(n.now, hostA, &RouterAdvert{Lifetime: time.Hour, Preference: PreferLow})
	n.expect(t, "0s route ::/0 by fe80::a -1")
	n.runTo(t, 3*time.Hour)
	n.expect(t, "1m0s no route 2001:db8:5::/48 by fe80::a", "1h0m0s no router fe80::a", "2h0m0s no router fe80::b")
	n.Input(n.now, hostB, &RouterAdvert{Lifetime: time.Hour, Routes: []RouteInfo{{route, PreferMedium, 0}}})
	n.expect(t, "3h0m0s router fe80::b", "3h0m0s no route 2001:db8:5::/48 by fe80::b")
	// Routes neither take the places of routers nor are they without bound.
	var many []RouteInfo
	for i := range 100 {
		many = append(many, RouteInfo{netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, byte(i)}), 48), PreferMedium, time.Hour})
	}
	n.Input(n.now, hostA, &RouterAdvert{Routes: many})
	if got := len(n.take()); got != MaxRoutes {
		t.Errorf("%d routes", got)
	}
	n.Input(n.now, hostA, &RouterAdvert{Lifetime: time.Hour})
	n.expect(t, "3h0m0s router fe80::a")
	n.RouterGone(n.now, hostA)
	if got := len(n.take()); got != MaxRoutes+1 || len(n.routes) != 1 {
		t.Errorf("%d went, %d are left", got, len(n.routes))
	}
}

// TestNames: RFC 8106 §6.2.
func TestNames(t *testing.T) {
	n := quiet(t)
	a, b := netip.MustParseAddr("2001:db8::53"), netip.MustParseAddr("2001:db8::54")
	n.Input(n.now, hostA, &RouterAdvert{RDNSS: []DNSServer{{a, time.Hour}, {b, Infinite}}, DNSSL: []DNSDomain{{"example.org", 30 * time.Minute}}})
	n.Input(n.now, hostA, &RouterAdvert{RDNSS: []DNSServer{{a, 2 * time.Hour}}})
	n.Input(n.now, hostA, &RouterAdvert{RDNSS: []DNSServer{{netip.MustParseAddr("2001:db8::55"), 0}}})
	n.runTo(t, 3*time.Hour)
	n.Input(n.now, hostA, &RouterAdvert{RDNSS: []DNSServer{{b, 0}}})
	n.expect(t, "0s names [2001:db8::53 2001:db8::54] [example.org]", "30m0s names [2001:db8::53 2001:db8::54] []",
		"2h0m0s names [2001:db8::54] []", "3h0m0s names [] []")
	for i := range 100 {
		n.Input(n.now, hostA, &RouterAdvert{RDNSS: []DNSServer{{netip.AddrFrom16([16]byte{0x20, 1, byte(i)}), time.Hour}}, DNSSL: []DNSDomain{{strings.Repeat("a", i+1), time.Hour}}})
	}
	if len(n.servers) != MaxDNSServers || len(n.domains) != MaxDomains {
		t.Errorf("%d servers, %d domains", len(n.servers), len(n.domains))
	}
	n.take()
	n.Stop()
	n.expect(t, "3h0m0s names [] []")
}

// TestFlagsAndPortal are told when they change.
func TestFlagsAndPortal(t *testing.T) {
	n := quiet(t)
	for range 2 {
		n.Input(n.now, hostA, &RouterAdvert{Managed: true, Portal: "https://portal.example/"})
	}
	n.Input(n.now, hostA, &RouterAdvert{Other: true})
	n.expect(t, "0s dhcp true false", "0s portal https://portal.example/", "0s dhcp false true")
	// RFC 8910 §2: there is none any more. One that says nothing leaves it.
	n.Input(n.now, hostA, &RouterAdvert{Managed: true, Portal: "https://two.example/api"})
	n.take()
	n.Input(n.now, hostA, &RouterAdvert{Managed: true})
	n.expect(t)
	n.Input(n.now, hostA, &RouterAdvert{Managed: true, Portal: "urn:ietf:params:capport:unrestricted"})
	n.expect(t, "0s portal ")
	n.Input(n.now, hostA, &RouterAdvert{Managed: true, Portal: "urn:ietf:params:capport:unrestricted"})
	n.expect(t)
	n.Input(n.now, hostA, &RouterAdvert{Managed: true, Portal: "https://three.example/api"})
	n.take()
	n.Stop()
	n.expect(t, "0s dhcp false false", "0s portal ")
}

// TestRouterOptions: what is appended is read again, and what is malformed is
// passed over.
func TestRouterOptions(t *testing.T) {
	ra := RouterAdvert{Lifetime: 9 * time.Second, Preference: PreferLow, Portal: "https://portal.example/api",
		Routes: []RouteInfo{{netip.MustParsePrefix("::/0"), PreferHigh, 5 * time.Second}, {netip.MustParsePrefix("2001:db8::/32"), PreferMedium, Infinite},
			{netip.MustParsePrefix("2001:db8::8000:0:0:0/65"), PreferLow, 0}},
		DNSSL: []DNSDomain{{"example.org", time.Minute}, {"a.b.c.example", Infinite}}}
	got, d := ParseRouterAdvert(header(hostA, AllNodes), ra.Append(nil))
	if d != DropNone || got.Ignored != 0 || got.Preference != ra.Preference || got.Portal != ra.Portal || !slices.Equal(got.Routes, ra.Routes) || !slices.Equal(got.DNSSL, ra.DNSSL) {
		t.Errorf("%v %+v", d, got)
	}
	for name, opt := range map[string][]byte{
		"reserved preference":     {24, 1, 0, 0x10, 0, 0, 0, 1},
		"prefix without room":     {24, 1, 64, 0, 0, 0, 0, 1},
		"prefix too long":         append([]byte{24, 3, 129, 0, 0, 0, 0, 1}, make([]byte, 16)...),
		"route to link-local":     {24, 2, 10, 0, 0, 0, 0, 1, 0xfe, 0x80, 0, 0, 0, 0, 0, 0},
		"domains without end":     {31, 2, 0, 0, 0, 0, 0, 1, 7, 'a', 'b', 'c', 'd', 'e', 'f', 'g'},
		"label beyond the option": {31, 2, 0, 0, 0, 0, 0, 1, 9, 'a', 'b', 'c', 'd', 'e', 'f', 'g'},
		"a line feed in a label":  {31, 2, 0, 0, 0, 0, 0, 1, 2, 'a', '\n', 0, 0, 0, 0, 0},
		"no domain":               {31, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0},
		"portal with a space":     {37, 1, 'a', ' ', 'b', 0, 0, 0},
		"no portal":               {37, 1, 0, 0, 0, 0, 0, 0},
	} {
		got, d := ParseRouterAdvert(header(hostA, AllNodes), append((&RouterAdvert{}).Append(nil), opt...))
		if d != DropNone || got.Ignored != 1 || len(got.Routes)+len(got.DNSSL)+len(got.Portal) > 0 {
			t.Errorf("%s: %v %+v", name, d, got)
		}
	}
}

// TestGone: what the host turns out not to have comes with the next advertisement,
// and what is refused for want of room is told.
func TestGone(t *testing.T) {
	n := quiet(t)
	ra := &RouterAdvert{Lifetime: time.Hour, Prefixes: []PrefixInfo{prefixInfo("2001:db8::/64", time.Hour, time.Hour)},
		Routes: []RouteInfo{{Prefix: netip.MustParsePrefix("2001:db8:5::/48"), Lifetime: time.Hour}}}
	n.Input(n.now, hostA, ra)
	first := n.take()
	n.Input(n.now, hostA, ra)
	again := n.take()
	n.AddressGone(n.addresses[0].prefix.Addr())
	n.RouteGone(defaultRoute, hostA)
	n.RouteGone(netip.MustParsePrefix("2001:db8:5::/48"), hostA)
	n.RouteGone(netip.MustParsePrefix("2001:db8::/64"), netip.Addr{})
	if len(n.addresses)+len(n.routes)+len(n.onLink) != 0 {
		t.Errorf("left: %v %v %v", n.addresses, n.routes, n.onLink)
	}
	n.Input(n.now, hostA, ra)
	if got := n.take(); !reflect.DeepEqual(got, first) || reflect.DeepEqual(again, first) {
		t.Errorf("got  %q\nwant %q", got, first)
	}
}
