package client

import (
	"io"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/engine"
)

// quiet is a session in which the server has turned the terminal's echo off.
func quiet(t *testing.T, cfg Config) (*user, *telnet.Conn) {
	t.Helper()
	port, conns := far(t, &telnet.Config{Passive: true})
	cfg.Host, cfg.Port = "127.0.0.1", port
	u := sit(t, cfg)
	u.await(t, "Escape character")
	c := <-conns
	go io.Copy(io.Discard, c)
	if err := c.Enable(engine.Us, engine.Echo); err != nil {
		t.Fatal(err)
	}
	u.awaitMode(true, false)
	return u, c
}

// shows tells when something is about to be shown.
type shows chan struct{}

func (s shows) Write(b []byte) (int, error) {
	s <- struct{}{}
	return len(b), nil
}

// TestStoppedTerminal: a terminal that its user has stopped does not keep the
// program from ending, and is given back as it was.
func TestStoppedTerminal(t *testing.T) {
	shown := make(shows, 1)
	u, c := quiet(t, Config{Typescript: shown})
	withFD(t, u.term, func(fd int) error { return unix.IoctlSetInt(fd, unix.TCXONC, unix.TCOOFF) })
	io.WriteString(c, "not yet")
	<-shown
	u.stop()
	u.end()
}

// TestCrash: a panic gives the terminal back, and is one still.
func TestCrash(t *testing.T) {
	u, c := quiet(t, Config{})
	func() {
		defer func() {
			if p := recover(); p != "crash" {
				t.Errorf("%v", p)
			}
		}()
		defer u.c.crashing()
		panic("crash")
	}()
	u.awaitMode(true, true)
	c.Close()
	u.await(t, "Connection closed by foreign host.")
	u.end()
}
