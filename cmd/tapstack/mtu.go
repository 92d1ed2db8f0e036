package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/spf13/cobra"

	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/probe"
)

// This file owns the command mtu: what a path carries, and where it gets narrow.

type mtuOptions struct {
	attach attach.Options
	family
	udp, tcp, whole, json         bool
	port, tries, maxTTL, tos, gap int
	timeout                       wait
	device                        string
}

func mtuCommand() *cobra.Command {
	o := &mtuOptions{timeout: wait(time.Second), tries: 3, maxTTL: 30, gap: 5}
	c := &cobra.Command{
		Use:   "mtu [flags] HOST",
		Short: "Find out what a path carries, and where it gets narrow",
		Long: `Find out the largest packet that gets to a host unfragmented, and hop by hop
what gets there. Routers that say what their next line carries are believed
(RFC 1191, RFC 8201); where larger packets vanish and nobody says so, sizes are
tried (RFC 4821), and the hop before which they vanish is named.

Exit status: 0 when the MTU is known, 1 when nothing answers or there is a black
hole, 2 when nothing could be sent.`,
		Example: `  tapstack lab run -- tapstack mtu 10.77.0.1
  tapstack mtu --tap tap7 --ip 10.77.0.7/24 --gw 10.77.0.1 -T -P 443 192.0.2.1
  tapstack mtu -6 --json www.example.net`,
		Args: oneArg("HOST"),
		RunE: func(c *cobra.Command, args []string) error { return o.run(c.OutOrStdout(), args[0]) },
	}
	f := c.Flags()
	f.SortFlags = false
	f.BoolVarP(&o.v4, "ipv4", "4", false, "IPv4 only")
	f.BoolVarP(&o.v6, "ipv6", "6", false, "IPv6 only")
	f.BoolVarP(&o.udp, "udp", "u", false, "send datagrams instead of echo requests")
	f.BoolVarP(&o.tcp, "tcp", "T", false, "send SYNs with data")
	f.VarP(number{&o.port, 1, 65535}, "port", "P", "to `PORT` (default 33434 of UDP, 80 of TCP)")
	f.VarP(span{&o.timeout}, "timeout", "W", "wait `SECONDS` for each answer, 1 unless given")
	f.VarP(number{&o.tries, 1, 100}, "tries", "n", "a size counts as too large after `N` packets without an answer, 3 unless given")
	f.VarP(number{&o.maxTTL, 1, 255}, "max-ttl", "m", "look at `N` hops at most, 30 unless given")
	f.VarP(number{&o.gap, 1, math.MaxInt32}, "max-unknown", "U", "end after `N` silent hops in a row, 5 unless given")
	f.VarP(number{&o.tos, 0, 255}, "tos", "Q", "DS field and ECN bits, as 0x28")
	f.StringVarP(&o.device, "interface", "I", "", "leave by the interface, or from the address, `NAME`")
	f.BoolVar(&o.whole, "whole", false, "only of the whole way, without the hops")
	f.BoolVarP(&o.json, "json", "j", false, "print JSON")
	o.attach.Register(f)
	ownFrames(f, &o.attach)
	return c
}

// mtuReport is what --json prints.
type mtuReport struct {
	Dest      string       `json:"dest"`
	Address   string       `json:"address"`
	Protocol  string       `json:"protocol"`
	Port      int          `json:"port,omitempty"`
	LinkMTU   int          `json:"link_mtu"`
	MTU       int          `json:"mtu"` // 0: nothing was answered
	MSS       int          `json:"mss"` // of TCP, without options
	Reached   bool         `json:"reached"`
	BlackHole bool         `json:"black_hole"`
	Refused   []mtuRefused `json:"refused"` // by the whole way
	Hops      []mtuHop     `json:"hops"`
	Probes    int          `json:"probes"`
	Error     string       `json:"error,omitempty"`
}

type mtuRefused struct {
	Address string `json:"address"`
	Size    int    `json:"size"`
	MTU     int    `json:"mtu"` // that it named, 0: none
}

type mtuHop struct {
	TTL       int          `json:"ttl"`
	Address   *string      `json:"address"`
	MTU       *int         `json:"mtu"` // what gets there, null: not known
	BlackHole bool         `json:"black_hole"`
	Refused   []mtuRefused `json:"refused"`
}

func refusals(list []probe.MTUHop) []mtuRefused {
	out := []mtuRefused{}
	for _, h := range list {
		out = append(out, mtuRefused{h.Addr.String(), h.Size, h.MTU})
	}
	return out
}

