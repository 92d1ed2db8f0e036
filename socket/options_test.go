package socket_test

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// cut parts the two hosts for good.
func (p *pair) cut() {
	p.pa.SetImpairment(wire.Impairment{Loss: 1})
	p.pb.SetImpairment(wire.Impairment{Loss: 1})
}

func setOpt(t testing.TB, f *socket.FD, level, opt, v int) {
	t.Helper()
	must(t, f.SetsockoptInt(level, opt, v))
}

func getOpt(t testing.TB, f *socket.FD, level, opt int) int {
	t.Helper()
	v, err := f.GetsockoptInt(level, opt)
	must(t, err)
	return v
}

// TestKeepAlive: a peer that is gone is noticed, one that is there is not
// disturbed.
func TestKeepAlive(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		c, s := p.connected(t)
		must(t, c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 1500 * time.Millisecond, Count: 3}))
		if got := getOpt(t, c, socket.SOL_TCP, socket.TCP_KEEPINTVL); got != 2 {
			t.Errorf("interval %d s", got)
		}
		r := start(func() (int, error) { return c.Recv(make([]byte, 1), 0) })
		time.Sleep(95 * time.Second)
		if n := c.Stream().Info().KeepAlives; n != 9 {
			t.Errorf("%d keep-alives in 95 s", n)
		}
		p.cut()
		got := <-r
		// The tenth at 100 s, two more, and 2 s for the last. By then the
		// neighbour is known to be gone as well.
		if got.at != 106*time.Second || got.err != syscall.EHOSTUNREACH && got.err != syscall.ETIMEDOUT {
			t.Errorf("%v after %v", got.err, got.at)
		}
		if st := s.Stream().State(); st != tcp.Established {
			t.Errorf("the other side, which does not ask, is in %v", st)
		}
	})
}

// TestNetKeepAlive: the surface of package net begins with its defaults.
func TestNetKeepAlive(t *testing.T) {
	type keep struct{ on, idle, interval, count int }
	read := func(c net.Conn) keep {
		f := c.(*socket.Conn).FD()
		return keep{getOpt(t, f, socket.SOL_SOCKET, socket.SO_KEEPALIVE), getOpt(t, f, socket.SOL_TCP, socket.TCP_KEEPIDLE),
			getOpt(t, f, socket.SOL_TCP, socket.TCP_KEEPINTVL), getOpt(t, f, socket.SOL_TCP, socket.TCP_KEEPCNT)}
	}
	for _, c := range []struct {
		name string
		set  func(n *socket.Network)
		want keep
	}{
		{"default", func(*socket.Network) {}, keep{1, 15, 15, 9}},
		{"period", func(n *socket.Network) { n.KeepAlive = 20 * time.Second }, keep{1, 20, 20, 9}},
		{"off", func(n *socket.Network) { n.KeepAlive = -1 }, keep{0, 7200, 75, 9}},
		{"config", func(n *socket.Network) {
			n.KeepAlive = -1
			n.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: -1, Count: 4}
		}, keep{1, 60, 75, 4}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := newPair(t, wire.Options{})
				c.set(p.na)
				c.set(p.nb)
				c1, c2, stop, err := conns(t, p.na, p.nb, "tcp", "10.77.0.2:7")
				must(t, err)
				defer stop()
				if got := read(c1); got != c.want {
					t.Errorf("dialled: %v, want %v", got, c.want)
				}
				if got := read(c2); got != c.want {
					t.Errorf("accepted: %v, want %v", got, c.want)
				}
				s := c2.(*socket.Conn)
				must(t, s.SetKeepAlive(true))
				must(t, s.SetKeepAlivePeriod(1500*time.Millisecond))
				if got := read(c2); got.on != 1 || got.idle != 2 || got.interval != 2 {
					t.Errorf("after SetKeepAlivePeriod: %v", got)
				}
				must(t, s.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true}))
				if got := read(c2); got != (keep{1, 15, 15, 9}) {
					t.Errorf("after SetKeepAliveConfig: %v", got)
				}
				wantErr(t, "an hour too much", s.SetKeepAlivePeriod(10*time.Hour), syscall.EINVAL)
			})
		})
	}
}

