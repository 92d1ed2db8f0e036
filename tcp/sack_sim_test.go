package tcp

import (
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/seq"
)

// bulk sends n bytes one way as fast as the cores let it, over a path of delay
// each way that loses the given part of the segments in both directions. It
// returns the time taken and the sender's numbers.
func bulk(t *testing.T, seed uint64, n int, delay, jitter time.Duration, loss float64) (time.Duration, Info) {
	s := newSim(t, seed)
	s.delay, s.jitter, s.loss, s.dup = delay, jitter, loss, 0
	return s.bulk(seed, n, func() {})
}

// bulk is that over s as it is. step is called before each thing that happens.
func (s *sim) bulk(seed uint64, n int, step func()) (time.Duration, Info) {
	for i := range s.end {
		s.end[i].cfg = Config{LocalPort: 10 + uint16(i), RemotePort: 11 - uint16(i), MSS: 1460, IPHeader: 20,
			ISS: seq.Num(seed * 12345), RcvBuf: 4 << 20, SndBuf: 4 << 20}
		s.end[i].limit = 65536 - 60
	}
	snd, rcv := &s.end[0], &s.end[1]
	snd.c = NewActive(&snd.cfg, s.now)
	s.flush(0)
	start, buf := s.now, make([]byte, 64<<10)
	steps := 0
	for rcv.got < n {
		step()
		// The path is a queue unless it reorders: deliver the earliest.
		which, next := -1, mono.Time(0)
		for k := range s.net {
			if f := &s.net[k]; which < 0 || f.at < next || f.at == next && f.ord < s.net[which].ord {
				which, next = k, f.at
			}
		}
		timer := -1
		for i := range s.end {
			var d mono.Time
			if e := &s.end[i]; e.c != nil {
				d = e.c.Deadline()
			} else if e.req != nil {
				d = e.req.Deadline()
			}
			if d != 0 && (timer < 0 && which < 0 || d < next) {
				timer, next = i, d
			}
		}
		s.now = max(s.now, next)
		switch {
		case timer >= 0:
			if e := &s.end[timer]; e.c != nil {
				e.c.Expire(s.now)
			} else {
				e.req.Expire(s.now)
			}
			s.flush(timer)
		case which >= 0:
			f := s.net[which]
			s.net[which] = s.net[len(s.net)-1]
			s.net = s.net[:len(s.net)-1]
			s.deliver(f.to, f.raw, f.ecn)
		default:
			s.fatal("nothing happens")
		}
		if snd.c.State() == Established && snd.wrote < n && snd.c.Writable() >= len(buf) {
			m, _ := snd.c.Write(buf[:min(len(buf), n-snd.wrote)])
			snd.wrote += m
			s.flush(0)
		}
		if rcv.c != nil && rcv.c.Readable() > 0 {
			m, _ := rcv.c.Read(buf)
			rcv.got += m
			clear(buf)
			s.flush(1)
		}
		if steps++; steps > 5_000_000 || s.now.Sub(start) > time.Hour {
			s.fatal("not finished")
		}
	}
	return s.now.Sub(start), snd.c.Info()
}

// What SACK is for: at 2 % loss hardly a loss ends in a time-out.
func TestLossWithSACK(t *testing.T) {
	n := 20 << 20
	if raceEnabled || testing.Short() {
		n = 4 << 20
	}
	for seed := range uint64(3) {
		d, i := bulk(t, seed, n, 100*time.Microsecond, 0, 0.02)
		t.Logf("%v, %.0f Mbit/s: %+v", d, float64(n)*8/d.Seconds()/1e6, i)
		if i.Timeouts*100 > 3*i.Retransmits {
			t.Errorf("%d time-outs for %d retransmissions", i.Timeouts, i.Retransmits)
		}
	}
}

// A path that only reorders is not taken for one that loses, once it is known;
// and where it loses as well, that is repaired all the same.
func TestReorderingWithSACK(t *testing.T) {
	for seed := range uint64(3) {
		_, i := bulk(t, seed, 2<<20, 20*time.Millisecond, 4*time.Millisecond, 0)
		if i.Timeouts > 0 || i.Retransmits > 60 {
			t.Errorf("reordering: %d time-outs, %d retransmissions of %d segments", i.Timeouts, i.Retransmits, i.SegmentsOut)
		}
		_, i = bulk(t, seed, 2<<20, 20*time.Millisecond, 4*time.Millisecond, 0.02)
		if i.Timeouts > 3 || i.Retransmits > 300 {
			t.Errorf("with loss: %d time-outs, %d retransmissions of %d segments", i.Timeouts, i.Retransmits, i.SegmentsOut)
		}
		t.Logf("%+v", i)
	}
}

// A path that suddenly becomes slow, and later fast again, costs next to no
// repetition: however the sender learns that its time-outs were spurious.
func TestDelaySpikes(t *testing.T) {
	for _, c := range []struct {
		name         string
		noSack, noTS bool
	}{
		{"SACK and timestamps", false, false},
		{"SACK", false, true},
		{"timestamps", true, false},
		{"neither", true, true},
	} {
		s := newSim(t, 5)
		s.loss, s.dup, s.jitter, s.delay = 0, 0, 0, 20*time.Millisecond
		s.noSack, s.noTS = c.noSack, c.noTS
		start := s.now
		var last mono.Time
		d, i := s.bulk(5, 2<<20, func() {
			// Now and then what is sent takes 300 ms longer; nothing overtakes.
			s.delay = 20 * time.Millisecond
			if since := s.now.Sub(start); since > 100*time.Millisecond && since%(2*time.Second) < 200*time.Millisecond {
				s.delay = 320 * time.Millisecond
			}
			for k := range s.net {
				last = max(last, s.net[k].at)
			}
			s.delay = max(s.delay, last.Sub(s.now))
		})
		t.Logf("%s: %v, %d time-outs, %d found spurious by F-RTO, %d undone, %d of %d segments again", c.name, d,
			i.Timeouts, i.SpuriousTimeouts, i.Undos, i.Retransmits, i.SegmentsOut)
		if i.Timeouts == 0 {
			t.Errorf("%s: no time-out", c.name)
		}
		if i.Retransmits > 4 || i.Undos == 0 || i.SpuriousTimeouts == 0 && c.noTS {
			t.Errorf("%s: %d segments were sent again, %d undone", c.name, i.Retransmits, i.Undos)
		}
	}
}
