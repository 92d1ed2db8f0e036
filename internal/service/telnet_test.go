package service

import (
	"io"
	"testing"
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
