package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestNamesAndPorts(t *testing.T) {
	if got := Names(); !slices.Equal(got, []string{"echo", "discard", "daytime", "chargen", "telnet"}) {
		t.Fatalf("Names: %v", got)
	}
	for name, port := range map[string]uint16{"echo": 7, "discard": 9, "daytime": 13, "chargen": 19, "telnet": 23} {
		if s := mustNew(t, name); s.Port != port || s.Name != name || s.MaxConns != MaxConns {
			t.Errorf("%s: %+v", name, s)
		}
	}
	if _, err := New("qotd"); !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "chargen") {
		t.Errorf("unknown name: %v", err)
	}
}

// The services over the kernel's TCP, which has half close and segments.

func TestEchoFinishesAfterHalfClose(t *testing.T) {
	c := dialTCP(t, mustNew(t, "echo"))
	// More than both socket buffers hold, so that the echo is still owed
	// most of it when the client's FIN arrives.
	want := make([]byte, 8<<20)
	rnd := rand.NewChaCha8([32]byte{7})
	_, _ = rnd.Read(want)
	go func() {
		_, _ = c.Write(want)
		_ = c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes back of %d, err %v", len(got), len(want), err)
	}
}

func TestDiscard(t *testing.T) {
	c := dialTCP(t, mustNew(t, "discard"))
	if _, err := c.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	_ = c.CloseWrite()
	if got, err := io.ReadAll(c); err != nil || len(got) != 0 {
		t.Fatalf("%d bytes back, err %v", len(got), err)
	}
}

// rfc867Time is the example of RFC 867, whose Tuesday was a Monday.
var rfc867Time = time.Date(1982, time.February, 22, 17, 37, 43, 0, time.FixedZone("PST", -8*3600))

const rfc867Line = "Monday, February 22, 1982 17:37:43-PST\r\n"

func TestDaytime(t *testing.T) {
	s := mustNew(t, "daytime")
	s.now = func() time.Time { return rfc867Time }
	c := dialTCP(t, s)
	// Data that the service never asked for must not cost the client the line.
	_, _ = c.Write([]byte("what time is it?\r\n"))
	if got, err := io.ReadAll(c); err != nil || string(got) != rfc867Line {
		t.Fatalf("%q, err %v", got, err)
	}
}

// The first lines of the pattern as RFC 864 prints them.
const rfc864Lines = " !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefg\r\n" +
	"!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefgh\r\n" +
	"\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghi\r\n"

func TestChargenOutlivesHalfClose(t *testing.T) {
	c := dialTCP(t, mustNew(t, "chargen"))
	_, _ = c.Write([]byte("thrown away"))
	_ = c.CloseWrite()
	got := make([]byte, 3*len(pattern))
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(got, []byte(rfc864Lines)) {
		t.Fatalf("begins %q", got[:len(rfc864Lines)])
	}
	for i, line := range bytes.SplitAfter(got, []byte("\r\n")) {
		if len(line) == 0 {
			continue
		}
		if len(line) != 74 || line[0] != byte(' '+i%95) || line[71] != byte(' '+(i+71)%95) {
			t.Fatalf("line %d: %q", i, line)
		}
	}
}

// The services over UDP.

func TestDatagrams(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789"), 6000)
	for _, tc := range []struct {
		name, request, answer string
	}{
		{"echo", "x", "x"},
		{"echo", "", ""},
		{"echo", string(big), string(big)},
		{"daytime", "anything", rfc867Line},
		{"chargen", "", rfc864Lines[:100]},
	} {
		t.Run(fmt.Sprintf("%s/%d", tc.name, len(tc.request)), func(t *testing.T) {
			s := mustNew(t, tc.name)
			s.now = func() time.Time { return rfc867Time }
			s.intn = func(n int) int {
				if n != 513 {
					t.Errorf("lengths 0..%d", n-1)
				}
				return 100
			}
			pc := listenUDP(t, s)
			c, err := net.Dial("udp", pc.LocalAddr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(30 * time.Second))
			if _, err := c.Write([]byte(tc.request)); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, 1<<16)
			n, err := c.Read(got)
			if err != nil || string(got[:n]) != tc.answer {
				t.Fatalf("%d bytes %.80q, err %v", n, got[:n], err)
			}
		})
	}
}

func TestLoopDefence(t *testing.T) {
	for _, name := range []string{"echo", "daytime", "chargen"} {
		synctest.Test(t, func(t *testing.T) {
			s, pc := mustNew(t, name), newFakePacketConn()
			done := serving(t, func(ctx context.Context) error { return s.ServePacket(ctx, pc) })
			for _, port := range []int{0, 7, 13, 17, 19} {
				pc.in <- datagram{addr: &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: port}}
				// Not every PacketConn speaks of *net.UDPAddr.
				pc.in <- datagram{addr: stringAddr(fmt.Sprintf("[fe80::1%%tap7]:%d", port))}
			}
			pc.in <- datagram{addr: &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 40000}}
			if out := <-pc.out; out.addr.String() != "10.0.0.1:40000" {
				t.Errorf("answered %v", out.addr)
			}
			synctest.Wait()
			if st := s.Stats(); st.Ignored != 10 || st.Answered != 1 {
				t.Errorf("%+v", st)
			}
			done()
		})
	}
}

func TestPacketErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, pc := mustNew(t, "echo"), newFakePacketConn()
		done := serving(t, func(ctx context.Context) error { return s.ServePacket(ctx, pc) })
		client := &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 40000}
		pc.in <- datagram{err: &net.OpError{Op: "read", Err: syscall.ECONNREFUSED}}
		pc.in <- datagram{addr: client, p: []byte(unanswerable)}
		pc.in <- datagram{addr: client, p: []byte("still there")}
		if out := <-pc.out; string(out.p) != "still there" {
			t.Errorf("%q", out.p)
		}
		synctest.Wait()
		if st := s.Stats(); st.Failed != 1 || st.Answered != 1 {
			t.Errorf("%+v", st)
		}
		done()

		// What does not pass ends the service with the error.
		pc = newFakePacketConn()
		pc.in <- datagram{err: io.ErrNoProgress}
		if err := s.ServePacket(t.Context(), pc); err != io.ErrNoProgress {
			t.Errorf("err %v", err)
		}
	})
}

func TestDiscardNeverAnswersDatagrams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, pc := mustNew(t, "discard"), newFakePacketConn()
		done := serving(t, func(ctx context.Context) error { return s.ServePacket(ctx, pc) })
		pc.in <- datagram{addr: stringAddr("10.0.0.1:9"), p: []byte("gone")}
		synctest.Wait()
		if len(pc.out) != 0 || s.Stats().Answered != 1 {
			t.Errorf("%d answers, %+v", len(pc.out), s.Stats())
		}
		done()
	})
}

// Limits and ends. A synctest bubble fails the test when a goroutine of it is
// left over.

func TestMaxConns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ln := mustNew(t, "echo"), newPipeListener()
		s.MaxConns = 2
		done := serving(t, func(ctx context.Context) error { return s.Serve(ctx, ln) })
		first, second := ln.dial(), ln.dial()
		roundTrip(t, first, "one")
		roundTrip(t, second, "two")
		third := ln.dial()
		if _, err := third.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("third connection: %v", err)
		}
		if st := s.Stats(); st.Active != 2 || st.Accepted != 2 || st.Refused != 1 {
			t.Errorf("%+v", st)
		}
		first.Close()
		synctest.Wait()
		fourth := ln.dial()
		roundTrip(t, fourth, "four")
		done()
		if st := s.Stats(); st.Active != 0 || st.Accepted != 3 || st.Refused != 1 {
			t.Errorf("%+v", st)
		}
	})
}

func TestEndClosesEverything(t *testing.T) {
	for _, name := range Names() {
		synctest.Test(t, func(t *testing.T) {
			s, ln := mustNew(t, name), newPipeListener()
			done := serving(t, func(ctx context.Context) error { return s.Serve(ctx, ln) })
			idle, deaf := ln.dial(), ln.dial()
			if name != "chargen" && name != "daytime" && name != "telnet" {
				// echo is stuck writing to a client that does not read.
				_, _ = deaf.Write([]byte("anyone?"))
			}
			synctest.Wait()
			done()
			for _, c := range []net.Conn{idle, deaf} {
				if _, err := io.Copy(io.Discard, c); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			if n := s.Stats().Active; n != 0 {
				t.Errorf("%s: %d connections left", name, n)
			}
		})
	}
}

func TestDaytimeGivesUpOnClientThatStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ln := mustNew(t, "daytime"), newPipeListener()
		done := serving(t, func(ctx context.Context) error { return s.Serve(ctx, ln) })
		c, start := ln.dial(), time.Now()
		if got, err := io.ReadAll(c); err != nil || !bytes.HasSuffix(got, []byte("\r\n")) {
			t.Errorf("%q, err %v", got, err)
		}
		if d := time.Since(start); d != drainTime {
			t.Errorf("closed after %v", d)
		}
		done()
	})
}

func TestAcceptErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ln := mustNew(t, "echo"), newPipeListener()
		for range 20 {
			ln.errs <- &net.OpError{Op: "accept", Err: syscall.EMFILE}
		}
		start := time.Now()
		done := serving(t, func(ctx context.Context) error { return s.Serve(ctx, ln) })
		roundTrip(t, ln.dial(), "after the shortage")
		// 5 ms doubled seven times is 635 ms in all; the other 12 take 1 s.
		if d := time.Since(start); d < 12*time.Second || d > 14*time.Second {
			t.Errorf("20 failures took %v", d)
		}
		ln.errs <- syscall.EMFILE
		synctest.Wait()
		done() // in the middle of a pause

		ln = newPipeListener()
		ln.errs <- io.ErrNoProgress
		if err := s.Serve(t.Context(), ln); err != io.ErrNoProgress {
			t.Errorf("err %v", err)
		}
	})
}

// Sets.

