package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/lab"
)

// cat is a netcat that runs, ours or Debian's.
type cat struct {
	*exec.Cmd
	t        *testing.T
	out, err *lines
	in       io.WriteCloser // open until it is closed; nil: there was a reader
}

// lines is what a process has written so far.
type lines struct {
	mu   sync.Mutex
	b    bytes.Buffer
	more chan struct{}
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// wait waits until there is a text.
func (l *lines) wait(t *testing.T, text string) {
	t.Helper()
	end := time.After(patience)
	for !strings.Contains(l.String(), text) {
		select {
		case <-l.more:
		case <-end:
			t.Fatalf("no %q in %q", text, l.String())
		}
	}
}

// run starts a command; its input is a reader, or open if that is nil.
func runCat(t *testing.T, l *lab.Lab, c *exec.Cmd, in io.Reader) *cat {
	t.Helper()
	x := &cat{Cmd: c, t: t, out: &lines{more: make(chan struct{}, 1)}, err: &lines{more: make(chan struct{}, 1)}}
	c.Stdout, c.Stderr = x.out, x.err
	if c.Stdin = in; in == nil {
		var err error
		if x.in, err = c.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { x.in.Close() })
	}
	if err := l.Start(c); err != nil {
		t.Fatal(err)
	}
	return x
}

// ends waits for its end and returns what it wrote.
func (x *cat) ends(status int) string {
	x.t.Helper()
	if got := outcome(x.t, x.Wait()); got != status {
		x.t.Errorf("%q: status %d, want %d: %s", x.Args, got, status, x.err)
	}
	return x.out.String()
}

// cats are the two netcats of a lab: ours by one network or the other, and
// Debian's.
type cats struct {
	t    *testing.T
	l    *lab.Lab
	host bool // ours is on the host's sockets
}

func (c *cats) ours(in io.Reader, args string) *cat {
	c.t.Helper()
	env := attached(c.l, lab.EnvIP+"=10.77.0.7/24,fd77::7/64", "TAPSTACK_DAD=false")
	if c.host {
		env = []string{"TAPSTACK_NET=host"}
	}
	return runCat(c.t, c.l, tapstack(c.t, env, append([]string{"nc"}, strings.Fields(args)...)...), in)
}

func (c *cats) theirs(in io.Reader, args string) *cat {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	c.t.Cleanup(cancel)
	x := exec.CommandContext(ctx, "nc.openbsd", strings.Fields(args)...)
	x.Args[0] = "nc"
	return runCat(c.t, c.l, x, in)
}

// self is our address.
func (c *cats) self(v6 bool) string {
	switch {
	case c.host && v6:
		return "fd77::1"
	case c.host:
		return "10.77.0.1"
	case v6:
		return "fd77::7"
	}
	return "10.77.0.7"
}

func eachNetwork(t *testing.T, f func(t *testing.T, c *cats)) {
	t.Parallel()
	if _, err := exec.LookPath("nc.openbsd"); err != nil {
		lab.Lacks(t, err)
	}
	for _, host := range []bool{false, true} {
		t.Run(map[bool]string{false: "stack", true: "host"}[host], func(t *testing.T) {
			t.Parallel()
			lab.InNamespace(t, func(l *lab.Lab) {
				if !l.IPv6 {
					lab.Lacks(t, errNoIPv6)
				}
				f(t, &cats{t, l, host})
			})
		})
	}
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b) // never fails
	return b
}

