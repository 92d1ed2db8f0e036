// The TCP options (RFC 9293 §3.2): maximum segment size, window scale and
// timestamps (RFC 7323), selective acknowledgment (RFC 2018), user timeout (RFC
// 5482), Fast Open (RFC 7413), and accurate ECN (RFC 9768, in accopt.go).
// Reading is lenient and writing uses Linux's order and padding, so that the
// peer meets nothing it has not met before.

package tcp

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/tapstack/tapstack/internal/seq"
)

// Option kinds and, for those that carry a value, their length in bytes with
// the kind and length bytes.
const (
	optEnd           = 0
	optNop           = 1
	optMSS           = 2
	optWScale        = 3
	optSACKPermitted = 4
	optSACK          = 5
	optTimestamps    = 8
	optUserTimeout   = 28
	optFastOpen      = 34
	optExperiment    = 254 // RFC 4727; with this number (RFC 6994) it is Fast Open
	fastOpenNumber   = 0xf989

	lenMSS           = 4
	lenWScale        = 3
	lenSACKPermitted = 2
	lenSACKBlock     = 8
	lenTimestamps    = 10
	lenUserTimeout   = 4

	// The shortest and longest cookie (RFC 7413 §4.1.1), with an even length.
	minCookie = 4
	maxCookie = 16
)

// MaxWScale is the largest window scale shift (RFC 7323 §2.3).
const MaxWScale = 14

// maxOptions is the room for options in bytes.
const maxOptions = MaxHeaderLen - MinHeaderLen

// SACKBlock is a range of received data: Left is its first sequence number,
// Right the one after its last (RFC 2018 §3).
type SACKBlock struct{ Left, Right seq.Num }

// FastOpenOption is the Fast Open option of a SYN or SYN-ACK (RFC 7413 §4.1.1).
type FastOpenOption struct {
	Present bool
	Exp     bool  // in the form used before the RFC: kind 254 with a number
	Len     uint8 // of the cookie in bytes; 0 asks for one
	Cookie  [maxCookie]byte
}

// value returns the cookie.
func (f *FastOpenOption) value() []byte { return f.Cookie[:min(f.Len, maxCookie)] }

// parse takes the option's value. A cookie of a length that none can have is
// no option (RFC 7413 §4.1.1).
func (f *FastOpenOption) parse(v []byte, exp bool) {
	if n := len(v); n == 0 || n >= minCookie && n <= maxCookie && n%2 == 0 {
		*f = FastOpenOption{Present: true, Exp: exp, Len: uint8(n)}
		copy(f.Cookie[:], v)
	}
}

// wireLen returns how many bytes put writes, a multiple of 4 of at most 20.
func (f *FastOpenOption) wireLen() int {
	if !f.Present {
		return 0
	}
	n := 2 + len(f.value())
	if f.Exp {
		n += 2
	}
	return (n + 3) &^ 3
}

func (f *FastOpenOption) put(b []byte) {
	v := f.value()
	n := 2
	b[0] = optFastOpen
	if f.Exp {
		n = 4
		b[0] = optExperiment
		binary.BigEndian.PutUint16(b[2:], fastOpenNumber)
	}
	b[1] = byte(n + len(v))
	n += copy(b[n:], v)
	for ; n < f.wireLen(); n++ {
		b[n] = optNop
	}
}

// Options are the options of one segment. MSS, window scale, SACK-permitted and
// Fast Open exist only with SYN, SACK blocks only without it; where they do not belong
// they are neither read nor written.
type Options struct {
	MSS           uint16 // bytes; 0: absent
	WScale        int8   // 0 to MaxWScale, with HasWScale
	HasWScale     bool
	SACKPermitted bool
	HasTS         bool
	TSVal, TSEcr  uint32 // with HasTS
	UserTimeout   uint16 // RFC 5482: seconds, or minutes with the highest bit set; 0: absent
	SACK          [4]SACKBlock
	NumSACK       int // blocks of SACK in use
	AccECN        AccECN
	FastOpen      FastOpenOption
}

// parse reads the options in b, which is the header from its 20th byte on.
//
// RFC 9293 MUST-7 asks to survive an illegal length and suggests a reset. As in
// Linux, a length that is impossible only ends the reading, and what was
// understood before it counts; a known option of the wrong length is skipped
// like an unknown one; of two alike the last counts.
func (o *Options) parse(b []byte, syn bool) {
	for len(b) > 0 {
		kind := b[0]
		if kind == optEnd {
			return
		}
		if kind == optNop {
			b = b[1:]
			continue
		}
		if len(b) < 2 {
			return
		}
		n := int(b[1])
		if n < 2 || n > len(b) {
			return
		}
		v := b[2:n]
		switch kind {
		case optMSS:
			if n == lenMSS && syn {
				o.MSS = binary.BigEndian.Uint16(v)
			}
		case optWScale:
			if n == lenWScale && syn {
				// RFC 7323 §2.3: a larger shift MUST be taken as 14.
				o.HasWScale = true
				o.WScale = int8(min(v[0], MaxWScale))
			}
		case optSACKPermitted:
			if n == lenSACKPermitted && syn {
				o.SACKPermitted = true
			}
		case optTimestamps:
			if n == lenTimestamps {
				o.HasTS = true
				o.TSVal = binary.BigEndian.Uint32(v)
				o.TSEcr = binary.BigEndian.Uint32(v[4:])
			}
		case optAccECN0, optAccECN1:
			o.AccECN.parse(kind, v)
		case optFastOpen:
			if syn {
				o.FastOpen.parse(v, false)
			}
		case optExperiment:
			if syn && len(v) >= 2 && binary.BigEndian.Uint16(v) == fastOpenNumber {
				o.FastOpen.parse(v[2:], true)
			}
		case optUserTimeout:
			if n == lenUserTimeout {
				o.UserTimeout = binary.BigEndian.Uint16(v)
			}
		case optSACK:
			// 40 bytes of options have room for four blocks at most.
			if len(v) >= lenSACKBlock && len(v)%lenSACKBlock == 0 && !syn {
				o.NumSACK, o.SACK = len(v)/lenSACKBlock, [4]SACKBlock{}
				for i := range o.NumSACK {
					o.SACK[i] = SACKBlock{
						Left:  seq.Num(binary.BigEndian.Uint32(v[i*lenSACKBlock:])),
						Right: seq.Num(binary.BigEndian.Uint32(v[i*lenSACKBlock+4:])),
					}
				}
			}
		}
		b = b[n:]
	}
}

