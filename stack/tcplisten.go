package stack

import (
	"net/netip"
	"sync"
	"syscall"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/wheel"
	"github.com/tapstack/tapstack/tcp"
	"github.com/tapstack/tapstack/tcp/cc"
)

// TCPListener holds a local TCP port; after Listen it accepts connections.
// Half-open connections are small records until their handshake is done, and
// wait then in the accept queue, which the backlog bounds.
type TCPListener struct {
	stack *Stack
	addr  netip.Addr // unspecified for all of its family
	port  uint16
	both  bool // the IPv6 wildcard takes IPv4 as well
	share bool

	mu         sync.Mutex // guards everything below
	open       bool       // Listen was called
	closed     bool
	backlog    int
	knobs      tcp.Knobs
	halfOpen   map[*synEntry]struct{}
	young      int // of halfOpen: the SYN-ACK was sent only once
	queue      []*TCPConn
	fast       fastListener
	cookieAt   mono.Time // when a SYN was last answered with a cookie, 0: never
	lostAt     mono.Time // when one last came back to a full accept queue, 0: never
	controller cc.New    // of accepted connections; nil: the stack's

	waiters WaitQueue
}

// BindTCP holds a local port, 0 for a free one. only6 keeps the IPv6 wildcard
// from IPv4; share allows others who share as well. Errors: EADDRNOTAVAIL for
// an address that is not ours, EADDRINUSE.
func (s *Stack) BindTCP(local netip.AddrPort, only6, share bool) (*TCPListener, error) {
	if s.closed.Load() {
		return nil, syscall.ENETDOWN
	}
	if err := s.checkLocal(local.Addr()); err != nil {
		return nil, err
	}
	l := &TCPListener{stack: s, addr: local.Addr().WithZone(""), both: !only6, share: share,
		halfOpen: make(map[*synEntry]struct{})}
	port, err := s.tcp.listen.add(s, l, local.Port())
	if err != nil {
		return nil, err
	}
	l.port = port
	return l, nil
}

// checkLocal reports EADDRNOTAVAIL for an address that is not ours.
func (s *Stack) checkLocal(a netip.Addr) error {
	if a.IsUnspecified() {
		return nil
	}
	if x := s.cfg.Load().local(a.WithZone(""), s.lo); x == nil || x.state == addrTentative {
		return syscall.EADDRNOTAVAIL
	}
	return nil
}

func (l *TCPListener) bindAddr() (netip.Addr, bool) { return l.addr, l.both }
func (l *TCPListener) shares() bool                 { return l.share }

// Listen begins to accept; backlog bounds the accept queue as in listen(2).
func (l *TCPListener) Listen(backlog int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return syscall.EBADF
	}
	if backlog < 0 {
		backlog = l.stack.limits.Backlog // Linux: listen takes it as unsigned
	}
	// Linux: a backlog of n lets n+1 connections wait.
	l.open, l.backlog = true, min(backlog, l.stack.limits.Backlog)+1
	return nil
}

// SetKnobs sets what the connections begin with whose handshake ends from now
// on, and those of Dial.
func (l *TCPListener) SetKnobs(k tcp.Knobs) {
	l.mu.Lock()
	l.knobs = k
	l.mu.Unlock()
}

// Knobs returns what SetKnobs set.
func (l *TCPListener) Knobs() tcp.Knobs {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.knobs
}

// Dial connects from the port that is held.
func (l *TCPListener) Dial(remote netip.AddrPort) (*TCPConn, error) {
	return l.stack.DialTCPWith(netip.AddrPortFrom(l.addr, l.port), remote, DialOptions{Knobs: l.Knobs()})
}

// lookupListener returns the listener for a connection to local, the most
// specific one.
func (t *tcpTable) lookupListener(local netip.AddrPort) (best *TCPListener) {
	score := 0
	for _, l := range t.listen.on(local.Port()) {
		if n := accepts(l.addr, l.both, local.Addr()); n > score && l.listening() {
			best, score = l, n
		}
	}
	return best
}

func (l *TCPListener) listening() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open && !l.closed
}

