package tcp

import (
	"encoding/binary"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/seq"
	"github.com/tapstack/tapstack/tcp/cc"
)

// FuzzConn throws arbitrary segments, calls and times at a core. The input is
// a program: a byte of operation, then its operands. Numbers of segments are
// taken near the interesting points of the connection, or the input would
// hardly ever hit the window.
func FuzzConn(f *testing.F) {
	f.Add([]byte{0}, false)
	// SYN-ACK, text, FIN; write, close, time.
	f.Add([]byte{0, 0x12, 0, 0, 1, 0, 0, 1, 255, 255, 3, 0, 0x10, 1, 0, 1, 0, 200, 1, 255, 255, 0, 1, 100, 4, 2, 50}, false)
	f.Add([]byte{0, 0x10, 1, 0, 1, 0, 0, 0, 255, 255, 0, 1, 200, 1, 200, 3, 100, 5, 6}, true)
	f.Add([]byte{0, 0x11, 1, 0, 1, 0, 50, 0, 0, 0, 0, 1, 255, 5, 2, 255, 2, 255, 2, 255, 0, 0x10, 1, 0, 1, 0, 0, 0, 16, 0, 0}, true)
	// A flight, and blocks in an ACK of nothing.
	f.Add([]byte{1, 200, 0, 0x10, 1, 0, 1, 0, 0, 0, 255, 255, 0xe0, 10, 20, 40, 20, 70, 20, 5, 5}, true)
	f.Fuzz(func(t *testing.T, prog []byte, passive bool) {
		fuzzNaps(t, prog, passive)
	})
}

// fuzzNaps runs a program with naps and without.
func fuzzNaps(t *testing.T, prog []byte, passive bool) {
	want, got := fuzzConn(t, prog, passive, false), fuzzConn(t, prog, passive, true)
	for i := range min(len(want), len(got)) {
		if want[i] != got[i] {
			t.Fatalf("step %d with naps:\n%+v\nwithout:\n%+v", i, got[i], want[i])
		}
	}
	if len(want) != len(got) {
		t.Fatalf("%d steps with naps, %d without", len(got), len(want))
	}
}

// fuzzSaid is what a connection says after a call.
type fuzzSaid struct {
	op                 byte
	info               Info
	deadline           mono.Time
	events             Events
	drop               Drop
	readable, writable int
	queued             Queued
	eof, urgent        bool
	segment            string // that Output made
}

