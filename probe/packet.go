package probe

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"

	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/csum"
	"github.com/tapstack/tapstack/udp"
)

// This file owns the messages that are sent. Each carries a token in a place
// that routers quote and do not look at when they choose a path: the sequence
// number of an echo request, the checksum of a datagram, the sequence number of
// a SYN. An INIT has none there; its port is its token.

// Header lengths and protocol numbers.
const (
	echoLen  = icmp.HeaderLen
	tcpLen   = 40 // with the options of a SYN
	initLen  = 32 // common header and INIT chunk
	protoTCP = 6
	protoUDP = 17
	protoSCP = 132

	flagFin, flagSyn, flagRst, flagAck, flagEce = 1, 2, 4, 16, 64
)

// ipProto is the protocol of the IP header.
func (p Proto) ipProto(v6 bool) uint8 {
	switch p {
	case UDP:
		return protoUDP
	case TCP:
		return protoTCP
	case SCTP:
		return protoSCP
	}
	if v6 {
		return icmp.Proto6
	}
	return icmp.Proto4
}

// headerLen is what a message has at least.
func (p Proto) headerLen() int { return [numProtos]int{echoLen, udp.HeaderLen, tcpLen, initLen}[p] }

// ends are the addresses of a message, for its checksum, and its ports; for an
// echo request the identifier is the source port.
type ends struct {
	src, dst     netip.Addr
	sport, dport uint16
}

// fill writes the data of a message.
func fill(b []byte, pattern byte, payload []byte) {
	n := copy(b, payload)
	for ; n < len(b); n++ {
		b[n] = pattern
	}
}

// fixSum makes the checksum of b, whose field at is 0, come out as want, by the
// two bytes at word, which are 0 (RFC 1071: sums are as good as numbers for
// that). pseudo is the sum of what else counts.
func fixSum(b []byte, word int, want, pseudo uint16) {
	// ^sum has to be want, so the word is ^want less what is there.
	binary.BigEndian.PutUint16(b[word:], csum.Add(^want, ^csum.Sum(b, pseudo)))
}

// putEcho writes an echo request into b.
func putEcho(b []byte, e ends, seq, sum uint16) {
	b[0] = icmp.TypeEcho4
	if e.dst.Is6() {
		b[0] = icmp.TypeEcho6
	}
	binary.BigEndian.PutUint16(b[4:], e.sport)
	binary.BigEndian.PutUint16(b[6:], seq)
	var pseudo uint16
	if e.dst.Is6() {
		pseudo = csum.Pseudo(e.src, e.dst, icmp.Proto6, len(b))
	}
	if sum != 0 && len(b) >= echoLen+2 {
		b[echoLen], b[echoLen+1] = 0, 0
		fixSum(b, echoLen, sum, pseudo)
	}
	binary.BigEndian.PutUint16(b[2:], csum.Checksum(b, pseudo))
}

// putUDP writes a datagram into b. If fix is set two bytes of its data make its
// checksum the token, which is neither 0 nor 0xffff. It returns the checksum.
func putUDP(b []byte, e ends, token uint16, fix bool) uint16 {
	udp.Put(b, e.sport, e.dport, len(b)-udp.HeaderLen)
	if fix && len(b) >= udp.HeaderLen+2 {
		b[udp.HeaderLen], b[udp.HeaderLen+1] = 0, 0
		fixSum(b, udp.HeaderLen, token, csum.Pseudo(e.src, e.dst, protoUDP, len(b)))
	}
	udp.SetChecksum(b, e.src, e.dst)
	return binary.BigEndian.Uint16(b[6:])
}

// segment is what differs between the segments that a probe sends.
type segment struct {
	seq, ack uint32
	flags    uint8
	tsval    uint32
}

// putSYN writes a SYN with the options of a Linux host: MSS, SACK permitted,
// timestamps, window scale (RFC 9293, 2018, 7323).
func putSYN(b []byte, e ends, s segment) {
	putTCP(b, e, s, tcpLen)
	o := b[20:tcpLen]
	mss := uint16(1460)
	if e.dst.Is6() {
		mss = 1440
	}
	o[0], o[1] = 2, 4
	binary.BigEndian.PutUint16(o[2:], mss)
	o[4], o[5] = 4, 2
	o[6], o[7] = 8, 10
	binary.BigEndian.PutUint32(o[8:], s.tsval)
	clear(o[12:16])
	o[16], o[17], o[18], o[19] = 1, 3, 3, 7
	sumTCP(b, e)
}

// putTCP writes the first 20 bytes of a segment whose header has n.
func putTCP(b []byte, e ends, s segment, n int) {
	binary.BigEndian.PutUint16(b, e.sport)
	binary.BigEndian.PutUint16(b[2:], e.dport)
	binary.BigEndian.PutUint32(b[4:], s.seq)
	binary.BigEndian.PutUint32(b[8:], s.ack)
	b[12], b[13] = uint8(n/4)<<4, s.flags
	binary.BigEndian.PutUint16(b[14:], 64240)
	clear(b[16:20])
}

func sumTCP(b []byte, e ends) {
	b[16], b[17] = 0, 0
	binary.BigEndian.PutUint16(b[16:], csum.Checksum(b, csum.Pseudo(e.src, e.dst, protoTCP, len(b))))
}

// bare is a segment without options or text.
func bare(e ends, s segment) []byte {
	b := make([]byte, 20)
	putTCP(b, e, s, 20)
	if s.flags&flagRst != 0 {
		clear(b[14:16])
	}
	sumTCP(b, e)
	return b
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// putINIT writes an SCTP packet with an INIT (RFC 9260 §3.1, §3.3.2); what is
// longer is filled with a padding parameter (RFC 4820 §4).
func putINIT(b []byte, e ends, tag uint32, pattern byte, payload []byte) {
	binary.BigEndian.PutUint16(b, e.sport)
	binary.BigEndian.PutUint16(b[2:], e.dport)
	clear(b[4:12]) // an INIT's verification tag is 0 (§8.5.1)
	c := b[12:]
	c[0], c[1] = 1, 0
	binary.BigEndian.PutUint16(c[2:], uint16(len(c)))
	binary.BigEndian.PutUint32(c[4:], tag)
	binary.BigEndian.PutUint32(c[8:], 64<<10)
	binary.BigEndian.PutUint16(c[12:], 10)
	binary.BigEndian.PutUint16(c[14:], 10)
	binary.BigEndian.PutUint32(c[16:], tag) // initial TSN
	if pad := c[20:]; len(pad) >= 4 {
		binary.BigEndian.PutUint16(pad, 0x8005)
		binary.BigEndian.PutUint16(pad[2:], uint16(len(pad)))
		fill(pad[4:], pattern, payload)
	}
	binary.LittleEndian.PutUint32(b[8:], sctpSum(b))
}

// sctpSum is the CRC32c of a packet with its field taken for 0 (RFC 9260
// Appendix A).
func sctpSum(b []byte) uint32 {
	var zero [4]byte
	crc := crc32.Update(0, castagnoli, b[:8])
	crc = crc32.Update(crc, castagnoli, zero[:])
	return crc32.Update(crc, castagnoli, b[12:])
}
