package interop

// DHCPv6 servers of others: Kea and dnsmasq, with leases of seconds, begun by what
// radvd and dnsmasq advertise, and what happens when a server goes away.

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/tapstack/tapstack/dhcp/dhcp6"
	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/stack"
)

func init() {
	servers6["kea6"] = &server{here: "DHCP6_STARTED", argv: func(s *server, first, last string) []string {
		conf := s.file("kea6.json", fmt.Sprintf(`{"Dhcp6": {
	"interfaces-config": {"interfaces": ["br0"]},
	"lease-database": {"type": "memfile", "persist": true, "name": %q, "lfc-interval": 0},
	"server-id": {"type": "LL", "persist": false},
	"renew-timer": %d, "rebind-timer": %d, "preferred-lifetime": %d, "valid-lifetime": %d, "calculate-tee-times": false,
	"subnet6": [{"id": 1, "subnet": "fd77::/64", "interface": "br0", "rapid-commit": true, "pools": [{"pool": "fd77::%s - fd77::%s"}],
		"pd-pools": [{"prefix": "fd01::", "prefix-len": 48, "delegated-len": 56}],
		"option-data": [{"name": "dns-servers", "data": "fd77::1"}, {"name": "domain-search", "data": "lab.example"}, {"name": "sntp-servers", "data": "fd77::3"}]}],
	"loggers": [{"name": "kea-dhcp6", "output_options": [{"output": "stdout"}], "severity": "INFO"}]}}`,
			filepath.Join(s.dir, "leases6.csv"), leaseT1, leaseT2, s.end-1, s.end, hexOf(first), hexOf(last)))
		return []string{"kea-dhcp6", "-c", conf}
	}}
	servers6["dnsmasq6"] = &server{here: "DHCPv6", argv: func(s *server, first, last string) []string {
		return append(dnsmasq6(lab.Bridge, s.dir), fmt.Sprintf("--dhcp-range=fd77::%s,fd77::%s,64,2m", hexOf(first), hexOf(last)))
	}}
	servers6["stateless"] = &server{here: "stateless", argv: func(s *server, _, _ string) []string {
		return append(dnsmasq6(lab.Bridge, s.dir), "--enable-ra", "--dhcp-range=fd77::,ra-stateless")
	}}
}

var servers6 = map[string]*server{}

// hexOf turns the host's part of an address of DHCPv4's pools into that of ours.
func hexOf(a string) string { return a[strings.LastIndexByte(a, '.')+1:] }

func dnsmasq6(link, dir string) []string {
	return []string{"dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=" + link, "--dhcp-authoritative",
		"--dhcp-option=option6:dns-server,[fd77::1]", "--dhcp-option=option6:domain-search,lab.example",
		"--dhcp-leasefile=" + filepath.Join(dir, "leases"), "--log-dhcp", "--user=root", "--group="}
}

func newServer6(t *testing.T, l *lab.Lab, name string) *server {
	t.Helper()
	s := *servers6[name]
	s.t, s.l, s.dir, s.end = t, l, t.TempDir(), leaseEnd
	program(t, s.argv(&s, "10.77.0.50", "10.77.0.60")[0])
	t.Cleanup(s.stop)
	return &s
}

