package stack_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/tapstack/tapstack/arp"
	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
)

var (
	goodMAC = ether.Addr{2, 0, 0, 0, 0, 0x50}
	evilMAC = ether.Addr{2, 6, 6, 6, 6, 6}
)

// claims are all the ways in which a station says that it has the stranger's
// address, and is believed without questions.
func (c familyCase) claims(mac ether.Addr) map[string][]byte {
	if c.v6 {
		na := func(solicited bool, dst netip.Addr) []byte {
			m := ipv6.NeighborAdvert{Target: c.stranger, Solicited: solicited, Override: true, TargetMAC: mac, HasMAC: true}
			return icmp6(255, c.stranger, dst, m.Append(nil))
		}
		ns := ipv6.NeighborSolicit{Target: hostIP6, SourceMAC: mac, HasMAC: true}
		return map[string][]byte{"advertisement": na(false, ipv6.AllNodes), "answer": na(true, hostIP6), "solicitation": icmp6(255, c.stranger, hostIP6, ns.Append(nil))}
	}
	packet := func(dst ether.Addr, op uint16, tmac ether.Addr, tip netip.Addr) []byte {
		b := make([]byte, arp.PacketLen)
		arp.Put(b, op, mac, c.stranger, tmac, tip)
		return eth(dst, ether.TypeARP, b)
	}
	return map[string][]byte{
		"announcement":        packet(ether.Broadcast, arp.OpRequest, ether.Addr{}, c.stranger),
		"announcing reply":    packet(ether.Broadcast, arp.OpReply, ether.Broadcast, c.stranger),
		"answer":              packet(hostMAC, arp.OpReply, hostMAC, hostIP4),
		"request":             packet(ether.Broadcast, arp.OpRequest, ether.Addr{}, hostIP4),
		"request for another": packet(ether.Broadcast, arp.OpRequest, ether.Addr{}, peerIP4),
	}
}

// TestClaims: of a neighbour that is known, each claim to be elsewhere makes it
// be asked; packets go on to where it was, for good if it answers, and to the
// other station if it does not within 0.9 s.
func TestClaims(t *testing.T) {
	eachFamily(t, func(t *testing.T, c familyCase) {
		for name, claim := range c.claims(evilMAC) {
			for _, moved := range []bool{false, true} {
				h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{VerifyND: true})
				u := newUDP(t, h.s)
				to := netip.AddrPortFrom(c.stranger, 9)
				at := func(mac ether.Addr) {
					t.Helper()
					h.d.take()
					u.SendTo([]byte("x"), to)
					if out := payloads(t, h.d.take()); !slices.Equal(out, []string{"x>" + mac.String()}) {
						t.Errorf("%s, moved %v: sent %v, want to %v", name, moved, out, mac)
					}
				}
				u.SendTo([]byte("x"), to)
				h.send(c.answer(goodMAC))
				h.run(5 * time.Second) // no answer to the same question
				wantQuestions(t, h.send(claim), c.stranger.String()+"@"+goodMAC.String())
				at(goodMAC)
				if !moved {
					h.send(c.answer(goodMAC))
					h.run(time.Second)
					at(goodMAC)
				} else {
					h.run(900*time.Millisecond - 1)
					at(goodMAC)
					h.run(1)
					at(evilMAC)
				}
				want := map[string]uint64{"contested": 1, "refuted": 1}
				if moved {
					want = map[string]uint64{"contested": 1, "taken-over": 1}
				}
				for _, n := range []string{"contested", "refuted", "taken-over"} {
					if got := h.count("neigh." + c.name + "." + n); got != want[n] {
						t.Errorf("%s, moved %v: %s %d", name, moved, n, got)
					}
				}
				if got := h.count("arp.drop.refuted-claim"); got != 0 && (c.v6 || moved) || got != 1 && !c.v6 && !moved {
					t.Errorf("%s, moved %v: %d drops", name, moved, got)
				}
			}
		}
	})
}

// TestNDOverrides: without VerifyND the last word counts, as RFC 4861 §7.2.3
// and §7.2.5 want it.
func TestNDOverrides(t *testing.T) {
	c := families[1]
	for name, claim := range c.claims(evilMAC) {
		h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{})
		u := newUDP(t, h.s)
		u.SendTo([]byte("x"), netip.AddrPortFrom(c.stranger, 9))
		h.send(c.answer(goodMAC), claim)
		u.SendTo([]byte("y"), netip.AddrPortFrom(c.stranger, 9))
		if out := payloads(t, h.d.take()); !slices.Equal(out, []string{"y>" + evilMAC.String()}) {
			t.Errorf("%s: sent %v", name, out)
		}
	}
}

