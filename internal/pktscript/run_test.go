package pktscript

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/tapstack/tapstack/internal/pkt"
)

// TestMain checks that the stacks of all scripts give their buffers back.
func TestMain(m *testing.M) {
	code := m.Run()
	if n := pkt.Live(); n != 0 && code == 0 {
		fmt.Fprintf(os.Stderr, "%d buffers leaked\n", n)
		code = 1
	}
	os.Exit(code)
}

const opened = `
    0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
   +0 bind(3, ..., ...) = 0
   +0 listen(3, 1) = 0
   +0 < S 0:0(0) win 65535 <mss 1000>
   +0 > S. 0:0(0) ack 1 <mss MSS>
 +.01 < . 1:1(0) ack 1 win 65535
   +0 accept(3, ..., ...) = 4
`

// A script that says something else than what happens fails, and says what.
func TestRunFinds(t *testing.T) {
	for script, want := range map[string]string{
		"+0 write(4, ..., 100) = 99":                                                     "write() = 100, not 99",
		"+0 write(4, ..., 100) = -1 EPIPE (Broken pipe)":                                 "write() = 100, not -1 EPIPE",
		"+0 close(4) = -1":                                                               "close() = 0, not -1",
		"+0 read(4, ..., 100) = 0":                                                       "read() blocks",
		"+0...0.1 read(4, ..., 100) = 0":                                                 "read() still blocks",
		"+0...0.1 read(4, ..., 100) = 10\n+.05 < . 1:11(10) ack 1 win 100":               "read() returned at 60ms instead of 110ms",
		"+0...0.1 read(4, ..., 100) = 9\n+.1 < . 1:11(10) ack 1 win 100":                 "read() = 10, not 9",
		"+0 close(5) = 0":                                                                "close() = -1 EBADF, not 0",
		"+0 write(4, ..., 100) = 100\n+0 > P. 1:101(100) ack 2":                          "ack 1 instead of 2",
		"+0 write(4, ..., 100) = 100\n+0 > P. 1:102(101) ack 1":                          "100 bytes instead of 101",
		"+0 write(4, ..., 100) = 100\n+0 > P. 2:102(100) ack 1":                          "sequence number 1 instead of 2",
		"+0 write(4, ..., 100) = 100\n+0 > . 1:101(100) ack 1":                           "flags P. instead of .",
		"+0 write(4, ..., 100) = 100\n+.1 > P. 1:101(100) ack 1":                         "sent at 10ms instead of 110ms",
		"+0 write(4, ..., 100) = 100\n+0 > P. 1:101(100) ack 1 win 5":                    "window 65535 instead of 5",
		"+0 write(4, ..., 100) = 100\n+0 > P. 1:101(100) ack 1 <nop,nop,TS val 1 ecr 2>": "options <> instead of <nop,nop,TS val 1 ecr 2>",
		"+0 write(4, ..., 100) = 100\n+0 > [ect0] P. 1:101(100) ack 1":                   "ECN field 0 instead of 2",
		"+0 write(4, ..., 100) = 100\n+0 > (tos 0x20) P. 1:101(100) ack 1":               "TOS 0x0 instead of 0x20",
		"+0 write(4, ..., 100) = 100\n+0 > [ttl 5] P. 1:101(100) ack 1":                  "TTL 64 instead of 5",
		"+0 write(4, ..., 100) = 100\n+0 > P. 1:101(100) ack 1 urg 1":                    "urgent pointer 0 instead of 1",
		"+0 write(4, ..., 100) = 100\n+0 > udp (100)":                                    "another protocol",
		"+0 > P. 1:101(100) ack 1":                                                       "nothing was sent",
		"+0 write(4, ..., 100) = 100":                                                    "nobody expected",
		"+0 getsockopt(4, SOL_SOCKET, SO_ERROR, [ECONNRESET], [4]) = 0":                  "SO_ERROR is 0, not [ECONNRESET]",
		"+0 ioctl(4, SIOCINQ, [5]) = 0":                                                  "SIOCINQ is 0, not 5",
		"+0 poll([{fd=4, events=POLLOUT, revents=POLLIN}], 1, 0) = 1":                    "revents of",
		"+0 poll([{fd=4, events=POLLIN, revents=0}], 1, 100) = 0":                        "poll() blocks",
		"+0 %{ assert tcpi_state == TCP_CLOSE_WAIT }%":                                   "assertion failed: tcpi_state == TCP_CLOSE_WAIT",
		"0 `true`": "it is 10ms too late",
		"+0 < . 1:101(100) ack 1 win 5\n+0 > . 1:1(0) ack 101\n+0 read(4, \"abc\", 3) = 3": "the text read is",
		"+0 write(9, ..., 100) = 100":            "write() = -1 EBADF, not 100",
		"+0 > icmp unreachable port_unreachable": "nothing was sent",
	} {
		res := Run("", opened+script, RunOptions{Strict: true})
		if res.Status != Failed || !strings.Contains(res.Reason, want) {
			t.Errorf("%s\n\t%v", script, res)
		}
		if n := strings.Count(opened, "\n") + 1; res.Line < n {
			t.Errorf("%s: line %d, not from %d on", script, res.Line, n)
		}
	}
}

