package telsh

import (
	"cmp"
	"fmt"
	"math"
	"net"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/option"
)

// This file owns the commands and what they print.

// run does what a line says. It reports whether the session is over.
func (x *session) run(line string) (over bool) {
	switch {
	case line == "":
	case line == "quit":
		x.text.WriteString("Goodbye.\n")
		return true
	case line == "help":
		x.text.WriteString("quit, writer, slc, toggle [option|all], reader, proto, dump")
	case line == "writer":
		x.text.WriteString(x.writer())
	case line == "reader":
		x.text.WriteString(x.reader())
	case line == "proto":
		host, port, err := net.SplitHostPort(x.c.RemoteAddr().String())
		if err != nil {
			host, port = x.c.RemoteAddr().String(), "0"
		}
		x.text.WriteString("<Peer " + host + " " + port + ">")
	case line == "version":
		x.text.WriteString(cmp.Or(x.shell.Version, buildVersion()))
	case line == "slc":
		x.text.WriteString(slc(x.chars()))
	case line == "linemode":
		x.text.WriteString(x.linemode())
	case strings.HasPrefix(line, "toggle"):
		x.toggle(strings.TrimPrefix(line[len("toggle"):], " "))
	case strings.HasPrefix(line, "dump"):
		return x.dump(strings.Fields(line)[1:])
	default:
		x.text.WriteString("no such command.")
	}
	return false
}

// buildVersion is the version that the Go toolchain has recorded.
func buildVersion() string {
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" {
		return b.Main.Version
	}
	return "(unknown)"
}

// writer is the state of what we send.
func (x *session) writer() string {
	i := x.c.Info()
	mode := "local"
	switch i.Mode {
	case telnet.ModeKludge:
		mode = "kludge"
	case telnet.ModeRemote:
		mode = "remote"
	}
	// The special characters are looked for in what is typed, as there is no
	// option that would do without.
	s := "<TelnetWriter server mode:" + mode + " " + sign(x.lflow) + "lineflow " + sign(x.xonAny) + "xon_any +slc_sim"
	for _, side := range []struct {
		name  string
		codes []engine.Code
	}{{"server", i.Local}, {"client", i.Remote}} {
		if len(side.codes) > 0 {
			names := make([]string, len(side.codes))
			for n, code := range side.codes {
				names[n] = code.String()
			}
			slices.Sort(names)
			s += " " + side.name + "-will:" + strings.Join(names, ",")
		}
	}
	return s + ">"
}

func sign(on bool) string {
	if on {
		return "+"
	}
	return "-"
}

// lineLimit is what the reader tells of how much it holds.
const lineLimit = 64 << 10

// reader is the state of what we receive. By RFC 856 text without BINARY is
// ASCII, and that is what it says then, though eight bits are taken as well.
func (x *session) reader() string {
	i := x.c.Info()
	name := "US-ASCII"
	if i.Binary[1] || x.shell.ForceBinary {
		if name = i.Charset; strings.EqualFold(name, "UTF-8") {
			name = "utf8"
		}
	}
	return fmt.Sprintf("<TelnetReaderUnicode encoding='%s' limit=%d buflen=%d eof=False>", name, lineLimit, x.text.Buffered())
}

// chars is the table of special characters of this connection.
func (x *session) chars() option.Table {
	t := option.DefaultTable()
	x.c.View(func(e *engine.Engine) {
		if lm, ok := e.Option(engine.Linemode).(*option.Linemode); ok {
			t = lm.Chars()
		}
	})
	return t
}

// slc shows a table of special characters.
func slc(t option.Table) string {
	var set, unset, none []string
	for fn, char := range t {
		name := option.Function(fn).String()
		switch {
		case fn == 0:
		case char.Level() == option.NoSupport:
			none = append(none, name)
		case char.Value == 0:
			unset = append(unset, name)
		default:
			set = append(set, fmt.Sprintf("%15s: (%s, %s)", name, keyName(char.Value), charFlags(char)))
		}
	}
	slices.Sort(set)
	slices.Sort(unset)
	slices.Sort(none)
	return "Special Line Characters:\n" + strings.Join(set, "\n") + "\nUnset by client: " + strings.Join(unset, ", ") +
		"\nNot supported by server: " + strings.Join(none, ", ")
}

// keyName shows a byte as a key: ^C, ^?, a, \xe9.
func keyName(b byte) string {
	switch {
	case b < ' ' || b == 0x7f:
		return "^" + string(rune(b^0x40))
	case b < 0x7f:
		return string(rune(b))
	}
	return fmt.Sprintf(`\x%02x`, b)
}

func charFlags(c option.Char) string {
	s := [...]string{"nosupport", "cantchange", "variable", "default"}[c.Level()]
	if c.Flags&option.SLCFlushIn != 0 {
		s += "|flushin"
	}
	if c.Flags&option.SLCFlushOut != 0 {
		s += "|flushout"
	}
	return s
}

// toggles are the names that toggle knows, in the order in which it shows them.
var toggles = []string{"binary", "echo", "goahead", "inbinary", "lflow", "outbinary", "xon-any"}

