package interop

// Fragments of every shape, by scapy, for the stack and for the kernel:
// testdata/fragments.txt holds what both answer, and docs/ipv4.md and
// docs/ipv6.md explain where they differ.

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/stack"
)

var update = flag.Bool("update", false, "write the answers of the stack and of the kernel to testdata")

// scapy skips the test where Debian's Python has no scapy.
func scapy(t *testing.T, l *lab.Lab) string {
	t.Helper()
	const python = "/usr/bin/python3"
	if out, err := l.Output(within(t, endurance), python, "-c", "import scapy.layers.inet6"); err != nil {
		lab.Lacks(t, fmt.Errorf("python3-scapy is not installed: %v %s", err, out))
	}
	return python
}

// fragmentAnswers has testdata/fragments.py send its cases.
func fragmentAnswers(t *testing.T, l *lab.Lab, python, link, mac string) map[string]string {
	out, err := l.Output(within(t, endurance), python, "testdata/fragments.py", link, mac)
	var lists map[string][]string
	if err == nil {
		err = json.Unmarshal(out, &lists)
	}
	if err != nil {
		t.Errorf("fragments.py %s: %v\n%s", link, err, out)
	}
	return summary(lists)
}

// summary joins the answers to a case, and counts the orders of a shape by what
// was answered: "72 reply AB, 48 nothing".
func summary(lists map[string][]string) map[string]string {
	answers, orders := make(map[string]string), make(map[string]map[string][]string)
	for name, list := range lists {
		a := strings.Join(list, " + ")
		if a == "" {
			a = "nothing"
		}
		// "IPv4 A meets B, same bytes, ABht"
		if p := strings.Split(name, ", "); len(p) == 3 && strings.Contains(p[1], " bytes") {
			shape := p[0] + ", " + p[1]
			if orders[shape] == nil {
				orders[shape] = make(map[string][]string)
			}
			orders[shape][a] = append(orders[shape][a], p[2])
			continue
		}
		answers[name] = a
	}
	for shape, m := range orders {
		var parts []string
		for _, a := range slices.Sorted(maps.Keys(m)) {
			parts = append(parts, fmt.Sprintf("%d %s", len(m[a]), a))
		}
		answers[shape] = strings.Join(parts, ", ")
	}
	return answers
}

const fragmentFile = "testdata/fragments.txt"

// TestFragmentShapes compares.
func TestFragmentShapes(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	python := scapy(t, l)
	h := newHost(t, l, hostOptions{parallel: true, nic: stack.InterfaceConfig{NoDAD: true},
		limits: stack.Limits{ICMPErrorsPerSecond: 1e6, ICMPErrorBurst: 1e6, ICMPErrorInterval: -1}})
	h.anyDrop = true
	newRival(t, l)
	var ours, kernel map[string]string
	done := make(chan bool)
	go func() {
		defer close(done)
		kernel = fragmentAnswers(t, l, python, rivalLink, rivalMAC.String())
	}()
	ours = fragmentAnswers(t, l, python, l.Ports[0], ourMAC.String())
	<-done
	if t.Failed() {
		t.FailNow()
	}
	if *update {
		var b strings.Builder
		b.WriteString("# case: the stack's answer | Linux's. Written by go test -run FragmentShapes -update.\n")
		for _, name := range slices.Sorted(maps.Keys(ours)) {
			fmt.Fprintf(&b, "%s: %s | %s\n", name, ours[name], kernel[name])
		}
		if err := os.WriteFile(fragmentFile, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(fragmentFile)
	if err != nil {
		t.Fatal(err)
	}
	docs := map[string]string{"IPv4": readDoc(t, "ipv4.md"), "IPv6": readDoc(t, "ipv6.md")}
	known := 0
	for line := range strings.Lines(string(b)) {
		if line[0] == '#' {
			continue
		}
		name, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		want, linux, ok := strings.Cut(rest, " | ")
		if !ok {
			t.Fatalf("%s: %q", fragmentFile, line)
		}
		known++
		if got := ours[name]; got != want {
			t.Errorf("%s: answered %q, before %q; Linux: %q", name, got, want, linux)
		}
		if got := kernel[name]; got != linux {
			// Another kernel than the one that was asked when this was written.
			t.Logf("%s: this kernel answers %q, Linux 6.18 %q", name, got, linux)
		}
		family, shape, _ := strings.Cut(name, " ")
		if want != linux && !strings.Contains(docs[family], "| "+shape+" |") {
			t.Errorf("%s: the stack answers %q, Linux %q, and no table of docs/%s.md says why", name, want, linux, strings.ToLower(family))
		}
	}
	if known != len(ours) {
		t.Errorf("%d cases were sent, %d are in %s", len(ours), known, fragmentFile)
	}
	if n := h.count("ipv4.reassembled"); n == 0 || h.count("ipv6.reassembled") == 0 {
		t.Error("nothing was put together")
	}
}

func readDoc(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("../../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
