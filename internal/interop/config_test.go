package interop

// Configuration by others: DHCP from dnsmasq, router advertisements from
// radvd, and a bridge that wants to know who listens to which group.

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/dhcp"
	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
)

// daemon starts a program in the lab and collects what it says. It is killed
// at the end of the test, which shows the log if it has failed.
func daemon(t *testing.T, l *lab.Lab, argv ...string) *daemonLog {
	t.Helper()
	log := new(daemonLog)
	cmd := exec.CommandContext(t.Context(), program(t, argv[0]), argv[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := l.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		_ = cmd.Wait() // killed
		if t.Failed() {
			t.Logf("%s:\n%s", argv[0], log)
		}
	})
	return log
}

type daemonLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *daemonLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *daemonLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// far4 and far6 are addresses of the kernel host that lie on no link of ours,
// so that the way to them leads over the default route.
var (
	far4 = netip.MustParsePrefix("192.0.2.1/32")
	far6 = netip.MustParsePrefix("2001:db8::1/128")
)

// addKernelAddr gives the kernel host an address, without DAD.
func addKernelAddr(t *testing.T, l *lab.Lab, link string, p netip.Prefix) {
	t.Helper()
	inLab(t, l, func() error {
		i, err := netlink.LinkByName(link)
		if err != nil {
			return err
		}
		return netlink.AddrAdd(i, &netlink.Addr{
			IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())},
			Flags: unix.IFA_F_NODAD,
		})
	})
}

// hasDefault reports whether the stack routes everything to gateway.
func hasDefault(s *stack.Stack, gateway netip.Addr) bool {
	return slices.ContainsFunc(s.Routes().List(), func(r stack.Route) bool {
		return r.Dst.Bits() == 0 && r.Gateway == gateway
	})
}

func TestDHCP(t *testing.T) {
	t.Parallel()
	program(t, "dnsmasq")
	l := newLab(t)
	leases := filepath.Join(t.TempDir(), "leases")
	// Two minutes are dnsmasq's shortest lease; T1, of which 3 s is the least
	// that it accepts, brings the first renewal forward.
	log := daemon(t, l, "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface="+lab.Bridge, "--bind-interfaces",
		"--dhcp-range=10.77.0.50,10.77.0.60,255.255.255.0,2m", "--dhcp-option=option:router,10.77.0.1",
		"--dhcp-option=option:T1,3", "--dhcp-leasefile="+leases, "--no-ping", "--log-dhcp", "--user=root", "--group=")
	eventually(t, patience, "dnsmasq is there", func() bool { return strings.Contains(log.String(), "DHCP, IP range") })
	h := newHost(t, l, hostOptions{parallel: true, bare: true})
	h.serveKernel()
	addKernelAddr(t, l, "lo", far4)

	r, err := dhcp.Run(h.nic, dhcp.RunOptions{Hostname: "interop"})
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	defer func() {
		if !closed {
			r.Close()
		}
	}()
	lease, err := r.Wait(within(t, 2*patience))
	if err != nil {
		t.Fatal(err)
	}
	if a := lease.Addr.Addr(); lease.Addr.Bits() != 24 || a.Less(netip.MustParseAddr("10.77.0.50")) || netip.MustParseAddr("10.77.0.60").Less(a) {
		t.Errorf("leased %v", lease.Addr)
	}
	if !slices.Contains(h.nic.Addrs(), lease.Addr) {
		t.Errorf("%v is not among %v", lease.Addr, h.nic.Addrs())
	}
	if !hasDefault(h.stack, lab.Kernel4.Addr()) {
		t.Errorf("no default route among %v", h.stack.Routes().List())
	}
	line := fmt.Sprintf("%v %v interop", ourMAC, lease.Addr.Addr())
	inLease := func() bool {
		b, err := os.ReadFile(leases)
		return err == nil && strings.Contains(string(b), line)
	}
	eventually(t, patience, "the lease is in dnsmasq's file", inLease)
	h.ping(t, lease.Addr.Addr().String(), "-4", 56, 3)
	if err := exchange(within(t, patience), h.ourSide(), addr(far4.Addr(), 7), 1); err != nil {
		t.Errorf("by the default route: %v", err)
	}
	// After the offer and the first acknowledgement comes the second. A busy
	// machine may have asked twice for the first offer.
	discovered := strings.Count(log.String(), "DHCPDISCOVER(br0)")
	if _, err := r.WaitFor(within(t, 2*patience), func(s dhcp.Status) bool { return s.Bound && s.Lease.Acquired > lease.Acquired }); err != nil {
		t.Fatalf("not renewed: %v", err)
	}
	eventually(t, patience, "dnsmasq says so", func() bool { return strings.Count(log.String(), "DHCPACK(br0)") >= 2 })
	if n := strings.Count(log.String(), "DHCPDISCOVER(br0)"); n != discovered {
		t.Errorf("%d times DHCPDISCOVER: not renewed but begun anew", n-discovered)
	}

	closed = true
	r.Close()
	eventually(t, patience, "the lease is released", func() bool {
		return strings.Contains(log.String(), "DHCPRELEASE(br0)") && !inLease()
	})
	if slices.Contains(h.nic.Addrs(), lease.Addr) || hasDefault(h.stack, lab.Kernel4.Addr()) {
		t.Errorf("after the release: %v, %v", h.nic.Addrs(), h.stack.Routes().List())
	}
}

