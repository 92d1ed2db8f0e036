package fingerprint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/option"
)

// This file owns the probing of clients.

// Variables are what a client is asked for: how it shows text, and which of the
// usual variables it is willing to tell at all. There are none among them that
// hold a secret, and none is asked for by a bare VAR or USERVAR, which would
// bring all there are. Of what a client tells beyond, nothing is kept.
var Variables = []string{"USER", "LOGNAME", "HOME", "SHELL", "DISPLAY", "LANG", "LC_ALL", "LC_CTYPE", "TERM", "TERM_PROGRAM", "COLORTERM",
	"COLUMNS", "LINES", "EDITOR", "IPADDRESS"}

// Shell is a telnet.Handler that probes a client, keeps what it finds, and shows
// it to the client or hands the session on.
type Shell struct {
	Store *Store // nil: nothing is kept
	// Post serves the session after that, with the file's path in the context:
	// File has it. nil, or if nothing was kept: the client is shown what is
	// known of it.
	Post telnet.Handler
	// Wait is how long the answers to a question are waited for: 500 ms if zero.
	Wait time.Duration
	// IdleTimeout is the server's, for the files.
	IdleTimeout time.Duration
	Logger      *slog.Logger // nil: slog.Default
}

// fileKey is of a context's file.
type fileKey struct{}

// File is the path of the file that was written for the session served with
// ctx, "" if there is none.
func File(ctx context.Context) string {
	s, _ := ctx.Value(fileKey{}).(string)
	return s
}

// Extra are options that the probe uses beside the usual ones: for Config.Extra.
func Extra() []engine.Option { return []engine.Option{option.NewComPort(false, true)} }

// ServeTELNET implements telnet.Handler.
func (x *Shell) ServeTELNET(ctx context.Context, c *telnet.Conn) {
	log := x.Logger
	if log == nil {
		log = slog.Default()
	}
	log = log.With("peer", c.RemoteAddr().String())
	r, err := x.Probe(ctx, c)
	if err != nil { // what is known is kept: who breaks off shows something, too
		log.Info("telnet: fingerprint broken off", "err", err)
	}
	file := ""
	if x.Store != nil {
		var saveErr error
		if file, saveErr = x.Store.Save(r); saveErr != nil {
			log.Warn("telnet: fingerprint not kept", "fingerprint", r.Hash, "err", saveErr)
		}
	}
	log.Info("telnet: fingerprint", "fingerprint", r.Hash, "file", file)
	switch {
	case err != nil:
	case x.Post != nil && file != "":
		x.Post.ServeTELNET(context.WithValue(ctx, fileKey{}, file), c)
	default:
		text := c.Text()
		text.WriteString(string(r.JSON()) + "\n")
	}
}

// Probe asks the client for all there is. The Record is never nil; the error is
// that of a session that broke off.
func (x *Shell) Probe(ctx context.Context, c *telnet.Conn) (*Record, error) {
	wait := x.Wait
	if wait <= 0 {
		wait = answerWait
	}
	start := time.Now()
	i := c.Info()
	codes := slices.Concat(core, serial)
	microsoft := isMicrosoft(i.Types)
	if !microsoft {
		codes = append(codes, legacy...)
	}
	found, err := ask(ctx, c, codes, wait)
	if err == nil && isGameClient(i.Types) {
		var more results
		more, err = ask(ctx, c, games, wait)
		for code, s := range more {
			found[code] = s
		}
	}
	if err == nil && (found[engine.Linemode] == will || found[engine.ComPort] == will) {
		c.Update(func(e *engine.Engine) {
			if o, ok := e.Option(engine.ComPort).(*option.ComPort); ok && e.On(engine.Him, engine.ComPort) {
				o.AskSignature(e)
			}
		})
		err = mark(ctx, c, wait) // the characters of LINEMODE, the signature
	}
	var looped []string
	if err == nil && !microsoft {
		looped, err = loops(ctx, c, wait)
	}
	r := x.record(c, found, looped, time.Since(start))
	// What was asked for only to know is off again: two that echo would not
	// stop, and LINEMODE is not for a program behind the session.
	offErr := c.Update(func(e *engine.Engine) {
		for code := range found {
			if slices.Contains([]engine.Code{engine.Echo, engine.Linemode, engine.ComPort}, code) || slices.Contains(legacy, code) {
				e.Disable(engine.Him, code)
			}
		}
	})
	return r, errors.Join(err, offErr)
}

