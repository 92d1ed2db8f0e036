package dhcp6_test

import (
	"bytes"
	"encoding/binary"
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

	"github.com/tapstack/tapstack/dhcp/dhcp6"
	"github.com/tapstack/tapstack/dhcp/internal/bothtest"
	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/stack"
)

// pool are the addresses of the servers.
var pool = []netip.Prefix{netip.MustParsePrefix("fd00::1:1/128"), netip.MustParsePrefix("fd00::1:2/128"), netip.MustParsePrefix("fd00::1:3/128")}

// sim is a segment in virtual time with two DHCPv6 servers and a client on it.
type sim struct {
	*bothtest.Sim

	servers [2]*simServer
	log     []string // what clients asked
	life    uint32   // preferred lifetime in seconds; valid is twice that
	first   int      // of the pool: the first that fits the link
	bad     map[netip.Prefix]bool

	runner dhcp6.Manual
	opt    dhcp6.RunOptions
	advice dhcp6.Advice
}

type simServer struct {
	m    *sim
	s    *stack.Stack
	udp  *stack.Datagram
	duid []byte
	up   bool
}

func newSim(t *testing.T) *sim {
	m := &sim{Sim: bothtest.New(t, 7), life: 3600, bad: map[netip.Prefix]bool{}}
	for i := range m.servers {
		v := &simServer{m: m, up: i == 0, duid: []byte{0, 3, 0, 1, 9, 9, 9, 9, 9, byte(i)}}
		var nic *stack.Interface
		v.s, nic = m.N.Host(m.Seg, stack.Config{}, nil, fmt.Sprintf("fe80::%d/64", 0xa+i))
		var err error
		if v.udp, err = v.s.NewUDP(true); err == nil {
			err = v.udp.Bind(netip.AddrPortFrom(netip.IPv6Unspecified(), dhcp6.ServerPort))
		}
		if err == nil {
			err = v.udp.Join(stack.Membership{Group: dhcp6.AllServers, Interface: nic})
		}
		if err != nil {
			t.Fatal(err)
		}
		bothtest.Serve(v.udp, v.serve)
		m.servers[i] = v
	}
	t.Cleanup(func() { m.Close(m.servers[0].s, m.servers[1].s) })
	return m
}

func (v *simServer) serve(b []byte, from netip.AddrPort) {
	m := v.m
	q, d := dhcp6.ParseMessage(b)
	if d != dhcp6.DropNone || from.Port() != dhcp6.ClientPort || !from.Addr().IsLinkLocalUnicast() {
		m.Fatal(d, from)
	}
	if id := q.Options.Get(dhcp6.OptServerID); !v.up || id != nil && !bytes.Equal(id, v.duid) {
		return
	}
	m.log = append(m.log, q.Type.String())
	r := &dhcp6.Message{Type: dhcp6.Reply, XID: q.XID}
	r.Options.Add(dhcp6.OptClientID, q.Options.Get(dhcp6.OptClientID)...)
	r.Options.Add(dhcp6.OptServerID, v.duid...)
	if q.Type != dhcp6.Confirm {
		r.Options.AddAddrs(dhcp6.OptDNS, pool[2].Addr())
	}
	asked := q.Options.Get(dhcp6.OptIANA)
	has := func(p netip.Prefix) bool { return bytes.Contains(asked, p.Addr().AsSlice()) }
	status := func(s dhcp6.StatusCode) { r.Options.Add(dhcp6.OptStatus, 0, byte(s)) }
	switch q.Type {
	case dhcp6.InformationRequest:
	case dhcp6.Confirm:
		for _, p := range pool[:m.first] {
			if has(p) {
				status(dhcp6.NotOnLink)
				break
			}
		}
	case dhcp6.Decline:
		for _, p := range pool {
			m.bad[p] = m.bad[p] || has(p)
		}
	case dhcp6.Release:
	default:
		ia := append(slices.Clone(asked[:4]), make([]byte, 8)...)
		grant := func(p netip.Prefix, life uint32) {
			ia = append(ia, 0, byte(dhcp6.OptIAAddr), 0, 24)
			ia = append(ia, p.Addr().AsSlice()...)
			ia = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(ia, life), 2*life)
		}
		for i, p := range pool {
			if i < m.first && has(p) {
				grant(p, 0)
			}
		}
		if i := slices.IndexFunc(pool[m.first:], func(p netip.Prefix) bool { return !m.bad[p] }); i >= 0 {
			grant(pool[m.first+i], m.life)
		}
		r.Options.Add(dhcp6.OptIANA, ia...)
		if q.Type == dhcp6.Solicit {
			r.Type = dhcp6.Advertise
		}
	}
	v.udp.SendTo(r.Append(nil), from)
}

