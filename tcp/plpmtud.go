package tcp

import (
	"fmt"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/seq"
)

// This file owns path MTU discovery by trying (RFC 4821, RFC 8899), for paths
// that drop what is too large without a word: tunnels whose routers may not
// send ICMP, or whose ICMP is filtered. When nothing but time-outs comes back,
// the segments become small. From there probes, single segments that are larger,
// search what the path does carry; that one of them is lost is no congestion.
//
//	      low                  size                 high
//	-------|---------------------|--------------------|------
//	 known to pass           the probe           may pass

// MTUProbing says when to search, as Linux's sysctl tcp_mtu_probing, whose
// number each value has in its comment.
type MTUProbing uint8

// The choices.
const (
	// MTUProbeBlackHole searches once several time-outs in a row suggest that
	// large segments vanish (1).
	//
	// This is our default, where Linux's is off. A host on an overlay network
	// meets paths of less than 1500 bytes all the time, and a connection that
	// hangs after its handshake is the worst that can happen to it; a
	// connection on a good path never gets here.
	MTUProbeBlackHole MTUProbing = iota
	MTUProbeOff                  // never (0)
	MTUProbeAlways               // from the start, beginning with small segments (2)
)

var mtuProbingNames = [...]string{"blackhole", "off", "always"}

// String returns the name that ParseMTUProbing reads.
func (m MTUProbing) String() string {
	if int(m) < len(mtuProbingNames) {
		return mtuProbingNames[m]
	}
	return "unknown"
}

// ParseMTUProbing reads "off", "blackhole" or "always".
func ParseMTUProbing(s string) (MTUProbing, error) {
	for i, n := range mtuProbingNames {
		if s == n {
			return MTUProbing(i), nil
		}
	}
	return 0, fmt.Errorf("%q is none of off, blackhole, always", s)
}

// Linux's defaults; sizes are counted like Config.MSS.
const (
	baseMSS      = 1024             // tcp_base_mss: what practically every path carries
	floorMSS     = 512              // not smaller, as no router is believed either that asks for less
	mtuThreshold = 8                // tcp_probe_threshold: the search ends when so few bytes are left
	mtuInterval  = 10 * time.Minute // tcp_probe_interval: after which the path may have become better

	// blackHoleRetries is how many time-outs in a row make a black hole: R1 of
	// RFC 9293 §3.8.3, Linux's tcp_retries1. See silent.
	blackHoleRetries = 3
	// probeCwnd is how many segments the window has to hold for a probe, so
	// that its loss does not hurt (Linux).
	probeCwnd = 11
)

// mtuSearch is the state of a search; all but few connections have none.
type mtuSearch struct {
	at         mono.Time // when it began anew
	start, end seq.Num   // of the probe that is in flight,
	size       uint16    // if this is not 0
	low, high  uint16
	top        bool // the next probe tries high itself

	probes, failed, holes uint32
}

// startMTUSearch begins a connection that is to search from the start.
func (c *Conn) startMTUSearch(now mono.Time) {
	if c.cfg.MTUProbing == MTUProbeAlways {
		c.searchMTU(now, min(baseMSS, c.largest()))
	}
}

// searchMTU begins a search, or begins it anew, with segments of low.
func (c *Conn) searchMTU(now mono.Time, low int) {
	if c.mtu == nil {
		c.extra().mtu = new(mtuSearch)
	}
	m := c.mtu
	m.at, m.size = now, 0
	m.low, m.high = uint16(min(low, 65535)), uint16(min(c.largest(), 65535))
}

// bound notes that a router has told the size.
func (m *mtuSearch) bound(size int) {
	if m != nil {
		m.high, m.low = uint16(min(int(m.high), size)), uint16(min(int(m.low), size))
	}
}

// silent reports, after a time-out, that nothing has been heard for so long that
// the size of the segments may be the reason: for three time-outs, or as long as
// three of the shortest take. Linux goes by time alone (retransmits_timed_out),
// counted from the first retransmission. One that comes late, as after a SYN was
// lost (RFC 6298 §5.7: 3 s), or on a long path, would double into half a minute
// before the third.
//
// One time-out alone says little where text has arrived before: then it takes
// two. But a first window of which not a byte arrives, nor anything that tells of
// one, is what a black hole looks like.
func (c *Conn) silent() bool {
	if c.retries >= blackHoleRetries {
		return true
	}
	if c.retries < 2 && c.sndUna != c.iss+1 {
		return false
	}
	least, base := c.cfg.MinRTO, c.rtt.base(c.cfg.MinRTO, c.cfg.InitialRTO)
	return base<<c.retries-base >= least<<blackHoleRetries-least
}

