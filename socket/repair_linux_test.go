package socket_test

// This file compares repair mode with the kernel's, and shows its parts where the
// kernel cannot be asked.

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

func u32s(list ...uint32) (b []byte) {
	for _, v := range list {
		b = binary.NativeEndian.AppendUint32(b, v)
	}
	return b
}

// repairInts are set and read one after the other.
var repairInts = []struct{ opt, v int }{
	{socket.TCP_REPAIR_QUEUE, 1}, {socket.TCP_TIMESTAMP, 5}, // not yet
	{socket.TCP_REPAIR, 2}, {socket.TCP_REPAIR, -2}, {socket.TCP_REPAIR, 1},
	{socket.TCP_REPAIR_QUEUE, 3}, {socket.TCP_REPAIR_QUEUE, -1}, {socket.TCP_REPAIR_QUEUE, 0},
}

// repairStep does in every state what can be done with repair mode.
func repairStep(x *scene, over bool) {
	m := x.s.(messenger)
	get := func(opt int) {
		v, err := x.s.getInt(socket.SOL_TCP, opt)
		if opt == socket.TCP_QUEUE_SEQ || opt == socket.TCP_TIMESTAMP {
			v = 0 // as it happens
		}
		x.note(fmt.Sprint("get ", opt), v, err)
	}
	raw := func(what string, b []byte) {
		x.note(what+" options", m.setRaw(socket.SOL_TCP, socket.TCP_REPAIR_OPTIONS, b))
	}
	for _, o := range repairInts {
		x.note(fmt.Sprint("set ", o.opt, " to ", o.v), x.s.setInt(socket.SOL_TCP, o.opt, o.v))
		for _, opt := range []int{socket.TCP_REPAIR, socket.TCP_REPAIR_QUEUE, socket.TCP_QUEUE_SEQ} {
			get(opt)
		}
	}
	v, err := x.s.getInt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
	x.note("SO_REUSEADDR", v, err)
	x.recv("recv without a queue", x.s, 20, 0)
	x.recv("peek without a queue", x.s, 20, socket.MSG_PEEK)
	x.send("send without a queue", x.s, "abc", 0, none)
	setSeq := func() {
		if !over { // Linux: it may connect again
			x.note("seq", x.s.setInt(socket.SOL_TCP, socket.TCP_QUEUE_SEQ, 9))
		}
	}
	setSeq()
	for q := socket.TCP_RECV_QUEUE; q <= socket.TCP_SEND_QUEUE; q++ {
		x.note(fmt.Sprint("queue ", q), x.s.setInt(socket.SOL_TCP, socket.TCP_REPAIR_QUEUE, q))
		get(socket.TCP_REPAIR_QUEUE)
		get(socket.TCP_QUEUE_SEQ)
		x.recv("recv", x.s, 20, 0)
		x.recv("peek", x.s, 20, socket.MSG_PEEK)
		setSeq()
		get(socket.TCP_QUEUE_SEQ)
	}
	raw("short", []byte{2, 0, 0})
	raw("half", u32s(2))
	raw("unknown", u32s(77, 5))
	raw("scale", u32s(3, 15))
	raw("SACK", u32s(4, 1))
	raw("timestamp", u32s(8, 1))
	raw("good", u32s(2, 1000, 3, 7|7<<16, 4, 0, 8, 0))
	b := make([]byte, 64)
	n, err := m.getRaw(socket.SOL_TCP, socket.TCP_REPAIR_OPTIONS, b)
	x.note("options", n, err)
	for _, k := range []int{0, 3, 4, 19, 20, 21, 40} {
		if k != 20 {
			x.note(fmt.Sprint("window of ", k), m.setRaw(socket.SOL_TCP, socket.TCP_REPAIR_WINDOW, b[:k]))
		}
		n, err := m.getRaw(socket.SOL_TCP, socket.TCP_REPAIR_WINDOW, b[:k])
		x.note(fmt.Sprint("read of ", k), n, err)
	}
	if _, err := m.getRaw(socket.SOL_TCP, socket.TCP_REPAIR_WINDOW, b[:20]); err == nil {
		binary.NativeEndian.PutUint32(b[4:], 5)
		binary.NativeEndian.PutUint32(b[8:], 4)
		x.note("window larger than ever", m.setRaw(socket.SOL_TCP, socket.TCP_REPAIR_WINDOW, b[:20]))
	}
	x.note("timestamp", x.s.setInt(socket.SOL_TCP, socket.TCP_TIMESTAMP, 5001))
	get(socket.TCP_TIMESTAMP)
	x.note("close", x.s.close())
	x.sys.settle()
	if x.peer != nil {
		x.recv("the peer hears nothing of it", x.peer, 10, 0)
	}
}

