package socket_test

import (
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// fastServer makes host b answer each connection to port 7 with what it says
// first, and to host a known as a server of Fast Open.
func (p *pair) fastServer(t *testing.T) {
	t.Helper()
	f := sock(t, p.b, socket.AF_INET6, socket.SOCK_STREAM, 0)
	must(t, f.Bind(ap("[::]:7")))
	must(t, f.SetFastOpen(8)) // before it listens, and after
	must(t, f.SetFastOpenKey(make([]byte, 16)))
	must(t, f.Listen(8))
	must(t, f.SetFastOpen(16))
	must(t, f.SetFastOpenKey(append(make([]byte, 31), 1)))
	go func() {
		for {
			g, _, err := f.Accept(bg)
			if err != nil {
				return
			}
			go func() {
				defer g.Close()
				b := make([]byte, 10_000)
				for {
					n, err := g.Recv(b, 0)
					if err != nil {
						return
					}
					g.Send(b[:n], 0)
				}
			}()
		}
	}()
	for _, to := range []string{"10.77.0.2:7", "[fd77::2]:7"} {
		g := sock(t, p.a, domainOf(ap(to).Addr()), socket.SOCK_STREAM, 0)
		// The first time the text waits for the handshake.
		n, err := g.SendTo([]byte("first"), socket.MSG_FASTOPEN, ap(to))
		if n != 5 || err != nil {
			t.Fatal(n, err)
		}
		wantText(t, g, "first")
		g.Close()
	}
}

func wantText(t *testing.T, f *socket.FD, want string) {
	t.Helper()
	got, b := "", make([]byte, 10_000)
	for len(got) < len(want) {
		n, err := f.Recv(b, 0)
		if err != nil {
			t.Fatalf("after %d bytes: %v", len(got), err)
		}
		got += string(b[:n])
	}
	if got != want {
		t.Errorf("received %d bytes, other than sent", len(got))
	}
}

const trip = 100 * time.Millisecond

func fastPair(t *testing.T, f func(t *testing.T, p *pair, to netip.AddrPort)) {
	for _, to := range []string{"10.77.0.2:7", "[fd77::2]:7"} {
		t.Run(to, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := newPair(t, wire.Options{Delay: trip / 2})
				p.fastServer(t)
				f(t, p, ap(to))
			})
		})
	}
}

// TestSendFastOpen: MSG_FASTOPEN connects and sends in one call.
func TestSendFastOpen(t *testing.T) {
	fastPair(t, func(t *testing.T, p *pair, to netip.AddrPort) {
		f := sock(t, p.a, domainOf(to.Addr()), socket.SOCK_STREAM, 0)
		start := time.Now()
		n, err := f.SendTo([]byte("hello"), socket.MSG_FASTOPEN, to)
		if n != 5 || err != nil || time.Since(start) != trip {
			t.Errorf("sent %d, %v after %v", n, err, time.Since(start))
		}
		wantText(t, f, "hello")
		if d := time.Since(start); d != trip {
			t.Errorf("the answer took %v", d)
		}
		if !f.Stream().Info().SynData {
			t.Error("the text did not go with the SYN")
		}
		// It is a connection like any other.
		n, err = f.Send([]byte("again"), 0)
		if n != 5 || err != nil {
			t.Error(n, err)
		}
		wantText(t, f, "again")
		_, err = f.SendTo([]byte("x"), socket.MSG_FASTOPEN, to)
		wantErr(t, "on a connection", err, syscall.EISCONN)

		// More than a SYN carries, all of it.
		f = sock(t, p.a, domainOf(to.Addr()), socket.SOCK_STREAM, 0)
		long := string(make([]byte, 9000))
		if n, err := f.SendTo([]byte(long), socket.MSG_FASTOPEN, to); n != 9000 || err != nil {
			t.Errorf("sent %d, %v", n, err)
		}
		wantText(t, f, long)
	})
}

