package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/client"
	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/option"
)

// This file owns the command telnet: its flags, and the terminal and network
// that a client.Client gets.

// telnetOptions are the flags of telnet.
type telnetOptions struct {
	attach attach.Options

	term, encoding, errors, speed, escape string
	environ                               []string
	forceBinary, line, raw                bool
	minWait, maxWait, timeout             float64
	will, do, wont, dont                  []string
	compression, noCompression            bool
	gmcp                                  []string
	ssl, noVerify                         bool
	caFile                                string
	typescript, typescriptMode            string
	log                                   logFlags
}

func telnetCommand() *cobra.Command { return newTelnet(&telnetOptions{}) }

// telnetLink is telnet under that name: on the host's sockets if nothing else is
// said, as others of this name are.
func telnetLink() *cobra.Command {
	o := &telnetOptions{}
	if os.Getenv("TAPSTACK_TAP") == "" && os.Getenv("TAPSTACK_DEV") == "" && os.Getenv("TAPSTACK_NET") == "" {
		o.attach.Net = "host"
	}
	return newTelnet(o)
}

func newTelnet(o *telnetOptions) *cobra.Command {
	c := &cobra.Command{
		Use:   "telnet [HOST [PORT]]",
		Short: "Talk to a telnet server",
		Long: `Talk to a telnet server: from a terminal, with a prompt for commands behind the
escape character ^], or from a pipe. Without HOST the prompt comes first.

Between pipes bytes are passed on as they are, but that a line's LF is sent as
CR LF while BINARY is off; with --raw-mode not even that. The end of the input
does not end the session, the other end does.`,
		Example: `  tapstack telnet --net host 127.0.0.1
  tapstack telnet --tap tap7 --ip 10.77.0.7/24 10.77.0.1 6023
  tapstack telnet --net host --ssl mud.example.org
  printf 'help\nquit\n' | tapstack telnet --net host localhost 6023`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 2 {
				return attach.Usagef("%d arguments: want HOST and PORT", len(args))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			return o.run(args, c.Flags().Changed("encoding"), c.Flags().Changed("compression"))
		},
	}
	f := c.Flags()
	f.SortFlags = false
	term := os.Getenv("TERM")
	if term == "" {
		term = "unknown"
	}
	f.StringVar(&o.term, "term", term, "terminal type to tell: `NAME`, or several with commas, the best first")
	f.StringVar(&o.encoding, "encoding", "utf8", "characters are in the `SET`; if given, no other is agreed to, and pipes are converted from and to UTF-8")
	f.StringVar(&o.errors, "encoding-errors", "replace", "what to do with received bytes that are no characters: `WAY` replace, ignore or strict (end)")
	f.BoolVar(&o.forceBinary, "force-binary", true, "eight bits whether BINARY is agreed or not; with =false only ASCII until then")
	f.StringVar(&o.speed, "speed", "38400", "terminal speed to tell: `BPS`, or two with a comma")
	f.StringSliceVar(&o.environ, "send-environ", []string{"TERM", "LANG", "COLUMNS", "LINES", "COLORTERM"},
		"tell servers that ask these variables, and no others: `NAMES`; DISPLAY allows the X display, too")
	f.Float64Var(&o.minWait, "connect-minwait", 0, "hold back input for `SECONDS` after the connection")
	f.Float64Var(&o.maxWait, "connect-maxwait", 1.5, "wait for negotiation at most `SECONDS`, before input from a pipe is sent")
	f.Float64Var(&o.timeout, "connect-timeout", 10, "give up connecting after `SECONDS`; 0: never")
	f.BoolVar(&o.line, "line-mode", false, "edit lines here, whatever the server wants")
	f.BoolVar(&o.raw, "raw-mode", false, "send each key, whatever the server wants")
	f.StringVar(&o.escape, "escape", "^]", "bring the prompt by `CHARACTER`, as ^] or ~; off: never")
	f.StringSliceVar(&o.will, "always-will", nil, "offer `OPTIONS`, by name or number, at once, and agree to them")
	f.StringSliceVar(&o.do, "always-do", nil, "ask for `OPTIONS` at once, and agree to them")
	f.StringSliceVar(&o.wont, "always-wont", nil, "refuse to perform `OPTIONS`")
	f.StringSliceVar(&o.dont, "always-dont", nil, "refuse `OPTIONS` of the server's")
	f.BoolVar(&o.compression, "compression", false, "agree to MCCP, over TLS, too (default: but not over TLS)")
	f.BoolVar(&o.noCompression, "no-compression", false, "do not agree to MCCP")
	f.StringSliceVar(&o.gmcp, "gmcp-modules", nil, "agree to GMCP and tell that these `MODULES` are known, as \"Char 1\",\"Room 1\"")
	f.BoolVar(&o.ssl, "ssl", false, "speak TLS from the first byte; PORT is 992 then")
	f.StringVar(&o.caFile, "ssl-cafile", "", "trust the certificates in `FILE` instead of the system's")
	f.BoolVar(&o.noVerify, "ssl-no-verify", false, "accept any certificate")
	f.StringVar(&o.typescript, "typescript", "", "write what the program shows to `FILE`, but not what the terminal itself echoes")
	f.StringVar(&o.typescriptMode, "typescript-mode", "append", "what becomes of that file: `MODE` append or rewrite")
	o.log.register(f, "warn", "every byte")
	f.StringVar(&o.log.mode, "logfile-mode", "append", "what becomes of that file: `MODE` append or rewrite")
	o.attach.Register(f)
	f.SortFlags = false
	return c
}

