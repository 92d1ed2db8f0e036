package tcp

import (
	"io"
	"syscall"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/seq"
	"github.com/tapstack/tapstack/tcp/cc"
)

// This file owns repair mode, in which a live connection is taken out of one
// host and put into another without its peer's noticing (Linux's TCP_REPAIR).
// There is no RFC. What a connection consists of can be read and set piece by
// piece:
//
//	             receive queue                     send queue
//	      |------- unread ------|         |---- in flight ----- unsent ---|
//	                         RCV.NXT    SND.UNA                   RepairSeq
//
// Both queues can be read without taking anything out; in a new connection,
// which begins at chosen numbers without a handshake (NewRepaired), both can be
// written, the send queue as if it had been sent. The end of repair asks the
// peer where it stands, and retransmission does the rest.
//
// Departs from Linux: a connection in repair mode is frozen. It takes no segment
// (DropRepair), sends none, and its timers wait. Linux goes on, and relies on a
// firewall to keep the queues as they were read. Text that the peer has sent out
// of order is not kept, here as there: it was not acknowledged, so it comes
// again.

// RepairQueue names one of the queues, with Linux's numbers.
type RepairQueue uint8

// The queues.
const (
	RepairNone RepairQueue = iota
	RepairReceive
	RepairSend
)

// repairMode is the queue that was chosen last, and whether repair is on.
type repairMode uint8

const repairOn repairMode = 1 << 7

// RepairStart is where a connection begins that is made by NewRepaired.
type RepairStart struct {
	Send, Receive uint32 // of the first byte of the send queue; of the receive queue
}

// NewRepaired makes a connection that is open from the beginning, in repair mode
// (connect(2) after TCP_REPAIR). It has no option, the least segment size and a
// closed window until SetRepairOptions and SetRepairWindow; cfg.ISS means
// nothing.
func NewRepaired(cfg *Config, now mono.Time, at RepairStart) *Conn {
	f := *cfg
	snd := seq.Num(at.Send)
	f.ISS = snd - 1
	c := newConn(&f)
	c.sendFrom(snd)
	c.pushed, c.psh, c.urg.sndUp = snd, snd, snd
	c.start(seq.Num(at.Receive) - 1)
	c.negotiate(now, &Options{})
	c.setState(Established)
	c.takeOver(cc.Start{Now: now})
	c.established(now)
	c.kick, c.events = false, 0
	c.frozen = repairOn
	return c
}

// InRepair reports whether repair mode is on.
func (c *Conn) InRepair() bool { return c.frozen&repairOn != 0 }

// BeginRepair freezes the connection (TCP_REPAIR of 1); no queue is chosen. Done
// again it only forgets the choice.
func (c *Conn) BeginRepair() { c.frozen = repairOn }

// EndRepair lets the connection go on; call Output afterwards. With ask the peer
// is asked where it stands (TCP_REPAIR of 0): its answer tells its window and
// what it has received. Timers begin anew, for the time that passed says nothing
// of the peer.
func (c *Conn) EndRepair(now mono.Time, ask bool) {
	if !c.InRepair() {
		return
	}
	c.wake()
	c.frozen &^= repairOn
	if c.timers[timerRexmit] != 0 {
		c.timers[timerRexmit] = now.Add(c.rto())
	}
	if c.stuckAt != 0 {
		c.stuckAt = now
	}
	c.heard(now)
	c.restartKeepAlive(now)
	c.kick = true
	if ask && c.state == Established {
		c.sndWl1 = c.rcvNxt - 1 // so that the answer tells the window
		c.keepDue = true        // the same segment as a keep-alive
	}
}

// RepairQueue returns the queue that was chosen last.
func (c *Conn) RepairQueue() RepairQueue { return RepairQueue(c.frozen &^ repairOn) }

// SetRepairQueue chooses the queue that RepairSeq, RepairWrite and Recv are about
// (TCP_REPAIR_QUEUE). Errors: EPERM out of repair, EINVAL for another number.
func (c *Conn) SetRepairQueue(q RepairQueue) error {
	switch {
	case !c.InRepair():
		return syscall.EPERM
	case q > RepairSend:
		return syscall.EINVAL
	}
	c.frozen = repairOn | repairMode(q)
	return nil
}

// RepairSeq returns the number after the last byte of the chosen queue, a FIN
// included that was received or will be sent (TCP_QUEUE_SEQ). EINVAL if none was
// chosen.
func (c *Conn) RepairSeq() (uint32, error) {
	switch c.RepairQueue() {
	case RepairReceive:
		return uint32(c.rcvNxt), nil
	case RepairSend:
		end := c.dataEnd()
		if c.wrClosed && !(c.finSent && c.sndUna == c.sndNxt) {
			end++
		}
		return uint32(end), nil
	}
	return 0, syscall.EINVAL
}

