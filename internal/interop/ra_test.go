package interop

// Routers of others: radvd in namespaces of its own, once beside a kernel host
// that hears the same advertisements, and two that die and come back. And who
// has an address: duplicate address detection between us and the kernel.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
)

// advertiser is a radvd.
type advertiser struct {
	t    *testing.T
	l    *lab.Lab
	dir  string
	link string
	cmd  *exec.Cmd
	log  *daemonLog
}

func newAdvertiser(t *testing.T, l *lab.Lab, link string) *advertiser {
	t.Helper()
	program(t, "radvd")
	sysctl(t, l, "ipv6/conf/all/forwarding", "1") // radvd advertises no router that does not route
	a := &advertiser{t: t, l: l, dir: t.TempDir(), link: link}
	t.Cleanup(func() { a.stop(os.Kill) })
	return a
}

// start runs it with options of its interface.
func (a *advertiser) start(options string) {
	a.t.Helper()
	conf := filepath.Join(a.dir, "radvd.conf")
	text := fmt.Sprintf("interface %s {\n\tAdvSendAdvert on;\n\tMinRtrAdvInterval 3;\n\tMaxRtrAdvInterval 4;\n%s};\n", a.link, options)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		a.t.Fatal(err)
	}
	a.log = new(daemonLog)
	a.cmd = exec.CommandContext(a.t.Context(), program(a.t, "radvd"), "-n", "-m", "stderr", "-d", "1", "-C", conf, "-p", filepath.Join(a.dir, "pid"))
	a.cmd.Stdout, a.cmd.Stderr = a.log, a.log
	if err := a.l.Start(a.cmd); err != nil {
		a.t.Fatal(err)
	}
}

// stop ends it: with SIGTERM it says that it is no router any more, killed it
// says nothing.
func (a *advertiser) stop(sig os.Signal) {
	if a.cmd == nil {
		return
	}
	if sig == syscall.SIGTERM {
		// Its first advertisements go out before it listens to signals.
		eventually(a.t, patience, "radvd in its loop", func() bool { return strings.Contains(a.log.String(), "polling for") })
	}
	_ = a.cmd.Process.Signal(sig)
	_ = a.cmd.Wait() // by a signal
	if a.cmd = nil; a.t.Failed() {
		a.t.Logf("radvd:\n%s", a.log)
	}
}

// newOnBridge makes a namespace whose device "far" is on the lab's bridge.
func newOnBridge(t *testing.T, l *lab.Lab, name string) *lab.Lab {
	t.Helper()
	far := newFar(t, l)
	ip(t, l, "link set near down")
	ip(t, l, "link set near name "+name)
	ip(t, l, "link set "+name+" master "+lab.Bridge+" up")
	return far
}

// kernelConfig is what a kernel has made of the advertisements.
func kernelConfig(t *testing.T, l *lab.Lab) (config []string) {
	t.Helper()
	var links []struct {
		AddrInfo []struct {
			Local      netip.Addr
			PrefixLen  int
			Scope      string
			Deprecated bool
			Valid      uint32 `json:"valid_life_time"`
			Preferred  uint32 `json:"preferred_life_time"`
		} `json:"addr_info"`
	}
	if err := json.Unmarshal([]byte(run(t, within(t, patience), l, "ip", "-6", "-j", "address", "show", "dev", "far")), &links); err != nil {
		t.Fatal(err)
	}
	for _, a := range links[0].AddrInfo {
		if a.Scope == "global" {
			config = append(config, addressLine(netip.PrefixFrom(a.Local, a.PrefixLen).Masked(), a.Preferred == 0, time.Duration(a.Valid)*time.Second))
		}
	}
	var routes []struct{ Dst, Gateway, Pref, Protocol string }
	if err := json.Unmarshal([]byte(run(t, within(t, patience), l, "ip", "-6", "-j", "route", "show", "dev", "far")), &routes); err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		if r.Dst == "default" {
			r.Dst = "::/0"
		}
		if p, err := netip.ParsePrefix(r.Dst); err == nil && (r.Protocol == "ra" || r.Protocol == "kernel") && !p.Addr().IsLinkLocalUnicast() && !p.Addr().IsMulticast() {
			config = append(config, routeLine(p, r.Gateway))
		}
	}
	for _, name := range []string{"mtu", "hop_limit"} {
		inLab(t, l, func() error {
			b, err := os.ReadFile("/proc/sys/net/ipv6/conf/far/" + name)
			config = append(config, name+" "+strings.TrimSpace(string(b)))
			return err
		})
	}
	slices.Sort(config)
	return config
}

