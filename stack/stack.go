// Package stack composes the protocol cores into a host: interfaces, routes,
// neighbours, the tables of connections, timers and locks. It is the only
// place where they meet; the cores know nothing of each other. Nothing here
// blocks: package socket does that on top.
//
// # Locks, in the order in which they may be taken
//
//	Stack.mu        configuration: addresses, routes, interfaces
//	TCPConn.mu      one connection's core; synEntry.mu, Datagram.mu likewise
//	TCPListener.mu  accept queue; timeWaitQueue.mu, halfOpenQueue.mu
//	bindings.mu     who holds which port
//	tcpShard.mu     one shard of the connection table
//	Interface.mu    neighbours, reassembly, address claims, SLAAC, IGMP, MLD
//	PacketSocket.mu what a packet socket has seen
//	exceptions.mu   what routers told; loopQueue.mu, frames to ourselves; Watch.mu
//	wheel.Queue.mu  the timer queue
//	ether.Device    whatever a device locks in Send
//
// What is read for every packet (addresses, routes) is an immutable snapshot
// behind an atomic pointer and needs no lock. Locks that are not listed (random
// numbers, the limiters of ICMP and challenge ACKs, Fast Open's cookies, wait
// queues) are held for a few lines that take no other. Waiters are woken and
// errors delivered with no lock held.
package stack

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/budget"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/wheel"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/tcp"
	"github.com/tapstack/tapstack/tcp/cc"
)

// Config is what New needs to know; the zero Config is a good one.
type Config struct {
	// Clock drives all timers; nil is the machine's. A simulation gives each
	// stack a handle on its virtual clock.
	Clock mono.Clock
	// Seed makes every random choice of the stack reproducible. 0 takes
	// secrets from the operating system, which is what a real host wants.
	Seed uint64
	// Limits bounds memory; zero fields take their defaults.
	Limits Limits
	// TCP holds the timing of connections; zero fields take Linux's values.
	TCP TCPConfig
	// IPv6 is what may be set of IPv6; the zero value has Linux's defaults.
	IPv6 IPv6Config
	// LocalPorts is where ports come from that nobody asked for, Linux's
	// ip_local_port_range; zero, or one without ports, is 32768 to 60999.
	// ReservedPorts are those in it that are only for who asks for them
	// (ip_local_reserved_ports).
	LocalPorts    PortRange
	ReservedPorts []PortRange
}

// TCPConfig is the part of tcp.Config that is the same for all connections.
type TCPConfig struct {
	MinRTO, MaxRTO, InitialRTO         time.Duration
	DelayedAck, TimeWait, FinWait2     time.Duration
	SynRetries, SynAckRetries, Retries int
	// NoTimestamps, NoSACK and NoWScale keep connections from these options,
	// as Linux's tcp_timestamps, tcp_sack and tcp_window_scaling set to 0.
	NoTimestamps, NoSACK, NoWScale bool
	// ECN says whether connections ask for congestion marks and accept them
	// (RFC 3168, RFC 9768). Default: accept RFC 3168's when asked.
	ECN tcp.ECN
	// MTUProbing says whether to search what paths carry by trying (RFC 4821).
	// Default: when large segments seem to vanish.
	MTUProbing tcp.MTUProbing
	// SynCookies says when a listener answers SYNs without keeping them, as
	// Linux's tcp_syncookies. The zero value: when its queue is full.
	SynCookies SynCookies
	// AbortOnOverflow resets a connection for which the accept queue has no
	// room when its handshake is done, as Linux's tcp_abort_on_overflow.
	// Without it the peer's ACK is ignored, and there may be room for the next.
	AbortOnOverflow bool
	// ChallengeACKs is how many challenge ACKs the host sends in a second, on
	// average (RFC 5961 §10, Linux's tcp_challenge_ack_limit). The zero value:
	// as many as the limit of each connection allows, as Linux.
	ChallengeACKs int
	// TimeWaitReuse says whether connections that are opened here may take the
	// ports of those in TIME-WAIT, as Linux's tcp_tw_reuse. The zero value:
	// between loopback addresses.
	TimeWaitReuse TimeWaitReuse
	// FastOpen says who may open connections with text in the SYN (RFC 7413),
	// as Linux's tcp_fastopen. The zero value: FastOpenClient and
	// FastOpenServer, each for those sockets that ask for it.
	FastOpen FastOpen
	// FastOpenKeys make the cookies, as Linux's tcp_fastopen_key: the first
	// makes them, a second is still accepted. None: keys of the stack's own
	// that change daily.
	FastOpenKeys [][16]byte
	// RFC1337 keeps RSTs from ending TIME-WAIT, as Linux's tcp_rfc1337.
	RFC1337 bool
	// NewController makes a connection's congestion controller; nil: cc.NewCubic.
	NewController cc.New
	// KeepIdleWindow leaves congestion windows as they are after a pause and
	// while they are not used, as Linux's tcp_slow_start_after_idle=0.
	KeepIdleWindow bool
	// Trace is asked for a listener for each new connection; nil: nobody
	// watches. With TraceSegments the listeners hear of every segment.
	Trace         TraceTCP
	TraceSegments bool
}

