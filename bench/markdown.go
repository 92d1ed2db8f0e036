package main

// This file owns docs/benchmarks.md.

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// pytcp is what PyTCP 2.7.10 did where it was measured: the best of its three
// settings (default logging, none, none and python -O).
var pytcp = []struct {
	key   string // of the metric it stands beside
	value float64
	note  string
}{
	{"tcp_in", 0.495, "10 MB to its discard service"},
	{"tcp_out", 0.955, "10 MB from a source on it"},
	{"tcp_connect", 15.5, "connect, echo, close, one after the other"},
	{"udp_echo", 3783, "one datagram in flight, not 64"},
	{"ping_p50", 290, "mean of ping -f"},
}

// tooBusy is how many cores other work may take in a run that counts.
const tooBusy = 0.15

const (
	pytcpStartup = 7200 // ms
	pytcpIdleCPU = 65e3 // µs of CPU in a second
	pytcpRSS     = 25   // MB
)

func (r *report) markdown() []byte {
	var b bytes.Buffer
	line := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	row := func(cells ...string) { line("| %s |", strings.Join(cells, " | ")) }
	head := func(cells ...string) {
		row(cells...)
		row(slices.Repeat([]string{"---"}, len(cells))...)
	}
	others := r.Peers[1:]

	line("# Benchmarks\n")
	line("Written by `make bench` on %s; the samples are in [benchmarks.json](benchmarks.json). Where the time goes is in [performance.md](performance.md).\n", r.Date)
	if r.Others.Median > tooBusy {
		line("**Other work kept %s cores busy during this run, the kernel's own threads included: go by the ratios and their spread, and repeat it on a quiet machine before quoting one.**\n", r.Others)
	}
	line("## Goals\n")
	line("Ratios of this stack to others, measured in the same run with the same client and the same services, as median [min-max] of the ratios of")
	line("%d rounds; a bound without × is for the figure itself. What stands in parentheses is what is wanted in the end.\n", r.Rounds)
	head("", "of", "to", "ratio", "goal", "met")
	met, all := 0, 0
	for _, x := range r.Results {
		for _, g := range x.Goals {
			to := g.To
			if to == "" {
				to = "–"
			}
			row(title(x), g.Of, to, x.reached(&g).String(), x.text(&g), g.Met)
			switch g.Met {
			case "yes":
				met++
				all++
			case "no":
				all++
			}
		}
	}
	line("\n%d of %d goals are met.\n", met, all)
	line("![ratios to the other stacks](benchmarks.svg)\n")
	for _, p := range r.Peers {
		line("* **%s**: %s.", p.Name, p.About)
	}
	line("\n## The numbers themselves\n")
	cells := []string{"median [min-max]", "unit"}
	for _, p := range r.Peers {
		cells = append(cells, p.Name)
	}
	head(cells...)
	for _, x := range r.Results {
		cells := []string{x.Title, x.Unit}
		for _, p := range r.Peers {
			cells = append(cells, x.Values[p.Name].String())
		}
		row(cells...)
	}
	row("start-up to `ready`, without DAD", "ms", r.Startup.String()+slashes(len(others)))
	row("idle: CPU in a second", "µs", num(r.Idle.CPU)+slashes(len(others)))
	row("idle: resident memory of the process", "MB", num(r.Idle.RSS)+slashes(len(others)))
	row("idle: goroutines, of them the stack's own", "", fmt.Sprintf("%d, %d", r.Idle.Goroutines, r.Idle.StackGoroutines)+slashes(len(others)))

	if len(r.Ceiling) > 0 {
		line("\n## The ceiling\n")
		line("What one thread moves through the descriptor of a TAP with virtio-net header when it does nothing with the frames: it writes one frame for somebody else")
		line("over and over, and reads what the kernel has queued. It is a bound for a stack in one thread, not a stack: no acknowledgement, no copy to an application,")
		line("and nobody at the other end who takes the other core.\n")
		head("", "unit", "ceiling", "stack", "its bulk", "of the ceiling")
		for _, c := range r.Ceiling {
			cells := []string{c.Title, "MB/s", c.Value.String(), c.Peer}
			for _, x := range r.Results {
				if v := x.Values[c.Peer]; x.Key == c.Metric && v != nil {
					cells = append(cells, num(v.Median), num(100*v.Median/c.Value.Median)+" %")
				}
			}
			for len(cells) < 6 {
				cells = append(cells, "")
			}
			row(cells...)
		}
	}
	line("\n## Compared with PyTCP 2.7.10\n")
	line("PyTCP was **measured elsewhere**, on another virtual machine (2 Xeon cores, Linux 6.18), with clients of its own,")
	line("while other work ran; each number is the best of its three settings. It cannot be repeated by `make bench`, so read the factors as orders of magnitude.\n")
	head("", "unit", r.Peers[0].Name, "PyTCP 2.7.10", "times better", "PyTCP's was")
	for _, p := range pytcp {
		for _, x := range r.Results {
			if x.Key == p.key {
				v := x.Values[r.Peers[0].Name].Median
				row(x.Title, x.Unit, num(v), strconv.FormatFloat(p.value, 'f', -1, 64), factor(v, p.value, x.Lower), p.note)
			}
		}
	}
	row("start-up to `ready`", "ms", num(r.Startup.Median), num(pytcpStartup), factor(r.Startup.Median, pytcpStartup, true), "static addresses, with DAD, which tapstack had off")
	row("idle: CPU in a second", "µs", num(r.Idle.CPU), num(pytcpIdleCPU), "", "a 1 ms tick")
	row("idle: resident memory", "MB", num(r.Idle.RSS), num(pytcpRSS), factor(r.Idle.RSS, pytcpRSS, true), "")

	line("\n## Where and how\n")
	line("* %s, %d cores, %s, %s, gVisor %s.", r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel, r.Machine.Go, r.Machine.Gvisor)
	cc := r.CC
	if cc == "" {
		cc = "the system's default"
	}
	line("* Kernel sockets use %s as congestion control, on both sides; gVisor uses CUBIC, this stack too, with SACK, RACK and tail loss probes.", cc)
	line("* All servers run the services of `tapstack up` as processes of their own, started anew in each round. In a round every test runs on every peer")
	line("  before the next test, and each round begins with another peer.")
	line("* The client is the same program for every peer, with blocking kernel sockets and a thread for each stream: 256 KiB a call for bulk, in MB/s of 10⁶ bytes;")
	line("  a ping each millisecond; 64-byte datagrams, each answer followed by the next. Bulk to the server counts until the server has read all of it.")
	line("* A bulk stream's cost is the CPU time of client and server; with offload the kernel's share is most of it. The kernel's own peers do part of")
	line("  their work for each other, which is why only the sum says something.")
	line("* Memory is the growth of the server's resident size after collecting garbage, with %d connections that nobody reads from, so that no goroutine of an application counts.", fullLengths.idle)
	line("  The kernel's is not in its processes and not weighed. These rows are of the first rounds only.")
	line("* On the path that loses, frames go through a relay: a process between two packet sockets that drops %d %% each way by the same random sequence for all and, in the", lossPercent)
	line("  last row, delays by %d ms each way. Nothing is offloaded there. Goodput is what arrives within %v and %v after the connection has begun.", oneWay.Milliseconds(), fullLengths.lossy, fullLengths.far)
	line("* Start-up is from exec of `tapstack up` to its line `ready`, with `--dad=false`; idle is the same command with three services and nobody talking to it.")
	line("* lwIP, which some comparisons elsewhere have, is not part of this: it would take a C compiler.")
	line("\nTo repeat: `make bench` (about six minutes), `QUICK=1 make bench` (under one, writes no documents), `go -C bench run . -help` for more. With")
	line("`%s=FILE` the stack's server writes a CPU profile.\n", envProfile)
	line("## Noise\n")
	line("Absolute numbers on a virtual machine drift by a quarter within minutes, with what its neighbours do; latencies there are mostly the time in which an idle")
	line("virtual core wakes up, which varies with where the scheduler puts client and server. Peers measured within the same seconds meet the same")
	line("conditions, so quote ratios, and medians of them; single ratios still spread by some 15 %% either way, and a difference below that is none.")
	line("The client and the server need a core each. During these rounds other work kept %s cores busy (median [min-max]);", r.Others)
	line("with more than %v throw the run away.", tooBusy)
	return b.Bytes()
}

// title says of times, sizes and costs that less of them is better.
func title(x *result) string {
	if x.Lower {
		return x.Title + " (less is better)"
	}
	return x.Title
}

func slashes(n int) string { return strings.Repeat(" | –", n) }

// factor is how many times better ours is.
func factor(ours, theirs float64, lower bool) string {
	if lower {
		ours, theirs = theirs, ours
	}
	if theirs == 0 {
		return ""
	}
	return num(ours / theirs)
}
