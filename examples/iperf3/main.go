// Iperf3 measures the stack with the program of that name at the other end: it
// is a server for `iperf3 -c`, or a client for `iperf3 -s`. The protocol is in
// internal/iperf3.
//
//	sudo make bridge tap && sudo go run ./examples/iperf3 --tap tap7 --ip 10.77.0.7/24
//
// or without root, in the shell that `make lab` opens:
//
//	go run ./examples/iperf3 &
//	iperf3 -c 10.77.0.7 -t 2          # to the stack; -R from it, -P 4 in parallel
//
// and as a client, with iperf3's own flags:
//
//	iperf3 -s -1 -D && go run ./examples/iperf3 -c 10.77.0.1 -R -P 4 -t 2
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"strconv"

	"github.com/spf13/pflag"

	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/internal/iperf3"
)

var (
	server  = pflag.StringP("client", "c", "", "measure to this `SERVER` instead of being one")
	reverse = pflag.BoolP("reverse", "R", false, "the server sends")
	streams = pflag.IntP("parallel", "P", 1, "streams at a time")
	seconds = pflag.IntP("time", "t", 0, "how long to measure, in seconds (default 10)")
	bytes   = pflag.Uint64P("bytes", "n", 0, "how much to send, instead of how long")
)

func main() { attach.Main("", run) }

func run(ctx context.Context, host *attach.Host, _ []string) error {
	if *server != "" {
		return client(ctx, host)
	}
	ln, err := host.Net.Listen("tcp", ":"+strconv.Itoa(iperf3.Port))
	if err != nil {
		return err
	}
	return iperf3.Serve(ctx, ln, func(s iperf3.Summary, err error) {
		if err != nil {
			log.Printf("a test failed: %v", err)
			return
		}
		log.Print(s)
	})
}

func client(ctx context.Context, host *attach.Host) error {
	address := net.JoinHostPort(*server, strconv.Itoa(iperf3.Port))
	dial := func(ctx context.Context) (net.Conn, error) { return host.Net.DialContext(ctx, "tcp", address) }
	s, err := iperf3.Run(ctx, dial, iperf3.Params{Reverse: *reverse, Streams: *streams, Seconds: *seconds, Bytes: *bytes})
	if err == nil {
		fmt.Println(s)
	}
	return err
}
