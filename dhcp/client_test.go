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
			e, d := w.Input(w.now, r.Append(nil), clientIP)
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
			!slices.Equal(m.Options.Get(OptClientID), []byte{255, 0, 0, 0, 7, 0, 3, 0, 1, 2, 0, 0, 0, 0, 7}) {
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
	if l.Options.Domain() != "lab.example" {
		t.Error("the lease lacks the server's options")
	}
	l.Options = nil
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
