package interop

// What scanners and probing tools make of a stack: nmap, nping, hping3, and the
// tools that look for the path.

import (
	"maps"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/tapstack/tapstack/ether/tap"
	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/stack"
)

// scanned is a host with services and no limit on the errors that scanners
// count.
func scanned(t *testing.T) *host {
	t.Helper()
	h := newHost(t, newLab(t), hostOptions{parallel: true, services: true, offload: tap.OffloadOff, nic: stack.InterfaceConfig{NoDAD: true},
		limits: stack.Limits{ICMPErrorInterval: -1}})
	h.anyDrop = true
	return h
}

var scannedPort = regexp.MustCompile(`(?m)^(\d+)(?:/\w+)? +(open\|filtered|open|closed|filtered|unfiltered) `)

// states are the ports, or protocols, of an nmap scan.
func states(out string) map[int]string {
	m := make(map[int]string)
	for _, p := range scannedPort.FindAllStringSubmatch(out, -1) {
		n, _ := strconv.Atoi(p[1])
		m[n] = p[2]
	}
	return m
}

func TestNmapScans(t *testing.T) {
	t.Parallel()
	program(t, "nmap")
	h := scanned(t)
	const tcp = "7,9,13,100"
	open := map[int]string{7: "open", 9: "open", 13: "open", 100: "closed"}
	quiet := map[int]string{7: "open|filtered", 9: "open|filtered", 13: "open|filtered", 100: "closed"}
	reset := map[int]string{7: "unfiltered", 9: "unfiltered", 13: "unfiltered", 100: "unfiltered"}
	closed := map[int]string{7: "closed", 9: "closed", 13: "closed", 100: "closed"}
	none := map[int]string{7: "filtered", 9: "filtered", 13: "filtered", 100: "filtered"}
	for _, tt := range []struct {
		flags string
		ports string
		want  map[int]string
		four  bool
	}{
		{"-sS", tcp, open, false},
		{"-sT", tcp, open, false},
		{"-sS -f", tcp, open, true},
		{"-sS --badsum", tcp, none, false},
		{"-sF", tcp, quiet, false},
		{"-sN", tcp, quiet, false},
		{"-sX", tcp, quiet, false},
		{"-sA", tcp, reset, false},
		{"-sW", tcp, closed, false},
		{"-sM", tcp, closed, false},
		{"-sU", "7,9,100", map[int]string{7: "open", 9: "open|filtered", 100: "closed"}, false},
		{"-sO", "1,6,17,47,132", map[int]string{1: "open", 6: "open", 17: "open", 47: "closed", 132: "closed"}, true},
		{"-sO", "6,17,58,47,132", map[int]string{6: "open", 17: "open", 58: "open", 47: "closed", 132: "closed"}, false},
	} {
		for _, fam := range families {
			if tt.four && fam.ping == "-6" || strings.Contains(tt.ports, "58") && fam.ping == "-4" {
				continue
			}
			t.Run(fam.name+" "+tt.flags, func(t *testing.T) {
				t.Parallel()
				// --disable-arp-ping: --badsum spoils nmap's own solicitations too.
				argv := append([]string{"nmap", "-n", "-Pn", "--disable-arp-ping", "-v", "--max-retries", "2", "-p", tt.ports}, strings.Fields(tt.flags)...)
				if fam.ping == "-6" {
					argv = append(argv, "-6")
				}
				var out string
				var got map[int]string
				// What is late on a busy machine looks filtered.
				if !persist(func() bool {
					out = run(t, within(t, endurance), h.lab, append(argv, fam.ours.Addr().String())...)
					got = states(out)
					return maps.Equal(got, tt.want)
				}) {
					t.Errorf("%v, want %v\n%s", got, tt.want, out)
				}
			})
		}
	}
}

// TestNmapPredicts: neither sequence numbers nor identifiers can be guessed.
func TestNmapPredicts(t *testing.T) {
	t.Parallel()
	program(t, "nmap")
	h := scanned(t)
	out := run(t, within(t, endurance), h.lab, "nmap", "-n", "-Pn", "-v", "-O", "--osscan-guess", "--max-os-tries", "1", "-p", "7,9,13,100", our4.Addr().String())
	m := regexp.MustCompile(`TCP Sequence Prediction: Difficulty=(\d+) \((.*)\)`).FindStringSubmatch(out)
	if m == nil || m[2] != "Good luck!" {
		t.Errorf("sequence numbers: %q\n%s", m, out)
	}
	// Nothing that cannot be fragmented has an identifier (RFC 6864 §4.1).
	if m := regexp.MustCompile(`IP ID Sequence Generation: (.*)`).FindStringSubmatch(out); m == nil || m[1] != "All zeros" {
		t.Errorf("identifiers: %q\n%s", m, out)
	}
}

