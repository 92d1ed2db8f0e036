package probe

import (
	"math"
	"slices"
	"time"
)

// This file owns the numbers that pings and traces report of round trips.

// maxSamples is how many round trips percentiles are taken of; the other figures
// are of all.
const maxSamples = 1 << 20

// Stats are figures of round trips, in the order in which they were measured.
// The zero value has none.
type Stats struct {
	Count            int
	Last, Best, Wrst time.Duration
	// Jitter is the difference of the last two, and JitterAvg, JitterMax,
	// and JitterInt (the running average of RFC 1889 §6.3.1) are of all such.
	Jitter, JitterMax, JitterInt time.Duration

	sum, squares, logs, jitters float64 // of seconds
	rtts                        []time.Duration
}

// Add takes a round trip.
func (s *Stats) Add(d time.Duration) {
	x := d.Seconds()
	if s.Count == 0 {
		s.Best, s.Wrst = d, d
	} else {
		s.Best, s.Wrst = min(s.Best, d), max(s.Wrst, d)
		s.Jitter = (d - s.Last).Abs()
		s.JitterMax = max(s.JitterMax, s.Jitter)
		s.JitterInt += (s.Jitter - s.JitterInt) / 16
		s.jitters += s.Jitter.Seconds()
	}
	s.Last = d
	s.Count++
	s.sum += x
	s.squares += x * x
	s.logs += math.Log(max(x, 1e-9))
	if len(s.rtts) < maxSamples {
		s.rtts = append(s.rtts, d)
	}
}

func seconds(x float64) time.Duration { return time.Duration(math.Round(x * 1e9)) }

// Avg returns the mean, 0 without any.
func (s *Stats) Avg() time.Duration {
	if s.Count == 0 {
		return 0
	}
	return seconds(s.sum / float64(s.Count))
}

// GMean returns the geometric mean.
func (s *Stats) GMean() time.Duration {
	if s.Count == 0 {
		return 0
	}
	return seconds(math.Exp(s.logs / float64(s.Count)))
}

// Dev returns the standard deviation of the whole, which ping calls mdev.
func (s *Stats) Dev() time.Duration {
	if s.Count == 0 {
		return 0
	}
	n := float64(s.Count)
	return seconds(math.Sqrt(max(s.squares/n-s.sum/n*s.sum/n, 0)))
}

// SampleDev returns the standard deviation as of a sample, as mtr prints it; 0
// with fewer than two.
func (s *Stats) SampleDev() time.Duration {
	if s.Count < 2 {
		return 0
	}
	n := float64(s.Count)
	return seconds(math.Sqrt(max((s.squares-s.sum*s.sum/n)/(n-1), 0)))
}

// JitterAvg returns the mean of the differences.
func (s *Stats) JitterAvg() time.Duration {
	if s.Count < 2 {
		return 0
	}
	return seconds(s.jitters / float64(s.Count-1))
}

// Percentile returns the least of the round trips that p per cent of them do
// not exceed (the nearest rank), 0 without any.
func (s *Stats) Percentile(p float64) time.Duration {
	n := len(s.rtts)
	if n == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s.rtts))
	return sorted[min(max(int(math.Ceil(p/100*float64(n)))-1, 0), n-1)]
}

// RTTs returns them in the order of their arrival, the first million.
func (s *Stats) RTTs() []time.Duration { return s.rtts }
