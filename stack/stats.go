package stack

import (
	"reflect"
	"strings"
	"sync/atomic"

	"github.com/tapstack/tapstack/arp"
	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/frag"
	"github.com/tapstack/tapstack/internal/mcast"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/tcp"
	"github.com/tapstack/tapstack/udp"
)

// counter is one named number. The name is the field's path in the structs
// below: counters.IPv4.Input is "ipv4.input".
type counter struct{ atomic.Uint64 }

func (c *counter) inc() { c.Add(1) }

// Drop is a reason of the stack itself for not using a frame or packet. The
// reasons that a protocol's parser or state machine gives are in its package.
type Drop uint8

// The reasons.
const (
	DropNone         Drop = iota
	DropShortFrame        // below 14 bytes
	DropLengthFrame       // EtherType below 0x600, which is no length of an IEEE 802.3 frame with 802.2
	DropUnknownType       // EtherType nobody here speaks
	DropForeignMAC        // unicast to another station
	DropForeignGroup      // multicast group that nobody joined
	DropForeignIP         // not an address of ours
	DropMartian           // source impossible on a wire
	DropMartianDst        // destination impossible on a wire
	DropReversePath       // source that the routes reach by another interface
	DropUnknownProto      // no such transport protocol
	DropNoSocket          // nobody listens on the port
	DropQueueFull         // the socket's receive queue is full
	DropReassembly        // IP header of a reassembled datagram is bad
	DropBadChecksum       // transport checksum
	DropNotForHost        // router functions a host does not have (forwarding, redirects)
	DropRateLimited       // our own error or reply, held back
	DropNoRoute           // our own packet, nowhere to send it
	DropNoNeighbour       // our own packet, its neighbour did not answer
	DropDevice            // our own frame, refused by the device
	DropLinkDown          // a packet or frame, the link is down or the interface closed
	DropMemory            // Limits.Memory is used up
	DropErrorQueue        // an error, the socket has no room for it
	DropFiltered          // a packet filter of the socket refused it
	DropRedirect          // a redirect that is not believed
	DropDeprecated        // an ICMP type that nobody is to use any more
	DropOptions           // IP options that cannot be used
	DropSourceRoute       // a source route, which is not followed
	DropVLAN              // a frame of a VLAN, on the interface of those without
	DropSNAP              // IEEE 802.3 with SNAP (RFC 1042), which is not spoken here (ether/snap)
	DropLLC               // IEEE 802.3 with another protocol of 802.2, as spanning tree
	NumDrops
)

var dropNames = [NumDrops]string{"none", "short-frame", "length-frame", "unknown-type", "foreign-mac",
	"foreign-group", "foreign-ip", "martian", "martian-destination", "reverse-path", "unknown-protocol", "no-socket", "receive-queue-full",
	"reassembly", "bad-checksum", "not-for-host", "rate-limited", "no-route", "no-neighbour", "device", "link-down", "memory", "error-queue-full", "filtered",
	"redirect-refused", "deprecated", "bad-options", "source-route", "vlan", "snap", "llc"}

func (d Drop) String() string { return dropNames[d] }

type dropCounters [NumDrops]counter

// counters holds every number the stack keeps. Zero ones are not shown.
type counters struct {
	Ether struct {
		Input, Output           counter
		InputBytes, OutputBytes counter
		Drop                    dropCounters
	}
	ARP struct {
		Input, Request, Reply, Probe, Announce, Conflict counter
		Drop                                             [arp.NumDrops]counter
	}
	IPv4 struct {
		Input, Output, FragmentsOut, Fragments, Reassembled, ReassemblyTimeout, ParameterProblem counter
		Drop                                                                                     dropCounters
		Parse                                                                                    [ipv4.NumDrops]counter
		Frag                                                                                     [frag.NumDrops]counter
	}
	IPv6 struct {
		Input, Output, FragmentsOut, Fragments, Reassembled, ReassemblyTimeout, ParameterProblem counter
		Drop                                                                                     dropCounters
		Parse                                                                                    [ipv6.NumDrops]counter
		Frag                                                                                     [frag.NumDrops]counter
	}
	ICMP struct {
		Input, EchoRequest, EchoReply, ErrorIn, ErrorOut, TimestampRequest, TimestampReply, Redirect counter
		Drop                                                                                         dropCounters
		Parse                                                                                        [icmp.NumDrops]counter
	}
	ND struct {
		// Solicit, Advert and RouterSolicit were sent, the others came.
		Solicit, Advert, RouterSolicit, SolicitIn, AdvertIn, RouterAdvert, Duplicate, Conflict, Looped counter
		Drop                                                                                           [ipv6.NumDrops]counter
	}
	IGMP, MLD membershipCounters

	UDP struct {
		Input, Output counter
		Drop          dropCounters
		Parse         [udp.NumDrops]counter
	}
	Ping struct {
		Input, Output counter
		Drop          dropCounters
	}
	TCP struct {
		Input, Output, ActiveOpen, PassiveOpen, Accepted, TimeWait, ResetOut, OrphanLimit counter
		// Cookies sent instead of keeping a SYN, come back, and forged or too old.
		SynCookiesSent, SynCookiesReceived, SynCookiesFailed counter
		ChallengeAck, ChallengeWithheld, TimeWaitReused      counter
		// Fast Open: text in the SYN that was taken and that was not, from here
		// and to here; requests for a cookie; too many waiting.
		FastOpenActive, FastOpenActiveFail              counter
		FastOpenPassive, FastOpenPassiveFail            counter
		FastOpenCookieRequested, FastOpenListenOverflow counter
		Drop                                            [tcp.NumDrops]counter
		Mechanism                                       tcp.Totals // shown without its name: "tcp.retrans-segs"
	}
	// Raw counts packets given to raw sockets and sent by them.
	Raw struct {
		Input, Output counter
		Drop          dropCounters
	}
	// Packet counts frames given to packet sockets and sent by them.
	Packet struct {
		Input, Output counter
		Drop          dropCounters
	}
	// Probe counts packets that probers sent, answers to them, ICMP errors about
	// them, and those that did not leave.
	Probe struct {
		Output, Input, ErrorIn, Failed counter
	}
	// Offload is the segmentation done in place of a device.
	Offload struct {
		Cut        counter // super-frames cut into frames
		Merged     counter // frames that became part of an aggregate
		Aggregates counter // aggregates made of them
	}
	Memory struct {
		// Pressure is how often use rose to three quarters of the budget,
		// Relief how often connections were then made to give memory back.
		Pressure, Relief counter
	}
	Loop struct {
		Frames counter
		Drop   dropCounters
	}
}

