package telnet

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// This file owns Server, in the shape of that of net/http.

// ErrServerClosed is Serve's error after Shutdown and Close.
var ErrServerClosed = errors.New("telnet: Server closed")

// Handler serves a session. The Conn is closed when it returns; ctx ends when
// the server is shut down by Close.
type Handler interface {
	ServeTELNET(ctx context.Context, c *Conn)
}

// HandlerFunc is a function as a Handler.
type HandlerFunc func(ctx context.Context, c *Conn)

// ServeTELNET calls f.
func (f HandlerFunc) ServeTELNET(ctx context.Context, c *Conn) { f(ctx, c) }

// Server serves telnet. Its fields must not change once it serves.
type Server struct {
	Handler Handler
	Config  *Config // nil: the zero Config
	// MaxConns bounds the sessions at a time; those beyond it get Busy and are
	// closed. 0: no bound.
	MaxConns int
	Busy     string
	// IdleTimeout ends a session in which nothing was received for so long,
	// with "Timeout." 0: never.
	IdleTimeout time.Duration
	// TLSConfig is what ServeTLS uses.
	TLSConfig *tls.Config
	Logger    *slog.Logger // nil: slog.Default

	mu        sync.Mutex
	listeners map[net.Listener]bool
	conns     map[*session]bool
	down      bool
	ctx       context.Context
	cancel    context.CancelFunc
	wg        sync.WaitGroup

	accepted, refused, timedOut, panicked atomic.Uint64
	refusing                              atomic.Int64 // at the moment
}

// session is a connection with what the server watches about it.
type session struct {
	net.Conn
	s      *Server
	c      *Conn
	since  time.Time
	heard  atomic.Int64 // when something was received last, in ns since since
	in     atomic.Uint64
	out    atomic.Uint64
	timer  *time.Timer
	closed atomic.Bool
}

// ConnInfo is what Conns tells of a session.
type ConnInfo struct {
	Conn    *Conn
	Since   time.Time
	Idle    time.Duration
	In, Out uint64 // bytes on the wire
}

// ServerStats is what a Server has counted.
type ServerStats struct {
	Open                                  int
	Accepted, Refused, TimedOut, Panicked uint64
}

// Serve accepts connections and serves each on a goroutine of its own, until
// Shutdown or Close; then the error is ErrServerClosed. A listener's error that
// is a timeout or temporary ends nothing.
func (s *Server) Serve(l net.Listener) error {
	if !s.track(l) {
		l.Close()
		return ErrServerClosed
	}
	defer func() {
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
		l.Close()
	}()
	delay := time.Duration(0)
	for {
		nc, err := l.Accept()
		s.mu.Lock()
		down, ctx := s.down, s.ctx
		s.mu.Unlock()
		switch {
		case err == nil:
			delay = 0
			if x, ctx := s.admit(nc); x != nil {
				go s.serve(ctx, x)
			}
			continue
		case down:
			return ErrServerClosed
		case !passing(err):
			return err
		}
		delay = min(max(2*delay, 5*time.Millisecond), time.Second)
		s.log().Warn("telnet: accept", "err", err, "again", delay)
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
	}
}

// passing reports whether a listener may recover from an error.
func passing(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

// ServeTLS is Serve with TLS from the first byte (TELNETS), by TLSConfig.
func (s *Server) ServeTLS(l net.Listener) error {
	if s.TLSConfig == nil {
		return errors.New("telnet: no TLSConfig")
	}
	return s.Serve(tls.NewListener(l, s.TLSConfig))
}

func (s *Server) track(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return false
	}
	s.prepare()
	s.listeners[l] = true
	return true
}

// prepare makes what the zero Server lacks, under its lock.
func (s *Server) prepare() {
	if s.conns == nil {
		s.listeners = make(map[net.Listener]bool)
		s.conns = make(map[*session]bool)
		s.ctx, s.cancel = context.WithCancel(context.Background())
	}
}

func (s *Server) log() *slog.Logger {
	if s.Logger != nil {
		return s.Logger
	}
	return slog.Default()
}

// ServeConn serves a connection that somebody else has accepted, within the
// server's limits, and returns when the session is over.
func (s *Server) ServeConn(nc net.Conn) {
	if x, ctx := s.admit(nc); x != nil {
		s.serve(ctx, x)
	}
}

// admit makes a session of a connection; nil if there is no place for it.
func (s *Server) admit(nc net.Conn) (*session, context.Context) {
	x := &session{Conn: nc, s: s, since: time.Now()}
	s.mu.Lock()
	s.prepare()
	ctx, down := s.ctx, s.down
	full := s.MaxConns > 0 && len(s.conns) >= s.MaxConns
	if !full && !down {
		s.conns[x] = true
		s.wg.Add(1)
	}
	s.mu.Unlock()
	switch {
	case down:
		nc.Close()
		return nil, nil
	case full:
		s.refuse(nc)
		return nil, nil
	}
	cfg := s.Config
	if cfg == nil {
		cfg = &Config{}
	}
	c := NewServerConn(x, cfg)
	s.mu.Lock()
	x.c = c
	s.mu.Unlock()
	s.accepted.Add(1)
	return x, ctx
}

// maxRefusing bounds those who are being told that there is no place. More are
// told nothing.
const maxRefusing = 64

// refuse closes a connection, with a word about why.
func (s *Server) refuse(nc net.Conn) {
	s.refused.Add(1)
	if s.refusing.Add(1) > maxRefusing {
		s.refusing.Add(-1)
		nc.Close()
		return
	}
	go func() { // it may not read, nor say what TLS waits for
		defer s.refusing.Add(-1)
		nc.SetDeadline(time.Now().Add(time.Second))
		io.WriteString(nc, s.Busy)
		nc.Close()
	}()
}

