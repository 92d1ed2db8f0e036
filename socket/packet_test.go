package socket_test

import (
	"encoding/binary"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/bpf"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/socket"
)

func all() int { return int(socket.Htons(socket.ETH_P_ALL)) }

// TestPacketCalls: what each call returns, as the kernel does.
func TestPacketCalls(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		for _, c := range []struct {
			typ  int
			want error
		}{{socket.SOCK_RAW, nil}, {socket.SOCK_DGRAM, nil}, {socket.SOCK_STREAM, syscall.ESOCKTNOSUPPORT}, {99, syscall.EINVAL}} {
			f, err := socket.Socket(p.a, socket.AF_PACKET, c.typ, 0)
			wantErr(t, "socket", err, c.want)
			if err == nil {
				f.Close()
			}
		}
		f := sock(t, p.a, socket.AF_PACKET, socket.SOCK_RAW, all())
		if a, err := f.PacketName(); err != nil || a != (socket.PacketAddr{Protocol: socket.Htons(socket.ETH_P_ALL)}) {
			t.Errorf("name %+v, %v", a, err)
		}
		index := p.ia.Index()
		wantErr(t, "bind", f.Bind(ap("10.77.0.1:0")), syscall.EINVAL)
		wantErr(t, "bind to nothing", f.BindPacket(socket.PacketAddr{Index: 99}), syscall.ENODEV)
		_, err := f.Send(make([]byte, 60), 0)
		wantErr(t, "send unbound", err, syscall.ENXIO)
		_, err = f.SendPacket(make([]byte, 60), 0, socket.PacketAddr{Index: 99})
		wantErr(t, "send by nothing", err, syscall.ENXIO)
		must(t, f.BindPacket(socket.PacketAddr{Index: index}))
		want := socket.PacketAddr{Protocol: socket.Htons(socket.ETH_P_ALL), Index: index, HwType: socket.ARPHRD_ETHER, Addr: p.ia.MAC()}
		if a, err := f.PacketName(); err != nil || a != want {
			t.Errorf("name %+v, %v; want %+v", a, err, want)
		}
		_, err = f.SendTo(make([]byte, 60), 0, ap("10.77.0.2:7"))
		wantErr(t, "another family's address", err, syscall.EINVAL)
		wantErr(t, "connect", f.Connect(bg, ap("10.77.0.2:7")), syscall.EOPNOTSUPP)
		wantErr(t, "listen", f.Listen(1), syscall.EOPNOTSUPP)
		_, _, err = f.Accept(bg)
		wantErr(t, "accept", err, syscall.EOPNOTSUPP)
		wantErr(t, "shutdown", f.Shutdown(socket.SHUT_RD), syscall.EOPNOTSUPP)
		_, err = f.Getpeername()
		wantErr(t, "getpeername", err, syscall.EOPNOTSUPP)
		for _, flag := range []int{socket.MSG_WAITALL, socket.MSG_OOB, socket.MSG_NOSIGNAL} {
			_, err = f.Recv(nil, flag)
			wantErr(t, "flags", err, syscall.EINVAL)
		}
		_, err = f.PacketTime()
		wantErr(t, "time before any", err, syscall.ENOENT)
		for _, o := range []struct{ level, name, v int }{{socket.SOL_PACKET, 99, 1}, {socket.IPPROTO_IP, socket.IP_TTL, 1}, {socket.SOL_TCP, 1, 1}} {
			wantErr(t, "option", f.SetsockoptInt(o.level, o.name, o.v), syscall.ENOPROTOOPT)
		}
		wantErr(t, "SOL_PACKET of UDP", udp4(t, p.a).SetsockoptInt(socket.SOL_PACKET, socket.PACKET_IGNORE_OUTGOING, 1), syscall.ENOPROTOOPT)
		wantErr(t, "IGNORE_OUTGOING", f.SetsockoptInt(socket.SOL_PACKET, socket.PACKET_IGNORE_OUTGOING, 2), syscall.EINVAL)
		for name, want := range map[int]int{socket.SO_TYPE: socket.SOCK_RAW, socket.SO_DOMAIN: socket.AF_PACKET, socket.SO_PROTOCOL: 0} {
			if v, err := f.GetsockoptInt(socket.SOL_SOCKET, name); v != want || err != nil {
				t.Errorf("option %d: %d, %v", name, v, err)
			}
		}
		mreq := binary.NativeEndian.AppendUint32(nil, uint32(index))
		mreq = binary.NativeEndian.AppendUint16(mreq, socket.PACKET_MR_PROMISC)
		mreq = append(mreq, make([]byte, 10)...)
		must(t, f.Setsockopt(socket.SOL_PACKET, socket.PACKET_ADD_MEMBERSHIP, mreq))
		must(t, f.Setsockopt(socket.SOL_PACKET, socket.PACKET_DROP_MEMBERSHIP, mreq))
		wantErr(t, "short", f.Setsockopt(socket.SOL_PACKET, socket.PACKET_ADD_MEMBERSHIP, mreq[:15]), syscall.EINVAL)
		wantErr(t, "nowhere", f.AddPacketMembership(socket.PacketMreq{Index: 99}), syscall.ENODEV)
		wantErr(t, "drop nowhere", f.DropPacketMembership(socket.PacketMreq{Index: 99}), nil)
		wantErr(t, "packet call", udp4(t, p.a).BindPacket(want), syscall.EAFNOSUPPORT)
		must(t, f.Close())
		wantErr(t, "closed", f.BindPacket(want), net.ErrClosed)
	})
}

