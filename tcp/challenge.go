package tcp

import (
	"math/rand/v2"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns the answer to a segment that could be an attacker's guess: a
// RST that is not exact, a SYN on a living connection, an acknowledgment of
// what was never sent (RFC 5961 §3.2, §4.2, §5.2). None of them does anything;
// an ACK goes out instead, and whoever is really there says it again and right.
// Where the segments are recognised is input.go.
//
// There are two limits (RFC 5961 §7 and §10): one for each connection, so that
// two confused peers do not answer each other for ever, and one for the host,
// so that it is no amplifier.

// challenge asks Output for a challenge ACK, if both limits allow.
func (c *Conn) challenge(now mono.Time) {
	if !c.mayAnswer(now) {
		return
	}
	if c.cfg.Challenge != nil && !c.cfg.Challenge(now) {
		c.count(CountAcksSkipped, 1)
		return
	}
	c.count(CountUnwantedAcks, 1)
	c.ackNow()
}

// mayAnswer is the limit of one connection, which all answers to unwanted
// segments without text share.
func (c *Conn) mayAnswer(now mono.Time) bool {
	if c.oowAckAt != 0 && now.Sub(c.oowAckAt) < challengeInterval {
		c.count(CountAcksSkipped, 1)
		return false
	}
	c.oowAckAt = now
	return true
}

// oldestAck is how far below SND.UNA an acknowledgment may lie. RFC 5961 §5.2
// says MAX.SND.WND. What was never sent cannot be acknowledged either, however
// large the window (Linux since 2023); 1 is for the FIN, which is no byte.
func (c *Conn) oldestAck() int {
	return int(min(uint64(c.maxSndWnd), c.stat.bytesAcked+1))
}

// ChallengeLimit is the limit of a host: so many challenge ACKs in a second. A
// limit that is the same each second can be used to find out whether two
// others have a connection, and with which numbers: by provoking ACKs on one's
// own connection and counting how many are missing (CVE-2016-5696). So the
// number is drawn anew each second, between half of PerSecond and one and a
// half, as in Linux. Even so it leaks something, which is why Linux has no
// limit for the host any more unless it is told to.
type ChallengeLimit struct {
	PerSecond int // 0: no limit
	Rand      *rand.Rand

	second int64
	left   int
}

// Take takes one from this second's number and reports whether it could.
func (l *ChallengeLimit) Take(now mono.Time) bool {
	if l.PerSecond <= 0 {
		return true
	}
	if s := int64(now) / int64(time.Second); s != l.second {
		l.second = s
		l.left = (l.PerSecond+1)/2 + l.Rand.IntN(l.PerSecond)
	}
	if l.left == 0 {
		return false
	}
	l.left--
	return true
}