// TestSendFastOpenDontWait: what the SYN takes, and no waiting.
func TestSendFastOpenDontWait(t *testing.T) {
	fastPair(t, func(t *testing.T, p *pair, to netip.AddrPort) {
		const flags = socket.MSG_FASTOPEN | socket.MSG_DONTWAIT
		f := sock(t, p.a, domainOf(to.Addr()), socket.SOCK_STREAM, 0)
		start := time.Now()
		n, err := f.SendTo(make([]byte, 5000), flags, to)
		room := map[int]int{socket.AF_INET: 1420, socket.AF_INET6: 1400}[domainOf(to.Addr())]
		if n != room || err != nil || time.Since(start) != 0 {
			t.Errorf("sent %d, %v after %v", n, err, time.Since(start))
		}
		_, err = f.SendTo([]byte("x"), flags, to)
		wantErr(t, "a second one", err, syscall.EALREADY)
		wantErr(t, "connect", f.Connect(bg, to), syscall.EALREADY)
		_, err = f.Send([]byte("x"), socket.MSG_DONTWAIT)
		wantErr(t, "an ordinary one", err, syscall.EAGAIN)
		if n, err := f.Send([]byte("rest"), 0); n != 4 || err != nil {
			t.Error(n, err)
		}
		wantText(t, f, string(make([]byte, room))+"rest")

		// Nothing to send, or no cookie: only the SYN leaves.
		f = sock(t, p.a, domainOf(to.Addr()), socket.SOCK_STREAM, 0)
		_, err = f.SendTo(nil, flags, to)
		wantErr(t, "nothing", err, syscall.EINPROGRESS)
		f = sock(t, p.b, socket.AF_INET, socket.SOCK_STREAM, 0)
		n, err = f.SendTo([]byte("hello"), flags, ap("127.0.0.1:7"))
		if n != 5 || err != nil { // not so fast that the handshake was over, as it may be on loopback
			wantErr(t, "no cookie", err, syscall.EINPROGRESS)
			n, err = f.Send([]byte("hello"), 0)
		}
		if n != 5 || err != nil {
			t.Error(n, err)
		}
		wantText(t, f, "hello")
	})
}

// TestSendFastOpenErrors are those of connect.
func TestSendFastOpenErrors(t *testing.T) {
	fastPair(t, func(t *testing.T, p *pair, to netip.AddrPort) {
		closed := netip.AddrPortFrom(to.Addr(), 9)
		f := sock(t, p.a, domainOf(to.Addr()), socket.SOCK_STREAM, 0)
		_, err := f.SendTo([]byte("x"), socket.MSG_FASTOPEN, closed)
		wantErr(t, "closed port", err, syscall.ECONNREFUSED)
		if n, err := f.SendTo([]byte("hello"), socket.MSG_FASTOPEN, to); n != 5 || err != nil {
			t.Errorf("another try: %d, %v", n, err)
		}
		wantText(t, f, "hello")

		f = sock(t, p.a, domainOf(to.Addr()), socket.SOCK_STREAM, 0)
		if n, err := f.SendTo([]byte("x"), socket.MSG_FASTOPEN|socket.MSG_DONTWAIT, closed); n != 1 || err != nil {
			t.Error(n, err)
		}
		time.Sleep(2 * trip)
		_, err = f.Send([]byte("x"), 0)
		wantErr(t, "after a reset", err, syscall.ECONNREFUSED)

		f = sock(t, p.a, domainOf(to.Addr()), socket.SOCK_STREAM, 0)
		_, err = f.SendTo([]byte("x"), socket.MSG_FASTOPEN, netip.AddrPort{})
		wantErr(t, "no address", err, syscall.EOPNOTSUPP)
		_, err = f.Send([]byte("x"), socket.MSG_FASTOPEN)
		wantErr(t, "send", err, syscall.EOPNOTSUPP)
		_, err = f.SendTo([]byte("x"), socket.MSG_FASTOPEN|socket.MSG_TRUNC, to)
		wantErr(t, "another flag", err, syscall.EOPNOTSUPP)
		must(t, f.SetWriteDeadline(time.Now().Add(trip/2)))
		_, err = f.SendTo([]byte("x"), socket.MSG_FASTOPEN, to)
		wantErr(t, "deadline", err, os.ErrDeadlineExceeded)
		f.Close()
		_, err = f.SendTo([]byte("x"), socket.MSG_FASTOPEN, to)
		wantErr(t, "closed", err, net.ErrClosed)

		u := sock(t, p.a, domainOf(to.Addr()), socket.SOCK_DGRAM, 0)
		_, err = u.SendTo([]byte("x"), socket.MSG_FASTOPEN, to)
		wantErr(t, "datagram", err, syscall.EOPNOTSUPP)
	})
}

