package tuntap

import (
	"testing"

	"github.com/tapstack/tapstack/ether/internal/fdloop"
	"github.com/tapstack/tapstack/ether/internal/vnet"
	"github.com/tapstack/tapstack/internal/pkt"
	"golang.org/x/sys/unix"
)

// TestLongestFrame: a frame that is too long for a buffer has been cut off by
// the read, and is refused; the next one is whole again.
func TestLongestFrame(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	b := pkt.Get(vnet.Room)
	defer b.Put()
	const longest = pkt.MaxFrame + vnet.Len - 1 // one more might have been longer
	for _, c := range []struct {
		n    int
		want error
	}{
		{200000, fdloop.ErrSkip}, {longest + 1, fdloop.ErrSkip}, {vnet.Len, fdloop.ErrSkip}, {longest, nil}, {vnet.Room, nil}, {60, nil},
	} {
		if _, err := unix.Write(fds[0], make([]byte, c.n)); err != nil {
			t.Fatal(err)
		}
		if err := readVnet(fds[1], b); err != c.want {
			t.Errorf("%d bytes: %v", c.n, err)
		}
		if want := c.n - vnet.Len; c.want == nil && b.Len() != want || c.want != nil && b.Len() != 0 {
			t.Errorf("%d bytes: a frame of %d", c.n, b.Len())
		}
		b.SetLen(0)
	}
	if err := readVnet(fds[1], b); err != unix.EAGAIN || b.Len() != 0 {
		t.Errorf("nothing: %v, %d bytes", err, b.Len())
	}
}