// addressLine is an address of a prefix; lifetimes are those that the tests tell
// apart.
func addressLine(p netip.Prefix, deprecated bool, valid time.Duration) string {
	life := "long"
	if valid <= 2*time.Hour {
		life = "two hours"
	}
	return fmt.Sprintf("address in %v deprecated %v valid %s", p, deprecated, life)
}

func routeLine(p netip.Prefix, gateway string) string {
	if gateway == "" {
		return fmt.Sprintf("%v on the link", p)
	}
	return fmt.Sprintf("%v by %s", p, gateway)
}

// config is what the stack has made of them.
func (h *host) config() (config []string) {
	now := mono.Now()
	for _, a := range h.stack.Addrs().List() {
		if a.Origin == stack.OriginRouter && a.Prefix.Addr().Is6() {
			valid := 1000 * time.Hour
			if a.Valid != 0 {
				valid = a.Valid.Sub(now)
			}
			config = append(config, addressLine(a.Prefix.Masked(), a.Deprecated, valid))
		}
	}
	for _, r := range h.stack.Routes().List() {
		if r.Origin == stack.OriginRouter {
			gateway := ""
			if r.Gateway.IsValid() {
				gateway = r.Gateway.String()
			}
			config = append(config, routeLine(r.Dst, gateway))
		}
	}
	mtu, hops := h.nic.Link6()
	config = append(config, fmt.Sprintf("mtu %d", mtu), fmt.Sprintf("hop_limit %d", hops))
	slices.Sort(config)
	return config
}

const (
	fullAdvert = `	AdvLinkMTU 1400;
	AdvCurHopLimit 33;
	prefix fd81::/64 { AdvOnLink on; AdvAutonomous on; AdvValidLifetime 86400; AdvPreferredLifetime 43200; };
	prefix fd82::/64 { AdvOnLink off; AdvAutonomous on; AdvValidLifetime 86400; AdvPreferredLifetime 43200; };
	prefix fd83::/64 { AdvOnLink on; AdvAutonomous off; AdvValidLifetime 86400; AdvPreferredLifetime 43200; };
	route fd84::/48 { AdvRoutePreference high; AdvRouteLifetime 3600; };
	RDNSS fd81::53 { AdvRDNSSLifetime 600; };
	DNSSL lab.example { AdvDNSSLLifetime 600; };
`
	// What is over: nothing is preferred, nothing on the link, no route.
	cutAdvert = `	AdvCurHopLimit 64;
	AdvDefaultLifetime 0;
	prefix fd81::/64 { AdvOnLink on; AdvAutonomous on; AdvValidLifetime 0; AdvPreferredLifetime 0; };
	prefix fd82::/64 { AdvOnLink off; AdvAutonomous on; AdvValidLifetime 0; AdvPreferredLifetime 0; };
	prefix fd83::/64 { AdvOnLink on; AdvAutonomous off; AdvValidLifetime 0; AdvPreferredLifetime 0; };
	route fd84::/48 { AdvRoutePreference high; AdvRouteLifetime 0; };
	RDNSS fd81::53 { AdvRDNSSLifetime 0; };
	DNSSL lab.example { AdvDNSSLLifetime 0; };
`
)