// sackRoom returns how many of the SACK blocks are written: as many as fit,
// which is three beside timestamps and four without, if there is no AccECN.
func (o *Options) sackRoom(syn bool) int {
	if syn {
		return 0
	}
	room := maxOptions - 4
	if o.HasTS {
		room -= 2 + lenTimestamps
	}
	if o.UserTimeout != 0 {
		room -= lenUserTimeout
	}
	room -= o.AccECN.wireLen()
	return max(0, min(o.NumSACK, room/lenSACKBlock, len(o.SACK)))
}

// wireLen returns how many bytes put writes, always a multiple of 4.
func (o *Options) wireLen(syn bool) int {
	n := 0
	if o.HasTS {
		n += 2 + lenTimestamps
	}
	if o.UserTimeout != 0 {
		n += lenUserTimeout
	}
	n += o.AccECN.wireLen()
	if !syn {
		if k := o.sackRoom(syn); k > 0 {
			n += 4 + k*lenSACKBlock
		}
		return n
	}
	if o.MSS != 0 {
		n += lenMSS
	}
	if o.SACKPermitted && !o.HasTS {
		n += 4
	}
	if o.HasWScale {
		n += 1 + lenWScale
	}
	if k := o.FastOpen.wireLen(); n+k <= maxOptions {
		n += k // the last: beside the longest cookie there is room for what is above
	}
	return n
}

// put writes the options to b in the order and with the padding of Linux:
//
//	SYN:    mss | sackOK TS  (or nop nop sackOK, or nop nop TS) | AccECN | nop wscale | FO
//	others: nop nop TS | AccECN | nop nop sack
//
// and the user timeout, which Linux does not have, behind the timestamps.
func (o *Options) put(b []byte, syn bool) {
	if syn && o.MSS != 0 {
		b[0], b[1] = optMSS, lenMSS
		binary.BigEndian.PutUint16(b[2:], o.MSS)
		b = b[lenMSS:]
	}
	sackOK := syn && o.SACKPermitted
	if sackOK && !o.HasTS {
		b[0], b[1], b[2], b[3] = optNop, optNop, optSACKPermitted, lenSACKPermitted
		b = b[4:]
	}
	if o.HasTS {
		b[0], b[1] = optNop, optNop
		if sackOK {
			b[0], b[1] = optSACKPermitted, lenSACKPermitted
		}
		b[2], b[3] = optTimestamps, lenTimestamps
		binary.BigEndian.PutUint32(b[4:], o.TSVal)
		binary.BigEndian.PutUint32(b[8:], o.TSEcr)
		b = b[2+lenTimestamps:]
	}
	if o.UserTimeout != 0 {
		b[0], b[1] = optUserTimeout, lenUserTimeout
		binary.BigEndian.PutUint16(b[2:], o.UserTimeout)
		b = b[lenUserTimeout:]
	}
	b = o.AccECN.put(b)
	if syn && o.HasWScale {
		b[0], b[1], b[2], b[3] = optNop, optWScale, lenWScale, byte(max(0, min(o.WScale, MaxWScale)))
		b = b[1+lenWScale:]
	}
	if k := o.FastOpen.wireLen(); syn && k > 0 && k <= len(b) {
		o.FastOpen.put(b)
	}
	if k := o.sackRoom(syn); k > 0 {
		b[0], b[1], b[2], b[3] = optNop, optNop, optSACK, byte(2+k*lenSACKBlock)
		b = b[4:]
		for _, s := range o.SACK[:k] {
			binary.BigEndian.PutUint32(b, uint32(s.Left))
			binary.BigEndian.PutUint32(b[4:], uint32(s.Right))
			b = b[lenSACKBlock:]
		}
	}
}

// String writes the options as packetdrill does, padding left out:
// "mss 1460,sackOK,TS val 100 ecr 0,wscale 7,FO 0123abcd".
func (o *Options) String() string {
	var b strings.Builder
	item := func(format string, a ...any) {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, format, a...)
	}
	if o.MSS != 0 {
		item("mss %d", o.MSS)
	}
	if o.SACKPermitted {
		item("sackOK")
	}
	if o.HasTS {
		item("TS val %d ecr %d", o.TSVal, o.TSEcr)
	}
	if o.HasWScale {
		item("wscale %d", o.WScale)
	}
	if f := &o.FastOpen; f.Present {
		name := "FO"
		if f.Exp {
			name = "FOEXP"
		}
		if len(f.value()) > 0 {
			name += " "
		}
		item("%s%x", name, f.value())
	}
	if o.UserTimeout != 0 {
		item("uto %d", o.UserTimeout)
	}
	for i, s := range o.SACK[:max(0, min(o.NumSACK, len(o.SACK)))] {
		if i == 0 {
			item("sack %d:%d", s.Left, s.Right)
		} else {
			fmt.Fprintf(&b, " %d:%d", s.Left, s.Right)
		}
	}
	if o.AccECN.Present {
		item("%v", &o.AccECN)
	}
	return b.String()
}
