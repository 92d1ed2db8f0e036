package check

// This file owns what is known of an attempt beyond its errno: when each SYN
// went out and which of them was answered, what the handshake agreed on, what
// was sent in vain, and the ICMP error that ended it. A stack's socket tells of
// its connection as it happens; of the kernel's there are TCP_INFO and the
// queue of errors, which a stack's sockets have for datagrams.

import (
	"net/netip"
	"sync"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/tcp"
)

// Handshake is what is known of a connection, also of one that did not come to
// be. Sizes are in bytes; what only a stack can tell is zero over the kernel.
type Handshake struct {
	// SYNs is how many were sent, 0 if that is not known; SYNAt is when, since
	// the first (a stack's only). Answered is which of them, from 1, the SYN-ACK
	// answers, as its timestamp shows; 0: not known.
	SYNs     int
	SYNAt    []time.Duration
	Answered int
	// RTT is the time from the SYN that was answered to its answer.
	RTT time.Duration
	// SYNACKs is how many came (a stack's only); more than there were SYNs say
	// that our ACK did not arrive.
	SYNACKs int
	// Options are whether there were any to be agreed on: there was a SYN-ACK.
	Options bool
	// MSS is the largest payload sent, PeerMSS what the peer announced (a
	// stack's only), and the shifts are those of the two windows' scales.
	MSS, PeerMSS          int
	WScale                bool
	SndShift, RcvShift    int
	SACK, Timestamps      bool
	ECN                   string // "none", "classic", "accurate"
	Window                int    // the peer's in its SYN-ACK, not scaled (a stack's only)
	PathMTU               int
	Retransmits           int  // segments sent again, SYNs too
	Sent, Acked, Received int  // bytes: of ours, of them acknowledged, of the peer's
	Unacked               int  // bytes that wait for their acknowledgement at the end
	Reset                 bool // the peer reset it (a stack's only)
	BlackHole             bool // segments were made small because large ones vanished (RFC 4821)
}

// Report is an ICMP error about what we sent.
type Report struct {
	From       netip.Addr // who sent it; not valid: this host itself
	Type, Code uint8
	What       string // the error it is to a socket
}

// watcher collects what becomes known of one socket.
type watcher struct {
	sock socket.Berkeley

	mu     sync.Mutex // guards what the trace writes
	syns   []syn
	h      Handshake
	report *Report
	open   bool
}

// syn is one that was sent.
type syn struct {
	at    mono.Time
	hasTS bool
	tsval uint32
}

// IP_RECVERR and IPV6_RECVERR, by Linux's numbers.
const (
	recvErr4 = 11
	recvErr6 = 25
	solIP    = 0
	solIPv6  = 41
)

// tracer is a socket of a stack's.
type tracer interface {
	SetTrace(t tcp.Trace, segments bool) error
}

// errorQueue is a socket of the kernel's.
type errorQueue interface {
	NextError() (socket.ExtendedError, error)
}

// messages is a socket of a stack's, too: for datagrams it has such a queue.
type messages interface {
	Recvmsg(m *socket.Msg, flags int) (int, error)
}

// nextError takes an ICMP error from a socket's queue.
func nextError(s socket.Berkeley) (e socket.ExtendedError, ok bool) {
	switch s := s.(type) {
	case errorQueue:
		e, err := s.NextError()
		return e, err == nil
	case messages:
		m := socket.Msg{Control: make([]byte, 512)}
		if _, err := s.Recvmsg(&m, socket.MSG_ERRQUEUE); err != nil {
			return e, false
		}
		if i, err := socket.ParseControl(m.Control[:m.ControlLen]); err == nil && i.Err != nil {
			return *i.Err, true
		}
	}
	return e, false
}

// watch begins to watch a socket that is about to connect.
func watch(s socket.Berkeley) *watcher {
	w := &watcher{sock: s}
	switch s := s.(type) {
	case tracer:
		if s.SetTrace(w.event, true) != nil {
			w.keepErrors(1) // a datagram socket
		}
	case errorQueue:
		w.keepErrors(1)
	}
	return w
}

// keepErrors has the socket keep ICMP errors. The option of the other family
// fails, as it should.
func (w *watcher) keepErrors(on int) {
	w.sock.SetsockoptInt(solIP, recvErr4, on)
	w.sock.SetsockoptInt(solIPv6, recvErr6, on)
}

