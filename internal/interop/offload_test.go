package interop

// Segmentation offload against the kernel's: what one side sends in one piece
// the other has to get in the right ones.

import (
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/lab"
)

// TestPacketSocket moves data over a packet socket, which takes and gives
// super-frames as well.
func TestPacketSocket(t *testing.T) {
	lab.RequireNamespace(t)
	h := newHost(t, newLabOf(t, "packet"), hostOptions{services: true, packet: true})
	h.serveKernel()
	a := amounts{discard: 50 << 20, echo: 20 << 20, sequential: 100, parallel: 50, limit: time.Minute}
	t.Run("udp", func(t *testing.T) { h.testUDP(t, a) })
	t.Run("connections", func(t *testing.T) { h.testConnections(t, a) })
	before := h.count("ether.output")
	t.Run("transfers", func(t *testing.T) { h.testTransfers(t, a) })
	if frames, plain := h.count("ether.output")-before, uint64(2*2*(a.discard+a.echo)/1448); frames > plain/4 {
		t.Errorf("%d frames sent, where plain ones would be %d", frames, plain)
	}
	h.checkDrops(t)
}
