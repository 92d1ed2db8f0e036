package tcp

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/seq"
	"github.com/tapstack/tapstack/internal/siphash"
)

// This file owns SYN cookies (RFC 4987 §3.6): the answer to a SYN for which no
// record can be kept. What a record would have held travels to the peer and
// back in two numbers that TCP echoes anyway. The initial sequence number of
// the SYN-ACK, which the peer acknowledges, is a keyed hash that says when it
// was made and the peer's MSS, rounded down to one of eight. The lowest bits of
// the timestamp, which the peer echoes, hold what else its SYN offered:
//
//	 31                             6    5     4    3      0
//	| milliseconds, rounded down    | ECN | SACK | WScale  |
//
// A peer without timestamps gets a connection without window scale and SACK,
// as with Linux.

const (
	// cookiePeriod is how often the counter in the cookies advances. A cookie
	// is good in its own period and the next, so for 64 to 128 seconds.
	cookiePeriod  = 64 * time.Second
	cookiePeriods = 2
	// SynCookieLife is how long after the last cookie was sent an
	// acknowledgment may bring one back. A listener that looks for cookies
	// only that long gives a guesser no more time (Linux's
	// TCP_SYNCOOKIE_VALID).
	SynCookieLife = cookiePeriods * cookiePeriod

	// The counter's lowest byte is the top of the number, the hash with the
	// index of the MSS the rest.
	cookieHashBits = 24
	cookieHashMask = 1<<cookieHashBits - 1

	cookieWScale   = 0xf // this and the next: in the timestamp
	cookieNoWScale = 0xf // no such shift: the option was not there
	cookieSACK     = 1 << 4
	cookieECN      = 1 << 5
	cookieTSBits   = 6
	cookieTSMask   = 1<<cookieTSBits - 1
)

// The segment sizes a cookie can tell apart, for IPv4 and IPv6: what ordinary,
// tunnelled and PPPoE links and those with large frames have, and the least
// that is ever sent.
var (
	cookieMSS4 = [8]uint16{minMSS, 256, 536, 1200, 1300, 1440, 1460, 8960}
	cookieMSS6 = [8]uint16{minMSS, 256, 536, 1220, 1300, 1420, 1440, 8940}
)

// SynCookieReply makes out the SYN-ACK that answers syn without keeping
// anything of it. cfg is what a connection with these addresses would have;
// its ISS is not used.
func SynCookieReply(cfg *Config, secret [16]byte, local, remote netip.AddrPort, now mono.Time, syn, out *Segment) {
	s := Segment{Seq: syn.Seq, Flags: FlagSYN, Options: cfg.agreeable(&syn.Options), ECN: syn.ECN}
	if s.Options.HasTS {
		// Of ECN one bit is kept: RFC 3168, not RFC 9768.
		s.Flags |= syn.Flags & (FlagECE | FlagCWR)
	} else {
		s.Options.HasWScale, s.Options.SACKPermitted = false, false // nowhere to keep them
	}
	sizes, mss := cookieSizes(local), int(syn.Options.MSS)
	if mss == 0 {
		mss = defaultPeerMSS // RFC 9293 §3.7.1 (MUST-15)
		if cfg.IPHeader == 40 {
			mss = defaultPeerMSS6
		}
	}
	index := len(sizes) - 1
	for index > 0 && int(sizes[index]) > mss {
		index--
	}
	f := *cfg
	f.ISS = cookieISS(secret, local, remote, syn.Seq, cookieCounter(now), uint32(index))
	NewSynRequest(&f, now, &s).Output(now, out)
	if out.Options.HasTS {
		out.Options.TSVal = cookieTimestamp(now, &s.Options, out.Flags&FlagECE != 0) + cfg.TSOffset
	}
}

