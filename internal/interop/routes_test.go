package interop

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/tap"
	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/stack/simnet"
)

// twoLinks is a host with two interfaces, once as a stack and once as a network
// namespace; whatever is done to it is done to both.
type twoLinks struct {
	t     *testing.T
	l     *lab.Lab
	s     *stack.Stack
	links map[string]*stack.Interface
	tried int
}

func newTwoLinks(t *testing.T, l *lab.Lab) *twoLinks {
	n := simnet.New(1)
	w := &twoLinks{t: t, l: l, s: stack.New(stack.Config{Clock: n.Clock(), Seed: 1}), links: map[string]*stack.Interface{}}
	t.Cleanup(func() { w.s.Close() })
	for _, name := range []string{"ra", "rb"} {
		seg := n.Segment(wire.Options{})
		i, err := w.s.AddInterface(stack.InterfaceConfig{Name: name, Device: seg.Attach(name, ether.Addr{2, 0, 0, 9, 0, byte(len(w.links) + 1)}), DisableIPv6: true})
		if err != nil {
			t.Fatal(err)
		}
		w.links[name] = i
		w.ip("link", "add", name, "type", "veth", "peer", "name", name+"x")
		w.ip("link", "set", name, "up")
		w.ip("link", "set", name+"x", "up")
	}
	return w
}

func (w *twoLinks) end() {
	for _, typ := range []string{"blackhole", "unreachable", "prohibit"} {
		w.try("route", "flush", "table", "main", "type", typ) // they hang on no link; an error when there are none
	}
	for name := range w.links {
		w.ip("link", "del", name)
	}
}

// ip runs `ip` in the lab and returns what it says.
func (w *twoLinks) try(args ...string) (string, error) {
	var out []byte
	var err error
	w.l.Do(func() { out, err = exec.CommandContext(w.t.Context(), "ip", args...).CombinedOutput() })
	return string(out), err
}

func (w *twoLinks) ip(args ...string) string {
	w.t.Helper()
	out, err := w.try(args...)
	if err != nil {
		w.t.Fatalf("ip %v: %v: %s", args, err, out)
	}
	return out
}

// address adds one to both.
func (w *twoLinks) address(dev, prefix string) {
	w.t.Helper()
	_, err := w.try("address", "add", prefix, "dev", dev)
	mine := w.links[dev].AddAddr(netip.MustParsePrefix(prefix))
	if (err == nil) != (mine == nil) {
		w.t.Fatalf("address %s: kernel %v, stack %v", prefix, err, mine)
	}
}

func (w *twoLinks) delAddress(dev string, p netip.Prefix) {
	w.t.Helper()
	w.ip("address", "del", p.String(), "dev", dev)
	if err := w.links[dev].DelAddr(p.Addr()); err != nil {
		w.t.Fatal(err)
	}
}

// route adds one to both; they have to agree whether it can be.
func (w *twoLinks) route(r stack.Route) {
	w.t.Helper()
	args := []string{"route", "append"}
	if r.Type != stack.RouteUnicast {
		args = append(args, r.Type.String())
	}
	args = append(args, r.Dst.String())
	if r.Gateway.IsValid() {
		args = append(args, "via", r.Gateway.String())
	}
	if r.Interface != nil {
		args = append(args, "dev", r.Interface.Name())
	}
	if r.Source.IsValid() {
		args = append(args, "src", r.Source.String())
	}
	if r.OnLink {
		args = append(args, "onlink")
	}
	args = append(args, "metric", fmt.Sprint(r.Metric))
	out, err := w.try(args...)
	if mine := w.s.AddRoute(r); (err == nil) != (mine == nil) {
		w.t.Fatalf("ip %v: kernel %v %s, stack %v\n%s\n%s", args, err, out, mine, w.ip("-4", "address", "show", "up"), w.ip("route"))
	}
}

// get asks both for the way to dst and compares.
func (w *twoLinks) get(dst netip.Addr, dev string) {
	w.t.Helper()
	args := []string{"route", "get", dst.String()}
	if dev != "" {
		args = append(args, "oif", dev)
	}
	out, err := w.try(args...)
	kernel := ""
	if err != nil {
		for _, e := range []syscall.Errno{syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.EACCES, syscall.EINVAL} {
			if strings.Contains(strings.ToLower(out), e.Error()) {
				kernel = e.Error()
			}
		}
		if kernel == "" {
			w.t.Fatalf("ip %v: %s", args, out)
		}
	} else {
		field := strings.Fields(out)
		value := func(name string) string {
			for i := range field {
				if field[i] == name && i+1 < len(field) {
					return field[i+1]
				}
			}
			return ""
		}
		hop := value("via")
		if hop == "" {
			hop = dst.String()
		}
		kernel = fmt.Sprintf("%s via %s from %s broadcast %v", value("dev"), hop, value("src"), field[0] == "broadcast")
	}
	mine := ""
	way, err := w.s.Routes().Get(dst, netip.Addr{}, w.links[dev])
	if err != nil {
		mine = err.Error()[strings.LastIndex(err.Error(), ": ")+2:]
	} else {
		mine = fmt.Sprintf("%s via %v from %v broadcast %v", way.Interface.Name(), way.NextHop, way.Source, way.Broadcast)
	}
	w.tried++
	if mine != kernel {
		w.t.Errorf("ip %s\n  kernel: %s\n  stack:  %s\nours: %v\nroutes:\n%s\n%s", strings.Join(args, " "), kernel, mine, w.s.Routes().List(), w.ip("-4", "address", "show", "up"), w.ip("route"))
	}
}

