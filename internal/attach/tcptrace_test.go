package attach

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tapstack/tapstack/tcp"
)

func TestTraceTCP(t *testing.T) {
	local, remote := netip.MustParseAddrPort("10.77.0.7:80"), netip.MustParseAddrPort("[fe80::1%tap7]:5000")
	open, closed := &tcp.TraceEvent{Time: 1, From: "CLOSED", To: "ESTABLISHED"}, &tcp.TraceEvent{Time: 2, From: "ESTABLISHED", To: "CLOSED"}

	if f, err := traceTCP("", nil); f != nil || err != nil {
		t.Errorf("nobody asked for a trace: %v", err)
	}

	var out bytes.Buffer
	f, err := traceTCP("-", &out)
	if err != nil {
		t.Fatal(err)
	}
	f(local, remote)(open)
	if got := out.String(); got != "   0.000000 10.77.0.7:80 [fe80::1%tap7]:5000 state       CLOSED -> ESTABLISHED\n" {
		t.Errorf("%q", got)
	}

	dir := filepath.Join(t.TempDir(), "a", "b")
	if f, err = traceTCP(dir, nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		one := f(local, remote)
		one(open)
		one(closed)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.sqlog"))
	if len(files) != 2 || filepath.Base(files[1]) != "000002_10.77.0.7-80_[fe80--1%tap7]-5000.sqlog" {
		t.Errorf("%q", files)
	}
	b, err := os.ReadFile(files[0])
	if err != nil || strings.Count(string(b), "\x1e") != 3 || !strings.Contains(string(b), `"new":"CLOSED"`) {
		t.Errorf("%s %v", b, err)
	}

	if _, err := traceTCP(files[0], nil); err == nil || !strings.Contains(err.Error(), "--tcp-trace") {
		t.Errorf("a file instead of a directory: %v", err)
	}
	os.RemoveAll(dir)
	if f(local, remote) != nil {
		t.Error("a listener without a file")
	}
}
