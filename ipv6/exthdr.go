package ipv6

import "encoding/binary"

// This file owns the walk from the fixed header to the upper layer (RFC 8200
// §4): which extension headers may stand where, what their options ask of a
// node that does not know them, and which refusals deserve an answer. It
// changes nothing; reassembly is the caller's.

// Limits of what one packet may ask for (RFC 8504 §5.3). See also HeaderLimits.
const (
	// MaxHeaders is more than a packet of 1500 bytes can hold: 182, each of 8
	// bytes. Only jumbo frames and reassembled packets can exceed it.
	MaxHeaders = 256
	// MaxOptions bounds the options of one header that are not padding, unless
	// HeaderLimits says otherwise.
	MaxOptions = 8
	// maxPadding is the most a sender needs to align an option (RFC 8504 §5.3;
	// Linux's limit as well). More is a covert channel or an attack.
	maxPadding = 7
)

// Option types (RFC 8200 §4.2, RFC 2711 §2.1).
const (
	optPad1        = 0
	optPadN        = 1
	optRouterAlert = 5
	optJumbo       = 0xc2 // RFC 2675 §2
)

// HeaderLimits is how many and how long options may be (RFC 8504 §5.3). The
// zero value has Linux's defaults.
type HeaderLimits struct {
	// HopOptions and DestinationOptions bound the options of one header that are
	// not padding: Linux's max_hbh_opts_number and max_dst_opts_number. 0 is
	// MaxOptions. Below 0 the bound is the number without its sign, and options
	// that are not known here are refused whatever their type asks for, silently.
	HopOptions, DestinationOptions int
	// HopLength and DestinationLength bound the length of a header in bytes, 0:
	// as long as it likes. Linux: max_hbh_length, max_dst_opts_length.
	HopLength, DestinationLength int
}

// of returns the limits of one of the two headers with options.
func (l *HeaderLimits) of(proto uint8) (options, length int, unknown bool) {
	options, length = l.DestinationOptions, l.DestinationLength
	if proto == ProtoHopByHop {
		options, length = l.HopOptions, l.HopLength
	}
	if options == 0 {
		options = MaxOptions
	}
	if length == 0 {
		length = MaxPayload
	}
	return max(options, -options), length, options > 0
}

// Chain is what the walk over the extension headers found. Offsets are bytes
// from the start of the fixed header.
type Chain struct {
	// Proto is the upper-layer protocol, or ProtoNone, and Offset where it
	// begins. ESP and AH count as upper-layer protocols: without IPsec they
	// are the end of what can be read. Of a fragment that needs reassembly
	// (HasFrag) Proto is what its fragment header names and Offset is where
	// its data begins; nothing behind that was judged yet.
	Proto  uint8
	Offset int
	// ProtoAt is the offset of the byte that names Proto: the pointer of a
	// parameter problem (code 1) about a protocol the node does not have.
	ProtoAt int

	// HasFrag: the packet is a fragment and needs reassembly. An atomic
	// fragment, offset 0 and no more to come (RFC 6946), does not: it is
	// walked through and only sets Atomic.
	HasFrag bool
	// Atomic: the packet carries a fragment header all the same, so that
	// neighbour discovery ignores it (RFC 6980 §5).
	Atomic       bool
	FragOffset   int    // where this fragment's data belongs, in bytes
	FragMore     bool   // more fragments follow
	FragID       uint32 // identification
	FragHeaderAt int    // offset of the fragment header, of an atomic one too
	NextHeaderAt int    // offset of the byte that names the fragment header

	// RouterAlert: the hop-by-hop header carries that option (RFC 2711).
	RouterAlert bool
}

// Problem is the ICMPv6 parameter problem (RFC 4443 §3.4) that a refused
// packet deserves.
type Problem struct {
	Report  bool   // send one
	Code    uint8  // 0: field, 1: next header, 2: option, 3: incomplete first fragment
	Pointer uint32 // offset of the offending byte
	// EvenIfMulticast: also when the packet was sent to a group
	// (RFC 4443 §2.4(e.3)).
	EvenIfMulticast bool
}

// The codes of a parameter problem (RFC 4443 §3.4, RFC 7112 §5).
const (
	codeField         = 0
	codeNextHeader    = 1
	codeOption        = 2
	codeFirstFragment = 3
)

func problem(code uint8, at int) Problem {
	return Problem{Report: true, Code: code, Pointer: uint32(at)}
}

// Walk follows the extension headers of b, a whole packet that Parse accepted.
// It stops at the upper layer, or at a fragment header whose packet needs
// reassembly first. With a Drop other than DropNone the packet is refused and
// the Problem says whether its sender is told.
func Walk(b []byte) (c Chain, pr Problem, d Drop) { return new(HeaderLimits).Walk(b) }

