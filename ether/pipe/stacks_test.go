package pipe_test

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/pipe"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
	"golang.org/x/sys/unix"
)

// TestStacks: two stacks that a socketpair joins, or a stream, with Ethernet and
// without, move a megabyte each way.
func TestStacks(t *testing.T) {
	for name, o := range map[string]pipe.Options{
		"packets": {Packets: true}, "frames": {}, "packets in a stream": {Packets: true, Stream: true}, "frames in a stream": {Stream: true},
	} {
		t.Run(name, func(t *testing.T) {
			var ends [2]*pipe.Device
			if o.Stream {
				x, y := net.Pipe()
				for i, c := range []net.Conn{x, y} {
					ends[i], _ = pipe.New(c, o)
				}
			} else {
				fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					t.Fatal(err)
				}
				for i, fd := range fds {
					if ends[i], err = pipe.OpenFile(os.NewFile(uintptr(fd), "pair"), o); err != nil {
						t.Fatal(err)
					}
				}
			}
			a, an := host(t, ends[0], "10.0.0.1/24")
			b, bn := host(t, ends[1], "10.0.0.2/24")
			ln, err := b.Listen("tcp", ":7")
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				c, err := ln.Accept()
				if err == nil {
					io.Copy(c, c)
					c.Close()
				}
			}()
			c, err := a.DialContext(t.Context(), "tcp", "10.0.0.2:7")
			if err != nil {
				t.Fatal(err)
			}
			c.SetDeadline(time.Now().Add(30 * time.Second))
			text := bytes.Repeat([]byte("some text "), 1<<17)
			go c.Write(text)
			got := make([]byte, len(text))
			if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, text) {
				t.Errorf("%v", err)
			}
			c.Close()
			if n := a.Stack().Counters()["arp.request"]; (n == 0) != o.Packets {
				t.Errorf("%d requests for addresses", n)
			}
			// When one of the two goes, the other hears of it.
			bn.Close()
			select {
			case <-an.Down():
			case <-time.After(30 * time.Second):
				t.Error("the link is still up")
			}
		})
	}
}

func host(t *testing.T, d *pipe.Device, addr string) (*socket.Network, closer) {
	s := stack.New(stack.Config{})
	t.Cleanup(func() { s.Close() })
	nic, err := s.AddInterface(stack.InterfaceConfig{Name: "p0", Device: d, DisableIPv6: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := nic.AddAddr(netip.MustParsePrefix(addr)); err != nil {
		t.Fatal(err)
	}
	return socket.Net(s), closer{nic, s}
}

// closer is an interface whose stack can be closed.
type closer struct {
	*stack.Interface
	s *stack.Stack
}

func (c closer) Close() { c.s.Close() }
