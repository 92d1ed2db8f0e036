package stack

import (
	"slices"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/tcp"
)

// This file owns the server's side of TCP Fast Open (RFC 7413): which SYNs may
// open a connection at once, and how many. A listener takes part when the
// program says how many such connections may wait for the end of their
// handshake (TCP_FASTOPEN); beyond that SYNs are treated as usual.

// FastOpen is a set of permissions with the numbers of Linux's tcp_fastopen.
type FastOpen uint16

// The permissions.
const (
	FastOpenClient         FastOpen = 1     // connections may be opened with text in the SYN
	FastOpenServer         FastOpen = 2     // listeners may be told to take it
	FastOpenClientNoCookie FastOpen = 4     // text is sent even without a cookie; for networks that one knows
	FastOpenServerNoCookie FastOpen = 0x200 // text is taken even without a cookie: likewise
	FastOpenAllListeners   FastOpen = 0x400 // listeners take it that were not told, up to their backlog
	FastOpenOff            FastOpen = 1 << 15
)

// fastOpenKeyLife is how long one key makes cookies, where none was given. The
// last key's are accepted, and replaced, for as long again.
const fastOpenKeyLife = 24 * time.Hour

// fastOpenReset is how long a connection that the peer reset before the end
// of its handshake counts as waiting. Whoever has a cookie of somebody else's
// could make us open connections to him, which he would reset, and this is
// what bounds how many (RFC 7413 §5.1). As long as Linux.
const fastOpenReset = 60 * time.Second

// fastListener is a listener's part in Fast Open, guarded by its lock.
type fastListener struct {
	max     int         // how many may wait; 0: none
	pending int         // waiting for the end of their handshake
	reset   []mono.Time // counted as waiting until then; in order, at most max
	keys    [][16]byte  // of the program: the one that makes cookies, then one still accepted
}

// FastOpen returns the permissions.
func (s *Stack) FastOpen() FastOpen {
	if f := s.tcpcfg.FastOpen; f != 0 {
		return f
	}
	return FastOpenClient | FastOpenServer
}

// SetFastOpen lets n connections be used before their handshake is done
// (TCP_FASTOPEN); 0 ends that. Cookies make sure that the peer is where it says
// it is, but not that a SYN arrives only once: a program that listens like this
// must not mind if the first bytes come again as another connection.
func (l *TCPListener) SetFastOpen(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fast.max = min(max(n, 0), l.stack.limits.Backlog)
}

// FastOpen returns what SetFastOpen was told.
func (l *TCPListener) FastOpen() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fast.max
}

// SetFastOpenKeys gives the listener keys of its own (TCP_FASTOPEN_KEY), at
// most two: the first makes cookies, both are good.
func (l *TCPListener) SetFastOpenKeys(keys ...[16]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fast.keys = slices.Clone(keys[:min(len(keys), 2)])
}

// fastOpenKeysLocked returns the keys in use: the listener's, the stack's, or those
// of this period and the last.
func (l *TCPListener) fastOpenKeysLocked(now mono.Time) (keys [2][16]byte, n int) {
	given := l.fast.keys
	if len(given) == 0 {
		given = l.stack.tcpcfg.FastOpenKeys
	}
	if len(given) > 0 {
		return keys, copy(keys[:], given)
	}
	period := uint32(int64(now) / int64(fastOpenKeyLife))
	return [2][16]byte{tcp.FastOpenKey(l.stack.secret, period), tcp.FastOpenKey(l.stack.secret, period-1)}, 2
}

// fastRoomLocked reports that a connection more may wait.
func (l *TCPListener) fastRoomLocked(now mono.Time) bool {
	f := &l.fast
	most := f.max
	if most == 0 && l.stack.FastOpen()&FastOpenAllListeners != 0 {
		most = l.backlog
	}
	if most == 0 {
		return false
	}
	if f.pending+len(f.reset) >= most {
		for len(f.reset) > 0 && f.reset[0] <= now {
			f.reset = f.reset[1:]
		}
	}
	if f.pending+len(f.reset) >= most {
		l.stack.stats.TCP.FastOpenListenOverflow.inc()
		return false
	}
	return true
}

// fastDone ends the waiting of a connection; reset says that the peer did.
func (l *TCPListener) fastDone(now mono.Time, reset bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fast.pending--
	if reset {
		l.fast.reset = append(l.fast.reset, now.Add(fastOpenReset))
	}
}

// wantsFast reports that the SYN in b.seg may have to do with Fast Open.
func wantsFast(b *batch) bool { return b.seg.Options.FastOpen.Present || b.seg.PayloadLen() > 0 }

// inputFastSYN looks at a SYN with text or the option (RFC 7413 §4.2.2). done
// says that it opened a connection; otherwise the SYN is treated as usual, and
// give is the cookie to send with the SYN-ACK, if any.
func (l *TCPListener) inputFastSYN(b *batch, p packet, id fourTuple, r *route, cfg *tcp.Config) (give tcp.FastOpenOption, done bool) {
	s := l.stack
	st, mode, o := &s.stats.TCP, s.FastOpen(), &b.seg.Options.FastOpen
	if mode&FastOpenServer == 0 {
		return give, false
	}
	if o.Present && o.Len == 0 {
		st.FastOpenCookieRequested.inc()
	}
	l.mu.Lock()
	room := l.fastRoomLocked(b.now)
	keys, n := l.fastOpenKeysLocked(b.now)
	l.mu.Unlock()
	if !room {
		// Not even a cookie: RFC 7413 §5.1 and Linux.
		return give, false
	}
	good := b.seg.PayloadLen() > 0 && mode&FastOpenServerNoCookie != 0
	if o.Present {
		give = tcp.FastOpenCookie(keys[0], p.src, p.dst)
		give.Exp = o.Exp
		for i := range keys[:n] {
			made := tcp.FastOpenCookie(keys[i], p.src, p.dst)
			if made.Exp = o.Exp; made != *o {
				continue
			}
			good = true
			if i == 0 {
				give = tcp.FastOpenOption{} // the peer has it already
			}
			break
		}
		if !good && o.Len > 0 {
			st.FastOpenPassiveFail.inc()
		}
	}
	if !good {
		return give, false
	}
	c := &TCPConn{stack: s, iface: s.replyInterface(p), path: r.path, listener: l, waiting: true}
	l.inherit(c)
	c.timer.Owner = (*connTimer)(c)
	cfg.NewController = l.newController()
	if h := l.headersFor(p.src, s.fromSYN(&p)); h != nil {
		h.withBelow(cfg)
		c.path.gen-- // the way may be another
	}
	c.core = tcp.NewFastOpen(cfg, b.now, &b.seg, give)
	c.setLowat(&cfg.Knobs)
	c.mu.Lock()
	c.tickLocked(b.now)
	c.offerTraceLocked(id)
	if s.tcp.insert(id, c) != nil {
		c.core.Abort(b.now) // it has the SYN's text
		c.mu.Unlock()
		return give, true
	}
	c.inheritFilter(l)
	l.mu.Lock()
	closed := l.closed
	l.fast.pending++
	if !closed {
		l.queue = append(l.queue, c)
	}
	l.mu.Unlock()
	ready := c.outputLocked(b.now)
	c.mu.Unlock()
	st.PassiveOpen.inc()
	st.FastOpenPassive.inc()
	c.waiters.Wake(ready)
	if closed {
		c.Abort()
		return give, true
	}
	l.waiters.Wake(ReadyIn)
	return give, true
}
