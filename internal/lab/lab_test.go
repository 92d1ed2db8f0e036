package lab

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The test binary is its own command in the lab: "lab.test COMMAND" with this
// variable set runs one of the commands below.
const envHelper = "TAPSTACK_LAB_TEST_HELPER"

func TestMain(m *testing.M) {
	if os.Getenv(envHelper) != "" && os.Getenv(envStage) == "" {
		helper(os.Args[1])
		return
	}
	// The race detector makes each process of a lab wait a second at its end.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	Main(m)
}

func helper(what string) {
	switch what {
	case "show":
		is, err := net.Interfaces()
		if err != nil {
			panic(err)
		}
		for _, i := range is {
			addrs, _ := i.Addrs()
			fmt.Println(i.Name, i.Flags&net.FlagUp != 0, addrs)
		}
		for _, v := range []string{EnvLab, EnvTap, EnvDev, EnvIP, EnvGW, envStage, envConfig} {
			fmt.Printf("%s=%s\n", v, os.Getenv(v))
		}
	}
}

func run(t *testing.T, o Options, argv ...string) (status int, out, errOut string) {
	t.Helper()
	RequireNamespace(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var so, se bytes.Buffer
	o.Stdin, o.Stdout, o.Stderr = strings.NewReader("input"), &so, &se
	status, err := Run(ctx, o, argv)
	if err != nil {
		t.Fatal(err)
	}
	return status, so.String(), se.String()
}

func sh(t *testing.T) {
	t.Helper()
	RequireProgram(t, "sh")
}

func interfaces(t *testing.T) (names []string) {
	t.Helper()
	is, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range is {
		names = append(names, fmt.Sprint(i))
	}
	return names
}

func TestRunLayout(t *testing.T) {
	t.Setenv(envHelper, "1")
	t.Setenv(EnvDev, "packet:outside0")
	t.Setenv(EnvTap, "outside1")
	before := interfaces(t)
	for device, want := range map[string][]string{
		"packet": {
			"lo true", "br0 true [10.77.0.1/24 fd77::1/64 fe80::ff:fe00:1/64]",
			"port7 true []", "port8 true []", "eth7 true []", "eth8 true []", "void0 false []",
			"TAPSTACK_DEV=packet:eth7\n", "TAPSTACK_TAP=\n",
		},
		"tap": {
			"lo true", "br0 true [10.77.0.1/24 fd77::1/64 fe80::ff:fe00:1/64]",
			"tap7 true []", "tap8 true []",
			"TAPSTACK_DEV=\n", "TAPSTACK_TAP=tap7\n",
		},
	} {
		t.Run(device, func(t *testing.T) {
			if device == "tap" {
				Require(t)
			}
			status, out, errOut := run(t, Options{Hosts: 2, Device: device}, "/proc/self/exe", "show")
			if status != 0 || errOut != "" {
				t.Errorf("status %d, stderr %q", status, errOut)
			}
			want := append(want, "TAPSTACK_LAB=1\n", "TAPSTACK_IP=10.77.0.7/24,fd77::7/64\n", "TAPSTACK_GW=10.77.0.1\n", "TAPSTACK_LAB_STAGE=\n", "TAPSTACK_LAB_CONFIG=\n")
			for _, w := range want {
				if !strings.Contains(out, w) {
					t.Errorf("no %q in\n%s", w, out)
				}
			}
			if n := strings.Count(out, "fe80::"); n != 1 {
				t.Errorf("%d link-local addresses in\n%s", n, out)
			}
		})
	}
	if after := interfaces(t); !slices.Equal(before, after) {
		t.Errorf("the machine's interfaces changed:\n%s\n%s", before, after)
	}
}

func TestRunStatus(t *testing.T) {
	sh(t)
	for _, c := range []struct {
		argv   []string
		status int
		out    string
		errOut string
	}{
		{[]string{"sh", "-c", "cat; exit 7"}, 7, "input", ""},
		{[]string{"sh", "-c", "kill -9 $$"}, 128 + 9, "", ""},
		{[]string{"there-is-no-such-program"}, 127, "", "lab: exec: \"there-is-no-such-program\""},
		{[]string{"/there/is/none"}, 127, "", "no such file"},
		{[]string{"/proc/self/stat"}, 126, "", "permission denied"},
	} {
		status, out, errOut := run(t, Options{Device: "packet"}, c.argv...)
		if status != c.status || out != c.out || !strings.Contains(errOut, c.errOut) {
			t.Errorf("%q: status %d, %q, %q", c.argv, status, out, errOut)
		}
	}
	for _, c := range []struct {
		o    Options
		argv []string
		want string
	}{
		{Options{}, nil, "no command"},
		{Options{Hosts: 1000}, []string{"true"}, "allowed are 1 to 100"},
		{Options{Loss: -1}, []string{"true"}, "allowed are 0 to 1000"},
		{Options{Device: "tun"}, []string{"true"}, "allowed are tap and packet"},
	} {
		if _, err := Run(t.Context(), c.o, c.argv); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.o, err, c.want)
		}
	}
}

