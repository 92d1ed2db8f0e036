package telnet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/option"
)

// TestLines: every form of the end of a line, over every division, is one end.
func TestLines(t *testing.T) {
	const in = "one\r\ntwo\r\x00three\nfour\rfive\r\n\r\n\n\r\x00last"
	want := "one|two|three|four|five||||last"
	for cut := 0; cut <= len(in); cut++ {
		a, b := tcpPair(t)
		x := NewServerConn(b, &Config{Passive: true}).Text()
		go func() {
			a.Write([]byte(in[:cut]))
			a.Write([]byte(in[cut:]))
			a.(*net.TCPConn).CloseWrite()
		}()
		var lines []string
		for {
			s, err := x.ReadLine()
			if err == nil || s != "" {
				lines = append(lines, s)
			}
			if err != nil {
				if err != io.EOF {
					t.Error(err)
				}
				break
			}
		}
		if got := strings.Join(lines, "|"); got != want {
			t.Fatalf("cut at %d: %q", cut, got)
		}
		a.Close()
		b.Close()
	}
}

// TestLineEndsAtOnce: a CR is an end though nothing follows it, and an LF that
// comes later belongs to it.
func TestLineEndsAtOnce(t *testing.T) {
	a, b := tcpPair(t)
	x := NewServerConn(b, &Config{Passive: true}).Text()
	for _, part := range []string{"first\r", "\nsecond\r", "\x00third\r"} {
		a.Write([]byte(part))
		if s, err := x.ReadLine(); err != nil || !strings.Contains(part, s) || s == "" {
			t.Fatalf("%q %v", s, err)
		}
	}
}

func TestLineLimit(t *testing.T) {
	a, b := tcpPair(t)
	x := NewServerConn(b, &Config{Passive: true, MaxLine: 50}).Text()
	a.Write([]byte(strings.Repeat("x", 5000) + "\r\nshort\r\n"))
	if s, err := x.ReadLine(); err != ErrLineTooLong {
		t.Errorf("%d bytes, %v", len(s), err)
	}
	if s, err := x.ReadLine(); s != "short" || err != nil {
		t.Errorf("%q, %v", s, err)
	}
}

// TestEditing: in character mode the server echoes, and erases.
func TestEditing(t *testing.T) {
	a, b := tcpPair(t)
	s := NewServerConn(b, &Config{Passive: true})
	s.Enable(engine.Us, engine.Echo)
	a.Write([]byte("\xff\xfd\x01"))
	if err := s.WaitFor(testContext(t), Local(engine.Echo)); err != nil {
		t.Fatal(err)
	}
	x := s.Text()
	a.Write([]byte("ab\x7fc one  two \x17x\r\nü\x08\x08gone\x15kept\r\x00secret\r\n"))
	for _, want := range []string{"ac one  x", "kept"} {
		if got, err := x.ReadLine(); got != want || err != nil {
			t.Errorf("%q, want %q, %v", got, want, err)
		}
	}
	if got, err := x.ReadPassword("? "); got != "secret" || err != nil {
		t.Errorf("%q %v", got, err)
	}
	s.Close()
	out, _ := io.ReadAll(a)
	want := "\xff\xfb\x01" + "ab\b \bc one  two " + strings.Repeat("\b \b", 4) + "x\r\n" +
		"ü\b \bgone" + strings.Repeat("\b \b", 4) + "kept\r\n" + "? \r\n"
	if string(out) != want {
		t.Errorf("echo\n%q, want\n%q", out, want)
	}
}

// TestPassword takes ECHO over from a client that edits lines, and gives it
// back, again and again.
func TestPassword(t *testing.T) {
	a, b := tcpPair(t)
	x := NewServerConn(b, &Config{Passive: true}).Text()
	seen := make(chan string, 1)
	go func() { // a client that answers when it is asked
		var all []byte
		for b := make([]byte, 1); ; {
			if _, err := a.Read(b); err != nil {
				seen <- string(all)
				return
			}
			switch all = append(all, b[0]); {
			case bytes.HasSuffix(all, []byte("\xff\xfb\x01")):
				a.Write([]byte("\xff\xfd\x01hidden\r\n"))
			case bytes.HasSuffix(all, []byte("\xff\xfc\x01\r\n")):
				a.Write([]byte("\xff\xfe\x01shown\r\n"))
			}
		}
	}()
	for range 3 {
		if s, err := x.ReadPassword("password: "); s != "hidden" || err != nil {
			t.Fatalf("%q %v", s, err)
		}
		if s, err := x.ReadLine(); s != "shown" || err != nil {
			t.Fatalf("%q %v", s, err)
		}
	}
	x.c.Close()
	out := <-seen
	if want := strings.Repeat("password: \xff\xfb\x01\xff\xfc\x01\r\n", 3); out != want {
		t.Errorf("%q, want %q", out, want)
	}
}

