package socket_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
)

// recvOne takes one datagram within a second.
func recvOne(f *socket.FD, n int) ([]byte, netip.AddrPort, error) {
	b := make([]byte, n)
	f.SetReadDeadline(time.Now().Add(time.Second))
	n, from, err := f.RecvFrom(b, 0)
	return b[:n], from, err
}

// TestDatagramSizes sends every interesting size over both families, whole
// and in fragments.
func TestDatagramSizes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		for _, c := range []struct {
			from, to string
			max      int
		}{
			{"10.77.0.1:5", "10.77.0.2:5", 65507},
			{"[fd77::1]:5", "[fd77::2]:5", 65527},
		} {
			a := sock(t, p.a, domainOf(ap(c.from).Addr()), socket.SOCK_DGRAM, 0)
			b := sock(t, p.b, domainOf(ap(c.to).Addr()), socket.SOCK_DGRAM, 0)
			must(t, a.Bind(ap(c.from)))
			must(t, b.Bind(ap(c.to)))
			for _, n := range []int{0, 1, 7, 8, 1232, 1451, 1452, 1453, 1471, 1472, 1473, 2048, 9000, 60000, 65506, c.max} {
				data := pattern(n)
				sent, err := a.SendTo(data, 0, ap(c.to))
				if sent != n || err != nil {
					t.Errorf("%s %d: sent %d, %v", c.to, n, sent, err)
				}
				got, from, err := recvOne(b, 70000)
				if err != nil || !bytes.Equal(got, data) || from != ap(c.from) {
					t.Errorf("%s %d: %d bytes from %v, %v", c.to, n, len(got), from, err)
				}
			}
			_, err := a.SendTo(make([]byte, c.max+1), 0, ap(c.to))
			wantErr(t, "too long", err, syscall.EMSGSIZE)
		}
	})
}

func TestDatagramTruncation(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		a, b := udp4(t, p.a), udp4(t, p.b)
		must(t, b.Bind(ap("0.0.0.0:5")))
		must(t, a.Connect(bg, ap("10.77.0.2:5")))
		for _, text := range []string{"0123456789", "abcdefghij", "next"} {
			a.Send([]byte(text), 0)
		}
		buf := make([]byte, 4)
		for _, want := range []struct {
			flags, n int
			text     string
		}{{0, 4, "0123"}, {socket.MSG_TRUNC, 10, "abcd"}, {socket.MSG_TRUNC, 4, "next"}} {
			n, _, err := b.RecvFrom(buf, want.flags)
			if n != want.n || string(buf) != want.text || err != nil {
				t.Errorf("%d, %q, %v, want %v", n, buf, err, want)
			}
		}
		_, _, err := b.RecvFrom(buf, socket.MSG_DONTWAIT)
		wantErr(t, "empty", err, syscall.EAGAIN)
		_, _, err = b.RecvFrom(buf, 0x800000)
		wantErr(t, "unknown flag", err, syscall.EOPNOTSUPP)
		_, err = a.Send(buf, 1)
		wantErr(t, "unknown flag", err, syscall.EOPNOTSUPP)
	})
}

// TestDatagramQueue: what nobody reads is bounded and counted, by bytes and,
// for empty datagrams, by number.
func TestDatagramQueue(t *testing.T) {
	for _, size := range []int{0, 100, 1400} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				const limit = 50000
				p := newPairConfig(t, wire.Options{}, stack.Config{Limits: stack.Limits{DatagramReceive: limit}})
				a, b := udp4(t, p.a), udp4(t, p.b)
				must(t, b.Bind(ap("0.0.0.0:5")))
				must(t, a.Connect(bg, ap("10.77.0.2:5")))
				const sent = 1000
				for i := range sent {
					data := make([]byte, size)
					if size >= 4 {
						binary.BigEndian.PutUint32(data, uint32(i))
					}
					_, err := a.Send(data, 0)
					must(t, err)
					time.Sleep(time.Millisecond)
				}
				got := 0
				buf := make([]byte, 2000)
				for ; ; got++ {
					_, _, err := b.RecvFrom(buf, socket.MSG_DONTWAIT)
					if err != nil {
						wantErr(t, "end", err, syscall.EAGAIN)
						break
					}
					if size >= 4 && binary.BigEndian.Uint32(buf) != uint32(got) {
						t.Fatal("not the oldest were kept, in order")
					}
				}
				dropped := counter(p.b, "udp.drop.receive-queue-full")
				if got == 0 || got*size > limit || got > limit/100 || uint64(got)+dropped != sent {
					t.Errorf("%d received, %d counted as dropped of %d", got, dropped, sent)
				}
			})
		})
	}
}

