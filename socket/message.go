package socket

// This file owns sendmsg(2), recvmsg(2) and their forms for many messages:
// pieces of a message in several buffers, and what is told of it in control
// messages, whose layout is in cmsg.go.

import (
	"encoding/binary"
	"io"
	"net/netip"
	"sync"
	"syscall"

	"github.com/tapstack/tapstack/stack"
)

// Msg is struct msghdr, and with N struct mmsghdr.
type Msg struct {
	// Name is where Sendmsg sends to, the zero AddrPort for the peer, and where
	// from Recvmsg has received.
	Name netip.AddrPort
	// Buffers are the pieces of the message, in order.
	Buffers [][]byte
	// Control is what Sendmsg is told of the message, and the room that Recvmsg
	// has for what it tells.
	Control []byte
	// ControlLen is how much of Control Recvmsg has filled.
	ControlLen int
	// Flags are those that Recvmsg returns: MSG_TRUNC, MSG_CTRUNC, MSG_ERRQUEUE,
	// MSG_OOB.
	Flags int
	// N is the number of bytes that Sendmmsg or Recvmmsg has moved.
	N int
}

// scratch holds messages on their way between several buffers and the one that
// the stack takes.
var scratch = sync.Pool{New: func() any { return new([65536]byte) }}

// size is the length of all buffers together.
func size(buffers [][]byte) (n int) {
	for _, b := range buffers {
		n += len(b)
	}
	return n
}

// gather returns the bytes of all buffers in one piece, and where that is to be
// given back to, if not nil.
func gather(buffers [][]byte) ([]byte, *[65536]byte) {
	n := size(buffers)
	switch {
	case n == 0:
		return nil, nil
	case len(buffers) == 1:
		return buffers[0], nil
	}
	p := scratch.Get().(*[65536]byte)
	all := p[:0] // of a stream it may be more, and moves then
	for _, b := range buffers {
		all = append(all, b...)
	}
	return all, p
}

// scatter fills the buffers with b.
func scatter(buffers [][]byte, b []byte) {
	for _, to := range buffers {
		b = b[copy(to, b):]
	}
}

// Sendmsg is sendmsg(2): SendTo of what is in all buffers. The control messages
// of a datagram are IP_PKTINFO, IP_TTL, IP_TOS, IP_RETOPTS, IPV6_PKTINFO, IPV6_HOPLIMIT,
// IPV6_TCLASS, IPV6_DONTFRAG, IPV6_HOPOPTS, IPV6_DSTOPTS, IPV6_RTHDR,
// IPV6_RTHDRDSTOPTS, IPV6_FLOWINFO, IPV6_USE_MIN_MTU and UDP_SEGMENT. Errors beside those of SendTo and
// SendSegments: EINVAL for another control message of these levels and for a
// bad one, ENODEV for an interface that does not exist. A stream takes none.
func (f *FD) Sendmsg(m *Msg, flags int) (int, error) {
	b, p := gather(m.Buffers)
	if p != nil {
		defer scratch.Put(p)
	}
	if f.dgram == nil {
		if err := f.streamControl(m.Control); err != nil {
			return 0, err
		}
		return f.SendTo(b, flags, m.Name)
	}
	info := stack.NewSendInfo()
	return f.sendDatagram(b, flags, m.Name, m.Control, &info)
}

// Sendmmsg is sendmmsg(2): it sends messages until one fails, and returns how
// many it has sent; the error only if that is none.
func (f *FD) Sendmmsg(msgs []Msg, flags int) (int, error) {
	for i := range msgs {
		n, err := f.Sendmsg(&msgs[i], flags)
		if err != nil {
			if i > 0 {
				err = nil
			}
			return i, err
		}
		msgs[i].N = n
	}
	return len(msgs), nil
}

