package gso

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tapstack/tapstack/internal/csum"
	"github.com/tapstack/tapstack/internal/pkt"
)

// seg describes a TCP frame of the tests.
type seg struct {
	v6      bool
	port    uint16 // of the sender: the connection
	seq     uint32
	n       int // payload
	flags   byte
	options []byte
	change  func(b []byte) // of the frame, before the checksums are made
	spoil   func(b []byte) // after that
}

var timestamp = []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2}

// frame builds it. The payload is what the sequence number says, so that each
// byte of a connection is known by its place.
func (s seg) frame() []byte {
	b := make([]byte, linkLen, 2000)
	copy(b, "\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x08\x00")
	tcpLen := 20 + len(s.options) + s.n
	if s.v6 {
		b[12], b[13] = 0x86, 0xdd
		b = append(b, 0x60, 0, 0, 0, byte(tcpLen>>8), byte(tcpLen), 6, 64)
		b = append(b, bytes.Repeat([]byte{0xfd}, 32)...)
	} else {
		b = append(b, 0x45, 0, byte((20+tcpLen)>>8), byte(20+tcpLen), 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2)
	}
	l4 := len(b)
	b = binary.BigEndian.AppendUint16(b, s.port)
	b = binary.BigEndian.AppendUint16(b, 80)
	b = binary.BigEndian.AppendUint32(b, s.seq)
	b = append(b, 0, 0, 0, 9, byte(5+len(s.options)/4)<<4, s.flags, 4, 0, 0, 0, 0, 0)
	b = append(b, s.options...)
	for i := range s.n {
		b = append(b, byte((s.seq+uint32(i))*7+uint32(s.port)))
	}
	if s.change != nil {
		s.change(b)
	}
	if !s.v6 {
		b[24], b[25] = 0, 0
		binary.BigEndian.PutUint16(b[24:], csum.Checksum(b[14:34], 0))
		binary.BigEndian.PutUint16(b[l4+16:], csum.Checksum(b[l4:], csum.Sum(b[26:34], uint16(6+len(b)-l4))))
	} else {
		binary.BigEndian.PutUint16(b[l4+16:], csum.Checksum(b[l4:], csum.Sum(b[22:54], uint16(6+len(b)-l4))))
	}
	if s.spoil != nil {
		s.spoil(b)
	}
	return b
}

// merged is what comes out of a Merger: the frames, as given out before the
// flush and in all, cut again.
type merged struct {
	t      testing.TB
	early  int
	frames [][]byte
	whole  []*pkt.Buf // until done
}

func merge(t testing.TB, m *Merger, frames ...[]byte) *merged {
	r := &merged{t: t}
	out := func(p *pkt.Buf) { r.whole = append(r.whole, p) }
	for _, f := range frames {
		m.Add(pkt.From(f), out)
	}
	r.early = len(r.whole)
	m.Flush(out)
	for _, p := range r.whole {
		if p.GSO.Type == pkt.GSONone {
			if p.GSO.SegSize != 0 {
				t.Errorf("a plain frame with a segment size of %d", p.GSO.SegSize)
			}
			r.frames = append(r.frames, append([]byte(nil), p.Bytes()...))
			continue
		}
		if p.Csum != pkt.CsumValid || p.Len() > linkLen+65535 {
			t.Errorf("an aggregate of %d bytes, checksum %v", p.Len(), p.Csum)
		}
		c := p.Clone()
		c.Pull(linkLen)
		c.MarkNetwork()
		c.Push(linkLen)
		if csum.Sum(c.Bytes()[14:34], 0) != 0xffff && c.Bytes()[12] == 8 {
			t.Error("the header checksum of an aggregate is wrong")
		}
		if !Cut(c, func(q *pkt.Buf) {
			r.frames = append(r.frames, append([]byte(nil), q.Bytes()...))
			q.Put()
		}) {
			t.Error("an aggregate cannot be cut")
		}
		c.Put()
	}
	return r
}

func (r *merged) done() {
	for _, p := range r.whole {
		p.Put()
	}
}

// anonymous is the frame without what cutting makes anew: the identifier of a
// packet that nobody may fragment, which means nothing (RFC 6864 §4.1), and
// padding.
func anonymous(f []byte) []byte {
	f = append([]byte(nil), f...)
	if t, k := classify(f); k == plain {
		f = f[:t.end]
		if t.v4 {
			f[18], f[19], f[24], f[25] = 0, 0, 0, 0
		}
	}
	return f
}

