package expect

import (
	"context"
	"errors"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// rw makes a stream without deadlines.
type rw struct {
	io.Reader
	io.Writer
}

func TestDialogue(t *testing.T) {
	for _, deadlines := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			a, b := net.Pipe()
			go func() {
				defer b.Close()
				io.WriteString(b, "Welcome\r\nlog")
				io.WriteString(b, "in: ")
				buf := make([]byte, 100)
				n, _ := b.Read(buf)
				io.WriteString(b, "hello "+string(buf[:n])+"$ rest")
			}()
			var stream io.ReadWriter = a
			if !deadlines {
				stream = rw{a, a}
			}
			var log strings.Builder
			e := New(stream)
			e.Log = &log
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			m, err := e.Expect(ctx, regexp.MustCompile(`Password: `), regexp.MustCompile(`(lo)(gin): `))
			if err != nil || m.Index != 1 || m.Before != "Welcome\r\n" || strings.Join(m.Groups, "|") != "login: |lo|gin" {
				t.Fatalf("%+v %v", m, err)
			}
			if err := e.SendLine("me"); err != nil {
				t.Fatal(err)
			}
			if s, err := e.ReadUntil(ctx, "$ "); s != "hello me\r\n$ " || err != nil {
				t.Fatalf("%q %v", s, err)
			}
			if s, err := e.ReadAll(ctx); s != "rest" || err != nil {
				t.Errorf("%q %v", s, err)
			}
			_, err = e.ReadUntil(ctx, "more")
			var ee *Error
			if !errors.As(err, &ee) || !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
				t.Error(err)
			}
			if log.String() != "Welcome\r\nlogin: hello me\r\n$ rest" {
				t.Errorf("log %q", log.String())
			}
		})
	}
}

// TestPartial: a wait that ends without a match says what there was, and the
// next one has it.
func TestPartial(t *testing.T) {
	for _, deadlines := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			a, b := net.Pipe()
			defer a.Close()
			defer b.Close()
			var stream io.ReadWriter = a
			if !deadlines {
				stream = rw{a, a}
			}
			e := New(stream)
			go io.WriteString(b, "half")
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
			defer cancel()
			_, err := e.Expect(ctx, regexp.MustCompile(`halfway`))
			var ee *Error
			if !errors.As(err, &ee) || ee.Text != "half" || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "half") {
				t.Fatal(err)
			}
			go io.WriteString(b, "way there")
			long, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			if m, err := e.Expect(long, regexp.MustCompile(`halfway`)); err != nil || m.Groups[0] != "halfway" {
				t.Error(m, err)
			}
			if s := e.Drain(10 * time.Millisecond); s != " there" || e.Buffered() != "" {
				t.Errorf("%q", s)
			}
		})
	}
}

func TestTooMuch(t *testing.T) {
	e := New(rw{strings.NewReader(strings.Repeat("x", 100000)), io.Discard})
	e.Max = 5000
	if _, err := e.ReadUntil(context.Background(), "y"); !errors.Is(err, ErrTooMuch) || len(e.Buffered()) > 10000 {
		t.Error(err, len(e.Buffered()))
	}
}

// TestInteract: what is left of the dialogue is shown first, then both ways
// until one end is reached.
func TestInteract(t *testing.T) {
	for _, deadlines := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			a, b := net.Pipe()
			var stream io.ReadWriter = a
			if !deadlines {
				stream = rw{a, a}
			}
			go func() {
				io.WriteString(b, "login: more ")
				buf := make([]byte, 100)
				n, _ := b.Read(buf)
				io.WriteString(b, "said "+string(buf[:n]))
				b.Close()
			}()
			e := New(stream)
			if _, err := e.ReadUntil(context.Background(), "login: "); err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			if err := e.Interact(context.Background(), strings.NewReader("hello"), &out); err != nil || out.String() != "more said hello" {
				t.Errorf("%q %v", out.String(), err)
			}
			a, b = net.Pipe()
			defer b.Close()
			e = New(a)
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
			defer cancel()
			if err := e.Interact(ctx, strings.NewReader(""), io.Discard); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
	}
}
