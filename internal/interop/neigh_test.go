package interop

// Neighbours: who finds whom, what happens to the packets that wait for it,
// and what happens when two hosts want the same address.

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/stack"
)

// kernelNeighbours are the kernel's entries for its bridge.
func kernelNeighbours(t *testing.T, l *lab.Lab) (list []netlink.Neigh) {
	t.Helper()
	inLab(t, l, func() error {
		br, err := netlink.LinkByName(lab.Bridge)
		if err == nil {
			list, err = netlink.NeighList(br.Attrs().Index, netlink.FAMILY_ALL)
		}
		return err
	})
	return list
}

// flushKernelNeighbours is `ip neigh flush dev br0`.
func flushKernelNeighbours(t *testing.T, l *lab.Lab) {
	t.Helper()
	for _, n := range kernelNeighbours(t, l) {
		if n.State&unix.NUD_NOARP == 0 {
			inLab(t, l, func() error { return netlink.NeighDel(&n) })
		}
	}
}

func TestNeighbours(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	h := newHost(t, l, hostOptions{parallel: true, services: true, nic: stack.InterfaceConfig{NoDAD: true}})
	h.serveKernel()
	// The first datagram of all waits for the neighbour's address and then
	// arrives, whichever side speaks first; there is one try only.
	firstDatagram := func(t *testing.T, s side) {
		eachFamily(t, func(t *testing.T, fam family) {
			c := dial(t, s, "udp", addr(s.peer(fam), 7), patience)
			if err := echoDatagram(c, []byte("first"), 1, patience); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("ours", func(t *testing.T) { firstDatagram(t, h.ourSide()) })
	flushKernelNeighbours(t, l)
	t.Run("kernel's", func(t *testing.T) { firstDatagram(t, h.kernelSide()) })
	t.Run("several fragments", func(t *testing.T) {
		flushKernelNeighbours(t, l)
		eachFamily(t, func(t *testing.T, fam family) {
			s := h.kernelSide()
			c := dial(t, s, "udp", addr(s.peer(fam), 7), patience)
			if err := echoDatagram(c, make([]byte, 4000), 1, patience); err != nil {
				t.Error(err)
			}
		})
	})
	eachFamily(t, func(t *testing.T, fam family) {
		i := slices.IndexFunc(kernelNeighbours(t, l), func(n netlink.Neigh) bool {
			return n.IP.Equal(net.IP(fam.ours.Addr().AsSlice())) && n.State == unix.NUD_REACHABLE &&
				slices.Equal(n.HardwareAddr, ourMAC[:])
		})
		if i < 0 {
			t.Errorf("%v is not reachable at %v: %v", fam.ours.Addr(), ourMAC, kernelNeighbours(t, l))
		}
	})
}

// TestDuplicate gives the stack the kernel's addresses.
func TestDuplicate(t *testing.T) {
	t.Parallel()
	h := newHost(t, newLab(t), hostOptions{parallel: true, bare: true, nic: stack.InterfaceConfig{ACD: true}})
	ctx := within(t, 2*patience)
	for _, p := range []netip.Prefix{lab.Kernel4, lab.Kernel6} {
		if err := h.nic.AddAddr(p); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []netip.Prefix{lab.Kernel4, lab.Kernel6} {
		if err := h.nic.WaitUsable(ctx, p.Addr()); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%v: %v", p, err)
		}
	}
	if err := h.nic.Ready(ctx); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("Ready: %v", err)
	}
	// Free ones are had all the same.
	for _, p := range []netip.Prefix{our4, our6} {
		if err := h.nic.AddAddr(p); err != nil {
			t.Fatal(err)
		}
		if err := h.nic.WaitUsable(ctx, p.Addr()); err != nil {
			t.Errorf("%v: %v", p, err)
		}
	}
	for _, p := range h.nic.Addrs() {
		if p == lab.Kernel4 || p == lab.Kernel6 {
			t.Errorf("has %v", p)
		}
	}
}

// TestDefend lets the kernel try for an address that the stack has.
func TestDefend(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	h := newHost(t, l, hostOptions{parallel: true, services: true})
	stolen := &netlink.Addr{IPNet: &net.IPNet{IP: our6.Addr().AsSlice(), Mask: net.CIDRMask(64, 128)}}
	onBridge := func(f func(netlink.Link, *netlink.Addr) error) {
		inLab(t, l, func() error {
			br, err := netlink.LinkByName(lab.Bridge)
			if err != nil {
				return err
			}
			return f(br, stolen)
		})
	}
	onBridge(netlink.AddrAdd)
	eventually(t, patience, "the kernel's DAD fails", func() (failed bool) {
		onBridge(func(br netlink.Link, _ *netlink.Addr) error {
			list, err := netlink.AddrList(br, netlink.FAMILY_V6)
			failed = slices.ContainsFunc(list, func(a netlink.Addr) bool {
				return a.IP.Equal(stolen.IP) && a.Flags&unix.IFA_F_DADFAILED != 0
			})
			return err
		})
		return failed
	})
	// The kernel does not speak to an address that it has failed to take. We
	// still have it.
	onBridge(netlink.AddrDel)
	c := dial(t, h.kernelSide(), "udp", addr(our6.Addr(), 7), patience)
	if err := echoDatagram(c, []byte("mine"), 1, patience); err != nil {
		t.Error(err)
	}
	if !slices.Contains(h.nic.Addrs(), our6) {
		t.Errorf("has %v", h.nic.Addrs())
	}
}
