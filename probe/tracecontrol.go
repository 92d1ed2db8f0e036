package probe

import "time"

// This file owns what somebody who watches a trace may do to it.

// pausedWake is how often a trace that is paused looks at nothing: who has a
// timer hears that the Prober is closed.
const pausedWake = time.Hour

// Pause keeps the trace from sending until Resume; what is under way is still
// heard.
func (t *Tracing) Pause() {
	t.mu.Lock()
	defer t.unlock()
	if t.stop == 0 && !t.over {
		t.paused = true
		t.wake(t.p.Now().Add(pausedWake))
	}
}

// Resume ends Pause.
func (t *Tracing) Resume() {
	t.mu.Lock()
	defer t.unlock()
	if t.paused && !t.over {
		t.paused = false
		t.tick(t.p.Now())
	}
}

// Reset forgets all that was seen and begins anew, with the first cycle.
func (t *Tracing) Reset() {
	t.mu.Lock()
	defer t.unlock()
	if t.over {
		return
	}
	t.life++
	t.hops, t.cycle, t.last, t.met, t.reached, t.err, t.stop, t.held = nil, 0, 0, 0, false, nil, 0, false
	t.ttl = int(t.q.FirstTTL)
	if !t.paused {
		t.tick(t.p.Now())
	}
}
