package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/probe/check"
)

// checked runs a command in the lab and returns what came of it.
func checked(t *testing.T, l *lab.Lab, c *exec.Cmd) (status int, stdout, stderr string) {
	t.Helper()
	return begun(t, l, c)()
}

// begun starts a program in the lab; end waits for it.
func begun(t *testing.T, l *lab.Lab, c *exec.Cmd) (end func() (status int, stdout, stderr string)) {
	t.Helper()
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := l.Start(c); err != nil {
		t.Fatal(err)
	}
	return func() (int, string, string) {
		t.Helper()
		return outcome(t, c.Wait()), out.String(), errs.String()
	}
}

// greeter says a line to whoever connects to the kernel host, and answers
// datagrams.
func greeter(t *testing.T, l *lab.Lab) (port string) {
	t.Helper()
	ln, err := l.ListenKernel("tcp", "10.77.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ = net.SplitHostPort(ln.Addr().String())
	pc, err := l.ListenPacketKernel("udp", "10.77.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				io.WriteString(c, "220 hello\r\n")
				io.Copy(c, c)
				c.Close()
			}()
		}
	}()
	go func() {
		b := make([]byte, 100)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			pc.WriteTo(b[:n], from)
		}
	}()
	t.Cleanup(func() { ln.Close(); pc.Close() })
	return port
}

// TestCheckCommand: pyminitcp's flags and exit statuses, over a stack and over
// the host's sockets, and under pyminitcp's name.
func TestCheckCommand(t *testing.T) {
	t.Parallel()
	lab.InNamespace(t, func(l *lab.Lab) {
		port := greeter(t, l)
		link := filepath.Join(t.TempDir(), "pyminitcp")
		if err := os.Symlink(os.Args[0], link); err != nil {
			t.Fatal(err)
		}
		device := attached(l, lab.EnvIP+"=10.77.0.7/24,fd77::7/64", "TAPSTACK_DAD=false")
		as := map[string]func(args ...string) *exec.Cmd{
			"stack": func(args ...string) *exec.Cmd { return tapstack(t, device, append([]string{"check"}, args...)...) },
			"host": func(args ...string) *exec.Cmd {
				return tapstack(t, nil, append([]string{"check", "--net", "host"}, args...)...)
			},
			"pyminitcp": func(args ...string) *exec.Cmd {
				c := tapstack(t, nil, args...)
				c.Path, c.Args[0] = link, link
				return c
			},
		}
		for name, program := range as {
			for _, tc := range []struct {
				args   []string
				status int
				want   map[string]any // of the JSON, if there is any
				out    string         // contained in standard output
				err    string         // likewise, of the other
			}{
				{args: []string{"10.77.0.1", port, "--json"}, want: map[string]any{"status": 1.0, "error": "", "banner": nil, "family": "AF_INET"}},
				{args: []string{"-j", "-t", "5.5", "--tcp", "10.77.0.1", port, "--banner", "--require-banner"}, want: map[string]any{"status": 1.0, "banner": "220 hello"}},
				{args: []string{"10.77.0.1", port, "--banner", "--read-bytes", "3", "--json"}, want: map[string]any{"banner": "220"}},
				{args: []string{"10.77.0.1", port, "--udp", "--send-hex", "61 62", "--banner", "--json"}, want: map[string]any{"status": 1.0, "banner": "ab", "connect_time": 0.0}},
				{args: []string{"10.77.0.1", port, "--udp", "--hex-payload", "6162", "--json"}, want: map[string]any{"status": 1.0, "banner": nil}},
				{args: []string{"10.77.0.1", port, "--udp", "-p", "xy", "--banner", "--json"}, want: map[string]any{"banner": "xy"}},
				{args: []string{"10.77.0.1", port, "--expect", "PING$", "--send-data", "PING", "--json"}, want: map[string]any{"status": 1.0, "banner": "220 hello\r\nPING"}},
				{args: []string{"10.77.0.1", port, "--udp", "--send-hex", "6", "--json"}, status: 1, want: map[string]any{"status": 0.0, "error": "Invalid hex payload"}},
				{args: []string{"10.77.0.1", "4", "--json"}, status: 1, want: map[string]any{"status": 0.0, "phase": "connect", "errno_name": "ECONNREFUSED", "sockaddr": nil}},
				{args: []string{"10.77.0.1", "4", "--json=full"}, status: 1, want: map[string]any{"verdict": "closed"}},
				{args: []string{"10.77.0.1", "4", "--exit-zero"}, out: "Status         : Failure\n"},
				{args: []string{"10.77.0.1", port, "--service", "smtp"}, out: "Verdict        : open: 10.77.0.1:" + port + " is SMTP, hello"},
				{args: []string{"10.77.0.1", port, "--service", "ssh", "-t", "0.5"}, status: 1, out: "something else answers"},
				{args: []string{"10.77.0.1", port, "--tls"}, status: 1, out: "the answer is not TLS"},
				{args: []string{"10.77.0.1"}, status: 2, err: "want HOST PORT"},
				{args: []string{"10.77.0.1", "abc"}, status: 2, err: `"abc" is no port`},
				{args: []string{"10.77.0.1", "65536"}, status: 2, err: "no port"},
				{args: []string{"10.77.0.1", port, "-t", "0"}, status: 2, err: "--timeout"},
				{args: []string{"10.77.0.1", port, "--send-hex", "61", "--send-data", "a"}, status: 2, err: "one of the two"},
				{args: []string{"10.77.0.1", port, "--service", "gopher"}, status: 2, err: "gopher"},
				{args: []string{"10.77.0.1", port, "--service", "ssh", "--udp"}, status: 2, err: "other of TCP and UDP"},
				{args: []string{"10.77.0.1", port, "--service", "ntp", "--tcp"}, status: 2, err: "other of TCP and UDP"},
				{args: []string{"10.77.0.1", port, "--expect", "("}, status: 2, err: "--expect"},
				{args: []string{"10.77.0.1", port, "--insecure"}, status: 2, err: "flags about TLS"},
				{args: []string{"10.77.0.1", port, "--json=most"}, status: 2, err: "want seed or full"},
				{args: []string{"--help"}, out: "--require-banner"},
			} {
				status, out, errs := checked(t, l, program(tc.args...))
				if status != tc.status || !strings.Contains(out, tc.out) || !strings.Contains(errs, tc.err) || (tc.err == "") != (errs == "") {
					t.Errorf("%s %q: status %d\n%s%s", name, tc.args, status, out, errs)
				}
				if tc.err != "" && !strings.HasPrefix(errs, map[bool]string{true: "pyminitcp: ", false: "tapstack: "}[name == "pyminitcp"]) {
					t.Errorf("%s %q: %s", name, tc.args, errs)
				}
				if tc.want == nil {
					continue
				}
				var got map[string]any
				if err := json.Unmarshal([]byte(out), &got); err != nil {
					t.Errorf("%s %q: %v of %s", name, tc.args, err, out)
				}
				for k, v := range tc.want {
					if got[k] != v {
						t.Errorf("%s %q: %s is %v, want %v", name, tc.args, k, got[k], v)
					}
				}
				if strings.Contains(out, "\x1b") {
					t.Errorf("%s %q: colours where there is no terminal", name, tc.args)
				}
			}
		}
	})
}

