package telnet

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/option"
)

// This file owns Conn: its making, its locks, and what it can be told to send.
//
// There is no goroutine behind a Conn. Options are negotiated by whoever reads:
// Read, Handshake, WaitFor. A server's session that neither reads nor writes
// does not learn of a new window size.
//
// Locks, in this order: the turn to read, the lock of writing, the engine's.

// ErrUnread is WaitFor's error when so much data has come meanwhile that it
// must be read first.
var ErrUnread = errors.New("telnet: too much data to wait on")

// ErrNoUrgent is Synch's error on a connection without urgent data.
var ErrNoUrgent = errors.New("telnet: the connection has no urgent data")

// Conn is one end of a telnet connection. It is a net.Conn whose bytes are the
// session's data; IAC is doubled and undoubled. Its methods may be called by
// several goroutines.
type Conn struct {
	nc     net.Conn
	cfg    *Config
	urgent Urgent
	policy policy
	server bool
	once   sync.Once   // begin
	begun  atomic.Bool // it was

	turn chan struct{} // who holds the one element reads
	rd   reader        // under turn

	wturn chan struct{} // who holds the one element writes
	wr    writer        // under wturn

	mu      sync.Mutex
	eng     *engine.Engine // under mu, as what follows
	changed chan struct{}  // closed at the next event, if somebody waits
	rerr    error          // reading has come to this
	bye     bool           // the peer wants to end the session
	gotData bool
	resized chan option.Size
	owed    int    // bytes that a failed write left
	charset string // what the peers agreed on
	ackTime *time.Timer

	rlimit, wlimit deadline

	closed sync.Once
}

var _ net.Conn = (*Conn)(nil)

// NewClientConn makes the client's end over a connection, which is the Conn's
// from now on. cfg may be nil. Nothing is sent before Handshake or Read.
func NewClientConn(nc net.Conn, cfg *Config) *Conn { return newConn(nc, cfg, engine.Client) }

// NewServerConn makes the server's end over a connection, which is the Conn's
// from now on. cfg may be nil. Nothing is sent before Handshake or Read.
func NewServerConn(nc net.Conn, cfg *Config) *Conn { return newConn(nc, cfg, engine.Server) }

func newConn(nc net.Conn, cfg *Config, role engine.Role) *Conn {
	if cfg == nil {
		cfg = &Config{}
	}
	c := &Conn{nc: nc, cfg: cfg, server: role == engine.Server, turn: make(chan struct{}, 1), wturn: make(chan struct{}, 1)}
	c.rlimit.set, c.wlimit.set = nc.SetReadDeadline, nc.SetWriteDeadline
	switch {
	case cfg.Passive:
		c.policy = passive{}
	case role == engine.Server:
		c.policy = &serverPolicy{cfg: cfg}
	default:
		c.policy = clientPolicy{}
	}
	under := nc
	if s, ok := nc.(*session); ok {
		under = s.Conn
	}
	_, isTLS := under.(*tls.Conn)
	ec := engine.Config{Role: role, Options: cfg.options(role, isTLS), Limits: cfg.Limits, Accept: cfg.Accept, Watch: c.policy.watch}
	if cfg.Trace != nil {
		ec.Trace = func(sent bool, cmd engine.Command, code engine.Code, content []byte) {
			cfg.Trace(c, sent, cmd, code, content)
		}
	}
	c.eng = engine.New(ec)
	if u, ok := under.(Urgent); ok {
		c.urgent = u
	} else if cfg.Urgent != nil {
		c.urgent = cfg.Urgent(under)
	}
	if c.urgent != nil && c.urgent.SetOOBInline(true) != nil {
		c.urgent = nil
	}
	return c
}

// begin sends what this end says first, once; not longer than ctx.
func (c *Conn) begin(ctx context.Context) {
	began := false
	c.once.Do(func() {
		began = true
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, a := range c.cfg.Enable {
			c.eng.Enable(a.Side, a.Code)
		}
		c.policy.begin(c.eng)
		c.begun.Store(true)
	})
	if began {
		c.flush(ctx, true)
	}
}

// Update calls f with the engine, under its lock, and sends what f made it say.
// f must not call methods of the Conn. It is how options are used that have no
// method here. The error is that of sending.
func (c *Conn) Update(f func(e *engine.Engine)) error {
	c.mu.Lock()
	f(c.eng)
	c.armAck()
	c.wakeLocked()
	c.mu.Unlock()
	return c.flush(context.Background(), true)
}

// View calls f with the engine, under its lock. f must not change it.
func (c *Conn) View(f func(e *engine.Engine)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(c.eng)
}

// Enable asks for an option, of Us or Him.
func (c *Conn) Enable(side engine.Side, code engine.Code) error {
	return c.Update(func(e *engine.Engine) { e.Enable(side, code) })
}

// Disable turns an option off.
func (c *Conn) Disable(side engine.Side, code engine.Code) error {
	return c.Update(func(e *engine.Engine) { e.Disable(side, code) })
}

// On reports whether an option is on for a side.
func (c *Conn) On(side engine.Side, code engine.Code) (on bool) {
	c.View(func(e *engine.Engine) { on = e.On(side, code) })
	return on
}

// armAck makes what waits behind an acknowledgement go on without it, some
// time later.
func (c *Conn) armAck() {
	if c.ackTime != nil || !c.eng.Overdue() {
		return
	}
	c.ackTime = time.AfterFunc(c.cfg.ackWait(), func() {
		c.mu.Lock()
		c.ackTime = nil
		c.eng.Collapse()
		c.wakeLocked()
		c.mu.Unlock()
		c.flush(context.Background(), false)
	})
}