// TestUserTimeout: text that is not acknowledged, and a handshake.
func TestUserTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		c, _ := p.connected(t)
		must(t, c.SetUserTimeout(3*time.Second))
		if got := getOpt(t, c, socket.SOL_TCP, socket.TCP_USER_TIMEOUT); got != 3000 {
			t.Errorf("%d ms", got)
		}
		r := start(func() (int, error) { return c.Recv(make([]byte, 1), 0) })
		p.cut()
		c.Send([]byte("lost"), 0)
		got := <-r
		if d := got.at - 3*time.Second; d < 200*time.Millisecond || d > 500*time.Millisecond { // and one RTO
			t.Errorf("%v after %v", got.err, got.at)
		}

		f := tcp4(t, p.a)
		p.blackHole(t)
		p.pa.SetImpairment(wire.Impairment{}) // the neighbour is there, and forwards nothing
		p.pb.SetImpairment(wire.Impairment{})
		must(t, f.SetUserTimeout(5*time.Second))
		await(t, "connect", start(func() (int, error) { return 0, f.Connect(bg, ap("192.0.2.1:9")) }), syscall.ETIMEDOUT, 5*time.Second)
	})
}

// TestTimeoutOption: the ends tell each other how long they would wait (RFC
// 5482), and wait longer than the stack's retransmissions last.
func TestTimeoutOption(t *testing.T) {
	for _, c := range []struct {
		option bool
		want   time.Duration
	}{{false, 6200 * time.Millisecond}, {true, 300 * time.Second}} {
		bubble(t, func(t *testing.T) {
			p := newPairConfig(t, wire.Options{}, stack.Config{TCP: stack.TCPConfig{Retries: 4}})
			l := listen(t, p.b, "0.0.0.0:7", 8)
			must(t, l.SetUserTimeoutOption(c.option))
			must(t, l.SetUserTimeout(300*time.Second))
			f := tcp4(t, p.a)
			must(t, f.SetUserTimeoutOption(c.option))
			must(t, f.Connect(bg, ap("10.77.0.2:7")))
			s, _, err := l.Accept(bg)
			must(t, err)
			p.cut()
			r := start(func() (int, error) { return f.Recv(make([]byte, 1), 0) })
			f.Send([]byte("lost"), 0)
			if got := <-r; got.err == nil || got.at < c.want || got.at > c.want+time.Second {
				t.Errorf("option %v: %v after %v, want %v", c.option, got.err, got.at, c.want)
			}
			s.Close()
		})
	}
}

// TestTypedOptions: the methods and the raw form are one.
func TestTypedOptions(t *testing.T) {
	f := tcp4(t, lone(t))
	for _, c := range []struct {
		name string
		set  func(bool) error
		opt  [2]int
	}{
		{"SetNoDelay", f.SetNoDelay, [2]int{socket.SOL_TCP, socket.TCP_NODELAY}},
		{"SetCork", f.SetCork, [2]int{socket.SOL_TCP, socket.TCP_CORK}},
		{"SetQuickAck", f.SetQuickAck, [2]int{socket.SOL_TCP, socket.TCP_QUICKACK}},
		{"SetKeepAlive", f.SetKeepAlive, [2]int{socket.SOL_SOCKET, socket.SO_KEEPALIVE}},
		{"SetOOBInline", f.SetOOBInline, [2]int{socket.SOL_SOCKET, socket.SO_OOBINLINE}},
		{"SetBroadcast", f.SetBroadcast, [2]int{socket.SOL_SOCKET, socket.SO_BROADCAST}},
	} {
		for _, on := range []bool{true, false} {
			must(t, c.set(on))
			if got := getOpt(t, f, c.opt[0], c.opt[1]); (got == 1) != on {
				t.Errorf("%s(%v): %d", c.name, on, got)
			}
		}
	}
	wantErr(t, "set a type", f.SetsockoptInt(socket.SOL_SOCKET, socket.SO_TYPE, 1), syscall.ENOPROTOOPT)
	must(t, f.Close())
	wantErr(t, "closed", f.SetCork(true), net.ErrClosed)
	wantErr(t, "closed", f.SetsockoptInt(socket.SOL_TCP, socket.TCP_CORK, 1), net.ErrClosed)
	_, err := f.GetsockoptInt(socket.SOL_TCP, socket.TCP_CORK)
	wantErr(t, "closed", err, net.ErrClosed)
	_, err = f.Linger()
	wantErr(t, "closed", err, net.ErrClosed)
}

