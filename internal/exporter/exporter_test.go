package exporter

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/tapstack/tapstack/ether"
	"github.com/tapstack/tapstack/ether/wire"
	"github.com/tapstack/tapstack/internal/pkt"
	"github.com/tapstack/tapstack/probe"
	"github.com/tapstack/tapstack/socket"
	"github.com/tapstack/tapstack/stack"
)

// world is an exporter on 10.77.0.1 and fd77::1, and a host on 10.77.0.2 and
// fd77::2, 10 ms apart, in the time of a bubble.
type world struct {
	e    *Exporter
	far  *socket.Network
	near *wire.Port
	port *wire.Port // of the far host
	p    *probe.Prober
}

const delay = 10 * time.Millisecond

type names map[string][]string

func (n names) LookupNetIP(ctx context.Context, _, host string) (list []netip.Addr, err error) {
	if host == "slow.example" {
		<-ctx.Done()
		return nil, &net.DNSError{Err: ctx.Err().Error(), Name: host, IsTimeout: true}
	}
	for _, a := range n[host] {
		list = append(list, netip.MustParseAddr(a))
	}
	if list == nil {
		err = &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return list, err
}

func bubble(t *testing.T, o Options, f func(t *testing.T, w *world)) {
	t.Helper()
	live := pkt.Live()
	t.Cleanup(func() {
		if n := pkt.Live(); n != live {
			t.Errorf("%d buffers are left", n-live)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		seg := wire.New(nil, wire.Options{Pull: true, Delay: delay})
		defer seg.Close()
		host := func(n byte) (*stack.Stack, *socket.Network, *wire.Port) {
			mac := ether.Addr{2, 0, 0, 0, 0, n}
			s := stack.New(stack.Config{Seed: uint64(n)})
			port := seg.Attach(fmt.Sprint("host", n), mac)
			i, err := s.AddInterface(stack.InterfaceConfig{Name: "eth0", Device: port, MAC: mac, NoDAD: true})
			must(t, err)
			for _, a := range []string{"10.77.0.%d/24", "fd77::%d/64"} {
				must(t, i.AddAddr(netip.MustParsePrefix(fmt.Sprintf(a, n))))
			}
			return s, socket.Net(s), port
		}
		a, na, near := host(1)
		defer a.Close()
		b, nb, port := host(2)
		defer b.Close()
		na.Resolver = names{"far.example": {"10.77.0.2"}, "both.example": {"fd77::2", "10.77.0.2"}, "half.example": {"10.77.0.9", "10.77.0.2"}}
		p, err := probe.New(a, probe.Options{})
		must(t, err)
		defer p.Close()
		o.Net, o.Prober = na, p
		f(t, &world{New(o), nb, near, port, p})
		synctest.Wait()
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// serve lets f talk with each connection to a port of the far host.
func (w *world) serve(t *testing.T, port int, f func(c net.Conn)) {
	t.Helper()
	l, err := w.far.Listen("tcp", fmt.Sprintf("[::]:%d", port))
	must(t, err)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				f(c)
			}()
		}
	}()
}

// get asks the exporter.
func get(e *Exporter, query string, header ...string) (status int, body string) {
	r := httptest.NewRequest("GET", query, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// metrics are those of an answer: name{label="value",...} and the number.
func metrics(t *testing.T, body string) map[string]float64 {
	t.Helper()
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		t.Fatalf("%v in\n%s", err, body)
	}
	m := make(map[string]float64)
	for name, f := range families {
		if f.GetType() != dto.MetricType_GAUGE && f.GetType() != dto.MetricType_COUNTER {
			continue
		}
		for _, x := range f.Metric {
			var labels []string
			for _, l := range x.Label {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			key := name
			if labels != nil {
				key += "{" + strings.Join(labels, ",") + "}"
			}
			m[key] = x.GetGauge().GetValue() + x.GetCounter().GetValue()
		}
	}
	return m
}

func (w *world) probe(t *testing.T, query string, header ...string) map[string]float64 {
	t.Helper()
	status, body := get(w.e, "/probe?"+query, header...)
	if status != http.StatusOK {
		t.Fatalf("%s: status %d, %s", query, status, body)
	}
	return metrics(t, body)
}

func (w *world) want(t *testing.T, query string, want map[string]float64, absent ...string) {
	t.Helper()
	got := w.probe(t, query)
	wrong := false
	for k, v := range want {
		if x, ok := got[k]; !ok || x != v {
			t.Errorf("%s: %s is %v (there: %v), want %v", query, k, x, ok, v)
			wrong = true
		}
	}
	for _, k := range absent {
		for g := range got {
			if g == k || strings.HasPrefix(g, k+"{") {
				t.Errorf("%s: there is %s", query, g)
			}
		}
	}
	if wrong {
		t.Logf("%s: %v", query, got)
	}
}

func TestTCP(t *testing.T) {
	modules, err := ReadModules(strings.NewReader(`{"modules": {
		"hello": {"prober": "tcp", "send": "hi\n", "expect": "^hello", "timeout": "2s"},
		"v4": {"prober": "tcp", "preferred_ip_protocol": "ip4"},
		"v6": {"prober": "tcp", "preferred_ip_protocol": "ip6", "ip_protocol_fallback": false},
		"silent": {"prober": "tcp", "require_banner": true, "timeout": "1500ms"}}}`))
	must(t, err)
	bubble(t, Options{Modules: modules}, func(t *testing.T, w *world) {
		w.serve(t, 22, func(c net.Conn) { io.WriteString(c, "SSH-2.0-test\r\n"); io.Copy(io.Discard, c) })
		w.serve(t, 7, func(c net.Conn) { io.Copy(c, c) })
		w.serve(t, 80, func(c net.Conn) {
			b := make([]byte, 1000)
			n, _ := c.Read(b)
			status := "200 OK"
			if !strings.HasPrefix(string(b[:n]), "HEAD /there?a=b HTTP/1.0\r\nHost: far.example\r\n") {
				status = "404 Not Found"
			}
			io.WriteString(c, "HTTP/1.1 "+status+"\r\nServer: test\r\n\r\n")
		})
		w.probe(t, "module=icmp&target=10.77.0.2") // ARP is done
		w.want(t, "module=ssh&target=far.example", map[string]float64{
			"probe_success": 1, "probe_ip_protocol": 4, `tapstack_probe_verdict{verdict="open"}`: 1, `tapstack_probe_verdict{verdict="closed"}`: 0,
			"tapstack_probe_syns": 1, "tapstack_probe_answered_syn": 1, "tapstack_probe_handshake_rtt_seconds": 2 * delay.Seconds(),
			"tapstack_probe_retransmissions": 0, "tapstack_probe_peer_mss_bytes": 1460, "tapstack_probe_path_mtu_bytes": 1500, "tapstack_probe_addresses_tried": 1,
			`tapstack_probe_handshake_info{ecn="none",sack="true",timestamps="true",window_scale="true"}`: 1,
		}, "probe_failed_due_to_regex", "tapstack_probe_failure_info", "probe_ssl_earliest_cert_expiry")
		w.want(t, "module=tcp_connect&target=[fd77::2]:22", map[string]float64{"probe_success": 1, "probe_ip_protocol": 6})
		w.want(t, "module=tcp_connect&target=10.77.0.2:23", map[string]float64{"probe_success": 0, `tapstack_probe_verdict{verdict="closed"}`: 1, "tapstack_probe_reset": 1,
			`tapstack_probe_failure_info{errno="ECONNREFUSED",icmp_code="",icmp_from="",icmp_type="",phase="connect"}`: 1})
		w.want(t, "module=tcp_connect&target=10.77.0.99:23", map[string]float64{"probe_success": 0, `tapstack_probe_verdict{verdict="no-neighbour"}`: 1})
		w.want(t, "module=hello&target=10.77.0.2:7", map[string]float64{"probe_success": 0, "probe_failed_due_to_regex": 1, `tapstack_probe_verdict{verdict="mismatch"}`: 1})
		w.want(t, "module=silent&target=10.77.0.2:7", map[string]float64{"probe_success": 0, `tapstack_probe_verdict{verdict="silent"}`: 1})
		w.want(t, "module=v4&target=both.example:22", map[string]float64{"probe_success": 1, "probe_ip_protocol": 4})
		w.want(t, "module=v6&target=both.example:22", map[string]float64{"probe_success": 1, "probe_ip_protocol": 6})
		w.want(t, "module=v4&target=[fd77::2]:22", map[string]float64{"probe_success": 1, "probe_ip_protocol": 6})
		w.want(t, "module=v6&target=far.example:22", map[string]float64{"probe_success": 0, `tapstack_probe_verdict{verdict="unresolved"}`: 1}, "probe_ip_protocol")
		w.want(t, "module=tcp_connect&target=nowhere.example:22", map[string]float64{"probe_success": 0, `tapstack_probe_verdict{verdict="unresolved"}`: 1})
		// The first address does not answer; the second one gets its time, too.
		w.want(t, "module=tcp_connect&target=half.example:22", map[string]float64{"probe_success": 1, "tapstack_probe_addresses_tried": 2, "probe_ip_protocol": 4})
		w.want(t, "target="+url.QueryEscape("http://far.example/there?a=b"), map[string]float64{"probe_success": 1, "probe_http_status_code": 200, "probe_http_version": 1.1,
			"probe_http_ssl": 0, `probe_http_duration_seconds{phase="connect"}`: 2 * delay.Seconds(), `probe_http_duration_seconds{phase="tls"}`: 0})
		w.want(t, "module=http_2xx&target=far.example", map[string]float64{"probe_success": 0, "probe_http_status_code": 404})
		w.want(t, "module=http&target=far.example:80", map[string]float64{"probe_success": 1, "probe_http_status_code": 404})
		w.want(t, "module=http_2xx&hostname=far.example&target="+url.QueryEscape("http://10.77.0.2/there?a=b"), map[string]float64{"probe_success": 1})
		w.want(t, "module=http_2xx&target=10.77.0.2:81", map[string]float64{"probe_success": 0, "probe_http_status_code": 0})
	})
}

// TestLostSYN: a SYN that was lost is told as that and not as a slow path.
func TestLostSYN(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, w *world) {
		w.serve(t, 22, func(c net.Conn) { io.WriteString(c, "SSH-2.0-test\r\n"); io.Copy(io.Discard, c) })
		w.want(t, "module=icmp&target=10.77.0.2", map[string]float64{"probe_success": 1}) // ARP is done
		lost := false
		w.near.SetImpairment(wire.Impairment{Delay: delay, Drop: func(f []byte) bool {
			first := !lost && len(f) > 47 && f[23] == 6 && f[47]&0x12 == 0x02
			lost = lost || first
			return first
		}})
		w.want(t, "module=tcp_connect&target=10.77.0.2:22", map[string]float64{"probe_success": 1, "tapstack_probe_handshake_rtt_seconds": 2 * delay.Seconds(),
			"tapstack_probe_syns": 2, "tapstack_probe_answered_syn": 2, "tapstack_probe_retransmissions": 1})
	})
}

func TestPackets(t *testing.T) {
	modules, err := ReadModules(strings.NewReader(`{"modules": {
		"five": {"prober": "icmp", "count": 5, "interval": "100ms", "payload_size": 100},
		"from": {"prober": "icmp", "source_ip_address": "10.9.9.9"},
		"syn": {"prober": "trace", "protocol": "tcp", "port": 7, "count": 2}}}`))
	must(t, err)
	bubble(t, Options{Modules: modules}, func(t *testing.T, w *world) {
		w.serve(t, 7, func(c net.Conn) {})
		pc, err := w.far.ListenPacket("udp", ":5000")
		must(t, err)
		go func() {
			b := make([]byte, 100)
			for {
				n, from, err := pc.ReadFrom(b)
				if err != nil {
					return
				}
				pc.WriteTo(b[:n], from)
			}
		}()
		names, err := w.far.ListenPacket("udp", ":53")
		must(t, err)
		go func() {
			b := make([]byte, 100)
			for {
				n, from, err := names.ReadFrom(b)
				if err != nil {
					return
				}
				b[2] |= 0x80
				b[7], b[9], b[11] = 13, 2, 1
				names.WriteTo(b[:n], from)
			}
		}()
		w.want(t, "module=dns&target=10.77.0.2", map[string]float64{"probe_success": 1, "probe_dns_query_succeeded": 1, "probe_dns_answer_rrs": 13,
			"probe_dns_authority_rrs": 2, "probe_dns_additional_rrs": 1})
		w.want(t, "module=dns&target=10.77.0.2:54", map[string]float64{"probe_success": 0, "probe_dns_query_succeeded": 0}, "probe_dns_answer_rrs")
		rtt := 2 * delay.Seconds()
		w.probe(t, "module=icmp&target=10.77.0.2") // ARP is done
		w.want(t, "module=icmp&target=far.example", map[string]float64{"probe_success": 1, `probe_icmp_duration_seconds{phase="rtt"}`: rtt, `probe_icmp_duration_seconds{phase="resolve"}`: 0,
			"probe_icmp_reply_hop_limit": 64, "tapstack_probe_reply_hops": 0, "probe_ip_protocol": 4, `tapstack_probe_icmp_packets{what="sent"}`: 1, "tapstack_probe_icmp_loss_ratio": 0, "probe_duration_seconds": rtt})
		w.probe(t, "module=icmp&target=fd77::2")
		w.want(t, "module=five&target=fd77::2", map[string]float64{"probe_success": 1, `tapstack_probe_icmp_packets{what="received"}`: 5, "probe_ip_protocol": 6,
			`tapstack_probe_icmp_rtt_seconds{stat="max"}`: rtt, "tapstack_probe_icmp_jitter_seconds": 0})
		w.want(t, "module=icmp&target=10.77.0.99", map[string]float64{"probe_success": 0, "tapstack_probe_icmp_loss_ratio": 1,
			`tapstack_probe_failure_info{errno="EHOSTUNREACH",icmp_code="",icmp_from="10.77.0.1",icmp_type="",phase="recv"}`: 1}, "probe_icmp_reply_hop_limit")
		w.want(t, "module=icmp&target=192.0.2.1", map[string]float64{"probe_success": 0, `tapstack_probe_failure_info{errno="ENETUNREACH",icmp_code="",icmp_from="",icmp_type="",phase="connect"}`: 1})
		w.want(t, "module=icmp&target=nowhere.example", map[string]float64{"probe_success": 0}, "probe_ip_protocol")
		w.want(t, "module=from&target=10.77.0.2", map[string]float64{"probe_success": 0, `tapstack_probe_failure_info{errno="EADDRNOTAVAIL",icmp_code="",icmp_from="",icmp_type="",phase="connect"}`: 1})
		w.want(t, "module=mtu&target=10.77.0.2", map[string]float64{"probe_success": 1, "tapstack_probe_path_mtu_bytes": 1500, "tapstack_probe_path_mtu_black_hole": 0, "tapstack_probe_path_mtu_complete": 1})
		w.want(t, "module=trace&target=10.77.0.2", map[string]float64{"probe_success": 1, "tapstack_probe_hops": 1, `tapstack_probe_trace_end_info{end="reached"}`: 1,
			`tapstack_probe_hop_rtt_seconds{address="10.77.0.2",hop="1"}`: rtt, `tapstack_probe_hop_loss_ratio{address="10.77.0.2",hop="1"}`: 0})
		w.want(t, "module=syn&target=10.77.0.2", map[string]float64{"probe_success": 1, "tapstack_probe_hops": 1})
		w.want(t, "module=udp&target=10.77.0.2:5000", map[string]float64{"probe_success": 1, `tapstack_probe_verdict{verdict="open"}`: 1})
		w.want(t, "module=udp&target=10.77.0.2:5001", map[string]float64{"probe_success": 0, `tapstack_probe_verdict{verdict="closed"}`: 1,
			`tapstack_probe_failure_info{errno="ECONNREFUSED",icmp_code="3",icmp_from="10.77.0.2",icmp_type="3",phase="recv"}`: 1})
	})
}

// TestTimeouts: a probe ends half a second before Prometheus gives up, or when
// its module says so.
func TestTimeouts(t *testing.T) {
	modules := Presets()
	short := &Module{Prober: ProberUDP, Timeout: Duration(time.Second)}
	must(t, short.prepare("short"))
	modules["short"] = short
	bubble(t, Options{Modules: modules}, func(t *testing.T, w *world) {
		pc, err := w.far.ListenPacket("udp", ":5000") // which says nothing
		must(t, err)
		defer pc.Close()
		w.port.SetImpairment(wire.Impairment{Delay: delay, Drop: func(f []byte) bool { return f[12] == 8 && f[13] == 0 }})
		for _, c := range []struct {
			query, header string
			want          time.Duration
		}{
			{"module=udp&target=10.77.0.2:5000", "3", 2500 * time.Millisecond},
			{"module=udp&target=10.77.0.2:5000", "0.4", 400 * time.Millisecond},
			{"module=udp&target=10.77.0.2:5000", "", defaultTimeout},
			{"module=short&target=10.77.0.2:5000", "3", time.Second},
			{"module=short&target=10.77.0.2:5000", "", time.Second},
			{"module=short&target=10.77.0.2:5000", "1", 500 * time.Millisecond},
			{"module=icmp&target=10.77.0.2", "2", 1500 * time.Millisecond},
			{"module=tcp_connect&target=10.77.0.2:1", "2", 1500 * time.Millisecond},
			{"module=tcp_connect&target=slow.example:1", "2", 1500 * time.Millisecond},
			{"module=mtu&target=10.77.0.2", "2", 0},
			{"module=udp&target=10.77.0.2:5000", "1000000", maxTimeout - DefaultOffset},
		} {
			begin := time.Now()
			m := w.probe(t, c.query, "X-Prometheus-Scrape-Timeout-Seconds", c.header)
			took := time.Since(begin)
			if m["probe_success"] != 0 || c.want > 0 && took.Round(5*time.Millisecond) != c.want || c.want == 0 && took > 2*time.Second || m["probe_duration_seconds"] != took.Seconds() {
				t.Errorf("%s of %q: after %v, want %v: %v", c.query, c.header, took, c.want, m)
			}
		}
	})
}

// TestParallel: more probes than there may be wait, and those that wait for too
// long are told so.
func TestParallel(t *testing.T) {
	bubble(t, Options{Parallel: 2}, func(t *testing.T, w *world) {
		w.port.SetImpairment(wire.Impairment{Delay: delay, Drop: func(f []byte) bool { return f[12] == 8 && f[13] == 0 }})
		begin := time.Now()
		status := make(chan int, 5)
		ask := func(seconds string) {
			code, body := get(w.e, "/probe?module=icmp&target=10.77.0.2", "X-Prometheus-Scrape-Timeout-Seconds", seconds)
			if code == http.StatusServiceUnavailable && (strings.Count(body, "\n") != 1 || !strings.Contains(body, "2 probes are under way")) {
				t.Errorf("%q", body)
			}
			status <- code
		}
		for range 2 {
			go ask("2.5")
		}
		synctest.Wait()
		go ask("1.5") // gives up
		go ask("4.5") // has its turn
		if c := <-status; c != http.StatusServiceUnavailable || time.Since(begin) != time.Second {
			t.Errorf("%d after %v", c, time.Since(begin))
		}
		for range 3 {
			if c := <-status; c != http.StatusOK {
				t.Errorf("status %d", c)
			}
		}
		if d := time.Since(begin).Round(5 * time.Millisecond); d != 4*time.Second {
			t.Errorf("%v", d)
		}
		want := `
# HELP tapstack_exporter_probes_total Probes that were made, by module and by whether they succeeded
# TYPE tapstack_exporter_probes_total counter
tapstack_exporter_probes_total{module="icmp",success="false"} 3
# HELP tapstack_exporter_probes_in_flight Probes that are under way
# TYPE tapstack_exporter_probes_in_flight gauge
tapstack_exporter_probes_in_flight 0
# HELP tapstack_exporter_refused_total Requests that were refused, by reason
# TYPE tapstack_exporter_refused_total counter
tapstack_exporter_refused_total{reason="busy"} 1
tapstack_exporter_refused_total{reason="module"} 0
tapstack_exporter_refused_total{reason="no-stack"} 0
tapstack_exporter_refused_total{reason="target"} 0
tapstack_exporter_refused_total{reason="timeout"} 0
`
		if err := testutil.GatherAndCompare(w.e.own, strings.NewReader(want), "tapstack_exporter_probes_total", "tapstack_exporter_probes_in_flight", "tapstack_exporter_refused_total"); err != nil {
			t.Error(err)
		}
	})
}

// TestQueue: those that wait are bounded, too.
func TestQueue(t *testing.T) {
	bubble(t, Options{Parallel: 1}, func(t *testing.T, w *world) {
		w.port.SetImpairment(wire.Impairment{Delay: delay, Drop: func(f []byte) bool { return f[12] == 8 && f[13] == 0 }})
		status := make(chan int, 1+maxWaiting)
		for range 1 + maxWaiting {
			go func() {
				code, _ := get(w.e, "/probe?module=icmp&target=10.77.0.2", "X-Prometheus-Scrape-Timeout-Seconds", "2.5")
				status <- code
			}()
		}
		synctest.Wait()
		begin := time.Now()
		if code, body := get(w.e, "/probe?module=icmp&target=10.77.0.2"); code != http.StatusServiceUnavailable || !strings.Contains(body, "1024 wait") || time.Since(begin) != 0 {
			t.Errorf("%d %q after %v", code, body, time.Since(begin))
		}
		count := make(map[int]int)
		for range 1 + maxWaiting {
			count[<-status]++
		}
		// The first probe takes all the time that the others have, too.
		if count[http.StatusOK] < 1 || count[http.StatusOK]+count[http.StatusServiceUnavailable] != 1+maxWaiting {
			t.Errorf("%v", count)
		}
	})
}

// TestClientGone: a probe ends with the request that it is for.
func TestClientGone(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, w *world) {
		w.port.SetImpairment(wire.Impairment{Delay: delay, Drop: func(f []byte) bool { return f[12] == 8 && f[13] == 0 }})
		for _, q := range []string{"module=icmp&target=10.77.0.2", "module=tcp_connect&target=10.77.0.2:1", "module=trace&target=10.77.0.2", "module=mtu&target=10.77.0.2"} {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			begin := time.Now()
			w.e.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", "/probe?"+q, nil))
			if d := time.Since(begin); d > 1001*time.Millisecond {
				t.Errorf("%s: %v", q, d)
			}
		}
	})
}

