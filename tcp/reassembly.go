// Out-of-order data. The bytes themselves are written straight to their place
// in the receive ring, beyond what can be read; this file only remembers which
// ranges of sequence numbers are there:
//
//	       rcvNxt                                   window's end
//	readable |     [####)        [##########)    [#)  |
//	         gap   range   gap      range
//
// The position of a FIN is kept by the connection; here its number is one more
// that has arrived.

package tcp

import (
	"slices"

	"github.com/tapstack/tapstack/internal/ring"
	"github.com/tapstack/tapstack/internal/seq"
)

// maxRanges bounds the ranges of one connection, so that segments of one byte
// with gaps between cost neither memory nor time. The bytes are bounded by the
// ring's limit.
const maxRanges = 512

// keepRanges is how much room for ranges a connection keeps once all gaps are
// filled.
const keepRanges = 32

// oooRange is a range of bytes [start, end) that has arrived.
type oooRange struct {
	start, end seq.Num
	changed    uint64 // value of reassembly.changes when it last grew
}

// reassembly is the set of out-of-order ranges of one connection: sorted, with
// a gap between each and the next. Its zero value is empty.
type reassembly struct {
	ranges  []oooRange
	held    int // bytes in all ranges
	changes uint64
}

// add writes the new part of data, which begins at start, to its place in the
// receive ring, whose next byte in order is rcvNxt, and remembers its range.
// Data that begins at rcvNxt or before is taken too; pop then yields it.
//
// If part of data had arrived before, dup is true and dsack is the first such
// part (RFC 2883 §4). ok is false if there was no room for any of data: it lies
// beyond the ring's limit, or behind too many gaps.
func (q *reassembly) add(into *ring.Ring, start seq.Num, data []byte, rcvNxt seq.Num) (dsack SACKBlock, dup, ok bool) {
	if old := min(rcvNxt.Sub(start), len(data)); old > 0 {
		dsack, dup = SACKBlock{start, start.Add(old)}, true
		start, data = start.Add(old), data[old:]
	}
	if len(data) == 0 {
		return dsack, dup, true
	}
	off := into.Len() + start.Sub(rcvNxt)
	if off >= into.Limit() {
		return dsack, dup, false
	}
	data = data[:min(len(data), into.Limit()-off)]
	end := start.Add(len(data))

	// ranges[i:j] are those that data overlaps or touches.
	i, _ := slices.BinarySearchFunc(q.ranges, start, func(r oooRange, n seq.Num) int { return r.end.Sub(n) })
	j := i
	for j < len(q.ranges) && q.ranges[j].start.LessEq(end) {
		j++
	}
	had := 0 // bytes of ranges[i:j]
	for _, r := range q.ranges[i:j] {
		had += r.end.Sub(r.start)
		both := SACKBlock{seq.Max(r.start, start), seq.Min(r.end, end)}
		if !dup && both.Left.Less(both.Right) {
			dsack, dup = both, true
		}
	}

	if i == j && len(q.ranges) == maxRanges {
		// The farthest range is the one that waits longest. The peer may
		// have seen it acknowledged selectively and must cope with that
		// (RFC 2018 §8).
		last := maxRanges - 1
		if i > last {
			return dsack, dup, false
		}
		q.held -= q.ranges[last].end.Sub(q.ranges[last].start)
		q.ranges = q.ranges[:last]
	}

	// What is here already stays as it is: only the gaps are written, so that
	// a later copy cannot change bytes that were acknowledged selectively.
	at := start
	for _, r := range q.ranges[i:j] {
		if at.Less(r.start) {
			into.WriteAt(off+at.Sub(start), data[at.Sub(start):r.start.Sub(start)])
		}
		at = seq.Max(at, r.end)
	}
	if at.Less(end) {
		into.WriteAt(off+at.Sub(start), data[at.Sub(start):])
	}

	q.join(i, j, start, end, had)
	return dsack, dup, true
}

// join puts one range in the place of ranges[i:j], which hold had bytes: theirs
// and [start, end).
func (q *reassembly) join(i, j int, start, end seq.Num, had int) {
	all := oooRange{start: start, end: end}
	if i < j {
		all.start = seq.Min(start, q.ranges[i].start)
		all.end = seq.Max(end, q.ranges[j-1].end)
	}
	q.changes++
	all.changed = q.changes
	q.ranges = slices.Replace(q.ranges, i, j, all)
	q.held += all.end.Sub(all.start) - had
}

// mark remembers the number at, which stands for no byte: a FIN's. It is only
// for SACK, so that without room for one more range it is not remembered.
func (q *reassembly) mark(at seq.Num) {
	i, _ := slices.BinarySearchFunc(q.ranges, at, func(r oooRange, n seq.Num) int { return r.end.Sub(n) })
	j, had := i, 0
	for ; j < len(q.ranges) && q.ranges[j].start.LessEq(at+1); j++ {
		had += q.ranges[j].end.Sub(q.ranges[j].start)
	}
	if i < j || len(q.ranges) < maxRanges {
		q.join(i, j, at, at+1, had)
	}
}

// before returns the first part of what is held that lies before n, or nothing:
// bytes that have just arrived in order as well.
func (q *reassembly) before(n seq.Num) (twice SACKBlock) {
	if len(q.ranges) > 0 && q.ranges[0].start.Less(n) {
		twice = SACKBlock{q.ranges[0].start, seq.Min(q.ranges[0].end, n)}
	}
	return twice
}

// pop returns how many bytes follow rcvNxt without a gap: the caller commits
// them in the ring and advances rcvNxt by as many. What lies before is
// forgotten.
func (q *reassembly) pop(rcvNxt seq.Num) int {
	n, k := 0, 0
	for ; k < len(q.ranges) && q.ranges[k].start.LessEq(rcvNxt); k++ {
		r := q.ranges[k]
		q.held -= r.end.Sub(r.start)
		n = max(n, r.end.Sub(rcvNxt))
	}
	if k == 0 {
		return 0
	}
	q.ranges = slices.Delete(q.ranges, 0, k)
	if len(q.ranges) == 0 && cap(q.ranges) > keepRanges {
		q.ranges = nil
	}
	return n
}

// blocks fills dst with ranges, the most recently changed first (RFC 2018 §4),
// and returns how many. It reads what there is; dst is a handful.
func (q *reassembly) blocks(dst []SACKBlock) int {
	n := 0
	for before := q.changes + 1; n < len(dst); n++ {
		// The most recent change before the one reported last.
		var best oooRange
		for _, r := range q.ranges {
			if r.changed < before && r.changed > best.changed {
				best = r
			}
		}
		if best.changed == 0 {
			break
		}
		dst[n] = SACKBlock{best.start, best.end}
		before = best.changed
	}
	return n
}

// bytes returns how many out-of-order bytes are held, a FIN's number included.
func (q *reassembly) bytes() int { return q.held }

// empty reports that nothing is out of order.
func (q *reassembly) empty() bool { return len(q.ranges) == 0 }

// reset forgets everything.
func (q *reassembly) reset() { *q = reassembly{} }
