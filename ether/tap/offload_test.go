package tap

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/csum"
	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/internal/pkt"
)

var kernelMAC, _ = ether.ParseAddr(lab.KernelMAC)

// superFrame is a TCP segment of n bytes for the kernel, which the device is
// to cut into pieces of 1000.
func superFrame(n int) *pkt.Buf {
	p := pkt.Get(14 + 40 + n)
	ether.Put(p.Append(14), kernelMAC, ours, ether.TypeIPv4)
	p.Pull(14)
	p.MarkNetwork()
	ip := p.Append(20)
	clear(ip)
	ip[0], ip[8], ip[9] = 0x45, 64, 6
	binary.BigEndian.PutUint16(ip[2:], uint16(40+n))
	copy(ip[12:], ourIP.AsSlice())
	copy(ip[16:], kernelIP.AsSlice())
	binary.BigEndian.PutUint16(ip[10:], csum.Checksum(ip, 0))
	tcp := p.Append(20)
	clear(tcp)
	binary.BigEndian.PutUint16(tcp[2:], 4)
	tcp[12], tcp[13] = 0x50, 0x10
	binary.BigEndian.PutUint16(tcp[16:], csum.Pseudo(ourIP, kernelIP, 6, 20+n))
	clear(p.Append(n))
	p.Push(14)
	p.Csum = pkt.CsumPartial
	p.GSO = pkt.GSO{Type: pkt.GSOTCPv4, SegSize: 1000, HdrLen: 40, CsumStart: 20, CsumOffset: 16}
	return p
}

// received is how many frames the kernel says that it got from the device.
func received(t *testing.T, l *lab.Lab, name string) (n uint64) {
	t.Helper()
	l.Do(func() {
		link, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		n = link.Attrs().Statistics.RxPackets
	})
	return n
}

func TestSuperFrames(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		var said []error
		d := mustOpen(t, l, Options{Name: "tap7", Existing: true, Offload: OffloadRequire, Notice: func(err error) { said = append(said, err) }})
		if c := d.Caps(); c.GSOMax < 1<<15 || !c.TxCsum || !c.RxCsum || c.Queues != 1 {
			t.Fatalf("caps %+v", c)
		}
		before := received(t, l, "tap7")
		if n, err := d.Send(0, []*pkt.Buf{superFrame(20000)}); n != 1 || err != nil {
			t.Fatalf("sent %d, %v", n, err)
		}
		if n := received(t, l, "tap7") - before; n != 1 {
			t.Errorf("the kernel counts %d frames for one super-frame", n)
		}

		// What the kernel refuses is cut here: a TCP/IPv4 packet that says it
		// is IPv6.
		before = received(t, l, "tap7")
		wrong := superFrame(20000)
		wrong.GSO.Type = pkt.GSOTCPv6
		if n, err := d.Send(0, []*pkt.Buf{wrong, superFrame(3001)}); n != 2 || err != nil {
			t.Fatalf("sent %d, %v", n, err)
		}
		if n := received(t, l, "tap7") - before; n != 20+4 {
			t.Errorf("the kernel counts %d frames, want 24 pieces", n)
		}
		if st := d.Stats(); st.TxCut != 2 || st.TxErrors != 0 {
			t.Errorf("stats %+v", st)
		}
		if len(said) != 1 {
			t.Errorf("said %v", said)
		}
	})
}

// TestOffloadIsTakenBack: after a user with headers, one without gets frames
// that are whole and finished.
func TestOffloadIsTakenBack(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		for _, o := range []Offload{OffloadAuto, OffloadOff, OffloadRequire, OffloadOff} {
			d := mustOpen(t, l, Options{Name: "tap7", Existing: true, Offload: o})
			if _, err := d.Send(0, []*pkt.Buf{arp(ours, ourIP, kernelIP)}); err != nil {
				t.Fatal(err)
			}
			receiveUntil(t, d, func(f []byte) bool { return isARP(f, 2) })
			// A datagram of the kernel's over TCP's or UDP's offload would have
			// an unfinished checksum; 3000 bytes of UDP come as fragments.
			if o == OffloadOff {
				mtuOnly(t, l, d)
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// mtuOnly has the kernel open a connection, whose SYN must be finished.
func mtuOnly(t *testing.T, l *lab.Lab, d *Device) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go l.DialKernel(ctx, "tcp", "10.77.0.7:4")
	receiveUntil(t, d, func(f []byte) bool {
		if len(f) > 1514 {
			t.Errorf("a frame of %d bytes", len(f))
		}
		if isARP(f, 1) {
			reply := arp(ours, ourIP, kernelIP)
			reply.Bytes()[21] = 2
			copy(reply.Bytes()[32:], kernelMAC[:])
			d.Send(0, []*pkt.Buf{reply})
		}
		if len(f) < 54 || f[12] != 8 || f[13] != 0 || f[23] != 6 {
			return false
		}
		n := int(binary.BigEndian.Uint16(f[16:])) - 20
		if csum.Sum(f[34:34+n], csum.Pseudo(kernelIP, ourIP, 6, n)) != 0xffff {
			t.Error("the SYN's checksum is not finished")
		}
		return true
	})
}

func TestQueues(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		ip(t, l, "tuntap", "add", "tap9", "mode", "tap", "multi_queue")
		ip(t, l, "link", "set", "tap9", "up")
		d := mustOpen(t, l, Options{Name: "tap9", Existing: true, Offload: OffloadRequire, Queues: 2})
		if c := d.Caps(); c.Queues != 2 {
			t.Fatalf("caps %+v", c)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 2)
		for q := range 2 {
			go func() { ended <- d.Receive(ctx, q, func(b *pkt.Buf) { b.Put() }, func() {}) }()
		}
		cancel()
		for range 2 {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("Receive: %v", err)
			}
		}
		if _, err := open(t, l, Options{Name: "tap7", Existing: true, Offload: OffloadRequire, Queues: 2}); err == nil {
			t.Error("two queues on a TAP made for one")
		}
		if _, err := open(t, l, Options{Name: "tap7", Existing: true, Queues: 2}); err == nil {
			t.Error("two queues without offload")
		}
	})
}

// TestBusyPoll: a receiver that looks for frames instead of sleeping gets them,
// tells when there are none, and ends with its context.
func TestBusyPoll(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		for _, o := range []Offload{OffloadOff, OffloadAuto} {
			d := mustOpen(t, l, Options{Name: "tap7", Existing: true, Offload: o, BusyPoll: time.Second})
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			answered, idle := false, 0
			if _, err := d.Send(0, []*pkt.Buf{arp(ours, ourIP, kernelIP)}); err != nil {
				t.Fatal(err)
			}
			err := d.Receive(ctx, 0, func(b *pkt.Buf) {
				answered = answered || isARP(b.Bytes(), 2)
				b.Put()
			}, func() {
				idle++
				if answered {
					cancel() // while it is busy looking for more
				}
			})
			cancel()
			if !answered || idle == 0 || !errors.Is(err, context.Canceled) {
				t.Errorf("offload %v: answered %v, idle %d times, %v", o, answered, idle, err)
			}
			d.Close()
		}
	})
}

func TestParseOffload(t *testing.T) {
	for _, o := range []Offload{OffloadOff, OffloadAuto, OffloadRequire} {
		if got, err := ParseOffload(o.String()); got != o || err != nil {
			t.Errorf("%v: %v, %v", o, got, err)
		}
	}
	if _, err := ParseOffload("on"); err == nil {
		t.Error("accepted")
	}
}
