package interop

// Packet sockets and raw sockets beside the kernel's own: a capture of each
// side of the TAP, of the same traffic.

import (
	"bytes"
	"io"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/ether/tap"
	"github.com/tapstack/tapstack/socket"
)

// frame is one as a packet socket showed it.
type frame struct {
	kind  uint8
	proto uint16
	from  [6]byte
	data  []byte
}

// TestPacketSocketCapture: for a ping and a TCP connection each way, what the kernel's
// packet socket on the TAP shows as leaving is what ours shows as arriving, and
// the other way round, frame by frame. On the TAP the kernel does for a frame
// what a cable does, so that both see all of it.
func TestPacketSocketCapture(t *testing.T) {
	l := newLab(t)
	h := newHost(t, l, hostOptions{services: true, offload: tap.OffloadOff})
	h.serveKernel()
	h.expect("frames of the captures' own test", "ether.drop.foreign-group", "ether.drop.unknown-type")

	ours, err := socket.Socket(h.stack, socket.AF_PACKET, socket.SOCK_RAW, int(socket.Htons(socket.ETH_P_ALL)))
	if err == nil {
		err = ours.BindPacket(socket.PacketAddr{Index: h.nic.Index()})
	}
	if err == nil {
		err = ours.AddPacketMembership(socket.PacketMreq{Index: h.nic.Index(), Type: socket.PACKET_MR_PROMISC})
	}
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	kernel, sender := -1, -1
	inLab(t, l, func() error {
		link, err := netlink.LinkByName(l.Devices[0])
		if err != nil {
			return err
		}
		kernel, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		sender, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if err := unix.Bind(sender, &unix.SockaddrLinklayer{Ifindex: link.Attrs().Index}); err != nil {
			return err
		}
		return unix.Bind(kernel, &unix.SockaddrLinklayer{Protocol: socket.Htons(unix.ETH_P_ALL), Ifindex: link.Attrs().Index})
	})
	defer unix.Close(kernel)
	defer unix.Close(sender)

	h.ping(t, our4.Addr().String(), "-4", 56, 2)
	h.ping(t, our6.Addr().String(), "-6", 3000, 2)
	c, err := l.DialKernel(t.Context(), "tcp", addr(our4.Addr(), 7))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	c.Close()
	// A last frame each way, from sockets of their own, since none sees what it
	// sends itself: the captures are compared up to these.
	end := slices.Concat([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, ourMAC[:], []byte{0x88, 0xb5}, bytes.Repeat([]byte("end"), 20))
	mark, err := socket.Socket(h.stack, socket.AF_PACKET, socket.SOCK_RAW, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer mark.Close()
	if _, err := mark.SendPacket(end, 0, socket.PacketAddr{Index: h.nic.Index()}); err != nil {
		t.Fatal(err)
	}
	end[12] = 0x87 // and of another type from the kernel
	if _, err := unix.Write(sender, end); err != nil {
		t.Fatal(err)
	}
	isEnd := func(f frame, typ byte) bool {
		return len(f.data) == len(end) && f.data[12] == typ && bytes.Equal(f.data[13:], end[13:])
	}
	var a, b []frame
	buf := make([]byte, 70000)
	eventually(t, patience, "the last frames in the kernel's capture", func() bool {
		for {
			n, sa, err := unix.Recvfrom(kernel, buf, 0)
			if err != nil {
				return slices.ContainsFunc(a, func(f frame) bool { return isEnd(f, 0x88) })
			}
			x := sa.(*unix.SockaddrLinklayer)
			a = append(a, frame{x.Pkttype, x.Protocol, [6]byte(x.Addr[:6]), bytes.Clone(buf[:n])})
		}
	})
	eventually(t, patience, "the last frame in ours", func() bool {
		for {
			n, m, err := ours.RecvPacket(buf, socket.MSG_DONTWAIT)
			if err != nil {
				return slices.ContainsFunc(b, func(f frame) bool { return isEnd(f, 0x87) })
			}
			b = append(b, frame{m.From.PktType, m.From.Protocol, m.From.Addr, bytes.Clone(buf[:n])})
		}
	})
	// Frames that two goroutines send at once may leave in another order than
	// they were shown in, so that what was sent is not cut there.
	part := func(list []frame, outgoing bool, typ byte) (way []frame) {
		for _, f := range list {
			switch last := isEnd(f, typ); {
			case last && !outgoing:
				return way
			case !last && (f.kind == socket.PACKET_OUTGOING) == outgoing:
				way = append(way, f)
			}
		}
		return way
	}
	for _, way := range []struct {
		name       string
		left, came []frame
	}{
		{"from the kernel", part(a, true, 0x87), part(b, false, 0x87)},
		{"from the stack", part(b, true, 0x88), part(a, false, 0x88)},
	} {
		left, came := way.left, way.came
		// Neither capture has a beginning that the other lacks.
		if len(came) > 0 && len(left) > 0 && !bytes.Equal(came[0].data, left[0].data) {
			t.Fatalf("%s: begins with % x and % x", way.name, left[0].data[:34], came[0].data[:34])
		}
		if len(came) < 10 || len(left) < len(came) {
			t.Errorf("%s: %d frames left and %d came", way.name, len(left), len(came))
		}
		for i := range min(len(left), len(came)) {
			if !sameFrame(left[i].data, came[i].data) || left[i].proto != came[i].proto || left[i].from != came[i].from {
				t.Errorf("%s, frame %d: left % x, came % x", way.name, i, left[i].data, came[i].data)
			}
			if want := kindOf(came[i].data); came[i].kind != want {
				t.Errorf("%s, frame %d: kind %d, want %d", way.name, i, came[i].kind, want)
			}
		}
	}
}

// sameFrame compares two captures of a frame. A transport checksum that the
// sending side shows may be unfinished.
func sameFrame(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	diff := 0
	for i := range a {
		if a[i] != b[i] {
			diff++
		}
	}
	return diff <= 2
}

// kindOf is how a frame to its destination arrives, on either side.
func kindOf(frame []byte) uint8 {
	switch {
	case bytes.Equal(frame[:6], []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}):
		return socket.PACKET_BROADCAST
	case frame[0]&1 != 0:
		return socket.PACKET_MULTICAST
	case bytes.Equal(frame[:6], ourMAC[:]):
		return socket.PACKET_HOST
	}
	return socket.PACKET_OTHERHOST // the bridge's address is not the TAP's
}

// TestRawSocketPing: raw ICMP sockets ping the kernel, and the kernel's ping us
// the same way.
func TestRawSocketPing(t *testing.T) {
	l := newLab(t)
	h := newHost(t, l, hostOptions{services: true})
	h.expect("replies that no ping socket has asked for", "ping.drop.no-socket")
	eachFamily(t, func(t *testing.T, fam family) {
		domain, proto, header, request, reply := socket.AF_INET, socket.IPPROTO_ICMP, 20, byte(8), byte(0)
		if fam.ours.Addr().Is6() {
			domain, proto, header, request, reply = socket.AF_INET6, socket.IPPROTO_ICMPV6, 0, 128, 129
		}
		fd, err := socket.Socket(h.stack, domain, socket.SOCK_RAW, proto)
		if err != nil {
			t.Fatal(err)
		}
		defer fd.Close()
		message := make([]byte, 64)
		message[0], message[5] = request, 77
		if domain == socket.AF_INET {
			// The sum of type, identifier and nothing else.
			message[2], message[3] = 0xf7, 0xff-77
		}
		if _, err := fd.SendTo(message, 0, netip.AddrPortFrom(fam.kernel.Addr(), 0)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 2000)
		for {
			n, from, err := fd.RecvFrom(buf, 0)
			if err != nil {
				t.Fatal(err)
			}
			if from.Addr() == fam.kernel.Addr() && n == header+64 && buf[header] == reply && buf[header+5] == 77 {
				break
			}
		}
	})
}
