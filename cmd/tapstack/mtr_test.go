package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/internal/mtr"
)

// packetProgram makes a link to the program that is called mtr-packet and
// returns the environment that it is to be started in: what starts it, as mtr,
// gives it no arguments.
func packetProgram(t *testing.T, l *lab.Lab) []string {
	t.Helper()
	link := filepath.Join(t.TempDir(), mtr.Name)
	if err := os.Symlink(os.Args[0], link); err != nil {
		t.Fatal(err)
	}
	env := []string{lab.EnvTap + "=" + l.Devices[0], lab.EnvIP + "=10.77.0.7/24,fd77::7/64", lab.EnvGW + "=10.77.0.1,fd77::1", "MTR_PACKET=" + link}
	if l.Packet {
		env[0] = lab.EnvDev + "=" + l.Device()
	}
	return tapstack(t, env).Env
}

// TestMTR has Debian's mtr send its probes by the link.
func TestMTR(t *testing.T) {
	program, err := exec.LookPath("mtr")
	if err != nil {
		lab.Lacks(t, err)
	}
	lab.InNamespace(t, func(l *lab.Lab) {
		if !l.IPv6 {
			lab.Lacks(t, errNoIPv6)
		}
		routers(t, l)
		env := packetProgram(t, l)
		run := func(t *testing.T, line string) string {
			t.Helper()
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			c := exec.CommandContext(ctx, program, strings.Fields("-n -c 2 -i 0.1 -G 0.2 "+line)...)
			var out, errs bytes.Buffer
			c.Env, c.Stdout, c.Stderr = env, &out, &errs
			if err := l.Start(c); err != nil {
				t.Fatal(err)
			}
			if err := c.Wait(); err != nil || errs.Len() > 0 {
				t.Fatalf("mtr %s: %v\n%s%s", line, err, &out, &errs)
			}
			return out.String()
		}
		const far4, far6 = "8.8.8.8", "2001:4860:4860::8888"
		for _, far := range []string{far4, far6} {
			first, middle := "10.77.0.1", "10.8"
			all := []string{"", "-u", "-u -P 5353", "-u -P 5353 -L 4000", "-T", "-T -P 81", "-S", "-s 500 -B 300 -Q 8", "-e"}
			if far == far6 {
				first, middle = "fd77::1", "fd8"
				all = []string{"", "-u -P 5353", "-T", "-S"}
			}
			for _, flags := range all {
				var j struct {
					Report struct {
						Hubs []struct {
							Host string
							Loss float64 `json:"Loss%"`
							Snt  int
						}
					}
				}
				line := "--json " + flags + " " + far
				out := run(t, line)
				if err := json.Unmarshal([]byte(out), &j); err != nil {
					t.Errorf("%s: %v\n%s", line, err, out)
					continue
				}
				if h := j.Report.Hubs; len(h) != 3 || h[0].Host != first || !strings.HasPrefix(h[1].Host, middle) || h[2].Host != far || h[0].Loss+h[1].Loss+h[2].Loss != 0 || h[2].Snt != 2 {
					t.Errorf("%s:\n%s", line, out)
				}
			}
		}
		for line, want := range map[string][]string{
			"-r 8.8.8.8":    {"HOST:", "  1.|-- 10.77.0.1", "  3.|-- 8.8.8.8"},
			"--raw 8.8.8.8": {"x 0 33000\n", "h 0 10.77.0.1\n", "h 2 8.8.8.8\n", "p 2 "},
			"--csv 8.8.8.8": {",OK,8.8.8.8,1,10.77.0.1,0.00,2,", ",OK,8.8.8.8,3,8.8.8.8,0.00,2,"},
		} {
			out := run(t, line)
			for _, w := range want {
				if !strings.Contains(out, w) {
					t.Errorf("mtr %s: no %q in\n%s", line, w, out)
				}
			}
		}
	})
}
