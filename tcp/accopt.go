package tcp

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// This file owns the AccECN option on the wire (RFC 9768 §3.2.3): how many
// bytes of text arrived with each codepoint, three counters of 24 bits. Which of
// them stand first is the sender's choice between two kinds of the option, so
// that those that never changed can be left away at the end:
//
//	kind 172 | length | EE0B 3 | ECEB 3 | EE1B 3
//	kind 174 | length | EE1B 3 | ECEB 3 | EE0B 3

const (
	optAccECN0 = 172 // ECT(0) first
	optAccECN1 = 174 // ECT(1) first

	lenAccECNField = 3
	maxAccECN      = 3 // fields

	accECNMask = 1<<24 - 1 // of a field
)

// AccECN is an AccECN option. Its zero value is the absence of one.
type AccECN struct {
	Present bool
	ECT1    bool // begins with the bytes marked ECT(1): kind 174 instead of 172
	Fields  int8 // how many of the three there are, 0 to 3
	// Bytes are the counters in the order of the option, 24 bits each.
	Bytes [maxAccECN]uint32
}

// Mark returns the codepoint that field i counts.
func (a *AccECN) Mark(i int) Codepoint {
	switch {
	case i == 1:
		return CE
	case (i == 0) == a.ECT1:
		return ECT1
	}
	return ECT0
}

// parse reads an option of kind with the value v. One of another length than
// the four that exist counts as far as whole fields go (§3.2.3).
func (a *AccECN) parse(kind byte, v []byte) {
	*a = AccECN{Present: true, ECT1: kind == optAccECN1, Fields: int8(min(len(v)/lenAccECNField, maxAccECN))}
	for i := range a.Fields {
		b := v[int(i)*lenAccECNField:]
		a.Bytes[i] = uint32(b[0])<<16 | uint32(binary.BigEndian.Uint16(b[1:]))
	}
}

// accECNLen is how many bytes the option takes with so many fields, padding
// included.
func accECNLen(fields int) int { return (2 + lenAccECNField*fields + 3) &^ 3 }

// fields returns Fields as far as it makes sense.
func (a *AccECN) fields() int { return max(0, min(int(a.Fields), maxAccECN)) }

// wireLen returns how many bytes put writes.
func (a *AccECN) wireLen() int {
	if !a.Present {
		return 0
	}
	return accECNLen(a.fields())
}

// put writes the option with its padding in front, and returns the rest of b.
func (a *AccECN) put(b []byte) []byte {
	total, n := a.wireLen(), 2+lenAccECNField*a.fields()
	if total == 0 {
		return b
	}
	for i := range total - n {
		b[i] = optNop
	}
	v := b[total-n:]
	v[0], v[1] = optAccECN0, byte(n)
	if a.ECT1 {
		v[0] = optAccECN1
	}
	v = v[2:]
	for i := range a.fields() {
		x := a.Bytes[i] & accECNMask
		v[0] = byte(x >> 16)
		binary.BigEndian.PutUint16(v[1:], uint16(x))
		v = v[lenAccECNField:]
	}
	return b[total:]
}

// String writes the option in the manner of packetdrill: "ECN e0b 1 ceb 0".
func (a *AccECN) String() string {
	var b strings.Builder
	b.WriteString("ECN")
	if a.fields() == 0 && a.ECT1 {
		b.WriteString(" e1")
	}
	for i := range a.fields() {
		name := map[Codepoint]string{ECT0: "e0b", ECT1: "e1b", CE: "ceb"}[a.Mark(i)]
		fmt.Fprintf(&b, " %s %d", name, a.Bytes[i]&accECNMask)
	}
	return b.String()
}
