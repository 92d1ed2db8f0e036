package stack_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/stack"
)

// record is everything that a lossy transfer and its end put on the wire, each
// frame with its time.
func record(t *testing.T, seed uint64) []byte {
	var tape []byte
	var p *pair
	p = newPairOf(t, seed, stack.Config{}, wire.Options{Delay: 10 * time.Millisecond, Jitter: time.Millisecond, Loss: 0.03, Reorder: 0.02, Duplicate: 0.01,
		Rate: 50e6, Drop: func(f []byte) bool {
			if p != nil { // the first frames leave while it is being made
				tape = binary.BigEndian.AppendUint64(tape, uint64(p.net.Now()))
			}
			tape = append(tape, f...)
			return false
		}})
	p.listenEcho(p.b, 7)
	u := echoUDP(t, p.b, 9)
	v := newUDP(t, p.a)
	for _, to := range []string{"10.77.0.2", "[fd77::2]"} {
		data := pattern(200 << 10)
		if got := p.echoTransfer(to+":7", data, time.Hour); !bytes.Equal(got, data) {
			t.Errorf("%d bytes came back differently", len(got))
		}
		v.SendTo(pattern(5000), addrPort(to+":9"))
		for range 10 { // connections that are open when the stack is closed
			if _, err := p.a.DialTCP(addrPort("0.0.0.0:0"), addrPort(to+":7")); err != nil {
				t.Fatal(err)
			}
		}
		p.net.RunFor(time.Second)
	}
	u.Close()
	p.a.Close()
	p.net.RunFor(time.Second)
	p.b.Close()
	return tape
}

// TestDeterminism: equal seeds give equal frames at equal times, to the last
// reset; other seeds do not.
func TestDeterminism(t *testing.T) {
	a, b, c := record(t, 1), record(t, 1), record(t, 2)
	if !bytes.Equal(a, b) {
		at := 0
		for at < min(len(a), len(b)) && a[at] == b[at] {
			at++
		}
		t.Errorf("two runs with one seed differ from byte %d on, of %d and %d", at, len(a), len(b))
	}
	if bytes.Equal(a, c) {
		t.Error("another seed makes no difference")
	}
	if len(a) < 1<<19 {
		t.Errorf("only %d bytes recorded", len(a))
	}
}

// TestImpairedTransfers echoes a megabyte over links that lose and reorder.
// The floors are goodput in kB/s of virtual time, about half of what was
// measured when they were written down (the runs are deterministic, so that a
// change of behaviour and nothing else moves the numbers); a link without
// delay and loss takes no virtual time at all, and one that only loses what
// two time-outs take.
func TestImpairedTransfers(t *testing.T) {
	type link struct {
		loss    float64
		delay   time.Duration
		reorder float64
	}
	const d = 20 * time.Millisecond
	floors := map[link]int{
		{0, 0, 0}: 1e9, {0, 0, 0.02}: 230e3, {0, d, 0}: 1900, {0, d, 0.02}: 390,
		{0.01, 0, 0}: 3000, {0.01, 0, 0.02}: 3000, {0.01, d, 0}: 700, {0.01, d, 0.02}: 210,
		{0.05, 0, 0}: 1200, {0.05, 0, 0.02}: 1000, {0.05, d, 0}: 100, {0.05, d, 0.02}: 110,
	}
	for _, loss := range []float64{0, 0.01, 0.05} {
		for _, delay := range []time.Duration{0, d} {
			for _, reorder := range []float64{0, 0.02} {
				l := link{loss, delay, reorder}
				for _, to := range []string{"10.77.0.2:7", "[fd77::2]:7"} {
					t.Run(fmt.Sprint(l, to), func(t *testing.T) {
						p := newPair(t, wire.Options{Loss: loss, Delay: delay, Reorder: reorder})
						p.listenEcho(p.b, 7)
						data := pattern(1 << 20)
						start := p.net.Now()
						if got := p.echoTransfer(to, data, 10*time.Minute); !bytes.Equal(got, data) {
							t.Errorf("%d bytes came back differently", len(got))
						}
						took := p.net.Now().Sub(start)
						rate := int(float64(len(data)) / 1000 / max(took.Seconds(), 1e-9))
						if rate < floors[l] {
							t.Errorf("%d kB/s, took %v; the floor is %d", rate, took, floors[l])
						}
						t.Logf("%d kB/s %v", rate, took)
						p.net.RunFor(5 * time.Minute)
						wantTable(t, p.a, 0, 0)
						wantTable(t, p.b, 0, 0)
						// What a repeated or late segment leads to.
						if loss > 0 || reorder > 0 {
							p.wantDrops("tcp.drop.out-of-window", "tcp.drop.old-ack", "tcp.drop.paws", "tcp.drop.no-connection")
						} else {
							p.wantDrops()
						}
					})
				}
			}
		}
	}
}

// TestSmallMTU: down to the least MTU that IPv4 allows, where IPv6 is off.
func TestSmallMTU(t *testing.T) {
	for _, mtu := range []int{68, 100, 296, 576, 1279} {
		p := newPair4(t, wire.Options{MTU: mtu})
		p.listenEcho(p.b, 7)
		data := pattern(20000)
		if got := p.echoTransfer("10.77.0.2:7", data, time.Minute); !bytes.Equal(got, data) {
			t.Errorf("MTU %d: %d bytes came back", mtu, len(got))
		}
		if err := p.ia.AddAddr(netip.MustParsePrefix("fd77::1/64")); err == nil {
			t.Errorf("MTU %d: IPv6 address accepted (RFC 8200 §5)", mtu)
		}
		p.net.RunFor(2 * time.Minute)
		p.wantDrops()
	}
}
