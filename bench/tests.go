package main

// This file owns what is measured of each peer, and how.

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
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
	Lower bool   `json:"lower_is_better"`
	Goals []goal `json:"goals,omitempty"`
}

// A goal is a bound for a metric of the peer Of, at least or, where less is
// better, at most: as a ratio to the peer To or, without one, in the unit of
// the metric. Stretch is what is really wanted; 0 for none.
type goal struct {
	Of      string  `json:"of"`
	To      string  `json:"to,omitempty"`
	Bound   float64 `json:"bound"`
	Stretch float64 `json:"stretch,omitempty"`
	Met     string  `json:"met,omitempty"` // "yes" or "no", by the median
}

// A test measures one server.
type test struct {
	name    string
	metrics []metric
	run     func(p peer, l lengths, cc string) ([]float64, error)
	// on says which peers to measure; nil means those that attach in a way
	// of their own, without gVisor's software segmentation.
	on func(name string) bool
	// rounds bounds the rounds in which it runs; 0 for all.
	rounds int
}

// lengths are how long a test may measure.
type lengths struct {
	bulk, short time.Duration
	// lossy and far are for a path that loses, without and with delay.
	lossy, far time.Duration
	// requests bounds the connections of a round: each takes a port of the
	// client for a minute.
	requests int
	pings    int
	// idle is how many connections are weighed, and rest how long they have
	// been idle then: ours give memory back after 10 s.
	idle int
	rest time.Duration
}

var (
	fullLengths = lengths{
		bulk: 800 * time.Millisecond, short: 500 * time.Millisecond,
		lossy: 1200 * time.Millisecond, far: 2500 * time.Millisecond, requests: 3000, pings: 100, idle: 10000, rest: 12 * time.Second,
	}
	quickLengths = lengths{
		bulk: 200 * time.Millisecond, short: 150 * time.Millisecond,
		lossy: 400 * time.Millisecond, far: 800 * time.Millisecond, requests: 500, pings: 40, idle: 2000,
	}
)

// The names of peers that goals speak of.
const (
	ours      = "tapstack"
	oursPlain = "tapstack-plain"
	veth      = "veth"
	vethOff   = "veth-off"
)

func everyone(string) bool { return true }

// one of each stack, where the way it is attached makes no difference.
func oneOfEach(name string) bool { return name == ours || name == gvisorTAP || name == vethOff }

// userspace stacks, whose memory is that of their process.
func userspace(name string) bool { return name == ours || name == gvisorTAP }

