package tcp

import (
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/seq"
)

// This file owns how large a segment may be: what the two ends announce, what
// the path carries according to routers (RFC 1191, RFC 8201), and what the
// options leave of it.
//
//	mss = min(peerMSS, pathMSS, what the search of plpmtud.go found)
//	      - timestamps, IP options (below.go)    setMSS: Conn.mss
//	      - SACK blocks, AccECN                  segmentSize: this segment's
//	      or half of the peer's largest window
//
// MSS options and path MTUs count no options (RFC 6691, RFC 9293 §3.7.1), so
// that all that is sent comes off here.

const (
	// defaultPeerMSS is assumed of a peer that names none (RFC 9293 §3.7.1,
	// MUST-15), over IPv6 defaultPeerMSS6.
	defaultPeerMSS  = 536
	defaultPeerMSS6 = 1220
	// minMSS is the smallest payload we cut our data into, whatever the peer
	// asks for; Linux's tcp_min_snd_mss. A smaller one is an attack on us.
	minMSS = 48

	// The least path MTUs believed: Linux's min_pmtu, and the least any IPv6
	// link has (RFC 8200 §5). A smaller one only makes us send more headers.
	minPathMTU4 = 552
	minPathMTU6 = 1280
)

// setPeerMSS takes the peer's announcement.
func (c *Conn) setPeerMSS(o *Options) {
	c.peerMSS = defaultPeerMSS
	if c.ipHeader == 40 {
		c.peerMSS = defaultPeerMSS6
	}
	if o.MSS != 0 {
		c.peerMSS = int32(o.MSS)
	}
	if m := int32(c.cfg.Knobs.maxSeg); m != 0 {
		c.peerMSS = min(c.peerMSS, m) // TCP_MAXSEG holds for both directions
	}
}

// largest is the largest segment that ends and routers allow, counted like
// Config.MSS.
func (c *Conn) largest() int { return max(int(min(c.peerMSS, c.pathMSS)), minMSS) }

// setMSS computes the largest payload of a segment with the options that all
// of them have.
func (c *Conn) setMSS() {
	m := c.largest()
	if c.mtu != nil {
		m = max(min(m, int(c.mtu.low)), minMSS)
	}
	below := c.belowLen()
	// Headers that leave no room make packets that do not fit, as on Linux.
	c.mss = max(m-below, minMSS) + below - c.fixedOptions()
}

// fixedOptions is the length of the options that every segment has, and of what
// every packet has below them.
func (c *Conn) fixedOptions() int {
	n := c.belowLen()
	if c.tsOK {
		n += tsOptionLen
	}
	return n
}

// syncMSS is setMSS for a connection that is open: the congestion control
// counts in segments.
func (c *Conn) syncMSS() {
	old := c.mss
	if c.setMSS(); c.mss != old {
		c.cc.SetMSS(c.mss)
	}
}

// segmentSize is how much text fits a segment now: what putFeedback writes
// travels in the same header.
//
// A segment takes no more than half of the largest window that the peer ever
// offered (Linux's tcp_bound_to_half_wnd): where a window holds less than two
// segments the peer, who acknowledges every second, would be waited for each
// time. Windows of less than a default segment are beyond help.
func (c *Conn) segmentSize() int {
	n := c.mss
	if c.uto.due {
		n -= lenUserTimeout
	}
	blocks, fields := c.optionSpace()
	if blocks > 0 {
		n -= 4 + lenSACKBlock*blocks
	}
	if fields >= 0 {
		n -= accECNLen(fields)
	}
	if half := int(c.maxSndWnd) / 2; half < n && c.maxSndWnd > defaultPeerMSS {
		n = half
	}
	return n
}

// pathSize turns the MTU of a path into a segment size, counted like
// Config.MSS.
func (c *Conn) pathSize(mtu int) int {
	header, floor := int(c.ipHeader), minPathMTU4
	switch header {
	case 0:
		header = 40
	case 40:
		floor = minPathMTU6
	}
	return max(mtu, floor) - header - 20
}

// TooBig says that a router could not pass on the segment that began at at:
// the path carries IP packets of mtu bytes (RFC 1191, RFC 8201). Messages that
// quote nothing in flight, or that do not make the segments smaller, are
// ignored. What was in flight is sent again in smaller pieces, which is not a
// sign of congestion (RFC 1191 §6.4).
func (c *Conn) TooBig(now mono.Time, at seq.Num, mtu int) {
	if c.state == Closed || !c.InWindow(at) {
		return
	}
	path := c.pathSize(mtu)
	if path >= int(c.pathMSS) {
		return
	}
	c.wake()
	c.pathMSS = int32(path)
	c.mtu.bound(path)
	if c.state == SynSent && c.fo != nil && c.fo.inSyn > 0 {
		c.synDue = true // again at once, without the text that made it too big
	}
	if !c.state.Synchronized() {
		return // the SYN is small; its options take the new size when it is answered
	}
	old := c.mss
	c.syncMSS()
	if c.mss < old && c.sndUna != c.sndNxt && c.state != TimeWait {
		c.resendAll()
	}
}

// SetPathMTU says what the path carries by now: more, when what routers said is
// too old to be believed (RFC 1191 §6.3, RFC 8201 §5.2), or less, when they told
// somebody else. Only what is sent from now on follows it (Linux's
// tcp_sync_mss). Without change it costs nothing.
func (c *Conn) SetPathMTU(mtu int) {
	if c.state == Closed || c.state == TimeWait {
		return
	}
	path := c.pathSize(mtu)
	if path == int(c.pathMSS) {
		return
	}
	c.pathMSS = int32(path)
	c.mtu.bound(path)
	if c.state.Synchronized() {
		c.syncMSS()
	}
}
