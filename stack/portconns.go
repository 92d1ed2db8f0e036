package stack

import "sync/atomic"

// This file owns what connections do to local ports: as in Linux one that was
// accepted, one that was closed and is not over, and one in TIME-WAIT keep
// others from binding the port to their address, unless SO_REUSEADDR or
// SO_REUSEPORT of both allow it. Records of half-open connections do not.

// portConns counts the entries of the connection table for each local port, so
// that most binds need not look at the table. Its pages exist once they are
// needed.
type portConns struct {
	pages [256]atomic.Pointer[[256]atomic.Int32]
}

func (p *portConns) count(port uint16, n int32) {
	at := &p.pages[port>>8]
	page := at.Load()
	for page == nil {
		at.CompareAndSwap(nil, new([256]atomic.Int32))
		page = at.Load()
	}
	page[port&255].Add(n)
}

// any reports whether the table has anything with the port.
func (p *portConns) any(port uint16) bool {
	page := p.pages[port>>8].Load()
	return page != nil && page[port&255].Load() != 0
}

// portTaken reports whether a connection with the port is in a's way.
func (t *tcpTable) portTaken(a *hold, port uint16, reuse bool) (taken bool) {
	if !t.conns.any(port) {
		return false
	}
	for i := range t.shards {
		sh := &t.shards[i]
		sh.mu.RLock()
		sh.eachLocked(func(e tcpEntry) {
			l := e.link()
			if taken || l.key.localPort != port {
				return
			}
			b := hold{addr: l.id().local.Addr()}
			switch x := e.(type) {
			case *TCPConn:
				b.sharing, b.dev = Sharing(x.sharing.Load()), x.dev
			case *timeWaitEntry:
				b.sharing = Sharing(x.rec.Tag)
			default:
				return
			}
			taken = a.conflicts(&b, true, reuse)
		})
		sh.mu.RUnlock()
		if taken {
			return true
		}
	}
	return false
}
