package interop

// Whose word about a neighbour is believed: a stranger who claims to be the
// kernel beside a transfer with it, and stations that have really moved.

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/stack"
)

var evilMAC = ether.Addr{2, 0, 0, 0, 0x66, 0x66}

// scapySpoof says for as long as it lives that the kernel is elsewhere, in every
// form that there is.
const scapySpoof = `
from scapy.all import *
evil, us, every = "02:00:00:00:66:66", "02:00:00:00:00:07", "ff:ff:ff:ff:ff:ff"
k4, k6 = "10.77.0.1", "fd77::1"
frames = [
    Ether(src=evil, dst=every)/ARP(op=1, hwsrc=evil, psrc=k4, pdst=k4),
    Ether(src=evil, dst=every)/ARP(op=2, hwsrc=evil, psrc=k4, hwdst=every, pdst=k4),
    Ether(src=evil, dst=us)/ARP(op=2, hwsrc=evil, psrc=k4, hwdst=us, pdst="10.77.0.7"),
    Ether(src=evil, dst=us)/ARP(op=1, hwsrc=evil, psrc=k4, pdst="10.77.0.7"),
    Ether(src=evil, dst=every)/ARP(op=1, hwsrc=evil, psrc=k4, pdst="10.77.0.99"),
    Ether(src=evil, dst="33:33:00:00:00:01")/IPv6(src=k6, dst="ff02::1", hlim=255)/ICMPv6ND_NA(tgt=k6, R=0, S=0, O=1)/ICMPv6NDOptDstLLAddr(lladdr=evil),
    Ether(src=evil, dst=us)/IPv6(src=k6, dst="fd77::7", hlim=255)/ICMPv6ND_NA(tgt=k6, R=0, S=1, O=1)/ICMPv6NDOptDstLLAddr(lladdr=evil),
    Ether(src=evil, dst=us)/IPv6(src=k6, dst="fd77::7", hlim=255)/ICMPv6ND_NS(tgt="fd77::7")/ICMPv6NDOptSrcLLAddr(lladdr=evil),
]
s = conf.L2socket(iface="br0")
frames = [bytes(f) for f in frames]
while True:
    for f in frames:
        s.send(Raw(f))
        time.sleep(0.002)
`

// neighbourAt returns where the stack believes an address to be.
func (h *host) neighbourAt(a netip.Addr) ether.Addr {
	for _, n := range h.stack.Neighbours().List() {
		if n.Addr == a {
			return n.MAC
		}
	}
	return ether.Addr{}
}

// sayAndHear sends a message and wants it back.
func sayAndHear(c net.Conn, message []byte) error {
	if _, err := c.Write(message); err != nil {
		return err
	}
	got := make([]byte, len(message))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if !bytes.Equal(got, message) {
		return errors.New("other bytes came back")
	}
	return nil
}

// TestARPSpoof: beside a stranger who goes on claiming to be the kernel a
// connection with it goes on, since the kernel answers when it is asked. As
// Linux does it, the stranger is believed.
func TestARPSpoof(t *testing.T) {
	t.Parallel()
	for _, mode := range []struct {
		name string
		nic  stack.InterfaceConfig
		safe bool
	}{
		{"verified", stack.InterfaceConfig{NoDAD: true, VerifyND: true}, true},
		{"as Linux", stack.InterfaceConfig{NoDAD: true, ARP: stack.ARPConfig{Locktime: time.Second}}, false},
	} {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			if err := exec.Command("/usr/bin/python3", "-c", "import scapy").Run(); err != nil {
				lab.Lacks(t, err)
			}
			h := newHost(t, l, hostOptions{parallel: true, nic: mode.nic})
			h.anyDrop = true
			h.serveKernel()
			var conns []net.Conn
			message := chargenLines(100_000)
			for _, f := range families {
				c := dial(t, h.ourSide(), "tcp", addr(f.kernel.Addr(), 7), 12*patience)
				if err := sayAndHear(c, message); err != nil {
					t.Fatal(err)
				}
				conns = append(conns, c)
			}
			spoof := exec.Command("/usr/bin/python3", "-c", scapySpoof)
			spoof.Dir = t.TempDir()
			spoof.Env = []string{"HOME=" + spoof.Dir, "TMPDIR=" + spoof.Dir}
			if err := l.Start(spoof); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_ = spoof.Process.Kill()
				_ = spoof.Wait() // it was killed
			})
			if !mode.safe {
				for _, f := range families {
					eventually(t, 3*patience, "the stranger is believed to be "+f.kernel.Addr().String(), func() bool { return h.neighbourAt(f.kernel.Addr()) == evilMAC })
				}
				return
			}
			for n, f := range families {
				prefix := "neigh." + strings.ToLower(f.name) + "."
				eventually(t, 6*patience, f.name+": twice the kernel has answered for itself", func() bool {
					if err := sayAndHear(conns[n], message); err != nil {
						t.Fatalf("%s: %v; %v", f.name, err, h.stack.Counters())
					}
					return h.count(prefix+"refuted") >= 2
				})
				if refuted, contested, taken := h.count(prefix+"refuted"), h.count(prefix+"contested"), h.count(prefix+"taken-over"); taken >= refuted || contested <= refuted {
					t.Errorf("%s: %d claims, %d refuted, %d believed", f.name, contested, refuted, taken)
				}
			}
			if h.count("arp.drop.refuted-claim") < 2 {
				t.Error("refuted claims are not counted")
			}
		})
	}
}

