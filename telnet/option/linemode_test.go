package option

import (
	"testing"

	"github.com/tapstack/tapstack/telnet/engine"
)

// TestMaskRefused: a client that cannot forward on a mask says WONT, and has
// none then.
func TestMaskRefused(t *testing.T) {
	cl, sl := NewLinemode(0), NewLinemode(ModeEdit)
	cl.TakesMask = func(m Mask) bool { return !m.Has('!') }
	c, s := pairOf(t, cl, sl)
	var m Mask
	m.Add('?')
	sl.SetMask(s.Engine, m)
	talk(t, c, s)
	if got, on := cl.Mask(); !on || got != m {
		t.Error("not taken")
	}
	m.Add('!')
	sl.SetMask(s.Engine, m)
	talk(t, c, s)
	if _, on := cl.Mask(); on {
		t.Error("the client has it all the same")
	}
	if _, on := sl.Mask(); on {
		t.Error("the server has not heard of it")
	}
}

// TestAskTable: the client's two questions, and none before the option is on.
func TestAskTable(t *testing.T) {
	cl := NewLinemode(0)
	c := newPeer(engine.Client, cl)
	cl.AskTable(c.Engine, Value)
	c.wantOut(t, "")
	c.verb(engine.DO, engine.Linemode)
	c.Take()
	cl.AskTable(c.Engine, Value)
	cl.AskTable(c.Engine, Default)
	c.wantOut(t, sb(34, "\x03\x00\x02\x00")+sb(34, "\x03\x00\x03\x00"))
	for name, want := range map[string]Function{"ip": FnIP, "SLC_eof": FnEOF, "EEOL": 30} {
		if got, ok := ParseFunction(name); !ok || got != want {
			t.Errorf("%s is %v", name, got)
		}
	}
	if _, ok := ParseFunction(""); ok || Function(31).String() != "31" || FnIP.String() != "SLC_IP" {
		t.Error("names")
	}
}
