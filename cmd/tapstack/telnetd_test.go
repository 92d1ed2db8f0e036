package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/tapstack/tapstack/internal/lab"
)

func TestTelnetdCommandLine(t *testing.T) {
	for _, tc := range []struct {
		args   string
		stderr string
	}{
		{"localhost 23 x", `unexpected argument "x"`},
		{"localhost telnet", `"telnet" is no port`},
		{"localhost 65536", `no port`},
		{"-- x", "no --pty-exec"},
		{"--pty-exec=", "want a program"},
		{"--pty-exec x --shell echo", "one of the two"},
		{"--pty-raw", "about --pty-exec"},
		{"--pty-fork-limit 2", "about --pty-exec"},
		{"--pty-exec x --pty-fork-limit -1", "0 or more"},
		{"--pty-exec /nonexistent", "--pty-exec: "},
		{"--max-connections -1", "0 or more"},
		{"--shell gopher", "want one of busy, echo, fingerprint, telsh"},
		{"--compression --no-compression", "one of the two"},
		{"--logfmt xml", "text or json"},
		{"--loglevel loud", "want one of trace"},
		{"--logfile /nonexistent/x", "--logfile"},
		{"--encoding klingon", "no character set"},
		{"--timeout -1", "--timeout -1"},
		{"--timeout NaN", "--timeout NaN"},
		{"--timeout x", "invalid argument"},
		{"--connect-maxwait 0", "--connect-maxwait 0"},
		{"--status-interval -1", "--status-interval -1"},
		{"--tls-auto", "needs --ssl-certfile"},
		{"--ssl-keyfile x", "needs --ssl-certfile"},
		{"--ssl-certfile /nonexistent", "--ssl-certfile: open"},
	} {
		c := tapstack(t, nil, append([]string{"telnetd", "--net", "host"}, strings.Fields(tc.args)...)...)
		var stderr bytes.Buffer
		c.Stderr = &stderr
		if status := outcome(t, c.Run()); status != 2 || !strings.Contains(stderr.String(), tc.stderr) || strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("%q: status %d: %s", tc.args, status, &stderr)
		}
	}
	if name, c := called("/usr/sbin/telnetd"); name != "telnetd" || c.Name() != "telnetd" || c.Flag("net").Value.String() != "host" {
		t.Errorf("a link is %s", name)
	}
}

// telnetd runs the program on loopback of the lab.
func telnetd(t *testing.T, l *lab.Lab, port string, args ...string) *running {
	t.Helper()
	head := []string{"telnetd", "--net", "host", "--logfmt", "json"}
	return up(t, l.Start, tapstack(t, nil, append(append(head, "127.0.0.1", port), args...)...))
}

