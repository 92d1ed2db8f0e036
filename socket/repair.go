package socket

// This file owns TCP_REPAIR and what belongs to it: a live connection is read
// piece by piece, closed without a word, and put together again in another
// stack, or in a kernel. What repair mode does is in tcp/repair.go; migrate.go
// has the order in which the pieces go.

import (
	"encoding/binary"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// Options of SOL_TCP for repair mode, with Linux's numbers, and their values.
const (
	TCP_REPAIR         = 19
	TCP_REPAIR_QUEUE   = 20
	TCP_QUEUE_SEQ      = 21
	TCP_REPAIR_OPTIONS = 22 // an array of struct tcp_repair_opt
	TCP_TIMESTAMP      = 24
	TCP_REPAIR_WINDOW  = 29 // struct tcp_repair_window

	TCP_REPAIR_ON        = 1
	TCP_REPAIR_OFF       = 0
	TCP_REPAIR_OFF_NO_WP = -1 // without asking the peer where it stands

	TCP_NO_QUEUE   = 0
	TCP_RECV_QUEUE = 1
	TCP_SEND_QUEUE = 2
)

// Lengths of struct tcp_repair_opt and struct tcp_repair_window.
const (
	repairOptLen    = 8
	repairWindowLen = 20
)

func init() {
	tcpOptions[TCP_REPAIR] = option{(*FD).setRepair, (*FD).repairing}
	tcpOptions[TCP_REPAIR_QUEUE] = option{(*FD).setRepairQueue, (*FD).repairQueue}
	tcpOptions[TCP_QUEUE_SEQ] = option{(*FD).setQueueSeq, (*FD).queueSeq}
	tcpOptions[TCP_TIMESTAMP] = option{(*FD).setTimestamp, (*FD).timestamp}
	rawOptions[name{SOL_TCP, TCP_REPAIR_OPTIONS}] = rawOption{set: (*FD).setRepairOptions}
	rawOptions[name{SOL_TCP, TCP_REPAIR_WINDOW}] = rawOption{(*FD).setRepairWindow, (*FD).repairWindow, exactly(repairWindowLen), nil}
}

// repairing is what a socket without a connection keeps of repair mode.
type repairing struct {
	on    bool
	queue tcp.RepairQueue
	start tcp.RepairStart
	stamp uint32    // TCP_TIMESTAMP
	at    time.Time // when it was that; zero: not set
}

// onCore calls core with the connection below, or closed with the settings of a
// socket that has none.
func (f *FD) onCore(core func(c stack.Repair) error, closed func(r *repairing) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed.Load():
		return net.ErrClosed
	case f.conn != nil:
		return f.conn.Repair(core)
	}
	return closed(&f.changeLocked().repair)
}

// setRepair is TCP_REPAIR. While it is on the socket may bind a port that
// somebody holds; afterwards SO_REUSEADDR is off, as on Linux.
func (f *FD) setRepair(v int) error {
	f.mu.Lock()
	listening := f.listening
	f.mu.Unlock()
	switch {
	case listening:
		return syscall.EPERM
	case v < TCP_REPAIR_OFF_NO_WP || v > TCP_REPAIR_ON:
		return syscall.EINVAL
	}
	err := f.onCore(func(c stack.Repair) error {
		if v == TCP_REPAIR_ON {
			c.Begin()
		} else {
			c.End(v == TCP_REPAIR_OFF)
		}
		return nil
	}, func(r *repairing) error {
		if r.on = v == TCP_REPAIR_ON; r.on {
			r.queue = tcp.RepairNone
		}
		return nil
	})
	if err != nil {
		return err
	}
	f.share(stack.ShareAddr, false)
	return f.share(stack.ShareForce, v == TCP_REPAIR_ON)
}

func (f *FD) repairing() (v int, err error) {
	err = f.onCore(func(c stack.Repair) error {
		v = b2i(c.On())
		return nil
	}, func(r *repairing) error {
		v = b2i(r.on)
		return nil
	})
	return v, err
}

func (f *FD) setRepairQueue(v int) error {
	return f.onCore(func(c stack.Repair) error {
		return c.SetQueue(tcp.RepairQueue(min(uint(v), 255)))
	}, func(r *repairing) error {
		switch {
		case !r.on:
			return syscall.EPERM
		case v < TCP_NO_QUEUE || v > TCP_SEND_QUEUE:
			return syscall.EINVAL
		}
		r.queue = tcp.RepairQueue(v)
		return nil
	})
}

func (f *FD) repairQueue() (v int, err error) {
	err = f.onCore(func(c stack.Repair) error {
		if v = int(c.Queue()); !c.On() {
			return syscall.EINVAL
		}
		return nil
	}, func(r *repairing) error {
		if v = int(r.queue); !r.on {
			return syscall.EINVAL
		}
		return nil
	})
	return v, err
}

// setQueueSeq is where the chosen queue begins in a connection to come.
func (f *FD) setQueueSeq(v int) error {
	return f.onCore(func(stack.Repair) error { return syscall.EPERM }, func(r *repairing) error {
		if f.listening {
			return syscall.EPERM
		}
		switch r.queue {
		case tcp.RepairSend:
			r.start.Send = uint32(v)
		case tcp.RepairReceive:
			r.start.Receive = uint32(v)
		default:
			return syscall.EINVAL
		}
		return nil
	})
}