// toggle shows the settings, or turns one of them, or all, over. What needs the
// client's agreement is only asked for.
func (x *session) toggle(name string) {
	out, in := x.c.On(engine.Us, engine.Binary), x.c.On(engine.Him, engine.Binary)
	echo, sga := x.c.On(engine.Us, engine.Echo), x.c.On(engine.Us, engine.SGA)
	if slices.Contains(linemodeToggles, name) {
		x.text.WriteString(x.toggleLinemode(name))
		return
	}
	if name == "" {
		on := map[string]bool{"binary": out && in, "echo": echo, "goahead": !sga, "inbinary": in, "lflow": x.lflow, "outbinary": out, "xon-any": x.xonAny}
		lines := make([]string, len(toggles))
		for i, t := range toggles {
			lines[i] = t + " off"
			if on[t] {
				lines[i] = t + " ON"
			}
		}
		if x.c.On(engine.Him, engine.Linemode) {
			lines = append(lines, x.linemodeLines()...)
			slices.Sort(lines)
		}
		x.text.WriteString(strings.Join(lines, "\n"))
		return
	}
	if name != "all" && !slices.Contains(toggles, name) {
		x.text.WriteString("toggle: not an option.")
		return
	}
	var said []string
	is := func(names ...string) bool { return name == "all" || slices.Contains(names, name) }
	ask := func(side engine.Side, code engine.Code, on bool, what string) {
		verb := map[engine.Side][2]string{engine.Us: {"will", "wont"}, engine.Him: {"do", "dont"}}[side]
		if on {
			x.c.Disable(side, code)
			said = append(said, verb[1]+what)
		} else {
			x.c.Enable(side, code)
			said = append(said, verb[0]+what)
		}
	}
	if is("echo") {
		ask(engine.Us, engine.Echo, echo, " echo.")
	}
	if is("goahead") {
		ask(engine.Us, engine.SGA, sga, " suppress go-ahead.")
	}
	if is("outbinary", "binary") {
		ask(engine.Us, engine.Binary, out, " outbinary.")
	}
	if is("inbinary", "binary") {
		ask(engine.Him, engine.Binary, in, " inbinary.")
	}
	if is("xon-any") {
		x.xonAny = !x.xonAny
		said = append(said, "xon-any "+abled(x.xonAny))
		x.flow(x.xonAny, option.FlowRestartAny, option.FlowRestartXON)
	}
	if is("lflow") {
		x.lflow = !x.lflow
		said = append(said, "lineflow "+abled(x.lflow))
		x.flow(x.lflow, option.FlowOn, option.FlowOff)
	}
	x.text.WriteString(strings.Join(said, "\n"))
}

func abled(on bool) string {
	if on {
		return "enabled."
	}
	return "disabled."
}

// flow tells a client that has RFC 1372's option what it is to do.
func (x *session) flow(on bool, yes, no option.FlowMode) {
	mode := no
	if on {
		mode = yes
	}
	x.c.Update(func(e *engine.Engine) {
		if o, ok := e.Option(engine.LFlow).(*option.LFlow); ok && e.On(engine.Him, engine.LFlow) {
			o.Set(e, mode)
		}
	})
}

const (
	maxDumpKB    = 1 << 30
	maxDumpDelay = time.Second // between two lines: who ends the session waits for it
	dumpBatch    = 32 << 10
)

// dump writes so many KiB: dump [kb [ms [drain|nodrain [close|noclose]]]]. With
// drain each line is written by itself, with nodrain as many as fit a batch.
func (x *session) dump(args []string) (over bool) {
	arg := func(i int) string {
		if i < len(args) {
			return args[i]
		}
		return ""
	}
	kb, err := strconv.Atoi(arg(0))
	if err != nil {
		kb = 1000
	}
	kb = min(kb, maxDumpKB)
	ms, err := strconv.ParseFloat(arg(1), 64)
	if err != nil || math.IsNaN(ms) || ms < 0 {
		ms = 0
	}
	delay := time.Duration(min(ms, float64(maxDumpDelay.Milliseconds())) * float64(time.Millisecond))
	drain, over := !strings.EqualFold(arg(2), "nodrain"), strings.EqualFold(arg(3), "close")
	if x.text.Printf("kb_limit=%d, delay=%s, drain=%s, do_close=%s:\n", kb, strconv.FormatFloat(delay.Seconds(), 'f', -1, 64), truth(drain), truth(over)) != nil {
		return true
	}
	wrote, batch := 0, []byte(nil)
	for wrote < kb<<10 {
		for _, r := range []string{"/", `\`} {
			line := strings.Repeat(r, 80) + "\x1b[1G"
			wrote += len(line)
			if batch = append(batch, line...); !drain && len(batch) < dumpBatch && delay == 0 {
				continue
			}
			if _, err := x.c.Write(batch); err != nil {
				return true
			}
			batch = batch[:0]
			if delay > 0 && !x.pause(delay) {
				return true
			}
		}
	}
	_, err = x.c.Write(append(batch, fmt.Sprintf("\x1b[1Gwrote %d bytes\r\n%d OK", wrote, kb)...))
	return over || err != nil
}

// pause reports whether the session may go on after it.
func (x *session) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-x.ctx.Done():
		return false
	}
}

// truth is a truth value as the seed's answers have it.
func truth(b bool) string {
	if b {
		return "True"
	}
	return "False"
}

// words are the commands and, for toggle, what may follow.
var words = []string{"dump", "help", "linemode", "proto", "quit", "reader", "slc", "toggle", "version", "writer"}

// withArguments are those behind which there is more to say. Behind the others a
// blank would make them unknown.
var withArguments = []string{"dump", "toggle"}

// complete returns the ways in which a line may go on: whole lines.
func complete(line string) (candidates []string) {
	list, head := words, ""
	if rest, ok := strings.CutPrefix(line, "toggle "); ok {
		list, head, line = slices.Concat(toggles, linemodeToggles, []string{"all"}), "toggle ", rest
	}
	for _, w := range list {
		if strings.HasPrefix(w, line) {
			candidates = append(candidates, head+w)
		}
	}
	return candidates
}
