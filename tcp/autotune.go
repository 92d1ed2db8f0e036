package tcp

import (
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/seq"
)

// This file owns how much the two buffers may hold at present: rcvBuf, of which
// the window is what is free, and sndBuf. Both start small and grow with use up
// to Config.RcvBuf and Config.SndBuf, so that a connection that does little can
// be made to hold little. There is no RFC; the rules are Linux's.
//
// Receiving, Dynamic Right-Sizing (tcp_rcv_space_adjust): what the application
// reads in a round trip is what the sender's congestion window was then. A
// window of twice as much leaves room for a loss to be repaired, and while that
// number still rises the sender is in slow start and will be further on before
// a wider window can reach it:
//
//	space = 29 KB   the last round trip
//	  |------|
//	copied = 58 KB  this one: + 100 %
//	  |------------|
//	rcvBuf = (2 copied + 16 MSS) (1 + 2 (copied-space)/space) = 3 (2 copied + 16 MSS)
//
// Sending (tcp_sndbuf_expand): twice the congestion window, one in flight and
// one to follow it at the next ACK.

// The receiver's and the sender's first limits, unless Config names others.
const (
	// initialRcvBuf is what Linux offers at first: half of tcp_rmem[1].
	initialRcvBuf = 64 << 10
	// initialSndBuf: Linux begins with 16 KB (tcp_wmem[1]), takes it for 46 KB
	// once connected, and lets one super-frame more in whatever the limit.
	// Here it is two super-frames, one that leaves and one that is written
	// meanwhile, so that a short answer is taken by one Write.
	initialSndBuf = 128 << 10
)

// tuning measures the application as a reader and the round trip as a receiver
// sees it. A sender's srtt will not do: who only receives has none.
type tuning struct {
	at     mono.Time // the round trip in which reading is measured began,
	from   seq.Num   // with this number next to be read
	space  int32     // most bytes read in a round trip so far
	edgeAt mono.Time // a window's worth has arrived since then
	edge   seq.Num   // when this number arrives
	rtt    uint32    // round trip in µs; 0: not measured
	ecr    uint32    // the echoed timestamp that was last measured by
	burst  int32     // text that came since QueueDry,
	crowd  int32     // the most that it was since at
	due    bool      // something was read since Output last looked
}

// enoughWindow is the window up to which a standing queue of our own is put up
// with: some super-frames on their way beside as many that are being read, and
// less than a millisecond of a device's time.
const enoughWindow = 1 << 20

// QueueDry says that the device had nothing more: the text that is input from
// here on has not waited behind what was input before.
func (c *Conn) QueueDry() { c.tune.burst = 0 }

// widest is how far the window may be widened after a round trip in which
// copied bytes were read. When half of them stood in our device's queue at a
// time, this host is what is slow: a wider window would make nothing faster but
// that queue longer, for everybody whose frames stand in it. The kernel has no
// queue between the wire and TCP, and no such rule.
func (c *Conn) widest(copied int) int64 {
	if int(c.tune.crowd) >= copied/2 {
		return int64(min(c.cfg.RcvBuf, enoughWindow))
	}
	return int64(c.cfg.RcvBuf)
}

// arrivedTogether counts n bytes to what came since QueueDry.
func (t *tuning) arrivedTogether(n int) {
	t.burst = int32(min(int(t.burst)+n, maxWindow))
	t.crowd = max(t.crowd, t.burst)
}

// beginTuning starts with what a sender's first flight is (RFC 6928), as Linux
// does, or with half of the window when that is less.
func (c *Conn) beginTuning(now mono.Time) {
	c.tune.at, c.tune.from = now, c.rcvNxt
	c.resetSpace()
}

func (c *Conn) resetSpace() {
	c.tune.space = max(min(10*c.cfg.MSS, c.rcvBuf/2), 1)
}

