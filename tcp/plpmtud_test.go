package tcp

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// big gives a script a connection with a window of 40 segments of 1460, and
// SACK.
const big = `
	connect
	> S 0:0(0)
	+100ms
	< S. 0:0(0) win 65535 ack 1 <mss 1460,sackOK,nop,wscale 4>
	> . 1:1(0) ack 1
`

// mtuPath is the way to a peer that acknowledges whatever fits.
type mtuPath struct {
	*trace
	fits  int          // bytes of a segment with its options; 0: nothing passes
	sack  bool         // the peer tells what arrived
	held  map[int]bool // what arrived beyond ack, by its first byte
	sizes map[int]int
	ack   int
	seen  map[int]int // segments that left, by their size
	lose  func(at, n int) bool
	batch bool // all answers come before anything leaves
}

// openPath runs the script and has n bytes written.
func openPath(t *testing.T, config string, sack bool, fits, n int) *mtuPath {
	script := big
	if !sack {
		script = strings.Replace(script, ",sackOK", "", 1)
	}
	p := &mtuPath{trace: run(t, "config sndbuf=10000000 "+config+"\n"+script), fits: fits, sack: sack, ack: 1,
		held: map[int]bool{}, sizes: map[int]int{}, seen: map[int]int{}}
	p.step(strings.Fields(fmt.Sprintf("write %d", n)))
	return p
}

// round brings what left to the peer and its answers back, or waits for the
// next timer if nothing did.
func (p *mtuPath) round() {
	p.t.Helper()
	if len(p.out) == 0 {
		d := p.c.Deadline()
		if d == 0 {
			p.t.Fatal("nothing happens")
		}
		p.now = max(p.now, d)
		p.c.Expire(p.now)
		p.flush()
		return
	}
	p.now = p.now.Add(100 * time.Millisecond)
	out := p.out
	p.out = nil
	for _, o := range out {
		n, at := o.seg.PayloadLen(), o.seg.Seq.Sub(p.cfg.ISS)
		p.seen[n]++
		if n+o.seg.HeaderLen()-MinHeaderLen > p.fits || p.lose != nil && p.lose(at, n) {
			continue
		}
		p.held[at], p.sizes[at] = true, n
		for p.held[p.ack] {
			p.ack += p.sizes[p.ack]
		}
		blocks := ""
		if at >= p.ack && p.sack {
			blocks = fmt.Sprintf(" <sack %d:%d>", at, at+n)
		}
		if p.batch {
			s := &Segment{Seq: p.c.rcvNxt, Ack: p.cfg.ISS.Add(p.ack), Flags: FlagACK, Window: 65535}
			if blocks != "" {
				s.Options.NumSACK, s.Options.SACK[0] = 1, SACKBlock{p.cfg.ISS.Add(at), p.cfg.ISS.Add(at + n)}
			}
			p.c.Input(p.now, s)
			continue
		}
		p.step(strings.Fields(fmt.Sprintf("< . 1:1(0) ack %d%s", p.ack, blocks)))
		p.check()
	}
	p.flush()
}

// until goes on until done.
func (p *mtuPath) until(what string, done func(Info) bool) Info {
	p.t.Helper()
	for range 5000 {
		if i := p.c.Info(); done(i) {
			return i
		}
		p.round()
	}
	p.t.Fatalf("never: %s; %+v", what, p.c.Info())
	return Info{}
}