// TestNCOpenBSD moves megabytes both ways at once, against Debian's netcat as
// client and as server, and compares them.
func TestNCOpenBSD(t *testing.T) {
	eachNetwork(t, func(t *testing.T, c *cats) {
		all := randomBytes(7 << 20)
		up, down := all[:3<<20], all[3<<20:]
		for _, v6 := range []bool{false, true} {
			kernel := "10.77.0.1"
			if v6 {
				kernel = "fd77::1"
			}
			server := c.theirs(bytes.NewReader(down), "-n -v -l -N "+kernel+" 1234")
			server.err.wait(t, "Listening on")
			// Theirs, listening, is over as soon as its peer has ended, and so the
			// client does not say that it has.
			client := c.ours(bytes.NewReader(up), "-v "+kernel+" 1234")
			if got := client.ends(0); got != string(down) {
				t.Errorf("client, IPv6 %v: %d of %d bytes, or others", v6, len(got), len(down))
			}
			if got := server.ends(0); got != string(up) {
				t.Errorf("to their server, IPv6 %v: %d of %d bytes, or others", v6, len(got), len(up))
			}
			if want := fmt.Sprintf("Connection to %s 1234 port [tcp/*] succeeded!\n", kernel); client.err.String() != want {
				t.Errorf("%q, want %q", client.err, want)
			}

			server = c.ours(bytes.NewReader(down), "-v -l -N "+c.self(v6)+" 1235")
			server.err.wait(t, "Listening on "+c.self(v6)+" 1235\n")
			client = c.theirs(bytes.NewReader(up), "-N "+c.self(v6)+" 1235")
			if got := client.ends(0); got != string(down) {
				t.Errorf("their client, IPv6 %v: %d of %d bytes, or others", v6, len(got), len(down))
			}
			if got := server.ends(0); got != string(up) {
				t.Errorf("server, IPv6 %v: %d of %d bytes, or others", v6, len(got), len(up))
			}
			if !strings.Contains(server.err.String(), "\nConnection received on "+kernel+" ") {
				t.Errorf("%q", server.err)
			}
		}

		// UDP, both ways.
		server := c.theirs(nil, "-n -v -u -l 10.77.0.1 1236")
		server.err.wait(t, "Bound on")
		client := c.ours(nil, "-u -W 1 10.77.0.1 1236")
		io.WriteString(client.in, "ping\n")
		server.out.wait(t, "ping\n")
		io.WriteString(server.in, "pong\n")
		if got := client.ends(0); got != "pong\n" {
			t.Errorf("UDP: %q", got)
		}
		server.Process.Kill()
		_ = server.Wait()
		server = c.ours(nil, "-v -u -l "+c.self(false)+" 1237")
		server.err.wait(t, "Bound on "+c.self(false)+" 1237\n")
		client = c.theirs(nil, "-u -W 1 "+c.self(false)+" 1237")
		io.WriteString(client.in, "ping\n")
		server.out.wait(t, "ping\n")
		io.WriteString(server.in, "pong\n")
		if got := client.ends(0); got != "pong\n" {
			t.Errorf("UDP: %q", got)
		}
		server.Process.Kill()
		_ = server.Wait()
	})
}

// TestNCMessages: -v says what Debian's netcat says, with the same status.
func TestNCMessages(t *testing.T) {
	eachNetwork(t, func(t *testing.T, c *cats) {
		for _, port := range []string{"22", "80", "4003"} {
			ln, err := c.l.ListenKernel("tcp", "10.77.0.1:"+port)
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
		}
		pc, err := c.l.ListenPacketKernel("udp", "10.77.0.1:53")
		if err != nil {
			t.Fatal(err)
		}
		defer pc.Close()
		for _, args := range []string{
			"-zv 10.77.0.1 22", "-zv 10.77.0.1 20-25 80", "-z 10.77.0.1 4000-4005", "-zv 10.77.0.1 4001", "-z 10.77.0.1 4001", "-v -N 10.77.0.1 4001", "-zvu 10.77.0.1 53",
			"-zv -w 1 10.77.0.99 22", "-zv 10.77.0.1 ssh http", "-zv -s 10.9.9.9 10.77.0.1 22",
		} {
			var a, b string
			var x, y int
			once := func() bool {
				in := func() io.Reader { return strings.NewReader("") }
				ours, theirs := c.ours(in(), args), c.theirs(in(), args)
				_, _ = ours.Wait(), theirs.Wait()
				a, b = ours.err.String(), theirs.err.String()
				if args == "-zv -w 1 10.77.0.99 22" && strings.Contains(a, "No route to host") {
					a = b // the neighbour is given up after a second, too
				}
				a = strings.Replace(a, "tapstack: bind failed", "nc: bind failed", 1) // by what it is called
				x, y = ours.ProcessState.ExitCode(), theirs.ProcessState.ExitCode()
				return a == b && x == y
			}
			// One who asks for a second, or a port of UDP, is told by the clock.
			if waits := strings.Contains(args, "-w") || strings.Contains(args, "u"); waits && !persist(once) || !waits && !once() {
				t.Errorf("nc %s: status %d and %d\nours:\n%stheirs:\n%s", args, x, y, a, b)
			}
		}
		var got *cat
		if !persist(func() bool {
			got = c.ours(strings.NewReader(""), "-zvu 10.77.0.1 54")
			return outcome(t, got.Wait()) == 1 && got.out.String()+got.err.String() == ""
		}) {
			t.Errorf("a closed port of UDP: %q %q", got.out, got.err)
		}
	})
}

