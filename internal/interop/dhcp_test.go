package interop

// DHCP servers of others: dnsmasq, Kea and ISC's dhcpd, with leases of seconds,
// and what happens to a lease when they go away, change their minds, or are two;
// and other hosts that have, or want, the address.

import (
	"errors"
	"fmt"
	"io"
	"net"
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

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/dhcp"
	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
)

// server is one of the DHCP servers, which can be stopped and started again with
// another pool.
type server struct {
	t    *testing.T
	l    *lab.Lab
	dir  string
	argv func(s *server, first, last string) []string
	here string // in its log when it serves
	end  int    // of its leases, in seconds, where that can be chosen

	cmd *exec.Cmd
	log *daemonLog
}

// times of the leases: T1, T2 and the end, in seconds; and an end for which no
// test waits, of leases that have to last while another server is started.
const leaseT1, leaseT2, leaseEnd, leaseLong = 2, 4, 7, 600

var servers = map[string]*server{
	// The shortest lease of dnsmasq is two minutes, and T1 at least 3 s.
	"dnsmasq": {here: "DHCP, IP range", argv: func(s *server, first, last string) []string {
		return []string{"dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=" + lab.Bridge, "--bind-interfaces",
			fmt.Sprintf("--dhcp-range=%s,%s,255.255.255.0,2m", first, last), "--dhcp-authoritative", "--dhcp-option=option:dns-server,10.77.0.1",
			"--dhcp-leasefile=" + filepath.Join(s.dir, "leases"), "--no-ping", "--log-dhcp", "--user=root", "--group="}
	}},
	"kea": {here: "DHCP4_STARTED", argv: func(s *server, first, last string) []string {
		conf := s.file("kea.json", fmt.Sprintf(`{"Dhcp4": {
	"interfaces-config": {"interfaces": ["br0"], "dhcp-socket-type": "raw"},
	"lease-database": {"type": "memfile", "persist": true, "name": %q, "lfc-interval": 0},
	"authoritative": true, "renew-timer": %d, "rebind-timer": %d, "valid-lifetime": %d, "min-valid-lifetime": %[4]d, "max-valid-lifetime": %[4]d,
	"calculate-tee-times": false,
	"subnet4": [{"id": 1, "subnet": "10.77.0.0/24", "pools": [{"pool": "%s - %s"}], "option-data": [
		{"name": "routers", "data": "10.77.0.1"}, {"name": "domain-name-servers", "data": "10.77.0.1"}]}],
	"loggers": [{"name": "kea-dhcp4", "output_options": [{"output": "stdout"}], "severity": "INFO"}]}}`,
			filepath.Join(s.dir, "leases.csv"), leaseT1, leaseT2, s.end, first, last))
		return []string{"kea-dhcp4", "-c", conf}
	}},
	"dhcpd": {here: "Sending on", argv: func(s *server, first, last string) []string {
		conf := s.file("dhcpd.conf", fmt.Sprintf(`authoritative;
ping-check false;
default-lease-time %[3]d; max-lease-time %[3]d; min-lease-time %[3]d;
option dhcp-renewal-time %[1]d; option dhcp-rebinding-time %[2]d;
subnet 10.77.0.0 netmask 255.255.255.0 {
	range %[4]s %[5]s;
	option routers 10.77.0.1;
	option domain-name-servers 10.77.0.1;
}
`, leaseT1, leaseT2, s.end, first, last))
		leases := s.file("dhcpd.leases", "")
		return []string{"dhcpd", "-4", "-f", "-d", "-cf", conf, "-lf", leases, "-pf", filepath.Join(s.dir, "dhcpd.pid"), lab.Bridge}
	}},
}

// newServer returns a server of a lab that does not run yet.
func newServer(t *testing.T, l *lab.Lab, name string) *server {
	t.Helper()
	s := *servers[name]
	s.t, s.l, s.dir, s.end = t, l, t.TempDir(), leaseEnd
	program(t, s.argv(&s, "10.77.0.50", "10.77.0.60")[0])
	t.Cleanup(s.stop)
	return &s
}

