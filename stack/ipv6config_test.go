package stack_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/stack/simnet"
)

// newLabelled makes a host that sends into d; it knows its neighbour.
func newLabelled(t *testing.T, c stack.Config) (*stack.Stack, *injector) {
	t.Helper()
	n := simnet.New(1)
	d := &injector{mtu: 1500}
	c.Clock, c.Seed = n.Clock(), 3
	s := stack.New(c)
	t.Cleanup(func() { s.Close() })
	i, err := s.AddInterface(stack.InterfaceConfig{Name: "tap7", Device: d, MAC: hostMAC, NoDAD: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := i.AddAddr(netip.PrefixFrom(hostIP6, 64)); err != nil {
		t.Fatal(err)
	}
	if err := s.Neighbours().Set(i, peerIP6, peerMAC); err != nil {
		t.Fatal(err)
	}
	d.take()
	return s, d
}

// labels returns the flow labels of what was sent.
func (d *injector) labels() (list []uint32) {
	for _, f := range d.take() {
		if h := ipv6.Header(f[ether.HeaderLen:]); h.Dst() == peerIP6 {
			list = append(list, h.FlowLabel())
		}
	}
	return list
}

// TestFlowLabels: one for each flow, the same in all of its packets and
// fragments, and another one for another flow (RFC 6437 §3).
func TestFlowLabels(t *testing.T) {
	s, d := newLabelled(t, stack.Config{})
	seen := map[uint32]bool{}
	for port := range uint16(20) {
		u, err := s.NewUDP(false)
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		for _, size := range []int{1, 5000} {
			if err := u.SendTo(make([]byte, size), netip.AddrPortFrom(peerIP6, 1000+port)); err != nil {
				t.Fatal(err)
			}
		}
		l := d.labels()
		if len(l) != 5 || l[0] == 0 || seen[l[0]] {
			t.Fatalf("flow %d: %x", port, l)
		}
		for _, x := range l {
			if x != l[0] {
				t.Fatalf("flow %d: %x", port, l)
			}
		}
		seen[l[0]] = true
	}
	s, d = newLabelled(t, stack.Config{IPv6: stack.IPv6Config{NoFlowLabels: true}})
	u, err := s.NewUDP(false)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if err := u.SendTo([]byte("x"), netip.AddrPortFrom(peerIP6, 9)); err != nil {
		t.Fatal(err)
	}
	if l := d.labels(); len(l) != 1 || l[0] != 0 {
		t.Errorf("turned off: %x", l)
	}
}

// TestReplyLabels: replies to pings have a label of their own, the same one in
// each, or the request's if that is wished; and its traffic class.
func TestReplyLabels(t *testing.T) {
	ask := func(d *injector, to netip.Addr) (h []ipv6.Header) {
		m := make([]byte, 16)
		icmp.Put(m, icmp.TypeEcho6, 0, [4]byte{0, 1, 0, 2})
		icmp.SetChecksum6(m, peerIP6, to)
		d.deliver(pkt.From(ip6(ipv6.ProtoICMPv6, m, func(f *ipv6.Fields) { f.FlowLabel, f.TrafficClass, f.Dst = 0xabcde, 0x2c, to })))
		d.idle()
		for _, f := range d.take() {
			h = append(h, f[ether.HeaderLen:])
		}
		return h
	}
	_, d := newLabelled(t, stack.Config{})
	a, b := ask(d, hostIP6), ask(d, hostIP6)
	if len(a) != 1 || len(b) != 1 || a[0].FlowLabel() != b[0].FlowLabel() || a[0].FlowLabel() == 0 || a[0].FlowLabel() == 0xabcde || a[0].TrafficClass() != 0x2c {
		t.Errorf("%x %x", a, b)
	}
	_, d = newLabelled(t, stack.Config{IPv6: stack.IPv6Config{ReflectFlowLabel: stack.ReflectEchoes}})
	if a = ask(d, hostIP6); len(a) != 1 || a[0].FlowLabel() != 0xabcde {
		t.Errorf("reflected: %x", a)
	}
	if a = ask(d, ipv6.AllNodes); len(a) != 1 || a[0].Src() != hostIP6 {
		t.Errorf("to a group: %x", a)
	}
	_, d = newLabelled(t, stack.Config{IPv6: stack.IPv6Config{EchoIgnoreMulticast: true}})
	if a, b = ask(d, ipv6.AllNodes), ask(d, hostIP6); len(a) != 0 || len(b) != 1 {
		t.Errorf("groups are ignored: %x %x", a, b)
	}
	_, d = newLabelled(t, stack.Config{IPv6: stack.IPv6Config{EchoIgnoreAll: true}})
	if a = ask(d, hostIP6); len(a) != 0 {
		t.Errorf("all are ignored: %x", a)
	}
}

// TestUnknownICMP6: an error of a type that nobody knows is told the socket
// (RFC 4443 §2.4 (a)), a query for node information draws nothing (RFC 4620).
func TestUnknownICMP6(t *testing.T) {
	s, d := newLabelled(t, stack.Config{})
	u, err := s.NewUDP(false)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if err := u.Set(stack.DatagramErrors6, 1); err != nil {
		t.Fatal(err)
	}
	if err := u.SendTo([]byte("x"), netip.AddrPortFrom(peerIP6, 9)); err != nil {
		t.Fatal(err)
	}
	sent := d.take()[0][ether.HeaderLen:]
	message := func(typ uint8) {
		m := make([]byte, 8, 8+len(sent))
		icmp.Put(m, typ, 0, [4]byte{0, 0, 1, 2})
		m = append(m, sent...)
		icmp.SetChecksum6(m, peerIP6, hostIP6)
		d.deliver(pkt.From(ip6(ipv6.ProtoICMPv6, m, nil)))
		d.idle()
	}
	message(100)
	var q stack.QueuedError
	if _, err := u.TakeQueuedError(nil, &q); err != nil || q.Type != 100 || q.Errno.Error() != "protocol error" {
		t.Errorf("%+v %v", q, err)
	}
	message(139)
	if _, err := u.TakeQueuedError(nil, &q); err == nil || len(d.take()) != 0 {
		t.Error("node information is answered")
	}
}

// TestAddressPreferences: a socket that prefers temporary or public addresses
// sends from one (RFC 5014), whatever the interface prefers.
func TestAddressPreferences(t *testing.T) {
	for _, mode := range []stack.TempAddrs{stack.TempAddrsUsable, stack.TempAddrsPrefer} {
		l := newLink(t, stack.InterfaceConfig{TempAddrs: mode})
		l.router(1).advertise(ipv6.RouterAdvert{Lifetime: time.Hour, Prefixes: autoPrefix("2001:db8::/64", 10*time.Hour, 5*time.Hour)})
		l.n.RunFor(5 * time.Second)
		temporary := map[netip.Addr]bool{}
		for _, a := range l.addrs("2001:db8::/64") {
			temporary[a.Prefix.Addr()] = a.Temporary
		}
		for _, c := range []struct {
			prefer int
			want   bool
		}{{0, mode == stack.TempAddrsPrefer}, {stack.PreferTemporary, true}, {stack.PreferPublic, false}, {stack.PreferCareOf, mode == stack.TempAddrsPrefer}} {
			u, err := l.s.NewUDP(false)
			if err != nil {
				t.Fatal(err)
			}
			defer u.Close()
			if err := u.Set(stack.DatagramPreferences, c.prefer); err != nil {
				t.Fatal(err)
			}
			if err := u.Connect(netip.MustParseAddrPort("[2001:db8:99::1]:9")); err != nil {
				t.Fatal(err)
			}
			got, ours := temporary[u.LocalAddr().Addr()]
			if !ours || got != c.want {
				t.Errorf("mode %d, preference %d: from %v", mode, c.prefer, u.LocalAddr())
			}
		}
	}
}
