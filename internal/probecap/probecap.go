// Package probecap chooses what --pcap of a probing command writes: the frames
// of its own probes, what answers them, and what it took to find the first hop,
// each with a comment that says what it was for. Everything else that passes is
// left out: other people's broadcasts, who probes us and what we answer them.
//
// It looks at frames at the device (pcap.Chooser). The other way would have been
// to have the prober write down what it sends and hears; but neither sockets,
// over which names are asked for and services checked, nor the finding of
// neighbours, nor fragments are the prober's, and the data path would have had
// to ask each time whether somebody is interested. So it costs nothing when
// there is no --pcap.
//
// What a probe is follows from what was declared: a packet that opens a
// conversation (an echo request, a datagram, a SYN, an INIT, a segment of no
// connection) with an address of which Toward was told; and of a command that
// listens what others open with a port of which Serve was told.
package probecap

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/tapstack/tapstack/stack"
)

// The most that is remembered. What is older is forgotten: a late answer to it
// is not in the capture.
const (
	maxProbes    = 1 << 16
	maxFragments = 1 << 10
	maxForeign   = 1 << 12
	maxGuests    = 1 << 12
	maxToward    = 1 << 16
)

// Tracker is told the frames of a link in the order in which they pass.
type Tracker struct {
	mu      sync.Mutex // guards everything below; nothing is locked under it
	nextHop func(netip.Addr) (netip.Addr, error)
	to      map[netip.Addr]struct{}  // whom the probes are for
	servers map[netip.Addr]struct{}  // of names
	served  map[service]struct{}     // where others may begin
	hops    map[netip.Addr]bool      // the first on the way; true: a router
	asked   map[netip.Addr]time.Time // when a hop was asked for last
	owed    map[netip.Addr]bool      // hops that asked for us, and are to be told

	probes   []probed
	count    uint64 // of all there were; the last is probes[(count-1)%maxProbes]
	byToken  map[identity]uint64
	byEnds   map[ends]uint64 // the last of these ends
	waiting  int             // those without an answer
	last     time.Time       // when one was sent
	frags    map[fragment]uint64
	fragList []fragment // in the order of their coming
	// foreign are connections that others began with what is not served: what
	// this host says in them is no probe.
	foreign     map[ends]struct{}
	foreignList []ends // in the order of their coming
	// toList are the addresses of to in the order of their coming, guests those of
	// them that nobody declared: they began a conversation with what is served.
	toList, guestList []netip.Addr
	guests            map[netip.Addr]struct{}
	groups            map[netip.Addr]struct{} // those of to whom others answer for
}

// promptly is how soon after a probe a neighbour that has an answer to send, and
// does not know us, asks for us. Later it is somebody else's business.
const promptly = time.Second

type identity struct {
	ends
	token uint32
}

// service is a port at which a command listens.
type service struct {
	proto uint8
	port  uint16
}

// probed is one that was sent, or a conversation that somebody else began.
type probed struct {
	identity
	name     string // "probe 3", "look-up 1"
	at       time.Time
	times    int // sent
	answered int
	shook    bool // the handshake's answer came, or it was theirs to come
}

// fragment is what the fragments of a packet have in common.
type fragment struct {
	src, dst netip.Addr
	proto    uint8
	id       uint32
}

// New makes a Tracker that knows of nothing yet.
func New() *Tracker {
	return &Tracker{to: make(map[netip.Addr]struct{}), servers: make(map[netip.Addr]struct{}), served: make(map[service]struct{}), hops: make(map[netip.Addr]bool), asked: make(map[netip.Addr]time.Time), owed: make(map[netip.Addr]bool),
		byToken: make(map[identity]uint64), byEnds: make(map[ends]uint64), frags: make(map[fragment]uint64), foreign: make(map[ends]struct{}), guests: make(map[netip.Addr]struct{}), groups: make(map[netip.Addr]struct{})}
}

