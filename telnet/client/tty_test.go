package client

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/socket/kernel"
	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/option"
)

// user sits at a terminal that a Client runs on.
type user struct {
	t       *testing.T
	keys    *os.File // the far end of the terminal
	term    *os.File
	signals chan os.Signal
	*screen
	done chan error
	c    *Client
	stop context.CancelFunc // as SIGTERM does
}

// sit opens a terminal of 100 by 30 and runs a Client on it.
func sit(t *testing.T, cfg Config) *user {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		lab.Lacks(t, err)
	}
	n := 0
	withFD(t, keys, func(fd int) (err error) {
		if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err == nil {
			n, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		}
		return err
	})
	term, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	u := &user{t, keys, term, make(chan os.Signal, 1), newScreen(), make(chan error, 1), nil, nil}
	u.resize(100, 30)
	go io.Copy(u.screen, keys)
	var network kernel.Network
	if cfg.Dial == nil {
		cfg.Dial = network.DialContext
	}
	cfg.In, cfg.Out, cfg.Err, cfg.Signals = term, term, term, u.signals
	if cfg.Escape == 0 {
		cfg.Escape = 0x1d
	}
	cfg.Telnet.Urgent = urgent
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	u.c, u.stop = New(cfg), cancel
	go func() { u.done <- u.c.Run(ctx) }()
	t.Cleanup(func() { cancel(); keys.Close(); term.Close() })
	return u
}

func withFD(t *testing.T, f *os.File, do func(fd int) error) {
	t.Helper()
	if err := (&tty{f: f}).control(do); err != nil {
		t.Fatal(err)
	}
}

func (u *user) typed(s string) {
	u.t.Helper()
	if _, err := io.WriteString(u.keys, s); err != nil {
		u.t.Fatal(err)
	}
}

func (u *user) resize(cols, rows uint16) {
	withFD(u.t, u.keys, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: cols, Row: rows})
	})
}

// awaitMode waits until the terminal is in a state.
func (u *user) awaitMode(line, echo bool) {
	u.t.Helper()
	var a *unix.Termios
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		withFD(u.t, u.term, func(fd int) (err error) { a, err = unix.IoctlGetTermios(fd, unix.TCGETS); return err })
		if (a.Lflag&unix.ICANON != 0) == line && (a.Lflag&unix.ECHO != 0) == echo {
			return
		}
	}
	u.t.Fatalf("the terminal is not in line mode %v, echo %v: %+v", line, echo, a)
}

// command gives a command at the prompt, and waits until the session is back.
func (u *user) command(line string) {
	u.t.Helper()
	u.typed("\x1d" + line + "\n")
	u.await(u.t, "telnet> ")
	u.awaitChar(unix.VEOL, 0x1d)
}

// awaitChar waits until the terminal has a special character.
func (u *user) awaitChar(which int, want byte) {
	u.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		var a *unix.Termios
		withFD(u.t, u.term, func(fd int) (err error) { a, err = unix.IoctlGetTermios(fd, unix.TCGETS); return err })
		if a.Cc[which] == want {
			return
		}
		if time.Now().After(end) {
			u.t.Fatalf("%v", a.Cc)
		}
	}
}

func (u *user) end() {
	u.t.Helper()
	select {
	case err := <-u.done:
		if err != nil {
			u.t.Error(err)
		}
	case <-time.After(patience):
		u.t.Fatalf("it does not end; %q", u)
	}
	u.awaitMode(true, true)
}

// far is the server's end, driven by a test.
func far(t *testing.T, cfg *telnet.Config) (port string, conn <-chan *telnet.Conn) {
	ch := make(chan *telnet.Conn, 4)
	end := make(chan struct{})
	t.Cleanup(func() { close(end) })
	var n kernel.Network
	return serve(t, &n, &telnet.Server{Config: cfg, Handler: telnet.HandlerFunc(func(ctx context.Context, c *telnet.Conn) {
		ch <- c
		select {
		case <-end:
		case <-ctx.Done():
		}
	})}), ch
}

