package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/lab"
)

// dnsmasq serves DHCP and names in a lab, until the test ends.
func dnsmasq(t *testing.T, l *lab.Lab, args ...string) {
	t.Helper()
	lab.RequireProgram(t, "dnsmasq")
	hosts := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(hosts, []byte("10.77.0.1 kernel.lab.example\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	log := new(running)
	log.wrote = make(chan struct{}, 1)
	c := exec.Command("dnsmasq", append([]string{"--no-daemon", "--conf-file=/dev/null", "--interface=" + lab.Bridge, "--bind-interfaces",
		"--dhcp-range=10.77.0.50,10.77.0.60,255.255.255.0,2m", "--no-ping", "--log-dhcp", "--user=root", "--group=",
		"--no-hosts", "--no-resolv", "--addn-hosts=" + hosts, "--domain=lab.example", "--dhcp-option=option:ntp-server,10.77.0.3",
		"--dhcp-option=option:mtu,1400", "--dhcp-leasefile=" + filepath.Join(t.TempDir(), "leases")}, args...)...)
	c.Stdout, c.Stderr = log, log
	if err := l.Start(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		_ = c.Wait() // killed
		if t.Failed() {
			t.Logf("dnsmasq:\n%s", log.errors())
		}
	})
	for end := time.Now().Add(patience); !strings.Contains(log.errors(), "DHCP, IP range"); {
		select {
		case <-log.wrote:
		case <-time.After(time.Until(end)):
			t.Fatalf("dnsmasq is not there:\n%s", log.errors())
		}
	}
}

// TestUpDHCP: a host next to dnsmasq has its lease, and says what it got, before
// detection of duplicates of an IPv6 address could be over, which takes a second
// (RFC 4862 §5.4): so its address is not there yet. Names are those of dnsmasq.
func TestUpDHCP(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		dnsmasq(t, l)
		env := []string{lab.EnvTap + "=" + l.Devices[0]}
		fast := false
		for range 3 { // the machine may be busy with something else for a second
			r := up(t, l.Start, tapstack(t, env, "up", "--dhcp"))
			want := regexp.MustCompile(`^lease address=(10\.77\.0\.5\d)/24 router=10\.77\.0\.1 dns=10\.77\.0\.1 domain=lab\.example ` +
				`ntp=10\.77\.0\.3 mtu=1400 time=2m0s server=10\.77\.0\.1 ms=\d+\n$`).FindStringSubmatch(r.lease)
			if want == nil {
				t.Fatalf("lease line %q", r.lease)
			}
			if !strings.Contains(r.ready, want[1]+"/24") {
				t.Errorf("ready line %q", r.ready)
			}
			ms, _ := strconv.Atoi(strings.TrimSpace(r.ready[strings.LastIndex(r.ready, "=")+1:]))
			t.Logf("ready after %d ms", ms)
			fast = !strings.Contains(r.ready, "fe80:")
			r.terminate(t)
			if fast {
				break
			}
		}
		if !fast {
			t.Error("ready not before detection of duplicates was over")
		}
		// By a name that only dnsmasq knows, and by its domain.
		for _, name := range []string{"kernel.lab.example", "kernel"} {
			c := tapstack(t, env, "ping", "--dhcp", "-c", "1", name)
			var out bytes.Buffer
			c.Stdout, c.Stderr = &out, &out
			if err := l.Start(c); err != nil {
				t.Fatal(err)
			}
			if status := outcome(t, c.Wait()); status != 0 || !strings.Contains(out.String(), "10.77.0.1") {
				t.Errorf("ping %s: status %d, %s", name, status, &out)
			}
		}
		// All but an address.
		r := up(t, l.Start, tapstack(t, env, "up", "--inform", "--ip", "10.77.0.7/24", "--dad=false"))
		if !strings.HasPrefix(r.lease, "lease router=10.77.0.1 dns=10.77.0.1") || !strings.Contains(r.ready, "10.77.0.7/24") {
			t.Errorf("%q, %q", r.lease, r.ready)
		}
		r.terminate(t)
		// Kept in a file: the next start has the same address, with one message
		// less.
		file := filepath.Join(t.TempDir(), "lease")
		var leases [2]string
		for i := range leases {
			r := up(t, l.Start, tapstack(t, env, "up", "--dhcp", "--lease-file", file))
			leases[i], _, _ = strings.Cut(r.lease, " ms=")
			r.terminate(t)
		}
		if b, err := os.ReadFile(file); leases[0] != leases[1] || err != nil || !strings.Contains(string(b), "10.77.0.5") {
			t.Errorf("%q; %s, %v", leases, b, err)
		}
	})
}
