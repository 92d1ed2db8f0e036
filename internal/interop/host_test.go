// Package interop tries the stack against the Linux kernel and real programs:
// a TAP on a bridge in a private network namespace, the kernel's own host on
// the bridge, and ping, nc, dnsmasq and radvd there. It has tests only. This
// file holds what they share: a host on a lab, and the checks that it leaves
// nothing behind.
package interop

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/packet"
	"github.com/tapstack/tapstack/ether/tap"
	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/internal/service"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
)

// TestMain looks for leaks once more when the parallel tests are over, which
// cannot tell their own goroutines and buffers from each other's.
func TestMain(m *testing.M) {
	if os.Getenv(envSoak) != "" {
		attach.Main("", soakServer)
		return
	}
	if dev := os.Getenv(envFlood); dev != "" {
		if err := floodMain(dev); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	// Parallel tests here wait for the timers of protocols more than they work.
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	lab.Main(checked{m})
}

type checked struct{ m *testing.M }

func (c checked) Run() int {
	goroutines := runtime.NumGoroutine()
	status := c.m.Run()
	if status != 0 {
		return status
	}
	end := time.Now().Add(patience)
	for runtime.NumGoroutine() > goroutines || pkt.Live() != 0 {
		if time.Now().After(end) {
			fmt.Fprintf(os.Stderr, "at the end: %d goroutines of %d, %d buffers\n%s",
				runtime.NumGoroutine(), goroutines, pkt.Live(), stacks())
			return 1
		}
		time.Sleep(pause)
	}
	return 0
}

const (
	// patience is how long anything that takes microseconds may take on a
	// machine that does much else, or stands still for some seconds.
	patience = 30 * time.Second
	// endurance is the same for what takes seconds.
	endurance = 4 * time.Minute
	// pause is the time between two looks at a condition.
	pause = 2 * time.Millisecond
)

// The host that the stack is, by the lab's convention.
var (
	ourMAC = ether.Addr(lab.HostMAC(0))
	our4   = netip.MustParsePrefix("10.77.0.7/24")
	our6   = netip.MustParsePrefix("fd77::7/64")
)

// family is what differs between tests of the two families.
type family struct {
	name         string
	ours, kernel netip.Prefix
	// nobody is an address on the link that no host has, remote one that no
	// route leads to.
	nobody, remote netip.Addr
	ping           string // ping's flag
	overhead       int    // of IP and UDP header
	udp            int    // the largest UDP payload
}

var families = []family{
	{"IPv4", our4, lab.Kernel4, netip.MustParseAddr("10.77.0.99"), netip.MustParseAddr("192.0.2.1"), "-4", 28, 65507},
	{"IPv6", our6, lab.Kernel6, netip.MustParseAddr("fd77::99"), netip.MustParseAddr("2001:db8::1"), "-6", 48, 65527},
}

// eachFamily runs a subtest for each.
func eachFamily(t *testing.T, f func(t *testing.T, fam family)) {
	for _, fam := range families {
		t.Run(fam.name, func(t *testing.T) { f(t, fam) })
	}
}

func addr(a netip.Addr, port uint16) string { return netip.AddrPortFrom(a, port).String() }

// program skips the test where a program is missing. With TAPSTACK_REQUIRE_TAP=1
// it fails instead.
func program(t *testing.T, name string) string {
	t.Helper()
	return lab.RequireProgram(t, name)
}

// within is a context that ends with the test and after d.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until cond is true; what says what was waited for.
func eventually(t *testing.T, d time.Duration, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !cond(); time.Sleep(pause) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", d, what)
		}
	}
}

// persist repeats what waits for moments only, which may be too short on a busy
// machine, until f has done it: for as long as patience, and four times at least.
func persist(f func() bool) bool {
	for try, end := 0, time.Now().Add(patience); try < 4 || time.Now().Before(end); try++ {
		if f() {
			return true
		}
	}
	return false
}

// newLab makes a namespace with a bridge and one TAP.
func newLab(t *testing.T) *lab.Lab {
	t.Helper()
	lab.Require(t)
	return newLabOf(t, "tap")
}

// newLabOf makes one with a device of that kind.
func newLabOf(t *testing.T, device string) *lab.Lab {
	t.Helper()
	l, err := lab.NewWith(lab.Options{Device: device})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if !l.IPv6 {
		if os.Getenv(lab.EnvRequire) == "1" {
			t.Fatalf("%s (and %s=1)", l.Note, lab.EnvRequire)
		}
		t.Skip(l.Note)
	}
	return l
}

// inLab runs what concerns the kernel host, and fails the test with its error.
func inLab(t *testing.T, l *lab.Lab, f func() error) {
	t.Helper()
	var err error
	l.Do(func() { err = f() })
	if err != nil {
		t.Fatal(err)
	}
}

