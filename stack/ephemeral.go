package stack

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/tcp"
)

// This file owns which local port a connection or socket gets that does not
// ask for one (RFC 6056), and when it may have that of a connection in
// TIME-WAIT (RFC 6191).

// PortRange is a range of ports, both ends included.
type PortRange struct{ First, Last uint16 }

// ephemeralPorts is Linux's ip_local_port_range. (RFC 6335 §6 sets 49152 to
// 65535 apart for this, RFC 6056 §3.2 asks for as many as possible.)
var ephemeralPorts = PortRange{32768, 60999}

// localPorts chooses ports.
type localPorts struct {
	first, count uint32
	reserved     []PortRange

	once sync.Once
	next *[nextPorts]atomic.Uint32 // the table of RFC 6056 §3.3.4, made when needed
}

// nextPorts is the size of that table. Destinations that share an entry can
// find out something about each other; RFC 6056 suggests 10, Linux began with
// 256 and has 65536 since that was done.
const nextPorts = 4096

// portShuffle is how often the destinations change places in the table, so
// that nobody can recognise a host by which ones share an entry. Linux's
// EPHEMERAL_PORT_SHUFFLE_PERIOD.
const portShuffle = 10 * time.Second

func (l *localPorts) init(r PortRange, reserved []PortRange) {
	if r.First == 0 || r.Last < r.First {
		r = ephemeralPorts
	}
	l.first, l.count = uint32(r.First), uint32(r.Last)-uint32(r.First)+1
	l.reserved = reserved
}

func (l *localPorts) isReserved(port uint16) bool {
	for _, r := range l.reserved {
		if r.First <= port && port <= r.Last {
			return true
		}
	}
	return false
}

// scan offers ports from the range's offset-th on, until take accepts one or
// none is left. As in Linux, one half of the ports is offered before the other:
// the even ones, counted from the first, if offset is even. It returns the
// port, how many of its half were offered before it, and whether it is of the
// half that was offered first.
func (l *localPorts) scan(offset uint32, take func(port uint16) bool) (port uint16, passed uint32, first, ok bool) {
	for half := range uint32(2) {
		at := offset ^ half
		// The last port of an odd number of them has no partner.
		for passed := range (l.count + 1) / 2 {
			if at >= l.count {
				at &= 1
			}
			if port := uint16(l.first + at); at < l.count && !l.isReserved(port) && take(port) {
				return port, passed, half == 0, true
			}
			at += 2
		}
	}
	return 0, 0, false, false
}

// forSocket finds a port for a socket that binds to port 0: at a random place,
// and for TCP in the half of the range that connections try last, so that the
// two are not in each other's way.
func (l *localPorts) forSocket(rnd uint32, tcp bool, take func(port uint16) bool) (uint16, bool) {
	offset := rnd % l.count
	if tcp {
		offset |= 1
	}
	port, _, _, ok := l.scan(offset, take)
	return port, ok
}

// forConnection finds a port for a connection from local to remote until try
// succeeds, by the double-hash algorithm of RFC 6056 §3.3.4 as Linux has it:
// one hash of the destination says where in the range to begin, another which
// counter to add. Ports towards one destination follow each other, so that each
// comes back as late as possible and a search begins behind the ports in use;
// towards different ones they have nothing in common. EADDRNOTAVAIL when none
// is free.
//
// Unlike in Linux the lowest bit of the counter says in which half the last
// search ended, and the next begins there: once the even ports are used up,
// each search would look at all of them before it finds an odd one.
func (s *Stack) forConnection(now mono.Time, local netip.Addr, remote netip.AddrPort, try func(port uint16) error) error {
	l := &s.localPorts
	l.once.Do(func() {
		l.next = new([nextPorts]atomic.Uint32)
		rnd := s.newRand()
		for i := range l.next {
			l.next[i].Store(rnd.Uint32() &^ 1)
		}
	})
	hash := tcp.PortHash(s.secret, local, remote, uint32(int64(now)/int64(portShuffle)))
	next := &l.next[hash%nextPorts]
	// 32 bits, so that the remainder favours no port.
	n := next.Load()
	offset := (n&^1+uint32(hash>>32)&^1)%l.count&^1 | n&1
	err := error(syscall.EADDRINUSE)
	_, passed, first, ok := l.scan(offset, func(port uint16) bool {
		err = try(port)
		return err != syscall.EADDRINUSE
	})
	if !ok {
		return syscall.EADDRNOTAVAIL
	}
	// A step of some ports more than needed: what others learn from two ports
	// is not how many connections lie between.
	step := 2 * (max(passed, s.randUint32()%8) + 1)
	if !first {
		step ^= 1
	}
	next.Add(step)
	return err
}

// TimeWaitReuse says when a new connection may take the ports of one in
// TIME-WAIT that goes to the same destination.
type TimeWaitReuse uint8

// The modes, as tcp_tw_reuse 2, 0 and 1 of Linux.
const (
	TimeWaitReuseLoopback TimeWaitReuse = iota // from or to a loopback address
	TimeWaitReuseOff
	TimeWaitReuseAlways
)

// timeWaitReuseAfter is how long the old connection must have been over, so
// that the timestamps of the new one are later (Linux's tcp_tw_reuse_delay).
const timeWaitReuseAfter = time.Second

// takeOver ends the TIME-WAIT under id for a connection that this side opens,
// if that is safe: old segments are told by their timestamps (RFC 6191 §2,
// RFC 7323 §5.3), so both must have used them. A port that the program chose
// itself is taken at once, another one after a second and if the stack's mode
// allows.
func (t *tcpTable) takeOver(now mono.Time, id fourTuple, chosen bool) (successor, bool) {
	after := timeWaitReuseAfter
	switch mode := t.stack.tcpcfg.TimeWaitReuse; {
	case chosen:
		after = 0
	case mode == TimeWaitReuseOff,
		mode == TimeWaitReuseLoopback && !id.local.Addr().IsLoopback() && !id.remote.Addr().IsLoopback():
		return successor{}, false
	}
	e, ok := t.lookup(id).(*timeWaitEntry)
	if !ok {
		return successor{}, false
	}
	t.wait.mu.Lock()
	ok = e.rec.Reusable(now, after)
	t.wait.mu.Unlock()
	if !ok {
		return successor{}, false
	}
	t.stack.stats.TCP.TimeWaitReused.inc()
	return t.wait.remove(e), true
}
