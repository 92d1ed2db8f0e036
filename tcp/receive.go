package tcp

import (
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/seq"
)

// This file owns received text: into the ring or the reassembly queue, the
// peer's FIN, when to acknowledge, and what window to offer.

// inputText is RFC 9293 §3.10.7.4, seventh and eighth: at is the number of
// the first byte of text, which is that of s; some of it may lie outside the
// window.
func (c *Conn) inputText(now mono.Time, at seq.Num, text []byte, fin bool, s *Segment) Drop {
	if len(text) == 0 && !fin {
		return DropNone
	}
	if c.rcvFin {
		// "This should not occur since a FIN has been received from the
		// remote side. Ignore the segment text."
		return DropOutOfWindow
	}
	// Cut off what came before and what does not fit.
	if d := c.rcvNxt.Sub(at); d > 0 {
		if d > len(text) {
			return DropOutOfWindow
		}
		c.arrivedTwice(at, c.rcvNxt)
		at, text = c.rcvNxt, text[d:]
	}
	edge := c.rcvAdv
	if c.oooFin && c.oooFinSeq.Less(edge) {
		edge = c.oooFinSeq // nothing follows a FIN
	}
	if over := at.Add(len(text)).Sub(edge); over > 0 {
		fin = false
		if over >= len(text) {
			return DropOutOfWindow
		}
		text = text[:len(text)-over]
	}

	d := DropNone
	if n := len(text); n > 0 {
		c.observe(now, n, s)
		if at == c.rcvNxt {
			d = c.inOrder(now, text)
		} else {
			d = c.outOfOrder(at, text)
		}
	}
	if fin {
		c.finArrived(at.Add(len(text)), len(text) == 0)
	}
	// RFC 9293 §3.10.7.4, eighth: check the FIN bit, now that the text before
	// it has or has not arrived.
	if c.oooFin && c.oooFinSeq == c.rcvNxt {
		c.inputFin(now)
	}
	return d
}

// finArrived notes that the peer's FIN has number at; alone says that it came
// without text. Beyond a hole it is answered as text is (RFC 5681 §4.2), and a
// SACK block tells of it (Linux): a peer that sends it again to see what is
// missing, as a tail loss probe does, must learn that it is not the FIN.
func (c *Conn) finArrived(at seq.Num, alone bool) {
	again := c.oooFin
	if !again {
		c.oooFin, c.oooFinSeq = true, at
	}
	if at == c.rcvNxt {
		return
	}
	if alone {
		c.ackNow()
	}
	if !again {
		c.ooo.mark(at)
	} else if at == c.oooFinSeq {
		c.arrivedTwice(at, at+1)
	}
}

// inOrder takes text that starts at rcvNxt and whatever it joins up with. What a
// reader waits for goes to him, the rest into the buffer.
func (c *Conn) inOrder(now mono.Time, text []byte) (d Drop) {
	n := c.land(text)
	if n < len(text) {
		if n += c.rcv.Write(text[n:]); n < len(text) {
			d = DropMemory
			if c.starve(); n == 0 {
				return d
			}
		}
	}
	c.rcvNxt = c.rcvNxt.Add(n)
	c.stat.bytesIn += uint64(n)
	c.tune.arrivedTogether(n)
	filled := !c.ooo.empty()
	if filled {
		twice := c.ooo.before(c.rcvNxt)
		c.arrivedTwice(twice.Left, twice.Right)
		m := c.ooo.pop(c.rcvNxt)
		if c.oooFin {
			m = min(m, c.oooFinSeq.Sub(c.rcvNxt)) // text beyond a FIN is not the peer's
		}
		c.rcv.Commit(m)
		c.rcvNxt = c.rcvNxt.Add(m)
		c.stat.bytesIn += uint64(m)
	}
	c.events |= EvReadable | EvProgress
	c.ackText(now, filled)
	return d
}

