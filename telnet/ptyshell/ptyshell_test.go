package ptyshell

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/option"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "child" {
		child(os.Args[2])
		os.Exit(3)
	}
	os.Exit(m.Run())
}

// child is the program behind the terminal.
func child(mode string) {
	size := func() {
		w, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
		fmt.Println("size", w.Col, w.Row, err)
	}
	switch mode {
	case "size":
		changed := make(chan os.Signal, 10)
		signal.Notify(changed, syscall.SIGWINCH)
		size()
		for range changed {
			size()
		}
	case "signals":
		c := make(chan os.Signal, 10)
		signal.Notify(c, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTSTP)
		fmt.Println("ready")
		for s := range c {
			fmt.Println("got", s)
		}
	case "environ":
		for _, v := range os.Environ() {
			fmt.Println(v)
		}
	case "lines":
		fmt.Print("> ")
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			fmt.Printf("%q\n> ", in.Text())
		}
		fmt.Println("end")
	case "much":
		for i := range 20000 {
			fmt.Println("line", i)
		}
	case "stubborn":
		signal.Ignore(syscall.SIGHUP)
		fmt.Println("pid", os.Getpid())
		select {}
	case "bytes":
		os.Stdout.WriteString("a\rb\r\xffc")
	}
}

// session is a client of a child; it reads everything that comes.
type session struct {
	t *testing.T
	*telnet.Conn
	x    *Exec
	over chan struct{} // the handler has returned
	stop func()
}

var terminal = option.ClientConfig{Terms: []string{"XTERM"}, Size: option.Size{Cols: 100, Rows: 30}}

func serve(t *testing.T, mode string, x *Exec, client option.ClientConfig, cfg telnet.Config) *session {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if x.Logger = slog.New(slog.DiscardHandler); x.Program == "" {
		x.Program, x.Args = os.Args[0], []string{"child", mode}
	}
	cfg.Event = x.Event
	cfg.Server.Env = []option.Var{{Name: "LANG"}, {Name: "LC_ALL"}, {Name: "USER"}, {Name: "COLORTERM"}, {}, {User: true}}
	over := make(chan struct{}, 1)
	s := &telnet.Server{Config: &cfg, Logger: x.Logger, Handler: telnet.HandlerFunc(func(ctx context.Context, c *telnet.Conn) {
		x.ServeTELNET(ctx, c)
		over <- struct{}{}
	})}
	go s.Serve(l)
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	nc.SetDeadline(time.Now().Add(time.Minute))
	c := telnet.NewClientConn(nc, &telnet.Config{Client: client})
	t.Cleanup(func() { c.Close(); s.Close() })
	return &session{t, c, x, over, func() { s.Close() }}
}

// want reads up to the first s, and returns what was before it.
func (p *session) want(s string) string {
	p.t.Helper()
	var got []byte
	for one := make([]byte, 1); ; {
		if _, err := p.Read(one); err != nil {
			p.t.Fatalf("no %q in %q: %v", s, got, err)
		}
		if got = append(got, one[0]); strings.HasSuffix(string(got), s) {
			return strings.TrimSuffix(string(got), s)
		}
	}
}

func (p *session) send(s string) {
	p.t.Helper()
	if _, err := io.WriteString(p, s); err != nil {
		p.t.Fatal(err)
	}
}

func TestWindowSize(t *testing.T) {
	p := serve(t, "size", &Exec{}, terminal, telnet.Config{})
	p.want("size 100 30 <nil>\r\n")
	for _, s := range []option.Size{{Cols: 132, Rows: 43}, {Cols: 20, Rows: 255}} {
		p.Resize(s)
		p.want(fmt.Sprintf("size %d %d <nil>\r\n", s.Cols, s.Rows))
	}
	p.Close()
	<-p.over
}

// TestNoWindowSize: a client that does not tell has 80 columns and 24 lines.
func TestNoWindowSize(t *testing.T) {
	p := serve(t, "size", &Exec{}, option.ClientConfig{}, telnet.Config{})
	p.want("size 80 24 <nil>\r\n")
}

// TestCommandsAreKeys: telnet's commands are what the terminal's keys are.
func TestCommandsAreKeys(t *testing.T) {
	p := serve(t, "signals", &Exec{}, terminal, telnet.Config{})
	p.want("ready\r\n")
	for _, x := range []struct {
		cmd  engine.Command
		want string
	}{{engine.IP, "got interrupt"}, {engine.BRK, "got interrupt"}, {engine.ABORT, "got quit"}, {engine.SUSP, "got stopped"}, {engine.AYT, "[Yes]"}} {
		p.SendCommand(x.cmd)
		p.want(x.want + "\r\n")
	}
	p.send("\x03")
	p.want("got interrupt\r\n")

	p = serve(t, "lines", &Exec{}, terminal, telnet.Config{})
	p.want("> ")
	p.send("wrong")
	p.SendCommand(engine.EL)
	p.send("rightt")
	p.SendCommand(engine.EC)
	p.send("\r\x00")
	p.want("\"right\"\r\n> ")
	p.SendCommand(engine.EOF)
	p.want("end\r\n")
	<-p.over
}

