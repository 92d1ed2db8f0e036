package socket_test

// This file compares the IP options and extension headers of streams with the
// kernel's, and the routing headers of all sockets.

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/tapstack/tapstack/socket"
)

// Options of IPv4: one that records the way, one that records times, and padding
// around a router alert.
var (
	recordRoute = append([]byte{7, 19, 4}, make([]byte, 16)...)
	recordTimes = append([]byte{68, 36, 5, 1}, make([]byte, 32)...)
	alerted     = []byte{1, 148, 4, 0, 0, 1}
)

// routing2 and routing4 are routing headers by way of addresses.
func routing2(left byte, a string) []byte {
	b := netip.MustParseAddr(a).As16()
	return append([]byte{0, 2, 2, left, 0, 0, 0, 0}, b[:]...)
}

func routing4(left byte, tlvs []byte, list ...string) []byte {
	b := []byte{0, byte(2*len(list) + len(tlvs)/8), 4, left, byte(len(list) - 1), 0, 0, 0}
	for _, s := range list {
		a := netip.MustParseAddr(s).As16()
		b = append(b, a[:]...)
	}
	return append(b, tlvs...)
}

// routingHeaders are some that may be set and many that may not.
func routingHeaders() map[string][]byte {
	long := routing4(1, nil, "::1", "::1")
	list := map[string][]byte{
		"type 0": {0, 2, 0, 1, 23: 0}, "type 1": {0, 2, 1, 1, 23: 0}, "type 3": {0, 2, 3, 1, 23: 0}, "type 5": {0, 2, 5, 1, 23: 0},
		"type 2, none left": routing2(0, "::1"), "type 2, two left": routing2(2, "::1"),
		"type 2, of 40 bytes": {0, 4, 2, 2, 39: 0}, "type 2, of 8 bytes": {0, 0, 2, 0, 7: 0},
		"type 4": long, "type 4, one": routing4(0, nil, "::1"), "type 4, none left": routing4(0, nil, "::1", "::1"),
		"type 4, too many left": routing4(2, nil, "::1", "::1"), "type 4, of 8 bytes": {0, 0, 4, 0, 7: 0},
		"type 4, cut": long[:24], "type 4, longer than it says": append(append([]byte(nil), long...), make([]byte, 8)...),
		"type 4 with TLVs":          routing4(1, []byte{4, 6, 0, 0, 0, 0, 0, 0}, "::1", "::1"),
		"type 4 with two TLVs":      routing4(1, []byte{4, 2, 0, 0, 4, 2, 0, 0}, "::1", "::1"),
		"type 4 with a long TLV":    routing4(1, []byte{4, 7, 0, 0, 0, 0, 0, 0}, "::1", "::1"),
		"type 4 with half a TLV":    routing4(1, []byte{4, 5, 0, 0, 0, 0, 0, 9}, "::1", "::1"),
		"type 4 with less than one": {0, 5, 4, 0, 2, 47: 0},
	}
	return list
}

// headerOption is one of them, and what it is set to.
type headerOption struct {
	level, opt int
	values     map[string][]byte
}

func headerOptions(domain int) []headerOption {
	list := []headerOption{{0, socket.IP_OPTIONS, map[string][]byte{
		"route": recordRoute, "times": recordTimes, "alert": alerted, "none": nil, "bad": {7, 3}, "long": make([]byte, 41), "end": {0}, "nop": {1, 1, 1},
	}}}
	if domain == socket.AF_INET6 {
		all := map[string][]byte{"small": optionsOf(0x1e, 3), "large": optionsOf(0x1e, 100), "none": nil, "bad": {1}, "odd": make([]byte, 9),
			"shorter": {0, 1, 0, 0, 0, 0, 0, 0}, "huge": make([]byte, 8*256), "trailing": append(optionsOf(0x1e, 4), make([]byte, 8)...)}
		for _, o := range []int{socket.IPV6_HOPOPTS, socket.IPV6_DSTOPTS, socket.IPV6_RTHDRDSTOPTS} {
			list = append(list, headerOption{41, o, all})
		}
		list = append(list, headerOption{41, socket.IPV6_RTHDR, routingHeaders()})
	}
	return list
}

