package attach

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/stack"
)

// This file owns what is said about ARP, and about whose word about a neighbour
// is believed. Numbers are those of Linux's settings of the same names.

// ARPOptions are the flags.
type ARPOptions struct {
	ARPAccept   int    // --arp-accept: 0 to 2
	ARPIgnore   int    // --arp-ignore: 0 to 3, 8
	ARPAnnounce int    // --arp-announce: 0 to 2
	ARPFilter   bool   // --arp-filter
	ARPLocktime string // --arp-locktime: "" is verify
	VerifyND    bool   // --nd-verify
}

func (o *Options) registerARP(f flagMaker) {
	f.number(&o.ARPAccept, "arp-accept", "learn unknown neighbours from ARP packets that nobody asked for: `N` 0 (no), 1 (yes) or 2 (those of the own subnets), as Linux's arp_accept")
	f.number(&o.ARPIgnore, "arp-ignore", "answer ARP questions for `N` 0 (any own address), 1 (those of this interface), 2 (and only to its subnet), 3 (not those of loopback) or 8 (none), as Linux's arp_ignore")
	f.number(&o.ARPAnnounce, "arp-announce", "ask by ARP from `N` 0 (the packet's source), 1 (that, if the neighbour's subnet has it) or 2 (the best address for the neighbour), as Linux's arp_announce")
	f.truth(&o.ARPFilter, "arp-filter", "answer ARP questions only where the route back leaves, as Linux's arp_filter")
	f.text(&o.ARPLocktime, "arp-locktime", "believe that a known IPv4 neighbour has another MAC address `WHEN` it does not answer at the old one (verify), or its entry is unchanged for so long (as 1s, Linux's locktime; default verify)")
	f.truth(&o.VerifyND, "nd-verify", "do as --arp-locktime verify for IPv6 neighbours, where RFC 4861 believes the last word")
}

const locktimeVerify = "verify"

func (o *Options) checkARP(p *plan) error {
	c := stack.ARPConfig{Accept: o.ARPAccept, Ignore: o.ARPIgnore, Announce: o.ARPAnnounce, Filter: o.ARPFilter}
	switch o.ARPLocktime {
	case "", locktimeVerify:
	default:
		d, err := time.ParseDuration(o.ARPLocktime)
		if err != nil || d < 0 {
			return fmt.Errorf("--arp-locktime %q: want verify or a time, as 1s or 0s", o.ARPLocktime)
		}
		if c.Locktime = d; d == 0 {
			c.Locktime = stack.LocktimeNone
		}
	}
	if err := c.Check(); err != nil {
		// The number of the error says nothing to who typed a flag.
		return errors.New("--" + strings.TrimSuffix(err.Error(), ": "+syscall.EINVAL.Error()))
	}
	for _, name := range []string{"arp-accept", "arp-ignore", "arp-announce", "arp-filter", "arp-locktime", "nd-verify"} {
		if p.kind == "tun" && o.given(name) {
			return fmt.Errorf("--%s: a TUN has no Ethernet, and so no neighbours", name)
		}
	}
	p.arp = c
	return nil
}
