package socket_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/socket"
)

// refusedOptions are the options of the kernel's headers that are not here.
var refusedOptions = map[int]map[string]int{
	socket.IPPROTO_IPV6: {
		"IPV6_ADDRFORM": 1, "IPV6_2292PKTINFO": 2, "IPV6_2292HOPOPTS": 3, "IPV6_2292DSTOPTS": 4, "IPV6_2292RTHDR": 5, "IPV6_2292PKTOPTIONS": 6,
		"IPV6_2292HOPLIMIT": 8, "IPV6_NEXTHOP": 9, "IPV6_AUTHHDR": 10, "IPV6_ROUTER_ALERT": 22, "IPV6_JOIN_ANYCAST": 27,
		"IPV6_LEAVE_ANYCAST": 28, "IPV6_ROUTER_ALERT_ISOLATE": 30, "IPV6_FLOWLABEL_MGR": 32,
		"IPV6_FLOWINFO_SEND": 33, "IPV6_IPSEC_POLICY": 34, "IPV6_XFRM_POLICY": 35, "IPV6_MINHOPCOUNT": 73,
		"IPV6_UNICAST_IF": 76, "IPV6_RECVFRAGSIZE": 77,
	},
	socket.IPPROTO_IP: {
		"IP_ROUTER_ALERT": 5, "IP_PKTOPTIONS": 9, "IP_IPSEC_POLICY": 16,
		"IP_XFRM_POLICY": 17, "IP_PASSSEC": 18, "IP_MINTTL": 21, "IP_NODEFRAG": 22, "IP_CHECKSUM": 23, "IP_RECVFRAGSIZE": 25,
		"IP_UNICAST_IF": 50, "IP_LOCAL_PORT_RANGE": 51, "IP_PROTOCOL": 52,
	},
	socket.SOL_SOCKET: {
		"SO_DEBUG": 1, "SO_NO_CHECK": 11, "SO_PRIORITY": 12, "SO_BSDCOMPAT": 14, "SO_PASSCRED": 16, "SO_PEERCRED": 17,
		"SO_SECURITY_AUTHENTICATION": 22, "SO_SECURITY_ENCRYPTION_TRANSPORT": 23, "SO_SECURITY_ENCRYPTION_NETWORK": 24, "SO_PEERSEC": 31,
		"SO_PASSSEC": 34, "SO_MARK": 36, "SO_TIMESTAMPING_OLD": 37, "SO_WIFI_STATUS": 41, "SO_PEEK_OFF": 42, "SO_NOFCS": 43,
		"SO_SELECT_ERR_QUEUE": 45, "SO_BUSY_POLL": 46, "SO_MAX_PACING_RATE": 47, "SO_BPF_EXTENSIONS": 48, "SO_INCOMING_CPU": 49,
		"SO_ATTACH_BPF": 50, "SO_ATTACH_REUSEPORT_CBPF": 51, "SO_ATTACH_REUSEPORT_EBPF": 52, "SO_CNX_ADVICE": 53, "SO_MEMINFO": 55,
		"SO_INCOMING_NAPI_ID": 56, "SO_PEERGROUPS": 59, "SO_ZEROCOPY": 60, "SO_TXTIME": 61, "SO_TIMESTAMP_NEW": 63, "SO_TIMESTAMPNS_NEW": 64,
		"SO_TIMESTAMPING_NEW": 65, "SO_DETACH_REUSEPORT_BPF": 68, "SO_PREFER_BUSY_POLL": 69, "SO_BUSY_POLL_BUDGET": 70, "SO_NETNS_COOKIE": 71,
		"SO_BUF_LOCK": 72, "SO_RESERVE_MEM": 73, "SO_TXREHASH": 74, "SO_RCVMARK": 75,
	},
	socket.SOL_TCP: {
		"TCP_MD5SIG": 14, "TCP_THIN_DUPACK": 17, "TCP_CC_INFO": 26, "TCP_SAVE_SYN": 27, "TCP_SAVED_SYN": 28, "TCP_ULP": 31, "TCP_MD5SIG_EXT": 32,
		"TCP_FASTOPEN_NO_COOKIE": 34, "TCP_ZEROCOPY_RECEIVE": 35, "TCP_TX_DELAY": 37,
	},
	socket.SOL_UDP: {
		"UDP_ENCAP": 100, "UDP_NO_CHECK6_TX": 101, "UDP_NO_CHECK6_RX": 102,
	},
}

