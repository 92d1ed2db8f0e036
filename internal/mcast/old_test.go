package mcast

import (
	"slices"
	"testing"
	"time"
)

// TestVersion2: beside a querier of version 2 the host speaks version 2, until
// none was heard for 2*125 s and the response time (RFC 3376 §7.2.1, RFC 3810
// §8.2.1).
func TestVersion2(t *testing.T) {
	each(t, func(t *testing.T, f Family) {
		n := joined(t, f)
		n.listen(4, Filter{}, f.in(1))
		n.query(Query{MaxDelay: time.Hour}) // pending: cancelled, as the repetition is
		n.query(Query{Version: 2, MaxDelay: 10 * time.Second})
		n.run(time.Minute)
		if n.times[1] == n.times[2] || n.times[3] > 70*time.Second {
			t.Errorf("answers at %v", n.times)
		}
		slices.Sort(n.log[1:])
		n.expect("allow g4 s1", "v2 report g1", "v2 report g2", "v2 report g4")
		n.join(3)
		n.run(30 * time.Second)
		if n.times[1]-n.times[0] > 10*time.Second {
			t.Errorf("repeated at %v", n.times)
		}
		n.leave(3)
		n.query(Query{Group: f.g(2), MaxDelay: time.Second, QRV: 2}) // version 3 is answered in version 2
		n.run(30 * time.Second)
		n.expect("v2 report g3", "v2 report g3", "v2 leave g3", "v2 report g2")
		n.listen(2, Everyone, f.ex(1)) // sources are not spoken of
		n.run(139 * time.Second)
		if n.Version() != 2 {
			t.Error("back too early")
		}
		n.run(2 * time.Second)
		n.query(Query{Group: f.g(2), MaxDelay: time.Second, QRV: 2})
		n.run(time.Minute)
		n.expect("is-ex g2 s1")
	})
}

// TestVersionChangeCancels: what was to be said in one version about single groups
// is not said in the next (RFC 3376 §7.2.1, RFC 3810 §8.2.1).
func TestVersionChangeCancels(t *testing.T) {
	each(t, func(t *testing.T, f Family) {
		n := joined(t, f)
		n.query(Query{Group: f.g(1), MaxDelay: 20 * time.Second, QRV: 2})
		n.query(Query{Version: 2, Group: f.g(2), MaxDelay: time.Second})
		n.run(time.Minute)
		n.expect("v2 report g2")
		// And back: the querier of version 2 is forgotten after 251 s, an answer to
		// it that would come later is not given.
		n.query(Query{Version: 2, Group: f.g(1), MaxDelay: time.Second})
		n.run(2 * time.Second)
		n.expect("v2 report g1")
		n.run(248 * time.Second)
		n.join(5) // whose second report would come within 10 s
		n.run(time.Minute)
		if n.Version() != 3 || len(n.log) > 2 || n.log[0] != "v2 report g5" {
			t.Errorf("version %d, %v", n.Version(), n.log)
		}
		for _, s := range n.log[1:] {
			if s[:2] != "v2" {
				t.Errorf("said in version 3: %s", s)
			}
		}
	})
}

// TestVersion1 is only of IGMP: there is no leave, and a query does not say how
// long it waits.
func TestVersion1(t *testing.T) {
	n := joined(t, IGMP)
	n.query(Query{Version: 1, MaxDelay: responseIntervalV1})
	n.run(time.Minute)
	slices.Sort(n.log)
	n.expect("v1 report g1", "v1 report g2")
	n.join(3)
	n.run(time.Minute)
	n.leave(3)
	n.run(time.Minute)
	n.expect("v1 report g3", "v1 report g3")
	// A querier of version 2 beside it changes nothing until the other is gone.
	n.query(Query{Version: 2, Group: IGMP.g(1), MaxDelay: time.Second})
	n.run(79 * time.Second)
	n.expect("v1 report g1")
	n.run(2 * time.Second)
	n.join(4)
	n.leave(4)
	n.run(time.Minute)
	n.expect("v2 report g4", "v2 leave g4")
	// A version 3 query about one group is one about all to version 1.
	n.query(Query{Version: 1, MaxDelay: responseIntervalV1})
	n.run(time.Minute)
	n.log = nil
	n.query(Query{Group: IGMP.g(1), MaxDelay: time.Millisecond})
	n.run(time.Minute)
	slices.Sort(n.log)
	n.expect("v1 report g1", "v1 report g2")
}

// TestSuppression: another member's report is as good as ours, and who was not
// the last to report does not say that it leaves.
func TestSuppression(t *testing.T) {
	each(t, func(t *testing.T, f Family) {
		n := joined(t, f)
		n.query(Query{Version: 2, MaxDelay: 10 * time.Second})
		n.Heard(f.g(1))
		n.Heard(f.g(77)) // not ours
		n.run(time.Minute)
		n.expect("v2 report g2")
		n.leave(1)
		n.leave(2)
		n.expect("v2 leave g2")
		n.join(3)
		n.Heard(f.g(3)) // what would be repeated need not be
		n.run(time.Minute)
		n.expect("v2 report g3")
		n.leave(3)
		n.expect()
		// In version 3 nothing is suppressed.
		n = joined(t, f)
		n.query(Query{MaxDelay: 10 * time.Second})
		n.Heard(f.g(1))
		n.run(time.Minute)
		n.expect("is-ex g1, is-ex g2")
	})
}

// TestPendingReportMoves: a query that is more urgent than the one before makes
// a pending report come in time, one that is less leaves it where it is.
func TestPendingReportMoves(t *testing.T) {
	each(t, func(t *testing.T, f Family) {
		n := joined(t, f)
		n.query(Query{Version: 2, Group: f.g(1), MaxDelay: time.Hour})
		n.query(Query{Version: 2, Group: f.g(1), MaxDelay: time.Second})
		n.query(Query{Version: 2, Group: f.g(1), MaxDelay: time.Minute})
		n.run(time.Second)
		n.expect("v2 report g1")
		n.run(time.Minute)
		n.expect()
	})
}

// TestForce are Linux's force_igmp_version and force_mld_version.
func TestForce(t *testing.T) {
	for _, c := range []struct {
		f     Family
		force int
		hears int // the version of a query
		want  string
	}{
		{IGMP, 1, 0, "v1 report g1"}, {IGMP, 1, 3, "v1 report g1"}, {IGMP, 2, 0, "v2 report g1"}, {IGMP, 2, 1, "v1 report g1"},
		{IGMP, 2, 3, "v2 report g1"}, {IGMP, 3, 2, "v2 report g1"}, {IGMP, 3, 0, "to-ex g1"},
		{MLD, 2, 0, "v2 report g1"}, {MLD, 2, 3, "v2 report g1"}, {MLD, 3, 2, "to-ex g1"}, {MLD, 3, 3, "to-ex g1"},
	} {
		n := newLink(t, c.f, Config{Force: c.force})
		if c.hears != 0 {
			n.query(Query{Version: c.hears, MaxDelay: time.Second, QRV: 2})
		}
		n.run(time.Second)
		n.join(1)
		n.run(20 * time.Second)
		n.expect(c.want, c.want)
	}
}
