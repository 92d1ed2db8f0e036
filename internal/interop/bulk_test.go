package interop

// Much data over TCP, and many connections, in both directions and families:
// everything that arrives is compared with what was sent.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// amounts is how much a test moves.
type amounts struct {
	discard, echo, chargen int64 // bytes
	sequential, parallel   int   // connections
	limit                  time.Duration

	// lossy: the link loses frames, so that everything is waiting more than
	// work, and goes on at the same time. A datagram is then tried again
	// after wait.
	lossy bool
	tries int
	wait  time.Duration
}

func (h *host) testTransfers(t *testing.T, a amounts) {
	h.bothWays(t, a.lossy, func(t *testing.T, s side, fam family) {
		n := a.discard
		timed(t, "discard", a, n, func(t *testing.T) { discard(t, dial(t, s, "tcp", addr(s.peer(fam), 9), a.limit), n) })
		timed(t, "echo", a, a.echo, func(t *testing.T) { echo(t, dial(t, s, "tcp", addr(s.peer(fam), 7), a.limit), a.echo) })
	})
}

func (h *host) testChargen(t *testing.T, a amounts) {
	h.bothWays(t, a.lossy, func(t *testing.T, s side, fam family) {
		n := a.chargen
		timed(t, "bytes", a, n, func(t *testing.T) { chargen(t, dial(t, s, "tcp", addr(s.peer(fam), 19), a.limit), n) })
	})
}

// timed runs a subtest that moves n bytes and logs how fast it was.
func timed(t *testing.T, name string, a amounts, n int64, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) {
		if a.lossy {
			t.Parallel()
		}
		start := time.Now()
		f(t)
		d := time.Since(start)
		t.Logf("%d MB in %v, %.0f Mbit/s", n>>20, d.Round(time.Millisecond), float64(n)*8e-6/d.Seconds())
	})
}

// stream is n bytes that never repeat and that depend on seed only.
func stream(seed byte, n int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{seed}), n)
}

// closeWriter is a TCP connection of either side.
type closeWriter interface{ CloseWrite() error }

// send writes all of r and then FIN.
func send(c net.Conn, r io.Reader) error {
	b := make([]byte, 128<<10)
	for {
		n, err := r.Read(b)
		if n > 0 {
			if _, err := c.Write(b[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return c.(closeWriter).CloseWrite()
		}
		if err != nil {
			return err
		}
	}
}

// compare reads from c until it ends, and wants what r has.
func compare(c io.Reader, r io.Reader) error {
	got, want := make([]byte, 128<<10), make([]byte, 128<<10)
	for off := 0; ; {
		n, err := c.Read(got)
		if m, _ := io.ReadFull(r, want[:n]); m < n {
			return fmt.Errorf("more bytes than the %d that were sent", off+m)
		}
		if !bytes.Equal(got[:n], want[:n]) {
			for i := range n {
				if got[i] != want[i] {
					return fmt.Errorf("byte %d is %#x, not %#x", off+i, got[i], want[i])
				}
			}
		}
		off += n
		if err == io.EOF {
			if m, _ := r.Read(want[:1]); m > 0 {
				return fmt.Errorf("the stream ended after %d bytes", off)
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("after %d bytes: %w", off, err)
		}
	}
}

// discard sends n bytes; that the service closes means that it read them all.
func discard(t *testing.T, c net.Conn, n int64) {
	t.Helper()
	if err := send(c, stream(1, n)); err != nil {
		t.Fatal(err)
	}
	if err := compare(c, stream(1, 0)); err != nil {
		t.Fatal(err)
	}
}

// echo sends n bytes and wants them back.
func echo(t *testing.T, c net.Conn, n int64) {
	t.Helper()
	sent := make(chan error, 1)
	go func() { sent <- send(c, stream(2, n)) }()
	if err := compare(c, stream(2, n)); err != nil {
		t.Error(err)
		c.Close()
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// chargenLines returns at least n bytes of the pattern of RFC 864: lines of 72
// of the 95 printing characters, each line one character further on.
func chargenLines(n int) []byte {
	var b []byte
	for line := 0; len(b) < n; line++ {
		for col := range 72 {
			b = append(b, byte(' '+(line+col)%95))
		}
		b = append(b, "\r\n"...)
	}
	return b
}

// chargen receives n bytes of the pattern and then closes.
func chargen(t *testing.T, c net.Conn, n int64) {
	t.Helper()
	const period = 95 * 74
	b := make([]byte, 128<<10)
	pattern := chargenLines(period + len(b))
	for off := int64(0); off < n; {
		m, err := c.Read(b)
		if want := pattern[off%period:]; !bytes.Equal(b[:m], want[:m]) {
			t.Fatalf("not the pattern in the %d bytes after %d", m, off)
		}
		off += int64(m)
		if err != nil {
			t.Fatalf("after %d bytes: %v", off, err)
		}
	}
}

func (h *host) testConnections(t *testing.T, a amounts) {
	h.bothWays(t, a.lossy, func(t *testing.T, s side, fam family) {
		ctx := within(t, a.limit)
		to := addr(s.peer(fam), 7)
		t.Run("sequential", func(t *testing.T) {
			for i := range a.sequential {
				if err := exchange(ctx, s, to, uint64(i)); err != nil {
					t.Fatalf("connection %d: %v", i, err)
				}
			}
		})
		t.Run("parallel", func(t *testing.T) {
			errs := make([]error, a.parallel)
			var wg sync.WaitGroup
			for i := range errs {
				wg.Go(func() { errs[i] = exchange(ctx, s, to, uint64(i)) })
			}
			wg.Wait()
			if err := errors.Join(errs...); err != nil {
				t.Fatal(err)
			}
		})
	})
}

// exchange has up to 9000 bytes echoed over a connection of its own.
func exchange(ctx context.Context, s side, to string, seed uint64) error {
	c, err := s.dial(ctx, "tcp", to)
	if err != nil {
		return err
	}
	defer c.Close()
	if end, ok := ctx.Deadline(); ok {
		c.SetDeadline(end)
	}
	n := rand.New(rand.NewPCG(seed, 0)).Int64N(9000)
	if err := send(c, stream(byte(seed), n)); err != nil {
		return err
	}
	return compare(c, stream(byte(seed), n))
}
