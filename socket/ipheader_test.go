package socket_test

import (
	"bytes"
	"syscall"
	"testing"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/socket"
)

// TestSocketOptionsOfIP: IP_OPTIONS, IP_RECVOPTS and IP_RETOPTS there and back: a
// record route knows both ways at the end.
func TestSocketOptionsOfIP(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		a, b := udp4(t, p.a), udp4(t, p.b)
		must(t, b.Bind(ap("0.0.0.0:7")))
		route := append([]byte{7, 23, 4}, make([]byte, 20)...)
		must(t, a.Setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, route))
		got := make([]byte, 40)
		n, err := a.Getsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, got)
		must(t, err)
		if !bytes.Equal(got[:n], append(route, 0)) {
			t.Errorf("set %x", got[:n])
		}
		wantErr(t, "a source route", a.Setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, []byte{131, 7, 4, 1, 2, 3, 4}), syscall.EINVAL)
		wantErr(t, "too long", a.Setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, make([]byte, 41)), syscall.EINVAL)
		must(t, b.SetsockoptInt(socket.IPPROTO_IP, socket.IP_RECVOPTS, 1))
		must(t, b.SetsockoptInt(socket.IPPROTO_IP, socket.IP_RETOPTS, 1))
		must(t, a.SetsockoptInt(socket.IPPROTO_IP, socket.IP_RECVOPTS, 1))
		_, err = a.SendTo([]byte("x"), 0, ap("10.77.0.2:7"))
		must(t, err)

		receive := func(f *socket.FD) (m socket.Msg, opts map[int][]byte) {
			m = socket.Msg{Buffers: [][]byte{make([]byte, 9)}, Control: make([]byte, 200)}
			_, err := f.Recvmsg(&m, 0)
			must(t, err)
			opts = map[int][]byte{}
			for rest := m.Control[:m.ControlLen]; ; {
				c, next, more, err := socket.NextControl(rest)
				must(t, err)
				if !more {
					return m, opts
				}
				opts[c.Type], rest = c.Data, next
			}
		}
		hop := func(n byte) []byte { return []byte{10, 77, 0, n} }
		want := func(what string, got []byte, hops ...byte) {
			t.Helper()
			b := []byte{7, 23, byte(4 + 4*len(hops))}
			for _, n := range hops {
				b = append(b, hop(n)...)
			}
			if b = append(b, make([]byte, 24-len(b))...); !bytes.Equal(got, b) {
				t.Errorf("%s: %x, want %x", what, got, b)
			}
		}
		m, opts := receive(b)
		want("received", opts[socket.IP_RECVOPTS], 1, 2)
		want("to answer with", opts[socket.IP_RETOPTS], 1, 2, 2)
		// Sent as it is, the option goes on from where it is.
		_, err = b.Sendmsg(&socket.Msg{Name: m.Name, Buffers: [][]byte{[]byte("y")},
			Control: socket.AppendControl(nil, socket.IPPROTO_IP, socket.IP_RETOPTS, opts[socket.IP_RECVOPTS])}, 0)
		must(t, err)
		_, opts = receive(a)
		want("back", opts[socket.IP_RECVOPTS], 1, 2, 2, 1)
		_, err = b.Sendmsg(&socket.Msg{Name: m.Name, Buffers: [][]byte{[]byte("y")},
			Control: socket.AppendControl(nil, socket.IPPROTO_IP, socket.IP_RETOPTS, []byte{7, 1})}, 0)
		wantErr(t, "impossible options", err, syscall.EINVAL)
	})
}