// Recvmsg is recvmsg(2): it fills the buffers one after the other, and Control
// with what was asked for by options. From the queue of errors, with
// MSG_ERRQUEUE, it takes one, see ExtendedError; it does not wait for one.
// EAGAIN: there is none.
func (f *FD) Recvmsg(m *Msg, flags int) (int, error) {
	b, p := []byte(nil), (*[65536]byte)(nil)
	switch n := size(m.Buffers); {
	case n == 0:
	case len(m.Buffers) == 1:
		b = m.Buffers[0]
	case n <= 65536 || f.dgram != nil || flags&MSG_WAITALL == 0:
		p = scratch.Get().(*[65536]byte)
		defer scratch.Put(p)
		b = p[:min(n, 65536)]
	default:
		b = make([]byte, n)
	}
	m.Name, m.Flags, m.ControlLen = netip.AddrPort{}, 0, 0
	n, err := f.recvmsg(m, b, flags)
	if len(m.Buffers) > 1 {
		scatter(m.Buffers, b[:min(max(n, 0), len(b))])
	}
	return n, err
}

func (f *FD) recvmsg(m *Msg, b []byte, flags int) (n int, err error) {
	if flags&MSG_ERRQUEUE != 0 {
		return f.recvError(m, b)
	}
	if f.packet != nil {
		if n, _, err = f.RecvPacket(b, flags|MSG_TRUNC); n > len(b) {
			m.Flags = MSG_TRUNC
			if flags&MSG_TRUNC == 0 {
				n = len(b)
			}
		}
		return n, err
	}
	if f.dgram == nil {
		if n, err = f.Recv(b, flags); err == nil && flags&MSG_OOB != 0 {
			m.Flags |= MSG_OOB
		}
		if f.want.Load()&wantInq != 0 && (err == nil || err == io.EOF) {
			if c, _ := f.stream(); c != nil {
				f.putInq(m, c)
			}
		}
		return n, err
	}
	if news, ok := f.dgram.TakePathMTUNews(); ok {
		f.controlPathMTU(m, news)
		return 0, nil
	}
	var a stack.Arrival
	if n, err = f.recvDatagram(b, flags, &a); err != nil {
		return n, err
	}
	m.Name = f.fromStack(a.From)
	if a.Size > len(b) {
		m.Flags |= MSG_TRUNC
	}
	f.control(m, &a)
	return n, nil
}

// Recvmmsg is recvmmsg(2): it waits for the first message, and for others only
// without MSG_WAITFORONE and MSG_DONTWAIT. It returns how many there are; the
// error only if that is none, else it is for the next call.
func (f *FD) Recvmmsg(msgs []Msg, flags int) (int, error) {
	one := flags&MSG_WAITFORONE != 0
	flags &^= MSG_WAITFORONE
	for i := range msgs {
		n, err := f.Recvmsg(&msgs[i], flags)
		if err != nil {
			return i, f.later(i, err)
		}
		msgs[i].N = n
		if one {
			flags |= MSG_DONTWAIT
		}
	}
	return len(msgs), nil
}

// later leaves the error that has ended a batch to the next call, unless it is
// that of the first of n messages.
func (f *FD) later(n int, err error) error {
	if n == 0 {
		return err
	}
	errno, ok := err.(syscall.Errno)
	if !ok || errno == syscall.EAGAIN {
		return nil
	}
	switch c := f.Stream(); {
	case f.dgram != nil:
		f.dgram.PutError(errno)
	case f.packet != nil:
		f.packet.PutError(errno)
	case c != nil:
		c.PutError()
	}
	return nil
}

// What Recvmsg was asked to tell: bits of FD.want.
const (
	wantPktInfo = 1 << iota
	wantTTL
	wantTOS
	wantOrigDst
	wantPktInfo6
	wantHops6
	wantClass6
	wantFlow6
	wantOrigDst6
	wantTime
	wantTimeNS
	wantLost
	wantInq // of a stream
	wantHopOpts
	wantDstOpts
	wantRouting

	wantHeaders = wantHopOpts | wantDstOpts | wantRouting
	wantOptions
	wantReplyOptions
)

// control writes the control messages that the socket was asked for, in the
// kernel's order.
func (f *FD) control(m *Msg, a *stack.Arrival) {
	want := f.want.Load()
	if want == 0 && a.Segment == 0 {
		return
	}
	w := controlWriter{b: m.Control}
	f.controlSocket(&w, want, a)
	if a.Segment > 0 {
		w.putInt(SOL_UDP, UDP_GRO, a.Segment)
	}
	f.controlIP(&w, want, a)
	m.ControlLen = w.n
	if w.cut {
		m.Flags |= MSG_CTRUNC
	}
}

