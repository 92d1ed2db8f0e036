package interop

// The kernel in the stack's place: a host of its own with the stack's
// addresses, on a link of its own, so that the same frames can be given to both
// and the answers compared.

import (
	"net"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/internal/lab"
)

// rivalLink is the interface in the lab from which the rival is reached.
const rivalLink = "fore0"

var rivalMAC = net.HardwareAddr{2, 0, 0, 0, 0, 0x77}

// rival is a kernel in a namespace behind a veth pair:
//
//	lab: fore0 ═ rear0: 10.77.0.7, fd77::7
type rival struct {
	t  *testing.T
	ns netns.NsHandle
}

// newRival makes one, which answers as fast as it is asked.
func newRival(t *testing.T, l *lab.Lab) *rival {
	t.Helper()
	r := &rival{t: t, ns: netns.None()}
	inLab(t, l, func() error {
		// inLab has locked the thread.
		home, err := netns.Get()
		if err != nil {
			return err
		}
		defer home.Close()
		if r.ns, err = netns.New(); err != nil {
			return err
		}
		if err := netns.Set(home); err != nil {
			return err
		}
		la := netlink.NewLinkAttrs()
		la.Name = rivalLink
		veth := &netlink.Veth{LinkAttrs: la, PeerName: "rear0", PeerHardwareAddr: rivalMAC}
		if err := netlink.LinkAdd(veth); err != nil {
			return err
		}
		rear, err := netlink.LinkByName("rear0")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetNsFd(rear, int(r.ns)); err != nil {
			return err
		}
		// The lab's kernel must have no part in what is said there.
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+rivalLink+"/disable_ipv6", []byte("1"), 0); err != nil {
			return err
		}
		return netlink.LinkSetUp(veth)
	})
	t.Cleanup(func() { r.ns.Close() })
	r.do(l, func() error {
		for file, value := range map[string]string{
			"ipv4/icmp_ratelimit": "0", "ipv4/icmp_msgs_per_sec": "1000000", "ipv4/icmp_msgs_burst": "1000000", "ipv6/icmp/ratelimit": "0",
			"ipv6/conf/default/accept_dad": "0", "ipv6/conf/default/accept_ra": "0",
		} {
			if err := os.WriteFile("/proc/sys/net/"+file, []byte(value), 0); err != nil && !os.IsNotExist(err) {
				return err
			}
		}
		rear, err := netlink.LinkByName("rear0")
		if err != nil {
			return err
		}
		for _, link := range []string{"lo", "rear0"} {
			i, err := netlink.LinkByName(link)
			if err == nil {
				err = netlink.LinkSetUp(i)
			}
			if err != nil {
				return err
			}
		}
		if err := netlink.AddrAdd(rear, &netlink.Addr{IPNet: &net.IPNet{IP: our4.Addr().AsSlice(), Mask: net.CIDRMask(24, 32)}}); err != nil {
			return err
		}
		return netlink.AddrAdd(rear, &netlink.Addr{IPNet: &net.IPNet{IP: our6.Addr().AsSlice(), Mask: net.CIDRMask(64, 128)}, Flags: unix.IFA_F_NODAD})
	})
	return r
}

// do runs f on the rival's side.
func (r *rival) do(l *lab.Lab, f func() error) {
	r.t.Helper()
	inLab(r.t, l, func() error {
		home, err := netns.Get()
		if err != nil {
			return err
		}
		defer home.Close()
		if err := netns.Set(r.ns); err != nil {
			return err
		}
		err = f()
		if e := netns.Set(home); err == nil {
			err = e
		}
		return err
	})
}
