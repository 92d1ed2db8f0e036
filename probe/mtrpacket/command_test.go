package mtrpacket

import (
	"bytes"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/icmp"
	"github.com/tapstack/tapstack/probe"
)

func TestNumber(t *testing.T) {
	for _, c := range []struct {
		s           string
		n           int64
		whole, fits bool
	}{
		{"0", 0, true, true}, {"-5", -5, true, true}, {"+7", 7, true, true}, {"007", 7, true, true},
		{"", 0, false, true}, {"-", 0, false, true}, {"abc", 0, false, true}, {"12abc", 12, false, true}, {"1.5", 1, false, true}, {"0x10", 0, false, true},
		{"9223372036854775807", math.MaxInt64, true, true}, {"9223372036854775808", math.MaxInt64, true, false},
		{"-9223372036854775808", math.MinInt64, true, true}, {"-9223372036854775809", math.MinInt64, true, false},
		{"99999999999999999999999", math.MaxInt64, true, false}, {"-99999999999999999999999", math.MinInt64, true, false},
	} {
		if n, whole, fits := number(c.s); n != c.n || whole != c.whole || fits != c.fits {
			t.Errorf("%q is %d, %v, %v", c.s, n, whole, fits)
		}
	}
}

func TestParse(t *testing.T) {
	for line, want := range map[string]string{
		"13 argle-bargle":                        "13 argle-bargle []",
		" \t13\v\fx  a\tb\r":                     "13 x [{a b}]",
		"abc x":                                  "0 x []",
		"12abc x":                                "12 x []",
		"-5 x":                                   "-5 x []",
		"4294967297 x":                           "1 x []",
		"1 x a b\x00c d e":                       "1 x [{a b}]",
		"1 x" + strings.Repeat(" a b", 16):       "1 x [" + strings.TrimSpace(strings.Repeat("{a b} ", 16)) + "]",
		"1 x" + strings.Repeat(" a b", 17):       "no",
		"":                                       "no",
		"malformed":                              "no",
		"1":                                      "no",
		"1 x a":                                  "no",
		"99999999999999999999 x":                 "no",
		"1 x \xff\xfe \u00a0":                    "1 x [{\xff\xfe \u00a0}]",
		"\x00":                                   "no",
		"1 send-probe ip-4 8.8.8.8 ttl 1 tos 2 ": "1 send-probe [{ip-4 8.8.8.8} {ttl 1} {tos 2}]",
	} {
		got := "no"
		if c, ok := parse([]byte(line)); ok {
			got = fmt.Sprint(c.token, " ", c.name, " ", c.args)
		}
		if got != want {
			t.Errorf("%q is %s, want %s", line, got, want)
		}
	}
}

// fed returns what lines makes of input that comes in pieces of n bytes.
func fed(input []byte, n int) (out []string) {
	var l lines
	for len(input) > 0 {
		k := min(n, len(input))
		l.feed(input[:k], func(b []byte) { out = append(out, string(b)) }, func() { out = append(out, "overflow\n") })
		input = input[k:]
	}
	return out
}

func TestLines(t *testing.T) {
	x := strings.Repeat("x", 1<<16)
	for _, n := range []int{1, 7, 4095, 4096, 1 << 20} {
		if got := fed([]byte("a b\n\nc\r\nrest"), n); fmt.Sprintf("%q", got) != `["a b" "" "c\r"]` {
			t.Errorf("in pieces of %d: %q", n, got)
		}
		// 16 times 4095 bytes, and a line of the 16 that are left.
		if got := fed([]byte(x+"\n"), n); len(got) != 17 || got[15] != "overflow\n" || got[16] != x[:16] {
			t.Errorf("in pieces of %d: %d lines", n, len(got))
		}
		if got := fed([]byte(x[:4094]+"\n"), n); len(got) != 1 || got[0] != x[:4094] {
			t.Errorf("the longest line in pieces of %d: %d lines", n, len(got))
		}
	}
}

