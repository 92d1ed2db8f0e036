package arp

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/tapstack/tapstack/ether"
)

var (
	us       = ether.Addr{2, 0, 0, 0, 0, 7}
	them     = ether.Addr{2, 0, 0, 0, 0, 1}
	zeroMAC  ether.Addr
	ourIP    = netip.MustParseAddr("10.77.0.7")
	tentIP   = netip.MustParseAddr("10.77.0.8")
	theirIP  = netip.MustParseAddr("10.77.0.1")
	otherIP  = netip.MustParseAddr("10.77.0.9")
	zeroIP   = netip.IPv4Unspecified()
	validARP = packetOf(OpRequest, them, theirIP, zeroMAC, ourIP)
)

// ours is the state of addresses in these tests.
func ours(ip netip.Addr) Ownership {
	switch ip {
	case ourIP:
		return Assigned
	case tentIP:
		return Tentative
	}
	return NotOurs
}

func packetOf(op uint16, smac ether.Addr, sip netip.Addr, tmac ether.Addr, tip netip.Addr) Packet {
	b := make([]byte, PacketLen)
	Put(b, op, smac, sip, tmac, tip)
	return b
}

func TestParse(t *testing.T) {
	// edited returns a valid request with some bytes changed.
	edited := func(offset int, v ...byte) []byte {
		b := bytes.Clone(validARP)
		copy(b[offset:], v)
		return b
	}
	tests := []struct {
		name string
		b    []byte
		want Drop
	}{
		{"request", validARP, DropNone},
		{"reply", edited(6, 0, 2), DropNone},
		{"padded frame", append(bytes.Clone(validARP), make([]byte, 18)...), DropNone},
		{"nothing", nil, DropShort},
		{"27 bytes", validARP[:27], DropShort},
		{"hardware 6, IEEE 802", edited(0, 0, 6), DropNone},
		{"protocol IPv6", edited(2, 0x86, 0xdd), DropProtocol},
		{"hardware length 8", edited(4, 8), DropLength},
		{"protocol length 16", edited(5, 16), DropLength},
		{"lengths zero", edited(4, 0, 0), DropLength},
		{"operation 0", edited(6, 0, 0), DropOp},
		{"operation 3, RARP", edited(6, 0, 3), DropOp},
		{"operation 0x0101", edited(6, 1, 1), DropOp},
		{"sender MAC zero", edited(8, 0, 0, 0, 0, 0, 0), DropSenderMAC},
		{"sender MAC broadcast", edited(8, 255, 255, 255, 255, 255, 255), DropSenderMAC},
		{"sender MAC multicast", edited(8, 1, 0, 0x5e, 0, 0, 1), DropSenderMAC},
		{"sender IP zero", edited(14, 0, 0, 0, 0), DropNone},
		{"sender IP multicast", edited(14, 224, 0, 0, 1), DropSenderIP},
		{"sender IP class E", edited(14, 240, 0, 0, 1), DropSenderIP},
		{"sender IP broadcast", edited(14, 255, 255, 255, 255), DropSenderIP},
		{"sender IP loopback", edited(14, 127, 0, 0, 1), DropSenderIP},
		{"sender IP of this network", edited(14, 0, 0, 0, 1), DropSenderIP},
		{"target IP zero", edited(24, 0, 0, 0, 0), DropNone},
		{"target IP broadcast", edited(24, 255, 255, 255, 255), DropNone},
		{"target IP multicast", edited(24, 224, 0, 0, 1), DropTargetIP},
		{"target IP loopback", edited(24, 127, 0, 0, 1), DropTargetIP},
		{"target MAC anything", edited(18, 255, 1, 2, 3, 4, 5), DropNone},
	}
	for _, tt := range tests {
		p, d := Parse(tt.b)
		if d != tt.want || (p == nil) != (d != DropNone) {
			t.Errorf("%s: %v, want %v", tt.name, d, tt.want)
		}
	}
}

func TestBuilders(t *testing.T) {
	b := make([]byte, PacketLen)
	check := func(name string, want Packet, probe, gratuitous bool) {
		t.Helper()
		p, d := Parse(b)
		if d != DropNone || !bytes.Equal(p, want) || p.IsProbe() != probe || p.IsGratuitous() != gratuitous {
			t.Errorf("%s: %v, % x, probe %v, gratuitous %v", name, d, b, p.IsProbe(), p.IsGratuitous())
		}
	}
	Request(b, us, ourIP, theirIP)
	check("request", []byte{0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 7, 10, 77, 0, 7, 0, 0, 0, 0, 0, 0, 10, 77, 0, 1}, false, false)
	Probe(b, us, ourIP)
	check("probe", []byte{0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 77, 0, 7}, true, false)
	Announcement(b, us, ourIP)
	check("announcement", []byte{0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 7, 10, 77, 0, 7, 0, 0, 0, 0, 0, 0, 10, 77, 0, 7}, false, true)
	Reply(b, validARP, us)
	check("reply", []byte{0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 7, 10, 77, 0, 7, 2, 0, 0, 0, 0, 1, 10, 77, 0, 1}, false, false)
}

