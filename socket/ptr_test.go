package socket_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/tapstack/tapstack/ether/wire"
)

func TestLookupAddr(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		ask := func(s string) string {
			names, err := p.na.LookupAddr(bg, netip.MustParseAddr(s))
			if err != nil {
				return err.Error()
			}
			return fmt.Sprint(names)
		}
		if got := ask("10.77.0.2"); got != "lookup 10.77.0.2: no DNS server is known" {
			t.Error(got)
		}
		d := &dnsServer{records: map[string][]string{
			"2.0.77.10.in-addr.arpa.":                             {"PTR host.example.", "PTR other.example."},
			"3.0.77.10.in-addr.arpa.":                             {"CNAME 3.sub.0.77.10.in-addr.arpa."}, // RFC 2317
			"3.sub.0.77.10.in-addr.arpa.":                         {"PTR third.example."},
			"9.0.77.10.in-addr.arpa.":                             {"FAIL"},
			"2." + strings.Repeat("0.", 27) + "7.7.d.f.ip6.arpa.": {"PTR six.example."},
		}}
		d.serve(t, p.nb, ":53")
		p.na.SetDNS(netip.MustParseAddr("10.77.0.2"))
		for a, want := range map[string]string{
			"10.77.0.2": "[host.example other.example]", "10.77.0.3": "[third.example]", "fd77::2": "[six.example]",
			"::ffff:10.77.0.2": "[host.example other.example]",
			"10.77.0.4":        "lookup 4.0.77.10.in-addr.arpa.: no such host",
			"10.77.0.9":        "lookup 9.0.77.10.in-addr.arpa. on 10.77.0.2:53: server misbehaving",
		} {
			if got := ask(a); got != want {
				t.Errorf("%s: %s, want %s", a, got, want)
			}
		}
	})
}
