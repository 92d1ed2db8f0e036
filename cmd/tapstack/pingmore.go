package main

// This file owns what ping has besides its usual output: iputils' rarer flags,
// those that are refused and why, the histogram, and the moving average.

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/probe"
)

// pingMore are the flags of this file.
type pingMore struct {
	precise, sticky, verbose, version, histogram, times bool
	ident                                               int
	targets                                             string
}

func (o *pingOptions) registerMore(f *pflag.FlagSet) {
	f.BoolVar(&o.histogram, "histogram", false, "a histogram of the round trips in the end, its bounds 1, 2 and 5 of each power of ten")
	f.StringVar(&o.targets, "targets", "", "ping the hosts in `FILE` (- for standard input), one on a line")
	f.BoolVar(&o.times, "times", false, "of several hosts: in the end all round trips of each, as fping -C")
	f.BoolVarP(&o.precise, "precision", "3", false, "round trips with three digits, however long")
	f.BoolVarP(&o.sticky, "sticky", "B", false, "keep the source address of the beginning")
	f.VarP(number{&o.ident, 1, 65535}, "identifier", "e", "use `N` as the requests' identifier")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "show the identifier")
	f.BoolVarP(&o.version, "version", "V", false, "print the version")
	for _, r := range refusedFlags {
		v := f.VarPF(refusedFlag{r.letter, r.reason}, "refused-"+r.letter, r.letter, "")
		v.NoOptDefVal = r.noValue
		v.Hidden = true
	}
}

// refusedFlag is a flag of iputils' that cannot be had here; using it is a mistake,
// and not without an effect.
type refusedFlag struct{ letter, reason string }

// refusal is the error of using one.
type refusal struct{ refusedFlag }

func (r refusal) Error() string { return "-" + r.letter + " is not here: " + r.reason }

func (r refusedFlag) String() string   { return "" }
func (r refusedFlag) Type() string     { return "refused" }
func (r refusedFlag) Set(string) error { return refusal{r} }

// refusedFlags are iputils' of 2022 and later that are refused; docs/probes.md
// has the same list. noValue is for those that take none.
var refusedFlags = []struct{ letter, noValue, reason string }{
	{"C", "true", "there is no socket that could be connected"},
	{"d", "true", "there is no socket for SO_DEBUG"},
	{"H", "true", "names of addresses are not looked up"},
	{"L", "true", "groups are not looped back to probes in the first place"},
	{"m", "", "a mark is for the kernel's routing, which these packets do not see"},
	{"N", "", "node information queries (RFC 4620) are not sent"},
	{"r", "true", "the stack has its own routes; -I names an interface"},
	{"R", "true", "IPv4 options are not sent; trace shows the route"},
	{"S", "", "there is no socket with a send buffer"},
	{"T", "", "IPv4 options are not sent"},
	{"U", "true", "round trips are measured at the device, and not from user to user"},
}

// checkHosts wants at least one host, from the arguments or from a file.
func (o *pingOptions) checkHosts(c *cobra.Command, args []string) error {
	switch {
	case o.version:
	case o.targets != "" && len(args) > 0:
		return attach.Usagef("--targets and %q: want one of the two", args[0])
	case o.targets == "" && len(args) == 0:
		return attach.Usagef("no HOST; `%s --help` tells the usage", c.CommandPath())
	}
	return nil
}

// start checks the flags and pings one host as iputils does, or several.
func (o *pingOptions) start(out io.Writer, hosts []string) error {
	if o.version {
		_, err := fmt.Fprintln(out, version())
		return err
	}
	if o.json != "" && o.json != jsonSeed && o.json != jsonFull {
		return attach.Usagef("--json %s: want seed or full", o.json)
	}
	switch o.fragments {
	case "do", "want", "dont", "probe":
	default:
		return attach.Usagef("-M %s: want do, want, dont or probe", o.fragments)
	}
	if _, err := o.request(anyAddr); err != nil {
		return err
	}
	if o.targets != "" {
		var err error
		if hosts, err = readHosts(o.targets); err != nil {
			return attach.Usagef("--targets %s: %w", o.targets, err)
		}
	}
	if len(hosts) == 1 && o.targets == "" && !o.times {
		return o.run(out, hosts[0])
	}
	if o.ident != 0 {
		return attach.Usagef("-e: several hosts need identifiers of their own")
	}
	return o.runMany(out, hosts)
}

