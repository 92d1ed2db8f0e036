package attach

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"
)

// closeWait is how long connections get to end when a program ends.
const closeWait = 3 * time.Second

// Main is the main function of a small program on a stack: it reads the
// command line, attaches, prints the ready line, calls run and exits. args
// names the arguments that the program needs besides flags, as "ADDRESS";
// run gets as many. Its context ends with SIGINT or SIGTERM, which is no error.
// Flags of its own a program adds to pflag.CommandLine.
func Main(args string, run func(ctx context.Context, host *Host, args []string) error) {
	name := filepath.Base(os.Args[0])
	var o Options
	o.Register(pflag.CommandLine)
	pflag.CommandLine.Init(name, pflag.ContinueOnError)
	pflag.CommandLine.SetOutput(io.Discard) // errors are printed once, by Exit
	usage := strings.TrimSpace(name + " [flags] " + args)
	pflag.Usage = func() { fmt.Printf("Usage: %s\n\n%s", usage, pflag.CommandLine.FlagUsages()) }
	err := pflag.CommandLine.Parse(os.Args[1:])
	switch want := len(strings.Fields(args)); {
	case errors.Is(err, pflag.ErrHelp):
		os.Exit(0)
	case err != nil:
		Exit(name, &UsageError{err})
	case pflag.NArg() != want:
		Exit(name, Usagef("%d arguments instead of %d; usage: %s", pflag.NArg(), want, usage))
	}
	Exit(name, o.Run(func(ctx context.Context, h *Host) error {
		fmt.Println(h.ReadyLine())
		return run(ctx, h, pflag.Args())
	}))
}

// Run attaches, calls run, and then ends connections within 3 seconds. ctx
// ends with SIGINT or SIGTERM, which is no error, or when the device has gone;
// a second signal ends the program at once.
func (o *Options) Run(run func(context.Context, *Host) error) error {
	ctx, stop := SignalContext()
	defer stop()
	h, err := o.Open(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	for _, n := range h.Notes {
		fmt.Fprintln(os.Stderr, n)
	}
	signalled := ctx
	ctx, lost := context.WithCancelCause(ctx)
	defer lost(nil)
	if h.Interface != nil {
		go func() {
			select {
			case <-h.Interface.Down():
				lost(fmt.Errorf("interface %s has gone", h.Interface.Name()))
			case <-ctx.Done():
			}
		}()
	}
	err = run(ctx, h)
	switch {
	case signalled.Err() != nil:
		err = nil // whatever failed then failed because it was to end
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	}
	limited, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	return errors.Join(err, h.Shutdown(limited))
}

// SignalContext returns a context that ends with the first SIGINT or SIGTERM.
// The second ends the program at once.
func SignalContext() (ctx context.Context, stop context.CancelFunc) {
	ctx, stop = signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // back to what a signal does by itself
	return ctx, stop
}

// Exit ends the program: with status 0 when err is nil, else after one line on
// stderr with the status that the error's ExitCode method asks for, or 1.
func Exit(name string, err error) {
	if err == nil {
		os.Exit(0)
	}
	// errors.Join puts each error on a line.
	fmt.Fprintf(os.Stderr, "%s: %s\n", name, strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; "))
	var e interface{ ExitCode() int }
	if errors.As(err, &e) {
		os.Exit(e.ExitCode())
	}
	os.Exit(1)
}
