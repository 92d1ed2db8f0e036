package main

// What the commands about telnet have in common: logs, the options that are
// always asked for, TLS as a client, and where urgent data comes from.

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/socket/kernel"
	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/client"
	"github.com/tapstack/tapstack/telnet/engine"
)

// levelTrace is the level at which what passes is logged.
const levelTrace = slog.LevelDebug - 4

// logLevels are the seed's names for slog's levels.
var logLevels = map[string]slog.Level{"trace": levelTrace, "debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn,
	"warning": slog.LevelWarn, "error": slog.LevelError, "critical": slog.LevelError + 4}

// logFlags are the flags about the log.
type logFlags struct {
	name, file, mode, format string
	level                    slog.Level // of name
}

// register adds them. traces says what the level trace has.
func (o *logFlags) register(f *pflag.FlagSet, level, traces string) {
	f.StringVar(&o.name, "loglevel", level, "log from `LEVEL` on: trace ("+traces+"), debug, info, warn, error, critical")
	f.StringVar(&o.file, "logfile", "", "append the log to `FILE` (default stderr)")
	f.StringVar(&o.format, "logfmt", "text", "log in `FORMAT` text or json")
}

// check reads them.
func (o *logFlags) check() error {
	var ok bool
	if o.level, ok = logLevels[strings.ToLower(o.name)]; !ok {
		return attach.Usagef("--loglevel %s: want one of trace, debug, info, warn, error, critical", o.name)
	}
	if o.format != "text" && o.format != "json" {
		return attach.Usagef("--logfmt %s: want text or json", o.format)
	}
	return nil
}

// open makes the logger. close ends it.
func (o *logFlags) open() (log *slog.Logger, close func(), err error) {
	f, err := openAppending("logfile", o.file, cmp.Or(o.mode, "append"))
	if err != nil {
		return nil, nil, err
	}
	out, close := io.Writer(os.Stderr), func() {}
	if f != nil {
		out, close = f, func() { f.Close() }
	}
	opts := &slog.HandlerOptions{Level: o.level}
	if o.format == "json" {
		return slog.New(slog.NewJSONHandler(out, opts)), close, nil
	}
	return slog.New(slog.NewTextHandler(out, opts)), close, nil
}

// openAppending opens the file of a flag, for appending or rewriting by that of
// --FLAG-mode; nil without a name.
func openAppending(flag, name, mode string) (*os.File, error) {
	how := os.O_WRONLY | os.O_CREATE | os.O_APPEND
	switch mode {
	case "append":
	case "rewrite":
		how |= os.O_TRUNC
	default:
		return nil, attach.Usagef("--%s-mode %s: want append or rewrite", flag, mode)
	}
	if name == "" {
		return nil, nil
	}
	f, err := os.OpenFile(name, how, 0o600)
	if err != nil {
		return nil, attach.Usagef("--%s: %w", flag, err)
	}
	return f, nil
}

// always reads the names of --always-WHAT.
func always(what string, names []string, side engine.Side) (asks []telnet.Ask, err error) {
	for _, name := range names {
		code, ok := client.ParseOption(name)
		if !ok {
			return nil, attach.Usagef("--always-%s %s: there is no option of this name", what, name)
		}
		asks = append(asks, telnet.Ask{Side: side, Code: code})
	}
	return asks, nil
}

// clientTLS is TLS as --ssl-cafile and --ssl-no-verify want it.
func clientTLS(caFile string, noVerify bool) (*tls.Config, error) {
	cfg := &tls.Config{InsecureSkipVerify: noVerify} //nolint:gosec // as asked for
	if caFile == "" {
		return cfg, nil
	}
	b, err := os.ReadFile(caFile)
	if err != nil {
		return nil, attach.Usagef("--ssl-cafile: %w", err)
	}
	if cfg.RootCAs = x509.NewCertPool(); !cfg.RootCAs.AppendCertsFromPEM(b) {
		return nil, attach.Usagef("--ssl-cafile %s: there is no certificate in it", caFile)
	}
	return cfg, nil
}

// urgentOf is the urgent data of the host's connections; a stack's have it
// themselves.
func urgentOf(c net.Conn) telnet.Urgent {
	if p, ok := c.(*peeked); ok {
		if u, ok := p.Conn.(telnet.Urgent); ok {
			return u
		}
		c = p.Conn
	}
	if u, ok := kernel.UrgentOf(c); ok {
		return u
	}
	return nil
}
