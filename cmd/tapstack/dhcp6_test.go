package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tapstack/tapstack/internal/lab"
)

// TestUpDHCP6: a host beside dnsmasq gets addresses of both families without a
// router that says so, and what it keeps in files is the same at the next start,
// name servers included, of which the server that confirms the lease says
// nothing.
func TestUpDHCP6(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		dnsmasq(t, l, "--dhcp-range=fd77::50,fd77::60,64,2m", "--dhcp-option=option6:dns-server,[fd77::1]", "--dhcp-option=option6:domain-search,lab.example",
			"--dhcp-option=option6:sntp-server,[fd77::3]")
		env := []string{lab.EnvTap + "=" + l.Devices[0]}
		lease4 := regexp.MustCompile(`(?m)^lease address=(10\.77\.0\.5\d)/24 router=10\.77\.0\.1 .* ms=\d+$`)
		lease6 := regexp.MustCompile(`(?m)^lease6 address=(fd77::[56].) dns=fd77::1 search=lab\.example sntp=fd77::3( name=\S+)? time=2m0s server=[0-9a-f]+ ms=\d+$`)
		// both returns the addresses of a host's leases, "" where there is none.
		both := func(args ...string) (four, six string) {
			t.Helper()
			r := up(t, l.Start, tapstack(t, env, append([]string{"up"}, args...)...))
			lines := 0
			for _, lease := range []struct {
				line *regexp.Regexp
				addr *string
				bits string
			}{{lease4, &four, "/24"}, {lease6, &six, "/128"}} {
				if m := lease.line.FindStringSubmatch(r.lease); m != nil {
					*lease.addr = m[1]
					lines++
					if !strings.Contains(r.ready, m[1]+lease.bits) {
						t.Errorf("%q: %q is not in %q", args, m[1], r.ready)
					}
				}
			}
			if strings.Count(r.lease, "\n") != lines {
				t.Errorf("%q: %q", args, r.lease)
			}
			r.terminate(t)
			return four, six
		}
		if four, six := both("--dhcp", "--dhcp6=stateful"); four == "" || six == "" {
			t.Errorf("%q, %q", four, six)
		}
		// Kept in files: the same address, of the same host.
		dir := t.TempDir()
		keep := []string{"--dhcp6=stateful", "--dad=false", "--lease6-file", filepath.Join(dir, "lease6"), "--duid", "uuid", "--duid-file", filepath.Join(dir, "duid")}
		_, first := both(keep...)
		_, again := both(keep...)
		b, err := os.ReadFile(filepath.Join(dir, "lease6"))
		if first == "" || again != first || err != nil || !strings.Contains(string(b), first) {
			t.Errorf("%q, then %q; %s, %v", first, again, b, err)
		}
	})
}

// TestUpDHCP6Advised: without --slaac the host hears what routers say of DHCPv6,
// and asks for it; names are looked up where it was told.
func TestUpDHCP6Advised(t *testing.T) {
	lab.InNamespace(t, func(l *lab.Lab) {
		names := filepath.Join(t.TempDir(), "names")
		if err := os.WriteFile(names, []byte("fd77::1 six.lab.example\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		dnsmasq(t, l, "--enable-ra", "--dhcp-range=fd77::50,fd77::60,64,2m", "--ra-param="+lab.Bridge+",4", "--addn-hosts="+names,
			"--dhcp-option=option6:dns-server,[fd77::1]", "--dhcp-option=option6:domain-search,lab.example")
		env := []string{lab.EnvTap + "=" + l.Devices[0]}
		r := up(t, l.Start, tapstack(t, env, "up", "--dhcp", "--dhcp6"))
		m := regexp.MustCompile(`(?m)^lease6 address=(fd77::[56].) .*\n`).FindStringSubmatch(r.lease)
		if m == nil || !strings.HasPrefix(r.lease, "lease address=10.77.0.5") || !strings.Contains(r.ready, m[1]+"/128") {
			t.Errorf("%q, %q", r.lease, r.ready)
		}
		r.terminate(t)
		// By a name in a domain that routers have not told of.
		for _, name := range []string{"six.lab.example", "six"} {
			var out bytes.Buffer
			c := tapstack(t, env, "ping", "--dhcp6", "-c", "1", name)
			c.Stdout, c.Stderr = &out, &out
			if err := l.Start(c); err != nil {
				t.Fatal(err)
			}
			if status := outcome(t, c.Wait()); status != 0 || !strings.Contains(out.String(), "fd77::1") {
				t.Errorf("ping %s: status %d, %s", name, status, &out)
			}
		}
	})
}