// A path of 1400 bytes that says nothing: three time-outs, segments of 1024
// bytes, and probes up to what passes, none of which slows the sender down.
func TestBlackHole(t *testing.T) {
	const fits = 1400 - 40
	for _, sack := range []bool{true, false} {
		p := openPath(t, "", sack, fits, 1_000_000)
		in := p.until("a black hole is seen", func(i Info) bool { return i.BlackHoles > 0 })
		if in.Timeouts != 3 || in.MSS != 1024 || p.seen[1460] < 10 {
			t.Errorf("sack %v: %d time-outs, MSS %d", sack, in.Timeouts, in.MSS)
		}
		p.until("recovered", func(i Info) bool { return i.Cwnd > 15*1024 })
		cwnd := 0
		in = p.until("all of it arrived", func(i Info) bool {
			if i.Cwnd < cwnd {
				t.Errorf("sack %v: the window fell from %d to %d", sack, cwnd, i.Cwnd)
			}
			cwnd = i.Cwnd
			return p.ack == 1_000_001
		})
		if in.MSS > fits || in.MSS <= fits-mtuThreshold || in.Timeouts != 3 || in.FastRetransmits > 0 {
			t.Errorf("sack %v: MSS %d in the end, %d time-outs, %d fast retransmissions", sack, in.MSS, in.Timeouts, in.FastRetransmits)
		}
		if in.MTUProbes != 7 || in.MTUProbesLost != 4 || in.BlackHoles != 1 {
			t.Errorf("sack %v: %d probes, %d lost, %d black holes", sack, in.MTUProbes, in.MTUProbesLost, in.BlackHoles)
		}
	}
}

// The path becomes better: after ten minutes the search finds out, with one
// probe.
func TestMTUSearchAgain(t *testing.T) {
	p := openPath(t, "", true, 1360, 500_000)
	p.until("the search is over", func(i Info) bool { return p.ack == 500_001 })
	before := p.c.Info()
	p.fits = 1460
	p.step(strings.Fields("write 500000"))
	in := p.until("half of the rest", func(i Info) bool { return p.ack > 750_000 })
	if in.MTUProbes != before.MTUProbes {
		t.Errorf("%d probes before the interval is over", in.MTUProbes-before.MTUProbes)
	}
	p.until("that as well", func(i Info) bool { return p.ack == 1_000_001 })
	p.advance(mtuInterval)
	p.step(strings.Fields("write 500000"))
	in = p.until("all of it", func(i Info) bool { return p.ack == 1_500_001 })
	if in.MSS != 1460 || in.MTUProbes != before.MTUProbes+1 || in.MTUProbesLost != before.MTUProbesLost {
		t.Errorf("MSS %d, %d more probes, %d lost", in.MSS, in.MTUProbes-before.MTUProbes, in.MTUProbesLost-before.MTUProbesLost)
	}
	// Nothing is left to be found.
	p.advance(mtuInterval)
	p.step(strings.Fields("write 500000"))
	if again := p.until("and that", func(i Info) bool { return p.ack == 2_000_001 }); again.MTUProbes != in.MTUProbes {
		t.Errorf("%d probes for nothing", again.MTUProbes-in.MTUProbes)
	}
}

// It was no black hole: the whole path was down. The first probe shows it.
func TestBlackHoleThatWasNone(t *testing.T) {
	p := openPath(t, "", true, 0, 500_000)
	p.until("a black hole is seen", func(i Info) bool { return i.BlackHoles > 0 })
	p.fits = 1460
	p.until("full segments", func(i Info) bool { return i.MSS == 1460 })
	if p.ack > 40_000 {
		t.Errorf("%d bytes in small segments", p.ack)
	}
	in := p.until("all of it", func(i Info) bool { return p.ack == 500_001 })
	if in.MSS != 1460 || in.MTUProbes != 1 || in.MTUProbesLost != 0 {
		t.Errorf("MSS %d, %d probes, %d lost", in.MSS, in.MTUProbes, in.MTUProbesLost)
	}
}

// With every further time-out half of it, down to the floor; small segments
// are not to blame; and it can be switched off.
func TestBlackHoleSizes(t *testing.T) {
	for _, c := range []struct {
		config string
		text   int
		want   []int // MSS after 1, 2, 3 … time-outs
	}{
		{"", 100_000, []int{1460, 1460, 1024, 512, 512, 512}},
		{"mss=8960", 100_000, []int{1460, 1460, 1024, 512, 512, 512}},
		{"mss=1000", 100_000, []int{1000, 1000, 1000, 1000, 1000}},
		{"", 1024, []int{1460, 1460, 1460, 1460, 1460}},
		{"", 1025, []int{1460, 1460, 1024, 512, 512, 512}},
		{"mtuprobing=0", 100_000, []int{1460, 1460, 1460, 1460, 1460}},
		{"mtuprobing=2", 100_000, []int{1024, 1024, 512, 512, 512}},
	} {
		p := openPath(t, c.config, true, 0, c.text)
		for i, want := range c.want {
			in := p.until("a time-out", func(in Info) bool { return in.Timeouts == uint64(i+1) })
			if in.MSS != want {
				t.Errorf("%s, %d bytes: MSS %d after %d time-outs, want %d", c.config, c.text, in.MSS, i+1, want)
			}
		}
	}
}

