package interop

// The exporter's modules against the servers of TestCheckServices: what
// Prometheus is told of each, over the stack and over the kernel's sockets.

import (
	"fmt"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/tapstack/tapstack/internal/exporter"
	"github.com/tapstack/tapstack/socket/kernel"
)

// exported asks exporters on both sides about a row, and wants success.
func exported(t *testing.T, h *host, row probe) {
	t.Helper()
	if row.service == "" && row.start == "" && !row.tls {
		return
	}
	modules, err := exporter.ReadModules(strings.NewReader(fmt.Sprintf(
		`{"modules": {"row": {"prober": %q, "service": %q, "starttls": %q, "tls": %v, "insecure_skip_verify": %v}}}`,
		map[bool]string{true: "udp", false: "tcp"}[row.service == "dns" || row.service == "ntp"], row.service, row.start, row.tls,
		row.tls || row.start != "" || row.service == "https" || strings.HasSuffix(row.service, "s") && len(row.service) == 5 && row.service != "redis")))
	if err != nil {
		t.Fatal(err)
	}
	query := "/probe?module=row&target=" + url.QueryEscape(fmt.Sprintf("%s:%d", kernelHost, row.port))
	for side, ask := range map[string]func(r *httptest.ResponseRecorder){
		"stack": func(w *httptest.ResponseRecorder) {
			exporter.New(exporter.Options{Net: h.net, Modules: modules}).ServeHTTP(w, httptest.NewRequest("GET", query, nil))
		},
		"kernel": func(w *httptest.ResponseRecorder) {
			h.lab.Do(func() {
				exporter.New(exporter.Options{Net: &kernel.Network{}, Modules: modules}).ServeHTTP(w, httptest.NewRequest("GET", query, nil))
			})
		},
	} {
		// A machine that stands still sends a second SYN, or waits too long.
		var fault string
		persist(func() bool {
			w := httptest.NewRecorder()
			ask(w)
			var late bool
			fault, late = exportFault(t, row, w.Body.String())
			return !late
		})
		if fault != "" {
			t.Errorf("%s, %+v: %s", side, row, fault)
		}
	}
}

// exportFault is what is wrong with the metrics of a row, and whether a busy
// machine may be why.
func exportFault(t *testing.T, row probe, body string) (fault string, late bool) {
	t.Helper()
	p := expfmt.NewTextParser(model.UTF8Validation)
	got, err := p.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		t.Fatalf("%+v: %v in\n%s", row, err, body)
	}
	value := func(name string) float64 {
		if f := got[name]; f != nil {
			return f.Metric[0].GetGauge().GetValue()
		}
		return -1
	}
	if value("probe_success") != 1 || value("probe_ip_protocol") != 4 || value("probe_duration_seconds") <= 0 {
		return "no success in\n" + body, true
	}
	tcp := row.service != "dns" && row.service != "ntp"
	if tcp && (value("tapstack_probe_syns") != 1 || value("tapstack_probe_handshake_rtt_seconds") <= 0 || value("tapstack_probe_mss_bytes") < 500) {
		return "no handshake in\n" + body, value("tapstack_probe_syns") > 1
	}
	secure := got["probe_tls_version_info"] != nil
	if secure != (value("probe_ssl_earliest_cert_expiry") > 1e9) || (row.tls || row.start != "") && !secure {
		return "TLS in\n" + body, false
	}
	return "", false
}
