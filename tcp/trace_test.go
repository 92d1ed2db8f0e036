package tcp

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
	"github.com/tapstack/tapstack/internal/seq"
	"github.com/tapstack/tapstack/tcp/cc"
)

// This file is a small interpreter of packetdrill-like scripts. Each line is
// one step, in virtual time:
//
//	config rcvbuf=65535 mss=1460 iss=0 peer=0 cc=reno   before anything else
//	connect | listen                            active or passive open
//	fastopen [text] [mss N] [FO cookie]         of the connection just made, or of those to come
//	< S 0:0(0) win 65535 <mss 1460>             a segment arrives
//	< [ce] . 1:1001(1000) ack 1                 with this ECN field: noecn, ect1, ect0, ce
//	> S. 0:0(0) ack 1 win 65535 <mss 1460>      exactly this segment leaves
//	+200ms                                      time passes; nothing may leave before its end
//	write 1000 [= 500|ERRNO]   read 1000 [= 500|EOF|ERRNO]
//	shutdown | shutread | close | abort | nodelay
//	mtu 1000 at 1     pathmtu 1400              a router says so about what began there; the path is believed to
//	state FIN-WAIT-1   err ECONNRESET   drop paws   info Retransmits 3
//	knob ..., more ..., urge ..., peek ..., oob ..., mark ...: see knobs_test.go
//	trace                                       log the connection's trace from here on
//
// Numbers are relative to the sender's ISS. Windows in segments are as on the
// wire. In an expected segment win, options and the ECN field are compared only
// if given, and a digit among the flags is the ACE field. A line that is not ">"
// fails if something left that no line expected.
type trace struct {
	t     *testing.T
	line  string
	cfg   Config
	peer  seq.Num
	now   mono.Time
	c     *Conn
	req   *SynRequest
	tw    *TimeWaitRecord
	lis   bool
	fast  *FastOpenOption // listening: for the SYN-ACK
	drop  Drop
	out   []outSeg
	wrote int // by us
	limit int
	nap   bool // sleep whenever that is possible
}

type outSeg struct {
	at  mono.Time
	seg Segment
}

// pattern is byte i of either stream.
func pattern(i int) byte { return byte(i*7 + i>>8*13 + i>>16) }

func run(t *testing.T, script string) *trace {
	t.Helper()
	awake := newTrace(t)
	awake.nap = false
	awake.play(script)
	tr := newTrace(t)
	tr.play(script)
	return tr
}

func newTrace(t *testing.T) *trace {
	start := mono.Time(10 * time.Second)
	tr := &trace{t: t, now: start, limit: 0, nap: true}
	tr.cfg = Config{LocalPort: 1, RemotePort: 2, MSS: 1460, RcvBuf: 65535, SndBuf: 1 << 20, IPHeader: 20,
		RcvInit: maxWindow, SndInit: maxWindow, // no automatic growth
		TSOffset: 100 - tsNow(start, 0), Totals: &scriptTotals,
		NewController: cc.NewReno} // whose sums can be done in the head
	return tr
}

// play goes on with a script.
func (tr *trace) play(script string) {
	tr.t.Helper()
	for _, l := range strings.Split(script, "\n") {
		if i := strings.Index(l, "//"); i >= 0 {
			l = l[:i]
		}
		if l = strings.TrimSpace(l); l == "" {
			continue
		}
		tr.line = l
		switch strings.Fields(l)[0] {
		case ">", "state", "err", "drop", "window", "info", "mark", "inq", "urgent", "readable", "writable", "freed", "get": // these only look
		default:
			tr.quiet()
		}
		tr.step(strings.Fields(l))
		tr.check()
		if tr.t.Failed() {
			tr.t.FailNow()
		}
	}
	tr.line = "end of script"
	tr.quiet()
}

func (tr *trace) fail(f string, a ...any) {
	tr.t.Helper()
	tr.t.Fatalf("%q: %s", tr.line, fmt.Sprintf(f, a...))
}

// quiet fails if something left that was not expected.
func (tr *trace) quiet() {
	if len(tr.out) > 0 {
		tr.fail("unexpected before this line: > %s", tr.show(&tr.out[0].seg))
	}
}

func (tr *trace) show(s *Segment) string {
	x := *s
	x.Seq = x.Seq - tr.cfg.ISS
	if x.Flags&FlagACK != 0 {
		x.Ack = x.Ack - tr.peer
	}
	for i := range x.Options.SACK[:x.Options.NumSACK] {
		x.Options.SACK[i].Left -= tr.peer
		x.Options.SACK[i].Right -= tr.peer
	}
	return x.String()
}