// blackHole looks, after a time-out, whether it is the size of the segments
// that keeps them from arriving (RFC 4821 §7.7, RFC 2923 §2.1), and makes them
// smaller: baseMSS, then half of it.
func (c *Conn) blackHole(now mono.Time) {
	if c.cfg.MTUProbing == MTUProbeOff || !c.silent() {
		return
	}
	low := baseMSS
	if c.mtu != nil {
		low = max(min(low, int(c.mtu.low)/2), floorMSS)
	}
	// Only what is larger can be stuck because of its size.
	if low -= c.fixedOptions(); min(c.mss, c.snd.Len()) <= low {
		return
	}
	c.searchMTU(now, low+c.fixedOptions())
	// It may as well be that the whole path was down: then what was right
	// before is right again, and one probe tells.
	c.mtu.top = true
	c.mtu.holes++
	c.syncMSS()
	// The time-outs so far were about segments that could not arrive, and tell
	// nothing of how busy the path is: if the first small one is lost as well the
	// next does not wait for all the time that they had doubled to. Departs from
	// RFC 6298 §5.5, which knows no other reason for silence; the size becomes
	// smaller twice at most, so that this is as far as it goes.
	c.rtt.backoffs = 0
}

// probeSize returns how much text a probe is to have that is to be sent now, 0
// for no probe (RFC 4821 §7.4). room is what the congestion window leaves. So
// much has to follow it that its loss is noticed by what arrives. Where room is
// all that is missing, and something is in flight that will make some, it is -1:
// nothing is to be sent until then (Linux). Each ACK lets out a segment or two
// and no more, so that small ones would leave no place for a large one, ever.
func (c *Conn) probeSize(now mono.Time, mss, room, window, pipe int) int {
	m := c.mtu
	switch {
	case m.size != 0, c.phase != phaseOpen, c.reducing(), c.againDue(), c.probe.due, c.sendingUrgent(), c.cfg.Knobs.cork:
		return 0
	case mss < c.mss: // options or a small window take their part; wait
		return 0
	case m.high < m.low+mtuThreshold:
		if now.Sub(m.at) < mtuInterval {
			return 0
		}
		// RFC 4821 §7.4, RFC 8899 §5.1.1: try larger ones again, as the path
		// may have changed.
		c.searchMTU(now, c.mss+c.fixedOptions())
		m.top = true
		if m.high < m.low+mtuThreshold {
			return 0
		}
	}
	size, cwnd, follow := (int(m.low)+int(m.high))/2, probeCwnd*mss, dupThresh+1
	if m.top {
		// Rather early: if all was well and only the path was down, small
		// segments are a waste, and on a path that loses a lot there might
		// never be a better time.
		size, cwnd = int(m.high), 0
		if c.sackOK {
			follow = 1 // what RFC 8985 needs
		}
	}
	n := size - c.fixedOptions()
	if n <= 0 {
		return 0
	}
	need := n + follow*mss
	switch {
	case c.cwnd() < max(cwnd, need) || c.unsent() < need || window < need:
		return 0
	case room >= n:
		return n
	case pipe > 0:
		return -1
	}
	return 0
}

// outputMTUProbe sends n bytes of new text in one segment.
func (c *Conn) outputMTUProbe(now mono.Time, s *Segment, n int) {
	m := c.mtu
	m.size, m.top = uint16(n+c.fixedOptions()), false
	m.start, m.end = c.sndNxt, c.sndNxt.Add(n)
	m.probes++
	c.payload(now, s, c.sndNxt, n, n, FlagACK|c.pushFlag(c.sndNxt, c.sndNxt.Add(n), n))
	c.markNew(s)
	c.advance(now, n)
}

// mtuProbeAcked notes that sndUna has moved: a probe may have arrived.
func (c *Conn) mtuProbeAcked() {
	if m := c.mtu; m.size != 0 && m.end.LessEq(c.sndUna) {
		m.low, m.size = m.size, 0
		c.count(CountMTUProbesPassed, 1)
		c.syncMSS()
	}
}

// mtuProbeLost reports that what is missing is a probe and nothing else. It was
// too large then; its text is sent again, and the congestion control does not
// hear of it (RFC 4821 §7.5).
func (c *Conn) mtuProbeLost() bool {
	m := c.mtu
	if m == nil || m.size == 0 || m.start != c.sndUna || c.reducing() {
		return false
	}
	if c.sackOK {
		if c.board.lost != m.end.Sub(m.start) {
			return false
		}
	} else {
		c.rexmit, c.rexmitEnd = m.start, m.end
	}
	m.high, m.size = m.size-1, 0
	m.failed++
	c.why = whyMTU
	c.count(CountMTUProbesLost, 1)
	c.rexmitNow = true
	c.kick = true
	return true
}

// mtuInconclusive gives a probe up: something in flight is sent again, so that
// nobody knows any more what arrived.
func (m *mtuSearch) inconclusive() {
	if m != nil {
		m.size = 0
	}
}
