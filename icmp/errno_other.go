//go:build !linux

package icmp

import "syscall"

// errNoNet stands in for Linux's ENONET, which other systems lack.
const errNoNet = syscall.EHOSTUNREACH
