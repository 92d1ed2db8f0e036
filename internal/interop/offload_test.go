package interop

// Segmentation offload against the kernel's: what one side sends in one piece
// the other has to get in the right ones.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/packet"
	"github.com/tapstack/tapstack/ether/tap"
	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/socket"
)

// TestPacketSocket moves data over a packet socket, which takes and gives
// super-frames as well.
func TestPacketSocket(t *testing.T) {
	lab.RequireNamespace(t)
	h := newHost(t, newLabOf(t, "packet"), hostOptions{services: true, packet: true})
	h.serveKernel()
	h.expect("a packet socket hears of frames from both processors, and not always in their order", "tcp.drop.paws")
	a := amounts{discard: 50 << 20, echo: 20 << 20, sequential: 100, parallel: 50, limit: endurance}
	t.Run("udp", func(t *testing.T) { h.testUDP(t, a) })
	t.Run("connections", func(t *testing.T) { h.testConnections(t, a) })
	before := h.count("ether.output")
	t.Run("transfers", func(t *testing.T) { h.testTransfers(t, a) })
	if frames, plain := h.count("ether.output")-before, uint64(2*2*(a.discard+a.echo)/1448); frames > plain/4 {
		t.Errorf("%d frames sent, where plain ones would be %d", frames, plain)
	}
	h.checkDrops(t)
}

// TestSegments sends and receives datagrams in bulk, from and to a kernel that
// does too, over each kind of device. However they travel, each has to arrive
// as the datagram it is.
func TestSegments(t *testing.T) {
	for _, c := range []struct {
		name   string
		device string
		o      hostOptions
		uso    bool // super-frames of datagrams pass the device
	}{
		{"plain frames", "tap", hostOptions{offload: tap.OffloadOff}, false},
		{"super-frames", "tap", hostOptions{offload: tap.OffloadRequire}, true},
		{"packet socket", "packet", hostOptions{packet: true}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			lab.Require(t)
			h := newHost(t, newLabOf(t, c.device), c.o)
			eachFamily(t, func(t *testing.T, fam family) {
				h.segmentsIn(t, fam, c.uso)
				h.segmentsOut(t, fam, c.uso)
				h.segmentErrors(t, fam)
			})
		})
	}
}

// bulks is what is sent: bytes, and in datagrams of how many.
var bulks = []struct{ n, size int }{{1, 1}, {1000, 1000}, {1001, 1000}, {128, 1}, {10000, 1452}, {65507, 1400}, {65000, 1000}, {12800, 100}}

// wholeSuper is the most bytes that the kernel hands over in one frame, which
// is shorter than 64 KB with its headers.
const wholeSuper = 65000

// cutIn is how n bytes are cut in datagrams of size bytes.
func cutIn(n, size int) (sizes []int) {
	for ; n > size; n -= size {
		sizes = append(sizes, size)
	}
	return append(sizes, n)
}

// segmentOption sets UDP_SEGMENT or UDP_GRO of a kernel socket.
func segmentOption(t *testing.T, c any, option, value int) error {
	t.Helper()
	raw, err := c.(*net.UDPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_UDP, option, value) }); err != nil {
		t.Fatal(err)
	}
	return failed
}

// receiveAll reads n bytes and returns the sizes of the datagrams.
func receiveAll(t *testing.T, c net.PacketConn, n int) (sizes []int, all []byte) {
	t.Helper()
	b := make([]byte, 1<<16)
	c.SetReadDeadline(time.Now().Add(patience))
	for len(all) < n {
		k, _, err := c.ReadFrom(b)
		if err != nil {
			t.Fatalf("after %d of %d bytes in %d datagrams: %v", len(all), n, len(sizes), err)
		}
		sizes, all = append(sizes, k), append(all, b[:k]...)
	}
	return sizes, all
}

func content(seed byte, n int) []byte {
	b := make([]byte, n)
	io.ReadFull(stream(seed, int64(n)), b)
	return b
}

