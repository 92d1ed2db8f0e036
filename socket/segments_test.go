package socket_test

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
)

// sizesOf is what is left in a socket: the length of each datagram, and all
// bytes.
func sizesOf(t *testing.T, f *socket.FD) (sizes []int, all []byte) {
	t.Helper()
	synctest.Wait()
	b := make([]byte, 70000)
	for {
		n, from, err := f.RecvFrom(b, socket.MSG_DONTWAIT)
		if err != nil {
			wantErr(t, "end", err, syscall.EAGAIN)
			return sizes, all
		}
		if from.Port() != 5 {
			t.Errorf("from %v", from)
		}
		sizes = append(sizes, n)
		all = append(all, b[:n]...)
	}
}

// cutIn is how n bytes are cut in datagrams of size bytes.
func cutIn(n, size int) (sizes []int) {
	for ; n > size; n -= size {
		sizes = append(sizes, size)
	}
	return append(sizes, n)
}

// TestSegments sends over devices that cut UDP super-frames and that do not,
// and over loopback; who did not ask gets one datagram after the other, who did
// gets them with their size.
func TestSegments(t *testing.T) {
	for _, gso := range []bool{false, true} {
		for _, c := range []struct{ from, to string }{
			{"10.77.0.1:5", "10.77.0.2:6"}, {"[fd77::1]:5", "[fd77::2]:6"}, {"127.0.0.1:5", "127.0.0.1:6"}, {"[::1]:5", "[::1]:6"},
		} {
			t.Run(fmt.Sprintf("%v/gso=%v", c.to, gso), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					p := newPairConfig(t, wire.Options{GSO: gso}, stack.Config{Limits: stack.Limits{DatagramReceive: 1 << 20}})
					to := ap(c.to)
					dst := p.b
					if to.Addr().IsLoopback() {
						dst = p.a
					}
					a := sock(t, p.a, domainOf(to.Addr()), socket.SOCK_DGRAM, 0)
					b := sock(t, dst, domainOf(to.Addr()), socket.SOCK_DGRAM, 0)
					must(t, a.Bind(ap(c.from)))
					must(t, b.Bind(to))
					for _, x := range []struct{ n, size int }{
						{0, 100}, {1, 1}, {100, 1}, {128, 1}, {99, 100}, {100, 100}, {101, 100}, {1000, 333},
						{10000, 1452}, {65507, 1400}, {65507, 1452}, {128 * 7, 7},
					} {
						data := pattern(x.n)
						want := cutIn(x.n, x.size)
						n, err := a.SendSegments(data, x.size, 0, to)
						if n != x.n || err != nil {
							t.Fatalf("%v: sent %d, %v", x, n, err)
						}
						if sizes, all := sizesOf(t, b); !slices.Equal(sizes, want) || !bytes.Equal(all, data) {
							t.Errorf("%v: datagrams of %v bytes, want %v", x, sizes, want)
						}
						// Once more, by the option, for one who wants them together.
						must(t, b.SetReceiveSegments(true))
						must(t, a.SetSegmentSize(x.size))
						if n, err := a.SendTo(data, 0, to); n != x.n || err != nil {
							t.Fatalf("%v: sent %d, %v", x, n, err)
						}
						must(t, a.SetSegmentSize(0))
						synctest.Wait()
						buf := make([]byte, 70000)
						var got []byte
						calls := 0
						for len(got) < x.n || calls == 0 {
							n, size, from, err := b.RecvSegments(buf, socket.MSG_DONTWAIT)
							if err != nil || from.Port() != 5 {
								t.Fatalf("%v: received %d of %d bytes from %v, %v", x, len(got), x.n, from, err)
							}
							got = append(got, buf[:n]...)
							calls++
							if size != min(x.size, x.n) && size != n {
								t.Errorf("%v: a size of %d", x, size)
							}
						}
						most := (len(want) + 63) / 64 // datagrams that come one by one
						if !bytes.Equal(got, data) || calls > most {
							t.Errorf("%v: %d bytes in %d calls", x, len(got), calls)
						}
						must(t, b.SetReceiveSegments(false))
					}
					if n := counter(dst, "udp.input"); n != counter(p.a, "udp.output") {
						t.Errorf("%d datagrams in, %d out", n, counter(p.a, "udp.output"))
					}
					if n := counter(p.a, "offload.cut"); (n > 0) != (!gso && dst == p.b) {
						t.Errorf("%d super-frames cut", n)
					}
				})
			})
		}
	}
}

