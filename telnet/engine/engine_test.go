package engine

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

// echoSub is an option that is always taken and gives its content back.
type echoSub struct {
	code Code
	got  []byte
	n    int
}

func (o *echoSub) Code() Code                  { return o.code }
func (o *echoSub) Allow(*Engine, Side) bool    { return true }
func (o *echoSub) Changed(*Engine, Side, bool) {}
func (o *echoSub) TakesUnagreed() bool         { return true }
func (o *echoSub) Subneg(_ *Engine, b []byte)  { o.got, o.n = bytes.Clone(b), o.n+1 }

// mccp stands for both directions of MCCP: 86 inflates, 87 deflates.
type mccp struct{ echoSub }

func (o *mccp) Subneg(e *Engine, _ []byte) { e.StartInflate() }

// TestFraming is the rules of frame.go, over every division of the input.
func TestFraming(t *testing.T) {
	for _, c := range []struct {
		name, in, data string
		cmds           string
		sub            string // content of subnegotiations of 77
		subs           int
		out            string
		drop           Drop
		drops          uint64
	}{
		{name: "plain", in: "abc", data: "abc"},
		{name: "doubled IAC", in: "a\xff\xffb", data: "a\xffb"},
		{name: "NOP is silent", in: "a\xff\xf1b", data: "ab"},
		{name: "commands", in: "a\xff\xf6\xff\xf4b\xff\xef", data: "ab", cmds: "AYT IP EOR "},
		{name: "no command", in: "\xff\x71", data: "q", drop: DropUnknown, drops: 1},
		{name: "SE outside", in: "\xff\xf0", data: "\xf0"},
		{name: "subnegotiation", in: "x\xff\xfa\x4dab\xff\xffc\xff\xf0y", data: "xy", sub: "ab\xffc", subs: 1},
		{name: "empty content", in: "\xff\xfa\x4d\xff\xf0y", data: "y", subs: 1},
		{name: "broken off by DO", in: "\xff\xfa\x4dab\xff\xfd\x63z", data: "z", out: "\xff\xfc\x63", drop: DropSubnegBroken, drops: 1},
		{name: "broken off by SB", in: "\xff\xfa\x4dab\xff\xfa\x4dc\xff\xf0", sub: "c", subs: 1, drop: DropSubnegBroken, drops: 1},
		{name: "broken off by garbage", in: "\xff\xfa\x4dab\xff\x07", data: "\x07", drop: DropSubnegBroken, drops: 1},
		{name: "no option", in: "\xff\xfa\xff\xf0ok", data: "ok", drop: DropSubnegEmpty, drops: 1},
		{name: "no option, broken off", in: "\xff\xfa\xff\xf6ok", data: "ok", cmds: "AYT ", drop: DropSubnegBroken, drops: 1},
		{name: "option 255", in: "\xff\xfa\xff\xffab\xff\xf0ok", data: "ok", drop: DropSubnegOff, drops: 1},
		{name: "unknown option", in: "\xff\xfa\x4eab\xff\xf0ok", data: "ok", drop: DropSubnegOff, drops: 1},
		{name: "too long", in: "\xff\xfa\x4d" + strings.Repeat("z", 101) + "\xff\xff\xff\xf0ok", data: "ok", drop: DropSubnegLimit, drops: 1},
		{name: "as long as may be", in: "\xff\xfa\x4d" + strings.Repeat("z", 100) + "\xff\xf0ok", data: "ok", sub: strings.Repeat("z", 100), subs: 1},
		{name: "unfinished", in: "ab\xff", data: "ab"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for cut := 0; cut <= len(c.in); cut++ {
				o := &echoSub{code: 77}
				e := New(Config{Options: []Option{o}, Limits: Limits{Subneg: 100}})
				var data []byte
				var cmds string
				for _, part := range []string{c.in[:cut], c.in[cut:]} {
					d, evs := feed(e, []byte(part)...)
					data = append(data, d...)
					for _, ev := range evs {
						if ev.Kind == Cmd {
							cmds += ev.Cmd.String() + " "
						}
					}
				}
				if string(data) != c.data || cmds != c.cmds || string(o.got) != c.sub || o.n != c.subs || string(e.Take()) != c.out ||
					c.drops != 0 && e.Drops()[c.drop] != c.drops || c.drops == 0 && len(e.Drops()) != 0 {
					t.Fatalf("cut at %d: data %q, commands %q, content %q, drops %v", cut, data, cmds, o.got, e.Drops())
				}
			}
		})
	}
}

