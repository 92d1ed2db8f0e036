package socket

// This file owns moving a connection from one stack to another with the same
// address: the order in which the pieces of repair.go are read and set, which is
// also that in which Linux wants them.
//
//	f.Checkpoint --> the address goes (DelAddr) --> Close      the old stack
//	                 it comes (AddAddr) --> Restore            the new one
//
// While the address is at neither place the peer's segments are lost, and come
// again. None may come to a stack that has the address and not the connection,
// which would answer with resets: not to the old one after Close, and not to the new
// one before Restore, whose link is best connected last.

import (
	"io"
	"net/netip"
	"syscall"

	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// Checkpoint is a connection as data, to be written down and sent elsewhere. What
// is not in it begins anew: round trip, congestion window, ECN, which is off from
// then on, urgent data, and the options that the program has set.
type Checkpoint struct {
	Local, Remote netip.AddrPort
	State         tcp.State

	// SendSeq and ReceiveSeq are the numbers of the first bytes of Send, of which
	// the last Unsent bytes have not been sent, and of Receive.
	SendSeq, ReceiveSeq uint32
	Send, Receive       []byte
	Unsent              int

	MSS                  int // what the peer announced
	SndWScale, RcvWScale int // shifts, below 0 without the option
	SACK, Timestamps     bool
	Timestamp            uint32 // the clock, milliseconds
	Window               tcp.RepairWindow
}

// fin reports which FINs were sent, or wait to be, and received.
func (c *Checkpoint) fin() (sent, received bool) {
	switch c.State {
	case tcp.FinWait1, tcp.FinWait2:
		return true, false
	case tcp.Closing, tcp.LastAck:
		return true, true
	case tcp.CloseWait:
		return false, true
	}
	return false, false
}

// Checkpoint freezes the connection in repair mode and returns what it consists
// of. Close then drops it without a word to the peer; TCP_REPAIR of 0 lets it go
// on instead. EINVAL in a state without a peer.
func (f *FD) Checkpoint() (*Checkpoint, error) {
	conn, err := f.stream()
	if err != nil {
		return nil, err
	}
	if err := f.setRepair(TCP_REPAIR_ON); err != nil {
		return nil, err
	}
	p := &Checkpoint{Local: conn.LocalAddr(), Remote: conn.RemoteAddr(), SndWScale: -1, RcvWScale: -1}
	err = conn.Repair(func(c stack.Repair) (err error) {
		i := c.Info()
		switch p.State = i.State; p.State {
		case tcp.Established, tcp.FinWait1, tcp.FinWait2, tcp.CloseWait, tcp.Closing, tcp.LastAck:
		default:
			return syscall.EINVAL
		}
		finOut, finIn := p.fin()
		if p.SendSeq, p.Send, err = readQueue(c, tcp.RepairSend, i.Unsent+i.Unacked, finOut); err != nil {
			return err
		}
		if p.ReceiveSeq, p.Receive, err = readQueue(c, tcp.RepairReceive, i.Unread, finIn); err != nil {
			return err
		}
		c.SetQueue(tcp.RepairNone)
		p.Unsent = i.Unsent
		p.MSS, p.SACK, p.Timestamps, p.Timestamp = i.PeerMSS, i.SACK, i.Timestamps, c.Timestamp()
		if i.WScale {
			p.SndWScale, p.RcvWScale = i.SndWScale, i.RcvWScale
		}
		p.Window, err = c.Window()
		return err
	})
	if err != nil {
		f.setRepair(TCP_REPAIR_OFF_NO_WP)
		return nil, err
	}
	return p, nil
}

// readQueue returns a queue of at most n bytes, and the number of its first byte.
func readQueue(c stack.Repair, q tcp.RepairQueue, n int, fin bool) (from uint32, b []byte, err error) {
	if err := c.SetQueue(q); err != nil {
		return 0, nil, err
	}
	end, err := c.Seq()
	if err != nil {
		return 0, nil, err
	}
	b = make([]byte, n)
	if n, err = c.Peek(b); err != nil && err != syscall.EAGAIN && err != io.EOF {
		return 0, nil, err
	}
	if fin {
		end--
	}
	return end - uint32(n), b[:n], nil
}

// Restore makes the connection anew in s, which must have its local address, and
// lets it go on. Errors: EINVAL for a checkpoint that contradicts itself, ENOMEM
// if the buffers of s do not hold the queues, those of Bind and Connect.
func Restore(s *stack.Stack, p *Checkpoint) (*FD, error) {
	domain := AF_INET
	if p.Local.Addr().Is6() {
		domain = AF_INET6
	}
	f, err := Socket(s, domain, SOCK_STREAM, 0)
	if err != nil {
		return nil, err
	}
	if err := f.restore(p); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (f *FD) restore(p *Checkpoint) error {
	if p.Unsent < 0 || p.Unsent > len(p.Send) {
		return syscall.EINVAL
	}
	if err := f.setRepair(TCP_REPAIR_ON); err != nil {
		return err
	}
	f.mu.Lock()
	f.changeLocked().repair.start = tcp.RepairStart{Send: p.SendSeq, Receive: p.ReceiveSeq}
	f.mu.Unlock()
	if err := f.Bind(p.Local); err != nil {
		return err
	}
	if err := f.Connect(background, p.Remote); err != nil {
		return err
	}
	conn, err := f.stream()
	if err != nil {
		return err
	}
	if err := conn.Repair(p.fill); err != nil {
		return err
	}
	sent, _ := p.fin()
	if err := f.setRepair(TCP_REPAIR_OFF); err != nil {
		return err
	}
	if sent && p.Unsent > 0 {
		return conn.CloseWrite()
	}
	return nil
}

// fill gives a new connection what the checkpoint says.
func (p *Checkpoint) fill(c stack.Repair) error {
	const mss, wscale, sackPermitted, timestamps = 2, 3, 4, 8 // kinds of options
	list := []tcp.RepairOption{{Kind: mss, Value: uint32(p.MSS)}}
	if p.SndWScale >= 0 {
		list = append(list, tcp.RepairOption{Kind: wscale, Value: uint32(p.SndWScale) | uint32(p.RcvWScale)<<16})
	}
	if p.SACK {
		list = append(list, tcp.RepairOption{Kind: sackPermitted})
	}
	if p.Timestamps {
		list = append(list, tcp.RepairOption{Kind: timestamps})
	}
	err := c.SetOptions(list)
	write := func(q tcp.RepairQueue, b []byte) {
		if err == nil {
			err = c.SetQueue(q)
		}
		if err == nil && len(b) > 0 {
			var n int
			if n, err = c.Write(b); err == nil && n < len(b) {
				err = syscall.ENOMEM
			}
		}
	}
	in, out := p.Receive, p.Send[:len(p.Send)-p.Unsent]
	unsent := p.Send[len(out):]
	write(tcp.RepairReceive, in)
	write(tcp.RepairSend, out)
	finOut, finIn := p.fin()
	// CLOSING is what the peer's FIN makes of FIN-WAIT-1, LAST-ACK what ours
	// makes of CLOSE-WAIT.
	if err == nil && finIn && p.State != tcp.Closing {
		write(tcp.RepairReceive, nil)
		err = c.Fin()
	}
	if err == nil && finOut && len(unsent) == 0 {
		write(tcp.RepairSend, nil)
		err = c.CloseWrite()
	}
	if err == nil && p.State == tcp.Closing {
		write(tcp.RepairReceive, nil)
		err = c.Fin()
	}
	if err == nil && c.Unsent(unsent) < len(unsent) {
		err = syscall.ENOMEM
	}
	write(tcp.RepairNone, nil)
	if err == nil && p.Timestamps {
		err = c.SetTimestamp(p.Timestamp)
	}
	if err == nil {
		err = c.SetWindow(p.Window)
	}
	return err
}
