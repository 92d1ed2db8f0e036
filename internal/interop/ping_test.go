package interop

// The programs with which everybody tries a host first: iputils' ping and
// OpenBSD's nc, run by the kernel host against the stack.

import (
	"bytes"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// ping sends count echo requests of size bytes, three at most, and wants every
// answer. Once it has had one, ping waits for the others only as long as the
// interval; so that is long, and all are sent before it has begun. Of large ones
// no socket has room for several.
func (h *host) ping(t *testing.T, address, flag string, size, count int) {
	t.Helper()
	program(t, "ping")
	if size > 10_000 {
		for range count - 1 {
			h.ping(t, address, flag, size, 1)
		}
		count = 1
	}
	n := strconv.Itoa(count)
	out := run(t, within(t, 2*patience), h.lab, "ping", flag, "-n", "-q", "-c", n, "-l", n, "-i", "30", "-W", "30", "-s", strconv.Itoa(size), address)
	// "+1 duplicates" and "+1 errors" would stand between these two.
	if !strings.Contains(out, n+" packets transmitted, "+n+" received, 0% packet loss") {
		t.Errorf("ping -s %d %s:\n%s", size, address, out)
	}
}

func (h *host) testPing(t *testing.T) {
	eachFamily(t, func(t *testing.T, fam family) {
		// 0 bytes; the default; one fragment and two on an Ethernet; many;
		// the most that IPv4 carries.
		for _, size := range []int{0, 56, 1500 - fam.overhead, 1501 - fam.overhead, 8000, 65507} {
			// One after the other: a ping's socket hears the answers to all others,
			// and large ones leave no room in it.
			t.Run(strconv.Itoa(size), func(t *testing.T) {
				h.ping(t, fam.ours.Addr().String(), fam.ping, size, 3)
			})
		}
	})
	t.Run("link-local", func(t *testing.T) {
		h.ping(t, linkLocal(h)+"%br0", "-6", 56, 3)
	})
}

// linkLocal is the address that the interface gave itself.
func linkLocal(h *host) string {
	for _, p := range h.nic.Addrs() {
		if p.Addr().IsLinkLocalUnicast() {
			return p.Addr().String()
		}
	}
	return ""
}

// testNetcat talks to the services as a person would.
func (h *host) testNetcat(t *testing.T) {
	program(t, "nc")
	eachFamily(t, func(t *testing.T, fam family) {
		text := strings.Repeat("The quick brown fox jumps over the lazy dog.\n", 3000)
		for _, c := range []struct {
			network string
			port    int
			input   string
			check   func(out string) bool
		}{
			{"tcp", 7, text, func(out string) bool { return out == text }},
			{"tcp", 9, text, nil},
			{"tcp", 13, "", isDaytime},
			{"tcp", 19, "", isChargen},
			{"udp", 7, "echo", func(out string) bool { return out == "echo" }},
			{"udp", 13, "x", isDaytime},
		} {
			t.Run(c.network+strconv.Itoa(c.port), func(t *testing.T) {
				args := []string{"-N", fam.ours.Addr().String(), strconv.Itoa(c.port)}
				if c.network == "udp" {
					args[0] = "-u"
				}
				cmd := exec.CommandContext(within(t, patience), "nc", args...)
				input, err := cmd.StdinPipe()
				if err != nil {
					t.Fatal(err)
				}
				output, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := h.lab.Start(cmd); err != nil {
					t.Fatal(err)
				}
				wrote := make(chan error, 1)
				go func() {
					_, err := io.WriteString(input, c.input)
					if c.network == "tcp" {
						input.Close()
					}
					wrote <- err
				}()
				if c.check == nil {
					// Nothing comes back but the end of the connection.
					out, err := io.ReadAll(output)
					if err != nil || len(out) > 0 {
						t.Errorf("%d bytes back: %v", len(out), err)
					}
					if err := cmd.Wait(); err != nil {
						t.Errorf("nc: %v", err)
					}
				} else {
					readUntil(t, output, c.check)
					cmd.Process.Kill()
					_ = cmd.Wait() // killed, which is how UDP and chargen end
				}
				if err := <-wrote; err != nil {
					t.Error(err)
				}
			})
		}
	})
}

// readUntil reads until check is satisfied with all that came.
func readUntil(t *testing.T, r io.Reader, check func(string) bool) {
	t.Helper()
	var got []byte
	b := make([]byte, 4096)
	for !check(string(got)) {
		n, err := r.Read(b)
		got = append(got, b[:n]...)
		if err != nil && !check(string(got)) {
			t.Fatalf("read %d bytes, the last %q: %v", len(got), got[max(0, len(got)-80):], err)
		}
	}
}

// isDaytime accepts the first form of RFC 867 when the time is right.
func isDaytime(line string) bool {
	at, err := time.ParseInLocation("Monday, January 2, 2006 15:04:05-MST\r\n", line, time.Local)
	return err == nil && time.Since(at).Abs() < time.Minute
}

// isChargen accepts 100000 bytes and more of RFC 864's pattern.
func isChargen(s string) bool {
	return len(s) >= 100000 && bytes.HasPrefix(chargenLines(len(s)), []byte(s))
}
