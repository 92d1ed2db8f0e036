package probe_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/probe"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/stack/simnet"
)

// connect makes a connection to a port of the far host that is listened to.
func (w *world) connect(dst netip.Addr, l *stack.TCPListener, port uint16) (near, far *stack.TCPConn) {
	w.t.Helper()
	near, err := w.near.DialTCP(netip.AddrPort{}, netip.AddrPortFrom(dst, port))
	if err != nil {
		w.t.Fatal(err)
	}
	if !w.Until(time.Minute, func() bool { far, err = l.Accept(); return err == nil }) {
		w.t.Fatal("no connection")
	}
	w.t.Cleanup(func() { near.Abort(); far.Abort() })
	return near, far
}

// stateful makes a router let forward only segments of the connection that have
// a number which it would expect, and back what answers them.
func stateful(r *simnet.Router, c *stack.TCPConn) {
	port := c.LocalAddr().Port()
	next := uint32(0)
	r.Mangle = func(b []byte, back bool) []byte {
		at := 20
		proto := b[9]
		if b[0]>>4 == 6 {
			at, proto = 40, b[6]
		}
		if back {
			return b
		}
		if proto != 6 || binary.BigEndian.Uint16(b[at:]) != port || b[at+13]&2 != 0 {
			return nil
		}
		seq := binary.BigEndian.Uint32(b[at+4:])
		end := seq + uint32(len(b)-at-int(b[at+12]>>4)*4)
		if next == 0 || int32(end-next) > 0 {
			next = end
		}
		if int32(next-seq) > 64<<10 {
			return nil
		}
		return b
	}
}

// TestWithin: a trace within a connection passes a firewall that lets nothing
// else, while text goes both ways, and the connection does not notice.
func TestWithin(t *testing.T) {
	eachFamily(t, func(t *testing.T, dst netip.Addr, router func(int) netip.Addr) {
		for i := range 4 {
			sack, silent := i&1 != 0, i&2 != 0
			w := newWorld(t, 4, probe.Options{})
			l := w.listen(80)
			if !sack {
				w.routers[2].Mangle = withoutSACK
			}
			near, far := w.connect(dst, l, 80)
			w.routers[2].Mangle = nil
			if near.Info().SACK != sack {
				t.Fatalf("SACK %v", near.Info().SACK)
			}
			stateful(w.routers[1], near)
			w.routers[2].Silent = silent
			if err := w.p.Adopt(near); err != nil {
				t.Fatal(err)
			}
			if r := w.ask(probe.Request{Dst: dst, Proto: probe.TCP, Timeout: time.Second}); r.Kind != probe.NoReply {
				t.Errorf("a SYN: %v", r.Kind)
			}
			// Text both ways all the while, where the peer can say which answer is to what.
			text := bytes.Repeat([]byte("all is well and nothing is lost "), 400)
			var there, back []byte
			var pump func()
			var sent int
			pump = func() {
				if sack && sent < 40 {
					sent++
					near.Write(text[:320])
					far.Write(text[:320])
					w.After(50*time.Millisecond, pump)
				}
				b := make([]byte, 4096)
				for _, x := range []struct {
					c   *stack.TCPConn
					got *[]byte
				}{{far, &there}, {near, &back}} {
					if n, err := x.c.Read(b); err == nil {
						*x.got = append(*x.got, b[:n]...)
					}
				}
			}
			w.After(10*time.Millisecond, pump)
			r := w.trace(probe.TraceRequest{Request: probe.Request{Proto: probe.TCP, Within: near, Timeout: time.Second}, Cycles: 5, Interval: 400 * time.Millisecond})
			if !r.Reached() || len(r.Hops) != 5 || r.Err != nil || r.Dst != dst {
				t.Fatalf("SACK %v: %v to %v with %d hops, %v", sack, r.End, r.Dst, len(r.Hops), r.Err)
			}
			for i, h := range r.Hops {
				want := dst
				if i < 4 {
					want = router(i + 1)
				}
				if i == 2 && silent {
					if len(h.Hosts) != 0 || h.Loss() != 100 {
						t.Errorf("SACK %v, the silent hop: %+v", sack, h)
					}
					continue
				}
				if len(h.Hosts) != 1 || h.Hosts[0].Addr != want || h.Loss() != 0 || h.Stats.Best != 2*time.Duration(min(i, 3))*line || len(h.Hosts[0].Changes) != 0 {
					t.Errorf("SACK %v, hop %d: %+v", sack, i+1, h)
				}
			}
			w.RunFor(10 * time.Second)
			pump()
			i := near.Info()
			if i.DSACKIn != 0 || i.DSACKDups != 0 || i.Retransmits != 0 || i.FastRetransmits != 0 || i.Timeouts != 0 {
				t.Errorf("SACK %v: the connection noticed: %+v", sack, i)
			}
			if n := sent * 320; len(there) != n || len(back) != n || sack && n == 0 || !bytes.Equal(there, bytes.Repeat(text[:320], sent)) {
				t.Errorf("SACK %v: %d bytes there and %d back of %d", sack, len(there), len(back), sent*320)
			}
			if w.p.InFlight() != 0 {
				t.Errorf("%d under way", w.p.InFlight())
			}
			// It goes on after that, and with its end there is nothing to probe in.
			near.Abort()
			w.RunFor(time.Second)
			if r := w.ask(probe.Request{Proto: probe.TCP, Within: near}); r.Kind != probe.UnexpectedError || r.Err != syscall.ENOTCONN {
				t.Errorf("after the end: %v, %v", r.Kind, r.Err)
			}
		}
	})
}

