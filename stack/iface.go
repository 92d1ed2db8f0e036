package stack

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/claim"
	"github.com/tapstack/tapstack/internal/frag"
	"github.com/tapstack/tapstack/internal/mcast"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/neigh"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/internal/wheel"
	"github.com/tapstack/tapstack/ipv6"
)

// InterfaceConfig describes an interface to AddInterface.
type InterfaceConfig struct {
	// Name identifies the interface, also as the zone of link-local addresses.
	Name string
	// Device moves the frames; the stack closes it.
	Device ether.Device
	// MAC is our address on the segment; zero takes the device's, and where
	// it has none a random locally administered one.
	MAC ether.Addr
	// MTU in bytes, at most the device's; 0 takes the device's.
	MTU int
	// DisableIPv6 keeps the interface without IPv6: no link-local address.
	DisableIPv6 bool
	// NoDAD uses IPv6 addresses without probing for duplicates first.
	NoDAD bool
	// NoDADNonce probes without the nonce by which our own solicitations are
	// known when they come back (RFC 7527), as before that.
	NoDADNonce bool
	// IID says what the link-local address, and those of SLAAC, are made of.
	// The zero value: RFC 7217. IIDSecret is the secret of that; hosts that keep
	// it have the same addresses after each start. Zero: one of this start.
	IID       ipv6.IIDMode
	IIDSecret [16]byte
	// OptimisticDAD uses the addresses that the interface makes itself while they
	// are still looked for elsewhere (RFC 4429): Linux's optimistic_dad.
	OptimisticDAD bool
	// AnnounceIPv6 tells the routers of each new IPv6 address, so that the first
	// answer to it does not wait for them to ask (RFC 9131). Linux does so, telling
	// all nodes, with ndisc_notify, which is off by default.
	AnnounceIPv6 bool
	// Patience is how often a neighbour that stopped answering is asked by
	// multicast, further and further apart, while packets still go to where it was
	// (RFC 7048). 0, Linux's default (mcast_resolicit): not at all.
	Patience int
	// IgnoreRA is what of router advertisements is left aside, with SLAAC.
	IgnoreRA ipv6.RAIgnore
	// TempAddrs makes temporary addresses (RFC 8981). The zero value: none.
	TempAddrs TempAddrs
	// ACD probes IPv4 addresses before use and gives them up in a lasting
	// conflict (RFC 5227); it takes 5 to 7 s. Without it they are used at
	// once and only announced and defended.
	ACD bool
	// ARP says which questions about IPv4 addresses are answered and what is
	// learnt.
	ARP ARPConfig
	// VerifyND asks an IPv6 neighbour that is known before it believes that it is
	// at another MAC address, as ARPConfig.Locktime does by default. RFC 4861
	// §7.2.5 wants an advertisement believed whose override flag is set, so that
	// any station of the link can draw the traffic to itself.
	VerifyND bool
	// Plain keeps to frames as they are on the wire. Without it the stack
	// segments TCP super-frames, and merges received frames of one connection
	// into such, for a device that does neither, which saves most of what a
	// frame costs above the device. What is on the wire is the same.
	Plain bool
	// RPFilter says which sources of IPv4 are believed, as Linux's rp_filter.
	// The zero value: all.
	RPFilter RPFilter
	// NoRedirects takes no router's word that another one is nearer, as Linux's
	// accept_redirects=0.
	NoRedirects bool
	// IGMPVersion (1 to 3) and MLDVersion (1 or 2) keep to one version of the
	// protocols that tell routers about groups, as Linux's force_igmp_version
	// and force_mld_version. 0: the newest, or what older queriers speak.
	IGMPVersion, MLDVersion int
	// SLAAC solicits routers and configures addresses and routes from their
	// advertisements (RFC 4862).
	SLAAC bool
	// RouteLocalnet lets packets for loopback addresses out and takes answers
	// from them, once the stack's loopback interface has them no more (DelAddr)
	// and a route says where to: who they are is then for the network to know.
	// Departs from RFC 1122 §3.2.1.3 (g) and RFC 4291 §2.5.3 as Linux does with
	// the setting of that name, which is for IPv4 only. Packets that come for a
	// loopback address are still refused.
	RouteLocalnet bool
}

