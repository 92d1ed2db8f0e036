package pcap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/internal/pkt"
)

var (
	macA = ether.Addr{2, 0, 0, 0, 0, 1}
	macB = ether.Addr{2, 0, 0, 0, 0, 7}
)

func frame(src, dst ether.Addr, payload string) *pkt.Buf {
	b := pkt.Get(ether.HeaderLen + len(payload))
	ether.Put(b.Append(ether.HeaderLen), dst, src, 0x88b5)
	copy(b.Append(len(payload)), payload)
	return b
}

type record struct {
	at   time.Time
	data string
}

func read(t *testing.T, b []byte) (name string, rs []record) {
	t.Helper()
	ng, err := pcapgo.NewNgReader(bytes.NewReader(b), pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	if ng.LinkType() != layers.LinkTypeEthernet {
		t.Errorf("link type %v", ng.LinkType())
	}
	for {
		data, ci, err := ng.ReadPacketData()
		if err != nil {
			break
		}
		if ci.Length != len(data) {
			t.Errorf("length %d of %d", len(data), ci.Length)
		}
		rs = append(rs, record{ci.Timestamp.UTC(), string(data)})
	}
	i, err := ng.Interface(0)
	if err != nil {
		t.Fatal(err)
	}
	return i.Name, rs
}

// Both directions are in the file, in order, to the byte and to the nanosecond.
func TestRoundTrip(t *testing.T) {
	s := wire.New(nil, wire.Options{Pull: true})
	defer s.Close()
	var file bytes.Buffer
	peer := s.Attach("peer", macA)
	tee, err := New(s.Attach("b", macB), &file, "tap7")
	if err != nil {
		t.Fatal(err)
	}
	if tee.Addr() != macB || tee.Caps().MTU != 1500 {
		t.Errorf("%v %+v", tee.Addr(), tee.Caps())
	}
	start := time.Date(2024, 2, 29, 12, 0, 0, 123456789, time.UTC)
	ticks := 0
	tee.SetNow(func() time.Time { ticks++; return start.Add(time.Duration(ticks-1) * time.Second) })

	if n, err := tee.Send(0, []*pkt.Buf{frame(macB, macA, "one"), frame(macB, macA, "three!")}); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	if _, err := peer.Send(0, []*pkt.Buf{frame(macA, macB, strings.Repeat("x", 1500))}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = tee.Receive(ctx, 0, func(b *pkt.Buf) { b.Put() }, cancel)
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	// Idle has flushed; nothing has been closed yet.
	name, got := read(t, file.Bytes())
	want := []record{
		{start, string(macA[:]) + string(macB[:]) + "\x88\xb5one"},
		{start.Add(time.Second), string(macA[:]) + string(macB[:]) + "\x88\xb5three!"},
		{start.Add(2 * time.Second), string(macB[:]) + string(macA[:]) + "\x88\xb5" + strings.Repeat("x", 1500)},
	}
	if name != "tap7" || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s\ngot  %v\nwant %v", name, got, want)
	}
	if st := tee.Stats(); st.Written != 3 || st.Lost != 0 {
		t.Errorf("%+v", st)
	}
	tee.Send(0, []*pkt.Buf{frame(macB, macA, "last")})
	if err := tee.Close(); err != nil {
		t.Error(err)
	}
	if _, got := read(t, file.Bytes()); len(got) != 4 {
		t.Errorf("%d frames after Close", len(got))
	}
	if err := tee.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
	if n, err := tee.Send(0, []*pkt.Buf{frame(macB, macA, "late")}); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("Send after Close: %d, %v", n, err)
	}
}

// plain hides that a port is a Pusher.
type plain struct{ ether.Device }

func TestPusher(t *testing.T) {
	s := wire.New(nil, wire.Options{})
	defer s.Close()
	a, b := s.Attach("a", macA), s.Attach("b", macB)
	var file bytes.Buffer
	tee, err := New(b, &file, "b")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 1)
	idle := make(chan bool, 1)
	if !tee.Attach(func(b *pkt.Buf) { got <- string(b.Bytes()[14:]); b.Put() }, func() { idle <- true }) {
		t.Fatal("Attach refused")
	}
	if _, err := a.Send(0, []*pkt.Buf{frame(macA, macB, "pushed")}); err != nil {
		t.Fatal(err)
	}
	if s := <-got; s != "pushed" {
		t.Errorf("%q", s)
	}
	<-idle
	tee.Attach(nil, nil)
	if err := tee.Close(); err != nil {
		t.Error(err)
	}
	if _, rs := read(t, file.Bytes()); len(rs) != 1 {
		t.Errorf("%d frames", len(rs))
	}
	other, err := New(plain{a}, &file, "a")
	if err != nil {
		t.Fatal(err)
	}
	if other.Attach(func(*pkt.Buf) {}, func() {}) {
		t.Error("Attach succeeds on a device that is no Pusher")
	}
}

