package tap

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/tapstack/tapstack/internal/lab"
)

// TestNotInherited: a program that is started while the device is opened does
// not get its descriptor, which would keep the interface busy for as long as
// the program runs.
func TestNotInherited(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		ctx, cancel := context.WithCancel(t.Context())
		opened := make(chan int)
		go func() {
			n := 0
			for ; ctx.Err() == nil; n++ {
				// tap7 is there, tap8 is made and vanishes.
				d, err := open(t, l, Options{Name: [...]string{"tap7", "tap8"}[n%2]})
				if errors.Is(err, syscall.EBUSY) {
					continue // a program that has not begun yet has all descriptors
				}
				if err == nil {
					err = d.Close()
				}
				if err != nil {
					t.Error(err)
					break
				}
			}
			opened <- n
		}()
		for range 40 {
			out, err := exec.Command("ls", "-l", "/proc/self/fd").Output()
			if err != nil {
				t.Error(err)
				break
			}
			if strings.Contains(string(out), "/net/tun") {
				t.Errorf("a child has\n%s", out)
				break
			}
		}
		cancel()
		if n := <-opened; n == 0 {
			t.Error("never opened")
		}
	})
}

// TestBusy: to be refused costs nothing.
func TestBusy(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		for _, o := range []Offload{OffloadOff, OffloadRequire} {
			d := mustOpen(t, l, Options{Name: "tap7", Existing: true, Offload: o})
			before := descriptors(t)
			for range 20 {
				if _, err := open(t, l, Options{Name: "tap7", Existing: true, Offload: o}); !errors.Is(err, syscall.EBUSY) {
					t.Fatal(err)
				}
			}
			if n := descriptors(t) - before; n >= 20 {
				t.Errorf("offload %v: %d descriptors are lost", o, n)
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// descriptors is how many descriptors the process has.
func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
