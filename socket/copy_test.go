package socket_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/socket"
)

// proxied is a client and a server, and between them a proxy of two
// connections: client - front, back - server.
type proxied struct{ client, front, back, server *socket.Conn }

func newProxied(t *testing.T, p *pair) (x proxied) {
	c1, c2, _, err := conns(t, p.na, p.nb, "tcp", "10.77.0.2:7")
	must(t, err)
	c3, c4, _, err := conns(t, p.nb, p.na, "tcp", "10.77.0.1:8")
	must(t, err)
	x = proxied{c1.(*socket.Conn), c2.(*socket.Conn), c3.(*socket.Conn), c4.(*socket.Conn)}
	t.Cleanup(func() {
		for _, c := range []*socket.Conn{x.client, x.front, x.back, x.server} {
			c.Close()
		}
	})
	return x
}

// TestSplice: a proxy moves megabytes both ways at the same time, over a wire
// that loses frames, and passes the ends on.
func TestSplice(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{Delay: time.Millisecond, Loss: 0.005, Seed: 1})
		x := newProxied(t, p)
		data := pattern(3 << 20)
		var wg sync.WaitGroup
		pass := func(dst, src *socket.Conn, copyAll func() (int64, error)) {
			n, err := copyAll()
			if n != int64(len(data)) || err != nil {
				t.Errorf("copied %d, %v", n, err)
			}
			dst.CloseWrite()
		}
		wg.Go(func() { pass(x.back, x.front, func() (int64, error) { return io.Copy(x.back, x.front) }) })
		wg.Go(func() { pass(x.front, x.back, func() (int64, error) { return x.front.ReadFrom(x.back) }) })
		for _, end := range []*socket.Conn{x.client, x.server} {
			wg.Go(func() {
				_, err := end.ReadFrom(bytes.NewReader(data))
				wantErr(t, "read from", err, nil)
				end.CloseWrite()
			})
			wg.Go(func() {
				h := sha256.New()
				n, err := end.WriteTo(h)
				if n != int64(len(data)) || err != nil || [32]byte(h.Sum(nil)) != sha256.Sum256(data) {
					t.Errorf("%d bytes, %v", n, err)
				}
			})
		}
		wg.Wait()
	})
}

// TestSpliceToItself is the shortest echo server there is.
func TestSpliceToItself(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		c1, c2, stop, err := conns(t, p.na, p.nb, "tcp", "10.77.0.2:7")
		must(t, err)
		defer stop()
		go func() {
			io.Copy(c2, c2)
			c2.Close()
		}()
		data := pattern(1 << 20)
		go func() {
			c1.Write(data)
			c1.(*socket.Conn).CloseWrite()
		}()
		got, err := io.ReadAll(c1)
		if !bytes.Equal(got, data) || err != nil {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}

// TestSpliceLimit: io.CopyN moves so many and no more.
func TestSpliceLimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newProxied(t, newPair(t, wire.Options{}))
		x.client.Write([]byte("hello, world"))
		n, err := io.CopyN(x.back, x.front, 5)
		if n != 5 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		b := make([]byte, 20)
		k, err := x.server.Read(b)
		if string(b[:k]) != "hello" || err != nil {
			t.Errorf("%q, %v", b[:k], err)
		}
		if k, err = x.front.Read(b); string(b[:k]) != ", world" || err != nil {
			t.Errorf("left: %q, %v", b[:k], err)
		}
	})
}

// TestSpliceErrors: which of the two ends failed is said.
func TestSpliceErrors(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(x proxied)
		want  string
		is    error
	}{
		{"deadline of the source", func(x proxied) { x.front.SetReadDeadline(time.Now().Add(time.Second)) }, "writeto F: read F: i/o timeout", os.ErrDeadlineExceeded},
		{"source closed", func(x proxied) { time.AfterFunc(time.Second, func() { x.front.Close() }) }, "writeto F: read F: use of closed network connection", net.ErrClosed},
		{"source reset", func(x proxied) { x.client.SetLinger(0); x.client.Close() }, "writeto F: read F: read: connection reset by peer", nil},
		{"nothing can be written", func(x proxied) { x.back.CloseWrite(); x.client.Write([]byte("x")) }, "writeto F: write B: write: broken pipe", nil},
		{"deadline of the destination", func(x proxied) {
			x.back.SetWriteDeadline(time.Now().Add(time.Second))
			go x.client.Write(make([]byte, 16<<20)) // more than the rings hold
		}, "writeto F: write B: i/o timeout", os.ErrDeadlineExceeded},
		{"destination closed", func(x proxied) {
			time.AfterFunc(time.Second, func() { x.back.Close() })
			go x.client.Write(make([]byte, 16<<20))
		}, "writeto F: write B: use of closed network connection", net.ErrClosed},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				x := newProxied(t, newPair(t, wire.Options{}))
				c.spoil(x)
				_, err := io.Copy(x.back, x.front)
				text := ""
				if err != nil {
					where := func(s *socket.Conn) string {
						return "tcp " + s.LocalAddr().String() + "->" + s.RemoteAddr().String()
					}
					text = strings.NewReplacer(where(x.front), "F", where(x.back), "B").Replace(err.Error())
				}
				if text != c.want || c.is != nil && !errors.Is(err, c.is) {
					t.Errorf("%v, want %s", err, c.want)
				}
				x.client.SetLinger(0)
				x.client.Close()
			})
		})
	}
}

