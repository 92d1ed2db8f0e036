package interop

// Chains of extension headers, sent to the kernel and to a stack: both answer
// alike, or the difference is in headerDifferences, from where docs/ipv6-headers.md has
// its table.

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
)

var (
	asked  = netip.MustParseAddr("fd79::1") // who is sent the chains
	asker  = netip.MustParseAddr("fd79::2")
	askMAC = ether.Addr{2, 0, 0, 0, 0x79, 2}
)

// headerChain is what follows a fixed header.
type headerChain struct {
	name string
	// parts are headers in order; the next header fields are filled in.
	parts []headerPart
	group bool // sent to all nodes
	// size, if not 0, is the payload length that is claimed.
	size int
	cut  int // bytes that are missing at the end
}

// headerPart is one extension header, or the upper layer.
type headerPart struct {
	proto uint8
	b     []byte
}

func optionsHeader(proto uint8, options ...byte) headerPart {
	b := append([]byte{0, 0}, options...)
	for n := 0; len(b)%8 != 0; n++ {
		b = append(b, 0)
	}
	b[1] = byte(len(b)/8 - 1)
	return headerPart{proto, b}
}

func hopByHop(options ...byte) headerPart { return optionsHeader(ipv6.ProtoHopByHop, options...) }
func destination(options ...byte) headerPart {
	return optionsHeader(ipv6.ProtoDestOpts, options...)
}
func routingHeader(typ, left byte, words int) headerPart {
	b := make([]byte, 8+8*words)
	b[1], b[2], b[3] = byte(words), typ, left
	return headerPart{ipv6.ProtoRouting, b}
}
func fragmentHeader(offset int, more bool, id uint32) headerPart {
	b := make([]byte, 8)
	v := uint16(offset)
	if more {
		v |= 1
	}
	binary.BigEndian.PutUint16(b[2:], v)
	binary.BigEndian.PutUint32(b[4:], id)
	return headerPart{ipv6.ProtoFragment, b}
}
func upper(proto uint8, n int) headerPart { return headerPart{proto, make([]byte, n)} }

// echoPart is an echo request; its checksum is filled in by packet.
func echoPart() headerPart {
	b := make([]byte, 16)
	icmp.Put(b, icmp.TypeEcho6, 0, [4]byte{0x11, 0x11, 0, 1})
	return headerPart{ipv6.ProtoICMPv6, b}
}

// packet is the chain as an IPv6 packet.
func (c *headerChain) packet(src netip.Addr) []byte {
	dst := asked
	if c.group {
		dst = allNodes
	}
	next := uint8(ipv6.ProtoNone)
	var body []byte
	for n := len(c.parts) - 1; n >= 0; n-- {
		p := append([]byte(nil), c.parts[n].b...)
		switch c.parts[n].proto {
		case ipv6.ProtoHopByHop, ipv6.ProtoDestOpts, ipv6.ProtoRouting, ipv6.ProtoFragment:
			p[0] = next
		case ipv6.ProtoICMPv6:
			if len(p) >= icmp.HeaderLen {
				icmp.SetChecksum6(p, src, dst)
			}
		}
		body, next = append(p, body...), c.parts[n].proto
	}
	body = body[:len(body)-c.cut]
	f := ipv6.Fields{NextHeader: next, HopLimit: 64, Src: src, Dst: dst, PayloadLen: len(body)}
	if c.size != 0 {
		f.PayloadLen = max(c.size, 0)
	}
	b := make([]byte, ipv6.HeaderLen, ipv6.HeaderLen+len(body))
	f.Put(b)
	return append(b, body...)
}