func (s *Server) serve(ctx context.Context, x *session) {
	log := s.log().With("peer", x.RemoteAddr().String())
	if s.IdleTimeout > 0 {
		x.timer = time.AfterFunc(time.Hour, x.idle) // which reads x.timer
		x.timer.Reset(s.IdleTimeout)
	}
	defer func() {
		if p := recover(); p != nil {
			s.panicked.Add(1)
			log.Error("telnet: panic in the handler", "panic", p, "stack", string(debug.Stack()))
		}
		x.closed.Store(true)
		if x.timer != nil {
			x.timer.Stop()
		}
		x.linger()
		x.c.Close()
		s.mu.Lock()
		delete(s.conns, x)
		s.mu.Unlock()
		log.Debug("telnet: session over", "duration", time.Since(x.since), "in", x.in.Load(), "out", x.out.Load())
		s.wg.Done()
	}()
	if t, ok := x.Conn.(*tls.Conn); ok { // not within MaxWait: it could not be taken up again
		limited, cancel := context.WithTimeout(ctx, tlsWait)
		err := t.HandshakeContext(limited)
		cancel()
		if err != nil {
			log.Debug("telnet: TLS", "err", err)
			return
		}
	}
	if err := x.c.Handshake(ctx); err != nil {
		log.Debug("telnet: handshake", "err", err)
		return
	}
	s.Handler.ServeTELNET(ctx, x.c)
}

// tlsWait is how long TLS's own handshake may take.
const tlsWait = 10 * time.Second

// lingering is how long a session's end waits for the peer's.
const lingering = 500 * time.Millisecond

// linger ends our half and reads what the peer still sends: to close with bytes
// unread, as answers to what was negotiated last, resets the connection, and
// then the peer may lose our last words.
func (x *session) linger() {
	h, ok := x.Conn.(interface{ CloseWrite() error })
	if !ok || h.CloseWrite() != nil {
		return
	}
	x.Conn.SetReadDeadline(time.Now().Add(lingering))
	io.Copy(io.Discard, io.LimitReader(x.Conn, 1<<20))
}

// idle is called when nothing may have been received for too long.
func (x *session) idle() {
	quiet := time.Since(x.since) - time.Duration(x.heard.Load())
	if left := x.s.IdleTimeout - quiet; left > 0 || x.closed.Load() {
		if !x.closed.Load() {
			x.timer.Reset(left)
		}
		return
	}
	x.s.timedOut.Add(1)
	x.c.SetWriteDeadline(time.Now().Add(time.Second))
	io.WriteString(x.c, "\r\nTimeout.\r\n")
	x.c.Close()
}

// Read implements net.Conn.
func (x *session) Read(p []byte) (int, error) {
	n, err := x.Conn.Read(p)
	if n > 0 {
		if _, isTLS := x.Conn.(*tls.Conn); x.in.Load() == 0 && !isTLS && isClientHello(p[:n]) {
			x.s.log().Info("telnet: a client speaks TLS, and this port does not", "peer", x.RemoteAddr().String())
			x.in.Add(uint64(n))
			return 0, io.EOF
		}
		x.in.Add(uint64(n))
		x.heard.Store(int64(time.Since(x.since)))
	}
	return n, err
}

// isClientHello reports whether b begins TLS: a record of the handshake (RFC 8446
// §5.1) with a ClientHello in it. It would be noise to whatever is served.
func isClientHello(b []byte) bool {
	return len(b) > 5 && b[0] == 0x16 && b[1] == 3 && b[5] == 1
}

// Write implements net.Conn.
func (x *session) Write(p []byte) (int, error) {
	n, err := x.Conn.Write(p)
	x.out.Add(uint64(n))
	return n, err
}

// Conns returns the sessions there are.
func (s *Server) Conns() []ConnInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]ConnInfo, 0, len(s.conns))
	for x := range s.conns {
		if x.c != nil { // it is being made
			list = append(list, x.info())
		}
	}
	return list
}

// Served is what the Server tells of the session; false if there is none behind
// the Conn.
func (c *Conn) Served() (ConnInfo, bool) {
	x, ok := c.nc.(*session)
	if !ok {
		return ConnInfo{}, false
	}
	return x.info(), true
}

func (x *session) info() ConnInfo {
	return ConnInfo{x.c, x.since, time.Since(x.since) - time.Duration(x.heard.Load()), x.in.Load(), x.out.Load()}
}

// Stats returns what was counted.
func (s *Server) Stats() ServerStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ServerStats{len(s.conns), s.accepted.Load(), s.refused.Load(), s.timedOut.Load(), s.panicked.Load()}
}

func (s *Server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = true
	for l := range s.listeners {
		l.Close()
	}
}

// Shutdown stops accepting and waits until the sessions are over, or ctx is:
// then its error is returned, and they go on.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	over := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(over)
	}()
	select {
	case <-over:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close stops accepting and ends all sessions.
func (s *Server) Close() error {
	s.stop()
	s.mu.Lock()
	if s.cancel != nil {
		s.cancel()
	}
	var open []net.Conn
	for x := range s.conns {
		open = append(open, x.Conn)
	}
	s.mu.Unlock()
	for _, nc := range open {
		nc.Close()
	}
	return nil
}

// IsTimeout reports whether err is that of a deadline.
func IsTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
