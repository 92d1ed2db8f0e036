package tcp

import (
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
	SendWait                         // the caller waits for room and writes the rest
	SendRecord                       // the last byte ends a record: no segment has more (MSG_EOR)
)

// push is what of the user's writing bears on the tail.
type push struct {
	pushed    seq.Num // after the last byte that was written without SendMore
	psh       seq.Num // after the last segment with PSH
	more      bool    // the last write said SendMore, and nothing has happened since
	willWrite bool    // somebody waits for the handshake to write
	pushNow   bool    // what is queued goes, cork or not, until more is written
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
	if flags&SendRecord != 0 {
		c.endRecord()
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
	k := c.cfg.Knobs
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
	n := min(largestFrame, int(c.maxSndWnd)/2)
	return max(n-n%c.mss, c.mss)
}

// pushDue is where PSH is due at the latest.
func (c *Conn) pushDue() seq.Num {
	frame := c.superFrame()
	return c.psh.Add((int(c.maxSndWnd)/2/frame + 1) * frame)
}

// pushFlag returns PSH for text [at, end) in segments of mss bytes, if it is to
// carry it (RFC 9293 §3.9.1.2):
//
//   - it ends what the user wrote so far, or a record;
//   - more than half of the largest window has been sent since the last one,
//     in whole superFrames, so that a receiver that waits for PSH is never left
//     waiting (Linux's forced push);
//   - it is a super-frame: the receiver gathers its segments, and PSH tells it
//     that no more will come for now (Linux).
func (c *Conn) pushFlag(at, end seq.Num, mss int) Flags {
	switch {
	case at == end:
		return 0
	case at.Less(c.pushed) && c.pushed.LessEq(end), c.endsRecord(end), c.pushDue().LessEq(end):
		c.psh = seq.Max(c.psh, end)
		return FlagPSH
	case end.Sub(at) > mss:
		return FlagPSH
	}
	return 0
}
