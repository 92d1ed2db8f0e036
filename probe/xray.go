package probe

import (
	"context"
	"net/netip"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/stack"
)

// This file owns the x-ray of a TCP port: some twenty half-made connections that
// do what no TCP would, as leaving a SYN-ACK or a flight of data without an
// acknowledgment, and what their peer does then. They are segments over
// stack.Prober and not sockets, since a socket's TCP answers by itself; xrayconn.go
// owns what each of them does, xrayread.go what is read from it.

// XRayRequest says whom to look at. Only Dst has to be set.
type XRayRequest struct {
	// Dst, Src, DstPort, Device, TTL and TOS are as those of Request; Timeout
	// is how long a SYN, sent again after 1 s, 2 s, 4 s..., waits for its answer;
	// 0: 5 s. The other fields do not count.
	Request
	// Send is what to say to make the peer send much, as a request for a long
	// page: without it the initial window cannot be seen.
	Send []byte
	// Samples is how many connections are compared, 0: 8, at most 64.
	Samples int
	// Watch is for how long a SYN-ACK stays unacknowledged, 0: 8 s.
	Watch time.Duration
	// Pause is between the samples, 0: 50 ms.
	Pause time.Duration
	// SmallMSS is announced to the peer so that a short answer shows its initial
	// window, 0: 64 bytes; it is asked by the usual MSS too.
	SmallMSS int
}

// XRaySegment is a segment that was sent or heard.
type XRaySegment struct {
	At      time.Duration `json:"at_ns"` // from the connection's first
	Sent    bool          `json:"sent"`  // by us
	Flags   string        `json:"flags"` // as "SA", in the order of CEUAPRSF with e for AE
	Seq     uint32        `json:"seq"`   // absolute
	Ack     uint32        `json:"ack"`
	Length  int           `json:"length"` // of its data in bytes
	Window  int           `json:"window"` // as it stands in the header
	Options []string      `json:"options,omitempty"`
	TTL     int           `json:"ttl,omitempty"` // of what was heard, and the next two
	IPID    int           `json:"ip_id,omitempty"`
	ECN     int           `json:"ecn,omitempty"`
}

// XRayConn is one of the connections, segment by segment.
type XRayConn struct {
	Purpose  string        `json:"purpose"` // of roleNames
	Port     uint16        `json:"port"`    // ours
	Segments []XRaySegment `json:"segments"`
}

// StartXRay begins; done is told what was seen, on a goroutine of the stack's.
// The function that is returned ends it early, with what there is.
func (p *Prober) StartXRay(q XRayRequest, done func(XRayResult)) (stop func()) {
	setDefault(&q.Samples, 8)
	q.Samples = min(q.Samples, 64)
	setDefault(&q.SmallMSS, 64)
	for _, d := range []struct {
		p *time.Duration
		v time.Duration
	}{{&q.Timeout, 5 * time.Second}, {&q.Watch, 8 * time.Second}, {&q.Pause, 50 * time.Millisecond}} {
		if *d.p <= 0 {
			*d.p = d.v
		}
	}
	if q.DstPort == 0 {
		q.DstPort = DefaultTCPPort
	}
	x := &xray{q: q, done: done}
	x.init(p, x.tick, func() { x.fail(ErrClosed) })
	x.mu.Lock()
	defer x.unlock()
	if err := x.begin(); err != nil {
		x.fail(err)
	}
	return func() {
		x.mu.Lock()
		x.finish()
		x.unlock()
	}
}

// XRay looks, and returns when all is seen or ctx ends.
func (p *Prober) XRay(ctx context.Context, q XRayRequest) XRayResult {
	return wait(ctx, func(done func(XRayResult)) func() { return p.StartXRay(q, done) })
}

// xray is one under way. It has a stack.Prober of its own, so that segments to
// its ports come here whole.
type xray struct {
	session
	q       XRayRequest
	done    func(XRayResult)
	out     *stack.Prober
	route   stack.ProbeRoute
	begun   mono.Time
	conns   []*xrayConn
	agains  int // of roleAgain that were answered
	reserve []uint16
	refusal XRayError // the first ICMP error
	err     error
	id      uint16
}

func (x *xray) begin() (err error) {
	s := x.p.stack
	if x.out, err = s.NewProber(xrayHandler{x}); err != nil {
		return err
	}
	var dev *stack.Interface
	for _, i := range s.Interfaces() {
		if i.Name() == x.q.Device {
			dev = i
		}
	}
	if x.q.Device != "" && dev == nil {
		return syscall.ENODEV
	}
	if x.route, err = x.out.Route(x.q.Dst.Unmap(), x.q.Src, dev); err != nil {
		return err
	}
	if x.route.Group() {
		return syscall.EINVAL
	}
	x.begun = x.out.Now()
	x.id = uint16(s.RandUint64())
	_, err = x.open(roleFirst, 0, 0)
	return err
}

// open makes a connection whose SYN leaves after a delay. Port 0 takes a free one.
func (x *xray) open(role xrayRole, delay time.Duration, port uint16) (*xrayConn, error) {
	if port == 0 {
		n, err := x.out.ReservePort(protoTCP, 0)
		if err != nil {
			return nil, err
		}
		port = n
		x.reserve = append(x.reserve, n)
	}
	r := x.p.stack.RandUint64()
	c := &xrayConn{x: x, role: role, port: port, iss: uint32(r), tsval: uint32(r >> 32)}
	c.start = x.out.Now().Add(delay)
	c.due = c.start
	x.conns = append(x.conns, c)
	x.arm()
	return c, nil
}

