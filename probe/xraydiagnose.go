package probe

import (
	"fmt"
	"strings"
	"time"
)

// This file owns the sentences of an x-ray: what somebody who knows TCP would say
// on seeing its result, the remarkable first.

func (r *XRayResult) diagnose() string {
	var s []string
	say := func(format string, a ...any) { s = append(s, fmt.Sprintf(format, a...)) }
	switch r.Verdict {
	case XRayOpen:
		way := "on the same link"
		if r.Hops.Hops > 0 {
			way = fmt.Sprintf("%d hops away", r.Hops.Hops)
		}
		say("Open, %s, %v there and back.", way, short(r.RTT))
	case XRayClosed:
		say("Closed: it answers with a reset, after %v.", short(r.RTT))
	case XRayRejected:
		say("Rejected by %v with ICMP type %d code %d.", r.ICMP.From, r.ICMP.Type, r.ICMP.Code)
	case XRayNoNeighbour:
		say("The next hop does not answer: nothing left this host.")
	case XRayFiltered:
		if r.Err != nil {
			return fmt.Sprintf("Nothing is known: %v.", r.Err)
		}
		say("Filtered, or nobody is there: %d SYNs had no answer.", r.SYNs)
	}
	if r.Answered > 1 {
		say("SYN %d of %d was the first with an answer: packets are lost, or the queue of connections is full.", r.Answered, r.SYNs)
	}
	if r.SynAck != nil {
		r.diagnoseOpen(say)
	}
	return strings.Join(s, " ")
}

func (r *XRayResult) diagnoseOpen(say func(string, ...any)) {
	a := r.SynAck
	// What is wrong.
	if n := r.ISN; n != nil && n.Kind != NumbersRandom && n.Kind != "" {
		say("Its sequence numbers can be guessed (%s), against RFC 6528.", n.Says())
	} else if n := r.PortISN; n != nil && n.Kind == NumbersConstant {
		say("Connections from one port have the same sequence number each time, against RFC 6528.")
	}
	if len(r.Hops.OtherTTLs) > 0 {
		say("Its answers have different TTLs (%d and %v): somebody answers in its place, or there are several ways.", r.Hops.TTL, r.Hops.OtherTTLs)
	}
	if r.ECN != nil && r.ECN.AccECN == "reflected" {
		say("It sends a SYN's reserved flags back, against RFC 9768.")
	}
	if len(a.Unasked) > 0 {
		say("It answers a SYN without options with %s.", strings.Join(a.Unasked, ", "))
	}
	header := 40
	if r.Target.Addr().Is6() {
		header = 60
	}
	switch want := r.LinkMTU - header; {
	case a.MSS == 0:
		say("It announces no MSS, so that %d bytes hold.", map[int]int{40: 536, 60: 1220}[header])
	case a.MSS < want:
		say("Its MSS of %d is for packets of %d bytes where this link carries %d: a tunnel on the way, or somebody who clamps it.", a.MSS, a.MSS+header, r.LinkMTU)
	}
	var lacks []string
	for _, o := range []struct {
		there bool
		name  string
	}{{a.SACK, "SACK"}, {a.Timestamps, "timestamps"}, {a.WindowScale >= 0, "window scale"}} {
		if !o.there {
			lacks = append(lacks, o.name)
		}
	}
	if len(lacks) > 0 {
		say("It does without %s.", strings.Join(lacks, ", "))
	}
	if a.WindowScale < 0 && r.RTT > 0 {
		say("Without window scale it takes at most %s at this distance.", perSecond(float64(a.Window)/r.RTT.Seconds()))
	}
	if r.Stray != nil && !r.Stray.Reset {
		say("An ACK of no connection has no answer: a firewall that keeps states stands before it.")
	}
	// What is.
	if who := map[string]string{"linux": "Linux", "bsd": "BSD or macOS", "windows": "Windows"}[a.Order]; who != "" {
		say("Its options stand as those of %s.", who)
	}
	r.diagnoseWindow(say)
	if t := r.Stamps; t != nil {
		switch t.Kind {
		case StampsOneClock:
			say("One clock of %g Hz makes all timestamps: if it began with 0 the host has been up for %v.", t.Hz, t.Up.Round(time.Second))
		case StampsConstant:
			say("Its timestamps stand still.")
		case StampsConnection:
			say("Each connection's timestamps begin elsewhere, which hides how long it has been up.")
		}
	}
	if r.ECN != nil {
		switch {
		case r.ECN.AccECN == "accecn":
			say("It has AccECN.")
		case r.ECN.Classic:
			say("It has ECN.")
		default:
			say("It has no ECN.")
		}
	}
	if r.FastOpen != nil && r.FastOpen.Cookie > 0 {
		say("It has Fast Open.")
	}
	if p := r.Repeats; p != nil {
		switch {
		case len(p.After) > 0:
			say("A SYN-ACK without an answer comes again after %s.", durations(p.After))
		case p.Watched >= 2*time.Second:
			say("A SYN-ACK without an answer does not come again within %v: SYN cookies, or somebody in front.", short(p.Watched))
		}
	}
}

// diagnoseWindow tells the initial window: what a full flight shows, or what a
// short answer shows at least. Of two the larger counts, as senders may hold
// the last segments of a window back for larger bursts.
func (r *XRayResult) diagnoseWindow(say func(string, ...any)) {
	var best *XRayWindow
	for i := range r.Windows {
		w := &r.Windows[i]
		if w.Segments > 0 && !w.Refused && (best == nil || w.Limited && !best.Limited || w.Limited == best.Limited && w.Segments > best.Segments) {
			best = w
		}
		if w.MSS > 500 && w.Limited && w.Segment < w.MSS {
			say("Its segments have %d bytes although %d were announced: something lowers the MSS on the way, or its own lines carry less.", w.Segment, w.MSS)
		}
	}
	switch {
	case best == nil:
	case best.Limited:
		say("Its initial window is %d segments of %d bytes.", best.Segments, best.Segment)
	default:
		say("Its answer is too short to fill the initial window: at least %d segments of %d bytes.", best.Segments, best.Segment)
	}
}

// Says tells the numbers in a few words, as "random".
func (n *XRayNumbers) Says() string {
	switch n.Kind {
	case NumbersStep:
		return fmt.Sprintf("%d more each time", n.Step)
	case NumbersClock:
		return fmt.Sprintf("a clock of %.4g Hz", n.Rate)
	case NumbersZero:
		return "always 0"
	case NumbersConstant:
		return "always the same"
	case NumbersRising:
		return "a little more each time"
	case NumbersRandom:
		return "random"
	}
	return "too few to say"
}

// short has as many digits as matter.
func short(d time.Duration) time.Duration {
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond)
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(time.Microsecond)
}

func durations(list []time.Duration) string {
	var s []string
	for _, d := range list {
		s = append(s, short(d).String())
	}
	return strings.Join(s, ", ")
}

func perSecond(bytes float64) string {
	for _, u := range []string{"B/s", "kB/s", "MB/s"} {
		if bytes < 1000 {
			return fmt.Sprintf("%.3g %s", bytes, u)
		}
		bytes /= 1000
	}
	return fmt.Sprintf("%.3g GB/s", bytes)
}
