// What a connection draws from its addresses and a secret: the initial
// sequence number, the timestamp clock's offset and the start of the search for
// a local port. Nobody without the secret can guess them, and the same secret
// gives the same numbers, which keeps tests repeatable.

package tcp

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/seq"
	"github.com/tapstack/tapstack/internal/siphash"
)

// isnTick is how often the initial sequence number advances by one when nothing
// else changes (RFC 9293 §3.4.1, RFC 6528 §3).
const isnTick = 4 * time.Microsecond

// Each use of the secret hashes its own first byte, so that one result says
// nothing about another.
const (
	useISN byte = iota + 1
	useTimestamp
	usePort
	useCookie
	useCookieCounter
	useFastOpen
)

// ISN returns the initial sequence number for a connection opened at now:
// M + F(local, remote, secret) of RFC 6528 §3, with SipHash-2-4 as F.
func ISN(secret [16]byte, local, remote netip.AddrPort, now mono.Time) seq.Num {
	m := uint32(int64(now) / int64(isnTick))
	return seq.Num(m + tupleHash(secret, useISN, local, remote))
}

// TimestampOffset returns what a connection adds to the stack's millisecond
// clock to make its timestamps (RFC 7323 §7.1): random for an observer,
// but the same each time for the same addresses and ports, so that timestamps
// go on rising from one incarnation of a connection to the next, which is what
// lets a SYN reopen a TIME-WAIT (RFC 6191). The ports count, as in Linux since
// 2026: an offset by addresses alone shows, through the timestamps of SYN
// cookies, which ports are in use between others.
func TimestampOffset(secret [16]byte, local, remote netip.AddrPort) uint32 {
	return tupleHash(secret, useTimestamp, local, remote)
}

// PortHash returns what the choice of a local port towards remote begins with:
// both hashes of RFC 6056 §3.3.4 (algorithm 4) in one number. period changes
// all of them.
func PortHash(secret [16]byte, local netip.Addr, remote netip.AddrPort, period uint32) uint64 {
	b := tupleBytes(usePort, netip.AddrPortFrom(local, 0), remote)
	var c [len(b) + 4]byte
	copy(c[:], b[:])
	binary.BigEndian.PutUint32(c[len(b):], period)
	return siphash.Sum64(secret, c[:])
}

func tupleHash(secret [16]byte, use byte, local, remote netip.AddrPort) uint32 {
	b := tupleBytes(use, local, remote)
	return uint32(siphash.Sum64(secret, b[:]))
}

func tupleBytes(use byte, local, remote netip.AddrPort) (b [37]byte) {
	b[0] = use
	l, r := local.Addr().As16(), remote.Addr().As16()
	copy(b[1:], l[:])
	copy(b[17:], r[:])
	binary.BigEndian.PutUint16(b[33:], local.Port())
	binary.BigEndian.PutUint16(b[35:], remote.Port())
	return b
}