// full is a disk with room for n bytes.
type full struct{ n int }

var errFull = errors.New("disk full")

func (f *full) Write(p []byte) (int, error) {
	if f.n -= len(p); f.n < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestWriteErrorSparesTheTraffic(t *testing.T) {
	s := wire.New(nil, wire.Options{Pull: true})
	defer s.Close()
	peer := s.Attach("peer", macA)
	tee, err := New(s.Attach("b", macB), &full{200}, "b")
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if n, err := tee.Send(0, []*pkt.Buf{frame(macB, macA, strings.Repeat("x", 100))}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		tee.Flush()
	}
	if n := peer.Stats(); n.QueueDrops != 0 {
		t.Errorf("%+v", n)
	}
	if st := tee.Stats(); st.Lost == 0 || st.Written+st.Lost != 10 {
		t.Errorf("%+v", st)
	}
	if err := tee.Close(); !errors.Is(err, errFull) {
		t.Errorf("Close: %v", err)
	}
	if _, err := New(s.Attach("c", macB), &full{10}, "c"); !errors.Is(err, errFull) {
		t.Errorf("New on a full disk: %v", err)
	}
}

func TestConcurrent(t *testing.T) {
	s := wire.New(nil, wire.Options{Pull: true})
	defer s.Close()
	var file bytes.Buffer
	tee, err := New(s.Attach("b", macB), &file, "b")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 100 {
				tee.Send(0, []*pkt.Buf{frame(macB, macA, strings.Repeat(string(rune('a'+i)), 50*i+1))})
				tee.Flush()
			}
		})
	}
	wg.Wait()
	tee.Close()
	if _, rs := read(t, file.Bytes()); len(rs) != 400 {
		t.Errorf("%d frames", len(rs))
	}
}

func serialize(t *testing.T, ls ...gopacket.SerializableLayer) []byte {
	t.Helper()
	w := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(w, gopacket.SerializeOptions{FixLengths: true}, ls...); err != nil {
		t.Fatal(err)
	}
	return w.Bytes()
}