func same(a, b [][]byte) bool {
	return slices.EqualFunc(a, b, func(x, y []byte) bool { return bytes.Equal(anonymous(x), anonymous(y)) })
}

// TestMerge: what Cut has made, merged, is what it was.
func TestMerge(t *testing.T) {
	live := pkt.Live()
	payload := make([]byte, 60000)
	rand.NewChaCha8([32]byte{1}).Read(payload)
	for _, v4 := range []bool{true, false} {
		for _, n := range []int{1, 1000, 1001, 2000, 1448 * 10, 60000} {
			p := build(t, v4, true, payload[:n], false)
			b := p.Network()
			if v4 {
				b[33] &^= flagCWR
			} else {
				b[53] &^= flagCWR
			}
			want := append([]byte(nil), p.Bytes()...)
			p.GSO = pkt.GSO{Type: pkt.GSOTCPv4, SegSize: 1000}
			var m Merger
			var got []*pkt.Buf
			if !Cut(p, func(q *pkt.Buf) { m.Add(q, func(q *pkt.Buf) { got = append(got, q) }) }) {
				t.Fatal("not cut")
			}
			p.Put()
			if m.n != 0 {
				t.Errorf("v4 %v, %d bytes: %d aggregates wait although the last segment was pushed", v4, n, m.n)
			}
			pieces := (n + 999) / 1000
			if len(got) != 1 {
				t.Fatalf("v4 %v, %d bytes: %d frames", v4, n, len(got))
			}
			g := got[0]
			l, _ := inspect(want[14:])
			// Its checksum is vouched for, not computed.
			sum := 14 + l.l4 + l.csum
			copy(g.Bytes()[sum:], want[sum:sum+2])
			if v4 {
				// Computed anew: the frame it is compared with had another flag.
				binary.BigEndian.PutUint16(want[24:], binary.BigEndian.Uint16(g.Bytes()[24:]))
			}
			if !bytes.Equal(g.Bytes(), want) {
				t.Errorf("v4 %v, %d bytes: another frame\n%x\n%x", v4, n, g.Bytes()[:70], want[:70])
			}
			if pieces > 1 && (g.GSO.SegSize != 1000 || g.GSO.Type == pkt.GSONone || m.Merged != uint64(pieces) || m.Aggregates != 1) {
				t.Errorf("v4 %v, %d bytes: %+v, %d merged into %d", v4, n, g.GSO, m.Merged, m.Aggregates)
			}
			g.Put()
		}
	}
	if n := pkt.Live() - live; n != 0 {
		t.Errorf("%d buffers leaked", n)
	}
}

