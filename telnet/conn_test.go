package telnet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/option"
)

// tcpPair is a connection on loopback.
func tcpPair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func pair(t testing.TB, client, server *Config) (c, s *Conn) {
	t.Helper()
	a, b := tcpPair(t)
	c, s = NewClientConn(a, client), NewServerConn(b, server)
	t.Cleanup(func() { c.Close(); s.Close() })
	return c, s
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// pumping reads a Conn in the background and keeps what it read.
type pumping struct {
	mu   sync.Mutex
	data []byte
	done chan struct{}
}

func pump(c *Conn) *pumping {
	p := &pumping{done: make(chan struct{})}
	go func() {
		defer close(p.done)
		b := make([]byte, 1024)
		for {
			n, err := c.Read(b)
			p.mu.Lock()
			p.data = append(p.data, b[:n]...)
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return p
}

var fullClient = &Config{Client: option.ClientConfig{Terms: []string{"XTERM-256COLOR", "xterm"}, Size: option.Size{Cols: 120, Rows: 40},
	Speed: option.Speed{Tx: 9600, Rx: 9600}, Display: "here:0", Location: "room 1",
	Env: []option.Var{{Name: "LANG", Value: "de_DE.ISO-8859-15@euro"}, {Name: "USER", Value: "me"}}}}

var fullServer = &Config{MaxWait: 30 * time.Second,
	Server: option.ServerConfig{Env: []option.Var{{Name: "LANG"}, {Name: "USER"}, {Name: "SECRET"}}}}

// TestHandshake: both ends come to terms without anybody's time running out,
// and know of each other what there is to know.
func TestHandshake(t *testing.T) {
	c, s := pair(t, fullClient, fullServer)
	pump(c)
	ctx := testContext(t)
	start := time.Now()
	if err := s.Handshake(ctx); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d >= fullServer.MaxWait {
		t.Errorf("took %v", d)
	}
	if err := s.WaitFor(ctx, Remote(engine.NAWS), Remote(engine.TType), Local(engine.Echo), HasTerm, HasSize, InMode(ModeKludge),
		Settled(engine.Charset), Not(Remote(engine.Echo)), Remote(engine.Binary), Local(engine.Binary)); err != nil {
		t.Fatal(err)
	}
	i := s.Info()
	if i.Term != "xterm" || !slices.Equal(i.Types, []string{"XTERM-256COLOR", "xterm"}) || i.Size != (option.Size{Cols: 120, Rows: 40}) || i.Charset != "UTF-8" {
		t.Errorf("%+v", i)
	}
	if lang, ok := i.Getenv("LANG"); !ok || lang != "de_DE.ISO-8859-15@euro" {
		t.Errorf("LANG %q", lang)
	}
	if _, ok := i.Getenv("SECRET"); ok {
		t.Error("an undefined variable has a value")
	}
	for _, code := range []engine.Code{engine.TSpeed, engine.XDispLoc, engine.SndLoc} {
		s.Enable(engine.Him, code)
	}
	if err := s.WaitFor(ctx, func(e *engine.Engine) bool {
		return e.Option(engine.XDispLoc).(*option.XDispLoc).Display != "" && e.Option(engine.SndLoc).(*option.SndLoc).Location != ""
	}); err != nil {
		t.Fatal(err)
	}
	i = s.Info()
	if i.Speed != (option.Speed{Tx: 9600, Rx: 9600}) || i.Display != "here:0" || i.Location != "room 1" {
		t.Errorf("%+v", i)
	}
	// A new size reaches the server while it reads.
	sizes := s.Resizes()
	pump(s)
	c.Resize(option.Size{Cols: 100, Rows: 30})
	select {
	case size := <-sizes:
		if size != (option.Size{Cols: 100, Rows: 30}) {
			t.Error(size)
		}
	case <-ctx.Done():
		t.Fatal("no size")
	}
}

// TestHandshakeWaits no longer than it may for a silent peer, and not at all
// for one that refuses.
func TestHandshakeWaits(t *testing.T) {
	a, b := tcpPair(t)
	s := NewServerConn(b, &Config{MaxWait: 30 * time.Millisecond})
	if err := s.Handshake(testContext(t)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	if n, _ := a.Read(buf); string(buf[:n]) != "\xff\xfd\x18" {
		t.Errorf("begins with %x", buf[:n])
	}
	// It goes on as if nothing had been.
	a.Write([]byte("raw"))
	if n, err := s.Read(buf); string(buf[:n]) != "raw" || err != nil {
		t.Errorf("%q %v", buf[:n], err)
	}

	a, b = tcpPair(t)
	s = NewServerConn(b, &Config{MaxWait: time.Hour})
	a.Write([]byte("\xff\xfc\x18hello"))
	if err := s.Handshake(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if n, _ := s.Read(buf); string(buf[:n]) != "hello" {
		t.Errorf("%q", buf[:n])
	}
	s.Write([]byte("."))
	got := make([]byte, 4)
	if _, err := io.ReadFull(a, got); err != nil || string(got) != "\xff\xfd\x18." {
		t.Errorf("sent %x: more than the one question", got)
	}

	// Its context ends it too, and the peer's end.
	a, b = tcpPair(t)
	s = NewServerConn(b, &Config{MaxWait: time.Hour})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := s.Handshake(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	a.(*net.TCPConn).CloseWrite()
	if err := s.Handshake(testContext(t)); err != io.EOF {
		t.Error(err)
	}
}

// TestClientHandshake ends with the first text of a server that says nothing
// else.
func TestClientHandshake(t *testing.T) {
	a, b := tcpPair(t)
	c := NewClientConn(a, &Config{MaxWait: time.Hour})
	b.Write([]byte("\xff\xfb\x01login: "))
	if err := c.Handshake(testContext(t)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	if n, err := c.Read(buf); string(buf[:n]) != "login: " || err != nil || !c.On(engine.Him, engine.Echo) {
		t.Errorf("%q %v", buf[:n], err)
	}
}

// TestStream sends bytes of all values through both ways, in pieces of any
// size, plain and compressed.
func TestStream(t *testing.T) {
	for _, compress := range []bool{false, true} {
		c, s := pair(t, &Config{}, &Config{Server: option.ServerConfig{Compress: compress}, Passive: true})
		var enable []Ask
		if compress {
			enable = []Ask{{engine.Us, engine.MCCP2}, {engine.Us, engine.MCCP3}}
		}
		s.Update(func(e *engine.Engine) {
			for _, a := range enable {
				e.Enable(a.Side, a.Code)
			}
		})
		if compress { // or the answer may come when nobody reads any more
			agreed := make(chan error)
			go func() { agreed <- c.WaitFor(testContext(t), Remote(engine.MCCP2), Remote(engine.MCCP3)) }()
			if err := errors.Join(s.WaitFor(testContext(t), Local(engine.MCCP2), Local(engine.MCCP3)), <-agreed); err != nil {
				t.Fatal(err)
			}
		}
		const size = 3 << 19 // beyond what compressed streams may expand to without a look at their ratio
		var wg sync.WaitGroup
		for i, dir := range [][2]*Conn{{c, s}, {s, c}} {
			rnd := rand.New(rand.NewPCG(uint64(i), 7))
			text := make([]byte, size)
			for i := range text {
				text[i] = byte(rnd.Uint32())
				if rnd.IntN(4) == 0 {
					text[i] = 255
				}
			}
			if i == 0 {
				clear(text[size/2:]) // long stretches without IAC
			}
			wg.Add(2)
			go func() {
				defer wg.Done()
				for rest := text; len(rest) > 0; {
					n := min(len(rest), 1+rnd.IntN(60000))
					if m, err := dir[0].Write(rest[:n]); err != nil || m != n {
						t.Error(m, err)
						return
					}
					rest = rest[n:]
				}
			}()
			go func() {
				defer wg.Done()
				h, got := sha256.New(), 0
				rnd := rand.New(rand.NewPCG(uint64(i), 8))
				buf := make([]byte, 70000)
				for got < size {
					n, err := dir[1].Read(buf[:1+rnd.IntN(len(buf))])
					h.Write(buf[:n])
					if got += n; err != nil {
						t.Error(err)
						return
					}
				}
				if want := sha256.Sum256(text); !bytes.Equal(h.Sum(nil), want[:]) {
					t.Error("other bytes")
				}
			}()
		}
		wg.Wait()
		if i := s.Info(); compress && !slices.Contains(i.Local, engine.MCCP2) {
			t.Errorf("not compressed: %v %v %v %v", i.Local, i.Remote, i.Dropped, c.Info().Dropped)
		}
	}
}

// TestWriteTorn: a write that a deadline ends says how much of the data went
// out, and leaves no half of a doubled IAC behind.
func TestWriteTorn(t *testing.T) {
	a, b := tcpPair(t)
	s := NewServerConn(b, &Config{Passive: true})
	data := bytes.Repeat([]byte{255, 255, 1}, 100_000)
	sent := 0
	for sent < len(data) {
		s.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
		n, err := s.Write(data[sent:])
		sent += n
		if err == nil {
			continue
		}
		if !IsTimeout(err) {
			t.Fatal(err)
		}
		a.SetReadDeadline(time.Now())
		break
	}
	s.SetWriteDeadline(time.Time{})
	go func() {
		s.Write(data[sent:])
		s.Close()
	}()
	a.SetReadDeadline(time.Time{})
	c := NewClientConn(a, &Config{Passive: true})
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
	}
}

// TestReadAllocates nothing for plain data.
func TestReadAllocates(t *testing.T) {
	a, b := tcpPair(t)
	c, s := NewClientConn(a, &Config{Passive: true}), NewServerConn(b, &Config{Passive: true})
	data, buf := make([]byte, 2000), make([]byte, 4096)
	allocs := testing.AllocsPerRun(50, func() {
		if _, err := c.Write(data); err != nil {
			t.Fatal(err)
		}
		for got := 0; got < len(data); {
			n, err := s.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			got += n
		}
	})
	if allocs > 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// TestWaitForLeavesDeadlines: what WaitFor does to end a read does not remain,
// nor is a reader's deadline lost.
func TestWaitForLeavesDeadlines(t *testing.T) {
	a, b := tcpPair(t)
	s := NewServerConn(b, &Config{Passive: true, MaxLine: 10})
	ctx, cancel := context.WithCancel(context.Background())
	waited := make(chan error)
	go func() { waited <- s.WaitFor(ctx, Remote(engine.NAWS)) }()
	a.Write([]byte("abc"))
	for !s.gotDataNow() {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-waited; err != context.Canceled {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	if n, err := s.Read(buf); string(buf[:n]) != "abc" || err != nil {
		t.Errorf("%q %v", buf[:n], err)
	}
	s.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
	if _, err := s.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	s.SetReadDeadline(time.Time{})
	a.Write([]byte("\xff\xfb\x1f\xff\xfa\x1f\x00\x50\x00\x18\xff\xf0"))
	if err := s.WaitFor(testContext(t), Remote(engine.NAWS), HasSize); err != nil {
		t.Error(err)
	}
	// More than may be kept.
	a.Write([]byte(strings.Repeat("x", 100)))
	if err := s.WaitFor(testContext(t), Remote(engine.TType)); err != ErrUnread {
		t.Error(err)
	}
}

func (c *Conn) gotDataNow() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gotData
}

// TestEvents come in their place between the data, and prompts are told apart.
func TestEvents(t *testing.T) {
	a, b := tcpPair(t)
	var log []string
	c := NewClientConn(a, &Config{Event: func(_ *Conn, ev engine.Event) {
		if ev.Kind == engine.Cmd {
			log = append(log, ev.Cmd.String())
		}
	}})
	b.Write([]byte("name: \xff\xf9pass: \xff\xef\xff\xf6rest"))
	b.(*net.TCPConn).CloseWrite()
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		if n > 0 {
			log = append(log, string(buf[:n]))
		}
		if err != nil {
			break
		}
	}
	if got := strings.Join(log, "|"); got != "name: |GA|pass: |EOR|AYT|rest" {
		t.Error(got)
	}
}

// TestGoAhead: GA by default, nothing with SGA or NeverGA, EOR where asked for.
func TestGoAhead(t *testing.T) {
	for _, c := range []struct {
		never bool
		peer  string
		want  string
	}{{false, "", "\xff\xf9"}, {true, "", ""}, {false, "\xff\xfd\x03", "\xff\xfb\x03"}, {false, "\xff\xfd\x19", "\xff\xfb\x19\xff\xef"}} {
		a, b := tcpPair(t)
		s := NewServerConn(b, &Config{Passive: true, NeverGA: c.never})
		a.Write([]byte(c.peer + "x"))
		if _, err := s.Read(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		sent, _ := s.EndOfRecord()
		if err := s.GoAhead(); err != nil {
			t.Fatal(err)
		}
		s.Close()
		got, _ := io.ReadAll(a)
		if sent {
			got = bytes.Replace(got, []byte("\xff\xef"), nil, 1)
		}
		if string(got) != c.want || sent != strings.Contains(c.want, "\xef") {
			t.Errorf("%x, want %x", got, c.want)
		}
	}
}

// TestRecordAndReplay: a recorded session is received again, with its events.
func TestRecordAndReplay(t *testing.T) {
	var rec bytes.Buffer
	a, b := tcpPair(t)
	c := NewClientConn(a, &Config{Record: NewRecorder(&rec)})
	b.Write([]byte("\xff\xfb\x01hello \xff\xffthere"))
	b.(*net.TCPConn).CloseWrite()
	first, err := io.ReadAll(c)
	if err != nil || string(first) != "hello \xffthere" {
		t.Fatalf("%q %v", first, err)
	}
	if !strings.Contains(rec.String(), `"sent":"//0B"`) {
		t.Errorf("the answer is not in the record:\n%s", rec.String())
	}
	replay := NewReplay(bytes.NewReader(rec.Bytes()), 0)
	again := NewClientConn(replay, nil)
	defer again.Close()
	second, err := io.ReadAll(again)
	if err != nil || !bytes.Equal(first, second) || !again.On(engine.Him, engine.Echo) || replay.Err() != nil {
		t.Errorf("%q %v %v", second, err, replay.Err())
	}
	bad := NewReplay(strings.NewReader("{nonsense"), 1)
	defer bad.Close()
	if _, err := io.ReadAll(bad); err != nil || bad.Err() == nil {
		t.Error("a broken record is whole")
	}
}

// TestAnswersWhileWriting: who reads answers the peer though another goroutine
// is stuck in a write.
func TestAnswersWhileWriting(t *testing.T) {
	a, b := tcpPair(t)
	s := NewServerConn(b, &Config{Passive: true})
	go s.Write(make([]byte, 32<<20))
	pump(s)
	// The peer asks before it reads anything at all.
	for range 1000 {
		if _, err := a.Write(bytes.Repeat([]byte("\xff\xfd\x63"), 100)); err != nil {
			t.Fatal(err)
		}
	}
	c := NewClientConn(a, &Config{Passive: true})
	a.SetReadDeadline(time.Now().Add(time.Minute))
	n, err := io.ReadFull(c, make([]byte, 32<<20))
	if err != nil {
		t.Fatal(n, err)
	}
}

// TestLogoutAndCommands: what a client may say reaches the server.
func TestLogoutAndCommands(t *testing.T) {
	events := make(chan engine.Event, 100)
	c, s := pair(t, nil, &Config{Passive: true, Event: func(_ *Conn, ev engine.Event) { events <- ev }})
	p := pump(s)
	cp := pump(c)
	for _, cmd := range []engine.Command{engine.IP, engine.BRK, engine.AO, engine.EC, engine.EL, engine.SUSP, engine.ABORT, engine.EOF, engine.NOP, engine.AYT} {
		c.SendCommand(cmd)
	}
	c.Logout()
	var got []string
	for ev := range events {
		if ev.Kind == engine.Bye {
			break
		}
		got = append(got, ev.Cmd.String())
	}
	if s := strings.Join(got, " "); s != "IP BRK AO EC EL SUSP ABORT EOF AYT" {
		t.Error(s)
	}
	if !s.Bye() {
		t.Error("no Bye")
	}
	s.NetConn().(*net.TCPConn).CloseWrite()
	<-cp.done
	c.Close()
	<-p.done
	if string(cp.data) != "\r\n[Yes]\r\n" || !c.Bye() {
		t.Errorf("the client got %q", cp.data)
	}
}

// TestAckWait: what is wanted behind a WONT that the peer never acknowledges is
// asked for after a while.
func TestAckWait(t *testing.T) {
	a, b := tcpPair(t)
	s := NewServerConn(b, &Config{Passive: true, AckWait: 5 * time.Millisecond})
	defer s.Close()
	go s.Read(make([]byte, 10))
	a.Write([]byte("\xff\xfd\x01"))
	s.Enable(engine.Us, engine.Echo)
	if err := s.WaitFor(testContext(t), Local(engine.Echo)); err != nil {
		t.Fatal(err)
	}
	s.Disable(engine.Us, engine.Echo)
	s.Enable(engine.Us, engine.Echo)
	got := make([]byte, 9)
	if _, err := io.ReadFull(a, got); err != nil || string(got) != "\xff\xfb\x01\xff\xfc\x01\xff\xfb\x01" {
		t.Errorf("%x %v", got, err)
	}
}

// TestServerAsks: what a server asks for, by what the client tells.
func TestServerAsks(t *testing.T) {
	first, rest := "\xff\xfd\x18", "\xff\xfb\x03\xff\xfb\x00\xff\xfd\x1f\xff\xfd\x2a"
	mark, echo, env := "\xff\xfd\x06", "\xff\xfb\x01", "\xff\xfd\x27"
	next := "\xff\xfa\x18\x01\xff\xf0"
	is := func(s string) string { return "\xff\xfa\x18\x00" + s + "\xff\xf0" }
	for _, c := range []struct {
		name, in, out string
		line          bool
	}{
		{"refuses", "\xff\xfc\x18", first, false},
		{"has a terminal", "\xff\xfb\x18" + is("vt100"), first + next + rest + mark + echo + env + mark + next, false},
		{"edits lines", "\xff\xfb\x18" + is("vt100"), first + next + rest[3:] + mark + env + mark + next, true},
		{"a game's client", "\xff\xfb\x18" + is("MUDLET"), first + next + rest + mark + env + mark + next, false},
		{"Microsoft's", "\xff\xfb\x18" + is("ANSI"), first + next + rest + mark + next, false},
		{"Microsoft's, more", "\xff\xfb\x18" + is("ANSI") + is("VT100"), first + next + rest + mark + next + echo + env + mark + next, false},
		{"no terminal, yet telnet", "\xff\xfb\x1f\xff\xfc\x18", first + "\xff\xfd\x1f" + "\xff\xfb\x03\xff\xfb\x00\xff\xfd\x2a" + mark + echo + env + mark, false},
		{"telnet after the refusal", "\xff\xfc\x18\xff\xfb\x1f", first + "\xff\xfd\x1f" + "\xff\xfb\x03\xff\xfb\x00\xff\xfd\x2a" + echo + env + mark, false},
	} {
		cfg := &Config{LineMode: c.line, Charset: "UTF-8", Server: option.ServerConfig{Env: []option.Var{{Name: "LANG"}}}}
		p := &serverPolicy{cfg: cfg}
		e := engine.New(engine.Config{Role: engine.Server, Options: cfg.options(engine.Server, false), Watch: p.watch})
		p.begin(e)
		e.Feed([]byte(c.in))
		for {
			if _, ok := e.Next(); !ok {
				break
			}
		}
		if got := string(e.Take()); got != c.out {
			t.Errorf("%s:\n%x, want\n%x", c.name, got, c.out)
		}
	}
}
