package check

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstack/tapstack/arp"
	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/socket/kernel"
	"github.com/tapstack/tapstack/stack"
)

func TestMain(m *testing.M) { lab.Main(m) }

// delay is that of the wire, each way.
const delay = 10 * time.Millisecond

// pair is two hosts on a wire, 10.77.0.1 that checks and 10.77.0.2 that is
// checked (fd77::1 and fd77::2), in the time of a bubble.
type pair struct {
	seg    *wire.Segment
	a, b   *stack.Stack
	na, nb *socket.Network
	pa, pb *wire.Port
}

// bubble runs f with a pair.
func bubble(t *testing.T, f func(t *testing.T, p *pair)) {
	live := pkt.Live()
	t.Cleanup(func() {
		if n := pkt.Live(); n != live {
			t.Errorf("%d buffers are left", n-live)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		p := &pair{seg: wire.New(nil, wire.Options{Pull: true, Delay: delay})}
		p.a, p.na, p.pa = p.host(t, 1)
		p.b, p.nb, p.pb = p.host(t, 2)
		defer p.seg.Close()
		defer p.b.Close()
		defer p.a.Close()
		f(t, p)
		synctest.Wait()
	})
}

func (p *pair) host(t *testing.T, n byte) (*stack.Stack, *socket.Network, *wire.Port) {
	t.Helper()
	mac := ether.Addr{2, 0, 0, 0, 0, n}
	s := stack.New(stack.Config{Seed: uint64(n)})
	port := p.seg.Attach(fmt.Sprint("host", n), mac)
	i, err := s.AddInterface(stack.InterfaceConfig{Name: "eth0", Device: port, MAC: mac, NoDAD: true})
	must(t, err)
	for _, a := range []string{"10.77.0.%d/24", "fd77::%d/64"} {
		must(t, i.AddAddr(netip.MustParsePrefix(fmt.Sprintf(a, n))))
	}
	return s, socket.Net(s), port
}

// drop loses the frames from a (true) or b of which f says so.
func (p *pair) drop(fromA bool, f func(frame []byte) bool) {
	port := p.pb
	if fromA {
		port = p.pa
	}
	port.SetImpairment(wire.Impairment{Delay: delay, Drop: f})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// names is a resolver.
type names map[string][]string

func (n names) LookupNetIP(_ context.Context, _, host string) (list []netip.Addr, err error) {
	if _, ok := n[host]; !ok {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	for _, a := range n[host] {
		list = append(list, netip.MustParseAddr(a))
	}
	return list, nil
}

// router is a host of nothing but ARP that answers all IPv4 packets to others
// with an ICMP error.
func (p *pair) router(t *testing.T, addr string, typ, code uint8) {
	t.Helper()
	mac, ip := ether.Addr{2, 0, 0, 0, 0, 99}, netip.MustParseAddr(addr)
	port := p.seg.Attach("router", mac)
	must(t, p.a.AddRoute(stack.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: ip}))
	go port.Receive(t.Context(), 0, func(b *pkt.Buf) {
		defer b.Put()
		frame := b.Bytes()
		src := ether.Addr(frame[6:12])
		body := frame[ether.HeaderLen:]
		var reply []byte
		switch ether.Type(frame[12])<<8 | ether.Type(frame[13]) {
		case ether.TypeARP:
			q, d := arp.Parse(body)
			if d != arp.DropNone || q.TargetIP() != ip {
				return
			}
			reply = make([]byte, arp.PacketLen)
			arp.Reply(reply, q, mac)
		case ether.TypeIPv4:
			h, d := ipv4.Parse(body)
			if d != ipv4.DropNone {
				return
			}
			quote := body[:min(len(body), h.TotalLen())]
			n := ipv4.HeaderLen + icmp.HeaderLen + len(quote)
			reply = make([]byte, n)
			f := ipv4.Fields{PayloadLen: n - ipv4.HeaderLen, TTL: 64, Protocol: ipv4.ProtoICMP, Src: ip, Dst: h.Src()}
			f.Put(reply)
			m := reply[ipv4.HeaderLen:]
			icmp.Put(m[:icmp.HeaderLen], typ, code, [4]byte{})
			copy(m[icmp.HeaderLen:], quote)
			icmp.SetChecksum4(m)
		default:
			return
		}
		out := pkt.Get(ether.HeaderLen + len(reply))
		head := out.Append(ether.HeaderLen)
		copy(head, src[:])
		copy(head[6:], mac[:])
		copy(head[12:], frame[12:14])
		copy(out.Append(len(reply)), reply)
		port.Send(0, []*pkt.Buf{out})
	}, func() {})
}

// listener is a place where servers of a test can be.
type listener interface {
	Listen(network, address string) (net.Listener, error)
	ListenPacket(network, address string) (net.PacketConn, error)
}

// serve accepts connections on a port of its own and hands each to f.
func serve(t *testing.T, n listener, host string, f func(net.Conn)) (port uint16) {
	t.Helper()
	l, err := n.Listen("tcp", net.JoinHostPort(host, "0"))
	must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go f(c)
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

// servePacket answers datagrams; f returns the answer, nil for none.
func servePacket(t *testing.T, n listener, host string, f func([]byte) []byte) (port uint16) {
	t.Helper()
	c, err := n.ListenPacket("udp", net.JoinHostPort(host, "0"))
	must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 2000)
		for {
			k, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			if out := f(b[:k]); out != nil {
				c.WriteTo(out, from)
			}
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
	return netip.MustParseAddrPort(c.LocalAddr().String()).Port()
}

// world is where the same test runs: on two stacks, or on the kernel's sockets
// in a network of its own.
type world struct {
	name  string
	check func(Request) *Result
	host  string // the one that is checked
	on    listener
	wait  time.Duration // a Timeout that is not too long to pass
}

type kernelSide struct{ l *lab.Lab }

func (k kernelSide) Listen(network, address string) (net.Listener, error) {
	return k.l.ListenKernel(network, address)
}
func (k kernelSide) ListenPacket(network, address string) (net.PacketConn, error) {
	return k.l.ListenPacketKernel(network, address)
}

// worlds runs f in both, over both families.
func worlds(t *testing.T, f func(t *testing.T, w world)) {
	for _, host := range []string{"10.77.0.2", "fd77::2"} {
		t.Run("stack "+host, func(t *testing.T) {
			bubble(t, func(t *testing.T, p *pair) {
				f(t, world{"stack", func(q Request) *Result { return Check(t.Context(), p.na, q) }, host, p.nb, 3 * time.Second})
			})
		})
	}
	for _, host := range []string{"10.77.0.1", "fd77::1"} {
		t.Run("kernel "+host, func(t *testing.T) {
			lab.InNamespace(t, func(l *lab.Lab) {
				if !l.IPv6 {
					t.Skip(l.Note)
				}
				f(t, world{"kernel", func(q Request) (r *Result) {
					l.Do(func() { r = Check(t.Context(), &kernel.Network{}, q) })
					return r
				}, host, kernelSide{l}, 100 * time.Millisecond})
			})
		})
	}
}
