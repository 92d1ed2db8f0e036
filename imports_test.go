// Package tapstack_test checks what holds for the module as a whole.
package tapstack_test

import (
	"encoding/json"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

type layer struct {
	pkg string
	may []string
}

// layers is the import table of docs/architecture.md: a package may import
// what its entry lists, and std. Entries are paths below the module; "x/..."
// stands for a tree; a name with a dot is another module.
var layers = []layer{
	{"internal/mono", nil},
	{"internal/seq", nil},
	{"internal/csum", nil},
	{"internal/siphash", nil},
	{"internal/budget", nil},
	{"internal/ring", []string{"internal/budget"}},
	{"internal/pkt", []string{"internal/mono"}},
	{"internal/wheel", []string{"internal/mono"}},
	{"internal/gso", []string{"internal/csum", "internal/pkt"}},
	{"internal/neigh", []string{"internal/mono", "internal/pkt"}},
	{"internal/frag", []string{"internal/mono", "internal/pkt"}},
	{"internal/claim", []string{"internal/mono"}},
	{"internal/mcast", []string{"internal/csum", "internal/mono"}},
	{"internal/linklocal", []string{"internal/mono"}},

	{"ether", []string{"internal/mono", "internal/pkt"}},
	{"ether/wire", []string{"ether", "internal/mono", "internal/pkt"}},
	{"ether/pcap", []string{"ether", "internal/mono", "internal/pkt", "github.com/google/gopacket"}},
	{"ether/internal/fdloop", []string{"ether", "internal/mono", "internal/pkt", "golang.org/x/sys"}},
	{"ether/internal/vnet", []string{"ether", "internal/gso", "internal/pkt", "golang.org/x/sys"}},
	{"ether/internal/linkwatch", []string{"ether", "golang.org/x/sys", "github.com/vishvananda/netlink"}},
	{"ether/internal/tuntap", []string{"ether", "ether/internal/fdloop", "ether/internal/linkwatch", "ether/internal/vnet", "internal/pkt", "golang.org/x/sys", "github.com/songgao/water", "github.com/vishvananda/netlink"}},
	{"ether/tap", []string{"ether/internal/tuntap"}},
	{"ether/vlan", []string{"ether", "internal/pkt"}},
	{"ether/snap", []string{"ether", "internal/pkt"}},
	{"ether/pipe", []string{"ether", "ether/internal/fdloop", "internal/pkt", "golang.org/x/sys"}},
	{"ether/tun", []string{"ether/internal/tuntap"}},
	{"ether/packet", []string{"ether", "ether/internal/fdloop", "ether/internal/linkwatch", "ether/internal/vnet", "internal/pkt", "golang.org/x/sys", "github.com/vishvananda/netlink"}},

	{"arp", []string{"ether"}},
	{"udp", []string{"internal/csum"}},
	{"ipv4", []string{"internal/csum", "internal/pkt"}},
	{"ipv6", []string{"ether", "internal/csum", "internal/mono", "internal/pkt"}},
	{"icmp", []string{"ipv4", "ipv6", "internal/csum", "internal/mono"}},
	{"tcp/cc", []string{"internal/mono"}},
	{"tcp", []string{"tcp/cc", "internal/budget", "internal/csum", "internal/mono", "internal/ring", "internal/seq", "internal/siphash"}},

	{"tcp/trace", []string{"tcp", "internal/mono", "internal/seq"}},

	{"stack", []string{"ether", "arp", "udp", "ipv4", "ipv6", "icmp", "tcp", "tcp/cc", "internal/siphash", "internal/budget", "internal/mono", "internal/seq", "internal/csum", "internal/pkt",
		"internal/gso", "internal/wheel", "internal/neigh", "internal/frag", "internal/claim", "internal/mcast"}},
	// The headers are for simnet's routers.
	{"stack/simnet", []string{"stack", "ether", "ether/wire", "icmp", "ipv4", "ipv6", "internal/csum", "internal/mono", "internal/pkt"}},
	// probe stands beside socket: it does not block, but in calls that say so.
	{"probe", []string{"stack", "icmp", "udp", "internal/csum", "internal/mono"}},
	{"probe/mtrpacket", []string{"probe", "stack", "icmp"}},
	{"probe/traceview", []string{"probe", "icmp", "github.com/gdamore/tcell"}},
	// tcp for the names of the states, ipv6 for the order of addresses, dnsmessage for the stub resolver,
	// bpf for filters.
	{"socket", []string{"stack", "tcp", "ipv6", "golang.org/x/net/bpf", "golang.org/x/net/dns/dnsmessage"}},
	{"socket/kernel", []string{"socket", "stack", "tcp", "golang.org/x/sys"}}, // stack for Ready only, tcp for Info
	// The client core of dhcp is pure; its runner stands on stack.
	{"dhcp", []string{"dhcp/internal/both", "ether", "stack", "internal/linklocal", "internal/mono"}},
	{"dhcp/dhcp6", []string{"dhcp", "dhcp/internal/both", "ether", "stack", "internal/mono"}},
	{"dhcp/internal/both", []string{"stack", "internal/mono"}},
	{"dhcp/internal/bothtest", []string{"ether", "ether/wire", "stack", "stack/simnet", "internal/mono", "internal/pkt"}},
	// tcp for Info and traces, icmp for the names of messages, x/sys for those of errnos.
	{"probe/check", []string{"socket", "tcp", "icmp", "internal/mono", "golang.org/x/sys"}},
	// The messages of DNS and how its records are written are another module's.
	{"probe/dnsquery", []string{"socket", "github.com/miekg/dns"}},

	// telnet stands on net.Conn alone.
	{"telnet/engine", nil},
	{"telnet/option", []string{"telnet/engine"}},
	{"telnet", []string{"telnet/engine", "telnet/option", "golang.org/x/text"}},
	{"telnet/expect", nil},
	{"telnet/ptyshell", []string{"telnet", "telnet/engine", "telnet/option", "golang.org/x/sys", "github.com/creack/pty"}},
	{"telnet/telsh", []string{"telnet", "telnet/engine", "telnet/option", "golang.org/x/text"}},
	{"telnet/fingerprint", []string{"telnet", "telnet/engine", "telnet/option"}},
	{"telnet/client", []string{"telnet", "telnet/engine", "telnet/option", "golang.org/x/sys"}}, // x/sys for the terminal
}

// TestImports keeps the arrows of the import table pointing one way.
func TestImports(t *testing.T) {
	const module = "github.com/tapstack/tapstack/"
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	imports := map[string][]string{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		imports[strings.TrimPrefix(p.ImportPath, module)] = p.Imports
	}
	for _, l := range layers {
		list, ok := imports[l.pkg]
		if !ok {
			t.Errorf("%s is in the table but not in the module", l.pkg)
		}
		for _, imp := range list {
			name := strings.TrimPrefix(imp, module)
			std := name == imp && !strings.Contains(strings.SplitN(imp, "/", 2)[0], ".")
			if std || slices.ContainsFunc(l.may, func(m string) bool {
				return m == name || strings.Contains(m, ".") && strings.HasPrefix(name, m)
			}) {
				continue
			}
			t.Errorf("%s imports %s, which the import table of docs/architecture.md does not allow", l.pkg, name)
		}
	}
	// gopacket is a test oracle and a printer, never part of the data path.
	for pkg, list := range imports {
		for _, imp := range list {
			if strings.HasPrefix(imp, "github.com/google/gopacket") && pkg != "ether/pcap" && !strings.HasPrefix(pkg, "cmd/") {
				t.Errorf("%s imports %s", pkg, imp)
			}
			if strings.HasPrefix(imp, "github.com/prometheus/") && pkg != "internal/exporter" {
				t.Errorf("%s imports %s", pkg, imp)
			}
		}
	}
	// Every package of the data path is in the table.
	for pkg := range imports {
		top := strings.SplitN(pkg, "/", 2)[0]
		if slices.Contains([]string{"ether", "arp", "udp", "ipv4", "ipv6", "icmp", "tcp", "stack", "socket", "probe", "dhcp", "telnet"}, top) &&
			!slices.ContainsFunc(layers, func(l layer) bool { return l.pkg == pkg }) {
			t.Errorf("%s is missing from the import table", pkg)
		}
	}
}
