package stack_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/tapstack/tapstack/arp"
	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/stack/simnet"
	"github.com/tapstack/tapstack/tcp"
)

// newBare is a host without addresses of its own, except for the link-local
// one that it is just claiming.
func newBare(t *testing.T, c stack.Config, ic stack.InterfaceConfig) *testHost {
	t.Helper()
	h := &testHost{T: t, n: simnet.New(7), d: &injector{mtu: 1500}}
	c.Clock, c.Seed = h.n.Clock(), 7
	h.s = stack.New(c)
	t.Cleanup(func() { h.s.Close() })
	if ic.Device == nil {
		ic.Device = h.d
	}
	ic.Name, ic.MAC = "eth0", hostMAC
	var err error
	ic.IID, ic.NoDADNonce = ipv6.IIDEUI64, true // addresses and probes that can be told in advance
	if h.i, err = h.s.AddInterface(ic); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *testHost) add(prefix string) netip.Addr {
	h.Helper()
	p := netip.MustParsePrefix(prefix)
	if err := h.i.AddAddr(p); err != nil {
		h.Fatal(err)
	}
	return p.Addr()
}

// atOnce is for asking how things are without waiting for them to change.
var atOnce = func() context.Context { c, cancel := context.WithCancel(context.Background()); cancel(); return c }()

// event is a frame with the time it was sent at.
type event struct {
	at   time.Duration
	what string
}

// watch runs the host for d and lists what it sends, and when, since from.
func (h *testHost) watch(from mono.Time, d time.Duration) (list []event) {
	h.Helper()
	for end := h.n.Now().Add(d); ; {
		for _, f := range h.d.take() {
			list = append(list, event{h.n.Now().Sub(from), h.about(f)})
		}
		if h.n.Now() >= end {
			return list
		}
		h.n.RunFor(min(10*time.Millisecond, end.Sub(h.n.Now())))
	}
}

// about describes a frame of the protocols that claim addresses.
func (h *testHost) about(f []byte) string {
	h.Helper()
	p := parse(h, f)
	if a, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP); ok {
		s, _ := netip.AddrFromSlice(a.SourceProtAddress)
		x, _ := netip.AddrFromSlice(a.DstProtAddress)
		if ether.Addr(f[:6]) != ether.Broadcast || a.Operation != layers.ARPRequest {
			return fmt.Sprintf("ARP %v %v says %v to %v", ether.Addr(f[:6]), a.Operation, s, x)
		}
		return fmt.Sprintf("ARP %v asks for %v", s, x)
	}
	ip, ok := p.NetworkLayer().(*layers.IPv6)
	if !ok {
		if s, ok := aboutIGMP(f); ok {
			return s
		}
		return describe(f)
	}
	switch m := p.Layers()[len(p.Layers())-1].(type) {
	case *layers.ICMPv6NeighborSolicitation:
		return fmt.Sprintf("%v>%v hops %d NS %v options %d", ip.SrcIP, ip.DstIP, ip.HopLimit, m.TargetAddress, len(m.Options))
	case *layers.ICMPv6NeighborAdvertisement:
		return fmt.Sprintf("%v>%v hops %d NA %v flags %#x", ip.SrcIP, ip.DstIP, ip.HopLimit, m.TargetAddress, m.Flags)
	case *layers.ICMPv6RouterSolicitation:
		return fmt.Sprintf("%v>%v hops %d RS options %d", ip.SrcIP, ip.DstIP, ip.HopLimit, len(m.Options))
	case *layers.MLDv2MulticastListenerReportMessage:
		s := fmt.Sprintf("%v>%v hops %d MLD", ip.SrcIP, ip.DstIP, ip.HopLimit)
		if p.Layer(layers.LayerTypeIPv6HopByHop) == nil {
			s += " without router alert"
		}
		for _, r := range m.MulticastAddressRecords {
			s += fmt.Sprintf(" %d:%v", r.RecordType, r.MulticastAddress)
		}
		return s
	}
	return describe(f)
}

func names(list []event) (out []string) {
	for _, e := range list {
		out = append(out, e.what)
	}
	return out
}

func only(list []event, has func(string) bool) (out []event) {
	for _, e := range list {
		if has(e.what) {
			out = append(out, e)
		}
	}
	return out
}

