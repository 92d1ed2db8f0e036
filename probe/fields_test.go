package probe_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/probe"
	"github.com/tapstack/tapstack/stack"
)

// TestFields: each field of a request is found in the packet that leaves.
func TestFields(t *testing.T) {
	eachFamily(t, func(t *testing.T, dst netip.Addr, _ func(int) netip.Addr) {
		w := newWorld(t, 1, probe.Options{})
		packets := w.silence()
		v6 := dst.Is6()
		hl := 20
		if v6 {
			hl = 40
		}
		leaves := func(q probe.Request) []byte {
			t.Helper()
			*packets = nil
			q.Dst, q.Timeout = dst, 1
			w.p.Send(q, func(r probe.Result) {
				if r.Kind != probe.NoReply && r.Kind != probe.Closed {
					t.Errorf("%+v: %v, %v", q, r.Kind, r.Err)
				}
			})
			w.RunFor(line)
			if len(*packets) != 1 {
				t.Fatalf("%+v: %d packets left", q, len(*packets))
			}
			return slices.Clone((*packets)[0])
		}
		for proto := probe.ICMP; proto <= probe.SCTP; proto++ {
			q := probe.Request{Proto: proto, TTL: 77, TOS: 0x2a, Size: 128, Pattern: 0xa5, DF: true, Device: "eth0", SrcPort: 4321, DstPort: 99}
			if proto == probe.ICMP {
				q.EchoID, q.EchoSeq, q.EchoSum = 4321, 7, 0x1234
			}
			if v6 {
				q.FlowLabel = 0x54321
			}
			b := leaves(q)
			m := b[hl:]
			if len(b) != 128 {
				t.Errorf("%v: %d bytes", proto, len(b))
			}
			if v6 {
				// A router has counted the hop limit down.
				if word := binary.BigEndian.Uint32(b); b[7] != 76 || word>>20&0xff != 0x2a || word&0xfffff != 0x54321 {
					t.Errorf("%v: % x", proto, b[:hl])
				}
			} else if b[8] != 76 || b[1] != 0x2a || b[6]&0x40 == 0 || binary.BigEndian.Uint16(b[4:]) == 0 {
				t.Errorf("%v: % x", proto, b[:hl])
			}
			ports := binary.BigEndian.Uint16(m) == 4321 && binary.BigEndian.Uint16(m[2:]) == 99
			if proto == probe.ICMP {
				ports = binary.BigEndian.Uint16(m[4:]) == 4321 && binary.BigEndian.Uint16(m[6:]) == 7 && binary.BigEndian.Uint16(m[2:]) == 0x1234
			}
			if !ports {
				t.Errorf("%v: % x", proto, m[:8])
			}
			// Two bytes of data may make up for the checksum.
			if !bytes.HasSuffix(m, bytes.Repeat([]byte{0xa5}, 40)) {
				t.Errorf("%v: % x", proto, m)
			}
			q.Payload, q.EchoSum = []byte("what it says"), 0
			q.SrcPort++
			q.EchoSeq++
			if b := leaves(q); !bytes.Contains(b, q.Payload) || len(b) >= 128 {
				t.Errorf("%v with a payload: % x", proto, b)
			}
			if !v6 {
				q.DF = false
				q.SrcPort++
				q.EchoSeq++
				if b := leaves(q); b[6]&0x40 != 0 {
					t.Errorf("%v: DF without being asked for", proto)
				}
			}
			if r := w.ask(probe.Request{Dst: dst, Proto: proto, Mark: 1}); r.Kind != probe.InvalidArgument || !errors.Is(r.Err, probe.ErrMark) {
				t.Errorf("%v with a mark: %v, %v", proto, r.Kind, r.Err)
			}
		}
		if r := w.ask(probe.Request{Dst: dst, FlowLabel: 1 << 20}); r.Kind != probe.InvalidArgument {
			t.Errorf("a flow label of 21 bits: %v", r.Kind)
		}
		if b := leaves(probe.Request{}); v6 && b[7] != 63 || !v6 && b[8] != 63 {
			t.Errorf("TTL without being asked for: % x", b[:hl])
		}
	})
}

// TestDevice: a probe leaves by the interface that is asked for, from an address
// of its own, and from the source that is asked for.
func TestDevice(t *testing.T) {
	w := newWorld(t, 1, probe.Options{})
	side := w.Segment(wire.Options{MTU: 1500})
	host, _ := w.Host(side, stack.Config{}, nil, "10.3.0.9/24")
	defer func() { host.Close() }()
	mac := ether.Addr{2, 0, 0, 0, 9, 9}
	nic, err := w.near.AddInterface(stack.InterfaceConfig{Name: "side", Device: side.Attach("side", mac), MAC: mac, NoDAD: true, Plain: true})
	if err == nil {
		err = nic.AddAddr(netip.MustParsePrefix("10.3.0.1/24"))
	}
	if err != nil {
		t.Fatal(err)
	}
	if r := w.ask(probe.Request{Dst: addr("10.3.0.9"), Device: "side"}); r.Kind != probe.Reply {
		t.Errorf("by its own: %v, %v", r.Kind, r.Err)
	}
	if p, err := w.p.Path(&probe.Request{Dst: addr("10.3.0.9"), Device: "side"}); err != nil || p.Src != addr("10.3.0.1") {
		t.Errorf("%+v, %v", p, err)
	}
	if r := w.ask(probe.Request{Dst: addr("10.3.0.9"), Device: "eth0"}); r.Kind == probe.Reply {
		t.Errorf("by another: %v", r.Kind)
	}
	before := host.Counters()["ipv4.input"]
	w.ask(probe.Request{Dst: addr("10.3.0.9"), Src: addr("10.0.0.1"), Device: "side", Timeout: line})
	if host.Counters()["ipv4.input"] != before+1 {
		t.Error("from another interface's address: nothing came")
	}
}
