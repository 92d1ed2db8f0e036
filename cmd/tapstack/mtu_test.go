package main

import (
	"context"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/tapstack/tapstack/internal/lab"
)

// narrow makes the line behind M1 in routers.sh carry 1280 bytes, for 8.8.4.4 and
// for 2001:4860:4:4::4. What it returns makes M1 say nothing about it, by
// dropping the errors.
func narrow(t *testing.T, l *lab.Lab, pids []string) (hush func()) {
	t.Helper()
	shell := func(pid, script string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		args := []string{"-c", script}
		name := "sh"
		if pid != "" {
			name, args = "nsenter", append([]string{"-t", pid, "-n", "sh"}, args...)
		}
		if out, err := l.Output(ctx, name, args...); err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
	}
	shell(pids[0], `set -e
ip link set s3 mtu 1280
ip addr add fd93::1/64 dev s3 nodad
ip -6 route add 2001:4860:4::/48 via fd93::2`)
	shell(pids[2], `set -e
ip link set t3 mtu 1280
ip addr add fd93::2/64 dev t3 nodad
ip addr add 2001:4860:4:4::4/128 dev lo nodad`)
	shell("", "ip -6 route add 2001:4860:4::/48 via fd81::2")
	return func() {
		shell(pids[0], `nft -f - <<X
table inet hush {
	chain out {
		type filter hook output priority 0;
		icmp type destination-unreachable drop
		icmpv6 type packet-too-big drop
	}
}
X`)
	}
}

// TestMTUCommand: a line of 1280 bytes behind Linux's routers, and the same with
// a router that may not say so.
func TestMTUCommand(t *testing.T) {
	t.Parallel() // most of its time is waiting
	if _, err := exec.LookPath("nft"); err != nil {
		lab.Lacks(t, err)
	}
	lab.InNamespace(t, func(l *lab.Lab) {
		if !l.IPv6 {
			lab.Lacks(t, errNoIPv6)
		}
		hush := narrow(t, l, routers(t, l))
		env := attached(l, lab.EnvIP+"=10.77.0.7/24,fd77::7/64", lab.EnvGW+"=10.77.0.1,fd77::1", "TAPSTACK_DAD=false")
		const far4, far6 = "8.8.4.4", "2001:4860:4:4::4"
		run := func(status int, line string) (j mtuReport) {
			t.Helper()
			got, out, errs := checked(t, l, tapstack(t, env, strings.Fields("mtu --json "+line)...))
			if err := json.Unmarshal([]byte(out), &j); err != nil || got != status || errs != "" {
				t.Errorf("mtu %s: status %d, %v\n%s%s", line, got, err, out, errs)
			}
			return j
		}
		for _, far := range []string{far4, far6} {
			middle, mss := "10.81.0.2", 1240
			if far == far6 {
				middle, mss = "fd81::2", 1220
			}
			for _, flags := range []string{"", "-u", "-T", "-T -P 81"} {
				j := run(0, flags+" "+far)
				if j.MTU != 1280 || j.MSS != mss || j.BlackHole || len(j.Refused) != 1 || j.Refused[0].Address != middle || j.Refused[0].MTU != 1280 {
					t.Errorf("%s %s: %+v", flags, far, j)
				}
				if len(j.Hops) != 3 || *j.Hops[0].MTU != 1500 || *j.Hops[1].MTU != 1500 || *j.Hops[1].Address != middle || *j.Hops[2].MTU != 1280 ||
					*j.Hops[2].Address != far || len(j.Hops[2].Refused) != 1 || j.Hops[2].BlackHole {
					t.Errorf("%s %s: %+v", flags, far, j.Hops)
				}
			}
			if j := run(0, "--whole "+far); j.MTU != 1280 || len(j.Hops) != 0 || j.Probes != 2 {
				t.Errorf("%+v", j)
			}
		}
		status, out, _ := checked(t, l, tapstack(t, env, "mtu", far4))
		for _, want := range []string{"10.81.0.2 refuses 1500 bytes: its next line carries 1280\n", "  2.  1500  10.81.0.2\n", "  3.  1280  8.8.4.4\n",
			"The path carries 1280 bytes: TCP segments of 1240, datagrams of 1252.\n"} {
			if status != 0 || !strings.Contains(out, want) {
				t.Errorf("status %d, no %q in\n%s", status, want, out)
			}
		}
		if j := run(1, "-W 0.3 -n 1 -U 1 8.8.254.254"); j.Reached || j.MTU != 0 || j.BlackHole || len(j.Hops) != 0 {
			t.Errorf("nobody: %+v", j)
		}
		if status, _, errs := checked(t, l, tapstack(t, append(env, lab.EnvGW+"="), "mtu", "8.8.4.4")); status != 2 || !strings.Contains(errs, "unreachable") {
			t.Errorf("no route: status %d, %s", status, errs)
		}

		hush()
		// What is late on a busy machine looks as if it vanished.
		var j mtuReport
		if !persist(func() bool {
			j = run(1, "-W 0.3 -n 1 "+far6)
			return j.MTU == 1280 && j.BlackHole && len(j.Refused) == 0 && len(j.Hops) == 3 && j.Hops[1].MTU != nil && *j.Hops[1].MTU == 1500 && !j.Hops[1].BlackHole &&
				j.Hops[2].MTU != nil && *j.Hops[2].MTU == 1280 && j.Hops[2].BlackHole
		}) {
			t.Errorf("hushed: %+v", j)
		}
		if !persist(func() bool {
			status, out, _ = checked(t, l, tapstack(t, env, "mtu", "-W", "0.3", "-n", "1", "-T", far4))
			return status == 1 && strings.Contains(out, "larger packets vanish between 10.81.0.2 and 8.8.4.4") && strings.Contains(out, "BLACK HOLE")
		}) {
			t.Errorf("status %d, no black hole in\n%s", status, out)
		}
	})
}

func TestMTUCommandLines(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"mtu": "HOST", "mtu -4 -6 h": "exclude each other", "mtu -u -T h": "exclude each other", "mtu -P 80 h": "have no port",
		"mtu -n 0 h": "want a number from 1", "mtu -W 0 h": "want more than 0", "mtu --net host 127.0.0.1": "need a stack",
	} {
		out, err := tapstack(t, nil, strings.Fields(args)...).CombinedOutput()
		if status := outcome(t, err); status != 2 || !strings.Contains(string(out), want) {
			t.Errorf("%s: status %d, %s", args, status, out)
		}
	}
}
