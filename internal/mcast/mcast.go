// Package mcast is the host's side of group membership: which multicast groups
// an interface receives, from which sources, and what it tells the link's
// routers about that. It is one machine for IGMP (RFC 1112, RFC 2236, RFC 3376)
// and for MLD (RFC 2710, RFC 3810), which is IGMP translated to IPv6: the rules
// are the same, and what differs, the lengths of addresses and a few numbers,
// is in Family and in the messages.
//
// Versions are counted as IGMP counts them: MLDv1 is version 2 and MLDv2 is
// version 3.
package mcast

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns the machine of an interface as a whole: its groups, its
// timers, and who of them acts when.

// Variables of RFC 3376 §8 and RFC 3810 §9, which are the same, and for the
// older versions of RFC 2236 §8 and RFC 2710 §7.
const (
	defaultRobustness      = 2
	defaultQueryInterval   = 125 * time.Second
	unsolicitedInterval    = 1 * time.Second
	unsolicitedIntervalOld = 10 * time.Second
	// responseIntervalV1 is the time that an IGMPv1 query, which does not say,
	// leaves for the answer (RFC 3376 §7.2.1 and RFC 2236 §4).
	responseIntervalV1 = 10 * time.Second
)

// maxOlderPresent bounds how long one query of an older version has everybody
// speak that version. The variables that it is computed from are a querier's, and
// anybody can be one: by their largest values it would be 64 hours. Departs from
// RFC 3376 §8.12, RFC 3810 §9.12 and Linux, where it is that long. A querier that
// asks less than once in an hour is not to be expected.
const maxOlderPresent = time.Hour

// Bounds of what sockets together can make an interface remember.
const (
	MaxGroups  = 1024 // groups of an interface, in each family
	MaxSources = 1024 // sources that are named for one group
)

// Host sends what the machine has to say. Its methods are called from inside
// Listen, Announce, Query and Expire and must not call the machine.
type Host interface {
	// SendReport sends a report of version 3, which fits Config.MaxReport;
	// records are valid during the call.
	SendReport(records []Record)
	// SendOld sends a report, or a leave, of version 1 or 2 about a group.
	SendOld(version int, leave bool, group netip.Addr)
}

// Config is what a machine is made from.
type Config struct {
	Family Family
	Host   Host
	Rand   *rand.Rand
	// MaxReport is the length in bytes of the longest report.
	MaxReport int
	// Force keeps to one version (1 to 3), as Linux's force_igmp_version and
	// force_mld_version: IGMP falls back all the same to a lower one whose
	// queriers are heard, MLD does not. 0: version 3, with that fallback.
	Force int
	// Silent machines keep the filters and never say anything.
	Silent bool
}

// Machine is the membership of one interface in the groups of one family. It is
// not safe for concurrent use.
type Machine struct {
	Config
	groups []*group // in the order of joining, so that reports are too
	byAddr map[netip.Addr]*group

	robustness    int
	queryInterval time.Duration
	version       int       // what we speak: the group compatibility mode
	v1Until       mono.Time // a querier of version 1 is present, 0: none
	v2Until       mono.Time // one of version 2
	generalAt     mono.Time // pending answer to a general query, 0: none
	changeAt      mono.Time // next repetition of state changes, 0: none
	deadlineAt    mono.Time
}

// New returns a machine without groups.
func New(c Config) *Machine {
	m := &Machine{Config: c, byAddr: make(map[netip.Addr]*group), robustness: defaultRobustness, queryInterval: defaultQueryInterval}
	m.version = m.compatible()
	return m
}

// Version returns what the machine speaks: 1 to 3.
func (m *Machine) Version() int { return m.version }

// Deadline returns when Expire wants to be called next, 0 for never.
func (m *Machine) Deadline() mono.Time { return m.deadlineAt }

// Listen changes what one listener, a socket say, wants to hear of a group: from
// old, which is what it said last or the zero Filter, to new, of which the zero
// Filter is to leave. It is IPMulticastListen of RFC 3376 §2 and RFC 3810 §3.
// Errors, with which nothing changes: ENOBUFS above MaxGroups and MaxSources,
// EADDRNOTAVAIL when nobody wants what old says.
func (m *Machine) Listen(now mono.Time, addr netip.Addr, old, new Filter) error {
	g := m.byAddr[addr]
	switch {
	case g == nil && !old.Empty() || g != nil && !g.has(old):
		return syscall.EADDRNOTAVAIL
	case g == nil && new.Empty():
		return nil
	case g == nil && len(m.groups) >= MaxGroups:
		return syscall.ENOBUFS
	case g == nil:
		g = &group{addr: addr, reported: !m.Silent && m.Family.reports(addr)}
	}
	if !g.apply(old, new) {
		return syscall.ENOBUFS
	}
	if m.byAddr[addr] == nil {
		m.byAddr[addr] = g
		m.groups = append(m.groups, g)
	}
	was := g.member
	if changed := g.merge(m.robustness); changed && g.reported {
		switch {
		case m.version == 3:
			m.sendChanges(now, g)
		case g.member && !was:
			m.joinOld(now, g)
		case was && !g.member:
			m.leaveOld(g)
		}
	}
	if !g.reported || m.version != 3 {
		g.settle()
	}
	if !g.member {
		g.queryAt, g.asked = 0, nil // there is nothing to answer
	}
	m.forgetLeft()
	m.updateDeadline()
	return nil
}

// Filter returns from whom the interface takes what is sent to a group: what
// all its listeners want together. ok is false when nobody listens.
func (m *Machine) Filter(addr netip.Addr) (f Filter, ok bool) {
	g := m.byAddr[addr]
	if g == nil || !g.member {
		return f, false
	}
	return g.filter(), true
}

// Announce reports all groups as if they were joined now: for when an interface
// has its first valid link-local address, because routers ignore reports from
// the unspecified one (RFC 3590 §4).
func (m *Machine) Announce(now mono.Time) {
	var list []*group
	for _, g := range m.groups {
		switch {
		case !g.member || !g.reported:
		case m.version != 3:
			m.joinOld(now, g)
		default:
			g.again(m.robustness)
			list = append(list, g)
		}
	}
	m.sendChanges(now, list...)
	m.updateDeadline()
}

// Expire does what is due at now.
func (m *Machine) Expire(now mono.Time) {
	if !m.deadlineAt.Due(now) {
		return
	}
	if m.v1Until.Due(now) {
		m.v1Until = 0
	}
	if m.v2Until.Due(now) {
		m.v2Until = 0
	}
	m.setVersion()
	m.answer(now)
	m.repeat(now)
	m.updateDeadline()
}

// random returns a delay above 0 and up to most.
func (m *Machine) random(most time.Duration) time.Duration {
	return 1 + time.Duration(m.Rand.Int64N(int64(max(most, 1))))
}

// forgetLeft drops the groups that were left and have nothing more to say.
func (m *Machine) forgetLeft() {
	m.groups = slices.DeleteFunc(m.groups, func(g *group) bool {
		gone := !g.member && !g.pending() && len(g.sources) == 0
		if gone {
			delete(m.byAddr, g.addr)
		}
		return gone
	})
}

func (m *Machine) updateDeadline() {
	d := mono.Earliest(mono.Earliest(m.generalAt, m.changeAt), mono.Earliest(m.v1Until, m.v2Until))
	for _, g := range m.groups {
		d = mono.Earliest(d, g.queryAt)
	}
	m.deadlineAt = d
}
