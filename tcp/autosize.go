package tcp

import "time"

// This file owns how much new text leaves in one super-frame: not as much as a
// device takes, but about a millisecond's worth of the rate at which the
// connection sends (Linux's tcp_tso_autosize). Larger frames would leave the
// device as bursts that a slow path has to queue, while at that size what they
// save no longer grows. On a short path, where ACKs come back before a queue
// could form, frames are as large as they may be.

const (
	// largestFrame is the most text in one frame for any rate (Linux's
	// gso_max_size, less headers).
	largestFrame = 65535 - 120
	// leastFrame is the least in segments (Linux's tcp_min_tso_segs).
	leastFrame = 2
	// frameTime is the time whose text makes a frame.
	frameTime = time.Second / 1024
	// nearStep halves the frame that a short path adds, for each time the least
	// round trip holds it (Linux's tcp_tso_rtt_log).
	nearStep = 512 * time.Microsecond
)

// halfWindow is the most text in one frame for the congestion window: half of
// it, so that two frames are in flight and ACKs come in between (Linux's
// tcp_cwnd_test).
func (c *Conn) halfWindow(mss int) int { return max(c.cwnd()/2/mss, 1) * mss }

// frameLimit returns how much of limit bytes to send in one frame: at most half
// the peer's window as well, so that there are always two to be acknowledged.
func (c *Conn) frameLimit(mss, limit int) int {
	if limit > mss {
		limit = min(limit, c.superFrame())
	}
	srtt := c.rtt.srtt
	if limit <= leastFrame*mss || srtt == 0 {
		return limit
	}
	_, rate := c.cc.Window()
	if rate <= 0 {
		// Not paced: twice the window in a round trip while it still doubles,
		// 1.2 times later, as Linux reckons it.
		cwnd := c.cwnd()
		bytes := int64(max(cwnd, c.pipe()))
		if cwnd < c.cc.Ssthresh()/2 {
			bytes *= 2
		} else {
			bytes += bytes / 5
		}
		rate = bytes * int64(time.Second) / int64(srtt)
	}
	n := rate / int64(time.Second/frameTime)
	least := c.rack.minRTT
	if least == 0 {
		least = srtt // the handshake's
	}
	if far := least / nearStep; far < 16 {
		n += largestFrame >> far
	}
	return min(limit, max(int(min(n, largestFrame))/mss, leastFrame)*mss)
}
