package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/internal/lab"
)

// TestMain serves the roles of servers, which tests start as this program.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "serve" {
		attach.Exit("serve", serve(os.Args[2], os.Args[3:]))
	}
	lab.Main(m)
}

func TestSummarize(t *testing.T) {
	for _, c := range []struct {
		samples          []float64
		median, min, max float64
	}{
		{[]float64{3}, 3, 3, 3},
		{[]float64{4, 1, 2}, 2, 1, 4},
		{[]float64{1, 8, 2, 4}, 3, 1, 8},
		{[]float64{123456, 2}, 61750, 2, 123500}, // four digits
	} {
		if s := summarize(c.samples); s.Median != c.median || s.Min != c.min || s.Max != c.max {
			t.Errorf("%v: %v %v %v, want %v %v %v", c.samples, s.Median, s.Min, s.Max, c.median, c.min, c.max)
		}
	}
}

func TestQuantiles(t *testing.T) {
	var took []time.Duration
	for i := 101; i > 0; i-- {
		took = append(took, time.Duration(i)*time.Microsecond)
	}
	if q := quantiles(took); q[0] != 51 || q[1] != 100 {
		t.Errorf("median %v and p99 %v of 1..101, want 51 and 100", q[0], q[1])
	}
	if q := quantiles(took[:1]); q[0] != 1 || q[1] != 1 {
		t.Errorf("of one sample: %v", q)
	}
}

func TestNum(t *testing.T) {
	for x, want := range map[float64]string{
		0: "0", 0.012: "0.01", 0.456: "0.46", 1: "1.00", 9.87: "9.87", 12.34: "12.3", 123.4: "123", 123456: "123456",
	} {
		if got := num(x); got != want {
			t.Errorf("%v is shown as %s, want %s", x, got, want)
		}
	}
}

func TestCountGoroutines(t *testing.T) {
	const dump = `SIGQUIT: quit

goroutine 0 gp=0x1 m=0 mp=0x1 [idle]:
runtime.futex()

goroutine 1 gp=0x2 m=nil [select]:
github.com/tapstack/tapstack/internal/attach.(*Options).Run(0x1)
	/x/main.go:63 +0x1
main.main()

goroutine 2 gp=0x3 m=nil [force gc (idle)]:
runtime.goparkunlock()
created by runtime.init.7 in goroutine 1

goroutine 6 gp=0x4 m=nil [IO wait]:
internal/poll.(*FD).RawRead(0x1)
github.com/tapstack/tapstack/ether/internal/fdloop.(*Loop).Receive(0x1)
	/x/fdloop.go:1 +0x1
github.com/tapstack/tapstack/stack.(*Interface).receive(0x1)
sync.(*WaitGroup).Go.func1()
created by sync.(*WaitGroup).Go in goroutine 1

goroutine 7 gp=0x5 m=nil [select]:
github.com/tapstack/tapstack/stack.(*Listener).Accept(0x1)
github.com/tapstack/tapstack/internal/service.(*Service).Serve(0x1)
sync.(*WaitGroup).Go.func1()
created by sync.(*WaitGroup).Go in goroutine 1
`
	if all, stack := countGoroutines(dump); all != 3 || stack != 1 {
		t.Errorf("%d goroutines, %d of the stack, want 3 and 1", all, stack)
	}
}

