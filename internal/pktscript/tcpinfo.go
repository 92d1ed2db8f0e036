package pktscript

import (
	"encoding/binary"
	"math"

	"github.com/tapstack/tapstack/socket"
)

// This file owns the fields of tcp_info as assertions see them: by name, out of
// what getsockopt(TCP_INFO) gives.

// infoFields are the fields of the kernel's struct tcp_info in their order, with
// their sizes in bytes. No field is without a name, and none has padding before it.
var infoFields = []struct {
	size  int
	names []string
}{
	{1, []string{"state", "ca_state", "retransmits", "probes", "backoff", "options", "wscales", "flags"}},
	{4, []string{"rto", "ato", "snd_mss", "rcv_mss", "unacked", "sacked", "lost", "retrans", "fackets",
		"last_data_sent", "last_ack_sent", "last_data_recv", "last_ack_recv", "pmtu", "rcv_ssthresh", "rtt", "rttvar",
		"snd_ssthresh", "snd_cwnd", "advmss", "reordering", "rcv_rtt", "rcv_space", "total_retrans"}},
	{8, []string{"pacing_rate", "max_pacing_rate", "bytes_acked", "bytes_received"}},
	{4, []string{"segs_out", "segs_in", "notsent_bytes", "min_rtt", "data_segs_in", "data_segs_out"}},
	{8, []string{"delivery_rate", "busy_time", "rwnd_limited", "sndbuf_limited"}},
	{4, []string{"delivered", "delivered_ce"}},
	{8, []string{"bytes_sent", "bytes_retrans"}},
	{4, []string{"dsack_dups", "reord_seen", "rcv_ooopack", "snd_wnd", "rcv_wnd", "rehash"}},
	{2, []string{"total_rto", "total_rto_recoveries"}},
	{4, []string{"total_rto_time", "received_ce", "delivered_e1_bytes", "delivered_e0_bytes", "delivered_ce_bytes",
		"received_e1_bytes", "received_e0_bytes", "received_ce_bytes"}},
	{2, []string{"accecn_fail_mode", "accecn_opt_seen"}},
}

// tcpInfo sets the fields in v.
func (f *file) tcpInfo(v env) {
	if f.fd == nil {
		return
	}
	b := make([]byte, socket.TCPInfoLen)
	n, err := f.fd.GetsockoptTCPInfo(b)
	if err != nil {
		return
	}
	b = b[:n]
	for _, group := range infoFields {
		for _, name := range group.names {
			x := uint64(0)
			switch group.size {
			case 1:
				x = uint64(b[0])
			case 2:
				x = uint64(binary.NativeEndian.Uint16(b))
			case 4:
				x = uint64(binary.NativeEndian.Uint32(b))
			case 8:
				x = binary.NativeEndian.Uint64(b)
			}
			b = b[group.size:]
			v["tcpi_"+name] = int64(min(x, math.MaxInt64))
		}
	}
	// Those that are bits of a byte.
	scales, flags := v["tcpi_wscales"].(int64), v["tcpi_flags"].(int64)
	v["tcpi_snd_wscale"], v["tcpi_rcv_wscale"] = scales&15, scales>>4
	v["tcpi_delivery_rate_app_limited"], v["tcpi_fastopen_client_fail"] = flags&1, flags>>1&3
}
