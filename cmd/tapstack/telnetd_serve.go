package main

// What telnetd does while it serves: it listens, tells plain clients from those
// of TLS, logs who is there, and ends.

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/telnet"
)

func (o *telnetdOptions) run() error {
	log, done, err := o.log.open()
	if err != nil {
		return err
	}
	defer done()
	return o.attach.Run(func(ctx context.Context, h *attach.Host) error {
		host := o.host
		if h.Stack == nil && !o.isNamedHost {
			host = "localhost"
		}
		l, err := h.Net.Listen("tcp", net.JoinHostPort(host, o.port))
		if err != nil {
			return err
		}
		s := o.server(log)
		fmt.Println(h.ReadyLine("telnetd"))
		fmt.Fprintln(os.Stderr, "Server ready on", l.Addr())
		return serveTelnet(ctx, s, l, o, log)
	})
}

// serveTelnet serves until ctx ends, which ends the sessions.
func serveTelnet(ctx context.Context, s *telnet.Server, l net.Listener, o *telnetdOptions, log *slog.Logger) error {
	over := make(chan struct{})
	defer close(over)
	if o.status > 0 {
		go reportStatus(s, log, seconds(o.status), over)
	}
	serve := s.Serve
	switch {
	case o.isTLSAuto:
		l = newAutoListener(l, s.TLSConfig, seconds(o.tlsAuto))
	case s.TLSConfig != nil:
		serve = s.ServeTLS
	}
	defer context.AfterFunc(ctx, func() { s.Close() })()
	err := serve(l)
	if !errors.Is(err, telnet.ErrServerClosed) {
		return errors.Join(err, s.Close())
	}
	// Handlers may have processes to end.
	limited, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	return s.Shutdown(limited)
}

// reportStatus logs who is connected whenever that has changed.
func reportStatus(s *telnet.Server, log *slog.Logger, every time.Duration, over <-chan struct{}) {
	t := time.NewTicker(max(every, time.Millisecond))
	defer t.Stop()
	last := "0 client(s)"
	for {
		select {
		case <-over:
			return
		case <-t.C:
			if now, changed := statusLine(s.Conns(), last); changed {
				last = now
				log.Info(now)
			}
		}
	}
}

// statusLine tells of sessions. How long they have been idle alone is no change.
func statusLine(list []telnet.ConnInfo, last string) (line string, changed bool) {
	slices.SortFunc(list, func(a, b telnet.ConnInfo) int {
		return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.Conn.RemoteAddr().String(), b.Conn.RemoteAddr().String()))
	})
	line = fmt.Sprintf("%d client(s)", len(list))
	for i, c := range list {
		line += map[bool]string{true: ": ", false: ", "}[i == 0] +
			fmt.Sprintf("%s (rx=%d, tx=%d, idle=%d)", c.Conn.RemoteAddr(), c.In, c.Out, int(c.Idle.Seconds()))
	}
	return line, withoutIdle(line) != withoutIdle(last)
}

func withoutIdle(line string) string {
	parts := strings.Split(line, ", idle=")
	for i := range parts[1:] {
		_, parts[i+1], _ = strings.Cut(parts[i+1], ")")
	}
	return strings.Join(parts, "")
}

const (
	tlsRecord  = 0x16 // begins TLS, and nothing that telnet's clients say
	maxPeeking = 256  // connections whose first byte is waited for
)

// autoListener accepts connections of which some speak TLS: each waits for its
// first byte before it is accepted, for a while.
type autoListener struct {
	net.Listener
	ready chan net.Conn
	err   error         // of the listener
	done  chan struct{} // closed when err is set
}

func newAutoListener(l net.Listener, cfg *tls.Config, wait time.Duration) *autoListener {
	a := &autoListener{Listener: l, ready: make(chan net.Conn), done: make(chan struct{})}
	go func() {
		slots := make(chan struct{}, maxPeeking)
		for {
			nc, err := l.Accept()
			if err != nil {
				if t, ok := err.(interface{ Temporary() bool }); ok && t.Temporary() {
					time.Sleep(10 * time.Millisecond)
					continue
				}
				a.err = err
				close(a.done)
				return
			}
			slots <- struct{}{}
			go func() {
				defer func() { <-slots }()
				c := peek(nc, cfg, wait)
				select {
				case a.ready <- c:
				case <-a.done:
					c.Close()
				}
			}()
		}
	}()
	return a
}

// Accept implements net.Listener.
func (a *autoListener) Accept() (net.Conn, error) {
	select {
	case c := <-a.ready:
		return c, nil
	case <-a.done:
		return nil, a.err
	}
}

// peek waits for the first byte of a connection.
func peek(nc net.Conn, cfg *tls.Config, wait time.Duration) net.Conn {
	first := make([]byte, 1)
	nc.SetReadDeadline(time.Now().Add(wait))
	n, _ := nc.Read(first) // what the error was reading again will tell
	nc.SetReadDeadline(time.Time{})
	p := &peeked{Conn: nc, first: first[:n]}
	if n == 1 && first[0] == tlsRecord {
		return tls.Server(p, cfg)
	}
	return p
}

// peeked is a connection whose first byte was read already.
type peeked struct {
	net.Conn
	first []byte
}

// Read implements net.Conn.
func (p *peeked) Read(b []byte) (int, error) {
	if n := copy(b, p.first); n > 0 {
		p.first = p.first[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

// CloseWrite ends our half, if the connection can do that.
func (p *peeked) CloseWrite() error {
	if h, ok := p.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return errors.ErrUnsupported
}
