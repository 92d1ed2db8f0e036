// Package exporter answers Prometheus: /probe?target=&module= probes a target
// and tells what became of it in the names of blackbox_exporter where they mean
// the same, and in names that begin with tapstack_ for what only a stack of
// one's own can tell; /metrics is about the exporter itself.
//
// This file owns the HTTP side: which requests are taken, how many at a time,
// and for how long.
package exporter

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"html"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/expfmt"

	"github.com/tapstack/tapstack/probe"
	"github.com/tapstack/tapstack/socket"
)

// The defaults of Options.
const (
	DefaultParallel = 64
	// DefaultOffset is by how much a probe ends before Prometheus gives up, so
	// that the answer still gets there.
	DefaultOffset = 500 * time.Millisecond
	// defaultTimeout is that of a probe of which neither Prometheus nor the
	// module say how long it may take.
	defaultTimeout = 10 * time.Second
	// maxWaiting is how many requests may wait for their turn.
	maxWaiting = 1024
)

// Options of an Exporter. Net has to be set.
type Options struct {
	Net socket.System
	// Prober sends echo requests and traces; nil: there is no stack, and
	// modules that need one are refused.
	Prober *probe.Prober
	// Modules are those that may be asked for; nil: Presets.
	Modules map[string]*Module
	// Parallel is how many probes may be under way; 0: DefaultParallel. Others
	// wait, for as long as they may take.
	Parallel int
	Offset   time.Duration // 0: DefaultOffset; negative: none
	// Counters, unless nil, are the stack's, by name.
	Counters func() map[string]uint64
}

// Exporter is an http.Handler.
type Exporter struct {
	o     Options
	mux   http.ServeMux
	slots chan struct{}
	taken chan struct{} // by those in a slot and those that wait for one
	own   *prometheus.Registry

	probes  *prometheus.CounterVec
	refused *prometheus.CounterVec
	took    *prometheus.HistogramVec
	flight  prometheus.Gauge
}

// New makes an Exporter.
func New(o Options) *Exporter {
	if o.Modules == nil {
		o.Modules = Presets()
	}
	o.Parallel, o.Offset = cmp.Or(o.Parallel, DefaultParallel), max(cmp.Or(o.Offset, DefaultOffset), 0)
	e := &Exporter{o: o, slots: make(chan struct{}, o.Parallel), taken: make(chan struct{}, o.Parallel+maxWaiting), own: prometheus.NewRegistry(),
		probes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tapstack_exporter_probes_total",
			Help: "Probes that were made, by module and by whether they succeeded"}, []string{"module", "success"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tapstack_exporter_refused_total",
			Help: "Requests that were refused, by reason"}, []string{"reason"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "tapstack_exporter_probe_duration_seconds",
			Help: "How long probes took", Buckets: prometheus.ExponentialBuckets(0.0005, 4, 9)}, []string{"module"}),
		flight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "tapstack_exporter_probes_in_flight", Help: "Probes that are under way"}),
	}
	for _, r := range []string{reasonModule, reasonTarget, reasonTimeout, reasonBusy, reasonStack} {
		e.refused.WithLabelValues(r)
	}
	e.own.MustRegister(e.probes, e.refused, e.took, e.flight, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if o.Counters != nil {
		e.own.MustRegister(counters{o.Counters})
	}
	e.mux.HandleFunc("GET /probe", e.probe)
	e.mux.Handle("GET /metrics", promhttp.HandlerFor(e.own, promhttp.HandlerOpts{}))
	e.mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "healthy") })
	e.mux.HandleFunc("GET /{$}", e.index)
	return e
}

// ServeHTTP implements http.Handler.
func (e *Exporter) ServeHTTP(w http.ResponseWriter, r *http.Request) { e.mux.ServeHTTP(w, r) }

// Why a request is refused.
const (
	reasonModule  = "module"
	reasonTarget  = "target"
	reasonTimeout = "timeout"
	reasonBusy    = "busy"
	reasonStack   = "no-stack"
)

func (e *Exporter) refuse(w http.ResponseWriter, status int, reason string, err error) {
	e.refused.WithLabelValues(reason).Inc()
	// One line, whatever the error quotes.
	http.Error(w, strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, err.Error()), status)
}

// one returns the value of a parameter that may be given once.
func one(r *http.Request, name string) (string, error) {
	if v := r.Form[name]; len(v) > 1 {
		return "", fmt.Errorf("the parameter %s is given %d times", name, len(v))
	}
	return r.Form.Get(name), nil
}

