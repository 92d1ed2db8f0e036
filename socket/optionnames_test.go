package socket

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
)

// OptionNames returns the names of the options of the IP levels, UDP, and of
// the datagrams' own of SOL_SOCKET, by the constants of this package; those
// without one are named by their numbers.
func OptionNames(log io.Writer) (list []string) {
	prefixes := map[int]string{IPPROTO_IP: "IP_", IPPROTO_IPV6: "IPV6_", SOL_UDP: "UDP_", SOL_SOCKET: "SO_", SOL_TCP: "TCP_",
		SOL_PACKET: "PACKET_", SOL_RAW: "ICMP_", SOL_ICMPV6: "ICMP6_"}
	names := map[string]string{}
	files, err := os.ReadDir(".")
	if err != nil {
		return []string{err.Error()}
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, 0)
		if err != nil {
			return []string{err.Error()}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if !ok || len(v.Values) != 1 {
				return true
			}
			if b, ok := v.Values[0].(*ast.BasicLit); ok {
				n, err := strconv.ParseInt(b.Value, 0, 32)
				for _, p := range slices.AppendSeq([]string{"MCAST_"}, maps.Values(prefixes)) {
					if key := fmt.Sprint(p, n); err == nil && strings.HasPrefix(v.Names[0].Name, p) && names[key] == "" {
						names[key] = v.Names[0].Name
					}
				}
			}
			return true
		})
	}
	add := func(level, opt int) {
		n := names[fmt.Sprint(prefixes[level], opt)]
		if n == "" && (opt >= MCAST_JOIN_GROUP && opt <= MCAST_LEAVE_SOURCE_GROUP || opt == MCAST_MSFILTER) {
			n = names[fmt.Sprint("MCAST_", opt)]
		}
		if n == "" {
			n = fmt.Sprint(level, ".", opt)
		}
		fmt.Fprintln(log, level, opt, n)
		list = append(list, n)
	}
	for level, table := range map[int]map[int]option{IPPROTO_IP: ipOptions, IPPROTO_IPV6: ip6Options, SOL_UDP: udpOptions, SOL_PACKET: packetOptions} {
		for opt := range table {
			add(level, opt)
		}
	}
	for n := range rawOptions {
		add(n.level, n.name)
	}
	for _, opt := range []int{SO_DONTROUTE, SO_TIMESTAMP, SO_TIMESTAMPNS, SO_RXQ_OVFL, SO_DETACH_FILTER, SO_LOCK_FILTER} {
		add(SOL_SOCKET, opt)
	}
	return list
}