// What is not done here skips a script, with the reason.
func TestRunSkips(t *testing.T) {
	for script, want := range map[string]string{
		"--wire_client\n0 `true`":               "option --wire_client",
		"`rm -rf /`":                            "command rm -rf /",
		"`sysctl -q net.ipv4.tcp_frobnicate=1`": "sysctl net.ipv4.tcp_frobnicate",
		"0 splice(1, 2) = 0":                    "splice()",
		opened + "+0 setsockopt(4, SOL_SOCKET, SO_MARK, [1], 4) = 0": "setsockopt SO_MARK",
		opened + "+0 setsockopt(4, 999, 999, [1], 4) = 0":            "setsockopt 999",
		opened + "+0 send(4, ..., 1, MSG_FROB) = 0":                  "MSG_FROB",
		opened + "+0 %{ assert tcpi_frob }%":                         "code:",
		opened + "+0 > gre : . 1:1(0)":                               "encapsulation in gre",
		"0 what is this":                                             "syntax:",
		"`sysctl -w net.inet.tcp.insecure_rst=1`":                    "FreeBSD's sysctl net.inet.tcp.insecure_rst=1",
		opened + "+0 `sysctl -q net.ipv4.tcp_fin_timeout=5`":         "net.ipv4.tcp_fin_timeout becomes 5 in the middle",
	} {
		res := Run("", script, RunOptions{})
		if res.Status != Skipped || !strings.Contains(res.Reason, want) {
			t.Errorf("%s\n\t%v", script, res)
		}
	}
}

