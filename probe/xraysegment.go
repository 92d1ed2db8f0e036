package probe

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns segments as an x-ray sends and reads them: with any options and
// flags, and every option of the peer's told in its order.

// The other flags; AE is the one that AccECN takes (RFC 9768 §3.1).
const (
	flagPsh, flagUrg, flagCwr = 8, 32, 128
	flagAE                    = 256
)

// xraySeg is a segment that was sent or heard.
type xraySeg struct {
	at           mono.Time
	sent         bool
	sport, dport uint16
	flags        uint16
	seq, ack     uint32
	window       int
	opts         []byte
	data         []byte
	length       int // of the data
	unit         int // of merged segments: the data of one of them
	ttl, ecn     uint8
	ipid         uint16
	df           bool
}

// parseXRay reads a segment. Its slices alias b.
func parseXRay(b []byte) (s xraySeg, ok bool) {
	if len(b) < 20 {
		return s, false
	}
	n := int(b[12]>>4) * 4
	if n < 20 || n > len(b) {
		return s, false
	}
	s = xraySeg{sport: binary.BigEndian.Uint16(b), dport: binary.BigEndian.Uint16(b[2:]), seq: binary.BigEndian.Uint32(b[4:]), ack: binary.BigEndian.Uint32(b[8:]),
		flags: uint16(b[12]&1)<<8 | uint16(b[13]), window: int(binary.BigEndian.Uint16(b[14:])), opts: b[20:n], data: b[n:], length: len(b) - n}
	return s, true
}

// end is the sequence number behind the segment.
func (s *xraySeg) end() uint32 {
	n := s.seq + uint32(s.length)
	if s.flags&flagSyn != 0 {
		n++
	}
	if s.flags&flagFin != 0 {
		n++
	}
	return n
}

func (s *xraySeg) has(flags uint16) bool { return s.flags&flags == flags }

// bytes builds a segment.
func (s *xraySeg) bytes(e ends) []byte {
	n := 20 + (len(s.opts)+3)&^3
	b := make([]byte, n+len(s.data))
	putTCP(b, e, segment{seq: s.seq, ack: s.ack, flags: uint8(s.flags)}, n)
	b[12] |= uint8(s.flags >> 8 & 1)
	binary.BigEndian.PutUint16(b[14:], uint16(s.window))
	copy(b[20:n], s.opts) // behind them zeros, which end the list
	copy(b[n:], s.data)
	sumTCP(b, e)
	return b
}

// Kinds of options (RFC 9293 §3.2, 2018, 7323, 7413, 9768).
const (
	optEnd, optNop, optMSS, optScale, optSACK, optStamps, optFastOpen = 0, 1, 2, 3, 4, 8, 34
)

// eachOption calls f with the options in their order, until the list ends or is
// broken.
func eachOption(b []byte, f func(kind uint8, value []byte)) {
	for len(b) > 0 {
		kind := b[0]
		if kind == optEnd || kind == optNop {
			f(kind, nil)
			if kind == optEnd {
				return
			}
			b = b[1:]
			continue
		}
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
			return
		}
		f(kind, b[2:b[1]])
		b = b[b[1]:]
	}
}

// optionNames tells options as text: "mss 1460", "sack", "ts", "nop", "wscale 7".
func optionNames(b []byte) (list []string) {
	eachOption(b, func(kind uint8, v []byte) {
		name := fmt.Sprintf("option %d", kind)
		switch {
		case kind == optEnd:
			name = "end"
		case kind == optNop:
			name = "nop"
		case kind == optMSS && len(v) == 2:
			name = fmt.Sprintf("mss %d", binary.BigEndian.Uint16(v))
		case kind == optScale && len(v) == 1:
			name = fmt.Sprintf("wscale %d", v[0])
		case kind == optSACK && len(v) == 0:
			name = "sack"
		case kind == optStamps && len(v) == 8:
			name = fmt.Sprintf("ts %d %d", binary.BigEndian.Uint32(v), binary.BigEndian.Uint32(v[4:]))
		case kind == optFastOpen:
			name = strings.TrimSpace("fast-open " + hex.EncodeToString(v))
		case kind == 172 || kind == 174: // RFC 9768 §3.2.3
			name = "accecn"
		case kind == 30:
			name = "mptcp"
		}
		list = append(list, name)
	})
	return list
}

// flagNames has a letter for each flag.
func flagNames(f uint16) string {
	var b strings.Builder
	for i, c := range "eCEUAPRSF" {
		if f>>(8-i)&1 != 0 {
			b.WriteRune(c)
		}
	}
	return b.String()
}

// synOptions are those of our SYNs, in Linux's order.
func synOptions(mss int, tsval uint32) []byte {
	b := []byte{optMSS, 4, byte(mss >> 8), byte(mss), optSACK, 2, optStamps, 10, 0, 0, 0, 0, 0, 0, 0, 0, optNop, optScale, 3, 7}
	binary.BigEndian.PutUint32(b[8:], tsval)
	return b
}

// bareOptions have neither SACK nor timestamps: no tail loss probe follows a
// flight (RFC 8985 §7.1), and segments need no options.
func bareOptions(mss int) []byte {
	return []byte{optMSS, 4, byte(mss >> 8), byte(mss), optNop, optScale, 3, 7}
}
