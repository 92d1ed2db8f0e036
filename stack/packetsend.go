package stack

// This file owns how a packet socket sends: past everything but the device.

import (
	"syscall"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/ipv4"
)

// Send sends a frame by an interface, nil for the one the socket is bound to.
// On a cooked socket b is the packet, proto and dst go into the header before
// it; on a raw one b begins with the header and they mean nothing. Frames go to
// the device as they are, past routes, neighbours and the stack's checks.
// Errors: ENXIO without an interface, ENETDOWN when it is set down or its device has failed,
// EMSGSIZE for more than the MTU and a header, with 4 bytes more for a VLAN tag,
// the pending error, EINVAL for a frame shorter than a header or a cooked packet
// without dst, and the device's.
func (p *PacketSocket) Send(b []byte, i *Interface, proto uint16, dst *[6]byte) error {
	p.mu.Lock()
	if i == nil {
		i = p.iface
	}
	closed := p.closed
	p.mu.Unlock()
	n := len(b)
	if p.cooked {
		n += ether.HeaderLen
	}
	limit := 0
	if i != nil {
		limit = i.MTU() + ether.HeaderLen
	}
	if !p.cooked && n >= ether.HeaderLen && ether.Header(b).Type() == ether.TypeVLAN {
		limit += vlanTagLen
	}
	switch {
	case closed:
		return syscall.EBADF
	case i == nil:
		return syscall.ENXIO
	case i.isDead():
		return syscall.ENETDOWN
	case n > limit:
		return syscall.EMSGSIZE
	}
	if err := p.TakeError(); err != nil {
		return err
	}
	if n < ether.HeaderLen || p.cooked && dst == nil && !i.loopback {
		return syscall.EINVAL
	}
	f := pkt.Get(n)
	if p.cooked {
		var to ether.Addr
		if dst != nil {
			to = *dst
		}
		typ := ether.Type(proto)
		if typ == Ether802_3 || typ == Ether802_2 {
			typ = ether.Type(len(b)) // IEEE 802.3: a length in its place
		}
		ether.Put(f.Append(ether.HeaderLen), to, i.mac, typ)
	}
	copy(f.Append(len(b)), b)
	p.stack.stats.Packet.Output.inc()
	if i.loopback {
		p.sendLoop(f)
		return nil
	}
	f.Pull(ether.HeaderLen)
	f.MarkNetwork()
	f.Push(ether.HeaderLen)
	tx := newTx(i)
	tx.from = p
	tx.add(f)
	return tx.done()
}

// vlanTagLen is what a VLAN tag adds to a frame (IEEE 802.1Q).
const vlanTagLen = 4

// sendLoop gives a frame to the loopback interface, which carries IP only. It
// takes f.
func (p *PacketSocket) sendLoop(f *pkt.Buf) {
	h := ether.Header(f.Pull(ether.HeaderLen))
	v := 0
	if f.Len() >= ipv4.HeaderLen {
		v = int(f.Bytes()[0] >> 4)
	}
	if t := h.Type(); !(t == ether.TypeIPv4 && v == 4 || t == ether.TypeIPv6 && v == 6) {
		p.stack.stats.Loop.Drop[DropUnknownType].inc()
		f.Put()
		return
	}
	f.MarkNetwork()
	p.stack.loop.pushFrom(p.stack, f, p)
}
