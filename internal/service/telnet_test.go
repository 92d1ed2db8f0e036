package service

import (
	"io"
	"strings"
	"testing"
	"time"
)

// TestTelnet: a session from the first command to the last word.
func TestTelnet(t *testing.T) {
	c := dialTCP(t, mustNew(t, "telnet"))
	if _, err := io.WriteString(c, "\xff\xfc\x18help\r\nquit\r\n"); err != nil {
		t.Fatal(err)
	}
	const want = "\xff\xfd\x18Ready.\r\ntel:sh> \xff\xf9\r\nquit, writer, slc, toggle [option|all], reader, proto, dump\r\ntel:sh> \xff\xf9\r\nGoodbye.\r\n"
	if got, err := io.ReadAll(c); err != nil || string(got) != want {
		t.Errorf("got  %q\nwant %q\n%v", got, want, err)
	}
}

// TestTelnetIdle: a session in which nothing is said ends, and gives its place
// back.
func TestTelnetIdle(t *testing.T) {
	s := mustNew(t, "telnet")
	if s.sessions.IdleTimeout != telnetIdle {
		t.Fatal("sessions have no end")
	}
	s.sessions.IdleTimeout, s.MaxConns = 20*time.Millisecond, 1
	c := dialTCP(t, s)
	if _, err := io.WriteString(c, "\xff\xfc\x18help\r\n"); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || !strings.HasSuffix(string(got), "\r\nTimeout.\r\n") {
		t.Errorf("%q %v", got, err)
	}
	for s.Stats().Active != 0 {
		time.Sleep(time.Millisecond)
	}
	if n := s.sessions.Stats().TimedOut; n != 1 {
		t.Errorf("%d sessions have timed out", n)
	}
}
