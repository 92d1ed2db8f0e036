package telnet

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/transform"

	"github.com/tapstack/tapstack/telnet/engine"
)

// This file owns text: a session's data in the character set of the moment, and
// in lines.

// ErrLineTooLong is ReadLine's error for a line beyond Config.MaxLine. What of
// it was read is lost; reading may go on.
var ErrLineTooLong = errors.New("telnet: line too long")

// Text reads and writes a Conn as text. Its characters are in the character set
// that the peers have agreed on by then; what has no form in it becomes U+FFFD
// when read, a substitute when written. Reading is for one goroutine at a time;
// any may write. Who uses it should not Read the Conn himself.
type Text struct {
	c    *Conn
	raw  []byte // not decoded yet
	mem  [512]byte
	name string // of dec
	dec  *encoding.Decoder
	err  error

	afterCR bool // the last character was a CR: an LF or NUL belongs to it

	wmu     sync.Mutex // of what follows
	outName string
	enc     *encoding.Encoder
	lastCR  bool // written
}

// Text returns the Conn as text.
func (c *Conn) Text() *Text { return &Text{c: c} }

// SetReadDeadline is that of the Conn.
func (t *Text) SetReadDeadline(at time.Time) error { return t.c.SetReadDeadline(at) }

func (c *Conn) charsetName() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.charsetLocked()
}

// decoder is that of the present character set, nil for UTF-8.
func (t *Text) decoder() *encoding.Decoder {
	if name := t.c.charsetName(); name != t.name {
		t.name, t.dec = name, nil
		if enc, ok := lookupCharset(name); ok && enc != nil {
			t.dec = enc.NewDecoder()
		}
	}
	return t.dec
}

// ReadRune implements io.RuneReader. The ends of lines are as they came.
func (t *Text) ReadRune() (r rune, size int, err error) {
	for {
		if r, size, ok := t.decode(t.err != nil); ok {
			return r, size, nil
		}
		if err := t.err; err != nil {
			t.err = nil // the Conn has it, if it is one that stays
			return 0, 0, err
		}
		t.more()
	}
}

func (t *Text) more() {
	n := copy(t.mem[:], t.raw)
	m, err := t.c.Read(t.mem[n:])
	t.raw, t.err = t.mem[:n+m], err
}

// decode takes one character, if there is a whole one; or, at the end, whatever
// there is.
func (t *Text) decode(end bool) (rune, int, bool) {
	if len(t.raw) == 0 {
		return 0, 0, false
	}
	dec := t.decoder()
	if dec == nil {
		if !end && !utf8.FullRune(t.raw) {
			return 0, 0, false
		}
		r, n := utf8.DecodeRune(t.raw)
		t.raw = t.raw[n:]
		return r, n, true
	}
	var dst [16]byte
	for n := 1; n <= len(t.raw); n++ {
		nDst, nSrc, err := dec.Transform(dst[:], t.raw[:n], end && n == len(t.raw))
		if nDst == 0 && (err == nil || err == transform.ErrShortSrc) {
			if nSrc > 0 { // a shift: state, no character
				t.raw, n = t.raw[nSrc:], 0
			}
			continue
		}
		t.raw = t.raw[max(nSrc, 1):]
		if nDst == 0 {
			return utf8.RuneError, 1, true
		}
		r, _ := utf8.DecodeRune(dst[:nDst])
		return r, max(nSrc, 1), true
	}
	if len(t.raw) >= 16 { // no character is that long
		t.raw = t.raw[1:]
		return utf8.RuneError, 1, true
	}
	return 0, 0, false
}

// next is ReadRune with the ends of lines made one: CR LF, CR NUL, LF and a CR
// alone are each '\n' (RFC 854, RFC 1123 §3.3.1). After a CR it does not wait for
// what may follow.
func (t *Text) next() (rune, error) {
	for {
		r, _, err := t.ReadRune()
		if err != nil {
			return 0, err
		}
		if r, ok := t.foldIn(r); ok {
			return r, nil
		}
	}
}

// foldIn makes the ends of lines one; false for what belongs to the last one.
func (t *Text) foldIn(r rune) (rune, bool) {
	after := t.afterCR
	t.afterCR = r == '\r'
	switch {
	case after && (r == '\n' || r == 0):
		return 0, false
	case r == '\r':
		return '\n', true
	}
	return r, true
}

// ReadLine reads a line without its end. When it is ours to echo, in character
// mode, it echoes, and backspace, delete, ^U and ^W edit; else the client does
// both. At the end of the stream the error is io.EOF, with what there was of a
// line.
func (t *Text) ReadLine() (string, error) { return t.readLine(t.c.On(engine.Us, engine.Echo), true) }