// TestRefused: what cannot be probed is told in one line.
func TestRefused(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, w *world) {
		for query, want := range map[string]string{
			"":                                                     "target is missing",
			"module=icmp":                                          "target is missing",
			"target=10.77.0.2&module=gopher":                       `there is no module "gopher"; there are dns, `,
			"target=a&target=b&module=icmp":                        "target is given 2 times",
			"target=a&module=icmp&module=udp":                      "module is given 2 times",
			"target=10.77.0.2:7&module=icmp":                       "no port, want a host",
			"target=10.77.0.2&module=tcp_connect":                  "no port, want HOST:PORT",
			"target=10.77.0.2:0&module=tcp_connect":                "is no port",
			"target=10.77.0.2:xyz&module=tcp_connect":              "is no port",
			"target=[fd77::2:22&module=tcp_connect":                "neither a name nor an address",
			"target=a..b:1&module=tcp_connect":                     "neither a name nor an address",
			"target=a%0ab:1&module=tcp_connect":                    "neither a name nor an address",
			"target=-&module=icmp%0a":                              "there is no module",
			"target=http://a/&module=ssh":                          "a URL is of modules for http only",
			"target=ftp://a/&module=http":                          "want http or https",
			"target=http://u:p@a/&module=http":                     "password",
			"target=http://a/%25zz&module=http":                    "not a URL",
			"target=a:1&module=tcp_connect&hostname=x%20y":         "hostname",
			"target=" + strings.Repeat("a", 3000) + "&module=icmp": "longer than",
			"target=" + strings.Repeat("a", 300) + "&module=icmp":  "no host",
			"target=" + strings.Repeat("a", 64) + ".b&module=icmp": "neither a name",
			"target=%zz": "the query cannot be read",
		} {
			status, body := get(w.e, "/probe?"+query)
			if status != http.StatusBadRequest || !strings.Contains(body, want) || strings.Count(body, "\n") != 1 {
				t.Errorf("%s: %d %q, want %q", query, status, body, want)
			}
		}
		for _, h := range []string{"x", "0", "-1", "NaN", "1e9"} {
			if status, body := get(w.e, "/probe?module=icmp&target=10.77.0.2", "X-Prometheus-Scrape-Timeout-Seconds", h); status != http.StatusBadRequest || !strings.Contains(body, "want seconds") {
				t.Errorf("%s: %d %s", h, status, body)
			}
		}
		if status, _ := get(w.e, "/nothing"); status != http.StatusNotFound {
			t.Error(status)
		}
		w.e.o.Prober = nil
		if status, body := get(w.e, "/probe?module=icmp&target=10.77.0.2"); status != http.StatusBadRequest || !strings.Contains(body, "needs a stack") {
			t.Errorf("%d %s", status, body)
		}
	})
}

