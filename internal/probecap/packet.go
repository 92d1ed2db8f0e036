package probecap

// This file owns how much of a frame has to be understood: who sends what to
// whom. Lengths are believed no further than the frame goes; checksums are not
// looked at, since an offloading device finishes those of frames that leave.

import (
	"encoding/binary"
	"net/netip"
)

const (
	etherHeader = 14
	etherIPv4   = 0x0800
	etherARP    = 0x0806
	etherIPv6   = 0x86dd

	protoICMP  = 1
	protoTCP   = 6
	protoUDP   = 17
	protoICMP6 = 58
	protoSCTP  = 132
)

// packet is an IP packet.
type packet struct {
	src, dst netip.Addr
	proto    uint8
	ttl      uint8
	id       uint32 // of its fragments; in IPv4 of each packet
	offset   int    // of a fragment
	more     bool
	body     []byte // what IP carries
}

// parseIP takes an IPv4 or IPv6 packet apart, or what is quoted of one.
func parseIP(b []byte, v6 bool) (p packet, ok bool) {
	if v6 {
		return parse6(b)
	}
	if len(b) < 20 || b[0]>>4 != 4 {
		return p, false
	}
	hl := int(b[0]&15) * 4
	if hl < 20 || hl > len(b) {
		return p, false
	}
	frag := binary.BigEndian.Uint16(b[6:])
	p = packet{src: netip.AddrFrom4([4]byte(b[12:])), dst: netip.AddrFrom4([4]byte(b[16:])), proto: b[9], ttl: b[8],
		id: uint32(binary.BigEndian.Uint16(b[4:])), offset: int(frag&0x1fff) * 8, more: frag&0x2000 != 0}
	end := int(binary.BigEndian.Uint16(b[2:]))
	if end < hl || end > len(b) {
		end = len(b) // a super-frame, or a quote that was cut off
	}
	p.body = b[hl:end]
	return p, true
}

func parse6(b []byte) (p packet, ok bool) {
	if len(b) < 40 || b[0]>>4 != 6 {
		return p, false
	}
	p = packet{src: netip.AddrFrom16([16]byte(b[8:])), dst: netip.AddrFrom16([16]byte(b[24:])), proto: b[6], ttl: b[7]}
	end := 40 + int(binary.BigEndian.Uint16(b[4:]))
	if end > len(b) || end == 40 {
		end = len(b)
	}
	b = b[40:end]
	for range 8 { // no more extension headers than that are worth a look
		switch p.proto {
		case 0, 43, 60: // hop-by-hop options, routing, destination options
			if len(b) < 8 || len(b) < 8+int(b[1])*8 {
				return p, false
			}
			p.proto, b = b[0], b[8+int(b[1])*8:]
			continue
		case 44:
			if len(b) < 8 {
				return p, false
			}
			frag := binary.BigEndian.Uint16(b[2:])
			p.offset, p.more, p.id = int(frag&^7), frag&1 != 0, binary.BigEndian.Uint32(b[4:])
			p.proto, b = b[0], b[8:]
			if p.offset == 0 {
				continue
			}
		}
		break
	}
	p.body = b
	return p, true
}

// ends are what tells the conversations of a host apart: of echo requests the
// identifier is the local port.
type ends struct {
	proto         uint8 // of ICMP that of IPv4 for both
	local, remote netip.AddrPort
}

// kind of a transport message, as far as it matters here.
type kind uint8

const (
	other   kind = iota
	opening      // an echo request, a datagram, a SYN, an INIT: what may be a probe
	echoed       // an echo reply
)

// message is what a packet's body begins with.
type message struct {
	ends
	kind  kind
	token uint32 // what tells two of the same ends apart
	stray bool   // neither begins nor refuses a connection
}

// parse reads the ends of a packet that this host sent, or with in that came.
func (p *packet) parse(in bool) (m message, ok bool) {
	b := p.body
	local, remote := p.src, p.dst
	if in {
		local, remote = p.dst, p.src
	}
	ports := func() {
		l, r := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		if in {
			l, r = r, l
		}
		m.local, m.remote = netip.AddrPortFrom(local, l), netip.AddrPortFrom(remote, r)
	}
	m.proto = p.proto
	if len(b) < 8 { // what a router quotes at least
		return m, false
	}
	switch p.proto {
	case protoICMP, protoICMP6:
		m.proto = protoICMP
		switch {
		case b[0] == 8 && p.proto == protoICMP, b[0] == 128 && p.proto == protoICMP6:
			m.kind = opening
		case b[0] == 0 && p.proto == protoICMP, b[0] == 129 && p.proto == protoICMP6:
			m.kind = echoed
		default:
			return m, false
		}
		m.local, m.remote = netip.AddrPortFrom(local, binary.BigEndian.Uint16(b[4:])), netip.AddrPortFrom(remote, 0)
		m.token = uint32(binary.BigEndian.Uint16(b[6:]))
	case protoUDP:
		ports()
		m.kind, m.token = opening, uint32(binary.BigEndian.Uint16(b[6:]))
	case protoTCP:
		ports()
		if m.token = binary.BigEndian.Uint32(b[4:]); len(b) >= 14 && b[13]&(tcpSYN|tcpACK) == tcpSYN {
			m.kind = opening
		}
		m.stray = len(b) >= 14 && b[13]&(tcpSYN|tcpRST) == 0
	case protoSCTP:
		ports()
		if len(b) >= 20 && b[12] == 1 { // an INIT, whose tag is in it
			m.kind, m.token = opening, binary.BigEndian.Uint32(b[16:])
		}
	default:
		return m, false
	}
	return m, true
}