// Attached tells of the stack, and of the servers that it asks for names.
func (t *Tracker) Attached(s *stack.Stack, servers []netip.Addr) {
	t.mu.Lock()
	t.nextHop = s.NextHop
	t.mu.Unlock()
	for _, a := range servers {
		t.mu.Lock()
		t.servers[a.Unmap()] = struct{}{}
		t.mu.Unlock()
		t.Toward(a)
	}
}

// Toward declares that probes will be sent to an address.
func (t *Tracker) Toward(dst netip.Addr) { t.toward(dst, false) }

// toward is Toward, of a guest for one that was not declared.
func (t *Tracker) toward(dst netip.Addr, guest bool) {
	t.mu.Lock()
	find := t.nextHop
	t.mu.Unlock()
	dst = dst.Unmap()
	hop := dst
	if find != nil {
		if h, err := find(dst); err == nil {
			hop = h
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	dst = dst.WithZone("")
	t.know(dst, guest)
	t.hops[hop.WithZone("")] = hop.WithZone("") != dst
}

// know enters an address, for which the oldest of its kind may have to go: anybody
// can be a guest, under any address.
func (t *Tracker) know(a netip.Addr, guest bool) {
	_, known := t.to[a]
	_, was := t.guests[a]
	if known && (guest || !was) {
		return
	}
	list, most := &t.toList, maxToward
	if guest {
		list, most = &t.guestList, maxGuests
		t.guests[a] = struct{}{}
	} else {
		delete(t.guests, a) // and stays in their list, where it is passed over
	}
	t.to[a] = struct{}{}
	if !guest && (a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255})) {
		t.groups[a] = struct{}{}
	}
	*list = append(*list, a)
	if len(*list) <= most {
		return
	}
	old := (*list)[0]
	*list = (*list)[1:]
	if _, is := t.guests[old]; is != guest {
		return
	}
	delete(t.to, old)
	delete(t.guests, old)
	delete(t.groups, old)
	if router, ok := t.hops[old]; ok && !router {
		delete(t.hops, old)
		delete(t.asked, old)
		delete(t.owed, old)
	}
}

// Serve declares that a port is listened at, of UDP or else of TCP.
func (t *Tracker) Serve(udp bool, port uint16) {
	t.mu.Lock()
	defer t.mu.Unlock()
	proto := uint8(protoTCP)
	if udp {
		proto = protoUDP
	}
	t.served[service{proto, port}] = struct{}{}
}

// begun is for what opens a conversation with a port that is served; 0: none is.
// It gives up the lock for a moment.
func (t *Tracker) begun(m *message, at time.Time) (n uint64) {
	if m.kind != opening {
		return 0
	}
	if _, ok := t.served[service{m.proto, m.local.Port()}]; !ok {
		if _, again := t.foreign[m.ends]; !again && m.proto == protoTCP {
			if len(t.foreignList) >= maxForeign {
				delete(t.foreign, t.foreignList[0])
				t.foreignList = t.foreignList[1:]
			}
			t.foreign[m.ends], t.foreignList = struct{}{}, append(t.foreignList, m.ends)
		}
		return 0
	}
	t.mu.Unlock()
	t.toward(m.remote.Addr(), true) // an answer may have to look for the first hop
	t.mu.Lock()
	n = t.add(probed{identity: identity{m.ends, m.token}, at: at, times: 1, answered: 1, shook: true, name: textf("conversation %d", t.count+1)})
	t.waiting--
	return n
}

