package iperf3

import (
	"context"
	"fmt"
	"net"
	"time"
)

// Dial is how a client gets a connection to the server.
type Dial func(ctx context.Context) (net.Conn, error)

// Run asks a server for a test and makes it: for p.Seconds, or until p.Bytes
// have been sent. Zero fields of p mean 10 s, one stream and blocks of 128 KB.
func Run(ctx context.Context, dial Dial, p Params) (sum Summary, err error) {
	p.TCP = true
	if p.Streams == 0 {
		p.Streams = 1
	}
	if p.Block == 0 {
		p.Block = 128 << 10
	}
	if p.Seconds == 0 && p.Bytes == 0 && p.Blocks == 0 {
		p.Seconds = 10
	}
	sum.Params = p
	if err := p.check(); err != nil {
		return sum, err
	}
	conn, err := dial(ctx)
	if err != nil {
		return sum, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	c, name := control{conn}, cookie()
	if _, err := c.Write(name[:]); err != nil {
		return sum, err
	}
	if err := c.await(paramExchange); err != nil {
		return sum, err
	}
	if err := c.sendJSON(p); err != nil {
		return sum, err
	}
	if err := c.await(createStreams); err != nil {
		return sum, err
	}
	var list []*stream
	defer func() {
		for _, st := range list {
			st.Close()
		}
	}()
	streams := p.Streams
	if p.Bidirectional {
		streams *= 2
	}
	for n := range streams {
		conn, err := dial(ctx)
		if err != nil {
			return sum, fmt.Errorf("stream %d: %w", n+1, err)
		}
		sends := !p.Reverse
		if p.Bidirectional {
			sends = n < p.Streams
		}
		list = append(list, &stream{Conn: conn, id: streamID(n), sends: sends})
		if _, err := conn.Write(name[:]); err != nil {
			return sum, fmt.Errorf("stream %d: %w", n+1, err)
		}
	}
	for _, state := range []byte{testStart, testRunning} {
		if err := c.await(state); err != nil {
			return sum, err
		}
	}
	run := start(&p, list)
	waitFor(ctx, &p, run)
	sum.Took = run.end(ctx)
	if err := ctx.Err(); err != nil {
		_ = c.sendState(clientTerminate)
		return sum, err
	}
	sum.count(list)
	if err := c.sendState(testEnd); err != nil {
		return sum, err
	}
	// A server that is sending notices after a while.
	if err := c.await(exchangeResults); err != nil {
		return sum, err
	}
	if err := c.sendJSON(resultOf(list, sum.Took)); err != nil {
		return sum, err
	}
	var theirs results
	if err := c.receiveJSON(&theirs); err != nil {
		return sum, err
	}
	for _, r := range theirs.Streams {
		sum.Theirs += r.Bytes
	}
	if err := c.await(displayResults); err != nil {
		return sum, err
	}
	return sum, c.sendState(iperfDone)
}

// waitFor returns when the test has lasted as long as it should.
func waitFor(ctx context.Context, p *Params, run *running) {
	switch {
	case p.Bytes == 0 && p.Blocks == 0:
		t := time.NewTimer(time.Duration(p.Seconds) * time.Second)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	case p.Reverse && !p.Bidirectional:
		run.arrived(ctx)
	default:
		select {
		case <-run.sent:
		case <-ctx.Done():
		}
	}
}
