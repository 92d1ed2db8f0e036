package stack

import (
	"sync"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/wheel"
	"github.com/tapstack/tapstack/tcp"
)

// This file owns the connections in TIME-WAIT: records that the table finds and
// one queue in which they wait for their end.

// timeWaitEntry is a connection in TIME-WAIT: its record and its places in the
// table and the queue, in one piece of 128 bytes.
type timeWaitEntry struct {
	tcpLink
	rec          tcp.TimeWaitRecord // guarded by timeWaitQueue.mu, as are
	later, older *timeWaitEntry     // its neighbours in the queue; itself: it has left
}

// timeWaitQueue holds the TIME-WAIT records, oldest first. They all wait
// equally long, so a list is in order of deadline and one timer serves all.
type timeWaitQueue struct {
	table      *tcpTable
	timer      wheel.Timer
	mu         sync.Mutex // guards everything below and the entries' records
	head, tail *timeWaitEntry
	n          int
}

func (q *timeWaitQueue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.n
}

func (q *timeWaitQueue) linkLocked(e *timeWaitEntry) {
	e.older, e.later = q.tail, nil
	if q.tail != nil {
		q.tail.later = e
	} else {
		q.head = e
	}
	q.tail = e
	q.n++
}

func (q *timeWaitQueue) queuedLocked(e *timeWaitEntry) bool {
	return q.head == e || e.older != nil && e.older != e
}

// leaveLocked takes e out of the queue, for good: it is in the table a moment
// before it is queued, and may be over within that moment.
func (q *timeWaitQueue) leaveLocked(e *timeWaitEntry) {
	q.unlinkLocked(e)
	e.older = e
}

func (q *timeWaitQueue) unlinkLocked(e *timeWaitEntry) {
	if !q.queuedLocked(e) {
		return
	}
	if e.older != nil {
		e.older.later = e.later
	} else {
		q.head = e.later
	}
	if e.later != nil {
		e.later.older = e.older
	} else {
		q.tail = e.older
	}
	e.older, e.later = nil, nil
	q.n--
}

// add enters a record that is in the table and returns the one that has to make
// room, if any, which the caller takes out of the table.
func (q *timeWaitQueue) add(e *timeWaitEntry) (evicted *timeWaitEntry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e.older == e {
		return nil
	}
	if q.n >= q.table.stack.limits.TimeWait {
		evicted = q.head
		q.leaveLocked(evicted)
	}
	q.linkLocked(e)
	q.table.stack.timers.Arm(&q.timer, q.head.rec.Deadline())
	return evicted
}

// expire forgets the records whose 2 MSL are over.
func (q *timeWaitQueue) expire(now mono.Time) {
	for {
		q.mu.Lock()
		e := q.head
		if e == nil || !e.rec.Deadline().Due(now) {
			if e != nil {
				q.table.stack.timers.Arm(&q.timer, e.rec.Deadline())
			}
			q.mu.Unlock()
			return
		}
		q.leaveLocked(e)
		q.mu.Unlock()
		q.table.swap(e, nil)
	}
}

// remove takes e out of queue and table, for a successor if there is one.
func (q *timeWaitQueue) remove(e *timeWaitEntry) successor {
	q.mu.Lock()
	q.leaveLocked(e)
	next := successor{true, e.rec.NextISS()}
	q.mu.Unlock()
	q.table.swap(e, nil)
	return next
}

// input implements tcpEntry (RFC 9293 §3.10.7.4 in TIME-WAIT, RFC 6191).
func (e *timeWaitEntry) input(b *batch, p packet) {
	t := &b.iface.stack.tcp
	q := &t.wait
	q.mu.Lock()
	before := e.rec.Deadline()
	verdict, drop := e.rec.Input(b.now, &b.seg)
	reply := verdict == tcp.VerdictReply && e.rec.Output(b.now, &b.reply)
	if e.rec.Deadline() != before && q.queuedLocked(e) {
		q.unlinkLocked(e) // its 2 MSL start again: to the end of the line
		q.linkLocked(e)
	}
	q.mu.Unlock()
	if drop != tcp.DropNone {
		t.stack.stats.TCP.Drop[drop].inc()
	}
	switch {
	case reply:
		t.reply(b, p)
	case verdict == tcp.VerdictReset:
		t.reset(b, p)
	case verdict == tcp.VerdictRemove:
		q.remove(e)
	case verdict == tcp.VerdictReuse:
		if t.lookupListener(e.id().local, e.id().remote, p.iface) != nil {
			b.old = q.remove(e)
			t.dispatch(b, p)
			b.old = successor{}
			return
		}
		// Nobody would take it. As Linux, answer as the old connection: the peer
		// resets that, and its next SYN is refused.
		t.stack.stats.TCP.Drop[tcp.DropNoConnection].inc()
		q.mu.Lock()
		e.rec.Decline(b.now, &b.reply)
		q.mu.Unlock()
		t.reply(b, p)
	}
}

// reply sends b.reply to where p came from.
func (t *tcpTable) reply(b *batch, p packet) {
	r, err := t.stack.findRoute(p.src, p.dst, t.stack.replyInterface(p))
	if err != nil {
		t.stack.dropOut(p.src, DropNoRoute)
		return
	}
	r.withLabel(t.stack.reflected(ReflectConnections, &p))
	if t.stack.answerOptions(b.now, &r, p.options4()) {
		t.emitAlone(b.now, &r, &b.reply)
	}
}
