package interop

// Clients of other people's: wrk against the HTTP server among the examples,
// socat in both roles.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/socket"
)

// programs is a lab whose stack is in a process of its own.
type programs struct{ *lab.Lab }

// program builds a program of this module and runs it on the lab's TAP until
// the test is over. address is where it listens.
func (h programs) program(t *testing.T, path, address string, args ...string) *os.Process {
	t.Helper()
	binary := filepath.Join(t.TempDir(), filepath.Base(path))
	if out, err := exec.Command("go", "build", "-o", binary, "../../"+path).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return h.run(t, exec.Command(binary, args...), address)
}

// run is program for a command that attaches a stack when it is told where.
func (h programs) run(t *testing.T, c *exec.Cmd, address string) *os.Process {
	t.Helper()
	c.Args = append(c.Args, "--tap", h.Devices[0], "--mac", ourMAC.String(), "--ip", our4.String(), "--ip", our6.String())
	// A line for each request would be measured too.
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	c.Stderr = null
	startServer(t, h.Lab, address, c)
	return c.Process
}

// load is what wrk tells of a run.
type load struct {
	requests int
	rate     float64
	latency  string // of the 99th percentile
}

var (
	wrkRequests = regexp.MustCompile(`(\d+) requests in`)
	wrkRate     = regexp.MustCompile(`Requests/sec:\s+([\d.]+)`)
	wrkLatency  = regexp.MustCompile(`(?m)^\s+99%\s+(\S+)`)
	wrkErrors   = regexp.MustCompile(`(?m)^\s*(Socket errors|Non-2xx).*$`)
)

// wrk loads a URL for d over 50 connections; any error fails the test.
func (h programs) wrk(t *testing.T, url string, d time.Duration) load {
	t.Helper()
	out := run(t, within(t, d+patience), h.Lab, "wrk", "-t2", "-c50", "--latency", "--timeout", "60s",
		fmt.Sprintf("-d%ds", int(d.Seconds())), url)
	if e := wrkErrors.FindString(out); e != "" {
		t.Errorf("%s", out)
	}
	var l load
	for r, f := range map[*regexp.Regexp]func(string){
		wrkRequests: func(s string) { l.requests, _ = strconv.Atoi(s) },
		wrkRate:     func(s string) { l.rate, _ = strconv.ParseFloat(s, 64) },
		wrkLatency:  func(s string) { l.latency = s },
	} {
		m := r.FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("not what wrk says:\n%s", out)
		}
		f(m[1])
	}
	return l
}

// counters are those of a server that tells them to whoever asks for url, as
// lines of name and number.
func (h programs) counters(t *testing.T, url string) map[string]uint64 {
	t.Helper()
	transport := &http.Transport{DialContext: h.DialKernel, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport, Timeout: patience}).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	m := make(map[string]uint64)
	for line := range strings.Lines(string(page)) {
		if f := strings.Fields(line); len(f) == 2 {
			m[f[0]], _ = strconv.ParseUint(f[1], 10, 64)
		}
	}
	if m["tcp.accepted"] == 0 {
		t.Fatalf("not the counters:\n%s", page)
	}
	return m
}

// TestWrk loads the example's server for some seconds. `make soak` does it for
// a minute.
func TestWrk(t *testing.T) {
	program(t, "wrk")
	l := programs{newLab(t)}
	l.program(t, "examples/http-server", addr(our4.Addr(), 80))
	for _, fam := range families {
		answered := 0
		if !persist(func() bool {
			got := l.wrk(t, "http://"+addr(fam.ours.Addr(), 80)+"/bytes/100", time.Second)
			t.Logf("%s: %d requests, %.0f/s, 99 %% within %s", fam.name, got.requests, got.rate, got.latency)
			answered += got.requests
			return answered >= 100
		}) {
			t.Errorf("only %d requests were answered", answered)
		}
	}
	l.wrk(t, "http://"+addr(our4.Addr(), 80)+"/bytes/100000", time.Second)
	for name, n := range l.counters(t, "http://"+addr(our4.Addr(), 80)+"/") {
		if strings.HasPrefix(name, "tcp.drop.") && n > 0 {
			switch name {
			// Wrk hangs up in the middle of answers when its time is over.
			case "tcp.drop.no-connection", "tcp.drop.closed", "tcp.drop.out-of-window":
			default:
				t.Errorf("%s %d", name, n)
			}
		}
	}
}

