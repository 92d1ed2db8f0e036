package telnet

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/option"
)

// Here time is virtual: a wait is as long as it says, or the test hangs.

// pipe is a connection without any buffer: what nobody reads cannot be written.
func pipe() (near, far net.Conn) { return net.Pipe() }

// flood says b many times, or until the connection is closed. It is not endless:
// no time passes while somebody has something to do.
func flood(far net.Conn, b []byte) {
	for range 1 << 18 / len(b) {
		if _, err := far.Write(b); err != nil {
			return
		}
	}
}

// TestMaxWait: whatever a peer does or leaves undone, the session begins after
// MaxWait and not later.
func TestMaxWait(t *testing.T) {
	var everything []byte
	for code := range 256 {
		if engine.Code(code) == engine.Logout {
			continue // nobody stays behind that
		}
		everything = append(everything, 255, byte(engine.DO), byte(code), 255, byte(engine.WILL), byte(code), 255, byte(engine.AYT))
	}
	peers := map[string]func(far net.Conn, c *Conn){
		"reads nothing": func(net.Conn, *Conn) {},
		"is silent":     func(far net.Conn, _ *Conn) { io.Copy(io.Discard, far) },
		"asks and reads nothing": func(far net.Conn, _ *Conn) {
			one := make([]byte, 3)
			io.ReadFull(far, one) // the first question, or there would be no second
			flood(far, everything)
		},
		"agrees and leaves open": func(far net.Conn, _ *Conn) {
			go io.Copy(io.Discard, far)
			far.Write([]byte("\xff\xfb\x18\xff\xfb\x1f"))
		},
		"asks for an abort of output and reads nothing": func(far net.Conn, _ *Conn) {
			one := make([]byte, 3)
			io.ReadFull(far, one)
			flood(far, []byte("\xff\xf5"))
		},
		"is being written to": func(far net.Conn, c *Conn) {
			c.Write(make([]byte, 1<<20)) // does not end
		},
	}
	for name, peer := range peers {
		for role, newConn := range map[string]func(net.Conn, *Config) *Conn{"server": NewServerConn, "client": NewClientConn} {
			t.Run(name+" "+role, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					near, far := pipe()
					cfg := &Config{MaxWait: 700 * time.Millisecond, Urgent: func(nc net.Conn) Urgent { return &urgentPipe{nc} }}
					if role == "client" { // it has questions, too
						cfg.Enable = []Ask{{engine.Us, engine.TType}}
					}
					c := newConn(near, cfg)
					over := make(chan bool)
					go func() { peer(far, c); close(over) }()
					start := time.Now()
					err := c.Handshake(t.Context())
					if took := time.Since(start); err != nil || took > cfg.MaxWait {
						t.Errorf("%v after %v", err, took)
					}
					// The context counts as well, and the deadlines are back.
					ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
					defer cancel()
					start = time.Now()
					err = c.WaitFor(ctx, func(*engine.Engine) bool { return false })
					if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrUnread) || took > 100*time.Millisecond {
						t.Errorf("%v after %v", err, took)
					}
					if name == "is silent" {
						c.SetDeadline(time.Now().Add(time.Second))
						if _, err := c.Write([]byte("on")); err != nil {
							t.Error(err)
						}
						start = time.Now()
						if _, err := c.Read(make([]byte, 1)); !IsTimeout(err) || time.Since(start) != time.Second {
							t.Errorf("%v after %v", err, time.Since(start))
						}
					}
					c.Close()
					far.Close()
					<-over
				})
			})
		}
	}
}

