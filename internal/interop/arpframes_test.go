package interop

// What ARP is compared with the kernel's about: the frames, the states in which
// each is sent, the knobs, and the differences that are meant.

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"path"

	"github.com/tapstack/tapstack/arp"
	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/stack"
)

// Who is who. The host under test has addresses on the interface that is asked,
// on another one, and on loopback.
var (
	arpMe      = netip.MustParsePrefix("10.88.0.7/24")
	arpMeToo   = netip.MustParsePrefix("10.88.0.8/24") // secondary
	arpSecond  = netip.MustParsePrefix("10.89.0.7/24") // of the same interface
	arpElse    = netip.MustParsePrefix("10.90.0.7/24") // of the other
	arpLo      = netip.MustParsePrefix("10.99.0.1/32")
	arpPeer    = netip.MustParseAddr("10.88.0.50")
	arpThird   = netip.MustParseAddr("10.88.0.60")
	arpFar     = netip.MustParseAddr("192.0.2.9")
	arpBeyond  = netip.MustParseAddr("10.90.0.50") // where the other interface leads
	arpMarker  = netip.MustParseAddr("10.88.0.250")
	arpMAC     = ether.Addr{2, 0, 0, 0, 0x88, 7}
	arpMarkMAC = ether.Addr{2, 0, 0, 0, 0x88, 0xfa}
	arpMacs    = map[string]ether.Addr{"A": {2, 0, 0, 0, 0x88, 0xa}, "B": {2, 0, 0, 0, 0x88, 0xb}, "C": {2, 0, 0, 0, 0x88, 0xc}}
)

// arpFrame is one frame of the table.
type arpFrame struct {
	name     string
	dst, src ether.Addr
	b        []byte // what is behind the Ethernet header
	sip      netip.Addr
	states   bool // its sender may be known, and is in every state
}

// known are the states of the sender in the cache, at A. Those with a plus have
// not changed for longer than locktime.
var known = []string{"none", "incomplete", "reachable", "reachable+", "stale", "stale+", "failed", "permanent"}

// arpKnobs is one setting of the knobs.
type arpKnobs struct {
	name     string
	c        stack.ARPConfig
	rpFilter stack.RPFilter
	// all states are tried, or two of them.
	all bool
}

var arpSettings = []arpKnobs{
	{name: "default", all: true},
	{name: "accept 1", c: stack.ARPConfig{Accept: 1}, all: true},
	{name: "accept 2", c: stack.ARPConfig{Accept: 2}},
	{name: "ignore 1", c: stack.ARPConfig{Ignore: 1}},
	{name: "ignore 2", c: stack.ARPConfig{Ignore: 2}},
	{name: "ignore 3", c: stack.ARPConfig{Ignore: 3}},
	{name: "ignore 8", c: stack.ARPConfig{Ignore: 8}},
	{name: "announce 1", c: stack.ARPConfig{Announce: 1}},
	{name: "announce 2", c: stack.ARPConfig{Announce: 2}},
	{name: "filter", c: stack.ARPConfig{Filter: true}},
	{name: "rp_filter 1", rpFilter: stack.RPFilterStrict},
	{name: "rp_filter 2", rpFilter: stack.RPFilterLoose},
}

// statesOf are the states in which a frame is tried.
func statesOf(f *arpFrame, k *arpKnobs) []string {
	switch {
	case !f.states:
		return known[:1]
	case k.all:
		return known
	}
	return []string{"none", "reachable+"}
}

// departure is a difference from the kernel that is meant. Its patterns are
// those of path.Match.
type departure struct {
	frame, state, knobs string
	kernel, ours        string // what each makes of it; "*" is anything
	why                 string
}

func (d *departure) matches(frame, state, knobs, kernel, ours string) bool {
	for _, p := range [][2]string{{d.frame, frame}, {d.state, state}, {d.knobs, knobs}, {d.kernel, kernel}, {d.ours, ours}} {
		if ok, err := path.Match(p[0], p[1]); err != nil || !ok {
			return false
		}
	}
	return true
}

