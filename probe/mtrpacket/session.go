package mtrpacket

import (
	"io"
	"net/netip"
	"strconv"
	"sync"

	"github.com/tapstack/tapstack/probe"
	"github.com/tapstack/tapstack/stack"
)

// This file owns a session: the sequence numbers, the probes that have no reply
// yet, and the replies on their way to who reads them. Session itself does not
// block and runs in virtual time; Serve is the program around it.

// Defaults of Options.
const (
	// DefaultSequence is the first sequence number, which mtr's own tests of
	// packets look for.
	DefaultSequence = 33000
	DefaultInFlight = 1024
)

// maxTries is how many sequence numbers are tried when ports are in use.
const maxTries = 64

// Options of a session; zero fields take their defaults.
type Options struct {
	// InFlight is the most probes without a reply; the others are told
	// probes-exhausted. Default 1024.
	InFlight int
	// Sequence is the first sequence number; after 65535 it is the next.
	// Default 33000.
	Sequence uint16
	// Host reports whether an address that the stack does not have is the
	// host's. mtr asks the kernel for the source address and always sends it
	// along: such probes leave with the stack's own. nil: no address is.
	Host func(netip.Addr) bool
	// Toward, unless nil, is told whom each probe is for before it is sent.
	Toward func(netip.Addr)
	// Version is what check-support tells. Default "0.95", whose sequence
	// numbers and limits these are.
	Version string
}

// Session is one conversation. Write takes commands, from one goroutine.
type Session struct {
	prober *probe.Prober
	o      Options
	reply  func([]byte)
	lines  lines
	echoID uint16
	next   uint16     // sequence number
	ours   netip.Addr // the last local-ip that is the host's
	text   []byte     // of a reply to a command

	mu      sync.Mutex // guards what follows, and done of orders
	pending int
	idle    func() // called when pending comes to 0; nil: nobody waits
}

// New makes a session on a stack. reply is told each reply, whole and with its
// end of line, sometimes on a goroutine of the stack's: it must not block, nor
// keep the bytes. Close the session when done.
func New(s *stack.Stack, o Options, reply func(line []byte)) (*Session, error) {
	if o.InFlight <= 0 {
		o.InFlight = DefaultInFlight
	}
	if o.Sequence == 0 {
		o.Sequence = DefaultSequence
	}
	if o.Version == "" {
		o.Version = "0.95"
	}
	p, err := probe.New(s, probe.Options{InFlight: o.InFlight})
	if err != nil {
		return nil, err
	}
	x := &Session{prober: p, o: o, reply: reply, next: o.Sequence}
	// One that is free, and chosen at random: answers to a program that ended
	// a moment ago are not this one's.
	if x.echoID, err = p.Reserve(probe.ICMP, 0); err != nil {
		p.Close()
		return nil, err
	}
	return x, nil
}

// Close ends the session. Probes without a result are told as errors.
func (x *Session) Close() { x.prober.Close() }

// Pending returns how many probes have no reply yet.
func (x *Session) Pending() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.pending
}

// Write takes input, which need not end with a line. It never fails.
func (x *Session) Write(b []byte) (int, error) {
	x.lines.feed(b, x.command, func() { x.answer(0, "command-buffer-overflow") })
	return len(b), nil
}

// answer replies to a command.
func (x *Session) answer(token int32, what string) {
	x.text = strconv.AppendInt(x.text[:0], int64(token), 10)
	x.text = append(append(append(x.text, ' '), what...), '\n')
	x.reply(x.text)
}

// command acts on a line.
func (x *Session) command(line []byte) {
	c, ok := parse(line)
	switch {
	case !ok:
		x.answer(0, "command-parse-error")
	case c.name == "check-support":
		x.support(&c)
	case c.name == "send-probe":
		o, refuse := decode(&c)
		if o == nil {
			x.answer(c.token, string(refuse))
			return
		}
		if refuse = x.forbidden(o); refuse != "" {
			x.answer(c.token, string(refuse))
			return
		}
		if o.Src == x.ours {
			o.Src = netip.Addr{}
		}
		x.mu.Lock()
		x.pending++
		x.mu.Unlock()
		if x.o.Toward != nil {
			x.o.Toward(o.Dst)
		}
		x.send(o, maxTries)
		x.prober.Poll() // a batch of commands is no reason for its answers to wait
	default:
		x.answer(c.token, "unknown-command")
	}
}

