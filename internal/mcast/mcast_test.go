package mcast

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// epoch is when the tests begin.
const epoch = mono.Time(time.Hour)

// link is a host that writes down what is sent, with the virtual time. Groups
// and sources have short names: a group is "g1", a source "s1".
type link struct {
	*Machine
	t     *testing.T
	now   mono.Time
	log   []string
	times []time.Duration
	sizes []int
}

func newLink(t *testing.T, f Family, c Config) *link {
	n := &link{t: t, now: epoch}
	c.Family, c.Host, c.Rand = f, n, rand.New(rand.NewPCG(3, 4))
	if c.MaxReport == 0 {
		c.MaxReport = 1232
	}
	n.Machine = New(c)
	return n
}

// each runs a test for both families: the rules are the same.
func each(t *testing.T, f func(t *testing.T, fam Family)) {
	t.Run("IGMP", func(t *testing.T) { f(t, IGMP) })
	t.Run("MLD", func(t *testing.T) { f(t, MLD) })
}

func (f Family) g(n int) netip.Addr {
	if f == IGMP {
		return netip.AddrFrom4([4]byte{239, 1, byte(n >> 8), byte(n)})
	}
	return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x05, 14: byte(n >> 8), 15: byte(n)})
}

func (f Family) s(n int) netip.Addr {
	if f == IGMP {
		return netip.AddrFrom4([4]byte{192, 0, byte(n >> 8), byte(n)})
	}
	return netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 14: byte(n >> 8), 15: byte(n)})
}

