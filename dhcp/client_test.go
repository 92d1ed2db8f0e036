package dhcp

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/mono"
)

const epoch = mono.Time(time.Hour)

var serverIP, clientIP = ip("10.0.0.1"), ip("10.0.0.50")

// sent is one message the client sent, as the network saw it.
type sent struct {
	at  time.Duration // since epoch
	m   *Message
	dst netip.AddrPort
	src netip.Addr
}

func (s sent) String() string {
	return fmt.Sprintf("%v %v to %v from %v", s.at.Round(time.Second), s.m.Options.Type(), s.dst.Addr(), s.src)
}

// world is a client and a scripted server in virtual time.
type world struct {
	t *testing.T
	*Client
	now    mono.Time
	log    []sent
	events []string
	drops  map[Drop]int
	// answer makes the server's reply; nil is a server that is down.
	answer func(m *Message) *Message
	lease  time.Duration
}

func newWorld(t *testing.T, c Config) *world {
	c.MAC, c.Rand = testMAC, rand.New(rand.NewPCG(3, 4))
	w := &world{t: t, Client: NewClient(c), now: epoch, drops: map[Drop]int{}, lease: time.Hour}
	w.answer = w.serve
	return w
}

// reply is the outline of an answer to m.
func (w *world) reply(m *Message, typ MessageType) *Message {
	r := &Message{Op: OpReply, XID: m.XID, Broadcast: m.Broadcast, CHAddr: m.CHAddr}
	r.Options.Set(OptMessageType, byte(typ))
	r.Options.SetAddr(OptServerID, serverIP)
	r.Options.Set(OptClientID, m.Options.Get(OptClientID)...)
	if typ != NAK {
		r.YIAddr = clientIP
		r.Options.Set(OptSubnetMask, 255, 255, 255, 0)
		r.Options.SetAddr(OptRouters, serverIP)
		r.Options.SetSeconds(OptLeaseTime, w.lease)
	}
	return r
}

// serve is a server that has one address to give.
func (w *world) serve(m *Message) *Message {
	switch m.Options.Type() {
	case Discover:
		return w.reply(m, Offer)
	case Request:
		want := m.CIAddr
		if a := m.Options.Addr(OptRequestedIP); a.IsValid() {
			want = a
		}
		if want != clientIP {
			return w.reply(m, NAK)
		}
		return w.reply(m, ACK)
	}
	return nil
}

func (w *world) event(e Event) {
	if e != EventNone {
		w.events = append(w.events, fmt.Sprintf("%v %v", w.now.Sub(epoch).Round(time.Second), e))
	}
}

// pump moves messages until both sides are silent.
func (w *world) pump() {
	for n := 0; ; n++ {
		b, dst, src, ok := w.Output(w.now)
		if !ok {
			break
		}
		if n > 10 {
			w.t.Fatal("client and server talk without end")
		}
		m, d := ParseMessage(b)
		if d != DropNone || len(b) < minLen {
			w.t.Fatalf("the client sent %v", d)
		}
		w.log = append(w.log, sent{w.now.Sub(epoch), m, dst, src})
		if w.answer == nil {
			continue
		}
		if r := w.answer(m); r != nil {
			e, d := w.Input(w.now, r.Append(nil))
			w.drops[d]++
			w.event(e)
		}
	}
	if d := w.Deadline(); d != 0 && d <= w.now {
		w.t.Fatalf("%v: the deadline %v is not after now", w.Client.State(), d)
	}
}

func (w *world) start() { w.Start(w.now); w.pump() }

// run lets d pass.
func (w *world) run(d time.Duration) {
	end := w.now.Add(d)
	for w.Deadline() != 0 && w.Deadline() <= end {
		w.now = w.Deadline()
		w.event(w.Expire(w.now))
		w.pump()
	}
	w.now = end
}

func (w *world) wantEvents(want ...string) {
	w.t.Helper()
	if !slices.Equal(w.events, want) {
		w.t.Errorf("events %q, want %q", w.events, want)
	}
	w.events = nil
}

// types returns what was sent, as words.
func (w *world) types() string {
	var s []string
	for _, m := range w.log {
		s = append(s, m.m.Options.Type().String())
	}
	return strings.Join(s, " ")
}

