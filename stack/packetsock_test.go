package stack_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// newPacket makes a packet socket that ends with the test.
func newPacket(t testing.TB, s *stack.Stack, cooked bool, proto ether.Type) *stack.PacketSocket {
	t.Helper()
	p, err := s.NewPacket(cooked, uint16(proto))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// sighting is a frame as a test saw it.
type sighting struct {
	data []byte
	info stack.FrameInfo
}

// seen takes all frames that wait.
func seen(t testing.TB, p *stack.PacketSocket) (list []sighting) {
	t.Helper()
	for {
		b := make([]byte, 70000)
		n, size, info, err := p.Recv(b, false)
		if err == syscall.EAGAIN {
			return list
		}
		if err != nil || n != size {
			t.Fatalf("receive %d of %d: %v", n, size, err)
		}
		list = append(list, sighting{b[:n], info})
	}
}

// kinds lists what was seen, one letter for each frame.
func kinds(list []sighting) (s string) {
	for _, x := range list {
		s += string("HBMOo"[x.info.Kind])
	}
	return s
}

// frameTo is a frame of an unknown type from the peer.
func frameTo(dst ether.Addr, typ ether.Type, n int) []byte {
	f := eth(dst, typ, pattern(n))
	return f
}

func TestPacketKinds(t *testing.T) {
	_, s, i, d := newInjected(t, stack.Config{}, stack.InterfaceConfig{NoDAD: true})
	group, other := ether.Addr{1, 0, 0x5e, 0, 0, 9}, ether.Addr{2, 9, 9, 9, 9, 9}
	all, cooked, arps := newPacket(t, s, false, stack.EtherAll), newPacket(t, s, true, stack.EtherAll), newPacket(t, s, false, ether.TypeARP)
	frames := [][]byte{
		frameTo(hostMAC, 0x88b5, 50), frameTo(ether.Broadcast, 0x88b5, 50), frameTo(group, 0x88b5, 50), frameTo(other, 0x88b5, 50),
		frameTo(ether.Addr{1, 0, 0x5e, 0, 0, 1}, 0x88b5, 50), frameTo(hostMAC, 46, 46), arpRequest(hostIP4),
	}
	d.take()
	inject := func() {
		for _, f := range frames {
			d.inject(f)
		}
	}
	inject()
	got := seen(t, all)
	if k := kinds(got); k != "HBMHBo" {
		t.Fatalf("saw %s", k)
	}
	for n, want := range [][]byte{frames[0], frames[1], frames[4], frames[5], frames[6]} {
		if x := got[n]; !bytes.Equal(x.data, want) || x.info.Interface != i || x.info.From != peerMAC || x.info.Size != len(want) {
			t.Errorf("frame %d: % x, %+v", n, x.data, x.info)
		}
	}
	if typ := got[3].info.Type; typ != stack.Ether802_2 {
		t.Errorf("a length in place of the type is %#x", typ)
	}
	if reply := d.take(); len(reply) != 1 || !bytes.Equal(reply[0], got[5].data) {
		t.Errorf("sent %d frames, not what was seen", len(reply))
	}
	for n, x := range seen(t, cooked) {
		if !bytes.Equal(x.data, got[n].data[ether.HeaderLen:]) || x.info.From != got[n].info.From || x.info.Kind != got[n].info.Kind {
			t.Errorf("cooked %d: % x, %+v", n, x.data, x.info)
		}
	}
	if k := kinds(seen(t, arps)); k != "B" {
		t.Errorf("bound to ARP it saw %s", k)
	}

	// What each membership adds, and that it goes with the socket that asked.
	for _, c := range []struct {
		kind stack.PacketMembership
		addr ether.Addr
		want string
	}{
		{stack.MemberPromisc, ether.Addr{}, "HBMOMHBo"}, {stack.MemberAllMulticast, ether.Addr{}, "HBMMHBo"},
		{stack.MemberMulticast, group, "HBMMHBo"}, {stack.MemberUnicast, other, "HBOMHBo"},
		{stack.MemberMulticast, ether.Addr{1, 2, 3}, "HBMHBo"}, {9, ether.Addr{}, "HBMHBo"},
	} {
		asks, err := s.NewPacket(false, 0)
		if err == nil {
			err = asks.AddMembership(i, c.kind, c.addr)
		}
		if err != nil {
			t.Fatal(err)
		}
		inject()
		if k := kinds(seen(t, all)); k != c.want {
			t.Errorf("membership %d: saw %s, want %s", c.kind, k, c.want)
		}
		if c.kind == stack.MemberPromisc {
			asks.DropMembership(i, c.kind, ether.Addr{1}) // another one
			asks.DropMembership(i, c.kind, c.addr)
			inject()
			if k := kinds(seen(t, all)); k != "HBMHBo" {
				t.Errorf("dropped: saw %s", k)
			}
			asks.AddMembership(i, c.kind, c.addr)
		}
		asks.Close()
		inject()
		if k := kinds(seen(t, all)); k != "HBMHBo" {
			t.Errorf("closed: saw %s", k)
		}
	}
	seen(t, cooked)
	seen(t, arps)
	d.take()

	all.SetIgnoreOutgoing(true)
	inject()
	if k := kinds(seen(t, all)); k != "HBMHB" || !all.IgnoreOutgoing() {
		t.Errorf("without those that leave: saw %s", k)
	}
	// Bound to the loopback it sees nothing of this, and 0 keeps the type.
	if err := all.Bind(s.Interfaces()[0], 0); err != nil {
		t.Fatal(err)
	}
	if on, proto := all.Bound(); on != s.Interfaces()[0] || ether.Type(proto) != stack.EtherAll {
		t.Errorf("bound to %v, %#x", on, proto)
	}
	inject()
	if k := kinds(seen(t, all)); k != "" {
		t.Errorf("on the loopback: saw %s", k)
	}
}

// TestPacketWatchesConnection has packet sockets on both hosts of a connection:
// what leaves one arrives at the other, in the same order and as it is.
func TestPacketWatchesConnection(t *testing.T) {
	p := newPair4(t, wire.Options{})
	p.net.RunFor(time.Second) // what they begin with
	a, b := newPacket(t, p.a, false, stack.EtherAll), newPacket(t, p.b, false, stack.EtherAll)
	a.AddMembership(p.ia, stack.MemberPromisc, ether.Addr{}) // reports go to groups that nobody joins
	b.AddMembership(p.ib, stack.MemberPromisc, ether.Addr{})
	l, err := p.b.BindTCP(addrPort("10.77.0.2:7"), true, false)
	if err != nil {
		t.Fatal(err)
	}
	l.Listen(1)
	serveEcho(t, l)
	c, err := p.a.DialTCP(netip.AddrPort{}, addrPort("10.77.0.2:7"))
	if err != nil {
		t.Fatal(err)
	}
	done := false
	onReady(c.Waiters(), stack.ReadyIn|stack.ReadyOut, func() {
		if !done && c.State() == tcp.Established {
			done = true
			c.Write([]byte("hello"))
			c.CloseWrite()
		}
	})
	p.net.RunFor(time.Second)
	sa, sb := seen(t, a), seen(t, b)
	out := func(list []sighting, kind bool) (frames [][]byte) {
		for _, x := range list {
			if (x.info.Kind == stack.FrameOutgoing) == kind {
				frames = append(frames, x.data)
			}
		}
		return frames
	}
	for _, c := range []struct {
		name     string
		from, to []sighting
	}{{"from a", sa, sb}, {"from b", sb, sa}} {
		left, came := out(c.from, true), out(c.to, false)
		if len(left) < 5 || !slices.EqualFunc(left, came, bytes.Equal) {
			t.Errorf("%s: %d frames left and %d came", c.name, len(left), len(came))
		}
	}
	for n := 1; n < len(sa); n++ {
		if sa[n].info.Time.Before(sa[n-1].info.Time) {
			t.Errorf("frame %d is older than the one before", n)
		}
	}
	c.Close()
	p.net.RunFor(time.Minute)
}

// TestPacketSuperFrames: a device that segments is shown to send super-frames,
// a plain one what they are cut into.
func TestPacketSuperFrames(t *testing.T) {
	for _, gso := range []bool{false, true} {
		t.Run(fmt.Sprint(gso), func(t *testing.T) {
			p := newPair4(t, wire.Options{GSO: gso})
			w := newPacket(t, p.a, false, stack.EtherAll)
			count := 0
			w.SetFilter(func(b []byte) int { count += len(b); return len(b) })
			u, err := p.a.NewUDP(false)
			if err == nil {
				err = u.SetSegmentSize(1000)
			}
			if err == nil {
				err = u.SendTo(pattern(5000), addrPort("10.77.0.2:9"))
			}
			if err != nil {
				t.Fatal(err)
			}
			p.net.RunFor(time.Second)
			u.Close()
			var sizes []int
			total := 0
			for _, x := range seen(t, w) {
				total += len(x.data)
				if x.info.Kind == stack.FrameOutgoing && x.info.Type == ether.TypeIPv4 {
					sizes = append(sizes, len(x.data))
					if gso != (x.info.Segment == 1000) || gso != x.info.Partial {
						t.Errorf("%+v", x.info)
					}
				}
			}
			want := []int{1042, 1042, 1042, 1042, 1042}
			if gso {
				want = []int{5042}
			}
			if !slices.Equal(sizes, want) || total != count {
				t.Errorf("frames of %v, want %v; the filter saw %d bytes of %d", sizes, want, count, total)
			}
		})
	}
}

// TestPacketBounds: what waits is bounded, what is lost is counted, and several
// sockets share one copy.
func TestPacketBounds(t *testing.T) {
	_, s, _, d := newInjected(t, stack.Config{}, stack.InterfaceConfig{NoDAD: true})
	p, q := newPacket(t, s, false, 0x88b5), newPacket(t, s, true, 0x88b5)
	p.SetReceiveBuffer(10)
	if n := p.ReceiveBuffer(); n != 1152 {
		t.Errorf("buffer of %d", n)
	}
	f := frameTo(hostMAC, 0x88b5, 400)
	used, _ := s.Memory()
	for range 5 {
		d.inject(f)
	}
	// 670 bytes each: a frame is taken as long as the limit is not reached.
	if st := p.Statistics(); st != (stack.PacketStatistics{Packets: 5, Drops: 3}) {
		t.Errorf("%+v", st)
	}
	if st := p.Statistics(); st != (stack.PacketStatistics{}) {
		t.Errorf("read again: %+v", st)
	}
	if n := s.Counters()["packet.drop.receive-queue-full"]; n != 3 {
		t.Errorf("%d drops counted", n)
	}
	now, _ := s.Memory()
	if n := now - used; n != 5*2208 {
		t.Errorf("%d bytes for 5 frames that two sockets share", n)
	}
	small := make([]byte, 20)
	n, size, _, err := p.Recv(small, true)
	m, size2, _, _ := p.Recv(small, false)
	if n != 20 || m != 20 || size != 414 || size2 != 414 || err != nil || !bytes.Equal(small, f[:20]) {
		t.Errorf("peek %d of %d, read %d of %d: %v", n, size, m, size2, err)
	}
	if len(seen(t, p)) != 1 || len(seen(t, q)) != 5 {
		t.Error("wrong number of frames")
	}
	// A filter that shortens: two sockets, two lengths, cooked and raw.
	p.SetFilter(func(b []byte) int { return 20 })
	q.SetFilter(func(b []byte) int { return int(b[0]) + 30 })
	d.inject(f)
	x, y := seen(t, p), seen(t, q)
	if len(x) != 1 || !bytes.Equal(x[0].data, f[:20]) || x[0].info.Size != 414 {
		t.Errorf("shortened: %v", x)
	}
	if len(y) != 1 || !bytes.Equal(y[0].data, f[14:44+int(f[14])]) || y[0].info.Size != 400 {
		t.Errorf("shortened: %v", y)
	}
	p.SetFilter(func([]byte) int { return 0 })
	d.inject(f)
	if st := p.Statistics(); len(seen(t, p)) != 0 || st.Packets != 1 {
		t.Errorf("refused and counted: %+v", st)
	}
	q.Close()
	if _, _, _, err := q.Recv(small, false); err != syscall.EBADF || q.Ready()&stack.ReadyHup == 0 {
		t.Errorf("closed: %v", err)
	}
}

func TestPacketSend(t *testing.T) {
	_, s, i, d := newInjected(t, stack.Config{}, stack.InterfaceConfig{NoDAD: true})
	raw, cooked, watch := newPacket(t, s, false, stack.EtherAll), newPacket(t, s, true, stack.EtherAll), newPacket(t, s, false, stack.EtherAll)
	to := [6]byte(peerMAC)
	d.take()
	vlan := slices.Concat(peerMAC[:], hostMAC[:], []byte{0x81, 0}, make([]byte, 1504))
	for _, c := range []struct {
		name string
		err  error
		want error
	}{
		{"unbound", raw.Send(make([]byte, 60), nil, 0, nil), syscall.ENXIO},
		{"nothing", raw.Send(nil, i, 0, nil), syscall.EINVAL},
		{"13 bytes", raw.Send(make([]byte, 13), i, 0, nil), syscall.EINVAL},
		{"a header", raw.Send(make([]byte, 14), i, 0, nil), nil},
		{"the most", raw.Send(make([]byte, 1514), i, 0, nil), nil},
		{"more", raw.Send(make([]byte, 1515), i, 0, nil), syscall.EMSGSIZE},
		{"the most with a tag", raw.Send(vlan, i, 0, nil), nil},
		{"more with a tag", raw.Send(append(vlan, 0), i, 0, nil), syscall.EMSGSIZE},
		{"cooked without address", cooked.Send(make([]byte, 10), i, 0x88b5, nil), syscall.EINVAL},
		{"cooked", cooked.Send([]byte("hello"), i, 0x88b5, &to), nil},
		{"cooked length", cooked.Send([]byte("hello"), i, uint16(stack.Ether802_2), &to), nil},
		{"cooked, the most", cooked.Send(make([]byte, 1500), i, 0x88b5, &to), nil},
		{"cooked, more", cooked.Send(make([]byte, 1501), i, 0x88b5, &to), syscall.EMSGSIZE},
	} {
		if c.err != c.want {
			t.Errorf("%s: %v, want %v", c.name, c.err, c.want)
		}
	}
	sent := d.take()
	if len(sent) != 6 || !bytes.Equal(sent[3], eth2(peerMAC, hostMAC, 0x88b5, "hello")) || !bytes.Equal(sent[4], eth2(peerMAC, hostMAC, 5, "hello")) {
		t.Errorf("%d frames, not what was asked for", len(sent))
	}
	// Everybody sees them but who sent them.
	if k := kinds(seen(t, watch)); k != "oooooo" {
		t.Errorf("the others saw %s", k)
	}
	if a, b := kinds(seen(t, raw)), kinds(seen(t, cooked)); a != "ooo" || b != "ooo" {
		t.Errorf("the senders saw %s and %s", a, b)
	}
}

func eth2(dst, src ether.Addr, typ ether.Type, payload string) []byte {
	b := make([]byte, ether.HeaderLen)
	ether.Put(b, dst, src, typ)
	return append(b, payload...)
}

// TestPacketLoopback: what the host sends to itself is seen twice, with a header
// of zeros, and a packet that is sent there arrives.
func TestPacketLoopback(t *testing.T) {
	n, s, _, _ := newInjected(t, stack.Config{}, stack.InterfaceConfig{NoDAD: true})
	lo := s.Interfaces()[0]
	p, q := newPacket(t, s, false, stack.EtherAll), newPacket(t, s, true, stack.EtherAll)
	p.Bind(lo, 0)
	q.Bind(lo, 0)
	u, err := s.NewUDP(false)
	if err == nil {
		err = u.Bind(addrPort("127.0.0.1:9"))
	}
	if err == nil {
		err = u.SendTo([]byte("hi"), addrPort("127.0.0.1:9"))
	}
	if err != nil {
		t.Fatal(err)
	}
	woken := 0
	p.Waiters().Add(&stack.Waiter{Want: stack.ReadyIn, F: func(stack.Ready) { woken++ }})
	n.RunFor(time.Second)
	got := seen(t, p)
	if kinds(got) != "oH" || !bytes.Equal(got[0].data, got[1].data) || !bytes.Equal(got[0].data[:14], append(make([]byte, 12), 8, 0)) || woken == 0 {
		t.Fatalf("%s, woken %d times: %v", kinds(got), woken, got)
	}
	var b [9]byte
	if m, _, _, err := u.RecvFrom(b[:]); string(b[:m]) != "hi" || err != nil {
		t.Errorf("%q, %v", b[:m], err)
	}
	// Again, from a packet socket.
	seen(t, q)
	if err := p.Send(got[0].data, nil, 0, nil); err != nil {
		t.Fatal(err)
	}
	if err := p.Send(frameTo(hostMAC, 0x88b5, 30), nil, 0, nil); err != nil {
		t.Fatal(err)
	}
	if err := p.Send(make([]byte, 14), nil, 0, nil); err != nil {
		t.Fatal(err)
	}
	n.RunFor(time.Second)
	if m, _, _, err := u.RecvFrom(b[:]); string(b[:m]) != "hi" || err != nil {
		t.Errorf("%q, %v", b[:m], err)
	}
	if x, y := kinds(seen(t, p)), kinds(seen(t, q)); x != "H" || y != "oH" {
		t.Errorf("the sender saw %s, another %s", x, y)
	}
	if n := s.Counters()["loop.drop.unknown-type"]; n != 2 {
		t.Errorf("%d frames of no use counted", n)
	}
	u.Close()
}

// TestPacketLinkDown: the failure of a device is told once, to those on it.
func TestPacketLinkDown(t *testing.T) {
	s := stack.New(stack.Config{})
	defer s.Close()
	dead := &failing{injector{mtu: 1500}, make(chan error)}
	i, err := s.AddInterface(stack.InterfaceConfig{Name: "eth0", Device: dead, MAC: hostMAC, DisableIPv6: true})
	if err != nil {
		t.Fatal(err)
	}
	on, all := newPacket(t, s, false, stack.EtherAll), newPacket(t, s, false, stack.EtherAll)
	on.Bind(i, 0)
	told := make(chan struct{}, 9)
	on.Waiters().Add(&stack.Waiter{F: func(stack.Ready) { told <- struct{}{} }})
	dead.fail <- syscall.EIO
	<-told
	if err := on.TakeError(); err != syscall.ENETDOWN {
		t.Errorf("pending: %v", err)
	}
	if _, _, _, err := on.Recv(nil, false); err != syscall.EAGAIN {
		t.Errorf("then: %v", err)
	}
	if err := all.TakeError(); err != nil {
		t.Errorf("on all interfaces: %v", err)
	}
	if err := on.Send(make([]byte, 60), nil, 0, nil); err != syscall.ENETDOWN {
		t.Errorf("send: %v", err)
	}
	all.Bind(i, 0)
	if _, _, _, err := all.Recv(nil, false); err != syscall.ENETDOWN {
		t.Errorf("bound to it since: %v", err)
	}
}
