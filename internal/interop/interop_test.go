package interop

import (
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/tapstack/tapstack/ether/tap"
	"github.com/tapstack/tapstack/internal/lab"
)

// TestPlainFrames and TestSuperFrames do everything that a host does all day,
// on a link that loses nothing, over the two kinds of TAP: afterwards no drop
// may be left to explain.
func TestPlainFrames(t *testing.T) { testClean(t, tap.OffloadOff) }
func TestSuperFrames(t *testing.T) { testClean(t, tap.OffloadRequire) }

func testClean(t *testing.T, offload tap.Offload) {
	l := newLab(t)
	h := newHost(t, l, hostOptions{services: true, offload: offload})
	h.serveKernel()
	a := amounts{discard: 200 << 20, chargen: 200 << 20, echo: 64 << 20, sequential: 1000, parallel: 200, limit: endurance}
	t.Run("ping", h.testPing)
	t.Run("udp", func(t *testing.T) { h.testUDP(t, a) })
	t.Run("identifiers", h.testIdentifiers)
	h.checkDrops(t)
	t.Run("connections", func(t *testing.T) { h.testConnections(t, a) })
	t.Run("transfers", func(t *testing.T) { h.testTransfers(t, a) })
	h.checkDrops(t)
	h.checkKernel(t)

	h.expect("the part of an endless stream that is under way when its reader hangs up, and the resets that answer it",
		"tcp.drop.no-connection", "tcp.drop.closed", "tcp.drop.out-of-window")
	t.Run("chargen", func(t *testing.T) { h.testChargen(t, a) })
	t.Run("nc", h.testNetcat)
	h.checkDrops(t)
}

const (
	// lossPermille is how many of 1000 frames TestLoss loses, each way.
	lossPermille = 20
	// moved is what each transfer moves through that.
	moved = 20 << 20
)

// TestLoss does the same with less data over a link that loses frames at
// random: the bytes have to be right all the same.
func TestLoss(t *testing.T) {
	t.Parallel()
	program(t, "nft")
	l := newLab(t)
	inLab(t, l, func() error {
		// The kernel hands the bridge segments of 64 KB, to be cut up on their
		// way out: one of those lost would be 45 frames lost.
		br, err := netlink.LinkByName(lab.Bridge)
		if err != nil {
			return err
		}
		return netlink.LinkSetGSOMaxSegs(br, 1)
	})
	h := newHost(t, l, hostOptions{services: true, parallel: true})
	h.serveKernel()
	h.expect("what was sent again, or arrives when its connection is gone", "tcp.drop.out-of-window", "tcp.drop.no-connection", "tcp.drop.closed")
	h.expect("a datagram that was tried again comes back, or the kernel says that it has waited for its fragments in vain, when its socket is gone",
		"udp.drop.no-socket", "icmp.drop.no-socket")
	h.expect("one error a second says that fragments were lost", "icmp.drop.rate-limited")
	if err := l.Loss(l.Ports[0], lossPermille); err != nil {
		t.Fatal(err)
	}
	a := amounts{discard: moved, chargen: moved, echo: moved, sequential: 10, parallel: 100, limit: endurance,
		lossy: true, tries: 100, wait: 50 * time.Millisecond}
	for name, f := range map[string]func(*testing.T, amounts){
		"udp": h.testUDP, "connections": h.testConnections, "transfers": h.testTransfers, "chargen": h.testChargen,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, a)
		})
	}
}
