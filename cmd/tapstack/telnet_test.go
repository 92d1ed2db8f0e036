package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/option"
)

// telnetServer tells what it knows of its client and repeats lines until "quit".
func telnetServer(cfg *telnet.Config) *telnet.Server {
	return &telnet.Server{Config: cfg, Logger: slog.New(slog.DiscardHandler), Handler: telnet.HandlerFunc(func(ctx context.Context, c *telnet.Conn) {
		c.Handshake(ctx)
		x, i := c.Text(), c.Info()
		lang, _ := i.Getenv("LANG")
		x.Printf("%s %s %d %s secure=%v lflow=%v echo=%v\n", i.Term, lang, i.Size.Cols, i.Charset, i.TLS != nil, c.On(engine.Him, engine.LFlow), c.On(engine.Us, engine.Echo))
		for {
			s, err := x.ReadLine()
			if err != nil || s == "quit" {
				return
			}
			x.Printf("you said %q\n", s)
		}
	})}
}

// TestTelnetCommand: a script over a TAP and over the host's sockets, also under
// telnet's own name; and the flags.
func TestTelnetCommand(t *testing.T) {
	t.Parallel()
	cfg := &telnet.Config{Server: option.ServerConfig{Env: []option.Var{{Name: "LANG"}}}}
	dir := t.TempDir()
	link := filepath.Join(dir, "telnet")
	if err := os.Symlink(os.Args[0], link); err != nil {
		t.Fatal(err)
	}
	certFile, cert := selfSigned(t, dir)
	lab.InNamespace(t, func(l *lab.Lab) {
		listen := func(tc *tls.Config) (port string) {
			ln, err := l.ListenKernel("tcp", "10.77.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			if tc != nil {
				ln = tls.NewListener(ln, tc)
			}
			s := telnetServer(cfg)
			go s.Serve(ln)
			t.Cleanup(func() { s.Close() })
			_, port, _ = net.SplitHostPort(ln.Addr().String())
			return port
		}
		plain, secure := listen(nil), listen(&tls.Config{Certificates: []tls.Certificate{cert}})
		script := filepath.Join(dir, "typescript")
		log := filepath.Join(dir, "log")
		env := []string{"LANG=C.UTF-8", "TERM=vt220"}
		device := append(attached(l, lab.EnvIP+"=10.77.0.7/24,fd77::7/64", "TAPSTACK_DAD=false"), env...)
		as := map[string]func(args ...string) *exec.Cmd{
			"stack": func(args ...string) *exec.Cmd { return tapstack(t, device, append([]string{"telnet"}, args...)...) },
			"host": func(args ...string) *exec.Cmd {
				return tapstack(t, env, append([]string{"telnet", "--net", "host"}, args...)...)
			},
			"telnet": func(args ...string) *exec.Cmd {
				c := tapstack(t, env, args...)
				c.Path, c.Args[0] = link, link
				return c
			},
		}
		for name, program := range as {
			for _, tc := range []struct {
				args   string
				in     string
				status int
				out    string
				err    string
			}{
				{args: plain, in: "hällo\nquit\n", out: "vt220 C.UTF-8 80 UTF-8 secure=false lflow=false echo=true\r\n"},
				{args: plain, in: "hällo\nquit\n", out: `you said "hällo"`, err: "Connected to 10.77.0.1."},
				{args: plain + " --term xterm --send-environ TERM --encoding CP437 --typescript " + script, in: "ä\nquit\n", out: "xterm  80 CP437"},
				{args: plain + " --always-will lflow --always-dont ECHO", in: "quit\n", out: "lflow=true echo=false"},
				{args: plain + " --loglevel debug --logfile " + log, in: "quit\n", out: "vt220"},
				{args: plain + " --loglevel trace --logfmt json", in: "quit\n", out: "vt220", err: `"msg":"wire"`},
				{args: secure + " --ssl --ssl-no-verify", in: "quit\n", out: "secure=true"},
				{args: secure + " --ssl --ssl-cafile " + certFile, in: "quit\n", out: "secure=true"},
				{args: secure + " --ssl", status: 1, err: "certificate"},
				{args: "1", status: 1, err: "refused"},
				{args: "telnet", status: 2, err: "want 1 to 65535"},
				{args: "23 23", status: 2, err: "3 arguments"},
				{args: "--encoding klingon", status: 2, err: "no such character set"},
				{args: "--encoding-errors no", status: 2, err: "--encoding-errors no"},
				{args: "--line-mode --raw-mode", status: 2, err: "one of the two"},
				{args: "--escape long", status: 2, err: "--escape"},
				{args: "--speed fast", status: 2, err: "--speed fast"},
				{args: "--connect-maxwait -1", status: 2, err: "--connect-maxwait"},
				{args: "--always-do nonsense", status: 2, err: "--always-do nonsense"},
				{args: "--ssl-no-verify", status: 2, err: "no --ssl"},
				{args: "--ssl --ssl-cafile " + script, status: 2, err: "no certificate"},
				{args: "--loglevel loud", status: 2, err: "--loglevel"},
				{args: "--logfmt xml", status: 2, err: "--logfmt"},
				{args: "--typescript-mode no", status: 2, err: "append or rewrite"},
			} {
				c := program(append([]string{"10.77.0.1"}, strings.Fields(tc.args)...)...)
				c.Stdin = strings.NewReader(tc.in)
				status, out, errs := checked(t, l, c)
				if status != tc.status || !strings.Contains(out, tc.out) || !strings.Contains(errs, tc.err) {
					t.Errorf("%s %s: status %d\n%s%s", name, tc.args, status, out, errs)
				}
				if tc.status == 2 && (out != "" || strings.Count(errs, "\n") != 1) {
					t.Errorf("%s %s: not one line: %s%s", name, tc.args, out, errs)
				}
			}
		}
		if b, err := os.ReadFile(script); err != nil || strings.Count(string(b), `you said "ä"`) != len(as) {
			t.Errorf("%q %v", b, err)
		}
		if b, err := os.ReadFile(log); err != nil || !strings.Contains(string(b), `"DO TTYPE" way=RCVD`) {
			t.Errorf("%q %v", b, err)
		}
	})
}

