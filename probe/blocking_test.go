package probe_test

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/probe"
	"github.com/tapstack/tapstack/stack"
)

// two runs f with a prober one millisecond away from 10.0.0.2 and fd00::2, on
// goroutines of their own and a clock that jumps.
func two(t *testing.T, f func(t *testing.T, p *probe.Prober)) {
	synctest.Test(t, func(t *testing.T) {
		seg := wire.New(mono.NewSystem(), wire.Options{MTU: 1500, Delay: time.Millisecond})
		var stacks []*stack.Stack
		for i, name := range []string{"a", "b"} {
			s := stack.New(stack.Config{Seed: uint64(i + 1)})
			mac := ether.Addr{2, 0, 0, 0, 0, byte(i + 1)}
			nic, err := s.AddInterface(stack.InterfaceConfig{Name: name, Device: seg.Attach(name, mac), MAC: mac, NoDAD: true})
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range []string{"10.0.0.%/24", "fd00::%/64"} {
				if err := nic.AddAddr(netip.MustParsePrefix(replace(a, byte('1'+i)))); err != nil {
					t.Fatal(err)
				}
			}
			stacks = append(stacks, s)
		}
		p, err := probe.New(stacks[0], probe.Options{})
		if err != nil {
			t.Fatal(err)
		}
		f(t, p)
		p.Close()
		for _, s := range stacks {
			s.Close()
		}
		seg.Close()
	})
}

func replace(s string, c byte) string {
	b := []byte(s)
	for i := range b {
		if b[i] == '%' {
			b[i] = c
		}
	}
	return string(b)
}

func TestBlockingCalls(t *testing.T) {
	two(t, func(t *testing.T, p *probe.Prober) {
		ctx := t.Context()
		for _, dst := range []netip.Addr{addr("10.0.0.2"), addr("fd00::2")} {
			for proto := probe.ICMP; proto <= probe.SCTP; proto++ {
				if r, err := p.Probe(ctx, probe.Request{Dst: dst, Proto: proto}); err != nil || r.Kind != probe.Reply {
					t.Errorf("%v: %v, %v", proto, r.Kind, err)
				}
			}
			if r := p.Ping(ctx, probe.PingRequest{Request: probe.Request{Dst: dst}, Count: 3, Data: 56}, nil); r.Received != 3 {
				t.Errorf("ping: %+v", r)
			}
			if r := p.Trace(ctx, probe.TraceRequest{Request: probe.Request{Dst: dst}, Cycles: 2}, nil); !r.Reached() || len(r.Hops) != 1 {
				t.Errorf("trace: %+v", r)
			}
			if r := p.Paths(ctx, probe.PathsRequest{Request: probe.Request{Dst: dst}}); !r.Reached || r.Width != 1 {
				t.Errorf("paths: %+v", r)
			}
			if r := p.MTU(ctx, probe.MTURequest{Request: probe.Request{Dst: dst}}); r.MTU != 1500 {
				t.Errorf("MTU: %+v", r)
			}
		}
	})
}

// TestContexts: every call comes back when its context ends.
func TestContexts(t *testing.T) {
	two(t, func(t *testing.T, p *probe.Prober) {
		gone := probe.Request{Dst: addr("10.0.0.9"), Timeout: time.Hour, Watch: time.Hour}
		for _, call := range []func(context.Context){
			func(ctx context.Context) {
				if r, err := p.Probe(ctx, gone); r.Kind == probe.Closed && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%v, %v", r.Kind, err)
				}
			},
			func(ctx context.Context) {
				if r := p.Ping(ctx, probe.PingRequest{Request: gone}, nil); r.Sent == 0 {
					t.Errorf("ping: %+v", r)
				}
			},
			func(ctx context.Context) { p.Trace(ctx, probe.TraceRequest{Request: gone, Cycles: 1000}, nil) },
			func(ctx context.Context) { p.Paths(ctx, probe.PathsRequest{Request: gone, Tries: 1000}) },
			func(ctx context.Context) { p.MTU(ctx, probe.MTURequest{Request: gone, Tries: 1000}) },
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
			start := time.Now()
			call(ctx)
			if d := time.Since(start); d > 1500*time.Millisecond {
				t.Errorf("came back after %v", d)
			}
			cancel()
		}
	})
}

// TestManyCallers: probes from many goroutines at once.
func TestManyCallers(t *testing.T) {
	two(t, func(t *testing.T, p *probe.Prober) {
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				proto := probe.Proto(i % 4)
				for range 20 {
					if r, err := p.Probe(t.Context(), probe.Request{Dst: addr("10.0.0.2"), Proto: proto}); err != nil || r.Kind != probe.Reply && r.Kind != probe.NoReply {
						t.Errorf("%v: %v, %v", proto, r.Kind, err)
					}
				}
			})
		}
		wg.Wait()
		if n := p.InFlight(); n != 0 {
			t.Errorf("%d under way", n)
		}
	})
}
