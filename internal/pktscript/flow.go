package pktscript

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/tapstack/tapstack/icmp"
)

// This file owns the translation between the script's numbers and the real
// ones, and the making of the packets that the script sends.
//
// Sequence numbers of a script are relative to the initial ones, except in a
// segment with SYN, where they are absolute. The peer's initial number is the
// script's choice; the stack's is what it happens to be. Timestamps that the
// stack sends are numbered anew, so that those of the script, which usually
// begin with 100, stand for them.

// flow is a connection, or what a datagram socket talks to.
type flow struct {
	proto         Proto
	local, remote netip.AddrPort // port 0 of local: not known before the first packet
	active        bool           // connect() was called on it
	fd            int            // of the script, -1: not accepted yet

	hasLocal               bool
	localISN, scriptISN    uint32
	hasRemote              bool
	remoteISN              uint32
	lastSYN                uint32      // number of the last SYN that the script sent
	rcvNxt                 uint32      // script number behind the text the script sent in order
	early                  [][2]uint32 // text that the script sent beyond a gap
	sentAck                uint32      // the highest ack of the stack that was looked at
	tsVals                 map[uint32]uint32
	hasTS                  bool
	scriptTS, realTS       uint32 // the first timestamp that was sent
	hasLabel               bool
	scriptLabel, realLabel int
}

// owns reports whether the stack sent f on this flow, and learns the local
// port of a connection that begins with it.
func (w *flow) owns(f *frame) bool {
	if f.proto == ICMP || f.fragment {
		return f.dst == w.remote.Addr()
	}
	if f.proto != w.proto || f.dst != w.remote.Addr() || f.dstPort != w.remote.Port() {
		return false
	}
	if w.local.Port() == 0 && (w.proto == UDP || f.has('S') && !f.has('.')) {
		w.local = netip.AddrPortFrom(f.src, f.srcPort)
	}
	return f.srcPort == w.local.Port() && f.src == w.local.Addr()
}

// learn takes the stack's initial number from a SYN, when the script says that
// one is to come.
func (w *flow) learn(f *frame, k *Packet) {
	if !f.has('S') {
		return
	}
	again := f.has('.') && f.ack == w.lastSYN+1 && f.seq != w.localISN // a new life of the connection
	if !w.hasLocal || again {
		w.hasLocal, w.localISN, w.scriptISN = true, f.seq, k.Seq
		if again {
			w.remoteISN = w.lastSYN
			w.hasTS, w.tsVals = false, nil
		}
	}
}

// toScript rewrites the numbers of f, which the stack sent, to the script's.
func (w *flow) toScript(f *frame, absolute bool) {
	if f.proto != TCP {
		return
	}
	offset := w.remoteISN
	if f.has('S') {
		f.seq += w.scriptISN - w.localISN
		offset = 0
	} else if !absolute {
		f.seq -= w.localISN
	}
	if f.has('.') {
		f.ack -= offset
	}
	for i := range f.opts {
		for j, b := range f.opts[i].Blocks {
			f.opts[i].Blocks[j] = [2]uint32{b[0] - offset, b[1] - offset}
		}
	}
}

// mapTS relates the timestamp of an expected segment to that of the real one,
// and rewrites the latter to count as the script does.
func (w *flow) mapTS(f *frame, k *Packet) {
	real, script := findTS(f.opts), findTS(k.Opts)
	if real == nil {
		return
	}
	if script != nil {
		if w.tsVals == nil {
			w.tsVals = map[uint32]uint32{}
		}
		w.tsVals[script.TSVal] = real.TSVal
		if !w.hasTS {
			w.hasTS, w.scriptTS, w.realTS = true, script.TSVal, real.TSVal
		}
	}
	if w.hasTS {
		real.TSVal += w.scriptTS - w.realTS
	}
}

func findTS(list []TCPOption) *TCPOption {
	for i := range list {
		if list[i].Kind == optTS && list[i].Data == nil {
			return &list[i]
		}
	}
	return nil
}

// realTSOf returns the real timestamp for one that the script echoes: that of
// the segment which had it, or one as far from the first.
func (w *flow) realTSOf(script uint32) uint32 {
	if v, ok := w.tsVals[script]; ok {
		return v
	}
	if w.hasTS {
		return script - w.scriptTS + w.realTS
	}
	return script
}

// streamByte is byte i of every stream, in both directions.
func streamByte(i uint32) byte { return byte(i*7 + i>>8*13 + i>>16) }

// fill writes a stream from byte i on.
func fill(b []byte, i uint32) {
	for n := range b {
		b[n] = streamByte(i + uint32(n))
	}
}

// streamAt is the place in the stream of a segment's text, from its number in
// script terms: the byte behind the SYN is the first.
func streamAt(seq, isn uint32, syn bool) uint32 {
	if syn {
		return seq - isn
	}
	return seq - 1
}