// TestLinger is SO_LINGER.
func TestLinger(t *testing.T) {
	data := make([]byte, 100_000)
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		c, s := p.connected(t)
		must(t, c.SetLinger(0))
		c.Send(data, 0)
		must(t, c.Close())
		_, err := recvAll(s)
		wantErr(t, "0: what arrived, and then", err, syscall.ECONNRESET)
	})
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{Delay: 100 * time.Millisecond})
		c, s := p.connected(t)
		must(t, c.SetLinger(10))
		if sec, err := c.Linger(); sec != 10 || err != nil {
			t.Errorf("%d, %v", sec, err)
		}
		all := make(chan int, 1)
		go func() {
			b, _ := recvAll(s)
			all <- len(b)
			s.Close()
		}()
		c.Send(data, 0)
		r := <-start(func() (int, error) { return 0, c.Close() })
		if n := <-all; n != len(data) || r.err != nil || r.at < 200*time.Millisecond || r.at > 5*time.Second {
			t.Errorf("10 s: %d bytes arrived, close took %v, %v", n, r.at, r.err)
		}
	})
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		c, s := p.connected(t)
		must(t, c.SetLinger(10))
		p.cut()
		c.Send(data[:10], 0)
		conn := c.Stream()
		await(t, "close with nobody there", start(func() (int, error) { return 0, c.Close() }), nil, 10*time.Second)
		if st := conn.State(); st != tcp.FinWait1 {
			t.Errorf("it goes on without us: %v", st)
		}
		_ = s
	})
	bubble(t, func(t *testing.T) { // the default
		p := newPair(t, wire.Options{})
		c, s := p.connected(t)
		c.Send(data[:10], 0)
		await(t, "close", start(func() (int, error) { return 0, c.Close() }), nil, 0)
		if b, err := recvAll(s); len(b) != 10 || err != nil {
			t.Errorf("%d bytes, %v", len(b), err)
		}
	})
}

// TestWaitAll: MSG_WAITALL, SO_RCVLOWAT and MSG_PEEK make a call wait for more
// than a byte, until there can be no more.
func TestWaitAll(t *testing.T) {
	for _, c := range []struct {
		name       string
		flags      int
		lowat, ask int
		writes     []string // 1 s apart
		end        string   // then, 1 s later: "close", "reset", "urgent", or ""
		deadline   time.Duration
		want       string
		at         time.Duration
		err        error
	}{
		{name: "plain", ask: 10, writes: []string{"ab", "cd"}, want: "ab", at: time.Second},
		{name: "all", flags: socket.MSG_WAITALL, ask: 5, writes: []string{"ab", "cd", "ef"}, want: "abcde", at: 3 * time.Second},
		{name: "all, the end comes", flags: socket.MSG_WAITALL, ask: 50, writes: []string{"ab", "cd"}, end: "close", want: "abcd", at: 3 * time.Second},
		{name: "all, a reset comes", flags: socket.MSG_WAITALL, ask: 50, writes: []string{"ab"}, end: "reset", want: "ab", at: 2 * time.Second},
		{name: "all, urgent data comes", flags: socket.MSG_WAITALL, ask: 50, writes: []string{"ab"}, end: "urgent", want: "abx", at: 2 * time.Second},
		{name: "all, the deadline comes", flags: socket.MSG_WAITALL, ask: 50, writes: []string{"ab"}, deadline: 5 * time.Second, want: "ab", at: 5 * time.Second},
		{name: "all, nothing before the deadline", flags: socket.MSG_WAITALL, ask: 50, deadline: 5 * time.Second, at: 5 * time.Second, err: os.ErrDeadlineExceeded},
		{name: "mark", lowat: 3, ask: 10, writes: []string{"ab", "cd", "ef"}, want: "abcd", at: 2 * time.Second},
		{name: "mark above what is asked for", lowat: 30, ask: 3, writes: []string{"ab", "cd"}, want: "abc", at: 2 * time.Second},
		{name: "peek", flags: socket.MSG_PEEK, ask: 10, writes: []string{"ab", "cd"}, want: "ab", at: time.Second},
		{name: "peek all", flags: socket.MSG_PEEK | socket.MSG_WAITALL, ask: 4, writes: []string{"ab", "c", "de"}, want: "abcd", at: 3 * time.Second},
		{name: "peek all, the end comes", flags: socket.MSG_PEEK | socket.MSG_WAITALL, ask: 50, writes: []string{"ab"}, end: "close", want: "ab", at: 2 * time.Second},
		{name: "peek all, urgent data comes", flags: socket.MSG_PEEK | socket.MSG_WAITALL, ask: 50, writes: []string{"ab"}, end: "urgent", want: "abx", at: 2 * time.Second},
		{name: "peek, mark", lowat: 3, flags: socket.MSG_PEEK, ask: 10, writes: []string{"ab", "cd"}, want: "abcd", at: 2 * time.Second},
		{name: "do not wait", flags: socket.MSG_WAITALL | socket.MSG_DONTWAIT, ask: 10, writes: []string{"ab"}, err: syscall.EAGAIN},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := newPair(t, wire.Options{})
				r, w := p.connected(t)
				must(t, w.SetNoDelay(true))
				if c.lowat > 0 {
					setOpt(t, r, socket.SOL_SOCKET, socket.SO_RCVLOWAT, c.lowat)
				}
				if c.deadline > 0 {
					r.SetReadDeadline(time.Now().Add(c.deadline))
				}
				buf := make([]byte, c.ask)
				call := start(func() (int, error) { return r.Recv(buf, c.flags) })
				for _, s := range c.writes {
					time.Sleep(time.Second)
					w.Send([]byte(s), 0)
				}
				time.Sleep(time.Second)
				switch c.end {
				case "close":
					w.Close()
				case "reset":
					w.SetLinger(0)
					w.Close()
				case "urgent":
					w.Send([]byte("xy"), socket.MSG_OOB)
				}
				got := <-call
				if string(buf[:got.n]) != c.want || got.at != c.at || got.err != c.err {
					t.Errorf("%q, %v after %v; want %q, %v after %v", buf[:got.n], got.err, got.at, c.want, c.err, c.at)
				}
				if c.end == "reset" {
					_, err := r.Recv(buf, 0)
					wantErr(t, "then", err, syscall.ECONNRESET)
				}
				if c.flags&socket.MSG_PEEK != 0 {
					n, _ := r.Recv(buf, socket.MSG_DONTWAIT)
					if !strings.HasPrefix(string(buf[:n]), c.want) {
						t.Errorf("then %q", buf[:n])
					}
				}
			})
		})
	}
}

