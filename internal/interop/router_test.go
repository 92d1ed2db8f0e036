package interop

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// A second kernel: the lab's own is a router, and another one lies behind it or
// beside it.
var (
	beyond4 = netip.MustParsePrefix("10.78.0.2/24")
	beyond6 = netip.MustParsePrefix("fd78::2/64")
)

// sysctl sets /proc/sys/net/name in a lab.
func sysctl(t *testing.T, l *lab.Lab, name, value string) {
	t.Helper()
	inLab(t, l, func() error { return os.WriteFile("/proc/sys/net/"+name, []byte(value), 0) })
}

// ip runs ip in a lab.
func ip(t *testing.T, l *lab.Lab, args string) {
	t.Helper()
	run(t, within(t, patience), l, strings.Fields("ip "+args)...)
}

// newFar makes another kernel host and a link to it: device "near" in l, "far"
// there.
func newFar(t *testing.T, l *lab.Lab) *lab.Lab {
	t.Helper()
	far := newLab(t)
	ip(t, far, "link set "+lab.Bridge+" down")
	ip(t, far, "address flush dev "+lab.Bridge)
	inLab(t, l, func() error {
		v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "near"}, PeerName: "far"}
		if err := netlink.LinkAdd(v); err != nil {
			return err
		}
		peer, err := netlink.LinkByName("far")
		if err != nil {
			return err
		}
		var there netns.NsHandle
		far.Do(func() { there, err = netns.Get() })
		if err != nil {
			return err
		}
		defer there.Close()
		return netlink.LinkSetNsFd(peer, int(there))
	})
	ip(t, l, "link set near up")
	ip(t, far, "link set far up")
	return far
}

// newRouted makes a stack, a router, and a kernel behind it. Links carry 1500
// bytes, the router only passes 1280 on, in either direction.
func newRouted(t *testing.T, o hostOptions) (h *host, far *lab.Lab) {
	t.Helper()
	l := newLab(t)
	far = newFar(t, l)
	ip(t, l, "address add 10.78.0.1/24 dev near")
	ip(t, l, "address add fd78::1/64 dev near nodad")
	ip(t, far, "address add 10.78.0.2/24 dev far")
	ip(t, far, "address add fd78::2/64 dev far nodad")
	ip(t, far, "route add default via 10.78.0.1")
	ip(t, far, "route add default via fd78::1")
	sysctl(t, l, "ipv4/ip_forward", "1")
	sysctl(t, l, "ipv6/conf/all/forwarding", "1")
	ip(t, l, "route add 10.78.0.2 dev near mtu lock 1280")
	ip(t, l, "route add fd78::2 dev near mtu lock 1280")
	ip(t, l, "route add 10.77.0.7 dev br0 mtu lock 1280")
	ip(t, l, "route add fd77::7 dev br0 mtu lock 1280")
	o.nic.NoDAD = true
	h = newHost(t, l, o)
	for _, r := range []stack.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: lab.Kernel4.Addr()},
		{Dst: netip.MustParsePrefix("::/0"), Gateway: lab.Kernel6.Addr()}} {
		if err := h.stack.AddRoute(r); err != nil {
			t.Fatal(err)
		}
	}
	h.expect("what is under way when a connection is reset", "tcp.drop.no-connection", "tcp.drop.out-of-window", "tcp.drop.closed")
	h.expect("a router may tell of a packet that has been acknowledged since", "icmp.drop.no-socket")
	return h, far
}

// across moves n bytes each way between the stack and the far kernel.
func across(t *testing.T, h *host, far *lab.Lab, to netip.Addr, n int) tcp.Info {
	t.Helper()
	ln, err := far.ListenKernel("tcp", addr(to, 4444))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := h.net.DialContext(within(t, patience), "tcp", addr(to, 4444))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	k, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	begun := time.Now()
	move(t, c, k, n)
	out := time.Since(begun)
	move(t, k, c, n)
	t.Logf("%v: %v to the kernel, %v from it", to, out, time.Since(begun)-out)
	return c.(*socket.Conn).FD().Stream().Info()
}

