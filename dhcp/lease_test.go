package dhcp

// What the client takes from a message and what it makes of it, and how a lease
// ends; client_test.go has the exchanges.

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
)

func TestReleaseAndDecline(t *testing.T) {
	w := newWorld(t, Config{})
	w.start()
	w.log = nil
	w.Decline(w.now)
	w.pump()
	s := w.log[0]
	if o := s.m.Options; o.Type() != Decline || o.Addr(OptRequestedIP) != clientIP || o.Addr(OptServerID) != serverIP || !s.m.CIAddr.IsUnspecified() ||
		s.dst.Addr() != ip("255.255.255.255") || !s.src.IsUnspecified() || o.Has(OptParameters) {
		t.Errorf("%v %+v", s, s.m)
	}
	if _, ok := w.Lease(); ok || w.Client.State() != Init {
		t.Error("a declined lease is gone")
	}
	w.Decline(w.now) // no lease: nothing
	w.run(10*time.Second - 1)
	if len(w.log) != 1 {
		t.Error("began anew before 10 s")
	}
	w.run(1)
	w.wantEvents("0s bound", "10s bound")
	if w.log[1].m.Options.Has(OptRequestedIP) {
		t.Error("asks for the address in conflict")
	}

	w.log = nil
	w.Release(w.now)
	if _, ok := w.Lease(); ok {
		t.Error("a released lease is gone")
	}
	w.pump()
	s = w.log[0]
	if o := s.m.Options; o.Type() != Release || o.Has(OptRequestedIP) || o.Addr(OptServerID) != serverIP || s.m.CIAddr != clientIP ||
		s.dst.Addr() != serverIP || s.src != clientIP {
		t.Errorf("%v %+v", s, s.m)
	}
	w.run(24 * time.Hour)
	if len(w.log) != 1 || w.Client.State() != Stopped || w.Deadline() != 0 {
		t.Error("a released client does nothing")
	}
	w.Release(w.now)
	w.pump()
	if len(w.log) != 1 {
		t.Error("there is nothing to release")
	}
	w.start()
	if w.Client.State() != Bound {
		t.Error("it can be started again")
	}
	w.wantNoDrops()
}

func (w *world) wantNoDrops() {
	w.t.Helper()
	for d, n := range w.drops {
		if d != DropNone {
			w.t.Errorf("%d messages dropped: %v", n, d)
		}
	}
}

