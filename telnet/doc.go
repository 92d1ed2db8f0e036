// Package telnet is telnet connections over any net.Conn: of this module's
// stack, of the kernel, of package net, of TLS. Conn is the connection of
// either end, Server and Dialer make them, in the shape of net/http. The
// protocol is in package engine, its options in package option, dialogues in
// package expect.
package telnet
