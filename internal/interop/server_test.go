package interop

// This file is what tests of servers of other people's share: how such a
// server is run in the lab, and how its clients come to it through the stack.

import (
	"context"
	"errors"
	"fmt"
	"io"

	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/socket"
)

// nobody is the ordinary user that servers run as, if there is such a user
// here: whoever is root by virtue of a user namespace is alone in it, and is an
// ordinary user outside.
const nobody = 65534

// ordinary reports whether nobody is there.
func ordinary() bool {
	b, _ := os.ReadFile("/proc/self/uid_map")
	var in, out, n int
	_, err := fmt.Sscan(string(b), &in, &out, &n)
	return err == nil && os.Geteuid() == 0 && n > nobody
}

// userDir is a temporary directory of nobody's.
func userDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if ordinary() {
		if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chown(dir, nobody, nobody)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// write makes a file of a directory.
func write(t *testing.T, dir, name string, r io.Reader) string {
	t.Helper()
	path := filepath.Join(dir, name)
	f, err := os.Create(path)
	if err == nil {
		_, err = io.Copy(f, r)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// runServer runs a server in the lab, as nobody where that is possible, until the
// test is over; it returns when the server can be connected to at address.
func runServer(t *testing.T, l *lab.Lab, address string, argv ...string) {
	t.Helper()
	c := exec.Command(program(t, argv[0]), argv[1:]...)
	if ordinary() {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	startServer(t, l, address, c)
}

// startServer is runServer for a command that chooses its user by itself.
func startServer(t *testing.T, l *lab.Lab, address string, c *exec.Cmd) {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "output"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if c.Stdout = out; c.Stderr == nil {
		c.Stderr = out
	}
	if err := l.Start(c); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	said := func() string {
		b, _ := os.ReadFile(out.Name())
		return string(b[max(0, len(b)-4096):])
	}
	t.Cleanup(func() {
		// An error means that it has ended already.
		_ = c.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(patience):
			_ = c.Process.Kill()
			t.Errorf("%s does not end: %v", c.Args[0], <-ended)
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", c.Args[0], said())
		}
	})
	eventually(t, patience, "a connection to "+address, func() bool {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("%s: %v\n%s", strings.Join(c.Args, " "), err, said())
		default:
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		conn, err := l.DialKernel(ctx, "tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// proxy listens on a port of the stack and connects whoever comes, through the
// stack again, to a server of the kernel host's: their bytes pass both of the
// stack's sides. It ends with the test.
func (h *host) proxy(t *testing.T, port uint16, to string) {
	t.Helper()
	l, err := h.net.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				s, err := h.net.DialContext(ctx, "tcp", to)
				if err != nil {
					t.Errorf("proxy: %v", err)
					c.Close()
					return
				}
				splice(c.(*socket.Conn), s.(*socket.Conn))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
}

// splice copies both ways until both have ended, and passes on the end of each.
func splice(a, b *socket.Conn) {
	var wg sync.WaitGroup
	one := func(to, from *socket.Conn) {
		if _, err := io.Copy(to, from); err != nil {
			// One that was reset or hung up takes the other with it.
			to.Close()
			from.Close()
			return
		}
		to.CloseWrite()
	}
	wg.Go(func() { one(a, b) })
	wg.Go(func() { one(b, a) })
	wg.Wait()
	a.Close()
	b.Close()
}

// hangingUp are the drops of programs that close what the other side still
// writes to.
func (h *host) hangingUp(what string) {
	h.expect(what, "tcp.drop.no-connection", "tcp.drop.closed", "tcp.drop.out-of-window")
}
