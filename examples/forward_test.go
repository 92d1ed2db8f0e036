package examples_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/lab"
)

// hand is a listener on the kernel's side that hands its connections to the
// test.
type hand struct {
	t  *testing.T
	ln *net.TCPListener
}

func newHand(t *testing.T, l *lab.Lab, address string) hand {
	t.Helper()
	ln, err := l.ListenKernel("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return hand{t, ln.(*net.TCPListener)}
}

// accept wants a connection that comes from there.
func (h hand) accept(from string) *net.TCPConn {
	h.t.Helper()
	deadline := time.Now().Add(patience)
	if err := h.ln.SetDeadline(deadline); err != nil {
		h.t.Fatal(err)
	}
	c, err := h.ln.AcceptTCP()
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	if host, _, _ := net.SplitHostPort(c.RemoteAddr().String()); host != from {
		h.t.Errorf("the connection comes from %v and not from %s", host, from)
	}
	if err := c.SetDeadline(deadline); err != nil {
		h.t.Fatal(err)
	}
	return c
}

// halves tries both halves of a way: the client says all and then hears the
// answer, and the server says all and then hears what the client still says.
func (h hand) halves(t *testing.T, from string, dial func() *net.TCPConn) {
	t.Helper()
	data := pattern(3e6)
	for _, clientFirst := range []bool{true, false} {
		client := dial()
		server := h.accept(from)
		first, second := client, server
		if !clientFirst {
			first, second = server, client
		}
		var sending sync.WaitGroup
		for _, leg := range []struct{ from, to *net.TCPConn }{{first, second}, {second, first}} {
			sending.Go(func() {
				if _, err := leg.from.Write(data); err != nil {
					t.Errorf("client first %v: %v", clientFirst, err)
				}
				if err := leg.from.CloseWrite(); err != nil {
					t.Error(err)
				}
			})
			got, err := io.ReadAll(leg.to)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("client first %v: %d bytes of %d, %v", clientFirst, len(got), len(data), err)
			}
			sending.Wait()
		}
		client.Close()
		server.Close()
	}
}

func port(a net.Addr) string { return strconv.Itoa(a.(*net.TCPAddr).Port) }

func TestPortForward(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	four, six, back := newHand(t, l, "10.77.0.1:0"), newHand(t, l, "[fd77::1]:0"), newHand(t, l, "127.0.0.1:0")
	p := start(t, l, 0, "port-forward",
		"-L", "8001:10.77.0.1:"+port(four.ln.Addr()),
		"-L", "[::1]:8002:[fd77::1]:"+port(six.ln.Addr()),
		"-L", "8003:10.77.0.1:1", // nobody listens
		"-R", "9001:127.0.0.1:"+port(back.ln.Addr()),
		"-R", "10.77.0.7:9002:127.0.0.1:1")
	p.waitFor("9002 goes to")
	for _, c := range []struct {
		name, address, comesFrom string
		hand                     hand
	}{
		{"L", "127.0.0.1:8001", "10.77.0.7", four},
		{"L IPv6", "[::1]:8002", "fd77::7", six},
		{"R", "10.77.0.7:9001", "127.0.0.1", back},
		{"R IPv6", "[fd77::7]:9001", "127.0.0.1", back},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.hand.halves(t, c.comesFrom, func() *net.TCPConn { return dial(t, l, c.address) })
		})
	}
	for _, address := range []string{"127.0.0.1:8003", "10.77.0.7:9002"} {
		t.Run("nobody behind "+address, func(t *testing.T) {
			b, err := io.ReadAll(dial(t, l, address))
			if !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%q, %v", b, err)
			}
		})
	}
	// A reset is passed on as one.
	t.Run("reset", func(t *testing.T) {
		client := dial(t, l, "127.0.0.1:8001")
		server := four.accept("10.77.0.7")
		if err := server.SetLinger(0); err != nil {
			t.Fatal(err)
		}
		server.Close()
		if b, err := io.ReadAll(client); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%q, %v", b, err)
		}
	})
}

// TestPortForwardMany: many connections at a time, each with its own bytes.
func TestPortForwardMany(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	echo := listen(t, l, "10.77.0.1:0", func(c *net.TCPConn) {
		if b, err := io.ReadAll(c); err == nil {
			fmt.Fprintf(c, "%x", sha256.Sum256(b))
		}
	})
	p := start(t, l, 0, "port-forward", "-L", "8001:10.77.0.1:"+port(echo), "--limit", "20")
	p.waitFor("goes to")
	var clients sync.WaitGroup
	for i := range 50 {
		clients.Go(func() {
			data := bytes.Repeat([]byte{byte(i)}, 1e5+i)
			c := dial(t, l, "127.0.0.1:8001")
			defer c.Close()
			if _, err := c.Write(data); err != nil {
				t.Error(err)
			}
			if err := c.CloseWrite(); err != nil {
				t.Error(err)
			}
			sum, err := io.ReadAll(c)
			if want := fmt.Sprintf("%x", sha256.Sum256(data)); err != nil || string(sum) != want {
				t.Errorf("%d: %q, %v", i, sum, err)
			}
		})
	}
	clients.Wait()
}

// TestWrongUse: what is wrong is said in one line, with status 2; what fails,
// with status 1.
func TestWrongUse(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	listen(t, l, "127.0.0.1:1080", func(*net.TCPConn) {})
	for _, c := range []struct {
		status int
		says   string
		argv   []string
	}{
		{2, "give -L or -R", []string{"port-forward"}},
		{2, "not a port", []string{"port-forward", "-L", "x:10.77.0.1:80"}},
		{2, "it has 2 parts", []string{"port-forward", "-R", "80:10.77.0.1"}},
		{2, "NAME:PASSWORD", []string{"socks5", "--user", "x"}},
		{2, "SHA-256", []string{"tls-client", "--fingerprint", "abc", "10.77.0.1:1"}},
		{2, "1 arguments instead of 0", []string{"chat", "x"}},
		{1, "address already in use", []string{"socks5"}},
		{1, "no such file", []string{"http-server", "--dir", "/nowhere/at/all"}},
		{1, "connection refused", []string{"tls-client", "--fingerprint", strings.Repeat("00", 32), "10.77.0.1:1"}},
	} {
		out, err := run(t, l, command(t, l, 0, c.argv[0], c.argv[1:]...)...)
		_, complaint, _ := strings.Cut(out, "ready ")
		if complaint == "" {
			complaint = "\n" + out
		}
		_, complaint, _ = strings.Cut(complaint, "\n")
		if status(err) != c.status || strings.Count(complaint, "\n") != 1 || !strings.Contains(complaint, c.says) ||
			!strings.HasPrefix(complaint, c.argv[0]+": ") {
			t.Errorf("%v: status %d, %q", c.argv, status(err), complaint)
		}
	}
}

// TestNeedsStack: a program that is about the stack does not run without one.
func TestNeedsStack(t *testing.T) {
	t.Parallel()
	if err := build(); err != nil {
		t.Fatal(err)
	}
	for _, argv := range [][]string{{"raw-ping", "10.77.0.1"}, {"packet-sniffer"}, {"discover"}, {"run-stack"}} {
		c := exec.CommandContext(within(t), filepath.Join(binaries, argv[0]), append([]string{"--net", "host"}, argv[1:]...)...)
		out, err := c.CombinedOutput()
		if status(err) != 2 || !strings.Contains(string(out), "needs one") || strings.Contains(string(out), "goroutine") {
			t.Errorf("%v: status %d, %q", argv, status(err), out)
		}
	}
}
