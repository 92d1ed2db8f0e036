package socket_test

import (
	"encoding/binary"
	"math"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/bpf"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/socket"
)

// tcpPort80 is what `tcpdump -dd tcp port 80` prints for an Ethernet.
var tcpPort80 = []bpf.RawInstruction{
	{Op: 0x28, K: 0xc}, {Op: 0x15, Jt: 0, Jf: 6, K: 0x86dd}, {Op: 0x30, K: 0x14}, {Op: 0x15, Jt: 0, Jf: 15, K: 6},
	{Op: 0x28, K: 0x36}, {Op: 0x15, Jt: 12, K: 80}, {Op: 0x28, K: 0x38}, {Op: 0x15, Jt: 10, Jf: 11, K: 80},
	{Op: 0x15, Jt: 0, Jf: 10, K: 0x800}, {Op: 0x30, K: 0x17}, {Op: 0x15, Jt: 0, Jf: 8, K: 6}, {Op: 0x28, K: 0x14},
	{Op: 0x45, Jt: 6, K: 0x1fff}, {Op: 0xb1, K: 0xe}, {Op: 0x48, K: 0xe}, {Op: 0x15, Jt: 2, K: 80},
	{Op: 0x48, K: 0x10}, {Op: 0x15, Jt: 0, Jf: 1, K: 80}, {Op: 6, K: 0x40000}, {Op: 6, K: 0},
}

// accept keeps n bytes of everything.
func accept(n uint32) []bpf.RawInstruction { return []bpf.RawInstruction{{Op: 6, K: n}} }

// with puts an instruction into a program that is right otherwise.
func with(i bpf.RawInstruction) []bpf.RawInstruction {
	return []bpf.RawInstruction{{Op: 0x02, K: 1}, i, {Op: 6, K: 1}, {Op: 6}}
}

func TestFilterCheck(t *testing.T) {
	s := lone(t)
	long := slices.Repeat([]bpf.RawInstruction{{Op: 0}}, 4096)
	long[4095] = bpf.RawInstruction{Op: 6}
	for _, c := range []struct {
		name    string
		program []bpf.RawInstruction
		want    error
	}{
		{"tcp port 80", tcpPort80, nil},
		{"none", nil, syscall.EINVAL},
		{"the longest", long, nil},
		{"too long", append(long, bpf.RawInstruction{Op: 6}), syscall.EINVAL},
		{"no return", []bpf.RawInstruction{{Op: 0}}, syscall.EINVAL},
		{"jump out", []bpf.RawInstruction{{Op: 5, K: 1}, {Op: 6}}, syscall.EINVAL},
		{"far jump", []bpf.RawInstruction{{Op: 5, K: math.MaxUint32}, {Op: 6}}, syscall.EINVAL},
		{"conditional jump out", []bpf.RawInstruction{{Op: 0x15, Jf: 1}, {Op: 6}}, syscall.EINVAL},
		{"divide by 0", with(bpf.RawInstruction{Op: 0x34}), syscall.EINVAL},
		{"remainder of 0", with(bpf.RawInstruction{Op: 0x94}), syscall.EINVAL},
		{"shift 31", with(bpf.RawInstruction{Op: 0x64, K: 31}), nil},
		{"shift 32", with(bpf.RawInstruction{Op: 0x64, K: 32}), syscall.EINVAL},
		{"cell 15", with(bpf.RawInstruction{Op: 2, K: 15}), nil},
		{"cell 16", with(bpf.RawInstruction{Op: 2, K: 16}), syscall.EINVAL},
		{"load of what was stored", with(bpf.RawInstruction{Op: 0x60, K: 1}), nil},
		{"load of what was not", with(bpf.RawInstruction{Op: 0x60, K: 2}), syscall.EINVAL},
		{"stored on one way only", []bpf.RawInstruction{{Op: 0x15, Jt: 1, K: 1}, {Op: 2, K: 1}, {Op: 0x60, K: 1}, {Op: 6}}, syscall.EINVAL},
		{"stored on both", []bpf.RawInstruction{{Op: 0x15, Jt: 2, K: 1}, {Op: 2, K: 1}, {Op: 5, K: 1}, {Op: 3, K: 1}, {Op: 0x60, K: 1}, {Op: 6}}, nil},
		{"EtherType of the kernel's", with(bpf.RawInstruction{Op: 0x28, K: 0xfffff000}), syscall.EINVAL},
		{"negative offset from X", with(bpf.RawInstruction{Op: 0x48, K: 0xfffffffe}), syscall.EINVAL},
		{"negation", with(bpf.RawInstruction{Op: 0x84}), nil},
		{"code that does not exist", with(bpf.RawInstruction{Op: 0x8c}), syscall.EINVAL},
	} {
		f := udp4(t, s)
		wantErr(t, c.name, f.AttachFilter(c.program), c.want)
	}
	f := udp4(t, s)
	wantErr(t, "half an instruction", f.AttachFilterBytes(make([]byte, 12)), syscall.EINVAL)
	raw := make([]byte, 8)
	binary.NativeEndian.PutUint16(raw, 6)
	binary.NativeEndian.PutUint32(raw[4:], 9)
	must(t, f.AttachFilterBytes(raw))
	if p, err := f.Filter(); err != nil || len(p) != 1 || p[0] != accept(9)[0] {
		t.Errorf("attached %v, %v", p, err)
	}
	must(t, f.SetsockoptInt(socket.SOL_SOCKET, socket.SO_DETACH_FILTER, 0))
	wantErr(t, "again", f.DetachFilter(), syscall.ENOENT)
	must(t, f.AttachFilter(accept(1)))
	must(t, f.LockFilter())
	wantErr(t, "locked, detach", f.DetachFilter(), syscall.EPERM)
	wantErr(t, "locked, attach", f.AttachFilter(accept(1)), syscall.EPERM)
	wantErr(t, "locked, unlock", f.SetsockoptInt(socket.SOL_SOCKET, socket.SO_LOCK_FILTER, 0), syscall.EPERM)
	if v, err := f.GetsockoptInt(socket.SOL_SOCKET, socket.SO_LOCK_FILTER); v != 1 || err != nil {
		t.Errorf("locked: %d, %v", v, err)
	}
}

