package stack_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/stack/simnet"
)

// gatherer is a port of a wire that takes frames with borrowed bytes.
type gatherer struct {
	ether.Pusher
	borrowed int // frames that came with some
}

func (g *gatherer) Caps() ether.Caps {
	c := g.Pusher.Caps()
	c.Gather = true
	return c
}

func (g *gatherer) Send(queue int, frames []*pkt.Buf) (int, error) {
	for i, p := range frames {
		if p.Size() > p.Len() {
			g.borrowed++
		}
		frames[i] = p.Whole()
	}
	return g.Pusher.Send(queue, frames)
}

// TestGather: payload goes from the send ring to a device that can take it
// there, also when a frame has to wait for the neighbour or is sent again, and
// arrives the same.
func TestGather(t *testing.T) {
	for _, addr := range []string{"10.77.0.2:7", "[fd77::2]:7"} {
		p := &pair{t: t, net: simnet.New(1), live: pkt.Live()}
		p.seg = p.net.Segment(wire.Options{Delay: time.Millisecond, GSO: true, Loss: 0.03})
		var g *gatherer
		p.a, p.ia = p.net.Host(p.seg, stack.Config{}, func(d ether.Device) ether.Device {
			g = &gatherer{Pusher: d.(ether.Pusher)}
			return g
		}, "10.77.0.1/24", "fd77::1/64")
		p.b, p.ib = p.net.Host(p.seg, stack.Config{}, nil, "10.77.0.2/24", "fd77::2/64")
		l, err := p.b.BindTCP(addrPort("[::]:7"), false, false)
		if err != nil {
			t.Fatal(err)
		}
		l.Listen(10)
		serveEcho(t, l)
		data := pattern(4 << 20)
		if got := p.echoTransfer(addr, data, 10*time.Minute); !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes came back differently", addr, len(got))
		}
		if g.borrowed < 50 {
			t.Errorf("%s: only %d frames borrowed their payload", addr, g.borrowed)
		}
		p.close()
	}
}

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