// newStation makes another kernel host on the lab's bridge: its device is far,
// the bridge's port has the name given.
func newStation(t *testing.T, l *lab.Lab, port string, addrs ...string) *lab.Lab {
	t.Helper()
	far := newLab(t)
	ip(t, far, "link set "+lab.Bridge+" down")
	ip(t, far, "address flush dev "+lab.Bridge)
	inLab(t, l, func() error {
		v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: port}, PeerName: port + "x"}
		if err := netlink.LinkAdd(v); err != nil {
			return err
		}
		peer, err := netlink.LinkByName(port + "x")
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
	ip(t, l, "link set "+port+" master "+lab.Bridge+" up")
	ip(t, far, "link set "+port+"x name far")
	sysctl(t, far, "ipv4/conf/far/arp_notify", "1")
	sysctl(t, far, "ipv6/conf/far/ndisc_notify", "1")
	ip(t, far, "link set far up")
	for _, a := range addrs {
		giveAddress(t, far, a)
	}
	return far
}

func giveAddress(t *testing.T, far *lab.Lab, a string) {
	t.Helper()
	if strings.Contains(a, ":") {
		a += " nodad"
	}
	ip(t, far, "address add dev far "+a)
}

// echoFor answers datagrams in a kernel with its name.
func echoFor(t *testing.T, far *lab.Lab, name string) {
	t.Helper()
	c, err := far.ListenPacketKernel("udp", ":4444")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 100)
		for {
			_, from, err := c.ReadFrom(b)
			if err != nil {
				return // closed
			}
			// Where the answer cannot go, the next question follows.
			_, _ = c.WriteTo([]byte(name), from)
		}
	}()
	t.Cleanup(func() {
		c.Close()
		<-done
	})
}

// TestCardReplaced: a kernel changes its MAC address, and says so, under an open
// connection, which goes on.
func TestCardReplaced(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	far := newStation(t, l, "one", "10.77.0.30/24", "fd77::30/64")
	h := newHost(t, l, hostOptions{parallel: true, nic: stack.InterfaceConfig{NoDAD: true, VerifyND: true}})
	h.anyDrop = true
	var conns []net.Conn
	for _, a := range []string{"10.77.0.30", "fd77::30"} {
		ln, err := far.ListenKernel("tcp", addr(netip.MustParseAddr(a), 7))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		go func() {
			if c, err := ln.Accept(); err == nil {
				_, _ = io.Copy(c, c) // ends with the connection
				c.Close()
			}
		}()
		var c net.Conn
		eventually(t, patience, "the new port of the bridge works", func() bool {
			c, err = h.net.DialContext(within(t, 3*patience), "tcp", addr(netip.MustParseAddr(a), 7))
			return err == nil
		})
		t.Cleanup(func() { c.Close() })
		if err := c.SetDeadline(time.Now().Add(12 * patience)); err != nil {
			t.Fatal(err)
		}
		if err := sayAndHear(c, []byte("before")); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	card := ether.Addr{2, 0, 0, 0, 0x30, 0x30}
	ip(t, far, "link set far address "+card.String())
	for n, f := range families {
		a := netip.MustParseAddr([]string{"10.77.0.30", "fd77::30"}[n])
		eventually(t, 3*patience, f.name+": the claim is believed", func() bool { return h.neighbourAt(a) == card })
		if h.count("neigh."+strings.ToLower(f.name)+".taken-over") == 0 {
			t.Errorf("%s: not by its claim: %v", f.name, h.stack.Counters())
		}
		if err := sayAndHear(conns[n], []byte("afterwards")); err != nil {
			t.Errorf("%s: %v", f.name, err)
		}
	}
}

// TestAddressMoves: an address goes from one kernel to another, as with VRRP,
// and who has it announces it, or asks for us.
func TestAddressMoves(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	one := newStation(t, l, "one", "10.77.0.30/24", "fd77::30/64")
	two := newStation(t, l, "two")
	echoFor(t, one, "one")
	echoFor(t, two, "two")
	arping := program(t, "arping")
	h := newHost(t, l, hostOptions{parallel: true, nic: stack.InterfaceConfig{NoDAD: true, VerifyND: true}})
	h.anyDrop = true
	for n, f := range families {
		a, prefix := netip.MustParseAddr([]string{"10.77.0.30", "fd77::30"}[n]), []string{"/24", "/64"}[n]
		t.Run(f.name, func(t *testing.T) {
			c, err := h.net.DialContext(within(t, patience), "udp", addr(a, 4444))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			// answered asks the address, for a moment, who it is.
			answered := func() string {
				if _, err := c.Write([]byte("?")); err != nil {
					return ""
				}
				if err := c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
					t.Fatal(err)
				}
				b := make([]byte, 10)
				n, _ := c.Read(b)
				return string(b[:max(n, 0)])
			}
			eventually(t, 3*patience, "one answers", func() bool { return answered() == "one" })
			moves := "neigh." + strings.ToLower(f.name) + ".taken-over"
			for _, way := range []struct {
				from, to  *lab.Lab
				name      string
				announces bool
			}{{one, two, "two", false}, {two, one, "one", f.ours.Addr().Is4()}} {
				before := h.count(moves)
				ip(t, way.from, "address del dev far "+a.String()+prefix)
				giveAddress(t, way.to, a.String()+prefix)
				ip(t, way.to, "neigh flush dev far") // so that it has to ask for us
				eventually(t, 3*patience, way.name+" answers", func() bool {
					if way.announces {
						// As a VRRP router does; that nobody answers is an error to it.
						_, _ = way.to.Output(t.Context(), arping, "-U", "-c", "1", "-i", "far", "-S", a.String(), a.String())
						return answered() == way.name
					}
					// Its kernel asks for our address to send this, from the one
					// that has moved.
					way.to.Do(func() {
						p, err := (&net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0))}).DialContext(t.Context(), "udp", addr(f.ours.Addr(), 9))
						if err == nil {
							_, _ = p.Write([]byte("I am here")) // nobody listens
							p.Close()
						}
					})
					return answered() == way.name
				})
				if h.count(moves) == before {
					t.Errorf("to %s: not by what it said", way.name)
				}
			}
		})
	}
}

