package tcp

import (
	"syscall"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/tcp/cc"
)

// This file owns the connection's side of congestion control: which controller
// there is, and what one ACK tells it.

// startController hands the connection over to c.cc when the handshake is done.
// Where text went before that, c.cc has begun already.
func (c *Conn) startController(now mono.Time) {
	if c.fastServer() {
		return
	}
	s := cc.Start{Now: now}
	if w, _ := c.cc.Window(); c.cfg.InitCwnd != 0 && w > c.mss { // no SYN was lost
		s.Cwnd = c.cfg.InitCwnd * c.mss
	}
	c.takeOver(s)
	if c.ecn.has(ecnHandshakeCE) {
		cwnd, _ := c.cc.Window()
		c.cc.OnECN(now, cwnd)
	}
}

// takeOver starts c.cc with what the connection knows.
func (c *Conn) takeOver(s cc.Start) {
	s.Phase, s.SRTT, s.MinRTT, s.SACK = cc.Phase(c.phase), c.rtt.srtt, c.rack.minRTT, c.sackOK
	s.Seed = uint64(c.iss)<<32 | uint64(c.cfg.TSOffset)
	c.rack.rates = nil
	if c.pace != nil {
		c.pace = nil
	}
	c.timers[timerPace] = 0
	if x, ok := c.cc.(cc.Sampler); ok {
		c.rack.rates = &rates{sampler: x, deliveredAt: s.Now, firstSent: s.Now}
	}
	c.cc.Start(s)
}

// SetCongestion replaces the congestion control by the one of that name, at any
// time; the window and threshold go on as they are, and what a recovery under
// way has taken is not given back. The error is syscall.ENOENT when there is
// none of that name (TCP_CONGESTION of tcp(7)).
func (c *Conn) SetCongestion(now mono.Time, name string) error {
	f, ok := cc.ByName(name)
	c.wake()
	switch {
	case !ok:
		return syscall.ENOENT
	case c.cc == nil:
		c.newCC = f
		return nil
	case c.cc.Name() == name:
		return nil
	}
	old := c.cc
	c.cc = f(c.mss)
	if c.state.Synchronized() || c.mayText() {
		cwnd, _ := old.Window()
		c.takeOver(cc.Start{Now: now, Cwnd: cwnd, Ssthresh: old.Ssthresh()})
		c.kick = true
	}
	return nil
}

// Congestion returns the name of the congestion control.
func (c *Conn) Congestion() string {
	if c.cc == nil {
		return c.newCC(int(c.cfg.MSS)).Name()
	}
	return c.cc.Name()
}

// ackBefore is the connection before an ACK.
type ackBefore struct {
	flight, pipe, dupBytes int
	phase                  phase
}

// beginAck begins the processing of the ACK in s.
func (c *Conn) beginAck(now mono.Time, s *Segment) ackBefore {
	c.rack.begin(now, s, c.sndUna, c.cfg.TSOffset)
	c.rack.doubt = c.frto
	c.noteDue()
	return ackBefore{c.sndNxt.Sub(c.sndUna), c.pipe(), c.dupBytes, c.phase}
}

// endAck reads what the ACK in s says of marks, if it is not too old (nil), and
// tells the controller of it when all that follows from it is done.
func (c *Conn) endAck(now mono.Time, s *Segment, before *ackBefore, acked int) {
	k := &c.rack
	delivered := k.bytes
	if !c.sackOK {
		// Duplicate ACKs have told of some of it before (as Linux counts).
		delivered = max(delivered+c.dupBytes-before.dupBytes, 0)
		if k.rates != nil && delivered > 0 {
			k.rates.delivered += uint64(delivered - k.bytes)
			k.rates.deliveredAt = now
		}
	}
	c.countDelivered(delivered)
	marked := 0
	if c.ecn != nil && s != nil {
		marked = c.inputFeedback(now, s, acked, delivered, before.flight)
	}
	if acked == 0 && delivered == 0 || c.state == Closed {
		return
	}
	a := cc.Ack{
		Now: now, Acked: acked, Delivered: delivered,
		PriorInFlight: before.pipe, InFlight: c.pipe(), Unacked: c.sndNxt.Sub(c.sndUna),
		CE: marked, RTT: k.sample, MinRTT: k.minRTT, SRTT: c.rtt.srtt,
		Phase:       cc.Phase(before.phase),
		CwndLimited: c.usage.full, Used: int(c.usage.most),
		Reorders: int(k.extent) > dupThresh*c.mss,
	}
	if a.Phase == cc.Open || k.undone { // and so there was no recovery
		a.Phase = cc.Phase(c.phase)
	}
	if a.Phase == cc.Open && c.reducing() {
		a.Phase = cc.Recovery // the window is on its way down
	}
	if k.rates != nil {
		a.Rate = k.rates.sample(now, k.minRTT)
	}
	c.cc.OnAck(a)
}
