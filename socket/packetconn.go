package socket

// This file owns PacketConn, a UDP socket in the shape of net.UDPConn.

import (
	"net"
	"net/netip"
	"syscall"
)

// PacketConn is a UDP socket; one that was dialled is also a net.Conn. It has
// the methods of net.UDPConn but SyscallConn, see Conn.SyscallConn for why.
type PacketConn struct{ conn }

// ReadFrom implements net.PacketConn.
func (c *PacketConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.fd.RecvFrom(b, 0)
	if err != nil {
		return n, nil, c.wrap("read", "recvfrom", err)
	}
	return n, addrOf(c.network, from), nil
}

// ReadFromUDP is ReadFrom with the type of its address.
func (c *PacketConn) ReadFromUDP(b []byte) (int, *net.UDPAddr, error) {
	n, from, err := c.ReadFromUDPAddrPort(b)
	if err != nil {
		return n, nil, err
	}
	return n, addrOf(c.network, from).(*net.UDPAddr), nil
}

// ReadFromUDPAddrPort is ReadFrom without an allocation for the address, which
// on a socket for both families is mapped into IPv6, as package net's is.
func (c *PacketConn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	n, from, err := c.fd.RecvFrom(b, 0)
	return n, from, c.wrap("read", "recvfrom", err)
}

// WriteTo implements net.PacketConn; to is a *net.UDPAddr.
func (c *PacketConn) WriteTo(b []byte, to net.Addr) (int, error) {
	u, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, opError("write", c.network, c.local, to, syscall.EINVAL)
	}
	return c.WriteToUDP(b, u)
}

// WriteToUDP is WriteTo with the type of its address.
func (c *PacketConn) WriteToUDP(b []byte, to *net.UDPAddr) (int, error) {
	n, _, err := c.write(b, nil, "sendto", to.AddrPort(), udpAddr(to))
	return n, err
}

// WriteToUDPAddrPort is WriteTo without an allocation for the address.
func (c *PacketConn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	if c.remote != nil {
		return 0, c.writeError(addrPort{to}, net.ErrWriteToConnected)
	}
	n, err := c.sendTo(b, to)
	if err != nil {
		return n, c.writeError(addrPort{to}, syscallError("sendto", err))
	}
	return n, nil
}

// write is what all ways to write with an address, dst, have in common; a zero
// to is none.
func (c *PacketConn) write(b, oob []byte, call string, to netip.AddrPort, dst net.Addr) (n, oobn int, err error) {
	switch {
	case c.remote != nil && to.IsValid():
		err = net.ErrWriteToConnected
	case c.remote == nil && !to.IsValid():
		err = errMissingAddress
	default:
		n, err = c.sendMsg(b, oob, 0, to)
		err = syscallError(call, err)
	}
	if err != nil {
		return n, 0, c.writeError(dst, err)
	}
	return n, len(oob), nil
}

func (c *PacketConn) writeError(dst net.Addr, err error) error {
	return opError("write", c.network, c.local, dst, err)
}

// sendTo is FD.SendTo but for an address of the wrong family.
func (c *PacketConn) sendTo(b []byte, to netip.AddrPort) (int, error) {
	if err := c.wrongFamily(to); err != nil {
		return 0, err
	}
	return c.fd.SendTo(b, 0, to)
}

func (c *PacketConn) wrongFamily(to netip.AddrPort) error {
	if c.fd.domain == AF_INET && to.IsValid() && !to.Addr().Unmap().Is4() {
		return &net.AddrError{Err: "non-IPv4 address", Addr: to.Addr().String()}
	}
	return nil
}

// addrPort is a destination that is shown as it was given.
type addrPort struct{ netip.AddrPort }

func (addrPort) Network() string { return "udp" }
