package telnet

import (
	"io"
	"unicode/utf8"

	"golang.org/x/text/encoding"

	"github.com/tapstack/tapstack/telnet/engine"
)

// This file owns text for a terminal: characters in the character set of the
// moment, but lines as they are. A terminal moves its cursor by CR and LF, so
// they must not be made one as Text makes them.

// Characters is what a terminal shows of a Conn, and what is typed there.
type Characters struct {
	t       *Text
	afterCR bool
	outName string
	enc     *encoding.Encoder
}

// Characters returns the Conn as that. Who uses it should not read the Conn
// himself. It is for one goroutine that reads and one that encodes.
func (c *Conn) Characters() *Characters { return &Characters{t: c.Text()} }

// Read implements io.Reader: UTF-8. CR NUL is CR unless the peer sends BINARY
// (RFC 854); else the ends of lines are as they came.
func (x *Characters) Read(p []byte) (n int, err error) {
	if len(p) < utf8.UTFMax {
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.ErrShortBuffer
	}
	for n == 0 {
		r, _, err := x.t.ReadRune()
		if err != nil {
			return 0, err
		}
		binary := x.t.c.On(engine.Him, engine.Binary)
		for ok := true; ok; r, _, ok = x.t.decode(false) {
			if r != 0 || !x.afterCR || binary {
				n += utf8.EncodeRune(p[n:], r)
			}
			x.afterCR = r == '\r'
			if n+utf8.UTFMax > len(p) {
				break
			}
		}
	}
	return n, nil
}

// Encode returns whole characters of UTF-8 as the bytes to Write to the Conn:
// in its character set, with a substitute for what that does not have. It may
// return p.
func (x *Characters) Encode(p []byte) []byte {
	if name := x.t.c.charsetName(); name != x.outName {
		x.outName, x.enc = name, nil
		if enc, ok := lookupCharset(name); ok && enc != nil {
			x.enc = encoding.ReplaceUnsupported(enc.NewEncoder())
		}
	}
	if x.enc == nil {
		return p
	}
	b, err := x.enc.Bytes(p)
	if err != nil { // not UTF-8, which there is no substitute for
		return p
	}
	return b
}