// segmentsIn: the kernel sends.
func (h *host) segmentsIn(t *testing.T, fam family, uso bool) {
	pc, err := h.net.ListenPacket("udp", addr(fam.ours.Addr(), 5000))
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	ours := pc.(*socket.PacketConn)
	c := dial(t, h.kernelSide(), "udp", addr(fam.ours.Addr(), 5000), endurance)
	// The first waits for the neighbour's address.
	c.Write([]byte{0})
	receiveAll(t, ours, 1)
	for i, x := range bulks {
		want := content(byte(i), x.n)
		if err := segmentOption(t, c, unix.UDP_SEGMENT, x.size); err != nil {
			t.Fatal(err)
		}
		for _, together := range []bool{false, true} {
			if err := ours.SetReceiveSegments(together); err != nil {
				t.Fatal(err)
			}
			frames, datagrams := h.count("ether.input"), h.count("udp.input")
			if _, err := c.Write(want); err != nil {
				t.Fatalf("%v: %v", x, err)
			}
			pieces := cutIn(x.n, x.size)
			if !together {
				if sizes, got := receiveAll(t, pc, x.n); !slices.Equal(sizes, pieces) || !bytes.Equal(got, want) {
					t.Errorf("%v: datagrams of %v bytes, want %v", x, sizes, pieces)
				}
			} else {
				var got []byte
				calls := 0
				b := make([]byte, 1<<16)
				ours.SetReadDeadline(time.Now().Add(patience))
				for ; len(got) < x.n; calls++ {
					n, size, _, err := ours.ReadSegments(b)
					if err != nil {
						t.Fatalf("%v: after %d bytes: %v", x, len(got), err)
					}
					if size != min(x.size, n) {
						t.Errorf("%v: %d bytes in datagrams of %d", x, n, size)
					}
					got = append(got, b[:n]...)
				}
				if !bytes.Equal(got, want) || uso && x.n <= wholeSuper && calls > 1 {
					t.Errorf("%v: %d bytes in %d calls", x, len(got), calls)
				}
			}
			if n := h.count("udp.input") - datagrams; n != uint64(len(pieces)) {
				t.Errorf("%v: %d datagrams counted, want %d", x, n, len(pieces))
			}
			// The link has little else to carry at that moment. A frame that
			// would be longer than 64 KB the kernel cuts itself.
			if n := h.count("ether.input") - frames; uso && x.n <= wholeSuper && len(pieces) > 10 && n > 5 || !uso && n < uint64(len(pieces)) {
				t.Errorf("%v: %d frames", x, n)
			}
		}
	}
}

// segmentsOut: the kernel receives, one datagram at a time.
func (h *host) segmentsOut(t *testing.T, fam family, uso bool) {
	kernel, err := h.lab.ListenPacketKernel("udp", addr(fam.kernel.Addr(), 5001))
	if err != nil {
		t.Fatal(err)
	}
	defer kernel.Close()
	ours := dial(t, h.ourSide(), "udp", addr(fam.kernel.Addr(), 5001), endurance).(*socket.PacketConn)
	for i, x := range bulks {
		want := content(byte(i), x.n)
		frames, cut := h.count("ether.output"), h.count("offload.cut")
		if n, err := ours.WriteSegments(want, x.size, netip.AddrPort{}); n != x.n || err != nil {
			t.Fatalf("%v: sent %d, %v", x, n, err)
		}
		pieces := cutIn(x.n, x.size)
		if sizes, got := receiveAll(t, kernel, x.n); !slices.Equal(sizes, pieces) || !bytes.Equal(got, want) {
			t.Errorf("%v: datagrams of %v bytes, want %v", x, sizes, pieces)
		}
		n := h.count("ether.output") - frames
		if cut = h.count("offload.cut") - cut; uso && (cut != 0 || len(pieces) > 10 && n > 5) || !uso && n < uint64(len(pieces)) {
			t.Errorf("%v: %d frames, %d super-frames cut by the stack", x, n, cut)
		}
	}
}

