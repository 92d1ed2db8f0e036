package tcp

import (
	"io"
	"syscall"

	"github.com/tapstack/tapstack/internal/seq"
)

// This file owns urgent data (RFC 9293 §3.8.5, RFC 6093). The urgent pointer
// marks a place in the stream: "read up to here, quickly". It is not a second
// channel. Yet programs that use it, telnet's Synch foremost, use the Berkeley
// form, in which the last urgent byte is taken out of the stream:
//
//	 stream      a b c d e ! f g
//	 pointer                 ^        RFC 9293, RFC 6093 §3: after the byte
//	 mark                  ^          SIOCATMARK: reads stop before the byte
//
// RFC 9293 §3.1 has the pointer point after the byte that RFC 793 once meant;
// every system does, and RFC 6093 made it the rule.
//
// Departs from RFC 6093 §6, which wants urgent data in the stream always: as in
// every Berkeley system the byte is taken out unless the user asks for it
// inline (KnobOOBInline), which RFC 6093 recommends and telnet does.

// urgency is how far the byte at the mark has come.
type urgency uint8

const (
	urgentNone   urgency = iota // no mark, or read past it
	urgentComing                // the mark is known, the byte is not here
	urgentHere                  // the byte can be read out of line
	urgentTaken                 // it was; the stream is not read as far yet
)

// urgent is a connection's urgent data in both directions.
type urgent struct {
	sndUp  seq.Num // SND.UP: after the last urgent byte; not after sndUna: there is none in flight
	rcvUp  seq.Num // RCV.UP less 1: the number of the byte at the mark
	state  urgency // of that byte
	data   byte    // the byte itself, once here
	probed bool    // of the two segments of a window probe the urgent one has left
}

// sendingUrgent reports whether the peer has not acknowledged all urgent data:
// what is sent meanwhile carries the pointer, each segment its own, so that no
// super-frame may be cut into several by the device.
func (c *Conn) sendingUrgent() bool { return c.sndUna.Less(c.urg.sndUp) }

// putUrgent marks a segment that starts at at with the urgent pointer (RFC 9293
// §3.8.5, RFC 6093 §3). A mark too far away for 16 bits is announced by the
// farthest pointer there is, unless later text will do better (Linux).
func (c *Conn) putUrgent(s *Segment, at seq.Num) {
	if !c.sendingUrgent() || !at.Less(c.urg.sndUp) {
		return
	}
	switch d := c.urg.sndUp.Sub(at); {
	case d <= 0xffff:
		s.Urgent = uint16(d)
	case c.sndNxt.Less(at.Add(0xffff)):
		s.Urgent = 0xffff
	default:
		return
	}
	s.Flags |= FlagURG
}

// urgentProbe reports whether a window probe is to be preceded by a segment
// that tells of urgent data: the peer's user must hear of it though there is no
// room for it (RFC 9293 §3.8.6.1 and §3.10.7.4: "valid ACKs, URGs, and RSTs").
func (c *Conn) urgentProbe() bool {
	if c.urg.probed || !c.sendingUrgent() || c.urg.sndUp.Sub(c.sndUna) > 0xffff {
		c.urg.probed = false
		return false
	}
	c.urg.probed = true
	return true
}

// inputUrgent is RFC 9293 §3.10.7.4, sixth: check the URG bit.
func (c *Conn) inputUrgent(s *Segment) {
	if c.orphan || c.rcvFin || s.Flags&FlagSYN != 0 {
		return // nobody to tell; "ignore the URG" after the FIN; no text in a SYN
	}
	u := &c.urg
	if s.Flags&FlagURG != 0 {
		c.urgentPointer(s)
	}
	if u.state != urgentComing {
		return
	}
	// Is the byte in here, and will it be taken? It need not be in order: this
	// is what makes it urgent.
	text := s.Payload[0]
	if off := u.rcvUp.Sub(s.Seq); off >= 0 && off < len(text) && c.rcvNxt.LessEq(u.rcvUp) && u.rcvUp.Less(c.rcvAdv) {
		u.state, u.data = urgentHere, text[off]
		c.count(CountUrgentIn, 1)
		c.events |= EvUrgent
	}
}

// urgentPointer takes the pointer of s, if it is new: RCV.UP <- max(RCV.UP,
// SEG.UP), where what was read or has arrived counts for more. As 16 bits reach
// no farther than 64 KB, a hostile one costs nothing.
func (c *Conn) urgentPointer(s *Segment) {
	u := &c.urg
	up := s.Seq.Add(int(s.Urgent))
	if s.Urgent != 0 {
		up-- // RFC 6093 §3: the pointer points after the byte
	}
	if up.Less(c.rcvNxt) || u.state != urgentNone && up.LessEq(u.rcvUp) {
		return // arrived, and perhaps read; or not beyond the mark there is
	}
	if c.AtMark() && !c.cfg.Knobs.oobInline && c.rcv.Len() > 0 {
		// The reader stands at the old mark, whose byte is not of the stream.
		// It would become so with the mark moving on (Linux).
		c.rcv.Discard(1)
	}
	u.state, u.rcvUp = urgentComing, up
	// RFC 9293 §3.8.5 (MUST-32): the user is told when a mark appears or moves.
	c.events |= EvUrgent
}

// readSeq is the number of the next byte that the user reads.
func (c *Conn) readSeq() seq.Num {
	n := c.rcvNxt.Add(-c.rcv.Len())
	if c.rcvFin {
		n--
	}
	return n
}

// toMark says how a read is to treat the mark: skip bytes at the front are not
// for it, and of the rest it may take n.
func (c *Conn) toMark() (skip, n int) {
	have := c.rcv.Len()
	if c.urg.state == urgentNone {
		return 0, have
	}
	switch mark := c.urg.rcvUp.Sub(c.readSeq()); {
	case mark == 0 && have > 0 && !c.cfg.Knobs.oobInline:
		return 1, have - 1
	case mark > 0 && mark < have:
		return 0, mark
	}
	return 0, have
}

// passMark forgets a mark that the reader has passed.
func (c *Conn) passMark() {
	if c.urg.state != urgentNone && c.urg.rcvUp.Less(c.readSeq()) {
		c.urg.state = urgentNone
	}
}

// AtMark reports whether the next byte to be read is the one at the mark
// (sockatmark(3), SIOCATMARK).
func (c *Conn) AtMark() bool { return c.urg.state != urgentNone && c.urg.rcvUp == c.readSeq() }

// Urgent reports whether ReadUrgent has the byte, or would if it were not
// inline: the urgent condition of poll(2).
func (c *Conn) Urgent() bool { return c.urg.state == urgentHere }

// ReadUrgent takes the byte at the mark (MSG_OOB), or leaves it there (peek).
// It never waits. Errors as in Linux: EINVAL when there is no mark, the byte
// was taken already or is inline; EAGAIN when it has not arrived; ENOTCONN on a
// connection that has failed; io.EOF when it will not arrive.
func (c *Conn) ReadUrgent(p []byte, peek bool) (int, error) {
	u := &c.urg
	switch {
	case c.cfg.Knobs.oobInline || u.state == urgentNone || u.state == urgentTaken:
		return 0, syscall.EINVAL
	case c.state == Closed && !c.rcvFin:
		return 0, syscall.ENOTCONN
	case u.state == urgentHere:
		if !peek {
			u.state = urgentTaken
		}
		if len(p) == 0 {
			return 0, nil
		}
		p[0] = u.data
		return 1, nil
	case c.state == Closed || c.rdClosed || c.rcvFin:
		return 0, io.EOF
	}
	return 0, syscall.EAGAIN
}
