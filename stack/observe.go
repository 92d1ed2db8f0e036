package stack

import "slices"

// This file owns who is called when an address of an interface has become usable
// or has gone, a router has appeared, or what routers advertise has changed: a
// DHCPv6 client, which needs the one and is started by the other, and takes steps
// instead of waiting in WaitAddr.

// Observe has f called after each such change, with none of the stack's locks
// held but that of a change of the link: f must not change one, nor block. stop
// ends it, but for a call under way.
func (i *Interface) Observe(f func()) (stop func()) {
	o := &f
	i.changedMu.Lock()
	i.observers = append(i.observers, o)
	i.changedMu.Unlock()
	return func() {
		i.changedMu.Lock()
		i.observers = slices.DeleteFunc(slices.Clone(i.observers), func(x *func()) bool { return x == o })
		i.changedMu.Unlock()
	}
}

// observed calls the observers. Their list is not changed, but replaced.
func (i *Interface) observed() {
	i.changedMu.Lock()
	list := i.observers[:len(i.observers):len(i.observers)]
	i.changedMu.Unlock()
	for _, f := range list {
		(*f)()
	}
}
