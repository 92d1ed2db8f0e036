package socket_test

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/socket"
)

// TestSocketpair: both ends move bytes or datagrams, and leave nothing behind.
func TestSocketpair(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := lone(t)
		for _, domain := range []int{socket.AF_UNIX, socket.AF_INET, socket.AF_INET6} {
			for _, typ := range []int{socket.SOCK_STREAM, socket.SOCK_DGRAM} {
				a, b, err := socket.Socketpair(s, domain, typ, 0)
				must(t, err)
				big := string(pattern(50000))
				for _, text := range []string{"x", big} {
					go a.Send([]byte(text), 0)
					buf := make([]byte, 100000)
					n, err := b.Recv(buf[:len(text)], socket.MSG_WAITALL)
					if err != nil || string(buf[:n]) != text {
						t.Errorf("%d %d: %d bytes, %v", domain, typ, n, err)
					}
				}
				if _, err := b.Send([]byte("back"), 0); err != nil {
					t.Error(err)
				}
				must(t, b.Close())
				buf := make([]byte, 9)
				if n, err := a.Recv(buf, 0); string(buf[:n]) != "back" || err != nil {
					t.Error(string(buf[:n]), err)
				}
				if typ == socket.SOCK_STREAM {
					_, err := a.Recv(buf, 0)
					wantErr(t, "after the other was closed", err, io.EOF)
				}
				must(t, a.Close())
			}
		}
		a, b, err := socket.Socketpair(s, socket.AF_UNIX, socket.SOCK_STREAM|socket.SOCK_NONBLOCK|socket.SOCK_CLOEXEC, 0)
		must(t, err)
		defer a.Close()
		defer b.Close()
		_, err = a.Recv(make([]byte, 1), 0)
		wantErr(t, "Recv", err, syscall.EAGAIN)
		_, _, err = socket.Socketpair(s, socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
		wantErr(t, "of echo requests", err, syscall.EPROTONOSUPPORT)
		_, _, err = socket.Socketpair(s, 77, socket.SOCK_DGRAM, 0)
		wantErr(t, "of no family", err, syscall.EAFNOSUPPORT)
	})
}

// TestFcntl: the flags of a descriptor, and how they come to be.
func TestFcntl(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		f := sock(t, p.a, socket.AF_INET, socket.SOCK_STREAM|socket.SOCK_NONBLOCK, 0)
		flags := func(f *socket.FD) int {
			n, err := f.Fcntl(socket.F_GETFL, 0)
			must(t, err)
			return n
		}
		if n := flags(f); n != socket.O_RDWR|socket.O_NONBLOCK {
			t.Errorf("flags %x", n)
		}
		if v, _ := f.GetsockoptInt(socket.SOL_SOCKET, socket.SO_TYPE); v != socket.SOCK_STREAM {
			t.Error("type", v)
		}
		_, err := f.Fcntl(socket.F_SETFL, 0)
		must(t, err)
		if n := flags(f); n != socket.O_RDWR {
			t.Errorf("flags %x", n)
		}
		must(t, f.IoctlSetInt(socket.FIONBIO, 1))
		if !f.Nonblock() {
			t.Error("FIONBIO")
		}
		_, err = f.Fcntl(socket.F_SETFL, 0x2000)
		wantErr(t, "O_ASYNC", err, syscall.EINVAL)
		_, err = f.Fcntl(77, 0)
		wantErr(t, "command", err, syscall.EINVAL)
		wantErr(t, "ioctl", f.IoctlSetInt(1, 1), syscall.ENOTTY)

		l := listen(t, p.b, "10.77.0.2:7", 4)
		c := tcp4(t, p.a)
		must(t, c.Connect(bg, ap("10.77.0.2:7")))
		_, _, err = l.Accept4(bg, 1)
		wantErr(t, "accept4", err, syscall.EINVAL)
		g, _, err := l.Accept4(bg, socket.SOCK_NONBLOCK)
		must(t, err)
		defer g.Close()
		if !g.Nonblock() {
			t.Error("accept4")
		}
	})
}

