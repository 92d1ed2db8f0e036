package socket_test

// This file compares what poll(2) says with the kernel, in every state that
// TestLikeKernel makes and in those that only readiness is concerned with.

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tapstack/tapstack/socket"
	"golang.org/x/sys/unix"
)

// allEvents asks for everything; a test checks that the numbers are the kernel's.
const allEvents = socket.POLLIN | socket.POLLPRI | socket.POLLOUT | socket.POLLRDNORM | socket.POLLRDBAND |
	socket.POLLWRNORM | socket.POLLWRBAND | socket.POLLMSG | socket.POLLRDHUP

var eventNames = []struct {
	ours, kernel int
	name         string
}{
	{socket.POLLIN, unix.POLLIN, "IN"}, {socket.POLLPRI, unix.POLLPRI, "PRI"}, {socket.POLLOUT, unix.POLLOUT, "OUT"},
	{socket.POLLERR, unix.POLLERR, "ERR"}, {socket.POLLHUP, unix.POLLHUP, "HUP"}, {socket.POLLNVAL, unix.POLLNVAL, "NVAL"},
	{socket.POLLRDNORM, unix.EPOLLRDNORM, "RDNORM"}, {socket.POLLRDBAND, unix.EPOLLRDBAND, "RDBAND"},
	{socket.POLLWRNORM, unix.EPOLLWRNORM, "WRNORM"}, {socket.POLLWRBAND, unix.EPOLLWRBAND, "WRBAND"},
	{socket.POLLMSG, unix.EPOLLMSG, "MSG"}, {socket.POLLRDHUP, unix.EPOLLRDHUP, "RDHUP"},
}

func pollNames(events int16) string {
	var on []string
	for _, e := range eventNames {
		if int(events)&e.ours != 0 {
			on = append(on, e.name)
		}
	}
	return strings.Join(on, " ")
}

func TestPollNumbers(t *testing.T) {
	for _, e := range eventNames {
		if e.ours != e.kernel {
			t.Errorf("%s is %x, the kernel's is %x", e.name, e.ours, e.kernel)
		}
	}
	if socket.EPOLLET != unix.EPOLLET&0xffffffff || socket.EPOLLONESHOT != unix.EPOLLONESHOT ||
		socket.EPOLLEXCLUSIVE != unix.EPOLLEXCLUSIVE || socket.EPOLLWAKEUP != unix.EPOLLWAKEUP {
		t.Error("the numbers of epoll are not the kernel's")
	}
}

// polls notes readiness.
func (x *scene) polls(when string) { x.note(when + ": poll " + x.s.poll()) }

// pollSteps are TestLikeKernel's: readiness in its states, and after each of
// the calls that change it.
var pollSteps = []step{
	{"poll", func(x *scene) { x.polls("now") }},
	{"poll after recv", func(x *scene) {
		x.recv("recv", x.s, 4, 0)
		x.polls("some")
		x.recv("recv", x.s, 20, 0)
		x.polls("the rest")
	}},
	{"poll after SO_ERROR", func(x *scene) {
		x.s.getInt(socket.SOL_SOCKET, socket.SO_ERROR)
		x.polls("taken")
	}},
	{"poll with SO_RCVLOWAT", func(x *scene) {
		for _, n := range []int{11, 10, 9} {
			x.note("set", x.s.setInt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, n))
			x.polls("now")
		}
	}},
	{"poll after shutdowns", func(x *scene) {
		if x.typ == socket.SOCK_STREAM && x.peer == nil {
			return // Linux remembers the shutdown of a stream without a connection
		}
		for _, how := range []int{socket.SHUT_RD, socket.SHUT_WR} {
			x.note("shutdown", x.s.shutdown(how))
			x.sys.settle()
			x.polls("now")
		}
	}},
}

func init() { steps = append(steps, pollSteps...) }

// fill writes until no more fits, though the buffer grows and ACKs may be late.
func (x *scene) fill(s berkeleySocket) {
	b := make([]byte, 1<<16)
	for failed := 0; failed < 10; {
		_, err := s.send(b, 0, none)
		if failed++; err == nil {
			failed = 0
		}
		x.sys.settle()
	}
}

// drainAll reads until nothing is left.
func (x *scene) drainAll(s berkeleySocket) {
	b := make([]byte, 1<<20)
	for empty := 0; empty < 3; {
		n, _, err := s.recv(b, 0)
		if n > 0 {
			empty = 0
			continue
		}
		if err == nil {
			return
		}
		empty++
		x.sys.settle()
	}
}

