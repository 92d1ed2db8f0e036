// Tcp-discard is a TCP discard service on port 9: it reads and forgets. It
// shows how fast the stack can receive, and how a server tells its client's
// end of stream (io.EOF) from a broken connection (any other error).
//
//	sudo make bridge tap && sudo go run ./examples/tcp-discard --tap tap7 --ip 10.77.0.7/24
//
// or without root, in the shell that `make lab` opens:
//
//	go run ./examples/tcp-discard &
//	head -c 100000000 /dev/zero | nc -N 10.77.0.7 9
package main

import (
	"context"
	"io"
	"log"
	"net"
	"strings"
	"time"

	"github.com/tapstack/tapstack/internal/attach"
)

func main() { attach.Main("", run) }

func run(ctx context.Context, host *attach.Host, _ []string) error {
	ln, err := host.Net.Listen("tcp", ":9")
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
			start := time.Now()
			n, err := serve(conn)
			if err != nil {
				log.Printf("%v: %v", conn.RemoteAddr(), err)
			}
			mb := float64(n) / 1e6
			log.Printf("%v: closed after %.1f MB, %.1f MB/s", conn.RemoteAddr(), mb, mb/time.Since(start).Seconds())
		}()
	}
}

// serve discards what one client sends and returns how many bytes that was.
func serve(conn net.Conn) (n int64, err error) {
	if _, err := io.WriteString(conn, "***CLIENT OPEN / SERVICE OPEN***\n"); err != nil {
		return 0, err
	}
	buf := make([]byte, 128<<10) // large reads: one call for many segments
	for {
		k, err := conn.Read(buf)
		n += int64(k)
		if err == io.EOF {
			_, err = io.WriteString(conn, "***CLIENT CLOSED, SERVICE CLOSING***\n")
			return n, err
		}
		if err != nil {
			return n, err
		}
		if k > len("close\r\n") {
			continue
		}
		switch strings.ToLower(strings.TrimSpace(string(buf[:k]))) {
		case "quit", "close", "bye", "exit":
			_, err = io.WriteString(conn, "***CLIENT OPEN, SERVICE CLOSING***\n")
			return n, err
		}
	}
}