// RPFilter is how the sources of packets are compared with the routes.
type RPFilter uint8

// The filters.
const (
	RPFilterOff    RPFilter = iota
	RPFilterStrict          // the route to the source leaves by the interface it came in on
	RPFilterLoose           // there is a route to the source
)

// The two families index what an interface keeps once for each.
const (
	inet = iota
	inet6
)

func family(a netip.Addr) int {
	if a.Is4() {
		return inet
	}
	return inet6
}

// Interface is one attachment to a segment.
type Interface struct {
	stack       *Stack
	name        string
	index       int32 // from 1, for ever
	dev         ether.Device
	readers     sync.WaitGroup // goroutines that receive
	caps        ether.Caps     // the device's, and what is done in its place
	cutTCP      bool           // TCP super-frames are cut by the stack
	cutUDP      bool           // UDP super-frames are
	merge       bool           // received TCP segments are merged by the stack
	pushed      *pushed        // what a Pusher's frames go through, nil otherwise
	mac         ether.Addr
	mtu         atomic.Int32
	devMTU      atomic.Int32  // the device's
	link        atomic.Uint32 // why it cannot be used; changed under Stack.mu, linkFailed under mu: see linkstate.go
	wantMTU     int           // the user's, 0: none; guarded by Stack.mu
	mtu6        atomic.Int32  // from router advertisements, 0: none
	mtu4        atomic.Int32  // from DHCP, 0: none
	hopLimit    atomic.Int32  // from router advertisements
	loopback    bool
	ptp         bool // Caps.PointToPoint: see pointtopoint.go
	disableIPv6 bool
	noDAD       bool
	acd         bool
	rpFilter    RPFilter
	arp         ARPConfig
	noNonce     bool
	noRedirects bool
	localnet    bool
	iid         ipv6.IIDConfig
	temp        TempAddrs
	optimistic  bool
	announce6   bool
	ignoreRA    ipv6.RAIgnore
	retrans     atomic.Int64 // RetransTimer from router advertisements, 0: none
	// linkLocals counts the link-local addresses that were taken.
	linkLocals atomic.Int32
	advertised atomic.Pointer[Advertised] // nil: nothing

	// groups is what the receive filter reads.
	groups atomic.Pointer[groupSet]

	linkMu sync.Mutex // held while a change of the link is carried out; guards anew
	anew   bool       // it was set down since it was last up

	mu     sync.Mutex // guards everything below
	neigh  [2]*neigh.Cache
	frags  [2]*frag.Table
	claims map[netip.Addr]*claim.Claim
	nonces map[netip.Addr][6]byte // of the solicitations of IPv6 claims (RFC 7527)
	// claimants are those who want to hear of an address, nil: never any.
	claimants map[netip.Addr]*claimant
	slaac     *ipv6.SLAAC       // nil without SLAAC
	members   [2]*mcast.Machine // IGMP and MLD
	// routerKnown: the advertisement that is being applied tells its sender's MAC
	// address.
	routerKnown bool
	// sparing: SLAAC is being stopped, and connections are not to end with it.
	sparing bool
	failed  []unresolved // frames whose neighbour does not answer
	after   []func()     // to be run when mu is released, by whoever is at it
	running bool         // somebody runs them
	dying   int          // how many of them say that a router is dead
	down    bool
	// charged is what frags and neigh were last charged for.
	charged int
	rnd     *rand.Rand
	// now is valid while mu is held: the callbacks of the cores need it.
	now mono.Time

	timer wheel.Timer

	gone chan struct{} // closed when the device fails

	changedMu sync.Mutex // guards changed, problem, unwatch and observers
	changed   chan struct{}
	problem   error     // a duplicate address, for Ready
	unwatch   func()    // ends the device's Watch
	observers []*func() // see Observe
}

// unresolved are the frames that waited for a neighbour in vain.
type unresolved struct {
	target netip.Addr
	frames []*pkt.Buf
}