// TestReturns: a Return is one line whatever the client makes of it, and UTF-8
// passes both ways.
func TestReturns(t *testing.T) {
	p := serve(t, "lines", &Exec{}, terminal, telnet.Config{})
	p.want("> ")
	for _, end := range []string{"\r\n", "\r\x00", "\r", "\n", "\r\n"} {
		p.send("hä\u4e2d\x7f\u6587" + end)
		if echoed := p.want("\"hä\u6587\"\r\n> "); !strings.Contains(echoed, "hä") || strings.Contains(echoed, "\"\"") {
			t.Errorf("%q: %q", end, echoed)
		}
	}
}

// TestLineModeIsNotEchoed: who shows what is typed does so alone.
func TestLineModeIsNotEchoed(t *testing.T) {
	p := serve(t, "lines", &Exec{}, terminal, telnet.Config{LineMode: true})
	p.want("> ")
	p.send("once\r\n")
	if got := p.want("> "); got != "\"once\"\r\n" {
		t.Errorf("%q", got)
	}
}

// TestGoAhead: a client that did not agree to do without is told when the
// program waits, once, unless the server never does.
func TestGoAhead(t *testing.T) {
	for _, never := range []bool{false, true} {
		x := &Exec{IdleGA: 10 * time.Millisecond}
		p := serve(t, "lines", x, terminal, telnet.Config{LineMode: true, NeverGA: never})
		var all []byte
		nc := p.NetConn()
		p.Handshake(context.Background())
		p.want("> ")
		p.send("x\r\n")
		for one := make([]byte, 1); !strings.HasSuffix(string(all), "> ") && !strings.HasSuffix(string(all), "> \xff\xf9"); {
			if _, err := nc.Read(one); err != nil {
				t.Fatal(err)
			}
			all = append(all, one[0])
		}
		if never {
			io.WriteString(nc, "\x04")
			rest, _ := io.ReadAll(nc)
			if all = append(all, rest...); strings.Contains(string(all), "\xff\xf9") {
				t.Errorf("%q", all)
			}
			continue
		}
		for two := make([]byte, 2); !strings.HasSuffix(string(all), "\xff\xf9"); {
			if _, err := io.ReadFull(nc, two); err != nil {
				t.Fatalf("%q %v", all, err)
			}
			all = append(all, two...)
		}
	}
}

// TestEnvironment: nothing of the client's but how it shows text, nothing of the
// host's but what a program needs.
func TestEnvironment(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "/run/credentials")
	t.Setenv("SECRET_KEY", "x")
	t.Setenv("USER", "server")
	client := terminal
	client.Env = []option.Var{{Name: "LANG", Value: "de_DE.UTF-8"}, {Name: "LC_ALL", Value: "../../tmp/evil"}, {Name: "USER", Value: "-f root"},
		{Name: "CREDENTIALS_DIRECTORY", Value: "/tmp/evil"}, {Name: "LD_PRELOAD", Value: "/tmp/evil.so"}, {Name: "HOME", Value: "/tmp/evil"},
		{Name: "PATH", Value: "/tmp/evil"}, {Name: "COLORTERM", Value: "truecolor"}, {Name: "TERM", Value: "evil", User: true}}
	p := serve(t, "environ", &Exec{}, client, telnet.Config{})
	all, err := io.ReadAll(p)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Fields(string(all))
	for _, v := range []string{"TERM=xterm", "LANG=de_DE.UTF-8", "COLORTERM=truecolor", "USER=server", "PATH=" + os.Getenv("PATH")} {
		if !slices.Contains(got, v) {
			t.Errorf("%s is missing in %q", v, got)
		}
	}
	allowed := append(append([]string{"TERM"}, ours...), theirs...)
	for _, v := range got {
		if name, _, _ := strings.Cut(v, "="); !slices.Contains(allowed, name) || strings.Contains(v, "evil") || strings.Contains(v, "-f") {
			t.Errorf("%s reached the program", v)
		}
	}
}

