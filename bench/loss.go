package main

// This file owns the path that loses packets: a client in a namespace of its
// own, and between it and the peers a relay, a process that drops and delays
// frames. Nothing is offloaded on it, so that a frame is a packet.
//
//	namespace far            driver's namespace
//	10.77.0.2  c0 ══ c1 ┄relay┄ b1 ══ b0 ─ br0 ─ tap7 …   peers on TAPs
//	10.78.n.9               └┄relay┄ veth<n> ══ peer<n>   peers over veth

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/ether/packet"
	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/internal/pkt"
)

// line is what a relay does to the frames of each direction.
type line struct {
	loss    float64       // of so many per cent, at random
	delay   time.Duration // each way
	mbit    int           // Mbit/s, behind a queue of one round trip; 0: as fast as it can
	reorder float64       // so many per cent come after the three that follow
}

const (
	lossPercent = 1
	oneWay      = 20 * time.Millisecond
)

func (l line) args() []string {
	return []string{
		strconv.FormatFloat(l.loss, 'g', -1, 64), l.delay.String(), strconv.Itoa(l.mbit), strconv.FormatFloat(l.reorder, 'g', -1, 64),
	}
}

// farPath is the client's side of that path, made when it is first needed and
// gone with the driver.
var farPath struct {
	ns   netns.NsHandle
	home netns.NsHandle
	made bool
}

// maxPairs is how many pairs may be measured over the lossy path.
const maxPairs = 4

func makeFar() (err error) {
	if farPath.made {
		return nil
	}
	if farPath.home, err = netns.Get(); err != nil {
		return err
	}
	if farPath.ns, err = netns.New(); err != nil {
		return err
	}
	if err := netns.Set(farPath.home); err != nil {
		return err
	}
	for _, ends := range [][2]string{{"c0", "c1"}, {"b0", "b1"}} {
		if err := addVeth(ends[0], ends[1], false); err != nil {
			return err
		}
		for _, name := range ends {
			link, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			_ = netlink.LinkSetIP6AddrGenMode(link, nl.IN6_ADDR_GEN_MODE_NONE) // quiet, which it is without IPv6
			if name == "c1" || name == "b1" {
				// The kernel would answer there for all its addresses.
				if err := netlink.LinkSetARPOff(link); err != nil {
					return err
				}
			}
		}
	}
	addrs := []netip.Addr{netip.AddrFrom4([4]byte{10, 77, 0, 2})}
	for n := range byte(maxPairs) {
		addrs = append(addrs, netip.AddrFrom4([4]byte{10, 78, n + 1, 9}))
	}
	if err := move("c0", farPath.ns, addrs...); err != nil {
		return err
	}
	bridge, err := netlink.LinkByName(lab.Bridge)
	if err != nil {
		return err
	}
	port, err := netlink.LinkByName("b0")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetMaster(port, bridge); err != nil {
		return err
	}
	here, err := netlink.NewHandle()
	if err != nil {
		return err
	}
	defer here.Close()
	for _, name := range []string{"c1", "b1", "b0"} {
		if err := raise(here, name); err != nil {
			return err
		}
	}
	farPath.made = true
	return nil
}

// lossy runs f with a connection over the lossy path.
func lossy(p peer, port uint16, l line, cc string, f func(s socket) ([]float64, error)) (values []float64, err error) {
	if err := makeFar(); err != nil {
		return nil, fmt.Errorf("make the lossy path: %w", err)
	}
	side := "b1"
	if q, ok := p.(interface{ link() string }); ok {
		side = q.link()
	}
	r, err := launch(context.Background(), self("relay", append([]string{"c1", side}, l.args()...)...))
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	defer func() { err = errors.Join(err, r.stop()) }()
	// A socket belongs to the namespace in which it was made.
	if err := netns.Set(farPath.ns); err != nil {
		return nil, err
	}
	var s socket
	for range 3 { // the SYN may be lost again and again
		if s, err = dialFor(netip.AddrPortFrom(p.addr(), port), cc, stall); err == nil {
			break
		}
	}
	if e := netns.Set(farPath.home); e != nil {
		return nil, e
	}
	if err != nil {
		return nil, err
	}
	defer s.abort()
	if err := unix.SetNonblock(int(s), true); err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return f(s)
}

// await returns when the socket is ready or the time has come.
func (s socket) await(events int16, end time.Time) error {
	for {
		left := unix.NsecToTimespec(max(0, time.Until(end).Nanoseconds()))
		_, err := unix.Ppoll([]unix.PollFd{{Fd: int32(s), Events: events}}, &left, nil)
		if err != unix.EINTR {
			return os.NewSyscallError("ppoll", err)
		}
	}
}

// receive reads for a time, during which nothing may come.
func receive(s socket, length time.Duration) ([]float64, error) {
	buf, got := make([]byte, block), 0
	var longest time.Duration
	begin := time.Now()
	last, end := begin, begin.Add(length)
	for last.Before(end) {
		if err := s.await(unix.POLLIN, end); err != nil {
			return nil, err
		}
		n, err := s.read(buf)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, err
		}
		now := time.Now()
		longest = max(longest, now.Sub(last))
		last = now
		got += n
	}
	return []float64{float64(got) / mega / last.Sub(begin).Seconds(), longest.Seconds() * 1e3}, nil
}

