package main

// telnetd: its flags, and what they make of a server. The session's shells are
// telnet/telsh and telnet/ptyshell; what listens and reports is in
// telnetd_serve.go.

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/fingerprint"
	"github.com/tapstack/tapstack/telnet/option"
	"github.com/tapstack/tapstack/telnet/ptyshell"
	"github.com/tapstack/tapstack/telnet/telsh"
)

// telnetdPort is where telnetd listens if nothing else is said.
const telnetdPort = "6023"

type telnetdOptions struct {
	attach attach.Options

	shell, encoding               string
	forceBinary, lineMode         bool
	timeout, maxWait, status      float64
	pty                           string
	ptyArgs                       []string
	ptyLimit, maxConns            int
	ptyRaw, robotCheck, neverGA   bool
	dataDir                       string
	fingerprints                  fingerprint.Settings
	compress, noCompress          bool
	log                           logFlags
	certificate, key              string
	tlsAuto                       float64
	host, port                    string
	certificates                  *tls.Config
	charset                       string
	isPTY, isTLSAuto, isNamedHost bool
}

// telnetdShells are the shells by name; the second names are the seed's.
var telnetdShells = map[string]func(o *telnetdOptions, log *slog.Logger) telnet.Handler{
	"telsh": newTelsh, "telnet_server_shell": newTelsh, "telnetlib3.telnet_server_shell": newTelsh,
	"echo": func(*telnetdOptions, *slog.Logger) telnet.Handler { return telnet.HandlerFunc(echoShell) },
	"busy": func(_ *telnetdOptions, log *slog.Logger) telnet.Handler { return telsh.Busy(log) },

	fingerprintShell: newFingerprint, "fingerprinting_server_shell": newFingerprint, "telnetlib3.fingerprinting_server_shell": newFingerprint,
}

// shellNames are the first names, for people.
func shellNames() string {
	var shells []string
	for _, name := range slices.Sorted(maps.Keys(telnetdShells)) {
		if !strings.Contains(name, "_") {
			shells = append(shells, name)
		}
	}
	return strings.Join(shells, ", ")
}

func newTelsh(o *telnetdOptions, _ *slog.Logger) telnet.Handler {
	return &telsh.Shell{Version: version(), ForceBinary: o.forceBinary}
}

// echoShell sends back what it receives: to a client that shows what is typed
// by itself each line once more.
func echoShell(_ context.Context, c *telnet.Conn) {
	io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
}

func telnetdCommand() *cobra.Command { return newTelnetd(new(telnetdOptions)) }

// telnetdLink is telnetd under that name: it takes the place of a program that
// runs on the host's sockets, and so does it if nothing else is said.
func telnetdLink() *cobra.Command {
	o := new(telnetdOptions)
	if os.Getenv("TAPSTACK_TAP") == "" && os.Getenv("TAPSTACK_DEV") == "" && os.Getenv("TAPSTACK_NET") == "" {
		o.attach.Net = "host"
	}
	return newTelnetd(o)
}

