package traceview

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gdamore/tcell/v2"

	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/probe"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// example is a trace of three hops, the second silent, the third with two
// routers, labels, and a packet that was changed on the way.
func example() probe.TraceResult {
	var one, three probe.Hop
	one = probe.Hop{TTL: 1, Sent: 4, Received: 4, Hosts: []probe.Host{{Addr: addr("192.0.2.1"), Kind: probe.TTLExpired, Count: 4, ReplyTTL: 64, Quoted: 60}}}
	three = probe.Hop{TTL: 3, Sent: 4, Received: 3, Hosts: []probe.Host{
		{Addr: addr("192.0.2.4"), Kind: probe.NoRouteHost, Count: 1, ICMPType: 3, ICMPCode: 13},
		{Addr: addr("192.0.2.3"), Kind: probe.TTLExpired, Count: 2, Quoted: 60, Changes: []probe.Change{{Field: "tos", Sent: 0xb8}},
			Extensions: icmp.Extensions{MPLS: []icmp.MPLSLabel{{Label: 100, TC: 1, Bottom: true, TTL: 2}}}}}}
	for i := range 4 {
		one.Stats.Add(time.Duration(i+1) * time.Millisecond)
	}
	return probe.TraceResult{Dst: addr("192.0.2.9"), Src: addr("192.0.2.100"), Hops: []probe.Hop{one, {TTL: 2, Sent: 4}, three}, End: probe.EndUnreachable}
}

// controls writes down what is done.
type controls []string

func (c *controls) Pause()  { *c = append(*c, "pause") }
func (c *controls) Resume() { *c = append(*c, "resume") }
func (c *controls) Reset()  { *c = append(*c, "reset") }

// terminal is a view on a screen of that size.
type terminal struct {
	*View
	t *testing.T
	s tcell.SimulationScreen
	c controls
}

func newTerminal(t *testing.T, w, h int) *terminal {
	x := &terminal{View: New(example), t: t, s: tcell.NewSimulationScreen("UTF-8")}
	if err := x.s.Init(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.s.Fini)
	x.s.SetSize(w, h)
	x.Title, x.Dst, x.Control = "a trace", "far.example", &x.c
	x.Clock = func() time.Time { return time.Unix(0, 0).UTC() }
	x.Explain = func(*probe.Host) string { return "Packet filtered" }
	x.Draw(x.s)
	return x
}

// screen returns the lines.
func (x *terminal) screen() string {
	cells, w, h := x.s.GetContents()
	var b strings.Builder
	for y := range h {
		var line []rune
		for i := range w {
			r := cells[y*w+i].Runes
			if len(r) == 0 {
				r = []rune{' '}
			}
			line = append(line, r[0])
		}
		b.WriteString(strings.TrimRight(string(line), " "))
		b.WriteByte('\n')
	}
	return b.String()
}

// keys types a text.
func (x *terminal) keys(text string) {
	x.t.Helper()
	for _, r := range text {
		k := tcell.NewEventKey(tcell.KeyRune, r, 0)
		if r == '\n' {
			k = tcell.NewEventKey(tcell.KeyEnter, r, 0)
		}
		if x.Key(k) {
			x.t.Fatalf("%q ends it", r)
		}
	}
	x.Draw(x.s)
}

func (x *terminal) has(want ...string) {
	x.t.Helper()
	s := x.screen()
	for _, w := range want {
		if !strings.Contains(s, w) {
			x.t.Errorf("no %q in\n%s", w, s)
		}
	}
}

func (x *terminal) lacks(list ...string) {
	x.t.Helper()
	s := x.screen()
	for _, w := range list {
		if strings.Contains(s, w) {
			x.t.Errorf("%q in\n%s", w, s)
		}
	}
}

// TestMode: the view begins with what it is told to.
func TestMode(t *testing.T) {
	x := newTerminal(t, 100, 24)
	x.keys("d")
	strip := x.screen()
	y := newTerminal(t, 100, 24)
	y.Mode = 1
	y.Draw(y.s)
	if y.screen() != strip || strings.Contains(strip, "StDev") {
		t.Errorf("%s\ninstead of\n%s", y.screen(), strip)
	}
}

