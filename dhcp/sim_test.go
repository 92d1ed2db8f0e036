package dhcp_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/arp"
	"github.com/tapstack/tapstack/dhcp"
	"github.com/tapstack/tapstack/dhcp/internal/bothtest"
	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/stack"
)

// sim is a segment in virtual time with a DHCP server and a client on it.
type sim struct {
	*bothtest.Sim

	server *stack.Stack
	udp    *stack.Datagram
	log    []string // what clients asked, with the time since the start
	up     bool
	lease  time.Duration
	pool   []netip.Prefix
	bad    map[netip.Addr]bool      // declined
	edit   func(r *dhcp.Message)    // may change what the server answers
	refuse func(*dhcp.Message) bool // NAK

	rogue  *wire.Port
	runner dhcp.Manual
	opt    dhcp.RunOptions
}

// newSim makes the segment and the server, which is 10.0.0.1; start adds the
// client.
func newSim(t *testing.T) *sim {
	m := &sim{Sim: bothtest.New(t, 5), up: true, lease: time.Hour, bad: map[netip.Addr]bool{}, pool: leased}
	m.server, _ = m.N.Host(m.Seg, stack.Config{}, nil, routerAddr.String())
	var err error
	if m.udp, err = m.server.NewUDP(false); err == nil {
		m.udp.Set(stack.DatagramBroadcast, 1)
		err = m.udp.Bind(netip.AddrPortFrom(netip.IPv4Unspecified(), dhcp.ServerPort))
	}
	if err != nil {
		t.Fatal(err)
	}
	bothtest.Serve(m.udp, m.serve)
	t.Cleanup(func() { m.Close(m.server) })
	return m
}

func (m *sim) serve(b []byte, from netip.AddrPort) {
	q, drop := dhcp.ParseMessage(b)
	if drop != dhcp.DropNone {
		m.Fatal(drop)
	}
	if !m.up {
		return
	}
	m.log = append(m.log, q.Options.Type().String())
	free := func() netip.Addr {
		for _, p := range m.pool {
			if !m.bad[p.Addr()] {
				return p.Addr()
			}
		}
		return netip.Addr{}
	}
	r := &dhcp.Message{Op: dhcp.OpReply, XID: q.XID, Broadcast: q.Broadcast, CHAddr: q.CHAddr, CIAddr: q.CIAddr, YIAddr: free()}
	typ := dhcp.ACK
	switch q.Options.Type() {
	case dhcp.Discover:
		typ = dhcp.Offer
	case dhcp.Request:
		want := q.CIAddr
		if a := q.Options.Addr(dhcp.OptRequestedIP); a.IsValid() {
			want = a
		}
		if want != free() || m.refuse != nil && m.refuse(q) {
			typ, r.YIAddr = dhcp.NAK, netip.Addr{}
		}
	case dhcp.Decline:
		m.bad[q.Options.Addr(dhcp.OptRequestedIP)] = true
		return
	case dhcp.Inform:
		r.YIAddr = netip.Addr{}
	default:
		return
	}
	r.Options.Set(dhcp.OptMessageType, byte(typ))
	r.Options.SetAddr(dhcp.OptServerID, routerAddr.Addr())
	if typ != dhcp.NAK && r.YIAddr.IsValid() {
		r.Options.Set(dhcp.OptSubnetMask, 255, 255, 255, 0)
		r.Options.SetAddr(dhcp.OptRouters, routerAddr.Addr())
		r.Options.SetSeconds(dhcp.OptLeaseTime, m.lease)
	}
	if m.edit != nil {
		m.edit(r)
	}
	to := netip.MustParseAddrPort("255.255.255.255:68")
	if q.CIAddr.IsGlobalUnicast() {
		to = from
	}
	m.udp.SendTo(r.Append(nil), to)
}

// start adds the client's host and its runner.
func (m *sim) start(opt dhcp.RunOptions, acd bool) {
	m.Helper()
	m.Attach(stack.InterfaceConfig{ACD: acd, DisableIPv6: true})
	m.opt = opt
	m.run()
}

