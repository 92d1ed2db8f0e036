package fingerprint

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/option"
)

// TestHash: the same bytes, and so the same hashes, as those who collect such
// files have. The texts are what Python's json.dumps makes of the values, with
// sort_keys=True and separators=(",", ":").
func TestHash(t *testing.T) {
	for _, tc := range []struct {
		v          object
		text, hash string
	}{
		{object{}, `{}`, "44136fa355b3678a"},
		{object{"probed-protocol": "client", "TERM": "Yes", "charset": "UTF-8", "encoding": "None", "ttype-count": 2,
			"supported-options": []string{"NAWS", "TTYPE"}, "refused-options": []string{}},
			`{"TERM":"Yes","charset":"UTF-8","encoding":"None","probed-protocol":"client","refused-options":[],"supported-options":["NAWS","TTYPE"],"ttype-count":2}`,
			"039e185a085358d0"},
		{object{"a<b>&": "\u00e9\u4e2d\U0001f600\x7f\x00\"\\\b\f\n\r\t/", "Z": nil, "b": true, "f": 2.0, "g": 0.25, "l": []any{1, object{}}},
			`{"Z":null,"a<b>&":"\u00e9\u4e2d\ud83d\ude00\u007f\u0000\"\\\b\f\n\r\t/","b":true,"f":2.0,"g":0.25,"l":[1,{}]}`, "859d64ed31693c28"},
	} {
		if got := string(appendJSON(nil, tc.v, -1)); got != tc.text {
			t.Errorf("got  %s\nwant %s", got, tc.text)
		}
		if got := hashOf(tc.v); got != tc.hash {
			t.Errorf("hash %s, want %s", got, tc.hash)
		}
	}
	const want = "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": {\n    \"c\": []\n  }\n}"
	if got := string(pretty(object{"b": object{"c": []any{}}, "a": []any{1, object{}}})); got != want {
		t.Errorf("%s", got)
	}
	if got := string(appendJSON(nil, "a\xffb", -1)); got != `"a\ufffdb"` {
		t.Error(got)
	}
	if clip(strings.Repeat("\u00e9", 200)) != strings.Repeat("\u00e9", 128) || clip("x"+strings.Repeat("\u00e9", 200)) != "x"+strings.Repeat("\u00e9", 127) {
		t.Error("clip")
	}
}

// TestNames: names in the files are the seed's.
func TestNames(t *testing.T) {
	for code, want := range map[engine.Code]string{0: "BINARY", 3: "SGA", 29: "VT3270REGIME", 39: "NEW_ENVIRON", 44: "COM_PORT", 45: "SUPPRESS_LOCAL_ECHO",
		46: "TLS", 37: "AUTHENTICATION", 140: "PRAGMA_HEARTBEAT", 201: "GMCP", 222: "0xde"} {
		if got := nameOf(code); got != want {
			t.Errorf("%d is %s, want %s", code, got, want)
		}
	}
	if len(core) != 14 || len(legacy) != 32 {
		t.Errorf("%d and %d options", len(core), len(legacy))
	}
	seen := map[engine.Code]bool{}
	for _, code := range slices.Concat(core, serial, legacy, games) {
		if seen[code] || code == engine.Logout || code == engine.TM {
			t.Errorf("%v", code)
		}
		seen[code] = true
	}
}

func record(n int, session string) *Record {
	return newRecord("client", object{"n": n}, object{"s": session}, object{"ip": "192.0.2.1"}, object{"id": session})
}

// TestStore: the same session again goes into its file, which keeps what others
// have added; nothing half written is ever there.
func TestStore(t *testing.T) {
	dir := t.TempDir()
	s := &Store{Dir: filepath.Join(dir, "data")}
	r := record(1, "a")
	file, err := s.Save(r)
	if err != nil || file != filepath.Join(s.Dir, "client", r.Hash, unknownTerminal, r.ID+".json") {
		t.Fatal(file, err)
	}
	got, err := os.ReadFile(file)
	if err != nil || string(got) != string(r.JSON()) {
		t.Fatalf("%s %v", got, err)
	}
	// A program that probes terminals finds out which it is, and tells.
	known := filepath.Join(s.Dir, "client", r.Hash, "0123456789abcdef")
	if err := os.Rename(filepath.Dir(file), known); err != nil {
		t.Fatal(err)
	}
	added := strings.Replace(string(got), "{", "{\n  \"terminal-probe\": {\"n\": 12345678901234567890},", 1)
	file = filepath.Join(known, r.ID+".json")
	if err := os.WriteFile(file, []byte(added), 0o600); err != nil {
		t.Fatal(err)
	}
	r = newRecord("client", object{"n": 1}, object{"s": "again"}, object{"ip": "192.0.2.2"}, object{"id": "a"})
	if f, err := s.Save(r); f != file || err != nil {
		t.Fatal(f, err)
	}
	var doc struct {
		Terminal map[string]json.Number `json:"terminal-probe"`
		Probe    struct {
			Fingerprint string
			Data        map[string]any `json:"fingerprint-data"`
			Session     map[string]any `json:"session_data"`
		} `json:"telnet-probe"`
		Sessions []map[string]string
	}
	got, _ = os.ReadFile(file)
	if err := json.Unmarshal(got, &doc); err != nil || doc.Terminal["n"] != "12345678901234567890" || doc.Probe.Fingerprint != r.Hash ||
		doc.Probe.Session["s"] != "again" || len(doc.Sessions) != 2 || doc.Sessions[1]["ip"] != "192.0.2.2" {
		t.Fatalf("%s %v", got, err)
	}
	// What nobody could have written here is replaced.
	for _, junk := range []string{"", "[]", "{", `{"telnet-probe": 1, "sessions": []}`, strings.Repeat(" ", maxFile) + string(got)} {
		if err := os.WriteFile(file, []byte(junk), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Save(r); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(file); string(got) != string(r.JSON()) {
			t.Errorf("%.40q became %s", junk, got)
		}
	}
	for range maxSessions + 3 {
		r.Entry = object{"ip": "192.0.2.3"}
		doc := r.merge(object{"telnet-probe": object{}, "sessions": make([]any, maxSessions)})
		if n := len(doc["sessions"].([]any)); n != maxSessions {
			t.Fatalf("%d sessions", n)
		}
	}
	left := 0
	filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			left++
		}
		return err
	})
	if left != 1 {
		t.Errorf("%d files", left)
	}
}

