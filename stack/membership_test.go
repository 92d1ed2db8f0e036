package stack_test

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/csum"
	"github.com/tapstack/tapstack/internal/mcast"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
)

// aboutIGMP describes a frame of IGMP as gopacket reads it.
func aboutIGMP(f []byte) (string, bool) {
	p := gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Default)
	ip, ok := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
	if !ok || ip.Protocol != layers.IPProtocolIGMP {
		return "", false
	}
	s := fmt.Sprintf("%v>%v IGMP", ip.SrcIP, ip.DstIP)
	if ip.TTL != 1 || ip.TOS != 0xc0 || len(ip.Options) != 1 || ip.Options[0].OptionType != ipv4.OptRouterAlert {
		s += " in the wrong envelope"
	}
	switch m := p.Layer(layers.LayerTypeIGMP).(type) {
	case *layers.IGMP:
		for _, r := range m.GroupRecords {
			s += fmt.Sprintf(" %d:%v", r.Type, r.MulticastAddress)
			for _, a := range r.SourceAddresses {
				s += fmt.Sprint("+", a)
			}
		}
	case *layers.IGMPv1or2:
		s += fmt.Sprintf(" type %#x %v", uint8(m.Type), m.GroupAddress)
	}
	return s, true
}

// igmpFrom makes a frame with an IGMP message.
func igmpFrom(src, dst netip.Addr, typ, code uint8, group netip.Addr, rest ...byte) []byte {
	b := append(append([]byte{typ, code, 0, 0}, group.AsSlice()...), rest...)
	binary.BigEndian.PutUint16(b[2:], csum.Checksum(b, 0))
	f := ip4(ipv4.ProtoIGMP, b, func(f *ipv4.Fields) { f.Src, f.Dst, f.TTL, f.Options = src, dst, 1, ipv4.RouterAlert[:] })
	d := dst.As4()
	copy(f, []byte{1, 0, 0x5e, d[1] & 0x7f, d[2], d[3]})
	return f
}

var (
	mdns4   = netip.MustParseAddr("224.0.0.251")
	systems = netip.MustParseAddr("224.0.0.1")
	any4    = netip.MustParseAddr("0.0.0.0")
)

// TestIGMPFrame: the bytes of a report.
func TestIGMPFrame(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{})
	h.run(3 * time.Second)
	h.d.take()
	if err := h.i.JoinGroup(mdns4); err != nil {
		t.Fatal(err)
	}
	list := h.d.take()
	want := "01005e000016" + "020000000007" + "0800" +
		"46c00028" + "00004000" + "0102f9a5" + "0a4d0007" + "e0000016" + "94040000" +
		"2200f902" + "00000001" + "04000000" + "e00000fb"
	if len(list) != 1 || hex.EncodeToString(list[0]) != want {
		t.Errorf("sent %x\nwant   %s", list, want)
	}
	if n := h.count("igmp.report"); n != 1 {
		t.Errorf("%d reports counted", n)
	}
	// RFC 3376 §4.2.13: from nowhere while there is no address.
	bare := newBare(t, stack.Config{}, stack.InterfaceConfig{DisableIPv6: true})
	bare.i.JoinGroup(mdns4)
	if list := names(bare.watch(bare.n.Now(), 0)); !slices.Equal(list, []string{"0.0.0.0>224.0.0.22 IGMP 4:224.0.0.251"}) {
		t.Errorf("without an address: %q", list)
	}
}

