package interop

// ARP beside the kernel's: a table of frames, each in every state of the cache
// and with every knob, sent to both; what they answer and what they then know
// has to be the same, but for a list of departures with a reason each.

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/arp"
	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/csum"
	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/stack/simnet"
)

// arpAnswer describes a frame that came back, "" for one that is no answer.
func arpAnswer(f []byte) string {
	if len(f) < ether.HeaderLen+arp.PacketLen || f[12] != 8 || f[13] != 6 {
		return ""
	}
	p := arp.Packet(f[ether.HeaderLen:])
	who := func(m ether.Addr) string {
		for name, x := range arpMacs {
			if x == m {
				return name
			}
		}
		return map[ether.Addr]string{arpMAC: "us", ether.Broadcast: "all", {}: "0"}[m]
	}
	what := "request"
	if p.Op() == arp.OpReply {
		what = "reply"
	}
	return fmt.Sprintf("%s to %s: %v at %s to %v at %s", what, who(ether.Addr(f[:6])), p.SenderIP(), who(p.SenderMAC()), p.TargetIP(), who(p.TargetMAC()))
}

// outcome is what became of a frame: the entry of its sender and the answers.
func outcome(state string, mac ether.Addr, answers []string) string {
	for name, x := range arpMacs {
		if x == mac {
			state += " " + name
		}
	}
	return strings.Join(append([]string{state}, answers...), "; ")
}

// arpKernel is the kernel as the host under test: device ka is its interface,
// and what is sent by kx comes in there.
type arpKernel struct {
	t     *testing.T
	l     *lab.Lab
	index int
	fd    int // on kx
	h     *netlink.Handle
	n     uint16 // markers sent
}

func newARPKernel(t *testing.T, l *lab.Lab) *arpKernel {
	k := &arpKernel{t: t, l: l}
	ip(t, l, "link add ka address "+arpMAC.String()+" type veth peer name kx")
	ip(t, l, "link add kb type veth peer name ky")
	for _, dev := range []string{"ka", "kb", "kx", "ky"} {
		sysctl(t, l, "ipv6/conf/"+dev+"/disable_ipv6", "1")
		sysctl(t, l, "ipv4/conf/"+dev+"/rp_filter", "0")
	}
	sysctl(t, l, "ipv4/conf/all/rp_filter", "0")
	ip(t, l, "link set kx arp off up")
	ip(t, l, "link set ky arp off up")
	ip(t, l, "link set lo up")
	ip(t, l, "link set ka up")
	ip(t, l, "link set kb up")
	for _, p := range []netip.Prefix{arpMe, arpMeToo, arpSecond} {
		ip(t, l, "address add "+p.String()+" dev ka")
	}
	ip(t, l, "address add "+arpElse.String()+" dev kb")
	ip(t, l, "address add "+arpLo.String()+" dev lo scope host")
	inLab(t, l, func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		k.h = h
		ka, err := net.InterfaceByName("ka")
		if err != nil {
			return err
		}
		kx, err := net.InterfaceByName("kx")
		if err != nil {
			return err
		}
		k.index = ka.Index
		all := int(binary.NativeEndian.Uint16([]byte{unix.ETH_P_ALL >> 8, unix.ETH_P_ALL & 0xff}))
		if k.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(k.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
			return err
		}
		limit := unix.NsecToTimeval(int64(3 * patience))
		if err := unix.SetsockoptTimeval(k.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
			return err
		}
		if err := unix.Bind(k.fd, &unix.SockaddrLinklayer{Protocol: uint16(all), Ifindex: kx.Index}); err != nil {
			return err
		}
		return k.neigh(arpMarker, unix.NUD_PERMANENT, arpMarkMAC)
	})
	t.Cleanup(func() {
		k.h.Close()
		unix.Close(k.fd)
	})
	return k
}

func (k *arpKernel) neigh(a netip.Addr, state int, mac ether.Addr) error {
	n := &netlink.Neigh{LinkIndex: k.index, Family: netlink.FAMILY_V4, State: state, IP: a.AsSlice()}
	if mac != (ether.Addr{}) {
		n.HardwareAddr = mac[:]
	}
	return k.h.NeighSet(n)
}

