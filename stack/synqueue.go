package stack

import (
	"syscall"

	"github.com/tapstack/tapstack/tcp"
)

// This file owns what a listener does with segments of peers it does not know,
// and how it stays open to new ones when its queue of half-open connections
// fills up (RFC 4987).
//
// Linux also bounds that queue by the backlog. Here Limits.SynQueue alone does:
// a record is small, and what a cookie keeps of a SYN is less.

// SynCookies says when a SYN is answered with a cookie.
type SynCookies uint8

// The modes, as tcp_syncookies 1, 0 and 2 of Linux.
const (
	SynCookiesAuto   SynCookies = iota // when the queue of half-open connections is full
	SynCookiesOff                      // never: SYNs that find the queue full are dropped
	SynCookiesAlways                   // always; for tests
)

// input handles a segment of no known connection to the listener's port, in
// the order of RFC 9293 §3.10.7.2. It reports false when the segment is to be
// treated as if nobody listened.
func (l *TCPListener) input(b *batch, p packet, id fourTuple) bool {
	flags := b.seg.Flags
	switch {
	case flags&tcp.FlagRST != 0: // first: "should be ignored"
		return false
	case flags&tcp.FlagSYN != 0 && flags&tcp.FlagACK == 0: // third
		if flags&tcp.FlagFIN != 0 {
			// Departs from the RFC, which would keep the FIN for later, as
			// Linux does: nobody sends that but scanners.
			l.stack.stats.TCP.Drop[tcp.DropBadFlags].inc()
			return true
		}
		l.inputSYN(b, p, id)
		return true
	case flags&tcp.FlagACK != 0: // second: a reset, but for a cookie that comes back
		return flags&tcp.FlagSYN == 0 && l.inputCookie(b, p, id)
	}
	// Fourth: "drop the segment".
	l.stack.stats.TCP.Drop[tcp.DropBadFlags].inc()
	return true
}

// wantCookieLocked reports that there is no room for a record. Linux without
// cookies also keeps the last quarter of the queue for destinations known from
// earlier connections; no such thing is remembered here.
func (l *TCPListener) wantCookieLocked() bool {
	c := &l.stack.tcpcfg
	return l.halfOpen >= l.stack.limits.SynQueue || c.SynCookies == SynCookiesAlways
}

// sendCookie answers the SYN in b.seg and forgets it.
func (s *Stack) sendCookie(b *batch, l *TCPListener, p packet, r route, cfg *tcp.Config, id fourTuple) {
	h := l.headersFor(p.src, s.fromSYN(&p))
	if via := h.to(p.src); via != p.src {
		var err error
		if r, err = s.findRoute(via, p.dst, s.replyInterface(p)); err != nil {
			s.dropOut(via, DropNoRoute)
			return
		}
	}
	h.fill(s, b.now, &r, p.src)
	cfg.RcvInit = s.limits.TCPReceiveInitial // the same then, whether memory is short or not
	tcp.SynCookieReply(cfg, s.secret, id.local, id.remote, b.now, &b.seg, &b.reply)
	cfg.Knobs.Address(&b.reply)
	s.stats.TCP.SynCookiesSent.inc()
	s.tcp.emitAlone(b.now, &r, &b.reply)
}

// inputCookie opens the connection whose cookie b.seg brings back. It reports
// false when it brings none. Cookies are only looked for while some may be on
// their way.
func (l *TCPListener) inputCookie(b *batch, p packet, id fourTuple) bool {
	l.mu.Lock()
	sent, lost, full := l.cookieAt, l.lostAt, len(l.queue) >= l.backlog
	l.mu.Unlock()
	if sent == 0 || b.now.Sub(sent) > tcp.SynCookieLife {
		return false
	}
	s := l.stack
	st := &s.stats.TCP
	iface := s.replyInterface(p)
	h := l.headersFor(p.src, s.fromSYN(&p))
	r, err := s.findRoute(h.to(p.src), p.dst, iface)
	if err != nil {
		s.dropOut(p.src, DropNoRoute)
		return true
	}
	h.fill(s, b.now, &r, p.src)
	k := l.Knobs()
	cfg := s.tcpConfig(&r, id, b.now, &k)
	cfg.NewController = l.newController()
	cfg.RcvInit = s.limits.TCPReceiveInitial
	h.withBelow(cfg)
	core := tcp.OpenSynCookie(cfg, s.secret, id.local, id.remote, b.now, &b.seg)
	if core == nil {
		st.SynCookiesFailed.inc()
		// Departs from Linux, which resets: this may be later text of a peer
		// whose cookie was right and found no room. Its first text will come
		// again, with the cookie.
		return lost != 0 && b.now.Sub(lost) <= tcp.SynCookieLife && b.seg.PayloadLen() > 0
	}
	st.SynCookiesReceived.inc()
	if full {
		// As for a record whose handshake is done: the peer sends again.
		st.Drop[tcp.DropListenOverflow].inc()
		if s.tcpcfg.AbortOnOverflow {
			return false
		}
		l.mu.Lock()
		l.lostAt = b.now
		l.mu.Unlock()
		return true
	}
	c := &TCPConn{stack: s, iface: iface, path: r.path, listener: l, core: core}
	l.inherit(c)
	c.timer.Owner = (*connTimer)(c)
	c.setLowat(&k)
	c.tickLocked(b.now)
	c.offerTraceLocked(id)
	if s.tcp.insert(id, c) != nil {
		return true
	}
	if f := s.tcp.filters.of(l); f != nil {
		c.SetFilter(f)
	}
	st.PassiveOpen.inc()
	c.input(b, p)
	return true
}

// inputError forgets a half-open connection to whom no route leads, which makes
// room for another. Departs from RFC 1122 §4.2.3.9, which calls that a hint, as
// Linux does; the message has to quote the SYN-ACK exactly (RFC 5927 §4.1).
func (e *synEntry) inputError(header []byte, x icmpError) {
	e.mu.Lock()
	defer e.mu.Unlock()
	st := &e.table().stack.stats.TCP
	switch {
	case e.gone || x.local || x.errno != syscall.EHOSTUNREACH && x.errno != syscall.ENETUNREACH:
	case quotedSeq(header) != e.rec.ISS():
		st.Drop[tcp.DropOutOfWindow].inc()
	default:
		st.Drop[tcp.DropSynPruned].inc()
		e.removeLocked()
	}
}

// agedLocked notes that e was not answered within its first time-out, or is
// no longer half-open.
func (l *TCPListener) agedLocked(e *synEntry) {
	if e.young {
		e.young = false
		l.young--
	}
}

// crowdedOut reports that e, whose time-out has come, is to make room. As in
// Linux, half of the queue is for those whose SYN-ACK was sent only once: once
// more than half is taken, the others get fewer retransmissions, the fewer the
// more of them there are, down to two. A client that is there answers the
// first, even if the network is bad.
func (l *TCPListener) crowdedOut(e *synEntry) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.agedLocked(e)
	n := l.halfOpen
	if 2*n <= max(8, l.stack.limits.SynQueue) {
		return false
	}
	retries := e.rec.MaxRetries()
	for young := 2 * l.young; retries > 2 && n >= young; young *= 2 {
		retries--
	}
	return e.rec.Retries() >= retries
}
