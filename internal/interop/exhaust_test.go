package interop

// Tables under attack by a station on the link: a /64 from every address of
// which something comes, advertisements of a hundred thousand routers,
// solicitations and ARP requests of as many hosts, and a program of our own that
// sends to addresses which nobody has. The tables stay within their limits, and
// a transfer goes on beside. With -soak it is measured how much of its rate the
// transfer keeps, and what a frame costs: the rate depends on what else the two
// cores do, the cost, in segments of the same transfer, does not.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/stack"
)

const (
	exhaustRate  = 20_000  // frames in a second
	exhaustCount = 100_000 // frames in all, with -soak
	exhaustCost  = 1.5     // segments of the transfer whose CPU time one may take
)

// icmpFrom is an IPv6 frame with an ICMPv6 message from any address.
func icmpFrom(src, dst netip.Addr, typ byte, rest []byte) []byte {
	b := make([]byte, ether.HeaderLen, ether.HeaderLen+44+len(rest))
	to := ourMAC
	if dst.IsMulticast() {
		to = ether.Multicast(dst)
	}
	a := src.As16()
	ether.Put(b, to, ether.Addr{2, 0, 0x66, a[13], a[14], a[15]}, ether.TypeIPv6)
	b = append(b, 0x60, 0, 0, 0, 0, byte(4+len(rest)), 58, 255)
	b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
	b = append(append(b, typ, 0, 0, 0), rest...)
	repair(b)
	return b
}

func numbered(prefix string, n int) netip.Addr {
	a := netip.MustParseAddr(prefix).As16()
	binary.BigEndian.PutUint32(a[12:], uint32(n)+1000)
	return netip.AddrFrom16(a)
}

// exhaustions are the frames of each attack by number.
var exhaustions = []struct {
	name  string
	frame func(n int) []byte
}{
	{"echo requests from a /64", func(n int) []byte {
		return icmpFrom(numbered("fd77::66:0:0", n), our6.Addr(), 128, []byte{0, 1, 0, 1})
	}},
	{"router advertisements", func(n int) []byte {
		rest := []byte{64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 3, 4, 64, 0xc0, 0, 0, 7, 8, 0, 0, 7, 8, 0, 0, 0, 0, 0xfd, 0x80, 0, 0}
		rest = binary.BigEndian.AppendUint32(rest, uint32(n))
		return icmpFrom(numbered("fe80::66:0:0", n), allNodes, 134, append(rest, make([]byte, 8)...))
	}},
	{"neighbour solicitations", func(n int) []byte {
		rest := append(make([]byte, 4), our6.Addr().AsSlice()...)
		return icmpFrom(numbered("fd77::66:0:0", n), our6.Addr(), 135, append(rest, 1, 1, 2, 0, 0x66, byte(n>>16), byte(n>>8), byte(n)))
	}},
	{"ARP requests", func(n int) []byte {
		mac := ether.Addr{2, 0, 0x66, byte(n >> 16), byte(n >> 8), byte(n)}
		b := make([]byte, ether.HeaderLen)
		ether.Put(b, ourMAC, mac, ether.TypeARP)
		b = append(append(b, 0, 1, 8, 0, 6, 4, 0, 1), mac[:]...)
		b = append(b, 10, 78, byte(n>>8), byte(n))
		return append(append(b, make([]byte, 6)...), our4.Addr().AsSlice()...)
	}},
	{"echo requests from a /16", func(n int) []byte {
		b := make([]byte, ether.HeaderLen)
		ether.Put(b, ourMAC, ether.Addr(strangerMAC), ether.TypeIPv4)
		b = append(b, 0x45, 0, 0, 28, 0, 1, 0, 0, 64, 1, 0, 0, 10, 78, byte(n>>8), byte(n))
		b = append(append(b, our4.Addr().AsSlice()...), 8, 0, 0, 0, 0, 1, 0, 1)
		repair(b)
		return b
	}},
	{"datagrams of our own to a /64", nil},
}

