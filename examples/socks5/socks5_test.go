package main

import (
	"bytes"
	"net/netip"
	"testing"
)

// FuzzMessages: whatever a client sends is refused or understood as one thing,
// and no byte behind a message is taken.
func FuzzMessages(f *testing.F) {
	for _, seed := range []string{
		"\x05\x01\x00", "\x05\x02\x00\x02", "\x05\x00", "\x04\x01\x00\x50\x0a\x4d\x00\x01",
		"\x01\x03ann\x06secret", "\x01\x00\x00",
		"\x05\x01\x00\x01\x0a\x4d\x00\x01\x00\x50rest",
		"\x05\x03\x00\x04\xfd\x77\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x50",
		"\x05\x01\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x0a\x4d\x00\x01\x00\x50",
		"\x05\x01\x00\x03\x04name\x00\x50", "\x05\x01\x00\x03\x0910.77.0.1\x00\x50", "\x05\x01\x00\x03\x00\x00\x50",
		"\x05\x02\x00\x03\x04na:e\x00\x50", "\x05\x01\x00\x05", "\x00\x00\x00\x01\x0a\x4d\x00\x01\x00\x07data",
		"\x00\x00\x01\x01\x0a\x4d\x00\x01\x00\x07data", "\x00\x00\x00\x03\x04name\x00\x07",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		if methods, err := readMethods(r); err == nil && len(b)-r.Len() != 2+len(methods) {
			t.Errorf("%d methods of %d bytes", len(methods), len(b)-r.Len())
		}
		r.Reset(b)
		if name, password, err := readPassword(r); err == nil && len(b)-r.Len() != 3+len(name)+len(password) {
			t.Errorf("%q and %q of %d bytes", name, password, len(b)-r.Len())
		}
		r.Reset(b)
		if q, err := readRequest(r); err == nil {
			checkTarget(t, q.to, b[3:len(b)-r.Len()])
			if q.command != cmdConnect && q.command != cmdAssociate {
				t.Errorf("%v", q.command)
			}
		}
		if to, data, err := parseDatagram(b); err == nil {
			checkTarget(t, to, b[3:len(b)-len(data)])
		}
	})
}

// checkTarget: to is a name or an address and is what its bytes say.
func checkTarget(t *testing.T, to target, b []byte) {
	if to.addr.IsValid() == (to.name != "") {
		t.Fatalf("%+v is both or neither", to)
	}
	if to.name != "" {
		if !isName(to.name) {
			t.Errorf("%q is no name", to.name)
		}
		return
	}
	if back := appendAddr(nil, netip.AddrPortFrom(to.addr, to.port)); b[0] == atypIPv4 && !bytes.Equal(back, b) {
		t.Errorf("%v of %x is %x", to, b, back)
	}
	if ap, err := netip.ParseAddrPort(to.String()); err != nil || ap.Addr() != to.addr {
		t.Errorf("%v: %v", to, err)
	}
}
