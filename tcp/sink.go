package tcp

import "github.com/tapstack/tapstack/internal/seq"

// This file owns text that goes straight to a reader who is waiting for it,
// past the receive buffer: one copy less of each byte, and as a stream that is
// read as fast as it comes is copied more than anything else is done with it,
// about a seventh of its cost.
//
// For the connection such text has been read: it is not in the buffer, and the
// window does not count it.

// Sink is the room that a waiting reader has offered. The zero Sink is ready;
// it must not be copied, nor be offered to two connections.
type Sink struct {
	room []byte
	n    int
	next seq.Num // what follows the n bytes
}

// Offer lets the text that arrives next go to p, from its beginning, until
// Collect. It reports whether it does: not while another Sink is offered.
// Offer only what nothing else reads or writes meanwhile.
func (c *Conn) Offer(s *Sink, p []byte) bool {
	if c.sink != nil || len(p) == 0 {
		return false
	}
	*s = Sink{room: p}
	c.sink = s
	return true
}

// Collect ends an Offer and returns how many bytes have come. Call Output
// afterwards, as after Read.
func (c *Conn) Collect(s *Sink) int {
	if c.sink != s {
		return 0
	}
	n := s.n
	c.sink = nil
	*s = Sink{}
	if n > 0 {
		c.wake()
		c.tune.due = true
		c.readerFreed()
	}
	return n
}

// land gives text that starts at rcvNxt to the waiting reader, and returns how
// many bytes there were a reader and room for. Only with nothing before it and
// nothing behind it in the buffer is its place there free to be left out, and
// the mark of urgent data is the business of Read. When text has gone into the
// buffer since some came here, another reader may have taken that: what follows
// it is not for this one.
func (c *Conn) land(text []byte) int {
	s := c.sink
	if s == nil || c.rcv.Len() > 0 || !c.ooo.empty() || c.urg.state != urgentNone || c.rdClosed || s.n > 0 && s.next != c.rcvNxt {
		return 0
	}
	n := copy(s.room[s.n:], text)
	s.n += n
	s.next = c.rcvNxt.Add(n)
	return n
}
