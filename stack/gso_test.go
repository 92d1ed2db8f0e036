package stack_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
)

// TestSuperFrames joins two hosts by a wire that carries super-frames whole:
// the same bytes arrive in far fewer frames, also when some are lost.
func TestSuperFrames(t *testing.T) {
	for _, loss := range []float64{0, 0.05} {
		for _, addr := range []string{"10.77.0.2:7", "[fd77::2]:7"} {
			p := newPair(t, wire.Options{Delay: time.Millisecond, GSO: true, Loss: loss})
			l, err := p.b.BindTCP(addrPort("[::]:7"), false, false)
			if err != nil {
				t.Fatal(err)
			}
			l.Listen(10)
			serveEcho(t, l)
			data := pattern(4 << 20)
			if got := p.echoTransfer(addr, data, 10*time.Minute); !bytes.Equal(got, data) {
				t.Errorf("%s, loss %v: %d bytes came back differently", addr, loss, len(got))
			}
			frames := p.a.Counters()["ether.output"]
			if plain := uint64(len(data) / 1460); loss == 0 && frames > plain/4 {
				t.Errorf("%s: %d frames, of %d plain ones", addr, frames, plain)
			}
			t.Logf("%s, loss %v: %d frames out", addr, loss, frames)
		}
	}
}
