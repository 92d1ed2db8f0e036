// Package mtrpacket speaks the protocol of mtr-packet, the program that mtr
// starts to have its probes sent: a line is a command, a line is a reply, and a
// token says which reply belongs to which command. The probes are package
// probe's, so that they need no raw socket.
//
// This file owns the lines: where one ends, what its words are, and what is not
// a command. request.go owns what send-probe may say, session.go what happens.
package mtrpacket

import (
	"bytes"
	"math"
)

// Limits of a command.
const (
	// maxLine is how much is kept of a line whose end has not come.
	maxLine = 4095
	// maxArguments are pairs of name and value.
	maxArguments = 16
)

// command is a line of input.
type command struct {
	token int32
	name  string
	args  []argument
}

type argument struct{ name, value string }

// parse reads a line without its end; false if it is no command.
func parse(line []byte) (c command, ok bool) {
	// The other programs of this protocol hold lines as C's strings.
	if n := bytes.IndexByte(line, 0); n >= 0 {
		line = line[:n]
	}
	words := bytes.FieldsFunc(line, isSpace)
	if len(words) < 2 || len(words)%2 != 0 || len(words) > 2+2*maxArguments {
		return c, false
	}
	token, _, ok := number(words[0]) // "12abc" is 12, and "abc" 0
	if !ok {
		return c, false
	}
	c.token, c.name = int32(token), string(words[1])
	for w := words[2:]; len(w) > 0; w = w[2:] {
		c.args = append(c.args, argument{string(w[0]), string(w[1])})
	}
	return c, true
}

func isSpace(r rune) bool { return r == ' ' || r >= '\t' && r <= '\r' }

// number reads the decimal number at the beginning of b as C's strtol does; no
// digits are 0. whole says that nothing else follows, fits that 64 bits hold it:
// it is the nearest that they hold otherwise.
func number[T string | []byte](b T) (n int64, whole, fits bool) {
	i, minus := 0, false
	if len(b) > 0 && (b[0] == '-' || b[0] == '+') {
		i, minus = 1, b[0] == '-'
	}
	start := i
	fits = true
	for ; i < len(b) && b[i] >= '0' && b[i] <= '9'; i++ {
		d := int64(b[i] - '0')
		switch {
		case !fits:
		case minus && n < (math.MinInt64+d)/10:
			n, fits = math.MinInt64, false
		case !minus && n > (math.MaxInt64-d)/10:
			n, fits = math.MaxInt64, false
		case minus:
			n = n*10 - d
		default:
			n = n*10 + d
		}
	}
	return n, i > start && i == len(b), fits
}

// lines cuts what is read into lines.
type lines struct{ rest []byte }

// feed calls line for each that b completes, without its end, and overflow
// whenever maxLine bytes hold none: they are forgotten.
func (l *lines) feed(b []byte, line func([]byte), overflow func()) {
	for len(b) > 0 {
		part := b[:min(len(b), maxLine-len(l.rest))]
		end := bytes.IndexByte(part, '\n')
		if end < 0 {
			b = b[len(part):]
			if l.rest = append(l.rest, part...); len(l.rest) == maxLine {
				l.rest = l.rest[:0]
				overflow()
			}
			continue
		}
		b = b[end+1:]
		if len(l.rest) == 0 {
			line(part[:end])
			continue
		}
		l.rest = append(l.rest, part[:end]...)
		line(l.rest)
		l.rest = l.rest[:0]
	}
}
