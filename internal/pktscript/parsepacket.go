package pktscript

import (
	"encoding/binary"
	"encoding/hex"
	"strings"
)

// This file owns the grammar of packets.

// packet takes what follows the time of a packet: "< . 1:1(0) ack 1 win 257".
func (p *parser) packet() *Packet {
	k := &Packet{ACE: -1, Win: -1, MTU: -1, ID: -1}
	k.Out = p.next().text == ">"
	k.IP = p.ipInfo()
	t := p.peek()
	switch {
	case p.is("ipv4"), p.is("ipv6"), p.is("gre"), p.is("GREv0"), p.is("mpls"), p.is("sctp"), p.is("raw"), p.is("encap"):
		p.unsupported(t, "encapsulation in %s", t)
	case p.accept("icmp"):
		p.icmp(k)
	case p.accept("udp"):
		k.Proto = UDP
		p.ports(k)
		p.expect("(")
		k.Len = int(p.integer(0, 65535))
		p.expect(")")
	default:
		p.segment(k)
	}
	if p.is("/") {
		p.unsupported(p.peek(), "TCP in UDP")
	}
	return k
}

// ipInfo takes "[ect0]", "(tos 0x20)", "[ttl 5]", "[noecn, flowlabel 0x1]".
func (p *parser) ipInfo() IPInfo {
	i := IPInfo{TOS: -1, TTL: -1, FlowLabel: -1}
	closing := ""
	switch {
	case p.accept("("):
		closing = ")"
	case p.accept("["):
		closing = "]"
	default:
		return i
	}
	for {
		t := p.peek()
		switch w := p.word(); w {
		case "noecn", "ect0", "ect1", "ce", "ect01":
			i.ECN = w
		case "tos", "class":
			i.TOS = int(p.integer(0, 255))
		case "ttl", "hlim":
			i.TTL = int(p.integer(0, 255))
		case "flowlabel":
			i.FlowLabel = int(p.integer(0, 1<<20-1))
		default:
			p.fail(t, "%q says nothing of an IP header", w)
		}
		if !p.accept(",") {
			break
		}
	}
	p.expect(closing)
	return i
}

// ports takes "1234 > 8080", if it is there.
func (p *parser) ports(k *Packet) {
	if p.peek().kind == tokInt && p.peekAt(1).text == ">" {
		k.SrcPort = int(p.integer(1, 65535))
		p.expect(">")
		k.DstPort = int(p.integer(1, 65535))
	}
}

// segment takes a TCP segment from its ports or flags on.
func (p *parser) segment(k *Packet) {
	p.ports(k)
	p.flags(k)
	k.Seq, k.Len = p.sequence()
	k.Absolute = p.accept("!")
	for {
		switch {
		case p.accept("ack"):
			k.HasAck, k.Ack = true, uint32(p.integer(0, 1<<32-1))
			p.accept("!")
		case p.accept("win"):
			k.Win = int(p.integer(0, 65535))
		case p.accept("urg"):
			k.Urg = int(p.integer(0, 65535))
		case p.is("<") && p.optionsFollow():
			p.options(k)
			return
		default:
			return
		}
	}
}

// optionsFollow tells "<mss 1460>" from the "<" of nothing else that could
// stand here: the next event begins with a time.
func (p *parser) optionsFollow() bool {
	t := p.peekAt(1)
	return t.kind == tokWord || t.text == "..." || t.text == ">"
}

const flagLetters = "FSRPUEWA"

// flags takes "S", "FP.", "." and "-", and with an AccECN counter "S.5".
func (p *parser) flags(k *Packet) {
	t := p.next()
	switch {
	case t.kind == tokPunct && t.text == "-":
		return
	case t.kind == tokPunct && t.text == ".":
		k.Flags = "."
		return
	case t.kind == tokFloat:
	case t.kind == tokWord:
		if strings.Trim(t.text, flagLetters) != "" {
			p.fail(t, "flags %q", t.text)
		}
		k.Flags = t.text
		n := p.peek()
		if !n.glued {
			return
		}
		if n.kind == tokPunct && n.text == "." {
			p.next()
			k.Flags += "."
			return
		}
		if n.kind != tokFloat {
			return
		}
		t = p.next()
	default:
		p.fail(t, "%q where flags should be", t)
	}
	if len(t.text) != 2 || t.text[0] != '.' || t.text[1] > '7' {
		p.fail(t, "flags %q", t.text)
	}
	k.Flags += "."
	k.ACE = int(t.text[1] - '0')
}

// sequence takes "1:1001(1000)".
func (p *parser) sequence() (seq uint32, n int) {
	t := p.peek()
	a := uint32(p.integer(0, 1<<32-1))
	p.expect(":")
	b := uint32(p.integer(0, 1<<32-1))
	p.expect("(")
	n = int(p.integer(0, 65535))
	p.expect(")")
	if b-a != uint32(n) {
		p.fail(t, "%d:%d(%d) does not add up", a, b, n)
	}
	return a, n
}