func (tr *trace) flush() {
	for {
		var o outSeg
		o.at = tr.now
		ok := false
		switch {
		case tr.tw != nil:
			ok = tr.tw.Output(tr.now, &o.seg)
		case tr.c != nil:
			ok = tr.c.Output(tr.now, &o.seg, tr.limit)
		case tr.req != nil:
			ok = tr.req.Output(tr.now, &o.seg)
		}
		if !ok {
			return
		}
		data := append(append([]byte{}, o.seg.Payload[0]...), o.seg.Payload[1]...)
		o.seg.Payload = [2][]byte{data, nil}
		for i, b := range data {
			p := o.seg.Seq.Sub(tr.cfg.ISS) - 1 + i
			if o.seg.Flags&FlagSYN != 0 {
				p++
			}
			if b != pattern(p) {
				tr.fail("wrong byte at %d of segment %s", i, tr.show(&o.seg))
			}
		}
		tr.out = append(tr.out, o)
	}
}

func (tr *trace) deadline() mono.Time {
	switch {
	case tr.tw != nil:
		return tr.tw.Deadline()
	case tr.c != nil:
		return tr.c.Deadline()
	case tr.req != nil:
		return tr.req.Deadline()
	}
	return 0
}

func (tr *trace) advance(d time.Duration) {
	end := tr.now.Add(d)
	// The round trip is part of a time-out: forgive a hundredth.
	slack := min(d/100, 10*time.Millisecond)
	for {
		next := tr.deadline()
		if next == 0 || next.Sub(end) > slack {
			break
		}
		if next > end {
			end, slack = next, 0
		}
		tr.now = max(tr.now, next)
		switch {
		case tr.tw != nil:
			if tr.tw.Expire(tr.now) == VerdictRemove {
				tr.tw = nil
			}
		case tr.c != nil:
			tr.c.Expire(tr.now)
		case tr.req != nil:
			if tr.req.Expire(tr.now) == VerdictRemove {
				tr.req = nil
			}
		}
		tr.flush()
		if len(tr.out) > 0 && tr.now < end {
			tr.fail("%v too early: > %s", end.Sub(tr.now), tr.show(&tr.out[0].seg))
		}
		if tr.deadline() == next {
			tr.fail("deadline %v stays after Expire", next)
		}
	}
	tr.now = end
}

func (tr *trace) check() {
	if tr.c != nil && tr.nap {
		tr.c.Trim(tr.now) // which is to change nothing
	}
	if tr.c != nil {
		if err := tr.c.invariants(); err != nil {
			tr.fail("%v", err)
		}
	}
}

