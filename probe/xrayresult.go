package probe

import (
	"net/netip"
	"time"
)

// This file owns what an x-ray tells. Times in JSON are nanoseconds.

// Verdicts of an x-ray.
const (
	XRayOpen        = "open"
	XRayClosed      = "closed"       // a reset
	XRayRejected    = "rejected"     // an ICMP error
	XRayFiltered    = "filtered"     // nothing
	XRayNoNeighbour = "no-neighbour" // the next hop does not answer
)

// XRayResult is what was seen of a port.
type XRayResult struct {
	Verdict string         `json:"verdict"`
	Target  netip.AddrPort `json:"target"`
	Source  netip.Addr     `json:"source"`
	// Diagnosis is what follows from all this, in sentences.
	Diagnosis string `json:"diagnosis"`
	// ICMP is the error that a SYN got.
	ICMP *XRayError `json:"icmp,omitempty"`
	// SYNs is how many were sent to the first port until one was answered,
	// Answered which one was, RTT its round trip.
	SYNs     int           `json:"syns"`
	Answered int           `json:"answered"`
	RTT      time.Duration `json:"rtt_ns"`
	LinkMTU  int           `json:"link_mtu"`
	PathMTU  int           `json:"path_mtu"` // as far as routers have said
	Hops     XRayHops      `json:"hops"`

	// The fields from here on are of an open port; nil: it was not seen.
	SynAck    *XRaySynAck   `json:"syn_ack,omitempty"`
	Repeats   *XRayRepeats  `json:"repeats,omitempty"`
	ISN       *XRayNumbers  `json:"isn,omitempty"`
	PortISN   *XRayNumbers  `json:"isn_same_port,omitempty"` // of connections from one port
	Stamps    *XRayStamps   `json:"timestamps,omitempty"`
	IPID      *XRayNumbers  `json:"ip_id,omitempty"` // of SYN-ACKs over IPv4
	ECN       *XRayECN      `json:"ecn,omitempty"`
	FastOpen  *XRayFastOpen `json:"fast_open,omitempty"`
	Windows   []XRayWindow  `json:"windows"`
	Close     *XRayClose    `json:"close,omitempty"`
	Stray     *XRayStray    `json:"stray_ack,omitempty"`
	Conns     []XRayConn    `json:"connections"`
	Err       error         `json:"-"` // why less was seen, or nothing
	ErrorText string        `json:"error,omitempty"`
}

// XRayHops is a guess of how far the peer is.
type XRayHops struct {
	TTL     int `json:"ttl"`     // of the answer
	Initial int `json:"initial"` // 32, 64, 128 or 255: the next above
	Hops    int `json:"hops"`    // routers between, if that is so
	// OtherTTLs are of other answers from the same address, that differ:
	// somebody answers in its place, or packets take several ways.
	OtherTTLs []int `json:"other_ttls,omitempty"`
}

// XRaySynAck is the answer to a SYN with the options of Linux.
type XRaySynAck struct {
	Options     []string `json:"options"` // in their order
	MSS         int      `json:"mss"`     // 0: not said
	WindowScale int      `json:"wscale"`  // -1: not said
	SACK        bool     `json:"sack"`
	Timestamps  bool     `json:"timestamps"`
	Window      int      `json:"window"` // never scaled (RFC 7323 §2.2)
	DF          bool     `json:"df"`
	ECN         int      `json:"ecn"` // of its IP header
	// Unasked are the options that answer a SYN without any, but MSS.
	Unasked []string `json:"unasked,omitempty"`
	// Order is whose order that is, as far as known: "linux", "bsd", "windows", "".
	Order string `json:"order"`
}

// XRayRepeats is what becomes of a SYN-ACK that is not acknowledged.
type XRayRepeats struct {
	Watched time.Duration `json:"watched_ns"`
	// After are the instants of those that were sent again, from the first on.
	After []time.Duration `json:"after_ns"`
	// Reset: the peer gave up with a reset.
	Reset bool `json:"reset"`
}

// Kinds of numbers.
const (
	NumbersZero     = "zero"
	NumbersConstant = "constant"
	NumbersStep     = "step"   // each is larger by Step
	NumbersClock    = "clock"  // they go on at Rate, for all connections
	NumbersRising   = "rising" // by little, but not evenly
	NumbersRandom   = "random"
)

// XRayNumbers is how a number goes on from one connection to the next.
type XRayNumbers struct {
	Kind   string   `json:"kind"`
	Step   int64    `json:"step,omitempty"`
	Rate   float64  `json:"rate_hz,omitempty"`
	Values []uint32 `json:"values"`
}

// Kinds of timestamps.
const (
	StampsConstant   = "constant"
	StampsOneClock   = "one-clock"      // all connections share it
	StampsConnection = "per-connection" // each has its own offset
)

// XRayStamps is the clock of the peer's timestamps.
type XRayStamps struct {
	Kind string  `json:"kind"`
	Hz   float64 `json:"hz"` // 0: not known
	// Up is for how long a clock that began with 0 has been running. Whoever
	// begins elsewhere, as Linux unless tcp_timestamps is 2, has it random.
	Up     time.Duration `json:"up_ns,omitempty"`
	Values []uint32      `json:"values"`
}

// XRayECN is what is agreed to about congestion marks.
type XRayECN struct {
	Classic bool `json:"classic"` // RFC 3168
	// AccECN answers a SYN with all three bits: "accecn", "classic", "nonce", "no"
	// or "reflected" (broken: the SYN's own flags), "" without an answer.
	AccECN string `json:"accecn"`
}

// XRayFastOpen is what answers a request for a cookie.
type XRayFastOpen struct {
	Cookie int `json:"cookie"` // its length in bytes, 0: none
}

// XRayWindow is a flight of data that was not acknowledged.
type XRayWindow struct {
	MSS     int `json:"mss"` // that was announced to the peer
	Segment int `json:"segment"`
	Bytes   int `json:"bytes"`
	// Segments is the initial window if Limited: more came once the flight was
	// acknowledged. Otherwise it is at least that much.
	Segments int  `json:"segments"`
	Limited  bool `json:"limited"`
	Ended    bool `json:"ended"` // with a FIN
	// Took is from the first byte to the last, Repeat from there to when
	// something came again, 0: nothing did.
	Took    time.Duration `json:"took_ns"`
	Repeat  time.Duration `json:"repeat_ns"`
	Answer  time.Duration `json:"answer_ns"` // from the request to the first byte
	Refused bool          `json:"reset"`     // by the peer
}

// XRayClose is a connection that we end.
type XRayClose struct {
	// Greeting is what the peer says first, within a second.
	Greeting string `json:"greeting,omitempty"`
	// Acked is after how long our FIN was acknowledged, 0: it was not; Ended
	// likewise when the peer ended its side.
	Acked time.Duration `json:"acked_ns"`
	Ended time.Duration `json:"ended_ns"`
	Reset bool          `json:"reset"`
	// First: the peer ended it before we did.
	First bool `json:"first"`
}

// XRayStray is what answers an ACK of no connection: a host has a reset (RFC 9293
// §3.10.7.2), a firewall that keeps states silence.
type XRayStray struct {
	Reset bool `json:"reset"`
	TTL   int  `json:"ttl,omitempty"`
}