// selfSigned makes a certificate for 10.77.0.1.
func selfSigned(t *testing.T, dir string) (file string, cert tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(10, 77, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestTelnetToBusybox: a shell of somebody else's server, through our TCP: it is
// told the window's size, and a line arrives as one.
func TestTelnetToBusybox(t *testing.T) {
	t.Parallel()
	if err := exec.Command("busybox", "telnetd", "--help").Run(); err != nil {
		lab.Lacks(t, fmt.Errorf("busybox has no telnetd: %w", err))
	}
	shell := filepath.Join(t.TempDir(), "shell")
	if err := os.WriteFile(shell, []byte("#!/bin/sh\nwhile read x && [ \"$x\" != quit ]; do echo \"got <$x>\"; stty size; done\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	lab.InNamespace(t, func(l *lab.Lab) {
		server := exec.Command("busybox", "telnetd", "-F", "-b", "10.77.0.1", "-p", "2323", "-l", shell)
		if err := l.Start(server); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { server.Process.Kill(); server.Wait() })
		for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
			c, err := l.DialKernel(context.Background(), "tcp", "10.77.0.1:2323")
			if err == nil {
				c.Close()
				break
			}
			if time.Now().After(end) {
				t.Fatal(err)
			}
		}
		c := tapstack(t, attached(l, lab.EnvIP+"=10.77.0.7/24"), "telnet", "10.77.0.1", "2323", "--loglevel", "debug")
		c.Stdin = strings.NewReader("hello\n\nquit\n")
		status, out, errs := checked(t, l, c)
		// The terminal there echoes what it gets, when it gets it: between the answers.
		if status != 0 || !strings.Contains(out, "got <hello>\r\n") || strings.Count(out, "25 80\r\n") != 2 || strings.Count(out, "got <") != 2 {
			t.Errorf("status %d: %q\n%s", status, out, errs)
		}
		for _, verb := range []string{`"WILL ECHO" way=RCVD`, `"DO ECHO" way=SENT`, `"DO SGA" way=SENT`, `"WILL NAWS" way=SENT`, `"WONT ECHO" way=SENT`} {
			if !strings.Contains(errs, verb) {
				t.Errorf("no %s in %s", verb, errs)
			}
		}
	})
}

// TestTelnetTerminal: on a terminal of its own the keys that make signals become
// commands, a new size of the window is told, and the terminal is left as it was.
func TestTelnetTerminal(t *testing.T) {
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		lab.Lacks(t, err)
	}
	defer keys.Close()
	fd := int(keys.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	term, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer term.Close()
	before, err := unix.IoctlGetTermios(int(term.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan string, 10)
	s := telnetServer(&telnet.Config{LineMode: true, Event: func(_ *telnet.Conn, ev engine.Event) {
		if size, ok := ev.Value.(option.Size); ok {
			told <- fmt.Sprint(size)
		} else if ev.Kind == engine.Cmd {
			told <- ev.Cmd.String()
		}
	}})
	go s.Serve(ln)
	defer s.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: 90, Row: 30}); err != nil {
		t.Fatal(err)
	}
	c := tapstack(t, []string{"TERM=vt100"}, "telnet", "--net", "host", "localhost", port)
	c.Stdin, c.Stdout, c.Stderr = term, term, term
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	expect := func(want string) {
		t.Helper()
		select {
		case got := <-told:
			if got != want {
				t.Errorf("%s, not %s", got, want)
			}
		case <-time.After(patience):
			t.Fatalf("no %s", want)
		}
	}
	shown := make(chan bool)
	go func() {
		r := bufio.NewReader(keys)
		for s := ""; !strings.Contains(s, "vt100"); {
			b, err := r.ReadByte()
			if err != nil {
				break
			}
			s += string(rune(b))
		}
		close(shown)
		io.Copy(io.Discard, r)
	}()
	expect("{90 30}")
	<-shown
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: 70, Row: 20}); err != nil {
		t.Fatal(err)
	}
	expect("{70 20}")
	for _, k := range []struct{ key, cmd string }{{"\x03", "IP"}, {"\x1c", "ABORT"}, {"\x1a", "SUSP"}} {
		io.WriteString(keys, k.key)
		expect(k.cmd)
	}
	io.WriteString(keys, "quit\n")
	if status := outcome(t, c.Wait()); status != 0 {
		t.Errorf("status %d", status)
	}
	after, err := unix.IoctlGetTermios(int(term.Fd()), unix.TCGETS)
	if err != nil || *after != *before {
		t.Errorf("%+v became %+v, %v", before, after, err)
	}
}
