// Tcp-echo is a TCP echo service on port 7, with the manners of a host one can
// talk to: a greeting, a farewell to those who say quit, and a surprise for
// those who ask for a malpka. It shows net.Listener and net.Conn over the
// stack: nothing below the call of Listen knows that they are not the kernel's.
//
//	sudo make bridge tap && sudo go run ./examples/tcp-echo --tap tap7 --ip 10.77.0.7/24
//
// or without root, in the shell that `make lab` opens:
//
//	go run ./examples/tcp-echo &
//	nc 10.77.0.7 7
package main

import (
	"context"
	"io"
	"log"
	"net"
	"strings"

	"github.com/tapstack/tapstack/examples/internal/monkeys"
	"github.com/tapstack/tapstack/internal/attach"
)

func main() { attach.Main("", run) }

func run(ctx context.Context, host *attach.Host, _ []string) error {
	ln, err := host.Net.Listen("tcp", ":7") // both families
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
			if err := serve(conn); err != nil {
				log.Printf("%v: %v", conn.RemoteAddr(), err)
			}
			log.Printf("%v: closed", conn.RemoteAddr())
		}()
	}
}

// serve talks to one client until one of the two has had enough.
func serve(conn net.Conn) error {
	if _, err := io.WriteString(conn, "***CLIENT OPEN / SERVICE OPEN***\n"); err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := conn.Read(buf)
		if err == io.EOF { // the client's FIN: it still listens
			_, err = io.WriteString(conn, "***CLIENT CLOSED, SERVICE CLOSING***\n")
			return err
		}
		if err != nil {
			return err
		}
		message := buf[:n]
		switch strings.ToLower(strings.TrimSpace(string(message))) {
		case "quit", "close", "bye", "exit":
			_, err = io.WriteString(conn, "***CLIENT OPEN, SERVICE CLOSING***\n")
			return err
		}
		if _, err := conn.Write(monkeys.Answer(message)); err != nil {
			return err
		}
	}
}
