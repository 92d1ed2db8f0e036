package interop

// What either side hears when the other has nothing to offer: ICMP errors and
// resets, as the errno that a program gets.

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"

	"github.com/tapstack/tapstack/stack"
)

// closedPort is one on which nobody listens anywhere.
const closedPort = 4

func TestErrors(t *testing.T) {
	t.Parallel()
	h := newHost(t, newLab(t), hostOptions{parallel: true, nic: stack.InterfaceConfig{NoDAD: true}})
	h.expect("datagrams and segments to the closed port", "udp.drop.no-socket", "tcp.drop.no-connection")
	h.expect("what waited for the host that does not exist", "ipv4.drop.no-neighbour", "ipv6.drop.no-neighbour")

	h.bothWays(t, false, func(t *testing.T, s side, fam family) {
		to := addr(s.peer(fam), closedPort)
		t.Run("UDP refused", func(t *testing.T) {
			c := dial(t, s, "udp", to, patience)
			if err := provoke(c); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%v", err)
			}
		})
		t.Run("TCP refused", func(t *testing.T) {
			// The RST for the first SYN counts, not one for a retransmission.
			once := func() bool {
				again := h.count("tcp.syn-retrans") + kernelCounters(t, h.lab)["TcpExt.TCPSynRetrans"]
				c, err := s.dial(within(t, patience), "tcp", to)
				if err == nil {
					c.Close()
				}
				if !errors.Is(err, syscall.ECONNREFUSED) {
					t.Fatalf("%v", err)
				}
				return h.count("tcp.syn-retrans")+kernelCounters(t, h.lab)["TcpExt.TCPSynRetrans"] == again
			}
			if !persist(once) {
				t.Error("every time only after a second SYN")
			}
		})
	})
	for _, fam := range families {
		for _, network := range []string{"tcp", "udp"} {
			t.Run(fam.name+" "+network+" no route", func(t *testing.T) {
				if _, err := h.net.DialContext(within(t, patience), network, addr(fam.remote, 7)); !errors.Is(err, syscall.ENETUNREACH) {
					t.Errorf("%v", err)
				}
			})
			t.Run(fam.name+" "+network+" no neighbour", func(t *testing.T) {
				// All four wait for their 3 s at the same time.
				t.Parallel()
				ctx := within(t, 2*patience)
				if err := reach(ctx, h, network, addr(fam.nobody, 7)); !errors.Is(err, syscall.EHOSTUNREACH) {
					t.Errorf("%v", err)
				}
			})
		}
	}
}

// provoke sends one datagram and returns the error that comes of it.
func provoke(c net.Conn) error {
	if _, err := c.Write([]byte("anyone?")); err != nil {
		return err
	}
	_, err := c.Read(make([]byte, 16))
	return err
}

// reach returns why an address cannot be reached: a connect fails, a datagram
// is queued at first and its failure shows on reading.
func reach(ctx context.Context, h *host, network, address string) error {
	c, err := h.net.DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	defer c.Close()
	if end, ok := ctx.Deadline(); ok {
		c.SetDeadline(end)
	}
	return provoke(c)
}
