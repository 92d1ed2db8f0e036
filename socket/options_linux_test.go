package socket_test

// This file compares the options, the ioctls and the flags of send and recv
// with the kernel's, in the manner of TestLikeKernel.

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
)

// compare runs f on both systems and returns how they differ.
func compare(t *testing.T, domain, typ int, f func(x *scene)) string {
	kernel := &kernelSystem{}
	x := newScene(t, kernel, domain, typ)
	f(x)
	kernel.end()
	var y *scene
	synctest.Test(t, func(t *testing.T) {
		s := stack.New(stack.Config{})
		t.Cleanup(func() { s.Close() })
		y = newScene(t, stackSystem{t, s}, domain, typ)
		y.ports = x.ports
		f(y)
	})
	return diff(x.log, y.log)
}

// intOption is an option, and the values to set it to one after the other.
type intOption struct {
	name       string
	level, opt int
	values     []int
	// hidden: what is read depends on the system's buffers and interfaces,
	// and is not compared; what is set is.
	hidden bool
}

var intOptions = []intOption{
	{"SO_TYPE", socket.SOL_SOCKET, socket.SO_TYPE, []int{1}, false},
	{"SO_DOMAIN", socket.SOL_SOCKET, socket.SO_DOMAIN, []int{1}, false},
	{"SO_PROTOCOL", socket.SOL_SOCKET, socket.SO_PROTOCOL, []int{1}, false},
	{"SO_ACCEPTCONN", socket.SOL_SOCKET, socket.SO_ACCEPTCONN, []int{1}, false},
	{"SO_ERROR", socket.SOL_SOCKET, socket.SO_ERROR, []int{1}, false},
	{"SO_BROADCAST", socket.SOL_SOCKET, socket.SO_BROADCAST, []int{1, 0, 7}, false},
	{"SO_KEEPALIVE", socket.SOL_SOCKET, socket.SO_KEEPALIVE, []int{1, 0, -1}, false},
	{"SO_OOBINLINE", socket.SOL_SOCKET, socket.SO_OOBINLINE, []int{1, 0, 9}, false},
	{"SO_RCVLOWAT", socket.SOL_SOCKET, socket.SO_RCVLOWAT, []int{5, 0, 1000, 1}, false},
	{"TCP_NODELAY", socket.SOL_TCP, socket.TCP_NODELAY, []int{1, 0, 2, -1}, false},
	{"TCP_CORK", socket.SOL_TCP, socket.TCP_CORK, []int{1, 0, 2}, false},
	{"TCP_MAXSEG", socket.SOL_TCP, socket.TCP_MAXSEG, []int{88, 1000, 32767, 87, 32768, -1, 0}, true},
	{"TCP_KEEPIDLE", socket.SOL_TCP, socket.TCP_KEEPIDLE, []int{1, 100, 32767, 0, 32768, -1}, false},
	{"TCP_KEEPINTVL", socket.SOL_TCP, socket.TCP_KEEPINTVL, []int{1, 100, 32767, 0, 32768, -1}, false},
	{"TCP_KEEPCNT", socket.SOL_TCP, socket.TCP_KEEPCNT, []int{1, 127, 0, 128, -1}, false},
	{"TCP_SYNCNT", socket.SOL_TCP, socket.TCP_SYNCNT, []int{1, 127, 0, 128, -1}, false},
	{"TCP_LINGER2", socket.SOL_TCP, socket.TCP_LINGER2, []int{1, 60, 120, 121, 1 << 30, -1, -9, 0}, false},
	{"TCP_DEFER_ACCEPT", socket.SOL_TCP, socket.TCP_DEFER_ACCEPT, []int{1, 2, 3, 5, 10, 100, 1000, 1 << 30, -1, 0}, false},
	{"TCP_WINDOW_CLAMP", socket.SOL_TCP, socket.TCP_WINDOW_CLAMP, []int{1, 5000, 100000, -1, 0}, true},
	{"TCP_QUICKACK", socket.SOL_TCP, socket.TCP_QUICKACK, []int{0, 1, 0}, false},
	{"TCP_USER_TIMEOUT", socket.SOL_TCP, socket.TCP_USER_TIMEOUT, []int{1, 1 << 30, 1<<31 - 1, -1, 0}, false},
	{"TCP_NOTSENT_LOWAT", socket.SOL_TCP, socket.TCP_NOTSENT_LOWAT, []int{1, 1 << 30, -1, 0}, false},
	{"TCP_FASTOPEN", socket.SOL_TCP, socket.TCP_FASTOPEN, []int{5, -1, 100000, 1, 0}, false},
	{"TCP_FASTOPEN_CONNECT", socket.SOL_TCP, socket.TCP_FASTOPEN_CONNECT, []int{1, 2, -1, 0}, false},
	{"TCP_THIN_LINEAR_TIMEOUTS", socket.SOL_TCP, socket.TCP_THIN_LINEAR_TIMEOUTS, []int{1, 2, -1, 0}, false},
	{"TCP_INQ", socket.SOL_TCP, socket.TCP_INQ, []int{1, 2, -1, 0}, false},
	{"IP_TOS", socket.IPPROTO_IP, socket.IP_TOS, []int{4, 0xff, 0x100, 0x1b8, -1, 0}, false},
	{"IP_TTL", socket.IPPROTO_IP, socket.IP_TTL, []int{1, 255, 0, 256, -2, -1}, false},
	{"IPV6_TCLASS", socket.IPPROTO_IPV6, socket.IPV6_TCLASS, []int{4, 0xff, 0x100, -2, -1, 0}, false},
	{"IPV6_UNICAST_HOPS", socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, []int{1, 255, 256, -2, -1}, false},
	{"IPV6_V6ONLY", socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, nil, false},
	{"unknown of SOL_SOCKET", socket.SOL_SOCKET, 9999, []int{1}, false},
	{"unknown of SOL_TCP", socket.SOL_TCP, 9999, []int{1}, false},
	{"unknown level", 9999, 1, []int{1}, true},
}