// TestStoreIsBounded: files of a fingerprint, fingerprints of a kind. What is
// there already goes on being written.
func TestStoreIsBounded(t *testing.T) {
	s := &Store{Dir: t.TempDir(), MaxFiles: 2, MaxFingerprints: 3}
	save := func(n int, session string, want error) {
		t.Helper()
		if _, err := s.Save(record(n, session)); !errors.Is(err, want) {
			t.Errorf("%d %s: %v", n, session, err)
		}
	}
	save(1, "a", nil)
	save(1, "b", nil)
	save(1, "c", ErrFull)
	save(1, "a", nil)
	save(2, "a", nil)
	save(3, "a", nil)
	save(4, "a", ErrFull)
	save(3, "b", nil)
	if _, err := s.Save(newRecord("server", object{}, object{}, object{}, object{})); err != nil {
		t.Error("servers are counted by themselves:", err)
	}
	// At once, too.
	s = &Store{Dir: t.TempDir(), MaxFiles: 5}
	var wg sync.WaitGroup
	for n := range 20 {
		wg.Go(func() { s.Save(record(1, string(rune('a'+n)))) })
	}
	wg.Wait()
	if list, _ := filepath.Glob(filepath.Join(s.Dir, "client", "*", "*", "*")); len(list) != 5 {
		t.Errorf("%d files", len(list))
	}
}

