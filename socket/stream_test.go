package socket_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

func TestConnectErrors(t *testing.T) {
	for _, c := range []struct {
		name, to string
		want     error
		after    time.Duration
	}{
		{"closed port", "10.77.0.2:9", syscall.ECONNREFUSED, 0},
		{"closed port, IPv6", "[fd77::2]:9", syscall.ECONNREFUSED, 0},
		{"closed port here", "127.0.0.1:9", syscall.ECONNREFUSED, 0},
		// Three requests, a second apart, and no answer to the last.
		{"silent neighbour", "10.77.0.9:9", syscall.EHOSTUNREACH, 3 * time.Second},
		{"silent neighbour, IPv6", "[fd77::9]:9", syscall.EHOSTUNREACH, 3 * time.Second},
		{"black hole", "192.0.2.1:9", syscall.ETIMEDOUT, 127 * time.Second},
		{"no route", "[2001:db8::1]:9", syscall.ENETUNREACH, 0},
		{"limited broadcast", "255.255.255.255:9", syscall.ENETUNREACH, 0},
		{"directed broadcast", "10.77.0.255:9", syscall.ENETUNREACH, 0},
		{"multicast", "224.0.0.251:9", syscall.ENETUNREACH, 0},
		{"unknown zone", "[fe80::1%nowhere]:9", syscall.ENODEV, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := newPair(t, wire.Options{})
				p.blackHole(t)
				to := ap(c.to)
				f := sock(t, p.a, domainOf(to.Addr()), socket.SOCK_STREAM, 0)
				call := func() (int, error) { return 0, f.Connect(bg, to) }
				await(t, "connect", start(call), c.want, c.after)
				_, err := f.Getpeername()
				wantErr(t, "getpeername", err, syscall.ENOTCONN)
				// The socket may try again.
				l := sock(t, p.b, socket.AF_INET6, socket.SOCK_STREAM, 0)
				must(t, l.Bind(ap("[::]:10")))
				must(t, l.Listen(1))
				to = ap("10.77.0.2:10")
				if domainOf(ap(c.to).Addr()) == socket.AF_INET6 {
					to = ap("[fd77::2]:10")
				}
				wantErr(t, "second try", f.Connect(bg, to), nil)
			})
		})
	}
}

func domainOf(a netip.Addr) int {
	if a.Is4() {
		return socket.AF_INET
	}
	return socket.AF_INET6
}

// TestConnectBothFamilies: an AF_INET6 socket speaks IPv4 to mapped addresses
// and shows IPv4 peers as such, unless it was told not to.
func TestConnectBothFamilies(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		l := sock(t, p.b, socket.AF_INET6, socket.SOCK_STREAM, 0)
		must(t, l.Bind(ap("[::]:7")))
		must(t, l.Listen(4))
		for _, c := range []struct {
			domain              int
			to, peer, from, lAt string
		}{
			{socket.AF_INET, "10.77.0.2:7", "10.77.0.2:7", "::ffff:10.77.0.1", "[::ffff:10.77.0.2]:7"},
			{socket.AF_INET, "[::ffff:10.77.0.2]:7", "10.77.0.2:7", "::ffff:10.77.0.1", "[::ffff:10.77.0.2]:7"},
			{socket.AF_INET6, "[::ffff:10.77.0.2]:7", "[::ffff:10.77.0.2]:7", "::ffff:10.77.0.1", "[::ffff:10.77.0.2]:7"},
			{socket.AF_INET6, "[fd77::2]:7", "[fd77::2]:7", "fd77::1", "[fd77::2]:7"},
		} {
			f := sock(t, p.a, c.domain, socket.SOCK_STREAM, 0)
			must(t, f.Connect(bg, ap(c.to)))
			g, from, err := l.Accept(bg)
			must(t, err)
			peer, _ := f.Getpeername()
			at, _ := g.Getsockname()
			if peer != ap(c.peer) || from.Addr().String() != c.from || at != ap(c.lAt) {
				t.Errorf("to %s: peer %v, from %v, at %v", c.to, peer, from, at)
			}
			g.Close()
		}
		only := sock(t, p.a, socket.AF_INET6, socket.SOCK_STREAM, 0)
		must(t, only.SetV6Only(true))
		wantErr(t, "mapped address, IPv6 only", only.Connect(bg, ap("[::ffff:10.77.0.2]:7")), syscall.ENETUNREACH)
		wantErr(t, "IPv6", only.Connect(bg, ap("[fd77::2]:7")), nil)
	})
}

