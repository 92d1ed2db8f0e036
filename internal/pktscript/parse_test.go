package pktscript

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

// event parses a script of one event.
func event(t *testing.T, src string) Event {
	t.Helper()
	s, err := Parse("", src)
	if err != nil {
		t.Fatalf("%s: %v", src, err)
	}
	if len(s.Events) != 1 {
		t.Fatalf("%s: %d events", src, len(s.Events))
	}
	return s.Events[0]
}

func TestParseTimes(t *testing.T) {
	ms := time.Millisecond
	for src, want := range map[string]When{
		"0 `x`":                       {Kind: Absolute},
		"1.5 `x`":                     {Kind: Absolute, From: 1500 * ms},
		"+.1 `x`":                     {Kind: Relative, From: 100 * ms},
		"+0.000001 `x`":               {Kind: Relative, From: time.Microsecond},
		"0.1~0.2 > . 1:1(0) ack 1":    {Kind: AbsoluteRange, From: 100 * ms, To: 200 * ms},
		"+.1~+.2 > . 1:1(0) ack 1":    {Kind: RelativeRange, From: 100 * ms, To: 200 * ms},
		"* > . 1:1(0) ack 1":          {Kind: AnyTime},
		"0.1...0.2 read(3) = 0":       {Kind: Absolute, From: 100 * ms, Until: 200 * ms, Blocks: true},
		"+0...0.000 read(3) = 0":      {Kind: Relative, Blocks: true},
		"+.002 ... 0.004 read(3) = 0": {Kind: Relative, From: 2 * ms, Until: 4 * ms, Blocks: true},
		"`x`":                         {Unattended: true},
	} {
		if got := event(t, src).At; got != want {
			t.Errorf("%s: %+v", src, got)
		}
	}
}

