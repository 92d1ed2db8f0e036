package pcap

// This file shows a capture to people: one line a packet, in the manner of
// tcpdump, decoded by gopacket and not by the stack that made it.

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// Print reads a pcapng capture of Ethernet frames and writes a line for each of
// the first max packets (all, if max is 0), and one that counts the rest. A
// capture that ends in the middle of a packet is no error: its writer may still
// be at work.
func Print(w io.Writer, r io.Reader, max int) error {
	ng, err := pcapgo.NewNgReader(r, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		return fmt.Errorf("pcap: %w", err)
	}
	var start time.Time
	n := 0
	for ; ; n++ {
		data, ci, err := ng.ReadPacketData()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("pcap: packet %d: %w", n+1, err)
		}
		if n == 0 {
			start = ci.Timestamp
		}
		if max > 0 && n >= max {
			continue
		}
		p := gopacket.NewPacket(data, ng.LinkType(), gopacket.Default)
		if _, err := fmt.Fprintln(w, line(ci.Timestamp.Sub(start), p)); err != nil {
			return fmt.Errorf("pcap: %w", err)
		}
	}
	if max > 0 && n > max {
		if _, err := fmt.Fprintf(w, "… and %d more\n", n-max); err != nil {
			return fmt.Errorf("pcap: %w", err)
		}
	}
	return nil
}

// line is one packet:
//
//	0.001234  10.77.0.1.40000 > 10.77.0.7.7  TCP  [S] seq 1 win 64240 <mss 1460>
func line(at time.Duration, p gopacket.Packet) string {
	v := describe(p)
	return fmt.Sprintf("%9.6f  %-43s  %-6s %s", at.Seconds(), v.src+" > "+v.dst, v.proto, v.what)
}

// view is what a line says, refined from layer to layer.
type view struct {
	src, dst, proto, what string
}

func describe(p gopacket.Packet) view {
	v := view{src: "?", dst: "?", proto: "?"}
	for _, l := range p.Layers() {
		switch l := l.(type) {
		case *layers.Ethernet:
			v = view{l.SrcMAC.String(), l.DstMAC.String(), "Ether", fmt.Sprintf("type %#04x, length %d", uint16(l.EthernetType), len(p.Data()))}
		case *layers.ARP:
			v.proto, v.what = "ARP", arp(l)
		case *layers.IPv4:
			v = view{l.SrcIP.String(), l.DstIP.String(), "IPv4", fmt.Sprintf("protocol %d, length %d", l.Protocol, len(l.Payload))}
			if l.FragOffset > 0 || l.Flags&layers.IPv4MoreFragments != 0 {
				v.what = fragment(uint32(l.Id), l.FragOffset, l.Flags&layers.IPv4MoreFragments != 0, len(l.Payload))
			}
		case *layers.IPv6:
			v = view{l.SrcIP.String(), l.DstIP.String(), "IPv6", fmt.Sprintf("next header %d, length %d", l.NextHeader, len(l.Payload))}
		case *layers.IPv6Fragment:
			v.what = fragment(l.Identification, l.FragmentOffset, l.MoreFragments, len(l.Payload))
		case *layers.ICMPv4:
			v.proto, v.what = "ICMP", icmp4(l)
		case *layers.ICMPv6:
			v.proto, v.what = "ICMPv6", l.TypeCode.String()
		case *layers.ICMPv6Echo:
			v.what += fmt.Sprintf(" id %d seq %d", l.Identifier, l.SeqNumber)
		case *layers.ICMPv6NeighborSolicitation:
			v.what = fmt.Sprintf("who has %v", l.TargetAddress)
		case *layers.ICMPv6NeighborAdvertisement:
			v.what = fmt.Sprintf("%v is here", l.TargetAddress)
			for _, o := range l.Options {
				if o.Type == layers.ICMPv6OptTargetAddress && len(o.Data) == 6 {
					v.what = fmt.Sprintf("%v is at %s", l.TargetAddress, mac(o.Data))
				}
			}
		case *layers.UDP:
			v.ports(uint16(l.SrcPort), uint16(l.DstPort))
			v.proto, v.what = "UDP", fmt.Sprintf("length %d", len(l.Payload))
		case *layers.TCP:
			v.ports(uint16(l.SrcPort), uint16(l.DstPort))
			v.proto, v.what = "TCP", tcp(l)
		case *layers.DHCPv4:
			v.proto, v.what = "DHCP", dhcp4(l)
		case *gopacket.DecodeFailure:
			// What gopacket has no decoder for is no fault of the packet.
			if e := l.Error().Error(); !strings.HasPrefix(e, "Unable to decode ") {
				v.what += ", malformed: " + e
			}
		}
	}
	return v
}

