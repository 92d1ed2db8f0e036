package attach

// This file owns what follows when the link of our device was away, as when a
// cable is pulled out and put in again, maybe elsewhere: a lease is verified
// (RFC 2131 §3.7, RFC 8415 §18.2.12). The stack itself claims its addresses anew.

import (
	"context"
	"errors"
	"syscall"

	"github.com/tapstack/tapstack/stack"
)

// watchLink begins to follow the link of the interface.
func (h *Host) watchLink() {
	w := h.Stack.Watch(stack.LinkChange, 0)
	h.unwatch = w.Close
	go func() { // until unwatch, or the end of the stack
		usable := func(l stack.Link) bool { return l.Up && l.Carrier }
		up := usable(h.Stack.Links().Of(h.Interface))
		for {
			c, err := w.Next(context.Background())
			switch {
			case errors.Is(err, syscall.ENOBUFS):
				c.Link = h.Stack.Links().Of(h.Interface)
			case err != nil:
				return
			case c.Link.Interface != h.Interface:
				continue
			}
			was := up
			if up = usable(c.Link); up && !was {
				h.linkBack()
			}
		}
	}()
}

func (h *Host) linkBack() {
	if h.DHCP != nil {
		h.DHCP.LinkUp()
	}
	if h.DHCP6 != nil {
		h.DHCP6.LinkUp()
	}
}
