// Package iperf3 speaks the protocol of the iperf3 program, so that a stack can
// be measured with a tool that nobody here wrote: a server for its client, and
// a client for its server. TCP only; both directions, parallel streams, by time
// or by bytes.
//
// A test has a control connection and one connection for each stream, all to
// the same port; each begins with the same cookie. On the control connection
// the server says in one byte what comes next, and JSON in between (a length of
// four bytes before it) tells what is wanted and what was measured:
//
//	client                                server
//	cookie                          ->
//	                                <-    PARAM_EXCHANGE
//	parameters                      ->
//	                                <-    CREATE_STREAMS
//	a connection with the cookie for each stream
//	                                <-    TEST_START, TEST_RUNNING
//	data, the one way or the other
//	TEST_END                        ->
//	                                <-    EXCHANGE_RESULTS
//	results                         ->
//	                                <-    results, DISPLAY_RESULTS
//	IPERF_DONE                      ->
package iperf3

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"time"

	"github.com/tapstack/tapstack/socket"
)

// Port is where servers listen.
const Port = 5201

// The states of the control connection, with iperf3's numbers.
const (
	testStart       = 1
	testRunning     = 2
	testEnd         = 4
	paramExchange   = 9
	createStreams   = 10
	serverTerminate = 11
	clientTerminate = 12
	exchangeResults = 13
	displayResults  = 14
	iperfDone       = 16
	accessDenied    = 0xff // -1: the server is busy
	serverError     = 0xfe // -2: two numbers follow
)

const (
	cookieLen = 37 // 36 characters and a zero byte
	// maxJSON bounds what the other side may send at once.
	maxJSON = 1 << 20
	// maxStreams is iperf3's own limit.
	maxStreams = 128
	maxBlock   = 1 << 20
	// patience is how long one side waits for the other's next step.
	patience = 10 * time.Second
)

// Params are what a client asks for, with iperf3's names.
type Params struct {
	TCP           bool   `json:"tcp,omitempty"`
	UDP           bool   `json:"udp,omitempty"`
	Seconds       int    `json:"time"`              // 0: by bytes
	Bytes         uint64 `json:"num"`               // 0: by time
	Blocks        uint64 `json:"blockcount"`        // number of writes; 0: not by them
	Streams       int    `json:"parallel"`          // at least 1
	Reverse       bool   `json:"reverse,omitempty"` // the server sends
	Bidirectional bool   `json:"bidirectional,omitempty"`
	Block         int    `json:"len"` // bytes of a write
	ClientVersion string `json:"client_version,omitempty"`
}

// results are what both sides tell each other in the end.
type results struct {
	CPU, CPUUser, CPUSystem float64
	Retransmits             int // 1: the streams tell how many
	Streams                 []StreamResult
}

// MarshalJSON gives results iperf3's names.
func (r results) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{
		"cpu_util_total": r.CPU, "cpu_util_user": r.CPUUser, "cpu_util_system": r.CPUSystem,
		"sender_has_retransmits": r.Retransmits, "streams": r.Streams,
	})
}

// UnmarshalJSON takes what concerns us.
func (r *results) UnmarshalJSON(b []byte) error {
	var v struct {
		Streams []StreamResult `json:"streams"`
	}
	err := json.Unmarshal(b, &v)
	r.Streams = v.Streams
	return err
}

// StreamResult is one stream as one side saw it.
type StreamResult struct {
	ID          int     `json:"id"`
	Bytes       uint64  `json:"bytes"`
	Retransmits float64 `json:"retransmits"` // -1: not known, which iperf3 may write as 2⁶⁴-1
	Jitter      float64 `json:"jitter"`
	Errors      int     `json:"errors"`
	Packets     int     `json:"packets"`
	Start       float64 `json:"start_time"`
	End         float64 `json:"end_time"`
}

// streamID is iperf3's number of the nth stream from 0 on: 1, 3, 4, 5…
func streamID(n int) int {
	if n == 0 {
		return 1
	}
	return n + 2
}

// control is a control connection.
type control struct {
	net.Conn
}

func (c control) expectWithin(d time.Duration) { c.SetReadDeadline(time.Now().Add(d)) }

func (c control) sendState(s byte) error {
	_, err := c.Write([]byte{s})
	return err
}

// state reads the other side's next step.
func (c control) state() (byte, error) {
	var b [1]byte
	_, err := io.ReadFull(c, b[:])
	if err != nil {
		return 0, err
	}
	switch b[0] {
	case accessDenied:
		return 0, fmt.Errorf("the server is busy with another test")
	case serverTerminate:
		return 0, fmt.Errorf("the server has ended the test")
	case clientTerminate:
		return 0, fmt.Errorf("the client has ended the test")
	case serverError:
		return 0, fmt.Errorf("the server reports an error")
	}
	return b[0], nil
}

// await reads the next step, which has to be want.
func (c control) await(want byte) error {
	c.expectWithin(patience)
	got, err := c.state()
	if err == nil && got != want {
		err = fmt.Errorf("state %d came instead of %d", got, want)
	}
	return err
}

func (c control) sendJSON(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	return err
}

func (c control) receiveJSON(v any) error {
	c.expectWithin(patience)
	var n [4]byte
	if _, err := io.ReadFull(c, n[:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(n[:])
	if size > maxJSON {
		return fmt.Errorf("%d bytes of JSON are too many", size)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(c, b); err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// cookie is a new test's name.
func cookie() (c [cookieLen]byte) {
	const letters = "abcdefghijklmnopqrstuvwxyz234567"
	for i := range cookieLen - 1 {
		c[i] = letters[rand.IntN(len(letters))]
	}
	return c
}

func readCookie(c net.Conn) (k [cookieLen]byte, err error) {
	c.SetReadDeadline(time.Now().Add(patience))
	_, err = io.ReadFull(c, k[:])
	c.SetReadDeadline(time.Time{})
	return k, err
}

// stream is one data connection and what went over it.
type stream struct {
	net.Conn
	id    int
	sends bool
	bytes atomic.Uint64
}

// send writes blocks until stop is closed, left has come to 0 (unless it began
// there, for no limit), or the connection breaks.
func (s *stream) send(block int, left *atomic.Int64, limited bool, stop <-chan struct{}) error {
	b := make([]byte, block)
	r := rand.NewChaCha8([32]byte{byte(s.id)})
	r.Read(b)
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		n := len(b)
		if limited {
			after := left.Add(-int64(n))
			if n += int(min(after, 0)); n <= 0 {
				return nil
			}
		}
		n, err := s.Write(b[:n])
		s.bytes.Add(uint64(n))
		if err != nil {
			return err
		}
	}
}

// receive reads until the other side closes, or the deadline that ends a test.
func (s *stream) receive() error {
	b := make([]byte, 256<<10)
	for {
		n, err := s.Read(b)
		s.bytes.Add(uint64(n))
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func resultOf(list []*stream, took time.Duration) results {
	r := results{}
	for _, s := range list {
		x := StreamResult{ID: s.id, Bytes: s.bytes.Load(), Retransmits: -1, End: took.Seconds()}
		if c, ok := s.Conn.(*socket.Conn); ok {
			r.Retransmits = 1
			if tcp := c.FD().Stream(); tcp != nil {
				x.Retransmits = float64(tcp.Info().Retransmits)
			}
		}
		r.Streams = append(r.Streams, x)
	}
	return r
}
