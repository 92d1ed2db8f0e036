// Udp-echo is a UDP echo service on port 7, which answers malpka, malpa and
// malpi with drawings. It shows net.PacketConn over the stack. Datagrams of up
// to 65507 bytes work: the stack fragments and reassembles them.
//
// A server on a network of strangers should not answer every source port;
// package internal/service says why and does better.
//
//	sudo make bridge tap && sudo go run ./examples/udp-echo --tap tap7 --ip 10.77.0.7/24
//
// or without root, in the shell that `make lab` opens:
//
//	go run ./examples/udp-echo &
//	nc -u 10.77.0.7 7
package main

import (
	"context"
	"log"

	"github.com/tapstack/tapstack/examples/internal/monkeys"
	"github.com/tapstack/tapstack/internal/attach"
)

func main() { attach.Main("", run) }

func run(ctx context.Context, host *attach.Host, _ []string) error {
	conn, err := host.Net.ListenPacket("udp", ":7") // both families
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	buf := make([]byte, 64<<10) // no datagram is larger
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return err
		}
		log.Printf("%v: %d bytes", from, n)
		if _, err := conn.WriteTo(monkeys.Answer(buf[:n]), from); err != nil {
			log.Printf("%v: %v", from, err) // the service goes on
		}
	}
}