// measureReceive learns the round trip from a segment with text that arrived
// for the window, before the text is taken (Linux's tcp_rcv_rtt_measure and
// tcp_rcv_rtt_measure_ts).
func (c *Conn) measureReceive(now mono.Time, s *Segment) {
	t := &c.tune
	// The sender cannot fill a window twice without hearing of us: a window's
	// worth takes a round trip, or longer.
	if t.edge.LessEq(c.rcvNxt) || t.edgeAt == 0 {
		if t.edgeAt != 0 {
			if us := microseconds(now.Sub(t.edgeAt)); t.rtt == 0 || us < t.rtt {
				t.rtt = us
			}
		}
		t.edge, t.edgeAt = c.rcvAdv, now
	}
	// The first segment that echoes a timestamp of ours, one that did not wait
	// at the sender for more text.
	if c.tsOK && s.Options.HasTS && s.Options.TSEcr != t.ecr && s.PayloadLen() >= int(c.rcvMSS) {
		t.ecr = s.Options.TSEcr
		if ms := int32(tsNow(now, c.cfg.TSOffset) - t.ecr); ms >= 0 {
			us := microseconds(time.Duration(max(ms, 1)) * time.Millisecond)
			if t.rtt == 0 {
				t.rtt = us
			} else {
				t.rtt += uint32((int32(us) - int32(t.rtt)) / 8)
			}
		}
	}
}

// microseconds turns a round trip into what tuning keeps: at least 1, and less
// than a quarter of an hour, so that differences fit 32 bits.
func microseconds(d time.Duration) uint32 {
	return uint32(min(max(d, time.Microsecond), 15*time.Minute) / time.Microsecond)
}

// tuneReceive looks, after the application has read, how much it took in the
// last round trip, and widens the window to match.
func (c *Conn) tuneReceive(now mono.Time) {
	t := &c.tune
	t.due = false
	if c.cfg.Memory.Pressure() {
		c.narrow()
		return
	}
	if t.rtt == 0 || now.Sub(t.at) < time.Duration(t.rtt)*time.Microsecond {
		return
	}
	read := c.readSeq()
	if copied := read.Sub(t.from); copied > int(t.space) {
		if c.cfg.Knobs.rcvBuf == 0 {
			win := 2*int64(copied) + 16*int64(c.cfg.MSS)
			win += 2 * (win * int64(copied-int(t.space)) / int64(t.space))
			most := c.widest(copied)
			if most < int64(c.cfg.RcvBuf) && win > most {
				copied = min(copied, max(int(t.space), int(most)/8)) // to ask again, once the queue is gone
			}
			if win = min(win, most); win > int64(c.rcvBuf) {
				c.rcvBuf = int32(win)
				c.readerFreed()
			}
		}
		t.space = int32(copied)
	}
	t.at, t.from, t.crowd = now, read, t.burst
}

// narrow takes the window back to where it began, for as long as memory is
// short: what was promised stays promised, but nothing is added until so much
// of it has been used up. When there is memory again it grows as before.
func (c *Conn) narrow() {
	if first := c.firstRcvBuf(); c.cfg.Knobs.rcvBuf == 0 && c.rcvBuf > first {
		c.rcvBuf = first
		c.resetSpace()
	}
}

// firstRcvBuf is rcvBuf at the beginning. It is a unit of the window's scale
// less than Config.RcvInit, because selectWindow may promise as much more.
func (c *Conn) firstRcvBuf() int32 {
	n := int(c.cfg.RcvInit)
	if n < c.cfg.RcvBuf {
		n = max(n-1<<c.rcvWScale, n/2)
	}
	return int32(n)
}

// tuneSend lets a writer who waits have a buffer of twice the congestion
// window, unless memory is short.
func (c *Conn) tuneSend() {
	if c.cfg.Knobs.sndBuf != 0 || c.cfg.Memory.Pressure() {
		return
	}
	cwnd, _ := c.cc.Window()
	if n := min(2*cwnd, c.cfg.SndBuf); n > int(c.sndBuf) {
		c.sndBuf = int32(n)
		c.snd.SetLimit(n)
	}
}

// setReceiveBuffer gives the receive buffer the size that KnobRcvBuf asks for,
// at most Config.RcvBuf, which the scale of the window allows for. It then stays
// (Linux's SOCK_RCVBUF_LOCK). A window that was offered is not taken back.
func (c *Conn) setReceiveBuffer() {
	c.rcvBuf = min(c.cfg.Knobs.rcvBuf, int32(c.cfg.RcvBuf))
	c.readerFreed()
}

// setSendBuffer gives the send buffer the size that KnobSndBuf asks for, at most
// Config.SndBuf, for good. What was written stays.
func (c *Conn) setSendBuffer() {
	c.sndBuf = min(c.cfg.Knobs.sndBuf, int32(c.cfg.SndBuf))
	c.snd.SetLimit(int(c.sndBuf))
}
