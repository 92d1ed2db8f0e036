package socket_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
)

// setDeadline sets the deadline that the call obeys.
func (c blockingCall) setDeadline(f *socket.FD, t time.Time) error {
	if c.write {
		return f.SetWriteDeadline(t)
	}
	return f.SetReadDeadline(t)
}

// each runs f for every call that waits, in virtual time: a year is nothing.
func each(t *testing.T, f func(t *testing.T, p *pair, c blockingCall, fd *socket.FD, run func(context.Context) (int, error))) {
	for _, c := range blockingCalls {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				// A black hole is not given up before the deadlines here.
				p := newPairConfig(t, wire.Options{}, stack.Config{TCP: stack.TCPConfig{SynRetries: 20}})
				fd, run := c.prepare(t, p)
				f(t, p, c, fd, run)
			})
		})
	}
}

// await checks how and when a call ended.
func await(t *testing.T, what string, ch <-chan result, want error, at time.Duration) {
	t.Helper()
	r := <-ch
	wantErr(t, what, r.err, want)
	if r.at != at {
		t.Errorf("%s: returned after %v, want %v", what, r.at, at)
	}
}

func TestDeadlines(t *testing.T) {
	each(t, func(t *testing.T, p *pair, c blockingCall, fd *socket.FD, run func(context.Context) (int, error)) {
		call := func() (int, error) { return run(context.Background()) }
		after := func(d time.Duration) time.Time { return time.Now().Add(d) }

		must(t, c.setDeadline(fd, past))
		await(t, "past", start(call), os.ErrDeadlineExceeded, 0)

		must(t, c.setDeadline(fd, after(time.Second)))
		await(t, "future", start(call), os.ErrDeadlineExceeded, time.Second)
		await(t, "still past", start(call), os.ErrDeadlineExceeded, 0)

		must(t, c.setDeadline(fd, after(time.Second)))
		ch := start(call)
		time.Sleep(time.Second / 2)
		must(t, c.setDeadline(fd, after(2*time.Second)))
		await(t, "moved later", ch, os.ErrDeadlineExceeded, 2500*time.Millisecond)

		must(t, c.setDeadline(fd, after(time.Hour)))
		ch = start(call)
		time.Sleep(time.Second)
		must(t, c.setDeadline(fd, after(time.Second)))
		await(t, "moved sooner", ch, os.ErrDeadlineExceeded, 2*time.Second)

		must(t, c.setDeadline(fd, after(time.Second)))
		ch = start(call)
		time.Sleep(time.Second / 2)
		must(t, c.setDeadline(fd, time.Time{}))
		time.Sleep(time.Second * 5)
		must(t, c.setDeadline(fd, past))
		await(t, "removed, then set to the past", ch, os.ErrDeadlineExceeded, 5500*time.Millisecond)

		must(t, c.setDeadline(fd, time.Time{}))
		ch = start(call)
		time.Sleep(time.Second)
		if len(ch) != 0 {
			t.Errorf("removed: returned %v", (<-ch).err)
		}
		must(t, c.setDeadline(fd, after(0)))
		await(t, "now", ch, os.ErrDeadlineExceeded, time.Second)
	})
}

func TestDeadlineOfTheOtherDirection(t *testing.T) {
	each(t, func(t *testing.T, p *pair, c blockingCall, fd *socket.FD, run func(context.Context) (int, error)) {
		c.write = !c.write
		must(t, c.setDeadline(fd, past))
		ch := start(func() (int, error) { return run(context.Background()) })
		time.Sleep(time.Second)
		if len(ch) != 0 {
			t.Errorf("returned %v", (<-ch).err)
		}
	})
}

func TestManyWaitersOneDeadline(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		c, _ := p.connected(t)
		var calls []<-chan result
		for range 20 {
			calls = append(calls, start(func() (int, error) { return c.Recv(make([]byte, 1), 0) }))
			calls = append(calls, start(func() (int, error) { return c.Send(make([]byte, 32<<20), 0) }))
		}
		time.Sleep(time.Second)
		c.SetDeadline(time.Now().Add(time.Second))
		for _, ch := range calls {
			await(t, "waiter", ch, os.ErrDeadlineExceeded, 2*time.Second)
		}
	})
}

