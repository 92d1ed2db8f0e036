package attach

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tapstack/tapstack/dhcp"
	"github.com/tapstack/tapstack/dhcp/dhcp6"
	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/packet"
	"github.com/tapstack/tapstack/ether/pcap"
	"github.com/tapstack/tapstack/ether/tap"
	"github.com/tapstack/tapstack/ether/tun"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/socket/kernel"
	"github.com/tapstack/tapstack/stack"
)

const (
	// dhcpWait is how long Open waits for a lease: four requests of a client
	// that doubles its pause from 4 s (RFC 2131 §4.1).
	dhcpWait = 60 * time.Second
	// slaacWait is how long Open waits for an advertised prefix: three
	// solicitations, 4 s each (RFC 4861 §10).
	slaacWait = 12 * time.Second
	// hostsFile has names that go before those of servers.
	hostsFile = "/etc/hosts"
)

// Host is a stack on a network, with addresses that may be used; or with --net
// host only the host's own network.
type Host struct {
	Net       socket.System
	Stack     *stack.Stack     // nil with --net host
	Interface *stack.Interface // likewise
	// DHCP keeps the lease; nil without --dhcp.
	DHCP  *dhcp.Runner
	Lease dhcp.Lease // the first
	// DHCP6 does so by DHCPv6; nil where nobody asked for that.
	DHCP6 *dhcp6.Runner
	// Notes are lines for the user about what is not as it might be.
	Notes []string

	started time.Time
	capture *os.File
	leases  []string    // lines about the lease
	running atomic.Bool // news of the lease are for the user
	unwatch func()      // ends watchLink; nil: it is not there
}

// Open attaches a stack as the options say and returns when its addresses may
// be used. Mistakes in the options are UsageErrors; other errors say in one
// line what failed and what would help.
func (o *Options) Open(ctx context.Context) (_ *Host, err error) {
	h := &Host{started: time.Now()}
	p, err := o.check()
	if err != nil {
		return nil, err
	}
	if p.kind == kindHost {
		h.Net = &kernel.Network{}
		return h, nil
	}
	dev, err := patiently(ctx, p.open)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			h.Close()
			dev.Close() // which the stack does, once it has it
		}
	}()
	if dev, err = p.decorate(dev); err != nil {
		return nil, err
	}
	if caps := dev.Caps(); o.MTU > caps.MTU {
		return nil, Usagef("--mtu %d: %s carries at most %d bytes", o.MTU, p.name, caps.MTU)
	}
	if dev, err = h.tee(dev, o, p.interfaceName()); err != nil {
		return nil, err
	}
	watch, err := traceTCP(o.TCPTrace, os.Stdout)
	if err != nil {
		return nil, err
	}
	p.tcp.Trace, p.tcp.TraceSegments = watch, true
	ipv6, _ := o.hostSettings() // check has said what is wrong
	h.Stack = stack.New(stack.Config{Seed: o.Seed, Limits: stack.Limits{Memory: p.memory, NeighbourQueue: o.NeighbourQueue}, TCP: p.tcp, IPv6: ipv6})
	h.Stack.SetRouterSharing(o.Sharing)
	network := socket.Net(h.Stack)
	network.SetDNS(p.dns...)
	network.SetHosts(hostsFile)
	h.Net = network
	mac := p.mac
	if mac.IsZero() {
		mac = dev.Addr()
	}
	if mac.IsZero() {
		mac = stableMAC(p.name)
	}
	nic := stack.InterfaceConfig{Name: p.interfaceName(), Device: dev, MAC: mac, MTU: o.MTU, NoDAD: o.NoDAD, ACD: o.ACD, SLAAC: o.SLAAC || p.dhcp6.on, RouteLocalnet: o.Localnet, ARP: p.arp, VerifyND: o.VerifyND}
	_ = o.identifiers(&nic)
	_ = o.interfaceSettings(&nic)
	if h.Interface, err = h.Stack.AddInterface(nic); err != nil {
		return nil, fmt.Errorf("attach to %s: %w", p.name, err)
	}
	if !h.Stack.Links().Of(h.Interface).Carrier {
		fmt.Fprintf(os.Stderr, "%s: the link is down; nothing is sent until it is up (ip link set %s up)\n", p.name, p.name)
	}
	if o.Localnet {
		lo := h.Stack.Interfaces()[0]
		for _, a := range []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()} {
			if err = lo.DelAddr(a); err != nil {
				return nil, err
			}
		}
	}
	if err = h.configure(ctx, o, p); err != nil {
		return nil, err
	}
	if o.Recorder != nil && o.Pcap != "" {
		servers, _ := h.dnsNow(p.dns)
		o.Recorder.Attached(h.Stack, servers)
	}
	if h.DHCP != nil || h.DHCP6 != nil {
		h.watchLink()
	}
	network.SetDNSSource(func() ([]netip.Addr, []string) { return h.dnsNow(p.dns) })
	return h, nil
}

