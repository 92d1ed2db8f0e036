package client

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/telnet/option"
)

// This file owns the terminal's system calls (termios(3)). golang.org/x/term
// would do for raw mode alone; lines without echo, signals and special
// characters by LINEMODE are more than it has.

// tty is a terminal.
type tty struct {
	f     *os.File
	saved unix.Termios // as it was found
	now   setting
	ours  bool // it is in now, not in saved
}

// openTTY returns nil if f is not a terminal.
func openTTY(f *os.File) *tty {
	t := &tty{f: f}
	var saved *unix.Termios
	if err := t.control(func(fd int) (err error) {
		saved, err = unix.IoctlGetTermios(fd, unix.TCGETS)
		return err
	}); err != nil {
		return nil
	}
	t.saved = *saved
	return t
}

// control calls f with the descriptor. (*os.File).Fd would make reads of it
// uninterruptible.
func (t *tty) control(f func(fd int) error) error {
	raw, err := t.f.SyscallConn()
	if err != nil {
		return err
	}
	if e := raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		return e
	}
	return err
}

// apply changes the terminal.
func (t *tty) apply(s setting) error {
	if t.ours && s == t.now {
		return nil
	}
	t.now, t.ours = s, true
	return t.setAttr(s.termios(t.saved))
}

// restore leaves it as it was found.
func (t *tty) restore() {
	if t.ours {
		t.ours = false
		_ = t.setAttr(t.saved) // it has gone, then
	}
}

// setAttr changes the terminal at once. What was written to it was processed
// then already, so there is nothing to wait for: on a terminal that was stopped
// by ^S it would be for ever.
func (t *tty) setAttr(a unix.Termios) error {
	return t.control(func(fd int) error { return unix.IoctlSetTermios(fd, unix.TCSETS, &a) })
}

func (t *tty) size() (s option.Size, ok bool) {
	err := t.control(func(fd int) error {
		w, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
		if err == nil {
			s = option.Size{Cols: int(w.Col), Rows: int(w.Row)}
		}
		return err
	})
	return s, err == nil && s != option.Size{}
}

// keys are the special characters of RFC 1184 that a terminal has.
var keys = map[option.Function]int{option.FnIP: unix.VINTR, option.FnABORT: unix.VQUIT, option.FnEOF: unix.VEOF, option.FnSUSP: unix.VSUSP,
	option.FnEC: unix.VERASE, option.FnEL: unix.VKILL, option.FnEW: unix.VWERASE, option.FnRP: unix.VREPRINT, option.FnLNEXT: unix.VLNEXT,
	option.FnXON: unix.VSTART, option.FnXOFF: unix.VSTOP}

// termios makes a of what the terminal was.
func (s setting) termios(a unix.Termios) unix.Termios {
	flag := func(p *uint32, bit uint32, on bool) {
		if *p &^= bit; on {
			*p |= bit
		}
	}
	if s.line {
		flag(&a.Lflag, unix.ICANON, true)
		flag(&a.Lflag, unix.ECHO, s.echo)
		flag(&a.Iflag, unix.ICRNL, true)
		a.Cc[unix.VEOL] = s.escape // it ends the line, too
		if s.linemode {            // and so does this one (RFC 1184 §2.3)
			a.Cc[unix.VEOL2] = s.forward[0]
			flag(&a.Lflag, unix.ECHOCTL, !s.lit)
			if a.Oflag &^= unix.TABDLY; s.softTab {
				a.Oflag |= unix.XTABS
			}
		}
	} else {
		a.Iflag &^= unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
		a.Oflag &^= unix.OPOST
		a.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.IEXTEN
		a.Cflag = a.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
		a.Cc[unix.VMIN], a.Cc[unix.VTIME] = 1, 0
	}
	flag(&a.Lflag, unix.ISIG, s.sig)
	if s.flow != flowUnsaid {
		flag(&a.Iflag, unix.IXON, s.flow != flowOff)
		flag(&a.Iflag, unix.IXANY, s.flow == flowAny)
	}
	if s.linemode && (s.line || s.sig) {
		for fn, i := range keys {
			if ch := s.chars[fn]; ch.Level() != option.NoSupport && ch.Value != 0 {
				a.Cc[i] = ch.Value
			}
		}
	}
	return a
}
