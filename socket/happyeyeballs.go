package socket

// This file owns Happy Eyeballs (RFC 8305): how a dialer that has the name of a
// host comes to a connection soon, although some of its addresses do not answer.
// Addresses are tried as soon as those of one family are known, the families in
// turn, each a while after the one before and at once after one that has failed;
// the first that connects ends all other attempts.

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// The values of RFC 8305 §8. Package net waits 300 ms between families, and does
// not know the others.
const (
	resolutionDelay        = 50 * time.Millisecond
	connectionAttemptDelay = 250 * time.Millisecond
	// minAttemptDelay: no attempt begins sooner after the one before (§5), not
	// even when that has been refused.
	minAttemptDelay = 10 * time.Millisecond
	// maxAttempts bounds how many attempts wait for an answer at a time.
	maxAttempts = 16
)

// found is what a look-up has found out since it told last.
type found struct {
	addrs []netip.AddrPort
	err   error
	last  bool // there is no more to come
}

// attempt is what has become of one.
type attempt struct {
	f   *FD
	err error
	n   int // its number, from 0
}

// eyeballs is one dial.
type eyeballs struct {
	d       *Dialer
	network string
	delay   time.Duration
	untried []netip.AddrPort // sorted as RFC 6724 §6
	known   bool             // there will be no more of them
	tried   int
	last    bool // the family of the last attempt: IPv4
	running int
	results chan attempt
}

// happy connects to address. The error is that of the first address that was
// tried.
func (d *Dialer) happy(ctx context.Context, network, address string) (*FD, error) {
	host, port, list, err := splitAddress(ctx, "dial", network, address)
	var r Resolver
	if err == nil && list == nil {
		var ips []netip.Addr
		ips, r, err = d.Net.known(d.Resolver, "ip"+strings.TrimLeft(network, "tcp"), host)
		if err == nil && r == nil {
			list, err = withPort(network, host, ips, port)
		}
	}
	if err == nil && r == nil {
		list, err = d.fromLocal(network, list)
	}
	if err != nil {
		return nil, opError("dial", network, nil, nil, lookupError(err))
	}
	if len(list) == 1 {
		return d.series(ctx, network, list) // nothing to choose from
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	e := eyeballs{d: d, network: network, delay: max(d.FallbackDelay, minAttemptDelay), untried: list, known: r == nil, results: make(chan attempt, maxAttempts)}
	if d.FallbackDelay == 0 {
		e.delay = connectionAttemptDelay
	}
	names := make(chan found, 4) // as many as are told: one for each family, and the end
	if r != nil {
		go d.resolve(ctx, r, network, host, port, names)
	}
	f, err := e.race(ctx, names)
	// Who loses the race learns of it by ctx and returns soon: what comes of
	// it is closed before this returns, so that nothing is left behind.
	cancel()
	for ; e.running > 0; e.running-- {
		if r := <-e.results; r.f != nil {
			r.f.Close()
		}
	}
	for !e.known {
		e.known = (<-names).last
	}
	return f, err
}

// resolve looks a name up and tells what it finds, of the stack's own resolver
// each family by itself (RFC 8305 §3). Others answer when they have all.
func (d *Dialer) resolve(ctx context.Context, r Resolver, network, host string, port uint16, names chan<- found) {
	usable := func(ips []netip.Addr) ([]netip.AddrPort, error) {
		ips = slices.Clone(ips)
		for i := range ips {
			ips[i] = ips[i].Unmap()
		}
		list, err := withPort(network, host, ips, port)
		if err == nil {
			list, err = d.fromLocal(network, list)
		}
		return list, err
	}
	var ips []netip.Addr
	var err error
	family := "ip" + strings.TrimLeft(network, "tcp")
	dns, early := r.(*DNS)
	if early {
		ips, err = dns.lookupHost(ctx, family, host, func(ips []netip.Addr) {
			if list, err := usable(ips); err == nil {
				names <- found{addrs: list}
			}
		})
	} else {
		ips, err = r.LookupNetIP(ctx, family, host)
	}
	end := found{err: lookupError(err), last: true}
	if err == nil {
		end.addrs, end.err = usable(ips)
	}
	if early {
		end.addrs = nil // they have been told
	}
	names <- end
}

// race tries addresses until one connects, or none is left.
func (e *eyeballs) race(ctx context.Context, names <-chan found) (*FD, error) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var first error     // of the first address
	var lookup error    // of the look-up
	var began time.Time // the last attempt
	waits := !e.known   // for addresses of the better family
	failed := false     // the last attempt has: there is nothing to wait for
	for {
		if e.tried > 0 && ctx.Err() != nil {
			e.untried = nil
		}
		var due <-chan time.Time
		switch wait, ready := e.next(began, failed, waits); {
		case e.known && len(e.untried) == 0 && e.running == 0:
			if e.tried == 0 {
				return nil, opError("dial", e.network, nil, nil, lookup)
			}
			return nil, first
		case ready && wait <= 0 && ctx.Err() != nil:
			return nil, e.d.fail(e.network, e.untried[0], "", ctx.Err())
		case ready && wait <= 0:
			e.start(ctx)
			began, failed = time.Now(), false
			continue
		case ready:
			timer.Reset(wait)
			due = timer.C
		case waits && len(e.untried) > 0:
			due = timer.C // set when they came
		}
		select {
		case <-due:
			waits = false
		case n := <-names:
			e.known = n.last
			lookup = n.err
			if before := len(e.untried); e.add(n.addrs) && waits && before == 0 {
				timer.Reset(e.d.resolutionDelay())
			}
			// RFC 8305 §3: with IPv6 there is nothing to wait for, nor without.
			waits = waits && !e.known && !slices.ContainsFunc(e.untried, func(a netip.AddrPort) bool { return !is4(a) })
		case r := <-e.results:
			e.running--
			if r.err == nil {
				return r.f, nil
			}
			if r.n == 0 {
				first = r.err
			}
			failed = failed || r.n == e.tried-1
		}
	}
}