// open opens the device. A TAP that is missing is not made: without a bridge
// or addresses at its other end it would lead nowhere.
func (p *plan) open() (dev ether.Device, err error) {
	if _, err := net.InterfaceByName(p.name); err != nil {
		if p.kind == "tun" {
			return nil, fmt.Errorf("there is no interface %s (`sudo ip tuntap add %s mode tun user $USER` makes it)", p.name, p.name)
		}
		return nil, fmt.Errorf("there is no interface %s (`sudo make bridge tap` makes %s; `tapstack lab run` needs neither it nor root)", p.name, DefaultTAP)
	}
	if p.kind == "packet" {
		return packet.Open(p.name)
	}
	open := tap.Open
	if p.kind == "tun" {
		open = tun.Open
	}
	return open(tap.Options{Name: p.name, Existing: true, Offload: p.offload, Queues: p.queues, BusyPoll: p.busyPoll,
		Notice: func(err error) { fmt.Fprintln(os.Stderr, err) }})
}

// Recorder chooses the frames of a capture.
type Recorder interface {
	// Choose is a pcap.Chooser.
	Choose(out bool, frame []byte, at time.Time) (comment string, ok bool)
	// Attached is called once the stack's addresses may be used. servers are
	// those that it asks for names.
	Attached(s *stack.Stack, servers []netip.Addr)
}

// tee wraps dev so that what passes is written to a file, if one is named.
func (h *Host) tee(dev ether.Device, o *Options, name string) (_ ether.Device, err error) {
	if o.Pcap == "" {
		return dev, nil
	}
	var choose pcap.Chooser
	if o.Recorder != nil {
		choose = o.Recorder.Choose
	}
	if h.capture, err = os.Create(o.Pcap); err != nil {
		return dev, fmt.Errorf("--pcap: %w", err)
	}
	tee, err := pcap.NewChosen(dev, h.capture, name, choose)
	if err != nil {
		return dev, fmt.Errorf("--pcap: %w", err)
	}
	return tee, nil
}

