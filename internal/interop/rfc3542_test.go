package interop

import (
	"bytes"
	"fmt"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
)

// headerPeer is a program with the kernel's sockets: it answers each datagram,
// with the options that came, and tells the flow label, too.
const headerPeer = `
import socket, sys
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
for o in (53, 58, 51): s.setsockopt(41, o, 1) # IPV6_RECVHOPOPTS, IPV6_RECVDSTOPTS, IPV6_RECVHOPLIMIT
s.setsockopt(41, 11, 1)                        # IPV6_FLOWINFO
s.bind(("::", 4000))
print("ready", flush=True)
while True:
    data, control, flags, peer = s.recvmsg(9000, 2000)
    if data == b"end": break
    for level, kind, value in control:
        print(len(data), kind, value.hex(), flush=True)
    s.sendmsg([data], [c for c in control if c[1] in (54, 59)], 0, peer)
`

// TestExtensionHeadersWithKernel: options go to the kernel's sockets and come
// from them, in fragments too.
func TestExtensionHeadersWithKernel(t *testing.T) {
	t.Parallel()
	program(t, "python3")
	l := newLab(t)
	h := newHost(t, l, hostOptions{parallel: true, nic: stack.InterfaceConfig{NoDAD: true}})
	cmd := exec.CommandContext(within(t, patience), "python3", "-c", headerPeer)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	inLab(t, l, cmd.Start)
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()

	f, err := socket.Socket(h.stack, socket.AF_INET6, socket.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, o := range []int{socket.IPV6_RECVHOPOPTS, socket.IPV6_RECVDSTOPTS, socket.IPV6_FLOWINFO} {
		if err := f.SetsockoptInt(socket.IPPROTO_IPV6, o, 1); err != nil {
			t.Fatal(err)
		}
	}
	to := netip.AddrPortFrom(lab.Kernel6.Addr(), 4000)
	hop := socket.AppendOption(nil, 0x1e, []byte{1, 2, 3, 4}, 4)
	dst := socket.AppendOption(socket.AppendOption(nil, 0x1f, []byte{7}, 1), 0x3e, bytes.Repeat([]byte{5}, 100), 8)
	// The program may not listen yet; then the port is unreachable.
	eventually(t, patience, "an answer", func() bool {
		f.SendTo([]byte("first"), 0, to)
		f.SetReceiveTimeout(pause)
		_, _, err := f.RecvFrom(make([]byte, 9), 0)
		return err == nil
	})
	f.SetReceiveTimeout(patience)
	for _, size := range []int{1, 1500 - 40 - 8 - len(hop) - len(dst), 1500 - 40 - 8 - len(hop) - len(dst) + 1, 8000} {
		text := bytes.Repeat([]byte{byte(size)}, size)
		control := socket.AppendControl(nil, socket.IPPROTO_IPV6, socket.IPV6_HOPOPTS, hop)
		control = socket.AppendControl(control, socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, dst)
		if _, err := f.Sendmsg(&socket.Msg{Name: to, Buffers: [][]byte{text}, Control: control}, 0); err != nil {
			t.Fatal(err)
		}
		for {
			m := socket.Msg{Buffers: [][]byte{make([]byte, 9000)}, Control: make([]byte, 2000)}
			n, err := f.Recvmsg(&m, 0)
			if err != nil {
				t.Fatalf("%d bytes: %v\n%s", size, err, out.String())
			}
			if string(m.Buffers[0][:n]) == "first" {
				continue // another answer to that
			}
			i, err := socket.ParseControl(m.Control[:m.ControlLen])
			if err != nil || !bytes.Equal(m.Buffers[0][:n], text) || len(i.HopOptions) == 0 || !bytes.Equal(i.HopOptions[1:], hop[1:]) ||
				len(i.DstOptions) == 0 || !bytes.Equal(i.DstOptions[1:], dst[1:]) || i.FlowInfo == 0 {
				t.Errorf("%d bytes: %d back, %x %x, flow %x, %v", size, n, i.HopOptions, i.DstOptions, i.FlowInfo, err)
			}
			break
		}
	}
	if _, err := f.SendTo([]byte("end"), 0, to); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, want := range []string{fmt.Sprintf("8000 54 3c%x", hop[1:]), fmt.Sprintf("8000 59 11%x", dst[1:]), "8000 52 40000000"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the kernel did not tell %q:\n%s", want, out.String())
		}
	}
	// One label for all datagrams of the flow.
	labels := map[string]bool{}
	for line := range strings.Lines(out.String()) {
		if w := strings.Fields(line); len(w) == 3 && w[1] == "11" {
			labels[w[2]] = true
		}
	}
	if len(labels) != 1 {
		t.Errorf("labels of the flow: %v", labels)
	}
	h.expect("the port before the program listens", "icmp.drop.no-socket")
}

