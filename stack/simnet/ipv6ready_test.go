package simnet_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/internal/csum"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/stack/simnet"
)

// This file runs the cases of testdata/ipv6ready.txt, each with a host of its
// own and a tester on one segment, in virtual time.

// deviceMAC is what the frames of the cases were made for.
var deviceMAC = ether.Addr{0x00, 0x11, 0x22, 0x33, 0x44, 0x56}

type readyStep struct {
	op    string
	what  string // name of the frame, kind of message, address
	frame []byte
	n     int // seconds or bytes
	line  int
}

type readyCase struct {
	id, linux string
	steps     []readyStep
}

func readReady(t *testing.T) (cases []readyCase) {
	t.Helper()
	f, err := os.Open("testdata/ipv6ready.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	frames := map[string][]byte{}
	sc := bufio.NewScanner(f)
	for line := 1; sc.Scan(); line++ {
		w := strings.Fields(sc.Text())
		if len(w) == 0 || w[0] == "#" {
			continue
		}
		switch w[0] {
		case "frame":
			if frames[w[1]], err = unpackHex(w[2]); err != nil {
				t.Fatalf("line %d: %v", line, err)
			}
			continue
		case "case":
			cases = append(cases, readyCase{id: w[1], linux: strings.TrimPrefix(w[2], "linux=")})
			continue
		}
		s, err := readyStep{op: w[0], line: line}, error(nil)
		if len(w) > 1 {
			s.what = w[1]
			s.n, err = strconv.Atoi(w[len(w)-1])
		}
		if s.op == "inject" || s.op == "check" {
			if s.frame = frames[s.what]; s.frame == nil {
				t.Fatalf("line %d: no frame %s", line, s.what)
			}
		} else if err != nil {
			t.Fatalf("line %d: %v", line, err)
		}
		c := &cases[len(cases)-1]
		c.steps = append(c.steps, s)
	}
	if sc.Err() != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", sc.Err())
	}
	return cases
}

// unpackHex reads hex in which xx*N. stands for N times the byte xx.
func unpackHex(s string) (b []byte, err error) {
	for s != "" {
		x, rest, run := strings.Cut(s, "*")
		part, err := hex.DecodeString(x)
		if err != nil || len(part) == 0 {
			return nil, fmt.Errorf("frame: %v", err)
		}
		b, s = append(b, part...), rest
		if run {
			count, rest, _ := strings.Cut(rest, ".")
			n, err := strconv.Atoi(count)
			if err != nil {
				return nil, err
			}
			b, s = append(b, bytes.Repeat(b[len(b)-1:], n-1)...), rest
		}
	}
	return b, nil
}

// readyRun is a case that runs.
type readyRun struct {
	t      *testing.T
	net    *simnet.Net
	seg    *wire.Segment
	host   *stack.Stack
	nic    *stack.Interface
	tester *wire.Port
	pinger *stack.Datagram
	heard  [][]byte // from the host, not looked at yet
	// skipped are probes that a check for another passed over.
	skipped [][]byte
}

func newReadyRun(t *testing.T) *readyRun {
	n := simnet.New(1)
	r := &readyRun{t: t, net: n, seg: n.Segment(wire.Options{Hub: true})}
	r.tester = r.seg.Attach("tester", ether.Addr{})
	r.tester.Attach(func(p *pkt.Buf) {
		r.heard = append(r.heard, bytes.Clone(p.Bytes()))
		p.Put()
	}, func() {})
	r.boot()
	return r
}

func (r *readyRun) boot() {
	r.t.Helper()
	if r.host != nil {
		r.host.Close()
	}
	r.host = stack.New(stack.Config{Clock: r.net.Clock(), Seed: 1})
	var err error
	r.nic, err = r.host.AddInterface(stack.InterfaceConfig{Name: "eth0", Device: r.seg.Attach("host", deviceMAC), MAC: deviceMAC, SLAAC: true, Plain: true,
		IID: ipv6.IIDEUI64, NoDADNonce: true})
	if err != nil {
		r.t.Fatal(err)
	}
}

