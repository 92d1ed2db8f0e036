package probe

import (
	"slices"
	"sync"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/stack"
)

// This file owns the Prober: the table of probes under way, which identity.go makes the
// keys of, its generator of random numbers and its end.

// Defaults of Request and Options.
const (
	DefaultTimeout  = 10 * time.Second
	DefaultSize     = 64
	DefaultInFlight = 1 << 16
	DefaultUDPPort  = 33434
	DefaultTCPPort  = 80
)

// Options of a Prober; zero fields take their defaults.
type Options struct {
	// InFlight is the most probes under way, those that are watched after their
	// result included. Default 65536. Each takes about a kilobyte.
	InFlight int
}

// Prober sends probes on a stack. Its methods are safe for concurrent use.
type Prober struct {
	stack    *stack.Stack
	out      *stack.Prober
	inFlight int

	mu     sync.Mutex // guards everything below; before all locks of the stack
	table  map[identity]*probe
	flows  map[flow]*probe // the first of those that have the same ports
	timers timers
	ports  map[portKey]*portUse
	ids    struct {
		echo   uint16 // identifier of our echo requests, 0: not taken yet
		udp    uint16 // source port of datagrams
		seq    uint16 // of echo requests
		token  uint16 // of datagrams
		packet uint16 // IPv4 identification
		back   uint16 // how far below what is acknowledged the last segment within a connection was
	}
	rnd    uint64
	counts [numDrops]uint64
	closed bool
}

// New makes a Prober. Close it when done.
func New(s *stack.Stack, o Options) (*Prober, error) {
	if o.InFlight <= 0 {
		o.InFlight = DefaultInFlight
	}
	p := &Prober{stack: s, inFlight: o.InFlight, rnd: s.RandUint64(),
		table: make(map[identity]*probe), flows: make(map[flow]*probe), ports: make(map[portKey]*portUse)}
	r := p.rand()
	p.ids.seq, p.ids.token, p.ids.packet = uint16(r), uint16(r>>16), uint16(r>>32)
	var err error
	p.out, err = s.NewProber(handler{p})
	return p, err
}

// rand is a generator of its own (SplitMix64), seeded by the stack's.
func (p *Prober) rand() uint64 {
	p.rnd += 0x9e3779b97f4a7c15
	z := p.rnd
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Stack returns the stack that the probes go through.
func (p *Prober) Stack() *stack.Stack { return p.stack }

// Now returns the stack's instant.
func (p *Prober) Now() mono.Time { return p.out.Now() }

// Close ends all probes: those without a result get Closed.
func (p *Prober) Close() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.closed = true
	var ended []*probe
	for _, e := range p.table {
		ended = append(ended, e)
	}
	slices.SortFunc(ended, func(a, b *probe) int { return int(a.order) - int(b.order) })
	var calls []func()
	for _, e := range ended {
		waiting := !e.done
		p.removeLocked(e)
		if waiting {
			calls = append(calls, func() { e.f(Result{Kind: Closed, Err: ErrClosed, CorruptAt: -1, Transmissions: len(e.sent)}) })
		}
	}
	// Sessions that wait for their time find that nothing can be sent.
	for p.timers.first() != 0 {
		t := p.timers.heap[0]
		p.timers.remove(t)
		calls = append(calls, t.f(p.out.Now()))
	}
	p.mu.Unlock()
	p.out.Close()
	for _, f := range calls {
		f()
	}
}

// InFlight returns how many probes are under way.
func (p *Prober) InFlight() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.table)
}

// Counters returns by name how many answers were refused, and why; zeros are
// left out.
func (p *Prober) Counters() map[string]uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := make(map[string]uint64)
	for d, n := range p.counts {
		if n > 0 {
			m["probe.drop."+Drop(d).String()] = n
		}
	}
	return m
}