func TestFigures(t *testing.T) {
	x := newTerminal(t, 100, 24)
	x.has("a trace", "1970-01-01T00:00:00+0000", "192.0.2.100 > far.example (192.0.2.9)", "unreachable", " Host",
		"  Loss%    Snt   Last    Avg   Best   Wrst  StDev",
		"  1. 192.0.2.1", "   0.0%      4    4.0    2.5    1.0    4.0    1.3",
		"  2. ???", " 100.0%", "  3. 192.0.2.3", "[MPLS: Lbl 100 TC 1 S 1 TTL 2]", "192.0.2.4  1 of 3", "[Packet filtered]",
		"[DSCP bleached from 46, behind hop 1]")
	x.keys("j")
	x.has("   Drop    Rcv    Avg  Gmean   Jttr   Javg   Jmax   Jint")
	x.keys("j")
	x.has("StDev")
	// The fields are edited.
	x.keys("o")
	x.has("Fields", "LS NABWV")
	for range 9 {
		x.Key(tcell.NewEventKey(tcell.KeyBackspace2, 0, 0))
	}
	x.keys("DRZ\n")
	x.has("there is no field 'Z'")
	if x.Order != DefaultOrder {
		t.Errorf("fields %q", x.Order)
	}
	x.keys("o")
	for range 9 {
		x.Key(tcell.NewEventKey(tcell.KeyBackspace, 0, 0))
	}
	x.keys("DR\n")
	x.has("   Drop    Rcv\n")
	x.keys("oL")
	x.Key(tcell.NewEventKey(tcell.KeyEscape, 0, 0))
	if x.Order != "DR" {
		t.Errorf("fields %q after Escape", x.Order)
	}
}

func TestKeys(t *testing.T) {
	x := newTerminal(t, 100, 24)
	x.keys("p")
	x.has("paused")
	x.keys(" p p r")
	if want := (controls{"pause", "resume", "pause", "resume", "pause", "resume", "reset"}); !slices.Equal(x.c, want) {
		t.Errorf("%v, want %v", x.c, want)
	}
	x.keys("p")
	x.keys("?")
	x.has("Fields:", "Jint", "scroll")
	x.keys("p")
	x.has("  1. 192.0.2.1")
	if len(x.c) != 8 {
		t.Errorf("the key that ends the help does something: %v", x.c)
	}
	x.keys("z")
	x.has("no AS numbers")
	x.AS, _ = ReadAS(strings.NewReader("192.0.2.0/24\t64500\tExample\n"))
	x.keys("z")
	x.has("  1. AS64500    192.0.2.1", "  2. AS???      ???")
	x.keys("z")
	x.lacks("AS64500")
	x.keys("n")
	x.keys("n")
	x.has("no names")
	for _, k := range []*tcell.EventKey{tcell.NewEventKey(tcell.KeyRune, 'q', 0), tcell.NewEventKey(tcell.KeyCtrlC, 0, 0), tcell.NewEventKey(tcell.KeyEscape, 0, 0)} {
		if !x.Key(k) {
			t.Errorf("%v does not end it", k.Name())
		}
	}
}

func TestStrips(t *testing.T) {
	x := newTerminal(t, 100, 24)
	for i := range 1000 {
		d := 10 * time.Millisecond
		if i%100 == 99 {
			d = 640 * time.Millisecond
		}
		x.Add(1, probe.Result{Kind: probe.Reply, RTT: d})
		if i%10 == 0 {
			x.Add(3, probe.Result{Kind: probe.NoReply})
		} else {
			x.Add(3, probe.Result{Kind: probe.TTLExpired, RTT: 165 * time.Millisecond})
		}
	}
	x.Add(1, probe.Result{Kind: probe.NetworkDown})
	x.keys("d")
	x.has("Last 59 probes", "  1. 192.0.2.1", strings.Repeat(".", 59)+"\n", "?.........?.........?", ". answered   ? lost")
	x.keys("d")
	x.has(strings.Repeat("1", 58)+"8\n", "?555555555?", "Scale (ms): 1<=10.0  2<=40.0", "8<=640.0  ? lost")
	x.keys("r")
	x.lacks("555")
	x.keys("d")
	x.has("StDev")
}

