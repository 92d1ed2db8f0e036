package dhcp6

// What servers granted and told, as the client understands it.

import (
	"net/netip"
	"slices"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

const (
	// maxLeases bounds the addresses and the prefixes of a lease, and maxList
	// each list that came with it; a message may hold thousands.
	maxLeases = 16
	maxList   = 64
)

// Granted is an address, as a prefix of length 128, or a delegated prefix.
type Granted struct {
	Prefix netip.Prefix
	// Preferred and Valid are when its lifetimes end, 0: never. Once it is no
	// longer preferred it is not for new communication.
	Preferred, Valid mono.Time
}

// Lease is what servers granted, and what else they told. Its slices must not be
// changed.
type Lease struct {
	// Addrs are addresses (IA_NA). Nothing says what else is on the link (RFC
	// 5942): that is what router advertisements are for.
	Addrs []Granted
	// Prefixes are delegated (IA_PD), for a router to number its links with.
	Prefixes []Granted
	// Server is the identifier (DUID) of who answered.
	Server []byte

	DNS    []netip.Addr // RFC 3646
	Search []string
	NTP    []string     // servers by address or name, and groups (RFC 5908)
	SNTP   []netip.Addr // RFC 4075
	FQDN   string       // the client's name in DNS, if the server told it (RFC 4704)
	Portal string       // URI of the captive portal's API (RFC 8910)
	// Options are all that the last answer had: see Options.Value.
	Options Options

	// Acquired is when the last answer came. The lease is renewed after T1 and
	// rebound after T2. Without addresses and prefixes they are 0, and Refresh is
	// the time after which servers are asked again (RFC 8415 §21.23).
	Acquired        mono.Time
	T1, T2, Refresh time.Duration
}

// setRest takes what does not depend on addresses.
func (l *Lease) setRest(o Options) {
	l.Server = o.Get(OptServerID)
	l.DNS, l.Search = bounded(o.Addrs(OptDNS)), bounded(o.Domains(OptSearch))
	l.NTP, l.SNTP = bounded(o.NTP()), bounded(o.Addrs(OptSNTP))
	l.FQDN, l.Portal, l.Options = o.FQDN(), o.Portal(), o
}

func bounded[T any](s []T) []T { return s[:min(len(s), maxList)] }

// after is when a lifetime from now is over; 0 is never.
func after(now mono.Time, d time.Duration) mono.Time {
	if d == Infinite {
		return 0
	}
	return now.Add(d)
}

// merge returns what is held after an answer: leases in it are new or have new
// lifetimes, those of no lifetime are gone, and those it does not name stay as
// they are (RFC 8415 §18.2.10.1).
func merge(now mono.Time, held []Granted, grants []grant) []Granted {
	held = slices.Clone(held)
	for _, g := range grants {
		i := slices.IndexFunc(held, func(h Granted) bool { return h.Prefix == g.prefix })
		n := Granted{g.prefix, after(now, g.preferred), after(now, g.valid)}
		switch {
		case g.valid == 0 && i >= 0:
			held = slices.Delete(held, i, i+1)
		case g.valid == 0:
		case i >= 0:
			held[i] = n
		case len(held) < maxLeases:
			held = append(held, n)
		}
	}
	return held
}

// over reports whether any lease has come to an end, of being valid or of being
// preferred since was, and returns those that are still valid.
func over(now, was mono.Time, held []Granted) (left []Granted, changed bool) {
	for _, h := range held {
		if h.Valid.Due(now) {
			changed = true
			continue
		}
		changed = changed || h.Preferred.Due(now) && !h.Preferred.Due(was)
		left = append(left, h)
	}
	return left, changed
}

// ends is when over has to look again.
func ends(now mono.Time, held []Granted) (next mono.Time) {
	for _, h := range held {
		next = mono.Earliest(next, h.Valid)
		if !h.Preferred.Due(now) {
			next = mono.Earliest(next, h.Preferred)
		}
	}
	return next
}

// prefixes are the leases without their times.
func prefixes(held []Granted) (list []netip.Prefix) {
	for _, h := range held {
		list = append(list, h.Prefix)
	}
	return list
}

// remaining is what is held as a message would say it.
func remaining(now mono.Time, held []Granted) (a association) {
	left := func(end mono.Time) time.Duration {
		if end == 0 {
			return Infinite
		}
		return max(end.Sub(now), 0)
	}
	for _, h := range held {
		a.grants = append(a.grants, grant{h.Prefix, left(h.Preferred), left(h.Valid)})
	}
	return a
}