// TestSocat ends streams one way at a time in both roles and both directions,
// which socat does by shutdown, and exchanges datagrams.
func TestSocat(t *testing.T) {
	t.Parallel()
	program(t, "socat")
	h := newServed(t)
	const size = 5 << 20
	data := write(t, t.TempDir(), "data", file(size))
	want := sum(t, file(size))
	number := func(fam family) string { return fam.ping[1:] } // TCP4, TCP6
	host := func(a netip.Addr) string {
		if a.Is6() {
			return "[" + a.String() + "]"
		}
		return a.String()
	}

	// Whoever connects to us is told the sum of what he has sent, when he has
	// ended his side.
	ln, err := h.net.Listen("tcp", ":9")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				b, err := io.ReadAll(c)
				fmt.Fprintf(c, "%s %v\n", sum(t, bytes.NewReader(b)), err)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		serving.Wait()
	})
	// Datagrams come back as they are.
	pc, err := h.net.ListenPacket("udp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	serving.Go(func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			if _, err := pc.WriteTo(b[:n], from); err != nil {
				t.Errorf("echo: %v", err)
			}
		}
	})
	t.Cleanup(func() { pc.Close() })

	eachFamily(t, func(t *testing.T, fam family) {
		tcp, udp := "TCP"+number(fam), "UDP"+number(fam)
		ours, kernel := host(fam.ours.Addr()), host(fam.kernel.Addr())
		t.Run("its client ends first", func(t *testing.T) {
			script := fmt.Sprintf("socat -t 60 - %s:%s:9 <%s", tcp, ours, data)
			if out := run(t, within(t, endurance), h.lab, "sh", "-c", script); out != want+" <nil>\n" {
				t.Errorf("%q, want %s", out, want)
			}
		})
		t.Run("our client ends first", func(t *testing.T) {
			// The sum comes when we have ended our side and read on.
			const port = 2001
			at := addr(fam.kernel.Addr(), port)
			runServer(t, h.lab, at, "socat", "-t", "60", fmt.Sprintf("%s-LISTEN:%d,bind=%s,fork,reuseaddr", tcp, port, kernel), "EXEC:sha256sum")
			c := dial(t, h.ourSide(), "tcp", at, endurance).(*socket.Conn)
			_, err := io.Copy(c, file(size))
			if err := errors.Join(err, c.CloseWrite()); err != nil {
				t.Fatal(err)
			}
			if out, err := io.ReadAll(c); err != nil || string(out) != want+"  -\n" {
				t.Errorf("%q, %v; want %s", out, err, want)
			}
		})
		t.Run("its server ends first", func(t *testing.T) {
			// What comes has ended; what we send then still arrives.
			const port = 2002
			at := addr(fam.kernel.Addr(), port)
			got := filepath.Join(t.TempDir(), "got")
			ctx := within(t, endurance)
			ended := make(chan error, 1)
			go func() {
				out, err := h.lab.Output(ctx, "socat", "-t", "60", fmt.Sprintf("%s-LISTEN:%d,bind=%s,reuseaddr", tcp, port, kernel),
					"OPEN:"+data+",rdonly!!CREATE:"+got)
				if err != nil {
					err = fmt.Errorf("%w: %s", err, out)
				}
				ended <- err
			}()
			conn, err := h.untilListening(at)(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(endurance))
			if s := sum(t, conn); s != want {
				t.Errorf("SHA-256 %s, want %s", s, want)
			}
			_, err = io.Copy(conn, file(size))
			if err := errors.Join(err, conn.(*socket.Conn).CloseWrite(), <-ended); err != nil {
				t.Fatal(err)
			}
			f, err := os.Open(got)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if s := sum(t, f); s != want {
				t.Errorf("what was sent after the end of what came: SHA-256 %s, want %s", s, want)
			}
		})
		t.Run("datagrams to us", func(t *testing.T) {
			// Socat makes a datagram of each block that it reads.
			script := fmt.Sprintf("cd %s && mkfifo back && head -c 20000 %s >some && { socat -b 1000 -t 60 - %s:%s:7 <some >back & head -c 20000 back | sha256sum; kill $!; }",
				t.TempDir(), data, udp, ours)
			out := run(t, within(t, endurance), h.lab, "sh", "-c", script)
			if s := sum(t, file(20_000)); !strings.HasPrefix(out, s) {
				t.Errorf("%q, want %s", out, s)
			}
		})
		t.Run("datagrams from us", func(t *testing.T) {
			const port = 2003
			c := exec.Command(program(t, "socat"), fmt.Sprintf("%s-RECVFROM:%d,bind=%s,fork", udp, port, kernel), "EXEC:cat")
			if err := h.lab.Start(c); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				c.Process.Kill()
				_ = c.Wait() // killed
			})
			conn := dial(t, h.ourSide(), "udp", addr(fam.kernel.Addr(), port), endurance)
			// Nobody listens at first. Socat makes a process and another socket for
			// each datagram: what comes meanwhile may be lost, or answered late.
			h.expect("late answers", "udp.drop.no-socket")
			b := make([]byte, 2000)
			eventually(t, patience, "an echo", func() bool {
				if _, err := conn.Write([]byte("there?")); err != nil {
					return false
				}
				conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
				n, err := conn.Read(b)
				return err == nil && string(b[:n]) == "there?"
			})
			for i := range 10 {
				if err := echoDatagram(conn, contents(int64(1+150*i)), 60, time.Second); err != nil {
					t.Errorf("%d bytes: %v", 1+150*i, err)
				}
			}
		})
	})
}
