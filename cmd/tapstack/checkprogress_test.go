package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/creack/pty"

	"github.com/tapstack/tapstack/internal/lab"
)

// TestCheckProgress: while many targets are checked, a terminal is told how far
// it is, and in the end there is nothing left of that; a pipe is told nothing.
func TestCheckProgress(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		file := filepath.Join(t.TempDir(), "targets")
		if err := os.WriteFile(file, []byte(strings.Repeat("10.77.0.1 4\n", 20)), 0o600); err != nil {
			t.Fatal(err)
		}
		env := attached(l, lab.EnvIP+"=10.77.0.7/24", "TAPSTACK_DAD=false")
		for name, c := range map[string][]string{"stack": {"check", "--targets", file}, "host": {"check", "--net", "host", "--targets", file}} {
			e := env
			if name == "host" {
				e = nil
			}
			master, tty, err := pty.Open()
			if err != nil {
				t.Fatal(err)
			}
			x := tapstack(t, e, c...)
			var out bytes.Buffer
			x.Stdout, x.Stderr = &out, tty
			if err := l.Start(x); err != nil {
				t.Fatal(err)
			}
			status := outcome(t, x.Wait())
			tty.Close()
			var told bytes.Buffer
			told.ReadFrom(master) // until EIO: the other end is closed
			master.Close()
			if status != 1 || strings.Count(out.String(), "FAIL 10.77.0.1 4 ") != 20 {
				t.Errorf("%s: status %d\n%s", name, status, &out)
			}
			if s := told.String(); !strings.Contains(s, " of 20, ") || !strings.HasPrefix(s, "\r\x1b[K") && !strings.HasPrefix(s, "\r[") || !strings.HasSuffix(s, "\r\x1b[K") {
				t.Errorf("%s: %q", name, s)
			}
			status, _, errs := checked(t, l, tapstack(t, e, c...))
			if status != 1 || errs != "" {
				t.Errorf("%s, without a terminal: status %d, %q", name, status, errs)
			}
		}
	})
}