func (tr *trace) step(f []string) {
	tr.t.Helper()
	arg := func(i int) string {
		if i < len(f) {
			return f[i]
		}
		return ""
	}
	switch {
	case f[0] == "config":
		for _, kv := range f[1:] {
			k, v, _ := strings.Cut(kv, "=")
			if k == "ecn" {
				var err error
				if tr.cfg.ECN, err = ParseECN(v); err != nil {
					tr.fail("%v", err)
				}
				continue
			}
			if k == "cc" {
				var ok bool
				if tr.cfg.NewController, ok = cc.ByName(v); !ok {
					tr.fail("no such controller")
				}
				continue
			}
			n, err := strconv.Atoi(v)
			if err != nil {
				tr.fail("%v", err)
			}
			switch k {
			case "rcvbuf":
				tr.cfg.RcvBuf = n
			case "sndbuf":
				tr.cfg.SndBuf = n
			case "rcvinit":
				tr.cfg.RcvInit = n
			case "sndinit":
				tr.cfg.SndInit = n
			case "mss":
				tr.cfg.MSS = n
			case "iss":
				tr.cfg.ISS = seq.Num(n)
			case "peer":
				tr.peer = seq.Num(n)
			case "limit":
				tr.limit = n
			case "ipheader":
				tr.cfg.IPHeader = n
			case "retries":
				tr.cfg.Retries = n
			case "maxseg":
				if err := tr.cfg.Knobs.Set(KnobMaxSeg, n); err != nil {
					tr.fail("%v", err)
				}
			case "mtuprobing": // Linux's numbers
				tr.cfg.MTUProbing = [...]MTUProbing{MTUProbeOff, MTUProbeBlackHole, MTUProbeAlways}[n]
			default:
				tr.fail("no such option")
			}
		}
	case f[0] == "connect":
		tr.c = NewActive(&tr.cfg, tr.now)
		if arg(1) != "fast" { // "fastopen" follows
			tr.flush()
		}
	case f[0] == "listen":
		tr.lis = true
	case f[0] == "fastopen":
		var o FastOpenOffer
		for i := 1; i < len(f); i++ {
			switch f[i] {
			case "text":
				o.Text = true
			case "mss":
				i++
				o.PeerMSS, _ = strconv.Atoi(arg(i))
			default:
				tr.parseFastOpen(&o.Option, strings.Join(f[i:], " "))
				i = len(f)
			}
		}
		if tr.lis {
			tr.fast = &o.Option
			break
		}
		tr.c.FastOpen(o)
		tr.flush()
	case f[0] == "send": // the SYN without text
		if !tr.c.Connect() {
			tr.fail("no SYN waits")
		}
		tr.flush()
	case f[0] == "<":
		tr.input(tr.parse(f[1:], true))
	case f[0] == ">":
		tr.expect(tr.parse(f[1:], false))
	case f[0][0] == '+':
		d, err := time.ParseDuration(f[0][1:])
		if err != nil {
			tr.fail("%v", err)
		}
		tr.advance(d)
		if len(f) > 1 {
			tr.line = strings.Join(f[1:], " ")
			tr.step(f[1:])
		}
	case f[0] == "write":
		n, _ := strconv.Atoi(arg(1))
		b := make([]byte, n)
		for i := range b {
			b[i] = pattern(tr.wrote + i)
		}
		n, err := tr.c.Write(b)
		tr.wrote += n
		tr.result(n, err, len(b), arg(3))
		tr.flush()
	case f[0] == "read":
		n, _ := strconv.Atoi(arg(1))
		b := make([]byte, n)
		at := tr.readAt()
		n, err := tr.c.Read(b)
		tr.same(at, b[:n])
		tr.result(n, err, len(b), arg(3))
		tr.flush()
	case f[0] == "shutdown":
		if err := tr.c.CloseWrite(tr.now); err != nil {
			tr.fail("%v", err)
		}
		tr.flush()
	case f[0] == "shutread":
		tr.c.CloseRead()
	case f[0] == "close":
		tr.c.Close(tr.now)
		tr.flush()
	case f[0] == "abort":
		tr.c.Abort(tr.now)
		tr.flush()
	case f[0] == "nodelay":
		tr.c.SetNoDelay(true)
		tr.flush()
	case f[0] == "mtu":
		mtu, _ := strconv.Atoi(arg(1))
		at, _ := strconv.Atoi(arg(3))
		tr.c.TooBig(tr.now, tr.cfg.ISS.Add(at), mtu)
		tr.flush()
	case f[0] == "pathmtu":
		mtu, _ := strconv.Atoi(arg(1))
		tr.c.SetPathMTU(mtu)
		tr.flush()
	case f[0] == "trace":
		tr.c.SetTrace(tr.now, func(e *TraceEvent) {
			tr.t.Logf("%v %-10s %s>%s %s %d:%d %v %+v", time.Duration(e.Time), e.Kind, e.From, e.To, e.Reason, e.Seq, e.End, e.RTT, e.Metrics)
		}, false)
	case f[0] == "soft":
		tr.c.SoftError(syscall.EHOSTUNREACH)
	case f[0] == "timewait":
		if tr.tw = tr.c.TimeWait(tr.now); tr.tw == nil {
			tr.fail("no record in %v", tr.c.State())
		}
	case f[0] == "state":
		if got := tr.state(); got != arg(1) {
			tr.fail("state is %s", got)
		}
	case f[0] == "err":
		if got := errName(tr.c.Err()); got != arg(1) {
			tr.fail("error is %s", got)
		}
	case f[0] == "drop":
		if tr.drop.String() != arg(1) {
			tr.fail("drop is %s", tr.drop)
		}
	case f[0] == "window": // bytes of the peer's window as the core sees it
		if n := strconv.Itoa(tr.c.Info().SndWnd); n != arg(1) {
			tr.fail("window is %s", n)
		}
	case f[0] == "info": // a field of Info
		v := reflect.ValueOf(tr.c.Info()).FieldByName(arg(1))
		if !v.IsValid() {
			tr.fail("no such field")
		}
		if got := fmt.Sprint(v.Interface()); got != strings.Join(f[2:], " ") {
			tr.fail("it is %s", got)
		}
	default:
		tr.userStep(f, arg)
	}
}