// arpDepartures are those that are meant.
var arpDepartures = []departure{
	{"? * to a group nobody joined", "*", "*", "*", "*", "the interface takes frames to groups it has joined; a veth takes all"},
	{"? reply to us by *cast", "*", "*", "stale *", "reachable *",
		"it has our MAC address and so answers our question; hosts with link-local addresses must broadcast their answers (RFC 3927 §2.5), and would never be reachable"},
	{"? reply to us by unicast for another station", "*", "*", "reachable *", "stale *", "no answer to a question of ours, and so no proof (RFC 4861 §7.2.5 asks for one)"},
	{"? reply to another by unicast", "*", "*", "reachable *", "stale *", "no answer to a question of ours"},
	{"? reply to 0.0.0.0", "*", "*", "reachable *", "stale *", "no answer to a question of ours"},
	{"? reply to itself *", "*", "*", "reachable *", "stale *", "no answer to a question of ours"},
	{"* from 10.*.0.255", "none", "*", "*", "none", "a broadcast address is no sender's (RFC 1122 §3.2.1.3 (e)); the kernel answers, and has an entry of its own for it"},
	{"* from 240.0.0.1", "none", "*", "*", "none", "class E is nobody's here (RFC 1112 §4)"},
	{"* from 0.0.0.1", "none", "*", "*", "none", "0/8 is nobody's here (RFC 1122 §3.2.1.3)"},
	{"* from 10.88.0.[78]", "none", "*", "none", "none; request to all: 10.88.0.[78] at us to 10.88.0.[78] at 0", "our address is defended (RFC 5227 §2.4 (c))"},
	{"* of MAC zero", "*", "*", "*", "*", "no station's address"},
	{"* of MAC *cast", "*", "*", "*", "*", "a group's address for one host would flood the link (RFC 1812 §3.3.2)"},
	{"* of MAC ours", "*", "*", "*", "*", "our own packet, which a loop brought back"},
}

