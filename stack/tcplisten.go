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
	holder

	mu         sync.Mutex // guards everything below
	open       bool       // Listen was called
	closed     bool
	backlog    int
	knobs      tcp.Knobs
	headers    HeaderOptions
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
	o := BindOptions{Only6: only6}
	if share {
		o.Sharing = ShareAddr | SharePort
	}
	return s.BindTCPWith(local, o)
}

// BindOptions is what BindTCPWith does otherwise than BindTCP.
type BindOptions struct {
	Only6   bool       // keeps the IPv6 wildcard from IPv4
	Sharing Sharing    // who may hold the same port
	Device  *Interface // the only interface to use (SO_BINDTODEVICE), nil: any
}

// BindTCPWith is BindTCP with options.
func (s *Stack) BindTCPWith(local netip.AddrPort, o BindOptions) (*TCPListener, error) {
	if s.closed.Load() {
		return nil, syscall.ENETDOWN
	}
	if err := s.checkLocal(local.Addr()); err != nil {
		return nil, err
	}
	pin, err := s.bindZone(local.Addr(), o.Device)
	if err != nil {
		return nil, err
	}
	l := &TCPListener{stack: s, addr: local.Addr().WithZone(""), both: !o.Only6}
	l.SetSharing(o.Sharing)
	l.dev.Store(pin)
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

func (l *TCPListener) holds() hold { return l.hold(l.addr, l.both) }

// SetDevice changes BindOptions.Device.
func (l *TCPListener) SetDevice(i *Interface) { l.dev.Store(i) }

// inherit gives a connection what the listener says of its port.
func (l *TCPListener) inherit(c *TCPConn) {
	c.sharing.Store(l.sharing.Load() &^ uint32(shareListener))
	if c.dev = l.dev.Load(); c.dev != nil {
		c.iface = c.dev
	}
}

// Listen begins to accept; backlog bounds the accept queue as in listen(2).
// EADDRINUSE if another listener holds the port by SO_REUSEADDR.
func (l *TCPListener) Listen(backlog int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return syscall.EBADF
	}
	if !l.open {
		// Of two that begin at the same time both see the other.
		l.sharing.Or(uint32(shareListener))
		if l.stack.tcp.listen.taken(l.stack, l, l.port) {
			l.sharing.And(^uint32(shareListener))
			return syscall.EADDRINUSE
		}
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
	return l.stack.DialTCPWith(netip.AddrPortFrom(l.addr, l.port), remote, l.DialOptions())
}

// DialOptions are those of a connection from the listener's port: what was set
// for the port holds for it.
func (l *TCPListener) DialOptions() DialOptions {
	return DialOptions{Knobs: l.Knobs(), Headers: l.HeaderOptions(), Device: l.dev.Load(), Sharing: Sharing(l.sharing.Load()), Filter: l.stack.tcp.filters.of(l)}
}

// lookupListener returns the listener for a connection from remote to local that
// comes in by an interface: the most specific one, or of several that share the
// port the one whose turn it is.
func (t *tcpTable) lookupListener(local, remote netip.AddrPort, in *Interface) (best *TCPListener) {
	score := 0
	list := t.listen.on(local.Port())
	for _, l := range list {
		n := 2 * accepts(l.addr, l.both, local.Addr())
		if dev := l.dev.Load(); n > 0 && dev != nil {
			// Linux, too: what the host sends to a link-local address of its own is
			// on that link.
			if n++; dev != in && !(in != nil && in.loopback && needsZone(local.Addr())) {
				continue
			}
		}
		if n > score && l.listening() {
			best, score = l, n
		}
	}
	if best == nil || len(list) == 1 {
		return best
	}
	return balanced(list, best, t.stack.peerHash(local, remote), (*TCPListener).listening)
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
	case !l.open:
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
		l.stack.sendCookie(b, l, p, r, cfg, id)
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
	syn := l.stack.fromSYN(&p)
	if l.stack.tcp.insert(id, e) != nil {
		l.forget(e)
		return
	}
	st.PassiveOpen.inc()
	e.mu.Lock()
	if !e.gone {
		l.stack.tcp.synOptions.set(l.stack, e, syn)
	}
	e.sendLocked(b.now, give)
	if !l.listening() && !e.gone {
		e.removeLocked() // Close did not see it
	}
	e.mu.Unlock()
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
	closed := !l.open
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
func (l *TCPListener) Close() { l.end(true) }

// Unlisten is Close that keeps the port, as shutdown(2) of a listener does.
// Listen may be called again.
func (l *TCPListener) Unlisten() { l.end(false) }

func (l *TCPListener) end(closed bool) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	l.open, l.closed = false, closed
	if closed {
		l.stack.tcp.filters.forget(l)
	}
	queue := l.queue
	l.queue = nil
	l.mu.Unlock()
	l.sharing.And(^uint32(shareListener))
	if closed {
		l.stack.tcp.listen.remove(l, l.port)
	}
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
	if !l.open {
		return ReadyIn | ReadyHup
	}
	if len(l.queue) > 0 {
		return ReadyIn
	}
	return 0
}

// Addr returns the address and port held.
func (l *TCPListener) Addr() netip.AddrPort {
	return l.stack.inZone(netip.AddrPortFrom(l.addr, l.port), l.dev.Load())
}

// Device returns the interface that the port is held on, nil: all.
func (l *TCPListener) Device() *Interface { return l.dev.Load() }

// Waiters is where to wait for connections.
func (l *TCPListener) Waiters() *WaitQueue { return &l.waiters }