// Walk is the function Walk with limits of one's own.
func (l *HeaderLimits) Walk(b []byte) (c Chain, pr Problem, d Drop) {
	h := Header(b)
	if end := HeaderLen + h.PayloadLen(); end < len(b) {
		b = b[:end]
	}
	c = Chain{Proto: h.NextHeader(), Offset: HeaderLen, ProtoAt: 6}
	for n := 0; ; n++ {
		switch c.Proto {
		case ProtoHopByHop, ProtoDestOpts, ProtoRouting, ProtoFragment:
		default:
			return c, Problem{}, DropNone
		}
		if n == MaxHeaders {
			return c, Problem{}, DropHeaderLimit
		}
		// RFC 8200 §4.1: hop-by-hop options stand directly after the fixed
		// header and nowhere else; §4: anywhere else the value counts as an
		// unrecognised next header.
		if c.Proto == ProtoHopByHop && n > 0 {
			return c, problem(codeNextHeader, c.ProtoAt), DropHeaderOrder
		}
		at := c.Offset
		size := extSize(b[at:], c.Proto)
		switch {
		case size == 0 && c.Proto == ProtoFragment:
			return c, problem(codeField, at), DropHeaderChain // as Linux
		case size == 0:
			return c, Problem{}, DropHeaderChain
		}
		ext := b[at : at+size]
		switch c.Proto {
		case ProtoHopByHop, ProtoDestOpts:
			if pr, d = c.options(l, h, ext, at); d != DropNone {
				return c, pr, d
			}
		case ProtoRouting:
			// RFC 8200 §4.4: a routing type the node does not know is skipped
			// with no segments left and refused otherwise. A host knows none:
			// type 0 is abolished (RFC 5095 §3). A group is no place to go on
			// from; Linux drops such packets even when there is nowhere to go.
			if h.Dst().IsMulticast() {
				return c, Problem{}, DropRouting
			}
			if ext[3] != 0 {
				return c, problem(codeField, at+2), DropRouting
			}
		case ProtoFragment:
			// RFC 8200 §4.1: each header once; as Linux only of this one.
			if c.Atomic {
				return c, problem(codeField, at), DropHeaderOrder
			}
			if atomic := c.fragment(ext, at); !atomic {
				pr, d = c.checkFragment(b, at)
				return c, pr, d
			}
			continue
		}
		c.Proto, c.ProtoAt, c.Offset = ext[0], at, at+size
	}
}

// extSize returns the length of the extension header at the start of b, or 0
// when b is too short for it.
func extSize(b []byte, proto uint8) int {
	if len(b) < 8 {
		return 0
	}
	size := 8
	if proto != ProtoFragment { // its second byte is reserved
		size += int(b[1]) * 8
	}
	if size > len(b) {
		return 0
	}
	return size
}

// options reads the options of a hop-by-hop or destination header that lies at
// offset at (RFC 8200 §4.2).
func (c *Chain) options(l *HeaderLimits, h Header, ext []byte, at int) (Problem, Drop) {
	most, longest, unknown := l.of(c.Proto)
	if len(ext) > longest {
		return Problem{}, DropOptionLimit
	}
	seen, padding := 0, 0
	for i := 2; i < len(ext); {
		typ := ext[i]
		if typ == optPad1 {
			i++
			if padding++; padding > maxPadding {
				return Problem{}, DropOptionLimit
			}
			continue
		}
		if i+2 > len(ext) || i+2+int(ext[i+1]) > len(ext) {
			return Problem{}, DropOption
		}
		data := ext[i+2 : i+2+int(ext[i+1])]
		if typ == optPadN {
			if padding += 2 + len(data); padding > maxPadding {
				return Problem{}, DropOptionLimit
			}
			// RFC 8200 §4.2: the data of PadN is zero. RFC 4942 §2.1.9.5
			// recommends to enforce it, and Linux does.
			for _, z := range data {
				if z != 0 {
					return Problem{}, DropOption
				}
			}
			i += 2 + len(data)
			continue
		}
		padding = 0
		if seen++; seen > most {
			return Problem{}, DropOptionLimit
		}
		switch {
		case typ == optRouterAlert && c.Proto == ProtoHopByHop:
			if len(data) != 2 {
				return Problem{}, DropOption
			}
			c.RouterAlert = true
		case typ == optJumbo && c.Proto == ProtoHopByHop:
			return refuseJumbo(h, data, at+i)
		case !unknown:
			return Problem{}, DropOptionLimit
		default:
			if pr, d := unknownOption(typ, at+i); d != DropNone {
				return pr, d
			}
		}
		i += 2 + len(data)
	}
	return Problem{}, DropNone
}

