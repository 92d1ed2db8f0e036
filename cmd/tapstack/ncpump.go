package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/tapstack/tapstack/socket"
)

// This file owns what happens on a connection of nc: two directions, each of
// which ends by itself, and netcat's rules for when that is the end of both.

const (
	ncBuffer = 64 << 10
	// lull is how long a listener whose peer has ended waits for more input.
	// Netcat's does not, and so loses what it has not sent yet when a client has
	// said all and listens.
	lull = 250 * time.Millisecond
	// flushWait is how long bytes that were written may take to be acknowledged
	// when we end first.
	flushWait = time.Minute
)

// ncInput is standard input, which goes on from one connection to the next. It
// is read by one goroutine, a piece ahead of what is sent.
type ncInput struct {
	pieces chan []byte // closed at its end
}

func newNCInput(f *os.File, o *ncOptions) *ncInput {
	in := &ncInput{pieces: make(chan []byte)}
	if o.noStdin || o.scan {
		close(in.pieces)
		return in
	}
	go func() {
		defer close(in.pieces)
		last := byte(0)
		for {
			b := make([]byte, ncBuffer)
			k, err := f.Read(b)
			if b = b[:k]; k > 0 {
				if o.crlf {
					b, last = crlf(b, last), b[k-1]
				}
				in.pieces <- b // until somebody takes it, or the program ends
			}
			if err != nil {
				return // an error is an end, too
			}
		}
	}()
	return in
}

// crlf puts a CR before each LF that has none; last is the byte before b.
func crlf(b []byte, last byte) []byte {
	out := make([]byte, 0, len(b)+bytes.Count(b, []byte{'\n'}))
	for _, c := range b {
		if c == '\n' && last != '\r' {
			out = append(out, '\r')
		}
		out = append(out, c)
		last = c
	}
	return out
}

// pump moves bytes between a connection and standard input and output until it
// is over, and closes it.
func (n *netcat) pump(ctx context.Context, s socket.Berkeley) {
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	moved := make(chan struct{}, 1) // a token when something has
	stir := func() {
		select {
		case moved <- struct{}{}:
		default:
		}
	}
	over := make(chan struct{})
	defer close(over)
	received, sent := make(chan bool, 1), make(chan bool, 1)
	var sending atomic.Bool
	go func() { received <- n.receive(s, stir) }()
	go func() { sent <- n.transmit(s, &sending, stir, over) }()

	var idle, quit *time.Timer
	var idleC, quitC, lullC <-chan time.Time
	if n.timeout > 0 && !n.listen { // as netcat: a listener has no timeouts
		idle = time.NewTimer(time.Duration(n.timeout))
		defer idle.Stop()
		idleC = idle.C
	}
	// What is still going on, and whether it could.
	in, out := true, true
	for in || out {
		select {
		case good := <-received:
			if in = false; !good {
				out = false // a reset
			} else if n.listen {
				lullC = time.After(lull)
			}
		case good := <-sent:
			out = false
			if good && n.shutdown && !n.udp {
				_ = s.Shutdown(socket.SHUT_WR) // the peer may have reset it
			}
			if good && n.quit.set {
				quit = time.NewTimer(n.quit.d)
				defer quit.Stop()
				quitC = quit.C
			}
		case <-moved:
			if idle != nil {
				idle.Reset(time.Duration(n.timeout))
			}
			if lullC != nil {
				lullC = time.After(lull)
			}
		case <-lullC:
			if out = sending.Load(); out {
				lullC = time.After(lull) // it is the peer who is slow
			}
		case <-idleC:
			s.Close() // whoever does nothing for so long does not acknowledge either
			return
		case <-quitC:
			in, out = false, false
		case <-ctx.Done():
			return
		}
	}
	n.flush(ctx, s)
	s.Close()
}

// receive writes what comes to standard output, to the end of the stream. It
// reports whether that was one, and no error.
func (n *netcat) receive(s socket.Berkeley, stir func()) bool {
	b := make([]byte, ncBuffer)
	for count := 0; ; {
		k, err := s.Recv(b, 0)
		if err != nil {
			return err == io.EOF
		}
		if k == 0 && !n.udp {
			return true
		}
		stir()
		if _, err := n.out.Write(b[:k]); err != nil {
			return false // nobody wants it
		}
		if count++; n.recvLimit > 0 && count >= n.recvLimit {
			return false
		}
	}
}

// transmit sends what standard input has, and reports whether that ended it.
func (n *netcat) transmit(s socket.Berkeley, sending *atomic.Bool, stir func(), over <-chan struct{}) bool {
	for {
		select {
		case b, ok := <-n.stdin.pieces:
			if !ok {
				return true
			}
			sending.Store(true)
			for len(b) > 0 {
				piece := b
				if n.udp {
					piece = b[:min(len(b), 16<<10)] // netcat's buffer
				}
				k, err := s.Send(piece, 0)
				if err != nil {
					return false
				}
				b = b[k:]
				stir()
			}
			sending.Store(false)
		case <-over:
			return false
		}
	}
}

// flush waits until what was sent is acknowledged, where the end of the program
// would otherwise take it along.
func (n *netcat) flush(ctx context.Context, s socket.Berkeley) {
	if n.udp || !n.own {
		return // the kernel goes on without us
	}
	for end := time.Now().Add(flushWait); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
		if left, err := s.Ioctl(socket.SIOCOUTQ); err != nil || left == 0 {
			return
		}
	}
}