// wakeLocked wakes those who wait for a condition.
func (c *Conn) wakeLocked() {
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// SendCommand sends a command of one byte: AYT, IP, BRK, ...
func (c *Conn) SendCommand(cmd engine.Command) error {
	return c.Update(func(e *engine.Engine) { e.Command(cmd) })
}

// Subnegotiate sends a subnegotiation.
func (c *Conn) Subnegotiate(code engine.Code, content []byte) error {
	return c.Update(func(e *engine.Engine) { e.Subneg(code, content) })
}

// GoAhead tells that it is the peer's turn, after a prompt: by EOR if the peer
// asked for that (RFC 885), else by GA unless he asked for none (RFC 858).
func (c *Conn) GoAhead() error {
	if c.cfg.NeverGA {
		return nil
	}
	return c.Update(func(e *engine.Engine) {
		switch {
		case e.On(engine.Us, engine.EOR):
			e.Command(engine.EORMark)
		case !e.On(engine.Us, engine.SGA):
			e.Command(engine.GA)
		}
	})
}

// EndOfRecord sends the mark of RFC 885 if the peer asked for such; false if he
// did not.
func (c *Conn) EndOfRecord() (sent bool, err error) {
	err = c.Update(func(e *engine.Engine) {
		if sent = e.On(engine.Us, engine.EOR); sent {
			e.Command(engine.EORMark)
		}
	})
	return sent, err
}

// Synch makes the peer throw away the data that he has not read, up to here
// (RFC 854): IAC DM, of which the DM is urgent. Without urgent data the mark
// would have no effect; then the error is ErrNoUrgent.
func (c *Conn) Synch() error {
	return c.synch(context.Background())
}

func (c *Conn) synch(ctx context.Context) error {
	if c.urgent == nil {
		return ErrNoUrgent
	}
	if err := c.takeTurn(ctx); err != nil {
		return err
	}
	err := c.writing(ctx, c.synchLocked)
	if err == nil && c.unsent() { // others may have found the turn taken
		err = c.flush(ctx, false)
	}
	return err
}

func (c *Conn) synchLocked() error {
	if err := c.flushLocked(); err != nil {
		return err
	}
	c.mu.Lock()
	c.eng.Command(engine.DM)
	mark := c.eng.Take()
	c.mu.Unlock()
	n, err := c.urgent.WriteUrgent(mark)
	c.cfg.Record.out(mark[:n])
	if err != nil {
		c.wr.tail = append(c.wr.tail, mark[n:]...)
	}
	return err
}

// Echo writes what was typed back, if that is ours to do: if ECHO is on.
func (c *Conn) Echo(b []byte) error {
	if !c.On(engine.Us, engine.Echo) {
		return nil
	}
	_, err := c.Write(b)
	return err
}

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.nc.LocalAddr() }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// NetConn returns the connection underneath. What is read from or written to it
// past the Conn breaks the session.
func (c *Conn) NetConn() net.Conn { return c.nc }

// Close implements net.Conn.
func (c *Conn) Close() error {
	err := net.ErrClosed
	c.closed.Do(func() {
		err = c.nc.Close()
		c.mu.Lock()
		if c.rerr == nil {
			c.rerr = net.ErrClosed
		}
		if c.ackTime != nil {
			c.ackTime.Stop()
		}
		c.wakeLocked()
		c.eng.Close()
		c.mu.Unlock()
	})
	return err
}

// CloseWrite sends what is to be sent and ends our half of the connection: the
// peer reads to the end, and may go on to talk. Nobody should be writing. The error is errors.ErrUnsupported
// if the connection underneath cannot do that.
func (c *Conn) CloseWrite() error {
	if err := c.Update(func(*engine.Engine) {}); err != nil {
		return err
	}
	nc := c.nc
	if s, ok := nc.(*session); ok {
		nc = s.Conn
	}
	h, ok := nc.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return h.CloseWrite()
}

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	return c.rlimit.change(t)
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.wlimit.change(t) }

// deadline is that of a connection's reads or writes: the caller's, which is set
// aside while a context ends what is under way.
type deadline struct {
	set    func(time.Time) error
	mu     sync.Mutex
	at     time.Time
	broken bool
	over   func()      // of the context that ends with it
	timer  *time.Timer // which calls over
}

func (d *deadline) change(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at = t
	d.arm()
	if d.broken {
		return nil
	}
	return d.set(t)
}

// arm makes over follow the deadline.
func (d *deadline) arm() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.over != nil && !d.at.IsZero() {
		d.timer = time.AfterFunc(time.Until(d.at), d.over)
	}
}

// context is ctx, but over at the deadline, as that is changed meanwhile, until
// the function that it returns is called. It is for one at a time.
func (d *deadline) context(ctx context.Context) (limited context.Context, done func()) {
	limited, cancel := context.WithCancelCause(ctx)
	over := func(f func()) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.over = f
		d.arm()
	}
	over(func() { cancel(os.ErrDeadlineExceeded) })
	return limited, func() {
		over(nil)
		cancel(nil)
	}
}

// within makes reads, or writes, end when ctx does, until the function that it
// returns is called.
func (d *deadline) within(ctx context.Context) (done func()) {
	if ctx.Done() == nil {
		return func() {}
	}
	over := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(over)
		d.mu.Lock()
		defer d.mu.Unlock()
		d.broken = true
		d.set(time.Unix(1, 0))
	})
	return func() {
		if stop() {
			return
		}
		<-over
		d.mu.Lock()
		defer d.mu.Unlock()
		d.broken = false
		d.set(d.at)
	}
}