// TestSubnegMemory: what a subnegotiation without end costs is its limit.
func TestSubnegMemory(t *testing.T) {
	e := New(Config{Options: []Option{&echoSub{code: 77}}, Limits: Limits{Subneg: 1000}})
	feed(e, 255, 250, 77)
	chunk := bytes.Repeat([]byte{'x'}, 4096)
	for range 5000 {
		feed(e, chunk...)
		if cap(e.sb) > 2048 {
			t.Fatalf("%d bytes are kept", cap(e.sb))
		}
	}
	if data, _ := feed(e, 255, 240, 'k'); string(data) != "k" || e.Drops()[DropSubnegLimit] != 1 {
		t.Errorf("data %q, drops %v", data, e.Drops())
	}
}

// TestPlainDataAllocates nothing, nor do single commands in it allocate more
// than their event.
func TestPlainDataAllocates(t *testing.T) {
	e := New(Config{})
	plain := bytes.Repeat([]byte("hello, world\r\n"), 300)
	doubled := bytes.Repeat([]byte("hello\xff\xffworld"), 300)
	n := 0
	for name, b := range map[string][]byte{"plain": plain, "doubled": doubled} {
		allocs := testing.AllocsPerRun(100, func() {
			e.Feed(b)
			for {
				ev, ok := e.Next()
				if !ok {
					break
				}
				n += len(ev.Data)
			}
		})
		if allocs != 0 {
			t.Errorf("%s data: %v allocations", name, allocs)
		}
	}
	dst := make([]byte, 0, 2*len(plain))
	if allocs := testing.AllocsPerRun(100, func() { dst = AppendEscaped(dst[:0], doubled[:3000]) }); allocs != 0 {
		t.Errorf("escaping: %v allocations", allocs)
	}
	if n == 0 {
		t.Error("no data")
	}
}

// TestFlush: a peer that asks and asks makes the engine say that its answers
// should go out, before they are many.
func TestFlush(t *testing.T) {
	e := New(Config{})
	e.Feed(bytes.Repeat([]byte{255, byte(DO), 99}, 20000))
	flushed, most := 0, 0
	for {
		ev, ok := e.Next()
		if !ok {
			break
		}
		if ev.Kind == Flush {
			flushed++
			most = max(most, len(e.Take()))
		}
	}
	if flushed < 3 || most > 2*flushAt {
		t.Errorf("flushed %d times, %d bytes at most", flushed, most)
	}
}

// TestSynch is RFC 854's: data between the notice and the data mark is thrown
// away, commands are not, and a mark that comes while more is urgent is not the
// last one.
func TestSynch(t *testing.T) {
	e := New(Config{Options: []Option{&yes{code: 77, allow: true}}})
	e.Urgent(true)
	data, events := feed(e, []byte("lost\xff\xf4lost\xff\xf7\xff\xfd\x4d\xff\xf2still lost")...)
	if len(data) != 0 || !e.Discarding() {
		t.Fatalf("data %q", data)
	}
	if len(events) != 3 || events[0].Cmd != IP || events[1].Code != 77 || events[2].Cmd != DM {
		t.Errorf("events %v", events)
	}
	e.Urgent(false)
	data, _ = feed(e, []byte("lost\xff\xf2kept")...)
	if string(data) != "kept" || e.Discarding() {
		t.Errorf("data %q", data)
	}
	data, _ = feed(e, []byte("a\xff\xf2b")...) // a mark alone does nothing (RFC 854)
	if string(data) != "ab" {
		t.Errorf("data %q", data)
	}
	if n := e.Drops()[DropSynch]; n != 4+4+1+10+4 {
		t.Errorf("%d dropped", n)
	}
}

// TestSend doubles what must be.
func TestSend(t *testing.T) {
	e := New(Config{})
	e.Write([]byte("a\xffb\xff"))
	e.Command(GA)
	e.Subneg(31, []byte{0, 255}, []byte{255, 1})
	e.Subneg(255, []byte{1})
	want := "a\xff\xffb\xff\xff" + "\xff\xf9" + "\xff\xfa\x1f\x00\xff\xff\xff\xff\x01\xff\xf0" + "\xff\xfa\xff\xff\x01\xff\xf0"
	if got := string(e.Take()); got != want || e.Pending() != 0 {
		t.Errorf("sent %x", got)
	}
	if got := AppendEscaped(nil, []byte("a\xff\xff")); string(got) != "a\xff\xff\xff\xff" {
		t.Errorf("escaped %x", got)
	}
}

func compressed(t *testing.T, kind, s string) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch kind {
	case "zlib":
		w = zlib.NewWriter(&b)
	case "gzip":
		w = gzip.NewWriter(&b)
	default:
		w, _ = flate.NewWriter(&b, 9)
	}
	if _, err := io.WriteString(w, s); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestInflate: what follows the start is compressed, in three forms, and plain
