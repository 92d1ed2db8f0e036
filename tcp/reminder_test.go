package tcp

import (
	"reflect"
	"testing"

	"github.com/tapstack/tapstack/internal/seq"
)

// TestReminder: what it looks like, that it changes nothing, and when there is
// none.
func TestReminder(t *testing.T) {
	tr := newTrace(t)
	tr.play(openedAll + `
		write 1000
		> P. 1:1001(1000) ack 1
		< . 1:1(0) ack 1001 win 512 <nop,nop,TS val 7000 ecr 100>
		knob quickack 0
		< P. 1:11(10) ack 1001 win 512 <nop,nop,TS val 7000 ecr 100>
	`) // the ACK of that waits
	before := *tr.c
	var s Segment
	if !tr.c.Reminder(tr.now, 3, &s) {
		t.Fatal("none in an established connection")
	}
	if got := tr.show(&s); s.Seq != tr.cfg.ISS+998 || s.PayloadLen() != 1 || s.Ack != tr.peer.Add(11) || s.Flags != FlagACK|FlagPSH ||
		!s.Options.HasTS || s.Options.TSEcr != 7000 || s.Window == 0 {
		t.Errorf("%s", got)
	}
	if !reflect.DeepEqual(before, *tr.c) {
		t.Error("the connection is not as before: an ACK may count as sent")
	}
	for _, back := range []int{0, -1, MaxReminder + 1} {
		if tr.c.Reminder(tr.now, back, &s) {
			t.Errorf("%d back", back)
		}
	}
	// Text that is outstanding is no reason where the peer says what came twice.
	tr.play(`
		write 10
		> P. 1001:1011(10) ack 11
	`) // which carries the ACK
	if !tr.c.Reminder(tr.now, 1, &s) || s.Seq != tr.cfg.ISS+1000 {
		t.Error("none with SACK and text outstanding")
	}
	tr.play(`
		< . 11:11(0) ack 1011 win 512 <nop,nop,TS val 7000 ecr 100>
		shutdown
		> F. 1011:1011(0) ack 11
		state FIN-WAIT-1
	`)
	if tr.c.Reminder(tr.now, 1, &s) {
		t.Error("after our FIN")
	}

	tr = newTrace(t)
	tr.play(opened)
	if !tr.c.Reminder(tr.now, 1, &s) || s.Options.HasTS {
		t.Error("none in a connection without options")
	}
	tr.play("write 10\n> P. 1:11(10) ack 1\n")
	if tr.c.Reminder(tr.now, 1, &s) {
		t.Error("without SACK, while duplicate ACKs would count")
	}
}

// TestTakeReminded: which ACKs are answers, and that the report is taken out.
func TestTakeReminded(t *testing.T) {
	tr := newTrace(t)
	tr.play(openedSACK + `
		write 1000
		> P. 1:1001(1000) ack 1
		< . 1:1(0) ack 1001
	`)
	una := tr.cfg.ISS.Add(1001)
	block := func(from, to int) SACKBlock { return SACKBlock{Left: una.Add(from), Right: una.Add(to)} }
	for name, c := range map[string]struct {
		flags  Flags
		blocks []SACKBlock
		want   seq.Num
		ok     bool
	}{
		"the answer":           {FlagACK, []SACKBlock{block(-5, -4)}, una.Add(-5), true},
		"with others":          {FlagACK, []SACKBlock{block(-5, -4), block(10, 20)}, una.Add(-5), true},
		"before the beginning": {FlagACK, []SACKBlock{block(-1020, -1019)}, una.Add(-1020), true},
		"a true duplicate":     {FlagACK, []SACKBlock{block(-1000, -500)}, 0, false},
		"above":                {FlagACK, []SACKBlock{block(4, 5)}, 0, false},
		"long ago":             {FlagACK, []SACKBlock{block(-9000, -8999)}, 0, false},
		"none":                 {FlagACK, nil, 0, false},
		"a reset":              {FlagACK | FlagRST, []SACKBlock{block(-5, -4)}, 0, false},
	} {
		s := Segment{Flags: c.flags, Ack: una}
		s.Options.NumSACK = copy(s.Options.SACK[:], c.blocks)
		n, ok := tr.c.TakeReminded(&s)
		if ok != c.ok || seq.Num(n) != c.want {
			t.Errorf("%s: %v %v", name, n, ok)
		}
		left := len(c.blocks)
		if c.ok {
			left--
		}
		if s.Options.NumSACK != left || left > 0 && c.ok && s.Options.SACK[0] != c.blocks[1] {
			t.Errorf("%s: %d blocks are left", name, s.Options.NumSACK)
		}
	}
	tr = newTrace(t)
	tr.play(opened)
	una = tr.cfg.ISS.Add(1)
	if n, ok := tr.c.TakeReminded(&Segment{Flags: FlagACK, Ack: una}); n != 0 || !ok {
		t.Errorf("without SACK: %v %v", n, ok)
	}
	if _, ok := tr.c.TakeReminded(&Segment{Flags: FlagACK, Ack: una, Payload: [2][]byte{{1}}}); ok {
		t.Error("text is an answer")
	}
}
