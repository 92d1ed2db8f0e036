package stack_test

import (
	"bytes"
	"io"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/stack/simnet"
)

func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// pair is two hosts on one segment in virtual time.
type pair struct {
	t      *testing.T
	net    *simnet.Net
	seg    *wire.Segment
	a, b   *stack.Stack
	ia, ib *stack.Interface
	live   int64
}

func newPair(t *testing.T, o wire.Options) *pair {
	return newPairOf(t, 1, stack.Config{}, o)
}

func newPairOf(t *testing.T, seed uint64, c stack.Config, o wire.Options) *pair {
	return newPairAt(t, seed, c, o, []string{"10.77.0.1/24", "fd77::1/64"}, []string{"10.77.0.2/24", "fd77::2/64"})
}

// newPair4 is a pair without IPv6 addresses.
func newPair4(t *testing.T, o wire.Options) *pair {
	return newPairAt(t, 1, stack.Config{}, o, []string{"10.77.0.1/24"}, []string{"10.77.0.2/24"})
}

// newOffloadPair is a pair whose hosts segment and merge in software.
func newOffloadPair(t *testing.T, seed uint64, o wire.Options) *pair {
	n := simnet.New(seed)
	n.Offload = true
	return newPairOn(t, n, stack.Config{}, o, []string{"10.77.0.1/24", "fd77::1/64"}, []string{"10.77.0.2/24", "fd77::2/64"})
}

func newPairAt(t *testing.T, seed uint64, c stack.Config, o wire.Options, a, b []string) *pair {
	return newPairOn(t, simnet.New(seed), c, o, a, b)
}

func newPairOn(t *testing.T, n *simnet.Net, c stack.Config, o wire.Options, a, b []string) *pair {
	p := &pair{t: t, net: n, live: pkt.Live()}
	p.seg = p.net.Segment(o)
	p.a, p.ia = p.net.Host(p.seg, c, nil, a...)
	p.b, p.ib = p.net.Host(p.seg, c, nil, b...)
	t.Cleanup(p.close)
	return p
}

// close ends both hosts and checks that every buffer came back.
func (p *pair) close() {
	p.a.Close()
	p.b.Close()
	p.seg.Close()
	if n := pkt.Live() - p.live; n != 0 {
		p.t.Errorf("%d buffers leaked", n)
	}
}

// wantDrops checks that the hosts dropped nothing but what is given by name,
// and what each does not need of the other's announcements: ARP of its address
// and reports to routers.
func (p *pair) wantDrops(allowed ...string) {
	p.t.Helper()
	allowed = append(allowed, "arp.drop.not-ours", "ether.drop.foreign-group")
	for _, s := range []*stack.Stack{p.a, p.b} {
		for _, d := range drops(s) {
			if name, _, _ := strings.Cut(d, "="); !slices.Contains(allowed, name) {
				p.t.Errorf("unexplained: %s", d)
			}
		}
	}
}

// onReady calls f now and whenever the queue reports r.
func onReady(q *stack.WaitQueue, r stack.Ready, f func()) {
	q.Add(&stack.Waiter{Want: r, F: func(stack.Ready) { f() }})
	f()
}

// serveEcho accepts on l and echoes until the end of each connection.
func serveEcho(t *testing.T, l *stack.TCPListener) {
	onReady(l.Waiters(), stack.ReadyIn, func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			var pending []byte
			buf := make([]byte, 16384)
			var eof bool
			onReady(c.Waiters(), stack.ReadyIn|stack.ReadyOut, func() {
				for {
					for len(pending) > 0 {
						n, err := c.Write(pending)
						pending = pending[n:]
						if err != nil {
							return
						}
					}
					if eof {
						return
					}
					n, err := c.Read(buf)
					if err == io.EOF {
						eof = true
						c.CloseWrite()
						c.Close()
						return
					}
					if err != nil {
						return
					}
					pending = append(pending[:0], buf[:n]...)
				}
			})
		}
	})
}

// echoTransfer sends data to an echo server and returns what came back.
func (p *pair) echoTransfer(to string, data []byte, limit time.Duration) []byte {
	c, err := p.a.DialTCP(addrPort("0.0.0.0:0"), addrPort(to))
	if err != nil {
		p.t.Fatal(err)
	}
	var got []byte
	rest := data
	done := false
	buf := make([]byte, 16384)
	onReady(c.Waiters(), stack.ReadyIn|stack.ReadyOut, func() {
		for len(rest) > 0 {
			n, err := c.Write(rest)
			rest = rest[n:]
			if err != nil {
				break
			}
			if len(rest) == 0 {
				c.CloseWrite()
			}
		}
		for {
			n, err := c.Read(buf)
			got = append(got, buf[:n]...)
			if err == io.EOF {
				done = true
			}
			if err != nil {
				if err != syscall.EAGAIN && err != io.EOF {
					p.t.Errorf("read: %v", err)
					done = true
				}
				return
			}
		}
	})
	if !p.net.Until(limit, func() bool { return done }) {
		p.t.Errorf("transfer not finished: %d of %d bytes, state %v", len(got), len(data), c.State())
	}
	c.Close()
	return got
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

func TestEchoOverTCPBothFamilies(t *testing.T) {
	for _, addr := range []string{"10.77.0.2:7", "[fd77::2]:7"} {
		p := newPair(t, wire.Options{Delay: time.Millisecond})
		l, err := p.b.BindTCP(addrPort("[::]:7"), false, false)
		if err != nil {
			t.Fatal(err)
		}
		l.Listen(10)
		serveEcho(t, l)
		data := pattern(1 << 20)
		if got := p.echoTransfer(addr, data, time.Minute); !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes came back differently", addr, len(got))
		}
		p.net.RunFor(2 * time.Minute)
		for name, n := range p.b.Counters() {
			t.Log(name, n)
		}
	}
}
