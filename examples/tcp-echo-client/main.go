// Tcp-echo-client connects to a TCP echo service on port 7, sends it a message
// every second and prints what comes back. It shows how to dial out of the
// stack, and to end a connection without losing what is still under way.
//
//	sudo make bridge tap && sudo go run ./examples/tcp-echo-client --tap tap7 --ip 10.77.0.7/24 10.77.0.1
//
// or without root, with a second stack to talk to, in a lab for two:
//
//	bin/tapstack lab run --hosts 2 -- sh -c 'go run ./examples/tcp-echo & sleep 5;
//	  go run ./examples/tcp-echo-client --tap tap8 --ip 10.77.0.8/24 10.77.0.7'
package main

import (
	"context"
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
	conn, err := host.Net.DialContext(ctx, "tcp", net.JoinHostPort(args[0], "7"))
	if err != nil {
		return err
	}
	defer conn.Close()
	context.AfterFunc(ctx, func() { conn.Close() }) // ends reads and writes
	log.Printf("connected to %v from %v", conn.RemoteAddr(), conn.LocalAddr())

	printed := make(chan error, 1)
	go func() {
		_, err := io.Copy(os.Stdout, conn)
		printed <- err
	}()

	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for n := 0; n != *count; n++ {
		if _, err := io.WriteString(conn, message); err != nil {
			return err
		}
		log.Printf("sent %d bytes", len(message))
		select {
		case <-tick.C:
		case err := <-printed:
			log.Print("the service has closed the connection")
			return err
		case <-ctx.Done():
			return nil
		}
	}

	// FIN says that no more will come; the service may still owe us some.
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		return err
	}
	return <-printed
}

var message = func() string {
	s := "[------START------] "
	for i := range 3 {
		s += fmt.Sprintf("[------%05d------] ", i+1)
	}
	return s + "[-------END-------]\n"
}()
