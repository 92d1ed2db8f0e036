package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/lab"
)

// envMain makes the test binary be the program.
const envMain = "TAPSTACK_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(envMain) == "1" {
		main()
	}
	// Most of these tests wait for another program most of the time, so more of
	// them run together than there are processors, unless -parallel says how many.
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", strconv.Itoa(max(4, 2*runtime.GOMAXPROCS(0)))); err != nil {
			panic(err)
		}
	}
	lab.Main(m)
}

// patience is how long anything in these tests may take before it has failed.
const patience = 30 * time.Second

// lifetime is how long a program may run that a test starts: all that is done
// with it has patience.
const lifetime = 4 * patience

// persist repeats what waits for moments only, which may be too short on a busy
// machine, until f has done it: for as long as patience, and four times at least.
func persist(f func() bool) bool {
	for try, end := 0, time.Now().Add(patience); try < 4 || time.Now().Before(end); try++ {
		if f() {
			return true
		}
	}
	return false
}

// tapstack returns the program with arguments and nothing but env of the
// variables that would be its defaults.
func tapstack(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), lifetime)
	t.Cleanup(cancel)
	c := exec.CommandContext(ctx, os.Args[0], args...)
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "TAPSTACK_") || strings.HasPrefix(kv, lab.EnvDevice+"=") {
			c.Env = append(c.Env, kv)
		}
	}
	// The race detector would sleep for a second at each exit.
	c.Env = append(append(c.Env, env...), envMain+"=1", "GORACE=atexit_sleep_ms=0")
	return c
}

// attached is the environment of a program on the lab's first device, and what
// else it is to have.
func attached(l *lab.Lab, more ...string) []string {
	device := lab.EnvTap + "=" + l.Devices[0]
	if l.Packet {
		device = lab.EnvDev + "=" + l.Device()
	}
	return append([]string{device}, more...)
}

// outcome is the exit status of a command that was run or started.
func outcome(t *testing.T, err error) int {
	t.Helper()
	if err == nil {
		return 0
	}
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		t.Fatal(err)
	}
	return exit.ExitCode()
}

func TestCommandLines(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args   string
		status int
		stdout string // contained in it, "" means that there is none
		stderr string // likewise
	}{
		{"", 0, "up ", ""},
		{"--help", 0, "lab ", ""},
		{"up --help", 0, "--services SERVICES", ""},
		{"lab", 0, "shell", ""},
		{"version", 0, "tapstack ", ""},
		{"down", 2, "", `unknown command "down"`},
		{"lab walk", 2, "", `unknown command "walk"`},
		{"version 2", 2, "", `unexpected argument "2"`},
		{"up tap7", 2, "", `unexpected argument "tap7"`},
		{"up --tap", 2, "", "needs an argument"},
		{"up --colour", 2, "", "unknown flag"},
		{"up --mtu many", 2, "", "invalid argument"},
		{"up --ip 10.77.0.7", 2, "", "--ip 10.77.0.7"},
		{"up --mac 01:00:00:00:00:01", 2, "", "group address"},
		{"up --ip 10.77.0.7/24 --gw 10.78.0.1", 2, "", "not on the link"},
		{"up --services echo,qotd", 2, "", `unknown service "qotd"`},
		{"up --tap no-such-tap", 1, "", "no interface no-such-tap"},
		{"lab run", 2, "", "no command"},
		{"lab run --hosts 0 -- true", 2, "", "--hosts 0"},
	} {
		c := tapstack(t, nil, strings.Fields(tc.args)...)
		var stdout, stderr bytes.Buffer
		c.Stdout, c.Stderr = &stdout, &stderr
		status := outcome(t, c.Run())
		if status != tc.status || !strings.Contains(stdout.String(), tc.stdout) || !strings.Contains(stderr.String(), tc.stderr) ||
			(tc.stdout == "") != (stdout.Len() == 0) || (tc.stderr == "") != (stderr.Len() == 0) {
			t.Errorf("%q: status %d\n%s%s", tc.args, status, &stdout, &stderr)
		}
		if line := stderr.String(); line != "" && (strings.Count(line, "\n") != 1 || !strings.HasPrefix(line, "tapstack: ")) {
			t.Errorf("%q: not one line: %q", tc.args, line)
		}
	}
}

// running is a started `tapstack up`.
type running struct {
	*exec.Cmd
	out   *bufio.Reader
	ready string
	lease string // the line before it, "" without one

	mu     sync.Mutex // guards stderr
	stderr bytes.Buffer
	wrote  chan struct{} // a token after something was written to stderr
}

func (r *running) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case r.wrote <- struct{}{}:
	default:
	}
	return r.stderr.Write(p)
}

func (r *running) errors() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stderr.String()
}

// up starts a command that prints the ready line, and waits for it.
func up(t *testing.T, start func(*exec.Cmd) error, c *exec.Cmd) *running {
	t.Helper()
	r := &running{Cmd: c, wrote: make(chan struct{}, 1)}
	// A pipe of our own, as Wait must not close it before all is read.
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pr.Close() })
	c.Stdout, c.Stderr, r.out = pw, r, bufio.NewReader(pr)
	err = start(c)
	pw.Close()
	if err != nil {
		t.Fatal(err)
	}
	for r.ready, err = r.out.ReadString('\n'); strings.HasPrefix(r.ready, "lease"); r.ready, err = r.out.ReadString('\n') {
		r.lease += r.ready
	}
	if err != nil || !strings.HasPrefix(r.ready, "ready ") {
		t.Fatalf("instead of ready: %q, %v; %s", r.ready, err, r.errors())
	}
	return r
}

