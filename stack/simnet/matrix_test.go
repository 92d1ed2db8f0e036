package simnet_test

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/stack/simnet"
)

// The golden matrix: one transfer over every combination of rate, round trip,
// loss, reordering, buffer and loss of ACKs, and 2 to 8 flows that share a
// line. Time is virtual and chance is seeded, so that the numbers are the same
// on every machine, and a change of TCP shows as a diff of testdata/matrix.txt:
//
//	go test ./stack/simnet -run Matrix -update
//
// What may not happen whatever changes is checked below.

var update = flag.Bool("update", false, "write testdata/matrix.txt anew")

const (
	golden = "testdata/matrix.txt"
	// segment is the payload of a full frame of frameLen bytes, with timestamps.
	segment  = 1448
	frameLen = 1514
	limit    = 30 * time.Minute // of a transfer
	// orderGoal is what a path that only reorders has to keep of one that does
	// not, on average. A single transfer may lose its last segment to the queue,
	// which costs it the 200 ms of a probe: orderLeast.
	orderGoal, orderLeast = 0.95, 0.8
)

// path is one row.
type path struct {
	mbit    int
	rtt     time.Duration
	loss    float64 // per cent of the data frames; burst: lost several in a row
	burst   bool
	reorder float64 // per cent
	buffer  float64 // of the narrowest place, in products of rate and round trip
	ackLoss float64 // per cent
}

func (p path) String() string {
	loss := fmt.Sprintf("%.1f", p.loss)
	if p.burst {
		loss = "burst"
	}
	return fmt.Sprintf("%4d %4d %5s %3.0f %5.2f %3.0f", p.mbit, p.rtt.Milliseconds(), loss, p.reorder, p.buffer, p.ackLoss)
}

const pathHead = "Mbit   ms loss%% reo   buf ack"

// bdp is the product of rate and round trip in bytes.
func (p path) bdp() float64 { return float64(p.mbit) * 1e6 / 8 * p.rtt.Seconds() }

// queue is the buffer in frames.
func (p path) queue() int { return max(int(p.buffer*p.bdp()/frameLen), 4) }

// amount is how much is sent: some windows full, and enough to meet losses.
func (p path) amount() int { return int(min(max(8*p.bdp(), 2e6), 8e6)) }

// ideal is how long that takes a sender that doubles its window each round trip
// from ten segments on, until the line is full, and never loses anything.
func (p path) ideal(n int) time.Duration {
	line := float64(p.mbit) * 1e6 / 8 * segment / frameLen // bytes a second
	sent, window, t := 0.0, 10.0*segment, 0.0
	for window < line*p.rtt.Seconds() && sent+window < float64(n) {
		sent += window
		window *= 2
		t += p.rtt.Seconds()
	}
	t += (float64(n)-sent)/line + p.rtt.Seconds()/2
	return time.Duration(t * 1e9)
}

func paths() (list []path) {
	for _, mbit := range []int{1, 10, 100, 1000} {
		for _, rtt := range []time.Duration{1, 20, 100, 300} {
			for _, loss := range []float64{0, 0.1, 1, 5, -1} {
				for _, reorder := range []float64{0, 1} {
					for _, buffer := range []float64{0.25, 1, 4} {
						for _, ackLoss := range []float64{0, 10} {
							p := path{mbit, rtt * time.Millisecond, loss, false, reorder, buffer, ackLoss}
							if loss < 0 {
								p.loss, p.burst = 1, true
							}
							list = append(list, p)
						}
					}
				}
			}
		}
	}
	return list
}

// bursts loses frames of one direction: on average percent of them, in runs of
// one to nine.
func bursts(n *simnet.Net, percent float64) func([]byte) bool {
	left := 0
	return func(frame []byte) bool {
		switch {
		case len(frame) <= 200:
			return false
		case left == 0 && n.Rand().Float64() < percent/100/5:
			left = 1 + n.Rand().IntN(9)
		}
		if left > 0 {
			left--
			return true
		}
		return false
	}
}

// network makes the segment and its two hosts; data goes from a to b.
func (p path) network(seed uint64) (n *simnet.Net, a, b *stack.Stack) {
	n = simnet.New(seed)
	seg := n.Segment(wire.Options{MTU: 1500})
	c := stack.Config{Limits: stack.Limits{TCPReceive: 64 << 20, TCPSend: 64 << 20}}
	ports := make([]*wire.Port, 2)
	capture := func(i int) func(d ether.Device) ether.Device {
		return func(d ether.Device) ether.Device {
			ports[i] = d.(*wire.Port)
			return d
		}
	}
	a, _ = n.Host(seg, c, capture(0), "10.0.0.1/24")
	b, _ = n.Host(seg, c, capture(1), "10.0.0.2/24")
	out := wire.Impairment{Loss: p.loss / 100, Delay: p.rtt / 2, Rate: int64(p.mbit) * 1e6, Queue: p.queue(),
		// The time of three more frames, so that as many overtake.
		Reorder: p.reorder / 100, ReorderBy: time.Duration(3.5 * frameLen * 8 / float64(p.mbit) * 1e3)}
	if p.burst {
		out.Loss, out.Drop = 0, bursts(n, p.loss)
	}
	ports[0].SetImpairment(out)
	ports[1].SetImpairment(wire.Impairment{Loss: p.ackLoss / 100, Delay: p.rtt / 2})
	return n, a, b
}

