package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// listener hands out what a test dials; it has no queue.
type listener struct {
	conns  chan net.Conn
	closed chan struct{}
	done   atomic.Bool
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	if l.done.CompareAndSwap(false, true) {
		close(l.closed)
	}
	return nil
}

func (l *listener) Addr() net.Addr { return nil }

// TestServe: no more are accepted than the limit says, and the end of the
// context ends all.
func TestServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		ln := &listener{conns: make(chan net.Conn), closed: make(chan struct{})}
		var open atomic.Int32
		served := make(chan error)
		go func() {
			served <- Serve(ctx, ln, 2, func(c net.Conn) {
				open.Add(1)
				defer open.Add(-1)
				_, _ = io.Copy(io.Discard, c) // until it ends, one way or the other
			})
		}()
		var clients []net.Conn
		for range 3 {
			client, server := net.Pipe()
			clients = append(clients, client)
			go func() {
				select {
				case ln.conns <- server:
				case <-ctx.Done():
					server.Close()
				}
			}()
		}
		synctest.Wait()
		if n := open.Load(); n != 2 {
			t.Errorf("%d connections with a limit of 2", n)
		}
		for _, c := range clients {
			c.Close()
		}
		synctest.Wait()
		if n := open.Load(); n != 0 {
			t.Errorf("%d connections are open and nobody is there", n)
		}
		client, server := net.Pipe()
		ln.conns <- server
		synctest.Wait()
		cancel()
		if err := <-served; err == nil {
			t.Error("it has ended without a reason")
		}
		if _, err := client.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the client is still connected: %v", err)
		}
	})
}

// half is an end of a connection whose reads fail.
type half struct {
	net.Conn
	lingered, closed atomic.Bool
	fail             error
}

func (h *half) Read([]byte) (int, error)    { return 0, h.fail }
func (h *half) SetLinger(sec int) error     { h.lingered.Store(sec == 0); return nil }
func (h *half) CloseWrite() error           { return nil }
func (h *half) Close() error                { h.closed.Store(true); return h.Conn.Close() }
func (h *half) Write(b []byte) (int, error) { return len(b), nil }

// TestBothBroken: when one side breaks, both are reset, and it is told why.
func TestBothBroken(t *testing.T) {
	broken := errors.New("broken")
	p, _ := net.Pipe()
	q, peer := net.Pipe()
	a := &half{Conn: p, fail: broken}
	b := &quiet{Conn: q}
	_, _, err := Both(a, b)
	if !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	if !a.lingered.Load() || !a.closed.Load() || !b.lingered.Load() {
		t.Error("not both were reset")
	}
	if _, err := peer.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the other side's peer reads %v", err)
	}
}

// quiet says nothing until it is closed.
type quiet struct {
	net.Conn
	lingered atomic.Bool
}

func (q *quiet) SetLinger(sec int) error { q.lingered.Store(sec == 0); return nil }
