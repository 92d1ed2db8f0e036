package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/probe"
	"github.com/tapstack/tapstack/probe/check"
)

// This file owns the command xray: a report on how a TCP port shakes hands.

type xrayOptions struct {
	attach attach.Options
	family
	send, sendHex, http, device string
	tls, json, verbose          bool
	samples, mss, ttl, tos      int
	timeout, watch, pause       wait
}

func xrayCommand() *cobra.Command {
	o := &xrayOptions{timeout: wait(5 * time.Second), watch: wait(8 * time.Second), pause: wait(50 * time.Millisecond), samples: 8, mss: 64}
	c := &cobra.Command{
		Use:   "xray [flags] HOST PORT",
		Short: "Look at how a TCP port shakes hands, and say what is remarkable",
		Long: `Look at a TCP port by some twenty connections that are never quite made: the
options of its SYN-ACK and their order, sequence numbers, timestamps and IP
identification over several connections, ECN and AccECN, Fast Open, when a
SYN-ACK without an answer comes again, how it ends connections, and with --http,
--tls or --send its initial congestion window, of which nothing is acknowledged
until it is sent again. Each connection ends with a reset.

Exit status: 0 the port is open, 1 it is not, 2 nothing could be sent.`,
		Example: `  tapstack lab run -- tapstack xray 10.77.0.1 22
  tapstack xray --tap tap7 --ip 10.77.0.7/24 --gw 10.77.0.1 --http /index.html 192.0.2.1 80
  tapstack xray --tls --watch 70 --json www.example.net 443`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 2 {
				return attach.Usagef("%d arguments instead of HOST and PORT; `%s --help` tells the usage", len(args), c.CommandPath())
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return o.run(c.OutOrStdout(), args[0], args[1]) },
	}
	f := c.Flags()
	f.SortFlags = false
	f.BoolVarP(&o.v4, "ipv4", "4", false, "IPv4 only")
	f.BoolVarP(&o.v6, "ipv6", "6", false, "IPv6 only")
	f.StringVar(&o.send, "send", "", "send `TEXT` to make the peer send much: its initial window")
	f.StringVar(&o.sendHex, "send-hex", "", "likewise bytes in `HEX`")
	f.StringVar(&o.http, "http", "", "likewise ask for the page `PATH`, / unless given")
	f.Lookup("http").NoOptDefVal = "/"
	f.BoolVar(&o.tls, "tls", false, "likewise begin TLS, which the peer's certificate answers")
	f.Var(number{&o.mss, 16, 65495}, "small-mss", "announce an MSS of `BYTES`, 64 unless given, so that short answers show the initial window")
	f.VarP(number{&o.samples, 1, 64}, "samples", "n", "compare `N` connections, 8 unless given")
	f.Var(span{&o.pause}, "pause", "`SECONDS` between them, 0.05 unless given")
	f.Var(span{&o.watch}, "watch", "leave a SYN-ACK without an answer for `SECONDS`, 8 unless given; Linux gives up after 63")
	f.VarP(span{&o.timeout}, "timeout", "W", "wait `SECONDS` for an answer to SYNs, 5 unless given")
	f.VarP(number{&o.ttl, 1, 255}, "ttl", "t", "time to live or hop limit (default 64)")
	f.VarP(number{&o.tos, 0, 255}, "tos", "Q", "DS field, as 0x28")
	f.StringVarP(&o.device, "interface", "I", "", "leave by the interface, or from the address, `NAME`")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "every segment, too")
	f.BoolVarP(&o.json, "json", "j", false, "print JSON, with every segment")
	o.attach.Register(f)
	ownFrames(f, &o.attach)
	return c
}