// refuseJumbo refuses a jumbo payload option that lies at offset at (RFC 2675 §3). One
// that is right belongs to a packet that no link of ours carries.
func refuseJumbo(h Header, data []byte, at int) (Problem, Drop) {
	switch {
	case len(data) != 4 || at%4 != 2:
		return Problem{}, DropOption // as Linux
	case binary.BigEndian.Uint32(data) <= MaxPayload:
		return problem(codeField, at+2), DropJumbo
	case h.PayloadLen() != 0:
		return problem(codeField, at), DropJumbo
	}
	return Problem{}, DropJumbo
}

// unknownOption does what the two highest bits of the type ask for
// (RFC 8200 §4.2): 00 skip, 01 discard, 10 discard and report, 11 discard and
// report unless the destination was a group.
func unknownOption(typ uint8, at int) (Problem, Drop) {
	pr := problem(codeOption, at)
	switch typ >> 6 {
	case 0:
		return Problem{}, DropNone
	case 1:
		return Problem{}, DropOptionAction
	case 2:
		pr.EvenIfMulticast = true
	}
	return pr, DropOptionAction
}

// fragment reads the fragment header ext at offset at (RFC 8200 §4.5), steps
// over it, and reports whether the fragment is the whole packet.
//
//	| next header | reserved | offset, 13 bits |res|M| identification (4) |
func (c *Chain) fragment(ext []byte, at int) (atomic bool) {
	word := binary.BigEndian.Uint16(ext[2:])
	offset, more := int(word&^7), word&1 != 0
	c.FragHeaderAt = at
	if atomic = offset == 0 && !more; atomic {
		c.Atomic = true
	} else {
		c.HasFrag, c.FragOffset, c.FragMore = true, offset, more
		c.FragID = binary.BigEndian.Uint32(ext[4:])
		c.NextHeaderAt = c.ProtoAt
	}
	c.Proto, c.ProtoAt, c.Offset = ext[0], at, at+len(ext)
	return atomic
}

// checkFragment applies the discards of RFC 8200 §4.5 that need one fragment
// only.
func (c *Chain) checkFragment(b []byte, at int) (Problem, Drop) {
	size := len(b) - c.Offset
	if c.FragOffset == 0 && !chainComplete(b, c.Proto, c.Offset) {
		return problem(codeFirstFragment, 0), DropFragHeaders
	}
	if c.FragMore && size%8 != 0 {
		return problem(codeField, 4), DropFragLength // the payload length field
	}
	if at-HeaderLen+c.FragOffset+size > MaxPayload {
		return problem(codeField, at+2), DropFragRange // the offset field
	}
	return Problem{}, DropNone
}

// chainComplete reports whether the first fragment b holds all headers through
// the upper-layer header (RFC 7112 §5). Of a protocol other than the three
// below one byte is enough, as for Linux.
func chainComplete(b []byte, proto uint8, offset int) bool {
	proto, offset, _, ok := skip(b, proto, offset)
	if !ok {
		return false
	}
	need := 1
	switch proto {
	case ProtoTCP:
		need = 20
	case ProtoUDP, ProtoICMPv6:
		need = 8
	case ProtoNone:
		need = 0
	}
	return len(b)-offset >= need
}

// Skip finds the upper-layer protocol of a packet without judging the headers
// in front of it: for the quotation inside an ICMPv6 error, and for deciding
// whether an error may be sent. b holds at least the fixed header and may be
// cut short anywhere. Of a later fragment (fragOffset > 0, in bytes) proto is
// what the fragment header names, and what lies at offset is not the start of
// it. ok is false when b ends inside the chain; the results then tell how far
// the walk came.
func Skip(b []byte) (proto uint8, offset, fragOffset int, ok bool) {
	return skip(b, Header(b).NextHeader(), HeaderLen)
}

func skip(b []byte, proto uint8, offset int) (uint8, int, int, bool) {
	for range MaxHeaders {
		switch proto {
		case ProtoHopByHop, ProtoDestOpts, ProtoRouting, ProtoFragment:
		default:
			return proto, offset, 0, true
		}
		size := extSize(b[offset:], proto)
		if size == 0 {
			break
		}
		next := b[offset]
		if proto == ProtoFragment {
			if at := int(binary.BigEndian.Uint16(b[offset+2:]) &^ 7); at != 0 {
				return next, offset + size, at, true
			}
		}
		proto, offset = next, offset+size
	}
	return proto, offset, 0, false
}
