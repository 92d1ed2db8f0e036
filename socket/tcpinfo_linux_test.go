package socket_test

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
	"golang.org/x/sys/unix"
)

// overlay reads an encoded struct tcp_info as the kernel's headers have it.
func overlay(t *testing.T, b []byte) (info unix.TCPInfo, bits [2]byte) {
	t.Helper()
	if uintptr(len(b)) < unsafe.Sizeof(info) {
		t.Fatalf("%d bytes, the kernel's headers have %d", len(b), unsafe.Sizeof(info))
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&info)), unsafe.Sizeof(info)), b)
	return info, [2]byte{b[6], b[7]} // bit fields, which unix.TCPInfo does not name
}

// Each field is where the kernel's headers have it.
func TestTCPInfoLayout(t *testing.T) {
	i := tcp.Info{
		State: tcp.CloseWait, CAState: tcp.CALoss,
		RTT: 11 * time.Microsecond, RTTVar: 12 * time.Microsecond, RTO: 13 * time.Microsecond, MinRTT: 14 * time.Microsecond,
		Cwnd: 15000, Ssthresh: 16000, MSS: 1000, AdvMSS: 1460, RcvMSS: 17, PathMTU: 18,
		SndWnd: 19, RcvWnd: 20, RcvSsthresh: 21, RcvRTT: 55 * time.Microsecond, RcvSpace: 56, SndWScale: 7, RcvWScale: 9,
		Unsent: 22, Unacked: 22001, SACKed: 23000, Lost: 24000, Resent: 25000, Reordering: 26,
		Timestamps: true, SACK: true, WScale: true, SynData: true, PacingRate: 45, DeliveryRate: 46, DeliveryRateLimited: true,
		RetransmitsInRow: 27, ProbesInRow: 28, Backoff: 300, ATO: 29 * time.Microsecond,
		LastDataSent: 30 * time.Millisecond, LastDataIn: 31 * time.Millisecond, LastAckIn: -1,
		BytesIn: 1<<40 + 1, BytesOut: 1<<40 + 2, BytesAcked: 1<<40 + 3, BytesResent: 1<<40 + 4,
		SegmentsIn: 1<<32 + 5, SegmentsOut: 32, DataSegsIn: 33, DataSegsOut: 34, Delivered: 35, Retransmits: 36,
		Timeouts: 1 << 20, TimeoutEpisodes: 37, TimeoutTime: 38 * time.Millisecond,
		DSACKDups: 39, ReorderSeen: 40, OutOfOrderIn: 41,
		BusyTime: 42 * time.Microsecond, RwndLimited: 43 * time.Microsecond, SndbufLimited: 44 * time.Microsecond,
		ECN: tcp.FeedbackAccurate, ECNSeen: true, AccECNIn: true, ReceivedCE: 47, DeliveredCE: 48,
		DeliveredMarks: tcp.Marks{ECT0: 49, ECT1: 50, CE: 51}, ReceivedMarks: tcp.Marks{ECT0: 52, ECT1: 53, CE: 54},
	}
	b := socket.AppendTCPInfo([]byte{1, 2, 3}, &i)[3:]
	if len(b) != socket.TCPInfoLen {
		t.Errorf("%d bytes", len(b))
	}
	got, bits := overlay(t, b)
	want := unix.TCPInfo{
		State: unix.BPF_TCP_CLOSE_WAIT, Ca_state: 4, Retransmits: 27, Probes: 28, Backoff: 255, Options: 7 | 8 | 16 | 32,
		Rto: 13, Ato: 29, Snd_mss: 1000, Rcv_mss: 17, Unacked: 23, Sacked: 23, Lost: 49, Retrans: 25,
		Last_data_sent: 30, Last_data_recv: 31, Last_ack_recv: 1<<32 - 1,
		Pmtu: 18, Rcv_ssthresh: 21, Rtt: 11, Rttvar: 12, Snd_ssthresh: 16, Snd_cwnd: 15, Advmss: 1448, Reordering: 26, Rcv_rtt: 55, Rcv_space: 56,
		Total_retrans: 36, Pacing_rate: 45, Max_pacing_rate: 1<<64 - 1,
		Bytes_acked: 1<<40 + 3, Bytes_received: 1<<40 + 1, Segs_out: 32, Segs_in: 5, Notsent_bytes: 22, Min_rtt: 14,
		Data_segs_in: 33, Data_segs_out: 34, Delivery_rate: 46, Busy_time: 42, Rwnd_limited: 43, Sndbuf_limited: 44,
		Delivered: 35, Delivered_ce: 48, Bytes_sent: 1<<40 + 2, Bytes_retrans: 1<<40 + 4, Dsack_dups: 39, Reord_seen: 40, Rcv_ooopack: 41,
		Snd_wnd: 19, Rcv_wnd: 20, Total_rto: 65535, Total_rto_recoveries: 37, Total_rto_time: 38,
		Received_ce: 47, Delivered_e1_bytes: 50, Delivered_e0_bytes: 49, Delivered_ce_bytes: 51,
		Received_e1_bytes: 53, Received_e0_bytes: 52, Received_ce_bytes: 54,
	}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if bits != [2]byte{7 | 9<<4, 1} {
		t.Errorf("scales %x", bits)
	}
	if n := binary.NativeEndian.Uint16(b[278:]); n != 2 {
		t.Errorf("tcpi_accecn_opt_seen %d", n)
	}
	i.Ssthresh, i.PacingRate = 1<<30, 0
	if got, _ := overlay(t, socket.AppendTCPInfo(nil, &i)); got.Snd_ssthresh != 0x7fffffff || got.Pacing_rate != 1<<64-1 {
		t.Errorf("no threshold: %#x, no pace: %d", got.Snd_ssthresh, got.Pacing_rate)
	}
	for s, n := range map[tcp.State]uint8{tcp.Established: 1, tcp.SynSent: 2, tcp.SynReceived: 3, tcp.FinWait1: 4, tcp.FinWait2: 5,
		tcp.TimeWait: 6, tcp.Closed: 7, tcp.CloseWait: 8, tcp.LastAck: 9, tcp.Listen: 10, tcp.Closing: 11} {
		if b := socket.AppendTCPInfo(nil, &tcp.Info{State: s}); b[0] != n {
			t.Errorf("%v is %d, want %d", s, b[0], n)
		}
	}
}

