package stack

import (
	"hash/maphash"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/tapstack/tapstack/internal/csum"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/internal/seq"
	"github.com/tapstack/tapstack/internal/wheel"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/tcp"
)

// fourTuple names a connection, seen from here. Addresses are never mapped and
// never carry a zone.
type fourTuple struct{ local, remote netip.AddrPort }

// tcpEntry is what the table knows of a four-tuple: a connection, or one of
// the two small records that stand for a connection before and after its life.
// Each embeds a tcpLink.
type tcpEntry interface {
	link() *tcpLink
	// input handles a segment; b.seg holds it parsed.
	input(b *batch, p packet)
	// cost is what the memory budget is charged for it.
	cost() int
}

const tcpShards = 64

// tcpTable finds connections and listeners. RFC 9293 §3.10.7: a segment goes
// to its connection, else to the listener of its port, else it is answered
// with a reset.
type tcpTable struct {
	stack  *Stack
	seed   maphash.Seed
	shards [tcpShards]tcpShard
	size   atomic.Int64

	listen     bindings[*TCPListener]
	conns      portConns
	wait       timeWaitQueue
	half       halfOpenQueue
	filters    tcpFilters
	synOptions synOptions
	reminders  reminders
	orphan     atomic.Int64 // connections that nobody has any more and that are not over

	challenge    tcp.ChallengeLimit
	challengeMu  sync.Mutex // guards challenge
	mayChallenge func(now mono.Time) bool
	common       tcp.Config // of all connections

	closing atomic.Pointer[draining] // set by Drain
	told    atomic.Int64             // while closing: connections whose peers have all of it
}

func (t *tcpTable) init(s *Stack) {
	t.stack, t.seed = s, maphash.MakeSeed()
	t.listen.init(probeTCP)
	t.wait.table = t
	t.wait.timer.Owner = wheel.Func(t.wait.expire)
	t.half.table = t
	t.half.timer.Owner = wheel.Func(t.half.expire)
	if n := s.tcpcfg.ChallengeACKs; n > 0 {
		t.challenge = tcp.ChallengeLimit{PerSecond: n, Rand: s.newRand()}
	}
	t.mayChallenge = t.takeChallenge
	t.common = s.commonTCP()
}

// takeChallenge is the host's limit of challenge ACKs (RFC 5961 §10).
func (t *tcpTable) takeChallenge(now mono.Time) bool {
	st := &t.stack.stats.TCP
	if t.challenge.PerSecond > 0 {
		t.challengeMu.Lock()
		ok := t.challenge.Take(now)
		t.challengeMu.Unlock()
		if !ok {
			st.ChallengeWithheld.inc()
			return false
		}
	}
	st.ChallengeAck.inc()
	return true
}

// conns appends the connections of a shard to list.
func (sh *tcpShard) conns(list []*TCPConn) []*TCPConn {
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	sh.eachLocked(func(e tcpEntry) {
		if c, ok := e.(*TCPConn); ok {
			list = append(list, c)
		}
	})
	return list
}

func (c *TCPConn) cost() int       { return connCost }
func (e *synEntry) cost() int      { return halfOpenCost }
func (e *timeWaitEntry) cost() int { return timeWaitCost }

// shard returns where entries with key k are, and k's hash there.
func (t *tcpTable) shard(k *connKey) (*tcpShard, uint32) {
	h := maphash.Comparable(t.seed, *k)
	return &t.shards[h>>32%tcpShards], uint32(h)
}

func (t *tcpTable) lookup(id fourTuple) tcpEntry {
	k := id.key()
	sh, hash := t.shard(&k)
	sh.mu.RLock()
	e := sh.findLocked(hash, &k)
	sh.mu.RUnlock()
	return e
}