// TestPeekFullWindow: who waits for more than the window holds gets what there
// is.
func TestPeekFullWindow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPairConfig(t, wire.Options{}, stack.Config{Limits: stack.Limits{TCPReceive: 10_000}})
		r, w := p.connected(t)
		go w.Send(make([]byte, 50_000), 0)
		n, err := r.Recv(make([]byte, 40_000), socket.MSG_PEEK|socket.MSG_WAITALL)
		if n < 8000 || n > 11_000 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		n, err = r.Recv(make([]byte, 40_000), socket.MSG_WAITALL)
		if n != 40_000 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		w.Close()
	})
}

// TestSynch is what telnet does with urgent data (RFC 854): throw away what is
// queued up to the mark, then go on.
func TestSynch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{Delay: 10 * time.Millisecond})
		c, s := p.connected(t)
		must(t, s.SetOOBInline(true))
		must(t, c.SetNoDelay(true))
		urgent := make(chan struct{}, 10)
		w := &stack.Waiter{Want: stack.ReadyPri, F: func(r stack.Ready) {
			if r&stack.ReadyPri != 0 {
				urgent <- struct{}{}
			}
		}}
		s.Stream().Waiters().Add(w)
		defer s.Stream().Waiters().Remove(w)
		c.Send([]byte(strings.Repeat("yes\r\n", 1000)), 0)
		c.Send([]byte{255, 242}, socket.MSG_OOB) // IAC DM
		c.Send([]byte("ls\r\n"), 0)
		<-urgent
		time.Sleep(time.Second)
		if s.Stream().Ready()&stack.ReadyPri == 0 {
			t.Error("poll does not tell of urgent data")
		}
		buf := make([]byte, 3000)
		thrown := 0
		for {
			if at, err := s.AtMark(); err != nil || at {
				break
			}
			n, err := s.Recv(buf, 0)
			must(t, err)
			thrown += n
		}
		if thrown != 5001 { // and the IAC
			t.Errorf("%d bytes before the mark", thrown)
		}
		n, err := s.Recv(buf, 0)
		if string(buf[:n]) != "\xf2ls\r\n" || err != nil {
			t.Errorf("at the mark %q, %v", buf[:n], err)
		}
		if s.Stream().Ready()&stack.ReadyPri != 0 {
			t.Error("poll still tells of urgent data")
		}
	})
}

