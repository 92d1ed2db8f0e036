package stack_test

import (
	"testing"
	"time"

	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// TestChallengeAckLimit: RFC 5961 §10. Each of many connections is asked for
// one challenge ACK in the same second.
func TestChallengeAckLimit(t *testing.T) {
	attack := func(limit int) (sent []int, c map[string]uint64) {
		h := newTestHost(t, stack.Config{TCP: stack.TCPConfig{ChallengeACKs: limit}}, stack.InterfaceConfig{}).meet()
		h.answers()
		l := h.listen(80, 200)
		var list []*peerConn
		for k := range 100 {
			list = append(list, h.connect(l, k%2 == 1, uint16(4000+k)))
		}
		h.d.take()
		for range 3 {
			h.n.RunFor(time.Second - h.n.Now().Sub(0)%time.Second) // a whole second begins
			n := 0
			for _, p := range list {
				h.d.inject(segment(p.v6, p.sport, 80, p.snd+1, 0, tcp.FlagRST, nil))
				n += len(p.take())
			}
			sent = append(sent, n)
		}
		for _, p := range list {
			if p.conn.State() != tcp.Established {
				t.Fatalf("a guess ended a connection: %v", p.conn.State())
			}
		}
		return sent, h.s.Counters()
	}
	sent, c := attack(0)
	if sent[0] != 100 || sent[1] != 100 || c["tcp.challenge-ack"] != 300 || c["tcp.challenge-withheld"] != 0 {
		t.Errorf("without a limit: %v, %v", sent, c)
	}
	sent, c = attack(20)
	total := 0
	for _, n := range sent {
		if total += n; n < 10 || n > 29 {
			t.Errorf("limit 20: %v", sent)
		}
	}
	if sent[0] == sent[1] && sent[1] == sent[2] {
		t.Errorf("always the same number: %v", sent)
	}
	if c["tcp.challenge-ack"] != uint64(total) || c["tcp.challenge-withheld"] != uint64(300-total) {
		t.Errorf("sent %d: %v", total, c)
	}
}