// TestStoreStaysInside: links that lead out of the directory are not followed.
func TestStoreStaysInside(t *testing.T) {
	outside, r := t.TempDir(), record(1, "a")
	for _, at := range []string{"client", filepath.Join("client", r.Hash), filepath.Join("client", r.Hash, unknownTerminal)} {
		s := &Store{Dir: t.TempDir()}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(s.Dir, at)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(outside, filepath.Join(s.Dir, at)); err != nil {
			t.Fatal(err)
		}
		if f, err := s.Save(r); err == nil {
			t.Errorf("%s: wrote %s", at, f)
		}
	}
	s := &Store{Dir: t.TempDir()}
	target := filepath.Join(outside, "names")
	if err := os.WriteFile(target, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	os.Symlink(target, filepath.Join(s.Dir, namesFile))
	if err := s.SetName("0123456789abcdef", "x"); err != nil { // the link is replaced
		t.Error(err)
	}
	if b, _ := os.ReadFile(target); string(b) != "{}" {
		t.Errorf("%s", b)
	}
	if list, _ := os.ReadDir(outside); len(list) != 1 {
		t.Errorf("%v", list)
	}
}

func TestNamesOfFingerprints(t *testing.T) {
	s := &Store{Dir: t.TempDir()}
	for _, bad := range []string{"", " ", "a\x1bb", "a\nb", "\xff", strings.Repeat("x", maxName+1)} {
		if s.SetName("0123456789abcdef", bad) == nil {
			t.Errorf("%q is a name", bad)
		}
	}
	for _, name := range []string{"PuTTY", " plink \u00e9 "} {
		if err := s.SetName("0123456789abcdef", name); err != nil || s.Name("0123456789abcdef") != strings.TrimSpace(name) {
			t.Errorf("%q: %v", s.Name("0123456789abcdef"), err)
		}
	}
	if s.Name("fedcba9876543210") != "" {
		t.Error("a name out of nothing")
	}
}

func TestEnvironmentVariables(t *testing.T) {
	env := map[string]string{"TELNETLIB3_DATA_DIR": "theirs", "TELNETLIB3_FINGERPRINT_MAX_FILES": "7", "TELNETLIB3_FINGERPRINT_POST_SCRIPT": "p"}
	s, err := Environment(func(n string) string { return env[n] })
	if want := (Settings{"theirs", 7, 0, "p"}); s != want || err != nil {
		t.Errorf("%+v %v", s, err)
	}
	env["TAPSTACK_DATA_DIR"], env["TAPSTACK_FINGERPRINT_MAX_FINGERPRINTS"] = "ours", "9"
	s, err = Environment(func(n string) string { return env[n] })
	if want := (Settings{"ours", 7, 9, "p"}); s != want || err != nil {
		t.Errorf("%+v %v", s, err)
	}
	env["TAPSTACK_FINGERPRINT_MAX_FILES"] = "-1"
	if _, err = Environment(func(n string) string { return env[n] }); err == nil || !strings.Contains(err.Error(), "TAPSTACK_FINGERPRINT_MAX_FILES") {
		t.Error(err)
	}
}

// TestNothingSecretIsAskedFor: no name that smells of one, and not all there are.
func TestNothingSecretIsAskedFor(t *testing.T) {
	for _, v := range Variables {
		for _, word := range []string{"SECRET", "TOKEN", "KEY", "PASS", "AUTH", "CRED", "SSH", "AWS"} {
			if v == "" || strings.Contains(v, word) {
				t.Errorf("%q is asked for", v)
			}
		}
	}
}

// listen serves each connection to a server of the test's by f, and returns how
// it is dialled.
func listen(t *testing.T, f func(net.Conn)) dialFunc {
	t.Helper()
	return func(context.Context, string, string) (net.Conn, error) {
		client, server := loopPair(4000)
		t.Cleanup(func() { client.Close() })
		go func() {
			defer server.Close()
			f(server)
		}()
		return client, nil
	}
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

func serveShell(t *testing.T, x *Shell, maxWait time.Duration) net.Conn {
	t.Helper()
	x.Logger = slog.New(slog.DiscardHandler)
	cfg := &telnet.Config{Extra: Extra, MaxWait: maxWait}
	for _, name := range Variables {
		cfg.Server.Env = append(cfg.Server.Env, option.Var{Name: name})
	}
	s := &telnet.Server{Handler: x, Config: cfg, Logger: x.Logger}
	c, served := loopPair(4000)
	go s.ServeConn(served)
	c.SetDeadline(time.Now().Add(20 * time.Second))
	t.Cleanup(func() { c.Close(); s.Close() })
	return c
}

// TestClient: all that a client of ours shows, in its place in the file, and the
// same to the client itself.
func TestClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &Store{Dir: t.TempDir()}
		c := telnet.NewClientConn(serveShell(t, &Shell{Store: store, Wait: 10 * time.Second, IdleTimeout: 5 * time.Minute}, 10*time.Second), &telnet.Config{
			Extra: func() []engine.Option {
				o := option.NewComPort(true, false)
				o.Signature = "port"
				return []engine.Option{o}
			},
			Client: option.ClientConfig{Terms: []string{"XTERM", "vt220"}, Size: option.Size{Cols: 132, Rows: 43}, Speed: option.Speed{Tx: 9600, Rx: 300},
				Display: "here:0", Env: []option.Var{{Name: "USER", Value: "me"}, {Name: "HOME"}, {Name: "LANG", Value: "de_DE.ISO-8859-15@euro"},
					{Name: "AWS_SECRET_ACCESS_KEY", Value: "hush"}}}})
		shown, err := io.ReadAll(c)
		if err != nil {
			t.Fatal(err)
		}
		files, _ := filepath.Glob(filepath.Join(store.Dir, "client", "*", unknownTerminal, "*.json"))
		if len(files) != 1 {
			t.Fatalf("%v", files)
		}
		b, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.ReplaceAll(string(shown), "\r\n", "\n"); got != string(b)+"\n" {
			t.Errorf("shown:\n%s", got)
		}
		if strings.Contains(string(b), "hush") || strings.Contains(string(b), "SECRET") {
			t.Error("a secret was kept")
		}
		var doc map[string]any
		if err := json.Unmarshal(b, &doc); err != nil {
			t.Fatal(err)
		}
		probe := doc["telnet-probe"].(object)
		data, session := probe["fingerprint-data"].(object), probe["session_data"].(object)
		if probe["fingerprint"] != filepath.Base(filepath.Dir(filepath.Dir(files[0]))) {
			t.Error(probe["fingerprint"])
		}
		wantJSON(t, data, `{"HOME":"None","TERM":"Yes","USER":"True","charset":"UTF-8","encoding":"ISO-8859-15","probed-protocol":"client",
			"refused-options":["AUTHENTICATION","BM","DET","ECHO","ENCRYPT","FORWARD_X","KERMIT","NAMS","NAOCRD","NAOFFD","NAOHTD","NAOHTS","NAOL","NAOLFD",
			"NAOP","NAOVTD","NAOVTS","PRAGMA_HEARTBEAT","PRAGMA_LOGON","RCP","RCTE","RSP","SEND_URL","SNDLOC","SSPI_LOGON","SUPDUP","SUPDUPOUTPUT",
			"SUPPRESS_LOCAL_ECHO","TLS","TN3270E","TTYLOC","VT3270REGIME","X3PAD","XAUTH"],
			"supported-options":["BINARY","CHARSET","COM_PORT","EOR","LFLOW","LINEMODE","NAWS","NEW_ENVIRON","SGA","STATUS","TSPEED","TTYPE","XDISPLOC"],
			"ttype-count":2}`, "SHELL", "IPADDRESS")
		wantJSON(t, session["extra"].(object), `{"LANG":"de_DE.ISO-8859-15@euro","TERM":"vt220","USER":"me","charset":"UTF-8","cols":132,"rows":43,
			"timeout":300,"tspeed":"9600,300","xdisploc":"here:0"}`)
		wantJSON(t, session["comport"].(object), `{"signature":"port"}`)
		if got := session["ttype_cycle"].([]any); len(got) != 2 || got[0] != "XTERM" || got[1] != "vt220" {
			t.Error(got)
		}
		p := session["probe"].(object)
		if p["WILL"].(object)["NAWS"] != 31.0 || p["WONT"].(object)["X3PAD"] != 30.0 || p["timeout"] != nil {
			t.Error(p)
		}
		states := session["option_states"].(object)
		if states["remote"].(object)["LINEMODE"] != true || states["remote"].(object)["ECHO"] != false || states["local"].(object)["ECHO"] != true {
			t.Error(states)
		}
		timing := session["timing"].(object)
		for _, key := range []string{"duration", "idle", "probe"} {
			if f, ok := timing[key].(float64); !ok || f < 0 || f > 20 {
				t.Errorf("%s: %v", key, timing[key])
			}
		}
		one := doc["sessions"].([]any)[0].(object)
		if _, err := time.Parse(time.RFC3339Nano, one["connected"].(string)); err != nil || one["ip"] != "127.0.0.1" {
			t.Error(one, err)
		}
	})
}

