package pipe

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/pkt"
	"golang.org/x/sys/unix"
)

// socketpair returns two ends that keep messages apart.
func socketpair(t *testing.T, kind int) (a, b *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fds[0]), "a"), os.NewFile(uintptr(fds[1]), "b")
}

// ends are the ways in which two devices can be joined.
var ends = map[string]func(t *testing.T, o Options) (a, b *Device){
	"seqpacket": func(t *testing.T, o Options) (a, b *Device) { return files(t, unix.SOCK_SEQPACKET, o) },
	"dgram":     func(t *testing.T, o Options) (a, b *Device) { return files(t, unix.SOCK_DGRAM, o) },
	"messages": func(t *testing.T, o Options) (a, b *Device) {
		x, y := socketpair(t, unix.SOCK_SEQPACKET)
		return others(t, x, y, o)
	},
	"stream": func(t *testing.T, o Options) (a, b *Device) {
		o.Stream = true
		x, y := net.Pipe()
		return others(t, x, y, o)
	},
}

func files(t *testing.T, kind int, o Options) (a, b *Device) {
	x, y := socketpair(t, kind)
	return made(t)(OpenFile(x, o)), made(t)(OpenFile(y, o))
}

func others(t *testing.T, x, y io.ReadWriteCloser, o Options) (a, b *Device) {
	return made(t)(New(x, o)), made(t)(New(y, o))
}

func made(t *testing.T) func(*Device, error) *Device {
	return func(d *Device, err error) *Device {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		return d
	}
}

// packet is an Ethernet frame with n bytes of an IP packet.
func packet(version byte, n int) *pkt.Buf {
	b := pkt.Get(n)
	b.Append(n)[0] = version << 4
	ether.PushPacketHeader(b)
	return b
}

func TestMove(t *testing.T) {
	live := pkt.Live()
	for name, join := range ends {
		for _, packets := range []bool{false, true} {
			a, b := join(t, Options{Packets: packets, MTU: 9000})
			if c := a.Caps(); c.MTU != 9000 || c.PointToPoint != packets {
				t.Errorf("%s: %+v", name, c)
			}
			frames := []*pkt.Buf{packet(4, 20), packet(6, 9000), packet(4, 9001+ether.TagLen), packet(6, 60)}
			var want []string
			for i, f := range frames {
				if i != 2 { // too long
					want = append(want, string(f.Bytes()))
				}
			}
			if n, err := a.Send(0, frames); n != 4 || err != nil {
				t.Fatalf("%s: sent %d, %v", name, n, err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			var got []string
			idle := 0
			err := b.Receive(ctx, 0, func(p *pkt.Buf) {
				got = append(got, string(p.Bytes()))
				p.Put()
				if len(got) == len(want) {
					cancel()
				}
			}, func() { idle++ })
			if !errors.Is(err, context.Canceled) || strings.Join(got, "|") != strings.Join(want, "|") {
				t.Errorf("%s: %v, %d frames", name, err, len(got))
			}
			if s := b.Stats(); s.RxFrames != 3 || s.RxDropped != 1 {
				t.Errorf("%s: %+v", name, s)
			}
			// The end of the one is that of the other; a datagram socket does
			// not tell.
			if a.Close(); name != "dgram" {
				err := b.Receive(t.Context(), 0, func(p *pkt.Buf) { p.Put() }, func() {})
				if err != io.EOF {
					t.Errorf("%s: at the end %v", name, err)
				}
			}
			b.Close()
			if err := b.Receive(t.Context(), 0, nil, nil); !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s: after Close %v", name, err)
			}
			if n, err := b.Send(0, []*pkt.Buf{packet(4, 20)}); n != 0 || !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s: after Close sent %d, %v", name, n, err)
			}
		}
	}
	if n := pkt.Live() - live; n != 0 {
		t.Errorf("%d buffers left", n)
	}
}

// A reader that does not read holds nobody up.
func TestSlow(t *testing.T) {
	live := pkt.Live()
	x, y := net.Pipe()
	defer y.Close()
	a := made(t)(New(x, Options{Stream: true}))
	lost := 0
	for range 2 * queueLen {
		if n, err := a.Send(0, []*pkt.Buf{packet(4, 60)}); n == 0 {
			if err != syscall.ENOBUFS {
				t.Fatal(err)
			}
			lost++
		}
	}
	if lost < queueLen-1 || a.Stats().TxBusy != uint64(lost) {
		t.Errorf("lost %d, %+v", lost, a.Stats())
	}
	a.Close()
	if n := pkt.Live() - live; n != 0 {
		t.Errorf("%d buffers left", n)
	}
}

func TestRefused(t *testing.T) {
	x, y := socketpair(t, unix.SOCK_STREAM)
	defer x.Close()
	defer y.Close()
	if _, err := OpenFile(x, Options{}); !errors.Is(err, syscall.EPROTOTYPE) {
		t.Errorf("a stream: %v", err)
	}
	if _, err := OpenFile(x, Options{MTU: 10}); err == nil {
		t.Error("an MTU of 10")
	}
	// A stream in which a length is none ends.
	p, q := net.Pipe()
	d := made(t)(New(p, Options{Stream: true}))
	go q.Write([]byte{0xff, 0xff, 0xff, 0xff})
	if err := d.Receive(t.Context(), 0, nil, func() {}); err == nil || !strings.Contains(err.Error(), "4294967295 bytes") {
		t.Errorf("%v", err)
	}
}

// FuzzStream: whatever a stream says, the reader neither panics nor hands over
// a frame longer than the link's.
func FuzzStream(f *testing.F) {
	f.Add([]byte{0, 0, 0, 14, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 8, 0}, false)
	f.Add([]byte{0, 0, 0, 1, 0x45, 0, 0, 0, 0, 0, 1, 0, 0}, true)
	f.Fuzz(func(t *testing.T, text []byte, packets bool) {
		d := made(t)(New(reader{strings.NewReader(string(text))}, Options{Stream: true, Packets: packets, MTU: 100}))
		defer d.Close()
		d.Receive(t.Context(), 0, func(b *pkt.Buf) {
			if b.Len() < ether.HeaderLen || b.Len() > 100+ether.HeaderLen+ether.TagLen {
				t.Errorf("a frame of %d bytes", b.Len())
			}
			b.Put()
		}, func() {})
	})
}

// reader is a link that takes everything.
type reader struct{ io.Reader }

func (reader) Write(b []byte) (int, error) { return len(b), nil }
func (reader) Close() error                { return nil }
