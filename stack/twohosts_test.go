package stack_test

import (
	"bytes"
	"io"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/stack/simnet"
	"github.com/tapstack/tapstack/tcp"
)

// stream is one direction of a connection, seen by the oracle.
type stream struct {
	from, to *stack.TCPConn
	sent     int // bytes written; the n-th has the value value(n)
	received int
	finished bool // CloseWrite was called
	eof      bool
	failed   bool
}

func value(n int) byte { return byte(n*7 + n>>9) }

// write offers n bytes.
func (s *stream) write(n int) {
	if s.finished {
		return
	}
	b := make([]byte, n)
	for k := range b {
		b[k] = value(s.sent + k)
	}
	n, err := s.from.Write(b)
	s.sent += n
	s.failed = s.failed || err != nil && err != syscall.EAGAIN
}

// read takes up to n bytes and compares them with what was sent.
func (s *stream) read(t *testing.T, n int) {
	if s.to == nil || s.eof {
		return
	}
	b := make([]byte, n)
	n, err := s.to.Read(b)
	for k, v := range b[:n] {
		if v != value(s.received+k) {
			t.Fatalf("byte %d of the stream is %#x, sent was %#x", s.received+k, v, value(s.received+k))
		}
	}
	if s.received += n; s.received > s.sent {
		t.Fatalf("received %d bytes of %d", s.received, s.sent)
	}
	switch err {
	case nil, syscall.EAGAIN:
	case io.EOF:
		if s.failed || s.to.Err() != nil && (s.received < s.sent || !s.finished) {
			s.failed = true // a failure is told once, by a read or a write; then it is the end
			return
		}
		if !s.finished || s.received != s.sent {
			t.Fatalf("end of stream after %d of %d bytes, finished %v, in %v, error %v", s.received, s.sent, s.finished, s.to.State(), s.to.Err())
		}
		s.eof = true
	default:
		s.failed = true
	}
}

// FuzzTwoHosts lets the input choose what a wire does to frames and what the
// applications at both ends do. Whatever it is, each side reads a prefix of
// what the other wrote; and once the wire is in order again and all is
// written, it reads everything, unless the connection has failed meanwhile.
func FuzzTwoHosts(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0, 1, 0x10, 0x21, 0x52, 0x33})
	f.Add([]byte{1, 20, 20, 20, 0, 10, 2, 0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf0, 0xf1, 0xf4, 0xf5, 0x06, 0x07})
	f.Add([]byte{0, 60, 0, 0, 5, 0, 3, 0xf0, 0xf4, 0xf0, 0xf4, 0x08, 0xf4, 0x08, 0xf2, 0x06, 0xf1, 0xf5, 0x07, 0xff})
	f.Add(bytes.Repeat([]byte{3, 30, 30, 30, 30, 30, 255, 0xf0, 0xf1, 0x52, 0x43}, 10))
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) < 7 || len(in) > 400 {
			return
		}
		part := func(b byte) float64 { return float64(b%64) / 160 } // up to 0.4
		how, ops := in[:7], in[7:]
		live := pkt.Live()
		n := simnet.New(uint64(how[6]) + 1)
		o := wire.Options{Loss: part(how[1]), Reorder: part(how[2]), Duplicate: part(how[3]), Corrupt: part(how[4]),
			Delay: time.Duration(how[5]) * time.Millisecond / 4, ReorderBy: 5 * time.Millisecond, MTU: 1500, GSO: how[0]&2 != 0}
		seg := n.Segment(o)
		c := stack.Config{Limits: stack.Limits{TCPReceive: 1 << (12 + how[0]>>2&7), TCPSend: 1 << (12 + how[0]>>5)}}
		a, _ := n.Host(seg, c, nil, "10.77.0.1/24", "fd77::1/64")
		b, _ := n.Host(seg, c, nil, "10.77.0.2/24", "fd77::2/64")
		defer func() {
			a.Close()
			b.Close()
			seg.Close()
			if n := pkt.Live() - live; n != 0 {
				t.Fatalf("%d buffers leaked", n)
			}
		}()
		l, err := b.BindTCP(addrPort("[::]:7"), false, false)
		if err != nil {
			t.Fatal(err)
		}
		l.Listen(1)
		to := addrPort("10.77.0.2:7")
		if how[0]&1 != 0 {
			to = addrPort("[fd77::2]:7")
		}
		conn, err := a.DialTCP(netip.AddrPort{}, to)
		if err != nil {
			t.Fatal(err)
		}
		up, down := &stream{from: conn}, &stream{to: conn}
		accept := func() {
			if up.to == nil {
				if s, err := l.Accept(); err == nil {
					up.to, down.from = s, s
				}
			}
		}
		aborted := false
		for _, op := range ops {
			accept()
			size := 1 << (op >> 4) // 1 byte to 32 KB
			switch op & 15 {
			case 0, 1:
				up.write(size)
			case 2, 3:
				if down.from != nil {
					down.write(size)
				}
			case 4:
				up.read(t, size)
			case 5:
				down.read(t, size)
			case 6:
				// RFC 9293 §3.10.4: closed while connecting, it is gone.
				aborted = aborted || conn.State() == tcp.SynSent
				down.failed = down.failed || aborted
				if conn.CloseWrite() == nil {
					up.finished = true
				}
			case 7:
				if down.from != nil && down.from.CloseWrite() == nil {
					down.finished = true
				}
			case 8:
				n.RunFor(time.Duration(size) * time.Millisecond)
			case 9:
				conn.SetNoDelay(op>>4&1 == 0)
			case 10:
				if op>>4 == 15 {
					conn.Abort()
					aborted, down.failed = true, true
				}
			default:
				n.RunFor(time.Duration(op) * 100 * time.Microsecond)
			}
		}
		// The end: everything is closed and read.
		healthy := how[4]%64 == 0 && o.Loss+o.Duplicate+o.Reorder <= 0.2
		end := n.Now().Add(30 * time.Minute)
		for n.Now() < end && !aborted {
			accept()
			if !up.finished && conn.State() != tcp.SynSent && conn.CloseWrite() == nil {
				up.finished = true
			}
			if down.from != nil && !down.finished && down.from.CloseWrite() == nil {
				down.finished = true
			}
			up.read(t, 1<<16)
			down.read(t, 1<<16)
			if up.eof && down.eof || up.failed || down.failed || conn.State() == tcp.Closed {
				break
			}
			n.RunFor(50 * time.Millisecond)
		}
		up.read(t, 1<<20)
		down.read(t, 1<<20)
		if healthy && !aborted && !(up.eof && down.eof) {
			t.Fatalf("not finished: up %d of %d, down %d of %d, states %v", up.received, up.sent, down.received, down.sent, conn.State())
		}
		conn.Close()
		if up.to != nil {
			up.to.Close()
		}
		l.Close()
		n.RunFor(2 * time.Hour)
		for _, s := range []*stack.Stack{a, b} {
			if e, w := s.Table(); e != 0 || w != 0 {
				t.Fatalf("%d entries left in the table, %d TIME-WAIT", e, w)
			}
		}
	})
}