// TestDAD follows a link-local address from its first to its last step.
func TestDAD(t *testing.T) {
	h := newBare(t, stack.Config{}, stack.InterfaceConfig{})
	ll := ipv6.LinkLocal(hostMAC)
	from := h.n.Now()
	if err := h.i.Ready(atOnce); !errors.Is(err, context.Canceled) {
		t.Errorf("ready at once: %v", err)
	}
	if len(h.i.Addrs()) != 0 {
		t.Errorf("tentative address is listed: %v", h.i.Addrs())
	}
	if u := newUDP(t, h.s); u.Bind(netip.AddrPortFrom(ll, 5)) != syscall.EADDRNOTAVAIL {
		t.Error("bound to a tentative address")
	}
	list := h.watch(from, 990*time.Millisecond)
	snm := ipv6.SolicitedNode(ll)
	// RFC 4862 §5.4.2: the group first, then the probe, from nowhere and
	// without a link-layer address.
	want := []string{
		fmt.Sprintf("::>ff02::16 hops 1 MLD 4:%v", snm),
		fmt.Sprintf("::>%v hops 255 NS %v options 0", snm, ll),
	}
	got := names(only(list, func(s string) bool { return true }))
	if len(got) < 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("sent %q, want %q first", got, want)
	}
	// RFC 4862 §5.4: nothing is answered yet.
	h.d.take()
	if out := h.send(solicit(peerIP6, ll, ether.Multicast(snm), true), withMAC(hostMAC, echoTo(ll)), withMAC(hostMAC, synTo(ll, 80)), withMAC(hostMAC, udpTo(ll, 99))); len(out) != 0 {
		t.Errorf("tentative address answered: %s", describe(out[0]))
	}
	wantDrops(t, h.s, "ipv6.drop.foreign-ip=4")
	list = h.watch(from, 20*time.Millisecond)
	if err := h.i.Ready(atOnce); err != nil {
		t.Errorf("not ready after a second: %v", err)
	}
	if err := h.i.WaitUsable(atOnce, ll); err != nil {
		t.Errorf("not usable after a second: %v", err)
	}
	// RFC 3590 §4: the groups are reported once more, from the address.
	if n := len(only(list, func(s string) bool { return s == fmt.Sprintf("%v>ff02::16 hops 1 MLD 4:%v", ll, snm) })); n != 1 {
		t.Errorf("after assignment: %q", names(list))
	}
	if out := h.send(solicit(peerIP6, ll, ether.Multicast(snm), true)); len(out) != 1 {
		t.Errorf("%d answers once assigned", len(out))
	}
}

func echoTo(dst netip.Addr) []byte {
	b := make([]byte, icmp.HeaderLen)
	icmp.Put(b, icmp.TypeEcho6, 0, [4]byte{0, 1, 0, 1})
	return icmp6(64, peerIP6, dst, b)
}

func synTo(dst netip.Addr, port uint16) []byte {
	f := segment(true, 1111, port, 1, 0, tcp.FlagSYN, nil)
	copy(f[14+24:], dst.AsSlice())
	repair(f)
	return f
}

func udpTo(dst netip.Addr, port uint16) []byte {
	f := datagram(true, 1111, port, []byte("x"))
	copy(f[14+24:], dst.AsSlice())
	repair(f)
	return f
}

// TestDADFails: somebody has the address, or wants it as well.
func TestDADFails(t *testing.T) {
	for _, c := range []struct {
		name  string
		frame func(a netip.Addr) []byte
		fails bool
	}{
		{"advertisement", func(a netip.Addr) []byte {
			m := ipv6.NeighborAdvert{Target: a, Override: true, TargetMAC: peerMAC, HasMAC: true}
			return icmp6(255, a, ipv6.AllNodes, m.Append(nil))
		}, true},
		{"probe of another", func(a netip.Addr) []byte {
			return solicit(netip.IPv6Unspecified(), a, ether.Multicast(ipv6.SolicitedNode(a)), false)
		}, true},
		{"question about it", func(a netip.Addr) []byte { return solicit(peerIP6, a, ether.Multicast(ipv6.SolicitedNode(a)), true) }, false},
		{"advertisement with hop limit 64", func(a netip.Addr) []byte {
			m := ipv6.NeighborAdvert{Target: a, Override: true, TargetMAC: peerMAC, HasMAC: true}
			return icmp6(64, a, ipv6.AllNodes, m.Append(nil))
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newBare(t, stack.Config{}, stack.InterfaceConfig{})
			h.run(3 * time.Second)
			a := h.add("fd77::7/64")
			h.run(500 * time.Millisecond)
			h.send(c.frame(a))
			h.run(time.Second)
			err := h.i.Ready(atOnce)
			if c.fails != errors.Is(err, syscall.EADDRINUSE) || c.fails != errors.Is(h.i.WaitUsable(atOnce, a), syscall.EADDRINUSE) {
				t.Errorf("ready: %v", err)
			}
			if has := slices.Contains(h.i.Addrs(), netip.MustParsePrefix("fd77::7/64")); has == c.fails {
				t.Errorf("addresses %v", h.i.Addrs())
			}
			if n := h.count("nd.duplicate"); (n == 1) != c.fails {
				t.Errorf("%d duplicates counted", n)
			}
			h.run(5 * time.Second)
			if timersLeft := h.run(time.Hour); len(timersLeft) != 0 {
				t.Errorf("still sends %s", describe(timersLeft[0]))
			}
		})
	}
}

