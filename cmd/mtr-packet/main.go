// Mtr-packet sends the probes of mtr, and of what else starts a program of that
// name, from a stack of its own: set MTR_PACKET to its path and TAPSTACK_TAP,
// TAPSTACK_IP and TAPSTACK_GW to where and as whom it is to attach. It reads
// commands from standard input and takes no arguments.
package main

import (
	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/internal/mtr"
)

func main() { attach.Exit(mtr.Name, mtr.Run()) }
