package telnet

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// serve starts a server on loopback.
func serve(t testing.TB, s *Server) (addr string, served <-chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
	return l.Addr().String(), done
}

// echoLines is a handler that repeats lines until "quit".
var echoLines = HandlerFunc(func(_ context.Context, c *Conn) {
	x := c.Text()
	for {
		x.Prompt("> ")
		s, err := x.ReadLine()
		if err != nil || s == "quit" {
			return
		}
		x.Printf("you said %q\n", s)
	}
})

func TestServerAndDialer(t *testing.T) {
	s := &Server{Handler: echoLines}
	addr, served := serve(t, s)
	hooked := false
	d := &Dialer{Config: fullClient, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		hooked = true
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}}
	ctx := testContext(t)
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil || !hooked {
		t.Fatal(err, hooked)
	}
	if err := c.Handshake(ctx); err != nil {
		t.Fatal(err)
	}
	x := c.Text()
	x.WriteString("hällo\nquit\n")
	all, err := io.ReadAll(x)
	if err != nil || !strings.Contains(string(all), `you said "hällo"`) {
		t.Errorf("%q %v", all, err)
	}
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if err := <-served; err != ErrServerClosed {
		t.Error(err)
	}
	if st := s.Stats(); st.Accepted != 1 || st.Open != 0 {
		t.Errorf("%+v", st)
	}
	if err := s.Serve(&net.TCPListener{}); err != ErrServerClosed {
		t.Error(err)
	}
}

func TestServerLimits(t *testing.T) {
	release := make(chan struct{})
	inside := make(chan struct{}, 10)
	s := &Server{MaxConns: 1, Busy: "full\r\n", Handler: HandlerFunc(func(context.Context, *Conn) { inside <- struct{}{}; <-release }),
		Config: &Config{Passive: true}}
	addr, _ := serve(t, s)
	first, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	<-inside
	if n := s.Conns(); len(n) != 1 || n[0].Conn.RemoteAddr().String() != first.LocalAddr().String() {
		t.Errorf("%v", n)
	}
	second, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(second); string(got) != "full\r\n" {
		t.Errorf("%q", got)
	}
	// Shutdown waits for the first.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	close(release)
	if err := s.Shutdown(testContext(t)); err != nil {
		t.Error(err)
	}
	if st := s.Stats(); st.Refused != 1 || st.Accepted != 1 {
		t.Errorf("%+v", st)
	}
}

// TestRefusedAreBounded: those who are refused and do not read what they are told
// are no more than a few, and none after a second.
func TestRefusedAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{MaxConns: 1, Busy: "full\r\n", Config: &Config{Passive: true}, Handler: HandlerFunc(func(_ context.Context, c *Conn) { io.Copy(io.Discard, c) })}
		defer s.Close()
		near, far := net.Pipe()
		defer far.Close()
		served := make(chan struct{})
		go func() { s.ServeConn(near); close(served) }()
		for s.Stats().Open == 0 {
			time.Sleep(time.Millisecond)
		}
		var deaf []net.Conn
		for range maxRefusing {
			near, far := net.Pipe()
			defer far.Close()
			s.ServeConn(near) // returns at once
			deaf = append(deaf, far)
		}
		near, late := net.Pipe()
		defer late.Close()
		s.ServeConn(near)
		if got, err := io.ReadAll(late); len(got) != 0 || err != nil {
			t.Errorf("%q %v", got, err)
		}
		if got, err := io.ReadAll(deaf[0]); string(got) != "full\r\n" || err != nil {
			t.Errorf("%q %v", got, err)
		}
		if st := s.Stats(); st.Refused != maxRefusing+1 || st.Open != 1 {
			t.Errorf("%+v", st)
		}
		s.Close()
		<-served
		for _, far := range deaf {
			far.Close()
		}
		for s.refusing.Load() != 0 {
			time.Sleep(time.Millisecond)
		}
	})
}

func TestIdleTimeout(t *testing.T) {
	s := &Server{IdleTimeout: 30 * time.Millisecond, Config: &Config{Passive: true}, Handler: HandlerFunc(func(_ context.Context, c *Conn) { io.Copy(io.Discard, c) })}
	addr, _ := serve(t, s)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if string(got) != "\r\nTimeout.\r\n" || err != nil {
		t.Errorf("%q %v", got, err)
	}
	s.Shutdown(testContext(t))
	if st := s.Stats(); st.TimedOut != 1 {
		t.Errorf("%+v", st)
	}
}

