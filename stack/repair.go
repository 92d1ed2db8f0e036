package stack

import (
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/tcp"
)

// This file owns how a connection is taken out of the stack and put into another
// (TCP_REPAIR). What repair mode is and does is in tcp/repair.go.

// Repair is a connection during TCPConn.Repair. Its methods are those of tcp.Conn
// with similar names.
type Repair struct {
	core *tcp.Conn
	now  mono.Time
}

// Repair calls f with the connection, and sends what follows. f must not keep it.
func (c *TCPConn) Repair(f func(r Repair) error) (err error) {
	c.act(func(now mono.Time) { err = f(Repair{c.core, now}) })
	return err
}

// On reports whether repair mode is on; Begin and End turn it on and off.
func (r Repair) On() bool { return r.core.InRepair() }

// Begin freezes the connection.
func (r Repair) Begin() { r.core.BeginRepair() }

// End lets it go on; with ask the peer is asked where it stands.
func (r Repair) End(ask bool) { r.core.EndRepair(r.now, ask) }

// Queue returns the queue that was chosen last, SetQueue chooses one.
func (r Repair) Queue() tcp.RepairQueue { return r.core.RepairQueue() }

// SetQueue chooses a queue.
func (r Repair) SetQueue(q tcp.RepairQueue) error { return r.core.SetRepairQueue(q) }

// Seq returns the number after the last byte of the chosen queue.
func (r Repair) Seq() (uint32, error) { return r.core.RepairSeq() }

// Peek reads the chosen queue, Write appends to it.
func (r Repair) Peek(p []byte) (int, error) { return r.core.Recv(p, tcp.RecvPeek) }

// Write appends to the chosen queue.
func (r Repair) Write(p []byte) (int, error) { return r.core.RepairWrite(r.now, p) }

// Unsent appends to the send queue what was not sent yet.
func (r Repair) Unsent(p []byte) int { return r.core.RepairUnsent(p) }

// SetOptions sets what the handshake would have agreed on.
func (r Repair) SetOptions(list []tcp.RepairOption) error {
	return r.core.SetRepairOptions(r.now, list)
}

// Window returns both windows, SetWindow sets them.
func (r Repair) Window() (tcp.RepairWindow, error) { return r.core.RepairWindow() }

// SetWindow sets both windows.
func (r Repair) SetWindow(w tcp.RepairWindow) error { return r.core.SetRepairWindow(w) }

// Timestamp returns the timestamp clock, SetTimestamp sets it.
func (r Repair) Timestamp() uint32 { return r.core.Timestamp(r.now) }

// SetTimestamp sets the timestamp clock.
func (r Repair) SetTimestamp(v uint32) error { return r.core.SetTimestamp(r.now, v) }

// Fin says that the peer's FIN was received, CloseWrite that ours was sent.
func (r Repair) Fin() error { return r.core.RepairFin(r.now) }

// CloseWrite ends the send queue.
func (r Repair) CloseWrite() error { return r.core.CloseWrite(r.now) }

// Info returns the connection's numbers.
func (r Repair) Info() tcp.Info { return r.core.Info() }
