// Udp-daytime answers each datagram on UDP port 13 with the time of day. It
// shows a service without state: one datagram in, one out (RFC 867).
//
//	sudo make bridge tap && sudo go run ./examples/udp-daytime --tap tap7 --ip 10.77.0.7/24
//
// or without root, in the shell that `make lab` opens:
//
//	go run ./examples/udp-daytime &
//	nc -u 10.77.0.7 13
package main

import (
	"context"
	"log"
	"time"

	"github.com/tapstack/tapstack/internal/attach"
)

func main() { attach.Main("", run) }

func run(ctx context.Context, host *attach.Host, _ []string) error {
	conn, err := host.Net.ListenPacket("udp", ":13") // both families
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
		line := time.Now().Format("2006-01-02 15:04:05.000000\n")
		if _, err := conn.WriteTo([]byte(line), from); err != nil {
			log.Printf("%v: %v", from, err) // the service goes on
		}
	}
}
