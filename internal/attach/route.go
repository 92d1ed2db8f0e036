package attach

// This file owns --route: routes in the words of `ip route add`, of which only
// those are known that the stack does something about.

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/tapstack/tapstack/stack"
)

// registerRoutes adds the flag. A route has blanks in it, and commas between
// routes.
func (o *Options) registerRoutes(list func(*[]string, string, string)) {
	list(&o.Routes, "route", "add the `ROUTE`, in the words of ip-route(8): [blackhole|unreachable|prohibit] PREFIX|default [via ADDRESS] [onlink] [src ADDRESS] [metric N] [mtu [lock] BYTES] [hoplimit N] [advmss BYTES] [initcwnd N] [initrwnd N] [window BYTES] [rto_min TIME]; repeat or separate by commas")
}

// checkRoutes reads the routes. The first that names a gateway or prefix which
// cannot be is an error; what only the stack can tell it says when they are
// added.
func (o *Options) checkRoutes(p *plan) error {
	for _, s := range o.Routes {
		r, err := parseRoute(s)
		if err != nil {
			return fmt.Errorf("--route %q: %w", s, err)
		}
		p.routes = append(p.routes, r)
	}
	return nil
}

// parseRoute reads what stack.Route's String writes, and what ip-route(8) takes
// of that. The device is the only one that there is, and is left out.
func parseRoute(s string) (r stack.Route, err error) {
	words := strings.Fields(s)
	next := func() string {
		if len(words) == 0 {
			return ""
		}
		w := words[0]
		words = words[1:]
		return w
	}
	dst := next()
	for _, t := range []stack.RouteType{stack.RouteUnicast, stack.RouteBlackhole, stack.RouteUnreachable, stack.RouteProhibit} {
		if dst == t.String() {
			r.Type, dst = t, next()
			break
		}
	}
	v6 := false // of a default route: its gateway says
	if dst != "default" {
		if a, e := netip.ParseAddr(dst); e == nil {
			r.Dst = netip.PrefixFrom(a, a.BitLen())
		} else if r.Dst, e = netip.ParsePrefix(dst); e != nil {
			return r, errors.New("want a prefix, as 192.0.2.0/24, or default")
		}
	}
	number := func(p *int, name string) {
		w := next()
		n, e := strconv.Atoi(w)
		if e != nil || n < 0 {
			err = fmt.Errorf("%s %q: want a number", name, w)
		}
		*p = n
	}
	address := func(p *netip.Addr, name string) {
		w := next()
		a, e := netip.ParseAddr(w)
		if e != nil {
			err = fmt.Errorf("%s %q: want an address", name, w)
		}
		*p = a
		v6 = v6 || a.Is6()
	}
	for len(words) > 0 && err == nil {
		switch w := next(); w {
		case "via":
			address(&r.Gateway, w)
		case "src":
			address(&r.Source, w)
		case "onlink":
			r.OnLink = true
		case "metric":
			number(&r.Metric, w)
		case "mtu":
			if len(words) > 0 && words[0] == "lock" {
				next()
				r.Metrics.LockMTU = true
			}
			number(&r.MTU, w)
		case "hoplimit":
			number(&r.Metrics.HopLimit, w)
		case "advmss":
			number(&r.Metrics.AdvMSS, w)
		case "initcwnd":
			number(&r.Metrics.InitCwnd, w)
		case "initrwnd":
			number(&r.Metrics.InitRwnd, w)
		case "window":
			number(&r.Metrics.Window, w)
		case "rto_min":
			r.Metrics.MinRTO, err = parseRTO(next())
		default:
			err = fmt.Errorf("%q is none of via, src, onlink, metric, mtu, hoplimit, advmss, initcwnd, initrwnd, window, rto_min", w)
		}
	}
	if err == nil && dst == "default" {
		r.Dst = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if v6 {
			r.Dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
	}
	return r, err
}

// parseRTO reads a time; a number without unit is milliseconds, as for ip.
func parseRTO(s string) (time.Duration, error) {
	if n, err := strconv.Atoi(s); err == nil {
		s = strconv.Itoa(n) + "ms"
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("rto_min %q: want a time, as 50ms", s)
	}
	return d, nil
}

// addRoutes adds the routes to the stack.
func (p *plan) addRoutes(s *stack.Stack, nic *stack.Interface) error {
	for _, r := range p.routes {
		if r.Type == stack.RouteUnicast {
			r.Interface = nic
		}
		if err := s.AddRoute(r); err != nil {
			return fmt.Errorf("--route: %w", err)
		}
	}
	return nil
}
