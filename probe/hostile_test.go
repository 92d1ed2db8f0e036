package probe_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/csum"
	"github.com/tapstack/tapstack/probe"
	"github.com/tapstack/tapstack/stack/simnet"
)

// inject sends the near host a packet of any content from src.
func (w *world) inject(src netip.Addr, proto uint8, message []byte) {
	dst := addr("10.0.0.1")
	var b []byte
	if src.Is6() {
		dst = addr("fd00::1")
		b = make([]byte, 40)
		b[0], b[6], b[7] = 0x60, proto, 60
		binary.BigEndian.PutUint16(b[4:], uint16(len(message)))
		copy(b[8:], src.AsSlice())
		copy(b[24:], dst.AsSlice())
	} else {
		b = make([]byte, 20)
		b[0], b[8], b[9] = 0x45, 60, proto
		binary.BigEndian.PutUint16(b[2:], uint16(20+len(message)))
		copy(b[12:], src.AsSlice())
		copy(b[16:], dst.AsSlice())
	}
	b = append(b, message...)
	simnet.SetIPChecksum(b)
	w.routers[0].Inject(b)
	w.RunFor(0)
}

// expired is a time exceeded message about a packet.
func expired(quote []byte) []byte {
	b := append(make([]byte, 8), quote...)
	b[0] = icmp.TypeTimeExceeded4
	icmp.SetChecksum4(b)
	return b
}

// silence keeps what is sent from getting anywhere, and returns it.
func (w *world) silence() *[][]byte {
	var packets [][]byte
	w.routers[0].Mangle = func(b []byte, back bool) []byte {
		packets = append(packets, slices.Clone(b))
		return nil
	}
	return &packets
}

// each sends a probe of each protocol, for which nothing is heard for an hour.
func (w *world) each(f func(probe.Result)) {
	for proto := probe.ICMP; proto <= probe.SCTP; proto++ {
		w.p.Send(probe.Request{Dst: addr(far4), Proto: proto, Size: 100, Timeout: time.Hour}, f)
	}
	w.RunFor(time.Millisecond)
}

// TestForged: an error that differs from what was sent in anything that has to
// be the same is refused, for a reason that is counted.
func TestForged(t *testing.T) {
	w := newWorld(t, 1, probe.Options{})
	packets := w.silence()
	got := 0
	w.each(func(r probe.Result) { got++ })
	refused := func(what string, message []byte, reason string) {
		t.Helper()
		before := w.p.Counters()["probe.drop."+reason]
		w.inject(addr("10.1.0.1"), icmp.Proto4, message)
		if got != 0 {
			t.Fatalf("%s was accepted", what)
		}
		if reason != "" && w.p.Counters()["probe.drop."+reason] != before+1 {
			t.Errorf("%s is not counted as %s: %v", what, reason, w.p.Counters())
		}
	}
	for i, b := range *packets {
		name := probe.Proto(i).String() + ": "
		change := func(what string, at int, reason string) {
			t.Helper()
			c := slices.Clone(b)
			c[at] ^= 0x40
			refused(name+what, expired(c), reason)
		}
		change("another source", 15, "unknown")
		change("another destination", 19, "unknown")
		change("another length", 3, "length")
		change("a later fragment", 7, "")
		change("another version", 0, "")
		change("another protocol", 9, "")
		port := 21
		if probe.Proto(i) == probe.ICMP {
			port = 25
		}
		change("another port", port, "") // nobody's, so the stack does not ask
		if probe.Proto(i) != probe.ICMP {
			change("another remote port", 23, "unknown")
		}
		// The token and the second mark.
		c := slices.Clone(b)
		c[4] ^= 1
		switch probe.Proto(i) {
		case probe.ICMP:
			c[27] ^= 1
			refused(name+"another number", expired(c), "token")
		case probe.SCTP:
			c[37] ^= 1
			refused(name+"another tag", expired(c), "")
		default:
			c[26] ^= 1
			refused(name+"another token", expired(c), "token")
		}
		for n := range 28 {
			refused(name+"cut short", expired(b[:n]), "")
		}
		m := expired(b)
		m[3] ^= 1
		refused(name+"a bad checksum", m, "")
		m = expired(b)
		m[0] = icmp.TypeRedirect4
		icmp.SetChecksum4(m)
		refused(name+"a redirect", m, "")
		// The length says that the quote is longer than the message.
		m = expired(b)
		m[5] = 255
		icmp.SetChecksum4(m)
		w.inject(addr("10.1.0.1"), icmp.Proto4, m)
		if got != 1 {
			t.Errorf("%sa bad length of extensions: %d accepted, want the error without them", name, got)
		}
		got = 0
	}
	if n := w.p.InFlight(); n != 0 {
		t.Errorf("%d under way after each was answered", n)
	}
}