// TestACD is the claim of an IPv4 address by RFC 5227.
func TestACD(t *testing.T) {
	h := newBare(t, stack.Config{}, stack.InterfaceConfig{ACD: true, DisableIPv6: true})
	from := h.n.Now()
	a := h.add("10.77.0.7/24")
	list := h.watch(from, 4*time.Second)
	if len(h.i.Addrs()) != 0 {
		t.Error("assigned while probing")
	}
	if out := h.send(arpRequest(a)); len(out) != 0 {
		t.Errorf("tentative address answered %s", describe(out[0]))
	}
	list = append(list, h.watch(from, 6*time.Second)...)
	var at [5]time.Duration
	probes := 0
	for k, e := range list {
		want := "ARP 0.0.0.0 asks for 10.77.0.7"
		if k >= 3 {
			want = "ARP 10.77.0.7 asks for 10.77.0.7"
		}
		if e.what != want {
			t.Errorf("%v: %s, want %s", e.at, e.what, want)
		}
		if k < 5 {
			at[k] = e.at
		}
		probes++
	}
	in := func(d, lo, hi time.Duration) bool {
		return lo-10*time.Millisecond <= d && d <= hi+10*time.Millisecond
	}
	if probes != 5 || !in(at[0], 0, time.Second) || !in(at[1]-at[0], time.Second, 2*time.Second) || !in(at[2]-at[1], time.Second, 2*time.Second) ||
		!in(at[3]-at[2], 2*time.Second, 2*time.Second) || !in(at[4]-at[3], 2*time.Second, 2*time.Second) {
		t.Errorf("sent %v", list)
	}
	if err := h.i.Ready(atOnce); err != nil {
		t.Error(err)
	}
	// RFC 5227 §2.4 (b): one conflict is answered, a second within 10 s costs
	// the address.
	conflict := arpReplyFrom(ether.Addr{2, 6, 6, 6, 6, 6}, a)
	h.watch(from, 10*time.Second)
	if got := names(h.watchAfter(conflict)); !slices.Equal(got, []string{"ARP 10.77.0.7 asks for 10.77.0.7"}) {
		t.Errorf("first conflict: %q", got)
	}
	h.run(11 * time.Second)
	if got := names(h.watchAfter(conflict)); len(got) != 1 {
		t.Errorf("conflict 11 s later: %q", got)
	}
	h.run(5 * time.Second)
	if got := names(h.watchAfter(conflict)); len(got) != 0 {
		t.Errorf("second conflict: %q", got)
	}
	if err := h.i.Ready(atOnce); !errors.Is(err, syscall.EADDRINUSE) || len(h.i.Addrs()) != 0 {
		t.Errorf("kept %v: %v", h.i.Addrs(), err)
	}
	if n := h.count("arp.conflict"); n != 3 {
		t.Errorf("%d conflicts counted", n)
	}
}

func (h *testHost) watchAfter(f []byte) []event {
	h.d.inject(f)
	return h.watch(h.n.Now(), 100*time.Millisecond)
}

func arpReplyFrom(mac ether.Addr, ip netip.Addr) []byte {
	b := make([]byte, arp.PacketLen)
	arp.Put(b, arp.OpReply, mac, ip, ether.Broadcast, ip)
	return eth(ether.Broadcast, ether.TypeARP, b)
}

func arpProbeFrom(mac ether.Addr, ip netip.Addr) []byte {
	b := make([]byte, arp.PacketLen)
	arp.Probe(b, mac, ip)
	return eth(ether.Broadcast, ether.TypeARP, b)
}

