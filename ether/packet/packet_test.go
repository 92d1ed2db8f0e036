package packet

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/vishvananda/netlink"
)

func TestMain(m *testing.M) { lab.Main(m) }

var (
	ours     = ether.Addr(lab.HostMAC(0))
	ourIP    = netip.MustParseAddr("10.77.0.7")
	kernelIP = lab.Kernel4.Addr()
)

func inLab(t *testing.T, hosts int) *lab.Lab {
	t.Helper()
	lab.RequireNamespace(t)
	l, err := lab.NewWith(lab.Options{Hosts: hosts, Device: "packet"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func open(t *testing.T, l *lab.Lab, name string) (d *Device, err error) {
	t.Helper()
	l.Do(func() { d, err = Open(name) })
	if err == nil {
		t.Cleanup(func() { d.Close() })
	}
	return d, err
}

func mustOpen(t *testing.T, l *lab.Lab, name string) *Device {
	t.Helper()
	d, err := open(t, l, name)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// build serializes layers with correct lengths and checksums.
func build(t *testing.T, ls ...gopacket.SerializableLayer) *pkt.Buf {
	t.Helper()
	var ip *layers.IPv4
	for _, l := range ls {
		switch l := l.(type) {
		case *layers.IPv4:
			ip = l
		case *layers.TCP:
			if err := l.SetNetworkLayerForChecksum(ip); err != nil {
				t.Fatal(err)
			}
		}
	}
	w := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(w, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
		t.Fatal(err)
	}
	return pkt.From(w.Bytes())
}

func send(t *testing.T, d *Device, b *pkt.Buf) {
	t.Helper()
	if n, err := d.Send(0, []*pkt.Buf{b}); n != 1 || err != nil {
		t.Fatalf("sent %d, %v", n, err)
	}
}

func arp(t *testing.T, op uint16, sender ether.Addr, senderIP netip.Addr, dst ether.Addr, targetIP netip.Addr) *pkt.Buf {
	return build(t,
		&layers.Ethernet{SrcMAC: sender[:], DstMAC: dst[:], EthernetType: layers.EthernetTypeARP},
		&layers.ARP{AddrType: 1, Protocol: 0x800, HwAddressSize: 6, ProtAddressSize: 4, Operation: op,
			SourceHwAddress: sender[:], SourceProtAddress: senderIP.AsSlice(), DstHwAddress: dst[:], DstProtAddress: targetIP.AsSlice()})
}

// receive runs Receive until each returns false.
func receive(t *testing.T, d *Device, each func(b *pkt.Buf, p gopacket.Packet) (more bool)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	more := true
	err := d.Receive(ctx, 0, func(b *pkt.Buf) {
		if more {
			more = each(b, gopacket.NewPacket(append([]byte(nil), b.Bytes()...), layers.LayerTypeEthernet, gopacket.Default))
		}
		if !more {
			cancel()
		}
		b.Put()
	}, func() {})
	if more || !errors.Is(err, context.Canceled) {
		t.Fatalf("Receive: %v", err)
	}
}

func layer[T gopacket.Layer](p gopacket.Packet) (v T, ok bool) {
	for _, l := range p.Layers() {
		if v, ok := l.(T); ok {
			return v, true
		}
	}
	return v, false
}

// Only the kernel's bridge answers, and not once more the interfaces that
// belong to other stacks.
func TestARP(t *testing.T) {
	l := inLab(t, 3)
	d := mustOpen(t, l, "eth8")
	mustOpen(t, l, "eth7")
	if c := d.Caps(); c.MTU != 1500 || c.Queues != 1 || c.GSOMax < 1<<15 || !c.USO || !c.TxCsum || !c.Gather || !c.RxCsum {
		t.Errorf("caps %+v", c)
	}
	if d.Addr() != ether.Addr(lab.HostMAC(1)) {
		t.Errorf("address %v", d.Addr())
	}
	// A station behind the device may have another address than its own.
	other := ether.Addr{2, 0, 0, 0, 1, 8}
	for range 3 {
		send(t, d, arp(t, 1, other, netip.MustParseAddr("10.77.0.8"), ether.Broadcast, kernelIP))
	}
	replies := 0
	receive(t, d, func(b *pkt.Buf, p gopacket.Packet) bool {
		if a, ok := layer[*layers.ARP](p); ok && a.Operation == 2 {
			replies++
			if got := net.HardwareAddr(a.SourceHwAddress).String(); got != lab.KernelMAC {
				t.Errorf("answer from %s", got)
			}
		}
		return replies < 3
	})
	if s := d.Stats(); s.TxFrames != 3 || s.RxFrames < 3 || s.RxOverrun != 0 {
		t.Errorf("%+v", s)
	}
}

// What the kernel sends over a veth pair has unfinished checksums and comes in
// super-frames, and both are marked.
func TestMetadata(t *testing.T) {
	l := inLab(t, 1)
	d := mustOpen(t, l, "eth7")
	kernel, err := net.ParseMAC(lab.KernelMAC)
	if err != nil {
		t.Fatal(err)
	}
	send(t, d, arp(t, 1, ours, ourIP, ether.Broadcast, kernelIP))

	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	wrote := make(chan error, 1)
	go func() {
		c, err := l.DialKernel(ctx, "tcp4", "10.77.0.7:9")
		if err == nil {
			_, err = c.Write(make([]byte, 14000))
			defer c.Close()
		}
		wrote <- err
	}()
	receive(t, d, func(b *pkt.Buf, p gopacket.Packet) bool {
		seg, ok := layer[*layers.TCP](p)
		if !ok {
			return true
		}
		if b.Csum != pkt.CsumPartial || b.GSO.CsumStart != 20 || b.GSO.CsumOffset != 16 {
			t.Errorf("checksum %v at %d+%d", b.Csum, b.GSO.CsumStart, b.GSO.CsumOffset)
		}
		if seg.SYN {
			send(t, d, build(t,
				&layers.Ethernet{SrcMAC: ours[:], DstMAC: kernel, EthernetType: layers.EthernetTypeIPv4},
				&layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: ourIP.AsSlice(), DstIP: kernelIP.AsSlice()},
				&layers.TCP{SrcPort: seg.DstPort, DstPort: seg.SrcPort, Seq: 1, Ack: seg.Seq + 1, SYN: true, ACK: true, Window: 60000,
					Options: []layers.TCPOption{{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{1000 >> 8, 1000 & 255}}}}))
		}
		if n := len(seg.Payload); n > 1000 {
			if b.GSO.Type != pkt.GSOTCPv4 || b.GSO.SegSize != 1000 {
				t.Errorf("super-frame of %d bytes: %+v", n, b.GSO)
			}
			return false
		}
		return true
	})
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
}

// The kernel takes VLAN tags out of frames; we put them back.
func TestVLAN(t *testing.T) {
	l := inLab(t, 2)
	d, sender := mustOpen(t, l, "eth7"), mustOpen(t, l, "eth8")
	src := lab.HostMAC(1)
	f := build(t,
		&layers.Ethernet{SrcMAC: src, DstMAC: ours[:], EthernetType: layers.EthernetTypeDot1Q},
		&layers.Dot1Q{Priority: 3, VLANIdentifier: 5, Type: 0x88b5},
		gopacket.Payload(strings.Repeat("v", 50)))
	want := string(f.Bytes())
	// Enough of them to use up the headroom of a buffer that is never renewed.
	left := 2 * pkt.Headroom / ether.TagLen
	for range left - 1 {
		send(t, sender, f.Clone())
	}
	send(t, sender, f)
	receive(t, d, func(b *pkt.Buf, p gopacket.Packet) bool {
		if e, _ := layer[*layers.Ethernet](p); e.SrcMAC.String() != src.String() {
			return true
		}
		if got := string(b.Bytes()); got != want {
			t.Errorf("got  % x\nwant % x", got, want)
		}
		left--
		return left > 0
	})
}

func TestErrors(t *testing.T) {
	l := inLab(t, 1)
	for name, want := range map[string]string{"none": "there is no interface none", "lo": "lo is not an Ethernet interface"} {
		if _, err := open(t, l, name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDownAndDeleted(t *testing.T) {
	l := inLab(t, 1)
	d := mustOpen(t, l, "eth7")
	var eth netlink.Link
	l.Do(func() {
		var err error
		if eth, err = netlink.LinkByName("eth7"); err == nil {
			err = netlink.LinkSetDown(eth)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	if n, err := d.Send(0, []*pkt.Buf{pkt.From(make([]byte, 60))}); n != 0 || err == nil {
		t.Errorf("sent %d over an interface that is down, %v", n, err)
	}
	l.Do(func() {
		if err := netlink.LinkSetUp(eth); err != nil {
			t.Fatal(err)
		}
	})
	// The bridge takes its time to use the port again.
	answered, asked := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(asked)
		for {
			d.Send(0, []*pkt.Buf{arp(t, 1, ours, ourIP, ether.Broadcast, kernelIP)})
			select {
			case <-answered:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	receive(t, d, func(b *pkt.Buf, p gopacket.Packet) bool {
		a, ok := layer[*layers.ARP](p)
		return !ok || a.Operation != 2
	})
	close(answered)
	<-asked
	done := make(chan error)
	go func() { done <- d.Receive(context.Background(), 0, (*pkt.Buf).Put, func() {}) }()
	l.Do(func() {
		if err := netlink.LinkDel(eth); err != nil {
			t.Fatal(err)
		}
	})
	if err := <-done; err == nil || !strings.Contains(err.Error(), "deleted") {
		t.Errorf("deleted: %v", err)
	}
}

func TestEnd(t *testing.T) {
	d := mustOpen(t, inLab(t, 1), "eth7")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	if err := d.Receive(ctx, 0, (*pkt.Buf).Put, func() {}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("deadline: %v", err)
	}
	done := make(chan error)
	go func() { done <- d.Receive(context.Background(), 0, (*pkt.Buf).Put, func() {}) }()
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if err := d.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
	if n, err := d.Send(0, []*pkt.Buf{pkt.From(make([]byte, 60))}); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("Send after Close: %d, %v", n, err)
	}
	if n := pkt.Live(); n != 0 {
		t.Errorf("%d buffers leaked", n)
	}
}

// TestDeletedBehindFrames: frames that wait since before do not hide that the
// interface is gone.
func TestDeletedBehindFrames(t *testing.T) {
	l := inLab(t, 2)
	d, other := mustOpen(t, l, "eth7"), mustOpen(t, l, "eth8")
	for range 5 {
		send(t, other, arp(t, 1, ether.Addr(lab.HostMAC(1)), netip.MustParseAddr("10.77.0.8"), ether.Broadcast, kernelIP))
	}
	l.Do(func() {
		eth, err := netlink.LinkByName("eth7")
		if err == nil {
			err = netlink.LinkDel(eth)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	frames := 0
	err := d.Receive(context.Background(), 0, func(b *pkt.Buf) { frames++; b.Put() }, func() {})
	if frames == 0 || err == nil || !strings.Contains(err.Error(), "deleted") {
		t.Errorf("%d frames, then %v", frames, err)
	}
}
