package attach

// This file owns what DHCPv6 means to a program: the flags beside --dhcp6, who the
// host is to servers, the wait for what routers announce, and what the user is
// told. With --slaac it is begun when routers say that there is something to be
// had by it, as by the network managers of Linux.

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/tapstack/tapstack/dhcp"
	"github.com/tapstack/tapstack/dhcp/dhcp6"
	"github.com/tapstack/tapstack/stack"
)

// The values of --dhcp6.
const (
	dhcp6Auto      = "auto"
	dhcp6Stateless = "stateless"
	dhcp6Stateful  = "stateful"
	dhcp6Off       = "off"
)

// DHCP6Options are those of Options that are about DHCPv6.
type DHCP6Options struct {
	DHCP6      string // --dhcp6: auto, stateless, stateful or off; "" is auto with SLAAC, else off
	Delegate   int    // --dhcp6-prefix: length of a prefix to ask for; 0: none
	LeaseFile6 string // --lease6-file: where the lease outlives the program
	DUID       string // --duid: who the host is; "" is ll
	DUIDFile   string // --duid-file: where that is kept
}

func (o *Options) registerDHCP6(fs *pflag.FlagSet, text func(p *string, name, usage string)) {
	text(&o.DHCP6, "dhcp6", "ask DHCPv6 servers, and listen to routers as --slaac does: `MODE` auto (for what routers say there is; the default with --slaac), stateless (for all but addresses), stateful (for addresses too) or off")
	fs.Lookup("dhcp6").NoOptDefVal = dhcp6Auto
	fromEnv(o, &o.Delegate, "dhcp6-prefix", strconv.Atoi)
	fs.IntVar(&o.Delegate, "dhcp6-prefix", o.Delegate, "ask DHCPv6 servers for a prefix of `LENGTH` to number other links with, too")
	text(&o.LeaseFile6, "lease6-file", "keep the DHCPv6 lease in `FILE` for the next start instead of releasing it at the end")
	text(&o.DUID, "duid", "be known to DHCP servers as `ID`: ll (by the MAC address), llt or uuid (made once, for --duid-file), or bytes in hexadecimal (default ll)")
	text(&o.DUIDFile, "duid-file", "keep what --duid has made in `FILE`")
}

// dhcp6Plan is what checked options say of DHCPv6.
type dhcp6Plan struct {
	on       bool
	mode     dhcp6.Mode
	alone    time.Duration
	duidKind dhcp6.DUIDKind
	duid     []byte // as given
	named    bool   // DHCPv4 shall use it, too
}

func (o *Options) checkDHCP6(p *plan) (err error) {
	q := &p.dhcp6
	switch o.DHCP6 {
	case "":
		q.on = o.SLAAC
	case dhcp6Off:
	case dhcp6Auto:
		q.on, q.alone = true, slaacWait
	case dhcp6Stateless:
		q.on, q.mode = true, dhcp6.Stateless
	case dhcp6Stateful:
		q.on, q.mode = true, dhcp6.Stateful
	default:
		return fmt.Errorf("--dhcp6 %q: want %s, %s, %s or %s", o.DHCP6, dhcp6Auto, dhcp6Stateless, dhcp6Stateful, dhcp6Off)
	}
	q.duidKind = dhcp6.DUIDLL
	if o.DUID != "" {
		if q.duidKind, q.duid, err = dhcp6.ParseDUID(o.DUID); err != nil {
			return fmt.Errorf("--duid %q: %w", o.DUID, err)
		}
	}
	q.named = o.DUID != "" || o.DUIDFile != ""
	switch {
	case o.Delegate < 0 || o.Delegate > 64:
		return fmt.Errorf("--dhcp6-prefix %d: want a length up to 64", o.Delegate)
	case o.Delegate > 0 && (!q.on || q.mode == dhcp6.Stateless):
		return errors.New("--dhcp6-prefix: is part of what --dhcp6 asks for, other than stateless")
	case o.LeaseFile6 != "" && !q.on && o.given("lease6-file"):
		return errors.New("--lease6-file: is for the lease of --dhcp6, which is not there")
	case q.duid != nil && o.DUIDFile != "":
		return errors.New("--duid-file: is for what --duid makes, and this one is given")
	case q.duidKind != dhcp6.DUIDLL && q.duid == nil && o.DUIDFile == "":
		return fmt.Errorf("--duid %s: would be another one at each start; keep it with --duid-file", o.DUID)
	case q.on && o.MTU != 0 && o.MTU < minMTU6:
		return fmt.Errorf("--dhcp6: IPv6 needs an MTU of at least %d, not %d (RFC 8200 §5)", minMTU6, o.MTU)
	}
	return nil
}

// identify returns the host's DUID. It is that of DHCPv4 as well (RFC 4361 §6.1).
func (h *Host) identify(o *Options, p *plan) (duid []byte, err error) {
	q := &p.dhcp6
	fresh := func() []byte {
		var random [16]byte
		rand.Read(random[:])
		return dhcp6.NewDUID(q.duidKind, h.Interface.MAC(), time.Now(), random)
	}
	switch {
	case q.duid != nil:
		return q.duid, nil
	case o.DUIDFile != "":
		return dhcp6.KeepDUID(o.DUIDFile, fresh)
	}
	return fresh(), nil
}