// maxSYNs bounds how many are remembered; a stack sends fewer.
const maxSYNs = 64

// event is the tcp.Trace.
func (w *watcher) event(e *tcp.TraceEvent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch e.Kind {
	case tcp.TraceSent:
		if e.Segment.Flags&tcp.FlagSYN != 0 && len(w.syns) < maxSYNs {
			o := &e.Segment.Options
			w.syns = append(w.syns, syn{e.Time, o.HasTS, o.TSVal})
		}
	case tcp.TraceReceived:
		w.received(e)
	case tcp.TraceICMP:
		r := &Report{Type: e.Type, Code: e.Code, What: e.Reason}
		r.From, _ = netip.ParseAddr(e.From) // not valid for this host
		w.report = r
	}
}

func (w *watcher) received(e *tcp.TraceEvent) {
	switch s := e.Segment; {
	case s.Flags&tcp.FlagRST != 0 && e.Reason == tcp.DropNone.String():
		w.h.Reset = true
	case s.Flags&(tcp.FlagSYN|tcp.FlagACK) != tcp.FlagSYN|tcp.FlagACK:
	case w.h.Options:
		w.h.SYNACKs++
	default:
		w.h.SYNACKs = 1
		w.h.Options, w.h.Window = true, int(s.Window)
		w.h.Answered = w.answered(&s.Options)
		if n := w.h.Answered; n > 0 {
			w.h.RTT = e.Time.Sub(w.syns[n-1].at)
		}
	}
}

// answered is which SYN a SYN-ACK answers, from 1: the one whose timestamp it
// echoes (RFC 7323 §3.2), or without timestamps the only one.
func (w *watcher) answered(o *tcp.Options) int {
	if len(w.syns) == 1 {
		return 1
	}
	for i, s := range w.syns {
		if o.HasTS && s.hasTS && s.tsval == o.TSEcr {
			return i + 1
		}
	}
	return 0
}

// connected notes that the handshake is done. From then on errors are soft
// again, which the option would change (tcp(7)).
func (w *watcher) connected() {
	w.open = true
	if _, ok := w.sock.(errorQueue); ok {
		w.keepErrors(0)
		if i, err := w.info(); err == nil {
			w.h.SYNs = 1 + int(i.Retransmits)
			if w.h.SYNs == 1 {
				w.h.Answered, w.h.RTT = 1, i.RTT
			}
		}
	}
}

func (w *watcher) info() (i tcp.Info, err error) {
	if s, ok := w.sock.(interface{ TCPInfo() (tcp.Info, error) }); ok {
		return s.TCPInfo()
	}
	return i, errNoInfo
}

// finish puts what has become known into an attempt, before the socket is
// closed.
func (w *watcher) finish(at *Attempt, s socket.Berkeley) {
	if e, ok := nextError(s); ok {
		w.report = &Report{From: e.Offender.Unmap(), Type: e.Type, Code: e.Code, What: e.Errno.Error()}
	}
	i, err := w.info()
	if k, ok := s.(tracer); ok {
		k.SetTrace(nil, false)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	at.Report = w.report
	if err != nil {
		return // a datagram socket
	}
	h := w.h
	if len(w.syns) > 0 {
		h.SYNs = len(w.syns)
		for _, y := range w.syns {
			h.SYNAt = append(h.SYNAt, y.at.Sub(w.syns[0].at))
		}
	}
	if w.open {
		h.Options = true
		h.MSS, h.PeerMSS, h.PathMTU = i.MSS, i.PeerMSS, i.PathMTU
		h.WScale, h.SndShift, h.RcvShift, h.SACK, h.Timestamps, h.ECN = i.WScale, i.SndWScale, i.RcvWScale, i.SACK, i.Timestamps, i.ECN.String()
		h.Sent, h.Acked, h.Received = int(i.BytesOut-i.BytesResent), int(i.BytesAcked), int(i.BytesIn)
		h.Retransmits, h.Unacked, h.BlackHole = int(i.Retransmits), i.Unacked, i.BlackHoles > 0
	} else {
		h.Retransmits = max(h.SYNs-1, 0)
	}
	at.Handshake = &h
}