func dialTelnetd(t *testing.T, l *lab.Lab, port string) *wire {
	t.Helper()
	nc, err := l.DialKernel(t.Context(), "tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	nc.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { nc.Close() })
	return &wire{t, nc}
}

// wire is a client that says bytes.
type wire struct {
	t *testing.T
	net.Conn
}

func (w *wire) send(s string) {
	w.t.Helper()
	if _, err := io.WriteString(w.Conn, s); err != nil {
		w.t.Fatal(err)
	}
}

func (w *wire) want(s string) {
	w.t.Helper()
	got := make([]byte, len(s))
	if n, err := io.ReadFull(w.Conn, got); err != nil || string(got) != s {
		w.t.Fatalf("got  %q\nwant %q\n%v", got[:n], s, err)
	}
}

func (w *wire) wantEnd(s string) {
	w.t.Helper()
	if got, err := io.ReadAll(w.Conn); err != nil || string(got) != s {
		w.t.Fatalf("got  %q\nwant %q\n%v", got, s, err)
	}
}

const (
	doTType   = "\xff\xfd\x18"
	wontTType = "\xff\xfc\x18"
)

// TestTelnetd: the flags, each by what a client sees of it.
func TestTelnetd(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		t.Run("telsh", func(t *testing.T) {
			r := telnetd(t, l, "6001", "--never-send-ga", "--max-connections", "1", "--status-interval", "0.001")
			if !strings.Contains(r.ready, "services=telnetd") {
				t.Error(r.ready)
			}
			w := dialTelnetd(t, l, "6001")
			w.want(doTType)
			w.send(wontTType)
			w.want("Ready.\r\ntel:sh> ")
			dialTelnetd(t, l, "6001").wantEnd("Machine is busy, do not touch! \r\n")
			for !strings.Contains(r.errors(), "1 client(s): "+w.LocalAddr().String()+" (rx=3, tx=19, idle=0)") {
				select {
				case <-r.wrote:
				case <-limited(t).Done():
					t.Fatal(r.errors())
				}
			}
			w.send("version\r\nquit\r\n")
			w.want("\r\ntapstack ")
			if rest, _ := io.ReadAll(w); !strings.HasSuffix(string(rest), "\r\ntel:sh> \r\nGoodbye.\r\n") {
				t.Errorf("%q", rest)
			}
			if !strings.Contains(r.errors(), "Server ready on 127.0.0.1:6001\n") {
				t.Error(r.errors())
			}
			r.terminate(t)
		})
		t.Run("echo", func(t *testing.T) {
			r := telnetd(t, l, "6002", "--shell", "echo")
			w := dialTelnetd(t, l, "6002")
			w.want(doTType)
			w.send(wontTType + "one\r\ntwo\xff\xff")
			w.want("one\r\ntwo\xff\xff")
			r.terminate(t) // which ends the session
			w.wantEnd("")
		})
		t.Run("timeout", func(t *testing.T) {
			telnetd(t, l, "6003", "--timeout", "0.2", "--connect-maxwait", "0.05", "--never-send-ga")
			dialTelnetd(t, l, "6003").wantEnd(doTType + "Ready.\r\ntel:sh> \r\nTimeout.\r\n")
		})
		t.Run("robot", func(t *testing.T) {
			telnetd(t, l, "6004", "--robot-check", "--never-send-ga")
			w := dialTelnetd(t, l, "6004")
			w.want(doTType)
			w.send(wontTType)
			w.want("\x1b[6n")
			w.send("\x1b[1;1R")
			w.want(" \x1b[6n")
			w.send("\x1b[1;2R")
			w.want("\b \bReady.\r\n")
		})
		t.Run("latin1", func(t *testing.T) {
			telnetd(t, l, "6005", "--encoding", "latin1", "--force-binary", "--never-send-ga")
			w := dialTelnetd(t, l, "6005")
			w.want(doTType)
			w.send(wontTType)
			w.want("Ready.\r\ntel:sh> ")
			w.send("reader\r")
			w.want("\r\n<TelnetReaderUnicode encoding='latin1' limit=65536 buflen=0 eof=False>")
		})
		t.Run("line-mode", func(t *testing.T) {
			telnetd(t, l, "6006", "--line-mode", "--compression")
			w := dialTelnetd(t, l, "6006")
			w.want(doTType)
			w.send(wontTType + "\xff\xfb\x1f") // WILL NAWS: the rest is asked for
			w.want("\xff\xfd\x1f\xff\xfb\x00")
			for _, mccp := range []string{"\xff\xfb\x56", "\xff\xfb\x57"} {
				var got []byte
				for one := make([]byte, 1); !strings.HasSuffix(string(got), mccp); got = append(got, one[0]) {
					if _, err := io.ReadFull(w, one); err != nil {
						t.Fatalf("%q: no %q", got, mccp)
					}
					if strings.Contains(string(got), "\xff\xfb\x03") || strings.Contains(string(got), "\xff\xfb\x01") {
						t.Fatalf("WILL SGA or ECHO: %q", got)
					}
				}
			}
		})
		t.Run("tls", func(t *testing.T) {
			cert, pool := certificate(t)
			for i, auto := range []bool{false, true} {
				port := fmt.Sprint(6007 + i)
				args := []string{"--ssl-certfile", cert, "--never-send-ga"}
				if auto {
					args = append(args, "--tls-auto=10")
				}
				telnetd(t, l, port, args...)
				w := dialTelnetd(t, l, port)
				w.Conn = tls.Client(w.Conn, &tls.Config{RootCAs: pool, ServerName: "localhost"})
				w.want(doTType)
				w.send(wontTType)
				w.want("Ready (secure: TLSv1.3).\r\ntel:sh> ")
				w.send("quit\r")
				w.want("\r\nGoodbye.\r\n")
				if !auto {
					continue
				}
				w = dialTelnetd(t, l, port)
				w.send(wontTType)
				w.want(doTType + "Ready.\r\ntel:sh> ")
				w.send("quit\r")
				w.wantEnd("\r\nGoodbye.\r\n")
			}
		})
		t.Run("pty", func(t *testing.T) {
			r := telnetd(t, l, "6009", "--pty-fork-limit", "1", "--never-send-ga", "--pty-exec", "/bin/sh", "--",
				"-c", `echo "args $1 $2"; read x; echo "got $x"`, "sh", "-f", "root")
			w := dialTelnetd(t, l, "6009")
			w.want(doTType)
			w.send(wontTType)
			w.want("args -f root\r\n")
			busy := dialTelnetd(t, l, "6009")
			busy.want(doTType)
			busy.send(wontTType)
			busy.want("Machine is busy, do not touch! ")
			busy.send("a\r\nb\r\n")
			busy.wantEnd("\r\nYou hear a distant explosion... \r\n")
			w.send("it\r\n")
			w.wantEnd("got it\r\n")
			r.terminate(t)
		})
	})
}

