// Udp-echo-client sends a datagram to a UDP echo service on port 7 every
// second and prints what comes back. It shows a connected UDP socket: only its
// peer's datagrams arrive, and so do the ICMP errors about its own, here as
// "connection refused" where nobody listens.
//
//	sudo make bridge tap && sudo go run ./examples/udp-echo-client --tap tap7 --ip 10.77.0.7/24 10.77.0.1
//
// or without root, with a second stack to talk to, in a lab for two:
//
//	bin/tapstack lab run --hosts 2 -- sh -c 'go run ./examples/udp-echo & sleep 5;
//	  go run ./examples/udp-echo-client --tap tap8 --ip 10.77.0.8/24 10.77.0.7'
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"time"

	"github.com/spf13/pflag"

	"github.com/tapstack/tapstack/internal/attach"
)

var count = pflag.Int("count", -1, "end after `N` messages, -1: never")

func main() { attach.Main("ADDRESS", run) }

func run(ctx context.Context, host *attach.Host, args []string) error {
	conn, err := host.Net.DialContext(ctx, "udp", net.JoinHostPort(args[0], "7"))
	if err != nil {
		return err
	}
	defer conn.Close()
	context.AfterFunc(ctx, func() { conn.Close() })

	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	buf := make([]byte, 64<<10)
	for n := 0; n != *count; n++ {
		if _, err := io.WriteString(conn, message); err != nil {
			return err
		}
		log.Printf("sent %d bytes to %v", len(message), conn.RemoteAddr())
		// Datagrams get lost, so an answer is awaited for a while only.
		if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			return err
		}
		switch k, err := conn.Read(buf); {
		case err == nil:
			os.Stdout.Write(buf[:k])
		case errors.Is(err, os.ErrDeadlineExceeded):
			log.Print("no answer")
		default:
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

var message = func() string {
	s := "[------START------] "
	for i := range 3 {
		s += fmt.Sprintf("[------%05d------] ", i+1)
	}
	return s + "[-------END-------]\n"
}()
