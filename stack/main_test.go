package stack_test

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/pkt"
)

// TestMain checks that the tests of this package leave no goroutine and no
// buffer behind.
func TestMain(m *testing.M) {
	before := runtime.NumGoroutine()
	code := m.Run()
	// The fuzzer keeps goroutines of its own.
	if fuzzing := flag.Lookup("test.fuzz").Value.String() != ""; code == 0 && !fuzzing {
		if left := leftovers(before); left != "" {
			fmt.Fprintln(os.Stderr, left)
			code = 1
		}
	}
	os.Exit(code)
}

// leftovers describes what is still there. A goroutine that has been told to
// end needs a moment for it, which is all the wall clock is used for.
func leftovers(before int) string {
	for end := time.Now().Add(30 * time.Second); runtime.NumGoroutine() > before && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	var b strings.Builder
	if n := runtime.NumGoroutine(); n > before {
		stacks := make([]byte, 1<<20)
		fmt.Fprintf(&b, "%d goroutines left:\n%s", n-before, stacks[:runtime.Stack(stacks, true)])
	}
	if n := pkt.Live(); n != 0 {
		fmt.Fprintf(&b, "%d buffers left\n", n)
	}
	return b.String()
}
