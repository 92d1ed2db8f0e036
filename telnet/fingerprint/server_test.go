package fingerprint

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/option"
)

// quick is a scan with little patience.
func quick(dial dialFunc) *Scan {
	return &Scan{Host: "127.0.0.1", Port: 4000, Dial: dial, Timeout: 20 * time.Second, Quiet: 60 * time.Millisecond, Most: 5 * time.Second, Wait: 60 * time.Millisecond,
		MSSPWait: 60 * time.Millisecond}
}

func scan(t *testing.T, s *Scan) (r *Record, data, session object) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r, err := s.Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(r.JSON(), &doc); err != nil {
		t.Fatal(err)
	}
	p := doc["server-probe"].(object)
	return r, p["fingerprint-data"].(object), p["session_data"].(object)
}

// TestServerOfOurs: what our server shows, and that it has no bad manners.
func TestServerOfOurs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial := listen(t, func(nc net.Conn) {
			c := telnet.NewServerConn(nc, &telnet.Config{MaxWait: 5 * time.Second, Server: option.ServerConfig{
				Env: []option.Var{{Name: "LANG"}, {Name: "TERM"}}, MSSP: option.MSSPVars{"NAME": {"A game"}, "PORT": {"23", "4000"}}}})
			if c.Handshake(context.Background()) != nil {
				return
			}
			text := c.Text()
			text.WriteString("Colours (y/n)? ")
			for {
				line, err := text.ReadLine()
				if err != nil {
					return
				}
				text.Printf("you said %q \u263a\x1b[0m\n", line)
			}
		})
		s := quick(dial)
		s.Wait, s.Quiet, s.Full, s.Term, s.MSSPWait = 5*time.Second, 300*time.Millisecond, true, "xterm", 5*time.Second
		s.Wait = 300 * time.Millisecond
		r, data, session := scan(t, s)
		wantJSON(t, data, `{"probed-protocol":"server","scan-type":"full","offered-options":["BINARY","CHARSET","ECHO","EOR","MSSP","SGA","STATUS"],
			"requested-options":["BINARY","CHARSET","NAWS","NEW_ENVIRON","TTYPE"],"wrong-direction-offered":[],"looped-negotiation":[]}`, "refused-options")
		if session["banner_before_return"] != "Colours (y/n)? " || !strings.HasSuffix(session["banner_after_return"].(string), "you said \"y\" \u263a\x1b[0m\r\n") {
			t.Error(session)
		}
		wantJSON(t, session["mssp"].(object), `{"NAME":"A game","PORT":["23","4000"]}`)
		if got, _ := json.Marshal(session["option_states"].(object)["environ_requested"]); string(got) != `[{"name":"LANG","type":"VAR"},{"name":"TERM","type":"VAR"}]` {
			t.Errorf("%s", got)
		}
		// It is kept under server/, by its hash.
		store := &Store{Dir: t.TempDir()}
		file, err := store.Save(r)
		if err != nil || file != filepath.Join(store.Dir, "server", r.Hash, r.ID+".json") {
			t.Error(file, err)
		}
		out := filepath.Join(t.TempDir(), "a", "b.json")
		if err := WriteFile(out, r); err != nil {
			t.Error(err)
		}
		if b, _ := os.ReadFile(out); string(b) != string(r.JSON()) {
			t.Errorf("%s", b)
		}
	})
}

// TestOddServers: one that wants and offers what it may not and answers all, one
// that floods, one that hangs up, one that asks a terminal, one of games.
func TestOddServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial := listen(t, func(c net.Conn) {
			// DO ECHO, as busybox says, and an answer to everything.
			io.WriteString(c, "\xff\xfd\x01\xff\xfb\x03")
			for b := make([]byte, 3); ; {
				if _, err := io.ReadFull(c, b[:1]); err != nil {
					return
				}
				if b[0] != 255 {
					continue
				}
				if _, err := io.ReadFull(c, b[1:]); err != nil {
					return
				}
				if b[1] == 253 && (b[2] == 3 || b[2] == 31) {
					c.Write([]byte{255, 251, b[2]})
				} else if b[1] == 253 {
					c.Write([]byte{255, 252, b[2]})
				}
			}
		})
		_, data, _ := scan(t, quick(dial))
		for key, want := range map[string]string{"wrong-direction-offered": `["ECHO","NAWS"]`, "looped-negotiation": `["NAWS","SGA"]`, "offered-options": `["SGA"]`} {
			if got, _ := json.Marshal(data[key]); string(got) != want {
				t.Errorf("%s: %s, want %s", key, got, want)
			}
		}

		dial = listen(t, func(c net.Conn) {
			go io.Copy(io.Discard, c)
			// It is not endless: no time passes while somebody has something to do.
			for range 1000 {
				if _, err := io.WriteString(c, strings.Repeat("x\x1b[6n", 1000)); err != nil {
					return
				}
			}
		})
		s := quick(dial)
		s.MaxBanner = 1000
		_, _, session := scan(t, s)
		if n := len(session["banner_before_return"].(string)); n != 1000 {
			t.Errorf("%d bytes of a flood", n)
		}

		dial = listen(t, func(c net.Conn) { io.WriteString(c, "bye\r\n") })
		_, data, session = scan(t, quick(dial))
		if session["banner_before_return"] != "bye\r\n" || len(data["offered-options"].([]any)) != 0 {
			t.Error(session, data)
		}

		answers := make(chan string, 1)
		dial = listen(t, func(c net.Conn) {
			io.WriteString(c, "\x1b[5n\x1b[6")
			io.WriteString(c, "n\x1b[c\x05")
			b := make([]byte, len("\x1b[0n\x1b[1;1R\x1b[?1;2cvt52"))
			io.ReadFull(c, b)
			answers <- string(b)
		})
		s = quick(dial)
		s.Term, s.Quiet = "vt52", 5*time.Second
		scan(t, s)
		if got := <-answers; got != "\x1b[0n\x1b[1;1R\x1b[?1;2cvt52" {
			t.Errorf("%q", got)
		}

		dial = listen(t, func(nc net.Conn) {
			c := telnet.NewServerConn(nc, &telnet.Config{Passive: true, Extra: func() []engine.Option {
				return []engine.Option{option.NewMessage(engine.ATCP, true, false), option.NewMessage(engine.ZMP, true, false)}
			}})
			c.Enable(engine.Us, engine.ATCP)
			c.Enable(engine.Us, engine.ZMP)
			c.WaitFor(context.Background(), telnet.Local(engine.ATCP), telnet.Local(engine.ZMP))
			for range maxHeard + 10 {
				c.Subnegotiate(engine.ATCP, []byte("Room.Brief "+strings.Repeat("x", 2*maxValue)))
			}
			c.Subnegotiate(engine.ZMP, []byte("zmp.ping\x00"))
			io.Copy(io.Discard, c)
		})
		_, _, session = scan(t, quick(dial))
		if atcp := session["atcp"].([]any); len(atcp) != maxHeard || atcp[0].(object)["package"] != "Room.Brief" || len(atcp[0].(object)["value"].(string)) != maxValue {
			t.Error(atcp)
		}
		if got, _ := json.Marshal(session["zmp"]); string(got) != `[["zmp.ping"]]` {
			t.Errorf("%s", got)
		}

		if _, err := quick(func(context.Context, string, string) (net.Conn, error) { return nil, syscall.ECONNREFUSED }).Run(context.Background()); err == nil {
			t.Error("there is nobody")
		}
	})
}

