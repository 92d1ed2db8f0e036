package socket

// This file owns Dialer: what it may be told, and how one connection is made.
// Which of a name's addresses are tried, and when, is in happyeyeballs.go.

import (
	"context"
	"net"
	"net/netip"
	"os"
	"time"
)

// Dialer is net.Dialer over a stack. Its fields mean what they mean there.
type Dialer struct {
	// Net is the network to dial on.
	Net *Network
	// Timeout bounds a dial, all addresses of a name together; 0: nothing does.
	Timeout time.Duration
	// Deadline is the instant after which dials fail; zero: there is none.
	Deadline time.Time
	// LocalAddr is where to dial from: a *net.TCPAddr or *net.UDPAddr that goes
	// with the network; nil: the stack chooses.
	LocalAddr net.Addr
	// FallbackDelay is how long an address of a name has, on networks of TCP,
	// before the next is tried beside it: the Connection Attempt Delay of RFC 8305
	// §5. 0 is 250 ms, at least it is 10 ms; a negative one tries one address
	// after the other.
	FallbackDelay time.Duration
	// ResolutionDelay is how long IPv4 addresses that are known wait for those of
	// IPv6 (RFC 8305 §3); 0 is 50 ms, a negative one does not wait.
	ResolutionDelay time.Duration
	// FirstFamilyCount is how many addresses of the preferred family are tried
	// before one of the other (RFC 8305 §4); 0 is 1.
	FirstFamilyCount int
	// KeepAlive and KeepAliveConfig are as those of Network.
	KeepAlive       time.Duration
	KeepAliveConfig net.KeepAliveConfig
	// Resolver looks names up; nil is the network's.
	Resolver Resolver
	// Control, if it is not nil, is called with each socket before it is bound
	// and connected, to set options that have to be there before the SYN.
	// network says the family: "tcp4", "udp6". What it returns ends the dial.
	Control func(network, address string, fd *FD) error
}

// Dial is DialContext without a context.
func (d *Dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(background, network, address)
}

// DialContext connects to address. When ctx ends, or with it the time that
// Timeout and Deadline give, the dial fails; a connection that stands is not
// affected.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if at := d.deadline(ctx, time.Now()); !at.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, at)
		defer cancel()
	}
	var f *FD
	var err error
	if isKnown(network) && !isUDP(network) && d.FallbackDelay >= 0 {
		f, err = d.happy(ctx, network, address)
	} else {
		var addrs []netip.AddrPort
		if addrs, err = d.Net.addrList(ctx, d.Resolver, "dial", network, address); err == nil {
			addrs, err = d.fromLocal(network, addrs)
		}
		if err != nil {
			return nil, opError("dial", network, nil, nil, err)
		}
		f, err = d.series(ctx, network, addrs)
	}
	if err != nil {
		return nil, err
	}
	if isUDP(network) {
		return &PacketConn{newConn(f, network)}, nil
	}
	return &Conn{newConn(f, network)}, nil
}

// deadline is the earliest of what d and ctx say; zero: neither does.
func (d *Dialer) deadline(ctx context.Context, now time.Time) (at time.Time) {
	earlier := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	if d.Timeout != 0 {
		earlier(now.Add(d.Timeout))
	}
	if t, ok := ctx.Deadline(); ok {
		earlier(t)
	}
	earlier(d.Deadline)
	return at
}

// fromLocal leaves of addrs those that can be reached from LocalAddr.
func (d *Dialer) fromLocal(network string, addrs []netip.AddrPort) ([]netip.AddrPort, error) {
	if d.LocalAddr == nil {
		return addrs, nil
	}
	return matchLocal(network, addrs, d.LocalAddr)
}

// matchLocal leaves of addrs those that can be reached from the local address.
func matchLocal(network string, addrs []netip.AddrPort, local net.Addr) (match []netip.AddrPort, err error) {
	want := "tcp"
	if isUDP(network) {
		want = "udp"
	}
	from, ok := local.(interface{ AddrPort() netip.AddrPort })
	if !ok || local.Network() != want {
		return nil, &net.AddrError{Err: "mismatched local address type", Addr: local.String()}
	}
	ip := toAddrPort(from).Addr()
	for _, a := range addrs {
		if isWildcard(ip) || isWildcard(a.Addr()) || ip.Is4() == a.Addr().Is4() {
			match = append(match, a)
		}
	}
	if len(match) == 0 {
		return nil, &net.AddrError{Err: "no suitable address found", Addr: local.String()}
	}
	return match, nil
}

