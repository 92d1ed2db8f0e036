package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/lab"
)

// Other people's tests, in directories that these variables name; they are not
// part of this project.
const (
	// envMTR is a source tree of mtr, in which mtr and mtr-packet-listen are
	// built.
	envMTR = "TAPSTACK_TEST_MTR"
	// envMTRPython is a source tree of the Python package mtrpacket.
	envMTRPython = "TAPSTACK_TEST_MTRPACKET"
)

// tree returns the directory that a variable names.
func tree(t *testing.T, env string, files ...string) string {
	t.Helper()
	dir := os.Getenv(env)
	if dir == "" {
		t.Skip(env + " names no source tree; what came of it is in docs/probes.md")
	}
	for _, f := range files {
		if _, err := os.Stat(filepath.Join(dir, f)); err != nil {
			t.Fatalf("%s: %v", env, err)
		}
	}
	return dir
}

// runGroup runs a program to its end, with all that it starts, and returns what
// they wrote.
func runGroup(t *testing.T, l *lab.Lab, c *exec.Cmd) (out string, err error) {
	t.Helper()
	var b bytes.Buffer
	c.Stdout, c.Stderr = &b, &b
	c.WaitDelay = time.Second // what it leaves behind may hold the pipe
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := l.Start(c); err != nil {
		t.Fatal(err)
	}
	err = c.Wait()
	_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // an error means that nobody is left
	return b.String(), err
}

// TestMTRUpstream runs mtr's own tests, with the far host 10 ms away: one of
// them wants the answers of this host to overtake those of that.
func TestMTRUpstream(t *testing.T) {
	dir := tree(t, envMTR, "mtr", "mtr-packet-listen", "test/probe.py")
	lab.InNamespace(t, func(l *lab.Lab) {
		if !l.IPv6 {
			lab.Lacks(t, errNoIPv6)
		}
		(&line{delay: 5 * time.Millisecond}).lay(t, l)
		localnet(t, l)
		env := packetProgram(t, l)
		for _, c := range []struct {
			file string
			n    string
			env  string
		}{
			// 6 of them up to release 0.96, 13 of mtr itself since.
			{"cmdparse.py", "(?:6|19)", ""},
			{"probe.py", "14", ""},
			// It listens with a raw socket of the kernel's for packets to its
			// loopback addresses.
			{"param.py", "4", "TAPSTACK_LOOPBACK=host"},
		} {
			t.Run(c.file, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
				defer cancel()
				cmd := names(t, ctx, "python3", "test/"+c.file, "-v")
				cmd.Dir, cmd.Env = dir, append(env, c.env)
				out, err := runGroup(t, l, cmd)
				if err != nil || !regexp.MustCompile(`\nRan `+c.n+` tests in .*\s+OK\s*$`).MatchString(out) {
					t.Errorf("%v\n%s", err, out)
				}
				t.Log(strings.Join(regexp.MustCompile(`(?m)^Ran .*|^OK.*|^FAILED.*`).FindAllString(out, -1), ": "))
			})
		}
	})
}
