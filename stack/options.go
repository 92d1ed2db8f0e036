package stack

// This file owns IPv4 options: what is done with those of packets that arrive
// (RFC 791 §3.1, RFC 1122 §3.2.1.8, RFC 7126), and how they get into those that
// leave. Their format and the recording are in package ipv4.

import (
	"net/netip"
	"syscall"

	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/ipv4"
)

// optionHost is this host as one that records into options: as addr, at now.
func (s *Stack) optionHost(now mono.Time, addr netip.Addr) *ipv4.Host {
	c := s.cfg.Load()
	return &ipv4.Host{Addr: addr, Now: s.midnight(now), Own: func(a netip.Addr) bool { return c.local(a, s.lo) != nil }}
}

// inputOptions handles the options of a packet for this host, whose header it
// may change. It reports false for a packet that is to be dropped, which was
// answered if need be. RFC 1122 §3.2.1.8: unknown options are passed over.
func (i *Interface) inputOptions(now mono.Time, p packet, h ipv4.Header) bool {
	s := i.stack
	addr := p.dst
	if p.group {
		addr = s.cfg.Load().selectSource4(i, netip.Addr{})
	}
	if bad := ipv4.Record(h.Options(), s.optionHost(now, addr)); bad >= 0 {
		s.stats.IPv4.Drop[DropOptions].inc()
		i.badOptions(now, p, bad)
		return false
	}
	h.Seal()
	return true
}

// badOptions says that the options of a packet cannot be used from their byte
// bad on (RFC 1122 §3.2.2.5). It borrows p.
func (i *Interface) badOptions(now mono.Time, p packet, bad int) {
	i.stack.stats.IPv4.ParameterProblem.inc()
	i.stack.sendError(now, i, p.Buf, icmp.TypeParamProblem4, 0, [4]byte{byte(ipv4.HeaderLen + bad)}, false)
}

// header4 is the IPv4 header of a packet.
func (p *packet) header4() []byte {
	b := p.Network()
	return b[:int(b[0]&0x0f)*4]
}

// fillOptionsLocked gives a route the options of one datagram.
func (d *Datagram) fillOptionsLocked(r *route, m *SendInfo) error {
	if r.dst.Is6() {
		d.fillHeadersLocked(r, m)
		return nil
	}
	opts := d.hdrs.opts
	if m.Options != nil {
		if !ipv4.CheckOptions(m.Options) {
			return syscall.EINVAL
		}
		opts = m.Options
	}
	r.setOptions(d.stack, d.stack.clock.Now(), opts)
	return nil
}

// optionsOf returns a copy of the options of a packet, nil when there are none.
func optionsOf(p *packet) []byte {
	if p.dst.Is4() && p.Network()[0]&0x0f > ipv4.HeaderLen/4 {
		return append([]byte(nil), ipv4.Header(p.header4()).Options()...)
	}
	return nil
}

// ReplyOptions are the IPv4 options that an answer to the datagram would have
// (IP_RETOPTS).
func (a *Arrival) ReplyOptions() []byte {
	if len(a.Options) == 0 || a.Interface == nil {
		return nil
	}
	s := a.Interface.stack
	out, _ := ipv4.Echo(nil, a.Options, &ipv4.Host{Addr: a.Local(), Now: s.midnight(s.clock.Now()), Own: func(netip.Addr) bool { return false }})
	return out
}