func TestSLAAC(t *testing.T) {
	t.Parallel()
	program(t, "radvd")
	l := newLab(t)
	inLab(t, l, func() error {
		// radvd does not advertise a router that does not route.
		return os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0)
	})
	dir := t.TempDir()
	conf := filepath.Join(dir, "radvd.conf")
	if err := os.WriteFile(conf, []byte(`interface br0 {
	AdvSendAdvert on;
	MinRtrAdvInterval 3;
	MaxRtrAdvInterval 10;
	prefix fd77::/64 { AdvOnLink on; AdvAutonomous on; };
	RDNSS fd77::1 { };
	DNSSL lab.example { };
};
`), 0o644); err != nil {
		t.Fatal(err)
	}
	daemon(t, l, "radvd", "-n", "-m", "stderr", "-d", "1", "-C", conf, "-p", filepath.Join(dir, "pid"))
	addKernelAddr(t, l, "lo", far6)
	h := newHost(t, l, hostOptions{parallel: true, bare: true, services: true, nic: stack.InterfaceConfig{SLAAC: true, IID: ipv6.IIDEUI64}})
	h.serveKernel()

	p, err := h.nic.WaitAddr(within(t, 2*patience), func(p netip.Prefix) bool { return p.Addr().Is6() && !p.Addr().IsLinkLocalUnicast() })
	if err != nil {
		t.Fatalf("%v; %v", err, h.stack.Counters())
	}
	id := ether.EUI64(ourMAC)
	want := lab.Kernel6.Addr().As16()
	copy(want[8:], id[:])
	if p != netip.PrefixFrom(netip.AddrFrom16(want), 64) {
		t.Errorf("has %v", p)
	}
	if !hasDefault(h.stack, lab.KernelLL.Addr()) {
		t.Errorf("no default route among %v", h.stack.Routes().List())
	}
	if servers, search := h.nic.NameServers(); !slices.Equal(servers, []netip.Addr{lab.Kernel6.Addr()}) || !slices.Equal(search, []string{"lab.example"}) {
		t.Errorf("name servers %v, domains %q", servers, search)
	}
	h.ping(t, p.Addr().String(), "-6", 56, 3)
	if err := exchange(within(t, patience), h.ourSide(), addr(far6.Addr(), 7), 1); err != nil {
		t.Errorf("by the default router: %v", err)
	}
	c := dial(t, h.ourSide(), "udp", addr(far6.Addr(), 7), patience)
	if a := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr(); a != p.Addr() {
		t.Errorf("speaks from %v", a)
	}
}

// TestMLD: a bridge that snoops and asks passes a group's frames only to the
// ports that have answered, our solicited-node groups among them, without
// which nobody would find us.
func TestMLD(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	ctx := within(t, 3*patience)
	program(t, "bridge")
	h := newHost(t, l, hostOptions{parallel: true, services: true, nic: stack.InterfaceConfig{NoDAD: true}})
	// A question each second, and a port forgotten 2 s after its last answer:
	// after six questions what the host has said unasked no longer counts.
	run(t, ctx, l, "ip", "link", "set", lab.Bridge, "type", "bridge", "mcast_snooping", "1", "mcast_mld_version", "2",
		"mcast_query_interval", "100", "mcast_startup_query_interval", "100", "mcast_query_response_interval", "50",
		"mcast_membership_interval", "200", "mcast_querier", "1")
	eventually(t, 2*patience, "six queries", func() bool { return h.count("mld.query") >= 6 })
	const entry = "grp ff02::1:ff00:7"
	// Between its answers a busy host is forgotten for a moment.
	var mdb string
	if !persist(func() bool {
		mdb = run(t, ctx, l, "bridge", "mdb", "show", "dev", lab.Bridge)
		return strings.Contains(mdb, "port "+l.Ports[0]+" "+entry)
	}) {
		t.Errorf("%s has no %s:\n%s", l.Ports[0], entry, mdb)
	}
	flushKernelNeighbours(t, l)
	var err error
	if !persist(func() bool {
		err = echoDatagram(dial(t, h.kernelSide(), "udp", addr(our6.Addr(), 7), patience), []byte("found"), 1, patience)
		return err == nil
	}) {
		t.Error(err)
	}
}
