package telsh

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/option"
)

const (
	iacWillEcho    = "\xff\xfb\x01"
	iacWillSGA     = "\xff\xfb\x03"
	iacWillBinary  = "\xff\xfb\x00"
	iacDoBinary    = "\xff\xfd\x00"
	iacDoTType     = "\xff\xfd\x18"
	iacWontTType   = "\xff\xfc\x18"
	defaultSession = 30 * time.Second
)

// peer is the client's end of a session.
type peer struct {
	t *testing.T
	net.Conn
	server *telnet.Server
	over   chan struct{} // the handler has returned
}

// start serves one session on loopback.
func start(t *testing.T, h telnet.Handler, cfg *telnet.Config) *peer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{}, 1)
	s := &telnet.Server{Config: cfg, Logger: slog.New(slog.DiscardHandler), Handler: telnet.HandlerFunc(func(ctx context.Context, c *telnet.Conn) {
		h.ServeTELNET(ctx, c)
		over <- struct{}{}
	})}
	go s.Serve(l)
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(defaultSession))
	t.Cleanup(func() { c.Close(); s.Close() })
	return &peer{t, c, s, over}
}

// terminal makes the peer a telnet client with a terminal.
func (p *peer) terminal() *peer {
	p.Conn = telnet.NewClientConn(p.Conn, &telnet.Config{Client: option.ClientConfig{Terms: []string{"XTERM"}, Size: option.Size{Cols: 80, Rows: 24}}})
	return p
}

func (p *peer) send(s string) {
	p.t.Helper()
	if _, err := io.WriteString(p.Conn, s); err != nil {
		p.t.Fatal(err)
	}
}

// want reads exactly what is wanted.
func (p *peer) want(s string) {
	p.t.Helper()
	got := make([]byte, len(s))
	n, err := io.ReadFull(p.Conn, got)
	if err != nil || string(got) != s {
		p.t.Fatalf("got  %q\nwant %q\n%v", got[:n], s, err)
	}
}

// wantEnd reads to the end.
func (p *peer) wantEnd(s string) {
	p.t.Helper()
	if got, err := io.ReadAll(p.Conn); err != nil || string(got) != s {
		p.t.Fatalf("got  %q\nwant %q\n%v", got, s, err)
	}
	<-p.over
}

// TestTranscript is the session that the seed's own test has, of a client that
// refuses everything.
func TestTranscript(t *testing.T) {
	p := start(t, &Shell{Version: "1.2.3"}, &telnet.Config{NeverGA: true})
	p.want(iacDoTType)
	p.send(iacWontTType)
	p.want("Ready.\r\ntel:sh> ")
	host, port, _ := net.SplitHostPort(p.LocalAddr().String())
	settings := func(lflow, xonAny string) string {
		return "\r\nbinary off\r\necho off\r\ngoahead ON\r\ninbinary off\r\nlflow " + lflow + "\r\noutbinary off\r\nxon-any " + xonAny
	}
	for _, x := range []struct{ in, out string }{
		{"\bhel\blp\r", "\r\nquit, writer, slc, toggle [option|all], reader, proto, dump"},
		{"writer\r\x00", "\r\n<TelnetWriter server mode:local +lineflow -xon_any +slc_sim>"},
		{"reader\r\n", "\r\n<TelnetReaderUnicode encoding='US-ASCII' limit=65536 buflen=1 eof=False>"},
		{"proto\n", "\r\n<Peer " + host + " " + port + ">"},
		{"version\n", "\r\n1.2.3"},
		{"slc\r\n", "\r\nSpecial Line Characters:" +
			"\r\n         SLC_AO: (^O, variable|flushout)" +
			"\r\n         SLC_EC: (^?, variable)" +
			"\r\n         SLC_EL: (^U, variable)" +
			"\r\n         SLC_EW: (^W, variable)" +
			"\r\n         SLC_IP: (^C, variable|flushin|flushout)" +
			"\r\n         SLC_RP: (^R, variable)" +
			"\r\n        SLC_AYT: (^T, variable)" +
			"\r\n        SLC_EOF: (^D, variable)" +
			"\r\n        SLC_XON: (^Q, variable)" +
			"\r\n       SLC_SUSP: (^Z, variable|flushin)" +
			"\r\n       SLC_XOFF: (^S, variable)" +
			"\r\n      SLC_ABORT: (^\\, variable|flushin|flushout)" +
			"\r\n      SLC_LNEXT: (^V, variable)" +
			"\r\nUnset by client: SLC_BRK, SLC_EOR, SLC_SYNCH" +
			"\r\nNot supported by server: SLC_EBOL, SLC_ECR, SLC_EEOL, SLC_EWR, SLC_FORW1, SLC_FORW2, SLC_INSRT, SLC_MCBOL, " +
			"SLC_MCEOL, SLC_MCL, SLC_MCR, SLC_MCWL, SLC_MCWR, SLC_OVER"},
		{"toggle\n", settings("ON", "off")},
		{"toggle not-an-option\r", "\r\ntoggle: not an option."},
		{"toggle all\r\n", "\r\n" + iacWillEcho + iacWillSGA + iacWillBinary + iacDoBinary +
			"will echo.\r\nwill suppress go-ahead.\r\nwill outbinary.\r\ndo inbinary.\r\nxon-any enabled.\r\nlineflow disabled."},
		{"toggle\n", settings("off", "ON")},
		{"writer\n", "\r\n<TelnetWriter server mode:local -lineflow +xon_any +slc_sim>"},
		{"\r\n", ""},
		{"not-a-command\n", "\r\nno such command."},
		{"dump 0 0.5 nodrain\n", "\r\nkb_limit=0, delay=0.0005, drain=False, do_close=False:\r\n\x1b[1Gwrote 0 bytes\r\n0 OK"},
	} {
		p.send(x.in)
		p.want(x.out + "\r\ntel:sh> ")
	}
	p.send("quit\r")
	p.wantEnd("\r\nGoodbye.\r\n")
}

