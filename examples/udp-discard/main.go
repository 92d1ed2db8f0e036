// Udp-discard is a UDP discard service on port 9. It shows the least a UDP
// server has to do, and says what it throws away.
//
//	sudo make bridge tap && sudo go run ./examples/udp-discard --tap tap7 --ip 10.77.0.7/24
//
// or without root, in the shell that `make lab` opens:
//
//	go run ./examples/udp-discard &
//	nc -u 10.77.0.7 9
package main

import (
	"context"
	"log"

	"github.com/tapstack/tapstack/internal/attach"
)

func main() { attach.Main("", run) }

func run(ctx context.Context, host *attach.Host, _ []string) error {
	conn, err := host.Net.ListenPacket("udp", ":9") // both families
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
	}
}
