package interop

// Congestion marks between the stack and the kernel: a bridge that marks some of
// what passes, as a router with an active queue does, and what either end makes
// of it.

import (
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/tap"
	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/stack"
	"github.com/tapstack/tapstack/tcp"
)

// marker makes the bridge mark every nth of the ECN capable packets that pass a
// port, and count the segments with ECE and CWR.
func marker(t *testing.T, l *lab.Lab, port string, n int) {
	t.Helper()
	rules := ""
	for _, ip := range []string{"ip", "ip6"} {
		rules += fmt.Sprintf(`
			%[1]s ecn ect0 numgen inc mod %[2]d 0 counter name marked %[1]s ecn set ce
			%[1]s ecn ect1 counter name ect1
			meta l4proto tcp tcp flags & (syn | rst) != 0 %[1]s ecn != not-ect counter name wrong`, ip, n)
	}
	script := fmt.Sprintf(`table bridge marker {
		counter marked {}
		counter ect1 {}
		counter wrong {}
		counter ours_ece {}
		counter ours_cwr {}
		counter kernel_ece {}
		counter kernel_cwr {}
		chain in { type filter hook prerouting priority 0; iifname %[1]q jump both; iifname %[1]q jump ours; }
		chain out { type filter hook postrouting priority 0; oifname %[1]q jump both; oifname %[1]q jump kernel; }
		chain both { %[2]s
		}
		chain ours {
			tcp flags & (syn | ecn) == ecn counter name ours_ece
			tcp flags & (syn | cwr) == cwr counter name ours_cwr
		}
		chain kernel {
			tcp flags & (syn | ecn) == ecn counter name kernel_ece
			tcp flags & (syn | cwr) == cwr counter name kernel_cwr
		}
	}`, port, rules)
	file := t.TempDir() + "/ecn.nft"
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, within(t, patience), l, "nft", "-f", file)
}

// counted returns what the marker has counted so far, and begins anew.
func counted(t *testing.T, l *lab.Lab) map[string]int {
	t.Helper()
	out := run(t, within(t, patience), l, "nft", "reset", "counters", "table", "bridge", "marker")
	m, name := map[string]int{}, ""
	for _, line := range strings.Split(out, "\n") {
		f := strings.Fields(line)
		switch {
		case len(f) > 1 && f[0] == "counter":
			name = f[1]
		case len(f) > 1 && f[0] == "packets":

			var n int
			fmt.Sscan(f[1], &n)
			m[name] = n
		}
	}
	return m
}

// setECN sets the kernel's tcp_ecn, and reports whether it has that value.
func setECN(t *testing.T, l *lab.Lab, value int) (ok bool) {
	t.Helper()
	inLab(t, l, func() error {
		ok = os.WriteFile("/proc/sys/net/ipv4/tcp_ecn", []byte(fmt.Sprint(value)), 0) == nil
		return nil
	})
	return ok
}

// conn is a connection of the stack, as an io.ReadWriter that waits.
type conn struct {
	*stack.TCPConn
	ready chan struct{}
}

func newConn(c *stack.TCPConn) *conn {
	k := &conn{c, make(chan struct{}, 1)}
	c.Waiters().Add(&stack.Waiter{Want: stack.ReadyIn | stack.ReadyOut, F: func(stack.Ready) {
		select {
		case k.ready <- struct{}{}:
		default:
		}
	}})
	return k
}

func (k *conn) wait() error {
	select {
	case <-k.ready:
		return nil
	case <-time.After(patience):
		return os.ErrDeadlineExceeded
	}
}

func (k *conn) Read(b []byte) (int, error) {
	for {
		n, err := k.TCPConn.Read(b)
		if n > 0 || err != syscall.EAGAIN {
			return n, err
		}
		if err := k.wait(); err != nil {
			return 0, err
		}
	}
}

