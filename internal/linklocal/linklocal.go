// Package linklocal chooses IPv4 link-local addresses (RFC 3927): which one a
// host tries, and when, as conflicts come up. Claiming the address on the
// segment is package claim's work, whose constants are the same; and when a host
// wants such an address at all is its caller's decision.
package linklocal

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// Prefix is where the addresses are. Its first and last 256 are reserved
// (RFC 3927 §2.1).
var Prefix = netip.MustParsePrefix("169.254.0.0/16")

// Constants of RFC 3927 §9.
const (
	MaxConflicts      = 10               // before the rate is limited
	RateLimitInterval = 60 * time.Second // between two addresses from then on
)

const (
	firstUsable = 256 // 169.254.1.0
	usable      = 65536 - 2*256
)

// Chooser is what one interface remembers. Its use:
//
//	claim Addr when Next is due -- conflict --> Conflict, and again
//	                            -- usable ----> Kept
type Chooser struct {
	rnd       *rand.Rand
	addr      netip.Addr
	conflicts int
	next      mono.Time // when addr may be claimed; 0: at once
	kept      mono.Time // since when it is in use; 0: it is not
}

// New returns a chooser whose addresses follow from the MAC address, so that a
// host comes back to the same ones, and two hosts to different ones (§2.1). It
// begins with last, if that is one: the address that the host had before.
func New(mac [6]byte, last netip.Addr) *Chooser {
	var seed [8]byte
	copy(seed[2:], mac[:])
	c := &Chooser{rnd: rand.New(rand.NewPCG(binary.BigEndian.Uint64(seed[:]), 0x33393237))}
	if c.addr = last; !Usable(last) {
		c.addr = c.draw()
	}
	return c
}

// Usable reports whether a host may have the address (§2.1).
func Usable(a netip.Addr) bool {
	if !a.Is4() || !Prefix.Contains(a) {
		return false
	}
	third := a.As4()[2]
	return third != 0 && third != 255
}

// draw takes the next number of the sequence, uniformly from all that may be
// used.
func (c *Chooser) draw() netip.Addr {
	n := firstUsable + c.rnd.IntN(usable)
	return netip.AddrFrom4([4]byte{169, 254, byte(n >> 8), byte(n)})
}

// Addr returns the address to claim, with the length of the prefix.
func (c *Chooser) Addr() netip.Prefix { return netip.PrefixFrom(c.addr, Prefix.Bits()) }

// Next returns when the address may be claimed; 0 is at once.
func (c *Chooser) Next() mono.Time { return c.next }

// Kept reports that nobody had the address, and that it is in use now.
func (c *Chooser) Kept(now mono.Time) { c.kept = now }

// Conflict reports that another host has the address: another is chosen, to be
// claimed at once, or after ten conflicts a minute from now (§2.2.1). An address
// that was good for that long has ended the series.
func (c *Chooser) Conflict(now mono.Time) {
	if c.kept != 0 && now.Sub(c.kept) >= RateLimitInterval {
		c.conflicts = 0
	}
	c.kept, c.next = 0, 0
	for old := c.addr; c.addr == old; {
		c.addr = c.draw()
	}
	if c.conflicts++; c.conflicts >= MaxConflicts {
		c.next = now.Add(RateLimitInterval)
	}
}
