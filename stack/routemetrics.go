package stack

// This file owns what a route says of the packets and connections that use it,
// beside where they go and how long they may be: what `ip route` calls metrics.

import (
	"strconv"
	"time"

	"github.com/tapstack/tapstack/tcp"
)

// RouteMetrics are those that the stack honours, with the names of ip-route(8).
// The zero value of each leaves it to the defaults. What is about TCP holds for
// connections that are made from then on; what the user of a socket has set
// goes before. Prefixes of addresses have none: to give those of a link to
// neighbours, add routes with longer prefixes.
type RouteMetrics struct {
	// LockMTU ("mtu lock") believes Route.MTU, which it needs, and no router that
	// says otherwise. IPv4 packets are then sent without DF, as Linux does.
	LockMTU bool
	// HopLimit ("hoplimit") is the TTL or hop limit of packets, 1 to 255.
	HopLimit int
	// AdvMSS ("advmss") is the most that is announced as TCP's MSS, 48 to 65495.
	AdvMSS int
	// InitCwnd ("initcwnd") is how many segments a connection sends at first, 1
	// to 1000, instead of RFC 6928's 10; after a pause it is those again. InitRwnd
	// ("initrwnd") is how many its first window is for.
	InitCwnd, InitRwnd int
	// Window ("window") is the largest window that is offered, in bytes, 1 to
	// 1 GiB.
	Window int
	// MinRTO ("rto_min") is the shortest retransmission time-out of TCP, up to
	// 120 s, instead of TCPConfig.MinRTO.
	MinRTO time.Duration
}

// Bounds of the metrics: of a window's size in segments, and that of RFC 7323.
const (
	maxInitWindow = 1000
	maxWindow     = 1 << 30
	minAdvMSS     = 48
	maxAdvMSS     = 65495
	mostMinRTO    = 120 * time.Second
)

// possible reports whether the metrics are within their bounds.
func (m *RouteMetrics) possible(r *Route) bool {
	within := func(v, least, most int) bool { return v == 0 || v >= least && v <= most }
	return (!m.LockMTU || r.MTU != 0) && within(m.HopLimit, 1, 255) && within(m.AdvMSS, minAdvMSS, maxAdvMSS) &&
		within(m.InitCwnd, 1, maxInitWindow) && within(m.InitRwnd, 1, maxInitWindow) && within(m.Window, 1, maxWindow) &&
		m.MinRTO >= 0 && m.MinRTO <= mostMinRTO
}

// String formats the metrics as `ip route` does, but for the lock of the MTU,
// each with a blank in front.
func (m RouteMetrics) String() (s string) {
	for _, x := range []struct {
		name string
		v    int
	}{{"window", m.Window}, {"advmss", m.AdvMSS}, {"hoplimit", m.HopLimit}, {"initcwnd", m.InitCwnd}, {"initrwnd", m.InitRwnd}} {
		if x.v != 0 {
			s += " " + x.name + " " + strconv.Itoa(x.v)
		}
	}
	if m.MinRTO != 0 {
		s += " rto_min " + m.MinRTO.String()
	}
	return s
}

// apply makes the metrics part of the configuration of a connection.
func (m *RouteMetrics) apply(c *tcp.Config) {
	if m.AdvMSS != 0 {
		c.MSS = min(c.MSS, m.AdvMSS)
	}
	if m.InitRwnd != 0 {
		c.RcvInit = min(m.InitRwnd*c.MSS, c.RcvBuf)
	}
	if m.Window != 0 && c.Knobs.Get(tcp.KnobWindowClamp) == 0 {
		_ = c.Knobs.Set(tcp.KnobWindowClamp, m.Window) // possible has checked it
	}
	if m.InitCwnd != 0 || m.MinRTO != 0 {
		c.InitCwnd = m.InitCwnd
		if m.MinRTO != 0 {
			c.MinRTO = m.MinRTO
		}
		c.Shared = nil // it is not like the others
	}
}
