package option

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tapstack/tapstack/telnet/engine"
)

// peer is an engine of a test with what it posted.
type peer struct {
	*engine.Engine
	data   []byte
	values []any
	marks  int
	byes   int
}

func newPeer(r engine.Role, opts ...engine.Option) *peer {
	return &peer{Engine: engine.New(engine.Config{Role: r, Options: opts})}
}

func (p *peer) feed(b []byte) {
	p.Feed(b)
	for {
		ev, ok := p.Next()
		if !ok {
			return
		}
		switch ev.Kind {
		case engine.Data:
			p.data = append(p.data, ev.Data...)
		case engine.Subneg:
			p.values = append(p.values, ev.Value)
		case engine.Mark:
			p.marks++
		case engine.Bye:
			p.byes++
		}
	}
}

// sub feeds a subnegotiation, escaped.
func (p *peer) sub(code engine.Code, content string) {
	b := engine.AppendEscaped([]byte{255, 250, byte(code)}, []byte(content))
	p.feed(append(b, 255, 240))
}

func (p *peer) verb(verb engine.Command, code engine.Code) {
	p.feed([]byte{255, byte(verb), byte(code)})
}

// talk passes bytes between two peers until they are quiet.
func talk(t *testing.T, a, b *peer) {
	t.Helper()
	for range 100 {
		x, y := a.Take(), b.Take()
		if len(x)+len(y) == 0 {
			return
		}
		b.feed(x)
		a.feed(y)
	}
	t.Fatal("they do not fall silent")
}

func (p *peer) wantOut(t *testing.T, want string) {
	t.Helper()
	if got := string(p.Take()); got != want {
		t.Errorf("sent %x, want %x", got, want)
	}
}

func (p *peer) wantValues(t *testing.T, want ...any) {
	t.Helper()
	if !reflect.DeepEqual(p.values, want) {
		t.Errorf("values %v, want %v", p.values, want)
	}
	p.values = nil
}

func sb(code engine.Code, content string) string {
	return string(append(engine.AppendEscaped([]byte{255, 250, byte(code)}, []byte(content)), 255, 240))
}

// pairOf makes a client and a server with one option each and turns it on in
// the direction that the RFC has.
func pairOf(t *testing.T, client, server engine.Option) (c, s *peer) {
	c, s = newPeer(engine.Client, client), newPeer(engine.Server, server)
	s.Enable(engine.Him, server.Code())
	talk(t, c, s)
	if !s.On(engine.Him, server.Code()) || !c.On(engine.Us, client.Code()) {
		t.Fatalf("%v is not on", server.Code())
	}
	return c, s
}

func TestTType(t *testing.T) {
	for _, tt := range []struct {
		names, seen []string
		term        string
	}{
		{[]string{"XTERM"}, []string{"XTERM"}, "XTERM"},
		{[]string{"TINTIN++", "xterm", "MTTS 137"}, []string{"TINTIN++", "xterm", "MTTS 137"}, "xterm"},
		{[]string{"a", "b", "c", "d", "e", "f", "g", "h", "i"}, []string{"a", "b", "c", "d", "e", "f", "g", "h"}, "h"},
		{nil, []string{"UNKNOWN"}, "UNKNOWN"},
	} {
		st := &TType{Cycle: true}
		_, s := pairOf(t, &TType{Names: tt.names}, st)
		if !slices.Equal(st.Types(), tt.seen) || st.Term() != tt.term || !st.Done() {
			t.Errorf("types %q, term %q, done %v", st.Types(), st.Term(), st.Done())
		}
		if len(s.values) == 0 {
			t.Error("nothing was told")
		}
	}
	// The list of a client: the last one twice, then the first (RFC 1091).
	c := newPeer(engine.Client, &TType{Names: []string{"a", "b"}})
	c.verb(engine.DO, engine.TType)
	for range 5 {
		c.sub(engine.TType, "\x01")
	}
	c.wantOut(t, "\xff\xfb\x18"+sb(24, "\x00a")+sb(24, "\x00b")+sb(24, "\x00b")+sb(24, "\x00a")+sb(24, "\x00b"))
}

