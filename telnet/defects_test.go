package telnet_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/option"
)

// Each test here is a defect that was found in a telnet implementation in wide
// use, and must not be in this one. Those of programs (shells, fingerprints) are
// tested with the programs.

func server(extra ...engine.Option) *engine.Engine {
	return engine.New(engine.Config{Role: engine.Server, Options: append(option.Server(option.ServerConfig{}), extra...)})
}

func client(cfg option.ClientConfig) *engine.Engine {
	return engine.New(engine.Config{Role: engine.Client, Options: option.Client(cfg)})
}

func say(e *engine.Engine, s string) (out string, data string) {
	e.Feed([]byte(s))
	d, _ := drain(e)
	return string(e.Take()), string(d)
}

func wantSaid(t *testing.T, e *engine.Engine, in, want string) {
	t.Helper()
	if out, _ := say(e, in); out != want {
		t.Errorf("%x is answered by %x, not by %x", in, out, want)
	}
}

func TestDefect01DontAndWontAreAcknowledged(t *testing.T) {
	e := server()
	wantSaid(t, e, "\xff\xfd\x03", "\xff\xfb\x03")
	wantSaid(t, e, "\xff\xfe\x03", "\xff\xfc\x03")
	wantSaid(t, e, "\xff\xfe\x03", "")
	wantSaid(t, e, "\xff\xfb\x1f", "\xff\xfd\x1f")
	wantSaid(t, e, "\xff\xfc\x1f", "\xff\xfe\x1f")
	wantSaid(t, e, "\xff\xfc\x1f", "")
}

func TestDefect02UnsolicitedWillIsAnswered(t *testing.T) {
	for _, code := range []engine.Code{engine.TType, engine.TSpeed, engine.XDispLoc, engine.NewEnviron, engine.LFlow} {
		out, _ := say(server(), "\xff\xfb"+string([]byte{byte(code)}))
		if !strings.HasPrefix(out, "\xff\xfd"+string([]byte{byte(code)})) {
			t.Errorf("WILL %v is answered by %x", code, out)
		}
	}
	wantSaid(t, client(option.ClientConfig{}), "\xff\xfb\x05", "\xff\xfd\x05\xff\xfa\x05\x01\xff\xf0")
}

func TestDefect03WrongDirectionIsRefused(t *testing.T) {
	wantSaid(t, server(), "\xff\xfb\x01", "\xff\xfe\x01")
	wantSaid(t, client(option.ClientConfig{}), "\xff\xfb\x12", "\xff\xfe\x12")
}

func TestDefect04OfferedMCCP3IsServed(t *testing.T) {
	e := engine.New(engine.Config{Role: engine.Server, Options: option.Server(option.ServerConfig{Compress: true})})
	e.Enable(engine.Us, engine.MCCP3)
	e.Take()
	wantSaid(t, e, "\xff\xfd\x57", "")
	if say(e, "\xff\xfa\x57\xff\xf0"); !e.On(engine.Us, engine.MCCP3) || !e.Inflating() {
		t.Error("not served")
	}
	e.Close()
}

func TestDefect05OnlyWhatIsServedIsAgreedTo(t *testing.T) {
	for _, code := range []byte{69, 70, 85, 86, 87, 90, 91, 93, 102, 200, 201} {
		wantSaid(t, server(), string([]byte{255, 253, code}), string([]byte{255, 252, code}))
		wantSaid(t, server(), string([]byte{255, 251, code}), string([]byte{255, 254, code}))
	}
}

func TestDefect06CharactersAreOfOneConnection(t *testing.T) {
	a, b := server(), server()
	before := b.Option(engine.Linemode).(*option.Linemode).Chars()
	say(a, "\xff\xfb\x22\xff\xfa\x22\x03\x03\x02\x01\xff\xf0")
	if got := a.Option(engine.Linemode).(*option.Linemode).Chars(); got[option.FnIP].Value != 1 {
		t.Error("the change was not taken")
	}
	if b.Option(engine.Linemode).(*option.Linemode).Chars() != before || option.DefaultTable() != before {
		t.Error("another connection's table changed")
	}
}

func TestDefect07ForwardMaskHasItsBits(t *testing.T) {
	e := server()
	say(e, "\xff\xfb\x22")
	lm := e.Option(engine.Linemode).(*option.Linemode)
	var m option.Mask
	for b := byte(0x78); b < 0x80; b++ {
		m.Add(b)
	}
	m.Add(3)
	m.Add(0x80)
	lm.SetMask(e, m)
	seven := "\x10" + strings.Repeat("\x00", 14)
	if got := string(e.Take()); got != "\xff\xfa\x22\xfd\x02"+seven+"\xff\xff\xff\xf0" {
		t.Errorf("seven bits: %x", got)
	}
	say(e, "\xff\xfb\x00")
	lm.SetMask(e, m)
	if got := string(e.Take()); got != "\xff\xfa\x22\xfd\x02"+seven+"\xff\xff\x80"+strings.Repeat("\x00", 15)+"\xff\xf0" {
		t.Errorf("eight bits: %x", got)
	}
}