func (m *sim) run() {
	m.Helper()
	opt := m.opt
	opt.Changed = func(l dhcp.Lease, have bool) {
		m.News = append(m.News, fmt.Sprintf("%v %v", l.Addr.Addr(), have))
	}
	opt.Trouble = func(err error) { m.News = append(m.News, err.Error()) }
	var err error
	if m.runner, err = dhcp.NewManual(m.NIC, opt, m.N.Now(), m.Wake); err != nil {
		m.Fatal(err)
	}
	m.Drive(m.runner)
}

// said returns what the server heard since the last call.
func (m *sim) said() string {
	s := strings.Join(m.log, " ")
	m.log = nil
	return s
}

func (m *sim) wantSaid(want string) {
	m.Helper()
	if got := m.said(); got != want {
		m.Errorf("the server heard %q, want %q", got, want)
	}
}

func (m *sim) wantAddrs(want ...netip.Prefix) {
	m.Helper()
	if got := m.NIC.Addrs(); !slices.Equal(got, want) {
		m.Errorf("addresses %v, want %v", got, want)
	}
}

// watch shows f every frame that the client sends.
func (m *sim) watch(f func([]byte)) {
	m.Cable.SetImpairment(wire.Impairment{Drop: func(frame []byte) bool {
		f(frame)
		return false
	}})
}

// claim has another host say that the address is its own.
func (m *sim) claim(a netip.Addr) {
	m.N.After(0, func() {
		if m.rogue == nil {
			m.rogue = m.Seg.Attach("rogue", rogueMAC)
			m.rogue.Attach(func(p *pkt.Buf) { p.Put() }, func() {})
		}
		b := make([]byte, ether.HeaderLen+arp.PacketLen)
		ether.Put(b, ether.Broadcast, rogueMAC, ether.TypeARP)
		arp.Announcement(b[ether.HeaderLen:], rogueMAC, a)
		m.rogue.Send(0, []*pkt.Buf{pkt.From(b)})
	})
}

var rogueMAC = ether.Addr{2, 6, 6, 6, 6, 6}

func arpOf(frame []byte) (arp.Packet, bool) {
	if len(frame) < ether.HeaderLen || frame[12] != 8 || frame[13] != 6 {
		return nil, false
	}
	a, drop := arp.Parse(frame[ether.HeaderLen:])
	return a, drop == arp.DropNone
}

// TestADayInSimnet: 24 hours of renewals, with a server that goes away for
// hours, with links that flap for seconds, and with a network that comes back as
// another one. At the end the address is right, and nothing is left behind.
func TestADayInSimnet(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	m := newSim(t)
	m.start(dhcp.RunOptions{LinkLocal: true}, true)
	var lost, flaps int
	rnd := m.N.Rand()
	for hour := range 24 {
		// The server is away from the 3rd hour on for three hours, and for half
		// an hour later on, which no lease notices.
		m.up = !(hour >= 3 && hour < 6) && hour != 15
		if hour == 15 {
			m.N.After(30*time.Minute, func() { m.up = true })
		}
		if hour == 12 { // the network is another one from here on
			m.pool = leased[1:]
		}
		for range rnd.IntN(4) {
			flaps++
			m.N.After(time.Duration(rnd.Int64N(int64(59*time.Minute))), func() {
				m.Cable.SetImpairment(wire.Impairment{Loss: 1})
				m.N.After(time.Duration(1+rnd.IntN(40))*time.Second, func() {
					m.Cable.SetImpairment(wire.Impairment{})
					m.NIC.Reclaim()
					m.runner.LinkUp()
				})
			})
		}
		m.N.RunFor(time.Hour)
		switch s := m.runner.Status(); {
		case hour < 3 || hour > 6 && hour < 12:
			if !s.Bound || s.Lease.Addr != leased[0] {
				t.Errorf("hour %d: %+v", hour, s)
			}
		case hour == 5:
			if s.Bound || !s.LinkLocal.IsValid() {
				t.Errorf("hour %d: without a server: %+v", hour, s)
			}
		case hour > 12:
			if !s.Bound || s.Lease.Addr != leased[1] {
				t.Errorf("hour %d: %+v", hour, s)
			}
		}
	}
	for _, n := range m.News {
		if strings.HasSuffix(n, "false") {
			lost++
		}
	}
	if flaps < 10 || lost < 2 {
		t.Errorf("%d flaps, %d leases lost: %q", flaps, lost, m.News)
	}
	m.N.RunFor(2 * time.Minute) // what the last flap has disturbed
	m.wantAddrs(leased[1])
	if s := m.said(); strings.Count(s, "REQUEST") < 40 || strings.Count(s, "DECLINE") > 0 {
		t.Errorf("the server heard %d requests, %d declines", strings.Count(s, "REQUEST"), strings.Count(s, "DECLINE"))
	}
	m.Stop()
	m.N.RunFor(time.Second)
	m.wantSaid("RELEASE")
	m.wantAddrs()
	if rt := m.Host.Routes().List(); len(rt) != 0 {
		t.Errorf("routes left: %v", rt)
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		t.Errorf("%d goroutines, %d before", n, goroutines)
	}
}

