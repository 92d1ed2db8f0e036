// The reset that answers a segment for which there is no connection. It needs
// nothing but that segment, so the demultiplexer can send it by itself.

package tcp

// ResetFor makes out the RST that answers in, a segment for which there is no
// connection (RFC 9293 §3.10.7.1). It reports false, and leaves out alone, when
// in is itself a RST: resets are never answered.
func ResetFor(in, out *Segment) bool {
	if in.Flags&FlagRST != 0 {
		return false
	}
	*out = Segment{SrcPort: in.DstPort, DstPort: in.SrcPort, Flags: FlagRST}
	if in.Flags&FlagACK != 0 {
		// <SEQ=SEG.ACK><CTL=RST>
		out.Seq = in.Ack
		return true
	}
	// <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>
	out.Ack = in.End()
	out.Flags |= FlagACK
	return true
}
