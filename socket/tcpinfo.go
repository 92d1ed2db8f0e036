package socket

import (
	"encoding/binary"
	"math"
	"net"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/tcp"
)

// This file owns TCP_INFO: a connection's numbers in the layout of the kernel's
// struct tcp_info (linux/tcp.h), for programs that read it as bytes. Those that
// do not ask TCPInfo.

// TCP_INFO is the option's number.
const TCP_INFO = 11

// TCPInfoLen is the length of struct tcp_info as of Linux 6.18. A shorter buffer
// gets a shorter struct, as from the kernel.
const TCPInfoLen = 280

// kernelStates are the numbers of the kernel's enum for the states.
var kernelStates = map[tcp.State]byte{
	tcp.Established: 1, tcp.SynSent: 2, tcp.SynReceived: 3, tcp.FinWait1: 4, tcp.FinWait2: 5, tcp.TimeWait: 6,
	tcp.Closed: 7, tcp.CloseWait: 8, tcp.LastAck: 9, tcp.Listen: 10, tcp.Closing: 11,
}

// Bits of tcpi_options.
const (
	infoTimestamps = 1 << iota
	infoSACK
	infoWScale
	infoECN
	infoECNSeen
	infoSynData
)

// infiniteSsthresh is how the kernel says that there is no threshold yet.
const infiniteSsthresh = 0x7fffffff

// TCPInfo returns the numbers of a stream socket's connection. Without one only
// State means something: Listen or Closed. ENOPROTOOPT for other sockets,
// net.ErrClosed after Close.
func (f *FD) TCPInfo() (tcp.Info, error) {
	if f.closed.Load() {
		return tcp.Info{}, net.ErrClosed
	}
	if f.typ != SOCK_STREAM {
		return tcp.Info{}, syscall.ENOPROTOOPT
	}
	f.mu.Lock()
	conn, listening := f.conn, f.listening
	f.mu.Unlock()
	switch {
	case conn != nil:
		return conn.Info(), nil
	case listening:
		return tcp.Info{State: tcp.Listen}, nil
	}
	return tcp.Info{State: tcp.Closed}, nil
}

// GetsockoptTCPInfo is getsockopt(2) for TCP_INFO: it fills b with the beginning
// of a struct tcp_info and returns how many bytes that is. Errors are those of
// TCPInfo.
func (f *FD) GetsockoptTCPInfo(b []byte) (int, error) {
	i, err := f.TCPInfo()
	if err != nil {
		return 0, err
	}
	return copy(b, AppendTCPInfo(nil, &i)), nil
}