// TestPages: what people read, and what is told of the exporter itself.
func TestPages(t *testing.T) {
	o := Options{Counters: func() map[string]uint64 { return map[string]uint64{"ipv4.input": 7} }}
	bubble(t, o, func(t *testing.T, w *world) {
		for path, want := range map[string]string{
			"/":          "<li>trace (trace): a host",
			"/-/healthy": "healthy",
			"/metrics":   `tapstack_stack_events_total{name="ipv4.input"} 7`,
			"/probe?debug=true&module=icmp&target=10.77.0.2":          "1 sent, 1 received",
			"/probe?debug=true&module=tcp_connect&target=10.77.0.2:9": `"verdict": "closed"`,
		} {
			status, body := get(w.e, path)
			if status != http.StatusOK || !strings.Contains(body, want) {
				t.Errorf("%s: %d %s", path, status, body)
			}
			if _, text, ok := strings.Cut(body, "\nMetrics:\n"); strings.Contains(path, "debug") && (!ok || len(metrics(t, text)) < 5) {
				t.Errorf("%s: %s", path, body)
			}
		}
		problems, err := testutil.GatherAndLint(w.e.own, "tapstack_exporter_probes_total", "tapstack_exporter_refused_total", "tapstack_exporter_probe_duration_seconds", "tapstack_stack_events_total")
		if err != nil || len(problems) > 0 {
			t.Errorf("%v %v", problems, err)
		}
	})
}

