package stack

import (
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/ipv6"
)

// This file owns the name servers and search domains that routers advertise (RFC
// 8106), each for as long as its router says. The stack does not use them; it
// knows them for who does.

// advertised is a server, or a domain, and until when it is to be used.
type advertised[T comparable] struct {
	what  T
	until mono.Time
}

// routerDNSLocked takes what an advertisement says (RFC 8106 §6.1). Servers that
// are link-local are so on this interface.
func (i *Interface) routerDNSLocked(now mono.Time, m *ipv6.RouterAdvert) {
	for _, s := range m.RDNSS {
		a := s.Addr
		if a.IsLinkLocalUnicast() {
			a = a.WithZone(i.name)
		}
		advertise(&i.dnsServers, now, a, after(now, s.Lifetime), ipv6.MaxDNSServers)
	}
	for _, s := range m.Search {
		advertise(&i.dnsSearch, now, strings.ToLower(s.Domain), after(now, s.Lifetime), ipv6.MaxDNSSearch)
	}
}

// after is when a lifetime from now is over; 0 is never.
func after(now mono.Time, lifetime interface{ Nanoseconds() int64 }) mono.Time {
	if n := lifetime.Nanoseconds(); n != math.MaxInt64 {
		return now + mono.Time(n)
	}
	return math.MaxInt64
}

// advertise adds, prolongs or removes an entry. Of more than limit the one that
// is over first gives way, if that is not the new one (RFC 8106 §5.3.1).
func advertise[T comparable](list *[]advertised[T], now mono.Time, what T, until mono.Time, limit int) {
	l := slices.DeleteFunc(*list, func(e advertised[T]) bool { return e.until <= now })
	n := slices.IndexFunc(l, func(e advertised[T]) bool { return e.what == what })
	switch {
	case n >= 0 && until <= now:
		l = slices.Delete(l, n, n+1)
	case n >= 0:
		l[n].until = until
	case until <= now:
	case len(l) < limit:
		l = append(l, advertised[T]{what, until})
	default:
		first := 0
		for k := range l {
			if l[k].until < l[first].until {
				first = k
			}
		}
		if l[first].until < until {
			l[first] = advertised[T]{what, until}
		}
	}
	*list = l
}

// NameServers returns the servers and the search domains that routers on the
// interface advertise at present. Without InterfaceConfig.SLAAC nobody listens.
func (i *Interface) NameServers() (servers []netip.Addr, search []string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := i.stack.clock.Now()
	for _, e := range i.dnsServers {
		if e.until > now {
			servers = append(servers, e.what)
		}
	}
	for _, e := range i.dnsSearch {
		if e.until > now {
			search = append(search, e.what)
		}
	}
	return servers, search
}