// AddInterface attaches a device and starts receiving from it; when it fails
// before that, the device is still the caller's to close. Unless IPv6 is
// disabled the interface gives itself a link-local address (RFC 4862 §5.3).
func (s *Stack) AddInterface(c InterfaceConfig) (*Interface, error) {
	if s.closed.Load() {
		return nil, net.ErrClosed
	}
	i, err := s.newInterface(c)
	if err != nil {
		return nil, err
	}
	if err := s.update(func(c *config) error {
		if c.named(i.name) != nil {
			return fmt.Errorf("interface %s: %w", i.name, syscall.EEXIST)
		}
		if s.closed.Load() {
			return net.ErrClosed
		}
		c.ifaces = append(c.ifaces, i)
		s.lastIndex++
		i.index = s.lastIndex
		i.startReaders() // under Stack.mu, so that Close waits for all of them
		return nil
	}); err != nil {
		return nil, err
	}
	i.followDevice()
	if !i.noIPv6() && !i.hasLinkLocal() {
		if err := i.addLinkLocal(0); err != nil {
			return nil, err
		}
	}
	return i, nil
}

// queueBytes is the least memory of what may wait for one neighbour, Linux's
// unres_qlen_bytes.
const queueBytes = 212992

func (s *Stack) newInterface(c InterfaceConfig) (*Interface, error) {
	caps := c.Device.Caps()
	i := &Interface{stack: s, name: c.Name, dev: c.Device, caps: caps, mac: c.MAC, wantMTU: c.MTU, disableIPv6: c.DisableIPv6,
		noDAD: c.NoDAD, noNonce: c.NoDADNonce, temp: c.TempAddrs, optimistic: c.OptimisticDAD && !c.NoDAD, announce6: c.AnnounceIPv6, ignoreRA: c.IgnoreRA, acd: c.ACD, localnet: c.RouteLocalnet, rpFilter: c.RPFilter, arp: c.ARP, noRedirects: c.NoRedirects, claims: make(map[netip.Addr]*claim.Claim), nonces: make(map[netip.Addr][6]byte),
		changed: make(chan struct{}), gone: make(chan struct{}), rnd: s.newRand()}
	i.groups.Store(&groupSet{})
	i.offload(c.Plain)
	i.pointToPoint()
	mtu := caps.MTU
	if c.MTU != 0 {
		mtu = min(mtu, c.MTU)
	}
	if mtu < minMTU4 {
		return nil, fmt.Errorf("interface %s: MTU %d is below %d (RFC 791): %w", c.Name, mtu, minMTU4, syscall.EINVAL)
	}
	i.mtu.Store(int32(mtu))
	i.devMTU.Store(int32(caps.MTU))
	if i.mac.IsZero() {
		i.mac = c.Device.Addr()
	}
	for i.mac.IsZero() {
		r := i.rnd.Uint64()
		i.mac = ether.Addr{0x02, byte(r >> 32), byte(r >> 24), byte(r >> 16), byte(r >> 8), byte(r)}
	}
	if i.mac.IsGroup() {
		return nil, fmt.Errorf("interface %s: %v is a group address: %w", c.Name, i.mac, syscall.EINVAL)
	}
	i.iid = ipv6.IIDConfig{Mode: c.IID, MAC: i.mac, Name: i.name, Secret: c.IIDSecret}
	if c.IID == ipv6.IIDOpaque && c.IIDSecret == [16]byte{} {
		binary.BigEndian.PutUint64(i.iid.Secret[:], i.rnd.Uint64())
		binary.BigEndian.PutUint64(i.iid.Secret[8:], i.rnd.Uint64())
	}
	if err := c.ARP.Check(); err != nil {
		return nil, fmt.Errorf("interface %s: %w", c.Name, err)
	}
	nc := neigh.Config{MaxEntries: s.limits.Neighbours, QueueFrames: s.limits.NeighbourQueue, QueueBytes: max(queueBytes, s.limits.NeighbourQueue*pkt.SmallSlab), QueueTotalBytes: s.limits.NeighbourBytes,
		Patience: c.Patience, Verify: c.VerifyND, Changed: i.neighbourChanged}
	i.neigh[inet6] = neigh.New(nc, (*neighHost)(i), i.rnd)
	nc.Revive, nc.Verify, nc.LockTime = true, c.ARP.Locktime == 0, max(c.ARP.Locktime, 0)
	i.neigh[inet] = neigh.New(nc, (*neighHost)(i), i.rnd)
	fc := frag.Config{MaxBytes: s.limits.FragmentBytes, MaxPerSource: s.limits.FragmentBytesPerSource}
	for f, timeout := range reassemblyTimeout {
		fc.Timeout = timeout
		i.frags[f] = frag.New(fc)
	}
	if c.IGMPVersion < 0 || c.IGMPVersion > 3 || c.MLDVersion < 0 || c.MLDVersion > 2 {
		return nil, fmt.Errorf("interface %s: no version %d of IGMP or %d of MLD: %w", c.Name, c.IGMPVersion, c.MLDVersion, syscall.EINVAL)
	}
	i.members = [2]*mcast.Machine{inet: i.newMembership(mcast.IGMP, &c), inet6: i.newMembership(mcast.MLD, &c)}
	if c.SLAAC && !i.disableIPv6 {
		i.slaac = i.newSLAAC()
	}
	i.timer.Owner = wheel.Func(i.expire)
	return i, nil
}

