package interop

// VLANs through the kernel's bridge: between two stacks, with super-frames and
// without, and with scapy, which makes and reads tags by another hand than ours.

import (
	"io"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/tap"
	"github.com/tapstack/tapstack/ether/vlan"
	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
)

// inVLAN is a host in a VLAN of a TAP.
func inVLAN(t *testing.T, l *lab.Lab, n int, id uint16, o tap.Offload, addr string) (*socket.Network, *vlan.Device) {
	t.Helper()
	var dev ether.Device
	inLab(t, l, func() (err error) {
		dev, err = tap.Open(tap.Options{Name: l.Devices[n], Existing: true, Offload: o})
		return err
	})
	d, err := vlan.New(dev).Open(id, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := stack.New(stack.Config{})
	t.Cleanup(func() { s.Close() })
	nic, err := s.AddInterface(stack.InterfaceConfig{Name: "v", Device: d, MAC: ether.Addr(lab.HostMAC(n))})
	if err != nil {
		t.Fatal(err)
	}
	if err := nic.AddAddr(netip.MustParsePrefix(addr)); err != nil {
		t.Fatal(err)
	}
	return socket.Net(s), d
}

func TestVLAN(t *testing.T) {
	lab.Require(t)
	for _, o := range []tap.Offload{tap.OffloadOff, tap.OffloadRequire} {
		t.Run(o.String(), func(t *testing.T) {
			l, err := lab.NewWith(lab.Options{Hosts: 2, Device: "tap"})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			a, ad := inVLAN(t, l, 0, 10, o, "10.80.0.1/24")
			b, _ := inVLAN(t, l, 1, 10, o, "10.80.0.2/24")
			ln, err := b.Listen("tcp", ":7")
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				c, err := ln.Accept()
				if err == nil {
					io.Copy(c, c)
					c.Close()
				}
			}()
			c, err := a.DialContext(within(t, patience), "tcp", "10.80.0.2:7")
			if err != nil {
				t.Fatal(err)
			}
			c.SetDeadline(time.Now().Add(endurance))
			echo(t, c, 20<<20)
			c.Close()
			if m := a.Stack().Counters(); m["ether.drop.device"] != 0 || m["tcp.drop.bad-checksum"] != 0 {
				t.Errorf("%v", m)
			}
			// The kernel is in no VLAN: it neither hears us nor is heard.
			if st := ad.Trunk().Stats(); st.Double+st.Foreign+st.Short != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// scapyVLAN asks for the stack's address and pings it with a tag and with
// others, from the bridge, and prints who answers.
const scapyVLAN = `
from scapy.all import *
conf.verb = 0
def ask(tags, what):
    f = Ether(src="02:00:00:00:00:01", dst="ff:ff:ff:ff:ff:ff" if ARP in what else "02:00:00:00:00:07")
    for v in tags:
        f = f / Dot1Q(vlan=v, prio=3)
    a = srp1(f / what, iface="br0", timeout=20 if tags == [10] else 0.3)
    if a is None:
        return "silent"
    return "%s %s" % (a[Dot1Q].vlan if Dot1Q in a else "untagged", a.lastlayer().name if ARP not in a else "ARP " + a[ARP].hwsrc)
arp = ARP(psrc="10.80.0.9", pdst="10.80.0.1", hwsrc="02:00:00:00:00:01")
for tags in [[10], [11], [], [0], [10, 10]]:
    print(tags, ask(tags, arp))
a = srp1(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:07")/Dot1Q(vlan=10)/IP(src="10.80.0.9", dst="10.80.0.1")/ICMP()/b"some text", iface="br0", timeout=20)
print("ping", a is not None and a[Dot1Q].vlan == 10 and a[ICMP].type == 0 and bytes(a[Raw].load).startswith(b"some text"))
`

func TestVLANScapy(t *testing.T) {
	l := newLab(t)
	if err := exec.Command("/usr/bin/python3", "-c", "import scapy").Run(); err != nil {
		lab.Lacks(t, err)
	}
	_, d := inVLAN(t, l, 0, 10, tap.OffloadRequire, "10.80.0.1/24")
	out := run(t, within(t, 3*patience), l, "/usr/bin/python3", "-c", scapyVLAN)
	want := []string{"[10] 10 ARP 02:00:00:00:00:07", "[11] silent", "[] silent", "[0] silent", "[10, 10] silent", "ping True"}
	for _, w := range want {
		if !strings.Contains(out, w+"\n") {
			t.Errorf("no %q in:\n%s", w, out)
		}
	}
	if st := d.Trunk().Stats(); st.Foreign == 0 || st.Untagged == 0 || st.Double == 0 {
		t.Errorf("%+v", st)
	}
}

// TestVLANKernel: the kernel's own sub-interface, where it has such.
func TestVLANKernel(t *testing.T) {
	l := newLab(t)
	ctx := within(t, patience)
	if out, err := l.Output(ctx, "ip", "link", "add", "link", lab.Bridge, "name", "br0.10", "type", "vlan", "id", "10"); err != nil {
		t.Skipf("this kernel has no VLANs (CONFIG_VLAN_8021Q): %s", strings.TrimSpace(string(out)))
	}
	run(t, ctx, l, "ip", "addr", "add", "10.80.0.9/24", "dev", "br0.10")
	run(t, ctx, l, "ip", "link", "set", "br0.10", "up")
	inVLAN(t, l, 0, 10, tap.OffloadRequire, "10.80.0.1/24")
	run(t, ctx, l, "ping", "-c", "2", "-i", "0.2", "-s", "4000", "10.80.0.1")
}