// TestIGMP is a life on the link: queries of each version, others' reports, and
// what is no query.
func TestIGMP(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{})
	h.i.JoinGroup(mdns4)
	h.i.JoinGroup(systems)
	h.run(5 * time.Second)
	h.d.take()
	answers := func(d time.Duration) (list []string) {
		for _, s := range names(h.watch(h.n.Now(), d)) {
			if strings.Contains(s, "IGMP") {
				list = append(list, s)
			}
		}
		return list
	}
	expect := func(what string, d time.Duration, want ...string) {
		t.Helper()
		if got := answers(d); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	v3 := func() []byte { return igmpFrom(peerIP4, systems, 0x11, 20, any4, 2, 125, 0, 0) }
	h.send(v3())
	expect("version 3", 3*time.Second, "10.77.0.7>224.0.0.22 IGMP 2:224.0.0.251")
	bare := ip4(ipv4.ProtoIGMP, v3()[14+24:], func(f *ipv4.Fields) { f.Dst, f.TTL = systems, 1 })
	copy(bare, []byte{1, 0, 0x5e, 0, 0, 1})
	h.send(bare)
	expect("without router alert", 3*time.Second)
	far := v3()
	far[14+8] = 2
	repair(far)
	h.send(far)
	expect("TTL 2", 3*time.Second)
	if h.count("igmp.drop.no-router-alert") != 1 || h.count("igmp.drop.bad-hop-limit") != 1 || h.count("igmp.query") != 1 {
		t.Errorf("counted %v", h.s.Counters())
	}
	h.send(igmpFrom(any4, systems, 0x11, 20, any4))
	expect("version 2, from a bridge without address", 3*time.Second, "10.77.0.7>224.0.0.251 IGMP type 0x16 224.0.0.251")
	h.send(igmpFrom(peerIP4, systems, 0x11, 20, any4), igmpFrom(peerIP4, mdns4, 0x16, 0, mdns4))
	expect("another member was faster", 3*time.Second)
	h.i.LeaveGroup(mdns4)
	expect("and it is the last", 20*time.Second)
	h.i.JoinGroup(mdns4)
	h.i.LeaveGroup(mdns4)
	expect("joined and left", 20*time.Second, "10.77.0.7>224.0.0.251 IGMP type 0x16 224.0.0.251", "10.77.0.7>224.0.0.2 IGMP type 0x17 224.0.0.251")
	h.send(igmpFrom(peerIP4, systems, 0x11, 0, any4), igmpFrom(peerIP4, systems, 0x22, 0, any4))
	h.i.JoinGroup(mdns4)
	h.i.LeaveGroup(mdns4)
	expect("version 1", 20*time.Second, "10.77.0.7>224.0.0.251 IGMP type 0x12 224.0.0.251")
	if h.count("igmp.ignored") != 1 || h.count("igmp.heard") != 1 || h.count("igmp.leave") != 1 {
		t.Errorf("counted %v", h.s.Counters())
	}
}