// TestAdvertisedLikeKernel: a stack and a kernel make the same of the same
// advertisements; then radvd says that all of it is over.
func TestAdvertisedLikeKernel(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	beside := newOnBridge(t, l, "near1")
	ip(t, beside, "link set far addrgenmode eui64")
	sysctl(t, beside, "ipv6/conf/far/accept_ra_rt_info_max_plen", "128")
	a := newAdvertiser(t, l, lab.Bridge)
	a.start(fullAdvert)
	h := newHost(t, l, hostOptions{parallel: true, bare: true, nic: stack.InterfaceConfig{SLAAC: true, IID: ipv6.IIDEUI64}})
	same := func(what string, done func([]string) bool) {
		t.Helper()
		var ours, kernels []string
		for end := time.Now().Add(4 * patience); ; time.Sleep(pause) {
			ours, kernels = h.config(), kernelConfig(t, beside)
			if slices.Equal(ours, kernels) && done(ours) {
				t.Logf("%s:\n%s", what, strings.Join(ours, "\n"))
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s:\nstack\n  %s\nkernel\n  %s", what, strings.Join(ours, "\n  "), strings.Join(kernels, "\n  "))
			}
		}
	}
	has := func(list []string, part string) bool {
		return slices.ContainsFunc(list, func(s string) bool { return strings.Contains(s, part) })
	}
	same("at first", func(c []string) bool {
		return has(c, "address in fd81::/64 deprecated false") && has(c, "address in fd82::/64") && has(c, "fd83::/64 on the link") && has(c, "::/0 by") && has(c, "fd84::/48 by") && has(c, "mtu 1400")
	})
	if servers, search := h.nic.NameServers(); !slices.Equal(servers, []netip.Addr{netip.MustParseAddr("fd81::53")}) || !slices.Equal(search, []string{"lab.example"}) {
		t.Errorf("name servers %v, domains %q", servers, search)
	}
	// ndisc6 asks us, rdisc6 hears the router, which we are not.
	own := ipv6.WithIID(netip.MustParsePrefix("fd81::/64"), ether.EUI64(ourMAC))
	if err := h.nic.WaitUsable(within(t, patience), own); err != nil {
		t.Fatal(err)
	}
	ip(t, l, "address add fd81::1/64 dev "+lab.Bridge+" nodad")
	if out := run(t, within(t, patience), l, "ndisc6", "-1", own.String(), lab.Bridge); !strings.Contains(strings.ToLower(out), strings.ToLower(ourMAC.String())) {
		t.Errorf("ndisc6:\n%s", out)
	}
	out := run(t, within(t, patience), beside, "rdisc6", "far")
	if !strings.Contains(out, "fd81::/64") || strings.Contains(out, ipv6.LinkLocal(ourMAC).String()) || !strings.Contains(out, "from "+lab.KernelLL.Addr().String()) {
		t.Errorf("rdisc6:\n%s", out)
	}
	// tracert6 finds us one hop away.
	h.expect("the ports that tracert6 asks", "udp.drop.no-socket")
	if out := run(t, within(t, patience), l, "tracert6", "-n", "-q", "1", "-m", "3", own.String()); !strings.Contains(out, " 1  "+own.String()) {
		t.Errorf("tracert6:\n%s", out)
	}

	a.stop(syscall.SIGKILL)
	a.start(cutAdvert)
	same("afterwards", func(c []string) bool {
		return has(c, "address in fd81::/64 deprecated true valid two hours") && !has(c, "fd83") && !has(c, "fd84") && !has(c, "::/0")
	})
	eventually(t, patience, "no name servers", func() bool { s, d := h.nic.NameServers(); return len(s)+len(d) == 0 })
}

