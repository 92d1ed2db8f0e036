package interop

// ARP as other people's programs see it, and what strangers can make the stack
// believe.

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/tapstack/tapstack/internal/lab"
)

func TestARPPrograms(t *testing.T) {
	l := newLab(t)
	h := newHost(t, l, hostOptions{})
	h.anyDrop = true // what scanners ask for concerns others
	ctx := within(t, endurance)
	// Both wait for a second at most, and arping fails when nobody answers.
	var out []byte
	if !persist(func() bool {
		out, _ = l.Output(ctx, program(t, "arping"), "-c", "2", "-i", lab.Bridge, our4.Addr().String())
		return strings.Contains(string(out), ourMAC.String()) && strings.Contains(string(out), "0% unanswered (0 extra)")
	}) {
		t.Errorf("arping:\n%s", out)
	}
	if !persist(func() bool {
		out, _ = l.Output(ctx, program(t, "arp-scan"), "-I", lab.Bridge, "-q", "-g", "-r", "2", "10.77.0.6-10.77.0.8")
		return strings.Count(string(out), ourMAC.String()) == 1 && strings.Contains(string(out), "10.77.0.7\t")
	}) {
		t.Errorf("arp-scan:\n%s", out)
	}
}

// scapyStrangers states addresses that nobody asked for, in each form.
const scapyStrangers = `
from scapy.all import *
evil = "02:00:00:00:66:66"
frames = []
for n in range(50, 90):
    a = "10.77.0.%d" % n
    for op in (1, 2):
        frames.append(Ether(src=evil, dst="ff:ff:ff:ff:ff:ff")/ARP(op=op, hwsrc=evil, psrc=a, hwdst="ff:ff:ff:ff:ff:ff", pdst=a))
    frames.append(Ether(src=evil, dst="02:00:00:00:00:07")/ARP(op=2, hwsrc=evil, psrc=a, hwdst="02:00:00:00:00:07", pdst="10.77.0.7"))
    frames.append(Ether(src=evil, dst="ff:ff:ff:ff:ff:ff")/ARP(op=1, hwsrc=evil, psrc=a, pdst="10.77.0.1"))
frames.append(Ether(src=evil, dst="02:00:00:00:00:07")/ARP(op=2, hwsrc=evil, psrc="0.0.0.0", hwdst="02:00:00:00:00:07", pdst="10.77.0.7"))
frames.append(Ether(src=evil, dst="02:00:00:00:00:07")/ARP(op=2, hwsrc=evil, psrc="10.77.0.7", hwdst="02:00:00:00:00:07", pdst="10.77.0.7"))
sendp(frames, iface="br0", verbose=0)
`

// TestARPStrangers: statements that nobody asked for fill no cache, and nobody
// gets the stack's own address by claiming it.
func TestARPStrangers(t *testing.T) {
	l := newLab(t)
	if err := exec.Command("/usr/bin/python3", "-c", "import scapy").Run(); err != nil {
		lab.Lacks(t, err)
	}
	h := newHost(t, l, hostOptions{services: true})
	h.anyDrop = true
	before := h.count("arp.input")
	run(t, within(t, 2*patience), l, "/usr/bin/python3", "-c", scapyStrangers)
	eventually(t, patience, "all of it has come", func() bool { return h.count("arp.input")-before >= 162 })
	for _, n := range h.stack.Neighbours().List() {
		if n.Addr.Is4() && n.MAC.String() == "02:00:00:00:66:66" {
			t.Errorf("believed: %+v", n)
		}
	}
	c := dial(t, h.kernelSide(), "udp", addr(our4.Addr(), 7), patience)
	if err := echoDatagram(c, []byte("still here"), 1, patience); err != nil {
		t.Error(err)
	}
}
