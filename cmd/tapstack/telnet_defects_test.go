package main

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/lab"
)

// The defects of programs: see telnet/defects_test.go for what they are, and
// docs/telnet.md for the list.

// TestDefect11TimeoutFlagCounts: --timeout ends an idle session, and takes parts
// of a second.
func TestDefect11TimeoutFlagCounts(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		telnetd(t, l, "6011", "--timeout", "0.15", "--never-send-ga")
		w := dialTelnetd(t, l, "6011")
		w.want(doTType)
		w.send(wontTType)
		w.wantEnd("Ready.\r\ntel:sh> \r\nTimeout.\r\n")
	})
}

// serveOnce is a server in the lab that says something and returns what it was
// told up to the client's end, or until it has heard enough.
func serveOnce(t *testing.T, l *lab.Lab, say string, enough int) (port string, told <-chan string) {
	t.Helper()
	ln, err := l.ListenKernel("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	ch := make(chan string, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		io.WriteString(c, say)
		b := make([]byte, enough)
		n, _ := io.ReadFull(c, b)
		ch <- string(b[:n])
	}()
	_, port, _ = net.SplitHostPort(ln.Addr().String())
	return port, ch
}

// TestDefect12ClientFlagsCount: what is said of compression and of waiting is
// what the program does.
func TestDefect12ClientFlagsCount(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		for flag, want := range map[string]string{"--compression": "\xff\xfd\x56", "--no-compression": "\xff\xfe\x56", "--compression=false": "\xff\xfe\x56"} {
			port, told := serveOnce(t, l, "\xff\xfb\x56", 3)
			status, _, errs := checked(t, l, tapstack(t, nil, "telnet", "--net", "host", flag, "127.0.0.1", port))
			if got := <-told; got != want || status != 0 {
				t.Errorf("%s: %x, status %d, %s", flag, got, status, errs)
			}
		}
		// The server leaves CHARSET open and never speaks: the input comes all the
		// same, as soon as it was said that it may.
		port, told := serveOnce(t, l, "\xff\xfd\x18", 3+4)
		c := tapstack(t, nil, "telnet", "--net", "host", "--connect-maxwait", "0.05", "127.0.0.1", port)
		c.Stdin = strings.NewReader("hi\n")
		start := time.Now()
		if status, _, errs := checked(t, l, c); status != 0 {
			t.Errorf("status %d: %s", status, errs)
		}
		if got := <-told; !strings.HasPrefix(got, "\xff\xfb\x18") || !strings.HasSuffix(got, "hi\r\n") || time.Since(start) > patience/2 {
			t.Errorf("%q after %v", got, time.Since(start))
		}
	})
}

// TestDefect13OutputIsAFile: also one that is appended to, and the input, too.
func TestDefect13OutputIsAFile(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		dir := t.TempDir()
		in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
		if err := os.WriteFile(in, []byte("line\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		fi, err := os.Open(in)
		if err != nil {
			t.Fatal(err)
		}
		defer fi.Close()
		fo, err := os.OpenFile(out, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer fo.Close()
		port, told := serveOnce(t, l, "to a file\r\n\x1b[31mred\xff\xff\r\n", 6)
		c := tapstack(t, nil, "telnet", "--net", "host", "127.0.0.1", port)
		c.Stdin, c.Stdout = fi, fo
		if err := l.Start(c); err != nil {
			t.Fatal(err)
		}
		if status := outcome(t, c.Wait()); status != 0 || <-told != "line\r\n" {
			t.Errorf("status %d", status)
		}
		// Colours and all else as they came.
		if got, _ := os.ReadFile(out); string(got) != "to a file\r\n\x1b[31mred\xff\r\n" {
			t.Errorf("%q", got)
		}
	})
}

// TestDefect14ClientsDoNotSetUsers: who a program behind telnetd runs as, and
// with what, is no matter of the client's. CVE-2026-24061 is USER="-f root",
// which login took for an option; CVE-2026-28372 is CREDENTIALS_DIRECTORY.
func TestDefect14ClientsDoNotSetUsers(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		telnetd(t, l, "6014", "--never-send-ga", "--connect-maxwait", "0.3", "--pty-exec", "/usr/bin/env")
		w := dialTelnetd(t, l, "6014")
		w.want(doTType)
		is := "\xff\xfa\x27\x00"
		for _, v := range []string{"USER\x01-f root", "LOGNAME\x01-froot", "CREDENTIALS_DIRECTORY\x01/tmp/x", "LD_PRELOAD\x01/tmp/evil.so",
			"HOME\x01/evil", "SHELL\x01/evil", "PATH\x01/evil", "DISPLAY\x01evil:0", "IFS\x01evil", "LC_ALL\x01../evil", "LANG\x01C.UTF-8"} {
			is += "\x00" + v
		}
		is += "\xff\xf0"
		w.send("\xff\xfb\x18\xff\xfa\x18\x00-evil\xff\xf0\xff\xfb\x27" + is + is + "\xff\xfc\x03\xff\xfc\x1f")
		all, err := io.ReadAll(w)
		if err != nil {
			t.Fatal(err)
		}
		text := string(all)
		if strings.Contains(text, "evil") || strings.Contains(text, "-f") || strings.Contains(text, "CREDENTIALS") {
			t.Errorf("%q", text)
		}
		if !strings.Contains(text, "LANG=C.UTF-8\r\n") || !strings.Contains(text, "TERM=dumb\r\n") || !strings.Contains(text, "PATH=/") {
			t.Errorf("%q", text)
		}
	})
}

