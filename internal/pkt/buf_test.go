package pkt

import (
	"bytes"
	"testing"
)

func TestPushPullKeepLayers(t *testing.T) {
	b := From([]byte("payload"))
	defer b.Put()
	copy(b.Push(4), "tcp ")
	b.MarkTransport()
	copy(b.Push(3), "ip ")
	b.MarkNetwork()
	copy(b.Push(4), "eth ")
	if got := string(b.Bytes()); got != "eth ip tcp payload" {
		t.Fatalf("got %q", got)
	}
	b.Pull(11)
	if string(b.Bytes()) != "payload" || string(b.Network()) != "ip tcp payload" || string(b.Transport()) != "tcp payload" {
		t.Fatalf("layers moved: %q %q", b.Network(), b.Transport())
	}
	b.Rewind()
	b.Trim(6)
	if string(b.Bytes()) != "ip tcp" {
		t.Fatalf("got %q", b.Bytes())
	}
}

func TestCloneIsIndependent(t *testing.T) {
	b := From(bytes.Repeat([]byte{1}, 3000))
	b.Pull(100)
	b.MarkNetwork()
	b.GSO.SegSize = 9
	b.Pull(20)
	c := b.Clone()
	if !bytes.Equal(b.Bytes(), c.Bytes()) || c.GSO.SegSize != 9 || !bytes.Equal(b.Network(), c.Network()) {
		t.Fatal("clone differs")
	}
	c.Bytes()[0] = 7
	if b.Bytes()[0] != 1 {
		t.Fatal("clone shares bytes")
	}
	b.Put()
	c.Put()
}

func TestBorrowedBytes(t *testing.T) {
	live := Live()
	for _, n := range []int{0, 100, 3000, 40000} {
		x, y := bytes.Repeat([]byte{1}, n), bytes.Repeat([]byte{2}, n/2)
		b := From([]byte("tcp "))
		b.MarkTransport()
		copy(b.Push(3), "ip ")
		b.MarkNetwork()
		b.GSO.SegSize = 7
		b.Borrow(x, y)
		if b.Len() != 7 || b.Size() != 7+len(x)+len(y) {
			t.Fatalf("%d: len %d size %d", n, b.Len(), b.Size())
		}
		want := append(append([]byte("ip tcp "), x...), y...)
		c := b.Clone()
		w := b.Whole()
		for _, f := range []*Buf{c, w} {
			if !bytes.Equal(f.Bytes(), want) || !bytes.Equal(f.Network(), want) || !bytes.Equal(f.Transport(), want[3:]) ||
				f.GSO.SegSize != 7 || f.Size() != f.Len() {
				t.Errorf("%d: %d bytes, not the same", n, f.Len())
			}
			f.Put()
		}
	}
	if n := Live() - live; n != 0 {
		t.Errorf("%d buffers leaked", n)
	}
}

func TestLiveCountsAndDoublePutPanics(t *testing.T) {
	before := Live()
	b := Get(MaxFrame)
	if Live() != before+1 {
		t.Fatalf("live %d, want %d", Live(), before+1)
	}
	b.Put()
	if Live() != before {
		t.Fatalf("live %d after Put", Live())
	}
	defer func() {
		if recover() == nil {
			t.Fatal("double Put did not panic")
		}
	}()
	b.Put()
}

func TestGetDoesNotAllocate(t *testing.T) {
	Get(100).Put()
	if n := testing.AllocsPerRun(1000, func() { Get(1500).Put() }); n > 0 {
		t.Fatalf("%v allocations per buffer", n)
	}
}
