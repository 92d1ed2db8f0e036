package lab

// This file decides whether a machine can have a lab, says why not in words a
// user can act on, and gives tests their way in.

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// TB is the part of testing.TB that this package needs; taking an interface
// keeps package testing out of programs.
type TB interface {
	Helper()
	Skipf(format string, args ...any)
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
	Cleanup(func())
}

// RequireNamespace skips the test, saying why, where network namespaces cannot
// be made. With TAPSTACK_REQUIRE_TAP=1 it fails instead.
func RequireNamespace(t TB) {
	t.Helper()
	if err := namespaces(); err != nil {
		missing(t, err)
	}
}

// Require is RequireNamespace, and wants a TAP too.
func Require(t TB) {
	t.Helper()
	RequireNamespace(t)
	if err := tun(); err != nil {
		missing(t, err)
	}
}

// RequireProgram returns the path of a program that a test needs; without it
// the test skips or fails as with Require.
func RequireProgram(t TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, fmt.Errorf("the program %s is not installed", name))
	}
	return path
}

// Lacks skips a test that the machine cannot run, saying what it lacks; or it
// fails, as with Require.
func Lacks(t TB, err error) {
	t.Helper()
	missing(t, err)
}

func missing(t TB, err error) {
	t.Helper()
	if os.Getenv(EnvRequire) == "1" {
		t.Fatalf("%v (and %s=1)", err, EnvRequire)
		return
	}
	t.Skipf("%v", err)
}

// InNamespace runs f with a lab of one TAP host, which ends with the test; it
// skips or fails as Require does. f runs on the test's goroutine, outside the
// lab's network: use the methods of l to get in.
func InNamespace(t TB, f func(l *Lab)) {
	t.Helper()
	Require(t)
	l, err := New()
	if err != nil {
		t.Fatalf("%v", err)
	}
	if l.Note != "" {
		t.Logf("lab: %s", l.Note)
	}
	t.Cleanup(func() { l.Close() })
	f(l)
}

var namespaces = sync.OnceValue(func() error {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("lab: %w", err)
	}
	defer leave(home)
	ns, err := netns.New()
	if err != nil {
		return fmt.Errorf("lab: make a network namespace: %w", explain(err))
	}
	return ns.Close()
})

var tun = sync.OnceValue(func() error {
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("lab: no TAP: %w", err)
	}
	return f.Close()
})

// Main is the body of a TestMain whose tests use labs: it serves the lab's own
// stage, and where the caller may not make network namespaces it runs the
// whole test binary in a user namespace in which it may.
func Main(m interface{ Run() int }) {
	Init()
	if os.Getenv(envInner) == "" && !fuzzing() && namespaces() != nil {
		if status, err := runTests(); err == nil {
			os.Exit(status)
		}
	}
	os.Exit(m.Run())
}

// fuzzing: go test talks to fuzz workers over inherited descriptors, which a
// second exec would lose.
func fuzzing() bool {
	for _, a := range os.Args[1:] {
		if strings.HasPrefix(a, "-test.fuzz") {
			return true
		}
	}
	return false
}

// explain adds to the refusal of a namespace what the user can do about it.
func explain(err error) error {
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.ENOSPC) {
		return err
	}
	var cure string
	switch {
	case sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1":
		cure = "AppArmor forbids user namespaces: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or run as root"
	case sysctl("kernel/unprivileged_userns_clone") == "0":
		cure = "user namespaces are switched off: sysctl -w kernel.unprivileged_userns_clone=1, or run as root"
	case sysctl("user/max_user_namespaces") == "0":
		cure = "user namespaces are switched off: sysctl -w user.max_user_namespaces=10000, or run as root"
	case sysctl("user/max_net_namespaces") == "0":
		cure = "network namespaces are switched off: sysctl -w user.max_net_namespaces=10000"
	case os.Geteuid() == 0:
		cure = "this container may not make namespaces: give it CAP_SYS_ADMIN and CAP_NET_ADMIN, or a seccomp profile that allows clone"
	default:
		cure = "run as root, or allow user namespaces"
	}
	return fmt.Errorf("%w; %s", err, cure)
}

// sysctl returns "" for a setting this kernel does not have.
func sysctl(name string) string {
	b, _ := os.ReadFile("/proc/sys/" + name)
	return strings.TrimSpace(string(b))
}
