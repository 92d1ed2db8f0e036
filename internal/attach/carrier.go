package attach

// This file owns what follows when the link of our device was away, as when a
// cable is pulled out and put in again, maybe elsewhere: the neighbours are
// forgotten, as Linux does (arp_evict_nocarrier, ndisc_evict_nocarrier), addresses
// are claimed anew (RFC 5227 §2.1), and a lease is verified (RFC 2131 §3.7). The
// kernel tells when its interface begins to run, and when it no longer does.

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// watchCarrier begins to watch the kernel's interface, in the network namespace
// that the caller is in.
func (h *Host) watchCarrier(name string) error {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return fmt.Errorf("watch %s: %w", name, err)
	}
	updates, done := make(chan netlink.LinkUpdate, 16), make(chan struct{})
	if err := netlink.LinkSubscribe(updates, done); err != nil {
		return fmt.Errorf("watch %s: %w", name, err)
	}
	h.unwatch = func() { close(done) }
	go func() { // until unwatch has closed the subscription
		running := true
		for u := range updates {
			if int(u.Index) != i.Index {
				continue
			}
			was := running
			running = u.IfInfomsg.Flags&unix.IFF_RUNNING != 0
			switch {
			case was && !running:
				h.Stack.Neighbours().Flush(h.Interface)
			case running && !was:
				h.linkBack()
			}
		}
	}()
	return nil
}

func (h *Host) linkBack() {
	h.Interface.Reclaim()
	if h.DHCP != nil {
		h.DHCP.LinkUp()
	}
	if h.DHCP6 != nil {
		h.DHCP6.LinkUp()
	}
}
