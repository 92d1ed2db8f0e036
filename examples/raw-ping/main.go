// Raw-ping is a ping as it was first written: with a raw IP socket (raw(7)),
// which gets every ICMP message that comes to this host. It shows what
// icmp-echo-client leaves to the stack: the checksum, the identifier by which a
// program knows its own replies, the IP header with its TTL, a filter for the
// types of messages, and errors that routers send back.
//
//	sudo make bridge tap && sudo go run ./examples/raw-ping --tap tap7 --ip 10.77.0.7/24 10.77.0.1
//
// or without root, in a lab:
//
//	bin/tapstack lab run -- go run ./examples/raw-ping 10.77.0.1
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/socket"
)

var count = pflag.Int("count", -1, "end after `N` requests, -1: never")

func main() { attach.Main("ADDRESS", run) }

const (
	headerLen  = 8  // type, code, checksum, identifier, sequence number
	payloadLen = 56 // as every ping sends
)

// protocol is what differs between the two families.
type protocol struct {
	domain, number int
	request, reply byte
	level          int // of the filter's option
}

var (
	icmp4 = protocol{socket.AF_INET, socket.IPPROTO_ICMP, 8, 0, socket.SOL_RAW}           // RFC 792
	icmp6 = protocol{socket.AF_INET6, socket.IPPROTO_ICMPV6, 128, 129, socket.SOL_ICMPV6} // RFC 4443
)

func run(ctx context.Context, host *attach.Host, args []string) error {
	if err := host.NeedStack(); err != nil {
		return err
	}
	addr, err := netip.ParseAddr(args[0])
	if err != nil {
		return attach.Usagef("%q is not an address", args[0])
	}
	p := icmp4
	if addr.Is6() {
		p = icmp6
	}
	fd, err := socket.Socket(host.Stack, p.domain, socket.SOCK_RAW, p.number)
	if err != nil {
		return err
	}
	defer fd.Close()
	context.AfterFunc(ctx, func() { fd.Close() })

	// Without this the socket would also get neighbour discovery, and the
	// requests of others to this host. A bit that is set keeps a type out.
	var blocked [8]uint32
	for i := range blocked {
		blocked[i] = ^uint32(0)
	}
	blocked[p.reply/32] &^= 1 << (p.reply % 32)
	if err := fd.SetICMPFilter(blocked); err != nil {
		return err
	}
	// Connected, the socket gets packets of this peer alone, and is told of the
	// errors that come back about what it has sent.
	if err := fd.Connect(ctx, netip.AddrPortFrom(addr, 0)); err != nil {
		return err
	}

	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	id := uint16(os.Getpid())
	for seq := 0; seq != *count; seq++ {
		if err := p.ping(fd, id, uint16(seq)); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// ping sends one request and waits a second for its reply.
func (p protocol) ping(fd *socket.FD, id, seq uint16) error {
	message := make([]byte, headerLen+payloadLen)
	message[0] = p.request
	binary.BigEndian.PutUint16(message[4:], id)
	binary.BigEndian.PutUint16(message[6:], seq)
	if p.domain == socket.AF_INET {
		// Of ICMPv6 the stack fills it in, for it covers addresses that only
		// the stack knows (RFC 3542 §3.1).
		binary.BigEndian.PutUint16(message[2:], checksum(message))
	}
	start := time.Now()
	if err := fd.SetReadDeadline(start.Add(time.Second)); err != nil {
		return err
	}
	if _, err := fd.Send(message, 0); err != nil {
		return p.report(seq, err)
	}
	buf := make([]byte, 64<<10)
	for {
		n, from, err := fd.RecvFrom(buf, 0)
		if err != nil {
			return p.report(seq, err)
		}
		packet, ttl := buf[:n], ""
		if p.domain == socket.AF_INET {
			// IPv4's header comes first (RFC 791 §3.1); IPv6's is left out.
			ttl = fmt.Sprintf(" ttl=%d", packet[8])
			packet = packet[int(packet[0]&0xf)*4:]
		}
		if len(packet) >= headerLen && binary.BigEndian.Uint16(packet[4:]) == id && binary.BigEndian.Uint16(packet[6:]) == seq {
			fmt.Printf("%d bytes from %v: seq=%d%s time=%.3f ms\n", len(packet), from.Addr(), seq, ttl, time.Since(start).Seconds()*1000)
			return nil
		}
	}
}

// report prints what has happened to a request in place of a reply. Only what
// is no answer of the network ends the program.
func (p protocol) report(seq uint16, err error) error {
	var errno syscall.Errno
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		log.Printf("no reply to request %d", seq)
	case errors.As(err, &errno):
		log.Printf("request %d: %v", seq, err)
	default:
		return err
	}
	return nil
}

// checksum is the Internet checksum (RFC 1071): the one's complement of the one's
// complement sum of all 16-bit words.
func checksum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
