package dhcp6

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/mono"
)

// FuzzParseMessage: what is parsed is written the same, and no reading of an
// option fails otherwise than by saying so.
func FuzzParseMessage(f *testing.F) {
	r := &rig{last: &Message{XID: 5}}
	f.Add(r.answer(Reply, serverA, ia(OptIANA, 1, 2, 0, nil, addr1, addr2), ia(OptIAPD, 1, 2, NoPrefixAvail, nil, prefix1)).Append(nil))
	f.Add(r.answer(Reply, serverA, status(NotOnLink), seconds(OptRefreshTime, 9), Option{OptNTP, []byte("\x00\x03\x00\x05\x03ntp\x00")},
		Option{OptSearch, []byte("\x01a\xc0\x00")}, Option{OptFQDN, []byte("\x01\x01a\x00")}).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, d := ParseMessage(b)
		if d != DropNone {
			return
		}
		if !bytes.Equal(m.Append(nil), b) {
			t.Errorf("%x became %x", b, m.Append(nil))
		}
		for _, o := range m.Options {
			m.Options.Value(o.Code)
		}
		var l Lease
		l.setRest(m.Options)
		for _, code := range []OptionCode{OptIANA, OptIAPD} {
			a := m.Options.association(code, testIAID)
			t1, t2 := a.times()
			if t1 > t2 || len(a.grants) > maxLeases {
				t.Errorf("%v %v %d", t1, t2, len(a.grants))
			}
		}
	})
}

// FuzzClient: whatever servers say and however time passes, the client rests,
// holds what a host can have, and asks at a bounded rate.
func FuzzClient(f *testing.F) {
	f.Add([]byte{0, 0, 1, 0, 2, 0, 3, 0, 9, 9}, false)
	f.Add([]byte{1, 7, 2, 7, 2, 7, 200, 2, 7, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}, true)
	f.Fuzz(func(t *testing.T, script []byte, pd bool) {
		cfg := Config{DUID: testDUID, IAID: testIAID, Rand: rand.New(rand.NewPCG(1, 2))}
		if pd {
			cfg.Delegate = 56
		}
		r := &rig{T: t, c: NewClient(cfg), now: mono.Time(time.Hour), last: &Message{}}
		r.c.Start(r.now)
		start, n := r.now, 0
		for ops := 0; len(script) >= 2 && ops < 64; ops++ {
			op, arg := script[0], script[1]
			script = script[2:]
			life := []uint32{uint32(arg) * 40, uint32(arg) * 80}
			ias := []Option{ia(OptIANA, uint32(op), uint32(arg), StatusCode(op>>5), life, addr1), ia(OptIAPD, 0, uint32(arg), StatusCode(arg>>5), life, prefix1)}
			switch op % 10 {
			case 0:
				r.run(time.Duration(arg) * time.Second)
			case 1:
				r.run(time.Duration(arg) * time.Hour)
			case 2:
				r.c.Input(r.now, r.answer(Reply, serverA, append(ias, Option{OptRapidCommit, nil})...).Append(nil), ourLL)
			case 3:
				r.c.Input(r.now, r.answer(Advertise, serverA, append(ias, Option{OptPreference, []byte{arg}})...).Append(nil), ourLL)
			case 4:
				r.c.Input(r.now, r.answer(Reply, serverB, status(StatusCode(arg%9))).Append(nil), ourLL)
			case 5:
				r.c.Start(r.now)
			case 6:
				r.c.Decline(r.now, addr1.Addr())
			case 7:
				m := r.answer(Reply, serverA, ias...).Append(nil)
				m[int(arg)%len(m)] ^= op
				r.c.Input(r.now, m, ourLL)
			case 8:
				r.c.Inform(r.now)
			case 9:
				r.c.Release(r.now)
				r.flush()
				r.c.Start(r.now)
			}
			r.flush()
			n += len(r.said)
			r.said = nil
			l, ok := r.c.Lease()
			if ok && len(l.Addrs)+len(l.Prefixes) == 0 || len(l.Addrs) > maxLeases {
				t.Fatalf("%+v", l)
			}
			for _, g := range l.Addrs {
				if !isHost(g.Prefix.Addr()) || g.Valid != 0 && g.Preferred > g.Valid {
					t.Fatalf("%+v", l)
				}
			}
		}
		if most := bucketSize + 1 + int(r.now.Sub(start)/bucketPeriod); n > most {
			t.Errorf("%d messages in %v", n, r.now.Sub(start))
		}
	})
}

// FuzzFiles: a file is whole and ours, or nothing.
func FuzzFiles(f *testing.F) {
	f.Add([]byte(`{"format":"tapstack-duid-1","duid":"0003","sum":"x"}`))
	f.Add(binary.BigEndian.AppendUint64(nil, 7))
	s := newStore("x", testDUID, testIAID)
	f.Fuzz(func(t *testing.T, b []byte) {
		if d, err := parseDUIDFile("x", b); err == nil && (len(d) < minDUID || len(d) > maxDUID) {
			t.Errorf("%x", d)
		}
		l, err := s.parse(b, time.Unix(1e9, 0), 1<<60)
		if err != nil && len(l.Addrs) > 0 {
			t.Error(l)
		}
	})
}
