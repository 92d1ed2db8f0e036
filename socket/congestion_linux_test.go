package socket_test

import (
	"bytes"
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/socket"
)

// kernelCongestion is TCP_CONGESTION of a kernel socket.
type kernelCongestion int

func (k kernelCongestion) set(name string) error {
	return syscall.SetsockoptString(int(k), syscall.IPPROTO_TCP, syscall.TCP_CONGESTION, name)
}

func (k kernelCongestion) get() (string, error) {
	// There is no call for a string: it is read in words.
	var name []byte
	b, err := syscall.GetsockoptIPv6Mreq(int(k), syscall.IPPROTO_TCP, syscall.TCP_CONGESTION)
	if err == nil {
		name, _, _ = bytes.Cut(b.Multiaddr[:], []byte{0})
	}
	return string(name), err
}

// What TCP_CONGESTION answers is what the kernel answers.
func TestCongestionOption(t *testing.T) {
	p := newPair(t, wire.Options{})
	for _, typ := range []int{socket.SOCK_STREAM, socket.SOCK_DGRAM} {
		fd, err := syscall.Socket(syscall.AF_INET, typ, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer syscall.Close(fd)
		ours, kernel := sock(t, p.a, socket.AF_INET, typ, 0), kernelCongestion(fd)
		for _, name := range []string{"reno", "no-such", "", "a-name-that-is-much-too-long"} {
			got, want := ours.SetCongestion(name), kernel.set(name)
			if !errors.Is(got, want) && (got != nil || want != nil) {
				t.Errorf("type %d, %q: %v, the kernel %v", typ, name, got, want)
			}
			a, aerr := ours.Congestion()
			b, berr := kernel.get()
			if a != b || !errors.Is(aerr, berr) && (aerr != nil || berr != nil) {
				t.Errorf("type %d after %q: %q %v, the kernel %q %v", typ, name, a, aerr, b, berr)
			}
		}
	}
}

func TestCongestion(t *testing.T) {
	p := newPair(t, wire.Options{})
	want := func(what string, f *socket.FD, want string) {
		t.Helper()
		if got, err := f.Congestion(); got != want || err != nil {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
	l := sock(t, p.b, socket.AF_INET, socket.SOCK_STREAM, 0)
	want("new", l, "cubic")
	must(t, l.SetCongestion("bbr")) // before it is bound
	must(t, l.Bind(ap("10.77.0.2:80")))
	must(t, l.Listen(4))
	want("listening", l, "bbr")
	accept := func() *socket.FD {
		t.Helper()
		f, _, err := l.Accept(bg)
		must(t, err)
		t.Cleanup(func() { f.Close() })
		return f
	}
	c := sock(t, p.a, socket.AF_INET, socket.SOCK_STREAM, 0)
	must(t, c.SetCongestion("reno"))
	must(t, c.Connect(bg, ap("10.77.0.2:80")))
	want("connected", c, "reno")
	s := accept()
	want("accepted", s, "bbr")
	must(t, l.SetCongestion("reno"))
	must(t, c.SetCongestion("cubic"))
	want("changed", c, "cubic")
	want("accepted before", s, "bbr")
	if i := s.Stream().Info(); i.Congestion != "bbr" || i.PacingRate == 0 {
		t.Errorf("%+v", i)
	}
	d := sock(t, p.a, socket.AF_INET, socket.SOCK_STREAM, 0)
	must(t, d.Connect(bg, ap("10.77.0.2:80")))
	want("another", d, "cubic")
	want("accepted later", accept(), "reno")
	d.Close()
	wantErr(t, "set when closed", d.SetCongestion("reno"), net.ErrClosed)
	_, err := d.Congestion()
	wantErr(t, "asked when closed", err, net.ErrClosed)

	// Text goes both ways, paced and not, through the change.
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	go func() {
		for k := 0; k < len(data); k += 1 << 16 {
			s.SetCongestion([]string{"bbr", "cubic", "reno"}[k>>16%3])
			if _, err := s.Send(data[k:k+1<<16], 0); err != nil {
				t.Error(err)
			}
		}
		s.Shutdown(socket.SHUT_WR)
	}()
	var got []byte
	buf := make([]byte, 1<<16)
	c.SetReadDeadline(time.Now().Add(time.Minute))
	for {
		n, err := c.Recv(buf, 0)
		got = append(got, buf[:n]...)
		if n == 0 || err != nil {
			break
		}
	}
	if !bytes.Equal(got, data) {
		t.Errorf("%d bytes came of %d", len(got), len(data))
	}
}

// The same on the surface of package net.
func TestCongestionOfConn(t *testing.T) {
	p := newPair(t, wire.Options{})
	l, err := p.nb.Listen("tcp", "10.77.0.2:80")
	must(t, err)
	defer l.Close()
	must(t, l.(*socket.Listener).SetCongestion("bbr"))
	wantErr(t, "listener", l.(*socket.Listener).SetCongestion("vegas"), syscall.ENOENT)
	c, err := p.na.Dial("tcp", "10.77.0.2:80")
	must(t, err)
	defer c.Close()
	s, err := l.Accept()
	must(t, err)
	defer s.Close()
	if got, _ := s.(*socket.Conn).FD().Congestion(); got != "bbr" {
		t.Errorf("accepted with %s", got)
	}
	must(t, c.(*socket.Conn).SetCongestion("reno"))
	err = c.(*socket.Conn).SetCongestion("vegas")
	wantErr(t, "connection", err, syscall.ENOENT)
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "set" {
		t.Errorf("%T %v", err, err)
	}
}