func (o *mtuOptions) run(out io.Writer, host string) error {
	if o.v4 && o.v6 {
		return attach.Usagef("-4 and -6 exclude each other")
	}
	if o.udp && o.tcp {
		return attach.Usagef("-u and -T exclude each other")
	}
	if o.port != 0 && !o.udp && !o.tcp {
		return attach.Usagef("-P: echo requests have no port; -u or -T does")
	}
	return prober(&o.attach, func(ctx context.Context, h *attach.Host, p *probe.Prober) (int, error) {
		dst, err := lookup(ctx, h, host, o.family)
		if err != nil {
			return 2, err
		}
		q := probe.Request{Dst: dst, DstPort: uint16(o.port), TOS: uint8(o.tos), Timeout: time.Duration(o.timeout)}
		if o.udp {
			q.Proto = probe.UDP
		} else if o.tcp {
			q.Proto = probe.TCP
		}
		if err := device(h, o.device, &q); err != nil {
			return 2, err
		}
		path, err := p.Path(&q)
		if err != nil {
			return 2, failed(host, err)
		}
		r := p.MTU(ctx, probe.MTURequest{Request: q, Tries: o.tries})
		j := mtuReport{Dest: host, Address: dst.String(), Protocol: q.Proto.String(), Port: o.port, LinkMTU: path.LinkMTU, MTU: r.MTU,
			Reached: r.MTU > 0, BlackHole: r.BlackHole, Refused: refusals(r.Hops), Hops: []mtuHop{}, Probes: r.Probes}
		if r.Err != nil {
			if j.Error = r.Err.Error(); len(r.Hops) == 0 && r.MTU == 0 && !o.json {
				return 2, failed(host, r.Err)
			}
		}
		if j.MTU > 0 {
			if j.MSS = j.MTU - 40; dst.Is6() {
				j.MSS -= 20
			}
		}
		if !o.whole {
			x := p.MTUPath(ctx, probe.MTUPathRequest{Request: q, Tries: o.tries, MaxTTL: o.maxTTL, Silent: o.gap, Likely: r.MTU})
			j.Probes += x.Probes
			for _, s := range x.Steps {
				y := mtuHop{TTL: s.TTL, BlackHole: s.BlackHole, Refused: refusals(s.Refused)}
				if s.Addr.IsValid() {
					a := s.Addr.String()
					y.Address = &a
				}
				if s.MTU > 0 {
					y.MTU = &s.MTU
				}
				j.Hops = append(j.Hops, y)
			}
		}
		if o.json {
			err = writeJSON(out, j)
		} else {
			j.print(out)
		}
		switch {
		case r.Err != nil && r.MTU == 0 && len(r.Hops) == 0:
			return 2, err
		case !j.Reached || j.BlackHole:
			return 1, err
		}
		return 0, err
	})
}

// print is the report for people.
func (j *mtuReport) print(w io.Writer) {
	via := j.Protocol
	if j.Port != 0 {
		via = fmt.Sprintf("%s port %d", via, j.Port)
	}
	fmt.Fprintf(w, "MTU to %s (%s) by %s, from %d bytes on:\n", j.Dest, j.Address, via, j.LinkMTU)
	last := "this host"
	for _, h := range j.Hops {
		who, size := "???", "    ?"
		if h.Address != nil {
			who = *h.Address
		}
		if h.MTU != nil {
			size = fmt.Sprintf("%5d", *h.MTU)
		}
		for _, x := range h.Refused {
			if x.MTU > 0 {
				fmt.Fprintf(w, "           %s refuses %d bytes: its next line carries %d\n", x.Address, x.Size, x.MTU)
			} else {
				fmt.Fprintf(w, "           %s refuses %d bytes, and names no size\n", x.Address, x.Size)
			}
		}
		if h.BlackHole {
			fmt.Fprintf(w, "           larger packets vanish between %s and %s, and nobody says so\n", last, who)
		}
		fmt.Fprintf(w, "%3d. %s  %s\n", h.TTL, size, who)
		if h.Address != nil {
			last = *h.Address
		}
	}
	switch {
	case !j.Reached && j.Error != "":
		fmt.Fprintf(w, "%s was not reached: %s\n", j.Dest, j.Error)
	case !j.Reached:
		fmt.Fprintf(w, "%s was not reached, whatever the size\n", j.Dest)
	default:
		if len(j.Hops) == 0 {
			for _, x := range j.Refused {
				fmt.Fprintf(w, "           %s refuses %d bytes: MTU %d\n", x.Address, x.Size, x.MTU)
			}
		}
		fmt.Fprintf(w, "The path carries %d bytes: TCP segments of %d, datagrams of %d.\n", j.MTU, j.MSS, j.MSS+12)
	}
	if j.BlackHole {
		fmt.Fprintf(w, "BLACK HOLE: larger packets vanish without an ICMP error. TCP needs an MSS of %d there, or MTU probing.\n", j.MSS)
	}
}
