package tcp

import (
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/seq"
)

// This file owns the question what is lost, when the peer sends SACK blocks:
// RACK of RFC 8985. It asks for time rather than counting: what left before
// something that has arrived is lost, unless it may still be on its way by
// another path. That holds for what was sent again as well, so that a lost
// retransmission is noticed without a time-out.
//
//	time    ------>
//	sent      a   b   c          arrived: c
//	          |   |   |<- rtt ->|<- reoWindow ->|
//	          lost when this much time has passed since each was sent

// Limits of the reordering window (RFC 8985 §6.2.4).
const (
	maxReoMult    = 20 // times a quarter of the least round trip
	reoRecoveries = 16 // how many recoveries a widened window lasts
	// minRTTLife is how long the least round trip counts (Linux's
	// tcp_min_rtt_wlen): the path may have become longer.
	minRTTLife = 5 * time.Minute
)

// rack is the variables of RFC 8985 §5.2 and §5.3 and what the ACK being
// processed says.
type rack struct {
	rtt     time.Duration // RACK.rtt: of what arrived last
	minRTT  time.Duration // RACK.min_RTT; 0: not measured
	minAt   mono.Time
	dsackTo seq.Num // RACK.dsack_round: the next D-SACK before it is not news
	extent  uint32  // by how many bytes at most something was overtaken
	dsackIn bool    // there is such a round
	reorder bool    // RACK.reordering_seen
	mult    uint8   // RACK.reo_wnd_mult less 1
	persist uint8   // RACK.reo_wnd_persist

	rates *rates // nil: nobody wants to know how fast

	*rackFlight
}

// rackFlight is the part that tells nothing about what has not left yet.
type rackFlight struct {
	sent mono.Time // RACK.xmit_ts: of what left last among all that arrived
	end  seq.Num   // RACK.end_seq: of what sent is about
	fack seq.Num   // RACK.fack: the highest number that arrived; a sleeper's is where sndUna is
	ackNews
}

// ackNews is what the ACK being processed says, for all who have to judge it.
type ackNews struct {
	now      mono.Time
	echo     uint32  // what its timestamp echoes, if hasEcho
	tsOffset uint32  // of our timestamps
	prior    seq.Num // sndUna before it
	onceEnd  seq.Num // the first of what arrived and was sent once ends here, if once
	bytes    int     // arrived by its account

	sample  time.Duration // round trip of what left last of what was sent once; 0: none
	ackRTT  time.Duration // the longest round trip of what was sent once and is now acknowledged
	sackRTT time.Duration // and of what is now SACKed

	hasEcho bool
	doubt   bool // a time-out is suspected of being spurious
	once    bool
	sacked  bool // its blocks tell of something new
	cum     bool // its acknowledgment number is being looked at, not its blocks
	late    bool // something arrived after what was sent later
	ackTwo  bool // something is acknowledged that was sent twice
	undone  bool // it proved the last reduction wrong
}

// begin starts with the ACK in s.
func (k *rack) begin(now mono.Time, s *Segment, una seq.Num, tsOffset uint32) {
	k.ackNews = ackNews{now: now, prior: una, tsOffset: tsOffset, hasEcho: s.Options.HasTS && s.Options.TSEcr != 0, echo: s.Options.TSEcr}
	if k.rates != nil {
		k.rates.has = false
	}
}

// echoedBefore reports that the ACK was caused by a segment that left before
// our timestamp clock said ts.
func (k *ackNews) echoedBefore(ts uint32) bool { return k.hasEcho && tsBefore(k.echo, ts) }

// note takes the round trip of a range that was sent once.
func (k *ackNews) note(r *sentRange, rtt time.Duration) {
	rtt = max(rtt, 1) // shorter than the clock's tick
	k.sample = rtt
	if k.cum {
		k.ackRTT = max(k.ackRTT, rtt)
	} else {
		k.sackRTT = max(k.sackRTT, rtt)
	}
}

// delivered takes a range that the ACK says has arrived: RFC 8985 §6.2, steps
// 1 to 3. Ranges come in order of their numbers.
func (k *rack) delivered(r *sentRange) {
	k.bytes += r.len()
	if k.rates != nil {
		k.rates.arrived(k.now, r)
	}
	if !k.cum {
		k.sacked = true
	}
	again := r.has(sentAgain)
	switch {
	case k.fack.LessEq(r.end):
		k.fack = r.end
	case !again:
		k.overtaken(r.start) // step 3
	}
	if again {
		k.ackTwo = k.ackTwo || k.cum
	} else if !k.once || r.end.Less(k.onceEnd) {
		k.once, k.onceEnd = true, r.end
	}
	rtt := max(k.now.Sub(r.sent), 0) // now may be that of a batch which began before this was sent
	switch {
	case r.has(sentCoarse):
		return // its time is not that of these bytes
	case !again:
		k.note(r, rtt)
		if rtt > 0 && (k.minRTT == 0 || rtt <= k.minRTT || k.now.Sub(k.minAt) > minRTTLife) {
			k.minRTT, k.minAt = rtt, k.now
		}
	case k.cum && k.echoedBefore(tsNow(r.sent, k.tsOffset)), rtt < k.minRTT, k.doubt:
		// Step 2: it was, or may have been, the first transmission that
		// arrived. Departs from the RFC as Linux does: the echo tells only of
		// what is acknowledged, since text beyond a hole is not echoed (RFC
		// 7323 §4.3).
		return
	}
	k.rtt = rtt
	if sentAfter(r.sent, r.end, k.sent, k.end) {
		k.sent, k.end = r.sent, r.end
	}
}

