package interop

// Nothing is lost without a reason: every drop that a stack has counted has to
// be one that happens to every host, one that the test provokes on purpose, or
// one that the kernel's own counters explain.

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tapstack/tapstack/internal/lab"
)

// drops is what a host's test expects.
type drops struct {
	// explained are the drops that the test provokes, and why; anyDrop says
	// that it provokes them all.
	explained map[string]string
	anyDrop   bool
}

// usualDrops need no explanation by a test.
var usualDrops = map[string]string{
	"ether.drop.foreign-group": "the kernel's own multicast, which the bridge floods to every port",
	"ether.drop.foreign-mac":   "frames that the bridge floods before it has learnt where their station is",
}

// expect declares drops that a test provokes from now on, and why.
func (d *drops) expect(why string, names ...string) {
	for _, n := range names {
		d.explained[n] = why
	}
}

// checkDrops fails the test for every drop that nobody explains.
func (h *host) checkDrops(t *testing.T) {
	t.Helper()
	m := h.stack.Counters()
	bad := false
	for n, v := range m {
		if !strings.Contains(n, ".drop.") || h.anyDrop || usualDrops[n] != "" || h.explained[n] != "" {
			continue
		}
		if limit, why := h.kernelExplains(t, n); v > limit {
			t.Errorf("unexplained: %s %d; %s explain %d", n, v, why, limit)
			bad = true
		}
	}
	if bad {
		var lines []string
		for n, v := range m {
			lines = append(lines, fmt.Sprintf("%s %d", n, v))
		}
		for n, v := range kernelCounters(t, h.lab) {
			if v != 0 {
				lines = append(lines, fmt.Sprintf("kernel %s %d", n, v))
			}
		}
		slices.Sort(lines)
		t.Log("counters:\n" + strings.Join(lines, "\n"))
	}
}

// kernelExplains says how many drops of that name the kernel has caused. When
// the machine is busy its tail loss probe sends again what the stack has not
// got round to acknowledging, and finds a closed window or connection.
func (h *host) kernelExplains(t *testing.T, name string) (limit uint64, why string) {
	t.Helper()
	switch name {
	case "tcp.drop.out-of-window":
		why = "the kernel's retransmissions"
	case "tcp.drop.no-connection":
		// Of those some were answered, to no one, and reset by the kernel.
		why = "the kernel's retransmissions and resets"
	case "icmp.drop.no-socket":
		// A connection ends with the first error; on a busy machine the segment
		// that it is about has been sent again by then.
		m := h.stack.Counters()
		return m["tcp.syn-retrans"] + m["tcp.retrans-segs"], "what was sent again, and refused a second time,"
	default:
		return 0, "the kernel's counters"
	}
	k := kernelCounters(t, h.lab)
	limit = k["Tcp.RetransSegs"] + k["TcpExt.TCPDSACKOldSent"] + k["TcpExt.TCPDSACKOfoSent"] +
		k["TcpExt.TCPWinProbe"] + k["TcpExt.TCPLossProbes"] + k["TcpExt.TCPKeepAlive"]
	// Not every segment that a busy kernel repeats is in those counters. A
	// repetition is dropped as it should be; half a percent of them would be
	// too many on a link that loses nothing.
	limit = max(limit, h.stack.Counters()["tcp.input"]/200)
	if name == "tcp.drop.no-connection" {
		limit += k["Tcp.OutRsts"]
	}
	return limit, why
}

// checkKernel fails the test when the kernel has refused something that the
// stack sent over a link that harms nothing.
func (h *host) checkKernel(t *testing.T) {
	t.Helper()
	k := kernelCounters(t, h.lab)
	for _, n := range []string{
		"Ip.InHdrErrors", "Ip.ReasmFails", "Icmp.InCsumErrors", "Udp.InCsumErrors", "Tcp.InCsumErrors",
		// Timestamps that run backward, or echo what was never sent.
		"TcpExt.PAWSActive", "TcpExt.PAWSEstab", "TcpExt.TSEcrRejected",
	} {
		if k[n] != 0 {
			t.Errorf("the kernel counts %s %d", n, k[n])
		}
	}
}

// kernelCounters are those of the lab's namespace, by names like
// "Tcp.RetransSegs". One that a kernel does not have counts 0.
func kernelCounters(t *testing.T, l *lab.Lab) map[string]uint64 {
	t.Helper()
	m := make(map[string]uint64)
	for _, file := range []string{"snmp", "netstat"} {
		var b []byte
		inLab(t, l, func() (err error) {
			b, err = os.ReadFile("/proc/thread-self/net/" + file)
			return err
		})
		// Pairs of lines: "Tcp: RtoAlgorithm RtoMin …" and "Tcp: 1 200 …".
		lines := strings.Split(string(b), "\n")
		for i := 0; i+1 < len(lines); i += 2 {
			names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
			for j := 1; j < min(len(names), len(values)); j++ {
				v, _ := strconv.ParseUint(values[j], 10, 64) // the one that may be -1 is a limit
				m[strings.TrimSuffix(names[0], ":")+"."+names[j]] = v
			}
		}
	}
	return m
}
