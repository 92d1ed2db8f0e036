package check

import (
	"io"
	"net"
	"testing"
)

// TestTLSChain: the certificate that ends first may be one that only goes along;
// the chain that is valid ends with its own.
func TestTLSChain(t *testing.T) {
	ca := newAuthority(t)
	leaf, along := ca.issue(t, 30, "10.77.0.2"), ca.issue(t, 10, "other.example")
	leaf.Certificate = append(leaf.Certificate, along.Certificate...)
	bubble(t, func(t *testing.T, p *pair) {
		port := serve(t, p.nb, "10.77.0.2", secured(leaf, func(c net.Conn) { io.Copy(io.Discard, c); c.Close() }))
		for _, insecure := range []bool{false, true} {
			q := TLS{Roots: ca.pool, Time: now, Insecure: insecure}
			if insecure {
				q.Name = "wrong.example"
			}
			r := Check(t.Context(), p.na, Request{Host: "10.77.0.2", Port: port, TLS: &q}).TLS
			if r == nil || r.Chain != 2 || r.Serial != "2" || !r.Earliest.Equal(certTime.AddDate(0, 0, 10)) || r.ChainEnds.IsZero() != insecure ||
				!insecure && !r.ChainEnds.Equal(certTime.AddDate(0, 0, 30)) || !r.NotAfter.Equal(certTime.AddDate(0, 0, 30)) {
				t.Errorf("%+v", r)
			}
		}
	})
}
