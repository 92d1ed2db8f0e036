// Package probe asks a network questions and reads its answers: echo requests,
// UDP datagrams, SYNs and SCTP INITs with any TTL, thousands at a time, over a
// stack of one's own. A probe is an entry of a table: it has no socket and no
// goroutine. Sending it, hearing what answers and giving up all happen on the
// stack's own goroutines, so that the same probes run in virtual time.
//
// This file owns what a probe is asked and what it answers. Above it are Ping,
// Trace, Paths and MTU, each a state machine that is driven by results.
package probe

import (
	"errors"
	"net/netip"
	"time"

	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/stack"
)

// Proto is what a probe is made of.
type Proto uint8

// The protocols.
const (
	ICMP Proto = iota // echo request
	UDP
	TCP  // SYN, and a reset to whoever accepts it
	SCTP // INIT
	numProtos
)

var protoNames = [numProtos]string{"icmp", "udp", "tcp", "sctp"}

// String returns the name in small letters.
func (p Proto) String() string {
	if p < numProtos {
		return protoNames[p]
	}
	return "unknown"
}

// ParseProto returns the protocol with a name.
func ParseProto(s string) (Proto, error) {
	for p, name := range protoNames {
		if s == name {
			return Proto(p), nil
		}
	}
	return 0, errors.New("unknown protocol " + s)
}

// Request says what to send. Only Dst has to be set.
type Request struct {
	// Dst is whom to ask; a zone says by which interface. Src is one of the
	// stack's addresses, or invalid: the one that the route chooses.
	Dst, Src netip.Addr
	Proto    Proto
	// DstPort is of UDP, TCP and SCTP. 0: 33434 of UDP, 80 of the others.
	DstPort uint16
	// SrcPort 0: for UDP one that all probes share, for TCP and SCTP one for
	// each probe. Probes with the same ports are told apart by what routers do
	// not look at when they choose a path.
	SrcPort uint16
	// EchoID is the identifier of echo requests, 0 the Prober's own, which
	// counts EchoSeq by itself.
	EchoID, EchoSeq uint16
	// EchoSum, unless 0, is the checksum that an echo request gets, by two
	// bytes of its data: routers take it for ports when they choose a path.
	EchoSum uint16
	TTL     uint8 // TTL or hop limit, 0: 64
	TOS     uint8 // DS field and ECN bits
	// Size is of the whole packet in bytes, with its IP header; less than the
	// headers take is raised to that. 0: 64, and for TCP and SCTP the least.
	// More than that is data in a SYN (RFC 9293 §3.4 allows it) or a padding
	// parameter in an INIT (RFC 4820).
	Size int
	// Pattern fills the data; Payload, if not nil, is the data, whatever Size is.
	Pattern byte
	Payload []byte
	// DF forbids fragments; see stack.ProbeHeader.
	DF        bool
	FlowLabel uint32 // of IPv6, 20 bits
	Device    string // the interface to leave by, "": the route's
	// Timeout is how long to wait for an answer, 0: 10 s.
	Timeout time.Duration
	// Watch is for how long after the result other answers are still wanted:
	// they are told as Duplicate or Late. 0: the first result is the only one,
	// but of probes to groups, of which every answer within Timeout is told.
	Watch time.Duration
	// Retries is how often a SYN or INIT is sent again within Timeout, first
	// after a second and then after twice as long each time (RFC 6298 §5.5), as
	// connect does it. The result says which transmission was answered.
	Retries int
	// Mark is refused, with ErrMark, unless 0: a mark (SO_MARK) never leaves the
	// host that sets it, and what reads it there, rules of routing and packet
	// filters, this stack does not have.
	Mark uint32
	// Within makes the probe a segment of this connection, which need not be the
	// caller's own: see Prober.Adopt. Proto is TCP, addresses and ports are the
	// connection's. TTL, TOS, Timeout and Watch count of the other fields; those
	// that would change the segment have to be 0.
	Within *stack.TCPConn
	// Connect makes a TCP probe complete the handshake before it resets the
	// connection, so that the listener accepts it.
	Connect bool
}

// Kind is what became of a probe.
type Kind uint8