// withoutSACK takes SACK-permitted out of SYNs.
func withoutSACK(b []byte, back bool) []byte {
	at := 20
	var src, dst netip.Addr
	if b[0]>>4 == 6 {
		at = 40
		src, dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	} else {
		src, dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	}
	if i := bytes.Index(b[at+20:], []byte{4, 2}); b[at+13]&2 != 0 && i >= 0 {
		b[at+20+i], b[at+21+i] = 1, 1
		fixTCP(b[at:], src, dst)
	}
	return b
}

// TestWithinRefused: what cannot be, and forged answers.
func TestWithinRefused(t *testing.T) {
	w := newWorld(t, 2, probe.Options{})
	near, far := w.connect(addr(far4), w.listen(80), 80)
	within := probe.Request{Proto: probe.TCP, Within: near, Timeout: time.Hour, TTL: 1}
	for name, f := range map[string]func(q *probe.Request){
		"size": func(q *probe.Request) { q.Size = 100 }, "protocol": func(q *probe.Request) { q.Proto = probe.UDP },
		"port": func(q *probe.Request) { q.SrcPort = 9 }, "payload": func(q *probe.Request) { q.Payload = []byte{} },
		"destination": func(q *probe.Request) { q.Dst = addr("8.8.8.9") }, "connect": func(q *probe.Request) { q.Connect = true },
		"device": func(q *probe.Request) { q.Device = "eth0" }, "retries": func(q *probe.Request) { q.Retries = 1 },
	} {
		q := within
		f(&q)
		if r := w.ask(q); r.Kind != probe.InvalidArgument {
			t.Errorf("%s: %v", name, r.Kind)
		}
	}
	if err := w.p.Adopt(near); err != nil {
		t.Fatal(err)
	}
	other, err := probe.New(w.near, probe.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Adopt(near); err != syscall.EBUSY {
		t.Errorf("adopted twice: %v", err)
	}
	if err := other.Adopt(far); err != syscall.ENOTCONN {
		t.Errorf("of another stack: %v", err)
	}
	other.Close()

	packets := w.silence()
	got := 0
	w.p.Send(probe.Request{Proto: probe.TCP, Within: near, Timeout: time.Hour}, func(r probe.Result) { got++ })
	w.RunFor(0)
	b := slices.Clone((*packets)[0])
	for what, at := range map[string]int{"another number": 26, "another length": 3, "another source": 15, "another port": 21} {
		c := slices.Clone(b)
		c[at] ^= 0x40
		c[5] ^= 1 // nor its identification
		w.inject(addr("10.1.0.1"), 1, expired(c))
		if got != 0 {
			t.Fatalf("%s was accepted", what)
		}
	}
	// A peer without SACK cannot say which it answers, so that two are one too many.
	w2 := newWorld(t, 2, probe.Options{})
	w2.routers[0].Mangle = withoutSACK
	plain, _ := w2.connect(addr(far4), w2.listen(80), 80)
	if err := w2.p.Adopt(plain); err != nil {
		t.Fatal(err)
	}
	w2.silence()
	one := probe.Request{Proto: probe.TCP, Within: plain, Timeout: time.Second}
	w2.p.Send(one, func(probe.Result) {})
	if r := w2.ask(one); r.Kind != probe.UnexpectedError || r.Err != syscall.EAGAIN {
		t.Errorf("a second without SACK: %v, %v", r.Kind, r.Err)
	}
	w2.RunFor(2 * time.Second)
	if r := w2.ask(one); r.Kind != probe.NoReply {
		t.Errorf("after it: %v, %v", r.Kind, r.Err)
	}
	plain.Write([]byte("outstanding"))
	if r := w2.ask(one); r.Kind != probe.UnexpectedError || r.Err != syscall.EAGAIN {
		t.Errorf("with text outstanding without SACK: %v, %v", r.Kind, r.Err)
	}
	if near.Err() != nil || near.Info().State.String() != "ESTABLISHED" {
		t.Errorf("the connection: %v, %v", near.Err(), near.Info().State)
	}
	w.inject(addr("10.1.0.1"), 1, expired(b))
	if got != 1 {
		t.Errorf("the true one: %d accepted", got)
	}
	w.p.Leave(near)
	w.inject(addr("10.1.0.1"), 1, expired(b))
	if got != 1 {
		t.Error("answers after Leave")
	}
}
