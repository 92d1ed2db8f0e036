package socket_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/socket"
)

// TestHosts: names of a file go before those of servers, and changes of the file
// are noticed.
func TestHosts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		(&dnsServer{records: dnsRecords}).serve(t, p.nb, ":53")
		file := filepath.Join(t.TempDir(), "hosts")
		write := func(s string) {
			must(t, os.WriteFile(file, []byte(s), 0o600))
		}
		write("# a comment\n10.1.1.1 Both.example. short # another\nfd77::9\tshort\n\nnonsense name\n10.2.2.2\n::ffff:10.3.3.3 mapped\n")
		lookup := func(network, name string) string {
			addrs, err := p.na.LookupNetIP(bg, network, name)
			if err != nil {
				return err.Error()
			}
			return fmt.Sprint(addrs)
		}
		check := func(network, name, want string) {
			t.Helper()
			if got := lookup(network, name); got != want {
				t.Errorf("%s %s: %s, want %s", network, name, got, want)
			}
		}
		p.na.SetHosts(file)
		check("ip", "both.EXAMPLE", "[10.1.1.1]")
		check("ip4", "short.", "[10.1.1.1]")
		check("ip6", "short", "[fd77::9]")
		check("ip", "mapped", "[10.3.3.3]")
		check("ip", "name", "lookup name: no DNS server is known")
		p.na.SetDNS(netip.MustParseAddr("10.77.0.2"))
		check("ip6", "both.example", "[fd77::2]") // a family that the file does not have
		check("ip", "four.example", "[10.77.0.2]")
		write("10.4.4.4 both.example\n")
		check("ip", "both.example", "[10.1.1.1]")
		time.Sleep(6 * time.Second)
		check("ip", "both.example", "[10.4.4.4]")
		must(t, os.Remove(file))
		time.Sleep(6 * time.Second)
		check("ip4", "both.example", "[10.77.0.2]")
		write(strings.Repeat("x", 1<<17)) // a line longer than any
		time.Sleep(6 * time.Second)
		check("ip4", "both.example", "[10.77.0.2]")
		p.na.SetHosts("")
		p.na.Resolver = fixedNames{"10.9.9.9"}
		check("ip", "both.example", "[10.9.9.9]")
	})
}

// TestDNSSource: servers and search domains are those of the moment.
func TestDNSSource(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		srv := &dnsServer{records: dnsRecords}
		srv.serve(t, p.nb, ":53")
		var servers []netip.Addr
		var search []string
		p.na.SetDNS(netip.MustParseAddr("10.77.0.99")) // not asked any more
		p.na.SetDNSSource(func() ([]netip.Addr, []string) { return servers, search })
		if _, err := p.na.LookupNetIP(bg, "ip", "four"); err == nil || !strings.Contains(err.Error(), "no DNS server") {
			t.Errorf("without servers: %v", err)
		}
		servers, search = []netip.Addr{netip.MustParseAddr("10.77.0.2")}, []string{"lab", "example"}
		if a, err := p.na.LookupNetIP(bg, "ip4", "four"); err != nil || len(a) != 1 {
			t.Errorf("%v, %v", a, err)
		}
		if got, want := strings.Join(srv.asked, " "), "udp A four.lab. udp A four.example."; got != want {
			t.Errorf("asked %q, want %q", got, want)
		}
		p.na.SetDNSSource(nil)
	})
}

// TestNetResolver: package net's resolver asks the network's servers over the
// stack, and the next one when one does not answer.
func TestNetResolver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		srv := &dnsServer{records: dnsRecords}
		srv.serve(t, p.nb, ":53")
		r := p.na.NetResolver()
		if _, err := r.LookupNetIP(bg, "ip4", "four.example."); err == nil {
			t.Error("an answer without a server")
		}
		p.na.SetDNS(netip.MustParseAddr("10.77.0.2"), netip.MustParseAddr("10.77.0.99"))
		for range 3 {
			if a, err := r.LookupNetIP(bg, "ip4", "four.example."); err != nil || len(a) != 1 || a[0].String() != "10.77.0.2" {
				t.Errorf("%v, %v", a, err)
			}
		}
		if len(srv.asked) == 0 || !strings.HasPrefix(srv.asked[0], "udp A") {
			t.Errorf("asked %q", srv.asked)
		}
		var _ socket.Resolver = r
	})
}