func TestWindow(t *testing.T) {
	cw := &Window{Size: Size{80, 24}}
	c, s := pairOf(t, cw, &Window{})
	s.wantValues(t, Size{80, 24})
	for _, size := range []Size{{255, 65535}, {0, 0}, {132, 43}} {
		cw.Resize(c.Engine, size)
		cw.Resize(c.Engine, size) // the same again is not told
		talk(t, c, s)
		s.wantValues(t, size)
	}
	cw.Resize(c.Engine, Size{-5, 1 << 20})
	talk(t, c, s)
	s.wantValues(t, Size{0, 65535})
	s.sub(engine.NAWS, "abc")
	if s.Drops()[engine.DropMalformed] != 1 {
		t.Error(s.Drops())
	}
}

func TestSpeedDisplayLocation(t *testing.T) {
	_, s := pairOf(t, &TSpeed{Speed: Speed{38400, 9600}}, &TSpeed{})
	s.wantValues(t, Speed{38400, 9600})
	for _, bad := range []string{"\x001,2,3", "\x00a,b", "\x001", "\x00-1,2", "\x00", "\x01\x01"} {
		s.sub(engine.TSpeed, bad)
	}
	if s.Drops()[engine.DropMalformed] != 6 || len(s.values) != 0 {
		t.Error(s.Drops(), s.values)
	}
	_, s = pairOf(t, &XDispLoc{Display: "host:0.1"}, &XDispLoc{})
	s.wantValues(t, "host:0.1")
	_, s = pairOf(t, &SndLoc{Location: "room \xff"}, &SndLoc{})
	s.wantValues(t, "room \xff")
}

func TestLFlow(t *testing.T) {
	for _, restart := range []FlowMode{FlowRestartAny, FlowRestartXON} {
		cl, sl := &LFlow{}, &LFlow{Restart: restart}
		c, s := pairOf(t, cl, sl)
		c.wantValues(t, restart)
		if !cl.Enabled() || cl.RestartAny() != (restart == FlowRestartAny) {
			t.Errorf("after %d: %v %v", restart, cl.Enabled(), cl.RestartAny())
		}
		sl.Set(s.Engine, FlowOff)
		talk(t, c, s)
		if cl.Enabled() || cl.RestartAny() != (restart == FlowRestartAny) {
			t.Error("OFF changed something else")
		}
		c.sub(engine.LFlow, "\x04")
		if c.Drops()[engine.DropMalformed] != 1 {
			t.Error(c.Drops())
		}
	}
}

func TestLinemodeEditsAndMasks(t *testing.T) {
	cl, sl := NewLinemode(0), NewLinemode(ModeEdit|ModeTrapSig)
	var m Mask
	for _, b := range []byte{0x03, 0x78, 0x7f} {
		m.Add(b)
	}
	sl.mask = m // goes out with the answer to the characters
	c, s := pairOf(t, cl, sl)
	if cl.Mode() != ModeEdit|ModeTrapSig || sl.Mode() != cl.Mode() {
		t.Errorf("modes %x and %x", cl.Mode(), sl.Mode())
	}
	got, on := cl.Mask()
	if !on || !got.Has(0x78) || !got.Has(0x7f) || !got.Has(3) || got.Has(4) {
		t.Errorf("mask %x, %v", got, on)
	}
	if _, agreed := sl.Mask(); !agreed {
		t.Error("the server does not know that the client has the mask")
	}
	if cl.Chars() != sl.Chars() {
		t.Errorf("tables differ:\n%v\n%v", cl.Chars(), sl.Chars())
	}
	cl.SetChar(c.Engine, FnEC, Char{byte(Value), 8})
	talk(t, c, s)
	if sl.Chars()[FnEC].Value != 8 || cl.Chars()[FnEC].Value != 8 {
		t.Error("the server has not learned of ^H")
	}
	sl.SetMode(s.Engine, 0)
	talk(t, c, s)
	if cl.Mode() != 0 {
		t.Error("the mode was not left")
	}
	c.sub(engine.Linemode, "\xfe\x02")
	c.wantOut(t, sb(34, "\xfc\x02"))
	if _, on := cl.Mask(); on {
		t.Error("the mask is still there")
	}
	c.sub(engine.Linemode, "\xfe\x02") // again: nothing to say
	c.wantOut(t, "")
}