// inputSYN opens a half-open connection (RFC 9293 §3.10.7.2, third).
func (l *TCPListener) inputSYN(b *batch, p packet, id fourTuple) {
	st := &l.stack.stats.TCP
	r, err := l.stack.findRoute(p.src, p.dst, l.stack.replyInterface(p))
	if err != nil {
		l.stack.dropOut(p.src, DropNoRoute)
		return
	}
	k := l.Knobs()
	cfg := l.stack.tcpConfig(&r, id, b.now, &k)
	beyond(cfg, b.old)
	l.mu.Lock()
	switch {
	case l.closed:
		l.mu.Unlock()
		st.Drop[tcp.DropNoConnection].inc()
		l.stack.tcp.reset(b, p)
		return
	case len(l.queue) >= l.backlog:
		// Linux drops the SYN: the client tries again, and there may be room.
		l.mu.Unlock()
		st.Drop[tcp.DropListenOverflow].inc()
		return
	case !b.old.valid && l.wantCookieLocked():
		// Never for the successor of a connection in TIME-WAIT: that peer is
		// real, and its record makes room.
		if l.stack.tcpcfg.SynCookies == SynCookiesOff {
			l.mu.Unlock()
			st.Drop[tcp.DropSynQueueFull].inc()
			return
		}
		l.cookieAt = b.now
		l.mu.Unlock()
		l.stack.sendCookie(b, &r, cfg, id)
		return
	}
	var give tcp.FastOpenOption
	if wantsFast(b) {
		l.mu.Unlock()
		var done bool
		if give, done = l.inputFastSYN(b, p, id, &r, cfg); done {
			return
		}
		l.mu.Lock()
	}
	e := &synEntry{listener: l, iface: l.stack.replyInterface(p), rec: tcp.NewSynRequest(cfg, b.now, &b.seg), young: true}
	e.timer.F = e.expire
	l.halfOpen[e] = struct{}{}
	l.young++
	l.mu.Unlock()
	if l.stack.tcp.insert(id, e) != nil {
		l.forget(e)
		return
	}
	st.PassiveOpen.inc()
	e.mu.Lock()
	e.sendLocked(b.now, give)
	e.mu.Unlock()
}

func (l *TCPListener) forget(e *synEntry) {
	l.mu.Lock()
	l.agedLocked(e)
	delete(l.halfOpen, e)
	l.mu.Unlock()
}

// Accept takes the oldest connection; EAGAIN when there is none, EINVAL when
// not listening.
func (l *TCPListener) Accept() (*TCPConn, error) {
	c, err := l.take()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.waiting = false
	c.mu.Unlock()
	l.stack.stats.TCP.Accepted.inc()
	return c, nil
}

// take takes it out of the queue.
func (l *TCPListener) take() (*TCPConn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return nil, syscall.EBADF
	case !l.open:
		return nil, syscall.EINVAL
	case len(l.queue) == 0:
		return nil, syscall.EAGAIN
	}
	c := l.queue[0]
	l.queue[0] = nil
	l.queue = l.queue[1:]
	return c, nil
}

// established queues a connection whose handshake is done, or for a Fast Open,
// which has long been queued, gives its place to another. b.seg has just been
// input.
func (l *TCPListener) established(b *batch, c *TCPConn) {
	c.mu.Lock()
	st := c.core.State()
	done := c.listener == l && st != tcp.SynReceived
	if done {
		c.listener = nil
	}
	fast := c.core.FastOpened()
	c.mu.Unlock()
	if done && fast {
		l.fastDone(b.now, st == tcp.Closed && b.seg.Flags&tcp.FlagRST != 0)
		return
	}
	if !done || st == tcp.Closed {
		return
	}
	l.mu.Lock()
	closed := l.closed
	if !closed {
		l.queue = append(l.queue, c)
	}
	l.mu.Unlock()
	if closed {
		c.Abort()
		return
	}
	l.waiters.Wake(ReadyIn)
}

// Close stops listening, gives the port back, and resets the connections that
// nobody accepted (as Linux does).
func (l *TCPListener) Close() {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	l.closed = true
	queue, half := l.queue, l.halfOpen
	l.queue, l.halfOpen = nil, make(map[*synEntry]struct{})
	l.mu.Unlock()
	l.stack.tcp.listen.remove(l, l.port)
	for _, c := range queue {
		c.Abort()
	}
	for e := range half {
		e.drop()
	}
	l.waiters.Wake(ReadyIn | ReadyHup)
}

// Ready reports ReadyIn when a connection waits.
func (l *TCPListener) Ready() Ready {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ReadyIn | ReadyHup
	}
	if len(l.queue) > 0 {
		return ReadyIn
	}
	return 0
}

// Addr returns the address and port held.
func (l *TCPListener) Addr() netip.AddrPort { return netip.AddrPortFrom(l.addr, l.port) }

// Waiters is where to wait for connections.
func (l *TCPListener) Waiters() *WaitQueue { return &l.waiters }

