package stack

import (
	"time"

	"github.com/tapstack/tapstack/internal/pkt"
)

// Limits bounds everything that traffic can make grow. All of them live here
// so that the memory a stack may take can be read off one page; a zero field
// takes its default. Reaching a limit is counted under the name given.
type Limits struct {
	// Memory is the most bytes that traffic can make the stack hold in all:
	// stack/memory.go says what counts, and what does not. From three
	// quarters on windows and buffers grow no more and shrink, from seven
	// eighths nothing grows, and at the limit nothing new is begun; only the
	// first 4 KB of each buffer of a connection that exists are never
	// refused. Default 1 GiB.
	//
	// The default is a number, where Linux takes a share of the machine's
	// memory (tcp_mem, 9 %): a stack is part of a program, which may run in
	// a container or beside others and needs memory for itself, and what it
	// does should not depend on the machine. 1 GiB is that share on a machine
	// of 12 GB. Go's heap may be twice what is in use before garbage is
	// collected, unless GOMEMLIMIT says less.
	// (tcp.drop.memory, udp.drop.memory, ipv4.drop.memory, loop.drop.memory)
	Memory int
	// Connections is the most TCP connections, half-open and TIME-WAIT
	// records in the table together. Default 262144. (tcp.drop.memory)
	Connections int
	// TimeWait is the most TIME-WAIT records; beyond it the oldest goes
	// early, as Linux's tcp_max_tw_buckets. Default 65536.
	TimeWait int
	// SynQueue is the most half-open connections of one listener, however
	// large its backlog. Default 1024. (tcp.drop.syn-queue-full)
	SynQueue int
	// Backlog caps the backlog given to listen, as Linux's somaxconn.
	// Default 4096. (tcp.drop.listen-overflow)
	Backlog int
	// Orphans is the most connections that their applications have closed and
	// that are not over; one more is reset instead, as with Linux's
	// tcp_max_orphans. Default half of Connections. (tcp.orphan-limit)
	Orphans int
	// TCPReceive and TCPSend are the largest rings of one connection in
	// bytes. Defaults 6 MiB and 4 MiB, Linux's tcp_rmem[2] and tcp_wmem[2].
	// Beside them a connection has at most 16 KB of ranges out of order and
	// 256 KB of ranges in flight (tcp.maxRanges, tcp.maxSplitRanges).
	TCPReceive, TCPSend int
	// TCPReceiveInitial and TCPSendInitial are how large the rings may be
	// until use makes them grow (tcp/autotune.go): what a peer can make us
	// hold before it has shown that it and our application go on. Defaults
	// 64 KiB and 128 KiB.
	TCPReceiveInitial, TCPSendInitial int
	// DatagramReceive is the most bytes waiting in one UDP, ping, raw or packet
	// socket; beyond it datagrams are dropped. Default 212992, Linux's
	// rmem_default. (udp.drop.receive-queue-full, and of ping, raw and packet)
	DatagramReceive int
	// Neighbours is the most entries of one interface's neighbour cache and
	// family. Default 1024, Linux's gc_thresh3.
	Neighbours int
	// NeighbourQueue is the most frames waiting for one neighbour's address.
	// Default 64, and 208 KB in all; a larger number makes room for as many
	// frames of up to 2 KB. NeighbourBytes bounds what waits for all neighbours
	// of one interface and family. Default 4 MiB, or as much as NeighbourQueue
	// takes, but at most a sixteenth of Memory.
	NeighbourQueue, NeighbourBytes int
	// FragmentBytes is the memory of one interface's reassembly per family,
	// FragmentBytesPerSource the part that one source may take. Defaults
	// 4 MiB (Linux's ipfrag_high_thresh) and 1 MiB, or a sixteenth of Memory.
	FragmentBytes, FragmentBytesPerSource int
	// Addresses is the most addresses of one interface, so that router
	// advertisements cannot add without end. Default 64; Linux's
	// ipv6.conf.max_addresses is 16.
	Addresses int
	// Routes is the most routes of the stack. Default 4096.
	Routes int
	// PathMTU is the most destinations of which a path MTU or a redirect is
	// remembered. Default 4096; the oldest is forgotten first.
	PathMTU int
	// FastOpen is the most servers whose cookie, or whose dislike of text in
	// the SYN, is remembered. Default 1024; what was not heard of for longest
	// is forgotten first.
	FastOpen int
	// LoopbackFrames is the most frames waiting on the loopback interface.
	// Default 4096. (loop.drop.queue-full)
	LoopbackFrames int
	// ICMPErrorsPerSecond and ICMPErrorBurst are the token bucket of ICMP
	// errors sent, as Linux's icmp_msgs_per_sec and
	// icmp_msgs_burst. Defaults 1000 and 50.
	ICMPErrorsPerSecond, ICMPErrorBurst int
	// ICMPErrorInterval is how long after one ICMP error the next may go to the
	// same destination, on average; 6 may go at once. Default 1 s, as Linux's
	// icmp_ratelimit; of IPv6 a quarter of it on the link and a sixteenth beyond,
	// as with Linux's routes of 64 and 0 bits. Below 0: no such limit. 4096
	// destinations are remembered.
	ICMPErrorInterval time.Duration
}

func (l *Limits) setDefaults() {
	set := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	set(&l.Memory, 1<<30)
	set(&l.Connections, 262144)
	set(&l.TimeWait, 65536)
	set(&l.SynQueue, 1024)
	set(&l.Backlog, 4096)
	set(&l.Orphans, max(l.Connections/2, 1))
	set(&l.TCPReceive, 6<<20)
	set(&l.TCPSend, 4<<20)
	set(&l.TCPReceiveInitial, 64<<10)
	set(&l.TCPSendInitial, 128<<10)
	set(&l.DatagramReceive, 212992)
	set(&l.Neighbours, 1024)
	set(&l.NeighbourQueue, 64)
	set(&l.NeighbourBytes, min(max(4<<20, l.NeighbourQueue*pkt.SmallSlab), l.Memory/16))
	set(&l.FragmentBytes, min(4<<20, l.Memory/16))
	set(&l.FragmentBytesPerSource, min(1<<20, l.Memory/16))
	set(&l.Addresses, 64)
	set(&l.Routes, 4096)
	set(&l.PathMTU, 4096)
	set(&l.FastOpen, 1024)
	set(&l.LoopbackFrames, 4096)
	set(&l.ICMPErrorsPerSecond, 1000)
	set(&l.ICMPErrorBurst, 50)
	if l.ICMPErrorInterval == 0 {
		l.ICMPErrorInterval = time.Second
	}
}
