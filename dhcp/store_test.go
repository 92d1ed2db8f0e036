package dhcp

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/dhcp/internal/both"
	"github.com/tapstack/tapstack/ether"
)

var (
	wall      = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	testLease = Lease{Addr: netip.MustParsePrefix("10.0.0.50/24"), Server: serverIP, Lease: time.Hour, Acquired: epoch}
	testLL    = netip.MustParseAddr("169.254.7.7")
)

// TestStore: what is written comes back, live for as long as the lease runs.
func TestStore(t *testing.T) {
	dir := t.TempDir()
	s := newStore(filepath.Join(dir, "lease"), testMAC, nil)
	if w, err := s.load(wall); err != nil || w.addr.IsValid() {
		t.Errorf("without a file: %+v, %v", w, err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(s.save(wall, epoch.Add(10*time.Minute), &testLease, testLL)) // it runs for 10 minutes already
	for after, live := range map[time.Duration]bool{0: true, 50*time.Minute - 1: true, 50 * time.Minute: false, -11 * time.Minute: false} {
		w, err := s.load(wall.Add(after))
		if err != nil || w.addr != clientIP || w.live != live || w.linkLocal != testLL {
			t.Errorf("%v later: %+v, %v", after, w, err)
		}
	}
	// Another client's is not for us.
	for _, o := range []*store{newStore(s.path, ether.Addr{2, 0, 0, 0, 0, 8}, nil), newStore(s.path, testMAC, HardwareID(testMAC))} {
		if w, err := o.load(wall); err == nil || w.addr.IsValid() || !strings.Contains(err.Error(), "another client") {
			t.Errorf("%+v, %v", w, err)
		}
	}
	forever := testLease
	forever.Lease = Infinite
	must(s.save(wall, epoch, &forever, netip.Addr{}))
	if w, err := s.load(wall.Add(1e6 * time.Hour)); err != nil || !w.live {
		t.Errorf("an infinite lease: %+v, %v", w, err)
	}
	must(s.remove(testLL))
	if w, err := s.load(wall); err != nil || w.addr.IsValid() || w.linkLocal != testLL {
		t.Errorf("after it was lost: %+v, %v", w, err)
	}
	must(s.remove(netip.Addr{}))
	must(s.remove(netip.Addr{}))
	if list, err := os.ReadDir(dir); err != nil || len(list) != 0 {
		t.Errorf("left behind: %v, %v", list, err)
	}
	if err := newStore(filepath.Join(dir, "none", "lease"), testMAC, nil).save(wall, epoch, &testLease, testLL); err == nil {
		t.Error("a file was written where there is no directory")
	}
}

// TestStoreDamaged: any change of the file, and any file cut short, is noticed.
func TestStoreDamaged(t *testing.T) {
	s := newStore(filepath.Join(t.TempDir(), "lease"), testMAC, nil)
	if err := s.save(wall, epoch, &testLease, testLL); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(s.path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(good) - 2 { // the last two are the brace and a line's end
		if w, err := s.parse(good[:n], wall); err == nil || w != (stored{}) {
			t.Errorf("%d bytes of it: %+v, %v", n, w, err)
		}
		b := append([]byte(nil), good...)
		b[n] ^= 1
		if w, err := s.parse(b, wall); err == nil && (w.addr != clientIP || w.linkLocal != testLL) {
			t.Errorf("byte %d changed: %+v", n, w)
		}
	}
	if _, err := s.parse(make([]byte, both.FileMax+1), wall); err == nil {
		t.Error("a file of any size is read")
	}
	if err := os.Chmod(filepath.Dir(s.path), 0o700); err != nil {
		t.Fatal(err)
	}
}

// FuzzStore: whatever is in the file, the client asks for a host's address or
// for none.
func FuzzStore(f *testing.F) {
	f.Add([]byte(`{"format":"tapstack-dhcp-lease-1","mac":"02:00:00:00:00:07","address":"10.0.0.50/24","sum":"0"}`))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := newStore("lease", testMAC, nil)
		w, err := s.parse(b, wall)
		if err != nil && w != (stored{}) || w.addr.IsValid() && !isHost(w.addr) || w.live && !w.addr.IsValid() {
			t.Fatalf("%+v, %v", w, err)
		}
	})
}
