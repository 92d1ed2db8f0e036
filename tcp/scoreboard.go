package tcp

import (
	"slices"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/seq"
)

// This file owns what the sender knows of the numbers in flight: when each
// left, whether the peer has it, and whether it is taken for lost (the
// scoreboard of RFC 6675 §3). It only keeps the books; who decides is rack.go.
//
//	sndUna                                                       sndNxt
//	  |  lost  | sacked |lost, sent again| sacked |   in flight    |
//
// The ranges are bytes, not segments, and adjoin: one super-frame is one range
// until the peer has a part of it, and what it has merges into one range again.
// So their number follows the holes, and what an ACK costs follows what it
// changes.

// Limits of the ranges of one connection. Beyond maxSentRanges new text joins
// the last range, and only blocks of the peer make more; beyond maxSplitRanges
// none is divided any more and a block that would is not believed: the text is
// sent again, which is only a waste.
const (
	maxSentRanges  = 1024
	maxSplitRanges = 2 * maxSentRanges
	// keepSentRanges is how much room a connection keeps while nothing is in
	// flight.
	keepSentRanges = 16
)

// sentFlags say what is known of a range; none: in flight, sent once.
type sentFlags uint8

const (
	sentSacked sentFlags = 1 << iota // the peer has it (RFC 2018); no other flag counts then
	sentLost                         // taken for lost, and not sent again since
	sentAgain                        // the last time it left was not the first
	sentCoarse                       // left in pieces; only the last one's time is known
)

// sentRange is a range [start, end) of numbers of one fate.
type sentRange struct {
	sent       mono.Time // when it last left
	start, end seq.Num
	stamp      // of that moment
	flags      sentFlags
}

func (r *sentRange) len() int { return r.end.Sub(r.start) }

// has reports whether any of flags is set.
func (r *sentRange) has(flags sentFlags) bool { return r.flags&flags != 0 }

// scoreboard is the ranges in flight, sorted and adjoining from sndUna to
// sndNxt. Its zero value is empty.
type scoreboard struct {
	buf  []sentRange // the ranges are buf[head:]
	head int

	// Bytes by fate: the peer has them; they are lost; in flight, sent again;
	// in flight, sent once. Each range counts in one of them.
	sacked, lost, again, once int

	holes    int     // ranges with sentSacked: each has a hole before it
	lostFrom seq.Num // no range before it is lost
}

// sum returns where the bytes of a range with flags f count.
func (b *scoreboard) sum(f sentFlags) *int {
	switch {
	case f&sentSacked != 0:
		return &b.sacked
	case f&sentLost != 0:
		return &b.lost
	case f&sentAgain != 0:
		return &b.again
	}
	return &b.once
}

// mark gives r the fate that flags say.
func (b *scoreboard) mark(r *sentRange, flags sentFlags) {
	if r.has(sentSacked) {
		b.holes--
	}
	if flags&sentSacked != 0 {
		b.holes++
	}
	*b.sum(r.flags) -= r.len()
	*b.sum(flags) += r.len()
	r.flags = flags
}

func (b *scoreboard) count() int { return len(b.buf) - b.head }

// find returns the index of the range that holds n, or the nearest after it.
func (b *scoreboard) find(n seq.Num) int {
	i, _ := slices.BinarySearchFunc(b.buf[b.head:], n, func(r sentRange, n seq.Num) int {
		if r.end.LessEq(n) {
			return -1
		}
		return 1
	})
	return b.head + i
}

// add appends [start, end), sent for the first time at now.
func (b *scoreboard) add(now mono.Time, start, end seq.Num, p stamp) {
	if b.count() > 0 {
		last := &b.buf[len(b.buf)-1]
		if last.flags == 0 && last.sent == now {
			last.end, last.inFlight = end, p.inFlight
			b.once += end.Sub(start)
			return
		}
		if b.count() >= maxSentRanges {
			b.unmark(last)
			last.later(now.Sub(last.sent))
			last.end, last.sent, last.inFlight = end, now, p.inFlight
			last.flags |= sentCoarse
			*b.sum(last.flags) += end.Sub(start)
			return
		}
	}
	b.buf = append(b.buf, sentRange{sent: now, start: start, end: end, stamp: p})
	b.once += end.Sub(start)
}

// lastSegment returns the segment that was sent last: what is left of the last
// range when whole segments are taken from its front. Something is in flight.
func (b *scoreboard) lastSegment(mss int) (start, end seq.Num) {
	r := &b.buf[len(b.buf)-1]
	return r.end.Add(-((r.len()-1)%mss + 1)), r.end
}

// split divides range i at number at, unless there are too many. It reports
// whether a range begins at at.
func (b *scoreboard) split(i int, at seq.Num) bool {
	r := b.buf[i]
	if r.start == at || r.end == at {
		return true
	}
	if b.count() >= maxSplitRanges {
		return false
	}
	b.buf[i].end = at
	r.start = at
	b.buf = slices.Insert(b.buf, i+1, r)
	if r.has(sentSacked) {
		b.holes++
	}
	return true
}

// join merges neighbours of one fate among the ranges from i to j.
func (b *scoreboard) join(i, j int) {
	i, j = max(i, b.head), min(j, len(b.buf)-1)
	w := i
	for k := i + 1; k <= j; k++ {
		r, next := &b.buf[w], &b.buf[k]
		switch {
		case r.flags&next.flags&sentSacked != 0:
			b.holes--
		case r.flags&^sentCoarse != next.flags&^sentCoarse, r.sent != next.sent:
			w++
			b.buf[w] = *next
			continue
		}
		r.flags |= next.flags
		if r.sent < next.sent {
			r.sent, r.stamp = next.sent, next.stamp
		}
		r.end = next.end
	}
	if w < j {
		b.buf = slices.Delete(b.buf, w+1, j+1)
	}
}

