package pktscript

import (
	"math"
	"time"

	"github.com/tapstack/tapstack/tcp"
)

// This file owns the fields of tcp_info as assertions see them.

// states are Linux's numbers.
var states = map[tcp.State]int64{
	tcp.Closed: 7, tcp.Listen: 10, tcp.SynSent: 2, tcp.SynReceived: 3, tcp.Established: 1, tcp.FinWait1: 4,
	tcp.FinWait2: 5, tcp.CloseWait: 8, tcp.Closing: 11, tcp.LastAck: 9, tcp.TimeWait: 6,
}

// tcpInfo sets the fields in v.
func (f *file) tcpInfo(v env) {
	if f.fd == nil {
		return
	}
	s := f.fd.Stream()
	if s == nil {
		return
	}
	i := s.Info()
	segments := func(bytes int) int64 {
		if i.MSS == 0 {
			return 0
		}
		return int64((bytes + i.MSS - 1) / i.MSS)
	}
	us := func(d time.Duration) int64 { return d.Microseconds() }
	v["tcpi_state"] = states[i.State]
	v["tcpi_snd_cwnd"] = int64(i.Cwnd / max(i.MSS, 1))
	v["tcpi_snd_ssthresh"] = int64(0x7fffffff)
	if i.Ssthresh < 1<<30 {
		v["tcpi_snd_ssthresh"] = int64(i.Ssthresh / max(i.MSS, 1))
	}
	v["tcpi_rtt"], v["tcpi_rttvar"], v["tcpi_rto"] = us(i.RTT), us(i.RTTVar), us(i.RTO)
	v["tcpi_min_rtt"] = us(i.MinRTT)
	v["tcpi_pacing_rate"], v["tcpi_delivery_rate"] = int64(math.MaxInt64), i.DeliveryRate // Linux: ~0 is not paced
	if i.PacingRate > 0 {
		v["tcpi_pacing_rate"] = i.PacingRate
	}
	v["tcpi_delivery_rate_app_limited"] = int64(0)
	if i.DeliveryRateLimited {
		v["tcpi_delivery_rate_app_limited"] = int64(1)
	}
	v["tcpi_snd_mss"] = int64(i.MSS)
	v["tcpi_snd_wscale"], v["tcpi_rcv_wscale"] = int64(i.SndWScale), int64(i.RcvWScale)
	v["tcpi_unacked"] = segments(i.Unacked)
	v["tcpi_sacked"], v["tcpi_lost"] = segments(i.SACKed), segments(i.Lost)
	v["tcpi_notsent_bytes"] = int64(i.Unsent)
	v["tcpi_snd_wnd"], v["tcpi_rcv_wnd"] = int64(i.SndWnd), int64(i.RcvWnd)
	v["tcpi_bytes_acked"], v["tcpi_bytes_received"] = int64(i.BytesAcked), int64(i.BytesIn)
	v["tcpi_bytes_sent"] = int64(i.BytesOut)
	v["tcpi_segs_in"], v["tcpi_segs_out"] = int64(i.SegmentsIn), int64(i.SegmentsOut)
	v["tcpi_total_retrans"] = int64(i.Retransmits)
	v["tcpi_rcv_ooopack"] = int64(i.OutOfOrderIn)
	v["tcpi_dsack_dups"] = int64(i.DSACKIn)
	options := int64(0)
	for n, on := range map[string]bool{"TCPI_OPT_TIMESTAMPS": i.Timestamps, "TCPI_OPT_SACK": i.SACK, "TCPI_OPT_WSCALE": i.WScale,
		"TCPI_OPT_SYN_DATA": i.SynData} {
		if on {
			options |= codeSymbols[n]
		}
	}
	v["tcpi_options"] = options
}
