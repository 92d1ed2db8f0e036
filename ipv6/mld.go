package ipv6

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns the listener's side of multicast listener discovery: which
// groups an interface listens to and what it tells the routers about them
// (RFC 3810 §6). All listening is to any source, that is filter mode EXCLUDE
// with an empty source list. On a link with an MLDv1 querier the host speaks
// MLDv1 (§8.2).

// Variables of RFC 3810 §9, and of RFC 2710 §7 for version 1.
const (
	defaultRobustness      = 2
	defaultQueryInterval   = 125 * time.Second
	unsolicitedInterval    = 1 * time.Second
	unsolicitedIntervalOld = 10 * time.Second
)

// MLDHost sends what the listener has to say. Its methods are called from
// inside Join, Leave, Announce and Expire and must not call the core.
type MLDHost interface {
	// SendReport sends an MLDv2 report, see AppendMLDReport. It fits the
	// smallest MTU; records are valid during the call.
	SendReport(records []MLDRecord)
	// SendV1 sends MLDv1Report or MLDv1Done, see AppendMLDv1.
	SendV1(typ uint8, group netip.Addr)
}

// MLD is the multicast listener of one interface. It is not safe for
// concurrent use. The number of groups is bounded by those who join.
type MLD struct {
	host MLDHost
	rnd  *rand.Rand

	groups []*mldGroup // in the order of joining, so that reports are too
	byAddr map[netip.Addr]*mldGroup

	robustness    int
	queryInterval time.Duration
	v1Until       mono.Time // an MLDv1 querier is present, 0: none
	generalAt     mono.Time // pending answer to a general query, 0: none
	changeAt      mono.Time // next repetition of state changes, 0: none
	deadlineAt    mono.Time
	records       []MLDRecord // scratch
}

type mldGroup struct {
	addr netip.Addr
	refs int // 0: left, and only waiting for changesLeft
	// reported is false of the groups that MLD is silent about.
	reported bool

	change      uint8 // type of the record about the latest change
	changesLeft int   // times it is still to be sent

	queryAt mono.Time // pending answer to a query about this group, 0: none
	// sources are those asked about; none: the group as a whole.
	sources []netip.Addr
}

// NewMLD returns a listener without groups.
func NewMLD(host MLDHost, rnd *rand.Rand) *MLD {
	return &MLD{
		host: host, rnd: rnd, byAddr: make(map[netip.Addr]*mldGroup),
		robustness: defaultRobustness, queryInterval: defaultQueryInterval,
	}
}

// Joined reports whether anyone listens to g.
func (m *MLD) Joined(g netip.Addr) bool {
	e := m.byAddr[g]
	return e != nil && e.refs > 0
}

// Deadline returns when Expire wants to be called next, 0 for never.
func (m *MLD) Deadline() mono.Time { return m.deadlineAt }

// Join adds a listener of g and reports whether it is the first. Each Join
// needs its Leave.
func (m *MLD) Join(now mono.Time, g netip.Addr) (first bool) {
	e := m.byAddr[g]
	if e == nil {
		e = &mldGroup{addr: g, reported: isReported(g)}
		m.groups = append(m.groups, e)
		m.byAddr[g] = e
	}
	e.refs++
	if e.refs > 1 {
		return false
	}
	m.changed(now, e, ChangeToExclude)
	m.updateDeadline()
	return true
}

// Leave takes one listener of g away and reports whether it was the last.
// Leaving a group that nobody joined does nothing.
func (m *MLD) Leave(now mono.Time, g netip.Addr) (last bool) {
	e := m.byAddr[g]
	if e == nil || e.refs == 0 {
		return false
	}
	e.refs--
	if e.refs > 0 {
		return false
	}
	e.queryAt, e.sources = 0, nil
	m.changed(now, e, ChangeToInclude)
	m.forgetLeft()
	m.updateDeadline()
	return true
}

// Announce reports all groups as if they were joined now: for when the
// interface has its first valid link-local address, because routers ignore
// reports from the unspecified one (RFC 3590 §4).
func (m *MLD) Announce(now mono.Time) {
	for _, e := range m.groups {
		if e.refs > 0 {
			m.changed(now, e, ChangeToExclude)
		}
	}
	m.updateDeadline()
}

// isReported says whether MLD speaks about g at all. RFC 3810 §6: not about
// all nodes on the link, nor about the scopes reserved (0) and interface (1).
func isReported(g netip.Addr) bool {
	return g.IsMulticast() && g.As16()[1]&0x0f > 1 && g != AllNodes
}

// changed reports that e was joined or left: at once, and robustness-1 times
// more (RFC 3810 §6.1). A newer change of the same group replaces the older.
func (m *MLD) changed(now mono.Time, e *mldGroup, record uint8) {
	if !e.reported {
		return
	}
	e.change, e.changesLeft = record, m.robustness
	m.records = m.sendChange(m.records[:0], e)
	m.send(m.records)
	if e.changesLeft > 0 && m.changeAt == 0 {
		m.changeAt = now.Add(m.changeDelay())
	}
}

// sendChange sends e's change, or in MLDv2 appends it to records.
func (m *MLD) sendChange(records []MLDRecord, e *mldGroup) []MLDRecord {
	e.changesLeft--
	if m.v1Until == 0 {
		return append(records, MLDRecord{Type: e.change, Group: e.addr})
	}
	if e.change == ChangeToExclude {
		m.host.SendV1(MLDv1Report, e.addr)
	} else {
		m.host.SendV1(MLDv1Done, e.addr)
		e.changesLeft = 0 // RFC 2710 §4: a single done
	}
	return records
}

func (m *MLD) changeDelay() time.Duration {
	if m.v1Until != 0 {
		return m.random(unsolicitedIntervalOld)
	}
	return m.random(unsolicitedInterval)
}