// TestARPConfig: one line for each mistake.
func TestARPConfig(t *testing.T) {
	for want, c := range map[string]stack.ARPConfig{
		"arp-accept -1: want 0, 1 or 2":                  {Accept: -1},
		"arp-ignore 4: want 0, 1, 2, 3 or 8":             {Ignore: 4},
		"arp-announce 3: want 0, 1 or 2":                 {Announce: 3},
		"arp-locktime -2ns: want 0 or more":              {Locktime: -2},
		"arp-ignore 9: want 0, 1, 2, 3 or 8: invalid ar": {Ignore: 9},
	} {
		s := stack.New(stack.Config{})
		_, err := s.AddInterface(stack.InterfaceConfig{Name: "eth0", Device: &injector{mtu: 1500}, ARP: c})
		if !errors.Is(err, syscall.EINVAL) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: %v", c, err)
		}
		s.Close()
	}
}

// TestARPIgnored: what is not answered is counted, and nothing is learnt of it.
func TestARPIgnored(t *testing.T) {
	for _, c := range []struct {
		name   string
		ic     stack.InterfaceConfig
		target string
		sender string
		drop   string
	}{
		{"answered", stack.InterfaceConfig{}, "10.77.0.7", "10.77.0.50", ""},
		{"arp_ignore 1", stack.InterfaceConfig{ARP: stack.ARPConfig{Ignore: 1}}, "10.99.0.1", "10.77.0.50", "ignored"},
		{"arp_ignore 2", stack.InterfaceConfig{ARP: stack.ARPConfig{Ignore: 2}}, "10.77.0.7", "10.66.0.50", "ignored"},
		{"arp_ignore 3", stack.InterfaceConfig{ARP: stack.ARPConfig{Ignore: 3}}, "10.99.0.1", "10.77.0.50", "ignored"},
		{"arp_ignore 8", stack.InterfaceConfig{ARP: stack.ARPConfig{Ignore: 8}}, "10.77.0.7", "10.77.0.50", "ignored"},
		{"arp_filter", stack.InterfaceConfig{ARP: stack.ARPConfig{Filter: true}}, "10.77.0.7", "10.66.0.50", "filtered"},
		{"rp_filter", stack.InterfaceConfig{RPFilter: stack.RPFilterStrict}, "10.77.0.7", "10.66.0.50", "reverse-path"},
		{"a broadcast address", stack.InterfaceConfig{}, "10.77.0.7", "10.77.0.255", "bad-sender-ip"},
	} {
		h := newTestHost(t, stack.Config{}, c.ic)
		if err := h.s.Interfaces()[0].AddAddr(netip.MustParsePrefix("10.99.0.1/32")); err != nil {
			t.Fatal(err)
		}
		sender := netip.MustParseAddr(c.sender)
		b := make([]byte, arp.PacketLen)
		arp.Put(b, arp.OpRequest, goodMAC, sender, ether.Addr{}, netip.MustParseAddr(c.target))
		answers := len(h.send(eth(ether.Broadcast, ether.TypeARP, b)))
		learnt := slices.ContainsFunc(h.s.Neighbours().List(), func(n stack.Neighbour) bool { return n.Addr == sender })
		if want := c.drop == ""; (answers == 1) != want || learnt != want {
			t.Errorf("%s: %d answers, learnt %v", c.name, answers, learnt)
		}
		if c.drop != "" && h.count("arp.drop."+c.drop) != 1 {
			t.Errorf("%s: %v", c.name, drops(h.s))
		}
	}
}

// TestAsksFromPacket: a question comes from the address that the packet comes
// from which waits for the answer (RFC 4861 §7.2.2), and later ones from that
// which goes with the neighbour.
func TestAsksFromPacket(t *testing.T) {
	for _, c := range []struct {
		family familyCase
		source string
	}{{families[0], "10.77.0.8"}, {families[1], "fd77::8"}} {
		h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{})
		src := netip.MustParseAddr(c.source)
		if err := h.i.AddAddr(netip.PrefixFrom(src, map[bool]int{false: 24, true: 64}[c.family.v6])); err != nil {
			t.Fatal(err)
		}
		h.run(5 * time.Second)
		u := newUDP(t, h.s)
		if err := u.Bind(netip.AddrPortFrom(src, 0)); err != nil {
			t.Fatal(err)
		}
		u.SendTo([]byte("x"), netip.AddrPortFrom(c.family.stranger, 9))
		if got := askedFrom(t, h.d.take()); got != src {
			t.Errorf("%s: asked from %v", c.family.name, got)
		}
		h.send(c.family.answer(goodMAC))
		h.run(50 * time.Second)
		u.SendTo([]byte("x"), netip.AddrPortFrom(c.family.stranger, 9))
		if got := askedFrom(t, h.run(6*time.Second)); got != c.family.source {
			t.Errorf("%s: without a packet asked from %v", c.family.name, got)
		}
	}
}

// askedFrom is where the last question among frames comes from.
func askedFrom(t *testing.T, frames [][]byte) (a netip.Addr) {
	for _, f := range frames {
		p := parse(t, f)
		if q, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP); ok && q.Operation == layers.ARPRequest {
			a, _ = netip.AddrFromSlice(q.SourceProtAddress)
		} else if p.Layer(layers.LayerTypeICMPv6NeighborSolicitation) != nil {
			a, _ = netip.AddrFromSlice(p.NetworkLayer().(*layers.IPv6).SrcIP)
		}
	}
	return a
}
