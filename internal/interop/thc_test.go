package interop

// The attacks of THC-IPv6 on a stack, each for a moment (for five seconds with
// -soak) and beside connections with the kernel that must not notice. What is
// bounded is looked at after each.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/tap"
	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/stack"
)

// beside keeps a connection of each family busy with the stack's echo service.
type beside struct {
	t     *testing.T
	wg    sync.WaitGroup
	stop  atomic.Bool
	moved [2]atomic.Int64
}

func newBeside(t *testing.T, h *host) *beside {
	b := &beside{t: t}
	for i, fam := range families {
		c := dial(t, h.kernelSide(), "tcp", addr(fam.ours.Addr(), 7), 5*time.Minute+*soak)
		text := chargenLines(10_000 + i)
		b.wg.Go(func() {
			got := make([]byte, len(text))
			for !b.stop.Load() {
				go c.Write(text)
				if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, text) {
					t.Errorf("%s: the echo after %d bytes: %v", fam.name, b.moved[i].Load(), err)
					return
				}
				b.moved[i].Add(int64(len(got)))
				time.Sleep(time.Millisecond) // it is there to be harmed, not to use the machine
			}
		})
	}
	t.Cleanup(b.end)
	return b
}

func (b *beside) end() {
	b.stop.Store(true)
	b.wg.Wait()
}

// goesOn fails the test when a connection does not move any more.
func (b *beside) goesOn(t *testing.T) {
	t.Helper()
	for i := range b.moved {
		from := b.moved[i].Load()
		eventually(t, 2*patience, "more of the echo of "+families[i].name, func() bool { return b.moved[i].Load() > from || b.t.Failed() })
	}
}

// bounded fails the test when something that traffic makes grow has grown
// beyond its limit.
func (h *host) bounded(t *testing.T) {
	t.Helper()
	count := make(map[bool]int)
	for _, n := range h.stack.Neighbours().List() {
		count[n.Addr.Is4()]++
	}
	if count[true] > 1024 || count[false] > 1024 {
		t.Errorf("%d and %d neighbours", count[true], count[false])
	}
	if n := len(h.nic.Addrs()); n > 64 {
		t.Errorf("%d addresses", n)
	}
	if n := len(h.stack.Routes().List()); n > 300 {
		t.Errorf("%d routes", n)
	}
	if n := h.count("memory.used"); n > 32<<20 {
		t.Errorf("%d bytes of the budget used", n)
	}
}

// disturbance counts what has come that was not of connections.
func (h *host) disturbance() (n uint64) {
	for name, v := range h.stack.Counters() {
		if strings.HasPrefix(name, "icmp.") || strings.HasPrefix(name, "nd.") ||
			strings.HasPrefix(name, "ipv6.drop.") || name == "tcp.drop.bad-checksum" || name == "ipv6.fragments" {
			n += v
		}
	}
	return n
}

// attack runs a tool for a moment; that it fails or must be ended is no matter,
// but that it did something is.
func attack(t *testing.T, h *host, argv ...string) string {
	t.Helper()
	d := 300 * time.Millisecond
	if *soak > 0 {
		d = 5 * time.Second
	}
	if argv[0] == "atk6-fragmentation6" {
		d /= 5 // it has many cases
	}
	before := h.disturbance()
	var out []byte
	// On a busy machine a tool may have done nothing yet when its time is over.
	for range 6 {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		out, _ = h.lab.Output(ctx, argv[0], argv[1:]...)
		cancel()
		// Headers with nothing behind them are taken without a word.
		if h.disturbance() > before || slices.Contains(argv, "-X") {
			return string(out)
		}
		d *= 4
	}
	t.Errorf("%v: nothing of it was seen\n%s", argv, out)
	return string(out)
}