// TestTwoRouters: the preferred of two routers dies without a word, comes back,
// and then says that it is none any more: a connection goes on all the time.
func TestTwoRouters(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	addKernelAddr(t, l, "lo", far6)
	var routers [2]*lab.Lab
	var radvd [2]*advertiser
	var ll [2]netip.Addr
	options := [2]string{"\tAdvDefaultPreference high;\n\tAdvDefaultLifetime 600;\n\tprefix fd77::/64 { };\n", "\tAdvDefaultPreference low;\n\tAdvDefaultLifetime 600;\n\tprefix fd77::/64 { };\n"}
	for i := range routers {
		r := newOnBridge(t, l, fmt.Sprint("near", i+1))
		sysctl(t, r, "ipv6/conf/all/forwarding", "1")
		mac := ether.Addr{2, 0, 0, 0, 1, byte(i + 1)}
		ip(t, r, "link set far down")
		ip(t, r, "link set far address "+mac.String())
		ip(t, r, "link set far addrgenmode eui64")
		ip(t, r, "link set far up")
		ip(t, r, "address add fd77::"+fmt.Sprint(20+i)+"/64 dev far nodad")
		ip(t, r, "route add "+far6.String()+" via fd77::1 dev far")
		routers[i], ll[i] = r, ipv6.LinkLocal(mac)
		radvd[i] = newAdvertiser(t, r, "far")
		eventually(t, patience, "a link-local address", func() bool {
			out, _ := r.Output(t.Context(), "ip", "-6", "address", "show", "dev", "far", "scope", "link")
			return strings.Contains(string(out), ll[i].String()) && !strings.Contains(string(out), "tentative")
		})
		radvd[i].start(options[i])
	}
	h := newHost(t, l, hostOptions{parallel: true, bare: true, nic: stack.InterfaceConfig{SLAAC: true, NoRedirects: true, IID: ipv6.IIDEUI64}})
	h.expect("the routers know a shorter way, which is not to be taken here", "icmp.drop.redirect")
	h.expect("while no router is there", "ipv6.drop.no-route")
	h.serveKernel()
	by := func(i int) func() bool {
		return func() bool {
			w, err := h.stack.Routes().Get(far6.Addr(), netip.Addr{}, nil)
			return err == nil && w.NextHop == ll[i] && w.Source.IsValid()
		}
	}
	eventually(t, 4*patience, "both routers", func() bool { return hasDefault(h.stack, ll[0]) && hasDefault(h.stack, ll[1]) })
	eventually(t, 2*patience, "an address by the preferred router", by(0))
	// Only half the time that the routers say they are there for.
	c := dial(t, h.ourSide(), "tcp", addr(far6.Addr(), 7), 5*time.Minute)
	echo := func(what string) {
		t.Helper()
		began := time.Now()
		b := make([]byte, 1000)
		if _, err := c.Write(b); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		for n := 0; n < len(b); {
			m, err := c.Read(b)
			if n += m; err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
		t.Logf("%s: after %v", what, time.Since(began))
	}
	echo("both are there")
	radvd[0].stop(os.Kill)
	ip(t, l, "link set near1 down")
	// Doubt comes with the second retransmission; three probes take 3 s.
	echo("the first has died")
	if !by(1)() {
		t.Error("not by the second router")
	}
	ip(t, l, "link set near1 up")
	radvd[0].start(options[0] + "\tAdvOtherConfigFlag on;\n") // by which we know it heard again
	eventually(t, 4*patience, "the first again", func() bool {
		return by(0)() && slices.ContainsFunc(h.nic.Advertised().Routers, func(a ipv6.Advertiser) bool { return a.Router == ll[0] && a.Flags&ipv6.RAOther != 0 })
	})
	echo("the first is back")
	radvd[0].stop(syscall.SIGTERM)
	eventually(t, patience, "a router less", func() bool { return !hasDefault(h.stack, ll[0]) })
	echo("the first is no router any more")
	// The other says so by its advertisements (RFC 4861 §7.2.5), when asked
	// whether it is there: soon, when it is known from an advertisement only, and
	// the last acknowledgement has left before.
	advert := func() {
		heard := h.count("nd.router-advert")
		eventually(t, 4*patience, "an advertisement", func() bool { return h.count("nd.router-advert") > heard })
	}
	advert()
	h.stack.Neighbours().Flush(h.nic)
	advert()
	radvd[1].stop(os.Kill)
	sysctl(t, routers[1], "ipv6/conf/all/forwarding", "0")
	sysctl(t, routers[1], "ipv6/conf/far/forwarding", "0")
	run(t, within(t, patience), routers[1], "ndisc6", "-1", ipv6.WithIID(netip.MustParsePrefix("fd77::/64"), ether.EUI64(ourMAC)).String(), "far")
	eventually(t, 10*patience, "no router at all", func() bool {
		// Packets to it make it be asked.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if u, err := h.net.DialContext(ctx, "udp", addr(far6.Addr(), 7)); err == nil {
			u.Write([]byte("x"))
			u.Close()
		}
		return !hasDefault(h.stack, ll[1])
	})
}

// TestDADWithKernel: who had an address first keeps it; of opaque ones another
// is made.
func TestDADWithKernel(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	beside := newOnBridge(t, l, "near1")
	secret := [16]byte{1, 2, 3}
	iid := ipv6.IIDConfig{Mode: ipv6.IIDOpaque, MAC: ourMAC, Name: l.Devices[0], Secret: secret}
	prefix := netip.MustParsePrefix("fd81::/64")
	first, second := ipv6.WithIID(prefix, iid.Stable(prefix, 0)), ipv6.WithIID(prefix, iid.Stable(prefix, 1))
	ip(t, beside, "address add "+first.String()+"/64 dev far nodad")
	ip(t, beside, "address add fd77::66/64 dev far nodad")
	a := newAdvertiser(t, l, lab.Bridge)
	a.start("\tprefix fd81::/64 { };\n")
	h := newHost(t, l, hostOptions{parallel: true, bare: true, nic: stack.InterfaceConfig{SLAAC: true, IIDSecret: secret}})
	got, err := h.nic.WaitAddr(within(t, 4*patience), func(p netip.Prefix) bool { return prefix.Contains(p.Addr()) })
	if err != nil {
		t.Fatal(err)
	}
	if got.Addr() != second || h.count("nd.duplicate") != 1 {
		t.Errorf("has %v, with %d duplicates; the kernel %v; the next is %v", got, h.count("nd.duplicate"), first, second)
	}
	if err := h.nic.Ready(within(t, patience)); err != nil {
		t.Errorf("an address that was replaced is reported: %v", err)
	}
	// We have it, the kernel wants it.
	ip(t, beside, "address add "+second.String()+"/64 dev far")
	eventually(t, patience, "the kernel notices", func() bool {
		for line := range strings.Lines(run(t, within(t, patience), beside, "ip", "-6", "address", "show", "dev", "far")) {
			if strings.Contains(line, second.String()+"/64") && strings.Contains(line, "dadfailed") {
				return true
			}
		}
		return false
	})
	// The kernel has it, we want it.
	if err := h.nic.AddAddr(netip.MustParsePrefix("fd77::66/64")); err != nil {
		t.Fatal(err)
	}
	if err := h.nic.Ready(within(t, patience)); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("the kernel's address: %v", err)
	}
}

