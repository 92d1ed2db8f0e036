package client

import (
	"unicode/utf8"

	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/option"
)

// This file owns what the terminal does during a session: whether it edits
// lines, echoes, and makes signals of keys. The peers' options say so (RFC 857,
// RFC 858, RFC 1184), unless the user does.

// Mode is what the user wants of lines.
type Mode uint8

// The modes.
const (
	ModeAuto Mode = iota // what the options say
	ModeLine             // lines are edited here
	ModeRaw              // each key is sent
)

func (m Mode) String() string { return [...]string{"auto", "line", "character"}[m%3] }

// setting is a state of the terminal.
type setting struct {
	line, echo, sig bool
	linemode        bool // by RFC 1184: chars, soft tabs, literal echo and forward count
	softTab, lit    bool
	chars           option.Table
	forward         [maxForward]byte // characters on which the line is sent; 0: none
	flow            flow
	escape          byte
}

// flow is who takes XOFF and XON.
type flow uint8

const (
	flowUnsaid flow = iota // as the terminal was in line mode, else the peer
	flowOff
	flowOn
	flowAny // any key ends an XOFF
)

// wanted is the setting for the options as they are:
//
//	                          lines  echo here
//	neither                   yes    yes
//	ECHO                      yes    no          a password is asked for
//	SUPPRESS GO AHEAD         no     yes
//	ECHO, SUPPRESS GO AHEAD   no     no
//	LINEMODE                  EDIT   no ECHO
func wanted(e *engine.Engine, m Mode, escape byte, local bool) setting {
	s := setting{line: !e.On(engine.Him, engine.SGA), echo: !e.On(engine.Him, engine.Echo), escape: escape}
	s.sig = s.line
	if lm, ok := e.Option(engine.Linemode).(*option.Linemode); ok && e.On(engine.Us, engine.Linemode) {
		s.linemode, s.chars = true, lm.Chars()
		s.line, s.sig = lm.Mode()&option.ModeEdit != 0, lm.Mode()&option.ModeTrapSig != 0
		s.softTab, s.lit = lm.Mode()&option.ModeSoftTab != 0, lm.Mode()&option.ModeLitEcho != 0
		if mask, on := lm.Mask(); on {
			copy(s.forward[:], forwarded(mask))
		}
	}
	if m != ModeAuto {
		s.line = m == ModeLine
		s.sig = s.line
	}
	s.sig = s.sig || local
	if lf, ok := e.Option(engine.LFlow).(*option.LFlow); ok && e.On(engine.Us, engine.LFlow) {
		switch {
		case !lf.Enabled():
			s.flow = flowOff
		case lf.RestartAny():
			s.flow = flowAny
		default:
			s.flow = flowOn
		}
	}
	return s
}

// maxForward is how many characters besides the usual ones a terminal sends a
// line on, as the escape character needs one of two: see termios.
const maxForward = 1

// forwarded are those of a mask that do not end a line anyhow.
func forwarded(m option.Mask) (list []byte) {
	for n := 1; n < 256; n++ {
		if b := byte(n); m.Has(b) && b != '\r' && b != '\n' {
			list = append(list, b)
		}
	}
	return list
}

// takesMask reports whether we can send lines on the characters of a mask. A
// pipe is sent as it comes, so what is in the mask is.
func (c *Client) takesMask(m option.Mask) bool {
	return c.tty == nil || len(forwarded(m)) <= maxForward
}

// apply brings the terminal into the setting for the session.
func (c *Client) apply() {
	if c.tty == nil || c.s == nil {
		return
	}
	var want setting
	c.s.conn.View(func(e *engine.Engine) { want = wanted(e, c.mode, c.escape, c.set.on(localchars)) })
	if err := c.tty.apply(want); err != nil {
		c.cfg.Logger.Warn("terminal", "err", err)
	}
}

// echoed is what is shown of keys where we echo and the terminal does not.
func echoed(b []byte) []byte {
	var out []byte
	for _, x := range b {
		switch {
		case x == '\r':
			out = append(out, '\r', '\n')
		case x == '\b' || x == 0x7f:
			out = append(out, "\b \b"...)
		case x == '\n' || x == '\t' || x >= ' ' && x < 0x7f || x >= utf8.RuneSelf:
			out = append(out, x)
		default:
			out = append(out, '^', x^0x40)
		}
	}
	return out
}

// control is a character as it is written: "^]".
func control(b byte) string {
	switch {
	case b == 0:
		return "off"
	case b < ' ' || b == 0x7f:
		return "^" + string(rune(b^0x40))
	}
	return string(rune(b))
}
