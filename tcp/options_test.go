package tcp

import (
	"fmt"
	"testing"
)

func TestOptionsOnTheWire(t *testing.T) {
	// What Linux sends; the first two are a client's SYN with and without
	// net.ipv4.tcp_timestamps.
	for _, c := range []struct {
		name  string
		flags Flags
		o     Options
		want  string
	}{
		{"SYN of Linux", FlagSYN, Options{MSS: 1460, SACKPermitted: true, HasTS: true, TSVal: 0x01020304, HasWScale: true, WScale: 7},
			"020405b4 0402 080a 01020304 00000000 01 030307"},
		{"SYN without timestamps", FlagSYN, Options{MSS: 1460, SACKPermitted: true, HasWScale: true, WScale: 7},
			"020405b4 01010402 01030307"},
		{"SYN without SACK", FlagSYN | FlagACK, Options{MSS: 536, HasTS: true, TSVal: 1, TSEcr: 2},
			"02040218 0101 080a 00000001 00000002"},
		{"SYN with a scale of 0", FlagSYN, Options{HasWScale: true}, "01030300"},
		{"SYN with a scale too large", FlagSYN, Options{HasWScale: true, WScale: 127}, "0103030e"},
		{"SYN with a negative scale", FlagSYN, Options{HasWScale: true, WScale: -1}, "01030300"},
		{"SYN with nothing", FlagSYN, Options{}, ""},
		{"SYN has no SACK blocks", FlagSYN, Options{NumSACK: 2}, ""},
		{"others have none of the SYN's", FlagACK, Options{MSS: 1460, SACKPermitted: true, HasWScale: true}, ""},
		{"timestamps", FlagACK, Options{HasTS: true, TSVal: 0xfffffffe, TSEcr: 9}, "0101 080a fffffffe 00000009"},
		{"one block", FlagACK, Options{NumSACK: 1, SACK: [4]SACKBlock{{1, 2}}}, "0101 050a 00000001 00000002"},
		{"four blocks", FlagACK, Options{NumSACK: 4, SACK: [4]SACKBlock{{1, 2}, {3, 4}, {5, 6}, {7, 8}}},
			"0101 0522 00000001 00000002 00000003 00000004 00000005 00000006 00000007 00000008"},
		{"three of four beside timestamps", FlagACK, Options{HasTS: true, NumSACK: 4, SACK: [4]SACKBlock{{1, 2}, {3, 4}, {5, 6}, {7, 8}}},
			"0101 080a 00000000 00000000 0101 051a 00000001 00000002 00000003 00000004 00000005 00000006"},
		{"SYN with a user timeout", FlagSYN, Options{MSS: 1460, SACKPermitted: true, HasTS: true, HasWScale: true, UserTimeout: 0x8002},
			"020405b4 0402 080a 00000000 00000000 1c04 8002 01 030300"},
		{"two of three blocks beside timestamps and user timeout", FlagACK,
			Options{HasTS: true, UserTimeout: 100, NumSACK: 3, SACK: [4]SACKBlock{{1, 2}, {3, 4}, {5, 6}}},
			"0101 080a 00000000 00000000 1c04 0064 0101 0512 00000001 00000002 00000003 00000004"},
		{"four blocks beside a user timeout", FlagACK,
			Options{UserTimeout: 100, NumSACK: 4, SACK: [4]SACKBlock{{1, 2}, {3, 4}, {5, 6}, {7, 8}}},
			"1c04 0064 0101 0522 00000001 00000002 00000003 00000004 00000005 00000006 00000007 00000008"},
		{"a count beyond the array", FlagACK, Options{NumSACK: 9, HasTS: true},
			"0101 080a 00000000 00000000 0101 051a 00000000 00000000 00000000 00000000 00000000 00000000"},
		{"AccECN, whole", FlagACK, Options{HasTS: true, AccECN: AccECN{Present: true, Fields: 3, Bytes: [3]uint32{0x010203, 0x1ffffff, 9}}},
			"0101 080a 00000000 00000000 01 ac0b 010203 ffffff 000009"},
		{"AccECN, two fields", FlagACK, Options{AccECN: AccECN{Present: true, ECT1: true, Fields: 2, Bytes: [3]uint32{1, 2, 3}}}, "ae08 000001 000002"},
		{"AccECN, one field", FlagACK, Options{AccECN: AccECN{Present: true, Fields: 1, Bytes: [3]uint32{1}}}, "010101 ac05 000001"},
		{"AccECN, empty", FlagACK, Options{AccECN: AccECN{Present: true, ECT1: true}}, "0101 ae02"},
		{"AccECN of more fields than there are", FlagACK, Options{AccECN: AccECN{Present: true, Fields: 9}}, "01 ac0b 000000 000000 000000"},
		{"AccECN of less than none", FlagACK, Options{AccECN: AccECN{Present: true, Fields: -9}}, "0101 ac02"},
		{"AccECN in a SYN/ACK", FlagSYN | FlagACK, Options{MSS: 1460, SACKPermitted: true, HasTS: true, HasWScale: true, AccECN: AccECN{Present: true, Fields: 1}},
			"020405b4 0402 080a 00000000 00000000 010101 ac05 000000 01030300"},
		{"AccECN and blocks beside timestamps", FlagACK, Options{HasTS: true, NumSACK: 4, AccECN: AccECN{Present: true, Fields: 2}},
			"0101 080a 00000000 00000000 ac08 000000 000000 0101 0512 00000000 00000000 00000000 00000000"},
		{"a negative count", FlagACK, Options{NumSACK: -1}, ""},
	} {
		s := Segment{Flags: c.flags, Options: c.o}
		b := wire(&s)
		if got, want := fmt.Sprintf("%x", b[MinHeaderLen:]), fmt.Sprintf("%x", unhex(t, c.want)); got != want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, want)
		}
		if int(b[12]>>4)*4 != len(b) {
			t.Errorf("%s: data offset %d, %d bytes", c.name, b[12]>>4, len(b))
		}
	}
}

