package telnet

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/option"
)

// TestNoCompressionOverTLS: neither end compresses what TLS is to keep secret,
// unless it is told to.
func TestNoCompressionOverTLS(t *testing.T) {
	for _, allowed := range []bool{false, true} {
		cfg := &Config{CompressTLS: allowed, Server: option.ServerConfig{Compress: true}}
		for name, c := range map[string]struct {
			side engine.Side
			make func(net.Conn) *Conn
		}{
			"client": {engine.Him, func(nc net.Conn) *Conn { return NewClientConn(tls.Client(nc, &tls.Config{}), cfg) }},
			"server": {engine.Us, func(nc net.Conn) *Conn { return NewServerConn(tls.Server(nc, &tls.Config{}), cfg) }},
			"a Server's": {engine.Us, func(nc net.Conn) *Conn {
				return NewServerConn(&session{Conn: tls.Server(nc, &tls.Config{})}, cfg)
			}},
		} {
			a, b := net.Pipe()
			c.make(a).View(func(e *engine.Engine) {
				for _, code := range []engine.Code{engine.MCCP2, engine.MCCP3} {
					if got := e.Option(code).Allow(e, c.side); got != allowed {
						t.Errorf("%s, allowed %v: %v %v", name, allowed, code, got)
					}
				}
			})
			a.Close()
			b.Close()
		}
	}
}

// TestCompressedBacklog: who waits for something keeps no more of what comes
// meanwhile than it may, however little of it came.
func TestCompressedBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := pipe()
		c := NewServerConn(near, &Config{Passive: true, MaxLine: 8 << 10, Server: option.ServerConfig{Compress: true},
			Enable: []Ask{{engine.Us, engine.MCCP3}}})
		data := bytes.Repeat([]byte{'x'}, 900<<10)
		go func() {
			io.ReadFull(far, make([]byte, 3))
			b := bytes.NewBufferString("\xff\xfd\x57\xff\xfa\x57\xff\xf0")
			z := zlib.NewWriter(b)
			z.Write(data)
			z.Close()
			far.Write(b.Bytes())
			far.Close()
		}()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.WaitFor(ctx, func(*engine.Engine) bool { return false }); !errors.Is(err, ErrUnread) {
			t.Error(err)
		}
		if n := c.Buffered(); n < 8<<10 || n > 16<<10 {
			t.Errorf("%d bytes are kept", n)
		}
		if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
		}
		c.Close()
	})
}

// slowUrgent has urgent data that is taken late.
type slowUrgent struct {
	net.Conn
	begun, taken chan bool
}

func (*slowUrgent) SetOOBInline(bool) error      { return nil }
func (*slowUrgent) UrgentPending() (bool, error) { return false, nil }
func (u *slowUrgent) WriteUrgent(b []byte) (int, error) {
	close(u.begun)
	<-u.taken
	return u.Write(b)
}

// TestAnswersBehindSynch: what was answered while a Synch was being sent goes out
// behind it.
func TestAnswersBehindSynch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := pipe()
		u := &slowUrgent{near, make(chan bool), make(chan bool)}
		c := NewServerConn(near, &Config{Passive: true, Urgent: func(net.Conn) Urgent { return u }})
		if err := c.Handshake(t.Context()); err != nil {
			t.Fatal(err)
		}
		go c.Synch()
		<-u.begun
		go c.Read(make([]byte, 100))
		far.Write([]byte("\xff\xfd\xc8"))
		synctest.Wait()
		close(u.taken)
		got := make([]byte, 5)
		far.SetReadDeadline(time.Now().Add(time.Second))
		if n, err := io.ReadFull(far, got); err != nil || string(got) != "\xff\xf2\xff\xfc\xc8" {
			t.Errorf("%q %v", got[:n], err)
		}
		c.Close()
		far.Close()
	})
}
