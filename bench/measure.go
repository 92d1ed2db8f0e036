package main

// This file owns the order of things: rounds, in each of which every test runs
// on every peer, so that whatever else the machine does meets all alike.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/tapstack/tapstack/internal/lab"
)

// hosts is how many devices the lab has for the peers that need one.
const hosts = 4

// peers in the order of the columns. The first is what all is about.
func peers(o *options) []peer {
	list := []peer{&tapstack{device: 0}}
	if os.Getenv(lab.EnvDev) == "" { // there are TAPs
		list = append(list, &tapstack{device: 1, plain: true}, &gvisor{device: 2}, &gvisor{device: 3, software: true})
	}
	return append(list,
		&gvisorPair{pair{n: 1}},
		&kernel{pair: pair{n: 2}, cc: o.cc},
		&kernel{pair: pair{n: 3}, cc: o.cc, offloads: true},
	)
}

// patience is how long a round waits for a quiet machine.
const patience = 3 * time.Second

func measure(ctx context.Context, o *options) (*report, error) {
	widenPorts()
	list := peers(o)
	l := fullLengths
	if o.quick {
		l = quickLengths
	}
	r := newReport(o, list)
	var err error
	if r.startup, err = startups(ctx, o); err != nil {
		return nil, fmt.Errorf("start-up: %w", err)
	}
	if r.Idle, err = resting(ctx, o); err != nil {
		return nil, fmt.Errorf("idle: %w", err)
	}
	for n := range o.rounds {
		fmt.Fprintf(os.Stderr, "round %d of %d\n", n+1, o.rounds)
		if !o.quick {
			awaitQuiet(ctx, patience)
		}
		if o.only.MatchString("ceiling") && os.Getenv(lab.EnvDev) == "" {
			values, err := ceilings(l.short)
			if err != nil {
				return nil, fmt.Errorf("ceiling: %w", err)
			}
			r.addCeilings(values)
		}
		if err := round(ctx, o, l, n, list, r); err != nil {
			return nil, err
		}
	}
	r.finish()
	return r, nil
}

// round starts every server anew, runs all tests, and ends the servers.
func round(ctx context.Context, o *options, l lengths, n int, list []peer, r *report) (err error) {
	for _, p := range list {
		if err := p.start(ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name(), err)
		}
		defer func() {
			if e := p.stop(); e != nil {
				err = errors.Join(err, fmt.Errorf("%s: %w", p.name(), e))
			}
		}()
		if err := awaitEcho(p); err != nil {
			return fmt.Errorf("%s: %w", p.name(), err)
		}
	}
	other := watchOthers(list)
	for _, t := range tests {
		if !o.only.MatchString(t.name) || t.rounds > 0 && n >= t.rounds {
			continue
		}
		// Each time another peer is the first.
		for i := range list {
			p := list[(i+n)%len(list)]
			if !t.measures(p.name()) {
				continue
			}
			values, err := t.run(p, l, o.cc)
			if err != nil {
				return fmt.Errorf("%s, %s, round %d: %w", p.name(), t.name, n+1, err)
			}
			for i, m := range t.metrics {
				r.add(m, p.name(), values[i])
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
	r.others = append(r.others, other.cores())
	return nil
}

// measures says whether the test is run on a peer.
func (t *test) measures(name string) bool {
	if t.on == nil {
		return name != gvisorSW
	}
	return t.on(name)
}

// widenPorts lets the client have more ports, as a connection keeps its own
// for a minute. Where that is forbidden the usual number is just enough.
func widenPorts() {
	_ = os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("10000 65535"), 0)
}
