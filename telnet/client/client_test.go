package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/socket/kernel"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/option"
)

const patience = 30 * time.Second

type network interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
	Listen(network, address string) (net.Listener, error)
}

// serve starts a server and returns its port.
func serve(t *testing.T, n network, s *telnet.Server) string {
	t.Helper()
	l, err := n.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Logger = slog.New(slog.DiscardHandler)
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func urgent(c net.Conn) telnet.Urgent {
	if u, ok := kernel.UrgentOf(c); ok {
		return u
	}
	return nil
}

// screen keeps what is written to it.
type screen struct {
	mu   sync.Mutex
	text []byte
	more chan struct{}
}

func newScreen() *screen { return &screen{more: make(chan struct{}, 1)} }

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = append(s.text, p...)
	select {
	case s.more <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.text)
}

// await waits for a text and forgets what was up to its end, which it returns.
func (s *screen) await(t *testing.T, want string) string {
	t.Helper()
	end := time.After(patience)
	for {
		s.mu.Lock()
		if i := bytes.Index(s.text, []byte(want)); i >= 0 {
			got := string(s.text[:i+len(want)])
			s.text = s.text[i+len(want):]
			s.mu.Unlock()
			return got
		}
		s.mu.Unlock()
		select {
		case <-s.more:
		case <-end:
			t.Fatalf("no %q in %q", want, s)
		}
	}
}

// lines repeats lines until "quit", and asks for a password at "login".
var lines = telnet.HandlerFunc(func(_ context.Context, c *telnet.Conn) {
	x := c.Text()
	for {
		x.Prompt("> ")
		s, err := x.ReadLine()
		switch {
		case err != nil || s == "quit":
			return
		case s == "login":
			s, err = x.ReadPassword("secret: ")
			if err != nil {
				return
			}
		}
		x.Printf("you said %q\n", s)
	}
})

func runContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// TestPiped: a script talks to a server, over the stack and over the kernel.
func TestPiped(t *testing.T) {
	st := stack.New(stack.Config{})
	defer st.Close()
	for name, n := range map[string]network{"stack": socket.Net(st), "kernel": &kernel.Network{}} {
		t.Run(name, func(t *testing.T) {
			port := serve(t, n, &telnet.Server{Handler: lines})
			var out, errs, script bytes.Buffer
			c := New(Config{Host: "127.0.0.1", Port: port, Dial: n.DialContext, In: strings.NewReader("hällo\n\x1dnot a command\nquit\n"), Out: &out, Err: &errs,
				Escape: 0x1d, Typescript: &script, Telnet: telnet.Config{Urgent: urgent}})
			if err := c.Run(runContext(t)); err != nil {
				t.Fatal(err)
			}
			if s := out.String(); !strings.Contains(s, "you said \"hällo\"\r\n") || !strings.Contains(s, `you said "\x1dnot a command"`) || s != script.String() {
				t.Errorf("%q", s)
			}
			if s := errs.String(); !strings.Contains(s, "Trying 127.0.0.1 port "+port) || !strings.Contains(s, "Connected to 127.0.0.1.") ||
				!strings.Contains(s, "closed by foreign host") || strings.Contains(s, "Escape") {
				t.Errorf("%q", s)
			}
		})
	}
}

