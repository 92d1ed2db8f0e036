package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/probe"
)

type pingOptions struct {
	attach attach.Options
	family
	count, size, ttl, tos, preload, label, to, step int
	interval, timeout, deadline                     wait
	device, fragments, pattern                      string
	flood, adaptive, quiet, outstanding, stamps     bool
	audible, broadcast, numeric, percentiles        bool
	paced                                           bool // -i was given
	json                                            string
	pingMore
}

func pingCommand() *cobra.Command {
	return pingCommandOf(&pingOptions{interval: wait(time.Second), timeout: wait(probe.DefaultTimeout), size: 56})
}

func pingCommandOf(o *pingOptions) *cobra.Command {
	c := &cobra.Command{
		Use:   "ping [flags] HOST...",
		Short: "Send echo requests and say what has become of each",
		Long: `Send echo requests (RFC 792, RFC 4443) from a stack and say what has become of
each. The flags and the output are iputils' ping's, the object of --json is
pyproto's with more in it. Exit status: 0 with an answer, 1 without, or with
fewer than --count before --deadline, 2 when nothing could be sent.

Several hosts, or those of --targets, are pinged at the same time, with fping's
lines for each; the exit status is 0 when all of them answer.`,
		Example: `  tapstack lab run -- tapstack ping -c 3 10.77.0.1
  tapstack ping --tap tap7 --ip 10.77.0.7/24 --gw 10.77.0.1 -c 1000 -f --percentiles 192.0.2.1
  tapstack ping -M do -s 1472 --json -c 1 192.0.2.1`,
		Args: o.checkHosts,
		RunE: func(c *cobra.Command, args []string) error {
			o.paced = c.Flags().Changed("interval")
			return o.start(c.OutOrStdout(), args)
		},
	}
	f := c.Flags()
	f.BoolVarP(&o.v4, "ipv4", "4", false, "IPv4 only")
	f.BoolVarP(&o.v6, "ipv6", "6", false, "IPv6 only")
	f.VarP(number{&o.count, 1, math.MaxInt32}, "count", "c", "send `N` requests (default until a signal)")
	f.VarP(&o.interval, "interval", "i", "`SECONDS` between requests, 1 unless given, or with -f 0: as soon as one is answered, and a hundred a second at least")
	f.VarP(&o.timeout, "timeout", "W", "wait `SECONDS` for an answer, 10 unless given, 0 for ever; later ones are told as late")
	f.VarP(&o.deadline, "deadline", "w", "end after `SECONDS`, whatever has been sent")
	f.VarP(number{&o.size, 0, 65507}, "size", "s", "send `BYTES` of data")
	f.Var(number{&o.to, 0, 65507}, "sweep", "send -s bytes first, then more each time up to `BYTES`, and again")
	f.Var(number{&o.step, 1, 65507}, "sweep-step", "with --sweep, `BYTES` more each time (default 1)")
	f.VarP(number{&o.ttl, 1, 255}, "ttl", "t", "time to live or hop limit (default 64)")
	f.VarP(number{&o.tos, 0, 255}, "tos", "Q", "DS field and ECN bits, as 0x28")
	f.VarP(number{&o.label, 0, 0xfffff}, "flowlabel", "F", "flow label of IPv6")
	f.StringVarP(&o.fragments, "pmtudisc", "M", "want", "fragments: `MODE` do (never, and the path MTU is obeyed), want (where needed, DF otherwise), dont (DF never set) or probe (DF, whatever the path MTU is)")
	f.StringVarP(&o.pattern, "pattern", "p", "", "fill with up to 16 bytes of `HEX`")
	f.StringVarP(&o.device, "interface", "I", "", "leave by the interface, or from the address, `NAME`")
	f.VarP(number{&o.preload, 1, 65536}, "preload", "l", "send `N` at once in the beginning")
	f.BoolVarP(&o.flood, "flood", "f", false, "print a dot for each request and take it back for each answer; send as fast as answers come, at least a hundred a second, unless -i says how fast")
	f.BoolVarP(&o.adaptive, "adaptive", "A", false, "send the next as soon as one is answered")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "only the statistics")
	f.BoolVarP(&o.outstanding, "outstanding", "O", false, "say what has no answer when the next is sent")
	f.BoolVarP(&o.stamps, "timestamps", "D", false, "begin lines with the time of day in seconds")
	f.BoolVarP(&o.audible, "audible", "a", false, "ring the bell for each answer")
	f.BoolVarP(&o.broadcast, "broadcast", "b", false, "allow a broadcast or multicast address")
	f.BoolVarP(&o.numeric, "numeric", "n", false, "addresses only, which is what is printed anyway")
	f.BoolVar(&o.percentiles, "percentiles", false, "another line of statistics: percentiles")
	f.StringVar(&o.json, "json", "", "one JSON object in the end and nothing else, pyproto's; `WHAT` may be seed (that) or full")
	f.Lookup("json").NoOptDefVal = jsonSeed
	o.registerMore(f)
	o.attach.Register(f)
	ownFrames(f, &o.attach)
	return c
}

