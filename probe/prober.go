package probe

import (
	"context"
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/stack"
)

// This file owns the life of a probe: its identity and its place in the table,
// sending, giving up.

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
	}
	rnd    uint64
	counts [numDrops]uint64
	closed bool
}

type portKey struct {
	table uint8 // the protocol's number; ICMP's for both families
	port  uint16
}

// portUse counts the probes, and callers of Reserve, that use a port.
type portUse struct{ users int }

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

// Reserve takes a source port, or an identifier of echo requests, for several
// probes: 0 takes a free one. EADDRINUSE when a socket has it. Release gives it
// back once the probes that use it are over.
func (p *Prober) Reserve(proto Proto, port uint16) (uint16, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reserveLocked(proto, port)
}

func (p *Prober) reserveLocked(proto Proto, port uint16) (uint16, error) {
	k := portKey{proto.ipProto(false), port}
	if u := p.ports[k]; port != 0 && u != nil {
		u.users++
		return port, nil
	}
	port, err := p.out.ReservePort(k.table, port)
	if err == nil {
		k.port = port
		p.ports[k] = &portUse{1}
	}
	return port, err
}

// Release gives back what Reserve took.
func (p *Prober) Release(proto Proto, port uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.releaseLocked(proto, port)
}

func (p *Prober) releaseLocked(proto Proto, port uint16) {
	k := portKey{proto.ipProto(false), port}
	u := p.ports[k]
	if u == nil {
		return
	}
	if u.users--; u.users == 0 {
		delete(p.ports, k)
		p.out.ReleasePort(k.table, port)
	}
}

// flow is what the routers of a path see of a probe. For echo requests the
// local port is the identifier and the remote one 0.
type flow struct {
	proto         Proto
	local, remote netip.AddrPort
}

// identity is a flow and the token in it.
type identity struct {
	flow
	token uint32
}

// probe is one under way.
type probe struct {
	identity
	order   uint64
	route   stack.ProbeRoute
	header  stack.ProbeHeader
	message []byte
	sum     header      // for comparing with quotes
	sent    []mono.Time // each transmission
	data    int         // where the data of message begins
	retries int
	connect bool
	tsval   uint32
	timer   timer
	giveUp  mono.Time
	forget  mono.Time // after watching
	wait    time.Duration
	watch   time.Duration // how long it is wanted after its result
	done    bool          // it had an answer
	late    bool          // NoReply was told
	group   bool          // whoever answers is right
	// next and previous have the same ports.
	next, previous *probe
	f              func(Result)
}

// Send sends a probe and returns. f is called with its result, on a goroutine of
// the stack's, which it must not hold up, or before Send returns if nothing
// could be sent; it may send more probes. With Request.Watch it may be called
// several times. The stack's clock and devices do the rest.
func (p *Prober) Send(q Request, f func(Result)) {
	e, message, kind, err := p.begin(&q, f)
	if e == nil {
		f(Result{Kind: kind, Err: err, CorruptAt: -1})
		return
	}
	// The table knows it: an answer may come before Send returns.
	if err := p.out.Send(&e.route, &e.header, message); err != nil {
		p.mu.Lock()
		if p.table[e.identity] != e {
			p.mu.Unlock()
			return // somebody has told already
		}
		p.removeLocked(e)
		p.mu.Unlock()
		f(Result{Kind: kindOf(err), Err: err, CorruptAt: -1})
	}
}

// Poll looks for answers on the caller's goroutine, on which they may be told.
// Between probes that are sent as fast as can be it makes round trips those of
// the network: otherwise a goroutine has to be woken for the first answer.
func (p *Prober) Poll() { p.out.Poll() }

// kindOf names an error of sending.
func kindOf(err error) Kind {
	switch err {
	case syscall.ENETUNREACH:
		return NoRouteNetwork
	case syscall.EHOSTUNREACH:
		return NoRouteHost
	case syscall.EADDRNOTAVAIL:
		return AddressNotAvailable
	case syscall.EADDRINUSE:
		return AddressInUse
	case syscall.ENETDOWN:
		return NetworkDown
	case syscall.EMSGSIZE:
		return MessageSize
	case syscall.EINVAL, syscall.ENODEV:
		return InvalidArgument
	}
	return UnexpectedError
}

