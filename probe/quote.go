package probe

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/tapstack/tapstack/icmp"
)

// This file owns the comparison of the packet that an error quotes with the one
// that was sent: what differs was changed on the way by somebody, and the hop
// that first shows it says about where.

// Change is a field that was sent as Sent and is quoted as Quoted.
type Change struct {
	// Field is one of "tos", "ip-id", "df", "flow-label",
	// "udp-checksum", "tcp-checksum", "icmp-checksum", "sctp-checksum" (as an
	// address translator changes it), "tcp-seq", "tcp-flags", "tcp-window",
	// "tcp-mss" (0: it is gone), "tcp-options" and "data": where the first byte
	// is that differs, and what it is.
	Field        string
	Sent, Quoted uint32
}

// String returns the change as "tos 0x28>0x00".
func (c Change) String() string {
	switch c.Field {
	case "tos", "ip-id", "flow-label", "udp-checksum", "tcp-checksum", "icmp-checksum", "sctp-checksum", "tcp-flags", "tcp-seq":
		return fmt.Sprintf("%s %#x>%#x", c.Field, c.Sent, c.Quoted)
	}
	return fmt.Sprintf("%s %d>%d", c.Field, c.Sent, c.Quoted)
}

// Quoted is what an error shows of a probe.
type Quoted struct {
	// TTL is what the packet had left: 0 or 1 where it expired, more where it
	// was under way in a tunnel that does not count.
	TTL uint8
	// Bytes is how much was quoted, with the IP header.
	Bytes int
	// Changes are in the order of the packet's bytes.
	Changes []Change
}

// Changed returns the change of a field.
func (q *Quoted) Changed(field string) (Change, bool) {
	for _, c := range q.Changes {
		if c.Field == field {
			return c, true
		}
	}
	return Change{}, false
}

// header is what was sent in front of the message.
type header struct {
	tos   uint8
	id    uint16
	df    bool
	label uint32
	total int // bytes, with the header; 0: it left in fragments
}

// compare lists what differs. The tuple and the length of q have been checked.
func compare(h header, message []byte, q icmp.Quoted) *Quoted {
	d := &Quoted{Bytes: len(q.Header) + len(q.Transport)}
	add := func(c Change) { d.Changes = append(d.Changes, c) }
	note := func(field string, sent, quoted uint32) {
		if sent != quoted {
			add(Change{field, sent, quoted})
		}
	}
	b := q.Header
	if q.V6 {
		word := binary.BigEndian.Uint32(b)
		d.TTL = b[7]
		note("tos", uint32(h.tos), word>>20&0xff)
		note("flow-label", h.label, word&0xfffff)
	} else {
		d.TTL = b[8]
		note("tos", uint32(h.tos), uint32(b[1]))
		note("ip-id", uint32(h.id), uint32(binary.BigEndian.Uint16(b[4:])))
		note("df", bit(h.df), uint32(b[6]>>6&1))
	}
	t := q.Transport[:min(len(q.Transport), len(message))]
	at := echoLen // where comparing byte by byte begins
	word := func(field string, i int) {
		if i+2 <= len(t) {
			note(field, uint32(binary.BigEndian.Uint16(message[i:])), uint32(binary.BigEndian.Uint16(t[i:])))
		}
	}
	switch q.Protocol {
	case protoUDP:
		word("udp-checksum", 6)
	case protoTCP:
		note("tcp-seq", binary.BigEndian.Uint32(message[4:]), binary.BigEndian.Uint32(t[4:]))
		if len(t) >= 14 {
			note("tcp-flags", uint32(message[13]), uint32(t[13]))
		}
		word("tcp-window", 14)
		word("tcp-checksum", 16)
		at = 20
		if n := int(message[12]>>4) * 4; len(t) > 20 {
			options(message[20:n], t[20:min(n, len(t))], add)
			at = n
		}
	case protoSCP:
		if len(t) >= 12 {
			note("sctp-checksum", binary.BigEndian.Uint32(message[8:]), binary.BigEndian.Uint32(t[8:]))
		}
		at = 12
	default:
		word("icmp-checksum", 2)
	}
	if at < len(t) && !bytes.Equal(t[at:], message[at:len(t)]) {
		i := mismatch(t[at:], message[at:])
		add(Change{"data", uint32(i), uint32(t[at+i])})
	}
	return d
}

// options compares the options of a SYN as far as they are quoted.
func options(sent, quoted []byte, add func(Change)) {
	mss := func(b []byte) uint32 {
		// The probe's own MSS is the first option; whoever clamps it leaves it there.
		if len(b) < 4 || b[0] != 2 || b[1] != 4 {
			return 0
		}
		return uint32(binary.BigEndian.Uint16(b[2:]))
	}
	if len(quoted) < 4 {
		return
	}
	if s, q := mss(sent), mss(quoted); s != q {
		add(Change{"tcp-mss", s, q})
	}
	if sent[0] == quoted[0] && !bytes.Equal(sent[4:len(quoted)], quoted[4:]) {
		i := 4 + mismatch(quoted[4:], sent[4:])
		add(Change{"tcp-options", uint32(i), uint32(quoted[i])})
	}
}

// mismatch returns where a is not as the beginning of b, or -1.
func mismatch(a, b []byte) int {
	for i := range a {
		if i >= len(b) || a[i] != b[i] {
			return i
		}
	}
	return -1
}

func bit(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}
