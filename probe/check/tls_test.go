package check

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"io"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// authority signs certificates of tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

// certTime is now, to tests of certificates; a bubble's time is earlier.
var certTime = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotBefore: certTime.AddDate(-1, 0, 0), NotAfter: certTime.AddDate(5, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &authority{cert, key, pool}
}

// issue makes a certificate for names that ends in so many days.
func (a *authority) issue(t *testing.T, days int, names ...string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: names[0]},
		NotBefore: certTime.AddDate(0, -1, 0), NotAfter: certTime.AddDate(0, 0, days)}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// secured speaks TLS and then f.
func secured(c tls.Certificate, f func(net.Conn)) func(net.Conn) {
	return func(raw net.Conn) {
		s := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{c}, NextProtos: []string{"h2", "http/1.1"}})
		if s.Handshake() != nil {
			raw.Close()
			return
		}
		f(s)
	}
}

func now() time.Time { return certTime }

func TestTLS(t *testing.T) {
	ca := newAuthority(t)
	good := ca.issue(t, 30, "a.example", "10.77.0.2")
	hello := func(c net.Conn) { io.WriteString(c, "220 secret\r\n"); io.Copy(io.Discard, c); c.Close() }
	for _, tc := range []struct {
		name   string
		server func(net.Conn)
		tls    TLS
		fault  string // in the certificate's report
		text   string // of the failure
		want   Verdict
	}{
		{name: "valid", server: secured(good, hello), tls: TLS{Roots: ca.pool, ALPN: []string{"http/1.1"}}, want: Open},
		{name: "by another name", server: secured(good, hello), tls: TLS{Roots: ca.pool, Name: "a.example"}, want: Open},
		{name: "wrong name", server: secured(good, hello), tls: TLS{Roots: ca.pool, Name: "b.example"}, fault: "b.example", text: "Certificate: ", want: BadTLS},
		{name: "unknown authority", server: secured(good, hello), tls: TLS{Roots: x509.NewCertPool()}, fault: "unknown authority", text: "Certificate: ", want: BadTLS},
		{name: "accepted all the same", server: secured(good, hello), tls: TLS{Roots: x509.NewCertPool(), Insecure: true}, fault: "unknown authority", want: Open},
		{name: "expired", server: secured(ca.issue(t, -1, "10.77.0.2"), hello), tls: TLS{Roots: ca.pool}, fault: "expired", text: "Certificate: ", want: BadTLS},
		{name: "ends soon", server: secured(good, hello), tls: TLS{Roots: ca.pool, Valid: 31 * 24 * time.Hour}, text: "it ends in 30 days, which is sooner than 31 days", want: BadTLS},
		{name: "ends later", server: secured(good, hello), tls: TLS{Roots: ca.pool, Valid: 29 * 24 * time.Hour}, want: Open},
		{name: "no TLS", server: hello, tls: TLS{Roots: ca.pool}, text: `the answer is not TLS: "220 s"`, want: BadTLS},
		{name: "hangs up", server: func(c net.Conn) { bufio.NewReader(c).ReadByte(); c.Close() }, tls: TLS{Roots: ca.pool}, text: "Connection closed by the peer", want: HungUp},
		{name: "silent", server: func(c net.Conn) { io.Copy(io.Discard, c); c.Close() }, tls: TLS{Roots: ca.pool}, text: "timed out", want: Silent},
		{name: "unknown protocol", server: hello, tls: TLS{Start: "gopher"}, text: "STARTTLS is not known for gopher", want: BadTLS},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, p *pair) {
				port := serve(t, p.nb, "10.77.0.2", tc.server)
				tc.tls.Time = now
				r := Check(t.Context(), p.na, Request{Host: "10.77.0.2", Port: port, TLS: &tc.tls, Banner: true, Require: true})
				if r.Verdict != tc.want || r.OK != (tc.want == Open) || !strings.Contains(r.Text, tc.text) || (r.Text == "") != r.OK {
					t.Errorf("%s: %+v", r.Verdict, r.Failure)
				}
				if b, _ := r.Banner(); r.OK && b != "220 secret" {
					t.Errorf("banner %q", b)
				}
				if !r.OK && r.Phase != PhaseTLS {
					t.Errorf("phase %s", r.Phase)
				}
				if (r.TLS != nil) != (tc.fault != "" || r.OK || tc.tls.Valid > 0) {
					t.Fatalf("report %+v", r.TLS)
				}
				if r.TLS == nil {
					return
				}
				if got := r.TLS; !strings.Contains(got.Fault, tc.fault) || (got.Fault == "") != (tc.fault == "") || got.Version != "TLS 1.3" || got.Chain != 1 ||
					got.Issuer != "CN=test authority" || len(got.Fingerprint) != 64 || got.Took < 2*delay || (len(tc.tls.ALPN) > 0) != (got.ALPN == "http/1.1") {
					t.Errorf("%+v", got)
				}
				var full struct {
					TLS struct {
						Names    []string
						NotAfter time.Time `json:"not_after"`
						Left     float64   `json:"seconds_left"`
						Valid    bool
					}
				}
				must(t, json.Unmarshal([]byte(r.FullJSON()), &full))
				if full.TLS.Valid != (tc.fault == "") || !slices.Contains(full.TLS.Names, "10.77.0.2") || full.TLS.NotAfter.Sub(certTime).Seconds() != full.TLS.Left {
					t.Errorf("%+v", full)
				}
			})
		})
	}
}

