package stack_test

import (
	"testing"

	"github.com/tapstack/tapstack/internal/seq"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// TestEveryFlagWithoutConnection: RFC 9293 §3.10.7.1 and .2 for all 512
// combinations of flags; package tcp has the other states.
func TestEveryFlagWithoutConnection(t *testing.T) {
	eachFamily(t, func(t *testing.T, c familyCase) {
		h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
		h.answers()
		h.listen(80, 5)
		const number, ack = 1000, 77777
		open := 0
		for _, port := range []uint16{80, 99} {
			for flags := range tcp.Flags(512) {
				for _, text := range []string{"", "hello"} {
					has := func(f tcp.Flags) bool { return flags&f != 0 }
					// The oracle: what answers, and with which numbers.
					var want tcp.Flags
					wantSeq, wantAck := seq.Num(0), seq.Num(0)
					switch {
					case has(tcp.FlagRST):
					case has(tcp.FlagACK):
						want, wantSeq = tcp.FlagRST, ack
					case port == 99:
						want, wantAck = tcp.FlagRST|tcp.FlagACK, seq.Num(number+len(text))
						if has(tcp.FlagSYN) {
							wantAck++
						}
						if has(tcp.FlagFIN) {
							wantAck++
						}
					case has(tcp.FlagSYN) && !has(tcp.FlagFIN):
						want, wantAck = tcp.FlagSYN|tcp.FlagACK, number+1
						open++
					}
					sport := uint16(1024 + int(flags)*2 + len(text)/5)
					out := h.send(segment(c.v6, sport, port, number, ack, flags, []byte(text)))
					s, ok := tcpOf(out)
					if ok != (want != 0) || len(out) > 1 {
						t.Fatalf("port %d, %v, %q: %d answers, %v; want %v", port, flags, text, len(out), s.String(), want)
					}
					if !ok {
						continue
					}
					// ECN may have been agreed to in a SYN-ACK.
					if s.Flags&^(tcp.FlagECE|tcp.FlagCWR|tcp.FlagAE) != want || want&tcp.FlagRST != 0 && s.Flags != want ||
						s.Ack != wantAck || want&tcp.FlagSYN == 0 && s.Seq != wantSeq {
						t.Fatalf("port %d, %v, %q: answered by %v; want %v seq %d ack %d", port, flags, text, s.String(), want, wantSeq, wantAck)
					}
				}
			}
		}
		wantTable(t, h.s, open, 0)
	})
}
