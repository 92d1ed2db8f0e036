package probe_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/csum"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/probe"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// page serves size bytes to whoever sends something, and a greeting before.
func page(t testing.TB, s *stack.Stack, port uint16, greeting string, size int) *stack.TCPListener {
	t.Helper()
	l, err := s.BindTCP(netip.AddrPortFrom(netip.IPv6Unspecified(), port), false, false)
	if err == nil {
		err = l.Listen(100)
	}
	if err != nil {
		t.Fatal(err)
	}
	accept := func(stack.Ready) {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = c.Write([]byte(greeting)) // there is room
		left, asked, busy := size, false, false
		pump := func(stack.Ready) {
			if busy {
				return
			}
			busy = true
			defer func() { busy = false }()
			b := make([]byte, 4096)
			n, err := c.Read(b)
			if err != nil && err != syscall.EAGAIN {
				c.Close()
				return
			}
			if n == 0 && err == nil {
				c.Close() // its end
				return
			}
			if n > 0 {
				asked = true
			}
			for asked && left > 0 {
				k, err := c.Write(b[:min(left, len(b))])
				if err != nil {
					return
				}
				if left -= k; left == 0 {
					c.Close()
				}
			}
		}
		c.Waiters().Add(&stack.Waiter{Want: stack.ReadyIn | stack.ReadyOut, F: pump})
		pump(0)
	}
	l.Waiters().Add(&stack.Waiter{Want: stack.ReadyIn, F: accept})
	return l
}

func (w *world) xray(q probe.XRayRequest) (r probe.XRayResult) {
	w.t.Helper()
	done := false
	w.p.StartXRay(q, func(x probe.XRayResult) { r, done = x, true })
	if !w.Until(time.Hour, func() bool { return done }) {
		w.t.Fatal("the x-ray has no end")
	}
	return r
}