// TestTests runs every test briefly on the kernel as its own server.
func TestTests(t *testing.T) {
	lab.RequireNamespace(t)
	l, err := lab.New()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.Do(func() {
		k := &kernel{pair: pair{n: 1}}
		if err := k.start(context.Background()); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := k.stop(); err != nil {
				t.Error(err)
			}
			if _, err := net.InterfaceByName("veth1"); err == nil {
				t.Error("the veth pair is left behind")
			}
		}()
		if err := awaitEcho(k); err != nil {
			t.Fatal(err)
		}
		const moment = 20 * time.Millisecond
		brief := lengths{bulk: moment, short: moment, lossy: 5 * moment, far: 10 * moment, requests: 10, pings: 3, idle: 500}
		for _, x := range tests {
			values, err := x.run(k, brief, "")
			if err != nil {
				t.Errorf("%s: %v", x.name, err)
				continue
			}
			if len(values) != len(x.metrics) {
				t.Errorf("%s: %d values for %d metrics", x.name, len(values), len(x.metrics))
			}
			for i, v := range values {
				// The kernel's memory is not in its process.
				if v <= 0 && !strings.HasSuffix(x.metrics[i].Key, "_bytes") {
					t.Errorf("%s: %s is %v", x.name, x.metrics[i].Key, v)
				}
			}
		}
	})
}

