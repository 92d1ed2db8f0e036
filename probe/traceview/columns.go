// Package traceview shows what a trace has seen so far on a terminal, as mtr
// does: a table that changes while the trace goes on, and keys that change what
// it shows. It owns as well what a report of a trace has in common with that: the
// columns, the names of routers, their AS numbers, and the notes beneath a hop.
//
// The view is driven by its caller: Draw puts it on a screen, Key takes a key.
// Run does both until the user has seen enough.
package traceview

import (
	"fmt"
	"strings"
	"time"

	"github.com/tapstack/tapstack/probe"
)

// This file owns the columns, by mtr's letters.

// DefaultOrder are the columns of mtr's report.
const DefaultOrder = "LS NABWV"

// Column is a figure of a hop.
type Column struct {
	Letter byte
	Name   string // at most six characters
	Title  string // what it is
	Format string // of fmt, for Value
	Value  func(*probe.Hop) float64
}

// Whole reports whether it counts something.
func (c *Column) Whole() bool { return c.Format == "%.0f" }

func times(f func(*probe.Stats) time.Duration) func(*probe.Hop) float64 {
	return func(h *probe.Hop) float64 { return float64(f(&h.Stats).Nanoseconds()) / 1e6 }
}

// Columns are all there are.
var Columns = []Column{
	{'L', "Loss%", "loss", "%.1f%%", func(h *probe.Hop) float64 { return h.Loss() }},
	{'D', "Drop", "lost probes", "%.0f", func(h *probe.Hop) float64 { return float64(h.Sent - h.Pending - h.Received) }},
	{'R', "Rcv", "answers", "%.0f", func(h *probe.Hop) float64 { return float64(h.Received) }},
	{'S', "Snt", "probes", "%.0f", func(h *probe.Hop) float64 { return float64(h.Sent) }},
	{'N', "Last", "last round trip, ms", "%.1f", times(func(s *probe.Stats) time.Duration { return s.Last })},
	{'B', "Best", "shortest", "%.1f", times(func(s *probe.Stats) time.Duration { return s.Best })},
	{'A', "Avg", "mean", "%.1f", times((*probe.Stats).Avg)},
	{'W', "Wrst", "longest", "%.1f", times(func(s *probe.Stats) time.Duration { return s.Wrst })},
	{'V', "StDev", "standard deviation", "%.1f", times((*probe.Stats).SampleDev)},
	{'G', "Gmean", "geometric mean", "%.1f", times((*probe.Stats).GMean)},
	{'J', "Jttr", "last jitter", "%.1f", times(func(s *probe.Stats) time.Duration { return s.Jitter })},
	{'M', "Javg", "mean jitter", "%.1f", times((*probe.Stats).JitterAvg)},
	{'X', "Jmax", "largest jitter", "%.1f", times(func(s *probe.Stats) time.Duration { return s.JitterMax })},
	{'I', "Jint", "jitter as of RFC 1889", "%.1f", times(func(s *probe.Stats) time.Duration { return s.JitterInt })},
}

// Order returns the columns with these letters; blanks between them are for the
// eye only.
func Order(letters string) (list []*Column, err error) {
next:
	for i := range len(letters) {
		for k := range Columns {
			if Columns[k].Letter == letters[i] {
				list = append(list, &Columns[k])
				continue next
			}
		}
		if letters[i] != ' ' {
			return nil, fmt.Errorf("there is no field %q; fields are %s", letters[i], Fields())
		}
	}
	return list, nil
}

// Fields lists the letters and names.
func Fields() string {
	var list []string
	for _, c := range Columns {
		list = append(list, string(c.Letter)+" "+c.Name)
	}
	return strings.Join(list, ", ")
}