// TestFallback: without a server the host gives itself an address of
// 169.254/16, probed and announced; and changes to a lease when one comes,
// while connections that use the old address go on.
func TestFallback(t *testing.T) {
	m := newSim(t)
	m.up = false
	m.start(dhcp.RunOptions{LinkLocal: true}, false)
	m.N.RunFor(12 * time.Second)
	if n := m.Host.Counters()["arp.probe"]; n > 1 {
		t.Errorf("%d probes before servers had their time", n)
	}
	m.N.RunFor(8 * time.Second)
	ll := m.runner.Status().LinkLocal
	if ll.Bits() != 16 || !strings.HasPrefix(ll.String(), "169.254.") {
		t.Fatalf("%+v", m.runner.Status())
	}
	m.wantAddrs(ll)
	if c := m.Host.Counters(); c["arp.probe"] != 3 || c["arp.announce"] == 0 {
		t.Errorf("%d probes, %d announcements", c["arp.probe"], c["arp.announce"])
	}
	// A neighbour of the same kind, and a connection with it.
	other, _ := m.N.Host(m.Seg, stack.Config{}, nil, "169.254.77.7/16")
	defer other.Close()
	l, err := other.BindTCP(netip.MustParseAddrPort("0.0.0.0:7"), false, false)
	if err == nil {
		err = l.Listen(1)
	}
	if err != nil {
		t.Fatal(err)
	}
	c, err := m.Host.DialTCP(netip.AddrPort{}, netip.MustParseAddrPort("169.254.77.7:7"))
	if err != nil {
		t.Fatal(err)
	}
	m.N.RunFor(time.Second)
	if _, err := c.Write([]byte("x")); err != nil || c.LocalAddr().Addr() != ll.Addr() {
		t.Fatalf("from %v: %v", c.LocalAddr(), err)
	}
	m.up = true
	m.N.RunFor(2 * time.Minute)
	s := m.runner.Status()
	if !s.Bound || s.Lease.Addr != leased[0] || s.LinkLocal.IsValid() {
		t.Errorf("%+v", s)
	}
	// RFC 3927 §1.9: the connection goes on; new ones come from the lease,
	// to link-local neighbours as well (§2.6.2).
	m.wantAddrs(ll, leased[0])
	if _, err := c.Write([]byte("x")); err != nil {
		t.Errorf("the connection: %v", err)
	}
	for _, to := range []string{"10.0.0.1:9", "8.8.8.8:9"} {
		u, _ := m.Host.NewUDP(false)
		if err := u.Connect(netip.MustParseAddrPort(to)); err != nil || u.LocalAddr().Addr() != leased[0].Addr() {
			t.Errorf("to %s from %v: %v", to, u.LocalAddr(), err)
		}
		u.Close()
	}
	c.Abort()
	m.N.RunFor(time.Minute)
	m.wantAddrs(leased[0])
	if !slices.ContainsFunc(m.Host.Routes().List(), func(r stack.Route) bool { return r.Dst.String() == "169.254.0.0/16" }) {
		t.Errorf("no route to link-local neighbours: %v", m.Host.Routes().List())
	}

	// The server goes: the lease ends, the old address comes back.
	m.up = false
	m.N.RunFor(time.Hour + time.Minute)
	if s := m.runner.Status(); s.Bound || s.LinkLocal != ll {
		t.Errorf("%+v", s)
	}
	m.wantAddrs(ll)

	// And the server comes again: link-local neighbours are neighbours still.
	m.up = true
	m.N.RunFor(2 * time.Minute)
	m.wantAddrs(leased[0])
	if w, err := m.Host.Routes().Get(netip.MustParseAddr("169.254.77.7"), netip.Addr{}, nil); err != nil || w.NextHop.String() != "169.254.77.7" {
		t.Errorf("to a link-local neighbour by %v with the second lease: %v", w.NextHop, err)
	}
	m.up = false
	m.N.RunFor(time.Hour + time.Minute)
	m.wantAddrs(ll)
	// Its user takes it away: that is that.
	m.NIC.DelAddr(ll.Addr())
	m.N.RunFor(time.Hour)
	m.wantAddrs()
}