func TestFourMessages(t *testing.T) {
	w := newWorld(t, Config{Hostname: "tap7"})
	w.answer = func(m *Message) *Message {
		r := w.serve(m)
		r.Options.SetAddr(OptDNS, ip("10.0.0.2"), ip("10.0.0.3"))
		r.Options.SetAddr(OptNTP, ip("10.0.0.4"))
		r.Options.SetAddr(OptBroadcast, ip("10.0.0.255"))
		r.Options.Set(OptDomainName, []byte("lab.example.")...)
		r.Options.Set(OptDomainSearch, []byte("\x01a\x00\x01b\xc0\x00")...)
		r.Options.Set(OptMTU, 5, 120)
		return r
	}
	if w.Deadline() != 0 || w.Client.State() != Stopped || w.Expire(w.now) != EventNone {
		t.Error("a client that was not started does something")
	}
	w.start()
	w.wantEvents("0s bound")
	if w.types() != "DISCOVER REQUEST" {
		t.Fatal(w.types())
	}
	broadcast := netip.MustParseAddrPort("255.255.255.255:67")
	for _, s := range w.log {
		m := s.m
		if s.dst != broadcast || s.src != netip.IPv4Unspecified() || m.Op != OpRequest || !m.Broadcast || m.CHAddr != testMAC ||
			m.CIAddr != netip.IPv4Unspecified() || m.XID != w.log[0].m.XID || m.Options.Text(OptHostName) != "tap7" ||
			!slices.Equal(m.Options.Get(OptClientID), []byte{1, 2, 0, 0, 0, 0, 7}) {
			t.Errorf("%v: %+v", s, m)
		}
		p := m.Options.Get(OptParameters)
		if r := slices.Index(p, OptRoutes); r < 0 || r > slices.Index(p, OptRouters) {
			t.Error("RFC 3442 wants option 121 asked for before option 3")
		}
	}
	if o := w.log[0].m.Options; o.Has(OptServerID) || o.Has(OptRequestedIP) {
		t.Error("a DISCOVER names no server")
	}
	if o := w.log[1].m.Options; o.Addr(OptServerID) != serverIP || o.Addr(OptRequestedIP) != clientIP {
		t.Error("a REQUEST names server and address")
	}
	l, ok := w.Lease()
	want := Lease{Addr: netip.MustParsePrefix("10.0.0.50/24"), Broadcast: ip("10.0.0.255"), Routers: []netip.Addr{serverIP},
		DNS: []netip.Addr{ip("10.0.0.2"), ip("10.0.0.3")}, NTP: []netip.Addr{ip("10.0.0.4")}, Domain: "lab.example",
		Search: []string{"a", "b.a"}, MTU: 1400, Server: serverIP, Lease: time.Hour, T1: 30 * time.Minute,
		T2: 52*time.Minute + 30*time.Second, Acquired: epoch}
	if !ok || !reflect.DeepEqual(l, want) {
		t.Errorf("%+v\nwant %+v", l, want)
	}
}

func TestDayWithRenewals(t *testing.T) {
	w := newWorld(t, Config{})
	w.start()
	w.log, w.events = nil, nil
	w.run(24 * time.Hour)
	if n := len(w.log); n < 48 || n > 49 || len(w.events) != n {
		t.Errorf("%d renewals, %d events in 24 h of half-hour T1s", n, len(w.events))
	}
	xids := map[uint32]bool{}
	for i, s := range w.log {
		o := s.m.Options
		if o.Type() != Request || s.dst != netip.MustParseAddrPort("10.0.0.1:67") || s.src != clientIP || s.m.CIAddr != clientIP ||
			s.m.Broadcast || o.Has(OptServerID) || o.Has(OptRequestedIP) || s.m.Secs != 0 || xids[s.m.XID] {
			t.Errorf("%v: %+v", s, s.m)
		}
		xids[s.m.XID] = true
		if !strings.HasSuffix(w.events[i], "renewed") {
			t.Error(w.events[i])
		}
	}
	if l, ok := w.Lease(); !ok || w.now.Sub(l.Acquired) > 31*time.Minute {
		t.Errorf("%+v", l)
	}
}

