package stack

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/wheel"
	"github.com/tapstack/tapstack/tcp"
)

// TCPConn is a connection core with what it needs to live: a lock, a timer, a
// route, and the waiters of its user. No method blocks.
type TCPConn struct {
	tcpLink
	stack *Stack
	iface *Interface // pins link-local and pinned connections, nil otherwise
	dev   *Interface // SO_BINDTODEVICE; nil: any

	mu        sync.Mutex // guards everything below
	core      *tcp.Conn
	now       mono.Time // the latest instant that core was told
	path      path
	touched   mono.Time // last output pass: input, user or timer
	confirmed mono.Time // when the neighbour was last vouched for
	timer     wheel.Timer
	listener  *TCPListener // until the handshake is done: where to be accepted
	unflushed int32        // bytes input since the last flush
	dries     uint32       // batch.dries at the last input
	dirty     bool         // on a reader's flush list
	removed   bool         // no longer in the table under this pointer
	orphan    bool         // the user has closed it
	counted   bool         // among tcpTable.orphan
	fast      bool         // opened from here by Fast Open, and the outcome is open
	waiting   bool         // opened by the peer's Fast Open, and not yet accepted
	told      bool         // in tcpTable.told

	sharing atomic.Uint32 // Sharing, of the local port
	lowat   atomic.Int32  // tcp.KnobRcvLowat; 0: not set
	waiters WaitQueue
}

// tcpConfig is the configuration of a connection between two addresses.
func (s *Stack) tcpConfig(r *route, id fourTuple, now mono.Time, k *tcp.Knobs) *tcp.Config {
	overhead := 40 // IPv4 and TCP header
	ip := 20
	if id.local.Addr().Is6() {
		overhead, ip = 60, 40
	}
	c := s.tcp.common
	c.LocalPort, c.RemotePort = id.local.Port(), id.remote.Port()
	c.ISS = tcp.ISN(s.secret, id.local, id.remote, now)
	c.TSOffset = tcp.TimestampOffset(s.secret, id.local, id.remote)
	c.MSS, c.SendMSS, c.IPHeader = r.iface.mtuFor(r.dst)-overhead, r.mtu-overhead, ip
	if s.memory.Pressure() {
		c.RcvInit = min(c.RcvInit, 4*c.MSS) // a promise that can still be kept
	}
	c.Knobs = *k
	if r.metrics != nil {
		r.metrics.apply(&c)
	}
	return &c
}

// commonTCP is what the configurations of all connections begin with.
func (s *Stack) commonTCP() (c tcp.Config) {
	t := &s.tcpcfg
	c = tcp.Config{
		RcvBuf: s.limits.TCPReceive, SndBuf: s.limits.TCPSend,
		RcvInit: s.limits.TCPReceiveInitial, SndInit: s.limits.TCPSendInitial, Memory: s.memory,
		NewController: t.NewController, KeepIdleWindow: t.KeepIdleWindow,
		ECN: t.ECN, MTUProbing: t.MTUProbing,
		MinRTO: t.MinRTO, MaxRTO: t.MaxRTO, InitialRTO: t.InitialRTO, DelayedAck: t.DelayedAck,
		TimeWait: t.TimeWait, FinWait2: t.FinWait2,
		NoTimestamps: t.NoTimestamps, NoSACK: t.NoSACK, NoWScale: t.NoWScale,
		SynRetries: t.SynRetries, SynAckRetries: t.SynAckRetries, Retries: t.Retries,
		Challenge: s.tcp.mayChallenge, RFC1337: t.RFC1337,
		Totals: &s.stats.TCP.Mechanism,
	}
	c.Shared = tcp.NewShared(&c)
	return c
}

// DialTCP begins a connection to remote and returns at once, with the SYN
// sent; readiness to write or an error says how it went. local may lack
// address and port. Errors: those of the route lookup, EADDRNOTAVAIL when the
// four-tuple is taken or no port is free, ENOBUFS at Limits.Connections, ENETUNREACH for a broadcast or multicast address.
func (s *Stack) DialTCP(local, remote netip.AddrPort) (*TCPConn, error) {
	return s.DialTCPWith(local, remote, DialOptions{})
}