// TestNotMerged lists what a second segment may not differ in, and what ends
// an aggregate. Three segments are sent, of which the middle one is special.
func TestNotMerged(t *testing.T) {
	const n = 1000
	at := func(i int, v byte) func([]byte) { return func(b []byte) { b[i] = v } }
	for _, v6 := range []bool{false, true} {
		l4 := 34
		if v6 {
			l4 = 54
		}
		for _, c := range []struct {
			what   string
			second func(s *seg)
			// frames is how many come out of three, early how many of them
			// before the flush.
			frames, early int
			only          string // "4" or "6"
		}{
			{"nothing", func(s *seg) {}, 1, 0, ""},
			{"ECN echo", func(s *seg) { s.flags |= flagECE }, 3, 2, ""},
			{"PSH", func(s *seg) { s.flags |= flagPSH }, 2, 1, ""},
			{"FIN", func(s *seg) { s.flags |= flagFIN }, 3, 2, ""},
			{"SYN", func(s *seg) { s.flags |= 2 }, 3, 2, ""},
			{"RST", func(s *seg) { s.flags |= 4 }, 3, 2, ""},
			{"URG", func(s *seg) { s.flags |= 0x20 }, 3, 2, ""},
			{"CWR", func(s *seg) { s.flags |= flagCWR }, 3, 2, ""},
			{"no ACK", func(s *seg) { s.flags &^= flagACK }, 3, 2, ""},
			{"AE", func(s *seg) { s.change = func(b []byte) { b[l4+12] |= 1 } }, 3, 2, ""},
			{"acknowledgement", func(s *seg) { s.change = at(l4+11, 8) }, 3, 2, ""},
			{"window", func(s *seg) { s.change = at(l4+15, 1) }, 3, 2, ""},
			{"timestamp", func(s *seg) { s.options = slices.Clone(timestamp); s.options[7] = 2 }, 3, 2, ""},
			{"no options", func(s *seg) { s.options = nil }, 3, 2, ""},
			{"gap", func(s *seg) { s.seq++ }, 3, 2, ""},
			{"overlap", func(s *seg) { s.seq-- }, 3, 2, ""},
			{"longer", func(s *seg) { s.n++ }, 3, 2, ""},
			{"shorter", func(s *seg) { s.n-- }, 2, 1, ""}, // the third does not continue it either
			{"no payload", func(s *seg) { s.n = 0 }, 3, 2, ""},
			{"type of service", func(s *seg) { s.change = at(15, 2) }, 3, 2, "4"},
			{"time to live", func(s *seg) { s.change = at(22, 63) }, 3, 2, "4"},
			{"no DF", func(s *seg) { s.change = at(20, 0) }, 3, 2, "4"},
			{"MF", func(s *seg) { s.change = at(20, 0x60) }, 3, 2, "4"},
			{"offset", func(s *seg) { s.change = at(21, 1) }, 3, 2, "4"},
			{"identifier", func(s *seg) { s.change = at(19, 77) }, 1, 0, "4"},
			{"traffic class", func(s *seg) { s.change = at(15, 0x20) }, 3, 2, "6"},
			{"flow label", func(s *seg) { s.change = at(17, 1) }, 3, 2, "6"},
			{"hop limit", func(s *seg) { s.change = at(21, 63) }, 3, 2, "6"},
			{"extension header", func(s *seg) { s.change = at(20, 60) }, 3, 2, "6"},
			{"station", func(s *seg) { s.change = at(11, 9) }, 3, 2, ""},
			{"another connection", func(s *seg) { s.port++ }, 3, 1, ""},
			// These are passed on at once, for the stack to drop, and the
			// others miss the one in the middle.
			{"checksum", func(s *seg) { s.spoil = func(b []byte) { b[len(b)-1]++ } }, 3, 2, ""},
			{"header checksum", func(s *seg) { s.spoil = func(b []byte) { b[19]++ } }, 3, 2, "4"},
			{"padding", func(s *seg) { s.n = 1; s.spoil = nil }, 2, 1, ""},
			{"total length", func(s *seg) { s.spoil = at(17, 0xff) }, 3, 2, "4"},
			{"data offset", func(s *seg) { s.spoil = func(b []byte) { b[l4+12] = 0x40 } }, 3, 2, ""},
		} {
			if c.only == "4" && v6 || c.only == "6" && !v6 {
				continue
			}
			t.Run(fmt.Sprintf("%v/v6=%v", c.what, v6), func(t *testing.T) {
				live := pkt.Live()
				var frames [][]byte
				for i := range 3 {
					s := seg{v6: v6, port: 1000, seq: uint32(1e9 + i*n), n: n, flags: flagACK, options: timestamp}
					if i == 1 {
						c.second(&s)
					}
					frames = append(frames, s.frame())
				}
				var m Merger
				r := merge(t, &m, frames...)
				if len(r.whole) != c.frames || r.early != c.early {
					t.Errorf("%d frames, %d before the flush; want %d and %d", len(r.whole), r.early, c.frames, c.early)
				}
				if !same(r.frames, frames) {
					if c.what == "checksum" || c.what == "header checksum" {
						frames[0], frames[1] = frames[1], frames[0]
					}
					if !same(r.frames, frames) {
						t.Error("other frames, or in another order")
					}
				}
				r.done()
				if n := pkt.Live() - live; n != 0 {
					t.Errorf("%d buffers leaked", n)
				}
			})
		}
	}
}

// TestMergeLimits: no aggregate is longer than an IP packet, and no more are
// open than there is room for.
func TestMergeLimits(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		var frames [][]byte
		for i := range 100 {
			frames = append(frames, seg{v6: v6, port: 1, seq: uint32(i * 1448), n: 1448, flags: flagACK}.frame())
		}
		var m Merger
		r := merge(t, &m, frames...)
		if len(r.whole) != 3 || !same(r.frames, frames) {
			t.Errorf("%d aggregates of 100 segments", len(r.whole))
		}
		r.done()

		frames = nil
		for i := range 4 * maxOpen {
			frames = append(frames, seg{v6: v6, port: uint16(i % (maxOpen + 1)), seq: uint32(i), n: 1, flags: flagACK}.frame())
		}
		r = merge(t, &m, frames...)
		if len(r.whole)-r.early != maxOpen {
			t.Errorf("%d wait for the flush", len(r.whole)-r.early)
		}
		r.done()
	}
}