// file writes a file of the server, unless it is there: leases stay.
func (s *server) file(name, content string) string {
	path := filepath.Join(s.dir, name)
	if _, err := os.Stat(path); err == nil && content == "" {
		return path
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// start runs the server with a pool of ten addresses from 10.77.0.first on.
func (s *server) start(first int) {
	s.t.Helper()
	argv := s.argv(s, "10.77.0."+strconv.Itoa(first), "10.77.0."+strconv.Itoa(first+9))
	s.log = new(daemonLog)
	s.cmd = exec.CommandContext(s.t.Context(), argv[0], argv[1:]...)
	s.cmd.Env = append(os.Environ(), "HOME="+s.dir, "TMPDIR="+s.dir, "KEA_LOCKFILE_DIR="+s.dir, "KEA_PIDFILE_DIR="+s.dir)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.l.Start(s.cmd); err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, 2*patience, argv[0]+" is there", func() bool {
		return strings.Contains(s.log.String(), s.here) || s.cmd.Process.Signal(syscall.Signal(0)) != nil
	})
}

// stop kills the server, as a machine that loses power does.
func (s *server) stop() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Kill()
	_ = s.cmd.Wait() // killed
	s.cmd = nil
	if s.t.Failed() {
		s.t.Logf("the server said:\n%s", s.log)
	}
}

// awaitBridge waits until the bridge has a port with a carrier, without which Kea
// does not listen on it.
func awaitBridge(t *testing.T, l *lab.Lab) {
	t.Helper()
	eventually(t, patience, "the bridge runs", func() (up bool) {
		inLab(t, l, func() error {
			br, err := netlink.LinkByName(lab.Bridge)
			up = err == nil && br.Attrs().RawFlags&unix.IFF_RUNNING != 0
			return err
		})
		return up
	})
}

// runDHCP starts a client; news are what it tells of its lease.
func runDHCP(t *testing.T, h *host, o dhcp.RunOptions) (r *dhcp.Runner, news chan string) {
	t.Helper()
	h.expect("what is about an address before it is ours, or after", "arp.drop.not-ours", "ipv4.drop.foreign-ip")
	news = make(chan string, 100)
	o.Changed = func(l dhcp.Lease, have bool) { news <- fmt.Sprintf("%v %v", l.Addr.Addr(), have) }
	r, err := dhcp.Run(h.nic, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r, news
}

func wantLease(t *testing.T, r *dhcp.Runner, first int) dhcp.Lease {
	t.Helper()
	l, err := r.Wait(within(t, 2*patience))
	if err != nil {
		t.Fatal(err)
	}
	last := l.Addr.Addr().As4()[3]
	if l.Addr.Bits() != 24 || int(last) < first || int(last) > first+9 {
		t.Errorf("leased %v", l.Addr)
	}
	return l
}

// renewed waits until the lease is another one than l.
func renewed(t *testing.T, r *dhcp.Runner, l dhcp.Lease) dhcp.Lease {
	t.Helper()
	s, err := r.WaitFor(within(t, 2*patience), func(s dhcp.Status) bool { return s.Bound && s.Lease.Acquired > l.Acquired })
	if err != nil {
		t.Fatalf("not renewed: %v", err)
	}
	return s.Lease
}

// awaitState waits until the client is in that state, or the lease is over: a
// machine that stands still passes by states.
func awaitState(t *testing.T, r *dhcp.Runner, want dhcp.State) {
	t.Helper()
	eventually(t, 2*patience, "the client is "+want.String(), func() bool { s := r.Status(); return s.State == want || !s.Bound })
}

// TestDHCPServers: with each server a lease that is released at the end; with
// those that give short ones it is renewed at T1.
func TestDHCPServers(t *testing.T) {
	for name := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			s := newServer(t, l, name)
			if name == "kea" {
				s.end = leaseLong
			}
			h := newHost(t, l, hostOptions{parallel: true, bare: true})
			awaitBridge(t, l)
			s.start(50)
			h.serveKernel()
			r, _ := runDHCP(t, h, dhcp.RunOptions{Hostname: "interop"})
			lease := wantLease(t, r, 50)
			if !slices.Equal(lease.Routers, []netip.Addr{lab.Kernel4.Addr()}) || !slices.Equal(lease.DNS, lease.Routers) || lease.Server != lab.Kernel4.Addr() {
				t.Errorf("%+v", lease)
			}
			if err := exchange(within(t, patience), h.ourSide(), addr(lab.Kernel4.Addr(), 7), 1); err != nil {
				t.Error(err)
			}
			if name == "dnsmasq" { // TestDHCP waits for its T1
				r.LinkUp()
				renewed(t, r, lease)
				// Another pool: the address is refused, and another one taken.
				s.stop()
				s.start(80)
				r.LinkUp()
				eventually(t, 2*patience, "an address of the new pool", func() bool {
					s := r.Status()
					return s.Bound && s.Lease.Addr.Addr().As4()[3] >= 80
				})
				if !slices.Equal(h.nic.Addrs(), []netip.Prefix{r.Status().Lease.Addr}) && len(h.nic.Addrs()) != 2 {
					t.Errorf("has %v", h.nic.Addrs())
				}
				return
			}
			lease = renewed(t, r, lease)
			if lease.Lease != time.Duration(s.end)*time.Second || lease.T1 != leaseT1*time.Second || lease.T2 != leaseT2*time.Second {
				t.Errorf("%v %v %v", lease.T1, lease.T2, lease.Lease)
			}
			u, err := h.stack.NewUDP(false)
			if err == nil {
				err = u.Bind(netip.AddrPortFrom(lease.Addr.Addr(), 9))
			}
			if err != nil {
				t.Fatal(err)
			}
			defer u.Close()
			// Its server dies: nobody renews at T1, and from T2 on everybody is
			// asked.
			s.stop()
			awaitState(t, r, dhcp.Renewing)
			if name == "kea" { // that has come back by then, with its file
				s.start(50)
				lease = renewed(t, r, lease)
				if !h.nicHas(lease.Addr) {
					t.Errorf("has %v", h.nic.Addrs())
				}
				return
			}
			// Nobody answers: the lease ends, and its socket is told.
			awaitState(t, r, dhcp.Rebinding)
			eventually(t, 2*patience, "the lease is over", func() bool { return !r.Status().Bound })
			if h.nicHas(lease.Addr) {
				t.Errorf("still has %v", h.nic.Addrs())
			}
			if err := u.TakeError(); err != syscall.EADDRNOTAVAIL {
				t.Errorf("its socket hears %v", err)
			}
		})
	}
}