func TestPrint(t *testing.T) {
	eth := func(ty layers.EthernetType) *layers.Ethernet {
		return &layers.Ethernet{SrcMAC: macA[:], DstMAC: macB[:], EthernetType: ty}
	}
	v4 := func(p layers.IPProtocol) *layers.IPv4 {
		return &layers.IPv4{Version: 4, TTL: 64, Protocol: p, SrcIP: net.IP{10, 77, 0, 1}, DstIP: net.IP{10, 77, 0, 7}}
	}
	v6 := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: net.ParseIP("fd77::1"), DstIP: net.ParseIP("fd77::7")}
	who := func(op uint16, sender, target []byte) *layers.ARP {
		return &layers.ARP{AddrType: 1, Protocol: 0x800, HwAddressSize: 6, ProtAddressSize: 4, Operation: op,
			SourceHwAddress: macA[:], SourceProtAddress: sender, DstHwAddress: make([]byte, 6), DstProtAddress: target}
	}
	one, seven := []byte{10, 77, 0, 1}, []byte{10, 77, 0, 7}
	frag := v4(layers.IPProtocolUDP)
	frag.Id, frag.FragOffset, frag.Flags = 0x1234, 185, layers.IPv4MoreFragments
	frames := []struct {
		data []byte
		want string
	}{
		{serialize(t, eth(layers.EthernetTypeARP), who(1, one, seven)), "ARP    who has 10.77.0.7? tell 10.77.0.1"},
		{serialize(t, eth(layers.EthernetTypeARP), who(1, []byte{0, 0, 0, 0}, seven)), "ARP    is 10.77.0.7 in use?"},
		{serialize(t, eth(layers.EthernetTypeARP), who(1, one, one)), "ARP    10.77.0.1 announces itself"},
		{serialize(t, eth(layers.EthernetTypeARP), who(2, one, seven)), "ARP    10.77.0.1 is at 02:00:00:00:00:01"},
		{serialize(t, eth(layers.EthernetTypeIPv4), v4(layers.IPProtocolICMPv4),
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 5, Seq: 2}, gopacket.Payload("abcd")),
			"10.77.0.1 > 10.77.0.7                        ICMP   EchoRequest id 5 seq 2, length 4"},
		{serialize(t, eth(layers.EthernetTypeIPv4), v4(layers.IPProtocolUDP), &layers.UDP{SrcPort: 4000, DstPort: 4007}, gopacket.Payload("abc")),
			"10.77.0.1.4000 > 10.77.0.7.4007              UDP    length 3"},
		{serialize(t, eth(layers.EthernetTypeIPv4), v4(layers.IPProtocolTCP),
			&layers.TCP{SrcPort: 4000, DstPort: 7, Seq: 100, SYN: true, Window: 64240, Options: []layers.TCPOption{
				{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{5, 180}},
				{OptionType: layers.TCPOptionKindSACKPermitted, OptionLength: 2},
				{OptionType: layers.TCPOptionKindWindowScale, OptionLength: 3, OptionData: []byte{7}},
			}}),
			"TCP    [S] seq 100 win 64240 <mss 1460,sackOK,wscale 7> length 0"},
		{serialize(t, eth(layers.EthernetTypeIPv4), v4(layers.IPProtocolTCP),
			&layers.TCP{SrcPort: 4000, DstPort: 7, Seq: 101, Ack: 9, ACK: true, PSH: true, Window: 502}, gopacket.Payload("hello")),
			"TCP    [P.] seq 101:106 ack 9 win 502 length 5"},
		{serialize(t, eth(layers.EthernetTypeIPv4), frag, gopacket.Payload("12345678")), "IPv4   fragment 1480 of id 0x1234, length 8+"},
		{serialize(t, eth(layers.EthernetTypeIPv6), v6, &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(135, 0)},
			&layers.ICMPv6NeighborSolicitation{TargetAddress: net.ParseIP("fd77::7")}),
			"fd77::1 > fd77::7                            ICMPv6 who has fd77::7"},
		{serialize(t, eth(layers.EthernetTypeIPv6), v6, &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(136, 0)},
			&layers.ICMPv6NeighborAdvertisement{TargetAddress: net.ParseIP("fd77::7"), Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: macB[:]}}}),
			"ICMPv6 fd77::7 is at 02:00:00:00:00:07"},
		{serialize(t, eth(0x88b5), gopacket.Payload("abc")), "02:00:00:00:00:01 > 02:00:00:00:00:07        Ether  type 0x88b5, length 60"},
		{serialize(t, eth(layers.EthernetTypeIPv4), gopacket.Payload("\x45")), "malformed: "},
		{[]byte{1}, "malformed: "},
	}
	var file bytes.Buffer
	ng, err := pcapgo.NewNgWriter(&file, layers.LinkTypeEthernet)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range frames {
		ci := gopacket.CaptureInfo{Timestamp: time.Unix(1e9, int64(i)*1234000), CaptureLength: len(f.data), Length: len(f.data)}
		if err := ng.WritePacket(ci, f.data); err != nil {
			t.Fatal(err)
		}
	}
	ng.Flush()
	var all, some bytes.Buffer
	if err := Print(&all, bytes.NewReader(file.Bytes()), 0); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(all.String(), "\n"), "\n")
	if len(lines) != len(frames) {
		t.Fatalf("%d lines for %d packets:\n%s", len(lines), len(frames), all.String())
	}
	for i, f := range frames {
		if !strings.Contains(lines[i], f.want) || !strings.HasPrefix(lines[i], fmt.Sprintf(" %.6f  ", float64(i)*0.001234)) {
			t.Errorf("packet %d: %q\nwant %q", i, lines[i], f.want)
		}
	}
	// Cut short by max, and by the end of a file that is still being written.
	if err := Print(&some, bytes.NewReader(file.Bytes()[:file.Len()-5]), 2); err != nil {
		t.Fatal(err)
	}
	if want := strings.Join(lines[:2], "\n") + fmt.Sprintf("\n… and %d more\n", len(frames)-3); some.String() != want {
		t.Errorf("got  %q\nwant %q", some.String(), want)
	}
	if err := Print(&some, strings.NewReader("no capture"), 0); err == nil {
		t.Error("no error for something else than a capture")
	}
}