// OpenSynCookie makes the connection of which ack, a segment with ACK and
// without SYN and RST, completes the handshake, if its acknowledgment is a
// cookie of ours that is not too old; nil if it is none. The connection is in
// SYN-RECEIVED and to be fed ack. cfg is as for SynCookieReply.
//
// A guess has a chance of 1 in 2^28: 2 of 256 counters, 8 of 2^24 hashes.
func OpenSynCookie(cfg *Config, secret [16]byte, local, remote netip.AddrPort, now mono.Time, ack *Segment) *Conn {
	iss, irs := ack.Ack-1, ack.Seq-1
	base := uint32(iss) - cookieHash(secret, useCookie, local, remote, 0) - uint32(irs)
	counter := cookieCounter(now)
	age := (counter - base>>cookieHashBits) & (1<<(32-cookieHashBits) - 1)
	if age >= cookiePeriods {
		return nil
	}
	index := (base - cookieHash(secret, useCookieCounter, local, remote, counter-age)) & cookieHashMask
	sizes := cookieSizes(local)
	if int(index) >= len(sizes) {
		return nil
	}
	// The SYN as it must have been.
	s := Segment{Seq: irs, Flags: FlagSYN}
	o := &s.Options
	o.MSS = sizes[index]
	if ack.Options.HasTS {
		// Windows are as scaled here as they were in the SYN-ACK, since the
		// scale follows from cfg alone.
		o.HasTS, o.TSVal = true, ack.Options.TSVal
		if ack.Options.TSEcr != 0 {
			cookieOptions(ack.Options.TSEcr-cfg.TSOffset, &s)
		}
	}
	f := *cfg
	f.ISS = iss
	return NewSynRequest(&f, now, &s).Conn(&f, now)
}

// cookieISS is the cookie. The first hash hides the counter and keeps the
// numbers of different peers apart, the second makes the sum unguessable, and
// the peer's own number makes cookies to one peer rise as RFC 6528 wants of
// initial sequence numbers. The counter in the second hash is what other
// systems change a secret for.
func cookieISS(secret [16]byte, local, remote netip.AddrPort, irs seq.Num, counter, index uint32) seq.Num {
	n := cookieHash(secret, useCookie, local, remote, 0) + uint32(irs) + counter<<cookieHashBits
	return seq.Num(n + (cookieHash(secret, useCookieCounter, local, remote, counter)+index)&cookieHashMask)
}

// cookieTimestamp is the timestamp of the SYN-ACK before its offset. It must
// not lie ahead of the clock, or the timestamps that follow would be refused
// as older (RFC 7323 §5.3).
func cookieTimestamp(now mono.Time, o *Options, ecn bool) uint32 {
	bits := uint32(cookieNoWScale)
	if o.HasWScale {
		bits = uint32(o.WScale)
	}
	if o.SACKPermitted {
		bits |= cookieSACK
	}
	if ecn {
		bits |= cookieECN
	}
	clock := tsNow(now, 0)
	ts := clock&^cookieTSMask | bits
	if tsBefore(clock, ts) {
		ts -= 1 << cookieTSBits
	}
	return ts
}

// cookieOptions makes the SYN again of what cookieTimestamp wrote.
func cookieOptions(ts uint32, syn *Segment) {
	if shift := ts & cookieWScale; shift != cookieNoWScale {
		syn.Options.HasWScale, syn.Options.WScale = true, int8(shift)
	}
	syn.Options.SACKPermitted = ts&cookieSACK != 0
	if ts&cookieECN != 0 {
		syn.Flags |= FlagECE | FlagCWR
	}
}

func cookieSizes(local netip.AddrPort) *[8]uint16 {
	if local.Addr().Is4() {
		return &cookieMSS4
	}
	return &cookieMSS6
}

func cookieCounter(now mono.Time) uint32 { return uint32(int64(now) / int64(cookiePeriod)) }

func cookieHash(secret [16]byte, use byte, local, remote netip.AddrPort, counter uint32) uint32 {
	b := tupleBytes(use, local, remote)
	var c [len(b) + 4]byte
	copy(c[:], b[:])
	binary.BigEndian.PutUint32(c[len(b):], counter)
	return uint32(siphash.Sum64(secret, c[:]))
}
