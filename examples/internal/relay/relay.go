// Package relay is what the examples that stand between two hosts share: a
// loop that accepts a limited number of connections, and a copy between two
// connections that keeps half-close. It wants only what package net has too,
// so either side may be the stack's or the kernel's.
package relay

import (
	"context"
	"io"
	"net"
	"sync"
)

// Serve calls handle, on a goroutine of its own, for each connection that ln
// accepts, and closes the connection when handle returns. While limit
// connections are open no more are accepted: they wait in the listener's
// queue. When ctx ends or the listener fails, listener and connections are
// closed; Serve returns when every handle has.
func Serve(ctx context.Context, ln net.Listener, limit int, handle func(net.Conn)) error {
	var handlers sync.WaitGroup
	defer handlers.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer ln.Close()
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	slots := make(chan struct{}, limit)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		handlers.Go(func() {
			defer func() { <-slots }()
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			handle(conn)
		})
	}
}

// Both copies from a to b and from b to a, until both have said that they are
// done; the end of one direction is passed on as such (FIN) and leaves the
// other alone. When a direction breaks, both connections are reset, so that
// neither peer takes what it has for the whole. It returns how much went each
// way and what broke first. The connections are the caller's to close.
func Both(a, b net.Conn) (there, back int64, err error) {
	type result struct {
		n   int64
		err error
	}
	copyBack := make(chan result, 1)
	var once sync.Once
	oneWay := func(dst, src net.Conn) result {
		n, err := io.Copy(dst, src)
		if err == nil {
			err = closeWrite(dst)
		}
		if err != nil {
			once.Do(func() { Reset(a); Reset(b) })
		}
		return result{n, err}
	}
	broken := make(chan error, 2)
	go func() {
		r := oneWay(a, b)
		broken <- r.err
		copyBack <- r
	}()
	r := oneWay(b, a)
	broken <- r.err
	back = (<-copyBack).n
	// The direction that broke first is the one to tell of: the reset has
	// broken the other.
	if err = <-broken; err == nil {
		err = <-broken
	}
	return r.n, back, err
}

// closeWrite tells the peer of c that no more will come. A connection that
// cannot end by halves goes on until the other direction has ended too.
func closeWrite(c net.Conn) error {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return nil
}

// Reset closes c so that its peer sees a broken connection (RST) and not the
// end of a stream.
func Reset(c net.Conn) {
	if l, ok := c.(interface{ SetLinger(int) error }); ok {
		_ = l.SetLinger(0) // if it fails, c is already closed
	}
	_ = c.Close() // once it is reset, no error tells more
}
