package mcast

import (
	"net/netip"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns the state-change reports of version 3 (RFC 3376 §5.1, RFC 3810
// §6.1): each change goes out at once and robustness-1 times more, after random
// delays, with whatever else is to be repeated then. And it owns how records
// become reports that fit the link.

// sendChanges sends what is new of some groups. What is pending of others keeps
// its time.
func (m *Machine) sendChanges(now mono.Time, list ...*group) {
	var records []Record
	again := false
	for _, g := range list {
		records = g.appendChanges(records)
		again = again || g.pending()
	}
	m.send(records)
	if again && m.changeAt == 0 {
		m.changeAt = now.Add(m.random(unsolicitedInterval))
	}
}

// repeat sends the changes that are due once more.
func (m *Machine) repeat(now mono.Time) {
	if !m.changeAt.Due(now) {
		return
	}
	m.changeAt = 0
	m.sendChanges(now, m.groups...)
	m.forgetLeft()
}

// appendChanges appends the records about g that are to be sent, and counts them
// as sent. Departs from RFC 3376 §5.1 in their order as Linux does: what names
// sources of the list comes before what names those that went from it.
func (g *group) appendChanges(records []Record) []Record {
	if g.modeLeft > 0 {
		g.modeLeft--
		r := Record{Type: ChangeToInclude, Group: g.addr, Sources: g.filter().Sources}
		if g.exclude {
			r.Type = ChangeToExclude
		}
		return append(records, r)
	}
	var list, gone []netip.Addr
	for i := range g.sources {
		s := &g.sources[i]
		switch {
		case s.left == 0:
			continue
		case s.listed:
			list = append(list, s.addr)
		default:
			gone = append(gone, s.addr)
		}
		s.left--
	}
	g.forgetSources()
	in, out := uint8(AllowNewSources), uint8(BlockOldSources)
	if g.exclude {
		in, out = out, in // what an EXCLUDE list names is not heard
	}
	if len(list) > 0 {
		records = append(records, Record{Type: in, Group: g.addr, Sources: list})
	}
	if len(gone) > 0 {
		records = append(records, Record{Type: out, Group: g.addr, Sources: gone})
	}
	return records
}

// send gives records to the host in reports that fit. A record that is too long
// for one of its own goes out in parts, or, where it lists who is not heard,
// without what does not fit: parts of such would contradict each other
// (RFC 3376 §4.2.16, RFC 3810 §5.2.15).
func (m *Machine) send(records []Record) {
	var out []Record
	size := reportLen
	flush := func() {
		if len(out) > 0 {
			m.Host.SendReport(out)
		}
		out, size = nil, reportLen
	}
	for _, r := range records {
		if size+m.Family.recordLen(r) > m.MaxReport {
			flush()
		}
		for most := m.Family.fits(m.MaxReport); len(r.Sources) > most; {
			part := r
			part.Sources = r.Sources[:most]
			if r.Type == ModeIsExclude || r.Type == ChangeToExclude {
				r = part
				break
			}
			out = append(out, part)
			flush()
			r.Sources = r.Sources[most:]
		}
		out = append(out, r)
		size += m.Family.recordLen(r)
	}
	flush()
}
