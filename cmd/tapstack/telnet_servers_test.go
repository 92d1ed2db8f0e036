package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/lab"
)

// envTelnetlib3 is where telnetlib3's source lies, if it is at hand.
const envTelnetlib3 = "TAPSTACK_TELNETLIB3"

// telnetlib3 returns the environment in which python3 finds it.
func telnetlib3(t *testing.T) []string {
	t.Helper()
	env := os.Environ()
	if dir := os.Getenv(envTelnetlib3); dir != "" {
		env = append(env, "PYTHONPATH="+dir)
	}
	c := exec.Command("python3", "-c", "import telnetlib3")
	c.Env = env
	if out, err := c.CombinedOutput(); err != nil {
		// It is no package of Debian's, so nobody can be required to have it.
		t.Skipf("python3 has no telnetlib3; %s may name the directory of its source: %v %s", envTelnetlib3, err, lastLine(out))
	}
	return env
}

func lastLine(b []byte) string {
	s := strings.TrimSpace(string(b))
	return s[strings.LastIndexByte(s, '\n')+1:]
}

// listening waits until something listens in the lab.
func listening(t *testing.T, l *lab.Lab, address string) {
	t.Helper()
	_, port, _ := net.SplitHostPort(address)
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		out, err := l.Output(limited(t), "ss", "-Hltn", "sport = :"+port)
		if err == nil && len(out) > 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("nothing listens on %s: %v", address, err)
		}
	}
}

