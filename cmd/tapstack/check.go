package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/probe/check"
)

// checkOptions are the flags of check, those of pyminitcp first.
type checkOptions struct {
	attach attach.Options

	udp, tcp, banner, require bool
	timeout                   float64
	readBytes                 int
	data, hex, json           string

	service, expect   string
	tls, insecure     bool
	start, name, root string
	alpn              []string
	valid             int
	targets           string
	parallel          int
	exitZero          bool
}

// The values of --json.
const (
	jsonSeed = "seed"
	jsonFull = "full"
)

func checkCommand() *cobra.Command {
	return newCheck("check", "Check whether a service answers, and say why it does not")
}

// pyminitcpCommand is check under that name: it takes the place of a program
// that runs on the host's sockets, and so does it if nothing else is said.
func pyminitcpCommand() *cobra.Command {
	return newCheck("pyminitcp", "Check whether a TCP or UDP service answers")
}

func newCheck(name, short string) *cobra.Command {
	o := new(checkOptions)
	if name == "pyminitcp" && os.Getenv("TAPSTACK_TAP") == "" && os.Getenv("TAPSTACK_DEV") == "" && os.Getenv("TAPSTACK_NET") == "" {
		o.attach.Net = "host"
	}
	c := &cobra.Command{
		Use:   name + " HOST PORT",
		Short: short,
		Long: short + `.

A name is looked up, its addresses are tried one after the other, and with
--banner, --service or --expect an answer is read. The exit status is 0 when the
check succeeded, 1 when it did not, 2 when it could not be tried.

The flags down to --json, and what it prints, are those of pyminitcp; a link of
that name to this program acts as it, on the host's own sockets.`,
		Example: `  tapstack check --net host example.net 443
  tapstack check 10.77.0.1 22 --banner --require-banner --json
  tapstack check 10.77.0.1 80 --banner --send-data $'HEAD / HTTP/1.0\r\n\r\n'
  tapstack check mail.example --service smtp --starttls smtp --tls-valid 14
  tapstack check --targets hosts.txt --service ssh`,
		Args: func(c *cobra.Command, args []string) error { return o.checkArgs(c.CommandPath(), args) },
		RunE: func(c *cobra.Command, args []string) error { return o.run(c.OutOrStdout(), args) },
	}
	f := c.Flags()
	f.SortFlags = false
	f.BoolVar(&o.udp, "udp", false, "use UDP instead of TCP")
	f.BoolVar(&o.tcp, "tcp", false, "use TCP (the default)")
	f.Float64VarP(&o.timeout, "timeout", "t", check.DefaultTimeout.Seconds(), "wait so many `SECONDS` for each step")
	f.BoolVar(&o.banner, "banner", false, "read an answer after connecting")
	f.BoolVar(&o.require, "require-banner", false, "fail if none comes")
	f.IntVar(&o.readBytes, "read-bytes", check.DefaultReadBytes, "read at most `N` bytes")
	f.StringVar(&o.data, "send-data", "", "send `TEXT` before reading")
	f.StringVarP(&o.data, "payload", "p", "", "the same as --send-data")
	f.StringVar(&o.hex, "send-hex", "", "send bytes in `HEX` before reading")
	f.StringVar(&o.hex, "hex-payload", "", "the same as --send-hex")
	f.StringVarP(&o.json, "json", "j", "", "print JSON; `WHAT` may be seed (pyminitcp's fields) or full")
	f.Lookup("json").NoOptDefVal = jsonSeed
	var names []string
	for _, s := range check.Services() {
		names = append(names, s.Name)
	}
	f.StringVar(&o.service, "service", "", "check for a service by `NAME`, PORT then may be left out: "+strings.Join(names, ", "))
	f.StringVar(&o.expect, "expect", "", "read until the answer matches `REGEXP`, and fail if it does not")
	f.BoolVar(&o.tls, "tls", false, "speak TLS, and report on the certificate")
	f.StringVar(&o.start, "starttls", "", "begin TLS within `PROTOCOL`: "+strings.Join(check.StartTLS(), ", "))
	f.StringSliceVar(&o.alpn, "alpn", nil, "offer these `PROTOCOLS` by ALPN, as h2,http/1.1")
	f.StringVar(&o.name, "tls-name", "", "expect a certificate for `NAME` (default HOST)")
	f.StringVar(&o.root, "tls-ca", "", "trust the certificates in `FILE` instead of the system's")
	f.IntVar(&o.valid, "tls-valid", 0, "fail if the certificate ends within `DAYS`")
	f.BoolVarP(&o.insecure, "insecure", "k", false, "accept any certificate, and report what is wrong with it")
	f.StringVar(&o.targets, "targets", "", "check all targets in `FILE` (- for standard input): on each line HOST and PORT, or a service, or both")
	f.IntVar(&o.parallel, "parallel", 64, "check `N` of them at a time")
	f.BoolVar(&o.exitZero, "exit-zero", false, "exit with status 0 when a check fails, too")
	o.attach.Register(f)
	ownFrames(f, &o.attach)
	f.SortFlags = false
	return c
}

