package option

import (
	"bytes"
	"slices"
	"strings"

	"github.com/tapstack/tapstack/telnet/engine"
)

// This file owns CHARSET, RFC 2066: one side offers names of character sets, the
// other picks one. Translation tables are answered, never used.

const (
	csRequest        = 1
	csAccepted       = 2
	csRejected       = 3
	csTTableIs       = 4
	csTTableRejected = 5
	csTTableAck      = 6
	csTTableNak      = 7
)

var ttableMark = []byte("[TTABLE]")

// CharsetChoice is the Value of CHARSET: what was agreed, or that nothing was.
// Ours tells whose offer it was.
type CharsetChoice struct {
	Name string // "" if it was rejected
	Ours bool
}

// Charset is CHARSET, RFC 2066, for both sides. Value: CharsetChoice.
type Charset struct {
	Flag
	// Offer is what is offered to the peer once, as soon as the option is on
	// for us. A client's is usually empty: it waits for the server's.
	Offer []string
	// Prefer is what of an offer is picked, the best first. Known decides on
	// names that are not in it, the peer's first one first; nil: none of them.
	Prefer []string
	Known  func(name string) bool

	name    string
	offered bool // and not answered
	once    bool
}

// NewCharset makes a Charset.
func NewCharset() *Charset { return &Charset{Flag: Flag{engine.Charset, true, true}} }

// Name returns the character set that was agreed, "" if none was.
func (o *Charset) Name() string { return o.name }

// Waiting reports whether an offer of ours was not answered.
func (o *Charset) Waiting() bool { return o.offered }

// Changed implements engine.Option. Who has an offer to make says WILL as well:
// only he may make it who does (RFC 2066 §3).
func (o *Charset) Changed(e *engine.Engine, side engine.Side, on bool) {
	switch {
	case !on:
		if side == engine.Us {
			o.offered = false
		}
	case len(o.Offer) == 0:
	case side == engine.Us || e.State(engine.Us, engine.Charset) == engine.No:
		e.Enable(engine.Us, engine.Charset)
		if !o.once {
			o.Ask(e)
		}
	}
}

// Ask makes the offer (again).
func (o *Charset) Ask(e *engine.Engine) {
	if o.offered || len(o.Offer) == 0 {
		return
	}
	o.offered, o.once = true, true
	e.Subneg(engine.Charset, []byte{csRequest, ' '}, []byte(strings.Join(o.Offer, " ")))
}

// Subneg implements engine.Option.
func (o *Charset) Subneg(e *engine.Engine, b []byte) {
	if len(b) == 0 {
		e.Count(engine.DropMalformed)
		return
	}
	switch arg := b[1:]; b[0] {
	case csRequest:
		o.request(e, arg)
	case csAccepted, csRejected:
		o.answered(e, b[0] == csAccepted, string(arg))
	case csTTableIs: // tables are not for us (RFC 2066 §4): he may try another way
		e.Subneg(engine.Charset, []byte{csTTableRejected})
		if o.offered {
			o.offered = false
			e.Post(engine.Event{Kind: engine.Subneg, Code: engine.Charset, Value: CharsetChoice{Ours: true}})
		}
	case csTTableRejected, csTTableAck, csTTableNak: // we never send a table
		e.Count(engine.DropStray)
	default:
		e.Count(engine.DropMalformed)
	}
}

// request picks from the peer's offer. When both made one at the same time the
// server's counts: a server rejects the client's, a client answers and takes
// its own to be rejected (RFC 2066 §3).
func (o *Charset) request(e *engine.Engine, b []byte) {
	if o.offered && e.Role() == engine.Server {
		e.Subneg(engine.Charset, []byte{csRejected})
		return
	}
	o.offered = false
	if rest, ok := bytes.CutPrefix(b, ttableMark); ok && len(rest) > 0 {
		b = rest[1:] // the version of tables
	}
	if len(b) < 2 {
		e.Subneg(engine.Charset, []byte{csRejected})
		e.Count(engine.DropMalformed)
		return
	}
	offers := bytes.Split(b[1:], b[:1])
	if len(offers) > e.Limits().Vars {
		e.Count(engine.DropLimit)
		offers = offers[:e.Limits().Vars]
	}
	name := o.pick(offers)
	if name == "" {
		e.Subneg(engine.Charset, []byte{csRejected})
	} else {
		o.name = name
		e.Subneg(engine.Charset, []byte{csAccepted}, []byte(name)) // in his spelling
	}
	e.Post(engine.Event{Kind: engine.Subneg, Code: engine.Charset, Value: CharsetChoice{Name: name}})
}

func (o *Charset) pick(offers [][]byte) string {
	for _, want := range o.Prefer {
		for _, have := range offers {
			if len(have) > 0 && SameCharset(want, string(have)) {
				return string(have)
			}
		}
	}
	if o.Known != nil {
		for _, have := range offers {
			if len(have) > 0 && o.Known(string(have)) {
				return string(have)
			}
		}
	}
	return ""
}

func (o *Charset) answered(e *engine.Engine, accepted bool, name string) {
	if !o.offered {
		e.Count(engine.DropStray)
		return
	}
	o.offered = false
	switch {
	case !accepted:
		name = ""
	case !slices.ContainsFunc(o.Offer, func(s string) bool { return SameCharset(s, name) }):
		e.Count(engine.DropMalformed) // what we did not offer, or ACCEPTED of nothing
		name = ""
	default:
		o.name = name
	}
	e.Post(engine.Event{Kind: engine.Subneg, Code: engine.Charset, Value: CharsetChoice{Name: name, Ours: true}})
}

// SameCharset reports whether two names are the same but for case, punctuation
// and leading zeros: "iso-8859-02" is "ISO8859-2". A control character is part
// of a name, which nobody has.
func SameCharset(a, b string) bool { return foldCharset(a) == foldCharset(b) }

func foldCharset(s string) string {
	var b strings.Builder
	digit, zero := false, false
	for _, r := range strings.ToLower(s) {
		switch {
		case r >= '1' && r <= '9' || r == '0' && digit:
			digit, zero = true, false
			b.WriteRune(r)
			continue
		case r == '0':
			zero = true
			continue
		case r >= 'a' && r <= 'z', r < ' ', r >= 0x7f:
			if zero {
				b.WriteByte('0')
			}
			b.WriteRune(r) // what is no character is U+FFFD
		}
		digit, zero = false, false
	}
	return b.String()
}