func handMadeChains() (list []headerChain) {
	add := func(name string, parts ...headerPart) { list = append(list, headerChain{name: name, parts: parts}) }
	group := func(name string, parts ...headerPart) {
		list = append(list, headerChain{name: name + ", to a group", parts: parts, group: true})
	}
	e := echoPart()
	add("nothing before", e)
	add("hop-by-hop", hopByHop(), e)
	add("router alert", hopByHop(5, 2, 0, 0), e)
	add("router alert of 3 bytes", hopByHop(5, 3, 0, 0, 0), e)
	add("two router alerts", hopByHop(5, 2, 0, 0, 5, 2, 0, 0), e)
	add("router alert for the destination", destination(5, 2, 0, 0), e)
	add("all in order", hopByHop(), destination(), routingHeader(77, 0, 0), fragmentHeader(0, false, 1), destination(), e)
	add("any order", routingHeader(77, 0, 0), destination(), fragmentHeader(0, false, 1), destination(), routingHeader(78, 0, 2), e)
	add("hop-by-hop second", destination(), hopByHop(), e)
	add("hop-by-hop twice", hopByHop(), hopByHop(), e)
	add("hop-by-hop after an atomic fragment", fragmentHeader(0, false, 3), hopByHop(), e)
	for _, typ := range []byte{0, 1, 2, 3, 4, 5, 77, 253, 255} {
		for _, left := range []byte{0, 1, 2, 255} {
			add(fmt.Sprintf("routing type %d, %d left", typ, left), routingHeader(typ, left, 2), e)
		}
	}
	add("routing behind destination options", destination(), routingHeader(77, 1, 0), e)
	group("routing", routingHeader(77, 0, 0), e)
	group("routing to go on", routingHeader(77, 1, 0), e)
	for action := range 4 {
		o := byte(action<<6 | 0x1e)
		add(fmt.Sprint("hop-by-hop option, action ", action), hopByHop(o, 4, 1, 2, 3, 4), e)
		add(fmt.Sprint("destination option, action ", action), destination(1, 0, o, 2, 1, 2), e)
		add(fmt.Sprint("option that may change, action ", action), destination(o|0x20, 4, 1, 2, 3, 4), e)
		group(fmt.Sprint("hop-by-hop option, action ", action), hopByHop(o, 4, 1, 2, 3, 4), e)
		group(fmt.Sprint("destination option, action ", action), destination(o, 4, 1, 2, 3, 4), e)
		add(fmt.Sprint("option behind an atomic fragment, action ", action), fragmentHeader(0, false, 9), destination(o, 0), e)
	}
	add("two unknown options, the second refuses", destination(0x1e, 0, 0x9e, 2, 0, 0), e)
	add("tunnel encapsulation limit", destination(4, 1, 4), e)
	add("home address", destination(append([]byte{1, 0, 0xc9, 16}, make([]byte, 16)...)...), e)
	add("jumbo payload", hopByHop(0xc2, 4, 0, 1, 0, 0), e)
	add("jumbo payload, small", hopByHop(0xc2, 4, 0, 0, 0, 100), e)
	add("jumbo payload, not aligned", hopByHop(1, 0, 0xc2, 4, 0, 1, 0, 0), e)
	list = append(list, headerChain{name: "jumbogram", parts: []headerPart{hopByHop(0xc2, 4, 0, 1, 0, 1), e}, size: -1},
		headerChain{name: "jumbogram that is none", parts: []headerPart{hopByHop(0xc2, 4, 0, 0, 0, 24), e}, size: -1},
		headerChain{name: "length 0 without jumbo option", parts: []headerPart{hopByHop(), e}, size: -1},
		headerChain{name: "length 0", parts: []headerPart{destination(), e}, size: -1},
		headerChain{name: "payload length too large", parts: []headerPart{destination(), e}, size: 100})
	for n := range 9 {
		add(fmt.Sprint("PadN of ", n), destination(append([]byte{1, byte(n)}, make([]byte, n)...)...), e)
		add(fmt.Sprint("Pad1 ", n, " times"), destination(append(make([]byte, n), 0x1e, 0)...), e)
		add(fmt.Sprint("Pad1 ", n, " times, hop by hop"), hopByHop(append(make([]byte, n), 0x1e, 0)...), e)
	}
	add("PadN with content", destination(1, 4, 0, 1, 0, 0), e)
	add("Pad1 and PadN", destination(0, 0, 1, 4, 0, 0, 0, 0, 0x1e, 0), e)
	for _, n := range []int{7, 8, 9, 20} {
		var o []byte
		for range n {
			o = append(o, 0x1e, 0)
		}
		add(fmt.Sprint(n, " hop-by-hop options"), hopByHop(o...), e)
		add(fmt.Sprint(n, " destination options"), destination(o...), e)
	}
	add("header of 264 bytes", destination(append([]byte{0x1e, 250}, make([]byte, 250)...)...), e)
	for _, n := range []int{2, 8, 20, 60} {
		var p []headerPart
		for range n {
			p = append(p, destination())
		}
		add(fmt.Sprint(n, " destination headers"), append(p, e)...)
	}
	add("option longer than its header", destination(0x1e, 5, 0, 0, 0, 0), e)
	add("option without length", destination(1, 3, 0, 0, 0, 0x1e), e)
	long := destination()
	long.b[1] = 50
	add("header longer than the packet", long, e)
	long = hopByHop()
	long.b[1] = 50
	add("hop-by-hop longer than the packet", long, e)
	add("no next header", destination())
	add("no next header, but something", upper(ipv6.ProtoNone, 20))
	for _, proto := range []uint8{ipv6.ProtoESP, 135, 139, 140, 41, 4, 132, 200, 253, 255, 1, 2} {
		add(fmt.Sprint("protocol ", proto), upper(proto, 16))
		add(fmt.Sprint("protocol ", proto, " behind options"), hopByHop(), destination(), upper(proto, 16))
	}
	group("protocol 200", upper(200, 16))
	for _, n := range []int{0, 7, 8} {
		add(fmt.Sprint("UDP of ", n, " in a first fragment"), fragmentHeader(0, true, uint32(100+n)), upper(ipv6.ProtoUDP, n))
		add(fmt.Sprint("options before the end, ", n), fragmentHeader(0, true, uint32(200+n)), destination(), upper(ipv6.ProtoUDP, n))
	}
	for _, n := range []int{8, 16, 24} {
		add(fmt.Sprint("TCP of ", n, " in a first fragment"), fragmentHeader(0, true, uint32(300+n)), upper(ipv6.ProtoTCP, n))
	}
	add("first fragment, options only", fragmentHeader(0, true, 400), destination())
	add("first fragment, protocol 200", fragmentHeader(0, true, 401), upper(200, 16))
	list = append(list, headerChain{name: "first fragment cut in its options", parts: []headerPart{fragmentHeader(0, true, 402), destination(append([]byte{0x1e, 12}, make([]byte, 12)...)...)}, cut: 8},
		headerChain{name: "fragment header cut", parts: []headerPart{fragmentHeader(0, true, 403)}, cut: 4},
		headerChain{name: "destination header cut", parts: []headerPart{destination()}, cut: 2},
		headerChain{name: "first fragment, to a group", parts: []headerPart{fragmentHeader(0, true, 410), upper(ipv6.ProtoUDP, 0)}, group: true})
	add("fragment of 9 bytes", fragmentHeader(0, true, 404), upper(ipv6.ProtoUDP, 9))
	add("fragment beyond the end", fragmentHeader(65528, false, 405), upper(ipv6.ProtoUDP, 8))
	add("fragment up to the end", fragmentHeader(65528, false, 406), upper(ipv6.ProtoUDP, 7))
	add("fragment within a fragment", fragmentHeader(0, false, 407), fragmentHeader(0, true, 408), upper(ipv6.ProtoUDP, 8))
	add("atomic fragment", fragmentHeader(0, false, 409), e)
	add("two atomic fragments", fragmentHeader(0, false, 411), fragmentHeader(0, false, 412), e)
	add("refused option behind a first fragment", fragmentHeader(0, true, 413), destination(0x9e, 0), upper(ipv6.ProtoUDP, 16))
	return list
}