func (h *host) nicHas(p netip.Prefix) bool { return slices.Contains(h.nic.Addrs(), p) }

// TestDHCPConflict: an address that the kernel has is declined, and the next one
// is taken.
func TestDHCPConflict(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	s := newServer(t, l, "dhcpd")
	s.start(50)
	// dhcpd begins with the first or the last of its pool.
	for _, a := range []string{"10.77.0.50/32", "10.77.0.59/32"} {
		addKernelAddr(t, l, lab.Bridge, netip.MustParsePrefix(a))
	}
	h := newHost(t, l, hostOptions{parallel: true, bare: true, nic: stack.InterfaceConfig{ACD: true}})
	r, _ := runDHCP(t, h, dhcp.RunOptions{})
	eventually(t, 2*patience, "the address is declined", func() bool { return strings.Contains(s.log.String(), "DHCPDECLINE") })
	if got := h.nic.Addrs(); slices.ContainsFunc(got, func(p netip.Prefix) bool { n := p.Addr().As16()[15]; return p.Addr().Is4() && (n == 50 || n == 59) }) {
		t.Errorf("has %v", got)
	}
	// Close waits for nothing, here for the ten seconds after a DECLINE.
	r.Close()
}

// TestACDLive: two stacks and one address. Who probes for it leaves it to its
// owner; who insists on it has it, and its owner's connections end.
func TestACDLive(t *testing.T) {
	t.Parallel()
	lab.Require(t)
	l, err := lab.NewWith(lab.Options{Device: "tap", Hosts: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	h := newHost(t, l, hostOptions{parallel: true, bare: true, nic: stack.InterfaceConfig{ACD: true, DisableIPv6: true}})
	h.serveKernel()
	o := newHost(t, l, hostOptions{parallel: true, bare: true, device: 1, nic: stack.InterfaceConfig{DisableIPv6: true}})
	for _, x := range []*host{h, o} {
		x.expect("the end of a connection, and announcements of an address that is the other's", "tcp.drop.no-connection", "tcp.drop.closed", "arp.drop.not-ours")
	}
	if err := h.nic.AddAddr(our4); err != nil {
		t.Fatal(err)
	}
	if err := h.nic.Ready(within(t, 2*patience)); err != nil {
		t.Fatal(err)
	}
	c := dial(t, h.ourSide(), "tcp", addr(lab.Kernel4.Addr(), 7), endurance)

	// The other way round first: it asks, and is told.
	gone := make(chan stack.AddrEvent, 9)
	notify := func(_ netip.Addr, e stack.AddrEvent) { gone <- e }
	if err := o.nic.ClaimAddr(our4, stack.ClaimOptions{Probe: true, Notify: notify}); err != nil {
		t.Fatal(err)
	}
	select {
	case e := <-gone:
		if e != stack.AddrConflict {
			t.Errorf("the second stack: event %d", e)
		}
	case <-time.After(2 * patience):
		t.Fatal("the second stack waits for ever")
	}
	if !h.nicHas(our4) || o.nicHas(our4) {
		t.Errorf("%v, %v", h.nic.Addrs(), o.nic.Addrs())
	}
	if _, err := c.Write([]byte("still here")); err != nil {
		t.Error(err)
	}
	// It insists: by hand, and announced twice in two seconds.
	if err := o.nic.AddAddr(our4); err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*patience, "the first stack gives up", func() bool { return !h.nicHas(our4) })
	if _, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("its connection: %v", err)
	}
	if err := h.nic.Ready(within(t, patience)); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("Ready: %v", err)
	}
	if !o.nicHas(our4) {
		t.Errorf("the second stack has %v", o.nic.Addrs())
	}
}

