package pktscript

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// This file owns the comparison of what the stack sent with what the script
// expects.

// merge makes one frame of segments that follow each other, as a super-frame
// would have been: a script says what is sent, not into how many pieces a
// device cuts it.
func merge(list []*frame) *frame {
	f := *list[0]
	last := list[len(list)-1]
	f.payload = nil
	for _, p := range list {
		f.payload = append(f.payload, p.payload...)
	}
	ends := flagsOf("FP")
	f.flags = f.flags&^ends | last.flags&ends
	f.at, f.ack, f.win, f.opts = last.at, last.ack, last.win, last.opts
	return &f
}

// follows reports whether b continues a as the next piece of one super-frame.
func follows(a, b *frame) bool {
	soft := flagsOf("FPW") // may differ between the pieces
	return b.proto == TCP && a.seq+uint32(len(a.payload)) == b.seq && a.flags&^soft == b.flags&^soft && !a.has('F') &&
		len(b.payload) > 0
}

// match compares a frame, in the script's numbers, with what is expected. It
// returns what differs, or "".
func (r *runner) match(k *Packet, f *frame, w *flow) string {
	switch {
	case f.fragment:
		return "it is a fragment"
	case f.proto != k.Proto:
		return "another protocol"
	}
	if d := matchIP(k.IP, f, w); d != "" {
		return d
	}
	switch k.Proto {
	case UDP:
		if len(f.payload) != k.Len {
			return fmt.Sprintf("%d bytes", len(f.payload))
		}
		return ""
	case ICMP:
		return matchICMP(k, f)
	}
	return r.matchTCP(k, f)
}

func matchIP(i IPInfo, f *frame, w *flow) string {
	ecn := f.tos & 3
	switch {
	case i.ECN == "ect01":
		if ecn != 1 && ecn != 2 {
			return fmt.Sprintf("ECN field %d", ecn)
		}
	case i.ECN != "" && ecn != ecnBits[i.ECN]:
		return fmt.Sprintf("ECN field %d instead of %d", ecn, ecnBits[i.ECN])
	case i.TOS >= 0 && f.tos != i.TOS:
		return fmt.Sprintf("TOS %#x instead of %#x", f.tos, i.TOS)
	case i.TTL >= 0 && f.ttl != i.TTL:
		return fmt.Sprintf("TTL %d instead of %d", f.ttl, i.TTL)
	}
	if i.FlowLabel <= 0 {
		return ""
	}
	// A script only says which packets have the same label.
	defer func() { w.hasLabel, w.scriptLabel, w.realLabel = true, i.FlowLabel, f.flowLabel }()
	switch {
	case f.flowLabel == 0:
		return "no flow label"
	case w.hasLabel && (i.FlowLabel == w.scriptLabel) != (f.flowLabel == w.realLabel):
		return "another flow label, or the same"
	}
	return ""
}

func matchICMP(k *Packet, f *frame) string {
	v6 := f.src.Is6()
	typ, err := icmpNumber(icmpTypes, v6, k.Type, "type_")
	code := uint8(0)
	if err == nil && k.Code != "" {
		code, err = icmpNumber(icmpCodes, v6, k.Code, "code_")
	}
	switch {
	case err != nil:
		return err.Error()
	case f.icmpType != typ || f.icmpCode != code:
		return fmt.Sprintf("type %d, code %d instead of %d, %d", f.icmpType, f.icmpCode, typ, code)
	}
	return ""
}

// matchTCP compares segments. PSH is compared like every flag.
func (r *runner) matchTCP(k *Packet, f *frame) string {
	want := flagsOf(k.Flags)
	if k.ACE >= 0 {
		want = withACE(want, k.ACE)
	}
	differ := f.flags ^ want
	if r.cfg.anyPush {
		differ &^= flagsOf("P")
	}
	switch {
	case differ != 0:
		return fmt.Sprintf("flags %s instead of %s", flagString(f.flags), flagString(want))
	case f.seq != k.Seq:
		return fmt.Sprintf("sequence number %d instead of %d", f.seq, k.Seq)
	case len(f.payload) != k.Len:
		return fmt.Sprintf("%d bytes instead of %d", len(f.payload), k.Len)
	case f.has('.') && f.ack != k.Ack:
		return fmt.Sprintf("ack %d instead of %d", f.ack, k.Ack)
	case k.Win >= 0 && int(f.win) != k.Win && !r.script.BSD:
		return fmt.Sprintf("window %d instead of %d", f.win, k.Win)
	case f.urg != uint16(k.Urg):
		return fmt.Sprintf("urgent pointer %d instead of %d", f.urg, k.Urg)
	}
	if d := r.matchOptions(k, f); d != "" {
		return d
	}
	return ""
}