// outOfOrder keeps text beyond a hole. Each such segment is answered at once
// (RFC 5681 §4.2): that is the duplicate ACK the peer recovers by.
func (c *Conn) outOfOrder(at seq.Num, text []byte) Drop {
	c.ackNow()
	c.count(CountOfoQueue, 1)
	if !c.mayStoreAhead(c.rcv.Len() + at.Add(len(text)).Sub(c.rcvNxt)) {
		return DropMemory
	}
	twice, _, ok := c.ooo.add(&c.rcv, at, text, c.rcvNxt)
	c.arrivedTwice(twice.Left, twice.Right)
	if !ok {
		return DropReassemblyFull
	}
	return DropNone
}

// inputFin takes the peer's FIN (RFC 9293 §3.10.7.4, eighth).
func (c *Conn) inputFin(now mono.Time) {
	c.rcvNxt++
	c.rcvFin, c.oooFin = true, false
	c.ooo = reassembly{}
	if c.rcvAdv.Less(c.rcvNxt) {
		c.rcvAdv = c.rcvNxt // a lone FIN taken with the window closed
	}
	c.ackOnce()
	c.events |= EvReadable
	if c.state == Established {
		c.pingpong = true // all else is for us to say (Linux)
	}
	c.moveTo(evFin)
	if c.state == TimeWait {
		c.enterTimeWait(now)
	}
}

// selectWindow returns the window field for the next segment and moves rcvAdv
// to the right edge it announces.
//
// Receiver's silly window avoidance (RFC 9293 §3.8.6.2.2): the edge moves only
// if it can move by a whole segment or half the buffer.
//
// The edge never moves left (RFC 9293 §3.8.6). The field counts units of
// 2^rcvWScale, so that when the edge is not to move it has to be rounded up,
// as Linux does; the ring has room for that one unit more. Only when a peer
// pushed small segments into a closing window past even that does rounding
// down let the edge seem to retreat by less than a unit, as RFC 7323 §2.4
// allows; rcvAdv remembers, and what was promised is taken.
func (c *Conn) selectWindow() uint16 {
	unit := 1 << c.rcvWScale
	free, cur, step := c.window()
	c.starved = c.starved && free < step
	wnd := cur
	if free-cur >= step {
		if wnd = free &^ (unit - 1); wnd == 0 && free > 0 {
			wnd = unit // not scaled away
		}
	}
	if wnd <= cur {
		wnd = (cur + unit - 1) &^ (unit - 1)
		if wnd > free+unit-1 {
			wnd = cur &^ (unit - 1)
		}
	}
	wnd = min(wnd, 65535<<c.rcvWScale)
	c.rcvAdv = seq.Max(c.rcvAdv, c.rcvNxt.Add(wnd))
	return uint16(wnd >> c.rcvWScale)
}

// readerFreed is called when the user has taken bytes out of the ring: a
// window that was closed or small and has at least doubled is announced
// without waiting for a segment to carry it (Linux's tcp_cleanup_rbuf).
func (c *Conn) readerFreed() {
	if c.rcvFin || c.state < Established || c.state == TimeWait {
		return
	}
	free, cur, step := c.window()
	if c.starved {
		cur = 0
	}
	if free >= 2*cur && free-cur >= step {
		c.ackOnce()
	}
	c.readerDrained()
}

// window returns what could be offered, what is offered, and the least step
// from one to the other.
//
// Nothing is offered for which there would be no memory now. While memory is
// short, a connection is offered no more than at its beginning, and one whose
// reader lags no more than four segments at a time, as in Linux
// (__tcp_select_window), so that what waits gets less.
func (c *Conn) window() (free, cur, step int) {
	buf, held := int(c.rcvBuf), c.rcv.Len()
	short := c.cfg.Memory.Pressure()
	if short {
		buf = min(buf, int(c.cfg.RcvInit), initialRcvBuf)
	}
	buf = min(buf, held+c.rcv.Free())
	largest := min(buf, c.cfg.largestWindow(), 65535<<c.rcvWScale)
	free = min(max(buf-held, 0), largest)
	if short && held > buf/2 {
		free = min(free, 4*int(c.cfg.MSS))
	}
	cur = max(c.rcvAdv.Sub(c.rcvNxt), 0)
	return free, cur, min(largest/2, int(c.cfg.MSS))
}
