// Package service holds the four small services by which a stack has been
// tried out since 1983: echo (RFC 862), discard (RFC 863), chargen (RFC 864)
// and daytime (RFC 867), each over TCP and over UDP; and telnet (RFC 854) with a
// shell about the session. It knows nothing of the stack but the standard net
// interfaces, so the same code runs over the kernel's sockets, which its tests
// do.
package service

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tapstack/tapstack/telnet"
)

// MaxConns is how many TCP connections one service answers at a time unless
// Service.MaxConns says otherwise. One more is closed at once and counted.
const MaxConns = 1024

// Service is one service ready to run. It may serve any number of listeners
// at once; its limits and counters hold for all of them together.
type Service struct {
	Name string
	Port uint16
	// MaxConns bounds the connections served at a time; set it before Serve.
	MaxConns int

	protocol
	sessions *telnet.Server // of telnet

	now  func() time.Time // the daytime
	intn func(n int) int  // 0..n-1 at random, for the length of a chargen datagram

	active atomic.Int64
	stats  struct{ accepted, refused, answered, ignored, failed atomic.Uint64 }
}

// protocol is what makes one service different from the others.
type protocol struct {
	port uint16
	// stream serves one connection until it has ended, or until it is closed
	// under it. The caller closes it.
	stream func(*Service, net.Conn) error
	// answer returns the datagram that answers request, in or replacing dst,
	// which is empty and has room for any datagram; nil is a service that
	// never answers. It does not keep request.
	answer func(s *Service, dst, request []byte) []byte
	// streamOnly is a service without datagrams.
	streamOnly bool
}

// The registry. Ports are those of the IANA service name registry.
var protocols = map[string]protocol{
	"echo":    {7, (*Service).echo, (*Service).echoDatagram, false},
	"discard": {9, (*Service).discard, nil, false},
	"daytime": {13, (*Service).daytime, (*Service).daytimeDatagram, false},
	"chargen": {19, (*Service).chargen, (*Service).chargenDatagram, false},
	"telnet":  {23, (*Service).telnet, nil, true},
}

// Names lists the services in order of their ports.
func Names() []string {
	names := make([]string, 0, len(protocols))
	for name := range protocols {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return int(protocols[a].port) - int(protocols[b].port) })
	return names
}

// ErrUnknown is wrapped by the error for a name that is not in Names.
var ErrUnknown = errors.New("unknown service")

// New returns the service of that name.
func New(name string) (*Service, error) {
	p, ok := protocols[name]
	if !ok {
		return nil, fmt.Errorf("%w %q (there are %s)", ErrUnknown, name, strings.Join(Names(), ", "))
	}
	return &Service{Name: name, Port: p.port, MaxConns: MaxConns, protocol: p, sessions: newTelnet(), now: time.Now, intn: rand.IntN}, nil
}

// Stats are a service's counters since New.
type Stats struct {
	Active   uint64 // TCP connections being served
	Accepted uint64 // TCP connections served or being served
	Refused  uint64 // TCP connections closed because of MaxConns
	Answered uint64 // datagrams answered, or taken by a service that never answers
	Ignored  uint64 // datagrams dropped by the loop defence
	Failed   uint64 // datagrams whose answer could not be sent
}

// Stats returns the counters.
func (s *Service) Stats() Stats {
	return Stats{
		Active:   uint64(s.active.Load()),
		Accepted: s.stats.accepted.Load(),
		Refused:  s.stats.refused.Load(),
		Answered: s.stats.answered.Load(),
		Ignored:  s.stats.ignored.Load(),
		Failed:   s.stats.failed.Load(),
	}
}
