package telsh

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"

	"github.com/tapstack/tapstack/telnet"
)

// This file owns the reading of a line: what is typed a key at a time, with
// history and completion where it is ours to show it, and whole lines of clients
// that edit by themselves.
//
// A line ends at CR, LF, CR LF or CR NUL. The LF or NUL after a CR is not waited
// for: it is thrown away with the next line.

const (
	maxLine    = 4096 // bytes; what is beyond is dropped
	maxHistory = 100  // lines, of no more
	maxHeld    = 8192 // bytes in all, but for the last one
	maxEscape  = 64   // bytes of an escape sequence
)

type editor struct {
	text     *telnet.Text
	prompt   string
	echo     func() bool // what is typed is ours to show
	complete func(line string) []string

	line    []rune
	size    int // of line in bytes
	afterCR bool

	history []string
	held    int      // bytes in it
	at      int      // in history; len(history) is the line that is typed
	draft   []string // the line that was typed before going back, at most one
}

// readLine reads a line without its end.
func (d *editor) readLine() (string, error) {
	d.line, d.size, d.at, d.draft = d.line[:0], 0, len(d.history), nil
	for {
		r, _, err := d.text.ReadRune()
		if err != nil {
			return "", err
		}
		after := d.afterCR
		d.afterCR = r == '\r'
		switch {
		case after && (r == '\n' || r == 0):
		case r == '\r' || r == '\n':
			s := string(d.line)
			d.remember(s)
			return s, nil
		case r == '\b' || r == 0x7f:
			d.erase(d.last())
		case r == 'U'-'@':
			d.erase(len(d.line))
		case r == 'W'-'@':
			d.erase(d.word())
		case r == 'P'-'@':
			d.recall(-1)
		case r == 'N'-'@':
			d.recall(1)
		case r == '\t':
			d.tab()
		case r == 0x1b:
			if err := d.escape(); err != nil {
				return "", err
			}
		case unicode.IsControl(r): // it could do anything to the client's screen
		default:
			d.insert(string(r))
		}
	}
}

func (d *editor) show(s string) {
	if d.echo() {
		d.text.WriteString(s)
	}
}

func (d *editor) insert(s string) {
	if d.size+len(s) > maxLine {
		return
	}
	d.line = append(d.line, []rune(s)...)
	d.size += len(s)
	d.show(s)
}

// last is how many runes the last character of the line has: a base with the
// marks on it.
func (d *editor) last() int {
	n := 0
	for n < len(d.line) {
		n++
		if cells(d.line[len(d.line)-n]) > 0 {
			break
		}
	}
	return n
}

// word is how many runes the last word has, with the blanks behind it.
func (d *editor) word() int {
	n := len(d.line)
	for n > 0 && d.line[n-1] == ' ' {
		n--
	}
	for n > 0 && d.line[n-1] != ' ' {
		n--
	}
	return len(d.line) - n
}

func (d *editor) erase(n int) {
	columns := 0
	for _, r := range d.line[len(d.line)-n:] {
		columns += cells(r)
		d.size -= utf8.RuneLen(r)
	}
	d.line = d.line[:len(d.line)-n]
	if columns > 0 {
		d.show(strings.Repeat("\b \b", columns))
	}
}

// cells is how many columns of a terminal a rune takes.
func cells(r rune) int {
	if unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// remember adds a line to the history, unless it is the last one there.
func (d *editor) remember(s string) {
	if s == "" || len(d.history) > 0 && d.history[len(d.history)-1] == s {
		return
	}
	d.history, d.held = append(d.history, s), d.held+len(s)
	gone := 0
	for len(d.history)-gone > maxHistory || d.held > maxHeld && gone < len(d.history)-1 {
		d.held -= len(d.history[gone])
		gone++
	}
	d.history = slices.Delete(d.history, 0, gone)
}

// recall goes back in the history, or forth. A client that edits by itself has
// no use for it.
func (d *editor) recall(step int) {
	to := d.at + step
	if !d.echo() || to < 0 || to > len(d.history) {
		return
	}
	if d.at == len(d.history) {
		d.draft = []string{string(d.line)}
	}
	d.at = to
	d.erase(len(d.line))
	if to < len(d.history) {
		d.insert(d.history[to])
	} else if len(d.draft) > 0 {
		d.insert(d.draft[0])
	}
}

// tab completes the line as far as that is certain, and shows the choice if it
// is not at all. Where the client shows what is typed it is a blank.
func (d *editor) tab() {
	if !d.echo() {
		d.insert(" ")
		return
	}
	line := string(d.line)
	found := d.complete(line)
	if len(found) == 0 {
		d.show("\a")
		return
	}
	common := found[0]
	for _, f := range found[1:] {
		for !strings.HasPrefix(f, common) {
			common = common[:len(common)-1]
		}
	}
	switch {
	case len(found) == 1 && slices.Contains(withArguments, common):
		d.insert(common[len(line):] + " ")
	case len(common) > len(line):
		d.insert(common[len(line):])
	default:
		d.show("\n" + strings.Join(found, "  ") + "\n" + d.prompt + line)
	}
}

// escape reads the rest of what a key or the terminal sends behind an ESC (ECMA
// 48, and the SS3 of keypads). The arrows go through the history; anything else
// is nothing for a line.
func (d *editor) escape() error {
	r, _, err := d.text.ReadRune()
	if err != nil {
		return err
	}
	switch r {
	case '[':
		for range maxEscape {
			if r, _, err = d.text.ReadRune(); err != nil || r >= 0x40 && r <= 0x7e {
				break
			}
		}
	case 'O':
		r, _, err = d.text.ReadRune()
	case ']': // OSC: up to BEL or ESC \
		was := rune(0)
		for range 16 * maxEscape {
			if r, _, err = d.text.ReadRune(); err != nil || r == '\a' || was == 0x1b && r == '\\' {
				break
			}
			was = r
		}
		return err
	default:
		return err
	}
	switch {
	case err != nil:
	case r == 'A':
		d.recall(-1)
	case r == 'B':
		d.recall(1)
	}
	return err
}
