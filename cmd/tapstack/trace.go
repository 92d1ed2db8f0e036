package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/probe"
)

type traceOptions struct {
	attach attach.Options
	family
	cycles, size, pattern, tos, first, last, unknown, port, localPort int
	flows                                                             int
	interval, timeout, grace                                          wait
	device, address, order                                            string
	report, wide, json, csv, raw, udp, tcp, sctp, numeric, mpls       bool
	classic, ecmp                                                     bool
	confidence                                                        float64
}

func traceCommand() *cobra.Command {
	o := &traceOptions{cycles: probe.DefaultCycles, size: probe.DefaultSize, last: probe.DefaultMaxTTL, first: 1, unknown: probe.DefaultMaxUnknown,
		interval: wait(time.Second), timeout: wait(probe.DefaultTimeout), grace: wait(probe.DefaultGrace), flows: probe.DefaultMaxFlows}
	c := &cobra.Command{
		Use:   "trace [flags] HOST",
		Short: "Find the routers to a host and how they answer",
		Long: `Send probes with every TTL up to the host's, --report-cycles times, and report
what each hop answered. The flags and fields are mtr's. All probes are of one
flow, so that routers that share out flows send them one way; --ecmp looks for
all ways. MPLS labels, what was changed on the way, and unreachables are
always shown. Exit status: 0 when the host answered, 1 when it did not, 2 when
nothing could be sent.`,
		Example: `  tapstack lab run -- tapstack trace -c 3 10.77.0.1
  tapstack trace -T -P 443 -j 192.0.2.1
  tapstack trace --ecmp -u 192.0.2.1`,
		Args: oneArg("HOST"),
		RunE: func(c *cobra.Command, args []string) error { return o.run(c.OutOrStdout(), args[0]) },
	}
	f := c.Flags()
	f.BoolVarP(&o.v4, "ipv4", "4", false, "IPv4 only")
	f.BoolVarP(&o.v6, "ipv6", "6", false, "IPv6 only")
	f.BoolVarP(&o.udp, "udp", "u", false, "UDP instead of ICMP")
	f.BoolVarP(&o.tcp, "tcp", "T", false, "SYNs of TCP instead of ICMP")
	f.BoolVarP(&o.sctp, "sctp", "S", false, "INITs of SCTP instead of ICMP; each is a flow of its own")
	f.VarP(number{&o.port, 1, 65535}, "port", "P", "destination `PORT` (default 33434 of UDP, 80 of TCP and SCTP)")
	f.VarP(number{&o.localPort, 1, 65535}, "localport", "L", "source `PORT` of UDP and TCP")
	f.StringVarP(&o.address, "address", "a", "", "source `ADDRESS`")
	f.StringVarP(&o.device, "interface", "I", "", "leave by the interface `NAME`")
	f.VarP(number{&o.cycles, 1, math.MaxInt32}, "report-cycles", "c", "`N` probes to each hop")
	f.VarP(&o.interval, "interval", "i", "`SECONDS` from one cycle to the next")
	f.VarP(number{&o.size, 0, 65535}, "psize", "s", "`BYTES` of a packet, IP header included")
	f.VarP(number{&o.pattern, 0, 255}, "bitpattern", "B", "fill with the byte `N`")
	f.VarP(number{&o.tos, 0, 255}, "tos", "Q", "DS field and ECN bits, as 0x28")
	f.VarP(number{&o.first, 1, 255}, "first-ttl", "f", "begin with `TTL`")
	f.VarP(number{&o.last, 1, 255}, "max-ttl", "m", "end with `TTL`")
	f.VarP(number{&o.unknown, 1, 255}, "max-unknown", "U", "end behind `N` silent hops")
	f.VarP(&o.timeout, "timeout", "Z", "wait `SECONDS` for an answer")
	f.VarP(&o.grace, "gracetime", "G", "wait `SECONDS` for what is missing in the end")
	f.BoolVar(&o.classic, "classic", false, "vary what routers hash, so that hops may be of different ways")
	f.BoolVar(&o.ecmp, "ecmp", false, "find all ways among which routers share out flows (MDA)")
	f.Float64Var(&o.confidence, "confidence", probe.DefaultConfidence, "with --ecmp: that no next router was missed, for each `P`")
	f.Var(number{&o.flows, 1, 60000}, "max-flows", "with --ecmp: at most `N` flows")
	f.BoolVarP(&o.report, "report", "r", false, "a table in the end, which is what is printed anyway")
	f.BoolVarP(&o.wide, "report-wide", "w", false, "the table without cutting names")
	f.BoolVarP(&o.json, "json", "j", false, "JSON in the end")
	f.BoolVarP(&o.csv, "csv", "C", false, "CSV in the end")
	f.BoolVarP(&o.raw, "raw", "l", false, "a line for each thing that happens")
	f.StringVarP(&o.order, "order", "o", "LS NABWV", "columns of the table and of CSV: "+strings.Join(fieldNames(), ", "))
	f.BoolVarP(&o.numeric, "no-dns", "n", false, "addresses only, which is what is printed anyway")
	f.BoolVarP(&o.mpls, "mpls", "e", false, "labels, which are printed anyway")
	o.attach.Register(f)
	ownFrames(f, &o.attach)
	return c
}