// is4 is how package net sees it: an address without host part is not IPv4.
func is4(a netip.AddrPort) bool { return a.Addr().Is4() }

// leastShare is the time an address gets even if what is left, divided by the
// number of addresses, is less.
const leastShare = 2 * time.Second

// series tries one address after the other, each with its share of the time
// that ctx leaves. The error is that of the first.
func (d *Dialer) series(ctx context.Context, network string, addrs []netip.AddrPort) (*FD, error) {
	var first error
	for i, a := range addrs {
		if err := ctx.Err(); err != nil {
			return nil, d.fail(network, a, "", err)
		}
		f, err := d.share(ctx, network, a, len(addrs)-i)
		if err == nil {
			return f, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

func (d *Dialer) share(ctx context.Context, network string, a netip.AddrPort, left int) (*FD, error) {
	if at, ok := ctx.Deadline(); ok && left > 1 {
		now := time.Now()
		rest := at.Sub(now)
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, now.Add(min(rest, max(rest/time.Duration(left), leastShare))))
		defer cancel()
	}
	return d.open(ctx, network, a)
}

// open makes a socket that is connected to a.
func (d *Dialer) open(ctx context.Context, network string, a netip.AddrPort) (*FD, error) {
	local := netip.AddrPort{}
	if from, ok := d.LocalAddr.(interface{ AddrPort() netip.AddrPort }); ok {
		local = toAddrPort(from)
	}
	domain := domainFor(network, a.Addr(), false)
	if local.Addr().IsValid() && !local.Addr().Is4() && !only4(network) {
		domain = AF_INET6
	}
	if only4(network) && !is4(a) && !isWildcard(a.Addr()) {
		return nil, d.fail(network, a, "", &net.AddrError{Err: "non-IPv4 address", Addr: a.Addr().String()})
	}
	f, err := Socket(d.Net.stack, domain, typeOf(network), 0)
	if err != nil {
		return nil, d.fail(network, a, "socket", err)
	}
	if isUDP(network) {
		f.SetBroadcast(true) // as package net does
	}
	if only6(network) {
		err = f.SetV6Only(true)
	}
	if err == nil && d.Control != nil {
		err = d.Control(withFamily(network, domain), addrOf(network, a).String(), f)
	}
	call := "bind"
	if err == nil && d.LocalAddr != nil {
		err = f.Bind(mapped(inDomain(local, domain), domain))
	}
	if err == nil {
		call = "connect"
		err = f.Connect(ctx, mapped(inDomain(a, domain), domain))
	}
	if err != nil {
		f.Close()
		return nil, d.fail(network, a, call, err)
	}
	if !isUDP(network) {
		f.SetNoDelay(true) // as package net does
		setKeepAlive(f, d.KeepAlive, d.KeepAliveConfig)
	}
	return f, nil
}

// fail makes the error of a dial to a.
func (d *Dialer) fail(network string, a netip.AddrPort, call string, err error) error {
	switch err {
	case context.DeadlineExceeded, os.ErrDeadlineExceeded:
		err = dialTimeout{}
	case context.Canceled:
		err = dialCanceled{}
	}
	return opError("dial", network, d.LocalAddr, addrOf(network, a), syscallError(call, err))
}

// mapped is a as a socket of a family takes it.
func mapped(a netip.AddrPort, domain int) netip.AddrPort {
	if domain == AF_INET6 && a.Addr().Is4() {
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr().As16()), a.Port())
	}
	return a
}

// withFamily says the family in a network's name.
func withFamily(network string, domain int) string {
	switch {
	case only4(network) || only6(network):
		return network
	case domain == AF_INET:
		return network + "4"
	}
	return network + "6"
}

func setKeepAlive(f *FD, every time.Duration, c net.KeepAliveConfig) {
	switch {
	case c.Enable:
		f.SetKeepAliveConfig(c)
	case every >= 0:
		f.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: every, Interval: every})
	}
}

// dialTimeout is what package net returns when the time to dial is up; it is
// os.ErrDeadlineExceeded too, like that of every other call.
type dialTimeout struct{}

func (dialTimeout) Error() string   { return "i/o timeout" }
func (dialTimeout) Timeout() bool   { return true }
func (dialTimeout) Temporary() bool { return true }
func (dialTimeout) Is(target error) bool {
	return target == context.DeadlineExceeded || target == os.ErrDeadlineExceeded
}

// dialCanceled is what package net returns for context.Canceled.
type dialCanceled struct{}

func (dialCanceled) Error() string        { return "operation was canceled" }
func (dialCanceled) Is(target error) bool { return target == context.Canceled }