// conf sets a knob of ka.
func (k *arpKernel) conf(name string, value int) {
	if err := os.WriteFile("/proc/sys/net/ipv4/conf/ka/"+name, fmt.Append(nil, value), 0); err != nil {
		k.t.Fatal(err)
	}
}

func (k *arpKernel) knobs(s *arpKnobs) {
	k.conf("arp_accept", s.c.Accept)
	k.conf("arp_ignore", s.c.Ignore)
	k.conf("arp_announce", s.c.Announce)
	k.conf("arp_filter", map[bool]int{true: 1}[s.c.Filter])
	k.conf("rp_filter", map[stack.RPFilter]int{stack.RPFilterStrict: 1, stack.RPFilterLoose: 2}[s.rpFilter])
}

// forget drops what is known of an address.
func (k *arpKernel) forget(a netip.Addr) {
	err := k.h.NeighDel(&netlink.Neigh{LinkIndex: k.index, Family: netlink.FAMILY_V4, IP: a.AsSlice()})
	if err != nil && err != unix.ENOENT {
		k.t.Fatalf("forget %v: %v", a, err)
	}
}

// age makes entries that have just changed look as if they had done so a second
// ago, for which nobody waits, or as if it were always just now. The sysctl is
// for the machine's root alone.
func (k *arpKernel) age(old bool) {
	ms := "100000000"
	if old {
		ms = "4294967295" // which comes to less than 0
	}
	ip(k.t, k.l, "ntable change name arp_cache dev ka locktime "+ms)
}

// try sends a frame from the state.
func (k *arpKernel) try(f *arpFrame, state string) string {
	k.forget(f.sip)
	mac := arpMacs["A"]
	var err error
	switch strings.TrimSuffix(state, "+") {
	case "incomplete":
		err = k.neigh(f.sip, unix.NUD_INCOMPLETE, ether.Addr{})
	case "failed":
		err = k.neigh(f.sip, unix.NUD_FAILED, ether.Addr{})
	case "reachable":
		err = k.neigh(f.sip, unix.NUD_REACHABLE, mac)
	case "stale":
		err = k.neigh(f.sip, unix.NUD_STALE, mac)
	case "permanent":
		err = k.neigh(f.sip, unix.NUD_PERMANENT, mac)
	}
	if err != nil {
		k.t.Fatalf("%s, %s: %v", f.name, state, err)
	}
	k.write(frameOf(f))
	answers := k.until(k.mark())
	got, at := "none", ether.Addr{}
	list, err := k.h.NeighList(k.index, netlink.FAMILY_V4)
	if err != nil {
		k.t.Fatal(err)
	}
	for _, n := range list {
		if a, _ := netip.AddrFromSlice(n.IP); a.Unmap() == f.sip {
			got = map[int]string{unix.NUD_INCOMPLETE: "incomplete", unix.NUD_REACHABLE: "reachable", unix.NUD_STALE: "stale",
				unix.NUD_FAILED: "failed", unix.NUD_PERMANENT: "permanent", unix.NUD_NOARP: "noarp"}[n.State]
			if got == "" {
				got = fmt.Sprint("state ", n.State)
			}
			copy(at[:], n.HardwareAddr)
		}
	}
	k.forget(f.sip)
	return outcome(got, at, answers)
}

func frameOf(f *arpFrame) []byte {
	b := make([]byte, ether.HeaderLen, ether.HeaderLen+len(f.b))
	ether.Put(b, f.dst, f.src, ether.TypeARP)
	return append(b, f.b...)
}

func (k *arpKernel) write(b []byte) {
	if _, err := unix.Write(k.fd, b); err != nil {
		k.t.Fatal(err)
	}
}