// RepairWrite appends to the chosen queue. What goes to the send queue counts as
// sent, all of it that was there already included. It takes what there is room
// for. Errors: that of the connection, EPIPE after a FIN, EINVAL if no queue was
// chosen, ENOMEM when there is no room.
func (c *Conn) RepairWrite(now mono.Time, p []byte) (n int, err error) {
	if err := c.takeErr(); err != nil {
		return 0, err
	}
	c.wake()
	switch q := c.RepairQueue(); {
	case c.wrClosed || c.state != Established && c.state != CloseWait || q == RepairReceive && c.rcvFin:
		return 0, syscall.EPIPE
	case q == RepairNone:
		return 0, syscall.EINVAL
	case q == RepairReceive:
		n = c.rcv.Write(p)
		c.rcvNxt = c.rcvNxt.Add(n)
		c.rcvAdv = seq.Max(c.rcvAdv, c.rcvNxt)
	default:
		n = c.repairAppend(p)
		if unsent := c.unsent(); unsent > 0 {
			c.advance(now, unsent)
		}
	}
	if n == 0 && len(p) > 0 {
		return 0, syscall.ENOMEM
	}
	return n, nil
}

// RepairUnsent appends to the send queue what was not sent yet, after all that was.
// It returns what there was room for.
func (c *Conn) RepairUnsent(p []byte) int {
	if !c.InRepair() || c.wrClosed {
		return 0
	}
	c.wake()
	return c.repairAppend(p)
}

// repairAppend writes to the send queue, which grows: what the old host held at a
// time this one holds, too.
func (c *Conn) repairAppend(p []byte) int {
	if most := min(c.snd.Len()+len(p), c.cfg.SndBuf); most > int(c.sndBuf) {
		c.sndBuf = int32(most)
		c.snd.SetLimit(most)
	}
	n := c.snd.Write(p)
	c.wrote(0)
	return n
}

// repairRecv is Recv in repair mode, in which bytes can only be looked at; in the
// receive queue they are as usual. The send queue is there from the oldest byte not acknowledged on; io.EOF when it is
// empty, and EFAULT if p has no room for all of it, as on Linux.
func (c *Conn) repairRecv(p []byte, flags RecvFlags) (int, error) {
	switch q := c.RepairQueue(); {
	case flags&RecvPeek == 0:
		return 0, syscall.EPERM
	case q == RepairNone:
		return 0, syscall.EINVAL
	}
	a, b := c.snd.Peek(0, c.snd.Len())
	switch n := len(a) + len(b); {
	case n == 0:
		return 0, io.EOF
	case n > len(p):
		return 0, syscall.EFAULT
	}
	return copy(p, a) + copy(p[len(a):], b), nil
}

// RepairFin says that the peer's FIN was taken after what is in the receive
// queue. A connection is so put into CLOSE-WAIT; on Linux the FIN is forged.
// EPERM out of repair or with another queue chosen.
func (c *Conn) RepairFin(now mono.Time) error {
	if c.frozen != repairOn|repairMode(RepairReceive) {
		return syscall.EPERM
	}
	if !c.rcvFin {
		c.wake()
		c.inputFin(now)
		c.owedAcks, c.events = 0, 0
	}
	return nil
}

// repairShut is what CloseWrite does further in repair mode: with the send queue
// chosen the FIN has been sent, too.
func (c *Conn) repairShut(now mono.Time) {
	if c.frozen == repairOn|repairMode(RepairSend) && c.wrClosed && !c.finSent {
		if unsent := c.unsent(); unsent > 0 {
			c.advance(now, unsent)
		}
		c.finSent = true
		c.advance(now, 1)
	}
}

// repairClose ends a connection in repair mode: it goes on elsewhere, so that
// nothing is said to the peer.
func (c *Conn) repairClose() {
	c.frozen = 0
	c.rcv.Release()
	c.fail(syscall.ECONNABORTED)
	c.events = 0
}

// RepairOption is one of the options that the handshake agreed on, by its kind:
// a segment size, a window scale (the peer's shift, and ours in the upper 16
// bits), SACK permitted and timestamps, both of which have the value 0.
type RepairOption struct{ Kind, Value uint32 }

