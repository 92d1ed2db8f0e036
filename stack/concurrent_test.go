package stack_test

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// The tests of this file run a stack as programs do, with readers, timers and
// applications on goroutines of their own, in the virtual time of synctest.

// wait blocks until try says something else than EAGAIN.
func wait(q *stack.WaitQueue, r stack.Ready, try func() error) error {
	token := make(chan struct{}, 1)
	w := &stack.Waiter{Want: r, F: func(stack.Ready) {
		select {
		case token <- struct{}{}:
		default:
		}
	}}
	q.Add(w)
	defer q.Remove(w)
	for {
		if err := try(); err != syscall.EAGAIN {
			return err
		}
		<-token
	}
}

func readAll(c *stack.TCPConn) (n int, err error) {
	buf := make([]byte, 32<<10)
	for {
		var m int
		err = wait(c.Waiters(), stack.ReadyIn, func() (err error) { m, err = c.Read(buf); return err })
		if n += m; err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

func writeAll(c *stack.TCPConn, n int) error {
	buf := make([]byte, 32<<10)
	for n > 0 {
		var m int
		if err := wait(c.Waiters(), stack.ReadyOut, func() (err error) { m, err = c.Write(buf[:min(n, len(buf))]); return err }); err != nil {
			return err
		}
		n -= m
	}
	return c.CloseWrite()
}

// hostOn attaches a new stack to a segment that has readers of its own.
func hostOn(t *testing.T, seg *wire.Segment, n byte, noDAD bool, addrs ...string) (*stack.Stack, *stack.Interface) {
	t.Helper()
	s := stack.New(stack.Config{Seed: uint64(n)})
	mac := ether.Addr{2, 0, 0, 0, 0, n}
	i, err := s.AddInterface(stack.InterfaceConfig{Name: "eth0", Device: seg.Attach("", mac), MAC: mac, NoDAD: noDAD})
	for _, a := range addrs {
		if err == nil {
			err = i.AddAddr(netip.MustParsePrefix(a))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return s, i
}

// TestManyGoroutines transfers on several connections at once, over the wire
// and over loopback; it is there for the race detector.
func TestManyGoroutines(t *testing.T) {
	for _, pull := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			seg := wire.New(mono.NewSystem(), wire.Options{Delay: time.Millisecond, Loss: 0.01, Pull: pull})
			a, _ := hostOn(t, seg, 1, true, "10.77.0.1/24", "fd77::1/64")
			b, _ := hostOn(t, seg, 2, true, "10.77.0.2/24", "fd77::2/64")
			const size = 300 << 10
			var wg sync.WaitGroup
			for k, dst := range []string{"10.77.0.2", "fd77::2", "10.77.0.2", "127.0.0.1", "::1"} {
				server := b
				if k >= 3 {
					server = a
				}
				l, err := server.BindTCP(netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(80+k)), false, false)
				if err != nil {
					t.Fatal(err)
				}
				l.Listen(10)
				wg.Go(func() {
					var c *stack.TCPConn
					wait(l.Waiters(), stack.ReadyIn, func() (err error) { c, err = l.Accept(); return err })
					wg.Go(func() {
						if err := writeAll(c, size); err != nil {
							t.Error(err)
						}
					})
					if n, err := readAll(c); n != size || err != nil {
						t.Errorf("server: %d bytes, %v", n, err)
					}
				})
				wg.Go(func() {
					c, err := a.DialTCP(netip.AddrPort{}, netip.AddrPortFrom(netip.MustParseAddr(dst), uint16(80+k)))
					if err != nil {
						t.Error(err)
						return
					}
					var both sync.WaitGroup
					both.Go(func() {
						if n, err := readAll(c); n != size || err != nil {
							t.Errorf("%s: %d bytes, %v", dst, n, err)
						}
					})
					if err := writeAll(c, size); err != nil {
						t.Errorf("%s: %v", dst, err)
					}
					both.Wait() // on loopback the answer may be there before the question
					c.Close()
				})
			}
			// Others look and change meanwhile.
			wg.Go(func() {
				for k := range 50 {
					i := a.Interfaces()[1]
					p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, 1, byte(1 + k)}), 24)
					if err := i.AddAddr(p); err != nil {
						t.Error(err)
					}
					a.Counters()
					time.Sleep(time.Millisecond)
					if err := i.DelAddr(p.Addr()); err != nil {
						t.Error(err)
					}
				}
			})
			wg.Wait()
			if err := a.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
			if err := b.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
			seg.Close()
		})
	}
}

// TestReadyTellsOfDuplicates: who waits in Ready learns that the address is
// another's, and never takes its disappearance for success.
func TestReadyTellsOfDuplicates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seg := wire.New(mono.NewSystem(), wire.Options{Delay: time.Millisecond})
		a, ia := hostOn(t, seg, 1, false, "fd77::1/64")
		if err := ia.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		b, ib := hostOn(t, seg, 2, false, "fd77::1/64")
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if err := ib.Ready(t.Context()); !errors.Is(err, syscall.EADDRINUSE) {
					t.Errorf("ready: %v", err)
				}
			})
			wg.Go(func() {
				if err := ib.WaitUsable(t.Context(), netip.MustParseAddr("fd77::1")); !errors.Is(err, syscall.EADDRINUSE) {
					t.Errorf("usable: %v", err)
				}
			})
			wg.Go(func() {
				p, err := ib.WaitAddr(t.Context(), func(p netip.Prefix) bool { return p.Addr().IsLinkLocalUnicast() })
				if err != nil || !p.IsValid() {
					t.Errorf("link-local address: %v, %v", p, err)
				}
			})
		}
		wg.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := ib.WaitAddr(ctx, func(netip.Prefix) bool { return false }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting for nothing: %v", err)
		}
		a.Close()
		b.Close()
		seg.Close()
	})
}

// TestCloseRaces: everything may be closed while it is used.
func TestCloseRaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seg := wire.New(mono.NewSystem(), wire.Options{Delay: time.Millisecond})
		a, _ := hostOn(t, seg, 1, true, "10.77.0.1/24")
		b, _ := hostOn(t, seg, 2, true, "10.77.0.2/24")
		l, err := b.BindTCP(addrPort("0.0.0.0:80"), false, false)
		if err != nil {
			t.Fatal(err)
		}
		l.Listen(100)
		var wg sync.WaitGroup
		for k := range 20 {
			wg.Go(func() {
				c, err := a.DialTCP(netip.AddrPort{}, addrPort("10.77.0.2:80"))
				if err != nil {
					return
				}
				wg.Go(func() { readAll(c) })
				writeAll(c, 1<<20)
				if c.State() != tcp.Closed {
					c.Close()
				}
			})
			wg.Go(func() {
				u, err := a.NewUDP(false)
				if err != nil {
					return
				}
				for u.SendTo(make([]byte, 3000), netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 77, 0, byte(2 + k)}), 9)) == nil && k < 1000 {
					time.Sleep(time.Millisecond)
					k++
				}
				u.Close()
			})
		}
		time.Sleep(10 * time.Millisecond)
		wg.Go(func() { l.Close() })
		wg.Go(func() { a.Close() })
		wg.Go(func() { a.Close() })
		wg.Go(func() { b.Shutdown(t.Context()) })
		wg.Wait()
		// What is left of a closed stack keeps no buffer.
		u, _ := a.NewUDP(false)
		if u != nil {
			t.Error("a socket on a closed stack")
		}
		seg.Close()
	})
}