func TestParsePackets(t *testing.T) {
	def := Packet{ACE: -1, Win: -1, MTU: -1, ID: -1, IP: IPInfo{TOS: -1, TTL: -1, FlowLabel: -1}}
	with := func(f func(p *Packet)) Packet { p := def; f(&p); return p }
	for src, want := range map[string]Packet{
		"> S 0:0(0) <...>": with(func(p *Packet) { p.Out, p.Flags, p.AnyOpts = true, "S", true }),
		"< SEW 7:7(0) win 100 <mss 1000,sackOK,nop,wscale 3,eol>": with(func(p *Packet) {
			p.Flags, p.Seq, p.Win = "SEW", 7, 100
			p.Opts = []TCPOption{{Kind: optMSS, Data: []byte{3, 232}}, {Kind: optSACKOK}, {Kind: optNOP}, {Kind: optWScale, Data: []byte{3}}, {Kind: optEOL}}
		}),
		"> FP. 1:11(10) ack 5 win 6 urg 3": with(func(p *Packet) {
			p.Out, p.Flags, p.Seq, p.Len, p.HasAck, p.Ack, p.Win, p.Urg = true, "FP.", 1, 10, true, 5, 6, 3
		}),
		"< - 1:1(0)":            with(func(p *Packet) { p.Seq = 1 }),
		"> R. 0:0(0)! ack 2":    with(func(p *Packet) { p.Out, p.Flags, p.Absolute, p.HasAck, p.Ack = true, "R.", true, true, 2 }),
		"> S.5 0:0(0) ack 1":    with(func(p *Packet) { p.Out, p.Flags, p.ACE, p.HasAck, p.Ack = true, "S.", 5, true, 1 }),
		"< .3 1:1(0) ack 1":     with(func(p *Packet) { p.Flags, p.ACE, p.Seq, p.HasAck, p.Ack = ".", 3, 1, true, 1 }),
		"< [ect0] . 1:1(0)":     with(func(p *Packet) { p.IP.ECN, p.Flags, p.Seq = "ect0", ".", 1 }),
		"> (tos 0x20) . 1:1(0)": with(func(p *Packet) { p.Out, p.IP.TOS, p.Flags, p.Seq = true, 0x20, ".", 1 }),
		"> [noecn, flowlabel 0x5] . 1:1(0)": with(func(p *Packet) {
			p.Out, p.IP.ECN, p.IP.FlowLabel, p.Flags, p.Seq = true, "noecn", 5, ".", 1
		}),
		"< 50000 > 80 . 1:1(0)": with(func(p *Packet) { p.SrcPort, p.DstPort, p.Flags, p.Seq = 50000, 80, ".", 1 }),
		"< . 1:1(0) ack 9 <sack 1:2 3:4,TS val 5 ecr 6>": with(func(p *Packet) {
			p.Flags, p.Seq, p.HasAck, p.Ack = ".", 1, true, 9
			p.Opts = []TCPOption{{Kind: optSACK, Blocks: [][2]uint32{{1, 2}, {3, 4}}}, {Kind: optTS, TSVal: 5, TSEcr: 6}}
		}),
		"< . 1:1(0) <FO 0102,FO,FOEXP aabb,md5 0f,kind 30: 01>": with(func(p *Packet) {
			p.Flags, p.Seq = ".", 1
			p.Opts = []TCPOption{{Kind: optFO, Data: []byte{1, 2}}, {Kind: optFO}, {Kind: optExp, Data: []byte{0xf9, 0x89, 0xaa, 0xbb}},
				{Kind: optMD5, Data: []byte{15}}, {Kind: 30, Data: []byte{1}}}
		}),
		"< . 1:1(0) <ECN e0b 1 ceb 2 e1b 65536,ECN e1b 3>": with(func(p *Packet) {
			p.Flags, p.Seq = ".", 1
			p.Opts = []TCPOption{{Kind: optAccECN0, Data: []byte{0, 0, 1, 0, 0, 2, 1, 0, 0}}, {Kind: optAccECN1, Data: []byte{0, 0, 3}}}
		}),
		"< udp (1000)": with(func(p *Packet) { p.Proto, p.Len = UDP, 1000 }),
		"< icmp unreachable frag_needed mtu 1200 [1:1461(1460)]": with(func(p *Packet) {
			p.Proto, p.Type, p.Code, p.MTU, p.Quoted = ICMP, "unreachable", "frag_needed", 1200, &Quoted{"tcp", 1, 1460}
		}),
		"< icmp packet_too_big mtu 1280 [udp (8)]": with(func(p *Packet) {
			p.Proto, p.Type, p.MTU, p.Quoted = ICMP, "packet_too_big", 1280, &Quoted{"udp", 0, 8}
		}),
		"> icmp echo_reply id 7": with(func(p *Packet) { p.Out, p.Proto, p.Type, p.ID = true, ICMP, "echo_reply", 7 }),
	} {
		if got := event(t, "0 "+src).Packet; got == nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("%s: %+v", src, got)
		}
	}
}

func TestParseCalls(t *testing.T) {
	for src, want := range map[string]string{
		`socket(..., SOCK_STREAM, IPPROTO_TCP) = 3`:                                                   "socket [... SOCK_STREAM IPPROTO_TCP] 3 ",
		`read(3, ..., 10) = -1 EAGAIN (Try again)`:                                                    "read [3 ... 10] -1 EAGAIN",
		`fcntl(3, F_SETFL, O_RDWR | O_NONBLOCK) = 0x2 (flags)`:                                        "fcntl [3 F_SETFL O_RDWR|O_NONBLOCK] 2 ",
		`write(3, "a\x41\n" "b"..., 4) = 4`:                                                           `write [3 "aA\nb" 4] 4 `,
		`poll([{fd=4, events=POLLIN, revents=POLLIN|POLLOUT}], 1, 0) = 1`:                             "poll [[{fd=4, events=POLLIN, revents=POLLIN|POLLOUT}] 1 0] 1 ",
		`sendmsg(4, {msg_name(...)=..., msg_iov(2)=[{..., 1}, {..., 2}], msg_flags=0}, MSG_MORE) = 3`: "sendmsg [4 {msg_name=..., msg_iov=[{..., 1}, {..., 2}], msg_flags=0} MSG_MORE] 3 ",
		`bind(3, {sa_family = AF_INET, sin_port = htons(80), sin_addr = inet_addr("1.2.3.4")}, 16)=0`: `bind [3 {sa_family=AF_INET, sin_port=80, sin_addr="1.2.3.4"} 16] 0 `,
	} {
		c := event(t, "0 "+src).Call
		var args []string
		for _, a := range c.Args {
			args = append(args, a.String())
		}
		if got := c.Name + " [" + strings.Join(args, " ") + "] " + c.Result.String() + " " + c.Errno; got != want {
			t.Errorf("%s: %s", src, got)
		}
	}
}

