package socket

// This file owns how the queue of errors of a datagram socket is read:
// recvmsg(2) with MSG_ERRQUEUE, and the struct sock_extended_err in it.

import (
	"encoding/binary"
	"net/netip"
	"syscall"

	"github.com/tapstack/tapstack/stack"
)

// ExtendedError is struct sock_extended_err with the address that follows it:
// the control message IP_RECVERR or IPV6_RECVERR of an error about a datagram.
// The message's name is where that datagram went, and its bytes are what the
// ICMP message has quoted of it.
type ExtendedError struct {
	Errno      syscall.Errno
	Origin     uint8 // stack.ErrorLocal, ErrorICMP or ErrorICMP6
	Type, Code uint8 // of the ICMP message
	Info       uint32
	Offender   netip.Addr // who sent the ICMP message
	// Extensions is where in the message's bytes the extensions of RFC 4884 begin,
	// with IP_RECVERR_RFC4884; 0: there are none, or nobody asked. BadExtensions:
	// their checksum or an object is wrong.
	Extensions    int
	BadExtensions bool
}

// extendedLen is the length of a struct sock_extended_err.
const extendedLen = 16

func (e *ExtendedError) put(b []byte) {
	binary.NativeEndian.PutUint32(b, uint32(e.Errno))
	b[4], b[5], b[6] = e.Origin, e.Type, e.Code
	binary.NativeEndian.PutUint32(b[8:], e.Info)
	binary.NativeEndian.PutUint16(b[12:], uint16(e.Extensions)) // struct sock_ee_data_rfc4884
	if e.BadExtensions {
		b[14] = flagInvalid4884
	}
}

// flagInvalid4884 is SO_EE_RFC4884_FLAG_INVALID.
const flagInvalid4884 = 1

func parseExtendedError(b []byte) (e ExtendedError, ok bool) {
	if len(b) < extendedLen {
		return e, false
	}
	e = ExtendedError{Errno: syscall.Errno(binary.NativeEndian.Uint32(b)), Origin: b[4], Type: b[5], Code: b[6],
		Info: binary.NativeEndian.Uint32(b[8:]), Extensions: int(binary.NativeEndian.Uint16(b[12:])), BadExtensions: b[14]&flagInvalid4884 != 0}
	a, _ := getSockaddr(b[extendedLen:])
	e.Offender = a.Addr()
	return e, true
}

// recvError takes an error out of the queue. A stream has no queue.
func (f *FD) recvError(m *Msg, b []byte) (int, error) {
	if err := f.mayWait(background, &f.read); err != nil {
		return 0, err
	}
	if f.dgram == nil {
		return 0, syscall.EAGAIN
	}
	var q stack.QueuedError
	n, err := f.dgram.TakeQueuedError(b, &q)
	if err != nil {
		return 0, ofStack(err)
	}
	m.Name = f.fromStack(q.To)
	m.Flags = MSG_ERRQUEUE
	if q.Message.Size > n {
		m.Flags |= MSG_TRUNC
	}
	want, w := f.want.Load(), controlWriter{b: m.Control}
	if q.Message.Interface != nil {
		f.controlSocket(&w, want&(wantTime|wantTimeNS), &q.Message)
		f.controlIP(&w, want&^(wantOrigDst|wantOrigDst6), &q.Message)
	}
	e := ExtendedError{q.Errno, q.Origin, q.Type, q.Code, q.Info, q.Offender, q.Extensions, q.BadExtensions}
	var d [extendedLen + sockaddrLen6]byte
	e.put(d[:])
	if e.Offender.IsValid() {
		scope := 0
		if e.Offender.IsLinkLocalUnicast() && e.Offender.Is6() {
			scope = q.Message.Interface.Index()
		}
		putSockaddr(d[extendedLen:], f.fromStack(netip.AddrPortFrom(e.Offender, 0)), scope)
	}
	if f.domain == AF_INET {
		w.put(IPPROTO_IP, IP_RECVERR, d[:extendedLen+sockaddrLen4])
	} else {
		w.put(IPPROTO_IPV6, IPV6_RECVERR, d[:])
	}
	m.ControlLen = w.n
	if w.cut {
		m.Flags |= MSG_CTRUNC
	}
	return n, nil
}
