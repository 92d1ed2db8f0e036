package tcp

import (
	"time"

	"github.com/tapstack/tapstack/internal/seq"
)

// This file owns the tail of what the user wrote, the part that does not fill a
// segment: whether it goes now or waits for more (Nagle, TCP_CORK, MSG_MORE),
// and which segments carry PSH to say that the writer has paused.

// SendFlags say how Send is to treat its bytes.
type SendFlags uint8

// The flags.
const (
	SendMore   SendFlags = 1 << iota // more follows at once: no small segment yet (MSG_MORE)
	SendUrgent                       // the last byte is urgent (MSG_OOB)
)

// push is what of the user's writing bears on the tail.
type push struct {
	pushed  seq.Num // after the last byte that was written without SendMore
	psh     seq.Num // after the last segment with PSH
	more    bool    // the last write said SendMore, and nothing has happened since
	pushNow bool    // what is queued goes, cork or not, until more is written
}

// wrote notes that the user has written up to the end of the ring.
func (c *Conn) wrote(flags SendFlags) {
	end := c.dataEnd()
	c.more = flags&SendMore != 0
	if !c.more {
		c.pushed = end
	}
	if flags&SendUrgent != 0 {
		c.urg.sndUp = end
	}
	c.pushNow = false
}

// mayTail reports whether a segment may leave that is not full, with nothing
// more to fill it.
//
// By Nagle's algorithm in Minshall's variant, as Linux has it: unless a small
// segment is already in flight (RFC 9293 §3.7.4). Urgent data and a tail loss
// probe do not wait.
// With a cork in, nothing small goes; persist sees to it that the cork comes
// out after one RTO, 200 ms or more. MSG_MORE is a cork until the peer is heard:
// what the ACK of earlier text sets free goes with it (Linux).
func (c *Conn) mayTail() bool {
	k := &c.cfg.Knobs
	switch {
	case c.pushNow || c.sendingUrgent() || c.probe.due || c.hold:
		return true
	case k.cork || c.more:
		return false
	}
	return k.noDelay || !c.sndUna.Less(c.sndSml)
}

// superFrame is the most text Linux would have in one of its send buffers: what
// a device takes at once, or half the peer's window if that is less, in whole
// segments.
func (c *Conn) superFrame() int {
	n := min(largestFrame, c.maxSndWnd/2)
	return max(n-n%c.mss, c.mss)
}

// frameSize is how much text in segments of mss bytes a super-frame holds at
// most: what leaves in about a millisecond at the speed that the window and the
// round trip allow, at least two segments, so that nobody's queue has to take a
// whole window at once; more the nearer the peer is, without a bound within half
// a millisecond (Linux's tcp_tso_autosize).
func (c *Conn) frameSize(mss int) int {
	srtt := int64(c.rtt.srtt / time.Microsecond)
	if srtt == 0 {
		return maxFrame
	}
	cwnd, ssthresh := c.cwnd(), c.cc.Ssthresh()
	ratio := int64(120) // per cent, as Linux paces
	if cwnd < ssthresh/2 {
		ratio = 200
	}
	n := int64(cwnd) * ratio * 10000 / srtt >> 10
	if r := uint(c.rack.minRTT/time.Microsecond) >> 9; r < 16 {
		n += maxFrame >> r
	}
	return int(max(n/int64(mss), 2)) * mss
}

// maxFrame is the longest super-frame.
const maxFrame = 65536

// pushDue is where PSH is due at the latest.
func (c *Conn) pushDue() seq.Num {
	frame := c.superFrame()
	return c.psh.Add((c.maxSndWnd/2/frame + 1) * frame)
}

<<<<<<< HEAD
// untilPush shortens n bytes of new text in segments of mss bytes to those up
// to where PSH is due, so that the segments are the same whether a device cuts
// them or we do.
func (c *Conn) untilPush(n, mss int) int {
	if due := c.pushDue().Sub(c.sndNxt); 0 < due && due < n {
		return min(n, (due+mss-1)/mss*mss)
	}
	return n
}

// pushFlag returns PSH for text [at, end) in segments of mss bytes, if it is to
// carry it (RFC 9293 §3.9.1.2):
=======
// pushFlag returns PSH for a segment of new text, [at, end), that is to carry
// it (RFC 9293 §3.9.1.2):
>>>>>>> user
//
//   - it ends what the user wrote so far;
//   - more than half of the largest window has been sent since the last one,
//     in whole superFrames, so that a receiver that waits for PSH is never left
//     waiting (Linux's forced push);
//   - it is a super-frame: the receiver gathers its segments, and PSH tells it
//     that no more will come for now (Linux).
func (c *Conn) pushFlag(at, end seq.Num, mss int) Flags {
	if at == end {
		return 0
	}
	if at.Less(c.pushed) && c.pushed.LessEq(end) || c.pushDue().LessEq(end) {
		c.psh = seq.Max(c.psh, end)
		return FlagPSH
	}
	if end.Sub(at) > mss {
		return FlagPSH
	}
	return 0
}
