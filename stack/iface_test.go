package stack_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
)

// failing is a device that ends with an error when told to.
type failing struct {
	injector
	fail chan error
}

func (d *failing) Attach(func(*pkt.Buf), func()) bool { return false }
func (d *failing) Receive(ctx context.Context, _ int, _ func(*pkt.Buf), _ func()) error {
	select {
	case err := <-d.fail:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestDeviceFails: those who wait are told, nothing is kept for a link that is
// gone, and the stack can still be closed.
func TestDeviceFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		live := pkt.Live()
		s := stack.New(stack.Config{Seed: 1})
		d := &failing{injector{mtu: 1500}, make(chan error)}
		i, err := s.AddInterface(stack.InterfaceConfig{Name: "eth0", Device: d, MAC: hostMAC})
		if err == nil {
			err = i.AddAddr(netip.MustParsePrefix("10.77.0.7/24"))
		}
		if err != nil {
			t.Fatal(err)
		}
		u := newUDP(t, s)
		if err := u.SendTo([]byte("waits"), addrPort("10.77.0.1:9")); err != nil {
			t.Fatal(err)
		}
		go func() { d.fail <- syscall.EIO }()
		<-i.Down()
		if err := i.Ready(t.Context()); !errors.Is(err, syscall.ENETDOWN) {
			t.Errorf("ready: %v", err)
		}
		if _, err := i.WaitAddr(t.Context(), func(netip.Prefix) bool { return false }); !errors.Is(err, syscall.ENETDOWN) {
			t.Errorf("waiting for an address: %v", err)
		}
		if err := i.WaitUsable(t.Context(), netip.MustParseAddr("10.77.0.99")); !errors.Is(err, syscall.ENETDOWN) {
			t.Errorf("waiting until it is usable: %v", err)
		}
		if err := u.SendTo([]byte("late"), addrPort("10.77.0.1:9")); !errors.Is(err, syscall.ENETDOWN) {
			t.Errorf("send: %v", err)
		}
		synctest.Wait()
		if n := pkt.Live() - live; n != 0 {
			t.Errorf("%d buffers wait for a dead link", n)
		}
		c := s.Counters()
		if c["ether.drop.device"] != 1 || c["ipv4.drop.link-down"] != 1 || c["ipv4.drop.no-neighbour"] != 1 {
			t.Errorf("drops %v", drops(s))
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestInterfaceErrors(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{})
	for _, c := range []struct {
		ic  stack.InterfaceConfig
		mtu int
		err error
	}{
		{stack.InterfaceConfig{Name: "eth0"}, 1500, syscall.EEXIST},
		{stack.InterfaceConfig{Name: "lo"}, 1500, syscall.EEXIST},
		{stack.InterfaceConfig{Name: "a", MTU: 67}, 1500, syscall.EINVAL},
		{stack.InterfaceConfig{Name: "b"}, 67, syscall.EINVAL},
		{stack.InterfaceConfig{Name: "c", MAC: ether.Broadcast}, 1500, syscall.EINVAL},
		{stack.InterfaceConfig{Name: "d", MTU: 9000}, 1500, nil},
	} {
		c.ic.Device, c.ic.NoDAD = &injector{mtu: c.mtu}, true
		i, err := h.s.AddInterface(c.ic)
		if !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", c.ic.Name, err, c.err)
		}
		if err == nil && (i.MTU() != 1500 || i.Name() != "d" || i.Stack() != h.s || i.MAC().IsZero() || i.MAC().IsGroup() || i.MAC()[0]&2 == 0) {
			t.Errorf("MTU %d, MAC %v", i.MTU(), i.MAC())
		}
	}
	if n := len(h.s.Interfaces()); n != 3 {
		t.Errorf("%d interfaces", n)
	}
	h.s.Close()
	if _, err := h.s.AddInterface(stack.InterfaceConfig{Name: "e", Device: &injector{mtu: 1500}}); err == nil {
		t.Error("interface added to a closed stack")
	}
}

// TestReceiveQueueIsBounded: by bytes, also for empty datagrams, visibly.
func TestReceiveQueueIsBounded(t *testing.T) {
	h := newTestHost(t, stack.Config{Limits: stack.Limits{DatagramReceive: 10000}}, stack.InterfaceConfig{}).meet()
	u := newUDP(t, h.s)
	u.Bind(addrPort("[::]:9"))
	for _, c := range []struct{ size, fit int }{{1000, 7}, {0, 39}} {
		before := h.count("udp.drop.receive-queue-full")
		for range 100 {
			h.send(datagram(false, 1, 9, pattern(c.size)))
		}
		got := 0
		for {
			if _, _, _, err := u.RecvFrom(nil); err != nil {
				break
			}
			got++
		}
		if full := h.count("udp.drop.receive-queue-full") - before; got != c.fit || full != uint64(100-c.fit) {
			t.Errorf("%d of 100 datagrams of %d bytes kept, %d counted as dropped", got, c.size, full)
		}
	}
}

// TestMLDQuery: a general query is answered with all groups, from the
// link-local address; one without router alert is not (RFC 3810 §6.2).
func TestMLDQuery(t *testing.T) {
	h := newTestHost(t, stack.Config{}, stack.InterfaceConfig{})
	query := func(alert bool) []byte {
		b := make([]byte, 28)
		b[0] = icmp.TypeMLDQuery
		b[4], b[5] = 0x03, 0xe8 // within a second
		icmp.SetChecksum6(b, routerLL, ipv6.AllNodes)
		next := uint8(ipv6.ProtoICMPv6)
		if alert {
			ra := make([]byte, ipv6.RouterAlertLen)
			ipv6.PutRouterAlertHBH(ra)
			b, next = append(ra, b...), ipv6.ProtoHopByHop
			b[0] = ipv6.ProtoICMPv6
		}
		return ip6(next, b, func(f *ipv6.Fields) { f.HopLimit, f.Src, f.Dst = 1, routerLL, ipv6.AllNodes })
	}
	h.d.inject(query(false))
	if list := h.watch(h.n.Now(), 2*time.Second); len(list) != 0 {
		t.Errorf("answered without router alert: %v", list)
	}
	h.d.inject(query(true))
	list := names(h.watch(h.n.Now(), 2*time.Second))
	want := []string{ipv6.SolicitedNode(ipv6.LinkLocal(hostMAC)).String(), ipv6.SolicitedNode(hostIP6).String()}
	slices.Sort(want)
	if len(list) != 1 || !strings.HasPrefix(list[0], fmt.Sprintf("%v>ff02::16 hops 1 MLD 2:", ipv6.LinkLocal(hostMAC))) {
		t.Fatalf("answered %v", list)
	}
	for _, g := range want {
		if !strings.Contains(list[0], " 2:"+g) {
			t.Errorf("%s is not in %s", g, list[0])
		}
	}
}