func decoded(t *testing.T, args string) (*order, refusal) {
	t.Helper()
	c, ok := parse([]byte("7 send-probe " + args))
	if !ok {
		t.Fatalf("%s: no command", args)
	}
	return decode(&c)
}

func TestDecodeRefuses(t *testing.T) {
	for args, want := range map[string]refusal{
		"":                                refuseVersion,
		"ttl 3":                           refuseVersion,
		"ip-4 str-value":                  refuseArgument,
		"ip-4 ::1":                        refuseArgument,
		"ip-6 8.8.8.8":                    refuseArgument,
		"ip-6 ::ffff:8.8.8.8":             refuseArgument,
		"ip-6 fe80::1%eth0":               refuseArgument,
		"ip-4 8.8.8.8 timeout str-value":  refuseArgument,
		"ip-4 8.8.8.8 timeout 1.5":        refuseArgument,
		"ip-4 8.8.8.8 ttl str-value":      refuseArgument,
		"ip-4 8.8.8.8 ttl 0":              refuseArgument,
		"ip-4 8.8.8.8 ttl 256":            refuseArgument,
		"ip-4 8.8.8.8 ttl -2":             refuseArgument,
		"ip-4 8.8.8.8 ttl 0x10":           refuseArgument,
		"ip-4 8.8.8.8 size 9001":          refuseArgument,
		"ip-4 8.8.8.8 local-port 1023":    refuseArgument,
		"ip-4 8.8.8.8 protocol dccp":      refuseArgument,
		"ip-4 8.8.8.8 local-ip-4 ::1":     refuseArgument,
		"ip-4 8.8.8.8 local-ip-4 x":       refuseArgument,
		"ip-4 8.8.8.8 mark 1":             refusePrivilege,
		"ip-4 8.8.8.8 ip-6 ::1 ip-4 ::1":  refuseArgument,
		"ip-4 8.8.8.8 bit-pattern 1 ttl ": "",
	} {
		if args == "ip-4 8.8.8.8 bit-pattern 1 ttl " {
			if _, ok := parse([]byte("7 send-probe " + args)); ok {
				t.Error("a name without a value is a command")
			}
			continue
		}
		if o, got := decoded(t, args); o != nil || got != want {
			t.Errorf("%q: %q, want %q", args, got, want)
		}
	}
}