// TestNarrowPath: a router passes on 1280 bytes and says so. TCP goes through at
// full size each way, UDP that may not be fragmented is told, and what may be is.
func TestNarrowPath(t *testing.T) {
	t.Parallel()
	h, far := newRouted(t, hostOptions{parallel: true})
	for _, fam := range []struct {
		to       netip.Addr
		overhead int
	}{{beyond4.Addr(), 52}, {beyond6.Addr(), 72}} {
		i := across(t, h, far, fam.to, 50<<20)
		if i.MSS+fam.overhead != 1280 || i.BlackHoles != 0 {
			t.Errorf("%v: segments of %d bytes, %d black holes", fam.to, i.MSS, i.BlackHoles)
		}
		if w, err := h.stack.Routes().Get(fam.to, netip.Addr{}, nil); err != nil || w.MTU != 1280 {
			t.Errorf("%v: %+v %v", fam.to, w, err)
		}
	}

	// Another address of the far host, of which nothing is known yet.
	ip(t, far, "address add 10.78.0.3/24 dev far")
	ip(t, h.lab, "route add 10.78.0.3 dev near mtu lock 1280")
	to := netip.MustParseAddrPort("10.78.0.3:9")
	u, err := h.stack.NewUDP(false)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	u.Set(stack.DatagramMTUDiscover, stack.PMTUDo)
	u.Set(stack.DatagramErrors, 1)
	if err := u.Connect(to); err != nil {
		t.Fatal(err)
	}
	if err := u.SendTo(make([]byte, 1400), netip.AddrPort{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "told of the path MTU", func() bool { n, _ := u.PathMTU(); return n == 1280 })
	if err := u.TakeError(); !errors.Is(err, syscall.EMSGSIZE) {
		t.Errorf("pending error %v", err)
	}
	var e stack.QueuedError
	if _, err := u.TakeQueuedError(make([]byte, 64), &e); err != nil || e.Errno != syscall.EMSGSIZE || e.Info != 1280 || e.Offender != lab.Kernel4.Addr() {
		t.Errorf("queued: %+v %v", e, err)
	}
	u.TakeError()
	if err := u.SendTo(make([]byte, 1253), netip.AddrPort{}); err != syscall.EMSGSIZE {
		t.Errorf("one byte too many: %v", err)
	}
	if err := u.SendTo(make([]byte, 1252), netip.AddrPort{}); err != nil {
		t.Errorf("what fits: %v", err)
	}
	k, err := far.ListenPacketKernel("udp", "10.78.0.3:9")
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	u.Set(stack.DatagramMTUDiscover, stack.PMTUWant)
	u.TakeError()
	if err := u.SendTo(make([]byte, 8000), netip.AddrPort{}); err != nil {
		t.Fatal(err)
	}
	k.SetReadDeadline(time.Now().Add(patience))
	for b := make([]byte, 9000); ; {
		n, _, err := k.ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		if n == 8000 {
			break
		}
	}
}

// TestPingThroughNarrowPath: ping and tracepath from behind the router find the
// path as they find it to a kernel.
func TestPingThroughNarrowPath(t *testing.T) {
	t.Parallel()
	h, far := newRouted(t, hostOptions{parallel: true})
	h.expect("tracepath asks ports that nobody has", "udp.drop.no-socket")
	for range 2 {
		out := run(t, within(t, 2*patience), far, "ping", "-n", "-q", "-c", "1", "-W", "30", "-s", "65507", "10.77.0.7")
		if !strings.Contains(out, " 1 received") {
			t.Errorf("65507 bytes:\n%s", out)
		}
	}
	o, err := far.Output(within(t, patience), "ping", "-n", "-c", "2", "-i", "0.2", "-W", "1", "-M", "do", "-s", "1400", "10.77.0.7")
	if err == nil || !strings.Contains(string(o), "1280") {
		t.Errorf("ping -M do -s 1400: %v\n%s", err, o)
	}
	out := run(t, within(t, 2*patience), far, "ping", "-n", "-q", "-c", "2", "-l", "2", "-i", "30", "-W", "30", "-M", "do", "-s", "1252", "10.77.0.7")
	if !strings.Contains(out, " 2 received") {
		t.Errorf("ping -M do -s 1252:\n%s", out)
	}
	program(t, "tracepath")
	for _, dst := range []string{"10.77.0.7", "fd77::7"} {
		out = run(t, within(t, 3*patience), far, "tracepath", "-n", dst)
		if !strings.Contains(out, "Resume: pmtu 1280 hops 2") {
			t.Errorf("tracepath %s:\n%s", dst, out)
		}
	}
}

// TestBlackHolePath: the same router keeps silent. Both ends find out by
// themselves (RFC 4821).
func TestBlackHolePath(t *testing.T) {
	t.Parallel()
	program(t, "nft")
	h, far := newRouted(t, hostOptions{parallel: true})
	file := t.TempDir() + "/silent.nft"
	if err := os.WriteFile(file, []byte(`table inet silent {
		chain out { type filter hook output priority 0; icmp type destination-unreachable drop; icmpv6 type packet-too-big drop; }
	}`), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, within(t, patience), h.lab, "nft", "-f", file)
	sysctl(t, far, "ipv4/tcp_mtu_probing", "1")
	for _, to := range []netip.Addr{beyond4.Addr(), beyond6.Addr()} {
		t.Run(to.String(), func(t *testing.T) {
			i := across(t, h, far, to, 50<<20)
			t.Logf("MSS %d, %d time-outs, %d probes", i.MSS, i.Timeouts, i.MTUProbes)
			// One, and others where the machine stood still for longer than the
			// time-outs.
			if i.MSS > 1280-52 || i.BlackHoles < 1 {
				t.Errorf("segments of %d bytes, %d black holes", i.MSS, i.BlackHoles)
			}
		})
	}
}

// TestRedirectByKernel: of two routers on the link the first sends us to the
// second.
func TestRedirectByKernel(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	far := newFar(t, l)
	ip(t, l, "link set near master "+lab.Bridge)
	ip(t, far, "address add 10.77.0.2/24 dev far")
	ip(t, far, "address add 10.99.0.1/32 dev lo")
	ip(t, l, "route add 10.99.0.0/24 via 10.77.0.2")
	sysctl(t, l, "ipv4/ip_forward", "1")
	sysctl(t, far, "ipv4/ip_forward", "1")
	h := newHost(t, l, hostOptions{parallel: true})
	if err := h.stack.AddRoute(stack.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: lab.Kernel4.Addr()}); err != nil {
		t.Fatal(err)
	}
	h.expect("the routers ask for each other", "arp.drop.not-ours")
	h.expect("a packet was under way when the first redirect came", "icmp.drop.redirect-refused")
	to := netip.MustParseAddr("10.99.0.1")
	k, err := far.ListenPacketKernel("udp", "10.99.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	u, err := h.stack.NewUDP(false)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	eventually(t, patience, "redirected", func() bool {
		if err := u.SendTo([]byte("x"), netip.AddrPortFrom(to, 9)); err != nil {
			t.Fatal(err)
		}
		w, err := h.stack.Routes().Get(to, netip.Addr{}, nil)
		return err == nil && w.NextHop == netip.MustParseAddr("10.77.0.2")
	})
	forwarded := func() string {
		var out []byte
		l.Do(func() { out, _ = os.ReadFile("/proc/thread-self/net/snmp") })
		return regexp.MustCompile(`Ip: \d+ \d+ \d+ \d+ \d+ (\d+)`).FindStringSubmatch(string(out))[1]
	}
	before := forwarded()
	k.SetReadDeadline(time.Now().Add(patience))
	if err := u.SendTo([]byte("directly"), netip.AddrPortFrom(to, 9)); err != nil {
		t.Fatal(err)
	}
	for b := make([]byte, 99); ; {
		n, _, err := k.ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		if string(b[:n]) == "directly" {
			break
		}
	}
	if after := forwarded(); after != before {
		t.Errorf("the first router has forwarded %s packets, and %s before", after, before)
	}
}