// TestXRay: our own stack behind two routers, with different configurations.
func TestXRay(t *testing.T) {
	for name, c := range map[string]struct {
		tcp  stack.TCPConfig
		want func(t *testing.T, r *probe.XRayResult)
	}{
		"default": {stack.TCPConfig{}, func(t *testing.T, r *probe.XRayResult) {
			if a := r.SynAck; a.Order != "linux" || a.MSS != r.LinkMTU-40 && a.MSS != r.LinkMTU-60 || !a.SACK || !a.Timestamps || a.WindowScale < 0 || len(a.Unasked) > 0 {
				t.Errorf("SYN-ACK: %+v", a)
			}
			if r.ECN == nil || !r.ECN.Classic || r.ECN.AccECN != "classic" {
				t.Errorf("ECN: %+v", r.ECN)
			}
			if r.Stamps == nil || r.Stamps.Hz != 1000 {
				t.Errorf("timestamps: %+v", r.Stamps)
			}
			// RFC 6298 §5.5: a second, then twice as long each time.
			if d := r.Repeats.After; !slices.Equal(d, []time.Duration{time.Second, 3 * time.Second, 7 * time.Second}) || r.Repeats.Reset {
				t.Errorf("repeats: %+v", r.Repeats)
			}
		}},
		"bare": {stack.TCPConfig{NoTimestamps: true, NoSACK: true, NoWScale: true, ECN: tcp.ECNOff, SynAckRetries: 2, InitialRTO: 2 * time.Second}, func(t *testing.T, r *probe.XRayResult) {
			if a := r.SynAck; a.SACK || a.Timestamps || a.WindowScale != -1 || len(a.Options) != 1 {
				t.Errorf("SYN-ACK: %+v", a)
			}
			if r.ECN == nil || r.ECN.Classic || r.ECN.AccECN != "no" || r.Stamps != nil {
				t.Errorf("%+v, %+v", r.ECN, r.Stamps)
			}
			if d := r.Repeats.After; len(d) != 2 || d[0] != 2*time.Second || d[1] != 6*time.Second {
				t.Errorf("repeats: %+v", r.Repeats)
			}
			if !strings.Contains(r.Diagnosis, "It does without SACK, timestamps, window scale.") || !strings.Contains(r.Diagnosis, "It has no ECN.") {
				t.Error(r.Diagnosis)
			}
		}},
		"accecn": {stack.TCPConfig{ECN: tcp.ECNAccurate}, func(t *testing.T, r *probe.XRayResult) {
			if r.ECN == nil || !r.ECN.Classic || r.ECN.AccECN != "accecn" || !strings.Contains(r.Diagnosis, "It has AccECN.") {
				t.Errorf("ECN: %+v", r.ECN)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			eachFamily(t, func(t *testing.T, dst netip.Addr, router func(int) netip.Addr) {
				w := newWorldWith(t, 2, probe.Options{}, stack.Config{TCP: c.tcp})
				page(t, w.far, 80, "", 100000)
				r := w.xray(probe.XRayRequest{Request: probe.Request{Dst: dst}, Send: []byte("GET / HTTP/1.0\r\n\r\n")})
				if r.Verdict != probe.XRayOpen || r.RTT != 2*line || r.SYNs != 1 || r.Answered != 1 || r.Hops.Hops != 2 || r.Hops.Initial != 64 || len(r.Hops.OtherTTLs) > 0 || r.Err != nil {
					t.Errorf("%+v", r)
				}
				if r.ISN.Kind != probe.NumbersRandom || len(r.ISN.Values) != 9 || r.PortISN.Kind != probe.NumbersClock {
					t.Errorf("ISN: %+v, %+v", r.ISN, r.PortISN)
				}
				if dst.Is6() != (r.IPID == nil) {
					t.Errorf("IP ID: %+v", r.IPID)
				}
				// RFC 6928: ten segments, or for large ones 14600 bytes.
				if len(r.Windows) != 2 {
					t.Fatalf("windows: %+v", r.Windows)
				}
				for i, mss := range []int{r.LinkMTU - 60, 64} {
					if dst.Is4() && i == 0 {
						mss += 20
					}
					if x := r.Windows[i]; x.MSS != mss || x.Segment != mss || x.Segments != 10 || x.Bytes > 10*mss || x.Bytes <= 9*mss || !x.Limited || x.Ended || x.Answer != 2*line || x.Repeat <= 0 {
						t.Errorf("window: %+v", x)
					}
				}
				if r.Close == nil || r.Close.Acked != 2*line || r.Close.Ended != 2*line || r.Close.Reset || r.Close.First {
					t.Errorf("close: %+v", r.Close)
				}
				if r.Stray == nil || !r.Stray.Reset || r.Stray.TTL != r.Hops.TTL {
					t.Errorf("stray: %+v", r.Stray)
				}
				if !strings.HasPrefix(r.Diagnosis, "Open, 2 hops away, 2ms there and back. ") || !strings.Contains(r.Diagnosis, fmt.Sprintf("Its initial window is 10 segments of %d bytes.", r.Windows[0].MSS)) {
					t.Error(r.Diagnosis)
				}
				c.want(t, &r)
				w.RunFor(time.Minute)
				if n := w.far.Counters()["tcp.half-open"]; n != 0 {
					t.Errorf("%d half-open connections left", n)
				}
			})
		})
	}
}

// TestXRayVerdicts: what there is to say of ports that are not open, and of
// short answers.
func TestXRayVerdicts(t *testing.T) {
	eachFamily(t, func(t *testing.T, dst netip.Addr, router func(int) netip.Addr) {
		w := newWorld(t, 2, probe.Options{})
		look := func(q probe.XRayRequest) probe.XRayResult {
			q.Dst = dst
			return w.xray(q)
		}
		if r := look(probe.XRayRequest{Request: probe.Request{DstPort: 81}}); r.Verdict != probe.XRayClosed || r.RTT != 2*line || r.SynAck != nil || len(r.Conns) != 1 || r.Hops.Hops != 2 ||
			!strings.HasPrefix(r.Diagnosis, "Closed: ") {
			t.Errorf("%+v", r)
		}
		page(t, w.far, 25, "220 hello\r\nmore", 0)
		r := look(probe.XRayRequest{Request: probe.Request{DstPort: 25}, Watch: time.Second})
		if r.Verdict != probe.XRayOpen || r.Close == nil || r.Close.Greeting != "220 hello" || len(r.Windows) != 1 || r.Windows[0].Limited || r.Windows[0].Bytes != 15 {
			t.Errorf("%+v", r)
		}
		page(t, w.far, 79, "", 300)
		r = look(probe.XRayRequest{Request: probe.Request{DstPort: 79}, Watch: time.Second, Send: []byte("root\r\n")})
		if len(r.Windows) != 2 || r.Windows[0].Limited || r.Windows[1].Limited || !r.Windows[1].Ended || r.Windows[1].Segments != 5 || r.Windows[1].Bytes != 300 ||
			!strings.Contains(r.Diagnosis, "too short to fill the initial window: at least 5 segments of 64 bytes") {
			t.Errorf("%+v, %s", r.Windows, r.Diagnosis)
		}
		// A router that clamps the MSS, a lost SYN.
		n := 0
		w.routers[0].Mangle = func(b []byte, back bool) []byte {
			h, at := 20, 9
			if b[0]>>4 == 6 {
				h, at = 40, 6
			}
			if b[at] != 6 || b[h+13]&2 == 0 {
				return b
			}
			if n++; n == 1 {
				return nil
			}
			if b[h+12]>>4 > 5 && b[h+20] == 2 && binary.BigEndian.Uint16(b[h+22:]) > 1300 {
				binary.BigEndian.PutUint16(b[h+22:], 1300)
				seal(b, h)
			}
			return b
		}
		page(t, w.far, 80, "", 100000)
		r = look(probe.XRayRequest{Send: []byte("x"), Watch: time.Second})
		if r.SYNs != 2 || r.Answered != 2 || r.RTT != 2*line || r.SynAck.MSS != 1300 || r.Windows[0].Segment != 1300 ||
			!strings.Contains(r.Diagnosis, "SYN 2 of 2") || !strings.Contains(r.Diagnosis, "Its MSS of 1300") || !strings.Contains(r.Diagnosis, "something lowers the MSS") {
			t.Errorf("%+v, %s", r, r.Diagnosis)
		}
		w.routers[0].Mangle = func([]byte, bool) []byte { return nil }
		start := w.Now()
		r = look(probe.XRayRequest{Request: probe.Request{Timeout: 4 * time.Second}})
		if r.Verdict != probe.XRayFiltered || r.SYNs != 3 || w.Now().Sub(start) != 4*time.Second {
			t.Errorf("%+v after %v", r, w.Now().Sub(start))
		}
		w.routers[0].Mangle = nil
		w.routers[1].Refuse = true
		nowhere := addr("9.9.9.9")
		if dst.Is6() {
			nowhere = addr("2001:db8:9::9")
		}
		if r = w.xray(probe.XRayRequest{Request: probe.Request{Dst: nowhere}}); r.Verdict != probe.XRayRejected || r.ICMP == nil || r.ICMP.From != router(2) || !r.ICMP.ICMP {
			t.Errorf("%+v", r)
		}
		near := addr("10.0.0.77")
		if dst.Is6() {
			near = addr("fd00::77")
		}
		if r = w.xray(probe.XRayRequest{Request: probe.Request{Dst: near}}); r.Verdict != probe.XRayNoNeighbour {
			t.Errorf("%+v", r)
		}
	})
	w := newWorld(t, 2, probe.Options{})
	if r := w.xray(probe.XRayRequest{Request: probe.Request{Dst: addr("8.8.8.8"), Src: addr("192.0.2.9")}}); r.Err != syscall.EADDRNOTAVAIL || r.Diagnosis == "" {
		t.Errorf("%+v", r)
	}
	// Ended from outside, and by the stack's end.
	var r probe.XRayResult
	ended := 0
	stop := w.p.StartXRay(probe.XRayRequest{Request: probe.Request{Dst: addr("8.8.8.8")}}, func(x probe.XRayResult) { r = x; ended++ })
	stop()
	stop()
	w.p.StartXRay(probe.XRayRequest{Request: probe.Request{Dst: addr("8.8.8.9")}}, func(x probe.XRayResult) { r = x; ended++ })
	w.near.Close()
	if ended != 2 || r.Err != probe.ErrClosed {
		t.Errorf("%d ended, %+v", ended, r)
	}
}

// seal makes a segment's checksum right.
func seal(b []byte, h int) {
	var src, dst netip.Addr
	if h == 20 {
		src, dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	} else {
		src, dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	}
	t := b[h:]
	t[16], t[17] = 0, 0
	binary.BigEndian.PutUint16(t[16:], csum.Checksum(t, csum.Pseudo(src, dst, 6, len(t))))
}

// actor answers SYNs as it is told: a stack.Prober that has the port.
type actor struct {
	s      *stack.Stack
	out    *stack.Prober
	n      int
	answer func(n int, now mono.Time, syn []byte) (isn, tsval uint32, id uint16, flags byte, opts []byte)
}

func (a *actor) ProbeExpire(mono.Time) {}
func (a *actor) ProbeClosed()          {}
func (a *actor) ProbeInput(in stack.ProbeInput) {
	b := in.Message
	if in.Quoted || in.Err != 0 || b[13]&2 == 0 {
		return // neither resets nor ACKs are answered
	}
	isn, tsval, id, flags, opts := a.answer(a.n, in.At, b)
	a.n++
	if opts == nil {
		opts = []byte{2, 4, 5, 180, 1, 3, 3, 8, 4, 2, 1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}[:22]
		opts = append(opts, 0, 0)
		binary.BigEndian.PutUint32(opts[14:], tsval)
	}
	m := make([]byte, 20+len(opts))
	copy(m, b[2:4])
	copy(m[2:], b[:2])
	binary.BigEndian.PutUint32(m[4:], isn)
	binary.BigEndian.PutUint32(m[8:], binary.BigEndian.Uint32(b[4:])+1)
	m[12], m[13] = byte(len(m)/4)<<4, 0x12|flags
	m[14], m[15] = 0x20, 0
	copy(m[20:], opts)
	binary.BigEndian.PutUint16(m[16:], csum.Checksum(m, csum.Pseudo(in.To, in.From, 6, len(m))))
	r, err := a.out.Route(in.From, in.To, nil)
	if err == nil {
		_ = a.out.Send(&r, &stack.ProbeHeader{Protocol: 6, ID: id, TTL: 128}, m)
	}
}

// TestXRayNumbers: peers whose numbers can be guessed.
func TestXRayNumbers(t *testing.T) {
	w := newWorld(t, 2, probe.Options{})
	a := &actor{s: w.far}
	var err error
	if a.out, err = w.far.NewProber(a); err == nil {
		_, err = a.out.ReservePort(6, 80)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer a.out.Close()
	rnd := w.Rand()
	for name, c := range map[string]struct {
		answer func(n int, now mono.Time, syn []byte) (isn, tsval uint32, id uint16, flags byte, opts []byte)
		isn    string
		stamps string
		ipid   string
		says   []string
	}{
		"constant": {func(n int, now mono.Time, syn []byte) (uint32, uint32, uint16, byte, []byte) {
			return 1000, 5, 7, 0, nil
		},
			probe.NumbersConstant, probe.StampsConstant, probe.NumbersConstant, []string{"can be guessed (always the same)", "timestamps stand still", "has no ECN", "as those of Windows", "stands before it", "does not come again"}},
		"step": {func(n int, now mono.Time, syn []byte) (uint32, uint32, uint16, byte, []byte) {
			return uint32(n)*64000 + 4294900000, rnd.Uint32(), uint16(n + 65530), 0x40, nil
		}, "", probe.StampsConnection, "", []string{"has ECN", "begin elsewhere"}},
		"clock": {func(n int, now mono.Time, syn []byte) (uint32, uint32, uint16, byte, []byte) {
			// RFC 793's: 4 µs each; timestamps of 100 Hz that began 1000 s ago.
			return uint32(now / 4000), uint32(100000 + now/1e7), 0, 0, nil
		}, probe.NumbersClock, probe.StampsOneClock, probe.NumbersZero, []string{"a clock of 2.5e+05 Hz", "One clock of 100 Hz"}},
		"reflector": {func(n int, now mono.Time, syn []byte) (uint32, uint32, uint16, byte, []byte) {
			return rnd.Uint32(), 0, uint16(rnd.Uint32()), syn[13] & 0xc0, []byte{}
		}, probe.NumbersRandom, "", probe.NumbersRandom, []string{"does without SACK, timestamps, window scale", "It announces no MSS, so that 536 bytes hold.", "at most 4.1 MB/s"}},
		"unasked": {func(n int, now mono.Time, syn []byte) (uint32, uint32, uint16, byte, []byte) {
			return rnd.Uint32(), 0, 0, 0, []byte{2, 4, 5, 0x64, 4, 2, 1, 1, 3}
		}, probe.NumbersRandom, "", probe.NumbersZero, []string{"It answers a SYN without options with mss 1380, sack, nop, nop", "Its MSS of 1380 is for packets of 1420 bytes"}},
	} {
		a.answer, a.n = c.answer, 0
		r := w.xray(probe.XRayRequest{Request: probe.Request{Dst: addr(far4)}})
		if r.Verdict != probe.XRayOpen || c.isn != "" && r.ISN.Kind != c.isn || c.ipid != "" && r.IPID.Kind != c.ipid {
			t.Errorf("%s: %+v, %+v, %+v", name, r, r.ISN, r.IPID)
		}
		if r.Stray == nil || r.Stray.Reset || r.Hops.Initial != 128 {
			t.Errorf("%s: %+v %+v", name, r.Stray, r.Hops)
		}
		if (c.stamps == "") != (r.Stamps == nil) || c.stamps != "" && r.Stamps.Kind != c.stamps {
			t.Errorf("%s: timestamps: %+v", name, r.Stamps)
		}
		for _, s := range c.says {
			if !strings.Contains(r.Diagnosis, s) {
				t.Errorf("%s: no %q in %s", name, s, r.Diagnosis)
			}
		}
		if len(r.Repeats.After) != 0 {
			t.Errorf("%s: %+v", name, r.Repeats)
		}
	}
}

// TestXRayEven: steps are told from clocks by connections that come in pairs at
// other distances than the samples.
func TestXRayEven(t *testing.T) {
	w := newWorld(t, 2, probe.Options{})
	a := &actor{s: w.far}
	a.out, _ = w.far.NewProber(a)
	if _, err := a.out.ReservePort(6, 80); err != nil {
		t.Fatal(err)
	}
	defer a.out.Close()
	samples := map[string]uint32{} // of the ports, in order
	a.answer = func(n int, now mono.Time, syn []byte) (uint32, uint32, uint16, byte, []byte) {
		port := fmt.Sprint(syn[:2])
		if _, ok := samples[port]; !ok && syn[13] == 2 && len(syn) == 40 {
			samples[port] = uint32(len(samples))
		}
		return samples[port]*128000 + 17, 0, uint16(samples[port] * 3), 0, []byte{2, 4, 5, 180}
	}
	r := w.xray(probe.XRayRequest{Request: probe.Request{Dst: addr(far4)}, Watch: time.Second})
	if r.ISN.Kind != probe.NumbersStep && r.ISN.Kind != probe.NumbersRising || r.PortISN.Kind != probe.NumbersConstant || !strings.Contains(r.Diagnosis, "can be guessed") {
		t.Errorf("%+v, %+v, %s", r.ISN, r.PortISN, r.Diagnosis)
	}
}
