package examples_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/lab"
)

// TestDiscover: two stacks find each other and a socket of the kernel, in a
// group of each family, and notice when one leaves and when one falls silent.
func TestDiscover(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	var groups []*net.UDPConn
	inLab := func(f func() error) {
		t.Helper()
		var err error
		if l.Do(func() { err = f() }); err != nil {
			t.Fatal(err)
		}
	}
	inLab(func() error {
		bridge, err := net.InterfaceByName(lab.Bridge)
		if err != nil {
			return err
		}
		for _, g := range []string{"239.255.77.77:7777", "[ff02::7777]:7777"} {
			c, err := net.ListenMulticastUDP("udp", bridge, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(g)))
			if err != nil {
				return err
			}
			t.Cleanup(func() { c.Close() })
			groups = append(groups, c)
		}
		return nil
	})
	ann := start(t, l, 0, "discover", "--name", "ann", "--interval", "100ms")
	ben := start(t, l, 1, "discover", "--name", "ben", "--interval", "100ms")
	ann.waitFor("ben at 10.77.0.8 is here")
	ben.waitFor("ann at 10.77.0.7 is here")
	for _, p := range []*program{ann, ben} {
		eventually(t, "the other over IPv6", func() bool { return strings.Contains(p.printed(), " at f") })
	}

	// The kernel hears both of them, in both groups, and is heard.
	for i, c := range groups {
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		missing := map[string]bool{"tapstack-discover 1 here ann\n": true, "tapstack-discover 1 here ben\n": true}
		for buf := make([]byte, 1000); len(missing) > 0; {
			n, _, err := c.ReadFrom(buf)
			if err != nil {
				t.Fatalf("group %d: %v is not heard: %v", i, missing, err)
			}
			delete(missing, string(buf[:n]))
		}
		to := &net.UDPAddr{IP: net.IPv4(239, 255, 77, 77), Port: 7777}
		if i == 1 {
			to = &net.UDPAddr{IP: net.ParseIP("ff02::7777"), Port: 7777}
		}
		for _, text := range []string{"tapstack-discover 1 here \x1b[2J\n", fmt.Sprintf("tapstack-discover 1 here kernel%d\n", i)} {
			if _, err := c.WriteTo([]byte(text), to); err != nil {
				t.Fatal(err)
			}
		}
		for _, p := range []*program{ann, ben} {
			p.waitFor(fmt.Sprintf("kernel%d at ", i))
		}
	}
	for _, p := range []*program{ann, ben} {
		p.waitFor("kernel0 at 10.77.0.1 is silent")
	}
	ben.stop()
	ann.waitFor("ben at 10.77.0.8 has gone")
	if out := ann.printed(); strings.Contains(out, "\x1b") || strings.Contains(out, "ann at") {
		t.Errorf("it has heard itself, or a trick:\n%q", out)
	}
}