// TestTwoDHCPServers: of two offers one is taken, and its server alone is asked
// again; when that is dead, the other one can be had.
func TestTwoDHCPServers(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	near := newServer(t, l, "dhcpd")
	near.start(50)
	// The other one is a machine of its own.
	far := apart(t, l, "10.77.0.2/24", "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=far1",
		"--dhcp-range=10.77.0.90,10.77.0.99,255.255.255.0,2m", "--dhcp-authoritative", "--no-ping", "--log-dhcp", "--user=root", "--group=",
		"--dhcp-leasefile="+filepath.Join(t.TempDir(), "leases"))
	eventually(t, patience, "dnsmasq is there", func() bool { return strings.Contains(far.String(), "DHCP, IP range") })
	h := newHost(t, l, hostOptions{parallel: true, bare: true})
	r, news := runDHCP(t, h, dhcp.RunOptions{})
	lease, err := r.Wait(within(t, 2*patience))
	if err != nil {
		t.Fatal(err)
	}
	if last := lease.Addr.Addr().As4()[3]; (last >= 90) != (lease.Server == netip.MustParseAddr("10.77.0.2")) {
		t.Errorf("%v of %v", lease.Addr, lease.Server)
	}
	if got := <-news; got != lease.Addr.Addr().String()+" true" {
		t.Error(got)
	}
	// The near one goes away for good. Whoever gave the lease, a search finds the
	// other.
	near.stop()
	if lease.Server == lab.Kernel4.Addr() {
		// An authoritative server refuses what it did not give.
		r.LinkUp()
	}
	eventually(t, 2*patience, "a lease of the other", func() bool {
		s := r.Status()
		return s.Bound && s.Lease.Server == netip.MustParseAddr("10.77.0.2")
	})
	if got := h.nic.Addrs(); slices.ContainsFunc(got, func(p netip.Prefix) bool { return p.Addr().Is4() && p != r.Status().Lease.Addr }) {
		t.Errorf("has %v", got)
	}
}