// mark sends an echo request, whose reply comes behind all answers to what was
// sent before, and returns its number.
func (k *arpKernel) mark() uint16 {
	k.n++
	m := make([]byte, 8)
	m[0] = icmp.TypeEcho4
	binary.BigEndian.PutUint16(m[6:], k.n)
	binary.BigEndian.PutUint16(m[2:], csum.Checksum(m, 0))
	f := ipv4.Fields{TTL: 64, Protocol: ipv4.ProtoICMP, Src: arpMarker, Dst: arpMe.Addr(), PayloadLen: len(m)}
	b := make([]byte, ether.HeaderLen+f.HeaderLen())
	ether.Put(b, arpMAC, arpMarkMAC, ether.TypeIPv4)
	f.Put(b[ether.HeaderLen:])
	k.write(append(b, m...))
	return k.n
}

// until collects the answers in front of a marker.
func (k *arpKernel) until(mark uint16) (answers []string) {
	b := make([]byte, 2048)
	for {
		n, err := unix.Read(k.fd, b)
		if err != nil {
			k.t.Fatalf("the marker does not come back: %v", err)
		}
		f := b[:n]
		if a := arpAnswer(f); strings.HasPrefix(a, "reply") {
			answers = append(answers, a)
		}
		if n >= 42 && f[12] == 8 && f[13] == 0 && f[23] == ipv4.ProtoICMP && f[34] == icmp.TypeEchoReply4 && binary.BigEndian.Uint16(f[40:]) == mark {
			return answers
		}
	}
}

// arpStack is our host, in virtual time, on a device that the test is the other
// end of.
type arpStack struct {
	t       *testing.T
	n       *simnet.Net
	s       *stack.Stack
	nic     *stack.Interface
	u       *stack.Datagram
	deliver func(*pkt.Buf)
	idle    func()
	sent    [][]byte
}

func (d *arpStack) Caps() ether.Caps { return ether.Caps{MTU: 1500, Queues: 1} }
func (d *arpStack) Addr() ether.Addr { return arpMAC }
func (d *arpStack) Close() error     { return nil }
func (d *arpStack) Receive(context.Context, int, func(*pkt.Buf), func()) error {
	return net.ErrClosed
}
func (d *arpStack) Attach(deliver func(*pkt.Buf), idle func()) bool {
	d.deliver, d.idle = deliver, idle
	return true
}
func (d *arpStack) Send(_ int, frames []*pkt.Buf) (int, error) {
	for _, p := range frames {
		d.sent = append(d.sent, slices.Clone(p.Bytes()))
		p.Put()
	}
	return len(frames), nil
}

func newARPStack(t *testing.T, k *arpKnobs) *arpStack {
	t.Helper()
	d := &arpStack{t: t, n: simnet.New(1)}
	d.s = stack.New(stack.Config{Clock: d.n.Clock(), Seed: 1})
	t.Cleanup(func() { d.s.Close() })
	fail := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	d.nic, err = d.s.AddInterface(stack.InterfaceConfig{Name: "ka", Device: d, DisableIPv6: true, ARP: k.c, RPFilter: k.rpFilter})
	fail(err)
	other, err := d.s.AddInterface(stack.InterfaceConfig{Name: "kb", Device: new(arpStack), DisableIPv6: true, MAC: arpMarkMAC})
	fail(err)
	for _, p := range []netip.Prefix{arpMe, arpMeToo, arpSecond} {
		fail(d.nic.AddAddr(p))
	}
	fail(other.AddAddr(arpElse))
	fail(d.s.Interfaces()[0].AddAddr(arpLo))
	d.u, err = d.s.NewUDP(false)
	fail(err)
	t.Cleanup(d.u.Close)
	return d
}

// input gives the host a frame and returns its answers.
func (d *arpStack) input(b []byte) (answers []string) {
	d.sent = nil
	d.deliver(pkt.From(b))
	d.idle()
	d.n.RunFor(0)
	for _, f := range d.sent {
		if a := arpAnswer(f); a != "" {
			answers = append(answers, a)
		}
	}
	return answers
}