func TestDecide(t *testing.T) {
	tests := []struct {
		name       string
		op         uint16
		smac       ether.Addr
		sip        netip.Addr
		tmac       ether.Addr
		tip        netip.Addr
		want       Verdict
		conflictOf netip.Addr
	}{
		{"RFC 826: request for us", OpRequest, them, theirIP, zeroMAC, ourIP,
			Verdict{Reply: true, Learn: LearnCreate}, netip.Addr{}},
		{"RFC 826: request for us, unicast to refresh", OpRequest, them, theirIP, us, ourIP,
			Verdict{Reply: true, Learn: LearnCreate}, netip.Addr{}},
		{"RFC 826: request for another host updates only", OpRequest, them, theirIP, zeroMAC, otherIP,
			Verdict{Learn: LearnUpdate, Drop: DropNotOurs}, netip.Addr{}},
		{"RFC 826: reply to us", OpReply, them, theirIP, us, ourIP,
			Verdict{Learn: LearnUpdate, Confirm: true}, netip.Addr{}},
		{"reply with our IP but not our MAC", OpReply, them, theirIP, ether.Broadcast, ourIP,
			Verdict{Learn: LearnUpdate}, netip.Addr{}},
		{"RFC 826: reply to another host", OpReply, them, theirIP, ether.Addr{2, 0, 0, 0, 0, 9}, otherIP,
			Verdict{Learn: LearnUpdate, Drop: DropNotOurs}, netip.Addr{}},
		{"RFC 5227 §2.3: announcement of a stranger", OpRequest, them, theirIP, zeroMAC, theirIP,
			Verdict{Learn: LearnUpdate, Drop: DropNotOurs}, netip.Addr{}},
		{"gratuitous reply of a stranger", OpReply, them, theirIP, ether.Broadcast, theirIP,
			Verdict{Learn: LearnUpdate, Drop: DropNotOurs}, netip.Addr{}},
		{"RFC 5227 §2.1.1: probe for our address", OpRequest, them, zeroIP, zeroMAC, ourIP,
			Verdict{Reply: true}, netip.Addr{}},
		{"RFC 5227 §2.1.1: probe for the one we probe", OpRequest, them, zeroIP, zeroMAC, tentIP,
			Verdict{Conflict: true}, tentIP},
		{"probe for another", OpRequest, them, zeroIP, zeroMAC, otherIP,
			Verdict{Drop: DropNotOurs}, netip.Addr{}},
		{"RFC 5227 §2.1.1: reply to our probe", OpReply, them, tentIP, us, zeroIP,
			Verdict{Conflict: true}, tentIP},
		{"RFC 5227 §2.1.1: request from the address we probe", OpRequest, them, tentIP, zeroMAC, otherIP,
			Verdict{Conflict: true}, tentIP},
		{"RFC 5227 §2.1.1: announcement of the address we probe", OpRequest, them, tentIP, zeroMAC, tentIP,
			Verdict{Conflict: true}, tentIP},
		{"RFC 5227 §2.4: request from our address", OpRequest, them, ourIP, zeroMAC, otherIP,
			Verdict{Conflict: true}, ourIP},
		{"RFC 5227 §2.4: announcement of our address", OpRequest, them, ourIP, zeroMAC, ourIP,
			Verdict{Conflict: true}, ourIP},
		{"RFC 5227 §2.4: reply from our address", OpReply, them, ourIP, us, ourIP,
			Verdict{Conflict: true}, ourIP},
		{"request for the address we probe", OpRequest, them, theirIP, zeroMAC, tentIP,
			Verdict{Learn: LearnUpdate, Drop: DropTentative}, netip.Addr{}},
		{"reply to the address we probe", OpReply, them, theirIP, us, tentIP,
			Verdict{Learn: LearnUpdate}, netip.Addr{}},
		{"our probe came back", OpRequest, us, zeroIP, zeroMAC, tentIP,
			Verdict{Drop: DropOwn}, netip.Addr{}},
		{"our announcement came back", OpRequest, us, ourIP, zeroMAC, ourIP,
			Verdict{Drop: DropOwn}, netip.Addr{}},
		{"our request came back", OpRequest, us, ourIP, zeroMAC, theirIP,
			Verdict{Drop: DropOwn}, netip.Addr{}},
		{"somebody with our MAC", OpRequest, us, theirIP, zeroMAC, ourIP,
			Verdict{Drop: DropOwn}, netip.Addr{}},
		// PyTCP took these into its cache.
		{"PyTCP: reply from 0.0.0.0", OpReply, them, zeroIP, us, ourIP,
			Verdict{Drop: DropNotOurs}, netip.Addr{}},
		{"PyTCP: all zero", OpRequest, them, zeroIP, zeroMAC, zeroIP,
			Verdict{Drop: DropNotOurs}, netip.Addr{}},
		{"PyTCP: unsolicited reply must not create", OpReply, them, otherIP, us, ourIP,
			Verdict{Learn: LearnUpdate, Confirm: true}, netip.Addr{}},
		{"PyTCP: gratuitous reply must not create", OpReply, them, otherIP, us, otherIP,
			Verdict{Learn: LearnUpdate, Drop: DropNotOurs}, netip.Addr{}},
	}
	for _, tt := range tests {
		p, d := Parse(packetOf(tt.op, tt.smac, tt.sip, tt.tmac, tt.tip))
		if d != DropNone {
			t.Fatalf("%s: %v", tt.name, d)
		}
		tt.want.Addr = tt.conflictOf
		if got := Decide(p, us, ours); got != tt.want {
			t.Errorf("%s:\ngot  %+v\nwant %+v", tt.name, got, tt.want)
		}
	}
}

