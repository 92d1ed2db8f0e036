package interop

// The cases of implementation6 (THC-IPv6), put to the stack and to
// the kernel: extension headers, fragments and messages as nobody should send
// them. docs/ipv6.md has a table of what both answer; each difference is
// explained there.

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/stack"
)

const (
	impl6 = "atk6-implementation6"
	// Cases 1 to 57. It begins and ends with plain pings, which count as 0 and
	// 58 and cannot be asked for alone.
	impl6Cases = 58
)

// impl6Line is "Test 19: source-routing (todo)  FAILED - error reply [4:0]".
var impl6Line = regexp.MustCompile(`(?m)^Test +(\d+): (.*?)\t+(?:PASSED|FAILED) - (.*?)\s*$`)

type impl6Answer struct{ name, answer string }

// implementation6 runs all cases against a host, each from an address of its
// own, so that answers cannot be taken for those to others, and all at the same
// time, since most of the time they wait for what does not come.
func implementation6(t *testing.T, l *lab.Lab, link, name string) [impl6Cases]impl6Answer {
	t.Helper()
	var answers [impl6Cases]impl6Answer
	var wg sync.WaitGroup
	ctx := within(t, 6*patience)
	slots := make(chan bool, 20)
	for n := 1; n < impl6Cases; n++ {
		wg.Go(func() {
			slots <- true
			defer func() { <-slots }()
			a, err := runImpl6(ctx, l, link, n)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			answers[n] = a
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return answers
}

// runImpl6 runs a case.
func runImpl6(ctx context.Context, l *lab.Lab, link string, n int) (impl6Answer, error) {
	// The exit status says whether all was answered, and is of no interest.
	out, err := l.Output(ctx, impl6, "-p", "-s", impl6Source(n).String(), link, our6.Addr().String(), strconv.Itoa(n))
	m := impl6Line.FindStringSubmatch(string(out))
	if m == nil || m[1] != strconv.Itoa(n) {
		return impl6Answer{}, fmt.Errorf("case %d: %v\n%s", n, err, out)
	}
	answer := m[3]
	switch {
	case strings.HasPrefix(answer, "we got a reply"):
		answer = "reply"
	case strings.HasPrefix(answer, "error reply ["):
		answer = strings.TrimSuffix(strings.TrimPrefix(answer, "error reply ["), "]")
	case strings.HasPrefix(answer, "no reply"):
		answer = "nothing"
	}
	return impl6Answer{strings.TrimSpace(m[2]), answer}, nil
}

func impl6Source(n int) netip.Addr {
	a := lab.Kernel6.Addr().As16()
	a[14], a[15] = 0x10, byte(n)
	return netip.AddrFrom16(a)
}

// addSources gives a link of the lab's kernel the addresses of the cases.
func addSources(t *testing.T, l *lab.Lab, link string) {
	t.Helper()
	inLab(t, l, func() error {
		i, err := netlink.LinkByName(link)
		if err != nil {
			return err
		}
		for n := range impl6Cases {
			a := &netlink.Addr{IPNet: &net.IPNet{IP: impl6Source(n).AsSlice(), Mask: net.CIDRMask(64, 128)}, Flags: unix.IFA_F_NODAD}
			if err := netlink.AddrAdd(i, a); err != nil {
				return err
			}
		}
		return nil
	})
}

// TestImplementation6 compares with the table, and writes it with -update.
func TestImplementation6(t *testing.T) {
	t.Parallel()
	program(t, impl6)
	l := newLab(t)
	h := newHost(t, l, hostOptions{parallel: true, nic: stack.InterfaceConfig{NoDAD: true},
		limits: stack.Limits{ICMPErrorsPerSecond: 1e6, ICMPErrorBurst: 1e6, ICMPErrorInterval: -1}})
	h.anyDrop = true
	addSources(t, l, lab.Bridge)
	ours := implementation6(t, l, lab.Bridge, "stack")

	// The kernel in a lab of its own, in which the link to it is the only one
	// with that network.
	other := newLab(t)
	newRival(t, other)
	inLab(t, other, func() error {
		br, err := netlink.LinkByName(lab.Bridge)
		if err == nil {
			err = netlink.LinkSetDown(br)
		}
		if err == nil {
			err = os.WriteFile("/proc/sys/net/ipv6/conf/"+rivalLink+"/disable_ipv6", []byte("0"), 0)
		}
		return err
	})
	addSources(t, other, rivalLink)
	kernel := implementation6(t, other, rivalLink, "kernel")

	const doc = "../../docs/ipv6.md"
	text := readDoc(t, "ipv6.md")
	if *update {
		for n := 1; n < impl6Cases; n++ {
			row := impl6Row(n)
			why := " |"
			if m := row.FindStringSubmatch(text); m != nil {
				why = m[3] + "|"
			}
			line := fmt.Sprintf("| %d %s | %s | %s |%s", n, ours[n].name, ours[n].answer, kernel[n].answer, why)
			if row.MatchString(text) {
				text = row.ReplaceAllLiteralString(text, line)
			} else {
				text += line + "\n"
			}
		}
		if err := os.WriteFile(doc, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for n := 1; n < impl6Cases; n++ {
		m := impl6Row(n).FindStringSubmatch(text)
		if m == nil {
			t.Errorf("case %d %s is not in %s: %s, Linux %s", n, ours[n].name, doc, ours[n].answer, kernel[n].answer)
			continue
		}
		// The tool waits for a second or two; on a busy machine that can be too short.
		for range 3 {
			if ours[n].answer == m[1] || ours[n].answer != "nothing" {
				break
			}
			if a, err := runImpl6(within(t, 2*patience), l, lab.Bridge, n); err == nil {
				ours[n] = a
			}
		}
		if ours[n].answer != m[1] {
			t.Errorf("case %d %s: answered %q, by the table %q", n, ours[n].name, ours[n].answer, m[1])
		}
		if kernel[n].answer != m[2] {
			t.Logf("case %d %s: this kernel answers %q, Linux 6.18 %q", n, kernel[n].name, kernel[n].answer, m[2])
		}
		if m[1] != m[2] && strings.TrimSpace(m[3]) == "" {
			t.Errorf("case %d %s: %q, Linux %q, and no explanation", n, ours[n].name, m[1], m[2])
		}
	}
	for _, fam := range families {
		h.ping(t, fam.ours.Addr().String(), fam.ping, 56, 1)
	}
}

// impl6Row finds the row of a case: the answers and the explanation.
func impl6Row(n int) *regexp.Regexp {
	return regexp.MustCompile(fmt.Sprintf(`(?m)^\| %d [^|]*\| ([^|]*) \| ([^|]*) \|([^|]*)\|$`, n))
}
