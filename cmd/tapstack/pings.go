package main

// This file owns ping of several hosts, with the lines of fping: one for each
// answer, and one for each host in the end.

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/probe"
)

// anyAddr stands for a destination where flags alone are checked.
var anyAddr netip.Addr

// maxHosts bounds a list: each host takes an identifier, of which there are 65535.
const maxHosts = 60000

// spread is the longest pause between the first requests to two hosts, fping's.
const spread = 10 * time.Millisecond

// readHosts reads a file of hosts, one on a line; what follows a "#" is ignored.
func readHosts(file string) (list []string, err error) {
	f := os.Stdin
	if file != "-" {
		if f, err = os.Open(file); err != nil {
			return nil, err
		}
		defer f.Close()
	}
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		switch words := strings.Fields(text); len(words) {
		case 0:
		case 1:
			list = append(list, words[0])
		default:
			return nil, fmt.Errorf("line %d: more than a host", n)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, errors.New("there are none")
	}
	return list, nil
}

// runMany pings several hosts. Those that cannot be pinged are told of on
// standard error, and the others are.
func (o *pingOptions) runMany(out io.Writer, hosts []string) error {
	if len(hosts) > maxHosts {
		return attach.Usagef("%d hosts: want at most %d", len(hosts), maxHosts)
	}
	return prober(&o.attach, func(ctx context.Context, h *attach.Host, p *probe.Prober) (int, error) {
		status := 0
		w := &pingsOutput{o: o, w: out}
		var list []probe.PingRequest
		for _, host := range hosts {
			q, _, err := o.aim(ctx, h, p, host)
			if err != nil {
				if ctx.Err() != nil {
					return 2, ctx.Err()
				}
				fmt.Fprintf(os.Stderr, "tapstack: %s\n", strings.TrimPrefix(err.Error(), host+": "))
				status = 2
				continue
			}
			list = append(list, q)
			w.width = max(w.width, len(host))
			w.hosts = append(w.hosts, &pingsHost{pingOutput: &pingOutput{o: o, host: host, dst: q.Dst, packets: make(map[int]pingPacket)}})
		}
		interval := time.Duration(o.interval)
		if o.floods() {
			interval = time.Second
		}
		results := p.Pings(ctx, list, min(interval/time.Duration(max(len(list), 1)), spread), w.packet)
		w.end(results)
		for i := range results {
			if results[i].Received == 0 && status == 0 {
				status = 1
			}
		}
		return status, nil
	})
}

// pingsOutput prints as fping does.
type pingsOutput struct {
	o     *pingOptions
	w     io.Writer
	width int // of the longest host
	hosts []*pingsHost
}

// pingsHost is what is known of a host so far.
type pingsHost struct {
	*pingOutput
	sent, answered int
	sum            time.Duration
	times          []string
}

func (w *pingsOutput) line(h *pingsHost, format string, a ...any) {
	if !w.o.quiet && !w.o.flood && w.o.json == "" {
		fmt.Fprintf(w.w, "%s%-*s : %s\n", w.o.stamp(), w.width, h.host, fmt.Sprintf(format, a...))
	}
}

// packet is told what happens; sequence numbers are fping's, from 0.
func (w *pingsOutput) packet(i int, x probe.PingPacket) {
	h := w.hosts[i]
	if x.Outstanding {
		if w.o.outstanding {
			w.line(h, "[%d], no answer yet", x.Seq-1)
		}
		return
	}
	if w.o.json != "" && len(h.packets) < maxPackets {
		h.record(&x)
	}
	h.sent = max(h.sent, x.Seq)
	if x.Kind == probe.Reply && x.Duplicate {
		w.line(h, "duplicate for [%d], %d bytes, %s ms%s", x.Seq-1, x.ReplySize, pingsTime(x.RTT), h.marks(&x))
		return
	}
	for w.o.times && len(h.times) < x.Seq && len(h.times) < maxPackets {
		h.times = append(h.times, "-")
	}
	if x.Kind == probe.Reply {
		h.answered++
		h.sum += x.RTT
		if x.Seq <= len(h.times) {
			h.times[x.Seq-1] = pingsTime(x.RTT)
		}
	}
	average := "NaN"
	if h.answered > 0 {
		average = pingsTime(h.sum / time.Duration(h.answered))
	}
	tail := fmt.Sprintf("(%s avg, %d%% loss)", average, loss(h.sent, h.answered))
	switch {
	case x.Kind == probe.Reply:
		w.line(h, "[%d], %d bytes, %s ms %s%s", x.Seq-1, x.ReplySize, pingsTime(x.RTT), tail, h.marks(&x))
	case x.Kind == probe.NoReply:
		w.line(h, "[%d], timed out %s", x.Seq-1, tail)
	case x.Kind > probe.ParameterProblem:
		w.line(h, "[%d], %v %s", x.Seq-1, x.Kind, tail)
	default:
		w.line(h, "[%d], %s from %v %s", x.Seq-1, errorText(&x.Result), x.From, tail)
	}
}

// marks are what is strange about an answer.
func (h *pingsHost) marks(x *probe.PingPacket) (s string) {
	if x.Late {
		s += " (LATE)"
	}
	if x.CorruptAt >= 0 {
		s += fmt.Sprintf(" wrong data byte #%d", x.CorruptAt)
	}
	return s
}

func loss(sent, answered int) int {
	if sent == 0 {
		return 0
	}
	return max(sent-answered, 0) * 100 / sent
}

// pingsTime has as many digits as fping prints.
func pingsTime(d time.Duration) string {
	switch t := ms(d); {
	case t < 1:
		return fmt.Sprintf("%.3f", t)
	case t < 10:
		return fmt.Sprintf("%.2f", t)
	case t < 100:
		return fmt.Sprintf("%.1f", t)
	default:
		return fmt.Sprintf("%.0f", t)
	}
}

func (w *pingsOutput) end(results []probe.PingResult) {
	if w.o.json != "" {
		list := []any{}
		for i := range results {
			list = append(list, w.hosts[i].result(&results[i]))
		}
		_ = writeJSON(w.w, list) // a pipe that nobody reads
		return
	}
	if !w.o.quiet && !w.o.flood {
		fmt.Fprintln(w.w)
	}
	for i := range results {
		h, r := w.hosts[i], &results[i]
		s := &r.Stats
		name := fmt.Sprintf("%-*s", w.width, h.host)
		if w.o.times {
			for len(h.times) < min(r.Sent, maxPackets) {
				h.times = append(h.times, "-")
			}
			fmt.Fprintf(w.w, "%s : %s\n", name, strings.Join(h.times, " "))
		} else {
			fmt.Fprintf(w.w, "%s : xmt/rcv/%%loss = %d/%d/%d%%", name, r.Sent, r.Received, loss(r.Sent, r.Received))
			for _, c := range strange(r) {
				fmt.Fprintf(w.w, ", +%s", c)
			}
			if s.Count > 0 {
				fmt.Fprintf(w.w, ", min/avg/max = %s/%s/%s", pingsTime(s.Best), pingsTime(s.Avg()), pingsTime(s.Wrst))
				if w.o.percentiles {
					fmt.Fprintf(w.w, ", p50/p90/p95/p99 = %s/%s/%s/%s", pingsTime(s.Percentile(50)), pingsTime(s.Percentile(90)), pingsTime(s.Percentile(95)), pingsTime(s.Percentile(99)))
				}
			}
			fmt.Fprintln(w.w)
		}
		if w.o.histogram && s.Count > 0 {
			printHistogram(w.w, s)
		}
	}
}
