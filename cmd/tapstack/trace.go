package main

import (
	"context"
	"errors"
	"io"
	"math"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/probe"
	"github.com/tapstack/tapstack/probe/traceview"
)

// This file owns the command trace: its flags, and which trace they ask for.
// What is printed is in tracereport.go, the ways of --ecmp in tracepaths.go, the
// live view in tracelive.go.

type traceOptions struct {
	attach attach.Options
	family
	cycles, size, pattern, tos, first, last, unknown, port, localPort int
	flows, mark, mode                                                 int
	interval, timeout, grace                                          wait
	device, address, order, asFile, hostFile                          string
	report, wide, json, csv, raw, xml, curses                         bool
	udp, tcp, sctp                                                    bool
	numeric, showIPs, mpls, aslookup                                  bool
	classic, ecmp, inSession, back, mtu                               bool
	confidence                                                        float64

	counted   bool // -c was given
	searching bool // --confidence or --max-flows was
	several   bool // hosts
	as        *traceview.ASTable
}

func traceCommand() *cobra.Command {
	o := &traceOptions{cycles: probe.DefaultCycles, size: probe.DefaultSize, last: probe.DefaultMaxTTL, first: 1, unknown: probe.DefaultMaxUnknown,
		interval: wait(time.Second), timeout: wait(probe.DefaultTimeout), grace: wait(probe.DefaultGrace), flows: probe.DefaultMaxFlows}
	c := &cobra.Command{
		Use:   "trace [flags] HOST...",
		Short: "Find the routers to a host and how they answer",
		Long: `Send probes with every TTL up to the host's, --report-cycles times, and report
what each hop answered. The flags, keys and fields are mtr's. On a terminal the
table is live; otherwise, and with -r, -w, -j, -C, -x or -l, it is printed in the
end. All probes are of one flow, so that routers that share out flows send them
one way; --ecmp looks for all ways and then measures each. Several hosts are traced
at the same time, and their reports stand in the order of the hosts.

MPLS labels, refusals and what was found are always shown: translated addresses,
bleached DSCP or ECN, a clamped MSS, each at the first hop that shows it; hops that
limit their errors, whose loss is none; loops. --in-session sends the probes within
a TCP connection that it makes, so that firewalls let them pass that let nothing
begin. --hop-mtu says what the path carries as far as each hop, --back how many hops
the answers came, guessed by their TTL.

Names come from the DNS servers of --dns, asked over the stack; AS numbers from a
file only: lines of a prefix, a number and a name, with tabs between.

Exit status: 0 when the host answered, 1 when it did not, 2 when nothing could be
sent; of several hosts the worst.`,
		Example: `  tapstack lab run -- tapstack trace -c 3 10.77.0.1
  tapstack trace -T -P 443 -j 192.0.2.1
  tapstack trace --in-session -P 443 --back 192.0.2.1
  tapstack trace --ecmp -u -c 20 192.0.2.1`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 && o.hostFile == "" {
				return attach.Usagef("no HOST; `%s --help` tells the usage", c.CommandPath())
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			o.counted = c.Flags().Changed("report-cycles")
			o.searching = c.Flags().Changed("confidence") || c.Flags().Changed("max-flows")
			return o.run(c.OutOrStdout(), args)
		},
	}
	f := c.Flags()
	f.StringVarP(&o.hostFile, "filename", "F", "", "trace the hosts in `FILE` too, one on a line; - is standard input")
	f.BoolVarP(&o.v4, "ipv4", "4", false, "IPv4 only")
	f.BoolVarP(&o.v6, "ipv6", "6", false, "IPv6 only")
	f.BoolVarP(&o.udp, "udp", "u", false, "UDP instead of ICMP")
	f.BoolVarP(&o.tcp, "tcp", "T", false, "SYNs of TCP instead of ICMP")
	f.BoolVarP(&o.sctp, "sctp", "S", false, "INITs of SCTP instead of ICMP; each is a flow of its own")
	f.BoolVar(&o.inSession, "in-session", false, "segments within a TCP connection to --port, which take part in nothing")
	f.VarP(number{&o.port, 1, 65535}, "port", "P", "destination `PORT` (default 33434 of UDP, 80 of TCP and SCTP); with --classic -u the first of them")
	f.VarP(number{&o.localPort, 1, 65535}, "localport", "L", "source `PORT` of UDP and TCP")
	f.StringVarP(&o.address, "address", "a", "", "source `ADDRESS`")
	f.StringVarP(&o.device, "interface", "I", "", "leave by the interface `NAME`")
	f.VarP(number{&o.mark, 0, math.MaxInt32}, "mark", "M", "refused unless 0: nothing in this stack reads the `MARK` of a packet")
	f.VarP(number{&o.cycles, 1, math.MaxInt32}, "report-cycles", "c", "`N` probes to each hop; the live view goes on without it")
	f.VarP(span{&o.interval}, "interval", "i", "`SECONDS` from one cycle to the next")
	f.VarP(number{&o.size, 0, 65535}, "psize", "s", "`BYTES` of a packet, IP header included")
	f.VarP(number{&o.pattern, 0, 255}, "bitpattern", "B", "fill with the byte `N`")
	f.VarP(number{&o.tos, 0, 255}, "tos", "Q", "DS field and ECN bits, as 0x28")
	f.VarP(number{&o.first, 1, 255}, "first-ttl", "f", "begin with `TTL`")
	f.VarP(number{&o.last, 1, 255}, "max-ttl", "m", "end with `TTL`")
	f.VarP(number{&o.unknown, 1, 255}, "max-unknown", "U", "end behind `N` silent hops")
	f.VarP(span{&o.timeout}, "timeout", "Z", "wait `SECONDS` for an answer")
	f.VarP(span{&o.grace}, "gracetime", "G", "wait `SECONDS` for what is missing in the end")
	f.BoolVar(&o.back, "back", false, "say how many hops each answer came, as its TTL lets guess, and where that is not the way there")
	f.BoolVar(&o.mtu, "hop-mtu", false, "find out first what the path carries as far as each hop")
	f.BoolVar(&o.classic, "classic", false, "vary what routers hash, so that hops may be of different ways")
	f.BoolVar(&o.ecmp, "ecmp", false, "find all ways among which routers share out flows (MDA), and then the loss of each")
	f.Float64Var(&o.confidence, "confidence", probe.DefaultConfidence, "with --ecmp: that no next router was missed, for each `P`")
	f.Var(number{&o.flows, 1, 60000}, "max-flows", "with --ecmp: at most `N` flows")
	f.BoolVarP(&o.curses, "curses", "t", false, "the live view, which is what a terminal gets anyway")
	f.Var(number{&o.mode, 0, 2}, "displaymode", "begin the live view with `MODE` 0 figures, 1 latest probes, 2 latest round trips; d goes on to the next")
	f.BoolVarP(&o.report, "report", "r", false, "a table in the end")
	f.BoolVarP(&o.wide, "report-wide", "w", false, "the table without cutting names")
	f.BoolVarP(&o.json, "json", "j", false, "JSON in the end")
	f.BoolVarP(&o.csv, "csv", "C", false, "CSV in the end")
	f.BoolVarP(&o.xml, "xml", "x", false, "XML in the end")
	f.BoolVarP(&o.raw, "raw", "l", false, "a line for each thing that happens")
	f.StringVarP(&o.order, "order", "o", traceview.DefaultOrder, "`FIELDS` of the table, of CSV and XML: "+traceview.Fields())
	f.BoolVarP(&o.numeric, "no-dns", "n", false, "addresses only, ask for no names")
	f.BoolVarP(&o.showIPs, "show-ips", "b", false, "names with addresses")
	f.BoolVarP(&o.mpls, "mpls", "e", false, "labels, which are shown anyway")
	f.BoolVarP(&o.aslookup, "aslookup", "z", false, "numbers of autonomous systems, of --as-file")
	f.StringVar(&o.asFile, "as-file", "", "`FILE` of prefixes, AS numbers and names, with tabs between; shows them as -z does")
	o.attach.Register(f)
	ownFrames(f, &o.attach)
	return c
}

