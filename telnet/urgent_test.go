package telnet_test

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/socket/kernel"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/engine"
)

// network is where a test listens and dials.
type network interface {
	Dial(network, address string) (net.Conn, error)
	Listen(network, address string) (net.Listener, error)
}

// overBoth runs f over the stack's own loopback and over the kernel's sockets.
func overBoth(t *testing.T, f func(t *testing.T, n network, cfg telnet.Config)) {
	t.Run("stack", func(t *testing.T) {
		s := stack.New(stack.Config{})
		defer s.Close()
		f(t, socket.Net(s), telnet.Config{})
	})
	t.Run("kernel", func(t *testing.T) {
		f(t, &kernel.Network{}, telnet.Config{Urgent: func(c net.Conn) telnet.Urgent {
			u, ok := kernel.UrgentOf(c)
			if !ok {
				return nil
			}
			return u
		}})
	})
}

func dialPair(t *testing.T, n network) (a, b net.Conn) {
	t.Helper()
	l, err := n.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, _ := l.Accept()
		accepted <- c
	}()
	if a, err = n.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b = <-accepted; b == nil {
		t.Fatal("not accepted")
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// TestSynch: with real urgent data, what was not read is thrown away up to the
// data mark, and commands in it are not; wherever the sender puts the mark.
func TestSynch(t *testing.T) {
	overBoth(t, func(t *testing.T, n network, cfg telnet.Config) {
		cfg.Passive = true
		for _, offByOne := range []bool{false, true} {
			var log []string
			scfg := cfg
			scfg.Event = func(_ *telnet.Conn, ev engine.Event) { log = append(log, ev.Cmd.String()) }
			a, b := dialPair(t, n)
			c, s := telnet.NewClientConn(a, &cfg), telnet.NewServerConn(b, &scfg)
			io.WriteString(c, strings.Repeat("lost ", 1000))
			c.SendCommand(engine.IP)
			io.WriteString(c, "lost too")
			if offByOne {
				// BSD's way: the IAC is the urgent byte, the DM follows it.
				urgentOf(a, cfg).WriteUrgent([]byte{255})
				a.Write([]byte{242})
			} else if err := c.Synch(); err != nil {
				t.Fatal(err)
			}
			io.WriteString(c, "kept")
			// The reader comes late, when all of it is here.
			awaitUrgent(t, urgentOf(b, cfg))
			c.Close()
			got, err := io.ReadAll(s)
			if err != nil || string(got) != "kept" || strings.Join(log, " ") != "IP DM" {
				t.Errorf("off by one %v: %.40q (%d bytes), %v, %v", offByOne, got, len(got), log, err)
			}
			if s.Info().Dropped[engine.DropSynch] == 0 {
				t.Error("nothing was counted")
			}
		}
	})
}

// awaitUrgent waits until the byte at the mark is here.
func awaitUrgent(t *testing.T, u telnet.Urgent) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		if pending, err := u.UrgentPending(); err != nil || time.Now().After(end) {
			t.Fatal("no urgent data: ", err)
		} else if pending {
			return
		}
	}
}

func urgentOf(c net.Conn, cfg telnet.Config) telnet.Urgent {
	if u, ok := c.(telnet.Urgent); ok {
		return u
	}
	return cfg.Urgent(c)
}

// TestAbortOutput: a server answers AO by a Synch (RFC 1123 §3.2.4), so that
// the user is not shown what he does not want.
func TestAbortOutput(t *testing.T) {
	overBoth(t, func(t *testing.T, n network, cfg telnet.Config) {
		cfg.Passive = true
		a, b := dialPair(t, n)
		c, s := telnet.NewClientConn(a, &cfg), telnet.NewServerConn(b, &cfg)
		io.WriteString(s, "much text")
		c.SendCommand(engine.AO)
		a.(interface{ CloseWrite() error }).CloseWrite()
		if got, err := io.ReadAll(s); len(got) != 0 || err != nil {
			t.Errorf("%q %v", got, err)
		}
		awaitUrgent(t, urgentOf(a, cfg))
		io.WriteString(s, "prompt")
		s.Close()
		if got, err := io.ReadAll(c); string(got) != "prompt" || err != nil {
			t.Errorf("%q %v", got, err)
		}
	})
}

// TestNoUrgent: without urgent data there is no Synch.
func TestNoUrgent(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	if err := telnet.NewClientConn(a, nil).Synch(); err != telnet.ErrNoUrgent {
		t.Error(err)
	}
	if _, ok := kernel.UrgentOf(a); ok {
		t.Error("a pipe has urgent data")
	}
}

// TestOverTheStack: a server and a client over the stack, by the dialer's hook.
func TestOverTheStack(t *testing.T) {
	st := stack.New(stack.Config{})
	defer st.Close()
	n := socket.Net(st)
	l, err := n.Listen("tcp", "127.0.0.1:23")
	if err != nil {
		t.Fatal(err)
	}
	s := &telnet.Server{Handler: telnet.HandlerFunc(func(_ context.Context, c *telnet.Conn) {
		x := c.Text()
		x.Prompt("name? ")
		name, _ := x.ReadLine()
		x.Printf("hello %s\n", name)
	})}
	go s.Serve(l)
	defer s.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	d := &telnet.Dialer{Dial: n.DialContext}
	c, err := d.DialContext(ctx, "tcp", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	x := c.Text()
	x.WriteString("world\n")
	if got, err := io.ReadAll(x); err != nil || !strings.HasSuffix(string(got), "hello world\n") {
		t.Errorf("%q %v", got, err)
	}
}