// TestForcedVersions are the knobs.
func TestForcedVersions(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{IGMPVersion: 2, MLDVersion: 1})
	h.run(5 * time.Second)
	h.d.take()
	g6 := netip.MustParseAddr("ff02::fb")
	h.i.JoinGroup(mdns4)
	h.i.JoinGroup(g6)
	h.i.LeaveGroup(g6)
	var types []string
	for _, f := range h.d.take() {
		if s, ok := aboutIGMP(f); ok {
			types = append(types, s)
		} else if _, b, ok := ip6Of(f); ok && b[8] == icmp.TypeMLDReport || b[8] == icmp.TypeMLDDone {
			types = append(types, fmt.Sprint(b[8], " ", netip.AddrFrom16([16]byte(f[14+24:14+40]))))
		}
	}
	if want := []string{"10.77.0.7>224.0.0.251 IGMP type 0x16 224.0.0.251", "131 ff02::fb", "132 ff02::2"}; !slices.Equal(types, want) {
		t.Errorf("sent %q, want %q", types, want)
	}
	for _, c := range []stack.InterfaceConfig{{IGMPVersion: 4}, {MLDVersion: 3}, {IGMPVersion: -1}} {
		c.Device = h.d
		if _, err := h.s.AddInterface(c); err == nil || !strings.Contains(err.Error(), syscall.EINVAL.Error()) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestSourcesOfSockets: the routers are told what all sockets together want, and
// what no socket wants does not reach one that joined nothing.
func TestSourcesOfSockets(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{})
	h.run(5 * time.Second)
	for _, c := range []struct {
		v6                   bool
		group, wanted, other netip.Addr
		envelope             string
	}{
		{false, netip.MustParseAddr("232.1.1.1"), peerIP4, netip.MustParseAddr("10.77.0.9"), "10.77.0.7>224.0.0.22 IGMP"},
		{true, netip.MustParseAddr("ff3e::1"), peerIP6, netip.MustParseAddr("fd77::9"), fmt.Sprintf("%v>ff02::16 hops 1 MLD", ipv6.LinkLocal(hostMAC))},
	} {
		t.Run(c.group.String(), func(t *testing.T) {
			bind := func() *stack.Datagram {
				u, err := h.s.NewUDP(c.v6)
				if err == nil {
					u.SetShare(true)
					err = u.Bind(netip.AddrPortFrom(map[bool]netip.Addr{false: any4, true: netip.IPv6Unspecified()}[c.v6], 4000))
				}
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(u.Close)
				return u
			}
			one, two, stranger := bind(), bind(), bind()
			m := stack.Membership{Group: c.group, Interface: h.i}
			hears := func(from netip.Addr) (got [3]int) {
				var f []byte
				data := make([]byte, 12)
				binary.BigEndian.PutUint16(data, 99)
				binary.BigEndian.PutUint16(data[2:], 4000)
				binary.BigEndian.PutUint16(data[4:], 12)
				binary.BigEndian.PutUint16(data[6:], csum.Checksum(data, csum.Pseudo(from, c.group, ipv4.ProtoUDP, 12)))
				if c.v6 {
					f = ip6(ipv4.ProtoUDP, data, func(f *ipv6.Fields) { f.Src, f.Dst = from, c.group })
				} else {
					f = ip4(ipv4.ProtoUDP, data, func(f *ipv4.Fields) { f.Src, f.Dst = from, c.group })
					d := c.group.As4()
					copy(f, []byte{1, 0, 0x5e, d[1] & 0x7f, d[2], d[3]})
				}
				h.send(f)
				for n, u := range []*stack.Datagram{one, two, stranger} {
					for {
						if _, _, _, err := u.RecvFrom(make([]byte, 9)); err != nil {
							break
						}
						got[n]++
					}
				}
				return got
			}
			step := func(what string, do func() error, report string, wanted, other [3]int) {
				t.Helper()
				h.d.take()
				if err := do(); err != nil {
					t.Errorf("%s: %v", what, err)
				}
				var got []string
				for _, e := range names(h.watch(h.n.Now(), 0)) {
					if strings.HasPrefix(e, c.envelope) {
						got = append(got, e)
					}
				}
				if want := []string{c.envelope + " " + report}; report != "" && !slices.Equal(got, want) || report == "" && len(got) > 0 {
					t.Errorf("%s: reported %q, want %q", what, got, want)
				}
				if got := hears(c.wanted); got != wanted {
					t.Errorf("%s: the one source is heard by %v, want %v", what, got, wanted)
				}
				if got := hears(c.other); got != other {
					t.Errorf("%s: the other source is heard by %v, want %v", what, got, other)
				}
				h.run(3 * time.Second)
			}
			g := c.group.String()
			with := func(s string, src ...netip.Addr) string {
				for _, a := range src {
					if !c.v6 { // gopacket's MLD records are described without sources
						s += "+" + a.String()
					}
				}
				return s
			}
			nobody, all := [3]int{}, [3]int{1, 1, 1} // who has not joined hears what others asked for
			step("a source", func() error { return one.ChangeSource(m, c.wanted, stack.AddSource) }, with("5:"+g, c.wanted), all, nobody)
			step("all", func() error { return two.Join(m) }, "4:"+g, all, [3]int{0, 1, 1})
			step("all but one", func() error { return two.ChangeSource(m, c.other, stack.BlockSource) }, with("6:"+g, c.other), all, nobody)
			step("only the one again", func() error { return two.Leave(m) }, with("3:"+g, c.wanted), all, nobody)
			step("nobody", func() error { one.Close(); return nil }, with("6:"+g, c.wanted), nobody, nobody)
		})
	}
}

// FuzzIGMP gives a host any IGMP message in a proper envelope: what it says is
// said within the bounds, and it goes on.
func FuzzIGMP(f *testing.F) {
	f.Add([]byte{0x11, 20, 0, 0, 0, 0, 0, 0, 2, 125, 0, 0})
	f.Add([]byte{0x16, 0, 0, 0, 224, 0, 0, 251})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 8 || len(b) > 1400 {
			return
		}
		h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{})
		h.i.JoinGroup(mdns4)
		h.run(3 * time.Second)
		h.d.take()
		h.send(igmpFrom(peerIP4, systems, b[0], b[1], netip.AddrFrom4([4]byte(b[4:8])), b[8:]...))
		h.run(time.Hour)
		if n := len(h.d.take()); n > 1 {
			t.Errorf("%d frames", n)
		}
		if d, q := h.count("igmp.ignored"), h.count("igmp.query")+h.count("igmp.heard"); d+q == 0 {
			var dropped uint64
			for r := range mcast.NumDrops {
				dropped += h.count("igmp.drop." + r.String())
			}
			if dropped != 1 {
				t.Errorf("neither taken nor counted: %v", h.s.Counters())
			}
		}
	})
}