// TestDefect17NoTracebackForVisitors: without a post script the visitor of the
// fingerprint shell sees what is known of it, as JSON; one that is not there is
// found before anybody comes; one that fails is not explained to visitors.
func TestDefect17NoTracebackForVisitors(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		visit := func(port string) string {
			w := dialTelnetd(t, l, port)
			w.want(doTType)
			w.send(wontTType)
			all, err := io.ReadAll(w)
			if err != nil {
				t.Fatal(err)
			}
			i := strings.LastIndex(string(all), "\xff\xfe") // DONT of what was only asked for
			if i < 0 {
				i = strings.LastIndex(string(all), "\xff\xfd") // or the last DO
			}
			return string(all)[i+3:]
		}
		fingerprintd(t, l, "6017", "")
		if s := visit("6017"); !strings.HasPrefix(s, "{\r\n") || !strings.HasSuffix(s, "}\r\n") || len(fingerprintData(t, []byte(s))) == 0 {
			t.Errorf("%q", s)
		}
		fingerprintd(t, l, "6018", "exit 3")
		if s := visit("6018"); s != "" {
			t.Errorf("%q", s)
		}
	})
}

// told is what a program behind telnetd says to a client that tells variables
// of its own.
func told(t *testing.T, vars, program string) (said string) {
	t.Helper()
	lab.InNamespace(t, func(l *lab.Lab) {
		telnetd(t, l, "6019", "--never-send-ga", "--connect-maxwait", "0.3", "--pty-exec", "/bin/sh", "--", "-c", program)
		w := dialTelnetd(t, l, "6019")
		w.want(doTType)
		is := "\xff\xfa\x27\x00" + vars + "\xff\xf0"
		w.send("\xff\xfb\x18\xff\xfa\x18\x00xterm\xff\xf0\xff\xfb\x27" + is + is)
		all, err := io.ReadAll(w)
		if err != nil {
			t.Fatal(err)
		}
		said = string(all)
	})
	return said
}

// TestCVE2026_24061: telnetd's have put a client's USER on the command line of
// login, where "-f root" is root without a password. Ours does not even have it
// in the environment.
func TestCVE2026_24061(t *testing.T) {
	s := told(t, "\x00USER\x01-f root\x03USER\x01-f root\x00LOGNAME\x01-f root\x03LOGNAME\x01-f root",
		`echo "user <$USER> logname <$LOGNAME> $@"; env; tr '\0' ' ' </proc/$$/cmdline`)
	if !strings.Contains(s, "user <") || strings.Contains(s, "-f root") || strings.Contains(s, "<-") {
		t.Errorf("%q", s)
	}
}

// TestCVE2026_28372: CREDENTIALS_DIRECTORY makes login read a file there that
// says who need not give a password.
func TestCVE2026_28372(t *testing.T) {
	s := told(t, "\x00CREDENTIALS_DIRECTORY\x01/tmp/evil\x03CREDENTIALS_DIRECTORY\x01/tmp/evil", `echo "<$CREDENTIALS_DIRECTORY>"; env`)
	if !strings.Contains(s, "<>") || strings.Contains(s, "evil") {
		t.Errorf("%q", s)
	}
}
