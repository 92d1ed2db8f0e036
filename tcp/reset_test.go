package tcp

import "testing"

func TestResetFor(t *testing.T) {
	three := [2][]byte{[]byte("abc")}
	for _, c := range []struct {
		name string
		in   Segment
		want string // "" for no answer
	}{
		{"SYN", Segment{Seq: 100, Flags: FlagSYN}, "R. 0:0(0) ack 101 win 0"},
		{"SYN at the last number", Segment{Seq: 0xffffffff, Flags: FlagSYN}, "R. 0:0(0) ack 0 win 0"},
		{"SYN with data and FIN", Segment{Seq: 100, Flags: FlagSYN | FlagFIN, Payload: three}, "R. 0:0(0) ack 105 win 0"},
		{"data without ACK", Segment{Seq: 100, Flags: FlagPSH, Payload: three}, "R. 0:0(0) ack 103 win 0"},
		{"no flags", Segment{Seq: 100}, "R. 0:0(0) ack 100 win 0"},
		{"FIN without ACK", Segment{Seq: 100, Flags: FlagFIN}, "R. 0:0(0) ack 101 win 0"},
		{"ACK", Segment{Seq: 100, Ack: 7, Flags: FlagACK}, "R 7:7(0) win 0"},
		{"SYN-ACK", Segment{Seq: 100, Ack: 7, Flags: FlagSYN | FlagACK}, "R 7:7(0) win 0"},
		{"data", Segment{Seq: 100, Ack: 7, Flags: FlagPSH | FlagACK, Payload: three}, "R 7:7(0) win 0"},
		{"ACK of 0", Segment{Seq: 100, Ack: 0, Flags: FlagACK}, "R 0:0(0) win 0"},
		{"ACK field without the flag", Segment{Seq: 100, Ack: 7, Flags: FlagPSH}, "R. 0:0(0) ack 100 win 0"},
		{"RST", Segment{Seq: 100, Flags: FlagRST}, ""},
		{"RST and ACK", Segment{Seq: 100, Ack: 7, Flags: FlagRST | FlagACK}, ""},
		{"RST and SYN", Segment{Seq: 100, Flags: FlagRST | FlagSYN}, ""},
	} {
		c.in.SrcPort, c.in.DstPort = 1000, 80
		c.in.Options, c.in.Urgent, c.in.ECN, c.in.Segs = Options{HasTS: true, TSVal: 5, MSS: 9}, 3, CE, 2
		before := Segment{SrcPort: 5, Window: 9, Segs: 3, Options: Options{MSS: 1}}
		out := before
		ok := ResetFor(&c.in, &out)
		if c.want == "" {
			if ok || !sameSegment(&out, &before) {
				t.Errorf("%s: answered with %v", c.name, &out)
			}
			continue
		}
		if !ok || out.String() != c.want {
			t.Errorf("%s: %v %q, want %q", c.name, ok, out.String(), c.want)
		}
		if out.SrcPort != 80 || out.DstPort != 1000 {
			t.Errorf("%s: ports %d > %d", c.name, out.SrcPort, out.DstPort)
		}
		if again := (Segment{}); ResetFor(&out, &again) {
			t.Errorf("%s: the reset is itself answered", c.name)
		}
	}
}
