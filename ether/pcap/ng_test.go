package pcap

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/internal/pkt"
)

// blocks takes a capture apart: for each frame its comment and its flags.
func blocks(t *testing.T, b []byte) (comments []string, flags []uint32) {
	t.Helper()
	for len(b) > 0 {
		typ, n := binary.NativeEndian.Uint32(b), binary.NativeEndian.Uint32(b[4:])
		if n%4 != 0 || int(n) > len(b) || binary.NativeEndian.Uint32(b[n-4:]) != n {
			t.Fatalf("a block of %d bytes of %d", n, len(b))
		}
		if typ == blockPacket {
			comment, flag := "", uint32(0)
			for o := b[28+(binary.NativeEndian.Uint32(b[20:])+3)&^3 : n-4]; len(o) >= 4; {
				code, size := binary.NativeEndian.Uint16(o), int(binary.NativeEndian.Uint16(o[2:]))
				switch code {
				case optComment:
					comment = string(o[4 : 4+size])
				case optPacketFlags:
					flag = binary.NativeEndian.Uint32(o[4:])
				}
				o = o[4+(size+3)&^3:]
			}
			comments, flags = append(comments, comment), append(flags, flag)
		}
		b = b[n:]
	}
	return comments, flags
}

// TestChosen: only what is chosen is written, with its comment, its direction,
// and the frame as it was.
func TestChosen(t *testing.T) {
	s := wire.New(nil, wire.Options{Pull: true})
	defer s.Close()
	var file bytes.Buffer
	long := strings.Repeat("c", maxComment+10)
	tee, err := NewChosen(s.Attach("b", macB), &file, "tap7", func(out bool, f []byte, at time.Time) (string, bool) {
		switch text := string(f[14:]); text {
		case "drop":
			return "never", false
		case "bare":
			return "", true
		case "long":
			return long, true
		default:
			return text + "?", true
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	list := []string{"a", "drop", "ab", "bare", "abc", "drop", "long", "abcd"}
	for _, text := range list {
		if _, err := tee.Send(0, []*pkt.Buf{frame(macB, macA, text)}); err != nil {
			t.Fatal(err)
		}
	}
	in := frame(macA, macB, "in")
	tee.record(in)
	in.Put()
	if st := tee.Stats(); st.Written != 7 || st.Lost != 0 {
		t.Errorf("%+v", st)
	}
	if err := tee.Close(); err != nil {
		t.Fatal(err)
	}
	comments, flags := blocks(t, file.Bytes())
	want := []string{"a?", "ab?", "", "abc?", long[:maxComment], "abcd?", "in?"}
	if strings.Join(comments, "|") != strings.Join(want, "|") {
		t.Errorf("%.200q", comments)
	}
	for i, f := range flags {
		if w := map[bool]uint32{true: flagInbound, false: flagOutbound}[i == 6]; f != w {
			t.Errorf("frame %d: flags %d, want %d", i, f, w)
		}
	}
	if _, got := read(t, file.Bytes()); len(got) != 7 || got[4].data[14:] != "long" || got[6].data[14:] != "in" {
		t.Errorf("gopacket reads %v", got)
	}
}