// TestFallbackIsForbidden: a server that has no address may say that hosts
// shall not make one (RFC 2563); and without LinkLocal nobody does.
func TestFallbackIsForbidden(t *testing.T) {
	for _, c := range []struct {
		on      bool
		say     byte
		want    int
		options bool
	}{{true, 0, 0, true}, {true, 1, 1, true}, {false, 1, 0, false}} {
		m := newSim(t)
		m.pool = nil
		m.edit = func(r *dhcp.Message) { r.Options.Set(dhcp.OptAutoConfigure, c.say) }
		m.start(dhcp.RunOptions{LinkLocal: c.on}, false)
		m.N.RunFor(time.Minute)
		if got := m.NIC.Addrs(); len(got) != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// TestFallbackConflicts: addresses that are in use are left to their owners, ten
// as fast as they are probed and then one in a minute; one that is lost later is
// replaced, and its connections are reset.
func TestFallbackConflicts(t *testing.T) {
	m := newSim(t)
	m.up = false
	m.start(dhcp.RunOptions{LinkLocal: true}, false)
	// Somebody who claims whatever is asked for.
	greedy := true
	var asked []netip.Addr
	m.watch(func(frame []byte) {
		a, ok := arpOf(frame)
		if ok && a.IsProbe() && greedy && !slices.Contains(asked, a.TargetIP()) {
			asked = append(asked, a.TargetIP())
			m.claim(a.TargetIP())
		}
	})
	m.N.RunFor(time.Minute)
	n := len(asked)
	if n < 10 {
		t.Errorf("%d addresses in a minute", n)
	}
	m.N.RunFor(10 * time.Minute)
	if got := len(asked) - n; got < 8 || got > 11 {
		t.Errorf("%d more in ten minutes", got)
	}
	greedy = false
	m.N.RunFor(2 * time.Minute)
	ll := m.runner.Status().LinkLocal
	m.wantAddrs(ll)

	// Twice within ten seconds.
	u, err := m.Host.NewUDP(false)
	if err == nil {
		err = u.Bind(netip.AddrPortFrom(ll.Addr(), 9))
	}
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	m.claim(ll.Addr())
	m.N.RunFor(time.Second)
	m.wantAddrs(ll)
	m.claim(ll.Addr())
	m.N.RunFor(time.Second)
	m.wantAddrs()
	if err := u.TakeError(); err != syscall.EADDRNOTAVAIL {
		t.Errorf("its socket hears %v", err)
	}
	m.N.RunFor(2 * time.Minute)
	if s := m.runner.Status(); !s.LinkLocal.IsValid() || s.LinkLocal == ll {
		t.Errorf("%+v after %v", s, ll)
	}
}

// TestDeclineInSimnet: with conflict detection an address that another host has
// is declined, and the next one taken; one that is lost later is declined too.
func TestDeclineInSimnet(t *testing.T) {
	m := newSim(t)
	owner, _ := m.N.Host(m.Seg, stack.Config{}, nil, leased[0].String())
	m.start(dhcp.RunOptions{}, true)
	m.N.RunFor(30 * time.Second)
	m.wantSaid("DISCOVER REQUEST DECLINE DISCOVER REQUEST")
	m.wantAddrs(leased[1])
	if !m.runner.Status().Bound || m.NIC.Ready(t.Context()) != nil {
		t.Errorf("%+v, %v", m.runner.Status(), m.NIC.Ready(t.Context()))
	}
	owner.Close()
	c, err := m.Host.DialTCP(netip.AddrPort{}, netip.AddrPortFrom(routerAddr.Addr(), 9))
	if err != nil {
		t.Fatal(err)
	}
	_ = c
	m.bad = map[netip.Addr]bool{}
	m.claim(leased[1].Addr())
	m.N.RunFor(time.Second)
	m.claim(leased[1].Addr())
	m.N.RunFor(time.Second)
	m.wantSaid("DECLINE")
	m.wantAddrs()
	m.N.RunFor(30 * time.Second)
	m.wantAddrs(leased[0])
	if want := []string{"10.0.0.51 true", "10.0.0.51 false", "10.0.0.50 true"}; !slices.Equal(m.News, want) {
		t.Errorf("%q, want %q", m.News, want)
	}
}

// TestDeclinedBeforeClose: a server is told of a conflict although the runner is
// closed at the same instant.
func TestDeclinedBeforeClose(t *testing.T) {
	m := newSim(t)
	m.start(dhcp.RunOptions{}, true)
	m.N.RunFor(time.Second) // its address is being probed
	m.NIC.Observe(m.runner.Stop)
	m.claim(leased[0].Addr())
	m.N.RunFor(time.Second)
	m.wantSaid("DISCOVER REQUEST DECLINE")
	m.wantAddrs()
}

// TestCloseWaitsForNothing: not for conflict detection either.
func TestCloseWaitsForNothing(t *testing.T) {
	m := newSim(t)
	m.start(dhcp.RunOptions{}, true)
	m.N.RunFor(time.Second)
	m.wantSaid("DISCOVER REQUEST")
	if m.runner.Status().Bound {
		t.Error("bound before the address was probed")
	}
	now := m.N.Now()
	m.Stop()
	if m.N.Now() != now {
		t.Error("it took time")
	}
	m.N.RunFor(time.Minute)
	// An address that is still probed may not be used, be it to give it back
	// (RFC 5227 §2.1.1): the server gets it when the lease is over.
	m.wantSaid("")
	m.wantAddrs()
}

// TestExpiryTellsSockets: when a lease is over its address goes, and the sockets
// that have it are told.
func TestExpiryTellsSockets(t *testing.T) {
	m := newSim(t)
	m.start(dhcp.RunOptions{}, false)
	m.N.RunFor(time.Second)
	m.wantAddrs(leased[0])
	l, err := m.server.BindTCP(netip.MustParseAddrPort("0.0.0.0:7"), false, false)
	if err == nil {
		err = l.Listen(1)
	}
	if err != nil {
		t.Fatal(err)
	}
	c, err := m.Host.DialTCP(netip.AddrPort{}, netip.AddrPortFrom(routerAddr.Addr(), 7))
	if err != nil {
		t.Fatal(err)
	}
	bound, _ := m.Host.NewUDP(false)
	connected, _ := m.Host.NewUDP(false)
	wild, _ := m.Host.NewUDP(false)
	if err := bound.Bind(netip.AddrPortFrom(leased[0].Addr(), 9)); err != nil {
		t.Fatal(err)
	}
	if err := connected.Connect(netip.AddrPortFrom(routerAddr.Addr(), 9)); err != nil {
		t.Fatal(err)
	}
	if err := wild.Bind(netip.MustParseAddrPort("0.0.0.0:10")); err != nil {
		t.Fatal(err)
	}
	m.up = false
	m.N.RunFor(time.Hour - 2*time.Second)
	if c.Err() != nil || bound.TakeError() != nil {
		t.Errorf("before the end: %v", c.Err())
	}
	m.N.RunFor(2 * time.Second)
	m.wantAddrs()
	if err := c.Err(); err != syscall.EADDRNOTAVAIL {
		t.Errorf("the connection: %v", err)
	}
	for name, u := range map[string]*stack.Datagram{"bound": bound, "connected": connected} {
		if err := u.TakeError(); err != syscall.EADDRNOTAVAIL {
			t.Errorf("the %s socket: %v", name, err)
		}
	}
	if err := wild.TakeError(); err != nil {
		t.Errorf("a socket of no address: %v", err)
	}
	if want := []string{"10.0.0.50 true", "10.0.0.50 false"}; !slices.Equal(m.News, want) {
		t.Errorf("%q, want %q", m.News, want)
	}
	for _, u := range []*stack.Datagram{bound, connected, wild} {
		u.Close()
	}
	c.Abort()
}

// TestLeaseFile: the next start asks for the same address by INIT-REBOOT, which
// is one message less; a lease that is over, or was refused, is not asked for so.
func TestLeaseFile(t *testing.T) {
	m := newSim(t)
	file := filepath.Join(t.TempDir(), "lease")
	m.lease = 1000 * time.Hour // of the wall's time, which goes on
	m.start(dhcp.RunOptions{LeaseFile: file}, false)
	m.N.RunFor(time.Second)
	m.wantSaid("DISCOVER REQUEST")
	m.Stop()
	m.N.RunFor(time.Second)
	m.wantSaid("") // kept
	m.wantAddrs()
	m.run()
	m.N.RunFor(time.Second)
	m.wantSaid("REQUEST")
	m.wantAddrs(leased[0])
	m.Stop()

	m.pool = leased[1:] // the address is another's
	m.run()
	m.N.RunFor(time.Second)
	m.wantSaid("REQUEST DISCOVER REQUEST")
	m.wantAddrs(leased[1])
	m.Stop()

	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.News = nil
	m.run()
	m.N.RunFor(time.Second)
	m.wantSaid("DISCOVER REQUEST")
	if len(m.News) != 2 || !strings.Contains(m.News[0], "lease file") {
		t.Errorf("of a damaged file: %q", m.News)
	}
	m.Stop()

	// A link-local address is remembered beside the lease, and tried first.
	m.up, m.opt.LinkLocal = false, true
	m.run()
	m.N.RunFor(time.Minute)
	ll := m.runner.Status().LinkLocal
	m.claim(ll.Addr())
	m.N.RunFor(time.Second)
	m.claim(ll.Addr())
	m.N.RunFor(time.Minute)
	second := m.runner.Status().LinkLocal
	m.Stop()
	m.run()
	m.N.RunFor(time.Minute)
	if got := m.runner.Status().LinkLocal; got != second || second == ll || !ll.IsValid() {
		t.Errorf("%v, then %v, after the start %v", ll, second, got)
	}
	m.Stop()
	m.up = true
	m.said()
	m.run()
	m.N.RunFor(time.Second)
	m.wantSaid("REQUEST")
}

// TestUseOfALease: MTU, routes and the rest, as a lease comes and as a renewal
// changes it, which costs no connection.
func TestUseOfALease(t *testing.T) {
	m := newSim(t)
	mtu := byte(120)
	m.edit = func(r *dhcp.Message) {
		r.Options.Set(dhcp.OptMTU, 5, mtu)
		r.Options.Set(dhcp.OptStaticRoutes, 172, 16, 0, 0, 10, 0, 0, 3)
	}
	m.start(dhcp.RunOptions{}, false)
	m.N.RunFor(time.Second)
	if m.NIC.MTU4() != 1400 || m.NIC.MTU() != 1500 {
		t.Errorf("MTU %d", m.NIC.MTU4())
	}
	routes := func() (list []string) {
		for _, r := range m.Host.Routes().List() {
			list = append(list, fmt.Sprintf("%v %v", r.Dst, r.Gateway))
		}
		return list
	}
	if got, want := routes(), []string{"172.16.0.0/16 10.0.0.3", "0.0.0.0/0 10.0.0.1"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	// With an address of its user's the interface has routes without the lease.
	if err := m.NIC.AddAddr(netip.MustParsePrefix("10.9.9.9/24")); err != nil {
		t.Fatal(err)
	}
	mine := stack.Route{Dst: netip.MustParsePrefix("192.0.2.0/24"), Gateway: netip.MustParseAddr("10.0.0.9"), Interface: m.NIC}
	if err := m.Host.AddRoute(mine); err != nil {
		t.Fatal(err)
	}
	l, err := m.server.BindTCP(netip.MustParseAddrPort("0.0.0.0:7"), false, false)
	if err == nil {
		err = l.Listen(1)
	}
	if err != nil {
		t.Fatal(err)
	}
	c, err := m.Host.DialTCP(netip.AddrPort{}, netip.AddrPortFrom(routerAddr.Addr(), 7))
	if err != nil {
		t.Fatal(err)
	}
	m.edit = func(r *dhcp.Message) {
		r.Options.Set(dhcp.OptMTU, 1, 0) // below what every host accepts: not followed
		r.Options.Set(dhcp.OptRoutes, 0, 10, 0, 0, 2, 24, 192, 0, 2, 10, 0, 0, 9, 25, 198, 51, 100, 128, 0, 0, 0, 0)
	}
	m.N.RunFor(40 * time.Minute)
	if m.NIC.MTU4() != 1500 {
		t.Errorf("MTU %d", m.NIC.MTU4())
	}
	if got, want := routes(), []string{"198.51.100.128/25 invalid IP", "192.0.2.0/24 10.0.0.9", "0.0.0.0/0 10.0.0.2"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if c.Err() != nil {
		t.Errorf("the connection: %v", c.Err())
	}
	c.Abort()
	m.Stop()
	if got, want := routes(), []string{"192.0.2.0/24 10.0.0.9"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestUserRemovesAddress: the lease is given back, and nothing asked for again.
func TestUserRemovesAddress(t *testing.T) {
	m := newSim(t)
	m.start(dhcp.RunOptions{LinkLocal: true}, false)
	m.N.RunFor(time.Second)
	m.NIC.DelAddr(leased[0].Addr())
	m.N.RunFor(time.Hour)
	m.wantAddrs()
	if s := m.runner.Status(); s.Bound || s.State != dhcp.Stopped {
		t.Errorf("%+v", s)
	}
}

// TestOtherAddress: messages come from 0.0.0.0 although the interface has an
// address by other means, and the lease is in addition to it.
func TestOtherAddress(t *testing.T) {
	m := newSim(t)
	var sources []string
	m.up = false // for the first seconds, in which the user gives it an address
	m.start(dhcp.RunOptions{}, false)
	m.watch(func(frame []byte) {
		if len(frame) > 42 && frame[12] == 8 && frame[13] == 0 && frame[23] == 17 && frame[37] == dhcp.ServerPort {
			sources = append(sources, netip.AddrFrom4([4]byte(frame[26:30])).String())
		}
	})
	own := netip.MustParsePrefix("10.9.9.9/24")
	if err := m.NIC.AddAddr(own); err != nil {
		t.Fatal(err)
	}
	m.N.RunFor(time.Second)
	m.up = true
	m.N.RunFor(40 * time.Minute)
	m.wantAddrs(own, leased[0])
	if want := []string{"0.0.0.0", "0.0.0.0", "10.0.0.50"}; !slices.Equal(sources, want) {
		t.Errorf("sent from %v, want %v", sources, want)
	}
}

// TestInformInSimnet: a host with an address of its own asks for the rest.
func TestInformInSimnet(t *testing.T) {
	m := newSim(t)
	m.edit = func(r *dhcp.Message) { r.Options.SetAddr(dhcp.OptDNS, routerAddr.Addr()) }
	m.start(dhcp.RunOptions{Inform: netip.MustParseAddr("10.0.0.99")}, false)
	own := netip.MustParsePrefix("10.0.0.99/24")
	m.Stop()
	if err := m.NIC.AddAddr(own); err != nil {
		t.Fatal(err)
	}
	m.run()
	m.N.RunFor(time.Second)
	m.wantSaid("INFORM")
	if s := m.runner.Status(); !s.Informed || s.Bound || len(s.Lease.DNS) != 1 {
		t.Errorf("%+v", s)
	}
	m.Stop()
	m.N.RunFor(time.Second)
	m.wantSaid("")
	m.wantAddrs(own)
}
