package socket

// This file owns where the servers that are asked come from when they change by
// themselves, and the way from package net's resolver to them.

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
)

// SetDNSSource has f asked at each look-up which servers there are, and which
// domains names are searched in: those of DHCP and of router advertisements come
// and go. It takes the place of what SetDNS has set; nil does not ask any more.
func (n *Network) SetDNSSource(f func() (servers []netip.Addr, search []string)) {
	if f == nil {
		n.source.Store(nil)
		return
	}
	n.source.Store(&f)
}

// stub returns the resolver of the servers that are known, nil if there is none.
func (n *Network) stub() *DNS {
	f := n.source.Load()
	if f == nil {
		return n.dns.Load()
	}
	servers, search := (*f)()
	if len(servers) == 0 {
		return nil
	}
	d := &DNS{Net: n, Search: search}
	for _, a := range servers {
		d.Servers = append(d.Servers, netip.AddrPortFrom(a, dnsPort))
	}
	return d
}

// NetResolver returns package net's resolver with the network's servers, which
// it asks over the stack: for programs that want one, and for records that
// LookupNetIP does not ask for (MX, TXT, SRV and so on). Of the host it still
// reads the hosts file and, of resolv.conf, the search list and the options.
func (n *Network) NetResolver() *net.Resolver {
	var turn atomic.Uint32
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		// The address is that of a server of the host's. A dial is a try, and
		// the next try is another server's.
		d := n.stub()
		if d == nil {
			return nil, &net.DNSError{Err: "no DNS server is known"}
		}
		server := d.Servers[int(turn.Add(1)-1)%len(d.Servers)]
		return n.DialContext(ctx, network, server.String())
	}}
}