// forbidden refuses broadcasts, as mtr-packet is refused them by the kernel
// (SO_BROADCAST): when it sends, or where no source is given when it asks for
// one. A client that waits for the end of a program whose probe nobody answers
// would wait long.
func (x *Session) forbidden(o *order) refusal {
	if !o.Dst.Is4() || o.Dst.IsMulticast() {
		return ""
	}
	path, err := x.prober.Path(&probe.Request{Dst: o.Dst, Device: o.Device})
	switch {
	case err != nil || !path.Group:
		return ""
	case o.Src.IsValid():
		return refusePrivilege
	}
	return refuseArgument
}

func (x *Session) support(c *command) {
	for _, a := range c.args {
		if a.name != "feature" {
			continue
		}
		have := "no" // also to "mark" and "local-device", which are about the kernel
		switch a.value {
		case "version":
			have = x.o.Version
		case "ip-4", "ip-6", "send-probe", "icmp", "udp", "tcp", "sctp":
			have = "ok"
		}
		x.answer(c.token, "feature-support support "+have)
		return
	}
	x.answer(c.token, string(refuseArgument))
}

// send sends a probe with the next sequence number.
func (x *Session) send(o *order, tries int) {
	seq := x.next
	if x.next++; x.next == 0 {
		x.next = x.o.Sequence
	}
	o.number(seq, x.echoID)
	x.prober.Send(o.Request, func(r probe.Result) {
		switch r.Kind {
		// These come before Send returns, so that nobody else is in send.
		case probe.AddressInUse:
			if tries > 1 && o.numbered != inNothing {
				x.send(o, tries-1)
				return
			}
		case probe.AddressNotAvailable, probe.InvalidArgument: // the latter for a loopback address
			if o.Src.IsValid() && x.o.Host != nil && x.o.Host(o.Src) {
				x.ours, o.Src = o.Src, netip.Addr{}
				x.send(o, tries)
				return
			}
		}
		x.result(o, &r)
	})
}

// result replies to a probe. Of the answers to a group's address the first is
// the reply.
func (x *Session) result(o *order, r *probe.Result) {
	x.mu.Lock()
	if o.done {
		x.mu.Unlock()
		return
	}
	o.done = true
	x.mu.Unlock()
	var room [256]byte
	x.reply(appendResult(room[:0], o.token, r))
	x.mu.Lock()
	x.pending--
	idle := x.idle
	done := x.pending == 0
	x.mu.Unlock()
	if done && idle != nil {
		idle()
	}
}

// Serve has a session with who writes r and reads w. It returns when r has
// ended and every probe has its reply, or with the error of r or w; while it
// waits it does nothing. A line that r ends in the middle of is no command.
func Serve(s *stack.Stack, r io.Reader, w io.Writer, o Options) error {
	out := newOutput(w)
	x, err := New(s, o, out.add)
	if err != nil {
		out.end()
		return err
	}
	b := make([]byte, maxLine)
	for {
		n, e := r.Read(b)
		out.hold(true)
		_, _ = x.Write(b[:n]) // never fails
		out.hold(false)
		if e != nil && e != io.EOF {
			err = e
		}
		if err == nil {
			err = out.room()
		}
		if e != nil || err != nil {
			break
		}
	}
	if err == nil {
		idle := make(chan struct{}, 1)
		x.mu.Lock()
		waiting := x.pending > 0
		x.idle = func() { idle <- struct{}{} } // once: nothing is sent any more
		x.mu.Unlock()
		if waiting {
			<-idle
		}
	}
	if e := out.end(); err == nil {
		err = e
	}
	x.Close()
	return err
}
