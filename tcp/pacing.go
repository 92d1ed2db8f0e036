package tcp

import (
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/tcp/cc"
)

// This file owns pacing: a controller that knows a rate has text leave at that
// rate, instead of as fast as ACKs and the application allow. It leaves in
// quanta of about a millisecond's worth (cc.Quantum), so that one timer serves
// many segments and super-frames stay large:
//
//	quantum   quantum   quantum
//	####......####......####......   time
//	    next ^    next ^             left: what is still to go of ####
//
// The first repetition of what is lost, the tail loss probe and window probes
// do not wait, though they count. A controller that is not paced costs nothing.

// pacer is made with the first quantum.
type pacer struct {
	next mono.Time // when the next quantum may leave
	left int       // of the one that is leaving
}

// paceRoom returns how much of limit bytes may leave now: all of it without
// pacing, and 0 when it is not yet time, which the timer will tell.
func (c *Conn) paceRoom(now mono.Time, mss, limit int) int {
	_, rate := c.cc.Window()
	if rate <= 0 {
		return limit
	}
	if c.pace == nil {
		c.extra().pace = new(pacer)
	}
	p := c.pace
	switch {
	case p.left >= mss && now <= p.next: // of the one that is leaving
	case now >= p.next:
		// A timer that comes late is made up for by up to half a quantum, as
		// Linux does; what was not used otherwise is gone.
		p.left = cc.Quantum(rate, mss)
		p.next = max(p.next, now.Add(-paceTime(p.left, rate)/2))
	default:
		c.timers[timerPace] = p.next
		return 0
	}
	return min(limit, p.left)
}

// paceSent counts n bytes that leave.
func (c *Conn) paceSent(now mono.Time, n int) {
	if c.pace == nil {
		return
	}
	if _, rate := c.cc.Window(); rate > 0 {
		p := c.pace
		p.left -= n
		p.next = max(p.next, now.Add(-paceTime(n, rate))).Add(paceTime(n, rate))
	}
	c.timers[timerPace] = 0
}

// paceTime is how long n bytes take. The slowest rate is one byte a second.
func paceTime(n int, rate int64) time.Duration {
	return time.Duration(int64(n) * int64(time.Second) / max(rate, 1))
}