// randomChains are made of few parts, of which most are right.
func randomChains(n int) (list []headerChain) {
	rng := rand.New(rand.NewPCG(8200, 7045))
	for i := range n {
		c := headerChain{name: fmt.Sprint("random ", i), group: rng.IntN(8) == 0}
		for range rng.IntN(5) {
			options := func() (o []byte) {
				for range rng.IntN(3) {
					switch rng.IntN(6) {
					case 0:
						o = append(o, 0)
					case 1:
						n := rng.IntN(6)
						o = append(append(o, 1, byte(n)), make([]byte, n)...)
					case 2:
						o = append(o, 5, 2, 0, 0)
					case 3:
						o = append(o, byte(rng.IntN(4)<<6|0x1c), 1, 9)
					default:
						o = append(o, 0x3c, 2, 9, 9)
					}
				}
				return o
			}
			switch rng.IntN(8) {
			case 0, 1:
				if len(c.parts) == 0 || rng.IntN(4) == 0 {
					c.parts = append(c.parts, hopByHop(options()...))
				}
			case 2, 3, 4:
				c.parts = append(c.parts, destination(options()...))
			case 5:
				c.parts = append(c.parts, routingHeader(byte([]int{0, 1, 77, 253}[rng.IntN(4)]), byte(rng.IntN(3)/2), rng.IntN(3)))
			case 6:
				c.parts = append(c.parts, fragmentHeader(0, false, rng.Uint32()))
			case 7:
				c.parts = append(c.parts, fragmentHeader(8*rng.IntN(4), rng.IntN(2) == 0, rng.Uint32()))
			}
		}
		switch rng.IntN(8) {
		case 0:
			c.parts = append(c.parts, upper(uint8(200+rng.IntN(50)), 8))
		case 1:
			c.parts = append(c.parts, upper(ipv6.ProtoNone, 8))
		default:
			c.parts = append(c.parts, echoPart())
		}
		list = append(list, c)
	}
	return list
}