// The things a script can do that no script about TCP does.
func TestRunPasses(t *testing.T) {
	for name, script := range map[string]string{
		"udp": `
			0 socket(..., SOCK_DGRAM, IPPROTO_UDP) = 3
			+0 connect(3, ..., ...) = 0
			+0 send(3, ..., 100, 0) = 100
			+0 > udp (100)
			+.1 < udp (50)
			+0 read(3, ..., 1000) = 50
			+0 < icmp unreachable port_unreachable [udp (100)]
			+0 read(3, ..., 1000) = -1 ECONNREFUSED (Connection refused)`,
		"epoll, level and edge": opened + `
			+0 epoll_create(1) = 5
			+0 epoll_ctl(5, EPOLL_CTL_ADD, 4, {events=EPOLLIN, fd=4}) = 0
			+0 epoll_wait(5, {events=0, ptr=0}, 1, 0) = 0
			+0...0.050 epoll_wait(5, {events=EPOLLIN, fd=4}, 1, 100) = 1
			+.05 < P. 1:101(100) ack 1 win 65535
			+0 > . 1:1(0) ack 101
			+0 epoll_wait(5, {events=EPOLLIN, fd=4}, 1, 0) = 1
			+0 epoll_ctl(5, EPOLL_CTL_MOD, 4, {events=EPOLLIN|EPOLLET, fd=4}) = 0
			+0 epoll_wait(5, {events=EPOLLIN, fd=4}, 1, 0) = 1
			+0 epoll_wait(5, {events=0, ptr=0}, 1, 0) = 0
			+0 < P. 101:201(100) ack 1 win 65535
			+0 > . 1:1(0) ack 201
			+0 epoll_wait(5, {events=EPOLLIN, fd=4}, 1, 0) = 1
			+0 epoll_ctl(5, EPOLL_CTL_DEL, 4, {events=0, fd=4}) = 0
			+0...0.100 epoll_wait(5, {events=0, ptr=0}, 1, 100) = 0
			+0 close(5) = 0`,
		"poll with a time-out": opened + `
			+0...0.100 poll([{fd=4, events=POLLIN, revents=0}], 1, 100) = 0
			+0 poll([{fd=4, events=POLLOUT, revents=POLLOUT}], 1, 0) = 1`,
		"text of its own": opened + `
			+0 write(4, "hello", 5) = 5
			+0 > P. 1:6(5) ack 1`,
		"vectors": opened + `
			+0 writev(4, [{..., 10}, {..., 20}], 2) = 30
			+0 > P. 1:31(30) ack 1
			+0 < P. 1:101(100) ack 31 win 65535
			+0 > . 31:31(0) ack 101
			+0 readv(4, [{..., 50}, {..., 50}], 2) = 100`,
		"defaults and restore": "`../common/defaults.sh\n../common/set_sysctls.py /proc/sys/net/ipv4/tcp_min_tso_segs=10 2>/dev/null`\n" + `
			0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
			+0 fcntl(3, F_SETFL, O_RDWR|O_NONBLOCK) = 0
			+0 fcntl(3, F_GETFL) = 0x802 (flags O_RDWR|O_NONBLOCK)
			+0 connect(3, ..., ...) = -1 EINPROGRESS (Operation now in progress)
			+0 > S 0:0(0) <mss MSS,sackOK,TS val 100 ecr 0,nop,wscale 8>
			` + "`/tmp/sysctl_restore_${PPID}.sh`",
		"a definition": "--define=LEN=100\n" + opened + `
			+0 write(4, ..., LEN) = LEN
			+0 > P. 1:101(LEN) ack 1`,
		"the dialect of FreeBSD": "0 `sysctl -w net.inet.tcp.rfc1323=1`" + `
			+0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
			+0 getsockopt(3, SOL_SOCKET, SO_RCVBUF, [65536], [4]) = 0
			+0 bind(3, ..., ...) = 0
			+0 listen(3, 1) = 0
			+0 < S 0:0(0) win 65535 <sackOK,eol,eol,mss 1000>
			+0 > S. 0:0(0) ack 1 win 1234 <sackOK,mss MSS>
			+.01 < . 1:1(0) ack 1 win 65535
			+0 accept(3, ..., ...) = 4
			+0 < . 1:101(100) ack 1 win 65535
			+0 < . 201:301(100) ack 1 win 65535
			+0 > . 1:1(0) ack 101 win 7 <nop,nop,sack 201:301>`,
		"merged segments": "--mss=1000\n" + opened + `
			+0 < P. 1:10001(10000) ack 1 win 65535
			+0 > . 1:1(0) ack 10001
			+0 read(4, ..., 20000) = 10000`,
	} {
		for _, version := range []string{"ipv4", "ipv6", "ipv4-mapped-ipv6"} {
			res := Run(name, script, RunOptions{IPVersion: version})
			if res.Status != Passed {
				t.Errorf("%s, %s: %v", name, version, res)
			}
		}
	}
}

// The tolerant mode forgives what it is for, and nothing else.
func TestRunTolerance(t *testing.T) {
	bsd := "0 `sysctl -w net.inet.tcp.rfc1323=1`\n" + strings.Replace(opened, "    0 socket", "   +0 socket", 1)
	for script, want := range map[string]string{
		"+0 < . 1:101(100) ack 1 win 65535\n+0 > . 1:1(0) ack 102":                                             "nothing was sent",
		"+0 < . 201:301(100) ack 1 win 65535\n+0 > . 1:1(0) ack 301":                                           "ack 1 instead of 301",
		"+0 write(4, ..., 100) = 100\n+0 > P. 1:101(100) ack 1 <sackOK>":                                       "options <> instead of <sackOK>",
		"+0 < . 1:101(100) ack 1 win 65535\n+0 < . 1:101(100) ack 1 win 65535\n+0 > . 1:1(0) ack 101\n+0 > F.": "syntax",
	} {
		res := Run("", bsd+script, RunOptions{})
		if res.Status == Passed || !strings.Contains(res.Reason, want) {
			t.Errorf("%s\n\t%v", script, res)
		}
	}
}

// Two runs of a script are the same, packet by packet and nanosecond by
// nanosecond.
func TestRunDeterministic(t *testing.T) {
	var runs [2]strings.Builder
	for i := range runs {
		Run("", opened+"+0 write(4, ..., 50000) = 50000\n* > P. 1:10001(10000) ack 1", RunOptions{AnyPush: true,
			Trace: func(s string) { runs[i].WriteString(s + "\n") }})
	}
	if runs[0].String() != runs[1].String() || runs[0].Len() == 0 {
		t.Errorf("%s---\n%s", runs[0].String(), runs[1].String())
	}
}
