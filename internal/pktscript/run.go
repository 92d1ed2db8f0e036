package pktscript

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/stack/simnet"
)

// This file owns the run: the events one after the other, and time. Nothing
// waits: between two events the virtual clock goes from timer to timer, and a
// call that blocks is tried again after each of them.

// RunOptions change how a script is run.
type RunOptions struct {
	// IPVersion is "ipv4", "ipv6" or "ipv4-mapped-ipv6" for a script that
	// does not say; "" is IPv4.
	IPVersion string
	// Strict fails a script that leaves a packet of the stack unexpected
	// before its end, or expects another timestamp to be echoed; packetdrill
	// looks at neither.
	Strict bool
	// AnyPush does not compare PSH flags.
	AnyPush bool
	// Trace is told every packet and call, if set.
	Trace func(string)
}

// Status is how a run ended.
type Status uint8

// The ends of a run.
const (
	Passed Status = iota
	Failed
	Skipped
)

func (s Status) String() string { return [3]string{"passed", "failed", "skipped"}[s] }

// Result is the end of a run.
type Result struct {
	Status Status
	Line   int    // where it failed
	Reason string // why it failed or was skipped
	// Ignored are the commands that had no effect.
	Ignored []string
}

func (r Result) String() string {
	switch {
	case r.Status == Passed:
		return "passed"
	case r.Line > 0:
		return fmt.Sprintf("%s: line %d: %s", r.Status, r.Line, r.Reason)
	}
	return fmt.Sprintf("%s: %s", r.Status, r.Reason)
}

// Run parses and runs the text of a script.
func Run(name, src string, opt RunOptions) Result {
	s, err := parse(name, src, opt.IPVersion)
	if err != nil {
		return verdict(err, 0)
	}
	return s.Run(opt)
}

// verdict makes a result of an error.
func verdict(err error, line int) Result {
	var un *Unsupported
	var syn *SyntaxError
	switch {
	case err == nil:
		return Result{}
	case errors.As(err, &un):
		if un.Line > 0 {
			line = un.Line
		}
		return Result{Status: Skipped, Line: line, Reason: un.Reason}
	case errors.As(err, &syn):
		return Result{Status: Skipped, Line: syn.Line, Reason: "syntax: " + syn.Text}
	}
	return Result{Status: Failed, Line: line, Reason: err.Error()}
}

// runner is the state of a run.
type runner struct {
	script *Script
	opt    RunOptions
	cfg    config
	set0   settings

	net   *simnet.Net
	link  *link
	stack *stack.Stack
	iface *stack.Interface

	begin   mono.Time // instant 0 of the script
	event   *Event    // the one under way
	planned mono.Time // when it was to be
	last    *Event    // the one before
	lastAt  mono.Time // when that was planned; 0: there is none

	files   map[int]*file
	flows   []*flow
	cur     *flow // what packets without ports belong to
	curFile *file // the socket made last; its state says what a SYN does
	pending *pendingCall
	env     env
	ports   uint16 // remote ports given out
	ignored []string
}

// Run runs the script.
func (s *Script) Run(opt RunOptions) Result {
	cfg, err := configure(s, opt.IPVersion)
	if err != nil {
		return verdict(err, 0)
	}
	cfg.anyPush = cfg.anyPush || opt.AnyPush
	r := &runner{script: s, opt: opt, cfg: cfg, net: simnet.New(1), files: map[int]*file{}, env: env{}, ports: 40000}
	defer r.close()
	for i := range s.Events {
		r.event = &s.Events[i]
		if err = r.step(); err != nil {
			res := verdict(err, r.event.Line)
			res.Ignored = r.ignored
			return res
		}
		if !r.event.At.Unattended {
			r.last, r.lastAt = r.event, r.planned
		}
	}
	err = r.finish()
	line := 0
	if r.event != nil {
		line = r.event.Line
	}
	res := verdict(err, line)
	res.Ignored = r.ignored
	return res
}

// finish waits for a call that still blocks, and looks for what was left over.
func (r *runner) finish() error {
	if err := r.settlePending(); err != nil {
		return err
	}
	if r.stack == nil {
		return &Unsupported{Reason: "a script without events"}
	}
	if r.link.flaw != "" {
		return errors.New(r.link.flaw)
	}
	if !r.opt.Strict {
		return nil
	}
	r.settle()
	for _, f := range r.link.sent {
		for _, w := range r.flows {
			if w.owns(f) {
				w.toScript(f, false)
				w.mapTS(f, &Packet{})
				return fmt.Errorf("nobody expected, %s before the end: > %s", r.net.Now().Sub(f.at), f)
			}
		}
	}
	return nil
}

// close ends what the script left open.
func (r *runner) close() {
	if r.stack != nil {
		r.stack.Close()
	}
}