// apart starts a program in a network namespace of its own, of which the link
// far1, with the address a, leads to the lab's bridge.
func apart(t *testing.T, l *lab.Lab, a string, argv ...string) *daemonLog {
	t.Helper()
	program(t, argv[0])
	program(t, "unshare")
	log := new(daemonLog)
	// It waits for its link.
	cmd := exec.CommandContext(t.Context(), "unshare", append([]string{"-n", "sh", "-c",
		`echo waiting; read go; ip addr add "$0" dev far1; ip link set far1 up; exec "$@"`, a}, argv...)...)
	cmd.Stdout, cmd.Stderr = log, log
	in, err := cmd.StdinPipe()
	if err == nil {
		err = l.Start(cmd)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		_ = cmd.Wait() // killed
		if t.Failed() {
			t.Logf("%s:\n%s", argv[0], log)
		}
	})
	eventually(t, patience, "the namespace is there", func() bool { return strings.Contains(log.String(), "waiting") })
	inLab(t, l, func() error {
		br, err := netlink.LinkByName(lab.Bridge)
		if err != nil {
			return err
		}
		pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "far0", MasterIndex: br.Attrs().Index}, PeerName: "far1",
			PeerHardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 0xfa}}
		if err := netlink.LinkAdd(pair); err != nil {
			return err
		}
		peer, err := netlink.LinkByName("far1")
		if err == nil {
			err = netlink.LinkSetNsPid(peer, cmd.Process.Pid)
		}
		if err == nil {
			err = netlink.LinkSetUp(pair)
		}
		return err
	})
	if _, err := io.WriteString(in, "go\n"); err != nil {
		t.Fatal(err)
	}
	return log
}

// TestLinkLocalLive: without any server the host has a link-local address in the
// end, says so, and can be reached by it.
func TestLinkLocalLive(t *testing.T) {
	if testing.Short() {
		t.Skip("servers have 12 s to answer")
	}
	t.Parallel()
	l := newLab(t)
	var h *attach.Host
	inLab(t, l, func() (err error) {
		o := attach.Options{TAP: l.Devices[0], DHCP: true}
		h, err = o.Open(t.Context())
		return err
	})
	t.Cleanup(func() { h.Close() })
	a := h.DHCP.Status().LinkLocal
	if !a.IsValid() || len(h.Notes) == 0 || !strings.Contains(h.Notes[0], "still asking") || !strings.Contains(h.ReadyLine(), a.String()) {
		t.Fatalf("%v %q %q", a, h.Notes, h.ReadyLine())
	}
	ln, err := h.Net.(*socket.Network).Listen("tcp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	addKernelAddr(t, l, lab.Bridge, netip.MustParsePrefix("169.254.1.1/16"))
	c, err := l.DialKernel(within(t, patience), "tcp", addr(a.Addr(), 7))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// TestCarrier: a cable that was pulled out and put in again has the lease
// verified, and connections live on.
func TestCarrier(t *testing.T) {
	t.Parallel()
	lab.RequireNamespace(t)
	l := newLabOf(t, "packet")
	s := newServer(t, l, "dnsmasq")
	s.start(50)
	var h *attach.Host
	inLab(t, l, func() (err error) {
		o := attach.Options{Dev: "packet:" + l.Devices[0], DHCP: true, MAC: ourMAC.String()}
		h, err = o.Open(t.Context())
		return err
	})
	t.Cleanup(func() { h.Close() })
	port := func(f func(netlink.Link) error) {
		inLab(t, l, func() error {
			link, err := netlink.LinkByName(l.Ports[0])
			if err == nil {
				err = f(link)
			}
			return err
		})
	}
	// A busy machine may have asked twice for the first offer.
	discovered := strings.Count(s.log.String(), "DHCPDISCOVER(")
	requests := func() int { return strings.Count(s.log.String(), "DHCPREQUEST(") }
	before := requests()
	port(netlink.LinkSetDown)
	// The kernel tells of flaps only that are longer than a moment.
	eventually(t, patience, "our end has no carrier", func() (off bool) {
		inLab(t, l, func() error {
			link, err := netlink.LinkByName(l.Devices[0])
			off = err == nil && link.Attrs().OperState != netlink.OperUp
			return err
		})
		return off
	})
	port(netlink.LinkSetUp)
	eventually(t, 2*patience, "the lease is verified", func() bool { return requests() > before })
	eventually(t, 2*patience, "the lease goes on", func() bool { return h.DHCP.Status().State == dhcp.Bound })
	if a := h.DHCP.Status().Lease.Addr; a != h.Lease.Addr || strings.Count(s.log.String(), "DHCPDISCOVER(") != discovered {
		t.Errorf("has %v, had %v", a, h.Lease.Addr)
	}
}
