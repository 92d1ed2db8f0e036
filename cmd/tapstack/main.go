// Tapstack runs a TCP/IP stack of its own beside the kernel's: on a TAP device
// or packet socket, with a few services to talk to, and in a private lab where
// nothing can go wrong.
package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/internal/lab"
)

const program = "tapstack"

func main() {
	lab.Init() // a process inside a lab takes another way from here
	name, command := called(os.Args[0])
	err := command.Execute()
	if status, ok := errors.AsType[exitStatus](err); ok {
		os.Exit(int(status))
	}
	attach.Exit(name, err)
}

// rootCommand is the tree of commands. What they return decides the exit
// status: 2 for an attach.UsageError, the status itself for an exitStatus, 1
// for anything else.
func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   program,
		Short: "A TCP/IP stack in user space",
	}
	asRoot(root)
	root.AddCommand(checkCommand(), upCommand(), telnetCommand(), demoCommand(), labCommand(), pingCommand(), traceCommand(), versionCommand())
	root.AddCommand(telnetdCommand(), telnetFingerprintCommand(), exporterCommand())
	root.AddCommand(mtuCommand(), xrayCommand(), hostCommand(), ncCommand())
	return group(root)
}

// group makes a command that only has subcommands: by itself it shows its
// help, and anything else after it is a mistake.
func group(c *cobra.Command) *cobra.Command {
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return attach.Usagef("unknown command %q; `%s --help` lists them", args[0], c.CommandPath())
		}
		return nil
	}
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	return c
}

// noArgs refuses arguments.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return attach.Usagef("unexpected argument %q; `%s --help` tells the usage", args[0], c.CommandPath())
	}
	return nil
}
