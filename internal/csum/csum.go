// Package csum computes the Internet checksum (RFC 1071), over data and over
// the pseudo-headers of IPv4 (RFC 9293 §3.1) and IPv6 (RFC 8200 §8.1).
package csum

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// Sum adds b to a partial sum and returns it folded to 16 bits and not
// complemented. Only the last piece of a message may have an odd length.
func Sum(b []byte, initial uint16) uint16 {
	// RFC 1071 §2: the sum may be computed in any word size and folded, and
	// it may be computed in either byte order. 64-bit little-endian words
	// with end-around carry; swapped to network order at the end.
	acc := uint64(bits.ReverseBytes16(initial))
	var carry uint64
	for len(b) >= 32 {
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b), 0)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b[8:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b[16:]), carry)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b[24:]), carry)
		acc += carry
		b = b[32:]
	}
	for len(b) >= 8 {
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b), 0)
		acc += carry
		b = b[8:]
	}
	var tail [8]byte
	if len(b) > 0 {
		copy(tail[:], b)
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(tail[:]), 0)
		acc += carry
	}
	s := acc>>32 + acc&0xffffffff
	s = s>>16&0xffff + s>>32 + s&0xffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	return bits.ReverseBytes16(uint16(s))
}

// Add adds two folded partial sums.
func Add(a, b uint16) uint16 {
	s := uint32(a) + uint32(b)
	return uint16(s>>16 + s)
}

// Checksum returns the complement that goes into a header's checksum field.
func Checksum(b []byte, initial uint16) uint16 { return ^Sum(b, initial) }

// Pseudo returns the folded sum of the pseudo-header: both addresses (of one
// family), the upper-layer length in bytes and the protocol number.
func Pseudo(src, dst netip.Addr, proto uint8, length int) uint16 {
	var s uint32
	if src.Is4() {
		a, b := src.As4(), dst.As4()
		s = uint32(binary.BigEndian.Uint16(a[:])) + uint32(binary.BigEndian.Uint16(a[2:])) +
			uint32(binary.BigEndian.Uint16(b[:])) + uint32(binary.BigEndian.Uint16(b[2:]))
	} else {
		a, b := src.As16(), dst.As16()
		s = uint32(Sum(a[:], 0)) + uint32(Sum(b[:], 0))
	}
	s += uint32(proto) + uint32(length>>16) + uint32(length&0xffff)
	s = s>>16 + s&0xffff
	return uint16(s>>16 + s)
}
