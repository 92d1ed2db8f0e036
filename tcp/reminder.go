package tcp

import (
	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns reminders: segments of one byte that the peer has had and has
// acknowledged, for those who want to see what becomes of a segment on its way
// without moving anything. A keep-alive is one too (keepalive.go). The peer
// refuses it before it looks at it and answers with an ACK (RFC 9293 §3.10.7.4,
// first check), and with SACK says which byte came twice (RFC 2883 §4). Many may
// be under way at once, since each can have a number of its own.
//
// None of our state changes: that a reminder carries an ACK is not counted as
// having sent one, for it may be meant to die on its way.

// MaxReminder is how far below SND.UNA a reminder may lie: the least that a
// firewall takes for a retransmission is the peer's window, which is larger.
const MaxReminder = 1024

var reminderByte = []byte{0}

// Reminder writes into s a segment with the byte at SND.UNA-back, back being from
// 1 to MaxReminder, and reports whether it may be sent: only while both sides
// have the connection, and, if the peer cannot say what came twice, while nothing
// is outstanding, since its answers would count as duplicate ACKs then (RFC 5681
// §2). The byte need not be what was sent there, as RFC 1122 §4.2.3.6 has it of
// keep-alives.
func (c *Conn) Reminder(now mono.Time, back int, s *Segment) bool {
	if c.state != Established && c.state != CloseWait || back < 1 || back > MaxReminder || !c.sackOK && c.sndUna != c.sndNxt {
		return false
	}
	*s = Segment{SrcPort: c.cfg.LocalPort, DstPort: c.cfg.RemotePort, Seq: c.sndUna.Add(-back), Ack: c.rcvNxt, Flags: FlagACK | FlagPSH}
	s.Window = uint16(max(c.rcvAdv.Sub(c.rcvNxt), 0) >> c.rcvWScale)
	if c.tsOK {
		s.Options.HasTS, s.Options.TSVal, s.Options.TSEcr = true, tsNow(now, c.cfg.TSOffset), c.tsRecent
	}
	s.Payload[0] = reminderByte
	return true
}

// SaysWhich reports whether the peer can say which byte came twice.
func (c *Conn) SaysWhich() bool { return c.sackOK }

// TakeReminded looks for the answer to a reminder in s: a first SACK block of one
// byte below SND.UNA. It takes the block out, so that Input does not hear of a
// duplicate that no loss and no reordering made, and returns its number. Without
// SACK it reports an ACK that says nothing new, with the number 0.
func (c *Conn) TakeReminded(s *Segment) (number uint32, ok bool) {
	if s.Flags&(FlagACK|FlagSYN|FlagRST) != FlagACK {
		return 0, false
	}
	o := &s.Options
	if o.NumSACK == 0 {
		return 0, !c.sackOK && s.Len() == 0 && s.Ack == c.sndUna
	}
	b := o.SACK[0]
	if back := c.sndUna.Sub(b.Left); b.Right.Sub(b.Left) != 1 || back < 1 || back > 2*MaxReminder {
		return 0, false
	}
	copy(o.SACK[:], o.SACK[1:])
	o.NumSACK--
	return uint32(b.Left), true
}
