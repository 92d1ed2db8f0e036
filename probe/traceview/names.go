package traceview

import (
	"context"
	"net/netip"
	"strings"
	"sync"
)

// This file owns the names of routers: each is asked for once, some at a time,
// and is shown when it is there.

// Bounds of Names.
const (
	maxNames = 4096
	asking   = 8 // at the same time
)

// Names knows the names of addresses. Its methods are safe for concurrent use.
type Names struct {
	ctx    context.Context
	lookup func(context.Context, netip.Addr) ([]string, error)
	wake   func()
	slots  chan struct{}

	mu      sync.Mutex
	known   map[netip.Addr]string // "": asked for, or has none
	missing int                   // that are being asked for
	waiting []chan struct{}       // closed when none is
}

// NewNames makes one that asks by lookup, until ctx ends, and calls wake when a
// name has come.
func NewNames(ctx context.Context, lookup func(context.Context, netip.Addr) ([]string, error), wake func()) *Names {
	return &Names{ctx: ctx, lookup: lookup, wake: wake, slots: make(chan struct{}, asking), known: make(map[netip.Addr]string)}
}

// Of returns the name of an address, or "" while, or when, it has none.
func (n *Names) Of(a netip.Addr) string {
	if n == nil || !a.IsValid() {
		return ""
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	name, ok := n.known[a]
	if !ok && len(n.known) < maxNames && n.ctx.Err() == nil {
		n.known[a] = ""
		n.missing++
		go n.ask(a)
	}
	return name
}

func (n *Names) ask(a netip.Addr) {
	defer n.asked()
	select {
	case n.slots <- struct{}{}:
	case <-n.ctx.Done():
		return
	}
	defer func() { <-n.slots }()
	list, err := n.lookup(n.ctx, a.WithZone(""))
	if err != nil || len(list) == 0 {
		return
	}
	n.mu.Lock()
	n.known[a] = plain(list[0])
	n.mu.Unlock()
	if n.wake != nil {
		n.wake()
	}
}

func (n *Names) asked() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.missing--; n.missing == 0 {
		for _, c := range n.waiting {
			close(c)
		}
		n.waiting = nil
	}
}

// Wait waits until all names that were asked for are known, or ctx ends.
func (n *Names) Wait(ctx context.Context) {
	if n == nil {
		return
	}
	n.mu.Lock()
	if n.missing == 0 {
		n.mu.Unlock()
		return
	}
	done := make(chan struct{})
	n.waiting = append(n.waiting, done)
	n.mu.Unlock()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// plain makes a name fit for a terminal: whoever owns the reverse zone may have
// written anything there.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '?'
		}
		return r
	}, s[:min(len(s), 253)])
}
