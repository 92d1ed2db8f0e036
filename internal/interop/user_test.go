package interop

// What a user asks of TCP beyond bytes, with the kernel at the other end:
// urgent data, whose mark must be where it was put however the segments are
// cut, and keep-alives, which must be answered.

import (
	"cmp"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/ether/tap"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// bothEnds makes a connection from the side s and returns its ends.
func (h *host) bothEnds(t *testing.T, s side, fam family) (ours *socket.FD, kernel *net.TCPConn) {
	t.Helper()
	other := h.kernelSide()
	if !s.ours {
		other = h.ourSide()
	}
	l, err := other.listen("tcp", addr(s.peer(fam), 0))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := dial(t, s, "tcp", l.Addr().String(), endurance)
	a, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	if s.ours {
		return c.(*socket.Conn).FD(), a.(*net.TCPConn)
	}
	return a.(*socket.Conn).FD(), c.(*net.TCPConn)
}

// onFD runs f on a kernel connection's descriptor.
func onFD(t *testing.T, c *net.TCPConn, f func(fd int) error) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if e := raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		t.Fatal(e)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// The stream of TestUrgent: the mark lies where super-frames are on their way.
const (
	beforeMark = 300_001
	afterMark  = 200_000
)

func TestUrgent(t *testing.T) {
	t.Parallel()
	h := newHost(t, newLab(t), hostOptions{parallel: true, offload: tap.OffloadAuto, nic: stack.InterfaceConfig{NoDAD: true}})
	h.bothWays(t, false, func(t *testing.T, s side, fam family) {
		ours, kernel := h.bothEnds(t, s, fam)
		if err := ours.SetOOBInline(true); err != nil {
			t.Fatal(err)
		}
		onFD(t, kernel, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1) })
		before, after := make([]byte, beforeMark), make([]byte, afterMark)

		sent := make(chan error, 2)
		go func() {
			_, err := ours.Send(before, 0)
			if err == nil {
				_, err = ours.Send([]byte("!"), socket.MSG_OOB)
			}
			if err == nil {
				_, err = ours.Send(after, 0)
			}
			sent <- err
		}()
		go func() {
			_, err := kernel.Write(before)
			if err == nil {
				onFD(t, kernel, func(fd int) error {
					for {
						err := unix.Sendto(fd, []byte("!"), unix.MSG_OOB, nil)
						if err != unix.EAGAIN {
							return err
						}
						time.Sleep(pause)
					}
				})
				_, err = kernel.Write(after)
			}
			sent <- err
		}()
		atOurs := func() bool {
			at, err := ours.AtMark()
			return at && err == nil
		}
		atKernel := func() (at bool) {
			onFD(t, kernel, func(fd int) error {
				n, err := unix.IoctlGetInt(fd, socket.SIOCATMARK)
				at = n == 1
				return err
			})
			return at
		}
		// Whether the next byte is at the mark is known once it is here.
		peekOurs := func() error {
			_, err := ours.Recv(make([]byte, 1), socket.MSG_PEEK)
			return err
		}
		peekKernel := func() (err error) {
			raw, e := kernel.SyscallConn()
			if e != nil {
				return e
			}
			e = raw.Read(func(fd uintptr) bool {
				_, _, err = unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK)
				return err != unix.EAGAIN
			})
			return cmp.Or(err, e)
		}
		for _, r := range []struct {
			name string
			peek func() error
			read func([]byte) (int, error)
			at   func() bool
		}{
			{"ours", peekOurs, func(b []byte) (int, error) { return ours.Recv(b, 0) }, atOurs},
			{"the kernel's", peekKernel, kernel.Read, atKernel},
		} {
			got, mark, buf := 0, -1, make([]byte, 10_000)
			for got < beforeMark+1+afterMark {
				if err := r.peek(); err != nil {
					t.Fatalf("%s: %v", r.name, err)
				}
				if mark < 0 && r.at() {
					mark = got
				}
				n, err := r.read(buf)
				if err != nil && err != io.EOF || n == 0 {
					t.Fatalf("%s: %d bytes, %v", r.name, got, err)
				}
				if mark >= 0 && got == mark && buf[0] != '!' {
					t.Errorf("%s: %q at the mark", r.name, buf[0])
				}
				got += n
			}
			if mark != beforeMark {
				t.Errorf("%s: the mark is at %d, want %d", r.name, mark, beforeMark)
			}
		}
		for range 2 {
			if err := <-sent; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestKeepAlive(t *testing.T) {
	t.Parallel()
	h := newHost(t, newLab(t), hostOptions{parallel: true, nic: stack.InterfaceConfig{NoDAD: true}})
	h.expect("the kernel's keep-alives", "tcp.drop.out-of-window")
	config := net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 2}
	eachFamily(t, func(t *testing.T, fam family) {
		t.Run("kernel asks", func(t *testing.T) {
			t.Parallel()
			ours, kernel := h.bothEnds(t, h.kernelSide(), fam)
			if err := kernel.SetKeepAliveConfig(config); err != nil {
				t.Fatal(err)
			}
			// The third question would be the end, if the first was not answered.
			eventually(t, 10*patience, "four questions", func() bool { return ours.Stream().Info().Challenges >= 4 })
			if _, err := kernel.Write([]byte("x")); err != nil {
				t.Error(err)
			}
			if n, err := ours.Recv(make([]byte, 2), 0); n != 1 || err != nil {
				t.Error(n, err)
			}
		})
		t.Run("we ask", func(t *testing.T) {
			t.Parallel()
			ours, _ := h.bothEnds(t, h.ourSide(), fam)
			if err := ours.SetKeepAliveConfig(config); err != nil {
				t.Fatal(err)
			}
			eventually(t, 10*patience, "four questions", func() bool { return ours.Stream().Info().KeepAlives >= 4 })
			if st := ours.Stream().State(); st != tcp.Established {
				t.Errorf("%v", st)
			}
		})
	})
}