// count is how many of the flags are set.
func count(flags ...bool) (n int) {
	for _, b := range flags {
		if b {
			n++
		}
	}
	return n
}

func (o *traceOptions) check() error {
	_, err := traceview.Order(o.order)
	formats := count(o.json, o.csv, o.raw, o.xml)
	switch {
	case err != nil:
		return attach.Usagef("-o %s: %v", o.order, err)
	case count(o.udp, o.tcp, o.sctp) > 1:
		return attach.Usagef("-u, -T and -S exclude each other")
	case formats > 1:
		return attach.Usagef("-j, -C, -x and -l exclude each other")
	case o.curses && (formats > 0 || o.report || o.wide || o.ecmp):
		return attach.Usagef("-t goes with no report and not with --ecmp")
	case o.v4 && o.v6:
		return attach.Usagef("-4 and -6 exclude each other")
	case o.first > o.last:
		return attach.Usagef("-f %d is beyond -m %d", o.first, o.last)
	case !(o.confidence > 0 && o.confidence < 1):
		return attach.Usagef("--confidence %g: want more than 0 and less than 1", o.confidence)
	case o.mark != 0:
		return attach.Usagef("-M %d: %v", o.mark, probe.ErrMark)
	case o.ecmp && (o.csv || o.raw || o.xml || o.classic || o.inSession || o.mtu || o.back || o.localPort != 0):
		return attach.Usagef("--ecmp goes with the table and with -j only, and makes its flows itself")
	case o.inSession && (o.udp || o.sctp || o.classic || o.mtu || o.size != probe.DefaultSize || o.pattern != 0 || o.localPort != 0 || o.address != "" || o.device != ""):
		return attach.Usagef("--in-session sends segments of a TCP connection, of which only --port, -Q and the times can be chosen")
	case o.port != 0 && !(o.udp || o.tcp || o.sctp || o.inSession):
		return attach.Usagef("-P: echo requests have no port; -u, -T, -S and --in-session do")
	case o.localPort != 0 && (!o.udp && !o.tcp || o.tcp && o.classic):
		return attach.Usagef("-L: is of -u, and of -T without --classic")
	case o.mtu && (o.csv || o.raw || o.xml):
		return attach.Usagef("--hop-mtu goes with the table and with -j only")
	case o.searching && !o.ecmp:
		return attach.Usagef("--confidence and --max-flows are of --ecmp")
	case o.aslookup && o.asFile == "":
		return attach.Usagef("-z: AS numbers come from a file; want --as-file")
	}
	return nil
}