// dialogue is a server that says and hears lines: "> " what it says, "< " what
// it has to hear; and then, if it gets so far, speaks TLS.
func dialogue(cert tls.Certificate, heard *[]string, script ...string) func(net.Conn) {
	return func(c net.Conn) {
		for _, line := range script {
			if say, ok := strings.CutPrefix(line, "> "); ok {
				io.WriteString(c, say)
				continue
			}
			want := strings.TrimPrefix(line, "< ")
			b := make([]byte, len(want))
			if _, err := io.ReadFull(c, b); err != nil {
				c.Close()
				return
			}
			*heard = append(*heard, string(b))
			if string(b) != want {
				c.Close()
				return
			}
		}
		secured(cert, echo)(c)
	}
}

func TestStartTLS(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.issue(t, 30, "10.77.0.2")
	const mysql = "> \x4a\x00\x00\x00\x0a5.5.5-10.11\x00\x01\x00\x00\x00abcdefgh\x00\xfe\xff\x2d\x02\x00"
	greeting := mysql + strings.Repeat("x", 0x4a+4-len(mysql)+2)
	for _, tc := range []struct {
		start, name string
		script      []string
		text        string // of the failure; "": it works
	}{
		{"smtp", "", []string{"> 220-mail\r\n220 ready\r\n", "< EHLO tapstack.invalid\r\n", "> 250-mail\r\n250-SIZE 10\r\n250 STARTTLS\r\n", "< STARTTLS\r\n", "> 220 go\r\n"}, ""},
		{"smtp", "not offered", []string{"> 220 ready\r\n", "< EHLO tapstack.invalid\r\n", "> 250-mail\r\n250 SIZE 10\r\n", "< x"}, "STARTTLS: the server does not offer it"},
		{"smtp", "busy", []string{"> 421 busy\r\n", "< x"}, `STARTTLS: answer "421 busy"`},
		{"smtp", "endless line", []string{"> " + strings.Repeat("2", 5000), "< x"}, "STARTTLS: a line without end"},
		{"smtp", "endless answer", []string{"> " + strings.Repeat("220-more\r\n", 200), "< x"}, "STARTTLS: an answer without end"},
		{"ftp", "", []string{"> 220 ready\r\n", "< AUTH TLS\r\n", "> 234 go\r\n"}, ""},
		{"pop3", "", []string{"> +OK ready\r\n", "< STLS\r\n", "> +OK go\r\n"}, ""},
		{"pop3", "refused", []string{"> +OK ready\r\n", "< STLS\r\n", "> -ERR no\r\n", "< x"}, `STARTTLS: answer "-ERR no"`},
		{"imap", "", []string{"> * OK ready\r\n", "< a1 STARTTLS\r\n", "> * CAPABILITY IMAP4rev1\r\na1 OK go\r\n"}, ""},
		{"imap", "refused", []string{"> * OK ready\r\n", "< a1 STARTTLS\r\n", "> a1 BAD no\r\n", "< x"}, `STARTTLS: answer "a1 BAD no"`},
		{"imap", "goodbye", []string{"> * BYE\r\n", "< x"}, `STARTTLS: greeting "* BYE"`},
		{"postgres", "", []string{"< " + string(postgresSSL), "> S"}, ""},
		{"postgres", "refused", []string{"< " + string(postgresSSL), "> N", "< x"}, "STARTTLS: the server does not offer it"},
		{"mysql", "", []string{greeting, "< \x20\x00\x00\x01\x00\x8a\x00\x00\x00\x00\x00\x01\x21" + strings.Repeat("\x00", 23)}, ""},
		{"mysql", "something else", []string{"> 220 r\r\n", "< x"}, "STARTTLS: the greeting is too long"},
	} {
		t.Run(tc.start+" "+tc.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, p *pair) {
				var heard []string
				port := serve(t, p.nb, "10.77.0.2", dialogue(cert, &heard, tc.script...))
				r := Check(t.Context(), p.na, Request{Host: "10.77.0.2", Port: port, TLS: &TLS{Start: tc.start, Roots: ca.pool, Time: now},
					Payload: []byte("through"), Banner: true, Require: true})
				if r.OK != (tc.text == "") || r.Text != tc.text || r.OK && string(r.Answer) != "through" {
					t.Errorf("%+v, %q; heard %q", r.Failure, r.Answer, heard)
				}
				if !r.OK && (r.Phase != PhaseTLS || r.Verdict != BadTLS) {
					t.Errorf("%s, %s", r.Phase, r.Verdict)
				}
			})
		})
	}
}