func TestCloseEndsWaiting(t *testing.T) {
	each(t, func(t *testing.T, p *pair, c blockingCall, fd *socket.FD, run func(context.Context) (int, error)) {
		var calls []<-chan result
		for range 3 {
			calls = append(calls, start(func() (int, error) { return run(context.Background()) }))
			if c.name == "Connect" {
				break // there can only be one
			}
		}
		time.Sleep(time.Second)
		must(t, fd.Close())
		for _, ch := range calls {
			await(t, "close", ch, net.ErrClosed, time.Second)
		}
		_, err := run(context.Background())
		wantErr(t, "after close", err, net.ErrClosed)
		wantErr(t, "second close", fd.Close(), net.ErrClosed)
		wantErr(t, "deadline after close", fd.SetDeadline(time.Now()), net.ErrClosed)
	})
}

func TestStackCloseEndsWaiting(t *testing.T) {
	each(t, func(t *testing.T, p *pair, c blockingCall, fd *socket.FD, run func(context.Context) (int, error)) {
		ch := start(func() (int, error) { return run(context.Background()) })
		time.Sleep(time.Second)
		p.a.Close()
		r := <-ch
		if !errors.Is(r.err, net.ErrClosed) && !errors.Is(r.err, syscall.ECONNABORTED) || r.at != time.Second {
			t.Errorf("returned %v after %v", r.err, r.at)
		}
	})
}

func TestContextEndsWaiting(t *testing.T) {
	each(t, func(t *testing.T, p *pair, c blockingCall, fd *socket.FD, run func(context.Context) (int, error)) {
		if !c.context {
			return
		}
		ctx, cancel := context.WithCancel(context.Background())
		ch := start(func() (int, error) { return run(ctx) })
		time.Sleep(time.Second)
		cancel()
		await(t, "cancelled", ch, context.Canceled, time.Second)
		await(t, "already cancelled", start(func() (int, error) { return run(ctx) }), context.Canceled, 0)

		ctx, cancel = context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		await(t, "time-out", start(func() (int, error) { return run(ctx) }), context.DeadlineExceeded, time.Second)
		await(t, "socket usable again", start(func() (int, error) {
			c.setDeadline(fd, time.Now().Add(time.Second))
			return run(bg)
		}), os.ErrDeadlineExceeded, time.Second)
	})
}

func TestDialContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		p.blackHole(t)
		dial := func(ctx context.Context) (int, error) {
			c, err := p.na.DialContext(ctx, "tcp", "192.0.2.1:80")
			if err == nil {
				c.Close()
			}
			return 0, err
		}
		check := func(r result, timeout bool, at time.Duration, text string, is ...error) {
			t.Helper()
			var op *net.OpError
			if !errors.As(r.err, &op) || op.Op != "dial" || op.Net != "tcp" || op.Addr.String() != "192.0.2.1:80" {
				t.Fatalf("%#v", r.err)
			}
			for _, e := range is {
				wantErr(t, "dial", r.err, e)
			}
			if op.Timeout() != timeout || r.at != at || r.err.Error() != "dial tcp 192.0.2.1:80: "+text {
				t.Errorf("%q after %v, time-out %v", r.err, r.at, op.Timeout())
			}
		}
		ctx, cancel := context.WithCancel(context.Background())
		ch := start(func() (int, error) { return dial(ctx) })
		time.Sleep(time.Second)
		cancel()
		check(<-ch, false, time.Second, "operation was canceled", context.Canceled)
		check(<-start(func() (int, error) { return dial(ctx) }), false, 0, "operation was canceled", context.Canceled)
		ctx, cancel = context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		check(<-start(func() (int, error) { return dial(ctx) }), true, 3*time.Second, "i/o timeout", context.DeadlineExceeded, os.ErrDeadlineExceeded)
		r := <-start(func() (int, error) { return dial(context.Background()) })
		// SYNs at 0, 1, 3, 7, 15, 31 and 63 s, and as long again for the last.
		check(r, true, 127*time.Second, "connect: connection timed out", syscall.ETIMEDOUT)
	})
}

// TestDeadlineInsideWrite checks that a Write reports what it has sent, and
// that just this arrives.
func TestDeadlineInsideWrite(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		c, s := p.connected(t)
		data := pattern(32 << 20)
		c.SetWriteDeadline(time.Now().Add(5 * time.Second))
		n, err := c.Send(data, 0)
		wantErr(t, "send", err, os.ErrDeadlineExceeded)
		if n == 0 || n == len(data) {
			t.Fatalf("sent %d of %d", n, len(data))
		}
		must(t, c.Shutdown(socket.SHUT_WR))
		got, err := recvAll(s)
		if err != nil || !bytes.Equal(got, data[:n]) {
			t.Errorf("received %d bytes, sent %d: %v", len(got), n, err)
		}
	})
}

