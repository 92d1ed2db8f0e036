package traceview

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/probe"
)

// This file owns the notes beneath a hop.

// Notes are the lines about a host: its labels, its interfaces, and, by explain,
// why it refuses packets.
func Notes(x *probe.Host, explain func(*probe.Host) string) (list []string) {
	add := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	for _, l := range x.Extensions.MPLS {
		bottom := 0
		if l.Bottom {
			bottom = 1
		}
		add("[MPLS: Lbl %d TC %d S %d TTL %d]", l.Label, l.TC, bottom, l.TTL)
	}
	for _, i := range x.Extensions.Interfaces {
		add("[%v interface: %s]", i.Role, Interface(i))
	}
	if explain != nil && x.Kind != probe.TTLExpired && x.Kind != probe.Reply && x.Kind != probe.NoReply {
		add("[%s]", explain(x))
	}
	return list
}

// Interface says what is told of an interface.
func Interface(i icmp.InterfaceInfo) string {
	var parts []string
	add := func(is bool, format string, v any) {
		if is {
			parts = append(parts, fmt.Sprintf(format, v))
		}
	}
	add(i.Name != "", "%q", i.Name)
	add(i.Index != 0, "index %d", i.Index)
	add(i.Addr.IsValid(), "%v", i.Addr)
	add(i.MTU != 0, "MTU %d", i.MTU)
	return strings.Join(parts, ", ")
}

// Found are the lines about what was found, by the TTL of the hop that shows it;
// that ways back are longer, which is a guess, only if back is set.
func Found(r *probe.TraceResult, back bool) map[int][]string {
	m := make(map[int][]string)
	for _, f := range r.Findings() {
		if f.Kind == probe.FindAsymmetric && !back {
			continue
		}
		line := "[" + f.String()
		if f.After > 0 && f.After < f.TTL-1 {
			line += fmt.Sprintf(", behind hop %d", f.After)
		}
		m[f.TTL] = append(m[f.TTL], line+"]")
	}
	return m
}

// Loop says who is in a loop, "" without one.
func Loop(r *probe.TraceResult, name func(netip.Addr) string) string {
	var parts []string
	for _, a := range r.Loop() {
		if a.IsValid() {
			parts = append(parts, name(a))
		} else {
			parts = append(parts, "???")
		}
	}
	return strings.Join(parts, " > ")
}
