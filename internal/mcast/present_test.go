package mcast

import (
	"testing"
	"time"
)

// TestOlderVersionIsBounded: with the largest variables that a query can name, an
// older querier is believed in for an hour, and not for days; a query of its own
// prolongs it.
func TestOlderVersionIsBounded(t *testing.T) {
	each(t, func(t *testing.T, f Family) {
		n := joined(t, f)
		n.query(Query{QRV: 7, QQI: 31744 * time.Second, MaxDelay: 8387584 * time.Millisecond})
		n.query(Query{Version: 2, MaxDelay: 65535 * time.Millisecond})
		n.run(time.Hour - time.Second)
		if n.Version() != 2 {
			t.Error("back too early")
		}
		n.query(Query{Version: 2, MaxDelay: time.Second})
		n.run(time.Hour - time.Second)
		if n.Version() != 2 {
			t.Error("back although it has asked again")
		}
		n.run(2 * time.Second)
		if n.Version() != 3 {
			t.Errorf("still version %d", n.Version())
		}
	})
}
