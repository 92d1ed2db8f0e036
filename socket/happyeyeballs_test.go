package socket_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/socket"
)

// attempts notes which addresses a dialer has tried, and when.
type attempts struct {
	mu    sync.Mutex
	began time.Time
	list  []string
}

func (a *attempts) control(_, address string, _ *socket.FD) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list = append(a.list, fmt.Sprint(address, " ", time.Since(a.began).Round(time.Millisecond)))
	return nil
}

// TestHappyEyeballs: all addresses of a name are tried, the families in turn, each
// 250 ms after the one before, or at once, which is 10 ms, after one that refused;
// the first that answers ends the others (RFC 8305 §4, §5).
func TestHappyEyeballs(t *testing.T) {
	// 10.77.0.1x and fd77::1x are nobody's; of these two nothing is ever heard.
	const black4, black6 = "10.77.0.10:80", "[fd77::10]:80"
	for _, c := range []struct {
		name   string
		names  fixedNames
		dialer socket.Dialer
		on     string
		refuse bool
		want   []string
		peer   string
	}{
		{name: "families in turn", names: fixedNames{"10.77.0.10", "10.77.0.11", "10.77.0.2", "fd77::10", "fd77::11"},
			want: []string{black4 + " 0s", black6 + " 250ms", "10.77.0.11:80 500ms", "[fd77::11]:80 750ms", "10.77.0.2:80 1s"}, peer: "10.77.0.2:80"},
		{name: "two of the first family", names: fixedNames{"10.77.0.10", "10.77.0.11", "10.77.0.12", "fd77::10", "fd77::2"}, dialer: socket.Dialer{FirstFamilyCount: 2},
			want: []string{black4 + " 0s", "10.77.0.11:80 250ms", black6 + " 500ms", "10.77.0.12:80 750ms", "[fd77::2]:80 1s"}, peer: "[fd77::2]:80"},
		{name: "one family", names: fixedNames{"10.77.0.10", "10.77.0.11", "10.77.0.2"}, on: "tcp4",
			want: []string{black4 + " 0s", "10.77.0.11:80 250ms", "10.77.0.2:80 500ms"}, peer: "10.77.0.2:80"},
		{name: "another delay", names: fixedNames{"10.77.0.10", "fd77::2"}, dialer: socket.Dialer{FallbackDelay: time.Millisecond},
			want: []string{black4 + " 0s", "[fd77::2]:80 10ms"}, peer: "[fd77::2]:80"},
		{name: "all refuse", names: fixedNames{"10.77.0.2", "fd77::2"}, refuse: true,
			want: []string{"10.77.0.2:80 0s", "[fd77::2]:80 10ms"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := newPair(t, wire.Options{})
				if !c.refuse {
					l, err := p.nb.Listen("tcp", ":80")
					must(t, err)
					defer l.Close()
					go func() {
						for c, err := l.Accept(); err == nil; c, err = l.Accept() {
							c.Close()
						}
					}()
				}
				a := attempts{began: time.Now()}
				d := c.dialer
				d.Net, d.Resolver, d.Control = p.na, c.names, a.control
				network := "tcp"
				if c.on != "" {
					network = c.on
				}
				conn, err := d.DialContext(bg, network, "name.example:80")
				peer := ""
				if err == nil {
					peer = conn.RemoteAddr().String()
					conn.Close()
				} else if !c.refuse || err.Error() != "dial tcp 10.77.0.2:80: connect: connection refused" {
					t.Errorf("%v", err)
				}
				if !slices.Equal(a.list, c.want) || peer != c.peer {
					t.Errorf("tried %q, connected to %s", a.list, peer)
				}
				// What lost is gone: nothing is left that would send SYNs.
				time.Sleep(time.Second)
				sent := p.a.Counters()["tcp.output"]
				time.Sleep(2 * time.Minute)
				if more := p.a.Counters()["tcp.output"] - sent; more != 0 || sent == 0 {
					t.Errorf("%d segments, and %d after the end", sent, more)
				}
			})
		})
	}
}

