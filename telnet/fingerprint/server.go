package fingerprint

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/option"
)

// This file owns the probing of servers: what they say before and after a
// Return, what they ask for and offer, and what they do when they are asked for
// what only a client has.

// Scan is how a server is probed. Host and Port must be there.
type Scan struct {
	Host string
	Port int
	Dial func(ctx context.Context, network, address string) (net.Conn, error) // nil: that of net.Dialer
	TLS  *tls.Config
	// Timeout is for the connection; 0: none.
	Timeout time.Duration
	// Full asks for options of the past as well.
	Full bool
	// Term, Charset and Env are what the server is told. Charset is also that of
	// what it says: UTF-8 in files if empty or ASCII.
	Term, Charset string
	Env           []option.Var
	Enable        []telnet.Ask // at once
	// Quiet is how long the server must say nothing for a banner to be over, 2 s
	// if zero; Most bounds the wait, 8 s if zero; MaxBanner the bytes, 64 KiB.
	Quiet, Most time.Duration
	MaxBanner   int
	// MSSPWait is how long after the connection what a game tells of itself is
	// waited for: 5 s if zero.
	MSSPWait time.Duration
	// Wait is how long answers to questions are waited for: 500 ms if zero.
	Wait time.Duration
	// Trace, if not nil, is told what passes: see telnet.Config.
	Trace func(c *telnet.Conn, sent bool, cmd engine.Command, code engine.Code, content []byte)
}

// heard is what a server said beside text.
type heard struct {
	environ []any
	mssp    option.MSSPVars
	other   map[engine.Code][]any
}

// defaultMost is how long a banner may take.
const defaultMost = 8 * time.Second

// maxHeard bounds what is kept of each kind of it.
const maxHeard = 64