// TestPeers: every peer starts, answers and ends.
func TestPeers(t *testing.T) {
	lab.Require(t)
	l, err := lab.NewWith(lab.Options{Hosts: hosts, Device: "tap"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.Do(func() {
		list := peers(&options{})
		for _, p := range list {
			if err := p.start(context.Background()); err != nil {
				t.Fatalf("%s: %v", p.name(), err)
			}
			defer func() {
				if err := p.stop(); err != nil {
					t.Errorf("%s: %v", p.name(), err)
				}
			}()
		}
		for _, p := range list {
			if err := awaitEcho(p); err != nil {
				t.Errorf("%s: %v", p.name(), err)
			}
		}
		values, err := ceilings(10 * time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		for i, b := range bounds() {
			if values[i] <= 0 {
				t.Errorf("ceiling: %s is %v", b.Title, values[i])
			}
		}
	})
}

// TestGoals: goals speak of peers on which their test is run.
func TestGoals(t *testing.T) {
	for _, x := range tests {
		for _, m := range x.metrics {
			for _, g := range m.Goals {
				if !x.measures(g.Of) || g.To != "" && !x.measures(g.To) {
					t.Errorf("%s: a goal of %s to %q, which are not both measured", m.Key, g.Of, g.To)
				}
			}
		}
	}
}

const traces = `File: bench
Type: cpu
Duration: 1s, Total samples = 30000us
-----------+-------------------------------------------------------
    20000us   internal/runtime/syscall.Syscall6
             syscall.RawSyscall6
             github.com/tapstack/tapstack/ether/tap.readVnet (inline)
             github.com/tapstack/tapstack/stack.(*Interface).receive
-----------+-------------------------------------------------------
    10000us   runtime.memmove
             github.com/tapstack/tapstack/ether/tap.readVnet
             github.com/tapstack/tapstack/stack.(*Interface).receive
-----------+-------------------------------------------------------
`

func TestProfile(t *testing.T) {
	samples := parseTraces([]byte(traces))
	if len(samples) != 2 || len(samples[0].stack) != 4 || samples[1].us != 10000 {
		t.Fatalf("samples %+v", samples)
	}
	want := "   66.7 %  system call: reading frames\n   33.3 %  copying and clearing\n"
	if got := shares(samples); got != want {
		t.Errorf("%s, want\n%s", got, want)
	}
	svg := flameGraph(samples, "in & out")
	wellFormed(t, svg)
	if n := bytes.Count(svg, []byte("<g>")); n != 5 {
		t.Errorf("%d bars, want two that both samples share and three that they do not", n)
	}
}

func wellFormed(t *testing.T, doc []byte) {
	t.Helper()
	for d := xml.NewDecoder(bytes.NewReader(doc)); ; {
		if _, err := d.Token(); err == io.EOF {
			return
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, doc)
		}
	}
}

// TestLaunch: a server that is not one is an error that says what it wrote.
func TestLaunch(t *testing.T) {
	runtime.LockOSThread() // as launch wants it
	defer runtime.UnlockOSThread()
	_, err := launch(context.Background(), exec.Command("/bin/sh", "-c", "echo reading; echo no such thing >&2; exit 3"))
	if err == nil || !strings.Contains(err.Error(), "no such thing") {
		t.Errorf("error %v, want what the server wrote", err)
	}
	p, err := launch(context.Background(), exec.Command("/bin/sh", "-c", "echo ready; exec sleep 60"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.end(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}

// fake is a peer for the report.
type fake struct {
	peer
	called string
}

func (f fake) name() string { return f.called }
func (fake) about() string  { return "one of them" }

func TestReport(t *testing.T) {
	r := newReport(&options{rounds: 2, cc: "cubic"}, []peer{fake{called: ours}, fake{called: oursPlain}, fake{called: veth}})
	bulk := metric{Key: "tcp_in", Title: "bulk", Unit: "MB/s", Goals: []goal{
		{Of: ours, To: veth, Bound: 0.5, Stretch: 0.9}, {Of: ours, Bound: 1000}, {Of: oursPlain, To: gvisorTAP, Bound: 2},
	}}
	delay := metric{Key: "delay", Title: "delay", Unit: "µs", Lower: true, Goals: []goal{{Of: ours, To: veth, Bound: 1.5}}}
	for _, x := range []struct {
		m            metric
		ours, theirs float64
	}{{bulk, 100, 200}, {bulk, 300, 300}, {delay, 40, 20}, {delay, 20, 20}} {
		r.add(x.m, ours, x.ours)
		r.add(x.m, veth, x.theirs)
	}
	r.addCeilings([]float64{400, 400, 100, 100})
	r.startup, r.others = []float64{7, 8}, []float64{0.01, 0.03}
	r.Idle = idle{RSS: 16, CPU: 100, Goroutines: 12, StackGoroutines: 2}
	r.finish()
	if x := r.Results[0].Ratios[ours][veth]; x.Min != 0.5 || x.Median != 0.75 || x.Max != 1 {
		t.Errorf("ratio %v of 100/200 and 300/300", x)
	}
	var met []string
	for _, g := range append(r.Results[0].Goals, r.Results[1].Goals...) {
		met = append(met, g.Met)
	}
	// 0.75 is at least 0.5, 200 is not 1000, nobody has measured gVisor, 1.5
	// is at most 1.5.
	if !slices.Equal(met, []string{"yes", "no", "", "yes"}) {
		t.Errorf("goals met: %q", met)
	}
	wellFormed(t, r.chart())
	dir := t.TempDir()
	if err := r.write(dir); err != nil {
		t.Fatal(err)
	}
	md, err := os.ReadFile(dir + "/benchmarks.md")
	if err != nil {
		t.Fatal(err)
	}
	var back report
	if j, err := os.ReadFile(dir + "/benchmarks.json"); err != nil {
		t.Fatal(err)
	} else if err := json.Unmarshal(j, &back); err != nil {
		t.Errorf("benchmarks.json: %v", err)
	} else if s := back.Results[0].Values[ours].Samples; len(s) != 2 || s[1] != 300 {
		t.Errorf("samples %v in benchmarks.json, want 100 and 300", s)
	}
	columns := 0
	for line := range strings.Lines(string(md)) {
		if strings.Contains(line, "%!") {
			t.Errorf("format: %s", line)
		}
		n := strings.Count(line, "|")
		if n > 0 && columns > 0 && n != columns {
			t.Errorf("row with %d bars below one with %d: %s", n, columns, line)
		}
		columns = n
	}
	for _, want := range []string{
		"| bulk | tapstack | veth | 0.75 [0.50-1.00] | ≥ 0.50 × (≥ 0.90 ×) | yes |",
		"| bulk | tapstack | – | 200 [100-300] | ≥ 1000 MB/s | no |",
		"2 of 3 goals are met",
		"| bulk | MB/s | 200 | 0.495 | 404 |",
		"| read of super-frames of 64 KB | MB/s | 400 [400-400] | tapstack | 200 | 50.0 % |",
	} {
		if !strings.Contains(string(md), want) {
			t.Errorf("no %q in\n%s", want, md)
		}
	}
}
