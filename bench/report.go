package main

// This file owns the numbers once they are measured: what is computed from
// them, the tables on stdout and docs/benchmarks.json.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"
)

// report is what benchmarks.json holds.
type report struct {
	Date    string   `json:"date"`
	Quick   bool     `json:"quick,omitempty"`
	Rounds  int      `json:"rounds"`
	CC      string   `json:"congestion_control"`
	Machine machine  `json:"machine"`
	Others  *summary `json:"cores_busy_with_other_work"`
	// Peers in the order of columns.
	Peers   []column  `json:"peers"`
	Startup *summary  `json:"startup_ms"`
	Idle    idle      `json:"idle"`
	Results []*result `json:"results"`
	Ceiling []*bound  `json:"ceiling,omitempty"`

	startup, others []float64
}

type column struct {
	Name  string `json:"name"`
	About string `json:"about"`
}

// result is one metric of all peers.
type result struct {
	metric
	Values map[string]*summary `json:"values"` // by peer
	// Ratios of this stack to each other peer, round by round: of what, to
	// what.
	Ratios map[string]map[string]*summary `json:"ratios"`

	samples map[string][]float64
}

// summary is what is left of the samples of all rounds.
type summary struct {
	Median  float64   `json:"median"`
	Min     float64   `json:"min"`
	Max     float64   `json:"max"`
	Samples []float64 `json:"samples"`
}

// summarize needs at least one sample.
func summarize(samples []float64) *summary {
	samples = slices.Clone(samples)
	for i, x := range samples {
		samples[i] = significant(x)
	}
	sorted := slices.Sorted(slices.Values(samples))
	n := len(sorted)
	return &summary{
		Median: significant((sorted[(n-1)/2] + sorted[n/2]) / 2),
		Min:    sorted[0], Max: sorted[n-1], Samples: samples,
	}
}

// significant rounds to four digits; more of them are noise.
func significant(x float64) float64 {
	y, _ := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 4, 64), 64)
	return y
}

func newReport(o *options, peers []peer) *report {
	r := &report{
		Date: time.Now().UTC().Format(time.DateOnly), Quick: o.quick, Rounds: o.rounds, CC: o.cc, Machine: thisMachine(),
	}
	for _, p := range peers {
		r.Peers = append(r.Peers, column{p.name(), p.about()})
	}
	return r
}

// add notes a value of the current round.
func (r *report) add(m metric, peer string, value float64) {
	i := slices.IndexFunc(r.Results, func(x *result) bool { return x.Key == m.Key })
	if i < 0 {
		i = len(r.Results)
		r.Results = append(r.Results, &result{metric: m, samples: make(map[string][]float64)})
	}
	r.Results[i].samples[peer] = append(r.Results[i].samples[peer], value)
}

// addCeilings notes the values of bounds.
func (r *report) addCeilings(values []float64) {
	if r.Ceiling == nil {
		r.Ceiling = bounds()
	}
	for i, v := range values {
		r.Ceiling[i].samples = append(r.Ceiling[i].samples, v)
	}
}

// finish computes what is computed once all rounds are over.
func (r *report) finish() {
	r.Startup, r.Others = summarize(r.startup), summarize(r.others)
	r.Idle.RSS, r.Idle.CPU = significant(r.Idle.RSS), significant(r.Idle.CPU)
	for _, b := range r.Ceiling {
		b.Value = summarize(b.samples)
	}
	for _, x := range r.Results {
		x.Values, x.Ratios = make(map[string]*summary), make(map[string]map[string]*summary)
		for name, samples := range x.samples {
			x.Values[name] = summarize(samples)
		}
		for _, of := range []string{ours, oursPlain} {
			x.Ratios[of] = make(map[string]*summary)
			for name, samples := range x.samples {
				if n := len(x.samples[of]); name != of && n > 0 {
					ratios := make([]float64, n)
					for i, v := range x.samples[of] {
						ratios[i] = v / samples[i]
					}
					x.Ratios[of][name] = summarize(ratios)
				}
			}
		}
		x.Goals = slices.Clone(x.Goals)
		for i := range x.Goals {
			x.judge(&x.Goals[i])
		}
	}
}

