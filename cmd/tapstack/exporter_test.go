package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/gopacket/layers"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/tapstack/tapstack/internal/lab"
)

// startExporter starts the program in the lab and returns the addresses on which
// it listens.
func startExporter(t *testing.T, l *lab.Lab, env []string, listeners int, args ...string) (addresses []string) {
	t.Helper()
	c := tapstack(t, env, append([]string{"exporter"}, args...)...)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Start(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Signal(os.Interrupt)
		if status := outcome(t, c.Wait()); status != 0 {
			t.Errorf("exporter %q: status %d", args, status)
		}
	})
	lines := bufio.NewScanner(out)
	for len(addresses) < listeners && lines.Scan() {
		if a, ok := strings.CutPrefix(lines.Text(), "listening address="); ok {
			addresses = append(addresses, a)
		}
	}
	if len(addresses) < listeners {
		t.Fatalf("%q: listens on %v only", args, addresses)
	}
	go io.Copy(io.Discard, out)
	return addresses
}

// TestExporter: curl on the kernel host asks an exporter on the stack, on the
// host, and one without a stack.
func TestExporter(t *testing.T) {
	t.Parallel()
	curl := lab.RequireProgram(t, "curl")
	lab.InNamespace(t, func(l *lab.Lab) {
		port := greeter(t, l)
		device := attached(l, lab.EnvIP+"=10.77.0.7/24,fd77::7/64", "TAPSTACK_DAD=false")
		config := filepath.Join(t.TempDir(), "modules.json")
		if err := os.WriteFile(config, []byte(`{"modules": {"hello": {"prober": "tcp", "expect": "^220 hello"}}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		ask := func(t *testing.T, address, query string) string {
			t.Helper()
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			out, err := l.Output(ctx, curl, "-sS", "-g", "-H", "X-Prometheus-Scrape-Timeout-Seconds: 30", "http://"+address+query)
			if err != nil {
				t.Fatalf("%s%s: %v", address, query, err)
			}
			return string(out)
		}
		for _, c := range []struct {
			name      string
			env       []string
			args      []string
			addresses []string
			stack     bool
		}{
			{"stack", device, []string{"--listen", "10.77.0.7:9115"}, []string{"10.77.0.7:9115"}, true},
			{"both", device, []string{"--listen", "10.77.0.7:9115", "--listen-host", "10.77.0.1:9116"}, []string{"10.77.0.1:9116", "10.77.0.7:9115"}, true},
			{"default", device, nil, []string{"[::]:9115"}, true},
			{"host", nil, []string{"--net", "host", "--listen-host", "10.77.0.1:9117"}, []string{"10.77.0.1:9117"}, false},
		} {
			capture := filepath.Join(t.TempDir(), "probes.pcapng")
			t.Run(c.name, func(t *testing.T) {
				args := append(c.args, "--config", config)
				if c.stack {
					args = append(args, "--pcap", capture)
				}
				got := startExporter(t, l, c.env, len(c.addresses), args...)
				for i, a := range got {
					if a != c.addresses[i] {
						t.Errorf("listens on %s, want %s", a, c.addresses[i])
					}
					a = strings.Replace(a, "[::]", "10.77.0.1", 1)
					for query, want := range map[string][]string{
						"?module=hello&target=10.77.0.1:" + port:       {"probe_success 1", "probe_ip_protocol 4", "tapstack_probe_syns 1", "probe_failed_due_to_regex 0", `tapstack_probe_verdict{verdict="open"} 1`},
						"?module=smtp&target=10.77.0.1:" + port:        {"probe_success 1"},
						"?module=imap&target=10.77.0.1:" + port:        {"probe_success 0", `tapstack_probe_verdict{verdict="mismatch"} 1`},
						"?module=udp&target=10.77.0.1:" + port:         {"probe_success 1"},
						"?module=tcp_connect&target=10.77.0.1:4":       {"probe_success 0", `tapstack_probe_verdict{verdict="closed"} 1`, `errno="ECONNREFUSED"`},
						"?module=icmp&target=10.77.0.1":                {"probe_success 1", "probe_icmp_reply_hop_limit 64", `probe_icmp_duration_seconds{phase="rtt"}`},
						"?module=icmp&target=fd77::1":                  {"probe_success 1", "probe_ip_protocol 6"},
						"?module=mtu&target=10.77.0.1":                 {"probe_success 1", "tapstack_probe_path_mtu_bytes 1500"},
						"?module=trace&target=10.77.0.1":               {"probe_success 1", "tapstack_probe_hops 1"},
						"?module=icmp&target=10.77.0.1:7":              {"no port, want a host"},
						"?module=icmp&target=no%20host":                {"neither a name nor an address"},
						"?debug=true&module=hello&target=10.77.0.1:4":  {`"verdict": "closed"`, "Metrics:\n"},
						"?module=tcp_connect&target=nowhere.example:4": {"probe_success 0", `tapstack_probe_verdict{verdict="unresolved"} 1`},
					} {
						if strings.Contains(query, "icmp") || strings.Contains(query, "mtu") || strings.Contains(query, "trace") {
							if !c.stack {
								want = []string{"needs a stack"}
							} else if strings.Contains(query, "fd77") && !l.IPv6 {
								continue
							}
						}
						var body, lack string
						persist(func() bool {
							body, lack = ask(t, a, "/probe"+query), ""
							for _, w := range want {
								if !strings.Contains(body, w) {
									lack = w
								}
							}
							return lack != "tapstack_probe_syns 1" // a machine that stands still sends another
						})
						if lack != "" {
							t.Errorf("%s: no %q in\n%s", query, lack, body)
						}
					}
					p := expfmt.NewTextParser(model.UTF8Validation)
					families, err := p.TextToMetricFamilies(strings.NewReader(ask(t, a, "/metrics")))
					if err != nil || families["tapstack_exporter_probes_total"] == nil || (families["tapstack_stack_events_total"] != nil) != c.stack {
						t.Errorf("%v, %d families", err, len(families))
					}
				}
			})
			if !c.stack {
				continue
			}
			// The probes are in the capture, the scrapes over the stack are not.
			all := strings.Join(pcapComments(t, capture), "\n")
			for _, want := range []string{": SYN ttl 64 to 10.77.0.1:" + port, ": SYN ttl 64 to 10.77.0.1:4\n", ": ICMP echo ", ": UDP ttl 64 to 10.77.0.1:" + port} {
				if !strings.Contains(all, want) {
					t.Errorf("%s: no %q in the capture\n%s", c.name, want, all)
				}
			}
			for _, f := range pcapFrames(t, capture) {
				if tcp, ok := f.TransportLayer().(*layers.TCP); ok && (tcp.SrcPort == 9115 || tcp.DstPort == 9115) {
					t.Errorf("%s: a scrape is in the capture: %v", c.name, f)
				}
			}
		}
	})
}

func TestExporterCommandLines(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.json")
	if err := os.WriteFile(bad, []byte(`{"modules": {"a": {"prober": "gopher"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ args, stderr string }{
		{"exporter 10.77.0.1", "unexpected argument"},
		{"exporter --parallel 0", "--parallel 0"},
		{"exporter --listen-host=", "nowhere to listen"},
		{"exporter --timeout-offset x", "want seconds"},
		{"exporter --config /nowhere/at/all", "--config: open"},
		{"exporter --config " + bad, `module a: prober "gopher"`},
		{"exporter --net host --listen :1", "is about a stack"},
	} {
		out, err := tapstack(t, nil, strings.Fields(c.args)...).CombinedOutput()
		if status := outcome(t, err); status != 2 || !strings.Contains(string(out), c.stderr) || strings.Count(string(out), "\n") != 1 {
			t.Errorf("%s: status %d, %s", c.args, status, out)
		}
	}
}