// TestPipeBytes: what goes through pipes is not changed where both have agreed
// to BINARY; else, and only without ModeRaw, lines get their CR, over any
// division of the input.
func TestPipeBytes(t *testing.T) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	var n kernel.Network
	for _, tc := range []struct {
		name string
		ask  []telnet.Ask
		mode Mode
		in   []string
		want string
	}{
		{"binary", []telnet.Ask{{Side: engine.Us, Code: engine.Binary}, {Side: engine.Him, Code: engine.Binary}}, ModeAuto, []string{string(all)}, string(all)},
		{"raw", nil, ModeRaw, []string{string(all)}, string(all)},
		{"lines", nil, ModeAuto, []string{"a\nb\r", "\nc\r", "d\n"}, "a\r\nb\r\nc\r\x00d\r\n"},
	} {
		got := make(chan string, 1)
		port := serve(t, &n, &telnet.Server{Config: &telnet.Config{Passive: true, Enable: tc.ask}, Handler: telnet.HandlerFunc(func(ctx context.Context, c *telnet.Conn) {
			for _, a := range tc.ask {
				if err := c.WaitFor(ctx, func(e *engine.Engine) bool { return e.On(a.Side, a.Code) }); err != nil {
					t.Error(err)
				}
			}
			c.Write([]byte("go"))
			b := make([]byte, len(tc.want))
			io.ReadFull(c, b)
			got <- string(b)
			c.Write(b)
		})})
		var out bytes.Buffer
		in := make(pieces, len(tc.in))
		for i, s := range tc.in {
			in[i] = []byte(s)
		}
		c := New(Config{Host: "127.0.0.1", Port: port, Dial: n.DialContext, In: &in, Out: &out, Err: io.Discard, Mode: tc.mode})
		if err := c.Run(runContext(t)); err != nil {
			t.Error(tc.name, err)
		}
		if g := <-got; g != tc.want || out.String() != "go"+tc.want {
			t.Errorf("%s: arrived %q, came back %q", tc.name, g, out.String())
		}
	}
}

// pieces is a Reader of them.
type pieces [][]byte

func (p *pieces) Read(b []byte) (int, error) {
	if len(*p) == 0 {
		return 0, io.EOF
	}
	n := copy(b, (*p)[0])
	*p = (*p)[1:]
	return n, nil
}

// TestCommandsFromPipe: without a host the input begins with commands; what
// follows open is the session's, and a command that fails ends the script.
func TestCommandsFromPipe(t *testing.T) {
	var n kernel.Network
	port := serve(t, &n, &telnet.Server{Handler: lines})
	var out bytes.Buffer
	in := pieces{[]byte("environ define COLOR blue\nop 127.0.0.1 " + port + "\nhello\n"), []byte("quit\n")}
	c := New(Config{Dial: n.DialContext, In: &in, Out: &out, Err: io.Discard})
	if err := c.Run(runContext(t)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), `you said "hello"`) {
		t.Errorf("%q", out.String())
	}
	for script, want := range map[string]string{
		strings.Repeat("x", 100<<10): "without an end",
		"frobnicate\n":               "not understood", "s\n": "ambiguous", "close\n": "not connected", "send ayt\n": "not connected", "logout\n": "not connected",
		"status\n": "not connected", "mode\n": "not understood", "set escape long\n": "want one character", "set\n": "not understood",
		"environ export NOBODY\n": "no such variable", "environ define\n": "not understood", "toggle nothing\n": "not understood",
		"send do\n": "not connected", "z\n": "no terminal", "open\n": "not understood", "open 127.0.0.1 1\n": "refused",
		"unset escape\nset escape ^A\ntoggle crlf\nset crmod\nunset crmod\ndisplay\nhelp\n?\nsend ?\ntoggle ?\nslc ?\nenviron ?\nenviron\n" +
			"environ define A b c\nenviron unexport A\nenviron export A\nenviron list\nenviron undefine A\nmode line\nmode auto\nfrob\n": "frob: not understood",
	} {
		var errs bytes.Buffer
		err := New(Config{Dial: n.DialContext, In: strings.NewReader(script), Out: io.Discard, Err: &errs}).Run(runContext(t))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", script, err)
		}
		if strings.Contains(want, "frob") && (!strings.Contains(errs.String(), "* A=b c\n") || !strings.Contains(errs.String(), "crlf       on") ||
			!strings.Contains(errs.String(), "escape     ^A")) {
			t.Errorf("%s", &errs)
		}
		for line := range strings.Lines(errs.String()) {
			if len(line) > 81 {
				t.Errorf("%q is broken on a terminal of 80 columns", line)
			}
		}
	}
}