func (f *FD) queueSeq() (v int, err error) {
	err = f.onCore(func(c stack.Repair) error {
		n, err := c.Seq()
		v = int(int32(n))
		return err
	}, func(r *repairing) error {
		switch r.queue {
		case tcp.RepairSend:
			v = int(int32(r.start.Send))
		case tcp.RepairReceive:
			v = int(int32(r.start.Receive))
		default:
			return syscall.EINVAL
		}
		return nil
	})
	return v, err
}

// repairRecv is what Recv returns in repair mode where there is no connection.
func (f *FD) repairRecv(flags int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch r := &f.settingsLocked().repair; {
	case f.listening || !r.on || flags&MSG_OOB != 0:
	case flags&MSG_PEEK == 0:
		return syscall.EPERM
	case r.queue == tcp.RepairNone:
		return syscall.EINVAL
	case r.queue == tcp.RepairSend:
		return io.EOF // nothing is in it
	}
	return syscall.ENOTCONN
}

func (f *FD) setTimestamp(v int) error {
	return f.onCore(func(c stack.Repair) error {
		return c.SetTimestamp(uint32(v))
	}, func(r *repairing) error {
		if !r.on {
			return syscall.EPERM
		}
		r.stamp, r.at = uint32(v)|1, time.Now()
		return nil
	})
}

// now is the timestamp clock of a connection to come.
func (r *repairing) now() uint32 {
	if r.at.IsZero() {
		return 0
	}
	return r.stamp + uint32(time.Since(r.at).Milliseconds())
}

func (f *FD) timestamp() (v int, err error) {
	err = f.onCore(func(c stack.Repair) error {
		v = int(int32(c.Timestamp()))
		return nil
	}, func(r *repairing) error {
		v = int(int32(r.now() &^ 1))
		return nil
	})
	return v, err
}

// setRepairOptions takes an array of struct tcp_repair_opt.
func (f *FD) setRepairOptions(b []byte) error {
	if len(b) < 4 {
		return syscall.EINVAL // as any option that is no int
	}
	var list []tcp.RepairOption
	for ; len(b) >= repairOptLen; b = b[repairOptLen:] {
		list = append(list, tcp.RepairOption{Kind: binary.NativeEndian.Uint32(b), Value: binary.NativeEndian.Uint32(b[4:])})
	}
	return f.onCore(func(c stack.Repair) error {
		return c.SetOptions(list)
	}, func(r *repairing) error {
		if !r.on {
			return syscall.EINVAL
		}
		return syscall.EPERM
	})
}

// setRepairWindow takes a struct tcp_repair_window.
func (f *FD) setRepairWindow(b []byte) error {
	if len(b) < 4 {
		return syscall.EINVAL
	}
	w := getRepairWindow(b)
	return f.onCore(func(c stack.Repair) error {
		switch {
		case !c.On():
			return syscall.EPERM
		case len(b) != repairWindowLen:
			return syscall.EINVAL
		}
		return c.SetWindow(w)
	}, func(r *repairing) error {
		if !r.on {
			return syscall.EPERM
		}
		return syscall.EINVAL // there is no connection whose windows these could be
	})
}

// getRepairWindow reads one; what is not as long is all zeros.
func getRepairWindow(b []byte) (w tcp.RepairWindow) {
	if len(b) != repairWindowLen {
		return w
	}
	u32 := func(i int) uint32 { return binary.NativeEndian.Uint32(b[4*i:]) }
	return tcp.RepairWindow{SndWl1: u32(0), SndWnd: u32(1), MaxWnd: u32(2), RcvWnd: u32(3), RcvWup: u32(4)}
}

func putRepairWindow(w tcp.RepairWindow) (b []byte) {
	for _, v := range []uint32{w.SndWl1, w.SndWnd, w.MaxWnd, w.RcvWnd, w.RcvWup} {
		b = binary.NativeEndian.AppendUint32(b, v)
	}
	return b
}

func (f *FD) repairWindow() (b []byte, err error) {
	err = f.onCore(func(c stack.Repair) error {
		w, err := c.Window()
		b = putRepairWindow(w)
		return err
	}, func(r *repairing) error {
		if !r.on {
			return syscall.EPERM
		}
		b = make([]byte, repairWindowLen)
		return nil
	})
	return b, err
}

// repairFin is shutdown(SHUT_RD) in repair mode with the receive queue chosen: the
// peer's FIN has been received.
func repairFin(c stack.Repair) error { return c.Fin() }

// repairedLocked is the end of a Connect in repair mode: the new connection goes
// on with what the socket was told before.
func (f *FD) repairedLocked(c *stack.TCPConn, r *repairing) {
	c.Repair(func(core stack.Repair) error {
		core.SetQueue(r.queue)
		if !r.at.IsZero() {
			core.SetTimestamp(r.now())
		}
		return nil
	})
}
