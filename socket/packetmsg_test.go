package socket_test

import (
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/socket"
)

// TestBatch: several datagrams in a call, in one part or more, as
// golang.org/x/net/ipv4 has it.
func TestBatch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		a1, err := p.na.ListenPacket("udp4", ":5")
		must(t, err)
		b1, err := p.nb.ListenPacket("udp", ":7")
		must(t, err)
		a, b := a1.(*socket.PacketConn), b1.(*socket.PacketConn)
		defer a.Close()
		defer b.Close()
		to := &net.UDPAddr{IP: net.IPv4(10, 77, 0, 2), Port: 7}
		out := []socket.Message{
			{Buffers: [][]byte{[]byte("one")}, Addr: to},
			{Buffers: [][]byte{[]byte("tw"), nil, []byte("o")}, Addr: to},
			{Addr: to},
			{Buffers: [][]byte{[]byte("three and more")}, Addr: to},
		}
		n, err := a.WriteBatch(out, 0)
		if n != len(out) || err != nil || out[1].N != 3 {
			t.Fatalf("%d written, %v", n, err)
		}
		synctest.Wait() // all are there
		in := make([]socket.Message, 6)
		for i := range in {
			in[i].Buffers = [][]byte{make([]byte, 2), make([]byte, 3)}
			if i == 0 {
				in[i].Buffers = [][]byte{make([]byte, 5)}
			}
		}
		synctest.Wait() // for all of them to be there
		n, err = b.ReadBatch(in, 0)
		if n != len(out) || err != nil {
			t.Fatalf("%d read, %v", n, err)
		}
		for i, want := range []struct {
			text  string
			flags int
		}{{"one", 0}, {"two", 0}, {"", 0}, {"three", socket.MSG_TRUNC}} {
			m := in[i]
			text := ""
			for _, p := range m.Buffers {
				text += string(p)
			}
			if text[:m.N] != want.text || m.Flags != want.flags || m.Addr.String() != "10.77.0.1:5" || m.NN != 0 {
				t.Errorf("%d: %q of %d bytes, flags %#x, from %v", i, text, m.N, m.Flags, m.Addr)
			}
		}
		if _, err := b.ReadBatch(in, socket.MSG_DONTWAIT); !errors.Is(err, syscall.EAGAIN) {
			t.Errorf("nothing there: %v", err)
		}
		// What has left is counted before what could not.
		out = []socket.Message{{Buffers: [][]byte{[]byte("x")}, Addr: to}, {Buffers: [][]byte{make([]byte, 70000)}, Addr: to}}
		if n, err := a.WriteBatch(out, 0); n != 1 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		for want, m := range map[string]socket.Message{
			"sendmmsg: message too long": out[1],
			"message too long":           {Buffers: [][]byte{make([]byte, 60000), make([]byte, 10000)}, Addr: to},
			"missing address":            {},
			"invalid argument":           {Addr: &net.TCPAddr{}},
			"non-IPv4 address":           {Addr: &net.UDPAddr{IP: net.IPv6loopback, Port: 9}},
		} {
			if n, err := a.WriteBatch([]socket.Message{m}, 0); n != 0 || err == nil || !strings.HasSuffix(err.Error(), want) {
				t.Errorf("%d, %v, want %s", n, err, want)
			}
		}
		c, err := p.na.Dial("udp", "10.77.0.2:7")
		must(t, err)
		defer c.Close()
		d := c.(*socket.PacketConn)
		if n, err := d.WriteBatch([]socket.Message{{Buffers: [][]byte{[]byte("y")}}}, 0); n != 1 || err != nil {
			t.Errorf("to the peer: %d, %v", n, err)
		}
		if _, err := d.WriteBatch([]socket.Message{{Addr: to}}, 0); !errors.Is(err, net.ErrWriteToConnected) {
			t.Errorf("elsewhere: %v", err)
		}
	})
}

// TestNoDescriptor: quic-go takes a PacketConn with SyscallConn for a
// descriptor to set options on, and fails if it gets none; without the method it
// goes the plain way.
func TestNoDescriptor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, err := socket.Net(lone(t)).ListenPacket("udp", ":7")
		must(t, err)
		defer c.Close()
		if _, ok := c.(syscall.Conn); ok {
			t.Error("PacketConn has SyscallConn")
		}
		if _, err := c.(*socket.PacketConn).File(); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("File: %v", err)
		}
		for _, set := range []func(int) error{c.(*socket.PacketConn).SetReadBuffer, c.(*socket.PacketConn).SetWriteBuffer} {
			must(t, set(1<<20))
		}
	})
}