// TestSLC is RFC 1184 §5.5, one word at a time, at a server whose table has ^C
// for IP and nothing for the cursor.
func TestSLC(t *testing.T) {
	for _, c := range []struct {
		name, in, out string
		fn            Function
		want          Char
	}{
		{"the same", "\x03\x62\x03", "", FnIP, Char{0x62, 3}},
		{"another value", "\x03\x02\x07", "\x03\x82\x07", FnIP, Char{2, 7}},
		{"his default", "\x03\x03\x00", "\x03\x62\x03", FnIP, Char{0x62, 3}},
		{"not supported", "\x03\x00\xff", "\x03\x80\xff", FnIP, Char{0, 255}},
		{"ACK is not answered", "\x03\x82\x09", "", FnIP, Char{0x62, 3}},
		{"what we do not have", "\x1e\x02\x41", "\x1e\x00\xff", 30, Char{0, 255}},
		{"default of what we do not have", "\x1e\x03\x41", "\x1e\x00\xff", 30, Char{0, 255}},
		{"no function", "\x1f\x02\x41", "\x1f\x00\xff", FnIP, Char{0x62, 3}},
	} {
		o := NewLinemode(ModeLitEcho)
		s := newPeer(engine.Server, o)
		s.verb(engine.WILL, engine.Linemode)
		s.Take()
		s.sub(engine.Linemode, "\x03"+c.in)
		mask := sb(34, "\xfd\x02"+strings.Repeat("\x00", 16))
		want := mask
		if c.out != "" {
			want = sb(34, "\x03"+c.out) + mask
		}
		t.Log(c.name)
		s.wantOut(t, want)
		if got := o.Chars()[c.fn]; got != c.want {
			t.Errorf("the table has %v, want %v", got, c.want)
		}
	}
	// Two that both cannot change it agree on nothing.
	o := NewLinemode(ModeLitEcho)
	o.chars[FnIP] = Char{byte(CantChange), 3}
	if got := o.change(nil, byte(FnIP), Char{byte(CantChange), 4}); !bytes.Equal(got, []byte{3, 0, 255}) {
		t.Errorf("answer %x", got)
	}
	chars := DefaultTable()
	if chars.Of(3) != FnIP || chars.Of(0x7f) != FnEC || chars.Of('a') != 0 || chars.Of(0) != 0 || chars.Of(255) != 0 {
		t.Error("Of")
	}
}

func TestEnviron(t *testing.T) {
	for _, mk := range []func() *Environ{NewEnviron, OldEnviron} {
		ce, se := mk(), mk()
		ce.Vars = []Var{{Name: "LANG", Value: "C"}, {Name: "EMPTY"}, {Name: "odd\x00\x01", Value: "\x00\x01\x02\x03\xff"},
			{Name: "MINE", Value: "u", User: true}}
		se.Ask = []Var{{Name: "LANG"}, {Name: "NOPE"}, {Name: "EMPTY"}, {Name: "odd\x00\x01"}, {User: true}}
		c, s := pairOf(t, ce, se)
		s.wantValues(t, []Var{{Name: "LANG", Value: "C"}, {Name: "NOPE", Undefined: true}, {Name: "EMPTY"},
			{Name: "odd\x00\x01", Value: "\x00\x01\x02\x03\xff"}, {Name: "MINE", Value: "u", User: true}})
		if !se.Done() {
			t.Error("not done")
		}
		ce.Set(c.Engine, Var{Name: "LANG", Value: "de"})
		talk(t, c, s)
		s.wantValues(t, []Var{{Name: "LANG", Value: "de"}})
		if se.Vars[0].Value != "de" {
			t.Error("INFO was not kept")
		}
	}
	// No list asks for all.
	ce := NewEnviron()
	ce.Vars = []Var{{Name: "A", Value: "1"}, {Name: "B", Value: "2", User: true}}
	c := newPeer(engine.Client, ce)
	c.verb(engine.DO, engine.NewEnviron)
	c.Take()
	c.sub(engine.NewEnviron, "\x01")
	c.wantOut(t, sb(39, "\x00\x00A\x011\x03B\x012"))
	// Names that nobody listed are not told, whatever the form of the question.
	c.sub(engine.NewEnviron, "\x01\x00AWS_SECRET\x03A")
	c.wantOut(t, sb(39, "\x00\x00AWS_SECRET\x03A"))
	for _, bad := range []string{"", "\x01A", "\x01\x00A\x02", "\x01\x02"} {
		before := c.Drops()[engine.DropMalformed]
		c.sub(engine.NewEnviron, bad)
		c.wantOut(t, "")
		if c.Drops()[engine.DropMalformed] != before+1 {
			t.Errorf("%q is not malformed", bad)
		}
	}
}

// TestEnvironSwapped: BSD's telnet of RFC 1571, with VAR 1 and VALUE 0.
func TestEnvironSwapped(t *testing.T) {
	ce := OldEnviron()
	ce.Vars = []Var{{Name: "TERM", Value: "vt"}}
	c := newPeer(engine.Client, ce)
	c.verb(engine.DO, engine.OldEnviron)
	c.Take()
	c.sub(engine.OldEnviron, "\x01\x01TERM")
	c.wantOut(t, sb(36, "\x00\x01TERM\x00vt"))
	se := OldEnviron()
	s := newPeer(engine.Server, se)
	s.verb(engine.WILL, engine.OldEnviron)
	s.sub(engine.OldEnviron, "\x00\x01TERM\x00vt")
	s.wantValues(t, []Var{{Name: "TERM", Value: "vt"}})
}

// TestEnvironBatches: no request is longer than the buffers of old clients, and
// the next one waits for the answer.
func TestEnvironBatches(t *testing.T) {
	ce, se := NewEnviron(), NewEnviron()
	for i := range 60 {
		v := Var{Name: fmt.Sprintf("VARIABLE_%d", i), Value: fmt.Sprint(i)}
		ce.Vars = append(ce.Vars, v)
		se.Ask = append(se.Ask, Var{Name: v.Name})
	}
	s := newPeer(engine.Server, se)
	c := newPeer(engine.Client, ce)
	s.Enable(engine.Him, engine.NewEnviron)
	batches := 0
	for range 20 {
		out := s.Take()
		if len(out) > 256 {
			t.Errorf("%d bytes in one request", len(out))
		}
		if bytes.Contains(out, []byte{255, 250}) {
			batches++
		}
		c.feed(out)
		s.feed(c.Take())
	}
	if !slices.Equal(se.Vars, ce.Vars) || batches < 3 || !se.Done() {
		t.Errorf("%d variables in %d batches", len(se.Vars), batches)
	}
}

func TestEnvironLimits(t *testing.T) {
	se := NewEnviron()
	s := &peer{Engine: engine.New(engine.Config{Role: engine.Server, Options: []engine.Option{se}, Limits: engine.Limits{Vars: 5, Value: 8}})}
	s.verb(engine.WILL, engine.NewEnviron)
	for i := range 20 {
		s.sub(engine.NewEnviron, fmt.Sprintf("\x02\x00NAME%d\x01%s", i, strings.Repeat("x", 100)))
	}
	if len(se.Vars) != 5 || len(se.Vars[0].Value) != 8 || s.Drops()[engine.DropLimit] == 0 {
		t.Errorf("%d variables, drops %v", len(se.Vars), s.Drops())
	}
}

func TestCharset(t *testing.T) {
	offer := func(prefer []string, known func(string) bool, request string) (string, any) {
		o := NewCharset()
		o.Prefer, o.Known = prefer, known
		c := newPeer(engine.Client, o)
		c.verb(engine.WILL, engine.Charset)
		c.Take()
		c.sub(engine.Charset, request)
		if len(c.values) != 1 {
			return string(c.Take()), nil
		}
		return string(c.Take()), c.values[0]
	}
	all := func(string) bool { return true }
	for _, c := range []struct {
		prefer       []string
		known        func(string) bool
		request, out string
		name         string
	}{
		{[]string{"utf-8"}, nil, "\x01;LATIN1;UTF-8", "\x02UTF-8", "UTF-8"},
		{[]string{"iso8859-2", "utf-8"}, nil, "\x01;utf8;ISO-8859-02", "\x02ISO-8859-02", "ISO-8859-02"},
		{[]string{"utf-8"}, nil, "\x01;A;B", "\x03", ""},
		{[]string{"utf-8"}, all, "\x01;;A;B", "\x02A", "A"},
		{[]string{"utf-8"}, nil, "\x01[TTABLE]\x01 B UTF-8", "\x02UTF-8", "UTF-8"},
	} {
		out, v := offer(c.prefer, c.known, c.request)
		if out != sb(42, c.out) || v != any(CharsetChoice{Name: c.name}) {
			t.Errorf("%q: %x, %v", c.request, out, v)
		}
	}
	if out, v := offer(nil, all, "\x01;"); out != sb(42, "\x03") || v != nil {
		t.Errorf("an empty offer: %x, %v", out, v)
	}

	co, so := NewCharset(), NewCharset()
	co.Prefer, so.Offer = []string{"cp437"}, []string{"UTF-8", "CP437"}
	_, s := pairOf(t, co, so)
	s.wantValues(t, CharsetChoice{Name: "CP437", Ours: true})
	if co.Name() != "CP437" || so.Name() != "CP437" || so.Waiting() {
		t.Errorf("%q, %q", co.Name(), so.Name())
	}
}

// TestCharsetCollision is RFC 2066 §3: both ask at once, and the server's wins.
func TestCharsetCollision(t *testing.T) {
	co, so := NewCharset(), NewCharset()
	co.Offer, co.Prefer = []string{"KOI8-R", "UTF-8"}, []string{"UTF-8"}
	so.Offer, so.Prefer = []string{"UTF-8", "LATIN1"}, []string{"KOI8-R"}
	c, s := newPeer(engine.Client, co), newPeer(engine.Server, so)
	c.Enable(engine.Us, engine.Charset)
	s.Enable(engine.Us, engine.Charset)
	talk(t, c, s)
	if co.Name() != "UTF-8" || so.Name() != "UTF-8" || co.Waiting() || so.Waiting() {
		t.Errorf("client %q, server %q", co.Name(), so.Name())
	}
	// What is accepted must have been offered.
	so = NewCharset()
	so.Offer = []string{"UTF-8"}
	s = newPeer(engine.Server, so)
	s.verb(engine.DO, engine.Charset)
	s.sub(engine.Charset, "\x02KOI8-R")
	s.wantValues(t, CharsetChoice{Ours: true})
	s.sub(engine.Charset, "\x02UTF-8")
	if so.Name() != "" || s.Drops()[engine.DropStray] != 1 {
		t.Error("a second answer was taken")
	}
}

func TestStatus(t *testing.T) {
	co, so := NewStatus(), NewStatus()
	c, s := newPeer(engine.Client, co, NewFlag(engine.SGA, true, true)), newPeer(engine.Server, so, NewFlag(engine.SGA, true, true))
	s.Enable(engine.Us, engine.SGA)
	c.Enable(engine.Us, 240) // SE must be doubled inside
	talk(t, c, s)
	c.Enable(engine.Him, engine.Status)
	talk(t, c, s)
	c.wantValues(t, StatusReport{Entries: []StatusEntry{{engine.WILL, engine.SGA}, {engine.DONT, 240}}})
	// A peer that sees things otherwise, and blocks of parameters.
	c.sub(engine.Status, "\x00\xfc\x03\xfa\x1f\xf0\xf0\x50\xf0\xfd\x01")
	c.wantValues(t, StatusReport{Entries: []StatusEntry{{engine.WONT, engine.SGA}, {engine.DO, engine.Echo}},
		Disagree: []engine.Code{engine.SGA, engine.Echo}})
	s.Engine.Disable(engine.Us, engine.Status)
	s.sub(engine.Status, "\x01")
	if strings.Contains(string(s.Take()), "\xfa") {
		t.Error("STATUS was answered though it is off")
	}
}

func TestTimingMark(t *testing.T) {
	c, s := newPeer(engine.Client, NewTimingMark()), newPeer(engine.Server, NewTimingMark())
	s.TimingMark()
	s.TimingMark()
	talk(t, c, s)
	if s.marks != 2 || c.marks != 0 {
		t.Errorf("%d marks", s.marks)
	}
	s.verb(engine.WILL, engine.TM)
	if s.marks != 2 || s.Drops()[engine.DropStray] != 1 {
		t.Error("a mark that nobody asked for")
	}
}

func TestMUD(t *testing.T) {
	c, s := newPeer(engine.Client, &GMCP{served: served{true}, Name: "cli", Version: "1", Modules: []string{"Room 1"}}, NewMSDP(), NewMSSP()),
		newPeer(engine.Server, NewGMCP(), NewMSDP(), &MSSP{served{true}, MSSPVars{"NAME": {"a game"}, "PORT": {"23", "992"}}})
	for _, code := range []engine.Code{engine.GMCP, engine.MSDP, engine.MSSP} {
		s.Enable(engine.Us, code)
	}
	talk(t, c, s)
	c.wantValues(t, MSSPVars{"NAME": {"a game"}, "PORT": {"23", "992"}})
	s.wantValues(t, GMCPMessage{"Core.Hello", []byte(`{"client":"cli","version":"1"}`)}, GMCPMessage{"Core.Supports.Set", []byte(`["Room 1"]`)})
	vars := MSDPTable{"ROOM": MSDPTable{"VNUM": "6008", "EXITS": []any{"n", MSDPTable{"deep": "x"}}}, "HP": "1"}
	s.Option(engine.MSDP).(*MSDP).Send(s.Engine, vars)
	talk(t, c, s)
	c.wantValues(t, vars)
	for _, bad := range []struct {
		code    engine.Code
		content string
	}{
		{engine.MSDP, ""}, {engine.MSDP, "x"}, {engine.MSDP, "\x01a"}, {engine.MSDP, "\x01a\x02\x03"},
		{engine.MSDP, "\x01a\x02\x05\x02x"}, {engine.MSDP, "\x01a" + strings.Repeat("\x02\x05", 40)},
		{engine.GMCP, "A {"}, {engine.GMCP, ""}, {engine.MSSP, "x"},
	} {
		before := c.Drops()[engine.DropMalformed]
		c.sub(bad.code, bad.content)
		if c.Drops()[engine.DropMalformed] != before+1 || len(c.values) != 0 {
			t.Errorf("%v %q was taken", bad.code, bad.content)
		}
	}
	m := newPeer(engine.Client, NewMessage(engine.ATCP, false, true))
	m.verb(engine.WILL, engine.ATCP)
	m.sub(engine.ATCP, "Room.Num 12")
	m.wantValues(t, []byte("Room.Num 12"))
}