// TestLinemode: a client that performs it is led into it, through its modes and
// out again.
func TestLinemode(t *testing.T) {
	p := start(t, &Shell{}, nil).terminal()
	p.want("Ready.\r\ntel:sh> ")
	for _, x := range []struct{ in, out string }{
		{"linemode", "linemode off"},
		{"toggle linemode-edit", "linemode is off."},
		{"toggle linemode", "do linemode."},
		{"linemode", "linemode ON: -edit -trapsig -soft-tab +lit-echo"},
		{"toggle linemode-trapsig", "linemode-trapsig enabled."},
		{"linemode", "linemode ON: -edit +trapsig -soft-tab +lit-echo"},
		{"toggle", "binary ON\r\necho ON\r\ngoahead off\r\ninbinary ON\r\nlflow ON\r\nlinemode ON\r\nlinemode-edit off\r\n" +
			"linemode-trapsig ON\r\noutbinary ON\r\nxon-any off"},
		{"toggle linemode-trapsig", "linemode-trapsig disabled."},
		{"toggle linemode", "dont linemode."},
		{"linemode", "linemode off"},
	} {
		p.send(x.in + "\r")
		p.want(x.in + "\r\n" + x.out + "\r\ntel:sh> ")
	}
	p.send("quit\r")
	p.wantEnd("quit\r\nGoodbye.\r\n")
}

// TestGoAheadPrompt: every prompt is followed by GA, unless the client asked for
// none.
func TestGoAheadPrompt(t *testing.T) {
	p := start(t, &Shell{}, nil)
	p.want(iacDoTType)
	p.send(iacWontTType)
	p.want("Ready.\r\ntel:sh> \xff\xf9")
	p.send("\r\n")
	p.want("\r\ntel:sh> \xff\xf9")
	p.send("quit\r\n")
	p.wantEnd("\r\nGoodbye.\r\n")
}

