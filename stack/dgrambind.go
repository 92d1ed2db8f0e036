package stack

// This file owns the two ends of a datagram socket: Bind, Connect, and the way
// from one to the other.

import (
	"net/netip"
	"syscall"
)

// held is what a socket has in the table of ports.
type held struct {
	addr netip.Addr
	both bool
}

func (d *Datagram) holds() hold {
	h := d.held.Load()
	return d.hold(h.addr, h.both)
}

// Bind gives the socket its local address; port 0 takes a free one. Errors:
// EINVAL when already bound, EADDRNOTAVAIL, EADDRINUSE.
func (d *Datagram) Bind(local netip.AddrPort) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.bindLocked(local)
}

func (d *Datagram) bindLocked(local netip.AddrPort) (err error) {
	if d.closed {
		return syscall.EBADF
	}
	if d.bound && d.raw == nil {
		return syscall.EINVAL
	}
	a := local.Addr()
	free := d.sets.on(DatagramFreebind) || d.sets.on(DatagramTransparent)
	if !a.IsMulticast() && !d.stack.cfg.Load().broadcast(a) && !free {
		if err := d.stack.checkLocal(a); err != nil {
			return err
		}
	}
	pin, err := d.stack.bindZone(a, d.oif)
	switch {
	case err == syscall.EADDRNOTAVAIL && free:
		pin, err = d.stack.Zone(a), nil
	case err != nil:
		return err
	}
	if needsZone(a) {
		before := d.oif
		defer func() {
			if err != nil {
				d.oif = before
				d.dev.Store(before)
			}
		}()
		d.oif = pin
		d.dev.Store(pin)
	}
	if d.raw != nil {
		return d.bindRawLocked(a)
	}
	a = a.WithZone("")
	if local.Port() == 0 && d.sets.on(DatagramNoPort) && !d.local.IsValid() {
		d.local = netip.AddrPortFrom(a, 0) // the port comes with the first datagram
		return nil
	}
	d.held.Store(&held{a, d.both})
	port := uint16(0)
	if port, err = d.table.add(d.stack, d, local.Port()); err != nil {
		return err
	}
	d.local = netip.AddrPortFrom(a, port)
	d.bound, d.chosen = true, local.Port() == 0
	return nil
}

// autobindLocked binds a socket that sends before Bind.
func (d *Datagram) autobindLocked(v4 bool) error {
	if d.bound {
		return nil
	}
	a := any6
	if d.local.IsValid() {
		a = d.local.Addr() // of a Bind that took no port
	} else if v4 && !d.both {
		a = any4
	}
	return d.bindLocked(netip.AddrPortFrom(a, 0))
}

// Connect fixes the peer: sends go there, and only what comes from there is
// received. The zero AddrPort dissolves the connection; a port that nobody has
// asked for is given back then, and the socket unpinned from its interface, as on
// Linux.
func (d *Datagram) Connect(remote netip.AddrPort) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !remote.IsValid() {
		d.disconnectLocked()
		return nil
	}
	if err := d.autobindLocked(remote.Addr().Is4()); err != nil {
		return err
	}
	if d.remote.IsValid() && d.source.Is4() && remote.Addr().Is6() {
		return syscall.EAFNOSUPPORT // as Linux: a connection has chosen IPv4
	}
	pin, err := d.stack.connectZone(remote.Addr(), d.oif)
	if err != nil {
		return err
	}
	r, err := d.routeLocked(remote.Addr(), plainSend)
	if err != nil {
		return err
	}
	if needsZone(remote.Addr()) {
		d.oif = pin
		d.dev.Store(pin)
	}
	d.route = r
	d.remote = netip.AddrPortFrom(r.end(), remote.Port())
	if d.local.Addr().IsUnspecified() {
		d.source = r.src
		d.Narrow(r.src)
	}
	return nil
}

// reselectLocked gives up the source that a connection chose because it is not
// ours any more, and reports whether it did: the next route has a new one.
func (d *Datagram) reselectLocked(m *SendInfo) bool {
	if m.Source.IsValid() || !d.source.IsValid() || d.stack.checkLocal(d.source) == nil {
		return false
	}
	d.source = netip.Addr{}
	d.Narrow(netip.Addr{})
	return true
}

