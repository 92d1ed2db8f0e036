package telnet

import (
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/tapstack/tapstack/telnet/engine"
)

// given is a connection on which nothing but r comes.
type given struct {
	net.Conn
	r io.Reader
}

func (g given) Read(p []byte) (int, error)  { return g.r.Read(p) }
func (g given) Write(p []byte) (int, error) { return len(p), nil }
func (g given) Close() error                { return nil }

// TestCharacters: a terminal gets characters of any set, whole, and the ends of
// lines as they came; CR NUL is CR, but not in BINARY.
func TestCharacters(t *testing.T) {
	for _, tc := range []struct{ set, in, want string }{
		{"UTF-8", "a\r\x00b\r\nc\nd\x00ä€", "a\rb\r\nc\nd\x00ä€"},
		{"UTF-8", "\xff\xfb\x00a\r\x00b", "a\r\x00b"},
		{"UTF-8", "x\xe2\x82", "x\ufffd\ufffd"},
		{"CP437", "\x84\r\x00\xfe", "ä\r■"},
		{"SHIFT_JIS", "\x93\xfa\x96\x7b\r\n", "日本\r\n"},
	} {
		for name, in := range map[string]io.Reader{"at once": strings.NewReader(tc.in), "by bytes": iotest.OneByteReader(strings.NewReader(tc.in))} {
			c := NewClientConn(given{r: in}, &Config{Charset: tc.set, ForceCharset: true})
			got, err := io.ReadAll(c.Characters())
			if string(got) != tc.want || err != nil {
				t.Errorf("%s %q %s: %q %v", tc.set, tc.in, name, got, err)
			}
		}
	}
	x := NewClientConn(given{r: strings.NewReader("")}, &Config{Charset: "CP437", ForceCharset: true}).Characters()
	if got := string(x.Encode([]byte("ä\r\n日"))); got != "\x84\r\n\x1a" {
		t.Errorf("%q", got)
	}
	if n, err := x.Read(make([]byte, 3)); n != 0 || err != io.ErrShortBuffer {
		t.Error(n, err)
	}
	if n, err := x.Read(nil); n != 0 || err != nil {
		t.Error(n, err)
	}
}

// FuzzCharacters: any bytes come to an end, the same however they are divided.
func FuzzCharacters(f *testing.F) {
	f.Add("a\r\x00\xff\xff\xe2\x82", uint8(0))
	f.Add("\x1b$B\x30\x21\x1b(B", uint8(3))
	sets := []string{"UTF-8", "CP437", "SHIFT_JIS", "ISO-2022-JP", "GB18030", "UTF-16", "EUC-KR"}
	f.Fuzz(func(t *testing.T, in string, set uint8) {
		cfg := &Config{Charset: sets[int(set)%len(sets)], ForceCharset: true, Options: func() []engine.Option { return nil }}
		whole, err1 := io.ReadAll(NewClientConn(given{r: strings.NewReader(in)}, cfg).Characters())
		parts, err2 := io.ReadAll(NewClientConn(given{r: iotest.OneByteReader(strings.NewReader(in))}, cfg).Characters())
		if string(whole) != string(parts) || err1 != nil || err2 != nil {
			t.Errorf("%q %v, by bytes %q %v", whole, err1, parts, err2)
		}
	})
}
