package main

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/tapstack/tapstack/internal/lab"
)

// TestZonesOfCommands: every command takes the kernel's link-local address with
// the zone by name and by number, says what is wrong with a zone that is not there,
// and without one means its only link. A zone says nothing of other addresses.
func TestZonesOfCommands(t *testing.T) {
	t.Parallel()
	lab.InNamespace(t, func(l *lab.Lab) {
		if !l.IPv6 {
			lab.Lacks(t, errors.New(l.Note))
		}
		device := attached(l, lab.EnvIP+"=10.77.0.7/24,fd77::7/64", "TAPSTACK_DAD=false")
		at := netip.AddrPortFrom(lab.KernelLL.Addr().WithZone(lab.Bridge), 0).String()
		ln, err := l.ListenKernel("tcp6", at)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				_, _ = c.Write([]byte("hello from the kernel\r\n")) // who does not read it has what it wanted
				c.Close()
			}
		}()
		_, port, _ := strings.Cut(ln.Addr().String(), "]:")
		pc, err := l.ListenPacketKernel("udp6", strings.TrimSuffix(at, "0")+"53")
		if err != nil {
			t.Fatal(err)
		}
		server := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			m := new(dns.Msg).SetReply(q)
			if rr, err := dns.NewRR(q.Question[0].Name + " 60 IN A 10.77.0.1"); err == nil && q.Question[0].Qtype == dns.TypeA {
				m.Answer = []dns.RR{rr}
			}
			_ = w.WriteMsg(m) // the command says that there is no answer
		})}
		go func() { _ = server.ActivateAndServe() }() // until Shutdown
		t.Cleanup(func() { _ = server.Shutdown() })

		kernel := lab.KernelLL.Addr().String()
		list := filepath.Join(t.TempDir(), "targets")
		named, numbered, alone, unknown := kernel+"%"+l.Devices[0], kernel+"%2", kernel, kernel+"%eth9"
		if err := os.WriteFile(list, []byte(named+" "+port+"\n"+numbered+" "+port+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, tc := range []struct {
			args   string // Z is the address, P the port
			slow   bool   // the zone by name is enough
			status int    // of an address that can be reached
			bad    int    // of a zone that is not there
			out    string
			err    string // what is said of such a zone
		}{
			{"ping -n -c 1 Z", false, 0, 2, "1 received", "no such device"},
			{"trace -n --max-ttl 2 Z", true, 0, 2, kernel, "no such device"},
			{"mtu Z", true, 0, 2, "1500", "no such device"},
			{"nc -z -v Z P", false, 0, 1, "succeeded", "no such device"},
			{"check --banner Z P", false, 0, 1, "hello from the kernel", "no such device"},
			{"telnet Z P", false, 0, 1, "hello from the kernel", "no such device"},
			{"host --server Z www.example A", false, 0, 1, "has address 10.77.0.1", "no such device"},
			{"host --server [Z]:53 www.example A", true, 0, 1, "has address 10.77.0.1", "no such device"},
			{"ping -n -c 1 --dns Z www.example", true, 0, 2, "1 received", "no interface eth9 here"},
		} {
			for _, a := range []struct {
				addr string
				ok   bool
			}{{named, true}, {unknown, false}, {numbered, true}, {alone, true}} {
				if tc.slow && (a.addr == numbered || a.addr == alone) {
					continue
				}
				args := strings.Fields(tc.args)
				for i, x := range args {
					if x == "P" {
						args[i] = port
					} else {
						args[i] = strings.ReplaceAll(x, "Z", a.addr)
					}
				}
				status, out, errs := checked(t, l, tapstack(t, device, args...))
				if a.ok && (status != tc.status || !strings.Contains(out+errs, tc.out)) || !a.ok && (status != tc.bad || !strings.Contains(strings.ToLower(out+errs), tc.err)) {
					t.Errorf("%s: status %d\n%s%s", strings.Join(args, " "), status, out, errs)
				}
			}
		}
		status, out, errs := checked(t, l, tapstack(t, device, "check", "--banner", "--targets", list))
		if status != 0 || strings.Count(out, "hello from the kernel") != 2 {
			t.Errorf("check of a list: status %d\n%s%s", status, out, errs)
		}
		// The host's own sockets know its own interfaces.
		for zone, want := range map[string]int{lab.Bridge: 0, "eth9": 1} {
			status, out, errs := checked(t, l, tapstack(t, nil, "check", "--net", "host", "--banner", kernel+"%"+zone, port))
			if status != want || (status == 0) != strings.Contains(out, "hello from the kernel") {
				t.Errorf("--net host, zone %s: status %d\n%s%s", zone, status, out, errs)
			}
		}
	})
}