// field is a column, by mtr's letter.
type field struct {
	letter byte
	name   string
	format string
	value  func(*probe.Hop) float64
}

func duration(f func(*probe.Stats) time.Duration) func(*probe.Hop) float64 {
	return func(h *probe.Hop) float64 { return ms(f(&h.Stats)) }
}

var fields = []field{
	{'L', "Loss%", "%.1f%%", func(h *probe.Hop) float64 { return h.Loss() }},
	{'D', "Drop", "%.0f", func(h *probe.Hop) float64 { return float64(h.Sent - h.Pending - h.Received) }},
	{'R', "Rcv", "%.0f", func(h *probe.Hop) float64 { return float64(h.Received) }},
	{'S', "Snt", "%.0f", func(h *probe.Hop) float64 { return float64(h.Sent) }},
	{'N', "Last", "%.1f", duration(func(s *probe.Stats) time.Duration { return s.Last })},
	{'B', "Best", "%.1f", duration(func(s *probe.Stats) time.Duration { return s.Best })},
	{'A', "Avg", "%.1f", duration((*probe.Stats).Avg)},
	{'W', "Wrst", "%.1f", duration(func(s *probe.Stats) time.Duration { return s.Wrst })},
	{'V', "StDev", "%.1f", duration((*probe.Stats).SampleDev)},
	{'G', "Gmean", "%.1f", duration((*probe.Stats).GMean)},
	{'J', "Jttr", "%.1f", duration(func(s *probe.Stats) time.Duration { return s.Jitter })},
	{'M', "Javg", "%.1f", duration((*probe.Stats).JitterAvg)},
	{'X', "Jmax", "%.1f", duration(func(s *probe.Stats) time.Duration { return s.JitterMax })},
	{'I', "Jint", "%.1f", duration(func(s *probe.Stats) time.Duration { return s.JitterInt })},
}

func fieldNames() (list []string) {
	for _, f := range fields {
		list = append(list, string(f.letter)+" "+f.name)
	}
	return list
}

// columns are those that -o asks for.
func (o *traceOptions) columns() (list []*field, err error) {
next:
	for i := range len(o.order) {
		for k := range fields {
			if fields[k].letter == o.order[i] {
				list = append(list, &fields[k])
				continue next
			}
		}
		if o.order[i] != ' ' {
			return nil, attach.Usagef("-o %s: there is no field %c", o.order, o.order[i])
		}
	}
	return list, nil
}

func (o *traceOptions) check() error {
	n := 0
	for _, b := range []bool{o.udp, o.tcp, o.sctp} {
		if b {
			n++
		}
	}
	formats := 0
	for _, b := range []bool{o.json, o.csv, o.raw} {
		if b {
			formats++
		}
	}
	_, err := o.columns()
	switch {
	case n > 1:
		return attach.Usagef("-u, -T and -S exclude each other")
	case formats > 1:
		return attach.Usagef("-j, -C and -l exclude each other")
	case o.v4 && o.v6:
		return attach.Usagef("-4 and -6 exclude each other")
	case o.first > o.last:
		return attach.Usagef("-f %d is beyond -m %d", o.first, o.last)
	case !(o.confidence > 0 && o.confidence < 1):
		return attach.Usagef("--confidence %g: want more than 0 and less than 1", o.confidence)
	case o.ecmp && (o.csv || o.raw || o.classic || o.localPort != 0):
		return attach.Usagef("--ecmp goes with the table and with -j only, and makes its flows itself")
	}
	return err
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

func (o *traceOptions) run(out io.Writer, host string) error {
	if err := o.check(); err != nil {
		return err
	}
	return prober(&o.attach, func(ctx context.Context, h *attach.Host, p *probe.Prober) (int, error) {
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
			return o.paths(ctx, out, p, host, q)
		}
		w := &traceOutput{o: o, w: out, host: host, start: time.Now(), seen: make(map[string]bool)}
		t := probe.TraceRequest{Request: q, FirstTTL: uint8(o.first), MaxTTL: uint8(o.last), Cycles: o.cycles, Interval: time.Duration(o.interval),
			MaxUnknown: o.unknown, Grace: time.Duration(o.grace), Classic: o.classic}
		r := p.Trace(ctx, t, w.raw)
		if r.End == probe.EndFailed {
			return 2, failed(host, r.Err)
		}
		w.end(&r)
		if !r.Reached() {
			return 1, nil
		}
		return 0, nil
	})
}

