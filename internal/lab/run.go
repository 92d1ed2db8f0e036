package lab

// This file is the outer half of Run: it starts this program once more inside
// new namespaces (stage.go is what happens there), passes signals on and
// brings the exit status back.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// grace is how long the command may take to end after SIGTERM.
const grace = 5 * time.Second

// Run builds a lab, runs argv in it, takes it down and returns the command's
// exit status: 128+n when signal n ended it, 127 or 126 when it could not be
// started, as a shell would have it. err is set only when there is no lab.
//
// The program's main has to call Init first. Run forwards SIGINT, SIGTERM,
// SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 itself, so ctx should not end on them;
// when ctx ends the command gets SIGTERM and, 5 seconds later, SIGKILL.
//
// The command finds TAPSTACK_LAB=1, TAPSTACK_TAP=tap7 (or, without TAPs,
// TAPSTACK_DEV=packet:eth7), TAPSTACK_IP and TAPSTACK_GW in its environment.
func Run(ctx context.Context, o Options, argv []string) (status int, err error) {
	o, err = o.check()
	if err != nil {
		return 1, err
	}
	if len(argv) == 0 {
		return 1, errors.New("lab: no command")
	}
	config, err := json.Marshal(o)
	if err != nil {
		return 1, fmt.Errorf("lab: %w", err)
	}
	report, w, err := os.Pipe()
	if err != nil {
		return 1, fmt.Errorf("lab: %w", err)
	}
	defer report.Close()
	defer w.Close()
	cmd := func() *exec.Cmd {
		c := self(ctx, argv, envStage+"=1", envConfig+"="+string(config))
		c.ExtraFiles = []*os.File{w}
		if o.Stdin != nil {
			c.Stdin = o.Stdin
		}
		if o.Stdout != nil {
			c.Stdout = o.Stdout
		}
		if o.Stderr != nil {
			c.Stderr = o.Stderr
		}
		return c
	}
	status, err = runIn(cmd)
	if err != nil {
		return 1, err
	}
	w.Close()
	trouble, _ := io.ReadAll(report)
	if len(trouble) > 0 {
		return 1, errors.New(string(trouble))
	}
	return status, nil
}

// runTests runs this test binary once more, with a user namespace around it.
func runTests() (status int, err error) {
	return runIn(func() *exec.Cmd {
		return self(context.Background(), os.Args[1:], envInner+"=1")
	})
}

// self is this program with other arguments and more environment.
func self(ctx context.Context, args []string, env ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, "/proc/self/exe", args...)
	c.Args[0] = os.Args[0]
	c.Env = append(os.Environ(), env...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay = grace + 2*time.Second
	return c
}

// runIn starts the command that mk returns in new namespaces and waits for it.
func runIn(mk func() *exec.Cmd) (status int, err error) {
	// Pdeathsig is tied to the thread that forks.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	signals := catch()
	defer signal.Stop(signals)

	cmd, err := startIn(mk)
	if err != nil {
		return 0, fmt.Errorf("lab: make namespaces: %w", explain(err))
	}
	stop := relay(signals, cmd.Process)
	err = cmd.Wait()
	stop()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, context.Canceled) &&
		!errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, exec.ErrWaitDelay) {
		return 0, fmt.Errorf("lab: %w", err)
	}
	return exitStatus(cmd.ProcessState), nil
}

// startIn asks for a network namespace alone, which only root gets, and else
// for a user namespace around it, in which the caller appears as root.
func startIn(mk func() *exec.Cmd) (*exec.Cmd, error) {
	if os.Geteuid() == 0 {
		cmd := mk()
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGTERM}
		err := cmd.Start()
		if !errors.Is(err, unix.EPERM) {
			return cmd, err
		}
	}
	cmd := mk()
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
		Pdeathsig:   syscall.SIGTERM,
	}
	err := cmd.Start()
	if errors.Is(err, unix.EINVAL) {
		err = fmt.Errorf("this kernel has no user namespaces, run as root: %w", err)
	}
	return cmd, err
}

func exitStatus(s *os.ProcessState) int {
	if ws, ok := s.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return s.ExitCode()
}

func catch() chan os.Signal {
	c := make(chan os.Signal, 16)
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	return c
}

// relay forwards signals to a process until the returned function is called.
func relay(signals chan os.Signal, to *os.Process) (stop func()) {
	done, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		for {
			select {
			case s := <-signals:
				if (s == syscall.SIGINT || s == syscall.SIGQUIT) && foreground() {
					continue
				}
				// An error means that the process has ended already.
				_ = to.Signal(s)
			case <-done:
				return
			}
		}
	}()
	return func() { close(done); <-gone }
}

// foreground: this process group is the one its terminal talks to. Then ^C and
// ^\ have reached the command already, which is in the same group, and
// forwarding would send them twice.
func foreground() bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDONLY, 0)
	if err != nil {
		return false
	}
	defer tty.Close()
	pgrp, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && pgrp == unix.Getpgrp()
}