// TestCharsets writes and reads text in the sets that peers are known to use.
func TestCharsets(t *testing.T) {
	for _, c := range []struct{ name, text, wire string }{
		{"UTF-8", "grün ✓", "gr\xc3\xbcn \xe2\x9c\x93"},
		{"CP437", "grün ║", "gr\x81n \xba"},
		{"ISO-8859-1", "grün", "gr\xfcn"},
		{"latin1", "grün", "gr\xfcn"},
		{"iso-8859-15", "€", "\xa4"},
		{"CP1252", "€", "\x80"},
		{"KOI8-R", "да", "\xc4\xc1"},
		{"SHIFT_JIS", "日本", "\x93\xfa\x96\x7b"},
		{"CP932", "日本", "\x93\xfa\x96\x7b"},
		{"EUC-JP", "日本", "\xc6\xfc\xcb\xdc"},
		{"ISO-2022-JP", "日本", "\x1b$BF|K\\\x1b(B"},
		{"BIG5", "中文", "\xa4\xa4\xa4\xe5"},
		{"CP950", "中文", "\xa4\xa4\xa4\xe5"},
		{"GBK", "中文", "\xd6\xd0\xce\xc4"},
		{"GB2312", "中文", "\xd6\xd0\xce\xc4"},
		{"CP936", "中文", "\xd6\xd0\xce\xc4"},
		{"EUC-KR", "한글", "\xc7\xd1\xb1\xdb"},
		{"CP949", "한글", "\xc7\xd1\xb1\xdb"},
		{"IBM037", "AB", "\xc1\xc2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := tcpPair(t)
			cfg := &Config{Passive: true, Charset: c.name, ForceCharset: true}
			x := NewServerConn(a, cfg).Text()
			if _, err := x.WriteString(c.text); err != nil {
				t.Fatal(err)
			}
			x.c.Close()
			got, _ := io.ReadAll(b)
			if string(got) != c.wire {
				t.Errorf("%q, want %q", got, c.wire)
			}

			a, b = tcpPair(t)
			go func() {
				for i := range len(c.wire) { // a byte at a time
					a.Write([]byte(c.wire[i : i+1]))
				}
				a.(*net.TCPConn).CloseWrite()
			}()
			var text strings.Builder
			if _, err := io.Copy(&text, NewClientConn(b, cfg).Text()); err != nil || text.String() != c.text {
				t.Errorf("%q, want %q, %v", text.String(), c.text, err)
			}
		})
	}
	for _, name := range []string{"\x1bcp437", "\aUTF-8", "\tkoi8-r", "UTF-8\n", "\u009bUTF-8"} { // they would do something when they are shown
		if KnownCharset(name) || option.SameCharset(name, "UTF-8") {
			t.Errorf("%q is known", name)
		}
	}
	if KnownCharset("no-such-set") || KnownCharset("") {
		t.Error("known")
	}
	a, b := tcpPair(t)
	a.Write([]byte("a\xffb\xc3"))
	a.(*net.TCPConn).CloseWrite()
	got, err := io.ReadAll(&onlyRead{NewClientConn(b, nil).Text()})
	if err != nil || string(got) != "a\ufffd\ufffd" && string(got) != "ab\ufffd" {
		t.Errorf("%q %v", got, err)
	}
}

type onlyRead struct{ io.Reader }

// TestCharsetAgreed: the text changes to what the peers agree on, and LANG
// counts for less.
func TestCharsetAgreed(t *testing.T) {
	ctx := testContext(t)
	for _, c := range []struct {
		client Config
		want   string
	}{
		{Config{}, "UTF-8"},
		{Config{Charset: "CP437"}, "CP437"},
		{Config{Charset: "koi8-r"}, "KOI8-R"},
		{Config{Client: option.ClientConfig{Env: fullClient.Client.Env}, Accept: func(_ engine.Side, code engine.Code, ok bool) bool {
			return ok && code != engine.Charset
		}}, "ISO-8859-15"},
	} {
		client, s := pair(t, &c.client, fullServer)
		pump(client)
		if err := s.Handshake(ctx); err != nil {
			t.Fatal(err)
		}
		if got := s.Info().Charset; got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	client, s := pair(t, &Config{Charset: "CP437"}, &Config{ForceCharset: true, Charset: "GBK"})
	pump(client)
	if s.Handshake(ctx); s.Info().Charset != "GBK" {
		t.Error(s.Info().Charset)
	}
}

// TestNewlines: what is written has the line ends of RFC 854.
func TestNewlines(t *testing.T) {
	for in, want := range map[string]string{"a\nb": "a\r\nb", "a\r\nb": "a\r\nb", "a\rb": "a\r\x00b", "a\r": "a\r\x00", "\n\n": "\r\n\r\n"} {
		a, b := tcpPair(t)
		x := NewServerConn(a, nil).Text()
		if _, err := io.WriteString(x, in); err != nil {
			t.Fatal(err)
		}
		x.c.Close()
		if got, _ := io.ReadAll(b); string(got) != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	a, b := tcpPair(t)
	x := NewServerConn(a, nil).Text()
	x.Printf("%d\n", 1)
	x.Prompt("> ")
	x.c.Close()
	if got, _ := io.ReadAll(b); string(got) != "1\r\n> \xff\xf9" {
		t.Errorf("%q", got)
	}
	if _, err := x.WriteString("x"); err == nil {
		t.Error("written after Close")
	}
	if err := x.c.Handshake(context.Background()); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// TestTextReadDoesNotWait for more when it has something.
func TestTextReadDoesNotWait(t *testing.T) {
	a, b := tcpPair(t)
	x := NewServerConn(b, &Config{Passive: true}).Text()
	buf := make([]byte, 100)
	for _, c := range [][2]string{{"line\r\n", "line\n"}, {"x\r", "x\n"}, {"\x00y", "y"}, {"z\xc3", "z"}, {"\xbc", "ü"}} {
		a.Write([]byte(c[0]))
		if n, err := x.Read(buf); string(buf[:n]) != c[1] || err != nil {
			t.Errorf("%q: %q %v", c[0], buf[:n], err)
		}
	}
	if _, err := x.Read(buf[:2]); err != io.ErrShortBuffer {
		t.Error(err)
	}
}
