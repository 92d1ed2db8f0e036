package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/probe"
)

// masked are the lines of a text, sorted and with N for each time.
func masked(text string) []string {
	text = regexp.MustCompile(`[0-9]+\.[0-9]+ (ms|avg)|= [0-9.]+/[0-9.]+/[0-9.]+$|[0-9]+\.[0-9]+( [0-9]+\.[0-9]+)+$`).ReplaceAllString(text, "N $1")
	var lines []string
	for l := range strings.Lines(text) {
		l = strings.TrimSpace(l)
		l = regexp.MustCompile(`= [0-9.]+/[0-9.]+/[0-9.]+$|: [0-9]+\.[0-9]+( [0-9]+\.[0-9]+)+$`).ReplaceAllString(l, "N")
		if l != "" {
			lines = append(lines, l)
		}
	}
	slices.Sort(lines)
	return lines
}

// TestPingsAgainstFping: the lines of several hosts are those that fping prints
// of the kernel's, but for the times.
func TestPingsAgainstFping(t *testing.T) {
	t.Parallel()
	fping := lab.RequireProgram(t, "fping")
	lab.InNamespace(t, func(l *lab.Lab) {
		if out, err := l.Output(t.Context(), "ip", "addr", "add", "10.77.0.201/24", "dev", lab.Bridge); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		env := attached(l, lab.EnvIP+"=10.77.0.7/24,fd77::7/64", lab.EnvGW+"=10.77.0.1", "TAPSTACK_DAD=false")
		file := filepath.Join(t.TempDir(), "hosts")
		if err := os.WriteFile(file, []byte("# two hosts\n10.77.0.1\n\n10.77.0.201 # the second\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			ours, theirs string
			status       int
		}{
			{"-c 3 -i 0.05 10.77.0.1 10.77.0.201", "-c 3 -p 50 10.77.0.1 10.77.0.201", 0},
			{"-c 2 -i 0.05 --targets " + file, "-c 2 -p 50 -f " + file, 0},
			{"-c 3 -i 0.05 -q --times 10.77.0.1 10.77.0.201", "-C 3 -p 50 -q 10.77.0.1 10.77.0.201", 0},
			{"-c 2 -i 0.05 -q -s 1000 10.77.0.1 10.77.0.201", "-c 2 -p 50 -q -b 1000 10.77.0.1 10.77.0.201", 0},
			{"-c 2 -i 0.05 -W 0.2 10.77.0.1 10.77.0.99", "-c 2 -p 50 -t 50 10.77.0.1 10.77.0.99", 1},
			{"-c 2 -i 0.05 -W 0.2 -q --times 10.77.0.99 10.77.0.1", "-C 2 -p 50 -t 50 -q 10.77.0.99 10.77.0.1", 1},
		} {
			// On a busy machine an answer may come after the program's time.
			var ours, errs, theirs string
			var status, their int
			if !persist(func() bool {
				status, ours, errs = checked(t, l, tapstack(t, env, append([]string{"ping"}, strings.Fields(c.ours)...)...))
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				x := exec.CommandContext(ctx, fping, strings.Fields(c.theirs)...)
				var out bytes.Buffer
				x.Stdout, x.Stderr = &out, &out
				if err := l.Start(x); err != nil {
					t.Fatal(err)
				}
				their, theirs = outcome(t, x.Wait()), out.String()
				return status == c.status && their == c.status && errs == "" && slices.Equal(masked(ours), masked(theirs))
			}) {
				t.Errorf("status %d and %d, want %d\n%s:\n%s%s\nfping %s:\n%s", status, their, c.status, c.ours, strings.Join(masked(ours), "\n"), errs,
					c.theirs, strings.Join(masked(theirs), "\n"))
			}
		}
		command := func(status int, line string, want ...string) (out string) {
			var errs, lack string
			var got int
			try := func() bool {
				got, out, errs = checked(t, l, tapstack(t, env, strings.Fields(line)...))
				for _, w := range want {
					if !regexp.MustCompile(w).MatchString(out + errs) {
						lack = w
						return false
					}
				}
				return got == status
			}
			// What waits for moments only is repeated.
			if strings.Contains(line, "-W") && !persist(try) || !strings.Contains(line, "-W") && !try() {
				t.Errorf("%s: status %d, want %d; no %q in\n%s%s", line, got, status, lack, out, errs)
			}
			return out
		}
		command(0, "ping -c 200 -f --histogram 10.77.0.1", `ms, ipg/ewma [0-9.]+/[0-9.]+ ms\nrtt histogram:\n( +[0-9.e-]+ \.\. [0-9.]+ ms +[0-9]+ +[0-9.]+% #*\n)+$`)
		command(0, "ping -c 50 -f --histogram --percentiles 10.77.0.1 10.77.0.201", `(?m)^10.77.0.1   : xmt/rcv/%loss = 50/50/0%, min/avg/max = .*, p50/p90/p95/p99 = .*\nrtt histogram:$`)
		command(0, "ping -c 2 -i 0.05 -e 77 -v -3 10.77.0.1", `icmp_seq=2 ident=77 ttl=64 time=[0-9]+\.[0-9]{3} ms`)
		command(0, "ping -c 1 -v 10.77.0.1", `icmp_seq=1 ident=[0-9]+ ttl=64`)
		command(0, "ping -c 1 -B -D 10.77.0.1", `(?m)^\[[0-9]+\.[0-9]{6}\] 64 bytes from`)
		command(0, "ping -c 1 -D 10.77.0.1 10.77.0.201", `(?m)^\[[0-9]+\.[0-9]{6}\] 10.77.0.1   : \[0\], 64 bytes`)
		command(1, "ping -c 2 -i 0.05 -W 0.5 -O 10.77.0.98 10.77.0.99", `10.77.0.98 : \[0\], no answer yet`)
		command(2, "ping -c 1 10.77.0.1 nowhere.example", `10.77.0.1 : xmt/rcv/%loss = 1/1/0%`, `tapstack: .*nowhere.example`)

		// SIGQUIT says how far it is.
		quitted := tapstack(t, env, "ping", "-i", "0.05", "10.77.0.1")
		out, err := quitted.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		var errs bytes.Buffer
		quitted.Stderr = &errs
		if err := l.Start(quitted); err != nil {
			t.Fatal(err)
		}
		for n, lines := 0, bufio.NewScanner(out); lines.Scan(); n++ {
			if n == 3 {
				quitted.Process.Signal(syscall.SIGQUIT)
			}
			if n == 6 {
				quitted.Process.Signal(os.Interrupt)
			}
		}
		if status := outcome(t, quitted.Wait()); status != 0 || !regexp.MustCompile(`^\r[0-9]+/[0-9]+ packets, [0-9]+% loss, min/avg/ewma/max = [0-9.]+/[0-9.]+/[0-9.]+/[0-9.]+ ms\n$`).MatchString(errs.String()) {
			t.Errorf("SIGQUIT: status %d, %q", status, errs.String())
		}

		// pyproto's result, and nothing else unless it is asked for.
		keys := func(text string) (k []string) {
			var m map[string]any
			if err := json.Unmarshal([]byte(text), &m); err != nil {
				t.Errorf("%v in %s", err, text)
			}
			for x := range m {
				k = append(k, x)
			}
			slices.Sort(k)
			return k
		}
		seed := []string{"dest", "lost", "packets", "recvd", "rtts", "sent"}
		if got := keys(command(0, "ping -c 1 --json 10.77.0.1")); !reflect.DeepEqual(got, seed) {
			t.Errorf("--json: %v", got)
		}
		if got := keys(command(0, "ping -c 1 --json=full 10.77.0.1")); len(got) != len(seed)+12 || !slices.Contains(got, "histogram_ms") {
			t.Errorf("--json=full: %v", got)
		}
		var list []pingResult
		if !persist(func() bool {
			list = nil
			err = json.Unmarshal([]byte(command(1, "ping -c 2 -i 0.05 -W 0.2 --json 10.77.0.99 10.77.0.1")), &list)
			return err == nil && len(list) == 2 && list[0].Dest == "10.77.0.99" && list[0].Lost == 2 && list[0].Packets[1].RTT == nil &&
				list[1].Recvd == 2 && list[1].Packets[1].Success
		}) {
			t.Errorf("%v %+v", err, list)
		}
	})
}

func TestPingsCommandLines(t *testing.T) {
	for _, c := range []struct{ args, stderr string }{
		{"ping --targets /nowhere/at/all", "--targets /nowhere/at/all"},
		{"ping --targets /dev/null", "there are none"},
		{"ping --targets x 10.77.0.1", "want one of the two"},
		{"ping --json=most 10.77.0.1", "want seed or full"},
		{"ping -e 5 10.77.0.1 10.77.0.2", "identifiers of their own"},
		{"ping -e 0 10.77.0.1", "want a number from 1"},
		{"ping -R 10.77.0.1", "IPv4 options are not sent"},
		{"ping -m 5 10.77.0.1", "a mark is for the kernel's routing"},
		{"ping -T tsonly 10.77.0.1", "IPv4 options"},
		{"ping -nU 10.77.0.1", "measured at the device"},
	} {
		out, err := tapstack(t, nil, strings.Fields(c.args)...).CombinedOutput()
		if status := outcome(t, err); status != 2 || !strings.Contains(string(out), c.stderr) || strings.Count(string(out), "\n") != 1 {
			t.Errorf("%s: status %d, %s", c.args, status, out)
		}
	}
	if out, err := tapstack(t, nil, "ping", "-V").Output(); err != nil || !strings.HasPrefix(string(out), "tapstack ") {
		t.Errorf("-V: %v %s", err, out)
	}
	// Every refused flag has a place in the documentation.
	text, err := os.ReadFile("../../docs/probes.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range refusedFlags {
		if !strings.Contains(string(text), "`-"+r.letter+"`") {
			t.Errorf("-%s is not in docs/probes.md", r.letter)
		}
	}
}

// TestStrangeAnswers: duplicates, late and corrupted answers are told apart in
// the lines and in the sums.
func TestStrangeAnswers(t *testing.T) {
	reply := func(seq int, f func(r *probe.Result)) probe.PingPacket {
		x := probe.PingPacket{Seq: seq, Result: probe.Result{Kind: probe.Reply, From: anyHost, RTT: 1500 * time.Microsecond, ReplyTTL: 64, ReplySize: 64, CorruptAt: -1}}
		f(&x.Result)
		return x
	}
	list := []probe.PingPacket{
		reply(1, func(*probe.Result) {}),
		reply(1, func(r *probe.Result) { r.Duplicate = true }),
		{Seq: 2, Result: probe.Result{Kind: probe.NoReply, CorruptAt: -1}},
		reply(2, func(r *probe.Result) { r.Late = true; r.RTT = 2 * time.Second }),
		reply(3, func(r *probe.Result) { r.CorruptAt = 12 }),
		{Seq: 4, Result: probe.Result{Kind: probe.NoRouteHost, From: anyHost, ICMP: true, ICMPType: 3, ICMPCode: 1, CorruptAt: -1}},
		{Seq: 5, Outstanding: true},
		{Seq: 5, Result: probe.Result{Kind: probe.MessageSize, CorruptAt: -1}},
	}
	r := probe.PingResult{Sent: 5, Received: 3, Duplicates: 1, Late: 1, Corrupt: 1, Errors: 2, Elapsed: time.Second}
	r.Stats.Add(1500 * time.Microsecond)
	var out bytes.Buffer
	o := &pingOptions{pingMore: pingMore{}, outstanding: true}
	w := &pingOutput{o: o, w: &out, host: "far", dst: anyHost, packets: make(map[int]pingPacket)}
	for _, x := range list {
		w.packet(x)
	}
	w.end(&r)
	for _, want := range []string{"icmp_seq=1 ttl=64 time=1.50 ms\n", "icmp_seq=1 ttl=64 time=1.50 ms (DUP!)\n", "icmp_seq=2 ttl=64 time=2000 ms (LATE)\n", "icmp_seq=3 ttl=64 time=1.50 ms\nwrong data byte #12\n",
		"icmp_seq=4 Destination Host Unreachable\n", "no answer yet for icmp_seq=5\n", "icmp_seq=5: message-size\n",
		"5 packets transmitted, 3 received, +1 duplicates, +1 late, +1 corrupted, +2 errors, 40% packet loss, time 1000ms\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
	out.Reset()
	many := &pingsOutput{o: o, w: &out, width: 5, hosts: []*pingsHost{{pingOutput: w}}}
	o.times = true
	for _, x := range list {
		many.packet(0, x)
	}
	many.end([]probe.PingResult{r})
	o.times = false
	many.end([]probe.PingResult{r})
	for _, want := range []string{"far   : [0], 64 bytes, 1.50 ms (1.50 avg, 0% loss)\n", "far   : duplicate for [0], 64 bytes, 1.50 ms\n", "far   : [1], timed out (1.50 avg, 50% loss)\n",
		"far   : [1], 64 bytes, 2000 ms (1001 avg, 0% loss) (LATE)\n", "far   : [2], 64 bytes, 1.50 ms (668 avg, 0% loss) wrong data byte #12\n",
		"far   : [3], Destination Host Unreachable from 10.77.0.9 (668 avg, 25% loss)\n", "far   : [4], no answer yet\n", "far   : [4], message-size (668 avg, 40% loss)\n",
		"far   : 1.50 2000 1.50 - -\n", "far   : xmt/rcv/%loss = 5/3/40%, +1 duplicates, +1 late, +1 corrupted, +2 errors, min/avg/max = 1.50/1.50/1.50\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
}

var anyHost = netip.MustParseAddr("10.77.0.9")

// TestAnswersApart: a host that answers late, twice, wrongly and not at all, over
// the kernel's raw socket while the kernel itself keeps silent.
func TestAnswersApart(t *testing.T) {
	t.Parallel()
	lab.InNamespace(t, func(l *lab.Lab) {
		if out, err := l.Output(t.Context(), "sh", "-c", "echo 1 >/proc/sys/net/ipv4/icmp_echo_ignore_all"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		c, err := l.ListenPacketKernel("ip4:icmp", "10.77.0.1")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		go func() {
			b := make([]byte, 2000)
			for {
				n, from, err := c.ReadFrom(b)
				if err != nil {
					return
				}
				if n < 64 || b[0] != 8 {
					continue
				}
				answer := bytes.Clone(b[:n])
				answer[0] = 0
				// The checksum's sum is of 8 less in the first word (RFC 1624).
				sum := uint32(binary.BigEndian.Uint16(answer[2:])) + 0x0800
				binary.BigEndian.PutUint16(answer[2:], uint16(sum+sum>>16))
				switch binary.BigEndian.Uint16(b[6:]) {
				case 1:
					time.AfterFunc(500*time.Millisecond, func() { c.WriteTo(answer, from) })
					continue
				case 2:
					c.WriteTo(answer, from)
				case 3: // two words change places, of which the sum knows nothing
					answer[20], answer[21], answer[22], answer[23] = answer[22], answer[23], answer[20], answer[21]
				case 4:
					continue
				}
				c.WriteTo(answer, from)
			}
		}()
		env := attached(l, lab.EnvIP+"=10.77.0.7/24", "TAPSTACK_DAD=false")
		// On a busy machine others are late, too.
		var out string
		if !persist(func() bool {
			var status int
			var errs string
			status, out, errs = checked(t, l, tapstack(t, env, "ping", "-c", "10", "-i", "0.1", "-W", "0.3", "10.77.0.1"))
			if status != 0 || errs != "" {
				t.Errorf("status %d, %s", status, errs)
			}
			return strings.Contains(out, "+1 late,")
		}) {
			t.Error("more than one was late")
		}
		for _, want := range []string{`icmp_seq=1 ttl=64 time=([5-9]|[0-9]+)[0-9]{2} ms \(LATE\)\n`, `icmp_seq=2 .* ms\n`, `icmp_seq=2 .* ms \(DUP!\)\n`, `icmp_seq=3 .* ms\nwrong data byte #12\n`,
			`10 packets transmitted, 9 received, \+1 duplicates, \+1 late, \+1 corrupted, 10% packet loss`} {
			if !regexp.MustCompile(want).MatchString(out) {
				t.Errorf("no %s in\n%s", want, out)
			}
		}
		if strings.Contains(out, "icmp_seq=4 ") {
			t.Errorf("4 was not answered:\n%s", out)
		}
		var r pingFull
		persist(func() bool {
			r = pingFull{}
			_, out, _ = checked(t, l, tapstack(t, env, "ping", "-c", "10", "-i", "0.1", "-W", "0.3", "--json=full", "10.77.0.1"))
			err = json.Unmarshal([]byte(out), &r)
			return err == nil && r.Late == 1
		})
		if err != nil || r.Sent != 10 || r.Recvd != 9 || r.Lost != 1 || r.Late != 1 || r.Duplicates != 1 || r.Corrupt != 1 ||
			r.Packets[3].Success || !r.Packets[0].Success || len(r.RTTs) != 9 {
			t.Errorf("%v %s", err, out)
		}
	})
}

// TestPingFlags: -i and -W of 0 are ping's: no pause, no end; -i with -f is a pace.
func TestPingFlags(t *testing.T) {
	for _, c := range []struct {
		args  []string
		flood bool
		pause time.Duration
	}{
		{nil, false, time.Second},
		{[]string{"-f"}, true, time.Second},
		{[]string{"-i", "0"}, true, 0},
		{[]string{"-f", "-i", "0.2"}, false, 200 * time.Millisecond},
		{[]string{"-f", "-i", "0"}, true, 0},
	} {
		o := &pingOptions{interval: wait(time.Second)}
		cmd := pingCommandOf(o)
		if err := cmd.ParseFlags(append(c.args, "-W", "0")); err != nil {
			t.Fatal(err)
		}
		o.paced = cmd.Flags().Changed("interval")
		q, err := o.request(anyAddr)
		if err != nil || q.Flood != c.flood || q.Interval != c.pause || q.Timeout != forever {
			t.Errorf("%v: %v, %+v", c.args, err, q)
		}
	}
}
