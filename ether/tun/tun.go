// Package tun is the device for a stack that is not on an Ethernet: a Linux
// TUN interface, through which the host routes IP packets to the stack. It is
// a link between two: nobody is asked for addresses, and all that is sent
// comes to the host's kernel. It moves packets one by one, or in bulk with
// segmentation and checksums left to the kernel. What it does is in
// ether/internal/tuntap, which it shares with ether/tap.
package tun

import (
	"github.com/tapstack/tapstack/ether/internal/tuntap"
)

// Options says which interface to open, as those of tap.
type Options = tuntap.Options

// Stats are the counters of a device.
type Stats = tuntap.Stats

// Device is an open TUN. It implements ether.Device; its Caps say that it is
// PointToPoint.
type Device = tuntap.Device

// Open opens a TUN interface in the network namespace of the calling thread,
// making it first if there is none of that name. Making one takes
// CAP_NET_ADMIN; opening one takes that or being its owner.
func Open(o Options) (*Device, error) { return tuntap.Open(tuntap.TUN, o) }
