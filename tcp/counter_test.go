package tcp

import (
	cmdline "flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

// scriptTotals counts what happens in the connections of all trace tests.
var scriptTotals Totals

// TestMain checks that the tests have made every counter count: one that none
// of them reaches is dead or its mechanism untested.
func TestMain(m *testing.M) {
	code := m.Run()
	all := cmdline.Lookup("test.run").Value.String() == "" && cmdline.Lookup("test.skip").Value.String() == "" &&
		cmdline.Lookup("test.bench").Value.String() == "" && cmdline.Lookup("test.fuzz").Value.String() == ""
	if code == 0 && all && cmdline.Lookup("test.list").Value.String() == "" {
		for k := range NumCounters {
			if scriptTotals[k].Load() == 0 {
				fmt.Println("no trace test makes this counter count:", k)
				code = 1
			}
		}
	}
	if err := sharedWritten(); err != nil {
		fmt.Println(err)
		code = 1
	}
	os.Exit(code)
}

func TestCounterNames(t *testing.T) {
	seen := map[string]bool{}
	for k := range NumCounters {
		s := k.String()
		if s == "" || seen[s] || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz-") != "" {
			t.Errorf("counter %d is called %q", k, s)
		}
		seen[s] = true
	}
	if NumCounters.String() != "unknown" {
		t.Error("one too many")
	}
	var none *Totals
	none.Add(CountTimeouts, 1) // nobody counts
}