// inbound makes the bytes of a packet that the script sends.
func (w *flow) inbound(k *Packet) ([]byte, error) {
	f := &frame{src: w.remote.Addr(), dst: w.local.Addr(), srcPort: w.remote.Port(), dstPort: w.local.Port()}
	f.setIP(k.IP)
	switch k.Proto {
	case UDP:
		f.payload = make([]byte, k.Len)
		fill(f.payload, 0)
		return f.wrapIP(protoUDP, f.encodeUDP()), nil
	case ICMP:
		return w.inboundICMP(f, k)
	}
	syn := hasFlag(k.Flags, 'S')
	f.flags = flagsOf(k.Flags)
	if k.ACE >= 0 {
		f.flags = withACE(f.flags, k.ACE)
	}
	if syn {
		w.lastSYN = k.Seq
		if !w.hasRemote {
			w.hasRemote, w.remoteISN = true, k.Seq
			w.rcvNxt = 1
		}
	}
	f.seq, f.ack = k.Seq, k.Ack
	at := streamAt(k.Seq, k.Seq, syn)
	switch {
	case syn:
		f.ack += w.localISN - w.scriptISN
	default:
		if !k.Absolute {
			f.seq += w.remoteISN
		}
		f.ack += w.localISN
		w.received(k)
	}
	if !hasFlag(k.Flags, '.') && !k.HasAck {
		f.ack = 0
	}
	f.win = uint16(max(k.Win, 0))
	f.urg = uint16(k.Urg)
	for _, o := range k.Opts {
		switch {
		case o.Kind == optTS && o.Data == nil && hasFlag(k.Flags, '.'):
			o.TSEcr = w.realTSOf(o.TSEcr)
		case o.Blocks != nil:
			blocks := make([][2]uint32, len(o.Blocks))
			offset := w.localISN
			if syn {
				offset -= w.scriptISN
			}
			for i, b := range o.Blocks {
				blocks[i] = [2]uint32{b[0] + offset, b[1] + offset}
			}
			o.Blocks = blocks
		}
		f.opts = append(f.opts, o)
	}
	f.payload = make([]byte, k.Len)
	fill(f.payload, at)
	b, err := f.encodeTCP()
	if err != nil {
		return nil, err
	}
	return f.wrapIP(protoTCP, b), nil
}

// received notes what of the script's text the stack has in order.
func (w *flow) received(k *Packet) {
	end := k.Seq + uint32(k.Len)
	if hasFlag(k.Flags, 'F') {
		end++
	}
	w.early = append(w.early, [2]uint32{k.Seq, end})
	for i := 0; i < len(w.early); i++ {
		if e := w.early[i]; int32(e[0]-w.rcvNxt) <= 0 {
			if int32(e[1]-w.rcvNxt) > 0 {
				w.rcvNxt = e[1]
			}
			w.early = append(w.early[:i], w.early[i+1:]...)
			i = -1
		}
	}
}

func hasFlag(flags string, c byte) bool {
	for i := range len(flags) {
		if flags[i] == c {
			return true
		}
	}
	return false
}

func (f *frame) setIP(i IPInfo) {
	f.tos = ecnBits[i.ECN]
	if i.TOS >= 0 {
		f.tos = i.TOS
	}
	f.ttl = max(i.TTL, 0)
	f.flowLabel = max(i.FlowLabel, 0)
}

// inboundICMP makes an ICMP message, with the headers of the packet it quotes
// and as much of that packet as the script says it had.
func (w *flow) inboundICMP(f *frame, k *Packet) ([]byte, error) {
	v6 := f.src.Is6()
	typ, err := icmpNumber(icmpTypes, v6, k.Type, "type_")
	if err != nil {
		return nil, err
	}
	code := uint8(0)
	if k.Code != "" {
		if code, err = icmpNumber(icmpCodes, v6, k.Code, "code_"); err != nil {
			return nil, err
		}
	}
	var rest [4]byte
	switch {
	case k.MTU >= 0:
		binary.BigEndian.PutUint32(rest[:], uint32(k.MTU))
	case k.ID >= 0:
		binary.BigEndian.PutUint16(rest[:], uint16(k.ID))
	}
	b := make([]byte, 8)
	icmp.Put(b, typ, code, rest)
	isEcho := k.Type == "echo_request" || k.Type == "echo_reply"
	if k.Quoted != nil || !isEcho {
		b = append(b, w.quote(k.Quoted)...)
	}
	if v6 {
		icmp.SetChecksum6(b, f.src, f.dst)
		return f.wrapIP(protoICMP6, b), nil
	}
	icmp.SetChecksum4(b)
	return f.wrapIP(protoICMP4, b), nil
}

// quote makes the beginning of a packet that the stack may have sent.
func (w *flow) quote(q *Quoted) []byte {
	if q == nil {
		q = &Quoted{Proto: "tcp"}
		if w.proto == UDP {
			q.Proto = "udp"
		}
	}
	o := &frame{src: w.local.Addr(), dst: w.remote.Addr(), srcPort: w.local.Port(), dstPort: w.remote.Port(), ttl: 64}
	if q.Proto == "udp" {
		o.payload = make([]byte, q.Len)
		return cut(o.wrapIP(protoUDP, o.encodeUDP()))
	}
	o.seq = q.Seq + w.localISN
	o.flags = flagsOf(".")
	o.payload = make([]byte, q.Len)
	b, _ := o.encodeTCP() // no options, so no error
	return cut(o.wrapIP(protoTCP, b))
}

// cut leaves of a quoted packet what fits the smallest MTU of IPv4 hosts; all
// that RFC 792 wants is 8 bytes of the transport header.
func cut(b []byte) []byte { return b[:min(len(b), 576-28)] }

func icmpNumber(names map[icmpName]uint8, v6 bool, name, prefix string) (uint8, error) {
	if n, ok := names[icmpName{v6, name}]; ok {
		return n, nil
	}
	var n uint8
	if _, err := fmt.Sscanf(name, prefix+"%d", &n); err == nil {
		return n, nil
	}
	return 0, &Unsupported{Reason: "ICMP " + name}
}
