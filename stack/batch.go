package stack

import (
	"sync"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/gso"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/tcp"
)

// batch is the state of one reader between two moments at which its device
// runs dry: the time, read once, and the connections to flush. Letting a
// connection answer only at the end of a batch merges its ACKs.
type batch struct {
	iface *Interface
	queue int
	now   mono.Time // 0: to be read at the next frame
	stamp bool      // each frame is to have the time at which it was read
	dirty []*TCPConn
	seg   tcp.Segment // scratch for the segment being input
	reply tcp.Segment // scratch for an answer without a connection
	// merge makes aggregates of what is delivered, in place of the device; nil
	// where that is not wanted. up is what takes them.
	merge *gso.Merger
	up    func(*pkt.Buf)
	// old is the TIME-WAIT record that the SYN being input replaces, if any.
	old successor
	// n counts the frames since the last flush, and dries how often there was
	// nothing more to be had: what comes between two such moments stood in the
	// device's queue together.
	n     int
	dries uint32
}

// flushBytes is how much input of one connection may go unanswered within a
// batch, so that a sender with a small window does not stall.
const flushBytes = 256 << 10

func (i *Interface) newBatch(queue int) *batch {
	b := &batch{iface: i, queue: queue}
	if i.merge {
		b.merge = new(gso.Merger)
		b.up = func(p *pkt.Buf) { i.input(b, p) }
	}
	return b
}

// deliver is the device's callback for one frame; it takes p.
func (b *batch) deliver(p *pkt.Buf) {
	if b.iface.isDead() {
		b.iface.stack.stats.Ether.Drop[DropLinkDown].inc()
		p.Put()
		return
	}
	if b.now == 0 {
		b.now = b.iface.stack.clock.Now()
		b.stamp = b.iface.stack.probers.Load() != nil
		if p.At == 0 {
			p.At = b.now
		}
	}
	if p.At == 0 {
		p.At = b.now
		if b.stamp {
			p.At = b.iface.stack.clock.Now()
		}
	}
	b.n++
	st := &b.iface.stack.stats.Ether
	st.Input.inc()
	st.InputBytes.Add(uint64(p.Len()))
	if b.merge != nil {
		b.merge.Add(p, b.up)
	} else {
		b.iface.input(b, p)
	}
}

// flush is the device's callback for "nothing more at the moment".
func (b *batch) flush() {
	if m := b.merge; m != nil {
		m.Flush(b.up)
		if m.Merged > 0 {
			st := &b.iface.stack.stats.Offload
			st.Merged.Add(m.Merged)
			st.Aggregates.Add(m.Aggregates)
			m.Merged, m.Aggregates = 0, 0
		}
	}
	for n, c := range b.dirty {
		c.flush(b.now)
		b.dirty[n] = nil
	}
	b.dirty = b.dirty[:0]
	b.now = 0
	if b.n < ether.MaxBatch {
		b.dries++
	}
	b.n = 0
}

// end drops what waits for a flush that will not come.
func (b *batch) end() {
	if b.merge != nil {
		b.merge.Flush(func(p *pkt.Buf) {
			b.iface.stack.stats.Ether.Drop[DropLinkDown].inc()
			p.Put()
		})
	}
}

// txBatch collects frames for one interface so that a device gets them in one
// call. It is filled and sent under the sender's lock, which keeps order.
type txBatch struct {
	iface  *Interface
	frames []*pkt.Buf
	from   *PacketSocket // who sends them, and does not want to see them
}

var txPool = sync.Pool{New: func() any { return &txBatch{frames: make([]*pkt.Buf, 0, 64)} }}

func newTx(i *Interface) *txBatch {
	t := txPool.Get().(*txBatch)
	t.iface = i
	return t
}

// add takes a whole frame. A super-frame that the device would not segment is
// cut here, as late as can be: until then it was one packet for everyone.
func (t *txBatch) add(p *pkt.Buf) {
	if !t.iface.cuts(p.GSO.Type) {
		t.push(p)
		return
	}
	st := &t.iface.stack.stats.Offload
	st.Cut.inc()
	if !gso.Cut(p, t.push) {
		t.iface.stack.stats.Ether.Drop[DropDevice].inc()
	}
	p.Put()
}

// push takes a frame as the device gets it. No more than fit the batch wait,
// however long the super-frame they come from.
func (t *txBatch) push(p *pkt.Buf) {
	t.frames = append(t.frames, p)
	if len(t.frames) == cap(t.frames) {
		t.send()
	}
}

func (t *txBatch) send() error {
	if len(t.frames) == 0 {
		return nil
	}
	i := t.iface
	if x := i.stack.taps.Load(); x != nil {
		x.leaving(i, t.from, t.frames...)
	}
	st := &i.stack.stats.Ether
	st.Output.Add(uint64(len(t.frames)))
	n := 0
	for _, p := range t.frames {
		n += p.Size()
	}
	st.OutputBytes.Add(uint64(n))
	sent, err := i.dev.Send(0, t.frames)
	if lost := len(t.frames) - sent; lost > 0 {
		st.Drop[DropDevice].Add(uint64(lost))
	}
	clear(t.frames)
	t.frames = t.frames[:0]
	return err
}

// done sends what is left and gives the batch back.
func (t *txBatch) done() error {
	err := t.send()
	t.iface, t.from = nil, nil
	txPool.Put(t)
	return err
}

// input is the first step inward: Ethernet II (RFC 894). It takes p.
func (i *Interface) input(b *batch, p *pkt.Buf) {
	st := &i.stack.stats.Ether
	h, ok := ether.Parse(p.Bytes())
	if !ok {
		st.Drop[DropShortFrame].inc()
		p.Put()
		return
	}
	if t := i.stack.taps.Load(); t != nil {
		t.arrived(i, b.now, p)
	}
	dst, typ := h.Dst(), h.Type()
	src := h.Src()
	if typ < ether.MinType {
		st.Drop[lengthDrop(p.Bytes())].inc()
		p.Put()
		return
	}
	switch {
	case dst == i.mac, i.ptp:
	case dst.IsGroup():
		p.Group = true
		if !i.wantsGroup(dst) {
			st.Drop[DropForeignGroup].inc()
			p.Put()
			return
		}
	default:
		st.Drop[DropForeignMAC].inc()
		p.Put()
		return
	}
	if typ == ether.TypeVLAN || typ == ether.TypeServiceVLAN {
		if typ, ok = untag(p); !ok {
			st.Drop[DropVLAN].inc()
			p.Put()
			return
		}
	}
	p.Pull(ether.HeaderLen)
	switch typ {
	case ether.TypeIPv4:
		i.inputIPv4(b, p)
	case ether.TypeIPv6:
		i.inputIPv6(b, p)
	case ether.TypeARP:
		i.inputARP(b, p, src)
		p.Put()
	default:
		st.Drop[DropUnknownType].inc()
		p.Put()
	}
}
