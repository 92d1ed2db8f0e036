package telnet

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// This file owns what can be put around a Handler.

// Middleware makes a Handler of another one.
type Middleware func(Handler) Handler

// Chain puts middleware around a Handler; the first is the outermost.
func Chain(h Handler, m ...Middleware) Handler {
	for i := len(m) - 1; i >= 0; i-- {
		h = m[i](h)
	}
	return h
}

// WithLog logs when sessions begin and end.
func WithLog(log *slog.Logger) Middleware {
	return func(h Handler) Handler {
		return HandlerFunc(func(ctx context.Context, c *Conn) {
			start, i := time.Now(), c.Info()
			// What the peer says is quoted by slog's handlers.
			log.Info("telnet: session", "peer", c.RemoteAddr().String(), "term", i.Term, "cols", i.Size.Cols, "rows", i.Size.Rows,
				"charset", i.Charset, "mode", i.Mode.String())
			defer func() {
				log.Info("telnet: session over", "peer", c.RemoteAddr().String(), "duration", time.Since(start))
			}()
			h.ServeTELNET(ctx, c)
		})
	}
}

// WithLimit serves at most n sessions at a time by the handler, the others by
// busy.
func WithLimit(n int, busy Handler) Middleware {
	slots := make(chan struct{}, n)
	return func(h Handler) Handler {
		return HandlerFunc(func(ctx context.Context, c *Conn) {
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
				h.ServeTELNET(ctx, c)
			default:
				busy.ServeTELNET(ctx, c)
			}
		})
	}
}

// WithMaxDuration ends sessions after d.
func WithMaxDuration(d time.Duration) Middleware {
	return func(h Handler) Handler {
		return HandlerFunc(func(ctx context.Context, c *Conn) {
			ctx, cancel := context.WithTimeout(ctx, d)
			defer cancel()
			defer context.AfterFunc(ctx, func() {
				if errors.Is(ctx.Err(), context.DeadlineExceeded) {
					c.SetDeadline(time.Unix(1, 0))
				}
			})()
			h.ServeTELNET(ctx, c)
		})
	}
}
