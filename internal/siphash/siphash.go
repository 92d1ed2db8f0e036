// Package siphash is SipHash-2-4, a keyed hash of 64 bits for short inputs
// (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012). Unlike
// hash/maphash its key can be given, so that equal seeds give equal runs.
package siphash

import (
	"encoding/binary"
	"math/bits"
)

// Sum64 returns SipHash-2-4 of p under key.
func Sum64(key [16]byte, p []byte) uint64 {
	k0 := binary.LittleEndian.Uint64(key[0:])
	k1 := binary.LittleEndian.Uint64(key[8:])
	// The paper's constants: "somepseudorandomlygeneratedbytes".
	s := state{k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d,
		k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573}

	// The last word carries the length in its top byte.
	last := uint64(len(p)) << 56
	for ; len(p) >= 8; p = p[8:] {
		s.absorb(binary.LittleEndian.Uint64(p))
	}
	for i, c := range p {
		last |= uint64(c) << (8 * i)
	}
	s.absorb(last)

	s[2] ^= 0xff
	for range 4 {
		s.round()
	}
	return s[0] ^ s[1] ^ s[2] ^ s[3]
}

type state [4]uint64

func (s *state) absorb(m uint64) {
	s[3] ^= m
	s.round()
	s.round()
	s[0] ^= m
}

// round is SipRound, figure 2.1 of the paper.
func (s *state) round() {
	s[0] += s[1]
	s[1] = bits.RotateLeft64(s[1], 13) ^ s[0]
	s[0] = bits.RotateLeft64(s[0], 32)
	s[2] += s[3]
	s[3] = bits.RotateLeft64(s[3], 16) ^ s[2]
	s[0] += s[3]
	s[3] = bits.RotateLeft64(s[3], 21) ^ s[0]
	s[2] += s[1]
	s[1] = bits.RotateLeft64(s[1], 17) ^ s[2]
	s[2] = bits.RotateLeft64(s[2], 32)
}
