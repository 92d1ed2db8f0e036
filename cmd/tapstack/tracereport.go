package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/probe"
	"github.com/tapstack/tapstack/probe/traceview"
)

// This file owns the reports of a trace: mtr's table, CSV, XML, JSON and raw lines,
// and what they say that mtr's do not.

// traceOutput prints as mtr does.
type traceOutput struct {
	o     *traceOptions
	w     io.Writer
	host  string
	start time.Time
	seen  map[string]bool
	names *traceNames
	mtu   map[int]probe.MTUStep // of --hop-mtu, by TTL
	n     int
}

// heard is told of each result.
func (w *traceOutput) heard(ttl int, r probe.Result) {
	w.names.Of(r.From)
	w.raw(ttl, r)
}

// raw prints mtr's raw lines: x, a probe was sent; h, a host at a hop; d, its name; p, a round
// trip in microseconds; m, a label; the hops are counted from 0. A probe's x comes
// with its result, not before.
func (w *traceOutput) raw(ttl int, r probe.Result) {
	if !w.o.raw {
		return
	}
	sequence := 33000 + w.n
	w.n++
	fmt.Fprintf(w.w, "x %d %d\n", ttl-1, sequence)
	if !r.From.IsValid() {
		return
	}
	if line := fmt.Sprintf("h %d %v", ttl-1, r.From); !w.seen[line] {
		w.seen[line] = true
		fmt.Fprintln(w.w, line)
	}
	// A name comes later than its address.
	if name := w.names.Of(r.From); name != "" {
		if line := fmt.Sprintf("d %d %s", ttl-1, name); !w.seen[line] {
			w.seen[line] = true
			fmt.Fprintln(w.w, line)
		}
	}
	for _, l := range r.Extensions.MPLS {
		fmt.Fprintf(w.w, "m %d %d %d %d %d\n", ttl-1, l.Label, l.TC, bottom(l), l.TTL)
	}
	fmt.Fprintf(w.w, "p %d %d %d\n", ttl-1, r.RTT.Microseconds(), sequence)
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
	case w.o.xml:
		w.xml(r)
	default:
		w.table(r)
	}
}

// first is the host that a hop's line shows: mtr's is the one that answered last
// of all; this is the one that answered most.
func first(h *probe.Hop) probe.Host {
	x, _ := h.Most()
	return x
}

// name is how an address is shown.
func (w *traceOutput) name(a netip.Addr) string {
	if !a.IsValid() {
		return "???"
	}
	switch name := w.names.Of(a); {
	case name == "":
		return a.String()
	case w.o.showIPs:
		return name + " (" + a.String() + ")"
	default:
		return name
	}
}

func (w *traceOutput) table(r *probe.TraceResult) {
	local, _ := os.Hostname() // "" is fine
	width := 33
	if w.o.wide {
		width = max(len(local), 15)
		for i := range r.Hops {
			for _, x := range r.Hops[i].Hosts {
				width = max(width, len(w.name(x.Addr)))
			}
		}
	} else if len(local) > 29 {
		local = local[:29]
	}
	columns, _ := traceview.Order(w.o.order)
	found := traceview.Found(r, w.o.back)
	if w.o.as != nil {
		width = max(width, 33) + 11
	}
	fmt.Fprintf(w.w, "Start: %s\n%-*s", w.start.Format("2006-01-02T15:04:05-0700"), width+8, "HOST: "+local)
	for _, c := range columns {
		fmt.Fprintf(w.w, " %6s", c.Name)
	}
	fmt.Fprintln(w.w)
	for i := range r.Hops {
		h := &r.Hops[i]
		x := first(h)
		if w.o.as != nil {
			fmt.Fprintf(w.w, "%3d. %-10s  %-*s", h.TTL, w.o.as.Text(x.Addr), width-9, w.name(x.Addr))
		} else {
			fmt.Fprintf(w.w, "%3d.|-- %-*s", h.TTL, width, w.name(x.Addr))
		}
		for _, c := range columns {
			fmt.Fprintf(w.w, " %6s", fmt.Sprintf(c.Format, c.Value(h)))
		}
		fmt.Fprintln(w.w)
		w.notes(&x)
		for _, y := range h.Hosts {
			if y.Addr != x.Addr {
				fmt.Fprintf(w.w, "    |   `-- %s, %d of %d\n", w.name(y.Addr), y.Count, h.Received)
				w.notes(&y)
			}
		}
		for _, line := range found[h.TTL] {
			fmt.Fprintf(w.w, "    |   %s\n", line)
		}
		if s, ok := w.mtu[h.TTL]; ok && s.MTU > 0 {
			fmt.Fprintf(w.w, "    |   [%s]\n", mtuText(&s))
		}
	}
	if way := traceview.Loop(r, w.name); way != "" {
		fmt.Fprintf(w.w, "loop: %s\n", way)
	}
	if !r.Reached() {
		fmt.Fprintf(w.w, "%s was not reached: %v\n", w.host, r.End)
	}
}

