package main

import (
	"bytes"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/telsh"
)

// TestTelnetGivesTerminalBack: whatever ends the program, the terminal that it
// had raw is as it was.
func TestTelnetGivesTerminalBack(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &telnet.Server{Handler: new(telsh.Shell)}
	go s.Serve(ln)
	defer s.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	for name, end := range map[string]func(p *os.Process, keys, out *os.File){
		"SIGTERM": func(p *os.Process, _, _ *os.File) { p.Signal(syscall.SIGTERM) },
		"SIGHUP":  func(p *os.Process, _, _ *os.File) { p.Signal(syscall.SIGHUP) },
		"nobody reads what is shown": func(_ *os.Process, keys, out *os.File) {
			out.Close()
			io.WriteString(keys, "help\r")
		},
	} {
		t.Run(name, func(t *testing.T) {
			keys, term, err := pty.Open()
			if err != nil {
				lab.Lacks(t, err)
			}
			defer keys.Close()
			defer term.Close()
			out, shown, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			attr := func() unix.Termios {
				a, err := unix.IoctlGetTermios(int(term.Fd()), unix.TCGETS)
				if err != nil {
					t.Fatal(err)
				}
				return *a
			}
			before := attr()
			c := tapstack(t, nil, "telnet", "--net", "host", "localhost", port)
			var stderr bytes.Buffer
			c.Stdin, c.Stdout, c.Stderr = term, shown, &stderr
			c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			shown.Close()
			for limit := time.Now().Add(patience); attr().Lflag&unix.ICANON != 0; time.Sleep(time.Millisecond) {
				if time.Now().After(limit) {
					t.Fatal("the terminal is not raw")
				}
			}
			end(c.Process, keys, out)
			if status := outcome(t, c.Wait()); status != 0 || stderr.Len() != 0 {
				t.Errorf("status %d: %s", status, &stderr)
			}
			if after := attr(); after != before {
				t.Errorf("%+v became %+v", before, after)
			}
		})
	}
}