// traceOutput prints as mtr does.
type traceOutput struct {
	o     *traceOptions
	w     io.Writer
	host  string
	start time.Time
	seen  map[string]bool
	n     int
}

// raw prints mtr's raw lines: h, a host at a hop; p, a round trip in microseconds;
// m, a label; the hops are counted from 0.
func (w *traceOutput) raw(ttl int, r probe.Result) {
	w.n++
	if !w.o.raw || !r.From.IsValid() {
		return
	}
	if line := fmt.Sprintf("h %d %v", ttl-1, r.From); !w.seen[line] {
		w.seen[line] = true
		fmt.Fprintln(w.w, line)
	}
	for _, l := range r.Extensions.MPLS {
		fmt.Fprintf(w.w, "m %d %d %d %d %d\n", ttl-1, l.Label, l.TC, bottom(l), l.TTL)
	}
	fmt.Fprintf(w.w, "p %d %d %d\n", ttl-1, r.RTT.Microseconds(), 33000+w.n)
}

func bottom(l icmp.MPLSLabel) int {
	if l.Bottom {
		return 1
	}
	return 0
}

func (w *traceOutput) end(r *probe.TraceResult) {
	switch {
	case w.o.raw:
	case w.o.json:
		w.json(r)
	case w.o.csv:
		w.csv(r)
	default:
		w.table(r)
	}
}

// first is the host that a hop's line shows: mtr's is the one that answered last
// of all; this is the one that answered most.
func first(h *probe.Hop) (x probe.Host) {
	for _, y := range h.Hosts {
		if y.Count > x.Count {
			x = y
		}
	}
	return x
}

func name(x probe.Host) string {
	if !x.Addr.IsValid() {
		return "???"
	}
	return x.Addr.String()
}

func (w *traceOutput) table(r *probe.TraceResult) {
	local, _ := os.Hostname() // "" is fine
	width := 33
	if w.o.wide {
		width = max(len(local), 15)
		for i := range r.Hops {
			for _, x := range r.Hops[i].Hosts {
				width = max(width, len(name(x)))
			}
		}
	} else if len(local) > 29 {
		local = local[:29]
	}
	columns, _ := w.o.columns()
	fmt.Fprintf(w.w, "Start: %s\n%-*s", w.start.Format("2006-01-02T15:04:05-0700"), width+8, "HOST: "+local)
	for _, c := range columns {
		fmt.Fprintf(w.w, " %6s", c.name)
	}
	fmt.Fprintln(w.w)
	for i := range r.Hops {
		h := &r.Hops[i]
		x := first(h)
		fmt.Fprintf(w.w, "%3d.|-- %-*s", h.TTL, width, name(x))
		for _, c := range columns {
			fmt.Fprintf(w.w, " %6s", fmt.Sprintf(c.format, c.value(h)))
		}
		fmt.Fprintln(w.w)
		w.notes(&x)
		for _, y := range h.Hosts {
			if y.Addr != x.Addr {
				fmt.Fprintf(w.w, "    |   `-- %v, %d of %d\n", y.Addr, y.Count, h.Received)
				w.notes(&y)
			}
		}
	}
	if !r.Reached() {
		fmt.Fprintf(w.w, "%s was not reached: %v\n", w.host, r.End)
	}
}

