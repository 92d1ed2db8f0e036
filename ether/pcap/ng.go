package pcap

// This file owns pcapng as it is written: a section, one interface of
// Ethernet's, and a block for each frame, with times in nanoseconds, the
// direction, and a comment where there is one
// (draft-ietf-opsawg-pcapng §4.1 to §4.3). gopacket's writer has no options.

import (
	"bufio"
	"encoding/binary"
	"io"
	"runtime"
	"time"

	"github.com/tapstack/tapstack/ether"
)

// Block types and options.
const (
	blockSection   = 0x0a0d0d0a
	blockInterface = 1
	blockPacket    = 6

	byteOrder = 0x1a2b3c4d

	optEnd         = 0
	optComment     = 1
	optUserAppl    = 4 // of a section
	optIfName      = 2 // of an interface
	optIfTsResol   = 9
	optIfOS        = 12
	optPacketFlags = 2 // of a packet

	flagInbound  = 1
	flagOutbound = 2

	linkEthernet = 1
	linkRaw      = 101 // IP packets, of either version
	nanoseconds  = 9   // the exponent of a time's unit

	// maxComment is the longest: an option's length has 16 bits.
	maxComment = 0xffff - 3
)

// ngWriter writes a capture. After an error nothing more is written.
type ngWriter struct {
	w     *bufio.Writer
	skip  int // bytes of a frame that have no place on its link
	block []byte
}

func newNgWriter(w io.Writer, name string, packets bool) (*ngWriter, error) {
	g := &ngWriter{w: bufio.NewWriterSize(w, bufSize)}
	link := uint16(linkEthernet)
	if packets {
		g.skip, link = ether.HeaderLen, linkRaw
	}
	g.begin(blockSection)
	g.u32(byteOrder)
	g.block = binary.NativeEndian.AppendUint16(g.block, 1) // version 1.0
	g.block = binary.NativeEndian.AppendUint16(g.block, 0)
	g.u32(0xffffffff) // the section's length is not known
	g.u32(0xffffffff)
	g.option(optUserAppl, "tapstack")
	if err := g.end(); err != nil {
		return nil, err
	}
	g.begin(blockInterface)
	g.block = binary.NativeEndian.AppendUint16(g.block, link)
	g.block = append(g.block, 0, 0)
	g.u32(0) // frames are not cut off
	g.option(optIfName, name)
	g.option(optIfTsResol, string([]byte{nanoseconds}))
	g.option(optIfOS, runtime.GOOS)
	if err := g.end(); err != nil {
		return nil, err
	}
	return g, g.w.Flush()
}

// frame writes a frame.
func (g *ngWriter) frame(at time.Time, frame []byte, out bool, comment string) error {
	frame = frame[min(g.skip, len(frame)):]
	g.begin(blockPacket)
	g.u32(0) // the interface
	t := uint64(at.UnixNano())
	g.u32(uint32(t >> 32))
	g.u32(uint32(t))
	g.u32(uint32(len(frame)))
	g.u32(uint32(len(frame)))
	g.block = append(g.block, frame...)
	g.pad()
	if comment != "" {
		g.option(optComment, comment[:min(len(comment), maxComment)])
	}
	flags := uint32(flagInbound)
	if out {
		flags = flagOutbound
	}
	g.option(optPacketFlags, string(binary.NativeEndian.AppendUint32(nil, flags)))
	return g.end()
}

func (g *ngWriter) flush() error { return g.w.Flush() }

func (g *ngWriter) u32(v uint32) { g.block = binary.NativeEndian.AppendUint32(g.block, v) }

func (g *ngWriter) pad() {
	for len(g.block)%4 != 0 {
		g.block = append(g.block, 0)
	}
}

func (g *ngWriter) begin(typ uint32) {
	g.block = g.block[:0]
	g.u32(typ)
	g.u32(0) // the length, known in the end
}

func (g *ngWriter) option(code uint16, value string) {
	g.block = binary.NativeEndian.AppendUint16(g.block, code)
	g.block = binary.NativeEndian.AppendUint16(g.block, uint16(len(value)))
	g.block = append(g.block, value...)
	g.pad()
}

// end completes a block that has options and writes it.
func (g *ngWriter) end() error {
	g.option(optEnd, "")
	n := uint32(len(g.block) + 4)
	binary.NativeEndian.PutUint32(g.block[4:], n)
	g.u32(n)
	_, err := g.w.Write(g.block)
	return err
}