func TestAnswers(t *testing.T) {
	for banner, want := range map[string]string{
		"": "\r\n", "login: ": "\r\n",
		"ANSI colour? (Y/N) ": "y\r\n", "Continue [yes/no]": "yes\r\n", "hay/nay": "\r\n",
		"Press [ESC] twice to go on": "\x1b\x1b", "[ESC][ESC]": "\x1b\x1b", "Hit escape two times": "\x1b\x1b",
		"1) ASCII\r\n2) ANSI\r\n3) UTF-8\r\n": "3\r\n", "[1] English [2] Deutsch": "1\r\n", "1. Latin 2. ANSI": "2\r\n",
	} {
		if got := answerTo([]byte(banner)); got != want {
			t.Errorf("%q is answered by %q", banner, got)
		}
	}
	if list := requested([]byte("\x00A\x03B\x02\x03C\x00"), 10); len(list) != 3 || list[1].(object)["name"] != "B\x03C" || list[2].(object)["name"] != "*" {
		t.Error(list)
	}
	if list := requested(nil, 10); len(list) != 2 || list[1].(object)["type"] != "USERVAR" {
		t.Error(list)
	}
	if got := decode("\xc1", "cp037"); got != "A" {
		t.Error(got)
	}
	if got := decode("\u00e9", "ascii"); got != "\u00e9" {
		t.Error(got)
	}
}

// FuzzScan: whatever a server says, the scan ends and its file can be read.
func FuzzScan(f *testing.F) {
	for _, s := range []string{"", "\xff\xfb\x46\xff\xfa\x46\x01A\x02B\xff\xf0", "\xff\xfd\x27\xff\xfa\x27\x01\x00A\xff\xf0", "1) UTF-8\x1b[6n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, peer := net.Pipe()
		go func() {
			go io.Copy(io.Discard, peer)
			peer.Write(b)
			peer.Close()
		}()
		s := &Scan{Host: "h", Port: 1, Quiet: time.Millisecond, Most: time.Millisecond, Wait: time.Millisecond, MSSPWait: time.Millisecond,
			Dial: func(context.Context, string, string) (net.Conn, error) { return a, nil }}
		r, err := s.Run(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if !json.Valid(r.JSON()) {
			t.Errorf("%s", r.JSON())
		}
	})
}

// FuzzClient: whatever a client says, the file can be read and is bounded.
func FuzzClient(f *testing.F) {
	for _, s := range []string{"", "\xff\xfb\x18\xff\xfa\x18\x00\"\\\x00\xff\xf0", "\xff\xfb\x27\xff\xfa\x27\x00\x00USER\x01../../x\xff\xf0",
		"\xff\xfb\x22\xff\xfa\x22\x03\x03\x02\x01\xff\xf0\xff\xfb\x2c\xff\xfa\x2c\x00sig\xff\xf0"} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		a, peer := net.Pipe()
		go func() {
			go io.Copy(io.Discard, peer)
			peer.Write(b)
			peer.Close()
		}()
		c := telnet.NewServerConn(a, &telnet.Config{Extra: Extra, MaxWait: time.Millisecond})
		defer c.Close()
		c.Handshake(context.Background())
		x := &Shell{Wait: time.Millisecond, Logger: slog.New(slog.DiscardHandler)}
		r, _ := x.Probe(context.Background(), c)
		if text := r.JSON(); !json.Valid(text) || len(text) > 64<<10 {
			t.Errorf("%s", text)
		}
		s := &Store{Dir: dir, MaxFiles: 3, MaxFingerprints: 3}
		if file, err := s.Save(r); err == nil && !strings.HasPrefix(file, dir+"/client/") {
			t.Error(file)
		}
	})
}
