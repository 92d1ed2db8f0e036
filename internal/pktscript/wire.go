package pktscript

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/tapstack/tapstack/internal/csum"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
)

// This file owns the bytes of IP packets: written for what the script sends,
// read for what the stack sends. It is apart from the codecs of package tcp on
// purpose: the judge does not use the code of the judged, and a script may ask
// for options in any order and flags in any combination.

// IP protocol numbers.
const (
	protoICMP4 = 1
	protoTCP   = 6
	protoUDP   = 17
	protoICMP6 = 58
)

// flagBits is flagLetters and "." in the order of the wire, FIN first.
const flagBits = "FSRP.UEWA"

// frame is a packet as it is on the wire, its fields read out.
type frame struct {
	at                 mono.Time // when it left the stack
	src, dst           netip.Addr
	tos, ttl           int
	flowLabel          int
	proto              Proto
	srcPort, dstPort   uint16
	seq, ack           uint32
	flags              uint16 // bits of flagBits
	win, urg           uint16
	opts               []TCPOption
	payload            []byte
	icmpType, icmpCode uint8
	badSum             bool
	fragment           bool
}

func (f *frame) has(letter byte) bool {
	return f.flags>>strings.IndexByte(flagBits, letter)&1 != 0
}

// flagsOf returns the bits of a script's letters.
func flagsOf(letters string) (bits uint16) {
	for _, c := range []byte(letters) {
		bits |= 1 << strings.IndexByte(flagBits, c)
	}
	return bits
}

// withACE puts an AccECN counter (RFC 9768 §3.2.2.2) into flags.
func withACE(bits uint16, n int) uint16 {
	return bits&^0x1c0 | uint16(n)>>2&1<<8 | uint16(n)>>1&1<<7 | uint16(n)&1<<6
}

// decode reads an IP packet; ok is false for what is not TCP, UDP or ICMP.
func decode(b []byte) (f *frame, ok bool) {
	f = &frame{}
	var proto uint8
	var rest []byte
	switch {
	case len(b) > 0 && b[0]>>4 == 4:
		h, d := ipv4.Parse(b)
		if d != ipv4.DropNone {
			return nil, false
		}
		f.src, f.dst, f.tos, f.ttl = h.Src(), h.Dst(), int(h.TOS()), int(h.TTL())
		f.fragment = h.IsFragment()
		proto, rest = h.Protocol(), b[h.Len():h.TotalLen()]
	default:
		h, d := ipv6.Parse(b)
		if d != ipv6.DropNone {
			return nil, false
		}
		f.src, f.dst, f.tos, f.ttl = h.Src(), h.Dst(), int(h.TrafficClass()), int(h.HopLimit())
		f.flowLabel = int(h.FlowLabel())
		proto, rest = h.NextHeader(), b[40:40+h.PayloadLen()]
	}
	if f.fragment {
		return f, true
	}
	f.badSum = proto != protoICMP4 && csum.Checksum(rest, csum.Pseudo(f.src, f.dst, proto, len(rest))) != 0 ||
		proto == protoICMP4 && csum.Checksum(rest, 0) != 0
	switch {
	case proto == protoTCP && len(rest) >= 20:
		f.proto = TCP
		f.srcPort, f.dstPort = binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:])
		f.seq, f.ack = binary.BigEndian.Uint32(rest[4:]), binary.BigEndian.Uint32(rest[8:])
		f.flags = binary.BigEndian.Uint16(rest[12:]) & 0x1ff
		f.win, f.urg = binary.BigEndian.Uint16(rest[14:]), binary.BigEndian.Uint16(rest[18:])
		n := int(rest[12]>>4) * 4
		if n < 20 || n > len(rest) {
			return nil, false
		}
		f.opts = decodeOptions(rest[20:n])
		f.payload = append([]byte(nil), rest[n:]...)
	case proto == protoUDP && len(rest) >= 8:
		f.proto = UDP
		f.srcPort, f.dstPort = binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:])
		f.payload = append([]byte(nil), rest[8:]...)
	case (proto == protoICMP4 || proto == protoICMP6) && len(rest) >= 8:
		f.proto = ICMP
		f.icmpType, f.icmpCode = rest[0], rest[1]
		f.payload = append([]byte(nil), rest[8:]...)
	default:
		return nil, false
	}
	return f, true
}