// start makes the stack, once the commands of the head are done.
func (r *runner) start() error {
	if r.stack != nil {
		return nil
	}
	r.set0.frozen = true
	// Merged segments come only from a device that has looked at checksums.
	caps := ether.Caps{MTU: r.cfg.mtu, Queues: 1, RxCsum: r.cfg.mss > 0}
	r.link = &link{net: r.net, caps: caps, keep: func(*frame) bool { return true }}
	c := r.set0.stack
	c.Clock, c.Seed = r.net.Clock(), 1
	r.stack = stack.New(c)
	var err error
	r.iface, err = r.stack.AddInterface(stack.InterfaceConfig{Name: "tun0", Device: r.link, MAC: hostMAC, NoDAD: true,
		DisableIPv6: !r.cfg.v6})
	if err != nil {
		return &Unsupported{Reason: err.Error()}
	}
	if err := r.iface.AddAddr(r.cfg.local); err != nil {
		return &Unsupported{Reason: err.Error()}
	}
	// The whole world is on the link, and the link answers for it.
	everything := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if r.cfg.v6 {
		everything = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	if err := r.stack.AddRoute(stack.Route{Dst: everything, Interface: r.iface}); err != nil {
		return err
	}
	r.settle()
	r.begin = r.net.Now()
	if w := r.event.At; w.Kind == Absolute || w.Kind == AbsoluteRange {
		r.begin = r.begin.Add(-w.From)
	}
	return nil
}

// step does one event.
func (r *runner) step() error {
	e := r.event
	if e.At.Unattended || e.Shell != "" && r.stack == nil {
		r.trace("`%s`", e.Shell)
		return r.command(e.Shell)
	}
	if err := r.start(); err != nil {
		return err
	}
	r.planned = r.plan(e)
	if e.Packet != nil && e.Packet.Out {
		return r.outbound(e.Packet)
	}
	if err := r.waitUntil(r.planned); err != nil {
		return err
	}
	switch {
	case e.Packet != nil:
		return r.inbound(e.Packet)
	case e.Call != nil:
		return r.call(e)
	case e.Code != "":
		return r.code(e.Code)
	}
	r.trace("`%s`", e.Shell)
	return r.command(e.Shell)
}

// plan returns when an event is to be. Relative times count from now; between
// two packets of the script, from when the first was planned.
func (r *runner) plan(e *Event) mono.Time {
	now := r.net.Now()
	switch e.At.Kind {
	case Absolute, AbsoluteRange:
		return r.begin.Add(e.At.From)
	case AnyTime:
		return now
	}
	if sends(e) && r.last != nil && sends(r.last) {
		now = r.lastAt
	}
	return now.Add(e.At.From)
}

func sends(e *Event) bool { return e.Packet != nil && !e.Packet.Out }

// tolerance is what is forgiven of a time, longer after a longer wait.
func (r *runner) tolerance(at mono.Time) time.Duration {
	t := time.Duration(r.cfg.tolerance) * time.Microsecond
	if r.lastAt != 0 {
		t = max(t, time.Duration(r.cfg.tolerancePercent/100*float64(at.Sub(r.lastAt))))
	}
	return t
}

// tsTolerance is the same for timestamps, in microseconds: it counts from the
// beginning of the script.
func (r *runner) tsTolerance() int64 {
	since := float64(r.planned.Sub(r.begin).Microseconds())
	return max(r.cfg.tolerance, int64(r.cfg.tolerancePercent/100*since))
}

// waitUntil lets time pass.
func (r *runner) waitUntil(t mono.Time) error {
	now := r.net.Now()
	if late := now.Sub(t); late > r.tolerance(t) {
		return fmt.Errorf("it is %v too late", late)
	}
	var err error
	for when := max(t, now); err == nil; {
		if !r.net.Until(when.Sub(r.net.Now()), func() bool { err = r.retry(); return err != nil }) {
			r.net.RunFor(max(0, when.Sub(r.net.Now())))
			return r.retry()
		}
	}
	return err
}

// settle lets happen what is due now.
func (r *runner) settle() { r.net.RunFor(0) }

// trace tells what happens.
func (r *runner) trace(format string, a ...any) {
	if r.opt.Trace == nil {
		return
	}
	at := time.Duration(0)
	if r.stack != nil {
		at = r.net.Now().Sub(r.begin)
	}
	r.opt.Trace(fmt.Sprintf("%10.6f %s", at.Seconds(), strings.TrimSpace(fmt.Sprintf(format, a...))))
}

// code runs assertions.
func (r *runner) code(text string) error {
	r.trace("%%{ %s }%%", text)
	v := r.env
	for n, x := range codeSymbols {
		v[n] = x
	}
	for n := range v {
		if strings.HasPrefix(n, "tcpi_") {
			delete(v, n)
		}
	}
	if r.cur != nil {
		if f := r.files[r.cur.fd]; f != nil {
			f.tcpInfo(v)
		}
	}
	err := v.exec(text)
	var a *assertion
	if err == nil || errors.As(err, &a) {
		return err
	}
	return &Unsupported{Reason: "code: " + err.Error()}
}
