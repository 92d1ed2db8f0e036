package main

// This file owns `make wan`: goodput over paths that lose, delay and reorder,
// this stack and gVisor's against the kernel over the same relay, the kernel's
// client at the other end of each. It writes docs/wan.md.

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// wanGoal is what the ratio to the kernel is to be at least: within 5 %.
const wanGoal = 0.95

// oursBBR is this stack as a sender with another congestion control, for the
// first of the two ways.
const oursBBR = "tapstack-bbr"

// wanPaths are the rows. The last two are the same but for the reordering.
var wanPaths = func() (list []line) {
	for _, loss := range []float64{0.1, 1, 3} {
		for _, rtt := range []time.Duration{10, 50, 100} {
			list = append(list, line{loss: loss, delay: rtt * time.Millisecond / 2})
		}
	}
	ordered := line{delay: 10 * time.Millisecond, mbit: 100}
	reordered := ordered
	reordered.reorder = 1
	return append(list, ordered, reordered)
}()

func (l line) String() string {
	var s []string
	if l.loss > 0 {
		s = append(s, fmt.Sprintf("%g %% loss", l.loss))
	}
	s = append(s, fmt.Sprintf("%d ms", (2*l.delay).Milliseconds()))
	if l.mbit > 0 {
		s = append(s, fmt.Sprintf("%d Mbit/s", l.mbit))
	}
	if l.reorder > 0 {
		s = append(s, fmt.Sprintf("%g %% reordered by %d", l.reorder, behind))
	}
	return strings.Join(s, ", ")
}

// wanWays are the two directions of a stream.
var wanWays = []struct {
	title string
	port  uint16
	count func(socket, time.Duration) ([]float64, error)
}{
	{"from the stack to the kernel", chargenPort, receive},
	{"from the kernel to the stack", discardPort, acknowledged},
}

// wan measures every path, way and peer, and writes wan.md to the directory
// that the documents are for.
func wan(ctx context.Context, o *options) error {
	var list []peer
	for _, p := range peers(o) {
		if oneOfEach(p.name()) {
			list = append(list, p)
		}
	}
	list = append(list, &tapstack{device: 1, bbr: true})
	for _, p := range list {
		if err := p.start(ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name(), err)
		}
		defer p.stop()
		if err := awaitEcho(p); err != nil {
			return fmt.Errorf("%s: %w", p.name(), err)
		}
	}
	samples := make(map[string][]float64)
	key := func(way int, l line, p peer) string { return fmt.Sprint(way, l, p.name()) }
	for n := range o.rounds {
		for _, l := range wanPaths {
			if !o.only.MatchString(l.String()) {
				continue
			}
			for way, w := range wanWays {
				for i := range list {
					p := list[(i+n)%len(list)]
					if p.name() == oursBBR && w.port != chargenPort {
						continue
					}
					v, err := lossy(p, w.port, l, o.cc, func(s socket) ([]float64, error) { return w.count(s, o.wan) })
					if err != nil {
						return fmt.Errorf("%s, %v, %s: %w", p.name(), l, w.title, err)
					}
					k := key(way, l, p)
					samples[k] = append(samples[k], v[0])
					fmt.Fprintf(os.Stderr, "%d %-40v %-30s %-10s %6.2f MB/s\n", n+1, l, w.title, p.name(), v[0])
					if ctx.Err() != nil {
						return ctx.Err()
					}
				}
			}
		}
	}
	text := wanReport(o, list, func(way int, l line, p peer) []float64 { return samples[key(way, l, p)] })
	fmt.Print(string(text))
	if o.docs == "" {
		return nil
	}
	return os.WriteFile(filepath.Join(o.docs, "wan.md"), text, 0o644)
}

func wanReport(o *options, list []peer, samples func(int, line, peer) []float64) []byte {
	var b bytes.Buffer
	m := thisMachine()
	fmt.Fprintf(&b, "# Lossy paths\n\nWritten by `make wan` on %s: goodput in MB/s of one stream of %v over a relay that drops packets at random, delays and reorders, between\n"+
		"the kernel's client and each stack, none of them with offloads. The kernel at both ends (%s) is the reference; all use %s but for the column that says BBR. Medians [min-max] of %d rounds;\n"+
		"random loss makes single rounds differ by a tenth or more. Machine: %s, %d cores, %s.\n",
		time.Now().Format(time.DateOnly), o.wan, vethOff, o.cc, o.rounds, m.CPU, m.Cores, m.Kernel)
	for way, w := range wanWays {
		fmt.Fprintf(&b, "\n## %s%s\n\n| path | kernel | this stack | to the kernel's | ≥ %.2f | gVisor | ours to gVisor's | ours with BBR | that to gVisor's |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
			strings.ToUpper(w.title[:1]), w.title[1:], wanGoal)
		for _, l := range wanPaths {
			var by = make(map[string][]float64)
			for _, p := range list {
				by[p.name()] = samples(way, l, p)
			}
			us, kernel, other := by[ours], by[vethOff], by[gvisorTAP]
			if len(us) == 0 {
				continue
			}
			met := "yes"
			ratio := summarize(ratiosOf(us, kernel))
			if ratio.Median < wanGoal {
				met = "no"
			}
			fmt.Fprintf(&b, "| %v | %v | %v | %v | %s |", l, summarize(kernel), summarize(us), ratio, met)
			if len(other) == len(us) {
				fmt.Fprintf(&b, " %v | %v |", summarize(other), summarize(ratiosOf(us, other)))
			} else {
				b.WriteString(" – | – |")
			}
			if bbr := by[oursBBR]; len(bbr) == len(other) && len(bbr) > 0 {
				fmt.Fprintf(&b, " %v | %v |\n", summarize(bbr), summarize(ratiosOf(bbr, other)))
			} else {
				b.WriteString(" – | – |\n")
			}
		}
	}
	return b.Bytes()
}

// ratiosOf divides round by round.
func ratiosOf(a, b []float64) []float64 {
	r := make([]float64, len(a))
	for i := range a {
		r[i] = a[i] / b[i]
	}
	return r
}