// TestOutOfBand: the byte that is taken out of the stream arrives ahead of what
// was sent before it and is lost.
func TestOutOfBand(t *testing.T) {
	bubble(t, func(t *testing.T) {
		far := wire.Impairment{Delay: 20 * time.Millisecond}
		p := newPair(t, wire.Options{Delay: far.Delay})
		c, s := p.connected(t)
		must(t, c.SetNoDelay(true))
		p.pa.SetImpairment(wire.Impairment{Loss: 1})
		c.Send([]byte("lost"), 0)
		p.pa.SetImpairment(far)
		c.Send([]byte("!"), socket.MSG_OOB)
		time.Sleep(25 * time.Millisecond)
		b := make([]byte, 10)
		if n, err := s.Recv(b, socket.MSG_OOB); n != 1 || b[0] != '!' || err != nil {
			t.Errorf("%q, %v", b[:n], err)
		}
		_, err := s.Recv(b, socket.MSG_DONTWAIT)
		wantErr(t, "what was lost", err, syscall.EAGAIN)
		n, err := s.Recv(b, 0)
		if string(b[:n]) != "lost" || err != nil {
			t.Errorf("%q, %v", b[:n], err)
		}
		if at, _ := s.AtMark(); !at {
			t.Error("not at the mark")
		}
		c.Send([]byte("on"), 0)
		if n, err = s.Recv(b, 0); string(b[:n]) != "on" || err != nil {
			t.Errorf("%q, %v", b[:n], err)
		}
	})
}

// TestInherit: a connection begins with what its listener had when the
// handshake ended.
func TestInherit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		l := listen(t, p.b, "0.0.0.0:7", 8)
		set := map[[2]int]int{
			{socket.SOL_SOCKET, socket.SO_KEEPALIVE}: 1, {socket.SOL_SOCKET, socket.SO_OOBINLINE}: 1,
			{socket.SOL_SOCKET, socket.SO_RCVLOWAT}: 3, {socket.SOL_TCP, socket.TCP_NODELAY}: 1, {socket.SOL_TCP, socket.TCP_CORK}: 1,
			{socket.SOL_TCP, socket.TCP_KEEPIDLE}: 11, {socket.SOL_TCP, socket.TCP_KEEPINTVL}: 12, {socket.SOL_TCP, socket.TCP_KEEPCNT}: 13,
			{socket.SOL_TCP, socket.TCP_LINGER2}: 14, {socket.SOL_TCP, socket.TCP_USER_TIMEOUT}: 15000,
			{socket.SOL_TCP, socket.TCP_NOTSENT_LOWAT}: 16000, {socket.SOL_TCP, socket.TCP_WINDOW_CLAMP}: 17000,
			{socket.SOL_TCP, socket.TCP_SYNCNT}: 5, {socket.SOL_TCP, socket.TCP_MAXSEG}: 1012,
		}
		for o, v := range set {
			setOpt(t, l, o[0], o[1], v)
		}
		must(t, l.SetLinger(7))
		set[[2]int{socket.SOL_TCP, socket.TCP_MAXSEG}] = 1000 // less the timestamps
		c := tcp4(t, p.a)
		must(t, c.Connect(bg, ap("10.77.0.2:7")))
		time.Sleep(time.Millisecond)
		setOpt(t, l, socket.SOL_TCP, socket.TCP_KEEPIDLE, 99) // too late for this one
		s, _, err := l.Accept(bg)
		must(t, err)
		for o, v := range set {
			if got := getOpt(t, s, o[0], o[1]); got != v {
				t.Errorf("option %v is %d, want %d", o, got, v)
			}
		}
		if sec, _ := s.Linger(); sec != 7 {
			t.Errorf("linger %d", sec)
		}
		if i := c.Stream().Info(); i.PeerMSS != 1012 || i.SndWnd > 17000 || i.SndWnd < 16000 {
			t.Errorf("the peer sees an MSS of %d and a window of %d", i.PeerMSS, i.SndWnd)
		}
		must(t, c.Close())
		must(t, s.SetLinger(-1))
	})
}

// TestDeferAccept: accept waits until the client has spoken.
func TestDeferAccept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		l := listen(t, p.b, "0.0.0.0:7", 8)
		setOpt(t, l, socket.SOL_TCP, socket.TCP_DEFER_ACCEPT, 10)
		accept := func() (int, error) { _, _, err := l.Accept(bg); return 0, err }
		c := tcp4(t, p.a)
		must(t, c.Connect(bg, ap("10.77.0.2:7")))
		r := start(accept)
		time.Sleep(5 * time.Second)
		c.Send([]byte("GET"), 0)
		await(t, "accept after text", r, nil, 5*time.Second)
		if counter(p.b, "tcp.drop.defer-accept") != 1 {
			t.Error("the empty ACK is not counted")
		}
		must(t, tcp4(t, p.a).Connect(bg, ap("10.77.0.2:7")))
		await(t, "accept of a silent client", start(accept), nil, 15*time.Second) // 10 rounded up to SYN-ACKs
	})
}

