package stack_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/stack/simnet"
	"github.com/tapstack/tapstack/tcp"
)

// bothPlain runs f for a host that segments and merges in software, and for
// one that was told not to.
func bothPlain(t *testing.T, f func(t *testing.T, c familyCase, plain bool)) {
	eachFamily(t, func(t *testing.T, c familyCase) {
		for _, plain := range []bool{false, true} {
			t.Run(fmt.Sprintf("plain=%v", plain), func(t *testing.T) { f(t, c, plain) })
		}
	})
}

// TestSoftwareSegmentation: on a device that does not segment, a write leaves
// in the same frames with and without super-frames, byte for byte but for
// IPv4's identifier and the PSH at each one's end, and each is as gopacket would
// have it.
func TestSoftwareSegmentation(t *testing.T) {
	var tapes [2][][]byte
	bothPlain(t, func(t *testing.T, c familyCase, plain bool) {
		h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{Plain: plain}).meet()
		p := h.connect(h.listen(80, 5), c.v6, 4000)
		data := pattern(300000)
		sent := 0
		var got []byte
		var frames [][]byte
		for len(got) < len(data) {
			n, _ := p.conn.Write(data[sent:])
			sent += n
			for _, f := range h.run(time.Millisecond) {
				wantChecksums(t, f)
				frames = append(frames, f)
				if s, ok := tcpOf([][]byte{f}); ok && uint32(s.Seq) == p.rcv {
					got = append(got, s.Payload[0]...)
					p.rcv += uint32(s.Len())
				}
			}
			p.input(tcp.FlagACK, "")
		}
		if !bytes.Equal(got, data) {
			t.Fatal("other bytes")
		}
		if n := h.count("offload.cut"); (n > 0) == plain {
			t.Errorf("%d super-frames were cut", n)
		}
		for i, f := range frames {
			tcpAt := 14 + 40
			if _, _, ok := ip4Of(f); ok {
				tcpAt = 14 + 20
			}
			// PSH ends each super-frame, and both are in the checksum.
			f[tcpAt+13] &^= byte(tcp.FlagPSH)
			f[tcpAt+16], f[tcpAt+17] = 0, 0
			if tcpAt == 14+20 {
				frames[i] = slices.Concat(f[:18], f[20:24], f[26:])
			}
		}
		if plain {
			tapes[1] = frames
			if !slices.EqualFunc(tapes[0], tapes[1], bytes.Equal) {
				t.Errorf("%d frames in software, %d plain ones, or others", len(tapes[0]), len(tapes[1]))
			}
		} else {
			tapes[0] = frames
		}
	})
}

// wantChecksums has gopacket compute the checksums of a TCP frame again.
func wantChecksums(t *testing.T, f []byte) {
	t.Helper()
	d := gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Default)
	seg, ok := d.TransportLayer().(*layers.TCP)
	if !ok {
		return
	}
	ls := []gopacket.SerializableLayer{d.LinkLayer().(*layers.Ethernet), d.NetworkLayer().(gopacket.SerializableLayer), seg, gopacket.Payload(seg.Payload)}
	seg.SetNetworkLayerForChecksum(d.NetworkLayer())
	w := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(w, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(w.Bytes()[:len(f)], f) {
		t.Fatalf("lengths or checksums differ:\n%x\n%x", f[:60], w.Bytes()[:60])
	}
}

// burst delivers frames as one batch, as a device does that had so many.
func (d *injector) burst(frames ...[]byte) {
	for _, f := range frames {
		d.deliver(pkt.From(f))
	}
	d.idle()
}

