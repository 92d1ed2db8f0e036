package stack

// This file owns the probes that a Prober sends within a connection of somebody
// else's (tcp/reminder.go). A connection that has a Prober is in a table beside
// the connections, as those with filters are: segments and errors are looked at
// for answers only while it is not empty.

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/csum"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/tcp"
)

// reminders are the connections within which somebody probes.
type reminders struct {
	n atomic.Int32 // entries of m
	m sync.Map     // *TCPConn to *Prober
}

func (t *reminders) of(c *TCPConn) *Prober {
	p, _ := t.m.Load(c)
	x, _ := p.(*Prober)
	return x
}

func (t *reminders) forget(c *TCPConn) {
	if t.n.Load() == 0 {
		return
	}
	if _, had := t.m.LoadAndDelete(c); had {
		t.n.Add(-1)
	}
}

// Adopt makes answers to what Remind sends within c come to the Prober's
// handler, until Leave, the end of c or Close. EBUSY when another has it;
// ENOTCONN when it is over, or of another stack.
func (p *Prober) Adopt(c *TCPConn) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removed || c.stack != p.stack {
		return syscall.ENOTCONN
	}
	t := &p.stack.tcp.reminders
	switch x, had := t.m.LoadOrStore(c, p); {
	case !had:
		t.n.Add(1)
	case x != p:
		return syscall.EBUSY
	}
	return nil
}

// Leave ends Adopt.
func (p *Prober) Leave(c *TCPConn) {
	if t := &p.stack.tcp.reminders; t.of(c) == p {
		t.forget(c)
	}
}

// leaveAll ends every Adopt.
func (p *Prober) leaveAll() {
	t := &p.stack.tcp.reminders
	t.m.Range(func(c, x any) bool {
		if x == p {
			t.forget(c.(*TCPConn))
		}
		return true
	})
}

// Within returns the way that the segments of c take. ENOTCONN when c is over,
// or of another stack; EOPNOTSUPP when they have header options, which a segment
// of the Prober's does not get and which may name another way.
func (p *Prober) Within(c *TCPConn) (ProbeRoute, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removed || c.core == nil || c.stack != p.stack {
		return ProbeRoute{}, syscall.ENOTCONN
	}
	if c.headersLocked() != nil {
		return ProbeRoute{}, syscall.EOPNOTSUPP
	}
	id := c.id()
	return ProbeRoute{route{path: c.path, src: id.local.Addr(), dst: id.remote.Addr()}}, nil
}

// Remind returns the segment of c's that repeats the byte which lies back before
// what is acknowledged (1 to tcp.MaxReminder), to be given to Send with the route
// of Within. certain says that the peer will tell which byte it is that comes twice.
// EAGAIN while c cannot have one, ENOTCONN when it is over.
func (p *Prober) Remind(c *TCPConn, back int) (b []byte, certain bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removed || c.core == nil || c.stack != p.stack {
		return nil, false, syscall.ENOTCONN
	}
	switch c.core.State() {
	case tcp.Established, tcp.CloseWait:
	default:
		return nil, false, syscall.ENOTCONN
	}
	var s tcp.Segment
	if !c.core.Reminder(c.tickLocked(p.Now()), back, &s) {
		return nil, false, syscall.EAGAIN
	}
	hl := s.HeaderLen()
	b = make([]byte, hl+s.PayloadLen())
	copy(b[hl:], s.Payload[0])
	s.PutHeader(b)
	id := c.id()
	// The field is 0 yet.
	sum := csum.Checksum(b, csum.Pseudo(id.local.Addr(), id.remote.Addr(), ipv4.ProtoTCP, len(b)))
	b[tcp.ChecksumOffset], b[tcp.ChecksumOffset+1] = byte(sum>>8), byte(sum)
	return b, c.core.SaysWhich(), nil
}

// reminded gives the segment in b.seg to the Prober within e's connection, if it
// answers a reminder.
func (t *tcpTable) reminded(b *batch, p packet, e tcpEntry) {
	c, ok := e.(*TCPConn)
	if !ok {
		return
	}
	x := t.reminders.of(c)
	if x == nil {
		return
	}
	c.mu.Lock()
	n, ok := uint32(0), false
	if !c.removed && c.core != nil {
		n, ok = c.core.TakeReminded(&b.seg)
	}
	c.mu.Unlock()
	if ok {
		t.stack.stats.Probe.Input.inc()
		in := t.stack.arrival(p)
		in.Within, in.Repeated = c, n
		x.handler.ProbeInput(in)
	}
}

// remindedError gives an ICMP error to the Prober within the connection that it
// is about, and reports whether there is one: what is not in flight can only be
// about a reminder.
func (s *Stack) remindedError(p packet, q icmp.Quoted) bool {
	if s.tcp.reminders.n.Load() == 0 || q.Protocol != ipv4.ProtoTCP || len(q.Transport) < 8 || q.FragOffset != 0 {
		return false
	}
	id := fourTuple{netip.AddrPortFrom(q.Src, be16(q.Transport)), netip.AddrPortFrom(q.Dst, be16(q.Transport[2:]))}
	c, ok := s.tcp.lookup(id).(*TCPConn)
	if !ok {
		return false
	}
	x := s.tcp.reminders.of(c)
	if x == nil {
		return false
	}
	c.mu.Lock()
	inWindow := c.removed || c.core == nil || c.core.InWindow(quotedSeq(q.Transport))
	c.mu.Unlock()
	if inWindow {
		return false
	}
	s.stats.Probe.ErrorIn.inc()
	in := s.arrival(p)
	in.Quoted, in.Quote, in.Within = true, q, c
	x.handler.ProbeInput(in)
	return true
}

func be16(b []byte) uint16 { return uint16(b[0])<<8 | uint16(b[1]) }
