package probe

// This file owns the histogram of round trips. Its bounds are 1, 2 and 5 of each
// power of ten, since round trips spread over orders of magnitude.

import "time"

// Bucket is how many round trips were at least Low, and less than High.
type Bucket struct {
	Low, High time.Duration
	Count     int
}

// Histogram sorts the round trips into buckets, from that of the shortest to that
// of the longest, empty ones between them included. The first million count.
func (s *Stats) Histogram() (list []Bucket) {
	if len(s.rtts) == 0 {
		return nil
	}
	// Above 0 the first bound is a microsecond, below which nothing is measured.
	bounds := []time.Duration{0, time.Microsecond}
	for i := 0; bounds[len(bounds)-1] <= s.Wrst; i++ {
		last := bounds[len(bounds)-1]
		if i%3 == 1 {
			bounds = append(bounds, last/2*5)
		} else {
			bounds = append(bounds, last*2)
		}
	}
	for i := range len(bounds) - 1 {
		list = append(list, Bucket{Low: bounds[i], High: bounds[i+1]})
	}
	for _, d := range s.rtts {
		i := 0
		for i < len(list)-1 && d >= list[i].High {
			i++
		}
		list[i].Count++
	}
	for len(list) > 0 && list[0].Count == 0 {
		list = list[1:]
	}
	for len(list) > 0 && list[len(list)-1].Count == 0 {
		list = list[:len(list)-1]
	}
	return list
}
