package examples_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tapstack/tapstack/internal/lab"
)

// TestTUNWeb: a page from behind a TUN.
func TestTUNWeb(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	if l.Packet {
		lab.Lacks(t, errors.New("no /dev/net/tun"))
	}
	lab.RequireProgram(t, "curl")
	if err := build(); err != nil {
		t.Fatal(err)
	}
	p := spawn(t, l, filepath.Join(binaries, "tun-web"))
	t.Cleanup(p.stop)
	p.waitFor("ready interface=")
	if got := must(t, l, "curl", "-sSg", "http://10.79.0.2/"); !strings.Contains(got, "10.79.0.1:") {
		t.Errorf("%q", got)
	}
}
