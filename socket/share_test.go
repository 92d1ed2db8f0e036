package socket_test

import (
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
)

// TestReusePortBalances: peers are spread over listeners and over UDP sockets
// that share a port, evenly, and each stays with its own.
func TestReusePortBalances(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		const members, peers = 4, 400
		for _, typ := range []int{socket.SOCK_STREAM, socket.SOCK_DGRAM} {
			var group []*socket.FD
			for range members {
				f := sock(t, p.b, socket.AF_INET, typ, 0)
				must(t, f.SetReusePort(true))
				must(t, f.Bind(ap("10.77.0.2:7")))
				if typ == socket.SOCK_STREAM {
					must(t, f.Listen(peers))
				}
				group = append(group, f)
			}
			first := make(map[netip.AddrPort]int)
			var clients []*socket.FD
			for range peers {
				c := sock(t, p.a, socket.AF_INET, typ, 0)
				must(t, c.Connect(bg, ap("10.77.0.2:7")))
				clients = append(clients, c)
			}
			for round := range 2 {
				if typ == socket.SOCK_DGRAM {
					for _, c := range clients {
						if _, err := c.Send([]byte("x"), 0); err != nil {
							t.Fatal(err)
						}
					}
				}
				synctest.Wait()
				for i, f := range group {
					got := 0
					f.SetNonblock(true)
					for {
						var from netip.AddrPort
						var err error
						if typ == socket.SOCK_STREAM {
							var s *socket.FD
							if s, from, err = f.Accept(bg); err == nil {
								defer s.Close()
							}
						} else {
							_, from, err = f.RecvFrom(make([]byte, 9), 0)
						}
						if err == syscall.EAGAIN {
							break
						}
						must(t, err)
						got++
						if round == 0 {
							first[from] = i
						} else if first[from] != i {
							t.Errorf("%v moved from %d to %d", from, first[from], i)
						}
					}
					if (round == 0 || typ == socket.SOCK_DGRAM) && (got < peers/members/2 || got > peers/members*2) {
						t.Errorf("type %d: %d of %d came to one of %d", typ, got, peers, members)
					}
				}
			}
			if len(first) != peers {
				t.Errorf("type %d: %d of %d arrived", typ, len(first), peers)
			}
		}
	})
}

// TestReuseAddrDatagrams: of UDP sockets that share a port by SO_REUSEADDR the
// last gets what comes, and a connected one what its peer sends.
func TestReuseAddrDatagrams(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		var f [3]*socket.FD
		for i := range f {
			f[i] = udp4(t, p.b)
			must(t, f[i].SetReuseAddr(true))
			must(t, f[i].Bind(ap("10.77.0.2:7")))
		}
		a, b := udp4(t, p.a), udp4(t, p.a)
		must(t, a.Bind(ap("10.77.0.1:1")))
		must(t, f[0].Connect(bg, ap("10.77.0.1:1")))
		a.SendTo([]byte("a"), 0, ap("10.77.0.2:7"))
		b.SendTo([]byte("b"), 0, ap("10.77.0.2:7"))
		synctest.Wait()
		got := ""
		for _, f := range f {
			buf := make([]byte, 9)
			n, _ := f.Recv(buf, socket.MSG_DONTWAIT)
			got += fmt.Sprintf("%q ", buf[:n])
		}
		if got != `"a" "" "b" ` {
			t.Error(got)
		}
	})
}

// TestStreamBindToDevice: listeners of two interfaces share a port, each hears
// its own, and a connection that is pinned finds only routes of its interface.
func TestStreamBindToDevice(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		seg := wire.New(nil, wire.Options{Pull: true})
		t.Cleanup(func() { seg.Close() })
		other, err := p.b.AddInterface(stack.InterfaceConfig{Name: "eth1", Device: seg.Attach("x", [6]byte{2, 0, 0, 0, 1, 2}), MAC: [6]byte{2, 0, 0, 0, 1, 2}, NoDAD: true})
		must(t, err)
		must(t, other.AddAddr(netip.MustParsePrefix("10.78.0.2/24")))
		var l [2]*socket.FD
		for i, dev := range []*stack.Interface{p.ib, other} {
			l[i] = tcp4(t, p.b)
			must(t, l[i].BindToDevice(dev))
			must(t, l[i].Bind(ap("0.0.0.0:7")))
			must(t, l[i].Listen(4))
			l[i].SetNonblock(true)
		}
		c := tcp4(t, p.a)
		must(t, c.Connect(bg, ap("10.77.0.2:7")))
		synctest.Wait()
		if _, _, err := l[1].Accept(bg); err != syscall.EAGAIN {
			t.Error("the listener of the other interface:", err)
		}
		s, _, err := l[0].Accept(bg)
		must(t, err)
		defer s.Close()
		if d, err := s.Device(); d != p.ib || err != nil {
			t.Error("the accepted one is pinned to", d, err)
		}
		wantErr(t, "to the host itself", tcp4(t, p.b).Connect(bg, ap("127.0.0.1:7")), syscall.ECONNREFUSED)
		f := tcp4(t, p.b)
		must(t, f.BindToDevice(other))
		// As on Linux: the peer is taken to be on that link, where nobody answers.
		wantErr(t, "by the other interface", f.Connect(bg, ap("10.77.0.1:9")), syscall.EHOSTUNREACH)
		must(t, f.BindToDevice(nil))
		wantErr(t, "by any", f.Connect(bg, ap("10.77.0.1:9")), syscall.ECONNREFUSED)
		wantErr(t, "once connected", c.BindToDevice(p.ia), syscall.EISCONN)
	})
}

// TestForceBuffers: the options that only Linux's administrator may set mean the
// same as the others.
func TestForceBuffers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		c, _ := p.connected(t)
		for _, f := range []*socket.FD{c, udp4(t, p.a)} {
			must(t, f.SetsockoptInt(socket.SOL_SOCKET, socket.SO_RCVBUFFORCE, 10000))
			if v, err := f.GetsockoptInt(socket.SOL_SOCKET, socket.SO_RCVBUF); v != 20000 || err != nil {
				t.Error("SO_RCVBUF", v, err)
			}
			must(t, f.SetsockoptInt(socket.SOL_SOCKET, socket.SO_SNDBUFFORCE, 12000))
			if v, err := f.GetsockoptInt(socket.SOL_SOCKET, socket.SO_SNDBUF); v != 24000 || err != nil {
				t.Error("SO_SNDBUF", v, err)
			}
			if v, err := f.GetsockoptInt(socket.SOL_SOCKET, socket.SO_SNDLOWAT); v != 1 || err != nil {
				t.Error("SO_SNDLOWAT", v, err)
			}
			wantErr(t, "SO_SNDLOWAT", f.SetsockoptInt(socket.SOL_SOCKET, socket.SO_SNDLOWAT, 5), syscall.ENOPROTOOPT)
		}
	})
}