// TestCloseDeliversAll: Close returns at once, and everything that was written
// arrives all the same, through a slow line with loss.
func TestCloseDeliversAll(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{Delay: 20 * time.Millisecond, Rate: 20e6, Loss: 0.01, Seed: 1})
		c, s := p.connected(t)
		data := pattern(3 << 20)
		must(t, c.SetSendBuffer(len(data))) // nobody reads yet
		n, err := c.Send(data, 0)
		if err != nil || n != len(data) {
			t.Fatal(n, err)
		}
		before := time.Now()
		must(t, c.Close())
		if d := time.Since(before); d != 0 {
			t.Errorf("Close took %v", d)
		}
		got, err := recvAll(s)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}

func TestHalfClose(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{Delay: time.Millisecond})
		c, s := p.connected(t)
		send := func(f *socket.FD, text string) {
			t.Helper()
			_, err := f.Send([]byte(text), 0)
			wantErr(t, text, err, nil)
		}
		send(c, "request")
		must(t, c.Shutdown(socket.SHUT_WR))
		_, err := c.Send([]byte("more"), 0)
		wantErr(t, "send after SHUT_WR", err, syscall.EPIPE)
		got, err := recvAll(s)
		if string(got) != "request" || err != nil {
			t.Errorf("server: %q, %v", got, err)
		}
		time.Sleep(time.Hour) // a half-closed connection may stay so
		send(s, "a long ")
		time.Sleep(time.Hour)
		send(s, "answer")
		must(t, s.Close())
		got, err = recvAll(c)
		if string(got) != "a long answer" || err != nil {
			t.Errorf("client: %q, %v", got, err)
		}

		// SHUT_RD tells the peer nothing.
		c, s = p.connected(t)
		send(s, "before")
		time.Sleep(time.Second)
		must(t, c.Shutdown(socket.SHUT_RD))
		got, err = recvAll(c)
		if string(got) != "before" || err != nil {
			t.Errorf("after SHUT_RD: %q, %v", got, err)
		}
		send(c, "still")
		must(t, c.Shutdown(socket.SHUT_WR))
		if got, err = recvAll(s); string(got) != "still" || err != nil {
			t.Errorf("after the other's SHUT_RD: %q, %v", got, err)
		}
	})
}

// TestReset: closing with data unread resets, and the other side is told.
func TestReset(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{Delay: time.Millisecond})
		c, s := p.connected(t)
		c.Send([]byte("never read"), 0)
		time.Sleep(time.Second)
		r := start(func() (int, error) { return c.Recv(make([]byte, 9), 0) })
		time.Sleep(time.Second)
		s.Close()
		await(t, "waiting read", r, syscall.ECONNRESET, time.Second+time.Millisecond)
		_, err := c.Send([]byte{1}, 0)
		wantErr(t, "write after it", err, syscall.EPIPE)
		_, err = c.Recv(make([]byte, 1), 0)
		wantErr(t, "read after it", err, io.EOF)
		wantErr(t, "shutdown after it", c.Shutdown(socket.SHUT_WR), syscall.ENOTCONN)

		// Writing to a peer that is gone: the first write is answered by RST.
		c, s = p.connected(t)
		s.Close()
		time.Sleep(time.Second)
		_, err = c.Send([]byte{1}, 0)
		wantErr(t, "first write", err, nil)
		time.Sleep(time.Second)
		_, err = c.Send([]byte{1}, 0)
		wantErr(t, "second write", err, syscall.EPIPE)

		// What a net.Conn says.
		c1, c2, stop, err := conns(t, p.na, p.nb, "tcp", "10.77.0.2:8")
		must(t, err)
		defer stop()
		c1.Write([]byte("never read"))
		time.Sleep(time.Second)
		c2.Close()
		time.Sleep(time.Second)
		_, err = c1.Read(make([]byte, 1))
		want := fmt.Sprintf("read tcp %v->%v: read: connection reset by peer", c1.LocalAddr(), c1.RemoteAddr())
		if err == nil || err.Error() != want {
			t.Errorf("%v, want %v", err, want)
		}
	})
}

// TestPeerVanishes: the wire is cut, and the writer learns it when RFC 9293's
// R2 is over, some 15 minutes later.
func TestPeerVanishes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{Delay: time.Millisecond})
		c, _ := p.connected(t)
		p.pa.SetImpairment(wire.Impairment{Loss: 1})
		c.Send([]byte{1}, 0)
		r := <-start(func() (int, error) { return c.Recv(make([]byte, 1), 0) })
		if (r.err != syscall.ETIMEDOUT && r.err != syscall.EHOSTUNREACH) || r.at < 10*time.Minute || r.at > 20*time.Minute {
			t.Errorf("%v after %v", r.err, r.at)
		}
	})
}

