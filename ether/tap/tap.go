// Package tap is the device most stacks run on: a Linux TAP interface, whose
// other end is an ordinary network interface of the host, usually a port of a
// bridge. It moves plain frames, or super-frames whose segmentation and
// checksums are the kernel's. What it does is in ether/internal/tuntap, which
// it shares with ether/tun.
package tap

import "github.com/tapstack/tapstack/ether/internal/tuntap"

// Options says which interface to open.
type Options = tuntap.Options

// Stats are the counters of a device.
type Stats = tuntap.Stats

// Device is an open TAP. It implements ether.Device.
type Device = tuntap.Device

// Offload says whether to use super-frames.
type Offload = tuntap.Offload

// The choices.
const (
	OffloadOff     = tuntap.OffloadOff     // plain frames
	OffloadAuto    = tuntap.OffloadAuto    // super-frames where the kernel has them
	OffloadRequire = tuntap.OffloadRequire // an error where it has not
)

// QueueLen is how many frames the kernel keeps for the stack in an interface
// made here; more are lost.
const QueueLen = tuntap.QueueLen

// ParseOffload reads "off", "auto" or "require".
func ParseOffload(s string) (Offload, error) { return tuntap.ParseOffload(s) }

// Open opens a TAP interface in the network namespace of the calling thread,
// making it first if there is none of that name. Making one takes
// CAP_NET_ADMIN; opening one takes that or being its owner.
func Open(o Options) (*Device, error) { return tuntap.Open(tuntap.TAP, o) }