func TestServerLoss(t *testing.T) {
	w := newWorld(t, Config{})
	w.lease = 8 * time.Hour // T1 4 h, T2 7 h
	w.start()
	w.answer, w.log, w.events = nil, nil, nil
	w.run(8*time.Hour - 1)
	w.wantEvents()
	if _, ok := w.Lease(); !ok || w.Client.State() != Rebinding {
		t.Error("the lease is good to its end")
	}
	// Half of the time left each time, a minute at least (§4.4.5).
	var renew, rebind int
	for i, s := range w.log {
		if s.src != clientIP || s.m.CIAddr != clientIP || s.m.Broadcast {
			t.Errorf("%v", s)
		}
		end := 7 * time.Hour
		if s.at < end {
			renew++
			if s.dst.Addr() != serverIP || s.at < 4*time.Hour-5*time.Minute {
				t.Errorf("%v", s)
			}
		} else {
			rebind++
			end = 8 * time.Hour
			if s.dst.Addr() != ip("255.255.255.255") {
				t.Errorf("%v", s)
			}
		}
		if i+1 < len(w.log) {
			if gap, half := w.log[i+1].at-s.at, (end-s.at)/2; gap != max(half, time.Minute) && w.log[i+1].at != end {
				t.Errorf("%v waits %v, half the rest is %v", s, gap, half)
			}
		}
	}
	if renew < 7 || renew > 10 || rebind < 5 || rebind > 8 {
		t.Errorf("%d requests to renew and %d to rebind", renew, rebind)
	}
	if first := w.log[0].m.Secs; first != 0 || w.log[len(w.log)-1].m.Secs < 3*3600 {
		t.Errorf("secs from %d to %d", first, w.log[len(w.log)-1].m.Secs)
	}
	w.log = nil
	w.run(10 * time.Minute)
	w.wantEvents("8h0m0s lost")
	if _, ok := w.Lease(); ok || w.Client.State() != Selecting || w.log[0].at != 8*time.Hour {
		t.Error("an expired lease is gone, and the search begins at once")
	}
	if a := w.log[0].m.Options.Addr(OptRequestedIP); a != clientIP || w.log[0].src != netip.IPv4Unspecified() {
		t.Errorf("asks for %v", a)
	}
	w.answer = w.serve
	w.run(2 * time.Minute)
	if len(w.events) != 1 || !strings.HasSuffix(w.events[0], "bound") {
		t.Error(w.events)
	}
}

// Another server may extend the lease at T2, and its options count from then.
func TestRebind(t *testing.T) {
	w := newWorld(t, Config{})
	w.start()
	other := ip("10.0.0.2")
	w.answer = func(m *Message) *Message {
		r := w.serve(m)
		r.Options.SetAddr(OptServerID, other)
		r.Options.SetAddr(OptRouters, other)
		return r
	}
	w.run(59 * time.Minute)
	w.wantEvents("0s bound", "52m30s renewed")
	if w.drops[DropServer] == 0 {
		t.Error("only its own server may renew")
	}
	if l, _ := w.Lease(); l.Server != other || l.Routers[0] != other || l.Acquired != epoch.Add(52*time.Minute+30*time.Second) {
		t.Errorf("%+v", l)
	}
}

func TestBackoff(t *testing.T) {
	w := newWorld(t, Config{})
	w.answer = nil
	w.start()
	w.run(10 * time.Minute)
	if w.log[0].at != 0 {
		t.Error("the first DISCOVER goes at once")
	}
	want := []int{4, 8, 16, 32, 64, 64, 64, 64}
	for i, s := range want {
		gap := w.log[i+1].at - w.log[i].at
		if off := gap - time.Duration(s)*time.Second; off.Abs() > time.Second || off == 0 {
			t.Errorf("wait %d is %v, want %d s and a random second (RFC 2131 §4.1)", i, gap, s)
		}
		if w.log[i+1].m.XID != w.log[0].m.XID || w.log[i+1].m.Secs != uint16(w.log[i+1].at/time.Second) {
			t.Errorf("%+v", w.log[i+1].m)
		}
	}
	w.run(24 * time.Hour)
	if last := w.log[len(w.log)-1].m.Secs; last != 0xffff {
		t.Errorf("secs wrapped to %d", last)
	}
}

func TestRequestUnanswered(t *testing.T) {
	w := newWorld(t, Config{})
	w.answer = func(m *Message) *Message {
		if m.Options.Type() == Discover {
			return w.serve(m)
		}
		return nil
	}
	w.start()
	w.run(70 * time.Second)
	if w.types() != "DISCOVER REQUEST REQUEST REQUEST REQUEST DISCOVER REQUEST REQUEST" {
		t.Fatal(w.types())
	}
	if d := w.log[5].at - 60*time.Second; d.Abs() > 4*time.Second || w.log[5].m.XID == w.log[0].m.XID {
		t.Errorf("began anew at %v", w.log[5].at)
	}
	for _, s := range w.log[1:5] {
		if s.m.Secs != w.log[0].m.Secs || s.m.XID != w.log[0].m.XID {
			t.Error("a REQUEST has the secs and xid of its DISCOVER (§4.4.1)")
		}
	}
	w.wantEvents()
}

