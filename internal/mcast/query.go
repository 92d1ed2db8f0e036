package mcast

import (
	"net/netip"
	"slices"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns the answers to queries (RFC 3376 §5.2, RFC 3810 §6.2): when
// they are given, and what they say.

// maxAsked is how many sources of a group can be asked about at once; more are
// answered as if all had been.
const maxAsked = 64

// Query takes a query in, which is answered later.
func (m *Machine) Query(now mono.Time, q *Query) {
	if m.Silent {
		return
	}
	m.Expire(now)
	if q.Version == 2 && m.Family == MLD && m.Force == 3 {
		return // as Linux with force_mld_version=2
	}
	m.heardQuerier(now, q)
	delay, general := q.MaxDelay, q.General()
	if m.version == 1 && q.Version == 3 {
		// The querier of version 1 understands no other delay; as Linux does.
		delay, general = responseIntervalV1, true
	}
	switch {
	case !general:
		if g := m.byAddr[q.Group]; g != nil && m.version == 3 {
			m.querySpecific(g, now.Add(m.random(delay)), q)
		} else if g != nil {
			m.queryOld(now, g, delay)
		}
	case m.version != 3:
		// RFC 2236 §3, RFC 2710 §4: a delay of its own for each group.
		for _, g := range m.groups {
			m.queryOld(now, g, delay)
		}
	default:
		// Rule 2; rule 1 is the same when the pending answer is sooner.
		m.generalAt = mono.Earliest(m.generalAt, now.Add(m.random(delay)))
	}
	m.updateDeadline()
}

// querySpecific schedules at t the answer to a query about one group.
func (m *Machine) querySpecific(g *group, t mono.Time, q *Query) {
	if !g.member || !g.reported {
		return
	}
	// Rule 1: a pending answer about all groups that is sooner says it too.
	if m.generalAt != 0 && m.generalAt <= t {
		return
	}
	switch {
	case len(q.Sources) == 0, q.SourcesCut, g.queryAt != 0 && len(g.asked) == 0:
		// Rules 3 and 4: about the whole group, which includes every source.
		g.asked = nil
	case len(g.asked)+len(q.Sources) > maxAsked:
		// Rule 5, but what does not fit is answered by the whole group.
		g.asked = nil
	default:
		// Rules 3 and 5: the sources asked about add up.
		for _, s := range q.Sources {
			if !slices.Contains(g.asked, s) {
				g.asked = append(g.asked, s)
			}
		}
	}
	g.queryAt = mono.Earliest(g.queryAt, t)
}

// answer sends the current-state records that are due, or in the older versions
// the reports.
func (m *Machine) answer(now mono.Time) {
	general := m.generalAt.Due(now)
	if general {
		m.generalAt = 0
	}
	var records []Record
	for _, g := range m.groups {
		specific := g.queryAt.Due(now)
		if !g.reported || !g.member || !general && !specific {
			continue
		}
		if m.version != 3 {
			m.reportOld(now, g)
			continue
		}
		if specific && !general && len(g.asked) > 0 {
			if heard := g.heardOf(g.asked); len(heard) > 0 {
				records = append(records, Record{Type: ModeIsInclude, Group: g.addr, Sources: heard})
			}
		} else {
			f := g.filter()
			r := Record{Type: ModeIsInclude, Group: g.addr, Sources: f.Sources}
			if f.Exclude {
				r.Type = ModeIsExclude
			}
			records = append(records, r)
		}
		if specific {
			g.queryAt, g.asked = 0, nil
		}
	}
	m.send(records)
}

// heardOf returns those of some sources that are heard: what is listed of them
// in mode INCLUDE, what is not in mode EXCLUDE. Without any there is no answer.
func (g *group) heardOf(asked []netip.Addr) (heard []netip.Addr) {
	f := g.filter()
	for _, a := range asked {
		if f.Passes(a) {
			heard = append(heard, a)
		}
	}
	return heard
}

// heardQuerier takes in what a query says of its querier: the variables, and the
// version that everybody on the link has to speak.
func (m *Machine) heardQuerier(now mono.Time, q *Query) {
	// RFC 3376 §8.12, RFC 3810 §9.12.
	present := min(time.Duration(m.robustness)*m.queryInterval+q.MaxDelay, maxOlderPresent)
	switch q.Version {
	case 1:
		m.v1Until = now.Add(present)
	case 2:
		m.v2Until = now.Add(present)
	default:
		// RFC 3376 §4.1.6, §4.1.7, RFC 3810 §5.1.8, §5.1.9: the querier's
		// variables are everyone's, zero means the defaults.
		m.robustness, m.queryInterval = defaultRobustness, defaultQueryInterval
		if q.QRV != 0 {
			m.robustness = int(q.QRV)
		}
		if q.QQI != 0 {
			m.queryInterval = q.QQI
		}
	}
	m.setVersion()
}
