package socket

// This file owns the options of SOL_SOCKET whose value is an int.

import (
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// Options of SOL_SOCKET, with Linux's numbers.
const (
	SO_REUSEADDR     = 2
	SO_TYPE          = 3 // read only
	SO_ERROR         = 4 // read only: takes the pending error
	SO_BROADCAST     = 6
	SO_SNDBUF        = 7
	SO_RCVBUF        = 8
	SO_KEEPALIVE     = 9
	SO_OOBINLINE     = 10
	SO_LINGER        = 13 // a struct: see SetLinger
	SO_REUSEPORT     = 15
	SO_RCVLOWAT      = 18
	SO_SNDLOWAT      = 19 // read only: 1
	SO_ACCEPTCONN    = 30 // read only
	SO_SNDBUFFORCE   = 32 // SO_SNDBUF: the limits are the stack's, and hold for everybody
	SO_RCVBUFFORCE   = 33
	SO_PROTOCOL      = 38 // read only
	SO_DOMAIN        = 39 // read only
	SO_BINDTOIFINDEX = 62
)

// socketOptions is what SetsockoptInt and GetsockoptInt know of SOL_SOCKET.
var socketOptions = map[int]option{
	SO_TYPE:          {get: func(f *FD) (int, error) { return int(f.typ), nil }},
	SO_DOMAIN:        {get: func(f *FD) (int, error) { return int(f.domain), nil }},
	SO_PROTOCOL:      {get: (*FD).protocol},
	SO_ACCEPTCONN:    {get: (*FD).acceptConn},
	SO_ERROR:         {get: (*FD).pendingError},
	SO_REUSEADDR:     reuse(stack.ShareAddr),
	SO_REUSEPORT:     reuse(stack.SharePort),
	SO_BINDTOIFINDEX: {(*FD).setIfIndex, (*FD).ifIndex},
	SO_BROADCAST:     {(*FD).setBroadcast, (*FD).broadcast},
	SO_SNDBUF:        knob(tcp.KnobSndBuf),
	SO_RCVBUF:        {(*FD).setRcvBuf, (*FD).getRcvBuf},
	SO_KEEPALIVE:     knob(tcp.KnobKeepAlive),
	SO_OOBINLINE:     knob(tcp.KnobOOBInline),
	SO_SNDLOWAT:      {get: func(*FD) (int, error) { return 1, nil }},
	SO_SNDBUFFORCE:   {set: knob(tcp.KnobSndBuf).set},
	SO_RCVBUFFORCE:   {set: (*FD).setRcvBuf},
	SO_RCVLOWAT:      knob(tcp.KnobRcvLowat),
}
