package socket_test

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/socket"
)

// codes are those of classic BPF, and a few that do not exist.
var codes = []uint16{
	0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x0c, 0x14, 0x15, 0x16, 0x1c, 0x1d, 0x20, 0x24, 0x25, 0x28, 0x2c, 0x2d, 0x30, 0x34,
	0x35, 0x3c, 0x3d, 0x40, 0x44, 0x45, 0x48, 0x4c, 0x4d, 0x50, 0x54, 0x5c, 0x60, 0x61, 0x64, 0x6c, 0x74, 0x7c, 0x80, 0x81, 0x84, 0x87,
	0x94, 0x9c, 0xa4, 0xac, 0xb1, 0x08, 0x0d, 0x0e, 0x8c, 0x22, 0x68, 0xa0, 0xb4, 0x100,
}

// TestFilterCodes: a program of each code is taken, or not, as the kernel does;
// what it takes and we do not is what filter.go names.
func TestFilterCodes(t *testing.T) {
	k := newKernelFilter(t)
	for op := range uint16(0x120) {
		for _, c := range []uint32{0, 1, 15, 16, 31, 32, 0x7fffffff, 0x80000000, 0xffe00000, 0xfff00000, 0xfffff000, 0xfffff001, 0xffffffff} {
			p := with(bpf.RawInstruction{Op: op, K: c})
			kernel, ours := k.attach(p) == nil, attachable(p)
			beyond := op == 0x81 || (op == 0x40 || op == 0x48 || op == 0x50 || op == 0xb1) && c >= 1<<31 ||
				(op == 0x20 || op == 0x28 || op == 0x30) && c >= 0xffe00000
			if ours != kernel && !(kernel && beyond) {
				t.Errorf("code %#x, constant %#x: taken by the kernel %v, by us %v", op, c, kernel, ours)
			}
			if ours && beyond {
				t.Errorf("code %#x, constant %#x: taken, though it cannot be run", op, c)
			}
		}
	}
}

// TestFilterRandom gives random programs to the kernel and to us: both take them
// or neither does, and both decide the same about a datagram.
func TestFilterRandom(t *testing.T) {
	k := newKernelFilter(t)
	r := rand.New(rand.NewPCG(1, 2))
	taken, kept := 0, 0
	for range 20000 {
		p := make([]bpf.RawInstruction, 1+r.IntN(8))
		for i := range p {
			p[i] = bpf.RawInstruction{Op: codes[r.IntN(len(codes))], K: uint32(r.IntN(24))}
			if left := len(p) - i - 1; left > 1 && p[i].Op&7 == 5 {
				p[i].Jt, p[i].Jf, p[i].K = uint8(r.IntN(left)), uint8(r.IntN(left)), uint32(r.IntN(left))
			}
		}
		p[len(p)-1] = bpf.RawInstruction{Op: 0x06 + uint16(r.IntN(2))*0x10, K: uint32(r.IntN(40))}
		// What filter.go names: the length into X, and shifts by X.
		odd := false
		for _, i := range p {
			odd = odd || i.Op == 0x81 || i.Op == 0x6c || i.Op == 0x7c
		}
		if odd {
			continue
		}
		ours := attachable(p)
		if kernel := k.attach(p) == nil; kernel != ours {
			t.Fatalf("%v: taken by the kernel %v, by us %v", p, kernel, ours)
		}
		if !ours {
			continue
		}
		taken++
		payload := make([]byte, r.IntN(24))
		for i := range payload {
			payload[i] = byte(r.Uint32())
		}
		packet, want := k.send(t, payload)
		n, err := socket.RunFilter(programBytes(p), packet)
		got := -1
		if n > 0 {
			got, kept = min(len(payload), max(n-8, 0)), kept+1
		}
		if err != nil || got != want {
			t.Fatalf("%v on % x: the kernel keeps %d bytes, we %d, %v", p, packet, want, got, err)
		}
	}
	if taken < 1000 || kept < 300 {
		t.Errorf("only %d programs were taken, and %d packets kept", taken, kept)
	}
}

// TestFilterDifferences: where a program that both take decides otherwise here.
func TestFilterDifferences(t *testing.T) {
	k := newKernelFilter(t)
	for _, c := range []struct {
		name    string
		program []bpf.RawInstruction
		kernel  int // bytes of the payload
		ours    int // of the datagram
	}{
		{"a shift by 33", []bpf.RawInstruction{{Op: 0x00, K: 24}, {Op: 0x01, K: 33}, {Op: 0x7c}, {Op: 0x16}}, 4, 0},
		{"an offset of 2^32+8", []bpf.RawInstruction{{Op: 0x01, K: 0xffffffff}, {Op: 0x50, K: 9}, {Op: 0x16}}, 4, 0},
	} {
		must(t, k.attach(c.program))
		packet, kernel := k.send(t, []byte{12, 2, 3, 4, 5, 6, 7, 8})
		ours, err := socket.RunFilter(programBytes(c.program), packet)
		if kernel != c.kernel || ours != c.ours || err != nil {
			t.Errorf("%s: the kernel keeps %d, we %d, %v", c.name, kernel, ours, err)
		}
	}
}

func attachable(p []bpf.RawInstruction) bool {
	_, err := socket.RunFilter(programBytes(p), nil)
	return err == nil
}

// kernelFilter is a socket of the kernel with a filter, and one that sends to it.
type kernelFilter struct {
	in, out      int
	sport, dport uint16
}

func newKernelFilter(t *testing.T) *kernelFilter {
	t.Helper()
	k := new(kernelFilter)
	for _, x := range []struct {
		fd   *int
		port *uint16
	}{{&k.in, &k.dport}, {&k.out, &k.sport}} {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
		}
		must(t, err)
		t.Cleanup(func() { unix.Close(fd) })
		sa, err := unix.Getsockname(fd)
		must(t, err)
		*x.fd, *x.port = fd, uint16(sa.(*unix.SockaddrInet4).Port)
	}
	// Without a checksum the header is known.
	must(t, unix.SetsockoptInt(k.out, unix.SOL_SOCKET, unix.SO_NO_CHECK, 1))
	return k
}

func (k *kernelFilter) attach(p []bpf.RawInstruction) error {
	f := make([]unix.SockFilter, len(p))
	for i, x := range p {
		f[i] = unix.SockFilter{Code: x.Op, Jt: x.Jt, Jf: x.Jf, K: x.K}
	}
	return unix.SetsockoptSockFprog(k.in, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]})
}

// send returns the datagram that the filter saw and how much of its payload
// arrived, -1 for nothing.
func (k *kernelFilter) send(t *testing.T, payload []byte) (packet []byte, n int) {
	t.Helper()
	must(t, unix.Sendto(k.out, payload, 0, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: int(k.dport)}))
	for _, v := range []uint16{k.sport, k.dport, uint16(8 + len(payload)), 0} {
		packet = binary.BigEndian.AppendUint16(packet, v)
	}
	b := make([]byte, 100)
	n, _, err := unix.Recvfrom(k.in, b, unix.MSG_DONTWAIT)
	if err == unix.EAGAIN {
		n = -1
	} else {
		must(t, err)
	}
	return append(packet, payload...), n
}