// Each check of a reply, in each state that waits for one.
func TestInputChecks(t *testing.T) {
	for _, c := range []struct {
		name    string
		edit    func(m *Message)
		offer   Drop // in SELECTING
		request Drop // in REQUESTING
		renew   Drop // in RENEWING
	}{
		{"good", func(m *Message) {}, DropNone, DropNone, DropNone},
		{"request", func(m *Message) { m.Op = OpRequest }, DropOp, DropOp, DropOp},
		{"xid", func(m *Message) { m.XID++ }, DropXID, DropXID, DropXID},
		{"chaddr", func(m *Message) { m.CHAddr = ether.Broadcast }, DropMAC, DropMAC, DropMAC},
		{"client id", func(m *Message) { m.Options.Set(OptClientID, 1, 2) }, DropClientID, DropClientID, DropClientID},
		{"no type", func(m *Message) { m.Options.Set(OptMessageType) }, DropType, DropType, DropType},
		{"DISCOVER", func(m *Message) { m.Options.Set(OptMessageType, byte(Discover)) }, DropType, DropType, DropType},
		{"type 200", func(m *Message) { m.Options.Set(OptMessageType, 200) }, DropType, DropType, DropType},
		{"other type", func(m *Message) { m.Options.Set(OptMessageType, byte(Offer+ACK)-byte(m.Options.Type())) }, DropState, DropState, DropState},
		{"no server", func(m *Message) { m.Options.Set(OptServerID) }, DropServer, DropServer, DropServer},
		{"other server", func(m *Message) { m.Options.SetAddr(OptServerID, ip("10.0.0.9")) }, DropNone, DropServer, DropServer},
		{"NAK of other server", func(m *Message) {
			m.Options.Set(OptMessageType, byte(NAK))
			m.Options.SetAddr(OptServerID, ip("10.0.0.9"))
		}, DropState, DropServer, DropServer},
		{"NAK of nobody", func(m *Message) { m.Options = Options{{OptMessageType, []byte{byte(NAK)}}} }, DropState, DropServer, DropServer},
		{"no address", func(m *Message) { m.YIAddr = netip.Addr{} }, DropAddress, DropAddress, DropAddress},
		{"group address", func(m *Message) { m.YIAddr = ip("239.1.1.1") }, DropAddress, DropAddress, DropAddress},
		{"subnet address", func(m *Message) { m.YIAddr = ip("10.0.0.0") }, DropAddress, DropAddress, DropAddress},
		{"subnet broadcast", func(m *Message) { m.YIAddr = ip("10.0.0.255") }, DropAddress, DropAddress, DropAddress},
		{"other address", func(m *Message) { m.YIAddr = ip("10.0.0.51") }, DropNone, DropAddress, DropAddress},
		{"no lease time", func(m *Message) { m.Options.Set(OptLeaseTime) }, DropLease, DropLease, DropLease},
		{"lease of no time", func(m *Message) { m.Options.SetSeconds(OptLeaseTime, 0) }, DropLease, DropLease, DropLease},
	} {
		for i, want := range []Drop{c.offer, c.request, c.renew} {
			state := []State{Selecting, Requesting, Renewing}[i]
			w := newWorld(t, Config{})
			w.answer = func(m *Message) *Message {
				s := w.Client.State()
				if s > state {
					t.Fatalf("%s: went on to %v", c.name, s)
				}
				r := w.serve(m)
				if s != state {
					return r
				}
				c.edit(r)
				before, held := w.Lease()
				_, d := w.Input(w.now, r.Append(nil), clientIP)
				if d != want {
					t.Errorf("%s in %v: %v, want %v", c.name, state, d, want)
				}
				if after, _ := w.Lease(); d != DropNone && (w.Client.State() != state || held && !reflect.DeepEqual(before, after)) {
					t.Errorf("%s in %v: a dropped message had effect", c.name, state)
				}
				state = 99 // once
				w.answer = nil
				return nil
			}
			w.start()
			if state != 99 {
				w.run(31 * time.Minute)
			}
			if state != 99 {
				t.Fatalf("%s: %v was never reached", c.name, state)
			}
		}
	}

	// Nothing is expected of anybody while bound.
	w := newWorld(t, Config{})
	var last *Message
	w.answer = func(m *Message) *Message { last = w.serve(m); return last }
	w.start()
	for _, typ := range []MessageType{Offer, ACK, NAK} {
		last.Options.Set(OptMessageType, byte(typ))
		if e, d := w.Input(w.now, last.Append(nil), clientIP); d != DropState || e != EventNone {
			t.Errorf("%v while bound: %v", typ, d)
		}
	}
	if _, d := w.Input(w.now, nil, clientIP); d != DropShort {
		t.Error(d)
	}
}