// acked removes what lies before una, the new sndUna. k hears of what the peer
// was not known to have.
func (b *scoreboard) acked(una seq.Num, k *rack) {
	defer b.slide()
	for ; b.head < len(b.buf) && b.buf[b.head].start.Less(una); b.head++ {
		r := &b.buf[b.head]
		gone := *r
		gone.end = seq.Min(r.end, una)
		*b.sum(r.flags) -= gone.len()
		if !r.has(sentSacked) {
			k.delivered(&gone)
		}
		if una.Less(r.end) {
			r.start = una
			return
		}
		if r.has(sentSacked) {
			b.holes--
		}
	}
	if b.count() == 0 {
		b.buf, b.head = b.buf[:0], 0
		if cap(b.buf) > keepSentRanges {
			b.buf = nil
		}
	}
}

// slide moves the ranges to the front once more of the list is behind them than
// in them, so that its length follows their number: below 2 maxSplitRanges, in
// memory for at most half as many again (256 KB).
func (b *scoreboard) slide() {
	if b.head > keepSentRanges && b.head > len(b.buf)/2 {
		b.buf = b.buf[:copy(b.buf, b.buf[b.head:])]
		b.head = 0
	}
}

// sack notes that the peer has [left, right), and returns how many bytes of it
// are news; k hears of them.
func (b *scoreboard) sack(left, right seq.Num, k *rack) int {
	i := b.find(left)
	if i < len(b.buf) && !b.buf[i].has(sentSacked) && b.buf[i].start.Less(left) {
		b.split(i, left)
		i++
	}
	first, news := i, 0
	for ; i < len(b.buf) && b.buf[i].start.Less(right); i++ {
		if b.buf[i].has(sentSacked) {
			continue
		}
		if right.Less(b.buf[i].end) && !b.split(i, right) {
			break
		}
		r := &b.buf[i]
		k.delivered(r)
		b.mark(r, sentSacked)
		news += r.len()
	}
	if news > 0 {
		b.join(first-1, i)
	}
	return news
}

// lose takes range i for lost.
func (b *scoreboard) lose(i int) {
	r := &b.buf[i]
	if r.has(sentSacked | sentLost) {
		return
	}
	if b.lost == 0 || r.start.Less(b.lostFrom) {
		b.lostFrom = r.start
	}
	b.mark(r, r.flags|sentLost)
}

// loseAll takes everything for lost that the peer is not known to have.
func (b *scoreboard) loseAll() {
	for i := b.head; i < len(b.buf); i++ {
		b.lose(i)
	}
	b.join(b.head, len(b.buf)-1)
}

// loseNone takes nothing for lost any more: it was only late.
func (b *scoreboard) loseNone() {
	if b.lost == 0 {
		return
	}
	for i := b.head; i < len(b.buf); i++ {
		if r := &b.buf[i]; r.has(sentLost) {
			b.mark(r, r.flags&^sentLost)
		}
	}
	b.join(b.head, len(b.buf)-1)
}

// firstLost returns the first stretch that is lost, or the beginning of it if it
// is longer than enough. There must be one: lost is not 0.
func (b *scoreboard) firstLost(enough int) (start, end seq.Num) {
	i := b.find(b.lostFrom)
	for !b.buf[i].has(sentLost) {
		i++
	}
	start, end = b.buf[i].start, b.buf[i].end
	b.lostFrom = start
	for i++; i < len(b.buf) && b.buf[i].has(sentLost) && end.Sub(start) < enough; i++ {
		end = b.buf[i].end
	}
	return start, end
}

// sentOnceMore notes that [start, end) left again at now.
func (b *scoreboard) sentOnceMore(now mono.Time, start, end seq.Num, p stamp) {
	i := b.find(start)
	if i < len(b.buf) && b.buf[i].start.Less(start) && b.split(i, start) {
		i++
	}
	first := i
	for ; i < len(b.buf) && b.buf[i].start.Less(end); i++ {
		if b.buf[i].has(sentSacked) {
			continue
		}
		if end.Less(b.buf[i].end) {
			b.split(i, end)
		}
		r := &b.buf[i]
		b.mark(r, sentAgain)
		r.sent, r.stamp = now, p
	}
	b.join(first-1, i)
}

// unmark makes r a range in flight again.
func (b *scoreboard) unmark(r *sentRange) {
	flags := r.flags &^ (sentSacked | sentLost)
	if r.has(sentSacked) {
		flags |= sentAgain // perhaps
	}
	b.mark(r, flags)
}

// forget drops what the peer said it has: it did not keep it (RFC 2018 §8).
func (b *scoreboard) forget() {
	for i := b.head; i < len(b.buf); i++ {
		if r := &b.buf[i]; r.has(sentSacked) {
			b.unmark(r)
			r.flags |= sentCoarse
		}
	}
}

// sackedLast reports that the peer has what was sent last.
func (b *scoreboard) sackedLast() bool {
	return b.count() > 0 && b.buf[len(b.buf)-1].has(sentSacked)
}

// reneged reports that the peer no longer has what it once said it had: it
// would have acknowledged the first range together with what came before.
func (b *scoreboard) reneged() bool { return b.count() > 0 && b.buf[b.head].has(sentSacked) }
