package interop

// Which name servers a host asks that is told of some by DHCP, by DHCPv6 and by
// routers, all at once.

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/stack"
)

// toldServers is a Recorder that records no frame, only who is asked for names.
type toldServers struct{ list []netip.Addr }

func (*toldServers) Choose(bool, []byte, time.Time) (string, bool)   { return "", false }
func (a *toldServers) Attached(_ *stack.Stack, servers []netip.Addr) { a.list = servers }

// TestNameServers: those of DHCP come before those of DHCPv6, and those before
// routers' (RFC 8106 §5.3.1), each once; those of a flag are alone.
func TestNameServers(t *testing.T) {
	t.Parallel()
	program(t, "radvd")
	l := busyLab(t)
	dir := t.TempDir()
	awaitBridge(t, l)
	log := daemon(t, l, append(dnsmasq6(lab.Bridge, dir), "--dhcp-range=fd77::50,fd77::60,64,2m", "--dhcp-range=10.77.0.50,10.77.0.60,255.255.255.0,2m",
		"--no-ping", "--dhcp-option=option:dns-server,10.77.0.8,10.77.0.9")...)
	eventually(t, patience, "dnsmasq is there", func() bool { return strings.Contains(log.String(), "DHCPv6, IP range") })
	newAdvertiser(t, l, lab.Bridge).start("\tAdvManagedFlag on;\n\tprefix fd77::/64 { AdvOnLink on; AdvAutonomous off; };\n\tRDNSS fd77::9 fd77::1 { };\n")
	open := func(o attach.Options) []netip.Addr {
		t.Helper()
		who := new(toldServers)
		o.DHCP, o.DHCP6, o.Recorder, o.Pcap = true, "auto", who, filepath.Join(dir, "x.pcapng")
		h := open6(t, l, o)
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		return who.list
	}
	a := netip.MustParseAddr
	if got, want := open(attach.Options{}), []netip.Addr{a("10.77.0.8"), a("10.77.0.9"), a("fd77::1"), a("fd77::9")}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got, want := open(attach.Options{DNS: []string{"fd77::7"}}), []netip.Addr{a("fd77::7")}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
