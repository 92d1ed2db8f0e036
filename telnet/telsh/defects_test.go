package telsh

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/telnet"
)

// counted is a connection that counts what is written at once.
type counted struct {
	net.Conn
	sizes chan int
}

func (c counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.sizes <- n
	return n, err
}

// TestDefect16DumpDrainsAndWaits: with drain each line goes out by itself, with
// nodrain many do; and a delay of less than a second is one.
func TestDefect16DumpDrainsAndWaits(t *testing.T) {
	const line = 80 + len("\x1b[1G")
	for _, tc := range []struct {
		args string
		most int           // bytes of a write in the dump
		took time.Duration // at the least
	}{
		{"dump 3 0 drain close", line, 0},
		{"dump 3 0 close", line, 0}, // not a word that it knows: drain
		{"dump 3 0 nodrain close", 3192 + 100, 0},
		{"dump 1 4 drain close", line, 14 * 4 * time.Millisecond},
		{"dump 1 4.5 nodrain close", line, 14 * 4500 * time.Microsecond},
	} {
		a, b := net.Pipe()
		sizes := make(chan int, 1000)
		c := telnet.NewServerConn(counted{a, sizes}, &telnet.Config{Passive: true, NeverGA: true})
		x := &session{shell: &Shell{}, ctx: t.Context(), c: c, text: c.Text()}
		go func() {
			buf := make([]byte, 1<<16)
			for {
				if _, err := b.Read(buf); err != nil {
					return
				}
			}
		}()
		start := time.Now()
		over := x.run(tc.args)
		took := time.Since(start)
		a.Close()
		b.Close()
		close(sizes)
		<-sizes // what it is going to do
		n, largest := 0, 0
		for size := range sizes {
			n, largest = n+1, max(largest, size)
		}
		alone := !strings.Contains(tc.args, "nodrain") || tc.took > 0
		if alone && n < 14 || !alone && n != 1 || largest > tc.most || took < tc.took || took > 14*time.Second {
			t.Errorf("%s: %d writes of at most %d bytes in %v", tc.args, n, largest, took)
		}
		if want := strings.HasSuffix(tc.args, " close") && strings.Count(tc.args, " ") == 4; over != want {
			t.Errorf("%s: over %v", tc.args, over)
		}
	}
}