func TestFilterUDP(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		in, out := udp4(t, p.b), udp4(t, p.a)
		must(t, in.Bind(ap("10.77.0.2:9")))
		// The length of the datagram, and no more than 12 bytes of those that
		// begin with x: header and four.
		must(t, in.AttachFilter([]bpf.RawInstruction{{Op: 0x30, K: 8}, {Op: 0x15, Jf: 1, K: 'x'}, {Op: 6, K: 12}, {Op: 6, K: 0}}))
		for _, data := range []string{"yes and no", "xylophone", "", "xy"} {
			_, err := out.SendTo([]byte(data), 0, ap("10.77.0.2:9"))
			must(t, err)
		}
		synctest.Wait()
		buf := make([]byte, 99)
		for _, want := range []string{"xylo", "xy"} {
			if n, _, err := in.RecvFrom(buf, 0); string(buf[:n]) != want || err != nil {
				t.Errorf("%q, %v; want %q", buf[:n], err, want)
			}
		}
		if _, _, err := in.RecvFrom(buf, socket.MSG_DONTWAIT); err != syscall.EAGAIN {
			t.Errorf("more: %v", err)
		}
		if n := p.b.Counters()["udp.drop.filtered"]; n != 2 {
			t.Errorf("%d filtered", n)
		}
		must(t, in.AttachFilter(accept(1))) // the header stays
		out.SendTo([]byte("gone"), 0, ap("10.77.0.2:9"))
		if n, from, err := in.RecvFrom(buf, 0); n != 0 || !from.IsValid() || err != nil {
			t.Errorf("%d bytes from %v, %v", n, from, err)
		}
	})
}

// TestFilterSegments: datagrams that came as one are asked about one by one.
func TestFilterSegments(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{GSO: true})
		in, out := udp4(t, p.b), udp4(t, p.a)
		must(t, in.Bind(ap("10.77.0.2:9")))
		must(t, in.AttachFilter([]bpf.RawInstruction{{Op: 0x30, K: 8}, {Op: 0x15, Jf: 1, K: 'b'}, {Op: 6, K: 0}, {Op: 6, K: 99}}))
		_, err := out.SendSegments([]byte("aaaabbbbaaaab"), 4, 0, ap("10.77.0.2:9"))
		must(t, err)
		buf := make([]byte, 99)
		for range 2 {
			if n, _, err := in.RecvFrom(buf, 0); string(buf[:n]) != "aaaa" || err != nil {
				t.Errorf("%q, %v", buf[:n], err)
			}
		}
		if n := p.b.Counters()["udp.drop.filtered"]; n != 2 {
			t.Errorf("%d filtered", n)
		}
	})
}

