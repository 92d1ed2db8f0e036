// Package linkwatch follows the state of an interface of the kernel's, for the
// devices that are on one: whether it is set up and has a carrier, and its MTU.
// The kernel tells of each change by rtnetlink(7).
package linkwatch

import (
	"errors"

	"github.com/tapstack/tapstack/ether"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Watch is what is known of an interface. Its methods are safe for concurrent
// use.
type Watch struct {
	ether.LinkState
	index  int
	socket *nl.NetlinkSocket // nil where the kernel tells nothing
}

// New begins to follow an interface in the network namespace of the calling
// thread. Where the kernel does not tell of changes the state stays as it is
// now. changed, unless nil, hears of an MTU before those who watch do.
func New(link netlink.Link, changed func(mtu int)) *Watch {
	w := &Watch{index: link.Attrs().Index}
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK)
	if err == nil {
		w.socket = socket
	}
	// Asked for after that, so that no change is missed in between.
	if now, err := netlink.LinkByIndex(w.index); err == nil {
		link = now
	}
	w.Set(ether.Link{Up: isUp(link.Attrs().RawFlags), MTU: link.Attrs().MTU})
	if changed != nil {
		changed(link.Attrs().MTU)
	}
	if w.socket != nil {
		go w.run(changed)
	}
	return w
}

// isUp: set up by its owner, and with a carrier; one that waits for somebody to
// be let in (IEEE 802.1X) has none for us.
func isUp(flags uint32) bool {
	return flags&unix.IFF_UP != 0 && flags&unix.IFF_LOWER_UP != 0 && flags&unix.IFF_DORMANT == 0
}

// run reads what the kernel tells until Close.
func (w *Watch) run(changed func(mtu int)) {
	for {
		messages, from, err := w.socket.Receive()
		switch {
		case errors.Is(err, unix.ENOBUFS):
			w.ask() // there was more than the kernel keeps
			continue
		case err != nil:
			return
		case from.Pid != nl.PidKernel:
			continue // anybody may write to the group
		}
		for _, m := range messages {
			if m.Header.Type != unix.RTM_NEWLINK || len(m.Data) < unix.SizeofIfInfomsg {
				continue // of its end the device hears itself
			}
			info := nl.DeserializeIfInfomsg(m.Data)
			if int(info.Index) != w.index {
				continue
			}
			l := ether.Link{Up: isUp(info.Flags), MTU: w.Get().MTU}
			if attrs, err := nl.ParseRouteAttr(m.Data[unix.SizeofIfInfomsg:]); err == nil {
				for _, a := range attrs {
					if a.Attr.Type == unix.IFLA_MTU && len(a.Value) >= 4 {
						l.MTU = int(nl.NativeEndian().Uint32(a.Value))
					}
				}
			}
			if changed != nil {
				changed(l.MTU)
			}
			w.Set(l)
		}
	}
}

// ask has the kernel tell how the interface is now. It does so on the socket of
// the changes, which is in the right namespace whatever thread this is.
func (w *Watch) ask() {
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, 0)
	info := nl.NewIfInfomsg(unix.AF_UNSPEC)
	info.Index = int32(w.index)
	req.AddData(info)
	_ = w.socket.Send(req) // closed, or the next change tells
}

// Close ends it.
func (w *Watch) Close() {
	if w.socket != nil {
		w.socket.Close()
	}
}
