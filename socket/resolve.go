package socket

// This file owns the way from an address as programs write it to those that a
// socket takes: its syntax, and whom to ask about names.

import (
	"context"
	"net"
	"net/netip"
	"strings"
)

// Resolver looks up the addresses of a name; network is "ip", "ip4" or "ip6".
// A *net.Resolver is one, and so is *DNS.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// SetDNS has names looked up by asking these servers, one after the other, on
// port 53 and over the stack itself, unless Resolver is set. None: names are
// not known any more. Nothing else is asked: the host's resolv.conf is not read,
// and its hosts file only if SetHosts says so.
func (n *Network) SetDNS(servers ...netip.Addr) {
	if len(servers) == 0 {
		n.dns.Store(nil)
		return
	}
	d := &DNS{Net: n}
	for _, a := range servers {
		d.Servers = append(d.Servers, netip.AddrPortFrom(a, dnsPort))
	}
	n.dns.Store(d)
}

// LookupNetIP returns the addresses of a host by network "ip", "ip4" or "ip6",
// those first that are likely to be reached (RFC 6724). Addresses stand for
// themselves; "localhost" and what ends with it is this host (RFC 6761 §6.3).
func (n *Network) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	return n.lookup(ctx, nil, network, host)
}

// lookup is LookupNetIP with a resolver; nil is the network's.
func (n *Network) lookup(ctx context.Context, r Resolver, network, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	if name := strings.ToLower(strings.TrimSuffix(host, ".")); name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return []netip.Addr{netip.IPv6Loopback(), loopback4}, nil
	}
	if r == nil {
		r = n.Resolver
	}
	if h := n.hosts.Load(); r == nil && h != nil {
		if addrs := h.lookup(network, host); len(addrs) > 0 {
			n.sortAddrs(addrs)
			return addrs, nil
		}
	}
	if r == nil {
		if d := n.stub(); d != nil {
			r = d
		}
	}
	if r == nil {
		return nil, &net.DNSError{Err: "no DNS server is known", Name: host}
	}
	addrs, err := r.LookupNetIP(ctx, network, host)
	if err != nil {
		return nil, err
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	n.sortAddrs(addrs)
	return addrs, nil
}

var loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// addrList returns what address stands for, at least one. The errors are those
// that package net puts into an OpError.
func (n *Network) addrList(ctx context.Context, r Resolver, op, network, address string) ([]netip.AddrPort, error) {
	if !isKnown(network) {
		return nil, net.UnknownNetworkError(network)
	}
	if address == "" {
		if op == "dial" {
			return nil, errMissingAddress
		}
		return []netip.AddrPort{{}}, nil
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, network, service)
	if err != nil {
		return nil, err // the names of ports are the host's, as no DNS server has them
	}
	if host == "" {
		return []netip.AddrPort{netip.AddrPortFrom(netip.Addr{}, uint16(port))}, nil
	}
	ips, err := n.lookup(ctx, r, "ip"+strings.TrimLeft(network, "tcpud"), host)
	if err != nil {
		return nil, lookupError(err)
	}
	if len(ips) == 1 && ips[0] == netip.IPv6Unspecified() {
		ips = append(ips, netip.IPv4Unspecified()) // as package net does
	}
	var list []netip.AddrPort
	for _, ip := range ips {
		if only4(network) && !ip.Is4() || only6(network) && ip.Is4() {
			continue
		}
		list = append(list, netip.AddrPortFrom(ip, uint16(port)))
	}
	if len(list) == 0 {
		return nil, &net.AddrError{Err: "no suitable address found", Addr: host}
	}
	return list, nil
}

// lookupError is what package net makes of a context that ended during a
// look-up.
func lookupError(err error) error {
	switch err {
	case context.Canceled:
		return dialCanceled{}
	case context.DeadlineExceeded:
		return dialTimeout{}
	}
	return err
}
