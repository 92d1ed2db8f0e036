package interop

// Groups: what a bridge that snoops makes of our reports, the kernel as another
// member, its datagrams from several sources, and its reports beside ours.

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/ether/tap"
	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
)

// groupReq is a struct group_req, or with a source a group_source_req.
func groupReq(index int, addrs ...netip.Addr) []byte {
	b := make([]byte, 8, 264)
	binary.NativeEndian.PutUint32(b, uint32(index))
	for _, a := range addrs {
		sa := make([]byte, 128)
		if a.Is4() {
			binary.NativeEndian.PutUint16(sa, unix.AF_INET)
			copy(sa[4:], a.AsSlice())
		} else {
			binary.NativeEndian.PutUint16(sa, unix.AF_INET6)
			copy(sa[8:], a.AsSlice())
		}
		b = append(b, sa...)
	}
	return b
}

// groupFamily is a family's groups and the numbers of its options.
type groupFamily struct {
	name               string
	domain, level      int
	group, one, two    netip.Addr
	query, leave, want string
}

var groupFamilies = []groupFamily{
	{"IPv4", unix.AF_INET, unix.IPPROTO_IP, netip.MustParseAddr("239.7.7.7"), lab.Kernel4.Addr(), netip.MustParseAddr("10.77.0.9"), "igmp.query", "igmp.leave", "igmp.report"},
	{"IPv6", unix.AF_INET6, unix.IPPROTO_IPV6, netip.MustParseAddr("ff12::77"), lab.Kernel6.Addr(), netip.MustParseAddr("fd77::9"), "mld.query", "mld.leave", "mld.report"},
}

// TestMembership: a bridge that snoops and asks sees us as a member while we are
// one, in each version of both protocols.
func TestMembership(t *testing.T) {
	t.Parallel()
	for _, v := range []struct{ igmp, mld string }{{"3", "2"}, {"2", "1"}} {
		t.Run("IGMPv"+v.igmp+" MLDv"+v.mld, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			ctx := within(t, 4*patience)
			program(t, "bridge")
			h := newHost(t, l, hostOptions{parallel: true, nic: stack.InterfaceConfig{NoDAD: true}})
			// A question each second, and a port forgotten 2 s after its last answer.
			run(t, ctx, l, "ip", "link", "set", lab.Bridge, "type", "bridge", "mcast_snooping", "1", "mcast_mld_version", v.mld,
				"mcast_igmp_version", v.igmp, "mcast_query_interval", "100", "mcast_startup_query_interval", "100",
				"mcast_query_response_interval", "50", "mcast_membership_interval", "200", "mcast_last_member_interval", "20", "mcast_querier", "1")
			has := func(s string) bool {
				mdb := run(t, ctx, l, "bridge", "-d", "mdb", "show", "dev", lab.Bridge)
				for line := range strings.Lines(mdb) {
					if strings.Contains(line, "port "+l.Ports[0]+" ") && strings.Contains(line, s) {
						return true
					}
				}
				return false
			}
			for _, f := range groupFamilies {
				if err := h.nic.JoinGroup(f.group); err != nil {
					t.Fatal(err)
				}
				eventually(t, patience, f.name+": in the table", func() bool { return has("grp " + f.group.String() + " ") })
			}
			for _, f := range groupFamilies {
				n := h.count(f.query)
				eventually(t, 2*patience, f.name+": four queries", func() bool { return h.count(f.query) >= n+4 })
				// Between its answers a busy host is forgotten for a moment.
				if !persist(func() bool { return has("grp " + f.group.String() + " ") }) {
					t.Errorf("%s: the bridge has forgotten us: our answers are not what it asked for", f.name)
				}
				if err := h.nic.LeaveGroup(f.group); err != nil {
					t.Fatal(err)
				}
				eventually(t, patience, f.name+": no longer in the table", func() bool { return !has("grp " + f.group.String() + " ") })
				if got := h.count(f.leave); (got == 1) != (v.igmp == "2") {
					t.Errorf("%s: %d leaves of the older kind", f.name, got)
				}
				if v.igmp == "2" {
					continue
				}
				u, err := socket.Socket(h.stack, f.domain, socket.SOCK_DGRAM, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer u.Close()
				if err := u.Setsockopt(f.level, socket.MCAST_JOIN_SOURCE_GROUP, groupReq(h.nic.Index(), f.group, f.one)); err != nil {
					t.Fatal(err)
				}
				eventually(t, patience, f.name+": a member for one source", func() bool { return has("grp " + f.group.String() + " src " + f.one.String() + " ") })
				u.Close()
				eventually(t, patience, f.name+": and no longer", func() bool { return !has("grp " + f.group.String() + " ") })
			}
		})
	}
}