// try sends a frame from the state.
func (d *arpStack) try(f *arpFrame, state string) string {
	d.s.Neighbours().Flush(d.nic)
	_ = d.s.Neighbours().Remove(d.nic, f.sip) // if it is a static one
	d.n.RunFor(15 * time.Second)              // so that an address is defended again
	say := func(op uint16) {
		b := make([]byte, arp.PacketLen)
		arp.Put(b, op, arpMacs["A"], f.sip, arpMAC, arpMe.Addr())
		d.input(frameOf(&arpFrame{dst: arpMAC, src: arpMacs["A"], b: b}))
	}
	base := strings.TrimSuffix(state, "+")
	switch base {
	case "incomplete", "failed", "reachable":
		if err := d.u.SendTo([]byte("x"), netip.AddrPortFrom(f.sip, 9)); err != nil {
			d.t.Fatal(err)
		}
		if base == "reachable" {
			say(arp.OpReply)
		}
		if base == "failed" {
			d.n.RunFor(5 * time.Second)
		}
	case "stale":
		say(arp.OpRequest)
	case "permanent":
		if err := d.s.Neighbours().Set(d.nic, f.sip, arpMacs["A"]); err != nil {
			d.t.Fatal(err)
		}
	}
	if base != state {
		d.n.RunFor(1500 * time.Millisecond)
	}
	if got, _, _ := strings.Cut(d.entry(f.sip, nil), " "); got != base {
		d.t.Fatalf("%s: %s, not %s", f.name, got, base)
	}
	return d.entry(f.sip, d.input(frameOf(f)))
}

// entry is what the host knows of an address.
func (d *arpStack) entry(a netip.Addr, answers []string) string {
	state, mac := "none", ether.Addr{}
	for _, n := range d.s.Neighbours().List() {
		if n.Interface == d.nic && n.Addr == a {
			state, mac = n.State.String(), n.MAC
		}
	}
	switch state {
	case "static":
		state = "permanent"
	case "delay":
		state = "stale" // and a packet that waited has gone
	}
	return outcome(state, mac, answers)
}

func TestARPLikeKernel(t *testing.T) {
	t.Parallel()
	lab.RequireNamespace(t)
	l := newLabOf(t, "packet") // no TAP is needed
	k := newARPKernel(t, l)
	frames := arpFrames()
	used := make([]int, len(arpDepartures))
	cases := 0
	l.Do(func() {
		defer onOneCPU(t)()
		for _, s := range arpSettings {
			k.knobs(&s)
			s.c.Locktime = time.Second // Linux's way
			d := newARPStack(t, &s)
			for _, old := range []bool{false, true} {
				k.age(old)
				for n := range frames {
					f := &frames[n]
					for _, state := range statesOf(f, &s) {
						if strings.HasSuffix(state, "+") != old {
							continue
						}
						cases++
						kernel, ours := k.try(f, state), d.try(f, state)
						if kernel == ours {
							continue
						}
						at := slices.IndexFunc(arpDepartures, func(x departure) bool { return x.matches(f.name, state, s.name, kernel, ours) })
						if at < 0 {
							t.Errorf("%s | %s | %s:\n  kernel %s\n  ours   %s", f.name, state, s.name, kernel, ours)
							continue
						}
						used[at]++
					}
				}
			}
		}
	})
	for n, d := range arpDepartures {
		if used[n] == 0 {
			t.Errorf("no difference: %+v", d)
		}
	}
	t.Logf("%d cases", cases)
}

