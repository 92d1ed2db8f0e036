package socket_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
)

// TestMain checks that the tests leave nothing behind: each watches itself
// (see watch), and here is looked at what is left of all together.
func TestMain(m *testing.M) {
	// The standard library's resolver makes a channel when it is first used,
	// which must not be one of a bubble: the next could not use it.
	r := net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return nil, os.ErrInvalid }}
	_, _ = r.LookupHost(context.Background(), "nowhere.invalid") // it fails
	goroutines, live := runtime.NumGoroutine(), pkt.Live()
	if slices.ContainsFunc(os.Args, func(a string) bool { return strings.HasPrefix(a, "-test.fuzz") }) {
		goroutines++ // os/signal's, which fuzzing begins
	}
	code := m.Run()
	if err := baseline(goroutines, live); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, "after all tests:", err)
		code = 1
	}
	os.Exit(code)
}

// baseline waits for goroutines and buffers to be as few as they were.
func baseline(goroutines int, live int64) error {
	end := time.Now().Add(30 * time.Second)
	for wait := time.Microsecond; ; wait = min(2*wait, 100*time.Millisecond) {
		if runtime.NumGoroutine() <= goroutines && pkt.Live() <= live {
			return nil
		}
		if time.Now().After(end) {
			buf := make([]byte, 1<<16)
			return fmt.Errorf("%d goroutines, were %d; %d buffers, were %d\n%s", runtime.NumGoroutine(), goroutines,
				pkt.Live(), live, buf[:runtime.Stack(buf, true)])
		}
		time.Sleep(wait)
	}
}

// watch fails the test that leaves goroutines or buffers behind when its
// clean-up is over. Call it first.
func watch(t testing.TB) {
	goroutines, live := runtime.NumGoroutine(), pkt.Live()
	t.Cleanup(func() {
		if err := baseline(goroutines, live); err != nil {
			t.Error(err)
		}
	})
}

// bubble runs f in virtual time. A goroutine that f leaves behind fails the
// test by itself there.
func bubble(t *testing.T, f func(t *testing.T)) {
	watch(t)
	synctest.Test(t, f)
}

// pair is two hosts on one segment: 10.77.0.1 and fd77::1, 10.77.0.2 and
// fd77::2.
type pair struct {
	a, b   *stack.Stack
	ia, ib *stack.Interface
	na, nb *socket.Network
	pa, pb *wire.Port
}

// newPair makes two hosts, in real time or in that of the bubble it is called
// in. They end with the test.
func newPair(t testing.TB, o wire.Options) *pair { return newPairConfig(t, o, stack.Config{}) }

func newPairConfig(t testing.TB, o wire.Options, c stack.Config) *pair {
	t.Helper()
	o.Pull = true
	seg := wire.New(nil, o)
	p := new(pair)
	p.a, p.ia, p.pa = newHost(t, seg, 1, c)
	p.b, p.ib, p.pb = newHost(t, seg, 2, c)
	p.na, p.nb = socket.Net(p.a), socket.Net(p.b)
	t.Cleanup(func() {
		p.a.Close()
		p.b.Close()
		seg.Close()
	})
	return p
}

