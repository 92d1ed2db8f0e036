package probe

import (
	"net/netip"
	"syscall"

	"github.com/tapstack/tapstack/stack"
)

// This file owns what is known of a way before anything is sent by it.

// Path is what is known of the way to a destination before anything is sent.
type Path struct {
	Src   netip.Addr
	Group bool // a multicast or broadcast address
	// MTU is what the path is known to carry, LinkMTU what its first link does.
	MTU, LinkMTU int
}

// Path looks up the way that a request would take. Errors are those of
// stack.Prober.Route, and ENODEV.
func (p *Prober) Path(q *Request) (Path, error) {
	r, err := p.route(q)
	if err != nil {
		return Path{}, err
	}
	return Path{r.Src(), r.Group(), r.MTU(), r.LinkMTU()}, nil
}

func (p *Prober) route(q *Request) (stack.ProbeRoute, error) {
	if q.Within != nil {
		return p.out.Within(q.Within)
	}
	var dev *stack.Interface
	if q.Device != "" {
		for _, i := range p.stack.Interfaces() {
			if i.Name() == q.Device {
				dev = i
			}
		}
		if dev == nil {
			return stack.ProbeRoute{}, syscall.ENODEV
		}
	}
	return p.out.Route(q.Dst.Unmap(), q.Src, dev)
}
