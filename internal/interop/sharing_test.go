package interop

// Two equal routers share what a host sends (RFC 4311), and dnsmasq's lifetimes end.

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
)

// forwarded is how many packets a router has passed on.
func forwarded(t *testing.T, r *lab.Lab) int {
	t.Helper()
	for line := range strings.Lines(run(t, within(t, patience), r, "cat", "/proc/net/snmp6")) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "Ip6OutForwDatagrams" {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no Ip6OutForwDatagrams")
	return 0
}

// TestRouterSharing: two of Linux's routers, advertised by radvd as equals, each
// pass on what goes to their part of the destinations; when one has gone the
// other has all of them.
func TestRouterSharing(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	var dsts []netip.Addr
	for n := range 16 {
		a := netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", n+1))
		addKernelAddr(t, l, "lo", netip.PrefixFrom(a, 128))
		dsts = append(dsts, a)
	}
	var routers [2]*lab.Lab
	var radvd [2]*advertiser
	var ll [2]netip.Addr
	const options = "\tAdvDefaultLifetime 600;\n\tprefix fd77::/64 { };\n"
	for i := range routers {
		r := newOnBridge(t, l, fmt.Sprint("near", i+1))
		sysctl(t, r, "ipv6/conf/all/forwarding", "1")
		mac := ether.Addr{2, 0, 0, 0, 1, byte(i + 1)}
		ip(t, r, "link set far down")
		ip(t, r, "link set far address "+mac.String())
		ip(t, r, "link set far addrgenmode eui64")
		ip(t, r, "link set far up")
		ip(t, r, "address add fd77::"+fmt.Sprint(20+i)+"/64 dev far nodad")
		ip(t, r, "route add 2001:db8::/64 via fd77::1 dev far")
		routers[i], ll[i] = r, ipv6.LinkLocal(mac)
		radvd[i] = newAdvertiser(t, r, "far")
		eventually(t, patience, "a link-local address", func() bool {
			out, _ := r.Output(t.Context(), "ip", "-6", "address", "show", "dev", "far", "scope", "link")
			return strings.Contains(string(out), ll[i].String()) && !strings.Contains(string(out), "tentative")
		})
		radvd[i].start(options)
	}
	h := newHost(t, l, hostOptions{parallel: true, bare: true, nic: stack.InterfaceConfig{SLAAC: true, NoRedirects: true, IID: ipv6.IIDEUI64}})
	h.expect("the routers know a shorter way, which is not to be taken here", "icmp.drop.redirect")
	h.serveKernel()
	h.stack.SetRouterSharing(true)
	by := func() (parts [2]int) {
		for _, d := range dsts {
			w, err := h.stack.Routes().Get(d, netip.Addr{}, nil)
			if err != nil || !w.Source.IsValid() {
				return [2]int{}
			}
			if n := slices.Index(ll[:], w.NextHop); n >= 0 {
				parts[n]++
			}
		}
		return parts
	}
	own := ipv6.WithIID(netip.MustParsePrefix("fd77::/64"), ether.EUI64(ourMAC))
	eventually(t, 4*patience, "both routers", func() bool { return hasDefault(h.stack, ll[0]) && hasDefault(h.stack, ll[1]) })
	if err := h.nic.WaitUsable(within(t, 2*patience), own); err != nil {
		t.Fatal(err)
	}
	// The secret is another one in each run: all 16 by one router comes once in
	// 32768, so that here only those that go by each are looked at.
	var parts [2]int
	eventually(t, 4*patience, "each router has advertised the prefix", func() bool {
		parts = by()
		return parts[0]+parts[1] == len(dsts)
	})
	was := [2]int{forwarded(t, routers[0]), forwarded(t, routers[1])}
	for n, d := range dsts {
		if err := exchange(within(t, patience), h.ourSide(), addr(d, 7), uint64(n)); err != nil {
			t.Errorf("%v: %v", d, err)
		}
	}
	for i, r := range routers {
		if n := forwarded(t, r) - was[i]; (n == 0) != (parts[i] == 0) {
			t.Errorf("router %d has passed on %d packets for %d destinations", i+1, n, parts[i])
		}
	}
	t.Logf("parts %v", parts)
	radvd[0].stop(syscall.SIGTERM) // which says so
	eventually(t, patience, "a router less", func() bool { return !hasDefault(h.stack, ll[0]) })
	if parts := by(); parts != [2]int{0, len(dsts)} {
		t.Errorf("by one router %v", parts)
	}
	for n, d := range dsts {
		if err := exchange(within(t, patience), h.ourSide(), addr(d, 7), uint64(n)); err != nil {
			t.Errorf("%v by the other router: %v", d, err)
		}
	}
}

// TestCutByDnsmasq: dnsmasq advertises a prefix, and then that it is not to be used
// any more and that there is no router; a stack and a kernel make the same of it.
func TestCutByDnsmasq(t *testing.T) {
	t.Parallel()
	program(t, "dnsmasq")
	l := newLab(t)
	beside := newOnBridge(t, l, "near1")
	ip(t, beside, "link set far addrgenmode eui64")
	sysctl(t, l, "ipv6/conf/all/forwarding", "1")
	dir := t.TempDir()
	var cmd *exec.Cmd
	var log *daemonLog
	stop := func() {
		if cmd != nil {
			_ = cmd.Process.Signal(os.Kill)
			_ = cmd.Wait() // by a signal
			cmd = nil
		}
	}
	t.Cleanup(func() {
		if stop(); t.Failed() {
			t.Logf("dnsmasq:\n%s", log)
		}
	})
	start := func(args ...string) {
		t.Helper()
		stop()
		log = new(daemonLog)
		cmd = exec.CommandContext(t.Context(), program(t, "dnsmasq"), append([]string{"--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=" + lab.Bridge,
			"--dhcp-leasefile=" + filepath.Join(dir, "leases"), "--user=root", "--group=", "--enable-ra"}, args...)...)
		cmd.Stdout, cmd.Stderr = log, log
		if err := l.Start(cmd); err != nil {
			t.Fatal(err)
		}
	}
	h := newHost(t, l, hostOptions{parallel: true, bare: true, nic: stack.InterfaceConfig{SLAAC: true, IID: ipv6.IIDEUI64}})
	same := func(what string, want func(string) bool) {
		t.Helper()
		var ours, kernels []string
		for end := time.Now().Add(4 * patience); ; time.Sleep(pause) {
			ours, kernels = h.config(), kernelConfig(t, beside)
			if slices.Equal(ours, kernels) && want(strings.Join(ours, "\n")) {
				t.Logf("%s:\n%s", what, strings.Join(ours, "\n"))
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s:\nstack\n  %s\nkernel\n  %s", what, strings.Join(ours, "\n  "), strings.Join(kernels, "\n  "))
			}
		}
	}
	start("--dhcp-range=fd77::,ra-only,1h", "--ra-param="+lab.Bridge+",4,1800")
	same("at first", func(c string) bool {
		return strings.Contains(c, "address in fd77::/64 deprecated false") && strings.Contains(c, "fd77::/64 on the link") && strings.Contains(c, "::/0 by")
	})
	start("--dhcp-range=fd77::,ra-only,deprecated", "--ra-param="+lab.Bridge+",4,0")
	same("afterwards", func(c string) bool {
		return strings.Contains(c, "address in fd77::/64 deprecated true") && !strings.Contains(c, "::/0")
	})
}

// TestTakenAwayLikeKernel: what its user takes away of what a router has advertised,
// addresses and routes, comes back with the next advertisement, in a stack as in a
// kernel.
func TestTakenAwayLikeKernel(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	beside := newOnBridge(t, l, "near1")
	ip(t, beside, "link set far addrgenmode eui64")
	sysctl(t, beside, "ipv6/conf/far/accept_ra_rt_info_max_plen", "128")
	a := newAdvertiser(t, l, lab.Bridge)
	a.start("\tprefix fd81::/64 { };\n\troute fd84::/48 { };\n")
	h := newHost(t, l, hostOptions{parallel: true, bare: true, nic: stack.InterfaceConfig{SLAAC: true, IID: ipv6.IIDEUI64}})
	whole := func(config []string) bool {
		for _, part := range []string{"address in fd81::/64", "fd81::/64 on the link", "::/0 by", "fd84::/48 by"} {
			if !slices.ContainsFunc(config, func(s string) bool { return strings.HasPrefix(s, part) }) {
				return false
			}
		}
		return true
	}
	own := ipv6.WithIID(netip.MustParsePrefix("fd81::/64"), ether.EUI64(ourMAC))
	both := func() bool { return whole(h.config()) && whole(kernelConfig(t, beside)) }
	eventually(t, 4*patience, "all that is advertised", both)
	if err := h.nic.WaitUsable(within(t, patience), own); err != nil {
		t.Fatal(err)
	}
	heard := h.count("nd.router-advert")
	eventually(t, 4*patience, "an advertisement", func() bool { return h.count("nd.router-advert") > heard })
	ip(t, beside, "address flush dev far scope global")
	ip(t, beside, "route flush dev far proto ra")
	if err := h.nic.DelAddr(own); err != nil {
		t.Error(err)
	}
	for _, dst := range []string{"::/0", "fd84::/48", "fd81::/64"} {
		if err := h.stack.DelRoute(stack.Route{Dst: netip.MustParsePrefix(dst)}); err != nil {
			t.Error(err)
		}
	}
	eventually(t, 4*patience, "all that is advertised again", both)
}
