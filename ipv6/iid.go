package ipv6

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"

	"github.com/tapstack/tapstack/ether"
)

// This file owns the interface identifiers of addresses: those that stay the
// same on one network and tell nothing on another (RFC 7217), those made of
// the MAC address, and random ones.

// IIDMode says how stable addresses get their identifier.
type IIDMode uint8

// The modes.
const (
	IIDOpaque IIDMode = iota // RFC 7217, as RFC 8064 recommends
	IIDEUI64                 // the MAC address (RFC 4291 appendix A)
)

// IIDConfig is what stable identifiers are made of.
type IIDConfig struct {
	Mode IIDMode
	MAC  ether.Addr
	// Name of the interface and Secret are for opaque identifiers: whoever
	// knows both, and the prefix, knows the address.
	Name   string
	Secret [16]byte
}

// Stable returns the identifier for a prefix. tries counts the addresses that
// turned out to be taken: it changes opaque identifiers only.
func (c *IIDConfig) Stable(prefix netip.Prefix, tries uint8) [8]byte {
	if c.Mode == IIDEUI64 {
		return InterfaceID(c.MAC)
	}
	return c.opaque(prefix, tries)
}

// opaque is RID = F(Prefix, Net_Iface, Network_ID, DAD_Counter, secret_key) of
// RFC 7217 §5. The interface is told by its name and MAC address, as by Linux
// and systemd; there is no Network_ID on a wire. F is SHA-256, of which 64
// bits are taken.
func (c *IIDConfig) opaque(prefix netip.Prefix, tries uint8) [8]byte {
	p := prefix.Masked().Addr().As16()
	for {
		h := sha256.New()
		h.Write(c.Secret[:])
		h.Write(p[:8])
		h.Write(c.MAC[:])
		h.Write([]byte{tries})
		h.Write([]byte(c.Name))
		if iid := [8]byte(h.Sum(nil)); !ReservedIID(iid) {
			return iid
		}
		tries++ // §5 step 3
	}
}

// RandomIID returns an identifier for a temporary address (RFC 8981 §3.3.1).
func RandomIID(rnd *rand.Rand) [8]byte {
	for {
		var iid [8]byte
		binary.BigEndian.PutUint64(iid[:], rnd.Uint64())
		if !ReservedIID(iid) {
			return iid
		}
	}
}

// ReservedIID reports whether no address may have the identifier: the
// Subnet-Router anycast address, those of the Ethernet block of IANA, and the
// reserved anycast addresses (RFC 5453).
func ReservedIID(iid [8]byte) bool {
	n := binary.BigEndian.Uint64(iid[:])
	return n == 0 ||
		n >= 0x0200_5eff_fe00_0000 && n <= 0x0200_5eff_feff_ffff ||
		n >= 0xfdff_ffff_ffff_ff80 && n <= 0xfdff_ffff_ffff_ffff
}