// DialOptions is what DialTCPWith does otherwise than DialTCP.
type DialOptions struct {
	Knobs tcp.Knobs // settings that hold from the SYN on
	// Headers are options and extension headers of the connection's packets.
	Headers HeaderOptions
	Fast    bool // Fast Open, see DialTCPFast
	// Device is the only interface to use (SO_BINDTODEVICE), nil: any; Sharing
	// is who may bind the local port beside the connection.
	Device  *Interface
	Sharing Sharing
	// Filter decides which segments arrive, see TCPConn.SetFilter.
	Filter Filter
	// Trace, if it is not nil, hears of the connection from the SYN on, see
	// SetTrace, and takes the place of TCPConfig.Trace. With TraceSegments it
	// hears of every segment.
	Trace         tcp.Trace
	TraceSegments bool
	// Repair, unless nil, makes the connection without a handshake, see
	// tcp.NewRepaired.
	Repair *tcp.RepairStart
}

// DialTCPWith is DialTCP with options.
func (s *Stack) DialTCPWith(local, remote netip.AddrPort, o DialOptions) (*TCPConn, error) {
	if s.closed.Load() {
		return nil, syscall.ENETDOWN
	}
	dst := remote.Addr()
	if dst.IsUnspecified() {
		// As Linux: "any address" means this host.
		dst = loopback4
		if remote.Addr().Is6() {
			dst = netip.IPv6Loopback()
		}
	}
	if dst.IsMulticast() || dst == limitedBroadcast {
		return nil, syscall.ENETUNREACH
	}
	pin, err := s.connectZone(dst, o.Device)
	if err != nil {
		return nil, err
	}
	h := newConnHeaders(o.Headers, 0, dst)
	via := o.Headers.headers.via(dst)
	r, err := s.findRoute(via, local.Addr(), pin)
	if err != nil {
		return nil, err
	}
	if via != dst {
		r.final = dst.WithZone("")
	}
	if r.bcast {
		return nil, syscall.ENETUNREACH
	}
	now := s.clock.Now()
	c := &TCPConn{stack: s, path: r.path, iface: o.Device, dev: o.Device}
	c.sharing.Store(uint32(o.Sharing))
	if r.dst.IsLinkLocalUnicast() && r.dst.Is6() {
		if c.iface = pin; pin == nil {
			c.iface = r.iface
		}
	}
	c.timer.Owner = (*connTimer)(c)
	c.mu.Lock()
	var old successor
	var id fourTuple
	connect := func(port uint16) error {
		id = fourTuple{netip.AddrPortFrom(r.src, port), netip.AddrPortFrom(r.end(), remote.Port())}
		err := s.tcp.insert(id, c)
		if err == syscall.EADDRINUSE {
			if next, ok := s.tcp.takeOver(now, id, local.Port() != 0); ok {
				old, err = next, s.tcp.insert(id, c)
			}
		}
		return err
	}
	if local.Port() != 0 {
		if err = connect(local.Port()); err == syscall.EADDRINUSE {
			err = syscall.EADDRNOTAVAIL // as Linux: the port is ours, the pair is not to be had
		}
	} else {
		err = s.forConnection(now, r.src, netip.AddrPortFrom(r.end(), remote.Port()), func(port uint16) error {
			if s.tcp.listen.held(port) {
				return syscall.EADDRINUSE
			}
			return connect(port)
		})
	}
	if err != nil {
		c.mu.Unlock()
		return nil, err
	}
	cfg := s.tcpConfig(&r, id, now, &o.Knobs)
	h.withBelow(cfg)
	beyond(cfg, old)
	if o.Repair != nil {
		c.core = tcp.NewRepaired(cfg, now, *o.Repair)
	} else {
		c.core = tcp.NewActive(cfg, now)
	}
	c.setLowat(&o.Knobs)
	c.tickLocked(now)
	if o.Trace != nil {
		c.core.SetTrace(now, o.Trace, o.TraceSegments)
	} else {
		c.offerTraceLocked(id)
	}
	if o.Filter != nil {
		s.tcp.filters.set(c, o.Filter)
	}
	if o.Fast && o.Repair == nil {
		c.offerLocked(now)
	}
	s.stats.TCP.ActiveOpen.inc()
	ready := c.outputLocked(now)
	c.mu.Unlock()
	c.waiters.Wake(ready)
	return c, nil
}

// input implements tcpEntry.
func (c *TCPConn) input(b *batch, p packet) {
	c.mu.Lock()
	if c.removed || c.core == nil {
		c.mu.Unlock()
		c.stack.stats.TCP.Drop[tcp.DropNoConnection].inc()
		c.stack.tcp.reset(b, p)
		return
	}
	ready := c.inputLocked(b)
	l := c.listener
	c.mu.Unlock()
	c.waiters.Wake(ready)
	if l != nil {
		l.established(b, c)
	}
}