// TestMergeAllocs: in the steady state neither cutting nor merging allocates.
func TestMergeAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes pools forget")
	}
	p := build(t, true, true, make([]byte, 40000), false)
	defer p.Put()
	p.Network()[33] &^= flagCWR
	p.GSO = pkt.GSO{Type: pkt.GSOTCPv4, SegSize: 1448}
	var m Merger
	total := 0
	count := func(q *pkt.Buf) { total += q.Len(); q.Put() }
	add := func(q *pkt.Buf) { m.Add(q, count) }
	if n := testing.AllocsPerRun(200, func() { Cut(p, add) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if total != 201*p.Len() {
		t.Errorf("%d bytes came out", total)
	}
}

// FuzzMerge sends segments of several connections, well-formed and not, through
// a Merger. Whatever comes out, cut again, has to be what went in: the same
// frames, those of each connection in their order.
func FuzzMerge(f *testing.F) {
	f.Add(bytes.Repeat([]byte{0, 10, 0, 0}, 20))
	f.Add([]byte{0, 10, 0, 0, 1, 10, 0, 0, 0, 10, 0, 0, 0, 10, 1, 8, 0, 10, 0, 0, 1, 10, 0, 0})
	f.Add([]byte("801\x0e801\x0eC"))
	f.Add([]byte("0\n0IIIIII\n00"))
	f.Add([]byte{0, 10, 0, 0, 0, 10, 2, 20, 0, 10, 0, 0, 0, 9, 0, 0, 0, 10, 3, 17, 0, 10, 0, 0, 8, 10, 0, 0, 8, 10, 0, 0})
	f.Fuzz(func(t *testing.T, ops []byte) {
		if len(ops) > 4000 {
			return
		}
		live := pkt.Live()
		var next [16]uint32
		var frames [][]byte
		for ; len(ops) >= 4; ops = ops[4:] {
			// connection and family, length, what is special, where
			c, special, where := ops[0]&15, ops[2], int(ops[3])
			s := seg{v6: c&8 != 0, port: uint16(c), seq: next[c], n: int(ops[1]) * 6, flags: flagACK, options: timestamp}
			change := func(b []byte) { b[where%len(b)] ^= special }
			switch special % 8 {
			case 0:
			case 1:
				s.change = change
			case 2:
				s.spoil = change
			case 3:
				s.flags = byte(where)
			case 4:
				s.seq += uint32(int8(where))
			case 5:
				s.options = nil
			case 6:
				s.spoil = func(b []byte) {}
			case 7:
				s.flags |= flagPSH
			}
			b := s.frame()
			if special%8 == 6 {
				b = append(b, make([]byte, where)...) // padding
			}
			if special%8 != 4 {
				next[c] += uint32(s.n)
			}
			frames = append(frames, b)
		}
		var m Merger
		r := merge(t, &m, frames...)
		compareByConnection(t, r.frames, frames)
		r.done()
		if n := pkt.Live() - live; n != 0 || m.n != 0 {
			t.Errorf("%d buffers leaked, %d aggregates left", n, m.n)
		}
	})
}

// compareByConnection compares the frames of each connection in their order,
// and those that are none's as a set.
func compareByConnection(t *testing.T, got, want [][]byte) {
	t.Helper()
	byConnection := func(frames [][]byte) map[string][]string {
		m := map[string][]string{}
		for _, f := range frames {
			key := ""
			if h, k := classify(f); k == plain {
				p := pkt.From(f)
				if verify(p, &h) {
					key = string(f[h.addrs : h.ports+4])
				}
				p.Put()
			}
			m[key] = append(m[key], string(anonymous(f)))
		}
		slices.Sort(m[""])
		return m
	}
	g, w := byConnection(got), byConnection(want)
	for key := range w {
		if !slices.Equal(g[key], w[key]) {
			t.Errorf("connection %x: %d frames went in, others or %d came out", key, len(w[key]), len(g[key]))
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d frames went in, %d came out", len(want), len(got))
	}
}
