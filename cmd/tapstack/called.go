package main

// This file owns the names that the program goes by: a link to it that is
// called as another program acts as that one.

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/internal/mtr"
)

// links are the commands of those names. Any other name, and so a copy of the
// program under one of its own, is the tree of commands.
var links = map[string]func() *cobra.Command{
	mtr.Name:    mtrPacketCommand,
	"ping":      pingCommand,
	"pyminitcp": pyminitcpCommand,
	"telnetd":   telnetdLink,
	"telnet":    telnetLink,
	"host":      hostLink,
	"nc":        ncLink,
	"netcat":    ncLink,
	"mtr":       traceCommand,
	// Commands that take nobody's place go by their own names, too.
	"check":    checkCommand,
	"trace":    traceCommand,
	"mtu":      mtuCommand,
	"xray":     xrayCommand,
	"exporter": exporterCommand,
}

// called returns what a program called as argv0 is: the name for its messages,
// and its command.
func called(argv0 string) (name string, c *cobra.Command) {
	name = filepath.Base(argv0)
	if link, ok := links[name]; ok {
		return name, asRoot(link())
	}
	return program, rootCommand()
}

// asRoot sets what holds for all commands below c: errors are printed by main,
// as one line, and mistakes in flags are usage errors.
func asRoot(c *cobra.Command) *cobra.Command {
	c.SilenceErrors, c.SilenceUsage = true, true
	c.SetOut(os.Stdout)
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		if r, ok := errors.AsType[refusal](err); ok {
			err = r // pflag's own words would name a value that nobody gave
		}
		return &attach.UsageError{Err: err}
	})
	c.CompletionOptions.DisableDefaultCmd = c.CompletionOptions.DisableDefaultCmd || !c.HasSubCommands()
	return c
}

// mtrPacketCommand takes no flags and looks at no arguments; see cmd/mtr-packet.
func mtrPacketCommand() *cobra.Command {
	return &cobra.Command{Use: mtr.Name, DisableFlagParsing: true, RunE: func(*cobra.Command, []string) error { return mtr.Run() }}
}

// onHost makes a link that takes the place of a program on the host's sockets
// use them, too, unless the environment says where to attach.
func onHost(o *attach.Options) {
	if os.Getenv("TAPSTACK_TAP") == "" && os.Getenv("TAPSTACK_DEV") == "" && os.Getenv("TAPSTACK_NET") == "" {
		o.Net = "host"
	}
}