// oneArg wants exactly one argument.
func oneArg(name string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != 1 {
			return attach.Usagef("%d arguments instead of one: %s; `%s --help` tells the usage", len(args), name, c.CommandPath())
		}
		return nil
	}
}

// request is what the flags say.
func (o *pingOptions) request(dst netip.Addr) (q probe.PingRequest, err error) {
	q.Request = probe.Request{Dst: dst, TTL: uint8(o.ttl), TOS: uint8(o.tos), FlowLabel: uint32(o.label), Timeout: time.Duration(o.timeout)}
	q.Count, q.Data, q.DataTo, q.DataStep, q.Preload = o.count, o.size, o.to, o.step, o.preload
	q.Interval, q.Flood, q.Adaptive, q.Deadline = time.Duration(o.interval), o.floods(), o.adaptive, time.Duration(o.deadline)
	if q.Timeout == 0 {
		q.Timeout = forever
	}
	if o.v4 && o.v6 {
		return q, attach.Usagef("-4 and -6 exclude each other")
	}
	// As ping fills the data unless it is told otherwise.
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	q.Payload = b
	if o.pattern != "" {
		s := o.pattern
		if len(s)%2 != 0 {
			s = "0" + s
		}
		b, err := hex.DecodeString(s)
		if err != nil || len(b) > 16 {
			return q, attach.Usagef("-p %s: want up to 16 bytes in hexadecimal", o.pattern)
		}
		q.Payload = b
	}
	return q, nil
}

// forever is -W 0.
const forever = 1_000_000 * time.Second

// floods reports whether the next request leaves as soon as one is answered.
func (o *pingOptions) floods() bool { return o.interval == 0 || o.flood && !o.paced }

// tooLong is a packet that -M do forbids to send.
type tooLong struct{ mtu int }

func (e tooLong) Error() string { return fmt.Sprintf("local error: message too long, mtu=%d", e.mtu) }

// aim looks a host up and says what is to be sent there.
func (o *pingOptions) aim(ctx context.Context, h *attach.Host, p *probe.Prober, host string) (q probe.PingRequest, path probe.Path, err error) {
	dst, err := lookup(ctx, h, host, o.family)
	if err != nil {
		return q, path, err
	}
	q, _ = o.request(dst)
	if err := device(h, o.device, &q.Request); err != nil {
		return q, path, err
	}
	if path, err = p.Path(&q.Request); err != nil {
		return q, path, failed(host, err)
	}
	if path.Group && !o.broadcast && !dst.IsMulticast() {
		return q, path, attach.Usagef("%s is a broadcast address; do you want that? then -b", host)
	}
	if o.sticky {
		q.Src = path.Src
	}
	whole := max(o.size, o.to) + 28
	if dst.Is6() {
		whole += 20
	}
	switch o.fragments {
	case "do":
		if q.DF = true; whole > path.MTU {
			return q, path, tooLong{path.MTU}
		}
	case "want":
		q.DF = whole <= path.MTU && dst.Is4()
	case "probe":
		q.DF = true
	}
	return q, path, nil
}

func (o *pingOptions) run(out io.Writer, host string) error {
	return prober(&o.attach, func(ctx context.Context, h *attach.Host, p *probe.Prober) (int, error) {
		q, path, err := o.aim(ctx, h, p, host)
		if e, ok := err.(tooLong); ok {
			fmt.Fprintf(out, "tapstack: %v\n", e)
			return 1, nil
		}
		if err != nil {
			return 2, err
		}
		w := &pingOutput{o: o, w: out, host: host, dst: q.Dst}
		if w.ident, err = o.identify(p, &q); err != nil {
			return 2, failed(host, err)
		}
		w.begin(path.Src)
		r := w.ping(ctx, p, q)
		w.end(&r)
		switch {
		case r.Received == 0 && r.Err != nil:
			return 2, failed(host, r.Err)
		case r.Received == 0, o.count > 0 && o.deadline > 0 && r.Received < o.count:
			return 1, nil
		}
		return 0, nil
	})
}

