package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/tapstack/tapstack/internal/lab"
)

// reverse answers questions for names: 10.81.0.2 is hop-10-81-0-2.example.
func reverse(pc net.PacketConn) {
	b := make([]byte, 1500)
	for {
		n, from, err := pc.ReadFrom(b)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(b[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		m.Response = true
		q := m.Questions[0]
		if name, ok := strings.CutSuffix(q.Name.String(), ".in-addr.arpa."); ok && q.Type == dnsmessage.TypePTR {
			f := strings.Split(name, ".")
			slices.Reverse(f)
			m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class},
				Body: &dnsmessage.PTRResource{PTR: dnsmessage.MustNewName("hop-" + strings.Join(f, "-") + ".example.")}}}
		} else {
			m.RCode = dnsmessage.RCodeNameError
		}
		if out, err := m.Pack(); err == nil {
			pc.WriteTo(out, from)
		}
	}
}

// TestTraceRow traces through three routers that are Linux's: what they change is
// found, and a firewall that lets only one connection begin is passed within it.
func TestTraceRow(t *testing.T) {
	t.Parallel()
	nft, err := exec.LookPath("nft")
	if err != nil {
		lab.Lacks(t, err)
	}
	lab.InNamespace(t, func(l *lab.Lab) {
		if !l.IPv6 {
			lab.Lacks(t, errNoIPv6)
		}
		pids := namespaces(t, l, "testdata/row.sh")
		env := attached(l, lab.EnvIP+"=10.77.0.7/24,fd77::7/64", lab.EnvGW+"=10.77.0.1,fd77::1", "TAPSTACK_DAD=false")
		command := func(t *testing.T, status int, line string) string {
			t.Helper()
			got, out, errs := checked(t, l, tapstack(t, env, strings.Fields(line)...))
			if got != status {
				t.Errorf("%s: status %d, want %d\n%s%s", line, got, status, out, errs)
			}
			return out
		}
		report := func(t *testing.T, status int, line string) (j traceReport) {
			t.Helper()
			out := command(t, status, line)
			if err := json.Unmarshal([]byte(out), &j); err != nil {
				t.Errorf("%s: %v\n%s", line, err, out)
			}
			return j
		}
		rules := func(t *testing.T, text string) {
			t.Helper()
			within(t, pids[0], func() error {
				c := exec.Command(nft, "-f", "-")
				c.Stdin = strings.NewReader(text)
				out, err := c.CombinedOutput()
				if err != nil {
					err = fmt.Errorf("%w: %s\n%s", err, text, out)
				}
				return err
			})
		}
		// S accepts connections and keeps them.
		within(t, pids[2], func() error {
			ln, err := net.Listen("tcp", ":81")
			if err != nil {
				return err
			}
			t.Cleanup(func() { ln.Close() })
			go func() {
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					t.Cleanup(func() { c.Close() })
				}
			}()
			return nil
		})
		way := map[string][]string{"10.83.0.2": {"10.77.0.1", "10.81.0.2", "10.82.0.2", "10.83.0.2"}, "fd83::2": {"fd77::1", "fd81::2", "fd82::2", "fd83::2"}}
		all := func(t *testing.T, what string, j traceReport, far string) {
			t.Helper()
			var got []string
			for i, h := range j.Report.Hubs {
				got = append(got, h.Host)
				if h.Loss != 0 || len(h.Hosts) != 1 || h.Hosts[0].Back != i+1 {
					t.Errorf("%s: hop %d: %+v", what, i+1, h)
				}
			}
			if !slices.Equal(got, way[far]) || !j.Report.Reached {
				t.Errorf("%s: %v, %s", what, got, j.Report.End)
			}
		}

		t.Run("changes", func(t *testing.T) {
			rules(t, `table inet change { chain forward { type filter hook forward priority -150;
				iifname "west" meta nfproto ipv4 ip dscp set cs0
				iifname "west" meta nfproto ipv6 ip6 dscp set cs0
				iifname "west" tcp flags & (syn|rst) == syn tcp option maxseg size set 1300
			}
			}`)
			for far := range way {
				j := report(t, 0, "trace -n -j -c 2 -i 0.1 -T -P 81 -Q 0xb8 "+far)
				all(t, "changes", j, far)
				var found []string
				for _, h := range j.Report.Hubs {
					for _, f := range h.Found {
						found = append(found, strconv.Itoa(h.Count)+" "+strconv.Itoa(f.After)+" "+f.Text)
					}
				}
				mss := "1460"
				if netip.MustParseAddr(far).Is6() {
					mss = "1440"
				}
				if want := []string{"3 2 DSCP bleached from 46", "3 2 MSS clamped from " + mss + " to 1300"}; !slices.Equal(found, want) {
					t.Errorf("%s: %q, want %q", far, found, want)
				}
			}
			rules(t, "delete table inet change")
		})

		t.Run("without SACK", func(t *testing.T) {
			set := func(v string) {
				within(t, pids[2], func() error { return os.WriteFile("/proc/sys/net/ipv4/tcp_sack", []byte(v), 0) })
			}
			set("0")
			defer set("1")
			all(t, "without SACK", report(t, 0, "trace -n -j -c 2 -i 0.2 --in-session -P 81 10.83.0.2"), "10.83.0.2")
		})

		t.Run("names", func(t *testing.T) {
			pc, err := l.ListenPacketKernel("udp", "10.77.0.1:53")
			if err != nil {
				t.Fatal(err)
			}
			defer pc.Close()
			go reverse(pc)
			file := filepath.Join(t.TempDir(), "as")
			if err := os.WriteFile(file, []byte("10.81.0.0/16\t64501\tFirst\n10.0.0.0/8\t64500\tAll\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			j := report(t, 0, "trace --dns 10.77.0.1 -j -b -z --as-file "+file+" -c 1 10.83.0.2")
			h := j.Report.Hubs
			if len(h) != 4 || h[1].Host != "hop-10-81-0-2.example (10.81.0.2)" || h[1].ASN != "AS64501" || h[1].ASName != "First" || h[3].ASN != "AS64500" || h[3].Hosts[0].Name != "hop-10-83-0-2.example" {
				t.Errorf("%+v", h)
			}
			out := command(t, 0, "trace --dns 10.77.0.1 --as-file "+file+" -c 1 10.83.0.2")
			for _, want := range []string{"  1. AS64500     hop-10-77-0-1.example", "  2. AS64501     hop-10-81-0-2.example", "  4. AS64500     hop-10-83-0-2.example"} {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
			if out := command(t, 0, "trace --dns 10.77.0.1 -n -c 1 10.83.0.2"); strings.Contains(out, "example") || !strings.Contains(out, "  2.|-- 10.81.0.2 ") {
				t.Errorf("-n:\n%s", out)
			}
			if out := command(t, 0, "trace --dns 10.77.0.1 -l -c 2 -i 0.2 10.83.0.2"); !strings.Contains(out, "d 1 hop-10-81-0-2.example\n") {
				t.Errorf("raw:\n%s", out)
			}
		})

		t.Run("live", func(t *testing.T) {
			master, tty, err := pty.Open()
			if err != nil {
				t.Fatal(err)
			}
			defer master.Close()
			if err := pty.Setsize(master, &pty.Winsize{Rows: 24, Cols: 100}); err != nil {
				t.Fatal(err)
			}
			c := tapstack(t, append(env, "TERM=xterm"), "trace", "-n", "-i", "0.1", "10.83.0.2")
			c.Stdin, c.Stdout, c.Stderr = tty, tty, tty
			c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			if err := l.Start(c); err != nil {
				t.Fatal(err)
			}
			tty.Close()
			var out strings.Builder
			b := make([]byte, 4096)
			// It is quit when the far host and its figures are there, and prints a table.
			quit := false
			for {
				n, err := master.Read(b)
				out.Write(b[:n])
				if err != nil {
					break // the other side is closed
				}
				if s := out.String(); !quit && (strings.Contains(s, "4. 10.83.0.2") || strings.Contains(s, "\x1b[8;6H10.83.0.2")) && strings.Contains(s, "StDev") {
					quit = true
					master.WriteString("q")
				}
			}
			if s := outcome(t, c.Wait()); s != 0 || !quit {
				t.Errorf("status %d, quit %v\n%q", s, quit, out.String())
			}
			if s := out.String(); !strings.Contains(s, "  4.|-- 10.83.0.2 ") || !strings.Contains(s, "\x1b[?1049l") {
				t.Errorf("no table behind the view in\n%q", s)
			}
		})

		t.Run("in-session", func(t *testing.T) {
			rules(t, `table inet wall { chain forward { type filter hook forward priority 0; policy drop;
				ct state established,related accept
				meta nfproto ipv4 tcp dport 81 ct state new limit rate 1/hour burst 1 packets accept
				meta nfproto ipv6 tcp dport 81 ct state new limit rate 1/hour burst 1 packets accept
			}
			}`)
			for far := range way {
				all(t, "in session", report(t, 0, "trace -n -j -c 3 -i 0.2 --in-session -P 81 "+far), far)
				for _, flags := range []string{"", "-T -P 81"} {
					var j traceReport
					if !persist(func() bool { // what is late is not seen either
						j = report(t, 1, "trace -n -j -c 1 -U 2 -Z 0.3 -G 0.3 -i 0.1 "+flags+" "+far)
						h := j.Report.Hubs
						return !j.Report.Reached && j.Report.End == "silent" && len(h) == 4 && h[1].Host == way[far][1] && h[2].Host == "???"
					}) {
						t.Errorf("%s passes the firewall: %+v", flags, j.Report)
					}
				}
				command(t, 2, "trace -n -Z 0.5 --in-session -P 81 "+far)
			}
		})
	})
}