// request is what the flags say to send.
func (o *xrayOptions) request(host string) ([]byte, error) {
	given := 0
	for _, v := range []bool{o.send != "", o.sendHex != "", o.http != "", o.tls} {
		if v {
			given++
		}
	}
	if given > 1 {
		return nil, attach.Usagef("--send, --send-hex, --http and --tls exclude each other")
	}
	switch {
	case o.send != "":
		return []byte(o.send), nil
	case o.sendHex != "":
		b, err := hex.DecodeString(strings.Join(strings.Fields(o.sendHex), ""))
		if err != nil || len(b) == 0 {
			return nil, attach.Usagef("--send-hex: want bytes in hexadecimal")
		}
		return b, nil
	case o.http != "":
		if strings.ContainsAny(o.http, " \r\n") {
			return nil, attach.Usagef("--http %q: not a path", o.http)
		}
		return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: tapstack\r\nAccept: */*\r\nConnection: close\r\n\r\n", o.http, host), nil
	case o.tls:
		return clientHello(host), nil
	}
	return nil, nil
}

// clientHello is the first message of a TLS client.
func clientHello(host string) []byte {
	var c captured
	config := &tls.Config{ServerName: host}
	if _, err := netip.ParseAddr(host); err == nil {
		config = &tls.Config{InsecureSkipVerify: true} // an address is not named; nothing is trusted either
	}
	_ = tls.Client(&c, config).Handshake() // fails, as nobody answers
	return c.Bytes()
}

// captured keeps what is written to it and has nothing to read.
type captured struct {
	bytes.Buffer
	net.Conn
}

func (c *captured) Write(b []byte) (int, error)      { return c.Buffer.Write(b) }
func (c *captured) Read([]byte) (int, error)         { return 0, errors.New("nobody is there") }
func (c *captured) Close() error                     { return nil }
func (c *captured) SetDeadline(time.Time) error      { return nil }
func (c *captured) SetWriteDeadline(time.Time) error { return nil }
func (c *captured) String() string                   { return "captured" }

func (o *xrayOptions) run(out io.Writer, host, service string) error {
	if o.v4 && o.v6 {
		return attach.Usagef("-4 and -6 exclude each other")
	}
	port, err := check.ParsePort(service)
	if err != nil {
		return &attach.UsageError{Err: err}
	}
	send, err := o.request(host)
	if err != nil {
		return err
	}
	return prober(&o.attach, func(ctx context.Context, h *attach.Host, p *probe.Prober) (int, error) {
		dst, err := lookup(ctx, h, host, o.family)
		if err != nil {
			return 2, err
		}
		q := probe.XRayRequest{Request: probe.Request{Dst: dst, DstPort: port, TTL: uint8(o.ttl), TOS: uint8(o.tos), Timeout: time.Duration(o.timeout)},
			Send: send, Samples: o.samples, SmallMSS: o.mss, Watch: time.Duration(o.watch), Pause: time.Duration(o.pause)}
		if err := device(h, o.device, &q.Request); err != nil {
			return 2, err
		}
		r := p.XRay(ctx, q)
		if r.Err != nil && len(r.Conns) == 0 {
			return 2, failed(host, r.Err)
		}
		if o.json {
			err = writeJSON(out, &r)
		} else {
			o.print(out, host, &r)
		}
		if r.Verdict != probe.XRayOpen {
			return 1, err
		}
		return 0, err
	})
}

// print is the report for people.
func (o *xrayOptions) print(w io.Writer, host string, r *probe.XRayResult) {
	line := func(label, format string, a ...any) {
		fmt.Fprintf(w, "%-14s %s\n", label, fmt.Sprintf(format, a...))
	}
	fmt.Fprintf(w, "%s port %d (%v), from %v: %s\n", host, r.Target.Port(), r.Target.Addr(), r.Source, r.Verdict)
	if r.Answered > 0 {
		line("handshake", "SYN %d of %d answered after %v", r.Answered, r.SYNs, r.RTT)
		line("distance", "TTL %d, so %d hops if it began with %d", r.Hops.TTL, r.Hops.Hops, r.Hops.Initial)
	}
	if a := r.SynAck; a != nil {
		line("options", "%s", strings.Join(a.Options, ", "))
		scaled := ""
		if a.WindowScale >= 0 {
			scaled = fmt.Sprintf(", from then on in units of %d", 1<<min(a.WindowScale, 14)) // RFC 7323 §2.3: what is more counts as 14
		}
		line("window", "%d%s", a.Window, scaled)
	}
	line("path", "link %d bytes, path %d as far as routers have said", r.LinkMTU, r.PathMTU)
	if x := r.Repeats; x != nil {
		var after []string
		for _, d := range x.After {
			after = append(after, elapsed(d))
		}
		what := strings.Join(after, ", ") + " after the first"
		if len(after) == 0 {
			what = "not within " + elapsed(x.Watched)
		}
		if x.Reset {
			what += ", then a reset"
		}
		line("SYN-ACK again", "%s", what)
	}
	if x := r.ISN; x != nil {
		line("ISN", "%s", numbersText(x))
	}
	if x := r.PortISN; x != nil {
		line("  of one port", "%s", numbersText(x))
	}
	if x := r.Stamps; x != nil {
		rate := "rate unknown"
		if x.Hz > 0 {
			rate = fmt.Sprintf("%g Hz", x.Hz)
		}
		up := ""
		if x.Up > 0 {
			up = fmt.Sprintf(", up for %v if it began with 0", x.Up.Round(time.Second))
		}
		line("timestamps", "%s, %s%s", x.Kind, rate, up)
	}
	if x := r.IPID; x != nil {
		line("IP ID", "%s", numbersText(x))
	}
	if x := r.ECN; x != nil {
		line("ECN", "%s, of AccECN %s", yes(x.Classic), x.AccECN)
	}
	if x := r.FastOpen; x != nil {
		line("Fast Open", "%s", yes(x.Cookie > 0))
	}
	for _, x := range r.Windows {
		how := "at least, the answer was too short to tell"
		if x.Limited {
			how = "then it waits"
		}
		again := "nothing came again"
		if x.Repeat > 0 {
			again = "again after " + elapsed(x.Repeat)
		}
		line("first flight", "%d segments of %d bytes, %d in all (MSS %d): %s; %s", x.Segments, x.Segment, x.Bytes, x.MSS, how, again)
	}
	if len(r.Windows) == 0 && r.SynAck != nil {
		line("first flight", "nothing came (--http, --tls or --send asks for something)")
	}
	if x := r.Close; x != nil {
		if x.Greeting != "" {
			line("greeting", "%s", strconv.Quote(x.Greeting))
		}
		how := "our FIN was not acknowledged"
		switch {
		case x.Reset:
			how = "reset by the peer"
		case x.First:
			how = "the peer was first"
		case x.Ended > 0:
			how = fmt.Sprintf("FIN acknowledged after %s, its own after %s", elapsed(x.Acked), elapsed(x.Ended))
		case x.Acked > 0:
			how = fmt.Sprintf("FIN acknowledged after %s, its side stays open", elapsed(x.Acked))
		}
		line("end", "%s", how)
	}
	if x := r.Stray; x != nil {
		what := "silence"
		if x.Reset {
			what = fmt.Sprintf("reset, TTL %d", x.TTL)
		}
		line("stray ACK", "%s", what)
	}
	if o.verbose {
		for _, c := range r.Conns {
			fmt.Fprintf(w, "\n%s, port %d\n", c.Purpose, c.Port)
			for _, s := range c.Segments {
				way := "<"
				if s.Sent {
					way = ">"
				}
				fmt.Fprintf(w, "  %12.6f %s %-5s seq %d ack %d win %d len %d", s.At.Seconds(), way, s.Flags, s.Seq, s.Ack, s.Window, s.Length)
				if len(s.Options) > 0 {
					fmt.Fprintf(w, " <%s>", strings.Join(s.Options, ", "))
				}
				fmt.Fprintln(w)
			}
		}
	}
	fmt.Fprintf(w, "\n%s\n", r.Diagnosis)
}

func numbersText(n *probe.XRayNumbers) string {
	var v []string
	for i, x := range n.Values {
		if i == 4 && len(n.Values) > 5 {
			v = append(v, "...")
			break
		}
		v = append(v, strconv.FormatUint(uint64(x), 10))
	}
	return fmt.Sprintf("%s (%s)", n.Says(), strings.Join(v, ", "))
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// elapsed has three digits that count.
func elapsed(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%.3g ms", ms(d))
	}
	return fmt.Sprintf("%.3g s", d.Seconds())
}
