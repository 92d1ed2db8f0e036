package main

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// TestPeersBounded: who claims to be many does not make the table grow, and
// makes room again by silence.
func TestPeersBounded(t *testing.T) {
	peers, now := make(map[netip.Addr]*peer), time.Now()
	addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, byte(i >> 8), byte(i)}) }
	for i := range 2 * maxPeers {
		hear(peers, heard{from: addr(i), text: message("here", fmt.Sprint("n", i))}, now)
	}
	if len(peers) != maxPeers {
		t.Errorf("%d peers", len(peers))
	}
	hear(peers, heard{from: addr(1), text: message("gone", "n1")}, now)
	hear(peers, heard{from: addr(2), text: message("here", "n2")}, now.Add(time.Second))
	forget(peers, now.Add(patience**interval+time.Second/2))
	if len(peers) != 1 || peers[addr(2)] == nil {
		t.Errorf("%d peers are left", len(peers))
	}
}

// FuzzMessage: what is understood is what would be said.
func FuzzMessage(f *testing.F) {
	for _, seed := range []string{message("here", "ann"), message("gone", "a.b-c_9"), message("here", ""), message("where", "x"),
		"tapstack-discover 1 here a b\n", "tapstack-discover 2 here a\n", "tapstack-discover 1 here \x1b[2J\n", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if what, name, ok := parse(text); ok && message(what, name) != text {
			t.Errorf("%q is %s %s", text, what, name)
		}
	})
}
