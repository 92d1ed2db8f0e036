package stack_test

import (
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/stack/simnet"
	"github.com/tapstack/tapstack/tcp"
	"github.com/tapstack/tapstack/tcp/cc"
)

// download is a server's stream of n bytes to a client that reads all of it.
type download struct {
	client, server *stack.TCPConn
	got            int
	more           func(n int) // lets the server send n bytes more
}

// startDownload connects client to server's port 80, which sends n bytes.
func startDownload(t *testing.T, net *simnet.Net, client, server *stack.Stack, to string, n int) *download {
	t.Helper()
	d := new(download)
	l, err := server.BindTCP(addrPort("[::]:80"), false, false)
	if err == nil {
		err = l.Listen(10)
	}
	if err != nil {
		t.Fatal(err)
	}
	onReady(l.Waiters(), stack.ReadyIn, func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		d.server = c
		l.Close()
		sent, end := 0, n
		write := func() {
			for sent < end {
				b := make([]byte, min(64<<10, end-sent))
				for i := range b {
					b[i] = value(sent + i)
				}
				m, err := c.Write(b)
				sent += m
				if err != nil {
					return
				}
			}
		}
		onReady(c.Waiters(), stack.ReadyOut, write)
		d.more = func(n int) { end += n; write() }
	})
	if d.client, err = client.DialTCP(addrPort("0.0.0.0:0"), addrPort(to)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64<<10)
	onReady(d.client.Waiters(), stack.ReadyIn, func() {
		for {
			m, err := d.client.Read(buf)
			for i, b := range buf[:m] {
				if b != value(d.got+i) {
					t.Fatalf("byte %d is wrong", d.got+i)
				}
			}
			d.got += m
			if err != nil {
				return
			}
		}
	})
	return d
}

// end resets both connections.
func (d *download) end(net *simnet.Net) {
	d.client.Abort()
	d.server.Abort()
	net.RunFor(time.Second)
}

// TestMarksInsteadOfLoss sends through a queue that marks: with ECN, of either
// kind of feedback, nothing is lost and the line is full all the same; without
// it the queue overflows.
func TestMarksInsteadOfLoss(t *testing.T) {
	const rate, n = 20e6, 8 << 20
	for _, c := range []struct {
		client, server tcp.ECN
		feedback       tcp.Feedback
	}{
		{tcp.ECNOn, tcp.ECNPassive, tcp.FeedbackClassic},
		{tcp.ECNAccurate, tcp.ECNAccuratePassive, tcp.FeedbackAccurate},
		{tcp.ECNAccurate, tcp.ECNPassive, tcp.FeedbackClassic},
		{tcp.ECNOn, tcp.ECNAccurate, tcp.FeedbackClassic},
		{tcp.ECNOn, tcp.ECNOff, tcp.FeedbackNone},
	} {
		for _, to := range []string{"10.77.0.2:80", "[fd77::2]:80"} {
			p := &pair{t: t, net: simnet.New(1), live: pkt.Live()}
			p.seg = p.net.Segment(wire.Options{Delay: 10 * time.Millisecond, Rate: rate, Queue: 100, MarkFrom: 20})
			p.a, p.ia = p.net.Host(p.seg, stack.Config{TCP: stack.TCPConfig{ECN: c.client}}, nil, "10.77.0.1/24", "fd77::1/64")
			var port *wire.Port
			p.b, p.ib = p.net.Host(p.seg, stack.Config{TCP: stack.TCPConfig{ECN: c.server}},
				func(d ether.Device) ether.Device { port = d.(*wire.Port); return d }, "10.77.0.2/24", "fd77::2/64")
			start := p.net.Now()
			d := startDownload(t, p.net, p.a, p.b, to, n)
			if !p.net.Until(time.Minute, func() bool { return d.got == n }) {
				t.Fatalf("%v to %v: %d bytes arrived", c.client, c.server, d.got)
			}
			took := p.net.Now().Sub(start)
			p.net.RunFor(time.Second) // the last ACKs
			i, w := d.server.Info(), port.Stats()
			t.Logf("%v to %v %s: %.1f Mbit/s, %+v", c.client, c.server, to, float64(n)*8/took.Seconds()/1e6, w)
			if i.ECN != c.feedback || d.client.Info().ECN != c.feedback {
				t.Errorf("%v to %v: feedback %v and %v", c.client, c.server, i.ECN, d.client.Info().ECN)
			}
			if float64(n)*8/took.Seconds() < 0.85*rate {
				t.Errorf("%v to %v: %v for %d bytes", c.client, c.server, took, n)
			}
			if c.feedback == tcp.FeedbackNone {
				if w.Marked != 0 || w.QueueDrops == 0 || i.ECNReductions != 0 {
					t.Errorf("without ECN: %+v, %d reductions", w, i.ECNReductions)
				}
			} else if w.Marked == 0 || w.QueueDrops > 0 || i.Retransmits > 0 || i.ECNReductions == 0 {
				t.Errorf("%v to %v: %+v, %d retransmissions, %d reductions", c.client, c.server, w, i.Retransmits, i.ECNReductions)
			}
			if got := d.client.Info().ReceivedCE; got != w.Marked {
				t.Errorf("%v to %v: %d segments marked, %d arrived", c.client, c.server, w.Marked, got)
			}
			if c.feedback == tcp.FeedbackAccurate && i.DeliveredCE != w.Marked {
				t.Errorf("accurate: %d segments marked, %d told", w.Marked, i.DeliveredCE)
			}
			d.end(p.net)
			p.close()
		}
	}
}

