// Package examples_test runs the programs of this directory as a reader would:
// each is built and started in a private lab, and talked to from the Linux
// kernel's side by Debian's programs or by package net. This file is the frame;
// the tests of each program are in the other files.
package examples_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/lab"
)

// binaries is where the programs are built, once for all tests.
var binaries string

func TestMain(m *testing.M) { lab.Main(cleaned{m}) }

type cleaned struct{ m *testing.M }

func (c cleaned) Run() int {
	defer func() {
		if binaries != "" {
			os.RemoveAll(binaries)
		}
	}()
	return c.m.Run()
}

var build = sync.OnceValue(func() (err error) {
	if binaries, err = os.MkdirTemp("", "tapstack-examples-"); err != nil {
		return err
	}
	if out, err := exec.Command("go", "build", "-o", binaries+"/", "./...").CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
})

// patience is how long anything that takes milliseconds may take on a machine
// that does much else.
const patience = 30 * time.Second

// within is a context that ends with the test and after patience.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until cond is true; what says what was waited for.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// newLab makes a network for so many stacks.
func newLab(t *testing.T, hosts int) *lab.Lab {
	t.Helper()
	lab.Require(t)
	l, err := lab.NewWith(lab.Options{Hosts: hosts})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if !l.IPv6 {
		if os.Getenv(lab.EnvRequire) == "1" {
			t.Fatalf("%s (and %s=1)", l.Note, lab.EnvRequire)
		}
		t.Skip(l.Note)
	}
	return l
}

// program is one that runs.
type program struct {
	t    *testing.T
	cmd  *exec.Cmd
	in   io.WriteCloser
	done chan struct{}
	err  error // of Wait, once done is closed

	mu  sync.Mutex
	out bytes.Buffer // what it has printed, to both of its streams
}

func (p *program) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *program) printed() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// spawn starts any program in the lab.
func spawn(t *testing.T, l *lab.Lab, argv ...string) *program {
	t.Helper()
	p := &program{t: t, cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := l.Start(p.cmd); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		p.err = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s:\n%s", strings.Join(argv, " "), p.printed())
		}
		_ = p.cmd.Process.Kill() // it may have ended
		<-p.done
	})
	return p
}

// start starts one of the examples on the lab's stack number i, and waits until
// its addresses may be used. With the test it is asked to end, which it has to
// do without complaint.
func start(t *testing.T, l *lab.Lab, i int, name string, flags ...string) *program {
	t.Helper()
	p := spawn(t, l, command(t, l, i, name, flags...)...)
	p.waitFor("ready interface=")
	t.Cleanup(p.stop)
	return p
}

func command(t *testing.T, l *lab.Lab, i int, name string, flags ...string) []string {
	t.Helper()
	if err := build(); err != nil {
		t.Fatal(err)
	}
	kind := "tap:"
	if l.Packet {
		kind = "packet:"
	}
	argv := []string{filepath.Join(binaries, name), "--dev", kind + l.Devices[i], "--dad=false"}
	for _, a := range l.Addrs(i) {
		argv = append(argv, "--ip", a.String())
	}
	return append(argv, flags...)
}

// waitFor waits until the program has printed text, and returns the rest of
// that line.
func (p *program) waitFor(text string) (rest string) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("%q from %s", text, filepath.Base(p.cmd.Path)), func() bool {
		_, after, ok := strings.Cut(p.printed(), text)
		line, _, whole := strings.Cut(after, "\n")
		rest = line
		if !ok || !whole {
			select {
			case <-p.done:
				p.t.Fatalf("it has ended: %v\n%s", p.err, p.printed())
			default:
			}
		}
		return ok && whole
	})
	return rest
}

// stop sends SIGTERM and wants status 0.
func (p *program) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		if p.err != nil {
			p.t.Errorf("%s: %v", filepath.Base(p.cmd.Path), p.err)
		}
	case <-time.After(patience):
		p.t.Errorf("%s does not end", filepath.Base(p.cmd.Path))
	}
}

// run runs a program in the lab to its end.
func run(t *testing.T, l *lab.Lab, argv ...string) (string, error) {
	t.Helper()
	lab.RequireProgram(t, argv[0])
	out, err := l.Output(within(t), argv[0], argv[1:]...)
	return string(out), err
}

// must is run for a program that has to succeed.
func must(t *testing.T, l *lab.Lab, argv ...string) string {
	t.Helper()
	out, err := run(t, l, argv...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return out
}

// status is the exit status that an error of run tells.
func status(err error) int {
	var e *exec.ExitError
	if errors.As(err, &e) {
		return e.ExitCode()
	}
	return 0
}

// dial connects from the kernel's side, again while nobody listens yet.
func dial(t *testing.T, l *lab.Lab, address string) *net.TCPConn {
	t.Helper()
	var c net.Conn
	eventually(t, "a connection to "+address, func() (ok bool) {
		var err error
		c, err = l.DialKernel(within(t), "tcp", address)
		return err == nil
	})
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// listen serves connections on the kernel's side until the test ends.
func listen(t *testing.T, l *lab.Lab, address string, serve func(*net.TCPConn)) net.Addr {
	t.Helper()
	ln, err := l.ListenKernel("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() {
		ln.Close()
		all.Wait()
	})
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(patience)) // fails only on a closed connection
				serve(c.(*net.TCPConn))
			})
		}
	})
	return ln.Addr()
}

// pattern is n bytes that are wrong when anything is missing or moved.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}
