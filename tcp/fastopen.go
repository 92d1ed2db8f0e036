package tcp

import (
	"encoding/binary"
	"net/netip"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/seq"
	"github.com/tapstack/tapstack/internal/siphash"
	"github.com/tapstack/tapstack/tcp/cc"
)

// This file owns TCP Fast Open (RFC 7413) on one connection: text in the SYN.
//
// The client's SYN carries a cookie that the server gave it on an earlier
// connection, and text; the server, if the cookie is right, hands the text to
// the application at once and acknowledges it with the SYN:
//
//	SYN-SENT      S 0:100(100) <FO cookie>     ------>   NewFastOpen: SYN-RECEIVED,
//	                                                      100 bytes to be read, text may be sent
//	ESTABLISHED   <------   S. 0:0(0) ack 101
//	              <------   P. 1:51(50) ack 101           before the handshake is done
//	              . 101:101(0) ack 51          ------>   ESTABLISHED
//
// A SYN-ACK that acknowledges less means that the rest was not taken, and it is
// sent again as if for the first time. A SYN that is sent again has neither
// text nor option, so that whatever dislikes them on the path is got round
// (RFC 7413 §4.2.1). Cookies are made here (FastOpenCookie), and
// checked, kept and aged by package stack.

// fastOpen is what a connection knows that was opened this way, or tried to.
// Others have none.
type fastOpen struct {
	server bool
	option FastOpenOption // for the first SYN or SYN-ACK
	room   int            // client: bytes of text that the SYN may carry
	hold   bool           // client: the SYN waits for text
	again  bool           // the SYN or SYN-ACK was sent more than once
	inSyn  int            // bytes of text in the SYN: sent, or taken
	taken  bool           // client: all of it was acknowledged by the SYN-ACK
}

// FastOpenOffer is how a client wants to open (RFC 7413 §4.2).
type FastOpenOffer struct {
	// Option goes with the SYN: a cookie, or the request for one.
	Option FastOpenOption
	// Text says that the SYN may carry text; PeerMSS is what the server
	// announced the last time, 0 if unknown.
	Text    bool
	PeerMSS int
}

// FastOpen makes a connection that NewActive has just made, before its first
// Output, a Fast Open. With o.Text, and if there is room for any, the SYN waits
// until Write or Connect.
func (c *Conn) FastOpen(o FastOpenOffer) {
	c.wake()
	f := &fastOpen{option: o.Option}
	if o.Text {
		room := int(min(c.cfg.MSS, c.pathMSS))
		if o.PeerMSS > 0 {
			room = min(room, o.PeerMSS)
		}
		f.room = max(room-maxOptions-c.belowLen(), 0) // Linux leaves room for all options
		f.hold = f.room > 0
		c.synDue = !f.hold
	}
	c.extra().fo = f
}

// Connect lets a SYN go that waits for text. It reports whether one did.
func (c *Conn) Connect() bool {
	if c.state != SynSent || c.fo == nil || !c.fo.hold {
		return false
	}
	c.wake()
	c.fo.hold, c.synDue = false, true
	return true
}

// synRoom is how many bytes Write takes in SYN-SENT: what fits a SYN that
// waits for it.
func (c *Conn) synRoom() int {
	if c.state != SynSent || c.fo == nil || !c.fo.hold {
		return 0
	}
	return min(c.fo.room, c.sndFree())
}

// NewFastOpen makes the connection for a SYN whose cookie the caller has
// checked (RFC 7413 §4.2.2). It is in SYN-RECEIVED with the SYN's text to be
// read; give is the option for the SYN-ACK, which comes out of Output.
func NewFastOpen(cfg *Config, now mono.Time, syn *Segment, give FastOpenOption) *Conn {
	c := NewSynRequest(cfg, now, syn).Conn(cfg, now)
	c.extra().fo = &fastOpen{server: true, option: give}
	c.stat.segsOut = 0
	c.synDue = true
	// Text is numbered from here on, while the SYN is answered for by its own
	// retransmissions.
	c.sendFrom(c.iss + 1)
	c.sndWnd = int(syn.Window) // RFC 7323 §2.2: never scaled in a SYN
	c.maxSndWnd = int32(c.sndWnd)
	c.sndWl1 = syn.Seq
	c.lastDataAt = now

	text := syn.Payload[0]
	n := c.rcv.Write(text[:min(len(text), c.rcvAdv.Sub(c.rcvNxt))])
	c.rcvNxt = c.rcvNxt.Add(n)
	c.stat.bytesIn += uint64(n)
	c.fo.inSyn = n
	c.takeOver(cc.Start{Now: now})
	return c
}

