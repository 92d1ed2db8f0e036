package main

// telnet-fingerprint: finds out which telnet server it is that answers.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/engine"
	"github.com/tapstack/tapstack/telnet/fingerprint"
	"github.com/tapstack/tapstack/telnet/option"
)

type telnetFingerprintOptions struct {
	attach attach.Options

	dataDir, saveJSON, setName    string
	timeout                       float64
	log                           logFlags
	silent                        bool
	encoding, ttype, scanType     string
	env, will, do                 []string
	msspWait, bannerQuiet, banner float64
	bannerBytes                   int
	ssl, noVerify                 bool
	caFile                        string

	scan     fingerprint.Scan
	settings fingerprint.Settings
}

func telnetFingerprintCommand() *cobra.Command {
	o := new(telnetFingerprintOptions)
	c := &cobra.Command{
		Use:   "telnet-fingerprint HOST [PORT]",
		Short: "Find out which telnet server it is",
		Long: `Connect to a telnet server, see what it says and asks for, ask it for all options
there are, and for what only a client has, and print a fingerprint as JSON: the
same for servers of the same program, with what was special to this one.

With --data-dir, or TAPSTACK_DATA_DIR in the environment, it is kept there, in
server/FINGERPRINT/.`,
		Example: `  tapstack telnet-fingerprint --net host localhost 6023
  tapstack telnet-fingerprint --tap tap7 --ip 10.77.0.7/24 --scan-type full 10.77.0.1`,
		RunE: func(_ *cobra.Command, args []string) error {
			if err := o.check(args); err != nil {
				return err
			}
			return o.run()
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&o.dataDir, "data-dir", "", "keep the fingerprint in `DIR` (default $TAPSTACK_DATA_DIR, $TELNETLIB3_DATA_DIR)")
	f.StringVar(&o.saveJSON, "save-json", "", "write it to `FILE` instead")
	f.BoolVar(&o.silent, "silent", false, "do not print it")
	f.StringVar(&o.setName, "set-name", "", "remember `NAME` as that of this fingerprint, in the directory")
	f.StringVar(&o.scanType, "scan-type", "quick", "ask for the usual options, or for those of the past as well: `TYPE` quick or full")
	f.Float64Var(&o.timeout, "connect-timeout", 10, "give up connecting after `SECONDS`; 0: never")
	f.StringVar(&o.encoding, "encoding", "ascii", "the server's characters are in the `SET`, as cp037 for EBCDIC")
	f.StringVar(&o.ttype, "ttype", "VT100", "terminal type to tell: `NAME`")
	f.StringArrayVar(&o.env, "send-env", nil, "tell the server that asks this variable, and no other: `NAME=VALUE`; may be repeated")
	f.StringSliceVar(&o.will, "always-will", nil, "offer `OPTIONS`, by name or number, at once")
	f.StringSliceVar(&o.do, "always-do", nil, "ask for `OPTIONS` at once")
	f.Float64Var(&o.msspWait, "mssp-wait", 5, "wait until so many `SECONDS` after the connection for what a game tells of itself")
	f.Float64Var(&o.bannerQuiet, "banner-quiet-time", 2, "a banner is over when nothing was said for `SECONDS`")
	f.Float64Var(&o.banner, "banner-max-wait", 8, "or when it has taken `SECONDS`")
	f.IntVar(&o.bannerBytes, "banner-max-bytes", 65536, "or when there are so many `BYTES`")
	f.BoolVar(&o.ssl, "ssl", false, "speak TLS from the first byte; PORT is 992 then")
	f.StringVar(&o.caFile, "ssl-cafile", "", "trust the certificates in `FILE` instead of the system's")
	f.BoolVar(&o.noVerify, "ssl-no-verify", false, "speak TLS and accept any certificate")
	o.log.register(f, "warn", "all that is negotiated")
	o.attach.Register(f)
	f.SortFlags = false
	return c
}

func (o *telnetFingerprintOptions) check(args []string) error {
	if len(args) < 1 || len(args) > 2 {
		return attach.Usagef("%d arguments: want HOST and PORT", len(args))
	}
	s := &o.scan
	s.Host, s.Port = args[0], 23
	tlsWanted := o.ssl || o.noVerify
	if tlsWanted {
		s.Port = 992
	}
	if len(args) == 2 {
		n, err := strconv.ParseUint(args[1], 10, 16)
		if err != nil || n == 0 {
			return attach.Usagef("port %q: want 1 to 65535", args[1])
		}
		s.Port = int(n)
	}
	switch o.scanType {
	case "quick":
	case "full":
		s.Full = true
	default:
		return attach.Usagef("--scan-type %s: want quick or full", o.scanType)
	}
	if !telnet.KnownCharset(o.encoding) {
		return attach.Usagef("--encoding %s: no character set that is known", o.encoding)
	}
	if s.Charset = o.encoding; option.SameCharset(s.Charset, "ascii") {
		s.Charset = ""
	}
	if o.bannerBytes <= 0 {
		return attach.Usagef("--banner-max-bytes %d: want 1 or more", o.bannerBytes)
	}
	s.MaxBanner, s.Term = o.bannerBytes, o.ttype
	for name, x := range map[string]struct {
		v  float64
		to *time.Duration
	}{"connect-timeout": {o.timeout, &s.Timeout}, "mssp-wait": {o.msspWait, &s.MSSPWait}, "banner-quiet-time": {o.bannerQuiet, &s.Quiet},
		"banner-max-wait": {o.banner, &s.Most}} {
		if !(x.v >= 0 && x.v <= math.MaxInt32) {
			return attach.Usagef("--%s %v: want a number of seconds", name, x.v)
		}
		*x.to = seconds(x.v)
	}
	// Zero is the library's default there.
	s.MSSPWait, s.Quiet, s.Most = max(s.MSSPWait, time.Nanosecond), max(s.Quiet, time.Millisecond), max(s.Most, time.Millisecond)
	for _, v := range o.env {
		name, value, _ := strings.Cut(v, "=")
		if name == "" {
			return attach.Usagef("--send-env %s: want NAME=VALUE", v)
		}
		s.Env = append(s.Env, option.Var{Name: name, Value: value})
	}
	will, err := always("will", o.will, engine.Us)
	if err != nil {
		return err
	}
	do, err := always("do", o.do, engine.Him)
	if err != nil {
		return err
	}
	s.Enable = append(will, do...)
	switch {
	case tlsWanted:
		if s.TLS, err = clientTLS(o.caFile, o.noVerify); err != nil {
			return err
		}
	case o.caFile != "":
		return attach.Usagef("--ssl-cafile is about TLS, and there is no --ssl")
	}
	if o.settings, err = fingerprint.Environment(os.Getenv); err != nil {
		return &attach.UsageError{Err: err}
	}
	if o.settings.Dir = cmp.Or(o.dataDir, o.settings.Dir); o.setName != "" && o.settings.Dir == "" {
		return attach.Usagef("--set-name: needs --data-dir")
	}
	return o.log.check()
}

func (o *telnetFingerprintOptions) run() error {
	log, done, err := o.log.open()
	if err != nil {
		return err
	}
	defer done()
	if o.log.level <= levelTrace {
		o.scan.Trace = func(c *telnet.Conn, sent bool, cmd engine.Command, code engine.Code, content []byte) {
			traced(log, c, sent, cmd, code, content)
		}
	}
	return o.attach.Run(func(ctx context.Context, h *attach.Host) error {
		o.scan.Dial = h.Net.DialContext
		r, err := o.scan.Run(ctx)
		if err != nil {
			return err
		}
		log.Info("fingerprint", "host", o.scan.Host, "port", o.scan.Port, "fingerprint", r.Hash)
		err = o.keep(r, log)
		if !o.silent {
			_, printErr := os.Stdout.Write(append(r.JSON(), '\n'))
			err = errors.Join(err, printErr)
		}
		return err
	})
}

// keep writes the files that were asked for.
func (o *telnetFingerprintOptions) keep(r *fingerprint.Record, log *slog.Logger) (err error) {
	store := &fingerprint.Store{Dir: o.settings.Dir, MaxFiles: o.settings.MaxFiles, MaxFingerprints: o.settings.MaxFingerprints}
	switch file := ""; {
	case o.saveJSON != "":
		err = fingerprint.WriteFile(o.saveJSON, r)
	case store.Dir != "":
		file, err = store.Save(r)
		log.Info("saved", "file", file, "err", err)
	}
	if o.setName != "" {
		err = errors.Join(err, store.SetName(r.Hash, o.setName))
	}
	if err != nil {
		return fmt.Errorf("fingerprint %s: %w", r.Hash, err)
	}
	return nil
}
