package probe

import (
	"bytes"
	"slices"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/stack"
)

// This file owns what each connection of an x-ray does: a SYN, and then by its
// role a reset, silence, a request whose answer is not acknowledged, or an end.
// All end with a reset where the peer may keep something for us.

// xrayRole is what a connection is for.
type xrayRole uint8

const (
	roleFirst    xrayRole = iota // is there anybody, how far
	roleSample                   // another port: ISN, timestamps, IP identification
	roleAgain                    // the first port once more
	roleSilent                   // the SYN-ACK is not acknowledged
	rolePlain                    // a SYN without options
	roleECN                      // ECE and CWR (RFC 3168 §6.1.1)
	roleAccECN                   // AE too (RFC 9768 §3.1.1)
	roleFastOpen                 // asks for a cookie (RFC 7413 §4.1.1)
	roleIW                       // the answer to a request is not acknowledged
	roleSmallIW                  // likewise, with a small MSS
	roleClose                    // a connection, what is said first, an end from our side
	roleStray                    // an ACK of no connection
	numRoles
)

var roleNames = [numRoles]string{"first", "sample", "same-port", "unacknowledged", "no-options", "ecn", "accecn", "fast-open",
	"window", "window-small", "close", "stray-ack"}

// xrayStep is how far a connection is.
type xrayStep uint8

const (
	stepSyn    xrayStep = iota // nothing has been heard
	stepWait                   // for what the role waits for
	stepFlight                 // data comes and is not acknowledged
	stepVerify                 // it was: is there more?
	stepFin                    // our FIN is under way
	stepOver
)

const (
	// greetingWait is how long a server has to speak first.
	greetingWait = time.Second
	// flightWait is how long a flight may take to be sent again: RFC 6298 has
	// 1 s at least, some have 3 s.
	flightWait = 4 * time.Second
	// maxFlight bounds what is remembered of a flight.
	maxFlight = 4096
	// maxAcks bounds how often a connection acknowledges something: whoever
	// answers each ACK would otherwise be answered for ever.
	maxAcks = 64
	// maxSegments bounds what is remembered of a connection.
	maxSegments = 1 << 14
)

type xrayConn struct {
	x     *xray
	role  xrayRole
	port  uint16
	iss   uint32
	tsval uint32
	start mono.Time // of the first SYN
	due   mono.Time // 0: there is nothing to wait for
	step  xrayStep
	segs  []xraySeg
	syns  []mono.Time
	peer  uint32 // what we acknowledge
	next  uint32 // our next sequence number
	acks  int    // that were sent

	synAck  *xraySeg // the first
	refused *xraySeg // from the peer
	synAcks []mono.Time
	answers int // which SYN the first SYN-ACK answers

	// Of a flight: what came, its bytes without a hole, its first segment's
	// and its latest new one's instant, and when something came again.
	flight         map[uint32]int
	high           uint32
	flown, unit    int
	segments       int
	first, latest  mono.Time
	again          mono.Time
	fin, more      bool
	asked          int // how often the request was sent
	acked          bool
	greeting       []byte
	finAcked       mono.Time
	finSent, finAt mono.Time // ours and the peer's
}

func (c *xrayConn) ends() ends {
	return ends{c.x.route.Src(), c.x.route.Dst(), c.port, c.x.q.DstPort}
}

// mss is what we announce.
func (c *xrayConn) mss() int {
	if c.role == roleSmallIW {
		return c.x.q.SmallMSS
	}
	return c.x.linkMSS()
}

// linkMSS is the MSS that our link allows.
func (x *xray) linkMSS() int {
	n := x.route.LinkMTU() - 40
	if x.route.Dst().Is6() {
		n -= 20
	}
	return max(min(n, 65535), 64)
}

// send sends a segment once the lock is free.
func (c *xrayConn) send(s xraySeg) {
	x := c.x
	s.at, s.sent, s.length = x.out.Now(), true, len(s.data)
	if s.window == 0 && s.flags&flagRst == 0 {
		s.window = 65535
	}
	b := s.bytes(c.ends())
	c.record(s)
	x.id++
	h := stack.ProbeHeader{Protocol: protoTCP, TTL: x.q.TTL, TOS: x.q.TOS &^ 3, DF: len(b) <= x.linkMSS(), ID: x.id}
	x.later(func() { _ = x.out.Send(&x.route, &h, b) }) // what fails is lost, as on the way
}

func (c *xrayConn) record(s xraySeg) {
	if len(c.segs) < maxSegments {
		s.opts = slices.Clone(s.opts)
		s.data = nil
		c.segs = append(c.segs, s)
	}
}

