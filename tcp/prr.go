package tcp

import "github.com/tapstack/tapstack/tcp/cc"

// This file owns how fast to send during fast recovery with SACK: Proportional
// Rate Reduction, RFC 9937. The congestion control says where the window is to
// end (ssthresh); on the way there sending is spread over the ACKs of one round
// trip, instead of stopping until half of the flight has left the network.

// prr is the variables of RFC 9937 §5.
type prr struct {
	delivered int // prr_delivered: bytes that arrived since recovery began
	out       int // prr_out: bytes sent since then
	flight    int // RecoverFS: bytes in flight when it began
	cwnd      int // the window for now
}

// prrBegin starts a recovery (RFC 9937 §6.1). What arrived before the ACK that began it will
// not count as delivered, so it does not belong to the flight either.
func (c *Conn) prrBegin() {
	flight := c.sndNxt.Sub(c.sndUna) - c.board.sacked + c.rack.bytes
	c.prr = prr{flight: max(flight, 1)}
}

// prrAck takes an ACK during recovery that says that delivered bytes arrived
// (RFC 9937 §6.2). safe says that it moved sndUna and told of no further loss.
func (c *Conn) prrAck(delivered int, safe bool) {
	p := &c.prr
	pipe, ssthresh := c.pipe(), c.cc.Ssthresh()
	p.delivered += delivered
	n := 0
	if pipe > ssthresh {
		n = (p.delivered*ssthresh+p.flight-1)/p.flight - p.out
	} else {
		n = max(p.delivered-p.out, delivered)
		if safe {
			n += c.mss
		}
		n = min(n, ssthresh-pipe)
	}
	if p.out == 0 {
		n = max(n, c.mss) // the first goes at once
	}
	p.cwnd = pipe + max(n, 0)
}

// cwnd is how many bytes may be in flight now. A controller without a threshold
// has its own ways in recovery.
func (c *Conn) cwnd() int {
	if c.phase == phaseFast && c.sackOK && c.cc.Ssthresh() < cc.MaxWindow {
		return c.prr.cwnd
	}
	cwnd, _ := c.cc.Window()
	return cwnd
}