// TestConnectFastOpen: TCP_FASTOPEN_CONNECT makes Connect and Send do it.
func TestConnectFastOpen(t *testing.T) {
	fastPair(t, func(t *testing.T, p *pair, to netip.AddrPort) {
		dial := func() *socket.FD {
			t.Helper()
			f := sock(t, p.a, domainOf(to.Addr()), socket.SOCK_STREAM, 0)
			must(t, f.SetFastOpenConnect(true))
			start := time.Now()
			must(t, f.Connect(bg, to))
			if time.Since(start) != 0 || !f.Stream().Held() {
				t.Fatalf("connect took %v", time.Since(start))
			}
			wantErr(t, "connect again", f.Connect(bg, to), syscall.EISCONN)
			_, err := f.Recv(make([]byte, 1), socket.MSG_DONTWAIT)
			wantErr(t, "recv", err, syscall.EAGAIN)
			_, err = f.Getpeername()
			wantErr(t, "getpeername", err, syscall.ENOTCONN)
			return f
		}
		for _, flags := range []int{0, socket.MSG_FASTOPEN, socket.MSG_DONTWAIT} {
			f := dial()
			start := time.Now()
			if n, err := f.SendTo([]byte("hello"), flags, to); n != 5 || err != nil {
				t.Errorf("flags %x: %d, %v", flags, n, err)
			}
			wantText(t, f, "hello")
			if d := time.Since(start); d != trip || !f.Stream().Info().SynData {
				t.Errorf("flags %x: the answer took %v", flags, d)
			}
		}
		// A program that reads first does not wait for ever.
		f := dial()
		must(t, f.SetReadDeadline(time.Now().Add(10*trip)))
		_, err := f.Recv(make([]byte, 1), 0)
		wantErr(t, "recv", err, os.ErrDeadlineExceeded)
		if f.Stream().State() != tcp.Established {
			t.Errorf("state %v", f.Stream().State())
		}
		// An empty send connects, and waits for it.
		f = dial()
		if n, err := f.Send(nil, 0); n != 0 || err != nil || f.Stream().State() != tcp.Established {
			t.Errorf("%d, %v, %v", n, err, f.Stream().State())
		}
		f = dial()
		f.Close()
		if n := f.Stream().Info().SegmentsOut; n != 0 {
			t.Errorf("%d segments of a connection that was never used", n)
		}
	})
}

// TestFastOpenNonblock: neither connect nor send wait on a non-blocking socket.
func TestFastOpenNonblock(t *testing.T) {
	fastPair(t, func(t *testing.T, p *pair, to netip.AddrPort) {
		dial := func(to netip.AddrPort, want error) *socket.FD {
			t.Helper()
			f := sock(t, p.a, domainOf(to.Addr()), socket.SOCK_STREAM, 0)
			must(t, f.SetNonblock(true))
			must(t, f.SetFastOpenConnect(true))
			start := time.Now()
			wantErr(t, "connect", f.Connect(bg, to), want)
			if time.Since(start) != 0 {
				t.Errorf("connect took %v", time.Since(start))
			}
			return f
		}
		f := dial(to, nil)
		wantErr(t, "connect again", f.Connect(bg, to), syscall.EISCONN)
		if f.Ready() != stack.ReadyOut {
			t.Errorf("ready for %x", f.Ready())
		}
		if n, err := f.Send(make([]byte, 3000), 0); n != 1420 && n != 1400 || err != nil {
			t.Errorf("sent %d, %v", n, err)
		}
		_, err := f.Send([]byte("x"), 0)
		wantErr(t, "send", err, syscall.EAGAIN)
		_, err = f.SendTo([]byte("x"), socket.MSG_FASTOPEN, to)
		wantErr(t, "MSG_FASTOPEN", err, syscall.EALREADY)
		time.Sleep(2 * trip)
		if f.Ready() != stack.ReadyIn|stack.ReadyOut || !f.Stream().Info().SynData {
			t.Errorf("later ready for %x", f.Ready())
		}
		if n, err := f.SendTo([]byte("x"), socket.MSG_FASTOPEN, to); n != 1 || err != nil {
			t.Errorf("the first MSG_FASTOPEN after the handshake: %d, %v", n, err)
		}
		_, err = f.SendTo([]byte("x"), socket.MSG_FASTOPEN, to)
		wantErr(t, "the second", err, syscall.EISCONN)
		f = dial(to, nil)
		_, err = f.Send(nil, 0)
		wantErr(t, "an empty send", err, syscall.EINPROGRESS)
		wantErr(t, "connect", f.Connect(bg, to), syscall.EALREADY)
		// No cookie: as without Fast Open.
		l := listen(t, p.a, "0.0.0.0:70", 5)
		f = dial(ap("127.0.0.1:70"), syscall.EINPROGRESS)
		time.Sleep(trip)
		wantErr(t, "connect again", f.Connect(bg, ap("127.0.0.1:70")), nil)
		l.Close()
		// An error comes from the next call.
		f = dial(netip.AddrPortFrom(to.Addr(), 9), nil)
		if n, err := f.Send([]byte("x"), 0); n != 1 || err != nil {
			t.Error(n, err)
		}
		time.Sleep(2 * trip)
		_, err = f.Send([]byte("x"), 0)
		wantErr(t, "after a reset", err, syscall.ECONNREFUSED)
	})
}

