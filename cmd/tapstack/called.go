package main

// This file owns the names that the program goes by: a link to it that is
// called as another program acts as that one.

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/tapstack/tapstack/internal/attach"
)

// links are the commands of those names. Any other name, and so a copy of the
// program under one of its own, is the tree of commands.
var links = map[string]func() *cobra.Command{
	"ping":      pingCommand,
	"pyminitcp": pyminitcpCommand,
	"telnet":    telnetLink,
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
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &attach.UsageError{Err: err} })
	c.CompletionOptions.DisableDefaultCmd = c.CompletionOptions.DisableDefaultCmd || !c.HasSubCommands()
	return c
}
