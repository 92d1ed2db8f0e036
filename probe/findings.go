package probe

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/tapstack/tapstack/internal/csum"
)

// This file owns what a trace says beyond its figures: where packets are changed
// and by what, who is in a loop, whose loss is none, and how long the ways back
// are. All of it is read from the result, so that it may be asked for at any time.

// FindingKind is what was found at a hop.
type FindingKind uint8

// The findings.
const (
	// FindNAT: a checksum is not that of the packet that was sent, though all
	// else that it is of is: addresses or ports were translated, and the quote was
	// translated back.
	FindNAT        FindingKind = iota
	FindDSCP                   // the DS field was changed (bleached, if to 0)
	FindECN                    // the ECN bits were changed, other than to CE: that is a mark
	FindCongestion             // the ECN bits say that a queue was full (RFC 3168 §5)
	FindMSS                    // the MSS of a SYN was lowered, raised or taken out
	FindOptions                // other options of a SYN were changed
	FindDF                     // the bit that forbids fragments was changed
	FindRewritten              // another field: Change says which
	FindLimited                // the hop limits its errors: its loss is not that of the path
	FindAsymmetric             // the way back has another length than the way there, as far as it can be guessed
	numFindings
)

var findingNames = [numFindings]string{"nat", "dscp", "ecn", "congestion", "mss", "options", "df", "rewritten", "limited", "asymmetric"}

// String returns the name, as "nat".
func (k FindingKind) String() string {
	if k < numFindings {
		return findingNames[k]
	}
	return "unknown"
}

// Finding is something found at a hop, the first that shows it.
type Finding struct {
	TTL int
	// After is the TTL of the last hop before it that quoted a packet, which did
	// not show it: whoever is to blame is between the two. 0: there is none.
	After  int
	Kind   FindingKind
	Addr   netip.Addr // who shows it
	Change Change     // of kinds that are changes
	// Back is of FindAsymmetric: the guessed number of hops back. Through is of
	// FindLimited: the per cent of the probes that the hop lost at most.
	Back    int
	Through float64
}

// String says it in a few words.
func (f Finding) String() string {
	switch f.Kind {
	case FindNAT:
		return "address translation"
	case FindDSCP:
		if f.Change.Quoted>>2 == 0 {
			return fmt.Sprintf("DSCP bleached from %d", f.Change.Sent>>2)
		}
		return fmt.Sprintf("DSCP changed from %d to %d", f.Change.Sent>>2, f.Change.Quoted>>2)
	case FindECN:
		return fmt.Sprintf("ECN changed from %s to %s", ecnName(f.Change.Sent), ecnName(f.Change.Quoted))
	case FindCongestion:
		return "ECN marked: congestion"
	case FindMSS:
		if f.Change.Quoted == 0 {
			return fmt.Sprintf("MSS %d taken out", f.Change.Sent)
		}
		return fmt.Sprintf("MSS clamped from %d to %d", f.Change.Sent, f.Change.Quoted)
	case FindOptions:
		return "TCP options changed"
	case FindDF:
		if f.Change.Quoted == 0 {
			return "DF cleared"
		}
		return "DF set"
	case FindLimited:
		return fmt.Sprintf("limits its errors: at most %.1f%% are lost there", f.Through)
	case FindAsymmetric:
		return fmt.Sprintf("the way back is %d hops", f.Back)
	}
	return f.Change.String()
}

func ecnName(tos uint32) string { return [...]string{"Not-ECT", "ECT(1)", "ECT(0)", "CE"}[tos&3] }

// Through returns the per cent of the probes to hop i that the hop, or what comes
// before it, can have lost on their way at most: no hop that is farther may lose
// less. What Loss has beyond that are answers that were not sent.
func (r *TraceResult) Through(i int) float64 {
	least := 100.0
	for _, h := range r.Hops[i:] {
		if len(h.Hosts) > 0 {
			least = min(least, h.Loss())
		}
	}
	return least
}