// TestEnvironTable goes past the wire.
func TestEnvironTable(t *testing.T) {
	for _, x := range []struct {
		name, value, want string
	}{
		{"USER", "-f root", ""}, // CVE-2026-24061
		{"USER", "root", ""},
		{"CREDENTIALS_DIRECTORY", "/tmp", ""}, // CVE-2026-28372
		{"LANG", "-f root", ""},
		{"LANG", "/tmp/x", ""},
		{"LANG", "..", ""},
		{"LANG", "a b", ""},
		{"LANG", "C\nLD_PRELOAD=x", ""},
		{"LANG", strings.Repeat("x", 65), ""},
		{"LANG", "de_DE.UTF-8@euro", "LANG=de_DE.UTF-8@euro"},
		{"LC_CTYPE", "C", "LC_CTYPE=C"},
		{"lang", "C", ""},
		{"LD_PRELOAD", "x", ""},
		{"TERM", "xterm", ""},
	} {
		got := environ(nil, &telnet.Info{Term: "x", Charset: "UTF-8", Env: []option.Var{{Name: x.name, Value: x.value}}})
		want := []string{"TERM=x"}
		if x.want != "" {
			want = append(want, x.want)
		}
		if !strings.HasPrefix(x.want, "LANG") {
			want = append(want, "LANG=C.UTF-8")
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s=%q: %q", x.name, x.value, got)
		}
	}
	// The first of two of a name counts: of what the client says twice, and
	// against the host's.
	got := environ([]string{"HOME=/", "LANG=x", "broken"}, &telnet.Info{Env: []option.Var{{Name: "LANG", Value: "a"}, {Name: "LANG", Value: "b", User: true}}})
	if !slices.Equal(got, []string{"HOME=/", "TERM=dumb", "LANG=a"}) {
		t.Errorf("%q", got)
	}
	for in, want := range map[string]string{"XTERM-256COLOR": "xterm-256color", "vtnt": "ansi", "": "dumb", "../x": "dumb", "-f": "dumb", "a/b": "dumb", "unknown": "dumb"} {
		if got := term(in); got != want {
			t.Errorf("term %q: %q", in, got)
		}
	}
	for in, want := range map[string]string{"utf-8": "C.UTF-8", "ISO-8859-15": "en_US.ISO-8859-15", "a/b": "C", "": "C"} {
		if got := locale(in); got != want {
			t.Errorf("locale %q: %q", in, got)
		}
	}
}

// TestLastWords: all that a program wrote before it ended arrives, however slow
// the client.
func TestLastWords(t *testing.T) {
	p := serve(t, "much", &Exec{}, terminal, telnet.Config{})
	all, err := io.ReadAll(p)
	if err != nil || strings.Count(string(all), "\r\n") != 20000 || !strings.HasSuffix(string(all), "line 19999\r\n") {
		t.Errorf("%d bytes, %v", len(all), err)
	}
	<-p.over
}

// TestEnds: a program that does not go when its client has gone, or when the
// server ends, is killed.
func TestEnds(t *testing.T) {
	for _, end := range []func(p *session){func(p *session) { p.Close() }, func(p *session) { p.stop() }} {
		p := serve(t, "stubborn", &Exec{}, terminal, telnet.Config{})
		p.want("pid ")
		var pid int
		fmt.Sscan(p.want("\r\n"), &pid)
		end(p)
		<-p.over
		if err := syscall.Kill(pid, 0); pid == 0 || err != syscall.ESRCH {
			t.Errorf("process %d: %v", pid, err)
		}
		if len(p.x.sessions) != 0 {
			t.Error("a session is left")
		}
	}
}

// TestBareCR: for the NVT a CR is followed by LF or NUL, and 255 is doubled.
func TestBareCR(t *testing.T) {
	var f crFolder
	got := ""
	for _, s := range []string{"a\rb\r", "\nc\r", "d\r\r\n"} {
		got += string(f.append(nil, []byte(s)))
	}
	if got != "a\r\x00b\r\nc\r\x00d\r\x00\r\n" {
		t.Errorf("%q", got)
	}
	p := serve(t, "bytes", &Exec{}, terminal, telnet.Config{})
	if all, err := io.ReadAll(p); err != nil || string(all) != "a\rb\r\xffc" { // with BINARY
		t.Errorf("%q %v", all, err)
	}
}

func TestCannotRun(t *testing.T) {
	p := serve(t, "", &Exec{Program: "/nonexistent"}, terminal, telnet.Config{})
	if all, err := io.ReadAll(p); err != nil || string(all) != "The program cannot be run.\r\n" {
		t.Errorf("%q %v", all, err)
	}
}

// TestCommandAfterSilence: a command is a key long after what was typed before,
// whose deadline has passed.
func TestCommandAfterSilence(t *testing.T) {
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer slave.Close()
	if err := prepare(slave, false, false, "UTF-8"); err != nil {
		t.Fatal(err)
	}
	master.SetWriteDeadline(time.Unix(1, 0))
	command(master, engine.EC)
	slave.SetReadDeadline(time.Now().Add(30 * time.Second))
	got := make([]byte, 1)
	if _, err := slave.Read(got); err != nil || got[0] != 0x7f {
		t.Errorf("%q %v", got, err)
	}
}