// sendFrom sets the send variables to a number up to which everything is
// acknowledged and nothing is in flight.
func (c *Conn) sendFrom(n seq.Num) {
	c.sndUna, c.sndNxt, c.sndSml = n, n, n
	c.rexmit, c.rexmitEnd, c.rack.fack = n, n, n
}

// fastServer reports a Fast Open by the peer. Until the handshake is done such
// a connection is in SYN-RECEIVED, but may already send.
func (c *Conn) fastServer() bool { return c.fo != nil && c.fo.server }

// mayText reports that text may be sent.
func (c *Conn) mayText() bool {
	return c.state >= Established || c.state == SynReceived && c.fastServer()
}

// putFastOpen adds option and text to the first SYN or SYN-ACK. first says that
// it is that.
func (c *Conn) putFastOpen(s *Segment, first bool) {
	f := c.fo
	if !first {
		f.again = true
		return
	}
	if !f.server && c.state != SynSent {
		return
	}
	s.Options.FastOpen = f.option
	if n := min(f.room, c.snd.Len()); n > 0 && !f.server {
		s.Payload[0], s.Payload[1] = c.snd.Peek(0, n)
		s.SegSize = n
		f.inSyn = n
	}
}

// synWindowLeft is the window of a SYN-ACK. The text of the SYN has taken a
// part of the buffer.
func (c *Conn) synWindowLeft() int {
	w := synWindow(min(max(int(c.cfg.RcvInit)-c.rcv.Len(), 0), c.cfg.largestWindow()))
	c.rcvAdv = seq.Max(c.rcvAdv, c.rcvNxt.Add(w))
	return w
}

// acksSyn reports that ack acknowledges our SYN and nothing that was not sent:
// the fifth check of RFC 9293 §3.10.7.4 in SYN-RECEIVED and the first of
// §3.10.7.3, where text may have gone with the SYN or after it.
func (c *Conn) acksSyn(ack seq.Num) bool {
	last := c.iss + 1
	switch {
	case c.fo == nil:
	case c.fo.server:
		last = c.sndNxt
	default:
		last = last.Add(c.fo.inSyn)
	}
	return c.iss.Less(ack) && ack.LessEq(last)
}

// synTextAcked takes off the ring what of the SYN's text is acknowledged. The
// rest has never been sent, as far as the ring is concerned.
func (c *Conn) synTextAcked(ack seq.Num) {
	f := c.fo
	if f == nil || f.server || f.inSyn == 0 {
		return
	}
	n := ack.Sub(c.iss + 1)
	c.snd.Discard(n)
	c.sendFrom(ack)
	c.stat.bytesAcked += uint64(n)
	if f.taken = n == f.inSyn; !f.taken {
		c.count(CountRetransSegs, 1)
	}
}

// FastOpenTried is how a client's attempt went, for its cache of cookies.
type FastOpenTried struct {
	Exp   bool // the option had the old form
	Asked bool // there was an option
	Text  int  // bytes of text in the SYN
	Again bool // the SYN was sent again, without either
}

// FastOpenTried returns the attempt, and whether there was one.
func (c *Conn) FastOpenTried() (r FastOpenTried, ok bool) {
	if f := c.fo; f != nil && !f.server {
		return FastOpenTried{Exp: f.option.Exp, Asked: f.option.Present, Text: f.inSyn, Again: f.again}, true
	}
	return r, false
}

// FastOpened reports that the peer opened the connection by Fast Open.
func (c *Conn) FastOpened() bool { return c.fastServer() }

// Held reports that the SYN waits for text.
func (c *Conn) Held() bool { return c.state == SynSent && c.fo != nil && c.fo.hold }

// synData reports that text in the SYN was taken, by us or by the peer (Linux's
// TCPI_OPT_SYN_DATA).
func (c *Conn) synData() bool {
	return c.fo != nil && (c.fo.taken || c.fo.server && c.fo.inSyn > 0)
}

// FastOpenCookie is the server's cookie for a client (RFC 7413 §4.1.2): proof
// that the client has received something at its address. It is Linux's, so
// that servers behind one address may share a key.
func FastOpenCookie(key [16]byte, client, server netip.Addr) FastOpenOption {
	b := append(client.AsSlice(), server.AsSlice()...)
	o := FastOpenOption{Present: true, Len: 8}
	binary.LittleEndian.PutUint64(o.Cookie[:], siphash.Sum64(key, b))
	return o
}

// FastOpenKey derives the key of one period from the stack's secret.
func FastOpenKey(secret [16]byte, period uint32) (key [16]byte) {
	for half := range byte(2) {
		b := [6]byte{useFastOpen, half}
		binary.BigEndian.PutUint32(b[2:], period)
		binary.BigEndian.PutUint64(key[8*half:], siphash.Sum64(secret, b[:]))
	}
	return key
}