// limitedBy is how many answers have to be missing at a hop, beyond what is
// missing behind it, before chance is not the reason.
const limitedBy = 3

// limited reports whether hop i answers less often than packets pass it.
func (r *TraceResult) limited(i int) bool {
	h := &r.Hops[i]
	if h.Received == 0 || i == len(r.Hops)-1 {
		return false
	}
	n := float64(h.Sent - h.Pending)
	return (h.Loss()-r.Through(i))*n/100 >= limitedBy-0.001
}

// Loop returns the routers that packets go round, as 10.1.0.2, 10.1.0.3, 10.1.0.2;
// nil when there is no loop.
func (r *TraceResult) Loop() []netip.Addr {
	if r.End != EndLoop {
		return nil
	}
	seen := make(map[netip.Addr]int)
	var way []netip.Addr
	for i := range r.Hops {
		x, _ := r.Hops[i].Most()
		way = append(way, x.Addr)
		if at, ok := seen[x.Addr]; ok && x.Addr.IsValid() && i-at > 1 {
			return way[at:]
		}
		seen[x.Addr] = i
	}
	return nil
}

// Findings returns what was found, in the order of the hops.
func (r *TraceResult) Findings() (list []Finding) {
	seen := make(map[string]bool) // changes that were told
	quoted := 0                   // the last hop that quoted something
	back := 0                     // by how much the way back was longer at the hop before
	for i := range r.Hops {
		h := &r.Hops[i]
		if r.limited(i) {
			x, _ := h.Most()
			list = append(list, Finding{TTL: h.TTL, Kind: FindLimited, Addr: x.Addr, Through: r.Through(i)})
		}
		for k := range h.Hosts {
			x := &h.Hosts[k]
			for _, f := range changes(x) {
				id := f.Kind.String() + f.Change.Field
				if !seen[id] {
					seen[id] = true
					f.TTL, f.After = h.TTL, quoted
					list = append(list, f)
				}
			}
		}
		for _, x := range h.Hosts {
			if x.Quoted > 0 {
				quoted = h.TTL
			}
		}
		if x, ok := h.Most(); ok && x.Back() > 0 {
			if d := x.Back() - h.TTL; d != back {
				back = d
				if d != 0 {
					list = append(list, Finding{TTL: h.TTL, Kind: FindAsymmetric, Addr: x.Addr, Back: x.Back()})
				}
			}
		}
	}
	return list
}

// changes are the findings in what a host quotes.
func changes(x *Host) (list []Finding) {
	add := func(k FindingKind, c Change) { list = append(list, Finding{Kind: k, Addr: x.Addr, Change: c}) }
	var sum, clamp Change
	inner := false // something else that the checksum is of
	for _, c := range x.Changes {
		switch {
		case c.Field == "tos":
			if c.Sent>>2 != c.Quoted>>2 {
				add(FindDSCP, c)
			}
			switch {
			case c.Sent&3 == c.Quoted&3:
			case c.Quoted&3 == 3 && c.Sent&3 != 0:
				add(FindCongestion, c)
			default:
				add(FindECN, c)
			}
		case c.Field == "tcp-mss":
			clamp = c
			inner = inner || c.Quoted == 0
			add(FindMSS, c)
		case c.Field == "tcp-options":
			inner = true
			add(FindOptions, c)
		case c.Field == "df":
			add(FindDF, c)
		case strings.HasSuffix(c.Field, "-checksum"):
			sum = c
		case c.Field == "ip-id" || c.Field == "flow-label":
			add(FindRewritten, c)
		default:
			inner = true
			add(FindRewritten, c)
		}
	}
	// RFC 1624: what a checksum becomes when an MSS of the segment is changed.
	explained := ^csum.Add(^uint16(sum.Sent), csum.Add(^uint16(clamp.Sent), uint16(clamp.Quoted)))
	if sum.Field != "" && !inner && (clamp.Field == "" || explained != uint16(sum.Quoted)) {
		add(FindNAT, sum)
	}
	return list
}
