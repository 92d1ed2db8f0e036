// Package lab builds a private network in which the stack can be tried without
// touching the machine's own: a network namespace with a bridge, a kernel host
// on that bridge, and one device for each stack that will join it.
//
//	          namespace
//	┌───────────────────────────────────────────────────────┐
//	│  Linux kernel          br0                            │
//	│  10.77.0.1 fd77::1 ──────┬───────────┬────────────    │
//	│                        tap7        tap8  …            │
//	└──────────────────────────┼───────────┼────────────────┘
//	                     10.77.0.7     10.77.0.8
//	                       stack         stack
//
// Run starts a command in such a network; New makes one for the tests of this
// process. Everything in it disappears with the last process that uses it.
// As root only a network namespace is made, otherwise a user namespace around
// it, in which the caller is root.
package lab

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// The fixed addresses of the lab. Stack number i, counted from FirstHost, has
// the device tap<i> and by convention 10.77.0.<i>, fd77::<i> and the MAC
// address 02:00:00:00:00:<i in hex>.
const (
	Bridge    = "br0"
	FirstHost = 7
	MaxHosts  = 100
	KernelMAC = "02:00:00:00:00:01"
)

// The kernel's addresses on the bridge.
var (
	Kernel4  = netip.MustParsePrefix("10.77.0.1/24")
	Kernel6  = netip.MustParsePrefix("fd77::1/64")
	KernelLL = netip.MustParsePrefix("fe80::ff:fe00:1/64")
)

// Environment variables. The first four are set for the command; Device is
// read: "tap" or "packet" instead of what works.
const (
	EnvLab    = "TAPSTACK_LAB"
	EnvTap    = "TAPSTACK_TAP"
	EnvDev    = "TAPSTACK_DEV"
	EnvIP     = "TAPSTACK_IP"
	EnvGW     = "TAPSTACK_GW"
	EnvDevice = "TAPSTACK_LAB_DEVICE"
	// EnvRequire set to 1 turns the skips of Require into failures.
	EnvRequire = "TAPSTACK_REQUIRE_TAP"

	envStage  = "TAPSTACK_LAB_STAGE"
	envConfig = "TAPSTACK_LAB_CONFIG"
	envInner  = "TAPSTACK_LAB_INNER"
)

// Options says what to build.
type Options struct {
	// Hosts is how many stacks get a device, 1 to MaxHosts; 0 means 1.
	Hosts int
	// Loss is how many of 1000 frames are lost on each port, each way; it
	// needs the nft program.
	Loss int
	// Device is "tap", "packet" or "" for a TAP where the machine lets us
	// open one and a packet socket otherwise. Empty, it is taken from
	// TAPSTACK_LAB_DEVICE.
	Device string

	// The command's standard streams; nil means those of this process.
	Stdin          io.Reader `json:"-"`
	Stdout, Stderr io.Writer `json:"-"`
}

func (o Options) check() (Options, error) {
	if o.Hosts == 0 {
		o.Hosts = 1
	}
	if o.Hosts < 1 || o.Hosts > MaxHosts {
		return o, fmt.Errorf("lab: %d hosts, allowed are 1 to %d", o.Hosts, MaxHosts)
	}
	if o.Loss < 0 || o.Loss > 1000 {
		return o, fmt.Errorf("lab: loss of %d per mille, allowed are 0 to 1000", o.Loss)
	}
	if o.Device == "" {
		o.Device = os.Getenv(EnvDevice)
	}
	switch o.Device {
	case "", "tap", "packet":
	default:
		return o, fmt.Errorf("lab: device %q, allowed are tap and packet", o.Device)
	}
	return o, nil
}

// Layout is what was built.
type Layout struct {
	// Devices are the interfaces the stacks open, one for each host: tap7,
	// tap8, … or, when Packet is set, eth7, eth8, ….
	Devices []string
	// Ports are the bridge's ends of them; with TAPs the same names.
	Ports []string
	// Packet: the devices are for packet sockets, because of Note.
	Packet bool
	// IPv6 is false where the kernel has it switched off.
	IPv6 bool
	// Note is a line for the user when the lab differs from the usual one.
	Note string
}

// Addrs returns the prefixes that host number i (0 for the first) uses.
func (l *Layout) Addrs(i int) []netip.Prefix {
	n := byte(FirstHost + i)
	p := []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, 0, n}), 24)}
	if l.IPv6 {
		p = append(p, netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x77, 14: hostHi(n), 15: hostLo(n)}), 64))
	}
	return p
}

// The last group of fd77::10 reads like that of 10.77.0.10: its decimal digits
// stand for themselves.
func hostHi(n byte) byte { return n / 100 }
func hostLo(n byte) byte { return n/10%10<<4 | n%10 }

// Device returns the first host's device as the --dev flag takes it.
func (l *Layout) Device() string {
	if l.Packet {
		return "packet:" + l.Devices[0]
	}
	return "tap:" + l.Devices[0]
}

// env is this process's environment, and in it what makes commands in the lab
// use its first host.
func (l *Layout) env() []string {
	var e []string
	for _, v := range os.Environ() {
		// Outside, these mean another device.
		if !strings.HasPrefix(v, EnvTap+"=") && !strings.HasPrefix(v, EnvDev+"=") {
			e = append(e, v)
		}
	}
	e = append(e, EnvLab+"=1", EnvGW+"="+Kernel4.Addr().String())
	ip := ""
	for i, p := range l.Addrs(0) {
		if i > 0 {
			ip += ","
		}
		ip += p.String()
	}
	e = append(e, EnvIP+"="+ip)
	if l.Packet {
		return append(e, EnvDev+"="+l.Device())
	}
	return append(e, EnvTap+"="+l.Devices[0])
}

func hostName(prefix string, i int) string { return prefix + strconv.Itoa(FirstHost+i) }