// start adds the client's host and its runner.
func (m *sim) start(opt dhcp6.RunOptions) {
	m.Helper()
	m.Attach(stack.InterfaceConfig{})
	m.opt = opt
	m.run()
}

func (m *sim) run() {
	m.Helper()
	opt := m.opt
	opt.Advice = func() dhcp6.Advice { return m.advice }
	opt.Changed = func(l dhcp6.Lease, have bool) {
		a := "-"
		if len(l.Addrs) > 0 {
			a = l.Addrs[len(l.Addrs)-1].Prefix.Addr().String()
		}
		m.News = append(m.News, fmt.Sprintf("%v %v", a, have))
	}
	opt.Trouble = func(err error) { m.News = append(m.News, err.Error()) }
	var err error
	if m.runner, err = dhcp6.NewManual(m.NIC, opt, m.N.Now(), m.Wake); err != nil {
		m.Fatal(err)
	}
	m.Drive(m.runner)
}

func (m *sim) wantSaid(want string) {
	m.Helper()
	if got := strings.Join(m.log, " "); got != want {
		m.Errorf("the servers heard %q, want %q", got, want)
	}
	m.log = nil
}

// leases are the addresses that are not link-local.
func (m *sim) leases() []netip.Prefix {
	return slices.DeleteFunc(m.NIC.Addrs(), func(p netip.Prefix) bool { return p.Addr().IsLinkLocalUnicast() })
}

func (m *sim) wantLeases(want ...netip.Prefix) {
	m.Helper()
	if got := m.leases(); !slices.Equal(got, want) {
		m.Errorf("addresses %v, want %v", got, want)
	}
}

// TestRunner: from the first message to the last: an address of its own length,
// by way of duplicate address detection, that goes before it is released.
func TestRunner(t *testing.T) {
	m := newSim(t)
	hops := map[byte]bool{}
	m.start(dhcp6.RunOptions{Mode: dhcp6.Stateful})
	m.Cable.SetImpairment(wire.Impairment{Drop: func(f []byte) bool {
		if len(f) > 58 && f[12] == 0x86 && f[20] == 17 && binary.BigEndian.Uint16(f[56:]) == dhcp6.ServerPort {
			hops[f[21]] = true
			if !bytes.Equal(f[38:54], dhcp6.AllServers.AsSlice()) || binary.BigEndian.Uint16(f[54:]) != dhcp6.ClientPort {
				t.Errorf("to %x", f[38:54])
			}
		}
		return false
	}})
	m.N.RunFor(900 * time.Millisecond)
	m.wantSaid("") // no address to ask from
	m.N.RunFor(5 * time.Second)
	m.wantSaid("SOLICIT REQUEST")
	m.wantLeases(pool[0])
	s := m.runner.Status()
	if !s.Bound || s.State != dhcp6.Bound || len(s.Lease.DNS) != 1 || !slices.Equal(m.News, []string{"fd00::1:1 true"}) {
		t.Errorf("%+v %q", s, m.News)
	}
	if len(hops) != 1 || !hops[1] {
		t.Errorf("hop limits %v", hops)
	}
	// Nothing beside it is on the link (RFC 5942).
	for _, r := range m.Host.Routes().List() {
		if r.Dst.Bits() < 128 && r.Dst.Addr().As16()[0] == 0xfd {
			t.Errorf("route %v", r)
		}
	}
	m.N.RunFor(30 * time.Minute)
	m.wantSaid("RENEW")
	m.Stop()
	m.wantLeases()
	m.N.RunFor(time.Second)
	m.wantSaid("RELEASE")
	if !slices.Equal(m.News, []string{"fd00::1:1 true", "fd00::1:1 false"}) {
		t.Errorf("%q", m.News)
	}
}

