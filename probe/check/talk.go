package check

// This file owns what is said over a connection: TLS if it is asked for, the
// payload, and an answer that is read and examined.

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"time"
)

// talk does all that comes after the handshake, and returns what failed.
func (c *check) talk(ctx context.Context, s *conn) Failure {
	stop := context.AfterFunc(ctx, func() { s.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var stream net.Conn = s
	if c.q.TLS != nil {
		secure, f := c.secure(ctx, s)
		if f.Phase != PhaseNone {
			return f
		}
		stream = secure
	}
	if len(c.q.Payload) > 0 {
		c.limit(ctx, s)
		if _, err := stream.Write(c.q.Payload); err != nil {
			return ioFailure(PhaseSend, c.orCancelled(ctx, err))
		}
	}
	if !c.q.reads() {
		return Failure{}
	}
	c.limit(ctx, s)
	return c.receive(ctx, stream)
}

// limit gives the next step its time, unless ctx has ended.
func (c *check) limit(ctx context.Context, s *conn) {
	s.SetDeadline(time.Now().Add(c.q.timeout()))
	if ctx.Err() != nil {
		s.SetDeadline(time.Unix(1, 0)) // AfterFunc may have run before
	}
}

// orCancelled is err, or why ctx ended if that is what ended the call.
func (c *check) orCancelled(ctx context.Context, err error) error {
	if isTimeout(err) && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// receive reads the answer. Without Expect that is what one read returns, as
// it is with pyminitcp; with it the answer is read until it matches, is as long
// as it may be, or ends.
func (c *check) receive(ctx context.Context, stream net.Conn) Failure {
	b := make([]byte, c.q.readBytes())
	got := 0
	var err error
	for got < len(b) {
		var n int
		n, err = stream.Read(b[got:])
		got += n
		if err != nil || got > 0 && c.complete(b[:got]) {
			break
		}
	}
	if got > 0 {
		c.r.Answer = b[:got]
		if f := c.examine(c.r.Answer); f.Phase != PhaseNone || c.q.Expect == nil {
			return f
		}
		return Failure{}
	}
	err = c.orCancelled(ctx, err)
	switch {
	case errors.Is(err, context.Canceled):
		return ioFailure(PhaseRecv, err)
	case !c.q.requires():
		return Failure{}
	case isTimeout(err):
		return Failure{Phase: PhaseRecv, Text: textNoBanner}
	case errors.Is(err, io.EOF):
		return Failure{Phase: PhaseRecv, Text: textHungUp}
	}
	return ioFailure(PhaseRecv, err)
}

// complete reports that no more need be read.
func (c *check) complete(answer []byte) bool {
	if c.q.Expect != nil {
		return c.q.Expect.Match(answer)
	}
	if s := c.q.Service; s != nil && s.complete != nil {
		return s.complete(answer)
	}
	return true
}

// examine looks whether the answer is what was to be expected.
func (c *check) examine(answer []byte) Failure {
	if e := c.q.Expect; e != nil {
		if c.r.Match = e.Find(answer); c.r.Match == nil {
			return Failure{Phase: PhaseRecv, Text: "The answer does not match " + e.String()}
		}
		c.r.Match = bytes.Clone(c.r.Match)
	}
	if s := c.q.Service; s != nil && s.describe != nil {
		summary, err := s.describe(c.q, answer)
		c.r.Summary = summary
		if err != nil {
			return Failure{Phase: PhaseRecv, Text: "Not an answer of " + s.Name + ": " + err.Error()}
		}
	}
	return Failure{}
}
