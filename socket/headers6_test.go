package socket_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/socket"
)

// received takes a datagram and what is told of it.
func received(t *testing.T, f *socket.FD) (string, socket.ControlInfo) {
	t.Helper()
	m := socket.Msg{Buffers: [][]byte{make([]byte, 9000)}, Control: make([]byte, 600)}
	n, err := f.Recvmsg(&m, 0)
	must(t, err)
	i, err := socket.ParseControl(m.Control[:m.ControlLen])
	must(t, err)
	return string(m.Buffers[0][:n]), i
}

func sendWith(t *testing.T, f *socket.FD, data []byte, to netip.AddrPort, typ int, value []byte) {
	t.Helper()
	_, err := f.Sendmsg(&socket.Msg{Name: to, Buffers: [][]byte{data}, Control: socket.AppendControl(nil, socket.IPPROTO_IPV6, typ, value)}, 0)
	must(t, err)
}

// TestFlowLabelSent: a label of the program's, one of the flow's, or none.
func TestFlowLabelSent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		a, b := sock(t, p.a, socket.AF_INET6, socket.SOCK_DGRAM, 0), sock(t, p.b, socket.AF_INET6, socket.SOCK_DGRAM, 0)
		must(t, b.Bind(ap("[::]:7")))
		to := ap("[fd77::2]:7")
		must(t, b.SetsockoptInt(socket.IPPROTO_IPV6, socket.IPV6_FLOWINFO, 1))
		sendWith(t, a, []byte("x"), to, socket.IPV6_FLOWINFO, []byte{0, 1, 2, 3})
		if _, i := received(t, b); i.FlowInfo != 0x10203 {
			t.Errorf("%x", i.FlowInfo)
		}
		var last uint32
		for n := range 2 {
			_, err := a.SendTo([]byte("x"), 0, to)
			must(t, err)
			if _, i := received(t, b); i.FlowInfo == 0 || n > 0 && i.FlowInfo != last {
				t.Errorf("by itself: %x", i.FlowInfo)
			} else {
				last = i.FlowInfo
			}
		}
		must(t, a.SetsockoptInt(socket.IPPROTO_IPV6, socket.IPV6_AUTOFLOWLABEL, 0))
		_, err := a.SendTo([]byte("x"), 0, to)
		must(t, err)
		if _, i := received(t, b); i.FlowInfo != 0 {
			t.Errorf("none: %x", i.FlowInfo)
		}
	})
}

// TestUseMinMTU: fragments of 1280 bytes where the link carries more.
func TestUseMinMTU(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		a, b := sock(t, p.a, socket.AF_INET6, socket.SOCK_DGRAM, 0), sock(t, p.b, socket.AF_INET6, socket.SOCK_DGRAM, 0)
		must(t, b.Bind(ap("[::]:7")))
		to := ap("[fd77::2]:7")
		text := bytes.Repeat([]byte("x"), 1400)
		fragments := func() uint64 { return p.b.Counters()["ipv6.fragments"] }
		for _, c := range []struct {
			what string
			send func()
			want uint64
		}{
			{"nothing set", func() { _, err := a.SendTo(text, 0, to); must(t, err) }, 0},
			{"a message", func() { sendWith(t, a, text, to, socket.IPV6_USE_MIN_MTU, ints(1)) }, 2},
			{"the socket", func() {
				must(t, a.SetsockoptInt(socket.IPPROTO_IPV6, socket.IPV6_USE_MIN_MTU, 1))
				_, err := a.SendTo(text, 0, to)
				must(t, err)
			}, 2},
			{"not this message", func() { sendWith(t, a, text, to, socket.IPV6_USE_MIN_MTU, ints(0)) }, 0},
		} {
			before := fragments()
			c.send()
			if got, _ := received(t, b); got != string(text) || fragments()-before != c.want {
				t.Errorf("%s: %d bytes, %d fragments", c.what, len(got), fragments()-before)
			}
		}
		wantErr(t, "2", a.SetsockoptInt(socket.IPPROTO_IPV6, socket.IPV6_USE_MIN_MTU, 2), syscall.EINVAL)
	})
}