// TestResolutionDelay: addresses of IPv6 are tried as soon as they are known,
// those of IPv4 wait 50 ms for them; what comes later joins the attempts
// (RFC 8305 §3, §6).
func TestResolutionDelay(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name   string
		a, six time.Duration // of the answers, below 0: none
		empty  bool          // no address of IPv6
		black  bool          // that of IPv4 does not answer
		delay  time.Duration
		want   []string
	}{
		{name: "IPv6 first", six: 0, a: time.Second, want: []string{"[2001:db8:77::2]:80 0s"}},
		{name: "IPv4 first", a: 0, six: 30 * ms, want: []string{"[2001:db8:77::2]:80 30ms"}},
		{name: "IPv6 too late", a: 0, six: 400 * ms, want: []string{"10.77.0.2:80 50ms"}},
		{name: "no IPv6", a: 0, six: 20 * ms, empty: true, want: []string{"10.77.0.2:80 20ms"}},
		{name: "no answer", a: 0, six: -1, want: []string{"10.77.0.2:80 50ms"}},
		{name: "in the middle", a: 0, six: 100 * ms, black: true, want: []string{"10.77.0.10:80 50ms", "[2001:db8:77::2]:80 300ms"}},
		{name: "after the delay", a: 0, six: 400 * ms, black: true, want: []string{"10.77.0.10:80 50ms", "[2001:db8:77::2]:80 400ms"}},
		{name: "no delay", a: 0, six: 30 * ms, delay: -1, want: []string{"10.77.0.2:80 0s"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := newPair(t, wire.Options{})
				// RFC 6724 puts IPv4 before the prefix of the others.
				must(t, p.ia.AddAddr(netip.MustParsePrefix("2001:db8:77::1/64")))
				must(t, p.ib.AddAddr(netip.MustParsePrefix("2001:db8:77::2/64")))
				l, err := p.nb.Listen("tcp", ":80")
				must(t, err)
				defer l.Close()
				four := "A 10.77.0.2"
				if c.black {
					four = "A 10.77.0.10"
				}
				records := []string{four, "AAAA 2001:db8:77::2"}
				if c.empty {
					records = records[:1]
				}
				// Two servers in one, lest one question waits for the other.
				serveSlowly(t, p.nb, records, c.a, c.six)
				p.na.SetDNS(netip.MustParseAddr("10.77.0.2"))
				a := attempts{began: time.Now()}
				d := socket.Dialer{Net: p.na, ResolutionDelay: c.delay, Control: a.control}
				conn, err := d.DialContext(bg, "tcp", "name.example:80")
				if err != nil {
					t.Fatal(err)
				}
				conn.Close()
				if !slices.Equal(a.list, c.want) {
					t.Errorf("tried %q, want %q", a.list, c.want)
				}
				time.Sleep(2 * time.Second) // the last answers
			})
		})
	}
}

// serveSlowly answers for name.example, for each type after a time of its own.
func serveSlowly(t *testing.T, n *socket.Network, records []string, a, six time.Duration) {
	t.Helper()
	pc, err := n.ListenPacket("udp", ":53")
	must(t, err)
	t.Cleanup(func() { pc.Close() })
	d := &dnsServer{records: map[string][]string{"name.example.": records}}
	go func() {
		b := make([]byte, 1500)
		for {
			k, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			m := d.answer("udp", b[:k])
			wait := a
			if m.Questions[0].Type == dnsmessage.TypeAAAA {
				wait = six
			}
			if wait < 0 {
				continue
			}
			go func() {
				time.Sleep(wait)
				out, _ := m.Pack()
				pc.WriteTo(out, from)
			}()
		}
	}()
}

// slowNames is a Resolver that does not look at its context.
type slowNames struct{ fixedNames }

func (r slowNames) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	time.Sleep(time.Second)
	return r.fixedNames.LookupNetIP(ctx, network, host)
}

// TestHappyEyeballsErrors: what a dial fails with that has tried nothing.
func TestHappyEyeballsErrors(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		for _, c := range []struct {
			name   string
			dialer socket.Dialer
			on     string
			want   string
		}{
			{"no address of the family", socket.Dialer{Resolver: fixedNames{"10.77.0.2"}}, "tcp6", "dial tcp6: address name.example: no suitable address found"},
			{"none that the local one reaches", socket.Dialer{Resolver: fixedNames{"10.77.0.2", "10.77.0.3"}, LocalAddr: &net.TCPAddr{IP: net.IPv6loopback}}, "tcp", "dial tcp: address [::1]:0: no suitable address found"},
			{"too late", socket.Dialer{Resolver: slowNames{fixedNames{"10.77.0.2", "10.77.0.3"}}, Timeout: time.Millisecond}, "tcp", "dial tcp 10.77.0.2:80: i/o timeout"},
			{"no name", socket.Dialer{}, "tcp", "dial tcp: lookup name.example: no DNS server is known"},
		} {
			c.dialer.Net = p.na
			if _, err := c.dialer.Dial(c.on, "name.example:80"); err == nil || err.Error() != c.want {
				t.Errorf("%s: %v, want %s", c.name, err, c.want)
			}
		}
	})
}

// TestManyAttempts: however many addresses a name has, only 16 are waited for at a
// time; when one of those has failed the next is tried.
func TestManyAttempts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := newPair(t, wire.Options{})
		silence(p.pa, 6)
		// fd77::2 is there, and never hears a SYN: each attempt lasts two minutes.
		must(t, p.ib.DelAddr(netip.MustParseAddr("fd77::2")))
		var names fixedNames
		for n := range 30 {
			a := netip.MustParsePrefix(fmt.Sprintf("fd77::%x/64", 0x100+n))
			must(t, p.ib.AddAddr(a))
			names = append(names, a.Addr().String())
		}
		a := attempts{began: time.Now()}
		d := socket.Dialer{Net: p.na, Resolver: names, Control: a.control, Timeout: time.Minute}
		if _, err := d.Dial("tcp", "name.example:80"); err == nil || err.Error() != "dial tcp [fd77::100]:80: i/o timeout" {
			t.Errorf("%v", err)
		}
		if len(a.list) != 16 {
			t.Errorf("%d attempts: %q", len(a.list), a.list)
		}
		a.list = nil
		d.Timeout = 10 * time.Minute
		if _, err := d.Dial("tcp", "name.example:80"); err == nil || err.Error() != "dial tcp [fd77::100]:80: connect: connection timed out" {
			t.Errorf("%v", err)
		}
		if len(a.list) != 30 {
			t.Errorf("%d attempts: %q", len(a.list), a.list)
		}
	})
}
