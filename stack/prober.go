package stack

// This file owns how somebody above the stack sends packets of his own making:
// a Prober finds routes, reserves ports, and gives whole transport messages to
// the network layer with the IP header as he wants it. What answers them comes
// to his handler (probeinput.go). There is no socket and no queue: a Prober with
// ten thousand probes under way costs the stack no more than one with none.

import (
	"net/netip"
	"slices"
	"sync"
	"syscall"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/internal/wheel"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
)

// ProbeHandler is told what concerns a Prober. Its methods run on the
// goroutine of the device's reader or of a timer, at the same time as others of
// them; no lock of the stack is held. They must not block, and may send.
type ProbeHandler interface {
	// ProbeInput is called with each answer. What in points to is good until
	// it returns.
	ProbeInput(in ProbeInput)
	// ProbeExpire is called at the instant that Arm was given, or before.
	ProbeExpire(now mono.Time)
	// ProbeClosed is called when the stack is closed. Nothing follows.
	ProbeClosed()
}

// Prober sends packets of its owner's making and hears what answers them.
type Prober struct {
	stack   *Stack
	handler ProbeHandler
	ports   [numProbeTables]portSet
	timer   wheel.Timer

	polling sync.Mutex // guards polled, while somebody polls
	polled  map[*Interface]*batch
}

// NewProber makes a Prober. Close it when done. ENETDOWN when the stack is closed.
func (s *Stack) NewProber(h ProbeHandler) (*Prober, error) {
	p := &Prober{stack: s, handler: h}
	p.timer.Owner = wheel.Func(h.ProbeExpire)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return nil, syscall.ENETDOWN
	}
	list := append(slices.Clone(s.proberList()), p)
	s.probers.Store(&list)
	return p, nil
}

// proberList returns those there are. The slice is never changed.
func (s *Stack) proberList() []*Prober {
	if l := s.probers.Load(); l != nil {
		return *l
	}
	return nil
}

// Close gives all ports back. The handler may still be in a call, or get one
// that was under way.
func (p *Prober) Close() {
	s := p.stack
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timers.Stop(&p.timer)
	p.leaveAll()
	list := slices.DeleteFunc(slices.Clone(s.proberList()), func(o *Prober) bool { return o == p })
	if len(list) == 0 {
		s.probers.Store(nil)
		return
	}
	s.probers.Store(&list)
}

// closeProbers tells them that the stack is closed.
func (s *Stack) closeProbers() {
	for _, p := range s.proberList() {
		p.handler.ProbeClosed()
		p.Close()
	}
}

// Now returns the stack's instant.
func (p *Prober) Now() mono.Time { return p.stack.clock.Now() }

// Arm makes the handler's ProbeExpire run at when, or earlier when it was asked
// to before; 0 does nothing.
func (p *Prober) Arm(when mono.Time) { p.stack.timers.Arm(&p.timer, when) }

// LearnPathMTU lowers what the stack takes for the path MTU to dst, as an ICMP
// error does that quotes a packet of a socket's (RFC 1191 §6.3, RFC 8201 §4).
func (p *Prober) LearnPathMTU(dst netip.Addr, mtu int) {
	p.stack.learnPathMTU(p.stack.clock.Now(), dst, mtu)
}

// ProbeRoute is the way to a destination, as it was when Route was called.
type ProbeRoute struct{ r route }

// Route finds the way to dst, whose zone says which interface. src may be
// invalid, then it is chosen (RFC 6724); dev, unless nil, is where to leave.
// Errors: ENETUNREACH, EADDRNOTAVAIL, EINVAL.
func (p *Prober) Route(dst, src netip.Addr, dev *Interface) (ProbeRoute, error) {
	if dst.IsUnspecified() {
		return ProbeRoute{}, syscall.EINVAL
	}
	r, err := p.stack.findRoute(dst, src, dev)
	return ProbeRoute{r}, err
}

// Src returns the address that packets come from.
func (r *ProbeRoute) Src() netip.Addr { return r.r.src }

// Dst returns where packets go, without a zone.
func (r *ProbeRoute) Dst() netip.Addr { return r.r.dst }

// Interface returns where packets leave.
func (r *ProbeRoute) Interface() *Interface { return r.r.iface }

// Group reports whether the destination is a multicast or broadcast address, so
// that others than it may answer.
func (r *ProbeRoute) Group() bool { return r.r.bcast || r.r.dst.IsMulticast() }

// MTU returns the largest packet in bytes that the path is known to carry.
func (r *ProbeRoute) MTU() int { return r.r.mtu }