// TestUpWithSLAAC: what a user sees with the flags of autoconfiguration.
func TestUpWithSLAAC(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	a := newAdvertiser(t, l, lab.Bridge)
	a.start(fullAdvert)
	for _, c := range []struct {
		o               attach.Options
		eui, temp, prim bool
		mtu             int
	}{
		{attach.Options{}, false, false, false, 1400},
		{attach.Options{IID: "eui64", TempAddrs: "prefer", Optimistic: true}, true, true, true, 1400},
		{attach.Options{IID: "eui64", TempAddrs: "usable", IgnoreRA: []string{"mtu", "dns"}}, true, true, false, 1500},
	} {
		o := c.o
		o.TAP, o.SLAAC, o.MAC = l.Devices[0], true, ourMAC.String()
		var h *attach.Host
		inLab(t, l, func() (err error) {
			h, err = o.Open(within(t, 4*patience))
			return err
		})
		func() {
			defer h.Close()
			if err := h.Interface.Ready(within(t, patience)); err != nil {
				t.Fatal(err)
			}
			var eui, temp bool
			for _, x := range h.Stack.Addrs().List() {
				if x.Origin == stack.OriginRouter {
					b := x.Prefix.Addr().As16()
					eui = eui || [8]byte(b[8:]) == ether.EUI64(ourMAC)
					temp = temp || x.Temporary
				}
			}
			s, ok := h.Stack.SourceFor(netip.MustParseAddr("2001:db8::1"))
			mtu, _ := h.Interface.Link6()
			if eui != c.eui || temp != c.temp || !ok || s.Temporary != c.prim || mtu != c.mtu {
				t.Errorf("%+v: %v, source %+v, MTU %d", c.o, h.Stack.Addrs().List(), s, mtu)
			}
			if servers, _ := h.Interface.NameServers(); (len(servers) == 1) != (len(c.o.IgnoreRA) == 0) {
				t.Errorf("%+v: name servers %v", c.o, servers)
			}
		}()
	}
}

// TestDnsmasqAdvertises: another program's advertisements, which has the router
// as name server and its M and O flags set.
func TestDnsmasqAdvertises(t *testing.T) {
	t.Parallel()
	program(t, "dnsmasq")
	l := newLab(t)
	daemon(t, l, "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--interface="+lab.Bridge, "--bind-interfaces", "--no-resolv", "--no-hosts", "--dhcp-option=option6:domain-search,lab.example",
		"--enable-ra", "--ra-param="+lab.Bridge+",mtu:1400,low,4,600", "--dhcp-range=::50,::60,constructor:"+lab.Bridge+",slaac,64,2h", "--dhcp-leasefile="+filepath.Join(t.TempDir(), "leases"), "--user=root", "--group=")
	h := newHost(t, l, hostOptions{parallel: true, bare: true, nic: stack.InterfaceConfig{SLAAC: true, IID: ipv6.IIDEUI64}})
	own := ipv6.WithIID(lab.Kernel6, ether.EUI64(ourMAC))
	p, err := h.nic.WaitAddr(within(t, 4*patience), func(p netip.Prefix) bool { return p.Addr() == own })
	if err != nil {
		t.Fatalf("%v %v", err, h.nic.Addrs())
	}
	if mtu, _ := h.nic.Link6(); mtu != 1400 || !hasDefault(h.stack, lab.KernelLL.Addr()) {
		t.Errorf("MTU %d, routes %v", mtu, h.stack.Routes().List())
	}
	servers, search := h.nic.NameServers()
	if a := h.nic.Advertised(); !a.Managed || !a.Other || len(servers) != 1 || !slices.Equal(search, []string{"lab.example"}) {
		t.Errorf("%+v, name servers %v, domains %q", a, servers, search)
	}
	h.ping(t, p.Addr().String(), "-6", 56, 1)
}
