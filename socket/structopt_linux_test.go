package socket_test

// This file compares the options that are no int with the kernel's.

import (
	"encoding/binary"
	"fmt"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
)

func timeval(sec, usec int64) []byte {
	return binary.NativeEndian.AppendUint64(binary.NativeEndian.AppendUint64(nil, uint64(sec)), uint64(usec))
}

// structOptions are set to each value in turn, and read with room for so many
// bytes.
var structOptions = []struct {
	name       string
	level, opt int
	values     [][]byte
	room       []int
	hidden     bool // the value read is the system's own
}{
	{"SO_RCVTIMEO", socket.SOL_SOCKET, socket.SO_RCVTIMEO, [][]byte{timeval(3, 500_000), timeval(-1, 0), timeval(0, 1_000_000), timeval(0, -1), timeval(1<<62, 0), timeval(1, 0)[:15], timeval(0, 0)}, []int{16, 8, 0}, false},
	{"SO_SNDTIMEO", socket.SOL_SOCKET, socket.SO_SNDTIMEO, [][]byte{timeval(3, 500_000), timeval(-1, 0), timeval(0, 1_000_000), timeval(0, 0)}, []int{16, 20}, false},
	{"SO_RCVTIMEO_NEW", socket.SOL_SOCKET, socket.SO_RCVTIMEO_NEW, [][]byte{timeval(7, 40_000), timeval(0, 1_000_000), timeval(1, 0)[:8], timeval(0, 0)}, []int{16, 15}, false},
	{"SO_SNDTIMEO_NEW", socket.SOL_SOCKET, socket.SO_SNDTIMEO_NEW, [][]byte{timeval(7, 40_000), timeval(0, 0)}, []int{16}, false},
	{"SO_PEERNAME", socket.SOL_SOCKET, socket.SO_PEERNAME, [][]byte{make([]byte, 16)}, []int{0, 2, 100}, false},
	{"SO_COOKIE", socket.SOL_SOCKET, socket.SO_COOKIE, [][]byte{make([]byte, 8)}, []int{0, 4, 7, 8, 20}, true},
	{"TCP_INFO", socket.SOL_TCP, socket.TCP_INFO, [][]byte{make([]byte, 16)}, []int{0, 1, 100}, true},
	{"TCP_CONGESTION", socket.SOL_TCP, socket.TCP_CONGESTION, [][]byte{[]byte("reno"), []byte("cubic\x00rest"), []byte("none such"), {}, []byte("a name that is much too long")}, []int{16, 3, 0, 40}, false},
	{"TCP_FASTOPEN_KEY", socket.SOL_TCP, socket.TCP_FASTOPEN_KEY, [][]byte{make([]byte, 15), make([]byte, 17), {}}, nil, true},
}

// TestStructOptionsLikeKernel sets and reads them in every state.
func TestStructOptionsLikeKernel(t *testing.T) {
	watch(t)
	cases := 0
	for _, domain := range []int{socket.AF_INET, socket.AF_INET6} {
		for typ, states := range map[int][]state{socket.SOCK_STREAM: streamStates, socket.SOCK_DGRAM: datagramStates} {
			for _, state := range states {
				if d := comparePrivately(t, domain, typ, func(x *scene) {
					state.make(x)
					x.log = nil
					s := x.s.(messenger)
					for _, o := range structOptions {
						read := func() {
							for _, n := range o.room {
								cases++
								b := make([]byte, n)
								k, err := s.getRaw(o.level, o.opt, b)
								if o.hidden || o.opt == socket.SO_PEERNAME {
									clear(b) // numbers and ports differ
								}
								x.note(fmt.Sprint(o.name, " in ", n), k, err, fmt.Sprintf("%q", b))
							}
						}
						if o.opt != socket.TCP_CONGESTION { // whose default is the machine's
							read()
						}
						for i, v := range o.values {
							cases++
							x.note(fmt.Sprint(o.name, " value ", i), s.setRaw(o.level, o.opt, v))
							read()
						}
					}
				}); d != "" {
					t.Errorf("%d/%d/%s:%s", domain, typ, state.name, d)
				}
			}
		}
	}
	t.Logf("%d cases", cases/2)
}

// TestInqLikeKernel: TCP_INQ tells what is left after a read, and of the end.
func TestInqLikeKernel(t *testing.T) {
	watch(t)
	if d := comparePrivately(t, socket.AF_INET, socket.SOCK_STREAM, func(x *scene) {
		x.connectPair()
		x.note("on", x.s.setInt(socket.SOL_TCP, socket.TCP_INQ, 1))
		x.send("send", x.peer, "0123456789", 0, none)
		x.sys.settle()
		for _, n := range []int{3, 2} {
			x.noteMsg(fmt.Sprint("recv ", n), x.s, []int{n}, 64, 0)
		}
		x.noteMsg("peek", x.s, []int{4}, 64, socket.MSG_PEEK)
		x.noteMsg("no room to tell", x.s, []int{1}, 8, 0)
		x.note("shut", x.peer.shutdown(socket.SHUT_WR))
		x.sys.settle()
		x.noteMsg("the rest", x.s, []int{20}, 64, 0)
		x.noteMsg("the end", x.s, []int{20}, 64, 0)
		x.note("off", x.s.setInt(socket.SOL_TCP, socket.TCP_INQ, 0))
		x.noteMsg("the end", x.s, []int{20}, 64, 0)
	}); d != "" {
		t.Error(d)
	}
}

// TestDeviceName: SO_BINDTODEVICE by name, and cookies that are unique.
func TestDeviceName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stack.New(stack.Config{})
		defer s.Close()
		f, g := tcp4(t, s), udp4(t, s)
		b := make([]byte, 16)
		for _, x := range []*socket.FD{f, g} {
			if n, err := x.Getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b); n != 0 || err != nil {
				t.Errorf("unbound: %d, %v", n, err)
			}
			wantErr(t, "no such device", x.Setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, []byte("eth9\x00")), syscall.ENODEV)
			must(t, x.Setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, []byte("lo")))
			if n, err := x.Getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b); string(b[:n]) != "lo\x00" || err != nil {
				t.Errorf("bound: %q, %v", b[:n], err)
			}
			must(t, x.Setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, []byte{0}))
			if i, err := x.Device(); i != nil || err != nil {
				t.Errorf("%v, %v", i, err)
			}
		}
		var c, d, again [8]byte
		for x, to := range map[*[8]byte]*socket.FD{&c: f, &d: g, &again: f} {
			if n, err := to.Getsockopt(socket.SOL_SOCKET, socket.SO_COOKIE, x[:]); n != 8 || err != nil {
				t.Fatal(n, err)
			}
		}
		if c == d || c != again || c == [8]byte{} {
			t.Errorf("cookies %x, %x, %x", c, d, again)
		}
	})
}
