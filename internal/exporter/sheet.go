package exporter

// This file owns the metrics of one probe. They are in a registry of their own,
// which is forgotten with the answer: nothing grows with the number of targets.

import (
	"hash/fnv"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// sheet is the metrics of one probe.
type sheet struct {
	reg    *prometheus.Registry
	gauges map[string]*prometheus.GaugeVec
}

func newSheet() *sheet {
	return &sheet{prometheus.NewRegistry(), make(map[string]*prometheus.GaugeVec)}
}

// set sets a gauge. labels are names and values by turns, the names the same at
// each call.
func (s *sheet) set(name, help string, v float64, labels ...string) {
	g := s.gauges[name]
	values := make([]string, 0, len(labels)/2)
	names := make([]string, 0, len(labels)/2)
	for i := 0; i < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, labels[i+1])
	}
	if g == nil {
		g = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, names)
		s.reg.MustRegister(g)
		s.gauges[name] = g
	}
	g.WithLabelValues(values...).Set(v)
}

func (s *sheet) seconds(name, help string, d time.Duration, labels ...string) {
	s.set(name, help, d.Seconds(), labels...)
}

func (s *sheet) truth(name, help string, v bool, labels ...string) {
	s.set(name, help, number(v), labels...)
}

func number(v bool) float64 {
	if v {
		return 1
	}
	return 0
}

// lookup says how long the name took. Address is what was probed, if any.
func (s *sheet) lookup(took time.Duration) {
	s.seconds("probe_dns_lookup_time_seconds", "Time that the look-up of the name took", took)
}

func (s *sheet) address(a netip.Addr) {
	family := 4.0
	if a.Is6() {
		family = 6
	}
	h := fnv.New32a()
	h.Write(a.AsSlice())
	s.set("probe_ip_protocol", "4 or 6: the version of IP that was used", family)
	s.set("probe_ip_addr_hash", "Hash of the address, to see whether it changes", float64(h.Sum32()))
}