func (f Family) any() netip.Addr {
	if f == IGMP {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// list makes sources.
func (f Family) list(n ...int) (out []netip.Addr) {
	for _, n := range n {
		out = append(out, f.s(n))
	}
	return out
}

func (f Family) in(n ...int) Filter { return Filter{Sources: f.list(n...)} }
func (f Family) ex(n ...int) Filter { return Filter{Exclude: true, Sources: f.list(n...)} }

func short(a netip.Addr) string {
	b := a.AsSlice()
	n := len(b)
	return fmt.Sprint(int(b[n-2])<<8 | int(b[n-1]))
}

var recordNames = [...]string{1: "is-in", 2: "is-ex", 3: "to-in", 4: "to-ex", 5: "allow", 6: "block"}

func (n *link) SendReport(records []Record) {
	var w []string
	for _, r := range records {
		s := recordNames[r.Type] + " g" + short(r.Group)
		for _, a := range r.Sources {
			s += " s" + short(a)
		}
		w = append(w, s)
	}
	b := n.Family.AppendReport(nil, records)
	if len(b) > n.MaxReport {
		n.t.Errorf("a report of %d bytes", len(b))
	}
	if n.version != 3 {
		n.t.Errorf("a report of version 3 in version %d", n.version)
	}
	n.sizes = append(n.sizes, len(b))
	n.note(strings.Join(w, ", "))
}

func (n *link) SendOld(version int, leave bool, g netip.Addr) {
	n.note(fmt.Sprintf("v%d %s g%s", version, map[bool]string{false: "report", true: "leave"}[leave], short(g)))
}

func (n *link) note(s string) {
	n.log = append(n.log, s)
	n.times = append(n.times, n.now.Sub(epoch))
}

func (n *link) listen(g int, old, new Filter) {
	n.t.Helper()
	if err := n.Listen(n.now, n.Family.g(g), old, new); err != nil {
		n.t.Errorf("listen: %v", err)
	}
}

func (n *link) join(g int)  { n.t.Helper(); n.listen(g, Filter{}, Everyone) }
func (n *link) leave(g int) { n.t.Helper(); n.listen(g, Everyone, Filter{}) }

// run lets time pass.
func (n *link) run(d time.Duration) {
	n.t.Helper()
	end := n.now.Add(d)
	for d := n.Deadline(); d != 0 && d <= end; d = n.Deadline() {
		n.now = max(n.now, d)
		n.Expire(n.now)
		if n.Deadline() != 0 && n.Deadline() <= n.now {
			n.t.Fatalf("deadline %v not passed by Expire at %v", n.Deadline(), n.now)
		}
	}
	n.now = end
}

func (n *link) expect(want ...string) {
	n.t.Helper()
	if !slices.Equal(n.log, want) {
		n.t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(n.log, "\n\t"), strings.Join(want, "\n\t"))
	}
	n.log, n.times, n.sizes = nil, nil, nil
}

// quiet expects that nothing is left to do or remembered.
func (n *link) quiet() {
	n.t.Helper()
	if n.Deadline() != 0 || len(n.groups) != 0 || len(n.byAddr) != 0 {
		n.t.Errorf("deadline %v, %d groups", n.Deadline(), len(n.groups))
	}
}

// joined returns a member of two groups whose joining is over.
func joined(t *testing.T, f Family) *link {
	n := newLink(t, f, Config{})
	n.join(1)
	n.join(2)
	n.run(time.Minute)
	n.log, n.times = nil, nil
	return n
}

func (n *link) query(q Query) {
	if !q.Group.IsValid() {
		q.Group = n.Family.any()
	}
	if q.Version == 0 {
		q.Version = 3
	}
	n.Query(n.now, &q)
}

func TestJoinAndLeaveReportTwice(t *testing.T) {
	each(t, func(t *testing.T, f Family) {
		n := newLink(t, f, Config{})
		n.join(1)
		n.join(1)
		n.run(time.Minute)
		if n.times[1] <= 0 || n.times[1] > time.Second {
			t.Errorf("second report after %v", n.times[1])
		}
		n.expect("to-ex g1", "to-ex g1")
		n.leave(1)
		n.run(time.Minute)
		n.expect()
		if x, ok := n.Filter(f.g(1)); !ok || !x.Exclude {
			t.Error("the first leave was the last")
		}
		n.leave(1)
		if _, ok := n.Filter(f.g(1)); ok {
			t.Error("a member after it left")
		}
		n.run(time.Minute)
		n.expect("to-in g1", "to-in g1")
		n.quiet()
		if err := n.Listen(n.now, f.g(1), Everyone, Filter{}); err != syscall.EADDRNOTAVAIL {
			t.Errorf("left what nobody joined: %v", err)
		}
	})
}

// TestMerge is the table of RFC 3376 §3.2 and §5.1: what two listeners want,
// what the interface hears, and what each change makes it say.
func TestMerge(t *testing.T) {
	each(t, func(t *testing.T, f Family) {
		type step struct {
			who    int
			filter Filter
			heard  Filter
			report string // once at once and once more
		}
		none := Filter{}
		for _, c := range []struct {
			name  string
			steps []step
		}{
			{"include", []step{
				{0, f.in(1), f.in(1), "allow g1 s1"},
				{0, f.in(1, 2), f.in(1, 2), "allow g1 s2"},
				{1, f.in(2, 3), f.in(1, 2, 3), "allow g1 s3"},
				{0, f.in(4), f.in(2, 3, 4), "allow g1 s4, block g1 s1"},
				{1, none, f.in(4), "block g1 s2 s3"},
				{0, none, none, "block g1 s4"},
			}},
			{"exclude", []step{
				{0, f.ex(1, 2), f.ex(1, 2), "to-ex g1 s1 s2"},
				{1, f.ex(2, 3), f.ex(2), "allow g1 s1"},
				{1, f.ex(2, 1), f.ex(1, 2), "block g1 s1"},
				{0, f.ex(), f.ex(), "allow g1 s1 s2"},
				{0, none, f.ex(1, 2), "block g1 s1 s2"},
				{1, none, none, "to-in g1"},
			}},
			{"both", []step{
				{0, f.in(1, 2), f.in(1, 2), "allow g1 s1 s2"},
				{1, f.ex(2, 3), f.ex(3), "to-ex g1 s3"},
				{0, f.in(3), f.ex(2), "allow g1 s3, block g1 s2"},
				{1, none, f.in(3), "to-in g1 s3"},
				{1, f.ex(), f.ex(), "to-ex g1"},
				{0, none, f.ex(), ""},
				{1, f.in(7), f.in(7), "to-in g1 s7"},
			}},
		} {
			t.Run(c.name, func(t *testing.T) {
				n := newLink(t, f, Config{})
				var has [2]Filter
				for _, s := range c.steps {
					n.listen(1, has[s.who], s.filter)
					has[s.who] = s.filter
					heard, _ := n.Filter(f.g(1))
					slices.SortFunc(heard.Sources, netip.Addr.Compare)
					if !reflect.DeepEqual(heard, s.heard) {
						t.Errorf("hears %v, want %v", heard, s.heard)
					}
					for src := range 8 {
						want := has[0].Passes(f.s(src)) || has[1].Passes(f.s(src))
						if got := heard.Passes(f.s(src)); got != want {
							t.Errorf("s%d passes: %v", src, got)
						}
					}
					n.run(time.Minute)
					// Sources are in no order that means anything.
					for i, l := range n.log {
						n.log[i] = sortSources(l)
					}
					if s.report == "" {
						n.expect()
					} else {
						n.expect(sameTwice(s.report)...)
					}
				}
			})
		}
	})
}

func sameTwice(s string) []string { return []string{sortSources(s), sortSources(s)} }

func sortSources(s string) string {
	records := strings.Split(s, ", ")
	for i, r := range records {
		w := strings.Fields(r)
		slices.Sort(w[2:])
		records[i] = strings.Join(w, " ")
	}
	slices.Sort(records)
	return strings.Join(records, ", ")
}

// TestChangesMeet: a change that comes while an older one is still to be
// repeated is merged with it, group by group and source by source.
func TestChangesMeet(t *testing.T) {
	each(t, func(t *testing.T, f Family) {
		n := newLink(t, f, Config{})
		n.join(1)
		n.leave(1)
		n.join(1)
		n.join(2)
		n.run(time.Minute)
		n.expect("to-ex g1", "to-in g1", "to-ex g1", "to-ex g2", "to-ex g1, to-ex g2")
		n.listen(3, Filter{}, f.in(1))
		n.listen(3, f.in(1), f.in(2))
		n.run(time.Minute)
		n.expect("allow g3 s1", "allow g3 s2, block g3 s1", "allow g3 s2, block g3 s1")
		// A list that changes while its mode is still being said: the whole
		// again, as often as for a new one.
		n.listen(1, Everyone, f.ex(1))
		n.run(time.Minute)
		n.expect("block g1 s1", "block g1 s1")
		n.listen(3, f.in(2), f.ex(1))
		n.listen(3, f.ex(1), f.ex(1, 2))
		n.run(time.Minute)
		n.expect("to-ex g3 s1", "to-ex g3 s1 s2", "to-ex g3 s1 s2")
		// A source that comes and goes before it was said often enough.
		n.listen(3, f.ex(1, 2), f.ex(1))
		n.listen(3, f.ex(1), f.ex(1, 2))
		n.run(time.Minute)
		n.expect("allow g3 s2", "block g3 s2", "block g3 s2")
	})
}

func TestSilentGroups(t *testing.T) {
	for f, list := range map[Family][]string{IGMP: {"224.0.0.1"}, MLD: {"ff02::1", "ff01::1", "ff00::5", "ff11::5"}} {
		for _, version := range []int{1, 2, 3} {
			if f == MLD && version == 1 {
				continue
			}
			n := newLink(t, f, Config{Force: version})
			for _, a := range list {
				g := netip.MustParseAddr(a)
				if err := n.Listen(n.now, g, Filter{}, Everyone); err != nil {
					t.Error(err)
				}
				if _, ok := n.Filter(g); !ok {
					t.Errorf("%s not joined", a)
				}
				n.query(Query{Group: g, Version: version})
			}
			n.query(Query{MaxDelay: time.Second, Version: version})
			n.Announce(n.now)
			n.run(time.Minute)
			for _, a := range list {
				if err := n.Listen(n.now, netip.MustParseAddr(a), Everyone, Filter{}); err != nil {
					t.Error(err)
				}
			}
			n.run(time.Hour)
			n.expect()
			n.quiet()
		}
		n := newLink(t, f, Config{Silent: true})
		n.join(1)
		n.query(Query{MaxDelay: time.Second})
		n.leave(1)
		n.run(time.Hour)
		n.expect()
		n.quiet()
	}
}

func TestGeneralQuery(t *testing.T) {
	each(t, func(t *testing.T, f Family) {
		n := joined(t, f)
		n.listen(3, Filter{}, f.in(1, 2))
		n.listen(2, Everyone, f.ex(9))
		n.run(time.Minute)
		n.log, n.times = nil, nil
		n.query(Query{MaxDelay: 10 * time.Second, QRV: 2})
		// A second one while the answer is pending does not ask for two.
		n.query(Query{MaxDelay: 10 * time.Second, QRV: 2})
		n.run(time.Minute)
		if at := n.times[0]; at <= 2*time.Minute || at > 130*time.Second {
			t.Errorf("answered at %v", at)
		}
		n.expect("is-ex g1, is-ex g2 s9, is-in g3 s1 s2")
	})
}

func TestGroupQueries(t *testing.T) {
	each(t, func(t *testing.T, f Family) {
		specific := func(sources ...int) Query {
			return Query{Group: f.g(2), MaxDelay: time.Second, Sources: f.list(sources...)}
		}
		included := func(sources ...int) Query {
			q := specific(sources...)
			q.Group = f.g(3)
			return q
		}
		var many []int
		for i := range maxAsked {
			many = append(many, 10+i)
		}
		cut := specific(many...)
		cut.SourcesCut = true
		for _, c := range []struct {
			name    string
			queries []Query
			want    []string
		}{
			{"a group", []Query{specific()}, []string{"is-ex g2 s9"}},
			{"not ours", []Query{{Group: f.g(4), MaxDelay: time.Second}}, nil},
			{"twice the same", []Query{specific(), specific()}, []string{"is-ex g2 s9"}},
			{"sources that are heard", []Query{specific(1, 2, 1)}, []string{"is-in g2 s1 s2"}},
			{"one is not heard", []Query{specific(1, 9)}, []string{"is-in g2 s1"}},
			{"none is heard", []Query{specific(9)}, nil},
			{"sources add up", []Query{specific(1), specific(2, 1)}, []string{"is-in g2 s1 s2"}},
			{"sources, then all of the group", []Query{specific(1), specific()}, []string{"is-ex g2 s9"}},
			{"all of the group, then sources", []Query{specific(), specific(1)}, []string{"is-ex g2 s9"}},
			{"more sources than are kept", []Query{specific(many...), specific(200)}, []string{"is-ex g2 s9"}},
			{"sources cut", []Query{cut}, []string{"is-ex g2 s9"}},
			{"include: the group", []Query{included()}, []string{"is-in g3 s1 s2"}},
			{"include: one of them", []Query{included(2, 3)}, []string{"is-in g3 s2"}},
			{"include: neither", []Query{included(3, 4)}, nil},
			{"a sooner general answer covers it", []Query{{MaxDelay: 1}, specific()}, []string{"is-ex g1, is-ex g2 s9, is-in g3 s1 s2"}},
		} {
			t.Run(c.name, func(t *testing.T) {
				n := joined(t, f)
				n.t = t
				n.listen(2, Everyone, f.ex(9))
				n.listen(3, Filter{}, f.in(1, 2))
				n.run(time.Minute)
				n.log = nil
				for _, q := range c.queries {
					n.query(q)
				}
				n.run(time.Minute)
				n.expect(c.want...)
				if n.Deadline() != 0 {
					t.Errorf("deadline %v", n.Deadline())
				}
			})
		}
	})
}

func TestLeavingCancelsTheAnswer(t *testing.T) {
	each(t, func(t *testing.T, f Family) {
		n := joined(t, f)
		n.query(Query{Group: f.g(2), MaxDelay: 10 * time.Second, QRV: 1})
		n.leave(2)
		n.run(time.Minute)
		n.expect("to-in g2") // robustness 1: once
	})
}

func TestRobustnessOfTheQuerier(t *testing.T) {
	each(t, func(t *testing.T, f Family) {
		n := joined(t, f)
		n.query(Query{QRV: 4})
		n.run(time.Second)
		n.log = nil
		n.join(3)
		n.run(time.Minute)
		n.expect("to-ex g3", "to-ex g3", "to-ex g3", "to-ex g3")
		n.query(Query{}) // 0: above 7, so the default
		n.run(time.Second)
		n.log = nil
		n.leave(3)
		n.run(time.Minute)
		n.expect("to-in g3", "to-in g3")
	})
}

func TestAnnounceRepeatsTheJoins(t *testing.T) {
	n := joined(t, MLD)
	n.listen(3, Filter{}, MLD.in(1))
	n.run(time.Minute)
	n.log = nil
	n.Announce(n.now)
	n.run(time.Minute)
	n.expect("to-ex g1, to-ex g2, allow g3 s1", "to-ex g1, to-ex g2, allow g3 s1")
	n = newLink(t, MLD, Config{Force: 2})
	n.join(1)
	n.run(time.Minute)
	n.log = nil
	n.Announce(n.now)
	n.run(time.Minute)
	n.expect("v2 report g1", "v2 report g1")
}

// TestReportsFit: many groups go out in several reports, many sources in several
// records, but for what is excluded.
func TestReportsFit(t *testing.T) {
	each(t, func(t *testing.T, f Family) {
		n := newLink(t, f, Config{})
		for i := range 400 {
			n.join(i)
		}
		n.run(time.Minute)
		n.log, n.sizes = nil, nil
		n.query(Query{MaxDelay: time.Second})
		n.run(time.Minute)
		records := 0
		for _, s := range n.sizes {
			records += (s - reportLen) / f.recordLen(Record{})
		}
		if want := (400*f.recordLen(Record{}) + 1223) / 1224; len(n.sizes) != want || records != 400 {
			t.Errorf("%d records in %d reports, want %d", records, len(n.sizes), want)
		}

		var all []int
		for i := range 500 {
			all = append(all, i)
		}
		n = newLink(t, f, Config{})
		n.listen(1, Filter{}, f.in(all...))
		seen := 0
		for _, l := range n.log {
			seen += strings.Count(l, " s")
		}
		if seen != 500 {
			t.Errorf("%d of 500 sources included, in %d reports", seen, len(n.log))
		}
		n = newLink(t, f, Config{})
		n.listen(1, Filter{}, f.ex(all...))
		if most := f.fits(n.MaxReport); len(n.log) != 1 || strings.Count(n.log[0], " s") != min(500, most) {
			t.Errorf("%d reports, the first with %d sources excluded", len(n.log), strings.Count(n.log[0], " s"))
		}
	})
}

func TestBounds(t *testing.T) {
	each(t, func(t *testing.T, f Family) {
		n := newLink(t, f, Config{})
		for i := range MaxGroups {
			n.join(i)
		}
		if err := n.Listen(n.now, f.g(MaxGroups), Filter{}, Everyone); err != syscall.ENOBUFS {
			t.Errorf("one group too many: %v", err)
		}
		n.join(5) // of what is there already there can be more
		var all []int
		for i := range MaxSources {
			all = append(all, i)
		}
		n.listen(1, Filter{}, f.ex(all...))
		if err := n.Listen(n.now, f.g(1), Filter{}, f.in(MaxSources)); err != syscall.ENOBUFS {
			t.Errorf("one source too many: %v", err)
		}
		n.listen(1, Filter{}, f.in(3))
		n.run(time.Hour)
		n.listen(1, f.in(3), Filter{})
		n.listen(1, f.ex(all...), Filter{})
		n.leave(5)
		for i := range MaxGroups {
			n.leave(i)
		}
		n.run(time.Hour)
		n.quiet()
	})
}
