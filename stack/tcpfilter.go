package stack

// This file owns the packet filters of TCP sockets (SO_ATTACH_FILTER), which
// hardly any has: they are in a table beside the connections, which is asked
// only when it is not empty.

import (
	"sync"
	"sync/atomic"

	"github.com/tapstack/tapstack/tcp"
)

// tcpFilters are the filters of connections and listeners.
type tcpFilters struct {
	n atomic.Int32 // entries of m
	m sync.Map     // *TCPConn or *TCPListener to Filter
}

func (t *tcpFilters) set(owner any, f Filter) {
	if f == nil {
		t.forget(owner)
	} else if _, had := t.m.Swap(owner, f); !had {
		t.n.Add(1)
	}
}

// forget is for owners whose life is over.
func (t *tcpFilters) forget(owner any) {
	if t.n.Load() == 0 {
		return
	}
	if _, had := t.m.LoadAndDelete(owner); had {
		t.n.Add(-1)
	}
}

func (t *tcpFilters) of(owner any) Filter {
	if t.n.Load() == 0 {
		return nil
	}
	f, _ := t.m.Load(owner)
	filter, _ := f.(Filter)
	return filter
}

// SetFilter lets f decide, from the TCP header on, which segments the connection
// gets; nil lets it have all. Of one that is shortened less text arrives.
func (c *TCPConn) SetFilter(f Filter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.removed {
		c.stack.tcp.filters.set(c, f)
	}
}

// SetFilter is for the listener's handshakes and, from then on, for the
// connections that come of them.
func (l *TCPListener) SetFilter(f Filter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.stack.tcp.filters.set(l, f)
	}
}

// inheritFilter gives a new connection its listener's filter. The connection is
// locked, or not yet in the table.
func (c *TCPConn) inheritFilter(l *TCPListener) {
	if f := l.stack.tcp.filters.of(l); f != nil {
		l.stack.tcp.filters.set(c, f)
	}
}

// passes asks the filter of the entry or listener that the segment in b.seg is
// for, and shortens the segment as that says; its header always stays.
func (t *tcpTable) passes(b *batch, p packet, owner any) bool {
	if e, ok := owner.(*synEntry); ok {
		owner = e.listener
	}
	f := t.filters.of(owner)
	if f == nil {
		return true
	}
	all := p.Bytes()
	n := f(all)
	if n <= 0 {
		t.stack.stats.TCP.Drop[tcp.DropFiltered].inc()
		return false
	}
	if n = max(n, int(all[12]>>4)*4); n < len(all) {
		p.Trim(n)
		old := b.seg
		if d := tcp.Parse(&b.seg, p.Bytes()); d != tcp.DropNone {
			t.stack.stats.TCP.Drop[d].inc()
			return false
		}
		b.seg.Segs, b.seg.ECN = old.Segs, old.ECN
	}
	return true
}