// TestEnds: the errors that a session may end with.
func TestEnds(t *testing.T) {
	var n kernel.Network
	hold := func(ctx context.Context, c *telnet.Conn) { io.Copy(io.Discard, c) }
	port := serve(t, &n, &telnet.Server{Handler: telnet.HandlerFunc(hold)})
	// The program is told to end.
	ctx, cancel := context.WithCancel(context.Background())
	errs := newScreen()
	r, w := io.Pipe()
	defer w.Close()
	done := make(chan error, 1)
	go func() {
		done <- New(Config{Host: "127.0.0.1", Port: port, Dial: n.DialContext, In: r, Out: io.Discard, Err: errs}).Run(ctx)
	}()
	errs.await(t, "Connected")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	// SIGINT from a pipe.
	signals := make(chan os.Signal, 1)
	go func() {
		done <- New(Config{Host: "127.0.0.1", Port: port, Dial: n.DialContext, In: r, Out: io.Discard, Err: errs, Signals: signals}).Run(context.Background())
	}()
	errs.await(t, "Connected")
	signals <- os.Interrupt
	if err := <-done; err != nil {
		t.Error(err)
	}
	// No connection in time, and a SIGINT before there is one.
	never := func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
	err := New(Config{Host: "host", Dial: never, Timeout: time.Millisecond, In: r, Out: io.Discard, Err: io.Discard}).Run(runContext(t))
	if err == nil || !strings.Contains(err.Error(), "no connection within 1ms") {
		t.Error(err)
	}
	signals <- os.Interrupt
	if err := New(Config{Host: "host", Dial: never, In: r, Out: io.Discard, Err: io.Discard, Signals: signals}).Run(runContext(t)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	// What is no text.
	bad := telnet.HandlerFunc(func(_ context.Context, c *telnet.Conn) { c.Write([]byte("a\xfeb")); io.Copy(io.Discard, c) })
	port = serve(t, &n, &telnet.Server{Config: &telnet.Config{Passive: true}, Handler: bad})
	err = New(Config{Host: "127.0.0.1", Port: port, Dial: n.DialContext, In: r, Out: io.Discard, Err: io.Discard, Text: true, Errors: Strict}).Run(runContext(t))
	if !errors.Is(err, ErrEncoding) {
		t.Error(err)
	}
}

// TestConversion: characters in another set, those that are none, and those
// beyond ASCII without BINARY.
func TestConversion(t *testing.T) {
	var n kernel.Network
	for _, tc := range []struct {
		charset string
		errors  Errors
		seven   bool
		want    string // of what is shown
		got     string // at the other end
	}{
		{"", Replace, false, "1\r\x0b\r\n\ufffd", "ä€\r\n"},
		{"", Ignore, false, "1\r\x0b\r\n", "ä€\r\n"},
		{"CP437", Replace, false, "1\r\x0b\r\n■", "\x84\x1a\r\n"},
		{"", Replace, true, "1\r\x0b\r\n\ufffd", "??\r\n"},
	} {
		got := make(chan string, 1)
		port := serve(t, &n, &telnet.Server{Config: &telnet.Config{Passive: true}, Handler: telnet.HandlerFunc(func(_ context.Context, c *telnet.Conn) {
			c.Write([]byte("1\r\x00\x0b\r\n\xfe"))
			b := make([]byte, len(tc.got))
			io.ReadFull(c, b)
			got <- string(b)
		})})
		var out bytes.Buffer
		in := pieces{[]byte("\xc3"), []byte("\xa4\xe2\x82"), []byte("\xac\n")} // characters in pieces
		c := New(Config{Host: "127.0.0.1", Port: port, Dial: n.DialContext, In: &in, Out: &out, Err: io.Discard, Text: true,
			Errors: tc.errors, SevenBit: tc.seven, Telnet: telnet.Config{Charset: tc.charset}})
		if err := c.Run(runContext(t)); err != nil {
			t.Error(err)
		}
		if g := <-got; g != tc.got || out.String() != tc.want {
			t.Errorf("%+v: arrived %q, shown %q", tc, g, out.String())
		}
	}
}

// TestWanted: the terminal's state for the options.
func TestWanted(t *testing.T) {
	for _, tc := range []struct {
		feed            string
		mode            Mode
		line, echo, sig bool
	}{
		{"", ModeAuto, true, true, true},
		{"\xff\xfb\x01", ModeAuto, true, false, true},
		{"\xff\xfb\x03", ModeAuto, false, true, false},
		{"\xff\xfb\x01\xff\xfb\x03", ModeAuto, false, false, false},
		{"\xff\xfb\x01\xff\xfb\x03", ModeLine, true, false, true},
		{"", ModeRaw, false, true, false},
		{"\xff\xfd\x22\xff\xfa\x22\x01\x03\xff\xf0", ModeAuto, true, true, true},
		{"\xff\xfb\x03\xff\xfd\x22\xff\xfa\x22\x01\x01\xff\xf0", ModeAuto, true, true, false},
		{"\xff\xfd\x22\xff\xfa\x22\x01\x00\xff\xf0", ModeAuto, false, true, false},
	} {
		e := engine.New(engine.Config{Role: engine.Client, Options: option.Client(option.ClientConfig{})})
		e.Feed([]byte(tc.feed))
		for ok := true; ok; _, ok = e.Next() {
		}
		if s := wanted(e, tc.mode, 0x1d, false); s.line != tc.line || s.echo != tc.echo || s.sig != tc.sig || s.linemode != strings.Contains(tc.feed, "\x22") {
			t.Errorf("%q %v: %+v", tc.feed, tc.mode, s)
		}
	}
	// localchars: signals in every mode.
	if e := engine.New(engine.Config{}); wanted(e, ModeRaw, 0, false).sig || !wanted(e, ModeRaw, 0, true).sig {
		t.Error("localchars")
	}
	// Flow control (RFC 1372).
	for feed, want := range map[string]flow{"": flowUnsaid, "\xff\xfd\x21": flowOn, "\xff\xfd\x21\xff\xfa\x21\x00\xff\xf0": flowOff, "\xff\xfd\x21\xff\xfa\x21\x02\xff\xf0": flowAny} {
		e := engine.New(engine.Config{Role: engine.Client, Options: option.Client(option.ClientConfig{})})
		e.Feed([]byte(feed))
		for ok := true; ok; _, ok = e.Next() {
		}
		if s := wanted(e, ModeAuto, 0, false); s.flow != want {
			t.Errorf("%q: %+v", feed, s.flow)
		}
	}
}

func TestEchoed(t *testing.T) {
	if got := string(echoed([]byte("aä\r\x7f\x03\t\b"))); got != "aä\r\n\b \b^C\t\b \b" {
		t.Errorf("%q", got)
	}
	var r session
	if got := string(r.crToCRLF([]byte("a\rb\r"))) + string(r.crToCRLF([]byte("\nc\n"))); got != "a\r\nb\r\nc\n" {
		t.Errorf("%q", got)
	}
	for s, want := range map[string]byte{"^]": 0x1d, "^a": 1, "^A": 1, "~": '~', "off": 0, "^?": 0x7f, "^^": 0x1e} {
		if b, err := ParseEscape(s); err != nil || b != want {
			t.Errorf("%s: %d %v", s, b, err)
		}
	}
	for _, s := range []string{"", "ab", "^é", " ", "^1"} {
		if b, err := ParseEscape(s); err == nil {
			t.Errorf("%q: %d", s, b)
		}
	}
}

// FuzzPrompt: no commands hang or harm the program.
func FuzzPrompt(f *testing.F) {
	f.Add("open a b\nset escape ^]\nenviron define A \x00\xff\ntoggle b\n")
	f.Add("se cr\ndisp\nunset autos\nenv exp A\nq")
	refuse := func(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed }
	f.Fuzz(func(t *testing.T, script string) {
		ctx := runContext(t)
		New(Config{Dial: refuse, In: strings.NewReader(script), Out: io.Discard, Err: io.Discard}).Run(ctx)
		if ctx.Err() != nil {
			t.Error("it does not end")
		}
	})
}
