package exporter

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestTLS: what is told of a certificate, over HTTPS and without.
func TestTLS(t *testing.T) {
	// A bubble begins with the year 2000.
	begin := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	ends := begin.Add(30 * 24 * time.Hour)
	c := &x509.Certificate{SerialNumber: big.NewInt(255), Subject: pkix.Name{CommonName: "far"}, DNSNames: []string{"far.example"}, IsCA: true,
		BasicConstraintsValid: true, NotBefore: begin.Add(-time.Hour), NotAfter: ends}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	must(t, err)
	file := filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	modules, err := ReadModules(strings.NewReader(fmt.Sprintf(`{"modules": {
		"trusted": {"prober": "tcp", "tls": true, "tls_ca": %q, "alpn": ["h2"]},
		"soon": {"prober": "tcp", "tls": true, "tls_ca": %[1]q, "valid_days": 31},
		"web": {"service": "http", "insecure_skip_verify": true}}}`, file)))
	must(t, err)
	bubble(t, Options{Modules: modules}, func(t *testing.T, w *world) {
		w.serve(t, 443, func(raw net.Conn) {
			s := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{"h2", "http/1.1"}})
			if s.Handshake() != nil {
				return
			}
			b := make([]byte, 1000)
			if n, _ := s.Read(b); strings.HasPrefix(string(b[:n]), "HEAD / HTTP/1.0\r\nHost: far.example\r\n") {
				io.WriteString(s, "HTTP/1.1 204 No Content\r\n\r\n")
			}
		})
		expiry := float64(ends.Unix())
		w.want(t, "module=trusted&target=far.example:443", map[string]float64{"probe_success": 1, "probe_ssl_earliest_cert_expiry": expiry,
			"probe_ssl_last_chain_expiry_timestamp_seconds": expiry, `probe_tls_version_info{version="TLS 1.3"}`: 1, "tapstack_probe_certificate_valid": 1,
			`tapstack_probe_alpn_info{protocol="h2"}`: 1})
		w.want(t, "module=trusted&target=10.77.0.2:443", map[string]float64{"probe_success": 0, "probe_ssl_earliest_cert_expiry": expiry, `tapstack_probe_verdict{verdict="tls"}`: 1,
			"tapstack_probe_certificate_valid": 0}, "probe_ssl_last_chain_expiry_timestamp_seconds")
		w.want(t, "module=trusted&hostname=far.example&target=10.77.0.2:443", map[string]float64{"probe_success": 1})
		w.want(t, "module=soon&target=far.example:443", map[string]float64{"probe_success": 0, "tapstack_probe_certificate_valid": 1, `tapstack_probe_verdict{verdict="tls"}`: 1})
		w.want(t, "module=web&target="+url.QueryEscape("https://far.example/"), map[string]float64{"probe_success": 1, "probe_http_status_code": 204, "probe_http_ssl": 1,
			"probe_ssl_earliest_cert_expiry": expiry})
		w.want(t, "module=tls&target=far.example:443", map[string]float64{"probe_success": 0, "probe_ssl_earliest_cert_expiry": expiry})
		got := w.probe(t, "module=trusted&target=far.example:443")
		for k := range got {
			if strings.HasPrefix(k, "probe_ssl_last_chain_info{") && strings.Contains(k, `serialnumber="ff"`) && strings.Contains(k, `subject="CN=far"`) && strings.Contains(k, `subjectalternative="far.example"`) {
				return
			}
		}
		t.Errorf("no probe_ssl_last_chain_info: %v", got)
	})
}