func TestDefect08VariablesAreEscaped(t *testing.T) {
	vars := []option.Var{{Name: "A\x00\x01\x02\x03\xff", Value: "\x03\x02\x01\x00\xff\xff"}, {Name: "EMPTY"}, {Name: "NONE", Undefined: true},
		{Name: "EMPTY", Value: "u", User: true}}
	c := client(option.ClientConfig{Env: vars})
	s := engine.New(engine.Config{Role: engine.Server, Options: option.Server(option.ServerConfig{Env: []option.Var{{}, {User: true}}})})
	s.Enable(engine.Him, engine.NewEnviron)
	for range 5 {
		out, _ := say(c, string(s.Take()))
		say2(s, out)
	}
	if got := s.Option(engine.NewEnviron).(*option.Environ).Vars; !slices.Equal(got, vars) {
		t.Errorf("%v", got)
	}
}

// say2 leaves the answer where it is.
func say2(e *engine.Engine, s string) {
	e.Feed([]byte(s))
	drain(e)
}

func TestDefect09SubnegotiationIsBounded(t *testing.T) {
	e := server()
	say(e, "\xff\xfa\x18")
	chunk := bytes.Repeat([]byte{'x'}, 1<<16)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 320 { // 20 MB
		e.Feed(chunk)
		drain(e)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("%d bytes were allocated", n)
	}
	if _, data := say(e, "\xff\xf0ok"); data != "ok" || e.Drops()[engine.DropSubnegLimit] != 1 {
		t.Errorf("%q %v", data, e.Drops())
	}
}

func TestDefect10DataMarkIsNoData(t *testing.T) {
	if _, data := say(server(), "a\xff\xf2b"); data != "ab" {
		t.Errorf("%q", data)
	}
	// With urgent data: TestSynch.
}

func TestDefect11IdleTimeoutWorks(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &telnet.Server{IdleTimeout: 20 * time.Millisecond, Config: &telnet.Config{MaxWait: time.Millisecond},
		Handler: telnet.HandlerFunc(func(_ context.Context, c *telnet.Conn) { io.Copy(io.Discard, c) })}
	go s.Serve(l)
	defer s.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); string(got) != "\xff\xfd\x18\r\nTimeout.\r\n" || err != nil {
		t.Errorf("%q %v", got, err)
	}
}

func TestDefect12ClientSettingsCount(t *testing.T) {
	wantSaid(t, client(option.ClientConfig{}), "\xff\xfb\x56", "\xff\xfd\x56")
	wantSaid(t, client(option.ClientConfig{NoCompress: true}), "\xff\xfb\x56\xff\xfb\x57", "\xff\xfe\x56\xff\xfe\x57")
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		defer b.Close()
		c := telnet.NewClientConn(a, &telnet.Config{MaxWait: 5 * time.Millisecond})
		start := time.Now()
		if err := c.Handshake(context.Background()); err != nil || time.Since(start) != 5*time.Millisecond {
			t.Error(err, time.Since(start))
		}
	})
}

func TestDefect13SessionGoesToAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	a, b := net.Pipe()
	go func() {
		io.WriteString(b, "to a file\xff\xff\r\n")
		b.Close()
	}()
	if _, err := io.Copy(f, telnet.NewClientConn(a, &telnet.Config{Passive: true})); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if got, _ := os.ReadFile(path); string(got) != "to a file\xff\r\n" {
		t.Errorf("%q", got)
	}
}

func TestDefect14TerminalBehindASession(t *testing.T) {
	// One Return is one CR, over any division.
	const in = "ls\r\ncat\r\x00\r\r\n\nend"
	for cut := range len(in) {
		a, b := net.Pipe()
		go func() {
			io.WriteString(b, in[:cut])
			io.WriteString(b, in[cut:])
			b.Close()
		}()
		got, err := io.ReadAll(telnet.NewServerConn(a, &telnet.Config{Passive: true}).Keys())
		if string(got) != "ls\rcat\r\r\r\nend" || err != nil {
			t.Fatalf("cut at %d: %q %v", cut, got, err)
		}
	}
	// Commands are keys, by the client's own characters.
	a, b := net.Pipe()
	defer b.Close()
	c := telnet.NewServerConn(a, nil)
	for cmd, want := range map[engine.Command]byte{engine.IP: 3, engine.BRK: 3, engine.ABORT: 0x1c, engine.SUSP: 0x1a, engine.EOF: 4,
		engine.EC: 0x7f, engine.EL: 0x15, engine.AO: 0x0f, engine.AYT: 0x14} {
		if key, ok := c.KeyOf(cmd); !ok || key != want {
			t.Errorf("%v is %#x", cmd, key)
		}
	}
	if _, ok := c.KeyOf(engine.GA); ok {
		t.Error("GA is a key")
	}
	// The environment is ours (CVE-2026-24061, CVE-2026-28372).
	vars := []option.Var{{Name: "USER", Value: "-f root"}, {Name: "CREDENTIALS_DIRECTORY", Value: "/tmp"}, {Name: "LD_PRELOAD", Value: "x"},
		{Name: "LANG", Value: "C.UTF-8"}, {Name: "COLORTERM", Value: "-x"}, {Name: "DISPLAY", Value: "a\nb"}, {Name: "HOME", Value: "/"},
		{Name: "SHELL", Value: "/bin/sh"}, {Name: "PATH", Value: "."}, {Name: "EDITOR", Undefined: true}, {Name: "OTHER", Value: "v"}}
	allow := []string{"USER", "CREDENTIALS_DIRECTORY", "LD_PRELOAD", "LANG", "COLORTERM", "DISPLAY", "HOME", "SHELL", "PATH", "EDITOR"}
	if env := telnet.ChildEnv(vars, allow...); !slices.Equal(env, []string{"LANG=C.UTF-8"}) {
		t.Errorf("%q", env)
	}
}