// TestPingSixes: the kernel's ping with all sizes of packets, of a group and of a
// zone, and a trace to us.
func TestPingSixes(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	newHost(t, l, hostOptions{parallel: true, nic: stack.InterfaceConfig{NoDAD: true}})
	ctx := within(t, patience)
	ours := our6.Addr().String()
	for _, c := range []struct {
		args, want string
	}{
		{"ping -6 -c 2 -i 0.2 -s 65527 -l 1 " + ours, " 0% packet loss"},
		{"ping -6 -c 1 -I " + lab.Bridge + " ff02::1", " 0% packet loss"},
		{"ping -6 -c 1 -F 0x12345 -Q 0x20 " + ours, " 0% packet loss"},
	} {
		if out := run(t, ctx, l, strings.Fields(c.args)...); !strings.Contains(out, c.want) {
			t.Errorf("%s:\n%s", c.args, out)
		}
	}
	// From the smallest, about the edges of one packet and of two, to the largest.
	for _, size := range []int{0, 1, 8, 1232, 1233, 1451, 1452, 1453, 2895, 2896, 2897, 4096, 9000, 32768, 65526, 65527} {
		if out := run(t, ctx, l, "ping", "-6", "-c", "1", "-s", strconv.Itoa(size), ours); !strings.Contains(out, " 0% packet loss") {
			t.Errorf("%d bytes:\n%s", size, out)
		}
	}
	if out := run(t, ctx, l, "tracert6", "-q", "1", ours); !strings.Contains(out, "1 ") || !strings.Contains(out, ours) {
		t.Errorf("tracert6:\n%s", out)
	}
}

// TestZones: a link-local peer by name of its zone and by number, in each call.
func TestZones(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	h := newHost(t, l, hostOptions{parallel: true, nic: stack.InterfaceConfig{NoDAD: true}})
	h.expect("a neighbour is asked before it is known", "icmp.drop.no-socket")
	var peer netip.Addr
	inLab(t, l, func() error {
		out, err := exec.Command("ip", "-6", "-o", "addr", "show", "dev", lab.Bridge, "scope", "link").Output()
		if w := strings.Fields(string(out)); err == nil && len(w) > 3 {
			peer = netip.MustParsePrefix(w[3]).Addr()
		}
		return err
	})
	if !peer.IsLinkLocalUnicast() {
		t.Fatal("the bridge has no link-local address")
	}
	var k int
	inLab(t, l, func() (err error) {
		if k, err = unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err == nil {
			if err = unix.Bind(k, &unix.SockaddrInet6{Port: 4001}); err == nil {
				err = unix.Listen(k, 9)
			}
		}
		return err
	})
	defer unix.Close(k)
	zone := peer.WithZone(l.Devices[0])
	c, err := h.net.DialContext(within(t, patience), "tcp", netip.AddrPortFrom(zone, 4001).String())
	if err != nil {
		t.Fatal(err)
	}
	if got := c.RemoteAddr().String(); got != netip.AddrPortFrom(zone, 4001).String() {
		t.Errorf("connected to %s", got)
	}
	if !strings.Contains(c.LocalAddr().String(), "%"+l.Devices[0]) {
		t.Errorf("connected from %s", c.LocalAddr())
	}
	c.Close()
	if _, err := h.net.DialContext(within(t, patience), "tcp", netip.AddrPortFrom(peer.WithZone("nowhere"), 4001).String()); err == nil {
		t.Error("a zone that is not there is dialled")
	}
	own := h.nic.Addrs()
	var ll netip.Addr
	for _, p := range own {
		if p.Addr().IsLinkLocalUnicast() && p.Addr().Is6() {
			ll = p.Addr()
		}
	}
	ln, err := h.net.Listen("tcp", netip.AddrPortFrom(ll.WithZone(l.Devices[0]), 4002).String())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(ln.Addr().String(), "%"+l.Devices[0]) {
		t.Errorf("listens at %v", ln.Addr())
	}
	ln.Close()
	pc, err := h.net.ListenPacket("udp", netip.AddrPortFrom(ll.WithZone(l.Devices[0]), 4003).String())
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	if _, err := h.net.ListenPacket("udp", netip.AddrPortFrom(ll.WithZone("nowhere"), 4003).String()); err == nil {
		t.Error("a zone that is not there is bound")
	}
}