// TestServerClose ends the sessions and their contexts; a handler that panics
// ends its own only.
func TestServerClose(t *testing.T) {
	ended := make(chan error, 1)
	var n atomic.Int32
	s := &Server{Config: &Config{Passive: true}, Handler: HandlerFunc(func(ctx context.Context, c *Conn) {
		if n.Add(1) == 1 {
			panic("for the test")
		}
		c.Read(make([]byte, 1))
		<-ctx.Done()
		ended <- ctx.Err()
	})}
	addr, served := serve(t, s)
	a, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	io.ReadAll(a)
	b, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	b.Write([]byte("x"))
	for n.Load() < 2 {
		time.Sleep(time.Millisecond)
	}
	s.Close()
	if err := <-ended; err != context.Canceled {
		t.Error(err)
	}
	if err := <-served; err != ErrServerClosed {
		t.Error(err)
	}
	if s.Stats().Panicked != 1 {
		t.Error("no panic was counted")
	}
}

func TestMiddleware(t *testing.T) {
	var log strings.Builder
	var mu sync.Mutex
	var order []string
	note := func(s string) Middleware {
		return func(h Handler) Handler {
			return HandlerFunc(func(ctx context.Context, c *Conn) {
				mu.Lock()
				order = append(order, s)
				mu.Unlock()
				h.ServeTELNET(ctx, c)
			})
		}
	}
	busy := HandlerFunc(func(_ context.Context, c *Conn) { io.WriteString(c, "busy") })
	inside := make(chan struct{})
	logger := slog.New(slog.NewTextHandler(&log, nil))
	h := Chain(HandlerFunc(func(_ context.Context, c *Conn) { inside <- struct{}{}; c.Read(make([]byte, 1)) }),
		note("a"), WithLog(logger), WithLimit(1, busy), WithMaxDuration(50*time.Millisecond), note("b"))
	s := &Server{Handler: h, Config: &Config{Passive: true}}
	addr, _ := serve(t, s)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	<-inside
	d, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(d); string(got) != "busy" {
		t.Errorf("%q", got)
	}
	if got, err := io.ReadAll(c); len(got) != 0 || err != nil { // the longest session there is
		t.Errorf("%q %v", got, err)
	}
	s.Shutdown(testContext(t))
	if strings.Join(order, "") != "aba" || strings.Count(log.String(), "session over") != 2 {
		t.Errorf("%v\n%s", order, log.String())
	}
}

func TestTLS(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true,
		BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(crand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, _ := x509.ParseCertificate(der)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	// A handshake of TLS that begins late outlives MaxWait.
	s := &Server{Config: &Config{MaxWait: time.Millisecond}, TLSConfig: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, Logger: slog.New(slog.DiscardHandler),
		Handler: HandlerFunc(func(_ context.Context, c *Conn) {
			if c.Info().TLS == nil {
				io.WriteString(c, "plain")
			}
			io.WriteString(c, "secret\xff")
		})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.ServeTLS(l)
	defer s.Close()
	d := &Dialer{TLS: &tls.Config{RootCAs: pool}, Config: fullClient, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		defer time.Sleep(20 * time.Millisecond)
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}}
	c, err := d.DialContext(testContext(t), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := io.ReadAll(c); string(got) != "secret\xff" || err != nil {
		t.Errorf("%q %v", got, err)
	}
	if c.Info().TLS == nil {
		t.Error("no TLS")
	}
	d.TLS = &tls.Config{}
	if _, err := d.DialContext(testContext(t), "tcp", l.Addr().String()); err == nil {
		t.Error("an unknown certificate was taken")
	}
}

// TestClientHelloIsNotTelnet: who speaks TLS to a plain port is hung up on, and
// its handler sees nothing of it; who types the same characters is not.
func TestClientHelloIsNotTelnet(t *testing.T) {
	got := make(chan string, 2)
	s := &Server{Config: &Config{Passive: true}, Handler: HandlerFunc(func(_ context.Context, c *Conn) {
		b, _ := io.ReadAll(c)
		got <- string(b)
	}), Logger: slog.New(slog.DiscardHandler)}
	addr, _ := serve(t, s)
	if c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true}); err == nil {
		c.Close()
		t.Error("a handshake")
	}
	if b := <-got; b != "" {
		t.Errorf("%q", b)
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, "\x16\x03\x01")
	c.Close()
	if b := <-got; b != "\x16\x03\x01" {
		t.Errorf("%q", b)
	}
}
