package tcp

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/tapstack/tapstack/internal/seq"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFlagsString(t *testing.T) {
	for f, want := range map[Flags]string{
		0:                                  "-",
		FlagSYN:                            "S",
		FlagSYN | FlagACK:                  "S.",
		FlagPSH | FlagACK:                  "P.",
		FlagFIN | FlagACK:                  "F.",
		FlagFIN | FlagPSH | FlagACK:        "FP.",
		FlagRST:                            "R",
		FlagACK:                            ".",
		FlagSYN | FlagECE | FlagCWR:        "SEW",
		FlagACK | FlagURG:                  ".U",
		flagMask:                           "FSRP.UEWA",
		0xfe00:                             "-",
		FlagSYN | FlagACK | FlagAE | 1<<12: "S.A",
	} {
		if got := f.String(); got != want {
			t.Errorf("%#x: %q, want %q", uint16(f), got, want)
		}
	}
}

// The layout, byte by byte, of one segment with a different value in each field.
func TestParseFields(t *testing.T) {
	b := unhex(t, "1234 5678 9abcdef0 0fedcba9 5118 4321 ffff 8765 6869")
	s := Segment{Segs: 9, SegSize: 9, ECN: CE} // overwritten
	if d := Parse(&s, b); d != DropNone {
		t.Fatal(d)
	}
	if s.SrcPort != 0x1234 || s.DstPort != 0x5678 || s.Seq != 0x9abcdef0 || s.Ack != 0x0fedcba9 ||
		s.Flags != FlagAE|FlagPSH|FlagACK || s.Window != 0x4321 || s.Urgent != 0x8765 ||
		string(s.Payload[0]) != "hi" || s.Payload[1] != nil || s.Segs != 0 || s.SegSize != 0 || s.ECN != 0 {
		t.Errorf("%+v", s)
	}
	if &s.Payload[0][0] != &b[20] {
		t.Error("the payload was copied")
	}
}

