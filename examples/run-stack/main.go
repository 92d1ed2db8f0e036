// Run-stack attaches a stack to a network and does nothing else: it answers
// ARP, neighbour solicitations and pings, and refuses connections. It shows
// the whole way from flags to a running stack and back, which the other
// examples leave to attach.Main.
//
//	sudo make bridge tap && sudo go run ./examples/run-stack --tap tap7 --ip 10.0.0.7/24
//
// or without root, in a lab:
//
//	bin/tapstack lab run -- sh -c 'go run ./examples/run-stack & sleep 5; ping -c 3 10.77.0.7'
package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/spf13/pflag"

	"github.com/tapstack/tapstack/internal/attach"
)

func main() { attach.Exit("run-stack", run()) }

func run() error {
	var options attach.Options
	options.Register(pflag.CommandLine)
	pflag.Parse()

	// The context ends with ^C, also while addresses are still being probed.
	ctx, stop := attach.SignalContext()
	defer stop()

	// Open makes a stack.Stack with one interface on the device, gives it its
	// addresses and routes, and waits until no duplicate has shown up.
	host, err := options.Open(ctx)
	if err != nil {
		return err
	}
	for _, note := range host.Notes {
		fmt.Fprintln(os.Stderr, note)
	}
	fmt.Println(host.ReadyLine())

	<-ctx.Done()
	counters := host.Stack.Counters()
	for _, name := range slices.Sorted(maps.Keys(counters)) {
		fmt.Fprintln(os.Stderr, name, counters[name])
	}
	limited, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	return host.Shutdown(limited)
}
