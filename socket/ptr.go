package socket

// This file owns names of addresses: PTR records (RFC 1035 §3.5, RFC 3596 §2.5).

import (
	"context"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// LookupAddr returns the names of an address, without the dot of the root, by
// asking the servers that SetDNS named. The error is a *net.DNSError.
func (n *Network) LookupAddr(ctx context.Context, a netip.Addr) ([]string, error) {
	if d := n.dns.Load(); d != nil {
		return d.LookupAddr(ctx, a)
	}
	return nil, &net.DNSError{Err: "no DNS server is known", Name: a.String()}
}

// LookupAddr returns the names of an address, without the dot of the root. The
// error is a *net.DNSError, or ctx's.
func (d *DNS) LookupAddr(ctx context.Context, a netip.Addr) (names []string, err error) {
	err = d.query(ctx, reverseName(a), dnsmessage.TypePTR, func(m *dnsmessage.Message, q dnsmessage.Question) bool {
		names = pointers(m, q.Name.String())
		return len(names) > 0
	})
	return names, err
}

// reverseName is where the names of an address are.
func reverseName(a netip.Addr) string {
	a = a.Unmap()
	var b []byte
	if a.Is4() {
		v := a.As4()
		return netip.AddrFrom4([4]byte{v[3], v[2], v[1], v[0]}).String() + ".in-addr.arpa."
	}
	const hex = "0123456789abcdef"
	v := a.As16()
	for i := len(v) - 1; i >= 0; i-- {
		b = append(b, hex[v[i]&15], '.', hex[v[i]>>4], '.')
	}
	return string(b) + "ip6.arpa."
}

// pointers are the names in m, of the address or, where it is delegated to
// somebody (RFC 2317), of what it is an alias of.
func pointers(m *dnsmessage.Message, name string) []string {
	return records(m, name, func(b dnsmessage.ResourceBody) (string, bool) {
		p, ok := b.(*dnsmessage.PTRResource)
		if !ok {
			return "", false
		}
		return strings.TrimSuffix(p.PTR.String(), "."), true
	})
}