func (c *xrayConn) syn() {
	now := c.x.out.Now()
	s := xraySeg{flags: flagSyn, seq: c.iss, opts: synOptions(c.mss(), c.tsval+uint32(len(c.syns)))}
	switch c.role {
	case rolePlain:
		s.opts = nil
	case roleECN:
		s.flags |= flagEce | flagCwr
	case roleAccECN:
		s.flags |= flagEce | flagCwr | flagAE
	case roleFastOpen:
		s.opts = append(s.opts, optNop, optNop, optFastOpen, 2)
	case roleIW, roleSmallIW, roleClose:
		s.opts = bareOptions(c.mss())
	}
	c.syns = append(c.syns, now)
	c.send(s)
	c.due = min(now.Add(time.Second<<min(len(c.syns)-1, 6)), c.start.Add(c.x.q.Timeout))
}

func (c *xrayConn) ack() {
	if c.acks++; c.acks <= maxAcks {
		c.send(xraySeg{flags: flagAck, seq: c.next, ack: c.peer})
	}
}

// reset ends what the peer has of the connection; RFC 9293 §3.5.2.
func (c *xrayConn) reset(mono.Time) {
	if c.synAck != nil && c.step != stepOver {
		c.send(xraySeg{flags: flagRst | flagAck, seq: c.next, ack: c.peer})
	}
	c.step, c.due = stepOver, 0
}

// expire is the connection's timer, which is not set any more.
func (c *xrayConn) expire(now mono.Time) {
	switch c.step {
	case stepSyn:
		switch {
		case c.role == roleStray && len(c.segs) == 0:
			c.step, c.due = stepWait, now.Add(greetingWait)
			c.send(xraySeg{flags: flagAck, seq: c.iss, ack: c.tsval})
		case len(c.segs) == 0 && c.role != roleStray, now < c.start.Add(c.x.q.Timeout):
			if len(c.segs) == 0 {
				c.start = now
			}
			c.syn()
		default:
			c.step = stepOver
		}
	case stepWait:
		switch {
		case c.role == roleClose:
			c.step, c.due = stepFin, now.Add(2*time.Second)
			c.finSent = now
			c.send(xraySeg{flags: flagFin | flagAck, seq: c.next, ack: c.peer})
			c.next++
		case c.asking() && c.asked < 4:
			c.request(now)
		default:
			c.reset(now)
		}
	default:
		c.reset(now) // a flight that nobody repeats, nothing more, no end
	}
}

// asking reports whether the request is still to be acknowledged.
func (c *xrayConn) asking() bool {
	return (c.role == roleIW || c.role == roleSmallIW) && len(c.x.q.Send) > 0 && !c.acked
}

// request sends what makes the peer talk, in segments that it takes.
func (c *xrayConn) request(now mono.Time) {
	c.asked++
	c.due = now.Add(time.Second << (c.asked - 1))
	size := 536
	eachOption(c.synAck.opts, func(kind uint8, v []byte) {
		if kind == optMSS && len(v) == 2 {
			size = max(int(v[0])<<8|int(v[1]), 64)
		}
	})
	seq := c.iss + 1
	for b := range slices.Chunk(c.x.q.Send, min(size, c.x.linkMSS())) {
		c.send(xraySeg{flags: flagAck | flagPsh, seq: seq, ack: c.peer, data: b})
		seq += uint32(len(b))
	}
	c.next = seq
}

// rtt is that of the SYN that was answered.
func (c *xrayConn) rtt() time.Duration { return c.synAck.at.Sub(c.syns[c.answers-1]) }

// input takes a segment from the peer.
func (c *xrayConn) input(now mono.Time, s *xraySeg) {
	s.at = now
	c.record(*s)
	switch {
	case c.step == stepOver:
	case c.role == roleStray:
		if s.has(flagRst) && s.seq == c.tsval {
			c.refused, c.step, c.due = &c.segs[len(c.segs)-1], stepOver, 0
		}
	case c.step == stepSyn:
		c.opened(now, s)
	case s.has(flagRst):
		if s.seq-c.peer < 1<<20 { // in the window, more or less
			c.refused, c.step, c.due = &c.segs[len(c.segs)-1], stepOver, 0
		}
	case s.has(flagSyn | flagAck):
		if s.seq == c.synAck.seq && s.ack == c.iss+1 && c.role == roleSilent {
			c.synAcks = append(c.synAcks, now)
		} else if c.role != roleSilent {
			c.ack() // the handshake's last segment was lost
		}
	default:
		c.established(now, s)
	}
}