// ReadPassword writes a prompt and reads a line that is not shown: ECHO is taken
// over from the client while it lasts, if it was not ours already.
func (t *Text) ReadPassword(prompt string) (string, error) {
	if _, err := t.WriteString(prompt); err != nil {
		return "", err
	}
	ours := t.c.On(engine.Us, engine.Echo)
	if !ours {
		if err := t.c.Enable(engine.Us, engine.Echo); err != nil {
			return "", err
		}
	}
	s, err := t.readLine(true, false)
	if !ours {
		t.c.Disable(engine.Us, engine.Echo)
	}
	if err == nil {
		_, err = t.WriteString("\n")
	}
	return s, err
}

func (t *Text) readLine(edit, echo bool) (string, error) {
	var line []rune
	size := 0
	erase := func(n int) {
		for _, r := range line[len(line)-n:] {
			size -= utf8.RuneLen(r)
		}
		line = line[:len(line)-n]
		if echo {
			t.WriteString(strings.Repeat("\b \b", n))
		}
	}
	for {
		r, err := t.next()
		switch {
		case err != nil:
			return string(line), err
		case r == '\n':
			if edit && echo {
				_, err = t.WriteString("\n")
			}
			if size > t.c.cfg.maxLine() {
				return "", ErrLineTooLong
			}
			return string(line), err
		case edit && (r == '\b' || r == 0x7f):
			if len(line) > 0 {
				erase(1)
			}
		case edit && r == 'U'-'@':
			erase(len(line))
		case edit && r == 'W'-'@':
			n := 0
			for n < len(line) && line[len(line)-1-n] == ' ' {
				n++
			}
			for n < len(line) && line[len(line)-1-n] != ' ' {
				n++
			}
			erase(n)
		default:
			if size += utf8.RuneLen(r); size > t.c.cfg.maxLine() {
				line = line[:0] // passed over up to its end
				continue
			}
			line = append(line, r)
			if edit && echo && r >= ' ' {
				t.WriteString(string(r))
			}
		}
	}
}

// Read implements io.Reader: UTF-8, with the ends of lines as '\n'.
func (t *Text) Read(p []byte) (n int, err error) {
	if len(p) < utf8.UTFMax {
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.ErrShortBuffer
	}
	r, err := t.next()
	if err != nil {
		return 0, err
	}
	n = utf8.EncodeRune(p, r)
	for n+utf8.UTFMax <= len(p) { // and what there is without waiting
		r, _, ok := t.decode(false)
		if !ok {
			break
		}
		if r, ok := t.foldIn(r); ok {
			n += utf8.EncodeRune(p[n:], r)
		}
	}
	return n, nil
}

// Write implements io.Writer: p is UTF-8.
func (t *Text) Write(p []byte) (int, error) { return t.WriteString(string(p)) }

// WriteString writes s. Each "\n" becomes "\r\n" unless it is one, and a CR that
// is alone "\r\0" unless we send BINARY (RFC 854).
func (t *Text) WriteString(s string) (int, error) {
	t.wmu.Lock()
	defer t.wmu.Unlock()
	out := t.fold(s)
	if name := t.c.charsetName(); name != t.outName {
		t.outName, t.enc = name, nil
		if enc, ok := lookupCharset(name); ok && enc != nil {
			t.enc = encoding.ReplaceUnsupported(enc.NewEncoder())
		}
	}
	if t.enc != nil {
		b, err := t.enc.Bytes(out)
		if err != nil {
			return 0, err
		}
		out = b
	}
	if _, err := t.c.Write(out); err != nil {
		return 0, err
	}
	return len(s), nil
}

func (t *Text) fold(s string) []byte {
	binary := t.c.On(engine.Us, engine.Binary)
	out := make([]byte, 0, len(s)+8)
	for i := range len(s) {
		switch {
		case s[i] == '\n' && !t.lastCR:
			out = append(out, '\r')
		case t.lastCR && s[i] != '\n' && !binary:
			out = append(out, 0)
		}
		out = append(out, s[i])
		t.lastCR = s[i] == '\r'
	}
	if t.lastCR && !binary && len(s) > 0 {
		t.lastCR = false // nobody knows when there will be more
		out = append(out, 0)
	}
	return out
}

// Printable is s without what would do more than show on somebody else's
// terminal, as escape sequences do: for what one user says and others see.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s)
}

// Printf writes a text.
func (t *Text) Printf(format string, args ...any) error {
	_, err := t.WriteString(fmt.Sprintf(format, args...))
	return err
}

// Prompt writes a prompt and tells that it is the peer's turn.
func (t *Text) Prompt(s string) error {
	if _, err := t.WriteString(s); err != nil {
		return err
	}
	return t.c.GoAhead()
}