func TestDecode(t *testing.T) {
	a := netip.MustParseAddr
	icmp4 := probe.Request{Dst: a("8.8.8.8"), TTL: 255, Timeout: 10 * time.Second, Size: 64, EchoID: 9, EchoSeq: 33000}
	with := func(f func(*probe.Request)) probe.Request { r := icmp4; f(&r); return r }
	udp := func(dst, src uint16, size int) probe.Request {
		return with(func(r *probe.Request) {
			r.Proto, r.EchoID, r.EchoSeq, r.DstPort, r.SrcPort, r.Size = probe.UDP, 0, 0, dst, src, size
		})
	}
	for args, want := range map[string]probe.Request{
		"ip-4 8.8.8.8":                      icmp4,
		"ip-6 ::1 ip-4 8.8.8.8 bogus 3":     icmp4,
		"ip-4 8.8.8.8 local-ip-4 0.0.0.0":   icmp4,
		"ip-4 8.8.8.8 mark 0":               icmp4,
		"ip-4 8.8.8.8 port 5 ttl 1 ttl 255": icmp4,
		"ip-4 8.8.8.8 local-ip-4 10.0.0.1 protocol icmp size 512 bit-pattern 44 tos 62 ttl 1 timeout 3": with(func(r *probe.Request) {
			r.Src, r.Size, r.Pattern, r.TOS, r.TTL, r.Timeout = a("10.0.0.1"), 512, 44, 62, 1, 3*time.Second
		}),
		"ip-4 8.8.8.8 bit-pattern -511 size 1":                      with(func(r *probe.Request) { r.Pattern, r.Size = 1, 28 }),
		"ip-4 8.8.8.8 size -20 timeout 0":                           with(func(r *probe.Request) { r.Size, r.Timeout = 28, 1 }),
		"ip-4 8.8.8.8 timeout -3 ttl -1":                            with(func(r *probe.Request) { r.Timeout, r.TTL = 1, 0 }),
		"ip-4 8.8.8.8 local-device tap7":                            with(func(r *probe.Request) { r.Device = "tap7" }),
		"ip-6 ::1 size 0":                                           with(func(r *probe.Request) { r.Dst, r.Size = a("::1"), 48 }),
		"protocol udp ip-4 8.8.8.8":                                 udp(33000, 0, 64),
		"protocol udp ip-4 8.8.8.8 local-port 1991":                 udp(33000, 1991, 64),
		"protocol udp ip-4 8.8.8.8 port 990 size 9":                 udp(990, 33000, 32),
		"protocol udp ip-4 8.8.8.8 port 990 local-port 1991":        udp(990, 1991, 64),
		"protocol tcp ip-4 8.8.8.8 size 999":                        with(func(r *probe.Request) { *r = udp(80, 33000, 0); r.Proto = probe.TCP }),
		"protocol tcp ip-4 8.8.8.8 port 70000 local-port 1991":      with(func(r *probe.Request) { *r = udp(4464, 33000, 0); r.Proto = probe.TCP }),
		"protocol sctp ip-4 8.8.8.8 port 164 protocol sctp size 80": with(func(r *probe.Request) { *r = udp(164, 33000, 0); r.Proto = probe.SCTP }),
	} {
		o, refuse := decoded(t, args)
		if o == nil {
			t.Errorf("%s: %s", args, refuse)
			continue
		}
		o.number(33000, 9)
		if got, want := fmt.Sprintf("%+v", o.Request), fmt.Sprintf("%+v", want); got != want {
			t.Errorf("%s:\n%s, want\n%s", args, got, want)
		}
	}
}

