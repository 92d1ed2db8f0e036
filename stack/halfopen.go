package stack

import (
	"sync"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/wheel"
	"github.com/tapstack/tapstack/tcp"
)

// This file owns the half-open connections: records that the table finds and a
// queue in which they wait for their time-outs. Which SYNs become records, and
// which of these have to make room, the listener decides (synqueue.go).

// synEntry is a half-open connection: a SYN has come, the SYN-ACK is out. It is
// one piece of less than 200 bytes.
type synEntry struct {
	tcpLink
	listener     *TCPListener
	iface        *Interface
	later, older *synEntry // neighbours in the queue, guarded by its lock, as is
	level        int8      // the list of the queue it is in, from 1; 0: none

	young bool // counted in listener.young, and guarded by its lock

	gone bool       // guarded by mu
	mu   sync.Mutex // guards rec
	rec  tcp.SynRequest
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
		c := e.establishLocked(b.now, e.table().stack.reflected(ReflectConnections, &p))
		e.mu.Unlock()
		if c != nil {
			c.input(b, p)
		}
		return
	}
	e.mu.Unlock()
}

// establishLocked replaces the record by a connection in SYN-RECEIVED, to be
// given the segment that completes the handshake. label is the one it is to
// reflect from then on.
func (e *synEntry) establishLocked(now mono.Time, label uint32) *TCPConn {
	s := e.listener.stack
	id := e.id()
	syn := s.tcp.synOptions.of(e)
	syn.label = label
	h := e.listener.headersFor(id.remote.Addr(), syn)
	r, err := s.findRoute(h.to(id.remote.Addr()), id.local.Addr(), e.iface)
	if err != nil {
		s.dropOut(id.remote.Addr(), DropNoRoute)
		return nil
	}
	h.fill(s, now, &r, id.remote.Addr())
	c := &TCPConn{stack: s, iface: e.iface, path: r.path, listener: e.listener}
	e.listener.inherit(c)
	c.timer.Owner = (*connTimer)(c)
	k := e.listener.Knobs()
	cfg := s.tcpConfig(&r, id, now, &k)
	cfg.NewController = e.listener.newController()
	h.withBelow(cfg)
	c.core = e.rec.Conn(cfg, now)
	c.setLowat(&k)
	c.tickLocked(now)
	c.offerTraceLocked(id)
	c.inheritFilter(e.listener)
	e.gone = true
	s.tcp.synOptions.forget(s, e)
	s.tcp.half.take(e)
	if !s.tcp.swap(e, c) {
		s.tcp.filters.forget(c)
		return nil
	}
	e.listener.forget(e)
	return c
}

func (e *synEntry) outputLocked(now mono.Time) { e.sendLocked(now, tcp.FastOpenOption{}) }

// sendLocked sends what is due. give goes with the first SYN-ACK only (RFC
// 7413 §4.2.2, Linux).
func (e *synEntry) sendLocked(now mono.Time, give tcp.FastOpenOption) {
	t := e.table()
	var seg tcp.Segment
	for e.rec.Output(now, &seg) {
		seg.Options.FastOpen = give
		k := e.listener.Knobs()
		k.Address(&seg)
		id := e.id()
		h := e.headers()
		r, err := t.stack.findRoute(h.to(id.remote.Addr()), id.local.Addr(), e.iface)
		if err != nil {
			t.stack.dropOut(id.remote.Addr(), DropNoRoute)
			break
		}
		h.fill(t.stack, now, &r, id.remote.Addr())
		t.emitAlone(now, &r, &seg)
	}
	t.half.place(e)
}

// expire does what is due; the queue has taken e out. A segment that came since
// may have put it back.
func (e *synEntry) expire(now mono.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.gone {
		return
	}
	e.table().half.take(e)
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
		total := &e.table().stack.stats.TCP.Mechanism
		for _, k := range []tcp.Counter{tcp.CountTimeouts, tcp.CountSynRetrans, tcp.CountRetransSegs} {
			total.Add(k, 1)
		}
	}
	e.outputLocked(now)
}

func (e *synEntry) removeLocked() {
	e.gone = true
	e.table().synOptions.forget(e.listener.stack, e)
	e.table().half.take(e)
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

// halfOpenQueue holds the half-open connections, in a list for each number of
// SYN-ACKs sent. Those of one list wait equally long, so that each is in order
// of deadline and one timer serves all.
type halfOpenQueue struct {
	table *tcpTable
	timer wheel.Timer
	mu    sync.Mutex // guards everything below
	lists [8]struct{ first, last *synEntry }
}

// place puts e at the end of the list it belongs to. Its lock is held, so that
// its deadline does not change as long as it is there.
func (q *halfOpenQueue) place(e *synEntry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	// From the eighth SYN-ACK on the time-out has usually reached its maximum.
	i := min(e.rec.Retries(), len(q.lists)-1)
	if e.level == int8(i+1) {
		return // an answer out of turn leaves the deadline, and so the place
	}
	q.takeLocked(e)
	l := &q.lists[i]
	e.level, e.older, e.later = int8(i+1), l.last, nil
	if l.last != nil {
		l.last.later = e
	} else {
		l.first = e
		q.table.stack.timers.Arm(&q.timer, e.rec.Deadline())
	}
	l.last = e
}

// take takes e out of its list, if it is in one.
func (q *halfOpenQueue) take(e *synEntry) {
	q.mu.Lock()
	q.takeLocked(e)
	q.mu.Unlock()
}

func (q *halfOpenQueue) takeLocked(e *synEntry) {
	if e.level == 0 {
		return
	}
	l := &q.lists[e.level-1]
	if e.older != nil {
		e.older.later = e.later
	} else {
		l.first = e.later
	}
	if e.later != nil {
		e.later.older = e.older
	} else {
		l.last = e.older
	}
	e.level, e.older, e.later = 0, nil, nil
}

// expire is the timer's function.
func (q *halfOpenQueue) expire(now mono.Time) {
	for e := q.takeDue(now); e != nil; e = q.takeDue(now) {
		e.expire(now)
	}
}

// takeDue takes out an entry whose deadline has come, of several the one that
// was sent the most SYN-ACKs, so that it makes room for the others. When there
// is none it sets the timer and returns nil.
func (q *halfOpenQueue) takeDue(now mono.Time) *synEntry {
	q.mu.Lock()
	defer q.mu.Unlock()
	next := mono.Time(0)
	for i := len(q.lists) - 1; i >= 0; i-- {
		e := q.lists[i].first
		if e == nil {
			continue
		}
		d := e.rec.Deadline()
		if d.Due(now) {
			q.takeLocked(e)
			return e
		}
		next = mono.Earliest(next, d)
	}
	q.table.stack.timers.Arm(&q.timer, next)
	return nil
}

// of returns the half-open connections of a listener.
func (q *halfOpenQueue) of(l *TCPListener) (list []*synEntry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.lists {
		for e := q.lists[i].first; e != nil; e = e.later {
			if e.listener == l {
				list = append(list, e)
			}
		}
	}
	return list
}