// isOver are the states of a connection that has ended, which is a difference: a
// stream socket lives once here.
var isOver = regexp.MustCompile("^(over.*|peer reset.*|peer closed, written to since)$")

// TestRepairLikeKernel does it in every state that lasts.
func TestRepairLikeKernel(t *testing.T) {
	watch(t)
	cases := 0
	for _, domain := range []int{socket.AF_INET, socket.AF_INET6} {
		for _, state := range streamStates {
			cases++
			if d := comparePrivately(t, domain, socket.SOCK_STREAM, func(x *scene) {
				state.make(x)
				x.log = nil
				repairStep(x, isOver.MatchString(state.name))
			}); d != "" {
				t.Errorf("%d/%s:%s", domain, state.name, d)
			}
		}
		cases++
		if d := comparePrivately(t, domain, socket.SOCK_STREAM, byHand); d != "" {
			t.Errorf("%d/by hand:%s", domain, d)
		}
		cases++
		if d := comparePrivately(t, domain, socket.SOCK_DGRAM, func(x *scene) {
			x.live()
			for _, o := range repairInts {
				x.note(fmt.Sprint("set ", o.opt), x.s.setInt(socket.SOL_TCP, o.opt, o.v))
				_, err := x.s.getInt(socket.SOL_TCP, o.opt)
				x.note(fmt.Sprint("get ", o.opt), err)
			}
		}); d != "" {
			t.Errorf("%d/datagrams:%s", domain, d)
		}
	}
	t.Logf("%d cases", cases)
}

// byHand makes both ends of a connection that never was, with text in the queues,
// beside a listener with the same port.
func byHand(x *scene) {
	l := x.socket()
	x.note("bind", l.bind(x.at(0)))
	x.note("listen", l.listen(5))
	ends := []struct {
		at, to    int
		snd, rcv  int
		got, lost string
	}{{0, 1, 1000, -2000, "heard", "never arrived"}, {1, 0, -2000, 1000, "", ""}}
	var socks [2]berkeleySocket
	for i, e := range ends {
		s := x.socket()
		socks[i] = s
		set := func(what string, opt, v int) { x.note(what, s.setInt(socket.SOL_TCP, opt, v)) }
		set("repair", socket.TCP_REPAIR, 1)
		x.note("bind", s.bind(x.at(e.at)))
		set("queue", socket.TCP_REPAIR_QUEUE, socket.TCP_SEND_QUEUE)
		set("seq", socket.TCP_QUEUE_SEQ, e.snd)
		set("queue", socket.TCP_REPAIR_QUEUE, socket.TCP_RECV_QUEUE)
		set("seq", socket.TCP_QUEUE_SEQ, e.rcv)
		x.note("connect", s.connect(x.at(e.to)))
		x.note("poll "+s.poll(), nil)
		v, err := s.getInt(socket.SOL_TCP, socket.TCP_REPAIR_QUEUE)
		x.note("queue", v, err)
		x.note("seq now", s.setInt(socket.SOL_TCP, socket.TCP_QUEUE_SEQ, 3))
		v, err = s.getInt(socket.SOL_TCP, socket.TCP_QUEUE_SEQ)
		x.note("seq", v, err)
		x.note("options", s.(messenger).setRaw(socket.SOL_TCP, socket.TCP_REPAIR_OPTIONS, u32s(2, 1000, 3, 7|7<<16, 4, 0, 8, 0)))
		v, err = s.getInt(socket.SOL_TCP, socket.TCP_MAXSEG)
		x.note("MSS", v, err)
		x.send("receive queue", s, e.got, 0, none)
		set("queue", socket.TCP_REPAIR_QUEUE, socket.TCP_SEND_QUEUE)
		x.send("send queue", s, e.lost, 0, none)
		v, err = s.getInt(socket.SOL_TCP, socket.TCP_QUEUE_SEQ)
		x.note("seq", v, err)
		x.recv("peek", s, 40, socket.MSG_PEEK)
		for _, q := range []int{socket.SIOCINQ, socket.SIOCOUTQ, socket.SIOCOUTQNSD} {
			n, err := s.ioctl(q)
			x.note("queued", n, err)
		}
		// The first end has received what the second has never sent: its
		// numbers are ahead by that.
		rcv := uint32(int32(e.rcv + len(e.got)))
		x.note("window", s.(messenger).setRaw(socket.SOL_TCP, socket.TCP_REPAIR_WINDOW, u32s(rcv-1, 20000, 30000, 40000, rcv)))
		b := make([]byte, 20)
		n, err := s.(messenger).getRaw(socket.SOL_TCP, socket.TCP_REPAIR_WINDOW, b)
		x.note("window", n, err, fmt.Sprintf("%x", b))
	}
	// The second end sends what the first has.
	x.send("sent", socks[1], "heard", 0, none)
	for _, s := range socks {
		x.note("over", s.setInt(socket.SOL_TCP, socket.TCP_REPAIR, 0))
	}
	x.sys.settle()
	for i := range socks {
		if x.s = socks[i]; i == 0 {
			x.send("go on", socks[1], " and more", 0, none)
		} else {
			time.Sleep(2 * time.Second) // until the time-out sends again what never arrived
		}
		x.sys.settle()
		x.recv("recv", x.s, 40, 0)
		x.names()
	}
	x.note("close", socks[0].close())
	x.sys.settle()
	x.recv("recv", socks[1], 40, 0)
}

