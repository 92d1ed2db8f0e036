// Icmp-echo-client is a small ping: it sends an echo request with the time of
// day every second and prints the replies, over IPv4 (RFC 792) or IPv6
// (RFC 4443). It shows the Berkeley calls, and their datagram ICMP socket: the
// program writes and reads ICMP messages; the stack fills in checksum and
// identifier, and passes on only the replies to this socket.
//
//	sudo make bridge tap && sudo go run ./examples/icmp-echo-client --tap tap7 --ip 10.77.0.7/24 10.77.0.1
//
// or without root, in a lab:
//
//	bin/tapstack lab run -- go run ./examples/icmp-echo-client 10.77.0.1
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/socket"
)

var count = pflag.Int("count", -1, "end after `N` requests, -1: never")

func main() { attach.Main("ADDRESS", run) }

// headerLen is type, code, checksum, identifier and sequence number.
const headerLen = 8

func run(ctx context.Context, host *attach.Host, args []string) error {
	addr, err := netip.ParseAddr(args[0])
	if err != nil {
		return attach.Usagef("%q is not an address", args[0])
	}
	domain, proto, request, reply := socket.AF_INET, socket.IPPROTO_ICMP, byte(8), byte(0)
	if addr.Is6() {
		domain, proto, request, reply = socket.AF_INET6, socket.IPPROTO_ICMPV6, 128, 129
	}
	fd, err := host.Net.Socket(domain, socket.SOCK_DGRAM, proto)
	if err != nil {
		return err
	}
	defer fd.Close()
	context.AfterFunc(ctx, func() { fd.Close() })

	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	buf := make([]byte, 64<<10)
	for seq := 0; seq != *count; seq++ {
		start := time.Now()
		message := make([]byte, headerLen)
		message[0] = request
		binary.BigEndian.PutUint16(message[6:], uint16(seq))
		message = start.AppendFormat(message, "2006-01-02 15:04:05.000000\n")
		if _, err := fd.SendTo(message, 0, netip.AddrPortFrom(addr, 0)); err != nil {
			return err
		}
		if err := fd.SetReadDeadline(start.Add(time.Second)); err != nil {
			return err
		}
		// A reply that comes late must not be taken for the next one.
		for {
			n, from, err := fd.RecvFrom(buf, 0)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				log.Printf("no reply to request %d", seq)
				break
			}
			if err != nil {
				return err
			}
			if n >= headerLen && buf[0] == reply && binary.BigEndian.Uint16(buf[6:]) == uint16(seq) {
				fmt.Printf("%d bytes from %v: seq=%d time=%.3f ms: %s\n", n, from.Addr(), seq,
					time.Since(start).Seconds()*1000, strings.TrimSpace(string(buf[headerLen:n])))
				break
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}
