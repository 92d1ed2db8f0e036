package ptyshell

import (
	"cmp"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/option"
)

// This file owns the pseudo terminal's settings, and what telnet's commands are
// to it: the special characters that it has at that moment, so that a program
// which changed them or switched them off is given what it asked for.

// prepare sets a terminal up. What the client shows by itself is not shown twice.
func prepare(tty *os.File, echo, edit bool, charset string) error {
	return control(tty, func(fd int) error {
		t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			return err
		}
		set := func(flag uint32, on bool) {
			if t.Lflag &^= flag; on {
				t.Lflag |= flag
			}
		}
		set(unix.ECHO, echo)
		set(unix.ICANON, edit)
		if t.Iflag &^= unix.IUTF8; strings.EqualFold(charset, "UTF-8") {
			t.Iflag |= unix.IUTF8 // erases a character, not a byte
		}
		return unix.IoctlSetTermios(fd, unix.TCSETS, t)
	})
}

// setSize sets the window's size: the client's, or the usual one if it did not
// say.
func setSize(master *os.File, s option.Size) error {
	w := &unix.Winsize{Row: cmp.Or(uint16(s.Rows), 24), Col: cmp.Or(uint16(s.Cols), 80)}
	return control(master, func(fd int) error { return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, w) })
}

// keys are the places of special characters among a terminal's. BRK interrupts:
// a pseudo terminal has no break.
var keys = map[engine.Command]int{
	engine.IP: unix.VINTR, engine.BRK: unix.VINTR, engine.ABORT: unix.VQUIT, engine.SUSP: unix.VSUSP, engine.EOF: unix.VEOF,
	engine.EC: unix.VERASE, engine.EL: unix.VKILL,
}

// command does what a command asks of a terminal. AYT is answered by package
// telnet, which sends AO's Synch too.
func command(master *os.File, cmd engine.Command) {
	if cmd == engine.AO {
		// What the program has written and we have not read.
		control(master, func(fd int) error { return unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH) })
		return
	}
	place, ok := keys[cmd]
	if !ok {
		return
	}
	var key byte
	if control(master, func(fd int) error {
		t, err := unix.IoctlGetTermios(fd, unix.TCGETS) // those of the other end
		if err == nil {
			key = t.Cc[place]
		}
		return err
	}) == nil && key != 0 { // 0: the program has none
		typed{master}.Write([]byte{key}) // with a deadline of its own, not one that has passed
	}
}

// control calls f with the descriptor of a file, which stays as it is: Fd would
// make its reads uninterruptible.
func control(f *os.File, do func(fd int) error) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := c.Control(func(fd uintptr) { failed = do(int(fd)) }); err != nil {
		return err
	}
	return failed
}