func TestDefect15CharsetFlowAndTypes(t *testing.T) {
	c := client(option.ClientConfig{Charsets: []string{"UTF-8"}, Terms: []string{"a", "b"}})
	wantSaid(t, c, "\xff\xfd\x2a\xff\xfa\x2a\x01;KOI8-R\xff\xf0", "\xff\xfb\x2a\xff\xfa\x2a\x03\xff\xf0")
	wantSaid(t, c, "\xff\xfa\x2a\x04\x01;a;\x08\x00\xff\xf0", "\xff\xfa\x2a\x05\xff\xf0")
	wantSaid(t, c, "\xff\xfa\x2a\x01[TTABLE]\x01;UTF-8\xff\xf0", "\xff\xfa\x2a\x02UTF-8\xff\xf0")
	say(c, "\xff\xfd\x21\xff\xfa\x21\x02\xff\xf0")
	flow := c.Option(engine.LFlow).(*option.LFlow)
	if !flow.RestartAny() || !flow.Enabled() {
		t.Error("RESTART-ANY is not any")
	}
	if say(c, "\xff\xfa\x21\x03\xff\xf0"); flow.RestartAny() {
		t.Error("RESTART-XON is any")
	}
	say(c, "\xff\xfd\x18")
	var names string
	for range 4 {
		out, _ := say(c, "\xff\xfa\x18\x01\xff\xf0")
		names += out[4 : len(out)-2]
	}
	if names != "abba" {
		t.Errorf("types %q", names)
	}
}

func TestDefect18AytLogoutAndOldEnviron(t *testing.T) {
	a, b := net.Pipe()
	s := telnet.NewServerConn(a, &telnet.Config{Passive: true})
	go s.Read(make([]byte, 10))
	io.WriteString(b, "\xff\xf6")
	buf := make([]byte, 100)
	if n, err := b.Read(buf); string(buf[:n]) != "\r\n[Yes]\r\n" || err != nil {
		t.Errorf("%q %v", buf[:n], err)
	}
	io.WriteString(b, "\xff\xfd\x12")
	if n, err := b.Read(buf); string(buf[:n]) != "\xff\xfb\x12" || err != nil || !s.Bye() {
		t.Errorf("%q %v", buf[:n], err)
	}
	s.Close()
	c := client(option.ClientConfig{Env: []option.Var{{Name: "TERM", Value: "vt"}}})
	wantSaid(t, c, "\xff\xfd\x24\xff\xfa\x24\x01\x00TERM\xff\xf0", "\xff\xfb\x24\xff\xfa\x24\x00\x00TERM\x01vt\xff\xf0")
	wantSaid(t, c, "\xff\xfa\x24\x01\x01TERM\xff\xf0", "\xff\xfa\x24\x00\x01TERM\x00vt\xff\xf0")
}

// TestDefect19OneOpenOptionDoesNotDelay: a peer that never says a word about
// CHARSET and NAWS is through as soon as the timing mark behind them is answered.
func TestDefect19OneOpenOptionDoesNotDelay(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	s := telnet.NewServerConn(a, &telnet.Config{MaxWait: time.Hour})
	peer := engine.New(engine.Config{Role: engine.Client, Options: []engine.Option{option.NewTimingMark(),
		&option.TType{Names: []string{"vt100"}}, option.NewFlag(engine.Echo, false, true), option.NewFlag(engine.SGA, true, true)}})
	go func() {
		buf := make([]byte, 1000)
		for {
			n, err := b.Read(buf)
			if err != nil {
				return
			}
			heard := buf[:n]
			for _, deaf := range []string{"\xff\xfd\x1f", "\xff\xfd\x2a"} {
				heard = bytes.ReplaceAll(heard, []byte(deaf), nil)
			}
			peer.Feed(heard)
			drain(peer)
			if out := peer.Take(); len(out) > 0 {
				b.Write(out)
			}
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Handshake(ctx); err != nil {
		t.Fatal(err)
	}
	if i := s.Info(); i.Term != "vt100" || !s.On(engine.Us, engine.Echo) {
		t.Errorf("%+v", i)
	}
}