// TestDatagramErrors: what ICMP has to say reaches connected sockets, those
// that wait as well, and only those.
func TestDatagramErrors(t *testing.T) {
	for _, to := range []string{"10.77.0.2:9", "[fd77::2]:9", "127.0.0.1:9", "[::1]:9"} {
		t.Run(to, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := newPair(t, wire.Options{Delay: time.Millisecond})
				f := sock(t, p.a, domainOf(ap(to).Addr()), socket.SOCK_DGRAM, 0)
				_, err := f.SendTo([]byte{1}, 0, ap(to))
				wantErr(t, "unconnected", err, nil)
				_, _, err = recvOne(f, 1)
				wantErr(t, "unconnected", err, os.ErrDeadlineExceeded)

				f.SetReadDeadline(time.Time{})
				must(t, f.Connect(bg, ap(to)))
				r := start(func() (int, error) { return f.Recv(make([]byte, 1), 0) })
				f.Send([]byte{1}, 0)
				if got := <-r; got.err != syscall.ECONNREFUSED {
					t.Errorf("waiting receive: %v", got.err)
				}
				f.Send([]byte{1}, 0)
				time.Sleep(time.Second)
				_, err = f.Send([]byte{1}, 0)
				wantErr(t, "next send", err, syscall.ECONNREFUSED)
			})
		})
	}
	t.Run("silent neighbour", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			p := newPair(t, wire.Options{})
			f := udp4(t, p.a)
			must(t, f.Connect(bg, ap("10.77.0.9:9")))
			f.Send([]byte{1}, 0)
			await(t, "receive", start(func() (int, error) { return f.Recv(make([]byte, 1), 0) }), syscall.EHOSTUNREACH, 3*time.Second)
		})
	})
	t.Run("at once", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			p := newPair(t, wire.Options{})
			f := udp4(t, p.a)
			send := func(to string) error { _, err := f.SendTo([]byte{1}, 0, ap(to)); return err }
			wantErr(t, "no route", send("192.0.2.1:9"), syscall.ENETUNREACH)
			wantErr(t, "port 0", send("10.77.0.2:0"), syscall.EINVAL)
			wantErr(t, "other family", send("[fd77::2]:9"), syscall.EAFNOSUPPORT)
			_, err := f.Send([]byte{1}, 0)
			wantErr(t, "no peer", err, syscall.EDESTADDRREQ)
			wantErr(t, "bind to a foreign address", udp4(t, p.a).Bind(ap("192.0.2.1:9")), syscall.EADDRNOTAVAIL)
			wantErr(t, "listen", f.Listen(1), syscall.EOPNOTSUPP)
			_, _, err = f.Accept(bg)
			wantErr(t, "accept", err, syscall.EOPNOTSUPP)
			wantErr(t, "no delay", f.SetNoDelay(true), syscall.ENOPROTOOPT)
		})
	})
}