// TestExpiry: its server dies, another one rebinds; then both are gone, and the
// address goes with its lease, of which sockets hear.
func TestExpiry(t *testing.T) {
	m := newSim(t)
	m.start(dhcp6.RunOptions{Mode: dhcp6.Stateful})
	m.N.RunFor(5 * time.Second)
	m.servers[0].up, m.servers[1].up = false, true
	m.log = nil
	m.N.RunFor(50 * time.Minute)
	m.wantSaid("REBIND")
	m.servers[1].up = false
	u, _ := m.Host.NewUDP(true)
	defer u.Close()
	if err := u.Bind(netip.AddrPortFrom(pool[0].Addr(), 9)); err != nil {
		t.Fatal(err)
	}
	m.N.RunFor(90 * time.Minute)
	m.wantLeases(pool[0]) // no longer preferred, but valid
	m.N.RunFor(40 * time.Minute)
	m.wantLeases()
	if err := u.TakeError(); err != syscall.EADDRNOTAVAIL {
		t.Errorf("its socket hears %v", err)
	}
	if s := m.runner.Status(); s.Bound || s.State != dhcp6.Soliciting {
		t.Errorf("%+v", s)
	}
	m.servers[0].up = true
	m.N.RunFor(80 * time.Minute)
	m.wantLeases(pool[0])
}

// TestDecline: addresses that other hosts have are declined, until one is free.
func TestDecline(t *testing.T) {
	m := newSim(t)
	other, _ := m.N.Host(m.Seg, stack.Config{}, nil, pool[0].String(), pool[1].String())
	defer other.Close()
	m.start(dhcp6.RunOptions{Mode: dhcp6.Stateful})
	m.N.RunFor(30 * time.Second)
	m.wantSaid("SOLICIT REQUEST DECLINE SOLICIT REQUEST DECLINE SOLICIT REQUEST")
	m.wantLeases(pool[2])
	// One that the interface has already stays its user's.
	m.Stop()
	if err := m.NIC.AddAddr(pool[2]); err != nil {
		t.Fatal(err)
	}
	m.run()
	m.N.RunFor(10 * time.Second)
	m.Stop()
	m.wantLeases(pool[2])
}

// TestUserRemoves: an address whose user takes it away is given back.
func TestUserRemoves(t *testing.T) {
	m := newSim(t)
	m.start(dhcp6.RunOptions{Mode: dhcp6.Stateful})
	m.N.RunFor(5 * time.Second)
	m.log = nil
	m.NIC.DelAddr(pool[0].Addr())
	m.N.RunFor(time.Hour)
	m.wantSaid("RELEASE")
	m.wantLeases()
}

// TestLinkUpWithoutAddress: a link that is back before there is an address to ask
// from is not forgotten.
func TestLinkUpWithoutAddress(t *testing.T) {
	m := newSim(t)
	m.start(dhcp6.RunOptions{Mode: dhcp6.Stateful})
	m.N.RunFor(6 * time.Second)
	m.wantSaid("SOLICIT REQUEST")
	i := slices.IndexFunc(m.NIC.Addrs(), func(p netip.Prefix) bool { return p.Addr().IsLinkLocalUnicast() })
	ll := m.NIC.Addrs()[i]
	if err := m.NIC.DelAddr(ll.Addr()); err != nil {
		t.Fatal(err)
	}
	m.runner.LinkUp()
	m.N.RunFor(6 * time.Second)
	m.wantSaid("")
	if err := m.NIC.AddAddr(ll); err != nil {
		t.Fatal(err)
	}
	m.N.RunFor(6 * time.Second)
	m.wantSaid("CONFIRM")
	m.N.RunFor(time.Minute)
	m.wantSaid("")
	m.wantLeases(pool[0])
}

// TestAdvice: what routers say is begun, grows and does not shrink; without a
// router addresses are looked for in the end.
func TestAdvice(t *testing.T) {
	m := newSim(t)
	m.start(dhcp6.RunOptions{Alone: time.Minute})
	m.advice = dhcp6.Advice{Router: true}
	m.runner.LinkUp()
	m.N.RunFor(2 * time.Minute)
	m.wantSaid("")
	m.advice.Other = true
	m.Turn()
	m.N.RunFor(5 * time.Second)
	m.wantSaid("INFORMATION-REQUEST")
	if s := m.runner.Status(); !s.Informed || len(s.Lease.DNS) != 1 {
		t.Errorf("%+v", s)
	}
	m.runner.LinkUp()
	m.N.RunFor(25 * time.Hour)
	m.wantSaid("INFORMATION-REQUEST INFORMATION-REQUEST")
	m.advice.Managed = true
	m.Turn()
	m.N.RunFor(5 * time.Second)
	m.wantSaid("SOLICIT REQUEST")
	m.wantLeases(pool[0])
	if s := m.runner.Status(); s.Informed || !s.Bound {
		t.Errorf("%+v", s)
	}
	m.advice = dhcp6.Advice{Router: true}
	m.N.RunFor(31 * time.Minute)
	m.wantSaid("RENEW")
	m.Stop()
	m.advice, m.log = dhcp6.Advice{}, nil
	m.run()
	m.N.RunFor(59 * time.Second)
	m.wantSaid("RELEASE")
	m.N.RunFor(5 * time.Second)
	m.wantSaid("SOLICIT REQUEST")
}