// clientID is what DHCPv4 servers know the host by: nil for the default.
func (h *Host) clientID(o *Options, p *plan) ([]byte, error) {
	if !p.dhcp6.named {
		return nil, nil
	}
	duid, err := h.identify(o, p)
	return dhcp.NodeID(dhcp6.IAID(h.Interface.MAC()), duid), err
}

// startDHCP6 starts to ask DHCPv6 servers, or to wait for a reason to.
func (h *Host) startDHCP6(o *Options, p *plan) error {
	duid, err := h.identify(o, p)
	if err != nil {
		return fmt.Errorf("DHCPv6 on %s: %w", p.name, err)
	}
	hostname, _ := os.Hostname() // the option is left out without one
	h.DHCP6, err = dhcp6.Run(h.Interface, dhcp6.RunOptions{Mode: p.dhcp6.mode, Advice: h.advice, Alone: p.dhcp6.alone, DUID: duid, Hostname: hostname,
		Delegate: o.Delegate, LeaseFile: o.LeaseFile6, Changed: h.lease6Changed, Trouble: func(err error) { fmt.Fprintln(os.Stderr, err) }})
	if err != nil {
		return fmt.Errorf("DHCPv6 on %s: %w", p.name, err)
	}
	return nil
}

// advice is what routers say about DHCPv6.
func (h *Host) advice() dhcp6.Advice {
	a := h.Interface.Advertised()
	router := slices.ContainsFunc(h.Stack.Routes().List(), func(r stack.Route) bool {
		return r.Interface == h.Interface && r.Dst.Bits() == 0 && r.Dst.Addr().Is6()
	})
	return dhcp6.Advice{Router: router || a.Managed || a.Other, Managed: a.Managed, Other: a.Other}
}

// waitLease6 waits for what there is to be had: for addresses that were asked for
// as long as for those of DHCPv4, and for what routers only say for less.
func (h *Host) waitLease6(ctx context.Context, p *plan) error {
	a, mode, wait := h.advice(), p.dhcp6.mode, informWait
	switch {
	case mode == dhcp6.Stateful:
		wait = dhcpWait
	case mode == dhcp6.Auto && (a.Managed || !a.Router && p.dhcp6.alone > 0):
		mode, wait = dhcp6.Stateful, slaacWait
	case mode == dhcp6.Auto && !a.Other:
		h.running.Store(true)
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	s, err := h.DHCP6.WaitFor(limited, func(s dhcp6.Status) bool { return s.Bound || s.Informed && mode != dhcp6.Stateful })
	switch {
	case err == nil:
		h.leases = append(h.leases, fmt.Sprintf("lease6 %s ms=%d", describe6(s.Lease), time.Since(h.started).Milliseconds()))
	case ctx.Err() != nil || limited.Err() == nil:
		return fmt.Errorf("DHCPv6 on %s: %w", p.name, err)
	case p.dhcp6.mode == dhcp6.Stateful:
		return fmt.Errorf("DHCPv6 on %s: no server has answered for %v", p.name, wait)
	default:
		h.Notes = append(h.Notes, fmt.Sprintf("no DHCPv6 server on %s has answered for %v; still asking", p.name, wait))
	}
	h.running.Store(true)
	return nil
}

// describe6 writes a lease as describe does.
func describe6(l dhcp6.Lease) string {
	var fields []string
	field := func(name string, values ...string) {
		if v := strings.Join(values, ","); v != "" {
			fields = append(fields, name+"="+v)
		}
	}
	var addrs, delegated []string
	for _, g := range l.Addrs {
		addrs = append(addrs, g.Prefix.Addr().String())
	}
	for _, g := range l.Prefixes {
		delegated = append(delegated, g.Prefix.String())
	}
	field("address", addrs...)
	field("prefix", delegated...)
	field("dns", texts(l.DNS)...)
	field("search", l.Search...)
	field("ntp", l.NTP...)
	field("sntp", texts(l.SNTP)...)
	field("name", l.FQDN)
	field("portal", l.Portal)
	switch leases := slices.Concat(l.Addrs, l.Prefixes); {
	case len(leases) == 0:
	case leases[0].Valid == 0:
		field("time", "infinite")
	default:
		field("time", leases[0].Valid.Sub(l.Acquired).Round(time.Second).String())
	}
	field("server", hex.EncodeToString(l.Server))
	return strings.Join(fields, " ")
}

// lease6Changed tells the user of what happens once the program is running.
func (h *Host) lease6Changed(l dhcp6.Lease, have bool) {
	switch {
	case !h.running.Load():
	case have:
		fmt.Fprintln(os.Stderr, "dhcp6: lease", describe6(l))
	default:
		fmt.Fprintln(os.Stderr, "dhcp6: the lease is over; connections from its addresses have ended")
	}
}

// dns6 are the servers and domains of DHCPv6. Servers that are link-local are so
// on this interface.
func (h *Host) dns6() (servers []netip.Addr, search []string) {
	if h.DHCP6 == nil {
		return nil, nil
	}
	s := h.DHCP6.Status()
	if !s.Bound && !s.Informed {
		return nil, nil
	}
	for _, a := range s.Lease.DNS {
		if a.IsLinkLocalUnicast() {
			a = a.WithZone(h.Interface.Name())
		}
		servers = append(servers, a)
	}
	return servers, s.Lease.Search
}