var tests = []test{
	{name: "tcp-in", on: everyone, run: bulkIn, metrics: []metric{
		{"tcp_in", "TCP bulk to the server", "MB/s", false, []goal{
			{Of: ours, To: gvisorPacket, Bound: 1.6, Stretch: 2}, {Of: ours, To: gvisorTAP, Bound: 12},
			{Of: ours, To: veth, Bound: 0.7, Stretch: 0.9}, {Of: oursPlain, To: gvisorTAP, Bound: 4},
		}},
		{"tcp_in_cpu", "its cost, client and server together", "CPU s/GB", true, nil},
	}},
	{name: "tcp-out", on: everyone, run: bulkOut, metrics: []metric{
		{"tcp_out", "TCP bulk from the server", "MB/s", false, []goal{
			{Of: ours, To: gvisorPacket, Bound: 2, Stretch: 2.6}, {Of: ours, To: veth, Bound: 0.65, Stretch: 0.9},
			{Of: oursPlain, To: gvisorSW, Bound: 2},
		}},
		{"tcp_out_cpu", "its cost, client and server together", "CPU s/GB", true, nil},
	}},
	{name: "tcp-in-8", run: bulkIn8, metrics: []metric{
		{"tcp_in_8", "TCP bulk to the server, 8 streams", "MB/s", false, []goal{{Of: ours, To: gvisorPacket, Bound: 1.5}}},
	}},
	{name: "tcp-out-8", run: bulkOut8, metrics: []metric{
		{"tcp_out_8", "TCP bulk from the server, 8 streams", "MB/s", false, []goal{{Of: ours, To: gvisorPacket, Bound: 2.5}}},
	}},
	{name: "tcp-echo", run: echo(1), metrics: []metric{
		{"tcp_echo_p50", "TCP echo of 1 byte, median", "µs", true, []goal{
			{Of: ours, To: gvisorTAP, Bound: 0.4}, {Of: ours, To: veth, Bound: 1.25, Stretch: 1},
		}},
		{"tcp_echo_p99", "TCP echo of 1 byte, 99th percentile", "µs", true, []goal{{Of: ours, To: gvisorTAP, Bound: 0.45}}},
	}},
	{name: "tcp-echo-1k", run: echo(1 << 10), metrics: []metric{
		{"tcp_echo_1k_p50", "TCP echo of 1 KiB, median", "µs", true, nil},
		{"tcp_echo_1k_p99", "TCP echo of 1 KiB, 99th percentile", "µs", true, nil},
	}},
	{name: "tcp-echo-busy", run: echoBusy, metrics: []metric{
		{"tcp_echo_busy_p99", "TCP echo of 1 byte beside a bulk stream, 99th percentile", "µs", true, []goal{{Of: ours, Bound: 2000}}},
	}},
	{name: "tcp-connect", run: connects, metrics: []metric{
		{"tcp_connect", "TCP connect, request, close", "1/s", false, []goal{
			{Of: ours, To: gvisorTAP, Bound: 3}, {Of: ours, To: veth, Bound: 0.65},
		}},
	}},
	{name: "udp-echo", run: udpEcho, metrics: []metric{
		{"udp_echo", "UDP echo of 64 bytes, 64 in flight", "packets/s", false, []goal{
			{Of: ours, To: gvisorTAP, Bound: 4}, {Of: ours, To: veth, Bound: 1},
		}},
	}},
	{name: "ping", run: ping, metrics: []metric{
		{"ping_p50", "ping, median", "µs", true, nil},
		{"ping_p99", "ping, 99th percentile", "µs", true, nil},
	}},
	{name: "loss-out", on: oneOfEach, run: lossOut, metrics: []metric{
		{"loss_out", "goodput from the server at 1 % loss", "MB/s", false, []goal{{Of: ours, To: gvisorTAP, Bound: 10}}},
		{"loss_out_stall", "the longest standstill in it", "ms", true, []goal{{Of: ours, Bound: 1000}}},
	}},
	{name: "loss-in", on: oneOfEach, run: lossIn, metrics: []metric{
		{"loss_in", "goodput to the server at 1 % loss", "MB/s", false, nil},
	}},
	{name: "loss-far", on: oneOfEach, run: lossFar, metrics: []metric{
		{"loss_far", "goodput from the server at 1 % loss and 40 ms round trip", "MB/s", false, []goal{{Of: ours, To: gvisorTAP, Bound: 1}}},
	}},
	{name: "memory", on: userspace, rounds: 3, run: memory, metrics: []metric{
		{"open", "connections opened, one after the other, and kept", "1/s", false, []goal{{Of: ours, To: gvisorTAP, Bound: 2}}},
		{"idle_bytes", "memory for each of them, idle for 12 s", "bytes", true, []goal{
			{Of: ours, To: gvisorTAP, Bound: 0.5}, {Of: ours, Bound: 1000},
		}},
		{"timewait_bytes", "memory for each in TIME-WAIT", "bytes", true, []goal{{Of: ours, Bound: 200}}},
	}},
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

// A stream moves bytes over a connection for a time and returns how many it
// were and how long it took.
type stream struct {
	port uint16
	run  func(s socket, length time.Duration) (n int, took time.Duration, err error)
}

var (
	in  = stream{discardPort, streamIn}
	out = stream{chargenPort, streamOut}
)

// bulkIn measures one stream, and what both ends of it cost.
func bulkIn(p peer, l lengths, cc string) ([]float64, error) { return in.costed(p, l, cc) }

func bulkOut(p peer, l lengths, cc string) ([]float64, error) { return out.costed(p, l, cc) }

func (x stream) costed(p peer, l lengths, cc string) ([]float64, error) {
	s, err := dial(netip.AddrPortFrom(p.addr(), x.port), cc)
	if err != nil {
		return nil, err
	}
	defer s.close()
	used := func() time.Duration { return cpuTime(p.pid()) + cpuTime(os.Getpid()) }
	before := used()
	n, took, err := x.run(s, l.bulk)
	if err != nil {
		return nil, err
	}
	const giga = 1e9
	return []float64{float64(n) / mega / took.Seconds(), (used() - before).Seconds() / (float64(n) / giga)}, nil
}

const streams = 8

func bulkIn8(p peer, l lengths, cc string) ([]float64, error) { return in.several(p, l, cc) }

func bulkOut8(p peer, l lengths, cc string) ([]float64, error) { return out.several(p, l, cc) }

// several runs streams side by side. Their sum is that of their rates, as they
// need not end at the same moment.
func (x stream) several(p peer, l lengths, cc string) ([]float64, error) {
	defer threads(streams)()
	rates, errs := make([]float64, streams), make([]error, streams)
	var open []socket
	for range streams {
		s, err := dial(netip.AddrPortFrom(p.addr(), x.port), cc)
		if err != nil {
			return nil, err
		}
		defer s.close()
		open = append(open, s)
	}
	var all sync.WaitGroup
	for i, s := range open {
		all.Go(func() {
			n, took, err := x.run(s, l.bulk)
			rates[i], errs[i] = float64(n)/mega/took.Seconds(), err
		})
	}
	all.Wait()
	sum := 0.0
	for _, r := range rates {
		sum += r
	}
	return []float64{sum}, errors.Join(errs...)
}

// threads lets n goroutines block in system calls of which the scheduler knows
// nothing, beside this one, until the returned function is called.
func threads(n int) (done func()) {
	old := runtime.GOMAXPROCS(runtime.NumCPU() + n)
	return func() { runtime.GOMAXPROCS(old) }
}

// streamIn writes for a time and counts what the server has read: its FIN comes
// after the last byte.
func streamIn(s socket, length time.Duration) (sent int, took time.Duration, err error) {
	buf := make([]byte, block)
	begin := time.Now()
	for time.Since(begin) < length {
		n, err := s.write(buf)
		if err != nil {
			return 0, 0, err
		}
		sent += n
	}
	if err := unix.Shutdown(int(s), unix.SHUT_WR); err != nil {
		return 0, 0, os.NewSyscallError("shutdown", err)
	}
	if n, err := s.read(buf); err != nil {
		return 0, 0, err
	} else if n != 0 {
		return 0, 0, errShort
	}
	return sent, time.Since(begin), nil
}

func streamOut(s socket, length time.Duration) (got int, took time.Duration, err error) {
	buf := make([]byte, block)
	begin := time.Now()
	for time.Since(begin) < length {
		n, err := s.read(buf)
		if err != nil {
			return 0, 0, err
		}
		if n == 0 {
			return 0, 0, errShort
		}
		got += n
	}
	return got, time.Since(begin), nil
}

// echo returns a test that has messages of a size echoed, one after the other.
func echo(size int) func(peer, lengths, string) ([]float64, error) {
	return func(p peer, l lengths, cc string) ([]float64, error) { return echoes(p, l.short, size, cc) }
}

func echoes(p peer, length time.Duration, size int, cc string) ([]float64, error) {
	s, err := dial(netip.AddrPortFrom(p.addr(), echoPort), cc)
	if err != nil {
		return nil, err
	}
	defer s.close()
	var took []time.Duration
	message := make([]byte, size)
	now := time.Now()
	for end := now.Add(length); now.Before(end); {
		if err := s.exchange(message); err != nil {
			return nil, err
		}
		then := now
		now = time.Now()
		took = append(took, now.Sub(then))
	}
	return quantiles(took), nil
}

// echoBusy has bytes echoed while a stream goes to the same server.
func echoBusy(p peer, l lengths, cc string) ([]float64, error) {
	defer threads(1)()
	s, err := dial(netip.AddrPortFrom(p.addr(), discardPort), cc)
	if err != nil {
		return nil, err
	}
	defer s.close()
	var busy sync.WaitGroup
	var failed error
	busy.Go(func() { _, _, failed = streamIn(s, l.short) })
	// The stream's first and last milliseconds are left out.
	time.Sleep(l.short / 10)
	q, err := echoes(p, l.short*8/10, 1, cc)
	busy.Wait()
	if err = errors.Join(err, failed); err != nil {
		return nil, err
	}
	return q[1:], nil
}

// quantiles returns the median and the 99th percentile in microseconds.
func quantiles(took []time.Duration) []float64 {
	slices.Sort(took)
	at := func(percent int) float64 {
		return float64(took[(len(took)-1)*percent/100].Nanoseconds()) / 1e3
	}
	return []float64{at(50), at(99)}
}

func connects(p peer, l lengths, cc string) ([]float64, error) {
	n, begin := 0, time.Now()
	for ; n < l.requests && time.Since(begin) < l.bulk; n++ {
		if _, err := request(netip.AddrPortFrom(p.addr(), echoPort), cc); err != nil {
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

func udpEcho(p peer, l lengths, _ string) ([]float64, error) {
	s, err := open(unix.SOCK_DGRAM, 0, udpPatience)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if err := s.connect(netip.AddrPortFrom(p.addr(), echoPort)); err != nil {
		return nil, err
	}
	var datagram [udpSize]byte
	var sent, got uint64
	missing, losses := inFlight, 0
	begin := time.Now()
	for time.Since(begin) < l.short {
		for ; missing > 0; missing-- {
			sent++
			binary.BigEndian.PutUint64(datagram[:], sent)
			if _, err := s.write(datagram[:]); err != nil {
				return nil, err
			}
		}
		n, err := s.read(datagram[:])
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			if losses++; losses > udpLosses {
				return nil, errLost
			}
			missing = inFlight
			continue
		case err != nil:
			return nil, err
		case n != udpSize || binary.BigEndian.Uint64(datagram[:]) > sent:
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
func ping(p peer, l lengths, _ string) ([]float64, error) {
	s, err := open(unix.SOCK_RAW, unix.IPPROTO_ICMP, stall)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if err := s.connect(netip.AddrPortFrom(p.addr(), 0)); err != nil {
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