// inputLocked gives b.seg to the core and puts the connection on the flush
// list.
func (c *TCPConn) inputLocked(b *batch) Ready {
	now := c.tickLocked(b.now)
	if c.dries != b.dries {
		c.dries = b.dries
		c.core.QueueDry()
	}
	ev, drop := c.core.Input(now, &b.seg)
	if drop != tcp.DropNone {
		c.stack.stats.TCP.Drop[drop].inc()
	}
	if ev&tcp.EvProgress != 0 && now.Sub(c.confirmed) > time.Second && !c.path.iface.loopback {
		// RFC 4861 §7.3.1: not every segment shows that the peer hears us.
		c.confirmed = now
		c.path.iface.confirm(now, c.path.nextHop)
	}
	c.unflushed += int32(b.seg.PayloadLen())
	ready := c.readyFor(ev)
	if c.fast && ev&tcp.EvConnected != 0 {
		c.learnFastLocked(b)
	}
	if c.unflushed >= flushBytes {
		ready |= c.outputLocked(now)
	}
	if !c.dirty {
		c.dirty = true
		b.dirty = append(b.dirty, c)
	}
	return ready
}

// tickLocked returns the instant for a call of the core. A reader looks at the
// clock once for a batch, so it may come with an earlier instant than the one
// at which the user wrote meanwhile. The core's time must not run backward: its
// timestamps would, and the peer would drop those segments (RFC 7323 §5.3).
func (c *TCPConn) tickLocked(now mono.Time) mono.Time {
	c.now = max(c.now, now)
	return c.now
}

// flush lets the connection answer what a batch brought it.
func (c *TCPConn) flush(now mono.Time) {
	c.mu.Lock()
	c.dirty = false
	ready := c.outputLocked(now)
	c.mu.Unlock()
	c.waiters.Wake(ready)
}

// outputLocked sends all that the core has to send, follows it out of the
// table if it has ended, and arms its timer.
func (c *TCPConn) outputLocked(now mono.Time) (ready Ready) {
	c.unflushed = 0
	if c.removed {
		return 0
	}
	now = c.tickLocked(now)
	id := c.id()
	h := c.headersLocked()
	r := route{path: c.path, src: id.local.Addr(), dst: h.to(id.remote.Addr())}
	var noRoute error
	if r.stale(c.stack, now) {
		// Addresses, routes or the path have changed since.
		var fresh route
		if fresh, noRoute = c.stack.findRoute(r.dst, r.src, c.iface); noRoute == nil {
			r, c.path = fresh, fresh.path
			c.core.SetPathMTU(r.mtu)
		}
	}
	h.fill(c.stack, now, &r, id.remote.Addr())
	var seg tcp.Segment
	var tx *txBatch
	limit := r.superFrame()
	for c.core.Output(now, &seg, limit) {
		if noRoute != nil {
			// As good as lost: there is no way any more, or the source address may
			// not be used at the moment. A soft error, while connecting too, as on
			// Linux, which looks again with each retransmission.
			c.stack.dropOut(r.dst, DropNoRoute)
			if errno, ok := noRoute.(syscall.Errno); ok {
				c.core.SoftError(errno)
			}
			continue
		}
		if tx == nil {
			tx = newTx(r.iface)
		}
		switch err := c.stack.tcp.emit(now, tx, &r, &seg); err {
		case syscall.EMSGSIZE:
			c.core.TooBig(now, seg.Seq, r.mtu)
		case syscall.ENETDOWN:
			if r.iface.isDown() {
				ready |= c.unreachableLocked(now, syscall.ENETDOWN)
			} // else it may be set up again
		case syscall.EHOSTUNREACH:
			ready |= c.unreachableLocked(now, err.(syscall.Errno))
		}
	}
	if tx != nil {
		tx.done()
		if c.core.WriterFreed() {
			ready |= ReadyOut
		}
	}
	switch c.core.State() {
	case tcp.Closed:
		c.removeLocked(nil)
		return ready | ReadyIn | ReadyOut | ReadyHup
	case tcp.TimeWait:
		c.stack.stats.TCP.TimeWait.inc()
		e := &timeWaitEntry{rec: *c.core.TimeWait(now)}
		e.rec.Tag = uint8(c.sharing.Load())
		c.removeLocked(e)
		return ready
	case tcp.FinWait2:
		c.toldLocked()
	}
	c.touched = now
	c.armLocked(now)
	return ready
}

