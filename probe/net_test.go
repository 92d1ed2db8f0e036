package probe_test

import (
	"encoding/binary"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/internal/csum"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/probe"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/stack/simnet"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if n := pkt.Live(); code == 0 && n != 0 && flag.Lookup("test.fuzz").Value.String() == "" {
		fmt.Fprintln(os.Stderr, n, "buffers left")
		code = 1
	}
	os.Exit(code)
}

// world is a host, routers in a row, and a far host:
//
//	10.0.0.1 -- r1 -- r2 -- ... -- rn -- 8.8.8.8, 2001:db8:8::8
//
// Router i reports from 10.1.0.i and fd01::i. Lines between them take 1 ms, the
// two segments nothing.
type world struct {
	*simnet.Net
	t       testing.TB
	near    *stack.Stack
	far     *stack.Stack
	routers []*simnet.Router
	p       *probe.Prober
}

const (
	far4, far6 = "8.8.8.8", "2001:db8:8::8"
	line       = time.Millisecond
)

func newWorld(t testing.TB, routers int, o probe.Options) *world {
	return newWorldWith(t, routers, o, stack.Config{})
}

// newWorldWith is newWorld with a far host that is configured.
func newWorldWith(t testing.TB, routers int, o probe.Options, far stack.Config) *world {
	w := &world{Net: simnet.New(7), t: t}
	left, right := w.Segment(wire.Options{MTU: 1500}), w.Segment(wire.Options{MTU: 1500})
	w.near, _ = w.Host(left, stack.Config{}, nil, "10.0.0.1/24", "fd00::1/64")
	// It tells of every probe, however many there are at once.
	far.Limits.ICMPErrorInterval = -1
	w.far, _ = w.Host(right, far, nil, far4+"/24", far6+"/64")
	var gate *stack.Stack
	for i := range routers {
		r := w.Router(fmt.Sprintf("10.1.0.%d", i+1), fmt.Sprintf("fd01::%d", i+1))
		w.routers = append(w.routers, r)
		if i == 0 {
			gate = r.Attach(left, "10.0.0.254/24", "fd00::fe/64")
		} else {
			w.routers[i-1].Connect(r, line, 1500)
		}
	}
	for i, r := range w.routers {
		if i > 0 {
			r.Route("10.0.0.0/24", w.routers[i-1])
			r.Route("fd00::/64", w.routers[i-1])
		}
		if i < routers-1 {
			r.Route("0.0.0.0/0", w.routers[i+1])
			r.Route("::/0", w.routers[i+1])
		}
	}
	ends := []*stack.Stack{w.near, w.far, gate,
		w.routers[routers-1].Attach(right, "8.8.8.254/24", "2001:db8:8::fe/64")}
	w.gateway(w.near, "10.0.0.254", "fd00::fe")
	w.gateway(w.far, "8.8.8.254", "2001:db8:8::fe")
	var err error
	if w.p, err = probe.New(w.near, o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.p.Close()
		w.RunFor(time.Minute)
		for _, s := range ends {
			s.Close()
		}
		w.RunFor(time.Second)
	})
	// Neighbours are found first, so that the times below are of the path.
	for _, d := range []string{far4, far6} {
		w.ask(probe.Request{Dst: netip.MustParseAddr(d)})
	}
	return w
}

func (w *world) gateway(s *stack.Stack, gateways ...string) {
	for _, g := range gateways {
		r := stack.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr(g)}
		if r.Gateway.Is6() {
			r.Dst = netip.MustParsePrefix("::/0")
		}
		if err := s.AddRoute(r); err != nil {
			w.t.Fatal(err)
		}
	}
}

// ask sends a probe and runs the network until it has a result.
func (w *world) ask(q probe.Request) probe.Result {
	w.t.Helper()
	var r probe.Result
	done := false
	w.p.Send(q, func(x probe.Result) {
		if !done {
			r, done = x, true
		}
	})
	if !w.Until(time.Minute, func() bool { return done }) {
		w.t.Fatalf("%+v: no result in a minute", q)
	}
	return r
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// fixTCP makes a segment's checksum right again.
func fixTCP(m []byte, src, dst netip.Addr) {
	m[16], m[17] = 0, 0
	binary.BigEndian.PutUint16(m[16:], csum.Checksum(m, csum.Pseudo(src, dst, 6, len(m))))
}