// SetRepairOptions sets what the handshake would have agreed on
// (TCP_REPAIR_OPTIONS); other kinds are passed over. Those before a wrong one
// count. Errors: EINVAL out of repair or for a value, EFBIG for a shift above 14,
// EPERM once something was sent or is closed.
func (c *Conn) SetRepairOptions(now mono.Time, list []RepairOption) error {
	switch {
	case !c.InRepair():
		return syscall.EINVAL
	case c.state != Established || c.stat.bytesOut != 0:
		return syscall.EPERM
	}
	c.wake()
	defer c.syncMSS()
	for _, o := range list {
		switch o.Kind {
		case optMSS:
			c.peerMSS = int32(o.Value & 0xffff)
		case optWScale:
			mine, peers := o.Value>>16, o.Value&0xffff
			if max(mine, peers) > maxWScale {
				return syscall.EFBIG
			}
			c.wsOK, c.sndWScale, c.rcvWScale = true, uint8(peers), uint8(mine)
			c.rcvSpare = uint8(mine) // see selectWindow
			c.rcv.SetLimit(c.cfg.RcvBuf + 1<<mine)
		case optSACKPermitted:
			if o.Value != 0 {
				return syscall.EINVAL
			}
			c.sackOK = true
		case optTimestamps:
			if o.Value != 0 {
				return syscall.EINVAL
			}
			// Nobody tells the peer's last timestamp: the next one will do.
			c.tsOK, c.tsRecent, c.tsRecentAt = true, 0, now.Add(-pawsIdle)
		}
	}
	return nil
}

// RepairWindow is both windows as the connection knows them (struct
// tcp_repair_window).
type RepairWindow struct {
	SndWl1 uint32 // of the segment that last updated SndWnd
	SndWnd uint32 // the peer's window, bytes
	MaxWnd uint32 // the largest it ever was
	RcvWnd uint32 // ours, from
	RcvWup uint32 // what was last acknowledged
}

// RepairWindow returns the windows (TCP_REPAIR_WINDOW). EPERM out of repair.
func (c *Conn) RepairWindow() (w RepairWindow, err error) {
	if !c.InRepair() {
		return w, syscall.EPERM
	}
	return RepairWindow{
		SndWl1: uint32(c.sndWl1), SndWnd: uint32(c.sndWnd), MaxWnd: uint32(c.maxSndWnd),
		RcvWnd: uint32(max(c.rcvAdv.Sub(c.lastAckSent), 0)), RcvWup: uint32(c.lastAckSent),
	}, nil
}

// SetRepairWindow sets the windows, after the queues. What was promised and does
// not fit the buffers here is taken back: what comes there comes again. Errors:
// EPERM out of repair, EINVAL for values that contradict each other.
func (c *Conn) SetRepairWindow(w RepairWindow) error {
	switch {
	case !c.InRepair():
		return syscall.EPERM
	case w.MaxWnd < w.SndWnd || w.MaxWnd > maxWindow || w.RcvWnd > maxWindow,
		c.rcvNxt.Add(int(w.RcvWnd)).Less(seq.Num(w.SndWl1)), c.rcvNxt.Less(seq.Num(w.RcvWup)):
		return syscall.EINVAL
	}
	c.wake()
	c.sndWl1, c.sndWnd, c.maxSndWnd = seq.Num(w.SndWl1), int(w.SndWnd), int32(w.MaxWnd)
	c.lastAckSent = seq.Num(w.RcvWup)
	c.rcvAdv = seq.Max(c.rcvNxt, c.lastAckSent.Add(int(w.RcvWnd)))
	held := c.rcv.Len()
	room := min(c.rcvAdv.Sub(c.rcvNxt), max(c.rcv.Limit()-held, 0))
	c.rcvAdv = c.rcvNxt.Add(room)
	c.rcvBuf = max(c.rcvBuf, int32(min(held+room, c.cfg.RcvBuf)))
	return nil
}

// Timestamp returns the connection's timestamp clock at now, in milliseconds, its
// lowest bit 0 as Linux shows a clock of milliseconds (TCP_TIMESTAMP).
func (c *Conn) Timestamp(now mono.Time) uint32 { return tsNow(now, c.cfg.TSOffset) &^ 1 }

// SetTimestamp sets it, so that it goes on where it was read elsewhere; as the
// lowest bit was lost there, from the next number. EPERM out of repair.
func (c *Conn) SetTimestamp(now mono.Time, v uint32) error {
	if !c.InRepair() {
		return syscall.EPERM
	}
	c.cfg.TSOffset = (v | 1) - tsNow(now, 0)
	return nil
}