func (tr *trace) state() string {
	switch {
	case tr.tw != nil:
		return "TIME-WAIT"
	case tr.c != nil:
		return tr.c.State().String()
	case tr.req != nil:
		return "SYN-RECEIVED"
	case tr.lis:
		return "LISTEN"
	}
	return "CLOSED"
}

func errName(err error) string {
	if err == nil {
		return "none"
	}
	if err == io.EOF {
		return "EOF"
	}
	var no syscall.Errno
	errors.As(err, &no)
	for e, n := range map[syscall.Errno]string{syscall.EAGAIN: "EAGAIN", syscall.EPIPE: "EPIPE", syscall.ECONNRESET: "ECONNRESET",
		syscall.ECONNREFUSED: "ECONNREFUSED", syscall.ETIMEDOUT: "ETIMEDOUT", syscall.EHOSTUNREACH: "EHOSTUNREACH",
		syscall.ENOTCONN: "ENOTCONN", syscall.EINPROGRESS: "EINPROGRESS", syscall.ECONNABORTED: "ECONNABORTED",
		syscall.EINVAL: "EINVAL", syscall.ENOPROTOOPT: "ENOPROTOOPT"} {
		if e == no {
			return n
		}
	}
	return err.Error()
}

func (tr *trace) result(n int, err error, want int, say string) {
	tr.t.Helper()
	got := strconv.Itoa(n)
	if err != nil {
		got = errName(err)
	}
	if say == "" {
		say = strconv.Itoa(want)
	}
	if got != say {
		tr.fail("result is %s", got)
	}
}

// input gives s to whatever stands for the connection.
func (tr *trace) input(s *Segment, _ map[string]bool) {
	verdict := func(v Verdict) {
		switch v {
		case VerdictReset, VerdictRefuse:
			if v == VerdictRefuse {
				tr.req = nil
			}
			var r Segment
			if ResetFor(s, &r) {
				tr.out = append(tr.out, outSeg{tr.now, r})
			}
		case VerdictRemove:
			tr.req, tr.tw = nil, nil
		case VerdictReuse:
			tr.tw, tr.c = nil, nil
			tr.lis = true
			tr.cfg.ISS = tr.cfg.ISS.Add(1 << 20)
			tr.req = NewSynRequest(&tr.cfg, tr.now, s)
		case VerdictEstablish:
			tr.c = tr.req.Conn(&tr.cfg, tr.now)
			tr.req = nil
			_, tr.drop = tr.c.Input(tr.now, s)
		}
	}
	var v Verdict
	switch {
	case tr.tw != nil:
		v, tr.drop = tr.tw.Input(tr.now, s)
		verdict(v)
	case tr.c != nil:
		var ev Events
		ev, tr.drop = tr.c.Input(tr.now, s)
		n := len(tr.out)
		tr.flush()
		if len(tr.out) > n && ev&EvOutput == 0 {
			tr.fail("output without EvOutput: > %s", tr.show(&tr.out[n].seg))
		}
	case tr.req != nil:
		v, tr.drop = tr.req.Input(tr.now, s)
		verdict(v)
	case tr.lis && s.Flags&^ecnBits == FlagSYN && tr.fast != nil:
		tr.c = NewFastOpen(&tr.cfg, tr.now, s, *tr.fast)
	case tr.lis && s.Flags&^ecnBits == FlagSYN:
		tr.req = NewSynRequest(&tr.cfg, tr.now, s)
	default:
		verdict(VerdictReset)
	}
	tr.flush()
}

// expect compares the next segment that left.
func (tr *trace) expect(want *Segment, given map[string]bool) {
	tr.t.Helper()
	if len(tr.out) == 0 {
		tr.fail("nothing left; state %s, deadline in %v", tr.state(), tr.deadline().Sub(tr.now))
	}
	s := tr.out[0].seg
	tr.out = tr.out[1:]
	ok := s.Flags == want.Flags && s.Seq == want.Seq && s.PayloadLen() == want.PayloadLen() &&
		(s.Flags&FlagACK == 0 || s.Ack == want.Ack) &&
		(!given["win"] || s.Window == want.Window) && s.Urgent == want.Urgent &&
		(!given["ecn"] || s.ECN == want.ECN) &&
		(!given["opt"] || s.Options == want.Options)
	if !ok {
		tr.fail("got > [%s] %s", ecnFields[s.ECN], tr.show(&s))
	}
}

// ecnFields are packetdrill's names of the codepoints.
var ecnFields = [...]string{"noecn", "ect1", "ect0", "ce"}

