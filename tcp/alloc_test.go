package tcp

import (
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// pair is two cores with the handshake done, joined without loss or delay.
type pair struct {
	now mono.Time
	a   [2]*Conn
	seg Segment
	buf []byte
}

func newPair(tb testing.TB, mss int) *pair {
	p := &pair{now: mono.Time(time.Second), buf: make([]byte, 1<<17)}
	cfg := &Config{LocalPort: 1, RemotePort: 2, MSS: mss, RcvBuf: 4 << 20, SndBuf: 4 << 20}
	peer := &Config{LocalPort: 2, RemotePort: 1, MSS: mss, RcvBuf: 4 << 20, SndBuf: 4 << 20, ISS: 1 << 31}
	p.a[0] = NewActive(cfg, p.now)
	p.a[0].Output(p.now, &p.seg, 0)
	r := NewSynRequest(peer, p.now, &p.seg)
	r.Output(p.now, &p.seg)
	p.a[0].Input(p.now, &p.seg)
	p.a[0].Output(p.now, &p.seg, 0)
	if v, _ := r.Input(p.now, &p.seg); v != VerdictEstablish {
		tb.Fatal("not established")
	}
	p.a[1] = r.Conn(peer, p.now)
	p.a[1].Input(p.now, &p.seg)
	if p.a[0].State() != Established || p.a[1].State() != Established {
		tb.Fatal("not established")
	}
	return p
}

// move passes segments until neither side has one.
func (p *pair) move(limit int) {
	p.now = p.now.Add(10 * time.Microsecond)
	for more := true; more; {
		more = false
		for i, c := range p.a {
			for c.Output(p.now, &p.seg, limit) {
				more = true
				if b := p.seg.Payload[1]; len(b) > 0 { // a frame is in one part
					n := copy(p.buf, p.seg.Payload[0])
					n += copy(p.buf[n:], b)
					p.seg.Payload = [2][]byte{p.buf[:n], nil}
				}
				p.seg.Segs = 0
				if n := p.seg.PayloadLen(); n > 0 {
					p.seg.Segs = (n + p.seg.SegSize - 1) / p.seg.SegSize
				}
				p.a[1-i].Input(p.now, &p.seg)
			}
		}
	}
}

// The data path does not allocate.
func TestAllocs(t *testing.T) {
	p := newPair(t, 1460)
	out, in := make([]byte, 50_000), make([]byte, 100_000)
	round := func() {
		p.a[0].Write(out)
		p.a[1].Write(out[:100])
		p.move(65536 - 60)
		p.a[1].Read(in)
		p.a[0].Read(in)
		p.move(0)
		p.a[0].Deadline()
	}
	for range 20 {
		round()
	}
	if n := testing.AllocsPerRun(200, round); n > 0 && !raceEnabled {
		t.Errorf("%v allocations per round", n)
	}
	if p.a[1].Info().BytesIn < 200*50_000 {
		t.Error("nothing moved")
	}
}

func benchTransfer(b *testing.B, limit int) {
	p := newPair(b, 1460)
	out, in := make([]byte, 1<<18), make([]byte, 1<<20)
	b.SetBytes(int64(len(out)))
	for b.Loop() {
		p.a[0].Write(out)
		p.move(limit)
		for p.a[1].Readable() > 0 {
			p.a[1].Read(in)
		}
		p.move(limit)
	}
}

func BenchmarkSegments(b *testing.B)    { benchTransfer(b, 0) }
func BenchmarkSuperFrames(b *testing.B) { benchTransfer(b, 65536-60) }