// TestSegmentErrors has what Linux 6.18 answers.
func TestSegmentErrors(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		for _, c := range []struct {
			to     string
			header int
			most   int
		}{{"10.77.0.2:5", 28, 65507}, {"[fd77::2]:5", 48, 65527}} {
			a := sock(t, p.a, domainOf(ap(c.to).Addr()), socket.SOCK_DGRAM, 0)
			for _, x := range []struct {
				n, size int
				want    error
			}{
				{10000, 1500 - c.header, nil}, {10000, 1501 - c.header, syscall.EMSGSIZE},
				{1500 - c.header, 65535, nil}, {1501 - c.header, 65535, syscall.EMSGSIZE},
				{1600, 2000, syscall.EMSGSIZE}, {1000, 2000, nil},
				{12800, 100, nil}, {12801, 100, syscall.EINVAL},
				{c.most, 1400, nil}, {c.most + 1, 1400, syscall.EMSGSIZE}, {c.most + 1, 1, syscall.EMSGSIZE},
				{10, 0, syscall.EINVAL}, {10, -1, syscall.EINVAL}, {10, 65536, syscall.EINVAL},
			} {
				n, err := a.SendSegments(make([]byte, x.n), x.size, 0, ap(c.to))
				wantErr(t, fmt.Sprint(c.to, x), err, x.want)
				if want := x.n; (err == nil) != (n == want) {
					t.Errorf("%v: sent %d", x, n)
				}
			}
			for n, want := range map[int]error{-1: syscall.EINVAL, 65536: syscall.EINVAL, 65535: nil, 0: nil} {
				wantErr(t, fmt.Sprint("option ", n), a.SetSegmentSize(n), want)
			}
			must(t, a.SetSegmentSize(1500))
			_, err := a.SendTo(make([]byte, 10000), 0, ap(c.to))
			wantErr(t, "by the option", err, syscall.EMSGSIZE)
			_, err = a.SendSegments(nil, 1, 0x800, ap(c.to))
			wantErr(t, "unknown flag", err, syscall.EOPNOTSUPP)
			_, err = a.SendSegments(nil, 1, 0, netip.AddrPort{})
			wantErr(t, "no peer", err, syscall.EDESTADDRREQ)
		}
		for _, f := range []*socket.FD{tcp4(t, p.a), sock(t, p.a, socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)} {
			wantErr(t, "size", f.SetSegmentSize(1), syscall.ENOPROTOOPT)
			wantErr(t, "together", f.SetReceiveSegments(true), syscall.ENOPROTOOPT)
			_, err := f.SendSegments([]byte{1}, 1, 0, ap("10.77.0.2:5"))
			wantErr(t, "send", err, syscall.EOPNOTSUPP)
			_, _, _, err = f.RecvSegments(make([]byte, 1), 0)
			wantErr(t, "receive", err, syscall.EOPNOTSUPP)
		}
		f := udp4(t, p.a)
		f.Close()
		wantErr(t, "size", f.SetSegmentSize(1), net.ErrClosed)
		wantErr(t, "together", f.SetReceiveSegments(true), net.ErrClosed)
		_, err := f.SendSegments(nil, 1, 0, ap("10.77.0.2:5"))
		wantErr(t, "send", err, net.ErrClosed)
		_, _, _, err = f.RecvSegments(nil, 0)
		wantErr(t, "receive", err, net.ErrClosed)
	})
}

// TestSegmentQueue: of what comes at once each datagram counts for itself, and
// those that still fit are kept, in order.
func TestSegmentQueue(t *testing.T) {
	for _, x := range []struct{ n, size int }{{65000, 1000}, {1280, 10}, {128, 1}, {50001, 1000}} {
		bubble(t, func(t *testing.T) {
			const limit = 30000
			p := newPairConfig(t, wire.Options{GSO: true}, stack.Config{Limits: stack.Limits{DatagramReceive: limit}})
			a, b := udp4(t, p.a), udp4(t, p.b)
			must(t, a.Bind(ap("0.0.0.0:5")))
			must(t, b.Bind(ap("0.0.0.0:6")))
			data := pattern(x.n)
			for range 2 {
				_, err := a.SendSegments(data, x.size, 0, ap("10.77.0.2:6"))
				must(t, err)
			}
			sizes, all := sizesOf(t, b)
			dropped := int(counter(p.b, "udp.drop.receive-queue-full"))
			sent := 2 * ((x.n + x.size - 1) / x.size)
			if len(sizes)+dropped != sent || len(all) > limit || dropped > 0 && len(all)+300*len(sizes) < limit-2000 {
				t.Errorf("%v: %d of %d received, %d bytes, %d dropped", x, len(sizes), sent, len(all), dropped)
			}
			if want := append(data, data...); !bytes.Equal(all, want[:len(all)]) && dropped > 0 && len(all) <= x.n {
				t.Errorf("%v: not the first", x)
			}
		})
	}
}