// table reads --as-file.
func (o *traceOptions) table() error {
	if o.asFile == "" {
		return nil
	}
	f, err := os.Open(o.asFile)
	if err != nil {
		return attach.Usagef("--as-file: %v", err)
	}
	defer f.Close()
	if o.as, err = traceview.ReadAS(f); err != nil {
		return attach.Usagef("--as-file %s: %v", o.asFile, err)
	}
	return nil
}

// request is what the flags say.
func (o *traceOptions) request(dst netip.Addr) probe.Request {
	q := probe.Request{Dst: dst, DstPort: uint16(o.port), SrcPort: uint16(o.localPort), TOS: uint8(o.tos), Size: o.size,
		Pattern: byte(o.pattern), Timeout: time.Duration(o.timeout)}
	switch {
	case o.udp:
		q.Proto = probe.UDP
	case o.tcp:
		q.Proto, q.Size = probe.TCP, 0 // as mtr, whose size is not for TCP
	case o.sctp:
		q.Proto, q.Size = probe.SCTP, 0
	}
	return q
}

func (o *traceOptions) run(out io.Writer, hosts []string) error {
	if err := o.check(); err != nil {
		return err
	}
	if err := o.table(); err != nil {
		return err
	}
	if o.hostFile != "" {
		more, err := readHosts(o.hostFile)
		if err != nil {
			return attach.Usagef("-F %s: %v", o.hostFile, err)
		}
		hosts = append(slices.Clone(hosts), more...)
	}
	if len(hosts) > 1 && o.curses {
		return attach.Usagef("-t shows one host")
	}
	o.several = len(hosts) > 1
	return prober(&o.attach, func(ctx context.Context, h *attach.Host, p *probe.Prober) (int, error) {
		t := &tracer{o, h, p, nil}
		var stop func()
		t.names, stop = o.names(ctx, h)
		defer stop()
		if o.several {
			return t.many(ctx, out, hosts)
		}
		return t.one(ctx, out, hosts[0])
	})
}