// options takes "<mss 1460,sackOK>" or "<...>".
func (p *parser) options(k *Packet) {
	p.expect("<")
	if p.accept("...") {
		k.AnyOpts = true
		p.expect(">")
		return
	}
	for !p.accept(">") {
		k.Opts = append(k.Opts, p.option())
		if !p.accept(",") {
			p.expect(">")
			break
		}
	}
}

func (p *parser) option() TCPOption {
	t := p.peek()
	switch w := p.word(); w {
	case "nop":
		return TCPOption{Kind: optNOP}
	case "eol":
		return TCPOption{Kind: optEOL}
	case "mss":
		return TCPOption{Kind: optMSS, Data: binary.BigEndian.AppendUint16(nil, uint16(p.integer(0, 65535)))}
	case "wscale":
		return TCPOption{Kind: optWScale, Data: []byte{byte(p.integer(0, 255))}}
	case "sackOK":
		return TCPOption{Kind: optSACKOK}
	case "sack":
		o := TCPOption{Kind: optSACK}
		for p.peek().kind == tokInt {
			a := uint32(p.integer(0, 1<<32-1))
			p.expect(":")
			o.Blocks = append(o.Blocks, [2]uint32{a, uint32(p.integer(0, 1<<32-1))})
		}
		return o
	case "TS":
		p.expect("val")
		v := uint32(p.integer(0, 1<<32-1))
		p.expect("ecr")
		return TCPOption{Kind: optTS, TSVal: v, TSEcr: uint32(p.integer(0, 1<<32-1))}
	case "FO":
		return TCPOption{Kind: optFO, Data: p.hex(false)}
	case "FOEXP":
		return TCPOption{Kind: optExp, Data: append([]byte{0xf9, 0x89}, p.hex(false)...)}
	case "md5":
		if p.is("valid") {
			p.unsupported(t, "TCP-MD5 signatures")
		}
		return TCPOption{Kind: optMD5, Data: p.hex(true)}
	case "ECN":
		return p.accECN()
	case "kind": // "kind 30: 0102" is any other option
		o := TCPOption{Kind: byte(p.integer(2, 255))}
		if p.accept(":") {
			o.Data = p.hex(false)
		}
		return o
	default:
		p.fail(t, "TCP option %q", w)
		return TCPOption{}
	}
}

// fastOpenCookies are what Google's scripts call TFO_COOKIE: the cookies that
// Linux makes with the key of their defaults.sh, between their addresses.
var fastOpenCookies = map[bool]string{false: "3021b9d889017eeb", true: "c1d1e9742a47a9bc"}

// hex takes the digits of a cookie or signature.
func (p *parser) hex(must bool) []byte {
	t := p.peek()
	if t.text == "TFO_COOKIE" {
		t.text = fastOpenCookies[p.version == "ipv6"]
	}
	if t.kind != tokWord && t.kind != tokInt && t.kind != tokHex && t.kind != tokString {
		if must {
			p.fail(t, "%q where hexadecimal digits should be", t)
		}
		return nil
	}
	p.next()
	b, err := hex.DecodeString(strings.TrimPrefix(t.text, "0x"))
	if err != nil {
		p.fail(t, "%q is not an even number of hexadecimal digits", t)
	}
	return b
}

// accECN takes "e0b 1 ceb 2 e1b 3" (RFC 9768 §3.2.3), the first field of which
// says which of the two kinds it is.
func (p *parser) accECN() TCPOption {
	t := p.peek()
	var names []string
	o := TCPOption{}
	for p.is("e0b") || p.is("ceb") || p.is("e1b") {
		names = append(names, p.word())
		v := uint32(p.integer(0, 1<<24-1))
		o.Data = append(o.Data, byte(v>>16), byte(v>>8), byte(v))
	}
	switch {
	case strings.HasPrefix("e0b ceb e1b", strings.Join(names, " ")) && len(names) > 0:
		o.Kind = optAccECN0
	case strings.HasPrefix("e1b ceb e0b", strings.Join(names, " ")) && len(names) > 0:
		o.Kind = optAccECN1
	default:
		p.fail(t, "AccECN fields in this order")
	}
	return o
}

// icmp takes "unreachable frag_needed mtu 1200 [1:1461(1460)]".
func (p *parser) icmp(k *Packet) {
	k.Proto = ICMP
	k.Type = p.word()
	if p.peek().kind == tokWord && !p.is("mtu") && !p.is("id") {
		k.Code = p.word()
	}
	for {
		switch {
		case p.accept("mtu"):
			k.MTU = int(p.integer(0, 1<<32-1))
		case p.accept("id"):
			k.ID = int(p.integer(0, 65535))
		case p.accept("["):
			k.Quoted = p.quoted()
			if p.is("/") {
				p.unsupported(p.peek(), "TCP in UDP")
			}
			p.expect("]")
			return
		default:
			return
		}
	}
}

func (p *parser) quoted() *Quoted {
	if p.is("udp") || p.is("raw") {
		q := &Quoted{Proto: p.word()}
		p.expect("(")
		q.Len = int(p.integer(0, 65535))
		p.expect(")")
		return q
	}
	q := &Quoted{Proto: "tcp"}
	q.Seq, q.Len = p.sequence()
	return q
}
