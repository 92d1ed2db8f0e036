package interop

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// testUDP has datagrams of every interesting size echoed: nothing at all, one
// byte, the largest that fit a frame and one more, many fragments, the most
// that IP carries. Only where frames are lost is one tried again.
func (h *host) testUDP(t *testing.T, a amounts) {
	tries, wait := 1, patience
	if a.lossy {
		tries, wait = a.tries, a.wait
	}
	h.bothWays(t, a.lossy, func(t *testing.T, s side, fam family) {
		c := dial(t, s, "udp", addr(s.peer(fam), 7), a.limit)
		for i, size := range []int{0, 1, 1452, 1453, 1472, 1473, 8000, 60000, fam.udp} {
			want := make([]byte, size)
			io.ReadFull(stream(byte(i), int64(size)), want)
			if err := echoDatagram(c, want, tries, wait); err != nil {
				t.Errorf("%d bytes: %v", size, err)
			}
		}
	})
}

// testIdentifiers sends more fragmented datagrams than IPv4 has identifiers.
func (h *host) testIdentifiers(t *testing.T) {
	s, fam := h.ourSide(), families[0]
	c := dial(t, s, "udp", addr(s.peer(fam), 9), endurance)
	b := make([]byte, 1473)
	for range 1<<16 + 10 {
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	c = dial(t, s, "udp", addr(s.peer(fam), 7), patience)
	if err := echoDatagram(c, b, 1, patience); err != nil {
		t.Error(err)
	}
}

// echoDatagram sends a datagram until it comes back, tries times at most.
func echoDatagram(c net.Conn, want []byte, tries int, wait time.Duration) error {
	got := make([]byte, 1<<16)
	for {
		tries--
		if _, err := c.Write(want); err != nil {
			return err
		}
		c.SetReadDeadline(time.Now().Add(wait))
		for {
			n, err := c.Read(got)
			if errors.Is(err, os.ErrDeadlineExceeded) && tries > 0 {
				break
			}
			if err != nil {
				return err
			}
			if bytes.Equal(got[:n], want) {
				return nil
			}
			// The answer to an earlier try at an earlier size is late; any
			// other is wrong.
			if tries == 0 || n == len(want) {
				return errors.New("came back changed")
			}
		}
	}
}