// TestSpliceStopsAtMark: urgent data is where a read, and so a copy, pauses,
// and its byte is not of the stream.
func TestSpliceStopsAtMark(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newProxied(t, newPair(t, wire.Options{}))
		x.client.Write([]byte("before"))
		x.client.FD().Send([]byte("!"), socket.MSG_OOB)
		x.client.Write([]byte("after"))
		x.client.CloseWrite()
		n, err := io.Copy(x.back, x.front)
		if n != int64(len("beforeafter")) || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		x.back.CloseWrite()
		if got, err := io.ReadAll(x.server); string(got) != "beforeafter" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	})
}

// TestCopyFiles: from a file and to one.
func TestCopyFiles(t *testing.T) {
	watch(t)
	p := newPair(t, wire.Options{})
	c1, c2, stop, err := conns(t, p.na, p.nb, "tcp", "10.77.0.2:7")
	must(t, err)
	defer stop()
	data := pattern(2 << 20)
	name := filepath.Join(t.TempDir(), "data")
	must(t, os.WriteFile(name, data, 0o600))
	done := make(chan error, 1)
	go func() {
		f, err := os.Open(name)
		if err == nil {
			defer f.Close()
			_, err = io.Copy(c1, f)
		}
		c1.(*socket.Conn).CloseWrite()
		done <- err
	}()
	out, err := os.Create(name + ".out")
	must(t, err)
	defer out.Close()
	n, err := io.Copy(out, c2)
	if n != int64(len(data)) || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	must(t, <-done)
	got, err := os.ReadFile(name + ".out")
	if !bytes.Equal(got, data) || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// errReader fails after its text.
type errReader struct {
	r   io.Reader
	err error
}

func (e errReader) Read(b []byte) (int, error) {
	n, err := e.r.Read(b)
	if err == io.EOF {
		err = e.err
	}
	return n, err
}

// shortWriter takes less than it is given.
type shortWriter struct{}

func (shortWriter) Write(b []byte) (int, error) { return len(b) / 2, nil }

func TestCopyErrors(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		c1, c2, stop, err := conns(t, p.na, p.nb, "tcp", "10.77.0.2:7")
		must(t, err)
		defer stop()
		c, s := c1.(*socket.Conn), c2.(*socket.Conn)
		bad := errors.New("bad disk")
		n, err := c.ReadFrom(errReader{strings.NewReader("hello"), bad})
		if n != 5 || !errors.Is(err, bad) {
			t.Errorf("%d, %v", n, err)
		}
		n, err = s.WriteTo(shortWriter{})
		if n != 2 || !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("%d, %v", n, err)
		}
		if _, err := c.SyscallConn(); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("SyscallConn: %v", err)
		}
		if _, err := c.File(); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("File: %v", err)
		}
		if on, err := c.MultipathTCP(); on || err != nil {
			t.Errorf("%v, %v", on, err)
		}
	})
}

// hookReader runs a hook in each Read, when the room it reads into is lent.
type hookReader struct {
	r    io.Reader
	hook func()
}

func (h hookReader) Read(b []byte) (int, error) {
	n, err := h.r.Read(b[:min(len(b), 10000)])
	h.hook()
	return n, err
}

// TestCopyMeanwhile: what others write while a reader fills the ring, what is
// acknowledged and what is given back meanwhile, does not harm what is read.
func TestCopyMeanwhile(t *testing.T) {
	for name, hook := range map[string]func(c *socket.Conn){
		"acknowledged":    func(*socket.Conn) { time.Sleep(10 * time.Millisecond) },
		"memory released": func(*socket.Conn) { time.Sleep(time.Minute) },
		"others write":    func(c *socket.Conn) { c.Write([]byte{255}) },
		"others do not wait": func(c *socket.Conn) {
			c.FD().Send([]byte{255}, socket.MSG_DONTWAIT)
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := newPair(t, wire.Options{Delay: time.Millisecond})
				c1, c2, stop, err := conns(t, p.na, p.nb, "tcp", "10.77.0.2:7")
				must(t, err)
				defer stop()
				c := c1.(*socket.Conn)
				data := bytes.Repeat([]byte("0123456789abcdef"), 20000)
				go func() {
					n, err := c.ReadFrom(hookReader{bytes.NewReader(data), func() { hook(c) }})
					if n != int64(len(data)) || err != nil {
						t.Errorf("%d, %v", n, err)
					}
					c.CloseWrite()
				}()
				got, err := io.ReadAll(c2)
				got = bytes.ReplaceAll(got, []byte{255}, nil)
				if !bytes.Equal(got, data) || err != nil {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			})
		})
	}
}

// TestCopyClosed: the connection is closed, or fails, while its room is lent.
func TestCopyClosed(t *testing.T) {
	for name, end := range map[string]func(c, peer *socket.Conn){
		"use of closed network connection": func(c, _ *socket.Conn) { c.Close() },
		"broken pipe":                      func(c, _ *socket.Conn) { c.CloseWrite() },
		"connection reset by peer": func(_, peer *socket.Conn) {
			peer.SetLinger(0)
			peer.Close()
			time.Sleep(time.Second)
		},
		"i/o timeout": func(c, _ *socket.Conn) { c.SetWriteDeadline(past) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := newPair(t, wire.Options{})
				c1, c2, stop, err := conns(t, p.na, p.nb, "tcp", "10.77.0.2:7")
				must(t, err)
				defer stop()
				c := c1.(*socket.Conn)
				n, err := c.ReadFrom(hookReader{strings.NewReader("hello"), func() { end(c, c2.(*socket.Conn)) }})
				if n != 0 || err == nil || !strings.HasSuffix(err.Error(), name) {
					t.Errorf("%d, %v", n, err)
				}
			})
		})
	}
}