// TestBroadcast needs permission, and reaches every socket on the port.
func TestBroadcast(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		var to []*socket.FD
		for _, a := range []string{"0.0.0.0:5", "0.0.0.0:6"} {
			f := udp4(t, p.b)
			must(t, f.Bind(ap(a)))
			to = append(to, f)
		}
		f := udp4(t, p.a)
		for _, dst := range []string{"255.255.255.255:5", "10.77.0.255:5"} {
			_, err := f.SendTo([]byte("all"), 0, ap(dst))
			wantErr(t, dst, err, syscall.EACCES)
			wantErr(t, dst, f.Connect(bg, ap(dst)), syscall.EACCES)
		}
		must(t, f.SetBroadcast(true))
		for _, dst := range []string{"255.255.255.255:5", "10.77.0.255:5"} {
			_, err := f.SendTo([]byte("all"), 0, ap(dst))
			wantErr(t, dst, err, nil)
			got, from, err := recvOne(to[0], 10)
			if string(got) != "all" || from.Addr() != netip.MustParseAddr("10.77.0.1") || err != nil {
				t.Errorf("%s: %q from %v, %v", dst, got, from, err)
			}
		}
		_, _, err := recvOne(to[1], 10)
		wantErr(t, "another port", err, os.ErrDeadlineExceeded)
		// Nobody answers a broadcast that nobody wants.
		f.SendTo([]byte("all"), 0, ap("10.77.0.255:77"))
		time.Sleep(time.Second)
		if n := counter(p.b, "icmp.error-out"); n != 0 {
			t.Errorf("%d ICMP errors about a broadcast", n)
		}
	})
}

// TestMulticast is received by those who joined, on every socket of the port.
func TestMulticast(t *testing.T) {
	for _, group := range []string{"239.1.2.3:5", "[ff02::77]:5"} {
		t.Run(group, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := newPair(t, wire.Options{})
				g := ap(group)
				domain := domainOf(g.Addr())
				a := sock(t, p.a, domain, socket.SOCK_DGRAM, 0)
				b := sock(t, p.b, socket.AF_INET6, socket.SOCK_DGRAM, 0)
				must(t, b.Bind(ap("[::]:5")))
				// As on Linux, a socket of AF_INET6 does not hear IPv4 groups that
				// it has not joined unless it asks.
				must(t, b.SetsockoptInt(socket.IPPROTO_IP, socket.IP_MULTICAST_ALL, 1))
				send := func() { _, err := a.SendTo([]byte("group"), 0, g); wantErr(t, "send", err, nil) }
				send()
				_, _, err := recvOne(b, 10)
				wantErr(t, "not joined", err, os.ErrDeadlineExceeded)
				must(t, p.ib.JoinGroup(g.Addr()))
				send()
				got, _, err := recvOne(b, 10)
				if string(got) != "group" || err != nil {
					t.Errorf("joined: %q, %v", got, err)
				}
				must(t, p.ib.LeaveGroup(g.Addr()))
				send()
				_, _, err = recvOne(b, 10)
				wantErr(t, "left", err, os.ErrDeadlineExceeded)
			})
		})
	}
}

// TestPing: echo sockets of both families, whose identifier is their port.
func TestPing(t *testing.T) {
	for _, c := range []struct {
		to, silent            string
		domain, proto         int
		request, reply        byte
		otherDomain, mismatch int
	}{
		{"10.77.0.2:0", "10.77.0.9:0", socket.AF_INET, socket.IPPROTO_ICMP, 8, 0, socket.AF_INET6, socket.IPPROTO_ICMP},
		{"[fd77::2]:0", "[fd77::9]:0", socket.AF_INET6, socket.IPPROTO_ICMPV6, 128, 129, socket.AF_INET, socket.IPPROTO_ICMPV6},
	} {
		t.Run(c.to, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := newPair(t, wire.Options{Delay: time.Millisecond})
				_, err := socket.Socket(p.a, c.otherDomain, socket.SOCK_DGRAM, c.mismatch)
				wantErr(t, "other family's protocol", err, syscall.EPROTONOSUPPORT)
				f := sock(t, p.a, c.domain, socket.SOCK_DGRAM, c.proto)
				g := sock(t, p.a, c.domain, socket.SOCK_DGRAM, c.proto)
				request := append([]byte{c.request, 0, 0, 0, 0xab, 0xcd, 0, 7}, pattern(3000)...)
				for _, s := range []*socket.FD{f, g} {
					n, err := s.SendTo(request, 0, ap(c.to))
					if n != len(request) || err != nil {
						t.Fatal(n, err)
					}
				}
				for _, s := range []*socket.FD{g, f} {
					got, from, err := recvOne(s, 4000)
					name, _ := s.Getsockname()
					if err != nil || from.Addr() != ap(c.to).Addr() || len(got) != len(request) || got[0] != c.reply ||
						binary.BigEndian.Uint16(got[4:]) != name.Port() || !bytes.Equal(got[6:], request[6:]) {
						t.Errorf("reply %.8x... from %v to %v, %v", got, from, name, err)
					}
				}
				for what, bad := range map[string][]byte{"reply": {c.reply, 0, 0, 0, 0, 0, 0, 0}, "code": {c.request, 1, 0, 0, 0, 0, 0, 0}, "short": {c.request, 0}} {
					_, err := f.SendTo(bad, 0, ap(c.to))
					wantErr(t, what, err, syscall.EINVAL)
				}
				// Errors reach those who are connected.
				must(t, f.Connect(bg, ap(c.silent)))
				f.SetReadDeadline(time.Time{})
				f.Send(request[:8], 0)
				await(t, "silent neighbour", start(func() (int, error) { return f.Recv(make([]byte, 10), 0) }), syscall.EHOSTUNREACH, 3*time.Second)
			})
		})
	}
}

