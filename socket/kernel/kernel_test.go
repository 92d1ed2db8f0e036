package kernel_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/socket/kernel"
	"github.com/tapstack/tapstack/stack"
)

// scene is one of the two systems, and what it said.
type scene struct {
	t    *testing.T
	sys  socket.System
	lo   netip.Addr
	log  []string
	open []io.Closer
}

func (s *scene) note(what string, values ...any) {
	for i, v := range values {
		err, ok := v.(error)
		switch {
		case !ok:
		case errors.Is(err, net.ErrClosed):
			values[i] = net.ErrClosed
		case errors.Is(err, os.ErrDeadlineExceeded):
			values[i] = os.ErrDeadlineExceeded
		}
	}
	s.log = append(s.log, fmt.Sprintln(append([]any{what}, values...)...))
}

func (s *scene) closes(c io.Closer) { s.open = append(s.open, c) }

func (s *scene) socket(typ int) socket.Berkeley {
	domain := socket.AF_INET
	if s.lo.Is6() {
		domain = socket.AF_INET6
	}
	f, err := s.sys.Socket(domain, typ, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	s.closes(f)
	return f
}

func (s *scene) listener() socket.Berkeley {
	l := s.socket(socket.SOCK_STREAM)
	s.note("listen", l.Bind(netip.AddrPortFrom(s.lo, 0)), l.Listen(5))
	return l
}

func (s *scene) pair() (client, server socket.Berkeley) {
	l, c := s.listener(), s.socket(socket.SOCK_STREAM)
	at, err := l.Getsockname()
	s.note("name", at.Addr(), err)
	s.note("connect", c.Connect(context.Background(), at))
	p, from, err := l.Accept(context.Background())
	if err != nil {
		s.t.Fatal(err)
	}
	s.closes(p)
	me, _ := c.Getsockname()
	peer, err := c.Getpeername()
	s.note("accept", from == me, peer == at, err)
	return c, p
}

func TestBothSystems(t *testing.T) {
	for _, lo := range []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()} {
		for _, c := range scenes {
			t.Run(fmt.Sprintf("%s/%v", c.name, lo), func(t *testing.T) {
				st := stack.New(stack.Config{})
				defer st.Close()
				var logs [2][]string
				for i, sys := range []socket.System{&kernel.Network{}, socket.Net(st)} {
					s := &scene{t: t, sys: sys, lo: lo}
					c.run(s)
					for _, o := range s.open {
						o.Close()
					}
					logs[i] = s.log
				}
				if !slices.Equal(logs[0], logs[1]) {
					t.Errorf("kernel: %q\nstack:  %q", logs[0], logs[1])
				}
			})
		}
	}
}

// TestNetwork: what the two say of their loopback interface and its names.
func TestNetwork(t *testing.T) {
	st := stack.New(stack.Config{})
	defer st.Close()
	for _, sys := range []socket.System{&kernel.Network{}, socket.Net(st)} {
		list, err := sys.Interfaces()
		i := slices.IndexFunc(list, func(i socket.Interface) bool { return i.Flags&net.FlagLoopback != 0 })
		if err != nil || i < 0 {
			t.Fatalf("%T: %v, %v", sys, list, err)
		}
		addrs, err := list[i].Addrs()
		if err != nil || len(addrs) == 0 || addrs[0].String() != "127.0.0.1/8" || list[i].Index != 1 || list[i].Name != "lo" {
			t.Errorf("%T: %+v, %v", sys, list[i], err)
		}
		if all, err := sys.InterfaceAddrs(); err != nil || len(all) < len(addrs) {
			t.Errorf("%T: %v, %v", sys, all, err)
		}
		if a, err := sys.LookupNetIP(context.Background(), "ip", "127.0.0.1"); err != nil || len(a) != 1 || a[0].Unmap().String() != "127.0.0.1" {
			t.Errorf("%T: %v, %v", sys, a, err)
		}
	}
}
