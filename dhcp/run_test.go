package dhcp_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstack/tapstack/dhcp"
	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
)

var (
	routerAddr = netip.MustParsePrefix("10.0.0.1/24")
	leased     = []netip.Prefix{netip.MustParsePrefix("10.0.0.50/24"), netip.MustParsePrefix("10.0.0.51/24")}
)

// server is a DHCP server on a stack of its own. It gives each client the
// first address that was not declined.
type server struct {
	fd *socket.FD

	mu       sync.Mutex // guards everything below
	log      []string
	declined int
	refuse   bool // answer requests with NAK
}

func (s *server) serve() {
	b := make([]byte, 1500)
	for {
		n, from, err := s.fd.RecvFrom(b, 0)
		if err != nil {
			return
		}
		m, drop := dhcp.ParseMessage(b[:n])
		if drop != dhcp.DropNone {
			continue
		}
		to := netip.AddrPortFrom(netip.MustParseAddr("255.255.255.255"), dhcp.ClientPort)
		if from.Addr().IsGlobalUnicast() {
			to = from
		}
		if r := s.answer(m); r != nil {
			s.fd.SendTo(r.Append(nil), 0, to)
		}
	}
}

func (s *server) answer(m *dhcp.Message) *dhcp.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &dhcp.Message{Op: dhcp.OpReply, XID: m.XID, Broadcast: m.Broadcast, CHAddr: m.CHAddr, YIAddr: leased[s.declined].Addr()}
	typ := dhcp.ACK
	switch m.Options.Type() {
	case dhcp.Discover:
		s.log = append(s.log, "DISCOVER")
		typ = dhcp.Offer
	case dhcp.Request:
		s.log = append(s.log, "REQUEST")
		if s.refuse {
			typ, r.YIAddr = dhcp.NAK, netip.Addr{}
		}
	case dhcp.Decline:
		s.log = append(s.log, "DECLINE")
		s.declined++
		return nil
	case dhcp.Release:
		s.log = append(s.log, "RELEASE")
		return nil
	}
	r.Options.Set(dhcp.OptMessageType, byte(typ))
	r.Options.SetAddr(dhcp.OptServerID, routerAddr.Addr())
	r.Options.Set(dhcp.OptClientID, m.Options.Get(dhcp.OptClientID)...)
	if typ != dhcp.NAK {
		r.Options.Set(dhcp.OptSubnetMask, 255, 255, 255, 0)
		r.Options.SetAddr(dhcp.OptRouters, routerAddr.Addr())
		r.Options.SetSeconds(dhcp.OptLeaseTime, time.Hour)
	}
	return r
}

// did returns what the clients asked since the last call.
func (s *server) did() string {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	log := strings.Join(s.log, " ")
	s.log = nil
	return log
}

// network is a segment with a server and an interface without an IPv4 address.
func network(t *testing.T, f func(t *testing.T, s *server, nic *stack.Interface)) {
	networkOf(t, false, f)
}

