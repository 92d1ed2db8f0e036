package main

// This file owns tapstack as a peer, and what is measured of the command
// itself: how fast it starts and what it costs while nothing happens.

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/internal/lab"
)

// envProfile names the file for a CPU profile of the stack's server; of the one
// that ends last, when there are several.
const envProfile = "TAPSTACK_CPUPROFILE"

// tapstack is the stack on one of the lab's devices.
type tapstack struct {
	device
	plain bool // without the virtio-net header
	bbr   bool // instead of CUBIC
	*process
}

func (t *tapstack) name() string {
	switch {
	case t.plain:
		return "tapstack-plain"
	case t.bbr:
		return oursBBR
	}
	return "tapstack"
}

func (t *tapstack) about() string {
	switch {
	case t.packet():
		return "the stack on packet socket " + t.dev() + ", frame by frame, as this machine lets us open no TAP"
	case t.plain:
		return "the same on TAP " + t.dev() + " with plain frames of 1500 bytes (`--offload=off`)"
	}
	return "the stack on TAP " + t.dev() + ", a port of the bridge on which the client is; MTU 1500, super-frames of up to 64 KB with checksums left out (`--offload=require`). Its congestion control is CUBIC, its recovery SACK, RACK and tail loss probes"
}

func (t *tapstack) start(ctx context.Context) (err error) {
	args := []string{"--ip", t.prefix().String(), "--offload"}
	switch {
	case t.packet():
		args = append(args, "auto", "--dev", "packet:"+t.dev())
	case t.plain:
		args = append(args, "off", "--tap", t.dev())
	default:
		args = append(args, "require", "--tap", t.dev())
	}
	if t.bbr {
		args = append(args, "--congestion", "bbr")
	}
	t.process, err = launch(ctx, self("tapstack", args...))
	return err
}

func (t *tapstack) pid() int { return t.cmd.Process.Pid }

// device is the lab's device number n, counted from 0.
type device int

// packet says that the lab had to do with packet sockets.
func (device) packet() bool { return os.Getenv(lab.EnvDev) != "" }

func (n device) dev() string {
	if n.packet() {
		return fmt.Sprintf("eth%d", lab.FirstHost+int(n))
	}
	return fmt.Sprintf("tap%d", lab.FirstHost+int(n))
}

func (n device) addr() netip.Addr {
	return netip.AddrFrom4([4]byte{10, 77, 0, lab.FirstHost + byte(n)})
}

func (n device) prefix() netip.Prefix { return netip.PrefixFrom(n.addr(), lab.Kernel4.Bits()) }

// serveTapstack does what `tapstack up` does.
func serveTapstack(args []string) error {
	o := attach.Options{NoDAD: true}
	fs := pflag.NewFlagSet("serve tapstack", pflag.ContinueOnError)
	o.Register(fs)
	if err := fs.Parse(args); err != nil {
		return err
	}
	return o.Run(func(ctx context.Context, h *attach.Host) (err error) {
		set, err := startServices(h.Net)
		if err != nil {
			return err
		}
		if name := os.Getenv(envProfile); name != "" {
			f, err := os.Create(name)
			if err != nil {
				return err
			}
			defer f.Close()
			if err := pprof.StartCPUProfile(f); err != nil {
				return err
			}
			defer pprof.StopCPUProfile()
		}
		fmt.Println(h.ReadyLine())
		<-ctx.Done()
		return set.Close()
	})
}

// command is the real program, as a user starts it.
func command(o *options) *exec.Cmd {
	return exec.Command(o.command, "up", "--services", strings.Join(services, ","), "--dad=false")
}

// startups starts and ends the command once for each round and returns how
// many milliseconds it took to be ready.
func startups(ctx context.Context, o *options) (ms []float64, err error) {
	for range o.rounds {
		p, err := launch(ctx, command(o))
		if err != nil {
			return nil, err
		}
		if err := p.stop(); err != nil {
			return nil, err
		}
		ms = append(ms, p.took.Seconds()*1e3)
	}
	return ms, nil
}

// idle is what a stack costs while nothing happens.
type idle struct {
	RSS             float64 `json:"rss_mb"`
	CPU             float64 `json:"cpu_us_per_s"`
	Goroutines      int     `json:"goroutines"`
	StackGoroutines int     `json:"goroutines_of_the_stack"`
}

// resting measures it for a second, and then counts the goroutines by the dump
// that a Go program writes when it dies of SIGQUIT.
func resting(ctx context.Context, o *options) (r idle, err error) {
	const (
		settle = 500 * time.Millisecond
		window = time.Second
	)
	cmd := command(o)
	cmd.Env = append(os.Environ(), "GOTRACEBACK=all")
	p, err := launch(ctx, cmd)
	if err != nil {
		return r, err
	}
	time.Sleep(settle)
	begin, used := time.Now(), cpuTime(cmd.Process.Pid)
	time.Sleep(window)
	r.CPU = float64((cpuTime(cmd.Process.Pid) - used).Microseconds()) / time.Since(begin).Seconds()
	r.RSS = rss(cmd.Process.Pid)
	// The status of a death by SIGQUIT is 2, an error like any other.
	_ = p.end(syscall.SIGQUIT)
	r.Goroutines, r.StackGoroutines = countGoroutines(p.stderr.String())
	if r.Goroutines == 0 {
		return r, errors.New("no goroutines in the dump after SIGQUIT")
	}
	return r, nil
}

var (
	goroutineHeader = regexp.MustCompile(`(?m)^goroutine [1-9][0-9]* `)
	ofRuntime       = regexp.MustCompile(`(?m)^created by runtime\.`)
	frame           = regexp.MustCompile(`(?m)^github\.com/tapstack/tapstack/.*$`)
	ofStack         = regexp.MustCompile(`^github\.com/tapstack/tapstack/(stack|ether)[./]`)
)

// countGoroutines counts the goroutines in a dump, without the runtime's, and
// those among them that began in the stack or its device.
func countGoroutines(dump string) (all, stack int) {
	for block := range strings.SplitSeq(dump, "\n\n") {
		if !goroutineHeader.MatchString(block) || ofRuntime.MatchString(block) {
			continue
		}
		all++
		// The outermost function comes last.
		if frames := frame.FindAllString(block, -1); len(frames) > 0 && ofStack.MatchString(frames[len(frames)-1]) {
			stack++
		}
	}
	return all, stack
}