// The same conversation on the kernel's loopback and on ours has the same
// numbers, as far as they do not depend on time and segment sizes.
func TestTCPInfoAsTheKernel(t *testing.T) {
	watch(t)
	const sent, answered = 200_000, 5000
	talk := func(c, s net.Conn) {
		t.Helper()
		for _, x := range []struct {
			from, to net.Conn
			n        int
		}{{c, s, sent}, {s, c, answered}} {
			go x.from.Write(make([]byte, x.n))
			if _, err := io.ReadFull(x.to, make([]byte, x.n)); err != nil {
				t.Fatal(err)
			}
		}
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	kc, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer kc.Close()
	ks, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer ks.Close()
	talk(kc, ks)
	raw, _ := kc.(*net.TCPConn).SyscallConn()
	kernel := make([]byte, 1024)
	raw.Control(func(fd uintptr) {
		n := uint32(len(kernel))
		_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_TCP, unix.TCP_INFO,
			uintptr(unsafe.Pointer(&kernel[0])), uintptr(unsafe.Pointer(&n)), 0)
		if e != 0 {
			t.Error(e)
		}
		kernel = kernel[:n]
	})
	if len(kernel) > socket.TCPInfoLen {
		t.Logf("this kernel's struct has %d bytes, ours %d", len(kernel), socket.TCPInfoLen)
	}
	kernel = append(kernel, make([]byte, 1024)...)
	want, wantBits := overlay(t, kernel)

	p := newPair(t, wire.Options{})
	f, g := stream(t, p)
	defer f.Close()
	defer g.Close()
	for _, x := range []struct {
		from, to *socket.FD
		n        int
	}{{f, g, sent}, {g, f, answered}} {
		go x.from.Send(make([]byte, x.n), 0)
		for got := 0; got < x.n; {
			n, err := x.to.Recv(make([]byte, x.n), 0)
			if err != nil {
				t.Fatal(err)
			}
			got += n
		}
	}
	b := make([]byte, 1024)
	n, err := f.GetsockoptTCPInfo(b)
	if err != nil || n != socket.TCPInfoLen {
		t.Fatal(n, err)
	}
	got, gotBits := overlay(t, b[:n])
	if got.State != want.State || got.Ca_state != want.Ca_state || got.Options != want.Options&7 ||
		got.Bytes_received != want.Bytes_received || got.Bytes_sent != want.Bytes_sent || got.Unacked != want.Unacked ||
		got.Retransmits != want.Retransmits || got.Total_retrans != want.Total_retrans || got.Lost != want.Lost ||
		got.Notsent_bytes != want.Notsent_bytes ||
		// The kernel remembers these two for a destination, from whatever went there before.
		got.Snd_ssthresh != math.MaxInt32 || got.Reordering != 3 ||
		// The kernel's client counts its SYN among the bytes acknowledged.
		got.Bytes_acked != want.Bytes_acked-1 {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for name, pair := range map[string][2]bool{
		"rtt":      {got.Rtt > 0, want.Rtt > 0},
		"rto":      {got.Rto >= 200_000, want.Rto >= 200_000},
		"cwnd":     {got.Snd_cwnd >= 10, want.Snd_cwnd >= 10},
		"segments": {got.Data_segs_out > 0 && got.Data_segs_in > 0, want.Data_segs_out > 0 && want.Data_segs_in > 0},
		"windows":  {got.Snd_wnd > 0 && got.Rcv_wnd > 0, want.Snd_wnd > 0 && want.Rcv_wnd > 0},
		"scales":   {gotBits[0] > 0, wantBits[0] > 0},
		"sizes":    {got.Snd_mss > 500 && got.Pmtu > 500 && got.Advmss > 500, want.Snd_mss > 500 && want.Pmtu > 500 && want.Advmss > 500},
	} {
		if !pair[0] || !pair[1] {
			t.Errorf("%s: here %v, in the kernel %v\n%+v\n%+v", name, pair[0], pair[1], got, want)
		}
	}
	if n, _ := f.GetsockoptTCPInfo(b[:100]); n != 100 {
		t.Errorf("a short buffer got %d bytes", n)
	}
}

// stream is a connection from p.a to p.b.
func stream(t *testing.T, p *pair) (client, server *socket.FD) {
	t.Helper()
	l := newFD(t, p.b, socket.SOCK_STREAM)
	defer l.Close()
	client = newFD(t, p.a, socket.SOCK_STREAM)
	to := netip.MustParseAddrPort("10.77.0.2:9")
	if err := l.Bind(to); err != nil {
		t.Fatal(err)
	}
	if i, err := l.TCPInfo(); err != nil || i.State != tcp.Closed {
		t.Errorf("before listen: %v, %v", i.State, err)
	}
	if err := l.Listen(1); err != nil {
		t.Fatal(err)
	}
	if i, err := l.TCPInfo(); err != nil || i.State != tcp.Listen {
		t.Errorf("listener: %v, %v", i.State, err)
	}
	if err := client.Connect(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	server, _, err := l.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return client, server
}

func newFD(t *testing.T, s *stack.Stack, typ int) *socket.FD {
	t.Helper()
	f, err := socket.Socket(s, socket.AF_INET, typ, 0)
	must(t, err)
	return f
}

func TestTCPInfoOfOthers(t *testing.T) {
	watch(t)
	s := lone(t)
	f := newFD(t, s, socket.SOCK_DGRAM)
	if _, err := f.TCPInfo(); err != syscall.ENOPROTOOPT {
		t.Error(err)
	}
	if _, err := f.GetsockoptTCPInfo(nil); err != syscall.ENOPROTOOPT {
		t.Error(err)
	}
	f.Close()
	if _, err := f.TCPInfo(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}
