package frag

import (
	"bytes"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/pkt"
)

func TestTimeout(t *testing.T) {
	data := content(256)
	for _, f := range families {
		tab := New(Config{Timeout: 60 * time.Second})
		at := func(now mono.Time, id uint32, s span) {
			if p, d := tab.Add(now, f.from(1, id), s.of(f, data), f.hdr, s.from, !s.last); p != nil || d != DropNone {
				t.Fatalf("%s: %v %v", f.name, p, d)
			}
		}
		at(start, 1, span{0, 64, false})
		at(start+1*second, 2, span{64, 128, false})
		at(start+2*second, 3, span{128, 192, false})
		// The time runs from the first fragment to arrive, whichever it is.
		at(start+59*second, 3, span{0, 64, false})
		at(start+59*second, 1, span{64, 128, false})

		var got []mono.Time
		now := start
		for tab.Deadline() != 0 {
			now = tab.Deadline()
			tab.Expire(now-1, func(*pkt.Buf, int) { t.Errorf("%s: early", f.name) })
			tab.Expire(now, func(first *pkt.Buf, _ int) {
				got = append(got, now-start)
				want := append(f.header(0), data[:64]...)
				if !bytes.Equal(first.Network(), want) || !bytes.Equal(first.Bytes(), want) {
					t.Errorf("%s: the first fragment differs", f.name)
				}
			})
		}
		// The second datagram never got its first fragment.
		if len(got) != 2 || got[0] != 60*second || got[1] != 62*second || now != start+62*second {
			t.Errorf("%s: time exceeded at %v, the end at %v", f.name, got, now-start)
		}
		wantEmpty(t, tab)
	}
}

func TestExpireWithoutCallback(t *testing.T) {
	tab := New(Config{})
	add(tab, v4, v4.key, content(8), span{0, 8, false})
	tab.Expire(start+30*second, nil)
	wantEmpty(t, tab)
}

// hold adds one fragment of a datagram that stays incomplete.
func hold(t *testing.T, tab *Table, k Key, want Drop) {
	t.Helper()
	if p, d := add(tab, v4, k, content(1008), span{8, 1008, false}); p != nil || d != want {
		t.Fatalf("got %v %v, want %v", p, d, want)
	}
}

func has(tab *Table, k Key) bool { return tab.byKey[k] != nil }

func TestOldestGoesFirst(t *testing.T) {
	tab := New(Config{MaxBytes: 3 * pkt.SmallSlab})
	for id := range uint32(5) {
		hold(t, tab, v4.from(byte(id), id), DropNone)
		if tab.Bytes() > 3*pkt.SmallSlab {
			t.Fatalf("%d bytes", tab.Bytes())
		}
	}
	for id := range uint32(5) {
		if got, want := has(tab, v4.from(byte(id), id)), id >= 2; got != want {
			t.Errorf("datagram %d: held %v, want %v", id, got, want)
		}
	}
	if tab.Evicted() != 2 {
		t.Errorf("%d evicted", tab.Evicted())
	}
	tab.Flush()
	wantEmpty(t, tab)
}

func TestOneSourceCannotEvictAnother(t *testing.T) {
	tab := New(Config{MaxPerSource: 3 * pkt.SmallSlab})
	quiet := v4.from(1, 1)
	hold(t, tab, quiet, DropNone)
	for id := range uint32(10000) {
		hold(t, tab, v4.from(2, id), DropNone)
	}
	if !has(tab, quiet) || tab.Len() != 4 || tab.Bytes() != 4*pkt.SmallSlab {
		t.Errorf("quiet source kept %v, %d datagrams, %d bytes", has(tab, quiet), tab.Len(), tab.Bytes())
	}
	for id := range uint32(3) {
		if k := v4.from(2, 9997+id); !has(tab, k) {
			t.Errorf("the loud source's datagram %d is gone", k.ID)
		}
	}
	tab.Flush()
	wantEmpty(t, tab)
}