// parse reads "[ect0] P. 1:1001(1000) ack 1 win 100 <options>".
func (tr *trace) parse(f []string, in bool) (*Segment, map[string]bool) {
	s := &Segment{SrcPort: 2, DstPort: 1}
	given := map[string]bool{}
	mine, theirs := tr.peer, tr.cfg.ISS
	if !in {
		mine, theirs = theirs, mine
	}
	if f[0][0] == '[' {
		i := slices.Index(ecnFields[:], strings.Trim(f[0], "[]"))
		if i < 0 {
			tr.fail("no ECN field %s", f[0])
		}
		s.ECN = Codepoint(i)
		given["ecn"] = true
		f = f[1:]
	}
	for _, r := range f[0] {
		if '0' <= r && r <= '7' {
			s.Flags |= aceFlags(uint8(r - '0'))
		}
		if i := strings.IndexRune(flagChars, r); i >= 0 {
			s.Flags |= 1 << i
		}
	}
	var a, b, n int
	if _, err := fmt.Sscanf(f[1], "%d:%d(%d)", &a, &b, &n); err != nil || b-a != n {
		tr.fail("bad numbers %s", f[1])
	}
	s.Seq = mine.Add(a)
	data := make([]byte, n)
	for i := range data {
		data[i] = pattern(a - 1 + i)
		if s.Flags&FlagSYN != 0 {
			data[i] = pattern(a + i)
		}
	}
	s.Payload[0] = data
	s.Window = 65535
	for i := 2; i < len(f); i++ {
		num := func() int {
			i++
			n, err := strconv.Atoi(f[i])
			if err != nil {
				tr.fail("%v", err)
			}
			return n
		}
		switch {
		case f[i] == "ack":
			s.Ack = theirs.Add(num())
		case f[i] == "win":
			s.Window = uint16(num())
			given["win"] = true
		case f[i] == "urg":
			s.Urgent = uint16(num())
		case f[i] == "segs":
			s.Segs = num()
		case f[i][0] == '<':
			given["opt"] = true
			tr.parseOptions(&s.Options, strings.Trim(strings.Join(f[i:], " "), "<>"), theirs)
			i = len(f)
		default:
			tr.fail("what is %q?", f[i])
		}
	}
	return s, given
}

func (tr *trace) parseOptions(o *Options, text string, theirs seq.Num) {
	for _, item := range strings.Split(text, ",") {
		var l, r int
		switch {
		case item == "sackOK":
			o.SACKPermitted = true
		case item == "nop" || item == "":
		case scan(item, "mss %d", &o.MSS), scan(item, "uto %d", &o.UserTimeout):
		case scan(item, "wscale %d", &o.WScale):
			o.HasWScale = true
		case scan(item, "TS val %d ecr %d", &o.TSVal, &o.TSEcr):
			o.HasTS = true
		case strings.HasPrefix(item, "ECN"):
			tr.parseAccECN(&o.AccECN, strings.Fields(item)[1:])
		case strings.HasPrefix(item, "FO"):
			tr.parseFastOpen(&o.FastOpen, item)
		case strings.HasPrefix(item, "sack "):
			for _, b := range strings.Fields(item)[1:] {
				if !scan(b, "%d:%d", &l, &r) {
					tr.fail("bad block %q", b)
				}
				o.SACK[o.NumSACK] = SACKBlock{theirs.Add(l), theirs.Add(r)}
				o.NumSACK++
			}
		default:
			tr.fail("bad option %q", item)
		}
	}
}

// parseAccECN reads the fields of "ECN e0b 1 ceb 0 e1b 1".
func (tr *trace) parseAccECN(o *AccECN, f []string) {
	*o = AccECN{Present: true, ECT1: len(f) > 0 && strings.HasPrefix(f[0], "e1"), Fields: int8(len(f) / 2)}
	for i := range o.Fields {
		n, err := strconv.Atoi(f[2*i+1])
		if err != nil {
			tr.fail("%v", err)
		}
		o.Bytes[i] = uint32(n)
	}
}

func (tr *trace) parseFastOpen(o *FastOpenOption, item string) {
	name, cookie, _ := strings.Cut(item, " ")
	b, err := hex.DecodeString(cookie)
	if err != nil || len(b) > maxCookie || name != "FO" && name != "FOEXP" {
		tr.fail("bad option %q", item)
	}
	*o = FastOpenOption{Present: true, Exp: name == "FOEXP", Len: uint8(len(b))}
	copy(o.Cookie[:], b)
}

func scan(s, format string, a ...any) bool {
	n, err := fmt.Sscanf(s, format, a...)
	return err == nil && n == len(a)
}
