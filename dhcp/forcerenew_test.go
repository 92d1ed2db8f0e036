package dhcp

import (
	"crypto/hmac"
	"crypto/md5"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

var testNonce = [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

func authData(typ byte, replay uint64, info []byte) []byte {
	b := binary.BigEndian.AppendUint64([]byte{authReconfigure, authHMACMD5, authMonotonic}, replay)
	return append(append(b, typ), info...)
}

// withNonce has the server of w give its key with each acknowledgement.
func (w *world) withNonce() {
	serve := w.answer
	w.answer = func(m *Message) *Message {
		r := serve(m)
		if r != nil && r.Options.Type() == ACK {
			r.Options.Set(OptAuthentication, authData(authNonce, 7, testNonce[:])...)
		}
		return r
	}
}

// forceRenew is the server's message, signed with key.
func forceRenew(replay uint64, key []byte) []byte {
	m := &Message{Op: OpReply, XID: 99, CHAddr: testMAC}
	m.Options.Set(OptMessageType, byte(ForceRenew))
	m.Options.SetAddr(OptServerID, serverIP)
	m.Options.Set(OptAuthentication, authData(authDigest, replay, make([]byte, 16))...)
	b := m.Append(nil)
	sum := hmac.New(md5.New, key)
	sum.Write(b)
	at := authOption(b)
	copy(b[at+offAuthInfo+1:], sum.Sum(nil))
	return b
}

// TestForceRenew: a FORCERENEW of who gave the nonce renews the lease at once;
// any other changes nothing.
func TestForceRenew(t *testing.T) {
	w := newWorld(t, Config{})
	if _, d := w.Input(w.now, forceRenew(8, testNonce[:]), clientIP); d != DropState {
		t.Errorf("before the start: %v", d)
	}
	w.withNonce()
	w.start()
	if c := w.log[0].m.Options.Get(OptNonceCapable); len(c) != 1 || c[0] != authHMACMD5 {
		t.Error("the client does not say that it knows RFC 6704")
	}
	w.run(time.Minute)
	w.log, w.events = nil, nil
	good := forceRenew(8, testNonce[:])
	unsigned := &Message{Op: OpReply, CHAddr: testMAC}
	unsigned.Options.Set(OptMessageType, byte(ForceRenew))
	parts := append(good[:len(good):len(good)], 0)
	parts[offOptions+3+6+3]++ // some byte of the digest's header
	for name, c := range map[string]struct {
		b    []byte
		dst  netip.Addr
		want Drop
	}{
		"unsigned":   {unsigned.Append(nil), clientIP, DropAuth},
		"other key":  {forceRenew(8, make([]byte, 16)), clientIP, DropAuth},
		"replayed":   {forceRenew(7, testNonce[:]), clientIP, DropAuth},
		"broadcast":  {good, ip("255.255.255.255"), DropType},
		"changed":    {append(good[:len(good)-1:len(good)-1], 1), clientIP, DropAuth},
		"other MAC":  {func() []byte { b := append([]byte(nil), good...); b[28]++; return b }(), clientIP, DropMAC},
		"ill formed": {parts, clientIP, DropAuth},
	} {
		if e, d := w.Input(w.now, c.b, c.dst); d != c.want || e != EventNone || w.Client.State() != Bound {
			t.Errorf("%s: %v %v, %v", name, d, e, w.Client.State())
		}
	}
	// Relays change hops and giaddr, which the digest leaves out.
	relayed := append([]byte(nil), good...)
	relayed[offHops]++
	relayed[offGIAddr] = 10
	if _, d := w.Input(w.now, relayed, clientIP); d != DropNone || w.Client.State() != Renewing {
		t.Fatalf("%v, %v", d, w.Client.State())
	}
	w.pump()
	w.wantEvents("1m0s renewed")
	if w.types() != "REQUEST" || w.log[0].dst.Addr() != serverIP {
		t.Errorf("%v", w.log)
	}
	if _, d := w.Input(w.now, good, clientIP); d != DropAuth {
		t.Errorf("the same again: %v", d)
	}
	w.run(3 * time.Hour) // and its timers are those of the new lease
	if l, ok := w.Lease(); !ok || w.now.Sub(l.Acquired) > 31*time.Minute {
		t.Errorf("%+v", l)
	}

	// An infinite lease is renewed too, again and again if nobody answers.
	w = newWorld(t, Config{})
	w.lease = Infinite
	w.withNonce()
	w.start()
	w.answer, w.log = nil, nil
	w.Input(w.now, forceRenew(8, testNonce[:]), clientIP)
	w.pump()
	w.run(time.Hour)
	if n := len(w.log); n < 4 || n > 8 {
		t.Errorf("%d requests in an hour", n)
	}
	if _, ok := w.Lease(); !ok {
		t.Error("an infinite lease was lost")
	}
}

// TestInform asks for everything but an address, again after a FORCERENEW.
func TestInform(t *testing.T) {
	w := newWorld(t, Config{})
	down := true
	w.answer = func(m *Message) *Message {
		if down {
			return nil
		}
		r := &Message{Op: OpReply, XID: m.XID, CHAddr: m.CHAddr, CIAddr: m.CIAddr}
		r.Options.Set(OptMessageType, byte(ACK))
		r.Options.SetAddr(OptServerID, serverIP)
		r.Options.SetAddr(OptDNS, serverIP)
		return r
	}
	w.withNonce()
	w.Inform(w.now, clientIP)
	w.pump()
	w.run(15 * time.Second)
	if w.types() != "INFORM INFORM INFORM" {
		t.Error(w.types())
	}
	for _, s := range w.log {
		o := s.m.Options
		if s.m.CIAddr != clientIP || s.src != clientIP || s.dst.Addr() != ip("255.255.255.255") || s.m.Broadcast ||
			o.Has(OptRequestedIP) || o.Has(OptServerID) || o.Has(OptLeaseTime) || !o.Has(OptParameters) || !o.Has(OptClientID) {
			t.Errorf("%v %+v", s, s.m)
		}
	}
	if _, ok := w.Parameters(); ok {
		t.Error("parameters of nobody")
	}
	down = false
	w.run(20 * time.Second)
	l, ok := w.Parameters()
	if !ok || len(l.DNS) != 1 || l.Addr.IsValid() || l.Server != serverIP || w.Deadline() != 0 {
		t.Errorf("%+v %v, deadline %v", l, ok, w.Deadline())
	}
	if len(w.events) != 1 || w.events[0][len(w.events[0])-8:] != "informed" {
		t.Error(w.events)
	}
	if _, ok := w.Lease(); ok {
		t.Error("an INFORM makes no lease")
	}
	w.log = nil
	if _, d := w.Input(w.now, forceRenew(8, testNonce[:]), clientIP); d != DropNone {
		t.Error(d)
	}
	w.pump()
	if w.types() != "INFORM" || w.Client.State() != Informed {
		t.Error(w.types(), w.Client.State())
	}
	// What is no answer to it.
	w = newWorld(t, Config{})
	w.answer = func(m *Message) *Message {
		r := w.reply(m, ACK)
		r.Options.Set(OptServerID)
		return r
	}
	w.Inform(w.now, clientIP)
	w.pump()
	if w.drops[DropServer] != 1 {
		t.Error(w.drops)
	}
}

// TestAutoConfigure is RFC 2563: an offer of no address says whether the host
// may make one.
func TestAutoConfigure(t *testing.T) {
	for _, c := range []struct {
		name string
		ask  bool
		say  []byte
		may  bool
		drop Drop
	}{
		{"forbidden", true, []byte{0}, false, DropNone},
		{"allowed", true, []byte{1}, true, DropNone},
		{"nonsense", true, []byte{2}, true, DropAddress},
		{"not said", true, nil, true, DropAddress},
		{"not asked", false, []byte{0}, true, DropAddress},
	} {
		w := newWorld(t, Config{AutoConfigure: c.ask})
		w.answer = func(m *Message) *Message {
			r := w.reply(m, Offer)
			r.YIAddr = netip.Addr{}
			if r.Options.Set(OptAutoConfigure, c.say...); c.say == nil {
				r.Options = r.Options[:len(r.Options)-1]
			}
			return r
		}
		w.start()
		if got := w.log[0].m.Options.Has(OptAutoConfigure); got != c.ask {
			t.Errorf("%s: the option is there: %v", c.name, got)
		}
		if w.MayAutoConfigure() != c.may || w.drops[c.drop] != 1 || w.Client.State() != Selecting {
			t.Errorf("%s: may %v, %v, %v", c.name, w.MayAutoConfigure(), w.drops, w.Client.State())
		}
		// Another who allows it does not undo that.
		if c.ask && len(c.say) > 0 && c.say[0] == 0 {
			w.answer = func(m *Message) *Message {
				r := w.reply(m, Offer)
				r.YIAddr = netip.Addr{}
				r.Options.Set(OptAutoConfigure, 1)
				return r
			}
			w.run(6 * time.Second)
			if w.drops[DropNone] != 2 || w.MayAutoConfigure() {
				t.Errorf("%s: and then allowed: may %v, %v", c.name, w.MayAutoConfigure(), w.drops)
			}
		}
		// Who forbids it does not keep others from offering an address.
		w.answer = w.serve
		w.run(10 * time.Second)
		if w.Client.State() != Bound {
			t.Errorf("%s: %v", c.name, w.Client.State())
		}
		if w.Start(w.now); !w.MayAutoConfigure() {
			t.Errorf("%s: forbidden after a new start", c.name)
		}
	}
}

// TestClientID: who a client is that was not told, and that it may be.
func TestClientID(t *testing.T) {
	for _, c := range []struct{ given, want []byte }{
		{nil, append([]byte{255, 0, 0, 0, 7, 0, 3, 0, 1}, testMAC[:]...)},
		{HardwareID(testMAC), append([]byte{1}, testMAC[:]...)},
		{NodeID(9, []byte{0, 4, 1}), []byte{255, 0, 0, 0, 9, 0, 4, 1}},
	} {
		w := newWorld(t, Config{ClientID: c.given, VendorClass: "tapstack"})
		w.start()
		w.Release(w.now)
		w.pump()
		for _, s := range w.log { // RFC 4361 §6.1: in all messages
			if got := s.m.Options.Get(OptClientID); string(got) != string(c.want) {
				t.Errorf("%v: %v, want %v", s, got, c.want)
			}
		}
		if string(w.log[0].m.Options.Get(OptVendorClass)) != "tapstack" {
			t.Error("no vendor class")
		}
	}
}

// TestVerify: a lease that is held while the link was away is verified, and
// lives on if nobody answers.
func TestVerify(t *testing.T) {
	w := newWorld(t, Config{})
	w.start()
	w.run(10 * time.Minute)
	w.log, w.events, w.answer = nil, nil, nil
	w.start()
	s := w.log[0]
	if o := s.m.Options; w.Client.State() != Rebooting || o.Addr(OptRequestedIP) != clientIP || o.Has(OptServerID) || !s.m.CIAddr.IsUnspecified() ||
		s.dst.Addr() != ip("255.255.255.255") || !s.src.IsUnspecified() {
		t.Errorf("%v %+v", s, s.m)
	}
	if _, ok := w.Lease(); !ok {
		t.Error("the lease was given up")
	}
	w.run(15 * time.Second)
	if w.types() != "REQUEST REQUEST" || w.Client.State() != Bound {
		t.Error(w.types(), w.Client.State())
	}
	w.wantEvents()
	w.run(50 * time.Minute) // the timers are still those of the lease
	if e := w.events; len(e) != 1 || e[0] != "1h0m0s lost" {
		t.Error(e)
	}

	for _, c := range []struct {
		typ  MessageType
		want string
	}{{ACK, "10m0s renewed"}, {NAK, "10m0s lost"}} {
		w = newWorld(t, Config{})
		w.start()
		w.run(10 * time.Minute)
		w.events = nil
		w.answer = func(m *Message) *Message {
			if m.Options.Type() == Request {
				return w.reply(m, c.typ)
			}
			return nil
		}
		w.start()
		w.wantEvents(c.want)
	}
	// The lease ends while nobody answers.
	w = newWorld(t, Config{})
	w.start()
	w.answer = nil
	w.run(time.Hour - 2*time.Second)
	w.events = nil
	w.start()
	w.run(2 * time.Second)
	w.wantEvents("1h0m0s lost")
}

// TestDeclines: a network on which every address is taken is asked less and
// less often.
func TestDeclines(t *testing.T) {
	w := newWorld(t, Config{})
	w.start()
	for n := 1; n <= 15; n++ {
		at := w.now
		w.Decline(w.now)
		w.pump()
		w.run(time.Hour)
		i := len(w.log) - 1
		for w.log[i].m.Options.Type() != Discover {
			i--
		}
		want := declineWait
		if n >= maxDeclines {
			want = conflictWait
		}
		if got := w.log[i].at - at.Sub(epoch); got != want {
			t.Errorf("after %d: %v, want %v", n, got, want)
		}
		w.log = nil
	}
	w.Keep()
	w.Decline(w.now)
	if got := w.Deadline().Sub(w.now); got != declineWait {
		t.Errorf("after a good one: %v", got)
	}
}