// TestOptionsLikeKernel sets and reads every option in every state.
func TestOptionsLikeKernel(t *testing.T) {
	watch(t)
	if !kernelHasIPv6() {
		t.Skip("the kernel has no IPv6 loopback to compare with")
	}
	cases := 0
	for _, family := range []struct {
		name   string
		domain int
	}{{"v4", socket.AF_INET}, {"v6", socket.AF_INET6}} {
		for _, typ := range []struct {
			name   string
			typ    int
			states []state
		}{{"stream", socket.SOCK_STREAM, streamStates}, {"dgram", socket.SOCK_DGRAM, datagramStates}} {
			for _, state := range typ.states {
				d := compare(t, family.domain, typ.typ, func(x *scene) {
					state.make(x)
					x.log = nil // TestLikeKernel's business
					for _, o := range intOptions {
						cases++
						v, err := x.s.getInt(o.level, o.opt)
						if !o.hidden && o.opt != socket.TCP_QUICKACK || err != nil { // what that is now depends on the moment
							x.note(o.name, v, err)
						}
						for _, to := range o.values {
							x.note(fmt.Sprint(o.name, " to ", to), x.s.setInt(o.level, o.opt, to))
							v, err = x.s.getInt(o.level, o.opt)
							if !o.hidden || err != nil {
								x.note("get", v, err)
							}
						}
					}
				})
				if d != "" {
					t.Errorf("%s/%s/%s:%s", family.name, typ.name, state.name, d)
				}
			}
		}
	}
	t.Logf("%d cases", cases/2)
}