// TestLeaseFile: a lease outlives the program, and is confirmed before it is
// used, refused on another link, and not believed from a damaged file.
func TestLeaseFile(t *testing.T) {
	m := newSim(t)
	path := filepath.Join(t.TempDir(), "lease")
	// The file has the wall's time, which stands still here.
	m.start(dhcp6.RunOptions{Mode: dhcp6.Stateful, LeaseFile: path})
	m.N.RunFor(6 * time.Second)
	m.Stop()
	m.wantLeases()
	m.wantSaid("SOLICIT REQUEST")
	m.run()
	m.N.RunFor(6 * time.Second)
	m.wantSaid("CONFIRM")
	m.wantLeases(pool[0])
	// The servers have not said again what else they told.
	if l := m.runner.Status().Lease; !slices.Equal(l.DNS, []netip.Addr{pool[2].Addr()}) {
		t.Errorf("%+v", l)
	}
	m.Stop()
	m.first = 1
	m.run()
	m.N.RunFor(6 * time.Second)
	m.wantSaid("CONFIRM SOLICIT REQUEST")
	m.wantLeases(pool[1])
	m.Stop()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	m.News = nil
	m.run()
	m.N.RunFor(6 * time.Second)
	m.wantSaid("SOLICIT REQUEST")
	if len(m.News) != 2 || !strings.Contains(m.News[0], "lease file") {
		t.Errorf("%q", m.News)
	}
	m.servers[0].up = false
	m.N.RunFor(3 * time.Hour)
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("a file of a lease that is over: %v", err)
	}
}

// TestADayInSimnet: 24 hours of renewals, with servers that go away for hours,
// with links that flap for seconds, and with a network that comes back as another
// one. The address is right at each hour, and nothing is left behind.
func TestADayInSimnet(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	m := newSim(t)
	m.start(dhcp6.RunOptions{Mode: dhcp6.Stateful})
	var flaps int
	rnd := m.N.Rand()
	for hour := range 24 {
		m.servers[0].up = hour < 3 || hour >= 18
		m.servers[1].up = hour >= 3 && hour < 7 || hour >= 10 && hour < 18
		if hour == 12 { // the network is another one from here on
			m.first = 1
			m.runner.LinkUp()
		}
		for range rnd.IntN(4) {
			flaps++
			m.N.After(time.Duration(rnd.Int64N(int64(59*time.Minute))), func() {
				m.Cable.SetImpairment(wire.Impairment{Loss: 1})
				m.N.After(time.Duration(1+rnd.IntN(40))*time.Second, func() {
					m.Cable.SetImpairment(wire.Impairment{})
					m.runner.LinkUp()
				})
			})
		}
		m.N.RunFor(time.Hour)
		switch {
		case hour < 8:
			m.wantLeases(pool[0])
		case hour == 9:
			m.wantLeases()
		case hour > 10 && hour < 12:
			m.wantLeases(pool[0])
		case hour >= 12:
			m.wantLeases(pool[1])
		}
		if t.Failed() {
			t.Fatalf("hour %d: %+v", hour, m.runner.Status())
		}
	}
	for _, want := range []string{"SOLICIT", "REQUEST", "RENEW", "REBIND", "CONFIRM"} {
		if !slices.Contains(m.log, want) {
			t.Errorf("no %s", want)
		}
	}
	if flaps < 10 || len(m.log) > 400 {
		t.Errorf("%d flaps, %d messages", flaps, len(m.log))
	}
	m.Stop()
	m.wantLeases()
	if n := runtime.NumGoroutine(); n > goroutines {
		t.Errorf("%d goroutines, %d before", n, goroutines)
	}
}
