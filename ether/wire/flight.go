package wire

// This file is the queue of frames under way: a binary heap by time of arrival
// and, among equal times, by the order in which they were put in.

import (
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/pkt"
)

type item struct {
	at       mono.Time
	seq      uint64
	from, to *Port
	b        *pkt.Buf
}

func (a *item) before(b *item) bool {
	return a.at < b.at || a.at == b.at && a.seq < b.seq
}

type flight struct {
	items []item
	seq   uint64
}

func (f *flight) len() int { return len(f.items) }

// next is when the first frame arrives, or 0.
func (f *flight) next() mono.Time {
	if len(f.items) == 0 {
		return 0
	}
	return f.items[0].at
}

func (f *flight) push(it item) {
	f.seq++
	it.seq = f.seq
	f.items = append(f.items, it)
	i := len(f.items) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !f.items[i].before(&f.items[up]) {
			break
		}
		f.items[i], f.items[up] = f.items[up], f.items[i]
		i = up
	}
}

func (f *flight) pop() item {
	top := f.items[0]
	n := len(f.items) - 1
	f.items[0] = f.items[n]
	f.items[n] = item{} // let go of the pointers
	f.items = f.items[:n]
	for i := 0; ; {
		least := i
		for kid := 2*i + 1; kid <= 2*i+2 && kid < n; kid++ {
			if f.items[kid].before(&f.items[least]) {
				least = kid
			}
		}
		if least == i {
			return top
		}
		f.items[i], f.items[least] = f.items[least], f.items[i]
		i = least
	}
}