func lossOut(p peer, l lengths, cc string) ([]float64, error) {
	return lossy(p, chargenPort, line{loss: lossPercent}, cc, func(s socket) ([]float64, error) { return receive(s, l.lossy) })
}

func lossFar(p peer, l lengths, cc string) ([]float64, error) {
	return lossy(p, chargenPort, line{loss: lossPercent, delay: oneWay}, cc, func(s socket) ([]float64, error) {
		v, err := receive(s, l.far)
		return v[:min(len(v), 1)], err
	})
}

func lossIn(p peer, l lengths, cc string) ([]float64, error) {
	return lossy(p, discardPort, line{loss: lossPercent}, cc, func(s socket) ([]float64, error) { return acknowledged(s, l.lossy) })
}

// acknowledged writes for a time and counts what has been acknowledged by then:
// what is left in the socket could take long.
func acknowledged(s socket, length time.Duration) ([]float64, error) {
	buf, sent := make([]byte, block), 0
	begin := time.Now()
	for end := begin.Add(length); time.Now().Before(end); {
		if err := s.await(unix.POLLOUT, end); err != nil {
			return nil, err
		}
		n, err := s.write(buf)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, err
		}
		sent += n
	}
	left, err := unix.IoctlGetInt(int(s), unix.SIOCOUTQ)
	if err != nil {
		return nil, os.NewSyscallError("ioctl SIOCOUTQ", err)
	}
	return []float64{float64(sent-left) / mega / time.Since(begin).Seconds()}, nil
}

// serveRelay passes frames between two interfaces.
func serveRelay(args []string) error {
	if len(args) != 6 {
		return errors.New("want two interfaces, per cent of loss, a delay, Mbit/s and per cent of reordering")
	}
	l := line{}
	var errs [4]error
	l.loss, errs[0] = strconv.ParseFloat(args[2], 64)
	l.delay, errs[1] = time.ParseDuration(args[3])
	l.mbit, errs[2] = strconv.Atoi(args[4])
	l.reorder, errs[3] = strconv.ParseFloat(args[5], 64)
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	ctx, stop := attach.SignalContext()
	defer stop()
	a, err := packet.Open(args[0])
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := packet.Open(args[1])
	if err != nil {
		return err
	}
	defer b.Close()
	var running sync.WaitGroup
	for i, d := range [][2]*packet.Device{{a, b}, {b, a}} {
		// The same seed each time: every peer meets the same sequence.
		r := &relay{line: l, to: d[1], rand: rand.New(rand.NewPCG(1, uint64(i)))}
		r.some.L = &r.mu
		if r.waits() {
			go r.send()
		}
		running.Go(func() { _ = d[0].Receive(ctx, 0, r.deliver, func() {}) })
	}
	fmt.Println("ready")
	running.Wait()
	return nil
}

const (
	// maxWaiting is how many frames a relay delays at a time.
	maxWaiting = 20000
	// behind is how many frames overtake one that is reordered.
	behind = 3
	// small frames are acknowledgements, which are never reordered: what is
	// asked is how a sender takes it.
	small = 200
)

// relay is one direction.
type relay struct {
	line
	to   *packet.Device
	rand *rand.Rand

	free time.Time // when what came before has left the narrowest place
	late *pkt.Buf  // held back
	left int       // until so many others have passed

	mu      sync.Mutex // guards waiting
	some    sync.Cond
	waiting []delayed
}

type delayed struct {
	due time.Time
	b   *pkt.Buf
}

func (r *relay) waits() bool { return r.delay > 0 || r.mbit > 0 }

func (r *relay) deliver(b *pkt.Buf) {
	switch {
	case r.rand.Float64()*100 < r.loss:
		b.Put()
		return
	case r.reorder > 0 && r.late == nil && b.Len() > small && r.rand.Float64()*100 < r.reorder:
		r.late, r.left = b, behind
		return
	}
	r.pass(b)
	if r.late != nil {
		if r.left--; r.left == 0 {
			r.pass(r.late)
			r.late = nil
		}
	}
}

// pass sends a frame on, at once or when it is due. One for which there is no
// room is lost.
func (r *relay) pass(b *pkt.Buf) {
	if !r.waits() {
		_, _ = r.to.Send(0, []*pkt.Buf{b})
		return
	}
	now := time.Now()
	due := now
	if r.mbit > 0 {
		if r.free.Before(now) {
			r.free = now
		}
		if r.free.Sub(now) > max(2*r.delay, time.Millisecond) {
			b.Put()
			return
		}
		r.free = r.free.Add(time.Duration(b.Len()) * 8 * time.Microsecond / time.Duration(r.mbit))
		due = r.free
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) >= maxWaiting {
		b.Put()
		return
	}
	r.waiting = append(r.waiting, delayed{due.Add(r.delay), b})
	r.some.Signal()
}

// send passes on what is due, in order.
func (r *relay) send() {
	for {
		r.mu.Lock()
		for len(r.waiting) == 0 {
			r.some.Wait()
		}
		batch := r.waiting
		r.waiting = nil
		r.mu.Unlock()
		for _, d := range batch {
			if wait := time.Until(d.due); wait > 0 {
				time.Sleep(wait)
			}
			_, _ = r.to.Send(0, []*pkt.Buf{d.b})
		}
	}
}
