package wire

// This file tests ports: how they are read, closed and used from many
// goroutines. wire_test.go tests what the segment does to frames.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/pkt"
)

// A stack answers from inside deliver, and closes from there.
func TestSendAndCloseFromDeliver(t *testing.T) {
	p := newPair(t, Options{Delay: time.Millisecond})
	echoes := 0
	p.b.Attach(func(b *pkt.Buf) {
		h := ether.Header(b.Bytes())
		ether.Put(b.Bytes(), h.Src(), mac(2), h.Type())
		if _, err := p.b.Send(0, []*pkt.Buf{b}); err != nil {
			t.Error(err)
		}
	}, func() {})
	p.a.Attach(func(b *pkt.Buf) {
		b.Put()
		if echoes++; echoes == 3 {
			p.s.Close()
			return
		}
		p.send(t, echoes, 60)
	}, func() {})
	p.send(t, 0, 60)
	p.c.advance(time.Second)
	if echoes != 3 {
		t.Errorf("%d echoes", echoes)
	}
}

func TestPull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(mono.NewSystem(), Options{Delay: 20 * time.Millisecond})
		a, b := s.Attach("a", mac(1)), s.Attach("b", mac(2))
		start := time.Now()
		var got []arrival
		idles := 0
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- b.Receive(ctx, 0, func(f *pkt.Buf) {
				got = append(got, arrival{time.Since(start), number(f)})
				f.Put()
			}, func() { idles++ })
		}()
		for i := range 3 {
			if _, err := a.Send(0, []*pkt.Buf{frame(mac(2), mac(1), i, 60)}); err != nil {
				t.Error(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if want := "[20ms:0 30ms:1 40ms:2]"; fmt.Sprint(got) != want || idles != 3 {
			t.Errorf("got %v in %d batches, want %s", got, idles, want)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}

		// Close wakes a sleeping Receive.
		go func() { done <- b.Receive(t.Context(), 0, (*pkt.Buf).Put, func() {}) }()
		synctest.Wait()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
		s.Close()
	})
}

func TestClosed(t *testing.T) {
	p := newPair(t, Options{Delay: time.Second})
	p.send(t, 0, 60)
	if err := p.b.Close(); err != nil {
		t.Error(err)
	}
	if err := p.b.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
	if err := p.b.Receive(context.Background(), 0, (*pkt.Buf).Put, func() {}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Receive after Close: %v", err)
	}
	if n, err := p.b.Send(0, []*pkt.Buf{frame(mac(1), mac(2), 0, 60)}); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("Send after Close: %d, %v", n, err)
	}
	p.c.advance(2 * time.Second)
	if st := p.b.Stats(); st.NoReceiver != 1 {
		t.Errorf("%+v", st)
	}
	p.send(t, 1, 60)
	p.s.Close()
	p.s.Close()
	if err := p.a.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("port of a closed segment: %v", err)
	}
	late := p.s.Attach("late", mac(9))
	if err := late.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("attached to a closed segment: %v", err)
	}
}

func TestPortQueueIsBounded(t *testing.T) {
	s := New(newClock(), Options{PortQueue: 10})
	defer s.Close()
	a, b := s.Attach("a", mac(1)), s.Attach("b", mac(2))
	for i := range 15 {
		if _, err := a.Send(0, []*pkt.Buf{frame(mac(2), mac(1), i, 60)}); err != nil {
			t.Fatal(err)
		}
	}
	if st := b.Stats(); st.QueueDrops != 5 {
		t.Errorf("%+v", st)
	}
}

// Real goroutines on a system clock, for the race detector: no frame is lost
// and each sender's frames keep their order.
func TestConcurrent(t *testing.T) {
	for _, o := range []Options{{}, {Pull: true}, {Delay: 100 * time.Microsecond, Jitter: 100 * time.Microsecond}} {
		s := New(nil, o)
		const senders, each = 4, 500
		sink := s.Attach("sink", mac(100))
		next := make(map[ether.Addr]int)
		done := make(chan struct{})
		total := 0
		deliver := func(b *pkt.Buf) {
			src := ether.Header(b.Bytes()).Src()
			if number(b) != next[src] {
				t.Errorf("%v: got %d, want %d", src, number(b), next[src])
			}
			next[src]++
			b.Put()
			if total++; total == senders*each {
				close(done)
			}
		}
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		if !sink.Attach(deliver, func() {}) {
			wg.Go(func() {
				if err := sink.Receive(ctx, 0, deliver, func() {}); !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		}
		for i := range senders {
			p := s.Attach("sender", mac(i))
			wg.Go(func() {
				for n := range each {
					if _, err := p.Send(0, []*pkt.Buf{frame(mac(100), mac(i), n, 60)}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		<-done
		cancel()
		wg.Wait()
		s.Close()
	}
}

func TestNoAllocations(t *testing.T) {
	for _, o := range []Options{{}, {Delay: time.Millisecond, Rate: 1e9}} {
		c := newClock()
		s := New(c, o)
		a, b := s.Attach("a", mac(1)), s.Attach("b", mac(2))
		frames := make([]*pkt.Buf, 1)
		turn := func() {
			frames[0] = frame(mac(2), mac(1), 0, 60)
			a.Send(0, frames)
			c.advance(2 * time.Millisecond)
			f, _ := b.take()
			f.Put()
		}
		if n := testing.AllocsPerRun(500, turn); n != 0 {
			t.Errorf("%v allocations for a frame", n)
		}
		s.Close()
	}
}
