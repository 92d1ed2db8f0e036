package main

// This file owns what ping and trace have in common: attaching, the name of the
// destination, and how ICMP errors read.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/probe"
)

// unresolved is how many probes may wait for the address of a neighbour: what
// is dropped there looks like a loss on the way.
const unresolved = 1024

// prober attaches and calls run with the stack's prober; the exit status is what
// run returns, also after a signal.
func prober(o *attach.Options, run func(ctx context.Context, h *attach.Host, p *probe.Prober) (status int, err error)) error {
	status := 0
	o.NeighbourQueue = unresolved
	err := o.Run(func(ctx context.Context, h *attach.Host) error {
		h.Net = declaring{h.Net, o}
		if h.Stack == nil {
			return attach.Usagef("--net host: probes need a stack of their own")
		}
		p, err := probe.New(h.Stack, probe.Options{})
		if err != nil {
			return err
		}
		defer p.Close()
		status, err = run(ctx, h, p)
		return err
	})
	if err == nil && status != 0 {
		return exitStatus(status)
	}
	return err
}

// failure is an error with which nothing could be sent: exit status 2, as ping's.
type failure struct{ error }

// ExitCode implements what attach.Exit asks for.
func (failure) ExitCode() int { return 2 }

// Unwrap returns the error itself.
func (f failure) Unwrap() error { return f.error }

func failed(host string, err error) error { return failure{fmt.Errorf("%s: %w", host, err)} }

// family is the flags -4 and -6.
type family struct{ v4, v6 bool }

func (f family) network() string {
	switch {
	case f.v4:
		return "ip4"
	case f.v6:
		return "ip6"
	}
	return "ip"
}

// lookup returns the first address of a name, or the address that it is.
func lookup(ctx context.Context, h *attach.Host, name string, f family) (netip.Addr, error) {
	if a, err := netip.ParseAddr(name); err == nil {
		if a = a.Unmap(); f.v4 && !a.Is4() || f.v6 && !a.Is6() {
			return a, attach.Usagef("%s is not an address of that family", name)
		}
		if d, ok := h.Net.(declaring); ok {
			toward(d.o, a)
		}
		return a, nil
	}
	list, err := h.Net.LookupNetIP(ctx, f.network(), name)
	if err != nil {
		if d, ok := errors.AsType[*net.DNSError](err); ok && d.Server == "" && !d.IsNotFound && !d.IsTimeout {
			err = fmt.Errorf("%w (--dns says which to ask)", err)
		}
		return netip.Addr{}, failure{err}
	}
	if len(list) == 0 {
		return netip.Addr{}, failed(name, errors.New("no address"))
	}
	return list[0].Unmap(), nil
}

// device is what -I says: an interface, or the source address.
func device(h *attach.Host, v string, q *probe.Request) error {
	if v == "" {
		return nil
	}
	if a, err := netip.ParseAddr(v); err == nil {
		q.Src = a
		return nil
	}
	for _, i := range h.Stack.Interfaces() {
		if i.Name() == v {
			q.Device = v
			return nil
		}
	}
	return attach.Usagef("-I %s: no such interface, and not an address", v)
}

// wait is a time in seconds with a fraction.
type wait time.Duration

func (w *wait) String() string {
	return strconv.FormatFloat(time.Duration(*w).Seconds(), 'g', -1, 64)
}
func (w *wait) Type() string { return "seconds" }
func (w *wait) Set(s string) error {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !(v >= 0 && v <= 1e6) {
		return fmt.Errorf("want seconds from 0 to 1000000")
	}
	*w = wait(v * 1e9)
	return nil
}

// span is a wait that may not be nothing.
type span struct{ *wait }

func (s span) String() string {
	if s.wait == nil {
		return "0"
	}
	return s.wait.String()
}

func (s span) Set(v string) error {
	var w wait
	if err := w.Set(v); err != nil || w == 0 {
		return fmt.Errorf("want more than 0 and at most 1000000 seconds")
	}
	*s.wait = w
	return nil
}

// number is an integer of a range, in any of Go's notations, as 0x10.
type number struct {
	p         *int
	low, high int
}

func (n number) String() string {
	if n.p == nil {
		return "0"
	}
	return strconv.Itoa(*n.p)
}
func (n number) Type() string { return "number" }
func (n number) Set(s string) error {
	v, err := strconv.ParseInt(s, 0, 64)
	if err != nil || v < int64(n.low) || v > int64(n.high) {
		return fmt.Errorf("want a number from %d to %d", n.low, n.high)
	}
	*n.p = int(v)
	return nil
}

// ms is a time in milliseconds as JSON has it.
func ms(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// errorText says an ICMP error as ping does.
func errorText(r *probe.Result) string {
	if !r.ICMP {
		return "Destination Host Unreachable" // a neighbour that does not answer
	}
	if r.From.Is6() {
		return errorText6(r)
	}
	switch r.ICMPType {
	case icmp.TypeTimeExceeded4:
		if r.ICMPCode == icmp.CodeHopLimit {
			return "Time to live exceeded"
		}
		return "Frag reassembly time exceeded"
	case icmp.TypeParamProblem4:
		return "Parameter problem"
	case icmp.TypeUnreachable4:
		if r.ICMPCode == icmp.CodeFragNeeded4 {
			return fmt.Sprintf("Frag needed and DF set (mtu = %d)", r.MTU)
		}
		if s := [...]string{"Destination Net Unreachable", "Destination Host Unreachable", "Destination Protocol Unreachable",
			"Destination Port Unreachable", "", "Source Route Failed", "Destination Net Unknown", "Destination Host Unknown",
			"Source Host Isolated", "Destination Net Prohibited", "Destination Host Prohibited", "Destination Net Unreachable for Type of Service",
			"Destination Host Unreachable for Type of Service", "Packet filtered", "Precedence Violation", "Precedence Cutoff"}; int(r.ICMPCode) < len(s) {
			return s[r.ICMPCode]
		}
	}
	return fmt.Sprintf("ICMP type %d code %d", r.ICMPType, r.ICMPCode)
}

func errorText6(r *probe.Result) string {
	switch r.ICMPType {
	case icmp.TypeTimeExceeded6:
		if r.ICMPCode == icmp.CodeHopLimit {
			return "Time exceeded: Hop limit"
		}
		return "Time exceeded: Defragmentation failure"
	case icmp.TypeTooBig6:
		return fmt.Sprintf("Packet too big: mtu=%d", r.MTU)
	case icmp.TypeParamProblem6:
		if s := [...]string{"Wrong header field", "Unknown header", "Unknown option"}; int(r.ICMPCode) < len(s) {
			return "Parameter problem: " + s[r.ICMPCode]
		}
	case icmp.TypeUnreachable6:
		if s := [...]string{"No route", "Administratively prohibited", "Beyond scope of source address", "Address unreachable", "Port unreachable",
			"Source address failed ingress/egress policy", "Reject route to destination"}; int(r.ICMPCode) < len(s) {
			return "Destination unreachable: " + s[r.ICMPCode]
		}
	}
	return fmt.Sprintf("ICMPv6 type %d code %d", r.ICMPType, r.ICMPCode)
}
