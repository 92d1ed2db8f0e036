package interop

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
)

// streamPeer is a program with the kernel's sockets: a server that returns what
// it gets, or a client of one, with an option set on its socket. It tells what it
// has of that at the end of the connection, and the size of its segments.
const streamPeer = `
import socket, sys
mode, family, host, port, level, opt, value = sys.argv[1:8]
s = socket.socket(int(family), socket.SOCK_STREAM)
if value: s.setsockopt(int(level), int(opt), bytes.fromhex(value))
if mode == "serve":
    s.bind((host, int(port)))
    s.listen(5)
    print("ready", flush=True)
    s, peer = s.accept()
    while True:
        data = s.recv(65536)
        if not data: break
        s.sendall(data)
else:
    import threading
    s.connect((host, int(port)))
    text, got = bytes(i*7 % 251 for i in range(100000)), b""
    threading.Thread(target=s.sendall, args=(text,)).start()
    while len(got) < len(text):
        data = s.recv(65536)
        if not data: break
        got += data
    print("same", got == text)
print("mss", s.getsockopt(6, 2))
print("has", s.getsockopt(int(level), int(opt), 300).hex())
`

// seen is what a packet socket of ours sees of the packets of TCP.
type seen struct {
	mu   sync.Mutex
	fd   *socket.FD
	list [][]byte // IP packets
}

func watchPackets(t *testing.T, h *host) *seen {
	t.Helper()
	fd, err := socket.Socket(h.stack, socket.AF_PACKET, socket.SOCK_RAW, int(socket.Htons(socket.ETH_P_ALL)))
	if err != nil {
		t.Fatal(err)
	}
	// Nearly all there is to see, though the reader may be kept from it.
	if err := fd.SetsockoptInt(socket.SOL_SOCKET, socket.SO_RCVBUFFORCE, 64<<20); err != nil {
		t.Fatal(err)
	}
	s := &seen{fd: fd}
	go func() {
		b := make([]byte, 1<<17)
		for {
			n, _, err := fd.RecvPacket(b, 0)
			if err != nil {
				return
			}
			if typ := ether.Type(b[12])<<8 | ether.Type(b[13]); typ != ether.TypeIPv4 && typ != ether.TypeIPv6 {
				continue
			}
			s.mu.Lock()
			s.list = append(s.list, append([]byte(nil), b[14:n]...))
			s.mu.Unlock()
		}
	}()
	t.Cleanup(func() { fd.Close() })
	return s
}

// check looks at each packet of TCP from an address about a port: whether it has what it is to
// have below TCP, and whether it fits a frame. It returns how many there were.
func (s *seen) check(t *testing.T, from netip.Addr, port int, whole bool, has func(below []byte, next uint8) bool) (n int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	bad := 0
	for _, p := range s.list {
		var below []byte
		next, fixed := uint8(0), ipv6.HeaderLen
		if p[0]>>4 == 4 {
			fixed = ipv4.HeaderLen
			h := ipv4.Header(p[:int(p[0]&15)*4])
			if h.Src() != from || h.Protocol() != ipv4.ProtoTCP {
				continue
			}
			if h.MF() || h.Offset() != 0 {
				t.Error("a fragment")
			}
			below = h.Options()
		} else {
			proto, at, _, ok := ipv6.Skip(p)
			if ipv6.Header(p).Src() != from || !ok || proto != ipv4.ProtoTCP {
				continue
			}
			below, next = p[ipv6.HeaderLen:at], ipv6.Header(p).NextHeader()
		}
		b := p[fixed+len(below):]
		if int(binary.BigEndian.Uint16(b)) != port && int(binary.BigEndian.Uint16(b[2:])) != port {
			continue // the end of another connection
		}
		n++
		if !has(below, next) || whole && len(p) > 1500 {
			if bad++; bad < 5 {
				t.Errorf("from %v: %d bytes with %x", from, len(p), below)
			}
		}
	}
	return n
}