// notes are lines about a host beneath its own.
func (w *traceOutput) notes(x *probe.Host) {
	for _, line := range traceview.Notes(x, hostError) {
		fmt.Fprintf(w.w, "    |   %s\n", line)
	}
	if n := x.Back(); w.o.back && n > 0 {
		fmt.Fprintf(w.w, "    |   [TTL %d: %d hops back]\n", x.ReplyTTL, n)
	}
}

func mtuText(s *probe.MTUStep) string {
	text := fmt.Sprintf("carries %d bytes as far as here", s.MTU)
	if n := len(s.Refused); n > 0 {
		text += fmt.Sprintf(": %v refuses %d", s.Refused[n-1].Addr, s.Refused[n-1].Size)
	}
	if s.BlackHole {
		text += ": larger packets vanish"
	}
	return text
}

func hostError(x *probe.Host) string {
	return errorText(&probe.Result{From: x.Addr, ICMP: true, ICMPType: x.ICMPType, ICMPCode: x.ICMPCode, MTU: x.MTU})
}

// csvHeader names mtr's columns, of which a blank between the letters is one.
func (o *traceOptions) csvHeader(w io.Writer) {
	fmt.Fprint(w, "Mtr_Version,Start_Time,Status,Host,Hop,Ip,")
	o.csvColumns(func(c *traceview.Column) {
		if c == nil {
			fmt.Fprint(w, " ,")
		} else {
			fmt.Fprintf(w, "%s,", c.Name)
		}
	})
	fmt.Fprintln(w)
}

// csvColumns calls f for each letter, with nil for a blank.
func (o *traceOptions) csvColumns(f func(*traceview.Column)) {
	for i := range len(o.order) {
		if columns, _ := traceview.Order(o.order[i : i+1]); len(columns) == 1 {
			f(columns[0])
		} else {
			f(nil)
		}
	}
}

func (w *traceOutput) csv(r *probe.TraceResult) {
	if !w.o.several {
		w.o.csvHeader(w.w)
	}
	for i := range r.Hops {
		h := &r.Hops[i]
		fmt.Fprintf(w.w, "tapstack,%d,OK,%s,%d,%s", w.start.Unix(), w.host, h.TTL, w.name(first(h).Addr))
		w.o.csvColumns(func(c *traceview.Column) {
			switch {
			case c == nil:
				fmt.Fprint(w.w, ",0")
			case c.Whole():
				fmt.Fprintf(w.w, ",%.0f", c.Value(h))
			default:
				fmt.Fprintf(w.w, ",%.2f", c.Value(h))
			}
		})
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
		Loop    []string   `json:"loop,omitempty"`
	} `json:"report"`
}

type traceHub struct {
	Count int     `json:"count"`
	Host  string  `json:"host"`
	Loss  float64 `json:"Loss%"`
	Snt   int     `json:"Snt"`
	Last  float64 `json:"Last"`
	Avg   float64 `json:"Avg"`
	Best  float64 `json:"Best"`
	Wrst  float64 `json:"Wrst"`
	StDev float64 `json:"StDev"`
	// What mtr does not have.
	ASN     string      `json:"ASN,omitempty"`
	ASName  string      `json:"as_name,omitempty"`
	Through float64     `json:"path_loss%"`
	MTU     *traceMTU   `json:"mtu,omitempty"`
	Found   []traceFind `json:"findings,omitempty"`
	Hosts   []traceHost `json:"hosts"`
}

