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

const (
	lossPercent = 1
	oneWay      = 20 * time.Millisecond
)

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
func lossy(p peer, port uint16, delay time.Duration, cc string, f func(s socket) ([]float64, error)) (values []float64, err error) {
	if err := makeFar(); err != nil {
		return nil, fmt.Errorf("make the lossy path: %w", err)
	}
	side := "b1"
	if q, ok := p.(interface{ link() string }); ok {
		side = q.link()
	}
	r, err := launch(context.Background(), self("relay", "c1", side, strconv.Itoa(lossPercent), delay.String()))
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
	return lossy(p, chargenPort, 0, cc, func(s socket) ([]float64, error) { return receive(s, l.lossy) })
}

func lossFar(p peer, l lengths, cc string) ([]float64, error) {
	return lossy(p, chargenPort, oneWay, cc, func(s socket) ([]float64, error) {
		v, err := receive(s, l.far)
		return v[:min(len(v), 1)], err
	})
}

// lossIn counts what has been acknowledged: what is left in the socket when
// the time is over could take long.
func lossIn(p peer, l lengths, cc string) ([]float64, error) {
	return lossy(p, discardPort, 0, cc, func(s socket) ([]float64, error) {
		buf, sent := make([]byte, block), 0
		begin := time.Now()
		for end := begin.Add(l.lossy); time.Now().Before(end); {
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
	})
}

// serveRelay passes frames between two interfaces.
func serveRelay(args []string) error {
	if len(args) != 4 {
		return errors.New("want two interfaces, per cent of loss and a delay")
	}
	percent, err := strconv.ParseFloat(args[2], 64)
	if err != nil {
		return err
	}
	delay, err := time.ParseDuration(args[3])
	if err != nil {
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
		r := &relay{loss: percent / 100, delay: delay, to: d[1], rand: rand.New(rand.NewPCG(1, uint64(i)))}
		r.some.L = &r.mu
		if delay > 0 {
			go r.send()
		}
		running.Go(func() { _ = d[0].Receive(ctx, 0, r.deliver, func() {}) })
	}
	fmt.Println("ready")
	running.Wait()
	return nil
}

// maxWaiting is how many frames a relay delays at a time.
const maxWaiting = 20000

// relay is one direction.
type relay struct {
	loss  float64
	delay time.Duration
	to    *packet.Device
	rand  *rand.Rand

	mu      sync.Mutex // guards waiting
	some    sync.Cond
	waiting []delayed
}

type delayed struct {
	due time.Time
	b   *pkt.Buf
}

func (r *relay) deliver(b *pkt.Buf) {
	if r.rand.Float64() < r.loss {
		b.Put()
		return
	}
	if r.delay == 0 {
		// A frame for which there is no room is one more that is lost.
		_, _ = r.to.Send(0, []*pkt.Buf{b})
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) >= maxWaiting {
		b.Put()
		return
	}
	r.waiting = append(r.waiting, delayed{time.Now().Add(r.delay), b})
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