func newHost(t testing.TB, seg *wire.Segment, n byte, c stack.Config) (*stack.Stack, *stack.Interface, *wire.Port) {
	t.Helper()
	mac := ether.Addr{2, 0, 0, 0, 0, n}
	s := stack.New(c)
	port := seg.Attach(fmt.Sprintf("host%d", n), mac)
	i, err := s.AddInterface(stack.InterfaceConfig{Name: "eth0", Device: port, MAC: mac, NoDAD: true, IID: ipv6.IIDEUI64})
	for _, a := range []string{"10.77.0.%d/24", "fd77::%d/64"} {
		if err == nil {
			err = i.AddAddr(netip.MustParsePrefix(fmt.Sprintf(a, n)))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return s, i, port
}

// lone makes a host with nothing but loopback.
func lone(t testing.TB) *stack.Stack {
	s := stack.New(stack.Config{})
	t.Cleanup(func() { s.Close() })
	return s
}

func ap(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// sock makes a socket that ends with the test.
func sock(t testing.TB, s *stack.Stack, domain, typ, proto int) *socket.FD {
	t.Helper()
	f, err := socket.Socket(s, domain, typ, proto)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func tcp4(t testing.TB, s *stack.Stack) *socket.FD {
	return sock(t, s, socket.AF_INET, socket.SOCK_STREAM, 0)
}

func udp4(t testing.TB, s *stack.Stack) *socket.FD {
	return sock(t, s, socket.AF_INET, socket.SOCK_DGRAM, 0)
}

// listen makes a listening socket on a wildcard address.
func listen(t testing.TB, s *stack.Stack, addr string, backlog int) *socket.FD {
	t.Helper()
	f := tcp4(t, s)
	must(t, f.SetReuseAddr(true)) // the one before may be in TIME-WAIT
	must(t, f.Bind(ap(addr)))
	must(t, f.Listen(backlog))
	return f
}

// connected makes a connection from host a to host b, port 7.
func (p *pair) connected(t testing.TB) (client, server *socket.FD) {
	t.Helper()
	l := listen(t, p.b, "0.0.0.0:7", 8)
	client = tcp4(t, p.a)
	must(t, client.Connect(bg, ap("10.77.0.2:7")))
	server, from, err := l.Accept(bg)
	must(t, err)
	if want, _ := client.Getsockname(); from != want {
		t.Errorf("accepted from %v, want %v", from, want)
	}
	l.Close()
	t.Cleanup(func() { server.Close() })
	return client, server
}

// conns is connected as net.Conns over any network and address.
func conns(t testing.TB, from, to *socket.Network, network, addr string) (c1, c2 net.Conn, stop func(), err error) {
	l, err := to.Listen(network, addr)
	if err != nil {
		return nil, nil, nil, err
	}
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			t.Errorf("accept: %v", err)
		}
		accepted <- c
	}()
	if c1, err = from.Dial(network, l.Addr().String()); err != nil {
		l.Close()
		<-accepted
		return nil, nil, nil, err
	}
	c2 = <-accepted
	return c1, c2, func() { c1.Close(); c2.Close(); l.Close() }, nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantErr checks an error by errors.Is; nil wants none.
func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) || want == nil && err != nil {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// recvAll reads to the end of the stream.
func recvAll(f *socket.FD) ([]byte, error) {
	var all []byte
	buf := make([]byte, 4096)
	for {
		n, err := f.Recv(buf, 0)
		all = append(all, buf[:n]...)
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
	}
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// result is what a call in another goroutine returned, and when.
type result struct {
	n   int
	err error
	at  time.Duration // since start
}

// start runs call in a goroutine.
func start(call func() (int, error)) <-chan result {
	ch := make(chan result, 1)
	begin := time.Now()
	go func() {
		n, err := call()
		ch <- result{n, err, time.Since(begin)}
	}()
	return ch
}

var bg = context.Background()

var past = time.Unix(1, 0)

// blockingCalls are the calls that wait, each on a socket where it will. The
// last argument of run is for those that take a context.
type blockingCall struct {
	name string
	// prepare returns the socket and the call.
	prepare func(t *testing.T, p *pair) (*socket.FD, func(context.Context) (int, error))
	write   bool // the write deadline is its own
	context bool // it takes one
}

var blockingCalls = []blockingCall{
	{name: "Recv", prepare: func(t *testing.T, p *pair) (*socket.FD, func(context.Context) (int, error)) {
		c, _ := p.connected(t)
		return c, func(context.Context) (int, error) { return c.Recv(make([]byte, 10), 0) }
	}},
	{name: "RecvFrom", prepare: func(t *testing.T, p *pair) (*socket.FD, func(context.Context) (int, error)) {
		f := udp4(t, p.a)
		must(t, f.Bind(ap("0.0.0.0:53")))
		return f, func(context.Context) (int, error) {
			n, _, err := f.RecvFrom(make([]byte, 10), 0)
			return n, err
		}
	}},
	{name: "Send", write: true, prepare: func(t *testing.T, p *pair) (*socket.FD, func(context.Context) (int, error)) {
		c, _ := p.connected(t)
		return c, func(context.Context) (int, error) {
			for {
				if _, err := c.Send(make([]byte, 1<<20), 0); err != nil {
					return 0, err
				}
			}
		}
	}},
	{name: "Accept", context: true, prepare: func(t *testing.T, p *pair) (*socket.FD, func(context.Context) (int, error)) {
		l := listen(t, p.a, "0.0.0.0:7", 1)
		return l, func(ctx context.Context) (int, error) {
			_, _, err := l.Accept(ctx)
			return 0, err
		}
	}},
	{name: "Connect", write: true, context: true, prepare: func(t *testing.T, p *pair) (*socket.FD, func(context.Context) (int, error)) {
		p.blackHole(t)
		c := tcp4(t, p.a)
		return c, func(ctx context.Context) (int, error) { return 0, c.Connect(ctx, ap("192.0.2.1:7")) }
	}},
}

// blackHole routes everything from a through b, which forwards nothing.
func (p *pair) blackHole(t *testing.T) {
	t.Helper()
	must(t, p.a.AddRoute(stack.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("10.77.0.2")}))
}

// counter returns one of a stack's counters.
func counter(s *stack.Stack, name string) (sum uint64) {
	for k, n := range s.Counters() {
		if strings.HasSuffix(k, name) {
			sum += n
		}
	}
	return sum
}

// errname is how the tests write an error down.
func errname(err error) string {
	var e syscall.Errno
	switch {
	case err == nil:
		return "ok"
	case err == io.EOF:
		return "EOF"
	case errors.Is(err, net.ErrClosed):
		return "EBADF"
	case errors.As(err, &e):
		return errnos[e]
	}
	return err.Error()
}