// pingOutput prints as iputils' ping does.
type pingOutput struct {
	o       *pingOptions
	w       io.Writer
	host    string
	dst     netip.Addr
	ident   uint16 // of the requests, with -v
	packets map[int]pingPacket
	last    int
	ewma    atomic.Int64 // eight times the round trip's moving average, in ns
}

// pingPacket and pingResult are pyproto's.
type pingPacket struct {
	Type    *string  `json:"icmp_type"`
	Code    *string  `json:"icmp_code"`
	Seq     int      `json:"seq"` // from 0
	RTT     *float64 `json:"rtt"` // milliseconds
	Success bool     `json:"success"`
}

type pingResult struct {
	Dest    string       `json:"dest"`
	Sent    int          `json:"sent"`
	Recvd   int          `json:"recvd"`
	Lost    int          `json:"lost"`
	RTTs    []float64    `json:"rtts"`
	Packets []pingPacket `json:"packets"`
}

// pingFull is what --json=full has behind that.
type pingFull struct {
	pingResult
	Address    string             `json:"address"`
	Duplicates int                `json:"duplicates"`
	Late       int                `json:"late"`
	Corrupt    int                `json:"corrupt"`
	Errors     int                `json:"errors"`
	Elapsed    float64            `json:"elapsed_ms"`
	Min        float64            `json:"min_ms"`
	Avg        float64            `json:"avg_ms"`
	Max        float64            `json:"max_ms"`
	Mdev       float64            `json:"mdev_ms"`
	Percentile map[string]float64 `json:"percentiles_ms"`
	Histogram  []histogramBucket  `json:"histogram_ms"`
}

// maxPackets is how many packets --json lists.
const maxPackets = 1 << 20

func (w *pingOutput) begin(src netip.Addr) {
	w.packets = make(map[int]pingPacket)
	if w.o.json != "" {
		return
	}
	if w.o.pattern != "" {
		fmt.Fprintf(w.w, "PATTERN: 0x%s\n", strings.ToLower(w.o.pattern))
	}
	from := ""
	if w.o.device != "" {
		from = fmt.Sprintf("from %v : ", src)
	}
	if w.dst.Is4() {
		fmt.Fprintf(w.w, "PING %s (%v) %s%d(%d) bytes of data.\n", w.host, w.dst, from, w.o.size, w.o.size+28)
	} else {
		fmt.Fprintf(w.w, "PING %s (%v) %s%d data bytes\n", w.host, w.dst, from, w.o.size)
	}
}

func (w *pingOutput) line(format string, a ...any) {
	if w.o.quiet || w.o.json != "" || w.o.flood {
		return
	}
	fmt.Fprintf(w.w, w.o.stamp()+format+"\n", a...)
}

// packet is told what happens.
func (w *pingOutput) packet(x probe.PingPacket) {
	flood := w.o.flood && !w.o.quiet && w.o.json == ""
	if flood {
		for ; w.last < x.Seq; w.last++ {
			io.WriteString(w.w, ".")
		}
	}
	if x.Outstanding {
		if w.o.outstanding {
			w.line("no answer yet for icmp_seq=%d", x.Seq)
		}
		return
	}
	if w.o.json != "" && len(w.packets) < maxPackets {
		w.record(&x)
	}
	switch {
	case x.Kind == probe.Reply:
		if flood {
			io.WriteString(w.w, "\b \b")
		}
		if !x.Duplicate {
			w.average(x.RTT)
		}
		bell, more := "", ""
		if w.o.audible {
			bell = "\a"
		}
		if x.Duplicate {
			more += " (DUP!)"
		}
		if x.Late {
			more += " (LATE)"
		}
		if x.CorruptAt >= 0 {
			more += fmt.Sprintf("\nwrong data byte #%d", x.CorruptAt)
		}
		w.line("%d bytes from %v: icmp_seq=%d%s ttl=%d time=%s ms%s%s", x.ReplySize, x.From, x.Seq, w.identity(), x.ReplyTTL, w.o.time(x.RTT), more, bell)
	case x.Kind == probe.NoReply:
	case x.Kind > probe.ParameterProblem:
		if flood {
			io.WriteString(w.w, "E")
		}
		w.line("tapstack: icmp_seq=%d: %v", x.Seq, x.Kind)
	default:
		if flood {
			io.WriteString(w.w, "\bE")
		}
		w.line("From %v icmp_seq=%d %s", x.From, x.Seq, errorText(&x.Result))
	}
}

// pingTime has as many digits as ping prints.
func pingTime(d time.Duration) string {
	us := float64(d.Nanoseconds()) / 1e3
	digits := 3
	for _, limit := range []float64{1000 - 0.5, 10000 - 5, 100000 - 50} {
		if us >= limit {
			digits--
		}
	}
	return fmt.Sprintf("%.*f", digits, us/1e3)
}