// opened is for the answer to the SYN.
func (c *xrayConn) opened(now mono.Time, s *xraySeg) {
	if !s.has(flagAck) || s.ack != c.iss+1 || s.flags&(flagSyn|flagRst) == 0 {
		return
	}
	copied := *s
	copied.opts, copied.data = slices.Clone(s.opts), nil
	if s.has(flagRst) {
		c.refused, c.step, c.due = &copied, stepOver, 0
		return
	}
	c.synAck, c.synAcks = &copied, []mono.Time{now}
	c.peer, c.next = s.seq+1, c.iss+1
	c.answers = len(c.syns)
	if _, echoed, ok := stamps(s.opts); ok {
		if k := int(int32(echoed - c.tsval)); k >= 0 && k < len(c.syns) {
			c.answers = k + 1
		}
	}
	c.step = stepWait
	switch c.role {
	case roleSilent:
		c.due = c.start.Add(c.x.q.Watch)
	case roleClose:
		c.ack()
		c.due = now.Add(greetingWait)
	case roleIW, roleSmallIW:
		c.flight, c.high = make(map[uint32]int), c.peer
		if len(c.x.q.Send) > 0 {
			c.request(now)
		} else {
			c.ack()
			c.due = now.Add(2 * greetingWait)
		}
	default:
		c.reset(now)
		switch c.role {
		case roleFirst:
			c.x.answered(c)
		case roleAgain:
			c.x.again(c)
		}
	}
}

// established is for what comes on a connection.
func (c *xrayConn) established(now mono.Time, s *xraySeg) {
	if len(c.x.q.Send) > 0 && s.has(flagAck) && s.ack == c.iss+1+uint32(len(c.x.q.Send)) {
		c.acked = true
	}
	switch c.role {
	case roleIW, roleSmallIW:
		c.fly(now, s)
	case roleClose:
		if c.step == stepFin && s.has(flagAck) && s.ack == c.next && c.finAcked == 0 {
			c.finAcked = now
		}
		if s.seq != c.peer {
			return
		}
		if s.length > 0 && len(c.greeting) < 256 {
			c.greeting = append(c.greeting, s.data[:min(len(s.data), 256)]...)
		}
		if c.peer = s.end(); s.length > 0 || s.has(flagFin) {
			c.ack()
		}
		if s.has(flagFin) {
			c.finAt = now
			if c.step == stepFin && c.finAcked != 0 {
				c.step, c.due = stepOver, 0 // an end on both sides
			}
		}
	}
}

// fly looks at data that is not acknowledged: what is new belongs to the flight,
// what comes again says that there is no more of it.
func (c *xrayConn) fly(now mono.Time, s *xraySeg) {
	if s.length == 0 && !s.has(flagFin) {
		if c.asking() || c.step != stepWait {
			return
		}
		c.due = now.Add(flightWait) // the request has arrived, the answer is being made
		return
	}
	if c.step == stepVerify {
		if int32(s.end()-c.high) > 0 {
			c.more = true
			c.reset(now)
		}
		return
	}
	if n, ok := c.flight[s.seq]; ok && n >= s.length || int32(s.end()-c.high) <= 0 && int32(s.seq-c.peer) < 0 {
		c.verify(now)
		return
	}
	if len(c.flight) >= maxFlight || s.seq-c.peer > 1<<26 {
		return
	}
	c.acked = true // nobody answers what was not asked
	if c.step = stepFlight; c.first == 0 {
		c.first = now
	}
	c.latest, c.due = now, now.Add(flightWait)
	c.flight[s.seq] = s.length
	c.flown += s.length
	size := s.length
	if s.unit > 0 && s.unit < s.length {
		size = s.unit
	}
	c.unit = max(c.unit, size)
	if size > 0 {
		c.segments += (s.length + size - 1) / size
	}
	if s.seq == c.peer && len(c.greeting) == 0 {
		c.greeting = bytes.Clone(s.data[:min(len(s.data), 256)])
	}
	for {
		n, ok := c.flight[c.high]
		if !ok || n == 0 {
			break
		}
		c.high += uint32(n)
	}
	if s.has(flagFin) {
		c.fin = true
	}
	if c.fin && int32(s.end()-1-c.high) <= 0 {
		c.reset(now) // that was all
	}
}

// verify acknowledges the flight: if more comes it was the window that ended it.
func (c *xrayConn) verify(now mono.Time) {
	c.again = now
	if c.fin {
		c.reset(now)
		return
	}
	for seq, n := range c.flight { // with holes, what was lost is acknowledged too
		if end := seq + uint32(n); int32(end-c.high) > 0 {
			c.high = end
		}
	}
	c.step, c.due = stepVerify, now.Add(min(max(4*c.rtt(), time.Second), 3*time.Second))
	c.peer = c.high
	c.ack()
}