// tracer is what the traces of a command have in common.
type tracer struct {
	*traceOptions
	h     *attach.Host
	p     *probe.Prober
	names *traceNames
}

// one traces a host and prints the report; the exit status is what it returns.
func (t *tracer) one(ctx context.Context, out io.Writer, host string) (int, error) {
	o, h, p := t.traceOptions, t.h, t.p
	dst, err := lookup(ctx, h, host, o.family)
	if err != nil {
		return 2, err
	}
	q := o.request(dst)
	if err := device(h, o.device, &q); err != nil {
		return 2, err
	}
	if o.address != "" {
		if q.Src, err = netip.ParseAddr(o.address); err != nil {
			return 2, attach.Usagef("-a %s: not an address", o.address)
		}
	}
	if o.ecmp {
		return o.paths(ctx, out, p, host, q, t.names)
	}
	if o.inSession {
		end, err := o.session(ctx, h, p, &q)
		if err != nil {
			return 2, failed(host, err)
		}
		defer end()
	}
	w := &traceOutput{o: o, w: out, host: host, start: time.Now(), seen: make(map[string]bool), names: t.names}
	if o.mtu {
		release, err := oneFlow(p, &q)
		if err != nil {
			return 2, failed(host, err)
		}
		defer release()
		w.mtu = o.mtus(ctx, p, q)
	}
	x := probe.TraceRequest{Request: q, FirstTTL: uint8(o.first), MaxTTL: uint8(o.last), Cycles: o.cycles, Interval: time.Duration(o.interval),
		MaxUnknown: o.unknown, Grace: time.Duration(o.grace), Classic: o.classic}
	var r probe.TraceResult
	if o.curses || isTerminal(out) && !o.report && !o.wide && count(o.json, o.csv, o.raw, o.xml) == 0 {
		if r, err = o.live(ctx, w, p, x); err != nil {
			return 2, failure{err}
		}
	} else {
		r = p.Trace(ctx, x, w.heard)
	}
	if r.End == probe.EndFailed {
		return 2, failed(host, r.Err)
	}
	t.names.Settle(ctx, &r)
	w.end(&r)
	if !r.Reached() {
		return 1, nil
	}
	return 0, nil
}

// mtus is --hop-mtu. Of a trace that begins later the hops before are asked too, since
// they are where it may become narrow.
func (o *traceOptions) mtus(ctx context.Context, p *probe.Prober, q probe.Request) map[int]probe.MTUStep {
	q.Timeout = min(q.Timeout, time.Second)
	m := make(map[int]probe.MTUStep)
	for _, s := range p.MTUPath(ctx, probe.MTUPathRequest{Request: q, MaxTTL: o.last, Silent: min(o.unknown, 5)}).Steps {
		m[s.TTL] = s
	}
	return m
}

// oneFlow gives a request what routers hash, so that more than a trace can be of
// its flow.
func oneFlow(p *probe.Prober, q *probe.Request) (release func(), err error) {
	switch q.Proto {
	case probe.ICMP:
		q.EchoSum = uint16(p.Stack().RandUint64()) | 1
	case probe.UDP, probe.TCP:
		if q.SrcPort, err = p.Reserve(q.Proto, q.SrcPort); err == nil {
			return func() { p.Release(q.Proto, q.SrcPort) }, nil
		}
	}
	return func() {}, err
}

var errNoSession = errors.New("--in-session needs the connections of a stack of its own")