// TestSoftwareMerging: what arrives at once is one segment for TCP, and the
// same bytes.
func TestSoftwareMerging(t *testing.T) {
	bothPlain(t, func(t *testing.T, c familyCase, plain bool) {
		h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{Plain: plain}).meet()
		p := h.connect(h.listen(80, 5), c.v6, 4000)
		h.d.take()
		before := h.count("tcp.input")
		data := pattern(20 * 1000)
		var frames [][]byte
		for at := 0; at < len(data); at += 1000 {
			frames = append(frames, segment(c.v6, p.sport, p.dport, p.snd+uint32(at), p.rcv, tcp.FlagACK, data[at:at+1000]))
		}
		// The fifth is held up, the sixth was damaged on its way.
		frames[5][len(frames[5])-1]++
		h.d.burst(slices.Concat(frames[:4], frames[5:], frames[4:5])...)
		frames[5][len(frames[5])-1]--
		h.d.burst(frames[5])
		got := make([]byte, 2*len(data))
		if n, err := p.conn.Read(got); n != len(data) || err != nil || !bytes.Equal(got[:n], data) {
			t.Errorf("read %d bytes, %v", n, err)
		}
		segments, merged, aggregates := h.count("tcp.input")-before, h.count("offload.merged"), h.count("offload.aggregates")
		switch {
		case plain && (segments != 21 || merged != 0):
			t.Errorf("%d segments, %d merged", segments, merged)
		// The first four, the fourteen behind the hole, and two single ones,
		// beside the damaged one.
		case !plain && (segments != 5 || merged != 18 || aggregates != 2):
			t.Errorf("%d segments, of %d merged into %d", segments, merged, aggregates)
		}
		if n := h.count("tcp.drop.bad-checksum"); n != 1 {
			t.Errorf("%d bad checksums", n)
		}
		if n := h.count("ether.input"); n < 21 {
			t.Errorf("%d frames counted", n)
		}
		var last tcp.Segment
		for _, f := range h.d.take() {
			if s, ok := tcpOf([][]byte{f}); ok {
				last = s
			}
		}
		if uint32(last.Ack) != p.snd+uint32(len(data)) {
			t.Errorf("acknowledged up to %d, not %d", last.Ack, p.snd+uint32(len(data)))
		}
	})
}

// TestMergedFrameIsNotKept: a frame that waits for others is dropped with the
// stack, and comes too late afterwards.
func TestMergedFrameIsNotKept(t *testing.T) {
	live := pkt.Live()
	n, s, _, d := newInjected(t, stack.Config{}, stack.InterfaceConfig{NoDAD: true})
	n.RunFor(time.Second)
	frame := segment(false, 4000, 80, 1, 1, tcp.FlagACK, pattern(1000))
	deliver := d.deliver
	deliver(pkt.From(frame))
	if pkt.Live() == live {
		t.Error("the frame is not kept")
	}
	s.Close()
	deliver(pkt.From(frame))
	if n := pkt.Live() - live; n != 0 {
		t.Errorf("%d buffers leaked", n)
	}
	if n := s.Counters()["ether.drop.link-down"]; n != 2 {
		t.Errorf("%d frames counted", n)
	}
}

// TestSuperFrameLearnsPathMTU: a connection that did not hear of a smaller path
// itself finds out before its next super-frame leaves.
func TestSuperFrameLearnsPathMTU(t *testing.T) {
	eachFamily(t, func(t *testing.T, c familyCase) {
		h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
		l := h.listen(80, 5)
		p, q := h.connect(l, c.v6, 4000), h.connect(l, c.v6, 4001)
		h.d.take()
		p.conn.Write(pattern(20000))
		h.send(tooBig(c.v6, 1300, h.d.take()[0]))
		h.add("10.78.0.7/24") // routes are looked up again
		h.d.take()
		q.conn.Write(pattern(20000))
		out := h.d.take()
		if got := largest(out); got > 1300 || got < 1290 {
			t.Errorf("packets of %d bytes on a path of 1300", got)
		}
		if h.count("offload.cut") < 2 {
			t.Error("they were no super-frames")
		}
	})
}

// TestNarrowPathHasNoSuperFrames: below Linux's least path MTU segments become
// fragments, which their pieces could not.
func TestNarrowPathHasNoSuperFrames(t *testing.T) {
	h := &testHost{T: t, n: simnet.New(1), d: &injector{mtu: 300}}
	h.s = stack.New(stack.Config{Clock: h.n.Clock(), Seed: 7})
	defer h.s.Close()
	var err error
	if h.i, err = h.s.AddInterface(stack.InterfaceConfig{Name: "eth0", Device: h.d, MAC: hostMAC}); err != nil {
		t.Fatal(err)
	}
	h.add("10.77.0.7/24")
	h.d.inject(arpRequest(hostIP4))
	p := h.connect(h.listen(80, 5), false, 4000)
	h.d.take()
	p.conn.Write(pattern(5000))
	out := h.run(time.Second)
	if len(out) < 5 {
		t.Errorf("%d frames", len(out))
	}
	for _, f := range out {
		if ih, _, ok := ip4Of(f); ok && ih.Protocol() == ipv4.ProtoTCP && len(f) > 14+300 {
			t.Errorf("a packet of %d bytes", len(f)-14)
		}
	}
	if h.count("offload.cut") != 0 {
		t.Error("super-frames on a path that may fragment them")
	}
}

