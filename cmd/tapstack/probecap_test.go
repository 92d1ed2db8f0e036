package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/tapstack/tapstack/internal/lab"
)

// pcapComments are those of a pcapng file, one for each frame, times left out.
func pcapComments(t *testing.T, file string) (list []string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	ms := regexp.MustCompile(`[0-9.e+-]+ ms`)
	for len(b) >= 12 {
		typ, n := binary.NativeEndian.Uint32(b), binary.NativeEndian.Uint32(b[4:])
		if typ == 6 {
			comment := ""
			for o := b[28+(binary.NativeEndian.Uint32(b[20:])+3)&^3 : n-4]; len(o) >= 4; {
				code, size := binary.NativeEndian.Uint16(o), int(binary.NativeEndian.Uint16(o[2:]))
				if code == 1 {
					comment = string(o[4 : 4+size])
				}
				o = o[4+(size+3)&^3:]
			}
			list = append(list, ms.ReplaceAllString(comment, "T ms"))
		}
		b = b[n:]
	}
	return list
}

// pcapFrames are the frames of a file as gopacket reads it.
func pcapFrames(t *testing.T, file string) (list []gopacket.Packet) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewNgReader(f, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	for {
		b, _, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatalf("frame %d: %v", len(list)+1, err)
		}
		list = append(list, gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default))
	}
}