// networkOf is network with conflict detection or without.
func networkOf(t *testing.T, acd bool, f func(t *testing.T, s *server, nic *stack.Interface)) {
	synctest.Test(t, func(t *testing.T) {
		segment := wire.New(nil, wire.Options{})
		defer segment.Close()
		host := func(name string, addrs ...netip.Prefix) *stack.Interface {
			h := stack.New(stack.Config{})
			i, err := h.AddInterface(stack.InterfaceConfig{Name: name, Device: segment.Attach(name, [6]byte{}), DisableIPv6: true, ACD: acd && name == "client"})
			for _, a := range addrs {
				if err == nil {
					err = i.AddAddr(a)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			return i
		}
		other := host("server", routerAddr)
		defer other.Stack().Close()
		fd, err := socket.Socket(other.Stack(), socket.AF_INET, socket.SOCK_DGRAM, 0)
		if err == nil {
			fd.SetBroadcast(true)
			err = fd.Bind(netip.AddrPortFrom(netip.IPv4Unspecified(), dhcp.ServerPort))
		}
		if err != nil {
			t.Fatal(err)
		}
		s := &server{fd: fd}
		go s.serve()
		defer fd.Close()
		nic := host("client")
		defer nic.Stack().Close()
		f(t, s, nic)
	})
}

// TestRunner follows a lease from the first message to the last.
func TestRunner(t *testing.T) {
	network(t, func(t *testing.T, s *server, nic *stack.Interface) {
		var news []bool
		r, err := dhcp.Run(nic, dhcp.RunOptions{Changed: func(_ dhcp.Lease, have bool) { news = append(news, have) }})
		if err != nil {
			t.Fatal(err)
		}
		want := func(what string, addrs ...netip.Prefix) {
			t.Helper()
			if got := s.did(); got != what {
				t.Errorf("the server saw %q, want %q", got, what)
			}
			if got := nic.Addrs(); !slices.Equal(got, addrs) {
				t.Errorf("addresses %v, want %v", got, addrs)
			}
			gateway := slices.ContainsFunc(nic.Stack().Routes().List(), func(r stack.Route) bool { return r.Gateway == routerAddr.Addr() })
			if gateway != (len(addrs) > 0) {
				t.Errorf("routes %v", nic.Stack().Routes().List())
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		l, err := r.Wait(ctx)
		if err != nil || l.Addr != leased[0] {
			t.Fatalf("lease %v, %v", l.Addr, err)
		}
		want("DISCOVER REQUEST", leased[0])
		time.Sleep(40 * time.Minute) // T1 is after 30
		want("REQUEST", leased[0])

		// What is not the server's business is counted, and changes nothing.
		s.fd.SendTo([]byte("short"), 0, netip.AddrPortFrom(leased[0].Addr(), dhcp.ClientPort))
		synctest.Wait()
		if c := r.Counters(); len(c) != 1 || c["dhcp.drop.short"] != 1 {
			t.Errorf("counters %v", c)
		}

		s.mu.Lock()
		s.refuse = true
		s.mu.Unlock()
		time.Sleep(25 * time.Minute)
		if got := s.did(); !strings.HasPrefix(got, "REQUEST DISCOVER") || len(nic.Addrs()) != 0 {
			t.Errorf("after a NAK: %q, %v", got, nic.Addrs())
		}
		s.mu.Lock()
		s.refuse = false
		s.mu.Unlock()
		if _, err := r.Wait(ctx); err == nil {
			t.Error("a lease that is lost")
		}
		time.Sleep(5 * time.Minute)
		s.did()
		want("", leased[0])
		r.Close()
		want("RELEASE")
		synctest.Wait()
		if len(news) < 4 || !news[0] || news[len(news)-1] {
			t.Errorf("changes %v", news)
		}
	})
}

// TestRunnerKeepsOthersAddresses: an address that the user has given to the
// interface stays when a server leases the same; the lease is declined.
func TestRunnerKeepsOthersAddresses(t *testing.T) {
	network(t, func(t *testing.T, s *server, nic *stack.Interface) {
		if err := nic.AddAddr(leased[0]); err != nil {
			t.Fatal(err)
		}
		r, err := dhcp.Run(nic, dhcp.RunOptions{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if l, err := r.Wait(ctx); err != nil || l.Addr != leased[1] {
			t.Errorf("lease %v, %v", l.Addr, err)
		}
		if got := s.did(); got != "DISCOVER REQUEST DECLINE DISCOVER REQUEST" {
			t.Errorf("the server saw %q", got)
		}
		r.Close()
		if got := nic.Addrs(); !slices.Equal(got, leased[:1]) {
			t.Errorf("addresses %v", got)
		}
	})
}

// TestCloseAtOnce: Close waits neither for conflict detection nor for a server.
func TestCloseAtOnce(t *testing.T) {
	networkOf(t, true, func(t *testing.T, s *server, nic *stack.Interface) {
		for _, after := range []time.Duration{0, time.Second, time.Minute} {
			r, err := dhcp.Run(nic, dhcp.RunOptions{LinkLocal: true})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(after)
			start := time.Now()
			r.Close()
			if took := time.Since(start); took != 0 {
				t.Errorf("Close after %v took %v", after, took)
			}
			if _, err := r.Wait(t.Context()); err == nil {
				t.Error("a lease after the end")
			}
			if got := nic.Addrs(); len(got) != 0 {
				t.Errorf("addresses left: %v", got)
			}
		}
	})
}