// TestPacketFilter: `tcp port 80` sees a handshake and no other traffic, and a
// program that returns a length shortens frames.
func TestPacketFilter(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		f := sock(t, p.a, socket.AF_PACKET, socket.SOCK_RAW, 0)
		must(t, f.AttachFilter(tcpPort80))
		must(t, f.BindPacket(socket.PacketAddr{Protocol: socket.Htons(socket.ETH_P_ALL)}))
		for _, port := range []string{"10.77.0.2:80", "10.77.0.2:81", "[fd77::2]:80"} {
			c := sock(t, p.a, domainOf(ap(port).Addr()), socket.SOCK_STREAM, 0)
			if err := c.Connect(bg, ap(port)); err != syscall.ECONNREFUSED {
				t.Errorf("connect: %v", err)
			}
		}
		buf := make([]byte, 2000)
		for i, want := range []struct {
			kind  uint8
			proto uint16
			flags byte
			at    int
		}{{socket.PACKET_OUTGOING, socket.ETH_P_IP, 2, 47}, {socket.PACKET_HOST, socket.ETH_P_IP, 0x14, 47},
			{socket.PACKET_OUTGOING, socket.ETH_P_IPV6, 2, 67}, {socket.PACKET_HOST, socket.ETH_P_IPV6, 0x14, 67}} {
			n, m, err := f.RecvPacket(buf, 0)
			if err != nil || m.From.PktType != want.kind || m.From.Protocol != socket.Htons(want.proto) || buf[want.at] != want.flags || m.Size != n {
				t.Errorf("frame %d: %d bytes %+v, flags %#x, %v", i, n, m, buf[want.at], err)
			}
			at, err := f.PacketTime()
			if err != nil || !at.Equal(m.Time) || time.Since(at) < 0 || time.Since(at) > time.Second {
				t.Errorf("at %v, %v", at, err)
			}
		}
		must(t, f.SetReadDeadline(time.Now().Add(time.Second)))
		_, _, err := f.RecvPacket(buf, 0)
		wantErr(t, "nothing more", err, os.ErrDeadlineExceeded)
		must(t, f.SetReadDeadline(time.Time{}))
		packets, drops, err := f.PacketStatistics()
		if packets != 4 || drops != 0 || err != nil {
			t.Errorf("%d packets, %d drops, %v", packets, drops, err)
		}

		// IPv4 alone, 30 bytes of it.
		must(t, f.AttachFilter([]bpf.RawInstruction{{Op: 0x28, K: 12}, {Op: 0x15, Jf: 1, K: 0x800}, {Op: 6, K: 30}, {Op: 6}}))
		_, err = udp4(t, p.a).SendTo([]byte("hello"), 0, ap("10.77.0.2:9"))
		must(t, err)
		for _, c := range []struct{ room, flags, n, got int }{{10, 0, 10, socket.MSG_TRUNC}, {10, socket.MSG_TRUNC, 30, socket.MSG_TRUNC}, {30, 0, 30, 0}} {
			msg := socket.Msg{Buffers: [][]byte{buf[:c.room]}}
			if n, err := f.Recvmsg(&msg, socket.MSG_PEEK|c.flags); n != c.n || msg.Flags != c.got || err != nil {
				t.Errorf("message of %d bytes, flags %#x, %v; want %+v", n, msg.Flags, err, c)
			}
		}
		n, m, err := f.RecvPacket(buf[:10], socket.MSG_TRUNC)
		if n != 30 || m.Size != 47 || err != nil {
			t.Errorf("%d bytes of %d, %v", n, m.Size, err)
		}
		synctest.Wait()
		if n, err := f.Ioctl(socket.SIOCINQ); n != 30 || err != nil {
			t.Errorf("the next has %d bytes, %v", n, err) // the ICMP error
		}
	})
}

// TestPacketCooked sends a packet from one host to the other without a header.
func TestPacketCooked(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		const proto = 0x88b5 // for experiments
		out, in := sock(t, p.a, socket.AF_PACKET, socket.SOCK_DGRAM, 0), sock(t, p.b, socket.AF_PACKET, socket.SOCK_DGRAM, int(socket.Htons(proto)))
		to := socket.PacketAddr{Protocol: socket.Htons(proto), Index: p.ia.Index(), Addr: p.ib.MAC()}
		n, err := out.SendPacket([]byte("hello"), 0, to)
		if n != 5 || err != nil {
			t.Fatalf("sent %d, %v", n, err)
		}
		buf := make([]byte, 99)
		n, m, err := in.RecvPacket(buf, 0)
		want := socket.PacketAddr{Protocol: to.Protocol, Index: p.ib.Index(), HwType: socket.ARPHRD_ETHER, PktType: socket.PACKET_HOST, Addr: p.ia.MAC()}
		if string(buf[:n]) != "hello" || m.From != want || err != nil {
			t.Errorf("%q, %+v, %v", buf[:n], m.From, err)
		}
		_, err = out.Send([]byte("hello"), 0)
		wantErr(t, "unbound", err, syscall.ENXIO)
		must(t, out.BindPacket(socket.PacketAddr{Index: p.ia.Index()}))
		_, err = out.Send([]byte("hello"), 0)
		wantErr(t, "to nobody", err, syscall.EINVAL)
	})
}
