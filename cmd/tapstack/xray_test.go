package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/probe"
)

// pages serves a long page on the kernel host to whoever asks, for both
// families.
func pages(t *testing.T, l *lab.Lab) (port string) {
	t.Helper()
	ln, err := l.ListenKernel("tcp", "[::]:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	page := make([]byte, 1<<20)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if n, _ := c.Read(make([]byte, 1000)); n > 0 {
					_ = c.SetDeadline(time.Now().Add(patience))
					_, _ = c.Write(page) // most of it is never fetched
				}
			}()
		}
	}()
	_, port, _ = net.SplitHostPort(ln.Addr().String())
	return port
}

// TestXRayKernel looks at the Linux kernel with settings that it is to show.
func TestXRayKernel(t *testing.T) {
	t.Parallel() // most of its time is waiting
	lab.InNamespace(t, func(l *lab.Lab) {
		if !l.IPv6 {
			lab.Lacks(t, errNoIPv6)
		}
		port := pages(t, l)
		env := attached(l, lab.EnvIP+"=10.77.0.7/24,fd77::7/64", "TAPSTACK_DAD=false")
		shell := func(script string) error {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			out, err := l.Output(ctx, "sh", "-ec", script)
			if err != nil {
				t.Logf("%s: %v: %s", script, err, out)
			}
			return err
		}
		set := func(script string) {
			t.Helper()
			if err := shell(script); err != nil {
				t.Fatal(err)
			}
		}
		look := func(status int, args ...string) (r probe.XRayResult) {
			t.Helper()
			got, out, errs := checked(t, l, tapstack(t, env, append([]string{"xray", "--json", "--pause", "0.02"}, args...)...))
			if err := json.Unmarshal([]byte(out), &r); err != nil || got != status || errs != "" {
				t.Fatalf("%q: status %d, %v\n%s%s", args, got, err, out, errs)
			}
			return r
		}
		windows := func(r *probe.XRayResult, segments int) {
			t.Helper()
			if len(r.Windows) != 2 {
				t.Fatalf("windows: %+v", r.Windows)
			}
			for i, mss := range []int{r.LinkMTU - 40, 64} {
				if r.Target.Addr().Is6() && i == 0 {
					mss -= 20
				}
				if w := r.Windows[i]; w.Segments != segments || w.Segment != mss || !w.Limited || w.Repeat <= 0 {
					t.Errorf("want %d segments: %+v", segments, w)
				}
			}
		}

		// As it comes: tcp_timestamps 1, tcp_ecn 2, ten segments.
		set(`cd /proc/sys/net/ipv4; echo 1 >tcp_timestamps; echo 2 >tcp_ecn; echo 1 >tcp_fastopen`)
		for _, host := range []string{"10.77.0.1", "fd77::1"} {
			var r probe.XRayResult
			persist(func() bool { // it may have been watched while the machine stood still
				r = look(0, "--watch", "1.6", "--http", "--", host, port)
				return len(r.Repeats.After) == 1
			})
			if a := r.SynAck; r.Verdict != probe.XRayOpen || a.Order != "linux" || a.MSS != r.Windows[0].MSS || !a.SACK || !a.Timestamps || a.WindowScale < 1 || len(a.Unasked) > 0 {
				t.Errorf("%s: %+v", host, a)
			}
			windows(&r, 10)
			if r.ECN == nil || !r.ECN.Classic || r.FastOpen == nil || r.FastOpen.Cookie != 0 {
				t.Errorf("%s: %+v, %+v", host, r.ECN, r.FastOpen)
			}
			if r.ISN.Kind != probe.NumbersRandom || r.PortISN.Kind != probe.NumbersClock && r.PortISN.Kind != probe.NumbersRising {
				t.Errorf("%s: %+v, %+v", host, r.ISN, r.PortISN)
			}
			if r.Stray == nil || !r.Stray.Reset || r.Hops.Hops != 0 || r.Close == nil || r.Close.Acked == 0 {
				t.Errorf("%s: %+v, %+v, %+v", host, r.Stray, r.Hops, r.Close)
			}
			if len(r.Repeats.After) != 1 || r.Repeats.After[0] < 900*time.Millisecond {
				t.Errorf("%s: %+v", host, r.Repeats)
			}
			if host == "10.77.0.1" && r.IPID.Kind != probe.NumbersZero {
				t.Errorf("IP ID: %+v", r.IPID)
			}
		}

		// Everything else than it comes.
		set(`cd /proc/sys/net/ipv4; echo 2 >tcp_timestamps; echo 0 >tcp_ecn; echo 0 >tcp_sack; echo 0x403 >tcp_fastopen; echo 1 >tcp_synack_retries
ip route replace 10.77.0.0/24 dev br0 proto kernel scope link src 10.77.0.1 initcwnd 4 advmss 1300`)
		port = pages(t, l) // listeners look at tcp_fastopen when they begin
		var r probe.XRayResult
		if !persist(func() bool { // a machine that stands still meanwhile takes one clock for several
			r = look(0, "--watch", "3.4", "--send", "x", "10.77.0.1", port)
			up, _ := os.ReadFile("/proc/uptime")
			uptime, _ := strconv.ParseFloat(strings.Fields(string(up))[0], 64)
			s := r.Stamps
			return s != nil && s.Kind == probe.StampsOneClock && s.Hz == 1000 && s.Up.Seconds() >= uptime*0.95-10 && s.Up.Seconds() <= uptime*1.05+10
		}) {
			t.Errorf("stamps: %+v", r.Stamps)
		}
		windows(&r, 4)
		if a := r.SynAck; a.MSS != 1300 || a.SACK || !strings.Contains(r.Diagnosis, "Its MSS of 1300") || !strings.Contains(r.Diagnosis, "does without SACK") {
			t.Errorf("%+v, %s", a, r.Diagnosis)
		}
		if r.ECN == nil || r.ECN.Classic || r.ECN.AccECN != "no" || r.FastOpen == nil || r.FastOpen.Cookie == 0 || len(r.Repeats.After) != 1 {
			t.Errorf("%+v, %+v, %+v", r.ECN, r.FastOpen, r.Repeats)
		}
		set(`cd /proc/sys/net/ipv4; echo 0 >tcp_timestamps; echo 0 >tcp_window_scaling`)
		accurate := shell(`echo 3 >/proc/sys/net/ipv4/tcp_ecn`) == nil // since Linux 6.18 or so
		r = look(0, "--watch", "0.1", "10.77.0.1", port)
		if a := r.SynAck; a.Timestamps || a.WindowScale != -1 || len(a.Options) != 1 || r.Stamps != nil || len(r.Windows) != 0 {
			t.Errorf("%+v, %+v", a, r.Stamps)
		}
		if accurate && r.ECN.AccECN != "accecn" {
			t.Errorf("tcp_ecn=3: %+v", r.ECN)
		}

		var text strings.Builder
		(&xrayOptions{verbose: true}).print(&text, "host", &r)
		for _, want := range []string{": open\n", "handshake      SYN 1 of 1 answered after ", "options        mss 1300\n", "first flight   nothing came", "stray ACK      reset", "\nfast-open, port ", "\nOpen, on the same link"} {
			if !strings.Contains(text.String(), want) {
				t.Errorf("no %q in\n%s", want, &text)
			}
		}

		// Ports that are not open.
		if r = look(1, "10.77.0.1", "4"); r.Verdict != probe.XRayClosed {
			t.Errorf("%+v", r)
		}
		if status, out, _ := checked(t, l, tapstack(t, env, "xray", "-W", "0.3", "10.77.0.99", "80")); status != 1 || !strings.Contains(out, "filtered") && !strings.Contains(out, "no-neighbour") {
			t.Errorf("status %d, %s", status, out)
		}
	})
}

