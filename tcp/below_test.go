package tcp

import (
	"testing"

	"github.com/tapstack/tapstack/internal/mono"
)

type below int

func (b below) Len() int { return int(b) }

// TestBelow: what the layer below puts in front of each segment comes off its
// size, whichever of peer and path bounds that, and off what may go with a SYN;
// what is announced does not count it (RFC 6691).
func TestBelow(t *testing.T) {
	now := mono.Time(1)
	for _, ts := range []bool{false, true} {
		for _, c := range []struct{ peer, path, below, want int }{
			{1460, 1460, 0, 1460}, {1460, 1460, 40, 1420}, {1460, 1380, 40, 1340}, {1300, 1460, 8, 1292}, {0, 1460, 16, 520},
			{1460, 1460, 1400, 60}, {1460, 1460, 8160, minMSS}, // no room: as on Linux the packets are too long
		} {
			x := NewActive(&Config{MSS: 1460, SendMSS: c.path, IPHeader: 20, NoTimestamps: !ts, Below: below(c.below)}, now)
			var s Segment
			if !x.Output(now, &s, 0) || s.Options.MSS != 1460 {
				t.Fatalf("announced %d", s.Options.MSS)
			}
			o := Options{MSS: uint16(c.peer), HasTS: ts, TSEcr: s.Options.TSVal}
			x.Input(now, &Segment{Seq: 9, Ack: s.Seq + 1, Flags: FlagSYN | FlagACK, Window: 65535, Options: o})
			want := c.want
			if ts {
				want -= tsOptionLen
			}
			if x.State() != Established || x.mss != want {
				t.Errorf("%+v: segments of %d, want %d", c, x.mss, want)
			}
			// And while it is open.
			x.SetBelow(below(4))
			if x.Below() != below(4) || x.mss+x.fixedOptions() != min(orDefault(c.peer, defaultPeerMSS), c.path) {
				t.Errorf("%+v: segments of %d with 4 bytes", c, x.mss)
			}
			x.SetBelow(nil)
			if x.mss+x.fixedOptions() != min(orDefault(c.peer, defaultPeerMSS), c.path) {
				t.Errorf("%+v: segments of %d without", c, x.mss)
			}
		}
	}
}

// TestBelowInSYN: the text of a Fast Open has less room.
func TestBelowInSYN(t *testing.T) {
	room := func(n int) int {
		x := NewActive(&Config{MSS: 1460, IPHeader: 20, Below: below(n)}, 1)
		x.FastOpen(FastOpenOffer{Text: true})
		return x.synRoom()
	}
	if a, b := room(0), room(40); a-b != 40 || b <= 0 {
		t.Errorf("room for %d and %d bytes", a, b)
	}
}