// The kinds, by the names that mtr-packet gave them where it has one.
const (
	// NoReply: nothing came in time.
	NoReply Kind = iota
	// Reply: the destination answered: an echo reply, a datagram, a segment,
	// an INIT-ACK or ABORT, or the ICMP error that it has no such port or protocol.
	Reply
	// TTLExpired: a router tells that the TTL has come to 0.
	TTLExpired
	// NoRouteHost: a router, or the destination, tells by another ICMP error
	// that it will not get there; or with From one of our own addresses that
	// a neighbour does not answer.
	NoRouteHost
	// TooBig: a router tells that the packet is larger than the next link's MTU.
	TooBig
	// ParameterProblem: somebody does not understand the packet's header.
	ParameterProblem
	// The others happen before anything is sent. NoRouteNetwork: there is no
	// route; AddressNotAvailable: Src is not ours; AddressInUse: SrcPort is
	// taken, or another probe has the same identity; NetworkDown: the device
	// has gone; MessageSize: Size is more than the link carries with DF;
	// ProbesExhausted: Options.InFlight are under way; InvalidArgument.
	NoRouteNetwork
	AddressNotAvailable
	AddressInUse
	NetworkDown
	MessageSize
	ProbesExhausted
	InvalidArgument
	// Closed: the Prober, or the stack, was closed.
	Closed
	// UnexpectedError: the device failed, Err says how.
	UnexpectedError
	numKinds
)

var kindNames = [numKinds]string{"no-reply", "reply", "ttl-expired", "no-route-host", "too-big", "parameter-problem",
	"no-route-network", "address-not-available", "address-in-use", "network-down", "message-size", "probes-exhausted", "invalid-argument",
	"closed", "unexpected-error"}

// String returns the name, as "ttl-expired".
func (k Kind) String() string {
	if k < numKinds {
		return kindNames[k]
	}
	return "unknown"
}

// Result is what became of a probe.
type Result struct {
	Kind Kind
	// From is who answered; with a zone where the address is link-local.
	From netip.Addr
	// RTT is the time from the transmission that was answered to the moment at
	// which the answer was read from the device.
	RTT time.Duration
	// Duplicate: the probe had an answer before, of a group by anybody. Late:
	// Timeout was over.
	Duplicate, Late bool
	// Transmissions counts those sent, Answered says which one the answer is
	// to, from 1, as far as can be told: the latest, unless TCP's timestamps say
	// another.
	Transmissions, Answered int
	// Sent is when each of them left, from the first on; nil when there was one.
	Sent []time.Duration

	// ICMP says that ICMPType and ICMPCode are those of the answer.
	ICMP               bool
	ICMPType, ICMPCode uint8
	MTU                int // of TooBig: the next link's, 0 from old routers
	// ReplyTTL and ReplyTOS are of the answer's IP header, ReplySize is its
	// length in bytes without that header.
	ReplyTTL, ReplyTOS uint8
	ReplySize          int
	// Extensions are what a router adds to its error.
	Extensions icmp.Extensions
	// BadExtensions is why some of them were not read.
	BadExtensions icmp.ExtensionError
	// Quoted is what an ICMP error shows of the packet, when it got there.
	Quoted *Quoted
	// CorruptAt is where the data of an echo reply is not what was sent, or -1.
	CorruptAt int
	TCP       *TCPReply
	SCTP      *SCTPReply
	// Guessed: it is not certain that this answers the probe. Within a connection
	// whose peer has no SACK no other waited; of datagrams, whose answers need not
	// say which they are to, others of the same flow did.
	Guessed bool
	// Data is what a UDP answer says.
	Data []byte
	// Err says more of kinds that are no answer.
	Err error
}

// Success reports whether the destination answered.
func (r *Result) Success() bool { return r.Kind == Reply }

// TCPReply is the segment that answered a SYN.
type TCPReply struct {
	SynAck, Reset bool
	Flags         uint8 // of the header
	Window        uint16
	MSS           int // 0: not said
	WindowScale   int // -1: not said
	SACK          bool
	Timestamps    bool
	ECE           bool
	Seq, Ack      uint32
}

// SCTPReply is the chunk that answered an INIT.
type SCTPReply struct {
	InitAck, Abort bool
	Streams        uint16 // outbound, of an INIT-ACK
	Window         uint32
}

// Errors of calls that wait.
var (
	ErrClosed = errors.New("probe: closed")
	// ErrExhausted: Options.InFlight probes are under way.
	ErrExhausted = errors.New("probe: too many probes under way")
	// ErrMark: Request.Mark.
	ErrMark = errors.New("probe: nothing in this stack reads marks")
)
