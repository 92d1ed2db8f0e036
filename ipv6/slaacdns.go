package ipv6

import (
	"net/netip"
	"slices"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns the name servers and search domains of router advertisements
// (RFC 8106), each for its lifetime. When a list is full the one that ends first
// gives way, if that is not the new one (§6.1).

// slaacName is a name server or a domain.
type slaacName[T comparable] struct {
	value T
	valid mono.Time // 0: for ever
}

// inputNames keeps the lists of RFC 8106 §6.2.
func (s *SLAAC) inputNames(now mono.Time, ra *RouterAdvert) {
	changed := false
	for _, d := range ra.RDNSS {
		changed = keepName(&s.servers, MaxDNSServers, now, d.Addr, d.Lifetime) || changed
	}
	for _, d := range ra.DNSSL {
		changed = keepName(&s.domains, MaxDomains, now, d.Name, d.Lifetime) || changed
	}
	if changed {
		s.tellNames()
	}
}

// keepName adds, prolongs or removes an entry, and reports whether the list
// has other values than before.
func keepName[T comparable](list *[]slaacName[T], most int, now mono.Time, value T, lifetime time.Duration) bool {
	i := slices.IndexFunc(*list, func(n slaacName[T]) bool { return n.value == value })
	switch {
	case lifetime == 0:
		if i < 0 {
			return false
		}
		*list = slices.Delete(*list, i, i+1)
	case i >= 0:
		(*list)[i].valid = after(now, lifetime)
		return false
	case len(*list) == most:
		first, until := 0, after(now, lifetime)
		for k, n := range *list {
			if sooner(n.valid, (*list)[first].valid) {
				first = k
			}
		}
		if !sooner((*list)[first].valid, until) {
			return false
		}
		(*list)[first] = slaacName[T]{value, until}
	default:
		*list = append(*list, slaacName[T]{value, after(now, lifetime)})
	}
	return true
}

// sooner reports whether a lifetime ends before another; 0 is for ever.
func sooner(a, b mono.Time) bool { return a != 0 && (b == 0 || a < b) }

func (s *SLAAC) expireNames(now mono.Time) {
	before := len(s.servers) + len(s.domains)
	s.servers = slices.DeleteFunc(s.servers, func(n slaacName[netip.Addr]) bool { return n.valid.Due(now) })
	s.domains = slices.DeleteFunc(s.domains, func(n slaacName[string]) bool { return n.valid.Due(now) })
	if len(s.servers)+len(s.domains) != before {
		s.tellNames()
	}
}

func (s *SLAAC) tellNames() {
	servers, domains := make([]netip.Addr, 0, len(s.servers)), make([]string, 0, len(s.domains))
	for _, n := range s.servers {
		servers = append(servers, n.value)
	}
	for _, n := range s.domains {
		domains = append(domains, n.value)
	}
	s.host.SetNames(servers, domains)
}