// TestPingOptions: ping -R and -T to the stack are answered as by a kernel, and
// the kernel answers ours.
func TestPingOptions(t *testing.T) {
	t.Parallel()
	program(t, "ping")
	l := newLab(t)
	h := newHost(t, l, hostOptions{parallel: true})
	// What the kernel shows of itself is what it is to show of us.
	for flag, want := range map[string]string{
		"-R": `RR: \t10\.77\.0\.1\n\t10\.77\.0\.7\n\t10\.77\.0\.7\n\t10\.77\.0\.1\n`,
		// Asked, received, answered, back: four times.
		"-Ttsonly":             `TS: \t(-?\d+ absolute( not-standard)?\n\t?)(-?\d+( not-standard)?\n\t?){3}`,
		"-Ttsandaddr":          `TS: \t10\.77\.0\.1\t-?\d+ absolute\n\t10\.77\.0\.7\t-?\d+\n\t10\.77\.0\.7\t-?\d+\n\t10\.77\.0\.1\t-?\d+\n`,
		"-Ttsprespec10.77.0.7": ``,
	} {
		args := []string{"ping", "-n", "-c", "1", "-W", "30"}
		switch {
		case flag == "-R":
			args = append(args, "-R", "10.77.0.7")
		case strings.HasPrefix(flag, "-Ttsprespec"):
			args = append(args, "-T", "tsprespec", "10.77.0.7", "10.77.0.7")
		default:
			args = append(args, "-T", flag[2:], "10.77.0.7")
		}
		out := run(t, within(t, 2*patience), l, args...)
		if !regexp.MustCompile(want).MatchString(out) || !strings.Contains(out, " 1 received") {
			t.Errorf("%v:\n%q", args, out)
		}
	}
	if t.Failed() {
		out, _ := l.Output(within(t, patience), "ping", "-n", "-c", "1", "-R", "127.0.0.1")
		t.Logf("to itself: %q", out)
	}

	// From us.
	d, err := h.stack.NewPing()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, opts := range [][]byte{append([]byte{7, 39, 4}, make([]byte, 36)...), append([]byte{68, 36, 5, 1}, make([]byte, 32)...)} {
		var set stack.HeaderOptions
		if err := set.SetIPOptions(opts); err != nil {
			t.Fatal(err)
		}
		d.SetHeaderOptions(set)
		b := make([]byte, 16)
		icmp.Put(b, icmp.TypeEcho4, 0, [4]byte{})
		if err := d.SendTo(b, netip.AddrPortFrom(lab.Kernel4.Addr(), 0)); err != nil {
			t.Fatal(err)
		}
		var a stack.Arrival
		eventually(t, patience, "an answer", func() bool { _, err := d.RecvMsg(b, false, &a); return err == nil })
		var hops []string
		for at := int(opts[2]) - 1; at+4 <= int(a.Options[2])-1; at += 4 {
			hops = append(hops, netip.AddrFrom4([4]byte(a.Options[at:])).String())
			if opts[0] == 68 {
				at += 4
			}
		}
		if got := fmt.Sprint(hops); got != "[10.77.0.7 10.77.0.1 10.77.0.1 10.77.0.7]" {
			t.Errorf("option %d: %v of %x", opts[0], got, a.Options)
		}
	}

	// Timestamp messages, as nping and hping3 send them.
	program(t, "hping3")
	var out []byte
	l.Do(func() {
		out, _ = exec.CommandContext(within(t, patience), "hping3", "--icmp-ts", "-c", "1", "10.77.0.7").CombinedOutput()
	})
	if !strings.Contains(string(out), "Originate=") {
		t.Errorf("hping3 --icmp-ts:\n%s", out)
	}
}