// next says how long it is until the next attempt, and whether there is to be
// one.
func (e *eyeballs) next(began time.Time, failed, waits bool) (time.Duration, bool) {
	switch {
	case waits || len(e.untried) == 0 || e.running >= maxAttempts:
		return 0, false
	case e.tried == 0:
		return 0, true
	case failed || e.running == 0:
		return time.Until(began.Add(minAttemptDelay)), true
	}
	return time.Until(began.Add(e.delay)), true
}

// add puts addresses among those that were not tried, in the order of RFC 6724
// (RFC 8305 §4, §6), and reports whether there are any.
func (e *eyeballs) add(list []netip.AddrPort) bool {
	for _, a := range list {
		if !slices.Contains(e.untried, a) {
			e.untried = append(e.untried, a)
		}
	}
	if len(list) > 0 && len(e.untried) > 1 {
		ips := make([]netip.Addr, len(e.untried))
		port := e.untried[0].Port()
		for i, a := range e.untried {
			ips[i] = a.Addr()
		}
		e.d.Net.sortAddrs(ips)
		for i, a := range ips {
			e.untried[i] = netip.AddrPortFrom(a, port)
		}
	}
	return len(e.untried) > 0
}

// start tries the next address: of the family that is best FirstFamilyCount
// times, then of the families in turn as long as both are left (RFC 8305 §4).
func (e *eyeballs) start(ctx context.Context) {
	n := 0
	if e.tried > 0 {
		want := !e.last
		if e.tried < e.d.FirstFamilyCount {
			want = e.last
		}
		n = max(0, slices.IndexFunc(e.untried, func(a netip.AddrPort) bool { return is4(a) == want }))
	}
	a, number := e.untried[n], e.tried
	e.untried = slices.Delete(e.untried, n, n+1)
	e.last = is4(a)
	e.tried++
	e.running++
	go func() {
		f, err := e.d.open(ctx, e.network, a)
		e.results <- attempt{f, err, number}
	}()
}

func (d *Dialer) resolutionDelay() time.Duration {
	if d.ResolutionDelay == 0 {
		return resolutionDelay
	}
	return max(d.ResolutionDelay, 0)
}