// TestPassedOver: a client that agrees to tell variables and does not, and
// answers one timing mark only, is not waited for when it has answered what was
// asked later.
func TestPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := pipe()
		s := NewServerConn(near, &Config{Server: option.ServerConfig{Env: []option.Var{{Name: "LANG"}}}})
		names := []string{"TINTIN++", "xterm", "MTTS 271"}
		over := make(chan bool)
		go func() {
			defer close(over)
			buf, marks := make([]byte, 4096), 0
			for {
				n, err := far.Read(buf)
				if err != nil {
					return
				}
				var say []byte
				for rest := buf[:n]; len(rest) > 0; rest = rest[1:] {
					switch {
					case bytes.HasPrefix(rest, []byte("\xff\xfd\x18")):
						say = append(say, "\xff\xfb\x18"...)
					case bytes.HasPrefix(rest, []byte("\xff\xfa\x18\x01")):
						say = append(append(append(say, "\xff\xfa\x18\x00"...), names[0]...), "\xff\xf0"...)
						names = names[1:]
					case bytes.HasPrefix(rest, []byte("\xff\xfd\x27")):
						say = append(say, "\xff\xfb\x27"...)
					case bytes.HasPrefix(rest, []byte("\xff\xfd\x06")):
						if marks++; marks == 1 {
							say = append(say, "\xff\xfc\x06"...)
						}
					case bytes.HasPrefix(rest, []byte("\xff\xfd")):
						say = append(say, 255, byte(engine.WONT), rest[2])
					case bytes.HasPrefix(rest, []byte("\xff\xfb")):
						say = append(say, 255, byte(engine.DONT), rest[2])
					}
				}
				far.Write(say)
			}
		}()
		start := time.Now()
		if err := s.Handshake(t.Context()); err != nil || time.Since(start) != 0 {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if i := s.Info(); len(i.Types) != 3 || !s.On(engine.Him, engine.NewEnviron) {
			t.Errorf("%+v", i)
		}
		s.Close()
		far.Close()
		<-over
	})
}

// urgentPipe has urgent data that is not urgent.
type urgentPipe struct{ net.Conn }

func (*urgentPipe) SetOOBInline(bool) error                 { return nil }
func (*urgentPipe) UrgentPending() (bool, error)            { return false, nil }
func (u *urgentPipe) WriteUrgent(b []byte) (n int, _ error) { return u.Write(b) }

// TestAnswersAreBounded: who asks and does not read is not read from.
func TestAnswersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := pipe()
		c := NewServerConn(near, &Config{Passive: true})
		over := make(chan bool)
		var said int
		go func() {
			defer close(over)
			for said < 1<<20 {
				n, err := far.Write([]byte("\xff\xf6\xff\xfd\x06\xff\xfb\xf0"))
				if said += n; err != nil {
					return
				}
			}
		}()
		go c.Read(make([]byte, 4096))
		time.Sleep(time.Hour)
		c.View(func(e *engine.Engine) {
			if n := e.Pending(); n > 64<<10 {
				t.Errorf("%d bytes of answers wait", n)
			}
		})
		c.Close()
		<-over
		if said > 64<<10 {
			t.Errorf("%d bytes were read", said)
		}
		far.Close()
	})
}

// pipes is a listener whose connections are pipes.
type pipes struct {
	conns chan net.Conn
	over  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.over:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error {
	select {
	case <-p.over:
	default:
		close(p.over)
	}
	return nil
}
func (*pipes) Addr() net.Addr { return &net.TCPAddr{} }

// TestServerLeavesNothing: sessions that were refused, said nothing, or would
// not read are gone when their time is over, and the goroutines with them.
func TestServerLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &pipes{make(chan net.Conn), make(chan struct{})}
		s := &Server{MaxConns: 1, Busy: "busy", IdleTimeout: time.Minute, Logger: slog.New(slog.DiscardHandler),
			Config:  &Config{Urgent: func(nc net.Conn) Urgent { return &urgentPipe{nc} }},
			Handler: HandlerFunc(func(_ context.Context, c *Conn) { io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c}) })}
		served := make(chan error, 1)
		go func() { served <- s.Serve(l) }()
		ended := func(far net.Conn, within time.Duration) {
			t.Helper()
			start := time.Now()
			for b := make([]byte, 100); ; {
				far.SetReadDeadline(start.Add(time.Hour))
				if _, err := far.Read(b); err == io.EOF {
					break
				} else if err != nil {
					t.Fatal(err)
				}
			}
			if took := time.Since(start); took > within {
				t.Errorf("ended after %v", took)
			}
		}
		near, far := pipe()
		l.conns <- near
		near2, far2 := pipe()
		l.conns <- near2
		time.Sleep(2 * time.Second) // far2 did not even read that it is busy
		ended(far2, 0)
		synctest.Wait()
		if st := s.Stats(); st.Open != 1 || st.Refused != 1 {
			t.Errorf("%+v", st)
		}
		far.Write([]byte("\xff\xfc\x18 hello"))
		time.Sleep(2 * time.Minute) // it does not read what comes back
		ended(far, 0)
		synctest.Wait()
		if st := s.Stats(); st.Open != 0 || st.TimedOut != 1 {
			t.Errorf("%+v", st)
		}
		s.Close()
		if err := <-served; err != ErrServerClosed {
			t.Error(err)
		}
	})
}

