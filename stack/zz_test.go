package stack_test

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/stack"
)

func TestZZ(t *testing.T) {
	for _, loss := range []float64{0, 0.01, 0.05} {
		for _, delay := range []time.Duration{0, 20 * time.Millisecond} {
			for _, reorder := range []float64{0, 0.02} {
				var rates []float64
				for seed := range uint64(60) {
					p := newPairOf(t, seed+100, stack.Config{}, wire.Options{Loss: loss, Delay: delay, Reorder: reorder})
					p.listenEcho(p.b, 7)
					data := pattern(1 << 20)
					start := p.net.Now()
					if got := p.echoTransfer("10.77.0.2:7", data, 10*time.Minute); !bytes.Equal(got, data) {
						t.Errorf("%d bytes came back differently", len(got))
					}
					took := p.net.Now().Sub(start)
					rates = append(rates, float64(len(data))/1000/max(took.Seconds(), 1e-9))
					p.close()
				}
				slices.Sort(rates)
				g := 0.0
				for _, r := range rates {
					g += math.Log(r)
				}
				fmt.Printf("%.2f %5v %.2f  geo %10.0f  p10 %10.0f p50 %10.0f p90 %10.0f\n", loss, delay, reorder, math.Exp(g/float64(len(rates))), rates[6], rates[30], rates[53])
			}
		}
	}
}
