package probe_test

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/csum"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/probe"
	"github.com/tapstack/tapstack/stack"
)

// hostilePeer answers each segment with those that a fuzzer makes: every six
// bytes are a kind, flags, an offset of the sequence number, a length, and two
// of options.
type hostilePeer struct {
	out  *stack.Prober
	data []byte
	at   int
}

func (h *hostilePeer) ProbeExpire(mono.Time) {}
func (h *hostilePeer) ProbeClosed()          {}
func (h *hostilePeer) ProbeInput(in stack.ProbeInput) {
	b := in.Message
	if in.Quoted || in.Err != 0 || len(b) < 20 || len(h.data) < 6 {
		return
	}
	for range 1 + int(h.data[0])%3 {
		if h.at+6 > len(h.data) {
			h.at = 0
		}
		d := h.data[h.at : h.at+6]
		h.at += 6
		opts := make([]byte, int(d[4])%11*4)
		for i := range opts {
			opts[i] = h.data[(h.at+i)%len(h.data)]
		}
		m := make([]byte, 20+len(opts)+int(d[3])*6)
		copy(m, b[2:4])
		copy(m[2:], b[:2])
		seq, ack := uint32(1000), binary.BigEndian.Uint32(b[4:])+1
		if d[0]&1 != 0 {
			seq = binary.BigEndian.Uint32(b[8:]) // where they are
			ack = binary.BigEndian.Uint32(b[4:]) + uint32(len(b)-20)
		}
		binary.BigEndian.PutUint32(m[4:], seq+uint32(d[2])*100)
		binary.BigEndian.PutUint32(m[8:], ack+uint32(d[0]>>6))
		m[12], m[13] = byte((20+len(opts))/4)<<4|d[5]&1, d[1]
		if d[5]&0xf0 == 0xf0 {
			m[12] = d[5] << 4 // a header that is not there
		}
		copy(m[20:], opts)
		binary.BigEndian.PutUint16(m[16:], csum.Checksum(m, csum.Pseudo(in.To, in.From, 6, len(m))))
		if r, err := h.out.Route(in.From, in.To, nil); err == nil {
			_ = h.out.Send(&r, &stack.ProbeHeader{Protocol: 6, TTL: d[2]}, m)
		}
	}
}

// FuzzXRay: whatever a peer answers, an x-ray ends in its time, and says
// something.
func FuzzXRay(f *testing.F) {
	f.Add([]byte{0, 0x12, 0, 0, 5, 0, 1, 0x10, 0, 20, 0, 0, 2, 4, 5, 180})
	f.Add([]byte{2, 0x12, 0, 0, 10, 0, 1, 0x18, 0, 255, 0, 0, 1, 0x19, 4, 10, 0, 0, 1, 4, 0, 0, 0, 0})
	f.Add([]byte{1, 0xff, 0, 9, 3, 0xf4, 0, 0x12, 0, 0, 4, 1, 8, 10, 1, 1, 2, 255})
	f.Fuzz(func(t *testing.T, data []byte) {
		w := newWorld(t, 1, probe.Options{})
		h := &hostilePeer{data: data}
		var err error
		if h.out, err = w.far.NewProber(h); err == nil {
			_, err = h.out.ReservePort(6, 80)
		}
		if err != nil {
			t.Fatal(err)
		}
		start := w.Now()
		r := w.xray(probe.XRayRequest{Request: probe.Request{Dst: addr(far4)}, Send: []byte("GET / HTTP/1.0\r\n\r\n"), Watch: 2 * time.Second})
		h.out.Close()
		if r.Verdict == "" || r.Diagnosis == "" || w.Now().Sub(start) > time.Minute {
			t.Errorf("%v after %v: %s", r.Verdict, w.Now().Sub(start), r.Diagnosis)
		}
		for _, c := range r.Conns {
			if len(c.Segments) > 1<<14 {
				t.Errorf("%s: %d segments", c.Purpose, len(c.Segments))
			}
		}
	})
}
