package ether

// This file owns what is known of the link of a device: whether there is one at
// present, and how long its packets may be. Both change while a device is open,
// when a cable is pulled out or somebody sets another MTU.

import "sync"

// Link is the state of the link that a device is on.
type Link struct {
	Up  bool // it is there: what is sent can arrive somewhere
	MTU int  // largest network-layer packet in bytes, that of Caps at first
}

// Linker is a Device that knows how its link is. Of others it is believed that
// it is always up.
type Linker interface {
	Device
	// Watch has f called with the state of the link, once at once and then with
	// each change, one call at a time. stop ends it, but for a call under way. f
	// runs with none of the device's locks held, and must not call Watch or
	// stop.
	Watch(f func(Link)) (stop func())
}

// WatchLink is Watch of a device that may not know its link; f is then never
// called. Decorators have it for the device below.
func WatchLink(d Device, f func(Link)) (stop func()) {
	if l, ok := d.(Linker); ok {
		return l.Watch(f)
	}
	return func() {}
}

// LinkState is a state of a link that those who asked for it are told of. It is
// what devices keep; the zero value is a link that is down.
type LinkState struct {
	telling sync.Mutex // held while the watchers are told, so that each hears all in order

	mu       sync.Mutex // guards the rest
	now      Link
	watchers []*func(Link)
}

// Get returns the state.
func (s *LinkState) Get() Link {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// Set changes the state, and tells of it if it is another one.
func (s *LinkState) Set(l Link) { s.Change(func(now *Link) { *now = l }) }

// Change is Set for a part of the state.
func (s *LinkState) Change(f func(*Link)) {
	s.telling.Lock()
	defer s.telling.Unlock()
	s.mu.Lock()
	was := s.now
	f(&s.now)
	l, list := s.now, s.watchers[:len(s.watchers):len(s.watchers)]
	s.mu.Unlock()
	if l == was {
		return
	}
	for _, f := range list {
		(*f)(l)
	}
}

// Watch is that of Linker.
func (s *LinkState) Watch(f func(Link)) (stop func()) {
	s.telling.Lock()
	defer s.telling.Unlock()
	w := &f
	s.mu.Lock()
	s.watchers = append(s.watchers[:len(s.watchers):len(s.watchers)], w)
	l := s.now
	s.mu.Unlock()
	f(l)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		var rest []*func(Link)
		for _, x := range s.watchers {
			if x != w {
				rest = append(rest, x)
			}
		}
		s.watchers = rest
	}
}
