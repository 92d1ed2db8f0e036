package main

// telnetd's shell fingerprint: which settings it takes from where, and the
// program that may serve the session after the probe.

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"os/exec"

	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/telnet"
	"github.com/tapstack/tapstack/telnet/fingerprint"
	"github.com/tapstack/tapstack/telnet/option"
	"github.com/tapstack/tapstack/telnet/ptyshell"
)

const fingerprintShell = "fingerprint"

func (o *telnetdOptions) isFingerprintShell() bool {
	switch o.shell {
	case fingerprintShell, "fingerprinting_server_shell", "telnetlib3.fingerprinting_server_shell":
		return !o.isPTY
	}
	return false
}

// checkFingerprint reads the environment, if it counts. A program that is not
// there is found out now, and not by the first visitor.
func (o *telnetdOptions) checkFingerprint() error {
	if !o.isFingerprintShell() {
		return nil
	}
	var err error
	if o.fingerprints, err = fingerprint.Environment(os.Getenv); err != nil {
		return &attach.UsageError{Err: err}
	}
	o.fingerprints.Dir = cmp.Or(o.dataDir, o.fingerprints.Dir)
	if post := o.fingerprints.PostScript; post != "" {
		if o.fingerprints.PostScript, err = exec.LookPath(post); err != nil {
			return attach.Usagef("the post script: %w", err)
		}
	}
	return nil
}

func newFingerprint(o *telnetdOptions, log *slog.Logger) telnet.Handler {
	x := &fingerprint.Shell{IdleTimeout: seconds(o.timeout), Logger: log}
	if s := o.fingerprints; s.Dir != "" {
		x.Store = &fingerprint.Store{Dir: s.Dir, MaxFiles: s.MaxFiles, MaxFingerprints: s.MaxFingerprints}
	}
	return x
}

// fingerprinting is the shell with what it needs of the server's configuration.
// The program behind it gets the file's path as its last argument, on a terminal
// in raw mode, as it may talk to the client's.
func (o *telnetdOptions) fingerprinting(x *fingerprint.Shell, cfg *telnet.Config) telnet.Handler {
	cfg.Extra, cfg.Server.Env = fingerprint.Extra, nil
	for _, name := range fingerprint.Variables {
		cfg.Server.Env = append(cfg.Server.Env, option.Var{Name: name})
	}
	if o.fingerprints.PostScript != "" {
		post := &ptyshell.Exec{Program: o.fingerprints.PostScript, Raw: true, Logger: x.Logger}
		cfg.Event = post.Event
		x.Post = telnet.HandlerFunc(func(ctx context.Context, c *telnet.Conn) {
			post.ServeTELNET(ptyshell.WithArgs(ctx, fingerprint.File(ctx)), c)
		})
	}
	return x
}