// decodeOptions reads the options of a header. What is malformed becomes one
// option of kind end-of-list with the bytes, which no script expects.
func decodeOptions(b []byte) (list []TCPOption) {
	for len(b) > 0 {
		if b[0] == optEOL || b[0] == optNOP {
			list = append(list, TCPOption{Kind: b[0]})
			b = b[1:]
			continue
		}
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
			return append(list, TCPOption{Data: append([]byte(nil), b...)})
		}
		o := TCPOption{Kind: b[0], Data: append([]byte(nil), b[2:b[1]]...)}
		switch {
		case o.Kind == optTS && len(o.Data) == 8:
			o.TSVal, o.TSEcr = binary.BigEndian.Uint32(o.Data), binary.BigEndian.Uint32(o.Data[4:])
			o.Data = nil
		case o.Kind == optSACK && len(o.Data)%8 == 0:
			for d := o.Data; len(d) > 0; d = d[8:] {
				o.Blocks = append(o.Blocks, [2]uint32{binary.BigEndian.Uint32(d), binary.BigEndian.Uint32(d[4:])})
			}
			o.Data = nil
		}
		list = append(list, o)
		b = b[b[1]:]
	}
	return list
}

// encodeOptions writes options as they are given, and end-of-list to a whole
// word.
func encodeOptions(list []TCPOption) (b []byte) {
	for _, o := range list {
		if o.Kind == optEOL || o.Kind == optNOP {
			b = append(b, o.Kind)
			continue
		}
		data := o.Data
		switch o.Kind {
		case optTS:
			data = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, o.TSVal), o.TSEcr)
		case optSACK:
			data = nil
			for _, k := range o.Blocks {
				data = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(data, k[0]), k[1])
			}
		}
		b = append(append(b, o.Kind, byte(2+len(data))), data...)
	}
	for len(b)%4 != 0 {
		b = append(b, optEOL)
	}
	return b
}

// encodeTCP writes the segment of f, from the TCP header on, with its checksum.
func (f *frame) encodeTCP() ([]byte, error) {
	opts := encodeOptions(f.opts)
	if len(opts) > 40 {
		return nil, fmt.Errorf("%d bytes of TCP options, more than a header has room for", len(opts))
	}
	b := make([]byte, 20, 20+len(opts)+len(f.payload))
	binary.BigEndian.PutUint16(b, f.srcPort)
	binary.BigEndian.PutUint16(b[2:], f.dstPort)
	binary.BigEndian.PutUint32(b[4:], f.seq)
	binary.BigEndian.PutUint32(b[8:], f.ack)
	binary.BigEndian.PutUint16(b[12:], uint16(5+len(opts)/4)<<12|f.flags)
	binary.BigEndian.PutUint16(b[14:], f.win)
	binary.BigEndian.PutUint16(b[18:], f.urg)
	b = append(append(b, opts...), f.payload...)
	binary.BigEndian.PutUint16(b[16:], csum.Checksum(b, csum.Pseudo(f.src, f.dst, protoTCP, len(b))))
	return b, nil
}

// encodeUDP writes the datagram of f.
func (f *frame) encodeUDP() []byte {
	b := make([]byte, 8, 8+len(f.payload))
	binary.BigEndian.PutUint16(b, f.srcPort)
	binary.BigEndian.PutUint16(b[2:], f.dstPort)
	binary.BigEndian.PutUint16(b[4:], uint16(8+len(f.payload)))
	b = append(b, f.payload...)
	sum := csum.Checksum(b, csum.Pseudo(f.src, f.dst, protoUDP, len(b)))
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b[6:], sum)
	return b
}

// wrapIP puts an IP header before the payload of a protocol.
func (f *frame) wrapIP(proto uint8, payload []byte) []byte {
	ttl := uint8(255)
	if f.ttl > 0 {
		ttl = uint8(f.ttl)
	}
	if f.src.Is4() {
		h := ipv4.Fields{TOS: uint8(f.tos), TTL: ttl, Protocol: proto, Src: f.src, Dst: f.dst, PayloadLen: len(payload), DF: true}
		b := make([]byte, h.HeaderLen(), h.HeaderLen()+len(payload))
		h.Put(b)
		return append(b, payload...)
	}
	h := ipv6.Fields{TrafficClass: uint8(f.tos), FlowLabel: uint32(f.flowLabel), NextHeader: proto, HopLimit: ttl,
		Src: f.src, Dst: f.dst, PayloadLen: len(payload)}
	b := make([]byte, 40, 40+len(payload))
	h.Put(b)
	return append(b, payload...)
}