func (v *view) ports(src, dst uint16) {
	v.src = fmt.Sprintf("%s.%d", v.src, src)
	v.dst = fmt.Sprintf("%s.%d", v.dst, dst)
}

// mac writes six bytes the usual way.
func mac(b []byte) string {
	return strings.ReplaceAll(fmt.Sprintf("% x", b), " ", ":")
}

func ip4(b []byte) string {
	if len(b) != 4 {
		return "?"
	}
	return fmt.Sprintf("%d.%d.%d.%d", b[0], b[1], b[2], b[3])
}

func arp(l *layers.ARP) string {
	sender, target := ip4(l.SourceProtAddress), ip4(l.DstProtAddress)
	switch {
	case l.Operation == layers.ARPReply:
		return fmt.Sprintf("%s is at %s", sender, mac(l.SourceHwAddress))
	case l.Operation != layers.ARPRequest:
		return fmt.Sprintf("operation %d", l.Operation)
	case sender == target:
		return fmt.Sprintf("%s announces itself", sender)
	case sender == "0.0.0.0":
		return fmt.Sprintf("is %s in use?", target)
	}
	return fmt.Sprintf("who has %s? tell %s", target, sender)
}

func fragment(id uint32, offset uint16, more bool, n int) string {
	end := ""
	if more {
		end = "+"
	}
	return fmt.Sprintf("fragment %d of id %#x, length %d%s", int(offset)*8, id, n, end)
}

func icmp4(l *layers.ICMPv4) string {
	switch l.TypeCode.Type() {
	case layers.ICMPv4TypeEchoRequest, layers.ICMPv4TypeEchoReply:
		return fmt.Sprintf("%s id %d seq %d, length %d", l.TypeCode, l.Id, l.Seq, len(l.Payload))
	}
	return l.TypeCode.String()
}

func dhcp4(l *layers.DHCPv4) string {
	for _, o := range l.Options {
		if o.Type == layers.DHCPOptMessageType && len(o.Data) == 1 {
			return layers.DHCPMsgType(o.Data[0]).String()
		}
	}
	return l.Operation.String()
}

func tcp(l *layers.TCP) string {
	var s strings.Builder
	s.WriteByte('[')
	for _, f := range []struct {
		set  bool
		name byte
	}{{l.SYN, 'S'}, {l.FIN, 'F'}, {l.RST, 'R'}, {l.PSH, 'P'}, {l.URG, 'U'}, {l.ECE, 'E'}, {l.CWR, 'W'}, {l.ACK, '.'}} {
		if f.set {
			s.WriteByte(f.name)
		}
	}
	fmt.Fprintf(&s, "] seq %d", l.Seq)
	if n := len(l.Payload); n > 0 {
		fmt.Fprintf(&s, ":%d", l.Seq+uint32(n))
	}
	if l.ACK {
		fmt.Fprintf(&s, " ack %d", l.Ack)
	}
	fmt.Fprintf(&s, " win %d", l.Window)
	if o := tcpOptions(l.Options); o != "" {
		fmt.Fprintf(&s, " <%s>", o)
	}
	fmt.Fprintf(&s, " length %d", len(l.Payload))
	return s.String()
}

func tcpOptions(opts []layers.TCPOption) string {
	var s []string
	for _, o := range opts {
		switch o.OptionType {
		case layers.TCPOptionKindMSS:
			if len(o.OptionData) == 2 {
				s = append(s, fmt.Sprintf("mss %d", int(o.OptionData[0])<<8|int(o.OptionData[1])))
			}
		case layers.TCPOptionKindWindowScale:
			if len(o.OptionData) == 1 {
				s = append(s, fmt.Sprintf("wscale %d", o.OptionData[0]))
			}
		case layers.TCPOptionKindSACKPermitted:
			s = append(s, "sackOK")
		case layers.TCPOptionKindSACK:
			s = append(s, fmt.Sprintf("sack %d", len(o.OptionData)/8))
		case layers.TCPOptionKindTimestamps:
			s = append(s, "TS")
		case layers.TCPOptionKindNop, layers.TCPOptionKindEndList:
		default:
			s = append(s, fmt.Sprintf("option %d", o.OptionType))
		}
	}
	return strings.Join(s, ",")
}
