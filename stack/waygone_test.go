package stack_test

import (
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/stack"
)

// TestWayGone: a connection whose way is gone sends nothing by the old one, is
// not ended by that, and goes on when there is a way again. So it is while its
// address is probed anew (RFC 5227 §2.1).
func TestWayGone(t *testing.T) {
	prohibit := stack.Route{Dst: netip.MustParsePrefix("10.77.0.2/32"), Type: stack.RouteProhibit}
	for _, c := range []struct {
		name       string
		away, back func(p *pair)
		soft       syscall.Errno
	}{
		{"route", func(p *pair) { p.a.AddRoute(prohibit) }, func(p *pair) { p.a.DelRoute(prohibit) }, syscall.EACCES},
		{"address", func(p *pair) { p.ia.Reclaim() }, func(p *pair) { p.net.RunFor(10 * time.Second) }, syscall.EADDRNOTAVAIL},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPairAt(t, 1, stack.Config{}, wire.Options{}, nil, []string{"10.77.0.2/24"})
			if err := p.ia.ClaimAddr(netip.MustParsePrefix("10.77.0.1/24"), stack.ClaimOptions{Probe: true}); err != nil {
				t.Fatal(err)
			}
			p.net.RunFor(10 * time.Second)
			l, err := p.b.BindTCP(addrPort("0.0.0.0:7"), false, false)
			if err == nil {
				err = l.Listen(1)
			}
			if err != nil {
				t.Fatal(err)
			}
			conn, err := p.a.DialTCP(netip.AddrPort{}, addrPort("10.77.0.2:7"))
			if err != nil {
				t.Fatal(err)
			}
			p.net.RunFor(time.Second)
			other, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			c.away(p)
			heard := p.b.Counters()["tcp.input"]
			conn.Write([]byte("held"))
			p.net.RunFor(time.Second)
			if n := p.b.Counters()["tcp.input"] - heard; n != 0 {
				t.Errorf("%d segments went the old way", n)
			}
			if n := p.a.Counters()["ipv4.drop.no-route"]; n == 0 {
				t.Error("what could not be sent is not counted")
			}
			if err := conn.TakeError(); err != c.soft {
				t.Errorf("the connection knows of %v, want %v", err, c.soft)
			}
			c.back(p)
			b := make([]byte, 16)
			if !p.net.Until(time.Minute, func() bool { n, _ := other.Read(b); return string(b[:n]) == "held" }) {
				t.Errorf("nothing came when there was a way again; the connection: %v", conn.Err())
			}
			conn.Abort()
			other.Abort()
			p.net.RunFor(time.Second)
		})
	}
}