// checkArgs wants a host and a port, unless a file or a service says them.
func (o *checkOptions) checkArgs(name string, args []string) error {
	want := "HOST PORT"
	least, most := 2, 2
	switch {
	case o.targets != "":
		want, least, most = "no arguments with --targets", 0, 0
	case o.service != "":
		want, least = "HOST, and PORT if it is not the service's", 1
	}
	if len(args) < least || len(args) > most {
		return attach.Usagef("%d arguments: want %s; `%s --help` tells the usage", len(args), want, name)
	}
	return nil
}

// request makes of the flags what holds for all targets. bad is why a payload
// cannot be sent, which is told as a result.
func (o *checkOptions) request() (q check.Request, bad error, err error) {
	if o.timeout <= 0 || o.timeout > 3600 {
		return q, nil, attach.Usagef("--timeout %v: want more than 0, and at most 3600 seconds", o.timeout)
	}
	if o.readBytes < 1 || o.readBytes > check.MaxReadBytes {
		return q, nil, attach.Usagef("--read-bytes %d: want 1 to %d", o.readBytes, check.MaxReadBytes)
	}
	if o.parallel < 1 || o.parallel > check.MaxParallel {
		return q, nil, attach.Usagef("--parallel %d: want 1 to %d", o.parallel, check.MaxParallel)
	}
	if o.json != "" && o.json != jsonSeed && o.json != jsonFull {
		return q, nil, attach.Usagef("--json=%s: want %s or %s", o.json, jsonSeed, jsonFull)
	}
	if o.udp && o.tcp {
		return q, nil, attach.Usagef("--udp and --tcp: want one of the two")
	}
	if o.data != "" && o.hex != "" {
		return q, nil, attach.Usagef("--send-data and --send-hex: want one of the two")
	}
	q = check.Request{UDP: o.udp, Timeout: time.Duration(o.timeout * float64(time.Second)), Banner: o.banner || o.require, Require: o.require, ReadBytes: o.readBytes}
	if o.data != "" {
		q.Payload = []byte(o.data)
	}
	if o.hex != "" {
		q.Payload, bad = check.ParseHex(o.hex)
	}
	if o.expect != "" {
		if q.Expect, err = regexp.Compile(o.expect); err != nil {
			return q, nil, attach.Usagef("--expect: %w", err)
		}
	}
	if q.TLS, err = o.tlsOptions(); err != nil {
		return q, nil, err
	}
	if o.service != "" {
		if q.Service = check.LookupService(o.service); q.Service == nil {
			return q, nil, attach.Usagef("--service %s: there is none of this name", o.service)
		}
	}
	if s := q.Service; s != nil && (o.udp && !s.UDP || o.tcp && s.UDP) {
		return q, nil, attach.Usagef("--service %s is over the other of TCP and UDP", s.Name)
	}
	if q.TLS != nil && (o.udp || q.Service != nil && q.Service.UDP) {
		return q, nil, attach.Usagef("--tls: only over TCP")
	}
	return q, bad, nil
}

func (o *checkOptions) tlsOptions() (*check.TLS, error) {
	s := check.LookupService(o.service)
	if !o.tls && o.start == "" && (s == nil || !s.TLS) {
		if o.name != "" || o.root != "" || len(o.alpn) > 0 || o.valid != 0 || o.insecure {
			return nil, attach.Usagef("flags about TLS, but no --tls, --starttls or service that has it")
		}
		return nil, nil
	}
	if o.start != "" && !slices.Contains(check.StartTLS(), o.start) {
		return nil, attach.Usagef("--starttls %s: want one of %s", o.start, strings.Join(check.StartTLS(), ", "))
	}
	if o.valid < 0 {
		return nil, attach.Usagef("--tls-valid %d: want a number of days", o.valid)
	}
	t := &check.TLS{Start: o.start, Name: o.name, ALPN: o.alpn, Insecure: o.insecure, Valid: time.Duration(o.valid) * 24 * time.Hour}
	if o.root != "" {
		b, err := os.ReadFile(o.root)
		if err != nil {
			return nil, attach.Usagef("--tls-ca: %w", err)
		}
		if t.Roots = x509.NewCertPool(); !t.Roots.AppendCertsFromPEM(b) {
			return nil, attach.Usagef("--tls-ca %s: there is no certificate in it", o.root)
		}
	}
	return t, nil
}

