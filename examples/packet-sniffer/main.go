// Packet-sniffer prints a line for each frame that the stack's host receives and
// sends. It shows packet sockets (packet(7)): promiscuous mode, what is known of
// a frame beside its bytes, and a filter in classic BPF, which decides in the
// stack what the program gets to see, and how much of it.
//
//	sudo make bridge tap && sudo go run ./examples/packet-sniffer --tap tap7 --ip 10.77.0.7/24
//
// or without root, in a lab:
//
//	bin/tapstack lab run -- sh -c 'go run ./examples/packet-sniffer --count 6 & sleep 3; ping -c 3 10.77.0.7; wait'
//
// --filter takes a program as `tcpdump -ddd EXPRESSION` prints it.
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/net/bpf"

	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/socket"
)

var (
	count  = pflag.Int("count", -1, "end after `N` frames, -1: never")
	filter = pflag.String("filter", "", "`FILE` with a program as tcpdump -ddd prints it")
)

func main() { attach.Main("", run) }

func run(ctx context.Context, host *attach.Host, _ []string) error {
	if err := host.NeedStack(); err != nil {
		return err
	}
	fd, err := socket.Socket(host.Stack, socket.AF_PACKET, socket.SOCK_RAW, 0)
	if err != nil {
		return err
	}
	defer fd.Close()
	context.AfterFunc(ctx, func() { fd.Close() })
	program := shorten(128)
	if *filter != "" {
		if program, err = readProgram(*filter); err != nil {
			return err
		}
	}
	// The filter first and then the frames, so that none gets past it.
	if err := fd.AttachFilter(program); err != nil {
		return fmt.Errorf("filter: %w", err)
	}
	for _, i := range host.Stack.Interfaces() {
		m := socket.PacketMreq{Index: i.Index(), Type: socket.PACKET_MR_PROMISC}
		if err := fd.AddPacketMembership(m); err != nil {
			return err
		}
	}
	if err := fd.BindPacket(socket.PacketAddr{Protocol: socket.Htons(socket.ETH_P_ALL)}); err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for n := 0; n != *count; n++ {
		size, m, err := fd.RecvPacket(buf, 0)
		if err != nil {
			if errors.Is(err, net.ErrClosed) && ctx.Err() != nil {
				return nil
			}
			return err
		}
		name := host.Stack.InterfaceByIndex(m.From.Index).Name()
		fmt.Printf("%s %-5s %-9s %5d bytes  %s\n", m.Time.Format("15:04:05.000000"), name, kind(m.From.PktType), m.Size, describe(buf[:size]))
	}
	packets, drops, err := fd.PacketStatistics()
	if err == nil {
		fmt.Printf("%d frames passed the filter, of which %d were dropped here\n", packets, drops)
	}
	return err
}

// shorten is a program that takes the first n bytes of every frame: enough for a
// line of text, and less to copy.
func shorten(n uint32) []bpf.RawInstruction {
	i, err := bpf.RetConstant{Val: n}.Assemble()
	if err != nil {
		panic(err) // it has no way to be wrong
	}
	return []bpf.RawInstruction{i}
}

// readProgram reads the number of instructions and then each: code, jt, jf, k.
func readProgram(file string) ([]bpf.RawInstruction, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r := strings.NewReader(string(text))
	n := 0
	if _, err := fmt.Fscan(r, &n); err != nil || n < 1 || n > 4096 {
		return nil, fmt.Errorf("%s: no number of instructions", file)
	}
	program := make([]bpf.RawInstruction, n)
	for i := range program {
		p := &program[i]
		if _, err := fmt.Fscan(r, &p.Op, &p.Jt, &p.Jf, &p.K); err != nil {
			return nil, fmt.Errorf("%s: instruction %d: %w", file, i, err)
		}
	}
	return program, nil
}

func kind(t uint8) string {
	return [...]string{"host", "broadcast", "multicast", "otherhost", "outgoing"}[t]
}

// describe says from whom to whom a frame is and what it carries, as far as the
// bytes at hand tell.
func describe(frame []byte) string {
	if len(frame) < 14 {
		return "cut short"
	}
	typ, rest := binary.BigEndian.Uint16(frame[12:]), frame[14:]
	switch {
	case typ == socket.ETH_P_ARP && len(rest) >= 28:
		sender, target := netip.AddrFrom4([4]byte(rest[14:18])), netip.AddrFrom4([4]byte(rest[24:28]))
		if rest[7] == 2 {
			return fmt.Sprintf("ARP %v is at %v", sender, net.HardwareAddr(rest[8:14]))
		}
		return fmt.Sprintf("ARP %v asks for %v", sender, target)
	case typ == socket.ETH_P_IP && len(rest) >= 20:
		src, dst := netip.AddrFrom4([4]byte(rest[12:16])), netip.AddrFrom4([4]byte(rest[16:20]))
		return transport(rest[9], src, dst, rest[min(int(rest[0]&0xf)*4, len(rest)):])
	case typ == socket.ETH_P_IPV6 && len(rest) >= 40:
		return transport(rest[6], netip.AddrFrom16([16]byte(rest[8:24])), netip.AddrFrom16([16]byte(rest[24:40])), rest[40:])
	}
	return fmt.Sprintf("%v > %v type %#04x", net.HardwareAddr(frame[6:12]), net.HardwareAddr(frame[:6]), typ)
}

func transport(proto uint8, src, dst netip.Addr, b []byte) string {
	name, ok := map[uint8]string{1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6"}[proto]
	switch {
	case !ok || len(b) < 4:
		return fmt.Sprintf("%v > %v protocol %d", src, dst, proto)
	case proto == socket.IPPROTO_ICMP || proto == socket.IPPROTO_ICMPV6:
		return fmt.Sprintf("%v > %v %s type %d", src, dst, name, b[0])
	}
	return fmt.Sprintf("%v > %v %s", netip.AddrPortFrom(src, binary.BigEndian.Uint16(b)), netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[2:])), name)
}
