package pktscript

import (
	"fmt"
	"strings"
)

// This file owns the lexical scanner: bytes to tokens.

// kind is the kind of a token.
type kind uint8

const (
	tokEOF    kind = iota
	tokWord        // letters, digits and underscores with at least one that is no digit
	tokInt         // 12, -1
	tokHex         // 0x1f
	tokFloat       // 0.25, .1
	tokAddr        // 192.0.2.1
	tokString      // "...", without the quotes
	tokShell       // `...`, without the quotes
	tokCode        // %{ ... }%, without the brackets
	tokOption      // --name or --name=value
	tokPunct       // anything else, one character, or "..."
)

// token is a lexical element of a script.
type token struct {
	kind kind
	text string
	line int
	// glued says that nothing lies between this token and the one before it.
	glued bool
}

func (t token) String() string {
	switch t.kind {
	case tokEOF:
		return "end of script"
	case tokString:
		return fmt.Sprintf("%q", t.text)
	case tokShell:
		return "`" + t.text + "`"
	case tokCode:
		return "%{" + t.text + "}%"
	}
	return t.text
}

// SyntaxError says where a script is not understood.
type SyntaxError struct {
	Line int
	Text string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Text) }

// lexer walks over the text once.
type lexer struct {
	src  string
	at   int
	line int
	toks []token
}

// lex cuts a script into tokens; the last one is tokEOF.
func lex(src string) ([]token, error) {
	l := &lexer{src: src, line: 1}
	for {
		glued := l.skip()
		if l.at >= len(l.src) {
			l.toks = append(l.toks, token{kind: tokEOF, line: l.line})
			return l.toks, nil
		}
		t, err := l.next()
		if err != nil {
			return nil, err
		}
		t.glued = glued && len(l.toks) > 0
		l.toks = append(l.toks, t)
	}
}

// skip passes blanks and comments and reports that there were none.
func (l *lexer) skip() (none bool) {
	begin := l.at
	for l.at < len(l.src) {
		rest := l.src[l.at:]
		switch {
		case rest[0] == '\n':
			l.line++
			l.at++
		case rest[0] == ' ' || rest[0] == '\t' || rest[0] == '\r':
			l.at++
		case strings.HasPrefix(rest, "//"):
			if i := strings.IndexByte(rest, '\n'); i >= 0 {
				l.at += i
			} else {
				l.at = len(l.src)
			}
		case strings.HasPrefix(rest, "/*") && strings.Contains(rest[2:], "*/"):
			n := 2 + strings.Index(rest[2:], "*/") + 2
			l.line += strings.Count(rest[:n], "\n")
			l.at += n
		default:
			return l.at == begin
		}
	}
	return false
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isWord(c byte) bool {
	return isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
}

// span returns the length of the longest prefix of s whose bytes are all ok.
func span(s string, ok func(byte) bool) int {
	n := 0
	for n < len(s) && ok(s[n]) {
		n++
	}
	return n
}

// next takes the token that begins here.
func (l *lexer) next() (token, error) {
	t := token{line: l.line}
	rest := l.src[l.at:]
	take := func(k kind, n int) (token, error) {
		t.kind, t.text = k, rest[:n]
		l.at += n
		return t, nil
	}
	switch c := rest[0]; {
	case strings.HasPrefix(rest, "%{"):
		end := strings.Index(rest, "}%")
		if end < 0 {
			return t, &SyntaxError{l.line, "code without its end"}
		}
		l.line += strings.Count(rest[:end], "\n")
		l.at += end + 2
		t.kind, t.text = tokCode, rest[2:end]
		return t, nil
	case c == '"' || c == '`':
		return l.quoted(t, c)
	case strings.HasPrefix(rest, "--") && len(rest) > 2 && isWord(rest[2]):
		return l.option(t)
	case strings.HasPrefix(rest, "..."):
		return take(tokPunct, 3)
	case isWord(c), c == '.' && len(rest) > 1 && isDigit(rest[1]),
		c == '-' && len(rest) > 1 && (isDigit(rest[1]) || rest[1] == '.' && len(rest) > 2 && isDigit(rest[2])):
		k, n := number(rest)
		return take(k, n)
	}
	return take(tokPunct, 1)
}

// number returns the kind and length of the number or word at the front of s.
func number(s string) (kind, int) {
	n := 0
	if s[0] == '-' {
		n = 1
	}
	digits := span(s[n:], isDigit)
	word := span(s[n:], isWord)
	if n == 0 && strings.HasPrefix(s, "0x") && word > 2 {
		return tokHex, word
	}
	if word > digits && n == 0 {
		return tokWord, word
	}
	n += digits
	// A fraction, or the dots of an address.
	dots := 0
	for n+1 < len(s) && s[n] == '.' && isDigit(s[n+1]) {
		n += 1 + span(s[n+1:], isDigit)
		dots++
	}
	switch dots {
	case 0:
		return tokInt, n
	case 1:
		return tokFloat, n
	}
	return tokAddr, n
}

// quoted takes a string in double quotes or backquotes, in which a backslash
// protects the character after it.
func (l *lexer) quoted(t token, quote byte) (token, error) {
	i := l.at + 1
	for i < len(l.src) && l.src[i] != quote {
		if l.src[i] == '\\' {
			i++
		}
		i++
	}
	if i >= len(l.src) {
		return t, &SyntaxError{l.line, "string without its end"}
	}
	t.kind, t.text = tokString, l.src[l.at+1:i]
	if quote == '`' {
		t.kind = tokShell
	}
	l.line += strings.Count(t.text, "\n")
	l.at = i + 1
	return t, nil
}

// option takes "--name" or "--name=value"; the value, which may hold an IPv6
// address, goes to the next blank outside quotes.
func (l *lexer) option(t token) (token, error) {
	i := l.at
	quote := byte(0)
	for ; i < len(l.src); i++ {
		c := l.src[i]
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '`':
			quote = c
		}
		if quote == 0 && (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
			break
		}
	}
	t.kind, t.text = tokOption, l.src[l.at+2:i]
	l.line += strings.Count(t.text, "\n")
	l.at = i
	return t, nil
}