// TestMarksByController: each congestion control keeps the queue from
// overflowing when it is told of marks, and the line full.
func TestMarksByController(t *testing.T) {
	const rate, n = 20e6, 8 << 20
	for _, name := range cc.Names() {
		f, _ := cc.ByName(name)
		for _, ecn := range []tcp.ECN{tcp.ECNOn, tcp.ECNAccurate} {
			var port *wire.Port
			p := &pair{t: t, net: simnet.New(1), live: pkt.Live()}
			c := stack.Config{TCP: stack.TCPConfig{ECN: ecn, NewController: f}}
			p.seg = p.net.Segment(wire.Options{Delay: 10 * time.Millisecond, Rate: rate, Queue: 150, MarkFrom: 20})
			p.a, p.ia = p.net.Host(p.seg, c, nil, "10.77.0.1/24")
			p.b, p.ib = p.net.Host(p.seg, c, func(d ether.Device) ether.Device { port = d.(*wire.Port); return d }, "10.77.0.2/24")
			start := p.net.Now()
			d := startDownload(t, p.net, p.a, p.b, "10.77.0.2:80", n)
			if !p.net.Until(time.Minute, func() bool { return d.got == n }) {
				t.Fatalf("%s, %v: %d bytes arrived", name, ecn, d.got)
			}
			took, i, w := p.net.Now().Sub(start), d.server.Info(), port.Stats()
			t.Logf("%s, %v: %.1f Mbit/s, %d reductions, %+v", name, ecn, float64(n)*8/took.Seconds()/1e6, i.ECNReductions, w)
			if i.ECNReductions == 0 || w.QueueDrops > 0 || float64(n)*8/took.Seconds() < 0.8*rate {
				t.Errorf("%s, %v: %v for %d bytes, %d reductions, %+v", name, ecn, took, n, i.ECNReductions, w)
			}
			d.end(p.net)
			p.close()
		}
	}
}

// TestMarkedSuperFrames: a mark on a super-frame is a mark on each of its
// segments, and CWR is on the first only when it is cut.
func TestMarkedSuperFrames(t *testing.T) {
	for _, ecn := range []tcp.ECN{tcp.ECNOn, tcp.ECNAccurate} {
		p := newPairOf(t, 1, stack.Config{TCP: stack.TCPConfig{ECN: ecn}},
			wire.Options{Delay: 5 * time.Millisecond, Rate: 100e6, Queue: 1000, MarkFrom: 2, GSO: true})
		const n = 8 << 20
		d := startDownload(t, p.net, p.a, p.b, "10.77.0.2:80", n)
		if !p.net.Until(time.Minute, func() bool { return d.got == n }) {
			t.Fatalf("%v: %d bytes arrived", ecn, d.got)
		}
		p.net.RunFor(time.Second)
		i, r := d.server.Info(), d.client.Info()
		if i.ECNReductions == 0 || r.ReceivedCE <= i.ECNReductions || i.Retransmits > 0 {
			t.Errorf("%v: %d marks arrived, %d reductions, %d retransmissions", ecn, r.ReceivedCE, i.ECNReductions, i.Retransmits)
		}
		if ecn == tcp.ECNAccurate && i.DeliveredCE != r.ReceivedCE {
			t.Errorf("%d marks arrived, %d told", r.ReceivedCE, i.DeliveredCE)
		}
		d.end(p.net)
	}
}
