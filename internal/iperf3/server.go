package iperf3

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Summary is what a test came to.
type Summary struct {
	Params   Params
	Took     time.Duration
	Sent     uint64 // bytes that this side sent,
	Received uint64 // and received
	// Theirs is what the other side says it received, or sent.
	Theirs uint64
}

// String is a line for a log.
func (s Summary) String() string {
	rate := func(n uint64) float64 { return float64(n) * 8 / 1e6 / s.Took.Seconds() }
	return fmt.Sprintf("%d streams, %.1f s: sent %.1f MB (%.0f Mbit/s), received %.1f MB (%.0f Mbit/s)", s.Params.Streams, s.Took.Seconds(),
		float64(s.Sent)/1e6, rate(s.Sent), float64(s.Received)/1e6, rate(s.Received))
}

// Serve takes tests from iperf3 clients, one at a time as iperf3 does, until
// ctx ends or the listener fails. done, unless nil, hears of each.
func Serve(ctx context.Context, ln net.Listener, done func(Summary, error)) error {
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	s := &server{ln: ln}
	for {
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		sum, err := s.test(ctx, control{conn})
		conn.Close()
		if done != nil {
			done(sum, err)
		}
	}
}

type server struct{ ln net.Listener }

// deadliner is a listener whose Accept can be given an end.
type deadliner interface{ SetDeadline(time.Time) error }

// test serves one client.
func (s *server) test(ctx context.Context, c control) (sum Summary, err error) {
	defer context.AfterFunc(ctx, func() { c.Close() })()
	name, err := readCookie(c)
	if err != nil {
		return sum, fmt.Errorf("cookie: %w", err)
	}
	p := &sum.Params
	if err := c.sendState(paramExchange); err != nil {
		return sum, err
	}
	if err := c.receiveJSON(p); err != nil {
		return sum, fmt.Errorf("parameters: %w", err)
	}
	if err := p.check(); err != nil {
		// Two numbers follow: iperf3's error and errno.
		_, _ = c.Write([]byte{serverError, 0, 0, 0, 0, 0, 0, 0, 0})
		return sum, err
	}
	if err := c.sendState(createStreams); err != nil {
		return sum, err
	}
	list, err := s.accept(p, name)
	defer func() {
		for _, st := range list {
			st.Close()
		}
	}()
	if err != nil {
		return sum, err
	}
	for _, state := range []byte{testStart, testRunning} {
		if err := c.sendState(state); err != nil {
			return sum, err
		}
	}
	// The client ends the test, also when it is the server who sends.
	run := start(p, list)
	c.expectWithin(time.Duration(p.Seconds)*time.Second + time.Hour)
	state, err := c.state()
	if err == nil && state != testEnd {
		err = fmt.Errorf("state %d came instead of %d", state, testEnd)
	}
	if err != nil {
		run.want = 0 // for which the client has not waited
	}
	sum.Took = run.end(ctx)
	if err != nil {
		return sum, err
	}
	sum.count(list)
	if err := c.sendState(exchangeResults); err != nil {
		return sum, err
	}
	var theirs results
	if err := c.receiveJSON(&theirs); err != nil {
		return sum, fmt.Errorf("results: %w", err)
	}
	for _, r := range theirs.Streams {
		sum.Theirs += r.Bytes
	}
	if err := c.sendJSON(resultOf(list, sum.Took)); err != nil {
		return sum, err
	}
	if err := c.sendState(displayResults); err != nil {
		return sum, err
	}
	return sum, c.await(iperfDone)
}

// check refuses what this package cannot do.
func (p *Params) check() error {
	switch {
	case p.UDP || !p.TCP:
		return errors.New("only TCP is measured")
	case p.Streams < 1 || p.Streams > maxStreams:
		return fmt.Errorf("%d streams: want 1 to %d", p.Streams, maxStreams)
	case p.Block < 1 || p.Block > maxBlock:
		return fmt.Errorf("blocks of %d bytes: want 1 to %d", p.Block, maxBlock)
	case p.Seconds < 0 || p.Seconds > 86400:
		return fmt.Errorf("%d seconds: want 0 to 86400", p.Seconds)
	}
	return nil
}

