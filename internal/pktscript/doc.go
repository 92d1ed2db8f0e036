// Package pktscript runs scripts in the language of packetdrill against a
// stack in this process, in virtual time: system calls are made on package
// socket, segments are put into and taken from an IP-level link, and nothing
// waits, so that a script of a minute runs in a millisecond, the same every
// time and without any privilege.
//
//	script text
//	   | preprocess   #ifdef                              dialect.go
//	   | lex          tokens with their lines             lex.go
//	   | parse        events: packets, calls, commands    parse*.go -> script.go
//	   v
//	runner: one event after the other                     run.go
//	   | time         wait for it, or check it            run.go
//	   | calls        table by name -> socket.FD          calls.go, sockets.go, text.go,
//	   |                                                  sockopt.go, poll.go
//	   | packets      relative -> real numbers -> bytes   packets.go, flow.go, wire.go
//	   |              bytes -> compared with the script   match.go
//	   | commands     sysctl and the like -> stack.Config command.go
//	   | code         assertions on tcp_info              eval.go, expr.go, tcpinfo.go
//	   v
//	link: Ethernet, ARP and ND around the script's IP     link.go
//
// What the language can say and this stack or interpreter does not do ends in
// an Unsupported error with the reason: such a script is skipped, not failed.
//
// The numbers in a script are relative to each side's initial sequence number,
// its timestamps are the script's own, and both are translated as packetdrill
// does. The payload of segments is not zeros as there: byte n of a stream has
// a value that follows from n, so that text that ends up in a wrong place is
// found.
package pktscript