// toldLocked tells Drain of a connection whose peer has acknowledged all, the FIN
// included, so that only the peer's own end is missing.
func (c *TCPConn) toldLocked() {
	t := &c.stack.tcp
	if c.told || c.removed || c.core == nil || c.core.State() != tcp.FinWait2 || t.closing.Load() == nil {
		return
	}
	c.told = true
	t.told.Add(1)
	t.checkDrained()
}

// removeLocked takes the connection out of the table, leaving its TIME-WAIT
// record in its place if there is one.
func (c *TCPConn) removeLocked(tw *timeWaitEntry) {
	c.removed = true
	t := &c.stack.tcp
	if c.fast {
		c.failFastLocked()
	}
	if l := c.listener; l != nil && c.core.FastOpened() {
		c.listener = nil
		l.fastDone(c.now, false)
	}
	if c.counted {
		c.counted = false
		t.orphan.Add(-1)
	}
	if c.told {
		c.told = false
		t.told.Add(-1)
	}
	t.filters.forget(c)
	t.reminders.forget(c)
	c.stack.timers.Stop(&c.timer)
	if tw == nil {
		t.swap(c, nil)
		return
	}
	// In this order: what the queue evicts has to be in the table already.
	if t.swap(c, tw) {
		if old := t.wait.add(tw); old != nil {
			t.swap(old, nil)
		}
	}
	t.checkDrained()
}

// connTimer is a connection as the owner of its timer. A method value would be
// one more piece of memory for each.
type connTimer TCPConn

// Expire implements wheel.Owner.
func (c *connTimer) Expire(now mono.Time) { (*TCPConn)(c).expire(now) }

// expire is what the connection's timer does; it may come early.
func (c *TCPConn) expire(now mono.Time) {
	c.mu.Lock()
	if c.removed {
		c.mu.Unlock()
		return
	}
	now = c.tickLocked(now)
	var ready Ready
	if c.core.Deadline().Due(now) {
		ev := c.core.Expire(now)
		if ev&tcp.EvSilence != 0 && !c.path.iface.loopback {
			c.path.iface.doubt(now, c.path.nextHop)
		}
		ready = c.readyFor(ev)
		ready |= c.outputLocked(now)
	} else {
		if now.Sub(c.touched) >= idleTrim {
			c.core.Trim(now)
			c.touched = now // what could not be given back is looked at again
		}
		c.armLocked(now)
	}
	c.mu.Unlock()
	c.waiters.Wake(ready)
}

// idleTrim is how long a connection keeps the memory of empty buffers after
// it was last used.
const idleTrim = 10 * time.Second

// armLocked sets the timer to the core's deadline, or to when an idle
// connection is to give memory back.
func (c *TCPConn) armLocked(now mono.Time) {
	d := c.core.Deadline()
	if c.core.Holding() {
		d = mono.Earliest(d, max(c.touched.Add(idleTrim), now+1))
	}
	c.stack.timers.Arm(&c.timer, d)
}

// readyFor translates a core's events into what the user's waiters know.
func (c *TCPConn) readyFor(ev tcp.Events) (r Ready) {
	if ev&tcp.EvReadable != 0 {
		r |= ReadyIn | c.hangUpLocked()
	}
	if ev&(tcp.EvWritable|tcp.EvConnected) != 0 {
		r |= ReadyOut
	}
	if ev&tcp.EvError != 0 {
		r |= ReadyErr | ReadyIn | ReadyOut
	}
	if ev&tcp.EvClosed != 0 {
		r |= ReadyHup | ReadyIn | ReadyOut
	}
	if ev&tcp.EvUrgent != 0 {
		r |= ReadyPri
	}
	return r
}