// certificate makes one for localhost, in a file with its key.
func certificate(t *testing.T) (file string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	kd, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "cert.pem")
	b := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kd})...)
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(b)
	return file, pool
}

// overTAP runs telnetd on a stack of its own, and returns a function that tells
// what was negotiated since it was last called, from the decoded trace.
func overTAP(t *testing.T, l *lab.Lab, args ...string) (negotiated func() []string) {
	t.Helper()
	return tracing(t, l, attached(l, lab.EnvIP+"=10.77.0.7/24", "TAPSTACK_DAD=false"), append([]string{"0.0.0.0", "23"}, args...)...)
}

// tracing runs telnetd and returns a function that tells what was negotiated
// since it was last called.
func tracing(t *testing.T, l *lab.Lab, env []string, args ...string) (negotiated func() []string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "log")
	head := []string{"telnetd", "--loglevel", "trace", "--logfmt", "json", "--logfile", file}
	r := up(t, l.Start, tapstack(t, env, append(head, args...)...))
	t.Cleanup(func() { r.terminate(t) })
	read := 0
	return func() (list []string) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines := bytes.SplitAfter(b[read:], []byte("\n"))
		for _, line := range lines[:len(lines)-1] {
			read += len(line)
			var e struct{ Msg, What string }
			if err := json.Unmarshal(line, &e); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			if way, ok := strings.CutPrefix(e.Msg, "telnet: "); ok && e.What != "" {
				list = append(list, way+" "+e.What)
			}
		}
		return list
	}
}

// otherClient is somebody else's.
type otherClient struct {
	t   *testing.T
	in  io.Writer
	out *bufio.Reader
}

func (p *otherClient) send(s string) {
	p.t.Helper()
	if _, err := io.WriteString(p.in, s); err != nil {
		p.t.Fatal(err)
	}
}

// want reads up to s and returns what was before it.
func (p *otherClient) want(s string) string {
	p.t.Helper()
	var got []byte
	for !strings.HasSuffix(string(got), s) {
		b, err := p.out.ReadByte()
		if err != nil {
			p.t.Fatalf("no %q in %q: %v", s, got, err)
		}
		got = append(got, b)
	}
	return strings.TrimSuffix(string(got), s)
}

func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// piped starts a client between pipes.
func piped(t *testing.T, l *lab.Lab, name string, args ...string) *otherClient {
	t.Helper()
	c := exec.CommandContext(limited(t), lab.RequireProgram(t, name), args...)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Start(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); c.Wait() })
	return &otherClient{t, in, bufio.NewReader(out)}
}

// onTerminal starts a client on a terminal of so many columns and lines.
func onTerminal(t *testing.T, l *lab.Lab, cols, rows uint16, name string, args ...string) (*otherClient, *os.File) {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	if err := pty.Setsize(master, &pty.Winsize{Cols: cols, Rows: rows}); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(limited(t), lab.RequireProgram(t, name), args...)
	c.Stdin, c.Stdout, c.Stderr = slave, slave, slave
	c.Env = append(os.Environ(), "TERM=vt220", "LANG=C.UTF-8")
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := l.Start(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close(); c.Wait() })
	return &otherClient{t, master, bufio.NewReader(master)}, master
}

