package tcp

// This file owns linear time-outs of thin streams (TCP_THIN_LINEAR_TIMEOUTS). A
// game or a remote shell never has enough in flight for a loss to be noticed by
// what follows it, so that its losses wait for the timer; and congestion is not
// what it can cause. For such a stream the first time-outs come at one and the
// same distance.

const (
	// thinSegments is how many segments in flight make a stream no longer thin
	// (tcp_stream_is_thin).
	thinSegments = 4
	// thinTimeouts is how often the timer expires before it backs off after all,
	// for the path may be gone (TCP_THIN_LINEAR_RETRIES).
	thinTimeouts = 6
)

// thin reports that the time-out which has just come, the retries-th in a row,
// is not to be doubled. Departs from RFC 6298 §5.5 as Linux does, for those who
// ask for it.
func (c *Conn) thin() bool {
	return c.cfg.Knobs.thinLinear && c.state == Established && c.retries <= thinTimeouts &&
		segments(c.sndNxt.Sub(c.sndUna), c.mss) < thinSegments
}
