package tcp

import (
	"io"
	"syscall"
	"testing"
	"time"
)

// TestRepairFrozen: nothing comes in, goes out or expires, and the end of it asks
// the peer where it stands.
func TestRepairFrozen(t *testing.T) {
	for _, c := range []struct {
		name string
		ask  bool
		want string
	}{
		{"asks", true, `
			> . 0:0(0) ack 1
			< . 1:1(0) ack 11 win 500
			info SndWnd 500
		`},
		{"does not ask", false, `
			+200ms > P. 1:11(10) ack 1
			< . 1:1(0) ack 11 win 500
		`},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := run(t, opened+`
				knob keepalive 1
				knob keepidle 1
				write 10
				> P. 1:11(10) ack 1
			`)
			tr.c.BeginRepair()
			tr.play(`
				< P. 1:6(5) ack 11
				drop repair
				+60s
				state ESTABLISHED
			`)
			if tr.c.Deadline() != 0 || tr.c.Readable() != 0 {
				t.Errorf("deadline %v, %d bytes", tr.c.Deadline(), tr.c.Readable())
			}
			tr.c.EndRepair(tr.now, c.ask)
			tr.c.SetKnob(tr.now, KnobKeepAlive, 0)
			tr.flush()
			tr.play(c.want)
		})
	}
}

// TestRepairQueues reads both queues of a connection and begins another with them,
// which goes on where the first was: the peer's script does not know of it.
func TestRepairQueues(t *testing.T) {
	tr := run(t, opened+`
		< P. 1:101(100) ack 1
		> . 1:1(0) ack 101
		read 40
		knob cork 1
		write 1500
		> . 1:1461(1460) ack 101
	`)
	old := tr.c
	wantErrno := func(what string, err error, want error) {
		t.Helper()
		if err != want {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	wantErrno("a queue before repair", old.SetRepairQueue(RepairSend), syscall.EPERM)
	_, err := old.RepairWindow()
	wantErrno("the windows before repair", err, syscall.EPERM)
	old.BeginRepair()
	wantErrno("queue 3", old.SetRepairQueue(3), syscall.EINVAL)
	read := func(q RepairQueue) (uint32, []byte) {
		wantErrno("queue", old.SetRepairQueue(q), nil)
		end, err := old.RepairSeq()
		wantErrno("seq", err, nil)
		b := make([]byte, 2000)
		n, err := old.Recv(b, RecvPeek)
		wantErrno("peek", err, nil)
		return end - uint32(n), b[:n]
	}
	rcv, in := read(RepairReceive)
	snd, out := read(RepairSend)
	_, err = old.Recv(make([]byte, 10), RecvPeek)
	wantErrno("a short look", err, syscall.EFAULT)
	_, err = old.Recv(make([]byte, 10), 0)
	wantErrno("reading", err, syscall.EPERM)
	_, err = old.Send([]byte("x"), 0)
	wantErrno("writing", err, syscall.EINVAL)
	if len(in) != 60 || len(out) != 1500 {
		t.Fatalf("%d and %d bytes", len(in), len(out))
	}
	w, _ := old.RepairWindow()
	i := old.Info()
	old.Close(tr.now)
	var seg Segment
	if old.Output(tr.now, &seg, 0) || old.State() != Closed {
		t.Errorf("the old one says %v in %v", seg, old.State())
	}

	c := NewRepaired(&tr.cfg, tr.now, RepairStart{Send: snd, Receive: rcv})
	tr.c = c
	wantErrno("scale", c.SetRepairOptions(tr.now, []RepairOption{{optWScale, 15}}), syscall.EFBIG)
	wantErrno("options", c.SetRepairOptions(tr.now, []RepairOption{{optMSS, uint32(i.PeerMSS)}, {200, 1}}), nil)
	_, err = c.RepairWrite(tr.now, in)
	wantErrno("no queue", err, syscall.EINVAL)
	wantErrno("queue", c.SetRepairQueue(RepairReceive), nil)
	_, err = c.RepairWrite(tr.now, in)
	wantErrno("receive queue", err, nil)
	wantErrno("queue", c.SetRepairQueue(RepairSend), nil)
	_, err = c.Recv(make([]byte, 10), RecvPeek)
	wantErrno("an empty queue", err, io.EOF)
	_, err = c.RepairWrite(tr.now, out[:1460])
	wantErrno("send queue", err, nil)
	if n := c.RepairUnsent(out[1460:]); n != 40 {
		t.Errorf("%d bytes unsent", n)
	}
	bad := w
	bad.MaxWnd = w.SndWnd - 1
	wantErrno("windows", c.SetRepairWindow(bad), syscall.EINVAL)
	wantErrno("windows", c.SetRepairWindow(w), nil)
	if got, _ := c.RepairWindow(); got != w {
		t.Errorf("windows %+v, want %+v", got, w)
	}
	wantErrno("a FIN of the other queue", c.RepairFin(tr.now), syscall.EPERM)
	tr.now = tr.now.Add(time.Second)
	c.EndRepair(tr.now, true)
	tr.flush()
	tr.play(`
		> P. 1461:1501(40) ack 101
		> . 0:0(0) ack 101
		< . 101:101(0) ack 1461
		< P. 101:111(10) ack 1501
		> . 1501:1501(0) ack 111
		read 70
		shutdown
		> F. 1501:1501(0) ack 111
	`)
}
