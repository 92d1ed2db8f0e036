package attach

// This file owns what DHCP and its last resort mean to a program: the flags
// beside --dhcp, the wait for an address, what the user is told of a lease, and
// which DNS servers follow from it.

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/tapstack/tapstack/dhcp"
)

// The values of --link-local. The default is that of dhcpcd: a link-local
// address where nobody answers. systemd-networkd and NetworkManager have to be
// told so; here --dhcp would else end with an error, which off asks for.
const (
	linkLocalFallback = "fallback"
	linkLocalOff      = "off"
)

func (o *Options) checkDHCP(p *plan) error {
	p.linkLocal = o.DHCP
	switch o.LinkLocal {
	case "":
	case linkLocalOff:
		p.linkLocal = false
	case linkLocalFallback:
		if !o.DHCP && o.given("link-local") {
			return errors.New("--link-local fallback: is the last resort of --dhcp, which is not there")
		}
	default:
		return fmt.Errorf("--link-local %q: want %s or %s", o.LinkLocal, linkLocalFallback, linkLocalOff)
	}
	if o.LeaseFile != "" && !o.DHCP && o.given("lease-file") {
		return errors.New("--lease-file: is for the lease of --dhcp, which is not there")
	}
	if !o.Inform {
		return nil
	}
	if o.DHCP {
		return errors.New("--inform: asks for all but an address; --dhcp asks for both")
	}
	i := slices.IndexFunc(p.addrs, func(a netip.Prefix) bool { return a.Addr().Is4() })
	if i < 0 {
		return errors.New("--inform: wants an IPv4 address of --ip to ask from")
	}
	p.inform = p.addrs[i].Addr()
	return nil
}

// startDHCP starts to obtain a lease, or with --inform what else servers know.
func (h *Host) startDHCP(o *Options, p *plan) (err error) {
	id, err := h.clientID(o, p)
	if err != nil {
		return fmt.Errorf("DHCP on %s: %w", p.name, err)
	}
	hostname, _ := os.Hostname() // the option is left out without one
	h.DHCP, err = dhcp.Run(h.Interface, dhcp.RunOptions{Hostname: hostname, ClientID: id, LeaseFile: o.LeaseFile, LinkLocal: p.linkLocal, Inform: p.inform,
		Changed: h.leaseChanged, Trouble: func(err error) { fmt.Fprintln(os.Stderr, err) }})
	if err != nil {
		return fmt.Errorf("DHCP on %s: %w", p.name, err)
	}
	return nil
}

// awaitGiven waits until the addresses of the command line may be used, and those
// that the interface gives itself. With --dhcp and nothing of IPv6 it does not
// wait for the latter: duplicate address detection of the link-local one takes
// longer than everything else, and nobody has asked for it.
func (h *Host) awaitGiven(ctx context.Context, o *Options, p *plan) error {
	is6 := func(a netip.Addr) bool { return a.Is6() }
	if !o.DHCP || o.SLAAC || slices.ContainsFunc(p.gateways, is6) ||
		slices.ContainsFunc(p.addrs, func(a netip.Prefix) bool { return a.Addr().Is6() }) {
		return h.Interface.Ready(ctx)
	}
	for _, a := range p.addrs {
		if err := h.Interface.WaitUsable(ctx, a.Addr()); err != nil {
			return err
		}
	}
	return nil
}

// informWait is how long Open waits for an answer to INFORM: that of a server
// comes at once or not at all, and what it says is no condition for work.
const informWait = 3 * time.Second