// flow is one transfer and what became of it.
type flow struct {
	amount          int
	begin, end      mono.Time // connected; everything has arrived
	got             int
	last            mono.Time
	gaps            []time.Duration // between two arrivals at the reader
	sender, arrived *stack.TCPConn
	failed          error
}

// start connects a to b and sends amount bytes.
func start(n *simnet.Net, a, b *stack.Stack, port uint16, amount int) *flow {
	f := &flow{amount: amount}
	l, err := b.BindTCP(netip.AddrPortFrom(netip.IPv4Unspecified(), port), false, false)
	if err == nil {
		err = l.Listen(1)
	}
	if err != nil {
		panic(err)
	}
	buf := make([]byte, 256<<10)
	read := func(stack.Ready) {
		for {
			k, err := f.arrived.Read(buf)
			if k == 0 {
				if err != nil && err != syscall.EAGAIN && f.got < f.amount {
					f.failed = err
				}
				return
			}
			now := n.Now()
			if f.last != 0 && now != f.last {
				f.gaps = append(f.gaps, now.Sub(f.last))
			}
			f.last = now
			if f.got += k; f.got == f.amount {
				f.end = now
			}
		}
	}
	accept := func(stack.Ready) {
		if c, err := l.Accept(); err == nil {
			f.arrived = c
			c.Waiters().Add(&stack.Waiter{Want: stack.ReadyIn, F: read})
			read(0)
		}
	}
	l.Waiters().Add(&stack.Waiter{Want: stack.ReadyIn, F: accept})
	f.sender, err = a.DialTCP(netip.AddrPort{}, netip.AddrPortFrom(netip.MustParseAddr("10.0.0.2"), port))
	if err != nil {
		panic(err)
	}
	left := amount
	data := make([]byte, 64<<10)
	busy := false // Write may call the waiter
	write := func(stack.Ready) {
		if busy {
			return
		}
		busy = true
		defer func() { busy = false }()
		for left > 0 {
			k, err := f.sender.Write(data[:min(left, len(data))])
			if err == syscall.EAGAIN {
				return
			}
			if f.begin == 0 {
				f.begin = n.Now()
			}
			if err != nil {
				f.failed = err
				return
			}
			left -= k
		}
	}
	f.sender.Waiters().Add(&stack.Waiter{Want: stack.ReadyOut, F: write})
	return f
}

func (f *flow) done() bool { return f.end != 0 || f.failed != nil }

// result is what the file says of a path.
type result struct {
	share           float64 // ideal time to real time, in per cent
	again, spurious float64 // segments sent again, and those for nothing, per cent of all
	timeouts        uint64
	stall, longest  time.Duration // 99th percentile of the gaps; the longest
	failed          error
}

func (p path) run(seed uint64) (r result) {
	n, a, b := p.network(seed)
	defer a.Close()
	defer b.Close()
	f := start(n, a, b, 9, p.amount())
	if !n.Until(limit, f.done) && f.failed == nil {
		f.failed = fmt.Errorf("%d of %d bytes after %v", f.got, f.amount, limit)
	}
	if r.failed = f.failed; r.failed != nil {
		return r
	}
	out, in := f.sender.Info(), f.arrived.Info()
	r.share = 100 * p.ideal(f.amount).Seconds() / f.end.Sub(f.begin).Seconds()
	r.again = 100 * float64(out.Retransmits) / float64(out.SegmentsOut)
	r.spurious = 100 * float64(in.DSACKOut) / float64(out.SegmentsOut)
	r.timeouts = out.Timeouts
	slices.Sort(f.gaps)
	if k := len(f.gaps); k > 0 {
		r.stall, r.longest = f.gaps[(k-1)*99/100], f.gaps[k-1]
	}
	return r
}

func (r result) String() string {
	if r.failed != nil {
		return "failed: " + r.failed.Error()
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }
	return fmt.Sprintf("%6.1f %6.2f %5.2f %4d %8.1f %8.1f", r.share, r.again, r.spurious, r.timeouts, ms(r.stall), ms(r.longest))
}

const resultHead = "share%%  again%%  for0%%  RTO  p99 ms   max ms"

// fair is how flows that begin one after the other share a line.
type fair struct {
	flows int
	rtt   time.Duration
}

