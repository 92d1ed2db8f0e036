// Package frag puts datagrams together from IP fragments, for IPv4 (RFC 791
// §3.2) and IPv6 (RFC 8200 §4.5) alike: both cut at multiples of eight bytes
// and tell a datagram's pieces by addresses and an identification. What the
// header looks like the caller knows.
//
// Fragments are the classical way to make a host hold memory or read one packet
// in two ways, so that the table is strict: everything in it is bounded, and a
// datagram that contradicts itself is never delivered.
package frag

import (
	"net/netip"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/pkt"
)

// Key is what the fragments of one datagram have in common. Proto is part of it
// for IPv4 (RFC 791 §3.2) and zero for IPv6 (RFC 8200 §4.5).
type Key struct {
	Src, Dst netip.Addr
	ID       uint32
	Proto    uint8
}

// Config has the limits of a table; a zero field takes its default.
type Config struct {
	// Timeout is the life of an incomplete datagram, counted from the first
	// fragment to arrive. RFC 8200 §4.5 says 60 s for IPv6; for IPv4 Linux
	// takes 30 s, the default, where RFC 1122 §3.3.2 recommends 60 to 120.
	Timeout time.Duration
	// MaxBytes bounds the buffers held, MaxPerSource those of one source
	// address. What counts is the memory of the buffers, not the data in them.
	// Defaults 4 MiB, as Linux's ipfrag_high_thresh, and 1 MiB.
	MaxBytes, MaxPerSource int
	// MaxFragments bounds the pieces of one datagram. The default of 256 lets
	// the largest through from links with an MTU of 296.
	MaxFragments int
	// MaxDatagrams bounds the incomplete datagrams, the discarded ones that are
	// remembered among them; a source may have a quarter. Default 1024.
	MaxDatagrams int
}

// maxSpare is how many finished datagrams a table keeps for reuse, so that a
// steady flow of fragments does not allocate.
const maxSpare = 16

// Table holds incomplete datagrams. It is not safe for concurrent use.
type Table struct {
	c      Config
	byKey  map[Key]*datagram
	source map[netip.Addr]usage
	total  usage
	// Datagrams in the order of their first fragment, which with one timeout
	// for all is the order of their deadlines too.
	oldest, newest *datagram
	spare          []*datagram
	evicted        uint64
}

// usage is what a source, or all of them, keep in the table.
type usage struct{ datagrams, bytes int }

