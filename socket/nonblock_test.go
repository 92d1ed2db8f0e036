package socket_test

import (
	"context"
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
)

// TestNonblock goes through a connection without ever waiting in a call.
func TestNonblock(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{Delay: time.Millisecond}) // or the handshake might be over at once
		l, _ := socket.Socket(p.b, socket.AF_INET, socket.SOCK_STREAM, 0)
		defer l.Close()
		at := netip.MustParseAddrPort("10.77.0.2:80")
		if err := errors.Join(l.Bind(at), l.Listen(1), l.SetNonblock(true)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := l.Accept(context.Background()); err != syscall.EAGAIN {
			t.Errorf("accept without a connection: %v", err)
		}
		c, _ := socket.Socket(p.a, socket.AF_INET, socket.SOCK_STREAM, 0)
		defer c.Close()
		c.SetNonblock(true)
		if r := c.Ready(); r != stack.ReadyOut|stack.ReadyHup {
			t.Errorf("an unconnected stream is ready for %b", r)
		}
		if err := c.Connect(context.Background(), at); err != syscall.EINPROGRESS {
			t.Fatalf("connect: %v", err)
		}
		if err := c.Connect(context.Background(), at); err != syscall.EALREADY {
			t.Errorf("connect again at once: %v", err)
		}
		if c.Ready() != 0 {
			t.Errorf("ready for %b while it connects", c.Ready())
		}
		var g *socket.FD
		waitFor(t, func() bool { var err error; g, _, err = l.Accept(context.Background()); return err == nil })
		defer g.Close()
		if c.Ready() != stack.ReadyOut {
			t.Errorf("connected, but ready for %b", c.Ready())
		}
		for i, want := range []error{nil, syscall.EISCONN} {
			if err := c.Connect(context.Background(), at); err != want {
				t.Errorf("connect %d after the handshake: %v", i, err)
			}
		}
		if n, err := c.Recv(make([]byte, 10), 0); n != 0 || err != syscall.EAGAIN {
			t.Errorf("recv of nothing: %d, %v", n, err)
		}
		sent := 0
		for {
			n, err := c.Send(make([]byte, 1<<20), 0)
			sent += n
			if err == syscall.EAGAIN {
				break
			}
			if err != nil || sent > 1<<30 {
				t.Fatalf("send: %v after %d", err, sent)
			}
		}
		if g.Nonblock() {
			t.Error("an accepted socket does not wait")
		}
		if n, err := g.Recv(make([]byte, 100), 0); n != 100 || err != nil {
			t.Errorf("recv: %d, %v", n, err)
		}
	})
}

// TestNonblockRefused: the reset of a handshake is told by SO_ERROR, once.
func TestNonblockRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		c, _ := socket.Socket(p.a, socket.AF_INET, socket.SOCK_STREAM, 0)
		defer c.Close()
		c.SetNonblock(true)
		at := netip.MustParseAddrPort("10.77.0.2:80")
		if err := c.TakeError(); err != nil {
			t.Errorf("before anything: %v", err)
		}
		if err := c.Connect(context.Background(), at); err != syscall.EINPROGRESS {
			t.Fatal(err)
		}
		waitFor(t, func() bool { return c.Ready()&stack.ReadyErr != 0 })
		for i, want := range []error{syscall.ECONNREFUSED, nil} {
			if err := c.TakeError(); err != want {
				t.Errorf("SO_ERROR %d: %v", i, err)
			}
		}
		for i, want := range []error{syscall.ECONNABORTED, syscall.EINPROGRESS} {
			if err := c.Connect(context.Background(), at); err != want {
				t.Errorf("connect %d after the failure: %v", i, err)
			}
		}
	})
}

// waitFor lets virtual time pass until ok.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for range 1000 {
		if ok() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("it does not happen")
}
