package socket_test

import (
	"encoding/binary"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/socket"
)

// echoRequest is an ICMP message without a checksum.
func echoRequest(typ byte, id uint16) []byte {
	b := make([]byte, 16)
	b[0] = typ
	binary.BigEndian.PutUint16(b[4:], id)
	return b
}

// sum fills in the checksum of an ICMP message of IPv4.
func sum(b []byte) []byte {
	s := uint32(0)
	for i := 0; i < len(b); i += 2 {
		s += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	s = s>>16 + s&0xffff
	binary.BigEndian.PutUint16(b[2:], ^uint16(s+s>>16))
	return b
}

// TestRawPing: a raw socket sends an echo request and gets the reply, its
// header included with IPv4; one on the other host gets the request although
// that is answered; and a filter keeps it out.
func TestRawPing(t *testing.T) {
	for _, c := range []struct {
		name           string
		domain, proto  int
		to             string
		request, reply byte
		header         int
		level          int
	}{
		{"IPv4", socket.AF_INET, socket.IPPROTO_ICMP, "10.77.0.2", 8, 0, 20, socket.SOL_RAW},
		{"IPv6", socket.AF_INET6, socket.IPPROTO_ICMPV6, "fd77::2", 128, 129, 0, socket.SOL_ICMPV6},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := newPair(t, wire.Options{})
				a, b := sock(t, p.a, c.domain, socket.SOCK_RAW, c.proto), sock(t, p.b, c.domain, socket.SOCK_RAW, c.proto)
				// Neighbour discovery is ICMP too, and here not wanted.
				wanted := [8]uint32{}
				for i := range wanted {
					wanted[i] = ^uint32(0)
				}
				wanted[c.request/32] &^= 1<<(c.request%32) | 1<<(c.reply%32)
				must(t, a.SetICMPFilter(wanted))
				must(t, b.SetICMPFilter(wanted))
				to := netip.AddrPortFrom(netip.MustParseAddr(c.to), 0)
				_, err := a.SendTo(sum(echoRequest(c.request, 7)), 0, to)
				must(t, err)
				buf := make([]byte, 99)
				n, from, err := a.RecvFrom(buf, 0)
				if err != nil || from != to || n != c.header+16 || buf[c.header] != c.reply {
					t.Errorf("% x from %v, %v", buf[:n], from, err)
				}
				n, _, err = b.RecvFrom(buf, socket.MSG_DONTWAIT)
				if err != nil || n != c.header+16 || buf[c.header] != c.request {
					t.Errorf("the other host: % x, %v", buf[:n], err)
				}
				// As bytes, and all types from 128 on, or 8, out.
				filter := make([]byte, 32)
				filter[c.request/8] = 1 << (c.request % 8)
				must(t, b.Setsockopt(c.level, 1, filter))
				_, err = a.SendTo(sum(echoRequest(c.request, 8)), 0, to)
				must(t, err)
				_, err = a.Recv(buf, 0)
				must(t, err)
				for {
					n, err := b.Recv(buf, socket.MSG_DONTWAIT)
					if err == syscall.EAGAIN {
						break
					}
					if err != nil || buf[c.header] == c.request {
						t.Errorf("filtered, and yet % x, %v", buf[:n], err)
						break
					}
				}
			})
		})
	}
}

// TestRawErrors: without a raw socket a packet of an unknown protocol is
// refused, which a connected raw socket is told; with one it is not.
func TestRawErrors(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		a := sock(t, p.a, socket.AF_INET, socket.SOCK_RAW, 253)
		must(t, a.Connect(bg, ap("10.77.0.2:1")))
		buf := make([]byte, 99)
		_, err := a.Send([]byte("x"), 0)
		must(t, err)
		_, err = a.Recv(buf, 0)
		wantErr(t, "no such protocol", err, syscall.ENOPROTOOPT)
		must(t, a.SetsockoptInt(socket.IPPROTO_IP, socket.IP_RECVERR, 1))
		_, err = a.Send([]byte("quoted"), 0)
		must(t, err)
		synctest.Wait()
		m := socket.Msg{Buffers: [][]byte{buf}, Control: make([]byte, 256)}
		if n, err := a.Recvmsg(&m, socket.MSG_ERRQUEUE); err != nil || string(buf[:n]) != "quoted" {
			t.Errorf("%q, %v", buf[:n], err)
		}
		b := sock(t, p.b, socket.AF_INET, socket.SOCK_RAW, 253)
		_, err = a.Send([]byte("y"), 0)
		must(t, err)
		if n, err := b.Recv(buf, 0); err != nil || string(buf[20:n]) != "y" {
			t.Errorf("%q, %v", buf[:n], err)
		}
		synctest.Wait()
		if _, err := a.Recv(buf, socket.MSG_DONTWAIT); err != syscall.EAGAIN {
			t.Errorf("taken, and yet %v", err)
		}
		// A packet of more than the MTU is put together before it gets here.
		large := make([]byte, 4000)
		_, err = a.Send(large, 0)
		must(t, err)
		buf = make([]byte, 9000)
		if n, err := b.Recv(buf, 0); n != 4020 || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		c := p.b.Counters()
		if c["raw.input"] != 2 || p.a.Counters()["raw.output"] != 4 {
			t.Errorf("%d in, %d out", c["raw.input"], p.a.Counters()["raw.output"])
		}
	})
}

// TestRawGroups: what goes to a group is for the sockets of this host as well.
func TestRawGroups(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		a, b := sock(t, p.a, socket.AF_INET, socket.SOCK_RAW, 253), sock(t, p.b, socket.AF_INET, socket.SOCK_RAW, 253)
		_, err := a.SendTo([]byte("all"), 0, ap("224.0.0.1:0"))
		must(t, err)
		buf := make([]byte, 99)
		for _, f := range []*socket.FD{a, b} {
			if n, from, err := f.RecvFrom(buf, 0); err != nil || string(buf[20:n]) != "all" || from != ap("10.77.0.1:0") {
				t.Errorf("%q from %v, %v", buf[:n], from, err)
			}
		}
	})
}