func (o *telnetOptions) run(args []string, encoding, compression bool) error {
	cfg := client.Config{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	if len(args) > 0 {
		cfg.Host = args[0]
	}
	if len(args) > 1 {
		cfg.Port = args[1]
	}
	if n, err := strconv.ParseUint(cfg.Port, 10, 16); cfg.Port != "" && (err != nil || n == 0) {
		return attach.Usagef("port %q: want 1 to 65535", cfg.Port)
	}
	for _, step := range []func(*client.Config) error{o.setText, o.setTimes, o.setOptions, o.setTLS} {
		if err := step(&cfg); err != nil {
			return err
		}
	}
	cfg.Text = encoding
	if encoding {
		cfg.Telnet.Charset = o.encoding
	}
	cfg.Telnet.Client.NoCompress = o.noCompression || compression && !o.compression
	cfg.Telnet.CompressTLS = o.compression
	if err := o.log.check(); err != nil {
		return err
	}
	script, err := openAppending("typescript", o.typescript, o.typescriptMode)
	if err != nil {
		return err
	}
	if script != nil {
		defer script.Close()
		cfg.Typescript = script
	}
	log, done, err := o.log.open()
	if err != nil {
		return err
	}
	defer done()
	cfg.Logger = log
	if o.log.level <= levelTrace {
		cfg.Telnet.Record = telnet.NewRecorder(&wireLog{log, o.log.level})
	}
	return o.session(cfg)
}

func (o *telnetOptions) setText(cfg *client.Config) error {
	if !telnet.KnownCharset(o.encoding) {
		return attach.Usagef("--encoding %s: no such character set", o.encoding)
	}
	ways := map[string]client.Errors{"replace": client.Replace, "ignore": client.Ignore, "strict": client.Strict}
	way, ok := ways[o.errors]
	if !ok {
		return attach.Usagef("--encoding-errors %s: want replace, ignore or strict", o.errors)
	}
	cfg.Errors, cfg.SevenBit = way, !o.forceBinary
	switch {
	case o.line && o.raw:
		return attach.Usagef("--line-mode and --raw-mode: want one of the two")
	case o.line:
		cfg.Mode = client.ModeLine
	case o.raw:
		cfg.Mode = client.ModeRaw
	}
	escape, err := client.ParseEscape(o.escape)
	if err != nil {
		return attach.Usagef("--escape: %w", err)
	}
	cfg.Escape = escape
	return nil
}

func (o *telnetOptions) setTimes(cfg *client.Config) error {
	for _, x := range []struct {
		flag string
		s    float64
		to   *time.Duration
	}{{"connect-minwait", o.minWait, &cfg.MinWait}, {"connect-maxwait", o.maxWait, &cfg.Telnet.MaxWait}, {"connect-timeout", o.timeout, &cfg.Timeout}} {
		if !(x.s >= 0 && x.s <= 3600) {
			return attach.Usagef("--%s %v: want 0 to 3600 seconds", x.flag, x.s)
		}
		*x.to = time.Duration(x.s * float64(time.Second))
	}
	// Zero is the library's default there.
	cfg.Telnet.MaxWait = max(cfg.Telnet.MaxWait, time.Millisecond)
	return nil
}

// setOptions is what the server is told, and what is agreed to.
func (o *telnetOptions) setOptions(cfg *client.Config) error {
	c := &cfg.Telnet.Client
	c.Terms = strings.Split(o.term, ",")
	tx, rx, both := strings.Cut(o.speed, ",")
	if !both {
		rx = tx
	}
	t, err1 := strconv.ParseUint(tx, 10, 31)
	r, err2 := strconv.ParseUint(rx, 10, 31)
	if err1 != nil || err2 != nil {
		return attach.Usagef("--speed %s: want bits per second, or two with a comma", o.speed)
	}
	c.Speed = option.Speed{Tx: int(t), Rx: int(r)}
	c.Size = option.Size{Cols: 80, Rows: 25} // without a terminal
	for _, name := range o.environ {
		value, ok := os.LookupEnv(name)
		if name == "TERM" {
			value, ok = c.Terms[0], true
		}
		if name == "DISPLAY" {
			c.Display = value
		}
		if ok {
			cfg.Env = append(cfg.Env, option.Var{Name: name, Value: value})
		}
	}
	if len(o.gmcp) > 0 {
		c.GMCP = option.NewGMCP()
		c.GMCP.Name, c.GMCP.Version, c.GMCP.Modules = program, "1", o.gmcp
	}

	yes := make(map[telnet.Ask]bool)
	for _, x := range []struct {
		flag  string
		names []string
		side  engine.Side
		yes   bool
	}{{"will", o.will, engine.Us, true}, {"do", o.do, engine.Him, true}, {"wont", o.wont, engine.Us, false}, {"dont", o.dont, engine.Him, false}} {
		asks, err := always(x.flag, x.names, x.side)
		if err != nil {
			return err
		}
		for _, a := range asks {
			yes[a] = x.yes
		}
		if x.yes {
			cfg.Telnet.Enable = append(cfg.Telnet.Enable, asks...)
		}
	}
	cfg.Telnet.Accept = func(side engine.Side, code engine.Code, allowed bool) bool {
		if yes, ok := yes[telnet.Ask{Side: side, Code: code}]; ok {
			return yes
		}
		return allowed
	}
	return nil
}

func (o *telnetOptions) setTLS(cfg *client.Config) error {
	if !o.ssl {
		if o.caFile != "" || o.noVerify {
			return attach.Usagef("--ssl-cafile, --ssl-no-verify: are about TLS, and there is no --ssl")
		}
		return nil
	}
	var err error
	cfg.TLS, err = clientTLS(o.caFile, o.noVerify)
	return err
}

// wireLog logs the lines of a record.
type wireLog struct {
	log   *slog.Logger
	level slog.Level
}

func (w *wireLog) Write(line []byte) (int, error) {
	var c struct{ Sent, Got []byte }
	if err := json.Unmarshal(line, &c); err != nil {
		return 0, err
	}
	if len(c.Sent) > 0 {
		w.log.Log(context.Background(), w.level, "wire", "sent", strconv.Quote(string(c.Sent)))
	} else {
		w.log.Log(context.Background(), w.level, "wire", "received", strconv.Quote(string(c.Got)))
	}
	return len(line), nil
}

// session attaches and runs the client. The keyboard's signals are the
// session's as soon as there is one; SIGTERM and SIGHUP end the program. SIGPIPE
// must not, before the terminal is given back.
func (o *telnetOptions) session(cfg client.Config) error {
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	opening, opened := signal.NotifyContext(ctx, os.Interrupt)
	h, err := o.attach.Open(opening)
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGQUIT, syscall.SIGTSTP, syscall.SIGWINCH)
	defer signal.Stop(signals)
	gaveUp := opening.Err() != nil
	opened()
	if err != nil {
		if gaveUp {
			return nil
		}
		return err
	}
	for _, n := range h.Notes {
		fmt.Fprintln(os.Stderr, n)
	}
	cfg.Dial, cfg.Signals = h.Net.DialContext, signals
	cfg.Telnet.Urgent = urgentOf
	err = client.New(cfg).Run(ctx)
	if ctx.Err() != nil || errors.Is(err, context.Canceled) || isOutputGone(err) {
		err = nil
	}
	limited, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	return errors.Join(err, h.Shutdown(limited))
}

// isOutputGone reports that nobody reads what is shown, as behind head. A
// network's error is no PathError.
func isOutputGone(err error) bool {
	_, file := errors.AsType[*os.PathError](err)
	return file && errors.Is(err, syscall.EPIPE)
}