func TestParseOptions(t *testing.T) {
	for _, c := range []struct {
		name, hex string
		syn       bool
		want      string
	}{
		{"nothing", "", true, ""},
		{"padding only", "01010100", true, ""},
		{"all, unpadded", "020405b4 0402 080a 00000001 00000002 030307", true, "mss 1460,sackOK,TS val 1 ecr 2,wscale 7"},
		{"SYN's options elsewhere", "020405b4 0402 080a 00000001 00000002 030307", false, "TS val 1 ecr 2"},
		{"end hides the rest", "00 020405b4", true, ""},
		{"unknown skipped", "fe04abcd fd02 020405b4", true, "mss 1460"},
		{"unknown of length 0 ends", "fe00 020405b4", true, ""},
		{"unknown of length 1 ends", "fe01 020405b4", true, ""},
		{"before the bad one counts", "020405b4 fe00 0402", true, "mss 1460"},
		{"beyond the end", "020405b4 fe05 0402", true, "mss 1460"},
		// These two crashed PyTCP.
		{"kind 2 as last byte", "010101 02", true, ""},
		{"MSS of length 2 at the end", "0101 0202", true, ""},
		{"MSS of length 3", "0203ff 0402", true, "sackOK"},
		{"MSS of length 5", "0205ffffff 0402", true, "sackOK"},
		{"MSS of 0 is none", "02040000", true, ""},
		{"MSS twice", "020405b4 02040218", true, "mss 536"},
		{"scale of 14", "03030e", true, "wscale 14"},
		{"scale of 15", "03030f", true, "wscale 14"},
		{"scale of 255", "0303ff", true, "wscale 14"},
		{"scale of length 2", "0302 0402", true, "sackOK"},
		{"scale of length 4", "03040707 0402", true, "sackOK"},
		{"SACK-permitted of length 3", "040300 020405b4", true, "mss 1460"},
		{"timestamps of length 9", "0809 00000001 000000", false, ""},
		{"timestamps cut short", "080a 00000001 000000", false, ""},
		{"timestamps twice", "080a 00000001 00000002 080a 00000003 00000004", false, "TS val 3 ecr 4"},
		{"SACK of no block", "0502", false, ""},
		{"SACK of half a block", "0506 00000001", false, ""},
		{"SACK of one block and a half", "050e 00000001 00000002 00000003", false, ""},
		{"SACK of one block", "050a 00000001 00000002", false, "sack 1:2"},
		{"SACK with SYN", "050a 00000001 00000002", true, ""},
		{"user timeout", "1c048002", false, "uto 32770"},
		{"user timeout with SYN", "1c040064 0402", true, "sackOK,uto 100"},
		{"user timeout of 0 is none", "1c040000", false, ""},
		{"user timeout of length 3", "1c03ff 0402", true, "sackOK"},
		{"AccECN", "ac0b 000001 000002 000003", false, "ECN e0b 1 ceb 2 e1b 3"},
		{"AccECN the other way round", "ae0b 000001 000002 000003", false, "ECN e1b 1 ceb 2 e0b 3"},
		{"AccECN of two fields", "ac08 000001 000002", false, "ECN e0b 1 ceb 2"},
		{"AccECN of one field", "ae05 000001", false, "ECN e1b 1"},
		{"AccECN of none", "ac02", false, "ECN"},
		{"AccECN of none, the other", "ae02", false, "ECN e1"},
		{"AccECN of a length to come", "ac0a 000001 000002 ffff", false, "ECN e0b 1 ceb 2"},
		{"AccECN of more", "ac0e 000001 000002 000003 ffffff", false, "ECN e0b 1 ceb 2 e1b 3"},
		{"AccECN twice", "ac05 000001 ae05 000002", false, "ECN e1b 2"},
		{"second SACK replaces", "0512 00000001 00000002 00000003 00000004 050a 00000005 00000006", false, "sack 5:6"},
	} {
		var o Options
		o.parse(unhex(t, c.hex), c.syn)
		if got := o.String(); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		for _, b := range o.SACK[o.NumSACK:] {
			if b != (SACKBlock{}) {
				t.Errorf("%s: block %v left over", c.name, b)
			}
		}
	}
}

// Every kind with every length, in every amount of room: nothing is read beyond
// the end, and only the one right length of a known kind is understood.
func TestOptionsOfEveryLength(t *testing.T) {
	right := map[byte][]int{optMSS: {4}, optWScale: {3}, optSACKPermitted: {2}, optTimestamps: {10}, optSACK: {10, 18, 26, 34}, optUserTimeout: {4}}
	for kind := range 30 {
		for n := range 48 {
			for room := range maxOptions + 1 {
				for _, syn := range []bool{false, true} {
					// The slice's end is the memory's end.
					b := make([]byte, room)
					for i := range b {
						b[i] = 0x11
					}
					if room > 0 {
						b[0] = byte(kind)
					}
					if room > 1 {
						b[1] = byte(n)
					}
					if n < room && n >= 2 {
						b[n] = optEnd
					}
					var o Options
					o.parse(b, syn)
					want := false
					for _, r := range right[byte(kind)] {
						allowed := kind == optTimestamps || kind == optUserTimeout || syn == (kind != optSACK)
						want = want || (n == r && room >= n && allowed)
					}
					if got := o != (Options{}); got != want && kind != optNop {
						t.Fatalf("kind %d length %d in %d bytes, syn %v: understood %v", kind, n, room, syn, got)
					}
				}
			}
		}
	}
}