func TestTHC(t *testing.T) {
	t.Parallel()
	tools := []string{"fragmentation6", "exploit6", "denial6", "fuzz_ip6", "flood_router26", "flood_solicitate6", "flood_advertise6", "flood_mld26",
		"dos-new-ip6", "detect-new-ip6", "toobig6", "redir6"}
	for _, tool := range tools {
		program(t, "atk6-"+tool)
	}
	lab.Require(t)
	l, err := lab.NewWith(lab.Options{Device: "tap", Hosts: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	h := newHost(t, l, hostOptions{parallel: true, services: true, nic: stack.InterfaceConfig{SLAAC: true}})
	h.anyDrop = true
	b := newBeside(t, h)
	const br = lab.Bridge
	us, kernel := our6.Addr().String(), lab.Kernel6.Addr().String()
	tests := [][]string{
		{"exploit6", br, us},
		{"flood_solicitate6", br, us},
		{"flood_solicitate6", "-k", br, us, us},
		{"flood_advertise6", br, us},
		{"flood_mld26", br},
		{"flood_router26", br},
		{"flood_router26", "-R", br},
		{"flood_router26", "-P", "-s", br},
		{"flood_router26", "-F", br},
	}
	for _, flags := range []string{"-1", "-2", "-3", "-5", "-7", "-9", "-X", "-1FSDH", "-1J"} {
		tests = append(tests, []string{"fuzz_ip6", "-a", "-x", "-n", "1", flags, br, us})
	}
	tests = append(tests, []string{"fuzz_ip6", "-a", "-x", "-4", br, "ff02::1"})
	for n := 1; n <= 33; n++ {
		tests = append(tests, []string{"fragmentation6", "-fp", br, us, fmt.Sprint(n)})
	}
	for _, argv := range tests {
		t.Run(strings.Join(argv, " "), func(t *testing.T) {
			attack(t, h, append([]string{"atk6-" + argv[0]}, argv[1:]...)...)
			b.goesOn(t)
			h.bounded(t)
		})
	}
	ping := func(t *testing.T, size int) {
		t.Helper()
		for _, fam := range families {
			h.ping(t, fam.ours.Addr().String(), fam.ping, size, 1)
		}
	}
	ping(t, 56)
	t.Run("denial6", func(t *testing.T) {
		// It waits for more than a second before it begins.
		ctx, stop := context.WithCancel(t.Context())
		before := h.disturbance()
		var all sync.WaitGroup
		for n := range 7 {
			all.Go(func() { l.Output(ctx, "atk6-denial6", br, us, fmt.Sprint(n+1)) })
		}
		defer func() { stop(); all.Wait() }()
		time.Sleep(*soak / 20)
		eventually(t, 2*patience, "a thousand packets are noticed", func() bool { return h.disturbance() > before+1000 })
		stop()
		all.Wait()
		b.goesOn(t)
		h.bounded(t)
	})

	t.Run("toobig6", func(t *testing.T) {
		// RFC 8201 §4: never below 1280, and no atomic fragments (RFC 8021).
		for _, mtu := range []string{"1280", "68"} {
			attack(t, h, "atk6-toobig6", br, us, kernel, mtu)
		}
		before := h.count("ipv6.fragments-out")
		ping(t, 1280-48)
		if n := h.count("ipv6.fragments-out") - before; n != 0 {
			t.Errorf("%d fragments of packets of 1280 bytes", n)
		}
		b.goesOn(t)
	})
	t.Run("redir6", func(t *testing.T) {
		// Who redirects has to be the router that is used (RFC 4861 §8.1).
		other := secondHost(t, l)
		for _, c := range []struct{ router, refused string }{{"fd77::8", "nd.drop.bad-source"}, {other, "icmp.drop.redirect-refused"}} {
			before := h.count(c.refused)
			// It gives the host 2 s to answer.
			if !persist(func() bool {
				l.Output(within(t, 2*time.Second), "atk6-redir6", br, us, kernel, c.router, "fe80::98", "02:00:00:00:00:98")
				return h.count(c.refused) > before
			}) {
				t.Errorf("no redirect by %s is %s: %v", c.router, c.refused, h.stack.Counters())
			}
		}
		if n := h.count("icmp.redirect"); n != 0 {
			t.Errorf("%d redirects were believed", n)
		}
		ping(t, 56)
		b.goesOn(t)
	})
	b.end()
	ping(t, 56)
}

// TestDADAttacked: who answers everybody's duplicate address detection keeps
// new hosts from having addresses; the stack says so, and goes on when it ends.
func TestDADAttacked(t *testing.T) {
	t.Parallel()
	program(t, "atk6-dos-new-ip6")
	for _, mode := range [][]string{nil, {"-S"}} {
		t.Run(strings.Join(append([]string{"dos-new-ip6"}, mode...), " "), func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			h := newHost(t, l, hostOptions{parallel: true})
			h.anyDrop = true
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan bool)
			go func() {
				defer close(ended)
				l.Output(ctx, "atk6-dos-new-ip6", append(mode, lab.Bridge)...)
			}()
			defer func() { stop(); <-ended }()
			wanted := netip.MustParsePrefix("fd77::55/64")
			// The tool takes a moment to listen.
			eventually(t, 3*patience, "an address that is refused", func() bool {
				if err := h.nic.AddAddr(wanted); err != nil {
					t.Fatal(err)
				}
				err := h.nic.WaitUsable(within(t, patience), wanted.Addr())
				if err == nil {
					if err := h.nic.DelAddr(wanted.Addr()); err != nil {
						t.Fatal(err)
					}
					return false
				}
				return errors.Is(err, syscall.EADDRINUSE)
			})
			if h.count("nd.duplicate") == 0 {
				t.Errorf("%v", h.stack.Counters())
			}
			// What was there before stays.
			for _, fam := range families {
				h.ping(t, fam.ours.Addr().String(), fam.ping, 56, 1)
			}
			stop()
			<-ended
			h.nic.DelAddr(wanted.Addr()) // as good as gone
			if err := h.nic.AddAddr(wanted); err != nil {
				t.Fatal(err)
			}
			if err := h.nic.WaitUsable(within(t, patience), wanted.Addr()); err != nil {
				t.Errorf("after the attack: %v", err)
			}
		})
	}
	t.Run("detect-new-ip6", func(t *testing.T) {
		t.Parallel()
		program(t, "atk6-detect-new-ip6")
		l := newLab(t)
		h := newHost(t, l, hostOptions{parallel: true})
		seen := filepath.Join(t.TempDir(), "seen")
		script := filepath.Join(t.TempDir(), "script")
		if err := os.WriteFile(script, []byte("#!/bin/sh\necho $1 >> "+seen+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan bool)
		go func() {
			defer close(ended)
			l.Output(ctx, "atk6-detect-new-ip6", lab.Bridge, script)
		}()
		defer func() { stop(); <-ended }()
		n := byte(0x60)
		eventually(t, 3*patience, "an address that is detected", func() bool {
			n++
			a := netip.AddrFrom16([16]byte{0xfd, 0x77, 15: n})
			if err := h.nic.AddAddr(netip.PrefixFrom(a, 64)); err != nil {
				t.Fatal(err)
			}
			if err := h.nic.WaitUsable(within(t, patience), a); err != nil {
				t.Fatal(err)
			}
			b, _ := os.ReadFile(seen)
			for _, word := range strings.Fields(string(b)) {
				if ip := net.ParseIP(word); ip != nil && ip[15] > 0x60 && ip[15] <= n {
					return true
				}
			}
			return false
		})
	})
}

// secondHost is another stack on the link, fd77::8, and returns its link-local
// address.
func secondHost(t *testing.T, l *lab.Lab) string {
	t.Helper()
	var dev ether.Device
	inLab(t, l, func() (err error) {
		dev, err = tap.Open(tap.Options{Name: l.Devices[1], Existing: true})
		return err
	})
	s := stack.New(stack.Config{})
	t.Cleanup(func() { s.Close() })
	mac := ether.Addr(lab.HostMAC(1))
	nic, err := s.AddInterface(stack.InterfaceConfig{Name: l.Devices[1], Device: dev, MAC: mac, NoDAD: true})
	if err == nil {
		err = nic.AddAddr(netip.MustParsePrefix("fd77::8/64"))
	}
	if err == nil {
		err = nic.Ready(within(t, patience))
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range nic.Addrs() {
		if a.Addr().IsLinkLocalUnicast() && a.Addr().Is6() {
			return a.Addr().String()
		}
	}
	t.Fatal("no link-local address")
	return ""
}
