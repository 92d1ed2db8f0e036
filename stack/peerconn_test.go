package stack_test

import (
	"net/netip"
	"time"

	"github.com/tapstack/tapstack/internal/seq"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// peerConn is the peer's end of a connection, played by hand.
type peerConn struct {
	h            *testHost
	v6           bool
	sport, dport uint16 // the peer's and the host's
	snd, rcv     uint32 // the peer's next sequence number, and what it expects
	conn         *stack.TCPConn
	got          []byte
}

// listen makes the host listen on a port of both families.
func (h *testHost) listen(port uint16, backlog int) *stack.TCPListener {
	h.Helper()
	l, err := h.s.BindTCP(netip.AddrPortFrom(netip.IPv6Unspecified(), port), false, false)
	if err == nil {
		err = l.Listen(backlog)
	}
	if err != nil {
		h.Fatal(err)
	}
	return l
}

// connect makes a connection from the peer's port sport and accepts it.
func (h *testHost) connect(l *stack.TCPListener, v6 bool, sport uint16) *peerConn {
	h.Helper()
	return h.connectMSS(l, v6, sport, 9000)
}

func (h *testHost) connectMSS(l *stack.TCPListener, v6 bool, sport, mss uint16) *peerConn {
	h.Helper()
	p := &peerConn{h: h, v6: v6, sport: sport, dport: l.Addr().Port(), snd: 1000}
	var s tcp.Segment
	for _, f := range append(h.send(syn(v6, sport, p.dport, p.snd, mss)), h.run(5*time.Millisecond)...) {
		if x, ok := tcpOf([][]byte{f}); ok && x.DstPort == sport && x.SrcPort == p.dport {
			s = x
		}
	}
	if s.Flags != tcp.FlagSYN|tcp.FlagACK {
		h.Fatalf("a SYN was answered by %v", s.String())
	}
	p.snd++
	p.rcv = uint32(s.Seq) + 1
	p.input(tcp.FlagACK, "")
	var err error
	if p.conn, err = l.Accept(); err != nil {
		h.Fatal(err)
	}
	return p
}

// input sends a segment to the host; what comes back is left with the
// injector.
func (p *peerConn) input(flags tcp.Flags, data string) {
	p.h.d.inject(segment(p.v6, p.sport, p.dport, p.snd, p.rcv, flags, []byte(data)))
	p.h.n.RunFor(0)
	p.snd += uint32(len(data))
	if flags&tcp.FlagFIN != 0 {
		p.snd++
	}
}

// take returns the segments that the host sent on this connection and notes
// their data if it is in order.
func (p *peerConn) take() (list []tcp.Segment) {
	for _, f := range p.h.d.take() {
		s, ok := tcpOf([][]byte{f})
		if !ok || s.SrcPort != p.dport || s.DstPort != p.sport {
			continue
		}
		list = append(list, s)
		if s.Seq == seq.Num(p.rcv) {
			p.got = append(p.got, s.Payload[0]...)
			p.rcv += uint32(s.Len())
		}
	}
	return list
}