// TestRefusedTLS: a client too many that does not even begin its TLS is not
// waited for.
func TestRefusedTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &pipes{make(chan net.Conn), make(chan struct{})}
		s := &Server{MaxConns: 1, TLSConfig: &tls.Config{}, Logger: slog.New(slog.DiscardHandler), Handler: HandlerFunc(func(context.Context, *Conn) {})}
		served := make(chan error, 1)
		go func() { served <- s.ServeTLS(l) }()
		var fars []net.Conn
		for range 20 {
			near, far := pipe()
			l.conns <- near
			fars = append(fars, far)
		}
		time.Sleep(time.Second)
		for _, far := range fars[1:] {
			if _, err := far.Read(make([]byte, 1)); err != io.EOF {
				t.Error(err)
			}
		}
		time.Sleep(tlsWait)
		if _, err := fars[0].Read(make([]byte, 1)); err != io.EOF {
			t.Error(err)
		}
		s.Close()
		<-served
	})
}

// TestConfigIsShared: what one connection learns or sets is not another's.
func TestConfigIsShared(t *testing.T) {
	vars := append(make([]option.Var, 0, 4), option.Var{Name: "A", Value: "1"})
	client := &Config{Client: option.ClientConfig{Env: vars}}
	server := &Config{Server: option.ServerConfig{Env: vars}}
	for range 2 {
		c := NewClientConn(discard{}, client)
		c.View(func(e *engine.Engine) {
			env := e.Option(engine.NewEnviron).(*option.Environ)
			if len(env.Vars) != 1 || env.Vars[0].Value != "1" {
				t.Errorf("%+v", env.Vars)
			}
			env.Set(e, option.Var{Name: "A", Value: "2"})
			env.Set(e, option.Var{Name: "B"})
		})
		s := NewServerConn(discard{}, server)
		s.View(func(e *engine.Engine) {
			e.Option(engine.NewEnviron).(*option.Environ).Request(e, []option.Var{{Name: "mine"}})
		})
	}
	if got := vars[:2]; got[0].Value != "1" || got[1].Name != "" {
		t.Errorf("the configuration became %+v", got)
	}
}

type discard struct{ net.Conn }

// gate is a connection that is not read from while it is locked.
type gate struct {
	net.Conn
	sync.Mutex
}

func (g *gate) Read(b []byte) (int, error) {
	g.Lock()
	b = b[:min(len(b), 1000)]
	g.Unlock()
	return g.Conn.Read(b)
}

// TestCompressedWriteIsOwed: a compressed write that a deadline cuts off has
// been taken: who writes on from there loses nothing and repeats nothing.
func TestCompressedWriteIsOwed(t *testing.T) {
	near, far := pipe()
	g := &gate{Conn: far}
	server := NewServerConn(near, &Config{Passive: true, Server: option.ServerConfig{Compress: true}})
	client := NewClientConn(g, &Config{Passive: true})
	defer client.Close()
	received := pump(client)
	if err := server.Enable(engine.Us, engine.MCCP2); err != nil {
		t.Fatal(err)
	}
	if err := server.WaitFor(testContext(t), Local(engine.MCCP2)); err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 200<<10)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range data { // which does not compress
		data[i] = byte(random.Uint32())
	}
	g.Lock()
	n, cuts := 0, 0
	for n < len(data) {
		server.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
		if cuts == 3 {
			server.SetWriteDeadline(time.Time{})
		}
		m, err := server.Write(data[n:])
		if n += m; err == nil {
			continue
		}
		if cuts++; !IsTimeout(err) {
			t.Fatal(err)
		}
		if cuts == 3 {
			g.Unlock()
		}
	}
	if cuts < 3 {
		t.Fatalf("cut off %d times", cuts)
	}
	server.Close()
	<-received.done
	if b := received.data; !bytes.Equal(b, data) {
		t.Errorf("%d bytes of %d, or others", len(b), len(data))
	}
}
