package stack

// This file owns the settings of a datagram socket that are small numbers:
// what each may be, what it is at first, and what follows from it for one
// datagram. Both families have their own, because a socket of AF_INET6 may
// send both, as on Linux.

import (
	"net/netip"
	"syscall"

	"github.com/tapstack/tapstack/ipv6"
)

// DatagramOption is a setting of a Datagram.
type DatagramOption uint8

// The settings. Those that are on or off are 1 or 0.
const (
	DatagramTOS          DatagramOption = iota // IP_TOS: DS and ECN field
	DatagramClass                              // IPV6_TCLASS
	DatagramTTL                                // IP_TTL, of what goes to one host
	DatagramHops                               // IPV6_UNICAST_HOPS
	DatagramGroupTTL                           // IP_MULTICAST_TTL; 0 stays on this host
	DatagramGroupHops                          // IPV6_MULTICAST_HOPS
	DatagramLoop                               // IP_MULTICAST_LOOP: sockets of this host hear it too
	DatagramLoop6                              // IPV6_MULTICAST_LOOP
	DatagramAll                                // IP_MULTICAST_ALL: groups that others have joined
	DatagramAll6                               // IPV6_MULTICAST_ALL
	DatagramMTUDiscover                        // IP_MTU_DISCOVER: one of the PMTU constants
	DatagramMTUDiscover6                       // IPV6_MTU_DISCOVER
	DatagramDontFrag                           // IPV6_DONTFRAG
	DatagramErrors                             // IP_RECVERR: keep errors in a queue
	DatagramErrors6                            // IPV6_RECVERR
	DatagramFreebind                           // IP_FREEBIND: bind to an address that is not here yet
	DatagramTransparent                        // IP_TRANSPARENT: and send from it
	DatagramNoPort                             // IP_BIND_ADDRESS_NO_PORT: Bind to port 0 leaves it open
	DatagramDontRoute                          // SO_DONTROUTE: only to hosts on a link
	DatagramBroadcast                          // SO_BROADCAST: may send to broadcast addresses
	DatagramCork                               // UDP_CORK: what is sent becomes one datagram, until it is 0
	DatagramFlowLabels                         // IPV6_AUTOFLOWLABEL: flows get labels
	DatagramMinMTU                             // IPV6_USE_MIN_MTU: packets of 1280 bytes at most; -1: as Linux, where that is off
	DatagramPathMTU                            // IPV6_RECVPATHMTU: see TakePathMTUNews
	DatagramPreferences                        // IPV6_ADDR_PREFERENCES: PreferTemporary and its like
	DatagramRFC4884                            // IP_RECVERR_RFC4884: say where the extensions of errors are
	DatagramRFC4884v6                          // IPV6_RECVERR_RFC4884
	DatagramKeepHeaders                        // keep the extension headers of what is received, for who asks
	numDatagramOptions
)

// What IP_MTU_DISCOVER does: Linux's IP_PMTUDISC values.
const (
	PMTUDont      = 0 // fragments where they are needed, and routers may make them
	PMTUWant      = 1 // routers may not, this host does: the default
	PMTUDo        = 2 // nobody may: EMSGSIZE
	PMTUProbe     = 3 // as PMTUDo, and what was learnt of the path is ignored
	PMTUInterface = 4 // EMSGSIZE above the interface's MTU, routers may; what they report is ignored
	PMTUOmit      = 5 // as PMTUInterface, but this host makes fragments
)

// datagramRange is what a setting may be, and the value it has at first. Where
// minusOne holds -1 means that value.
var datagramRange = [numDatagramOptions]struct {
	min, max, def int16
	minusOne      bool
}{
	DatagramTOS:          {max: 255},
	DatagramClass:        {max: 255, minusOne: true},
	DatagramTTL:          {1, 255, -1, true},
	DatagramHops:         {1, 255, -1, true},
	DatagramGroupTTL:     {0, 255, 1, true}, // RFC 1112 §6.1: stays on the link unless asked
	DatagramGroupHops:    {0, 255, 1, true}, // RFC 3493 §5.2
	DatagramLoop:         {max: 1, def: 1},
	DatagramLoop6:        {max: 1, def: 1},
	DatagramAll:          {max: 1, def: 1},
	DatagramAll6:         {max: 1, def: 1},
	DatagramMTUDiscover:  {0, PMTUOmit, PMTUWant, false},
	DatagramMTUDiscover6: {0, PMTUOmit, PMTUWant, false},
	DatagramDontFrag:     {max: 1},
	DatagramErrors:       {max: 1},
	DatagramErrors6:      {max: 1},
	DatagramFreebind:     {max: 1},
	DatagramTransparent:  {max: 1},
	DatagramNoPort:       {max: 1},
	DatagramDontRoute:    {max: 1},
	DatagramBroadcast:    {max: 1},
	DatagramCork:         {max: 1},
	DatagramFlowLabels:   {max: 1, def: 1},
	DatagramMinMTU:       {-1, 1, -1, false},
	DatagramPathMTU:      {max: 1},
	DatagramPreferences:  {max: 7},
	DatagramRFC4884:      {max: 1},
	DatagramRFC4884v6:    {max: 1},
	DatagramKeepHeaders:  {max: 1},
}