func (k *conn) Write(b []byte) (n int, err error) {
	for len(b) > 0 {
		m, err := k.TCPConn.Write(b)
		n, b = n+m, b[m:]
		if err == syscall.EAGAIN || err == nil && len(b) > 0 {
			err = k.wait()
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

const (
	optECN     = 8  // TCPI_OPT_ECN
	optECNSeen = 16 // TCPI_OPT_ECN_SEEN
)

// pairOf connects the stack and the kernel, in one direction or the other.
func (h *host) pairOf(t *testing.T, weDial bool, fam family) (*conn, net.Conn) {
	t.Helper()
	const port = 4444
	if weDial {
		ln, err := h.lab.ListenKernel("tcp", addr(fam.kernel.Addr(), port))
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		c, err := h.stack.DialTCP(netip.AddrPortFrom(fam.ours.Addr(), 0), netip.AddrPortFrom(fam.kernel.Addr(), port))
		if err != nil {
			t.Fatal(err)
		}
		k, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		ours := newConn(c)
		eventually(t, patience, "connected", func() bool { return c.State() == tcp.Established })
		return ours, k
	}
	l, err := h.stack.BindTCP(netip.AddrPortFrom(fam.ours.Addr(), port), false, false)
	if err == nil {
		err = l.Listen(1)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	k, err := h.lab.DialKernel(within(t, patience), "tcp", addr(fam.ours.Addr(), port))
	if err != nil {
		t.Fatal(err)
	}
	var c *stack.TCPConn
	eventually(t, patience, "accepted", func() bool { c, err = l.Accept(); return err == nil })
	return newConn(c), k
}

// move writes n bytes at one end and reads them at the other.
func move(t *testing.T, from io.Writer, to io.Reader, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), endurance)
	defer cancel()
	sent, failed := crc32.NewIEEE(), make(chan error, 1)
	go func() {
		b := make([]byte, 64<<10)
		for at := 0; at < n; at += len(b) {
			for i := range b {
				b[i] = byte(at>>10 + i*7)
			}
			b = b[:min(len(b), n-at)]
			sent.Write(b)
			if _, err := from.Write(b); err != nil {
				failed <- err
				return
			}
		}
		failed <- nil
	}()
	got := crc32.NewIEEE()
	m, err := io.CopyN(got, to, int64(n))
	if err != nil || ctx.Err() != nil {
		t.Fatalf("%d of %d bytes: %v", m, n, err)
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	if got.Sum32() != sent.Sum32() {
		t.Error("the bytes are not those that were sent")
	}
}

// TestECN: who asks and who accepts, and what marks do both ways, with and
// without super-frames.
func TestECN(t *testing.T) {
	program(t, "nft")
	for _, offload := range []tap.Offload{tap.OffloadOff, tap.OffloadRequire} {
		for _, ours := range []tcp.ECN{tcp.ECNOn, tcp.ECNAccurate, tcp.ECNPassive} {
			t.Run(fmt.Sprintf("offload %v/%v", offload, ours), func(t *testing.T) {
				l := newLab(t)
				h := newHost(t, l, hostOptions{offload: offload, nic: stack.InterfaceConfig{NoDAD: true},
					tcp: stack.TCPConfig{ECN: ours}})
				h.expect("what is under way when a connection is reset", "tcp.drop.no-connection", "tcp.drop.out-of-window", "tcp.drop.closed")
				// A super-frame stands for 45 packets; the kernel's pass the filter as such either way.
				marker(t, l, l.Ports[0], map[tap.Offload]int{tap.OffloadOff: 25, tap.OffloadRequire: 15}[offload])
				for _, fam := range families {
					for _, kernel := range []int{0, 1, 2, 3, 5} {
						h.testECN(t, ours, kernel, fam)
					}
				}
			})
		}
	}
}

// testECN connects both ways with the kernel's tcp_ecn set, and moves data both
// ways.
func (h *host) testECN(t *testing.T, ours tcp.ECN, kernel int, fam family) {
	if !setECN(t, h.lab, kernel) {
		t.Logf("this kernel has no tcp_ecn=%d", kernel)
		return
	}
	for _, weDial := range []bool{true, false} {
		who := map[bool]string{true: "we dial", false: "the kernel dials"}[weDial]
		t.Run(fmt.Sprintf("tcp_ecn=%d/%s/%s", kernel, fam.name, who), func(t *testing.T) {
			asks := weDial && ours != tcp.ECNPassive && kernel != 0 || !weDial && (kernel == 1 || kernel == 3)
			want := tcp.FeedbackNone
			if asks {
				want = tcp.FeedbackClassic
				if kernel >= 3 && ours == tcp.ECNAccurate {
					want = tcp.FeedbackAccurate
				}
			}
			counted(t, h.lab)
			c, k := h.pairOf(t, weDial, fam)
			defer k.Close()
			defer c.Abort()
			if got := c.Info().ECN; got != want {
				t.Errorf("feedback %v, want %v", got, want)
			}
			const n = 4 << 20
			move(t, c, k, n)
			up := counted(t, h.lab)
			move(t, k, c, n)
			down := counted(t, h.lab)
			i, ki := c.Info(), kernelInfo(t, k)
			t.Logf("up %v, down %v; %d marks received, %d told, %d reductions; kernel: options %#x, %d told",
				up, down, i.ReceivedCE, i.DeliveredCE, i.ECNReductions, ki.Options, ki.Delivered_ce)
			if up["wrong"]+down["wrong"]+up["ect1"]+down["ect1"] != 0 {
				t.Error("ECT where it does not belong")
			}
			if (ki.Options&optECN != 0) != asks {
				t.Errorf("the kernel's options are %#x", ki.Options)
			}
			if !asks {
				if up["marked"]+down["marked"] != 0 || i.ReceivedCE+i.ECNReductions != 0 {
					t.Error("marks without ECN")
				}
				return
			}
			if up["marked"] == 0 || down["marked"] == 0 || ki.Options&optECNSeen == 0 {
				t.Errorf("nothing was ECN capable: options %#x", ki.Options)
			}
			// We sent: the kernel echoed, we slowed down and said so, each time.
			if i.DeliveredCE == 0 || i.ECNReductions == 0 {
				t.Errorf("%d segments marked, told of %d, reduced %d times", up["marked"], i.DeliveredCE, i.ECNReductions)
			}
			if i.ReceivedCE == 0 || ki.Delivered_ce == 0 {
				t.Errorf("%d marks arrived of %d, the kernel was told of %d", i.ReceivedCE, down["marked"], ki.Delivered_ce)
			}
			if want != tcp.FeedbackClassic {
				return
			}
			if up["kernel_ece"] == 0 || up["ours_cwr"] == 0 || down["ours_ece"] == 0 || down["kernel_cwr"] == 0 {
				t.Error("no echo, or no answer to it")
			}
			// Each reduction is told once, and ends the echo.
			if cwr := up["ours_cwr"]; cwr > int(i.ECNReductions+i.FastRetransmits+i.Timeouts)+1 {
				t.Errorf("%d reductions, CWR in %d segments", i.ECNReductions, cwr)
			}
			if up["kernel_ece"] > 100*up["marked"] {
				t.Errorf("%d echoes of %d marks", up["kernel_ece"], up["marked"])
			}
		})
	}
}