// configure gives the interface its addresses and routes, from all sources at
// the same time, and waits until they may be used.
func (h *Host) configure(ctx context.Context, o *Options, p *plan) (err error) {
	for _, a := range p.addrs {
		if err := h.Interface.AddAddr(a); err != nil {
			return fmt.Errorf("address %v: %w", a, err)
		}
	}
	for _, gw := range p.gateways {
		r := stack.Route{Dst: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Gateway: gw, Interface: h.Interface, OnLink: true}
		if gw.Is6() {
			r.Dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		if err := h.Stack.AddRoute(r); err != nil {
			return fmt.Errorf("gateway %v: %w", gw, err)
		}
	}
	for _, r := range p.deviceRoutes(h.Interface) {
		if err := h.Stack.AddRoute(r); err != nil {
			return fmt.Errorf("--gw dev: %w", err)
		}
	}
	if err := p.addRoutes(h.Stack, h.Interface); err != nil {
		return err
	}
	if o.DHCP {
		if err := h.startDHCP(o, p); err != nil {
			return err
		}
	}
	if p.dhcp6.on {
		if err := h.startDHCP6(o, p); err != nil {
			return err
		}
	}
	if err := h.awaitGiven(ctx, o, p); err != nil {
		return err // it says which address and where
	}
	if p.inform.IsValid() { // from an address that may be used
		if err := h.startDHCP(o, p); err != nil {
			return err
		}
	}
	if h.DHCP != nil {
		if err := h.waitLease(ctx, p); err != nil {
			return err
		}
	}
	if o.SLAAC || p.dhcp6.on {
		if err := h.waitPrefix(ctx, p); err != nil {
			return err
		}
	}
	if p.dhcp6.on {
		return h.waitLease6(ctx, p)
	}
	return nil
}

// waitPrefix waits for the first address made of a router's advertisement. A
// network without a router is no error: one may come.
func (h *Host) waitPrefix(ctx context.Context, p *plan) error {
	limited, cancel := context.WithTimeout(ctx, slaacWait)
	defer cancel()
	_, err := h.Interface.WaitAddr(limited, func(a netip.Prefix) bool {
		return a.Addr().Is6() && !a.Addr().IsLinkLocalUnicast() && !slices.Contains(p.addrs, a)
	})
	switch {
	case err == nil:
		return nil
	case ctx.Err() == nil && limited.Err() != nil:
		h.Notes = append(h.Notes, fmt.Sprintf("no router on %s has advertised a prefix for %v; still listening", p.name, slaacWait))
		return nil
	}
	return fmt.Errorf("SLAAC on %s: %w", p.name, err)
}

// ReadyLine is the line that tells people and scripts that the addresses may
// be used. Its fields are separated by blanks and their values have none.
func (h *Host) ReadyLine(services ...string) string {
	name, mac := kindHost, "none"
	if h.Interface != nil {
		name = h.Interface.Name()
		if !h.Interface.PointToPoint() {
			mac = h.Interface.MAC().String()
		}
	}
	line := fmt.Sprintf("ready interface=%s mac=%s addresses=%s", name, mac, strings.Join(h.addresses(), ","))
	if len(services) > 0 {
		line += " services=" + strings.Join(services, ",")
	}
	return fmt.Sprintf("%s ms=%d", line, time.Since(h.started).Milliseconds())
}

// Counters returns the counters that are not zero, of the stack and of the
// DHCP clients.
func (h *Host) Counters() map[string]uint64 {
	m := make(map[string]uint64)
	if h.Stack != nil {
		m = h.Stack.Counters()
	}
	if h.DHCP != nil {
		maps.Copy(m, h.DHCP.Counters())
	}
	if h.DHCP6 != nil {
		maps.Copy(m, h.DHCP6.Counters())
	}
	return m
}

// Shutdown ends connections in the orderly way and closes the host. Those that
// have not ended with ctx are reset.
func (h *Host) Shutdown(ctx context.Context) error {
	if h.Stack != nil {
		h.Stack.Drain(ctx)
	}
	return h.Close() // which gives the lease back while the stack can still send
}

// Close gives the lease back and closes the host at once, which resets its
// connections.
func (h *Host) Close() error {
	if h.unwatch != nil {
		h.unwatch()
		h.unwatch = nil
	}
	h.running.Store(false) // what comes is the user's own wish
	if h.DHCP != nil {
		h.DHCP.Close()
	}
	if h.DHCP6 != nil {
		h.DHCP6.Close()
	}
	var errs [2]error
	if h.Stack != nil {
		errs[0] = h.Stack.Close()
	}
	if h.capture != nil {
		errs[1] = h.capture.Close()
		h.capture = nil
	}
	return errors.Join(errs[:]...)
}
