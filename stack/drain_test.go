package stack_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// TestDrainPatience: a peer that has acknowledged our FIN and keeps its own side
// open is waited for by Drain no longer than a program takes to end; one that
// has not acknowledged is waited for until the context ends.
func TestDrainPatience(t *testing.T) {
	for _, c := range []struct {
		name   string
		before func(p *peerConn) // Drain
		during func(p *peerConn)
		want   time.Duration
	}{
		{"closed before", func(p *peerConn) { p.conn.Close(); p.take(); p.input(tcp.FlagACK, "") }, nil, 200 * time.Millisecond},
		{"half-closed before", func(p *peerConn) { _ = p.conn.CloseWrite(); p.take(); p.input(tcp.FlagACK, "") }, nil, 200 * time.Millisecond},
		{"closed by it", nil, func(p *peerConn) {
			p.take()
			time.Sleep(time.Second)
			p.input(tcp.FlagACK, "")
		}, 1200 * time.Millisecond},
		{"the peer ends", nil, func(p *peerConn) {
			p.take()
			time.Sleep(time.Second)
			p.input(tcp.FlagACK, "")
			time.Sleep(50 * time.Millisecond)
			p.input(tcp.FlagACK|tcp.FlagFIN, "")
		}, 1050 * time.Millisecond},
		{"silent", nil, nil, 3 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
				h.answers()
				p := h.connect(h.listen(80, 5), false, 4000)
				if c.before != nil {
					c.before(p)
				}
				ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
				defer cancel()
				began, done := time.Now(), make(chan struct{})
				go func() { h.s.Drain(ctx); close(done) }()
				synctest.Wait()
				if c.during != nil {
					c.during(p)
				}
				<-done
				if took := time.Since(began); took != c.want {
					t.Errorf("took %v, want %v", took, c.want)
				}
				h.s.Close()
			})
		})
	}
}