// TestTelnetdPeers: other people's clients over a TAP, and what each of them
// agreed to.
func TestTelnetdPeers(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		negotiated := overTAP(t, l)
		for _, tc := range []struct {
			program string
			args    []string
			end     string
			said    []string // received from it
			not     []string
		}{
			{"inetutils-telnet", []string{"10.77.0.7"}, "\r",
				[]string{"WILL TTYPE", "WILL NAWS", "DO SGA", "DO ECHO", "DO BINARY", "WILL BINARY", "WILL NEW_ENVIRON", "WONT CHARSET"}, nil},
			{"busybox", []string{"telnet", "10.77.0.7"}, "\r",
				[]string{"WILL TTYPE", "WILL NAWS", "DO SGA", "DO ECHO", "DONT BINARY", "WONT CHARSET", "WONT NEW_ENVIRON"}, []string{"WILL NEW_ENVIRON"}},
		} {
			t.Run(tc.program, func(t *testing.T) {
				p := piped(t, l, tc.program, tc.args...)
				p.want("Ready.")
				p.want("tel:sh> ")
				p.send("proto" + tc.end)
				p.want("<Peer 10.77.0.1 ")
				p.want("tel:sh> ")
				p.send("quit" + tc.end)
				p.want("Goodbye.")
				io.Copy(io.Discard, p.out) // it leaves
				got := negotiated()
				for _, s := range tc.said {
					if !slices.Contains(got, "received "+s) {
						t.Errorf("it did not say %s:\n%s", s, strings.Join(got, "\n"))
					}
				}
				for _, s := range tc.not {
					if slices.Contains(got, "received "+s) {
						t.Errorf("it said %s", s)
					}
				}
				for i, s := range got { // nobody is asked the same twice
					if verb := strings.TrimPrefix(s, "sent "); verb != s && !strings.Contains(s, " TM") && !strings.Contains(s, " SB ") && slices.Contains(got[:i], s) {
						t.Errorf("%s twice", s)
					}
				}
			})
		}
	})
}

// TestTelnetdTerminal: a program behind other people's clients on a terminal:
// its size follows theirs, ^C interrupts it, UTF-8 survives, its end is theirs.
func TestTelnetdTerminal(t *testing.T) {
	const script = `trap 'echo interrupted' INT; echo "on $TERM"; while :; do
		if read x; then [ "$x" = quit ] && exit; echo "size $(stty size) got $x."; fi; done`
	lab.InNamespace(t, func(l *lab.Lab) {
		negotiated := overTAP(t, l, "--pty-exec", "/bin/sh", "--", "-c", script)
		for name, args := range map[string][]string{"inetutils-telnet": {"10.77.0.7"}, "busybox": {"telnet", "10.77.0.7"}} {
			t.Run(name, func(t *testing.T) {
				p, tty := onTerminal(t, l, 101, 37, name, args...)
				p.want("on vt220\r\n")
				p.send("h\u00e4\u4e2d\x7f\u6587\r")
				p.want("size 37 101 got h\u00e4\u6587.\r\n")
				if err := pty.Setsize(tty, &pty.Winsize{Cols: 60, Rows: 20}); err != nil {
					t.Fatal(err)
				}
				if name == "busybox" { // it tells its size once
					p.send("again\r")
					p.want("size 37 101 got again.\r\n")
				} else {
					size := regexp.MustCompile(`size (\d+ \d+) got`)
					for last := ""; last != "20 60"; { // until its signal has arrived
						p.send("again\r")
						m := size.FindStringSubmatch(p.want("again.\r\n"))
						if m == nil || m[1] != "20 60" && m[1] != "37 101" {
							t.Fatalf("%q", m)
						}
						last = m[1]
					}
				}
				p.send("\x03")
				p.want("interrupted\r\n")
				p.send("quit\r")
				io.Copy(io.Discard, p.out)
				if got := negotiated(); !slices.Contains(got, `received SB NAWS "\x00e\x00%"`) {
					t.Errorf("%s", strings.Join(got, "\n"))
				}
			})
		}
	})
}