// From the start, as an option: small segments first. With timestamps, which
// count.
func TestMTUProbeAlways(t *testing.T) {
	p := openPath(t, "mtuprobing=2", true, 1460, 1_000_000)
	if in := p.c.Info(); in.MSS != 1024 || in.BlackHoles != 0 {
		t.Errorf("MSS %d at first", in.MSS)
	}
	in := p.until("all of it", func(i Info) bool { return p.ack == 1_000_001 })
	if in.MSS <= 1460-mtuThreshold || in.MTUProbes != 6 || in.MTUProbesLost != 0 || in.Retransmits != 0 {
		t.Errorf("MSS %d after %d probes, %d lost", in.MSS, in.MTUProbes, in.MTUProbesLost)
	}
	run(t, `
		config mtuprobing=2
		connect
		> S 0:0(0)
		< S. 0:0(0) ack 1 <mss 1460,sackOK,TS val 1 ecr 100>
		> . 1:1(0) ack 1
		info MSS 1012`)
}

// The same, when many ACKs come before the probe's text can go again.
func TestMTUProbeLostInBatch(t *testing.T) {
	for _, sack := range []bool{true, false} {
		p := openPath(t, "mtuprobing=2", sack, 1360, 500_000)
		p.batch = true
		in := p.until("all of it", func(i Info) bool { return p.ack == 500_001 })
		if in.MTUProbesLost == 0 || in.FastRetransmits != 0 || in.Ssthresh < 1<<30 {
			t.Errorf("sack %v: %d probes lost, %d losses, ssthresh %d", sack, in.MTUProbesLost, in.FastRetransmits, in.Ssthresh)
		}
	}
}

// A probe that is not alone in getting lost says nothing, and the loss counts.
func TestMTUProbeInconclusive(t *testing.T) {
	p := openPath(t, "mtuprobing=2", true, 1460, 500_000)
	lost := 0
	p.lose = func(at, n int) bool {
		m := p.c.mtu
		if m.probes > 0 && lost < 2 && at >= m.start.Sub(p.cfg.ISS) {
			lost++ // the probe, and what follows it
			return true
		}
		return false
	}
	in := p.until("that loss", func(i Info) bool { return i.FastRetransmits > 0 })
	if in.MTUProbesLost != 0 || in.Ssthresh > 100_000 || p.c.mtu.size != 0 || p.c.mtu.high != 1460 {
		t.Errorf("%d probes lost, ssthresh %d, high %d", in.MTUProbesLost, in.Ssthresh, p.c.mtu.high)
	}
	in = p.until("all of it", func(i Info) bool { return p.ack == 500_001 })
	if in.MSS <= 1460-mtuThreshold {
		t.Errorf("MSS %d", in.MSS)
	}
}

// A router that does say how much it carries ends the search there.
func TestMTUSearchAndRouters(t *testing.T) {
	p := openPath(t, "mtuprobing=2", true, 1360, 500_000)
	p.until("a probe leaves", func(i Info) bool { return i.MTUProbes == 2 })
	m := p.c.mtu
	p.step(strings.Fields(fmt.Sprintf("mtu 1400 at %d", m.start.Sub(p.cfg.ISS))))
	in := p.until("all of it", func(i Info) bool { return p.ack == 500_001 })
	if in.MSS > 1360 || in.MSS <= 1360-mtuThreshold || m.high != 1360 {
		t.Errorf("MSS %d, high %d", in.MSS, m.high)
	}
	// Or less than what passed already.
	p.step(strings.Fields("write 100000"))
	p.step(strings.Fields("mtu 1000 at 500001"))
	if in := p.c.Info(); in.MSS != 960 || m.low != 960 || m.high != 960 {
		t.Errorf("MSS %d, low %d, high %d", in.MSS, m.low, m.high)
	}
}
