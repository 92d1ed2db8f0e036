package mcast

import (
	"net/netip"
	"slices"

	"github.com/tapstack/tapstack/internal/mono"
)

// This file owns source filters: what one listener wants, and how the filters
// of all listeners of a group become the one of the interface (RFC 3376 §3.2,
// RFC 3810 §4.2). Each source is counted by those who include and those who
// exclude it, so that a change costs no look at the other listeners.

// Filter says from whom a listener hears a group: from Sources only, or with
// Exclude from all others. The zero Filter hears nobody, which is the same as
// not being a member (RFC 3376 §3.1). Sources are not repeated.
type Filter struct {
	Exclude bool
	Sources []netip.Addr
}

// Everyone is the filter of a member that names no sources.
var Everyone = Filter{Exclude: true}

// Empty reports that nobody is heard.
func (f Filter) Empty() bool { return !f.Exclude && len(f.Sources) == 0 }

// Passes reports whether what src sends is heard.
func (f Filter) Passes(src netip.Addr) bool { return f.Exclude != slices.Contains(f.Sources, src) }

// source is an address that a listener names, or about which a change is still
// to be reported.
type source struct {
	addr   netip.Addr
	in, ex int   // listeners that include and that exclude it
	left   uint8 // times its latest change is still to be sent
	listed bool  // it is in the interface's list
}

type group struct {
	addr     netip.Addr
	reported bool // false of the groups about which nothing is ever said
	member   bool // anybody listens

	excludes int  // listeners in mode EXCLUDE
	exclude  bool // the interface's mode
	sources  []source
	modeLeft uint8 // times the latest change of mode is still to be sent

	// queryAt is when a query about this group is answered, and in the older
	// versions the group reported, 0: not. asked are the sources that the query
	// named; none: the group as a whole.
	queryAt mono.Time
	asked   []netip.Addr

	// Of the older versions: reports that follow unasked, and whether the last
	// report on the link was ours.
	unsolicited  uint8
	lastReporter bool
}

func (g *group) find(a netip.Addr) *source {
	for i := range g.sources {
		if g.sources[i].addr == a {
			return &g.sources[i]
		}
	}
	return nil
}

// has reports whether f was given to apply before.
func (g *group) has(f Filter) bool {
	if f.Exclude && g.excludes == 0 {
		return false
	}
	for _, a := range f.Sources {
		if s := g.find(a); s == nil || f.Exclude && s.ex == 0 || !f.Exclude && s.in == 0 {
			return false
		}
	}
	return true
}

// apply counts new in the place of old. It reports false, and does nothing, when
// there are too many sources.
func (g *group) apply(old, new Filter) bool {
	more := 0
	for _, a := range new.Sources {
		if g.find(a) == nil {
			more++
		}
	}
	if len(g.sources)+more > MaxSources {
		return false
	}
	count := func(f Filter, n int) {
		if f.Exclude {
			g.excludes += n
		}
		for _, a := range f.Sources {
			s := g.find(a)
			if s == nil {
				g.sources = append(g.sources, source{addr: a})
				s = &g.sources[len(g.sources)-1]
			}
			if f.Exclude {
				s.ex += n
			} else {
				s.in += n
			}
		}
	}
	count(new, 1)
	count(old, -1)
	return true
}

// lists reports whether a source is in the interface's list. RFC 3376 §3.2: in
// mode EXCLUDE that is the intersection of the lists of those who exclude,
// without what anybody includes; in mode INCLUDE the union of all lists.
func (g *group) lists(s *source) bool {
	if g.excludes > 0 {
		return s.in == 0 && s.ex == g.excludes
	}
	return s.in > 0
}

// merge computes the interface's filter anew. What it changes, which it reports,
// is to be sent robustness times (RFC 3376 §5.1, RFC 3810 §6.1): a change of
// mode, with the whole list, or what came to the list and what went from it.
// While a change of mode is to be repeated it says all of that.
func (g *group) merge(robustness int) (changed bool) {
	exclude := g.excludes > 0
	mode := exclude != g.exclude
	g.exclude, g.member = exclude, exclude
	list := false
	for i := range g.sources {
		s := &g.sources[i]
		l := g.lists(s)
		g.member = g.member || l
		switch {
		case l == s.listed:
		case mode || g.modeLeft > 0:
			list = true
		default:
			list, s.left = true, uint8(robustness)
		}
		s.listed = l
		if mode {
			s.left = 0
		}
	}
	if mode || list && g.modeLeft > 0 {
		g.modeLeft = uint8(robustness)
	}
	g.forgetSources()
	return mode || list
}

// again makes the whole state be sent as if it were new.
func (g *group) again(robustness int) {
	if g.exclude {
		g.modeLeft = uint8(robustness)
		return
	}
	g.modeLeft = 0
	for i := range g.sources {
		if s := &g.sources[i]; s.listed {
			s.left = uint8(robustness)
		}
	}
}

// settle forgets what is still to be sent about changes.
func (g *group) settle() {
	g.modeLeft = 0
	for i := range g.sources {
		g.sources[i].left = 0
	}
	g.forgetSources()
}

func (g *group) forgetSources() {
	g.sources = slices.DeleteFunc(g.sources, func(s source) bool { return s.in == 0 && s.ex == 0 && s.left == 0 })
}

// pending reports whether changes are still to be sent.
func (g *group) pending() bool {
	return g.modeLeft > 0 || slices.ContainsFunc(g.sources, func(s source) bool { return s.left > 0 })
}

// filter is that of the interface.
func (g *group) filter() Filter {
	f := Filter{Exclude: g.exclude}
	for i := range g.sources {
		if g.sources[i].listed {
			f.Sources = append(f.Sources, g.sources[i].addr)
		}
	}
	return f
}
