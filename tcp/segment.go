// The TCP segment in its two forms: the wire's bytes and the Segment that the
// rest of the package works with. Parse reads the one, PutHeader writes it.
// This file knows where the fields lie; what they mean is the connection's
// business.

package tcp

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/tapstack/tapstack/internal/seq"
)

// Lengths and offsets of the header in bytes (RFC 9293 §3.1).
const (
	MinHeaderLen   = 20 // without options
	MaxHeaderLen   = 60 // a data offset of 15 words
	ChecksumOffset = 16 // of the checksum field
)

// Flags are the control bits of a segment, in the order of the wire
// (RFC 9293 §3.1).
type Flags uint16

// The control bits.
const (
	FlagFIN Flags = 1 << iota
	FlagSYN
	FlagRST
	FlagPSH
	FlagACK
	FlagURG
	FlagECE
	FlagCWR
	FlagAE // RFC 9768; it used to be NS

	flagMask = FlagAE<<1 - 1
)

// flagChars names the bits from the lowest on, as packetdrill and tcpdump do.
const flagChars = "FSRP.UEWA"

// String writes the flags as packetdrill and tcpdump do: "S", "S.", "P.",
// "F.", "R", and "-" when none is set.
func (f Flags) String() string {
	if f&flagMask == 0 {
		return "-"
	}
	var b [len(flagChars)]byte
	s := b[:0]
	for i := range len(flagChars) {
		if f>>i&1 != 0 {
			s = append(s, flagChars[i])
		}
	}
	return string(s)
}

// Segment is one TCP segment, as parsed or to be built. It may stand for
// several segments of the wire: on input when the device or the peer's kernel
// merged them, on output when the device will cut them.
type Segment struct {
	SrcPort, DstPort uint16
	Seq, Ack         seq.Num
	Flags            Flags
	Window           uint16 // as on the wire, not scaled
	Urgent           uint16 // urgent pointer
	Options          Options

	// Payload is in two parts because output comes from a ring, which
	// wraps. On input only the first part is used and it aliases the frame.
	// Both are valid only during the call that passes the segment.
	Payload [2][]byte

	// Segs says of an input how many segments of the wire it stands for;
	// 0 means 1.
	Segs int
	// SegSize is the payload in bytes at which an output with a larger
	// payload is to be cut.
	SegSize int
	// ECN is the ECN field of the IP header that it arrived with, or is to
	// leave with.
	ECN Codepoint
	// TOS and Hops are what an output leaves with otherwise: the DS field of
	// the IP header, and its TTL or hop limit; 0 is the default.
	TOS, Hops uint8
}

// PayloadLen returns the number of payload bytes.
func (s *Segment) PayloadLen() int { return len(s.Payload[0]) + len(s.Payload[1]) }

// Len returns SEG.LEN: the sequence space the segment occupies, in which SYN
// and FIN count one each (RFC 9293 §3.4).
func (s *Segment) Len() int {
	n := s.PayloadLen()
	if s.Flags&FlagSYN != 0 {
		n++
	}
	if s.Flags&FlagFIN != 0 {
		n++
	}
	return n
}

// End returns the sequence number after the segment's last: Seq + Len.
func (s *Segment) End() seq.Num { return s.Seq.Add(s.Len()) }

// Parse reads the segment in b, from the first byte of the TCP header to the
// last of the payload, into s. Everything in s is overwritten; Segs, SegSize
// and ECN become zero. s.Payload[0] aliases b.
//
// Only the structure is checked. The caller has verified the checksum, which
// needs the addresses; which flags make sense depends on the state. On a
// DropPortZero s is filled in, on any other drop it is not.
func Parse(s *Segment, b []byte) Drop {
	if len(b) < MinHeaderLen {
		return DropShort
	}
	hlen := int(b[12]>>4) * 4
	if hlen < MinHeaderLen {
		return DropBadDataOffset
	}
	if hlen > len(b) {
		return DropShort
	}
	// RFC 9293 §3.1: the three reserved bits are ignored on receipt.
	*s = Segment{
		SrcPort: binary.BigEndian.Uint16(b[0:]),
		DstPort: binary.BigEndian.Uint16(b[2:]),
		Seq:     seq.Num(binary.BigEndian.Uint32(b[4:])),
		Ack:     seq.Num(binary.BigEndian.Uint32(b[8:])),
		Flags:   Flags(binary.BigEndian.Uint16(b[12:])) & flagMask,
		Window:  binary.BigEndian.Uint16(b[14:]),
		Urgent:  binary.BigEndian.Uint16(b[18:]),
	}
	s.Payload[0] = b[hlen:]
	if hlen > MinHeaderLen {
		s.Options.parse(b[MinHeaderLen:hlen], s.Flags&FlagSYN != 0)
	}
	// An answer to port 0 could reach nobody. Destination port 0 passes: it
	// cannot be bound, so it is answered with a RST as every closed port; and
	// that RST comes from port 0.
	if s.SrcPort == 0 && s.Flags&FlagRST == 0 {
		return DropPortZero
	}
	return DropNone
}

// HeaderLen returns how many bytes PutHeader writes: a multiple of 4 from
// MinHeaderLen to MaxHeaderLen.
func (s *Segment) HeaderLen() int {
	return MinHeaderLen + s.Options.wireLen(s.Flags&FlagSYN != 0)
}

// PutHeader writes the header with its options to the front of b, which has at
// least HeaderLen bytes. The checksum field is zero, for the caller to fill in.
func (s *Segment) PutHeader(b []byte) {
	hlen := s.HeaderLen()
	b = b[:hlen]
	binary.BigEndian.PutUint16(b[0:], s.SrcPort)
	binary.BigEndian.PutUint16(b[2:], s.DstPort)
	binary.BigEndian.PutUint32(b[4:], uint32(s.Seq))
	binary.BigEndian.PutUint32(b[8:], uint32(s.Ack))
	binary.BigEndian.PutUint16(b[12:], uint16(hlen/4)<<12|uint16(s.Flags&flagMask))
	binary.BigEndian.PutUint16(b[14:], s.Window)
	binary.BigEndian.PutUint16(b[16:], 0)
	binary.BigEndian.PutUint16(b[18:], s.Urgent)
	s.Options.put(b[MinHeaderLen:], s.Flags&FlagSYN != 0)
}

// String writes the segment as packetdrill does, with absolute numbers:
// "P. 100:110(10) ack 7 win 512 <TS val 1 ecr 2>".
func (s *Segment) String() string {
	var b strings.Builder
	n := s.PayloadLen()
	fmt.Fprintf(&b, "%v %d:%d(%d)", s.Flags, s.Seq, s.Seq.Add(n), n)
	if s.Flags&FlagACK != 0 {
		fmt.Fprintf(&b, " ack %d", s.Ack)
	}
	fmt.Fprintf(&b, " win %d", s.Window)
	if s.Flags&FlagURG != 0 {
		fmt.Fprintf(&b, " urg %d", s.Urgent)
	}
	if o := s.Options.String(); o != "" {
		fmt.Fprintf(&b, " <%s>", o)
	}
	return b.String()
}