// kernelGroup has the kernel join a group on the bridge until the test ends, or
// leave is called.
func kernelGroup(t *testing.T, l *lab.Lab, f groupFamily) (leave func()) {
	t.Helper()
	fd := -1
	inLab(t, l, func() (err error) {
		br, err := netlink.LinkByName(lab.Bridge)
		if err != nil {
			return err
		}
		if fd, err = unix.Socket(f.domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.SetsockoptString(fd, f.level, unix.MCAST_JOIN_GROUP, string(groupReq(br.Attrs().Index, f.group)))
	})
	return func() { unix.Close(fd) }
}

// TestFellowMember: on a link of IGMPv2 the kernel and we hear each other's
// reports, and only who reported last says that it leaves.
func TestFellowMember(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	h := newHost(t, l, hostOptions{parallel: true, nic: stack.InterfaceConfig{NoDAD: true, IGMPVersion: 2}})
	sysctl(t, l, "ipv4/conf/"+lab.Bridge+"/force_igmp_version", "2")
	f := groupFamilies[0]
	reporter := func() (flag string) {
		// Of a group: its hexadecimal address, users, timer, reporter.
		a := f.group.As4()
		name := fmt.Sprintf("%02X%02X%02X%02X", a[3], a[2], a[1], a[0])
		inLab(t, l, func() error {
			b, err := os.ReadFile("/proc/thread-self/net/igmp")
			for line := range strings.Lines(string(b)) {
				if w := strings.Fields(line); len(w) == 4 && w[0] == name {
					flag = w[3]
				}
			}
			return err
		})
		return flag
	}
	leave := kernelGroup(t, l, f)
	eventually(t, patience, "the kernel reports", func() bool { return reporter() == "1" })
	if err := h.nic.JoinGroup(f.group); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the kernel has heard our report", func() bool { return reporter() == "0" })
	if err := h.nic.LeaveGroup(f.group); err != nil {
		t.Fatal(err)
	}
	if n := h.count(f.leave); n != 1 {
		t.Errorf("the last reporter sent %d leaves", n)
	}
	leave()
	if err := h.nic.JoinGroup(f.group); err != nil {
		t.Fatal(err)
	}
	heard := h.count("igmp.heard")
	leave = kernelGroup(t, l, f)
	defer leave()
	eventually(t, patience, "we hear the kernel's report", func() bool { return h.count("igmp.heard") > heard })
	if err := h.nic.LeaveGroup(f.group); err != nil {
		t.Fatal(err)
	}
	if n := h.count(f.leave); n != 1 {
		t.Errorf("%d leaves, although the kernel reported last", n)
	}
}

// TestSourceFilters: the kernel sends to a group from two addresses, and each
// socket hears those it asked for.
func TestSourceFilters(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	h := newHost(t, l, hostOptions{parallel: true, nic: stack.InterfaceConfig{NoDAD: true}})
	h.expect("what no socket wants", "ipv4.drop.foreign-ip", "ipv6.drop.foreign-ip")
	for n, f := range groupFamilies {
		t.Run(f.name, func(t *testing.T) {
			inLab(t, l, func() error {
				br, err := netlink.LinkByName(lab.Bridge)
				if err != nil {
					return err
				}
				a := &netlink.Addr{IPNet: &net.IPNet{IP: f.two.AsSlice(), Mask: net.CIDRMask([]int{24, 64}[n], f.two.BitLen())}, Flags: unix.IFA_F_NODAD}
				return netlink.AddrAdd(br, a)
			})
			const port = 4007
			open := func(opt int, addrs ...netip.Addr) *socket.FD {
				u, err := socket.Socket(h.stack, f.domain, socket.SOCK_DGRAM, 0)
				if err == nil {
					t.Cleanup(func() { u.Close() })
					err = u.SetsockoptInt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
				}
				if err == nil {
					err = u.Bind(netip.AddrPortFrom(f.group, port))
				}
				if err == nil {
					err = u.Setsockopt(f.level, opt, groupReq(h.nic.Index(), addrs...))
				}
				if err != nil {
					t.Fatal(err)
				}
				return u
			}
			all := open(socket.MCAST_JOIN_GROUP, f.group)
			one := open(socket.MCAST_JOIN_SOURCE_GROUP, f.group, f.one)
			notOne := open(socket.MCAST_JOIN_GROUP, f.group)
			if err := notOne.Setsockopt(f.level, socket.MCAST_BLOCK_SOURCE, groupReq(h.nic.Index(), f.group, f.one)); err != nil {
				t.Fatal(err)
			}
			send := func(from netip.Addr, text string) {
				inLab(t, l, func() error {
					d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
					to := f.group
					if to.Is6() {
						to = to.WithZone(lab.Bridge)
					}
					c, err := d.DialContext(context.Background(), "udp", netip.AddrPortFrom(to, port).String())
					if err != nil {
						return err
					}
					defer c.Close()
					_, err = c.Write([]byte(text))
					return err
				})
			}
			inLab(t, l, func() error {
				br, err := netlink.LinkByName(lab.Bridge)
				if err != nil || f.domain != unix.AF_INET {
					return err
				}
				return netlink.RouteAdd(&netlink.Route{LinkIndex: br.Attrs().Index, Dst: &net.IPNet{IP: net.IPv4(239, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)}})
			})
			send(f.one, "from one")
			send(f.two, "from two")
			send(f.one, "end of one")
			send(f.two, "end of two")
			hears := func(u *socket.FD, last string) (list []string) {
				eventually(t, patience, "the last datagram", func() bool {
					b := make([]byte, 99)
					n, _, err := u.RecvFrom(b, socket.MSG_DONTWAIT)
					if err == nil {
						list = append(list, string(b[:n]))
					}
					return err == nil && string(b[:n]) == last
				})
				return list
			}
			// Who waits for the last of all has also heard what it should not have.
			if got := hears(all, "end of two"); !slices.Equal(got, []string{"from one", "from two", "end of one", "end of two"}) {
				t.Errorf("all: %q", got)
			}
			if got := hears(notOne, "end of two"); !slices.Equal(got, []string{"from two", "end of two"}) {
				t.Errorf("all but one: %q", got)
			}
			if got := hears(one, "end of one"); !slices.Equal(got, []string{"from one", "end of one"}) {
				t.Errorf("one: %q", got)
			}
			if _, _, err := one.RecvFrom(make([]byte, 9), socket.MSG_DONTWAIT); err == nil {
				t.Error("one has heard two")
			}
			all.Close()
			notOne.Close()
			before := h.count("ipv4.drop.foreign-ip") + h.count("ipv6.drop.foreign-ip")
			send(f.two, "for nobody")
			send(f.one, "again")
			hears(one, "again")
			if after := h.count("ipv4.drop.foreign-ip") + h.count("ipv6.drop.foreign-ip"); after == before {
				t.Error("what no socket wants is not dropped by the interface")
			}
		})
	}
}

// groupCall is one call on one of two sockets that both hosts have.
type groupCall struct {
	name    string
	who     int
	opt     int
	sources []int
}

// TestReportsLikeKernel: the same calls on the kernel's sockets and on ours send
// the same reports, frame by frame, each twice, but for what a host decides for
// itself: addresses, and the order of sources.
func TestReportsLikeKernel(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	h := newHost(t, l, hostOptions{parallel: true, offload: tap.OffloadOff, nic: stack.InterfaceConfig{NoDAD: true}})
	h.expect("frames that only the capture is for", "ether.drop.foreign-group", "ether.drop.foreign-mac")
	sysctl(t, l, "ipv4/conf/"+lab.Bridge+"/igmpv3_unsolicited_report_interval", "100")
	sysctl(t, l, "ipv6/conf/"+lab.Bridge+"/mldv2_unsolicited_report_interval", "100")
	index := 0
	inLab(t, l, func() error {
		br, err := netlink.LinkByName(lab.Bridge)
		if err == nil {
			index = br.Attrs().Index
		}
		return err
	})
	for _, f := range groupFamilies {
		t.Run(f.name, func(t *testing.T) {
			c, err := socket.Socket(h.stack, socket.AF_PACKET, socket.SOCK_RAW, int(socket.Htons(socket.ETH_P_ALL)))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.AddPacketMembership(socket.PacketMreq{Index: h.nic.Index(), Type: socket.PACKET_MR_PROMISC}); err != nil {
				t.Fatal(err)
			}
			var ours [2]*socket.FD
			var kernel [2]int
			for i := range ours {
				if ours[i], err = socket.Socket(h.stack, f.domain, socket.SOCK_DGRAM, 0); err != nil {
					t.Fatal(err)
				}
				defer ours[i].Close()
				inLab(t, l, func() (err error) {
					kernel[i], err = unix.Socket(f.domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
					return err
				})
				defer unix.Close(kernel[i])
			}
			for _, s := range []groupCall{
				{"join", 0, unix.MCAST_JOIN_GROUP, nil},
				{"block a source", 0, unix.MCAST_BLOCK_SOURCE, []int{1}},
				{"another wants it", 1, unix.MCAST_JOIN_SOURCE_GROUP, []int{1}},
				{"who joined leaves", 0, unix.MCAST_LEAVE_GROUP, nil},
				{"a source more", 1, unix.MCAST_JOIN_SOURCE_GROUP, []int{2}},
				{"a source less", 1, unix.MCAST_LEAVE_SOURCE_GROUP, []int{1}},
				{"all sources again", 0, unix.MCAST_JOIN_GROUP, nil},
				{"and no longer", 0, unix.MCAST_LEAVE_GROUP, nil},
				{"the last leaves", 1, unix.MCAST_LEAVE_GROUP, nil},
				{"a source alone", 0, unix.MCAST_JOIN_SOURCE_GROUP, []int{2}},
				{"it was the last", 0, unix.MCAST_LEAVE_SOURCE_GROUP, []int{2}},
			} {
				addrs := []netip.Addr{f.group}
				for _, n := range s.sources {
					addrs = append(addrs, []netip.Addr{f.one, f.two}[n-1])
				}
				if err := unix.SetsockoptString(kernel[s.who], f.level, s.opt, string(groupReq(index, addrs...))); err != nil {
					t.Fatalf("%s: kernel: %v", s.name, err)
				}
				if err := ours[s.who].Setsockopt(f.level, s.opt, groupReq(h.nic.Index(), addrs...)); err != nil {
					t.Fatalf("%s: %v", s.name, err)
				}
				var sent [2][]string // the kernel's and ours
				eventually(t, patience, s.name+": two reports from each", func() bool {
					b := make([]byte, 2000)
					n, m, err := c.RecvPacket(b, socket.MSG_DONTWAIT)
					if r, ok := groupReport(b[:max(n, 0)]); err == nil && ok && strings.Contains(r, hex.EncodeToString(f.group.AsSlice())) {
						who := 0
						if m.From.PktType == socket.PACKET_OUTGOING {
							who = 1
						}
						sent[who] = append(sent[who], r)
					}
					return len(sent[0]) >= 2 && len(sent[1]) >= 2
				})
				if !slices.Equal(sent[0], sent[1]) {
					t.Errorf("%s:\nkernel %s\nours   %s", s.name, strings.Join(sent[0], "\n       "), strings.Join(sent[1], "\n       "))
				}
			}
		})
	}
}

// groupReport writes a report of version 3 in hexadecimal, from the destination's
// MAC address on, without what belongs to its sender: source addresses, the IPv4
// identification and the checksums over them. Sources are sorted.
func groupReport(b []byte) (string, bool) {
	b = bytes.Clone(b)
	const ipAt = 14
	at, size := ipAt+24, 4
	switch {
	case len(b) > ipAt+32 && b[12] == 8 && b[13] == 0 && b[ipAt] == 0x46 && b[ipAt+9] == unix.IPPROTO_IGMP && b[at] == 0x22:
		clear(b[ipAt+4 : ipAt+6])
		clear(b[ipAt+10 : ipAt+16])
	case len(b) > ipAt+56 && b[12] == 0x86 && b[13] == 0xdd && b[ipAt+6] == 0 && b[ipAt+48] == 143:
		at, size = ipAt+48, 16
		clear(b[ipAt+8 : ipAt+24])
	default:
		return "", false
	}
	clear(b[at+2 : at+4]) // a sum does not know the order of what it sums
	s := hex.EncodeToString(b[:6]) + " " + hex.EncodeToString(b[ipAt:at+8])
	var records []string
	for r := b[at+8:]; len(r) >= 4+size; {
		n := int(binary.BigEndian.Uint16(r[2:]))
		if len(r) < 4+size*(1+n) {
			return "", false
		}
		var sources []string
		for i := range n {
			sources = append(sources, hex.EncodeToString(r[4+size*(1+i):4+size*(2+i)]))
		}
		slices.Sort(sources)
		records = append(records, hex.EncodeToString(r[:4+size])+fmt.Sprint(sources))
		r = r[4+size*(1+n):]
	}
	return s + " " + strings.Join(records, " "), true
}