// TestDump: what comes is as much as was asked for, and with close the last.
func TestDump(t *testing.T) {
	for _, drain := range []string{"drain", "nodrain"} {
		p := start(t, &Shell{}, &telnet.Config{NeverGA: true})
		p.want(iacDoTType)
		p.send(iacWontTType)
		p.want("Ready.\r\ntel:sh> ")
		p.send("dump 3 0 " + drain + " close\r\n")
		truth := map[string]string{"drain": "True", "nodrain": "False"}[drain]
		pair := strings.Repeat("/", 80) + "\x1b[1G" + strings.Repeat(`\`, 80) + "\x1b[1G"
		p.wantEnd("\r\nkb_limit=3, delay=0, drain=" + truth + ", do_close=True:\r\n" +
			strings.Repeat(pair, 19) + "\x1b[1Gwrote 3192 bytes\r\n3 OK")
	}
}

// TestLeaving: a client that is gone, at the prompt or in the middle of a dump,
// ends the shell.
func TestLeaving(t *testing.T) {
	for _, last := range []string{"", "dump 1000000\r\n", "dump 1 10000\r\n"} {
		p := start(t, &Shell{}, &telnet.Config{NeverGA: true})
		p.want(iacDoTType)
		p.send(iacWontTType)
		p.want("Ready.\r\ntel:sh> ")
		p.send(last)
		if last == "dump 1 10000\r\n" { // it writes too seldom to notice: the server's end does
			p.want("\r\nkb_limit=1, delay=1, ")
			p.server.Close()
		}
		p.Close()
		<-p.over
	}
}

// TestKeys: what a terminal's user types, with history and completion.
func TestKeys(t *testing.T) {
	p := start(t, &Shell{}, nil).terminal()
	p.want("Ready.\r\ntel:sh> ")
	for _, x := range []struct{ name, in, out string }{
		{"echo", "toggel", "toggel"},
		{"erase", "\x7f\b", "\b \b\b \b"},
		{"complete", "\t", "le "},
		{"choice", "x\t", "xon-any"},
		{"enter", "\r\x00", "\r\nxon-any enabled.\r\ntel:sh> "},
		{"up", "\x1b[A", "toggle xon-any"},
		{"down", "\x1bOB", strings.Repeat("\b \b", 14)},
		{"all", "\t", "\r\ndump  help  linemode  proto  quit  reader  slc  toggle  version  writer\r\ntel:sh> "},
		{"wide", "a\u4e2de\u0301\x7f\x7f\x7f", "a\u4e2de\u0301\b \b\b \b\b \b\b \b"},
		{"word", "one two \x17\x15", "one two \b \b\b \b\b \b\b \b" + strings.Repeat("\b \b", 4)},
		{"none", "zz\t\x15", "zz\a\b \b\b \b"},
		{"others", "\x1b[3~\x1b]0;title\a\x1b]0;x\x1b\\\x1b[C\x03\x1bx!", "!"},
		{"draft", "\x10\x0e", "\b \btoggle xon-any" + strings.Repeat("\b \b", 14) + "!"},
		{"enter", "\r\x00", "\r\nno such command.\r\ntel:sh> "},
		{"writer", "writer\r\n", "writer\r\n<TelnetWriter server mode:kludge +lineflow +xon_any +slc_sim " +
			"server-will:BINARY,CHARSET,ECHO,SGA client-will:BINARY,CHARSET,NAWS,TTYPE>\r\ntel:sh> "},
	} {
		t.Log(x.name)
		p.send(x.in)
		p.want(x.out)
	}
	p.send("reader\r")
	p.want("reader\r\n<TelnetReaderUnicode encoding='utf8' limit=65536 buflen=0 eof=False>\r\ntel:sh> ")
	p.send(strings.Repeat("x", maxLine+10) + "\r")
	p.want(strings.Repeat("x", maxLine) + "\r\nno such command.\r\ntel:sh> ")
	p.send("quit\r")
	p.wantEnd("quit\r\nGoodbye.\r\n")
}

// TestHistoryIsBounded by lines.
func TestHistoryIsBounded(t *testing.T) {
	d := &editor{}
	for i := range 3 * maxHistory {
		d.remember(strings.Repeat("x", 1+i%7))
	}
	if len(d.history) != maxHistory || cap(d.history) > 4*maxHistory {
		t.Errorf("%d lines of %d", len(d.history), cap(d.history))
	}
	size := func() (n int) {
		for _, s := range d.history {
			n += len(s)
		}
		return n
	}
	for i := range 1000 {
		d.remember(strings.Repeat(string(rune('a'+i%26)), maxLine))
		if n := size(); n > maxHeld || n != d.held {
			t.Fatalf("%d bytes are kept, %d by its own account", n, d.held)
		}
	}
}

func TestRobotCheck(t *testing.T) {
	var logged bytes.Buffer
	log := slog.New(slog.NewTextHandler(&logged, nil))
	h := telnet.Chain(&Shell{}, WithRobotCheck(log))
	quiet := &telnet.Config{NeverGA: true}

	p := start(t, h, quiet)
	p.want(iacDoTType)
	p.send(iacWontTType)
	p.want("\x1b[6n")
	p.send("junk\x1b[12;7R")
	p.want(" \x1b[6n")
	p.send("\x1b[12;8Rquit\r") // what is typed ahead is not lost
	p.wantEnd("\b \bReady.\r\ntel:sh> \r\nGoodbye.\r\n")

	p = start(t, h, quiet)
	p.want(iacDoTType)
	p.send(iacWontTType)
	p.want("\x1b[6n")
	p.send("\x1b[12;7R\x1b[12;7R")
	p.want(" \x1b[6nDo robots dream of electric sheep? [yn] ")
	p.send("\r")
	p.want("\r\nDo robots dream of electric sheep? [yn] ")
	p.send("y\r")
	p.want("\r\nHave you ever wondered, who are the windowmakers? ")
	p.send("never \x1b[31m\r")
	p.wantEnd("\r\n")
	if s := logged.String(); !strings.Contains(s, "answers=\"[y never]\"") {
		t.Error(s)
	}
}

func TestBusy(t *testing.T) {
	var logged bytes.Buffer
	p := start(t, Busy(slog.New(slog.NewTextHandler(&logged, nil))), &telnet.Config{NeverGA: true})
	p.want(iacDoTType)
	p.send(iacWontTType)
	p.want("Machine is busy, do not touch! ")
	p.send("touch\r\n")
	p.want("\r\nYou hear a distant explosion... ")
	p.send("run\r\n")
	p.wantEnd("\r\n")
	if s := logged.String(); !strings.Contains(s, "said=\"[touch run]\"") {
		t.Error(s)
	}
}
