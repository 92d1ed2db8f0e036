package stack

import (
	"net/netip"
	"syscall"

	"github.com/tapstack/tapstack/tcp"
)

// This file owns what the sockets of an address are told when the host loses it,
// to another host that insists on it (RFC 5227 §2.4) or because its lease or
// its valid lifetime is over (RFC 2131 §4.4.5, RFC 4862 §5.5.4). Taking an address
// away by DelAddr ends connections too, but is the user's own doing, and no news
// for sockets without one.

// LoseAddr takes an address away that the host may not use any more. Connections
// from it end with EADDRNOTAVAIL, and so does the next call on each datagram
// socket that is bound to it or connected from it. EADDRNOTAVAIL when the
// interface lacks it.
func (i *Interface) LoseAddr(a netip.Addr) error {
	err := i.loseAddr(a, OriginStatic)
	if err == nil {
		i.takenAway(a)
	}
	return err
}

// loseAddr is LoseAddr as delAddr is DelAddr.
func (i *Interface) loseAddr(a netip.Addr, by Origin) error {
	if err := i.delAddr(a, by); err != nil {
		return err
	}
	if i.stack.InterfaceOf(a) == nil { // not on another interface either
		i.stack.udp.addressGone(a)
	}
	return nil
}

// resetConnections tells peers that an address is about to be given up: RFC 5227
// §2.4 and RFC 3927 §2.5 want connections to be reset while the address is still
// ours, so that they do not go on with whoever has it then.
func (t *tcpTable) resetConnections(a netip.Addr) {
	for _, e := range t.all() {
		if c, ok := e.(*TCPConn); ok && c.id().local.Addr() == a {
			c.end((*tcp.Conn).Reset, syscall.EADDRNOTAVAIL)
		}
	}
}

// addressGone makes EADDRNOTAVAIL pending on the sockets of an address.
func (t *bindings[E]) addressGone(a netip.Addr) {
	var list []*Datagram
	t.mu.RLock()
	for _, held := range t.m {
		for _, e := range held {
			if d, ok := any(e).(*Datagram); ok {
				list = append(list, d)
			}
		}
	}
	t.mu.RUnlock()
	for _, d := range list {
		if d.sendsFrom(a) {
			d.PutError(syscall.EADDRNOTAVAIL)
		}
	}
}

// sendsFrom reports whether the socket has that address and no other.
func (d *Datagram) sendsFrom(a netip.Addr) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.local.Addr().WithZone("") == a || d.remote.IsValid() && d.source.WithZone("") == a
}