// TestTerminal: a session at a terminal: the server echoes, so keys go one by
// one; at the prompt the terminal is as it was; the size and its changes are
// told; the escape character brings the prompt.
func TestTerminal(t *testing.T) {
	var n kernel.Network
	conns := make(chan *telnet.Conn, 1)
	port := serve(t, &n, &telnet.Server{Config: &telnet.Config{Server: option.ServerConfig{Env: []option.Var{{Name: "COLOR"}, {Name: "HOME"}}}},
		Handler: telnet.HandlerFunc(func(ctx context.Context, c *telnet.Conn) {
			c.Handshake(ctx)
			conns <- c
			lines(ctx, c)
		})})
	u := sit(t, Config{Host: "127.0.0.1", Port: port, Env: []option.Var{{Name: "COLOR", Value: "blue"}},
		Telnet: telnet.Config{Client: option.ClientConfig{Terms: []string{"vt100"}}}})
	u.await(t, "Connected to 127.0.0.1.\r\nEscape character is '^]'.\r\n")
	c := <-conns
	u.await(t, "> ")
	u.awaitMode(false, false)
	if i := c.Info(); i.Term != "vt100" || (i.Size != option.Size{Cols: 100, Rows: 30}) || len(i.Env) != 1 && i.Env[0].Value != "blue" {
		t.Errorf("%+v", i)
	}
	u.typed("hällo\r")
	u.await(t, "hällo\r\nyou said \"hällo\"\r\n> ")

	sizes := c.Resizes()
	u.resize(77, 11)
	u.signals <- syscall.SIGWINCH
	select {
	case s := <-sizes:
		if s != (option.Size{Cols: 77, Rows: 11}) {
			t.Error(s)
		}
	case <-time.After(patience):
		t.Error("the new size was not told")
	}

	u.typed("\x1d")
	u.await(t, "telnet> ")
	u.awaitMode(true, true)
	u.typed("nonsense\n")
	u.await(t, "?nonsense: not understood")
	u.await(t, "telnet> ")
	u.typed("stat\n")
	if s := u.await(t, "Escape character: '^]'."); !strings.Contains(s, "Lines: each key is sent; mode auto.") || !strings.Contains(s, "Characters: UTF-8.") ||
		!strings.Contains(s, "77 columns, 11 lines") || !strings.Contains(s, "NAWS") {
		t.Errorf("%q", s)
	}
	u.awaitMode(false, false) // back in the session
	u.typed("\x1dset escape ~\n")
	u.await(t, "telnet> ")
	u.awaitMode(false, false)
	u.typed("x\x1dy\r")
	u.await(t, `you said "x\x1dy"`)
	u.typed("~")
	u.await(t, "telnet> ")
	u.typed("quit\n")
	u.await(t, "Connection closed.")
	u.end()
}

// TestModes: the terminal follows ECHO and SUPPRESS GO AHEAD, as for a password
// in line mode; a line is edited by the terminal and sent whole; signals become
// commands.
func TestModes(t *testing.T) {
	cmds := make(chan engine.Command, 10)
	port, conns := far(t, &telnet.Config{Passive: true, Event: func(_ *telnet.Conn, ev engine.Event) {
		if ev.Kind == engine.Cmd {
			cmds <- ev.Cmd
		}
	}})
	u := sit(t, Config{Host: "127.0.0.1", Port: port})
	u.await(t, "Escape character is '^]'.\r\n")
	c := <-conns
	data := make(chan string, 100)
	go func() {
		b := make([]byte, 100)
		for {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			data <- string(b[:n])
		}
	}()
	expect := func(want string) {
		t.Helper()
		got := ""
		for got != want {
			select {
			case s := <-data:
				got += s
			case <-time.After(patience):
				t.Fatalf("%q, not %q", got, want)
			}
		}
	}
	u.awaitMode(true, true)
	u.typed("helpo\x7f\n")
	expect("help\r\n")
	u.typed("\x04") // at the beginning of a line, the key
	expect("\x04")
	for sig, want := range map[os.Signal]engine.Command{os.Interrupt: engine.IP, syscall.SIGQUIT: engine.ABORT, syscall.SIGTSTP: engine.SUSP} {
		u.signals <- sig
		if got := <-cmds; got != want {
			t.Errorf("%v: %v", sig, got)
		}
	}
	c.Enable(engine.Us, engine.Echo)
	u.awaitMode(true, false)
	u.typed("secret\n")
	expect("secret\r\n")
	c.Disable(engine.Us, engine.Echo)
	u.awaitMode(true, true)
	c.Enable(engine.Us, engine.SGA)
	u.awaitMode(false, false) // what we echo the terminal does not
	u.await(t, "help")
	u.typed("k\r")
	expect("k\r\x00")
	u.await(t, "k\r\n")
	u.typed("\x1dtoggle crlf\n")
	u.await(t, "telnet> ")
	u.awaitMode(false, false)
	u.typed("\r")
	expect("\r\n")

	// The user may want something else.
	u.typed("\x1dmode line\n")
	u.awaitMode(true, true)
	if err := c.WaitFor(runContext(t), telnet.Not(telnet.Local(engine.SGA))); err != nil {
		t.Error(err)
	}
	u.typed("\x1dmode char\n")
	if err := c.WaitFor(runContext(t), telnet.Local(engine.SGA), telnet.Local(engine.Echo)); err != nil {
		t.Error(err)
	}
	u.awaitMode(false, false)

	// LINEMODE: the terminal edits, with the server's characters.
	c.Enable(engine.Him, engine.Linemode)
	u.typed("\x1dmode auto\n")
	u.await(t, "telnet> ")
	if err := c.WaitFor(runContext(t), telnet.Remote(engine.Linemode)); err != nil {
		t.Fatal(err)
	}
	c.Update(func(e *engine.Engine) {
		lm := e.Option(engine.Linemode).(*option.Linemode)
		lm.SetMode(e, option.ModeEdit|option.ModeTrapSig)
		lm.SetChar(e, option.FnEC, option.Char{Flags: byte(option.Value), Value: '#'})
	})
	u.awaitMode(true, false)
	u.awaitChar(unix.VERASE, '#')
	u.typed("helpo#\n")
	expect("help\r\n")
	u.typed("\x04")
	if got := <-cmds; got != engine.EOF {
		t.Error(got)
	}
	c.Write([]byte("bye\r\n"))
	c.Close()
	u.await(t, "bye")
	u.await(t, "Connection closed by foreign host.\r\n")
	u.end()
}

