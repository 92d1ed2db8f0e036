package expect

import (
	"context"
	"errors"
	"io"
)

// This file owns handing the dialogue to somebody else.

// Interact shows out what is received and sends what comes from in, until the
// stream ends, which is no error, or ctx does; the end of in ends nothing. A read
// of in that is under way then goes on until in gives something, which is lost.
func (e *Expecter) Interact(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := in.Read(b)
			if ctx.Err() != nil {
				return
			}
			if n > 0 {
				if _, err := e.rw.Write(b[:n]); err != nil {
					cancel(err)
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	for {
		if len(e.buf) > 0 {
			if _, err := out.Write(e.buf); err != nil {
				return err
			}
			e.buf = nil
		}
		if err := e.err; err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := e.more(ctx); err != nil && len(e.mem) == 0 {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		e.take()
	}
}