// synEntry is a half-open connection: a SYN has come, the SYN-ACK is out.
type synEntry struct {
	tcpLink
	listener *TCPListener
	iface    *Interface
	timer    wheel.Timer

	young bool // counted in listener.young, and guarded by its lock

	mu   sync.Mutex // guards rec and gone
	rec  *tcp.SynRequest
	gone bool
}

func (e *synEntry) table() *tcpTable { return &e.listener.stack.tcp }

// input implements tcpEntry (RFC 9293 §3.10.7.4 in SYN-RECEIVED).
func (e *synEntry) input(b *batch, p packet) {
	t, l := e.table(), e.listener
	e.mu.Lock()
	if e.gone {
		e.mu.Unlock()
		t.dispatch(b, p)
		return
	}
	verdict, drop := e.rec.Input(b.now, &b.seg)
	if drop != tcp.DropNone {
		t.stack.stats.TCP.Drop[drop].inc()
	}
	switch verdict {
	case tcp.VerdictReply:
		e.outputLocked(b.now)
	case tcp.VerdictRemove:
		e.removeLocked()
	case tcp.VerdictRefuse:
		e.removeLocked()
		fallthrough
	case tcp.VerdictReset:
		e.mu.Unlock()
		t.reset(b, p)
		return
	case tcp.VerdictEstablish:
		if t.stack.memory.Full() {
			t.stack.stats.TCP.Drop[tcp.DropMemory].inc()
			break
		}
		if l.full() {
			// Linux: the ACK is ignored; the SYN-ACK will be sent again and
			// the client's next segment gets another chance.
			t.stack.stats.TCP.Drop[tcp.DropListenOverflow].inc()
			if t.stack.tcpcfg.AbortOnOverflow {
				e.removeLocked()
				e.mu.Unlock()
				t.reset(b, p)
				return
			}
			break
		}
		c := e.establishLocked(b.now)
		e.mu.Unlock()
		if c != nil {
			c.input(b, p)
		}
		return
	}
	e.mu.Unlock()
}

func (l *TCPListener) full() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue) >= l.backlog
}

// establishLocked replaces the record by a connection in SYN-RECEIVED, to be
// given the segment that completes the handshake.
func (e *synEntry) establishLocked(now mono.Time) *TCPConn {
	s := e.listener.stack
	id := e.id()
	r, err := s.findRoute(id.remote.Addr(), id.local.Addr(), e.iface)
	if err != nil {
		s.dropOut(id.remote.Addr(), DropNoRoute)
		return nil
	}
	c := &TCPConn{stack: s, iface: e.iface, route: r, listener: e.listener}
	c.timer.F = c.expire
	k := e.listener.Knobs()
	cfg := s.tcpConfig(&r, id, now, &k)
	cfg.NewController = e.listener.newController()
	c.core = e.rec.Conn(cfg, now)
	c.setLowat(&k)
	e.gone = true
	s.timers.Stop(&e.timer)
	if !s.tcp.swap(e, c) {
		return nil
	}
	e.listener.forget(e)
	return c
}

func (e *synEntry) outputLocked(now mono.Time) { e.sendLocked(now, tcp.FastOpenOption{}) }

// sendLocked sends what is due. give goes with the first SYN-ACK only (RFC
// 7413 §4.2.1, Linux).
func (e *synEntry) sendLocked(now mono.Time, give tcp.FastOpenOption) {
	t := e.table()
	var seg tcp.Segment
	for e.rec.Output(now, &seg) {
		seg.Options.FastOpen = give
		id := e.id()
		r, err := t.stack.findRoute(id.remote.Addr(), id.local.Addr(), e.iface)
		if err != nil {
			t.stack.dropOut(id.remote.Addr(), DropNoRoute)
			break
		}
		t.emitAlone(now, &r, &seg)
	}
	t.stack.timers.Arm(&e.timer, e.rec.Deadline())
}

func (e *synEntry) expire(now mono.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.gone {
		return
	}
	if e.rec.Deadline().Due(now) {
		if e.listener.crowdedOut(e) {
			e.table().stack.stats.TCP.Drop[tcp.DropSynPruned].inc()
			e.removeLocked()
			return
		}
		if e.rec.Expire(now) == tcp.VerdictRemove {
			e.removeLocked()
			return
		}
	}
	e.outputLocked(now)
}

func (e *synEntry) removeLocked() {
	e.gone = true
	e.table().stack.timers.Stop(&e.timer)
	e.table().swap(e, nil)
	e.listener.forget(e)
}

// drop forgets the half-open connection; the peer's next segment is answered
// with a reset.
func (e *synEntry) drop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.gone {
		e.removeLocked()
	}
}