// Run probes the server. Errors: those of connecting; a server that breaks off
// later shows something, too.
func (s *Scan) Run(ctx context.Context) (*Record, error) {
	wait := s.orWait(s.Wait, answerWait)
	h := &heard{other: map[engine.Code][]any{}}
	dialling := ctx
	if s.Timeout > 0 {
		var cancel context.CancelFunc
		dialling, cancel = context.WithTimeout(ctx, s.Timeout)
		defer cancel()
	}
	d := telnet.Dialer{Config: s.config(h), Dial: s.Dial, TLS: s.TLS}
	c, err := d.DialContext(dialling, "tcp", net.JoinHostPort(s.Host, strconv.Itoa(s.Port)))
	if err != nil {
		// A dialer may notice before the context does.
		if t, ok := errors.AsType[net.Error](err); ok && t.Timeout() && s.Timeout > 0 {
			err = fmt.Errorf("%s port %d: no connection within %v", s.Host, s.Port, s.Timeout)
		}
		return nil, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	start := time.Now()
	// Twice a banner, and questions: a server that takes nothing is not waited for
	// longer.
	c.SetWriteDeadline(start.Add(2*s.orWait(s.Most, defaultMost) + 8*wait))
	settle(ctx, c, wait, func(*engine.Engine) bool { return false }) // the end shows in the reads below
	v := &visit{s: s, c: c}
	before := v.banner()
	io.WriteString(c, answerTo(before))
	after := v.banner()
	session := object{}
	c.View(func(e *engine.Engine) {
		session["option_states"] = object{"server_offered": states(e, engine.Him), "server_requested": states(e, engine.Us)}
	})
	probing := time.Now()
	found, wrong, looped := results{}, []string{}, []string{}
	if !v.over {
		found, wrong, looped = s.probe(ctx, c, wait)
	}
	took := time.Since(probing)
	if left := s.orWait(s.MSSPWait, 5*time.Second) - time.Since(start); left > 0 && c.On(engine.Him, engine.MSSP) {
		settle(ctx, c, left, func(*engine.Engine) bool { return h.mssp != nil })
	}
	return s.record(c, h, session, found, wrong, looped, string(before), string(after), took, time.Since(start)), ctx.Err()
}

func (s *Scan) orWait(d, def time.Duration) time.Duration {
	if d <= 0 {
		return def
	}
	return d
}

// config is of a client that agrees to all that it can only listen to.
func (s *Scan) config(h *heard) *telnet.Config {
	cc := option.ClientConfig{Terms: []string{s.Term}, Size: option.Size{Cols: 80, Rows: 25}, Speed: option.Speed{Tx: 38400, Rx: 38400}, Env: s.Env,
		KnownCharset: telnet.KnownCharset, MSDP: true, MSSP: true, GMCP: option.NewGMCP()}
	if s.Term == "" {
		cc.Terms = []string{"VT100"}
	}
	if s.Charset != "" {
		cc.Charsets = []string{s.Charset}
	}
	always := func(side engine.Side, code engine.Code, allowed bool) bool {
		return allowed || slices.Contains(s.Enable, telnet.Ask{Side: side, Code: code})
	}
	return &telnet.Config{Client: cc, Enable: s.Enable, Accept: always, NeverGA: true,
		Extra: func() (o []engine.Option) {
			for _, code := range []engine.Code{engine.MSP, engine.MXP, engine.ZMP, engine.Aardwolf, engine.ATCP} {
				o = append(o, option.NewMessage(code, false, true))
			}
			return o
		},
		Event: func(_ *telnet.Conn, ev engine.Event) { h.event(ev) },
		Trace: func(c *telnet.Conn, sent bool, cmd engine.Command, code engine.Code, content []byte) {
			if s.Trace != nil {
				s.Trace(c, sent, cmd, code, content)
			}
			if !sent && cmd == engine.SB && code == engine.NewEnviron && len(content) > 0 && content[0] == 1 {
				h.environ = append(h.environ, requested(content[1:], maxHeard-len(h.environ))...)
			}
		}}
}

// event is told by the goroutine that reads, which is Run's.
func (h *heard) event(ev engine.Event) {
	if ev.Kind != engine.Subneg || len(h.other[ev.Code]) >= maxHeard {
		return
	}
	var one any
	switch v := ev.Value.(type) {
	case option.MSSPVars:
		h.mssp = v
		return
	case []byte:
		name, value, _ := strings.Cut(string(v), " ")
		switch ev.Code {
		case engine.ATCP:
			one = object{"package": clip(name), "value": clip(value)}
		case engine.ZMP:
			var list []string
			for _, part := range strings.SplitN(strings.TrimSuffix(string(v), "\x00"), "\x00", maxHeard) {
				list = append(list, clip(part))
			}
			one = list
		case engine.Aardwolf:
			one = fmt.Sprintf("%x", clip(string(v)))
		}
	}
	if one != nil {
		h.other[ev.Code] = append(h.other[ev.Code], one)
	}
}

// requested reads a request for variables (RFC 1572): of each its kind and name,
// "*" for all.
func requested(b []byte, most int) (list []any) {
	if len(b) == 0 {
		b = []byte{0, 3}
	}
	for i := 0; i < len(b) && len(list) < most; {
		kind, name := b[i], []byte(nil)
		for i++; i < len(b) && b[i] != 0 && b[i] != 3; i++ {
			if b[i] == 2 && i+1 < len(b) { // ESC
				i++
			}
			name = append(name, b[i])
		}
		entry := object{"type": map[bool]string{true: "USERVAR", false: "VAR"}[kind == 3], "name": clip(string(name))}
		if len(name) == 0 {
			entry["name"] = "*"
		}
		list = append(list, entry)
	}
	return list
}

// probe asks for everything, then for what a server does not have, then looks
// for repetitions. A session that ends leaves the rest unanswered.
func (s *Scan) probe(ctx context.Context, c *telnet.Conn, wait time.Duration) (found results, wrong, looped []string) {
	codes := slices.Concat(core, serial, games)
	if s.Full {
		codes = append(codes, legacy...)
	}
	codes = slices.DeleteFunc(codes, func(code engine.Code) bool { return slices.Contains(clientOnly, code) })
	found, err := ask(ctx, c, codes, wait)
	wrong, looped = []string{}, []string{}
	if err != nil {
		return found, wrong, looped
	}
	misdirected := map[engine.Side][]engine.Code{engine.Him: {engine.NAWS, engine.TType}, engine.Us: {engine.Echo}}
	turn := func(f func(*engine.Engine, engine.Side, engine.Code)) error {
		return c.Update(func(e *engine.Engine) {
			for side, list := range misdirected {
				for _, code := range list {
					f(e, side, code)
				}
			}
		})
	}
	if turn((*engine.Engine).Enable) == nil && mark(ctx, c, wait) == nil {
		if l, err := loops(ctx, c, wait); err == nil {
			looped = l
		}
	}
	c.View(func(e *engine.Engine) {
		wrong = collect(func(code engine.Code) bool {
			return code == engine.Echo && (e.On(engine.Us, code) || e.Declined(engine.Us, code)) ||
				slices.Contains(clientOnly, code) && (e.On(engine.Him, code) || e.Declined(engine.Him, code))
		})
	})
	turn((*engine.Engine).Disable)
	return found, wrong, looped
}

func (s *Scan) record(c *telnet.Conn, h *heard, session object, found results, wrong, looped []string, before, after string, took, total time.Duration) *Record {
	kind := "quick"
	if s.Full {
		kind = "full"
	}
	data := object{"probed-protocol": "server", "scan-type": kind, "offered-options": found.list(will), "refused-options": found.list(wont, timeout),
		"wrong-direction-offered": wrong, "looped-negotiation": looped}
	c.View(func(e *engine.Engine) {
		data["requested-options"] = collect(func(code engine.Code) bool { return e.On(engine.Us, code) })
	})
	if len(h.environ) > 0 {
		session["option_states"].(object)["environ_requested"] = h.environ
	}
	charset := s.Charset
	if charset == "" {
		charset = "ascii"
	}
	session["scan_type"], session["encoding"] = kind, charset
	session["banner_before_return"], session["banner_after_return"] = decode(before, charset), decode(after, charset)
	session["timing"] = object{"probe": took.Seconds(), "total": total.Seconds()}
	if h.mssp != nil {
		vars := object{}
		for name, list := range h.mssp {
			for n := range list {
				list[n] = clip(list[n])
			}
			if list = list[:min(len(list), maxHeard)]; len(list) == 1 {
				vars[clip(name)] = list[0]
			} else {
				vars[clip(name)] = list
			}
		}
		session["mssp"] = vars
	}
	for code, name := range map[engine.Code]string{engine.ZMP: "zmp", engine.ATCP: "atcp", engine.Aardwolf: "aardwolf"} {
		if list := h.other[code]; len(list) > 0 {
			session[name] = list
		}
	}
	ip, _, err := net.SplitHostPort(c.RemoteAddr().String())
	if err != nil {
		ip = c.RemoteAddr().String()
	}
	entry := object{"host": s.Host, "ip": ip, "port": s.Port, "connected": stamp(time.Now())}
	return newRecord("server", data, session, entry, object{"host": s.Host, "port": s.Port, "ip": ip})
}

// decode is a banner as text. ASCII is taken for UTF-8, which most are.
func decode(b, charset string) string {
	if option.SameCharset(charset, "ascii") || option.SameCharset(charset, "us-ascii") {
		return b
	}
	s, err := telnet.DecodeText(charset, b)
	if err != nil {
		return b
	}
	return s
}