func TestLease(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(m *Message)
		ok   func(l Lease) bool
	}{
		{"classes", func(m *Message) { m.Options.Set(OptSubnetMask) }, func(l Lease) bool { return l.Addr.Bits() == 8 }},
		{"class B", func(m *Message) { m.YIAddr = ip("172.16.0.9"); m.Options.Set(OptSubnetMask, 255, 0, 255, 0) },
			func(l Lease) bool { return l.Addr.String() == "172.16.0.9/16" && l.Broadcast == ip("172.16.255.255") }},
		{"class C", func(m *Message) { m.YIAddr = ip("192.168.0.9"); m.Options.Set(OptSubnetMask, 0, 0, 0, 0) },
			func(l Lease) bool { return l.Addr.Bits() == 24 }},
		{"/31", func(m *Message) { m.Options.Set(OptSubnetMask, 255, 255, 255, 254) },
			func(l Lease) bool { return l.Addr.Bits() == 31 && !l.Broadcast.IsValid() }},
		{"/20", func(m *Message) { m.Options.Set(OptSubnetMask, 255, 255, 240, 0) },
			func(l Lease) bool { return l.Broadcast == ip("10.0.15.255") }},
		{"broadcast elsewhere", func(m *Message) { m.Options.SetAddr(OptBroadcast, ip("8.8.8.8")) },
			func(l Lease) bool { return l.Broadcast == ip("10.0.0.255") }},
		{"broadcast of zeros", func(m *Message) { m.Options.SetAddr(OptBroadcast, ip("10.0.0.0")) },
			func(l Lease) bool { return l.Broadcast == ip("10.0.0.0") }},
		{"routes replace routers", func(m *Message) { m.Options.Set(OptRoutes, 0, 10, 0, 0, 7) },
			func(l Lease) bool {
				return l.Routers == nil && len(l.Routes) == 1 && l.Routes[0].Gateway == ip("10.0.0.7")
			}},
		{"bad routes do not", func(m *Message) { m.Options.Set(OptRoutes, 99) }, func(l Lease) bool { return len(l.Routers) == 1 }},
		{"we are no router", func(m *Message) { m.Options.SetAddr(OptRouters, clientIP, serverIP) },
			func(l Lease) bool { return len(l.Routers) == 1 && l.Routers[0] == serverIP }},
		{"long lists", func(m *Message) { m.Options.SetAddr(OptDNS, slices.Repeat([]netip.Addr{serverIP}, 300)...) },
			func(l Lease) bool { return len(l.DNS) == maxList }},
		{"infinite", func(m *Message) {
			m.Options.SetSeconds(OptLeaseTime, Infinite)
			m.Options.SetSeconds(OptT1, 5*time.Second)
		},
			func(l Lease) bool { return l.Lease == Infinite && l.T1 == Infinite && l.T2 == Infinite }},
		{"longest", func(m *Message) { m.Options.SetSeconds(OptLeaseTime, 0xfffffffe*time.Second) },
			func(l Lease) bool {
				return l.Lease == 0xfffffffe*time.Second && 0 < l.T1 && l.T1 < l.T2 && l.T2 < l.Lease
			}},
		{"T1 and T2", times(600, 1200), func(l Lease) bool { return l.T1 == 10*time.Minute && l.T2 == 20*time.Minute }},
		{"T1 0", times(0, 1200), isDefault},
		{"T1 after T2", times(1200, 600), isDefault},
		{"T2 after the end", times(600, 3600), isDefault},
		{"T1 infinite", func(m *Message) { m.Options.SetSeconds(OptT1, Infinite) }, isDefault},
		{"T1 alone", func(m *Message) { m.Options.SetSeconds(OptT1, 60*time.Second) },
			func(l Lease) bool { return l.T1 == time.Minute && l.T2 == 3150*time.Second }},
		{"one second", func(m *Message) { m.Options.SetSeconds(OptLeaseTime, time.Second) },
			func(l Lease) bool { return l.T1 == 500*time.Millisecond && l.T2 == 875*time.Millisecond }},
	} {
		w := newWorld(t, Config{})
		w.answer = func(m *Message) *Message {
			r := w.reply(m, Offer)
			if m.Options.Type() == Request {
				r = w.reply(m, ACK)
			}
			c.edit(r)
			return r
		}
		w.start()
		l, ok := w.Lease()
		if !ok || !c.ok(l) {
			t.Errorf("%s: %v %+v %v", c.name, ok, l, w.drops)
		}
		if l.Lease == Infinite {
			w.run(50 * 365 * 24 * time.Hour)
			if w.types() != "DISCOVER REQUEST" || w.Deadline() != 0 {
				t.Error("an infinite lease is not renewed")
			}
		}
	}
}

func times(t1, t2 time.Duration) func(m *Message) {
	return func(m *Message) {
		m.Options.SetSeconds(OptT1, t1*time.Second)
		m.Options.SetSeconds(OptT2, t2*time.Second)
	}
}

func isDefault(l Lease) bool { return l.T1 == l.Lease/2 && l.T2 == l.Lease/8*7 }