// run returns Jain's index of what each got while all were there, and how much
// of the line they used.
func (f fair) run() (index, used float64) {
	const mbit, length = 100, 20 * time.Second
	p := path{mbit: mbit, rtt: f.rtt, buffer: 1}
	n, a, b := p.network(uint64(f.flows))
	defer a.Close()
	defer b.Close()
	var list []*flow
	for i := range f.flows {
		n.After(time.Duration(i)*500*time.Millisecond, func() {
			list = append(list, start(n, a, b, uint16(9+i), 1<<30))
		})
	}
	n.RunFor(time.Duration(f.flows)*500*time.Millisecond + length/2)
	before := make([]int, len(list))
	for i, x := range list {
		before[i] = x.got
	}
	n.RunFor(length)
	sum, squares := 0.0, 0.0
	for i, x := range list {
		got := float64(x.got - before[i])
		sum += got
		squares += got * got
	}
	line := float64(mbit) * 1e6 / 8 * segment / frameLen
	return sum * sum / (float64(f.flows) * squares), 100 * sum / (line * length.Seconds())
}

func TestMatrix(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("each path runs on one goroutine, so that the race detector would only make it slow")
	}
	list := paths()
	results := make([]result, len(list))
	shares := []fair{{2, 20 * time.Millisecond}, {4, 20 * time.Millisecond}, {8, 20 * time.Millisecond}, {2, 100 * time.Millisecond}, {8, 100 * time.Millisecond}}
	fairness := make([]string, len(shares))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				switch {
				case i < len(list):
					results[i] = list[i].run(uint64(i) + 1)
				case i < len(list)+len(shares):
					i -= len(list)
					index, used := shares[i].run()
					if index < 0.5 || used < 80 {
						t.Errorf("%d flows, %v: fairness %.2f, %.1f %% of the line", shares[i].flows, shares[i].rtt, index, used)
					}
					fairness[i] = fmt.Sprintf("%4d %4d %6.3f %6.1f\n", shares[i].flows, shares[i].rtt.Milliseconds(), index, used)
				default:
					return
				}
			}
		})
	}
	wg.Wait()

	var b bytes.Buffer
	b.WriteString("# Written by go test ./stack/simnet -run Matrix -update; see matrix_test.go for what the columns are.\n")
	b.WriteString("# Geometric means of the shares by loss, without reordering and with:\n")
	for _, k := range []string{"0.0", "0.1", "1.0", "5.0", "burst"} {
		var sum [2]float64
		var count [2]int
		for i, p := range list {
			if f := strings.Fields(p.String()); f[2] == k && results[i].failed == nil {
				w := int(p.reorder)
				sum[w] += math.Log(results[i].share)
				count[w]++
			}
		}
		fmt.Fprintf(&b, "# %-5s %5.1f %5.1f\n", k, math.Exp(sum[0]/float64(count[0])), math.Exp(sum[1]/float64(count[1])))
	}
	fmt.Fprintf(&b, "# Flows that share 100 Mbit/s:\n# flows ms  Jain  used%%\n")
	for _, f := range fairness {
		b.WriteString("#" + f)
	}
	fmt.Fprintf(&b, "#"+pathHead+"   "+resultHead+"\n")
	ordered := make(map[path]float64)
	kept, reordered := 0.0, 0
	for i, p := range list {
		fmt.Fprintf(&b, " %v %v\n", p, results[i])
		r := results[i]
		if p.loss == 0 && p.ackLoss == 0 && p.buffer >= 1 {
			// Reordering alone is not a reason to be slow.
			straight := p
			straight.reorder = 0
			if p.reorder == 0 {
				ordered[p] = r.share
			} else if r.failed == nil {
				kept += math.Log(r.share / ordered[straight])
				reordered++
				if r.share < orderLeast*ordered[straight] {
					t.Errorf("%v: %.1f %% of the ideal, in order %.1f %%", p, r.share, ordered[straight])
				}
			}
		}
		switch {
		case r.failed != nil:
			t.Errorf("%v: %v", p, r.failed)
		case r.timeouts > 0 && r.spurious >= r.again:
			t.Errorf("%v: %d time-outs although nothing was lost", p, r.timeouts)
		}
	}
	if kept = math.Exp(kept / float64(reordered)); !(kept > orderGoal) {
		t.Errorf("paths that only reorder keep %.3f of their speed", kept)
	}
	if *update {
		if err := os.WriteFile(golden, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(b.Bytes(), want) {
		return
	}
	was, is, shown := strings.Split(string(want), "\n"), strings.Split(b.String(), "\n"), 0
	for i := range max(len(was), len(is)) {
		if i < len(was) && i < len(is) && was[i] == is[i] {
			continue
		}
		if shown++; shown > 20 {
			break
		}
		if i < len(was) {
			t.Log("-" + was[i])
		}
		if i < len(is) {
			t.Log("+" + is[i])
		}
	}
	t.Errorf("%s is not what comes out; look at the difference, and if it is meant, run with -update", golden)
}
