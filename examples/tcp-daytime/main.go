// Tcp-daytime tells the time on TCP port 13, once a second for as long as its
// client listens. (RFC 867's service tells it once; `tapstack up --services
// daytime` runs that one.) It shows a server that only writes, and so learns
// from Write that the client has gone.
//
//	sudo make bridge tap && sudo go run ./examples/tcp-daytime --tap tap7 --ip 10.77.0.7/24
//
// or without root, in the shell that `make lab` opens:
//
//	go run ./examples/tcp-daytime &
//	nc 10.77.0.7 13
package main

import (
	"context"
	"io"
	"log"
	"net"
	"time"

	"github.com/tapstack/tapstack/internal/attach"
)

func main() { attach.Main("", run) }

func run(ctx context.Context, host *attach.Host, _ []string) error {
	ln, err := host.Net.Listen("tcp", ":13")
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { ln.Close() })
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			log.Printf("%v: open", conn.RemoteAddr())
			if err := serve(ctx, conn); err != nil {
				log.Printf("%v: %v", conn.RemoteAddr(), err)
			}
			log.Printf("%v: closed", conn.RemoteAddr())
		}()
	}
}

func serve(ctx context.Context, conn net.Conn) error {
	if _, err := io.WriteString(conn, "***CLIENT OPEN / SERVICE OPEN***\n"); err != nil {
		return err
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		line := time.Now().Format("2006-01-02 15:04:05.000000\n")
		if _, err := io.WriteString(conn, line); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
