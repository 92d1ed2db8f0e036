package tcp

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"
)

// TestSink: text goes to the reader who waits for it, as much as there is room
// for, and the rest into the buffer; the window does not count it.
func TestSink(t *testing.T) {
	p := newPath(t, 10*time.Millisecond, false, nil)
	c := p.a[1]
	room, text := make([]byte, 1000), []byte("what the reader waits for")
	var s, other Sink
	if !c.Offer(&s, room) || c.Offer(&other, room) || c.Collect(&other) != 0 {
		t.Fatal("one reader at a time")
	}
	p.a[0].Write(text)
	p.there(false)
	if c.Readable() != 0 {
		t.Errorf("%d bytes in the buffer", c.Readable())
	}
	if n := c.Collect(&s); !bytes.Equal(room[:n], text) {
		t.Errorf("collected %q", room[:n])
	}
	if c.Collect(&s) != 0 {
		t.Error("collected twice")
	}
	p.back()

	c.Offer(&s, room[:10])
	p.a[0].Write(text)
	p.there(false)
	if n := c.Collect(&s); n != 10 || c.Readable() != len(text)-10 {
		t.Errorf("%d collected, %d in the buffer", n, c.Readable())
	}
	// What lies in the buffer is first.
	c.Offer(&s, room)
	p.back()
	p.a[0].Write(text)
	p.there(false)
	if n := c.Collect(&s); n != 0 || c.Readable() != 2*len(text)-10 {
		t.Errorf("past the buffer: %d collected, %d in it", n, c.Readable())
	}
	if err := c.invariants(); err != nil {
		t.Error(err)
	}
}

// TestSinkKeepsOrder offers and takes back room at random while segments are
// lost, late and doubled, and urgent data is among them: each byte arrives
// once and in order.
func TestSinkKeepsOrder(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		p := newPath(t, 10*time.Millisecond, false, nil)
		c := p.a[1]
		var sent, got []byte
		var s Sink
		room := make([]byte, 30_000)
		take := func() {
			got = append(got, room[:c.Collect(&s)]...)
			for {
				n, _ := c.Read(p.buf[:1+rnd.IntN(20_000)])
				if n == 0 {
					break
				}
				got = append(got, p.buf[:n]...)
			}
		}
		for k := 0; len(got) < 1<<20; k++ {
			if k > 20_000 {
				t.Fatalf("seed %d: %d of %d bytes", seed, len(got), len(sent))
			}
			if len(sent) < 1<<20 {
				b := make([]byte, rnd.IntN(20_000))
				for i := range b {
					b[i] = byte(rnd.Uint32())
				}
				n, _ := p.a[0].Write(b)
				sent = append(sent, b[:n]...)
			}
			flying := p.take(0)
			if rnd.IntN(3) == 0 {
				rnd.Shuffle(len(flying), func(i, j int) { flying[i], flying[j] = flying[j], flying[i] })
			}
			p.now = p.now.Add(p.rtt / 2)
			for i := range flying {
				if rnd.IntN(4) == 0 {
					take()
					c.Offer(&s, room[:1+rnd.IntN(len(room))])
				}
				if rnd.IntN(20) > 0 {
					c.Input(p.now, &flying[i])
				}
				p.acks = append(p.acks, p.take(1)...)
				if err := c.invariants(); err != nil {
					t.Fatal(err)
				}
			}
			p.back()
			take()
			for i := range p.a {
				if p.a[i].Deadline().Due(p.now) {
					p.a[i].Expire(p.now)
				}
			}
			if len(sent) == len(got) && len(sent) >= 1<<20 {
				break
			}
		}
		if !bytes.Equal(sent[:len(got)], got) {
			t.Fatalf("seed %d: the bytes differ", seed)
		}
	}
}

// TestSinkOfTwoReaders: what one reader collects is in one piece, though another
// took something from the buffer meanwhile.
func TestSinkOfTwoReaders(t *testing.T) {
	p := newPath(t, 10*time.Millisecond, false, nil)
	c := p.a[1]
	room := make([]byte, 1000)
	var s Sink
	c.Offer(&s, room)
	var seg [4]Segment
	for i := range seg {
		p.a[0].SetKnob(p.now, KnobNoDelay, 1)
		p.a[0].Write(bytes.Repeat([]byte{'a' + byte(i)}, 10))
		seg[i] = p.take(0)[0]
	}
	for _, i := range []int{0, 2, 1} { // the second and third go into the buffer
		c.Input(p.now, &seg[i])
	}
	n, _ := c.Read(p.buf)
	if got := string(p.buf[:n]); got != "bbbbbbbbbbcccccccccc" {
		t.Errorf("the other reader has %q", got)
	}
	c.Input(p.now, &seg[3])
	if n := c.Collect(&s); string(room[:n]) != "aaaaaaaaaa" {
		t.Errorf("collected %q", room[:n])
	}
	if n, _ := c.Read(p.buf); string(p.buf[:n]) != "dddddddddd" {
		t.Errorf("then there is %q", p.buf[:n])
	}
}