// sentAfter is RACK_sent_after of RFC 8985 §6.2.
func sentAfter(t1 mono.Time, end1 seq.Num, t2 mono.Time, end2 seq.Num) bool {
	return t1 > t2 || t1 == t2 && end2.Less(end1)
}

// overtaken notes that what begins at n arrived after something sent later.
func (k *rack) overtaken(n seq.Num) {
	k.reorder, k.late = true, true
	k.extent = max(k.extent, uint32(k.fack.Sub(n)))
}

// duplicate notes a D-SACK: something was sent again for nothing, so the
// window was too small (RFC 8985 §6.2, step 4). Once per round trip.
func (k *rack) duplicate(una, nxt seq.Num) {
	if k.dsackIn && k.dsackTo.LessEq(una) {
		k.dsackIn = false
	}
	if !k.dsackIn {
		k.dsackIn, k.dsackTo = true, nxt
		k.mult = min(k.mult+1, maxReoMult-1)
		k.persist = reoRecoveries
	}
}

// recovered notes the end of a recovery, the measure of how long a widened
// window lasts (RFC 8985 §6.2, step 4).
func (k *rack) recovered() {
	if k.persist > 0 {
		k.persist--
	}
	if k.persist == 0 {
		k.mult = 0
	}
}

// reoWindow is RACK_update_reo_wnd of RFC 8985 §6.2, step 4: how much longer
// than something sent later a segment may be on its way.
func (c *Conn) reoWindow() time.Duration {
	k := &c.rack
	if !k.reorder && (c.phase != phaseOpen || c.threeSacked()) {
		return 0
	}
	return min(time.Duration(k.mult+1)*k.minRTT/4, c.rtt.srtt)
}

// threeSacked reports that DupThresh segments have arrived beyond a hole. As
// ranges are not segments, it is measured as IsLost of RFC 6675 §4 does.
func (c *Conn) threeSacked() bool {
	return c.board.holes >= dupThresh || c.board.sacked > (dupThresh-1)*c.mss
}

// detectLoss is RACK_detect_loss of RFC 8985 §6.2, step 5. It returns how many
// bytes it newly takes for lost, and starts the timer for those that may
// become so.
//
// It looks at the ranges up to the first that was sent once and after what
// has arrived: all that follow were, too. Those are the holes; without any it
// looks at one.
func (c *Conn) detectLoss(now mono.Time) int {
	b, k := &c.board, &c.rack
	c.timers[timerReorder] = 0
	limit := k.rtt + c.reoWindow()
	lost, twice, wait, first, last := 0, 0, time.Duration(0), 0, 0
	for i := b.head; i < len(b.buf); i++ {
		r := &b.buf[i]
		if r.has(sentSacked | sentLost) {
			continue
		}
		if !sentAfter(k.sent, k.end, r.sent, r.end) {
			if !r.has(sentAgain) {
				break
			}
			continue
		}
		if r.has(sentAgain) && r.sent == k.sent {
			continue // equal times: numbers say which was first only of new text
		}
		left := limit - now.Sub(r.sent)
		if left > 0 {
			wait = max(wait, left)
			continue
		}
		if r.has(sentAgain) {
			twice += r.len()
		}
		b.lose(i)
		c.noteLost(now, r, r.len(), lost > 0 && last == i-1)
		if lost == 0 {
			first = i
		}
		lost += r.len()
		last = i
	}
	if lost > 0 {
		c.count(CountRACKLost, segments(lost, c.mss))
		if twice > 0 {
			c.count(CountLostRetransmit, segments(twice, c.mss))
		}
		c.lostBecause(whyRACK, b.buf[first].start, b.buf[last].end)
		b.join(first-1, last+1)
	}
	if wait > 0 {
		c.timers[timerReorder] = now.Add(wait)
	}
	return lost
}

// loseOnTimeout is RFC 8985 §6.3: the first segment is lost, and whatever has
// been on its way for longer than a round trip; what left a moment ago may
// still arrive.
func (c *Conn) loseOnTimeout(now mono.Time) {
	b, k := &c.board, &c.rack
	if b.count() == 0 {
		return
	}
	b.split(b.head, seq.Min(c.sndUna.Add(c.mss), b.buf[b.head].end))
	rtt := k.rtt
	if rtt == 0 {
		rtt = c.rtt.srtt // no text has been measured yet, but the handshake has
	}
	limit, last := rtt+c.reoWindow(), b.head
	for i := b.head; i < len(b.buf); i++ {
		r := &b.buf[i]
		if !r.has(sentSacked|sentLost) && (i == b.head || now.Sub(r.sent) >= limit) {
			b.lose(i)
			c.noteLost(now, r, r.len(), i > b.head)
			last = i
		}
	}
	c.lostBecause(whyRTO, c.sndUna, b.buf[last].end)
	b.join(b.head, len(b.buf)-1)
}
