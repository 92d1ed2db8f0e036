package tcp

import (
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/budget"
)

// TestRecordsAreBounded: the ends of records are charged and their number is
// bounded; the writer waits for acknowledgements, and hears of them.
func TestRecordsAreBounded(t *testing.T) {
	b := budget.New(256<<20, nil)
	p := newPath(t, 10*time.Millisecond, false, func(snd, _ *Config) { snd.Memory, snd.SndInit = b, 1<<20 })
	c := p.a[0]
	fill := func() (n int) {
		for {
			k, err := c.Send(p.buf[:1], SendRecord)
			if err != nil {
				return n
			}
			n += k
		}
	}
	total := fill()
	if total != maxRecords || c.Writable() != 0 {
		t.Fatalf("%d records, %d writable", total, c.Writable())
	}
	if n, err := c.Write(p.buf); n != 0 || err == nil {
		t.Errorf("wrote %d more, %v", n, err)
	}
	most := 0
	for round := 0; c.dataEnd() != c.sndUna; round++ {
		if round > 20_000 {
			t.Fatalf("%d are left", c.dataEnd().Sub(c.sndUna))
		}
		p.there(true)
		if err := c.invariants(); err != nil {
			t.Fatal(err)
		}
		ev := p.back()
		open := len(c.openRecords())
		if ev&EvWritable != 0 && open > maxRecords/3*2 {
			t.Fatalf("woken with %d records", open)
		}
		if c.Writable() > 0 && total < 3*maxRecords {
			n := fill()
			if total += n; n == 0 || len(c.openRecords()) != maxRecords {
				t.Fatalf("%d more, of %d that are open", n, len(c.openRecords()))
			}
		}
		most = max(most, c.recs.memory())
	}
	if most < 4*maxRecords || most > 16*maxRecords {
		t.Errorf("the list had %d bytes", most)
	}
	p.take(0)
	if c.Writable() == 0 || c.recs.memory() != 0 || b.Used() != int64(flightSize+c.snd.Cap()+cap(c.board.buf)*sentRangeSize) {
		t.Errorf("at the end %d writable, a list of %d bytes, %d charged", c.Writable(), c.recs.memory(), b.Used())
	}
}
