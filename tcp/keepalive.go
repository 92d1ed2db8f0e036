package tcp

import (
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns keep-alives (RFC 9293 §3.8.4, RFC 1122 §4.2.3.6): a
// connection on which nothing has been heard for long asks whether the peer is
// still there. The question is an empty segment whose number the peer has
// already acknowledged, so that it has to answer; what we answer to such a
// segment is answerUnwanted's business.
//
// They are off unless the user wants them (RFC 9293 MUST-24, MUST-25). The
// timer runs only then, and nothing on the way of a segment touches it: when it
// expires it looks how long the silence has been.

// startKeepAlive starts the timer or stops it, as the setting says.
func (c *Conn) startKeepAlive(now mono.Time) {
	c.keepAt = 0
	if c.keepsAlive() {
		c.keepAt = now.Add(c.keepIdle())
	}
}

// restartKeepAlive lets the timer expire when the silence will have lasted for
// the idle time, which was just changed.
func (c *Conn) restartKeepAlive(now mono.Time) {
	if c.keepsAlive() {
		c.keepAt = max(c.heardAt().Add(c.keepIdle()), now+1)
	}
}

// keepsAlive reports whether keep-alives are to be sent in this state.
func (c *Conn) keepsAlive() bool {
	return c.cfg.Knobs.keepAlive && c.state.Synchronized() && c.state != TimeWait
}

func (c *Conn) keepIdle() time.Duration {
	return time.Duration(c.cfg.Knobs.Get(KnobKeepIdle)) * time.Second
}

// heardAt is when the peer was last heard: text, or an acceptable ACK.
func (c *Conn) heardAt() mono.Time { return max(c.lastDataAt, c.ackAt) }

// heard notes an acceptable ACK: the peer lives.
func (c *Conn) heard(now mono.Time) {
	c.ackAt = now
	c.unanswered, c.keepProbes = 0, 0
}

// expireKeepAlive sends the next question, or gives up.
func (c *Conn) expireKeepAlive(now mono.Time) {
	k := c.cfg.Knobs
	if !c.keepsAlive() || c.orphan && c.state == FinWait2 {
		return // the orphan's own timer ends it
	}
	idle := c.keepIdle()
	if c.sndUna != c.sndNxt || c.snd.Len() > 0 || c.wrClosed && !c.finSent {
		// RFC 1122 §4.2.3.6: "only when no data or acknowledgement packets
		// have been received"; what is under way has timers of its own.
		c.keepAt = now.Add(idle)
		return
	}
	silence := now.Sub(c.heardAt())
	if silence < idle {
		c.keepAt = now.Add(idle - silence)
		return
	}
	// The user timeout, if there is one, says how long to go on asking, in
	// place of the number of probes (Linux).
	over := int(c.keepProbes) >= k.Get(KnobKeepCount)
	if user := c.userTimeout(); user != 0 {
		over = c.keepProbes > 0 && silence >= user
	}
	if over {
		c.count(CountAbortOnTimeout, 1)
		c.abort(c.timeoutError())
		return
	}
	if c.keepProbes < maxKeepCount {
		c.keepProbes++
	}
	c.keepDue = true
	c.keepAt = now.Add(time.Duration(k.Get(KnobKeepInterval)) * time.Second)
}

// outputKeepAlive asks: <SEQ=SND.UNA-1><ACK=RCV.NXT><CTL=ACK>, no text (RFC
// 9293 §3.8.4, SHLD-12).
func (c *Conn) outputKeepAlive(now mono.Time, s *Segment) {
	c.keepDue = false
	c.count(CountKeepAlives, 1)
	c.header(now, s, c.sndUna-1, FlagACK)
}