// headerDifferences are the chains that the kernel answers in another way, and
// why.
var headerDifferences = map[string]string{
	"routing type 3, 0 left":   rpl,
	"routing type 3, 1 left":   rpl,
	"routing type 3, 2 left":   rpl,
	"routing type 3, 255 left": rpl,
	"routing type 4, 0 left":   segments,
	"routing type 4, 1 left":   segments,
	"routing type 4, 2 left":   segments,
	"routing type 4, 255 left": segments,

	"jumbogram that is none":            noJumbo,
	"length 0 without jumbo option":     noJumbo,
	"first fragment cut in its options": "the kernel waits for the rest; RFC 7112 §5 has it refused",

	"random 24":  laterICMP,
	"random 39":  laterICMP,
	"random 113": laterICMP,
}

const (
	rpl       = "the kernel knows the type (RFC 6554) and drops it silently unless it is turned on; here it is one of those that RFC 8200 §4.4 is about"
	segments  = "the kernel knows the type (RFC 8754) and drops it silently unless it is turned on; here it is one of those that RFC 8200 §4.4 is about"
	laterICMP = "a later fragment of ICMPv6 may be one of an error, about which RFC 4443 §2.4 (e.1) allows none; the kernel takes its first byte for the type"
	noJumbo   = "the kernel reads the options of a packet without a length; here none is one, as jumbograms are refused before"
)

// readAnswer says what a packet from the asked host is; "" when it is none that
// counts. fence is the number of the packet that ends the wait, if it is the
// reply to that, else -1.
func readAnswer(frame []byte) (what string, fence int) {
	if len(frame) < ether.HeaderLen+ipv6.HeaderLen || binary.BigEndian.Uint16(frame[12:]) != uint16(ether.TypeIPv6) {
		return "", -1
	}
	b := frame[ether.HeaderLen:]
	h := ipv6.Header(b)
	if h.Dst() != asker || h.NextHeader() != ipv6.ProtoICMPv6 {
		return "", -1
	}
	m := b[ipv6.HeaderLen:]
	switch {
	case len(m) < 8 || m[0] == 135 || m[0] == 136:
		return "", -1
	case m[0] == icmp.TypeEchoReply6 && m[4] == 0x77:
		return "", int(binary.BigEndian.Uint16(m[6:]))
	case m[0] == icmp.TypeEchoReply6:
		return "reply", -1
	}
	return fmt.Sprintf("type %d code %d at %d", m[0], m[1], binary.BigEndian.Uint32(m[4:])), -1
}

// noFence is the number of those before the first chain.
const noFence = 0xffff

// fencePacket is an echo request whose reply comes after all others.
func fencePacket(n int) []byte {
	c := headerChain{parts: []headerPart{echoPart()}}
	binary.BigEndian.PutUint16(c.parts[0].b[4:], 0x7700)
	binary.BigEndian.PutUint16(c.parts[0].b[6:], uint16(n))
	return c.packet(asker)
}

func askFrame(to ether.Addr, packet []byte) []byte {
	if dst := ipv6.Header(packet).Dst(); dst.IsMulticast() {
		to = ether.Multicast(dst)
	}
	b := make([]byte, ether.HeaderLen)
	ether.Put(b, to, askMAC, ether.TypeIPv6)
	return append(b, packet...)
}