// TestOwnFrames: --pcap writes the frames of the probes and no others, while the
// kernel host pings the stack all the time.
func TestOwnFrames(t *testing.T) {
	t.Parallel()
	tcpdump := lab.RequireProgram(t, "tcpdump")
	ping := lab.RequireProgram(t, "ping")
	lab.InNamespace(t, func(l *lab.Lab) {
		if !l.IPv6 {
			lab.Lacks(t, errNoIPv6)
		}
		routers(t, l)
		port := greeter(t, l)
		env := attached(l, lab.EnvIP+"=10.77.0.7/24,fd77::7/64", lab.EnvGW+"=10.77.0.1,fd77::1", "TAPSTACK_DAD=false")
		foreign := exec.Command(ping, "-q", "-i", "0.005", "10.77.0.7")
		if err := l.Start(foreign); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { foreign.Process.Kill(); _ = foreign.Wait() }) // killed
		arp := []string{"ARP for the first hop 10.77.0.1", "ARP: the first hop 10.77.0.1 is at 02:00:00:00:00:01, T ms"}
		near := []string{"ARP for 10.77.0.1", "ARP: 10.77.0.1 is at 02:00:00:00:00:01, T ms"}
		for _, c := range []struct {
			line   string
			status int
			first  []string
			want   []string
		}{
			{"ping -c 2 -i 0.1 8.8.8.8", 0, arp, []string{
				"probe 1: ICMP echo 1 ttl 64 to 8.8.8.8", "answer to probe 1: echo reply from 8.8.8.8, T ms",
				"probe 2: ICMP echo 2 ttl 64 to 8.8.8.8", "answer to probe 2: echo reply from 8.8.8.8, T ms"}},
			{"ping -c 1 -t 1 8.8.8.8", 1, arp, []string{"probe 1: ICMP echo 1 ttl 1 to 8.8.8.8", "answer to probe 1: time exceeded from 10.77.0.1, T ms"}},
			{"ping -c 1 -s 2000 10.77.0.1", 0, near, []string{
				"probe 1: ICMP echo 1 ttl 64 to 10.77.0.1, first fragment", "probe 1: fragment from byte 1480",
				"answer to probe 1: echo reply from 10.77.0.1, T ms, first fragment", "answer to probe 1: fragment from byte 1480"}},
			{"ping -c 1 -W 0.2 8.8.254.254", 1, arp, []string{"probe 1: ICMP echo 1 ttl 64 to 8.8.254.254"}},
			{"ping -c 1 fd77::1", 0, nil, []string{"neighbour discovery for fd77::1", "neighbour discovery: fd77::1 is at 02:00:00:00:00:01, T ms",
				"probe 1: ICMP echo 1 ttl 64 to fd77::1", "answer to probe 1: echo reply from fd77::1, T ms"}},
			{"check 10.77.0.1 4", 1, near, []string{"probe 1: SYN ttl 64 to 10.77.0.1:4", "answer to probe 1: reset from 10.77.0.1, T ms"}},
			{"check 10.77.0.1 " + port + " --udp", 0, near, []string{"probe 1: UDP ttl 64 to 10.77.0.1:" + port, "answer to probe 1: datagram from 10.77.0.1, T ms"}},
			{"check 10.77.0.1 4 --udp", 1, near, []string{"probe 1: UDP ttl 64 to 10.77.0.1:4", "answer to probe 1: port unreachable from 10.77.0.1, T ms"}},
			{"trace -u -c 1 -m 2 -i 0.1 -G 30 8.8.8.8", 1, arp, []string{
				"probe 1: UDP ttl 1 to 8.8.8.8:33434", "answer to probe 1: time exceeded from 10.77.0.1, T ms",
				"probe 2: UDP ttl 2 to 8.8.8.8:33434", "answer to probe 2: time exceeded from R, T ms"}},
			{"mtu 10.77.0.1", 0, near, []string{"probe 1: ICMP echo N ttl 64 to 10.77.0.1", "answer to probe 1: echo reply from 10.77.0.1, T ms",
				"probe 2: ICMP echo N ttl 1 to 10.77.0.1", "answer to probe 2: echo reply from 10.77.0.1, T ms"}},
			{"xray 10.77.0.1 4", 1, near, []string{"probe 1: SYN ttl 64 to 10.77.0.1:4", "answer to probe 1: reset from 10.77.0.1, T ms"}},
			{"host --server 10.77.0.1 -R 1 -t MX there.example", 1, near, []string{
				"probe 1: DNS query for there.example. MX to 10.77.0.1", "answer to probe 1: port unreachable from 10.77.0.1, T ms"}},
			{"nc -z 10.77.0.1 4", 1, near, []string{"probe 1: SYN ttl 64 to 10.77.0.1:4", "answer to probe 1: reset from 10.77.0.1, T ms"}},
			{"check nowhere.example " + port + " --dns 10.77.0.1", 1, near, nil},
		} {
			file := filepath.Join(t.TempDir(), "probe.pcapng")
			status, out, errs := checked(t, l, tapstack(t, env, append(strings.Fields(c.line), "--pcap", file)...))
			if status != c.status {
				t.Errorf("%s: status %d\n%s%s", c.line, status, out, errs)
				continue
			}
			all := pcapComments(t, file)
			// The kernel may look after the neighbour that it pings just while an
			// answer is awaited, which cannot be told from asking on its account.
			got := slices.DeleteFunc(slices.Clone(all), func(s string) bool {
				return strings.HasSuffix(s, "asks for us, to send an answer") || strings.Contains(s, ": we are here, to ")
			})
			for i := range got {
				got[i] = regexp.MustCompile(`10\.8[12]\.0\.2`).ReplaceAllString(got[i], "R")
				got[i] = regexp.MustCompile(`echo [0-9]{2,}`).ReplaceAllString(got[i], "echo N") // begins anywhere
			}
			want := append(slices.Clone(c.first), c.want...)
			if len(got) == 0 || c.first == nil || got[0] != c.first[0] {
				// What asks for us all the time may have told us where it is.
				want = c.want
			}
			if c.want == nil { // queries of both types, by turns
				if len(got) < 4 || slices.IndexFunc(got, func(s string) bool {
					return regexp.MustCompile(`^look-up \d: DNS query for nowhere\.example\. A to 10\.77\.0\.1$`).MatchString(s)
				}) < 0 {
					t.Errorf("%s:\n%s", c.line, strings.Join(got, "\n"))
				}
				want = got
			}
			if strings.Contains(c.line, " -i ") {
				// A probe that is sent when it is its time may be sent before the
				// answer to the one before has come.
				for n := 1; n <= 2; n++ {
					probe, answer := fmt.Sprintf("probe %d:", n), fmt.Sprintf("answer to probe %d:", n)
					if a, b := indexOf(got, probe), indexOf(got, answer); a < 0 || b < a {
						t.Errorf("%s: %s is %d, %s %d", c.line, probe, a, answer, b)
					}
				}
				slices.Sort(got)
				slices.Sort(want)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s:\n%s\nwant\n%s", c.line, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			frames := pcapFrames(t, file)
			if len(frames) != len(all) {
				t.Errorf("%s: gopacket reads %d frames, want %d", c.line, len(frames), len(all))
			}
			for i, f := range frames {
				if f.ErrorLayer() != nil && !strings.Contains(all[i], "ragment") && !strings.HasPrefix(f.ErrorLayer().Error().Error(), "Unable to decode ") {
					t.Errorf("%s, frame %d (%s): %v", c.line, i+1, all[i], f.ErrorLayer().Error())
				}
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			text, err := exec.CommandContext(ctx, tcpdump, "-n", "-r", file).Output()
			cancel()
			if err != nil || strings.Count(string(text), "\n") != len(all) {
				t.Errorf("%s: tcpdump reads\n%s%v", c.line, text, err)
			}
		}
	})
}

// indexOf is the place of the first of list that begins so, or -1.
func indexOf(list []string, prefix string) int {
	return slices.IndexFunc(list, func(s string) bool { return strings.HasPrefix(s, prefix) })
}

// TestOwnFramesOfMTR: so does TAPSTACK_PCAP of mtr-packet.
func TestOwnFramesOfMTR(t *testing.T) {
	t.Parallel()
	lab.InNamespace(t, func(l *lab.Lab) {
		file := filepath.Join(t.TempDir(), "mtr.pcapng")
		env := packetProgram(t, l)
		c := exec.Command(packetPath(env))
		c.Env = append(env, "TAPSTACK_PCAP="+file)
		c.Stdin = strings.NewReader("1 send-probe ip-4 10.77.0.1\n2 send-probe ip-4 10.77.0.1 protocol tcp port 4\n")
		if status, out, errs := checked(t, l, c); status != 0 || strings.Count(out, " reply ") != 2 {
			t.Fatalf("status %d\n%s%s", status, out, errs)
		}
		var got []string
		for _, s := range pcapComments(t, file) {
			if strings.Contains(s, "probe 1") || strings.Contains(s, "probe 2") {
				got = append(got, regexp.MustCompile(`echo [0-9]+`).ReplaceAllString(s, "echo N"))
			} else if !strings.Contains(s, "10.77.0.1") || strings.Contains(s, "probe") {
				t.Errorf("not ours: %s", s)
			}
		}
		slices.Sort(got) // they are sent when the neighbour has answered
		if want := []string{"answer to probe 1: echo reply from 10.77.0.1, T ms", "answer to probe 2: reset from 10.77.0.1, T ms",
			"probe 1: ICMP echo N ttl 255 to 10.77.0.1", "probe 2: SYN ttl 255 to 10.77.0.1:4"}; !slices.Equal(got, want) {
			t.Errorf("%q", got)
		}
	})
}
