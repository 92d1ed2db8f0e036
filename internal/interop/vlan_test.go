package interop

// VLANs through the kernel's bridge: between two stacks, with super-frames and
// without, and with scapy, which makes and reads tags by another hand than ours.

import (
	"io"
	"net"
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

// intoVLAN makes an interface of the kernel's a member of a VLAN.
func intoVLAN(t *testing.T, l *lab.Lab, name string, id uint16, priority uint8) {
	t.Helper()
	if err := l.IntoVLAN(name, id, priority); err != nil {
		lab.Lacks(t, err)
	}
}

// TestVLANKernel: the kernel in a VLAN, by a sub-interface of its own where it
// has such, and by its traffic control in any case. Ping both ways, datagrams in
// fragments, and TCP with super-frames and without.
func TestVLANKernel(t *testing.T) {
	t.Run("sub-interface", func(t *testing.T) {
		l := newLab(t)
		ctx := within(t, patience)
		dev := "br0.10"
		if _, err := l.Output(ctx, "ip", "link", "add", "link", lab.Bridge, "name", dev, "type", "vlan", "id", "10"); err != nil {
			dev = lab.Bridge // CONFIG_VLAN_8021Q is not set
			intoVLAN(t, l, dev, 10, 0)
		}
		run(t, ctx, l, "ip", "addr", "add", "10.80.0.9/24", "dev", dev)
		run(t, ctx, l, "ip", "link", "set", dev, "up")
		inVLAN(t, l, 0, 10, tap.OffloadRequire, "10.80.0.1/24")
		run(t, ctx, l, "ping", "-c", "2", "-i", "0.2", "-s", "4000", "10.80.0.1")
	})
	for _, o := range []tap.Offload{tap.OffloadOff, tap.OffloadRequire} {
		t.Run(o.String(), func(t *testing.T) {
			l := newLab(t)
			ctx := within(t, 3*patience)
			intoVLAN(t, l, lab.Bridge, 10, 5)
			run(t, ctx, l, "ip", "addr", "add", "10.80.0.9/24", "dev", lab.Bridge)
			a, d := inVLAN(t, l, 0, 10, o, "10.80.0.1/24")
			run(t, ctx, l, "ping", "-c", "2", "-i", "0.2", "-s", "4000", "10.80.0.1")
			for _, v6 := range []bool{false, true} {
				to, from := "10.80.0.9:7", "10.80.0.1:7"
				if v6 {
					nic := a.Stack().InterfaceByIndex(2)
					if err := nic.AddAddr(netip.MustParsePrefix("fd80::1/64")); err != nil {
						t.Fatal(err)
					}
					run(t, ctx, l, "ip", "addr", "add", "fd80::9/64", "dev", lab.Bridge, "nodad")
					if err := nic.Ready(ctx); err != nil {
						t.Fatal(err)
					}
					to, from = "[fd80::9]:7", "[fd80::1]:7"
				}
				kernel, err := l.ListenKernel("tcp", to)
				if err != nil {
					t.Fatal(err)
				}
				ours, err := a.Listen("tcp", from)
				if err != nil {
					t.Fatal(err)
				}
				for _, ln := range []net.Listener{kernel, ours} {
					defer ln.Close()
					go func() {
						c, err := ln.Accept()
						if err == nil {
							io.Copy(c, c)
							c.Close()
						}
					}()
				}
				c, err := a.DialContext(ctx, "tcp", to)
				if err != nil {
					t.Fatal(err)
				}
				c.SetDeadline(time.Now().Add(3 * patience))
				echo(t, c, 8<<20)
				c.Close()
				if c, err = l.DialKernel(ctx, "tcp", from); err != nil {
					t.Fatal(err)
				}
				c.SetDeadline(time.Now().Add(3 * patience))
				echo(t, c, 8<<20)
				c.Close()
			}
			m, st := a.Stack().Counters(), d.Trunk().Stats()
			if m["tcp.drop.bad-checksum"] != 0 || st.Foreign+st.Untagged+st.Double+st.Short != 0 {
				t.Errorf("%v, %+v", m, st)
			}
		})
	}
	// In another VLAN nobody hears us.
	t.Run("another", func(t *testing.T) {
		l := newLab(t)
		ctx := within(t, patience)
		intoVLAN(t, l, lab.Bridge, 11, 0)
		run(t, ctx, l, "ip", "addr", "add", "10.80.0.9/24", "dev", lab.Bridge)
		_, d := inVLAN(t, l, 0, 10, tap.OffloadRequire, "10.80.0.1/24")
		if out, err := l.Output(ctx, "ping", "-c", "2", "-i", "0.2", "-W", "1", "10.80.0.1"); err == nil {
			t.Errorf("answers:\n%s", out)
		}
		if st := d.Trunk().Stats(); st.Foreign == 0 || st.Untagged != 0 {
			t.Errorf("%+v", st)
		}
	})
}