func TestExhaustion(t *testing.T) {
	if *soak == 0 {
		t.Parallel()
	}
	l := newLab(t)
	h := newHost(t, l, hostOptions{parallel: true, services: true, nic: stack.InterfaceConfig{NoDAD: true, SLAAC: true}})
	h.anyDrop = true
	if err := h.nic.AddAddr(netip.MustParsePrefix("10.78.255.7/16")); err != nil {
		t.Fatal(err)
	}
	s := newFlooder(t, l, l.Ports[0])
	own, err := h.net.ListenPacket("udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()

	// A transfer of each family.
	var moved, failed atomic.Int64
	var wg sync.WaitGroup
	var conns []net.Conn
	for _, fam := range families {
		c := dial(t, h.kernelSide(), "tcp", addr(fam.ours.Addr(), 7), 10*time.Minute)
		wg.Go(func() {
			b := make([]byte, 32<<10)
			go func() {
				for {
					if _, err := c.Write(make([]byte, len(b))); err != nil {
						return
					}
				}
			}()
			for {
				n, err := c.Read(b)
				moved.Add(int64(n))
				if err != nil {
					if !errors.Is(err, net.ErrClosed) {
						failed.Add(1)
					}
					return
				}
			}
		})
		conns = append(conns, c)
	}
	defer func() {
		for _, c := range conns {
			c.Close()
		}
		wg.Wait()
	}()

	// send sends frames number from to to of an attack, at the rate, and returns
	// the CPU time of another process that took.
	send := func(t *testing.T, a, from, to int) time.Duration {
		t.Helper()
		if exhaustions[a].frame != nil {
			return s.send(from, to, exhaustRate)
		}
		began := time.Now()
		for n := from; n < to; n++ {
			if due := began.Add(time.Duration(n-from) * time.Second / exhaustRate); n%20 == 0 && time.Until(due) > 0 {
				time.Sleep(time.Until(due))
			}
			// What nobody answers to is refused after a while.
			own.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(netip.AddrPortFrom(numbered("fd77::77:0:0", n), 9)))
		}
		return 0
	}
	for a := range exhaustions {
		t.Run(exhaustions[a].name, func(t *testing.T) {
			in := h.count("ether.input")
			if f := exhaustions[a].frame; f != nil {
				frames := make([][]byte, exhaustRate/4)
				if *soak != 0 {
					frames = make([][]byte, exhaustCount)
				}
				for n := range frames {
					frames[n] = f(n)
				}
				s.load(frames)
			}
			if *soak == 0 {
				from := moved.Load()
				send(t, a, 0, exhaustRate/4)
				eventually(t, 2*patience, "more of the transfers", func() bool { return moved.Load() > from+1<<20 || failed.Load() > 0 })
			} else {
				// Interleaved, so that what else the machine does harms both.
				const rounds = 5
				var ratios []float64
				var theirs time.Duration
				var with, without phase
				for r := range rounds {
					per := exhaustCount / rounds
					x := measure(t, h, &moved, func() { time.Sleep(time.Duration(per) * time.Second / exhaustRate) })
					y := measure(t, h, &moved, func() { theirs += send(t, a, r*per, (r+1)*per) })
					ratios = append(ratios, y.rate()/x.rate())
					without.add(x)
					with.add(y)
				}
				slices.Sort(ratios)
				t.Logf("rate beside the attack: %.2f of that without; rounds %.2f", ratios[rounds/2], ratios)
				t.Logf("without %v", without)
				t.Logf("beside %v", with)
				// What one segment of the transfer costs, to and fro and at both ends,
				// is a measure that other work on the machine does not change.
				segment := without.cpu.Seconds() / float64(without.bytes) * 1448
				extra := with.cpu.Seconds() - without.cpu.Seconds()*float64(with.bytes)/float64(without.bytes)
				t.Logf("CPU time of a frame: %.1f µs for who sends it, %.1f µs for the rest of us, and of a segment of the transfer %.1f µs",
					theirs.Seconds()*1e6/exhaustCount, extra*1e6/exhaustCount, segment*1e6)
				if extra/exhaustCount > exhaustCost*segment {
					t.Errorf("a frame costs as much as %.1f segments of the transfer", extra/exhaustCount/segment)
				}
			}
			if exhaustions[a].frame != nil && h.count("ether.input") == in {
				t.Error("nothing was seen")
			}
			h.bounded(t)
			if failed.Load() > 0 {
				t.Error("a transfer has failed")
			}
		})
	}
	for _, fam := range families {
		h.ping(t, fam.ours.Addr().String(), fam.ping, 56, 1)
	}
}

// phase is what was measured for a while.
type phase struct {
	bytes              int64
	took, cpu          time.Duration
	link, kernel, ours uint64 // frames that the TAP's queue lost; segments sent again
	timeouts           uint64
}

func (p *phase) add(o phase) {
	p.bytes += o.bytes
	p.took += o.took
	p.cpu += o.cpu
	p.link += o.link
	p.kernel += o.kernel
	p.ours += o.ours
	p.timeouts += o.timeouts
}

func (p phase) rate() float64 { return float64(p.bytes) / p.took.Seconds() }

func (p phase) String() string {
	return fmt.Sprintf("%.0f MB/s, %.2f cores, %d frames lost in the TAP's queue, %d segments sent again by the kernel and %d by us, %d time-outs",
		p.rate()/1e6, p.cpu.Seconds()/p.took.Seconds(), p.link, p.kernel, p.ours, p.timeouts)
}

// measure measures what f does to a transfer; the CPU time is that of this
// process, in which both ends are.
func measure(t *testing.T, h *host, moved *atomic.Int64, f func()) phase {
	t.Helper()
	now := func() phase {
		return phase{bytes: moved.Load(), cpu: cpuTime(), link: linkLoss(t, h.lab, h.lab.Ports[0]), kernel: kernelLoss(t, h.lab),
			ours: h.count("tcp.retrans-segs"), timeouts: h.count("tcp.timeouts")}
	}
	p, began := now(), time.Now()
	f()
	took := time.Since(began)
	q := now()
	return phase{q.bytes - p.bytes, took, q.cpu - p.cpu, q.link - p.link, q.kernel - p.kernel, q.ours - p.ours, q.timeouts - p.timeouts}
}