func TestXRayCommandLines(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"xray h": "HOST and PORT", "xray h x": "no port", "xray --send a --tls h 1": "exclude each other", "xray --send-hex 4 h 1": "hexadecimal",
		"xray --http=a\rb h 1": "not a path", "xray -4 -6 h 1": "exclude each other", "xray --net host 127.0.0.1 1": "need a stack", "xray -n 65 h 1": "want a number",
		"xray -W 0 h 1": "want more than 0", "xray --watch 0 h 1": "want more than 0", "xray --pause 0 h 1": "want more than 0",
	} {
		out, err := tapstack(t, nil, strings.Split(args, " ")...).CombinedOutput()
		if status := outcome(t, err); status != 2 || !strings.Contains(string(out), want) {
			t.Errorf("%s: status %d, %s", args, status, out)
		}
	}
}

// TestClientHello: what --tls sends is the beginning of TLS, with the name.
func TestClientHello(t *testing.T) {
	for host, name := range map[string]string{"www.example.net": "www.example.net", "192.0.2.1": "", "2001:db8::1": ""} {
		b := clientHello(host)
		a, c := net.Pipe()
		go func() {
			_, _ = a.Write(b)
			a.Close()
		}()
		got, seen := "", false
		_ = tls.Server(c, &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			got, seen = h.ServerName, true
			return nil, net.ErrClosed
		}}).Handshake()
		if !seen || got != name {
			t.Errorf("%s: %v, %q", host, seen, got)
		}
	}
}

// TestXRayScale: a scale beyond the largest that there is.
func TestXRayScale(t *testing.T) {
	var out bytes.Buffer
	new(xrayOptions).print(&out, "h", &probe.XRayResult{SynAck: &probe.XRaySynAck{WindowScale: 200, Window: 7}})
	if !strings.Contains(out.String(), "7, from then on in units of 16384\n") {
		t.Error(out.String())
	}
}