// begin builds a probe and enters it in the table.
func (p *Prober) begin(q *Request, f func(Result)) (*probe, []byte, Kind, error) {
	if q.Proto >= numProtos || !q.Dst.IsValid() || q.Src.IsValid() && q.Src.Is4() != q.Dst.Unmap().Is4() || q.Size < 0 || q.FlowLabel > 0xfffff {
		return nil, nil, InvalidArgument, syscall.EINVAL
	}
	r, err := p.route(q)
	if err != nil {
		return nil, nil, kindOf(err), err
	}
	n := q.messageLen(r.HeaderLen())
	if n+r.HeaderLen() > 65535 {
		return nil, nil, MessageSize, syscall.EMSGSIZE
	}
	if q.Proto == TCP && r.Group() {
		return nil, nil, InvalidArgument, syscall.EINVAL
	}
	e := &probe{route: r, f: f, message: make([]byte, n), group: r.Group(), retries: q.Retries, connect: q.Connect}
	e.header = stack.ProbeHeader{Protocol: q.Proto.ipProto(r.Dst().Is6()), TTL: q.TTL, TOS: q.TOS, DF: q.DF, FlowLabel: q.FlowLabel}

	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return nil, nil, Closed, ErrClosed
	case len(p.table) >= p.inFlight:
		return nil, nil, ProbesExhausted, ErrExhausted
	}
	if err := p.identifyLocked(e, q); err != nil {
		return nil, nil, kindOf(err), err
	}
	e.sum = header{tos: q.TOS, id: e.header.ID, df: q.DF, label: q.FlowLabel, total: n + r.HeaderLen()}
	if mtu := r.MTU(); !q.DF && e.sum.total > mtu {
		e.sum.total = 0
	}
	p.insertLocked(e)
	now := p.Now()
	timeout := q.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	e.sent = append(e.sent, now)
	e.giveUp = now.Add(timeout)
	e.forget = e.giveUp.Add(max(q.Watch, 0))
	e.watch = max(q.Watch, 0)
	e.timer.f = func(now mono.Time) func() { return p.expireLocked(e, now) }
	e.wait = time.Second
	p.armLocked(e)
	return e, e.message, 0, nil
}

// messageLen is the length of the message behind an IP header of hl bytes.
func (q *Request) messageLen(hl int) int {
	n := q.Size - hl
	if q.Size == 0 && (q.Proto == ICMP || q.Proto == UDP) {
		n = DefaultSize - hl
	}
	n = max(n, q.Proto.headerLen())
	if q.Payload != nil {
		n = q.Proto.headerLen() + len(q.Payload)
		if q.Proto == SCTP {
			n += 4
		}
	}
	if q.Proto == SCTP {
		n = (n + 3) &^ 3 // chunks are multiples of four bytes
	}
	return n
}