// Stack is one host.
type Stack struct {
	clock   mono.Clock
	epoch   atomic.Int64 // see wall
	limits  Limits
	tcpcfg  TCPConfig
	ipv6cfg IPv6Config
	timers  *wheel.Queue
	stats   counters
	memory  *budget.Budget
	relief  wheel.Timer // runs while memory is short
	secret  [16]byte    // keys of initial sequence numbers, ports, IP identifiers

	// cfg is the configuration that the data path reads; mu serialises those
	// who replace it.
	cfg atomic.Pointer[config]
	mu  sync.Mutex
	// watches are told of what changes; lastIndex is the number of the newest
	// interface. mu is held to change them.
	watches   watches
	lastIndex int32

	rndMu sync.Mutex // guards rnd
	rnd   *rand.Rand

	icmpMu    sync.Mutex // guards the two limiters
	icmpLimit *icmp.Limiter
	echoes    echoes
	icmpPeers *icmp.Peers

	tcp        tcpTable
	udp        bindings[*Datagram]
	ping       bindings[*Datagram]
	lo         *Interface
	loop       loopQueue
	exceptions exceptions
	ids        identifiers

	// raws are the raw sockets, nil: none; mu is held to change them.
	raws rawPointer
	// taps are the packet sockets that want frames, nil: none. packets are all
	// of them; it is guarded by mu.
	taps    atomic.Pointer[taps]
	packets []*PacketSocket
	tapWake wheel.Timer

	localPorts localPorts
	fast       fastCache

	// probers are those that send packets of their own making, nil: none; mu is
	// held to change them.
	probers atomic.Pointer[[]*Prober]

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup // reader goroutines
	closed atomic.Bool
}

// New makes a host with a loopback interface (127.0.0.1/8, ::1/128) and
// nothing else. Close it when done.
func New(c Config) *Stack {
	if c.Clock == nil {
		c.Clock = mono.NewSystem()
	}
	c.Limits.setDefaults()
	s := &Stack{clock: c.Clock, limits: c.Limits, tcpcfg: c.TCP, ipv6cfg: c.IPv6, timers: wheel.New(c.Clock)}
	s.tcpcfg.FastOpenKeys = slices.Clone(c.TCP.FastOpenKeys)
	s.memory = budget.New(int64(c.Limits.Memory), s.pressed)
	s.relief.Owner = wheel.Func(s.relieve)
	s.tapWake.Owner = wheel.Func(s.wakeTaps)
	var seed [48]byte
	if c.Seed == 0 {
		crand.Read(seed[:])
	} else {
		r := rand.New(rand.NewPCG(c.Seed, 0x7461707374616b))
		for i := 0; i < len(seed); i += 8 {
			binary.LittleEndian.PutUint64(seed[i:], r.Uint64())
		}
	}
	copy(s.secret[:], seed[:16])
	s.rnd = rand.New(rand.NewChaCha8([32]byte(seed[16:])))
	s.icmpLimit = icmp.NewLimiter(c.Limits.ICMPErrorsPerSecond, c.Limits.ICMPErrorBurst)
	s.icmpPeers = icmp.NewPeers(maxICMPPeers)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.cfg.Store(&config{policies: ipv6.DefaultPolicies})
	s.localPorts.init(c.LocalPorts, slices.Clone(c.ReservedPorts))
	s.fast.init(c.Limits.FastOpen)
	s.tcp.init(s)
	s.udp.init(probeUDP)
	s.ping.init(probeEcho)
	s.exceptions.init(c.Limits.PathMTU)
	s.initLoopback()
	return s
}

// newRand derives an independent generator for a core.
func (s *Stack) newRand() *rand.Rand {
	s.rndMu.Lock()
	defer s.rndMu.Unlock()
	return rand.New(rand.NewPCG(s.rnd.Uint64(), s.rnd.Uint64()))
}

func (s *Stack) randUint32() uint32 {
	s.rndMu.Lock()
	defer s.rndMu.Unlock()
	return s.rnd.Uint32()
}

// Interfaces returns the interfaces in the order they were added, loopback
// first.
func (s *Stack) Interfaces() []*Interface { return s.cfg.Load().ifaces }

// Shutdown is Drain and Close.
func (s *Stack) Shutdown(ctx context.Context) error {
	s.Drain(ctx)
	return s.Close()
}

// finPatience is how long Drain waits for FINs of peers that have acknowledged
// ours: a program that ends when it has read our end needs no longer, and
// whatever else they may send would not be read.
const finPatience = 200 * time.Millisecond

// Drain closes listeners and connections in the orderly way and waits until
// every FIN has been exchanged or ctx ends. Peers that have everything and keep
// their side open are not waited for, but 200 ms. Datagrams still work.
func (s *Stack) Drain(ctx context.Context) {
	d := s.tcp.shutdown()
	select {
	case <-d.told:
	case <-ctx.Done():
		return
	}
	timer := time.NewTimer(finPatience)
	defer timer.Stop()
	select {
	case <-d.ended:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Close resets what connections are left, closes every device and waits for
// the stack's goroutines. It is safe to call more than once, but not from a
// Waiter's function.
func (s *Stack) Close() error {
	if !s.closed.CompareAndSwap(false, true) {
		return nil
	}
	s.tcp.abortAll()
	s.udp.closeAll()
	s.ping.closeAll()
	for _, d := range s.raws.list() {
		d.Close()
	}
	s.closePackets()
	s.closeWatches()
	s.closeProbers()
	s.timers.Close()
	s.cancel()
	s.update(func(*config) error { return nil }) // an AddInterface under way has ended
	var errs []error
	for _, i := range s.cfg.Load().ifaces {
		errs = append(errs, i.close())
	}
	s.wg.Wait()
	for _, i := range s.cfg.Load().ifaces {
		i.release()
	}
	s.loop.drain(s)
	return errors.Join(errs...)
}

// RandUint64 returns a number from the stack's generator, to seed those who
// live above it: with Config.Seed they are reproducible too.
func (s *Stack) RandUint64() uint64 {
	s.rndMu.Lock()
	defer s.rndMu.Unlock()
	return s.rnd.Uint64()
}