// membershipCounters are those of IGMP or MLD: queries, others' reports of the
// older versions, messages for routers, and what was sent.
type membershipCounters struct {
	Query, Heard, Ignored, Report, Leave counter
	Drop                                 [mcast.NumDrops]counter
}

// Counters returns the non-zero counters by name, such as "ipv4.input" or
// "udp.drop.no-socket", and as "memory.used" the bytes of Limits.Memory in use.
func (s *Stack) Counters() map[string]uint64 {
	m := make(map[string]uint64)
	if used := s.memory.Used(); used > 0 {
		m["memory.used"] = uint64(used)
	}
	collect(m, "", reflect.ValueOf(&s.stats).Elem())
	for _, i := range s.cfg.Load().ifaces {
		i.mu.Lock()
		for family, c := range i.neigh {
			prefix := "neigh." + [2]string{"ipv4", "ipv6"}[family] + "."
			collectInts(m, prefix, reflect.ValueOf(c.Stats()))
			if n := i.frags[family].Evicted(); n != 0 {
				m[[2]string{"ipv4", "ipv6"}[family]+".reassembly-evicted"] += n
			}
		}
		i.mu.Unlock()
	}
	return m
}

// reasons names the elements of the arrays above, by the path of the field:
// types will not do, since two enums may be equally long.
var reasons = map[string]func(int) string{
	"arp.drop":   func(i int) string { return arp.Drop(i).String() },
	"ipv4.parse": func(i int) string { return ipv4.Drop(i).String() },
	"ipv4.frag":  func(i int) string { return frag.Drop(i).String() },
	"ipv6.parse": func(i int) string { return ipv6.Drop(i).String() },
	"ipv6.frag":  func(i int) string { return frag.Drop(i).String() },
	"igmp.drop":  func(i int) string { return mcast.Drop(i).String() },
	"mld.drop":   func(i int) string { return mcast.Drop(i).String() },
	"icmp.parse": func(i int) string { return icmp.Drop(i).String() },
	"nd.drop":    func(i int) string { return ipv6.Drop(i).String() },
	"udp.parse":  func(i int) string { return udp.Drop(i).String() },
	"tcp.drop":   func(i int) string { return tcp.Drop(i).String() },
}

func collect(m map[string]uint64, prefix string, v reflect.Value) {
	t := v.Type()
	for f := range t.NumField() {
		name, field := prefix+kebab(t.Field(f).Name), v.Field(f)
		switch p := field.Addr().Interface().(type) {
		case *counter:
			if n := p.Load(); n != 0 {
				m[name] = n
			}
		case *tcp.Totals:
			for i := range p {
				if n := p[i].Load(); n != 0 {
					m[prefix+tcp.Counter(i).String()] += n
				}
			}
		default:
			if field.Kind() == reflect.Struct {
				collect(m, name+".", field)
				continue
			}
			// Parse and Frag are reasons as much as Drop is.
			named := reasons[name]
			if t.Field(f).Type == reflect.TypeFor[dropCounters]() {
				named = func(i int) string { return Drop(i).String() }
			}
			for i := range field.Len() {
				if n := field.Index(i).Addr().Interface().(*counter).Load(); n != 0 {
					m[prefix+"drop."+named(i)] += n
				}
			}
		}
	}
}

// collectInts adds the unsigned fields of a struct of plain numbers.
func collectInts(m map[string]uint64, prefix string, v reflect.Value) {
	for f := range v.NumField() {
		if n := v.Field(f).Uint(); n != 0 {
			m[prefix+kebab(v.Type().Field(f).Name)] += n
		}
	}
}

// kebab turns a field name into the spelling of counters: "FragmentsOut" into
// "fragments-out", "IPv4" into "ipv4".
func kebab(s string) string {
	switch s {
	case "IPv4", "IPv6", "ARP", "ICMP", "ND", "IGMP", "MLD", "UDP", "TCP":
		return strings.ToLower(s)
	}
	var b strings.Builder
	for i, r := range s {
		if r >= 'A' && r <= 'Z' {
			if i > 0 {
				b.WriteByte('-')
			}
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}