// TestPacketConn is UDP as package net shows it.
func TestPacketConn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		for _, c := range []struct{ network, listen, dial, from string }{
			{"udp", ":5", "10.77.0.2:5", "10.77.0.1"},
			{"udp4", ":6", "10.77.0.2:6", "10.77.0.1"},
			{"udp", ":7", "[fd77::2]:7", "fd77::1"},
			{"udp6", "[fd77::2]:8", "[fd77::2]:8", "fd77::1"},
		} {
			pc, err := p.nb.ListenPacket(c.network, c.listen)
			must(t, err)
			conn, err := p.na.Dial(c.network, c.dial)
			must(t, err)
			if conn.RemoteAddr().String() != c.dial || conn.(*socket.PacketConn).FD() == nil {
				t.Errorf("peer %v", conn.RemoteAddr())
			}
			_, err = conn.Write([]byte("hello"))
			must(t, err)
			b := make([]byte, 10)
			n, from, err := pc.ReadFrom(b)
			if string(b[:n]) != "hello" || err != nil || from.String() != conn.LocalAddr().String() || from.(*net.UDPAddr).IP.String() != c.from {
				t.Errorf("%q from %v, %v", b[:n], from, err)
			}
			_, err = pc.WriteTo([]byte("answer"), from)
			must(t, err)
			n, err = conn.Read(b)
			if string(b[:n]) != "answer" || err != nil {
				t.Errorf("%q, %v", b[:n], err)
			}
			u := pc.(*socket.PacketConn)
			_, err = u.WriteToUDPAddrPort([]byte("again"), conn.LocalAddr().(*net.UDPAddr).AddrPort())
			must(t, err)
			n, at, err := conn.(*socket.PacketConn).ReadFromUDPAddrPort(b)
			if string(b[:n]) != "again" || at.Addr().Unmap() != ap(c.dial).Addr() || err != nil {
				t.Errorf("%q from %v, %v", b[:n], at, err)
			}
			_, err = conn.(*socket.PacketConn).WriteTo([]byte{1}, from)
			wantErr(t, "WriteTo on a connected socket", err, net.ErrWriteToConnected)
			_, err = pc.WriteTo([]byte{1}, &net.TCPAddr{})
			wantErr(t, "WriteTo a TCP address", err, syscall.EINVAL)
			_, err = u.Write([]byte{1})
			wantErr(t, "Write without a peer", err, syscall.EDESTADDRREQ)
			if u.RemoteAddr() != nil {
				t.Errorf("peer of an unconnected socket: %v", u.RemoteAddr())
			}
			conn.Close()
			pc.Close()
			_, _, err = pc.ReadFrom(b)
			wantErr(t, "after Close", err, net.ErrClosed)
			if _, err := conn.Write(b); err == nil || err.Error() != fmt.Sprintf("write %s %v->%v: use of closed network connection", c.network, conn.LocalAddr(), c.dial) {
				t.Error(err)
			}
		}
	})
}
