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
	line("Written by `make bench` on %s; the samples are in [benchmarks.json](benchmarks.json).\n", r.Date)
	line("## Compared with the Linux kernel\n")
	line("Ratios of tapstack on a TAP to the Linux kernel over veth, measured in the same run with the same client and the same services,")
	line("as median [min-max] of the ratios of %d rounds. Above 1 tapstack is ahead, in rows marked (time) below 1.\n", r.Rounds)
	cells := []string{""}
	for _, p := range others {
		cells = append(cells, "to "+p.Name)
	}
	head(append(cells, "goal", "met")...)
	for _, x := range r.Results {
		cells := []string{title(x)}
		for _, p := range others {
			cells = append(cells, x.Ratios[p.Name].String())
		}
		row(append(cells, x.goal(), x.met())...)
	}
	line("")
	for _, p := range r.Peers {
		line("* **%s**: %s.", p.Name, p.About)
	}
	line("\nThe goals for bulk are what a stack can reach that pays a system call for each frame of 1500 bytes: somewhat less than")
	line("a bare loop reached that answered frames without timers, losses or a second connection to think of. In the other rows")
	line("the kernel's side too is a server in Go, and its goroutines and network poller are part of the number: they compare what a")
	line("program in Go gets from either stack, not the stacks alone, and have no goal.\n")
	line("## The numbers themselves\n")
	cells = []string{"median [min-max]", "unit"}
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
	line("* %s, %d cores, %s, %s.", r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel, r.Machine.Go)
	cc := r.CC
	if cc == "" {
		cc = "the system's default"
	}
	line("* Kernel sockets use %s as congestion control, on both sides. One connection at a time.", cc)
	line("* All servers run the services of `tapstack up` as processes of their own, started anew in each round. In a round every test runs on every peer")
	line("  before the next test, and each round begins with another peer.")
	line("* The client is one thread with blocking kernel sockets: 256 KiB a call for bulk, in MB/s of 10⁶ bytes; a ping each millisecond; 64-byte datagrams, each")
	line("  answer followed by the next.")
	line("* Start-up is from exec of `tapstack up` to its line `ready`, with `--dad=false`; idle is the same command with three services and nobody talking to it.")
	line("\nTo repeat: `make bench` (about two minutes), `QUICK=1 make bench` (under one, writes no documents), `go -C bench run . -help` for more. With")
	line("`%s=FILE` the stack's server writes a CPU profile.\n", envProfile)
	line("## Noise\n")
	line("Absolute numbers on a virtual machine drift by a quarter within minutes, with what its neighbours do; latencies there are mostly the time in which an idle")
	line("virtual core wakes up, which varies with where the scheduler puts client and server. Peers measured within the same seconds meet the same")
	line("conditions, so quote ratios, and medians of them; single ratios still spread by some 15 %% either way, and a difference below that is none.")
	line("The client and the server need a core each. During these rounds other work kept %s cores busy (median [min-max]);", r.Others)
	line("with more than 0.15 throw the run away.")
	return b.Bytes()
}

// title says of times that less of them is better.
func title(x *result) string {
	if x.Lower {
		return x.Title + " (time)"
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
