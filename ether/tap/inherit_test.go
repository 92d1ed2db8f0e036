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
		// What other tests have not been able to make, water has not closed.
		before := strings.Count(child(t), "/net/tun")
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
			if has := child(t); strings.Count(has, "/net/tun") > before {
				t.Errorf("a child has\n%s", has)
				break
			}
		}
		cancel()
		if n := <-opened; n == 0 {
			t.Error("never opened")
		}
	})
}

// child lists the descriptors of a program that is started.
func child(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("ls", "-l", "/proc/self/fd").Output()
	if err != nil {
		t.Error(err)
	}
	return string(out)
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