func newTelnetd(o *telnetdOptions) *cobra.Command {
	c := &cobra.Command{
		Use:   "telnetd [flags] [HOST [PORT]] [-- ARGUMENT...]",
		Short: "Serve telnet: a shell about the session, or a program",
		Long: `Serve telnet from a stack, or with --net host on the host's own sockets, until
SIGINT or SIGTERM. HOST is the address to listen on: all of a stack's own, or
localhost, if it is not said. When sessions are served one line that starts with
"Server ready on" is printed to stderr.

The shell telsh shows what was negotiated and changes it; the shell fingerprint
finds out which client it is, and keeps that as a file. --pty-exec gives each
session a program on a terminal of its own, without any login: whoever can
connect runs it.

A link called telnetd to this program acts as this command, on the host's
sockets if nothing else is said.`,
		Example: `  tapstack telnetd --net host localhost 6023
  tapstack telnetd --tap tap7 --ip 10.77.0.7/24 --pty-exec /bin/bash -- --login
  tapstack lab run -- tapstack telnetd --timeout 0 --robot-check`,
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.check(c, args); err != nil {
				return err
			}
			return o.run()
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&o.shell, "shell", "telsh", "run the shell `NAME`: "+shellNames())
	f.StringVar(&o.encoding, "encoding", "utf8", "text is in the `CHARSET` until others are agreed on; false: bytes as they are")
	f.BoolVar(&o.forceBinary, "force-binary", false, "text stays in that character set, whatever the client says")
	f.Float64Var(&o.timeout, "timeout", 300, "end sessions in which nothing was received for so many `SECONDS`; 0: never")
	f.Float64Var(&o.maxWait, "connect-maxwait", 1.5, "wait at most so many `SECONDS` for a client to negotiate")
	f.StringVar(&o.pty, "pty-exec", "", "run `PROGRAM` with the arguments behind -- on a terminal for each session")
	f.IntVar(&o.ptyLimit, "pty-fork-limit", 0, "run it for at most `N` sessions at a time; more are told that the machine is busy")
	f.BoolVar(&o.ptyRaw, "pty-raw", false, "its terminal begins without echo and editing")
	f.BoolVar(&o.lineMode, "line-mode", false, "leave echo and the editing of lines to the client")
	f.StringVar(&o.dataDir, "data-dir", "", "keep fingerprints in `DIR` (default $TAPSTACK_DATA_DIR, $TELNETLIB3_DATA_DIR)")
	f.BoolVar(&o.robotCheck, "robot-check", false, "serve only who has a terminal that tells its cursor's place")
	f.Float64Var(&o.status, "status-interval", 20, "log who is connected every so many `SECONDS`, if it has changed; 0: never")
	f.BoolVar(&o.neverGA, "never-send-ga", false, "never send IAC GA")
	f.BoolVar(&o.compress, "compression", false, "offer compression (MCCP2, MCCP3), but not over TLS")
	f.BoolVar(&o.noCompress, "no-compression", false, "do not (the default)")
	f.IntVar(&o.maxConns, "max-connections", 1000, "serve at most `N` sessions at a time; 0: any number")
	f.StringVar(&o.certificate, "ssl-certfile", "", "speak TLS with the certificate in `FILE`, in PEM")
	f.StringVar(&o.key, "ssl-keyfile", "", "its private key is in `FILE` (default the same file)")
	f.Float64Var(&o.tlsAuto, "tls-auto", 0, "speak TLS only with clients that begin with it within `SECONDS`, plainly with others")
	f.Lookup("tls-auto").NoOptDefVal = "0.5"
	o.log.register(f, "info", "all that is negotiated")
	o.attach.Register(f)
	f.SortFlags = false
	return c
}

// check reads what the command line says.
func (o *telnetdOptions) check(c *cobra.Command, args []string) error {
	if dash := c.ArgsLenAtDash(); dash >= 0 {
		args, o.ptyArgs = args[:dash], args[dash:]
	}
	f := c.Flags()
	o.isPTY, o.isTLSAuto = f.Changed("pty-exec"), f.Changed("tls-auto")
	switch {
	case len(args) > 2:
		return attach.Usagef("unexpected argument %q; `%s --help` tells the usage", args[2], c.CommandPath())
	case len(o.ptyArgs) > 0 && !o.isPTY:
		return attach.Usagef("arguments behind --, but no --pty-exec that would have them")
	case o.isPTY && o.pty == "":
		return attach.Usagef("--pty-exec: want a program")
	case o.isPTY && f.Changed("shell"):
		return attach.Usagef("--shell and --pty-exec: want one of the two")
	case !o.isPTY && (o.ptyRaw || o.ptyLimit != 0):
		return attach.Usagef("--pty-raw and --pty-fork-limit are about --pty-exec")
	case o.compress && o.noCompress:
		return attach.Usagef("--compression and --no-compression: want one of the two")
	case o.ptyLimit < 0 || o.maxConns < 0:
		return attach.Usagef("--pty-fork-limit and --max-connections: want 0 or more")
	case telnetdShells[o.shell] == nil:
		return attach.Usagef("--shell %s: there is none of this name; want one of %s", o.shell, shellNames())
	case f.Changed("data-dir") && !o.isFingerprintShell():
		return attach.Usagef("--data-dir is about --shell %s", fingerprintShell)
	}
	for name, v := range map[string]float64{"timeout": o.timeout, "connect-maxwait": o.maxWait, "status-interval": o.status, "tls-auto": o.tlsAuto} {
		if !(v >= 0 && v <= math.MaxInt32) || v == 0 && name == "connect-maxwait" {
			return attach.Usagef("--%s %v: want a number of seconds", name, v)
		}
	}
	if err := o.log.check(); err != nil {
		return err
	}
	if o.isPTY { // found out now, and not by the first visitor
		if _, err := exec.LookPath(o.pty); err != nil {
			return attach.Usagef("--pty-exec: %w", err)
		}
	}
	switch o.charset = o.encoding; {
	case strings.EqualFold(o.encoding, "false"):
		o.charset, o.forceBinary = "ISO-8859-1", true
	case strings.EqualFold(o.encoding, "utf8"):
		o.charset = "UTF-8"
	case !telnet.KnownCharset(o.encoding):
		return attach.Usagef("--encoding %s: no character set that is known", o.encoding)
	}
	if len(args) > 0 {
		o.host, o.isNamedHost = args[0], true
	}
	if o.port = telnetdPort; len(args) > 1 {
		o.port = args[1]
	}
	if n, err := strconv.ParseUint(o.port, 10, 16); err != nil {
		return attach.Usagef("%q is no port", o.port)
	} else if o.port = strconv.FormatUint(n, 10); o.isTLSAuto && o.certificate == "" {
		return attach.Usagef("--tls-auto: needs --ssl-certfile")
	}
	if err := o.checkFingerprint(); err != nil {
		return err
	}
	return o.checkTLS()
}

