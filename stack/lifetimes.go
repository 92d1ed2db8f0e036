package stack

import (
	"net/netip"
	"sync/atomic"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns the lifetimes of addresses. Each advertisement sets them anew,
// as often as somebody sends one, and nothing on the way of a packet asks for
// them: so they are beside the configuration, and when they change no connection
// looks up its route again.

// lifetimes are when an address ends to be preferred, and to be.
type lifetimes struct{ p atomic.Pointer[[2]mono.Time] }

func newLifetimes(preferred, valid mono.Time) *lifetimes {
	l := new(lifetimes)
	l.p.Store(&[2]mono.Time{preferred, valid})
	return l
}

// ends returns both, 0: never.
func (l *lifetimes) ends() (preferred, valid mono.Time) {
	if l == nil {
		return 0, 0
	}
	e := l.p.Load()
	return e[0], e[1]
}

// setLifetimes changes those of an address, if it is one that is meant.
func (i *Interface) setLifetimes(a netip.Addr, preferred, valid mono.Time, meant func(*address) bool) {
	s := i.stack
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.cfg.Load().addrOf(a, i)
	if x == nil || x.life == nil || !meant(x) {
		return
	}
	if p, v := x.life.ends(); p == preferred && v == valid {
		return
	}
	x.life.p.Store(&[2]mono.Time{preferred, valid})
	if s.watches.p.Load() != nil {
		s.watches.tell(Change{Kind: AddrChange, Op: Changed, Addr: x.public()})
	}
}
