package probecap_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/pcap"
	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/internal/probecap"
	"github.com/tapstack/tapstack/probe"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
)

// comments are those of a capture, without the times in them.
func comments(t *testing.T, capture []byte) (list []string) {
	t.Helper()
	for b := capture; len(b) > 0; {
		typ, n := binary.NativeEndian.Uint32(b), binary.NativeEndian.Uint32(b[4:])
		if int(n) > len(b) || n%4 != 0 || binary.NativeEndian.Uint32(b[n-4:]) != n {
			t.Fatalf("a block of %d bytes", n)
		}
		block := b[8 : n-4]
		b = b[n:]
		if typ != 6 {
			continue
		}
		comment := ""
		options := block[20+(binary.NativeEndian.Uint32(block[12:])+3)&^3:]
		for len(options) >= 4 {
			code, size := binary.NativeEndian.Uint16(options), int(binary.NativeEndian.Uint16(options[2:]))
			if code == 1 {
				comment = string(options[4 : 4+size])
			}
			options = options[4+(size+3)&^3:]
		}
		if i := strings.LastIndex(comment, ", "); i > 0 && strings.HasSuffix(comment, " ms") {
			comment = comment[:i]
		}
		list = append(list, comment)
	}
	return list
}

func compare(t *testing.T, got []string, want ...string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		g, w := "(none)", "(none)"
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("frame %d: %q, want %q", i+1, g, w)
		}
	}
	if t.Failed() {
		t.Logf("%s", strings.Join(got, "\n"))
	}
}

// pair is a host that probes, with a capture, and one that is probed and itself
// asks the first for things, in the time of a bubble.
type pair struct {
	t        *testing.T
	tracker  *probecap.Tracker
	near     *stack.Stack
	na, nb   *socket.Network
	pa, pb   *probe.Prober
	capture  bytes.Buffer
	neighbor *wire.Port
}