// New returns an empty table.
func New(c Config) *Table {
	setDefault(&c.Timeout, 30*time.Second)
	setDefault(&c.MaxBytes, 4<<20)
	setDefault(&c.MaxPerSource, 1<<20)
	setDefault(&c.MaxFragments, 256)
	setDefault(&c.MaxDatagrams, 1024)
	return &Table{c: c, byKey: make(map[Key]*datagram), source: make(map[netip.Addr]usage)}
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Len returns the number of datagrams in the table.
func (t *Table) Len() int { return t.total.datagrams }

// Bytes returns the memory of the buffers held.
func (t *Table) Bytes() int { return t.total.bytes }

// Evicted returns how many incomplete datagrams have been given up so far to
// make room for others.
func (t *Table) Evicted() uint64 { return t.evicted }

// Deadline returns when Expire is to be called, or 0 for never.
func (t *Table) Deadline() mono.Time {
	if t.oldest == nil {
		return 0
	}
	return t.oldest.deadline
}

// Add takes the fragment p. p.Bytes() is its data, at offset bytes in the
// datagram; p.Network() starts the packet, whose first hdr bytes (at least the
// fixed header) are the header to keep if this is the fragment at offset 0.
// more says that it is not the last.
//
// When the datagram is complete, whole is a fresh buffer with that header and
// all data behind it, the front marked as the network header. Lengths, fragment
// fields and checksum in the header are for the caller to repair. If the
// fragment was of no use, d says why; whole is nil and d DropNone while pieces
// are missing.
func (t *Table) Add(now mono.Time, k Key, p *pkt.Buf, hdr, offset int, more bool) (whole *pkt.Buf, d Drop) {
	f := piece{p: p, start: offset, end: offset + p.Len(), hdr: hdr, last: !more}
	if d := f.check(k); d != DropNone {
		p.Put()
		return nil, d
	}
	if f.start == 0 && f.last {
		// RFC 6946 §4: a fragment that is the whole datagram has nothing to
		// do with others of the same identification.
		only := datagram{key: k, pieces: []piece{f}, end: f.end, ecn: f.ecn(k)}
		whole = only.join()
		p.Put()
		return whole, DropNone
	}
	g := t.byKey[k]
	if g == nil {
		g = t.open(now, k)
	}
	at, d := g.place(&f, t.c.MaxFragments)
	if d != DropNone {
		p.Put()
		if d != DropDuplicate && d != DropDiscarded {
			t.discard(g)
		}
		return nil, d
	}
	f.p = compact(p)
	if !t.makeRoom(g, cost(f.p)) {
		f.p.Put()
		return nil, DropMemory
	}
	g.insert(at, f)
	t.charge(k.Src, 0, cost(f.p))
	if !g.complete() {
		return nil, DropNone
	}
	// The limit was checked with each fragment's own header; the one that
	// counts is the first's.
	if g.pieces[0].hdr+g.end > maxLen(k) {
		t.discard(g)
		return nil, DropTooLong
	}
	whole = g.join()
	t.remove(g)
	return whole, DropNone
}

// Expire gives up the datagrams whose time has run out at now. For each whose
// first fragment has arrived, timeout is called with it, so that an ICMP time
// exceeded can be sent (RFC 792, RFC 8200 §4.5); its bytes start at the network
// header, of which hdr were to be kept. timeout borrows the buffer, must not
// call the table, and may be nil.
func (t *Table) Expire(now mono.Time, timeout func(first *pkt.Buf, hdr int)) {
	for t.oldest != nil && t.oldest.deadline.Due(now) {
		g := t.oldest
		if len(g.pieces) > 0 && g.pieces[0].start == 0 && timeout != nil {
			first := g.pieces[0].p
			first.Rewind()
			timeout(first, g.pieces[0].hdr)
		}
		t.remove(g)
	}
}

// Flush gives up all datagrams without a word.
func (t *Table) Flush() {
	for t.oldest != nil {
		t.remove(t.oldest)
	}
}

// open makes an entry for k, at the cost of the oldest if there are too many.
func (t *Table) open(now mono.Time, k Key) *datagram {
	if t.source[k.Src].datagrams >= max(1, t.c.MaxDatagrams/4) {
		t.evict(t.oldestOf(k.Src))
	}
	if t.total.datagrams >= t.c.MaxDatagrams {
		t.evict(t.oldest)
	}
	var g *datagram
	if n := len(t.spare); n > 0 {
		g, t.spare = t.spare[n-1], t.spare[:n-1]
	} else {
		g = new(datagram)
	}
	*g = datagram{key: k, deadline: now.Add(t.c.Timeout), pieces: g.pieces[:0], older: t.newest}
	if t.newest != nil {
		t.newest.newer = g
	} else {
		t.oldest = g
	}
	t.newest = g
	t.byKey[k] = g
	t.charge(k.Src, 1, 0)
	return g
}

// makeRoom evicts until n more bytes fit, the oldest first; where one source
// takes too much, its own oldest. It returns false if g itself had to go.
func (t *Table) makeRoom(g *datagram, n int) bool {
	src := g.key.Src
	for alive := true; ; {
		var victim *datagram
		switch {
		case !alive:
			return false
		case t.source[src].bytes+n > t.c.MaxPerSource:
			victim = t.oldestOf(src)
		case t.total.bytes+n > t.c.MaxBytes:
			victim = t.oldest
		default:
			return true
		}
		alive = victim != g
		t.evict(victim)
	}
}

// oldestOf returns the oldest datagram of a source that has one.
func (t *Table) oldestOf(src netip.Addr) *datagram {
	g := t.oldest
	for g.key.Src != src {
		g = g.newer
	}
	return g
}

func (t *Table) evict(g *datagram) {
	t.evicted++
	t.remove(g)
}

// discard frees what a datagram holds but remembers it, so that the fragments
// still to come are refused until the timeout (RFC 5722 §3, "including those
// not yet received"), in place of starting it afresh.
func (t *Table) discard(g *datagram) {
	t.charge(g.key.Src, 0, -g.release())
	g.discarded = true
}

// remove takes a datagram out of the table and frees what it holds.
func (t *Table) remove(g *datagram) {
	t.charge(g.key.Src, -1, -g.release())
	delete(t.byKey, g.key)
	if g.older != nil {
		g.older.newer = g.newer
	} else {
		t.oldest = g.newer
	}
	if g.newer != nil {
		g.newer.older = g.older
	} else {
		t.newest = g.older
	}
	g.older, g.newer = nil, nil
	if len(t.spare) < maxSpare {
		t.spare = append(t.spare, g)
	}
}

// charge adds to what a source and all of them keep.
func (t *Table) charge(src netip.Addr, datagrams, bytes int) {
	t.total.datagrams += datagrams
	t.total.bytes += bytes
	u := t.source[src]
	u.datagrams += datagrams
	u.bytes += bytes
	if u.datagrams == 0 {
		delete(t.source, src)
		return
	}
	t.source[src] = u
}
