package socket_test

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/socket"
)

// TestAllocations: in the steady state a byte there and back costs no memory,
// on either stack nor on the wire between them.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates, and makes pools forget")
	}
	watch(t)
	for _, network := range []string{"4", "6"} {
		addr := map[string]string{"4": "10.77.0.2:7", "6": "[fd77::2]:7"}[network]
		p := newPair(t, wire.Options{})
		t.Run("tcp"+network, func(t *testing.T) {
			c1, c2, stop, err := conns(t, p.na, p.nb, "tcp"+network, addr)
			must(t, err)
			defer stop()
			go echo(c2)
			buf := make([]byte, 1)
			noAllocs(t, func() {
				c1.SetReadDeadline(time.Now().Add(time.Minute))
				if _, err := c1.Write(buf); err != nil {
					t.Fatal(err)
				}
				if n, err := c1.Read(buf); n != 1 || err != nil {
					t.Fatal(n, err)
				}
			})
		})
		t.Run("splice"+network, func(t *testing.T) {
			c1, c2, stop, err := conns(t, p.na, p.nb, "tcp"+network, addr)
			must(t, err)
			defer stop()
			go io.Copy(c2, c2)
			buf := make([]byte, 1)
			noAllocs(t, func() {
				if _, err := c1.Write(buf); err != nil {
					t.Fatal(err)
				}
				if n, err := c1.Read(buf); n != 1 || err != nil {
					t.Fatal(n, err)
				}
			})
		})
		t.Run("udp"+network, func(t *testing.T) {
			u, err := p.nb.ListenPacket("udp"+network, addr)
			must(t, err)
			defer u.Close()
			go func() {
				c := u.(*socket.PacketConn)
				b := make([]byte, 100)
				for {
					n, from, err := c.ReadFromUDPAddrPort(b)
					if err != nil {
						return
					}
					c.WriteToUDPAddrPort(b[:n], from)
				}
			}()
			v, err := p.na.ListenPacket("udp"+network, ":0")
			must(t, err)
			defer v.Close()
			c, to, b := v.(*socket.PacketConn), ap(addr), make([]byte, 10)
			noAllocs(t, func() {
				if _, err := c.WriteToUDPAddrPort(b[:1], to); err != nil {
					t.Fatal(err)
				}
				if n, _, err := c.ReadFromUDPAddrPort(b); n != 1 || err != nil {
					t.Fatal(n, err)
				}
			})
		})
	}
}

// noAllocs checks that f allocates nothing, in whatever goroutine; the whole
// number that AllocsPerRun returns forgives what pools lose to the collector.
func noAllocs(t *testing.T, f func()) {
	t.Helper()
	for range 500 {
		f() // resolve neighbours, grow slices, fill pools
	}
	if n := testing.AllocsPerRun(2000, f); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func echo(c net.Conn) {
	b := make([]byte, 4096)
	for {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		if _, err := c.Write(b[:n]); err != nil {
			return
		}
	}
}