func TestParseStructure(t *testing.T) {
	head := "0007 0008 00000001 00000002 5010 0100 0000 0000"
	for _, c := range []struct {
		name, hex string
		want      Drop
	}{
		{"nothing", "", DropShort},
		// These two crashed PyTCP.
		{"12 bytes", head[:27], DropShort},
		{"13 bytes", head[:27] + "50", DropShort},
		{"19 bytes", head[:len(head)-2], DropShort},
		{"bare header", head, DropNone},
		{"reserved bits set are ignored", strings.Replace(head, "5010", "5e10", 1), DropNone},
		{"offset 0", strings.Replace(head, "5010", "0010", 1), DropBadDataOffset},
		{"offset 4", strings.Replace(head, "5010", "4010", 1), DropBadDataOffset},
		{"offset beyond the end", strings.Replace(head, "5010", "6010", 1), DropShort},
		{"offset 15 beyond the end", strings.Replace(head, "5010", "f010", 1) + strings.Repeat("01", 39), DropShort},
		{"offset 15", strings.Replace(head, "5010", "f010", 1) + strings.Repeat("01", 40), DropNone},
		{"no flags", strings.Replace(head, "5010", "5000", 1), DropNone},
		{"source port 0", strings.Replace(head, "0007", "0000", 1), DropPortZero},
		{"RST from source port 0", strings.Replace(strings.Replace(head, "0007", "0000", 1), "5010", "5014", 1), DropNone},
		{"destination port 0", strings.Replace(head, "0008", "0000", 1), DropNone},
		{"SYN at the last number", "0007 0008 ffffffff 00000000 5002 0100 0000 0000", DropNone},
	} {
		var s Segment
		if got := Parse(&s, unhex(t, c.hex)); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestSegmentLen(t *testing.T) {
	two := [2][]byte{[]byte("abc"), []byte("de")}
	for _, c := range []struct {
		s    Segment
		want int
	}{
		{Segment{}, 0},
		{Segment{Flags: FlagACK | FlagRST | FlagPSH}, 0},
		{Segment{Flags: FlagSYN}, 1},
		{Segment{Flags: FlagFIN}, 1},
		{Segment{Flags: FlagSYN | FlagFIN, Payload: two}, 7},
		{Segment{Flags: FlagACK, Payload: two}, 5},
	} {
		c.s.Seq = 0xfffffffe
		if got := c.s.Len(); got != c.want {
			t.Errorf("%v: %d, want %d", &c.s, got, c.want)
		}
		if got, want := c.s.End(), seq.Num(0xfffffffe).Add(c.want); got != want {
			t.Errorf("%v: ends at %d, want %d", &c.s, got, want)
		}
	}
}

func TestSegmentString(t *testing.T) {
	s := Segment{Seq: 100, Ack: 7, Flags: FlagPSH | FlagACK, Window: 512, Payload: [2][]byte{[]byte("0123456"), []byte("789")},
		Options: Options{HasTS: true, TSVal: 1, TSEcr: 2, NumSACK: 2, SACK: [4]SACKBlock{{1, 2}, {3, 4}}}}
	if got, want := s.String(), "P. 100:110(10) ack 7 win 512 <TS val 1 ecr 2,sack 1:2 3:4>"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	s = Segment{Flags: FlagSYN | FlagURG, Urgent: 3, Options: Options{MSS: 1460, SACKPermitted: true, HasWScale: true, WScale: 7}}
	if got, want := s.String(), "SU 0:0(0) win 0 urg 3 <mss 1460,sackOK,wscale 7>"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// wire returns the segment's header and payload as they would be sent.
func wire(s *Segment) []byte {
	b := make([]byte, s.HeaderLen(), s.HeaderLen()+s.PayloadLen())
	for i := range b {
		b[i] = 0xa5 // PutHeader writes every byte
	}
	s.PutHeader(b)
	return append(append(b, s.Payload[0]...), s.Payload[1]...)
}

// randomSegment returns a segment of which every field survives the wire.
func randomSegment(rng *rand.Rand) Segment {
	s := Segment{
		SrcPort: uint16(1 + rng.IntN(65535)), DstPort: uint16(rng.Uint32()),
		Seq: seq.Num(rng.Uint32()), Ack: seq.Num(rng.Uint32()),
		Flags: Flags(rng.Uint32()) & flagMask, Window: uint16(rng.Uint32()), Urgent: uint16(rng.Uint32()),
	}
	o := &s.Options
	if rng.IntN(2) == 0 {
		o.HasTS, o.TSVal, o.TSEcr = true, rng.Uint32(), rng.Uint32()
	}
	if s.Flags&FlagSYN != 0 {
		o.MSS = uint16(rng.Uint32()) & uint16(-rng.IntN(2))
		o.SACKPermitted = rng.IntN(2) == 0
		if o.HasWScale = rng.IntN(2) == 0; o.HasWScale {
			o.WScale = int8(rng.IntN(MaxWScale + 1))
		}
	} else {
		o.NumSACK = rng.IntN(5)
		if o.HasTS {
			o.NumSACK = min(o.NumSACK, 3)
		}
		for i := range o.NumSACK {
			o.SACK[i] = SACKBlock{seq.Num(rng.Uint32()), seq.Num(rng.Uint32())}
		}
	}
	s.Payload[0] = make([]byte, rng.IntN(20))
	for i := range s.Payload[0] {
		s.Payload[0][i] = byte(rng.Uint32())
	}
	return s
}

func sameSegment(a, b *Segment) bool {
	x, y := *a, *b
	x.Payload, y.Payload = [2][]byte{}, [2][]byte{}
	return fields(x) == fields(y) && bytes.Equal(a.Payload[0], b.Payload[0])
}

// fields is the part of a segment that == can compare.
func fields(s Segment) any {
	return [...]any{s.SrcPort, s.DstPort, s.Seq, s.Ack, s.Flags, s.Window, s.Urgent, s.Options, s.Segs, s.SegSize, s.ECN}
}

func TestRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 3000 {
		in := randomSegment(rng)
		var out Segment
		if d := Parse(&out, wire(&in)); d != DropNone {
			t.Fatalf("%v: %v", &in, d)
		}
		if !sameSegment(&in, &out) {
			t.Fatalf("sent     %v\nreceived %v", &in, &out)
		}
	}
}

// compareGopacket decodes b with gopacket too and compares all it makes of it.
func compareGopacket(t *testing.T, s *Segment, b []byte) {
	t.Helper()
	var g layers.TCP
	df := &truncation{}
	if err := g.DecodeFromBytes(b, df); err != nil || df.truncated {
		return
	}
	want := Segment{
		SrcPort: uint16(g.SrcPort), DstPort: uint16(g.DstPort), Seq: seq.Num(g.Seq), Ack: seq.Num(g.Ack),
		Window: g.Window, Urgent: g.Urgent,
	}
	for i, set := range []bool{g.FIN, g.SYN, g.RST, g.PSH, g.ACK, g.URG, g.ECE, g.CWR, g.NS} {
		if set {
			want.Flags |= 1 << i
		}
	}
	o := &want.Options
	for _, opt := range g.Options {
		v := opt.OptionData
		switch {
		case opt.OptionType == layers.TCPOptionKindMSS && len(v) == 2 && g.SYN:
			o.MSS = binary.BigEndian.Uint16(v)
		case opt.OptionType == layers.TCPOptionKindWindowScale && len(v) == 1 && g.SYN:
			o.HasWScale, o.WScale = true, int8(min(v[0], 14))
		case opt.OptionType == layers.TCPOptionKindSACKPermitted && len(v) == 0 && g.SYN:
			o.SACKPermitted = true
		case opt.OptionType == layers.TCPOptionKindTimestamps && len(v) == 8:
			o.HasTS, o.TSVal, o.TSEcr = true, binary.BigEndian.Uint32(v), binary.BigEndian.Uint32(v[4:])
		case opt.OptionType == layers.TCPOptionKindSACK && len(v) > 0 && len(v)%8 == 0 && !g.SYN:
			o.NumSACK, o.SACK = len(v)/8, [4]SACKBlock{}
			for i := range o.NumSACK {
				o.SACK[i] = SACKBlock{seq.Num(binary.BigEndian.Uint32(v[8*i:])), seq.Num(binary.BigEndian.Uint32(v[8*i+4:]))}
			}
		}
	}
	want.Payload[0] = g.Payload
	if !sameSegment(s, &want) {
		t.Fatalf("%x\n     got %v\ngopacket %v", b, s, &want)
	}
}

type truncation struct{ truncated bool }

func (d *truncation) SetTruncated() { d.truncated = true }

func TestGopacketReadsWhatWeWrite(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 1000 {
		s := randomSegment(rng)
		b := wire(&s)
		var g layers.TCP
		if err := g.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil {
			t.Fatalf("%v: %v", &s, err)
		}
		compareGopacket(t, &s, b)
	}
}

func TestWeReadWhatGopacketWrites(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	option := func(kind layers.TCPOptionKind, n int) layers.TCPOption {
		v := make([]byte, n)
		for i := range v {
			v[i] = byte(rng.Uint32())
		}
		return layers.TCPOption{OptionType: kind, OptionLength: uint8(n + 2), OptionData: v}
	}
	for range 1000 {
		g := layers.TCP{
			SrcPort: layers.TCPPort(1 + rng.IntN(65535)), DstPort: layers.TCPPort(rng.Uint32()), Seq: rng.Uint32(), Ack: rng.Uint32(),
			FIN: rng.IntN(2) == 0, SYN: rng.IntN(2) == 0, RST: rng.IntN(2) == 0, PSH: rng.IntN(2) == 0, ACK: rng.IntN(2) == 0,
			URG: rng.IntN(2) == 0, ECE: rng.IntN(2) == 0, CWR: rng.IntN(2) == 0, NS: rng.IntN(2) == 0,
			Window: uint16(rng.Uint32()), Urgent: uint16(rng.Uint32()),
		}
		room := 40
		for {
			o := []layers.TCPOption{
				option(layers.TCPOptionKindMSS, 2), option(layers.TCPOptionKindWindowScale, 1), option(layers.TCPOptionKindSACKPermitted, 0),
				option(layers.TCPOptionKindTimestamps, 8), option(layers.TCPOptionKindSACK, 8*(1+rng.IntN(4))), option(254, rng.IntN(9)),
				{OptionType: layers.TCPOptionKindNop, OptionLength: 1},
			}[rng.IntN(7)]
			if room -= int(o.OptionLength); room < 0 {
				break
			}
			g.Options = append(g.Options, o)
		}
		buf := gopacket.NewSerializeBuffer()
		if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true}, &g, gopacket.Payload("hello")); err != nil {
			t.Fatal(err)
		}
		var s Segment
		if d := Parse(&s, buf.Bytes()); d != DropNone {
			t.Fatalf("%x: %v", buf.Bytes(), d)
		}
		compareGopacket(t, &s, buf.Bytes())
	}
}