func TestNAK(t *testing.T) {
	// A server that offers and then refuses for ever must not make us flood.
	w := newWorld(t, Config{Requested: clientIP})
	w.answer = func(m *Message) *Message {
		if m.Options.Type() == Request {
			return w.reply(m, NAK)
		}
		return w.serve(m)
	}
	w.start()
	if w.types() != "DISCOVER REQUEST DISCOVER REQUEST" {
		t.Fatal(w.types())
	}
	if !w.log[0].m.Options.Has(OptRequestedIP) || w.log[2].m.Options.Has(OptRequestedIP) {
		t.Error("a refused address is not asked for again")
	}
	w.run(time.Hour)
	if n := len(w.log); n > 140 || n < 80 {
		t.Errorf("%d messages in an hour of NAKs", n)
	}
	w.answer = w.serve
	w.run(2 * time.Minute)
	if w.Client.State() != Bound {
		t.Error(w.Client.State())
	}

	// While there is a lease, a NAK ends it.
	w = newWorld(t, Config{})
	w.start()
	w.log = nil
	w.answer = func(m *Message) *Message {
		if m.CIAddr.IsUnspecified() {
			return w.serve(m)
		}
		return w.reply(m, NAK)
	}
	w.run(31 * time.Minute)
	if w.types() != "REQUEST DISCOVER REQUEST" || len(w.events) != 3 || !strings.HasSuffix(w.events[1], "lost") || !strings.HasSuffix(w.events[2], "bound") {
		t.Error(w.types(), w.events)
	}
}

func TestReboot(t *testing.T) {
	w := newWorld(t, Config{Requested: clientIP, Reboot: true})
	w.start()
	w.wantEvents("0s bound")
	o := w.log[0].m.Options
	if w.types() != "REQUEST" || o.Has(OptServerID) || o.Addr(OptRequestedIP) != clientIP || !w.log[0].m.CIAddr.IsUnspecified() || !w.log[0].m.Broadcast {
		t.Errorf("%v %v", w.types(), o)
	}
	// Started again, it verifies the lease it has.
	w.start()
	if w.types() != "REQUEST REQUEST" || w.Client.State() != Bound {
		t.Error(w.types())
	}
	// On another network: refused, or not answered.
	w = newWorld(t, Config{Requested: ip("192.168.1.1"), Reboot: true})
	w.start()
	w.wantEvents("0s bound")
	if w.types() != "REQUEST DISCOVER REQUEST" {
		t.Error(w.types())
	}
	w = newWorld(t, Config{Requested: clientIP, Reboot: true})
	w.answer = nil
	w.start()
	w.run(15 * time.Second)
	if w.types() != "REQUEST REQUEST DISCOVER" {
		t.Error(w.types())
	}
	// Nonsense is not asked for.
	w = newWorld(t, Config{Requested: ip("224.0.0.1"), Reboot: true})
	w.start()
	if w.types() != "DISCOVER REQUEST" || w.log[0].m.Options.Has(OptRequestedIP) {
		t.Error(w.types())
	}
}

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
				_, d := w.Input(w.now, r.Append(nil))
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
		if e, d := w.Input(w.now, last.Append(nil)); d != DropState || e != EventNone {
			t.Errorf("%v while bound: %v", typ, d)
		}
	}
	if _, d := w.Input(w.now, nil); d != DropShort {
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
				e, d := w.Input(w.now, b)
				if d != DropNone && e != EventNone || (e == EventLost) != (had && !w.leased) || (e == EventBound) != (!had && w.leased) {
					t.Fatalf("%v %v, lease %v then %v", e, d, had, w.leased)
				}
			case 6:
				w.now = w.now.Add(time.Duration(next()) * time.Duration(next()) * time.Second)
				w.Expire(w.now)
			case 7:
				switch next() % 4 {
				case 0:
					w.Decline(w.now)
				case 1:
					w.Release(w.now)
				case 2:
					w.Start(w.now)
				}
			}
			l, ok := w.Lease()
			if ok != (w.Client.State() >= Bound) || ok && !isHost(l.Addr.Addr()) {
				t.Fatalf("%v with lease %v %+v", w.Client.State(), ok, l)
			}
			if w.Deadline() == 0 && w.Client.State() != Stopped && l.Lease != Infinite {
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
	e, d := w.Input(w.now, ack)
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