// TestSend: each command of `send` arrives, Synch by urgent data.
func TestSend(t *testing.T) {
	cmds := make(chan string, 100)
	port, conns := far(t, &telnet.Config{Passive: true, Urgent: urgent, Event: func(_ *telnet.Conn, ev engine.Event) {
		switch ev.Kind {
		case engine.Cmd:
			cmds <- ev.Cmd.String()
		case engine.Bye:
			cmds <- "bye"
		case engine.Changed:
			cmds <- fmt.Sprintf("%v%v%v", ev.Side, ev.Code, ev.On)
		}
	}})
	u := sit(t, Config{Host: "127.0.0.1", Port: port})
	u.await(t, "Escape character")
	c := <-conns
	go io.Copy(io.Discard, c)
	check := func(line, want string) {
		t.Helper()
		u.command(line)
		for _, w := range strings.Fields(want) {
			select {
			case got := <-cmds:
				if got != w {
					t.Errorf("%s: %s, not %s", line, got, w)
				}
			case <-time.After(patience):
				t.Fatalf("%s: no %s; %q", line, w, u)
			}
		}
	}
	check("send ao", "AO")
	check("send brk ec el ip", "BRK EC EL IP")
	check("send abort susp eof eor ga nop", "ABORT SUSP EOF EOR GA")
	check("send synch", "DM")
	check("send will 200", "") // nothing is known of it there
	check("send do status", "usSTATUStrue")
	check("toggle outbinary", "himBINARYtrue")
	check("unset outbinary", "himBINARYfalse")
	u.typed("\x1dsend ayt\n")
	u.await(t, "[Yes]")
	if got := <-cmds; got != "AYT" {
		t.Error(got)
	}
	u.command("set options")
	u.typed("\x1dsend getstatus\n")
	u.await(t, "RCVD SB STATUS")
	check("set autosynch", "")
	u.signals <- os.Interrupt
	if a, b := <-cmds, <-cmds; a != "IP" || b != "DM" {
		t.Error(a, b)
	}
	u.typed("\x1dlogout\n") // which is the end of it
	if got := <-cmds; got != "bye" {
		t.Error(got)
	}
	u.await(t, "Connection closed by foreign host.")
	u.end()
}

// TestEnviron: a variable that is defined in the session is told by itself, and
// one that is not exported is not told.
func TestEnviron(t *testing.T) {
	vars := make(chan []option.Var, 10)
	port, conns := far(t, &telnet.Config{Passive: true, Enable: []telnet.Ask{{Side: engine.Him, Code: engine.NewEnviron}},
		Server: option.ServerConfig{Env: []option.Var{{Name: "A"}, {Name: "B"}}}, Event: func(_ *telnet.Conn, ev engine.Event) {
			if v, ok := ev.Value.([]option.Var); ok {
				vars <- v
			}
		}})
	u := sit(t, Config{})
	u.await(t, "telnet> ")
	u.typed("environ define A first\nenviron define B hidden\nenviron unexport B\nopen 127.0.0.1 " + port + "\n")
	u.await(t, "Connected")
	c := <-conns
	go io.Copy(io.Discard, c)
	got := <-vars
	if len(got) != 2 || got[0].Value != "first" || !got[1].Undefined {
		t.Errorf("%+v", got)
	}
	u.command("environ define A second")
	u.typed("\x1denviron send A\n")
	if got = <-vars; len(got) != 1 || got[0].Value != "second" {
		t.Errorf("%+v", got)
	}
	// Closed by the other end: back at the prompt.
	c.Close()
	u.await(t, "Connection closed by foreign host.")
	u.await(t, "telnet> ")
	u.typed("\x04")
	u.end()
}

// TestPeerTakesNothing: the prompt, and the end of the session, do not wait for
// a peer that does not read.
func TestPeerTakesNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	u := sit(t, Config{Host: "127.0.0.1", Port: port, Mode: ModeRaw, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, network, address)
		if err == nil {
			err = c.(*net.TCPConn).SetWriteBuffer(4096)
		}
		return c, err
	}})
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	peer.(*net.TCPConn).SetReadBuffer(4096)
	u.awaitMode(false, false)
	for !strings.Contains(u.String(), "\a") { // until there is no more room
		u.typed(strings.Repeat("x", 1000))
	}
	u.typed("\x1d")
	u.await(t, "telnet> ")
	u.typed("close\n")
	u.await(t, "Connection closed.")
	u.end()
}
