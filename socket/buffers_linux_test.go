package socket_test

import (
	"fmt"
	"testing"

	"github.com/tapstack/tapstack/socket"
)

// TestBuffersLikeKernel sets the sizes of the buffers in every state and reads
// them again: doubled, and with Linux's least.
func TestBuffersLikeKernel(t *testing.T) {
	watch(t)
	if !kernelHasIPv6() {
		t.Skip("the kernel has no IPv6 loopback to compare with")
	}
	for _, domain := range []int{socket.AF_INET, socket.AF_INET6} {
		for _, typ := range []struct {
			typ    int
			states []state
		}{{socket.SOCK_STREAM, streamStates}, {socket.SOCK_DGRAM, datagramStates}} {
			for _, state := range typ.states {
				d := compare(t, domain, typ.typ, func(x *scene) {
					state.make(x)
					x.log = nil
					for _, opt := range []int{socket.SO_RCVBUF, socket.SO_SNDBUF} {
						for _, n := range []int{0, 1, 1151, 1153, 2303, 2305, 5000, 100_000, 200_000, 3000} {
							x.note(fmt.Sprint(opt, " to ", n), x.s.setInt(socket.SOL_SOCKET, opt, n))
							v, err := x.s.getInt(socket.SOL_SOCKET, opt)
							x.note("get", v, err)
						}
					}
				})
				if d != "" {
					t.Errorf("domain %d, type %d, %s:%s", domain, typ.typ, state.name, d)
				}
			}
		}
	}
}
