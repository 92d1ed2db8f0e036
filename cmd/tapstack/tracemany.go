package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// This file owns a trace of several hosts: mtr takes one after the other, this
// many at the same time, and prints what it prints in the same order.

// tracedAtOnce is how many hosts are traced together.
const tracedAtOnce = 32

// many traces hosts and prints their reports in their order, each when it and
// those before it are there. A host that cannot be traced is told of on standard
// error, and the others are. JSON is one list.
func (t *tracer) many(ctx context.Context, out io.Writer, hosts []string) (status int, err error) {
	type report struct {
		text   bytes.Buffer
		status int
		err    error
	}
	reports := make([]chan *report, len(hosts))
	for i := range reports {
		reports[i] = make(chan *report, 1)
	}
	turn := make(chan struct{}, tracedAtOnce)
	go func() {
		for i, host := range hosts {
			turn <- struct{}{}
			go func() {
				defer func() { <-turn }()
				r := new(report)
				r.status, r.err = t.one(ctx, &r.text, host)
				reports[i] <- r
			}()
		}
	}()
	list := []json.RawMessage{}
	if t.csv {
		t.csvHeader(out)
	}
	for i, c := range reports {
		r := <-c
		status = max(status, r.status)
		switch {
		case r.err != nil && ctx.Err() != nil:
			err = ctx.Err()
		case r.err != nil:
			host := hosts[i] + ": "
			fmt.Fprintf(os.Stderr, "tapstack: %s%s\n", host, strings.TrimPrefix(r.err.Error(), host))
		case t.json:
			list = append(list, bytes.TrimSpace(r.text.Bytes()))
		default:
			_, _ = out.Write(r.text.Bytes()) // a pipe that nobody reads
		}
	}
	if t.json && err == nil {
		err = writeJSON(out, list)
	}
	return status, err
}
