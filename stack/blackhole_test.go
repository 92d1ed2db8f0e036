package stack_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/stack/simnet"
	"github.com/tapstack/tapstack/tcp"
)

// badPath drops what is longer than limit, without a word, and of the rest the
// first SYNs, SYN-ACKs and segments with text, as many as it is told.
type badPath struct {
	limit                int
	syns, synAcks, texts int
}

func (x *badPath) drop(f []byte) bool {
	if len(f) > ether.HeaderLen+x.limit {
		return true
	}
	s, ok := tcpOf([][]byte{f})
	if !ok {
		return false
	}
	count := &x.texts
	switch {
	case s.Flags&tcp.FlagSYN != 0 && s.Flags&tcp.FlagACK != 0:
		count = &x.synAcks
	case s.Flags&tcp.FlagSYN != 0:
		count = &x.syns
	case s.PayloadLen() == 0:
		return false
	}
	*count--
	return *count >= 0
}

// TestBlackHoleStalls: a path that drops large packets without a word loses
// others too: SYNs, so that the first time-out takes three seconds, the first
// segment that is small enough, and any. Nothing keeps a transfer from going on
// for longer than a few seconds, and in the end the segments fit nearly exactly.
func TestBlackHoleStalls(t *testing.T) {
	for _, to := range []string{"10.77.0.2:80", "[fd77::2]:80"} {
		for _, limit := range []int{1480, 1280, 700} {
			v6 := to[0] == '['
			if v6 && limit < 1280 {
				continue
			}
			for _, x := range []badPath{{}, {syns: 1}, {synAcks: 1}, {synAcks: 3}, {texts: 1}, {synAcks: 1, texts: 1}, {synAcks: 1, texts: 2}} {
				for _, loss := range []float64{0, 0.02} {
					x.limit = limit
					name := fmt.Sprintf("%s %+v %v", to, x, loss)
					lost := x
					p := &pair{t: t, net: simnet.New(3), live: pkt.Live()}
					p.seg = p.net.Segment(wire.Options{Delay: 5 * time.Millisecond, Rate: 100e6, Queue: 200, Drop: lost.drop, Loss: loss})
					p.a, p.ia = p.net.Host(p.seg, stack.Config{}, nil, "10.77.0.1/24", "fd77::1/64")
					p.b, p.ib = p.net.Host(p.seg, stack.Config{}, nil, "10.77.0.2/24", "fd77::2/64")
					const n = 1 << 20
					d := startDownload(t, p.net, p.a, p.b, to, n)
					if !p.net.Until(time.Minute, func() bool { return d.server != nil }) {
						t.Fatalf("%s: no connection", name)
					}
					last, gap := p.net.Now(), time.Duration(0)
					for got := 0; got < n; got = d.got {
						if !p.net.Until(5*time.Minute, func() bool { return d.got != got }) {
							t.Fatalf("%s: only %d bytes arrive: %+v", name, got, d.server.Info())
						}
						gap, last = max(gap, p.net.Now().Sub(last)), p.net.Now()
					}
					i := d.server.Info()
					// Where the time-out is 200 ms, three of them, and as many more as are
					// for small segments that were lost. After a SYN-ACK was, which takes
					// one second, a time-out takes three, and doubles once there is no
					// smaller size to be tried.
					small := x.texts
					if limit < 1024 {
						small++
					}
					most := 2500 * time.Millisecond
					if x.synAcks > 0 {
						most = []time.Duration{4500, 7500, 10500, 16500}[small] * time.Millisecond
					}
					if gap > most {
						t.Errorf("%s: nothing arrives for %v, %d time-outs", name, gap, i.Timeouts)
					}
					fits := limit - 40 - 12
					if v6 {
						fits -= 20
					}
					if loss == 0 && (i.MSS > fits || i.MSS <= fits-8) {
						t.Errorf("%s: segments of %d bytes where %d fit, %d probes, %d of them lost, %d black holes",
							name, i.MSS, fits, i.MTUProbes, i.MTUProbesLost, i.BlackHoles)
					}
					d.end(p.net)
					p.close()
				}
			}
		}
	}
}

// TestBlackHoleLongPath: where a time-out takes long, two of them are enough; one,
// of a connection whose text arrived before, tells nothing.
func TestBlackHoleLongPath(t *testing.T) {
	limit := 1500
	p := newPairOf(t, 1, stack.Config{}, wire.Options{Delay: 400 * time.Millisecond, Rate: 50e6, Queue: 500,
		Drop: func(f []byte) bool { return len(f) > ether.HeaderLen+limit }})
	const n = 2 << 20
	d := startDownload(t, p.net, p.a, p.b, "10.77.0.2:80", n)
	if !p.net.Until(time.Minute, func() bool { return d.got > n/8 }) {
		t.Fatalf("%d bytes arrived", d.got)
	}
	if i := d.server.Info(); i.Timeouts != 0 || i.MSS != 1448 {
		t.Fatalf("before: %+v", i)
	}
	limit = 1280
	p.net.Until(time.Minute, func() bool { return d.server.Info().Timeouts == 1 })
	if i := d.server.Info(); i.Timeouts != 1 || i.BlackHoles != 0 {
		t.Errorf("%d black holes after %d time-outs", i.BlackHoles, i.Timeouts)
	}
	if !p.net.Until(time.Minute, func() bool { return d.got == n }) {
		t.Fatalf("%d bytes arrived, %+v", d.got, d.server.Info())
	}
	if i := d.server.Info(); i.BlackHoles != 1 || i.Timeouts != 2 || i.MSS > 1228 {
		t.Errorf("%d time-outs, %d black holes, segments of %d bytes", i.Timeouts, i.BlackHoles, i.MSS)
	}
	d.end(p.net)
}