// TestCheckNotTried: without a network there is no result, and the status is
// not that of a check that failed.
func TestCheckNotTried(t *testing.T) {
	c := tapstack(t, nil, "check", "10.77.0.1", "7", "--tap", "no-such-tap")
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if status := outcome(t, err); status != 2 || len(out) > 0 || !strings.Contains(stderr.String(), "no interface no-such-tap") {
		t.Errorf("status %d\n%s%s", status, out, &stderr)
	}
}

// TestCheckTargets: a list of targets gives a line for each, in order.
func TestCheckTargets(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		port := greeter(t, l)
		dir := t.TempDir()
		file := filepath.Join(dir, "targets")
		var list strings.Builder
		for range 50 {
			list.WriteString("10.77.0.1 " + port + " smtp\n10.77.0.1 4 # closed\n")
		}
		if err := os.WriteFile(file, []byte(list.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		c := tapstack(t, nil, "check", "--net", "host", "--targets", file, "--json", "--parallel", "10")
		status, out, errs := checked(t, l, c)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if status != 1 || len(lines) != 100 || errs != "" {
			t.Fatalf("status %d, %d lines, %s", status, len(lines), errs)
		}
		for i, line := range lines {
			var r struct {
				Host         string
				Port, Status int
			}
			if err := json.Unmarshal([]byte(line), &r); err != nil || r.Host != "10.77.0.1" || (i%2 == 0) != (r.Status == 1) || (i%2 == 1) != (r.Port == 4) {
				t.Errorf("%d: %v, %s", i, err, line)
			}
		}
		c = tapstack(t, nil, "check", "--net", "host", "--targets", "-", "--service", "smtp", "--exit-zero")
		c.Stdin = strings.NewReader("10.77.0.1 " + port + "\n10.77.0.1 4\n")
		status, out, errs = checked(t, l, c)
		if status != 0 || !strings.HasPrefix(out, "ok   10.77.0.1 "+port+" ") || !strings.Contains(out, "SMTP, hello\nFAIL 10.77.0.1 4 ") || errs != "" {
			t.Errorf("status %d\n%s%s", status, out, errs)
		}
		for text, want := range map[string]string{"": "there are none", "a b": "line 1", "a 1 \x00\n": "neither a port"} {
			c = tapstack(t, nil, "check", "--net", "host", "--targets", "-")
			c.Stdin = strings.NewReader(text)
			if status, out, errs := checked(t, l, c); status != 2 || !strings.Contains(errs, want) || out != "" {
				t.Errorf("%q: status %d, %s%s", text, status, out, errs)
			}
		}
	})
}

// TestProgress: the line says how far it is, gives way to what is printed, and
// is gone at the end.
func TestProgress(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "terminal"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := newProgress(true, 4)
	if p.out != nil && !isTerminal(os.Stderr) {
		t.Error("a line where nobody sees it")
	}
	p.out = f
	p.done(&check.Result{OK: true})
	p.done(&check.Result{})
	p.clear()
	p.show()
	p.end()
	b, err := os.ReadFile(f.Name())
	if got := string(b); err != nil || !strings.Contains(got, "1 of 4, 0 failed") || !strings.Contains(got, "["+strings.Repeat("#", 15)+strings.Repeat(".", 15)+"] 2 of 4, 1 failed, ") ||
		!strings.HasSuffix(got, "\r\x1b[K") {
		t.Errorf("%q", got)
	}
}

// TestCalled: the name decides what the program is.
func TestCalled(t *testing.T) {
	for argv0, want := range map[string]string{"/usr/bin/pyminitcp": "pyminitcp", "pyminitcp": "pyminitcp", "mtr-packet": "mtr-packet", "/usr/bin/telnet": "telnet", "nc": "nc", "bin/host": "host", "bin/tapstack": "tapstack", "/tmp/other": "tapstack"} {
		if name, c := called(argv0); name != want || c.Name() != want {
			t.Errorf("%s is %s, with the command %s", argv0, name, c.Name())
		}
	}
}
