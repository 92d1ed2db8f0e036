package kernel_test

import (
	"context"
	"net/netip"
	"syscall"
	"testing"

	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/socket/kernel"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// TestTCPInfo: over loopback, a connection of the kernel's and one of a stack's
// tell the same of themselves in the same units.
func TestTCPInfo(t *testing.T) {
	s := stack.New(stack.Config{})
	t.Cleanup(func() { s.Close() })
	infos := make(map[string]tcp.Info)
	for name, sys := range map[string]socket.System{"kernel": &kernel.Network{}, "stack": socket.Net(s)} {
		l, err := sys.Socket(socket.AF_INET, socket.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		l.Bind(netip.MustParseAddrPort("127.0.0.1:0"))
		l.Listen(1)
		at, _ := l.Getsockname()
		c, _ := sys.Socket(socket.AF_INET, socket.SOCK_STREAM, 0)
		defer c.Close()
		if err := c.Connect(t.Context(), at); err != nil {
			t.Fatal(err)
		}
		p, _, err := l.Accept(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		c.Send([]byte("hello"), 0)
		if n, err := p.Recv(make([]byte, 5), socket.MSG_WAITALL); n != 5 || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
		p.Send([]byte("x"), 0)
		c.Recv(make([]byte, 1), 0)
		i, err := c.(interface{ TCPInfo() (tcp.Info, error) }).TCPInfo()
		if err != nil {
			t.Fatal(err)
		}
		infos[name] = i
	}
	for name, i := range infos {
		if i.State != tcp.Established || !i.SACK || !i.Timestamps || !i.WScale || i.SndWScale == 0 || i.SndWScale > 14 || i.RcvWScale == 0 || i.RcvWScale > 14 ||
			i.BytesOut != 5 || i.BytesAcked < 5 || i.BytesIn != 1 || i.Retransmits != 0 || i.Unacked != 0 || i.PathMTU < 1500 || i.ECN != tcp.FeedbackNone ||
			i.MSS != i.PathMTU-52 && i.MSS < 32000 || i.RTT <= 0 {
			t.Errorf("%s: %+v", name, i)
		}
	}
	c, _ := (&kernel.Network{}).Socket(socket.AF_INET, socket.SOCK_DGRAM, 0)
	c.Close()
	if _, err := c.(interface{ TCPInfo() (tcp.Info, error) }).TCPInfo(); err == nil {
		t.Error("a closed socket told something")
	}
}

// TestNextError: a datagram to a closed port comes back as an error that says
// who sent it, once.
func TestNextError(t *testing.T) {
	for _, tc := range []struct {
		domain, level, opt int
		host               string
		typ, code          uint8
	}{{socket.AF_INET, 0, 11, "127.0.0.1", 3, 3}, {socket.AF_INET6, 41, 25, "::1", 1, 4}} {
		c, err := kernel.NewSocket(tc.domain, socket.SOCK_DGRAM, 0)
		if err != nil {
			lab.Lacks(t, err)
		}
		defer c.Close()
		if _, err := c.NextError(); err != syscall.EAGAIN {
			t.Errorf("at first: %v", err)
		}
		if err := c.SetsockoptInt(tc.level, tc.opt, 1); err != nil {
			t.Fatal(err)
		}
		host := netip.MustParseAddr(tc.host)
		// A port that was just free: nobody has it.
		free, _ := kernel.NewSocket(tc.domain, socket.SOCK_DGRAM, 0)
		free.Bind(netip.AddrPortFrom(host, 0))
		to, _ := free.Getsockname()
		free.Close()
		if err := c.Connect(t.Context(), to); err != nil {
			lab.Lacks(t, err)
		}
		c.Send([]byte("anyone?"), 0)
		if _, err := c.Recv(make([]byte, 1), 0); err != syscall.ECONNREFUSED {
			t.Errorf("%v", err)
		}
		e, err := c.NextError()
		if err != nil || e.Offender != host || e.Type != tc.typ || e.Code != tc.code || e.Errno != syscall.ECONNREFUSED {
			t.Errorf("%+v, %v", e, err)
		}
		if _, err := c.NextError(); err != syscall.EAGAIN {
			t.Errorf("again: %v", err)
		}
	}
}
