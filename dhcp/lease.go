package dhcp

// What a server granted, as the client understands it.

import (
	"net/netip"
	"slices"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// maxList bounds each list of a lease; a message may hold thousands of
// entries. The rest is not used.
const maxList = 64

// Lease is an address and what came with it. Its slices must not be changed.
type Lease struct {
	Addr      netip.Prefix // the address, with the length of its subnet
	Broadcast netip.Addr   // of the subnet; not valid for lengths 31 and 32
	// Routers are the default routers, the preferred first. There are none
	// if the server sent classless routes (option 121), which then hold the
	// default route too (RFC 3442). Routes are those, or the classful ones of
	// option 33.
	Routers []netip.Addr
	Routes  []Route
	DNS     []netip.Addr
	NTP     []netip.Addr
	Domain  string   // without a final dot
	Search  []string // domains, without final dots
	MTU     int      // 0: not said; else at least 68
	// Portal is the URI of the network's captive portal (RFC 8910), "": none.
	Portal string
	Server netip.Addr
	// Options are all that the server sent: see Options.Value.
	Options Options

	// The lease runs for Lease from Acquired, which is when the request was
	// sent; it is renewed from T1 and rebound from T2. Infinite is forever.
	Lease, T1, T2 time.Duration
	Acquired      mono.Time
}

// newLease reads an offer or acknowledgement and refuses what a host cannot
// use. The caller fills in Acquired.
func newLease(m *Message) (Lease, Drop) {
	o := m.Options
	l := Lease{Server: o.Addr(OptServerID)}
	if !l.Server.IsValid() {
		return Lease{}, DropServer
	}
	if !isHost(m.YIAddr) {
		return Lease{}, DropAddress
	}
	n, ok := o.PrefixLen()
	if !ok {
		n = classLen(m.YIAddr)
	}
	l.Addr = netip.PrefixFrom(m.YIAddr, n)
	if n <= 30 {
		l.Broadcast = lastAddr(l.Addr)
		if m.YIAddr == l.Broadcast || m.YIAddr == l.Addr.Masked().Addr() {
			return Lease{}, DropAddress
		}
		if b := o.Addr(OptBroadcast); b.IsValid() && l.Addr.Contains(b) && b != m.YIAddr {
			l.Broadcast = b
		}
	}
	if l.Lease, ok = o.Seconds(OptLeaseTime); !ok || l.Lease == 0 {
		return Lease{}, DropLease
	}
	l.setTimes(o)

	l.setRest(o)
	l.Routers = slices.DeleteFunc(l.Routers, func(a netip.Addr) bool { return a == m.YIAddr })
	return l, DropNone
}

// newInform reads the answer to an INFORM: everything but an address and its
// times (RFC 2131 §4.3.5).
func newInform(m *Message) (Lease, Drop) {
	l := Lease{Server: m.Options.Addr(OptServerID)}
	if !l.Server.IsValid() {
		return Lease{}, DropServer
	}
	l.setRest(m.Options)
	return l, DropNone
}

// setRest reads what does not depend on the address.
func (l *Lease) setRest(o Options) {
	// RFC 3442: with classless routes the options for routers and static routes
	// MUST be ignored.
	if l.Routes = bounded(o.Routes()); l.Routes == nil {
		l.Routers, l.Routes = bounded(o.Addrs(OptRouters)), bounded(o.StaticRoutes())
	}
	l.DNS, l.NTP = bounded(o.Addrs(OptDNS)), bounded(o.Addrs(OptNTP))
	l.Domain, l.Search, l.MTU, l.Portal = o.Domain(), bounded(o.Search()), o.MTU(), o.CaptivePortal()
	l.Options = o
}

func bounded[T any](s []T) []T { return s[:min(len(s), maxList)] }

// setTimes takes T1 and T2 from the server where they make sense together,
// 0 < T1 < T2 < lease, and else the defaults of RFC 2131 §4.4.5.
func (l *Lease) setTimes(o Options) {
	if l.Lease == Infinite {
		l.T1, l.T2 = Infinite, Infinite
		return
	}
	def1, def2 := l.Lease/2, l.Lease/8*7
	t1, ok1 := o.Seconds(OptT1)
	if !ok1 {
		t1 = def1
	}
	t2, ok2 := o.Seconds(OptT2)
	if !ok2 {
		t2 = def2
	}
	if t1 == 0 || t1 >= t2 || t2 >= l.Lease {
		t1, t2 = def1, def2
	}
	l.T1, l.T2 = t1, t2
}

// classLen is the mask of the address's class, for servers that send none
// (RFC 950 §2.1).
func classLen(a netip.Addr) int {
	switch b := a.As4()[0]; {
	case b < 128:
		return 8
	case b < 192:
		return 16
	}
	return 24
}

// lastAddr returns the address of p with all host bits set.
func lastAddr(p netip.Prefix) netip.Addr {
	a := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		a[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(a)
}
