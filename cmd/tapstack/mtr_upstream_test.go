package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

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

// TestMTRPython runs the tests and the examples of the Python package mtrpacket.
func TestMTRPython(t *testing.T) {
	t.Parallel()
	dir := tree(t, envMTRPython, "mtrpacket/__init__.py", "test/test.py", "examples/trace-concurrent.py")
	lab.InNamespace(t, func(l *lab.Lab) {
		if !l.IPv6 {
			lab.Lacks(t, errNoIPv6)
		}
		labelledLine().lay(t, l)
		// Its mock wants an nc that ends when it has nothing more to read.
		bin := t.TempDir()
		if err := os.WriteFile(filepath.Join(bin, "nc"), []byte("#!/bin/sh\nexec /bin/nc -N \"$@\"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		env := append(packetProgram(t, l), "PYTHONPATH="+dir, "PATH="+bin+":"+os.Getenv("PATH"), "TERM=vt100", "PYTHONDONTWRITEBYTECODE=1")
		for _, c := range []struct {
			dir, want string
			argv      []string
		}{
			{"test", `Ran 4 tests in .*\s+OK\s*$`, []string{"test.py"}},
			{"examples", `^reply from 8\.8\.8\.8 in \d+\.\d+ ms\n$`, []string{"ping.py", far4}},
			{"examples", `^reply from 2001:4860:4860::8888 in \d+\.\d+ ms\n$`, []string{"ping.py", far6}},
			{"examples", `^Can't resolve host 'nosuch\.invalid'\n$`, []string{"ping.py", "nosuch.invalid"}},
			{"examples", `^\s*1\. .*10\.77\.0\.1.*\n\s*2\. .*10\.8[12]\.0\.2.*\n\s*3\. .*8\.8\.8\.8.*\n`, []string{"trace-sequential.py", far4}},
			// The two of its description.
			{"", `^ProbeResult\(success=True, result='reply', time_ms=[\d.]+, responder='(127\.0\.0\.1|::1)', mpls=\[\]\)\n$`, []string{"-c", `
import asyncio
import mtrpacket

async def probe():
    async with mtrpacket.MtrPacket() as mtr:
        return await mtr.probe('localhost')

loop = asyncio.new_event_loop()
print(loop.run_until_complete(probe()))`}},
			{"", `^True False\nProbeResult\(success=False, result='ttl-expired', time_ms=[\d.]+, responder='10\.8[12]\.0\.2', mpls=\[Mpls\(label=100, traffic_class=5, bottom_of_stack=False, ttl=7\), Mpls\(label=4097, traffic_class=1, bottom_of_stack=True, ttl=254\)\]\)\n` +
				`ProbeResult\(success=True, result='reply', time_ms=[\d.]+, responder='8\.8\.8\.8', mpls=\[\]\)\n` +
				`ProbeResult\(success=False, result='no-reply', time_ms=None, responder=None, mpls=\[\]\)\n$`, []string{"-c", `
import asyncio
import mtrpacket

async def probe():
    async with mtrpacket.MtrPacket() as mtr:
        print(await mtr.check_support('sctp'), await mtr.check_support('nosuch'))
        for host, args in (('far.example', dict(ip_version=4, ttl=2, protocol='tcp', port=443)),
                ('far.example', dict(ip_version=4, protocol='udp', port=9, local_port=2000, size=100, bit_pattern=7, tos=8, local_ip='10.77.0.1')),
                ('` + farNobody + `', dict(timeout=1))):
            print(await mtr.probe(host, **args))

asyncio.new_event_loop().run_until_complete(probe())`}},
		} {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			cmd := names(t, ctx, append([]string{"python3", "-W", "ignore"}, c.argv...)...)
			cmd.Dir, cmd.Env = filepath.Join(dir, c.dir), env
			out, err := runGroup(t, l, cmd)
			cancel()
			if err != nil || !regexp.MustCompile(c.want).MatchString(out) {
				t.Errorf("%s %s: %v\n%s", c.dir, c.argv, err, out)
			}
		}
		// The third example draws on a terminal, and ends with a key.
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		cmd := names(t, ctx, "python3", "-W", "ignore", "trace-concurrent.py", far4)
		cmd.Dir, cmd.Env = filepath.Join(dir, "examples"), env
		var screen *os.File
		var err error
		l.Do(func() { screen, err = pty.StartWithSize(cmd, &pty.Winsize{Rows: 40, Cols: 120}) })
		if err != nil {
			t.Fatal(err)
		}
		defer screen.Close()
		whole := regexp.MustCompile(`(?s)1\. .*10\.77\.0\.1.*2\. .*10\.8[12]\.0\.2.*3\. .*8\.8\.8\.8.*\d\.\d\d\dms`)
		var seen []byte
		for b := make([]byte, 4096); !whole.Match(seen); {
			n, err := screen.Read(b)
			if seen = append(seen, b[:n]...); err != nil {
				t.Fatalf("%v\n%q", err, seen)
			}
		}
		if _, err := screen.Write([]byte(" ")); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, screen) }() // until it is closed
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
}