// LinkMTU returns the largest packet that the first link carries.
func (r *ProbeRoute) LinkMTU() int { return r.r.iface.mtuFor(r.r.dst) }

// ProbeHeader is what a packet's IP header is built from beside its addresses.
type ProbeHeader struct {
	Protocol uint8
	TTL      uint8 // TTL or hop limit, 0: the default
	TOS      uint8 // DS field and ECN bits
	// DF forbids fragments: IPv4 routers are told, and what is larger than the
	// first link carries is refused. It goes by the link and not by what is known
	// of the path, as IP_PMTUDISC_PROBE. Without it what is larger than the path
	// carries leaves in fragments.
	DF        bool
	ID        uint16 // IPv4 identification
	FlowLabel uint32 // of IPv6, 20 bits
}

// Poll takes what has come to the interfaces until now, on this goroutine, from
// devices that allow it (ether.Poller). Who sends many probes one after the other
// calls it in between: a device's reader has to be woken first, and what waits
// for that looks like a longer way. The handler may be told of answers before
// Poll returns; a call that meets another does nothing.
func (p *Prober) Poll() {
	if !p.polling.TryLock() {
		return
	}
	defer p.polling.Unlock()
	for _, i := range p.stack.cfg.Load().ifaces {
		dev, ok := i.dev.(ether.Poller)
		if !ok || p.stack.closed.Load() {
			continue
		}
		b := p.polled[i]
		if b == nil {
			if p.polled == nil {
				p.polled = make(map[*Interface]*batch)
			}
			b = i.newBatch(0)
			p.polled[i] = b
		}
		dev.Poll(0, ether.MaxBatch, b.deliver)
		b.flush()
	}
}

// HeaderLen returns the length of the IP header that Send puts in front.
func (r *ProbeRoute) HeaderLen() int { return r.r.headerLen() }

// Send sends a transport message, checksum included. Errors: EMSGSIZE above what
// IP or, with DF, the link carries; EHOSTUNREACH when the neighbour is known
// not to answer; ENETDOWN; those of the device.
func (p *Prober) Send(r *ProbeRoute, h *ProbeHeader, message []byte) error {
	s, hl := p.stack, r.r.headerLen()
	mtu := r.r.mtu
	if h.DF {
		mtu = r.LinkMTU()
	}
	whole := hl + len(message)
	most := ipv4.MaxLen
	if hl == ipv6.HeaderLen {
		most = hl + ipv6.MaxPayload
	}
	if whole > most || h.DF && whole > mtu {
		return syscall.EMSGSIZE
	}
	ttl := h.TTL
	if ttl == 0 {
		ttl = defaultTTL
	}
	b := pkt.From(message)
	b.MarkTransport()
	now, tx := s.clock.Now(), newTx(r.r.iface)
	s.stats.Probe.Output.inc()
	var err error
	transmit := func(f *pkt.Buf) {
		if e := r.r.iface.transmit(now, tx, &r.r, f); err == nil {
			err = e
		}
	}
	if r.r.dst.Is4() {
		f := ipv4.Fields{TOS: h.TOS, ID: h.ID, DF: h.DF, TTL: ttl, Protocol: h.Protocol, Src: r.r.src, Dst: r.r.dst, PayloadLen: len(message)}
		f.Put(b.Push(ipv4.HeaderLen))
		b.MarkNetwork()
		s.stats.IPv4.Output.inc()
		if whole <= mtu {
			transmit(b)
		} else {
			ipv4.Fragment(b, mtu, func(f *pkt.Buf) {
				s.stats.IPv4.FragmentsOut.inc()
				transmit(f)
			})
		}
	} else {
		f := ipv6.Fields{TrafficClass: h.TOS, FlowLabel: h.FlowLabel, NextHeader: h.Protocol, HopLimit: ttl, Src: r.r.src, Dst: r.r.dst, PayloadLen: len(message)}
		f.Put(b.Push(ipv6.HeaderLen))
		b.MarkNetwork()
		s.stats.IPv6.Output.inc()
		if whole <= mtu {
			transmit(b)
		} else if d := ipv6.Fragment(b, s.ids.next(s, r.r.src, r.r.dst, h.Protocol), mtu, func(f *pkt.Buf) {
			s.stats.IPv6.FragmentsOut.inc()
			transmit(f)
		}); d != ipv6.DropNone {
			s.stats.IPv6.Parse[d].inc()
			err = syscall.EMSGSIZE
		}
	}
	if e := tx.done(); err == nil {
		err = e
	}
	return err
}