// What is wrong in a script is found, with its line.
func TestParseErrors(t *testing.T) {
	for src, want := range map[string]string{
		"0 > . 1:3(1)":                  "line 1: 1:3(1) does not add up",
		"0 `a`\n\n0 > X 1:1(0)":         `line 3: flags "X"`,
		"0 < . 1:1(0) <mss>":            `line 1: ">" where a number should be`,
		"0 < . 1:1(0) win 65536":        "line 1: 65536 is not from 0 to 65535",
		"0.1~0.2 < . 1:1(0)":            "line 1: only an expected packet may come at an uncertain time",
		"+.2~+.1 > . 1:1(0)":            "line 1: the time range is backwards",
		"0 read(3":                      `line 1: "end of script" where ")" should be`,
		"0 %{ assert 1 ":                "line 1: code without its end",
		"0 `x":                          "line 1: string without its end",
		"#ifdef A\n0 `x`":               "line 2: #ifdef without #endif",
		"#include <x>\n":                `line 1: "#" where a time should be`,
		"0 > ipv4 1.2.3.4 > 5.6.7.8: .": "line 1: encapsulation in ipv4",
		"0 < . 1:1(0)/udp(1 > 2)":       "line 1: TCP in UDP",
		"0 < . 1:1(0) <FO abc>":         `line 1: "abc" is not an even number of hexadecimal digits`,
		"hello":                         `line 1: "hello" where a time should be`,
	} {
		_, err := Parse("", src)
		if err == nil || err.Error() != want {
			t.Errorf("%q: %v", src, err)
		}
		var syn *SyntaxError
		var un *Unsupported
		if !errors.As(err, &syn) && !errors.As(err, &un) {
			t.Errorf("%q: %T", src, err)
		}
	}
}

func TestPreprocess(t *testing.T) {
	src := "a\n#ifdef STANDARD\nb\n#else\nc\n#endif\n#ifdef FreeBSD\nd\n#ifdef STANDARD\ne\n#endif\n#endif\n#ifndef X\nf\n#endif"
	got, err := preprocess(src, map[string]bool{"STANDARD": true})
	if err != nil || strings.Join(strings.Fields(got), "") != "abf" || strings.Count(got, "\n") != strings.Count(src, "\n") {
		t.Errorf("%q, %v", got, err)
	}
}

// FuzzParse: no text makes the parser panic or hang.
func FuzzParse(f *testing.F) {
	f.Add("0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n+0 > S 0:0(0) <mss 1460,TS val 1 ecr 0>\n`x`\n+.1...0.2 read(3, ..., 1) = 1 (ok)")
	f.Add("--tolerance_usecs=1\n--define=A=1\n* > [ect0] .5 1:A(0) ack A <sack 1:2>\n%{ assert x == 1, 'y' }%")
	f.Add("#ifdef STANDARD\n0 < icmp unreachable port_unreachable [1:1(0)]\n#endif")
	f.Fuzz(func(t *testing.T, src string) {
		s, err := Parse("", src)
		if err != nil {
			return
		}
		for _, e := range s.Events {
			if e.Packet != nil {
				_ = e.Packet.String()
			}
		}
	})
}