// TestSmall: any size is good for something, and a list that is too long scrolls.
func TestSmall(t *testing.T) {
	for _, size := range [][2]int{{1, 1}, {5, 2}, {20, 4}, {30, 5}, {200, 3}} {
		x := newTerminal(t, size[0], size[1])
		x.keys("dd?")
		x.keys(" ox\n+-")
	}
	x := newTerminal(t, 80, 8)
	x.has("  1. 192.0.2.1")
	x.lacks("Packet filtered")
	for range 20 {
		x.Key(tcell.NewEventKey(tcell.KeyDown, 0, 0))
	}
	x.Draw(x.s)
	x.lacks("  1. 192.0.2.1")
	x.has("DSCP bleached")
	x.Key(tcell.NewEventKey(tcell.KeyPgUp, 0, 0))
	x.keys("-")
	x.has("  1. 192.0.2.1")
}

func TestLoopShown(t *testing.T) {
	x := newTerminal(t, 100, 24)
	x.Source = func() probe.TraceResult {
		r := probe.TraceResult{End: probe.EndLoop}
		for i, a := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.2"} {
			r.Hops = append(r.Hops, probe.Hop{TTL: i + 1, Hosts: []probe.Host{{Addr: addr(a), Count: 1}}})
		}
		return r
	}
	x.Draw(x.s)
	x.has("loop: 192.0.2.2 > 192.0.2.3 > 192.0.2.2")
}

// TestNames: each is asked for once, what comes is shown, and cannot write to the
// terminal what it likes.
func TestNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := make(chan netip.Addr, 10)
		answer := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		woken := make(chan struct{}, 10)
		n := NewNames(ctx, func(ctx context.Context, a netip.Addr) ([]string, error) {
			asked <- a
			select {
			case <-answer:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			if a == addr("192.0.2.3") {
				return nil, errors.New("no such host")
			}
			return []string{"gw.example\x1b[2J"}, nil
		}, func() { woken <- struct{}{} })
		x := newTerminal(t, 100, 24)
		x.Names = n
		x.Draw(x.s)
		x.Draw(x.s)
		synctest.Wait()
		if len(asked) != 3 {
			t.Errorf("%d asked for, want 3", len(asked))
		}
		x.has("  1. 192.0.2.1")
		close(answer)
		n.Wait(ctx)
		x.Draw(x.s)
		x.has("  1. gw.example?[2J", "  3. 192.0.2.3")
		if len(woken) != 2 {
			t.Errorf("woken %d times", len(woken))
		}
		x.keys("b")
		x.has("  1. gw.example?[2J (192.0.2.1)")
		x.keys("n")
		x.lacks("gw.example")
		cancel()
		if n.Of(addr("192.0.2.77")) != "" || len(asked) != 3 {
			t.Error("asks after the end")
		}
	})
}

// TestRun: it draws what is new, takes keys, and ends with the trace.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTerminal(t, 100, 24)
		done := make(chan struct{})
		quit := make(chan bool, 1)
		go func() { quit <- x.Run(t.Context(), x.s, done) }()
		synctest.Wait()
		x.s.InjectKey(tcell.KeyRune, 'p', 0)
		synctest.Wait()
		x.has("paused")
		x.s.InjectKey(tcell.KeyRune, 'd', 0)
		synctest.Wait()
		x.lacks("....")
		for range 5 {
			x.Add(1, probe.Result{Kind: probe.Reply})
		}
		time.Sleep(pace)
		synctest.Wait()
		x.has(".....\n")
		x.s.InjectKey(tcell.KeyRune, 'q', 0)
		if !<-quit {
			t.Error("q does not end it")
		}
		go func() { quit <- x.Run(t.Context(), x.s, done) }()
		close(done)
		if <-quit {
			t.Error("the end of the trace is told as the user's")
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { quit <- x.Run(ctx, x.s, make(chan struct{})) }()
		cancel()
		if <-quit {
			t.Error("the end of the context is told as the user's")
		}
	})
}
