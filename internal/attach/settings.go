package attach

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/tapstack/tapstack/stack"
)

// This file owns the flags for what a Linux host has in sysctls: how far routers
// are believed, how neighbours and addresses are asked about, what is said to
// routers of groups, and what packets of IPv6 may look like.

// Settings are those of Options. The zero value is what Linux does by default.
type Settings struct {
	NoIPv6        bool          // --no-ipv6: no IPv6, not even a link-local address
	RAMinHopLimit int           // --ra-min-hop-limit: least hop limit taken of routers
	RAMinLifetime time.Duration // --ra-min-lifetime: least lifetime
	NoRedirects   bool          // --redirects=false: take no router's word for another
	RPFilter      string        // --rp-filter: off, strict, loose; "" is off
	NoDADNonce    bool          // --dad-nonce=false: look for duplicates as before RFC 7527
	AnnounceIPv6  bool          // --announce-ipv6: tell routers of addresses (RFC 9131)
	Patience      int           // --neighbour-patience: questions more (RFC 7048); 0: none
	IGMPVersion   int           // --igmp-version: 1 to 3; 0: as queriers speak
	MLDVersion    int           // --mld-version: 1 or 2; 0: likewise
	FlowLabels    string        // --flow-labels: auto, off, reflect, reflect-only; "" is auto
	// Echo6Ignore, --echo6-ignore: pings of IPv6 that are not answered.
	Echo6Ignore []string
	// Headers6, --headers6: limits of extension headers, as hop-options=8.
	Headers6 []string
}

// maxPatience bounds --neighbour-patience. The questions come further and further
// apart, so that even this many take an hour.
const maxPatience = 100

// flagMaker registers flags of each kind as Options.Register does.
type flagMaker struct {
	text   func(p *string, name, usage string)
	list   func(p *[]string, name, usage string)
	number func(p *int, name, usage string)
	truth  func(p *bool, name, usage string)
	not    func(p *bool, name, usage string) // true unless p
}

func (o *Options) registerSettings(fs *pflag.FlagSet, f flagMaker) {
	s := &o.Settings
	f.truth(&s.NoIPv6, "no-ipv6", "speak no IPv6, and have not even a link-local address")
	f.number(&s.RAMinHopLimit, "ra-min-hop-limit", "take no hop limit below `N` of router advertisements, 0 to 255 (default 0: any)")
	fromEnv(o, &s.RAMinLifetime, "ra-min-lifetime", time.ParseDuration)
	fs.DurationVar(&s.RAMinLifetime, "ra-min-lifetime", s.RAMinLifetime, "leave routers, routes and prefixes aside that are advertised for less than `TIME`, as 180s, but for those that end at once")
	f.not(&s.NoRedirects, "redirects", "believe a router that another one is nearer to a destination")
	f.text(&s.RPFilter, "rp-filter", "believe the source of an IPv4 packet only `WHEN` strict (the way back leaves by the same interface) or loose (there is one); off: always (default off)")
	f.not(&s.NoDADNonce, "dad-nonce", "know one's own questions about duplicates when the link sends them back (RFC 7527)")
	f.truth(&s.AnnounceIPv6, "announce-ipv6", "tell routers of each new IPv6 address, so that the first answer to it is not late (RFC 9131)")
	f.number(&s.Patience, "neighbour-patience", "ask a neighbour that has stopped answering up to `N` times more, further and further apart, while packets still go to where it was (RFC 7048; default 0: it is given up)")
	f.number(&s.IGMPVersion, "igmp-version", "tell routers of IPv4 groups in `VERSION` 1, 2 or 3 of IGMP only (default 3, or what they speak)")
	f.number(&s.MLDVersion, "mld-version", "tell routers of IPv6 groups in `VERSION` 1 or 2 of MLD only (default 2, or what they speak)")
	f.text(&s.FlowLabels, "flow-labels", "label the flows of IPv6: `MODE` auto (each its own), off, reflect (auto, but what answers has that of what it answers) or reflect-only (default auto)")
	f.list(&s.Echo6Ignore, "echo6-ignore", "leave `WHICH` pings of IPv6 unanswered: all, or groups for those to multicast")
	f.list(&s.Headers6, "headers6", "bound the options headers of IPv6 packets that are received, as `LIMIT=N`: hop-options and destination-options (options beside padding, default 8; below 0 none that is unknown), hop-length and destination-length (bytes, default any); repeat or separate by commas")
}

