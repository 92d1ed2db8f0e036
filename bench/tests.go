package main

// This file owns what is measured of each peer, and how.

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/internal/csum"
)

// A metric is a number that a test returns.
type metric struct {
	Key   string `json:"key"`
	Title string `json:"title"`
	Unit  string `json:"unit"`
	// Lower: less is better.
	Lower bool `json:"lower_is_better"`
	// Goal is a ratio to the peer To, at least or, with Lower, at most. Bulk
	// has one: what a stack can reach that has a system call for each frame,
	// by the limits of a TAP measured without a stack. The others have none:
	// they contain the cost of a server in Go on both sides.
	Goal float64 `json:"goal,omitempty"`
	To   string  `json:"goal_to,omitempty"`
}

// A test measures one server.
type test struct {
	name    string
	metrics []metric
	run     func(a netip.Addr, l lengths, cc string) ([]float64, error)
}

// lengths are how long a test may measure.
type lengths struct {
	bulk, short time.Duration
	// requests bounds the connections of a round: each takes a port of the
	// client for a minute.
	requests int
	pings    int
}

var (
	fullLengths  = lengths{bulk: time.Second, short: 700 * time.Millisecond, requests: 3000, pings: 300}
	quickLengths = lengths{bulk: 300 * time.Millisecond, short: 250 * time.Millisecond, requests: 1000, pings: 100}
)

var tests = []test{
	{"tcp-in", []metric{{"tcp_in", "TCP bulk to the server (discard)", "MB/s", false, 0.75, "veth-off"}}, bulkIn},
	{"tcp-out", []metric{{"tcp_out", "TCP bulk from the server (chargen)", "MB/s", false, 0.40, "veth-off"}}, bulkOut},
	{"tcp-echo", []metric{
		{"tcp_echo_p50", "TCP echo of 1 byte, median", "µs", true, 0, ""},
		{"tcp_echo_p99", "TCP echo of 1 byte, 99th percentile", "µs", true, 0, ""},
	}, echo},
	{"tcp-connect", []metric{{"tcp_connect", "TCP connect, request, close", "1/s", false, 0, ""}}, connects},
	{"udp-echo", []metric{{"udp_echo", "UDP echo of 64 bytes, 64 in flight", "packets/s", false, 0, ""}}, udpEcho},
	{"ping", []metric{
		{"ping_p50", "ping, median", "µs", true, 0, ""},
		{"ping_p99", "ping, 99th percentile", "µs", true, 0, ""},
	}, ping},
}

func testNames() string {
	var names []string
	for _, t := range tests {
		names = append(names, t.name)
	}
	return strings.Join(names, ", ")
}

// block is what bulk clients read and write at a time.
const block = 256 << 10

// mega is the M of MB/s.
const mega = 1e6

// bulkIn writes for a time and counts what the server has read: its FIN comes
// after the last byte.
func bulkIn(a netip.Addr, l lengths, cc string) ([]float64, error) {
	s, err := dial(netip.AddrPortFrom(a, discardPort), cc)
	if err != nil {
		return nil, err
	}
	defer s.close()
	buf, sent := make([]byte, block), 0
	begin := time.Now()
	for time.Since(begin) < l.bulk {
		n, err := s.write(buf)
		if err != nil {
			return nil, err
		}
		sent += n
	}
	if err := unix.Shutdown(int(s), unix.SHUT_WR); err != nil {
		return nil, os.NewSyscallError("shutdown", err)
	}
	if n, err := s.read(buf); err != nil {
		return nil, err
	} else if n != 0 {
		return nil, errShort
	}
	return []float64{float64(sent) / mega / time.Since(begin).Seconds()}, nil
}

func bulkOut(a netip.Addr, l lengths, cc string) ([]float64, error) {
	s, err := dial(netip.AddrPortFrom(a, chargenPort), cc)
	if err != nil {
		return nil, err
	}
	defer s.close()
	buf, got := make([]byte, block), 0
	begin := time.Now()
	for time.Since(begin) < l.bulk {
		n, err := s.read(buf)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return nil, errShort
		}
		got += n
	}
	return []float64{float64(got) / mega / time.Since(begin).Seconds()}, nil
}

