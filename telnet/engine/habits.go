package engine

// This file owns what an engine remembers of a peer's manners, beside the state
// of the options: what he wanted and did not get, and what he says again though
// it is the case. The Q method needs neither; fingerprints do.

// codeSet is a set of options.
type codeSet [4]uint64

func (s *codeSet) add(c Code)      { s[c/64] |= 1 << (c % 64) }
func (s *codeSet) has(c Code) bool { return s[c/64]&(1<<(c%64)) != 0 }

// Declined reports whether the peer has ever asked for the option (Us: by DO) or
// offered it (Him: by WILL) and was refused.
func (e *Engine) Declined(side Side, code Code) bool { return e.declined[side].has(code) }

// Repeated reports whether the peer has said DO (Us) or WILL (Him) of an option
// that was on by then. RFC 854 forbids to answer what changes nothing; who does,
// and meets another that does, never falls silent.
func (e *Engine) Repeated(side Side, code Code) bool { return e.repeated[side].has(code) }

// ForgetRepeated makes Repeated begin anew.
func (e *Engine) ForgetRepeated() { e.repeated = [2]codeSet{} }
