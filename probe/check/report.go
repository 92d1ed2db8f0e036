package check

// This file owns how a result is written: as pyminitcp's JSON, as JSON with
// everything, and for people.

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
)

// Banner is the answer as text: UTF-8, with U+FFFD for what is not, and without
// blanks and line ends behind it. ok is false when nothing was read.
func (r *Result) Banner() (text string, ok bool) {
	if r.Answer == nil {
		return "", false
	}
	return strings.TrimRightFunc(strings.ToValidUTF8(string(r.Answer), "\uFFFD"), unicode.IsSpace), true
}

// sockaddr is a socket address as Python has it: a pair for IPv4, and for IPv6
// flow label and scope besides.
func (r *Result) sockaddr() any {
	a := r.Addr.Addr()
	switch {
	case !a.IsValid():
		return nil
	case a.Is4():
		return list{a.String(), int(r.Addr.Port())}
	}
	return list{a.WithZone("").String(), int(r.Addr.Port()), 0, r.Scope}
}

func (r *Result) family() any {
	switch {
	case !r.Addr.IsValid():
		return nil
	case r.Addr.Addr().Is4():
		return "AF_INET"
	}
	return "AF_INET6"
}

// seed are the twelve fields of pyminitcp, in its order.
func (r *Result) seed() object {
	status := 0
	if r.OK {
		status = 1
	}
	var errno, banner any
	if r.Errno != 0 {
		errno = r.Errno
	}
	if b, ok := r.Banner(); ok {
		banner = b
	}
	return object{
		{"status", status},
		{"resp_time", seconds(r.Total)},
		{"error", r.Text},
		{"family", r.family()},
		{"sockaddr", r.sockaddr()},
		{"namelookup_time", seconds(r.Lookup)},
		{"connect_time", seconds(r.Connect)},
		{"phase", orNull(string(r.Phase))},
		{"errno_code", errno},
		{"errno_name", orNull(r.ErrnoName)},
		{"os_error", orNull(r.OSError)},
		{"banner", banner},
	}
}

// JSON is pyminitcp's: twelve fields, indented by two, without a line end.
// Times are in seconds.
func (r *Result) JSON() string { return jsonText(r.seed(), 2) }

// Line is one line of JSON: the target in front, so that results of many can
// be told apart, and the twelve fields or, with full, all.
func (r *Result) Line(full bool) string {
	o := r.seed()
	if full {
		o = r.full()
	}
	return jsonText(append(object{{"host", r.Host}, {"port", int(r.Port)}}, o...), 0)
}

const (
	reset, bold, red   = "\x1b[0m", "\x1b[1m", "\x1b[91m"
	green, yellow, sky = "\x1b[92m", "\x1b[93m", "\x1b[96m"
)

// paint is colour for a terminal, or the text as it is.
func paint(on bool, colour, s string) string {
	if !on {
		return s
	}
	return colour + s + reset
}

// millis is a time as pyminitcp's labels promise, in milliseconds.
func millis(d time.Duration) string { return fmt.Sprintf("%.3f", float64(d.Microseconds())/1e3) }

// Print writes the result for people: pyminitcp's seven lines, and what more is
// known.
func (r *Result) Print(w io.Writer, colour bool) {
	line := func(label, hue, value string) {
		fmt.Fprintf(w, "%s %s\n", paint(colour, bold+sky, fmt.Sprintf("%-15s:", label)), paint(colour && hue != "", hue, value))
	}
	status, hue, fault, faultHue := "Success", green, "-", green
	if !r.OK {
		status, hue, fault, faultHue = "Failure", red, printable(r.Text), red
	}
	line("Status", hue, status)
	line("Name lookup ms", yellow, millis(r.Lookup))
	line("Connect ms", yellow, millis(r.Connect))
	line("Response ms", yellow, millis(r.Total))
	line("Error", faultHue, fault)
	family, addr := "None", "None"
	if f, ok := r.family().(string); ok {
		family, addr = f, r.Addr.String()
	}
	line("Family", "", family)
	line("Sockaddr", "", addr)
	if !r.OK {
		line("Phase", "", string(r.Phase))
	}
	if r.Errno != 0 {
		line("Errno", "", fmt.Sprintf("%s (%d)", r.ErrnoName, r.Errno))
	}
	if b, ok := r.Banner(); ok {
		line("Banner", "", printable(b))
	}
	r.printMore(line)
}

// Brief is one line for people.
func (r *Result) Brief(colour bool) string {
	word, hue := "ok", green
	if !r.OK {
		word, hue = "FAIL", red
	}
	what := r.Reason
	if b, ok := r.Banner(); ok && r.OK && r.Summary == "" {
		first, _, _ := strings.Cut(b, "\n")
		what += ": " + printable(strings.TrimSpace(first))
	}
	return fmt.Sprintf("%s %s %d %s ms, %s", paint(colour, hue, fmt.Sprintf("%-4s", word)), r.Host, r.Port, millis(r.Total), what)
}

// printable is a text that comes from elsewhere as it may be shown on a
// terminal: what could steer that is escaped, and line ends are.
func printable(s string) string {
	var b strings.Builder
	for _, c := range s {
		switch {
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case unicode.IsPrint(c):
			b.WriteRune(c)
		default:
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}