func echo(a netip.Addr, l lengths, cc string) ([]float64, error) {
	s, err := dial(netip.AddrPortFrom(a, echoPort), cc)
	if err != nil {
		return nil, err
	}
	defer s.close()
	var took []time.Duration
	now := time.Now()
	for end := now.Add(l.short); now.Before(end); {
		if err := s.exchange(byte(len(took))); err != nil {
			return nil, err
		}
		then := now
		now = time.Now()
		took = append(took, now.Sub(then))
	}
	return quantiles(took), nil
}

// quantiles returns the median and the 99th percentile in microseconds.
func quantiles(took []time.Duration) []float64 {
	slices.Sort(took)
	at := func(percent int) float64 {
		return float64(took[(len(took)-1)*percent/100].Nanoseconds()) / 1e3
	}
	return []float64{at(50), at(99)}
}

func connects(a netip.Addr, l lengths, cc string) ([]float64, error) {
	n, begin := 0, time.Now()
	for ; n < l.requests && time.Since(begin) < l.bulk; n++ {
		if _, err := request(netip.AddrPortFrom(a, echoPort), cc); err != nil {
			return nil, err
		}
	}
	return []float64{float64(n) / time.Since(begin).Seconds()}, nil
}

const (
	inFlight    = 64
	udpSize     = 64
	udpPatience = 100 * time.Millisecond // then what is missing counts as lost
	udpLosses   = 5                      // so many times
)

var errLost = errors.New("datagrams get lost again and again")

func udpEcho(a netip.Addr, l lengths, _ string) ([]float64, error) {
	s, err := open(unix.SOCK_DGRAM, 0, udpPatience)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if err := s.connect(netip.AddrPortFrom(a, echoPort)); err != nil {
		return nil, err
	}
	var p [udpSize]byte
	var sent, got uint64
	missing, losses := inFlight, 0
	begin := time.Now()
	for time.Since(begin) < l.short {
		for ; missing > 0; missing-- {
			sent++
			binary.BigEndian.PutUint64(p[:], sent)
			if _, err := s.write(p[:]); err != nil {
				return nil, err
			}
		}
		n, err := s.read(p[:])
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			if losses++; losses > udpLosses {
				return nil, errLost
			}
			missing = inFlight
			continue
		case err != nil:
			return nil, err
		case n != udpSize || binary.BigEndian.Uint64(p[:]) > sent:
			return nil, errShort
		}
		got++
		missing = 1
	}
	return []float64{float64(got) / time.Since(begin).Seconds()}, nil
}

const (
	pingHeader   = 8
	pingData     = 56 // as the ping program sends
	pingInterval = time.Millisecond
	pingID       = 0x7461
)

// ping sends echo requests (RFC 792) by a raw socket, one each millisecond, so
// that the other side is asleep when they come.
func ping(a netip.Addr, l lengths, _ string) ([]float64, error) {
	s, err := open(unix.SOCK_RAW, unix.IPPROTO_ICMP, stall)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if err := s.connect(netip.AddrPortFrom(a, 0)); err != nil {
		return nil, err
	}
	var took []time.Duration
	for seq := range uint16(l.pings) {
		request := make([]byte, pingHeader+pingData)
		request[0] = 8
		binary.BigEndian.PutUint16(request[4:], pingID)
		binary.BigEndian.PutUint16(request[6:], seq)
		binary.BigEndian.PutUint16(request[2:], ^csum.Sum(request, 0))
		begin := time.Now()
		if _, err := s.write(request); err != nil {
			return nil, err
		}
		if err := s.awaitReply(seq); err != nil {
			return nil, err
		}
		took = append(took, time.Since(begin))
		time.Sleep(pingInterval)
	}
	return quantiles(took), nil
}

// awaitReply reads packets, each with its IPv4 header, until the echo reply
// with that number is among them.
func (s socket) awaitReply(seq uint16) error {
	var p [256]byte
	for {
		n, err := s.read(p[:])
		if err != nil {
			return err
		}
		headerLen := int(p[0]&15) * 4
		if n < headerLen+pingHeader {
			continue
		}
		m := p[headerLen:n]
		if m[0] == 0 && binary.BigEndian.Uint16(m[4:]) == pingID && binary.BigEndian.Uint16(m[6:]) == seq {
			return nil
		}
	}
}