// again behind its end, over random divisions.
func TestInflate(t *testing.T) {
	for _, kind := range []string{"zlib", "gzip", "deflate"} {
		rnd := rand.New(rand.NewPCG(1, 2))
		inner := strings.Repeat("some text \xff\xff", 2000) + "\xff\xf6"
		in := append([]byte("plain\xff\xfa\x56\xff\xf0"), compressed(t, kind, inner)...)
		in = append(in, "after"...)
		for range 20 {
			e := New(Config{Options: []Option{&mccp{echoSub{code: MCCP2}}}})
			var data []byte
			var events []Event
			for rest := in; len(rest) > 0; {
				n := min(len(rest), 1+rnd.IntN(200))
				d, ev := feed(e, bytes.Clone(rest[:n])...)
				data, events, rest = append(data, d...), append(events, ev...), rest[n:]
			}
			if want := "plain" + strings.Repeat("some text \xff", 2000) + "after"; string(data) != want || e.Inflating() {
				t.Fatalf("%s: %d bytes of data, not %d", kind, len(data), len(want))
			}
			if len(events) != 1 || events[0].Cmd != AYT {
				t.Errorf("%s: events %v", kind, events)
			}
		}
	}
}

// TestInflateFaults: a corrupt stream and one that explodes end what can be
// received, and nothing else.
func TestInflateFaults(t *testing.T) {
	bomb := compressed(t, "zlib", strings.Repeat("\x00", 20<<20))
	for want, in := range map[error][]byte{ErrCorrupt: []byte("\x78\x9cnonsense\xff\xff\xff"), ErrRatio: bomb} {
		e := New(Config{Options: []Option{&mccp{echoSub{code: MCCP2}}}})
		data, events := feed(e, append([]byte("\xff\xfa\x56\xff\xf0"), in...)...)
		if len(events) != 1 || events[0].Kind != Fault || !errors.Is(events[0].Value.(error), want) {
			t.Fatalf("events %v", events)
		}
		if len(data) > 2*freeExpansion {
			t.Errorf("%d bytes came out", len(data))
		}
		if data, events := feed(e, []byte("more")...); len(data) != 0 || len(events) != 0 || e.Drops()[DropAfterCorrupt] == 0 {
			t.Errorf("then %q, %v, %v", data, events, e.Drops())
		}
		e.Close()
	}
}

// TestDeflate: what one engine compresses another reads, each Take whole, and
// plain bytes follow the end.
func TestDeflate(t *testing.T) {
	a := New(Config{})
	b := New(Config{Options: []Option{&mccp{echoSub{code: MCCP2}}}})
	pass := func(want string) {
		t.Helper()
		if a.Pending() == 0 {
			t.Error("nothing is pending")
		}
		if data, _ := feed(b, a.Take()...); string(data) != want {
			t.Errorf("%q, not %q", data, want)
		}
	}
	a.Subneg(MCCP2)
	a.StartDeflate()
	a.Write([]byte("one\xff"))
	pass("one\xff")
	a.Write([]byte("two"))
	pass("two")
	a.Write([]byte("three"))
	a.StopDeflate()
	a.Write([]byte("plain"))
	pass("threeplain")
	if len(a.Take()) != 0 || a.Deflating() || b.Inflating() {
		t.Error("not over")
	}
}

// FuzzFeed: nothing that is received makes the engine panic, keep more than its
// limits, or depend on how it was divided.
func FuzzFeed(f *testing.F) {
	f.Add([]byte("plain\xff\xfa\x4dab\xff\xf0\xff\xfd\x4d\xff\xf4"), 3)
	f.Add(append([]byte("\xff\xfa\x56\xff\xf0"), "\x78\x9c\x4b\x04\x00\x00\x62\x00\x62tail"...), 7)
	f.Fuzz(func(t *testing.T, in []byte, cut int) {
		run := func(parts ...[]byte) (string, string) {
			e := New(Config{Options: []Option{&yes{code: 77, allow: true}, &echoSub{code: 78}, &mccp{echoSub{code: MCCP2}}},
				Limits: Limits{Subneg: 64}})
			defer e.Close()
			var data, out []byte
			for _, p := range parts {
				d, _ := feed(e, bytes.Clone(p)...)
				data = append(data, d...)
				out = append(out, e.Take()...)
				if cap(e.sb) > 1024 {
					t.Fatal("the limit was passed")
				}
			}
			return string(data), string(out)
		}
		cut = min(max(cut, 0), len(in))
		d1, o1 := run(in)
		d2, o2 := run(in[:cut], in[cut:])
		if d1 != d2 || o1 != o2 {
			t.Errorf("whole: %q %x; cut at %d: %q %x", d1, o1, cut, d2, o2)
		}
	})
}