// noteHeaders writes down what a stream has.
func (x *scene) noteHeaders(what string, s berkeleySocket) {
	for _, o := range headerOptions(x.domain) {
		b := make([]byte, 2100)
		n, err := s.(messenger).getRaw(o.level, o.opt, b)
		if b[0] == recordTimes[0] {
			for at := 8; at+4 <= n; at += 8 {
				clear(b[at : at+4]) // the time itself
			}
		}
		x.note(fmt.Sprint(what, ", ", o.opt), err, fmt.Sprintf("%x", b[:max(n, 0)]))
	}
}

// TestStreamHeadersLikeKernel sets and reads the options and headers of streams in
// their states, and of datagram sockets the routing headers.
func TestStreamHeadersLikeKernel(t *testing.T) {
	watch(t)
	for _, domain := range []int{socket.AF_INET, socket.AF_INET6} {
		for _, typ := range []int{socket.SOCK_STREAM, socket.SOCK_DGRAM} {
			for _, st := range []state{{"fresh", func(x *scene) { x.s = x.socket() }},
				{"bound", func(x *scene) { x.s = x.socket(); x.s.bind(x.at(1)) }},
				{"listening", func(x *scene) { x.s = x.socket(); x.s.bind(x.at(1)); x.s.listen(5) }},
				{"connected", func(x *scene) { x.connectPair() }},
				{"accepted", func(x *scene) { x.connectPair(); x.s = x.peer }}} {
				if typ == socket.SOCK_DGRAM && st.name != "fresh" {
					continue
				}
				d := comparePrivately(t, domain, typ, func(x *scene) {
					st.make(x)
					x.log = nil
					s := x.s.(messenger)
					for _, o := range headerOptions(domain) {
						for _, name := range slices.Sorted(maps.Keys(o.values)) {
							x.note(fmt.Sprintf("%d to %s", o.opt, name), s.setRaw(o.level, o.opt, o.values[name]))
							for _, room := range []int{0, 1, 7, 2100} {
								b := make([]byte, room)
								n, err := s.getRaw(o.level, o.opt, b)
								x.note("get", n, err, fmt.Sprintf("%x", b))
							}
						}
					}
				})
				if d != "" {
					t.Errorf("%d/%d/%s:%s", domain, typ, st.name, d)
				}
			}
		}
		// What both ends of a connection have. What that takes of its segments shows
		// in internal/interop, as on loopback they are bounded by windows.
		for _, set := range headerOptions(domain) {
			// The kernel drops what comes with a routing header as long as that is not
			// turned on, and its streams with IPV6_RTHDRDSTOPTS alone do not connect.
			if set.opt == socket.IPV6_RTHDR || set.opt == socket.IPV6_RTHDRDSTOPTS {
				continue
			}
			for name, b := range set.values {
				d := comparePrivately(t, domain, socket.SOCK_STREAM, func(x *scene) {
					x.listener = x.socket()
					x.note("at the listener", x.listener.(messenger).setRaw(set.level, set.opt, b))
					x.listener.bind(x.at(0))
					x.listener.listen(5)
					x.s = x.socket()
					plain := x.socket()
					x.note("plain", plain.connect(x.at(0)))
					peer, _, err := x.listener.accept()
					x.note("accept", err)
					x.noteHeaders("accepted of a plain one", peer)

					x.note("set", x.s.(messenger).setRaw(set.level, set.opt, b))
					x.note("connect", x.s.connect(x.at(0)))
					x.sys.settle()
					if x.peer, _, err = x.listener.accept(); err != nil {
						x.note("accept", err)
						return
					}
					x.noteHeaders("here", x.s)
					x.noteHeaders("there", x.peer)
					x.note("again", plain.(messenger).setRaw(set.level, set.opt, b))
					x.noteHeaders("now", plain)
					for _, s := range []berkeleySocket{x.s, x.peer, plain} {
						x.send("send", s, "hello", 0, none)
					}
					x.sys.settle()
					for _, s := range []berkeleySocket{x.s, x.peer, peer} {
						x.recv("received", s, 10, 0)
					}
				})
				if d != "" {
					t.Errorf("%d/%d to %s:%s", domain, set.opt, name, d)
				}
			}
		}
	}
}