// Choose is a pcap.Chooser.
func (t *Tracker) Choose(out bool, frame []byte, at time.Time) (comment string, ok bool) {
	if len(frame) < etherHeader {
		return "", false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	body := frame[etherHeader:]
	switch typ := binary.BigEndian.Uint16(frame[12:]); typ {
	case etherARP:
		return t.arp(out, body, at)
	case etherIPv4, etherIPv6:
		p, ok := parseIP(body, typ == etherIPv6)
		if !ok {
			return "", false
		}
		if p.offset > 0 {
			return t.later(&p, out)
		}
		var n uint64
		if out {
			comment, n = t.sent(&p, at)
		} else {
			comment, n = t.came(&p, at)
		}
		if n != 0 && p.more {
			t.keep(&p, n)
			comment += ", first fragment"
		}
		return comment, comment != ""
	}
	return "", false
}

// add remembers a probe.
func (t *Tracker) add(p probed) (n uint64) {
	if t.count >= maxProbes {
		old := &t.probes[t.count%maxProbes]
		gone := t.count - maxProbes + 1
		if t.byToken[old.identity] == gone {
			delete(t.byToken, old.identity)
		}
		if t.byEnds[old.ends] == gone {
			delete(t.byEnds, old.ends)
		}
		if old.answered == 0 {
			t.waiting--
		}
		*old = p
	} else {
		t.probes = append(t.probes, p)
	}
	t.count++
	t.waiting++
	t.last = p.at
	t.byToken[p.identity], t.byEnds[p.ends] = t.count, t.count
	return t.count
}

// get returns the n-th probe; nil: it was forgotten.
func (t *Tracker) get(n uint64) *probed {
	if n == 0 || n > t.count || t.count-n >= maxProbes {
		return nil
	}
	return &t.probes[(n-1)%maxProbes]
}

// sent is for a packet that leaves; n is the probe that it is of, if any.
func (t *Tracker) sent(p *packet, at time.Time) (comment string, n uint64) {
	if comment, ok := t.nd(true, p, at); ok {
		return comment, 0
	}
	m, ok := p.parse(false)
	if !ok || m.kind == echoed {
		return "", 0
	}
	id := identity{m.ends, m.token}
	if e := t.get(t.byEnds[m.ends]); e != nil && e.shook && m.proto == protoUDP {
		return textf("%s: datagram to %v", e.name, m.remote), t.byEnds[m.ends]
	}
	if m.kind == opening {
		if _, ok := t.to[p.dst]; !ok {
			return "", 0
		}
		n := t.byToken[id]
		if e := t.get(n); e != nil && (m.proto == protoTCP || m.proto == protoSCTP) {
			e.times++
			e.at = at
			return textf("%s again, transmission %d: %s", e.name, e.times, t.describe(&m, p)), n
		}
		e := probed{identity: id, at: at, times: 1}
		n = t.count + 1
		e.name = textf("probe %d", n)
		if _, ok := t.servers[p.dst]; ok && m.remote.Port() == 53 {
			e.name = textf("look-up %d", n)
		}
		return e.name + ": " + t.describe(&m, p), t.add(e)
	}
	n = t.byEnds[m.ends]
	e := t.get(n)
	if e == nil {
		_, to := t.to[p.dst]
		if _, foreign := t.foreign[m.ends]; !to || foreign || !m.stray {
			return "", 0
		}
		// Of no connection that this host has opened: it asks who answers such.
		n = t.count + 1
		e := probed{identity: id, at: at, times: 1, name: textf("probe %d", n)}
		return textf("%s: %s ttl %d to %v", e.name, segmentText(p.body), p.ttl, m.remote), t.add(e)
	}
	if m.proto == protoTCP {
		return textf("%s: %s", e.name, segmentText(p.body)), n
	}
	return textf("%s: %s", e.name, chunkText(p.body)), n
}

// describe says what a probe is.
func (t *Tracker) describe(m *message, p *packet) string {
	switch m.proto {
	case protoICMP:
		return textf("ICMP echo %d ttl %d to %v", m.token, p.ttl, p.dst)
	case protoUDP:
		if m.remote.Port() == 53 {
			if q := question(p.body); q != "" {
				return textf("DNS query for %s to %v", q, p.dst)
			}
		}
		return textf("UDP ttl %d to %v", p.ttl, m.remote)
	case protoTCP:
		return textf("SYN ttl %d to %v", p.ttl, m.remote)
	}
	return textf("SCTP INIT ttl %d to %v", p.ttl, m.remote)
}

// answer is the beginning of a comment on something that came.
func (e *probed) answer(what string, from netip.Addr, at time.Time) string {
	again := "answer to"
	if e.answered > 0 {
		again = "another answer to"
	}
	e.answered++
	return textf("%s %s: %s from %v, %s", again, e.name, what, from, since(e.at, at))
}

// hear counts an answer.
func (t *Tracker) hear(e *probed) {
	if e.answered == 0 {
		t.waiting--
	}
}

// came is for a packet that arrived.
func (t *Tracker) came(p *packet, at time.Time) (comment string, n uint64) {
	if comment, ok := t.nd(false, p, at); ok {
		return comment, 0
	}
	v6 := p.proto == protoICMP6
	if (v6 || p.proto == protoICMP) && len(p.body) >= 8 {
		if what := errorText(p.body, v6); what != "" {
			return t.reported(p, what, v6, at)
		}
	}
	m, ok := p.parse(true)
	if !ok || m.proto == protoICMP && m.kind != echoed {
		return "", 0
	}
	switch m.proto {
	case protoICMP:
		n = t.anyToken(identity{m.ends, m.token})
	default:
		if n = t.byEnds[m.ends]; n == 0 {
			n = t.group(m.ends)
		}
	}
	if n == 0 {
		n = t.begun(&m, at)
	}
	e := t.get(n)
	if e == nil {
		return "", 0
	}
	what := "datagram"
	switch m.proto {
	case protoICMP:
		what = "echo reply"
	case protoTCP:
		what = segmentText(p.body)
	case protoSCTP:
		what = chunkText(p.body)
	}
	if e.shook {
		// Within a connection it is the connection that speaks.
		return textf("%s: %s from %v", e.name, what, m.remote), n
	}
	e.shook = m.proto == protoTCP && what == "SYN-ACK"
	t.hear(e)
	return e.answer(what, p.src, at), n
}

// anyToken finds the probe of an echo reply; those to groups are answered by
// others than who was asked.
func (t *Tracker) anyToken(id identity) uint64 {
	if n := t.byToken[id]; n != 0 {
		return n
	}
	for a := range t.groups {
		id.remote = netip.AddrPortFrom(a, 0)
		if n := t.byToken[id]; n != 0 {
			return n
		}
	}
	return 0
}

// group finds the probe to a group that a datagram answers.
func (t *Tracker) group(x ends) uint64 {
	for a := range t.groups {
		x.remote = netip.AddrPortFrom(a, x.remote.Port())
		if n := t.byEnds[x]; n != 0 {
			return n
		}
	}
	return 0
}

// reported is for an ICMP error: it is of the probe that it quotes.
func (t *Tracker) reported(p *packet, what string, v6 bool, at time.Time) (string, uint64) {
	q, ok := parseIP(p.body[8:], v6)
	if !ok || q.src != p.dst || q.offset > 0 {
		return "", 0
	}
	m, ok := q.parse(false)
	if !ok {
		return "", 0
	}
	n := t.byToken[identity{m.ends, m.token}]
	if n == 0 && m.proto != protoICMP {
		// A segment behind the SYN, a quote that ends before the tag, a checksum
		// that the device finished.
		n = t.byEnds[m.ends]
	}
	e := t.get(n)
	if e == nil {
		return "", 0
	}
	if e.shook {
		return textf("%s: %s from %v", e.name, what, p.src), n
	}
	t.hear(e)
	return e.answer(what, p.src, at), n
}

// keep remembers whose fragments follow.
func (t *Tracker) keep(p *packet, n uint64) {
	f := fragment{p.src, p.dst, p.proto, p.id}
	if _, ok := t.frags[f]; !ok {
		if len(t.fragList) >= maxFragments {
			delete(t.frags, t.fragList[0])
			t.fragList = t.fragList[1:]
		}
		t.fragList = append(t.fragList, f)
	}
	t.frags[f] = n
}

// later is for a fragment that is not the first. One that comes before the first
// cannot be told from somebody else's, and is left out.
func (t *Tracker) later(p *packet, out bool) (string, bool) {
	e := t.get(t.frags[fragment{p.src, p.dst, p.proto, p.id}])
	if e == nil {
		return "", false
	}
	if out {
		return textf("%s: fragment from byte %d", e.name, p.offset), true
	}
	return textf("answer to %s: fragment from byte %d", e.name, p.offset), true
}

func textf(format string, a ...any) string { return fmt.Sprintf(format, a...) }
