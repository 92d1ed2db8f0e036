package main

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/gdamore/tcell/v2"

	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/probe"
	"github.com/tapstack/tapstack/probe/traceview"
	"github.com/tapstack/tapstack/socket"
)

// This file owns what a trace has around it: the live view, the names of routers,
// and the connection of --in-session.

// live shows the trace while it goes on, and returns what it came to when the
// user has seen enough or it is over.
func (o *traceOptions) live(ctx context.Context, w *traceOutput, p *probe.Prober, q probe.TraceRequest) (probe.TraceResult, error) {
	s, err := tcell.NewScreen()
	if err == nil {
		err = s.Init()
	}
	if err != nil {
		return probe.TraceResult{}, fmt.Errorf("no terminal for the live view: %w", err)
	}
	defer s.Fini()
	return o.watch(ctx, s, w, p, q), nil
}

// watch is live on a screen.
func (o *traceOptions) watch(ctx context.Context, s tcell.Screen, w *traceOutput, p *probe.Prober, q probe.TraceRequest) (r probe.TraceResult) {
	if !o.counted {
		q.Cycles = math.MaxInt32
	}
	var t *probe.Tracing
	v := traceview.New(func() probe.TraceResult { return t.Snapshot() })
	v.Title, v.Dst, v.Order = "tapstack trace", w.host, o.order
	v.Names, v.ShowNames, v.ShowIPs = w.names.Names, !o.numeric, o.showIPs
	v.Mode = o.mode
	v.AS, v.ShowAS = o.as, o.as != nil
	v.Explain, v.ShowBack = hostError, o.back
	w.names.onName(v.Wake)
	done := make(chan struct{})
	t = p.StartTrace(q, v.Add, func(x probe.TraceResult) {
		r = x
		close(done)
	})
	v.Control = t
	v.Run(ctx, s, done)
	t.Stop()
	<-done
	return r
}

// traceNames asks for names over the stack, if it has anybody to ask. A nil one
// knows none.
type traceNames struct {
	*traceview.Names
	mu   sync.Mutex
	wake func() // called when a name has come
}

// Of returns the name of an address, or "".
func (n *traceNames) Of(a netip.Addr) string {
	if n == nil {
		return ""
	}
	return n.Names.Of(a)
}

func (n *traceNames) onName(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wake = f
}

// names makes them; stop ends what is still being asked.
func (o *traceOptions) names(ctx context.Context, h *attach.Host) (n *traceNames, stop func()) {
	n = new(traceNames)
	network := h.Net
	if d, ok := network.(declaring); ok {
		network = d.System // whose methods beyond System it does not have
	}
	x, ok := network.(interface {
		LookupAddr(context.Context, netip.Addr) ([]string, error)
	})
	if o.numeric || !ok {
		return n, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	n.Names = traceview.NewNames(ctx, x.LookupAddr, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.wake != nil {
			n.wake()
		}
	})
	return n, func() {
		cancel()
		n.Wait(context.Background()) // they give up at once
	}
}

// namePatience is how long a report waits for names that are still missing.
const namePatience = 3 * time.Second

// Settle asks for the names of all that a report shows, and waits a little.
func (n *traceNames) Settle(ctx context.Context, r *probe.TraceResult) {
	for i := range r.Hops {
		for _, x := range r.Hops[i].Hosts {
			n.Of(x.Addr)
		}
	}
	n.settle(ctx)
}

func (n *traceNames) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, namePatience)
	defer cancel()
	n.Wait(ctx)
}

// session makes the connection of --in-session and puts it into the request; end
// closes it.
func (o *traceOptions) session(ctx context.Context, h *attach.Host, p *probe.Prober, q *probe.Request) (end func(), err error) {
	port := uint16(probe.DefaultTCPPort)
	if o.port != 0 {
		port = uint16(o.port)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(o.timeout))
	defer cancel()
	c, err := h.Net.DialContext(ctx, "tcp", net.JoinHostPort(q.Dst.String(), strconv.Itoa(int(port))))
	if err != nil {
		return nil, err
	}
	f, ok := c.(interface{ FD() *socket.FD })
	if !ok {
		c.Close()
		return nil, errNoSession
	}
	x := f.FD().Stream()
	if err := p.Adopt(x); err != nil {
		c.Close()
		return nil, err
	}
	*q = probe.Request{Dst: q.Dst, Proto: probe.TCP, TOS: q.TOS, Timeout: q.Timeout, Within: x}
	return func() {
		p.Leave(x)
		x.Abort() // a peer that keeps its half open would hold up the end
		c.Close()
	}, nil
}