const (
	tcpFIN = 1
	tcpSYN = 2
	tcpRST = 4
	tcpACK = 16
)

// segmentText is what a segment is, in a word or two.
func segmentText(b []byte) string {
	if len(b) < 20 {
		return "segment"
	}
	data := max(len(b)-int(b[12]>>4)*4, 0)
	switch flags := b[13]; {
	case flags&(tcpSYN|tcpACK) == tcpSYN|tcpACK:
		return "SYN-ACK"
	case flags&tcpSYN != 0:
		return "SYN"
	case flags&tcpRST != 0:
		return "reset"
	case flags&tcpFIN != 0 && data == 0:
		return "FIN"
	case flags&tcpFIN != 0:
		return textf("%d bytes and FIN", data)
	case data > 0:
		return textf("%d bytes", data)
	}
	return "ACK"
}

// chunkText names a chunk of SCTP.
func chunkText(b []byte) string {
	if len(b) > 12 {
		switch b[12] {
		case 1:
			return "INIT"
		case 2:
			return "INIT-ACK"
		case 6:
			return "ABORT"
		}
		return textf("chunk %d", b[12])
	}
	return "packet"
}

// errorText names an ICMP error; "" is none, but another message.
func errorText(b []byte, v6 bool) string {
	typ, code := b[0], b[1]
	names := [...]string{"network unreachable", "host unreachable", "protocol unreachable", "port unreachable", "", "source route failed",
		"network unknown", "host unknown", "host isolated", "network prohibited", "host prohibited", "network unreachable for this service",
		"host unreachable for this service", "filtered", "precedence violation", "precedence cutoff"}
	unreachable, expired, problem := uint8(3), uint8(11), uint8(12)
	if v6 {
		unreachable, expired, problem = 1, 3, 4
		names = [...]string{"no route", "prohibited", "beyond the scope", "address unreachable", "port unreachable", "source address refused", "route rejects",
			"", "", "", "", "", "", "", "", ""}
	}
	switch {
	case v6 && typ == 2:
		return textf("packet too big, MTU %d", binary.BigEndian.Uint32(b[4:]))
	case !v6 && typ == 3 && code == 4:
		return textf("fragmentation needed, MTU %d", binary.BigEndian.Uint16(b[6:]))
	case typ == unreachable && int(code) < len(names) && names[code] != "":
		return names[code]
	case typ == unreachable:
		return textf("unreachable, code %d", code)
	case typ == expired && code == 0:
		return "time exceeded"
	case typ == expired:
		return "reassembly time exceeded"
	case typ == problem:
		return "parameter problem"
	case !v6 && typ == 5:
		return "redirect"
	}
	return ""
}

// question is the name and type that a DNS query asks for.
func question(udp []byte) string {
	b := udp[8:]
	if len(b) < 13 || binary.BigEndian.Uint16(b[4:]) != 1 {
		return ""
	}
	name := ""
	for b = b[12:]; len(b) > 0 && b[0] > 0; b = b[1+int(b[0]):] {
		if b[0] > 63 || len(b) < 2+int(b[0]) {
			return ""
		}
		name += printable(b[1:1+int(b[0])]) + "."
	}
	if len(b) < 5 {
		return ""
	}
	if name == "" {
		name = "."
	}
	typ := binary.BigEndian.Uint16(b[1:])
	types := map[uint16]string{1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV"}
	if s, ok := types[typ]; ok {
		return name + " " + s
	}
	return textf("%s type %d", name, typ)
}

// printable is a label as it may stand in a comment.
func printable(b []byte) string {
	out := make([]byte, 0, len(b))
	for _, c := range b {
		if c <= ' ' || c >= 0x7f {
			c = '?'
		}
		out = append(out, c)
	}
	return string(out)
}
