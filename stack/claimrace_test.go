package stack_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/stack"
)

// TestClaimantHearsInOrder: an event that another goroutine finds out while one
// is being told waits for it.
func TestClaimantHearsInOrder(t *testing.T) {
	h := newBare(t, stack.Config{}, stack.InterfaceConfig{DisableIPv6: true})
	var list []stack.AddrEvent
	err := h.i.ClaimAddr(netip.MustParsePrefix("10.77.0.7/24"), stack.ClaimOptions{Notify: func(a netip.Addr, e stack.AddrEvent) {
		if e == stack.AddrUsable {
			var wg sync.WaitGroup
			wg.Go(func() { h.i.DelAddr(a) })
			wg.Wait()
		}
		list = append(list, e)
	}})
	if want := []stack.AddrEvent{stack.AddrUsable, stack.AddrRemoved}; err != nil || !slices.Equal(list, want) {
		t.Errorf("%v, want %v: %v", list, want, err)
	}
}

// TestClaimants: each hears of his own address alone, on loopback too, and that
// it went with its interface.
func TestClaimants(t *testing.T) {
	h := newBare(t, stack.Config{}, stack.InterfaceConfig{DisableIPv6: true})
	var list []string
	claim := func(i *stack.Interface, who, prefix string) error {
		return i.ClaimAddr(netip.MustParsePrefix(prefix), stack.ClaimOptions{Notify: func(a netip.Addr, e stack.AddrEvent) {
			list = append(list, fmt.Sprint(who, " ", a, " ", e))
		}})
	}
	for _, x := range []error{claim(h.i, "first", "10.77.0.7/24"), claim(h.i, "first", "10.77.0.8/24"), claim(h.s.Interfaces()[0], "lo", "127.0.0.2/8")} {
		if x != nil {
			t.Fatal(x)
		}
	}
	if err := claim(h.i, "second", "10.77.0.7/24"); !errors.Is(err, syscall.EEXIST) {
		t.Errorf("twice: %v", err)
	}
	h.i.DelAddr(netip.MustParseAddr("10.77.0.7"))
	if err := h.s.Links().Remove(h.i); err != nil {
		t.Error(err)
	}
	same(t, "events", list, "first 10.77.0.7 0", "first 10.77.0.8 0", "lo 127.0.0.2 0", "first 10.77.0.7 2", "first 10.77.0.8 2")
}

// TestAddrAddedAndTakenAway: an address that is taken away while it is being
// added leaves no claim behind, which would announce and defend it for good.
func TestAddrAddedAndTakenAway(t *testing.T) {
	live := pkt.Live()
	s := stack.New(stack.Config{Seed: 1})
	i, err := s.AddInterface(stack.InterfaceConfig{Name: "eth0", Device: &failing{injector{mtu: 1500, mute: true}, nil}, MAC: hostMAC, DisableIPv6: true})
	if err != nil {
		t.Fatal(err)
	}
	a := netip.MustParsePrefix("10.77.0.7/24")
	for range 2000 {
		added := make(chan struct{})
		go func() {
			defer close(added)
			i.AddAddr(a)
		}()
		for ended := false; !ended; {
			select {
			case <-added:
				ended = true
			default:
			}
			i.DelAddr(a.Addr())
		}
		if n := i.Claims(); n != 0 {
			t.Fatalf("%d claims of no address", n)
		}
	}
	s.Close()
	if n := pkt.Live() - live; n != 0 {
		t.Errorf("%d buffers leaked", n)
	}
}