func TestPackets(t *testing.T) {
	t.Parallel()
	// hping3 takes what others are answered for its own, and works alone.
	h, hpings := scanned(t), scanned(t)
	four, six := our4.Addr().String(), our6.Addr().String()
	for _, tt := range []struct {
		argv       string
		want, lack string
		fails      bool
	}{
		{"hping3 -S -p 7 -c 3 -i u10000 " + four, "flags=SA", "", false},
		{"hping3 -S -p 100 -c 3 -i u10000 " + four, "flags=RA", "", false},
		{"hping3 -A -p 7 -c 3 -i u10000 " + four, "flags=R ", "", false},
		{"hping3 -S -f -p 7 -c 3 -i u10000 " + four, "flags=SA", "", false},
		{"hping3 -SFUPRA -p 7 -c 2 -i u10000 " + four, "2 packets transmitted, 0 packets received", "flags=", true},
		{"hping3 -2 -p 7 -c 3 -i u10000 -d 20 " + four, "3 packets transmitted, 3 packets received", "", false},
		{"hping3 -2 -p 100 -c 2 -i u10000 " + four, "ICMP Port Unreachable", "", false},
		{"hping3 -1 -c 3 -i u10000 -d 60000 " + four, "3 packets transmitted, 3 packets received", "", false},
		{"hping3 -1 -C 13 -c 2 -i u10000 " + four, "ICMP timestamp:", "", false},
		{"hping3 -1 -C 17 -c 2 -i u10000 " + four, "2 packets transmitted, 0 packets received", "", true},
		{"hping3 -0 -H 47 -c 2 -i u10000 " + four, "ICMP Protocol Unreachable", "", true},
		{"nping --tcp-connect -p 7 -c 20 --rate 50 " + four, "Failed: 0 (0.00%)", "", false},
		{"nping --udp -p 7 -c 3 --rate 50 --data-length 5000 --mtu 512 " + four, "RCVD", "", false},
		{"nping --icmp -c 3 --rate 50 " + four, "Echo reply", "", false},
		{"ping -4 -n -c 2 -i 0.2 -s 65507 " + four, "2 received", "", false},
		{"ping -6 -n -c 2 -i 0.2 -s 65527 " + six, "2 received", "", false},
		{"ping -4 -n -c 2 -i 0.2 -M do -s 1472 " + four, "2 received", "", false},
		{"ping -4 -n -c 1 -M do -s 1473 " + four, "message too long", "", true},
		{"ping -6 -n -c 2 -i 0.2 -M do -s 1452 " + six, "2 received", "", false},
		{"tracepath -4 -n " + four, "Resume: pmtu 1500 hops 1 back 1", "", false},
		{"tracepath -6 -n " + six, "Resume: pmtu 1500 hops 1 back 1", "", false},
		{"tracert6 -n " + six, " 1  " + six, "*", false},
		{"tcptraceroute6 -n " + six + " 7", "[open]", "", false},
		{"tcptraceroute6 -n " + six + " 100", "[closed]", "", false},
		{"arping -c 2 -W 0.1 -I " + lab.Bridge + " " + four, "2 packets transmitted, 2 packets received", "", false},
		{"ndisc6 -1 -n " + six + " " + lab.Bridge, strings.ToUpper(ourMAC.String()), "", false},
	} {
		t.Run(tt.argv, func(t *testing.T) {
			argv := strings.Fields(tt.argv)
			program(t, argv[0])
			h := h
			if argv[0] == "hping3" {
				h = hpings
			} else {
				t.Parallel()
			}
			var out []byte
			var err error
			// Most of them wait for moments only.
			if !persist(func() bool {
				out, err = h.lab.Output(within(t, 3*patience), argv[0], argv[1:]...)
				return strings.Contains(string(out), tt.want) && (tt.lack == "" || !strings.Contains(string(out), tt.lack)) && (err == nil || tt.fails)
			}) {
				t.Errorf("no %q, or %q: %v\n%s", tt.want, tt.lack, err, out)
			}
		})
	}
}
