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
	addrs, r, err := n.known(r, network, host)
	if r == nil {
		return addrs, err
	}
	if addrs, err = r.LookupNetIP(ctx, network, host); err != nil {
		return nil, err
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	n.sortAddrs(addrs)
	return addrs, nil
}

// known returns the addresses of a host that nobody has to be asked for, or else
// the resolver to ask: r, or the network's if that is nil.
func (n *Network) known(r Resolver, network, host string) ([]netip.Addr, Resolver, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, nil, nil
	}
	if name := strings.ToLower(strings.TrimSuffix(host, ".")); name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return []netip.Addr{netip.IPv6Loopback(), loopback4}, nil, nil
	}
	if r == nil {
		r = n.Resolver
	}
	if h := n.hosts.Load(); r == nil && h != nil {
		if addrs := h.lookup(network, host); len(addrs) > 0 {
			n.sortAddrs(addrs)
			return addrs, nil, nil
		}
	}
	if r == nil {
		if d := n.stub(); d != nil {
			r = d
		}
	}
	if r == nil {
		return nil, nil, &net.DNSError{Err: "no DNS server is known", Name: host}
	}
	return nil, r, nil
}

var loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// addrList returns what address stands for, at least one. The errors are those
// that package net puts into an OpError.
func (n *Network) addrList(ctx context.Context, r Resolver, op, network, address string) ([]netip.AddrPort, error) {
	host, port, list, err := splitAddress(ctx, op, network, address)
	if list != nil || err != nil {
		return list, err
	}
	ips, err := n.lookup(ctx, r, "ip"+strings.TrimLeft(network, "tcpud"), host)
	if err != nil {
		return nil, lookupError(err)
	}
	return withPort(network, host, ips, port)
}

// splitAddress takes an address apart, or returns what one without a host stands
// for.
func splitAddress(ctx context.Context, op, network, address string) (host string, port uint16, list []netip.AddrPort, err error) {
	if !isKnown(network) {
		return "", 0, nil, net.UnknownNetworkError(network)
	}
	if address == "" {
		if op == "dial" {
			return "", 0, nil, errMissingAddress
		}
		return "", 0, []netip.AddrPort{{}}, nil
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, nil, err
	}
	n, err := net.DefaultResolver.LookupPort(ctx, network, service)
	if err != nil {
		return "", 0, nil, err // the names of ports are the host's, as no DNS server has them
	}
	if host == "" {
		list = []netip.AddrPort{netip.AddrPortFrom(netip.Addr{}, uint16(n))}
	}
	return host, uint16(n), list, nil
}

// withPort makes of a host's addresses those that a network can use.
func withPort(network, host string, ips []netip.Addr, port uint16) (list []netip.AddrPort, err error) {
	if len(ips) == 1 && ips[0] == netip.IPv6Unspecified() {
		ips = append(ips, netip.IPv4Unspecified()) // as package net does
	}
	for _, ip := range ips {
		if only4(network) && !ip.Is4() || only6(network) && ip.Is4() {
			continue
		}
		list = append(list, netip.AddrPortFrom(ip, port))
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
