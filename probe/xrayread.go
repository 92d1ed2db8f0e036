package probe

import (
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns what is read from the connections of an x-ray.

// stamps returns the timestamps of a segment.
func stamps(opts []byte) (val, echoed uint32, ok bool) {
	eachOption(opts, func(kind uint8, v []byte) {
		if kind == optStamps && len(v) == 8 && !ok {
			val, echoed, ok = binary.BigEndian.Uint32(v), binary.BigEndian.Uint32(v[4:]), true
		}
	})
	return val, echoed, ok
}

// roles returns the connections of some roles that a SYN-ACK was seen of.
func (x *xray) roles(list ...xrayRole) (found []*xrayConn) {
	for _, c := range x.conns {
		if slices.Contains(list, c.role) && c.synAck != nil {
			found = append(found, c)
		}
	}
	return found
}

func (x *xray) read() XRayResult {
	r := XRayResult{Verdict: XRayFiltered, Target: netip.AddrPortFrom(x.q.Dst.Unmap(), x.q.DstPort), Windows: []XRayWindow{}, Conns: []XRayConn{}, Err: x.err}
	if x.err != nil {
		r.ErrorText = x.err.Error()
	}
	if len(x.conns) == 0 {
		r.Diagnosis = r.diagnose()
		return r
	}
	r.Source, r.LinkMTU, r.PathMTU = x.route.Src(), x.route.LinkMTU(), x.route.MTU()
	for _, c := range x.conns {
		if len(c.segs) > 0 {
			r.Conns = append(r.Conns, c.told())
		}
	}
	first := x.conns[0]
	r.SYNs = len(first.syns)
	answer := first.synAck
	switch {
	case answer != nil:
		r.Verdict, r.Answered, r.RTT = XRayOpen, first.answers, first.rtt()
	case first.refused != nil:
		answer = first.refused
		r.Verdict, r.Answered = XRayClosed, r.SYNs
		r.RTT = answer.at.Sub(first.syns[r.SYNs-1])
	case x.refusal.From.IsValid():
		r.Verdict, r.ICMP = XRayRejected, &x.refusal
		if !x.refusal.ICMP {
			r.Verdict = XRayNoNeighbour
		}
	}
	if answer != nil {
		r.Hops = x.hops(answer)
	}
	if r.Verdict == XRayOpen {
		x.readOpen(&r)
	}
	r.Diagnosis = r.diagnose()
	return r
}

func (c *xrayConn) told() XRayConn {
	y := XRayConn{Purpose: roleNames[c.role], Port: c.port}
	for _, s := range c.segs {
		t := XRaySegment{At: s.at.Sub(c.segs[0].at), Sent: s.sent, Flags: flagNames(s.flags), Seq: s.seq, Ack: s.ack, Length: s.length, Window: s.window, Options: optionNames(s.opts)}
		if !s.sent {
			t.TTL, t.IPID, t.ECN = int(s.ttl), int(s.ipid), int(s.ecn)
		}
		y.Segments = append(y.Segments, t)
	}
	return y
}

// hops guesses from the TTL of an answer.
func (x *xray) hops(s *xraySeg) XRayHops {
	h := XRayHops{TTL: int(s.ttl), Initial: 255}
	for _, n := range []int{32, 64, 128} {
		if h.TTL <= n {
			h.Initial = n
			break
		}
	}
	h.Hops = h.Initial - h.TTL
	for _, c := range x.conns {
		for _, s := range c.segs {
			if t := int(s.ttl); !s.sent && t != h.TTL && !slices.Contains(h.OtherTTLs, t) {
				h.OtherTTLs = append(h.OtherTTLs, t)
			}
		}
	}
	return h
}

func (x *xray) readOpen(r *XRayResult) {
	first := x.conns[0]
	r.SynAck = readSynAck(first.synAck)
	samples := x.roles(roleFirst, roleSample)
	again := append(x.roles(roleFirst), x.roles(roleAgain)...)
	isn := func(s *xraySeg) uint32 { return s.seq }
	r.ISN, r.PortISN = numbers(samples, isn, 32), numbers(again, isn, 32)
	if x.route.Dst().Is4() {
		r.IPID = numbers(samples, func(s *xraySeg) uint32 { return uint32(s.ipid) }, 16)
	}
	r.Stamps = x.readStamps(samples)
	for _, c := range x.conns {
		if c.role == roleStray && len(c.segs) > 0 {
			r.Stray = &XRayStray{Reset: c.refused != nil}
			if c.refused != nil {
				r.Stray.TTL = int(c.refused.ttl)
			}
		}
		if c.synAck == nil {
			continue
		}
		switch c.role {
		case roleSilent:
			r.Repeats = &XRayRepeats{Watched: min(x.out.Now().Sub(c.start), x.q.Watch), After: []time.Duration{}, Reset: c.refused != nil}
			for _, t := range c.synAcks[1:] {
				r.Repeats.After = append(r.Repeats.After, t.Sub(c.synAcks[0]))
			}
		case rolePlain:
			eachOption(c.synAck.opts, func(kind uint8, _ []byte) {
				if kind > optMSS {
					r.SynAck.Unasked = optionNames(c.synAck.opts)
				}
			})
		case roleECN:
			r.ecn().Classic = c.synAck.flags&(flagEce|flagCwr) == flagEce
		case roleAccECN:
			r.ecn().AccECN = accECN(c.synAck.flags)
		case roleFastOpen:
			r.FastOpen = &XRayFastOpen{}
			eachOption(c.synAck.opts, func(kind uint8, v []byte) {
				if kind == optFastOpen {
					r.FastOpen.Cookie = len(v)
				}
			})
		case roleIW, roleSmallIW:
			if len(c.flight) > 0 || c.refused != nil {
				r.Windows = append(r.Windows, c.window())
			}
			if r.Close == nil {
				r.Close = new(XRayClose)
			}
			if r.Close.Greeting == "" && len(x.q.Send) == 0 {
				r.Close.Greeting = text(c.greeting)
			}
		case roleClose:
			greeting := ""
			if r.Close != nil {
				greeting = r.Close.Greeting
			}
			r.Close = c.closing()
			if r.Close.Greeting == "" {
				r.Close.Greeting = greeting
			}
		}
	}
}

func (r *XRayResult) ecn() *XRayECN {
	if r.ECN == nil {
		r.ECN = new(XRayECN)
	}
	return r.ECN
}

// accECN reads the flags of a SYN-ACK by RFC 9768 §3.1.2, table 2.
func accECN(flags uint16) string {
	switch flags & (flagAE | flagCwr | flagEce) {
	case 0:
		return "no"
	case flagEce:
		return "classic"
	case flagAE | flagEce:
		return "nonce"
	case flagAE | flagCwr | flagEce:
		return "reflected"
	}
	return "accecn"
}

func readSynAck(s *xraySeg) *XRaySynAck {
	a := &XRaySynAck{Options: optionNames(s.opts), WindowScale: -1, Window: s.window, DF: s.df, ECN: int(s.ecn)}
	if a.Options == nil {
		a.Options = []string{}
	}
	var order []byte
	eachOption(s.opts, func(kind uint8, v []byte) {
		order = append(order, kind)
		switch {
		case kind == optMSS && len(v) == 2:
			a.MSS = int(binary.BigEndian.Uint16(v))
		case kind == optScale && len(v) == 1:
			a.WindowScale = int(v[0])
		case kind == optSACK:
			a.SACK = true
		case kind == optStamps:
			a.Timestamps = true
		}
	})
	switch strings.TrimRight(string(order), "\x00") {
	case "\x02\x04\x08\x01\x03", "\x02\x01\x01\x04\x01\x03":
		a.Order = "linux"
	case "\x02\x01\x03\x04\x08", "\x02\x01\x03\x01\x01\x08\x04":
		a.Order = "bsd"
	case "\x02\x01\x03\x04\x01\x01\x08", "\x02\x01\x03\x01\x01\x04", "\x02\x01\x03\x01\x01\x08\x01\x01\x04":
		a.Order = "windows"
	}
	return a
}

// numbers says how a number of bits goes on over connections in the order of
// their SYN-ACKs.
func numbers(list []*xrayConn, value func(*xraySeg) uint32, bits int) *XRayNumbers {
	if len(list) == 0 {
		return nil
	}
	n := &XRayNumbers{}
	var at []mono.Time
	for _, c := range list {
		n.Values = append(n.Values, value(c.synAck))
		at = append(at, c.synAck.at)
	}
	if len(list) < 3 {
		return n // too few to say
	}
	mask := uint32(1<<bits - 1)
	same, even, rising, clock := true, true, true, true
	low, high := math.Inf(1), 0.0
	step := (n.Values[1] - n.Values[0]) & mask
	var sum float64
	for i := 1; i < len(n.Values); i++ {
		d := (n.Values[i] - n.Values[i-1]) & mask
		same = same && d == 0
		even = even && d == step
		rising = rising && d > 0 && d < mask>>6
		dt := at[i].Sub(at[i-1]).Seconds()
		if clock = clock && d != 0 && d < mask>>1 && dt > 0; clock {
			low, high = min(low, float64(d)/dt), max(high, float64(d)/dt)
		}
		sum += float64(d)
	}
	switch {
	case same && n.Values[0] == 0:
		n.Kind = NumbersZero
	case same:
		n.Kind = NumbersConstant
	case even && step < mask>>1:
		n.Kind, n.Step = NumbersStep, int64(step)
	case clock && high < 1.5*low:
		n.Kind, n.Rate = NumbersClock, sum/at[len(at)-1].Sub(at[0]).Seconds()
	case rising:
		n.Kind = NumbersRising
	default:
		n.Kind = NumbersRandom
	}
	return n
}

// rates are those that clocks of timestamps have (RFC 7323 §5.4: 1 Hz to 1 kHz;
// some are faster).
var rates = []float64{1, 2, 10, 64, 100, 128, 250, 256, 500, 512, 1000, 1024, 10000, 1e6}

// nearRate returns the one that was measured over a time. A SYN-ACK that a busy
// machine held up for some 40 ms makes the more of a difference the shorter that
// was; then the first of the list is meant, as 1000 and not 1024.
func nearRate(hz float64, over time.Duration) float64 {
	for _, r := range rates {
		if math.Abs(hz-r) < r*min(0.012+0.04/over.Seconds(), 0.06) {
			return r
		}
	}
	return math.Round(hz*10) / 10
}

// maxUptime is 200 years in nanoseconds, which a time.Duration can hold.
const maxUptime = 200 * 365 * 24 * 3600 * 1e9

// readStamps finds the clock: its rate from one connection, whose SYN-ACKs come
// again, and whether other connections go by it.
func (x *xray) readStamps(samples []*xrayConn) *XRayStamps {
	s := &XRayStamps{}
	type point struct {
		at  mono.Time
		val uint32
	}
	var all []point
	for _, c := range samples {
		if val, _, ok := stamps(c.synAck.opts); ok {
			all = append(all, point{c.synAck.at, val})
			s.Values = append(s.Values, val)
		}
	}
	if len(all) < 2 {
		return nil
	}
	rate := func(a, b point) float64 {
		if dt := b.at.Sub(a.at).Seconds(); dt > 0 {
			return float64(int32(b.val-a.val)) / dt
		}
		return 0
	}
	// The silent connection's are of one clock for sure.
	var one []point
	for _, c := range x.roles(roleSilent) {
		for _, g := range c.segs {
			if val, _, ok := stamps(g.opts); ok && !g.sent {
				one = append(one, point{g.at, val})
			}
		}
	}
	fits := func(hz float64) bool {
		for _, p := range all[1:] {
			want := hz * p.at.Sub(all[0].at).Seconds()
			// A tick, what the way there and back may differ by, and for how long a
			// busy machine holds a packet up. Of clocks that begin at random one in
			// millions comes so near.
			if math.Abs(float64(int32(p.val-all[0].val))-want) > 2+hz*(0.25+x.conns[0].rtt().Seconds())+want*0.05 {
				return false
			}
		}
		return true
	}
	last := all[len(all)-1]
	hz := 0.0
	if len(one) > 1 {
		a, b := one[0], one[len(one)-1]
		hz = rate(a, b)
		s.Hz = nearRate(hz, b.at.Sub(a.at))
	} else if over := last.at.Sub(all[0].at); over >= time.Second {
		hz = rate(all[0], last)
		s.Hz = nearRate(hz, over)
	}
	switch {
	case !slices.ContainsFunc(all, func(p point) bool { return p.val != all[0].val }):
		s.Kind, s.Hz = StampsConstant, 0
	case hz > 0 && fits(hz):
		s.Kind = StampsOneClock
		if up := float64(last.val) / s.Hz * 1e9; up < maxUptime { // and not of a clock that all but stands still
			s.Up = time.Duration(up)
		}
	default:
		s.Kind = StampsConnection
		if len(one) < 2 {
			s.Hz = 0
		}
	}
	return s
}

// window reads a flight.
func (c *xrayConn) window() XRayWindow {
	w := XRayWindow{MSS: c.mss(), Segment: c.unit, Segments: c.segments, Bytes: c.flown, Limited: c.more && !c.fin, Ended: c.fin, Refused: c.refused != nil}
	if c.first != 0 {
		w.Took = c.latest.Sub(c.first)
		asked := c.synAck.at
		for _, s := range c.segs {
			if s.sent && s.length > 0 && s.at < c.first {
				asked = s.at
			}
		}
		w.Answer = c.first.Sub(asked)
	}
	if c.again != 0 {
		w.Repeat = c.again.Sub(c.latest)
	}
	return w
}

func (c *xrayConn) closing() *XRayClose {
	y := &XRayClose{Greeting: text(c.greeting), Reset: c.refused != nil}
	if c.finAcked != 0 {
		y.Acked = c.finAcked.Sub(c.finSent)
	}
	if c.finAt != 0 {
		if y.First = c.finSent == 0 || c.finAt < c.finSent; !y.First {
			y.Ended = c.finAt.Sub(c.finSent)
		}
	}
	return y
}

// text is the first line of what a peer says.
func text(b []byte) string {
	line, _, _ := strings.Cut(strings.ToValidUTF8(string(b), "\ufffd"), "\n")
	return strings.Map(func(r rune) rune {
		if r != '\t' && !unicode.IsPrint(r) { // C1 controls steer terminals, too
			return '\ufffd'
		}
		return r
	}, strings.TrimRight(line, "\r"))
}