// Name returns the interface's name.
func (i *Interface) Name() string { return i.name }

// Index returns the interface's number, from 1: loopback is the first, and the
// others follow in the order they were added. That of one that was removed is
// not given again.
func (i *Interface) Index() int { return int(i.index) }

// InterfaceByIndex returns the interface with a number, or nil.
func (s *Stack) InterfaceByIndex(n int) *Interface {
	for _, i := range s.cfg.Load().ifaces {
		if int(i.index) == n {
			return i
		}
	}
	return nil
}

// InterfaceOf returns the interface that has an address of this host, or nil.
func (s *Stack) InterfaceOf(a netip.Addr) *Interface {
	if x := s.cfg.Load().local(a, s.lo); x != nil {
		return x.iface
	}
	return nil
}

// Stack returns the host that the interface belongs to.
func (i *Interface) Stack() *Stack { return i.stack }

// Loopback reports whether the interface is the stack's own, which leads
// nowhere else.
func (i *Interface) Loopback() bool { return i.loopback }

// MTU returns the largest IP packet in bytes.
func (i *Interface) MTU() int { return int(i.mtu.Load()) }

// mtuFor is the MTU for packets to dst: for IPv6 a router may have lowered it,
// for IPv4 a DHCP server.
func (i *Interface) mtuFor(dst netip.Addr) int {
	lowered := &i.mtu4
	if dst.Is6() {
		lowered = &i.mtu6
	}
	mtu := i.MTU()
	if m := int(lowered.Load()); m != 0 && m < mtu {
		return m
	}
	return mtu
}

// startReaders begins to receive: a goroutine for each queue, or none when
// the device pushes its frames from an event loop.
func (i *Interface) startReaders() {
	if p, ok := i.dev.(ether.Pusher); ok {
		b := &pushed{batch: i.newBatch(0)}
		i.pushed = b
		if p.Attach(b.deliver, b.flush) {
			return
		}
	}
	for q := range max(1, i.dev.Caps().Queues) {
		b := i.newBatch(q)
		i.readers.Add(1)
		i.stack.wg.Go(func() {
			defer i.readers.Done()
			err := i.dev.Receive(i.stack.ctx, q, b.deliver, b.flush)
			b.end()
			if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, net.ErrClosed) {
				i.stack.stats.Ether.Drop[DropDevice].inc()
				i.linkDown()
			}
		})
	}
}

// Down is closed when the device has failed: nothing will be received any
// more.
func (i *Interface) Down() <-chan struct{} { return i.gone }

// linkDown gives up what waits for the link after the device failed.
func (i *Interface) linkDown() {
	if i.markDown() {
		i.stack.watches.tell(Change{Kind: LinkChange, Op: Changed, Link: i.linkInfo()})
	}
	i.enter(i.stack.clock.Now())
	for _, c := range i.neigh {
		c.Flush(i.now)
	}
	i.leave()
	i.tellPackets()
	i.announceChange(i.downError())
}

