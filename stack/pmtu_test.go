package stack_test

import (
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/stack/simnet"
	"github.com/tapstack/tapstack/tcp"
)

// TestBlackHole sends through a path that silently drops packets of more than
// 1400 bytes, as a tunnel does whose ICMP is filtered: it has to work, find the
// size, and use the whole again when the path has healed.
func TestBlackHole(t *testing.T) {
	for _, c := range []struct {
		to   string
		opts tcp.MTUProbing
	}{
		{"10.77.0.2:80", tcp.MTUProbeBlackHole},
		{"[fd77::2]:80", tcp.MTUProbeBlackHole},
		{"10.77.0.2:80", tcp.MTUProbeAlways},
	} {
		limit := 1400
		drop := func(f []byte) bool { return len(f) > 14+limit }
		p := &pair{t: t, net: simnet.New(1), live: pkt.Live()}
		p.seg = p.net.Segment(wire.Options{Delay: 10 * time.Millisecond, Rate: 50e6, Queue: 200, Drop: drop})
		p.a, p.ia = p.net.Host(p.seg, stack.Config{}, nil, "10.77.0.1/24", "fd77::1/64")
		p.b, p.ib = p.net.Host(p.seg, stack.Config{TCP: stack.TCPConfig{MTUProbing: c.opts}}, nil, "10.77.0.2/24", "fd77::2/64")
		const n = 5 << 20
		d := startDownload(t, p.net, p.a, p.b, c.to, n)
		start := p.net.Now()
		if !p.net.Until(time.Minute, func() bool { return d.got == n }) {
			t.Fatalf("%s: %d bytes arrived, %+v", c.to, d.got, d.server.Info())
		}
		i := d.server.Info()
		t.Logf("%s: done after %v, MSS %d, %d time-outs, %d probes, %d of them lost", c.to, p.net.Now().Sub(start), i.MSS, i.Timeouts, i.MTUProbes, i.MTUProbesLost)
		header := 40 + 12
		if c.to[0] == '[' {
			header += 20
		}
		if got := i.MSS + header; got > limit || got <= limit-8 {
			t.Errorf("%s: packets of %d bytes over a path of %d", c.to, got, limit)
		}
		if want := map[bool]uint32{true: 1}[c.opts == tcp.MTUProbeBlackHole]; i.BlackHoles != want || want == 0 && i.Timeouts > 0 {
			t.Errorf("%s: %d black holes, %d time-outs", c.to, i.BlackHoles, i.Timeouts)
		}
		// Nobody else has to go through it: Linux keeps this to the connection.
		if c := p.b.Counters(); c["icmp.in.error"] != 0 {
			t.Errorf("a router has said so")
		}
		limit = 1500
		d.more(n)
		if !p.net.Until(time.Minute, func() bool { return d.got == 2*n }) || d.server.Info().MTUProbes != i.MTUProbes {
			t.Errorf("%s: %d probes before it is time", c.to, d.server.Info().MTUProbes-i.MTUProbes)
		}
		p.net.RunFor(10 * time.Minute)
		d.more(n)
		if !p.net.Until(time.Minute, func() bool { return d.got == 3*n }) || d.server.Info().MSS+header != 1500 {
			t.Errorf("%s: MSS %d on the path that has healed", c.to, d.server.Info().MSS)
		}
		if after := d.server.Info(); after.MTUProbesLost != i.MTUProbesLost || after.MTUProbes != i.MTUProbes+1 {
			t.Errorf("%s: %d probes more, %d lost", c.to, after.MTUProbes-i.MTUProbes, after.MTUProbesLost-i.MTUProbesLost)
		}
		d.end(p.net)
		p.close()
	}
}

// TestPathMTUGrowsOld: what a router said is believed for ten minutes; then an
// established connection, too, sends full segments again (RFC 1191 §6.3).
func TestPathMTUGrowsOld(t *testing.T) {
	eachFamily(t, func(t *testing.T, c familyCase) {
		h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{}).meet()
		h.answers()
		p := h.connect(h.listen(80, 5), c.v6, 4000)
		p.conn.Write(pattern(5000))
		h.d.inject(tooBig(c.v6, 1300, h.d.take()[0]))
		sizes := func(n int) int {
			p.conn.Write(pattern(n))
			size := 0
			for range 20 {
				h.n.RunFor(2 * time.Millisecond)
				size = max(size, largest(h.d.sent))
				p.take()
				p.input(tcp.FlagACK, "")
			}
			return size
		}
		if got := sizes(5000); got != 1300 {
			t.Errorf("packets of %d bytes", got)
		}
		h.run(9 * time.Minute)
		if got := sizes(5000); got != 1300 {
			t.Errorf("packets of %d bytes after nine minutes", got)
		}
		h.run(time.Minute)
		if got := sizes(5000); got != 1500 {
			t.Errorf("packets of %d bytes after ten minutes", got)
		}
		// The next router to say so is believed again.
		p.conn.Write(pattern(5000))
		h.d.inject(tooBig(c.v6, 1400, h.d.take()[0]))
		if got := sizes(100); got != 1400 {
			t.Errorf("packets of %d bytes after the second message", got)
		}
	})
}