// A lab that cannot be built is an error, not a status.
func TestRunWithoutLab(t *testing.T) {
	RequireNamespace(t)
	t.Setenv("PATH", "/nowhere")
	_, err := Run(t.Context(), Options{Device: "packet", Loss: 10}, []string{"/bin/true"})
	if err == nil || !strings.Contains(err.Error(), "nft") {
		t.Errorf("%v", err)
	}
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// Whatever the command leaves behind is ended: a child in the background, one
// that became a daemon and one that ignores SIGTERM.
func TestRunLeavesNothing(t *testing.T) {
	sh(t)
	_, out, errOut := run(t, Options{Device: "packet"}, "sh", "-c", `
		exec 3>&1 >/dev/null 2>&1
		sleep 1000 & echo $! >&3
		(setsid sleep 1000 & echo $! >&3)
		(trap "" TERM; exec sleep 1000) & echo $! >&3
		exec 3>&-`)
	pids := strings.Fields(out)
	if len(pids) != 3 {
		t.Fatalf("%q %q", out, errOut)
	}
	for _, f := range pids {
		if pid, err := strconv.Atoi(f); err != nil || alive(pid) {
			t.Errorf("process %s still lives (%v)", f, err)
		}
	}
}

func TestRunSignals(t *testing.T) {
	sh(t)
	RequireNamespace(t)
	for name, c := range map[string]struct {
		send   func(cancel func())
		script string
		status int
	}{
		"forwarded":   {func(func()) { syscall.Kill(os.Getpid(), syscall.SIGUSR1) }, `trap "exit 42" USR1`, 42},
		"context":     {func(cancel func()) { cancel() }, `trap "exit 43" TERM`, 43},
		"not handled": {func(cancel func()) { cancel() }, ``, 128 + int(syscall.SIGTERM)},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			go func() {
				// The command is up once it has spoken.
				if line, _ := bufio.NewReader(r).ReadString('\n'); line == "up\n" {
					c.send(cancel)
				}
			}()
			status, err := Run(ctx, Options{Device: "packet", Stdin: strings.NewReader(""), Stdout: w, Stderr: io.Discard},
				[]string{"sh", "-c", c.script + "\necho up\nwhile :; do sleep 0.02; done"})
			w.Close()
			if err != nil || status != c.status {
				t.Errorf("status %d, want %d, %v", status, c.status, err)
			}
		})
	}
}