// TestCarrierFlush: when the cable is pulled out neighbours are forgotten but
// those that somebody has pinned, and when it is put in again our address is
// announced.
func TestCarrierFlush(t *testing.T) {
	t.Parallel()
	lab.RequireNamespace(t)
	l := newLabOf(t, "packet")
	var h *attach.Host
	inLab(t, l, func() (err error) {
		o := attach.Options{Dev: "packet:" + l.Devices[0], IP: []string{our4.String()}, MAC: ourMAC.String()}
		h, err = o.Open(t.Context())
		return err
	})
	t.Cleanup(func() { h.Close() })
	pinned := netip.MustParseAddr("10.77.0.77")
	if err := h.Stack.Neighbours().Set(h.Interface, pinned, evilMAC); err != nil {
		t.Fatal(err)
	}
	// known lists the neighbours whose address is known.
	known := func() (list []netip.Addr) {
		for _, n := range h.Stack.Neighbours().List() {
			if !n.MAC.IsZero() && n.Addr.Is4() {
				list = append(list, n.Addr)
			}
		}
		return list
	}
	c, err := h.Net.Dial("udp", addr(lab.Kernel4.Addr(), 9))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	eventually(t, 3*patience, "the kernel is known", func() bool {
		_, _ = c.Write([]byte("x")) // refused by the kernel, at times
		return slices.Contains(known(), lab.Kernel4.Addr())
	})
	ip(t, l, "link set "+l.Ports[0]+" down")
	eventually(t, 3*patience, "it is forgotten", func() bool { return slices.Equal(known(), []netip.Addr{pinned}) })
	before := h.Stack.Counters()["arp.announce"]
	ip(t, l, "link set "+l.Ports[0]+" up")
	eventually(t, 3*patience, "our address is announced", func() bool { return h.Stack.Counters()["arp.announce"] > before })
}

// TestUpWithARP: what the flags say reaches the interface.
func TestUpWithARP(t *testing.T) {
	t.Parallel()
	lab.RequireNamespace(t)
	l := newLabOf(t, "packet")
	var h *attach.Host
	inLab(t, l, func() (err error) {
		o := attach.Options{Dev: "packet:" + l.Devices[0], IP: []string{our4.String()}, MAC: ourMAC.String(), ARPOptions: attach.ARPOptions{ARPIgnore: 8}}
		h, err = o.Open(t.Context())
		return err
	})
	t.Cleanup(func() { h.Close() })
	flushKernelNeighbours(t, l)
	c, err := l.DialKernel(within(t, patience), "udp", addr(our4.Addr(), 9))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	eventually(t, 3*patience, "the kernel asks in vain", func() bool {
		_, _ = c.Write([]byte("x")) // unreachable, in the end
		return h.Stack.Counters()["arp.drop.ignored"] > 0
	})
	if n := h.Stack.Counters()["arp.reply"]; n != 0 {
		t.Errorf("%d answers", n)
	}
}
