// Bench measures the stack on a TAP against gVisor's and the Linux kernel's, on
// this machine and in one run, and writes benchmarks.md, .json and .svg in
// docs. `make bench` runs it, QUICK=1 makes it short; `make profile` runs it
// with -profile, which tells where the stack's time goes instead.
//
// It is one program in three roles:
//
//	bench            outside: builds the command, starts a private network
//	└ bench drive    inside it: the client of every peer, and the report
//	  ├ bench serve tapstack     a server: the stack on tap7, plain on tap8
//	  ├ bench serve gvisor       a server: gVisor on tap9, tap10 or a veth pair
//	  ├ bench serve kernel       a server: kernel sockets, own namespace
//	  └ bench serve relay        drops and delays frames in some tests
//
// Nothing of it is left when it ends: processes are tied to their parents'
// lives and networks to the processes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/internal/lab"
)

// timeLimit bounds a run, whatever happens.
const timeLimit = 30 * time.Minute

func main() {
	lab.Init()
	if len(os.Args) > 2 && os.Args[1] == "serve" {
		attach.Exit("bench serve", serve(os.Args[2], os.Args[3:]))
	}
	if len(os.Args) > 1 && os.Args[1] == "drive" {
		o, err := parse(os.Args[2:])
		if err == nil {
			err = drive(o)
		}
		attach.Exit("bench", err)
	}
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	if err != nil {
		attach.Exit("bench", &attach.UsageError{Err: err})
	}
	status, err := outside(o)
	if err != nil {
		attach.Exit("bench", err)
	}
	os.Exit(status)
}

type options struct {
	quick   bool
	rounds  int
	docs    string // the directory to write the documents to; "" for none
	profile string // the directory to write profiles to instead; "" for none
	cc      string // congestion control of kernel sockets
	only    *regexp.Regexp
	command string // the built tapstack
	// wan is how long a stream of `make wan` takes; 0: not that.
	wan time.Duration
}

const (
	fullRounds  = 5
	quickRounds = 2
)

func parse(args []string) (*options, error) {
	o := &options{only: regexp.MustCompile("")}
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.BoolVar(&o.quick, "quick", os.Getenv("QUICK") == "1", "short rounds, for a first look; writes no documents unless told where")
	fs.IntVar(&o.rounds, "rounds", 0, fmt.Sprintf("how many times to measure everything (default %d, quick %d)", fullRounds, quickRounds))
	fs.StringVar(&o.docs, "docs", "", "write benchmarks.md, .json and .svg to `DIR` (default ../docs unless quick or only some tests)")
	fs.StringVar(&o.cc, "cc", "cubic", "congestion control of kernel sockets, empty for the system's")
	fs.Func("only", "run only the tests whose names match `REGEXP`: "+testNames(), func(s string) (err error) {
		o.only, err = regexp.Compile(s)
		return err
	})
	fs.StringVar(&o.profile, "profile", "", "only run the stack under the profiler and write what that tells to `DIR`")
	fs.DurationVar(&o.wan, "wan", 0, "only compare lossy paths with the kernel, streams of a `TIME` each; -only chooses paths")
	fs.StringVar(&o.command, "command", "", "the tapstack `PROGRAM` for start-up and idle (default: built from the source)")
	fs.SetOutput(io.Discard) // errors are printed by main, as one line
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fs.SetOutput(os.Stdout)
			fs.PrintDefaults()
		}
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if o.rounds < 0 || o.rounds > 100 {
		return nil, fmt.Errorf("-rounds %d: want 1 to 100", o.rounds)
	}
	if o.rounds == 0 {
		o.rounds = fullRounds
		if o.quick {
			o.rounds = quickRounds
		}
	}
	if o.docs == "" && !o.quick && o.only.String() == "" {
		o.docs = "../docs"
	}
	return o, nil
}

// outside builds the command and runs this program again in a lab.
func outside(o *options) (status int, err error) {
	exe, err := os.Executable()
	if err != nil {
		return 1, err
	}
	argv := append([]string{exe, "drive"}, os.Args[1:]...)
	if o.command == "" {
		dir, err := os.MkdirTemp("", "tapstack-bench-")
		if err != nil {
			return 1, err
		}
		defer os.RemoveAll(dir)
		command := filepath.Join(dir, "tapstack")
		if err := build(command); err != nil {
			return 1, err
		}
		argv = append(argv, "-command", command)
	}
	clean()
	return lab.Run(context.Background(), lab.Options{Hosts: hosts}, argv)
}

// clean takes away the defaults that the user's environment has for the flags
// of the stack: what is measured is the same for everyone.
func clean() {
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "TAPSTACK_") && name != envProfile && name != lab.EnvDevice {
			os.Unsetenv(name)
		}
	}
}

func build(command string) error {
	if _, err := os.Stat("../cmd/tapstack"); errors.Is(err, fs.ErrNotExist) {
		return errors.New("not in the directory of its source; use `go -C bench run .`")
	}
	ctx, stop := attach.SignalContext()
	defer stop()
	c := exec.CommandContext(ctx, "go", "-C", "..", "build", "-o", command, "./cmd/tapstack")
	c.Stderr = os.Stderr
	if err := c.Run(); err != nil {
		return fmt.Errorf("build cmd/tapstack: %w", err)
	}
	return nil
}

// drive is the middle role.
func drive(o *options) error {
	if os.Getenv(lab.EnvLab) != "1" {
		return errors.New("drive is for bench itself, in a lab")
	}
	// The servers die with the thread that has started them.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, timeLimit)
	defer cancel()

	if o.profile != "" {
		return profile(ctx, o)
	}
	if o.wan > 0 {
		return wan(ctx, o)
	}
	r, err := measure(ctx, o)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	r.print(os.Stdout)
	if o.docs == "" {
		return nil
	}
	return r.write(o.docs)
}

// serve is the inner role.
func serve(name string, args []string) error {
	switch name {
	case "tapstack":
		return serveTapstack(args)
	case "gvisor":
		return serveGvisor(args)
	case "kernel":
		return serveKernel(args)
	case "relay":
		return serveRelay(args)
	}
	return fmt.Errorf("no server %q", name)
}