// notes are lines about a host beneath its own.
func (w *traceOutput) notes(x *probe.Host) {
	for _, l := range x.Extensions.MPLS {
		fmt.Fprintf(w.w, "    |   [MPLS: Lbl %d TC %d S %d TTL %d]\n", l.Label, l.TC, bottom(l), l.TTL)
	}
	for _, i := range x.Extensions.Interfaces {
		fmt.Fprintf(w.w, "    |   [%v interface: %s]\n", i.Role, interfaceText(i))
	}
	for _, c := range x.Changes {
		fmt.Fprintf(w.w, "    |   [changed on the way: %v]\n", c)
	}
	if x.Kind != probe.TTLExpired && x.Kind != probe.Reply && x.Kind != probe.NoReply {
		fmt.Fprintf(w.w, "    |   [%s]\n", hostError(x))
	}
}

func hostError(x *probe.Host) string {
	return errorText(&probe.Result{From: x.Addr, ICMP: true, ICMPType: x.ICMPType, ICMPCode: x.ICMPCode, MTU: x.MTU})
}

func interfaceText(i icmp.InterfaceInfo) string {
	var parts []string
	add := func(is bool, format string, v any) {
		if is {
			parts = append(parts, fmt.Sprintf(format, v))
		}
	}
	add(i.Name != "", "%q", i.Name)
	add(i.Index != 0, "index %d", i.Index)
	add(i.Addr.IsValid(), "%v", i.Addr)
	add(i.MTU != 0, "MTU %d", i.MTU)
	return strings.Join(parts, ", ")
}

// csv prints mtr's columns.
func (w *traceOutput) csv(r *probe.TraceResult) {
	columns, _ := w.o.columns()
	fmt.Fprint(w.w, "Mtr_Version,Start_Time,Status,Host,Hop,Ip,")
	for _, c := range columns {
		fmt.Fprintf(w.w, "%s,", c.name)
	}
	fmt.Fprintln(w.w)
	for i := range r.Hops {
		h := &r.Hops[i]
		fmt.Fprintf(w.w, "tapstack,%d,OK,%s,%d,%s,", w.start.Unix(), w.host, h.TTL, name(first(h)))
		for _, c := range columns {
			format := "%.2f,"
			if c.format == "%.0f" {
				format = "%.0f,"
			}
			fmt.Fprintf(w.w, format, c.value(h))
		}
		fmt.Fprintln(w.w)
	}
}

// traceReport is mtr's object; what it does not have comes last in each part.
type traceReport struct {
	Report struct {
		Mtr struct {
			Src     string `json:"src"`
			Dst     string `json:"dst"`
			TOS     int    `json:"tos"`
			Tests   int    `json:"tests"`
			Size    string `json:"psize"`
			Pattern string `json:"bitpattern"`
		} `json:"mtr"`
		Hubs    []traceHub `json:"hubs"`
		Reached bool       `json:"reached"`
		End     string     `json:"end"`
	} `json:"report"`
}

type traceHub struct {
	Count int         `json:"count"`
	Host  string      `json:"host"`
	Loss  float64     `json:"Loss%"`
	Snt   int         `json:"Snt"`
	Last  float64     `json:"Last"`
	Avg   float64     `json:"Avg"`
	Best  float64     `json:"Best"`
	Wrst  float64     `json:"Wrst"`
	StDev float64     `json:"StDev"`
	Hosts []traceHost `json:"hosts"`
}

type traceHost struct {
	Address    string      `json:"address"`
	Result     string      `json:"result"`
	Count      int         `json:"count"`
	ReplyTTL   int         `json:"reply_ttl"`
	MPLS       []mplsLabel `json:"mpls,omitempty"`
	Interfaces []string    `json:"interfaces,omitempty"`
	Changes    []string    `json:"changes,omitempty"`
	Error      string      `json:"error,omitempty"`
}

type mplsLabel struct {
	Label  uint32 `json:"label"`
	TC     uint8  `json:"traffic_class"`
	Bottom bool   `json:"bottom_of_stack"`
	TTL    uint8  `json:"ttl"`
}

