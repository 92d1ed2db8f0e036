package pktscript

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// This file owns the grammar of the whole: head, events and their times.

// Parse reads a script for IPv4, if it does not say otherwise. Errors are
// *SyntaxError, with the line, and *Unsupported for what is understood but not
// done here.
func Parse(name, src string) (*Script, error) { return parse(name, src, "") }

func parse(name, src, version string) (*Script, error) {
	s := &Script{Name: name, BSD: isBSD(src), lines: strings.Split(src, "\n")}
	src, err := preprocess(src, map[string]bool{"STANDARD": true})
	if err != nil {
		return nil, err
	}
	toks, err := lex(src)
	if err != nil {
		return nil, err
	}
	p := &parser{toks: toks, script: s, version: version}
	if err := p.run(); err != nil {
		return nil, err
	}
	return s, nil
}

// parser goes over the tokens by recursive descent. Its methods panic with an
// error, which run returns.
type parser struct {
	toks   []token
	at     int
	script *Script
	define map[string]token // --define=NAME=value
	// version is the family unless an option says it.
	version string
}

func (p *parser) run() (err error) {
	defer func() {
		if e := recover(); e != nil {
			known, ok := e.(error)
			if _, bug := e.(interface{ RuntimeError() }); bug || !ok {
				panic(e)
			}
			err = known
		}
	}()
	p.head()
	for p.peek().kind != tokEOF {
		p.script.Events = append(p.script.Events, p.event())
	}
	return nil
}

func (p *parser) fail(t token, format string, a ...any) {
	panic(&SyntaxError{t.line, fmt.Sprintf(format, a...)})
}

func (p *parser) unsupported(t token, format string, a ...any) {
	panic(&Unsupported{t.line, fmt.Sprintf(format, a...)})
}

// peek returns the next token, with definitions replaced.
func (p *parser) peek() token { return p.resolve(p.toks[p.at]) }

// peekAt returns the token n behind the next.
func (p *parser) peekAt(n int) token { return p.resolve(p.toks[min(p.at+n, len(p.toks)-1)]) }

func (p *parser) resolve(t token) token {
	if d, ok := p.define[t.text]; ok && t.kind == tokWord {
		d.line, d.glued = t.line, t.glued
		return d
	}
	return t
}

func (p *parser) next() token {
	t := p.peek()
	if p.at < len(p.toks)-1 {
		p.at++
	}
	return t
}

// is reports whether the next token is this word or character.
func (p *parser) is(text string) bool {
	t := p.peek()
	return (t.kind == tokPunct || t.kind == tokWord) && t.text == text
}

// accept takes the next token if it is this word or character.
func (p *parser) accept(text string) bool {
	if p.is(text) {
		p.next()
		return true
	}
	return false
}

func (p *parser) expect(text string) {
	if t := p.peek(); !p.accept(text) {
		p.fail(t, "%q where %q should be", t, text)
	}
}

func (p *parser) word() string {
	t := p.next()
	if t.kind != tokWord {
		p.fail(t, "%q where a word should be", t)
	}
	return t.text
}

// integer takes a number from lo to hi.
func (p *parser) integer(lo, hi int64) int64 {
	t := p.next()
	if t.kind != tokInt && t.kind != tokHex {
		p.fail(t, "%q where a number should be", t)
	}
	n, err := parseInt(t)
	if err != nil || n < lo || n > hi {
		p.fail(t, "%v is not from %d to %d", t, lo, hi)
	}
	return n
}

func parseInt(t token) (int64, error) {
	if t.kind == tokHex {
		n, err := strconv.ParseUint(t.text[2:], 16, 64)
		return int64(n), err
	}
	return strconv.ParseInt(t.text, 10, 64)
}

// head is the options and the commands before the first time.
func (p *parser) head() {
	for p.peek().kind == tokOption {
		t := p.next()
		name, value, _ := strings.Cut(t.text, "=")
		if name == "define" {
			p.addDefine(t, value)
			continue
		}
		value = strings.Trim(value, `"`)
		if name == "ip_version" {
			p.version = value
		}
		p.script.Options = append(p.script.Options, Option{name, value})
	}
	for name, value := range builtin[p.version == "ipv6"] {
		if _, ok := p.define[name]; !ok {
			p.addDefine(p.peek(), name+"="+value)
		}
	}
}

// builtin are the symbols that every script may use: the segment size of a link
// with the usual MTU, and those that Google's scripts are given from outside,
// among them the Fast Open cookies that Linux makes with their key.
var builtin = map[bool]map[string]string{
	false: {"MSS": "1460", "TFO_COOKIE": "3021b9d889017eeb", "CODE": "host_unreachable"},
	true:  {"MSS": "1440", "TFO_COOKIE": "c1d1e9742a47a9bc", "CODE": "address_unreachable"},
}

func (p *parser) addDefine(t token, def string) {
	name, value, ok := strings.Cut(def, "=")
	toks, err := lex(value)
	if !ok || err != nil || len(toks) != 2 {
		p.fail(t, "definition %q", def)
	}
	if p.define == nil {
		p.define = map[string]token{}
	}
	p.define[name] = toks[0]
}

// event takes "time action", or a command without a time.
func (p *parser) event() Event {
	t := p.peek()
	e := Event{Line: t.line}
	if t.kind == tokShell {
		e.At.Unattended = true
		e.Shell = p.next().text
		return e
	}
	e.At = p.when()
	e.Line = p.peek().line
	switch t := p.peek(); {
	case p.is("<") || p.is(">"):
		e.Packet = p.packet()
	case t.kind == tokShell:
		e.Shell = p.next().text
	case t.kind == tokCode:
		e.Code = p.next().text
	case t.kind == tokWord || p.is("..."):
		e.Call = p.call(&e.At)
	default:
		p.fail(t, "%q where an event should be", t)
	}
	out := e.Packet != nil && e.Packet.Out
	if !out && e.At.Kind != Absolute && e.At.Kind != Relative {
		p.fail(t, "only an expected packet may come at an uncertain time")
	}
	return e
}

// when takes the time of an event.
func (p *parser) when() (w When) {
	switch {
	case p.accept("*"):
		w.Kind = AnyTime
	case p.accept("+"):
		w.Kind = Relative
		w.From = p.time()
		if p.accept("~") {
			p.accept("+")
			w.Kind, w.To = RelativeRange, p.time()
		}
	default:
		w.From = p.time()
		if p.accept("~") {
			w.Kind, w.To = AbsoluteRange, p.time()
		}
	}
	if w.Kind >= AbsoluteRange && w.Kind != AnyTime && w.To < w.From {
		p.fail(p.peek(), "the time range is backwards")
	}
	return w
}

// time takes seconds.
func (p *parser) time() time.Duration {
	t := p.next()
	if t.kind != tokInt && t.kind != tokFloat {
		p.fail(t, "%q where a time should be", t)
	}
	s, err := strconv.ParseFloat(t.text, 64)
	if err != nil || s < 0 || s > 1e9 {
		p.fail(t, "time %s", t)
	}
	// Microseconds, as finer digits are not meant.
	return time.Duration(s*1e6+0.5) * time.Microsecond
}
