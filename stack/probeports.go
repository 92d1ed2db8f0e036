package stack

// This file owns the ports of probers. A port that a prober has is nobody
// else's, for all addresses and both families, and it gets none that anybody
// has: a packet to it can concern no socket, so that the tables of sockets are
// asked first and a prober only where they know of nobody.

import (
	"sync/atomic"
	"syscall"

	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
)

// protoSCTP is the one protocol with ports that the stack does not speak itself.
const protoSCTP = 132

// The tables of ports. Identifiers of echo requests are ports as well.
const (
	probeTCP = iota
	probeUDP
	probeEcho
	probeSCTP
	numProbeTables
)

// probeTable returns the table of an IP protocol's ports.
func probeTable(proto uint8) (table int, ok bool) {
	switch proto {
	case ipv4.ProtoTCP:
		return probeTCP, true
	case ipv4.ProtoUDP:
		return probeUDP, true
	case ipv4.ProtoICMP, ipv6.ProtoICMPv6:
		return probeEcho, true
	case protoSCTP:
		return probeSCTP, true
	}
	return 0, false
}

// portSet is a bit for each port.
type portSet [1 << 16 / 64]atomic.Uint64

func (p *portSet) has(port uint16) bool { return p[port/64].Load()>>(port%64)&1 != 0 }
func (p *portSet) add(port uint16)      { p[port/64].Or(1 << (port % 64)) }
func (p *portSet) remove(port uint16)   { p[port/64].And(^uint64(1 << (port % 64))) }

// proberOf returns the prober that has a port, or nil.
func (s *Stack) proberOf(table int, port uint16) *Prober {
	if l := s.probers.Load(); l != nil {
		for _, p := range *l {
			if p.ports[table].has(port) {
				return p
			}
		}
	}
	return nil
}

// ReservePort takes a port of TCP, UDP or SCTP, or an identifier of echo
// requests, which have one table for both families; 0 takes a free one of those
// the stack gives to sockets (RFC 6056). Errors: EADDRINUSE,
// EPROTONOSUPPORT for other protocols.
func (p *Prober) ReservePort(proto uint8, port uint16) (uint16, error) {
	s := p.stack
	table, ok := probeTable(proto)
	switch {
	case !ok:
		return 0, syscall.EPROTONOSUPPORT
	case table == probeTCP:
		return reserve(p, &s.tcp.listen, port)
	case table == probeUDP:
		return reserve(p, &s.udp, port)
	case table == probeEcho:
		return reserve(p, &s.ping, port)
	}
	// Nobody else has ports of SCTP; any lock will do.
	s.mu.Lock()
	defer s.mu.Unlock()
	return p.choose(probeSCTP, port, func(uint16) bool { return true })
}

// ReleasePort gives a port back.
func (p *Prober) ReleasePort(proto uint8, port uint16) {
	if table, ok := probeTable(proto); ok {
		p.ports[table].remove(port)
	}
}

// reserve takes a port of the protocol whose sockets are in t.
func reserve[E bound](p *Prober, t *bindings[E], port uint16) (uint16, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return p.choose(t.table, port, func(port uint16) bool { return len(t.m[port]) == 0 })
}

// choose marks a port that is free; the lock of its table is held.
func (p *Prober) choose(table int, port uint16, free func(uint16) bool) (uint16, error) {
	s := p.stack
	take := func(port uint16) bool {
		if !free(port) || s.proberOf(table, port) != nil {
			return false
		}
		p.ports[table].add(port)
		// A connection enters its table first and looks here then
		// (tcpTable.insert), so that one of the two sees the other.
		if table == probeTCP && s.tcp.conns.any(port) {
			p.ports[table].remove(port)
			return false
		}
		return true
	}
	ok := false
	if port != 0 {
		ok = take(port)
	} else {
		port, ok = s.localPorts.forSocket(s.randUint32(), table == probeTCP, take)
	}
	if !ok {
		return 0, syscall.EADDRINUSE
	}
	return port, nil
}
