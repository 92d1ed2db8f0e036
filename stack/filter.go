package stack

// This file owns what a packet filter of a socket is to the stack. What makes
// one of a program, and checks it, is package socket: the stack only asks.

// Filter decides about a packet before it is queued to a socket: how many bytes
// of it are kept, 0 for none, more than there are for all. It borrows b, is
// called from any goroutine with locks held, and must neither block nor call
// the stack.
//
// What b is depends on the socket, as on Linux: the frame for a raw packet
// socket, the packet from its network header on for a cooked one and for raw
// IPv4, from its transport header on for all others.
type Filter func(b []byte) int