// markDown closes the interface for what would leave by it, and reports
// whether it was open.
func (i *Interface) markDown() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.isDown() {
		return false
	}
	close(i.gone)
	i.link.Or(linkFailed)
	i.down = true
	return true
}

func (i *Interface) close() error {
	i.unfollowDevice()
	if p, ok := i.dev.(ether.Pusher); ok {
		p.Attach(nil, nil)
	}
	return i.dev.Close()
}

// release frees what still waits, once nobody receives any more.
func (i *Interface) release() {
	if i.pushed != nil {
		i.pushed.end()
	}
	i.mu.Lock()
	i.down = true
	for f := range i.neigh {
		i.neigh[f].Flush(i.stack.clock.Now())
		i.frags[f].Flush()
	}
	for _, u := range i.failed {
		for _, p := range u.frames {
			p.Put()
		}
	}
	i.failed = nil
	if !i.running { // else what has come up is still done
		i.after = nil
	}
	i.chargeLocked()
	i.mu.Unlock()
}

// enter takes the interface's lock for work at the instant now.
func (i *Interface) enter(now mono.Time) {
	i.mu.Lock()
	i.now = now
}

// leave arms the timer for what the cores have become, releases the lock and
// then does what may not be done under it, in the order in which it has come
// up: what a timer decides must not be carried out before what a message
// decided that came earlier. One goroutine does so at a time, for the others too.
// The caller holds no other lock.
func (i *Interface) leave() {
	failed := i.failed
	i.failed = nil
	i.stack.timers.Arm(&i.timer, i.deadlineLocked())
	i.chargeLocked()
	for !i.running && len(i.after) > 0 {
		after := i.after
		i.after, i.running = nil, true
		i.mu.Unlock()
		for _, f := range after {
			f()
		}
		i.mu.Lock()
		i.running = false
	}
	i.mu.Unlock()
	for _, u := range failed {
		i.reportUnresolved(u)
	}
}

// leaveBusy is leave for callers that hold a connection's lock: what cannot
// be done now is left to the timer.
func (i *Interface) leaveBusy() {
	d := i.deadlineLocked()
	if len(i.failed) > 0 || len(i.after) > 0 {
		d = i.now
	}
	i.stack.timers.Arm(&i.timer, d)
	i.chargeLocked()
	i.mu.Unlock()
}

func (i *Interface) deadlineLocked() (d mono.Time) {
	for f := range i.neigh {
		d = mono.Earliest(d, i.neigh[f].Deadline())
		d = mono.Earliest(d, i.frags[f].Deadline())
		d = mono.Earliest(d, i.members[f].Deadline())
	}
	if !i.isOff() {
		for _, c := range i.claims {
			d = mono.Earliest(d, c.Deadline())
		}
	}
	if i.slaac != nil {
		d = mono.Earliest(d, i.slaac.Deadline())
	}
	return d
}

// expire is the interface's timer function.
func (i *Interface) expire(now mono.Time) {
	i.enter(now)
	if i.down {
		i.mu.Unlock()
		return
	}
	for f := range i.neigh {
		if i.neigh[f].Deadline().Due(now) {
			i.neigh[f].Expire(now)
		}
		if i.frags[f].Deadline().Due(now) {
			i.frags[f].Expire(now, i.reassemblyTimeoutLocked)
		}
		i.members[f].Expire(now)
	}
	for _, addr := range i.claimsInOrderLocked() {
		if i.isOff() {
			break // nobody could object
		}
		if c := i.claims[addr]; c.Deadline().Due(now) {
			i.actLocked(addr, c, c.Expire(now))
		}
	}
	if i.slaac != nil && i.slaac.Deadline().Due(now) {
		i.slaac.Expire(now)
	}
	i.leave()
}

// claimsInOrderLocked lists the claims in a fixed order, so that a seeded
// simulation is reproducible.
func (i *Interface) claimsInOrderLocked() []netip.Addr {
	list := make([]netip.Addr, 0, len(i.claims))
	for a := range i.claims {
		list = append(list, a)
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return list
}