func (f *FD) controlSocket(w *controlWriter, want uint32, a *stack.Arrival) {
	if want&(wantTime|wantTimeNS) != 0 {
		var d [16]byte
		t := a.Time()
		binary.NativeEndian.PutUint64(d[:], uint64(t.Unix()))
		typ, fraction := SO_TIMESTAMPNS, t.Nanosecond()
		if want&wantTime != 0 {
			typ, fraction = SO_TIMESTAMP, fraction/1000
		}
		binary.NativeEndian.PutUint64(d[8:], uint64(fraction))
		w.put(SOL_SOCKET, typ, d[:])
	}
	if want&wantLost != 0 && a.Lost > 0 {
		w.putInt(SOL_SOCKET, SO_RXQ_OVFL, int(a.Lost))
	}
}

// controlIP tells of the IP header. A socket of AF_INET6 that has received IPv4
// may be asked for either kind.
func (f *FD) controlIP(w *controlWriter, want uint32, a *stack.Arrival) {
	var d [sockaddrLen6]byte
	if want&wantPktInfo6 != 0 && f.domain == AF_INET6 {
		ip := a.To.As16()
		copy(d[:], ip[:])
		binary.NativeEndian.PutUint32(d[16:], uint32(a.Interface.Index()))
		w.put(IPPROTO_IPV6, IPV6_PKTINFO, d[:20])
	}
	if a.To.Is4() {
		if want&wantPktInfo != 0 {
			binary.NativeEndian.PutUint32(d[:], uint32(a.Interface.Index()))
			local, to := netip.IPv4Unspecified().As4(), a.To.As4()
			if ip := a.Local(); ip.Is4() {
				local = ip.As4()
			}
			copy(d[4:], local[:])
			copy(d[8:], to[:])
			w.put(IPPROTO_IP, IP_PKTINFO, d[:12])
		}
		if want&wantTTL != 0 {
			w.putInt(IPPROTO_IP, IP_TTL, int(a.Hops))
		}
		if want&wantTOS != 0 {
			w.put(IPPROTO_IP, IP_TOS, []byte{a.TOS})
		}
		if want&wantOptions != 0 && len(a.Options) > 0 {
			w.put(IPPROTO_IP, IP_RECVOPTS, a.Options)
		}
		if want&wantReplyOptions != 0 {
			if b := a.ReplyOptions(); len(b) > 0 {
				w.put(IPPROTO_IP, IP_RETOPTS, b)
			}
		}
	} else {
		if want&wantHops6 != 0 {
			w.putInt(IPPROTO_IPV6, IPV6_HOPLIMIT, int(a.Hops))
		}
		if want&wantClass6 != 0 {
			w.putInt(IPPROTO_IPV6, IPV6_TCLASS, int(a.TOS))
		}
		if want&wantFlow6 != 0 && a.FlowInfo != 0 {
			binary.BigEndian.PutUint32(d[:], a.FlowInfo)
			w.put(IPPROTO_IPV6, IPV6_FLOWINFO, d[:4])
		}
		if want&wantHeaders != 0 {
			controlHeaders(w, want, a)
		}
	}
	if bit, level, typ := originalTo(a.To); want&bit != 0 {
		clear(d[:])
		scope := 0
		if a.To.IsLinkLocalUnicast() {
			scope = a.Interface.Index()
		}
		n := putSockaddr(d[:], netip.AddrPortFrom(a.To, f.dgram.LocalAddr().Port()), scope)
		w.put(level, typ, d[:n])
	}
}

// originalTo is how the address and port are told that a datagram was sent to.
func originalTo(to netip.Addr) (bit uint32, level, typ int) {
	if to.Is4() {
		return wantOrigDst, IPPROTO_IP, IP_ORIGDSTADDR
	}
	return wantOrigDst6, IPPROTO_IPV6, IPV6_ORIGDSTADDR
}