// fuzzConn runs a program and returns what the connection said and sent; with nap
// it is put to sleep whenever it may be.
func fuzzConn(t *testing.T, prog []byte, passive, nap bool) (said []fuzzSaid) {
	now := mono.Time(time.Second)
	cfg := &Config{LocalPort: 1, RemotePort: 2, ISS: 0xffffff00, MSS: 1000, RcvBuf: 20_000, SndBuf: 20_000,
		ECN: ECN(len(prog) % int(numECN)), MTUProbing: MTUProbing(len(prog) / int(numECN) % 3)}
	const irs = seq.Num(0xfffffff0)
	var c *Conn
	if passive {
		r := NewSynRequest(cfg, now, &Segment{Seq: irs, Flags: FlagSYN | ecnBits, Window: 1000,
			Options: Options{MSS: 500, HasWScale: true, WScale: 3, SACKPermitted: true, HasTS: true, TSVal: 1}})
		var s Segment
		r.Output(now, &s)
		ack := &Segment{Seq: irs + 1, Ack: cfg.ISS + 1, Flags: FlagACK, Window: 1000}
		if v, _ := r.Input(now, ack); v != VerdictEstablish {
			t.Fatal("not established")
		}
		c = r.Conn(cfg, now)
		c.Input(now, ack)
	} else {
		c = NewActive(cfg, now)
		c.irs = irs
	}
	next := func(n int) []byte {
		b := make([]byte, n)
		k := copy(b, prog)
		prog = prog[k:]
		return b
	}
	var last fuzzSaid // what is set during a call
	check := func(op byte) {
		if err := c.invariants(); err != nil {
			t.Fatalf("operation %d: %v", op, err)
		}
		if nap {
			c.Trim(now)
			if err := c.invariants(); err != nil {
				t.Fatalf("operation %d, after Trim: %v", op, err)
			}
		}
		last.op, last.info, last.deadline = op, c.InfoAt(now), c.Deadline()
		last.readable, last.writable, last.queued, last.eof, last.urgent = c.Readable(), c.Writable(), c.Queued(), c.EOF(), c.Urgent()
		said = append(said, last)
		last = fuzzSaid{}
	}
	payload := make([]byte, 1<<16)
	for n := 0; len(prog) > 0 && n < 500; n++ {
		op := next(1)[0]
		if op >= 240 {
			if err := c.SetCongestion(now, cc.Names()[int(op)%len(cc.Names())]); err != nil {
				t.Fatal(err)
			}
		}
		switch op % 10 {
		default: // a segment arrives
			b := next(10)
			s := &Segment{Flags: Flags(b[0]), Window: binary.BigEndian.Uint16(b[7:])}
			off := int(int8(b[2])) << (b[1] >> 4 & 15)
			switch b[1] & 3 {
			case 0:
				s.Seq = irs.Add(off)
			case 1:
				s.Seq = c.rcvNxt.Add(off)
			case 2:
				s.Seq = c.rcvAdv.Add(off)
			case 3:
				s.Seq = seq.Num(binary.BigEndian.Uint32(b[1:]))
			}
			off = int(int8(b[4])) << (b[3] >> 4 & 15)
			switch b[3] & 3 {
			case 0:
				s.Ack = cfg.ISS.Add(off)
			case 1:
				s.Ack = c.sndUna.Add(off)
			case 2:
				s.Ack = c.sndNxt.Add(off)
			case 3:
				s.Ack = seq.Num(binary.BigEndian.Uint32(b[3:]))
			}
			s.Payload[0] = payload[:int(b[5])<<(b[6]&7)]
			s.Segs = int(b[6] >> 4)
			s.Urgent = uint16(b[5])<<(b[1]&7) | uint16(b[6])
			s.ECN = Codepoint(b[6] >> 2 & 3)
			s.Flags |= aceFlags(b[6] >> 5)
			s.Options.parse(next(int(b[9]&31)), s.Flags&FlagSYN != 0)
			if b[9]&32 != 0 && s.Flags&FlagSYN == 0 { // blocks that may well be in flight
				s.Options.NumSACK = int(b[9] >> 6)
				for k := range s.Options.NumSACK {
					v := next(2)
					left := c.sndUna.Add(int(int8(v[0])) * 100)
					s.Options.SACK[k] = SACKBlock{left, left.Add(int(int8(v[1])) * 50)}
				}
			}
			ev, d := c.Input(now, s)
			if d >= NumDrops {
				t.Fatalf("drop %d", d)
			}
			last.events, last.drop = ev, d
			check(op)
			if ev&EvOutput == 0 {
				if err := c.settled(); err != nil {
					t.Fatalf("without EvOutput: %v", err)
				}
			}
		case 1:
			v := next(2)
			n, err := c.Send(payload[:int(v[0])*64], SendFlags(v[1]&3))
			if n == 0 && err == nil && c.state == Closed {
				t.Fatal("write to a closed connection")
			}
		case 2:
			now = now.Add(time.Duration(next(1)[0]) * 50 * time.Millisecond)
		case 3:
			v := next(2)
			switch {
			case v[1]&7 == 7:
				c.ReadUrgent(payload[:1], v[1]&8 != 0)
			default:
				had, flags := c.Readable(), RecvFlags(v[1]&3)
				n, err := c.Recv(payload[:int(v[0])*64+1], flags)
				if (n == 0) == (err == nil) || n > had || flags == 0 && n == 0 && had > 0 {
					t.Fatalf("read %d of %d, %v", n, had, err)
				}
			}
		case 4:
			c.CloseWrite(now)
		case 5:
			if d := c.Deadline(); d != 0 {
				now = max(now, d)
				c.Expire(now)
				if c.Deadline() == d {
					t.Fatal("deadline stays")
				}
			}
		case 6:
			switch next(1)[0] % 10 {
			case 0:
				c.Close(now)
			case 1:
				c.Abort(now)
			case 2:
				c.HardError(now, syscall.EHOSTUNREACH)
			case 3:
				c.TooBig(now, c.sndUna, int(next(1)[0])*8)
			case 4:
				c.CloseRead()
			case 5:
				c.TimeWait(now)
			case 6, 7, 8:
				v := next(3)
				c.SetKnob(now, Knob(v[0])%NumKnobs, int(int8(v[1]))<<(v[2]&15))
			case 9:
				c.SetPathMTU(int(next(1)[0]) * 4)
			}
		case 7:
			// Output lags behind.
			continue
		}
		check(op)
		c.Expire(now)
		check(op)
		for k := 0; ; k++ {
			if k > 1000 {
				t.Fatal("Output never ends")
			}
			var s Segment
			if !c.Output(now, &s, 3000) {
				break
			}
			if s.HeaderLen() > MaxHeaderLen || s.PayloadLen() > 3000 {
				t.Fatalf("segment %v", &s)
			}
			if p := s.PayloadLen(); p > 0 && (s.SegSize <= 0 || min(s.SegSize, p)+s.HeaderLen() > 1020) {
				t.Fatalf("segment of %d cut at %d with header %d", p, s.SegSize, s.HeaderLen())
			}
			b := make([]byte, s.HeaderLen())
			s.PutHeader(b)
			last.segment = fmt.Sprintf("%x %d %d %v", b, s.PayloadLen(), s.SegSize, s.ECN)
			check(op)
		}
		if err := c.settled(); err != nil {
			t.Fatalf("operation %d: %v", op, err)
		}
		if c.rcv.Cap() > 64<<10 || c.snd.Cap() > 64<<10 || cap(c.ooo.ranges) > 4*maxRanges {
			t.Fatalf("memory %d %d %d", c.rcv.Cap(), c.snd.Cap(), cap(c.ooo.ranges))
		}
		c.Info()
	}
	return said
}