func TestAppendResult(t *testing.T) {
	a := netip.MustParseAddr
	label := icmp.MPLSLabel{Label: 100, TC: 1, Bottom: true, TTL: 2}
	labels := func(n int) (l []icmp.MPLSLabel) {
		for range n {
			l = append(l, label)
		}
		return l
	}
	far := probe.Result{Kind: probe.Reply, From: a("8.8.8.8"), RTT: 1234567 * time.Nanosecond}
	with := func(f func(*probe.Result)) probe.Result { r := far; f(&r); return r }
	for _, c := range []struct {
		r    probe.Result
		want string
	}{
		{far, "reply ip-4 8.8.8.8 round-trip-time 1234"},
		{with(func(r *probe.Result) { r.From = a("fe80::1%tap7") }), "reply ip-6 fe80::1 round-trip-time 1234"},
		{with(func(r *probe.Result) { r.Kind, r.Extensions.MPLS = probe.TTLExpired, labels(2) }),
			"ttl-expired ip-4 8.8.8.8 round-trip-time 1234 mpls 100,1,1,2,100,1,1,2"},
		{with(func(r *probe.Result) { r.Kind, r.Extensions.MPLS = probe.TTLExpired, labels(9) }),
			"ttl-expired ip-4 8.8.8.8 round-trip-time 1234 mpls 100,1,1,2" + strings.Repeat(",100,1,1,2", 7)},
		{with(func(r *probe.Result) { r.Kind, r.ICMP, r.ICMPType, r.ICMPCode = probe.NoRouteHost, true, 3, 3 }), "reply ip-4 8.8.8.8 round-trip-time 1234"},
		{with(func(r *probe.Result) { r.Kind, r.ICMP, r.ICMPType, r.ICMPCode = probe.NoRouteHost, true, 3, 13 }), "no-route-host ip-4 8.8.8.8 round-trip-time 1234"},
		{with(func(r *probe.Result) {
			r.Kind, r.From, r.ICMP, r.ICMPType, r.ICMPCode = probe.NoRouteHost, a("::1"), true, 1, 4
		}), "reply ip-6 ::1 round-trip-time 1234"},
		{with(func(r *probe.Result) { r.Kind, r.ICMPType, r.ICMPCode = probe.NoRouteHost, 3, 3 }), "no-route-host ip-4 8.8.8.8 round-trip-time 1234"},
		{with(func(r *probe.Result) { r.Kind = probe.TooBig }), "no-route-host ip-4 8.8.8.8 round-trip-time 1234"},
		{with(func(r *probe.Result) { r.Kind = probe.ParameterProblem }), "no-route-host ip-4 8.8.8.8 round-trip-time 1234"},
		{probe.Result{Kind: probe.NoRouteHost, Err: syscall.EHOSTUNREACH}, "no-route-host"},
		{probe.Result{}, "no-reply"},
		{probe.Result{Kind: probe.NoRouteNetwork, Err: syscall.ENETUNREACH}, "no-route-network"},
		{probe.Result{Kind: probe.NetworkDown, Err: syscall.ENETDOWN}, "network-down"},
		{probe.Result{Kind: probe.AddressInUse, Err: syscall.EADDRINUSE}, "address-in-use"},
		{probe.Result{Kind: probe.AddressNotAvailable, Err: syscall.EADDRNOTAVAIL}, "address-not-available"},
		{probe.Result{Kind: probe.ProbesExhausted, Err: probe.ErrExhausted}, "probes-exhausted"},
		{probe.Result{Kind: probe.InvalidArgument, Err: syscall.EINVAL}, "invalid-argument"},
		{probe.Result{Kind: probe.InvalidArgument, Err: syscall.ENODEV}, "unexpected-error errno 19"},
		{probe.Result{Kind: probe.MessageSize, Err: syscall.EMSGSIZE}, "unexpected-error errno 90"},
		{probe.Result{Kind: probe.UnexpectedError, Err: syscall.EACCES}, "permission-denied"},
		{probe.Result{Kind: probe.Closed, Err: probe.ErrClosed}, "unexpected-error errno 5"},
	} {
		if got := string(appendResult(nil, -3, &c.r)); got != "-3 "+c.want+"\n" {
			t.Errorf("%v: %q, want %q", c.r.Kind, got, c.want)
		}
	}
}

// FuzzCommands: lines are the same however the input is cut, and what is taken
// for an order is in the ranges that probe asks for.
func FuzzCommands(f *testing.F) {
	f.Add([]byte("14 send-probe ip-4 8.8.8.8\n"), 3)
	f.Add([]byte("33000 send-probe ip-4 8.8.8.8 local-ip-4 10.9.1.1 protocol udp size 64 bit-pattern -1 tos 0 ttl 1 timeout 10 port 5 local-port 2000\n"), 100)
	f.Add([]byte("1 check-support feature version\r\n\n\x00\n"), 1)
	f.Add(append(bytes.Repeat([]byte("x"), 5000), '\n'), 999)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		whole := fed(b, max(len(b), 1))
		if got := fed(b, max(n, 1)); strings.Join(got, "\n") != strings.Join(whole, "\n") {
			t.Fatalf("%q in pieces of %d is %q", b, n, got)
		}
		for _, line := range whole {
			if len(line) >= maxLine {
				t.Fatalf("a line of %d bytes", len(line))
			}
			c, ok := parse([]byte(line))
			if !ok {
				continue
			}
			o, refuse := decode(&c)
			if (o == nil) == (refuse == "") {
				t.Fatalf("%q: %v and %q", line, o, refuse)
			}
			if o != nil && (!o.Dst.IsValid() || o.Size < 0 || o.Size > maxSize || o.Timeout <= 0 || o.Src.IsValid() && o.Src.Is4() != o.Dst.Is4()) {
				t.Fatalf("%q: %+v", line, o.Request)
			}
		}
	})
}