// TestTimeouts: SO_RCVTIMEO and SO_SNDTIMEO end each call by itself.
func TestTimeouts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		l := listen(t, p.b, "10.77.0.2:9", 4)
		c, s := p.connected(t)
		u := udp4(t, p.a)
		must(t, u.Bind(ap("10.77.0.1:9")))
		for _, f := range []*socket.FD{l, c, s, u} {
			must(t, f.SetReceiveTimeout(2*time.Second))
			must(t, f.SetSendTimeout(3*time.Second))
		}
		if c.ReceiveTimeout() != 2*time.Second || c.SendTimeout() != 3*time.Second {
			t.Error(c.ReceiveTimeout(), c.SendTimeout())
		}
		takes := func(what string, want time.Duration, wantE error, call func() (int, error)) int {
			t.Helper()
			r := <-start(call)
			wantErr(t, what, r.err, wantE)
			if r.at != want {
				t.Errorf("%s takes %v, want %v", what, r.at, want)
			}
			return r.n
		}
		b := make([]byte, 10)
		takes("Recv", 2*time.Second, syscall.EAGAIN, func() (int, error) { return c.Recv(b, 0) })
		takes("Recv again", 2*time.Second, syscall.EAGAIN, func() (int, error) { return c.Recv(b, 0) })
		takes("peek", 2*time.Second, syscall.EAGAIN, func() (int, error) { return c.Recv(b, socket.MSG_PEEK) })
		takes("RecvFrom", 2*time.Second, syscall.EAGAIN, func() (int, error) { return u.Recv(b, 0) })
		takes("Accept", 2*time.Second, syscall.EAGAIN, func() (int, error) { _, _, err := l.Accept(bg); return 0, err })
		// What comes meanwhile does not make the call longer.
		time.AfterFunc(1500*time.Millisecond, func() { s.Send([]byte("abc"), 0) })
		if n := takes("MSG_WAITALL", 2*time.Second, nil, func() (int, error) { return c.Recv(b, socket.MSG_WAITALL) }); n != 3 {
			t.Error(n, "bytes")
		}
		if n := takes("Send", 3*time.Second, nil, func() (int, error) { return c.Send(make([]byte, 64<<20), 0) }); n == 0 || n == 64<<20 {
			t.Error(n, "bytes sent")
		}
		for err := error(nil); err == nil; { // until there is really no room
			_, err = c.Send(make([]byte, 1<<20), 0)
			if err != nil && err != syscall.EAGAIN {
				t.Fatal(err)
			}
		}
		takes("Send again", 3*time.Second, syscall.EAGAIN, func() (int, error) { return c.Send(b, 0) })
		ctx, cancel := context.WithTimeout(bg, time.Second)
		defer cancel()
		takes("Accept with a context", time.Second, context.DeadlineExceeded, func() (int, error) { _, _, err := l.Accept(ctx); return 0, err })
		must(t, c.SetReceiveTimeout(0))
		must(t, s.Close())
		takes("Recv without a time-out", 0, syscall.ECONNRESET, func() (int, error) { return c.Recv(b, 0) })
	})
}

// TestConnectTimeout: Connect goes on in the background and its result is told.
func TestConnectTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		p.blackHole(t)
		f := tcp4(t, p.a)
		must(t, f.SetSendTimeout(2*time.Second))
		wantErr(t, "Connect", f.Connect(bg, ap("192.0.2.1:7")), syscall.EINPROGRESS)
		wantErr(t, "again", f.Connect(bg, ap("192.0.2.1:7")), syscall.EALREADY)
		if r := f.Revents(); r != 0 {
			t.Errorf("events %x", r)
		}
		fds := []socket.PollFD{{FD: f, Events: socket.POLLOUT}}
		socket.Poll(fds, -1)
		wantErr(t, "at last", f.Connect(bg, ap("192.0.2.1:7")), syscall.ETIMEDOUT)
	})
}

// TestShutdownAndCloseRaces: whatever is called when Close comes returns, and says so.
func TestShutdownAndCloseRaces(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		for round := range 20 {
			c, s := p.connected(t)
			l := listen(t, p.a, "10.77.0.1:8", 4)
			u := udp4(t, p.a)
			must(t, u.Bind(ap("10.77.0.1:8")))
			calls := []func() error{
				func() error { _, err := c.Recv(make([]byte, 9), 0); return err },
				func() error { _, err := c.Recv(make([]byte, 9), socket.MSG_PEEK); return err },
				func() error { _, err := c.Send(make([]byte, 64<<20), 0); return err },
				func() error { _, err := c.Send(make([]byte, 64<<20), 0); return err },
				func() error { _, _, err := l.Accept(bg); return err },
				func() error { _, err := u.Recv(make([]byte, 9), 0); return err },
			}
			errs := make([]error, len(calls))
			var all sync.WaitGroup
			for i, call := range calls {
				all.Go(func() { errs[i] = call() })
			}
			if round%2 == 0 {
				synctest.Wait() // all wait, or some have not begun
			}
			for _, f := range []*socket.FD{c, l, u} {
				all.Go(func() { f.Close() })
				all.Go(func() { f.Close() })
				all.Go(func() { f.Shutdown(socket.SHUT_RDWR) })
			}
			all.Wait()
			for i, err := range errs {
				switch {
				case err == nil || strings.Contains(err.Error(), net.ErrClosed.Error()):
				case err == io.EOF, err == syscall.EPIPE, err == syscall.EINVAL, err == syscall.ECONNRESET, err == syscall.EAGAIN:
					// Shutdown was first.
				default:
					t.Errorf("round %d, call %d: %v", round, i, err)
				}
			}
			s.Close()
		}
	})
}
