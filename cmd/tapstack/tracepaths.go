package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/tapstack/tapstack/probe"
)

// This file owns what --ecmp prints: all ways that were found, and how each fared.

// pathsReport is what --ecmp -j prints.
type pathsReport struct {
	Dst      string     `json:"dst"`
	Reached  bool       `json:"reached"`
	Complete bool       `json:"complete"`
	Width    int        `json:"width"`
	Probes   int        `json:"probes"`
	Nodes    []pathNode `json:"nodes"`
	Edges    []pathEdge `json:"edges"`
	Paths    []pathLine `json:"paths"`
}

// pathLine is a way and how it fared.
type pathLine struct {
	Routers []string `json:"routers"`
	SrcPort uint16   `json:"source_port,omitempty"`
	EchoSum uint16   `json:"echo_checksum,omitempty"`
	Label   uint32   `json:"flow_label,omitempty"`
	Loss    float64  `json:"Loss%"`
	Snt     int      `json:"Snt"`
	Best    float64  `json:"Best"`
	Avg     float64  `json:"Avg"`
	Wrst    float64  `json:"Wrst"`
}

type pathNode struct {
	TTL   int     `json:"ttl"`
	Addr  string  `json:"address"`
	Flows int     `json:"flows"`
	Lost  float64 `json:"Loss%"`
	Best  float64 `json:"Best"`
}

type pathEdge struct {
	TTL  int    `json:"ttl"`
	From string `json:"from"`
	To   string `json:"to"`
}

// paths is --ecmp.
func (o *traceOptions) paths(ctx context.Context, out io.Writer, p *probe.Prober, host string, q probe.Request, names *traceNames) (int, error) {
	q.Timeout = min(q.Timeout, time.Second)
	r := p.Paths(ctx, probe.PathsRequest{Request: q, FirstTTL: uint8(o.first), MaxTTL: uint8(o.last), Confidence: o.confidence, MaxFlows: o.flows, MaxUnknown: min(o.unknown, 5),
		Cycles: o.cycles, Interval: time.Duration(o.interval)})
	if r.Err != nil {
		return 2, failed(host, r.Err)
	}
	for _, n := range r.Nodes {
		names.Of(n.Addr)
	}
	names.settle(ctx)
	w := &traceOutput{o: o, names: names}
	text := w.name
	if o.json {
		j := pathsReport{Dst: host, Reached: r.Reached, Complete: r.Complete, Width: r.Width, Probes: r.Probes, Nodes: []pathNode{}, Edges: []pathEdge{}}
		for _, n := range r.Nodes {
			j.Nodes = append(j.Nodes, pathNode{n.TTL, text(n.Addr), n.Flows, pathLoss(&n), ms(n.Best)})
		}
		for _, e := range r.Edges {
			j.Edges = append(j.Edges, pathEdge{e.TTL, text(e.From), text(e.To)})
		}
		j.Paths = []pathLine{}
		for i := range r.Paths {
			j.Paths = append(j.Paths, pathOf(&r.Paths[i], text))
		}
		_ = writeJSON(out, j) // a pipe that nobody reads
	} else {
		for _, n := range r.Nodes {
			fmt.Fprintf(out, "%3d  %-39s %4d flows  %5.1f%% loss  %8.3f ms", n.TTL, text(n.Addr), n.Flows, pathLoss(&n), ms(n.Best))
			arrow := "  >"
			for _, e := range r.Edges {
				if e.TTL == n.TTL && e.From == n.Addr {
					fmt.Fprintf(out, "%s %s", arrow, text(e.To))
					arrow = ","
				}
			}
			fmt.Fprintln(out)
		}
		fmt.Fprintf(out, "%d ways side by side at most, %d probes", r.Width, r.Probes)
		if r.Complete {
			fmt.Fprintf(out, "; each router had as many flows as %g %% confidence takes\n", 100*o.confidence)
		} else {
			fmt.Fprintf(out, "; there may be more: %d flows were not enough\n", o.flows)
		}
		for i := range r.Paths {
			x := pathOf(&r.Paths[i], text)
			fmt.Fprintf(out, "way %-3d %5.1f%% loss of %d  best %.1f avg %.1f worst %.1f ms  %s\n", i+1, x.Loss, x.Snt, x.Best, x.Avg, x.Wrst, strings.Join(x.Routers, " > "))
		}
		if !r.Reached {
			fmt.Fprintf(out, "%s was not reached\n", host)
		}
	}
	if !r.Reached {
		return 1, nil
	}
	return 0, nil
}

func pathLoss(n *probe.PathNode) float64 { return 100 * float64(n.Lost) / float64(cmp.Or(n.Sent, 1)) }

// pathOf are the figures of a way: those of its last hop.
func pathOf(x *probe.FlowPath, text func(netip.Addr) string) pathLine {
	l := pathLine{Routers: []string{}, SrcPort: x.SrcPort, EchoSum: x.EchoSum, Label: x.FlowLabel, Loss: x.Loss()}
	for _, a := range x.Routers {
		l.Routers = append(l.Routers, text(a))
	}
	if n := len(x.Trace.Hops); n > 0 {
		h := &x.Trace.Hops[n-1]
		l.Snt, l.Best, l.Avg, l.Wrst = h.Sent, ms(h.Stats.Best), ms(h.Stats.Avg()), ms(h.Stats.Wrst)
	}
	return l
}
