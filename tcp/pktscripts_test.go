package tcp_test

import (
	"cmp"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tapstack/tapstack/internal/pktscript"
)

var (
	scriptDir   = flag.String("pktscripts", "", "run the packetdrill scripts below this directory instead of our own")
	scriptOnly  = flag.String("pktscript", "", "with -pktscripts: only scripts whose path contains this, with every packet shown")
	scriptIPv   = flag.String("pktip", "", "with -pktscripts: ipv4, ipv6 or ipv4-mapped-ipv6 for scripts that do not say")
	scriptPush  = flag.Bool("pktpush", true, "with -pktscripts: compare PSH flags")
	scriptQuiet = flag.Bool("pktsummary", false, "with -pktscripts: only the numbers")
)

// TestPktscripts runs our own scripts, tcp/testdata/*/*.pkt, or with
// -pktscripts a collection of somebody else's, unchanged, and then lists what
// passed, failed and was skipped. Only our own fail the test.
func TestPktscripts(t *testing.T) {
	if *scriptDir != "" {
		runCollection(t, *scriptDir)
		return
	}
	list := scriptsBelow(t, "testdata")
	if len(list) == 0 {
		t.Fatal("no scripts")
	}
	for _, path := range list {
		t.Run(strings.TrimSuffix(strings.TrimPrefix(filepath.ToSlash(path), "testdata/"), ".pkt"), func(t *testing.T) {
			src, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			versions := []string{"ipv4", "ipv6"}
			if strings.Contains(string(src), "--ip_version=") {
				versions = []string{""}
			}
			for _, v := range versions {
				res := pktscript.Run(path, string(src), pktscript.RunOptions{IPVersion: v, Strict: true})
				if res.Status != pktscript.Passed {
					t.Errorf("%s %s:%d: %s", v, path, res.Line, res.Reason)
				}
			}
		})
	}
}

func scriptsBelow(t *testing.T, dir string) (list []string) {
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".pkt" {
			list = append(list, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// runCollection runs all scripts below dir and reports.
func runCollection(t *testing.T, dir string) {
	var count [3]int
	reasons := map[string]int{}
	for _, path := range scriptsBelow(t, dir) {
		if !strings.Contains(path, *scriptOnly) {
			continue
		}
		src, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		opt := pktscript.RunOptions{IPVersion: *scriptIPv, AnyPush: !*scriptPush}
		if *scriptOnly != "" {
			opt.Trace = func(s string) { t.Log(s) }
		}
		res := pktscript.Run(path, string(src), opt)
		count[res.Status]++
		rel, _ := filepath.Rel(dir, path)
		if !*scriptQuiet {
			fmt.Printf("%-7s %s %s\n", res.Status, rel, explain(res))
		}
		if res.Status == pktscript.Skipped {
			reasons[res.Reason]++
		}
	}
	names := make([]string, 0, len(reasons))
	for r := range reasons {
		names = append(names, r)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(reasons[b], reasons[a]), cmp.Compare(a, b))
	})
	fmt.Printf("passed %d, failed %d, skipped %d\n", count[pktscript.Passed], count[pktscript.Failed], count[pktscript.Skipped])
	for _, r := range names {
		fmt.Printf("  skipped %4d: %s\n", reasons[r], r)
	}
}

func explain(res pktscript.Result) string {
	if res.Status == pktscript.Passed {
		return ""
	}
	return fmt.Sprintf("line %d: %s", res.Line, res.Reason)
}