// datagramSets are the settings of one socket.
type datagramSets [numDatagramOptions]int16

func (s *datagramSets) init() {
	for i := range s {
		s[i] = datagramRange[i].def
	}
}

// Set changes a setting. EINVAL for a value that it cannot have. To take the
// cork off sends what it held back, and to end the queue of errors empties it.
func (d *Datagram) Set(o DatagramOption, v int) error {
	r := &datagramRange[o]
	if v == -1 && r.minusOne {
		v = int(r.def)
	} else if v < int(r.min) || v > int(r.max) {
		return syscall.EINVAL
	}
	d.mu.Lock()
	d.sets[o] = int16(v)
	switch {
	case o == DatagramCork && v == 0 && d.corked != nil:
		d.uncorkLocked(d.stack.clock.Now())
	case (o == DatagramErrors || o == DatagramErrors6) && v == 0:
		d.errs.flush(d.stack)
	case o == DatagramDontRoute || o == DatagramPreferences:
		d.route = route{} // to be looked up again
	}
	d.unlock()
	return nil
}

// Option returns a setting; -1 where the default of the interface is used.
func (d *Datagram) Option(o DatagramOption) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return int(d.sets[o])
}

// on reports whether a setting is not 0.
func (s *datagramSets) on(o DatagramOption) bool { return s[o] != 0 }

// forFamily is a setting of which each family has its own.
func (s *datagramSets) forFamily(dst netip.Addr, four, six DatagramOption) int16 {
	if dst.Is4() {
		return s[four]
	}
	return s[six]
}

// applyLocked makes of the route to r.dst that of one datagram: whether it may
// be fragmented, and whether a copy stays here. It reports whether fragments
// are forbidden, and the hop limit, 0 for the default.
func (d *Datagram) applyLocked(r *route, m *SendInfo) (hops, tos uint8, df bool) {
	s := &d.sets
	tos = uint8(s.forFamily(r.dst, DatagramTOS, DatagramClass))
	if m.TOS >= 0 {
		tos = uint8(m.TOS)
	}
	h := s.forFamily(r.dst, DatagramTTL, DatagramHops)
	if r.dst.IsMulticast() {
		h = s.forFamily(r.dst, DatagramGroupTTL, DatagramGroupHops)
	}
	if m.Hops >= 0 {
		h = m.Hops
	}
	// As on Linux, what we send to a group or to all is also for ourselves.
	if r.bcast || r.dst.IsMulticast() && s.forFamily(r.dst, DatagramLoop, DatagramLoop6) != 0 {
		r.loop = true
	}
	r.stay = h == 0 && r.dst.IsMulticast()
	hops = uint8(max(h, 0))
	if r.stay {
		hops = 1
	}
	discover := s.forFamily(r.dst, DatagramMTUDiscover, DatagramMTUDiscover6)
	if discover >= PMTUProbe {
		r.mtu = r.iface.mtuFor(r.dst)
	}
	switch discover {
	case PMTUDo, PMTUProbe:
		df = true
	case PMTUInterface:
		df, r.mayFrag = true, true
	case PMTUDont, PMTUOmit:
		r.mayFrag = true
	}
	if r.dst.Is6() {
		r.label = label{set: m.FlowLabel != 0, value: m.FlowLabel, none: !s.on(DatagramFlowLabels)}
		if s[DatagramMinMTU] == 1 && m.MinMTU < 0 || m.MinMTU == 1 {
			r.mtu = min(r.mtu, ipv6.MinMTU)
		}
	}
	if r.dst.Is6() && (s.on(DatagramDontFrag) && m.DontFrag < 0 || m.DontFrag > 0) {
		df = true
	}
	return hops, tos, df
}

// PathMTU is the largest packet to the connected peer that is not fragmented
// (IP_MTU); ENOTCONN without a peer.
func (d *Datagram) PathMTU() (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.remote.IsValid() {
		return 0, syscall.ENOTCONN
	}
	if d.route.stale(d.stack, d.stack.clock.Now()) || d.route.iface == nil {
		r, err := d.routeLocked(d.remote.Addr(), plainSend)
		if err != nil {
			return 0, err
		}
		d.route = r
	}
	return d.route.mtu, nil
}