// A late caller finds the state that the time says, and a lease that is over
// is lost whatever came between.
func TestLateExpire(t *testing.T) {
	for _, c := range []struct {
		late  time.Duration
		event Event
		state State
	}{
		{31 * time.Minute, EventNone, Renewing},
		{53 * time.Minute, EventNone, Rebinding},
		{time.Hour, EventLost, Selecting},
		{100 * time.Hour, EventLost, Selecting},
	} {
		w := newWorld(t, Config{})
		w.start()
		w.now = w.now.Add(c.late)
		if e := w.Expire(w.now); e != c.event || w.Client.State() != c.state {
			t.Errorf("%v late: %v %v", c.late, e, w.Client.State())
		}
		w.answer = nil
		w.pump()
		if s := w.log[len(w.log)-1].m.Secs; s != 0 {
			t.Errorf("%v late: secs %d", c.late, s)
		}
	}
}

// FuzzClient lets a server answer with anything, in part built from good
// replies: whatever comes, the client stays sane and does not send in a loop.
func FuzzClient(f *testing.F) {
	f.Add([]byte("\x02\x05\x02\x05\x06\x01\x02\x05"))
	f.Add([]byte{2, 0, 5, 0, 6, 1, 5, 10, 3, 2, 5, 200, 200, 200, 200})
	f.Fuzz(func(t *testing.T, script []byte) {
		script = script[:min(len(script), 2000)]
		next := func() byte {
			if len(script) == 0 {
				return 0
			}
			b := script[0]
			script = script[1:]
			return b
		}
		w := newWorld(t, Config{})
		var out *Message
		w.Start(w.now)
		sends := 0
		for len(script) > 0 {
			if b, _, src, ok := w.Output(w.now); ok {
				sends++
				m, d := ParseMessage(b)
				if d != DropNone {
					t.Fatal(d)
				}
				if !src.Is4() {
					t.Fatal(src)
				}
				out = m
			}
			switch op := next(); op % 8 {
			case 0, 1, 2, 3, 4, 5:
				r := w.reply(out, MessageType(op%8))
				if n := next(); n != 0 {
					r.Options.Set(n, slices.Repeat([]byte{next()}, int(next()%9))...)
				}
				if next() == 1 {
					r.YIAddr = netip.AddrFrom4([4]byte{next(), next(), next(), next()})
				}
				b := r.Append(nil)
				if n := next(); n != 0 {
					b[int(n)*len(b)/256] = next()
				}
				had := w.leased
				e, d := w.Input(w.now, b, clientIP)
				if d != DropNone && e != EventNone || (e == EventLost) != (had && !w.leased) || (e == EventBound) != (!had && w.leased) {
					t.Fatalf("%v %v, lease %v then %v", e, d, had, w.leased)
				}
			case 6:
				w.now = w.now.Add(time.Duration(next()) * time.Duration(next()) * time.Second)
				w.Expire(w.now)
			case 7:
				switch next() % 5 {
				case 3:
					w.Inform(w.now, clientIP)
				case 0:
					w.Decline(w.now)
				case 1:
					w.Release(w.now)
				case 2:
					w.Start(w.now)
				}
			}
			l, ok := w.Lease()
			verifying := ok && w.Client.State() == Rebooting
			if ok != (w.Client.State() >= Bound || verifying) || ok && !isHost(l.Addr.Addr()) {
				t.Fatalf("%v with lease %v %+v", w.Client.State(), ok, l)
			}
			if w.Deadline() == 0 && w.Client.State() != Stopped && w.Client.State() != Informed && l.Lease != Infinite {
				t.Fatalf("%v waits for ever", w.Client.State())
			}
		}
	})
}

// The lease counts from the sending of the request, however late the answer
// (RFC 2131 §4.4.1).
func TestLeaseCountsFromRequest(t *testing.T) {
	w := newWorld(t, Config{})
	var ack []byte
	w.answer = func(m *Message) *Message {
		if m.Options.Type() == Request {
			ack = w.serve(m).Append(nil)
			return nil
		}
		return w.serve(m)
	}
	w.start()
	w.now = w.now.Add(3 * time.Second)
	e, d := w.Input(w.now, ack, clientIP)
	if l, ok := w.Lease(); e != EventBound || d != DropNone || !ok || l.Acquired != epoch {
		t.Errorf("%v %v %+v", e, d, l)
	}
	w.answer = nil
	w.run(time.Hour - 3*time.Second - 1)
	if w.Client.State().String() != "rebinding" {
		t.Error(w.Client.State())
	}
	w.run(1)
	w.wantEvents("1h0m0s lost")
}