// TestWritesStayTogether: what one Write gives is not torn by others, as with
// package net, even when the send buffer is full most of the time.
func TestWritesStayTogether(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPairConfig(t, wire.Options{}, stack.Config{Limits: stack.Limits{TCPSend: 3000, TCPReceive: 5000}})
		c, s := p.connected(t)
		const writers, each, size = 8, 10, 7000
		done := make(chan error, writers)
		for w := range writers {
			go func() {
				b := bytes.Repeat([]byte{byte(w)}, size)
				var err error
				for n := 0; n < each && err == nil; n++ {
					_, err = c.Send(b, 0)
				}
				done <- err
			}()
		}
		go func() {
			for range writers {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
			c.Shutdown(socket.SHUT_WR)
		}()
		got, err := recvAll(s)
		if err != nil || len(got) != writers*each*size {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		for ; len(got) > 0; got = got[size:] {
			if bytes.Count(got[:size], got[:1]) != size {
				t.Fatal("a write was torn apart")
			}
		}
	})
}

// TestManyReaders: every byte goes to exactly one of them, and none sleeps on.
func TestManyReaders(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		c, s := p.connected(t)
		const readers = 10
		got := make(chan int, readers)
		for range readers {
			go func() {
				b, err := recvAll(s)
				if err != nil {
					t.Error(err)
				}
				got <- len(b)
			}()
		}
		for range 100 {
			c.Send(make([]byte, 1000), 0)
			synctest.Wait()
		}
		c.Shutdown(socket.SHUT_WR)
		sum := 0
		for range readers {
			sum += <-got
		}
		if sum != 100*1000 {
			t.Errorf("%d bytes", sum)
		}
	})
}

// TestShutdownWakes: a call that waits learns of a Shutdown on this side.
func TestShutdownWakes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		c, _ := p.connected(t)
		r := start(func() (int, error) { return c.Recv(make([]byte, 1), 0) })
		w := start(func() (int, error) { return c.Send(make([]byte, 32<<20), 0) })
		time.Sleep(time.Second)
		must(t, c.Shutdown(socket.SHUT_RD))
		if got := <-r; errname(got.err) != "EOF" {
			t.Errorf("read: %v", got.err)
		}
		must(t, c.Shutdown(socket.SHUT_WR))
		await(t, "write", w, syscall.EPIPE, time.Second)

		u := udp4(t, p.a)
		must(t, u.Bind(ap("0.0.0.0:5")))
		r = start(func() (int, error) { return u.Recv(make([]byte, 1), 0) })
		time.Sleep(time.Second)
		wantErr(t, "shutdown without a peer", u.Shutdown(socket.SHUT_RDWR), syscall.ENOTCONN)
		if got := <-r; errname(got.err) != "EOF" {
			t.Errorf("datagram read: %v", got.err)
		}
		_, err := u.SendTo([]byte{1}, 0, ap("10.77.0.2:5"))
		wantErr(t, "datagram write", err, syscall.EPIPE)
	})
}

// TestConnectTwice: of two connects at the same time one is told so.
func TestConnectTwice(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		p.blackHole(t)
		c := tcp4(t, p.a)
		ch := start(func() (int, error) { return 0, c.Connect(bg, ap("192.0.2.1:7")) })
		time.Sleep(time.Second)
		wantErr(t, "second", c.Connect(bg, ap("192.0.2.1:7")), syscall.EALREADY)
		c.Close()
		await(t, "first", ch, net.ErrClosed, time.Second)
	})
}

// TestCloseRaces closes sockets at any moment of what they do.
func TestCloseRaces(t *testing.T) {
	watch(t)
	s := lone(t)
	n := socket.Net(s)
	for range 200 {
		l, err := n.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				c, err := l.Accept()
				if err != nil {
					if !errors.Is(err, net.ErrClosed) {
						t.Errorf("accept: %v", err)
					}
					return
				}
				go func() { c.Write([]byte{1}); c.Close() }()
			}
		}()
		c, err := n.Dial("tcp", l.Addr().String())
		must(t, err)
		go func() { c.Read(make([]byte, 1)); c.Close() }()
		go c.Write([]byte{1})
		go c.SetDeadline(time.Now().Add(time.Millisecond))
		l.Close()
		<-done
	}
}