// ping pings; at each SIGQUIT it says on standard error how far it is, as ping does.
func (w *pingOutput) ping(ctx context.Context, p *probe.Prober, q probe.PingRequest) probe.PingResult {
	quit := make(chan os.Signal, 1)
	signal.Notify(quit, syscall.SIGQUIT)
	defer signal.Stop(quit)
	done := make(chan probe.PingResult, 1)
	s := p.StartPing(q, w.packet, func(r probe.PingResult) { done <- r })
	ended := ctx.Done()
	for {
		select {
		case r := <-done:
			return r
		case <-ended:
			ended = nil
			s.Stop()
		case <-quit:
			r := s.Snapshot()
			x := &r.Stats
			fmt.Fprintf(os.Stderr, "\r%d/%d packets, %d%% loss", r.Received, r.Sent, loss(r.Sent, r.Received))
			if x.Count > 0 {
				fmt.Fprintf(os.Stderr, ", min/avg/ewma/max = %.3f/%.3f/%.3f/%.3f ms", ms(x.Best), ms(x.Avg()), ms(time.Duration(w.ewma.Load()/8)), ms(x.Wrst))
			}
			fmt.Fprintln(os.Stderr)
		}
	}
}

// identify gives the requests the identifier of -e; with -v it is known.
func (o *pingOptions) identify(p *probe.Prober, q *probe.PingRequest) (uint16, error) {
	q.EchoID = uint16(o.ident)
	if !o.verbose {
		return 0, nil
	}
	id, err := p.Reserve(probe.ICMP, q.EchoID)
	q.EchoID = id // it goes back with the prober
	return id, err
}

func (w *pingOutput) identity() string {
	if !w.o.verbose {
		return ""
	}
	return fmt.Sprintf(" ident=%d", w.ident)
}

// time is a round trip as it is printed.
func (o *pingOptions) time(d time.Duration) string {
	if o.precise {
		return fmt.Sprintf("%.3f", ms(d))
	}
	return pingTime(d)
}

// stamp is what -D puts in front of lines.
func (o *pingOptions) stamp() string {
	if !o.stamps {
		return ""
	}
	now := time.Now()
	return fmt.Sprintf("[%d.%06d] ", now.Unix(), now.Nanosecond()/1000)
}

// average is ping's moving average, of which each round trip moves an eighth.
func (w *pingOutput) average(d time.Duration) {
	if x := w.ewma.Load(); x == 0 {
		w.ewma.Store(8 * int64(d))
	} else {
		w.ewma.Store(x + int64(d) - x/8)
	}
}

// gaps are the time between requests and the moving average, which ping prints
// where the first was not asked for.
func (w *pingOutput) gaps(r *probe.PingResult) string {
	if !w.o.flood && !w.o.adaptive && w.o.interval != 0 || r.Sent < 2 {
		return ""
	}
	return fmt.Sprintf(", ipg/ewma %.3f/%.3f ms", ms(r.Elapsed)/float64(r.Sent-1), ms(time.Duration(w.ewma.Load()/8)))
}

// histogramBucket is one of --json=full.
type histogramBucket struct {
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
	Count int     `json:"count"`
}

// printHistogram draws the round trips.
func printHistogram(w io.Writer, s *probe.Stats) {
	const width = 50
	list := s.Histogram()
	most := 0
	for _, b := range list {
		most = max(most, b.Count)
	}
	fmt.Fprintln(w, "rtt histogram:")
	for _, b := range list {
		bar := (b.Count*width + most - 1) / most // what there is shows
		fmt.Fprintf(w, "%9s .. %-9s %7d %5.1f%% %s\n", bound(b.Low), bound(b.High)+" ms", b.Count, 100*float64(b.Count)/float64(s.Count), strings.Repeat("#", bar))
	}
}

// bound is a bound in milliseconds with no more digits than it has.
func bound(d time.Duration) string { return fmt.Sprintf("%g", ms(d)) }

// strange are the answers that are not as they should be, counted.
func strange(r *probe.PingResult) (list []string) {
	for _, c := range []struct {
		n    int
		name string
	}{{r.Duplicates, "duplicates"}, {r.Late, "late"}, {r.Corrupt, "corrupted"}, {r.Errors, "errors"}} {
		if c.n > 0 {
			list = append(list, fmt.Sprintf("%d %s", c.n, c.name))
		}
	}
	return list
}
