package interop

// What `make soak` runs for minutes: a server in a process of its own, whose
// memory can be weighed, under 10,000 connections at once, 100,000 one after
// the other, a flood of SYNs, and wrk. Anything that is lost or comes back
// otherwise fails the test; memory, rates and latencies are told.

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/internal/attach"
)

var soak = flag.Duration("soak", 0, "run the soak tests, holding connections for that `TIME`")

// What the soak tests do, however long they are asked to hold connections.
const (
	soakHeld       = 10_000
	soakSequential = 100_000
	soakFlood      = 50_000 // SYNs in a second
	soakMessage    = 200    // bytes
	soakWord       = "a word and nothing more"
	// soakPause is the time between two messages on a connection; it is longer
	// than an idle connection keeps its buffers.
	soakPause = 15 * time.Second
)

// envSoak in the environment makes this program the server.
const envSoak = "TAPSTACK_SOAK_SERVER"

// newSoak starts the server in a lab.
func newSoak(t *testing.T) (programs, *os.Process) {
	t.Helper()
	if *soak == 0 {
		t.Skip("takes minutes: make soak")
	}
	l := programs{newLab(t)}
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), envSoak+"=1")
	return l, l.run(t, c, addr(our4.Addr(), 7))
}

// soakServer sends back what comes to port 7, says a word to whoever connects
// to port 13, and tells the stack's counters on port 80.
func soakServer(ctx context.Context, host *attach.Host, _ []string) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	serve := func(address string, f func(net.Conn)) error {
		ln, err := host.Net.Listen("tcp", address)
		if err != nil {
			return err
		}
		context.AfterFunc(ctx, func() { ln.Close() })
		wg.Go(func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					f(c)
				}()
			}
		})
		return nil
	}
	echo := func(c net.Conn) {
		b := make([]byte, 2*soakMessage)
		for {
			n, err := c.Read(b)
			if err == nil {
				_, err = c.Write(b[:n])
			}
			if err != nil {
				return
			}
		}
	}
	if err := serve(":7", echo); err != nil {
		return err
	}
	if err := serve(":13", func(c net.Conn) { io.WriteString(c, soakWord) }); err != nil {
		return err
	}
	ln, err := host.Net.Listen("tcp", ":80")
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { ln.Close() })
	err = http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for name, n := range host.Stack.Counters() {
			fmt.Fprintln(w, name, n)
		}
	}))
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// resident is the memory of a process, in bytes.
func resident(t *testing.T, p *os.Process) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(string(b), "VmRSS:")
	var kB int64
	if _, err := fmt.Sscan(line, &kB); err != nil {
		t.Fatal(err)
	}
	return kB << 10
}

func mega(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// latencies are told as their percentiles.
type latencies struct {
	mu  sync.Mutex
	all []time.Duration
}

func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	l.all = append(l.all, d)
	l.mu.Unlock()
}

func (l *latencies) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.all) == 0 {
		return "none"
	}
	slices.Sort(l.all)
	at := func(q float64) time.Duration { return l.all[int(q*float64(len(l.all)-1))].Round(time.Microsecond) }
	return fmt.Sprintf("p50 %v, p99 %v, p99.9 %v, most %v of %d", at(0.5), at(0.99), at(0.999), at(1), len(l.all))
}

// roundTrip sends a message nobody else sends and reads it back.
func roundTrip(c net.Conn, who, round int) error {
	message := make([]byte, soakMessage)
	for i := 0; i < len(message); i += 8 {
		binary.BigEndian.PutUint64(message[i:], uint64(who)<<32|uint64(round)<<8|uint64(i))
	}
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	if _, err := c.Write(message); err != nil {
		return err
	}
	got := make([]byte, len(message))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if !bytes.Equal(got, message) {
		return errors.New("the echo differs")
	}
	return nil
}

// TestSoakConnections holds connections and has a message come back on each
// again and again.
func TestSoakConnections(t *testing.T) {
	l, server := newSoak(t)
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil || files.Max < soakHeld+200 {
		t.Fatalf("only %d files may be open (%v); ulimit -Hn", files.Max, err)
	}
	before := resident(t, server)
	conns := make([]net.Conn, soakHeld)
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}()
	// each does something with all connections, some at a time.
	each := func(f func(i int) error) {
		t.Helper()
		var next atomic.Int64
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				for i := int(next.Add(1) - 1); i < len(conns); i = int(next.Add(1) - 1) {
					if err := f(i); err != nil {
						t.Errorf("connection %d: %v", i, err)
						return
					}
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			t.FailNow()
		}
	}
	var opening, messages latencies
	each(func(i int) (err error) {
		fam := families[i%2]
		begin := time.Now()
		conns[i], err = l.DialKernel(t.Context(), "tcp", addr(fam.ours.Addr(), 7))
		opening.add(time.Since(begin))
		return err
	})
	open := resident(t, server)
	t.Logf("%d connections: memory %s, before %s: %d bytes each; to connect: %v", soakHeld, mega(open), mega(before), (open-before)/soakHeld, &opening)
	end, most := time.Now().Add(*soak), open
	round := 0
	for ; round == 0 || time.Now().Before(end); round++ {
		began := time.Now()
		each(func(i int) error {
			begin := time.Now()
			err := roundTrip(conns[i], i, round)
			messages.add(time.Since(begin))
			return err
		})
		most = max(most, resident(t, server))
		time.Sleep(min(time.Until(began.Add(soakPause)), time.Until(end)))
	}
	held := resident(t, server)
	t.Logf("%d messages on each in %v: memory %s, at most %s: %d bytes each; echo: %v", round, *soak, mega(held), mega(most), (most-before)/soakHeld, &messages)
	each(func(i int) error {
		// All that came was read, so what ends is the stream and not the connection.
		if err := conns[i].(*net.TCPConn).CloseWrite(); err != nil {
			return err
		}
		if n, err := conns[i].Read(make([]byte, 1)); n != 0 || err != io.EOF {
			return fmt.Errorf("the end: %d bytes, %v", n, err)
		}
		return nil
	})
	t.Logf("after all: memory %s", mega(resident(t, server)))
}