// random returns a delay above 0 and up to most.
func (m *MLD) random(most time.Duration) time.Duration {
	return 1 + time.Duration(m.rnd.Int64N(int64(max(most, 1))))
}

// send gives records to the host in reports that fit the smallest MTU.
func (m *MLD) send(records []MLDRecord) {
	for len(records) > 0 {
		n, size := 0, mldReportLen
		for n < len(records) && size+records[n].size() <= maxReportLen {
			size += records[n].size()
			n++
		}
		m.host.SendReport(records[:n])
		records = records[n:]
	}
}

// Query schedules the answers to a query (RFC 3810 §6.2).
func (m *MLD) Query(now mono.Time, q MLDQuery) {
	m.Expire(now)
	if q.V1 {
		// RFC 3810 §8.2.1, §9.12. Changing the version cancels what is
		// pending in the other.
		if m.v1Until == 0 {
			m.cancel()
		}
		m.v1Until = now.Add(time.Duration(m.robustness)*m.queryInterval + q.MaxDelay)
	} else {
		// RFC 3810 §9.1, §9.2: the querier's variables are everyone's.
		m.robustness, m.queryInterval = defaultRobustness, defaultQueryInterval
		if q.QRV != 0 {
			m.robustness = int(q.QRV)
		}
		if q.QQI != 0 {
			m.queryInterval = q.QQI
		}
	}
	switch {
	case !q.Group.IsUnspecified():
		if e := m.byAddr[q.Group]; e != nil {
			m.querySpecific(e, now.Add(m.random(q.MaxDelay)), &q)
		}
	case m.v1Until != 0:
		// RFC 2710 §4: a delay of its own for each group.
		for _, e := range m.groups {
			m.querySpecific(e, now.Add(m.random(q.MaxDelay)), &q)
		}
	default:
		// Rule 2; rule 1 is the same when the pending answer is sooner.
		m.generalAt = mono.Earliest(m.generalAt, now.Add(m.random(q.MaxDelay)))
	}
	m.updateDeadline()
}

// querySpecific schedules at t the answer to a query about one group.
func (m *MLD) querySpecific(e *mldGroup, t mono.Time, q *MLDQuery) {
	if e.refs == 0 || !e.reported {
		return
	}
	// Rule 1: a pending answer about all groups that is sooner says it too.
	if m.generalAt != 0 && m.generalAt <= t {
		return
	}
	whole := len(q.Sources) == 0 || q.SourcesCut
	switch {
	case whole, e.queryAt != 0 && len(e.sources) == 0:
		// Rules 3 and 4: about the whole group, which includes every source.
		e.sources = nil
	case len(e.sources)+len(q.Sources) > maxQuerySources:
		// Rule 5, but what does not fit is answered by the whole group.
		e.sources = nil
	default:
		// Rules 3 and 5: the sources asked about add up.
		for _, s := range q.Sources {
			if !slices.Contains(e.sources, s) {
				e.sources = append(e.sources, s)
			}
		}
	}
	e.queryAt = mono.Earliest(e.queryAt, t)
}

// Expire sends what is due at now.
func (m *MLD) Expire(now mono.Time) {
	if !m.deadlineAt.Due(now) {
		return
	}
	if m.v1Until.Due(now) {
		m.cancel()
		m.v1Until = 0
	}
	m.sendAnswers(now)
	if m.changeAt.Due(now) {
		m.changeAt = 0
		records := m.records[:0]
		again := false
		for _, e := range m.groups {
			if e.changesLeft > 0 {
				records = m.sendChange(records, e)
				again = again || e.changesLeft > 0
			}
		}
		m.records = records
		m.send(records)
		if again {
			m.changeAt = now.Add(m.changeDelay())
		}
		m.forgetLeft()
	}
	m.updateDeadline()
}

// sendAnswers sends the current-state records that are due (RFC 3810 §6.2).
func (m *MLD) sendAnswers(now mono.Time) {
	records := m.records[:0]
	general := m.generalAt.Due(now)
	if general {
		m.generalAt = 0
	}
	for _, e := range m.groups {
		specific := e.queryAt.Due(now)
		if !e.reported || e.refs == 0 || !general && !specific {
			continue
		}
		switch {
		case m.v1Until != 0:
			m.host.SendV1(MLDv1Report, e.addr)
		case !general && len(e.sources) > 0:
			// All sources are listened to, thus each that was asked about.
			records = append(records, MLDRecord{Type: ModeIsInclude, Group: e.addr, Sources: e.sources})
		default:
			records = append(records, MLDRecord{Type: ModeIsExclude, Group: e.addr})
		}
		if specific {
			e.queryAt, e.sources = 0, nil
		}
	}
	m.records = records
	m.send(records)
}

// cancel drops all that is pending (RFC 3810 §8.2.1).
func (m *MLD) cancel() {
	m.generalAt, m.changeAt = 0, 0
	for _, e := range m.groups {
		e.changesLeft, e.queryAt, e.sources = 0, 0, nil
	}
	m.forgetLeft()
}

// forgetLeft drops the groups that were left and have nothing more to say.
func (m *MLD) forgetLeft() {
	m.groups = slices.DeleteFunc(m.groups, func(e *mldGroup) bool {
		gone := e.refs == 0 && e.changesLeft <= 0
		if gone {
			delete(m.byAddr, e.addr)
		}
		return gone
	})
}

func (m *MLD) updateDeadline() {
	d := mono.Earliest(mono.Earliest(m.generalAt, m.changeAt), m.v1Until)
	for _, e := range m.groups {
		d = mono.Earliest(d, e.queryAt)
	}
	m.deadlineAt = d
}
