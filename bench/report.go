package main

// This file owns the numbers once they are measured: what is computed from
// them, the table on stdout and docs/benchmarks.json.

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
	// Peers in the order of columns; ratios are of the first to the others.
	Peers   []column  `json:"peers"`
	Startup *summary  `json:"startup_ms"`
	Idle    idle      `json:"idle"`
	Results []*result `json:"results"`

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
	// Ratios of the first peer to each other, round by round.
	Ratios map[string]*summary `json:"ratios"`

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

// finish computes what is computed once all rounds are over.
func (r *report) finish() {
	r.Startup, r.Others = summarize(r.startup), summarize(r.others)
	r.Idle.RSS, r.Idle.CPU = significant(r.Idle.RSS), significant(r.Idle.CPU)
	first := r.Peers[0].Name
	for _, x := range r.Results {
		x.Values, x.Ratios = make(map[string]*summary), make(map[string]*summary)
		for _, p := range r.Peers {
			x.Values[p.Name] = summarize(x.samples[p.Name])
			if p.Name == first {
				continue
			}
			ratios := make([]float64, r.Rounds)
			for i, v := range x.samples[first] {
				ratios[i] = v / x.samples[p.Name][i]
			}
			x.Ratios[p.Name] = summarize(ratios)
		}
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

func (s *summary) String() string {
	return fmt.Sprintf("%s [%s-%s]", num(s.Median), num(s.Min), num(s.Max))
}

// met says whether the goal of a result is met: "yes", "no" or "" without one.
func (x *result) met() string {
	if x.Goal == 0 {
		return ""
	}
	if ratio := x.Ratios[x.To].Median; x.Lower && ratio > x.Goal || !x.Lower && ratio < x.Goal {
		return "no"
	}
	return "yes"
}

// goal is it in words.
func (x *result) goal() string {
	if x.Goal == 0 {
		return ""
	}
	bound := "≥"
	if x.Lower {
		bound = "≤"
	}
	return fmt.Sprintf("%s %s × %s", bound, num(x.Goal), x.To)
}

// print writes the table for the terminal.
func (r *report) print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(cells ...string) {
		for _, c := range cells {
			fmt.Fprint(t, c, "\t")
		}
		fmt.Fprintln(t)
	}
	head := []string{"median [min-max]", "unit"}
	for _, p := range r.Peers {
		head = append(head, p.Name)
	}
	for _, p := range r.Peers[1:] {
		head = append(head, "/ "+p.Name)
	}
	row(append(head, "goal", "met")...)
	for _, x := range r.Results {
		cells := []string{x.Title, x.Unit}
		for _, p := range r.Peers {
			cells = append(cells, x.Values[p.Name].String())
		}
		for _, p := range r.Peers[1:] {
			cells = append(cells, x.Ratios[p.Name].String())
		}
		row(append(cells, x.goal(), x.met())...)
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

// write makes the two documents.
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
	return os.WriteFile(filepath.Join(dir, "benchmarks.md"), r.markdown(), 0o644)
}