// TestMCCP: both directions compressed, text and negotiation inside, and plain
// again.
func TestMCCP(t *testing.T) {
	c, s := newPeer(engine.Client, NewMCCP2(true), NewMCCP3(true)), newPeer(engine.Server, NewMCCP2(true), NewMCCP3(true))
	s.Enable(engine.Us, engine.MCCP2)
	s.Enable(engine.Us, engine.MCCP3)
	talk(t, c, s)
	if !s.Deflating() || !s.Inflating() || !c.Deflating() || !c.Inflating() {
		t.Fatal("not compressed")
	}
	text := strings.Repeat("a room with a view \xff ", 500)
	s.Write([]byte(text))
	out := s.Take()
	if len(out) > 500 {
		t.Errorf("%d bytes for %d", len(out), len(text))
	}
	c.feed(out)
	c.Write([]byte("look\r\n"))
	talk(t, c, s)
	if string(c.data) != text || string(s.data) != "look\r\n" {
		t.Errorf("data %q and %q", c.data, s.data)
	}
	s.Disable(engine.Us, engine.MCCP2)
	talk(t, c, s)
	s.Write([]byte("plain"))
	if out := s.Take(); string(out) != "plain" || c.Inflating() {
		t.Errorf("%x after the end", out)
	}
}

func TestComPort(t *testing.T) {
	for in, want := range map[string]ComPortMessage{
		"\x00":                 {Command: ComSignature},
		"\x64box 1":            {Command: ComSignature, FromServer: true, Text: "box 1"},
		"\x01\x00\x00\x25\x80": {Command: ComBaudRate, Number: 9600},
		"\x66\x08":             {Command: ComDataSize, FromServer: true, Number: 8},
		"\x08":                 {Command: ComFlowSuspend},
		"\x0c\x03":             {Command: ComPurgeData, Number: 3},
	} {
		if got, ok := ParseComPort([]byte(in)); !ok || got != want {
			t.Errorf("%x: %v %v", in, got, ok)
		}
	}
	for _, bad := range []string{"", "\x0d\x01", "\x01\x00", "\x02", "\x02\x01\x01", "\x09\x00", "\x72"} {
		if _, ok := ParseComPort([]byte(bad)); ok {
			t.Errorf("%x was taken", bad)
		}
	}
	co, so := NewComPort(true, false), NewComPort(false, true)
	co.Signature = "line 1"
	c, s := pairOf(t, co, so)
	so.AskSignature(s.Engine)
	talk(t, c, s)
	s.wantValues(t, ComPortMessage{Text: "line 1"})
	c.wantValues(t, ComPortMessage{FromServer: true})
	if ComBaudRate.String() != "SET-BAUDRATE" {
		t.Error(ComBaudRate)
	}
}

