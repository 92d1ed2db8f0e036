package check

// This file owns TLS: the handshake, what the certificate says, and whether it
// would do. How it is begun within other protocols is in starttls.go.

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// TLS says how to speak it.
type TLS struct {
	// Start is the protocol within which TLS is begun: one of StartTLS; "":
	// the connection begins with it.
	Start string
	// Name is the name that the certificate has to be for; "" is the host.
	Name string
	ALPN []string // protocols to offer
	// Roots are who may have signed; nil: those of the system.
	Roots *x509.CertPool
	// Insecure reports on a certificate that is not valid, but accepts it.
	Insecure bool
	// Valid fails the check when the certificate is valid for a shorter time.
	Valid time.Duration
	// Time is now; nil is time.Now.
	Time func() time.Time
}

// TLSReport is what a handshake came to.
type TLSReport struct {
	Version, Cipher, ALPN string
	Took                  time.Duration
	Subject, Issuer       string
	Names                 []string // DNS names and addresses
	NotBefore, NotAfter   time.Time
	Left                  time.Duration // until NotAfter; negative when it has passed
	Chain                 int           // certificates sent
	Fingerprint           string        // SHA-256 of the certificate
	Fault                 string        // why the certificate is not valid; "": it is
	Serial                string        // of the certificate, in hexadecimal
	// Earliest is when the first of the certificates that were sent ends, and
	// ChainEnds when the valid chain does that ends last; zero without one.
	Earliest, ChainEnds time.Time
}

// secure does a handshake over s.
func (c *check) secure(ctx context.Context, s *conn) (net.Conn, Failure) {
	q := c.q.TLS
	c.limit(ctx, s)
	if q.Start != "" {
		start, ok := starters[q.Start]
		if !ok {
			return nil, Failure{Phase: PhaseTLS, Text: "STARTTLS is not known for " + q.Start}
		}
		if err := start(s); err != nil {
			return nil, c.tlsFailure(ctx, "STARTTLS", err)
		}
	}
	begin, now := time.Now(), q.Time
	if now == nil {
		now = time.Now
	}
	client := tls.Client(s, &tls.Config{
		ServerName: cmp.Or(q.Name, withoutZone(c.q.Host)), NextProtos: q.ALPN,
		MinVersion:         tls.VersionTLS10, // it is to be reported, not refused
		InsecureSkipVerify: true,             // examined below, so that it can be reported
	})
	if err := client.HandshakeContext(ctx); err != nil {
		return nil, c.tlsFailure(ctx, "TLS handshake", err)
	}
	st := client.ConnectionState()
	r := &TLSReport{Version: tls.VersionName(st.Version), Cipher: tls.CipherSuiteName(st.CipherSuite), ALPN: st.NegotiatedProtocol, Took: time.Since(begin)}
	c.r.TLS = r
	return client, c.certificate(r, st.PeerCertificates, now())
}

// withoutZone is a host as a certificate names it.
func withoutZone(host string) string {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.WithZone("").String()
	}
	return host
}

// certificate reports on a chain and decides whether it will do.
func (c *check) certificate(r *TLSReport, chain []*x509.Certificate, now time.Time) Failure {
	q := c.q.TLS
	if len(chain) == 0 {
		return Failure{Phase: PhaseTLS, Text: "No certificate"}
	}
	leaf := chain[0]
	sum := sha256.Sum256(leaf.Raw)
	r.Subject, r.Issuer, r.NotBefore, r.NotAfter = leaf.Subject.String(), leaf.Issuer.String(), leaf.NotBefore, leaf.NotAfter
	r.Chain, r.Fingerprint, r.Left = len(chain), hex.EncodeToString(sum[:]), leaf.NotAfter.Sub(now).Round(time.Second)
	r.Names = append(r.Names, leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		r.Names = append(r.Names, ip.String())
	}
	r.Serial, r.Earliest = leaf.SerialNumber.Text(16), ends(chain)
	between := x509.NewCertPool()
	for _, x := range chain[1:] {
		between.AddCert(x)
	}
	valid, err := leaf.Verify(x509.VerifyOptions{
		DNSName: cmp.Or(q.Name, withoutZone(c.q.Host)), Roots: q.Roots, Intermediates: between, CurrentTime: now,
	})
	if err != nil {
		r.Fault = err.Error()
	}
	for _, v := range valid {
		if t := ends(v); t.After(r.ChainEnds) {
			r.ChainEnds = t
		}
	}
	switch {
	case r.Fault != "" && !q.Insecure:
		return Failure{Phase: PhaseTLS, Text: "Certificate: " + r.Fault}
	case q.Valid > 0 && r.Left < q.Valid:
		return Failure{Phase: PhaseTLS, Text: fmt.Sprintf("Certificate: it ends in %s, which is sooner than %s", days(r.Left), days(q.Valid))}
	}
	return Failure{}
}

// ends is when the first certificate of a chain does.
func ends(chain []*x509.Certificate) (t time.Time) {
	for _, x := range chain {
		if t.IsZero() || x.NotAfter.Before(t) {
			t = x.NotAfter
		}
	}
	return t
}

// days is a long time in words.
func days(d time.Duration) string {
	if d < 48*time.Hour && d > -48*time.Hour {
		return d.String()
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}

// tlsFailure tells why there is no TLS.
func (c *check) tlsFailure(ctx context.Context, what string, err error) Failure {
	f := ioFailure(PhaseTLS, c.orCancelled(ctx, err))
	if f.Errno == 0 && f.Text != textClosed && f.Text != textCancelled {
		f.Text = what + ": " + tlsText(err)
	}
	return f
}

// tlsText says of some errors more than they do.
func tlsText(err error) string {
	if e, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return fmt.Sprintf("the answer is not TLS: %q", strings.TrimSpace(string(e.RecordHeader[:])))
	}
	return err.Error()
}