// identifyLocked gives a probe its ports and token, and writes its message.
func (p *Prober) identifyLocked(e *probe, q *Request) error {
	src, dst := e.route.Src(), e.route.Dst()
	port := q.SrcPort
	if q.Proto == ICMP {
		port = q.EchoID
	}
	shared := &p.ids.udp
	if q.Proto == ICMP {
		shared = &p.ids.echo
	}
	if port == 0 && (q.Proto == ICMP || q.Proto == UDP) {
		if *shared == 0 {
			n, err := p.reserveLocked(q.Proto, 0)
			if err != nil {
				return err
			}
			*shared = n
		}
		port = *shared
	}
	port, err := p.reserveLocked(q.Proto, port)
	if err != nil {
		return err
	}
	remote := uint16(0)
	if q.Proto != ICMP {
		if remote = q.DstPort; remote == 0 {
			remote = DefaultTCPPort
			if q.Proto == UDP {
				remote = DefaultUDPPort
			}
		}
	}
	if p.ids.packet++; p.ids.packet == 0 {
		p.ids.packet = 1
	}
	e.header.ID = p.ids.packet
	// Whoever may be many is not known by an address.
	who := dst
	if e.group {
		who = netip.IPv6Unspecified()
		if dst.Is4() {
			who = netip.IPv4Unspecified()
		}
	}
	e.flow = flow{q.Proto, netip.AddrPortFrom(src, port), netip.AddrPortFrom(who, remote)}
	x := ends{src, dst, port, remote}
	b := e.message
	e.data = min(q.Proto.headerLen(), len(b))
	if q.Proto != SCTP {
		fill(b[e.data:], q.Pattern, q.Payload)
	}
	ok := false
	switch q.Proto {
	case ICMP:
		// The Prober's own requests are numbered by it; those of a caller's
		// identifier by the caller.
		seq := q.EchoSeq
		if q.EchoID == 0 {
			seq, ok = p.freeTokenLocked(e, &p.ids.seq, 0, 0xffff)
		} else {
			e.token = uint32(seq)
			ok = p.table[e.identity] == nil
		}
		if ok {
			putEcho(b, x, seq, q.EchoSum)
		}
	case UDP:
		var token uint16
		if token, ok = p.freeTokenLocked(e, &p.ids.token, 1, 0xfffe); ok {
			sum := putUDP(b, x, token, q.Payload == nil)
			e.token = uint32(sum)
			// Without room for a token equal datagrams are equal.
			ok = p.table[e.identity] == nil
		}
	case TCP:
		r := p.rand()
		e.token, e.tsval = uint32(r), uint32(r>>32)
		if ok = p.table[e.identity] == nil; ok {
			putSYN(b, x, segment{seq: e.token, flags: flagSyn, tsval: e.tsval})
		}
	case SCTP:
		e.token = uint32(p.rand()) | 1 // the tag; 0 is none (RFC 9260 §3.3.2)
		putINIT(b, x, e.token, q.Pattern, q.Payload)
		// Quotes of IPv4 do not show the tag.
		ok = p.flows[e.flow] == nil
	}
	if !ok {
		p.releaseLocked(q.Proto, port)
		return syscall.EADDRINUSE
	}
	return nil
}

// freeTokenLocked counts a token on to one that nobody in e's flow has.
func (p *Prober) freeTokenLocked(e *probe, next *uint16, low, high uint16) (uint16, bool) {
	for range 1 << 16 {
		if *next++; *next < low || *next > high {
			*next = low
		}
		e.token = uint32(*next)
		if p.table[e.identity] == nil {
			return *next, true
		}
	}
	return 0, false
}

func (p *Prober) insertLocked(e *probe) {
	p.timers.order++
	e.order = p.timers.order
	p.table[e.identity] = e
	if first := p.flows[e.flow]; first != nil {
		e.next, first.previous = first, e
	}
	p.flows[e.flow] = e
}

// removeLocked forgets a probe.
func (p *Prober) removeLocked(e *probe) {
	delete(p.table, e.identity)
	switch {
	case e.previous != nil:
		e.previous.next = e.next
	case e.next != nil:
		p.flows[e.flow] = e.next
	default:
		delete(p.flows, e.flow)
	}
	if e.next != nil {
		e.next.previous = e.previous
	}
	e.next, e.previous = nil, nil
	p.timers.set(&e.timer, 0)
	p.releaseLocked(e.proto, e.local.Port())
}

// armLocked sets a probe's timer to what comes next.
func (p *Prober) armLocked(e *probe) {
	when := e.giveUp
	switch {
	case e.done || e.late:
		when = e.forget
	case e.retries > 0:
		when = mono.Earliest(when, e.sent[len(e.sent)-1].Add(e.wait))
	}
	p.setLocked(&e.timer, when)
}

// setLocked moves a timer and, if need be, the stack's.
func (p *Prober) setLocked(t *timer, when mono.Time) {
	p.timers.set(t, when)
	p.out.Arm(p.timers.first())
}

