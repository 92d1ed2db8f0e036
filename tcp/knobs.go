package tcp

import (
	"math"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns what a user may set of a connection: each setting by a name,
// with the values, the errors and the default that Linux has for the socket
// option of that name. What a setting does is in the file of its mechanism.
// A Knobs is a plain value, so that a socket can keep one before it has a
// connection and a listener hands its own to those it accepts.

// Knob names a setting.
type Knob uint8

// The settings, with the socket option each stands for. Those without a unit
// are 0 or 1.
const (
	KnobNoDelay       Knob = iota // TCP_NODELAY: no Nagle algorithm
	KnobCork                      // TCP_CORK: full segments only
	KnobQuickAck                  // TCP_QUICKACK: acknowledge at once, for now
	KnobMaxSeg                    // TCP_MAXSEG: bound of the segment size, bytes
	KnobWindowClamp               // TCP_WINDOW_CLAMP: bound of the window offered, bytes
	KnobNotSentLowat              // TCP_NOTSENT_LOWAT: unsent bytes that stop the writer
	KnobRcvLowat                  // SO_RCVLOWAT: bytes that wake the reader
	KnobOOBInline                 // SO_OOBINLINE: the urgent byte stays in the stream
	KnobKeepAlive                 // SO_KEEPALIVE
	KnobKeepIdle                  // TCP_KEEPIDLE, seconds
	KnobKeepInterval              // TCP_KEEPINTVL, seconds
	KnobKeepCount                 // TCP_KEEPCNT, probes
	KnobUserTimeout               // TCP_USER_TIMEOUT, milliseconds
	KnobTimeoutOption             // the peer is told of the user timeout, and tells us (RFC 5482); Linux has none
	KnobSynCount                  // TCP_SYNCNT, retransmissions of a SYN
	KnobDeferAccept               // TCP_DEFER_ACCEPT, seconds
	KnobLinger2                   // TCP_LINGER2, seconds an orphan stays in FIN-WAIT-2
	KnobLinger                    // SO_LINGER: seconds that close waits, -1: it does not
	KnobRcvBuf                    // SO_RCVBUF: bytes that may wait to be read; shown twice, for overhead
	KnobSndBuf                    // SO_SNDBUF: bytes that may wait to be acknowledged; shown twice
	KnobTOS                       // IP_TOS, IPV6_TCLASS: the DS field of what is sent; the ECN field is not the user's
	KnobHops                      // IP_TTL, IPV6_UNICAST_HOPS of what is sent; -1: the default
	KnobThinLinear                // TCP_THIN_LINEAR_TIMEOUTS: no back-off at first while little is in flight
	NumKnobs
)

// Bounds of the settings, those of Linux.
const (
	minMaxSeg      = 88    // TCP_MIN_MSS
	maxMaxSeg      = 32767 // MAX_TCP_WINDOW
	maxKeepSeconds = 32767 // MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL
	maxKeepCount   = 127   // MAX_TCP_KEEPCNT
	maxSynCount    = 127   // MAX_TCP_SYNCNT
	maxLinger2     = 120   // TCP_FIN_TIMEOUT_MAX, seconds
	minWindowClamp = 1152  // half of SOCK_MIN_RCVBUF
	minRcvBuf      = 1152
	minSndBuf      = 2304 // half of SOCK_MIN_SNDBUF

	defaultKeepIdle     = 7200 // seconds
	defaultKeepInterval = 75   // seconds
	defaultKeepCount    = 9
	defaultSynRetries   = 6
	defaultFinWait2     = 60 // seconds
	defaultHops         = 64
)

// Knobs holds the settings of one connection. Its zero value is Linux's
// defaults.
type Knobs struct {
	noDelay, cork, slowAck     bool
	oobInline, keepAlive, uto  bool
	thinLinear                 bool
	keepCount, synCount        uint8 // 0: default
	deferAccept                uint8 // retransmissions of the SYN-ACK; 0: off
	tos, hops                  uint8 // 0: default
	keepIdle, keepInterval     uint16
	maxSeg                     uint16
	linger2                    int16 // seconds; 0: default, -1: none
	userTimeout, windowClamp   uint32
	notSentLowat, rcvLowatLess uint32 // the latter less 1
	linger                     int32  // seconds and 1; 0: off
	rcvBuf, sndBuf             int32  // 0: autotune.go decides
}

// Set changes one setting. EINVAL for a value that Linux refuses; it clips some
// others without a word.
func (k *Knobs) Set(id Knob, v int) error {
	within := func(least, most int) error {
		if v < least || v > most {
			return syscall.EINVAL
		}
		return nil
	}
	var err error
	switch id {
	case KnobNoDelay:
		k.noDelay = v != 0
	case KnobCork:
		k.cork = v != 0
	case KnobQuickAck:
		k.slowAck = v == 0
	case KnobMaxSeg:
		if v != 0 {
			err = within(minMaxSeg, maxMaxSeg)
		}
		if err == nil {
			k.maxSeg = uint16(v)
		}
	case KnobWindowClamp:
		if v != 0 {
			v = max(v, minWindowClamp)
		}
		k.windowClamp = uint32(v)
	case KnobNotSentLowat:
		k.notSentLowat = uint32(v)
	case KnobRcvLowat:
		if v < 0 {
			v = math.MaxInt32
		}
		k.rcvLowatLess = uint32(max(v, 1) - 1)
	case KnobOOBInline:
		k.oobInline = v != 0
	case KnobKeepAlive:
		k.keepAlive = v != 0
	case KnobKeepIdle:
		if err = within(1, maxKeepSeconds); err == nil {
			k.keepIdle = uint16(v)
		}
	case KnobKeepInterval:
		if err = within(1, maxKeepSeconds); err == nil {
			k.keepInterval = uint16(v)
		}
	case KnobKeepCount:
		if err = within(1, maxKeepCount); err == nil {
			k.keepCount = uint8(v)
		}
	case KnobUserTimeout:
		if err = within(0, math.MaxInt32); err == nil {
			k.userTimeout = uint32(v)
		}
	case KnobTimeoutOption:
		k.uto = v != 0
	case KnobSynCount:
		if err = within(1, maxSynCount); err == nil {
			k.synCount = uint8(v)
		}
	case KnobDeferAccept:
		k.deferAccept = secondsToRetries(v)
	case KnobLinger2:
		k.linger2 = int16(min(max(v, -1), maxLinger2))
	case KnobLinger:
		k.linger = int32(min(max(v, -1), math.MaxInt32-1) + 1)
	case KnobRcvBuf:
		k.rcvBuf = bufferSize(v, minRcvBuf)
	case KnobSndBuf:
		k.sndBuf = bufferSize(v, minSndBuf)
	case KnobThinLinear:
		if err = within(0, 1); err == nil {
			k.thinLinear = v != 0
		}
	case KnobTOS:
		k.tos = uint8(v) &^ 3
	case KnobHops:
		if v == -1 {
			k.hops = 0
		} else if err = within(1, 255); err == nil {
			k.hops = uint8(v)
		}
	default:
		err = syscall.ENOPROTOOPT
	}
	return err
}

// Address puts into s what the IP header of everything from a connection with
// these settings has. Output does so.
func (k *Knobs) Address(s *Segment) { s.TOS, s.Hops = k.tos, k.hops }

// bufferSize is a size as it is set. A negative one is, as on Linux, very large.
func bufferSize(v, least int) int32 {
	if v < 0 {
		v = maxWindow
	}
	return int32(min(max(v, least), maxWindow))
}

// Get returns one setting.
func (k *Knobs) Get(id Knob) int {
	switch id {
	case KnobNoDelay:
		return flag(k.noDelay)
	case KnobCork:
		return flag(k.cork)
	case KnobQuickAck:
		return flag(!k.slowAck)
	case KnobMaxSeg:
		if k.maxSeg == 0 {
			return defaultPeerMSS // what Linux begins with
		}
		return int(k.maxSeg)
	case KnobWindowClamp:
		return int(k.windowClamp)
	case KnobNotSentLowat:
		return int(int32(k.notSentLowat))
	case KnobRcvLowat:
		return int(k.rcvLowatLess) + 1
	case KnobOOBInline:
		return flag(k.oobInline)
	case KnobKeepAlive:
		return flag(k.keepAlive)
	case KnobKeepIdle:
		return orDefault(int(k.keepIdle), defaultKeepIdle)
	case KnobKeepInterval:
		return orDefault(int(k.keepInterval), defaultKeepInterval)
	case KnobKeepCount:
		return orDefault(int(k.keepCount), defaultKeepCount)
	case KnobUserTimeout:
		return int(k.userTimeout)
	case KnobTimeoutOption:
		return flag(k.uto)
	case KnobSynCount:
		return orDefault(int(k.synCount), defaultSynRetries)
	case KnobDeferAccept:
		return retriesToSeconds(k.deferAccept)
	case KnobLinger2:
		return orDefault(int(k.linger2), defaultFinWait2)
	case KnobLinger:
		return int(k.linger) - 1
	case KnobRcvBuf:
		return 2 * orDefault(int(k.rcvBuf), initialRcvBuf)
	case KnobSndBuf:
		return 2 * orDefault(int(k.sndBuf), initialSndBuf)
	case KnobThinLinear:
		return flag(k.thinLinear)
	case KnobTOS:
		return int(k.tos)
	case KnobHops:
		return orDefault(int(k.hops), defaultHops)
	}
	return 0
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

func orDefault(v, d int) int {
	if v == 0 {
		return d
	}
	return v
}

// secondsToRetries turns a time into the number of SYN-ACKs that the default
// time-out sends in it, rounded up, for that is what the waiting is counted in.
func secondsToRetries(seconds int) (n uint8) {
	if seconds <= 0 {
		return 0
	}
	n = 1
	for step, sum := initialRTO, initialRTO; time.Duration(seconds)*time.Second > sum && n < math.MaxUint8; n++ {
		step = min(2*step, maxRTO)
		sum += step
	}
	return n
}

// retriesToSeconds is the way back.
func retriesToSeconds(n uint8) int {
	step, sum := initialRTO, time.Duration(0)
	for range n {
		sum += step
		step = min(2*step, maxRTO)
	}
	return int(sum / time.Second)
}

// Knob returns a setting as it is in force.
func (c *Conn) Knob(id Knob) int {
	switch id {
	case KnobQuickAck:
		return flag(!c.pingpong)
	case KnobMaxSeg:
		if c.InRepair() {
			return int(c.peerMSS) // as announced, to be announced again (Linux)
		}
		if c.mss > 0 {
			return c.mss
		}
	case KnobWindowClamp:
		if c.cfg.Knobs.windowClamp == 0 {
			return 65535 << c.rcvWScale
		}
	case KnobRcvBuf:
		return 2 * int(c.rcvBuf)
	case KnobSndBuf:
		return 2 * int(c.sndBuf)
	}
	return c.cfg.Knobs.Get(id)
}

// SetKnob changes a setting of the connection and does what follows from it;
// call Output afterwards. Errors: EINVAL for the value, ENOPROTOOPT for an
// unknown setting. A bound of the segment size or the number of SYNs comes too
// late for a connection that is open.
func (c *Conn) SetKnob(now mono.Time, id Knob, v int) error {
	c.wake()
	k := c.cfg.Knobs
	if k == &noKnobs {
		k = new(Knobs)
	}
	was := *k
	if id == KnobWindowClamp && v == 0 && c.state != Closed {
		return syscall.EINVAL // Linux: the bound may be moved, not taken away
	}
	if err := k.Set(id, v); err != nil {
		return err
	}
	c.cfg.Knobs = k
	switch id {
	case KnobQuickAck:
		c.setQuickAck(v)
	case KnobRcvBuf:
		c.setReceiveBuffer()
	case KnobSndBuf:
		c.setSendBuffer()
	}
	if c.state == Closed {
		return nil
	}
	switch id {
	case KnobNoDelay:
		c.pushNow = c.pushNow || k.noDelay
	case KnobCork:
		c.pushNow = c.pushNow || !k.cork && k.noDelay
	case KnobKeepAlive:
		if k.keepAlive != was.keepAlive {
			c.startKeepAlive(now)
		}
	case KnobKeepIdle:
		c.restartKeepAlive(now)
	case KnobUserTimeout, KnobTimeoutOption:
		c.advertiseTimeout()
	}
	return nil
}