func TestACDFails(t *testing.T) {
	other := ether.Addr{2, 6, 6, 6, 6, 6}
	for _, c := range []struct {
		name  string
		frame func(netip.Addr) []byte
		fails bool
	}{
		{"reply", func(a netip.Addr) []byte { return arpReplyFrom(other, a) }, true},
		{"probe of another", func(a netip.Addr) []byte { return arpProbeFrom(other, a) }, true},
		{"our own probe", func(a netip.Addr) []byte { return arpProbeFrom(hostMAC, a) }, false},
		{"request for it", func(a netip.Addr) []byte { return arpRequest(a) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newBare(t, stack.Config{}, stack.InterfaceConfig{ACD: true, DisableIPv6: true})
			a := h.add("10.77.0.7/24")
			h.run(2 * time.Second)
			h.send(c.frame(a))
			h.run(20 * time.Second)
			if err := h.i.Ready(atOnce); errors.Is(err, syscall.EADDRINUSE) != c.fails || (len(h.i.Addrs()) == 0) != c.fails {
				t.Errorf("%v, addresses %v", err, h.i.Addrs())
			}
		})
	}
}

// TestAnnounceWithoutProbing: without ACD an IPv4 address works at once, is
// announced twice, and is kept whatever others say.
func TestAnnounceWithoutProbing(t *testing.T) {
	h := newBare(t, stack.Config{}, stack.InterfaceConfig{DisableIPv6: true})
	from := h.n.Now()
	a := h.add("10.77.0.7/24")
	if err := h.i.Ready(atOnce); err != nil {
		t.Error(err)
	}
	list := h.watch(from, 5*time.Second)
	if got := names(list); !slices.Equal(got, []string{"ARP 10.77.0.7 asks for 10.77.0.7", "ARP 10.77.0.7 asks for 10.77.0.7"}) ||
		list[0].at != 0 && list[0].at != 10*time.Millisecond {
		t.Errorf("announced %v", list)
	}
	for k := range 20 {
		got := names(h.watchAfter(arpReplyFrom(ether.Addr{2, 6, 6, 6, 6, 6}, a)))
		if want := k % 10; (len(got) == 1) != (want == 0) {
			t.Errorf("conflict %d: %q", k, got)
		}
		h.run(900*time.Millisecond + time.Millisecond)
	}
	if len(h.i.Addrs()) != 1 {
		t.Error("gave the address up")
	}
	if out := h.send(arpProbeFrom(peerMAC, a)); len(out) != 1 {
		t.Errorf("%d answers to a probe for our address", len(out))
	}
}

func TestImpossibleAddresses(t *testing.T) {
	h := newBare(t, stack.Config{Limits: stack.Limits{Addresses: 3}}, stack.InterfaceConfig{NoDAD: true})
	for _, c := range []struct {
		prefix string
		err    error
	}{
		{"0.0.0.0/0", syscall.EINVAL}, {"0.1.2.3/8", syscall.EINVAL}, {"224.0.0.1/4", syscall.EINVAL}, {"255.255.255.255/32", syscall.EINVAL},
		{"240.0.0.1/24", syscall.EINVAL}, {"10.0.0.0/24", syscall.EINVAL}, {"10.0.0.255/24", syscall.EINVAL}, {"::/64", syscall.EINVAL},
		{"ff02::1/64", syscall.EINVAL}, {"::ffff:10.0.0.1/120", syscall.EINVAL},
		{"10.0.0.0/31", nil}, {"10.0.0.1/31", nil}, {"10.0.0.1/24", syscall.EEXIST}, {"fd77::1/64", syscall.ENOSPC},
	} {
		if err := h.i.AddAddr(netip.MustParsePrefix(c.prefix)); !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", c.prefix, err, c.err)
		}
	}
	if err := h.i.AddAddr(netip.Prefix{}); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("zero prefix: %v", err)
	}
	if err := h.i.DelAddr(netip.MustParseAddr("10.9.9.9")); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("deleting a foreign address: %v", err)
	}
	v4 := newBare(t, stack.Config{}, stack.InterfaceConfig{DisableIPv6: true})
	if err := v4.i.AddAddr(netip.MustParsePrefix("fd77::1/64")); !errors.Is(err, syscall.EAFNOSUPPORT) {
		t.Errorf("IPv6 where it is off: %v", err)
	}
	if err := h.i.WaitUsable(atOnce, netip.MustParseAddr("10.0.0.1")); err != nil {
		t.Errorf("usable address: %v", err)
	}
}