// run takes the steps and returns what went wrong, "" for nothing.
func (r *readyRun) run(c *readyCase) string {
	// The original boots the host before the first case: but in those that begin
	// with what it sends then, it is up, and its start has passed.
	if first := c.steps[0]; first.op != "check" {
		r.net.RunFor(5 * time.Second)
		r.heard = nil
	}
	for i, s := range c.steps {
		wait := time.Duration(s.n) * time.Second
		switch s.op {
		case "inject":
			if _, err := r.tester.Send(0, []*pkt.Buf{pkt.From(s.frame)}); err != nil {
				return fmt.Sprintf("line %d: %v", s.line, err)
			}
			r.net.RunFor(time.Millisecond)
		case "check":
			if i > 0 && isDAD(s.frame) && bytes.Equal(s.frame, c.steps[i-1].frame) {
				continue // how often an address is probed is the host's choice
			}
			var passed []string
			skipped := len(r.skipped)
			// Two ticks of its clock is what the original adds.
			if !r.listen(wait+20*time.Millisecond, func(b []byte) bool {
				diff := r.differs(s.frame, b)
				passed = append(passed, diff)
				if diff != "" && isDAD(s.frame) && isDAD(b) {
					// Probes of several addresses come in any order.
					r.skipped = append(r.skipped, b)
				}
				return diff == ""
			}) {
				if slices.ContainsFunc(r.skipped[:skipped], func(b []byte) bool { return r.differs(s.frame, b) == "" }) {
					continue
				}
				return fmt.Sprintf("line %d: %s did not come, but %d others: %s", s.line, s.what, len(passed), strings.Join(passed, "; "))
			}
		case "none":
			kinds := map[string]byte{"ns": icmp.TypeNS, "ns-assigned": icmp.TypeNS, "na": icmp.TypeNA, "rs": icmp.TypeRS, "er": icmp.TypeEchoReply6}
			kind, ok := kinds[s.what]
			if !ok {
				r.t.Fatalf("line %d: no messages %s", s.line, s.what)
			}
			if r.listen(wait, func(b []byte) bool {
				h := ipv6.Header(b[ether.HeaderLen:])
				return h.NextHeader() == ipv6.ProtoICMPv6 && h[ipv6.HeaderLen] == kind && (s.what != "ns-assigned" || !h.Src().IsUnspecified())
			}) {
				return fmt.Sprintf("line %d: a message %s came", s.line, s.what)
			}
		case "wait":
			r.net.RunFor(wait)
		case "forget":
			r.heard = nil
		case "reboot":
			r.boot()
		case "ping":
			r.ping(netip.MustParseAddr(s.what), s.n)
		default:
			r.t.Fatalf("line %d: no step %s", s.line, s.op)
		}
	}
	return ""
}

// listen looks at each frame from the host, those that came already and those
// within d, until one is it.
func (r *readyRun) listen(d time.Duration, is func([]byte) bool) bool {
	found, end := false, r.net.Now().Add(d)
	r.net.Until(d, func() bool {
		for len(r.heard) > 0 && !found {
			found = is(r.heard[0])
			r.heard = r.heard[1:]
		}
		return found
	})
	if !found {
		r.net.RunFor(end.Sub(r.net.Now()))
	}
	return found
}

// ping sends an echo request of n zeros, in digits, as the original.
func (r *readyRun) ping(a netip.Addr, n int) {
	r.t.Helper()
	if r.pinger == nil {
		var err error
		if r.pinger, err = r.host.NewPing(); err == nil {
			// The identifier that the errors quote.
			err = r.pinger.Bind(netip.AddrPortFrom(netip.IPv6Unspecified(), 0x4456))
		}
		if err != nil {
			r.t.Fatal(err)
		}
	}
	if a.IsLinkLocalUnicast() || a.IsMulticast() {
		a = a.WithZone("eth0")
	}
	body := append([]byte{icmp.TypeEcho6, 0, 0, 0, 0, 0, 0, 0}, bytes.Repeat([]byte{'0'}, n)...)
	if err := r.pinger.SendTo(body, netip.AddrPortFrom(a, 0)); err != nil {
		r.t.Logf("ping %v: %v", a, err)
	}
}