// TestBacklog: a listener with backlog n lets n+1 connections wait; the SYNs
// of others are dropped, tried again by their senders, and in at last.
func TestBacklog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{Delay: time.Millisecond})
		const backlog, clients = 3, 10
		l := listen(t, p.b, "0.0.0.0:7", backlog)
		done := make(chan error, clients)
		for range clients {
			c := tcp4(t, p.a)
			go func() { done <- c.Connect(bg, ap("10.77.0.2:7")) }()
			time.Sleep(10 * time.Millisecond)
		}
		if len(done) != backlog+1 {
			t.Errorf("%d connected, want %d", len(done), backlog+1)
		}
		if n := counter(p.b, "tcp.drop.listen-overflow"); n == 0 {
			t.Error("the overflow was not counted")
		}
		for range clients {
			g, _, err := l.Accept(bg)
			must(t, err)
			g.Close()
		}
		for range clients {
			wantErr(t, "connect", <-done, nil)
		}
	})
}

// TestListenerCloseResets: connections that nobody accepted are reset.
func TestListenerCloseResets(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{Delay: time.Millisecond})
		l := listen(t, p.b, "0.0.0.0:7", 8)
		c := tcp4(t, p.a)
		must(t, c.Connect(bg, ap("10.77.0.2:7")))
		time.Sleep(time.Second)
		l.Close()
		_, err := c.Recv(make([]byte, 1), 0)
		wantErr(t, "read", err, syscall.ECONNRESET)
		wantErr(t, "connect", tcp4(t, p.a).Connect(bg, ap("10.77.0.2:7")), syscall.ECONNREFUSED)
	})
}

// TestDontWait: MSG_DONTWAIT takes what there is and EAGAIN when there is none.
func TestDontWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{Delay: time.Millisecond})
		c, s := p.connected(t)
		_, err := s.Recv(make([]byte, 9), socket.MSG_DONTWAIT)
		wantErr(t, "nothing there", err, syscall.EAGAIN)
		sent := 0
		for err = nil; err == nil; {
			var n int
			n, err = c.Send(make([]byte, 1<<20), socket.MSG_DONTWAIT)
			sent += n
		}
		wantErr(t, "buffers full", err, syscall.EAGAIN)
		time.Sleep(time.Minute)
		n, err := c.Send(make([]byte, 1<<20), socket.MSG_DONTWAIT)
		wantErr(t, "what the receiver's window took", err, nil)
		sent += n
		got := 0
		b := make([]byte, 1<<16)
		for err = nil; err == nil; {
			n, err = s.Recv(b, socket.MSG_DONTWAIT)
			if got += n; err == syscall.EAGAIN && got < sent {
				time.Sleep(time.Second)
				err = nil
			}
		}
		wantErr(t, "all taken", err, syscall.EAGAIN)
		if got != sent {
			t.Errorf("%d of %d bytes", got, sent)
		}
	})
}

// TestStateSeenFromAbove: the states of RFC 9293 that calls lead to.
func TestStateSeenFromAbove(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{Delay: time.Millisecond})
		c, s := p.connected(t)
		state := func(what string, f *socket.FD, want tcp.State) {
			t.Helper()
			time.Sleep(100 * time.Millisecond)
			if got := f.Stream().State(); got != want {
				t.Errorf("%s: %v, want %v", what, got, want)
			}
		}
		state("connected", c, tcp.Established)
		state("accepted", s, tcp.Established)
		c.Shutdown(socket.SHUT_WR)
		state("after its FIN", c, tcp.FinWait2)
		state("after the peer's FIN", s, tcp.CloseWait)
		s.Shutdown(socket.SHUT_WR)
		// TIME-WAIT is a record in the stack's table; the socket has ended.
		state("after both", c, tcp.Closed)
		state("after both", s, tcp.Closed)
	})
}

// TestServerRestarts: a port can be listened on again while connections of the
// last listener live on or are in TIME-WAIT.
func TestServerRestarts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		for range 3 {
			l, err := p.nb.Listen("tcp", ":80")
			must(t, err)
			c, err := p.na.Dial("tcp", "10.77.0.2:80")
			must(t, err)
			s, err := l.Accept()
			must(t, err)
			l.Close()
			s.Close()
			io.Copy(io.Discard, c)
			c.Close()
		}
	})
}

