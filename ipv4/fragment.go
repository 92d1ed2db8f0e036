package ipv4

import (
	"encoding/binary"

	"github.com/tapstack/tapstack/internal/csum"
	"github.com/tapstack/tapstack/internal/pkt"
)

// This file owns the cutting of a packet into fragments and the repair of the
// header after reassembly (RFC 791 §3.2). The reassembly itself is in
// internal/frag, which both IP versions share.

// Fragment takes p, a whole IPv4 packet with DF clear that starts at its
// network header, cuts it to packets of at most mtu bytes and passes them in
// order to emit, which takes them. Each has its network header marked and the
// usual headroom for the link layer. A packet that fits is passed on as it is.
//
// mtu below MinMTU counts as MinMTU. A packet that is a fragment itself may be
// cut further. A transport checksum left to the device is completed first: it
// covers the datagram, and no device sums over several frames.
func Fragment(p *pkt.Buf, mtu int, emit func(*pkt.Buf)) {
	p.MarkNetwork()
	mtu = max(mtu, MinMTU)
	if p.Len() <= mtu {
		emit(p)
		return
	}
	b := p.Bytes()
	h := Header(b[:int(b[0]&0x0f)*4])
	if p.Csum == pkt.CsumPartial {
		completeChecksum(b, p.GSO)
	}
	var copied [MaxHeaderLen - HeaderLen]byte
	nCopied := putCopied(copied[:], h.Options())

	//	            offset                    end
	//	  ---+--------+-------------------------+---------
	//	     | header |  n bytes, n%8 == 0, MF  | rest ...
	//	  ---+--------+-------------------------+---------
	//
	// RFC 791 §3.2: the first fragment keeps the header, the others only the
	// options marked for copying; all but the last are cut at multiples of 8
	// and have MF set; the last inherits the flag of the packet.
	f := Fields{
		TOS: h.TOS(), ID: h.ID(), Offset: h.Offset(), TTL: h.TTL(),
		Protocol: h.Protocol(), Src: h.Src(), Dst: h.Dst(), Options: h.Options(),
	}
	for data := b[h.Len():]; len(data) > 0; {
		n := len(data)
		f.MF = h.MF()
		if most := mtu - f.HeaderLen(); n > most {
			n = most &^ 7
			f.MF = true
		}
		f.PayloadLen = n
		q := pkt.Get(f.HeaderLen() + n)
		f.Put(q.Append(f.HeaderLen()))
		copy(q.Append(n), data)
		q.MarkNetwork()
		q.At, q.Group = p.At, p.Group
		emit(q)
		data = data[n:]
		f.Offset += n
		f.Options = copied[:nCopied]
	}
	p.Put()
}

// completeChecksum does what the device would have done for a CsumPartial
// frame: the field holds the pseudo-header's sum and is part of what is summed.
// A zero result is sent as 0xffff, which UDP needs (RFC 768) and to TCP is the
// same number.
func completeChecksum(b []byte, g pkt.GSO) {
	start, field := int(g.CsumStart), int(g.CsumStart)+int(g.CsumOffset)
	if field+2 > len(b) {
		return
	}
	sum := csum.Checksum(b[start:], 0)
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b[field:], sum)
}

// Reassembled repairs the header of a datagram that has been put together from
// fragments and starts at its network header: total length, flags, offset and
// checksum. DF goes too: the datagram did need fragmentation. p is at most
// MaxLen bytes long.
func Reassembled(p *pkt.Buf) {
	b := p.Bytes()
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	binary.BigEndian.PutUint16(b[6:], 0)
	putChecksum(b[:int(b[0]&0x0f)*4])
}
