package main

// This file owns `make profile`: the stack's server under the CPU profiler, one
// workload after the other, and where its time went, in words, as a flame
// graph, and as the profile itself.

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// profiled are the tests to look at.
var profiled = []string{"tcp-in", "tcp-out", "tcp-in-8", "tcp-out-8", "tcp-echo", "tcp-connect", "udp-echo"}

var profileLengths = lengths{bulk: 3 * time.Second, short: 3 * time.Second, requests: 20000}

// profile writes <peer>-<test>.pprof, .svg and .txt for each, and summary.txt.
func profile(ctx context.Context, o *options) error {
	if err := os.MkdirAll(o.profile, 0o755); err != nil {
		return err
	}
	widenPorts()
	var summary bytes.Buffer
	for _, p := range peers(o)[:2] {
		if !strings.HasPrefix(p.name(), ours) {
			continue
		}
		for _, name := range profiled {
			if !o.only.MatchString(name) {
				continue
			}
			text, err := profileOne(ctx, o, p, name)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", p.name(), name, err)
			}
			summary.WriteString(text)
			fmt.Print(text)
		}
	}
	return os.WriteFile(filepath.Join(o.profile, "summary.txt"), summary.Bytes(), 0o644)
}

func profileOne(ctx context.Context, o *options, p peer, name string) (string, error) {
	base := filepath.Join(o.profile, p.name()+"-"+name)
	if err := os.Setenv(envProfile, base+".pprof"); err != nil {
		return "", err
	}
	if err := p.start(ctx); err != nil {
		return "", err
	}
	stopped := false
	stop := func() error {
		if stopped {
			return nil
		}
		stopped = true
		return p.stop()
	}
	defer func() { _ = stop() }() // the error is that of the first call
	if err := awaitEcho(p); err != nil {
		return "", err
	}
	var t *test
	for i := range tests {
		if tests[i].name == name {
			t = &tests[i]
		}
	}
	begin, used := time.Now(), cpuTime(p.pid())
	values, err := t.run(p, profileLengths, o.cc)
	if err != nil {
		return "", err
	}
	cores := (cpuTime(p.pid()) - used).Seconds() / time.Since(begin).Seconds()
	if err := stop(); err != nil {
		return "", err
	}
	list, err := pprofTool(ctx, "-top", "-nodecount=60", base+".pprof")
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(base+".txt", list, 0o644); err != nil {
		return "", err
	}
	traces, err := pprofTool(ctx, "-traces", "-unit=us", base+".pprof")
	if err != nil {
		return "", err
	}
	samples := parseTraces(traces)
	if err := os.WriteFile(base+".svg", flameGraph(samples, p.name()+", "+t.metrics[0].Title), 0o644); err != nil {
		return "", err
	}
	text := fmt.Sprintf("%s, %s: %s %s, %.2f cores\n", p.name(), t.metrics[0].Title, num(values[0]), t.metrics[0].Unit, cores)
	return text + shares(samples), nil
}

// pprofTool runs the Go tool of that name on a profile.
func pprofTool(ctx context.Context, args ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, "go", append([]string{"tool", "pprof"}, args...)...)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("go tool pprof: %w: %s", err, stderr.Bytes())
	}
	return out, nil
}

// sample is a call stack, the innermost function first, and its time in µs.
type sample struct {
	us    float64
	stack []string
}

// parseTraces reads what `go tool pprof -traces -unit=us` writes.
func parseTraces(text []byte) (samples []sample) {
	blocks := strings.Split(string(text), "-----------+")
	for _, block := range blocks[min(1, len(blocks)):] {
		var s sample
		for i, line := range strings.Split(block, "\n") {
			f := strings.Fields(line)
			if i == 0 || len(f) == 0 { // the rest of the rule
				continue
			}
			if s.stack == nil {
				if _, err := fmt.Sscanf(f[0], "%gus", &s.us); err != nil || len(f) < 2 {
					break
				}
				f = f[1:]
			}
			s.stack = append(s.stack, strings.TrimSuffix(strings.Join(f, " "), " (inline)"))
		}
		if s.stack != nil {
			samples = append(samples, s)
		}
	}
	return samples
}