// record keeps what has become of a request for --json: an answer counts more
// than an error, and that more than silence.
func (w *pingOutput) record(x *probe.PingPacket) {
	old, ok := w.packets[x.Seq]
	if ok && (old.Success || x.Kind == probe.NoReply) {
		return
	}
	y := pingPacket{Seq: x.Seq - 1, Success: x.Kind == probe.Reply}
	if x.ICMP {
		typ, code := typeName(x.ICMPType, x.From.Is6()), fmt.Sprintf("CODE_%d", x.ICMPCode)
		rtt := ms(x.RTT)
		y.Type, y.Code, y.RTT = &typ, &code, &rtt
	}
	w.packets[x.Seq] = y
}

// typeName is pyproto's name of a type.
func typeName(typ uint8, v6 bool) string {
	switch {
	case !v6 && typ == icmp.TypeEchoReply4, v6 && typ == icmp.TypeEchoReply6:
		return "ECHO_REPLY"
	case !v6 && typ == icmp.TypeUnreachable4, v6 && typ == icmp.TypeUnreachable6:
		return "DESTINATION_UNREACHABLE"
	case !v6 && typ == icmp.TypeTimeExceeded4, v6 && typ == icmp.TypeTimeExceeded6:
		return "TIME_EXCEEDED"
	case !v6 && typ == icmp.TypeParamProblem4, v6 && typ == icmp.TypeParamProblem6:
		return "PARAMETER_PROBLEM"
	case v6 && typ == icmp.TypeTooBig6:
		return "PACKET_TOO_BIG"
	}
	return fmt.Sprintf("TYPE_%d", typ)
}

func (w *pingOutput) end(r *probe.PingResult) {
	s := &r.Stats
	if w.o.json != "" {
		_ = writeJSON(w.w, w.result(r)) // a pipe that nobody reads
		return
	}
	fmt.Fprintf(w.w, "\n--- %s ping statistics ---\n%d packets transmitted, %d received", w.host, r.Sent, r.Received)
	for _, c := range strange(r) {
		fmt.Fprintf(w.w, ", +%s", c)
	}
	if r.Sent > 0 {
		fmt.Fprintf(w.w, ", %.6g%% packet loss, time %dms", 100*float64(max(r.Lost(), 0))/float64(r.Sent), r.Elapsed.Milliseconds())
	}
	fmt.Fprintln(w.w)
	if s.Count > 0 {
		fmt.Fprintf(w.w, "rtt min/avg/max/mdev = %.3f/%.3f/%.3f/%.3f ms%s\n", ms(s.Best), ms(s.Avg()), ms(s.Wrst), ms(s.Dev()), w.gaps(r))
		if w.o.percentiles {
			fmt.Fprintf(w.w, "rtt p50/p90/p95/p99 = %.3f/%.3f/%.3f/%.3f ms\n", ms(s.Percentile(50)), ms(s.Percentile(90)), ms(s.Percentile(95)), ms(s.Percentile(99)))
		}
		if w.o.histogram {
			printHistogram(w.w, s)
		}
	}
}

// result is the object of --json.
func (w *pingOutput) result(r *probe.PingResult) any {
	s := &r.Stats
	j := pingResult{Dest: w.host, Sent: r.Sent, Recvd: r.Received, Lost: r.Lost(), RTTs: []float64{}, Packets: []pingPacket{}}
	full := pingFull{Address: w.dst.String(), Duplicates: r.Duplicates, Late: r.Late, Corrupt: r.Corrupt, Errors: r.Errors, Elapsed: ms(r.Elapsed),
		Min: ms(s.Best), Avg: ms(s.Avg()), Max: ms(s.Wrst), Mdev: ms(s.Dev()), Percentile: map[string]float64{}}
	for _, d := range s.RTTs() {
		j.RTTs = append(j.RTTs, ms(d))
	}
	for seq := 1; seq <= min(r.Sent, maxPackets); seq++ {
		x, ok := w.packets[seq]
		if !ok {
			x.Seq = seq - 1
		}
		j.Packets = append(j.Packets, x)
	}
	if w.o.json != jsonFull {
		return j
	}
	full.pingResult = j
	for _, p := range []float64{50, 90, 95, 99} {
		full.Percentile[fmt.Sprintf("%g", p)] = ms(s.Percentile(p))
	}
	for _, b := range s.Histogram() {
		full.Histogram = append(full.Histogram, histogramBucket{ms(b.Low), ms(b.High), b.Count})
	}
	return full
}
