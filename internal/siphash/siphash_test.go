package siphash

import "testing"

// The first 16 of the vectors published with the reference implementation:
// key 00 01 .. 0f, message 00 01 .. of each length. The last is the example in
// appendix A of the paper.
var vectors = [...]uint64{
	0x726fdb47dd0e0e31, 0x74f839c593dc67fd, 0x0d6c8009d9a94f5a, 0x85676696d7fb7e2d,
	0xcf2794e0277187b7, 0x18765564cd99a68d, 0xcbc9466e58fee3ce, 0xab0200f58b01d137,
	0x93f5f5799a932462, 0x9e0082df0ba9e4b0, 0x7a5dbbc594ddb9f3, 0xf4b32f46226bada7,
	0x751e8fbc860ee5fb, 0x14ea5627c0843d90, 0xf723ca908e7af2ee, 0xa129ca6149be45e5,
}

func TestPublishedVectors(t *testing.T) {
	var key [16]byte
	var msg [len(vectors)]byte
	for i := range msg {
		key[i], msg[i] = byte(i), byte(i)
	}
	for n, want := range vectors {
		if got := Sum64(key, msg[:n]); got != want {
			t.Errorf("%d bytes: %016x, want %016x", n, got, want)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	msg := make([]byte, 37)
	if n := testing.AllocsPerRun(10, func() { Sum64([16]byte{}, msg) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