// differs says in what a frame of the host is not the one that is expected,
// "" if in nothing but what hosts may choose: the flow label, the hop limit but
// of neighbour discovery, identifications of fragments, the address that they
// ask neighbours from, and in solicited advertisements the O flag and the
// option with the link-layer address (RFC 4861 §7.2.4).
func (r *readyRun) differs(want, got []byte) string {
	if bytes.Equal(want, got) {
		return ""
	}
	kind := describe(got)
	if len(got) < ether.HeaderLen+ipv6.HeaderLen || !bytes.Equal(want[:ether.HeaderLen], got[:ether.HeaderLen]) {
		return kind + " with another Ethernet header"
	}
	w, g := bytes.Clone(want[ether.HeaderLen:]), bytes.Clone(got[ether.HeaderLen:])
	hw, hg := ipv6.Header(w), ipv6.Header(g)
	copy(g[1:4], []byte{g[1]&0xf0 | w[1]&0x0f, w[2], w[3]}) // flow label
	if hw.NextHeader() != hg.NextHeader() {
		return kind + " with another next header"
	}
	switch hw.NextHeader() {
	case ipv6.ProtoFragment:
		g[7] = w[7]
		copy(g[ipv6.HeaderLen+4:ipv6.HeaderLen+8], w[ipv6.HeaderLen+4:])
		if bytes.Equal(w[ipv6.HeaderLen:], g[ipv6.HeaderLen:min(len(g), len(w))]) {
			break
		}
	case ipv6.ProtoICMPv6:
		mw, mg := w[ipv6.HeaderLen:], g[ipv6.HeaderLen:]
		if csum.Checksum(mg, csum.Pseudo(hg.Src(), hg.Dst(), ipv6.ProtoICMPv6, len(mg))) != 0 {
			return kind + " with a wrong checksum"
		}
		switch {
		case mg[0] != mw[0] || mg[1] != mw[1]:
		case mg[0] == icmp.TypeNS && !hg.Src().IsUnspecified() && !hw.Src().IsUnspecified():
			copy(g[8:24], w[8:24])
		case mg[0] == icmp.TypeNA && !hg.Dst().IsMulticast():
			mg[4] = mg[4]&^0x20 | mw[4]&0x20
			if len(mg) == len(mw)+8 || len(mg) == len(mw)-8 {
				mg, mw = mg[:min(len(mg), len(mw))], mw[:min(len(mg), len(mw))]
				g, w = g[:ipv6.HeaderLen+len(mg)], w[:ipv6.HeaderLen+len(mw)]
				copy(g[4:6], w[4:6])
			}
		}
		if mg[0] < icmp.TypeRS || mg[0] > icmp.TypeRedirect6 {
			g[7] = w[7]
		}
		copy(mg[2:4], mw[2:4]) // verified above
	default:
		g[7] = w[7]
	}
	if bytes.Equal(w, g) {
		return ""
	}
	if len(w) != len(g) {
		return fmt.Sprintf("%s of %d bytes, not %d", kind, len(g), len(w))
	}
	for i := range w {
		if w[i] != g[i] {
			return fmt.Sprintf("%s with %x, not %x, at byte %d", kind, g[i:min(i+16, len(g))], w[i:min(i+16, len(w))], i)
		}
	}
	return ""
}

// isDAD reports whether a frame asks whether an address is in use.
func isDAD(b []byte) bool {
	h := ipv6.Header(b[ether.HeaderLen:])
	return h.NextHeader() == ipv6.ProtoICMPv6 && h[ipv6.HeaderLen] == icmp.TypeNS && h.Src().IsUnspecified()
}

// describe names a frame for messages.
func describe(b []byte) string {
	if len(b) < ether.HeaderLen+ipv6.HeaderLen+4 || ether.Type(binary.BigEndian.Uint16(b[12:])) != ether.TypeIPv6 {
		return "no IPv6"
	}
	h := ipv6.Header(b[ether.HeaderLen:])
	if h.NextHeader() == ipv6.ProtoICMPv6 {
		return fmt.Sprintf("ICMPv6 %d %d from %v to %v", h[ipv6.HeaderLen], h[ipv6.HeaderLen+1], h.Src(), h.Dst())
	}
	return fmt.Sprintf("protocol %d from %v to %v", h.NextHeader(), h.Src(), h.Dst())
}

// differs are the cases that the stack does not pass, and why.
var differs = map[string]string{
	"01-008": "takes longer than a neighbour is believed, and does not answer when it is asked whether it is there; Linux differs as well",
	"01-013": "as 01-008",
	"02-151": "wants a neighbour to be believed for 40 s, where RFC 4861 §6.3.2 draws a time of 20 to 60 s; Linux differs as well",
	"05-020": "wants a neighbour to be remembered that was not used for 65 s; here and with Linux it is for 60 s, which differs as well",
	"05-024": "as 05-020",
	"01-003": "the reply has the traffic class of the request, as that of Linux, which differs as well",
	"04-009": "the case wants an atomic fragment after an MTU of 56, which RFC 8021 has deprecated; Linux differs as well",
}

// TestIPv6Ready runs the cases of the IPv6 Ready core tests: at least as many
// pass as with Linux, and each of the others has its reason.
func TestIPv6Ready(t *testing.T) {
	passed, linux := 0, 0
	for _, c := range readReady(t) {
		if c.linux == "pass" {
			linux++
		}
		t.Run(c.id, func(t *testing.T) {
			diff, why := newReadyRun(t).run(&c), differs[c.id]
			switch {
			case diff == "":
				passed++
				if why != "" {
					t.Errorf("passes, although: %s", why)
				}
			case why == "":
				t.Errorf("%s (linux=%s)", diff, c.linux)
			}
		})
	}
	if passed < linux {
		t.Errorf("%d cases pass, with Linux %d", passed, linux)
	}
	t.Logf("%d cases pass, with Linux %d", passed, linux)
}
