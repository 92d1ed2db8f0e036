package stack

import (
	"net/netip"
	"sync"
	"syscall"

	"github.com/tapstack/tapstack/internal/mono"
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
	halfOpen   int // records in the table
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
	l := &TCPListener{stack: s, addr: local.Addr().WithZone(""), both: !only6, share: share}
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
	l.halfOpen++
	l.young++
	l.mu.Unlock()
	e := &synEntry{listener: l, iface: l.stack.replyInterface(p), young: true}
	e.rec.Init(cfg, b.now, &b.seg)
	if l.stack.tcp.insert(id, e) != nil {
		l.forget(e)
		return
	}
	st.PassiveOpen.inc()
	e.mu.Lock()
	e.sendLocked(b.now, give)
	if l.isClosed() && !e.gone {
		e.removeLocked() // Close did not see it
	}
	e.mu.Unlock()
}

func (l *TCPListener) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// forget counts e, which is no longer half-open.
func (l *TCPListener) forget(e *synEntry) {
	l.mu.Lock()
	l.agedLocked(e)
	l.halfOpen--
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

func (l *TCPListener) full() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue) >= l.backlog
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
	queue := l.queue
	l.queue = nil
	l.mu.Unlock()
	l.stack.tcp.listen.remove(l, l.port)
	for _, c := range queue {
		c.Abort()
	}
	for _, e := range l.stack.tcp.half.of(l) {
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
