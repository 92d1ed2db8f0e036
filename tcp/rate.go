package tcp

import (
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/seq"
	"github.com/tapstack/tapstack/tcp/cc"
)

// This file owns delivery rate samples (draft-cheng-iccrg-delivery-rate-estimation,
// and §4.1 of draft-ietf-ccwg-bbr): how fast the network delivers. When something is sent, a stamp notes
// how much had been delivered then, and when; when it is acknowledged, the
// difference is what the network delivered meanwhile:
//
//	delivered  |                    __/  <- now
//	           |               ____/
//	           |        ______/     rate = rise / run
//	           |   ____/
//	           |__/    ^ what is acknowledged now was sent here
//	           +-------------------------- time
//
// The run is that of ACKs or that of sending, whichever took longer, so that
// ACKs which come in a lump do not look like a fast network.
//
// Only a controller that asks for samples (cc.Sampler) is given them; without
// one nothing is kept and nothing is computed.

// stamp is what is remembered of the moment when a range was sent, in 20 bytes:
// counts modulo 2^32, times before that moment in units of 64 ns, which last
// for 274 s.
type stamp struct {
	delivered      uint32 // P.delivered
	lost           uint32 // P.lost
	sinceDelivered uint32 // since P.delivered_time
	sinceFirst     uint32 // since P.first_send_time
	inFlight       uint32 // P.tx_in_flight, and the flags below
}

const (
	stampSet     = 1 << 31 // this is a stamp
	stampLimited = 1 << 30 // P.is_app_limited
	stampUnit    = 64 * time.Nanosecond
)

func stampTime(d time.Duration) uint32 {
	return uint32(min(max(d, 0)/stampUnit, 1<<32-1))
}

// later moves a stamp to the time of a later piece of its range, which leaves
// the sample to begin where it did.
func (p *stamp) later(d time.Duration) {
	p.sinceDelivered += min(stampTime(d), 1<<32-1-p.sinceDelivered)
	p.sinceFirst += min(stampTime(d), 1<<32-1-p.sinceFirst)
}

// rates is the per-connection state of the draft's §3.1.1 and what the ACK being
// processed says.
type rates struct {
	sampler     cc.Sampler
	delivered   uint64    // C.delivered
	lost        uint64    // C.lost
	deliveredAt mono.Time // C.delivered_time
	firstSent   mono.Time // C.first_send_time
	limited     uint64    // C.app_limited: until that much is delivered; 0: not

	// Of this ACK: what was sent last of all that it is for.
	newest stamp
	sent   mono.Time
	end    seq.Num
	has    bool

	rate        int64 // the last sample that is not application limited, or a higher one; bytes per second
	rateLimited bool
}

// stamp is the stamp of n bytes that leave now (OnPacketSent).
func (c *Conn) stamp(now mono.Time, n int) (p stamp) {
	x := c.rack.rates
	if x == nil {
		return p
	}
	if c.sndUna == c.sndNxt {
		// As Linux: nothing at all is in flight, rather than nothing by an
		// estimate that losses may have spoilt.
		x.firstSent, x.deliveredAt = now, now
	}
	p = stamp{
		delivered: uint32(x.delivered), lost: uint32(x.lost),
		sinceDelivered: stampTime(now.Sub(x.deliveredAt)), sinceFirst: stampTime(now.Sub(x.firstSent)),
		inFlight: uint32(c.pipe()+n) | stampSet,
	}
	if x.limited != 0 {
		p.inFlight |= stampLimited
	}
	return p
}

// arrived takes a range that an ACK says has arrived (UpdateRateSample).
func (x *rates) arrived(now mono.Time, r *sentRange) {
	x.delivered += uint64(r.len())
	x.deliveredAt = now
	if r.inFlight&stampSet != 0 && (!x.has || sentAfter(r.sent, r.end, x.sent, x.end)) {
		x.has, x.newest, x.sent, x.end = true, r.stamp, r.sent, r.end
	}
}

// sample makes the sample of an ACK (GenerateRateSample).
func (x *rates) sample(now mono.Time, minRTT time.Duration) cc.Rate {
	if x.delivered > x.limited {
		x.limited = 0 // the gap has left the network
	}
	r := cc.Rate{Total: x.delivered}
	if !x.has {
		return r
	}
	p := &x.newest
	x.has = false
	x.firstSent = x.sent
	r.Valid = true
	r.Delivered = int(uint32(x.delivered) - p.delivered)
	r.Prior = x.delivered - uint64(r.Delivered)
	r.Lost = int(uint32(x.lost) - p.lost)
	r.TxInFlight = int(p.inFlight &^ (stampSet | stampLimited))
	r.AppLimited = p.inFlight&stampLimited != 0
	ack := now.Sub(x.sent) + time.Duration(p.sinceDelivered)*stampUnit
	interval := max(ack, time.Duration(p.sinceFirst)*stampUnit)
	if interval <= 0 || interval < minRTT {
		return r // it was the first transmission that arrived, not this one
	}
	r.Interval = interval
	if rate := int64(r.Delivered) * int64(time.Second) / int64(interval); !r.AppLimited || rate >= x.rate {
		x.rate, x.rateLimited = rate, r.AppLimited
	}
	return r
}

// noteLost tells a controller that wants to know that the first n bytes of r are
// taken for lost. adjoins says that the bytes before them are, by the same ACK.
func (c *Conn) noteLost(now mono.Time, r *sentRange, n int, adjoins bool) {
	x := c.rack.rates
	if x == nil {
		return
	}
	x.lost += uint64(n)
	l := cc.Lost{Now: now, Bytes: n, Total: x.delivered, Since: n, Adjoins: adjoins}
	if r.inFlight&stampSet != 0 {
		l.TxInFlight = int(r.inFlight &^ (stampSet | stampLimited))
		l.Since = int(uint32(x.lost) - r.lost)
		l.AppLimited = r.inFlight&stampLimited != 0
	}
	x.sampler.OnLost(l)
}

// noteStarved says that there was room in the congestion window and nothing to
// fill it with: what is sent until all that is in flight now has been delivered
// shows the application, not the network (CheckIfApplicationLimited). The
// draft asks that when the application comes back; the sum is the same now.
func (c *Conn) noteStarved() {
	if x := c.rack.rates; x != nil && !c.againDue() {
		x.limited = max(x.delivered+uint64(c.pipe()), 1)
	}
}