func (w *traceOutput) json(r *probe.TraceResult) {
	var j traceReport
	m := &j.Report.Mtr
	m.Src, m.Dst, m.TOS, m.Tests = r.Src.String(), w.host, w.o.tos, w.o.cycles
	m.Size, m.Pattern = fmt.Sprint(w.o.size), fmt.Sprintf("0x%02X", w.o.pattern)
	j.Report.Reached, j.Report.End = r.Reached(), r.End.String()
	j.Report.Hubs = []traceHub{}
	for i := range r.Hops {
		h := &r.Hops[i]
		s := &h.Stats
		hub := traceHub{h.TTL, name(first(h)), h.Loss(), h.Sent, ms(s.Last), ms(s.Avg()), ms(s.Best), ms(s.Wrst), ms(s.SampleDev()), []traceHost{}}
		for _, x := range h.Hosts {
			y := traceHost{Address: x.Addr.String(), Result: x.Kind.String(), Count: x.Count, ReplyTTL: int(x.ReplyTTL)}
			for _, l := range x.Extensions.MPLS {
				y.MPLS = append(y.MPLS, mplsLabel(l))
			}
			for _, i := range x.Extensions.Interfaces {
				y.Interfaces = append(y.Interfaces, i.Role.String()+": "+interfaceText(i))
			}
			for _, c := range x.Changes {
				y.Changes = append(y.Changes, c.String())
			}
			if x.Kind != probe.TTLExpired && x.Kind != probe.Reply {
				y.Error = hostError(&x)
			}
			hub.Hosts = append(hub.Hosts, y)
		}
		j.Report.Hubs = append(j.Report.Hubs, hub)
	}
	_ = writeJSON(w.w, j) // a pipe that nobody reads
}

// pathsReport is what --ecmp -j prints.
type pathsReport struct {
	Dst      string     `json:"dst"`
	Reached  bool       `json:"reached"`
	Complete bool       `json:"complete"`
	Width    int        `json:"width"`
	Probes   int        `json:"probes"`
	Nodes    []pathNode `json:"nodes"`
	Edges    []pathEdge `json:"edges"`
}

type pathNode struct {
	TTL   int     `json:"ttl"`
	Addr  string  `json:"address"`
	Flows int     `json:"flows"`
	Lost  float64 `json:"Loss%"`
	Best  float64 `json:"Best"`
}

type pathEdge struct {
	TTL  int    `json:"ttl"`
	From string `json:"from"`
	To   string `json:"to"`
}

// paths is --ecmp.
func (o *traceOptions) paths(ctx context.Context, out io.Writer, p *probe.Prober, host string, q probe.Request) (int, error) {
	q.Timeout = min(q.Timeout, time.Second)
	r := p.Paths(ctx, probe.PathsRequest{Request: q, FirstTTL: uint8(o.first), MaxTTL: uint8(o.last), Confidence: o.confidence, MaxFlows: o.flows, MaxUnknown: min(o.unknown, 5)})
	if r.Err != nil {
		return 2, failed(host, r.Err)
	}
	text := func(a netip.Addr) string {
		if !a.IsValid() {
			return "???"
		}
		return a.String()
	}
	if o.json {
		j := pathsReport{Dst: host, Reached: r.Reached, Complete: r.Complete, Width: r.Width, Probes: r.Probes, Nodes: []pathNode{}, Edges: []pathEdge{}}
		for _, n := range r.Nodes {
			j.Nodes = append(j.Nodes, pathNode{n.TTL, text(n.Addr), n.Flows, pathLoss(&n), ms(n.Best)})
		}
		for _, e := range r.Edges {
			j.Edges = append(j.Edges, pathEdge{e.TTL, text(e.From), text(e.To)})
		}
		_ = writeJSON(out, j) // a pipe that nobody reads
	} else {
		for _, n := range r.Nodes {
			fmt.Fprintf(out, "%3d  %-39s %4d flows  %5.1f%% loss  %8.3f ms", n.TTL, text(n.Addr), n.Flows, pathLoss(&n), ms(n.Best))
			arrow := "  >"
			for _, e := range r.Edges {
				if e.TTL == n.TTL && e.From == n.Addr {
					fmt.Fprintf(out, "%s %s", arrow, text(e.To))
					arrow = ","
				}
			}
			fmt.Fprintln(out)
		}
		fmt.Fprintf(out, "%d ways side by side at most, %d probes", r.Width, r.Probes)
		if r.Complete {
			fmt.Fprintf(out, "; each router had as many flows as %g %% confidence takes\n", 100*o.confidence)
		} else {
			fmt.Fprintf(out, "; there may be more: %d flows were not enough\n", o.flows)
		}
		if !r.Reached {
			fmt.Fprintf(out, "%s was not reached\n", host)
		}
	}
	if !r.Reached {
		return 1, nil
	}
	return 0, nil
}

func pathLoss(n *probe.PathNode) float64 { return 100 * float64(n.Lost) / float64(cmp.Or(n.Sent, 1)) }