func TestSet(t *testing.T) {
	any127 := func(*Service) string { return "127.0.0.1:0" }
	n := &kernel{}
	set, err := start(n, []string{"echo", "daytime", "echo"}, any127)
	if err != nil {
		t.Fatal(err)
	}
	if got := set.Names(); !slices.Equal(got, []string{"echo", "daytime"}) {
		t.Errorf("Names: %v", got)
	}
	c, err := net.Dial("tcp", n.listeners[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, c, "hello")
	if got := set.Counters(); len(got) != 1 || got["service.echo.accepted"] != 1 {
		t.Errorf("Counters: %v", got)
	}
	if err := set.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection survived Close")
	}
	c.Close()

	for _, fail := range []string{"tcp", "udp"} {
		n := &kernel{failAfter: 1, failNetwork: fail}
		if _, err := start(n, []string{"echo", "discard"}, any127); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "discard") {
			t.Errorf("%s taken: %v", fail, err)
		}
		for _, l := range n.listeners {
			if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
				c.Close()
				t.Error("a listener survived a failed start")
			}
		}
	}
	n = &kernel{}
	if set, err = start(n, []string{"echo", "discard"}, any127); err != nil {
		t.Fatal(err)
	}
	n.listeners[1].Close()
	<-set.Failed()
	if err := set.Close(); !errors.Is(err, net.ErrClosed) || !strings.Contains(err.Error(), "discard") {
		t.Errorf("Close after a failure: %v", err)
	}
	if _, err := Start(&kernel{}, []string{"qotd"}); !errors.Is(err, ErrUnknown) {
		t.Errorf("unknown: %v", err)
	}
}

// What the tests stand on.

func mustNew(t *testing.T, name string) *Service {
	t.Helper()
	s, err := New(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// serving runs serve and returns how to end it, which checks that the end is
// complete and without an error.
func serving(t *testing.T, serve func(context.Context) error) (done func()) {
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- serve(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-result; err != nil {
			t.Errorf("ended with %v", err)
		}
	}
}

func dialTCP(t *testing.T, s *Service) *net.TCPConn {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := serving(t, func(ctx context.Context) error { return s.Serve(ctx, ln) })
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	t.Cleanup(func() {
		c.Close()
		done()
	})
	return c.(*net.TCPConn)
}

func listenUDP(t *testing.T, s *Service) net.PacketConn {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(serving(t, func(ctx context.Context) error { return s.ServePacket(ctx, pc) }))
	return pc
}

func roundTrip(t *testing.T, c net.Conn, text string) {
	t.Helper()
	got := make([]byte, len(text))
	if _, err := c.Write([]byte(text)); err != nil {
		t.Errorf("write %q: %v", text, err)
	} else if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Errorf("echo of %q: %q, %v", text, got, err)
	}
}

// pipeListener accepts net.Pipe connections, and fails as told.
type pipeListener struct {
	in     chan net.Conn
	errs   chan error
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{in: make(chan net.Conn, 8), errs: make(chan error, 32), closed: make(chan struct{})}
}

func (l *pipeListener) dial() net.Conn {
	client, server := net.Pipe()
	l.in <- server
	return client
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case err := <-l.errs:
		return nil, err
	default:
	}
	select {
	case err := <-l.errs:
		return nil, err
	case c := <-l.in:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return stringAddr("pipe") }

type stringAddr string

func (a stringAddr) Network() string { return "udp" }
func (a stringAddr) String() string  { return string(a) }

type datagram struct {
	p    []byte
	addr net.Addr
	err  error
}

// fakePacketConn gives the source addresses that a test wants.
type fakePacketConn struct {
	net.PacketConn // nil: the other methods are not called
	in, out        chan datagram
	closed         chan struct{}
	once           sync.Once
}

// unanswerable is a datagram that cannot be sent.
const unanswerable = "unanswerable"

func newFakePacketConn() *fakePacketConn {
	return &fakePacketConn{in: make(chan datagram, 32), out: make(chan datagram, 32), closed: make(chan struct{})}
}

func (c *fakePacketConn) ReadFrom(p []byte) (int, net.Addr, error) {
	select {
	case d := <-c.in:
		return copy(p, d.p), d.addr, d.err
	case <-c.closed:
		return 0, nil, net.ErrClosed
	}
}

func (c *fakePacketConn) WriteTo(p []byte, to net.Addr) (int, error) {
	if string(p) == unanswerable {
		return 0, os.ErrPermission
	}
	c.out <- datagram{p: bytes.Clone(p), addr: to}
	return len(p), nil
}

func (c *fakePacketConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

// kernel is a Network of the machine's own sockets.
type kernel struct {
	listeners   []net.Listener
	failNetwork string // fails on this network after failAfter successes
	failAfter   int
}

func (k *kernel) fails(network string) bool {
	if network != k.failNetwork {
		return false
	}
	k.failAfter--
	return k.failAfter < 0
}

func (k *kernel) Listen(network, address string) (net.Listener, error) {
	if k.fails(network) {
		return nil, syscall.EADDRINUSE
	}
	ln, err := net.Listen(network, address)
	if err == nil {
		k.listeners = append(k.listeners, ln)
	}
	return ln, err
}

func (k *kernel) ListenPacket(network, address string) (net.PacketConn, error) {
	if k.fails(network) {
		return nil, syscall.EADDRINUSE
	}
	return net.ListenPacket(network, address)
}