// TestTelnetServers: our client on a terminal against other people's servers,
// over a TAP and on loopback: what was agreed, from its log, and a dialogue with
// the shell behind.
func TestTelnetServers(t *testing.T) {
	t.Parallel()
	shell := filepath.Join(t.TempDir(), "shell")
	if err := os.WriteFile(shell, []byte("#!/bin/sh\necho \"on $TERM\"\nwhile read x && [ \"$x\" != quit ]; do echo \"got <$x> at $(stty size)\"; done\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	type server struct {
		name  string
		args  func(t *testing.T, host, port string) *exec.Cmd
		first string // on the screen
		agree []string
		not   []string
		shell bool
		size  bool // it follows the window's size
	}
	for _, tc := range []server{
		{name: "inetutils", args: func(t *testing.T, host, port string) *exec.Cmd {
			return exec.Command(lab.RequireProgram(t, "socat"), "TCP-LISTEN:"+port+",bind="+host+",reuseaddr",
				"EXEC:"+lab.RequireProgram(t, "telnetd")+" -h -E "+shell+",nofork")
		}, first: "on screen", shell: true, size: true,
			agree: []string{"RCVD WILL AUTHENTICATION", "SENT DONT AUTHENTICATION", "RCVD WILL ENCRYPT", "SENT DONT ENCRYPT",
				"RCVD DO TTYPE", "SENT WILL TTYPE", `SENT SB TTYPE "\x00screen"`, "RCVD DO TSPEED", "SENT WILL TSPEED", `SENT SB TSPEED "\x0038400,38400"`,
				"SENT WILL XDISPLOC", "SENT WILL NEW_ENVIRON", `SENT SB NEW_ENVIRON "\x00\x00TERM\x01screen\x00LANG\x01C.UTF-8"`,
				"RCVD DO ENVIRON", "SENT WONT ENVIRON", "SENT WILL NAWS", `SENT SB NAWS "\x00P\x00\x18"`, "SENT WILL LFLOW", "SENT DO SGA", "SENT DO ECHO"},
			not: []string{"SENT WILL ENVIRON", "SENT WILL AUTHENTICATION"}},
		{name: "busybox", args: func(t *testing.T, host, port string) *exec.Cmd {
			if err := exec.Command("busybox", "telnetd", "--help").Run(); err != nil {
				lab.Lacks(t, fmt.Errorf("busybox has no telnetd: %w", err))
			}
			return exec.Command("busybox", "telnetd", "-F", "-b", host, "-p", port, "-l", shell)
		}, first: "on ", shell: true, size: true,
			agree: []string{"RCVD DO ECHO", "SENT WONT ECHO", "RCVD DO NAWS", "SENT WILL NAWS", `SENT SB NAWS "\x00P\x00\x18"`, "RCVD WILL ECHO",
				"SENT DO ECHO", "RCVD WILL SGA", "SENT DO SGA"},
			not: []string{"SENT WILL ECHO"}},
		{name: "telnetlib3", args: func(t *testing.T, host, port string) *exec.Cmd {
			env := telnetlib3(t)
			c := exec.Command("python3", "-W", "ignore", "-m", "telnetlib3.server", host, port)
			c.Env = env
			return c
		}, first: "tel:sh>",
			agree: []string{"RCVD DO TTYPE", "SENT WILL TTYPE", `SENT SB TTYPE "\x00screen"`, "SENT DO SGA", "SENT DO BINARY", "SENT WILL BINARY", "SENT WILL NAWS",
				`SENT SB NAWS "\x00P\x00\x18"`, "SENT WILL CHARSET", `SENT SB CHARSET "\x02UTF-8"`, "SENT WILL NEW_ENVIRON", "SENT DO ECHO"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			lab.InNamespace(t, func(l *lab.Lab) {
				for place, host := range map[string]string{"tap": "10.77.0.1", "loopback": "127.0.0.1"} {
					t.Run(place, func(t *testing.T) {
						c := tc.args(t, host, "6023")
						if err := l.Start(c); err != nil {
							t.Fatal(err)
						}
						t.Cleanup(func() { c.Process.Kill(); c.Wait() })
						listening(t, l, host+":6023")
						log := filepath.Join(t.TempDir(), "log")
						env := []string{envMain + "=1", lab.EnvTap + "=" + l.Devices[0], lab.EnvIP + "=10.77.0.7/24", "TAPSTACK_DAD=false"}
						args := []string{"telnet", host, "6023", "--loglevel", "debug", "--logfile", log}
						if place == "loopback" {
							env, args = env[:1], append(args, "--net", "host")
						}
						p := newPane(t, l, 80, 24, env, os.Args[0], args...)
						p.want(tc.first)
						if tc.shell {
							p.line("h\u00e4\u4e2d")
							p.want("got <h\u00e4\u4e2d> at 24 80")
							p.resize(90, 30)
							p.await("the new size", func(s string) bool { p.line("again"); return strings.Contains(s, "got <again> at 30 90") })
							p.key("C-u")
						} else {
							p.line("version")
							p.await("an answer", func(s string) bool { return strings.Count(s, "tel:sh>") == 2 })
						}
						p.line("quit")
						p.wantEnd()
						got := clientLog(t, log)
						for _, s := range tc.agree {
							if !slices.Contains(got, s) {
								t.Errorf("no %s in\n%s", s, strings.Join(got, "\n"))
								break
							}
						}
						for _, s := range tc.not {
							if slices.Contains(got, s) {
								t.Errorf("%s", s)
							}
						}
					})
				}
			})
		})
	}
}

var logged = regexp.MustCompile(`msg=("(?:[^"\\]|\\.)*"|\S+) way=(RCVD|SENT)`)

// clientLog is what a client's log has of the negotiation.
func clientLog(t *testing.T, file string) (list []string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range logged.FindAllSubmatch(b, -1) {
		what := string(m[1])
		if strings.HasPrefix(what, `"`) {
			what = unquote(what)
		}
		list = append(list, string(m[2])+" "+what)
	}
	return list
}

func unquote(s string) string {
	r := strings.NewReplacer(`\"`, `"`, `\\`, `\`)
	return r.Replace(strings.Trim(s[1:len(s)-1], ""))
}

// TestTelnetSynchToServer: the Synch of our client, and that of the server of
// inetutils for its AO, as TCP's urgent data both ways through our stack.
func TestTelnetSynchToServer(t *testing.T) {
	shell := filepath.Join(t.TempDir(), "shell")
	if err := os.WriteFile(shell, []byte("#!/bin/sh\necho ready\nwhile read x && [ \"$x\" != quit ]; do echo \"got <$x>\"; done\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	lab.InNamespace(t, func(l *lab.Lab) {
		urgent := sniffing(t, l)
		c := exec.Command(lab.RequireProgram(t, "socat"), "TCP-LISTEN:6023,bind=10.77.0.1,reuseaddr", "EXEC:"+lab.RequireProgram(t, "telnetd")+" -h -E "+shell+",nofork")
		if err := l.Start(c); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Process.Kill(); c.Wait() })
		listening(t, l, "10.77.0.1:6023")
		log := filepath.Join(t.TempDir(), "log")
		p := newPane(t, l, 80, 24, []string{envMain + "=1", lab.EnvTap + "=" + l.Devices[0], lab.EnvIP + "=10.77.0.7/24", "TAPSTACK_DAD=false"}, os.Args[0],
			"telnet", "10.77.0.1", "6023", "--loglevel", "debug", "--logfile", log)
		command := func(s string) {
			t.Helper()
			p.key("C-]")
			p.wantLast("telnet>")
			p.line(s)
		}
		p.want("ready")
		command("send synch")
		urgent("10.77.0.7")
		command("send ao")
		urgent("10.77.0.1")
		p.line("on")
		p.want("got <on>")
		p.line("quit")
		p.wantEnd()
		got := clientLog(t, log)
		for _, s := range []string{"SENT DM", "SENT AO", "RCVD DM"} {
			if !slices.Contains(got, s) {
				t.Errorf("no %s in %q", s, got)
			}
		}
	})
}

// TestTelnetlib3Client: the client of telnetlib3 at our telsh.
func TestTelnetlib3Client(t *testing.T) {
	env := telnetlib3(t)
	lab.InNamespace(t, func(l *lab.Lab) {
		everywhere(t, l, func(t *testing.T, s served) {
			p := newPane(t, l, 80, 24, env, "python3", "-W", "ignore", "-m", "telnetlib3.client", s.host, s.port)
			p.want("tel:sh>")
			p.line("proto")
			p.want("<Peer ")
			p.line("quit")
			p.want("Goodbye.")
			got := s.said()
			for _, w := range []string{"WILL TTYPE", `SB TTYPE "\x00screen"`, "WILL NAWS", `SB NAWS "\x00P\x00\x18"`, "DO SGA", "DO ECHO", "WILL BINARY", "DO BINARY",
				"WILL CHARSET", "WILL NEW_ENVIRON"} {
				if !slices.Contains(got, "received "+w) {
					t.Errorf("it did not say %s:\n%s", w, strings.Join(got, "\n"))
				}
			}
		})
	})
}