// TestDirections: each option of the usual sets agrees in the direction of its
// RFC only.
func TestDirections(t *testing.T) {
	clientOnly := []engine.Code{engine.TType, engine.NAWS, engine.TSpeed, engine.XDispLoc, engine.NewEnviron, engine.OldEnviron, engine.LFlow,
		engine.Linemode}
	serverOnly := []engine.Code{engine.Echo, engine.MCCP2, engine.MCCP3, engine.MSDP, engine.MSSP, engine.GMCP}
	both := []engine.Code{engine.Binary, engine.SGA, engine.EOR, engine.Status, engine.Charset}
	c := newPeer(engine.Client, Client(ClientConfig{GMCP: NewGMCP(), MSDP: true, MSSP: true, Location: "here"})...)
	s := newPeer(engine.Server, Server(ServerConfig{Compress: true, GMCP: NewGMCP(), MSDP: true, MSSP: MSSPVars{}})...)
	for code := range 256 {
		co := engine.Code(code)
		if co == engine.TM || co == engine.Logout || co == engine.SndLoc {
			continue // not states; and a server takes what a client need not tell
		}
		isClient, isServer := slices.Contains(clientOnly, co), slices.Contains(serverOnly, co)
		isBoth := slices.Contains(both, co)
		for _, p := range []*peer{c, s} {
			us, him := isClient, isServer
			if p.Role() == engine.Server {
				us, him = him, us
			}
			for verb, want := range map[engine.Command]bool{engine.DO: us || isBoth, engine.WILL: him || isBoth} {
				q := newPeer(p.Role(), Client(ClientConfig{GMCP: NewGMCP(), MSDP: true, MSSP: true})...)
				if p == s {
					q = newPeer(p.Role(), Server(ServerConfig{Compress: true, GMCP: NewGMCP(), MSDP: true, MSSP: MSSPVars{}})...)
				}
				q.verb(verb, co)
				answer := positive(verb, want)
				if out := q.Take(); len(out) < 3 || out[1] != answer || out[2] != byte(co) {
					t.Errorf("%v answers %x to %v %v, want %v", p.Role(), out, verb, co, engine.Command(answer))
				}
			}
		}
	}
}

func positive(verb engine.Command, agree bool) byte {
	answer := engine.DO
	if verb == engine.DO {
		answer = engine.WILL
	}
	if !agree {
		answer++
	}
	return byte(answer)
}

// TestEnvironKeeps: what a client can make a server keep is a number of
// variables, and the bytes of one subnegotiation in all.
func TestEnvironKeeps(t *testing.T) {
	o := NewEnviron()
	s := newPeer(engine.Server, o)
	s.verb(engine.WILL, engine.NewEnviron)
	long := strings.Repeat("x", 60<<10)
	for i := range 100 {
		s.sub(engine.NewEnviron, "\x02\x00V"+strconv.Itoa(i)+"\x01"+long)
	}
	size := 0
	for _, v := range o.Vars {
		size += len(v.Name) + len(v.Value)
	}
	if l := s.Limits(); size > l.Subneg || size < l.Subneg/2 || s.Drops()[engine.DropLimit] < 100 {
		t.Errorf("%d bytes of %d variables, dropped %v", size, len(o.Vars), s.Drops())
	}
	// One that is there may still become another, if there is room for it.
	s.sub(engine.NewEnviron, "\x02\x00V0\x01new")
	if o.Vars[0].Value != "new" {
		t.Errorf("%.20q", o.Vars[0].Value)
	}
}

// TestCompressionBegins so often and not more when the peer wants it; each time
// costs a compressor.
func TestCompressionBegins(t *testing.T) {
	s := newPeer(engine.Server, NewMCCP2(true))
	for range 3 * maxStreams {
		s.verb(engine.DO, engine.MCCP2)
		s.verb(engine.DONT, engine.MCCP2)
	}
	if n := s.Drops()[engine.DropRefused]; n != 2*maxStreams {
		t.Errorf("refused %d times", n)
	}
	s.Enable(engine.Us, engine.MCCP2) // what we want ourselves is another matter
	s.verb(engine.DO, engine.MCCP2)
	if !s.Deflating() {
		t.Error("our own wish was refused")
	}
}

// TestOneEnviron: a client that is asked for both kinds of environment performs
// the newer one, in whatever order they come.
func TestOneEnviron(t *testing.T) {
	for _, codes := range [][2]engine.Code{{engine.NewEnviron, engine.OldEnviron}, {engine.OldEnviron, engine.NewEnviron}} {
		c := newPeer(engine.Client, NewEnviron(), OldEnviron())
		c.verb(engine.DO, codes[0])
		c.verb(engine.DO, codes[1])
		if !c.On(engine.Us, engine.NewEnviron) || c.On(engine.Us, engine.OldEnviron) {
			t.Errorf("%v: %v %v", codes, c.State(engine.Us, engine.NewEnviron), c.State(engine.Us, engine.OldEnviron))
		}
	}
}
