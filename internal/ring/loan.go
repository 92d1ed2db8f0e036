package ring

// This file owns lending the room behind the last byte to somebody who fills it
// without the lock that guards the ring: a file is read straight to where it
// will be sent from. Whatever else needs that room meanwhile, or gives the
// ring's memory back, moves the ring's bytes elsewhere and leaves the memory to
// the borrower, whose bytes are then written in the ordinary way.

// Loan is lent room. The zero Loan is none.
type Loan struct {
	B []byte // the room, in one part

	slab *slab
}

// Lend lends up to n bytes of room behind the last byte, until Settle: perhaps
// less, and none while bytes were written ahead or other room is lent.
func (r *Ring) Lend(n int) Loan {
	n = min(n, r.Free())
	if n <= 0 || r.high > r.len || r.slab != nil && r.slab.lent {
		return Loan{}
	}
	n = r.Reserve(int(r.len)+n) - int(r.len)
	if n <= 0 {
		return Loan{}
	}
	a, _ := r.span(int(r.len), n)
	r.slab.lent = true
	return Loan{a, r.slab}
}

// Settle ends a loan and appends the first n bytes of it. It reports false when
// the room was needed meanwhile: nothing is appended then, and l.B is the
// caller's to Write.
func (r *Ring) Settle(l Loan, n int) bool {
	if l.slab == nil || r.slab != l.slab || !l.slab.lent {
		return false
	}
	l.slab.lent = false
	r.len += int32(min(n, len(l.B)))
	r.high = max(r.high, r.len)
	if r.high == 0 {
		r.start = 0
	}
	return true
}

// lends reports whether room of the ring is lent.
func (r *Ring) lends() bool { return r.slab != nil && r.slab.lent }