func TestRouters(t *testing.T) {
	for ttl, want := range map[int]int{64: 0, 61: 3, 128: 0, 120: 8, 255: 0, 250: 5, 30: 2} {
		if got := routers(ttl); got != want {
			t.Errorf("%d: %d, want %d", ttl, got, want)
		}
	}
}

func TestReadModules(t *testing.T) {
	for text, want := range map[string]string{
		``:                                      "EOF",
		`{"modules": {}} {}`:                    "something follows",
		`{"moduls": {}}`:                        "unknown field",
		`{"modules": {"a": {"probe": "icmp"}}}`: "unknown field",
		`{"modules": {"a": null}}`:              "nothing in it",
		`{"modules": {"a": {}}}`:                "want a prober",
		`{"modules": {"": {"prober":"icmp"}}}`:  "needs a name",
		`{"modules": {"a": {"prober": "x"}}}`:   "want icmp, tcp",
		`{"modules": {"a": {"service": "x"}}}`:  "none of this name",
		`{"modules": {"a": {"service": "dns", "prober": "tcp"}}}`:                    "is over udp",
		`{"modules": {"a": {"prober": "icmp", "timeout": 5}}}`:                       `want a time as "5s"`,
		`{"modules": {"a": {"prober": "icmp", "timeout": "-5s"}}}`:                   `want a time as "5s"`,
		`{"modules": {"a": {"prober": "icmp", "timeout": "1h"}}}`:                    "timeout is out of range",
		`{"modules": {"a": {"prober": "icmp", "count": 100000}}}`:                    "count is out of range",
		`{"modules": {"a": {"prober": "icmp", "preferred_ip_protocol": "4"}}}`:       "want ip4 or ip6",
		`{"modules": {"a": {"prober": "icmp", "source_ip_address": "x"}}}`:           "not an address",
		`{"modules": {"a": {"prober": "icmp", "send": "x"}}}`:                        "sends no text",
		`{"modules": {"a": {"prober": "icmp", "protocol": "udp"}}}`:                  "no protocol",
		`{"modules": {"a": {"prober": "trace", "protocol": "gre"}}}`:                 "unknown protocol",
		`{"modules": {"a": {"prober": "trace", "ttl": 3}}}`:                          "chooses the TTL",
		`{"modules": {"a": {"prober": "mtu", "payload_size": 3}}}`:                   "chooses size",
		`{"modules": {"a": {"prober": "tcp", "count": 3}}}`:                          "has none of count",
		`{"modules": {"a": {"prober": "tcp", "send": "a", "send_hex": "61"}}}`:       "one of the two",
		`{"modules": {"a": {"prober": "tcp", "send_hex": "6"}}}`:                     "send_hex",
		`{"modules": {"a": {"prober": "tcp", "expect": "("}}}`:                       "expect",
		`{"modules": {"a": {"prober": "tcp", "path": "/"}}}`:                         "are of service http",
		`{"modules": {"a": {"service": "http", "path": "x"}}}`:                       "as in a URL",
		`{"modules": {"a": {"service": "http", "send": "x"}}}`:                       "request of its own",
		`{"modules": {"a": {"prober": "udp", "tls": true}}}`:                         "TLS is over tcp",
		`{"modules": {"a": {"prober": "tcp", "alpn": ["h2"]}}}`:                      "settings of TLS",
		`{"modules": {"a": {"prober": "tcp", "starttls": "x"}}}`:                     "want one of",
		`{"modules": {"a": {"prober": "tcp", "tls": true, "tls_ca": "/dev/null"}}}`:  "no certificate",
		`{"modules": {"a": {"prober": "tcp", "tls": true, "tls_ca": "/dev/no/no"}}}`: "tls_ca",
	} {
		if _, err := ReadModules(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	m, err := ReadModules(strings.NewReader(`{"modules": {"icmp": {"prober": "icmp", "count": 3}, "more": {"service": "https", "alpn": ["h2"], "valid_days": 14}}}`))
	if err != nil || m["icmp"].Count != 3 || m["more"].Prober != ProberTCP || m["ssh"] == nil || m["smtp_starttls"].StartTLS != "smtp" {
		t.Errorf("%v %+v", err, m)
	}
}

// FuzzTarget: what a target is taken for can be probed: a host that is a name or
// an address, and for those that need one a port.
func FuzzTarget(f *testing.F) {
	for _, s := range []string{"a", "a:1", "[::1]:2", "::1", "http://a:8/b?c", "https://[fe80::1%25eth0]/", "[a]", "a.:1"} {
		f.Add(s)
	}
	presets := Presets()
	f.Fuzz(func(t *testing.T, text string) {
		for name, m := range presets {
			got, err := m.target(text)
			if err != nil {
				continue
			}
			if e := checkHost(got.host); e != nil || (got.port == 0) != m.packets() || strings.ContainsAny(got.path, " \r\n") {
				t.Errorf("%s %q: %+v %v", name, text, got, e)
			}
		}
	})
}

// TestOffset: none is none, and not the default.
func TestOffset(t *testing.T) {
	for offset, want := range map[time.Duration]time.Duration{0: time.Second - DefaultOffset, -1: time.Second, 100 * time.Millisecond: 900 * time.Millisecond} {
		e := New(Options{Net: new(socket.Network), Offset: offset})
		if d, err := e.limit(new(Module), "1"); err != nil || d != want {
			t.Errorf("offset %v: %v, %v", offset, d, err)
		}
	}
}
