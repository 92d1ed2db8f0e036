package stack

import (
	"sync"
	"testing"
)

// newTestWait returns a stack with room for one record, and a connection in its
// table.
func newTestWait(t *testing.T) (*Stack, func(n uint32) *TCPConn) {
	s := New(Config{Seed: 1, Limits: Limits{TimeWait: 1}})
	t.Cleanup(func() { s.Close() })
	return s, func(n uint32) *TCPConn {
		c := &TCPConn{stack: s}
		if err := s.tcp.insert(tupleOf(n), c); err != nil {
			t.Fatal(err)
		}
		return c
	}
}

// TestTimeWaitEvictedAtOnce: whoever is evicted the moment it was queued leaves
// the table, too.
func TestTimeWaitEvictedAtOnce(t *testing.T) {
	s, open := newTestWait(t)
	for round := range uint32(200) {
		var conns [16]*TCPConn
		for k := range conns {
			conns[k] = open(round*16 + uint32(k))
		}
		var wg sync.WaitGroup
		for _, c := range conns {
			wg.Go(func() {
				c.mu.Lock()
				c.removeLocked(new(timeWaitEntry))
				c.mu.Unlock()
			})
		}
		wg.Wait()
		if entries, waiting := s.Table(); entries != 1 || waiting != 1 {
			t.Fatalf("round %d: %d entries, %d of them wait", round, entries, waiting)
		}
	}
}

// TestTimeWaitOverBeforeQueued: a record that a segment has ended is not queued
// any more, nor anything linked twice.
func TestTimeWaitOverBeforeQueued(t *testing.T) {
	s, open := newTestWait(t)
	q := &s.tcp.wait
	e := new(timeWaitEntry)
	if !s.tcp.swap(open(1), e) {
		t.Fatal("not in the table")
	}
	q.remove(e)
	if old := q.add(e); old != nil || q.len() != 0 {
		t.Errorf("%v evicted, %d wait", old, q.len())
	}
	if n, _ := s.Table(); n != 0 {
		t.Errorf("%d entries", n)
	}
	open(2).removeLocked(new(timeWaitEntry))
	if n, waiting := s.Table(); n != 1 || waiting != 1 {
		t.Errorf("%d entries, %d wait", n, waiting)
	}
}
