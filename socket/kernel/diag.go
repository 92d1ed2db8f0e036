package kernel

// This file owns what the kernel tells of a socket besides bytes: its record of
// a connection (TCP_INFO) and the queue of ICMP errors (IP_RECVERR, ip(7)).

import (
	"encoding/binary"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/tcp"
)

// states are the kernel's numbers of the states of a connection.
var states = map[uint8]tcp.State{
	unix.BPF_TCP_ESTABLISHED: tcp.Established, unix.BPF_TCP_SYN_SENT: tcp.SynSent, unix.BPF_TCP_SYN_RECV: tcp.SynReceived,
	unix.BPF_TCP_FIN_WAIT1: tcp.FinWait1, unix.BPF_TCP_FIN_WAIT2: tcp.FinWait2, unix.BPF_TCP_TIME_WAIT: tcp.TimeWait,
	unix.BPF_TCP_CLOSE: tcp.Closed, unix.BPF_TCP_CLOSE_WAIT: tcp.CloseWait, unix.BPF_TCP_LAST_ACK: tcp.LastAck,
	unix.BPF_TCP_LISTEN: tcp.Listen, unix.BPF_TCP_CLOSING: tcp.Closing,
}

// Bits of tcpi_options.
const (
	optTimestamps = 1 << iota
	optSACK
	optWScale
	optECN
	optECNSeen
	optSynData
)

// TCPInfo returns what struct tcp_info says, in the units of tcp.Info: bytes
// where the kernel counts segments. Fields that the kernel does not have, as
// PeerMSS, are zero.
func (s *Socket) TCPInfo() (i tcp.Info, err error) {
	var k *unix.TCPInfo
	if err = s.control(func(fd int) (err error) {
		k, err = unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		return err
	}); err != nil {
		return i, err
	}
	usec := func(n uint32) time.Duration { return time.Duration(n) * time.Microsecond }
	mss := int(k.Snd_mss)
	i = tcp.Info{
		State: states[k.State], CAState: tcp.CAState(k.Ca_state),
		RTT: usec(k.Rtt), RTTVar: usec(k.Rttvar), RTO: usec(k.Rto), MinRTT: usec(k.Min_rtt),
		MSS: mss, AdvMSS: int(k.Advmss), RcvMSS: int(k.Rcv_mss), PathMTU: int(k.Pmtu),
		Cwnd: int(k.Snd_cwnd) * mss, SndWnd: int(k.Snd_wnd), RcvWnd: int(k.Rcv_wnd),
		Unacked: int(k.Unacked) * mss, Unsent: int(k.Notsent_bytes),
		Timestamps: k.Options&optTimestamps != 0, SACK: k.Options&optSACK != 0, WScale: k.Options&optWScale != 0,
		SynData: k.Options&optSynData != 0, ECNSeen: k.Options&optECNSeen != 0,
		RetransmitsInRow: int(k.Retransmits), ProbesInRow: int(k.Probes), Backoff: int(k.Backoff),
		BytesIn: k.Bytes_received, BytesOut: k.Bytes_sent, BytesAcked: k.Bytes_acked, BytesResent: k.Bytes_retrans,
		SegmentsIn: uint64(k.Segs_in), SegmentsOut: uint64(k.Segs_out), Retransmits: uint64(k.Total_retrans),
	}
	if i.Timestamps {
		i.AdvMSS += 12 // of which the kernel counts what is left
	}
	if k.Options&optECN != 0 {
		i.ECN = tcp.FeedbackClassic
	}
	if i.WScale {
		shifts := *(*uint8)(unsafe.Add(unsafe.Pointer(k), wscaleOffset)) // a bit field, which x/sys leaves out
		i.SndWScale, i.RcvWScale = int(shifts&15), int(shifts>>4)
	}
	return i, nil
}

// wscaleOffset is where in struct tcp_info the two window scales are.
const wscaleOffset = 6

// Error is an ICMP error about something that a socket sent, or one that the
// host itself made of it.
type Error struct {
	Errno      unix.Errno
	Type, Code uint8
	From       netip.Addr // who sent the message; not valid if the host did without one
}

// sizeofExtendedError is the length of struct sock_extended_err, before the
// address of who complains.
const sizeofExtendedError = 16

// NextError takes an error from the socket's queue, into which they go once
// IP_RECVERR or IPV6_RECVERR is set; EAGAIN when there is none. For a stream
// that is those of its handshake, since Linux 5.11.
func (s *Socket) NextError() (e Error, err error) {
	oob := make([]byte, 512)
	n := 0
	err = s.control(func(fd int) (err error) {
		_, n, _, _, err = unix.Recvmsg(fd, nil, oob, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		return err
	})
	if err != nil {
		return e, err
	}
	list, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		return e, err
	}
	for _, m := range list {
		v4 := m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_RECVERR
		v6 := m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_RECVERR
		if d := m.Data; (v4 || v6) && len(d) >= sizeofExtendedError {
			e.Errno, e.Type, e.Code = unix.Errno(binary.NativeEndian.Uint32(d)), d[5], d[6]
			e.From = offender(d[sizeofExtendedError:])
			return e, nil
		}
	}
	return e, unix.EAGAIN
}

// offender is the address in a sockaddr; not valid if it has none.
func offender(b []byte) (a netip.Addr) {
	if len(b) < 2 {
		return a
	}
	switch family := binary.NativeEndian.Uint16(b); {
	case family == unix.AF_INET && len(b) >= 8:
		a, _ = netip.AddrFromSlice(b[4:8])
	case family == unix.AF_INET6 && len(b) >= 24:
		a, _ = netip.AddrFromSlice(b[8:24])
	}
	return a.Unmap()
}

// SetLinger is SO_LINGER, as socket.FD's.
func (s *Socket) SetLinger(sec int) error {
	l := &unix.Linger{}
	if sec >= 0 {
		l.Onoff, l.Linger = 1, int32(sec)
	}
	return s.control(func(fd int) error { return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, l) })
}
