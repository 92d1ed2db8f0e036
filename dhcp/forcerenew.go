package dhcp

// This file owns FORCERENEW (RFC 3203), by which a server has a client renew
// its lease at once, and the authentication without which it could be anybody's
// (RFC 6704): the server gives a nonce with its first acknowledgement and keys
// a digest of each FORCERENEW with it. One without a digest is dropped.

import (
	"crypto/hmac"
	"crypto/md5"
	"encoding/binary"

	"github.com/tapstack/tapstack/internal/mono"
)

const (
	// Fields of the authentication option (RFC 3118 §2): protocol, algorithm,
	// replay detection method, replay detection, then what the protocol says.
	authReconfigure = 3 // RFC 6704 §3.1.3: a key that the server gives
	authHMACMD5     = 1
	authMonotonic   = 0  // the detection field grows
	offAuthReplay   = 3  // 8 bytes
	offAuthInfo     = 11 // type, then 16 bytes
	authNonce       = 1  // the nonce itself, in an acknowledgement
	authDigest      = 2  // a digest, in a FORCERENEW
	authLen         = offAuthInfo + 1 + md5.Size

	offHops, offGIAddr = 3, 24
)

// renewKey is what the server gave for its FORCERENEWs, of the present lease.
type renewKey struct {
	nonce  [md5.Size]byte
	replay uint64
	have   bool
}

// auth returns the parts of an authentication option of RFC 6704.
func auth(o Options) (typ byte, replay uint64, info []byte, ok bool) {
	b := o.Get(OptAuthentication)
	if len(b) != authLen || b[0] != authReconfigure || b[1] != authHMACMD5 || b[2] != authMonotonic {
		return 0, 0, nil, false
	}
	return b[offAuthInfo], binary.BigEndian.Uint64(b[offAuthReplay:]), b[offAuthInfo+1:], true
}

// learn keeps the nonce of an acknowledgement. RFC 6704 §3.1.3: one without a
// nonce leaves the old one in force.
func (k *renewKey) learn(o Options) {
	if typ, replay, info, ok := auth(o); ok && typ == authNonce {
		if k.have && k.nonce == [md5.Size]byte(info) {
			replay = max(replay, k.replay) // what was seen stays seen
		}
		k.nonce, k.replay, k.have = [md5.Size]byte(info), replay, true
	}
}

// accept reports whether b, which was parsed into m, is a FORCERENEW of who
// gave the nonce, and not one that was seen before (RFC 3118 §2, §5.2).
func (k *renewKey) accept(m *Message, b []byte) bool {
	typ, replay, info, ok := auth(m.Options)
	if !ok || !k.have || typ != authDigest || replay <= k.replay {
		return false
	}
	// The digest is over the message as the server sent it: with zeros in its
	// own place and in what relays change.
	c := append([]byte(nil), b...)
	at := authOption(c)
	if at < 0 {
		return false
	}
	clear(c[at+offAuthInfo+1 : at+authLen])
	c[offHops] = 0
	clear(c[offGIAddr : offGIAddr+4])
	sum := hmac.New(md5.New, k.nonce[:])
	sum.Write(c)
	if !hmac.Equal(sum.Sum(nil), info) {
		return false
	}
	k.replay = replay
	return true
}

// authOption returns where the data of the authentication option begins in a
// message whose options field was parsed before; -1 if it is in parts, in
// another field, or absent.
func authOption(b []byte) int {
	for at := offOptions; at+1 < len(b) && b[at] != OptEnd; {
		switch {
		case b[at] == OptPad:
			at++
			continue
		case b[at] == OptAuthentication && int(b[at+1]) == authLen:
			return at + 2
		}
		at += 2 + int(b[at+1])
	}
	return -1
}

// inputForceRenew renews the lease at once, or asks again by INFORM (RFC 3203
// §2.2). A client that is renewing anyway, or verifies its lease, goes on: what
// it has asked for is what the server wants.
func (c *Client) inputForceRenew(now mono.Time, m *Message, b []byte) Drop {
	switch {
	case c.state < Informed:
		return DropState
	case !c.key.accept(m, b):
		return DropAuth
	case c.state == Bound:
		c.extend(now, Renewing)
	case c.state == Informed:
		c.begin(now, Informing, Inform)
	}
	return DropNone
}
