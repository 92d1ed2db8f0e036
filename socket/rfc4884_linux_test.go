package socket_test

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"github.com/tapstack/tapstack/socket"
)

// onesSum is the checksum of the Internet (RFC 1071), by another hand than ours.
func onesSum(b []byte) uint16 {
	var n uint32
	for i := 0; i < len(b); i += 2 {
		n += uint32(b[i]) << 8
		if i+1 < len(b) {
			n += uint32(b[i+1])
		}
	}
	for n>>16 != 0 {
		n = n&0xffff + n>>16
	}
	return ^uint16(n)
}

// extension is a structure of RFC 4884 with a label stack of MPLS.
func extension(sum bool, objects ...string) string {
	b := []byte{0x20, 0, 0, 0}
	for _, o := range objects {
		b = binary.BigEndian.AppendUint16(b, uint16(4+len(o)))
		b = append(b, 1, 1)
		b = append(b, o...)
	}
	if sum {
		binary.BigEndian.PutUint16(b[2:], onesSum(b))
	}
	return string(b)
}

// forge makes the message of a router about a datagram from one port to
// another: of type and code, with rest in its fifth to eighth byte, n bytes of
// the packet with padding, and what follows them.
func (x *scene) forge(typ, code byte, rest [4]byte, from, to uint16, payload, n int, after string) string {
	lo, q := x.lo.AsSlice(), []byte(nil)
	udp := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, from), to)
	udp = append(binary.BigEndian.AppendUint16(udp, uint16(8+payload)), 0, 0)
	udp = append(udp, strings.Repeat("x", payload)...)
	if x.domain == socket.AF_INET {
		q = make([]byte, 20)
		q[0], q[8], q[9] = 0x45, 64, 17
		binary.BigEndian.PutUint16(q[2:], uint16(20+len(udp)))
		copy(q[12:], lo)
		copy(q[16:], lo)
	} else {
		q = make([]byte, 40)
		q[0], q[6], q[7] = 0x60, 17, 64
		binary.BigEndian.PutUint16(q[4:], uint16(len(udp)))
		copy(q[8:], lo)
		copy(q[24:], lo)
	}
	q = append(q, udp...)
	q = append(q, make([]byte, max(n-len(q), 0))...)[:n]
	m := append([]byte{typ, code, 0, 0}, rest[:]...)
	m = append(append(m, q...), after...)
	if x.domain == socket.AF_INET {
		binary.BigEndian.PutUint16(m[2:], onesSum(m))
	}
	return string(m)
}

// TestExtensionsLikeKernel: what the queue of errors says of the extensions of
// RFC 4884, good and bad ones, with the option and without.
func TestExtensionsLikeKernel(t *testing.T) {
	watch(t)
	for _, domain := range []int{socket.AF_INET, socket.AF_INET6} {
		v6 := domain == socket.AF_INET6
		d := comparePrivately(t, domain, socket.SOCK_DGRAM, func(x *scene) {
			level, errs, where, proto := socket.IPPROTO_IP, socket.IP_RECVERR, socket.IP_RECVERR_RFC4884, 1
			types, unit := []byte{3, 11, 12}, byte(4)
			if v6 {
				level, errs, where, proto = socket.IPPROTO_IPV6, socket.IPV6_RECVERR, socket.IPV6_RECVERR_RFC4884, 58
				types, unit = []byte{1, 3, 2, 4}, 8
			}
			s, peer, router := x.socket(), x.socket(), x.raw(proto)
			from, to := netip.AddrPortFrom(x.lo, x.ports[0]), netip.AddrPortFrom(x.lo, x.ports[1])
			x.note("bind", s.bind(from), peer.bind(to), router.connect(x.host()))
			x.note("errors", s.setInt(level, errs, 1))
			for _, v := range []int{-1, 2, 1} {
				x.note("option", v, s.setInt(level, where, v))
				got, err := s.getInt(level, where)
				x.note("get", got, err)
			}
			label := "\x00\x01\x01\x40"
			for _, on := range []int{1, 0} {
				x.note("option", on, s.setInt(level, where, on))
				for _, typ := range types {
					for _, c := range []struct {
						name       string
						payload, n int
						declared   int // in bytes, 0: not
						after      string
					}{
						{"no extension", 20, 60, 0, ""},
						{"not declared", 20, 128, 0, extension(true, label)},
						{"padded", 20, 128, 128, extension(true, label)},
						{"cut", 300, 128, 128, extension(true, label)},
						{"longer", 300, 200, 200, extension(true, label, label)},
						{"empty", 20, 128, 128, extension(true)},
						{"without checksum", 20, 128, 128, extension(false, label)},
						{"bad checksum", 20, 128, 128, "\x20\x00\x12\x34" + extension(true, label)[4:]},
						{"version 1", 20, 128, 128, "\x10\x00\x12\x34\x00"},
						{"object too long", 20, 128, 128, "\x20\x00\x00\x00\x00\x09\x01\x01\x00\x00\x00\x00"},
						{"object too short", 20, 128, 128, "\x20\x00\x00\x00\x00\x03\x01\x01"},
						{"half an object", 20, 128, 128, "\x20\x00\x00\x00\x00\x04"},
						{"header cut off", 20, 128, 128, "\x20\x00\x00"},
						{"nothing after it", 20, 128, 128, ""},
						{"below 128", 20, 96, 96, extension(true, label)},
						{"beyond the end", 20, 128, 248, extension(true, label)},
					} {
						var rest [4]byte
						if v6 {
							rest[0] = byte(c.declared) / unit
						} else {
							rest[1] = byte(c.declared) / unit
						}
						if v6 && typ == 2 {
							rest = [4]byte{0, 0, 5, 0} // a MTU
						}
						code := byte(0)
						if !v6 && typ == 3 {
							code = 1
						}
						x.send("datagram", s, "x", 0, to)
						x.sys.settle()
						x.recv("arrives", peer, 10, 0)
						x.note(c.name, typ, c.n)
						x.send("message", router, x.forge(typ, code, rest, x.ports[0], x.ports[1], c.payload, c.n, c.after), 0, x.host())
						x.sys.settle()
						x.noteMsg("queue", s, []int{400}, 200, socket.MSG_ERRQUEUE)
						x.recv("pending", s, 10, 0)
						for range 3 {
							router.recv(make([]byte, 1000), 0)
						}
					}
				}
			}
		})
		if d != "" {
			t.Errorf("%d:%s", domain, d)
		}
	}
}