// expireLocked is a probe's timer.
func (p *Prober) expireLocked(e *probe, now mono.Time) func() {
	switch {
	case now >= e.forget:
		told := e.done || e.late
		p.removeLocked(e)
		if told {
			return nil
		}
	case now >= e.giveUp && !e.done:
		e.late = true
		p.armLocked(e)
	case e.retries > 0 && !e.done:
		e.retries--
		e.wait *= 2
		e.sent = append(e.sent, now)
		e.message = slices.Clone(e.message) // the one before may still be on its way down
		if e.proto == TCP {
			// Its timestamp tells which transmission an answer is to.
			e.tsval++
			binary.BigEndian.PutUint32(e.message[28:], e.tsval)
			sumTCP(e.message, e.ends())
		}
		p.armLocked(e)
		message := e.message
		return func() { _ = p.out.Send(&e.route, &e.header, message) } // what fails is lost, as on the way
	default:
		p.armLocked(e)
		return nil
	}
	r := Result{Kind: NoReply, CorruptAt: -1, Transmissions: len(e.sent)}
	return func() { e.f(r) }
}

func (e *probe) ends() ends {
	return ends{e.route.Src(), e.route.Dst(), e.local.Port(), e.remote.Port()}
}

// expire runs what is due.
func (p *Prober) expire(now mono.Time) {
	p.mu.Lock()
	for {
		when := p.timers.first()
		if !when.Due(now) || p.closed {
			break
		}
		t := p.timers.heap[0]
		p.timers.remove(t)
		if f := t.f(now); f != nil {
			p.mu.Unlock()
			f()
			p.mu.Lock()
		}
	}
	p.out.Arm(p.timers.first())
	p.mu.Unlock()
}

// Start sends a probe; its result, and with Request.Watch the first of them, is
// received from the channel. When ctx ends first it is Closed, with ctx's error.
func (p *Prober) Start(ctx context.Context, q Request) <-chan Result {
	c := make(chan Result, 1)
	stop := context.AfterFunc(ctx, func() {
		select {
		case c <- Result{Kind: Closed, Err: context.Cause(ctx), CorruptAt: -1}:
		default:
		}
	})
	p.Send(q, func(r Result) {
		stop()
		select {
		case c <- r:
		default: // a duplicate, or ctx has ended
		}
	})
	return c
}

// Probe sends a probe and waits for its result. The error is ctx's or ErrClosed;
// what else can go wrong is a Kind.
func (p *Prober) Probe(ctx context.Context, q Request) (Result, error) {
	r := <-p.Start(ctx, q)
	if r.Kind == Closed {
		return r, r.Err
	}
	return r, nil
}

// Drop is why an answer was refused.
type Drop uint8

// The reasons.
const (
	DropUnknown  Drop = iota // of no probe under way: the tuple is nobody's
	DropToken                // the tuple is a probe's, the token is not: forged, or from before
	DropShort                // too short to be told
	DropLength               // it quotes a packet of another length
	DropChecksum             // CRC32c of SCTP
	DropAck                  // a segment that acknowledges what was not sent
	DropType                 // a message or chunk that answers nothing
	DropSource               // somebody else answers for the destination
	numDrops
)

var dropNames = [numDrops]string{"unknown", "token", "short", "length", "checksum", "ack", "type", "source"}

// String returns the reason's name.
func (d Drop) String() string {
	if d < numDrops {
		return dropNames[d]
	}
	return "unknown"
}

// Path is what is known of the way to a destination before anything is sent.
type Path struct {
	Src   netip.Addr
	Group bool // a multicast or broadcast address
	// MTU is what the path is known to carry, LinkMTU what its first link does.
	MTU, LinkMTU int
}

// Path looks up the way that a request would take. Errors are those of
// stack.Prober.Route, and ENODEV.
func (p *Prober) Path(q *Request) (Path, error) {
	r, err := p.route(q)
	if err != nil {
		return Path{}, err
	}
	return Path{r.Src(), r.Group(), r.MTU(), r.LinkMTU()}, nil
}

func (p *Prober) route(q *Request) (stack.ProbeRoute, error) {
	var dev *stack.Interface
	if q.Device != "" {
		for _, i := range p.stack.Interfaces() {
			if i.Name() == q.Device {
				dev = i
			}
		}
		if dev == nil {
			return stack.ProbeRoute{}, syscall.ENODEV
		}
	}
	return p.out.Route(q.Dst.Unmap(), q.Src, dev)
}
