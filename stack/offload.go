package stack

// This file owns what the stack does in place of a device without segmentation
// offload. Above Interface all devices look alike: TCP gives super-frames to
// each and gets them from each, so that routes, neighbours, headers and locks
// are dealt with once for up to 64 KB. What a device does not do is done next
// to it, by internal/gso.

import (
	"sync"

	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
)

// maxSuperFrame is the most payload of a super-frame: an IPv4 packet can be
// 65535 bytes long, with 60 bytes of each header.
const maxSuperFrame = 65535 - 120

// offload decides what is done in place of the device, and makes caps what the
// two of them can together.
func (i *Interface) offload(plain bool) {
	i.cutUDP = !i.caps.USO
	if i.caps.GSOMax == 0 && !plain {
		i.cutTCP = true
		i.caps.GSOMax = maxSuperFrame
	}
	i.merge = !i.caps.RxCsum && !plain // else the device's frames are merged as far as they can be
}

// cuts reports whether a frame of that type has to be cut before it is given
// to the device.
func (i *Interface) cuts(t pkt.GSOType) bool {
	switch t {
	case pkt.GSONone:
		return false
	case pkt.GSOUDP:
		return i.cutUDP
	}
	return i.cutTCP
}

// superFrame is the most payload that TCP may put into one segment on the
// route, 0 for what a packet can carry.
func (r *route) superFrame() int {
	switch {
	case r.dst.Is4() && (r.mtu < minPathMTU4 || r.tiny):
		return 0 // such segments may become fragments, and their pieces may not
	case len(r.opts) > 0:
		return 0 // see tcpheaders.go
	}
	return min(r.iface.caps.GSOMax, maxSuperFrame)
}

// parseIPv4 reads the header of a packet, n bytes long. One that the sender's
// kernel has not cut yet may be longer than the header can say.
func parseIPv4(p *pkt.Buf) (h ipv4.Header, n int, d ipv4.Drop) {
	if p.GSO.Type == pkt.GSOTCPv4 {
		return ipv4.ParseSuper(p.Bytes())
	}
	if h, d = ipv4.Parse(p.Bytes()); d == ipv4.DropNone {
		n = h.TotalLen()
	}
	return h, n, d
}

// parseIPv6 reads the fixed header of a packet with n bytes of payload.
func parseIPv6(p *pkt.Buf) (h ipv6.Header, n int, d ipv6.Drop) {
	if p.GSO.Type == pkt.GSOTCPv6 {
		if ipv6.StripJumbo(p.Bytes()) {
			p.Pull(ipv6.JumboLen)
		}
		return ipv6.ParseSuper(p.Bytes())
	}
	if h, d = ipv6.Parse(p.Bytes()); d == ipv6.DropNone {
		n = h.PayloadLen()
	}
	return h, n, d
}

// pushed is the batch of a device that pushes its frames. When such a device
// is detached, a call of deliver may still be under way, and what that keeps
// to be merged nobody would flush.
type pushed struct {
	*batch
	mu    sync.Mutex // held while a callback runs; guards ended
	ended bool
}

func (b *pushed) deliver(p *pkt.Buf) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		b.iface.stack.stats.Ether.Drop[DropLinkDown].inc()
		p.Put()
		return
	}
	b.batch.deliver(p)
}

func (b *pushed) flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.batch.flush()
}

func (b *pushed) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	b.batch.end()
}
