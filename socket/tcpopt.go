package socket

// This file owns the options of SOL_TCP whose value is an int. What each does is
// in package tcp, in the file of its mechanism.

import "github.com/tapstack/tapstack/tcp"

// Options of SOL_TCP, with Linux's numbers.
const (
	TCP_NODELAY              = 1
	TCP_MAXSEG               = 2
	TCP_CORK                 = 3
	TCP_KEEPIDLE             = 4
	TCP_KEEPINTVL            = 5
	TCP_KEEPCNT              = 6
	TCP_SYNCNT               = 7
	TCP_LINGER2              = 8
	TCP_DEFER_ACCEPT         = 9
	TCP_WINDOW_CLAMP         = 10
	TCP_QUICKACK             = 12
	TCP_THIN_LINEAR_TIMEOUTS = 16
	TCP_USER_TIMEOUT         = 18
	TCP_FASTOPEN             = 23
	TCP_NOTSENT_LOWAT        = 25
	TCP_FASTOPEN_CONNECT     = 30
	TCP_INQ                  = 36
	TCP_CM_INQ               = 36 // the control message
)

// tcpOptions is what SetsockoptInt and GetsockoptInt know of SOL_TCP.
var tcpOptions = map[int]option{
	TCP_NODELAY:       knob(tcp.KnobNoDelay),
	TCP_MAXSEG:        knob(tcp.KnobMaxSeg),
	TCP_CORK:          knob(tcp.KnobCork),
	TCP_KEEPIDLE:      knob(tcp.KnobKeepIdle),
	TCP_KEEPINTVL:     knob(tcp.KnobKeepInterval),
	TCP_KEEPCNT:       knob(tcp.KnobKeepCount),
	TCP_SYNCNT:        knob(tcp.KnobSynCount),
	TCP_LINGER2:       knob(tcp.KnobLinger2),
	TCP_DEFER_ACCEPT:  knob(tcp.KnobDeferAccept),
	TCP_WINDOW_CLAMP:  knob(tcp.KnobWindowClamp),
	TCP_QUICKACK:      knob(tcp.KnobQuickAck),
	TCP_USER_TIMEOUT:  knob(tcp.KnobUserTimeout),
	TCP_NOTSENT_LOWAT: knob(tcp.KnobNotSentLowat),

	TCP_THIN_LINEAR_TIMEOUTS: knob(tcp.KnobThinLinear),
	TCP_INQ:                  inqOption,

	TCP_FASTOPEN:         {(*FD).SetFastOpen, (*FD).fastOpen},
	TCP_FASTOPEN_CONNECT: {(*FD).setFastConnect, (*FD).fastOpenConnect},
}