// TestBindConflicts is the table of who may share a port with whom.
func TestBindConflicts(t *testing.T) {
	binds := []struct {
		name, addr string
		only6      bool
	}{
		{"v4 any", "0.0.0.0:7", false},
		{"v4 loopback", "127.0.0.1:7", false},
		{"v4 own", "10.77.0.1:7", false},
		{"v6 any", "[::]:7", false},
		{"v6 any only", "[::]:7", true},
		{"v6 loopback", "[::1]:7", false},
		{"mapped any", "[::ffff:0.0.0.0]:7", false},
		{"mapped own", "[::ffff:10.77.0.1]:7", false},
	}
	// A row is who came first, a column who comes second: x means EADDRINUSE.
	table := []string{
		"xxxx..xx",
		"xx.x..x.",
		"x.xx..xx",
		"xxxxxxxx",
		"...xxx..",
		"...xxx..",
		"xxxx..xx",
		"x.xx..xx",
	}
	watch(t)
	p := newPair(t, wire.Options{})
	for _, typ := range []int{socket.SOCK_STREAM, socket.SOCK_DGRAM} {
		bind := func(i int) (*socket.FD, error) {
			a := ap(binds[i].addr)
			f := sock(t, p.a, domainOf(a.Addr()), typ, 0)
			if binds[i].only6 {
				must(t, f.SetV6Only(true))
			}
			return f, f.Bind(a)
		}
		for i, row := range table {
			for j, mark := range row {
				f, err := bind(i)
				wantErr(t, binds[i].name, err, nil)
				var want error
				if mark == 'x' {
					want = syscall.EADDRINUSE
				}
				g, err := bind(j)
				wantErr(t, fmt.Sprintf("type %d: %s, then %s", typ, binds[i].name, binds[j].name), err, want)
				f.Close()
				g.Close()
			}
		}
	}
}

// TestListenerAddr: the addresses and errors of a Network are package net's.
func TestListenerAddr(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := socket.Net(lone(t))
		for _, c := range []struct{ network, addr, want, err string }{
			{"tcp", ":80", "[::]:80", ""},
			{"tcp4", ":80", "0.0.0.0:80", ""},
			{"tcp6", ":80", "[::]:80", ""},
			{"tcp", "127.0.0.1:80", "127.0.0.1:80", ""},
			{"tcp", "localhost:80", "127.0.0.1:80", ""},
			{"tcp6", "localhost:80", "[::1]:80", ""},
			{"tcp", "192.0.2.1:80", "", "listen tcp 192.0.2.1:80: bind: cannot assign requested address"},
			{"udp", ":80", "", "listen udp :80: address :80: unexpected address type"},
			{"tcp4", "[::1]:80", "", "listen tcp4: address ::1: no suitable address found"},
			{"tcp", "example.org:80", "", "listen tcp: lookup example.org: no DNS server is known"},
			{"tcp", "80", "", "listen tcp: address 80: missing port in address"},
			{"tcp", ":99999", "", "listen tcp: address 99999: invalid port"},
		} {
			l, err := n.Listen(c.network, c.addr)
			if err != nil {
				if err.Error() != c.err {
					t.Errorf("%s %s: %v, want %v", c.network, c.addr, err, c.err)
				}
				continue
			}
			if l.Addr().String() != c.want {
				t.Errorf("%s %s: at %v, want %v", c.network, c.addr, l.Addr(), c.want)
			}
			if c.network == "tcp" && c.addr == ":80" {
				_, err := n.Listen("tcp", ":80")
				if err == nil || err.Error() != "listen tcp :80: bind: address already in use" {
					t.Errorf("second listener: %v", err)
				}
			}
			l.Close()
			_, err = l.Accept()
			if want := fmt.Sprintf("accept %s %s: use of closed network connection", c.network, c.want); err.Error() != want {
				t.Errorf("%v, want %v", err, want)
			}
		}
		wantErr(t, "dial", second(n.Dial("tcp", "127.0.0.1:1")), syscall.ECONNREFUSED)
		if err := second(n.Dial("tcp", "127.0.0.1:1")); err.Error() != "dial tcp 127.0.0.1:1: connect: connection refused" {
			t.Error(err)
		}
	})
}

func second(_ net.Conn, err error) error { return err }

// TestLimits: a stack that may have no more connections says so.
func TestLimits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPairConfig(t, wire.Options{}, stack.Config{Limits: stack.Limits{Connections: 2}})
		listen(t, p.b, "0.0.0.0:7", 8)
		for range 2 {
			must(t, tcp4(t, p.a).Connect(bg, ap("10.77.0.2:7")))
		}
		wantErr(t, "one too many", tcp4(t, p.a).Connect(bg, ap("10.77.0.2:7")), syscall.ENOBUFS)
	})
}
