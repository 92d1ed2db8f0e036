package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/probe"
)

// routers puts three namespaces of the kernel behind the lab's, as
// testdata/routers.sh draws them, and returns the processes in them.
func routers(t *testing.T, l *lab.Lab, extra ...string) (pids []string) {
	t.Helper()
	return namespaces(t, l, "testdata/routers.sh", extra...)
}

// namespaces makes three and runs a script in the lab with the processes in them,
// and what else it is to know.
func namespaces(t *testing.T, l *lab.Lab, script string, extra ...string) (pids []string) {
	t.Helper()
	for _, name := range []string{"ip", "unshare", "nsenter"} {
		if _, err := exec.LookPath(name); err != nil {
			lab.Lacks(t, err)
		}
	}
	for range 3 {
		c := exec.Command("unshare", "--net", "sleep", "1000")
		if err := l.Start(c); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Process.Kill(); _ = c.Wait() }) // killed
		pids = append(pids, strconv.Itoa(c.Process.Pid))
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if out, err := l.Output(ctx, "sh", slices.Concat([]string{script}, pids, extra)...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return pids
}

// TestAgainstKernel runs ping and trace as a user does, through routers that are
// Linux's.
func TestAgainstKernel(t *testing.T) {
	t.Parallel()
	lab.InNamespace(t, func(l *lab.Lab) {
		if !l.IPv6 {
			lab.Lacks(t, errNoIPv6)
		}
		routers(t, l)
		env := attached(l, lab.EnvIP+"=10.77.0.7/24,fd77::7/64", lab.EnvGW+"=10.77.0.1,fd77::1", "TAPSTACK_DAD=false")
		command := func(t *testing.T, status int, line string) string {
			t.Helper()
			got, out, errs := checked(t, l, tapstack(t, env, strings.Fields(line)...))
			if got != status {
				t.Errorf("%s: status %d, want %d\n%s%s", line, got, status, out, errs)
			}
			return out + errs
		}
		contains := func(t *testing.T, status int, line string, want ...string) {
			t.Helper()
			out := command(t, status, line)
			for _, w := range want {
				if !strings.Contains(out, w) {
					t.Errorf("%s: no %q in\n%s", line, w, out)
				}
			}
		}
		const far4, far6 = "8.8.8.8", "2001:4860:4860::8888"

		t.Run("ping", func(t *testing.T) {
			for _, far := range []string{far4, far6} {
				contains(t, 0, "ping -c 3 -i 0.1 "+far, "64 bytes from "+far+": icmp_seq=3 ttl=62 time=", "3 packets transmitted, 3 received, 0% packet loss")
				contains(t, 0, "ping -c 2 -i 0.1 -s 4000 -p ff "+far, "4008 bytes from "+far, "PATTERN: 0xff")
				contains(t, 0, "ping -c 2000 -f -q --percentiles "+far, "2000 packets transmitted, 2000 received, 0% packet loss", "rtt p50/")
				contains(t, 0, "ping -c 4 -i 0.1 -s 100 --sweep 300 --sweep-step 100 "+far, "108 bytes from", "208 bytes from", "308 bytes from")
			}
			contains(t, 1, "ping -c 1 -t 1 8.8.8.8", "From 10.77.0.1 icmp_seq=1 Time to live exceeded", "+1 errors, 100% packet loss")
			contains(t, 1, "ping -c 1 -t 1 "+far6, "From fd77::1 icmp_seq=1 Time exceeded: Hop limit")
			contains(t, 0, "ping -c 5 -i 0 10.77.0.1", "icmp_seq=5 ", ", ipg/ewma ")
			contains(t, 1, "ping -c 2 -i 0.2 -W 0.5 -O 8.8.254.254", "2 packets transmitted, 0 received, 100% packet loss", "no answer yet for icmp_seq=1")
			contains(t, 1, "ping -c 1 -s 1400 -M probe 8.8.4.4", "From 10.81.0.2 icmp_seq=1 Frag needed and DF set (mtu = 1400)")
			contains(t, 1, "ping -c 1 -s 1500 -M do 8.8.4.4", "message too long, mtu=1500")
			contains(t, 1, "ping -c 1 10.77.0.99", "From 10.77.0.7 icmp_seq=1 Destination Host Unreachable")
			contains(t, 2, "ping -c 1 224.0.0.1.example", "tapstack: ")
			var r pingResult
			if err := json.Unmarshal([]byte(command(t, 0, "ping --json -c 3 -i 0.1 "+far4)), &r); err != nil || r.Dest != far4 || r.Sent != 3 || r.Recvd != 3 || r.Lost != 0 ||
				len(r.RTTs) != 3 || len(r.Packets) != 3 || !r.Packets[2].Success || r.Packets[2].Seq != 2 || *r.Packets[2].Type != "ECHO_REPLY" || *r.Packets[2].RTT != r.RTTs[2] {
				t.Errorf("%v, %+v", err, r)
			}
			r = pingResult{}
			if err := json.Unmarshal([]byte(command(t, 1, "ping --json -c 1 -W 0.3 8.8.254.254")), &r); err != nil || r.Lost != 1 || len(r.Packets) != 1 || r.Packets[0].Type != nil || r.Packets[0].RTT != nil || r.Packets[0].Success {
				t.Errorf("%v, %+v", err, r)
			}
		})

		t.Run("trace", func(t *testing.T) {
			for _, far := range []string{far4, far6} {
				for _, flags := range []string{"", "-u", "-u -P 5353", "-T -P 81", "-T", "-S"} {
					first, middle := "10.77.0.1", "10.8"
					if far == far6 {
						first, middle = "fd77::1", "fd8"
					}
					var j traceReport
					line := "trace -j -c 2 -i 0.1 -G 30 -Z 30 " + flags + " " + far
					if err := json.Unmarshal([]byte(command(t, 0, line)), &j); err != nil {
						t.Errorf("%s: %v", line, err)
						continue
					}
					h := j.Report.Hubs
					if len(h) != 3 || h[0].Host != first || !strings.HasPrefix(h[1].Host, middle) || h[2].Host != far || !j.Report.Reached || h[2].Loss != 0 {
						t.Errorf("%s: %+v", line, j)
						continue
					}
					if flags != "-S" && len(h[1].Hosts) != 1 { // an INIT is a flow of its own
						t.Errorf("%s: more than one way: %+v", line, h[1].Hosts)
					}
					for _, x := range h {
						if len(x.Hosts[0].Changes) > 0 {
							t.Errorf("%s: %v", line, x.Hosts[0].Changes)
						}
					}
				}
				var p pathsReport
				if err := json.Unmarshal([]byte(command(t, 0, "trace --ecmp -u -j -c 2 -i 0.1 --confidence 0.99999 "+far)), &p); err != nil || p.Width != 2 || !p.Reached || !p.Complete || len(p.Paths) != 2 || p.Paths[0].Loss != 0 || p.Paths[0].Snt != 2 || len(p.Paths[1].Routers) != 3 {
					t.Errorf("--ecmp to %s: %v, %+v", far, err, p)
				}
			}
			contains(t, 0, "trace -w -c 2 -i 0.1 8.8.8.8", "HOST:", "Loss%", "  1.|-- 10.77.0.1 ", "  3.|-- 8.8.8.8 ")
			contains(t, 0, "trace -C -c 1 8.8.8.8", "Mtr_Version,Start_Time,Status,Host,Hop,Ip,Loss%,Snt, ,Last,Avg,Best,Wrst,StDev,\n", ",OK,8.8.8.8,3,8.8.8.8,0.00,1,0,")
			contains(t, 0, "trace -l -c 1 8.8.8.8", "x 0 33000\nh 0 10.77.0.1\np 0 ", " 33000\n", "x 2 33002\n", "h 2 8.8.8.8", "p 2 ")
			contains(t, 0, "trace -c 1 -o LSDRNBAWVGJMXI 8.8.8.8", "Gmean", "Jint")
			contains(t, 0, "trace --hop-mtu -r -c 1 8.8.4.4", "[carries 1400 bytes as far as here: 10.81.0.2 refuses 1500]", "[carries 1500 bytes as far as here]")
			contains(t, 0, "trace --back -x -c 1 8.8.8.8", `<HUB COUNT="3" HOST="8.8.8.8">`, "<Loss>0.0%</Loss>", "</MTR>")
			contains(t, 1, "trace -c 1 -m 2 8.8.8.8", "8.8.8.8 was not reached: max-ttl")
			contains(t, 1, "trace -c 1 -G 0.3 -Z 0.3 -U 3 8.8.254.254", "???", "was not reached: silent")
			// Several hosts, each in its place; one of them cannot be traced.
			list := filepath.Join(t.TempDir(), "hosts")
			if err := os.WriteFile(list, []byte("# far\n8.8.8.8\n\n2001:4860:4860::8888 # and far\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			var several []traceReport
			if err := json.Unmarshal([]byte(command(t, 0, "trace -j -c 1 -F "+list+" 10.77.0.1")), &several); err != nil || len(several) != 3 {
				t.Fatalf("-F: %v, %+v", err, several)
			}
			for i, want := range []string{"10.77.0.1", "8.8.8.8", "2001:4860:4860::8888"} {
				if r := several[i].Report; r.Mtr.Dst != want || !r.Reached {
					t.Errorf("-F: %+v instead of %s", r, want)
				}
			}
			if out := command(t, 2, "trace -C -c 1 10.77.0.1 ::ffff:0:0 fd77::1"); strings.Count(out, "Mtr_Version") != 1 || !strings.Contains(out, ",OK,10.77.0.1,1,") || !strings.Contains(out, ",OK,fd77::1,1,") {
				t.Errorf("several hosts:\n%s", out)
			}
			contains(t, 2, "trace -a 10.9.9.9 8.8.8.8", "cannot assign requested address")
		})
	})
}

func TestProbeCommandLines(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ args, stderr string }{
		{"ping", "HOST"},
		{"ping -c 0 127.0.0.1", "want a number from 1"},
		{"ping -i x 127.0.0.1", "want seconds"},
		{"trace -i 0 127.0.0.1", "want more than 0"},
		{"trace -Z 0 127.0.0.1", "want more than 0"},
		{"trace -G 0 127.0.0.1", "want more than 0"},
		{"ping -t 256 127.0.0.1", "want a number from 1 to 255"},
		{"ping -p xyz 127.0.0.1", "hexadecimal"},
		{"ping -M never 127.0.0.1", "want do, want, dont or probe"},
		{"ping -4 -6 127.0.0.1", "exclude each other"},
		{"ping --net host 127.0.0.1", "need a stack"},
		{"trace", "HOST"},
		{"trace -u -T 127.0.0.1", "exclude each other"},
		{"trace -j -C 127.0.0.1", "exclude each other"},
		{"trace -f 9 -m 3 127.0.0.1", "beyond"},
		{"trace -o LZ 127.0.0.1", "no field 'Z'"},
		{"trace -M 7 127.0.0.1", "nothing in this stack reads marks"},
		{"trace -z 127.0.0.1", "want --as-file"},
		{"trace --as-file /nonexistent 127.0.0.1", "--as-file"},
		{"trace -t -j 127.0.0.1", "-t goes with"},
		{"trace --in-session -u 127.0.0.1", "--in-session"},
		{"trace -x -j 127.0.0.1", "exclude each other"},
		{"trace --ecmp --hop-mtu 127.0.0.1", "--ecmp"},
		{"trace --ecmp -C 127.0.0.1", "--ecmp"},
		{"trace -F /nonexistent", "-F /nonexistent"},
		{"trace -t 127.0.0.1 127.0.0.2", "one host"},
		{"trace --displaymode 3 127.0.0.1", "want a number from 0 to 2"},
		{"trace -P 80 127.0.0.1", "have no port"},
		{"trace -L 2000 127.0.0.1", "-L: is of -u"},
		{"trace -S -L 2000 127.0.0.1", "-L: is of -u"},
		{"trace -T --classic -L 2000 127.0.0.1", "-L: is of -u"},
		{"trace --hop-mtu -x 127.0.0.1", "--hop-mtu goes with"},
		{"trace --max-flows 5 127.0.0.1", "are of --ecmp"},
		{"trace --confidence 2 127.0.0.1", "confidence"},
	} {
		cmd := tapstack(t, nil, strings.Fields(c.args)...)
		out, err := cmd.CombinedOutput()
		if status := outcome(t, err); status != 2 || !strings.Contains(string(out), c.stderr) {
			t.Errorf("%s: status %d, %s", c.args, status, out)
		}
	}
}

func TestPingTime(t *testing.T) {
	for us, want := range map[float64]string{12.4: "0.012", 999.4: "0.999", 1234: "1.23", 12345: "12.3", 123456: "123", 99960: "100"} {
		if got := pingTime(time.Duration(us * 1e3)); got != want {
			t.Errorf("%v µs: %s, want %s", us, got, want)
		}
	}
}

// TestTraceTable: what a table says beneath a hop.
func TestTraceTable(t *testing.T) {
	var out bytes.Buffer
	w := &traceOutput{o: &traceOptions{order: "LS"}, w: &out, host: "far"}
	var x probe.Host
	if err := json.Unmarshal([]byte(`{"Addr":"192.0.2.1","Kind":3,"Count":2,"ICMPType":3,"ICMPCode":13,
		"Changes":[{"Field":"tos","Sent":184,"Quoted":0}],
		"Extensions":{"MPLS":[{"Label":100,"TC":1,"Bottom":true,"TTL":1}],"Interfaces":[{"Name":"eth0","Index":3,"MTU":1500}]}}`), &x); err != nil {
		t.Fatal(err)
	}
	y := x
	y.Count, y.Extensions.MPLS, y.Extensions.Interfaces, y.Changes = 1, nil, nil, nil
	w.table(&probe.TraceResult{Hops: []probe.Hop{{TTL: 1, Sent: 4, Received: 3, Hosts: []probe.Host{y, x}}, {TTL: 2, Sent: 4}}, End: probe.EndUnreachable})
	for _, want := range []string{"  1.|-- 192.0.2.1 ", "25.0%", "[MPLS: Lbl 100 TC 1 S 1 TTL 1]", `[incoming interface: "eth0", index 3, MTU 1500]`,
		"[DSCP bleached from 46]", "[Packet filtered]", "  2.|-- ???", "100.0%", "far was not reached: unreachable"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
}
