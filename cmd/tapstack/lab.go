package main

import (
	"cmp"
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/internal/lab"
)

func labCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "lab",
		Short: "Run something in a private network with a bridge and TAP devices",
		Long: `Run something in a private network, which takes no root and touches nothing of
the machine's own: namespaces with a bridge, the Linux kernel on it as a host
(10.77.0.1 and fd77::1), and a device for each stack (tap7, tap8, ...).
Commands in it find TAPSTACK_TAP, TAPSTACK_IP and TAPSTACK_GW set for the first.`,
	}
	run := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARGUMENT...]",
		Short: "Run a command in a lab and exit with its status",
		Example: `  tapstack lab run -- tapstack up --services echo
  tapstack lab run --hosts 2 -- sh -c 'ip -brief addr; ping -c 1 10.77.0.1'`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return attach.Usagef("no command: tapstack lab run -- COMMAND [ARGUMENT...]")
			}
			return nil
		},
	}
	labFlags(run, func(args []string) []string { return args })
	shell := &cobra.Command{
		Use:   "shell",
		Short: "Run a shell in a lab",
		Args:  noArgs,
	}
	labFlags(shell, func([]string) []string { return []string{cmp.Or(os.Getenv("SHELL"), "/bin/sh")} })
	c.AddCommand(run, shell)
	return group(c)
}

// labFlags makes c run what command returns in a lab.
func labFlags(c *cobra.Command, command func(args []string) []string) {
	var o lab.Options
	// Everything from the command on is the command's own.
	c.Flags().SetInterspersed(false)
	c.Flags().IntVar(&o.Hosts, "hosts", 1, "make devices for `N` stacks")
	c.RunE = func(_ *cobra.Command, args []string) error {
		if o.Hosts < 1 || o.Hosts > lab.MaxHosts {
			return attach.Usagef("--hosts %d: want 1 to %d", o.Hosts, lab.MaxHosts)
		}
		status, err := lab.Run(context.Background(), o, command(args))
		if err != nil || status == 0 {
			return err
		}
		return exitStatus(status)
	}
}

// exitStatus is the exit status of a command that has spoken for itself, so
// that nothing is left to be printed.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }
