package socket_test

import (
	"net"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/socket"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// TestControlOfXNet: golang.org/x/net writes what we send with and reads what we
// have received.
func TestControlOfXNet(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		a4, b4 := udp4(t, p.a), udp4(t, p.b)
		a6, b6 := sock(t, p.a, socket.AF_INET6, socket.SOCK_DGRAM, 0), sock(t, p.b, socket.AF_INET6, socket.SOCK_DGRAM, 0)
		must(t, b4.Bind(ap("0.0.0.0:5")))
		must(t, b6.Bind(ap("[::]:6")))
		for _, o := range []int{socket.IP_PKTINFO, socket.IP_RECVTTL} {
			must(t, b4.SetsockoptInt(socket.IPPROTO_IP, o, 1))
		}
		for _, o := range []int{socket.IPV6_RECVPKTINFO, socket.IPV6_RECVHOPLIMIT, socket.IPV6_RECVTCLASS} {
			must(t, b6.SetsockoptInt(socket.IPPROTO_IPV6, o, 1))
		}
		out4 := ipv4.ControlMessage{Src: net.ParseIP("10.77.0.1"), IfIndex: p.ia.Index()}
		out6 := ipv6.ControlMessage{Src: net.ParseIP("fd77::1"), IfIndex: p.ia.Index(), HopLimit: 9, TrafficClass: 8}
		exchange := func(a, b *socket.FD, to string, control []byte) []byte {
			t.Helper()
			_, err := a.Sendmsg(&socket.Msg{Name: ap(to), Buffers: [][]byte{[]byte("x")}, Control: control}, 0)
			must(t, err)
			time.Sleep(time.Second)
			m := socket.Msg{Buffers: [][]byte{make([]byte, 9)}, Control: make([]byte, 200)}
			_, err = b.Recvmsg(&m, socket.MSG_DONTWAIT)
			must(t, err)
			return m.Control[:m.ControlLen]
		}
		var in4 ipv4.ControlMessage
		must(t, in4.Parse(exchange(a4, b4, "10.77.0.2:5", out4.Marshal())))
		if in4.TTL != 64 || !in4.Dst.Equal(net.ParseIP("10.77.0.2")) || in4.IfIndex != p.ib.Index() {
			t.Errorf("IPv4: %v", &in4)
		}
		var in6 ipv6.ControlMessage
		must(t, in6.Parse(exchange(a6, b6, "[fd77::2]:6", out6.Marshal())))
		if in6.HopLimit != 9 || in6.TrafficClass != 8 || !in6.Dst.Equal(net.ParseIP("fd77::2")) || in6.IfIndex != p.ib.Index() {
			t.Errorf("IPv6: %v", &in6)
		}
	})
}