// answered begins with everything else, once it is known that somebody listens.
func (x *xray) answered(first *xrayConn) {
	delay, pause := x.q.Pause, x.q.Pause
	open := func(role xrayRole, port uint16) {
		if _, err := x.open(role, delay, port); err != nil && x.err == nil {
			x.err = err // there are no ports left: less is seen
		}
		delay += pause
	}
	open(roleSilent, 0)
	open(roleIW, 0)
	if len(x.q.Send) > 0 {
		open(roleSmallIW, 0)
	}
	for range x.q.Samples - 1 {
		open(roleSample, 0)
	}
	open(roleAgain, first.port)
	for _, r := range []xrayRole{rolePlain, roleECN, roleAccECN, roleFastOpen, roleClose, roleStray} {
		open(r, 0)
	}
	// One more at the end of the time, for the clocks.
	delay = max(delay, x.q.Watch-time.Second)
	open(roleSample, 0)
}

// againTimes is how often the first port is used once more: what is the clock's and
// what the connection's.
const againTimes = 3

// again begins the next connection of the first port when the one before it has had
// its answer and its reset: to two at a time nobody would answer.
func (x *xray) again(before *xrayConn) {
	if x.agains++; x.agains < againTimes {
		if _, err := x.open(roleAgain, x.q.Pause, before.port); err != nil && x.err == nil {
			x.err = err
		}
	}
}

// fail ends it before anything was sent.
func (x *xray) fail(err error) {
	x.err = err
	x.finish()
}

// arm sets the timer to what is next; when nothing is, it is over.
func (x *xray) arm() {
	if x.over {
		return
	}
	var when mono.Time
	for _, c := range x.conns {
		when = mono.Earliest(when, c.due)
	}
	if when == 0 {
		x.finish()
		return
	}
	x.wake(when)
}

func (x *xray) tick(now mono.Time) {
	x.p.mu.Lock()
	closed := x.p.closed
	x.p.mu.Unlock()
	if closed {
		x.fail(ErrClosed)
		return
	}
	for i := 0; i < len(x.conns); i++ {
		if c := x.conns[i]; c.due.Due(now) && !x.over {
			c.due = 0
			c.expire(now)
		}
	}
	x.arm()
}

func (x *xray) finish() {
	if x.over {
		return
	}
	now := mono.Time(0)
	if x.out != nil {
		now = x.out.Now()
	}
	for _, c := range x.conns {
		c.reset(now) // whoever still keeps something for us
	}
	r := x.read()
	x.end(func() {
		if x.out != nil {
			for _, port := range x.reserve {
				x.out.ReleasePort(protoTCP, port)
			}
			x.out.Close()
		}
		x.done(r)
	})
}

// xrayHandler keeps the stack's calls out of xray's methods.
type xrayHandler struct{ x *xray }

// ProbeExpire implements stack.ProbeHandler; the timer is the Prober's.
func (h xrayHandler) ProbeExpire(mono.Time) {}

// ProbeClosed implements stack.ProbeHandler.
func (h xrayHandler) ProbeClosed() {
	h.x.mu.Lock()
	h.x.fail(ErrClosed)
	h.x.unlock()
}

// ProbeInput implements stack.ProbeHandler.
func (h xrayHandler) ProbeInput(in stack.ProbeInput) {
	x := h.x
	x.mu.Lock()
	defer x.unlock()
	switch {
	case x.over:
	case in.Quoted || in.Err != 0:
		x.failed(&in)
	default:
		if x.segment(&in) {
			x.arm()
		}
	}
}

// find returns the newest connection of a port that has sent something.
func (x *xray) find(port uint16) *xrayConn {
	for i := len(x.conns) - 1; i >= 0; i-- {
		if c := x.conns[i]; c.port == port && len(c.segs) > 0 {
			return c
		}
	}
	return nil
}

func (x *xray) segment(in *stack.ProbeInput) bool {
	s, ok := parseXRay(in.Message)
	if !ok || in.Protocol != protoTCP || in.From != x.route.Dst() || in.To != x.route.Src() || s.sport != x.q.DstPort {
		return false
	}
	c := x.find(s.dport)
	if c == nil {
		return false
	}
	s.ttl, s.ecn, s.unit = in.TTL, in.TOS&3, in.SegmentSize
	if in.From.Is4() && len(in.Network) >= 20 {
		s.ipid, s.df = uint16(in.Network[4])<<8|uint16(in.Network[5]), in.Network[6]&0x40 != 0
	}
	c.input(in.At, &s)
	return true
}

// XRayError is an ICMP error about a SYN, or a neighbour that is silent.
type XRayError struct {
	From netip.Addr `json:"from"`
	ICMP bool       `json:"icmp"` // false: the neighbour does not answer
	Type uint8      `json:"type"`
	Code uint8      `json:"code"`
}

// failed is for errors; only the first connection's say anything new.
func (x *xray) failed(in *stack.ProbeInput) {
	q, t := in.Quote, in.Quote.Transport
	if q.Protocol != protoTCP || q.Dst != x.route.Dst() || q.Src != x.route.Src() || len(t) < 8 {
		return
	}
	port, seq := uint16(t[0])<<8|uint16(t[1]), uint32(t[4])<<24|uint32(t[5])<<16|uint32(t[6])<<8|uint32(t[7])
	c := x.find(port)
	// RFC 5927 §4.1: a quote of what was not sent is nobody's.
	if c == nil || seq-c.iss > uint32(len(x.q.Send)+2) || x.refusal.From.IsValid() {
		return
	}
	e := XRayError{From: in.From}
	if in.Err == 0 {
		if len(in.Message) < icmp.HeaderLen {
			return
		}
		e.ICMP, e.Type, e.Code = true, in.Message[0], in.Message[1]
	}
	x.refusal = e
	if c.role == roleFirst && c.synAck == nil {
		c.due = 0 // that is the answer
		x.arm()
	}
}