// pollStates are states of which poll has to be seen, beside those of the
// steps above.
var pollStates = []step{
	{"connecting", func(x *scene) {
		// A full accept queue leaves a client in SYN-SENT.
		l := x.socket()
		x.note("bind", l.bind(x.at(0)))
		x.note("listen", l.listen(0))
		x.s = x.socket()
		x.note("connect", x.s.connect(x.at(0)))
		x.sys.settle()
		x.s = x.socket()
		x.note("connect", x.s.begin(x.at(0)))
		x.sys.settle()
		x.polls("in SYN-SENT")
	}},
	{"refused in the background", func(x *scene) {
		x.s = x.socket()
		x.note("connect", x.s.begin(x.at(0)))
		x.sys.settle()
		x.polls("failed")
		v, err := x.s.getInt(socket.SOL_SOCKET, socket.SO_ERROR)
		x.note("SO_ERROR", v, err)
		x.polls("taken")
	}},
	{"listening", func(x *scene) {
		x.s = x.socket()
		x.note("bind", x.s.bind(x.at(0)))
		x.polls("bound")
		x.note("listen", x.s.listen(2))
		x.polls("nobody")
		c := x.socket()
		x.note("connect", c.connect(x.at(0)))
		x.sys.settle()
		x.polls("somebody")
		x.s.accept()
		x.polls("accepted")
		x.note("shutdown", x.s.shutdown(socket.SHUT_RD))
		x.polls("shut")
	}},
	{"backlog overflow", func(x *scene) {
		l := x.socket()
		x.note("bind", l.bind(x.at(0)))
		x.note("listen", l.listen(1))
		for k := range 5 {
			x.s = x.socket()
			x.note("connect", x.s.begin(x.at(0)))
			x.sys.settle()
			x.polls(fmt.Sprint("client ", k))
		}
		for range 3 {
			_, from, err := l.accept()
			x.note("accept", from, err)
		}
		x.s = x.socket()
		x.note("connect", x.s.begin(x.at(0)))
		x.sys.settle()
		x.polls("when there is room")
	}},
	{"full", func(x *scene) {
		x.connectPair()
		x.fill(x.s)
		x.polls("full")
		x.drainAll(x.peer)
		x.sys.settle()
		x.polls("drained")
	}},
	{"not sent", func(x *scene) {
		x.connectPair()
		x.note("lowat", x.s.setInt(socket.SOL_TCP, socket.TCP_NOTSENT_LOWAT, 1000))
		x.polls("empty")
		x.fill(x.s)
		x.polls("full")
		x.drainAll(x.peer)
		x.sys.settle()
		x.polls("drained")
	}},
	{"FIN-WAIT-1", func(x *scene) {
		x.connectPair()
		x.fill(x.s)
		x.note("shutdown", x.s.shutdown(socket.SHUT_WR))
		x.polls("in FIN-WAIT-1")
		x.note("peer", x.peer.shutdown(socket.SHUT_WR))
		x.sys.settle()
		x.polls("in CLOSING")
		x.drainAll(x.peer)
		x.sys.settle()
		x.polls("in TIME-WAIT")
	}},
	{"LAST-ACK", func(x *scene) {
		x.connectPair()
		x.fill(x.s)
		x.note("peer", x.peer.shutdown(socket.SHUT_WR))
		x.sys.settle()
		x.note("shutdown", x.s.shutdown(socket.SHUT_WR))
		x.polls("in LAST-ACK")
		x.drainAll(x.peer)
		x.sys.settle()
		x.polls("closed")
	}},
	{"urgent", func(x *scene) {
		x.connectPair()
		x.send("urgent", x.peer, "ab!", socket.MSG_OOB, none)
		x.sys.settle()
		x.polls("before the mark")
		x.recv("recv", x.s, 9, 0)
		x.polls("at the mark")
		x.recv("recv urgent", x.s, 1, socket.MSG_OOB)
		x.polls("read")
	}},
	{"abandoned", func(x *scene) {
		x.connectPair()
		x.fill(x.s)
		x.note("close", x.peer.close())
		x.sys.settle()
		x.polls("reset")
		x.recv("recv", x.s, 9, 0)
		x.polls("told")
	}},
}

func TestPollLikeKernel(t *testing.T) {
	watch(t)
	for _, c := range pollStates {
		if d := compare(t, socket.AF_INET, socket.SOCK_STREAM, c.call); d != "" {
			t.Errorf("%s:%s", c.name, d)
		}
	}
}