func (e *Exporter) probe(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		e.refuse(w, http.StatusBadRequest, reasonTarget, fmt.Errorf("the query cannot be read: %w", err))
		return
	}
	q, reason, err := e.request(r)
	if err != nil {
		e.refuse(w, http.StatusBadRequest, reason, err)
		return
	}
	limit, err := e.limit(q.module, r.Header.Get("X-Prometheus-Scrape-Timeout-Seconds"))
	if err != nil {
		e.refuse(w, http.StatusBadRequest, reasonTimeout, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	defer cancel()
	select {
	case e.taken <- struct{}{}:
		defer func() { <-e.taken }()
	default:
		e.refuse(w, http.StatusServiceUnavailable, reasonBusy, fmt.Errorf("%d probes are under way, and %d wait for their turn", e.o.Parallel, maxWaiting))
		return
	}
	select {
	case e.slots <- struct{}{}:
	case <-ctx.Done():
		e.refuse(w, http.StatusServiceUnavailable, reasonBusy, fmt.Errorf("%d probes are under way, and none has ended in time", e.o.Parallel))
		return
	}
	s := newSheet()
	ok, text := e.run(ctx, s, q)
	debug := r.Form.Get("debug") == "true"
	if !debug {
		promhttp.HandlerFor(s.reg, promhttp.HandlerOpts{}).ServeHTTP(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintf(w, "target %s, module %s, at most %v\n\n%s\nsuccess: %v\n\nMetrics:\n", q.text, q.module.name, limit, text, ok)
	list, err := s.reg.Gather()
	var b bytes.Buffer
	for _, f := range list {
		if _, e := expfmt.MetricFamilyToText(&b, f); err == nil {
			err = e
		}
	}
	if err != nil {
		fmt.Fprintln(w, err)
	}
	_, _ = b.WriteTo(w) // to somebody who may have gone
}

// run makes the probe, in a slot that it gives back.
func (e *Exporter) run(ctx context.Context, s *sheet, q *request) (ok bool, text string) {
	defer func() { <-e.slots }()
	e.flight.Inc()
	defer e.flight.Dec()
	begin := time.Now()
	if q.module.packets() {
		ok, text = e.packets(ctx, s, q)
	} else {
		ok, text = e.check(ctx, s, q)
	}
	took := time.Since(begin)
	s.truth("probe_success", "Whether the probe succeeded", ok)
	s.seconds("probe_duration_seconds", "How long the probe took", took)
	e.probes.WithLabelValues(q.module.name, strconv.FormatBool(ok)).Inc()
	e.took.WithLabelValues(q.module.name).Observe(took.Seconds())
	return ok, text
}

// request is what /probe was asked.
type request struct {
	module *Module
	target target
	text   string // of the target
	host   string // ?hostname=: the name to ask for instead of the target's
}

func (e *Exporter) request(r *http.Request) (q *request, reason string, err error) {
	name, err := one(r, "module")
	if err != nil {
		return nil, reasonModule, err
	}
	q = new(request)
	// blackbox_exporter's default is a module for HTTP.
	if q.module = e.o.Modules[cmp.Or(name, "http_2xx")]; q.module == nil {
		return nil, reasonModule, fmt.Errorf("there is no module %q; there are %s", name, strings.Join(e.names(), ", "))
	}
	if q.module.packets() && e.o.Prober == nil {
		return nil, reasonStack, fmt.Errorf("module %s needs a stack of its own, and with --net host there is none", q.module.name)
	}
	if q.text, err = one(r, "target"); err == nil {
		q.target, err = q.module.target(q.text)
	}
	if err == nil {
		if q.host, err = one(r, "hostname"); err == nil && q.host != "" {
			if err = checkHost(q.host); err != nil {
				err = fmt.Errorf("hostname: %w", err)
			}
		}
	}
	return q, reasonTarget, err
}

// limit is how long a probe may take: what the header says less the offset, or
// what the module says if that is less.
func (e *Exporter) limit(m *Module, header string) (time.Duration, error) {
	own := time.Duration(m.Timeout)
	if header == "" {
		return cmp.Or(own, defaultTimeout), nil
	}
	v, err := strconv.ParseFloat(header, 64)
	if err != nil || !(v > 0 && v <= 1e6) {
		return 0, errors.New("X-Prometheus-Scrape-Timeout-Seconds: want seconds, more than 0")
	}
	d := min(time.Duration(v*float64(time.Second)), maxTimeout)
	if d > e.o.Offset {
		d -= e.o.Offset
	}
	if own > 0 {
		d = min(d, own)
	}
	return d, nil
}

func (e *Exporter) names() []string { return slices.Sorted(maps.Keys(e.o.Modules)) }

// index is for people.
func (e *Exporter) index(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprint(w, "<!DOCTYPE html><title>tapstack exporter</title><h1>tapstack exporter</h1><p><a href=\"/metrics\">/metrics</a>, /probe?target=TARGET&amp;module=MODULE, and &amp;debug=true to read why.<ul>")
	for _, n := range e.names() {
		m := e.o.Modules[n]
		fmt.Fprintf(w, "<li>%s (%s): %s", html.EscapeString(n), m.Prober, m.want())
	}
	fmt.Fprintln(w, "</ul>")
}

// counters are the stack's counters as one metric.
type counters struct{ read func() map[string]uint64 }

var counterDesc = prometheus.NewDesc("tapstack_stack_events_total", "What the stack counts, by name", []string{"name"}, nil)

// Describe implements prometheus.Collector.
func (counters) Describe(c chan<- *prometheus.Desc) { c <- counterDesc }

// Collect implements prometheus.Collector.
func (x counters) Collect(c chan<- prometheus.Metric) {
	for name, n := range x.read() {
		c <- prometheus.MustNewConstMetric(counterDesc, prometheus.CounterValue, float64(n), name)
	}
}