func bubble(t *testing.T, f func(p *pair)) (capture []byte) {
	t.Helper()
	live := pkt.Live()
	synctest.Test(t, func(t *testing.T) {
		seg := wire.New(nil, wire.Options{Pull: true, Delay: time.Millisecond})
		defer seg.Close()
		p := &pair{t: t, tracker: probecap.New()}
		host := func(n byte) (*stack.Stack, *socket.Network, *probe.Prober) {
			mac := ether.Addr{2, 0, 0, 0, 0, n}
			s := stack.New(stack.Config{Seed: uint64(n)})
			port := seg.Attach(fmt.Sprint("host", n), mac)
			dev := ether.Device(port)
			if n == 1 {
				tee, err := pcap.NewChosen(dev, &p.capture, "eth0", p.tracker.Choose)
				must(t, err)
				dev = tee
			} else {
				p.neighbor = port
			}
			i, err := s.AddInterface(stack.InterfaceConfig{Name: "eth0", Device: dev, MAC: mac, NoDAD: true})
			must(t, err)
			for _, a := range []string{"10.77.0.%d/24", "fd77::%d/64"} {
				must(t, i.AddAddr(netip.MustParsePrefix(fmt.Sprintf(a, n))))
			}
			q, err := probe.New(s, probe.Options{})
			must(t, err)
			return s, socket.Net(s), q
		}
		var far *stack.Stack
		p.near, p.na, p.pa = host(1)
		far, p.nb, p.pb = host(2)
		p.tracker.Attached(p.near, nil)
		f(p)
		p.pa.Close()
		p.pb.Close()
		far.Close()
		p.near.Close()
		synctest.Wait()
		capture = slices.Clone(p.capture.Bytes())
	})
	if n := pkt.Live(); n != live {
		t.Errorf("%d buffers are left", n-live)
	}
	return capture
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ask sends a probe and waits for its result.
func (p *pair) ask(q probe.Request) probe.Result {
	p.t.Helper()
	p.tracker.Toward(q.Dst)
	r, err := p.pa.Probe(p.t.Context(), q)
	must(p.t, err)
	return r
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// TestOwnFrames: what is the probes' is in the capture, in their order and with
// what it is for, and what others want of us is not.
func TestOwnFrames(t *testing.T) {
	capture := bubble(t, func(p *pair) {
		foreign := func() {
			for _, q := range []probe.Request{{Dst: addr("10.77.0.1")}, {Dst: addr("fd77::1")}, {Dst: addr("10.77.0.1"), Proto: probe.TCP}, {Dst: addr("10.77.0.1"), Proto: probe.UDP}} {
				r, err := p.pb.Probe(p.t.Context(), q)
				must(t, err)
				if r.Kind != probe.Reply {
					t.Errorf("%+v", r)
				}
			}
		}
		l, err := p.nb.Listen("tcp", ":80")
		must(t, err)
		go func() {
			c, err := l.Accept()
			if err == nil {
				c.Write([]byte("hello"))
				time.Sleep(100 * time.Millisecond) // each in its turn
				c.Close()
			}
		}()
		time.Sleep(10 * time.Second) // addresses have been announced
		p.ask(probe.Request{Dst: addr("10.77.0.2"), EchoID: 77, EchoSeq: 1})
		p.ask(probe.Request{Dst: addr("fd77::2"), TTL: 3, EchoID: 78, EchoSeq: 9})
		foreign()
		p.ask(probe.Request{Dst: addr("10.77.0.2"), Proto: probe.UDP, DstPort: 33434})
		p.ask(probe.Request{Dst: addr("10.77.0.2"), Proto: probe.TCP, DstPort: 9})
		p.ask(probe.Request{Dst: addr("10.77.0.2"), Size: 3000, EchoID: 77, EchoSeq: 2})
		foreign()
		p.tracker.Toward(addr("10.77.0.2"))
		c, err := p.na.Dial("tcp", "10.77.0.2:80")
		must(t, err)
		b := make([]byte, 10)
		c.Read(b)
		time.Sleep(200 * time.Millisecond)
		c.Close()
		time.Sleep(time.Second)
		if _, err := p.na.Dial("tcp", "10.77.0.3:80"); err == nil { // of which nothing was said
			t.Error("connected")
		}
	})
	compare(t, comments(t, capture),
		"ARP for 10.77.0.2",
		"ARP: 10.77.0.2 is at 02:00:00:00:00:02",
		"probe 1: ICMP echo 1 ttl 64 to 10.77.0.2",
		"answer to probe 1: echo reply from 10.77.0.2",
		"neighbour discovery for fd77::2",
		"neighbour discovery: fd77::2 is at 02:00:00:00:00:02",
		"probe 2: ICMP echo 9 ttl 3 to fd77::2",
		"answer to probe 2: echo reply from fd77::2",
		"probe 3: UDP ttl 64 to 10.77.0.2:33434",
		"answer to probe 3: port unreachable from 10.77.0.2",
		"probe 4: SYN ttl 64 to 10.77.0.2:9",
		"answer to probe 4: reset from 10.77.0.2",
		"probe 5: ICMP echo 2 ttl 64 to 10.77.0.2, first fragment",
		"probe 5: fragment from byte 1480",
		"probe 5: fragment from byte 2960",
		"answer to probe 5: echo reply from 10.77.0.2, 2 ms, first fragment",
		"answer to probe 5: fragment from byte 1480",
		"answer to probe 5: fragment from byte 2960",
		"probe 6: SYN ttl 64 to 10.77.0.2:80",
		"answer to probe 6: SYN-ACK from 10.77.0.2",
		"probe 6: ACK",
		"probe 6: 5 bytes from 10.77.0.2:80",
		"probe 6: ACK",
		"probe 6: FIN from 10.77.0.2:80",
		"probe 6: ACK",
		"probe 6: FIN",
		"probe 6: ACK from 10.77.0.2:80",
	)
}

// TestServe: of a command that listens it is the conversations with its port.
func TestServe(t *testing.T) {
	capture := bubble(t, func(p *pair) {
		l, err := p.na.Listen("tcp", ":7")
		must(t, err)
		go func() {
			c, err := l.Accept()
			must(t, err)
			b := make([]byte, 10)
			n, _ := c.Read(b)
			time.Sleep(200 * time.Millisecond) // each in its turn
			c.Write(b[:n])
			time.Sleep(200 * time.Millisecond)
			c.Close()
		}()
		u, err := p.na.ListenPacket("udp", ":9")
		must(t, err)
		go func() {
			b := make([]byte, 10)
			for {
				n, from, err := u.ReadFrom(b)
				if err != nil {
					return
				}
				u.WriteTo(b[:n], from)
			}
		}()
		other, err := p.na.Listen("tcp", ":80")
		must(t, err)
		go func() {
			c, err := other.Accept()
			must(t, err)
			c.Write([]byte("not of this command"))
			c.Close()
		}()
		p.tracker.Serve(false, 7)
		p.tracker.Serve(true, 9)
		time.Sleep(10 * time.Second)
		talk := func(network, address string) {
			c, err := p.nb.Dial(network, address)
			if err != nil {
				return
			}
			c.Write([]byte("abc"))
			c.Read(make([]byte, 10))
			time.Sleep(time.Second)
			c.Close()
			time.Sleep(time.Minute)
		}
		talk("tcp", "10.77.0.1:7")
		talk("tcp", "10.77.0.1:9")  // nobody is there
		talk("tcp", "10.77.0.1:80") // somebody else is
		talk("udp", "[fd77::1]:9")
		talk("udp", "10.77.0.1:7")
		u.Close()
		l.Close()
		other.Close()
	})
	port := regexp.MustCompile(`:(3[2-9]|[456]\d)\d\d\d\b`)
	var list []string
	for _, s := range comments(t, capture) {
		if strings.Contains(s, "10.77.0.2 ") || strings.HasSuffix(s, "for 10.77.0.2") || strings.HasPrefix(s, "neighbour") {
			continue // whether the neighbour still lives
		}
		list = append(list, port.ReplaceAllString(s, ":P"))
	}
	compare(t, list,
		"conversation 1: SYN from 10.77.0.2:P",
		"conversation 1: SYN-ACK",
		"conversation 1: ACK from 10.77.0.2:P",
		"conversation 1: 3 bytes from 10.77.0.2:P",
		"conversation 1: ACK",
		"conversation 1: 3 bytes",
		"conversation 1: ACK from 10.77.0.2:P",
		"conversation 1: FIN",
		"conversation 1: ACK from 10.77.0.2:P",
		"conversation 1: FIN from 10.77.0.2:P",
		"conversation 1: ACK",
		"conversation 2: datagram from [fd77::2]:P",
		"conversation 2: datagram to [fd77::2]:P",
	)
}

// TestStray: a segment of no connection is a probe, and what it brings its
// answer; so are those that xray never quite makes.
func TestStray(t *testing.T) {
	capture := bubble(t, func(p *pair) {
		l, err := p.nb.Listen("tcp", ":80")
		must(t, err)
		defer l.Close()
		p.tracker.Toward(addr("10.77.0.2"))
		r := p.pa.XRay(p.t.Context(), probe.XRayRequest{Request: probe.Request{Dst: addr("10.77.0.2"), DstPort: 80}, Samples: 1})
		if r.Verdict != probe.XRayOpen {
			t.Errorf("%v", r.Verdict)
		}
	})
	text := strings.Join(comments(t, capture), "\n")
	m := regexp.MustCompile(`probe (\d+): ACK ttl 64 to 10\.77\.0\.2:80`).FindStringSubmatch(text)
	if m == nil || !strings.Contains(text, "answer to probe "+m[1]+": reset from 10.77.0.2") {
		t.Errorf("no stray segment with its answer in\n%s", text)
	}
}

// FuzzChoose: nothing that passes makes it fail. Frames are of a real capture,
// one byte of which is another.
func FuzzChoose(f *testing.F) {
	f.Add([]byte{0}, true)
	f.Add(bytes.Repeat([]byte{8, 6, 0, 1}, 20), false)
	udp := append(bytes.Repeat([]byte{0}, 12), 8, 0, 0x45, 0, 0, 60, 0, 1, 0, 0, 64, 17, 0, 0, 10, 77, 0, 1, 10, 77, 0, 2, 1, 2, 0, 53, 0, 40, 0, 0,
		1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3, 'f', 'o', 'o', 0, 0, 1, 0, 1)
	f.Add(udp, true)
	echo := append(bytes.Repeat([]byte{0}, 12), 8, 0, 0x45, 0, 0, 28, 0, 1, 0x20, 0, 64, 1, 0, 0, 10, 77, 0, 1, 10, 77, 0, 2, 8, 0, 0, 0, 0, 1, 0, 1)
	f.Add(echo, true)
	f.Add(append(append(bytes.Repeat([]byte{0}, 12), 8, 0, 0x45, 0, 0, 56, 0, 1, 0, 0, 64, 1, 0, 0, 10, 77, 0, 9, 10, 77, 0, 1, 11, 0, 0, 0, 0, 0, 0, 0), echo[14:]...), false)
	nd := append(bytes.Repeat([]byte{0}, 12), 0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255)
	f.Add(append(append(nd, bytes.Repeat([]byte{0xfd}, 32)...), append([]byte{136, 0, 0, 0, 0, 0, 0, 0}, bytes.Repeat([]byte{2, 1}, 12)...)...), false)
	f.Fuzz(func(t *testing.T, frame []byte, out bool) {
		now := time.Unix(1, 0)
		if c, ok := probecap.New().Choose(out, frame, now); ok {
			t.Errorf("chosen by nobody: %s", c)
		}
		k := probecap.New()
		for _, a := range []string{"10.77.0.2", "fd77::2", "224.0.0.1", "255.255.255.255"} {
			k.Toward(addr(a))
		}
		k.Serve(true, 53)
		k.Serve(false, 80)
		for _, x := range []struct {
			out   bool
			frame []byte
		}{{true, udp}, {true, echo}, {out, frame}, {!out, frame}, {out, frame}} {
			if c, ok := k.Choose(x.out, x.frame, now); ok && c == "" {
				t.Errorf("%x: no comment", x.frame)
			}
		}
	})
}