// waitLease waits for an address, from a server or of the last resort.
func (h *Host) waitLease(ctx context.Context, p *plan) error {
	wait := dhcpWait
	if p.inform.IsValid() {
		wait = informWait
	}
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	s, err := h.DHCP.WaitFor(limited, func(s dhcp.Status) bool { return s.Bound || s.Informed || s.LinkLocal.IsValid() })
	h.Lease = s.Lease
	switch {
	case err == nil && s.LinkLocal.IsValid():
		h.Notes = append(h.Notes, fmt.Sprintf("no DHCP server on %s has given an address; using %v, which reaches this link only, and still asking", p.name, s.LinkLocal))
	case err == nil:
		h.leases = append(h.leases, h.leaseLine(s.Lease))
	case ctx.Err() == nil && limited.Err() != nil && p.inform.IsValid():
		h.Notes = append(h.Notes, fmt.Sprintf("no DHCP server on %s has answered for %v; still asking", p.name, wait))
	case ctx.Err() == nil && limited.Err() != nil:
		return fmt.Errorf("DHCP on %s: no server has answered for %v", p.name, wait)
	default:
		return fmt.Errorf("DHCP on %s: %w", p.name, err)
	}
	h.running.Store(true)
	return nil
}

// LeaseLines are what there is to tell of leases: none without DHCP, else a line as
// that of ReadyLine for each, but beginning with "lease" or "lease6".
func (h *Host) LeaseLines() []string { return h.leases }

func (h *Host) leaseLine(l dhcp.Lease) string {
	return fmt.Sprintf("lease %s ms=%d", describe(l), time.Since(h.started).Milliseconds())
}

// describe writes a lease as fields without blanks. Texts of servers are names
// and addresses by now (package dhcp checks them).
func describe(l dhcp.Lease) string {
	var b strings.Builder
	field := func(name string, values ...string) {
		if v := strings.Join(values, ","); v != "" {
			if b.Len() > 0 {
				b.WriteByte(' ')
			}
			fmt.Fprintf(&b, "%s=%s", name, v)
		}
	}
	if l.Addr.IsValid() {
		field("address", l.Addr.String())
	}
	field("router", texts(l.Routers)...)
	for _, r := range l.Routes {
		if r.Dst.Bits() == 0 && len(l.Routers) == 0 {
			field("router", r.Gateway.String())
		}
	}
	field("dns", texts(l.DNS)...)
	field("domain", l.Domain)
	field("search", l.Search...)
	field("ntp", texts(l.NTP)...)
	if l.MTU != 0 {
		field("mtu", fmt.Sprint(l.MTU))
	}
	field("portal", l.Portal)
	switch {
	case l.Lease == dhcp.Infinite:
		field("time", "infinite")
	case l.Lease != 0:
		field("time", l.Lease.String())
	}
	field("server", l.Server.String())
	return b.String()
}

func texts(list []netip.Addr) (out []string) {
	for _, a := range list {
		out = append(out, a.String())
	}
	return out
}

// leaseChanged tells the user of what happens once the program is running.
func (h *Host) leaseChanged(l dhcp.Lease, have bool) {
	if !h.running.Load() {
		return
	}
	if have {
		fmt.Fprintln(os.Stderr, "dhcp: lease", describe(l))
	} else {
		fmt.Fprintf(os.Stderr, "dhcp: the lease of %v is over; connections from it have ended\n", l.Addr)
	}
}

// dnsNow are the servers to ask and the domains to search at present: those of
// --dns, else of DHCP, of DHCPv6 and of router advertisements, IPv4's first as with
// Linux's resolvconf, and DHCPv6's before routers' (RFC 8106 §5.3.1). Domains are
// those that any names, DHCP's search list before its
// domain (RFC 3397 §2).
func (h *Host) dnsNow(given []netip.Addr) (servers []netip.Addr, search []string) {
	if h.DHCP != nil {
		if s := h.DHCP.Status(); s.Bound || s.Informed {
			servers, search = slices.Clone(s.Lease.DNS), slices.Clone(s.Lease.Search)
			if len(search) == 0 && s.Lease.Domain != "" {
				search = []string{s.Lease.Domain}
			}
		}
	}
	for _, more := range []func() ([]netip.Addr, []string){h.dns6, h.Interface.NameServers} {
		addrs, domains := more()
		for _, a := range addrs {
			if !slices.Contains(servers, a) {
				servers = append(servers, a)
			}
		}
		for _, d := range domains {
			if !slices.Contains(search, d) {
				search = append(search, d)
			}
		}
	}
	if len(given) > 0 {
		servers = given
	}
	return servers, search
}
