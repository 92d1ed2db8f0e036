package probecap

// This file owns ARP and neighbour discovery: which of it is for the first hop of
// a probe, or for its answer.

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// hop is what somebody on the link is called.
func (t *Tracker) hop(a netip.Addr) string {
	if t.hops[a] {
		return "the first hop " + a.String()
	}
	return a.String()
}

// arp is of the hops that were declared: our requests and their answers. A
// request of theirs is for an answer to a probe while one is awaited.
func (t *Tracker) arp(out bool, b []byte, at time.Time) (string, bool) {
	if len(b) < 28 || binary.BigEndian.Uint32(b) != 0x00010800 || b[4] != 6 || b[5] != 4 {
		return "", false
	}
	reply := binary.BigEndian.Uint16(b[6:]) == 2
	return t.neighbour("ARP", out, reply, netip.AddrFrom4([4]byte(b[14:])), netip.AddrFrom4([4]byte(b[24:])), b[8:14], at)
}

// neighbour is ARP and neighbour discovery: sender asks for target, or answers.
func (t *Tracker) neighbour(what string, out, reply bool, sender, target netip.Addr, mac []byte, at time.Time) (string, bool) {
	switch {
	case out && !reply:
		if _, ok := t.hops[target]; !ok || sender.IsUnspecified() || sender == target {
			return "", false // our own address, or somebody else's business
		}
		t.asked[target] = at
		return textf("%s for %s", what, t.hop(target)), true
	case !out && reply:
		when, ok := t.asked[sender]
		if !ok {
			return "", false // unasked
		}
		return textf("%s: %s is at %s, %s", what, t.hop(sender), macText(mac), since(when, at)), true
	}
	peer := sender
	if out {
		peer = target
	}
	if out {
		if !t.owed[peer] {
			return "", false
		}
		delete(t.owed, peer)
		return textf("%s: we are here, to %s", what, t.hop(peer)), true
	}
	if _, ok := t.hops[peer]; !ok || t.waiting <= 0 || at.Sub(t.last) > promptly {
		return "", false
	}
	t.owed[peer] = true
	return textf("%s: %s asks for us, to send an answer", what, t.hop(peer)), true
}

func macText(b []byte) string {
	if len(b) < 6 {
		return "an address"
	}
	return textf("%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5])
}

// since is a time as comments have it.
func since(from, to time.Time) string {
	return textf("%.3g ms", max(float64(to.Sub(from).Nanoseconds())/1e6, 0))
}

// nd is neighbour discovery (RFC 4861 §4.3, §4.4); ok: it is that.
func (t *Tracker) nd(out bool, p *packet, at time.Time) (comment string, ok bool) {
	b := p.body
	if p.proto != protoICMP6 || len(b) < 24 || b[0] != 135 && b[0] != 136 {
		return "", false
	}
	target := netip.AddrFrom16([16]byte(b[8:]))
	mac := []byte(nil)
	for o := b[24:]; len(o) >= 8 && o[1] > 0 && len(o) >= int(o[1])*8; o = o[int(o[1])*8:] {
		if o[0] == 2 {
			mac = o[2:8]
		}
	}
	const what = "neighbour discovery"
	if b[0] == 135 {
		comment, _ = t.neighbour(what, out, false, p.src, target, nil, at)
	} else if out {
		comment, _ = t.neighbour(what, out, true, p.src, p.dst, nil, at)
	} else {
		comment, _ = t.neighbour(what, out, true, target, p.dst, mac, at)
	}
	return comment, true
}