// wantJSON compares but for some keys.
func wantJSON(t *testing.T, got object, want string, but ...string) {
	t.Helper()
	var w object
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	for _, key := range but {
		delete(got, key)
	}
	a, _ := json.MarshalIndent(got, "", " ")
	b, _ := json.MarshalIndent(w, "", " ")
	if string(a) != string(b) {
		t.Errorf("got %s\nwant %s", a, b)
	}
}

// TestOddClients: those with bad manners, and none of any.
func TestOddClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		probe := func(hello string, answer func(verb, code byte) string) object {
			t.Helper()
			store := &Store{Dir: t.TempDir()}
			c := serveShell(t, &Shell{Store: store, Wait: 200 * time.Millisecond}, 100*time.Millisecond)
			io.WriteString(c, hello)
			b := make([]byte, 4096)
			var in []byte
			for {
				n, err := c.Read(b)
				if in = append(in, b[:n]...); err != nil {
					break
				}
				for len(in) >= 3 && in[0] == 255 {
					if in[1] == 250 {
						end := strings.Index(string(in), "\xff\xf0")
						if end < 0 {
							break
						}
						in = in[end+2:]
						continue
					}
					io.WriteString(c, answer(in[1], in[2]))
					in = in[3:]
				}
				if len(in) > 0 && in[0] != 255 {
					in = nil // it is shown its fingerprint
				}
			}
			files, _ := filepath.Glob(filepath.Join(store.Dir, "client", "*", "*", "*.json"))
			if len(files) != 1 {
				t.Fatalf("%d files", len(files))
			}
			raw, _ := os.ReadFile(files[0])
			var doc map[string]any
			if err := json.Unmarshal(raw, &doc); err != nil {
				t.Fatal(err)
			}
			return doc["telnet-probe"].(object)["fingerprint-data"].(object)
		}
		// It wants us to have a window, offers to echo, and answers everything, also
		// what it has agreed to.
		data := probe("\xff\xfd\x1f\xff\xfb\x01\xff\xfb\x40\xff\xfb\x18", func(verb, code byte) string {
			switch {
			case verb == 253 && code == 3 || verb == 253 && code == 31:
				return "\xff\xfb" + string([]byte{code})
			case verb == 253:
				return "\xff\xfc" + string([]byte{code})
			}
			return ""
		})
		want := map[string]string{"looped-negotiation": `["NAWS","SGA"]`, "directional-refusals": `["ECHO","NAWS"]`, "rejected-do": `["NAWS"]`,
			"rejected-will": `["0x40","ECHO"]`, "supported-options": `["NAWS","SGA"]`}
		for key, w := range want {
			if got, _ := json.Marshal(data[key]); string(got) != w {
				t.Errorf("%s: %s, want %s", key, got, w)
			}
		}
		// It says nothing but a line.
		data = probe("hello\r\n", func(_, _ byte) string { return "" })
		if data["TERM"] != "None" || data["looped-negotiation"] != nil || len(data["supported-options"].([]any)) != 0 || len(data["refused-options"].([]any)) != 47 {
			t.Error(data)
		}
		// Microsoft's is spared what makes it crash.
		c := serveShell(t, &Shell{Wait: 20 * time.Millisecond}, 100*time.Millisecond)
		io.WriteString(c, "\xff\xfb\x18\xff\xfa\x18\x00ANSI\xff\xf0\xff\xfa\x18\x00VT100\xff\xf0")
		all, _ := io.ReadAll(c)
		if strings.Contains(string(all), "\xff\xfd\x25") || !strings.Contains(string(all), "\xff\xfd\x2c") {
			t.Errorf("%q", all)
		}
		// A game's client is asked for what games have.
		c = serveShell(t, &Shell{Wait: 20 * time.Millisecond}, 100*time.Millisecond)
		io.WriteString(c, "\xff\xfb\x18\xff\xfa\x18\x00Mudlet\xff\xf0\xff\xfa\x18\x00Mudlet\xff\xf0")
		if all, _ := io.ReadAll(c); !strings.Contains(string(all), "\xff\xfd\xc9") {
			t.Errorf("%q", all)
		}
	})
}

// TestPost: what serves the session after the probe knows the file. Without one
// the client sees its fingerprint.
func TestPost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &Store{Dir: t.TempDir()}
		post := telnet.HandlerFunc(func(ctx context.Context, c *telnet.Conn) { io.WriteString(c, "post "+File(ctx)) })
		read := func(x *Shell) string {
			x.Post, x.Wait = post, 20*time.Millisecond
			c := serveShell(t, x, time.Second)
			io.WriteString(c, "\xff\xfc\x18")
			c2 := telnet.NewClientConn(c, &telnet.Config{Passive: true})
			all, _ := io.ReadAll(c2)
			return string(all)
		}
		if s := read(&Shell{Store: store}); !strings.HasPrefix(s, "post "+store.Dir+"/client/") || !strings.HasSuffix(s, ".json") {
			t.Error(s)
		}
		if s := read(&Shell{}); !strings.HasPrefix(s, "{\r\n  \"sessions\"") {
			t.Error(s)
		}
		if s := read(&Shell{Store: &Store{Dir: "/dev/null/x"}}); !strings.HasPrefix(s, "{") {
			t.Error(s)
		}
		if File(context.Background()) != "" {
			t.Error("a file out of nothing")
		}
	})
}
