package tcp

import (
	"slices"

	"github.com/tapstack/tapstack/internal/seq"
)

// This file owns MSG_EOR: the ends of records in what the user writes. No
// segment has text of two records, however often it is sent, and the small
// segment at the end of one waits for nothing once the next has begun. The peer
// sees no more of them than that, and PSH.

// records are the numbers after the last byte of each record, in order; nil in
// a connection that has none.
type records []seq.Num

// endRecord ends a record where the user has written to.
func (c *Conn) endRecord() {
	end := c.dataEnd()
	if c.recs == nil {
		c.extra().recs = new(records)
	}
	if r := *c.recs; len(r) == 0 || r[len(r)-1] != end {
		*c.recs = append(r, end)
	}
}

// inRecord shortens text from at to end to that of one record. What is sent as
// several segments ends with the first of them that ends a record.
func (c *Conn) inRecord(at, end seq.Num) seq.Num {
	if c.recs == nil {
		return end
	}
	r := *c.recs
	for len(r) > 0 && r[0].LessEq(c.sndUna) {
		r = r[1:]
	}
	if *c.recs = r; len(r) == 0 {
		c.recs = nil
		return end
	}
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