// TestAllocsBulk: neither cutting nor merging allocates in the steady state.
func TestAllocsBulk(t *testing.T) {
	eachFamily(t, func(t *testing.T, c familyCase) {
		h, clock := newSteady(t)
		l := h.listen(80, 1)
		h.d.inject(syn(c.v6, 4000, 80, 1000, 1460))
		s, ok := tcpOf(h.d.take())
		if !ok {
			t.Fatal("no SYN-ACK")
		}
		rcv := uint32(s.Seq) + 1
		h.d.inject(segment(c.v6, 4000, 80, 1001, rcv, tcp.FlagACK, nil))
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		h.d.mute = true
		const size, most = 8 * 1000, allocRuns + 100
		data := pattern(size)
		var batches [most][]*pkt.Buf
		snd := uint32(1001)
		for i := range batches {
			for at := 0; at < size; at += 1000 {
				batches[i] = append(batches[i], pkt.From(segment(c.v6, 4000, 80, snd, rcv, tcp.FlagACK, data[at:at+1000])))
				snd += 1000
			}
		}
		k := 0
		buf := make([]byte, 2*size)
		in := func() {
			for _, p := range batches[k] {
				h.d.deliver(p)
			}
			h.d.idle()
			if n, err := conn.Read(buf); n != size || err != nil {
				t.Fatalf("read %d, %v", n, err)
			}
			k++
			clock.t = clock.t.Add(time.Millisecond)
		}
		for range 50 {
			in()
		}
		wantNoAllocs(t, "bulk in", allocRuns, in)
		for _, b := range batches[k:] {
			for _, p := range b {
				p.Put()
			}
		}
		snd = 1001 + uint32(k*size)
		if h.count("offload.aggregates") < allocRuns {
			t.Errorf("%d aggregates", h.count("offload.aggregates"))
		}
		var acks [][]byte
		for i := range most {
			acks = append(acks, segment(c.v6, 4000, 80, snd, rcv+uint32((i+1)*size), tcp.FlagACK, nil))
		}
		k = 0
		out := func() {
			if n, err := conn.Write(data); n != size || err != nil {
				t.Fatalf("wrote %d, %v", n, err)
			}
			h.d.inject(acks[k])
			k++
			clock.t = clock.t.Add(time.Millisecond)
		}
		for range 50 {
			out()
		}
		wantNoAllocs(t, "bulk out", allocRuns, out)
		if h.count("offload.cut") < allocRuns {
			t.Errorf("%d super-frames", h.count("offload.cut"))
		}
	})
}

// TestOffloadOverBadLinks: the bytes are right whatever the network does to the
// pieces, equal seeds give equal frames, and as much is merged as arrives
// together.
func TestOffloadOverBadLinks(t *testing.T) {
	for _, o := range []wire.Options{
		{Delay: 5 * time.Millisecond},
		{Delay: 5 * time.Millisecond, Loss: 0.02},
		{Delay: 5 * time.Millisecond, Reorder: 0.05, Jitter: time.Millisecond},
		{Delay: time.Millisecond, Loss: 0.01, Reorder: 0.02, Duplicate: 0.02, Corrupt: 0.02, Rate: 100e6},
		{Delay: 5 * time.Millisecond, MTU: 9000, Loss: 0.01},
	} {
		for _, to := range []string{"10.77.0.2:7", "[fd77::2]:7"} {
			var tapes [2][]byte
			var merged uint64
			for i := range tapes {
				o := o
				var p *pair
				o.Drop = func(f []byte) bool {
					if p != nil {
						tapes[i] = append(tapes[i], f[:min(len(f), 80)]...)
					}
					return false
				}
				p = newOffloadPair(t, 5, o)
				p.listenEcho(p.b, 7)
				data := pattern(1 << 20)
				if got := p.echoTransfer(to, data, time.Hour); !bytes.Equal(got, data) {
					t.Errorf("%s %+v: %d bytes came back differently", to, o, len(got))
				}
				if n := p.a.Counters()["offload.cut"]; n == 0 {
					t.Errorf("%s %+v: nothing was cut", to, o)
				}
				merged = p.b.Counters()["offload.merged"]
				p.close()
			}
			if !bytes.Equal(tapes[0], tapes[1]) {
				t.Errorf("%s %+v: two runs with one seed differ", to, o)
			}
			if o.Rate == 0 && merged < uint64(len(tapes[0])/80/10) {
				t.Errorf("%s %+v: %d frames merged", to, o, merged)
			}
		}
	}
}
