package icmp

import "syscall"

// errNoNet is "machine is not on the network".
const errNoNet = syscall.ENONET
