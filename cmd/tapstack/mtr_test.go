package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/internal/mtr"
)

// The far host of testdata/routers.sh, and an address behind the routers that
// nobody has.
const (
	far4, far6 = "8.8.8.8", "2001:4860:4860::8888"
	farNobody  = "8.8.9.9"
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
	env := attached(l, lab.EnvIP+"=10.77.0.7/24,fd77::7/64", lab.EnvGW+"=10.77.0.1,fd77::1", "MTR_PACKET="+link)
	return tapstack(t, env).Env
}

// farServers has the far host answer on TCP port 80 and UDP port 5353.
func farServers(t *testing.T, pid string) {
	t.Helper()
	within(t, pid, func() error {
		for _, host := range []string{far4, far6} {
			ln, err := net.Listen("tcp", net.JoinHostPort(host, "80"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { ln.Close() })
			u, err := net.ListenPacket("udp", net.JoinHostPort(host, "5353"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { u.Close() })
			go func() {
				b := make([]byte, 2048)
				for {
					n, from, err := u.ReadFrom(b)
					if err != nil {
						return
					}
					_, _ = u.WriteTo(b[:n], from)
				}
			}()
		}
		return nil
	})
}

// labels are those of the routers in the middle, as mtr shows them.
var labels = []uint32{label(100, 5, 0, 7), label(4097, 1, 1, 254)}

// forNobody says that a frame is for an address that nobody has.
func forNobody(b []byte) bool {
	return len(b) > 34 && ether.Type(binary.BigEndian.Uint16(b[12:])) == ether.TypeIPv4 && net.IP(b[30:34]).String() == farNobody
}

// labelledLine holds frames up for a millisecond, has the routers behind it tell
// of labels, and loses what is for nobody.
func labelledLine() *line {
	return &line{delay: time.Millisecond, change: func(b []byte, toFar bool) []byte {
		switch {
		case !toFar:
			return labelled(b, 128, true, labels...)
		case forNobody(b) && b[22] > 1: // the TTL
			return nil
		}
		return b
	}}
}

// TestMTR has Debian's mtr send its probes by the link.
func TestMTR(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("mtr")
	if err != nil {
		lab.Lacks(t, err)
	}
	lab.InNamespace(t, func(l *lab.Lab) {
		if !l.IPv6 {
			lab.Lacks(t, errNoIPv6)
		}
		farServers(t, labelledLine().lay(t, l)[2])
		env := packetProgram(t, l)
		once := func(t *testing.T, line string) string {
			t.Helper()
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			c := names(t, ctx, append([]string{program}, strings.Fields(line)...)...)
			c.Env = env
			out, err := runGroup(t, l, c)
			if err != nil {
				t.Fatalf("mtr %s: %v\n%s", line, err, out)
			}
			return out
		}
		// A machine that is busy may take longer for an answer than mtr waits, so
		// what is not as it should be is asked for again, with time.
		run := func(t *testing.T, line string, right func(out string) bool) {
			t.Helper()
			out := ""
			pace := "-c 2 -i 0.05 -G 0.15 "
			if !persist(func() bool {
				out = once(t, pace+line)
				pace = "-c 2 -i 1 -G 4 "
				return right(out)
			}) {
				t.Errorf("mtr %s:\n%q", line, out)
			}
		}
		for _, far := range []string{far4, far6} {
			first, middle := "10.77.0.1", "10.8"
			all := []string{"", "-u", "-u -P 5353", "-u -P 5353 -L 4000", "-T", "-T -P 81", "-S", "-s 500 -B 300 -Q 8", "-e"}
			if far == far6 {
				first, middle = "fd77::1", "fd8"
				all = []string{"", "-u -P 5353", "-T", "-S"}
			}
			for _, flags := range all {
				run(t, "-n --json "+flags+" "+far, func(out string) bool {
					var j struct {
						Report struct {
							Hubs []struct {
								Host      string
								Loss      float64 `json:"Loss%"`
								Snt       int
								Best, Avg float64
							}
						}
					}
					if err := json.Unmarshal([]byte(out), &j); err != nil {
						t.Fatalf("%s: %v\n%s", flags, err, out)
					}
					h := j.Report.Hubs
					return len(h) == 3 && h[0].Host == first && strings.HasPrefix(h[1].Host, middle) && h[2].Host == far && h[0].Loss+h[1].Loss+h[2].Loss == 0 &&
						h[2].Snt == 2 && h[1].Best >= 2 && h[2].Best >= 2 && h[0].Best > 0 && h[2].Avg >= h[2].Best
				})
			}
		}
		const ms, mpls = ` +\d+\.\d`, `\[MPLS: Lbl 100 TC 5 S (?:\x00u|0) TTL 7\]\n +\[MPLS: Lbl 4097 TC 1 S (?:\x01u|1) TTL 254\]\n`
		row := func(hop, host string) string { // of a report
			return `\n +` + hop + `\.\|-- ` + host + ` +0\.0% +2` + ms + ms + ms + ms + ms
		}
		hops4 := row("1", `10\.77\.0\.1`) + row("2", `10\.8[12]\.0\.2`) + `(?:\n +10\.8[12]\.0\.2 *)?` + row("3", `8\.8\.8\.8`) + `\n$`
		hops6 := row("1", `fd77::1`) + row("2", `fd8[12]::2`) + `(?:\n +fd8[12]::2 *)?` + row("3", far6) + `\n$`
		for _, c := range []struct{ line, want string }{
			{"-n -r " + far4, `^Start: .*\nHOST: .* Loss% +Snt +Last +Avg +Best +Wrst +StDev` + hops4},
			{"-n -r " + far6, hops6},
			{"-n -r -w -T -P 80 " + far4, hops4}, // it accepts
			{"-n -r -T -P 81 " + far4, hops4},    // it refuses
			{"-n -r -T " + far6, hops6},
			{"-n -r -u -P 5353 " + far4, hops4}, // the program answers
			{"-n -r -u -P 9 " + far4, hops4},    // the host does
			{"-n -r -u " + far6, hops6},
			{"-n -r -S " + far4, hops4},
			{"-n -r -S " + far6, hops6},
			{"-n -r -4 far.example", hops4},
			{"-n -r -6 far.example", hops6},
			{"-w -b far.example -4", row("3", `far\.example \(8\.8\.8\.8\)`)},
			{"-n -r -a 10.77.0.7 " + far4, hops4},
			{"-n -r -f 2 " + far4, `StDev` + row("2", `10\.8[12]\.0\.2`) + row("3", `8\.8\.8\.8`)},
			{"-n -r -m 2 " + far4, row("2", `10\.8[12]\.0\.2`) + `\n$`},
			{"-n -r -U 2 " + farNobody, row("2", `10\.8[12]\.0\.2`) + `\n +3\.\|-- \?\?\? +100\.0 +2`},
			// Labels stand in reports only beside numbers of AS, which nobody
			// tells here; and mtr 0.95 writes their S bit as a character.
			{"-n -r -e -z " + far4, `\n +2\. AS\?\?\? +10\.8[12]\.0\.2 .*\n(?:.* 10\.8[12]\.0\.2 *\n)* +` + mpls + ` +3\. AS\?\?\? +8\.8\.8\.8 `},
			{"-n -r -e -z -u " + far6, `\n +2\. AS\?\?\? +fd8[12]::2 .*\n(?:.* fd8[12]::2 *\n)* +` + mpls},
			{"-n --raw -e " + far4, `^x 0 33000\n(?:.*\n)*h 0 10\.77\.0\.1\n(?:.*\n)*h 1 10\.8[12]\.0\.2\nm 1 100 5 0 7\nm 1 4097 1 1 254\n(?:.*\n)*p 1 [2-9]\d\d\d 33001\n(?:.*\n)*h 2 8\.8\.8\.8\n(?:.*\n)*p 2 \d+ 330\d\d\n`},
			{"-n --raw -e -T " + far6, `h 1 fd8[12]::2\nm 1 100 5 0 7\nm 1 4097 1 1 254\n`},
			{"-n --csv " + far4, `^Mtr_Version,Start_Time,Status,Host,Hop,Ip,Loss%,Snt, ,Last,Avg,Best,Wrst,StDev,\n` +
				`MTR\.[\d.]+,\d+,OK,8\.8\.8\.8,1,10\.77\.0\.1,0\.00,2,0,.*\nMTR.*,2,10\.8[12]\.0\.2,0\.00,2,0,.*\nMTR.*,3,8\.8\.8\.8,0\.00,2,0,\d+\.\d\d,.*\n$`},
			{"-n --csv -u -P 5353 -o LSR " + far6, `Loss%,Snt,Rcv,\n(?:.*\n)*MTR.*,3,2001:4860:4860::8888,0\.00,2,2\n$`},
			{"-n --xml " + far4, `<HUB COUNT="3" HOST="8\.8\.8\.8">\n +<Loss> +0\.0%</Loss>\n +<Snt> +2</Snt>`},
		} {
			run(t, c.line, regexp.MustCompile(c.want).MatchString)
		}
	})
}

// TestMTRSCTP asks a peer that is another's implementation.
func TestMTRSCTP(t *testing.T) {
	t.Parallel()
	const python = "/usr/bin/python3" // Debian's, which has scapy
	if err := exec.Command(python, "-c", "import scapy.layers.sctp").Run(); err != nil {
		lab.Lacks(t, errors.New("python3-scapy is not installed"))
	}
	lab.InNamespace(t, func(l *lab.Lab) {
		if !l.IPv6 {
			lab.Lacks(t, errNoIPv6)
		}
		far := routers(t, l)[2]
		c := exec.Command("nsenter", "-t", far, "-n", python, "testdata/sctp.py", far4, far6)
		peer, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		c.Stderr = os.Stderr
		if err := l.Start(c); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Process.Kill(); _ = c.Wait() }) // killed
		says := bufio.NewScanner(peer)
		if !says.Scan() || says.Text() != "ready" {
			t.Fatalf("%q, %v", says.Text(), says.Err())
		}
		env := packetProgram(t, l)
		p := exec.Command(packetPath(env))
		p.Env = env
		in, err := p.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := p.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Start(p); err != nil {
			t.Fatal(err)
		}
		replies := bufio.NewScanner(out)
		for _, c := range [][2]string{
			{"ip-4 8.8.8.8 protocol sctp port 7", "7"}, {"ip-4 8.8.8.8 protocol sctp port 9", "9"},
			{"ip-6 2001:4860:4860::8888 protocol sctp port 7", "7"}, {"ip-6 2001:4860:4860::8888 protocol sctp", "80"},
		} {
			if _, err := in.Write([]byte("1 send-probe " + c[0] + "\n")); err != nil {
				t.Fatal(err)
			}
			if want := "1 reply " + strings.Join(strings.Fields(c[0])[:2], " ") + " round-trip-time "; !replies.Scan() || !strings.HasPrefix(replies.Text(), want) {
				t.Errorf("%s: %q", c[0], replies.Text())
			}
			if !says.Scan() || says.Text() != "INIT "+c[1]+" good" {
				t.Errorf("%s: the peer had %q", c[0], says.Text())
			}
		}
		in.Close()
		if err := p.Wait(); err != nil {
			t.Error(err)
		}
	})
}