// run runs a program in the lab to its end and fails the test when it fails.
func run(t *testing.T, ctx context.Context, l *lab.Lab, argv ...string) string {
	t.Helper()
	program(t, argv[0])
	out, err := l.Output(ctx, argv[0], argv[1:]...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}

// host is a stack on a lab's TAP.
type host struct {
	t     *testing.T
	lab   *lab.Lab
	stack *stack.Stack
	nic   *stack.Interface
	net   *socket.Network
	set   *service.Set

	alone      bool // no other test runs: leaks are ours
	goroutines int
	live       int64
	drops
}

// hostOptions is what differs between hosts.
type hostOptions struct {
	// nic is completed with name, device and address.
	nic stack.InterfaceConfig
	// tcp configures connections.
	tcp stack.TCPConfig
	// device is which of the lab's.
	device int
	// bare leaves the host without addresses of its own choice.
	bare bool
	// offload says whether the TAP takes super-frames.
	offload tap.Offload
	// queues: of a TUN.
	queues int
	// packet: the device is a packet socket.
	packet bool
	// open, unless nil, opens the device instead.
	open func() (ether.Device, error)
	// wrap, unless nil, decorates the device.
	wrap func(ether.Device) ether.Device
	// services run echo, discard, daytime and chargen.
	services bool
	// limits, where they are not the default.
	limits stack.Limits
	// parallel: other tests run at the same time.
	parallel bool
}

// newHost starts a stack on the lab's TAP. It is closed, and checked for leaks
// and unexplained drops, with the test.
func newHost(t *testing.T, l *lab.Lab, o hostOptions) *host {
	t.Helper()
	h := &host{t: t, lab: l, alone: !o.parallel, goroutines: runtime.NumGoroutine(), live: pkt.Live()}
	h.explained = make(map[string]string)
	inLab(t, l, func() (err error) {
		if o.open != nil {
			o.nic.Device, err = o.open()
			return err
		}
		if o.packet {
			o.nic.Device, err = packet.Open(l.Devices[o.device])
			return err
		}
		// The kernel may still be closing it, for a host that was there before.
		for end := time.Now().Add(patience); ; time.Sleep(pause) {
			o.nic.Device, err = tap.Open(tap.Options{Name: l.Devices[o.device], Existing: true, Offload: o.offload})
			if !errors.Is(err, syscall.EBUSY) || time.Now().After(end) {
				return err
			}
		}
	})
	if o.wrap != nil {
		o.nic.Device = o.wrap(o.nic.Device)
	}
	h.stack = stack.New(stack.Config{TCP: o.tcp, Limits: o.limits})
	t.Cleanup(h.close)
	o.nic.Name, o.nic.MAC = l.Devices[o.device], ether.Addr(lab.HostMAC(o.device))
	var err error
	if h.nic, err = h.stack.AddInterface(o.nic); err != nil {
		o.nic.Device.Close()
		t.Fatal(err)
	}
	h.net = socket.Net(h.stack)
	if !o.bare {
		for _, p := range []netip.Prefix{our4, our6} {
			if err := h.nic.AddAddr(p); err != nil {
				t.Fatal(err)
			}
		}
		if err := h.nic.Ready(within(t, patience)); err != nil {
			t.Fatal(err)
		}
	}
	if o.services {
		if h.set, err = service.Start(h.net, service.Names()); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// close ends the host and complains about whatever it leaves.
func (h *host) close() {
	if h.set != nil {
		if err := h.set.Close(); err != nil {
			h.t.Error(err)
		}
	}
	if h.nic != nil {
		h.checkDrops(h.t)
	}
	if err := h.stack.Close(); err != nil {
		h.t.Error(err)
	}
	if !h.alone || h.t.Failed() {
		return
	}
	for end := time.Now().Add(patience); ; time.Sleep(pause) {
		goroutines, live := runtime.NumGoroutine()-h.goroutines, pkt.Live()-h.live
		if goroutines <= 0 && live == 0 {
			return
		}
		if time.Now().After(end) {
			h.t.Errorf("left behind: %d goroutines, %d buffers\n%s", goroutines, live, stacks())
			return
		}
	}
}

// count is one of the stack's counters.
func (h *host) count(name string) uint64 { return h.stack.Counters()[name] }

// stacks lists the goroutines.
func stacks() string {
	b := make([]byte, 1<<20)
	return string(b[:runtime.Stack(b, true)])
}

// side is one end of the lab from which a test works towards the other.
type side struct {
	name string
	ours bool
	// dial connects from this side, listen and listenPacket wait on it.
	dial         func(ctx context.Context, network, address string) (net.Conn, error)
	listen       func(network, address string) (net.Listener, error)
	listenPacket func(network, address string) (net.PacketConn, error)
	// peer is the address of the other side.
	peer func(family) netip.Addr
}

// Listen and ListenPacket make a side a network for services.
func (s side) Listen(network, address string) (net.Listener, error) {
	return s.listen(network, address)
}
func (s side) ListenPacket(network, address string) (net.PacketConn, error) {
	return s.listenPacket(network, address)
}

func (h *host) ourSide() side {
	return side{"our client", true, h.net.DialContext, h.net.Listen, h.net.ListenPacket,
		func(f family) netip.Addr { return f.kernel.Addr() }}
}

func (h *host) kernelSide() side {
	return side{"kernel client", false, h.lab.DialKernel, h.lab.ListenKernel, h.lab.ListenPacketKernel,
		func(f family) netip.Addr { return f.ours.Addr() }}
}

// serveKernel runs the four services on the kernel's sockets.
func (h *host) serveKernel() {
	h.t.Helper()
	set, err := service.Start(h.kernelSide(), service.Names())
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		if err := set.Close(); err != nil {
			h.t.Error(err)
		}
	})
}

// bothWays runs a subtest for each client side and family, all at the same
// time if asked to. Both sides have to run the services.
func (h *host) bothWays(t *testing.T, parallel bool, f func(t *testing.T, s side, fam family)) {
	for _, s := range []side{h.kernelSide(), h.ourSide()} {
		for _, fam := range families {
			t.Run(s.name+"/"+fam.name, func(t *testing.T) {
				if parallel {
					t.Parallel()
				}
				f(t, s, fam)
			})
		}
	}
}

// dial connects to a service of the other side; the connection ends with the
// test, and every call on it after d.
func dial(t *testing.T, s side, network, address string, d time.Duration) net.Conn {
	t.Helper()
	c, err := s.dial(within(t, d), network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(d)); err != nil {
		t.Fatal(err)
	}
	return c
}