func FuzzParse(f *testing.F) {
	rng := rand.New(rand.NewPCG(9, 10))
	for range 20 {
		s := randomSegment(rng)
		f.Add(wire(&s))
	}
	f.Add([]byte("\x00\x07\x00\x08\x00\x00\x00\x01\x00\x00\x00\x02\x60\x02\x01\x00\x00\x00\x00\x00\x01\x01\x01\x02"))
	f.Add([]byte("\x00\x07\x00\x08\x00\x00\x00\x01\x00\x00\x00\x02\x60\x02\x01\x00\x00\x00\x00\x00\x01\x01\x02\x02"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s Segment
		d := Parse(&s, b)
		if d != DropNone {
			if d != DropShort && d != DropBadDataOffset && d != DropPortZero {
				t.Fatalf("unexpected %v", d)
			}
			return
		}
		if n := int(b[12]>>4) * 4; len(s.Payload[0]) != len(b)-n {
			t.Fatalf("payload of %d bytes behind a header of %d in %d", len(s.Payload[0]), n, len(b))
		}
		o := &s.Options
		if o.NumSACK < 0 || o.NumSACK > 4 || o.WScale < 0 || o.WScale > MaxWScale {
			t.Fatalf("%+v", o)
		}
		if n := s.HeaderLen(); n%4 != 0 || n < MinHeaderLen || n > MaxHeaderLen {
			t.Fatalf("HeaderLen %d of %v", n, &s)
		}
		// Whatever was understood fits into a header again.
		var again Segment
		if d := Parse(&again, wire(&s)); d != DropNone || !sameSegment(&s, &again) {
			t.Fatalf("first %v\nagain %v (%v)", &s, &again, d)
		}
		compareGopacket(t, &s, b)
		_ = s.String()
	})
}

func TestParseAndPutHeaderDoNotAllocate(t *testing.T) {
	in := Segment{SrcPort: 1, DstPort: 2, Flags: FlagACK, Payload: [2][]byte{make([]byte, 1000)},
		Options: Options{HasTS: true, NumSACK: 3}}
	b := wire(&in)
	var out, rst Segment
	n := testing.AllocsPerRun(100, func() {
		Parse(&out, b)
		out.PutHeader(b)
		ResetFor(&out, &rst)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