// TestFastOpenOptions: when they may be set.
func TestFastOpenOptions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPairConfig(t, wire.Options{}, stack.Config{})
		c, s := p.connected(t)
		fresh, u := tcp4(t, p.a), udp4(t, p.a)
		l := listen(t, p.a, "0.0.0.0:9", 1)
		closed := tcp4(t, p.a)
		closed.Close()
		for _, x := range []struct {
			name          string
			f             *socket.FD
			n             int
			queue, client error
		}{
			{"fresh", fresh, 5, nil, nil}, {"negative", fresh, -1, syscall.EINVAL, nil},
			{"listening", l, 5, nil, syscall.EINVAL}, {"connected", c, 5, syscall.EINVAL, syscall.EINVAL},
			{"accepted", s, 5, syscall.EINVAL, syscall.EINVAL},
			{"datagram", u, 5, syscall.ENOPROTOOPT, syscall.ENOPROTOOPT}, {"closed", closed, 5, net.ErrClosed, net.ErrClosed},
		} {
			wantErr(t, x.name+": TCP_FASTOPEN", x.f.SetFastOpen(x.n), x.queue)
			wantErr(t, x.name+": TCP_FASTOPEN_KEY", x.f.SetFastOpenKey(make([]byte, 16*max(x.n/5, 0))), x.queue)
			wantErr(t, x.name+": TCP_FASTOPEN_KEY", x.f.SetFastOpenKey(make([]byte, 32*max(x.n/5, 0))), x.queue)
			wantErr(t, x.name+": TCP_FASTOPEN_CONNECT", x.f.SetFastOpenConnect(true), x.client)
		}
	})
	bubble(t, func(t *testing.T) {
		p := newPairConfig(t, wire.Options{}, stack.Config{TCP: stack.TCPConfig{FastOpen: stack.FastOpenServer}})
		f := tcp4(t, p.a)
		wantErr(t, "without permission", f.SetFastOpenConnect(true), syscall.EOPNOTSUPP)
		_, err := f.SendTo([]byte("x"), socket.MSG_FASTOPEN, ap("10.77.0.2:7"))
		wantErr(t, "without permission", err, syscall.EOPNOTSUPP)
	})
}

// TestFastOpenMany: more clients at a time than may wait, and than the queue of
// half-open connections holds: each gets through in one way or another.
func TestFastOpenMany(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPairConfig(t, wire.Options{Delay: trip / 2}, stack.Config{Limits: stack.Limits{SynQueue: 4}})
		p.fastServer(t)
		var wg sync.WaitGroup
		for k := range 40 {
			wg.Go(func() {
				for n := range 5 {
					f := sock(t, p.a, socket.AF_INET, socket.SOCK_STREAM, 0)
					if k%2 == 0 {
						f.SetFastOpenConnect(true)
						if err := f.Connect(bg, ap("10.77.0.2:7")); err != nil {
							t.Errorf("%d: connect: %v", k, err)
							return
						}
					}
					text := strings.Repeat("x", 1+k*100+n)
					if m, err := f.SendTo([]byte(text), socket.MSG_FASTOPEN*(k%2), ap("10.77.0.2:7")); m != len(text) || err != nil {
						t.Errorf("%d: sent %d, %v", k, m, err)
						return
					}
					wantText(t, f, text)
					f.Close()
				}
			})
		}
		wg.Wait()
		c := p.b.Counters()
		if c["tcp.fast-open-passive"] == 0 || c["tcp.syn-cookies-received"] == 0 {
			t.Errorf("%v", c)
		}
	})
}