// TestSoakSequential makes connections one after the other, which the server
// ends first: the ports that the kernel uses again meet the stack's TIME-WAIT.
func TestSoakSequential(t *testing.T) {
	l, server := newSoak(t)
	before := resident(t, server)
	var all latencies
	began := time.Now()
	for i := range soakSequential {
		begin := time.Now()
		c, err := l.DialKernel(t.Context(), "tcp", addr(families[i%2].ours.Addr(), 13))
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		c.SetDeadline(time.Now().Add(time.Minute))
		b, err := io.ReadAll(c)
		c.Close()
		if err != nil || string(b) != soakWord {
			t.Fatalf("connection %d: %q, %v", i, b, err)
		}
		all.add(time.Since(begin))
	}
	t.Logf("%d connections: %.0f/s, memory %s, before %s; each: %v", soakSequential,
		soakSequential/time.Since(began).Seconds(), mega(resident(t, server)), mega(before), &all)
}

// TestSoakFlood exchanges messages on a connection, and makes others, while
// SYNs come in.
func TestSoakFlood(t *testing.T) {
	l, server := newSoak(t)
	s := newStranger(t, l.Lab)
	counted := "http://" + addr(our4.Addr(), 80) + "/"
	c, err := l.DialKernel(t.Context(), "tcp", addr(our4.Addr(), 7))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	work := func(d time.Duration) (messages, opening *latencies) {
		messages, opening = new(latencies), new(latencies)
		for i, end := 0, time.Now().Add(d); time.Now().Before(end); i++ {
			begin := time.Now()
			if err := roundTrip(c, 1, i); err != nil {
				t.Fatalf("message %d: %v", i, err)
			}
			messages.add(time.Since(begin))
			if i%100 != 0 {
				continue
			}
			begin = time.Now()
			other, err := l.DialKernel(t.Context(), "tcp", addr(families[i/100%2].ours.Addr(), 7))
			if err != nil {
				t.Fatalf("connection %d: %v", i/100, err)
			}
			opening.add(time.Since(begin))
			err = roundTrip(other, 2, i)
			other.Close()
			if err != nil {
				t.Fatalf("connection %d: %v", i/100, err)
			}
		}
		return messages, opening
	}
	messages, opening := work(min(*soak, 10*time.Second))
	t.Logf("without: memory %s; echo: %v; to connect: %v", mega(resident(t, server)), messages, opening)

	var stop atomic.Bool
	var sent, refused atomic.Int64
	began := time.Now()
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; !stop.Load(); {
			for due := int(time.Since(began).Seconds() * soakFlood); n < due && !stop.Load(); n++ {
				switch _, err := s.f.Write(synFrame(n, 7)); {
				case err == nil:
					sent.Add(1)
				case errors.Is(err, unix.ENOBUFS):
					refused.Add(1) // the TAP's queue is full
				default:
					t.Errorf("flood: %v", err)
					return
				}
			}
			time.Sleep(time.Millisecond)
		}
	})
	defer func() {
		stop.Store(true)
		wg.Wait()
	}()
	eventually(t, patience, "the first cookie", func() bool { return l.counters(t, counted)["tcp.syn-cookies-sent"] > 0 })
	before, met := l.counters(t, counted), uint64(sent.Load())
	messages, opening = work(min(*soak, time.Minute))
	after := l.counters(t, counted)
	met = uint64(sent.Load()) - met
	stop.Store(true)
	wg.Wait()
	rate := float64(sent.Load()) / time.Since(began).Seconds()
	t.Logf("beside %.0f SYNs/s (%d found the queue full): memory %s; echo: %v; to connect: %v", rate, refused.Load(),
		mega(resident(t, server)), messages, opening)
	// That they have been met, and not lost before, is what the stack says.
	seen := after["tcp.input"] - before["tcp.input"]
	cookies := after["tcp.syn-cookies-sent"] - before["tcp.syn-cookies-sent"]
	t.Logf("of %d SYNs %d were answered with cookies, of which %d came back", met, cookies, after["tcp.syn-cookies-received"]-before["tcp.syn-cookies-received"])
	if cookies < met/2 {
		t.Errorf("%d SYNs were sent, and %d cookies: the stack has not met the flood (%d segments)", met, cookies, seen)
	}
}

// TestSoakWrk is TestWrk for a minute.
func TestSoakWrk(t *testing.T) {
	if *soak == 0 {
		t.Skip("takes minutes: make soak")
	}
	program(t, "wrk")
	l := programs{newLab(t)}
	server := l.program(t, "examples/http-server", addr(our4.Addr(), 80))
	before := resident(t, server)
	got := l.wrk(t, "http://"+addr(our4.Addr(), 80)+"/bytes/100", min(*soak, time.Minute))
	t.Logf("%d requests, %.0f/s, 99 %% within %s; memory %s, before %s", got.requests, got.rate, got.latency, mega(resident(t, server)), mega(before))
}
