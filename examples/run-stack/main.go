// Run-stack attaches a stack to a network and does nothing else: it answers
// ARP, neighbour solicitations and pings, and refuses connections. It shows
// the whole way from flags to a running stack and back, which the other
// examples leave to attach.Main.
//
//	sudo make bridge tap && sudo go run ./examples/run-stack --tap tap7 --ip 10.77.0.7/24
//
// or without root, in a lab:
//
//	bin/tapstack lab run -- sh -c 'go run ./examples/run-stack & sleep 5; ping -c 3 10.77.0.7'
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	flags := pflag.NewFlagSet("run-stack", pflag.ContinueOnError)
	options.Register(flags)
	flags.SetOutput(io.Discard) // attach.Exit prints what is wrong
	switch err := flags.Parse(os.Args[1:]); {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Print("Usage: run-stack [flags]\n\n", flags.FlagUsages())
		return nil
	case err != nil:
		return &attach.UsageError{Err: err}
	case flags.NArg() > 0:
		return attach.Usagef("unexpected argument %q", flags.Arg(0))
	}

	// The context ends with ^C, also while addresses are still being probed.
	ctx, stop := attach.SignalContext()
	defer stop()

	// Open makes a stack.Stack with one interface on the device, gives it its
	// addresses and routes, and waits until no duplicate has shown up.
	host, err := options.Open(ctx)
	if err != nil && ctx.Err() != nil {
		return nil // ^C; Open has closed what it had opened
	}
	if err != nil {
		return err
	}
	if err := host.NeedStack(); err != nil {
		return err
	}
	for _, note := range host.Notes {
		fmt.Fprintln(os.Stderr, note)
	}
	fmt.Println(host.ReadyLine())

	// The end is ^C, or that of the device.
	select {
	case <-ctx.Done():
	case <-host.Interface.Down():
		err = fmt.Errorf("interface %s has gone", host.Interface.Name())
	}
	counters := host.Stack.Counters()
	for _, name := range slices.Sorted(maps.Keys(counters)) {
		fmt.Fprintln(os.Stderr, name, counters[name])
	}
	limited, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	return errors.Join(err, host.Shutdown(limited))
}