// segmentErrors: what cannot be sent, the kernel and we refuse alike.
func (h *host) segmentErrors(t *testing.T, fam family) {
	kernel := dial(t, h.kernelSide(), "udp", addr(fam.ours.Addr(), 5002), endurance)
	ours := dial(t, h.ourSide(), "udp", addr(fam.kernel.Addr(), 5002), endurance).(*socket.PacketConn)
	sink, err := h.net.ListenPacket("udp", addr(fam.ours.Addr(), 5002))
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	kernelSink, err := h.lab.ListenPacketKernel("udp", addr(fam.kernel.Addr(), 5002))
	if err != nil {
		t.Fatal(err)
	}
	defer kernelSink.Close()
	h.expect("the bytes of accepted datagrams, which nobody reads", "udp.drop.receive-queue-full")
	before, accepted := h.count("udp.input"), 0
	whole := 1500 - fam.overhead
	for _, x := range []struct{ n, size int }{
		{0, 1}, {10000, whole}, {10000, whole + 1}, {whole, whole + 1}, {whole + 1, whole + 1}, {1000, 65535}, {1600, 2000},
		{127, 1}, {128, 1}, {129, 1}, {12800, 100}, {12801, 100}, {fam.udp, 1400}, {fam.udp + 1, 1400}, {fam.udp + 1, 1}, {70000, 1},
	} {
		if err := segmentOption(t, kernel, unix.UDP_SEGMENT, x.size); err != nil {
			t.Fatal(err)
		}
		_, kerr := kernel.Write(make([]byte, x.n))
		if kerr == nil {
			accepted += len(cutIn(x.n, x.size))
		}
		_, oerr := ours.WriteSegments(make([]byte, x.n), x.size, netip.AddrPort{})
		if k, o := errnoOf(kerr), errnoOf(oerr); k != o {
			t.Errorf("%v: the kernel says %v, we say %v", x, kerr, oerr)
		}
	}
	eventually(t, patience, "the datagrams that the kernel accepted", func() bool { return h.count("udp.input")-before >= uint64(accepted) })
	for _, n := range []int{-1, 0, 1, 65535, 65536} {
		kerr, oerr := segmentOption(t, kernel, unix.UDP_SEGMENT, n), ours.SetSegmentSize(n)
		if k, o := errnoOf(kerr), errnoOf(oerr); k != o {
			t.Errorf("size %d: the kernel says %v, we say %v", n, kerr, oerr)
		}
	}
}

func errnoOf(err error) syscall.Errno {
	errno, _ := errors.AsType[syscall.Errno](err)
	return errno
}

// measured notes how long the longest received frame is.
type measured struct {
	*packet.Device
	largest atomic.Int64
}

func (d *measured) Receive(ctx context.Context, queue int, deliver func(*pkt.Buf), idle func()) error {
	return d.Device.Receive(ctx, queue, func(p *pkt.Buf) {
		d.largest.Store(max(d.largest.Load(), int64(p.Len())))
		deliver(p)
	}, idle)
}

// big lets the kernel make super-frames of up to n bytes on the way to the
// stack ("BIG TCP"). The packet socket sees them as they are; for a TAP Linux
// cuts them to 64 KB whatever is asked for, as its tso_max_size is no larger.
func big(t *testing.T, h *host, n int) {
	t.Helper()
	inLab(t, h.lab, func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		br, err := netlink.LinkByName(lab.Bridge)
		if err != nil {
			return err
		}
		// A bridge may have what all its ports have.
		slices.SortFunc(links, func(a, b netlink.Link) int { return b.Attrs().MasterIndex - a.Attrs().MasterIndex })
		for _, l := range links {
			if l.Attrs().MasterIndex != br.Attrs().Index && l.Attrs().Index != br.Attrs().Index {
				continue
			}
			if err := errors.Join(netlink.LinkSetGSOMaxSize(l, n), netlink.LinkSetGSOIPv4MaxSize(l, n)); err != nil {
				return fmt.Errorf("%s: %w", l.Attrs().Name, err)
			}
		}
		return nil
	})
}

// TestBigTCP: super-frames too long for their length field are taken as far as
// they fit a buffer, and those that do not are refused without harm.
func TestBigTCP(t *testing.T) {
	lab.RequireNamespace(t)
	var dev *measured
	h := newHost(t, newLabOf(t, "packet"), hostOptions{services: true, packet: true, wrap: func(d ether.Device) ether.Device {
		dev = &measured{Device: d.(*packet.Device)}
		return dev
	}})
	const fits = 68000 // a little less than a buffer
	big(t, h, fits)
	eachFamily(t, func(t *testing.T, fam family) {
		dev.largest.Store(0)
		c := dial(t, h.kernelSide(), "tcp", addr(fam.ours.Addr(), 9), endurance)
		discard(t, c, 100<<20)
		if n := dev.largest.Load(); n <= 1<<16 {
			t.Errorf("the longest frame had %d bytes", n)
		}
	})
	h.checkDrops(t)
	if n := dev.Stats().RxDropped; n != 0 {
		t.Errorf("%d frames refused", n)
	}
	// Of longer ones TCP's recovery makes shorter ones.
	big(t, h, 4*fits)
	eachFamily(t, func(t *testing.T, fam family) {
		discard(t, dial(t, h.kernelSide(), "tcp", addr(fam.ours.Addr(), 9), endurance), 1<<20)
	})
	if dev.Stats().RxDropped == 0 {
		t.Error("none was refused")
	}
	h.expect("what the kernel sent again", "tcp.drop.out-of-window")
}
