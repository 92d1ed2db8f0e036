package interop

// Links that change beside transfers with the kernel: set down and up at either
// end, and with another MTU.

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/tap"
	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/stack"
)

// rounds echoes on a connection until stopped, and counts how often.
type rounds struct {
	n    atomic.Int64
	stop atomic.Bool
	done chan struct{}
}

// beside begins rounds of 1 MB on a connection from side s.
func (h *host) beside(t *testing.T, s side, fam family) *rounds {
	c := dial(t, s, "tcp", addr(s.peer(fam), 7), 10*patience)
	r := &rounds{done: make(chan struct{})}
	text := make([]byte, 1<<20)
	for n := range text {
		text[n] = byte(n ^ n>>8 ^ n>>13)
	}
	go func() {
		defer close(r.done)
		defer c.Close()
		got := make([]byte, len(text))
		for !r.stop.Load() {
			sent := make(chan error, 1)
			go func() {
				_, err := c.Write(text)
				sent <- err
			}()
			_, err := io.ReadFull(c, got)
			if err == nil && !bytes.Equal(got, text) {
				err = errors.New("other bytes came back")
			}
			if err != nil {
				c.Close()
			}
			if err = errors.Join(err, <-sent); err != nil {
				t.Errorf("round %d: %v", r.n.Load(), err)
				return
			}
			r.n.Add(1)
		}
	}()
	return r
}

// more waits for two rounds from now on, of which the second is begun by then.
func (r *rounds) more(t *testing.T, when string) {
	t.Helper()
	end := r.n.Load() + 2
	eventually(t, 3*patience, when, func() bool { return r.n.Load() >= end || t.Failed() })
}

func (r *rounds) end() {
	r.stop.Store(true)
	<-r.done
}

// TestLinkFlap: connections live through a link that is set down at the
// kernel's end, and at ours.
func TestLinkFlap(t *testing.T) {
	l := newLab(t)
	h := newHost(t, l, hostOptions{services: true, offload: tap.OffloadRequire})
	h.serveKernel()
	h.expect("what is lost with the link, and sent again", "ether.drop.device", "ether.drop.link-down", "ipv4.drop.link-down", "ipv6.drop.link-down",
		"ipv4.drop.no-neighbour", "ipv6.drop.no-neighbour", "tcp.drop.out-of-window", "tcp.drop.old-ack", "ipv6.drop.no-route", "tcp.drop.no-connection")
	h.expect("for addresses that are being probed", "ipv6.drop.foreign-ip")
	ctx := within(t, 10*patience)
	links := h.stack.Links()
	w := h.stack.Watch(stack.LinkChange, 0)
	t.Cleanup(w.Close)
	next := func(up, carrier bool) {
		t.Helper()
		c, err := w.Next(ctx)
		if err != nil || c.Link.Up != up || c.Link.Carrier != carrier {
			t.Fatalf("%v, %v; want up %v, carrier %v", c, err, up, carrier)
		}
	}
	h.bothWays(t, false, func(t *testing.T, s side, fam family) {
		r := h.beside(t, s, fam)
		r.more(t, "at first")
		run(t, ctx, l, "ip", "link", "set", l.Devices[0], "down")
		next(true, false)
		run(t, ctx, l, "ip", "link", "set", l.Devices[0], "up")
		next(true, true)
		r.more(t, "after the kernel's end was down")
		if err := links.SetUp(h.nic, false); err != nil {
			t.Fatal(err)
		}
		next(false, true)
		if err := links.SetUp(h.nic, true); err != nil {
			t.Fatal(err)
		}
		next(true, true)
		r.more(t, "after ours was")
		if err := h.nic.Ready(ctx); err != nil { // IPv6 addresses are probed anew
			t.Error(err)
		}
		r.end()
	})
	h.ping(t, our4.Addr().String(), "-4", 56, 2)
}

// ruler is a device that knows the longest packet each way.
type ruler struct {
	ether.Device
	in, out atomic.Int64
}

func (r *ruler) Watch(f func(ether.Link)) func() { return ether.WatchLink(r.Device, f) }

func (r *ruler) Receive(ctx context.Context, q int, deliver func(*pkt.Buf), idle func()) error {
	return r.Device.Receive(ctx, q, func(b *pkt.Buf) {
		r.in.Store(max(r.in.Load(), int64(b.Size()-ether.HeaderLen)))
		deliver(b)
	}, idle)
}

func (r *ruler) Send(q int, frames []*pkt.Buf) (int, error) {
	for _, b := range frames {
		r.out.Store(max(r.out.Load(), int64(b.Size()-ether.HeaderLen)))
	}
	return r.Device.Send(q, frames)
}

// TestLinkMTU: the MTU is changed at both ends of the link beside transfers, and
// both sides cut what they send by it, longer again too. Frames are plain, so
// that each is as long as on the wire.
func TestLinkMTU(t *testing.T) {
	l := newLab(t)
	ctx := within(t, 10*patience)
	mtu := func(n int) {
		for _, dev := range []string{l.Devices[0], lab.Bridge} {
			run(t, ctx, l, "ip", "link", "set", dev, "mtu", strconv.Itoa(n))
		}
	}
	mtu(4000)
	var r *ruler
	h := newHost(t, l, hostOptions{services: true, wrap: func(d ether.Device) ether.Device { r = &ruler{Device: d}; return r }})
	h.serveKernel()
	h.expect("what was cut for another MTU", "tcp.drop.out-of-window", "tcp.drop.old-ack", "ether.drop.device")
	if h.nic.MTU() != 4000 {
		t.Fatalf("MTU %d", h.nic.MTU())
	}
	h.bothWays(t, false, func(t *testing.T, s side, fam family) {
		b := h.beside(t, s, fam)
		for _, n := range []int{4000, 1400, 3000, 1280, 4000} {
			mtu(n)
			eventually(t, patience, "the interface follows", func() bool { return h.nic.MTU() == n })
			b.more(t, "what was under way")
			r.in.Store(0)
			r.out.Store(0)
			eventually(t, 3*patience, "segments of the new size, not longer", func() bool {
				return t.Failed() || r.in.Load() == int64(n) && r.out.Load() == int64(n)
			})
			b.more(t, "with the new MTU")
			if r.in.Load() > int64(n) || r.out.Load() > int64(n) {
				t.Errorf("MTU %d: came %d, sent %d bytes", n, r.in.Load(), r.out.Load())
			}
		}
		b.end()
	})
	// Without IPv6, and with it again.
	mtu(1000)
	eventually(t, patience, "no IPv6", func() bool { return len(h.nic.Addrs()) == 1 })
	h.ping(t, our4.Addr().String(), "-4", 900, 2)
	h.ping(t, our4.Addr().String(), "-4", 3000, 2)
	mtu(1500)
	eventually(t, patience, "a link-local address", func() bool { return len(h.nic.Addrs()) == 2 })
}
