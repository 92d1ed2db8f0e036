package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/internal/service"
	"github.com/tapstack/tapstack/stack"
)

type upOptions struct {
	attach   attach.Options
	services []string
	stats    bool
}

func upCommand() *cobra.Command {
	o := new(upOptions)
	c := &cobra.Command{
		Use:   "up",
		Short: "Attach a stack to a network and run services on it",
		Long: `Attach a stack to a network and run services on it, until SIGINT or SIGTERM.

When the addresses may be used, one line that starts with "ready" is printed,
and before it one that starts with "lease" (--dhcp) or "lease6" (--dhcp6, or
--slaac where routers say so) for what a server gave.
At the end connections get 3 seconds to close; a second signal ends at once.
Changes of links, addresses and routes are printed to stderr as they happen.
On SIGUSR1 the counters that are not zero are printed to stderr.

Flags have defaults in environment variables: TAPSTACK_TAP, TAPSTACK_IP, ...`,
		Example: `  sudo tapstack up --tap tap7 --ip 10.77.0.7/24 --ip fd77::7/64 --gw 10.77.0.1 --services echo,daytime
  sudo tapstack up --tap tap7 --dhcp --slaac
  sudo tapstack up --tap tap7 --dhcp6 --dhcp6-prefix 56
  tapstack lab run -- tapstack up --services echo --pcap echo.pcapng`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c.OutOrStdout()) },
	}
	o.attach.Register(c.Flags())
	c.Flags().StringSliceVar(&o.services, "services", nil,
		"run these `SERVICES` over TCP and UDP: any of "+strings.Join(service.Names(), ","))
	c.Flags().BoolVar(&o.stats, "stats", false, "print the counters to stderr at the end as well")
	return c
}

func (o *upOptions) run(out io.Writer) error {
	for _, name := range o.services {
		if _, err := service.New(name); err != nil {
			return &attach.UsageError{Err: fmt.Errorf("--services: %w", err)}
		}
	}
	return o.attach.Run(func(ctx context.Context, h *attach.Host) error {
		set, err := service.Start(h.Net, o.services)
		if err != nil {
			return err
		}
		counters := func() { printCounters(os.Stderr, h.Counters(), set.Counters()) }
		if o.stats {
			defer counters()
		}
		if h.Stack != nil {
			w := h.Stack.Watch(stack.LinkChange|stack.AddrChange|stack.RouteChange, 0)
			told := make(chan struct{})
			go func() {
				defer close(told)
				printChanges(ctx, os.Stderr, w)
			}()
			defer func() { w.Close(); <-told }()
		}
		for _, line := range h.LeaseLines() {
			fmt.Fprintln(out, line)
		}
		fmt.Fprintln(out, h.ReadyLine(set.Names()...))

		usr1 := make(chan os.Signal, 1)
		signal.Notify(usr1, syscall.SIGUSR1)
		defer signal.Stop(usr1)
		for {
			select {
			case <-usr1:
				counters()
			case <-set.Failed():
				return set.Close()
			case <-ctx.Done():
				return set.Close()
			}
		}
	})
}

// printChanges prints a line for each change of links, addresses and routes,
// until ctx or the stack ends.
func printChanges(ctx context.Context, w io.Writer, changes *stack.Watch) {
	for {
		c, err := changes.Next(ctx)
		switch {
		case err == nil:
			fmt.Fprintln(w, c)
		case errors.Is(err, syscall.ENOBUFS):
			fmt.Fprintln(w, err)
		default:
			return
		}
	}
}

// printCounters prints a line for each counter, in order of their names.
func printCounters(w io.Writer, sets ...map[string]uint64) {
	all := make(map[string]uint64)
	for _, s := range sets {
		maps.Copy(all, s)
	}
	width := 0
	for name := range all {
		width = max(width, len(name))
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(w, "%-*s %d\n", width, name, all[name])
	}
}
