package stack_test

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/stack/simnet"
)

// injector is a device whose frames a test puts in and looks at.
type injector struct {
	deliver func(*pkt.Buf)
	idle    func()
	sent    [][]byte
	keep    int  // how many sent frames to keep, 0: all
	mute    bool // keep none
	mtu     int
	sees    func(frame []byte) // is shown each frame sent, if set
}

func (d *injector) Caps() ether.Caps { return ether.Caps{MTU: d.mtu, Queues: 1} }
func (d *injector) Addr() ether.Addr { return ether.Addr{} }
func (d *injector) Close() error     { return nil }
func (d *injector) Receive(context.Context, int, func(*pkt.Buf), func()) error {
	return net.ErrClosed
}
func (d *injector) Attach(deliver func(*pkt.Buf), idle func()) bool {
	d.deliver, d.idle = deliver, idle
	return true
}
func (d *injector) Send(_ int, frames []*pkt.Buf) (int, error) {
	for _, p := range frames {
		if !d.mute && (d.keep == 0 || len(d.sent) < d.keep) {
			d.sent = append(d.sent, append([]byte(nil), p.Bytes()...))
		}
		if d.sees != nil {
			d.sees(p.Bytes())
		}
		p.Put()
	}
	return len(frames), nil
}

// inject delivers one frame as a batch of its own.
func (d *injector) inject(frame []byte) {
	d.deliver(pkt.From(frame))
	d.idle()
}

// take returns what was sent since the last call.
func (d *injector) take() [][]byte {
	s := d.sent
	d.sent = nil
	return s
}

var (
	hostMAC = ether.Addr{2, 0, 0, 0, 0, 7}
	peerMAC = ether.Addr{2, 0, 0, 0, 0, 1}
	hostIP4 = netip.MustParseAddr("10.77.0.7")
	peerIP4 = netip.MustParseAddr("10.77.0.1")
	hostIP6 = netip.MustParseAddr("fd77::7")
	peerIP6 = netip.MustParseAddr("fd77::1")
)

// newInjected is a host with the addresses above on an injector.
func newInjected(t testing.TB, c stack.Config, ic stack.InterfaceConfig) (*simnet.Net, *stack.Stack, *stack.Interface, *injector) {
	n := simnet.New(7)
	d := &injector{mtu: 1500}
	c.Clock, c.Seed = n.Clock(), 7
	c.IPv6.NoFlowLabels = true // frames are compared with what is written down
	s := stack.New(c)
	ic.Name, ic.Device, ic.MAC, ic.IID = "eth0", d, hostMAC, ipv6.IIDEUI64
	i, err := s.AddInterface(ic)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"10.77.0.7/24", "fd77::7/64"} {
		if err := i.AddAddr(netip.MustParsePrefix(a)); err != nil {
			t.Fatal(err)
		}
	}
	live := pkt.Live()
	t.Cleanup(func() {
		s.Close()
		if n := pkt.Live(); n > live {
			t.Errorf("%d buffers leaked", n-live)
		}
		if n, _ := s.Memory(); n != 0 {
			t.Errorf("%d bytes are charged to a closed stack", n)
		}
	})
	return n, s, i, d
}