// checkSettings checks them before a stack is made.
func (o *Options) checkSettings(p *plan) error {
	if err := o.interfaceSettings(&stack.InterfaceConfig{}); err != nil {
		return err
	}
	if _, err := o.hostSettings(); err != nil {
		return err
	}
	if o.NoIPv6 {
		if slices.ContainsFunc(p.addrs, func(a netip.Prefix) bool { return a.Addr().Is6() }) {
			return errors.New("--no-ipv6: there is an IPv6 address among those of --ip")
		}
		if slices.ContainsFunc(p.gateways, netip.Addr.Is6) {
			return errors.New("--no-ipv6: there is an IPv6 router among those of --gw")
		}
		if o.SLAAC {
			return errors.New("--no-ipv6: --slaac is for addresses of it")
		}
		if p.dhcp6.on {
			return errors.New("--no-ipv6: --dhcp6 is for addresses of it")
		}
	}
	return nil
}

// interfaceSettings sets what an interface is told.
func (o *Options) interfaceSettings(c *stack.InterfaceConfig) error {
	s := &o.Settings
	switch {
	case s.RAMinHopLimit < 0 || s.RAMinHopLimit > 255:
		return fmt.Errorf("--ra-min-hop-limit %d: want 0 to 255", s.RAMinHopLimit)
	case s.RAMinLifetime < 0:
		return fmt.Errorf("--ra-min-lifetime %v: want no less than 0", s.RAMinLifetime)
	case s.Patience < 0 || s.Patience > maxPatience:
		return fmt.Errorf("--neighbour-patience %d: want 0 to %d", s.Patience, maxPatience)
	case s.IGMPVersion < 0 || s.IGMPVersion > 3:
		return fmt.Errorf("--igmp-version %d: want 1, 2 or 3", s.IGMPVersion)
	case s.MLDVersion < 0 || s.MLDVersion > 2:
		return fmt.Errorf("--mld-version %d: want 1 or 2", s.MLDVersion)
	}
	switch s.RPFilter {
	case "", "off":
		c.RPFilter = stack.RPFilterOff
	case "strict":
		c.RPFilter = stack.RPFilterStrict
	case "loose":
		c.RPFilter = stack.RPFilterLoose
	default:
		return fmt.Errorf("--rp-filter %q: is none of off, strict, loose", s.RPFilter)
	}
	c.DisableIPv6, c.NoRedirects, c.NoDADNonce, c.AnnounceIPv6 = s.NoIPv6, s.NoRedirects, s.NoDADNonce, s.AnnounceIPv6
	c.Patience, c.IGMPVersion, c.MLDVersion = s.Patience, s.IGMPVersion, s.MLDVersion
	c.IgnoreRA.MinHopLimit, c.IgnoreRA.MinLifetime = uint8(s.RAMinHopLimit), s.RAMinLifetime
	return nil
}

// reflectAll is for answers of all kinds.
const reflectAll = stack.ReflectConnections | stack.ReflectResets | stack.ReflectEchoes

// hostSettings is what a stack is told of its IPv6.
func (o *Options) hostSettings() (c stack.IPv6Config, err error) {
	switch o.FlowLabels {
	case "", "auto":
	case "off":
		c.NoFlowLabels = true
	case "reflect":
		c.ReflectFlowLabel = reflectAll
	case "reflect-only":
		c.NoFlowLabels, c.ReflectFlowLabel = true, reflectAll
	default:
		return c, fmt.Errorf("--flow-labels %q: is none of auto, off, reflect, reflect-only", o.FlowLabels)
	}
	for _, which := range o.Echo6Ignore {
		switch which {
		case "all":
			c.EchoIgnoreAll = true
		case "groups":
			c.EchoIgnoreMulticast = true
		default:
			return c, fmt.Errorf("--echo6-ignore %q: is neither all nor groups", which)
		}
	}
	for _, text := range o.Headers6 {
		name, value, _ := strings.Cut(text, "=")
		limit, least := &c.Headers.HopOptions, -maxHeaderLimit
		switch name {
		case "hop-options":
		case "destination-options":
			limit = &c.Headers.DestinationOptions
		case "hop-length":
			limit, least = &c.Headers.HopLength, minHeaderLength
		case "destination-length":
			limit, least = &c.Headers.DestinationLength, minHeaderLength
		default:
			return c, fmt.Errorf("--headers6 %q: want hop-options=N, destination-options=N, hop-length=N or destination-length=N", text)
		}
		if *limit, err = strconv.Atoi(value); err != nil || *limit == 0 || *limit < least || *limit > maxHeaderLimit {
			return c, fmt.Errorf("--headers6 %q: want a number from %d to %d other than 0", text, least, maxHeaderLimit)
		}
	}
	return c, nil
}

// Bounds of --headers6: the shortest and the longest options header there can be
// (RFC 8200 §4.3); no more options fit into the latter.
const (
	minHeaderLength = 8
	maxHeaderLimit  = 2048
)
