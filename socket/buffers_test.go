package socket_test

import (
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
)

// TestBufferSizes: what is set holds, before a connection as after, and for
// those that a listener accepts; what is not set grows.
func TestBufferSizes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPairConfig(t, wire.Options{Delay: 10 * time.Millisecond}, stack.Config{Limits: stack.Limits{TCPReceive: 1 << 20, TCPSend: 1 << 20}})
		l := sock(t, p.b, socket.AF_INET, socket.SOCK_STREAM, 0)
		must(t, l.SetReceiveBuffer(20_000))
		must(t, l.SetSendBuffer(30_000))
		must(t, l.Bind(netip.MustParseAddrPort("10.77.0.2:7")))
		must(t, l.Listen(5))
		c := sock(t, p.a, socket.AF_INET, socket.SOCK_STREAM, 0)
		must(t, c.SetSendBuffer(1<<30))
		must(t, c.Connect(t.Context(), netip.MustParseAddrPort("10.77.0.2:7")))
		s, _, err := l.Accept(t.Context())
		must(t, err)
		want := func(f *socket.FD, opt, v int) {
			t.Helper()
			if got, err := f.GetsockoptInt(socket.SOL_SOCKET, opt); got != v || err != nil {
				t.Errorf("option %d: %d, %v, want %d", opt, got, err, v)
			}
		}
		want(s, socket.SO_RCVBUF, 40_000)
		want(s, socket.SO_SNDBUF, 60_000)
		want(c, socket.SO_SNDBUF, 2<<20) // the stack's limit
		if w := c.Stream().Info().SndWnd; w != 20_000 {
			t.Errorf("window of %d in the handshake", w)
		}
		// Nobody reads: both buffers take what they are to take.
		n, err := c.Send(make([]byte, 2<<20), socket.MSG_DONTWAIT)
		if n != 1<<20 || err != nil {
			t.Errorf("sent %d, %v", n, err)
		}
		time.Sleep(10 * time.Second)
		if i := s.Stream().Info(); i.Unread < 20_000 || i.Unread >= 20_000+1<<i.RcvWScale || i.RcvBuf != 20_000 {
			t.Errorf("%d unread in a buffer of %d", i.Unread, i.RcvBuf)
		}
		n, err = s.Send(make([]byte, 100_000), socket.MSG_DONTWAIT)
		if n != 30_000 || err != nil {
			t.Errorf("sent %d, %v", n, err)
		}
		must(t, s.SetReceiveBuffer(-1))
		want(s, socket.SO_RCVBUF, 2<<20)
		time.Sleep(20 * time.Minute) // until the peer asks again
		if n := s.Stream().Info().Unread; n < 1<<20-64 {
			t.Errorf("%d unread after the buffer was enlarged", n)
		}

		u := sock(t, p.a, socket.AF_INET, socket.SOCK_DGRAM, 0)
		must(t, u.SetReceiveBuffer(5000))
		want(u, socket.SO_RCVBUF, 10_000)
		must(t, u.SetReceiveBuffer(-1))
		want(u, socket.SO_RCVBUF, 2*212992)
		must(t, u.SetReceiveBuffer(5000))
		must(t, u.Bind(netip.MustParseAddrPort("10.77.0.1:9")))
		v := sock(t, p.b, socket.AF_INET, socket.SOCK_DGRAM, 0)
		for range 10 {
			_, err := v.SendTo(make([]byte, 1000), 0, netip.MustParseAddrPort("10.77.0.1:9"))
			must(t, err)
		}
		time.Sleep(time.Second)
		got := 0
		for ; ; got++ {
			if _, _, err := u.RecvFrom(make([]byte, 2000), socket.MSG_DONTWAIT); err != nil {
				wantErr(t, "drained", err, syscall.EAGAIN)
				break
			}
		}
		if got != 3 { // of 1000 and 256 bytes each
			t.Errorf("%d datagrams in a buffer of 5000 bytes", got)
		}
	})
}