func (o *checkOptions) run(out io.Writer, args []string) error {
	q, bad, err := o.request()
	if err != nil {
		return err
	}
	list := []check.Request{q}
	if o.targets != "" {
		if list, err = o.readTargets(q); err != nil {
			return err
		}
	} else {
		if list[0].Host = args[0]; len(args) > 1 {
			if list[0].Port, err = check.ParsePort(args[1]); err != nil {
				return &attach.UsageError{Err: err}
			}
		}
		if s := q.Service; s != nil {
			s.Apply(&list[0])
		}
	}
	failed := 0
	show := func(r *check.Result) {
		if !r.OK {
			failed++
		}
		o.print(out, r)
	}
	if bad != nil {
		for _, q := range list {
			show(check.BadPayload(q, bad))
		}
	} else if err := o.attach.Run(func(ctx context.Context, h *attach.Host) error {
		p := newProgress(o.targets != "", len(list))
		defer p.end()
		for i := range list {
			if a, err := netip.ParseAddr(list[i].Host); err == nil {
				toward(&o.attach, a)
			}
		}
		check.Many(ctx, declaring{h.Net, &o.attach}, list, o.parallel, func(_ int, r *check.Result) {
			p.clear()
			show(r)
			p.show()
		}, p.done)
		return nil
	}); err != nil {
		return notTried{err}
	}
	if failed > 0 && !o.exitZero {
		return exitStatus(1)
	}
	return nil
}

// notTried is why there was nothing to check over: exit status 2, since 1 says
// that a check has failed.
type notTried struct{ error }

func (notTried) ExitCode() int { return 2 }

func (o *checkOptions) readTargets(like check.Request) ([]check.Request, error) {
	f := os.Stdin
	if o.targets != "-" {
		var err error
		if f, err = os.Open(o.targets); err != nil {
			return nil, attach.Usagef("--targets: %w", err)
		}
		defer f.Close()
	}
	list, err := check.ReadTargets(f, like)
	if err == nil && len(list) == 0 {
		err = errors.New("there are none")
	}
	if err != nil {
		return nil, attach.Usagef("--targets %s: %w", o.targets, err)
	}
	return list, nil
}

func (o *checkOptions) print(out io.Writer, r *check.Result) {
	colour := os.Getenv("NO_COLOR") == "" && isTerminal(out)
	switch {
	case o.targets != "" && o.json != "":
		fmt.Fprintln(out, r.Line(o.json == jsonFull))
	case o.targets != "":
		fmt.Fprintln(out, r.Brief(colour))
	case o.json == jsonFull:
		fmt.Fprintln(out, r.FullJSON())
	case o.json != "":
		fmt.Fprintln(out, r.JSON())
	default:
		r.Print(out, colour)
	}
}

// isTerminal reports whether somebody sees what is written.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// progress is a line on the terminal that says how far many checks are. There
// is none where nobody would see it, or for a single one.
type progress struct {
	out                *os.File // nil: none
	all, ended, failed int
	begun, last        time.Time
}

// progressPause is how long a line stands at least.
const progressPause = 100 * time.Millisecond

func newProgress(wanted bool, all int) *progress {
	p := &progress{all: all, begun: time.Now()}
	if wanted && isTerminal(os.Stderr) {
		p.out = os.Stderr
	}
	return p
}

func (p *progress) done(r *check.Result) {
	p.ended++
	if !r.OK {
		p.failed++
	}
	if time.Since(p.last) > progressPause {
		p.show()
	}
}

func (p *progress) clear() {
	if p.out != nil {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}

func (p *progress) show() {
	if p.out != nil && p.ended < p.all {
		p.last = time.Now()
		const width = 30
		full := p.ended * width / max(p.all, 1)
		fmt.Fprintf(p.out, "\r\x1b[K[%s%s] %d of %d, %d failed, %v", strings.Repeat("#", full), strings.Repeat(".", width-full),
			p.ended, p.all, p.failed, cmp.Or(time.Since(p.begun).Round(time.Second), time.Second))
	}
}

func (p *progress) end() { p.clear() }
