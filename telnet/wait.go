package telnet

import (
	"context"
	"errors"

	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/option"
)

// This file owns waiting for the peer: the beginning of a session, and
// conditions on its options.

// Cond is a condition on a session. It is called under the engine's lock.
type Cond func(e *engine.Engine) bool

// Remote is the condition that the peer performs an option.
func Remote(code engine.Code) Cond {
	return func(e *engine.Engine) bool { return e.On(engine.Him, code) }
}

// Local is the condition that we perform an option.
func Local(code engine.Code) Cond {
	return func(e *engine.Engine) bool { return e.On(engine.Us, code) }
}

// Settled is the condition that nothing was asked about an option that is not
// answered.
func Settled(code engine.Code) Cond {
	return func(e *engine.Engine) bool {
		return !waits(e.State(engine.Us, code)) && !waits(e.State(engine.Him, code))
	}
}

func waits(s engine.State) bool {
	return s == engine.WantYes || s == engine.WantYesOpposite || s == engine.WantNoOpposite
}

// Not is the condition that another one does not hold.
func Not(cond Cond) Cond { return func(e *engine.Engine) bool { return !cond(e) } }

// InMode is the condition that lines are edited in a way.
func InMode(m LineMode) Cond { return func(e *engine.Engine) bool { return lineMode(e) == m } }

// HasSize is the condition that the window's size is known.
func HasSize(e *engine.Engine) bool {
	w, ok := e.Option(engine.NAWS).(*option.Window)
	return ok && w.Size != option.Size{}
}

// HasTerm is the condition that the terminal's type is known.
func HasTerm(e *engine.Engine) bool {
	t, ok := e.Option(engine.TType).(*option.TType)
	return ok && t.Term() != ""
}

// Handshake begins the session and returns when the peers have come to terms,
// at the latest after Config.MaxWait: a peer that does not negotiate, or leaves
// something open, is no error. Data that comes meanwhile is for Read. Errors:
// ctx's, and those of the connection when there is not even data.
func (c *Conn) Handshake(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, c.cfg.maxWait())
	defer cancel()
	c.begin(limited)
	err := c.wait(limited, func(e *engine.Engine) bool {
		return c.policy.done(e) || !c.server && c.gotData || c.bye
	})
	switch {
	case err == nil, errors.Is(err, ErrUnread):
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case limited.Err() != nil:
		return nil
	case c.Buffered() > 0:
		return nil // Read tells the rest
	}
	return err
}

// WaitFor returns when all conditions hold. Data that comes meanwhile is for
// Read; when there is more than Config.MaxLine of it the error is ErrUnread.
// Other errors: ctx's, the connection's, os.ErrDeadlineExceeded.
func (c *Conn) WaitFor(ctx context.Context, conds ...Cond) error {
	c.begin(ctx)
	return c.wait(ctx, func(e *engine.Engine) bool {
		for _, cond := range conds {
			if !cond(e) {
				return false
			}
		}
		return true
	})
}

func (c *Conn) wait(ctx context.Context, cond Cond) error {
	for {
		c.mu.Lock()
		ok, err := cond(c.eng), c.rerr
		if c.changed == nil {
			c.changed = make(chan struct{})
		}
		changed := c.changed
		c.mu.Unlock()
		switch {
		case ok:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
		case c.turn <- struct{}{}: // nobody else reads
			err := c.readFor(ctx, cond)
			<-c.turn
			if err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

// readFor reads once, unless the condition holds by now.
func (c *Conn) readFor(ctx context.Context, cond Cond) error {
	r := &c.rd
	r.ctx = ctx
	defer func() { r.ctx = nil }()
	c.mu.Lock()
	ok := cond(c.eng)
	c.mu.Unlock()
	if ok {
		return nil
	}
	if err := c.pay(); err != nil {
		return err
	}
	switch {
	case len(r.backlog) >= c.cfg.maxLine():
		return ErrUnread
	case r.more:
		c.decode(nil, false)
	case r.err != nil:
		return r.err
	default:
		if _, err := c.fill(nil); err != nil {
			return err
		}
	}
	c.tell(len(r.held))
	return r.err
}
