package check

// This file owns what a result has beyond pyminitcp's fields, as JSON and as
// lines for people.

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// FullJSON is JSON with what more is known behind the twelve fields.
func (r *Result) FullJSON() string { return jsonText(r.full(), 2) }

func (r *Result) full() object {
	var attempts list
	for i := range r.Attempts {
		attempts = append(attempts, r.Attempts[i].object())
	}
	o := append(r.seed(),
		member{"network", r.Network},
		member{"verdict", string(r.Verdict)},
		member{"reason", r.Reason},
		member{"service", orNull(r.Service)},
		member{"summary", orNull(r.Summary)},
		member{"banner_hex", orNull(hex.EncodeToString(r.Answer))},
		member{"match", orNull(strings.ToValidUTF8(string(r.Match), "\uFFFD"))},
		member{"attempts", attempts},
	)
	if r.TLS == nil {
		return append(o, member{"tls", nil})
	}
	return append(o, member{"tls", r.TLS.object()})
}

func (at *Attempt) object() object {
	o := object{
		{"sockaddr", list{at.Addr.Addr().String(), int(at.Addr.Port())}},
		{"verdict", string(at.Verdict)},
		{"time", seconds(at.Took)},
		{"error", at.Text},
		{"phase", orNull(string(at.Phase))},
		{"errno_name", orNull(at.ErrnoName)},
		{"icmp", nil},
		{"tcp", nil},
	}
	if rep := at.Report; rep != nil {
		var from any
		if rep.From.IsValid() {
			from = rep.From.String()
		}
		o[6].value = object{{"from", from}, {"type", int(rep.Type)}, {"code", int(rep.Code)}, {"text", rep.Name()}}
	}
	if at.Handshake != nil {
		o[7].value = at.Handshake.object()
	}
	return o
}

func (h *Handshake) object() object {
	var at list
	for _, d := range h.SYNAt {
		at = append(at, seconds(d))
	}
	o := object{
		{"syns", orNull(h.SYNs)},
		{"syn_times", at},
		{"syn_acks", orNull(h.SYNACKs)},
		{"answered_syn", orNull(h.Answered)},
		{"rtt", orNull(seconds(h.RTT))},
		{"retransmits", h.Retransmits},
		{"reset", h.Reset},
	}
	if !h.Options {
		return append(o, member{"options", nil})
	}
	var scale any
	if h.WScale {
		scale = list{h.SndShift, h.RcvShift}
	}
	return append(o,
		member{"options", object{
			{"mss", h.MSS}, {"peer_mss", orNull(h.PeerMSS)}, {"window_scale", scale}, {"sack", h.SACK},
			{"timestamps", h.Timestamps}, {"ecn", orNull(h.ECN)}, {"window", orNull(h.Window)}, {"path_mtu", orNull(h.PathMTU)},
		}},
		member{"bytes_sent", h.Sent},
		member{"bytes_acked", h.Acked},
		member{"bytes_received", h.Received},
		member{"bytes_unacked", h.Unacked},
	)
}

func (t *TLSReport) object() object {
	var names list
	for _, n := range t.Names {
		names = append(names, n)
	}
	return object{
		{"version", t.Version}, {"cipher", t.Cipher}, {"alpn", orNull(t.ALPN)}, {"time", seconds(t.Took)},
		{"subject", t.Subject}, {"issuer", t.Issuer}, {"names", names},
		{"not_before", t.NotBefore.UTC().Format(time.RFC3339)}, {"not_after", t.NotAfter.UTC().Format(time.RFC3339)},
		{"seconds_left", seconds(t.Left)}, {"chain", t.Chain}, {"chain_not_after", t.Earliest.UTC().Format(time.RFC3339)}, {"serial", t.Serial}, {"sha256", t.Fingerprint},
		{"valid", t.Fault == ""}, {"fault", orNull(t.Fault)},
	}
}

// printMore writes what is not among pyminitcp's lines.
func (r *Result) printMore(line func(label, hue, value string)) {
	line("Verdict", "", fmt.Sprintf("%s: %s", r.Verdict, printable(r.Reason)))
	for i := range r.Attempts {
		if h := r.Attempts[i].Handshake; h != nil && h.Options {
			line("Handshake", "", h.String())
		}
	}
	if t := r.TLS; t != nil {
		line("TLS", "", printable(strings.Join(append([]string{t.Version, t.Cipher}, nonEmpty(t.ALPN)...), ", ")))
		line("Certificate", "", printable(fmt.Sprintf("%s, by %s, until %s (%s)", t.Subject, t.Issuer, t.NotAfter.UTC().Format(time.DateOnly), days(t.Left))))
		if t.Fault != "" {
			line("Fault", "", printable(t.Fault))
		}
	}
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// String is the handshake in a line.
func (h *Handshake) String() string {
	var list []string
	add := func(format string, a ...any) { list = append(list, fmt.Sprintf(format, a...)) }
	if h.SYNs > 0 {
		add("%d SYN", h.SYNs)
	}
	if h.RTT > 0 {
		add("rtt %s ms", millis(h.RTT))
	}
	add("MSS %d", h.MSS)
	if h.PeerMSS > 0 {
		add("peer's %d", h.PeerMSS)
	}
	if h.WScale {
		add("window scale %d and %d", h.SndShift, h.RcvShift)
	}
	if h.SACK {
		add("SACK")
	}
	if h.Timestamps {
		add("timestamps")
	}
	if h.ECN != "" && h.ECN != "none" {
		add("ECN %s", h.ECN)
	}
	if n := h.Retransmits - max(h.SYNs-1, 0); n > 0 {
		add("%d retransmissions", n)
	}
	return strings.Join(list, ", ")
}