// AppendTCPInfo appends i to b in the layout of the kernel's struct tcp_info,
// TCPInfoLen bytes in the machine's byte order. What the kernel counts in
// segments is divided by the segment size. Fields that mean nothing here, such
// as tcpi_fackets, are zero, as they are in the kernel today.
func AppendTCPInfo(b []byte, i *tcp.Info) []byte {
	w := infoWriter{b: b}
	w.u8(kernelStates[i.State], byte(i.CAState), saturate8(i.RetransmitsInRow), saturate8(i.ProbesInRow), saturate8(i.Backoff))
	w.u8(bit(i.Timestamps, infoTimestamps) | bit(i.SACK, infoSACK) | bit(i.WScale, infoWScale) |
		bit(i.ECN != tcp.FeedbackNone, infoECN) | bit(i.ECNSeen, infoECNSeen) | bit(i.SynData, infoSynData))
	w.u8(byte(i.SndWScale)&15|byte(i.RcvWScale)<<4, bit(i.DeliveryRateLimited, 1))

	segs := func(bytes int) int {
		if i.MSS == 0 {
			return 0
		}
		return (bytes + i.MSS - 1) / i.MSS
	}
	whole := func(bytes int) int { return bytes / max(i.MSS, 1) }
	ssthresh := whole(i.Ssthresh)
	if i.Ssthresh >= 1<<30 {
		ssthresh = infiniteSsthresh
	}
	advMSS := i.AdvMSS
	if i.Timestamps {
		advMSS -= 12 // the kernel counts what is left of it
	}
	pacing := uint64(math.MaxUint64) // none
	if i.PacingRate > 0 {
		pacing = uint64(i.PacingRate)
	}
	w.usec(i.RTO, i.ATO)
	w.u32(i.MSS, i.RcvMSS)
	lost := i.Lost
	if i.CAState >= tcp.CARecovery {
		lost += i.Resent // lost until it arrives, to the kernel
	}
	w.u32(segs(i.Unacked), segs(i.SACKed), segs(lost), segs(i.Resent), 0)
	w.msec(i.LastDataSent, 0, i.LastDataIn, i.LastAckIn)
	w.u32(i.PathMTU, i.RcvSsthresh)
	w.usec(i.RTT, i.RTTVar)
	w.u32(ssthresh, whole(i.Cwnd), advMSS, i.Reordering)
	w.usec(0) // tcpi_rcv_rtt
	w.u32(0)  // tcpi_rcv_space
	w.u32(int(i.Retransmits))
	w.u64(pacing, math.MaxUint64) // no limit
	w.u64(i.BytesAcked, i.BytesIn)
	w.u32(int(i.SegmentsOut), int(i.SegmentsIn), i.Unsent)
	w.usec(i.MinRTT)
	w.u32(int(i.DataSegsIn), int(i.DataSegsOut))
	w.u64(uint64(i.DeliveryRate))
	w.u64(uint64(i.BusyTime.Microseconds()), uint64(i.RwndLimited.Microseconds()), uint64(i.SndbufLimited.Microseconds()))
	w.u32(int(i.Delivered), int(i.DeliveredCE))
	w.u64(i.BytesOut, i.BytesResent)
	w.u32(int(i.DSACKDups), int(i.ReorderSeen), int(i.OutOfOrderIn), i.SndWnd, i.RcvWnd, 0)
	w.u16(int(i.Timeouts), int(i.TimeoutEpisodes))
	w.u32(int(i.TimeoutTime.Milliseconds()))
	w.u32(int(i.ReceivedCE))
	for _, m := range []tcp.Marks{i.DeliveredMarks, i.ReceivedMarks} {
		w.u32(int(m.ECT1), int(m.ECT0), int(m.CE))
	}
	w.u16(0) // tcpi_accecn_fail_mode
	switch {
	case i.AccECNIgnored:
		w.u16(3)
	case i.AccECNIn:
		w.u16(2)
	default:
		w.u16(0)
	}
	return w.b
}

// infoWriter appends the fields of the struct. All are at their natural
// alignment, so that nothing is between them.
type infoWriter struct{ b []byte }

func (w *infoWriter) u8(list ...byte) { w.b = append(w.b, list...) }

func (w *infoWriter) u16(list ...int) {
	for _, n := range list {
		w.b = binary.NativeEndian.AppendUint16(w.b, uint16(min(n, math.MaxUint16)))
	}
}

// u32 appends counters, which wrap, and sizes, which are smaller.
func (w *infoWriter) u32(list ...int) {
	for _, n := range list {
		w.b = binary.NativeEndian.AppendUint32(w.b, uint32(n))
	}
}

func (w *infoWriter) u64(list ...uint64) {
	for _, n := range list {
		w.b = binary.NativeEndian.AppendUint64(w.b, n)
	}
}

func (w *infoWriter) usec(list ...time.Duration) {
	for _, d := range list {
		w.u32(int(min(max(d.Microseconds(), 0), math.MaxUint32)))
	}
}

// msec appends how long ago something was; what never was is as long ago as it
// gets.
func (w *infoWriter) msec(list ...time.Duration) {
	for _, d := range list {
		if d < 0 {
			d = math.MaxUint32 * time.Millisecond
		}
		w.u32(int(min(d.Milliseconds(), math.MaxUint32)))
	}
}

func bit(on bool, b byte) byte {
	if on {
		return b
	}
	return 0
}

func saturate8(n int) byte { return byte(min(n, math.MaxUint8)) }