// inputError handles an ICMP error about a segment of this connection. RFC
// 5927 §4: only one whose sequence number is in flight can be genuine.
func (c *TCPConn) inputError(header []byte, e icmpError) {
	c.mu.Lock()
	if c.removed || (!e.local && !c.core.InWindow(quotedSeq(header))) {
		c.mu.Unlock()
		c.stack.stats.TCP.Drop[tcp.DropOutOfWindow].inc()
		return
	}
	now := c.tickLocked(e.now)
	c.traceErrorLocked(now, e)
	var ready Ready
	switch {
	case e.tooBig && c.path.lock:
	case e.tooBig:
		dst := c.headersLocked().to(c.id().remote.Addr())
		mtu, tiny := pathMTU(dst.Is6(), e.mtu)
		if mtu < c.path.mtu || tiny && !c.path.tiny {
			c.stack.exceptions.lower(e.now, dst, mtu, tiny)
			c.path.mtu, c.path.tiny = min(mtu, c.path.mtu), tiny
			c.path.until = mono.Earliest(c.path.until, e.now.Add(pathMTUAge))
		}
		c.core.TooBig(now, quotedSeq(header), mtu)
	default:
		ready = c.unreachableLocked(now, e.errno)
	}
	ready |= c.outputLocked(now)
	c.mu.Unlock()
	c.waiters.Wake(ready)
}

// unreachableLocked applies an error from the network: fatal while connecting,
// and for a Fast Open that nobody has accepted, and otherwise only remembered,
// as Linux and RFC 5461 have it.
func (c *TCPConn) unreachableLocked(now mono.Time, errno syscall.Errno) Ready {
	if st := c.core.State(); st == tcp.SynSent || st == tcp.SynReceived && c.waiting {
		return c.readyFor(c.core.HardError(now, errno))
	}
	c.core.SoftError(errno)
	return 0
}

// fail ends the connection with an error of our own, of which the peer is not
// told.
func (c *TCPConn) fail(errno syscall.Errno) { c.end((*tcp.Conn).HardError, errno) }

// end ends the connection in one of the ways that the core knows.
func (c *TCPConn) end(how func(*tcp.Conn, mono.Time, syscall.Errno) tcp.Events, errno syscall.Errno) {
	now := c.stack.clock.Now()
	c.mu.Lock()
	if c.removed {
		c.mu.Unlock()
		return
	}
	now = c.tickLocked(now)
	ready := c.readyFor(how(c.core, now, errno))
	ready |= c.outputLocked(now)
	c.mu.Unlock()
	c.waiters.Wake(ready)
}

// act runs f on the core and sends what follows from it.
func (c *TCPConn) act(f func(now mono.Time)) {
	c.mu.Lock()
	now := c.tickLocked(c.stack.clock.Now())
	f(now)
	ready := c.outputLocked(now) | c.hangUpLocked()
	c.mu.Unlock()
	c.waiters.Wake(ready | ReadyIn | ReadyOut)
}

// CloseRead discards what arrives from now on; reads return io.EOF.
func (c *TCPConn) CloseRead() { c.act(func(mono.Time) { c.core.CloseRead() }) }

// CloseWrite sends FIN after the data written so far. ENOTCONN before the
// connection is open.
func (c *TCPConn) CloseWrite() (err error) {
	c.act(func(now mono.Time) { err = c.core.CloseWrite(now) })
	return err
}

// Close ends the user's part; the core finishes on its own, unless there are
// Limits.Orphans of that kind already.
func (c *TCPConn) Close() {
	c.act(func(now mono.Time) {
		if !c.orphan {
			c.orphan = true
			c.core.Close(now)
			c.countOrphanLocked(now)
		}
	})
}

// Abort resets the connection.
func (c *TCPConn) Abort() {
	c.act(func(now mono.Time) {
		c.orphan = true
		c.core.Abort(now)
	})
}

// SetSharing changes DialOptions.Sharing, and what an accepted connection has
// from its listener.
func (c *TCPConn) SetSharing(s Sharing) { c.sharing.Store(uint32(s)) }

// Err returns the error that ended the connection, nil while there is none.
func (c *TCPConn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.core.Err()
}

// State returns the connection's state (RFC 9293 §3.3.2).
func (c *TCPConn) State() tcp.State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.core.State()
}

// Info returns a snapshot of the connection's variables.
func (c *TCPConn) Info() tcp.Info {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.core.InfoAt(c.tickLocked(c.stack.clock.Now()))
}

// LocalAddr and RemoteAddr return the two ends.
func (c *TCPConn) LocalAddr() netip.AddrPort { return c.withZone(c.id().local) }

// RemoteAddr returns the other end.
func (c *TCPConn) RemoteAddr() netip.AddrPort { return c.withZone(c.id().remote) }

func (c *TCPConn) withZone(a netip.AddrPort) netip.AddrPort {
	return c.stack.inZone(a, c.iface)
}

// Waiters is where to wait for the connection's readiness.
func (c *TCPConn) Waiters() *WaitQueue { return &c.waiters }
