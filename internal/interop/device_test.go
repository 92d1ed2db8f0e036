package interop

import (
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/tapstack/tapstack/ether/tap"
	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/stack"
)

// TestDevice: a TAP that was there before outlives the stack on it, one that
// was made for the stack ends with it, and a second stack is told that the
// first has it.
func TestDevice(t *testing.T) {
	l := newLab(t)
	for _, c := range []struct {
		name  string
		stays bool
	}{
		{l.Devices[0], true},
		{l.Devices[0], true}, // and can be used again
		{"tap42", false},
	} {
		d, err := openTap(l, c.name)
		if err != nil {
			t.Fatal(err)
		}
		s := stack.New(stack.Config{})
		if _, err := s.AddInterface(stack.InterfaceConfig{Name: c.name, Device: d}); err != nil {
			t.Fatal(err)
		}
		if !hasLink(l, c.name) {
			t.Errorf("there is no %s while a stack is on it", c.name)
		}
		_, err = openTap(l, c.name)
		if !errors.Is(err, syscall.EBUSY) || !strings.Contains(err.Error(), c.name) || !strings.Contains(err.Error(), "uses it") {
			t.Errorf("opened twice: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if hasLink(l, c.name) != c.stays {
			t.Errorf("%s exists after Close: %v", c.name, !c.stays)
		}
	}
}

func openTap(l *lab.Lab, name string) (d *tap.Device, err error) {
	l.Do(func() { d, err = tap.Open(tap.Options{Name: name, Up: true}) })
	return d, err
}

func hasLink(l *lab.Lab, name string) (yes bool) {
	l.Do(func() {
		_, err := net.InterfaceByName(name)
		yes = err == nil
	})
	return yes
}
