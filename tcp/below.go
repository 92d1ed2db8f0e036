package tcp

// This file owns what the layer below puts between its fixed header and each
// segment: the options of IPv4 (IP_OPTIONS), the extension headers of IPv6
// (RFC 3542 §6). This package knows no more of it than its length, which comes
// off the size of the segments in one place, fixedOptions. What a SYN announces
// does not count it (RFC 6691 §2): the peer takes off what it sends itself.
// Linux calls the length icsk_ext_hdr_len.

// Below is something of that kind. It is not changed once it was given to a
// connection.
type Below interface {
	// Len is how much longer it makes a packet, in bytes.
	Len() int
}

// Below returns what SetBelow or Config.Below has set, nil for nothing.
func (c *Conn) Below() Below { return c.extras.below }

// SetBelow says what the packets of the connection have below the segment from
// now on, nil: nothing. Segments have another size then (RFC 9293 §3.7.1,
// MUST-16); what is in flight stays as it is cut.
func (c *Conn) SetBelow(b Below) {
	if b == nil && c.extras.below == nil {
		return
	}
	c.extra().below = b
	if c.state.Synchronized() && c.state != TimeWait {
		c.syncMSS()
	}
}

// belowLen is the length of it.
func (c *Conn) belowLen() int {
	if b := c.extras.below; b != nil {
		return b.Len()
	}
	return 0
}
