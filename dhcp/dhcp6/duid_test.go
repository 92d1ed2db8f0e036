package dhcp6

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/mono"
)

// TestDUID: the kinds of RFC 8415 §11, byte by byte.
func TestDUID(t *testing.T) {
	mac := ether.Addr{2, 0, 0, 0, 0, 9}
	for _, c := range []struct {
		k    DUIDKind
		want []byte
	}{
		{DUIDLL, []byte{0, 3, 0, 1, 2, 0, 0, 0, 0, 9}},
		{DUIDLLT, []byte{0, 1, 0, 1, 0, 1, 0x51, 0x80, 2, 0, 0, 0, 0, 9}},
		{DUIDUUID, append([]byte{0, 4}, 0, 0, 0, 0, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, 0)},
	} {
		if got := NewDUID(c.k, mac, duidEpoch.Add(24*time.Hour), [16]byte{}); !bytes.Equal(got, c.want) {
			t.Errorf("%v: %x", c.k, got)
		}
		if k, d, err := ParseDUID(c.k.String()); k != c.k || d != nil || err != nil {
			t.Error(k, d, err)
		}
	}
	en := EnterpriseDUID(9, []byte{1, 2})
	if k, d, err := ParseDUID("00:02:00000009:0102"); err != nil || k != DUIDEN || !bytes.Equal(d, en) || k.String() != "en" || DUIDKind(9).String() != "type 9" {
		t.Error(k, d, err)
	}
	for _, s := range []string{"", "0003", "xyz", "000"} {
		if _, _, err := ParseDUID(s); err == nil {
			t.Errorf("%q", s)
		}
	}
	if IAID(mac) != 9 {
		t.Error(IAID(mac))
	}
}

// TestKeepDUID: it is the same at each start, and damage is an error.
func TestKeepDUID(t *testing.T) {
	path := filepath.Join(t.TempDir(), "duid")
	got, err := KeepDUID(path, func() []byte { return testDUID })
	again, err2 := KeepDUID(path, func() []byte { return serverA })
	if err != nil || err2 != nil || !bytes.Equal(got, testDUID) || !bytes.Equal(again, testDUID) {
		t.Fatal(got, again, err, err2)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 1
		if d, err := parseDUIDFile(path, b); err == nil && !bytes.Equal(d, testDUID) {
			t.Errorf("byte %d: %x", i, d)
		}
		if _, err := parseDUIDFile(path, good[:i]); err == nil && i < len(good)-1 {
			t.Errorf("%d bytes are taken", i)
		}
	}
	if err := os.WriteFile(path, good[:9], 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := KeepDUID(path, func() []byte { return serverA }); err == nil {
		t.Error("a damaged file is replaced")
	}
}

// TestStore: what is read is what was written, as far as it is still valid.
func TestStore(t *testing.T) {
	wall, now := time.Unix(1700000000, 0), mono.Time(1000*time.Hour)
	s := newStore(filepath.Join(t.TempDir(), "lease"), testDUID, testIAID)
	if l, err := s.load(wall, now); err != nil || len(l.Addrs) != 0 {
		t.Error(l, err)
	}
	l := Lease{Server: serverA, Acquired: now.Add(-time.Minute), T1: time.Hour, T2: Infinite,
		Addrs:    []Granted{{addr1, now.Add(time.Hour), now.Add(2 * time.Hour)}, {addr2, 0, 0}},
		Prefixes: []Granted{{prefix1, now.Add(-time.Second), now.Add(3 * time.Hour)}}}
	if err := s.save(wall, now, &l); err != nil {
		t.Fatal(err)
	}
	got, err := s.load(wall.Add(time.Minute), now.Add(time.Minute))
	if err != nil || got.T1 != l.T1 || got.T2 != l.T2 || got.Acquired != l.Acquired || !bytes.Equal(got.Server, serverA) || len(got.Addrs) != 2 ||
		got.Addrs[0] != l.Addrs[0] || got.Addrs[1] != l.Addrs[1] || len(got.Prefixes) != 1 || got.Prefixes[0] != l.Prefixes[0] {
		t.Errorf("%+v, %v", got, err)
	}
	if got, _ := s.load(wall.Add(150*time.Minute), now); len(got.Addrs) != 1 || len(got.Prefixes) != 1 {
		t.Errorf("%+v", got)
	}
	if got, _ := s.load(wall.Add(-time.Hour), now); len(got.Addrs) != 0 {
		t.Errorf("from the future: %+v", got)
	}
	if _, err := newStore(s.path, serverA, testIAID).load(wall, now); err == nil {
		t.Error("another client's")
	}
	if err := s.remove(); err != nil {
		t.Error(err)
	}
	if err := s.remove(); err != nil {
		t.Error(err)
	}
}

// TestOptions: each as what it is, or absent.
func TestOptions(t *testing.T) {
	o := Options{{OptDNS, append(addr1.Addr().AsSlice(), make([]byte, 16)...)}, {OptSearch, []byte("\x01a\x01b\x00\x01c\x00")}, {OptSNTP, []byte{1}},
		{OptPreference, []byte{7}}, {OptStatus, []byte{0, 4}}, {OptRapidCommit, nil}, {OptUnicast, addr2.Addr().AsSlice()}, {41, []byte("EST5")}, {999, []byte{1}}}
	for code, want := range map[OptionCode]string{OptDNS: "dns-servers", 999: "option-999"} {
		if code.String() != want {
			t.Error(code)
		}
	}
	for _, c := range []struct {
		code OptionCode
		ok   bool
	}{{OptDNS, true}, {OptSearch, true}, {OptSNTP, false}, {OptPreference, true}, {OptStatus, true}, {OptRapidCommit, true}, {OptUnicast, true}, {41, true}, {999, true}, {OptNTP, false}} {
		if v, ok := o.Value(c.code); ok != c.ok {
			t.Errorf("%v: %v %v", c.code, v, ok)
		}
	}
	if v, _ := o.Value(OptStatus); v != NotOnLink || NotOnLink.String() != "NotOnLink" || StatusCode(99).String() != "UnspecFail" {
		t.Error(v)
	}
	if len(o.Addrs(OptDNS)) != 1 || len(o.Domains(OptSearch)) != 2 {
		t.Error(o)
	}
	// Compressed names, and what no name has, are not taken (§10).
	for _, bad := range []string{"\x01a\x00\xc0\x00", "\x02a b\x00", "\x01a", "\x00", "\x05ab"} {
		if d := (Options{{OptSearch, []byte(bad)}}).Domains(OptSearch); d != nil {
			t.Errorf("%q: %q", bad, d)
		}
	}
	if p := (Options{{OptCaptivePortal, []byte("urn:ietf:params:capport:unrestricted")}}).Portal(); p != "" {
		t.Error(p)
	}
}