// TestNCEnds: what ends, and when.
func TestNCEnds(t *testing.T) {
	eachNetwork(t, func(t *testing.T, c *cats) {
		ln, err := c.l.ListenKernel("tcp", "10.77.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		_, port, _ := net.SplitHostPort(ln.Addr().String())
		at := "10.77.0.1 " + port
		accept := func() net.Conn {
			t.Helper()
			_ = ln.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
			conn, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			_ = conn.SetDeadline(time.Now().Add(patience))
			return conn
		}
		read := func(conn net.Conn, want string) {
			t.Helper()
			b := make([]byte, len(want))
			if _, err := io.ReadFull(conn, b); err != nil || string(b) != want {
				t.Errorf("%q, %v; want %q", b, err, want)
			}
		}
		noEnd := func(conn net.Conn) {
			t.Helper()
			_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%v instead of an open connection", err)
			}
		}

		// The end of the input ends nothing by itself.
		client := c.ours(strings.NewReader("hello"), at)
		conn := accept()
		read(conn, "hello")
		noEnd(conn)
		io.WriteString(conn, "answer")
		conn.Close()
		if got := client.ends(0); got != "answer" {
			t.Errorf("%q", got)
		}

		// With -N it is told, and the answer still comes.
		client = c.ours(strings.NewReader("hello\n"), "-N -C "+at)
		conn = accept()
		if b, err := io.ReadAll(conn); string(b) != "hello\r\n" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		io.WriteString(conn, "answer")
		conn.Close()
		if got := client.ends(0); got != "answer" {
			t.Errorf("%q", got)
		}

		// The end of the other side does not end what is still being said.
		client = c.ours(nil, at)
		conn = accept()
		io.WriteString(conn, "first")
		conn.(*net.TCPConn).CloseWrite()
		client.out.wait(t, "first")
		io.WriteString(client.in, "and then")
		read(conn, "and then")
		client.in.Close()
		client.ends(0)
		conn.Close()

		// -q ends it although the other side does not; -w when nothing happens;
		// -W after a reception; -d without any input.
		for _, flags := range []string{"-q 0.1", "-w 5", "-W 1", "-d -W 1"} {
			client = c.ours(strings.NewReader("hello"), flags+" "+at)
			conn = accept()
			if flags[:2] != "-d" {
				read(conn, "hello")
			}
			if strings.Contains(flags, "-W") {
				io.WriteString(conn, "one")
			}
			if b, err := io.ReadAll(conn); err != nil || len(b) > 0 && flags[:2] != "-d" {
				t.Errorf("%s: %q, %v", flags, b, err)
			}
			conn.Close()
			client.ends(0)
		}

		// A port and an address of our own.
		client = c.ours(strings.NewReader(""), "-N -s "+c.self(false)+" -p 4444 "+at)
		conn = accept()
		if got := conn.RemoteAddr().(*net.TCPAddr).AddrPort(); got != netip.MustParseAddrPort(c.self(false)+":4444") {
			t.Errorf("from %v", got)
		}
		conn.Close()
		client.ends(0)

		// A listener is over with its peer, though its input is not; with -k
		// others may come.
		dial := func(port string) net.Conn {
			t.Helper()
			conn, err := c.l.DialKernel(t.Context(), "tcp", net.JoinHostPort(c.self(false), port))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			_ = conn.SetDeadline(time.Now().Add(patience))
			return conn
		}
		capture := filepath.Join(t.TempDir(), "nc.pcapng")
		flags := ""
		if !c.host {
			flags = " --pcap " + capture
		}
		server := c.ours(nil, "-v -l 5000"+flags)
		server.err.wait(t, "Listening on 0.0.0.0 5000\n")
		conn = dial("5000")
		io.WriteString(conn, "hello")
		conn.Close()
		if got := server.ends(0); got != "hello" {
			t.Errorf("%q", got)
		}
		if !c.host {
			all := strings.Join(pcapComments(t, capture), "\n")
			if !strings.Contains(all, "conversation 1: SYN from 10.77.0.1:") || !strings.Contains(all, "conversation 1: SYN-ACK\n") ||
				!strings.Contains(all, "conversation 1: 5 bytes") || strings.Contains(all, "conversation 2") {
				t.Errorf("captured:\n%s", all)
			}
		}
		server = c.ours(nil, "-v -l -k -p 5001 -s "+c.self(false))
		server.err.wait(t, "Listening on "+c.self(false)+" 5001\n")
		for i := range 3 {
			conn = dial("5001")
			fmt.Fprintf(conn, "number %d.", i)
			server.out.wait(t, fmt.Sprintf("number %d.", i))
			fmt.Fprintf(server.in, "back %d.", i)
			read(conn, fmt.Sprintf("back %d.", i))
			conn.Close()
		}
		server.Process.Kill()
		_ = server.Wait()
	})
}

