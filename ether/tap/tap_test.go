package tap

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/vishvananda/netlink"
)

func TestMain(m *testing.M) { lab.Main(m) }

func open(t *testing.T, l *lab.Lab, o Options) (d *Device, err error) {
	t.Helper()
	l.Do(func() { d, err = Open(o) })
	if err == nil {
		t.Cleanup(func() { d.Close() })
	}
	return d, err
}

func mustOpen(t *testing.T, l *lab.Lab, o Options) *Device {
	t.Helper()
	d, err := open(t, l, o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// arp builds who-has target tell sender.
func arp(mac ether.Addr, sender, target netip.Addr) *pkt.Buf {
	b := pkt.Get(42)
	p := b.Append(42)
	ether.Put(p, ether.Broadcast, mac, ether.TypeARP)
	copy(p[14:], []byte{0, 1, 8, 0, 6, 4, 0, 1})
	copy(p[22:], mac[:])
	copy(p[28:], sender.AsSlice())
	copy(p[32:], make([]byte, 6))
	copy(p[38:], target.AsSlice())
	return b
}

var (
	ours     = ether.Addr{2, 0, 0, 0, 0, 7}
	ourIP    = netip.MustParseAddr("10.77.0.7")
	kernelIP = lab.Kernel4.Addr()
)

// receiveUntil runs Receive until ok says yes.
func receiveUntil(t *testing.T, d ether.Device, ok func(f []byte) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	found := false
	err := d.Receive(ctx, 0, func(b *pkt.Buf) {
		if ok(b.Bytes()) {
			found = true
			cancel()
		}
		b.Put()
	}, func() {})
	if !found {
		t.Fatalf("not received: %v", err)
	}
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("Receive: %v", err)
	}
}

func isARP(f []byte, op byte) bool {
	h, ok := ether.Parse(f)
	return ok && h.Type() == ether.TypeARP && len(f) >= 42 && f[21] == op
}

func TestKernelAnswers(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		d := mustOpen(t, l, Options{Name: "tap7", Existing: true})
		if c := d.Caps(); c.MTU != 1500 || c.Queues != 1 || c.GSOMax != 0 {
			t.Fatalf("caps %+v", c)
		}
		if n, err := d.Send(0, []*pkt.Buf{arp(ours, ourIP, kernelIP)}); n != 1 || err != nil {
			t.Fatalf("sent %d, %v", n, err)
		}
		receiveUntil(t, d, func(f []byte) bool {
			return isARP(f, 2) && ether.Header(f).Dst() == ours && string(f[28:32]) == string(kernelIP.AsSlice())
		})
		if s := d.Stats(); s.TxFrames != 1 || s.RxFrames == 0 || s.TxErrors+s.TxDown+s.TxBusy != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

func exists(l *lab.Lab, name string) (yes bool) {
	l.Do(func() { _, err := net.InterfaceByName(name); yes = err == nil })
	return yes
}

// The flag of an interface that was there before has to survive our exit, and
// what we made has to go.
func TestPersistence(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		for _, c := range []struct {
			o     Options
			stays bool
		}{
			{Options{Name: "tap7"}, true},
			{Options{Name: "tap7"}, true},
			{Options{Name: "new0", Up: true}, false},
			{Options{Name: "new1", Persist: true}, true},
		} {
			d := mustOpen(t, l, c.o)
			if !exists(l, c.o.Name) {
				t.Fatalf("%s does not exist while open", c.o.Name)
			}
			if c.o.Up {
				l.Do(func() {
					if i, err := net.InterfaceByName(c.o.Name); err != nil || i.Flags&net.FlagUp == 0 {
						t.Errorf("%s is not up: %v", c.o.Name, err)
					}
				})
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			if exists(l, c.o.Name) != c.stays {
				t.Errorf("%+v: exists after Close: %v", c.o, !c.stays)
			}
		}
	})
}

func TestErrors(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		mustOpen(t, l, Options{Name: "tap7"})
		for _, c := range []struct {
			o    Options
			want string
		}{
			{Options{Name: "tap7"}, "another process uses it"},
			{Options{Name: "none", Existing: true}, "there is no interface none"},
			{Options{Name: "br0"}, "is not a TAP"},
			{Options{Name: "a-name-that-is-too-long"}, "longer than 15 bytes"},
			{Options{Name: "a/b"}, "open a/b"},
		} {
			_, err := open(t, l, c.o)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%+v: %v, want %q", c.o, err, c.want)
			}
		}
	})
}