// insert enters e under id unless that is taken (EADDRINUSE) or the table or
// the memory budget is full (ENOBUFS). Afterwards e's link has the id.
func (t *tcpTable) insert(id fourTuple, e tcpEntry) error {
	k := id.key()
	sh, hash := t.shard(&k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.findLocked(hash, &k) != nil {
		return syscall.EADDRINUSE
	}
	if t.size.Load() >= int64(t.stack.limits.Connections) || !t.stack.memory.Take(e.cost()) {
		t.stack.stats.TCP.Drop[tcp.DropMemory].inc()
		return syscall.ENOBUFS
	}
	l := e.link()
	l.key, l.hash = k, hash
	sh.putLocked(e)
	t.size.Add(1)
	t.conns.count(k.localPort, 1)
	if t.stack.proberOf(probeTCP, k.localPort) != nil {
		sh.removeLocked(e)
		t.stack.memory.Return(e.cost())
		t.size.Add(-1)
		t.conns.count(k.localPort, -1)
		return syscall.EADDRINUSE
	}
	return nil
}

// swap replaces old by e under the same tuple; e nil removes it. It reports
// false when old is no longer there.
func (t *tcpTable) swap(old, e tcpEntry) bool {
	port := old.link().key.localPort
	sh, _ := t.shard(&old.link().key)
	sh.mu.Lock()
	if e != nil {
		ok := sh.replaceLocked(old, e)
		sh.mu.Unlock()
		if ok {
			t.stack.memory.Charge(e.cost() - old.cost())
		}
		return ok
	}
	ok := sh.removeLocked(old)
	sh.mu.Unlock()
	if !ok {
		return false
	}
	t.stack.memory.Return(old.cost())
	t.size.Add(-1)
	t.conns.count(port, -1)
	t.checkDrained()
	return true
}

// all returns the entries at this moment, in the order of their tuples, so
// that equal runs end equally.
func (t *tcpTable) all() (list []tcpEntry) {
	for i := range t.shards {
		sh := &t.shards[i]
		sh.mu.RLock()
		sh.eachLocked(func(e tcpEntry) { list = append(list, e) })
		sh.mu.RUnlock()
	}
	slices.SortFunc(list, func(a, b tcpEntry) int { return a.link().key.compare(&b.link().key) })
	return list
}

// input is the step from IP to TCP. It borrows p.
func (t *tcpTable) input(b *batch, p packet) {
	st := &t.stack.stats.TCP
	st.Input.inc()
	if p.group || p.Group {
		// RFC 9293 §3.9.2.3 (MUST-57): TCP is never broadcast.
		st.Drop[tcp.DropGroupDestination].inc()
		return
	}
	if p.dst.Is6() && t.stack.tentative(p) {
		return
	}
	if !transportChecksumOK(p) {
		st.Drop[tcp.DropBadChecksum].inc()
		return
	}
	if d := tcp.Parse(&b.seg, p.Bytes()); d != tcp.DropNone {
		st.Drop[d].inc()
		return
	}
	b.seg.Segs, b.seg.ECN = 1, tcp.Codepoint(p.tos&3)
	if p.GSO.SegSize > 0 {
		b.seg.Segs = (b.seg.PayloadLen() + int(p.GSO.SegSize) - 1) / int(p.GSO.SegSize)
	}
	t.dispatch(b, p)
}

// dispatch gives the segment in b.seg to whom it concerns.
func (t *tcpTable) dispatch(b *batch, p packet) {
	id := fourTuple{netip.AddrPortFrom(p.dst, b.seg.DstPort), netip.AddrPortFrom(p.src, b.seg.SrcPort)}
	filtered := t.filters.n.Load() > 0
	if e := t.lookup(id); e != nil {
		if t.reminders.n.Load() > 0 {
			t.reminded(b, p, e)
		}
		if !filtered || t.passes(b, p, e) {
			e.input(b, p)
		}
		return
	}
	if l := t.lookupListener(id.local, id.remote, p.iface); l != nil && (filtered && !t.passes(b, p, l) || l.input(b, p, id)) {
		return
	}
	if t.stack.probeInput(probeTCP, b.seg.DstPort, p) {
		return
	}
	t.stack.stats.TCP.Drop[tcp.DropNoConnection].inc()
	t.reset(b, p)
}

// reset answers the segment in b.seg as RFC 9293 §3.10.7.1 says for a
// connection that does not exist: with a RST, unless it was one.
func (t *tcpTable) reset(b *batch, p packet) {
	if !tcp.ResetFor(&b.seg, &b.reply) {
		return
	}
	r, err := t.stack.findRoute(p.src, p.dst, t.stack.replyInterface(p))
	if err != nil {
		t.stack.dropOut(p.src, DropNoRoute)
		return
	}
	if !t.stack.answerOptions(b.now, &r, p.options4()) {
		return
	}
	r.withLabel(t.stack.reflected(ReflectResets, &p))
	t.stack.stats.TCP.ResetOut.inc()
	t.emitAlone(b.now, &r, &b.reply)
}

// beyond moves a connection's initial sequence number past those of the old
// connection between the same ports (RFC 6191 §2, RFC 9293 §3.4.3).
func beyond(cfg *tcp.Config, old successor) {
	if old.valid && cfg.ISS.Less(old.iss) {
		cfg.ISS = old.iss
	}
}

// successor is what a connection that takes the place of one in TIME-WAIT has
// to know of it: the least initial sequence number.
type successor struct {
	valid bool
	iss   seq.Num
}

// emitAlone sends one segment that belongs to no connection's batch: an answer.
func (t *tcpTable) emitAlone(now mono.Time, r *route, seg *tcp.Segment) {
	r.answer = true
	tx := newTx(r.iface)
	t.emit(now, tx, r, seg)
	tx.done()
}

// gatherFrom is the segment size from which two more entries in a system
// call's vector cost less than copying.
const gatherFrom = 4096

// emit builds the packet for a segment and sends it.
func (t *tcpTable) emit(now mono.Time, tx *txBatch, r *route, seg *tcp.Segment) error {
	t.stack.stats.TCP.Output.inc()
	hl := seg.HeaderLen()
	n := hl + seg.PayloadLen()
	super := seg.SegSize > 0 && seg.PayloadLen() > seg.SegSize
	cut := super && r.iface.cutTCP
	var p *pkt.Buf
	var b []byte
	if cut || r.iface.caps.Gather && r.iface.caps.TxCsum && n >= gatherFrom {
		// The payload goes from the send ring to the device without a copy, or
		// with the one that cutting takes.
		p = pkt.Get(hl)
		b = p.Append(hl)
		p.Borrow(seg.Payload[0], seg.Payload[1])
	} else {
		p = pkt.Get(n)
		b = p.Append(n)
		copy(b[hl:], seg.Payload[0])
		copy(b[hl+len(seg.Payload[0]):], seg.Payload[1])
	}
	seg.PutHeader(b)
	p.MarkTransport()
	pseudo := csum.Pseudo(r.src, r.end(), ipv4.ProtoTCP, n)
	var sum uint16
	switch {
	case r.iface.loopback:
		p.Csum = pkt.CsumValid // nothing can damage it
	case cut:
		// Each piece will get its own.
	case r.iface.caps.TxCsum:
		// The device completes what the pseudo-header begins.
		p.Csum = pkt.CsumPartial
		p.GSO.CsumStart, p.GSO.CsumOffset = uint16(r.headerLen()), tcp.ChecksumOffset
		sum = pseudo
	default:
		sum = csum.Checksum(b, pseudo)
	}
	if super {
		p.GSO.Type = pkt.GSOTCPv6
		if r.dst.Is4() {
			p.GSO.Type = pkt.GSOTCPv4
		}
		p.GSO.SegSize, p.GSO.HdrLen = uint16(seg.SegSize), uint16(r.headerLen()+hl)
	}
	b[tcp.ChecksumOffset], b[tcp.ChecksumOffset+1] = byte(sum>>8), byte(sum)
	// Segments have a least size; a path that is narrower still gets
	// fragments, as Linux sends below ip_rt_min_pmtu.
	df := r.dst.Is6() || r.mtu >= minPathMTU4 && !r.tiny
	return t.stack.send(now, tx, r, ipv4.ProtoTCP, seg.Hops, seg.TOS|uint8(seg.ECN), df, p)
}

// inputError delivers an ICMP error or local failure to a connection, and
// reports whether there is one.
func (t *tcpTable) inputError(local, remote netip.AddrPort, header []byte, e icmpError) bool {
	switch x := t.lookup(fourTuple{local, remote}).(type) {
	case nil:
		return false
	case *TCPConn:
		x.inputError(header, e)
	case *synEntry:
		x.inputError(header, e)
	default:
		// A record has nobody to tell.
	}
	return true
}

// addressGone ends the connections from an address that is no longer ours.
func (t *tcpTable) addressGone(a netip.Addr) {
	for _, e := range t.all() {
		if c, ok := e.(*TCPConn); ok && c.id().local.Addr() == a {
			c.fail(syscall.EADDRNOTAVAIL)
		}
	}
}

// draining is what Drain waits for.
type draining struct {
	told  chan struct{} // closed when no connection is left but in FIN-WAIT-2 or TIME-WAIT
	ended chan struct{} // closed when none is left but in TIME-WAIT
}

// shutdown closes listeners and connections in order.
func (t *tcpTable) shutdown() *draining {
	d := &draining{make(chan struct{}), make(chan struct{})}
	if !t.closing.CompareAndSwap(nil, d) {
		return t.closing.Load()
	}
	for _, l := range t.listen.all() {
		l.Close()
	}
	for _, e := range t.all() {
		if c, ok := e.(*TCPConn); ok {
			c.Close()
			c.mu.Lock()
			c.toldLocked()
			c.mu.Unlock()
		}
	}
	t.checkDrained()
	return d
}

// checkDrained closes the channels of Drain whose time has come.
func (t *tcpTable) checkDrained() {
	d := t.closing.Load()
	if d == nil {
		return
	}
	left := t.size.Load() - int64(t.wait.len())
	t.wait.mu.Lock()
	defer t.wait.mu.Unlock()
	for ch, n := range map[chan struct{}]int64{d.told: left - t.told.Load(), d.ended: left} {
		select {
		case <-ch:
		default:
			if n <= 0 {
				close(ch)
			}
		}
	}
}

// abortAll resets every connection and forgets the rest.
func (t *tcpTable) abortAll() {
	for _, l := range t.listen.all() {
		l.Close()
	}
	for _, e := range t.all() {
		switch x := e.(type) {
		case *TCPConn:
			x.Abort()
		case *synEntry:
			x.drop()
		case *timeWaitEntry:
			t.wait.remove(x)
		}
	}
}
