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
		w := httptest.NewRecorder()
		ask(w)
		p := expfmt.NewTextParser(model.UTF8Validation)
		got, err := p.TextToMetricFamilies(strings.NewReader(w.Body.String()))
		if err != nil {
			t.Fatalf("%s, %+v: %v in\n%s", side, row, err, w.Body)
		}
		value := func(name string) float64 {
			if f := got[name]; f != nil {
				return f.Metric[0].GetGauge().GetValue()
			}
			return -1
		}
		if value("probe_success") != 1 || value("probe_ip_protocol") != 4 || value("probe_duration_seconds") <= 0 {
			t.Errorf("%s, %+v:\n%s", side, row, w.Body)
		}
		tcp := row.service != "dns" && row.service != "ntp"
		if tcp && (value("tapstack_probe_syns") != 1 || value("tapstack_probe_handshake_rtt_seconds") <= 0 || value("tapstack_probe_mss_bytes") < 500) {
			t.Errorf("%s, %+v: no handshake in\n%s", side, row, w.Body)
		}
		secure := got["probe_tls_version_info"] != nil
		if secure != (value("probe_ssl_earliest_cert_expiry") > 1e9) || (row.tls || row.start != "") && !secure {
			t.Errorf("%s, %+v: TLS in\n%s", side, row, w.Body)
		}
	}
}
