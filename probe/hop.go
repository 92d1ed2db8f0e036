package probe

import (
	"net/netip"
	"slices"

	"github.com/tapstack/tapstack/icmp"
)

// This file owns what is known of a hop: who answered there, how often, and what
// they said.

// Host is somebody who answered at a hop.
type Host struct {
	Addr       netip.Addr
	Kind       Kind // of the last answer
	Count      int
	Extensions icmp.Extensions // of the last answer that had some
	Changes    []Change        // of the packet, when it got there
	QuotedTTL  uint8
	Quoted     int // how many bytes of it were quoted, with its IP header; 0: none
	ReplyTTL   uint8
	ICMPType   uint8
	ICMPCode   uint8
	MTU        int // of TooBig
}

// Hop is what is known of a TTL.
type Hop struct {
	TTL            int
	Sent, Received int
	Pending        int // sent, and no result yet
	Hosts          []Host
	Stats          Stats
}

// Loss returns the per cent of the probes with a result that were not answered.
func (h *Hop) Loss() float64 {
	n := h.Sent - h.Pending
	if n <= 0 {
		return 0
	}
	return 100 * float64(n-h.Received) / float64(n)
}

// host counts an answer.
func (h *Hop) host(r *Result) {
	i := slices.IndexFunc(h.Hosts, func(x Host) bool { return x.Addr == r.From })
	if i < 0 {
		// A hop with more routers than that is somebody's joke.
		if len(h.Hosts) == 128 {
			return
		}
		i = len(h.Hosts)
		h.Hosts = append(h.Hosts, Host{Addr: r.From})
	}
	x := &h.Hosts[i]
	x.Count++
	x.Kind, x.ReplyTTL, x.ICMPType, x.ICMPCode, x.MTU = r.Kind, r.ReplyTTL, r.ICMPType, r.ICMPCode, r.MTU
	if r.Quoted != nil {
		x.Changes, x.QuotedTTL, x.Quoted = r.Quoted.Changes, r.Quoted.TTL, r.Quoted.Bytes
	}
	if r.Extensions.MPLS != nil || r.Extensions.Interfaces != nil || r.Extensions.Others != nil {
		x.Extensions = r.Extensions
	}
}

// Back guesses from the TTL of the answer how many hops it took, with the source
// as the last: hosts begin with 64, 128 or 255, whichever is next above. 0
// without an answer.
func (h *Host) Back() int {
	switch {
	case h.ReplyTTL == 0:
		return 0
	case h.ReplyTTL <= 64:
		return 65 - int(h.ReplyTTL)
	case h.ReplyTTL <= 128:
		return 129 - int(h.ReplyTTL)
	}
	return 256 - int(h.ReplyTTL)
}

// Most returns the host that answered most, and false where nobody did.
func (h *Hop) Most() (x Host, ok bool) {
	for _, y := range h.Hosts {
		if y.Count > x.Count {
			x, ok = y, true
		}
	}
	return x, ok
}