func (r *running) terminate(t *testing.T) {
	t.Helper()
	if err := r.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	rest, _ := io.ReadAll(r.out)
	if status := outcome(t, r.Wait()); status != 0 || len(rest) > 0 {
		t.Errorf("status %d after SIGTERM, more output %q, errors %s", status, rest, r.errors())
	}
}

// errNoIPv6 is what some labs lack.
var errNoIPv6 = errors.New("the kernel has no IPv6")

func TestUp(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		if !l.IPv6 {
			lab.Lacks(t, errNoIPv6)
		}
		capture := filepath.Join(t.TempDir(), "up.pcapng")
		c := tapstack(t, attached(l, lab.EnvIP+"=10.77.0.7/24,fd77::7/64", lab.EnvGW+"=10.77.0.1"),
			"up", "--services", "echo,daytime", "--dad=false", "--mac", "02:00:00:00:00:07", "--pcap", capture, "--stats")
		r := up(t, l.Start, c)
		for _, want := range []string{"interface=" + l.Devices[0], "mac=02:00:00:00:00:07", "10.77.0.7/24", "fd77::7/64",
			"fe80::", "services=echo,daytime", "ms="} {
			if !strings.Contains(r.ready, want) {
				t.Errorf("%q lacks %s", r.ready, want)
			}
		}

		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		dial := func(network, address string) net.Conn {
			t.Helper()
			c, err := l.DialKernel(ctx, network, address)
			if err != nil {
				t.Fatalf("%v; %s", err, r.errors())
			}
			t.Cleanup(func() { c.Close() })
			_ = c.SetDeadline(time.Now().Add(patience))
			return c
		}
		daytime := dial("tcp", "[fd77::7]:13")
		day, err := io.ReadAll(daytime)
		daytime.Close() // else the end would wait for it
		if err != nil || !bytes.HasSuffix(day, []byte("\r\n")) {
			t.Errorf("daytime: %q, %v", day, err)
		}
		var echoes []net.Conn
		for _, network := range []string{"tcp", "udp"} {
			for _, address := range []string{"10.77.0.7:7", "[fd77::7]:7"} {
				c, got := dial(network, address), make([]byte, 100)
				_, _ = c.Write([]byte("over " + network))
				n, err := c.Read(got)
				if err != nil || string(got[:n]) != "over "+network {
					t.Errorf("echo over %s by %s: %q, %v", network, address, got[:n], err)
				}
				if network == "tcp" {
					echoes = append(echoes, c)
				}
			}
		}

		if err := r.Process.Signal(syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		// One write for each counter; the last in order is a service's or UDP's.
		for !strings.Contains(r.errors(), "udp.") {
			select {
			case <-r.wrote:
			case <-ctx.Done():
				t.Fatalf("no counters after SIGUSR1: %s", r.errors())
			}
		}
		if got := r.errors(); !strings.Contains(got, "service.echo.accepted") || strings.Contains(got, "bad-checksum") {
			t.Errorf("counters:\n%s", got)
		}

		// The end is orderly for connections: FIN, not RST.
		ended := make(chan error, len(echoes))
		for _, c := range echoes {
			go func() {
				n, err := c.Read(make([]byte, 1))
				if n == 0 && err == io.EOF {
					err = c.Close()
				}
				ended <- err
			}()
		}
		r.terminate(t)
		for range echoes {
			if err := <-ended; err != nil {
				t.Errorf("connection at the end: %v", err)
			}
		}
		if n := strings.Count(r.errors(), "service.daytime.accepted"); n != 2 {
			t.Errorf("--stats: counters printed %d times", n)
		}
		// A pcapng file begins with a section header block.
		if b, err := os.ReadFile(capture); err != nil || !bytes.HasPrefix(b, []byte{0x0a, 0x0d, 0x0d, 0x0a}) {
			t.Errorf("capture of %d bytes, %v", len(b), err)
		}
	})
}

func TestUpRefuses(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		if !l.IPv6 {
			lab.Lacks(t, errNoIPv6)
		}
		for args, want := range map[string]string{
			"--ip fd77::1/64": "fd77::1 is in use",
			"--mtu 9000":      "at most 1500",
			"--dev tap:br0":   "not a TAP",
			"--pcap /proc/no": "--pcap",
		} {
			c := tapstack(t, []string{lab.EnvTap + "=" + l.Devices[0]}, append([]string{"up"}, strings.Fields(args)...)...)
			var stderr bytes.Buffer
			c.Stderr = &stderr
			if err := l.Start(c); err != nil {
				t.Fatal(err)
			}
			status := outcome(t, c.Wait())
			if status == 0 || !strings.Contains(stderr.String(), want) || strings.Count(stderr.String(), "\n") != 1 {
				t.Errorf("%s: status %d, %s", args, status, &stderr)
			}
		}
	})
}

func TestLabRun(t *testing.T) {
	lab.RequireNamespace(t)
	c := tapstack(t, nil, "lab", "run", "--", "sh", "-c", "exit 7")
	if out, err := c.CombinedOutput(); outcome(t, err) != 7 {
		t.Errorf("status %v, want 7; %s", err, out)
	}
	c = tapstack(t, nil, "lab", "run", "--", os.Args[0], "up", "--dad=false")
	r := up(t, (*exec.Cmd).Start, c)
	if !strings.Contains(r.ready, "10.77.0.7/24") {
		t.Errorf("in the lab: %q", r.ready)
	}
	r.terminate(t)
}