// kinds say what a sample counts as: the first with a prefix of any of the
// functions in the stack, or of the innermost alone.
var kinds = []struct {
	name      string
	any       []string
	innermost []string
}{
	{name: "collecting garbage", any: []string{"runtime.gcBgMarkWorker", "runtime.bgsweep", "runtime.bgscavenge", "runtime.gcAssist", "runtime.gcStart"}},
	{name: "allocating", any: []string{"runtime.mallocgc", "runtime.newobject", "runtime.growslice", "runtime.makeslice"}},
	{name: "scheduler: finding work, parking, waking", any: []string{
		"runtime.mcall", "runtime.schedule", "runtime.findRunnable", "runtime.goready", "runtime.ready", "runtime.wakep", "runtime.netpoll",
		"runtime.gopark", "runtime.futex", "runtime.sysmon", "runtime.startm", "runtime.mstart", "runtime.entersyscall", "runtime.exitsyscall",
		"runtime.retake", "runtime.semrelease", "runtime.semacquire", "runtime.(*timers)", "runtime.usleep",
	}},
	{name: "system call: reading frames", any: []string{"github.com/tapstack/tapstack/ether/tap.read", "github.com/tapstack/tapstack/ether/packet.(*Device).read"}},
	{name: "system call: writing frames", any: []string{"github.com/tapstack/tapstack/ether/tap.write", "github.com/tapstack/tapstack/ether/tap.put",
		"github.com/tapstack/tapstack/ether/tap.(*Device).write", "github.com/tapstack/tapstack/ether/packet.(*Device).write",
		"github.com/tapstack/tapstack/ether/internal/vnet.write", "github.com/tapstack/tapstack/ether/internal/vnet.(*Sender)"}},
	{name: "copying and clearing", innermost: []string{"runtime.memmove", "runtime.memclr", "runtime.duff"}},
	{name: "checksums", innermost: []string{"github.com/tapstack/tapstack/internal/csum"}},
	{name: "locks", innermost: []string{"sync.", "internal/sync.", "runtime.lock", "runtime.unlock", "runtime.procyield", "internal/poll.(*fdMutex)", "runtime.chan", "runtime.selectgo"}},
	{name: "clock", innermost: []string{"runtime.nanotime", "time.now", "runtime.vdso", "github.com/tapstack/tapstack/internal/mono"}},
	{name: "TCP", innermost: []string{"github.com/tapstack/tapstack/tcp"}},
	{name: "buffers and timers", innermost: []string{"github.com/tapstack/tapstack/internal/"}},
	{name: "stack and devices", innermost: []string{"github.com/tapstack/tapstack/"}},
}

// kind classifies a sample. A system call's time is the caller's only as far as
// it is spent in it.
func (s *sample) kind() string {
	for _, k := range kinds {
		for _, p := range k.innermost {
			if strings.HasPrefix(s.stack[0], p) {
				return k.name
			}
		}
		if strings.HasPrefix(k.name, "system call") && !strings.Contains(s.stack[0], "syscall") && !strings.Contains(s.stack[0], "Syscall") {
			continue
		}
		for _, f := range s.stack {
			for _, p := range k.any {
				if strings.HasPrefix(f, p) {
					return k.name
				}
			}
		}
	}
	if strings.Contains(s.stack[0], "yscall") {
		return "system call: other"
	}
	return "other"
}

// shares is a table of the kinds, the largest first.
func shares(samples []sample) string {
	by, sum := make(map[string]float64), 0.0
	for i := range samples {
		by[samples[i].kind()] += samples[i].us
		sum += samples[i].us
	}
	var b strings.Builder
	for _, name := range descending(by) {
		fmt.Fprintf(&b, "  %5.1f %%  %s\n", 100*by[name]/sum, name)
	}
	return b.String()
}
