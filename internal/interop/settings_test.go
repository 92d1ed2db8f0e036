package interop

import (
	"context"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/internal/attach"
	"github.com/tapstack/tapstack/internal/lab"
	"github.com/tapstack/tapstack/ipv4"
	"github.com/tapstack/tapstack/ipv6"
	"github.com/tapstack/tapstack/stack"
)

// sent is what a host has put on the wire: it is told as what --pcap writes.
type sent struct {
	mu   sync.Mutex
	list []string
}

func (s *sent) Attached(*stack.Stack, []netip.Addr) {}

func (s *sent) Choose(out bool, frame []byte, _ time.Time) (string, bool) {
	if what := describeControl(frame); out && what != "" {
		s.mu.Lock()
		s.list = append(s.list, what)
		s.mu.Unlock()
	}
	return "", true
}

func (s *sent) has(what string) bool { return s.count(what) > 0 }

func (s *sent) count(what string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.list {
		if strings.HasPrefix(x, what) {
			n++
		}
	}
	return n
}

// describeControl names messages of IGMP, MLD and neighbour discovery, and echo
// requests with their flow label.
func describeControl(frame []byte) string {
	b := frame[ether.HeaderLen:]
	switch ether.Header(frame).Type() {
	case ether.TypeIPv4:
		if h := ipv4.Header(b); h.Protocol() == ipv4.ProtoIGMP {
			return map[byte]string{0x12: "igmp 1", 0x16: "igmp 2", 0x22: "igmp 3"}[b[4*int(b[0]&15)]]
		}
	case ether.TypeIPv6:
		h, at := ipv6.Header(b), ipv6.HeaderLen
		if h.NextHeader() == ipv6.ProtoHopByHop {
			at += 8
		}
		switch b[at] {
		case 131:
			return "mld 1"
		case 143:
			return "mld 2"
		case 135:
			switch {
			case !h.Src().IsUnspecified():
				return "question"
			case len(b) > at+24 && b[at+24] == 14:
				return "probe with nonce"
			}
			return "probe without nonce"
		case 136:
			return "advertisement to " + h.Dst().String()
		case 129:
			if h.FlowLabel() == 0 {
				return "reply without label"
			}
			return "reply with label"
		}
	}
	return ""
}

// openWith opens a host as the flags say, in the lab.
func openWith(t *testing.T, l *lab.Lab, ctx context.Context, args ...string) (*attach.Host, *sent) {
	t.Helper()
	s := new(sent)
	o := attach.Options{TAP: l.Devices[0], MAC: ourMAC.String(), Pcap: filepath.Join(t.TempDir(), "all.pcapng"), Recorder: s}
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	o.Register(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	var h *attach.Host
	inLab(t, l, func() (err error) {
		h, err = o.Open(ctx)
		return err
	})
	return h, s
}

// TestUpWithSettings: what a user sees of the flags that stand for sysctls.
func TestUpWithSettings(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	a := newAdvertiser(t, l, lab.Bridge)
	a.start(fullAdvert) // hop limit 33, a route for 3600 s, prefixes for 86400 s
	for _, set := range []bool{false, true} {
		args := []string{"--slaac"}
		if set {
			args = append(args, "--announce-ipv6", "--dad-nonce=false", "--igmp-version=2", "--mld-version=1", "--ra-min-hop-limit=34", "--ra-min-lifetime=2h",
				"--flow-labels=off", "--neighbour-patience=2", "--redirects=false", "--rp-filter=strict", "--headers6=destination-options=-1")
		}
		ctx := within(t, 4*patience)
		h, s := openWith(t, l, ctx, args...)
		func() {
			defer h.Close()
			own, err := h.Interface.WaitAddr(ctx, func(p netip.Prefix) bool { return p.Addr().IsLinkLocalUnicast() })
			if err != nil {
				t.Fatal(err)
			}
			if err := h.Interface.JoinGroup(netip.MustParseAddr("239.1.2.3")); err != nil {
				t.Fatal(err)
			}
			kinds := map[bool][]string{
				false: {"igmp 3", "mld 2", "probe with nonce"},
				true:  {"igmp 2", "mld 1", "advertisement to ff02::2", "probe without nonce"},
			}
			for _, what := range kinds[set] {
				eventually(t, patience, what, func() bool { return s.has(what) })
			}
			for _, what := range kinds[!set] {
				if s.has(what) {
					t.Errorf("settings %v: %s was sent", set, what)
				}
			}
			hasRoute := func() bool {
				for _, r := range h.Stack.Routes().List() {
					if r.Dst == netip.MustParsePrefix("fd84::/48") {
						return true
					}
				}
				return false
			}
			if !set {
				eventually(t, patience, "the route", hasRoute)
			}
			_, hops := h.Interface.Link6()
			if hasRoute() == set || (hops == 33) == set {
				t.Errorf("settings %v: hop limit %d, routes %v", set, hops, h.Stack.Routes().List())
			}
			run(t, ctx, l, "ping", "-6", "-c", "1", own.Addr().WithZone(lab.Bridge).String())
			want := map[bool]string{false: "reply with label", true: "reply without label"}[set]
			eventually(t, patience, want, func() bool { return s.has(want) })
		}()
	}
}

// TestUpDeaf: pings are left unanswered for which --echo6-ignore says so, and
// without IPv6 nothing of it is sent.
func TestUpDeaf(t *testing.T) {
	t.Parallel()
	program(t, "ping")
	l := newLab(t)
	const ignored = "icmp.drop.foreign-group"
	for _, c := range []struct {
		args        string
		one, groups bool
	}{
		{"", true, true},
		{"--echo6-ignore=groups", true, false},
		{"--echo6-ignore=all", false, false},
	} {
		ctx := within(t, 4*patience)
		h, s := openWith(t, l, ctx, strings.Fields("--dad=false --ip="+our6.String()+" "+c.args)...)
		for _, to := range []struct {
			addr string
			want bool
		}{{our6.Addr().String(), c.one}, {"ff02::1%" + lab.Bridge, c.groups}} {
			replies, refused := s.count("reply"), h.Stack.Counters()[ignored]
			ping, stop := context.WithCancel(ctx)
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, _ = l.Output(ping, "ping", "-6", "-c", "1", to.addr) // what comes of it is looked for at the host
			}()
			eventually(t, patience, "the ping of "+to.addr, func() bool {
				return s.count("reply") > replies || h.Stack.Counters()[ignored] > refused
			})
			stop()
			<-done
			if got := s.count("reply") > replies; got != to.want || h.Stack.Counters()[ignored] > refused == to.want {
				t.Errorf("%q: ping of %s: answered %v", c.args, to.addr, got)
			}
		}
		h.Close()
	}
	h, s := openWith(t, l, within(t, 4*patience), "--no-ipv6", "--ip=10.77.0.7/24")
	defer h.Close()
	run(t, within(t, patience), l, "ping", "-c", "1", "10.77.0.7")
	if s.has("mld") || s.has("probe") || len(h.Interface.Addrs()) != 1 {
		t.Errorf("with --no-ipv6: sent %q, addresses %v", s.list, h.Interface.Addrs())
	}
}
