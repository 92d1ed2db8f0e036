package stack

import (
	"bytes"
	"cmp"
	"net/netip"
	"sync"
)

// This file owns how the connection table finds its entries: a hash table whose
// chains run through the entries themselves. A Go map would keep each key a
// second time and, on average, half as much room empty: 90 to 180 bytes for an
// entry that is to take less than 200 in all. Here it is 8 to 16 beside the
// link.

// connKey is a fourTuple as the table keeps it: without pointers and padding,
// so that it is small, quickly compared and hashed at once. IPv4 addresses are
// mapped into IPv6.
type connKey struct {
	local, remote         [16]byte
	localPort, remotePort uint16
}

func (id fourTuple) key() connKey {
	return connKey{id.local.Addr().As16(), id.remote.Addr().As16(), id.local.Port(), id.remote.Port()}
}

// tuple is the inverse of key: addresses of the stack are never mapped.
func (k *connKey) tuple() fourTuple {
	return fourTuple{
		netip.AddrPortFrom(netip.AddrFrom16(k.local).Unmap(), k.localPort),
		netip.AddrPortFrom(netip.AddrFrom16(k.remote).Unmap(), k.remotePort),
	}
}

func (k *connKey) compare(o *connKey) int {
	return cmp.Or(bytes.Compare(k.local[:], o.local[:]), cmp.Compare(k.localPort, o.localPort),
		bytes.Compare(k.remote[:], o.remote[:]), cmp.Compare(k.remotePort, o.remotePort))
}

// tcpLink is what every entry of the table begins with: its key and its place
// in a chain.
type tcpLink struct {
	key   connKey
	hash  uint32
	next  *tcpLink
	entry tcpEntry // whose link this is
}

// link implements tcpEntry for those who embed a tcpLink.
func (l *tcpLink) link() *tcpLink { return l }

// id returns the four-tuple under which the entry was put into the table.
func (l *tcpLink) id() fourTuple { return l.key.tuple() }

// tcpShard is a part of the table, with as many chains as entries or up to
// twice as many, in powers of two.
type tcpShard struct {
	mu     sync.RWMutex // guards everything below, and next of the links
	chains []*tcpLink
	n      int
}

// minChains is the least number of chains of a shard that is not empty.
const minChains = 8

// findLocked returns the entry with key k, or nil.
func (sh *tcpShard) findLocked(hash uint32, k *connKey) tcpEntry {
	if sh.n == 0 {
		return nil
	}
	for l := sh.chains[int(hash)&(len(sh.chains)-1)]; l != nil; l = l.next {
		if l.hash == hash && l.key == *k {
			return l.entry
		}
	}
	return nil
}

// putLocked enters e, whose link has its key and hash, and which is not there
// yet.
func (sh *tcpShard) putLocked(e tcpEntry) {
	if sh.n == len(sh.chains) {
		sh.resizeLocked(max(2*sh.n, minChains))
	}
	l := e.link()
	l.entry = e
	first := &sh.chains[int(l.hash)&(len(sh.chains)-1)]
	l.next, *first = *first, l
	sh.n++
}

// placeLocked returns what points at l, nil if l is not there.
func (sh *tcpShard) placeLocked(l *tcpLink) **tcpLink {
	if l.entry == nil {
		return nil
	}
	p := &sh.chains[int(l.hash)&(len(sh.chains)-1)]
	for *p != l {
		p = &(*p).next
	}
	return p
}

// replaceLocked puts e in the place of old and reports whether old was there.
func (sh *tcpShard) replaceLocked(old, e tcpEntry) bool {
	was, l := old.link(), e.link()
	p := sh.placeLocked(was)
	if p == nil {
		return false
	}
	l.key, l.hash, l.next, l.entry = was.key, was.hash, was.next, e
	*p = l
	was.next, was.entry = nil, nil
	return true
}

// removeLocked takes e out and reports whether it was there.
func (sh *tcpShard) removeLocked(e tcpEntry) bool {
	l := e.link()
	p := sh.placeLocked(l)
	if p == nil {
		return false
	}
	*p = l.next
	l.next, l.entry = nil, nil
	// Eight times too many chains are given back, so that the table does not
	// stay as large as it was in a flood.
	if sh.n--; len(sh.chains) > minChains && sh.n <= len(sh.chains)/8 {
		sh.resizeLocked(len(sh.chains) / 2)
	}
	if sh.n == 0 {
		sh.chains = nil
	}
	return true
}

// resizeLocked spreads the entries over n chains.
func (sh *tcpShard) resizeLocked(n int) {
	old := sh.chains
	sh.chains = make([]*tcpLink, n)
	for _, l := range old {
		for l != nil {
			next := l.next
			first := &sh.chains[int(l.hash)&(n-1)]
			l.next, *first = *first, l
			l = next
		}
	}
}

// eachLocked calls f for every entry; f may not change the shard.
func (sh *tcpShard) eachLocked(f func(tcpEntry)) {
	for _, l := range sh.chains {
		for ; l != nil; l = l.next {
			f(l.entry)
		}
	}
}
