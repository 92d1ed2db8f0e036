package option

import (
	"testing"

	"github.com/tapstack/tapstack/telnet/engine"
)

// TestEventsHaveNoState: a timing mark and a logout that are asked for as options
// are questions, each answered by itself; nothing waits for them to be on.
func TestEventsHaveNoState(t *testing.T) {
	c, s := newPeer(engine.Client, NewTimingMark(), NewLogout()), newPeer(engine.Server, NewTimingMark(), NewLogout())
	for n := 1; n <= 2; n++ {
		c.Enable(engine.Him, engine.TM)
		c.Enable(engine.Him, engine.Logout)
		if c.Asked() != 0 {
			t.Errorf("%d answers are waited for", c.Asked())
		}
		talk(t, c, s)
		if c.marks != n || c.byes != n || s.byes != n || len(c.Drops())+len(s.Drops()) != 0 {
			t.Errorf("round %d: marks %d, byes %d and %d, drops %v %v", n, c.marks, c.byes, s.byes, c.Drops(), s.Drops())
		}
	}
}

// TestEventsAreRefused: what the program refuses is refused, these as well.
func TestEventsAreRefused(t *testing.T) {
	s := &peer{Engine: engine.New(engine.Config{Role: engine.Server, Options: []engine.Option{NewTimingMark(), NewLogout()},
		Accept: func(engine.Side, engine.Code, bool) bool { return false }})}
	s.verb(engine.DO, engine.TM)
	s.verb(engine.DO, engine.Logout)
	if out := string(s.Take()); out != "\xff\xfc\x06\xff\xfc\x12" || s.byes != 0 {
		t.Errorf("%q, byes %d", out, s.byes)
	}
	// The answer to our own is not for the program to refuse.
	s.TimingMark()
	s.verb(engine.WILL, engine.TM)
	if s.marks != 1 || s.Unmarked() != 0 {
		t.Errorf("marks %d, not answered %d", s.marks, s.Unmarked())
	}
}