// TestFilterSegmentsTold: what control messages tell of datagrams that came as
// one, and went through a filter one by one, is what came with them.
func TestFilterSegmentsTold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{GSO: true})
		in, out := sock(t, p.b, socket.AF_INET6, socket.SOCK_DGRAM, 0), sock(t, p.a, socket.AF_INET6, socket.SOCK_DGRAM, 0)
		must(t, in.Bind(ap("[::]:9")))
		must(t, in.AttachFilter(accept(99)))
		must(t, in.SetsockoptInt(socket.IPPROTO_IPV6, socket.IPV6_FLOWINFO, 1))
		must(t, in.SetsockoptInt(socket.SOL_SOCKET, socket.SO_TIMESTAMPNS, 1))
		must(t, out.SetsockoptInt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, 8))
		_, err := out.SendSegments([]byte("aaaabbbb"), 4, 0, ap("[fd77::2]:9"))
		must(t, err)
		time.Sleep(time.Second)
		sent := time.Now()
		time.Sleep(time.Hour)
		for range 2 {
			m := socket.Msg{Buffers: [][]byte{make([]byte, 9)}, Control: make([]byte, 100)}
			n, err := in.Recvmsg(&m, 0)
			info, bad := socket.ParseControl(m.Control[:m.ControlLen])
			if n != 4 || err != nil || bad != nil || info.FlowInfo>>20 != 8 || info.Time.After(sent) {
				t.Errorf("%d bytes, %v; %+v, %v", n, err, info, bad)
			}
		}
	})
}

// TestFilterTCP: a listener's filter keeps SYNs out, its connections inherit it,
// and text that a filter shortens comes again when it is gone.
func TestFilterTCP(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		l := listen(t, p.b, "0.0.0.0:7", 8)
		// The low byte of the source port has to be 80.
		must(t, l.AttachFilter([]bpf.RawInstruction{{Op: 0x30, K: 1}, {Op: 0x15, Jf: 1, K: 80}, {Op: 6, K: 0xffff}, {Op: 6, K: 0}}))
		must(t, l.LockFilter())
		bad, good := tcp4(t, p.a), tcp4(t, p.a)
		must(t, bad.Bind(ap("10.77.0.1:20481")))
		must(t, good.Bind(ap("10.77.0.1:20560")))
		must(t, bad.SetNonblock(true))
		wantErr(t, "connect", bad.Connect(bg, ap("10.77.0.2:7")), syscall.EINPROGRESS)
		must(t, good.Connect(bg, ap("10.77.0.2:7")))
		server, _, err := l.Accept(bg)
		must(t, err)
		defer server.Close()
		if n := p.b.Counters()["tcp.drop.filtered"]; n == 0 {
			t.Error("no SYN was filtered")
		}
		if prog, _ := server.Filter(); len(prog) != 4 {
			t.Errorf("inherited %v", prog)
		}
		wantErr(t, "the lock as well", server.DetachFilter(), syscall.EPERM)

		// A header of 32 bytes and five of text.
		must(t, good.AttachFilter(accept(37)))
		_, err = server.Send([]byte("hello, world"), 0)
		must(t, err)
		buf := make([]byte, 99)
		if n, err := good.Recv(buf, 0); string(buf[:n]) != "hello" || err != nil {
			t.Errorf("%q, %v", buf[:n], err)
		}
		must(t, good.DetachFilter())
		if n, err := good.Recv(buf[:7], socket.MSG_WAITALL); err != nil || string(buf[:n]) != ", world" {
			t.Errorf("%q, %v", buf[:n], err)
		}
	})
}

// FuzzFilter: what the check lets through runs on any packet, and says what
// the same program in the machine's own form says.
func FuzzFilter(f *testing.F) {
	f.Add(programBytes(tcpPort80), make([]byte, 60))
	f.Add(programBytes(accept(5)), []byte{})
	f.Add(programBytes(with(bpf.RawInstruction{Op: 0x84})), []byte{1})
	f.Add(programBytes(with(bpf.RawInstruction{Op: 0xb1, K: 3})), []byte{1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, program, packet []byte) {
		n, err := socket.RunFilter(program, packet)
		if err != nil {
			return
		}
		if n < 0 {
			t.Fatalf("keeps %d bytes", n)
		}
		again, _ := socket.RunFilter(program, packet)
		if again != n {
			t.Fatalf("%d bytes, then %d", n, again)
		}
	})
}

func programBytes(p []bpf.RawInstruction) (b []byte) {
	for _, i := range p {
		b = binary.NativeEndian.AppendUint16(b, i.Op)
		b = append(b, i.Jt, i.Jf)
		b = binary.NativeEndian.AppendUint32(b, i.K)
	}
	return b
}