// accept takes the connections of the streams; strangers are sent away.
func (s *server) accept(p *Params, name [cookieLen]byte) (list []*stream, err error) {
	want := p.Streams
	if p.Bidirectional {
		want *= 2
	}
	if d, ok := s.ln.(deadliner); ok {
		d.SetDeadline(time.Now().Add(patience))
		defer d.SetDeadline(time.Time{})
	}
	for len(list) < want {
		conn, err := s.ln.Accept()
		if err != nil {
			return list, fmt.Errorf("stream %d: %w", len(list)+1, err)
		}
		k, err := readCookie(conn)
		if err != nil || k != name {
			_, _ = conn.Write([]byte{accessDenied})
			conn.Close()
			continue
		}
		// Of a test in both directions the client sends on the first half.
		sends := p.Reverse
		if p.Bidirectional {
			sends = len(list) >= p.Streams
		}
		list = append(list, &stream{Conn: conn, id: streamID(len(list)), sends: sends})
	}
	return list, nil
}

// count adds up what went over the streams.
func (sum *Summary) count(list []*stream) {
	for _, st := range list {
		if st.sends {
			sum.Sent += st.bytes.Load()
		} else {
			sum.Received += st.bytes.Load()
		}
	}
}

// running is the data of a test on its way.
type running struct {
	list  []*stream
	begin time.Time
	stop  chan struct{}
	wg    sync.WaitGroup
	// want is how many bytes are to be received; 0 where that is not known.
	want uint64
	// sent is closed when every stream that sends has sent what was asked
	// for, received when none that receives will bring more.
	sent, received chan struct{}
}

func start(p *Params, list []*stream) *running {
	r := &running{list: list, begin: time.Now(), stop: make(chan struct{}), sent: make(chan struct{}), received: make(chan struct{})}
	left, limited := new(atomic.Int64), p.Bytes > 0 || p.Blocks > 0
	total := max(p.Bytes, p.Blocks*uint64(p.Block))
	left.Store(int64(min(total, 1<<62)))
	if !p.Bidirectional { // where it is for both ways together
		r.want = total
	}
	var senders, receivers sync.WaitGroup
	for _, st := range list {
		if !st.sends {
			receivers.Go(func() { _ = st.receive() }) // it ends with the test
			continue
		}
		senders.Go(func() { _ = st.send(p.Block, left, limited, r.stop) })
	}
	for streams, done := range map[*sync.WaitGroup]chan struct{}{&senders: r.sent, &receivers: r.received} {
		r.wg.Go(func() {
			streams.Wait()
			close(done)
		})
	}
	return r
}

// arrived waits until as much has come as was asked for, or nothing more will,
// or ctx has ended.
func (r *running) arrived(ctx context.Context) {
	t := time.NewTicker(10 * time.Millisecond)
	defer t.Stop()
	for {
		got := uint64(0)
		for _, st := range r.list {
			if !st.sends {
				got += st.bytes.Load()
			}
		}
		if got >= r.want {
			return
		}
		select {
		case <-t.C:
		case <-r.received:
			return
		case <-ctx.Done():
			return
		}
	}
}

// end stops everything. What is under way is still counted: where it is known
// how much that is, the test lasts until it is there, and otherwise it has a
// moment.
func (r *running) end(ctx context.Context) time.Duration {
	close(r.stop)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r.arrived(ctx)
	took := time.Since(r.begin)
	for _, st := range r.list {
		if st.sends {
			st.SetWriteDeadline(time.Now()) // a blocked write ends
		} else {
			st.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		}
	}
	r.wg.Wait()
	return took
}