// TestExtensionHeadersSent: sizes are right when headers take their part: in
// fragments, in datagrams that are sent together, with raw and ping sockets.
func TestExtensionHeadersSent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		a, b := sock(t, p.a, socket.AF_INET6, socket.SOCK_DGRAM, 0), sock(t, p.b, socket.AF_INET6, socket.SOCK_DGRAM, 0)
		must(t, b.Bind(ap("[::]:7")))
		to := ap("[fd77::2]:7")
		for _, o := range []int{socket.IPV6_RECVHOPOPTS, socket.IPV6_RECVDSTOPTS} {
			must(t, b.SetsockoptInt(socket.IPPROTO_IPV6, o, 1))
		}
		hop := socket.AppendOption(nil, 0x1e, []byte{1, 2, 3, 4}, 4)
		dst := socket.AppendOption(nil, 0x3e, bytes.Repeat([]byte{5}, 200), 1)
		must(t, a.Setsockopt(socket.IPPROTO_IPV6, socket.IPV6_HOPOPTS, hop))
		must(t, a.Setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, dst))
		look := func(what, want string) {
			t.Helper()
			got, i := received(t, b)
			if got != want || !bytes.Equal(i.HopOptions[1:], hop[1:]) || !bytes.Equal(i.DstOptions[1:], dst[1:]) {
				t.Errorf("%s: %d bytes, %x %x", what, len(got), i.HopOptions, i.DstOptions)
			}
		}
		// The headers take 8 and 208 bytes: the last size that fits, and more.
		for _, size := range []int{0, 1500 - 40 - 8 - 216, 1500 - 40 - 8 - 215, 5000} {
			before := p.b.Counters()["ipv6.fragments"]
			text := bytes.Repeat([]byte("y"), size)
			_, err := a.SendTo(text, 0, to)
			must(t, err)
			look(fmt.Sprint(size, " bytes"), string(text))
			if n := p.b.Counters()["ipv6.fragments"] - before; (n == 0) != (size <= 1500-40-8-216) {
				t.Errorf("%d bytes in %d fragments", size, n)
			}
		}
		must(t, a.SetSegmentSize(100))
		_, err := a.SendTo(bytes.Repeat([]byte("z"), 250), 0, to)
		must(t, err)
		for _, n := range []int{100, 100, 50} {
			look("together", string(bytes.Repeat([]byte("z"), n)))
		}

		raw, other := sock(t, p.a, socket.AF_INET6, socket.SOCK_RAW, 200), sock(t, p.b, socket.AF_INET6, socket.SOCK_RAW, 200)
		must(t, other.SetsockoptInt(socket.IPPROTO_IPV6, socket.IPV6_RECVDSTOPTS, 1))
		sendWith(t, raw, []byte("raw"), ap("[fd77::2]:0"), socket.IPV6_DSTOPTS, dst)
		if got, i := received(t, other); got != "raw" || !bytes.Equal(i.DstOptions[1:], dst[1:]) {
			t.Errorf("raw: %q %x", got, i.DstOptions)
		}
		ping := sock(t, p.a, socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6)
		must(t, ping.Setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, dst))
		_, err = ping.SendTo([]byte{128, 0, 0, 0, 0, 0, 0, 1, 'p'}, 0, ap("[fd77::2]:0"))
		must(t, err)
		if got, _ := received(t, ping); len(got) != 9 || got[0] != 129 {
			t.Errorf("ping: %x", got)
		}
	})
}

// TestAppendOption: alignment, padding, and what is read again (RFC 3542 §10).
func TestAppendOption(t *testing.T) {
	var h []byte
	for n, align := range []int{1, 8, 4, 2, 1, 8} {
		data := bytes.Repeat([]byte{byte(n + 1)}, 3*n)
		h = socket.AppendOption(h, byte(0x10+n), data, align)
		if len(h)%8 != 0 || int(h[1]) != len(h)/8-1 {
			t.Fatalf("%x", h)
		}
		count := 0
		for typ, d := range socket.EachOption(h) {
			if typ != byte(0x10+count) || len(d) != 3*count {
				t.Fatalf("%x: option %d: %x %x", h, count, typ, d)
			}
			count++
		}
		if at := bytes.Index(h, append([]byte{byte(0x10 + n), byte(len(data))}, data...)); count != n+1 || (at+2)%align != 0 {
			t.Fatalf("%x: %d options, data at %d", h, count, at+2)
		}
	}
	for range socket.EachOption([]byte{0, 0, 5, 9, 0, 0, 0, 0}) {
		t.Error("an option that is not whole")
	}
}

// TestHeadersBounded: what is kept of headers counts against the receive buffer.
func TestHeadersBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		a, b := sock(t, p.a, socket.AF_INET6, socket.SOCK_DGRAM, 0), sock(t, p.b, socket.AF_INET6, socket.SOCK_DGRAM, 0)
		must(t, b.Bind(ap("[::]:7")))
		must(t, b.SetsockoptInt(socket.SOL_SOCKET, socket.SO_RCVBUF, 10000))
		must(t, b.SetsockoptInt(socket.IPPROTO_IPV6, socket.IPV6_RECVDSTOPTS, 1))
		must(t, a.Setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, socket.AppendOption(nil, 0x1e, make([]byte, 250), 1)))
		for n := range 100 {
			_, err := a.SendTo(binary.BigEndian.AppendUint32(nil, uint32(n)), 0, ap("[fd77::2]:7"))
			must(t, err)
		}
		synctest.Wait()
		got := 0
		for ; ; got++ {
			if _, err := b.Recv(make([]byte, 10), socket.MSG_DONTWAIT); err != nil {
				break
			}
		}
		if got == 0 || got > 20000/(256+264) {
			t.Errorf("%d datagrams kept", got)
		}
	})
}
