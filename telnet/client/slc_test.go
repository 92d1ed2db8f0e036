package client

import (
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/option"
)

// atLinemode is a user whose session is by LINEMODE, and the server's end.
func atLinemode(t *testing.T) (*user, *telnet.Conn) {
	t.Helper()
	port, conns := far(t, &telnet.Config{Passive: true, Enable: []telnet.Ask{{Side: engine.Him, Code: engine.Linemode}},
		Server: option.ServerConfig{Linemode: option.ModeEdit}})
	u := sit(t, Config{Host: "127.0.0.1", Port: port})
	u.await(t, "Escape character")
	c := <-conns
	if err := c.WaitFor(runContext(t), telnet.Remote(engine.Linemode)); err != nil {
		t.Fatal(err)
	}
	c.Update(func(e *engine.Engine) { // when this is there, so is the mode
		e.Option(engine.Linemode).(*option.Linemode).SetChar(e, option.FnRP, option.Char{Flags: byte(option.Value), Value: '%'})
	})
	u.awaitChar(unix.VREPRINT, '%')
	return u, c
}

// until waits at the server's end until something holds of LINEMODE.
func until(t *testing.T, c *telnet.Conn, what string, cond func(*option.Linemode) bool) {
	t.Helper()
	if err := c.WaitFor(runContext(t), func(e *engine.Engine) bool { return cond(e.Option(engine.Linemode).(*option.Linemode)) }); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// TestLinemodeCommands: the user's wishes reach the server, by MODE and SLC.
func TestLinemodeCommands(t *testing.T) {
	u, c := atLinemode(t)
	mode := func(want option.Mode) {
		t.Helper()
		until(t, c, "mode", func(lm *option.Linemode) bool { return lm.Mode() == want })
	}
	char := func(fn option.Function, level option.Level, value byte) {
		t.Helper()
		until(t, c, fn.String(), func(lm *option.Linemode) bool {
			ch := lm.Chars()[fn]
			return ch.Level() == level && ch.Value == value
		})
	}
	mode(option.ModeEdit)
	u.typed("\x1dmode trapsig litecho\n")
	mode(option.ModeEdit | option.ModeTrapSig | option.ModeLitEcho)
	u.typed("\x1dmode -litecho -isig softtabs\n")
	mode(option.ModeEdit | option.ModeSoftTab)
	u.typed("\x1dslc ip ^X\n")
	char(option.FnIP, option.Value, 0x18)
	u.awaitChar(unix.VINTR, 0x18)
	u.typed("\x1dslc SLC_LNEXT off\n")
	char(option.FnLNEXT, option.NoSupport, 0xff)
	u.typed("\x1dslc ip default\n")
	char(option.FnIP, option.Value, 3)
	u.awaitChar(unix.VINTR, 3)
	var erase byte
	withFD(t, u.term, func(fd int) error {
		a, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		erase = a.Cc[unix.VERASE]
		return err
	})
	u.typed("\x1dslc ec #\n")
	char(option.FnEC, option.Value, '#')
	u.typed("\x1dslc export\n")
	char(option.FnEC, option.Value, erase)
	u.typed("\x1dslc ew @\n")
	char(option.FnEW, option.Value, '@')
	u.typed("\x1dslc import\n") // the server takes what he began with
	char(option.FnEW, option.Value, 0x17)
	u.typed("\x1dslc check\n")
	u.typed("\x1dslc\n")
	u.await(t, "synch      none  by default")
	u.await(t, "ip         ^C    can be changed")
	for _, bad := range []string{"slc klingon ^C", "slc ip", "slc ip ^^^", "mode trapsig klingon", "slc list x"} {
		u.typed("\x1d" + bad + "\n")
		word, _, _ := strings.Cut(bad, " ")
		u.await(t, "?"+word+": ")
		u.await(t, "telnet> ")
		u.typed("\n") // back to the session
		u.awaitChar(unix.VEOL, 0x1d)
	}
	u.typed("\x1dquit\n")
	u.await(t, "Connection closed.")
	u.end()
}

// TestForwardMask: a line goes out on the character that the server wants it
// on; more of them than a terminal can be told of are refused.
func TestForwardMask(t *testing.T) {
	u, c := atLinemode(t)
	ask := func(want bool, list string) {
		t.Helper()
		var m option.Mask
		for i := range len(list) {
			m.Add(list[i])
		}
		c.Update(func(e *engine.Engine) { e.Option(engine.Linemode).(*option.Linemode).SetMask(e, m) })
		until(t, c, "mask", func(lm *option.Linemode) bool { _, on := lm.Mask(); return on == want })
	}
	ask(true, "?\r")
	u.awaitChar(unix.VEOL2, '?')
	u.typed("why?")
	got := make([]byte, 4)
	c.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "why?" {
		t.Errorf("%q %v", got, err)
	}
	ask(false, "?!")
	u.awaitChar(unix.VEOL2, 0)
	ask(true, "!")
	u.awaitChar(unix.VEOL2, '!')
	c.Close()
	u.await(t, "Connection closed by foreign host.")
	u.end()
}