func TestEnd(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		drop := func(b *pkt.Buf) { b.Put() }
		d := mustOpen(t, l, Options{Name: "tap7"})

		ended, cancel := context.WithCancel(context.Background())
		cancel()
		if err := d.Receive(ended, 0, drop, func() {}); !errors.Is(err, context.Canceled) {
			t.Errorf("ended context: %v", err)
		}
		short, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		if err := d.Receive(short, 0, drop, func() {}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("deadline: %v", err)
		}
		// The end of one Receive must not end the next, nor may Close from
		// inside deliver wait for itself.
		if _, err := d.Send(0, []*pkt.Buf{arp(ours, ourIP, kernelIP)}); err != nil {
			t.Fatal(err)
		}
		err := d.Receive(context.Background(), 0, func(b *pkt.Buf) {
			b.Put()
			if err := d.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		}, func() {})
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed while delivering: %v", err)
		}
		if err := d.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("second Close: %v", err)
		}
		if err := d.Receive(context.Background(), 0, drop, func() {}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Receive after Close: %v", err)
		}
		if n, err := d.Send(0, []*pkt.Buf{pkt.From(make([]byte, 60))}); n != 0 || !errors.Is(err, net.ErrClosed) {
			t.Errorf("Send after Close: %d, %v", n, err)
		}

		// Close from another goroutine wakes a sleeping Receive.
		d = mustOpen(t, l, Options{Name: "tap7"})
		idle := make(chan error)
		go func() { idle <- d.Receive(context.Background(), 0, drop, func() {}) }()
		time.AfterFunc(5*time.Millisecond, func() { d.Close() })
		if err := <-idle; !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed while asleep: %v", err)
		}
		if n := pkt.Live(); n != 0 {
			t.Errorf("%d buffers leaked", n)
		}
	})
}

func ip(t *testing.T, l *lab.Lab, args ...string) {
	t.Helper()
	path := lab.RequireProgram(t, "ip")
	if out, err := l.Output(context.Background(), path, args...); err != nil {
		t.Fatalf("ip %v: %v: %s", args, err, out)
	}
}

// Down is counted and passes; deleted ends Receive.
func TestDownAndDeleted(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		d := mustOpen(t, l, Options{Name: "tap7"})
		ip(t, l, "link", "set", "tap7", "down")
		if n, err := d.Send(0, []*pkt.Buf{arp(ours, ourIP, kernelIP), arp(ours, ourIP, kernelIP)}); n != 0 || err == nil {
			t.Errorf("sent %d over an interface that is down, %v", n, err)
		}
		if s := d.Stats(); s.TxDown != 2 {
			t.Errorf("stats %+v", s)
		}
		done := make(chan error)
		got := make(chan bool, 100)
		go func() {
			done <- d.Receive(context.Background(), 0, func(b *pkt.Buf) {
				got <- isARP(b.Bytes(), 2)
				b.Put()
			}, func() {})
		}()
		ip(t, l, "link", "set", "tap7", "up")
		if _, err := d.Send(0, []*pkt.Buf{arp(ours, ourIP, kernelIP)}); err != nil {
			t.Fatal(err)
		}
		for !<-got {
		}
		ip(t, l, "link", "del", "tap7")
		select {
		case err := <-done:
			if err == nil || !strings.Contains(err.Error(), "deleted") {
				t.Errorf("deleted: %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Error("Receive goes on after the interface was deleted")
		}
	})
}

// A jumbo MTU reads into large buffers and delivers small frames in small ones.
func TestJumbo(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		ip(t, l, "link", "set", "tap7", "mtu", "9000")
		ip(t, l, "link", "set", "br0", "mtu", "9000")
		d := mustOpen(t, l, Options{Name: "tap7"})
		if d.Caps().MTU != 9000 {
			t.Fatalf("MTU %d", d.Caps().MTU)
		}
		c, err := l.ListenPacketKernel("udp4", "10.77.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ip(t, l, "neigh", "add", "10.77.0.7", "lladdr", ours.String(), "dev", "br0")
		to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(ourIP, 9))
		for _, n := range []int{10, 8000} {
			if _, err := c.WriteTo(make([]byte, n), to); err != nil {
				t.Fatal(err)
			}
			receiveUntil(t, d, func(f []byte) bool { return len(f) == 14+20+8+n })
		}
	})
}

// One frame each way per turn, nothing allocated for either.
func TestNoAllocations(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		d := mustOpen(t, l, Options{Name: "tap7"})
		frames := make([]*pkt.Buf, 1)
		turn := func() {
			frames[0] = arp(ours, ourIP, kernelIP)
			if _, err := d.Send(0, frames); err != nil {
				t.Error(err)
			}
		}
		const turns = 1000
		allocs := testing.AllocsPerRun(1, func() {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			left := turns
			turn()
			err := d.Receive(ctx, 0, func(b *pkt.Buf) {
				b.Put()
				if left--; left == 0 {
					cancel()
				} else {
					turn()
				}
			}, func() {})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("Receive: %v", err)
			}
		})
		// A call of Receive has its fixed price, and the pool may be emptied
		// by a garbage collection; the race detector empties it on purpose.
		if allocs > turns/10 && !raceEnabled {
			t.Errorf("%v allocations for %d frames each way", allocs, turns)
		}
	})
}

// TestQueueLen: an interface of ours holds a window of frames, one of others
// stays as it is.
func TestQueueLen(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		ip(t, l, "link", "set", "tap7", "txqueuelen", "77")
		for _, o := range []Offload{OffloadOff, OffloadRequire} {
			for name, want := range map[string]int{"tap7": 77, "new0": QueueLen} {
				d := mustOpen(t, l, Options{Name: name, Offload: o})
				l.Do(func() {
					link, err := netlink.LinkByName(name)
					if err != nil || link.Attrs().TxQLen != want {
						t.Errorf("%s holds %d frames, want %d: %v", name, link.Attrs().TxQLen, want, err)
					}
				})
				d.Close()
			}
		}
	})
}