// TestDiscardedAreBounded: remembering a discarded datagram costs no buffer, so
// that the limit on bytes would not catch a flood of them.
func TestDiscardedAreBounded(t *testing.T) {
	tab := New(Config{MaxDatagrams: 40})
	quiet := v4.from(1, 1)
	hold(t, tab, quiet, DropNone)
	data := content(64)
	for id := range uint32(1000) {
		k := v4.from(2, id)
		add(tab, v4, k, data, span{0, 16, false})
		if _, d := add(tab, v4, k, data, span{8, 16, false}); d != DropOverlap {
			t.Fatal(d)
		}
	}
	if !has(tab, quiet) || tab.Len() != 11 {
		t.Errorf("quiet source kept %v, %d datagrams", has(tab, quiet), tab.Len())
	}
	for src := byte(3); src != 0; src++ {
		for id := range uint32(10) {
			hold(t, tab, v4.from(src, id), DropNone)
		}
	}
	if tab.Len() != 40 {
		t.Errorf("%d datagrams, want 40", tab.Len())
	}
	tab.Flush()
	wantEmpty(t, tab)
}

func TestDatagramLargerThanItsSourceMay(t *testing.T) {
	tab := New(Config{MaxPerSource: 2 * pkt.SmallSlab})
	data := content(4096)
	for i, want := range []Drop{DropNone, DropNone, DropMemory} {
		if _, d := add(tab, v4, v4.key, data, span{i * 1024, (i + 1) * 1024, false}); d != want {
			t.Fatalf("fragment %d: %v, want %v", i, d, want)
		}
	}
	wantEmpty(t, tab)
	// Not even one fragment fits.
	tab = New(Config{MaxBytes: 100})
	hold(t, tab, v4.key, DropMemory)
	wantEmpty(t, tab)
}

func TestFloodOfTinyFragments(t *testing.T) {
	tab := New(Config{})
	data := content(65504)
	held := 0
	for at := 0; at < len(data); at += 8 {
		_, d := add(tab, v4, v4.key, data, span{at, at + 8, at+8 == len(data)})
		switch {
		case d == DropNone:
			held++
		case at == 256*8 && d != DropTooMany, at > 256*8 && d != DropDiscarded:
			t.Fatalf("at %d: %v", at, d)
		}
	}
	if held != 256 || tab.Bytes() != 0 {
		t.Errorf("%d fragments taken, %d bytes still held", held, tab.Bytes())
	}
	tab.Flush()
}

// TestLargeSlabsAreNotPinned: a short fragment in a buffer of 68 KB is moved.
func TestLargeSlabsAreNotPinned(t *testing.T) {
	for _, f := range families {
		tab := New(Config{})
		data := content(10000)
		put := func(s span, cost int) *pkt.Buf {
			before := tab.Bytes()
			p, d := tab.Add(start, f.key, f.packet(s.from, data[s.from:s.to], pkt.MaxFrame), f.hdr, s.from, !s.last)
			if d != DropNone {
				t.Fatalf("%s %v: %v", f.name, s, d)
			}
			if got := tab.Bytes() - before; p == nil && got != cost {
				t.Errorf("%s %v: costs %d, want %d", f.name, s, got, cost)
			}
			return p
		}
		put(span{0, 1480, false}, pkt.SmallSlab)
		put(span{1480, 9480, false}, pkt.LargeSlab)
		wantWhole(t, f, put(span{9480, 10000, true}, 0), data)
		put(span{0, 8, false}, pkt.SmallSlab)
		tab.Expire(tab.Deadline(), func(first *pkt.Buf, _ int) {
			if want := append(f.header(0), data[:8]...); !bytes.Equal(first.Network(), want) {
				t.Errorf("%s: the header was lost when the fragment moved", f.name)
			}
		})
		wantEmpty(t, tab)
	}
}

func TestSteadyFlowDoesNotAllocate(t *testing.T) {
	skipUnderRace(t)
	tab := New(Config{})
	data := content(4440)
	k := v4.key
	run := func() {
		k.ID++
		for at := 0; at < len(data); at += 1480 {
			p := pkt.Get(1500)
			clear(p.Append(20))
			p.MarkNetwork()
			p.Pull(20)
			copy(p.Append(1480), data[at:])
			if whole, _ := tab.Add(start, k, p, 20, at, at+1480 < len(data)); whole != nil {
				whole.Put()
			}
		}
	}
	run()
	if n := testing.AllocsPerRun(200, run); n > 0 {
		t.Errorf("%v allocations per datagram", n)
	}
	wantEmpty(t, tab)
}

func TestDropNames(t *testing.T) {
	seen := make(map[string]bool)
	for d := range NumDrops {
		if s := d.String(); s == "" || s == "unknown" || seen[s] {
			t.Errorf("reason %d has the name %q", d, s)
		}
		seen[d.String()] = true
	}
	if NumDrops.String() != "unknown" || DropOverlap.Error() != "fragment: overlap" {
		t.Error(NumDrops.String(), DropOverlap.Error())
	}
}