// TestNotSentLowat: a writer in time decides late, so that little is unsent.
func TestNotSentLowat(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{Delay: 10 * time.Millisecond, Rate: 10_000_000})
		c, s := p.connected(t)
		setOpt(t, c, socket.SOL_TCP, socket.TCP_NOTSENT_LOWAT, 20_000)
		const total = 2_000_000
		done := start(func() (int, error) {
			n, err := 0, error(nil)
			for n < total && err == nil {
				var m int
				m, err = c.Send(make([]byte, 1000), 0)
				n += m
				if unsent, _ := c.Ioctl(socket.SIOCOUTQNSD); unsent > 20_000+65_000 {
					return n, fmt.Errorf("%d bytes unsent", unsent)
				}
			}
			c.Close()
			return n, err
		})
		b, err := recvAll(s)
		if r := <-done; r.n != total || r.err != nil || len(b) != total || err != nil {
			t.Errorf("wrote %d, %v; read %d, %v", r.n, r.err, len(b), err)
		}
	})
}

// TestQueues: the ioctls count what is where.
func TestQueues(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{Delay: 100 * time.Millisecond})
		c, s := p.connected(t)
		check := func(when string, f *socket.FD, in, out, unsent int) {
			t.Helper()
			for request, want := range map[int]int{socket.SIOCINQ: in, socket.SIOCOUTQ: out, socket.SIOCOUTQNSD: unsent} {
				if got, err := f.Ioctl(request); got != want || err != nil {
					t.Errorf("%s: %#x is %d, %v, want %d", when, request, got, err, want)
				}
			}
		}
		setOpt(t, c, socket.SOL_TCP, socket.TCP_CORK, 1)
		c.Send(make([]byte, 2000), 0)
		check("corked", c, 0, 2000, 2000-1448)
		time.Sleep(150 * time.Millisecond)
		check("arrived", s, 1448, 0, 0)
		must(t, c.Shutdown(socket.SHUT_WR))
		check("FIN on its way", c, 0, 2001, 0)
		time.Sleep(time.Second)
		check("all acknowledged", c, 0, 0, 0)
		check("FIN is no byte", s, 2000, 0, 0)
		_, err := c.Ioctl(77)
		wantErr(t, "unknown", err, syscall.ENOTTY)
		u := udp4(t, p.a)
		must(t, u.Bind(ap("127.0.0.1:9")))
		u.SendTo(make([]byte, 33), 0, ap("127.0.0.1:9"))
		time.Sleep(time.Millisecond)
		if n, err := u.Ioctl(socket.SIOCINQ); n != 33 || err != nil {
			t.Errorf("a datagram: %d, %v", n, err)
		}
		u.Close()
		_, err = u.Ioctl(socket.SIOCINQ)
		wantErr(t, "closed", err, net.ErrClosed)
		wantErr(t, "closed", u.SetLinger(1), net.ErrClosed)
		wantErr(t, "of a datagram socket", udp4(t, p.a).SetNoDelay(true), syscall.ENOPROTOOPT)
	})
}

// TestOrphans: connections that nobody has any more are bounded.
func TestOrphans(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPairConfig(t, wire.Options{}, stack.Config{Limits: stack.Limits{Orphans: 2}})
		var servers []*socket.FD
		for range 3 {
			c, s := p.connected(t)
			c.Send([]byte("x"), 0)
			time.Sleep(time.Millisecond)
			c.Close() // FIN-WAIT-2, as the server does not close
			servers = append(servers, s)
		}
		time.Sleep(time.Second)
		var ends []string
		for _, s := range servers {
			b, err := recvAll(s)
			ends = append(ends, fmt.Sprint(len(b), errname(err)))
		}
		if got := strings.Join(ends, ", "); got != "1ok, 1ok, 1ECONNRESET" {
			t.Errorf("the servers saw %s", got)
		}
		if n := counter(p.a, "tcp.orphan-limit"); n != 1 {
			t.Errorf("%d counted", n)
		}
		time.Sleep(2 * time.Minute) // the others are over
		c, s := p.connected(t)
		c.Close()
		if _, err := recvAll(s); err != nil {
			t.Errorf("after they are over: %v", err)
		}
	})
}
