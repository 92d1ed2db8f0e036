package mcast

import (
	"net/netip"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns the older versions, which know no sources: a report for each
// group, silence when another member has just reported it, and a leave from the
// one who reported last (RFC 1112 appendix I, RFC 2236, RFC 2710). A host
// speaks the lowest version whose queriers it hears (RFC 3376 §7.2.1, RFC 3810
// §8.2.1).

// compatible is the version to speak: the group compatibility mode.
func (m *Machine) compatible() int {
	v := 3
	if m.Force != 0 {
		v = m.Force
	}
	if m.v2Until != 0 {
		v = min(v, 2)
	}
	if m.v1Until != 0 {
		v = min(v, 1)
	}
	return v
}

// setVersion follows the queriers. RFC 3376 §7.2.1, RFC 3810 §8.2.1: a change
// cancels all pending answers and repetitions.
func (m *Machine) setVersion() {
	v := m.compatible()
	if v == m.version {
		return
	}
	m.version = v
	m.generalAt, m.changeAt = 0, 0
	for _, g := range m.groups {
		g.settle()
		g.queryAt, g.asked, g.unsolicited = 0, nil, 0
	}
	m.forgetLeft()
}

// joinOld reports a group that was joined, at once and robustness-1 times more
// (RFC 2236 §3, RFC 2710 §4).
func (m *Machine) joinOld(now mono.Time, g *group) {
	g.unsolicited = uint8(m.robustness)
	m.reportOld(now, g)
}

// reportOld reports a group, and has it reported again if that is to be.
func (m *Machine) reportOld(now mono.Time, g *group) {
	m.Host.SendOld(m.version, false, g.addr)
	g.lastReporter, g.queryAt = true, 0
	if g.unsolicited > 0 {
		g.unsolicited--
	}
	if g.unsolicited > 0 {
		g.queryAt = now.Add(m.random(unsolicitedIntervalOld))
	}
}

// leaveOld says that a group was left, if nobody else has reported it since we
// did. There is no such message in version 1.
func (m *Machine) leaveOld(g *group) {
	if m.version == 2 && g.lastReporter {
		m.Host.SendOld(m.version, true, g.addr)
	}
	g.lastReporter, g.unsolicited = false, 0
}

// queryOld schedules the report of a group. RFC 2236 §3, RFC 2710 §4: one that
// is pending is only moved when it would come too late.
func (m *Machine) queryOld(now mono.Time, g *group, most time.Duration) {
	if !g.member || !g.reported || g.queryAt != 0 && g.queryAt <= now.Add(most) {
		return
	}
	g.queryAt = now.Add(m.random(most))
}

// Heard takes in another member's report of version 1 or 2. Departs from RFC
// 2236 §6 and RFC 2710 §5 as Linux does: it was the last reporter also when no
// report of ours was pending.
func (m *Machine) Heard(addr netip.Addr) {
	g := m.byAddr[addr]
	if g == nil || m.version == 3 {
		return // RFC 3376 §7.2.2, RFC 3810 §8.2.2: in version 3 nothing is suppressed
	}
	g.queryAt, g.unsolicited, g.lastReporter = 0, 0, false
	m.updateDeadline()
}