func (o *telnetdOptions) checkTLS() error {
	if o.certificate == "" {
		if o.key != "" {
			return attach.Usagef("--ssl-keyfile: needs --ssl-certfile")
		}
		return nil
	}
	cert, err := tls.LoadX509KeyPair(o.certificate, cmp.Or(o.key, o.certificate))
	if err != nil {
		return attach.Usagef("--ssl-certfile: %w", err)
	}
	o.certificates = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	return nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// asked are the variables that a client is asked for: how it shows text, and
// nothing about its user.
var asked = []string{"LANG", "LC_ALL", "LC_CTYPE", "COLORTERM", "TERM_PROGRAM", "COLUMNS", "LINES"}

// server makes the server that the flags describe.
func (o *telnetdOptions) server(log *slog.Logger) *telnet.Server {
	cfg := &telnet.Config{Charset: o.charset, ForceCharset: o.forceBinary, MaxWait: seconds(o.maxWait), LineMode: o.lineMode, NeverGA: o.neverGA,
		Server: option.ServerConfig{Compress: o.compress}, Urgent: urgentOf}
	for _, name := range asked {
		cfg.Server.Env = append(cfg.Server.Env, option.Var{Name: name})
	}
	if o.log.level <= levelTrace {
		cfg.Trace = func(c *telnet.Conn, sent bool, cmd engine.Command, code engine.Code, content []byte) {
			traced(log, c, sent, cmd, code, content)
		}
	}
	around := []telnet.Middleware{telnet.WithLog(log)}
	var h telnet.Handler
	if o.isPTY {
		x := &ptyshell.Exec{Program: o.pty, Args: o.ptyArgs, Raw: o.ptyRaw, Logger: log}
		cfg.Event = x.Event
		h = x
		if o.ptyLimit > 0 {
			around = append(around, telnet.WithLimit(o.ptyLimit, telsh.Busy(log)))
		}
	} else {
		h = telnetdShells[o.shell](o, log)
		if x, ok := h.(*fingerprint.Shell); ok {
			h = o.fingerprinting(x, cfg)
		}
	}
	if o.robotCheck {
		around = append(around, telsh.WithRobotCheck(log))
	}
	return &telnet.Server{Handler: telnet.Chain(h, around...), Config: cfg, MaxConns: o.maxConns, Busy: "Machine is busy, do not touch! \r\n",
		IdleTimeout: seconds(o.timeout), TLSConfig: o.certificates, Logger: log}
}

// traced logs a verb, command or subnegotiation as people write them.
func traced(log *slog.Logger, c *telnet.Conn, sent bool, cmd engine.Command, code engine.Code, content []byte) {
	what := cmd.String()
	switch {
	case cmd == engine.SB:
		what += " " + code.String() + fmt.Sprintf(" %q", content)
	case cmd >= engine.WILL && cmd <= engine.DONT:
		what += " " + code.String()
	}
	way := "received"
	if sent {
		way = "sent"
	}
	log.Log(context.Background(), levelTrace, "telnet: "+way, "peer", c.RemoteAddr().String(), "what", what)
}