// TestDelAddr: connections from the address end, and it is no longer ours.
func TestDelAddr(t *testing.T) {
	eachFamily(t, func(t *testing.T, c familyCase) {
		h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
		p := h.connect(h.listen(80, 5), c.v6, 5000)
		other, err := h.s.DialTCP(netip.AddrPort{}, netip.AddrPortFrom(c.stranger, 80))
		if err != nil {
			t.Fatal(err)
		}
		h.d.take()
		if err := h.i.DelAddr(c.source); err != nil {
			t.Fatal(err)
		}
		for _, conn := range []*stack.TCPConn{p.conn, other} {
			if conn.Err() != syscall.EADDRNOTAVAIL || conn.State() != tcp.Closed {
				t.Errorf("%v in %v", conn.Err(), conn.State())
			}
		}
		h.run(time.Second)
		question, ping := arpRequest(hostIP4), echo4(1, 1, nil, nil)
		if c.v6 {
			question, ping = solicit(peerIP6, hostIP6, hostMAC, true), echo6(1, 1, nil)
		}
		if out := h.send(question, ping); len(out) != 0 {
			t.Errorf("still answers: %s", describe(out[0]))
		}
		if _, err := h.s.BindTCP(netip.AddrPortFrom(c.source, 81), false, false); err != syscall.EADDRNOTAVAIL {
			t.Errorf("bind: %v", err)
		}
		if err := h.i.AddAddr(netip.PrefixFrom(c.source, 24)); err != nil {
			t.Errorf("adding it again: %v", err)
		}
		if out := h.send(question); len(out) == 0 {
			t.Error("does not answer when added again")
		}
	})
}

// TestGroups: joining and leaving opens and closes the receive filter and
// reports for IPv6.
func TestGroups(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
	u, err := h.s.NewUDP(true)
	if err == nil {
		err = u.Bind(addrPort("[::]:5353"))
	}
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	g4, g6 := netip.MustParseAddr("224.0.0.251"), netip.MustParseAddr("ff02::fb")
	frame4, frame6 := datagram(false, 1, 5353, []byte("four")), udpTo(g6, 5353)
	copy(frame4[14+16:], g4.AsSlice())
	copy(frame4, []byte{1, 0, 0x5e, 0, 0, 0xfb})
	repair(frame4)
	copy(frame6, []byte{0x33, 0x33, 0, 0, 0, 0xfb})
	receives := func() (n int) {
		h.send(slices.Clone(frame4), slices.Clone(frame6))
		buf := make([]byte, 10)
		for {
			if _, _, _, err := u.RecvFrom(buf); err != nil {
				return n
			}
			n++
		}
	}
	if n := receives(); n != 0 {
		t.Errorf("%d received before joining", n)
	}
	if err := h.i.LeaveGroup(g4); err != syscall.EADDRNOTAVAIL {
		t.Errorf("leaving what was not joined: %v", err)
	}
	if err := h.i.JoinGroup(hostIP4); err != syscall.EINVAL {
		t.Errorf("joining a host: %v", err)
	}
	ll := ipv6.LinkLocal(hostMAC)
	for range 2 { // counted
		h.i.JoinGroup(g4)
		h.i.JoinGroup(g6)
	}
	if got, want := names(h.watch(h.n.Now(), 0)), []string{"10.77.0.7>224.0.0.22 IGMP 4:224.0.0.251", fmt.Sprintf("%v>ff02::16 hops 1 MLD 4:ff02::fb", ll)}; !slices.Equal(got, want) {
		t.Errorf("reported %q, want %q", got, want)
	}
	if n := receives(); n != 2 {
		t.Errorf("%d received as a member, want 2", n)
	}
	h.run(5 * time.Second)
	h.i.LeaveGroup(g4)
	h.i.LeaveGroup(g6)
	if n := receives(); n != 2 {
		t.Errorf("%d received after one of two leaves", n)
	}
	h.i.LeaveGroup(g4)
	h.i.LeaveGroup(g6)
	if got, want := names(h.watch(h.n.Now(), 0)), []string{"10.77.0.7>224.0.0.22 IGMP 3:224.0.0.251", fmt.Sprintf("%v>ff02::16 hops 1 MLD 3:ff02::fb", ll)}; !slices.Equal(got, want) {
		t.Errorf("reported %q, want %q", got, want)
	}
	if n := receives(); n != 0 {
		t.Errorf("%d received after leaving", n)
	}
	// Two groups share a MAC address: IP looks again.
	h.i.JoinGroup(netip.MustParseAddr("239.128.0.251"))
	if n := receives(); n != 0 {
		t.Errorf("%d received of a group with the same MAC address", n)
	}
}