// runDHCP6 starts a client.
func runDHCP6(t *testing.T, h *host, o dhcp6.RunOptions) *dhcp6.Runner {
	t.Helper()
	h.expect("the answer to a RELEASE, for which Close does not wait", "udp.drop.no-socket")
	r, err := dhcp6.Run(h.nic, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func await6(t *testing.T, r *dhcp6.Runner, what string, ok func(dhcp6.Status) bool) dhcp6.Status {
	t.Helper()
	s, err := r.WaitFor(within(t, 2*patience), ok)
	if err != nil {
		t.Fatalf("%s: %v; %+v, %v", what, err, s, r.Counters())
	}
	return s
}

// leased6 waits for an address of fd77::first to fd77::first+9.
func leased6(t *testing.T, r *dhcp6.Runner, first byte) (dhcp6.Lease, netip.Prefix) {
	t.Helper()
	s := await6(t, r, "a lease", func(s dhcp6.Status) bool {
		if !s.Bound || len(s.Lease.Addrs) == 0 {
			return false
		}
		last := s.Lease.Addrs[len(s.Lease.Addrs)-1].Prefix.Addr().As16()[15]
		return last >= first && last <= first+9
	})
	return s.Lease, s.Lease.Addrs[len(s.Lease.Addrs)-1].Prefix
}

// TestKea6: two messages, an address and a prefix; renewed at T1; and when the
// server is dead the lease ends, and its socket is told.
func TestKea6(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	s := newServer6(t, l, "kea6")
	h := newHost(t, l, hostOptions{parallel: true, bare: true})
	awaitBridge(t, l)
	s.start(50)
	r := runDHCP6(t, h, dhcp6.RunOptions{Mode: dhcp6.Stateful, Delegate: 56, Hostname: "interop"})
	lease, a := leased6(t, r, 0x50)
	if len(lease.Prefixes) != 1 || lease.Prefixes[0].Prefix.Bits() != 56 || !slices.Equal(lease.DNS, []netip.Addr{lab.Kernel6.Addr()}) ||
		!slices.Equal(lease.Search, []string{"lab.example"}) || len(lease.SNTP) != 1 {
		t.Errorf("%+v", lease)
	}
	if !h.nicHas(a) || a.Bits() != 128 {
		t.Errorf("has %v", h.nic.Addrs())
	}
	if strings.Contains(s.log.String(), "ADVERTISE") {
		t.Error("not by rapid commit")
	}
	u, err := h.stack.NewUDP(true)
	if err == nil {
		err = u.Bind(netip.AddrPortFrom(a.Addr(), 9))
	}
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	await6(t, r, "renewed", func(s dhcp6.Status) bool { return s.Bound && s.Lease.Acquired > lease.Acquired })
	s.stop()
	eventually(t, 2*patience, "rebinding", func() bool { s := r.Status(); return s.State == dhcp6.Rebinding || !s.Bound })
	await6(t, r, "the lease is over", func(s dhcp6.Status) bool { return !s.Bound })
	if h.nicHas(a) {
		t.Errorf("still has %v", h.nic.Addrs())
	}
	if err := u.TakeError(); err != syscall.EADDRNOTAVAIL {
		t.Errorf("its socket hears %v", err)
	}
}

// TestDnsmasq6: four messages, a link that was away, and a release; then another
// pool, to which the client changes because the server says so.
func TestDnsmasq6(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	s := newServer6(t, l, "dnsmasq6")
	h := newHost(t, l, hostOptions{parallel: true, bare: true})
	awaitBridge(t, l)
	s.start(50)
	r := runDHCP6(t, h, dhcp6.RunOptions{Mode: dhcp6.Stateful, NoRapidCommit: true})
	_, a := leased6(t, r, 0x50)
	if !h.nicHas(a) {
		t.Errorf("has %v", h.nic.Addrs())
	}
	r.LinkUp()
	eventually(t, 2*patience, "it is confirmed", func() bool {
		return strings.Contains(s.log.String(), "DHCPCONFIRM(") && r.Status().State == dhcp6.Bound
	})
	r.Close()
	eventually(t, patience, "it is released", func() bool { return strings.Contains(s.log.String(), "DHCPRELEASE(") })
	if h.nicHas(a) {
		t.Errorf("still has %v", h.nic.Addrs())
	}
}

// TestTwoDHCP6Servers: the one that gave the lease dies, and the other one takes
// over before it ends.
func TestTwoDHCP6Servers(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	near := newServer6(t, l, "kea6")
	near.end = leaseLong
	h := newHost(t, l, hostOptions{parallel: true, bare: true})
	awaitBridge(t, l)
	near.start(50)
	r := runDHCP6(t, h, dhcp6.RunOptions{Mode: dhcp6.Stateful})
	lease, a := leased6(t, r, 0x50)
	near.stop()
	far := apart(t, l, "fd77::2/64", append(dnsmasq6("far1", t.TempDir()), "--dhcp-range=fd77::50,fd77::59,64,2m")...)
	eventually(t, patience, "dnsmasq is there", func() bool { return strings.Contains(far.String(), "DHCPv6") })
	s := await6(t, r, "the other server", func(s dhcp6.Status) bool { return s.Bound && !slices.Equal(s.Lease.Server, lease.Server) })
	if !h.nicHas(a) || len(s.Lease.Addrs) == 0 || s.Lease.Addrs[0].Prefix != a {
		t.Errorf("%+v", s.Lease)
	}
}

// TestDHCP6Conflict: an address that the kernel has is declined.
func TestDHCP6Conflict(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	s := newServer6(t, l, "kea6")
	h := newHost(t, l, hostOptions{parallel: true, bare: true})
	taken := netip.MustParsePrefix("fd77::50/64") // with which Kea begins
	addKernelAddr(t, l, lab.Bridge, taken)
	awaitBridge(t, l)
	s.start(50)
	r := runDHCP6(t, h, dhcp6.RunOptions{Mode: dhcp6.Stateful})
	if _, a := leased6(t, r, 0x50); a.Addr() == taken.Addr() || !strings.Contains(s.log.String(), "DECLINE") {
		t.Errorf("has %v", a)
	}
}

// TestManaged: routers say that there are addresses to be had, and the host has
// one before it is ready; what else it heard its resolver knows.
func TestManaged(t *testing.T) {
	t.Parallel()
	program(t, "radvd")
	l := busyLab(t)
	s := newServer6(t, l, "kea6")
	inLab(t, l, func() error {
		return os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0)
	})
	dir := t.TempDir()
	conf := filepath.Join(dir, "radvd.conf")
	if err := os.WriteFile(conf, []byte("interface br0 { AdvSendAdvert on; AdvManagedFlag on; MinRtrAdvInterval 3; MaxRtrAdvInterval 10; prefix fd77::/64 { AdvOnLink on; AdvAutonomous off; }; };\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	awaitBridge(t, l)
	s.start(50)
	daemon(t, l, "radvd", "-n", "-m", "stderr", "-d", "1", "-C", conf, "-p", filepath.Join(dir, "pid"))
	h := open6(t, l, attach.Options{SLAAC: true, DHCP6Options: attach.DHCP6Options{Delegate: 56, DUID: "uuid", DUIDFile: filepath.Join(dir, "duid")}})
	if lines := h.LeaseLines(); len(lines) != 1 || !strings.HasPrefix(lines[0], "lease6 address=fd77::5") || !strings.Contains(lines[0], " prefix=fd01:") || !strings.Contains(lines[0], "dns=fd77::1 search=lab.example") {
		t.Errorf("%q", lines)
	}
	if !strings.Contains(h.ReadyLine(), "fd77::5") {
		t.Error(h.ReadyLine())
	}
	b, err := os.ReadFile(filepath.Join(dir, "duid"))
	if err != nil || !strings.Contains(string(b), `"duid": "0004`) {
		t.Errorf("%s, %v", b, err)
	}
}

// busyLab is a lab whose bridge has a host, so that it runs before ours is there.
func busyLab(t *testing.T) *lab.Lab {
	t.Helper()
	lab.Require(t)
	l, err := lab.NewWith(lab.Options{Device: "tap", Hosts: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	h := newHost(t, l, hostOptions{parallel: true, bare: true, device: 1, nic: stack.InterfaceConfig{DisableIPv6: true}})
	h.expect("what is for everybody on the link", "arp.drop.not-ours", "udp.drop.no-socket")
	return l
}

// open6 opens a host as a program would.
func open6(t *testing.T, l *lab.Lab, o attach.Options) (h *attach.Host) {
	t.Helper()
	o.TAP = l.Devices[0]
	inLab(t, l, func() (err error) {
		h, err = o.Open(context.Background())
		return err
	})
	t.Cleanup(func() { h.Close() })
	return h
}

// TestOther: with addresses of routers' prefixes, DHCPv6 has the rest.
func TestOther(t *testing.T) {
	t.Parallel()
	l := busyLab(t)
	s := newServer6(t, l, "stateless")
	awaitBridge(t, l)
	s.start(50)
	h := open6(t, l, attach.Options{SLAAC: true})
	lines := h.LeaseLines()
	if len(lines) != 1 || !strings.HasPrefix(lines[0], "lease6 dns=fd77::1 search=lab.example server=") {
		t.Errorf("%q %q", lines, h.Notes)
	}
	if st := h.DHCP6.Status(); !st.Informed || hex.EncodeToString(st.Lease.Server) == "" || !strings.Contains(h.ReadyLine(), "fd77::") {
		t.Errorf("%+v; %s", st, h.ReadyLine())
	}
	if !slices.ContainsFunc(h.Stack.Routes().List(), func(r stack.Route) bool { return r.Dst.Bits() == 0 && r.Gateway.IsValid() }) {
		t.Error("no default route")
	}
}
