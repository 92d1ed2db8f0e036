package tcp

import "github.com/tapstack/tapstack/tcp/cc"

// This file owns how fast to send during fast recovery with SACK: Proportional
// Rate Reduction, RFC 9937. The congestion control says where the window is to
// end (ssthresh); on the way there sending is spread over the ACKs of one round
// trip, instead of stopping until half of the flight has left the network.

// prr is the variables of RFC 9937 §5.
type prr struct {
	delivered int32 // prr_delivered: bytes that arrived since recovery began
	out       int32 // prr_out: bytes sent since then
	flight    int32 // RecoverFS: bytes in flight when it began
	cwnd      int32 // the window for now
	// due is what could have been sent before the ACK that is being processed.
	// ACKs that come together are answered together, so that the text which
	// those before a loss let out is still here when the loss is noticed. It is
	// owed, and counts as in flight; credit is what is left of it.
	due, credit int32
}

// noteDue takes the state before an ACK.
func (c *Conn) noteDue() {
	n := min(c.cwnd()-c.pipe(), c.unsent(), c.sndUna.Add(c.sndWnd).Sub(c.sndNxt))
	c.prr.due = int32(max(n, 0))
}

// prrBegin starts a recovery (RFC 9937 §6.1). What arrived before the ACK that
// began it will not count as delivered, so it does not belong to the flight
// either.
func (c *Conn) prrBegin() {
	due := c.prr.due
	flight := c.sndNxt.Sub(c.sndUna) - c.board.sacked + c.rack.bytes
	c.prr = prr{flight: int32(max(flight, 1)) + due, credit: due}
}

// sent counts n bytes that leave.
func (p *prr) sent(n int) {
	owed := min(int32(n), p.credit)
	p.credit -= owed
	p.out += int32(n) - owed
}

// prrAck takes an ACK during recovery that says that delivered bytes arrived
// (RFC 9937 §6.2). safe says that it moved sndUna and told of no further loss.
func (c *Conn) prrAck(delivered int, safe bool) {
	p := &c.prr
	pipe, ssthresh := c.pipe()+int(p.credit), c.cc.Ssthresh()
	p.delivered += int32(delivered)
	n := 0
	if pipe > ssthresh {
		n = (int(p.delivered)*ssthresh+int(p.flight)-1)/int(p.flight) - int(p.out)
	} else {
		n = max(int(p.delivered-p.out), delivered)
		if safe {
			n += c.mss
		}
		n = min(n, ssthresh-pipe)
	}
	if p.out == 0 {
		n = max(n, c.mss) // the first goes at once
	}
	p.cwnd = int32(pipe + max(n, 0))
}

// cwnd is how many bytes may be in flight now. A controller without a threshold
// has its own ways in recovery.
func (c *Conn) cwnd() int {
	if c.phase == phaseFast && c.sackOK && c.cc.Ssthresh() < cc.MaxWindow || c.reducing() {
		return int(c.prr.cwnd)
	}
	cwnd, _ := c.cc.Window()
	return cwnd
}