// reached is what a goal is about: a ratio, or a value of the peer itself.
func (x *result) reached(g *goal) *summary {
	if g.To == "" {
		return x.Values[g.Of]
	}
	return x.Ratios[g.Of][g.To]
}

// judge says whether a goal is met, unless one of its peers was not measured.
func (x *result) judge(g *goal) {
	s := x.reached(g)
	switch {
	case s == nil:
	case x.Lower && s.Median > g.Bound || !x.Lower && s.Median < g.Bound:
		g.Met = "no"
	default:
		g.Met = "yes"
	}
}

// num is a number with as many digits as are worth reading.
func num(x float64) string {
	switch digits := 2 - int(math.Floor(math.Log10(math.Abs(x)))); {
	case x == 0, digits <= 0:
		return strconv.FormatFloat(x, 'f', 0, 64)
	default:
		return strconv.FormatFloat(x, 'f', min(digits, 2), 64)
	}
}

// String of a nil summary is that of what was not measured.
func (s *summary) String() string {
	if s == nil {
		return "–"
	}
	return fmt.Sprintf("%s [%s-%s]", num(s.Median), num(s.Min), num(s.Max))
}

// short is the median alone.
func (s *summary) short() string {
	if s == nil {
		return "–"
	}
	return num(s.Median)
}

// text is a goal in words.
func (x *result) text(g *goal) string {
	sign := "≥"
	if x.Lower {
		sign = "≤"
	}
	say := func(bound float64) string {
		if g.To == "" {
			return fmt.Sprintf("%s %s %s", sign, num(bound), x.Unit)
		}
		return fmt.Sprintf("%s %s ×", sign, num(bound))
	}
	if g.Stretch != 0 {
		return fmt.Sprintf("%s (%s)", say(g.Bound), say(g.Stretch))
	}
	return say(g.Bound)
}

// print writes the tables for the terminal.
func (r *report) print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(cells ...string) {
		for _, c := range cells {
			fmt.Fprint(t, c, "\t")
		}
		fmt.Fprintln(t)
	}
	row("goal", "of", "to", "median [min-max]", "wanted", "met")
	for _, x := range r.Results {
		for _, g := range x.Goals {
			row(x.Title, g.Of, g.To, x.reached(&g).String(), x.text(&g), g.Met)
		}
	}
	row("")
	head := []string{"median", "unit"}
	for _, p := range r.Peers {
		head = append(head, p.Name)
	}
	row(head...)
	for _, x := range r.Results {
		cells := []string{x.Title, x.Unit}
		for _, p := range r.Peers {
			cells = append(cells, x.Values[p.Name].short())
		}
		row(cells...)
	}
	for _, b := range r.Ceiling {
		row("ceiling: "+b.Title, "MB/s", b.Value.short())
	}
	t.Flush()
	fmt.Fprintf(w, "\nstart-up to ready, without DAD: %v ms\n", r.Startup)
	fmt.Fprintf(w, "idle: %s µs of CPU in a second, %s MB resident, %d goroutines, %d of them the stack's\n",
		num(r.Idle.CPU), num(r.Idle.RSS), r.Idle.Goroutines, r.Idle.StackGoroutines)
	fmt.Fprintf(w, "%d rounds on %s, %d cores, %s, %s; other work kept %v cores busy\n",
		r.Rounds, r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel, r.Machine.Go, r.Others)
}

// numbers is a list of them, which reads better on one line.
var numbers = regexp.MustCompile(`\[[-+0-9.e,\s]+\]`)

// write makes the three documents.
func (r *report) write(dir string) error {
	j, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	j = numbers.ReplaceAllFunc(j, func(list []byte) []byte {
		return append(append([]byte{'['}, bytes.Join(bytes.Fields(list[1:len(list)-1]), []byte{' '})...), ']')
	})
	if err := os.WriteFile(filepath.Join(dir, "benchmarks.json"), append(j, '\n'), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "benchmarks.svg"), r.chart(), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "benchmarks.md"), r.markdown(), 0o644)
}