// TestARPVerified: by default a claim of another address is what differs from
// Linux's way, and nothing else is: whoever is known stays, and is asked.
func TestARPVerified(t *testing.T) {
	linux, safe := arpKnobs{c: stack.ARPConfig{Locktime: time.Second}}, arpKnobs{}
	a, b := newARPStack(t, &linux), newARPStack(t, &safe)
	asked := 0
	for _, f := range arpFrames() {
		for _, state := range statesOf(&f, &arpKnobs{all: true}) {
			want, got := a.try(&f, state), b.try(&f, state)
			was := strings.TrimSuffix(state, "+")
			claims := strings.HasPrefix(f.name, "B ") && (was == "reachable" || was == "stale")
			ask := "request to A: 10.88.0.7 at us to 10.88.0.50 at 0"
			if claims && strings.HasPrefix(got, "probe A; "+ask) {
				// The answer to who asked is the same.
				_, want, _ = strings.Cut(want, "; ")
				_, got, _ = strings.Cut(got, "; ")
				_, got, _ = strings.Cut(got, "; ")
				asked++
			}
			if got != want {
				t.Errorf("%s, %s: %s, with locktime 1 s %s", f.name, state, got, want)
			}
			if claims && strings.Contains(got, " B;") {
				t.Errorf("%s, %s: believed: %s", f.name, state, got)
			}
		}
	}
	if asked < 80 {
		t.Errorf("%d claims made a question", asked)
	}
}

// TestARPAnnounceLikeKernel compares the addresses that questions come from.
func TestARPAnnounceLikeKernel(t *testing.T) {
	t.Parallel()
	lab.RequireNamespace(t)
	l := newLabOf(t, "packet") // no TAP is needed
	k := newARPKernel(t, l)
	ip(t, l, "route add 192.0.2.0/24 dev ka")
	for announce := range 3 {
		s := arpKnobs{c: stack.ARPConfig{Announce: announce}}
		l.Do(func() { k.knobs(&s) })
		d := newARPStack(t, &s)
		if err := d.s.AddRoute(stack.Route{Dst: netip.MustParsePrefix("192.0.2.0/24"), Interface: d.nic}); err != nil {
			t.Fatal(err)
		}
		for _, src := range []netip.Addr{arpMe.Addr(), arpMeToo.Addr(), arpSecond.Addr(), arpElse.Addr(), arpLo.Addr()} {
			for _, dst := range []netip.Addr{arpPeer, netip.MustParseAddr("10.89.0.50"), arpFar} {
				var kernel, ours string
				l.Do(func() {
					k.forget(dst)
					c, err := net.DialUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(src, 0)), net.UDPAddrFromAddrPort(netip.AddrPortFrom(dst, 9)))
					if err != nil {
						t.Fatal(err)
					}
					defer c.Close()
					if _, err := c.Write([]byte("x")); err != nil {
						t.Fatal(err)
					}
					kernel = k.question(dst)
					k.forget(dst)
				})
				u, err := d.s.NewUDP(false)
				if err != nil {
					t.Fatal(err)
				}
				defer u.Close()
				if err := u.Bind(netip.AddrPortFrom(src, 0)); err != nil {
					t.Fatal(err)
				}
				_ = d.s.Neighbours().Remove(d.nic, dst)
				d.sent = nil
				if err := u.SendTo([]byte("x"), netip.AddrPortFrom(dst, 9)); err != nil {
					t.Fatal(err)
				}
				for _, f := range d.sent {
					ours = arpAnswer(f)
				}
				if kernel != ours || kernel == "" {
					t.Errorf("arp_announce %d, %v to %v:\n  kernel %s\n  ours   %s", announce, src, dst, kernel, ours)
				}
			}
		}
	}
}

// question waits for the kernel's question about an address.
func (k *arpKernel) question(dst netip.Addr) string {
	b := make([]byte, 2048)
	for {
		n, err := unix.Read(k.fd, b)
		if err != nil {
			k.t.Fatalf("no question about %v: %v", dst, err)
		}
		if a := arpAnswer(b[:n]); strings.HasPrefix(a, "request") && arp.Packet(b[ether.HeaderLen:]).TargetIP() == dst {
			return a
		}
	}
}

// onOneCPU keeps a locked thread on one processor, whose queue of packets is in
// order, until back is called.
func onOneCPU(t *testing.T) (back func()) {
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	for cpu := range 1024 {
		if all.IsSet(cpu) {
			one.Set(cpu)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := unix.SchedSetaffinity(0, &all); err != nil {
			t.Error(err)
		}
	}
}