// kernelAnswers sends chains to the kernel over a link of its own.
func kernelAnswers(t *testing.T, chains []headerChain) (answers []string) {
	l := newLab(t)
	for _, args := range []string{"link add near type veth peer name far", "link set near address 02:00:00:00:79:01", "address add fd79::1/64 dev near nodad"} {
		ip(t, l, args)
	}
	sysctl(t, l, "ipv6/conf/far/disable_ipv6", "1")
	ip(t, l, "link set near up")
	ip(t, l, "link set far up")
	ip(t, l, "neighbour add fd79::2 lladdr "+askMAC.String()+" dev near nud permanent")
	sysctl(t, l, "ipv6/icmp/ratelimit", "0")
	sysctl(t, l, "ipv4/icmp_msgs_per_sec", "100000")
	sysctl(t, l, "ipv4/icmp_msgs_burst", "100000")
	var f *os.File
	inLab(t, l, func() error {
		far, err := net.InterfaceByName("far")
		if err != nil {
			return err
		}
		all := binary.NativeEndian.Uint16([]byte{unix.ETH_P_IPV6 >> 8, unix.ETH_P_IPV6 & 0xff})
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(all))
		if err != nil {
			return err
		}
		f = os.NewFile(uintptr(fd), "packet")
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: far.Index})
	})
	defer f.Close()
	// What is sent from one processor arrives in order.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, one unix.CPUSet
	if unix.SchedGetaffinity(0, &all) == nil {
		for cpu := range len(all) * 64 {
			if all.IsSet(cpu) {
				one.Set(cpu)
				break
			}
		}
		if unix.SchedSetaffinity(0, &one) == nil {
			defer unix.SchedSetaffinity(0, &all)
		}
	}
	b := make([]byte, 2000)
	ask := func(packet []byte, n int) string {
		for _, p := range [][]byte{packet, fencePacket(n)} {
			if _, err := f.Write(askFrame(ether.Addr{2, 0, 0, 0, 0x79, 1}, p)); err != nil {
				t.Fatal(err)
			}
		}
		f.SetReadDeadline(time.Now().Add(patience))
		answer := "nothing"
		for {
			k, err := f.Read(b)
			if err != nil {
				t.Fatalf("chain %d: %v", n, err)
			}
			switch what, fence := readAnswer(b[:k]); {
			case fence == n:
				return answer
			case what != "":
				answer = what
			}
		}
	}
	// The kernel says nothing before the address is its own.
	for end := time.Now().Add(patience); ; time.Sleep(pause) {
		f.Write(askFrame(ether.Addr{2, 0, 0, 0, 0x79, 1}, fencePacket(noFence)))
		f.SetReadDeadline(time.Now().Add(pause))
		if k, err := f.Read(b); err == nil {
			if _, fence := readAnswer(b[:k]); fence == noFence {
				break
			}
		}
		if time.Now().After(end) {
			t.Fatal("the kernel does not answer")
		}
	}
	for n := range chains {
		answers = append(answers, ask(chains[n].packet(asker), n))
	}
	return answers
}

// answering is a device that keeps what a stack sends.
type answering struct {
	deliver func(*pkt.Buf)
	idle    func()
	sent    [][]byte
}

func (d *answering) Caps() ether.Caps { return ether.Caps{MTU: 1500, Queues: 1} }
func (d *answering) Addr() ether.Addr { return ether.Addr{} }
func (d *answering) Close() error     { return nil }
func (d *answering) Receive(context.Context, int, func(*pkt.Buf), func()) error {
	return net.ErrClosed
}
func (d *answering) Attach(deliver func(*pkt.Buf), idle func()) bool {
	d.deliver, d.idle = deliver, idle
	return true
}
func (d *answering) Send(_ int, frames []*pkt.Buf) (int, error) {
	for _, p := range frames {
		d.sent = append(d.sent, append([]byte(nil), p.Bytes()...))
		p.Put()
	}
	return len(frames), nil
}

// ourAnswers sends chains to a stack.
func ourAnswers(t *testing.T, chains []headerChain) (answers []string) {
	d := &answering{}
	s := stack.New(stack.Config{Limits: stack.Limits{ICMPErrorInterval: -1, ICMPErrorsPerSecond: 1e6, ICMPErrorBurst: 1e6}})
	defer s.Close()
	i, err := s.AddInterface(stack.InterfaceConfig{Name: "near", Device: d, MAC: ether.Addr{2, 0, 0, 0, 0x79, 1}, NoDAD: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(i.AddAddr(netip.PrefixFrom(asked, 64)), s.Neighbours().Set(i, asker, askMAC)); err != nil {
		t.Fatal(err)
	}
	for n := range chains {
		d.sent = nil
		d.deliver(pkt.From(askFrame(ether.Addr{2, 0, 0, 0, 0x79, 1}, chains[n].packet(asker))))
		d.idle()
		answer := "nothing"
		for _, f := range d.sent {
			if what, _ := readAnswer(f); what != "" {
				answer = what
			}
		}
		answers = append(answers, answer)
	}
	return answers
}

// TestHeadersLikeKernel compares the answers to some hundred chains.
func TestHeadersLikeKernel(t *testing.T) {
	t.Parallel()
	lab.Require(t)
	chains := append(handMadeChains(), randomChains(120)...)
	kernel, ours := kernelAnswers(t, chains), ourAnswers(t, chains)
	differ := 0
	for n, c := range chains {
		if os.Getenv("HEADERS_TABLE") != "" {
			fmt.Printf("%-50s %-26s %s\n", c.name, kernel[n], ours[n])
		}
		why := headerDifferences[c.name]
		switch {
		case kernel[n] != ours[n] && why == "":
			t.Errorf("%s: %s, the kernel: %s", c.name, ours[n], kernel[n])
		case kernel[n] == ours[n] && why != "":
			t.Errorf("%s: %s, as the kernel; it is said that %s", c.name, ours[n], why)
		case why != "":
			differ++
		}
	}
	t.Logf("%d chains, %d of them answered differently", len(chains), differ)
}