// matchText checks the bytes of a segment against the stream. plain is false
// when the script wrote text of its own.
func matchText(f *frame, isn uint32, plain bool) string {
	if f.proto != TCP || !plain || len(f.payload) == 0 {
		return ""
	}
	want := make([]byte, len(f.payload))
	fill(want, streamAt(f.seq, isn, f.has('S')))
	if !bytes.Equal(want, f.payload) {
		return "the payload is not what was written there"
	}
	return ""
}

func (r *runner) matchOptions(k *Packet, f *frame) string {
	if k.AnyOpts {
		return ""
	}
	want, got := k.Opts, f.opts
	if r.script.BSD {
		want, got = asSet(want), asSet(got)
	}
	if len(want) != len(got) {
		return r.optionsDiffer(want, got)
	}
	for i := range want {
		if !r.sameOption(&want[i], &got[i]) {
			return r.optionsDiffer(want, got)
		}
	}
	return ""
}

func (r *runner) optionsDiffer(want, got []TCPOption) string {
	return fmt.Sprintf("options <%s> instead of <%s>", optionsString(got), optionsString(want))
}

func (r *runner) sameOption(want, got *TCPOption) bool {
	switch {
	case want.Kind != got.Kind:
		return false
	case want.Kind == optNOP || want.Kind == optEOL:
		return true
	case want.Kind == optWScale && r.script.BSD:
		return true
	case want.Kind == optTS:
		if (want.Data == nil) != (got.Data == nil) || r.opt.Strict && want.TSEcr != got.TSEcr {
			return false
		}
		if r.cfg.tsTick == 0 {
			return true
		}
		d := int64(int32(got.TSVal - want.TSVal))
		return max(d, -d)*r.cfg.tsTick <= r.tsTolerance()
	}
	return bytes.Equal(want.Data, got.Data) && slices.Equal(want.Blocks, got.Blocks)
}

// asSet drops padding and puts the rest in a fixed order.
func asSet(list []TCPOption) []TCPOption {
	set := slices.DeleteFunc(slices.Clone(list), func(o TCPOption) bool { return o.Kind == optNOP || o.Kind == optEOL })
	slices.SortStableFunc(set, func(a, b TCPOption) int { return int(a.Kind) - int(b.Kind) })
	return set
}

// String writes the packet as the script did.
func (k *Packet) String() string {
	var b strings.Builder
	if k.Out {
		b.WriteString("> ")
	} else {
		b.WriteString("< ")
	}
	if k.IP.ECN != "" {
		fmt.Fprintf(&b, "[%s] ", k.IP.ECN)
	}
	switch k.Proto {
	case UDP:
		fmt.Fprintf(&b, "udp (%d)", k.Len)
		return b.String()
	case ICMP:
		fmt.Fprintf(&b, "icmp %s %s", k.Type, k.Code)
		return b.String()
	}
	flags := flagsOf(k.Flags)
	if k.ACE >= 0 {
		flags = withACE(flags, k.ACE)
	}
	fmt.Fprintf(&b, "%s %d:%d(%d)", flagString(flags), k.Seq, k.Seq+uint32(k.Len), k.Len)
	if k.HasAck {
		fmt.Fprintf(&b, " ack %d", k.Ack)
	}
	if k.Win >= 0 {
		fmt.Fprintf(&b, " win %d", k.Win)
	}
	if k.Urg > 0 {
		fmt.Fprintf(&b, " urg %d", k.Urg)
	}
	switch {
	case k.AnyOpts:
		b.WriteString(" <...>")
	case len(k.Opts) > 0:
		fmt.Fprintf(&b, " <%s>", optionsString(k.Opts))
	}
	return b.String()
}