// TestForgedReplies is TestForged for what comes from the destination itself.
func TestForgedReplies(t *testing.T) {
	w := newWorld(t, 1, probe.Options{})
	w.listen(80)
	var replies [][]byte
	w.routers[0].Mangle = func(b []byte, back bool) []byte {
		if back {
			replies = append(replies, slices.Clone(b))
			return nil
		}
		return b
	}
	got := 0
	for _, proto := range []probe.Proto{probe.ICMP, probe.UDP, probe.TCP} {
		w.p.Send(probe.Request{Dst: addr(far4), Proto: proto, DstPort: 80, Timeout: time.Hour}, func(r probe.Result) { got++ })
	}
	w.RunFor(time.Second / 2)
	if len(replies) != 3 {
		t.Fatalf("%d replies", len(replies))
	}
	for _, b := range replies {
		m := b[20:]
		fix := func(m []byte) []byte {
			switch b[9] {
			case 1:
				icmp.SetChecksum4(m)
			case 6:
				m[16], m[17] = 0, 0
				binary.BigEndian.PutUint16(m[16:], csum.Checksum(m, csum.Pseudo(addr(far4), addr("10.0.0.1"), 6, len(m))))
			default:
				m[6], m[7] = 0, 0
			}
			return m
		}
		try := func(what string, from netip.Addr, at int) {
			t.Helper()
			c := slices.Clone(m)
			c[at] ^= 1
			w.inject(from, b[9], fix(c))
			if got != 0 {
				t.Fatalf("protocol %d: %s was accepted", b[9], what)
			}
		}
		switch b[9] {
		case 1:
			try("another number", addr(far4), 7)
			try("another identifier", addr(far4), 5)
			w.inject(addr("8.8.8.7"), 1, m)
		case 17:
			try("another port", addr(far4), 1)
		case 6:
			try("another acknowledgement", addr(far4), 11)
			try("another port", addr(far4), 1)
			c := slices.Clone(m)
			c[13] = 4
			w.inject(addr(far4), 6, fix(c)) // a reset that acknowledges nothing
		}
		if got != 0 {
			t.Fatalf("protocol %d: accepted", b[9])
		}
	}
}

// each6 is each over IPv6.
func (w *world) each6(f func(probe.Result)) {
	for proto := probe.ICMP; proto <= probe.SCTP; proto++ {
		w.p.Send(probe.Request{Dst: addr(far6), Proto: proto, Size: 100, Timeout: time.Hour}, f)
	}
	w.RunFor(time.Millisecond)
}

// FuzzAnswers throws packets at a host that waits for eight answers, four of each
// family, errors with right checksums among them. What is accepted has the ports
// of a probe in it.
func FuzzAnswers(f *testing.F) {
	w := newWorld(f, 1, probe.Options{})
	packets := w.silence()
	w.each(func(probe.Result) {})
	w.each6(func(probe.Result) {})
	for _, b := range *packets {
		if b[0]>>4 == 6 {
			m := expired(b)
			m[0] = icmp.TypeTimeExceeded6
			f.Add(uint8(icmp.Proto6), uint8(2), m)
			f.Add(b[6], uint8(3), b[40:])
			continue
		}
		f.Add(uint8(1), uint8(0), expired(b))
		f.Add(b[9], uint8(1), b[20:])
	}
	f.Add(uint8(132), uint8(1), make([]byte, 40))
	f.Fuzz(func(t *testing.T, proto, from uint8, message []byte) {
		if len(message) > 1400 {
			return
		}
		w := newWorld(t, 1, probe.Options{})
		sent := w.silence()
		heard := func(r probe.Result) {
			if r.Kind != probe.Closed && !slices.ContainsFunc(*sent, func(b []byte) bool {
				m := b[20:]
				if b[0]>>4 == 6 {
					m = b[40:]
				}
				return bytes.Contains(message, m[:4]) || bytes.Contains(message, []byte{m[2], m[3], m[0], m[1]}) || bytes.Contains(message, m[4:8])
			}) {
				t.Errorf("%v from % x", r.Kind, message)
			}
		}
		w.each(heard)
		w.each6(heard)
		src := map[uint8]netip.Addr{0: addr("10.1.0.1"), 1: addr(far4), 2: addr("fd01::1"), 3: addr(far6)}[from&3]
		m := slices.Clone(message)
		switch {
		case proto == icmp.Proto4 && len(m) >= 8 && src.Is4():
			icmp.SetChecksum4(m)
		case proto == icmp.Proto6 && len(m) >= 8 && src.Is6():
			icmp.SetChecksum6(m, src, addr("fd00::1"))
		}
		w.inject(src, proto, m)
	})
}
