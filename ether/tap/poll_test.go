package tap

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/internal/pkt"
)

// TestPoll: a goroutine that polls and one that receives get each frame once,
// and nobody waits for it.
func TestPoll(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		for _, o := range []Offload{OffloadOff, OffloadAuto} {
			d := mustOpen(t, l, Options{Name: "tap7", Existing: true, Offload: o})
			const n = 500
			var polled, received atomic.Int64
			count := func(to *atomic.Int64) func(*pkt.Buf) {
				return func(b *pkt.Buf) {
					if isARP(b.Bytes(), 2) {
						to.Add(1)
					}
					b.Put()
				}
			}
			ask := func() {
				if _, err := d.Send(0, []*pkt.Buf{arp(ours, ourIP, kernelIP)}); err != nil {
					t.Fatal(err)
				}
			}
			// Alone.
			ask()
			for end := time.Now().Add(30 * time.Second); polled.Load() == 0 && time.Now().Before(end); {
				d.Poll(0, 8, count(&polled))
			}
			d.Poll(0, 8, count(&polled)) // there is nothing more
			// With a receiver.
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			done := make(chan error, 1)
			all := make(chan struct{}, 1)
			go func() {
				got := count(&received)
				done <- d.Receive(ctx, 0, func(b *pkt.Buf) {
					if got(b); polled.Load()+received.Load() == 1+n {
						select {
						case all <- struct{}{}:
						default: // it has been said
						}
					}
				}, func() {})
			}()
			for range n - 1 {
				ask()
				d.Poll(0, 8, count(&polled))
			}
			// What is left, and the last one, which is asked for when nobody polls,
			// the receiver is woken for.
			ask()
			select {
			case <-all:
			case <-ctx.Done():
			}
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) || polled.Load()+received.Load() != 1+n || polled.Load() == 0 || received.Load() == 0 {
				t.Errorf("offload %v: %d frames polled, %d received, %v", o, polled.Load(), received.Load(), err)
			}
			d.Close()
			d.Poll(0, 8, count(&polled)) // a closed device has no frames
		}
	})
}