// TestNCUnread: a client that is ended by -q has delivered what it was given,
// however slowly it is read.
func TestNCUnread(t *testing.T) {
	eachNetwork(t, func(t *testing.T, c *cats) {
		ln, err := c.l.ListenKernel("tcp", "10.77.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		_, port, _ := net.SplitHostPort(ln.Addr().String())
		data := randomBytes(2 << 20)
		client := c.ours(bytes.NewReader(data), "-q 0 10.77.0.1 "+port)
		conn, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if !c.host { // a line with segments that are larger than such a buffer would stall
			_ = conn.(*net.TCPConn).SetReadBuffer(16 << 10)
		}
		var got []byte
		b := make([]byte, 64<<10)
		for len(got) < len(data) {
			k, err := conn.Read(b)
			if got = append(got, b[:k]...); err != nil {
				break
			}
			time.Sleep(2 * time.Millisecond) // it is slow
		}
		if !bytes.Equal(got, data) {
			t.Errorf("%d of %d bytes, or others", len(got), len(data))
		}
		client.ends(0)
	})
}

func TestNCCommandLines(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"nc": "want HOST and PORT", "nc h": "want HOST and PORT", "nc -l -z 1": "cannot use -z and -l", "nc -k h 1": "must use -l with -k", "nc h 99999": "no port",
		"nc h nonsense": "no port", "nc h 1-99999": "no port", "nc -l 1-2": "one port", "nc -4 -6 h 1": "exclude each other", "nc -l -p 1 2": "one of the two",
		"nc --net host -s x 127.0.0.1 1": "want an address",
	} {
		out, err := tapstack(t, nil, strings.Fields(args)...).CombinedOutput()
		if status := outcome(t, err); status != 2 || !strings.Contains(string(out), want) {
			t.Errorf("%s: status %d, %s", args, status, out)
		}
	}
	if list, err := parsePorts("25-20", false); err != nil || len(list) != 6 || list[0] != 20 {
		t.Errorf("%v, %v", list, err)
	}
	if got := string(crlf([]byte("\na\r\nb\n"), '\r')); got != "\na\r\nb\r\n" {
		t.Errorf("%q", got)
	}
	link := filepath.Join(t.TempDir(), "nc")
	if err := os.Symlink(os.Args[0], link); err != nil {
		t.Fatal(err)
	}
	c := tapstack(t, nil, "-z", "-l", "1")
	c.Path, c.Args[0] = link, link
	if out, err := c.CombinedOutput(); outcome(t, err) != 2 || !strings.HasPrefix(string(out), "nc: ") {
		t.Errorf("by its own name: %s", out)
	}
}