// TestStreamHeaders: connections with record route, timestamps, hop-by-hop and
// destination options, to the kernel and from it. Every packet has them, all fit,
// none is a fragment, and both ends have segments of the same size.
func TestStreamHeaders(t *testing.T) {
	t.Parallel()
	program(t, "python3")
	l := newLab(t)
	h := newHost(t, l, hostOptions{parallel: true, nic: stack.InterfaceConfig{NoDAD: true}})
	packets := watchPackets(t, h)
	h.expect("who watches may be too slow to see them all", "packet.drop.receive-queue-full")
	route := append([]byte{7, 39, 4}, make([]byte, 36)...)
	times := append([]byte{68, 36, 5, 1}, make([]byte, 32)...)
	hop := socket.AppendOption(nil, 0x1e, []byte{1, 2, 3, 4}, 4)
	dst := socket.AppendOption(nil, 0x3e, bytes.Repeat([]byte{5}, 100), 8)
	port := 4100
	for _, c := range []struct {
		name       string
		v6         bool
		level, opt int
		value      []byte
	}{
		{"record route", false, socket.IPPROTO_IP, socket.IP_OPTIONS, route}, {"timestamps", false, socket.IPPROTO_IP, socket.IP_OPTIONS, times},
		{"hop-by-hop", true, socket.IPPROTO_IPV6, socket.IPV6_HOPOPTS, hop}, {"destination", true, socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, dst},
	} {
		for _, theirs := range []bool{false, true} { // whose connection it is
			name := fmt.Sprint(c.name, ", from the kernel: ", theirs)
			port++
			family, host, own, kernel := socket.AF_INET, lab.Kernel4.Addr(), our4.Addr(), lab.Kernel4.Addr()
			if c.v6 {
				family, host, own, kernel = socket.AF_INET6, lab.Kernel6.Addr(), our6.Addr(), lab.Kernel6.Addr()
			}
			f, err := socket.Socket(h.stack, family, socket.SOCK_STREAM, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			mode, value, text := "serve", "", bytes.Repeat([]byte("0123456789abcdef"), 6250)
			if theirs {
				mode, host, value = "call", own, hex.EncodeToString(c.value)
			}
			if c.v6 || !theirs { // of IPv6 a listener hands it down
				if err := f.Setsockopt(c.level, c.opt, c.value); err != nil {
					t.Fatal(err)
				}
			}
			ctx := within(t, 3*patience)
			if theirs {
				if err := f.Bind(netip.AddrPortFrom(own, uint16(port))); err != nil {
					t.Fatal(err)
				}
				if err := f.Listen(5); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.CommandContext(ctx, "python3", "-c", streamPeer, mode, strconv.Itoa(family), host.String(), strconv.Itoa(port),
				strconv.Itoa(c.level), strconv.Itoa(c.opt), value)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			var told bytes.Buffer
			cmd.Stderr = &told
			inLab(t, l, cmd.Start)
			conn := f
			if theirs {
				if conn, _, err = f.Accept(ctx); err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
			} else {
				io.ReadFull(out, make([]byte, len("ready\n")))
				if err := conn.Connect(ctx, netip.AddrPortFrom(host, uint16(port))); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
			got := pump(t, ctx, conn, text, theirs)
			size, err := conn.GetsockoptInt(socket.SOL_TCP, socket.TCP_MAXSEG)
			if err != nil {
				t.Error(err)
			}
			if !theirs {
				conn.Shutdown(socket.SHUT_WR)
			}
			lines, _ := io.ReadAll(out)
			if err := cmd.Wait(); err != nil {
				t.Fatalf("%s: %v\n%s%s", name, err, lines, told.String())
			}
			if !theirs && !bytes.Equal(got, text) || theirs && !strings.Contains(string(lines), "same True") {
				t.Errorf("%s: what came back is not what was sent", name)
			}
			want := size
			if c.v6 && !theirs {
				want += len(c.value) // the kernel sends without
			}
			if !strings.Contains(string(lines), fmt.Sprintf("mss %d\n", want)) {
				t.Errorf("%s: segments of %d bytes, of the kernel:\n%s", name, size, lines)
			}
			if plain := 1460 - 12; !c.v6 && size != plain-(len(c.value)+3)&^3 || c.v6 && size != plain-20-len(c.value) {
				t.Errorf("%s: segments of %d bytes", name, size)
			}
			// What was recorded: this host, the peer, and from there on nobody new.
			ours := func(below []byte, next uint8) bool {
				if c.v6 {
					return next == map[int]uint8{socket.IPV6_HOPOPTS: ipv6.ProtoHopByHop, socket.IPV6_DSTOPTS: ipv6.ProtoDestOpts}[c.opt] &&
						bytes.Equal(below[1:], c.value[1:])
				}
				return len(below) == (len(c.value)+3)&^3 && below[0] == c.value[0] && below[2] > c.value[2] && bytes.Contains(below, own.AsSlice())
			}
			kernels := func(below []byte, next uint8) bool {
				if c.v6 && !theirs {
					return len(below) == 0
				}
				return c.v6 && ours(below, next) || !c.v6 && below[0] == c.value[0] && bytes.Contains(below, kernel.AsSlice())
			}
			eventually(t, 3*patience, "the packets are seen", func() bool {
				return packets.check(t, own, port, true, ours) >= 50 && packets.check(t, kernel, port, false, kernels) > 0
			})
			conn.Close()
			f.Close()
		}
	}
	if n := h.count("ipv4.fragments") + h.count("ipv4.fragments-out") + h.count("ipv6.fragments") + h.count("ipv6.fragments-out"); n != 0 {
		t.Errorf("%d fragments", n)
	}
}

// pump sends text and returns what comes back, or, back, returns all that comes.
func pump(t *testing.T, ctx context.Context, f *socket.FD, text []byte, back bool) (got []byte) {
	t.Helper()
	b := make([]byte, 65536)
	if !back {
		go f.Send(text, 0)
	}
	for len(got) < len(text) {
		n, err := f.Recv(b, 0)
		if err != nil || n == 0 || ctx.Err() != nil {
			t.Errorf("after %d bytes: %v", len(got), err)
			return got
		}
		got = append(got, b[:n]...)
		if back {
			if _, err := f.Send(b[:n], 0); err != nil {
				t.Error(err)
				return got
			}
		}
	}
	return got
}

// TestRoutingHeader: datagrams and connections go by way of one address of the
// kernel, whose segment routing is turned on, to another one.
func TestRoutingHeader(t *testing.T) {
	t.Parallel()
	program(t, "python3")
	l := newLab(t)
	h := newHost(t, l, hostOptions{parallel: true, nic: stack.InterfaceConfig{NoDAD: true}})
	far := netip.MustParseAddr("2001:db8:77::7")
	sysctl(t, l, "ipv6/conf/all/seg6_enabled", "1")
	sysctl(t, l, "ipv6/conf/"+lab.Bridge+"/seg6_enabled", "1")
	run(t, within(t, patience), l, "ip", "-6", "addr", "add", far.String()+"/128", "dev", lab.Bridge, "nodad")
	run(t, within(t, patience), l, "ip", "-6", "route", "replace", "local", far.String(), "dev", "lo")
	ctx := within(t, 3*patience)
	cmd := exec.CommandContext(ctx, "python3", "-c", streamPeer, "serve", "10", far.String(), "4200", "41", "54", "")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	inLab(t, l, cmd.Start)
	io.ReadFull(out, make([]byte, len("ready\n")))
	via := lab.Kernel6.Addr().As16()
	srh := append(append([]byte{0, 4, 4, 1, 1, 0, 0, 0}, make([]byte, 16)...), via[:]...)
	// There is no route to it but by way of the other address.
	f, err := socket.Socket(h.stack, socket.AF_INET6, socket.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RTHDR, srh); err != nil {
		t.Fatal(err)
	}
	if err := f.Connect(ctx, netip.AddrPortFrom(far, 4200)); err != nil {
		t.Fatal(err)
	}
	text := bytes.Repeat([]byte("0123456789abcdef"), 6250)
	if got := pump(t, ctx, f, text, false); !bytes.Equal(got, text) {
		t.Error("what came back is not what was sent")
	}
	f.Shutdown(socket.SHUT_WR)
	io.ReadAll(out)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	u, err := socket.Socket(h.stack, socket.AF_INET6, socket.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	for opt, b := range map[int][]byte{socket.IPV6_RTHDR: srh, socket.IPV6_RTHDRDSTOPTS: socket.AppendOption(nil, 0x1e, []byte{1, 2, 3, 4}, 4),
		socket.IPV6_DSTOPTS: socket.AppendOption(nil, 0x1f, []byte{1}, 1)} {
		if err := u.Setsockopt(socket.IPPROTO_IPV6, opt, b); err != nil {
			t.Fatal(err)
		}
	}
	k, err := l.ListenPacketKernel("udp", netip.AddrPortFrom(far, 4201).String())
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	k.SetReadDeadline(time.Now().Add(3 * patience))
	for _, size := range []int{1, 3000} { // whole and as fragments
		if _, err := u.SendTo(text[:size], 0, netip.AddrPortFrom(far, 4201)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 9000)
		n, _, err := k.ReadFrom(b)
		if err != nil || !bytes.Equal(b[:n], text[:size]) {
			t.Errorf("%d bytes: %d came, %v", size, n, err)
		}
	}
}