// TestRepairFreezes: a connection in repair mode stands still, and goes on.
func TestRepairFreezes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{Delay: time.Millisecond})
		c, s := p.connected(t)
		c.Send([]byte("before"), 0)
		time.Sleep(10 * time.Millisecond)
		must(t, c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 3}))
		setOpt(t, c, socket.SOL_TCP, socket.TCP_REPAIR, 1)
		s.Send([]byte("meanwhile"), 0)
		time.Sleep(5 * time.Minute)
		if n := counter(p.a, "tcp.drop.repair"); n == 0 {
			t.Error("nothing was dropped")
		}
		if st := c.Stream().State(); st != tcp.Established {
			t.Fatalf("%v", st)
		}
		if n, err := c.Ioctl(socket.SIOCINQ); n != 0 || err != nil {
			t.Errorf("%d bytes arrived, %v", n, err)
		}
		setOpt(t, c, socket.SOL_TCP, socket.TCP_REPAIR, 0)
		b := make([]byte, 20)
		n, err := c.Recv(b, 0)
		if string(b[:n]) != "meanwhile" || err != nil {
			t.Errorf("%q, %v", b[:n], err)
		}
		c.Send([]byte(" and after"), 0)
		n, err = s.Recv(b[:len("before and after")], socket.MSG_WAITALL)
		if string(b[:n]) != "before and after" || err != nil {
			t.Errorf("%q, %v", b[:n], err)
		}
		if v := getOpt(t, c, socket.SOL_SOCKET, socket.SO_REUSEADDR); v != 0 {
			t.Errorf("SO_REUSEADDR is %d", v)
		}
	})
}

// TestRepairRoom: a queue that does not fit is refused, as is room in one that is
// closed; a copy between connections cannot go on.
func TestRepairRoom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newMover(t, wire.Options{Delay: time.Millisecond}, stack.Config{})
		go m.s.Send(bytes.Repeat([]byte("x"), 100_000), 0)
		time.Sleep(time.Second)
		p, err := m.c.Checkpoint()
		must(t, err)
		_, err = m.c.Recv(make([]byte, 1), 0)
		wantErr(t, "recv", err, syscall.EPERM)
		must(t, m.c.Close())
		m.host.Close()
		m.cfg.Limits.TCPReceive = 10_000
		m.host, _, _ = newHost(t, m.seg, 1, m.cfg)
		_, err = socket.Restore(m.host, p)
		wantErr(t, "too small a host", err, syscall.ENOMEM)
		p.Receive, p.Unsent = nil, 5
		_, err = socket.Restore(m.host, p)
		wantErr(t, "more unsent than there is", err, syscall.EINVAL)
		p.Unsent, p.Local = 0, ap("192.0.2.1:5")
		_, err = socket.Restore(m.host, p)
		wantErr(t, "an address that is not there", err, syscall.EADDRNOTAVAIL)
		_, err = tcp4(t, m.host).Checkpoint()
		wantErr(t, "a fresh socket", err, syscall.ENOTCONN)
		m.s.SetLinger(0)
		m.s.Close()
	})
}