func newLab(t *testing.T) *Lab {
	t.Helper()
	RequireNamespace(t)
	l, err := NewWith(Options{Device: "packet"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestLabKernelSockets(t *testing.T) {
	before := interfaces(t)
	l := newLab(t)
	ln, err := l.ListenKernel("tcp", net.JoinHostPort(Kernel6.Addr().String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	got := make(chan string, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			got <- err.Error()
			return
		}
		defer c.Close()
		b, _ := io.ReadAll(c)
		got <- string(b)
	}()
	c, err := l.DialKernel(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, "through the lab")
	c.Close()
	if s := <-got; s != "through the lab" {
		t.Errorf("got %q", s)
	}
	// Outside there is no such address.
	if o, err := net.Listen("tcp", ln.Addr().String()); err == nil {
		o.Close()
		t.Error("the lab's address exists outside")
	}
	if after := interfaces(t); !slices.Equal(before, after) {
		t.Errorf("the machine's interfaces changed:\n%s\n%s", before, after)
	}
}

// Labs are separate from each other, and Do nests and runs in parallel.
func TestLabDo(t *testing.T) {
	a, b := newLab(t), newLab(t)
	inode := func() uint64 {
		var st unix.Stat_t
		if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
			t.Error(err)
		}
		return st.Ino
	}
	home := inode()
	var inA, inB, inner, again uint64
	a.Do(func() {
		inA = inode()
		b.Do(func() { inner = inode() })
		again = inode()
	})
	b.Do(func() { inB = inode() })
	if inA == home || inB == home || inA == inB || inner != inB || again != inA || inode() != home {
		t.Errorf("namespaces: home %d, a %d then %d, b %d and %d", home, inA, again, inB, inner)
	}
	done := make(chan uint64)
	for range 20 {
		go func() { a.Do(func() { done <- inode() }) }()
	}
	for range 20 {
		if n := <-done; n != inA {
			t.Errorf("in %d, want %d", n, inA)
		}
	}
}

func TestLabCommands(t *testing.T) {
	l := newLab(t)
	t.Setenv(envHelper, "1")
	out, err := l.Output(t.Context(), "/proc/self/exe", "show")
	if err != nil || !strings.Contains(string(out), "br0 true") {
		t.Errorf("%v: %s", err, out)
	}
	sh(t)
	cmd := exec.Command("sh", "-c", "while :; do sleep 0.02; done")
	if err := l.Start(cmd); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("ended with %v", err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if err := l.Start(exec.Command("sh")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Start after Close: %v", err)
	}
}

// rxPackets is what eth7 has got from the bridge.
func rxPackets(t *testing.T, l *Lab) (n uint64) {
	t.Helper()
	l.Do(func() {
		link, err := netlink.LinkByName(l.Devices[0])
		if err != nil {
			t.Fatal(err)
		}
		n = link.Attrs().Statistics.RxPackets
	})
	return n
}

func TestLabLoss(t *testing.T) {
	RequireProgram(t, "nft")
	l := newLab(t)
	l.Do(func() {
		br, err := netlink.LinkByName(Bridge)
		if err != nil {
			t.Fatal(err)
		}
		n := &netlink.Neigh{LinkIndex: br.Attrs().Index, State: netlink.NUD_PERMANENT, IP: l.Addrs(0)[0].Addr().AsSlice(), HardwareAddr: HostMAC(0)}
		if err := netlink.NeighAdd(n); err != nil {
			t.Fatal(err)
		}
	})
	c, err := l.DialKernel(t.Context(), "udp4", "10.77.0.7:9")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, step := range []struct {
		permille int
		least    uint64
		most     uint64
	}{{1000, 0, 0}, {500, 100, 300}, {0, 400, 410}} {
		if err := l.Loss(l.Ports[0], step.permille); err != nil {
			t.Fatal(err)
		}
		before := rxPackets(t, l)
		for range 400 {
			// A lost datagram may be reported as an error; that is no matter.
			_, _ = c.Write([]byte("x"))
		}
		if n := rxPackets(t, l) - before; n < step.least || n > step.most {
			t.Errorf("loss of %d per mille: %d of 400 arrived", step.permille, n)
		}
	}
}

// recorder is a TB that notes how a test would have ended.
type recorder struct {
	testing.TB
	end string
}

func (r *recorder) Helper()                   {}
func (r *recorder) Skipf(f string, a ...any)  { r.end = "skip " + fmt.Sprintf(f, a...) }
func (r *recorder) Fatalf(f string, a ...any) { r.end = "fatal " + fmt.Sprintf(f, a...) }

func TestMissing(t *testing.T) {
	for value, want := range map[string]string{"": "skip no", "1": "fatal no (and TAPSTACK_REQUIRE_TAP=1)"} {
		t.Setenv(EnvRequire, value)
		r := new(recorder)
		missing(r, errors.New("no"))
		if r.end != want {
			t.Errorf("%q: %q", value, r.end)
		}
	}
}

func TestExplain(t *testing.T) {
	if err := explain(unix.EPERM); !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "; ") {
		t.Errorf("%v says nothing of a cure", err)
	}
	if err := explain(unix.ENOENT); err != error(unix.ENOENT) {
		t.Errorf("%v", err)
	}
}

func TestAddrs(t *testing.T) {
	l := &Layout{IPv6: true}
	for i, want := range map[int]string{0: "[10.77.0.7/24 fd77::7/64]", 3: "[10.77.0.10/24 fd77::10/64]", 99: "[10.77.0.106/24 fd77::106/64]"} {
		if got := fmt.Sprint(l.Addrs(i)); got != want {
			t.Errorf("host %d: %s, want %s", i, got, want)
		}
	}
}