// TestRouteGet: with tables of addresses and routes drawn at random, a stack and
// the kernel choose the same interface, next hop and source for every
// destination, and refuse with the same error.
func TestRouteGet(t *testing.T) {
	t.Parallel()
	program(t, "ip")
	l := newLab(t)
	// The lab's own address would be a source for what leaves elsewhere.
	inLab(t, l, func() error { return exec.Command("ip", "address", "flush", "dev", lab.Bridge).Run() })
	const tables, questions = 16, 25
	for seed := range uint64(tables) {
		w := newTwoLinks(t, l)
		rnd := rand.New(rand.NewPCG(seed, 1))
		// A small world, so that prefixes overlap: 10.20.0.0/20.
		host := func() netip.Addr { return netip.AddrFrom4([4]byte{10, 20, byte(rnd.IntN(4)), byte(1 + rnd.IntN(250))}) }
		devs := []string{"ra", "rb"}
		dev := func() string { return devs[rnd.IntN(2)] }
		w.ip("link", "set", "lo", "up")
		for range 1 + rnd.IntN(6) {
			bits := []int{22, 23, 24, 24, 24, 26, 28, 31, 32}[rnd.IntN(9)]
			a := netip.PrefixFrom(host(), bits)
			low := a.Addr().As4()
			if bits < 31 && (a.Masked().Addr() == a.Addr() || low[3]|byte(0xff<<(32-max(bits, 24))) == 0xff) {
				continue // no host's
			}
			if w.s.InterfaceOf(a.Addr()) == nil {
				w.address(dev(), a.String())
			}
		}
		for range rnd.IntN(8) {
			r := stack.Route{Dst: netip.PrefixFrom(host(), 16+rnd.IntN(17)).Masked(), Metric: 1 + rnd.IntN(3)}
			if rnd.IntN(4) == 0 {
				r.Dst = netip.MustParsePrefix("0.0.0.0/0")
			}
			switch rnd.IntN(8) {
			case 0:
				r.Type = stack.RouteType(1 + rnd.IntN(3))
			case 1, 2:
				r.Interface = w.links[dev()]
			case 3:
				r.Interface, r.Gateway, r.OnLink = w.links[dev()], host(), true
			default:
				r.Interface, r.Gateway = w.links[dev()], host()
			}
			if r.Gateway.IsValid() && (w.s.InterfaceOf(r.Gateway) != nil || broadcastOf(w.s, r.Gateway)) {
				continue
			}
			if own := w.s.Addrs().List(); rnd.IntN(4) == 0 && len(own) > 2 {
				if src := own[2+rnd.IntN(len(own)-2)]; src.Prefix.Addr().Is4() {
					r.Source = src.Prefix.Addr()
				}
			}
			if r.Type != stack.RouteUnicast {
				r.Source = netip.Addr{}
			}
			w.route(r)
		}
		if own := w.s.Addrs().List(); len(own) > 4 {
			// The kernel is asked to promote, as most systems do.
			w.l.Do(func() {
				if err := os.WriteFile("/proc/sys/net/ipv4/conf/all/promote_secondaries", []byte("1"), 0); err != nil {
					t.Fatal(err)
				}
			})
			x := own[2+rnd.IntN(len(own)-2)]
			w.delAddress(x.Interface.Name(), x.Prefix)
		}
		for range questions {
			dst, by := host(), []string{"", "", "", "ra", "rb"}[rnd.IntN(5)]
			if w.s.InterfaceOf(dst) != nil {
				by = "" // see findRoute
			}
			w.get(dst, by)
		}
		for _, a := range w.s.Addrs().List() {
			if a.Prefix.Addr().Is4() {
				w.get(a.Prefix.Addr(), "")
			}
		}
		w.get(netip.MustParseAddr("203.0.113.1"), "")
		w.get(netip.MustParseAddr("127.1.2.3"), "")
		w.end()
		if t.Failed() {
			t.Fatalf("table %d, %d questions", seed, w.tried)
		}
	}
}

func broadcastOf(s *stack.Stack, a netip.Addr) bool {
	way, err := s.Routes().Get(a, netip.Addr{}, nil)
	return err == nil && way.Broadcast
}

// TestReplaceLink: a TAP is taken from a running stack and given to it again,
// three times.
func TestReplaceLink(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	h := newHost(t, l, hostOptions{parallel: true, nic: stack.InterfaceConfig{NoDAD: true}})
	h.expect("frames that come while the interface is being removed", "ether.drop.link-down")
	w := h.stack.Watch(stack.LinkChange, 0)
	defer w.Close()
	for range 3 {
		h.ping(t, our4.Addr().String(), "-4", 56, 1)
		if err := h.stack.Links().Remove(h.nic); err != nil {
			t.Fatal(err)
		}
		if _, err := h.net.Dial("tcp", addr(lab.Kernel4.Addr(), 9)); !errors.Is(err, syscall.ENETUNREACH) {
			t.Errorf("without a link: %v", err)
		}
		var dev ether.Device
		inLab(t, l, func() (err error) {
			eventually(t, patience, "the TAP is free", func() bool {
				dev, err = tap.Open(tap.Options{Name: l.Devices[0], Existing: true})
				return !errors.Is(err, syscall.EBUSY)
			})
			return err
		})
		nic, err := h.stack.Links().Add(stack.InterfaceConfig{Name: l.Devices[0], MAC: ourMAC, Device: dev, NoDAD: true})
		if err != nil {
			t.Fatal(err)
		}
		h.nic = nic
		if err := nic.AddAddr(our4); err != nil {
			t.Fatal(err)
		}
	}
	h.ping(t, our4.Addr().String(), "-4", 56, 1)
	changes := 0
	for {
		c, err := w.TryNext()
		if err != nil {
			break
		}
		if changes++; (c.Op == stack.Removed) != (changes%2 == 1) {
			t.Errorf("change %d: %v", changes, c)
		}
	}
	if changes != 6 {
		t.Errorf("%d changes of links", changes)
	}
}
