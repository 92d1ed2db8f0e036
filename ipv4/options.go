package ipv4

import (
	"encoding/binary"
	"iter"
	"net/netip"
)

// This file owns the options: where one ends and the next begins, and what the
// few that anybody still uses contain. Their bounds are checked here and their
// meaning is not acted upon.

// Option kinds (RFC 791 §3.1; router alert RFC 2113). The highest bit of a kind
// says whether fragments after the first carry the option too.
const (
	OptEnd               = 0
	OptNop               = 1
	OptRecordRoute       = 7
	OptTimestamp         = 68
	OptLooseSourceRoute  = 131
	OptStrictSourceRoute = 137
	OptRouterAlert       = 148
)

// RouterAlert is the option that asks every router to look at the packet
// (RFC 2113 §2.1); IGMP sends with it.
var RouterAlert = [4]byte{OptRouterAlert, 4, 0, 0}

// Option is one option with a length octet.
type Option struct {
	Kind uint8
	Data []byte // what follows the length octet: 0 to 38 bytes
	raw  []byte
}

// Copied reports whether fragments after the first carry the option.
func (o Option) Copied() bool { return o.Kind&0x80 != 0 }

// nextOption splits the first option off opts, kind and length included. ok is
// false when the option runs past the end; a nil option ends the list.
func nextOption(opts []byte) (o, rest []byte, ok bool) {
	if len(opts) == 0 || opts[0] == OptEnd {
		return nil, nil, true
	}
	n := 1
	if opts[0] != OptNop {
		if len(opts) < 2 {
			return nil, nil, false
		}
		n = int(opts[1])
		if n < 2 || n > len(opts) {
			return nil, nil, false
		}
	}
	return opts[:n:n], opts[n:], true
}

// BadOption returns the place in opts of the first option that is malformed or
// runs past the end, or -1. Added to HeaderLen it is the pointer of an ICMP
// Parameter Problem.
func BadOption(opts []byte) int {
	for rest := opts; ; {
		o, next, ok := nextOption(rest)
		if !ok {
			return len(opts) - len(rest)
		}
		if o == nil {
			return -1
		}
		rest = next
	}
}

// Walk yields the options up to the end of the list or the first malformed
// one, without the no-operations between them. Data is valid as long as opts.
func Walk(opts []byte) iter.Seq[Option] {
	return func(yield func(Option) bool) {
		for {
			o, rest, ok := nextOption(opts)
			if !ok || o == nil {
				return
			}
			if o[0] != OptNop && !yield(Option{o[0], o[2:], o}) {
				return
			}
			opts = rest
		}
	}
}

func (h Header) has(a, b uint8) bool {
	for o := range Walk(h.Options()) {
		if o.Kind == a || o.Kind == b {
			return true
		}
	}
	return false
}

// SourceRoute reports a loose or strict source route, which hosts refuse
// nowadays: it lets a sender choose the way around filters (RFC 7126 §4.3).
func (h Header) SourceRoute() bool { return h.has(OptLooseSourceRoute, OptStrictSourceRoute) }

// RouterAlert reports the router alert option.
func (h Header) RouterAlert() bool { return h.has(OptRouterAlert, OptRouterAlert) }

// Route yields the addresses that a record route or source route option has
// collected so far: those before its pointer.
func (o Option) Route() iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		if len(o.Data) < 1 {
			return
		}
		// The pointer counts from 1 at the kind; 4 is the first address.
		data := o.Data[1:]
		for n := int(o.Data[0]) - 4; n >= 4 && len(data) >= 4; n -= 4 {
			if !yield(netip.AddrFrom4([4]byte(data))) {
				return
			}
			data = data[4:]
		}
	}
}

// Stamp is one entry of a timestamp option.
type Stamp struct {
	Addr netip.Addr // the zero Addr when the option records times only
	// Time is in milliseconds since midnight UT, or anything at all if its
	// highest bit is set.
	Time uint32
}

// Timestamps yields the entries that a timestamp option has collected so far.
func (o Option) Timestamps() iter.Seq[Stamp] {
	return func(yield func(Stamp) bool) {
		if len(o.Data) < 2 {
			return
		}
		// Pointer, then overflow count and flag; flag 0 is times alone.
		data, withAddr := o.Data[2:], o.Data[1]&0x0f != 0
		size := 4
		if withAddr {
			size = 8
		}
		for n := int(o.Data[0]) - 5; n >= size && len(data) >= size; n -= size {
			var s Stamp
			if withAddr {
				s.Addr = netip.AddrFrom4([4]byte(data))
			}
			s.Time = binary.BigEndian.Uint32(data[size-4:])
			if !yield(s) {
				return
			}
			data = data[size:]
		}
	}
}

// putCopied writes the options that later fragments carry to dst and returns
// their length, padded to whole words. dst is as long as opts.
func putCopied(dst, opts []byte) int {
	n := 0
	for o := range Walk(opts) {
		if o.Copied() {
			n += copy(dst[n:], o.raw)
		}
	}
	padded := (n + 3) &^ 3
	clear(dst[n:padded])
	return padded
}