// arpFrames is the table.
func arpFrames() (list []arpFrame) {
	me, zero := arpMe.Addr(), netip.IPv4Unspecified()
	group, lone := ether.Addr{1, 0, 0x5e, 0, 0, 1}, ether.Addr{1, 0, 0x5e, 1, 2, 3}
	addr := netip.MustParseAddr
	add := func(name string, dst ether.Addr, op uint16, sha ether.Addr, sip netip.Addr, tha ether.Addr, tip netip.Addr) *arpFrame {
		b := make([]byte, arp.PacketLen)
		arp.Put(b, op, sha, sip, tha, tip)
		list = append(list, arpFrame{name: name, dst: dst, src: sha, b: b, sip: sip, states: sip == arpPeer})
		return &list[len(list)-1]
	}
	none, all := ether.Addr{}, ether.Broadcast
	for _, who := range []string{"A", "B"} {
		mac := arpMacs[who]
		request := func(name string, dst ether.Addr, tip netip.Addr) {
			add(who+" request "+name, dst, arp.OpRequest, mac, arpPeer, none, tip)
		}
		reply := func(name string, dst, tha ether.Addr, tip netip.Addr) {
			add(who+" reply "+name, dst, arp.OpReply, mac, arpPeer, tha, tip)
		}
		request("for us", all, me)
		request("for us by unicast", arpMAC, me)
		request("for us by multicast", group, me)
		request("for us to a group nobody joined", lone, me)
		request("for us to another station", arpMacs["C"], me)
		request("for our secondary address", all, arpMeToo.Addr())
		request("for our address of another subnet", all, arpSecond.Addr())
		request("for our address elsewhere", all, arpElse.Addr())
		request("for our address on loopback", all, arpLo.Addr())
		request("for another", all, arpThird)
		request("for another by unicast", arpMAC, arpThird)
		for _, tip := range []string{"0.0.0.0", "255.255.255.255", "10.88.0.255", "10.88.0.0", "224.0.0.1", "127.0.0.1", "127.1.2.3", "240.0.0.1"} {
			request("for "+tip, all, addr(tip))
		}
		request("for itself", all, arpPeer)
		request("for itself by unicast", arpMAC, arpPeer)
		reply("to us", arpMAC, arpMAC, me)
		reply("to us by broadcast", all, arpMAC, me)
		reply("to us by multicast", group, arpMAC, me)
		reply("to us by unicast for another station", arpMAC, arpMacs["C"], me)
		reply("to us by broadcast for another station", all, arpMacs["C"], me)
		reply("to us on another station", arpMacs["C"], arpMAC, me)
		reply("to us elsewhere", arpMAC, arpMAC, arpElse.Addr())
		reply("to another", all, arpMacs["C"], arpThird)
		reply("to another by unicast", arpMAC, arpMAC, arpThird)
		reply("to 0.0.0.0", arpMAC, arpMAC, zero)
		reply("to 224.0.0.1", arpMAC, arpMAC, addr("224.0.0.1"))
		reply("to itself", all, mac, arpPeer)
		reply("to itself by unicast", arpMAC, mac, arpPeer)
		reply("to itself for all", all, all, arpPeer)
		reply("to itself for nobody", all, none, arpPeer)
		reply("to itself for us", arpMAC, arpMAC, arpPeer)
		add(who+" request in another station's frame", all, arp.OpRequest, mac, arpPeer, none, me).src = arpMacs["C"]
		add(who+" reply in another station's frame", arpMAC, arp.OpReply, mac, arpPeer, arpMAC, me).src = arpMacs["C"]
	}
	mac := arpMacs["A"]
	for _, tip := range []netip.Addr{me, arpMeToo.Addr(), arpElse.Addr(), arpLo.Addr(), arpThird, zero} {
		add("probe for "+tip.String(), all, arp.OpRequest, mac, zero, none, tip)
	}
	for _, sip := range []string{"0.0.0.1", "255.255.255.255", "10.88.0.255", "10.90.0.255", "10.88.0.0", "224.0.0.1", "240.0.0.1", "127.0.0.1",
		"10.88.0.7", "10.88.0.8", "10.90.0.7", "10.99.0.1", "192.0.2.9", "10.89.0.50", "10.90.0.50"} {
		a := addr(sip)
		add("request from "+sip, all, arp.OpRequest, mac, a, none, me)
		add("reply from "+sip, arpMAC, arp.OpReply, mac, a, arpMAC, me)
		add("announcement from "+sip, all, arp.OpRequest, mac, a, none, a)
		add("announcing reply from "+sip, all, arp.OpReply, mac, a, mac, a)
		for _, f := range list[len(list)-4:] {
			f.states = a == arpFar || a == arpBeyond
		}
	}
	add("reply from 0.0.0.0", arpMAC, arp.OpReply, mac, zero, arpMAC, me)
	for _, m := range []struct {
		name string
		mac  ether.Addr
	}{{"zero", none}, {"broadcast", all}, {"multicast", group}, {"ours", arpMAC}} {
		add("request of MAC "+m.name, all, arp.OpRequest, m.mac, arpPeer, none, me).src = mac
		add("reply of MAC "+m.name, arpMAC, arp.OpReply, m.mac, arpPeer, arpMAC, me).src = mac
	}
	// What is wrong with the bytes.
	for _, op := range []uint16{arp.OpRequest, arp.OpReply} {
		base := func(name string) *arpFrame {
			return add(fmt.Sprintf("%s, operation %d", name, op), arpMAC, op, mac, arpPeer, arpMAC, me)
		}
		put := func(name string, at int, v uint16) { binary.BigEndian.PutUint16(base(name).b[at:], v) }
		for _, v := range []uint16{0, 6, 7, 15, 0x0100} {
			put(fmt.Sprint("hardware type ", v), 0, v)
		}
		for _, v := range []uint16{0, 0x0806, 0x86dd} {
			put(fmt.Sprintf("protocol type %#04x", v), 2, v)
		}
		for _, v := range []uint16{0, 0x0504, 0x0604 + 0x100, 0x0600, 0x0610} {
			put(fmt.Sprintf("lengths %#04x", v), 4, v)
		}
		for _, n := range []int{0, 1, 8, 27} {
			f := base(fmt.Sprint("bytes: ", n))
			f.b = f.b[:n]
		}
		f := base("bytes: 1028")
		f.b = append(f.b, make([]byte, 1000)...)
	}
	for _, v := range []uint16{0, 3, 4, 8, 9, 0x0100, 0xffff} {
		add(fmt.Sprint("operation ", v), arpMAC, v, mac, arpPeer, arpMAC, me)
	}
	return list
}
