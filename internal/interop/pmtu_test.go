package interop

import (
	"fmt"
	"os"
	"testing"

	"github.com/tapstack/tapstack/stack"
)

// TestBlackHole: the bridge drops what is longer than 1400 bytes on its way to
// the kernel and tells nobody. Data arrives all the same, in segments that fit
// nearly exactly.
func TestBlackHole(t *testing.T) {
	t.Parallel()
	program(t, "nft")
	l := newLab(t)
	h := newHost(t, l, hostOptions{parallel: true, nic: stack.InterfaceConfig{NoDAD: true}})
	h.expect("what is under way when a connection is reset", "tcp.drop.no-connection", "tcp.drop.out-of-window")
	const limit = 1400
	file := t.TempDir() + "/hole.nft"
	if err := os.WriteFile(file, []byte(fmt.Sprintf(`table bridge hole {
		chain in { type filter hook prerouting priority 0; iifname %q ether type {ip, ip6} meta length > %d drop; }
	}`, l.Ports[0], limit)), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, within(t, patience), l, "nft", "-f", file)
	for _, fam := range families {
		c, k := h.pairOf(t, true, fam)
		move(t, c, k, 8<<20)
		i := c.Info()
		overhead := 40 + 12 // timestamps
		if fam.ours.Addr().Is6() {
			overhead += 20
		}
		t.Logf("%s: MSS %d, %d time-outs, %d probes, %d of them lost", fam.name, i.MSS, i.Timeouts, i.MTUProbes, i.MTUProbesLost)
		if size := i.MSS + overhead; size > limit || size < limit-100 || i.BlackHoles != 1 {
			t.Errorf("%s: packets of %d bytes, %d black holes", fam.name, size, i.BlackHoles)
		}
		c.Abort()
		k.Close()
	}
}