// traceMTU is what the path carries as far as the hop.
type traceMTU struct {
	MTU       int    `json:"bytes"`
	By        string `json:"refused_by,omitempty"`
	BlackHole bool   `json:"black_hole,omitempty"`
}

type traceFind struct {
	Kind  string `json:"kind"`
	Text  string `json:"text"`
	After int    `json:"after_hop"`
}

type traceHost struct {
	Address    string      `json:"address"`
	Name       string      `json:"name,omitempty"`
	Result     string      `json:"result"`
	Count      int         `json:"count"`
	ReplyTTL   int         `json:"reply_ttl"`
	Back       int         `json:"hops_back"`
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
	for _, a := range r.Loop() {
		j.Report.Loop = append(j.Report.Loop, w.name(a))
	}
	found := make(map[int][]traceFind)
	for _, f := range r.Findings() {
		found[f.TTL] = append(found[f.TTL], traceFind{f.Kind.String(), f.String(), f.After})
	}
	j.Report.Hubs = []traceHub{}
	for i := range r.Hops {
		h := &r.Hops[i]
		s := &h.Stats
		hub := traceHub{Count: h.TTL, Host: w.name(first(h).Addr), Loss: h.Loss(), Snt: h.Sent, Last: ms(s.Last), Avg: ms(s.Avg()), Best: ms(s.Best),
			Wrst: ms(s.Wrst), StDev: ms(s.SampleDev()), Through: r.Through(i), Found: found[h.TTL], Hosts: []traceHost{}}
		if w.o.as != nil {
			as, _ := w.o.as.Of(first(h).Addr)
			hub.ASN, hub.ASName = w.o.as.Text(first(h).Addr), as.Name
		}
		if s, ok := w.mtu[h.TTL]; ok && s.MTU > 0 {
			hub.MTU = &traceMTU{MTU: s.MTU, BlackHole: s.BlackHole}
			if n := len(s.Refused); n > 0 {
				hub.MTU.By = s.Refused[n-1].Addr.String()
			}
		}
		for _, x := range h.Hosts {
			y := traceHost{Address: x.Addr.String(), Name: w.names.Of(x.Addr), Result: x.Kind.String(), Count: x.Count, ReplyTTL: int(x.ReplyTTL), Back: x.Back()}
			for _, l := range x.Extensions.MPLS {
				y.MPLS = append(y.MPLS, mplsLabel(l))
			}
			for _, i := range x.Extensions.Interfaces {
				y.Interfaces = append(y.Interfaces, i.Role.String()+": "+traceview.Interface(i))
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

// xml prints mtr's elements.
func (w *traceOutput) xml(r *probe.TraceResult) {
	columns, _ := traceview.Order(w.o.order)
	text := func(s string) string {
		var b strings.Builder
		_ = xml.EscapeText(&b, []byte(s)) // a Builder takes all
		return b.String()
	}
	fmt.Fprintf(w.w, "<?xml version=\"1.0\"?>\n<MTR SRC=\"%v\" DST=\"%s\" TOS=\"0x%X\" PSIZE=\"%d\" BITPATTERN=\"0x%02X\" TESTS=\"%d\">\n",
		r.Src, text(w.host), w.o.tos, w.o.size, w.o.pattern, w.o.cycles)
	for i := range r.Hops {
		h := &r.Hops[i]
		fmt.Fprintf(w.w, "    <HUB COUNT=\"%d\" HOST=\"%s\">\n", h.TTL, text(w.name(first(h).Addr)))
		for _, c := range columns {
			tag := strings.TrimSuffix(c.Name, "%")
			fmt.Fprintf(w.w, "        <%s>%s</%s>\n", tag, fmt.Sprintf(c.Format, c.Value(h)), tag)
		}
		fmt.Fprintln(w.w, "    </HUB>")
	}
	fmt.Fprintln(w.w, "</MTR>")
}