// TestUrgentLikeKernel sends and reads streams with urgent data in random
// ways, and compares what is seen.
func TestUrgentLikeKernel(t *testing.T) {
	watch(t)
	for seed := range uint64(300) {
		d := compare(t, socket.AF_INET, socket.SOCK_STREAM, func(x *scene) {
			rng := rand.New(rand.NewPCG(seed, 7))
			x.connectPair()
			x.note("no delay", x.peer.setInt(socket.SOL_TCP, socket.TCP_NODELAY, 1))
			sent := 0
			send := func(n, flags int) {
				b := make([]byte, n)
				for i := range b {
					b[i] = 'a' + byte((sent+i)%26)
				}
				sent += n
				x.send(fmt.Sprintf("send %d flags %x", n, flags), x.peer, string(b), flags, none)
				x.sys.settle()
			}
			for range 40 {
				switch rng.IntN(12) {
				case 0, 1:
					send(1+rng.IntN(5), 0)
				case 2:
					send(1, socket.MSG_OOB)
				case 3:
					send(1+rng.IntN(5), socket.MSG_OOB)
				case 4, 5:
					x.recv("recv", x.s, 1+rng.IntN(8), 0)
				case 6:
					x.recv("peek", x.s, 1+rng.IntN(8), socket.MSG_PEEK)
				case 7:
					x.recv("recv OOB", x.s, 1+rng.IntN(2), socket.MSG_OOB)
				case 8:
					x.recv("peek OOB", x.s, 1, socket.MSG_OOB|socket.MSG_PEEK)
				case 9:
					if rng.IntN(8) == 0 {
						x.note("inline", x.s.setInt(socket.SOL_SOCKET, socket.SO_OOBINLINE, rng.IntN(2)))
					}
				case 10:
					if rng.IntN(20) == 0 {
						x.note("shutdown", x.peer.shutdown(socket.SHUT_WR))
						x.sys.settle()
					}
				case 11:
					if rng.IntN(8) == 0 {
						x.note("rcvlowat", x.s.setInt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1+rng.IntN(4)))
					}
				}
				n, err := x.s.ioctl(socket.SIOCATMARK)
				x.note("at mark", n, err)
				n, err = x.s.ioctl(socket.SIOCINQ)
				x.note("queued", n, err)
				x.note("poll "+x.s.poll(), nil)
			}
		})
		if d != "" {
			t.Fatalf("seed %d:%s", seed, d)
		}
	}
}

// flagSteps are TestLikeKernel's steps for flags and ioctls.
var flagSteps = []step{
	{"recv MSG_PEEK", func(x *scene) {
		x.recv("peek", x.s, 4, socket.MSG_PEEK)
		x.recv("peek", x.s, 20, socket.MSG_PEEK)
		x.recv("recv", x.s, 20, 0)
		x.recv("peek", x.s, 4, socket.MSG_PEEK)
	}},
	{"recv MSG_WAITALL", func(x *scene) { x.recv("recv", x.s, 20, socket.MSG_WAITALL) }},
	{"recv MSG_OOB", func(x *scene) { x.recv("recv", x.s, 1, socket.MSG_OOB) }},
	{"send MSG_OOB", func(x *scene) {
		x.send("send", x.s, "abc", socket.MSG_OOB, none)
		x.sys.settle()
		if x.peer != nil && x.typ == socket.SOCK_STREAM {
			x.recv("peer receives", x.peer, 10, 0)
			x.recv("peer receives urgent", x.peer, 1, socket.MSG_OOB)
			x.recv("peer receives", x.peer, 10, 0)
		}
	}},
	{"send MSG_MORE", func(x *scene) {
		if x.typ == socket.SOCK_STREAM {
			x.send("send", x.s, "abc", socket.MSG_MORE, none)
			x.send("send", x.s, "def", 0, none)
			x.sys.settle()
			if x.peer != nil {
				x.recv("peer receives", x.peer, 10, 0)
			}
		}
	}},
	{"queues", func(x *scene) {
		x.s.drain()
		for _, q := range []struct {
			name    string
			request int
		}{{"SIOCINQ", socket.SIOCINQ}, {"SIOCOUTQ", socket.SIOCOUTQ}, {"SIOCOUTQNSD", socket.SIOCOUTQNSD}, {"SIOCATMARK", socket.SIOCATMARK}} {
			n, err := x.s.ioctl(q.request)
			x.note(q.name, n, err)
		}
	}},
	{"SO_ERROR", func(x *scene) {
		for range 2 {
			v, err := x.s.getInt(socket.SOL_SOCKET, socket.SO_ERROR)
			x.note("SO_ERROR", v, err)
		}
		x.recv("recv", x.s, 20, 0)
	}},
}

func init() { steps = append(steps, flagSteps...) }
