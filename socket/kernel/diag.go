package kernel

// This file owns what the kernel tells of a socket besides bytes: its record of
// a connection (TCP_INFO) and the queue of ICMP errors (IP_RECVERR, ip(7)).

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/socket"
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

// NextError takes an error from the socket's queue, into which they go once
// IP_RECVERR or IPV6_RECVERR is set; EAGAIN when there is none. For a stream
// that is those of its handshake, since Linux 5.11.
func (s *Socket) NextError() (socket.ExtendedError, error) {
	oob := make([]byte, 512)
	n := 0
	if err := s.control(func(fd int) (err error) {
		_, n, _, _, err = unix.Recvmsg(fd, nil, oob, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		return err
	}); err != nil {
		return socket.ExtendedError{}, err
	}
	i, err := socket.ParseControl(oob[:n])
	if err != nil {
		return socket.ExtendedError{}, err
	}
	if i.Err == nil {
		return socket.ExtendedError{}, unix.EAGAIN
	}
	return *i.Err, nil
}

// SetLinger is SO_LINGER, as socket.FD's.
func (s *Socket) SetLinger(sec int) error {
	l := &unix.Linger{}
	if sec >= 0 {
		l.Onoff, l.Linger = 1, int32(sec)
	}
	return s.control(func(fd int) error { return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, l) })
}