// TestSegmentsTogether: who asked for several gets those that came one by one
// too, but never of two peers, of two sizes or beyond the buffer.
func TestSegmentsTogether(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		a, c, b := udp4(t, p.a), udp4(t, p.a), udp4(t, p.b)
		must(t, b.Bind(ap("0.0.0.0:6")))
		must(t, b.SetReceiveSegments(true))
		send := func(f *socket.FD, sizes ...int) {
			for _, n := range sizes {
				_, err := f.SendTo(pattern(n), 0, ap("10.77.0.2:6"))
				must(t, err)
			}
		}
		send(a, 100, 100, 100, 40, 100) // 340, because a shorter one is the last
		send(c, 100, 100)
		send(a, 100, 200, 0, 0, 7)
		synctest.Wait()
		buf := make([]byte, 1000)
		for i, want := range [][2]int{{340, 100}, {100, 100}, {200, 100}, {100, 100}, {200, 200}, {0, 0}, {0, 0}, {7, 7}} {
			n, size, _, err := b.RecvSegments(buf, socket.MSG_DONTWAIT)
			if n != want[0] || size != want[1] || err != nil {
				t.Errorf("call %d: %d bytes of %d each, %v; want %v", i, n, size, err, want)
			}
		}
		send(a, 100, 100, 100)
		synctest.Wait()
		for _, want := range []int{200, 100} {
			if n, size, _, err := b.RecvSegments(buf[:250], socket.MSG_DONTWAIT); n != want || size != 100 || err != nil {
				t.Errorf("%d bytes of %d each into 250, %v", n, size, err)
			}
		}
		// What does not fit of the first is lost, as ever.
		send(a, 100, 100)
		synctest.Wait()
		if n, size, _, err := b.RecvSegments(buf[:50], socket.MSG_DONTWAIT|socket.MSG_TRUNC); n != 100 || size != 100 || err != nil {
			t.Errorf("%d bytes of %d each into 50, %v", n, size, err)
		}
		if n, _, _, err := b.RecvSegments(buf[:50], socket.MSG_DONTWAIT); n != 50 || err != nil {
			t.Errorf("%d bytes into 50, %v", n, err)
		}
	})
}

// TestPacketConnSegments is the same in the manner of package net.
func TestPacketConnSegments(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{GSO: true})
		pc, err := p.nb.ListenPacket("udp", ":6")
		must(t, err)
		b := pc.(*socket.PacketConn)
		defer b.Close()
		conn, err := p.na.Dial("udp", "10.77.0.2:6")
		must(t, err)
		a := conn.(*socket.PacketConn)
		defer a.Close()
		must(t, b.SetReceiveSegments(true))
		data, buf := pattern(5000), make([]byte, 65536)
		n, err := a.WriteSegments(data, 1200, netip.AddrPort{})
		if n != 5000 || err != nil {
			t.Fatal(n, err)
		}
		n, size, from, err := b.ReadSegments(buf)
		if n != 5000 || size != 1200 || err != nil || !bytes.Equal(buf[:n], data) {
			t.Errorf("%d bytes of %d each, %v", n, size, err)
		}
		must(t, b.SetSegmentSize(700))
		if n, err := b.WriteToUDPAddrPort(data, from); n != 5000 || err != nil {
			t.Fatal(n, err)
		}
		for at := 0; at < len(data); at += n {
			if n, size, _, err = a.ReadSegments(buf); err != nil || n != min(700, 5000-at) || size != n {
				t.Fatalf("%d bytes of %d each, %v", n, size, err)
			}
		}
		_, err = a.WriteSegments(data, 1200, ap("10.77.0.2:6"))
		wantErr(t, "to another of a connected socket", err, net.ErrWriteToConnected)
		_, err = b.WriteSegments(data, 2000, from)
		wantErr(t, "too large", err, syscall.EMSGSIZE)
		if want := fmt.Sprintf("write udp [::]:6->%v: sendmsg: message too long", a.LocalAddr()); err == nil || err.Error() != want {
			t.Errorf("%v, not %s", err, want)
		}
		wantErr(t, "size", a.SetSegmentSize(-1), syscall.EINVAL)
	})
}

// TestSegmentAllocations: neither end allocates for many datagrams more than
// for one.
func TestSegmentAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates, and makes pools forget")
	}
	watch(t)
	for _, gso := range []bool{false, true} {
		p := newPair(t, wire.Options{GSO: gso})
		a, b := udp4(t, p.a), udp4(t, p.b)
		must(t, b.Bind(ap("0.0.0.0:6")))
		must(t, b.SetReceiveSegments(true))
		data, buf, to := pattern(20000), make([]byte, 65536), ap("10.77.0.2:6")
		noAllocs(t, func() {
			if _, err := a.SendSegments(data, 1400, 0, to); err != nil {
				t.Fatal(err)
			}
			for got := 0; got < len(data); {
				n, _, _, err := b.RecvSegments(buf, 0)
				if err != nil {
					t.Fatal(err)
				}
				got += n
			}
		})
	}
}
