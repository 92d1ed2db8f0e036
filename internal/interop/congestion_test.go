package interop

import (
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/tapstack/tapstack/ether/tap"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/tcp/cc"
)

// TestCongestion sends to the kernel by each congestion control, over both kinds
// of TAP: what is paced by timers of the machine, in super-frames and without,
// arrives whole as well.
func TestCongestion(t *testing.T) {
	for name, offload := range map[string]tap.Offload{"plain": tap.OffloadOff, "super-frames": tap.OffloadRequire} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			inLab(t, l, func() error {
				port, err := netlink.LinkByName(l.Ports[0])
				if err != nil {
					return err
				}
				return netlink.LinkSetTxQLen(port, 10000)
			})
			h := newHost(t, l, hostOptions{offload: offload})
			h.serveKernel()
			for _, name := range cc.Names() {
				a := amounts{discard: 50 << 20, limit: endurance}
				timed(t, name, a, a.discard, func(t *testing.T) {
					c, err := h.net.DialContext(within(t, a.limit), "tcp", addr(families[0].kernel.Addr(), 9))
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { c.Close() })
					if err := c.(*socket.Conn).SetCongestion(name); err != nil {
						t.Fatal(err)
					}
					if err := c.SetDeadline(time.Now().Add(a.limit)); err != nil {
						t.Fatal(err)
					}
					discard(t, c, a.discard)
					if i := c.(*socket.Conn).FD().Stream().Info(); i.Congestion != name {
						t.Errorf("%+v", i)
					} else {
						t.Logf("%+v", i)
					}
				})
			}
			h.checkDrops(t)
		})
	}
}