// record puts together what is known.
func (x *Shell) record(c *telnet.Conn, found results, looped []string, took time.Duration) *Record {
	i := c.Info()
	host, _, err := net.SplitHostPort(c.RemoteAddr().String())
	if err != nil {
		host = c.RemoteAddr().String()
	}
	env := object{}
	for _, v := range i.Env {
		if name := strings.ToUpper(v.Name); slices.Contains(Variables, name) && !v.User {
			env[name] = clip(v.Value)
		}
	}
	types := make([]string, len(i.Types))
	for n, t := range i.Types {
		types[n] = clip(t)
	}
	data := object{"probed-protocol": "client", "TERM": termKind(i.Term), "encoding": encodingOf(text(env, "LANG")), "charset": "None",
		"ttype-count": len(types), "supported-options": found.list(will), "refused-options": found.list(wont, timeout)}
	for _, name := range []string{"HOME", "USER", "SHELL", "IPADDRESS"} {
		if v, ok := env[name]; ok {
			data[name] = map[bool]string{true: "None", false: "True"}[v == ""]
		}
	}
	extra := object{}
	for name, v := range env {
		if v != "" {
			extra[name] = v
		}
	}
	if i.Term != "" {
		extra["TERM"] = clip(i.Term)
	}
	if extra["COLUMNS"] == nil {
		extra["cols"] = i.Size.Cols
	}
	if extra["LINES"] == nil {
		extra["rows"] = i.Size.Rows
	}
	if i.Speed != (option.Speed{}) {
		extra["tspeed"] = fmt.Sprintf("%d,%d", i.Speed.Tx, i.Speed.Rx) // as on the wire
	}
	if i.Display != "" {
		extra["xdisploc"] = clip(i.Display)
	}
	if x.IdleTimeout > 0 {
		extra["timeout"] = x.IdleTimeout.Seconds()
	}
	session := object{"extra": extra, "ttype_cycle": types, "probe": found.byStatus()}
	c.View(func(e *engine.Engine) {
		if cs, ok := e.Option(engine.Charset).(*option.Charset); ok && cs.Name() != "" {
			data["charset"], extra["charset"] = clip(cs.Name()), clip(cs.Name())
		}
		session["option_states"] = object{"local": states(e, engine.Us), "remote": states(e, engine.Him)}
		rejected := object{}
		for side, verb := range map[engine.Side]string{engine.Him: "will", engine.Us: "do"} {
			if list := collect(func(code engine.Code) bool { return e.Declined(side, code) }); len(list) > 0 {
				data["rejected-"+verb], rejected[verb] = list, list
			}
		}
		if len(rejected) > 0 {
			session["rejected"] = rejected
		}
		wrong := collect(func(code engine.Code) bool {
			return e.Declined(engine.Us, code) && slices.Contains(clientOnly, code) || e.Declined(engine.Him, code) && code == engine.Echo
		})
		if len(wrong) > 0 {
			data["directional-refusals"] = wrong
		}
		if lm, ok := e.Option(engine.Linemode).(*option.Linemode); ok && found[engine.Linemode] == will {
			if t := characters(lm.Chars()); len(t) > 0 {
				data["slc"], session["slc_tab"] = t, t
			}
		}
		if o, ok := e.Option(engine.ComPort).(*option.ComPort); ok && o.PeerSignature() != "" {
			session["comport"] = object{"signature": clip(o.PeerSignature())}
		}
	})
	if len(looped) > 0 {
		data["looped-negotiation"] = looped
	}
	timing := object{"probe": took.Seconds()}
	if s, ok := c.Served(); ok {
		timing["duration"], timing["idle"] = time.Since(s.Since).Seconds(), s.Idle.Seconds()
	}
	session["timing"] = timing
	identity := object{"client-ip": host}
	for _, name := range []string{"TERM", "USER", "HOME", "SHELL", "LANG", "IPADDRESS", "charset"} {
		if v, ok := extra[name]; ok {
			identity[name] = v
		}
	}
	return newRecord("client", data, session, object{"ip": host, "connected": stamp(time.Now())}, identity)
}

func text(o object, name string) string {
	s, _ := o[name].(string)
	return s
}

// termKind is what a fingerprint has of the terminal's type: whether there is
// one, and if it is one of a few that tell the program.
func termKind(term string) string {
	switch low := strings.ToLower(term); {
	case low == "":
		return "None"
	case low == "syncterm":
		return "Syncterm"
	case strings.Contains(low, "ansi"):
		return "Yes-ansi"
	}
	return "Yes"
}

// encodingOf is the character set of a locale's name.
func encodingOf(lang string) string {
	_, set, ok := strings.Cut(lang, ".")
	if set, _, _ = strings.Cut(set, "@"); !ok || set == "" {
		return "None"
	}
	return set
}

// characters are those of LINEMODE that are not what everybody begins with.
func characters(t option.Table) object {
	set, unset, none, first := object{}, []string{}, []string{}, option.DefaultTable()
	for n := 1; n < len(t); n++ {
		fn := option.Function(n)
		switch {
		case t[fn] == first[fn]:
		case t[fn].Level() == option.NoSupport:
			none = append(none, fn.String())
		case t[fn].Value == 0:
			unset = append(unset, fn.String())
		default:
			set[fn.String()] = int(t[fn].Value)
		}
	}
	slices.Sort(unset)
	slices.Sort(none)
	o := object{}
	if len(set) > 0 {
		o["set"] = set
	}
	if len(unset) > 0 {
		o["unset"] = unset
	}
	if len(none) > 0 {
		o["nosupport"] = none
	}
	return o
}