func (d *Datagram) disconnectLocked() {
	d.remote, d.source, d.route = netip.AddrPort{}, netip.Addr{}, route{}
	d.oif = nil
	d.dev.Store(nil)
	d.Narrow(netip.Addr{})
	if d.bound && d.chosen && d.raw == nil {
		d.table.remove(d, d.local.Port())
		d.local, d.bound = netip.AddrPortFrom(d.local.Addr(), 0), false
	}
}

// routeLocked finds the way to dst for one datagram. What m asks for goes before
// what the socket is bound to, and for groups that before their interface.
func (d *Datagram) routeLocked(dst netip.Addr, m *SendInfo) (route, error) {
	if dst.IsUnspecified() {
		// As Linux: "any address" means this host.
		if dst.Is6() {
			dst = netip.IPv6Loopback()
		} else {
			dst = loopback4
		}
	}
	final := dst
	if dst.Is6() {
		if err := m.Headers.check(); err != nil {
			return route{}, err
		}
		dst = d.headersLocked(m).via(dst)
	}
	src, oif := d.local.Addr(), d.oif
	switch {
	case src.Is4() == dst.Is4():
	case src.Is4():
		return route{}, syscall.EAFNOSUPPORT
	case !src.IsUnspecified() || !d.both:
		return route{}, syscall.ENETUNREACH
	}
	if src.IsMulticast() || src.IsUnspecified() || d.stack.cfg.Load().broadcast(src) {
		src = netip.Addr{} // bound to receive there; nothing is sent from it
		if d.source.Is4() == dst.Is4() {
			src = d.source.WithZone("")
		}
	}
	if m.Source.IsValid() && m.Source.Is4() != dst.Is4() {
		return route{}, syscall.EINVAL
	}
	own := m.Source.IsValid() && (!m.Source.IsUnspecified() || dst.Is4())
	if own {
		src = m.Source
	}
	if m.Interface != nil {
		oif = m.Interface
	}
	if dst.IsMulticast() {
		group := d.group6
		if dst.Is4() {
			group = d.group4
			if !src.IsValid() || src.IsUnspecified() {
				src = d.groupSrc
			}
		}
		if oif == nil {
			oif = group
		}
	}
	// Linux asks of IPv6 only where the address is bound.
	free := d.sets.on(DatagramTransparent) || d.sets.on(DatagramFreebind) && dst.Is6()
	if free && src.IsValid() && d.stack.checkLocal(src) != nil {
		r, err := d.stack.findRoute(dst, netip.Addr{}, oif)
		r.src = src.WithZone("")
		if dst != final {
			r.final = final.WithZone("")
		}
		return r, err
	}
	r, err := d.stack.findRoute(dst, src, oif)
	if dst != final {
		r.final = final.WithZone("")
	}
	if err == nil && (!src.IsValid() || src.IsUnspecified()) {
		d.preferLocked(&r)
	}
	switch {
	case err == syscall.EADDRNOTAVAIL && (own || d.sets.on(DatagramFreebind)) && src.IsValid():
		if dst.Is4() {
			return route{}, syscall.ENETUNREACH // as Linux calls a source that is not ours
		}
		return route{}, syscall.EINVAL
	case err == nil && r.bcast && !d.sets.on(DatagramBroadcast):
		return route{}, syscall.EACCES
	case err == nil && (m.DontRoute || d.sets.on(DatagramDontRoute)) && r.nextHop != r.dst && !r.iface.loopback:
		return route{}, syscall.ENETUNREACH
	}
	return r, err
}

// LocalAddr returns the address the socket is bound to; for a connected one
// the address that its datagrams come from.
func (d *Datagram) LocalAddr() netip.AddrPort {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.remote.IsValid() && d.local.Addr().IsUnspecified() {
		return d.stack.inZone(netip.AddrPortFrom(d.source, d.local.Port()), d.oif)
	}
	return d.stack.inZone(d.local, d.oif)
}

// RemoteAddr returns the connected peer, invalid when there is none.
func (d *Datagram) RemoteAddr() netip.AddrPort {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.oif == nil {
		return d.stack.inZone(d.remote, d.route.iface)
	}
	return d.stack.inZone(d.remote, d.oif)
}

// Device returns the interface that the socket is pinned to, nil: none.
func (d *Datagram) Device() *Interface {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.oif
}
