package tcp

import (
	"slices"

	"github.com/tapstack/tapstack/internal/seq"
)

// This file owns MSG_EOR: the ends of records in what the user writes. No
// segment has text of two records, however often it is sent, and the small
// segment at the end of one waits for nothing once the next has begun. The peer
// sees no more of them than that, and PSH.

// maxRecords is how many records the send buffer holds: then the writer waits,
// however small they are. In Linux each is a buffer of its own with a kilobyte
// and more of bookkeeping, which SO_SNDBUF counts.
const maxRecords = 4096

// records are the ends of what was not acknowledged when last looked at; nil in
// a connection that has none.
type records struct {
	ends []seq.Num // the number after the last byte of each, in order
	gone int       // so many at the front are acknowledged
}

// memory returns the size of the list, in bytes.
func (r *records) memory() int {
	if r == nil {
		return 0
	}
	return cap(r.ends) * 4
}

// endRecord ends a record where the user has written to.
func (c *Conn) endRecord() {
	end := c.dataEnd()
	if c.recs == nil {
		c.extra().recs = new(records)
	}
	r := c.recs
	if n := len(r.ends); n > r.gone && r.ends[n-1] == end {
		return
	}
	if len(r.ends) == cap(r.ends) && r.gone > 0 && 2*r.gone >= len(r.ends) {
		r.ends = slices.Delete(r.ends, 0, r.gone)
		r.gone = 0
	}
	r.ends = append(r.ends, end)
}

// openRecords returns the ends that are not acknowledged.
func (c *Conn) openRecords() []seq.Num {
	r := c.recs
	if r == nil {
		return nil
	}
	for r.gone < len(r.ends) && r.ends[r.gone].LessEq(c.sndUna) {
		r.gone++
	}
	if r.gone == len(r.ends) {
		c.recs = nil
		return nil
	}
	return r.ends[r.gone:]
}

// inRecord shortens text from at to end to that of one record. What is sent as
// several segments ends with the first of them that ends a record.
func (c *Conn) inRecord(at, end seq.Num) seq.Num {
	r := c.openRecords()
	i, _ := slices.BinarySearchFunc(r, at+1, func(a, b seq.Num) int { return a.Sub(b) })
	if i < len(r) && r[i].Less(end) {
		return r[i]
	}
	return end
}

// recordStart returns where the record begins that end is in or ends, but not
// before at.
func (c *Conn) recordStart(at, end seq.Num) seq.Num {
	for {
		next := c.inRecord(at, end)
		if next == end {
			return at
		}
		at = next
	}
}

// endsRecord reports whether a record ends at end.
func (c *Conn) endsRecord(end seq.Num) bool {
	return c.recs != nil && c.inRecord(end-1, end+1) == end
}