// ecnBits are the two bits of the IP header (RFC 3168 §5).
var ecnBits = map[string]int{"": 0, "noecn": 0, "ect1": 1, "ect0": 2, "ce": 3}

// String writes f as a script would, with the numbers it has.
func (f *frame) String() string {
	var b strings.Builder
	if e := f.tos & 3; e != 0 {
		fmt.Fprintf(&b, "[%s] ", [4]string{"", "ect1", "ect0", "ce"}[e])
	}
	switch {
	case f.fragment:
		return b.String() + "a fragment"
	case f.proto == UDP:
		fmt.Fprintf(&b, "udp (%d)", len(f.payload))
		return b.String()
	case f.proto == ICMP:
		fmt.Fprintf(&b, "icmp type_%d code_%d", f.icmpType, f.icmpCode)
		return b.String()
	}
	b.WriteString(flagString(f.flags))
	fmt.Fprintf(&b, " %d:%d(%d)", f.seq, f.seq+uint32(len(f.payload)), len(f.payload))
	if f.has('.') {
		fmt.Fprintf(&b, " ack %d", f.ack)
	}
	fmt.Fprintf(&b, " win %d", f.win)
	if f.has('U') {
		fmt.Fprintf(&b, " urg %d", f.urg)
	}
	if len(f.opts) > 0 {
		fmt.Fprintf(&b, " <%s>", optionsString(f.opts))
	}
	return b.String()
}

// flagString writes flags with the dot last, as scripts do.
func flagString(bits uint16) string {
	var s []byte
	for i, c := range []byte(flagBits) {
		if bits>>i&1 != 0 && c != '.' {
			s = append(s, c)
		}
	}
	if bits&flagsOf(".") != 0 {
		s = append(s, '.')
	}
	if len(s) == 0 {
		return "-"
	}
	return string(s)
}

func optionsString(list []TCPOption) string {
	var s []string
	for _, o := range list {
		s = append(s, o.String())
	}
	return strings.Join(s, ",")
}

func (o TCPOption) String() string {
	switch {
	case o.Kind == optNOP:
		return "nop"
	case o.Kind == optEOL && len(o.Data) == 0:
		return "eol"
	case o.Kind == optMSS && len(o.Data) == 2:
		return fmt.Sprintf("mss %d", binary.BigEndian.Uint16(o.Data))
	case o.Kind == optWScale && len(o.Data) == 1:
		return fmt.Sprintf("wscale %d", o.Data[0])
	case o.Kind == optSACKOK && len(o.Data) == 0:
		return "sackOK"
	case o.Kind == optTS && o.Data == nil:
		return fmt.Sprintf("TS val %d ecr %d", o.TSVal, o.TSEcr)
	case o.Kind == optSACK && o.Data == nil:
		s := "sack"
		for _, k := range o.Blocks {
			s += fmt.Sprintf(" %d:%d", k[0], k[1])
		}
		return s
	case o.Kind == optFO:
		return strings.TrimSpace(fmt.Sprintf("FO %x", o.Data))
	case o.Kind == optExp && len(o.Data) >= 2 && o.Data[0] == 0xf9 && o.Data[1] == 0x89:
		return strings.TrimSpace(fmt.Sprintf("FOEXP %x", o.Data[2:]))
	case (o.Kind == optAccECN0 || o.Kind == optAccECN1) && len(o.Data)%3 == 0:
		names := [3]string{"e0b", "ceb", "e1b"}
		if o.Kind == optAccECN1 {
			names[0], names[2] = names[2], names[0]
		}
		s := "ECN"
		for i := 0; i < len(o.Data) && i < 9; i += 3 {
			s += fmt.Sprintf(" %s %d", names[i/3], int(o.Data[i])<<16|int(o.Data[i+1])<<8|int(o.Data[i+2]))
		}
		return s
	}
	return fmt.Sprintf("kind %d: %x", o.Kind, o.Data)
}