func TestDoesNotAllocate(t *testing.T) {
	b := make([]byte, PacketLen)
	if n := testing.AllocsPerRun(100, func() {
		if p, d := Parse(validARP); d == DropNone && Decide(p, us, ours).Reply {
			Reply(b, p, us)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestDropNames(t *testing.T) {
	seen := make(map[string]bool)
	for d := range NumDrops {
		if s := d.String(); s == "" || s == "unknown" || seen[s] {
			t.Errorf("reason %d has the name %q", d, s)
		}
		seen[d.String()] = true
	}
	if NumDrops.String() != "unknown" || DropSenderMAC.Error() != "arp: bad-sender-mac" {
		t.Error(NumDrops.String(), DropSenderMAC.Error())
	}
}

// FuzzParse compares with gopacket, builds the packet again, and checks what
// must hold for every verdict.
func FuzzParse(f *testing.F) {
	f.Add([]byte(validARP))
	f.Add([]byte(packetOf(OpReply, them, theirIP, us, ourIP)))
	f.Add([]byte(packetOf(OpRequest, them, zeroIP, zeroMAC, tentIP)))
	f.Add([]byte(packetOf(OpRequest, them, ourIP, zeroMAC, ourIP)))
	f.Add([]byte{0, 1, 8, 0, 6, 4})
	f.Add([]byte("\x00\x06\b\x00\x06\x04\x00\x0100000000000000000000"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, d := Parse(b)
		if d != DropNone {
			return
		}
		var g layers.ARP
		if err := g.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil {
			t.Fatalf("gopacket: %v", err)
		}
		smac, tmac, sip, tip := p.SenderMAC(), p.TargetMAC(), p.SenderIP(), p.TargetIP()
		if g.Operation != p.Op() || !bytes.Equal(g.SourceHwAddress, smac[:]) || !bytes.Equal(g.DstHwAddress, tmac[:]) ||
			!bytes.Equal(g.SourceProtAddress, sip.AsSlice()) || !bytes.Equal(g.DstProtAddress, tip.AsSlice()) {
			t.Fatalf("gopacket reads % x differently: %+v", b, g)
		}
		// Of the two hardware types that are taken one is sent.
		if !bytes.Equal(packetOf(p.Op(), smac, sip, tmac, tip)[2:], p[2:]) {
			t.Fatalf("% x built differently", p)
		}
		v := Decide(p, us, ours)
		switch {
		case v.Reply && (p.Op() != OpRequest || tip != ourIP || v.Conflict || v.Drop != DropNone),
			v.Learn != LearnNone && (v.Conflict || sip.IsUnspecified() || sip == ourIP || sip == tentIP || smac == us),
			v.Learn == LearnCreate && (p.Op() != OpRequest || tip != ourIP),
			v.Confirm && (p.Op() != OpReply || tip != ourIP || v.Learn != LearnUpdate),
			v.Conflict != v.Addr.IsValid(),
			v.Conflict && (ours(v.Addr) == NotOurs || smac == us),
			v.Drop != DropNone && (v.Reply || v.Confirm || v.Conflict):
			t.Fatalf("% x: %+v", p, v)
		}
	})
}
