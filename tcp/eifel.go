package tcp

// This file owns Eifel detection (RFC 3522): whether the ACK that moves sndUna
// answers what was sent first or what was sent again. Both have the same
// numbers, but their timestamps differ, and the peer echoes the one it answers:
//
//	sent      1 (ts 100)       1 again (ts 300)
//	                \                    \
//	ACK              echo 100: late       echo 300: was lost
//
// Departs from RFC 3522 §3.2, step 5, as Linux does: an ACK that carries a
// D-SACK, or acknowledges everything, counts as well. If all ACKs of a flight
// were lost there was congestion on their way, not on that of the text.

// delayed reports that the ACK being processed, which moved sndUna, was caused
// by something that left before anything was sent again.
func (c *Conn) delayed() bool {
	if c.undo.stamped {
		return c.rack.echoedBefore(c.undo.stamp)
	}
	// Nothing was sent again yet: it can only have been the first (Linux).
	// Without SACK what ends a recovery may also answer an earlier one.
	return c.sackOK || c.sndUna.Less(c.recover)
}
