package socket_test

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/socket"
)

// TestConnMethods: the errors of a net.Conn say what package net's would.
func TestConnMethods(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		c1, c2, stop, err := conns(t, p.na, p.nb, "tcp", "10.77.0.2:7")
		must(t, err)
		defer stop()
		c, s := c1.(*socket.Conn), c2.(*socket.Conn)
		must(t, c.SetNoDelay(false))
		must(t, c.CloseWrite())
		if n, err := s.Read(nil); n != 0 || err != nil {
			t.Errorf("a read of nothing: %d, %v", n, err)
		}
		_, err = c.Write([]byte{1})
		wantErr(t, "write", err, syscall.EPIPE)
		must(t, s.CloseRead())
		c.SetReadDeadline(past)
		_, err = c.Read(make([]byte, 1))
		var ne net.Error
		if !errors.As(err, &ne) || !ne.Timeout() || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v is no time-out", err)
		}
		local, remote := c.LocalAddr().String(), c.RemoteAddr().String()
		must(t, c.Close())
		where := " tcp " + local + "->" + remote + ": use of closed network connection"
		for op, err := range map[string]error{
			"read": second2(c.Read(make([]byte, 1))), "write": second2(c.Write([]byte{1})), "close": c.Close(),
			"set": c.SetNoDelay(true),
		} {
			if err == nil || err.Error() != op+where || !errors.Is(err, net.ErrClosed) {
				t.Errorf("%v, want %s", err, op+where)
			}
		}
		if c.LocalAddr().String() != local || c.RemoteAddr().String() != remote {
			t.Error("the addresses are gone with the connection")
		}
	})
}

func second2(_ int, err error) error { return err }

func TestListenerDeadline(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := socket.Net(lone(t))
		l, err := n.Listen("tcp", "localhost:80")
		must(t, err)
		d := l.(*socket.Listener)
		must(t, d.SetDeadline(time.Now().Add(time.Second)))
		r := <-start(func() (int, error) { _, err := l.Accept(); return 0, err })
		wantErr(t, "accept", r.err, os.ErrDeadlineExceeded)
		if r.at != time.Second || r.err.Error() != "accept tcp 127.0.0.1:80: i/o timeout" {
			t.Errorf("%v after %v", r.err, r.at)
		}
		// A connection that waits does not help one who is too late.
		c, err := n.Dial("tcp", "localhost:80")
		must(t, err)
		defer c.Close()
		_, err = l.Accept()
		wantErr(t, "accept", err, os.ErrDeadlineExceeded)
		must(t, d.SetDeadline(time.Time{}))
		s, err := l.Accept()
		must(t, err)
		s.Close()
		must(t, l.Close())
		wantErr(t, "second close", l.Close(), net.ErrClosed)
		wantErr(t, "deadline", d.SetDeadline(time.Now()), net.ErrClosed)
	})
}

// TestServiceNames is in real time: package net keeps a channel for its
// look-ups, which may not come from a bubble.
func TestServiceNames(t *testing.T) {
	watch(t)
	n := socket.Net(lone(t))
	l, err := n.Listen("tcp", "localhost:http")
	must(t, err)
	defer l.Close()
	c, err := n.Dial("tcp", "localhost:http")
	must(t, err)
	defer c.Close()
	if c.RemoteAddr().String() != "127.0.0.1:80" {
		t.Error(c.RemoteAddr())
	}
	_, err = n.Dial("tcp", "localhost:no-such-service")
	if err == nil || err.Error() != "dial tcp: lookup tcp/no-such-service: unknown port" {
		t.Error(err)
	}
}

func TestDialAddresses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		l, err := p.nb.Listen("tcp", ":7")
		must(t, err)
		defer l.Close()
		zone := "[" + p.ib.Addrs()[0].Addr().String() + "%eth0]:7"
		for _, c := range []struct{ network, addr, peer, err string }{
			{"tcp", "10.77.0.2:7", "10.77.0.2:7", ""},
			{"tcp", "[::ffff:10.77.0.2]:7", "10.77.0.2:7", ""},
			{"tcp6", "[fd77::2]:7", "[fd77::2]:7", ""},
			{"tcp", zone, zone, ""},
			{"tcp6", "10.77.0.2:7", "", "dial tcp6: address 10.77.0.2: no suitable address found"},
			{"tcp", ":7", "", "dial tcp :7: connect: connection refused"},
			{"tcp6", ":7", "", "dial tcp6 :7: connect: connection refused"},
			{"unix", "/tmp/x", "", "dial unix: unknown network unix"},
			{"tcp", "10.77.0.2", "", "dial tcp: address 10.77.0.2: missing port in address"},
			{"udp", "255.255.255.255:7", "255.255.255.255:7", ""},
		} {
			conn, err := p.na.Dial(c.network, c.addr)
			if err != nil {
				if err.Error() != c.err {
					t.Errorf("%s %s: %v, want %q", c.network, c.addr, err, c.err)
				}
				continue
			}
			if conn.RemoteAddr().String() != c.peer || c.err != "" {
				t.Errorf("%s %s: peer %v", c.network, c.addr, conn.RemoteAddr())
			}
			conn.Close()
		}
		_, err = p.na.ListenPacket("tcp", ":7")
		if err == nil || err.Error() != "listen tcp :7: address :7: unexpected address type" {
			t.Error(err)
		}
	})
}

// TestV6Only: "tcp6" and "udp6" leave IPv4 to others, as in package net.
func TestV6Only(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := socket.Net(lone(t))
		for _, network := range []string{"tcp6", "tcp4"} {
			l, err := n.Listen(network, ":80")
			must(t, err)
			defer l.Close()
		}
		for _, network := range []string{"udp6", "udp4"} {
			c, err := n.ListenPacket(network, ":80")
			must(t, err)
			defer c.Close()
		}
		_, err := n.Listen("tcp", ":80")
		wantErr(t, "both families", err, syscall.EADDRINUSE)
		_, err = n.ListenPacket("udp", ":80")
		wantErr(t, "both families", err, syscall.EADDRINUSE)
	})
}

func TestBindToDevice(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		f := udp4(t, p.b)
		must(t, f.Bind(ap("0.0.0.0:5")))
		must(t, f.BindToDevice(p.b.Interfaces()[0])) // loopback: not where a is
		g := udp4(t, p.a)
		g.SendTo([]byte("x"), 0, ap("10.77.0.2:5"))
		_, _, err := recvOne(f, 10)
		wantErr(t, "pinned elsewhere", err, os.ErrDeadlineExceeded)
		must(t, f.BindToDevice(nil))
		g.SendTo([]byte("x"), 0, ap("10.77.0.2:5"))
		_, _, err = recvOne(f, 10)
		wantErr(t, "pinned no more", err, nil)
	})
}

// TestShutListener: shutdown ends listening, and Accept that waits is told.
func TestShutListener(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		l := listen(t, p.b, "0.0.0.0:7", 1)
		ch := start(func() (int, error) { _, _, err := l.Accept(context.Background()); return 0, err })
		time.Sleep(time.Second)
		must(t, l.Shutdown(socket.SHUT_WR))
		time.Sleep(time.Second)
		must(t, l.Shutdown(socket.SHUT_RD))
		await(t, "accept", ch, syscall.EINVAL, 2*time.Second)
		wantErr(t, "connect", tcp4(t, p.a).Connect(bg, ap("10.77.0.2:7")), syscall.ECONNREFUSED)
		must(t, l.Listen(1))
		wantErr(t, "listening again", tcp4(t, p.a).Connect(bg, ap("10.77.0.2:7")), nil)
	})
}