// TestRefusedOptions: what would have no effect is refused, both ways, and the
// reason stands in the documentation.
func TestRefusedOptions(t *testing.T) {
	s := lone(t)
	doc, err := os.ReadFile("../docs/sockets.md")
	must(t, err)
	stream, dgram := tcp4(t, s), sock(t, s, socket.AF_INET6, socket.SOCK_DGRAM, 0)
	for level, options := range refusedOptions {
		fds := []*socket.FD{stream, dgram}
		switch level {
		case socket.SOL_TCP:
			fds = fds[:1]
		case socket.IPPROTO_IP, socket.IPPROTO_IPV6, socket.SOL_UDP:
			fds = fds[1:]
		}
		for name, opt := range options {
			if ok, _ := regexp.Match(`\b`+name+`\b`, doc); !ok {
				t.Errorf("%s is not in docs/sockets.md", name)
			}
			for _, f := range fds {
				b := make([]byte, 300)
				wantErr(t, fmt.Sprint("set ", name), f.Setsockopt(level, opt, b[:4]), syscall.ENOPROTOOPT)
				wantErr(t, fmt.Sprint("set ", name), f.Setsockopt(level, opt, b), syscall.ENOPROTOOPT)
				_, err := f.Getsockopt(level, opt, b)
				wantErr(t, fmt.Sprint("get ", name), err, syscall.ENOPROTOOPT)
			}
		}
	}
	for _, o := range []int{5, 29, 35, 40} { // what only datagrams have
		wantErr(t, fmt.Sprint("set ", o, " of a stream"), stream.SetsockoptInt(socket.SOL_SOCKET, o, 1), syscall.ENOPROTOOPT)
	}
}

// optionName is what an option is called in a header, and not one of its values.
var optionName = regexp.MustCompile(`^#\s*define\s+((?:SO|IP|MCAST|IPV6|TCP|UDP)_[A-Z0-9_]+)\s+(?:[0-9]+|SO_\w+|IPV6_\w+)\b`)

// notOptions are the names among them that are values of options, or parts of
// structs.
var notOptions = regexp.MustCompile(`^(IPV6_(FL_|FLOWINFO_|PMTUDISC_|PREFER_|PRIORITY_|TLV_|ORIGDSTADDR)|IP_(PMTUDISC_|DEFAULT_|ORIGDSTADDR)|MCAST_(EXCLUDE|INCLUDE)|TCP_(MSS_|MD5SIG_(FLAG|MAX)|REPAIR_O(N|FF)\b|RECEIVE_ZEROCOPY)|TCP_ENCAP_|UDP_ENCAP_)`)

// TestHeadersDocumented: every option of this machine's headers stands in the
// documentation, as honoured or with the reason why not.
func TestHeadersDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/sockets.md")
	must(t, err)
	n := 0
	for _, h := range []string{"asm-generic/socket.h", "linux/in.h", "linux/in6.h", "linux/tcp.h", "linux/udp.h"} {
		f, err := os.Open(filepath.Join("/usr/include", h))
		if err != nil {
			lab.Lacks(t, err)
		}
		defer f.Close()
		for in := bufio.NewScanner(f); in.Scan(); {
			m := optionName.FindStringSubmatch(in.Text())
			if m == nil || notOptions.MatchString(m[1]) {
				continue
			}
			n++
			if !regexp.MustCompile(`\b` + m[1] + `\b`).Match(doc) {
				t.Errorf("%s is not in docs/sockets.md", m[1])
			}
		}
	}
	if n < 200 || !strings.Contains(string(doc), "## Refused") {
		t.Errorf("only %d options found", n)
	}
}
